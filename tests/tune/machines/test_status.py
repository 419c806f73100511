"""Status lines in the output of drivers."""

import pytest

from tune.cli.main import main
from tune.machines import status

SAID = """a line
dynamos-sweep-status: {"began": true}
trial 0 complete
dynamos-sweep-status: {"error": "first"}
dynamos-sweep-status: {"error": "no room\\nleft"}
the end
dynamos-sweep-status: {"error": "hal"""


def test_states_are_told_from_what_is_said_to_people() -> None:
    assert status.began(SAID) and not status.began("sweep a: 3 trials, 1 at a time\n")
    assert status.error(SAID) == "no room\nleft", "the last whole line"
    assert status.error("dynamos-sweep: error: of people's\n") is None
    assert status.for_people(SAID) == "a line\ntrial 0 complete\nthe end\n"


@pytest.mark.parametrize("asked", [True, False])
def test_an_error_is_told_to_a_program_that_asked(
    asked: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(status.ASKED_FOR, "1" if asked else "")
    assert main(["run", "--dataset", "seq-digit"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("dynamos-sweep: error: unknown dataset 'seq-digit'.")
    assert status.error(said.out) == (
        said.err.removeprefix("dynamos-sweep: error: ").strip() if asked else None
    )
    assert bool(said.out) == asked
