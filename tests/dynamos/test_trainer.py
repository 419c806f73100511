import copy
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Self
from unittest import mock

import pytest
import torch
from torch import Tensor

from dynamos import losses
from dynamos.buffer import Replay
from dynamos.config import FIELDS, TrainConfig
from dynamos.data import Images
from dynamos.errors import NonFiniteError, UserError
from dynamos.evaluation import collapse
from dynamos.methods import METHODS
from dynamos.network import Output
from dynamos.torch_names import compile_error
from dynamos.trainer import STEPS_BETWEEN_READS, Trainer
from tests.helpers.data_files import write_mnist
from tests.helpers.small import assert_same_outcome, gates, outcome, small

Loss = tuple[Tensor, Output, dict[str, Tensor]]  # what Trainer._loss returns
Check = Callable[[], None]


class Watched(Trainer):
    """A Trainer that keeps the data of its steps."""

    def __init__(self, config: TrainConfig, **more: Any) -> None:
        super().__init__(config, **more)
        self.losses: list[float] = []
        self.outputs: list[Output] = []
        self.bypassed: list[bool] = []
        self.replayed: list[int] = []
        real = self._loss

        def loss(
            images: Images,
            noise: Tensor,
            replay: Replay | None,
            replay_noise: Tensor | None,
            bypass: bool,
        ) -> Loss:
            value, output, terms = real(images, noise, replay, replay_noise, bypass)
            self.losses.append(value.item())
            self.outputs.append(output)
            self.bypassed.append(bypass)
            self.replayed.append(0 if replay is None else len(replay.labels))
            return value, output, terms

        self._loss = loss

    def run(self) -> Self:
        for _ in self:
            pass
        return self


def ran(**changes: Any) -> Watched:
    return Watched(small(**{"warmup": False} | changes)).run()


def replay_losses(t: Watched) -> tuple[list[float], list[float]]:
    """Return (losses of the steps before the first replay, losses of the steps from it on)."""
    first = next(i for i, n in enumerate(t.replayed) if n)
    assert first > 0
    return t.losses[:first], t.losses[first:]


def first_loss(t: Watched) -> float:
    return t.losses[0]


def only_replay(name: str, value: Any) -> Check:
    def check() -> None:
        a, b = (replay_losses(t) for t in (ran(), ran(**{name: value})))
        assert a[0] == b[0] and a[1][0] != b[1][0]

    return check


def only_loss(name: str, value: Any, **base: Any) -> Check:
    """Check that a field changes the loss of the first step but not its outputs."""

    def check() -> None:
        a, b = ran(**base), ran(**base, **{name: value})
        assert torch.equal(a.outputs[0].logits, b.outputs[0].logits)
        assert torch.equal(a.outputs[0].actions, b.outputs[0].actions)
        assert a.losses[0] != b.losses[0]

    return check


def differs(look: Callable[[Watched], object], name: str, value: Any, **base: Any) -> Check:
    def check() -> None:
        a, b = look(ran(**base)), look(ran(**base, **{name: value}))
        assert a != b

    return check


def becomes(
    look: Callable[[Watched], object], name: str, values: dict[Any, object], **base: Any
) -> Check:
    """Check that a run shows the requested value of a field."""

    def check() -> None:
        for value, seen in values.items():
            assert look(ran(**base, **{name: value})) == seen, value

    return check


def raises(name: str, value: Any, says: str) -> Check:
    def check() -> None:
        with pytest.raises(UserError, match=says):
            Trainer(small(**{name: value}))

    return check


def learning_rate() -> None:
    moves = []
    for lr in (0.01, 0.02):
        t = Trainer(small(warmup=False, lr=lr))
        before = t.network.linear.weight.detach().clone()
        t.on_step = lambda t: (
            moves.append(t.network.linear.weight.detach().clone()) if t.steps == 1 else None
        )
        t.run_task()
        moves[-1] -= before
    torch.testing.assert_close(2 * moves[0], moves[1], rtol=1e-3, atol=1e-6)


def prototype() -> None:
    def loss(weight: float) -> list[float]:
        t = Watched(small(warmup=False, prototype_loss=weight, n_epochs=2)).run()
        return t.losses

    a, b = loss(0.0), loss(50.0)
    assert a != b


def data_path(tmp_path: Path) -> None:
    import numpy as np

    hashes = []
    for i in range(2):
        write_mnist(tmp_path / str(i) / "raw", np.random.default_rng(i))
        hashes.append(
            Trainer(small(dataset="seq-mnist", data_path=str(tmp_path / str(i)))).stream.data_hash
        )
    assert hashes[0] != hashes[1]


def kept(t: Trainer) -> float:
    return t.results[-1].keep_fraction


def infer_mode() -> None:
    """Check that no channel passes a threshold of 1, but some pass if they are sampled."""
    assert kept(ran(inf_thresh=1.0)) == 0 < kept(ran(inf_thresh=1.0, infer_mode="sample"))


def evaluate_on() -> None:
    a, b = ran(), ran(evaluate_on="test")
    assert (a.results[0].evaluated_on, b.results[0].evaluated_on) == ("validation", "test")
    assert len(a.stream.evaluation[0]) < len(b.stream.evaluation[0])


def warmup_epochs() -> None:
    for epochs, steps in ((1, 4), (2, 8)):
        t = ran(warmup=True, warmup_epochs=epochs, n_epochs=3)
        assert t.bypassed == [True] * steps + [False] * (24 - steps)


def threads() -> None:
    Trainer(small(threads=2))
    assert torch.get_num_threads() == 2


def deterministic() -> None:
    ran(deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    Trainer(small())
    assert not torch.are_deterministic_algorithms_enabled()


def precision() -> None:
    a, b = ran(), ran(precision="bf16")
    assert a.losses[0] != b.losses[0] == pytest.approx(a.losses[0], rel=0.2)


def step_mode() -> None:
    with mock.patch("torch.compile", side_effect=lambda function, mode: function) as compiler:
        ran(n_tasks=1)
        assert not compiler.called
        ran(n_tasks=1, step_mode="compile")
        assert compiler.called
    with mock.patch("dynamos.trainer.StepGraph") as graph:
        graph.return_value.failed = False
        ran(n_tasks=1)
        assert not graph.called
        ran(n_tasks=1, minibatch_size=2, step_mode="graph")
        assert graph.return_value.called


# By field: a check of its effect. The test of a new field fails until its check is here.
EFFECTS: dict[str, Callable[..., None]] = {
    "model": becomes(
        lambda t: (len(t.results[0].keep_per_gate), any(t.replayed)),
        "model",
        {n: (4 * m.gated, m.rehearses) for n, m in METHODS.items()},
    ),
    "dataset": becomes(
        lambda t: t.stream.num_classes,
        "dataset",
        {"digits-360": 9},
        n_tasks=None,
        max_train_images_per_task=360,
    ),
    "data_path": data_path,
    "buffer_size": becomes(lambda t: t.buffer.held, "buffer_size", {3: 3, 7: 7}, n_epochs=2),
    "seed": differs(first_loss, "seed", 7),
    "evaluate_on": evaluate_on,
    "n_epochs": becomes(lambda t: t.steps, "n_epochs", {1: 8, 3: 24}),
    "batch_size": becomes(
        lambda t: (t.steps, len(t.outputs[0].logits)), "batch_size", {10: (8, 10), 16: (6, 16)}
    ),
    "classes_per_task": becomes(
        lambda t: t.stream.tasks, "classes_per_task", {3: ((0, 1, 2), (3, 4, 5))}
    ),
    "n_tasks": becomes(lambda t: len(t.results), "n_tasks", {1: 1, 3: 3}),
    "class_order_seed": differs(lambda t: t.stream.tasks, "class_order_seed", 3),
    "max_train_images_per_task": becomes(
        lambda t: len(t.stream.train[0]), "max_train_images_per_task", {23: 23}
    ),
    "augment": differs(first_loss, "augment", "crop-flip"),
    "readings": becomes(
        lambda t: len(t.results[-1].readings), "readings", {0: 0, 2: 2}, batch_size=1
    ),
    "lr": learning_rate,
    "average_decay": becomes(
        lambda t: t.results[-1].class_il_unaveraged is not None,
        "average_decay",
        {0.0: False, 0.5: True},
    ),
    "minibatch_size": becomes(
        lambda t: max(t.replayed), "minibatch_size", {2: 2, 5: 5}, n_epochs=2
    ),
    "alpha": only_replay("alpha", 5.0),
    "beta": only_replay("beta", 5.0),
    "policy_alpha": only_replay("policy_alpha", 5.0),
    "keep_ratio": only_loss("keep_ratio", 0.2),
    "policy_penalty": only_loss("policy_penalty", -5.0),
    "reward_weight": only_loss("reward_weight", 3.0),
    "prototype_loss": prototype,
    "temperature": differs(lambda t: t.outputs[0].actions.tolist(), "temperature", 5.0),
    "hidden_dim_ratio": becomes(
        lambda t: gates(t.network)[0].agent.fc1.out_features, "hidden_dim_ratio", {2: 4, 8: 1}
    ),
    "infer_mode": infer_mode,
    "inf_thresh": becomes(kept, "inf_thresh", {0.0: 1.0, 1.0: 0.0}),
    "warmup": becomes(
        lambda t: t.bypassed, "warmup", {True: [True, True] + 6 * [False], False: 8 * [False]}
    ),
    "warmup_epochs": warmup_epochs,
    "warmup_steps": becomes(lambda t: sum(t.bypassed), "warmup_steps", {1: 1, 3: 3}, warmup=True),
    "network": becomes(
        lambda t: len(t.network.blocks), "network", {"resnet10": 4, "resnet8": 3, "resnet18": 8}
    ),
    "gated_stages": becomes(
        lambda t: t.network.gate_channels,
        "gated_stages",
        {"last": (8, 8, 8, 8), "1": (4, 4, 4, 4), "all": (4, 4, 4, 4, 8, 8, 8, 8)},
    ),
    "nf": becomes(lambda t: t.network.linear.in_features, "nf", {2: 4, 8: 16}),
    "device": raises("device", "cuda:99", "cuda:99"),
    "threads": threads,
    "precision": precision,
    "step_mode": step_mode,
    "deterministic": deterministic,
    "log_every": becomes(
        lambda t: [point["steps"] for point in t.curve],
        "log_every",
        {0: [], 1: [1, 2, 3, 4, 5, 6, 7, 8], 3: [3, 4, 6, 8], 9: [4, 8]},
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_changes_what_it_names(name: str, tmp_path: Path) -> None:
    check = EFFECTS[name]
    check(tmp_path) if check is data_path else check()


def test_a_step_mode_that_cannot_compile_goes_on_with_eager_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = []

    def fails(*arguments: Any) -> NoReturn:
        calls.append(arguments)
        raise compile_error()("no compiler\nand more of it")

    eager = ran(minibatch_size=2)
    with mock.patch("torch.compile", return_value=fails), caplog.at_level(logging.WARNING):
        compiled = Trainer(small(warmup=False, minibatch_size=2, step_mode="compile"))
        assert_same_outcome(eager, compiled)
    assert len(calls) == 1  # one attempt is enough
    (warning,) = [r.getMessage() for r in caplog.records if "compile" in r.getMessage()]
    assert "eager" in warning and warning.endswith("no compiler")


@pytest.mark.slow
def test_compiled_steps_compute_the_same() -> None:
    base = dict(n_tasks=1, minibatch_size=2)
    eager, compiled = ran(**base), ran(**base, step_mode="compile")
    assert compiled.losses == pytest.approx(eager.losses, rel=1e-2)


def test_one_kind_of_step_is_compiled() -> None:
    """Steps of warm-up, of a buffer that is filling and of a last batch have other shapes, and
    compiling a shape takes minutes."""
    seen = []

    def compiler(function: Callable[..., Loss], mode: str) -> Callable[..., Loss]:
        def compiled(images: Images, noise: Tensor, replay: Replay | None, *rest: Any) -> Loss:
            assert replay is not None
            seen.append((len(images), len(replay.labels)))
            return function(images, noise, replay, *rest)

        return compiled

    config = small(step_mode="compile", max_train_images_per_task=35, n_epochs=3)
    with mock.patch("torch.compile", side_effect=compiler):
        t = Watched(config).run()
    assert (
        set(t.replayed) > {0, 10}
        and {len(o.logits) for o in t.outputs} == {10, 5}
        and any(t.bypassed)
    )
    assert set(seen) == {(10, 10)} and len(seen) > 10


@pytest.mark.parametrize("model", [name for name, of in METHODS.items() if not of.cumulative])
def test_the_curve_changes_nothing_and_has_the_means_of_what_the_steps_computed(model: str) -> None:
    without, t = (
        ran(model=model, n_epochs=2),
        Watched(small(model=model, n_epochs=2, warmup=False, log_every=3)).run(),
    )
    assert_same_outcome(without, t)
    assert t.losses == without.losses and without.curve == []
    assert [(p["steps"], p["task"]) for p in t.curve] == [
        (3, 0),
        (6, 0),
        (8, 0),
        (9, 1),
        (12, 1),
        (15, 1),
        (16, 1),
    ]
    gated, begin = METHODS[model].gated, 0
    for point in t.curve:
        end = int(point["steps"])
        terms = {name: value for name, value in point.items() if name.startswith("loss_")}
        assert set(terms) == {"loss_task", "loss_policy", "loss_prototype", "loss_rehearsal"}
        assert sum(terms.values()) == pytest.approx(
            sum(t.losses[begin:end]) / (end - begin), rel=1e-4
        )
        # the loss of A-GEM is that of the stream images
        rehearsed = any(t.replayed[begin:end]) and model != "agem"
        assert (point["loss_policy"] != 0) == gated
        if model in ("lwf", "ewc_on"):  # from the second task on, without a replayed image
            assert point["task"] == 1 or point["loss_rehearsal"] == 0
            assert end < 16 or point["loss_rehearsal"] > 0
        else:
            assert (point["loss_rehearsal"] != 0) == rehearsed
        kept = (
            torch.stack([output.actions.mean((0, 2)) for output in t.outputs[begin:end]])
            .mean(0)
            .tolist()
        )
        assert [v for name, v in point.items() if name.startswith("keep_gate")] == pytest.approx(
            kept, rel=1e-5
        )
        assert len(kept) == (4 if gated else 0)
        begin = end
    assert any(point["loss_prototype"] for point in t.curve) == gated


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_curve_goes_on_where_its_run_was_saved(steps: int) -> None:
    config = small(log_every=3, warmup=False)
    whole = Trainer(config)
    outcome(whole)
    saved = {}

    def on_step(trainer: Trainer) -> None:
        if trainer.steps == steps:
            saved.update(copy.deepcopy(trainer.state_dict()))

    outcome(Trainer(config, on_step=on_step))
    resumed = Trainer(config)
    resumed.load_state_dict(saved)
    outcome(resumed)
    assert resumed.curve == whole.curve


def test_a_run_goes_on_from_a_state_without_a_curve_and_with_another_log_every() -> None:
    run = Trainer(small())
    run.run_task()
    state = {
        name: value
        for name, value in run.state_dict().items()
        if "point" not in name and name != "curve"
    }
    resumed = Trainer(small(log_every=2))
    resumed.load_state_dict(state)
    resumed.run_task()
    assert [point["steps"] for point in resumed.curve] == [6, 8]


def test_the_curve_of_a_run_that_diverges_shows_it() -> None:
    run = Trainer(small(lr=1e30, log_every=50, warmup=False))
    with pytest.raises(NonFiniteError):
        run.run_task()
    [point] = run.curve
    assert not math.isfinite(point["loss_task"])


@pytest.mark.parametrize("model", METHODS)
def test_the_same_configuration_repeats_to_the_last_bit(model: str) -> None:
    config = small(model=model)
    torch.manual_seed(1)
    first = Trainer(config)
    outcome(first)
    torch.manual_seed(2)
    assert_same_outcome(first, Trainer(config))


def test_runs_in_one_process_do_not_disturb_each_other() -> None:
    a, b = Trainer(small()), Trainer(small(seed=3))
    a.run_task(), b.run_task(), a.run_task(), b.run_task()
    assert_same_outcome(a, Trainer(small()))


def test_a_step_is_the_methods_loss_then_plain_sgd_then_the_offer() -> None:
    # a seed that gets some of the first batch right and some wrong
    config = small(warmup=False, lr=0.05, seed=3)
    t = Trainer(config)
    batch = t.stream.batches(0, 0, config)[0]
    images = t.stream.images(0, batch)
    generator = torch.Generator().manual_seed(config.seed)
    noise = torch.rand(len(images.labels), 4, 8, generator=generator)
    network = Trainer(config).network.train()
    out = network((images.pixels.float() / 16).expand(-1, 3, -1, -1), noise)
    losses.stream_loss(out, images.labels, config, True).backward()
    with torch.no_grad():
        for p in network.parameters():
            assert p.grad is not None
            p.sub_(0.05 * p.grad)
    seen = []
    t.on_step = lambda t: seen.append(
        (
            {n: p.detach().clone() for n, p in t.network.named_parameters()},
            t.buffer.seen.item(),
            t.buffer.labels.clone(),
            t.buffer.logits.clone(),
            t.buffer.policy_logits.clone(),
            t.buffer.images.clone(),
        )
    )
    t.run_task()
    after, count, labels, logits, policy, pixels = seen[0]
    for name, p in network.named_parameters():
        torch.testing.assert_close(after[name], p.data, rtol=1e-5, atol=1e-6, msg=name)
    right = out.logits.argmax(1) == images.labels
    assert 0 < count == right.sum() < 10
    assert torch.equal(labels[:count], images.labels[right])
    torch.testing.assert_close(logits[:count], out.logits[right].detach())
    torch.testing.assert_close(policy[:count], out.policy_logits[right].detach())
    assert torch.equal(pixels[:count], images.pixels[right])  # as they came, not normalised


def test_the_second_step_is_plain_sgd_too() -> None:
    """The optimizer has no weight decay, and no momentum, which would show only in this step."""
    t = Watched(small(warmup=False, lr=0.05, n_tasks=1))
    gradients, weights = [], []
    take = t.optimizer.step

    def after_backward() -> None:
        gradients.append([p.grad.clone() for p in t.network.parameters() if p.grad is not None])
        weights.append([p.detach().clone() for p in t.network.parameters()])
        take()

    t.optimizer.step = after_backward  # type: ignore[method-assign]
    t.on_step = lambda t: weights.append([p.detach().clone() for p in t.network.parameters()])
    t.run()
    for step, gradient in enumerate(gradients):
        before, after = weights[2 * step : 2 * step + 2]
        for b, g, a in zip(before, gradient, after, strict=True):
            assert torch.equal(a, torch.add(b, g, alpha=-0.05))
    assert len(gradients) == 4


def test_the_buffer_stores_rotated_images() -> None:
    t = Trainer(
        small(dataset="digits-360", n_tasks=None, warmup=False, max_train_images_per_task=180)
    )
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def after_a_step(t: Trainer) -> None:
        if not seen and t.buffer.seen:
            batch = t.stream.batches(0, 0, t.config)[t.step - 1]
            seen.append(
                (
                    t.buffer.images[: int(t.buffer.seen)].clone(),
                    t.stream.images(0, batch).pixels,
                    t.stream.train[0].take(batch.index).pixels,
                )
            )

    t.on_step = after_a_step
    t.run_task()
    stored, rotated, raw = ([i.tolist() for i in images] for images in seen[0])
    assert stored and all(image in rotated for image in stored)
    assert not any(image in raw for image in stored)


@pytest.mark.parametrize("model", ["dynamos", "multi_scale"])
def test_stream_and_buffer_images_pass_apart(model: str) -> None:
    """The loss is that of two separate passes, and each pass updates the running statistics."""
    config = small(model=model, warmup=False, n_epochs=2)
    t = Trainer(config)
    real, seen = t._loss, []

    def loss(
        images: Images,
        noise: Tensor,
        replay: Replay | None,
        replay_noise: Tensor | None,
        bypass: bool,
    ) -> Loss:
        before = copy.deepcopy(t.network)
        value, output, terms = real(images, noise, replay, replay_noise, bypass)
        if replay is not None:
            own = before((images.pixels.float() / 16).expand(-1, 3, -1, -1), noise)
            again = before((replay.images.float() / 16).expand(-1, 3, -1, -1), replay_noise)
            gating = model == "dynamos"
            wanted = losses.stream_loss(own, images.labels, config, gating) + losses.rehearsal_loss(
                again, replay.labels, replay.logits, replay.policy_logits, config, gating
            )
            torch.testing.assert_close(value, wanted)
            torch.testing.assert_close(output.logits, own.logits)
            for (name, a), b in zip(t.network.named_buffers(), before.buffers(), strict=True):
                torch.testing.assert_close(a, b, msg=name)  # running statistics, counts of batches
            seen.append(len(replay.labels))
        return value, output, terms

    t._loss = loss
    t.run_task()
    assert len(seen) > 3 and max(seen) > 1


def test_warm_up_offers_nothing_and_ends_with_the_first_task() -> None:
    t = Watched(small(warmup_steps=3, n_epochs=2))
    seen = []
    t.on_step = lambda t: seen.append(int(t.buffer.seen))
    t.run()
    assert seen[:3] == [0, 0, 0] and seen[-1] > 0
    assert t.bypassed == [True] * 3 + [False] * 13


@pytest.mark.parametrize("warmup_steps", [1, 2, 3, 5])
def test_a_warm_up_in_steps_goes_on_over_short_epochs(warmup_steps: int) -> None:
    # 2 steps an epoch
    t = ran(warmup=True, warmup_steps=warmup_steps, max_train_images_per_task=20, n_epochs=3)
    assert t.bypassed == [True] * warmup_steps + [False] * (12 - warmup_steps)


@pytest.mark.parametrize("values", [dict(warmup_steps=4), dict(warmup_steps=8, n_epochs=2)])
def test_a_warm_up_that_covers_the_first_task_is_an_error(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="would cover"):
        Trainer(small(**values))


def test_a_last_batch_of_one_image() -> None:
    t = ran(max_train_images_per_task=21, batch_size=10)
    assert [len(o.logits) for o in t.outputs] == [10, 10, 1] * 2
    assert t.results[-1].steps == 6


@pytest.mark.parametrize("batch, order", [(250, None), (7, 3)])
def test_every_number_of_a_result_is_by_hand(
    batch: int, order: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamos.evaluation.BATCH", batch)
    t = Trainer(small(n_tasks=3, temperature=1.0, class_order_seed=order))
    first, second, result = t
    assert t.untrained is not None and t.channel_use is not None
    assert len(first.class_il_row) == 2 and len(t.untrained["class_il"]) == 3
    network = t.network.eval()
    outputs = []
    with torch.inference_mode():
        for task, classes in enumerate(t.stream.tasks):
            images = t.stream.evaluation[task]
            output = network((images.pixels.float() / 16).expand(-1, 3, -1, -1))
            right = sum(
                row.argmax() == y for row, y in zip(output.logits, images.labels, strict=True)
            )
            own = output.logits[:, list(classes)].argmax(1)
            among = sum(
                classes[i] == y for i, y in zip(own.tolist(), images.labels.tolist(), strict=True)
            )
            assert result.class_il_row[task] == pytest.approx(100 * right.item() / len(images))
            assert result.task_il_row[task] == pytest.approx(100 * among / len(images))
            assert result.keep_per_task[task] == pytest.approx(output.actions.mean((0, 2)).tolist())
            outputs.append(output)
    assert result.class_il == pytest.approx(sum(result.class_il_row) / 3)
    assert result.task_il == pytest.approx(sum(result.task_il_row) / 3)
    assert all(a <= b for a, b in zip(result.class_il_row, result.task_il_row, strict=True))

    a, b, c = first.class_il_row, second.class_il_row, result.class_il_row
    assert result.learning_accuracy == pytest.approx((a[0] + b[1] + c[2]) / 3)
    assert result.backward_transfer == pytest.approx((c[0] - a[0] + c[1] - b[1]) / 2)
    assert result.forgetting == pytest.approx(
        (max(a[0], b[0], c[0]) - c[0] + max(b[1], c[1]) - c[1]) / 2
    )
    untrained = t.untrained["class_il"]
    assert result.forward_transfer == pytest.approx((a[1] - untrained[1] + b[2] - untrained[2]) / 2)

    actions = torch.cat([output.actions for output in outputs])
    assert result.keep_per_gate == pytest.approx(actions.mean((0, 2)).tolist())
    assert (
        result.keep_fraction == pytest.approx(actions.mean().item())
        and 0 < result.keep_fraction < 1
    )
    entropy = [
        torch.distributions.Bernoulli(logits=output.policy_logits).entropy().mean()
        for output in outputs
    ]
    assert result.policy_entropy == pytest.approx(sum(entropy).item() / 3, rel=1e-4)
    labels = torch.cat([images.labels for images in t.stream.evaluation])
    for k, use in enumerate(t.channel_use):
        torch.testing.assert_close(
            torch.from_numpy(use), actions[labels == k].mean(0).double(), equal_nan=True
        )
    # A network of 4 and 8 channels on 8x8 images. The kept channels decide the cost of the second
    # stage and of the classifier.
    kept = actions.sum(2).T.double()
    first_stage = 9 * 3 * 4 * 64 + 4 * 9 * 4 * 4 * 64
    second_stage = 16 * (
        9 * 4 * kept[0]
        + 9 * kept[0] * kept[1]
        + 4 * kept[1]
        + 9 * kept[1] * kept[2]
        + 9 * kept[2] * kept[3]
    )
    agents = 4 * 8 * 64 + 3 * 8 * 8 * 16 + 4 * 2 * 8 * 2
    assert result.macs == pytest.approx(
        first_stage + agents + (second_stage + 10 * kept[3]).mean().item()
    )
    dense = first_stage + 16 * (9 * 4 * 8 + 4 * 8 + 3 * 9 * 8 * 8) + 10 * 8
    assert result.compute == pytest.approx(result.macs / dense)
    assert (result.task, result.n_tasks, result.steps, result.evaluated_on) == (
        2,
        3,
        t.steps,
        "validation",
    )


def test_a_dense_network_keeps_everything_and_costs_what_it_costs() -> None:
    t = Trainer(small(model="sgd", n_tasks=1))
    result = t.run_task()
    assert (result.keep_fraction, result.keep_per_gate, result.compute, result.policy_entropy) == (
        1,
        (),
        1,
        0,
    )
    assert (
        result.macs
        == 9 * 3 * 4 * 64 + 4 * 9 * 4 * 4 * 64 + 16 * (9 * 4 * 8 + 4 * 8 + 3 * 9 * 8 * 8) + 10 * 8
    )


def test_untrained_accuracies_bypass_the_gates_with_warm_up() -> None:
    for warmup in (True, False):
        t = Trainer(small(warmup=warmup, inf_thresh=1.0, temperature=20.0))
        kept: list[tuple[int, float]] = []
        real = t.network.forward

        def forward(*arguments: Any, real: Any = real, kept: Any = kept, t: Trainer = t) -> Output:
            output: Output = real(*arguments)
            if not t.network.training:
                kept.append((t.steps, output.actions.mean().item()))
            return output

        with mock.patch.object(t.network, "forward", forward):
            t.run_task()
        # Before training, all channels are kept with warm-up, and those above the threshold without
        # it; afterwards always the latter.
        assert kept == [(0, 1.0 * warmup)] * 2 + [(4, 0.0)] * 2


@pytest.mark.parametrize("values", [dict(lr=1e30), dict(lr=1e30, model="sgd")])
def test_non_finite_ends_the_run_naming_task_and_step(values: dict[str, Any]) -> None:
    t = Trainer(small(**values))
    with pytest.raises(NonFiniteError, match=r"task 1, step \d.*'lr': 1e\+30"):
        for _ in t:
            pass
    assert t.results == []


def test_non_finite_values_are_looked_for_during_an_epoch_too() -> None:
    t = Trainer(small(lr=1e30, model="sgd", batch_size=1, max_train_images_per_task=60))
    with pytest.raises(NonFiniteError, match=r"task 1, step [123],"):
        t.run_task()
    assert t.steps == STEPS_BETWEEN_READS == 50  # of 60


def test_one_infinite_logit_in_training_ends_the_run_though_the_loss_is_finite() -> None:
    t = Trainer(small(model="sgd"))
    with torch.no_grad():
        t.network.linear.bias[9] = -math.inf  # a class of no task: its probability is 0
    t.network.linear.bias.requires_grad_(False)
    t.untrained = {"class_il": [0.0] * 2, "task_il": [0.0] * 2}
    with pytest.raises(NonFiniteError, match="task 1, step 1,"):
        t.run_task()


def test_non_finite_values_in_any_evaluation_batch_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dynamos.evaluation.BATCH", 7)
    t = Trainer(small(model="sgd"))
    t.run_task()
    real, calls = t.network.forward, []

    def first_is_nan(*arguments: Any) -> Output:
        output = real(*arguments)
        if not t.network.training:
            calls.append(output)
            if len(calls) == 1:
                output.logits[0, 0] = math.nan
        return output

    monkeypatch.setattr(t.network, "forward", first_is_nan)
    with pytest.raises(NonFiniteError, match="task 2"):
        t.run_task()


def test_non_finite_logits_at_evaluation_are_no_accuracy() -> None:
    t = Trainer(small())
    t.run_task()
    mean = t.network.bn.running_mean
    assert mean is not None
    mean.fill_(math.nan)  # parameters stay finite, training does not read this
    with pytest.raises(NonFiniteError, match="task 2"):
        t.run_task()


@pytest.mark.parametrize("threshold, keep", [(0.0, "1.000"), (1.0, "0.000")])
def test_a_collapsed_policy_is_a_recorded_warning(
    threshold: float, keep: str, caplog: pytest.LogCaptureFixture
) -> None:
    t = Trainer(small(inf_thresh=threshold, temperature=20.0))
    with caplog.at_level(logging.WARNING):
        result = t.run_task()
    (warning,) = result.warnings
    assert (
        warning.startswith("policy collapse: after task 1 gate 1 keeps " + keep)
        and warning in caplog.text
    )
    assert warning.count(keep) == 4
    assert Trainer(small(inf_thresh=0.0, keep_ratio=0.99)).run_task().warnings == ()
    assert Trainer(small(model="sgd")).run_task().warnings == ()


@pytest.mark.parametrize(
    "keep, stuck", [(0.985, True), (0.97, False), (0.015, True), (0.03, False)]
)
def test_a_collapse_is_near_the_end_and_not_only_at_it(keep: float, stuck: bool) -> None:
    assert bool(collapse(small(), 0, (0.7, keep))) == stuck


def test_one_gate_alone_can_collapse() -> None:
    t = Trainer(small(temperature=1.0))
    gates(t.network)[2].threshold = 0.0
    (warning,) = t.run_task().warnings
    assert "gate 3 keeps 1.000 of its channels" in warning and warning.count("gate") == 1


def test_non_finite_policy_logits_are_no_result() -> None:
    t = Trainer(small())
    t.run_task()
    # the gate keeps nothing, the logits stay finite
    mean = gates(t.network)[3].agent.bn.running_mean
    assert mean is not None
    mean.fill_(math.nan)
    with pytest.raises(NonFiniteError, match="task 2"):
        t.run_task()


def test_a_state_that_is_not_finite_is_not_given_away() -> None:
    """A checkpoint of such a state would replace the last good one."""
    t = Trainer(small())
    t.state_dict()
    with torch.no_grad():
        t.network.conv.weight[0, 0, 0, 0] = math.inf
    with pytest.raises(NonFiniteError, match="task 1, step 0,"):
        t.state_dict()


def test_epochs_means_are_over_all_batches() -> None:
    seen = []
    t = Watched(
        small(max_train_images_per_task=25, n_epochs=2, n_tasks=1, warmup=False),
        on_epoch=lambda t, means: seen.append(means),
    )
    t.run()
    assert len(seen) == 2
    for epoch, means in enumerate(seen):
        part = slice(3 * epoch, 3 * epoch + 3)
        sizes = [len(o.logits) for o in t.outputs[part]]
        assert sizes == [10, 10, 5]
        wanted = sum(x * n for x, n in zip(t.losses[part], sizes, strict=True)) / 25
        assert means["loss"] == pytest.approx(wanted, rel=1e-4)
        labels = [t.stream.images(0, b).labels for b in t.stream.batches(0, epoch, t.config)]
        right = sum(
            int((o.logits.argmax(1) == y).sum())
            for o, y in zip(t.outputs[part], labels, strict=True)
        )
        assert means["accuracy"] == pytest.approx(100 * right / 25)
        keep = (
            sum(o.actions.mean().item() * n for o, n in zip(t.outputs[part], sizes, strict=True))
            / 25
        )
        assert means["keep_fraction"] == pytest.approx(keep, rel=1e-4)
    assert (
        t.results[0].train_accuracy == means["accuracy"]
        and t.results[0].train_loss == means["loss"]
    )


@pytest.mark.slow
def test_it_learns() -> None:
    """Chance is 25 and 50. The accuracy of so short a run varies by twenty points between seeds."""
    base = TrainConfig(
        nf=8,
        hidden_dim_ratio=4,
        n_tasks=2,
        n_epochs=4,
        evaluate_on="validation",
        lr=0.07,
        max_train_images_per_task=200,
        warmup=True,
        device="cpu",
    )
    results = [[*Trainer(base.replace(seed=seed))][-1] for seed in (1, 2, 3)]
    assert sum(r.task_il for r in results) / 3 > 80 and sum(r.class_il for r in results) / 3 > 50, (
        results
    )
