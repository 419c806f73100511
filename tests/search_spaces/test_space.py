from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamos.config import TrainConfig, preset
from dynamos.errors import UserError
from dynamos.methods import METHODS
from search_spaces.parameter import NOT_VARIED
from search_spaces.space import SearchSpace, named_spaces, read_points, read_space

optuna.logging.set_verbosity(optuna.logging.WARNING)


def space(**parameters: object) -> SearchSpace:
    return SearchSpace.from_dict("mine", {"parameters": parameters})


def suggested(space: SearchSpace, seed: int) -> tuple[dict[str, Any], optuna.Trial]:
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask(
        space.distributions()
    )
    return space.real(trial.params), trial


@pytest.mark.parametrize("name", named_spaces())
def test_every_named_space_suggests_configurations_that_train_config_accepts(name: str) -> None:
    space = read_space(name)
    for seed in range(20):
        values, _ = suggested(space, seed)
        # a space with a method's hyperparameters has the method's name
        model = name if METHODS.get(name) is not None else "dynamos"
        TrainConfig.from_dict({"model": model} | values)
        assert all(p.admits(values[p.name]) for p in space.parameters)


@pytest.mark.parametrize(
    "dataset, size", [("seq-digits", 200), ("seq-mnist", 500), ("mnist-360", 500)]
)
def test_the_paper_presets_lie_in_the_core_space(dataset: str, size: int) -> None:
    read_space("core").stored(TrainConfig(**preset(dataset, size)).to_dict())


def test_core_varies_what_the_readme_says() -> None:
    assert [p.name for p in read_space("core").parameters] == [
        "lr",
        "alpha",
        "beta",
        "policy_penalty",
        "keep_ratio",
    ]


def test_a_key_takes_reals_to_12_significant_digits() -> None:
    mine = space(lr={"low": 0.01, "high": 0.2}, nf={"choices": [4, 8]})

    def key(lr: float, nf: float = 4) -> tuple[object, ...]:
        return mine.key({"lr": lr, "nf": nf})

    assert key(0.2) == key(0.19999999999999998) == key(0.19999999999999987)
    assert key(0.1) != key(0.1000005) and key(0.1) != key(0.100000000001)
    assert key(0.1, 8) == key(0.1, 8.0) != key(0.1, 4)


@given(st.integers(0, 10_000))
def test_a_negative_log_range_is_stored_by_magnitude_and_read_back_as_it_was(seed: int) -> None:
    penalty = space(policy_penalty={"low": -1000, "high": -50, "log": True})
    values, trial = suggested(penalty, seed)
    assert -1000 <= values["policy_penalty"] <= -50
    assert trial.params == {"neg_policy_penalty": -values["policy_penalty"]}
    assert penalty.real(trial.params) == values
    assert penalty.real(penalty.stored(values)) == values


def test_a_log_range_is_searched_by_magnitude() -> None:
    drawn = [
        suggested(space(policy_penalty={"low": -1000, "high": -10, "log": True}), seed)[0][
            "policy_penalty"
        ]
        for seed in range(300)
    ]
    # Uniform in the logarithm: half of the draws lie below the geometric mean, 100. A uniform draw
    # has 9 % there.
    assert 0.4 < sum(value > -100 for value in drawn) / 300 < 0.6


def test_a_space_of_numpys_values_is_the_same_as_of_pythons() -> None:
    given = space(
        lr={"low": np.float64(0.01), "high": np.float32(0.5), "log": np.bool_(True)},
        nf={"low": np.int64(8), "high": 16.0},
        alpha={"choices": np.array([0.1, 0.2])},
        warmup={"choices": (np.bool_(True), False)},
    )
    assert repr(given) == repr(
        space(
            lr={"low": 0.01, "high": 0.5, "log": True},
            nf={"low": 8, "high": 16},
            alpha={"choices": [0.1, 0.2]},
            warmup={"choices": [True, False]},
        )
    )


def test_a_field_twice_in_a_space_or_in_points_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "parameters:\n  lr: {low: 0.1, high: 1}\n  nf: {choices: [8]}\n"
        "  lr: {low: 0.01, high: 0.02}\n"
    )
    with pytest.raises(UserError, match="mine.yaml: lr is given twice, in lines 2 and 4"):
        read_space(str(tmp_path / "mine.yaml"))
    (tmp_path / "points.yaml").write_text("points:\n- {lr: 0.1,\n   lr: 0.2}\n")
    with pytest.raises(UserError, match="points.yaml: lr is given twice, in lines 2 and 3"):
        read_points(tmp_path / "points.yaml")


def test_whole_numbers_and_choices() -> None:
    values, _ = suggested(
        space(batch_size={"low": 4, "high": 32}, warmup={"choices": [True, False]}), 3
    )
    assert type(values["batch_size"]) is int and 4 <= values["batch_size"] <= 32
    assert type(values["warmup"]) is bool


def test_to_dict_comes_back() -> None:
    one = space(lr={"low": 0.1, "high": 0.2}, warmup={"choices": [True, False]})
    assert SearchSpace.from_dict("mine", one.to_dict()) == one


def test_numbers_that_yaml_takes_for_texts_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("parameters: {lr: {low: 1e-4, high: 1e-2, log: true}}")
    assert read_space(str(tmp_path / "s.yaml")).parameters[0].low == 1e-4


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"keep_ration": {"low": 0.1, "high": 0.9}}, "Did you mean 'keep_ratio'?"),
        ({"lr": {"low": 0.2, "high": 0.1}}, "lr goes from 0.2 to 0.1; low must be less than high"),
        (
            {"lr": {"low": 0.1, "high": 0.10000000000000002}},
            "lr goes from 0.1 to 0.1; low must be less than high",
        ),
        ({"lr": {"low": 0.1}}, "lr has no high"),
        ({"lr": {"low": 0.1, "high": "much"}}, "lr 'much' is not a number"),
        ({"lr": {"low": 0.0, "high": 0.1}}, "lr 0.0 is out of range; it must be greater than 0"),
        (
            {"keep_ratio": {"low": 0.1, "high": 1.5}},
            "keep_ratio 1.5 is out of range; it must be from 0 to 1",
        ),
        (
            {"policy_penalty": {"low": -5, "high": 5}},
            "policy_penalty 5.0 is out of range; it must be at most 0",
        ),
        ({"policy_penalty": {"low": -5, "high": 0, "log": True}}, "a log range must not contain 0"),
        ({"lr": {"low": 0.1, "high": 0.2, "lag": True}}, "Did you mean 'log'?"),
        ({"lr": 0.1}, "lr is 0.1; it must be {low, high} or {choices}"),
        ({"warmup": {"low": 0, "high": 1}}, "warmup is not a number field; it must have choices"),
        ({"model": {"choices": ["dynamo"]}}, "Did you mean 'dynamos'?"),
        ({"model": {"choices": []}}, "a list that is not empty"),
        ({"model": {"choices": ["sgd"], "low": 1}}, "either choices"),
        ({}, "has no parameters"),
        *(
            ({name: {"choices": [1]}}, f"{name} selects the stream, the machine or the output")
            for name in NOT_VARIED
        ),
    ],
)
def test_a_space_that_does_not_fit_is_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        space(**parameters)
    assert message in str(error.value) and str(error.value).startswith("space mine")


def test_a_space_is_read_from_a_file_and_its_name_is_the_files(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text("parameters:\n  lr: {low: 0.1, high: 0.2}\n")
    assert read_space(str(tmp_path / "tiny.yaml")).name == "tiny"


@pytest.mark.parametrize(
    "name, message", [("cor", "Did you mean 'core'?"), ("none.yaml", r"no file /.*/none\.yaml")]
)
def test_a_missing_space_is_named(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        read_space(name)


def test_a_point_outside_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"lr 0.07 lies outside the space mine, which has 0.1 to 0.2\."
    ):
        space(lr={"low": 0.1, "high": 0.2}).stored({"lr": 0.07})


def read(tmp_path: Path, text: str) -> tuple[dict[str, object], ...]:
    (tmp_path / "points.yaml").write_text(text)
    return read_points(tmp_path / "points.yaml")


def test_points_are_searched_fields_with_values_of_their_type(tmp_path: Path) -> None:
    points = read(tmp_path, "points:\n- {lr: 1e-1, nf: 32}\n- {}\n- {warmup: true, lr: 0.15}")
    assert points == ({"lr": 0.1, "nf": 32}, {}, {"warmup": True, "lr": 0.15})


@pytest.mark.parametrize(
    "text, message",
    [
        ("point: [{lr: 0.1}]", "points.yaml: unknown key 'point'. Did you mean 'points'?"),
        (
            "points: {lr: 0.1}",
            "points.yaml needs `points:`, a list of mappings of searched fields to values.",
        ),
        ("points: []", "needs `points:`"),
        ("points: [0.1]", "needs `points:`"),
        ("{}", "needs `points:`"),
        ("points: [{lr: fast}]", "lr 'fast' is not a number."),
    ],
)
def test_points_that_do_not_fit_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "field, given, kept, repeated",
    [
        ("beta", [5, 1, 5.0, "5e0", 1], (5.0, 1.0), (5.0, 1.0)),
        ("lr", [0.18, 0.18], (0.18,), (0.18,)),
        ("nf", [8, 8.0, 16], (8, 16), (8,)),
        ("warmup", [True, False], (True, False), ()),
        ("lr", [0.3, 0.1 + 0.2], (0.3,), (0.3,)),
    ],
)
def test_a_choice_given_twice_in_whatever_way_it_is_written_counts_once(
    field: str, given: list[object], kept: tuple[object, ...], repeated: tuple[object, ...]
) -> None:
    made = space(**{field: {"choices": given}})
    (parameter,) = made.parameters
    assert parameter.choices == kept and {type(value) for value in kept} == {
        type(v) for v in parameter.choices
    }
    assert made.notes == [
        f"the space mine lists the choice {value} of {field} more than once; it counts once."
        for value in repeated
    ]
    again = SearchSpace.from_dict("mine", made.to_dict())
    assert again == made and not again.notes and made.size == len(kept)
