"""Report of a worker to the driver about its trial, in the form in which Ray sends it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from dynamos.metrics import EpochReading, TaskResult

REPORT = "report"  # key of the report's JSON in a step's result
# States beside those of a trial:
PUT_BACK = "PUT_BACK"  # the machine failed, not the trial
OUT_OF_MEMORY = "OUT_OF_MEMORY"
LOST = "LOST"  # the host that trained it was lost (workers/host.py)


@dataclass(frozen=True, slots=True)
class Report:
    """Report on an attempt of a trial."""

    attempt: int
    # by seed, in the order of tasks: all so far, so that the ledger misses none after a crash
    results: Mapping[int, Sequence[TaskResult]] = field(default_factory=dict)
    state: str | None = None  # None while the trial continues
    reason: str | None = None
    node: str = ""  # id of the worker's node; "" if the driver wrote the report
    began: bool = False  # True in an attempt's first report: training begins, no results yet
    cohort: int = 1  # largest number of runs, its own and others', that train as one program
    # by seed, in the order of epochs: all so far; none unless trials are pruned within tasks
    readings: Mapping[int, Sequence[EpochReading]] = field(default_factory=dict)

    def encode(self) -> dict[str, Any]:
        """Return the report as a step's result, in one text: Ray keeps statistics of numbers."""
        return {REPORT: json.dumps(asdict(self)), "done": self.state is not None}

    def on(self, node: str) -> Self:
        """Return the report with the id of the node that it comes from."""
        return replace(self, node=node)

    @classmethod
    def decode(cls, result: Mapping[str, Any]) -> Self:
        """Return the report in the result of a step."""
        values = json.loads(result[REPORT])
        results = {
            int(seed): [TaskResult.from_dict(entry) for entry in entries]
            for seed, entries in values["results"].items()
        }
        readings = {
            int(seed): [EpochReading(**entry) for entry in entries]
            for seed, entries in values["readings"].items()
        }
        return cls(**values | {"results": results, "readings": readings})
