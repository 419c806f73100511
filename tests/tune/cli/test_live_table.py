from pathlib import Path

from rich.console import Console

from results.ledger.ledger import Ledger
from results.wording import duration, number
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import complete, config, driven, report
from tune.cli.live_table import LiveTable


def shown(display: LiveTable) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))
    console.print(display.render())
    return console.export_text()


def test_the_live_picture_counts_names_the_best_and_guesses_the_time_left(tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(trials=8), {})) as ledger:
        display = LiveTable(ledger, console=Console(file=open("/dev/null", "w")))
        display.begin(lambda: 2)
        assert "0 done, 0 running, 0 pruned, 0 failed of 8, time left: not known yet" in shown(
            display
        )
        complete(ledger, 100, 70)
        best = complete(ledger, 100, 90)
        bad = ledger.ask().number
        ledger.finish(bad, "PRUNED", "non-finite")
        running = ledger.ask().number
        report(ledger, running, 66.66)
        for trial in ledger.trials():
            display(trial)
        text = shown(display)
    assert "2 done, 1 running, 1 pruned, 0 failed of 8" in text and "3/8" in text and "left" in text
    assert f"best so far: trial {best}, val_class_il 90  lr" in text
    assert f"trial {running}" in text and "starting" in text, "its worker is not ready yet"
    assert "66.66" in text and "keep_ratio" in text


def test_a_cluster_that_has_no_node_left_is_waited_for_in_words(tmp_path: Path) -> None:
    display = LiveTable(
        Ledger.create(tmp_path, config(trials=8), {}), console=Console(file=open("/dev/null", "w"))
    )
    assert "time left: not known yet" in shown(display)
    nodes = [2, 0]
    display.begin(lambda: nodes[0])
    assert "time left: not known yet" in shown(display)
    del nodes[0]
    assert "waiting for a node with a free slot" in shown(display)


def test_away_from_a_terminal_every_ended_trial_is_one_line(tmp_path: Path) -> None:
    console = Console(width=60, record=True, file=open("/dev/null", "w"))
    with (
        driven(Ledger.create(tmp_path, config(trials=2), {})) as ledger,
        LiveTable(ledger, console=console) as display,
    ):
        complete(ledger, 100, 70)
        display(ledger.trial(0))
        display(ledger.trial(ledger.ask().number))
    lines = console.export_text().strip().splitlines()
    assert lines[0] == "sweep s: starting Ray"
    assert len(lines) == 2 and lines[1].startswith("trial    0 complete val_class_il 70  lr 0.18")


def test_of_a_grid_no_more_trials_are_announced_than_it_has(tmp_path: Path) -> None:
    space = SearchSpace.from_dict("g", {"parameters": {"keep_ratio": {"low": 0.1, "high": 0.9}}})
    console = Console(width=60, record=True, file=open("/dev/null", "w"))
    with driven(
        Ledger.create(tmp_path, config(space=space, sampler="grid", trials=2), {})
    ) as ledger:
        display = LiveTable(ledger, more=10, console=console)
        ledger.extend(10)
        display.begin(lambda: 2)
    # the preset, three values
    assert console.export_text().splitlines()[0].strip() == "sweep s: 4 trials, 2 at a time"


def test_numbers_and_lengths_of_time_are_short() -> None:
    assert [duration(s) for s in (4.6, 184, 3725)] == ["5s", "3m 04s", "1h 02m"]
    assert [number(v) for v in (0.0712345, -500.0, 3, "threshold")] == [
        "0.07123",
        "-500",
        "3",
        "threshold",
    ]
