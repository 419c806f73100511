"""Answers of the service about ledgers, and its commands for drivers."""

import asyncio
import csv
import gc
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import requests
import yaml
from pydantic import TypeAdapter

from dynamos.errors import RunError, UserError
from results.analysis.confirmation import enter_outcome
from results.definition.objectives import Constraint, Objective
from results.ledger.ledger import Ledger
from results.names import STOP_FILE
from results.sweep import Sweep
from results.trial import TrialRecord
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import (
    ONE,
    begun,
    complete,
    config,
    confirmed,
    driven,
    report,
    result,
    swept,
)
from tests.helpers.processes import wait_for
from tests.helpers.service import BASE, NotedDrivers, Served, served
from tests.tune.service.api.test_guard import problem
from tune.cli.main import main
from tune.client import Client
from tune.service.state.events import Watcher
from tune.service.state.sweeps import Sweeps
from tune.service.state.views import View
from tune.service.wire import answers
from tune.service.wire.bodies import SweepRequest, requested_config


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as made:
        yield made


def asked(name: str = "a", **changes: Any) -> dict[str, Any]:
    return {"name": name, "trials": 3, "base": BASE, **changes}


def test_a_sweep_is_told_as_its_ledger_has_it(service: Served, tmp_path: Path) -> None:
    swept(tmp_path, {"lr": 0.1}, {"lr": 0.02}, values=(40, 60, 50))
    (summary,) = service.client.sweeps()
    name = summary["name"]
    whole = service.client.sweep(name)
    assert {**whole, **summary} == whole, "the list tells a part of it"
    assert (whole["stream"], whole["space"], whole["objectives"]) == (
        "seq-digits",
        "four",
        ["val_class_il:max"],
    )
    assert (
        whole["counts"]["complete"] == 3
        and whole["best"]["number"] == 1
        and whole["best"]["value"] == 60.5
    )
    assert whole["answer"].startswith("Trial 1 is best with val_class_il 60.50") and whole[
        "pareto"
    ] == [1]
    assert [p["name"] for p in whole["parameters"]] == list(whole["best"]["config"])
    trials = list(service.client.trials(name))
    assert [(t["number"], t["state"], t["value"]) for t in trials] == [
        (0, "COMPLETE", 40.5),
        (1, "COMPLETE", 60.5),
        (2, "COMPLETE", 50.5),
    ]
    assert trials[1]["config"]["lr"] == 0.1 and trials[1]["feasible"]
    trial = service.client.trial(name, 1)
    assert trial["by_task"]["val_class_il"][-1] == 60.5 and len(trial["results"]) == 2
    stored = Ledger.open(tmp_path, name).trial(1)
    for seed, results in stored.results.items():
        assert trial["results"][str(seed)] == [
            json.loads(json.dumps(r.to_dict())) | {"metrics": r.metrics(), "recorded_at": at}
            for r, at in zip(results, stored.recorded_at[seed], strict=True)
        ]
    assert "--lr=0.1" in trial["command"] and trial["traceback"] is None


def test_a_trial_that_failed_for_values_that_do_not_go_together_is_told(
    service: Served, tmp_path: Path
) -> None:
    space = SearchSpace.from_dict("s", {"parameters": {"hidden_dim_ratio": {"choices": [4, 64]}}})
    made = config(space=space, base=config().base.replace(nf=8, hidden_dim_ratio=4), sampler="grid")
    reason = "hidden_dim_ratio 64 leaves an agent without hidden units"
    with driven(Ledger.create(tmp_path, made, {})) as ledger:
        complete(ledger, 10.0, 20.0)
        while (trial := ledger.ask()).config["hidden_dim_ratio"] != 64:
            ledger.finish(trial.number, "PRUNED")
        ledger.finish(trial.number, "FAIL", reason)
    first, told = (service.client.trial("s", number) for number in (0, trial.number))
    assert "--nf=8" in first["command"]
    assert (told["command"], told["reason"], told["config"]) == (
        None,
        reason,
        {"hidden_dim_ratio": 64},
    )


def test_answers_have_the_fields_that_are_described_and_no_others(
    service: Served, tmp_path: Path
) -> None:
    swept(tmp_path, {"lr": 0.1}, {"lr": 0.02}, {"lr": 0.05}, values=(40, 60, 50, 45))
    with driven(Ledger.create(tmp_path, config(name="other"), {})) as ledger:
        complete(ledger, 10.0, 20.0)
        report(ledger, begun(ledger).number, 55.0)
    kinds = {
        "/sweeps": answers.SweepPage,
        "/sweeps/s": answers.WholeSweep,
        "/sweeps/s/trials": answers.TrialPage,
        "/sweeps/s/trials/1": answers.Trial,
        "/sweeps/other/trials/1": answers.Trial,
        "/sweeps/s/best": answers.Best,
        "/sweeps/s/pareto": answers.ParetoSet,
        "/sweeps/s/importance": answers.Importance,
        "/compare?sweeps=s,other": answers.Comparison,
        "/options": answers.Options,
    }
    for path, kind in kinds.items():
        TypeAdapter(kind).validate_json(service.ask("GET", path).content, strict=True)
    dry = service.client.create(asked(), dry_run=True)
    TypeAdapter(answers.DryRun).validate_python(dry, strict=True)


def test_a_change_in_a_ledger_is_seen(service: Served, tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(), {})) as ledger:
        assert service.client.sweep("s")["state"] == "running"
        complete(ledger, 10.0, 20.0)
        number = ledger.ask().number
        report(ledger, number, 55.0)
        wait_for(lambda: service.client.sweep("s")["counts"]["complete"] == 1)
        (running,) = service.client.trials("s", state="RUNNING")
        assert (running["number"], running["tasks_done"], running["metrics"]["val_class_il"]) == (
            number,
            1,
            55.0,
        )
        assert (running["value"], running["curve"], running["n_tasks"]) == (None, [55.0], 2), (
            "what it has so far"
        )
        ledger.finish(number, "FAIL", "a reason")
        wait_for(lambda: service.client.sweep("s")["counts"]["fail"] == 1)
        assert service.client.trial("s", number)["reason"] == "a reason"
    wait_for(lambda: service.client.sweep("s")["state"] == "stopped")


def test_a_ledger_is_read_again_only_once_it_has_changed(tmp_path: Path) -> None:
    swept(tmp_path, {"lr": 0.1}, values=(40, 60))
    gc.collect()  # the last process that closes a database changes its files
    sweeps = Sweeps(tmp_path, NotedDrivers(tmp_path))
    (name,) = sweeps.names()
    assert sweeps.told(name) == (None, True), "nothing was read yet"
    content, now = sweeps.read(name), time.monotonic()
    with patch("time.monotonic", return_value=now + 60):
        assert sweeps.told(name) == (content, False), (
            "an old view of what has not changed is current"
        )
    (tmp_path / name / "ledger.db").touch()
    with patch("time.monotonic", return_value=now + 61):
        assert sweeps.told(name) == (content, True), "it was current a second ago"
    with patch("time.monotonic", return_value=now + 70):
        assert sweeps.told(name) == (None, True), "too old to be told"


def test_a_sweep_that_was_removed_and_made_anew_is_another(service: Served, tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(), {})) as ledger:
        complete(ledger, 10.0, 20.0)
    assert service.client.sweep("s")["counts"]["complete"] == 1
    shutil.rmtree(tmp_path / "s")
    wait_for(lambda: service.ask("GET", "/sweeps/s").status_code == 404)
    wait_for(lambda: service.client.sweeps() == [])
    Ledger.create(tmp_path, config(trials=9), {})
    wait_for(lambda: service.client.sweep("s")["counts"]["complete"] == 0)
    assert service.client.sweep("s")["budget"] == 9


@pytest.mark.parametrize(
    "query, numbers",
    [
        ({}, [0, 1, 2]),
        ({"sort": "value", "order": "desc"}, [1, 2, 0]),
        ({"sort": "lr"}, [2, 1, 0]),
        ({"sort": "val_class_il", "limit": 1, "offset": 1}, [2]),
        ({"state": "COMPLETE", "q": "points:1"}, [1]),
        ({"state": "FAIL"}, []),
        ({"sort": "reason"}, [0, 1, 2]),
    ],
)
def test_trials_are_filtered_sorted_and_paged(
    service: Served, tmp_path: Path, query: dict[str, Any], numbers: list[int]
) -> None:
    name = swept(tmp_path, {"lr": 0.1}, {"lr": 0.02}, values=(40, 60, 50)).config.name
    found = service.ask("GET", f"/sweeps/{name}/trials", params=query).json()
    assert [t["number"] for t in found["trials"]] == numbers
    refused = problem(service.ask("GET", f"/sweeps/{name}/trials", params={"sort": "lrr"}), 422)
    assert (refused["field"], refused["nearest"]) == ("sort", "lr")


@pytest.mark.parametrize(
    "path", ["/sweeps?state=runing", "/sweeps/s/trials?state=COMPLET", "/sweeps/s/best?choose=bst"]
)
def test_a_fault_in_a_query_is_named_with_the_allowed_values(service: Served, path: str) -> None:
    near = {"runing": "running", "COMPLET": "COMPLETE", "bst": "best"}[path.rpartition("=")[2]]
    assert problem(service.ask("GET", path), 422)["nearest"] == near


def test_the_csv_is_that_of_the_sweeps_folder(service: Served, tmp_path: Path) -> None:
    name = swept(tmp_path, {"lr": 0.1}, values=(40, 60)).config.name
    rows = list(csv.DictReader(io.StringIO(service.client.trials_csv(name))))
    assert [row["number"] for row in rows] == ["0", "1"] and rows[1]["lr"] == "0.1"
    wanted = service.ask(
        "GET", f"/sweeps/{name}/trials", params={"format": "csv", "q": "points:1"}
    ).text
    assert [row["number"] for row in csv.DictReader(io.StringIO(wanted))] == ["1"], (
        "what the filter lets through"
    )


def test_the_best_is_given_in_every_form(service: Served, tmp_path: Path) -> None:
    name = swept(tmp_path, {"lr": 0.1}, {"lr": 0.02}, values=(40, 60, 50)).config.name
    found = service.client.best(name)
    assert found["trial"]["number"] == 1 and found["config"]["lr"] == 0.1
    texts = {
        kind: service.ask("GET", f"/sweeps/{name}/best", params={"format": kind}).text
        for kind in ("yaml", "args", "command")
    }
    assert yaml.safe_load(texts["yaml"])["config"] == found["config"]
    space: dict[str, Any] = {}
    exec(texts["args"], space)
    assert space["best_args"]["seq-digits"]["dynamos"][200]["lr"] == 0.1
    assert texts["command"].strip() == found["commands"]["dynamos"]
    problem(service.ask("GET", f"/sweeps/{name}/best", params={"choose": "bst"}), 422)
    Ledger.create(tmp_path, config("empty"), {})
    assert (
        "no trial of 'empty' has completed"
        in problem(service.ask("GET", "/sweeps/empty/best"), 409)["detail"]
    )


def test_report_pareto_importance_and_comparison(service: Served, tmp_path: Path) -> None:
    points = [
        {"lr": lr, "policy_penalty": -p}
        for lr, p in (
            (0.02, 60.0),
            (0.1, 90.0),
            (0.15, 500.0),
            (0.05, 80.0),
            *((0.2 + i / 100, 70.0) for i in range(5)),
        )
    ]
    one = swept(tmp_path, *points, values=(40, 60, 50, 70, 45, 46, 47, 48, 49, 51)).config.name
    with driven(Ledger.create(tmp_path, config("other"), {})) as ledger:
        complete(ledger, 50.0, 44.0)
    answer = service.ask("GET", f"/sweeps/{one}/report")
    assert answer.text.startswith("<!doctype html>") and f"Sweep {one}" in answer.text
    assert "sandbox" in answer.headers["content-security-policy"]
    assert not (tmp_path / one / "report.html").exists(), "what only reads writes nothing"
    assert [t["number"] for t in service.client.pareto(one)] == [3]
    shares = service.ask("GET", f"/sweeps/{one}/importance").json()
    assert sum(s["share"] for s in shares["shares"]) == pytest.approx(1) and shares["trials"] == 10
    assert service.ask("GET", "/sweeps/other/importance").json()["shares"] == []
    side = service.client.compare(one, "other")
    assert side["names"] == [one, "other"] and side["curves"]["trials"]["other"] == [[1.0, 44.0]]
    problem(service.ask("GET", "/compare", params={"sweeps": one}), 422)
    problem(service.ask("GET", "/compare", params={"sweeps": f"{one},../other"}), 404)


def test_a_sweep_is_made_and_its_name_is_the_key(service: Served, tmp_path: Path) -> None:
    first = service.ask("POST", "/sweeps", json=asked())
    assert first.status_code == 201 and first.json()["budget"] == 3
    assert service.drivers.started == [("resume", "a", [])]
    ledger = Ledger.open(tmp_path, "a")
    assert ledger.config.base.nf == 4 and ledger.config.base.evaluate_on == "validation"
    with driven(ledger):  # as its driver does
        pass
    again = service.ask("POST", "/sweeps", json=asked())
    assert again.status_code == 200 and len(service.drivers.started) == 1
    refused = problem(service.ask("POST", "/sweeps", json=asked(trials=4, sampler="random")), 409)
    assert "other values of sampler, trials" in refused["detail"] and refused["field"] == "name"


def test_a_sweep_that_was_made_but_not_started_is_started_by_the_same_request(
    service: Served,
) -> None:
    service.ask("POST", "/sweeps", json=asked())
    assert service.ask("POST", "/sweeps", json=asked()).status_code == 200
    assert service.drivers.started == [("resume", "a", []), ("resume", "a", [])]


def test_two_equal_requests_at_once_make_one_sweep(service: Served) -> None:
    answers: list[int] = []
    asking = [
        threading.Thread(
            target=lambda: answers.append(service.ask("POST", "/sweeps", json=asked()).status_code)
        )
        for _ in range(4)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert sorted(answers) == [200, 200, 200, 201]


def test_a_whole_sweep_config_is_a_body_in_json_and_in_yaml(
    service: Served, tmp_path: Path
) -> None:
    whole = config("whole", trials=7, base=config().base.replace(nf=8, device="cpu"))
    given = whole.to_dict() | {"base": whole.base.replace(device="auto").to_dict()}
    del given["base"]["data_path"]
    body = {
        name: value
        for name, value in given.items()
        if name not in ("confirms", "ledger_url", "tracking_uri")
    }
    answer = service.ask(
        "POST",
        "/sweeps",
        data=yaml.safe_dump(body, sort_keys=False),
        headers={"Content-Type": "application/yaml"},
    )
    assert answer.status_code == 201, answer.text
    assert Ledger.open(tmp_path, "whole").config == whole, "its trials hold no GPU, so auto is cpu"
    assert service.client.create(whole)["name"] == "whole"


def test_a_body_of_numpys_values_is_the_same_as_of_pythons(service: Served) -> None:
    given: dict[str, Any] = {
        "trials": np.int64(2),
        "base": {**BASE, "lr": np.float32(0.5), "n_epochs": np.float64(2), "warmup": np.False_},
        "space": {"parameters": {"minibatch_size": {"low": np.int64(4), "high": 32.0}}},
        "points": [{"minibatch_size": np.float64(5)}],
    }
    found = service.client.create(asked(**given), dry_run=True)
    assert (
        found["config"]["base"] | {"lr": 0.5, "n_epochs": 2, "warmup": False}
        == found["config"]["base"]
    )
    assert found["config"]["points"] == [{"minibatch_size": 5}]
    with pytest.raises(UserError, match="n_epochs"):
        service.client.create(asked(base={**BASE, "n_epochs": 1.5}), dry_run=True)


def test_a_dry_run_shows_what_would_be_tried_and_makes_nothing(
    service: Served, tmp_path: Path
) -> None:
    found = service.client.create(asked(trials=5), dry_run=True)
    assert [s["source"] for s in found["suggestions"]] == ["base", *["sampler"] * 4]
    assert [s["number"] for s in found["suggestions"]] == list(range(5))
    base = found["config"]["base"]
    assert base["nf"] == 4 and found["suggestions"][0]["config"]["lr"] == base["lr"]
    [note] = found["notes"]
    assert note.startswith("`sampler` noisy draws at random")
    assert list(tmp_path.iterdir()) == [] and service.drivers.started == []


def test_a_range_of_whole_numbers_is_searched(service: Served) -> None:
    space = {"parameters": {"nf": {"low": 4, "high": 8}, "lr": {"low": 0.01, "high": 1}}}
    found = service.client.create(asked(space=space), dry_run=True)
    assert found["config"]["space"]["parameters"]["nf"] == {"low": 4, "high": 8, "log": False}
    assert all(isinstance(s["config"]["nf"], int) for s in found["suggestions"])


def test_steps_priors_weights_and_fixed_fields_are_taken(service: Served) -> None:
    space = {
        "parameters": {
            "keep_ratio": {"low": 0.5, "high": 0.9, "step": 0.1, "mean": 0.7, "sd": 0.1},
            "minibatch_size": {"choices": [8, 16], "weights": [1, 3]},
            "warmup": {"choices": [True, False]},
            "warmup_epochs": {"choices": [1, 10], "when": {"warmup": True}},
        },
        "fixed": {"nf": 4},
        "forbid": ["keep_ratio > 0.8 and minibatch_size == 16"],
    }
    found = service.client.create(asked(space=space), dry_run=True)
    assert found["config"]["space"]["fixed"] == {"nf": 4} and found["config"]["base"]["nf"] == 4
    service.client.create(asked(space=space))
    whole = service.client.sweep("a")
    assert whole["searched"] == (
        "keep_ratio 0.5 to 0.9 in steps of 0.1, normal around 0.7 with sd 0.1, minibatch_size one "
        "of 8 (weight 1), 16 (weight 3), warmup one of True, False, warmup_epochs one of 1, 10, if "
        "warmup is true; fixed: nf 4; forbidden: keep_ratio > 0.8 and "
        "minibatch_size == 16"
    )
    ratio, size, _, epochs = whole["parameters"]
    assert epochs["when"] == {"warmup": [True]} and size["when"] is None
    assert (ratio["step"], ratio["mean"], ratio["sd"], ratio["weights"]) == (0.1, 0.7, 0.1, None)
    assert size["weights"] == [1, 3]


@pytest.mark.parametrize(
    "streams, path",
    [
        (("seq-digits", "seq-mnist"), "/images"),
        (("seq-mnist", "seq-digits"), "/images"),
        (("seq-digits", "seq-digits"), None),
    ],
)
def test_two_streams_have_the_services_images_where_either_needs_them(
    streams: tuple[str, str], path: str | None
) -> None:
    request = SweepRequest.model_validate(
        {
            "name": "a",
            "protocol": "two-stream",
            "base": {"dataset": streams[0]},
            "report_on": {"dataset": streams[1], "class_order_seed": 3},
        }
    )
    meant = requested_config(
        request, {"data_path": "/images", "ledger_url": None, "tracking_uri": None}
    )
    assert meant.reported_base.data_path == path and meant.reported_base.dataset == streams[1]


def test_a_dry_run_refuses_a_name_that_is_taken(service: Served, tmp_path: Path) -> None:
    service.client.create(asked())
    assert service.client.create(asked(), dry_run=True)["suggestions"], "the very same one will do"
    with pytest.raises(UserError, match="other values of trials"):
        service.client.create(asked(trials=4), dry_run=True)


@pytest.mark.parametrize(
    "changes, field, near",
    [
        ({"trails": 3}, "trails", "trials"),
        ({"sampler": "tpee"}, "sampler", "tpe"),
        ({"space": "cor"}, "space", "core"),
        ({"base": {"zzz": 1}}, "base.zzz", None),
        ({"base": {"keep_ration": 1}}, "base.keep_ration", "keep_ratio"),
        ({"base": {"lr": -1}}, "base.lr", None),
        ({"base": {"lr": "0.1"}}, "base.lr", None),
        ({"base": {"data_path": "/etc"}}, "base.data_path", None),
        ({"ledger_url": "sqlite:////tmp/x"}, "ledger_url", None),
        ({"tracking_uri": "http://x"}, "tracking_uri", None),
        ({"confirms": "a"}, "confirms", None),
        ({"name": "../a"}, "name", None),
        ({"name": ".a"}, "name", None),
        ({"warm_start": "../a"}, "warm_start", None),
        ({"space": "../core.yaml"}, "space", "core"),
        ({"space": {"parameters": {}}}, "space.parameters", None),
        ({"space": {"parameters": {"lrr": {"low": 1, "high": 2}}}}, "space.parameters.lrr", "lr"),
        ({"space": {"parameters": {"lr": {"low": 3, "high": 2}}}}, "space.parameters.lr", None),
        (
            {"space": {"parameters": {"lr": {"low": 0.1, "hihg": 2}}}},
            "space.parameters.lr.hihg",
            "high",
        ),
        ({"space": {"parameters": {"lr": {"choices": []}}}}, "space.parameters.lr.choices", None),
        (
            {"space": {"parameters": {"lr": {"low": 0.1, "high": 1}}, "fixed": {"nff": 8}}},
            "space.fixed.nff",
            "nf",
        ),
        (
            {
                "space": {"parameters": {"beta": {"low": 1, "high": 3}}, "fixed": {"lr": 0.5}},
                "base": {"lr": 0.1},
            },
            "base.lr",
            None,
        ),
        (
            {"space": {"parameters": {"lr": {"low": 0.1, "high": 1}}, "forbid": ["lrr > 1"]}},
            "space.forbid",
            "lr",
        ),
        ({"objectives": ["val_clas_il"]}, "objectives", "val_class_il"),
        ({"constraints": ["x"]}, "constraints", None),
        ({"base": {"dataset": "seq-digit"}}, "base.dataset", "seq-digits"),
        ({"base": {"model": "dynamo"}}, "base.model", "dynamos"),
        ({"trials": 0}, "trials", None),
        ({"trials": 1e400}, "trials", None),
        ({"points": [{"lr": 900.0}]}, None, None),
        ({"points": [{"lr": "0.05"}]}, None, None),
        ({"points": [{"nf": 8}]}, None, None),
        ({"pruner": "wilcoxon", "seeds": 1}, None, None),
        ({"warm_start": "none"}, None, None),
    ],
)
def test_a_fault_in_a_body_is_named_with_the_allowed_values(
    service: Served, tmp_path: Path, changes: dict[str, Any], field: str | None, near: str | None
) -> None:
    answer = service.ask(
        "POST",
        "/sweeps",
        data=json.dumps(asked(**changes)),
        headers={"Content-Type": "application/json"},
    )
    refused = problem(answer, 422)
    tried = service.ask(
        "POST",
        "/sweeps?dry_run=true",
        data=answer.request.body,
        headers={"Content-Type": "application/json"},
    )
    assert tried.json() == refused, "a dry run says the same"
    assert (refused.get("field"), refused.get("nearest")) == (field, near), refused
    assert list(tmp_path.iterdir()) == [] and service.drivers.started == []


@pytest.mark.parametrize(
    "body, kind",
    [
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"\xff", "application/json"),
        (b"a: &a [1]\nb: *a", "application/yaml"),
        (b"[" * 10_000, "application/yaml"),
        (b"!!python/name:os.system x", "application/yaml"),
        (b"name: a\nseeds: 2\nname: b", "application/yaml"),
        (b"a: [", "application/yaml"),
        (b"name: !!bool x", "application/yaml"),
        (b"name: !!int ''", "application/yaml"),
        (b"name: !!timestamp foo", "application/yaml"),
        (b"a: 1" + b":1" * 300 + b".0", "application/yaml"),
        (b"[" + b"1," * 150_000 + b"1]", "application/yaml"),
        (rb'{"\ud800": 1}', "application/json"),
        (rb'{"name": "a", "base": {"\ud800": 1}}', "application/yaml"),
        (rb'{"\ud800": 1, "\ud800": 1}', "application/yaml"),
    ],
)
def test_a_body_that_cannot_be_read_is_no_fault_of_the_service(
    service: Served, body: bytes, kind: str
) -> None:
    answer = service.ask("POST", "/sweeps", data=body, headers={"Content-Type": kind})
    assert answer.status_code in (400, 422), answer.text
    problem(answer, answer.status_code)


@pytest.mark.parametrize(
    "method, path, body, key",
    [
        ("POST", "/sweeps", '{"name": "a", "seeds": 2, "name": "b"}', "name"),
        ("POST", "/sweeps?dry_run=true", '{"name": "a", "base": {"lr": 0.1,\n"lr": 0.1}}', "lr"),
        (
            "POST",
            "/sweeps",
            '{"name": "a", "points": [{"lr": 0.1}, {"lr": 0.1, "\\u006cr": 0.2}]}',
            "lr",
        ),
        ("PATCH", "/sweeps/s", '{"tags": {"a": "x", "a": "x"}}', "a"),
    ],
)
def test_a_json_body_in_which_a_key_stands_twice_is_refused_as_a_yaml_one_is(
    service: Served, tmp_path: Path, method: str, path: str, body: str, key: str
) -> None:
    answer = service.ask(
        method, path, data=body.encode(), headers={"Content-Type": "application/json"}
    )
    assert (
        problem(answer, 400)["detail"]
        == f"the body is not readable: {key} is given twice; remove one."
    )
    yaml_body = service.ask(
        method, path, data=body.encode(), headers={"Content-Type": "application/yaml"}
    )
    assert yaml_body.status_code == 400 and list(tmp_path.iterdir()) == []


def test_stopping_is_asked_of_the_ledger(service: Served, tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(), {})) as ledger:
        number = ledger.ask().number
        wait_for(lambda: service.client.trial("s", number)["state"] == "RUNNING")
        service.client.stop_trial("s", number)
        assert (ledger.trial_folder(number) / STOP_FILE).exists() and not ledger.stop_requested()
        service.client.stop("s")
        assert ledger.stop_requested()
        wait_for(lambda: service.client.sweep("s")["state"] == "stopping")
    with pytest.raises(UserError, match="s is not running: it is stopped"):
        service.client.stop("s")
    with pytest.raises(UserError, match="s is not running"):
        service.client.stop_trial("s", 0)
    with pytest.raises(UserError, match="s has trials 0 to 0, not 9"):
        service.client.trial("s", 9)


def test_going_on_is_a_drivers_work_where_nothing_stands_against_it(
    service: Served, tmp_path: Path
) -> None:
    with driven(Ledger.create(tmp_path, config(trials=1), {})) as ledger:
        wait_for(lambda: service.client.sweep("s")["state"] == "running")
        with pytest.raises(UserError, match="trial 0 of s is not running: it is waiting"):
            service.client.stop_trial("s", 0)
        with pytest.raises(UserError, match="s is running"):
            service.client.resume("s")
        complete(ledger, 10.0, 20.0)
    wait_for(lambda: service.client.sweep("s")["state"] == "finished")
    with pytest.raises(UserError, match="s is finished; extend it"):
        service.client.resume("s")
    with pytest.raises(UserError, match="cannot move between CPU and GPU"):
        service.client.extend("s", 2, gpus_per_trial=1.0)
    service.client.extend("s", 2, max_concurrent=1, time_budget_seconds=90.0)
    assert service.drivers.started == [
        ("extend", "s", ["--trials=+2", "--time-budget=90.000", "--max-concurrent=1"])
    ]
    for body in ({"trials": 0}, {}, {"trials": 2, "threads": 3}):
        problem(service.ask("POST", "/sweeps/s/extend", json=body), 422)


def test_a_finished_sweep_goes_on_in_another_space(service: Served, tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(trials=1), {})) as ledger:
        complete(ledger, 10.0, 20.0)
    core = ledger.config.space.to_dict()
    wide = core | {"parameters": core["parameters"] | {"lr": {"low": 0.001, "high": 1}}}
    less = core | {"parameters": {"lr": {"low": 0.001, "high": 1}}}
    wait_for(lambda: service.client.sweep("s")["state"] == "finished")
    told = problem(service.ask("POST", "/sweeps/s/extend", json={"trials": 2, "space": less}), 409)
    assert told["field"] == "space" and "lacks alpha" in told["detail"]
    problem(service.ask("POST", "/sweeps/s/extend", json={"trials": 2, "space": "cor"}), 422)
    assert service.drivers.started == []
    service.client.extend("s", 2, {"name": "wide", **wide})
    assert service.drivers.started == [("extend", "s", ["--trials=+2"])]
    assert Ledger.open(tmp_path, "s").config.space.since == 1
    whole = service.client.sweep("s")
    assert whole["space"] == "wide" and whole["searched"].startswith("lr 0.001 to 1, alpha")


@pytest.mark.parametrize("seen_to_end", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_driver_that_is_killed_is_seen_to_be_though_it_changes_no_file(
    service: Served, tmp_path: Path, seen_to_end: bool
) -> None:
    Ledger.create(tmp_path, config(), {})
    drive = (
        "import sys, time; from pathlib import Path; from results.ledger.ledger import "
        "Ledger\nwith Ledger.open(Path(sys.argv[1]), 's').driving(): print('drives', flush=True); "
        "time.sleep(600)"
    )
    driver = subprocess.Popen([sys.executable, "-c", drive, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert driver.stdout is not None and driver.stdout.readline() == b"drives\n"
        wait_for(lambda: service.client.sweep("s")["state"] == "running")
    finally:
        driver.kill()
        driver.wait()
    with ExitStack() as changed:
        # as for a driver on another machine or before a reboot: only its silence shows its end
        if not seen_to_end:
            changed.enter_context(patch("results.ledger.holder.gone", lambda _: False))
            changed.enter_context(patch("tune.service.state.sweeps.LAPSE_SECONDS", 3.0))
        wait_for(lambda: service.client.sweep("s")["state"] == "killed")
        service.client.resume("s")
    assert service.drivers.started == [("resume", "s", [])]


def test_a_new_request_is_not_answered_from_an_older_read(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path, NotedDrivers(tmp_path))
    with driven(Ledger.create(tmp_path, config(), {})) as ledger, ThreadPoolExecutor() as pool:
        sweeps.get("s")
        reading, go_on, trials = threading.Event(), threading.Event(), Ledger.trials

        def slow(read: Ledger) -> list[TrialRecord]:
            found = trials(read)
            reading.set()
            go_on.wait(60)
            return found

        with patch.object(Ledger, "trials", slow):
            earlier = pool.submit(sweeps.newest, "s")
            reading.wait(60)
            complete(ledger, 10.0, 20.0)
            later = pool.submit(sweeps.newest, "s")
            wait_for(lambda: later.running())
            time.sleep(0.2)
            go_on.set()
            assert [found.result().sweep.records[0].state for found in (earlier, later)] == [
                "WAITING",
                "COMPLETE",
            ]


def test_a_look_and_the_time_of_a_running_trial_are_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.service.state.sweeps.TICK_SECONDS", 0.1)
    sweeps = Sweeps(tmp_path, NotedDrivers(tmp_path))
    with driven(Ledger.create(tmp_path, config(), {})) as ledger:
        begun(ledger)
        before = sweeps.newest("s")
        time.sleep(0.3)
        after = sweeps.newest("s")
        began, went_on = before.rows[0]["seconds"], after.rows[0]["seconds"]
        assert began is not None and went_on is not None and went_on - began >= 0.3
        assert (
            after.whole["cpu_seconds"] > before.whole["cpu_seconds"]
            and after.changed[0] > before.changed[0]
        )
        ledger.enter_look("s-confirm-1", {"at": "now", "configurations": 2, "seeds": [5]})
    assert list(sweeps.newest("s").whole["looks"]) == ["s-confirm-1"]


def test_a_confirmation_of_a_sweep_with_the_longest_name_is_found(
    service: Served, tmp_path: Path
) -> None:
    with driven(Ledger.create(tmp_path, config("a" * 100, trials=1), {})) as ledger:
        complete(ledger, 10.0, 20.0)
    assert service.client.confirm("a" * 100, seeds=2, top=1)["name"] == "a" * 100 + "-confirm-1"


def test_a_confirmation_is_a_sweep_of_its_own(service: Served, tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(trials=1), {})) as ledger:
        complete(ledger, 10.0, 20.0)
    made = service.client.confirm("s", seeds=2, top=1)
    assert (made["name"], made["confirms"], made["seeds"]) == ("s-confirm-1", "s", 2)
    assert service.drivers.started == [("resume", "s-confirm-1", [])]
    assert service.client.confirm("s", seeds=2, top=1)["name"] == "s-confirm-1", (
        "asked again it is the same"
    )
    Ledger.create(tmp_path, config("empty"), {})
    with pytest.raises(UserError, match="no trial of 'empty'"):
        service.client.confirm("empty")


def test_a_confirmation_is_extended(service: Served, tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(trials=1), {})) as ledger:
        complete(ledger, 10.0, 20.0)
    with pytest.raises(UserError, match="'s' has no confirmation"):
        service.client.confirm("s", extend=3)
    service.client.confirm("s", seeds=2, top=1)
    with driven(Ledger.open(tmp_path, "s-confirm-1")) as there:
        number = there.ask().number
        for seed in there.config.training_seeds:
            there.add_result(number, 1, seed, result(test_class_il=float(seed)))
        there.finish(number, "COMPLETE")
    for name in ("s", "s-confirm-1", "s"):
        made = service.client.confirm(name, extend=3)
        assert (made["name"], made["confirms"], made["seeds"]) == ("s-confirm-2", "s", 3)
    assert service.drivers.started[1:] == [("resume", "s-confirm-2", [])] * 3
    assert "mean" not in made["answer"] and made["answer"].startswith("No answer yet")
    look = service.client.sweep("s")["looks"]["s-confirm-2"]
    assert (look["extends"], look["look"], look["seeds"]) == ("s-confirm-1", 2, [45, 46, 47])
    with pytest.raises(UserError, match="seeds.* is for a new confirmation"):
        service.client.confirm("s", seeds=3, extend=3)
    service.client.confirm("s", seeds=2, top=1, final=True)
    assert "look" not in service.client.sweep("s")["looks"]["s-confirm-3"]


def test_a_long_value_that_is_refused_is_shortened_visibly(service: Served) -> None:
    detail = problem(service.ask("POST", "/sweeps", json=asked("n" * 121)), 422)["detail"]
    assert detail.startswith(f"name \"{'n' * 79}…: a sweep's name has 1 to 120 letters")


@pytest.mark.parametrize("state", ["starting", "running"])
def test_a_running_sweep_is_not_confirmed(
    service: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    with driven(Ledger.create(tmp_path, config(trials=2), {})) as ledger:
        complete(ledger, 10.0, 20.0)
    with ExitStack() as driver:
        if state == "running":
            driver.enter_context(driven(Ledger.open(tmp_path, "s")))
        else:  # its driver has not reached the ledger yet
            monkeypatch.setattr(service.drivers, "starting", lambda name, sessions: name == "s")
        refused = problem(service.ask("POST", "/sweeps/s/confirm"), 409)
    assert refused["detail"] == (
        f"the sweep 's' is {state}, and may still improve; wait for its end, or stop it: "
        f"dynamos-sweep stop s --storage {tmp_path}"
    )
    assert Ledger.open(tmp_path, "s").looks == {} and service.drivers.started == []
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["s"]


def test_a_confirmation_tells_what_it_found_and_nothing_is_chosen_by_it(
    service: Served, tmp_path: Path
) -> None:
    confirmed(tmp_path, [80.0, 82.0, 81.0], [83.0, 84.5, 84.0])
    told = service.client.sweep("s-confirm-1")
    assert told["answer"].startswith(
        "Confirmed on test images: trial 11, which the sweep chose, is better than the "
        "baseline by 2.83 points. "
    )
    assert (told["health"], told["ties"], told["ranking"], told["pareto"], told["best"]) == (
        [],
        "",
        "",
        [],
        None,
    )
    assert told["verdict"] == "confirmed"
    refused = problem(service.ask("GET", "/sweeps/s-confirm-1/best"), 409)
    assert "would be a choice on test images" in refused["detail"]


def test_after_a_confirmation_its_verdict_is_the_sweeps_answer(
    service: Served, tmp_path: Path
) -> None:
    sweep, there = confirmed(tmp_path, [80.0, 82.0, 81.0], [73.0, 74.5, 74.0])
    before = service.client.sweep("s")
    assert before["verdict"] is None and before["answer"].startswith("None of ")
    enter_outcome(sweep, Sweep.of(there))
    until = time.monotonic() + 30
    while (told := service.client.sweep("s"))["verdict"] is None and time.monotonic() < until:
        time.sleep(0.2)  # a view is a second old at most
    assert told["verdict"] == "refuted" and told["answer"].startswith(
        "Refuted on test images: trial 11, which "
    )
    assert told["looks"]["s-confirm-1"]["outcome"]["metrics"]["baseline_test_class_il"] == 81
    assert next(s["verdict"] for s in service.client.sweeps() if s["name"] == "s") == "refuted"


def test_a_confirmation_may_be_asked_to_compare_with_the_preset(
    service: Served, tmp_path: Path
) -> None:
    swept(tmp_path, {"lr": 0.1}, values=(60, 70), base=config().base.replace(nf=8))
    named = [
        service.client.confirm("s", seeds=2, top=1, baseline=which)["name"]
        for which in (None, "preset")
    ]
    made = [Ledger.open(tmp_path, name) for name in named]
    assert [there.config.base.nf for there in made] == [8, 32]
    assert (
        made[1]
        .record["baseline"]
        .endswith("with fields that differ from every trial: nf 32, not 8")
    )
    refused = problem(
        service.ask("POST", "/sweeps/s/confirm", json={"baseline": "/etc/passwd"}), 422
    )
    assert refused["field"] == "baseline"


def test_a_confirmation_tells_what_went_wrong_in_it(service: Served, tmp_path: Path) -> None:
    confirmed(tmp_path, [80.0, 82.0, 81.0], "FAIL")
    told = service.client.sweep("s-confirm-1")
    assert told["answer"].startswith("No answer yet: trial 11 has failed (non-finite: logits)")
    assert told["health"] == [
        {
            "check": "failures",
            "text": "1 trial of 2 failed.",
            "next_step": "Read the log of trial 1 (logs), then run it again (rerun).",
        }
    ]


def test_what_nothing_needs_is_cleaned(service: Served, tmp_path: Path) -> None:
    made = swept(tmp_path, *({"lr": 0.1 + i / 100} for i in range(10)), values=tuple(range(60, 71)))
    folder = made.trial_folder(0) / "attempt-1" / "seed-42"
    folder.mkdir(parents=True)
    (folder / "checkpoint-000001.pt").write_bytes(b"x" * 1234)
    found = {"trials": [0], "files": 1, "bytes": 1234}
    said = "1 checkpoint file of 1 trial, 1.23 kB (1,234 bytes)"
    answer = service.client.clean("s", dry_run=True)
    assert answer == found | {"text": f"would free {said}"} and list(folder.iterdir())
    assert service.client.clean("s") == found | {"text": f"freed {said}"}
    assert not list(folder.iterdir())
    assert service.client.clean("s")["files"] == 0
    problem(service.ask("POST", "/sweeps/none/clean"), 404)


def test_no_file_of_a_sweep_stays_open(service: Served, tmp_path: Path) -> None:
    confirmed(tmp_path, [80.0, 82.0, 81.0], [83.0, 84.5, 84.0])
    gc.collect()  # what the test itself opened
    for path in ("", "/s", "/s/trials", "/s/report", "/s-confirm-1"):
        service.ask("GET", f"/sweeps{path}")
    assert [service.ask("POST", "/sweeps", json=asked()).status_code for _ in range(2)] == [
        201,
        200,
    ]
    opened = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
    assert [file for file in opened if file.startswith(str(tmp_path))] == []


def test_events_begin_with_a_snapshot_and_tell_what_changes(
    service: Served, tmp_path: Path
) -> None:
    with driven(Ledger.create(tmp_path, config(), {})) as ledger:
        complete(ledger, 10.0, 20.0)
        all_sweeps, one = service.client.events(), service.client.events("s")
        kind, told = next(all_sweeps)
        assert kind == "snapshot" and [s["name"] for s in told["sweeps"]] == ["s"]
        kind, told = next(one)
        assert (
            kind == "snapshot"
            and told["sweep"]["name"] == "s"
            and [t["number"] for t in told["trials"]] == [0]
        )
        complete(ledger, 30.0, 40.0)
        seen = next(
            told
            for kind, told in one
            if kind == "trials" and told["trials"][0]["state"] == "COMPLETE"
        )
        assert [(t["number"], t["value"]) for t in seen["trials"]] == [(1, 40.0)], (
            "only what changed"
        )
        assert next(
            told for kind, told in all_sweeps if kind == "sweep" and told["best"]["value"] == 40.0
        )
        assert next(service.client.events())[0] == "snapshot"  # the sweeps have just been read
        Ledger.create(tmp_path, config("new"), {})
        assert next(service.client.events("new"))[0] == "snapshot"
    with pytest.raises(UserError, match="unknown sweep 'nope'"):
        next(service.client.events("nope"))


def test_the_events_of_a_sweep_end_with_it(service: Served, tmp_path: Path) -> None:
    with driven(
        Ledger.create(tmp_path, config(space=ONE, sampler="random", trials=2), {})
    ) as ledger:
        complete(ledger, 10.0, 20.0)
        one = service.client.events("s")
        assert next(one)[0] == "snapshot"
        complete(ledger, 30.0, 40.0)
    told = list(one)  # otherwise the stream would not end
    assert told[-1][0] == "end" and told[-1][1]["state"] == "finished"
    assert [t["number"] for kind, row in told if kind == "trials" for t in row["trials"]] == [1]
    assert [kind for kind, _ in service.client.events("s")] == ["snapshot", "end"]


def test_waiting_for_a_sweep_gives_what_it_came_to(
    service: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.client.POLL_SECONDS", 0.1)
    with driven(
        Ledger.create(tmp_path, config(space=ONE, sampler="random", trials=1), {})
    ) as ledger:
        with pytest.raises(RunError, match="s is running after 0.2 s"):
            service.client.wait("s", timeout=0.2)
        complete(ledger, 10.0, 20.0)
    found = service.client.wait("s")
    assert (found["state"], found["best"]["value"]) == ("finished", 20.0)
    Ledger.create(tmp_path, config("new"), {})
    (tmp_path / "new" / "driver-1.log").write_text('dynamos-sweep-status: {"error": "no room"}\n')
    with pytest.raises(RunError, match="new is stopped: no room"):
        service.client.wait("new")


def test_a_sweep_is_labelled_when_it_is_made_and_later(service: Served) -> None:
    client = service.client
    made = client.create({"name": "s", "trials": 2}, tags={"team": "vision"}, note="first")
    assert (made["tags"], made["note"]) == ({"team": "vision"}, "first")
    assert client.label("s", {"team": "", "run": "2"})["tags"] == {"run": "2"}
    assert client.label("s", note="")["note"] == ""
    assert client.sweep("s")["tags"] == client.sweeps()[0]["tags"] == {"run": "2"}
    for body, what in (
        ({"tags": {"dataset": "x"}}, "tags"),
        ({"note": "\ud800"}, "note"),
        ({"nte": "x"}, "nte"),
    ):
        assert problem(service.ask("PATCH", "/sweeps/s", json=body), 422)["field"] == what, body
    assert (
        problem(service.ask("POST", "/sweeps", json={"name": "t", "tags": {"a b": "x"}}), 422)[
            "field"
        ]
        == "tags"
    )


def test_a_sweep_is_deleted(service: Served, tmp_path: Path) -> None:
    Ledger.create(tmp_path, config(), {})
    with Ledger.create(tmp_path, config("busy"), {}).driving():
        assert (
            problem(service.ask("DELETE", "/sweeps/busy"), 409)["detail"]
            == "busy is running; stop it first."
        )
    service.client.delete("s")
    assert not (tmp_path / "s").exists() and [s["name"] for s in service.client.sweeps()] == [
        "busy"
    ]
    with pytest.raises(UserError, match="unknown sweep 's'"):
        service.client.delete("s")


def test_one_damaged_sweep_does_not_hide_the_others(service: Served, tmp_path: Path) -> None:
    Ledger.create(tmp_path, config("good"), {})
    Ledger.create(tmp_path, config("bad"), {})
    (tmp_path / "bad" / "ledger.db").write_bytes(b"no database" * 1000)
    (tmp_path / "worse").mkdir()
    (tmp_path / "worse" / "sweep.yaml").write_text("a: [")
    Ledger.create(tmp_path, config("lost"), {})
    (tmp_path / "lost" / "sweep.yaml").unlink()
    (tmp_path / ".new").mkdir()
    (tmp_path / ".new" / "ledger.db").touch()  # a sweep that is being created
    assert [s["name"] for s in service.client.sweeps()] == ["good"]
    for name in ("bad", "worse"):
        answer = service.ask("GET", f"/sweeps/{name}")
        assert problem(answer, answer.status_code)["status"] in (422, 503)
    lost = problem(service.ask("GET", "/sweeps/lost"), 422)
    assert "lost is damaged: sweep.yaml is missing." in lost["detail"]
    assert "unknown" in problem(service.ask("GET", "/sweeps/new"), 404)["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/sweeps/..",
        "/sweeps/%2e%2e%2fa",
        "/sweeps/a%00b",
        "/sweeps/a%2f..%2fb/trials",
        "/sweeps/" + "a" * 300,
    ],
)
def test_no_path_leads_outside_the_storage(service: Served, path: str) -> None:
    assert service.ask("GET", path).status_code in (404, 422)


def test_measures_and_health(service: Served, tmp_path: Path) -> None:
    swept(tmp_path, values=(40,))
    assert requests.get(f"{service.url}/healthz", timeout=9).text == "ok\n"
    assert requests.get(f"{service.url}/readyz", timeout=9).text == "ready: 1 sweeps\n"
    with patch.object(Sweeps, "names", side_effect=RuntimeError("the store is away")):
        refused = problem(requests.get(f"{service.url}/readyz", timeout=9), 503)
    assert refused["detail"] == "the storage cannot be read: the store is away"
    text = requests.get(f"{service.url}/metrics", timeout=9).text
    assert 'dynamos_http_requests_total{method="GET",route="/readyz",status="200"} 1.0' in text
    assert 'state="complete"' in text and "dynamos_sweep_best" in text


def test_options_name_what_a_request_may_say(service: Served) -> None:
    found = service.ask("GET", "/options").json()
    assert (
        set(found["spaces"])
        == {"averaged", "core", "ewc_on", "lwf", "plain", "rehearsal", "replay"}
        and found["presets"]["seq-digits"]["200"]["lr"] > 0
    )
    follows = {
        name: field["follows"] for name, field in found["fields"].items() if field["follows"]
    }
    assert follows == {
        "evaluate_on": "protocol",
        "threads": "cpus_per_trial",
        "device": "gpus_per_trial",
    }
    held = requested_config(
        SweepRequest(name="a"), {"data_path": None, "ledger_url": None, "tracking_uri": None}
    ).base
    told = found["presets"][held.dataset][str(held.buffer_size)]
    assert told == {name: held.to_dict()[name] for name in told} and set(found["fields"]) - set(
        told
    ) == set(follows)
    assert found["fields"]["lr"]["searchable"] and not found["fields"]["seed"]["searchable"]
    assert "data_path" not in found["fields"] and "tpe" in found["samplers"]


def test_the_command_line_speaks_to_a_service(
    service: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    def said(*arguments: str, status: int = 0) -> str:
        assert main([*arguments, "--server", service.url]) == status
        told = capsys.readouterr()
        return told.out if status == 0 else told.err

    assert "mine: stopped, 0 of 4 trials ended" in said(
        "run", "--name", "mine", "--trials", "4", "--set", "nf=4", "hidden_dim_ratio=4"
    )
    assert service.client.sweep("mine")["config"]["base"]["nf"] == 4
    with driven(Ledger.open(tmp_path, "mine")) as ledger:
        complete(ledger, 10.0, 20.0)
    wait_for(lambda: service.client.sweep("mine")["counts"]["complete"] == 1)
    assert "mine" in said("list") and "1/4" in said("list")
    assert "Trial 0 is best" in said("show", "mine") and "from base" in said(
        "show", "mine", "--trial", "0"
    )
    assert "--nf=4" in said("export", "mine")
    said("resume", "mine", "--max-concurrent", "1")
    said("extend", "mine", "--trials", "+2")
    wide = tmp_path / "wide.yaml"
    space = service.client.sweep("mine")["config"]["space"]
    space["parameters"]["lr"]["high"] = 0.5
    wide.write_text(yaml.safe_dump({"parameters": space["parameters"]}))
    assert "needs --trials" in said("extend", "mine", "--space", str(wide), status=2)
    said("extend", "mine", "--trials", "+1", "--space", str(wide))
    assert service.client.sweep("mine")["space"] == "wide"
    assert service.drivers.started.pop() == ("extend", "mine", ["--trials=+1"])
    assert service.drivers.started[1:] == [
        ("resume", "mine", ["--max-concurrent=1"]),
        ("extend", "mine", ["--trials=+2"]),
    ]
    Ledger.create(tmp_path, config("other"), {})
    for command in (["compare", "mine", "other"], ["show", "mine", "--trial", "0"]):
        there = said(*command)
        assert main(
            [*command, "--storage", str(tmp_path)]
        ) == 0 and capsys.readouterr().out.startswith(there), command
    assert Path(said("report", "mine").strip()).read_text().startswith("<!doctype html>")
    assert "mine-confirm-1" in said("confirm", "mine", "--seeds", "2", "--top", "1")
    kind = TypeAdapter(answers.WholeSweep)
    # with its use of test images
    kind.validate_json(service.ask("GET", "/sweeps/mine").content, strict=True)
    begun = list(service.drivers.started)
    assert "is not running" in said("stop", "mine", status=2)
    (tmp_path / "d.yaml").write_text("parameters: {lr: {choices: [0.18, 0.18, 0.1]}}")
    tried = said("run", "--name", "d", "--space", str(tmp_path / "d.yaml"), "--dry-run")
    assert (
        "note: the space d lists the choice 0.18 of lr more than once; it counts once."
        in " ".join(tried.split())
    )
    few = "note: --sampler noisy draws at random"
    assert few in said("run", "--name", "d", "--trials", "3", "--dry-run")
    assert few in said("show", "mine")
    assert "--data-path cannot be used with --server" in said(
        "run", "--name", "x", "--data-path", "d", status=2
    )
    for command in (
        ["extend", "mine", "--trials", "+2"],
        ["resume", "mine"],
        ["confirm", "mine"],
        ["run"],
    ):
        assert "--preflight-only cannot be used with --server" in said(
            *command, "--preflight-only", status=2
        )
    assert "--max-concurrent cannot be used with --server" in said(
        "confirm", "mine", "--max-concurrent", "1", status=2
    )
    assert "--gpus-per-trial cannot be used with --server" in said(
        "confirm", "mine", "--gpus-per-trial", "auto", status=2
    )
    assert "--storage cannot be used with --server" in said(
        "list", "--storage", "elsewhere", status=2
    )
    assert service.drivers.started == begun
    assert "needs --name" in said("run", status=2)
    assert "unknown sweep 'min'. Did you mean 'mine'?" in said("show", "min", status=2)


@pytest.mark.parametrize(
    "objectives", [["val_class_il"], ["val_class_il:min"], ["val_task_il:min", "val_class_il"]]
)
def test_show_has_the_same_order_here_and_at_a_service(
    service: Served, tmp_path: Path, objectives: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    more: dict[str, Any] = {
        "space": ONE,
        "sampler": "random",
        "trials": 9,
        "objectives": tuple(map(Objective.parse, objectives)),
        "constraints": (Constraint.parse("val_class_il<=90"),),
    }
    with driven(Ledger.create(tmp_path, config("earlier", **more), {})) as ledger:
        complete(ledger, 1.0, 66.0)
    with driven(Ledger.create(tmp_path, config(**more, warm_start="earlier"), {})) as ledger:
        for value in (40.0, 95.0, 60.0, 50.0):  # the second breaks the constraint
            complete(ledger, 1.0, value)
        for state in ("PRUNED", "FAIL"):
            ledger.finish(ledger.ask().number, state, "because")
        report(ledger, begun(ledger).number, 70.0)

        def rows(*arguments: str) -> list[str]:
            assert main(["show", "s", *arguments]) == 0
            return re.findall(
                r"^(\d+) +(?:complete|pruned|fail|running)\b", capsys.readouterr().out, re.MULTILINE
            )

        assert "imported:earlier/0" in [t.source for t in ledger.trials()]
        there = rows("--server", service.url)
        assert there == rows("--storage", str(tmp_path)) and len(there) == 8


def test_no_service_there_is_one_line() -> None:
    with pytest.raises(RunError, match="no service answers at http://127.0.0.1:9"):
        Client("http://127.0.0.1:9").sweeps()


def test_the_watch_goes_on_whatever_the_storage_raises(caplog: pytest.LogCaptureFixture) -> None:
    class Away(Sweeps):
        def all(self) -> list[View]:
            raise RuntimeError("the store is away")

    async def watched() -> None:
        watcher = Watcher(Away(Path(), NotedDrivers(Path())), lambda: False)
        watcher._listeners = 1
        watching = asyncio.create_task(watcher.watch())
        await asyncio.sleep(0.2)
        assert not watching.done()
        watching.cancel()

    asyncio.run(watched())
    assert "the sweeps cannot be read: the store is away" in caplog.text


def test_a_request_may_name_only_the_methods_that_the_operator_allowed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit('it was imported')")
    model, storage = f"{tmp_path / 'mine.py'}:Mine", tmp_path / "runs"
    example = f"{Path(__file__).parents[3] / 'examples' / 'own_method.py'}:MeanER"
    lr = {"parameters": {"lr": {"low": 0.01, "high": 0.5}}}
    models = {"parameters": {"model": {"choices": ["dynamos", model]}, **lr["parameters"]}}
    own: dict[str, Any] = {"base": BASE | {"model": model}, "space": lr}
    with served(storage, allowed=[example]) as service:
        for body in (own, {"space": models}, {"space": lr, "points": [{"model": model}]}):
            answer = service.ask("POST", "/sweeps", json=asked(**body), params={"dry_run": True})
            assert answer.status_code == (422 if "points" in body else 403), answer.text
        refused = service.ask("POST", "/sweeps", json=asked(**own))
        assert refused.status_code == 403 and not (storage / "a").exists()
        told = refused.json()
        assert told["field"] == "base.model" and "--allow FILE.py:NAME" in told["detail"]
        searched = {"parameters": lr["parameters"] | {"method.weight": {"low": 1, "high": 4}}}
        wrong: dict[str, Any] = {"space": {"parameters": {"method.tau": {"low": 1, "high": 4}}}}
        for base, more in (({}, wrong), ({"method.weight": "a"}, {}), ({"method": 3}, {})):
            told = {"base": BASE | {"model": example} | base, "space": searched} | more
            body = asked(**told)
            answer = service.ask("POST", "/sweeps", json=body)
            assert answer.status_code == 422, answer.text
        body = asked(base=BASE | {"model": example, "method.weight": 3}, space=searched)
        assert service.ask("POST", "/sweeps", json=body).status_code == 201
        same = BASE | {"model": example, "method": {"weight": 3.0}}
        again = service.ask("POST", "/sweeps", json=asked(base=same, space=searched))
        assert again.status_code == 200 and again.json()["config"]["base"]["method.weight"] == 3.0


def test_a_request_may_name_only_the_networks_that_the_operator_allowed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit('it was imported')")
    network, storage = f"{tmp_path / 'mine.py'}:mine", tmp_path / "runs"
    lr = {"parameters": {"lr": {"low": 0.01, "high": 0.5}}}
    both = {"network": {"choices": ["resnet8", network]}, **lr["parameters"]}
    bodies: list[dict[str, Any]] = [
        {"base": BASE | {"model": "er", "network": network}, "space": lr},
        {"base": BASE | {"model": "er", "network": "resnet8"}, "space": {"parameters": both}},
    ]
    with served(storage) as service:
        for body in bodies:
            answer = service.ask("POST", "/sweeps", json=asked(**body), params={"dry_run": True})
            assert answer.status_code == 403, answer.text
            assert answer.json()["field"] == "base.network"
        wrong: dict[str, Any] = {"base": BASE | {"network": "resnet19"}, "space": lr}
        answer = service.ask("POST", "/sweeps", json=asked(**wrong))
        assert answer.status_code == 422 and "resnet18" in answer.text


def test_a_request_may_name_only_the_streams_that_the_operator_allowed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit('it was imported')")
    dataset, storage = f"{tmp_path / 'mine.py'}:mine", tmp_path / "runs"
    example = f"{Path(__file__).parents[3] / 'examples' / 'own_stream.py'}:dimmed"
    bodies: list[dict[str, Any]] = [
        {"base": {"dataset": dataset}},
        {"protocol": "two-stream", "report_on": {"dataset": dataset}},
        {
            "base": {"dataset": dataset, "n_tasks": 1},
            "protocol": "first-k",
            "report_on": {"n_tasks": 2},
        },
    ]
    first_k: dict[str, Any] = {"base": {"dataset": dataset}, "protocol": "first-k"}
    with served(storage, allowed=[example]) as service:
        for body in bodies:
            answer = service.ask("POST", "/sweeps", json=asked(**body), params={"dry_run": True})
            assert answer.status_code == 403, answer.text
            told = answer.json()
            assert told["field"] == "base.dataset" and "--allow FILE.py:NAME" in told["detail"]
        unknown = service.ask("POST", "/sweeps", json=asked(**first_k))
        assert unknown.status_code == 422 and "name the number of tasks" in unknown.text
        assert not (storage / "a").exists()
        body = asked(base=BASE | {"dataset": example, "n_tasks": None})
        answer = service.ask("POST", "/sweeps", json=body)
        assert answer.status_code == 201, answer.text


def test_the_service_is_started_with_methods_that_exist(tmp_path: Path) -> None:
    from tune.service.serve import _allowed

    (tmp_path / "mine.py").write_text("")
    assert _allowed(f"{tmp_path}/mine.py:Mine") == f"{tmp_path / 'mine.py'}:Mine"
    for given, said in (("derpp", "give FILE.py:NAME"), ("gone.py:Mine", "no file .*gone.py")):
        with pytest.raises(UserError, match=said):
            _allowed(given)
