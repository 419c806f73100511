"""Objectives and constraints of a sweep, on the metrics of TaskResult."""

import math
import re
from dataclasses import dataclass
from typing import Self

from dynamos.errors import UserError, unknown
from dynamos.metrics import ACCURACIES, PREFIXES

# Metrics for objectives and constraints, and the better direction. The total loss is not here:
# REINFORCE makes it meaningless.
_DIRECTIONS = {
    "class_il": "max",
    "class_il_median": "max",
    "task_il": "max",
    "learning_accuracy": "max",
    "forgetting": "min",
    "keep_fraction": "min",
    "compute": "min",
}


def metrics_on(images: str) -> dict[str, str]:
    """Return the better direction, "max" or "min", by metric, on "validation" or "test" images."""
    return {
        PREFIXES[images] * (name in ACCURACIES) + name: direction
        for name, direction in _DIRECTIONS.items()
    }


OBJECTIVES = metrics_on("validation")
BY_EPOCH = ("val_class_il", "val_task_il")  # metrics of EpochReading
_KNOWN = OBJECTIVES | metrics_on("test")


@dataclass(frozen=True, slots=True)
class Objective:
    """A TaskResult metric after the last task, mean over seeds, and its better direction."""

    metric: str
    direction: str  # "max" or "min"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse FIELD, FIELD:max or FIELD:min; raise UserError for any other text."""
        metric, colon, direction = text.partition(":")
        if metric not in _KNOWN:
            raise unknown("metric", metric, OBJECTIVES).within(f"`objectives` {text!r}")
        if colon and direction not in ("max", "min"):
            raise unknown("direction", direction, ("max", "min")).within(f"`objectives` {text!r}")
        return cls(metric, direction or _KNOWN[metric])

    @property
    def confirmed(self) -> Self:
        """The objective that a confirmation tests in its place, on test images."""
        metric = self.metric.replace(PREFIXES["validation"], PREFIXES["test"])
        # val-current can choose by the first metric only, and a median replaces a noisy class-il;
        # a confirmation measures class-il
        if metric in ("test_learning_accuracy", "test_class_il_median"):
            metric = "test_class_il"
        return type(self)(metric, self.direction)

    @property
    def sign(self) -> int:
        """1 if more is better, -1 if less is."""
        return 1 if self.direction == "max" else -1

    def __str__(self) -> str:
        return f"{self.metric}:{self.direction}"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A bound on a TaskResult metric after the last task, mean over seeds."""

    metric: str
    relation: str  # "<=" or ">="
    bound: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse FIELD<=NUMBER or FIELD>=NUMBER; raise UserError for any other text."""
        match = re.fullmatch(r"\s*([^<>=\s]+)\s*(<=|>=)\s*(\S+)\s*", text)
        if not match:
            raise UserError(
                f"`constraints` {text!r}: write FIELD<=NUMBER or FIELD>=NUMBER, for instance "
                "keep_fraction<=0.6."
            )
        if match[1] not in _KNOWN:
            raise unknown("metric", match[1], OBJECTIVES).within(f"`constraints` {text!r}")
        try:
            bound = float(match[3])
        except ValueError:
            bound = math.nan
        if not math.isfinite(bound):
            raise UserError(f"`constraints` {text!r}: {match[3]!r} is not a number.")
        return cls(match[1], match[2], bound)

    def violation(self, value: float) -> float:
        """Return the amount by which a value breaks the bound.

        It is zero or less if the value keeps the bound.
        """
        return value - self.bound if self.relation == "<=" else self.bound - value

    def __str__(self) -> str:
        # exact, for sweep.yaml
        return f"{self.metric}{self.relation}{repr(self.bound).removesuffix('.0')}"
