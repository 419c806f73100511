"""Check of a user's trainer against what a sweep expects of it, on two tiny tasks."""

import io
from collections.abc import Callable
from typing import Any

import torch

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
    """Raise Fault if two runs end with functions that give evaluation images other logits."""
    pairs = zip(wanted.logits(), found.logits(), strict=True)
    most = max(float((a - b).abs().max()) for a, b in pairs)
    if most > 0:
        raise Fault(
            f"{which} ends with another network: its logits differ by up to {most:.2g}. State that "
            "training depends on must be in `state_dict` and come back by `load_state_dict`."
        )
