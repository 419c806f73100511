"""A method at work in a run."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import isclass
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from dynamos.errors import UserError
from dynamos.methods import METHODS
from dynamos.methods.step import Loss, Step
from dynamos.user_code import load

if TYPE_CHECKING:
    from dynamos.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Learner:
    """Functions of a method.

    `loss` and `project` wait for no value of a tensor, so that a GPU can record the step.

    Attributes:
        loss: returns the loss of a step.
        project: changes the gradients of the loss, if the method does that.
        end_task: is called after each task was trained and evaluated, if the method needs that.
        state_dict, load_state_dict: the state that a checkpoint must hold, as tensors and plain
            values, if there is any.
    """

    loss: Callable[[Step], Loss]
    project: Callable[[Step, Sequence[Tensor]], None] | None = None
    end_task: Callable[[], None] | None = None
    state_dict: Callable[[], dict[str, Any]] | None = None
    load_state_dict: Callable[[dict[str, Any]], None] | None = None


def learner(model: str, run: "Trainer") -> Learner:
    """Return the method of a run. A class is called with the run, whose network exists already."""
    if model in METHODS:
        of = METHODS[model]
        found: Any = import_module(f"dynamos.methods.{of.module}")
        if of.made:
            found = getattr(found, of.made)(run, **run.config.method)
    else:
        given, values = load(model, "method"), run.config.method
        if not isclass(given):
            return Learner(functools.partial(given, **values))
        found = cast(Any, given)(run, **values)
    if not callable(getattr(found, "loss", None)):
        raise UserError(f"{model} has no method `loss(self, step)`.")
    names = ("project", "end_task", "state_dict", "load_state_dict")
    return Learner(found.loss, *(getattr(found, name, None) for name in names))
