"""The searcher between Ray and the ledger, called as Ray calls it."""

import dataclasses
import json
import pickle
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.tune
from optuna.exceptions import StorageInternalError
from optuna.samplers import TPESampler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch
from sqlalchemy.exc import OperationalError

from dynamos.metrics import EpochReading
from results.definition.objectives import Constraint, Objective
from results.ledger.lease import LeaseLost
from results.ledger.ledger import Ledger
from results.strategy.samplers import SAMPLERS
from results.strategy.stopping import Gain
from results.sweep import Sweep
from results.trial import TrialRecord
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import config, driven, result
from tune.engine.report import LOST, OUT_OF_MEMORY, PUT_BACK, Report
from tune.engine.scheduler import LedgerScheduler
from tune.engine.searcher import LedgerSearcher
from tune.machines.slots import Departures, Node, Slot, Slots


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with driven(Ledger.create(tmp_path, config(trials=3), {})) as made:
        yield made


def room(ledger: Ledger, slots: int = 2) -> Slots:
    return Slots(ledger.config, lambda: [Node("n", "host", slots, slots)])


def searcher(ledger: Ledger, slots: int = 2) -> LedgerSearcher:
    return LedgerSearcher(ledger, room(ledger, slots), lambda trial: None)


def changes(suggestion: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(suggestion["changes"])
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """One ledger for tests that use only the trials that they start."""
    with driven(
        Ledger.create(tmp_path_factory.mktemp("shared"), config(trials=999, sampler="random"), {})
    ) as made:
        yield made


def said(
    *values: float,
    state: str | None = None,
    reason: str | None = None,
    attempt: int = 1,
    seed: int = 42,
    **metrics: float,
) -> Report:
    results = [result(t, 5, val_class_il=v, **metrics) for t, v in enumerate(values)]
    return Report(attempt, {seed: results}, state, reason, node="n")


def trains(attempt: int = 1) -> Report:
    """The first report of an attempt."""
    return Report(attempt, node="n", began=True)


def test_nothing_is_suggested_ahead_of_a_free_slot_nor_beyond_the_budget(ledger: Ledger) -> None:
    s = searcher(ledger)
    assert s.suggest("a")["number"] == 0 and s.suggest("b")["number"] == 1
    assert s.suggest("c") is None and len(ledger.trials()) == 2
    s.on_trial_complete("a", said(90, 80, state="COMPLETE").encode())
    assert s.suggest("c")["number"] == 2
    s.on_trial_complete("b", said(90, 80, state="COMPLETE").encode())
    assert s.suggest("d") is None, "what runs may come back"
    s.on_trial_complete("c", said(90, 80, state="COMPLETE").encode())
    assert s.suggest("d") == Searcher.FINISHED


def test_a_suggestion_is_what_a_trial_has_for_itself(ledger: Ledger) -> None:
    suggested = searcher(ledger).suggest("a")
    assert suggested == {
        "number": 0,
        "attempt": 1,
        "folders": json.dumps([str(ledger.folder / "trials" / "0000" / "attempt-1")]),
        "changes": json.dumps(ledger.trial(0).config),
        "seed": 42,
        "slot": '{"cpus": 1.0, "gpus": 0.0, "node": null, "cohort": 1, "worker": 0, "place": 0}',
    }
    assert changes(suggested)["lr"] == ledger.config.base.lr


def test_every_report_carries_all_results_so_that_a_lost_one_is_made_up_for(ledger: Ledger) -> None:
    s = searcher(ledger)
    s.suggest("a")
    assert not s.enter("a", said(90))
    s.on_trial_complete("a", said(90, 70, 60, state="COMPLETE").encode())
    trial = ledger.trial(0)
    assert [r.class_il for r in trial.results[42]] == [90, 70, 60]
    assert (trial.state, trial.value) == ("COMPLETE", 60)


def test_how_a_trial_ends(ledger: Ledger) -> None:
    ledger.config = config(trials=3, retries=0)
    s = searcher(ledger, slots=9)
    for trial in ("diverged", "lost", "stopped"):
        s.suggest(trial)
    s.on_trial_complete("diverged", said(90, state="PRUNED", reason="non-finite: logits").encode())
    s.on_trial_complete("lost", error=True)
    s.on_trial_complete("stopped", said(50).encode())
    ended = [(t.state, t.reason) for t in ledger.trials()]
    assert ended[0] == ("PRUNED", "non-finite: logits")
    assert ended[1][0] == "FAIL" and "its worker or node was lost 1 times" in str(ended[1][1])
    assert ended[2] == ("INTERRUPTED", None)
    assert s.suggest("again")["number"] == 2


def test_a_lost_trial_goes_on_in_a_new_attempt_as_often_as_is_retried(ledger: Ledger) -> None:
    ledger.config = config(trials=3, retries=2)
    s = searcher(ledger, slots=1)
    for attempt in (1, 2, 3):
        suggested = s.suggest(f"ray-{attempt}")
        assert (suggested["number"], suggested["attempt"]) == (0, attempt)
        s.enter(f"ray-{attempt}", said(90, attempt=attempt))
        s.on_trial_complete(f"ray-{attempt}", said(90, attempt=attempt).encode(), error=True)
        assert ledger.trial(0).losses == min(attempt, 2)
    trial = ledger.trial(0)
    assert (trial.state, trial.reason) == (
        "FAIL",
        "its worker or node was lost 3 times (sweep.log)",
    )
    assert s.suggest("next")["number"] == 1


def test_where_no_worker_lives_the_session_ends_and_no_trial_is_spent(tmp_path: Path) -> None:
    with driven(
        Ledger.create(tmp_path, config(trials=40, retries=0, sampler="random"), {})
    ) as ledger:
        s = searcher(ledger, slots=1)
        for number in range(11):
            s.suggest(str(number))
            s.on_trial_complete(str(number), error=True)
        assert s.failure is None
        s.suggest("11")
        s.enter("11", said(90))
        for number in range(12, 23):
            s.on_trial_complete(str(number - 1), error=True)
            s.suggest(str(number))
        assert s.failure is None and s.over is None, "one of them did something"
        s.on_trial_complete("22", error=True)
        assert "12 workers were lost in a row" in str(s.failure)
        assert s.suggest("more") == Searcher.FINISHED and "INTERRUPTED" in {
            t.state for t in ledger.trials()
        }


def test_a_trial_lost_at_the_end_of_the_budget_comes_back(ledger: Ledger) -> None:
    s = searcher(ledger, slots=3)
    for trial in "abc":
        s.suggest(trial)
    assert s.suggest("d") is None
    s.on_trial_complete("b", error=True)
    assert (s.suggest("d") or {})["number"] == 1


def test_a_trial_whose_node_left_before_it_began_is_put_back_and_loses_no_retry(
    ledger: Ledger,
) -> None:
    ledger.config = config(trials=3, retries=0)
    s = searcher(ledger, slots=1)
    assert s.suggest("a")["number"] == 0 and not s.stranded("a")
    s.on_trial_complete("a")
    assert s.suggest("b")["number"] == 0 and ledger.trial(0).losses == 0


def test_out_of_memory_a_trial_gets_more_of_a_gpu_once(ledger: Ledger) -> None:
    ledger.config = config(trials=3, gpus_per_trial=0.5, max_concurrent=1)
    s = searcher(ledger)
    for trial, share in (("a", 0.5), ("b", 1.0)):
        suggested = s.suggest(trial)
        assert (suggested["number"], json.loads(suggested["slot"])["gpus"]) == (0, share)
        lacking = said(
            90, attempt=suggested["attempt"], state=OUT_OF_MEMORY, reason="out of memory: much"
        )
        s.on_trial_complete(trial, lacking.encode())
    record = ledger.trial(0)
    assert (record.state, record.reason, record.losses) == ("FAIL", "out of memory: much", 0)
    assert json.loads(s.suggest("c")["slot"])["gpus"] == 1.0, "the node stays as it is packed now"


class FakeHosts:
    """Records its calls; a host is named after its worker, and after its losses."""

    def __init__(self) -> None:
        self.left: list[tuple[str, int, int]] = []
        self.lines: list[str] = []  # for the user
        self.losses = 0
        self.unheard: set[str] = set()  # nodes

    def silent(self) -> set[str]:
        return self.unheard

    def of(self, slot: Slot, taken: Iterable[Slot]) -> str:
        return f"{slot.worker}.{self.losses}"

    def leave(self, slot: Slot, name: str, ticket: int) -> None:
        self.left.append((name, slot.place, ticket))

    def lost(self, slot: Slot, name: str) -> bool:
        known = name != self.of(slot, ())
        self.losses += not known
        return not known


def hosted(ledger: Ledger, workers: int = 1, **fields: Any) -> tuple[LedgerSearcher, FakeHosts]:
    """A searcher whose workers train several trials each."""
    ledger.config = dataclasses.replace(ledger.config, **fields)
    hosts: Any = FakeHosts()
    slots = Slots(ledger.config, lambda: [Node("n", "host", workers, 0)])
    return LedgerSearcher(ledger, slots, lambda trial: None, hosts, hosts.lines.append), hosts


def placed(suggestion: dict[str, Any]) -> tuple[int, str, int]:
    """(number, host, place) of a suggestion."""
    return suggestion["number"], suggestion["host"], json.loads(suggestion["slot"])["place"]


def test_trials_share_a_host_and_each_leaves_its_place_at_its_end(tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(trials=5), {})) as ledger:
        s, hosts = hosted(ledger, cohort=2, cpus_per_trial=1.0)
        suggested = [s.suggest(name) for name in "ab"]
        assert [placed(one) for one in suggested] == [(0, "0.0", 0), (1, "0.0", 1)]
        assert [one["ticket"] for one in suggested] == [1, 2] and s.suggest("c") is None
        s.enter("a", dataclasses.replace(trains(), cohort=2))
        s.on_trial_complete("b", said(90, state="COMPLETE").encode())
        assert hosts.left == [("0.0", 1, 2)]
        assert placed(s.suggest("c")) == (2, "0.0", 1)
        s.on_trial_complete("c", error=True)
        assert hosts.left[1:] == [("0.0", 1, 3)], "its process was lost, not its host"
        s.on_trial_complete("a", said(90, 80, state="COMPLETE").encode())
        trial = ledger.trial(0)
        assert trial.cohorts == (2,) and trial.seconds is not None
        assert trial.cpu_seconds == pytest.approx(trial.seconds / 2, rel=0.01)


def test_a_lost_host_counts_once_and_its_trials_continue_in_their_places(tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(trials=40, sampler="random"), {})) as ledger:
        s, hosts = hosted(ledger, cohort=2, retries=99)
        lost = Report(1, state=LOST)
        for attempt in range(1, 12):
            found = [placed(s.suggest(name)) for name in "ab"]
            assert found == [(n, f"0.{attempt - 1}", n) for n in range(2)]
            for name in "ba":
                s.enter(name, lost)
                s.on_trial_complete(name, lost.encode())
            assert hosts.losses == attempt
        assert s.failure is None and {ledger.trial(n).losses for n in range(2)} == {11}
        s.suggest("a")
        s.on_trial_complete("a", lost.encode())
        assert "12 workers were lost in a row" in str(s.failure)


def leaving(ledger: Ledger, announced: set[str], **fields: Any) -> LedgerSearcher:
    """A searcher on two nodes, n and m, which takes no trial on those that are about to leave."""
    ledger.config = dataclasses.replace(ledger.config, **fields)
    nodes = [Node("n", "host", 1, 0), Node("m", "host", 1, 0)]
    slots = Slots(
        ledger.config,
        lambda: [node for node in nodes if node.id not in announced],
        Departures(announced, announced),
    )
    return LedgerSearcher(ledger, slots, lambda trial: None)


def test_a_trial_moves_after_its_task_when_its_node_is_about_to_leave(tmp_path: Path) -> None:
    announced = set[str]()
    with driven(Ledger.create(tmp_path, config(trials=2), {})) as ledger:
        s = leaving(ledger, announced)
        s.suggest("a")
        s.enter("a", trains())
        assert not s.enter("a", said(90))
        announced.add("n")
        assert s.enter("a", said(90, 80))
        s.on_trial_complete("a", said(90, 80).encode())
        trial = ledger.trial(0)
        assert (trial.state, trial.losses, trial.tasks_done) == ("INTERRUPTED", 0, 2)
        suggested = s.suggest("b")
        assert (suggested["number"], suggested["attempt"]) == (0, 2)
        assert not s.enter("b", dataclasses.replace(trains(2), node="m"))
        assert not s.enter("b", dataclasses.replace(said(90, 80, 70, attempt=2), node="m"))


def test_a_trial_that_ends_on_a_node_that_is_about_to_leave_is_not_moved(tmp_path: Path) -> None:
    announced = {"n"}
    with driven(Ledger.create(tmp_path, config(trials=2), {})) as ledger:
        s = leaving(ledger, announced)
        s.suggest("a")
        s.enter("a", trains())
        last = said(90, 80, 70, 60, 50, state="COMPLETE")
        assert not s.enter("a", last)
        s.on_trial_complete("a", last.encode())
        assert ledger.trial(0).state == "COMPLETE"


def test_the_departure_of_a_node_that_announced_it_is_no_loss(tmp_path: Path) -> None:
    announced = set[str]()
    with driven(Ledger.create(tmp_path, config(trials=2), {})) as ledger:
        s = leaving(ledger, announced, retries=0)
        s.suggest("a")
        s.enter("a", trains())
        announced.add("n")
        s.on_trial_complete("a", error=True)
        assert (ledger.trial(0).state, ledger.trial(0).losses) == ("INTERRUPTED", 0)
        assert s.suggest("b")["number"] == 0
        s.enter("b", dataclasses.replace(trains(2), node="m"))
        s.on_trial_complete("b", error=True)
        assert (ledger.trial(0).state, ledger.trial(0).losses) == ("FAIL", 0)


def test_no_trial_goes_to_a_node_that_lost_its_host_and_does_not_answer(tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(trials=3), {})) as ledger:
        s, hosts = hosted(ledger, cohort=2)
        hosts.unheard = {"n"}
        assert s.suggest("a") is None
        hosts.unheard = {"m"}
        assert placed(s.suggest("a")) == (0, "0.0", 0)


def test_a_trial_whose_host_is_always_lost_fails_with_the_error_of_its_program(
    tmp_path: Path,
) -> None:
    with driven(Ledger.create(tmp_path, config(trials=3), {})) as ledger:
        s, _ = hosted(ledger, cohort=2, retries=0)
        s.suggest("a")
        s.on_trial_complete("a", Report(1, state=LOST, reason="RuntimeError: a bug").encode())
        assert (ledger.trial(0).state, ledger.trial(0).reason) == ("FAIL", "RuntimeError: a bug")


def test_without_memory_a_worker_trains_half_as_many_and_none_of_its_trials_is_spent(
    tmp_path: Path,
) -> None:
    with driven(Ledger.create(tmp_path, config(trials=9), {})) as ledger:
        s, hosts = hosted(ledger, cohort=4)
        for cohort in (4, 2):
            for name in "abcd"[:cohort]:
                slot = json.loads(s.suggest(name)["slot"])
                assert slot["cohort"] == cohort
            for name in "abcd"[:cohort]:
                lacking = said(
                    attempt=ledger.trial("abcd".index(name)).attempt,
                    state=OUT_OF_MEMORY,
                    reason="out of memory: much",
                )
                s.on_trial_complete(name, lacking.encode())
        assert [t.state for t in ledger.trials()[:4]] == ["INTERRUPTED"] * 4
        assert hosts.lines == [
            "memory ran out: host trains 2 trials in a worker from now on",
            "memory ran out: host trains 1 trial in a worker from now on",
        ]
        alone = s.suggest("a")
        assert placed(alone)[::2] == (0, 0) and s.suggest("b") is None
        lacking = dataclasses.replace(lacking, attempt=alone["attempt"])
        s.on_trial_complete("a", lacking.encode())
        assert ledger.trial(0).state == "FAIL"


def test_in_deterministic_order_the_place_of_a_trial_follows_from_its_number(
    tmp_path: Path,
) -> None:
    fields: dict[str, Any] = {"cohort": 2, "deterministic_order": True, "sampler": "random"}
    with driven(Ledger.create(tmp_path, config(trials=8, **fields), {})) as ledger:
        s, _ = hosted(ledger, workers=2)
        found = [placed(s.suggest(name)) for name in "abcd"]
        assert [(number, place) for number, _, place in found] == [(0, 0), (1, 1), (2, 0), (3, 1)]
        assert s.suggest("e") is None
        for name in "dcba":
            s.enter(name, trains())
        for name in "bd":
            s.on_trial_complete(name, said(90, state="COMPLETE").encode())
        s.on_trial_complete("c", error=True)
        assert placed(s.suggest("c"))[::2] == (2, 0), "in the same place of whatever worker"
        s.interrupt()
    with driven(Ledger.open(tmp_path, "s")) as ledger:
        s, _ = hosted(ledger, workers=1)
        assert [placed(s.suggest(name))[::2] for name in "ab"] == [(0, 0), (1, 1)]
        assert s.suggest("c") is None, "place 0 is taken"


def test_a_resumed_trial_takes_the_place_that_it_had(tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(trials=8), {})) as ledger:
        s, _ = hosted(ledger, cohort=3)
        for name in "abc":
            s.suggest(name)
        s.on_trial_complete("a", said(90, state="COMPLETE").encode())
        s.interrupt()
    with driven(Ledger.open(tmp_path, "s")) as ledger:
        s, _ = hosted(ledger, cohort=3)
        assert [placed(s.suggest(name))[::2] for name in "bca"] == [(1, 1), (2, 2), (3, 0)]


def test_after_the_time_budget_no_trial_starts_and_running_ones_are_interrupted(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.config = config(trials=3, time_budget_seconds=3600.0)
    s = searcher(ledger)
    now = [0.0]
    monkeypatch.setattr("tune.engine.searcher.time", SimpleNamespace(monotonic=lambda: now[0]))
    assert s.suggest("a")["number"] == 0
    now[0] = 9999.0
    assert not s.poll(), "no trial could train yet"
    s.enter("a", trains())
    assert s.suggest("b")["number"] == 1
    now[0] += 1800.0
    s.enter("b", trains())
    now[0] += 1799.0
    assert not s.poll()
    now[0] += 2.0
    assert s.suggest("c") == Searcher.FINISHED and s.over == "the time budget is spent"
    s.interrupt()
    assert [t.state for t in ledger.trials()] == ["INTERRUPTED"] * 2


def test_the_listener_hears_of_every_change(ledger: Ledger) -> None:
    heard: list[tuple[int, str, int]] = []
    s = LedgerSearcher(
        ledger, room(ledger), lambda t: heard.append((t.number, t.state, t.tasks_done))
    )
    s.suggest("a")
    s.enter("a", trains())
    s.enter("a", said(90))
    s.on_trial_complete("a", said(90, 80, state="COMPLETE").encode())
    assert heard == [(0, "RUNNING", 0), (0, "RUNNING", 0), (0, "RUNNING", 1), (0, "COMPLETE", 2)]


def test_values_that_do_not_go_together_fail_their_trial_and_the_sweep_goes_on(
    tmp_path: Path,
) -> None:
    space = SearchSpace.from_dict(
        "s", {"parameters": {"nf": {"choices": [2, 32, 48]}, "hidden_dim_ratio": {"choices": [16]}}}
    )
    with driven(Ledger.create(tmp_path, config(space=space, trials=3), {})) as ledger:
        s = searcher(ledger, slots=99)
        suggested: list[int] = []
        while (one := s.suggest(str(len(suggested)))) is not None:
            suggested.append(changes(one)["nf"])
        failed = [t for t in ledger.trials() if t.state == "FAIL"]
    assert len(failed) == 1 and sorted(suggested) == [32, 48]
    assert "leaves an agent without hidden units" in str(failed[0].reason)


FALLING = (90, 80, 70, 60, 50)
POOR_AFTER_TWO = (90, 10, 75, 65, 55)


def with_five_finished(ledger: Ledger) -> LedgerSearcher:
    s = searcher(ledger, slots=1)
    for number in range(5):
        assert s.suggest(str(number))["number"] == number
        s.on_trial_complete(str(number), said(*FALLING, state="COMPLETE").encode())
    return s


def test_stock_optuna_chooses_a_trial_that_was_cut_short_and_ours_the_best_finished(
    tmp_path: Path,
) -> None:
    # Class-il falls as tasks arrive, so that the earlier a trial is stopped the better it looks.
    curves = [(97.0, 88.0, 80.0, 78.0, 75.0), (98.9,), (96.0, 92.0, 87.0, 84.0, 82.7)]
    stock = OptunaSearch({"lr": ray.tune.uniform(0.01, 0.2)}, metric="class_il", mode="max")
    for number, curve in enumerate(curves):
        stock.suggest(str(number))
        for task, value in enumerate(curve, start=1):
            stock.on_trial_result(str(number), {"class_il": value, "training_iteration": task})
        stock.on_trial_complete(
            str(number), {"class_il": curve[-1], "training_iteration": len(curve)}
        )
    assert stock._ot_study is not None and stock._ot_study.best_trial.number == 1
    with driven(Ledger.create(tmp_path, config(trials=3, sampler="random"), {})) as ledger:
        s = searcher(ledger)
        for number, curve in enumerate(curves):
            s.suggest(str(number))
            s.on_trial_complete(
                str(number),
                (
                    said(*curve, state="COMPLETE")
                    if len(curve) == 5
                    else said(*curve, state="PRUNED", reason="halving")
                ).encode(),
            )
        chosen = Sweep.of(ledger).leader
    assert chosen is not None and (chosen.number, chosen.value) == (2, 82.7)


@pytest.mark.parametrize("entered", [1, 2])
def test_a_decision_that_a_kill_prevented_is_made_up_for(entered: int, tmp_path: Path) -> None:
    with driven(
        Ledger.create(tmp_path, config(trials=6, pruner="median", sampler="random"), {})
    ) as ledger:
        s = with_five_finished(ledger)
        s.suggest("x")
        s.enter("x", said(*POOR_AFTER_TWO[:entered]))  # killed here
    with driven(Ledger.open(tmp_path, "s")) as ledger:
        s = searcher(ledger, slots=1)
        if entered == 2:  # the ledger has the result, so the trial is not started again
            assert s.suggest("x") == Searcher.FINISHED
        # only a checkpoint has the result; the next report has it together with the following one
        else:
            assert s.suggest("x")["number"] == 5
            assert s.enter("x", said(*POOR_AFTER_TWO[:3], attempt=2))
            s.on_trial_complete("x", said(*POOR_AFTER_TWO[:3], attempt=2).encode())
        trial = ledger.trial(5)
        assert trial.state == "PRUNED" and "after task 2" in str(trial.reason)


def test_in_deterministic_order_a_trial_that_was_to_be_pruned_is_so_after_a_stop(
    tmp_path: Path,
) -> None:
    made = config(trials=8, pruner="median", sampler="random", deterministic_order=True)
    with driven(Ledger.create(tmp_path, made, {})) as ledger:
        s = searcher(ledger)
        for batch in range(4):
            for name in "ab":
                s.suggest(name)
                s.enter(name, trains())
            for name in "ab" if batch < 3 else "":
                s.on_trial_complete(name, said(*FALLING, state="COMPLETE").encode())
        assert s.enter("b", said(*POOR_AFTER_TWO[:2]))
        s.on_trial_complete("b", said(*POOR_AFTER_TWO[:2]).encode())
        held = ledger.trial(7)
        time.sleep(0.01)
        assert (
            held.held
            and held.state == "RUNNING"
            and ledger.trial(7).cpu_seconds == held.cpu_seconds
        )
        assert (
            not ledger.trial(6).held and ledger.trial(6).cpu_seconds < ledger.trial(6).cpu_seconds
        )
        s.interrupt()
        assert not ledger.trial(7).held and ledger.trial(7).cpu_seconds == pytest.approx(
            held.cpu_seconds, abs=1e-3
        )
    with driven(Ledger.open(tmp_path, "s")) as ledger:
        s = searcher(ledger)
        assert s.suggest("a")["number"] == 6
        assert s.suggest("b") is None and [t.state for t in ledger.trials()[6:]] == [
            "RUNNING",
            "RUNNING",
        ]
        s.on_trial_complete("a", said(*FALLING, state="COMPLETE", attempt=2).encode())
        assert [t.state for t in ledger.trials()[6:]] == ["COMPLETE", "PRUNED"]


def test_a_disk_without_room_puts_the_trial_back_and_ends_the_session(ledger: Ledger) -> None:
    s = searcher(ledger)
    s.suggest("a")
    s.on_trial_complete(
        "a", said(90, state=PUT_BACK, reason="no room to write in attempt-1").encode()
    )
    assert (s.over, str(s.failure)) == (
        "a machine cannot continue a trial",
        "trial 0: no room to write in attempt-1",
    )
    assert s.suggest("b") == Searcher.FINISHED
    trial = ledger.trial(0)
    assert (trial.state, trial.tasks_done, trial.reason) == ("INTERRUPTED", 1, None)


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("UPDATE", {}, Exception("database is locked")),
        LeaseLost("another process has taken over"),
        StorageInternalError("An exception is raised during the commit."),
    ],
)
@pytest.mark.parametrize("callback", ["enter", "on_trial_complete"])
def test_an_error_of_the_ledger_ends_the_session_and_is_not_taken_for_the_trials(
    error: Exception, callback: str, shared: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = searcher(shared, slots=1)
    s.suggest("a")

    def failing(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add_result", failing)
        if callback == "enter":
            assert not s.enter("a", said(90))
        else:
            s.on_trial_complete("a", said(90, state="COMPLETE").encode())
    assert s.failure is error and s.poll() and s.suggest("b") == Searcher.FINISHED
    shared.begin()  # as the next session does


def test_a_bug_is_not_taken_for_an_error_of_the_ledger(shared: Ledger) -> None:
    s = searcher(shared, slots=1)
    s.suggest("a")
    with pytest.raises(KeyError):
        s.enter("nobody", said(90))
    s.interrupt()


def test_someone_asks_the_sweep_to_stop(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune.engine.searcher.POLL_SECONDS", 0)
    s = searcher(ledger)
    s.suggest("a")
    assert not s.poll()
    Ledger.open(ledger.folder.parent, "s").request_stop()
    assert s.poll() and s.over == "stopped on request" and s.suggest("b") == Searcher.FINISHED
    s.on_trial_complete("a")  # Ray ends what runs
    assert [t.state for t in ledger.trials()] == ["INTERRUPTED"]


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_seconds_held_are_a_budget(
    kind: str, shared: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.engine.searcher.POLL_SECONDS", 0)
    budget: dict[str, Any] = {f"{kind}_budget_seconds": 60.0}
    monkeypatch.setattr(
        shared, "config", dataclasses.replace(shared.config, gpus_per_trial=1.0, **budget)
    )
    spent = {"cpu": 0.0, "gpu": 0.0}
    monkeypatch.setattr(shared, "spent", spent.__getitem__)
    s = searcher(shared, slots=1)
    assert isinstance(s.suggest("a"), dict)
    spent[kind] = 59.9
    assert not s.poll()
    spent[kind] = 60.0
    assert s.poll() and s.over == f"the {kind.upper()} budget is spent"
    s.interrupt()
    assert searcher(shared).suggest("a") == Searcher.FINISHED, "it is spent for later sessions too"


def test_the_target_ends_a_sweep_and_is_remembered(tmp_path: Path) -> None:
    made = config(
        trials=9,
        target=0.5,
        objectives=(Objective.parse("compute:min"),),
        constraints=(Constraint.parse("val_class_il>=50"),),
        sampler="random",
    )
    with driven(Ledger.create(tmp_path, made, {})) as ledger:
        s = searcher(ledger)
        for compute, accuracy, state in (
            (0.4, 90.0, "PRUNED"),
            (0.4, 49.0, "COMPLETE"),
            (0.51, 90.0, "COMPLETE"),
        ):
            s.suggest("a")
            s.on_trial_complete(
                "a", said(accuracy, state=state, reason="", compute=compute).encode()
            )
            assert not s.poll(), "one cut short, one that breaks the constraint, one not far enough"
        s.suggest("a")
        s.on_trial_complete("a", said(50.0, state="COMPLETE", compute=0.5).encode())
        reached = "trial 3 reached the target with compute 0.5"
        assert s.over == reached and s.suggest("b") == Searcher.FINISHED
    with driven(Ledger.open(tmp_path, "s")) as again:
        s = searcher(again)
        assert (
            s.over == reached and s.suggest("a") == Searcher.FINISHED and len(again.trials()) == 4
        )


def test_a_trial_is_pruned_after_its_result_was_entered(tmp_path: Path) -> None:
    made = config(pruner="halving", grace_tasks=1, sampler="random")
    with driven(Ledger.create(tmp_path, made, {})) as ledger:
        s = searcher(ledger)
        decisions = []
        for trial, value in (("a", 90.0), ("b", 50.0)):
            s.suggest(trial)
            scheduler = LedgerScheduler(s, room(ledger))
            decisions.append(
                scheduler.on_trial_result(
                    None, SimpleNamespace(trial_id=trial), said(value).encode()
                )
            )
        assert decisions == [LedgerScheduler.CONTINUE, LedgerScheduler.STOP]
        assert ledger.trial(1).state == "RUNNING" and ledger.trial(1).tasks_done == 1
        s.on_trial_complete("b", said(50).encode())
        reason = "halving: val_class_il 50.00 after task 1 is not among the best 1 of the 2 so far"
        assert (ledger.trial(1).state, ledger.trial(1).reason) == ("PRUNED", reason)
        s.on_trial_complete("a", said(90).encode())
        assert ledger.trial(0).state == "INTERRUPTED", "it was stopped by nobody's judgement"


def test_a_trial_is_pruned_within_a_task_and_a_reading_is_entered_once(tmp_path: Path) -> None:
    made = config(pruner="halving", grace_epochs=2, sampler="random")
    assert made.base.n_epochs == 3

    def read(value: float, attempt: int = 1) -> Report:
        one = EpochReading(epochs=2, evaluated_on="validation", class_il=value, task_il=None)
        return Report(attempt, {42: []}, node="n", readings={42: [one]})

    with driven(Ledger.create(tmp_path, made, {})) as ledger:
        s = searcher(ledger)
        s.suggest("a")
        s.suggest("b")
        assert not s.enter("a", read(50.0)) and not s.enter("a", read(50.0))
        assert ledger.trial(0).epochs_read == [2] and ledger.trial(0).tasks_done == 0
        assert s.enter("b", Report.decode(read(40.0).encode()))
        s.on_trial_complete("b", read(40.0).encode())
        reason = (
            "halving: val_class_il 40.00 after epoch 2 of the run, in task 1, is not among the "
            "best 1 of the 2 so far"
        )
        assert (ledger.trial(1).state, ledger.trial(1).reason) == ("PRUNED", reason)
        s.interrupt()
    with driven(Ledger.open(tmp_path, "s")) as again:
        s = searcher(again)
        assert s.suggest("a")["number"] == 0, "it passed before, and continues"
        assert not s.enter("a", read(49.0, attempt=2)), "a repeated reading decides nothing"
        found = again.trial(0).reading_entries()
        assert found == {"42": [{"epochs": 2, "val_class_il": 50.0}]}
        assert not s.enter("a", read(1.0, attempt=1)), "of an attempt that is over"


def test_in_deterministic_order_a_batch_is_told_whole_by_number(tmp_path: Path) -> None:
    made = config(trials=5, deterministic_order=True, sampler="random")
    with driven(Ledger.create(tmp_path, made, {})) as ledger:
        told: list[tuple[int, str]] = []
        s = LedgerSearcher(ledger, room(ledger), lambda t: told.append((t.number, t.state)))
        assert [s.suggest(t)["number"] for t in "ab"] == [0, 1] and s.suggest("c") is None
        assert not s.enter("a", trains()) and not s.enter("b", trains())
        s.on_trial_complete("b", said(90, 80, state="COMPLETE").encode())
        assert (
            s.suggest("c") is None
            and ledger.trial(1).state == "RUNNING"
            and ledger.trial(1).tasks_done == 2
        )
        told.clear()
        time.sleep(0.2)
        s.on_trial_complete("a", said(70, state="FAIL", reason="a bug").encode())
        assert told == [(0, "FAIL"), (1, "COMPLETE")]
        first, second = (ledger.trial(n).seconds or 0.0 for n in (0, 1))
        assert first - second >= 0.2, "what trial 1 waited is not its own"
        assert [s.suggest(t)["number"] for t in "cd"] == [2, 3]
        s.on_trial_complete("d", said(60, state="COMPLETE").encode())
        s.interrupt()
        assert [t.state for t in ledger.trials()] == [
            "FAIL",
            "COMPLETE",
            "INTERRUPTED",
            "INTERRUPTED",
        ]
    with driven(Ledger.open(tmp_path, "s")) as again:
        s = searcher(again, slots=1)  # the batch is as large as it was
        assert s.suggest("c")["number"] == 2 and len(again.trials()) == 4
        assert again.trial(3).state == "INTERRUPTED", "nothing is asked for ahead of a free slot"
        s.on_trial_complete("c", said(50, state="COMPLETE", attempt=2).encode())
        assert again.trial(2).state == "RUNNING" and s.suggest("d")["number"] == 3
        s.on_trial_complete("d", said(60, state="COMPLETE", attempt=2).encode())
        assert [again.trial(n).state for n in (2, 3)] == ["COMPLETE"] * 2 and s.suggest("e")[
            "number"
        ] == 4


class Killed(BaseException):
    """Stands for the end of a driver."""


def play(ledger: Ledger, slots: int, backwards: bool) -> None:
    """Run a session to its end. The trial that started first ends first; with `backwards`, the one
    that started last. Trial 4 fails. A value depends on the configuration and the seed."""
    s, running = searcher(ledger, slots), {}
    for name in map(str, range(999)):
        one = s.suggest(name)
        if isinstance(one, dict):
            running[name] = one
            continue
        if one == Searcher.FINISHED:
            return
        name = list(running)[-1 if backwards else 0]
        one = running.pop(name)
        state = "FAIL" if one["number"] == 4 else "COMPLETE"
        s.on_trial_complete(
            name,
            said(
                90 * changes(one)["keep_ratio"] + one["seed"] % 7,
                state=state,
                attempt=one["attempt"],
                seed=one["seed"],
            ).encode(),
        )


def in_batches_of_three(
    storage: Path,
    name: str,
    backwards: bool = False,
    told: int = 99,
    slots: int = 3,
    **fields: Any,
) -> list[TrialRecord]:
    """Return the trials of a sweep whose driver is killed after it has entered `told` ends of
    trials. The next driver has `slots` slots."""
    made = {"trials": 7, "deterministic_order": True, "seed": 3} | fields
    Ledger.create(storage, config(name, **made), {})
    left = iter(range(told))
    with (
        suppress(Killed),
        driven(Ledger.open(storage, name)) as ledger,
        pytest.MonkeyPatch.context() as patch,
    ):
        finish = ledger.finish

        def tell(*arguments: Any) -> None:
            if next(left, None) is None:
                raise Killed
            finish(*arguments)

        patch.setattr(ledger, "finish", tell)
        play(ledger, 3, backwards)
    with driven(Ledger.open(storage, name)) as ledger:
        play(ledger, slots, backwards)
        after = ["COMPLETE"] * (made["trials"] - 5)
        assert [t.state for t in ledger.trials()] == ["COMPLETE"] * 4 + ["FAIL"] + after
        return ledger.trials()


def tried(trials: list[TrialRecord]) -> list[tuple[str, dict[str, Any], int | None]]:
    return [(t.source, t.config, t.seed) for t in trials]


def test_in_deterministic_order_neither_timing_nor_kills_nor_slots_change_what_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # TPE as it is after ten trials, from the second on.
    monkeypatch.setitem(
        SAMPLERS,
        "tpe",
        lambda draw: TPESampler(
            multivariate=True,
            constant_liar=True,
            n_startup_trials=2,
            seed=100 * draw.seed + draw.number,
        ),
    )
    undisturbed = tried(in_batches_of_three(tmp_path, "undisturbed"))
    killed = in_batches_of_three(tmp_path, "killed", backwards=True, told=4, slots=2)
    assert tried(killed) == undisturbed
    assert tried(in_batches_of_three(tmp_path, "between", told=3, slots=1)) == undisturbed


def test_nor_do_they_change_replicates_and_a_race(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"trials": 16, "race": 2, "replicates": 0.2, "seed_policy": "fresh"}
    undisturbed = tried(in_batches_of_three(tmp_path, "undisturbed", **fields))
    kinds = [source.partition(":")[0] for source, *_ in undisturbed]
    assert kinds.count("replicate") == 2 and kinds[12:] == ["race"] * 4
    for told, slots, backwards in ((9, 1, False), (13, 2, True), (14, 3, True)):
        name = f"after-{told}"
        found = in_batches_of_three(tmp_path, name, backwards, told, slots, **fields)
        assert tried(found) == undisturbed, f"killed after {told} ends"


def test_a_replicate_is_neither_pruned_nor_a_bar_for_others(tmp_path: Path) -> None:
    made = config(pruner="median", grace_tasks=1, trials=12, replicates=0.5)
    with driven(Ledger.create(tmp_path, made, {})) as ledger:
        s = searcher(ledger)
        for name in "abcdef":
            seed = s.suggest(name)["seed"]
            s.on_trial_complete(name, said(90, 80, 70, state="COMPLETE", seed=seed).encode())
        again = s.suggest("again")
        assert ledger.trial(6).replicates == 0
        s.enter("again", trains())
        assert not s.enter("again", said(10, seed=again["seed"])), "the others had 90"
        s.on_trial_complete("again", said(10, 9, 8, state="COMPLETE", seed=again["seed"]).encode())
        assert ledger.trial(6).value == 8


def test_ray_may_pickle_it(ledger: Ledger) -> None:
    pickle.dumps(searcher(ledger))


def test_the_search_ends_when_little_is_left_to_gain_also_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("results.strategy.stopping.LEAST_TRIALS", 3)
    monkeypatch.setattr("results.strategy.stopping.TRIALS_PER_FIELD", 0)
    judged = []

    def little(sweep: Sweep) -> Gain:
        judged.append(len(sweep.complete))
        return Gain(1, 0.1, 1.0 if len(sweep.complete) >= 4 else 0.0)

    monkeypatch.setattr("tune.engine.limits.gain", little)
    made = config(trials=9, sampler="random", stop_when_done=True)
    with driven(Ledger.create(tmp_path, made, {})) as there:
        s = searcher(there, slots=2)
        for place in range(4):
            s.suggest(f"ray-{place}")
            s.suggest(f"next-{place}") if place == 3 else None
            if place == 3:  # a kill after the trial's end and before the judgement
                monkeypatch.setattr(LedgerSearcher, "_judge_search", lambda self: None)
            s.on_trial_complete(f"ray-{place}", said(90, 80, state="COMPLETE").encode())
        assert judged == [3] and there.done is None
    monkeypatch.undo()
    monkeypatch.setattr("results.strategy.stopping.LEAST_TRIALS", 3)
    monkeypatch.setattr("results.strategy.stopping.TRIALS_PER_FIELD", 0)
    monkeypatch.setattr("tune.engine.limits.gain", little)
    with driven(Ledger.open(tmp_path, "s")) as there:
        s = searcher(there)
        assert there.done is not None and there.done.startswith(
            "the search ended: after 4 complete trials, a model expects at most 0.10 of "
        )
        again = s.suggest("again")
        assert again["number"] == 4, "the trial that the kill cut off is finished"
        assert s.suggest("more") is None
        s.on_trial_complete("again", said(90, 80, state="COMPLETE", attempt=2).encode())
        assert s.suggest("more") == Searcher.FINISHED
        assert judged == [3, 4] and there.state.left == 0 and s.over is None
