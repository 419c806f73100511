"""The width of the screen that a command is read on, on this machine or through a cluster's job server."""

import os
import shutil
import sys

SCREEN = "DYNAMOS_COLUMNS"  # environment variable: columns of the screen on which a command on a cluster is read


def width() -> int | None:
    """Columns of the screen; None where nothing is to be cut."""
    if sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return int(os.environ[SCREEN]) if SCREEN in os.environ else None
