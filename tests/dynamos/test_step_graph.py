"""Steps by CUDA graphs, on a CPU: helpers/tape.py takes the place of CUDA's graphs."""

import copy
import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from dynamos import checkpoints, step_graph
from dynamos.cohort import Cohort, Kind
from dynamos.config import TrainConfig
from dynamos.data import Images
from dynamos.errors import NonFiniteError, UserError
from dynamos.methods import METHODS
from dynamos.step_graph import WARM_UP, StepGraph, by_graph
from dynamos.trainer import Inputs, Trainer
from tests.helpers.small import assert_same_outcome, small
from tests.helpers.tape import CannotRecord, TapeRecorder

# Two tasks of 12 steps; the last of four has five images. The first two steps are warm-up.
LONG: dict[str, Any] = dict(n_epochs=3, max_train_images_per_task=35, minibatch_size=2)
META = torch.device("meta")
EXAMPLE = Path(__file__).parents[2] / "examples" / "own_method.py"

STACKED = [name for name, method in METHODS.items() if method.stacked]


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[TapeRecorder]:
    """Record on tapes; returns the recorders made."""
    made: list[TapeRecorder] = []
    monkeypatch.setattr(step_graph, "Recorder", TapeRecorder)
    monkeypatch.setattr(TapeRecorder, "made", made)
    return made


def long(**changes: Any) -> TrainConfig:
    return small(**LONG | dict(step_mode="graph") | changes)


def eager(config: TrainConfig) -> TrainConfig:
    return config.replace(step_mode="eager")


def state(trainer: Trainer) -> dict[str, Any]:
    """A run's whole state, without its configuration, its times and the buffer's spare row."""
    state = copy.deepcopy(trainer.state_dict())
    buffer = {name: value[:-1] if value.dim() else value for name, value in state["buffer"].items()}
    network: dict[str, Any] = state["network"]
    average = (state["average"] or {}).get("network", {})
    rest = {n: state[n] for n in ("generator", "sums", "first_bad_step", "point_sums")}
    return (
        {f"buffer {n}": v for n, v in buffer.items()}
        | {f"average {n}": v for n, v in average.items()}
        | network
        | rest
    )


def assert_equal(run: Trainer, other: Trainer) -> None:
    found, expected = state(run), state(other)
    assert found.keys() == expected.keys()
    assert [n for n, value in expected.items() if not torch.equal(found[n], value)] == []
    assert [r.class_il_row for r in run.results] == [r.class_il_row for r in other.results]
    assert run.curve == other.curve


def whole_run(config: TrainConfig, **more: Any) -> Trainer:
    trainer = Trainer(config, **more)
    for _ in trainer:
        pass
    return trainer


@pytest.mark.parametrize(
    "model, more",
    [
        *((model, {}) for model, of in METHODS.items() if not of.made),
        ("dynamos", dict(precision="bf16")),
        ("dynamos", dict(log_every=3, average_decay=0.5)),
        ("dynamos", dict(augment="crop-flip")),
        ("agem", dict(augment="crop-flip")),
        ("dynamos", dict(network="resnet8", gated_stages="all")),
    ],
)
def test_a_run_by_graph_is_the_run(
    model: str, more: dict[str, Any], recorders: list[TapeRecorder]
) -> None:
    """The tape holds every number and tensor of the recording, so a stale one would show."""
    usual, kinds = Trainer._usual, list[tuple[int, int, bool]]()

    def watched(trainer: Trainer, *kind: Any) -> bool:
        kinds.append(kind)
        return usual(trainer, *kind)

    config = long(model=model, **more)
    with mock.patch.object(Trainer, "_usual", watched):
        run = whole_run(config)
    assert_equal(run, whole_run(eager(config)))
    (recorder,) = recorders
    method = METHODS[model]
    by_graph = kinds.count((10, 2 * method.draws if method.rehearses else 0, False))
    assert (recorder.warm, recorder.replays) == (WARM_UP, by_graph - WARM_UP)
    assert recorder.replays > 8 and len(kinds) == (33 if method.cumulative else 24)
    assert {n for n, _, _ in kinds} == {10, 5}
    assert {bypass for _, _, bypass in kinds} == {method.gated, False}
    assert {n for _, n, _ in kinds} >= ({0, 2 * method.draws} if method.rehearses else {0})


def test_the_first_step_that_is_not_finite_is_that_of_the_run(
    recorders: list[TapeRecorder],
) -> None:
    places, by_graph = [], long(warmup=False, lr=0.02)
    for config in (by_graph, eager(by_graph)):
        trainer = Trainer(config)

        def spoil(trainer: Trainer) -> None:
            if trainer.steps == 9:
                trainer.network.linear.bias.data[0] = torch.nan

        trainer.on_step = spoil
        with pytest.raises(NonFiniteError) as error:
            trainer.run_task()
        places.append(error.value.place)
    assert places[0] == places[1] and places[0].endswith("step 10")
    assert recorders[0].replays > 2


@pytest.mark.parametrize("steps", [5, 12, 15])
def test_a_run_by_graph_resumes_exactly(
    steps: int, tmp_path: Path, recorders: list[TapeRecorder]
) -> None:
    """Before the recording (5), at a task border (12) and after it."""

    def save(trainer: Trainer) -> None:
        if trainer.steps == steps:
            checkpoints.save(trainer.state_dict(), tmp_path)

    config = long(average_decay=0.5)
    whole, again = whole_run(config, on_step=save), Trainer(config)
    saved = checkpoints.latest(tmp_path)
    assert saved is not None
    again.load_state_dict(saved)
    for _ in again:
        pass
    assert_equal(again, whole)
    assert [r.replays > 0 for r in recorders] == [True, True]


def test_a_graph_goes_on_with_a_state_that_is_loaded_into_its_run(
    recorders: list[TapeRecorder],
) -> None:
    """Loading keeps the tensors where they are, so the recording stays valid."""
    config = long()
    run, other = Trainer(config), Trainer(eager(config))
    run.run_task(), other.run_task()
    saved = copy.deepcopy(run.state_dict())
    run.run_task()
    run.load_state_dict(saved)
    run.run_task(), other.run_task()
    assert_equal(run, other)
    assert len(recorders) == 1


def varied(step_mode: str, **changes: Any) -> list[TrainConfig]:
    """Configurations of three runs with their own settings."""
    own: list[dict[str, Any]] = [
        dict(lr=0.02, alpha=0.5, temperature=0.4),
        dict(lr=0.05, beta=1.0, policy_alpha=0.7, policy_penalty=-20.0),
        dict(lr=0.03, keep_ratio=0.4, reward_weight=0.2, prototype_loss=0.9),
    ]
    return [
        long(step_mode=step_mode, seed=seed, average_decay=0.5, log_every=3, **c | changes)
        for seed, c in enumerate(own, 1)
    ]


@pytest.mark.parametrize("model", STACKED)
@pytest.mark.parametrize("augment", ["none", "crop-flip"])
def test_a_cohort_by_graph_is_the_cohort(
    model: str, augment: str, recorders: list[TapeRecorder]
) -> None:
    """Two graphs serve all: one for steps of all slots, one for steps of some. A run leaves and
    another with other settings takes its slot; the graphs stay."""
    ends = []
    for step_mode in ("eager", "graph"):
        configs = varied(step_mode, model=model, augment=augment)
        runs = [Trainer(config) for config in (*configs, configs[0].replace(seed=9, lr=0.01))]
        cohort = Cohort(runs[:3])
        for number, (slot, _) in enumerate(cohort):
            if number == 0:
                cohort.release(slot)
            if number == 2:
                cohort.put(0, runs[3])
        ends.append(runs)
    for run, expected in zip(*ends, strict=True):
        assert_equal(run, expected)
    # the buffers of runs on augmented images fill later, so fewer steps are usual
    least = 3 if augment == "none" else 0
    assert [(r.warm, r.tape is not None, r.replays > least) for r in recorders] == 2 * [
        (WARM_UP, True, True)
    ]
    whole, some = sorted(len(r.tape or []) for r in recorders)
    assert 0 < some - whole  # the slots without a step are put back


def test_one_graph_serves_the_steps_of_any_slots(recorders: list[TapeRecorder]) -> None:
    ends = []
    for step_mode in ("graph", "eager"):
        runs = [Trainer(config.replace(warmup=False)) for config in varied(step_mode)]
        cohort, walks = Cohort(runs), [run.steps_of_task() for run in runs]
        # some steps until the buffers are filled, five by the graph, the last of them recorded
        for members in (*6 * [(0, 1, 2)], *4 * [(0, 1)], (1, 2), (0,), (2,), (0, 2)):
            cohort.step({slot: next(walks[slot]) for slot in members})
        ends.append(runs)
    for run, expected in zip(*ends, strict=True):
        assert_equal(run, expected)
    assert sorted(r.replays for r in recorders)[-1] == 5


def test_a_diverged_partner_changes_nothing_in_a_cohort_by_graph(
    recorders: list[TapeRecorder],
) -> None:
    ends = []
    for partner in (long(seed=7), long(seed=5, lr=1e30)):
        run = Trainer(long())
        found = [result for _, result in Cohort([run, Trainer(partner)])]
        ends.append(run)
    assert any(isinstance(r, NonFiniteError) for r in found)
    assert_equal(*ends)


def test_a_released_run_records_its_step_anew(recorders: list[TapeRecorder]) -> None:
    """Its tensors have moved: a recording from before would change the old ones."""
    runs = [[Trainer(c) for c in varied(mode)[:2]] for mode in ("graph", "eager")]
    for one, other in runs:
        one.run_task(), other.run_task()  # each by its own graph
        cohort = Cohort([one, other])
        steps = [t.steps_of_task() for t in (one, other)]
        for wanted in islice(zip(*steps, strict=True), 5):
            cohort.step(dict(enumerate(wanted)))
        cohort.release(0), cohort.release(1)
        for walk, trainer in zip(steps, (one, other), strict=True):
            for step in walk:
                trainer._train_step(*step)
    for run, expected in zip(*runs, strict=True):
        assert run.done
        assert_equal(run, expected)
    assert [r.tape is not None for r in recorders] == 5 * [True]


def test_a_cohort_that_shrinks_records_its_step_anew(recorders: list[TapeRecorder]) -> None:
    ends = []
    for step_mode in ("graph", "eager"):
        cohort = Cohort([Trainer(config) for config in varied(step_mode)])
        for _ in cohort.until(lambda trainer: trainer.task == 1):
            pass
        cohort.keep([2, 0])
        for _ in cohort:
            pass
        ends.append(list(cohort.runs.values()))
    for run, expected in zip(*ends, strict=True):
        assert_equal(run, expected)
    assert len(recorders) > 1 and recorders[-1].replays > 0


class Cuda:
    """torch.cuda without a device: its streams and graphs write down what happens on them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.current, self.events = "main", list[str]()
        graph = mock.create_autospec(torch.cuda.graph)
        graph.side_effect = self._recording
        for name, fake in (
            ("Stream", lambda device: self._stream("side")),
            ("current_stream", lambda device: self._stream(self.current)),
            ("stream", self._on),
            ("CUDAGraph", lambda: mock.Mock(replay=lambda: self.events.append("replay"))),
            ("graph", graph),
        ):
            patch.setattr(torch.cuda, name, fake)

    def _stream(self, name: str) -> mock.Mock:
        found = mock.Mock()
        found.name = name
        found.wait_stream = lambda other: self.events.append(f"{name} waits for {other.name}")
        return found

    @contextmanager
    def _on(self, stream: mock.Mock) -> Iterator[None]:
        before, self.current = self.current, stream.name
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def _recording(self, graph: Any, stream: mock.Mock, **_: Any) -> Iterator[None]:
        self.events.append("recording")
        self.current = stream.name  # torch leaves this stream only if the recording succeeds
        yield
        self.current = "main"


def test_a_gpu_records_on_the_stream_of_the_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)
    graph = StepGraph(lambda: cuda.events.append(f"on {cuda.current}"), torch.device("cuda"))
    for _ in range(WARM_UP + 2):
        graph()
    aside = ["side waits for main", "on side", "main waits for side"]
    assert cuda.events == WARM_UP * aside + ["recording", "on side", "replay", "replay"]
    assert cuda.current == "main" and not graph.failed


def test_a_recording_that_fails_on_a_gpu_leaves_its_stream(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cuda = Cuda(monkeypatch)

    def program() -> None:
        if cuda.events[-1] == "recording":
            raise RuntimeError("operation not permitted when stream is capturing")
        cuda.events.append(f"on {cuda.current}")

    graph = StepGraph(program, torch.device("cuda"))
    with caplog.at_level(logging.WARNING):
        for _ in range(WARM_UP):
            graph()
        cuda.events.append("main goes on")
        with pytest.raises(RuntimeError):
            graph()  # the step itself fails here, too, and not in silence
    assert graph.failed and cuda.current == "main" and len(caplog.records) == 1
    cuda.events.append("main goes on")
    graph()
    assert cuda.events[-1] == "on main"


class Broken(TapeRecorder):
    """A recorder that cannot record."""

    def record(self, program: step_graph.Program) -> step_graph.Program:
        raise RuntimeError("CUDA error: not permitted\nand more of it")


@pytest.mark.parametrize("cohort", [False, True])
def test_steps_that_cannot_be_recorded_go_on_eagerly_and_say_so_once(
    cohort: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(step_graph, "Recorder", Broken)
    ends = []
    for step_mode in ("graph", "eager"):
        runs = [Trainer(config) for config in varied(step_mode)[: 2 if cohort else 1]]
        with caplog.at_level(logging.WARNING):
            for _ in Cohort(runs):
                pass
        ends.append(runs)
    for run, expected in zip(*ends, strict=True):
        assert_equal(run, expected)
    (warning,) = [r.getMessage() for r in caplog.records if "step_mode" in r.getMessage()]
    assert warning == "step_mode graph is not available, using eager: CUDA error: not permitted"


@pytest.mark.parametrize("cohort", [False, True])
def test_without_a_gpu_graph_is_eager_with_one_warning(
    cohort: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        runs = [Trainer(c) for c in varied("graph")[: 2 if cohort else 1]]
        for _ in Cohort(runs):
            pass
    (warning,) = [r.getMessage() for r in caplog.records if "step_mode" in r.getMessage()]
    assert warning.endswith("using eager: a graph needs a CUDA device, not cpu")
    if not cohort:
        assert_equal(runs[0], whole_run(varied("eager")[0]))


def test_auto_takes_a_graph_on_a_gpu_and_none_on_a_cpu(
    caplog: pytest.LogCaptureFixture, recorders: list[TapeRecorder]
) -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    modes = ("eager", "compile", "graph", "auto")
    assert [by_graph(mode, gpu) for mode in modes] == [False, False, True, True]
    assert [by_graph(mode, cpu) for mode in modes] == [False, False, True, False]
    with caplog.at_level(logging.WARNING):
        assert_same_outcome(Trainer(long(step_mode="auto")), Trainer(long(step_mode="eager")))
        for _ in Cohort([Trainer(c) for c in varied("auto")[:2]]):
            pass
    assert recorders == [] and "step_mode" not in caplog.text


def test_a_method_in_a_file_is_eager_and_says_so(
    caplog: pytest.LogCaptureFixture, recorders: list[TapeRecorder]
) -> None:
    """MeanER in the example changes a network of its own in each step."""
    model = f"{EXAMPLE}:MeanER"
    with caplog.at_level(logging.WARNING):
        run = whole_run(long(model=model))
        whole_run(long(model=model, step_mode="auto", max_train_images_per_task=20))
    assert_equal(run, whole_run(long(model=model, step_mode="eager")))
    (warning,) = [r.getMessage() for r in caplog.records if "step_mode" in r.getMessage()]
    assert warning == f"step_mode graph is not available for {model}, using eager"
    assert recorders == []


def test_a_cohort_agrees_in_its_step_mode() -> None:
    with pytest.raises(UserError, match="agree in step_mode; they have graph and eager"):
        Cohort([Trainer(long()), Trainer(long(step_mode="eager"))])


@pytest.fixture
def meta_tensors() -> Iterator[None]:
    """Let the network run on tensors without data, which autocast does not know."""
    with mock.patch("torch.autocast", lambda *_, **__: nullcontext()):
        yield


def without_data(trainer: Trainer) -> Trainer:
    """Move a run to the meta device, whose tensors have no data: reading one raises, and so does
    an operation that also takes a tensor of the CPU."""
    trainer.network.to(META)
    plain: Any = torch.optim.SGD(trainer.network.parameters(), lr=0.1)  # ours needs data
    trainer.optimizer = plain
    for thing, names in (
        (trainer.buffer, ("images", "labels", "logits", "policy_logits", "seen")),
        (trainer, ("_sums", "_point_sums", "_first_bad_step", "_number")),
    ):
        for name in names:
            setattr(thing, name, getattr(thing, name).to(META))
    trainer.device = META
    return trainer


@pytest.mark.parametrize("model", METHODS)
def test_the_program_of_a_run_reads_nothing_back(model: str, meta_tensors: None) -> None:
    trainer = Trainer(long(model=model, log_every=1, augment="crop-flip"))
    for step in islice(trainer.steps_of_task(), 9):
        trainer._train_step(*step)
    inputs = trainer._inputs(*step)
    assert (inputs.replayed is not None) == METHODS[model].rehearses
    without_data(trainer)

    def moved(tensor: Tensor | None) -> Any:
        return None if tensor is None else tensor.to(META)

    images = inputs.images
    tensors = {
        field.name: moved(getattr(inputs, field.name))
        for field in dataclasses.fields(Inputs)
        if field.name not in ("images", "bypass")
    }
    pixels, labels = moved(images.pixels), moved(images.labels)
    trainer._step(
        dataclasses.replace(inputs, images=Images(pixels, labels, images.white), **tensors)
    )
    with pytest.raises(RuntimeError):
        int(trainer._first_bad_step)  # such a read would have raised


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("model", STACKED)
def test_the_program_of_a_cohort_reads_nothing_back(
    model: str, whole: bool, meta_tensors: None
) -> None:
    more = dict(augment="crop-flip", network="resnet8", gated_stages="all")
    configs = varied("graph", model=model, **more)
    cohort = Cohort([without_data(Trainer(c)) for c in configs])
    cohort._train(cohort._empty_inputs(10), Kind(10, False, False), 16, whole)


@pytest.mark.parametrize(
    "program",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.rand(3),
        lambda x: x + torch.tensor([1.0, 2.0]),
    ],
)
def test_the_tape_refuses_what_a_graph_cannot_hold(program: Any) -> None:
    x = torch.ones(2)
    with pytest.raises(CannotRecord):
        TapeRecorder(META).record(lambda: program(x))


def test_a_number_of_the_recording_stays(recorders: list[TapeRecorder]) -> None:
    """So the tape would show a number that is not in a tensor."""
    total, now = torch.zeros(()), [0]

    def program() -> None:
        total.add_(now[0])

    graph, totals = StepGraph(program, META), []
    for now[0] in range(1, 7):
        graph()
        totals.append(total.item())
    assert totals == [1, 3, 6, 10, 14, 18]  # the fourth step is recorded
