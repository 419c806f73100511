"""Sweeps of the user's own images and methods, as a user runs them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_digits

from tests.helpers.sweeps import runs_of
from tune.cli.main import main

SMALL = ["nf=2", "hidden_dim_ratio=4", "n_epochs=1", "max_train_images_per_task=60"]


def sweep(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command that trains, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tune.cli", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Give a command to this process, which must refuse it in one line; return the line."""
    monkeypatch.chdir(tmp_path)

    def line(*words: str) -> str:
        assert main(words) == 2, words
        said = capsys.readouterr().err
        assert len(said.strip().splitlines()) == 1, said
        return said

    return line


@pytest.mark.slow
def test_a_file_of_arrays_is_swept_confirmed_moved_and_loaded(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    digits = load_digits()
    images = np.stack([(digits.images / 16).astype(np.float32)] * 3, -1)
    np.savez(tmp_path / "images.npz", images=images, labels=digits.target)
    started = sweep(
        tmp_path,
        *["run", "--dataset", "arrays", "--data-path", "images.npz", "--trials", "2"],
        *["--set", *SMALL, "--name", "mine"],
    )
    assert started.returncode == 0, started.stderr
    record = yaml.safe_load((tmp_path / "runs" / "mine" / "sweep.yaml").read_text())
    assert record["base"]["n_tasks"] == 5
    assert record["record"]["test_images"] == "a fixed stratified fifth of all images"
    (tmp_path / "images.npz").rename(tmp_path / "moved.npz")
    assert "no file" in refused("extend", "mine", "--trials", "+1")
    # reports need no images
    assert main(["report", "mine"]) == 0
    found = sweep(tmp_path, "extend", "mine", "--trials", "+1", "--data-path", "moved.npz")
    assert found.returncode == 0, found.stderr
    other = tmp_path / "other.npz"
    np.savez(other, images=images[::-1], labels=digits.target[::-1])
    said = refused("extend", "mine", "--trials", "+1", "--data-path", "other.npz")
    assert "differ from those" in said
    confirm = ["confirm", "mine", "--seeds", "2", "--top", "1", "--final"]
    confirmed = sweep(tmp_path, *confirm, "--data-path", "moved.npz")
    assert confirmed.returncode == 0, confirmed.stderr
    assert "360 images" in confirmed.stdout
    registered = sweep(tmp_path, "export", "mine", "--register", "own@best")
    assert registered.returncode == 0, registered.stderr
    load = (
        "import mlflow, numpy as np; mlflow.set_tracking_uri('sqlite:///runs/mlflow.db'); "
        "model = mlflow.pyfunc.load_model('models:/own/1'); "
        "out = model.predict(np.zeros((2, 3, 8, 8), np.uint8)); print(len(out))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", load], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert loaded.returncode == 0 and loaded.stdout.split()[-1] == "2", loaded.stderr


EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.slow
def test_a_method_of_ones_own_is_swept_and_confirmed(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "mine.py").write_text((EXAMPLES / "own_method.py").read_text())
    (tmp_path / "space.yaml").write_text((EXAMPLES / "space.yaml").read_text())
    small = ["nf=4", "max_train_images_per_task=60"]
    started = sweep(
        tmp_path,
        *["run", "--space", "space.yaml", "--trials", "3", "--name", "mine"],
        *["--set", "model=mine.py:MeanER", *small, "--seeds", "2"],
    )
    assert started.returncode == 0, started.stderr
    assert "3 done" in started.stderr
    record = yaml.safe_load((tmp_path / "runs" / "mine" / "sweep.yaml").read_text())
    assert record["base"]["model"] == f"{tmp_path / 'mine.py'}:MeanER"
    assert record["base"]["method.weight"] == 0.15
    assert record["space"]["parameters"]["method.weight"]["high"] == 1.0
    trials = pd.read_csv(tmp_path / "runs" / "mine" / "trials.csv")["method.weight"]
    assert trials[0] == 0.15 and trials.nunique() == 3 and trials.between(0.01, 1).all()
    best = yaml.safe_load((tmp_path / "runs" / "mine" / "best_config.yaml").read_text())
    assert best["config"]["method.weight"] in [*trials]
    assert f"method.weight={best['config']['method.weight']}" in best["commands"]["dynamos"]
    again = [sys.executable, "-m", "dynamos.cli", "--config", "runs/mine/best_config.yaml"]
    assert subprocess.run(again, cwd=tmp_path, capture_output=True, timeout=100).returncode == 0
    _, runs = runs_of(f"sqlite:///{tmp_path}/runs/mlflow.db")
    logged = [run.data.params.get("method.weight") for run in runs.values()]
    assert {float(value) for value in logged if value is not None} == {*trials}
    said = refused("run", "--set", "model=mine.py:MeanER", "method.wieght=2", "--space=plain")
    assert "Did you mean 'method.weight'?" in said
    (tmp_path / "mine.py").write_text((EXAMPLES / "own_method.py").read_text() + "\n# new")
    said = refused("extend", "mine", "--trials", "+1")
    assert "has changed since the sweep started" in said
    (tmp_path / "mine.py").unlink()
    # reports need no file of the method
    assert main(["report", "mine"]) == 0
    assert "method.weight" in (tmp_path / "runs" / "mine" / "report.html").read_text()
    assert "no file" in refused("extend", "mine", "--trials", "+1")
    (tmp_path / "mine.py").write_text((EXAMPLES / "own_method.py").read_text())
    confirmed = sweep(tmp_path, "confirm", "mine", "--seeds", "2", "--top", "1")
    assert confirmed.returncode == 0, confirmed.stderr
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name")
    said = refused("run", "--set", "model=broken.py:Mine", "--space", "plain")
    assert "broken.py fails to import" in said


@pytest.mark.slow
def test_a_stream_of_ones_own_is_swept_extended_and_confirmed(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    source, mine = (EXAMPLES / "own_stream.py").read_text(), tmp_path / "mine.py"
    mine.write_text(source)
    run = ["run", "--dataset", "mine.py:dimmed", "--trials", "2", "--set", *SMALL]
    said = refused(*run, "--objective", "val_task_il")
    assert "has the same classes in every task" in said
    started = sweep(tmp_path, *run, "--pruner", "none")
    assert started.returncode == 0, started.stderr
    name = "dimmed-averaged-1"
    record = yaml.safe_load((tmp_path / "runs" / name / "sweep.yaml").read_text())
    code = f"{mine}:dimmed"
    assert record["base"]["dataset"] == code and record["base"]["n_tasks"] == 3
    assert [*record["record"]["code_hashes"]] == [code] and record["record"]["classes"] == 10
    assert "test_images" not in record["record"]
    mine.write_text(source.replace("0.6", "0.5"))
    said = refused("extend", name, "--trials", "+1")
    assert "has changed since the sweep started" in said
    mine.unlink()
    # reports need no file of the stream
    assert main(["report", name]) == 0
    mine.write_text(source)
    extended = sweep(tmp_path, "extend", name, "--trials", "+1")
    assert extended.returncode == 0 and "3 done" in extended.stderr, extended.stderr
    confirmed = sweep(tmp_path, "confirm", name, "--seeds", "2", "--top", "1", "--final")
    assert confirmed.returncode == 0, confirmed.stderr
    assert f"{360 * 3} images" in confirmed.stdout


def test_the_example_of_a_stream_is_short() -> None:
    assert len((EXAMPLES / "own_stream.py").read_text().splitlines()) < 50


@pytest.mark.slow
def test_a_network_of_ones_own_is_swept_confirmed_and_registered(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    mine, source = tmp_path / "mine.py", (EXAMPLES / "own_network.py").read_text()
    mine.write_text(source)
    more = ["nf=4", "max_train_images_per_task=60", "network=mine.py:mlp"]
    run = ["run", "--space", "plain", "--trials", "2", "--name", "mine"]
    assert "needs a network with gates" in refused("run", "--set", *more)
    started = sweep(tmp_path, *run, "--set", *more, "model=er")
    assert started.returncode == 0, started.stderr
    record = yaml.safe_load((tmp_path / "runs" / "mine" / "sweep.yaml").read_text())
    assert record["base"]["network"] == f"{mine}:mlp" == next(iter(record["record"]["code_hashes"]))
    mine.write_text(source + "# new")
    said = refused("extend", "mine", "--trials", "+1")
    assert "has changed since the sweep started" in said
    mine.write_text(source)
    confirmed = sweep(tmp_path, "confirm", "mine", "--seeds", "2", "--top", "1")
    assert confirmed.returncode == 0, confirmed.stderr
    registered = sweep(tmp_path, "export", "mine", "--register", "own@best")
    assert registered.returncode == 0, registered.stderr
