"""A sweep that is read back from MLflow compares like the sweep in its ledger."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from dynamos.config import TrainConfig, preset
from dynamos.errors import RunError, UserError
from results.analysis.comparison import compared, comparison_rows
from results.analysis.sampling_error import IMAGES
from results.definition.objectives import Constraint, Objective
from results.ledger.ledger import Ledger
from results.sweep import Sweep
from tests.helpers.ledgers import begun, config, driven, result
from tests.helpers.sweeps import runs_of
from tune.cli.main import main
from tune.tracking.mirror import SWEEP_TAG, TAG, Mirror
from tune.tracking.reader import served_sweep


def mirrored(
    folder: Path, name: str, uri: str, *values: tuple[float, float], seeds: int = 2
) -> Sweep:
    """A mirrored sweep on two tasks, whose second trial was pruned, as its ledger has it."""
    made = config(
        name, seeds=seeds, sampler="random", constraints=(Constraint.parse("keep_fraction<=0.5"),)
    )
    with driven(
        Ledger.create(folder, made, {"data_hash": "a", "validation_hash": "b", IMAGES: [24, 30]})
    ) as ledger:
        for value in values:
            number = begun(ledger).number
            for seed, final in zip(made.training_seeds, value, strict=False):
                for task in range(1 if number == 1 else 2):
                    kept = 0.4 if number != 2 else 0.6
                    accuracy = final + 10 * (1 - task)
                    told = result(
                        task,
                        2,
                        val_class_il=accuracy,
                        class_il_row=[final] * 2,
                        keep_fraction=kept,
                        keep_per_gate=[kept] * 4,
                    )
                    ledger.add_result(number, 1, seed, told)
            ledger.finish(
                number, "PRUNED" if number == 1 else "COMPLETE", "because" if number == 1 else None
            )
        Mirror(ledger, uri).sync()
    return Sweep.of(Ledger.open(folder, name))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Sweep]:
    """(storage, MLflow store, sweep `far`)."""
    folder = tmp_path_factory.mktemp("served")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mirrored(folder / "older", "far", uri, (10, 10), seeds=2)
    return folder, uri, mirrored(folder, "far", uri, (70, 72), (80, 80), (90, 91), (75, 77))


@pytest.mark.parametrize("seeds", [1, 2])
def test_it_compares_as_its_ledger_does(
    place: tuple[Path, str, Sweep], tmp_path: Path, seeds: int
) -> None:
    _, uri, sweep = place
    name = "far"
    if seeds == 1:
        sweep, name = mirrored(tmp_path, "alone", uri, (70, 0), (80, 0), (90, 0), seeds=1), "alone"
    read = served_sweep(uri, name)
    assert (read.config, read.record) == (sweep.config, sweep.record), "the newest of its name"
    assert comparison_rows(compared([sweep, sweep])) == comparison_rows(compared([read, read])), (
        "of four trials the third breaks a bound"
    )
    for one, other in zip(read.records, sweep.records, strict=True):
        for name in (
            "number",
            "state",
            "source",
            "config",
            "attempt",
            "reason",
            "value",
            "feasible",
        ):
            assert getattr(one, name) == getattr(other, name), name
        assert one.cpu_seconds == pytest.approx(other.cpu_seconds) and one.seconds == pytest.approx(
            other.seconds
        )
        assert one.by_seed("val_class_il") == other.by_seed("val_class_il")
        for seed, results in other.results.items():
            known = dataclasses.replace(results[-1], keep_per_task=())
            assert one.results[seed] == [known], "all but what MLflow does not have"
    assert (
        "54 images, standard error "
        in dict(comparison_rows(compared([read, read]))[1])["measured on"][0]
    )


def test_the_command_finds_what_is_not_here(
    place: tuple[Path, str, Sweep], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, uri, _ = place
    mirrored(tmp_path, "near", f"sqlite:///{tmp_path}/own.db", (60, 61), (0, 0))
    where = ["--storage", str(tmp_path), "--tracking-uri", uri]
    assert main(["compare", "near", "far", *where, "--page", str(tmp_path / "p.html")]) == 0
    said = capsys.readouterr().out
    assert "60.50 ± 0.71" in said and "76.00 ± 1.41" in said and (tmp_path / "p.html").exists()
    assert main(["compare", "near", "fra", *where]) == 2
    assert "unknown sweep 'fra'. Did you mean 'far'?" in capsys.readouterr().err


def test_incomplete_runs_are_skipped_or_named(
    place: tuple[Path, str, Sweep], tmp_path: Path
) -> None:
    _, uri, sweep = place
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("dynamos")
    assert experiment is not None
    client.create_run(experiment.experiment_id, tags={TAG: "far/4", SWEEP_TAG: sweep.record["id"]})
    assert [t.number for t in served_sweep(uri, "far").records] == [0, 1, 2, 3], (
        "a run made just now"
    )
    client.create_run(experiment.experiment_id, tags={TAG: "begun", "protocol": "val-all-seen"})
    with pytest.raises(UserError, match="'begun' at .* has no sweep.yaml yet"):
        served_sweep(uri, "begun")
    with pytest.raises(UserError, match="unknown sweep"):
        served_sweep(uri, "o'x")


def test_a_sweep_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="MLflow at http://127.0.0.1:9 cannot be read"):
        served_sweep("http://127.0.0.1:9", "far")
    empty = f"sqlite:///{tmp_path / 'empty.db'}"
    with pytest.raises(UserError, match="it has no experiment 'dynamos'"):
        served_sweep(empty, "far")


def test_a_sweep_that_chose_on_test_images_says_so_on_its_run(tmp_path: Path) -> None:
    base = TrainConfig(**preset("seq-digits", 200))
    made = config("t", base=base, protocol="test", objectives=(Objective.parse("test_class_il"),))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for protocol, sweep in (("test", made), ("val-all-seen", config("v"))):
        with driven(Ledger.create(tmp_path, sweep, {})) as ledger:
            Mirror(ledger, uri).sync()
        run = runs_of(uri)[1][sweep.name]
        assert run.data.tags["protocol"] == protocol
        assert run.data.tags.get("warning", "").startswith("NOT PUBLISHABLE") == (
            protocol == "test"
        )


def test_a_new_store_is_made_without_a_word(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from results.ledger.ledger import Ledger; "
        "from tune.tracking.mirror import Mirror; folder = Path(sys.argv[1]); "
        "Mirror(Ledger.open(folder, 'quiet'), f'sqlite:///{folder}/mlflow.db').sync()"
    )
    Ledger.create(tmp_path, config("quiet"), {})
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout + done.stderr == ""
