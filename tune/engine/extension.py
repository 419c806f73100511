"""Extension: more fresh seeds for every configuration of a confirmation that has ended.

An extension is itself a confirmation, with the same configurations, that names the one it extends.
Its runs are pooled with the earlier ones, and its tests are the next look at them.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dynamos.errors import UserError
from results.analysis.confirmation import BASELINE, CHOSEN, finding, outcome, outcomes
from results.analysis.multiplicity import level_of
from results.analysis.power import plan
from results.ledger.ledger import REMARKS, Ledger, NameTaken
from results.names import allowed_name
from results.sweep import EXTENDS, LOOK_NUMBER, ORDERS_OF, Sweep
from results.wording import count
from tune.engine.creation import check_images, create_sweep
from tune.engine.retraining import first_unused_seed, note_look


def refuse_beside(given: Sequence[str], seeds: int | None, orders: int | None) -> None:
    """Raise UserError if fields of a new confirmation are given beside further runs of one.

    `seeds` and `orders` are the numbers to add; only one of them may be given.
    """
    if seeds is not None and orders is not None:
        raise UserError("`extend` and `class_orders`: give one of them, then the other.")
    if given:
        raise UserError(
            f"`{given[0]}` is for a new confirmation; "
            f"{'`class_orders`' if seeds is None else '`extend`'} keeps the configurations, the "
            "baseline and the settings of an earlier one."
        )


def searched(ledger: Ledger) -> Ledger:
    """Return the sweep that a confirmation confirms, or the sweep itself."""
    confirms = ledger.config.confirms
    return ledger if confirms is None else Ledger.open(ledger.folder.parent, confirms)


def extension(
    ledger: Ledger,
    seeds: int,
    session: Mapping[str, Any],
    address: str | None = None,
    data_path: str | None = None,
) -> Ledger:
    """Return the ledger of an extension: of one that has not ended, or else of a new one.

    Args:
        ledger: a confirmation, or a sweep, whose latest confirmation is then extended.
        seeds: number of fresh seeds to add to each configuration.
        session: SweepConfig's fields for the resources.
        address: the cluster to run on; None for this machine only.
        data_path: the folder of the images, if it has changed.

    Raises UserError if there is nothing to extend, or nothing of the error is left.
    """
    if seeds < 1:
        raise UserError(f"`extend` {seeds} is out of range; it must be at least 1.")
    sweep = searched(ledger)
    while True:
        last = last_look(ledger, sweep)
        if data_path is not None:
            moved = last.config.base.replace(data_path=data_path)
            last.config = dataclasses.replace(last.config, base=moved)
        if last.left:
            if EXTENDS not in last.record or last.config.seeds != seeds:
                refuse_unended(last)
            last.config = dataclasses.replace(last.config, **session)
            return last
        _refuse(last)
        made = further(sweep, last, seeds, _record(sweep, last, seeds), session, address)
        if made is not None:
            return made


def refuse_unended(confirmation: Ledger) -> None:
    """Raise UserError if a confirmation has not ended."""
    if left := confirmation.left:
        raise UserError(
            f"{confirmation.config.name} has {count(left, 'configuration')} left; complete it "
            f"first: {confirmation.command('resume')}"
        )


def further(
    sweep: Ledger,
    last: Ledger,
    seeds: int,
    record: Mapping[str, Any],
    session: Mapping[str, Any],
    address: str | None,
) -> Ledger | None:
    """Create a confirmation of the configurations that another one, `last`, tested.

    It has fresh seeds, as many as `seeds`. Returns None if another process took its name, perhaps
    for the same request.
    """
    check_images(last)
    base = last.config.base.replace(seed=first_unused_seed(sweep))
    config = dataclasses.replace(
        last.config, name=_free_name(sweep), base=base, seeds=seeds, **session
    )
    try:
        there = create_sweep(last.folder.parent, config, record, address)
    except NameTaken:
        return None
    note_look(sweep, there)
    return there


def last_look(ledger: Ledger, sweep: Ledger) -> Ledger:
    """The newest look at the confirmation, or at the sweep's latest confirmation."""
    known = list[Ledger]()
    for one in confirmations(sweep):
        note_look(sweep, one)  # a kill may have come before
        if ORDERS_OF not in one.record:
            known.append(one)
    if ledger is not sweep:
        root = first_look(sweep.looks, ledger.config.name)
        known = [one for one in known if first_look(sweep.looks, one.config.name) == root]
    if not known:
        raise UserError(
            f"{sweep.config.name!r} has no confirmation; begin one: {sweep.command('confirm')}"
        )
    return known[-1]


def confirmations(sweep: Ledger) -> Iterator[Ledger]:
    """Yield the confirmations of a sweep that exist, the oldest first."""
    for place in itertools.count(1):
        name = allowed_name(sweep.config.name, f"-confirm-{place}")
        if (sweep.folder.parent / name / "sweep.yaml").is_file():
            yield Ledger.open(sweep.folder.parent, name)
        elif name not in sweep.looks:
            return


def first_look(looks: Mapping[str, Any], name: str) -> str:
    """Name of the confirmation that began with the look of this name."""
    while (extends := looks[name].get(EXTENDS)) is not None:
        name = extends
    return name


def _free_name(sweep: Ledger) -> str:
    """A name for a new confirmation; a deleted one used test images, so its name is not free."""
    names = (allowed_name(sweep.config.name, f"-confirm-{n}") for n in itertools.count(1))
    return next(
        name
        for name in names
        if name not in sweep.looks and not (sweep.folder.parent / name).exists()
    )


def _refuse(last: Ledger) -> None:
    """Raise UserError if an ended confirmation cannot be extended."""
    name = last.config.name
    if LOOK_NUMBER not in last.record:
        raise UserError(
            f"{name} was tested with the whole error of 5 %, so it cannot be extended. Begin a new "
            "one: " + last.command("confirm", "--seeds", "10", sweep=last.config.confirms)
        )
    tested = Sweep.of(last)
    if outcome(tested) is None:
        raise UserError(f"{name} cannot be extended. {finding(tested)}")


def _record(sweep: Ledger, last: Ledger, seeds: int) -> dict[str, Any]:
    """The record of the next look after the last one."""
    looks, tested = sweep.looks, Sweep.of(last)
    root = first_look(looks, last.config.name)
    # deleted looks count, because their results were seen
    number = 1 + sum(first_look(looks, name) == root for name in looks)
    rows = outcomes(tested)
    planned = plan(
        Sweep.of(sweep),
        len(rows[0].trial.results) + seeds,
        level_of(number) / max(len(rows) - 1, 1),
    )
    return {
        CHOSEN: last.record[CHOSEN],
        "chosen_by": last.record["chosen_by"],
        BASELINE: last.record[BASELINE],
        REMARKS: [planned] if planned else [],
        EXTENDS: last.config.name,
        LOOK_NUMBER: number,
    }
