"""The searcher between Ray and the ledger, driven as Ray drives it."""

import json
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher

from dynamos.errors import UserError
from results.ledger import Ledger
from search_spaces.space import SearchSpace
from tests.results.test_ledger import config, driven
from tune.searcher import LedgerSearcher
from tune.sweep import slots


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with driven(Ledger.create(tmp_path, config(trials=3), {})) as made:
        yield made


def searcher(ledger: Ledger, slots: int = 2) -> LedgerSearcher:
    return LedgerSearcher(ledger, slots, [])


def said(*values: float, state: str | None = None, reason: str | None = None, attempt: int = 1) -> dict[str, Any]:
    results = [{"seed": 42, "result": {"task": t, "n_tasks": 5}, "metrics": {"val_class_il": v}}
               for t, v in enumerate(values)]
    return {"report": json.dumps({"attempt": attempt, "results": results, "state": state, "reason": reason})}


def test_nothing_is_suggested_ahead_of_a_free_slot_nor_beyond_the_budget(ledger: Ledger) -> None:
    s = searcher(ledger)
    assert s.suggest("a")["number"] == 0 and s.suggest("b")["number"] == 1
    assert s.suggest("c") is None and len(ledger.trials()) == 2
    s.on_trial_complete("a", said(90, 80, state="COMPLETE"))
    assert s.suggest("c")["number"] == 2
    s.on_trial_complete("b", said(90, 80, state="COMPLETE"))
    assert s.suggest("d") == Searcher.FINISHED


def test_a_suggestion_is_the_whole_configuration(ledger: Ledger) -> None:
    suggested = searcher(ledger).suggest("a")
    assert suggested["train"] == ledger.config.base.to_dict() and suggested["attempt"] == 1
    assert suggested["folder"] == str(ledger.folder / "trials" / "0000")


def test_every_report_carries_all_results_so_that_a_lost_one_is_made_up_for(ledger: Ledger) -> None:
    s = searcher(ledger)
    s.suggest("a")
    assert not s.enter("a", json.loads(said(90)["report"]))
    s.on_trial_complete("a", said(90, 70, 60, state="COMPLETE"))
    trial = ledger.trial(0)
    assert [r["metrics"]["val_class_il"] for r in trial.results[42]] == [90, 70, 60]
    assert (trial.state, trial.value) == ("COMPLETE", 60)


def test_how_a_trial_ends(ledger: Ledger) -> None:
    s = searcher(ledger, slots=9)
    for trial in ("diverged", "lost", "stopped"):
        s.suggest(trial)
    s.on_trial_complete("diverged", said(90, state="PRUNED", reason="non-finite: logits"))
    s.on_trial_complete("lost", error=True)
    s.on_trial_complete("stopped", said(50))
    ended = [(t.state, t.reason) for t in ledger.trials()]
    assert ended[0] == ("PRUNED", "non-finite: logits")
    assert ended[1][0] == "FAIL" and "its worker failed" in str(ended[1][1])
    assert ended[2] == ("INTERRUPTED", None)
    assert s.suggest("again")["number"] == 2


def test_out_of_time_nothing_starts_and_what_runs_is_put_back(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.config = config(trials=3, time_budget_seconds=3600.0)
    s = searcher(ledger)
    assert s.suggest("a")["number"] == 0 and not s.poll()
    monkeypatch.setattr("tune.searcher.time", SimpleNamespace(monotonic=lambda: math.inf))
    assert s.suggest("b") == Searcher.FINISHED and s.over == "the time budget is spent"
    s.interrupt()
    assert [t.state for t in ledger.trials()] == ["INTERRUPTED"]


def test_listeners_hear_of_every_change(ledger: Ledger) -> None:
    heard: list[tuple[int, str, int]] = []
    s = LedgerSearcher(ledger, 2, [lambda t: heard.append((t.number, t.state, t.tasks_done))])
    s.suggest("a")
    s.enter("a", json.loads(said(90)["report"]))
    s.on_trial_complete("a", said(90, 80, state="COMPLETE"))
    assert heard == [(0, "RUNNING", 0), (0, "RUNNING", 1), (0, "COMPLETE", 2)]


def test_values_that_do_not_go_together_fail_their_trial_and_the_sweep_goes_on(tmp_path: Path) -> None:
    space = SearchSpace.from_dict("s", {"parameters": {"nf": {"choices": [2, 32]},
                                                       "hidden_dim_ratio": {"choices": [16]}}})
    with driven(Ledger.create(tmp_path, config(space=space, trials=12), {})) as ledger:
        s = searcher(ledger, slots=99)
        suggested = []
        while (one := s.suggest(str(len(suggested)))) != Searcher.FINISHED:
            suggested.append(one["train"]["nf"])
        failed = [t for t in ledger.trials() if t.state == "FAIL"]
    assert failed and set(suggested) == {32} and len(suggested) + len(failed) == 12
    assert "leaves an agent without hidden units" in str(failed[0].reason)


def test_ray_may_pickle_it(ledger: Ledger) -> None:
    pickle.dumps(searcher(ledger))


@pytest.mark.parametrize("changes, resources, expected", [
    ({}, {"CPU": 8, "GPU": 0}, 8), ({"cpus_per_trial": 3.0}, {"CPU": 8, "GPU": 0}, 2),
    ({"max_concurrent": 2}, {"CPU": 8, "GPU": 0}, 2), ({"gpus_per_trial": 0.125}, {"CPU": 16, "GPU": 1}, 8),
    ({"gpus_per_trial": 1.0}, {"CPU": 16, "GPU": 4}, 4)])
def test_slots(changes: dict[str, Any], resources: dict[str, float], expected: int) -> None:
    assert slots(config(**changes), resources) == expected


def test_a_trial_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(UserError, match="--gpus-per-trial 1 is more than there is: 0"):
        slots(config(gpus_per_trial=1.0), {"CPU": 2, "GPU": 0})
