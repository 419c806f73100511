import pytest
import yaml

from dynamos.config import (
    DATASETS,
    FIELDS,
    METHODS,
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


def test_goes_through_a_mapping_and_yaml(tmp_path):
    config = TrainConfig(lr=0.3, data_path="/d", warmup=True)
    assert TrainConfig.from_dict(config.to_dict()) == config
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config.to_dict()))
    assert TrainConfig.from_dict(read_config(tmp_path / "c.yaml")) == config


@pytest.mark.parametrize("text", ["1e-2", "1.0e-2", "0.01", "'0.01'"])
def test_a_yaml_number_may_be_written_as_people_write_it(text, tmp_path):
    """YAML 1.1 takes 1e-2 for a text."""
    (tmp_path / "c.yaml").write_text(f"lr: {text}")
    assert TrainConfig.from_dict(read_config(tmp_path / "c.yaml")).lr == 0.01


@pytest.mark.parametrize("values, says", [
    (dict(keep_ratio=1.5), "keep_ratio 1.5 is out of range; it must be from 0 to 1"),
    (dict(policy_penalty=1), "policy_penalty"), (dict(lr=0), "greater than 0"), (dict(lr=float("nan")), "finite"),
    (dict(lr=True), "lr True"), (dict(nf=2.5), "nf 2.5 is not a whole number"), (dict(warmup=1), "warmup 1"),
    (dict(model="dynamo"), "'dynamos'"), (dict(buffer_size=0), "buffer_size 0"), (dict(seed=-1), "seed"),
    (dict(nf=4), "hidden_dim_ratio"), (dict(dataset="mnist-360", n_epochs=2), "n_epochs 2"),
    (dict(dataset="mnist-360", classes_per_task=3), "classes_per_task"), (dict(device="cuda:x"), "cuda:x"),
    (dict(device="cuda:\u0663"), "device"), (dict(device="cuda:1000"), "device"), (dict(device="cpu:0"), "device"),
    (dict(device="cuda:1\n"), "device"), (dict(lr=10**400), "too large"),
    (dict(buffer_size=10**400), r"from 1 to 1e\+14"), (dict(buffer_size=10**15), r"from 1 to 1e\+14"),
    (dict(nf=10**7), "from 1 to 65536"), (dict(threads=10**11), "from 1 to 1024"),
    (dict(class_order_seed=10**400), "class_order_seed"), (dict(seed=2**63), "seed")])
def test_checks_itself(values, says):
    with pytest.raises(UserError, match=says):
        TrainConfig(**values)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:127"])
def test_a_device_may_have_a_number(device):
    assert TrainConfig(device=device).device == device


@pytest.mark.parametrize("model", METHODS)
def test_agents_without_hidden_units_are_refused_where_there_are_agents(model):
    if METHODS[model].gated:
        with pytest.raises(UserError, match="hidden_dim_ratio 16 .* at most 8"):
            TrainConfig(model=model, nf=4)
    else:
        assert TrainConfig(model=model, nf=4).hidden_dim_ratio == 16


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(UserError, match="'kep_ratio'.*'keep_ratio'"):
        TrainConfig.from_dict({"kep_ratio": 0.5})
    with pytest.raises(UserError, match="'lr'"):
        TrainConfig().replace(lrr=1)


def test_settings():
    values = parsed_settings(["lr=0.5", "warmup=true", "data_path=none", "policy-penalty=-3", "model=sgd"])
    assert values == {"lr": 0.5, "warmup": True, "data_path": None, "policy_penalty": -3.0, "model": "sgd"}
    for name, text in (("lr", "x"), ("warmup", "maybe"), ("nf", "1.5"), ("nope", "1")):
        with pytest.raises(UserError, match=name):
            parsed(name, text)


@pytest.mark.parametrize("dataset, size", list(preset_names()))
def test_presets_are_configurations(dataset, size):
    config = TrainConfig.from_dict(preset(dataset, size))
    assert (config.dataset, config.buffer_size, config.model, config.warmup) == (dataset, size, "dynamos", True)


def test_presets_are_the_papers():
    paper = {("seq-mnist", 500): (1, 10, 0.2, 2.0, 0.2, -500, 0.5, 0.3),
             ("seq-mnist", 1000): (1, 10, 0.1, 2.5, 0.2, -200, 0.7, 0.5),
             ("seq-mnist", 2000): (1, 10, 0.5, 3.0, 0.2, -200, 0.5, 0.5),
             ("seq-svhn", 500): (70, 16, 2.0, 3.0, 1.0, -500, 1.0, 0.5),
             ("seq-svhn", 1000): (70, 16, 2.5, 2.0, 0.2, -500, 1.0, 0.5),
             ("seq-svhn", 2000): (70, 16, 2.5, 2.0, 0.2, -500, 1.0, 0.5),
             ("mnist-360", 100): (1, 16, 0.2, 1.0, 0.1, -200, 0.5, 0.5),
             ("mnist-360", 200): (1, 16, 0.2, 1.5, 0.1, -200, 1.0, 0.5),
             ("mnist-360", 500): (1, 16, 0.1, 1.5, 0.1, -200, 0.3, 0.3)}
    assert set(paper) == {pair for pair in preset_names() if "digits" not in pair[0]}
    for pair, row in paper.items():
        config = TrainConfig.from_dict(preset(*pair))
        assert row == (config.n_epochs, config.batch_size, config.alpha, config.beta, config.policy_alpha,
                       config.policy_penalty, config.reward_weight, config.prototype_loss)
        assert config.minibatch_size == config.batch_size
        assert (config.temperature, config.hidden_dim_ratio, config.nf, config.keep_ratio, config.lr,
                config.warmup) == (0.15, 16, 32, 0.7, 0.07, True)


def test_presets_where_there_are_none():
    assert {preset_sizes(d)[0] for d in DATASETS} == {200, 500, 100}
    others = [("seq-mnist", 500, m) for m in METHODS if m != "dynamos"]
    for arguments in (("seq-mnist", 300), ("nonsense", 500), *others):
        with pytest.raises(UserError, match="seq-svhn 2000"):
            preset(*arguments)


def test_every_field_describes_itself():
    for name, spec in FIELDS.items():
        assert spec.metadata["help"] and spec.metadata["group"]
        assert default(name) is spec.default
