"""A field of a sweep is described once, in one line; flags, requests, forms and the reference page
follow from it."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from docs.pages import PAGES
from dynamos.errors import UserError
from dynamos.fields import Range, setting, settings
from results.definition.sweep_config import SweepConfig
from results.pages.reference import reference
from tests.helpers.ledgers import config
from tune.cli.flags.session import add_setting
from tune.service.state.options import settings_of
from tune.service.wire.bodies import request_model

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class More(SweepConfig):
    """A sweep with one additional field."""

    patience: int = setting(
        7,
        "search",
        "trials without a better one before the sweep ends",
        Range(1, 100),
        label="Patience",
        flag="patience",
        metavar="P",
    )


def more(**changes: Any) -> More:
    plain = config()
    return More(
        **{f.name: getattr(plain, f.name) for f in dataclasses.fields(SweepConfig)} | changes
    )


def test_a_new_field_is_checked() -> None:
    assert more().patience == 7 and more(patience=8.0).patience == 8
    with pytest.raises(
        UserError, match=r"`patience` 0 is out of range; it must be from 1 to 100\."
    ):
        more(patience=0)
    with pytest.raises(UserError, match="`patience` 'x' is not a whole number"):
        more(patience="x")


def test_it_is_a_flag() -> None:
    parser = argparse.ArgumentParser()
    add_setting(parser, {"patience": 7}, settings(More)["patience"])
    assert (
        parser.parse_args([]).patience == 7 and parser.parse_args(["--patience", "9"]).patience == 9
    )
    assert "trials without a better one before the sweep ends (default: 7)" in " ".join(
        parser.format_help().split()
    )


def test_it_is_in_requests() -> None:
    model = request_model(More)
    assert model(name="s").model_dump()["patience"] == 7
    with pytest.raises(ValidationError, match="less than or equal to 100"):
        model(name="s", patience=101)


def test_it_is_in_forms() -> None:
    assert settings_of(More)["patience"] == {
        "type": "int",
        "label": "Patience",
        "help": "trials without a better one before the sweep ends",
        "group": "search",
        "default": 7,
        "choices": None,
    }


def test_it_is_in_the_reference() -> None:
    assert (
        "| `patience` | `--patience` | `7` | from 1 to 100 | trials without a better one before "
        "the sweep ends |" in reference(sweep=More).splitlines()
    )


@pytest.mark.parametrize("page", PAGES)
def test_the_reference_is_that_of_the_code(page: str) -> None:
    assert (ROOT / "docs" / page).read_text() == PAGES[page](), "make reference"
