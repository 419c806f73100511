"""Check of a method against what a sweep expects of it, on two tiny tasks."""

import inspect
import io
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynamos.config import TEST_LOCK, TrainConfig
from dynamos.errors import DynamosError, TestImagesLocked
from dynamos.fields import Setting
from dynamos.methods.check_trainer import Fault, checks_of_trainer
from dynamos.methods.hyperparameters import PREFIX, declared, is_trainer
from dynamos.methods.step import Loss
from dynamos.runs import build_run
from dynamos.streams import load_stream
from dynamos.trainer import TERMS, Trainer
from dynamos.user_code import code_of, load

TINY: dict[str, Any] = {
    "dataset": "seq-digits",
    "evaluate_on": "validation",
    "device": "cpu",
    "n_tasks": 2,
    "max_train_images_per_task": 60,
    "buffer_size": 20,
    "nf": 4,
    "hidden_dim_ratio": 4,
    "lr": 0.05,
}
_STEPS = 3  # steps that are watched one by one


def check(model: str) -> Iterator[tuple[str, str | None]]:
    """Yield (what is checked, the fault in words or None) of a method, one check after the other.

    Raises UserError if the method cannot be imported. After a fault in a step, the checks that need
    whole runs are left out.
    """
    config = TrainConfig(**TINY, model=model)
    stream = load_stream(config, torch.device("cpu"))
    checks: list[tuple[str, Callable[[], None]]] = [
        ("a step returns a loss of the right form", lambda: _steps(Trainer(config, stream))),
        ("no random numbers from outside the run", lambda: _randomness(Trainer(config, stream))),
        ("two runs with one seed are equal", lambda: _repeats(config, stream)),
        ("a run saved and resumed ends equal", lambda: _resumes(config, stream)),
    ]
    if is_trainer(model):
        checks = checks_of_trainer(config, stream)
    with _locked():
        build_run(config, stream)
        if about := declared(model):
            shown = ", ".join(f"{PREFIX}{one.name} {one.default!r}" for one in about)
            checks.insert(0, (f"hyperparameters: {shown}", lambda: _hyperparameters(model, about)))
        for what, run in checks:
            try:
                run()
            except Fault as fault:
                yield what, str(fault)
                return
            except TestImagesLocked:
                yield what, "it reads test images, which a sweep does not allow."
                return
            except DynamosError as error:
                yield what, str(error)
                return
            # the user's method may raise anything
            except Exception as error:
                place = _place(error)
                yield what, f"it raises {type(error).__name__}: {error} ({place})."
                return
            yield what, None


@contextmanager
def _locked() -> Iterator[None]:
    """Lock the test images, as a sweep does."""
    before = os.environ.get(TEST_LOCK)
    os.environ[TEST_LOCK] = "locked"
    try:
        yield
    finally:
        del os.environ[TEST_LOCK]
        if before is not None:
            os.environ[TEST_LOCK] = before


def _place(error: Exception) -> str:
    """File and line of the last call of an error."""
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"


def _hyperparameters(model: str, about: Sequence[Setting]) -> None:
    """Compare the defaults in the text of a method's file with those of the imported method."""
    if code_of(model) is None:
        return
    found = inspect.signature(load(model, "method")).parameters
    for one in about:
        if one.name not in found or found[one.name].default != one.default:
            real = found[one.name].default if one.name in found else "missing"
            raise Fault(
                f"the file gives {one.name} the default {one.default!r}, and after its import the "
                f"default is {real!r}; write the default as a number, a text or a constant."
            )


def _watched(trainer: Trainer, look: Callable[[Any], None]) -> None:
    """Do some steps of the first task and call `look` with what the method returns."""
    told = trainer._learner.loss

    def loss(step: Any) -> Any:
        found = told(step)
        look((step, found))
        return found

    trainer._learner = replace(trainer._learner, loss=loss)
    for number, (images, bypass) in enumerate(trainer.steps_of_task()):
        if number == _STEPS:
            return
        trainer._train_step(images, bypass)


def _steps(trainer: Trainer) -> None:
    def look(seen: Any) -> None:
        step, found = seen
        if not isinstance(found, Loss):
            raise Fault(
                f"`loss` returns {type(found).__name__}; it must return "
                "dynamos.methods.step.Loss(value, output, terms)."
            )
        value, logits = found.value, found.output.logits
        if not isinstance(value, Tensor) or value.dim():
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise Fault(f"the value of the loss is {shape}; it must be a scalar tensor.")
        if value.device != trainer.device or logits.device != trainer.device:
            raise Fault(f"the loss is on {value.device}; the run is on {trainer.device}.")
        if not value.requires_grad:
            raise Fault("the value of the loss has no gradient.")
        number = float(value.detach())
        if not math.isfinite(number):
            raise Fault(f"the value of the loss is {number}.")
        wanted = len(step.images), trainer.stream.num_classes
        if tuple(logits.shape) != wanted:
            raise Fault(
                f"output.logits has shape {tuple(logits.shape)}; it must be that of the stream "
                f"images, {wanted}."
            )
        strange = [name for name in found.terms if name not in TERMS]
        if strange:
            raise Fault(f"terms has {strange[0]!r}; the names are {', '.join(TERMS)}.")
        whole = sum(float(term.detach()) for term in found.terms.values())
        if not math.isclose(whole, number, rel_tol=1e-4, abs_tol=1e-6):
            raise Fault(f"the terms add up to {whole:g}, and the value is {number:g}.")

    _watched(trainer, look)
    moved = [p.grad for p in trainer.network.parameters() if p.grad is not None]
    if not any(bool((g != 0).any()) for g in moved):
        raise Fault("no parameter of the network has a gradient.")
    if not all(bool(g.isfinite().all()) for g in moved):
        raise Fault("a gradient is not finite.")


def _randomness(trainer: Trainer) -> None:
    def state() -> dict[str, bytes]:
        return {
            "random": repr(random.getstate()).encode(),
            "numpy.random": repr(np.random.get_state()).encode(),
            "torch's global generator": bytes(torch.get_rng_state().tolist()),
        }

    before = state()
    _watched(trainer, lambda _: None)
    for name, value in state().items():
        if value != before[name]:
            raise Fault(
                f"a step draws from {name}; draw from `run.generator`, else a run does not repeat."
            )


def _finished(trainer: Trainer) -> Trainer:
    for _ in trainer:
        pass
    return trainer


def _repeats(config: TrainConfig, stream: Any) -> None:
    one, other = (_finished(Trainer(config, stream)) for _ in range(2))
    _refuse_difference(one, other, "the second run")


def _resumes(config: TrainConfig, stream: Any) -> None:
    whole = _finished(Trainer(config, stream))
    for steps, where in ((None, "after task 1"), (whole.steps * 3 // 4, "in the middle of task 2")):
        first = Trainer(config, stream)
        content = io.BytesIO()
        if steps is None:
            first.run_task()
            _save(first, content)
        else:
            _save_at(first, steps, content)
        resumed = Trainer(config, stream)
        resumed.load_state_dict(torch.load(io.BytesIO(content.getvalue()), weights_only=True))
        _refuse_difference(whole, _finished(resumed), f"a run resumed {where}")


def _save(trainer: Trainer, to: io.BytesIO) -> None:
    try:
        torch.save(trainer.state_dict(), to)
        torch.load(io.BytesIO(to.getvalue()), weights_only=True)
    except Exception as error:
        said = str(error).splitlines()[0]
        raise Fault(f"`state_dict` must hold tensors and plain values only: {said}") from None


def _save_at(trainer: Trainer, steps: int, to: io.BytesIO) -> None:
    class Enough(Exception):
        pass

    def stop(run: Trainer) -> None:
        if run.steps == steps:
            _save(run, to)
            raise Enough

    trainer.on_step = stop
    try:
        _finished(trainer)
    except Enough:
        return
    raise AssertionError(f"the run has fewer than {steps} steps")


def _refuse_difference(wanted: Trainer, found: Trainer, which: str) -> None:
    """Raise Fault that names the first tensor of the network in which two runs differ."""
    own = found.network.state_dict()
    for name, value in wanted.network.state_dict().items():
        if not torch.equal(value, own[name]):
            most = float((value.double() - own[name].double()).abs().max())
            raise Fault(
                f"{which} ends with another network: {name} differs by up to {most:.2g}. State "
                "that steps depend on must be in `state_dict` and come back by `load_state_dict`."
            )
    a, b = wanted.results[-1].class_il, found.results[-1].class_il
    if a != b:
        raise Fault(f"{which} has class-il {b:.2f}, not {a:.2f}.")
