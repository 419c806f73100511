"""Changes of trials become durable together: all of them, or none."""

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from benchmarks.kills.postgresql import Server, programs
from results.definition.objectives import Constraint
from results.ledger.ledger import Ledger
from results.ledger.write_through import WriteThrough
from tests.helpers.ledgers import ONE, SEED, begun, config, driven, report, result

Event = Callable[[int, str], None]


def fill(storage: BaseStorage) -> None:
    """Write everything that a trial may have, several times, to the first trials of a study."""
    study = optuna.load_study(
        study_name="s", storage=storage, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study.enqueue_trial({"lr": 0.1}, user_attrs={"source": "point"})
    trial = study.ask()
    trial.suggest_float("lr", 0.1, 10.0, log=True)
    trial.suggest_int("n", 1, 5)
    trial.suggest_categorical("kind", ["a", None, True, 1.5])
    for value in (1, True, 1.0, {"a": [1, None, "é"]}, "1"):
        trial.set_user_attr("value", value)
        storage.set_trial_system_attr(trial._trial_id, "value", value)
    for step, value in enumerate((0.5, math.nan, math.inf, -math.inf, 1)):
        storage.set_trial_intermediate_value(trial._trial_id, step, 7.0)
        storage.set_trial_intermediate_value(trial._trial_id, step, value)
    trial.set_constraint("c", -1.0)
    storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
    storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    study.tell(trial, [math.inf, -2.5])
    failed = study.ask({"lr": FloatDistribution(0.1, 10.0, log=True)})
    failed.set_user_attr("source", "sampler")  # as ours has it from the trial's creation on
    study.tell(failed, state=TrialState.FAIL)
    kinds = CategoricalDistribution(["a", None, True, 1.5])
    running = study.ask({"n": IntDistribution(1, 5), "kind": kinds})
    running.set_user_attr("source", "sampler")


def made(url: str) -> tuple[RDBStorage, int]:
    """(a database, the id of its empty study "s" of two objectives)."""
    storage = RDBStorage(url)
    study = optuna.create_study(
        study_name="s", storage=storage, directions=["maximize", "minimize"]
    )
    return storage, study._study_id


def entries(trial: FrozenTrial) -> str:
    """Everything about a trial but times and its id, with types: 1 is not True."""
    dicts = (trial.params, trial.distributions, trial.user_attrs, trial.system_attrs)
    parts = (trial.number, trial.state, trial.values, *(sorted(d.items()) for d in dicts))
    return repr((*parts, sorted(trial.intermediate_values.items())))


@pytest.mark.parametrize("together", [False, True])
def test_the_database_has_what_optuna_itself_would_write(
    together: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC+7")  # Optuna stores times as UTC and gives them as local ones
    time.tzset()
    try:
        database, _ = made(f"sqlite:///{tmp_path / 'optuna.db'}")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        fill(database)
        theirs = database.get_all_trials(1)
        database, study_id = made(f"sqlite:///{tmp_path / 'ours.db'}")
        through = WriteThrough(database, study_id, lambda trial: False)
        if together:
            with through.together():
                fill(through)
        else:
            fill(through)
        ours = RDBStorage(f"sqlite:///{tmp_path / 'ours.db'}").get_all_trials(1)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [*map(entries, ours)] == [*map(entries, theirs)]
    assert ours[0].user_attrs == {"source": "point", "value": "1"}
    mine = through.get_all_trials(0)
    for one, other, known in zip(ours, theirs, mine, strict=True):
        for name in ("datetime_start", "datetime_complete"):
            when, reference = getattr(one, name), getattr(other, name)
            assert (when is None) == (reference is None)
            assert when == getattr(known, name), "a later reader gets the same time"
            assert when is None or abs((when - reference).total_seconds()) < 60


@contextmanager
def at_statements(ledger: Ledger, event: Event) -> Iterator[None]:
    """Call `event` with the number and the text of each statement that writes, before it, and with
    "COMMIT" before each commit."""
    engine, count = ledger._database.engine, [0]

    def statement(_: Any, __: Any, text: str, *___: Any) -> None:
        if not text.startswith(("SELECT", "PRAGMA")):
            event(count[0], text)
            count[0] += 1

    def commit(_: Any) -> None:
        event(count[0], "COMMIT")
        count[0] += 1

    sqlalchemy.event.listen(engine, "before_cursor_execute", statement)
    sqlalchemy.event.listen(engine, "commit", commit)
    try:
        yield
    finally:
        sqlalchemy.event.remove(engine, "before_cursor_execute", statement)
        sqlalchemy.event.remove(engine, "commit", commit)


def sweep_of(folder: Path, **changes: Any) -> Ledger:
    """A new sweep with a constraint, so that the end of a trial has many writes."""
    constraints = (Constraint.parse("compute<=0.5"),)
    made = config(space=ONE, sampler="random", trials=99, constraints=constraints, **changes)
    return Ledger.create(folder, made, {})


def end(ledger: Ledger, number: int) -> None:
    """Report both tasks of a trial at once, as after a crash, and end it."""
    with ledger.together():
        for task in range(2):
            told = result(task, 2, val_class_il=90.0 - task, compute=0.5)
            ledger.add_result(number, ledger.trial(number).attempt, SEED, told)
    ledger.finish(number, "COMPLETE")


def stored(ledger: Ledger) -> list[str]:
    """The trials as another program reads them."""
    with closing(Ledger.open(ledger.folder.parent, "s")) as there:
        return [entries(t) for t in there._study.trials]


def test_a_failing_write_leaves_ledger_and_study_as_before(tmp_path: Path) -> None:
    failing, number, statements = True, 0, 0
    with driven(sweep_of(tmp_path)) as ledger:
        number = begun(ledger).number
        report(ledger, number, 90.0)
        while failing:
            before, known = stored(ledger), [entries(t) for t in ledger._study.trials]
            failing = False

            def fails(count: int, text: str, limit: int = statements) -> None:
                nonlocal failing
                if count == limit:
                    failing = True
                    raise OSError(text)

            with at_statements(ledger, fails), suppress(OSError):
                ledger.finish(number, "COMPLETE")
            if failing:
                assert stored(ledger) == before == known
                assert [entries(t) for t in ledger._study.trials] == known
                statements += 1
        assert statements >= 5, "an end of a trial has more statements"
        assert [t.state for t in ledger.trials()] == ["COMPLETE"]
        assert stored(ledger) == [entries(t) for t in ledger._study.trials]
        assert begun(ledger).number == 1, "the sweep goes on"


def test_an_error_in_the_middle_of_a_block_undoes_its_changes(tmp_path: Path) -> None:
    with driven(sweep_of(tmp_path)) as ledger:
        number = begun(ledger).number
        before = stored(ledger)
        with pytest.raises(ValueError, match="mine"), ledger.together():
            report(ledger, number, 90.0)
            assert ledger.trial(number).tasks_done == 1 and stored(ledger) == before
            raise ValueError("mine")
        assert ledger.trial(number).tasks_done == 0 and stored(ledger) == before
        with suppress(ValueError), ledger.together(), ledger.together():
            report(ledger, number, 90.0)
            raise ValueError
        assert stored(ledger) == before


def test_a_batch_refuses_a_trial_that_another_program_has_ended(tmp_path: Path) -> None:
    with driven(sweep_of(tmp_path)) as ledger:
        number, other = begun(ledger).number, begun(ledger).number
        with closing(Ledger.open(tmp_path, "s")) as there:
            there._study.tell(number, 1.0)
        before = stored(ledger)
        with pytest.raises(UpdateFinishedTrialError, match="another program"), ledger.together():
            report(ledger, other, 90.0)
            report(ledger, number, 90.0)
        assert stored(ledger) == before and ledger.trial(other).tasks_done == 0


def drive_until(folder: Path, statement: int, acknowledged: Any) -> None:
    """Drive a sweep and kill this process before a statement or commit of its next trial."""

    def dies(count: int, text: str) -> None:
        if count == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    ledger = Ledger.open(folder, "s")
    with driven(ledger), at_statements(ledger, dies):
        number = begun(ledger).number
        with acknowledged.get_lock():
            acknowledged.value = max(acknowledged.value, 2 * number)
        end(ledger, number)
        with acknowledged.get_lock():
            acknowledged.value = 2 * number + 1
    os._exit(0)


def check_kills(folder: Path, **changes: Any) -> None:
    """Kill a driver before each statement of a trial's life, until one lives through it."""
    context = multiprocessing.get_context("fork")
    ledger = sweep_of(folder, **changes)
    ledger._database.engine.dispose()  # a child may not use its parent's connections
    acknowledged, statement, exitcode = context.Value("i", -1), 0, -signal.SIGKILL.value
    while exitcode:
        process = context.Process(target=drive_until, args=(folder, statement, acknowledged))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        exitcode, statement = process.exitcode, statement + 1
        with closing(Ledger.open(folder, "s")) as there:
            trials = there.trials()
            assert [t.number for t in trials] == list(range(len(trials))), "none twice"
            known, finished = acknowledged.value // 2, acknowledged.value % 2
            assert acknowledged.value < 0 or len(trials) > known, "none is lost"
            for trial in trials:
                done = trial.state == "COMPLETE"
                if trial.number < known or (trial.number == known and finished):
                    assert done, "an acknowledged end is durable"
                values = [r.class_il for r in trial.results.get(SEED, [])]
                # both results in one transaction; before the end of the trial
                assert values == [90.0, 89.0] or (values == [] and not done)
                if done:
                    assert trial.ended_at is not None and trial.feasible
                    assert there._study.trials[trial.number].intermediate_values == {
                        0: 90.0,
                        1: 89.0,
                    }
            there._database.engine.dispose()
    assert statement > 8, "a trial has more statements"
    with driven(ledger):
        for trial in ledger.trials():
            if trial.ended_at is None:
                begun(ledger)
                end(ledger, trial.number)
    assert {t.state for t in ledger.trials()} == {"COMPLETE"}
    ledger._database.engine.dispose()


@pytest.mark.slow
def test_a_kill_before_any_statement_loses_and_doubles_nothing(tmp_path: Path) -> None:
    check_kills(tmp_path)


@pytest.mark.slow
def test_a_kill_before_any_statement_of_postgresql_too(tmp_path: Path) -> None:
    if programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    with Server() as server:
        check_kills(tmp_path, ledger_url=server.url())


def label(folder: Path, name: str, times: int) -> None:
    """Write study attributes as other commands do while a driver runs."""
    ledger = Ledger.open(folder, "s")
    for number in range(times):
        ledger.label({f"{name}-{number}": "x"}, None)
    os._exit(0)


def test_other_processes_write_while_a_driver_does(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ledger = sweep_of(tmp_path)
    ledger._database.engine.dispose()
    others = [context.Process(target=label, args=(tmp_path, name, 10)) for name in ("a", "b")]
    for process in others:
        process.start()
    with driven(ledger):
        for _ in range(10):
            end(ledger, begun(ledger).number)
    for process in others:
        process.join()
        assert process.exitcode == 0
    with closing(Ledger.open(tmp_path, "s")) as there:
        assert [t.state for t in there.trials()] == ["COMPLETE"] * 10
        assert len(there.tags) == 20
