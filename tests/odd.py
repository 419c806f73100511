"""Unusual surroundings that no test may depend on. `python -m tests.odd FOLDER COMMAND...` fills a
storage folder with unusual sweeps and runs a command with environment variables that our libraries
and commands read."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from results.ledger.ledger import Ledger
from tests.helpers.ledgers import config, swept

VARIABLES = {
    "CUDA_VISIBLE_DEVICES": "7",
    "DYNAMOS_TEST_IMAGES": "locked",
    "DYNAMOS_TOKEN": "of nobody's service",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
    "OMP_NUM_THREADS": "3",
    "OPTUNA_STORAGE": "sqlite:////nowhere/at/all.db",
    "RAY_ADDRESS": "127.0.0.1:9",
    "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:9",
    "RAY_AUTH_TOKEN_PATH": "/nowhere",
}


def make_odd_sweeps(storage: Path) -> None:
    """Make a finished sweep, a sweep with the default name that has not begun, damaged sweeps, and
    folders that are not sweeps."""
    swept(storage, {"lr": 0.1}, values=(60, 70))
    shutil.copytree(storage / "s", storage / "of-another-name")
    for name in (
        "seq-digits-core-7",
        "without-ledger",
        "torn-ledger",
        "torn-configuration",
        "no-configuration",
    ):
        Ledger.create(storage, config(name), {})
    (storage / "without-ledger" / "ledger.db").unlink()
    (storage / "torn-ledger" / "ledger.db").write_bytes(b"SQLite format 3\0 and no more")
    (storage / "torn-configuration" / "sweep.yaml").write_text("config: {name: [\n")
    (storage / "no-configuration" / "sweep.yaml").unlink()
    (storage / "no-sweep" / "trials").mkdir(parents=True)
    (storage / "seq-digits-averaged-1").touch()
    (storage / "mlflow.db").write_text("no database")
    (storage / "away").symlink_to(storage / "nowhere")


if __name__ == "__main__":
    make_odd_sweeps(Path(sys.argv[1]))
    sys.exit(subprocess.run(sys.argv[2:], env=os.environ | VARIABLES).returncode)
