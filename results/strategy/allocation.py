"""Choice of a sweep's next trial: a new configuration, or another run of a known one."""

from dataclasses import dataclass, replace
from typing import Any

from results.names import RACE, REPLICATE
from results.strategy.race import Race, last_race, left
from results.strategy.replicates import (
    candidates,
    due,
    imported_seeds,
    next_seed,
    quota,
    replicated,
)
from results.strategy.seeds import fresh_seed, race_size
from results.sweep import Sweep
from results.trial import TrialRecord


@dataclass(frozen=True, slots=True)
class Run:
    """A further run of a configuration, to be enqueued."""

    source: str
    config: dict[str, Any]
    seed: int  # the first of its training seeds


def further(
    sweep: Sweep, total: int, number: int, exhausted: bool, done: bool = False
) -> list[Run] | None:
    """Return the runs to enqueue before the next trial starts; [] if the sampler is asked.

    Returns None if that depends on trials that have not ended. It follows from what the ledger
    holds alone, so a resumed sweep decides as an undisturbed one.

    Args:
        sweep: as it is now.
        total: its budget of trials, extensions included, reruns not.
        number: the number of the next new trial.
        exhausted: whether no configuration of its space is left.
        done: whether the search is over: only a race may follow.
    """
    own = [t for t in sweep.own if t.reruns is None]
    waiting = any(t.state in ("WAITING", "INTERRUPTED") for t in own)
    repeated = sum(t.replicates is not None and not t.races for t in own)
    share, more = sweep.config.replicates, quota(sweep.config.replicates, total) - repeated
    begins = done or len(own) >= total - race_size(total) or (exhausted and more <= 0)
    if sweep.config.race and begins:
        runs = _race(sweep, total, number, waiting)
        if runs is None or runs:
            return [] if waiting and runs is None else runs
    if waiting or done:
        return []
    begun, configurations = len(own), len(sweep.configurations)
    wanted = more > 0 if exhausted else due(share, begun, repeated, total // 2, configurations)
    found = replicated(sweep) if wanted else None
    if found is None:
        return []
    return [Run(f"{REPLICATE}{found.number}", found.config, next_seed(sweep, found, number))]


def _race(sweep: Sweep, total: int, number: int, waiting: bool) -> list[Run] | None:
    """The next runs of the race; [] if it is over or a trial before it waits, None as `further`."""
    race = last_race(sweep.records)
    if race.running:
        return _racers(sweep, race, total, number)
    if waiting:
        return []
    if any(t.ended_at is None for t in sweep.own):  # it may become one of the best
        return None
    return _racers(sweep, Race(None, [], True), total, number)


def _racers(sweep: Sweep, race: Race, total: int, number: int) -> list[Run] | None:
    """The runs that are missing in the race's last round, or those of its next round.

    Returns [] if the race is over, None if its last round is not. A round is a consequence of the
    rounds before it, so one that a crash cut off is completed with the same configurations.
    """
    config, space = sweep.config, sweep.config.space
    before = [t for t in sweep.records if race.first is None or t.number < race.first]
    begun = sum(not t.imported and t.reruns is None for t in before)
    # if the space was exhausted early, the race has no more trials than otherwise
    allowed = total - begun if begun >= total - race_size(total) else race_size(total)
    racing = _entrants(replace(sweep, records=before))
    for place in range(len(race.rounds) + 1):
        members = [*race.rounds, []][place]
        if place:
            racing = left(config, race.rounds[:place])
        expected = racing[:allowed]
        allowed -= len(expected)
        there = {space.key(t.config) for t in members}
        seed = next((t.seed for t in members if t.seed is not None), None)
        if seed is None:
            seed = fresh_seed(config.base.seed, config.seeds, number, imported_seeds(sweep))
        missing = [t for t in expected if space.key(t.config) not in there]
        if missing:
            return [Run(f"{RACE}{_original(t)}", t.config, seed) for t in missing]
        if any(t.ended_at is None for t in members):
            return None
    return []


def _entrants(sweep: Sweep) -> list[TrialRecord]:
    """The configurations that start a race: the leader, and those expected to be best."""
    found, leader = candidates(sweep), sweep.leader
    of_leader = [t for t in found if leader is not None and t.number == leader.number]
    return [*of_leader, *(t for t in found if t not in of_leader)][: sweep.config.race]


def _original(trial: TrialRecord) -> int:
    """Number of the first trial of a configuration."""
    return trial.number if trial.replicates is None else trial.replicates


def further_left(sweep: Sweep, total: int) -> int:
    """Return the number of further runs that a sweep without a new configuration still has."""
    own = [t for t in sweep.own if t.reruns is None]
    repeated = sum(t.replicates is not None and not t.races for t in own)
    more = max(quota(sweep.config.replicates, total) - repeated, 0) + race_left(sweep, total)
    return more if more and candidates(sweep) else 0


def race_left(sweep: Sweep, total: int) -> int:
    """Return the number of runs that the race still has; 0 if no configuration may take part."""
    race, more = last_race(sweep.records), 0
    if not sweep.config.race or not candidates(sweep):
        return 0
    if not race.running:
        more = race_size(total)
    elif any(t.ended_at is None for t in race.rounds[0]) or left(sweep.config, race.rounds):
        more = race_size(total) - race.trials
    return max(more, 0)
