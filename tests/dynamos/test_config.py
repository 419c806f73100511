import enum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from dynamos.config import (
    FIELDS,
    TrainConfig,
    default,
    parsed,
    parsed_settings,
    preset,
    preset_names,
    preset_sizes,
    read_config,
)
from dynamos.errors import UserError
from dynamos.fields import plain
from dynamos.methods import METHODS


def test_goes_through_a_mapping_and_yaml(tmp_path: Path) -> None:
    config = TrainConfig(lr=0.3, data_path="/d", warmup=True)
    assert TrainConfig.from_dict(config.to_dict()) == config
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config.to_dict()))
    assert TrainConfig.from_dict(read_config(tmp_path / "c.yaml")) == config


@pytest.mark.parametrize("text", ["1e-2", "1.0e-2", "0.01", "'0.01'"])
def test_a_yaml_number_may_be_written_as_people_write_it(text: str, tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-2 as text."""
    (tmp_path / "c.yaml").write_text(f"lr: {text}")
    assert TrainConfig.from_dict(read_config(tmp_path / "c.yaml")).lr == 0.01


@pytest.mark.parametrize(
    "values, says",
    [
        (dict(keep_ratio=1.5), "keep_ratio 1.5 is out of range; it must be from 0 to 1"),
        (dict(policy_penalty=1), "policy_penalty"),
        (dict(lr=0), "greater than 0"),
        (dict(lr=float("nan")), "finite"),
        (dict(lr=True), "lr True"),
        (dict(nf=2.5), "nf 2.5 is not a whole number"),
        (dict(warmup=1), "warmup 1"),
        (dict(model="dynamo"), "'dynamos'"),
        (dict(buffer_size=0), "buffer_size 0"),
        (dict(seed=-1), "seed"),
        (dict(nf=4), "hidden_dim_ratio"),
        (dict(dataset="mnist-360", n_epochs=2), "n_epochs 2"),
        (dict(dataset="mnist-360", classes_per_task=3), "classes_per_task"),
        (dict(device="cuda:x"), "cuda:x"),
        (dict(device="cuda:\u0663"), "device"),
        (dict(device="cuda:1000"), "device"),
        (dict(device="cpu:0"), "device"),
        (dict(device="cuda:1\n"), "device"),
        (dict(lr=10**400), "too large"),
        (dict(buffer_size=10**400), r"from 1 to 1e\+14"),
        (dict(buffer_size=10**15), r"from 1 to 1e\+14"),
        (dict(nf=10**7), "from 1 to 65536"),
        (dict(threads=10**11), "from 1 to 1024"),
        (dict(lr=4e38), "lr 4e.38 is too large"),
        (dict(policy_penalty=-1e300), "policy_penalty -1e.300 is too large"),
        (dict(nf=np.float32(8.5)), "nf 8.5 is not a whole number"),
        (dict(lr=np.ones(2)), r"lr \[1.0, 1.0\] is not a number"),
        (dict(warmup=np.int64(1)), "warmup 1 is not true or"),
        (dict(class_order_seed=10**400), "class_order_seed"),
        (dict(seed=2**63), "seed"),
    ],
)
def test_checks_itself(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        TrainConfig(**values)


class Size(enum.IntEnum):
    SMALL = 8


class Stream(enum.StrEnum):
    MNIST = "seq-mnist"


@pytest.mark.parametrize(
    "name, value, becomes",
    [
        ("lr", np.float64(0.3), 0.3),
        ("lr", np.float32(0.5), 0.5),
        ("lr", np.array(0.3), 0.3),
        ("lr", np.int64(2), 2.0),
        ("lr", torch.tensor(0.5), 0.5),
        ("nf", np.int64(8), 8),
        ("nf", np.uint8(8), 8),
        ("nf", np.float64(8), 8),
        ("nf", 8.0, 8),
        ("nf", torch.tensor(8), 8),
        ("nf", Size.SMALL, 8),
        ("warmup", np.bool_(True), True),
        ("n_tasks", None, None),
        ("dataset", np.str_("seq-mnist"), "seq-mnist"),
        ("dataset", Stream.MNIST, "seq-mnist"),
        ("seed", np.int64(2**63 - 1), 2**63 - 1),
    ],
)
def test_values_become_pythons_own(name: str, value: Any, becomes: object) -> None:
    held = getattr(TrainConfig(**{name: value}), name)
    assert held == becomes and type(held) is type(becomes)


def test_a_row_of_a_table_is_a_configuration_that_is_written_and_read(tmp_path: Path) -> None:
    table = pd.DataFrame({"lr": [0.3], "nf": [8], "warmup": [True], "dataset": ["seq-mnist"]})
    numbers = table[["lr", "nf"]].iloc[0]  # all of one type: nf has become 8.0
    config = TrainConfig(**table.iloc[0]).replace(**numbers)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config.to_dict()))
    assert (
        TrainConfig.from_dict(read_config(tmp_path / "c.yaml"))
        == config
        == TrainConfig(lr=0.3, nf=8, warmup=True, dataset="seq-mnist")
    )


def test_plain_values_hold_nothing_of_numpys() -> None:
    given = {
        "a": np.float64(1.5),
        "b": [np.int64(2), (np.bool_(True), None)],
        "c": pd.Series([1, 2]),
        "d": "text",
    }
    assert repr(plain(given)) == "{'a': 1.5, 'b': [2, (True, None)], 'c': [1, 2], 'd': 'text'}"


@pytest.mark.parametrize(
    "text, number", [("8", 8), ("8.0", 8), ("1e3", 1000), (str(2**63 - 1), 2**63 - 1)]
)
def test_a_whole_number_may_be_written_with_a_point(text: str, number: int, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"seed: {text}")
    assert (
        parsed("seed", text)
        == TrainConfig.from_dict(read_config(tmp_path / "c.yaml")).seed
        == number
    )


@pytest.mark.parametrize(
    "text, says",
    [
        ("lr: 0.1\nnf: 8\n\nlr: 0.2\n", "lr is given twice, in lines 1 and 4"),
        ("config:\n  lr: 0.1\n  'lr': 0.2\n", "lr is given twice, in lines 2 and 3"),
        ("config: {nf: 8, nf: 8}", "nf is given twice, in line 1"),
    ],
)
def test_a_field_given_twice_is_refused(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=f"c.yaml: {says}"):
        read_config(tmp_path / "c.yaml")


def test_a_merged_mapping_may_have_fields_of_the_one_it_merges(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "usual: &usual {lr: 0.1, nf: 8}\nconfig: {<<: *usual, lr: 0.2}\nagain: *usual\n"
    )
    assert read_config(tmp_path / "c.yaml") == {"lr": 0.2, "nf": 8}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_saved_by_an_editor_on_windows_is_read(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(
        "config:\r\n  lr: 0.1  # \u03b1\r\n  nf: 8\r\n".encode(encoding)
    )
    assert read_config(tmp_path / "c.yaml") == {"lr": 0.1, "nf": 8}


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:127"])
def test_a_device_may_have_a_number(device: str) -> None:
    assert TrainConfig(device=device).device == device


@pytest.mark.parametrize("model", METHODS)
def test_agents_without_hidden_units_are_refused_where_there_are_agents(model: str) -> None:
    if METHODS[model].gated:
        with pytest.raises(UserError, match="hidden_dim_ratio 16 .* at most 8"):
            TrainConfig(model=model, nf=4)
    else:
        assert TrainConfig(model=model, nf=4).hidden_dim_ratio == 16


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(UserError, match="'kep_ratio'.*'keep_ratio'"):
        TrainConfig.from_dict({"kep_ratio": 0.5})
    with pytest.raises(UserError, match="'lr'"):
        TrainConfig().replace(lrr=1)


def test_settings() -> None:
    values = parsed_settings(
        ["lr=0.5", "warmup=true", "data_path=none", "policy-penalty=-3", "model=sgd"]
    )
    assert values == {
        "lr": 0.5,
        "warmup": True,
        "data_path": None,
        "policy_penalty": -3.0,
        "model": "sgd",
    }
    for name, text in (("lr", "x"), ("warmup", "maybe"), ("nf", "1.5"), ("nope", "1")):
        with pytest.raises(UserError, match=name):
            parsed(name, text)


@pytest.mark.parametrize("dataset, size", list(preset_names()))
def test_presets_are_configurations(dataset: str, size: int) -> None:
    config = TrainConfig.from_dict(preset(dataset, size))
    assert (config.dataset, config.buffer_size, config.model, config.warmup) == (
        dataset,
        size,
        "dynamos",
        True,
    )


def test_presets_are_the_papers() -> None:
    paper = {
        ("seq-mnist", 500): (1, 10, 0.2, 2.0, 0.2, -500, 0.5, 0.3),
        ("seq-mnist", 1000): (1, 10, 0.1, 2.5, 0.2, -200, 0.7, 0.5),
        ("seq-mnist", 2000): (1, 10, 0.5, 3.0, 0.2, -200, 0.5, 0.5),
        ("seq-svhn", 500): (70, 16, 2.0, 3.0, 1.0, -500, 1.0, 0.5),
        ("seq-svhn", 1000): (70, 16, 2.5, 2.0, 0.2, -500, 1.0, 0.5),
        ("seq-svhn", 2000): (70, 16, 2.5, 2.0, 0.2, -500, 1.0, 0.5),
        ("mnist-360", 100): (1, 16, 0.2, 1.0, 0.1, -200, 0.5, 0.5),
        ("mnist-360", 200): (1, 16, 0.2, 1.5, 0.1, -200, 1.0, 0.5),
        ("mnist-360", 500): (1, 16, 0.1, 1.5, 0.1, -200, 0.3, 0.3),
    }
    assert set(paper) == {pair for pair in preset_names() if "digits" not in pair[0]}
    for pair, row in paper.items():
        config = TrainConfig.from_dict(preset(*pair))
        assert row == (
            config.n_epochs,
            config.batch_size,
            config.alpha,
            config.beta,
            config.policy_alpha,
            config.policy_penalty,
            config.reward_weight,
            config.prototype_loss,
        )
        assert config.minibatch_size == config.batch_size
        assert (
            config.temperature,
            config.hidden_dim_ratio,
            config.nf,
            config.keep_ratio,
            config.lr,
            config.warmup,
        ) == (0.15, 16, 32, 0.7, 0.07, True)


def test_a_missing_preset_is_an_error_that_lists_the_presets() -> None:
    assert {name: preset_sizes(name)[0] for name, _ in preset_names()} == {
        "seq-mnist": 500,
        "seq-svhn": 500,
        "mnist-360": 100,
        "seq-digits": 200,
        "digits-360": 200,
    }
    others = [("seq-mnist", 500, m) for m in METHODS if m != "dynamos"]
    for dataset, size, model in (
        ("seq-mnist", 300, "dynamos"),
        ("nonsense", 500, "dynamos"),
        *others,
    ):
        with pytest.raises(UserError, match="seq-svhn 2000"):
            preset(dataset, size, model)


def test_every_field_describes_itself() -> None:
    for name, spec in FIELDS.items():
        assert spec.help and spec.group
        assert default(name) is spec.default


def test_tuned_presets_are_beside_those_of_the_paper() -> None:
    tuned = preset("mnist-360", 500, kind="tuned")
    paper = preset("mnist-360", 500)
    assert tuned["average_decay"] == 0.99 and "average_decay" not in paper
    assert preset_sizes("mnist-360", "tuned") == [500]
    for size in preset_sizes("mnist-360", "tuned"):
        TrainConfig.from_dict(preset("mnist-360", size, kind="tuned"))
    with pytest.raises(UserError, match="no tuned preset for dynamos on seq-svhn .* Tuned presets"):
        preset("seq-svhn", 500, kind="tuned")
