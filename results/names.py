"""Names of sweeps, and of files and reasons that trials and their ledger share.

Every worker imports this module.
"""

import re
import unicodedata
from collections.abc import Iterable

from dynamos.errors import UserError

CHANNEL_USE = "channel_use.npy"  # file of a seed that saw every task: Trainer.channel_use
STOPPED = "stopped on request"  # reason of a trial that a user stopped
STOP_FILE = "stop"  # in a trial's folder: asks the trial to stop
OUTSIDE = "outside the space"  # reason of a COMPLETE trial that a changed space excludes
NON_FINITE = "non-finite: "  # beginning of the reason of a diverged trial
IMPORTED = "imported:"  # beginning of the source of a trial that another sweep ran
# beginnings of the source of a further run of a trial's configuration, in the race in the latter
REPLICATE, RACE = "replicate:", "race:"
RERUN = "rerun:"  # beginning of the source of a trial that runs another trial of the sweep again
ENDED = ("COMPLETE", "PRUNED", "FAIL")  # states of a trial that has ended

LONGEST = 120  # characters of a sweep's name
PATTERN = f"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST - 1}}}$"  # of a sweep's name
RULE = (
    f"a sweep's name has 1 to {LONGEST} letters (a to z, A to Z), digits, '.', '_' and '-', and "
    "begins with a letter or a digit"
)
# Other content of a storage folder: MLflow's store, pages of comparisons, single runs.
_RESERVED = re.compile(
    r"mlflow\.db(-wal|-shm|-journal)?|mlartifacts|mlruns|compare-.*\.html|train", re.IGNORECASE
)


def comparison_page(sweeps: Iterable[str]) -> str:
    """Name of the comparison page of sweeps in a storage folder, cut to stay under 255 bytes."""
    return f"compare-{'-'.join(sweeps)}"[:200] + ".html"


def is_name(text: str) -> bool:
    """True if a text has the form of a sweep's name; `check_name` also refuses reserved names."""
    return re.fullmatch(PATTERN, text) is not None


def check_name(name: str) -> str:
    """Return the name if a new sweep may have it; else UserError."""
    if not is_name(name):
        raise UserError(f"{name!r}: {RULE}; for instance {allowed_name(name)!r}.")
    if _RESERVED.fullmatch(name):
        raise UserError(
            f"{name!r}: this name is reserved in a storage folder; for instance "
            f"{allowed_name(name)!r} is allowed."
        )
    return name


def allowed_name(text: str, end: str = "") -> str:
    """Return an allowed name similar to a text, with an end such as "-1".

    A long name is cut to make room for the end.
    """
    if is_name(text + end) and not _RESERVED.fullmatch(text + end):
        return text + end
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = (
        re.sub(r"[^A-Za-z0-9._-]+", "-", plain).lstrip("._-")[: LONGEST - len(end)].rstrip("._-")
        + end
    )
    if is_name(name) and not _RESERVED.fullmatch(name):
        return name
    return f"sweep-{name.lstrip('-')}".rstrip("-")[:LONGEST]
