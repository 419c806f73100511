"""Names: of sweeps, and those by which trials and their ledger know things of each other. Every worker imports it."""

import re
import unicodedata
from collections.abc import Iterable

from dynamos.errors import UserError

CHANNEL_USE = "channel_use.npy"  # file of a seed that saw every task: Trainer.channel_use
STOPPED = "stopped on request"  # the reason of a trial that somebody stopped
STOP_FILE = "stop"  # in a trial's folder: asks the trial to stop
NON_FINITE = "non-finite: "  # what the reason of a trial begins with that diverged

LONGEST = 120  # characters of a sweep's name
PATTERN = f"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST - 1}}}$"  # of a sweep's name
RULE = (f"a sweep's name has 1 to {LONGEST} letters (a to z, A to Z), digits, '.', '_' and '-', and begins with a "
        "letter or a digit")
# What else lies in a storage folder: MLflow's store, pages of comparisons, single runs.
_RESERVED = re.compile(r"mlflow\.db(-wal|-shm|-journal)?|mlartifacts|mlruns|compare-.*\.html|train", re.IGNORECASE)


def comparison_page(sweeps: Iterable[str]) -> str:
    """The file in a storage folder that shows sweeps side by side; no name of a file is longer than 255 bytes."""
    return f"compare-{'-'.join(sweeps)}"[:200] + ".html"


def is_name(text: str) -> bool:
    """Whether a sweep may bear a text as its name; a new one may not have that of something else (`check_name`)."""
    return re.fullmatch(PATTERN, text) is not None


def check_name(name: str) -> str:
    """The name, where a new sweep may have it; else UserError."""
    if not is_name(name):
        raise UserError(f"{name!r}: {RULE}; for instance {allowed_name(name)!r}.")
    if _RESERVED.fullmatch(name):
        raise UserError(f"{name!r}: a storage folder keeps this name for something else; for instance "
                        f"{allowed_name(name)!r} is allowed.")
    return name


def allowed_name(text: str, end: str = "") -> str:
    """The allowed name that is most like a text, with an end such as "-1", for which a long one makes room."""
    if is_name(text + end) and not _RESERVED.fullmatch(text + end):
        return text + end
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).lstrip("._-")[:LONGEST - len(end)].rstrip("._-") + end
    if is_name(name) and not _RESERVED.fullmatch(name):
        return name
    return f"sweep-{name.lstrip('-')}".rstrip("-")[:LONGEST]
