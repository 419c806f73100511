"""Steps of the baselines against their formulas, written out."""

import copy
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from dynamos.buffer import Replay
from dynamos.config import TrainConfig, unused
from dynamos.errors import UserError
from dynamos.methods import METHODS
from dynamos.network import Output, ResNet
from dynamos.streams import load_stream
from dynamos.streams.stream import cumulative
from dynamos.trainer import Trainer
from tests.helpers.small import small

ALPHA, BETA, LR = 0.7, 1.3, 0.05
Forward = Callable[[Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the images of -log softmax at the label, term by term."""
    exponentials = logits.exp()
    shares = exponentials[range(len(labels)), labels] / exponentials.sum(1)
    return -shares.log().mean()


def er(forward: Forward, x: Tensor, y: Tensor, stored: Replay) -> Tensor:
    images, labels = torch.cat([x, stored.images]), torch.cat([y, stored.labels])
    return cross_entropy(forward(images), labels)


def der(forward: Forward, x: Tensor, y: Tensor, stored: Replay) -> Tensor:
    value = cross_entropy(forward(x), y)
    return value + ALPHA * ((forward(stored.images) - stored.logits) ** 2).mean()


def derpp(forward: Forward, x: Tensor, y: Tensor, stored: Replay) -> Tensor:
    assert len(stored.labels) == 8  # two draws of four images
    value = cross_entropy(forward(x), y)
    value = value + ALPHA * ((forward(stored.images[:4]) - stored.logits[:4]) ** 2).mean()
    return value + BETA * cross_entropy(forward(stored.images[4:]), stored.labels[4:])


def er_ace(forward: Forward, x: Tensor, y: Tensor, stored: Replay) -> Tensor:
    present = sorted(set(y.tolist()))
    own = torch.tensor([present.index(label) for label in y.tolist()])
    value = cross_entropy(forward(x)[:, present], own)
    return value + cross_entropy(forward(stored.images), stored.labels)


def trained(model: str, task: int = 1) -> tuple[Trainer, Any]:
    """A run in the middle of a task, in double precision, and (images, bypass) of its next step."""
    config = small(model=model, minibatch_size=4, alpha=ALPHA, beta=BETA, lr=LR, buffer_size=20)
    trainer = Trainer(config)
    for _ in range(task):
        trainer.run_task()
    steps = trainer.steps_of_task()
    for images, bypass in islice(steps, 3):
        trainer._train_step(images, bypass)
    return trainer, next(steps)


def forward_of(network: ResNet) -> Forward:
    def forward(pixels: Tensor) -> Tensor:
        output: Output = network((pixels.double() / 16).expand(-1, 3, -1, -1))
        return output.logits

    return forward


def gradients(network: ResNet, value: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, list(network.parameters())))


def assert_stepped(trainer: Trainer, before: ResNet, wanted: list[Tensor]) -> None:
    for (name, new), old, gradient in zip(
        trainer.network.named_parameters(), before.parameters(), wanted, strict=True
    ):
        torch.testing.assert_close(new, old - LR * gradient, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("formula", [er, der, derpp, er_ace], ids=lambda f: f.__name__)
def test_a_step_follows_the_gradient_of_the_formula(formula: Any, double: None) -> None:
    trainer, (images, bypass) = trained(formula.__name__)
    inputs = trainer._inputs(images, bypass)
    assert inputs.replayed is not None
    before = copy.deepcopy(trainer.network)
    stored = trainer.buffer.take(inputs.replayed)
    own = copy.deepcopy(trainer.network)
    wanted = gradients(own, formula(forward_of(own), images.pixels, images.labels, stored))
    trainer._step(inputs)
    assert_stepped(trainer, before, wanted)


@pytest.mark.parametrize("against", [True, False])
def test_agem_takes_out_the_part_that_hurts_the_buffer(against: bool, double: None) -> None:
    trainer, (images, bypass) = trained("agem")
    if against:  # labels that the network does not give: their gradient opposes the buffer's
        shown = images.labels.clone()
        trainer.buffer.images[: len(shown)] = images.pixels
        trainer.buffer.labels[: len(shown)] = (shown + 1) % 4
    inputs = trainer._inputs(images, bypass)
    assert inputs.replayed is not None
    before, own = copy.deepcopy(trainer.network), copy.deepcopy(trainer.network)
    stored = trainer.buffer.take(inputs.replayed)
    forward = forward_of(own)
    g = gradients(own, cross_entropy(forward(images.pixels), images.labels))
    r = gradients(own, cross_entropy(forward(stored.images), stored.labels))
    product = sum(float((a * b).sum()) for a, b in zip(g, r, strict=True))
    square = sum(float((b * b).sum()) for b in r)
    wanted = [a - min(product / square, 0) * b for a, b in zip(g, r, strict=True)]
    after = sum(float((a * b).sum()) for a, b in zip(wanted, r, strict=True))
    assert after >= -1e-9
    trainer._step(inputs)
    assert_stepped(trainer, before, wanted)
    if against:
        assert product < 0


def test_lwf_keeps_the_answers_of_the_network_before(double: None) -> None:
    temperature = 3.0
    config = small(model="lwf", alpha=ALPHA, lr=LR, n_tasks=3, method={"temperature": temperature})
    trainer = Trainer(config)
    trainer.run_task()
    old = copy.deepcopy(trainer.network).eval()
    images, bypass = next(trainer.steps_of_task())
    trainer.network.train()
    before, own = copy.deepcopy(trainer.network), copy.deepcopy(trainer.network)
    x, seen = images.pixels, [0, 1]
    logits, earlier = forward_of(own)(x), forward_of(old)(x).detach()
    value = cross_entropy(logits[:, :4], images.labels)  # the classes 4 to 9 are still ahead
    shares = (logits[:, seen] / temperature).exp()
    answers = (earlier[:, seen] / temperature).exp()
    shares, answers = shares / shares.sum(1, True), answers / answers.sum(1, True)
    distance = (answers * (answers.log() - shares.log())).sum(1).mean()
    trainer._train_step(images, bypass)
    assert_stepped(trainer, before, gradients(own, value + ALPHA * distance))
    assert distance > 0


def test_ewc_on_holds_weights_by_their_fisher_information(double: None) -> None:
    values = {"e_lambda": 0.7, "gamma": 0.6, "fisher_images": 10**6}
    trainer = Trainer(small(model="ewc_on", lr=LR, n_tasks=3, method=values))
    fisher: list[Tensor] = []
    for task in range(2):
        trainer.run_task()
        own = copy.deepcopy(trainer.network).eval()
        part = trainer.stream.train[task]
        squares = [torch.zeros_like(p) for p in own.parameters()]
        for pixels, label in zip(part.pixels.split(1), part.labels.split(1), strict=True):
            each = gradients(own, cross_entropy(forward_of(own)(pixels), label))
            squares = [s + g**2 / len(part) for s, g in zip(squares, each, strict=True)]
        old = fisher or [torch.zeros_like(p) for p in own.parameters()]
        fisher = [0.6 * f + s for f, s in zip(old, squares, strict=True)]
    anchor = [p.detach().clone() for p in trainer.network.parameters()]
    steps = trainer.steps_of_task()
    trainer._train_step(*next(steps))  # away from the anchor
    images, bypass = next(steps)
    before, own = copy.deepcopy(trainer.network), copy.deepcopy(trainer.network)
    value = cross_entropy(forward_of(own)(images.pixels), images.labels)
    for p, a, f in zip(own.parameters(), anchor, fisher, strict=True):
        value = value + 0.7 * (f * (p - a) ** 2).sum()
    wanted = gradients(own, value)
    trainer._train_step(images, bypass)
    assert_stepped(trainer, before, wanted)


def test_ewc_on_estimates_from_images_that_the_run_draws() -> None:
    few, all_, again = (
        Trainer(small(model="ewc_on", method={"fisher_images": n})) for n in (5, 10**6, 5)
    )
    for trainer in (few, all_, again):
        trainer.run_task()
    state = [t.state_dict()["method"]["fisher"] for t in (few, all_, again)]
    assert torch.equal(state[0], state[2]) and not torch.allclose(state[0], state[1])


def test_methods_that_change_between_tasks_take_eager_steps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Trainer(small(model="lwf", step_mode="graph"))
    assert "step_mode graph is not available for lwf, using eager" in caplog.text


@pytest.mark.parametrize("model", ["er", "der", "derpp", "agem", "joint", "ewc_on"])
def test_the_first_step_is_that_of_cross_entropy(model: str, double: None) -> None:
    trainer = Trainer(small(model=model, lr=LR))
    images, bypass = next(trainer.steps_of_task())
    trainer.network.train()
    before, own = copy.deepcopy(trainer.network), copy.deepcopy(trainer.network)
    wanted = gradients(own, cross_entropy(forward_of(own)(images.pixels), images.labels))
    trainer._train_step(images, bypass)
    assert_stepped(trainer, before, wanted)


def test_baselines_store_every_image_and_dynamos_those_classified_correctly() -> None:
    for model, of in METHODS.items():
        trainer = Trainer(small(model=model, warmup=False, buffer_size=100))
        images, bypass = next(trainer.steps_of_task())
        trainer._train_step(images, bypass)
        seen = int(trainer.buffer.seen)
        assert seen == len(images) if of.stores_all else seen < len(images), model


def test_joint_trains_each_task_on_the_images_of_all_tasks_so_far() -> None:
    config = small(model="joint")
    alone = load_stream(config, torch.device("cpu"))
    trainer = Trainer(config, alone)
    ends = [len(part) for part in alone.train]
    assert [len(part) for part in trainer.stream.train] == [ends[0], ends[0] + ends[1]]
    assert set(trainer.stream.train[1].labels.tolist()) == {0, 1, 2, 3}
    # one memory for all tasks
    first, last = trainer.stream.train[0].pixels, trainer.stream.train[-1].pixels
    assert first.data_ptr() == last.data_ptr()
    whole = cumulative(alone)
    assert torch.equal(whole.train[1].pixels[ends[0] :], alone.train[1].pixels)
    assert whole.evaluation is alone.evaluation
    with pytest.raises(UserError, match="model joint needs a stream whose tasks have classes"):
        TrainConfig(model="joint", dataset="mnist-360")


def test_each_method_names_the_fields_that_it_uses() -> None:
    weights = {"alpha", "beta", "policy_alpha"}
    used = {model: weights - {*unused(model)} for model in METHODS}
    assert used["derpp"] == {"alpha", "beta"} and used["der"] == {"alpha"}
    assert used["lwf"] == {"alpha"} and not used["ewc_on"]
    assert not used["er"] and not used["joint"] and used["dynamos"] == weights
    assert "minibatch_size" in unused("joint") and "minibatch_size" not in unused("er")
    assert all(("keep_ratio" in unused(m)) != of.gated for m, of in METHODS.items())


@pytest.mark.parametrize("field", ["alpha", "beta", "policy_alpha", "minibatch_size", "keep_ratio"])
@pytest.mark.parametrize(
    "model", ["er", "der", "derpp", "er_ace", "agem", "joint", "lwf", "ewc_on"]
)
def test_a_field_changes_a_run_if_the_method_uses_it(model: str, field: str) -> None:
    changed = {field: {"minibatch_size": 3}.get(field, 0.9)}
    runs = [Trainer(small(model=model, **values)) for values in ({}, changed)]
    for run in runs:
        for _ in run:
            pass
    same = all(
        torch.equal(a, b)
        for a, b in zip(runs[0].network.parameters(), runs[1].network.parameters(), strict=True)
    )
    assert same == (field in unused(model))
