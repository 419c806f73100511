import copy
import logging
from typing import Any

import pytest
import torch

from dynamos import checkpoints, export
from dynamos.averaging import LONGEST, Average, limited, warmed
from dynamos.config import TrainConfig
from dynamos.data import as_input
from dynamos.evaluation import evaluate
from dynamos.methods import METHODS
from dynamos.metrics import LAG, mean
from dynamos.network import ResNet, build_network
from dynamos.trainer import Trainer
from tests.helpers.ledgers import result
from tests.helpers.small import assert_same_outcome, outcome, resumed, small


@pytest.mark.parametrize(
    "decay, steps, expected",
    [(0.9, 48, 0.9), (0.95, 48, 15 / 16), (0.99, 300, 0.99), (0.99, 3, 0.0), (0.5, 2, 0.0)],
)
def test_an_average_reaches_back_over_a_part_of_a_task(
    decay: float, steps: int, expected: float
) -> None:
    assert pytest.approx(1 / 3) == LONGEST
    assert limited(decay, steps) == pytest.approx(expected)


@pytest.mark.parametrize(
    "decay, updates, expected", [(0.9, 0, 0.1), (0.9, 1, 2 / 11), (0.9, 80, 0.9), (0.05, 0, 0.05)]
)
def test_the_decay_grows_from_a_tenth(decay: float, updates: int, expected: float) -> None:
    assert warmed(decay, updates) == pytest.approx(expected)


def test_weights_and_statistics_are_averaged_and_counts_are_shared() -> None:
    trained = build_network(small(), 10)
    with torch.no_grad():
        trained.linear.bias.zero_()
    average = Average(trained)
    statistics = trained.bn.running_mean
    assert statistics is not None
    for value in (1.0, 1.0, 3.0):
        with torch.no_grad():
            trained.linear.bias.fill_(value)
            statistics.fill_(2 * value)
            assert trained.bn.num_batches_tracked is not None
            trained.bn.num_batches_tracked += 1
        average.update(0.2)
    # decays 1/10, 2/11 and, limited by the argument, 1/5
    by_hand = (0.9 * 2 / 11 + 9 / 11) / 5 + 3 * 4 / 5
    assert average.network.linear.bias.tolist() == pytest.approx([by_hand] * 10)
    assert average.network.bn.running_mean is not None
    assert average.network.bn.running_mean.tolist() == pytest.approx([2 * by_hand] * 4)
    assert average.network.bn.num_batches_tracked == 3
    assert not average.network.training


def class_il(network: ResNet, trainer: Trainer) -> float:
    found = [
        evaluate(
            lambda pixels, white: network.eval()(as_input(pixels, white)), trainer.stream, task, 1.0
        )
        for task in range(trainer.n_tasks)
    ]
    return mean(evaluation.class_il for evaluation in found if evaluation is not None)


@pytest.mark.parametrize("model", METHODS)
def test_averaging_changes_what_is_evaluated_and_not_what_is_trained(model: str) -> None:
    plain = Trainer(small(model=model, n_epochs=2))
    averaged = Trainer(small(model=model, n_epochs=2, average_decay=0.6))
    (results, network), (others, trained) = outcome(plain), outcome(averaged)
    assert all(torch.equal(network[name], trained[name]) for name in network)
    assert [r["class_il_unaveraged"] for r in others] == [r["class_il"] for r in results]
    assert [r["class_il_unaveraged"] for r in results] == [None, None]
    assert averaged.average is not None and averaged.evaluated is averaged.average.network
    assert others[-1]["class_il"] == class_il(averaged.evaluated, averaged)
    assert any(
        not torch.equal(value, trained[name])
        for name, value in averaged.evaluated.state_dict().items()
    )
    assert plain.evaluated is plain.network


def test_the_average_is_the_recursion_over_the_steps() -> None:
    weights = []

    def keep(trainer: Trainer) -> None:
        weights.append(trainer.network.linear.weight.detach().double().clone())

    trainer = Trainer(small(n_epochs=3, average_decay=0.9), on_step=keep)
    average = trainer.network.linear.weight.detach().double().clone()
    list(trainer)
    # 12 steps a task: 0.9 would cover 10, and a third of the task are 4
    for k, weight in enumerate(weights):
        decay = min(0.75, (1 + k) / (10 + k))
        average = decay * average + (1 - decay) * weight
    assert torch.allclose(trainer.evaluated.linear.weight.double(), average, atol=1e-6)


@pytest.mark.parametrize("infer_mode", ["threshold", "sample"])
def test_a_resumed_run_has_the_same_average_to_the_last_bit(
    infer_mode: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = small(n_epochs=3, average_decay=0.7, infer_mode=infer_mode)
    whole, again = resumed(config, 17, tmp_path_factory.mktemp("run"))
    assert_same_outcome(whole, again)
    averaged, others = whole.evaluated.state_dict(), again.evaluated.state_dict()
    assert all(torch.equal(value, others[name]) for name, value in averaged.items())


def test_the_averaged_network_is_the_one_that_a_checkpoint_exports(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("run")
    trainer = Trainer(small(n_epochs=3, average_decay=0.6))
    list(trainer)
    checkpoints.save(trainer.state_dict(), folder)
    found = export.from_checkpoints(folder)
    assert found is not None
    exported = found[1].state_dict()
    assert all(torch.equal(v, exported[n]) for n, v in trainer.evaluated.state_dict().items())
    assert not torch.equal(exported["linear.weight"], trainer.network.linear.weight)


def without_new_fields(state: dict[str, Any]) -> dict[str, Any]:
    config = {
        name: value
        for name, value in state["config"].items()
        if name not in ("average_decay", "readings")
    }
    return {n: v for n, v in state.items() if n not in ("average", "readings")} | {"config": config}


def test_a_run_of_an_older_version_goes_on_without_an_average() -> None:
    states = list[dict[str, Any]]()

    def save(trainer: Trainer) -> None:
        if trainer.steps == 5:
            states.append(copy.deepcopy(trainer.state_dict()))

    whole, again = Trainer(small(), on_step=save), Trainer(small())
    list(whole)
    again.load_state_dict(without_new_fields(states[0]))
    assert_same_outcome(whole, again)


@pytest.mark.parametrize(
    "task, unaveraged, lags",
    [(1, 50 + LAG + 1, True), (1, 50 + LAG, False), (1, None, False), (0, 50 + LAG + 1, False)],
)
def test_an_average_lags_where_the_last_network_is_much_better_at_the_end(
    task: int, unaveraged: float | None, lags: bool
) -> None:
    found = result(task, 2, val_class_il=50.0, val_class_il_unaveraged=unaveraged)
    assert found.lags == lags


def test_a_run_warns_of_an_average_that_lags(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings(config: TrainConfig) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "dynamos"):
            list(Trainer(config))
        return [r.getMessage() for r in caplog.records if "lags" in r.getMessage()]

    assert warnings(small()) == []
    monkeypatch.setattr("dynamos.metrics.LAG", -101.0)
    (text,) = warnings(small(average_decay=0.5))
    assert "try an average_decay smaller than 0.5" in text
