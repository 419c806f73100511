"""Rules that compare a trial with the best finished trial."""

from optuna.pruners import WilcoxonPruner
from optuna.trial import create_trial

from results.strategy.pruning.measure import Measure, ended_at, quietly, running
from results.trial import TrialRecord

WILCOXON_P = 0.1  # Optuna's default threshold
# with K seeds the smallest one-sided p is 1/2^K; with fewer seeds it is never below WILCOXON_P
WILCOXON_SEEDS = 4
LEADER_SEEDS = 2  # with one seed, the leader's worst value would be its only one


class Finished:
    """The COMPLETE trials, and the best of them: the leader.

    It is the one with the best final mean over seeds, the earliest of equals.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        # by number; values negated if less is better
        self._finished: dict[int, tuple[float, TrialRecord]] = {}

    def learn(self, trial: TrialRecord) -> None:
        """Add a COMPLETE trial."""
        final = (
            self._measure.mean(trial, trial.tasks_done)
            if trial.state == "COMPLETE" and trial.tasks_done
            else None
        )
        if final is not None:
            self._finished[trial.number] = final if self._measure.maximize else -final, trial

    def leader(self, until: float) -> TrialRecord | None:
        """Return the best trial that had ended by a time; None if none had."""
        earlier = [
            (final, -other.number, other)
            for final, other in self._finished.values()
            if ended_at(other) <= until
        ]
        return max(earlier)[-1] if earlier else None


class Leader:
    """Prunes a trial whose mean is worse than the leader's worst seed after the same task.

    It forgives more than a comparison with the leader's mean: the leader, too, could have had its
    worst seed alone.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure, self._finished = measure, Finished(measure)

    def learn(self, trial: TrialRecord) -> None:
        """Add a COMPLETE trial to the comparison."""
        self._finished.learn(trial)

    def objection(self, trial: TrialRecord, tasks: int) -> str | None:
        """Return the reason to prune the trial, or None."""
        leader = self._finished.leader(trial.reported_at(tasks))
        value = self._measure.mean(trial, tasks)
        seeds = None if leader is None else self._measure.by_seed(leader, tasks)
        if leader is None or value is None or not seeds or len(seeds) < LEADER_SEEDS:
            return None
        worst = (min if self._measure.maximize else max)(seeds.values())
        if (value >= worst) if self._measure.maximize else (value <= worst):
            return None
        than = f"the worst of {len(seeds)} seeds of trial {leader.number}, the best finished trial"
        return f"leader: {self._measure.worse(tasks, value, than, worst)}"


class Wilcoxon:
    """Prunes a trial that is worse, over the seeds, than the leader was after the same task.

    The comparison is Wilcoxon's signed-rank test on pairs with the same seed.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure, self._finished = measure, Finished(measure)
        self._pruner = quietly(lambda: WilcoxonPruner(p_threshold=WILCOXON_P))

    def learn(self, trial: TrialRecord) -> None:
        """Add a COMPLETE trial to the comparison."""
        self._finished.learn(trial)

    def objection(self, trial: TrialRecord, tasks: int) -> str | None:
        """Return the reason to prune the trial, or None."""
        best = self._finished.leader(trial.reported_at(tasks))
        if best is None:
            return None
        own, others = self._measure.by_seed(trial, tasks), self._measure.by_seed(best, tasks)
        value, bar = self._measure.mean(trial, tasks), self._measure.mean(best, tasks)
        if not own or not others or value is None or bar is None:
            return None
        study = self._measure.shadow()
        study.add_trial(create_trial(value=bar, intermediate_values=others))
        if not self._pruner.prune(study, running(own)):
            return None
        than = f"the value of trial {best.number}, the best finished trial"
        return (
            f"wilcoxon: {self._measure.worse(tasks, value, than, bar)}, over {len(own)} seeds "
            f"(p < {WILCOXON_P:g})"
        )
