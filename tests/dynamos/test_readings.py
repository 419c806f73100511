import dataclasses
from statistics import median
from typing import Any

import pytest
import torch

from dynamos.config import TrainConfig
from dynamos.data import Images, as_input
from dynamos.errors import UserError
from dynamos.evaluation import evaluate
from dynamos.metrics import mean
from dynamos.readings import IMAGES_PER_CLASS, most_readings, reading_part, reading_steps
from dynamos.streams import load_stream
from dynamos.trainer import Trainer
from tests.helpers.small import assert_same_outcome, resumed, small

LONG: dict[str, Any] = dict(batch_size=1, n_epochs=2)  # 80 steps a task


@pytest.mark.parametrize(
    "readings, steps, expected",
    [
        (1, 100, [100]),
        (2, 100, [95, 100]),
        (4, 80, [74, 76, 78, 80]),
        (3, 100, [94, 97, 100]),
        (4, 48, [45, 46, 47, 48]),
    ],
)
def test_readings_divide_the_last_tenth(readings: int, steps: int, expected: list[int]) -> None:
    assert reading_steps(readings, steps) == expected


@pytest.mark.parametrize("steps", [1, 9, 10, 19, 48, 1000])
def test_as_many_readings_as_fit_are_after_different_steps(steps: int) -> None:
    found = reading_steps(most_readings(steps), steps)
    assert len(set(found)) == most_readings(steps)
    assert found[-1] == steps and min(found) > steps - steps / 10 - 1


def test_a_reading_uses_the_same_number_of_images_of_each_class() -> None:
    stream = load_stream(small(n_tasks=None), torch.device("cpu"))
    labels = torch.cat([images.labels for images in reading_part(stream).evaluation])
    assert len(labels) == 144  # few: all of them
    labels = torch.arange(3).repeat(200)
    many = Images(torch.arange(600).view(600, 1, 1, 1).to(torch.uint8), labels, 255)
    (part,) = reading_part(dataclasses.replace(stream, evaluation=(many,))).evaluation
    assert part.labels.bincount().tolist() == [IMAGES_PER_CLASS] * 3
    # every fourth image of a class, of which one of three images is
    assert part.pixels[:3].ravel().tolist() == [0, 12, 24]


def test_all_readings_are_kept_and_their_median_is_a_metric() -> None:
    seen = []
    config = small(**LONG, readings=4)

    def look(trainer: Trainer) -> None:
        if trainer.task == 1 and trainer.epoch == 1 and trainer.step in (34, 36, 38, 40):
            seen.append(class_il(trainer))

    trainer = Trainer(config, on_step=look)
    first, last = trainer
    assert last.readings == tuple(seen) and first.readings == ()
    assert last.class_il_median == median(seen) and first.class_il_median == first.class_il
    assert last.metrics()["val_class_il_median"] == median(seen)
    assert "val_class_il_median" not in list(Trainer(small()))[-1].metrics()


def class_il(trainer: Trainer) -> float:
    network = trainer.evaluated.eval()
    part = reading_part(trainer.stream)
    found = [
        evaluate(lambda pixels, white: network(as_input(pixels, white)), part, task, 1.0)
        for task in range(2)
    ]
    trainer.network.train()
    return mean(evaluation.class_il for evaluation in found if evaluation is not None)


@pytest.mark.parametrize(
    "infer_mode, average_decay",
    [
        ("sample", 0.5),
        ("threshold", 0.0),
        pytest.param("sample", 0.0, marks=pytest.mark.slow),
        pytest.param("threshold", 0.5, marks=pytest.mark.slow),
    ],
)
def test_readings_change_nothing_else(infer_mode: str, average_decay: float) -> None:
    base = small(**LONG, infer_mode=infer_mode, average_decay=average_decay)
    plain, read = Trainer(base), Trainer(base.replace(readings=3))
    list(plain), list(read)
    for name, value in plain.network.state_dict().items():
        assert torch.equal(value, read.network.state_dict()[name]), name
    assert [r.class_il for r in plain.results] == [r.class_il for r in read.results]


def test_a_resumed_run_keeps_the_readings_before(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = small(**LONG, readings=4, average_decay=0.5)
    whole, again = resumed(config, 157, tmp_path_factory.mktemp("run"))
    assert again.readings == whole.readings[:2]
    assert_same_outcome(whole, again)


def test_too_many_readings_are_an_error_before_training() -> None:
    with pytest.raises(UserError) as caught:
        Trainer(small(readings=2))
    assert str(caught.value) == (
        "readings 2 do not fit into the last tenth of the last task, which has 4 steps; set at "
        "most 1."
    )


def test_readings_look_at_no_test_images() -> None:
    with pytest.raises(UserError, match="readings 4: readings are taken on validation images"):
        TrainConfig(readings=4)
