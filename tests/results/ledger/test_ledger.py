import csv
import dataclasses
import datetime as dt
import io
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pandas as pd
import pytest
import yaml
from upath import UPath

from dynamos.config import TrainConfig, preset, read_config
from dynamos.errors import RunError, UserError
from results import sweep_names
from results.analysis.headline import answer
from results.choice import Choice, train_config
from results.definition.objectives import Constraint
from results.frames import COLUMNS, write_trials
from results.ledger import batch, holder, lease
from results.ledger import ledger as ledgers
from results.ledger.ledger import Ledger
from results.ledger.study import make_study
from results.names import NON_FINITE, STOP_FILE, STOPPED
from results.pages.best_config import export
from results.pages.report import write_report
from results.sweep import Sweep
from results.trial import newest
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import (
    ONE,
    SEED,
    begun,
    complete,
    config,
    confirmed,
    driven,
    report,
    result,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with driven(Ledger.create(tmp_path, config(), {"id": "7", "git_revision": "abc"})) as made:
        yield made


def study_of(ledger: Ledger) -> optuna.Study:
    """The study, opened as another program such as optuna-dashboard would open it."""
    return optuna.load_study(
        study_name=f"{ledger.config.name}-{ledger.record['id'][:8]}",
        storage=f"sqlite:///{ledger.folder / 'ledger.db'}",
    )


def test_trial_0_is_the_preset_whatever_the_sampler(ledger: Ledger) -> None:
    record = ledger.ask()
    assert (record.number, record.source, record.state) == (0, "preset", "RUNNING")
    assert train_config(ledger.config, record) == ledger.config.base
    assert ledger.ask().source == "sampler"


def test_begin_is_repeatable(ledger: Ledger) -> None:
    ledger.begin()
    ledger.begin()
    assert len(ledger.trials()) == 1


def test_an_interrupted_trial_comes_back_first_with_its_number_parameters_and_results(
    tmp_path: Path,
) -> None:
    with driven(Ledger.create(tmp_path, config(), {})) as ledger:
        begun(ledger)
        before = begun(ledger)
        report(ledger, 1, 90.0)
        complete(ledger, 100, 80)
    with driven(Ledger.open(tmp_path, "s")) as again:
        assert [t.state for t in again.trials()] == ["INTERRUPTED", "INTERRUPTED", "COMPLETE"]
        assert again.ask().number == 0
        after = again.ask()
        assert (after.number, after.config, after.attempt) == (1, before.config, 2)
        assert after.started_at == before.started_at and after.tasks_done == 1
        assert again.remaining() == 1


def test_the_budget_counts_every_trial_once_and_can_be_extended(ledger: Ledger) -> None:
    for _ in range(4):
        complete(ledger, 50)
    assert ledger.remaining() == 0
    ledger.extend(3)
    assert (ledger.budget, ledger.remaining()) == (7, 3)
    assert Ledger.open(ledger.folder.parent, "s").budget == 7


def test_a_failed_trial_is_run_again_as_a_new_one_of_its_configuration(ledger: Ledger) -> None:
    ledger.ask()
    failed = ledger.ask()
    ledger.finish(0, "PRUNED", STOPPED)
    ledger.finish(1, "FAIL", "a full cup")
    left = ledger.remaining()
    ledger.rerun([1, 0])
    assert (ledger.budget, ledger.remaining()) == (6, left + 2), (
        "each counts once, beside those that were asked for"
    )
    again = ledger.ask()
    assert (again.number, again.source, again.reruns, again.config) == (
        2,
        "rerun:1",
        1,
        failed.config,
    )
    assert ledger.attempts(again) == [
        ledger.trial_folder(2) / "attempt-1",
        ledger.trial_folder(1) / "attempt-1",
    ]
    report(ledger, 2, 80.0, 70.0)
    ledger.finish(2, "COMPLETE")
    assert ledger.ask().reruns == 0 and ledger.trial(1).reason == "a full cup", (
        "the failed one stays as it was"
    )
    assert ledger.ask().source == "sampler"
    first = Sweep.of(ledger).baseline
    assert first is not None and (first.number, first.source) == (3, "preset"), (
        "what ran last of it"
    )
    assert {number: trial.number for number, trial in newest(ledger.trials()).items()} == {
        0: 3,
        1: 2,
        4: 4,
    }


@pytest.mark.parametrize(
    "numbers, message",
    [
        (
            [0],
            "`trial` 0 is complete; only a trial that failed or that a user stopped can be "
            "run again",
        ),
        ([1], "`trial` 1 is pruned (non-finite: logits); only"),
        ([2, 2], "`trial` 2 is given twice"),
        ([5], "`trial` 5: s has trials 0 to 4"),
        ([-1], "`trial` -1: s has"),
        ([3], "`trial` 3 was run again as trial 4 (running)"),
        ([4], "`trial` 4 is running; only"),
    ],
)
def test_no_other_trial_is_run_again(numbers: list[int], message: str, ledger: Ledger) -> None:
    complete(ledger, 90, 80)
    for state, reason in (("PRUNED", "non-finite: logits"), ("FAIL", "a"), ("FAIL", "b")):
        ledger.finish(ledger.ask().number, state, reason)
    ledger.rerun([3])
    ledger.ask()
    with pytest.raises(UserError, match=re.escape(message)):
        ledger.rerun(numbers)
    assert len(ledger.trials()) == 5


def test_a_constraint_s_value_of_an_earlier_end_that_a_kill_prevented_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = config(constraints=(Constraint.parse("keep_fraction<=0.6"),))

    def entered(ledger: Ledger, task: int, keep: float) -> None:
        attempt = ledger.ask().attempt
        told = result(task, 2, val_class_il=9.0, keep_fraction=keep)
        ledger.add_result(0, attempt, SEED, told)

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with driven(Ledger.create(tmp_path, made, {"id": "7"})) as ledger:
        entered(ledger, 0, 0.9)
        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(optuna.Study, "tell", kill)
            ledger.finish(0, "PRUNED", "median")
    with driven(Ledger.open(tmp_path, "s")) as ledger:
        entered(ledger, 1, 0.5)
        ledger.finish(0, "COMPLETE")
        assert ledger.trial(0).feasible
    [stored] = study_of(ledger).trials
    assert list(stored.constraints.values()) == [pytest.approx(-0.1)]


def test_tpe_shuns_what_diverges_under_a_constraint_that_nothing_keeps(tmp_path: Path) -> None:
    space = SearchSpace.from_dict(
        "s",
        {
            "parameters": {
                "lr": {"low": 0.001, "high": 1.0},
                "keep_ratio": {"low": 0.01, "high": 0.99},
            }
        },
    )
    made = config(
        space=space,
        base=config().base.replace(lr=0.5, keep_ratio=0.5),
        trials=60,
        constraints=(Constraint.parse("keep_fraction<=0.05"),),
    )
    diverged = []
    with driven(Ledger.create(tmp_path, made, {})) as ledger:
        for _ in range(60):
            trial = ledger.ask()
            diverged.append(trial.config["lr"] > 0.7)
            if diverged[-1]:
                ledger.finish(trial.number, "PRUNED", NON_FINITE + "task 1")
                continue
            told = result(
                val_class_il=90 - 50 * abs(trial.config["lr"] - 0.2),
                keep_fraction=0.1 + trial.config["keep_ratio"],
            )
            ledger.add_result(trial.number, 1, SEED, told)
            ledger.finish(trial.number, "COMPLETE")
    assert 0 < sum(diverged) and sum(diverged[30:]) < 0.3 * 30 / 2, (
        "half of what random search would try"
    )


def test_one_after_the_other_suggestions_depend_on_the_seed_alone_interrupted_or_not(
    tmp_path: Path,
) -> None:
    def drawn(name: str, seed: int, resumed_after: int) -> list[dict[str, float]]:
        Ledger.create(tmp_path, config(name, seed=seed), {})
        for session in (range(resumed_after), range(resumed_after, 4)):
            with driven(Ledger.open(tmp_path, name)) as ledger:
                for n in session:
                    complete(ledger, 50 + n)
        return [t.config for t in ledger.trials()]

    assert drawn("a", 7, 4) == drawn("b", 7, 2) != drawn("c", 8, 4)


def test_a_results_first_report_stands(ledger: Ledger) -> None:
    ledger.ask()
    assert ledger.add_result(0, 1, SEED, result(val_class_il=90.0))
    assert not ledger.add_result(0, 1, SEED, result(val_class_il=10.0))
    assert ledger.trial(0).last("val_class_il") == 90.0


def test_a_repeated_result_is_silent_and_one_that_differs_is_a_warning(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.ask()
    first = result(val_class_il=90.0)
    ledger.add_result(0, 1, SEED, first)
    again = dataclasses.replace(first, train_seconds=2.0, eval_seconds=3.0)
    assert not ledger.add_result(0, 1, SEED, again)
    assert caplog.messages == [], "only the time it took differs"
    assert not ledger.add_result(0, 1, SEED, dataclasses.replace(first, class_il=90.00000001))
    assert caplog.messages == [
        "trial 0: seed 42 reported a different result of task 1; the first is kept"
    ]


def test_a_report_of_an_attempt_that_is_over_is_ignored_with_a_warning(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.ask()
    ledger.interrupt(0)
    assert ledger.ask().attempt == 2
    assert not ledger.add_result(0, 1, SEED, result(0, 2, val_class_il=10.0))
    assert caplog.messages == ["trial 0: a report of attempt 1 is ignored, 2 is the current one"]
    assert ledger.trial(0).tasks_done == 0
    report(ledger, 0, 90.0)
    assert ledger.trial(0).last("val_class_il") == 90.0


def test_a_task_counts_once_every_seed_has_reported_it_and_by_their_mean(tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(seeds=2), {})) as ledger:
        ledger.ask()
        for seed, value, tasks, mean in ((42, 90.0, 0, None), (43, 80.0, 1, 85.0)):
            ledger.add_result(0, 1, seed, result(0, 2, val_class_il=value))
            trial = ledger.trial(0)
            assert (trial.tasks_done, trial.last("val_class_il")) == (tasks, mean)
        ledger.add_result(0, 1, 42, result(1, 2, val_class_il=50.0))
        trial = ledger.trial(0)
        assert trial.last("val_class_il") == trial.after("val_class_il", 1) == 85.0
        assert trial.after("val_class_il", 2) is None and trial.after("test_class_il", 1) is None
        ledger.add_result(0, 1, 43, result(1, 2, val_class_il=60.0))
        ledger.finish(0, "COMPLETE")
        assert ledger.trial(0).value == 55.0 and ledger.trial(0).by_seed("val_class_il") == [
            50.0,
            60.0,
        ]
        assert study_of(ledger).trials[0].intermediate_values == {0: 85.0, 1: 55.0}


class Clock:
    """The ledger's clock, which moves only when the test sets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        real = dt.datetime
        fake = SimpleNamespace(
            now=lambda zone: real.fromtimestamp(self.seconds, zone),
            fromisoformat=real.fromisoformat,
        )
        monkeypatch.setattr("results.ledger.ledger.dt", SimpleNamespace(datetime=fake, UTC=dt.UTC))
        monkeypatch.setattr(
            "results.ledger.ledger.time", SimpleNamespace(time=lambda: self.seconds)
        )


def test_the_time_of_a_trial_is_summed_over_its_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, made = Clock(monkeypatch), config(cpus_per_trial=2.0, gpus_per_trial=0.5)
    with driven(Ledger.create(tmp_path, made, {})) as ledger:
        clock.seconds = 100
        begun(ledger)
        clock.seconds = 110
        report(ledger, 0, 90)
        # the driver is killed here; only the 10 seconds until the last report count
        clock.seconds = 115
    killed = Ledger.open(tmp_path, "s")
    killed.config = dataclasses.replace(killed.config, cpus_per_trial=1.0)
    clock.seconds = 1000
    with driven(killed) as ledger:
        assert ledger.spent("cpu") == 20 and ledger.trial(0).seconds == 10
        clock.seconds = 2000
        begun(ledger)
        clock.seconds = 2007
        assert (ledger.trial(0).seconds, ledger.spent("cpu"), ledger.spent("gpu")) == (17, 27, 8.5)
        ledger.interrupt(0)  # by a driver that lives: all 7 seconds count
        clock.seconds = 3000
        assert (ledger.trial(0).seconds, ledger.spent("cpu"), ledger.spent("gpu")) == (17, 27, 8.5)
        begun(ledger)
        clock.seconds = 3030
        ledger.finish(0, "COMPLETE", at=dt.datetime.fromtimestamp(3020, dt.UTC))
    trial = Ledger.open(tmp_path, "s").trial(0)
    assert (trial.seconds, trial.cpu_seconds, trial.gpu_seconds, trial.attempt) == (37, 47, 18.5, 3)
    assert trial.started_at == dt.datetime.fromtimestamp(100, dt.UTC)
    assert trial.ended_at == dt.datetime.fromtimestamp(3020, dt.UTC)


def test_a_trial_s_time_begins_when_it_begins_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with driven(Ledger.create(tmp_path, config(), {})) as ledger:
        for began, ended, seconds, started in (
            (130, 140, 10, 130),
            (None, 1000, 10, 130),
            (2000, 2005, 15, 130),
        ):
            asked = ledger.ask()
            clock.seconds += 30  # time in which the worker starts
            assert ledger.trial(0).starting
            if began is not None:
                clock.seconds = began
                ledger.start(0, asked.attempt - 1)  # an earlier worker, which counted as lost
                ledger.start(0, asked.attempt)
                assert not ledger.trial(0).starting
            clock.seconds = ended
            assert ledger.trial(0).seconds == ledger.spent("cpu") == seconds
            ledger.interrupt(0)
            trial = ledger.trial(0)
            assert trial.seconds == ledger.spent("cpu") == seconds and trial.started_at is not None
            assert trial.started_at.timestamp() == started
        ledger.ask()
        ledger.finish(0, "FAIL", "no image")
        assert (ledger.trial(0).seconds, ledger.spent("cpu")) == (15, 15)


def test_a_trial_that_goes_on_in_another_cohort_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a result, nothing is left of an attempt that could differ."""
    cohorts = []
    with driven(Ledger.create(tmp_path, config(seeds=2), {})) as ledger:
        for size, reports in ((5, False), (1, True), (2, False), (2, False)):
            asked = ledger.ask()
            ledger.start(0, asked.attempt, size)
            cohorts.append(ledger.trial(0).cohorts)
            if reports:
                assert not caplog.records
                ledger.add_result(0, asked.attempt, SEED, result(0, 2))
            ledger.interrupt(0)
    assert cohorts == [(5,), (1,), (1, 2), (1, 2)]
    (record,) = caplog.records
    assert "trial 0 trained in a program of 1 run, and continues in one of 2" in record.message


def test_a_trial_that_goes_on_in_another_place_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with driven(Ledger.create(tmp_path, config(), {})) as ledger:
        assert ledger.upcoming() == (0, None)
        for place, reports in ((3, False), (1, True), (1, False)):
            asked = ledger.ask(place=place)
            ledger.start(0, asked.attempt)
            if reports:
                ledger.add_result(0, asked.attempt, SEED, result(0, 2))
            ledger.interrupt(0)
            assert ledger.upcoming() == (0, place) and not caplog.records
        ledger.ask(place=2)
        assert ledger.upcoming() == (1, None)
    (record,) = caplog.records
    assert (
        "trial 0 trained in place 1 of its worker, and continues in place 2: it will not repeat "
        "exactly" in record.message
    )


@pytest.mark.parametrize("owner, seconds", [("here:7", 10), (None, 10), ("elsewhere:1", 900)])
def test_the_time_of_a_trial_ends_with_its_driver(
    owner: str | None, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with driven(Ledger.create(tmp_path, config(), {})) as ledger:
        clock.seconds = 100
        begun(ledger)
        clock.seconds = 110
        report(ledger, 0, 90)
    monkeypatch.setattr("results.ledger.holder.gone", lambda held: held["owner"] == "here:7")
    held = lease.read(ledger._database, ledger._database_id)
    ledger._database.set_study_user_attr(ledger._database_id, holder.LEASE, held | {"owner": owner})
    clock.seconds = 1000
    there = Ledger.open(tmp_path, "s")
    assert (there.trial(0).seconds, there.trials()[0].cpu_seconds, there.spent("cpu")) == (
        seconds,
    ) * 3


class Killed(BaseException):
    """Stands for the end of the process."""


def killed_after(write: int, patch: pytest.MonkeyPatch) -> None:
    """Let N writes of a trial succeed, and end the process right after the last of them."""
    left = [write]

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            if not left[0]:
                raise Killed  # also what follows a kill does not happen
            result = real(*arguments)
            left[0] -= 1
            if not left[0]:
                raise Killed
            return result

        return call

    for name in ("create", "write"):
        patch.setattr(f"results.ledger.write_through.{name}", dying(getattr(batch, name)))


def test_a_kill_after_any_write_of_a_trials_life_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    made = config(
        space=ONE, sampler="random", trials=99, constraints=(Constraint.parse("compute<=0.5"),)
    )

    def live(ledger: Ledger, end: str) -> None:
        """Run a trial from ask to finish."""
        trial = begun(ledger)
        for task in range(2):
            told = result(task, 2, val_class_il=90.0 - 10 * task + trial.number, compute=0.5)
            ledger.add_result(trial.number, trial.attempt, SEED, told)
        ledger.finish(trial.number, end, None if end == "COMPLETE" else "because")

    ledger, write, through = Ledger.create(tmp_path, made, {}), 0, False
    while not through:
        write += 1
        with ledger.driving(), monkeypatch.context() as patch:
            killed_after(write, patch)
            with suppress(Killed):
                live(ledger, "PRUNED" if write % 2 else "COMPLETE")
                through = True
        ledger = Ledger.open(tmp_path, "s")
        with driven(ledger):
            assert "RUNNING" not in {t.state for t in ledger.trials()}
            if any(t.ended_at is None for t in ledger.trials()):
                live(ledger, "COMPLETE")
    assert write > 6, "a trial of two tasks takes more writes"
    trials = Ledger.open(tmp_path, "s").trials()
    assert [t.number for t in trials] == list(range(write))
    assert len({t.config["keep_ratio"] for t in trials}) == write
    for trial, stored in zip(trials, study_of(ledger).trials, strict=True):
        n = trial.number
        assert trial.state == "COMPLETE" or trial.attempt == 1
        assert trial.source == ("sampler" if n else "preset")
        assert (trial.reason is None) == (trial.state == "COMPLETE")
        assert [r.class_il for r in trial.results[SEED]] == [90.0 + n, 80.0 + n]
        assert stored.intermediate_values == {0: 90.0 + n, 1: 80.0 + n}
        assert stored.constraints == {"compute<=0.5": 0.0} and trial.feasible == (
            trial.state == "COMPLETE"
        )
        assert trial.seconds is not None and trial.seconds >= 0 and trial.ended_at is not None
    assert [str(w.message) for w in recwarn if "onstraint" in str(w.message)] == []


def test_best_is_never_a_trial_cut_short_though_it_looks_better(ledger: Ledger) -> None:
    complete(ledger, 100, 80)
    for state in ("PRUNED", "FAIL"):
        number = ledger.ask().number
        report(ledger, number, 100)
        ledger.finish(number, state, "because")
    running = ledger.ask().number
    report(ledger, running, 100)
    chosen = Sweep.of(ledger).leader
    assert chosen is not None and (chosen.number, chosen.value) == (0, 80)
    text = (
        "Trial 0 is best with val_class_il 80.00; it is the preset, the starting point of the "
        "sweep."
    )
    assert answer(Sweep.of(ledger)) == text


def test_the_earliest_of_equal_trials_is_best_and_none_if_none_completed(ledger: Ledger) -> None:
    assert Sweep.of(ledger).leader is None
    complete(ledger, 70)
    complete(ledger, 80)
    complete(ledger, 80)
    chosen = Sweep.of(ledger).leader
    assert chosen is not None and chosen.number == 1
    assert "better by 10.00 than the preset (70.00). The best of 3 " in answer(Sweep.of(ledger))


def test_a_base_that_breaks_a_constraint_is_not_said_to_be_worse(tmp_path: Path) -> None:
    made = config(constraints=(Constraint.parse("keep_fraction<=0.6"),))
    with driven(Ledger.create(tmp_path, made, {})) as ledger:
        for value, keep in ((75.0, 0.8), (70.0, 0.5)):
            number = ledger.ask().number
            ledger.add_result(number, 1, SEED, result(val_class_il=value, keep_fraction=keep))
            ledger.finish(number, "COMPLETE")
        assert answer(Sweep.of(ledger)) == (
            "Trial 1 is best with val_class_il 70.00; the preset (75.00) breaks keep_fraction<=0.6."
        )


def test_a_trial_that_another_driver_added_ends_this_one(ledger: Ledger) -> None:
    ledger.ask()
    study_of(ledger).enqueue_trial({}, user_attrs={"source": "sampler"})
    with pytest.raises(RunError, match="trial 1 was added to the ledger by another process"):
        ledger.ask()


def test_trials_that_another_program_added_while_a_driver_ran_are_ignored(ledger: Ledger) -> None:
    assert ledger.ask().number == 0
    study_of(ledger).ask()
    study_of(ledger).enqueue_trial({"lr": 7.0})
    assert ledger.ask().number == 3 and ledger.ask().number == 4
    assert [t.number for t in ledger.trials()] == [0, 3, 4] and ledger.remaining() == 1


def test_trials_that_another_program_added_or_ended_are_ignored_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with driven(Ledger.create(tmp_path, config(sampler="random"), {})) as made:
        complete(made, 70, 81)
        made.ask()
    study = study_of(made)
    study.enqueue_trial({"lr": 1e9})  # 2
    study.tell(1, 99.0)  # ours, which a driver would have gone on with
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)  # takes 2
    study.ask()  # 3, which runs for ever
    study.add_trial(optuna.trial.create_trial(value=1e9))  # 4
    study.enqueue_trial({"lr": 1e9}, user_attrs={"source": "points:1"})  # 5, out of range
    with closing(Ledger.open(tmp_path, "s")) as there:
        assert [t.number for t in there.trials()] == [0] and there.remaining() == 3
        assert str(there.state) == "stopped, 3 left" and [t.number for t in there.trials()] == [0]
        assert [r.getMessage() for r in caplog.records] == [
            "trials 1, 2, 3, 4, 5 of s: ignored, because another program added or ended "
            "them in the ledger."
        ]
        write_report(there)
        assert list(Sweep.of(there).trials["number"]) == [0]
        with driven(there):
            assert complete(there, 60, 70) == 6 and there.remaining() == 2
            assert [t.number for t in there.trials()] == [0, 6]


def test_trials_csv_reads_back_exactly_and_says_nothing_of_a_truncated_trials_final_accuracy(
    ledger: Ledger,
) -> None:
    complete(ledger, 100, 81.23456789012345)
    number = ledger.ask().number
    report(ledger, number, 99)
    ledger.finish(number, "PRUNED", "non-finite: logits")
    write_trials(ledger)
    with (ledger.folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*COLUMNS, "lr", "alpha", "beta", "policy_penalty", "keep_ratio"]
    assert float(rows[0]["val_class_il"]) == 81.23456789012345
    assert (
        rows[1]["val_class_il"] == ""
        and rows[1]["tasks_done"] == "1"
        and rows[1]["reason"].startswith("non-finite")
    )
    assert {k: float(rows[1][k]) for k in ledger.trial(1).config} == ledger.trial(1).config
    assert float(rows[0]["policy_penalty"]) == -60
    assert isinstance(Sweep.of(ledger).trials, pd.DataFrame)


def test_best_config_is_what_the_trial_trained_and_says_where_it_is_from(ledger: Ledger) -> None:
    complete(ledger, 70)
    number = complete(ledger, 80)
    trial = ledger.trial(number)
    export(ledger, trial, Choice())
    path = ledger.folder / "best_config.yaml"
    assert TrainConfig.from_dict(read_config(path)) == train_config(ledger.config, trial)
    told = yaml.safe_load(path.read_text())["provenance"]
    assert told == {
        "sweep": "s",
        "trial": 1,
        "source": "sampler",
        "seeds": [SEED],
        "cohorts": [1],
        "protocol": "val-all-seen",
        "chosen_by": "the best mean of the first objective; too few trials for a model",
        "metric": "val_class_il",
        "value": 80.0,
        "spread": None,
        "constraints": [],
        "id": "7",
        "git_revision": "abc",
    }


def test_a_sweeps_config_survives_its_file(ledger: Ledger) -> None:
    assert Ledger.open(ledger.folder.parent, "s").config == ledger.config


def test_the_ledger_is_an_optuna_study_that_others_can_open(ledger: Ledger) -> None:
    complete(ledger, 100, 80)
    study = study_of(ledger)
    assert study.trials[0].intermediate_values == {0: 100, 1: 80} and study.best_value == 80


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"trials": 0}, "`trials` 0 is out of range; it must be from 1 to 100000"),
        ({"max_concurrent": 0}, "`max_concurrent` 0"),
        ({"cpus_per_trial": 0.0}, "`cpus_per_trial` 0"),
        ({"gpus_per_trial": -1.0}, "`gpus_per_trial` -1"),
        ({"gpus_per_trial": 1.5}, "`gpus_per_trial` 1.5: above 1 it must be a whole number"),
        ({"time_budget_seconds": 0.0}, "`time_budget_seconds` 0s"),
        (
            {"base": TrainConfig(**preset("seq-digits", 200))},
            "under the protocol val-all-seen configurations are",
        ),
    ],
)
def test_a_config_out_of_range_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(**changes)


def test_a_taken_name_is_refused_with_the_commands_and_a_missing_one_with_the_nearest(
    ledger: Ledger,
) -> None:
    with pytest.raises(
        UserError, match=r"dynamos-sweep resume s .*dynamos-sweep extend s --trials \+10"
    ):
        Ledger.create(ledger.folder.parent, config(), {})
    Ledger.create(ledger.folder.parent, config("digits"), {})
    with pytest.raises(UserError, match="Did you mean 'digits'"):
        Ledger.open(ledger.folder.parent, "digit")


def test_reading_a_sweep_loads_neither_ray_nor_torch(ledger: Ledger) -> None:
    complete(ledger, 80)
    code = (
        "import sys; from pathlib import Path; from results.ledger.ledger import Ledger; from "
        "results.sweep import Sweep; from results.pages.report import write_report;l = "
        f"Ledger.open(Path({str(ledger.folder.parent)!r}), 's'); Sweep.of(l).trials; "
        "write_report(l);print(sorted({'ray', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_record_is_data(ledger: Ledger) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ledger.trial(0).number = 3  # type: ignore[misc]


def test_two_processes_cannot_run_one_sweep(ledger: Ledger) -> None:
    other = Ledger.open(ledger.folder.parent, "s")
    with (
        pytest.raises(UserError, match="another process is running the sweep 's'"),
        other.driving(),
    ):
        pass


def test_an_altered_preset_is_called_base(tmp_path: Path) -> None:
    altered = config().base.replace(reward_weight=0.9)
    with driven(Ledger.create(tmp_path, config(base=altered), {})) as ledger:
        assert ledger.ask().source == "base"
    assert config(
        base=altered.replace(reward_weight=config().base.reward_weight, threads=2)
    ).base_is_preset


def test_time_between_attempts_is_not_a_trials(ledger: Ledger) -> None:
    begun(ledger)
    report(ledger, 0, 90)
    ledger.interrupt(0)
    waited = ledger.trial(0).seconds
    time.sleep(0.3)
    assert waited is not None and ledger.trial(0).seconds == waited
    started = time.monotonic()
    begun(ledger)
    ledger.finish(0, "COMPLETE")
    took = time.monotonic() - started
    total = ledger.trial(0).seconds
    assert total is not None and waited < total <= waited + took + 0.1


def say(folder: Path, **changes: object) -> None:
    """Change values in a sweep.yaml."""
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: (f / "sweep.yaml").write_text("name: s"), "sweep.yaml is damaged"),
        (lambda f: (f / "sweep.yaml").write_text("record:"), "sweep.yaml is damaged"),
        (lambda f: (f / "sweep.yaml").write_text("name: ["), "is not readable YAML"),
        (lambda f: say(f, objectives=[5]), "sweep.yaml is damaged"),
        (lambda f: say(f, tracking_uri=5), "sweep.yaml: `tracking_uri` 5 is not a text"),
        (lambda f: say(f, points=[5]), "sweep.yaml is damaged"),
        (lambda f: say(f, name=None), "holds the sweep None"),
        (lambda f: say(f, name="t"), "/s holds the sweep 't' under another name"),
        (lambda f: (f / "ledger.db").unlink(), "has no ledger.db"),
        (lambda f: (f / "sweep.yaml").unlink(), "/s is damaged: sweep.yaml is missing"),
        (
            lambda f: (f / "ledger.db").write_bytes(b"no database" * 500),
            "is not the ledger of this sweep",
        ),
    ],
)
def test_a_damaged_sweep_is_a_user_error(
    damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    Ledger.create(tmp_path, config(), {})
    for scrap in tmp_path.glob("s/ledger.db-*"):
        scrap.unlink()
    damage(tmp_path / "s")
    with pytest.raises(UserError, match=message):
        Ledger.open(tmp_path, "s")


@pytest.mark.parametrize(
    "url, message",
    [
        ("postgres//host", "`ledger_url` postgres//host: Could not parse SQLAlchemy URL"),
        (
            "sqlite:////nowhere/ledger.db",
            "`ledger_url` sqlite:////nowhere/ledger.db: .*unable to open database file",
        ),
    ],
)
def test_a_database_that_cannot_be_used_is_a_user_error_and_leaves_no_sweep(
    url: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        Ledger.create(tmp_path, config(ledger_url=url), {})
    assert not any(tmp_path.iterdir())


def test_several_sweeps_live_in_one_database(tmp_path: Path) -> None:
    made = config(ledger_url=f"sqlite:///{tmp_path / 'all.db'}")
    for name in ("a", "b"):
        with driven(Ledger.create(tmp_path, dataclasses.replace(made, name=name), {})) as ledger:
            complete(ledger, {"a": 70.0, "b": 80.0}[name])
    assert not (tmp_path / "a" / "ledger.db").exists()
    for name, value in (("a", 70.0), ("b", 80.0)):
        assert [t.value for t in Ledger.open(tmp_path, name).trials()] == [value]


def test_a_folder_that_is_in_the_way_or_cannot_be_made_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(UserError, match="exists but is not a sweep"):
        Ledger.create(tmp_path, config(), {})
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the sweep's folder"):
        Ledger.create(tmp_path / "file", config(), {})
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_sweep_in_an_object_store(tmp_path: Path) -> None:
    storage, url = UPath("memory://runs"), f"sqlite:///{tmp_path}/ledger.db"
    made = Ledger.create(storage, config(ledger_url=url), {})
    assert (
        sweep_names(storage) == ["s"]
        and made.command("show") == "dynamos-sweep show s --storage memory://runs"
    )
    with driven(made):
        number = begun(made).number
        made.request_trial_stop(number)
        report(made, number, 90, 80)
        made.finish(number, "COMPLETE")
    assert (made.trial_folder(number) / STOP_FILE).exists()
    write_trials(made)
    there = Ledger.open(storage, "s")
    assert there.trial(number).state == "COMPLETE" and there.record == made.record
    assert len(pd.read_csv(io.BytesIO((there.folder / "trials.csv").read_bytes()))) == 1
    with pytest.raises(UserError, match="a sweep 's' exists in memory://runs"):
        Ledger.create(storage, config(ledger_url=url), {})


def test_one_of_two_processes_makes_a_sweep_in_an_object_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, url = UPath("memory://race"), f"sqlite:///{tmp_path}/ledger.db"

    def overtaken(*arguments: Any) -> None:
        monkeypatch.setattr(ledgers, "make_study", make_study)
        Ledger.create(storage, config(ledger_url=url), {"id": "1"})
        make_study(*arguments)

    monkeypatch.setattr(ledgers, "make_study", overtaken)
    with pytest.raises(UserError, match="was just created by another process"):
        Ledger.create(storage, config(ledger_url=url), {"id": "2"})
    assert Ledger.open(storage, "s").record["id"] == "1"


def test_a_confirmation_has_sessions_but_no_more_trials(tmp_path: Path) -> None:
    _, confirmation = confirmed(tmp_path, [80.0], [81.0])
    with driven(confirmation) as there:
        budget = there.budget
        there.extend(0)
        with pytest.raises(UserError, match="'s-confirm-1' is a confirmation"):
            there.extend(1)
        assert there.budget == budget
