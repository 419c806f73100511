"""Messages name fields; the command line replaces them by its flags."""

import dataclasses

import pytest

from results.definition.sweep_config import SweepConfig
from tune.cli.flags.naming import flag, with_flags
from tune.cli.flags.parser import parser_of


@pytest.mark.parametrize(
    "text, shown",
    [
        ("`gpus_per_trial` 1.5: a whole number", "--gpus-per-trial 1.5: a whole number"),
        ("`objectives` 'x': one of", "--objective 'x': one of"),
        ("`gpu_budget_seconds`, or `cpu_budget_seconds`", "--gpu-budget, or --cpu-budget"),
        ("`base` lr=0.1", "--set lr=0.1"),
        ("`confirms` and `ray start --head` stay", "`confirms` and `ray start --head` stay"),
        ("plain", "plain"),
    ],
)
def test_a_field_is_shown_as_its_flag(text: str, shown: str) -> None:
    assert with_flags(text) == shown


def test_every_flag_that_a_message_may_show_exists(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "confirm", "export", "extend", "rerun"):
        with pytest.raises(SystemExit):
            parser_of(command).parse([command, "--help"])
    texts = capsys.readouterr().out
    fields = [field.name for field in dataclasses.fields(SweepConfig)]
    shown = [flag(name) for name in [*fields, "trial", "trials", "top", "register", "choose"]]
    known = [name for name in shown if name is not None]
    assert len(known) > 20 and [name for name in known if name not in texts] == []
