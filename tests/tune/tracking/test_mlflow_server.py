"""A real `mlflow server` over HTTP with a database; sweeps in its client and on its pages."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from playwright.sync_api import Page, expect

from dynamos import checkpoints
from dynamos.config import TrainConfig
from dynamos.export import from_checkpoints
from dynamos.metrics import TaskResult
from dynamos.trainer import Trainer
from results.analysis.comparison import compared, comparison_rows
from results.choice import Choice
from results.ledger.ledger import Ledger
from results.sweep import Sweep
from tests.helpers.browser import WIDTHS, needs_chromium, opened
from tests.helpers.ledgers import begun, config, driven, result
from tests.helpers.servers import Server
from tests.helpers.sweeps import SMALL, runs_of
from tests.tune.engine.test_retraining import LOAD, created
from tune.cli.main import main
from tune.engine.retraining import confirmation
from tune.tracking.mirror import Mirror

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(URI, storage): sweeps `s` and `t` and a confirmation of `s` on a server, its network in the
    registry."""
    folder = tmp_path_factory.mktemp("served")
    with Server(folder) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("tune.engine.retraining.create_sweep", created)
        trained_by_hand(folder / "runs", server.uri)
        assert (
            main(["export", "s", "--storage", str(folder / "runs"), "--register", "net@champion"])
            == 0
        )
        yield server.uri, folder / "runs"


def test_sweeps_are_compared_from_another_machine(
    served: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, storage = served
    assert main(["compare", "s", "t", "--storage", str(tmp_path), "--tracking-uri", uri]) == 0
    said = capsys.readouterr().out
    assert all(
        value in said
        for section in comparison_rows(
            compared([Sweep.of(Ledger.open(storage, name)) for name in "st"])
        )
        for _, values in section
        for value in values
    )


def trained_by_hand(storage: Path, uri: str) -> None:
    """Make two sweeps of three trials, `s` and `t`, and a confirmation of `s` with real networks,
    mirrored to a server."""
    small = {name: int(value) for name, _, value in (text.partition("=") for text in SMALL)}
    base = config().base.replace(**small)
    for name, lead in (("s", 0.0), ("t", 1.0)):
        made = Ledger.create(
            storage, config(name, base=base, sampler="random", trials=3, tracking_uri=uri), {}
        )
        with driven(made):
            for value in (60.0, 80.0, 70.0):
                number = begun(made).number
                for task in range(3):
                    accuracy = value + lead - 10 * task
                    told = result(task, 3, val_class_il=accuracy, compute=0.5)
                    made.add_result(number, 1, 42, told)
                made.finish(number, "COMPLETE")
        Mirror(made, uri).sync()
    there = confirmation(Ledger.open(storage, "s"), 2, 1, Choice(), None, {"tracking_uri": uri})
    with driven(there):
        while there.remaining():
            trial = begun(there)
            for seed in there.config.training_seeds:
                trainer = Trainer(
                    there.config.base.replace(**trial.config | small | {"seed": seed})
                )
                for one in trainer:
                    there.add_result(trial.number, 1, seed, one)
                folder = there.trial_folder(trial.number) / "attempt-1" / f"seed-{seed}"
                checkpoints.save(trainer.state_dict(), folder)
            there.finish(trial.number, "COMPLETE")
    Mirror(there, uri).sync()


def test_trials_nest_with_parameters_and_final_metrics_under_the_names_of_taskresult(
    served: tuple[str, Path],
) -> None:
    _, runs = runs_of(served[0])
    assert {tag for tag in runs if "/" not in tag} == {"s", "t", "s-confirm-1"}
    for tag, run in runs.items():
        parent = tag.rpartition("/")[0]
        assert run.data.tags.get("mlflow.parentRunId") == (
            runs[parent].info.run_id if parent else None
        )
    assert runs["s/1"].data.metrics["val_class_il"] == 60 and "lr" in runs["s/1"].data.params
    # The sweep's summary stands on the parent, where the page's filter looks.
    assert (
        runs["s"].data.metrics["best_val_class_il"] == 60
        and runs["s"].data.tags["best_trial"] == "1"
    )
    fields = {f.name for f in dataclasses.fields(TaskResult)} | {"keep_gate"}
    own = {
        name.removeprefix("seed_43/test_").removeprefix("seed_43/")
        for name in runs["s-confirm-1/0"].data.metrics
        if name.startswith("seed_43/")
    }
    assert {re.sub(r"_task\d+$|(?<=keep_gate)\d$", "", name) for name in own} <= fields and len(
        own
    ) > 20


def test_the_registered_model_fetched_over_http_gives_the_networks_logits(
    served: tuple[str, Path], tmp_path: Path
) -> None:
    uri, storage = served
    images = np.random.default_rng(0).random((20, 3, 8, 8), dtype=np.float32)
    np.save(tmp_path / "images.npy", images)
    # In a process of its own: where a client looks is global, and others of this one would inherit
    # it.
    subprocess.run(
        [sys.executable, "-c", LOAD, uri, "images.npy", "told.npz"], cwd=tmp_path, check=True
    )
    told = np.load(tmp_path / "told.npz")
    found = from_checkpoints(storage / "s-confirm-1" / "trials" / "0001" / "attempt-1" / "seed-43")
    assert found is not None and isinstance(found[0], TrainConfig)
    with torch.inference_mode():
        np.testing.assert_array_equal(
            told["logits"], found[1](torch.from_numpy(images)).logits.numpy()
        )
    version = MlflowClient(tracking_uri=uri).get_model_version_by_alias("net", "champion")
    assert version.tags["sweep"] == "s" and version.tags["trial"] == "1"


@needs_chromium
def test_mlflows_own_pages_nest_compare_and_show_the_model(served: tuple[str, Path]) -> None:
    uri = served[0]
    _, runs = runs_of(uri)
    with opened(uri, WIDTHS["desktop"]) as (page, _):
        its_pages_show_them(page, uri, runs)


def its_pages_show_them(page: Page, uri: str, runs: dict[str, Run]) -> None:
    """Check MLflow's pages: sweeps with their trials nested, trials side by side, the registered
    model."""
    expect.set_options(timeout=60_000)  # the server and its pages are slow to begin with
    experiment = runs["s"].info.experiment_id
    page.goto(f"{uri}/#/experiments/{experiment}/runs")
    for name in ("s", "t", "s-confirm-1"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="s/0001", exact=True)).to_have_count(0)
    page.goto(f"{uri}/#/experiments/{experiment}/runs/{runs['s'].info.run_id}")
    expect(page.get_by_text("Child runs", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="s/0001").first).to_be_visible()
    ids = json.dumps([runs["s/0"].info.run_id, runs["s/1"].info.run_id])
    page.goto(
        f"{uri}/#/compare-runs?runs={quote(ids)}&experiments={quote(json.dumps([experiment]))}"
    )
    expect(page.get_by_text("Comparing 2 Runs")).to_be_visible()
    # of the metrics, the page makes only the first rows
    for name in ("policy_penalty", "compute"):
        expect(page.get_by_text(name, exact=True).first).to_be_attached()
    page.goto(f"{uri}/#/models/net/versions/1")
    expect(page.get_by_text("champion").first).to_be_visible()
    expect(page.get_by_role("link", name="s-confirm-1/0001").first).to_be_visible()
