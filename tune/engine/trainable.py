"""Ray's Trainable around dynamos.trainer: one step() per task, one process for many trials.

torch is imported in the functions that train, because the driver, which only names this class, does
not need it.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import ray
import ray.tune

from dynamos.config import TrainConfig
from dynamos.errors import NonFiniteError
from dynamos.methods.hyperparameters import is_trainer
from dynamos.metrics import EpochReading, TaskResult
from dynamos.user_code import code_of
from tune.engine.report import Report
from tune.engine.workers.attempt import Attempt, Workplace, events_of, free_memory
from tune.machines.images import RawImages

if TYPE_CHECKING:
    from dynamos.cohort import Cohort
    from dynamos.trainer import Trainer

# Most seeds that train as one program. More are hardly faster (benchmarks/cohorts/speed.py), and
# take more memory.
LARGEST_COHORT = 8
# Pixels of the largest images with which a cohort is faster than its runs one after the other on a
# CPU: 16x16. With 28x28 a run takes 1.1 times as long in a cohort of 8 (benchmarks/cohorts/runs).
LARGEST_IMAGE = 256


class SweepTrial(ray.tune.Trainable):
    """A trial. It trains its seeds task by task, as one program (dynamos.cohort).

    The searcher gives its configuration: {"number", "attempt", "folders": JSON of its attempts'
    folders, the newest first, "changes": JSON of the fields that differ from the base, "seed": the
    first of its seeds, "slot": JSON of the Slot that it holds}. The configuration is small, because
    Ray keeps copies of it until the sweep ends. Errors of the method are part of a step's report,
    so that Ray counts only failures of workers and nodes.
    """

    _workplace: Workplace
    _attempt: Attempt
    _ready: bool
    _cohorts: "list[tuple[range, Cohort]]"

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> ray.tune.PlacementGroupFactory:
        """The resources that Ray reserves for a trial, and their node if it is fixed."""
        slot = json.loads(config["slot"])
        holds = [{"CPU": slot["cpus"], "GPU": slot["gpus"]}]
        if slot["node"] is None:
            return ray.tune.PlacementGroupFactory(holds)
        on = [{"ray.io/node-id": slot["node"]}]
        return ray.tune.PlacementGroupFactory(holds, bundle_label_selector=on)

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        base: TrainConfig,
        seeds: int,
        images: dict[str, RawImages] | None,
        hashes: Mapping[str, str],
        shuffled: bool = False,
        grace_epochs: int = 0,
    ) -> None:
        """Prepare the worker process for its first trial; for the arguments see Workplace."""
        self._workplace = Workplace(base, seeds, images, hashes, shuffled, grace_epochs)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over the next trial; the images stay loaded, everything else is made again."""
        self._attempt.close()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one task, or up to an EpochReading within it, and return a Report.

        The first step of an attempt only imports torch and loads the images, so that this does not
        count as training time.
        """
        attempt = self._attempt
        if not self._ready:
            self._ready = True
            return self._report({}, *attempt.prepare(), began=True)
        state, reason = None, None
        try:
            with attempt.logged():
                self._train_task()
            state = "COMPLETE" if attempt.done else None
        except Exception as error:
            state, reason = attempt.ended_by(error)
        results, readings = attempt.results(), attempt.readings()
        if state is not None:
            attempt.runs, self._cohorts = {}, []
            free_memory()
        return self._report(results, state, reason, readings=readings)

    def cleanup(self) -> None:
        """Close the log."""
        self._attempt.close()

    def _report(
        self,
        results: Mapping[int, Sequence[TaskResult]],
        state: str | None = None,
        reason: str | None = None,
        began: bool = False,
        readings: Mapping[int, Sequence[EpochReading]] | None = None,
    ) -> dict[str, Any]:
        attempt, node = self._attempt.number, ray.get_runtime_context().get_node_id()
        cohort = max(map(len, self._parts()))
        return Report(attempt, results, state, reason, node, began, cohort, readings or {}).encode()

    def _begin(self, config: dict[str, Any]) -> None:
        self._attempt, self._ready = Attempt(config, self._workplace), False
        self._cohorts = []

    def _train_task(self) -> None:
        """Train every seed to the first result or EpochReading that not all seeds have."""
        from dynamos.cohort import Cohort

        attempt = self._attempt
        if not attempt.runs:
            attempt.begin()
        if is_trainer(attempt.runs[attempt.seeds[0]].config.model):
            self._let_train()
            return
        if not self._cohorts:
            # Seeds that are done have a slot, too: the size of a cohort changes its results.
            self._cohorts = [
                (part, Cohort([cast("Trainer", attempt.runs[seed]) for seed in part]))
                for part in self._parts()
            ]
        events = attempt.events
        for seeds, cohort in self._cohorts:
            try:
                for slot, outcome in cohort.until(lambda t: t.done or events_of(t) > events):
                    if isinstance(outcome, NonFiniteError):
                        raise outcome
                    attempt.save(seeds[slot])
            finally:  # above all if training diverged
                for seed in seeds:
                    attempt.write_curve(seed)

    def _let_train(self) -> None:
        """Let a user's trainer learn the next task with every seed, one after the other."""
        attempt = self._attempt
        task = attempt.tasks_done
        for seed, run in attempt.runs.items():
            attempt.stop_if_asked()
            if len(run.results) == task:
                run.run_task()
                attempt.save(seed)

    def _parts(self) -> list[range]:
        """The seeds by cohort: cohorts of about equal size, at most LARGEST_COHORT."""
        seeds = self._attempt.seeds
        base = self._workplace.base
        alone = (
            base.step_mode == "compile"
            or code_of(base.model) is not None
            or self._workplace.pixels_on_cpu > LARGEST_IMAGE
        )
        most = 1 if alone else LARGEST_COHORT
        cohorts = -(-len(seeds) // most)
        ends = [len(seeds) * place // cohorts for place in range(cohorts + 1)]
        return [seeds[begin:end] for begin, end in itertools.pairwise(ends)]
