"""Check of a user's trainer against what a sweep expects of it, on two tiny tasks."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dynamos.config import TrainConfig
from dynamos.own_trainer import OwnRun
from dynamos.streams import Stream


class Fault(Exception):
    """A fault of a method or a trainer, in words."""


def checks_of_trainer(config: TrainConfig, stream: Stream) -> list[tuple[str, Callable[[], None]]]:
    """Return (what is checked, a function that raises Fault or UserError) of a user's trainer."""
    return [
        ("it yields a function of images after every task", lambda: _learns(config, stream)),
        ("two runs with one seed are equal", lambda: _repeats(config, stream)),
        ("a run saved and resumed ends equal", lambda: _resumes(config, stream)),
    ]


def _ends(config: TrainConfig, stream: Stream) -> OwnRun:
    run = OwnRun(config, stream)
    for _ in run:
        pass
    return run


def _learns(config: TrainConfig, stream: Stream) -> None:
    _saved(_ends(config, stream))


def _saved(run: OwnRun) -> dict[str, Any]:
    """The state of a run, written and read."""
    content = io.BytesIO()
    try:
        torch.save(run.state_dict(), content)
        state: dict[str, Any] = torch.load(io.BytesIO(content.getvalue()), weights_only=True)
    # the user's state may fail in any way
    except Exception as error:
        said = str(error).splitlines()[0]
        raise Fault(f"`state_dict` must hold tensors and plain values only: {said}") from None
    return state


def _repeats(config: TrainConfig, stream: Stream) -> None:
    whole = _ends(config, stream)
    other = OwnRun(config, stream)
    torch.rand(3)  # another program in the process
    for _ in other:
        torch.rand(3)
    _refuse_difference(whole, other, "the second run")


def _resumes(config: TrainConfig, stream: Stream) -> None:
    whole, first = _ends(config, stream), OwnRun(config, stream)
    first.run_task()
    state = _saved(first)
    resumed = OwnRun(config, stream)
    resumed.load_state_dict(state)
    for _ in resumed:
        pass
    if len(resumed.results) != len(whole.results):
        raise Fault("a resumed run learns other tasks; `__iter__` must go on after the last one.")
    _refuse_difference(whole, resumed, "a run resumed after task 1")


def _refuse_difference(wanted: OwnRun, found: OwnRun, which: str) -> None:
    place = _difference(wanted.state_dict()["trainer"], found.state_dict()["trainer"], "")
    if place is not None:
        raise Fault(
            f"{which} ends with another state: {place or 'state_dict'} differs. State that "
            "training depends on must be in `state_dict` and come back by `load_state_dict`."
        )
    a, b = (run.results[-1].class_il for run in (wanted, found))
    if a != b:
        raise Fault(f"{which} has class-il {b:.2f}, not {a:.2f}.")


def _difference(a: Any, b: Any, place: str) -> str | None:
    """The first place at which two states differ; None if they are equal."""
    if isinstance(a, Mapping) and isinstance(b, Mapping) and a.keys() == b.keys():
        parts = [(a[name], b[name], f"{place}.{name}".lstrip(".")) for name in a]
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        parts = [(x, y, f"{place}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True))]
    elif isinstance(a, Tensor) and isinstance(b, Tensor):
        return None if torch.equal(a, b) else place
    else:
        return None if a == b else place
    return next((p for part in parts if (p := _difference(*part)) is not None), None)
