"""A sweep's choice, confirmed on test images and registered, in ledgers filled by hand and in real
runs."""

import dataclasses
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.artifacts import list_artifacts
from mlflow.cli import gc
from mlflow.exceptions import MlflowException

from dynamos import checkpoints
from dynamos.config import TrainConfig, preset
from dynamos.errors import UserError
from dynamos.network import ResNet, build_network
from dynamos.trainer import Trainer
from results.analysis.confirmation import trained
from results.analysis.power import plan
from results.choice import Choice, reported_config, train_config
from results.definition.objectives import Objective
from results.definition.sweep_config import SweepConfig
from results.ledger.ledger import Ledger
from results.sweep import Sweep
from search_spaces.space import read_space
from tests.helpers.data_files import write_mnist
from tests.helpers.ledgers import complete, config, driven, report, result
from tests.helpers.small import together
from tests.helpers.sweeps import SMALL, run, runs_of
from tune.cli.main import main
from tune.engine.retraining import _config, confirmation
from tune.machines.probe import data_record
from tune.tracking.registry import CODE, _saved, parse, register

SWEEP = [
    "--name",
    "s",
    "--storage",
    "runs",
    "--trials",
    "3",
    "--sampler",
    "random",
    "--set",
    *SMALL,
]


def created(
    storage: Path, config: SweepConfig, more: dict[str, Any], address: str | None
) -> Ledger:
    """Create a sweep as create_sweep does, without the slow checks of machine and images."""
    return Ledger.create(storage, config, more)


@pytest.fixture
def storage(tmp_path: Path, confirmed: Path) -> Path:
    """A separate copy of the storage folder with the sweep `s` and its confirmation."""
    return Path(shutil.copytree(confirmed, tmp_path / "runs"))


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trials, two of them confirmed with two seeds. The first one is better than the
    baseline, trial 0."""
    storage = tmp_path_factory.mktemp("confirm") / "runs"
    with driven(Ledger.create(storage, config(sampler="random"), {})) as ledger:
        for value in (60, 80, 70):
            complete(ledger, 100, value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tune.engine.retraining.create_sweep", created)
        there = confirmation(ledger, 2, 2, Choice(), None, {})
    with driven(there):
        for value in (61, 77, 79):
            number = there.ask().number
            for seed in there.config.training_seeds:
                there.add_result(number, 1, seed, result(test_class_il=float(value + seed)))
            there.finish(number, "COMPLETE")
    return storage


def test_seeds_are_fresh_the_baseline_comes_first_and_the_choice_by_rank(storage: Path) -> None:
    ledger, there = (Ledger.open(storage, name) for name in ("s", "s-confirm-1"))
    assert there.config.training_seeds == (43, 44), "the sweep had 42"
    assert there.record["chosen"] == {"1": 1, "2": 2}
    for number in (1, 2):
        wanted = reported_config(ledger.config, ledger.trials()[number]).replace(
            evaluate_on="test", seed=43
        )
        assert train_config(there.config, there.trials()[number]) == wanted
    assert there.config.base == ledger.config.base.replace(evaluate_on="test", seed=43), "trial 0"


def test_it_says_what_it_found_and_each_look_is_counted(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["confirm", "s", "--storage", str(storage), "--seeds", "2", "--top", "2"]
    assert main(arguments) == 0, "the same one, and nothing to train"
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "2 fresh seeds each" in said and "the baseline is trial 0 of the sweep, the preset" in said
    )
    assert (
        "Not confirmed on test images: trial 1, which the sweep chose, is better than the baseline "
        "by 16.00" in said
    )
    assert "All 2 seeds have the same difference, so no test is possible." in said
    assert "Trial 2 tested better than the choice" in said
    assert "P(improvement) │ 1.00 │ 1.00 │" in said and "0.33 to 1.00" in said
    assert "Test images were used in 1 confirmation of this sweep." in said
    for command in (["show", "s"], ["list"]):
        assert main([*command, "--storage", str(storage)]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert (
            "Not confirmed on test images: trial 1" if command[0] == "show" else "not confirmed"
        ) in shown
    assert main(["report", "s", "--storage", str(storage)]) == 0
    page = (storage / "s" / "report.html").read_text()
    assert '<p class="lead">Not confirmed on test images: trial 1' in page
    ledger = Ledger.open(storage, "s")
    assert ledger.looks["s-confirm-1"]["seeds"] == [43, 44] and list(ledger.looks) == [
        "s-confirm-1"
    ]
    table = pd.read_csv(str(ledger.folder / "confirm.csv")).set_index("configuration")
    assert table.loc["trial 1", "test_class_il"] == 77 + 43.5 and table.loc["trial 1", "n"] == 2


def test_another_confirmation_has_fresh_seeds_again(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.engine.retraining.create_sweep", created)
    ledger = Ledger.open(storage, "s")
    there = confirmation(ledger, 1, 1, Choice(), None, {})
    assert there.config.name == "s-confirm-2" and there.config.training_seeds == (45,)
    assert list(ledger.looks) == ["s-confirm-1", "s-confirm-2"]


def test_a_confirmation_begins_with_its_plan_if_the_spread_over_seeds_is_known(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.engine.retraining.create_sweep", created)
    assert Ledger.open(storage, "s-confirm-1").remarks == []  # one seed per trial, three trials
    with driven(Ledger.create(tmp_path, config(seeds=2), {})) as ledger:
        for value in (60.0, 80.0):
            asked = ledger.ask()
            for seed in (42, 43):
                ledger.add_result(asked.number, 1, seed, result(val_class_il=value + seed))
            ledger.finish(asked.number, "COMPLETE")
    there = confirmation(ledger, 5, 1, Choice(), None, {})
    assert there.remarks == [plan(Sweep.of(ledger), 5, 0.025)], "the first look's"
    assert "5 seeds find a difference of " in there.remarks[0]
    final = confirmation(ledger, 5, 1, Choice(), None, {}, final=True)
    again = (
        "Test images were used in 1 confirmation of this sweep before. A new confirmation may err "
        "with a probability of 5 % again, whatever the others found. `extend` adds seeds to the "
        "latest one within its own 5 %."
    )
    assert final.config.name == "s-confirm-2"
    assert final.remarks == [plan(Sweep.of(ledger), 5, 0.05), again]
    later = confirmation(ledger, 7, 1, Choice(), None, {}).remarks[-1]
    assert "in 2 confirmations" in later and "extend" not in later, "the latest is final"


def test_a_baseline_is_the_sweeps_own_trial_0_or_what_it_has_otherwise_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tune.engine.retraining.create_sweep", created)
    ledger = begun(tmp_path, "s", 42, base=config().base.replace(nf=8, n_epochs=1, lr=0.1))
    own = confirmation(ledger, 2, 1, Choice(), None, {})
    assert own.config.base == ledger.config.base.replace(evaluate_on="test", seed=43)
    assert own.record["baseline"] == "trial 0 of the sweep"
    paper = confirmation(ledger, 2, 1, Choice(), "preset", {})
    assert (paper.config.base.nf, paper.config.base.n_epochs, paper.config.base.lr) == (32, 3, 0.18)
    assert paper.record["baseline"] == (
        "the preset of seq-digits, buffer 200, with fields that differ from every "
        "trial: n_epochs 3, not 1; nf 32, not 8"
    ), "lr is searched"
    odd = config("odd", sampler="random", base=config().base.replace(buffer_size=77))
    with driven(Ledger.create(tmp_path, odd, {})) as there:
        complete(there, 100, 60)
    assert main(["confirm", "odd", "--baseline", "preset", "--storage", str(tmp_path)]) == 2
    assert "no preset for dynamos on seq-digits with buffer_size 77." in capsys.readouterr().err


def begun(storage: Path, name: str, seed: int, **changes: Any) -> Ledger:
    """A sweep of two trials with this training seed; the second is better."""
    base = config().base.replace(seed=seed)
    there = Ledger.create(
        storage, config(name, **{"sampler": "random", "trials": 2, "base": base} | changes), {}
    )
    with driven(there):
        for value in (60, 80):
            number = there.ask().number
            report(there, number, 100, value, seed=seed)
            there.finish(number, "COMPLETE")
    return there


def test_a_confirmation_uses_the_images_of_its_sweep(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for folder in ("images", "others"):
        write_mnist(tmp_path / folder, draws)
    base = TrainConfig(**preset("seq-mnist", 500)).replace(
        evaluate_on="validation", warmup=False, data_path=str(tmp_path / "images")
    )
    plan = config(base=base, sampler="random", trials=1)
    with driven(Ledger.create(tmp_path / "runs", plan, data_record(base, True))) as ledger:
        complete(ledger, 60.0, 80.0)
    for folder, message in (("others", "differ from those"), ("nowhere", "no MNIST under")):
        moved = base.replace(data_path=str(tmp_path / folder))
        ledger.config = dataclasses.replace(plan, base=moved)
        with pytest.raises(UserError, match=f"{message}.* Nothing was started"):
            confirmation(ledger, 2, 1, Choice(), None, {})
    assert not (tmp_path / "runs" / "s-confirm-1").exists() and ledger.looks == {}


def test_a_confirmation_does_not_take_over_the_trials_of_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.engine.retraining.create_sweep", created)
    with driven(Ledger.create(tmp_path, config(cohort=4, trials=1), {})) as ledger:
        complete(ledger, 60.0, 80.0)
    made = confirmation(ledger, 2, 1, Choice(), None, {})
    assert made.config.cohort == 1
    again = confirmation(ledger, 2, 1, Choice(), None, {"cohort": 2})
    assert (again.config.name, again.config.cohort) == (made.config.name, 2)


@pytest.mark.parametrize("gone", [False, True])
def test_seeds_whose_results_were_imported_are_not_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    monkeypatch.setattr("tune.engine.retraining.create_sweep", created)
    begun(tmp_path, "early", 99)
    ledger = begun(tmp_path, "s", 42, warm_start="early")
    assert {t.source for t in ledger.trials() if t.imported} == {
        "imported:early/0",
        "imported:early/1",
    }
    if gone:
        shutil.rmtree(tmp_path / "early")
    assert confirmation(ledger, 2, 1, Choice(), None, {}).config.training_seeds == (100, 101)


def test_seeds_that_chose_configurations_tried_again_are_not_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.engine.retraining.create_sweep", created)
    begun(tmp_path, "first", 200, base=config().base.replace(seed=200, nf=8))
    begun(tmp_path, "early", 99, base=config().base.replace(seed=99, nf=16), warm_start="first")
    ledger = begun(tmp_path, "s", 42, warm_start="early")
    assert "warm-start:early/1" in {t.source for t in ledger.trials()} and not any(
        t.imported for t in ledger.trials()
    )
    assert confirmation(ledger, 1, 1, Choice(), None, {}).config.training_seeds == (201,), (
        "early had it from first"
    )
    shutil.rmtree(tmp_path / "first")
    # a name that is used again; the search for earlier sweeps must end
    begun(tmp_path, "first", 300, warm_start="s")
    assert confirmation(ledger, 2, 1, Choice(), None, {}).config.training_seeds == (301, 302)


def test_a_confirmation_seeks_what_the_sweep_sought_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.engine.retraining.create_sweep", created)
    for text in ("val_class_il:min", "val_class_il:max"):
        ledger = begun(tmp_path, text[-3:], 42, objectives=(Objective.parse(text),))
        there = confirmation(ledger, 1, 1, Choice(), None, {})
        assert there.config.objectives == (Objective("test_class_il", text[-3:]),)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["s-confirm-1"], "'s-confirm-1' is itself a confirmation, of 's'."),
        (["s", "--seeds", "0"], "--seeds 0 is out of range"),
        (["s", "--top", "0"], "--top 0 is out of range"),
        (["s", "--choose", "one-se"], "--choose one-se needs the spread over seeds"),
        (["s", "--baseline", "nowhere.yaml"], "/nowhere.yaml."),
        (["t"], "unknown sweep 't'"),
    ],
)
def test_confirmations_that_are_refused(
    storage: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["confirm", *arguments, "--storage", str(storage)]) == 2
    assert message in capsys.readouterr().err


def test_a_confirmation_has_no_budget_and_stands_in_its_sweeps_report(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["extend", "s-confirm-1", "--trials", "+1", "--storage", str(storage)]) == 2
    assert "for more seeds: dynamos-sweep confirm s-confirm-1 --extend +10" in (
        capsys.readouterr().err
    )
    assert main(["report", "s-confirm-1", "--storage", str(storage)]) == 2
    assert "it is in the report of 's'" in capsys.readouterr().err
    assert main(["report", "s", "--storage", str(storage)]) == 0
    said = "s-confirm-1: Not confirmed on test images: trial 1, which the sweep chose"
    assert said in (storage / "s" / "report.html").read_text()
    shutil.rmtree(storage / "s-confirm-1")
    assert main(["report", "s", "--storage", str(storage)]) == 0
    assert "s-confirm-1, started at" in (storage / "s" / "report.html").read_text(), (
        "the look stays counted"
    )


@pytest.mark.parametrize(
    "text, why",
    [
        ("", ""),
        ("m", ""),
        ("m@", ""),
        ("@a", ""),
        ("m@1", "the alias '1' must begin with a letter"),
        (
            "m@a.b",
            "the alias 'a.b' must begin with a letter and contain only letters, digits, "
            "'_' and '-'; ",
        ),
        ("m@a@b", "the alias 'a@b'"),
        ("m@a b", "the alias 'a b'"),
        ("a/b@c", "the model's name 'a/b' must contain only"),
        ("m'@a", "the model's name"),
        (" @a", "the model's name"),
        ("m@v1", "MLflow reserves 'v1' for versions"),
        (
            "m@Latest",
            "MLflow reserves 'Latest' for versions and refuses it as an alias; ",
        ),
    ],
)
def test_a_wrong_registry_name_is_refused_with_the_reason(
    storage: Path, text: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "s", "--register", text, "--storage", str(storage)]) == 2
    error = capsys.readouterr().err
    assert f"--register {text!r}: {why}" in error and "write MODEL@ALIAS, for instance" in error
    assert not (storage / "s" / "best_config.yaml").exists(), "nothing is done before"
    assert parse("dynamos-seq-mnist@champion") == ("dynamos-seq-mnist", "champion")


def test_a_network_that_has_not_seen_every_task_is_not_registered(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {name: int(value) for name, _, value in (text.partition("=") for text in SMALL)}
    trainer = Trainer(Ledger.open(storage, "s-confirm-1").config.base.replace(**small))
    folder = storage / "s-confirm-1" / "trials" / "0001" / "attempt-1" / "seed-43"
    checkpoints.save(trainer.state_dict(), folder)
    for _ in trainer:
        break
    path = checkpoints.save(trainer.state_dict(), folder)
    path.write_bytes(path.read_bytes()[:-9])
    assert main(["export", "s", "--register", "m@a", "--storage", str(storage)]) == 1
    assert "no readable checkpoint of seed 43 after its last task" in capsys.readouterr().err


def test_only_what_a_confirmation_trained_is_registered(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.open(storage, "s")
    found = trained(ledger, 1)
    assert found is not None and found[0].config.name == "s-confirm-1" and found[1].number == 1
    assert trained(ledger, 3) is None
    shutil.rmtree(storage / "s-confirm-1")
    assert main(["export", "s", "--register", "m@a", "--storage", str(storage)]) == 2
    assert "no confirmation has trained trial 1 of 's'" in capsys.readouterr().err


def trained_network(storage: Path) -> ResNet:
    """Train a network, write it where a confirmation writes that of the choice's first fresh seed,
    and return it."""
    small = {name: int(value) for name, _, value in (text.partition("=") for text in SMALL)}
    trainer = Trainer(
        Ledger.open(storage, "s-confirm-1").config.base.replace(**{**small, "n_tasks": 1})
    )
    for _ in trainer:
        pass
    checkpoints.save(
        trainer.state_dict(), storage / "s-confirm-1" / "trials" / "0001" / "attempt-1" / "seed-43"
    )
    return trainer.network.eval()


def test_a_version_whose_files_are_gone_is_registered_anew(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_network(storage)
    export = ["export", "s", "--register", "m@a", "--storage", str(storage)]
    for _ in range(2):
        assert main(export) == 0
        assert "version 1 at" in capsys.readouterr().out
    uri = f"sqlite:///{storage / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    run_id = client.get_model_version("m", "1").run_id
    assert run_id is not None
    client.delete_run(run_id)
    collected = CliRunner().invoke(gc, ["--backend-store-uri", uri, "--tracking-uri", uri])
    assert collected.exit_code == 0, collected.output
    for _ in range(2):
        assert main(export) == 0
        assert "version 2 at" in capsys.readouterr().out
    assert int(client.get_model_version_by_alias("m", "a").version) == 2
    assert list_artifacts(client.get_model_version("m", "2").source, tracking_uri=uri)


def test_a_network_is_saved_and_loaded_without_advice(tmp_path: Path) -> None:
    train = TrainConfig(nf=4, hidden_dim_ratio=4, dataset="seq-digits")
    with warnings.catch_warnings(record=True) as said:
        mlflow.pyfunc.load_model(str(_saved(train, build_network(train, 10).eval(), tmp_path)))
    assert [str(one.message) for one in said if "type hints" in str(one.message)] == []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], np.ndarray]:
    """Return images -> logits of a registered model, as MLflow loads it. Its network is for 8x8
    digits, white 16."""
    folder = tmp_path_factory.mktemp("model")
    train = TrainConfig(nf=4, hidden_dim_ratio=4, dataset="seq-digits")
    predict = mlflow.pyfunc.load_model(
        str(_saved(train, build_network(train, 10).eval(), folder))
    ).predict
    return lambda images: predict(images)["logits"]


PIXELS = np.random.default_rng(0).integers(0, 17, (5, 3, 8, 8), dtype=np.uint8)
IMAGES = PIXELS.astype(np.float32) / 16


@pytest.mark.parametrize(
    "given",
    [
        IMAGES.astype(np.float64),
        IMAGES.tolist(),
        list(IMAGES),
        torch.from_numpy(IMAGES),
        PIXELS,
        torch.from_numpy(PIXELS),
        torch.from_numpy(IMAGES).to(torch.bfloat16),
        IMAGES.astype(np.float16),
        torch.nn.Parameter(torch.from_numpy(IMAGES)),
        np.asfortranarray(IMAGES),
        list(torch.from_numpy(IMAGES)),
    ],
    ids=[
        "float64",
        "lists",
        "list of arrays",
        "tensor",
        "uint8",
        "uint8 tensor",
        "bfloat16",
        "float16",
        "with gradient",
        "Fortran",
        "list of tensors",
    ],
)
def test_a_registered_model_converts_what_it_can(
    model: Callable[[Any], np.ndarray], given: Any
) -> None:
    # sixteenths are exact in every precision
    np.testing.assert_array_equal(model(given), model(IMAGES))


def test_a_registered_model_takes_one_image_and_grey_ones(
    model: Callable[[Any], np.ndarray],
) -> None:
    np.testing.assert_allclose(model(IMAGES[0]), model(IMAGES)[:1], rtol=1e-5)
    grey = IMAGES[:, :1]
    np.testing.assert_array_equal(model(grey), model(np.repeat(grey, 3, axis=1)))


@pytest.mark.parametrize(
    "given, why",
    [
        (IMAGES * 2, "values from 0 to 2 lie outside 0 to 1; "),
        (IMAGES - 0.5, "values from -0.5 to 0.5 lie outside 0 to 1"),
        (np.where(IMAGES > 0.9, np.nan, IMAGES), "NaN is not a pixel value"),
        (np.where(IMAGES > 0.9, np.inf, IMAGES), "values from 0 to inf lie outside 0 to 1"),
        (PIXELS * 15, "values from 0 to 240 lie outside 0 to 16"),
        (PIXELS.astype(int), "ndarray of int64 is neither floats nor uint8"),
        (PIXELS.tolist(), "list of int64 is neither"),
        (IMAGES > 0.5, "ndarray of bool is neither"),
        ([[1.0, 0.5], [0.5]], "lists of unequal lengths"),
        ({"images": IMAGES}, "dict of object is neither"),
        ("image.png", "str of <U9 is neither"),
        (IMAGES[0, 0], r"an array of shape \(8, 8\) is not images"),
        (IMAGES.transpose(0, 2, 3, 1), r"an array of shape \(5, 8, 8, 3\)"),
        (IMAGES[:0], r"an array of shape \(0, 3, 8, 8\)"),
        (pd.DataFrame(IMAGES.reshape(5, -1)), r"an array of shape \(5, 192\)"),
    ],
)
def test_a_registered_model_refuses_the_rest_in_one_line(
    model: Callable[[Any], np.ndarray], given: Any, why: str
) -> None:
    with pytest.raises(MlflowException, match=why) as refused:
        model(given)
    assert len(str(refused.value)) < 300 and "\n" not in str(refused.value)
    assert "floats from 0 to 1, or uint8 from 0 to 16" in str(refused.value)


LOAD = """
import sys, mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
told = mlflow.pyfunc.load_model("models:/net@champion").predict(np.load(sys.argv[2]))
assert "/code/dynamos" in sys.modules["dynamos"].__file__, "what travelled with the model"
np.savez(sys.argv[3], **told)
"""


@pytest.mark.slow
def test_from_a_sweep_on_the_first_tasks_to_a_model_in_the_registry(tmp_path: Path) -> None:
    small = preset("seq-digits", 200) | {
        name: int(value) for name, _, value in (text.partition("=") for text in SMALL)
    }
    (tmp_path / "baseline.yaml").write_text(yaml.safe_dump(small | {"lr": 0.05}))
    done = run("run", *SWEEP, "--protocol", "first-k", "--first-k", "2", cwd=tmp_path)
    assert done.returncode == 0 and "confirm s" in done.stdout, done.stderr
    done = run(
        "confirm",
        "s",
        "--storage",
        "runs",
        "--seeds",
        "2",
        "--top",
        "2",
        "--baseline",
        "baseline.yaml",
        cwd=tmp_path,
    )
    assert done.returncode == 0 and "the baseline is baseline.yaml" in done.stdout, done.stderr
    ledger, there = (Ledger.open(tmp_path / "runs", name) for name in ("s", "s-confirm-1"))
    for trial in ledger.trials():
        [results] = trial.results.values()
        assert trial.state == "COMPLETE" and {r.evaluated_on for r in results} == {"validation"}
        assert len(results) == 2, "the first tasks"
    networks = confirmed_alike(ledger, there)
    registered_alike(tmp_path, ledger, networks[0], there.config.base.seed)


def confirmed_alike(ledger: Ledger, there: Ledger) -> list[ResNet]:
    """Return the networks of the first fresh seed, the choice's first; assert that they have the
    results of the confirmation."""
    trials, networks = there.trials(), []
    assert len(trials) == 3 and {t.state for t in trials} == {"COMPLETE"}
    for number, of in there.record["chosen"].items():
        train = reported_config(ledger.config, ledger.trials()[of]).replace(evaluate_on="test")
        assert train.n_tasks == 3, "the whole stream"
        found = trials[int(number)].results
        runs = together([train.replace(seed=seed) for seed in found])
        for one, results in zip(runs, found.values(), strict=True):
            assert [r.class_il for r in one.results] == [r.class_il for r in results]
        assert runs[0].config.seed == there.config.base.seed
        networks.append(runs[0].network.eval())
    return networks


def registered_alike(folder: Path, ledger: Ledger, network: ResNet, seed: int) -> None:
    """Register the choice's network by the command; assert that a process that loads it gets the
    same predictions."""
    done = run("export", "s", "--storage", "runs", "--register", "net@champion", cwd=folder)
    assert done.returncode == 0 and "version 1 at sqlite:///" in done.stdout, done.stderr
    images = np.random.default_rng(0).random((300, 3, 8, 8), dtype=np.float32)
    np.save(folder / "images.npy", images)
    uri = f"sqlite:///{folder / 'runs' / 'mlflow.db'}"
    subprocess.run(
        [sys.executable, "-c", LOAD, uri, "images.npy", "told.npz"], cwd=folder, check=True
    )
    told = np.load(folder / "told.npz")
    with torch.inference_mode():
        own = torch.cat(
            [network(part).logits for part in torch.from_numpy(images).split(250)]
        ).numpy()
    np.testing.assert_array_equal(told["logits"], own)
    np.testing.assert_array_equal(told["class"], own.argmax(1))
    client, runs = runs_of(uri)
    version = client.get_model_version_by_alias("net", "champion")
    assert (
        version.tags["sweep"] == "s"
        and version.tags["seed"] == str(seed)
        and version.tags["protocol"] == "first-k"
    )
    assert version.run_id in {
        run.info.run_id for tag, run in runs.items() if tag.startswith("s-confirm-1/")
    }
    chosen = Sweep.of(ledger).leader
    assert chosen is not None and register(ledger, chosen, "net", "second") == "1", "the same, once"
    assert client.get_model_version_by_alias("net", "second").version == version.version


def test_the_code_of_a_registered_model_needs_only_our_package_dynamos() -> None:
    imported = [
        line.split()[1].split(".")[0]
        for line in CODE.read_text().splitlines()
        if line.startswith(("import ", "from "))
    ]
    assert set(imported) <= {"typing", "numpy", "torch", "mlflow", "dynamos"}


def test_a_baseline_of_another_method_has_its_own_hyperparameters() -> None:
    lwf = TrainConfig(model="lwf", lr=0.1, device="cpu", evaluate_on="validation")
    sweep = SweepConfig(name="a", space=read_space("lwf"), base=lwf)
    tested = [
        TrainConfig(model="ewc_on", device="cpu", method={"gamma": 1.0}),
        lwf.replace(evaluate_on="test", **{"method.temperature": 4.0}),
    ]
    found = _config(sweep, tested, 2, {})
    (point,) = found.points
    assert point["method.temperature"] == 4.0 and "method.gamma" not in point
    assert found.base.replace(**point) == tested[1] and found.base == tested[0]
    there = {p.name: p.condition for p in found.space.parameters}
    assert there["method.gamma"] == "model is ewc_on" and there["lr"] == ""
    assert SweepConfig.from_dict(found.to_dict()).space == found.space
