"""Exported files and commands train the configuration that was chosen."""

import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from dynamos.arguments import fields_given, merged
from dynamos.cli import train_parser
from dynamos.config import TrainConfig, preset
from results.choice import Choice, reported_config
from results.definition.objectives import Objective
from results.definition.protocols import NOT_PUBLISHABLE
from results.ledger.ledger import Ledger
from results.pages.best_config import commands, export, write_views
from tests.helpers.ledgers import complete, config, confirmed, driven, result

ODD = TrainConfig(**preset("seq-digits", 200)).replace(
    policy_penalty=-1e-7, warmup=False, n_tasks=3, data_path="/a b/c", class_order_seed=5, seed=3
)


@pytest.mark.parametrize("train", [TrainConfig(), ODD, TrainConfig(**preset("mnist-360", 500))])
def test_a_command_line_means_the_configuration(train: TrainConfig) -> None:
    lines = commands(train)
    assert lines["main_policy"].startswith("python main_policy.py --csv-log ")
    for name, line in lines.items():
        words = shlex.split(line)[1 if name == "dynamos" else 3 :]
        assert merged(use_preset=None, layers=[fields_given(train_parser().parse(words))]) == train


def exported(folder: Path, **changes: Any) -> tuple[Ledger, dict[str, Any], str]:
    made = config(**changes)
    metric = made.objectives[0].metric
    with driven(Ledger.create(folder, made, {"id": "7", "git_revision": "abc"})) as ledger:
        ledger.ask()
        number = ledger.ask().number
        for seed, value in zip(made.training_seeds, (80.0, 83.0), strict=False):
            ledger.add_result(number, 1, seed, result(**{metric: value}))
        ledger.finish(number, "COMPLETE")
    export(ledger, ledger.trial(number), Choice())
    best_args = ledger.folder / "best_args.py"
    found = runpy.run_path(str(best_args))["best_args"]
    content = yaml.safe_load((ledger.folder / "best_config.yaml").read_text())
    train = reported_config(ledger.config, ledger.trial(number))
    assert TrainConfig.from_dict(content["config"]) == train
    fields = found[train.dataset][train.model][train.buffer_size]
    kept = {
        n: getattr(train, n)
        for n in ("model", "dataset", "buffer_size", "evaluate_on", "threads", "device")
    }
    assert TrainConfig.from_dict(kept | fields | {"seed": train.seed}) == train
    return ledger, content, best_args.read_text()


def test_every_form_has_the_same_configuration_and_says_where_it_is_from(tmp_path: Path) -> None:
    _, content, best_args = exported(tmp_path, seeds=2)
    about = content["provenance"]
    assert (
        about["value"] == 81.5
        and about["spread"] == pytest.approx(4.5**0.5)
        and about["seeds"] == [42, 43]
    )
    assert about["git_revision"] == "abc" and "warning" not in about
    assert all(
        "--evaluate-on=validation" in line and "--seed=42" in line
        for line in content["commands"].values()
    )
    assert content["note"].startswith(
        "These commands measure on validation images, as the sweep did. For a test on test "
        "images run: "
        "dynamos-sweep confirm s"
    )
    assert best_args.startswith(
        "# Sweep s, trial 1 (sampler): val_class_il 81.50 (val-all-seen).\n"
    )


def test_the_note_names_the_confirmation_and_its_verdict(tmp_path: Path) -> None:
    rows = [80.0, 82.0, 81.0], [83.0, 84.5, 84.0], [70.0, 71.0, 72.0]
    sweep, there = confirmed(tmp_path, *rows, of={"1": 1, "2": 2})
    with driven(sweep):
        for value in (60.0, 90.0, 70.0, 50.0):
            complete(sweep, value)
    write_views(sweep)

    def note() -> str:
        return str(yaml.safe_load((sweep.folder / "best_config.yaml").read_text())["note"])

    assert "For a test on test images run: dynamos-sweep confirm s" in note()
    write_views(there)
    tested = "The confirmation s-confirm-1 tested it on test images"
    assert f"{tested}: confirmed. With" in note() and "dynamos-sweep confirm" not in note()
    export(sweep, sweep.trial(2), Choice())
    assert f"{tested}, beside the choice, trial 1: confirmed. With" in note()
    export(sweep, sweep.trial(3), Choice())
    assert "s-confirm-1 did not test trial 3. For a test on test images run: " in note()
    (sweep.folder / "best_config.yaml").write_text("lr: [")
    write_views(there)
    assert (sweep.folder / "best_config.yaml").read_text() == "lr: ["


def test_a_choice_on_part_of_a_stream_is_exported_for_the_whole(tmp_path: Path) -> None:
    base = TrainConfig(**preset("seq-digits", 200)).replace(evaluate_on="validation", n_tasks=2)
    _, content, _ = exported(tmp_path, base=base, protocol="first-k", report_on={"n_tasks": None})
    assert content["config"]["n_tasks"] is None and content["provenance"]["searched_on"] == {
        "n_tasks": 2
    }


def test_a_choice_on_test_images_is_marked_not_publishable(tmp_path: Path) -> None:
    base = TrainConfig(**preset("seq-digits", 200))
    sought = (Objective.parse("test_class_il"),)
    _, content, best_args = exported(tmp_path, base=base, protocol="test", objectives=sought)
    assert content["note"] == "These commands use test images; the sweep does not count this."
    assert content["provenance"]["warning"] == NOT_PUBLISHABLE and best_args.startswith(
        f"# {NOT_PUBLISHABLE}\n"
    )
