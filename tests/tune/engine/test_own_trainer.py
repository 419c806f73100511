"""Sweeps of a user's own trainer, as a user runs them."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
import yaml

from dynamos.config import TrainConfig
from dynamos.runs import build_run
from dynamos.streams import load_stream
from results.choice import train_config
from tests.helpers.crashes import Watched
from tests.helpers.processes import Session
from tests.helpers.small import facts
from tests.helpers.sweeps import command, run, runs_of

EXAMPLES = Path(__file__).parents[3] / "examples"
CPU = torch.device("cpu")


@pytest.mark.slow
def test_a_plain_loop_is_swept_pruned_killed_resumed_confirmed_and_exported(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text((EXAMPLES / "own_trainer.py").read_text())
    (tmp_path / "space.yaml").write_text((EXAMPLES / "trainer_space.yaml").read_text())
    flags = [
        *["run", "--trainer", "mine.py:Loop", "--space", "space.yaml", "--name", "mine"],
        *["--trials", "8", "--seeds", "2", "--pruner", "halving", "--grace-tasks", "1"],
        *["--set", "n_epochs=15", "lr=0.1", "minibatch_size=10"],
    ]
    watched = Watched(tmp_path / "runs", "mine")
    with Session(command(*flags), tmp_path) as session:
        session.until(lambda: watched.there and bool(watched.running(1)))
        session.kill()
    resumed = run("resume", "mine", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    trials = watched.ledger.trials()
    assert len(trials) == 8 and {t.state for t in trials} == {"COMPLETE", "PRUNED"}
    assert max(t.attempt for t in trials) > 1
    # a killed run ends as one that was not
    stream = load_stream(watched.ledger.config.base, CPU)
    for trial in [t for t in trials if t.state == "COMPLETE"]:
        for seed, results in trial.results.items():
            config = train_config(watched.ledger.config, trial).replace(seed=seed)
            alone = list(build_run(config, stream))
            assert [facts(r) for r in results] == [facts(r) for r in alone], trial.number
    confirmed = run("confirm", "mine", "--seeds", "2", "--top", "1", cwd=tmp_path)
    assert confirmed.returncode == 0 and "test_class_il" in confirmed.stdout, confirmed.stderr
    best = yaml.safe_load((tmp_path / "runs" / "mine" / "best_config.yaml").read_text())
    assert TrainConfig.from_dict(best["config"]).method.keys() == {"hidden", "momentum"}
    again = [sys.executable, "-m", "dynamos.cli", "--config", "runs/mine/best_config.yaml"]
    assert subprocess.run(again, cwd=tmp_path, capture_output=True, timeout=100).returncode == 0
    report = run("report", "mine", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    html = (tmp_path / "runs" / "mine" / "report.html").read_text()
    assert "Loop on seq-digits" in html and "method.hidden" in html
    _, logged = runs_of(f"sqlite:///{tmp_path}/runs/mlflow.db")
    assert sum("val_class_il" in r.data.metrics for r in logged.values()) == 8
    register = run("export", "mine", "--register", "own@best", cwd=tmp_path)
    assert register.returncode == 2 and "export it with your own code" in register.stderr


@pytest.fixture
def avalanche(tmp_path: Path) -> Path:
    """The Python of an environment of its own that has Avalanche and this one's packages."""

    def imports(python: Path, name: str) -> str:
        """The last line of the error of an import; "" without one."""
        told = subprocess.run([python, "-c", f"import {name}"], capture_output=True, text=True)
        return "" if told.returncode == 0 else told.stderr.strip().splitlines()[-1]

    if fault := imports(Path(sys.executable), "torchvision"):
        pytest.skip(f"Avalanche needs torchvision, which fails to import here: {fault}")
    place = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    python = place / "bin" / "python"
    (there,) = (place / "lib").glob("python*/site-packages")
    (there / "base.pth").write_text(sysconfig.get_paths()["purelib"])
    install = [str(python), "-m", "pip", "install", "-q", "avalanche-lib==0.6.0"]
    installed = subprocess.run(install, capture_output=True, text=True)
    if installed.returncode != 0:
        pytest.skip(f"Avalanche cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    if fault := imports(python, "avalanche"):
        pytest.skip(f"Avalanche fails to import: {fault}")
    return python


@pytest.mark.slow
def test_a_strategy_of_avalanche_is_checked_and_swept(avalanche: Path, tmp_path: Path) -> None:
    trainer = f"{EXAMPLES / 'avalanche_trainer.py'}:Replaying"
    path = {"PYTHONPATH": str(EXAMPLES.parent), "PYTHONWARNINGS": "ignore"}

    def done(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [avalanche, "-m", *arguments],
            cwd=tmp_path,
            env=os.environ | path,
            capture_output=True,
            text=True,
            timeout=600,
        )

    checked = done("dynamos.cli", "check", trainer)
    assert checked.returncode == 0 and checked.stdout.count("ok: ") == 4, checked.stdout
    swept = done(
        *["tune.cli", "run", "--trainer", trainer, "--trials", "3", "--name", "mine"],
        *["--space", str(EXAMPLES / "trainer_space.yaml")],
        *["--set", "max_train_images_per_task=100"],
    )
    assert swept.returncode == 0, swept.stderr
    trials = Watched(tmp_path / "runs", "mine").ledger.trials()
    assert [t.state for t in trials] == ["COMPLETE"] * 3


@pytest.mark.slow
def test_a_space_of_fields_without_effect_is_refused(tmp_path: Path) -> None:
    trainer = f"{EXAMPLES / 'own_trainer.py'}:Loop"
    refused = run("run", "--trainer", trainer, "--space", "plain", cwd=tmp_path)
    assert refused.returncode == 2
    assert "the space plain varies average_decay, which has no effect" in refused.stderr
    method = f"{EXAMPLES / 'own_method.py'}:MeanER"
    wrong = run("run", "--trainer", method, "--space", "plain", cwd=tmp_path)
    assert wrong.returncode == 2 and "it is no class with `__iter__`" in wrong.stderr
