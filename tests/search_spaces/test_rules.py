"""Rules that forbid combinations: the language, and errors with their position."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamos.config import TrainConfig
from dynamos.errors import UserError
from search_spaces.rules import Rule, first_broken
from search_spaces.space import SearchSpace

BASE = TrainConfig().to_dict()


def holds(text: str, **values: Any) -> bool:
    return Rule.parse(text).holds(BASE | values)


@pytest.mark.parametrize(
    "text, values, wanted",
    [
        ("lr > 0.1 and beta > 3", {"lr": 0.2, "beta": 4.0}, True),
        ("lr > 0.1 and beta > 3", {"lr": 0.2, "beta": 3.0}, False),
        ("lr > 0.1 or beta > 3", {"lr": 0.2, "beta": 3.0}, True),
        ("not lr > 0.1", {"lr": 0.1}, True),
        ("not (lr > 0.1 or beta > 3)", {"lr": 0.1, "beta": 3.0}, True),
        # `and` binds more tightly than `or`, and `not` than both
        ("lr > 1 or lr < 1 and beta > 3", {"lr": 2.0, "beta": 0.0}, True),
        ("(lr > 1 or lr < 1) and beta > 3", {"lr": 2.0, "beta": 0.0}, False),
        ("not lr > 1 and beta > 3", {"lr": 2.0, "beta": 4.0}, False),
        ("0.1 < lr <= 0.2", {"lr": 0.2}, True),
        ("0.1 < lr <= 0.2", {"lr": 0.1}, False),
        ("nf == 8.0", {"nf": 8}, True),
        ("nf != 8", {"nf": 8}, False),
        ("model == 'dynamos'", {"model": "dynamos"}, True),
        ('model != "dynamos"', {"model": "dynamos"}, False),
        ("warmup and lr > 1e-1", {"warmup": True, "lr": 0.2}, True),
        ("warmup == false", {"warmup": False}, True),
        ("policy_penalty < -5e2", {"policy_penalty": -501.0}, True),
        ("batch_size > minibatch_size", {"batch_size": 9, "minibatch_size": 8}, True),
        ("lr>.1and beta>3", {"lr": 0.2, "beta": 4.0}, None),
        ("n_tasks == none", {"n_tasks": None}, True),
        ("n_tasks > 2", {"n_tasks": None}, False),
        ("not n_tasks > 2", {"n_tasks": None}, True),
        ("lr>.1 and(beta>3)", {"lr": 0.2, "beta": 4.0}, True),
    ],
)
def test_a_rule_means_what_it_says(text: str, values: dict[str, Any], wanted: bool | None) -> None:
    if wanted is None:
        with pytest.raises(UserError):
            holds(text, **values)
    else:
        assert holds(text, **values) is wanted


@pytest.mark.parametrize(
    "text, at, why",
    [
        ("lrr > 0.1", 1, "'lrr' is no field. Did you mean 'lr'? A text needs quotes."),
        ("lr > 0.1 and bata > 3", 14, "'bata' is no field. Did you mean 'beta'?"),
        ("lr > 0.1 & beta > 3", 10, "'&' means nothing here. Did you mean 'and'?"),
        ("lr = 0.1", 4, "'=' means nothing here. Did you mean '=='?"),
        ("lr > 0.1 beta > 3", 10, "'beta' where 'and' or 'or' is expected."),
        ("(lr > 0.1", 10, "the rule ends where ')' is missing."),
        ("lr >", 5, "the rule ends where a field, a number or a text is missing."),
        ("", 1, "the rule ends where a field, a number or a text is missing."),
        ("lr", 3, "the rule ends where a comparison, such as < or == is missing."),
        ("lr > 0.1 and", 13, "the rule ends where a field, a number or a text is missing."),
        ("lr > 'fast'", 6, "'fast' is not a number, as lr is."),
        ("model > 'a'", 7, "> compares numbers; use == or !=."),
        ("model == 'dynamo'", 10, "unknown model 'dynamo'. Did you mean 'dynamos'?"),
        ("model == 3", 10, "3 is not a text, as model is."),
        ("warmup == 1", 11, "1 is not true or false, as warmup is."),
        ("lr ** 2 > 1", 4, "'**' means nothing here."),
        ("lr > 0.1 and and beta > 3", 14, "'and' where a field, a number or a text is expected."),
        ("__import__('os')", 1, "'__import__' is no field."),
        ("lr.__class__ == 1", 3, "'.' means nothing here."),
        ("lr > 1_000", 6, None),
        ("model == 'dynamos", 10, '"\'" means nothing here.'),
        ("not " * 60 + "warmup", 201, "more than 50 nested parentheses and nots."),
    ],
)
def test_a_fault_is_named_with_its_position(text: str, at: int, why: str | None) -> None:
    with pytest.raises(UserError) as error:
        Rule.parse(text)
    said = str(error.value)
    assert said.startswith(f"forbid {text!r}, position {at}: "), said
    assert (why is None or why in said) and "\n" not in said


def test_a_rule_that_is_no_text_or_too_long_is_refused() -> None:
    with pytest.raises(UserError, match="forbid 3 is not a text"):
        Rule.parse(3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="a rule has 1001 characters; at most 1000"):
        Rule.parse("x" * 1001)


@given(st.text("lrbeta01.<>=!'\"()andornot ", max_size=40))
def test_any_text_is_a_rule_or_refused_in_one_line(text: str) -> None:
    try:
        rule = Rule.parse(text)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert rule.holds(BASE) in (True, False)


@given(st.floats(0.01, 1), st.floats(0, 5), st.booleans())
def test_a_rule_agrees_with_python(lr: float, beta: float, warmup: bool) -> None:
    text = "not (lr > 0.1 and beta <= 3) or warmup and 0.2 <= lr < 0.5"
    values = {"lr": lr, "beta": beta, "warmup": warmup}
    assert holds(text, **values) is bool(eval(text, {}, values))


def test_a_rule_survives_pickling_and_is_equal_to_its_text() -> None:
    rule = Rule.parse("lr > 0.1")
    again = pickle.loads(pickle.dumps(rule))
    assert again == rule and hash(again) == hash(rule) and again.holds(BASE | {"lr": 0.2})
    assert rule != Rule.parse("lr > 0.2")


def test_the_first_broken_rule_is_named() -> None:
    rules = [Rule.parse("lr > 1"), Rule.parse("lr > 0.1"), Rule.parse("lr > 0.05")]
    assert first_broken(rules, BASE | {"lr": 0.2}) == rules[1]
    assert first_broken(rules, BASE | {"lr": 0.01}) is None


def space(*rules: Any, **fixed: Any) -> SearchSpace:
    parameters = {"lr": {"low": 0.01, "high": 0.5}, "nf": {"choices": [8, 16]}}
    return SearchSpace.from_dict(
        "mine", {"parameters": parameters, "fixed": fixed, "forbid": list(rules)}
    )


def test_a_space_forbids_by_its_fields_and_by_those_of_the_base() -> None:
    made = space("lr > 0.1 and nf == 16", "nf == 8 and n_epochs > 2", n_epochs=3).within(
        BASE | {"n_epochs": 3}
    )
    assert str(made.forbids({"lr": 0.2, "nf": 16})) == "lr > 0.1 and nf == 16"
    assert str(made.forbids({"lr": 0.2, "nf": 8})) == "nf == 8 and n_epochs > 2"
    assert made.forbids({"lr": 0.1, "nf": 16}) is None
    with pytest.raises(UserError, match="the space mine forbids it: lr > 0.1 and nf == 16"):
        made.check({"lr": 0.2, "nf": 16})
    assert SearchSpace.from_dict("mine", made.to_dict()) == made
    assert str(made).endswith(
        "; fixed: n_epochs 3; forbidden: lr > 0.1 and nf == 16; nf == 8 and n_epochs > 2"
    )
    assert "forbid" not in space().to_dict()


@pytest.mark.parametrize(
    "rules, message",
    [
        (["lr >> 1"], "space mine: forbid 'lr >> 1', position 5: '>' where a field"),
        ([3], "space mine: forbid 3 is not a text"),
        (
            ["beta > 3"],
            "forbid 'beta > 3' names no field that the space searches; these are lr, nf",
        ),
    ],
)
def test_rules_that_do_not_fit_are_refused(rules: list[Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        space(*rules)
    assert message in str(error.value)


def test_a_text_in_place_of_a_list_is_refused() -> None:
    content = {"parameters": {"lr": {"low": 0.1, "high": 1}}, "forbid": "lr > 0.5"}
    with pytest.raises(UserError, match="forbid 'lr > 0.5' must be a list of rules"):
        SearchSpace.from_dict("mine", content)


def test_the_size_of_a_finite_space_is_that_of_what_is_allowed() -> None:
    parameters = {"nf": {"choices": [8, 16, 32]}, "minibatch_size": {"choices": [4, 8]}}
    made = SearchSpace.from_dict(
        "mine", {"parameters": parameters, "forbid": ["nf == 32 and minibatch_size == 8"]}
    ).within(BASE)
    assert made.size == 5
