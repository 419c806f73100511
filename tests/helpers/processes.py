"""Commands as real processes that a test watches and kills."""

from benchmarks.kills.processes import PATIENCE_SECONDS as PATIENCE_SECONDS
from benchmarks.kills.processes import POLL_SECONDS as POLL_SECONDS
from benchmarks.kills.processes import Driver as Driver
from benchmarks.kills.processes import Ended as Ended
from benchmarks.kills.processes import Session as Session
from benchmarks.kills.processes import send as send
from benchmarks.kills.processes import sweep as sweep
from benchmarks.kills.processes import wait_for as wait_for
