"""Agreement of the ranking after each task with the final ranking, as a test of pruning."""

from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import scipy  # imports its parts at their first use

from results.definition.sweep_config import SweepConfig
from results.strategy.pruning.measure import Measure
from results.sweep import Sweep
from results.trial import TrialRecord
from results.wording import count

TRIALS_NEEDED = 5  # finished trials; fewer show nothing
SPEARMAN_SAFE = 0.7
DECIMALS = 2  # of a correlation, which is judged as it is printed


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of the ranking after some tasks with the final one, over the complete trials."""

    task: int  # tasks done, from 1
    trials: int
    # rank correlation; None with fewer than 3 trials, or if all are equal
    spearman: float | None
    # True if the best trial at the end, the earliest of equals, was not below the median
    best_kept: bool

    @property
    def safe(self) -> bool:
        """True if pruning after this task would have kept the good trials."""
        return (
            self.spearman is not None
            and round(self.spearman, DECIMALS) >= SPEARMAN_SAFE
            and self.best_kept
        )


def agreements(trials: list[TrialRecord], metric: str, maximize: bool) -> list[Agreement]:
    """Return one Agreement for every task but the last.

    Returns [] in a stream of one task and before any result.

    A value is the mean over a trial's seeds. Only COMPLETE trials have a final one.
    """
    n_tasks = max((t.n_tasks for t in trials), default=0)
    sign, measure = 1 if maximize else -1, Measure(metric, maximize, grace_tasks=1)
    complete = [t for t in trials if t.state == "COMPLETE" and t.tasks_done == n_tasks]
    found = []
    for tasks in range(1, n_tasks):
        values = [(measure.mean(t, tasks), measure.mean(t, n_tasks), t.number) for t in complete]
        compared = sorted(
            (number, sign * then, sign * final)
            for then, final, number in values
            if then is not None and final is not None
        )
        then, final = [c[1] for c in compared], [c[2] for c in compared]
        kept = len(then) > 0 and bool(then[final.index(max(final))] >= np.median(then))
        found.append(Agreement(tasks, len(compared), _spearman(then, final), kept))
    return found


def sentence(agreements: list[Agreement], grace_tasks: int, pruner: str) -> str:
    """Describe the safety of pruning from `grace_tasks` tasks on."""
    if not agreements:
        return (
            "Rankings cannot be compared, because no trial has a result before the last task (in a "
            "stream of one task, none can have one)."
        )
    judged = [a for a in agreements if a.task >= grace_tasks]
    if not judged:
        return (
            f"With a grace of {count(grace_tasks, 'task')}, no trial can be pruned in a stream of "
            f"{count(len(agreements) + 1, 'task')}."
        )
    trials = min(a.trials for a in judged)
    correlations = [a.spearman for a in judged if a.spearman is not None]
    if trials < TRIALS_NEEDED or len(correlations) < len(judged):
        why = (
            f"{trials} finished {'trial is' if trials == 1 else 'trials are'} too few, "
            f"{TRIALS_NEEDED} are needed"
            if trials < TRIALS_NEEDED
            else f"the {trials} finished trials are all equal after a task"
        )
        tasks = count(grace_tasks, "task")
        return f"It is unknown whether pruning after {tasks} is safe: {why}."
    is_safe, weakest = all(a.safe for a in judged), _printed(min(correlations))
    lost = [a.task for a in judged if not a.best_kept]
    place = f"below the median after task {lost[0]}" if lost else "never below the median"
    # From the last task backwards, as long as pruning after the task is safe.
    right = [a.task for a in takewhile(lambda a: a.safe, reversed(agreements))]
    text = (
        f"Pruning after {count(grace_tasks, 'task')} "
        f"{'would have been' if pruner == 'none' else 'was'} {'safe' if is_safe else 'unsafe'}. "
        f"From then on, the lowest Spearman correlation of a ranking of the {trials} finished "
        f"trials with the final ranking was {weakest} ({_printed(SPEARMAN_SAFE)} is enough). The "
        f"best trial at the end was {place}."
    )
    if right and not is_safe:
        text += f" A grace of {count(right[-1], 'task')} would have been safe."
    if pruner != "none":
        text += (
            " Only finished trials are compared. So the correlation tends to be too low, and good "
            "trials that were pruned do not appear."
        )
    return text


def ranking(sweep: Sweep) -> str:
    """Describe the agreement of early rankings with the final one, and its meaning for pruning."""
    config, objective = sweep.config, sweep.config.objectives[0]
    found = agreements(sweep.own, objective.metric, objective.sign > 0)
    tasks = "; ".join(
        f"task {a.task}: {_printed(a.spearman)}" for a in found if a.spearman is not None
    )
    said = sentence(found, _grace_tasks(config), config.pruner)
    return (
        f"Spearman correlation of each ranking with the final one: {tasks}. {said}"
        if tasks
        else said
    )


def _grace_tasks(config: SweepConfig) -> int:
    """The first task after which a trial may be pruned."""
    if not config.grace_epochs:
        return config.grace_tasks
    return max(-(-config.grace_epochs // config.base.n_epochs), 1)


def _printed(correlation: float) -> str:
    return f"{correlation:.{DECIMALS}f}"


def _spearman(then: list[float], final: list[float]) -> float | None:
    if len(then) < 3 or len(set(then)) == 1 or len(set(final)) == 1:
        return None
    return float(scipy.stats.spearmanr(then, final).statistic)
