"""Confirmation: trains a sweep's choice and a baseline on fresh seeds and tests each once.

A confirmation is itself a sweep, NAME-confirm-1: its trials are the configurations, its seeds are
fresh. So it runs, resumes, stops and is mirrored like every sweep.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from dynamos.config import TrainConfig, preset, read_config
from dynamos.errors import UserError
from dynamos.files import local_path
from dynamos.user_code import absolute_code
from results.analysis.confirmation import BASELINE, CHOSEN, look_of
from results.analysis.multiplicity import level_of
from results.analysis.power import plan
from results.choice import Choice, chosen, chosen_by, reported_config
from results.definition.defaults import PRESET
from results.definition.protocols import CONFIRMATION
from results.definition.sweep_config import SweepConfig
from results.ledger.ledger import REMARKS, Ledger, NameTaken
from results.names import allowed_name
from results.sweep import EXTENDS, LOOK_NUMBER, ORDERS_OF, Sweep
from results.wording import count, number
from search_spaces.parameter import NOT_VARIED, Parameter
from search_spaces.space import SearchSpace
from tune.engine.creation import check_images, create_sweep

# Fields that may differ when a confirmation is resumed.
_WHERE = (
    "name",
    "base",
    "cpus_per_trial",
    "gpus_per_trial",
    "pack_gpus",
    "cohort",
    "pack_cohorts",
    "retries",
    "keep_checkpoints",
    "max_concurrent",
    "tracking_uri",
)


def confirmation(
    ledger: Ledger,
    seeds: int,
    top: int,
    choice: Choice,
    baseline: str | None,
    session: Mapping[str, Any],
    address: str | None = None,
    final: bool = False,
) -> Ledger:
    """Return the ledger of the confirmation with these arguments, a new one if none exists.

    Args:
        ledger: the ledger of the sweep.
        seeds: number of fresh seeds of each configuration, which neither the sweep, nor another
            confirmation, nor an earlier sweep of its warm start has used.
        top: number of configurations of the sweep, the chosen one among them.
        choice: rule for the first of them; the others follow by rank.
        baseline: a file of TrainConfig fields, or PRESET for the preset of stream and buffer;
            None for the sweep's trial 0.
        session: SweepConfig's fields for the resources.
        address: the cluster to run on; None for this machine only.
        final: its tests have the whole error, and it cannot be extended.
    """
    config = ledger.config
    if config.confirms is not None:
        raise UserError(f"{config.name!r} is itself a confirmation, of {config.confirms!r}.")
    for flag, value in (("`seeds`", seeds), ("`top`", top)):
        if value < 1:
            raise UserError(f"{flag} {value} is out of range; it must be at least 1.")
    if ledger.driver is not None and not ledger.driver_gone:
        raise UserError(
            f"the sweep {config.name!r} is running ({ledger.driver}), and may still improve; "
            f"wait for its end, or stop it: {ledger.command('stop')}"
        )
    fresh = {"evaluate_on": "test", "seed": first_unused_seed(ledger)}
    base, what = _baseline(config, baseline)
    base = base.replace(**fresh)
    numbers: dict[str, int] = {}  # of the sweep's trials, by number in the confirmation
    tested = [base]
    sweep = Sweep.of(ledger)
    for trial in chosen(sweep, choice):
        train = reported_config(config, trial).replace(**fresh)
        if train not in tested:
            tested.append(train)
        if str(tested.index(train)) not in numbers:
            numbers[str(tested.index(train))] = trial.number
        if len(numbers) == top:
            break
    wanted = _config(config, tested, seeds, session)
    look = None if final else 1
    # the first and strictest of Holm's tests
    planned = plan(sweep, seeds, level_of(look) / max(len(tested) - 1, 1))
    for place in itertools.count(1):
        name = allowed_name(config.name, f"-confirm-{place}")
        if not (ledger.folder.parent / name).exists():
            # a deleted confirmation used test images, so its name is not reused
            if name in ledger.looks:
                continue
            if not {"dataset", "data_path"} & set(config.report_on):
                check_images(ledger)
            with suppress(NameTaken):  # another `confirm` took it, perhaps for the same request
                there = create_sweep(
                    ledger.folder.parent,
                    dataclasses.replace(wanted, name=name),
                    {
                        CHOSEN: numbers,
                        "chosen_by": chosen_by(sweep, choice),
                        BASELINE: what,
                        REMARKS: [text for text in (planned, _again(ledger)) if text],
                        **({} if look is None else {LOOK_NUMBER: look}),
                    },
                    address,
                )
                break
        there = Ledger.open(ledger.folder.parent, name)
        if (
            _same(there.config, wanted)
            and not {EXTENDS, ORDERS_OF} & there.record.keys()
            and not (final and LOOK_NUMBER in there.record)
        ):
            base = there.config.base.replace(data_path=wanted.base.data_path)
            there.config = dataclasses.replace(there.config, base=base, **session)
            break
    note_look(ledger, there)
    return there


def _again(ledger: Ledger) -> str:
    """A note on the confirmations before a new one, which has the whole error again; "" if none."""
    if not ledger.looks:
        return ""
    earlier = count(len(ledger.looks), "confirmation")
    text = (
        f"Test images were used in {earlier} of this sweep before. A new confirmation may "
        "err with a probability of 5 % again, whatever the others found."
    )
    latest = [look for look in ledger.looks.values() if ORDERS_OF not in look][-1:]
    if not any(LOOK_NUMBER in look for look in latest):
        return text  # it was tested with the whole error
    return f"{text} `extend` adds seeds to the latest one within its own 5 %."


def note_look(ledger: Ledger, confirmation: Ledger) -> None:
    """Enter a confirmation's use of test images in the ledger of its sweep, once."""
    if confirmation.config.name not in ledger.looks:
        ledger.enter_look(confirmation.config.name, look_of(Sweep.of(confirmation)))


def first_unused_seed(ledger: Ledger) -> int:
    """Return the first seed after all on which anything was chosen or tested.

    The seeds of the sweep's warm starts count, and those that a sweep may still take for its
    trials, because it may be extended. If an earlier sweep was deleted, only the seeds of its
    imported results are known. The seeds on which it chose configurations that were tried again are
    lost.
    """
    last, names = 0, list[str]()
    there: Ledger | None = ledger
    while there is not None:
        last = max(
            last,
            there.config.last_seed,
            *(seed for t in there.trials() for seed in t.results),
            *(seed for look in there.looks.values() for seed in look["seeds"]),
        )
        names.append(there.config.name)
        earlier, storage, there = there.config.warm_start, there.folder.parent, None
        if (
            earlier is not None
            and earlier not in names
            and (storage / earlier / "sweep.yaml").is_file()
        ):
            there = Ledger.open(storage, earlier)
    return last + 1


def _config(
    config: SweepConfig, tested: list[TrainConfig], seeds: int, session: Mapping[str, Any]
) -> SweepConfig:
    """The confirmation's configuration: the baseline is its base, the others are its points."""
    values = [train.to_dict() for train in tested]
    searched = [p.name for p in config.space.parameters]
    varied = [
        f
        for f in dict.fromkeys(name for v in values for name in v)
        if f in searched or any(v.get(f) != values[0].get(f) for v in values)
    ]
    space = SearchSpace("confirmation", tuple(_varied(name, values) for name in varied))
    return dataclasses.replace(
        config,
        space=space,
        base=tested[0],
        objectives=(config.objectives[0].confirmed,),
        constraints=(),
        protocol=CONFIRMATION,
        report_on={},
        confirms=config.name,
        sampler="random",
        grid_levels=3,
        pruner="none",
        grace_epochs=0,
        seeds=seeds,
        seed_policy="shared",
        replicates=0.0,
        race=0,
        points=tuple({name: v[name] for name in varied if name in v} for v in values[1:]),
        warm_start=None,
        trials=len(tested),
        deterministic_order=False,
        stop_when_done=False,
        keep_checkpoints="all",
        # its seeds train together; the space is not that of the sweep
        **_unlimited() | {"cohort": 1, "pack_cohorts": False} | dict(session),
    )


def _varied(name: str, values: Sequence[Mapping[str, Any]]) -> Parameter:
    """A field in which the tested configurations differ, of those methods that have it."""
    there = [v for v in values if name in v]
    models = tuple(dict.fromkeys(v["model"] for v in there))
    when = () if len(there) == len(values) else (("model", models),)
    return Parameter(name, choices=tuple(dict.fromkeys(v[name] for v in there)), when=when)


def _unlimited() -> dict[str, None]:
    return dict.fromkeys(
        ("time_budget_seconds", "cpu_budget_seconds", "gpu_budget_seconds", "target")
    )


def _same(there: SweepConfig, wanted: SweepConfig) -> bool:
    """True if a confirmation tests the same configurations and baseline with as many seeds."""
    if there.confirms != wanted.confirms:
        return False
    own, other = there.to_dict(), wanted.to_dict()
    return (
        all(own[name] == other[name] for name in own if name not in (*_WHERE, *_unlimited()))
        and there.base.replace(seed=wanted.base.seed, data_path=wanted.base.data_path)
        == wanted.base
    )


def _baseline(config: SweepConfig, wanted: str | None) -> tuple[TrainConfig, str]:
    """(the baseline of a sweep's choice, on the same stream and machine; its description in words).

    The description names the fields in which the baseline differs from all trials of the sweep,
    because the search could not change these.
    """
    own = config.reported_base
    if wanted is None:
        return own, "trial 0 of the sweep" + (
            ", the preset" if config.base_is_preset and not config.report_on else ""
        )
    if wanted == PRESET:
        values, what = (
            preset(own.dataset, own.buffer_size),
            f"the preset of {own.dataset}, buffer {own.buffer_size}",
        )
    else:
        values, what = read_config(local_path(wanted)), wanted
    same = {name: value for name, value in own.to_dict().items() if name in NOT_VARIED}
    if "model" in values:
        values["model"] = absolute_code(values["model"])
    baseline = TrainConfig.from_dict({**values, **same}).whole()
    searched, here = [p.name for p in config.space.parameters], own.to_dict()
    other = [
        f"{name} {number(value)}, not {number(here.get(name))}"
        for name, value in baseline.to_dict().items()
        if name not in searched and value != here.get(name)
    ]
    return baseline, what + (
        f", with fields that differ from every trial: {'; '.join(other)}" if other else ""
    )
