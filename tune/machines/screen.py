"""The width of the screen that shows a command's output, here or through a cluster's job server."""

import os
import shutil
import sys

# environment variable: columns of the screen that shows a cluster's output
SCREEN = "DYNAMOS_COLUMNS"


def width() -> int | None:
    """Number of columns of the screen; None if the output has no screen."""
    if sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return int(os.environ[SCREEN]) if SCREEN in os.environ else None
