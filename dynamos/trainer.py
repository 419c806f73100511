"""The Trainer: it trains a method on a stream and yields a TaskResult for each task."""

import dataclasses
import functools
import logging
import math
import os
import time
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from statistics import median
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from dynamos import losses
from dynamos.augment import DRAWS, crop_flip
from dynamos.averaging import Average, limited
from dynamos.buffer import Buffer, Replay
from dynamos.config import TrainConfig
from dynamos.data import Images, as_input
from dynamos.device import pick_device
from dynamos.errors import NonFiniteError, UserError
from dynamos.evaluation import Evaluation, channel_use, evaluate, task_result
from dynamos.macs import Macs
from dynamos.methods import method_of
from dynamos.methods.learner import learner
from dynamos.methods.own import facts
from dynamos.methods.step import Step
from dynamos.metrics import EpochReading, TaskResult, mean
from dynamos.network import Output, ResNet, build_network
from dynamos.own_network import OwnNetwork, refuse_unfit
from dynamos.readings import most_readings, reading_part, reading_steps
from dynamos.runs import Run, refuse_other_run
from dynamos.sgd import Sgd
from dynamos.step_graph import StepGraph, by_graph
from dynamos.streams import Stream, load_stream
from dynamos.streams.stream import cumulative
from dynamos.torch_names import compile_error
from dynamos.user_code import code_hashes, code_of

log = logging.getLogger(__name__)

# The loss of a step is the sum of these terms (method.md section 2).
TERMS = ("task", "policy", "prototype", "rehearsal")
# After this many steps the host asks the device if all values are still finite.
STEPS_BETWEEN_READS = 50


@dataclass(frozen=True, slots=True)
class Inputs:
    """Inputs of a step of a run: N stream images, M replayed ones and random numbers."""

    images: Images  # N
    bypass: bool  # True if the gates are bypassed
    noise: Tensor  # (N, G, C), of the gates
    replayed: Tensor | None  # (M,), slots of the buffer; None without a replayed image
    replay_noise: Tensor | None  # (M, G, C)
    drawn: Tensor | None  # (N,) float64, for the buffer; None if no image is offered to it
    number: Tensor  # (), number of the step in its run, from 1
    crops: Tensor | None = None  # (N, 3), of the augmentation; None without
    replay_crops: Tensor | None = None  # (M, 3)

    def copied(self) -> "Inputs":
        """Return inputs of the same kind in memory of their own."""

        def own(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.clone()

        pixels, labels, white = self.images.pixels, self.images.labels, self.images.white
        return Inputs(
            Images(pixels.clone(), labels.clone(), white),
            self.bypass,
            self.noise.clone(),
            own(self.replayed),
            own(self.replay_noise),
            own(self.drawn),
            self.number.clone(),
            own(self.crops),
            own(self.replay_crops),
        )

    def update(self, other: "Inputs") -> None:
        """Copy the values of inputs of the same kind."""
        for own, new in zip(self._tensors, other._tensors, strict=True):
            if own is not None and new is not None:
                own.copy_(new)

    @property
    def _tensors(self) -> list[Tensor | None]:
        images = self.images.pixels, self.images.labels
        crops = self.crops, self.replay_crops
        rest = self.noise, self.replayed, self.replay_noise, self.drawn, self.number
        return [*images, *rest, *crops]


class Trainer(Run):
    """One run. Iterating trains the remaining tasks and yields a TaskResult after each.

    Every random choice comes from generators of this run, seeded from config.seed, so that runs in
    one process do not disturb each other.

    Attributes:
        results: TaskResults so far.
        untrained: {"class_il": (T,), "task_il": (T,)}, accuracies before training; None until
            measured.
        channel_use: (K, G, C), the fraction of each class's images that kept each channel, measured
            after the last task that this process trained. NaN for a class not seen yet; None
            before the first task is learned.
        curve: one point for every config.log_every steps: the number of steps done ("steps"), the
            task from 0 ("task"), and means over these steps of each of TERMS ("loss_TERM") and of
            the fraction that each gate keeps ("keep_gateN").
        task, epoch, step: position of the run; `step` counts within the epoch.
        network: the trained network, as the last step left it.
        macs: its multiply-accumulates on an image.
        average: its exponential average; None if config.average_decay is 0.
        readings: class-il accuracies of the readings so far (config.readings).
        epoch_readings: the EpochReadings so far.
    """

    def __init__(
        self,
        config: TrainConfig,
        stream: Stream | None = None,
        *,
        on_step: Callable[["Trainer"], None] | None = None,
        on_epoch: Callable[["Trainer", dict[str, float]], None] | None = None,
        on_point: Callable[["Trainer", dict[str, float]], None] | None = None,
        read_epochs: Collection[int] = (),
    ) -> None:
        """Build the run; raise UserError if configuration and data do not fit.

        Args:
            config: configuration of the run.
            stream: its stream, if already loaded (on the run's device).
            on_step: called after every training step; it may save the trainer's state.
            on_epoch: called after every epoch with its mean loss, accuracy and keep fraction.
            on_point: called with every new point of the curve, before `on_step`.
            read_epochs: numbers of epochs of the whole run after which an EpochReading is taken, if
                a task goes on then. Nothing else changes by it.
        """
        self.config = config = config.whole()
        self.device = pick_device(config.device)
        torch.set_num_threads(config.threads)
        # as use_deterministic_algorithms, which would import torch's compiler: that takes a second
        torch.set_deterministic_debug_mode("error" if config.deterministic else "default")
        # cuBLAS repeats its results only with a fixed workspace. It reads this at its first use.
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self._code = code_hashes(config.names_of_code)
        self.method = facts(config.model)
        stream = load_stream(config, self.device) if stream is None else stream
        self.stream = cumulative(stream) if self.method.cumulative else stream
        self.on_step, self.on_epoch, self.on_point = on_step, on_epoch, on_point
        self.network = build_network(config, self.stream.num_classes).to(self.device)
        if isinstance(self.network, OwnNetwork):
            refuse_unfit(self.network, config.network, *self.stream.image_shape[1:])
        self.macs = Macs.of(self.network, *self.stream.image_shape[1:])
        self._learner = learner(config.model, self)
        self.optimizer = Sgd(self.network.parameters(), config.lr)
        self.average = Average(self.network) if config.average_decay else None
        self.buffer = Buffer(
            config.buffer_size if self.method.rehearses else 0,
            self.stream.image_shape,
            self.stream.num_classes,
            self.network.num_policy_logits,
            self.device,
        )
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.task = self.epoch = self.step = self.steps = 0
        self.results: list[TaskResult] = []
        self.readings: list[float] = []
        self.epoch_readings: list[EpochReading] = []
        self._read_epochs = frozenset(read_epochs)
        self._read_seconds = 0.0
        self._part = reading_part(self.stream) if config.readings else None
        self.untrained: dict[str, list[float]] | None = None
        self.channel_use: np.ndarray | None = None
        self._train_seconds = 0.0
        # sums over this epoch: loss, correct, keep fraction, images
        self._sums = torch.zeros(4, device=self.device)
        self.curve: list[dict[str, float]] = []
        self._since_point = 0  # steps since the last point of the curve
        # sums over these steps: terms, keep fractions of the gates
        self._point_sums = torch.zeros(
            len(TERMS) + len(self.network.gate_channels), device=self.device
        )
        self._last_epoch = {"loss": math.nan, "accuracy": math.nan, "keep_fraction": math.nan}
        self._first_bad_step = torch.full((), -1, dtype=torch.int64, device=self.device)
        self._number = torch.zeros((), dtype=torch.int64, device=self.device)  # of a step
        self._loss = self._compiled_loss() if config.step_mode == "compile" else self._eager_loss
        # A recording would repeat what the user's or the method's Python code did in one step.
        own_method = code_of(config.model) is not None or self._learner.end_task is not None
        own_network = code_of(config.network) is not None
        own = own_method or own_network
        self._by_graph = by_graph(config.step_mode, self.device) and not own
        if own and config.step_mode == "graph":
            which = config.model if own_method else config.network
            log.warning("step_mode graph is not available for %s, using eager", which)
        self._graph: tuple[Inputs, StepGraph] | None = None
        check_fit(config, self.stream)

    @property
    def evaluated(self) -> ResNet:
        """The network that is evaluated, saved and exported: the average if there is one."""
        return self.network if self.average is None else self.average.network

    def run_task(self) -> TaskResult:
        """Train the rest of the current task, evaluate, and move to the next task."""
        known = len(self.results)
        while len(self.results) == known:
            for images, bypass in self.steps_of_task():
                self._train_step(images, bypass)
        return self.results[-1]

    def steps_of_task(self) -> Generator[tuple[Images, bool], float | None, None]:
        """Yield (images, True if the gates are bypassed) of each step that is left in the task.

        The caller does the step before it resumes. It may send the seconds that other runs took
        since the yield. After the last step the run is evaluated and moves to the next task. It
        also ends after an epoch with a reading; then the next call continues the task.
        """
        if self.untrained is None:
            untrained = [self._evaluate(t, bypass=self.config.warmup) for t in range(self.n_tasks)]
            self.untrained = {
                "class_il": [u.class_il for u in untrained],
                "task_il": [u.task_il for u in untrained],
            }
        while self.epoch < self.config.n_epochs:
            yield from self._steps_of_epoch()
            epochs = self.task * self.config.n_epochs + self.epoch
            if self.epoch < self.config.n_epochs and epochs in self._read_epochs:
                self.epoch_readings.append(self._epoch_reading(epochs))
                return
        self._add_point()  # no point covers two tasks
        result = self._result()
        self.results.append(result)
        for text in result.warnings:
            log.warning(text)
        if result.lags:
            log.warning(
                "the averaged network lags: its class-il is %.2f, that of the last step's network "
                "%.2f; try an average_decay smaller than %g",
                result.class_il,
                result.class_il_unaveraged,
                self.config.average_decay,
            )
        if self._learner.end_task is not None:
            self._learner.end_task()
        self.task, self.epoch, self._train_seconds = self.task + 1, 0, 0.0

    def _steps_of_epoch(self) -> Generator[tuple[Images, bool], float | None, None]:
        self.network.train()
        batches = self.stream.batches(self.task, self.epoch, self.config)
        of_task = len(batches) * self.config.n_epochs
        decay = limited(self.config.average_decay, of_task)
        read_at = self._read_at(of_task)
        before = self._train_seconds - time.perf_counter()
        while self.step < len(batches):
            images = self.stream.images(self.task, batches[self.step])
            before -= (yield images, self._warming_up(self.epoch, self.steps)) or 0.0
            if self.average is not None:
                self.average.update(decay)
            self.step += 1
            self.steps += 1
            self._since_point += bool(self.config.log_every)
            self._train_seconds = before + time.perf_counter()
            if self.epoch * len(batches) + self.step in read_at:
                before -= self._read()  # a reading is not training time
            if self.config.log_every and self.steps % self.config.log_every == 0:
                self._add_point()
            if self.step % STEPS_BETWEEN_READS == 0:
                self._raise_if_not_finite()
            if self.on_step is not None:
                self.on_step(self)
        self._raise_if_not_finite()
        loss, correct, keep, images = self._sums.tolist()
        self._last_epoch = {
            "loss": loss / images,
            "accuracy": 100 * correct / images,
            "keep_fraction": keep / images,
        }
        self._sums.zero_()
        if self.on_epoch is not None:
            self.on_epoch(self, self._last_epoch)
        self.epoch, self.step = self.epoch + 1, 0

    def _train_step(self, images: Images, bypass: bool) -> None:
        inputs = self._inputs(images, bypass)
        replayed = 0 if inputs.replayed is None else len(inputs.replayed)
        if self._by_graph and self._usual(len(images), replayed, bypass):
            self._graph_step(inputs)
        else:
            self._step(inputs)

    def _inputs(self, images: Images, bypass: bool) -> Inputs:
        """Draw the random numbers of a step."""
        rehearses = self.method.rehearses and not bypass
        replayed = self._drawn() if rehearses else None
        return Inputs(
            images,
            bypass,
            self._noise(len(images)),
            replayed,
            None if replayed is None else self._noise(len(replayed)),
            torch.rand(
                len(images), dtype=torch.float64, device=self.device, generator=self.generator
            )
            if rehearses
            else None,
            self._number.fill_(self.steps + 1),
            self._crops(len(images)),
            None if replayed is None else self._crops(len(replayed)),
        )

    def _crops(self, images: int) -> Tensor | None:
        """Random numbers (N, 3) of the augmentation; None without."""
        if self.config.augment == "none":
            return None
        return torch.rand(images, DRAWS, device=self.device, generator=self.generator)

    def _drawn(self) -> Tensor | None:
        """Slots of the buffer to replay; None if it is empty."""
        count, draws = self.config.minibatch_size, range(self.method.draws)
        parts = [self.buffer.drawn(count, self.generator) for _ in draws]
        found = [part for part in parts if part is not None]
        return torch.cat(found) if len(found) > 1 else next(iter(found), None)

    def _graph_step(self, inputs: Inputs) -> None:
        """Do a usual step by a graph."""
        if self._graph is None:
            fixed = inputs.copied()
            self._graph = fixed, StepGraph(functools.partial(self._step, fixed), self.device)
        fixed, graph = self._graph
        fixed.update(inputs)
        graph()
        self._by_graph = not graph.failed

    def moved(self) -> None:
        """Use the network's and the buffer's tensors after they were replaced by others."""
        self._graph = None
        if self.average is not None:
            self.average.follow(self.network)

    def _step(self, inputs: Inputs) -> None:
        """The program of a step, without random numbers and without waiting for the device."""
        images, bypass = inputs.images, inputs.bypass
        replay = None if inputs.replayed is None else self.buffer.take(inputs.replayed)
        shown = images
        if inputs.crops is not None:
            shown = dataclasses.replace(images, pixels=crop_flip(images.pixels, inputs.crops))
        if replay is not None and inputs.replay_crops is not None:
            again = crop_flip(replay.images, inputs.replay_crops)
            replay = dataclasses.replace(replay, images=again)
        loss, output, terms = self._loss(shown, inputs.noise, replay, inputs.replay_noise, bypass)
        self.optimizer.zero_grad()
        loss.backward()
        if self._learner.project is not None:
            view = self._view(shown, inputs.noise, replay, inputs.replay_noise, bypass)
            self._learner.project(view, list(self.network.parameters()))
        self.optimizer.step()
        with torch.no_grad():
            correct = losses.correctness(output, images.labels)
            if inputs.drawn is not None:
                self.buffer.offer(
                    images.pixels,
                    images.labels,
                    output.logits,
                    output.policy_logits,
                    torch.ones_like(correct) if self.method.stores_all else correct,
                    inputs.drawn,
                )
            kept = output.kept.mean() if self.method.gated else torch.ones_like(loss)
            n = len(images)
            self._sums += torch.stack(
                [loss.detach() * n, correct.sum(), kept * n, torch.full_like(loss, n)]
            )
            # The loss covers the policy logits, but it may be finite where the logits of one class
            # are not.
            finite = torch.isfinite(output.logits).all() & torch.isfinite(loss)
            first_bad = self._first_bad_step
            first_bad.copy_(torch.where((first_bad < 0) & ~finite, inputs.number, first_bad))

            if self.config.log_every:
                none = torch.zeros_like(loss)
                self._point_sums += torch.cat(
                    [
                        torch.stack([terms.get(name, none) for name in TERMS]),
                        output.kept.mean(0),
                    ]
                )

    def _usual(self, images: int, replayed: int, bypass: bool) -> bool:
        """True for the most frequent kind of step, the one that is compiled or recorded.

        It has a whole batch, active gates and the full number of replayed images.
        """
        whole = min(self.config.batch_size, len(self.stream.train[0]))
        most = self.method.draws * min(self.config.minibatch_size, self.buffer.capacity)
        return not bypass and images >= whole and replayed >= most

    def _read_at(self, steps: int) -> list[int]:
        """The steps after which a reading is taken in this task of so many steps."""
        last = self.task == self.n_tasks - 1
        return reading_steps(self.config.readings, steps) if self.config.readings and last else []

    def _read(self) -> float:
        """Take a reading and return its seconds."""
        started = time.perf_counter()
        tasks = range(self.n_tasks)
        found = [self._evaluate_aside(t, self.evaluated, self._part) for t in tasks]
        self.readings.append(mean(e.class_il for e in found))
        self.network.train()
        seconds = time.perf_counter() - started
        self._read_seconds += seconds
        return seconds

    def _add_point(self) -> None:
        """Add a point to the curve if a step was done since the last. This waits for the device."""
        if self._since_point == 0:
            return
        gates = range(len(self.network.gate_channels))
        names = [*(f"loss_{term}" for term in TERMS), *(f"keep_gate{g + 1}" for g in gates)]
        means = (self._point_sums / self._since_point).tolist()
        point = {"steps": self.steps, "task": self.task, **dict(zip(names, means, strict=False))}
        self._point_sums.zero_()
        self._since_point = 0
        self.curve.append(point)
        if self.on_point is not None:
            self.on_point(self, point)

    def _eager_loss(
        self,
        images: Images,
        noise: Tensor,
        replay: Replay | None,
        replay_noise: Tensor | None,
        bypass: bool,
    ) -> tuple[Tensor, Output, dict[str, Tensor]]:
        """(loss of one step, the network's output on the stream images, the loss's terms)."""
        return self._learner.loss(self._view(images, noise, replay, replay_noise, bypass))

    def _view(
        self,
        images: Images,
        noise: Tensor,
        replay: Replay | None,
        replay_noise: Tensor | None,
        bypass: bool,
    ) -> Step:
        def forward(
            pixels: Tensor, noise: Tensor | None = None, network: ResNet | None = None
        ) -> Output:
            if noise is None:  # of a dense network: its noise is empty
                noise = torch.empty(len(pixels), *self.network.noise_shape, device=self.device)
            return self._forward(pixels, images.white, noise, bypass, network)

        gating = self.method.gated and not bypass
        return Step(self.config, images, noise, replay, replay_noise, gating, forward)

    def _compiled_loss(self) -> Callable[..., tuple[Tensor, Output, dict[str, Tensor]]]:
        """Return a loss function that is compiled for the usual kind of step and eager for others.

        Compiling takes minutes on a CPU, for each shape. If it fails, a warning is logged and all
        steps are eager.
        """
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"
        compiled = torch.compile(self._eager_loss, mode=mode)

        def loss(
            images: Images,
            noise: Tensor,
            replay: Replay | None,
            replay_noise: Tensor | None,
            bypass: bool,
        ) -> tuple[Tensor, Output, dict[str, Tensor]]:
            arguments = images, noise, replay, replay_noise, bypass
            replayed = 0 if replay is None else len(replay.labels)
            if not self._usual(len(images), replayed, bypass):
                return self._eager_loss(*arguments)
            try:
                return compiled(*arguments)
            except compile_error() as error:
                log.warning(
                    "step_mode compile is not available, using eager: %s",
                    str(error).strip().splitlines()[0],
                )
                self._loss = self._eager_loss
                return self._eager_loss(*arguments)

        return loss

    def _forward(
        self,
        pixels: Tensor,
        white: int,
        noise: Tensor | None,
        bypass: bool,
        network: ResNet | None = None,
    ) -> Output:
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"
        ):
            output: Output = (network or self.network)(as_input(pixels, white), noise, bypass)
            return output

    def _noise(
        self,
        images: int,
        network: ResNet | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return torch.rand(
            images,
            *(network or self.network).noise_shape,
            device=self.device,
            generator=generator or self.generator,
        )

    def _warming_up(self, epoch: int, steps: int) -> bool:
        """True if the gates are bypassed in a step: only at the start of the first task.

        `epoch` is that of the step in its task, `steps` the number of steps before it.
        """
        if not (self.config.warmup and self.method.gated and self.task == 0):
            return False
        if self.config.n_epochs > self.config.warmup_epochs:
            return epoch < self.config.warmup_epochs
        return steps < self.config.warmup_steps

    def _raise_if_not_finite(self) -> None:
        step = int(self._first_bad_step)
        if step < 0 and not bool(
            torch.stack([p.sum() for p in self.network.parameters()]).isfinite().all()
        ):
            step = self.steps
        if step >= 0:
            self._non_finite(step)

    def _non_finite(self, step: int) -> NoReturn:
        self._add_point()  # so that the curve includes the last steps before the failure
        raise NonFiniteError(
            f"loss, logits or parameters became non-finite in task {self.task + 1}, step {step}",
            self.config.to_dict(),
        )

    def _evaluate(
        self,
        task: int,
        bypass: bool = False,
        network: ResNet | None = None,
        stream: Stream | None = None,
        generator: torch.Generator | None = None,
    ) -> Evaluation:
        """Evaluate a network, by default `evaluated`, on a task's evaluation images."""
        network = (network or self.evaluated).eval()

        def forward(pixels: Tensor, white: int) -> Output:
            noise = self._noise(len(pixels), network, generator)
            return self._forward(pixels, white, noise, bypass, network)

        found = evaluate(forward, stream or self.stream, task, self.config.temperature)
        if found is None:
            self._non_finite(self.steps)
        return found

    def _evaluate_aside(
        self, task: int, network: ResNet, stream: Stream | None = None, bypass: bool = False
    ) -> Evaluation:
        """Evaluate a network on a task; the run's generator is not used.

        So an additional evaluation changes nothing that follows.
        """
        generator = torch.Generator(self.device).manual_seed(self.config.seed)
        return self._evaluate(task, bypass, network, stream, generator)

    def _epoch_reading(self, epochs: int) -> EpochReading:
        """Evaluate on the tasks seen, after so many epochs of the run."""
        # during the warm-up the gates are not trained, and the last step bypassed them
        bypass = self._warming_up(self.epoch - 1, self.steps - 1)
        seen = range(self.task + 1)
        found = [self._evaluate_aside(t, self.evaluated, bypass=bypass) for t in seen]
        return EpochReading(
            epochs=epochs,
            evaluated_on=self.config.evaluate_on,
            class_il=mean(e.class_il for e in found),
            task_il=mean(e.task_il for e in found) if self.stream.has_task_il else None,
        )

    def _result(self) -> TaskResult:
        started = time.perf_counter()
        evaluated = [self._evaluate(t) for t in range(min(self.task + 2, self.n_tasks))]
        self.channel_use = channel_use(self.stream, evaluated[: self.task + 1])
        unaveraged = None
        if self.average is not None:
            seen = range(self.task + 1)
            unaveraged = mean(self._evaluate_aside(t, self.network).class_il for t in seen)
        assert self.untrained is not None
        result = task_result(
            self.config,
            self.stream,
            self.macs,
            evaluated,
            [r.class_il_row for r in self.results],
            self.untrained["class_il"],
            train_loss=self._last_epoch["loss"],
            train_accuracy=self._last_epoch["accuracy"],
            steps=self.steps,
            train_seconds=self._train_seconds,
            eval_seconds=self._read_seconds + time.perf_counter() - started,
            class_il_unaveraged=unaveraged,
            readings=tuple(self.readings),
        )
        if not self.config.readings:
            return result
        middle = median(self.readings) if result.final else result.class_il
        return dataclasses.replace(result, class_il_median=middle)

    def state_dict(self) -> dict[str, Any]:
        """Return the run's whole state, as tensors and plain values.

        Raises NonFiniteError if it is not finite.
        """
        self._raise_if_not_finite()
        return {
            "config": self.config.to_dict(),
            "data": [self.stream.data_hash, self.stream.split_hash],
            "code": self._code,
            "classes": self.stream.num_classes,
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "readings": self.readings,
            "epoch_readings": [dataclasses.asdict(r) for r in self.epoch_readings],
            "buffer": self.buffer.state_dict(),
            "method": None if self._learner.state_dict is None else self._learner.state_dict(),
            "generator": self.generator.get_state(),
            "place": [self.task, self.epoch, self.step, self.steps],
            "results": [r.to_dict() for r in self.results],
            "untrained": self.untrained,
            "train_seconds": self._train_seconds,
            "sums": self._sums,
            "last_epoch": self._last_epoch,
            "first_bad_step": self._first_bad_step,
            "curve": self.curve,
            "since_point": self._since_point,
            "point_sums": self._point_sums,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned.

        Raises UserError if it belongs to another configuration, to other images, to other code of
        the user or to another kind of device.
        """
        refuse_other_run(state, self.config, self.stream)
        if len(state["generator"]) != len(self.generator.get_state()):
            raise UserError(
                f"the checkpoint was made on another kind of device than {self.device.type}, with "
                "other random numbers; resume with the same --device."
            )
        self.network.load_state_dict(state["network"])
        self.buffer.load_state_dict(state["buffer"])
        self.generator.set_state(state["generator"].cpu())
        self.task, self.epoch, self.step, self.steps = state["place"]
        self.results = [TaskResult.from_dict(r) for r in state["results"]]
        self.untrained = state["untrained"]
        self._train_seconds, self._last_epoch = state["train_seconds"], state["last_epoch"]
        self._sums.copy_(state["sums"])
        self._first_bad_step.copy_(state["first_bad_step"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self._learner.load_state_dict is not None:
            self._learner.load_state_dict(state["method"])
        self.readings = list(state.get("readings", ()))  # older states have none
        self.epoch_readings = [EpochReading(**r) for r in state.get("epoch_readings", ())]
        if "curve" in state:  # older states have none
            self.curve, self._since_point = list(state["curve"]), state["since_point"]
            self._point_sums.copy_(state["point_sums"])


def check_fit(config: TrainConfig, stream: Stream) -> None:
    """Raise UserError if the warm-up fills the first task, or readings are too many."""
    first = len(stream.batches(0, 0, config)) * config.n_epochs
    warms_up = config.warmup and method_of(config.model).gated
    if warms_up and config.n_epochs <= config.warmup_epochs and config.warmup_steps >= first:
        raise UserError(
            f"warmup_steps {config.warmup_steps} would cover the whole first task, which has "
            f"{first} steps; set it lower."
        )
    if not config.readings:
        return
    last = len(stream.batches(len(stream.tasks) - 1, 0, config)) * config.n_epochs
    if config.readings > most_readings(last):
        raise UserError(
            f"readings {config.readings} do not fit into the last tenth of the last task, which "
            f"has {last} steps; set at most {most_readings(last)}."
        )
