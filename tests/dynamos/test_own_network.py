"""Networks in a user's file."""

from pathlib import Path
from textwrap import dedent

import pytest
import torch

from dynamos.config import TrainConfig
from dynamos.errors import UserError
from dynamos.export import load, newest_checkpoint, write
from dynamos.methods import METHODS
from dynamos.network import build_network, load_original, original_state_dict
from dynamos.own_network import OwnNetwork
from dynamos.trainer import Trainer
from tests.helpers.small import assert_same_outcome, outcome, resumed, small, together

EXAMPLE = f"{Path(__file__).parents[2] / 'examples' / 'own_network.py'}:mlp"
HEAD = """
import torch
from torch import nn

def plain(config, num_classes):
    return nn.Sequential(
        nn.Conv2d(3, config.nf, 3), nn.BatchNorm2d(config.nf), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(config.nf, num_classes),
    )
"""
DENSE = [name for name, of in METHODS.items() if not of.gated]


def written(folder: Path, body: str = "") -> str:
    (folder / "nets.py").write_text(HEAD + dedent(body))
    return f"{folder / 'nets.py'}:{'build' if body else 'plain'}"


@pytest.mark.parametrize("model", DENSE)
def test_every_dense_method_trains_it(model: str, tmp_path: Path) -> None:
    trainer = Trainer(small(model=model, network=written(tmp_path)))
    results, state = outcome(trainer)
    assert all(bool(value.isfinite().all()) for value in state.values())
    assert isinstance(trainer.network, OwnNetwork) and results[-1]["keep_fraction"] == 1
    # 6x6 places of a 3x3 convolution, and the classifier
    assert results[-1]["macs"] == 36 * 3 * 4 * 9 + 4 * 10


def test_the_example_learns() -> None:
    config = small(model="sgd", network=EXAMPLE, n_tasks=1, classes_per_task=10, nf=8, lr=0.2)
    config = config.replace(max_train_images_per_task=None, n_epochs=8)
    results, _ = outcome(Trainer(config))
    assert results[-1]["class_il"] > 80


def test_weights_follow_the_seed_and_the_configuration(tmp_path: Path) -> None:
    config = small(model="sgd", network=written(tmp_path))
    before = torch.get_rng_state()
    one, same, other = (build_network(config.replace(seed=s), 10) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
    first = "module.0.weight"
    assert not torch.equal(one.state_dict()[first], other.state_dict()[first])
    assert len(build_network(config.replace(nf=7), 10).state_dict()["module.0.weight"]) == 7


def test_a_run_resumes_exactly_trains_together_and_is_exported(tmp_path: Path) -> None:
    config = small(model="derpp", network=written(tmp_path), average_decay=0.5)
    whole, again = resumed(config, 6, tmp_path / "run" / "checkpoints")
    assert_same_outcome(whole, again)
    runs = together([config, config.replace(seed=1)])
    assert runs[0].results[-1].class_il == whole.results[-1].class_il
    images = torch.rand(3, 3, 8, 8)
    exported = load(write(config, whole.evaluated, tmp_path / "export"))
    assert torch.equal(exported(images).logits, whole.evaluated.eval()(images).logits)
    assert isinstance(newest_checkpoint(tmp_path / "run")[1], OwnNetwork)
    other = build_network(config.replace(seed=9), 10)
    load_original(other, original_state_dict(whole.network))
    assert torch.equal(other.eval()(images).logits, whole.network.eval()(images).logits)


def test_a_changed_file_cannot_resume_a_checkpoint(tmp_path: Path) -> None:
    config = small(model="sgd", network=written(tmp_path))
    state = Trainer(config).state_dict()
    (tmp_path / "nets.py").write_text(HEAD + "# changed")
    with pytest.raises(UserError, match=r"nets.py:plain has changed since the checkpoint"):
        Trainer(config).load_state_dict(state)


def test_methods_with_gates_need_a_network_with_gates() -> None:
    for model in ("dynamos", "dynamos_sgd"):
        with pytest.raises(UserError, match="needs a network with gates, and n.py:net is your own"):
            TrainConfig(model=model, network="n.py:net")
    assert TrainConfig(model="er", network="n.py:net", gated_stages="9").network == "n.py:net"
    with pytest.raises(UserError, match="unknown network 'n.py:'"):
        TrainConfig(model="er", network="n.py:")


@pytest.mark.parametrize(
    "body, said",
    [
        ("def build(): pass", "nets.py:build raises TypeError: build\\(\\) takes 0 positional"),
        ("def build(c, k): return 1 / 0", "raises ZeroDivisionError: division by zero"),
        ("def build(c, k): return 3", "returns a int; it must return a torch.nn.Module"),
        ("def build(c, k): return nn.Flatten()", "a module without parameters to train"),
        ("def build(c, k): return plain(c, k + 1)", r"returns \(1, 11\) for 1 images; it must be"),
        (
            "def build(c, k): return nn.Sequential(nn.Flatten(), nn.Linear(4, k))",
            "fails on 1 image of 8x8 in training: RuntimeError: mat1 and mat2 shapes",
        ),
        (
            "def build(c, k): return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), "
            "nn.Linear(192, k))",
            "fails on 1 image of 8x8 in training: ValueError: Expected more than 1 value",
        ),
        (
            "def build(c, k): return nn.Sequential(plain(c, k), nn.Dropout(0.5))",
            "draws from torch's global generator, for instance by dropout",
        ),
        ("def bild(c, k): pass", "unknown network of .*nets.py 'build'. Did you mean 'bild'"),
        ("import nothing_of_that_name", "nets.py fails to import: ModuleNotFoundError"),
    ],
)
def test_what_is_no_network_is_one_line(body: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as raised:
        Trainer(small(model="sgd", network=written(tmp_path, body)))
    assert "\n" not in str(raised.value)


def test_its_steps_are_eager_and_that_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = written(tmp_path)
    Trainer(small(model="sgd", network=network, step_mode="graph"))
    assert f"step_mode graph is not available for {network}, using eager" in caplog.text
