"""A cohort: R runs, each with its own seed and settings, that train as one program.

A training step of a small network is about a thousand small operations, most of whose time is not
arithmetic. A cohort does a step of all its runs with about as many operations as one run needs.
"""

import functools
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynamos import stacked_losses
from dynamos.augment import DRAWS, crop_flip
from dynamos.buffer import Replay, reservoir_slots
from dynamos.config import ALIKE
from dynamos.data import Images, as_input
from dynamos.errors import NonFiniteError, UserError
from dynamos.metrics import EpochReading, TaskResult
from dynamos.network import Output
from dynamos.stacked import Networks, Present
from dynamos.step_graph import Program, StepGraph, by_graph
from dynamos.torch_names import add_products
from dynamos.trainer import TERMS, Trainer
from dynamos.user_code import code_of

_BUFFER = ("images", "labels", "logits", "policy_logits", "seen")
_SUMS = ("_sums", "_first_bad_step", "_point_sums")


class Kind(NamedTuple):
    """Kind of a step. Runs whose steps are of one kind do them together."""

    images: int  # number of stream images
    bypass: bool  # True if the gates are bypassed
    filling: bool  # True if the buffer does not hold a whole minibatch yet


@dataclass(frozen=True, slots=True)
class Inputs:
    """Inputs of a step of R runs: N stream images and M replayed ones each."""

    pixels: Tensor  # (R, N, C, H, W) uint8
    labels: Tensor  # (R, N)
    noise: Tensor  # (R, N, G, C), of the gates
    drawn: Tensor  # (R, N) float64, the buffer's draws for the images that are offered to it
    replayed: Tensor  # (R, M), slots of the buffer
    replay_noise: Tensor  # (R, M, G, C)
    present: Tensor  # (R, M), 1 for a replayed image, 0 for the rest while a buffer fills
    steps: Tensor  # (R,), number of the step in its run, from 1
    active: Tensor  # (R,) bool, False for a slot that takes no step
    crops: Tensor  # (R, N, 3), of the augmentation; without, (R, N, 0)
    replay_crops: Tensor  # (R, M, 3)


class Cohort:
    """Runs that train together. Slot r has the run whose tensors are row r of the cohort's stacks.

    A run in a cohort is still a Trainer: it can be evaluated, saved and exported as always. Runs
    may be at different tasks and epochs. Other runs change nothing in a run, to the last bit. Its
    slot and the number of slots change the last bits, because a processor's vectors cover channels
    of several runs. A cohort of one slot uses the Trainer's own step, and so do all cohorts of a
    method that is not `stacked` (dynamos.methods) or of a user's network.

    Iterating trains all runs to their ends. It yields (slot, TaskResult) after each task of each
    run, and (slot, NonFiniteError) if a run is not finite any more; its slot is then free. Between
    two results the caller may `release` runs and `put` others in. After any other error the runs
    cannot continue; their checkpoints can.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        """Give each run a slot. Raises UserError if the runs do not fit together."""
        self._build(trainers)

    def _build(self, trainers: Sequence[Trainer]) -> None:
        if not trainers:
            raise UserError("a cohort needs at least one run.")
        first = trainers[0]
        if len(trainers) > 1 and first.config.step_mode == "compile":
            raise UserError(
                "step_mode compile is for single runs; a cohort needs eager, graph or auto."
            )
        self._first = first
        for trainer in trainers:
            self._check(trainer)
        self.slots: list[Trainer | None] = [*trainers]
        self._walks: dict[int, _Walk] = {}
        # Without a program for all, each run does its own step.
        own = code_of(first.config.network) is not None
        self._stacked = len(trainers) > 1 and first.method.stacked and not own
        if not self._stacked:
            return
        self._networks = Networks([t.network for t in trainers])
        self._buffers = _stacks([t.buffer for t in trainers], _BUFFER)
        self._sums = _stacks(trainers, _SUMS)
        runs, rows = len(trainers), first.buffer.capacity + 1
        self._base = (torch.arange(runs, device=first.device) * rows)[:, None]
        self._settings = {
            name: torch.zeros(runs, device=first.device)
            for name in (*stacked_losses.SETTINGS, "temperature")
        }
        self._rates = [torch.zeros_like(p) for p in self._networks.parameters]
        self._inputs: dict[int, Inputs] = {}
        self._by_graph = by_graph(first.config.step_mode, first.device)
        self._graphs: dict[bool, StepGraph] = {}  # by: do all slots take a step?
        for slot, trainer in enumerate(trainers):
            self._move_in(slot, trainer)

    def _check(self, trainer: Trainer) -> None:
        """Raise UserError if a run does not fit to the cohort's first."""
        found, wanted = _shape(trainer), _shape(self._first)
        for name, value in found.items():
            if value != wanted[name]:
                raise UserError(
                    f"the runs of a cohort must agree in {name}; they have {wanted[name]} and "
                    f"{value}."
                )

    @property
    def runs(self) -> dict[int, Trainer]:
        """The runs by slot, without free slots."""
        return {slot: t for slot, t in enumerate(self.slots) if t is not None}

    def put(self, slot: int, trainer: Trainer) -> None:
        """Put a run into a free slot. Raises UserError if it does not fit."""
        if self.slots[slot] is not None:
            raise UserError(f"slot {slot} has a run; release it first.")
        self._check(trainer)
        self.slots[slot] = trainer
        if self._stacked:
            self._move_in(slot, trainer)

    def release(self, slot: int) -> Trainer:
        """Free a slot and return its run, which may train alone or in another cohort."""
        trainer = self.slots[slot]
        assert trainer is not None, f"slot {slot} is free"
        self.slots[slot] = None
        self._walks.pop(slot, None)
        if self._stacked:
            self._networks.release(trainer.network)
            for thing, names in ((trainer.buffer, _BUFFER), (trainer, _SUMS)):
                for name in names:
                    setattr(thing, name, getattr(thing, name).clone())
            trainer.moved()
        return trainer

    def keep(self, slots: Sequence[int]) -> None:
        """Make the cohort one of the runs in these slots, in this order; release all others."""
        released = {slot: self.release(slot) for slot in self.runs}
        self._build([released[slot] for slot in slots])

    def _move_in(self, slot: int, trainer: Trainer) -> None:
        """Make a run's tensors rows of the stacks."""
        self._networks.take(slot, trainer.network)
        for thing, stacks in ((trainer.buffer, self._buffers), (trainer, self._sums)):
            for name, stack in stacks.items():
                stack[slot].copy_(getattr(thing, name))
                setattr(thing, name, stack[slot])
        trainer.moved()
        for name, values in self._settings.items():
            values[slot] = getattr(trainer.config, name)
        for rate in self._rates:
            rate.chunk(len(self.slots))[slot].fill_(trainer.config.lr)

    def __iter__(self) -> Iterator[tuple[int, TaskResult | NonFiniteError]]:
        for slot, outcome in self.until(lambda trainer: trainer.done):
            if not isinstance(outcome, EpochReading):
                yield slot, outcome

    def until(
        self, reached: Callable[[Trainer], bool]
    ) -> Iterator[tuple[int, TaskResult | EpochReading | NonFiniteError]]:
        """Train every run until `reached` holds for it; yield as iterating does, and EpochReadings.

        `reached` is asked after each task and after each epoch with a reading.
        """
        self._walks = {}
        while waiting := {slot: t for slot, t in self.runs.items() if not reached(t)}:
            wanted, ended = {}, list[tuple[int, TaskResult | EpochReading | NonFiniteError]]()
            for slot, trainer in waiting.items():
                try:
                    step = self.next(slot)
                except NonFiniteError as error:
                    self.release(slot)
                    ended.append((slot, error))
                    continue
                if step is not None:
                    wanted[slot] = step
                    continue
                task_over = trainer.epoch == 0
                ended.append((slot, (trainer.results if task_over else trainer.epoch_readings)[-1]))
            yield from ended
            # A run that the caller has released in the meantime takes no step.
            walks = {slot: self._walks[slot] for slot in wanted if slot in self._walks}
            self.step({slot: wanted[slot] for slot in walks})

    def next(self, slot: int) -> tuple[Images, bool] | None:
        """Return (images, True if the gates are bypassed) of a run's next step.

        `step` must do this step before the next one is asked for. Returns None at the end of a
        task, when the run has a new result, and of an epoch with a reading. Raises what ends
        the run, above all NonFiniteError; the others can continue.
        """
        if slot not in self._walks:
            self._walks[slot] = _Walk(self.runs[slot])
        step = self._walks[slot].next()
        if step is None:
            del self._walks[slot]
        return step

    def step(self, wanted: Mapping[int, tuple[Images, bool]]) -> None:
        """Do a training step of some runs; others stay as they are.

        `wanted` has (images, True if the gates are bypassed) by slot. It does what
        Trainer.run_task does with a step; counting it is up to Trainer.steps_of_task.
        """
        if not self._stacked:
            for slot, step in wanted.items():
                began = time.perf_counter()
                self.runs[slot]._train_step(*step)
                self._charge([slot], began)
            return
        groups: dict[Kind, dict[int, Tensor | None]] = {}
        runs = self.runs
        for slot, (images, bypass) in wanted.items():
            index = _drawn(runs[slot], bypass)
            filling = index is not None and len(index) < self._replayed
            groups.setdefault(Kind(len(images), bypass, filling), {})[slot] = index
        for kind, members in groups.items():
            began = time.perf_counter()
            inputs = self._inputs_of(kind, members, wanted)
            white = next(iter(wanted.values()))[0].white
            self._program(inputs, kind, white, whole=len(members) == len(self.slots))()
            self._charge([*members], began)

    def _program(self, inputs: Inputs, kind: Kind, white: int, whole: bool) -> Program:
        """The program of a step of this kind; a graph for the most frequent kind."""
        program = functools.partial(self._train, inputs, kind, white, whole)
        failed = any(graph.failed for graph in self._graphs.values())
        if not self._by_graph or failed or kind != self._usual:
            return program
        if whole not in self._graphs:
            self._graphs[whole] = StepGraph(program, self._first.device)
        return self._graphs[whole]

    @property
    def _usual(self) -> Kind:
        """Kind of the most steps."""
        return Kind(self._first.config.batch_size, bypass=False, filling=False)

    @property
    def _replayed(self) -> int:
        """M, the number of images that a step replays from a buffer that holds so many."""
        return min(self._first.config.minibatch_size, self._first.buffer.capacity)

    def _inputs_of(
        self,
        kind: Kind,
        members: Mapping[int, Tensor | None],
        wanted: Mapping[int, tuple[Images, bool]],
    ) -> Inputs:
        """Inputs of a step; each run's random numbers are those that it would draw alone."""
        if kind.images not in self._inputs:
            self._inputs[kind.images] = self._empty_inputs(kind.images)
        inputs = self._inputs[kind.images]
        slots, runs = range(len(self.slots)), self.runs
        # without waiting for the device
        numbers = [runs[slot].steps + 1 if slot in members else 0 for slot in slots]
        inputs.steps.copy_(torch.tensor(numbers), non_blocking=True)
        if len(members) == len(self.slots):
            torch.stack([wanted[slot][0].pixels for slot in slots], out=inputs.pixels)
            torch.stack([wanted[slot][0].labels for slot in slots], out=inputs.labels)
        else:
            active = torch.tensor([slot in members for slot in slots])
            inputs.active.copy_(active, non_blocking=True)
            for slot in members:
                images = wanted[slot][0]
                inputs.pixels[slot], inputs.labels[slot] = images.pixels, images.labels
        for slot, index in members.items():
            run = runs[slot]
            size = inputs.noise.shape[1:]
            torch.rand(size, generator=run.generator, out=inputs.noise[slot])
            crops = inputs.crops.shape[2]
            if index is None:
                if crops:
                    torch.rand(kind.images, crops, generator=run.generator, out=inputs.crops[slot])
                continue
            held = len(index)
            inputs.replayed[slot, :held] = index
            if kind.filling:
                # the images that are not there are the first slot's, without noise
                inputs.replayed[slot, held:] = 0
                inputs.replay_noise[slot, held:] = 0
                inputs.present[slot, :held], inputs.present[slot, held:] = 1, 0
            torch.rand(
                (held, *size[1:]), generator=run.generator, out=inputs.replay_noise[slot, :held]
            )
            torch.rand(kind.images, generator=run.generator, out=inputs.drawn[slot])
            if crops:
                torch.rand(kind.images, crops, generator=run.generator, out=inputs.crops[slot])
                inputs.replay_crops[slot, held:] = 0
                torch.rand(
                    held, crops, generator=run.generator, out=inputs.replay_crops[slot, :held]
                )
        return inputs

    def _empty_inputs(self, n: int) -> Inputs:
        first, runs = self._first, len(self.slots)
        device, m = first.device, self._replayed
        gates = len(first.network.gate_channels), first.network.widest
        crops = 0 if first.config.augment == "none" else DRAWS
        return Inputs(
            torch.zeros(runs, n, *first.stream.image_shape, dtype=torch.uint8, device=device),
            torch.zeros(runs, n, dtype=torch.int64, device=device),
            torch.zeros(runs, n, *gates, device=device),
            torch.zeros(runs, n, dtype=torch.float64, device=device),
            torch.zeros(runs, m, dtype=torch.int64, device=device),
            torch.zeros(runs, m, *gates, device=device),
            torch.zeros(runs, m, device=device),
            torch.zeros(runs, dtype=torch.int64, device=device),
            torch.ones(runs, dtype=torch.bool, device=device),
            torch.zeros(runs, n, crops, device=device),
            torch.zeros(runs, m, crops, device=device),
        )

    def _charge(self, slots: Sequence[int], began: float) -> None:
        """Charge each run of a step with its share of the seconds since `began`."""
        share = (time.perf_counter() - began) / len(slots)
        for slot in slots:
            if slot in self._walks:
                self._walks[slot].charged += share

    def _train(self, inputs: Inputs, kind: Kind, white: int, whole: bool) -> None:
        """The program of a step: Trainer._step of all runs, or (not `whole`) of the active ones.

        Slots without an active run compute numbers, too, but nothing of them is kept.
        """
        before = None if whole else self._networks.copies()
        loss, output, terms = self._loss(inputs, kind, white)
        parameters = self._networks.parameters
        gradients = torch.autograd.grad(loss.sum(), parameters, allow_unused=kind.bypass)
        used = [g is not None for g in gradients]
        updated, steps, rates = (
            list(compress(tensors, used)) for tensors in (parameters, gradients, self._rates)
        )
        with torch.no_grad():
            # plain SGD, each run with its learning rate
            add_products(updated, steps, rates, -1.0)
            if before is not None:
                self._networks.restore(before, ~inputs.active)
            correct = stacked_losses.correctness(output, inputs.labels)
            if self._first.method.rehearses and not kind.bypass:
                self._offer(inputs, output, correct if whole else correct & inputs.active[:, None])
            gated = self._first.method.gated
            kept = output.kept.mean((1, 2)) if gated else torch.ones_like(loss)
            n = kind.images
            sums = torch.stack([loss * n, correct.sum(1), kept * n, torch.full_like(loss, n)], 1)
            finite = torch.isfinite(output.logits).flatten(1).all(1) & torch.isfinite(loss)
            bad = ~finite if whole else ~finite & inputs.active
            first_bad = self._sums["_first_bad_step"]
            first_bad.copy_(torch.where((first_bad < 0) & bad, inputs.steps, first_bad))
            added = {"_sums": sums}
            if self._first.config.log_every:
                none = torch.zeros_like(loss)
                point = [terms.get(name, none) for name in TERMS]
                added["_point_sums"] = torch.cat([torch.stack(point, 1), output.kept.mean(1)], 1)
            for name, values in added.items():
                kept_values = values if whole else values.where(inputs.active[:, None], 0)
                self._sums[name] += kept_values

    def _loss(
        self, inputs: Inputs, kind: Kind, white: int
    ) -> tuple[Tensor, Output, dict[str, Tensor]]:
        """(losses (R,), output on the stream images, terms of the losses), as Trainer._loss."""
        gating = self._first.method.gated and not kind.bypass
        pixels = _augmented(inputs.pixels, inputs.crops)
        output = self._forward(pixels, white, inputs.noise, kind.bypass)
        terms = stacked_losses.stream_terms(output, inputs.labels, self._settings, gating)
        if self._first.method.rehearses and not kind.bypass:
            present = Present(inputs.present) if kind.filling else None
            replay = self._replay(inputs.replayed)
            images = _augmented(replay.images, inputs.replay_crops)
            again = self._forward(images, white, inputs.replay_noise, kind.bypass, present)
            terms["rehearsal"] = stacked_losses.rehearsal_loss(
                again,
                replay.labels,
                replay.logits,
                replay.policy_logits,
                self._settings,
                gating,
                present,
            )
        return functools.reduce(torch.add, terms.values()), output, terms

    def _forward(
        self,
        pixels: Tensor,
        white: int,
        noise: Tensor,
        bypass: bool,
        present: Present | None = None,
    ) -> Output:
        images = as_input(pixels.flatten(0, 1), white).unflatten(0, pixels.shape[:2])
        bf16 = self._first.config.precision == "bf16"
        with torch.autocast(self._first.device.type, torch.bfloat16, enabled=bf16):
            return self._networks(images, noise, self._settings["temperature"], bypass, present)

    def _replay(self, slots: Tensor) -> Replay:
        """The images in slots (R, M) of the buffers; every tensor has R as its first axis."""
        place = (slots + self._base).flatten()
        images, labels, logits, policy_logits = (
            self._buffers[name].flatten(0, 1).index_select(0, place).unflatten(0, slots.shape)
            for name in ("images", "labels", "logits", "policy_logits")
        )
        return Replay(images, labels, logits, policy_logits)

    def _offer(self, inputs: Inputs, output: Output, correct: Tensor) -> None:
        """Buffer.offer of all runs."""
        seen, capacity = self._buffers["seen"], self._first.buffer.capacity
        slots = reservoir_slots(seen, correct, inputs.drawn, capacity)
        place = (slots + self._base).flatten()
        for name, new in (
            ("images", inputs.pixels),
            ("labels", inputs.labels),
            ("logits", output.logits),
            ("policy_logits", output.policy_logits),
        ):
            stack = self._buffers[name]
            stack.flatten(0, 1).index_copy_(0, place, new.flatten(0, 1).to(stack.dtype))
        seen += correct.sum(1)


class _Walk:
    """A run's way through a task, in time that is its own.

    Attributes:
        charged: seconds of the step that it asked for last.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._steps: Generator[tuple[Images, bool], float | None, None] = trainer.steps_of_task()
        self._since: float | None = None
        self.charged = 0.0

    def next(self) -> tuple[Images, bool] | None:
        """Return (images, bypass) of the next step; None at the end of the task."""
        others = None
        if self._since is not None:
            others = time.perf_counter() - self._since - self.charged
        try:
            step = self._steps.send(others)
        except StopIteration:
            return None
        self._since, self.charged = time.perf_counter(), 0.0
        return step


def _augmented(pixels: Tensor, crops: Tensor) -> Tensor:
    """The images (R, N, C, H, W) of a step as the networks see them."""
    if not crops.shape[2]:
        return pixels
    return crop_flip(pixels.flatten(0, 1), crops.flatten(0, 1)).view(pixels.shape)


def _drawn(run: Trainer, bypass: bool) -> Tensor | None:
    """Slots of the buffer that a run replays; None in a step without rehearsal."""
    if bypass or not run.method.rehearses:
        return None
    index = run.buffer.drawn(run.config.minibatch_size, run.generator)
    return torch.zeros(0, dtype=torch.int64, device=run.device) if index is None else index


def _shape(trainer: Trainer) -> dict[str, Any]:
    """Return the values that are the same for all runs of a cohort, by name."""
    return {name: getattr(trainer.config, name) for name in ALIKE} | {
        "the size of images": trainer.stream.image_shape,
        "the number of classes": trainer.stream.num_classes,
    }


def _stacks(things: Sequence[Any], names: Sequence[str]) -> dict[str, Tensor]:
    """Stacks (R, ...) of tensors that are attributes of R objects."""
    return {name: torch.stack([getattr(thing, name) for thing in things]) for name in names}
