"""Real sweeps for tests, by the command line in a separate process, with small networks on the
embedded digits."""

import subprocess
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from benchmarks.kills.processes import command as command
from tune.tracking.mirror import TAG

SMALL = [
    "nf=4",
    "hidden_dim_ratio=4",
    "max_train_images_per_task=60",
    "n_epochs=1",
    "n_tasks=3",
    "warmup_steps=2",
]


def run(*arguments: str, cwd: Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run `dynamos-sweep` to its end, from a folder outside the project."""
    return subprocess.run(
        command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=timeout
    )


def runs_of(uri: str) -> tuple[MlflowClient, dict[str, Run]]:
    """Return (client, runs by tag) of an MLflow store or server; assert that no two runs have the
    same tag."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("dynamos")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    tags = [r.data.tags[TAG] for r in found]
    assert len(tags) == len(set(tags)), "one run each"
    return client, dict(zip(tags, found, strict=True))
