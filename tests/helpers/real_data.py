"""The folder of real data, for tests that need it."""

import os
from pathlib import Path

REAL = Path(os.environ.get("DYNAMOS_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
