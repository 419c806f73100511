"""Recorded runs and replays of choices (benchmarks/replays/record.py, benchmarks/choice.py)."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.choice import RULES, Values, class_il, replay
from benchmarks.replays.record import configurations, main, read, recorded, write
from dynamos.trainer import Trainer
from search_spaces.space import read_space
from tests.helpers.small import small

DECAYS = (0.0, 0.5, 0.9)


def test_a_recorded_run_is_the_run_of_each_decay() -> None:
    base = small(n_epochs=3, n_tasks=2)
    line = recorded((base, list(DECAYS), 3, {"lr": 0.1}, 7))
    assert (line["configuration"], line["seed"], line["fields"]) == (3, 7, {"lr": 0.1})
    for decay in DECAYS:
        trainer = Trainer(base.replace(lr=0.1, seed=7, average_decay=decay, readings=1))
        results = list(trainer)
        there = line["decays"][f"{decay:g}"]
        for result, row in zip(results, there["after_task"], strict=True):
            assert row == [round(v, 2) for v in result.class_il_row[: result.task + 1]]
        assert there["readings"] == [round(v, 2) for v in results[-1].readings]
        assert len(there["test"]) == 2 and all(0 <= v <= 100 for v in there["test"])


def test_a_run_that_diverges_is_recorded_as_such_and_counts_as_zero() -> None:
    line = recorded((small(lr=1e30), list(DECAYS), 0, {}, 7))
    assert "non-finite" in line["diverged"] and "decays" not in line
    good = recorded((small(), list(DECAYS), 1, {}, 7))
    values = class_il([line, good])
    assert values[0, 0.5] == {7: 0.0} and values[1, 0.0][7] > 0


def test_configurations_stay_the_same_if_more_are_wanted() -> None:
    few, many = configurations(3), configurations(6)
    assert many[:3] == few and few[0] == {} and list(few[1]) == list(many[5])


@pytest.mark.slow
def test_a_table_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "seq-digits.jsonl.xz"
    tiny = ["nf=4", "hidden_dim_ratio=4", "n_epochs=1", "max_train_images_per_task=40"]

    def run(seeds: int, *more: str) -> str:
        arguments = ["--configurations=1", f"--seeds={seeds}", f"--tables={tmp_path}", *more]
        monkeypatch.setattr(
            "sys.argv", ["record", *arguments, "--processes=1", "--set", *tiny, "warmup=false"]
        )
        main()
        return capsys.readouterr().out

    assert "0 runs recorded, 1 to go" in run(1)
    settings, runs = read(table)
    assert settings["nf"] == 4 and len(runs) == 1
    write(table, settings, [runs[0] | {"seed": 2}])
    assert "1 runs recorded, 1 to go" in run(2)
    assert [run["seed"] for run in read(table)[1]] == [1, 2]
    tiny[0] = "nf=8"
    with pytest.raises(SystemExit, match="was recorded with other settings"):
        run(2)


SPACE = read_space("core")


def landscape(noise: float) -> tuple[dict[int, dict[str, Any]], Values]:
    """A table of 40 configurations, whose values fall with the distance of beta from 2."""
    fields = {
        n: {
            "lr": 0.05,
            "alpha": 0.3,
            "beta": 0.5 + 3.5 * n / 39,
            "policy_penalty": -200.0,
            "keep_ratio": 0.7,
        }
        for n in range(40)
    }
    values = {
        (n, 0.0): {
            seed: 80 - 10 * (f["beta"] - 2) ** 2 + noise * ((7 * n + 13 * seed) % 11 - 5)
            for seed in range(1, 6)
        }
        for n, f in fields.items()
    }
    return fields, values


@pytest.mark.parametrize("seeds", ["shared", "fresh"])
def test_without_noise_the_best_is_chosen_and_nothing_is_optimistic(seeds: str) -> None:
    fields, values = landscape(0.0)
    value, optimism = replay(SPACE, fields, values, 40, seeds, RULES["best"], 0)
    assert value == pytest.approx(max(v[1] for v in values.values()))
    assert optimism == pytest.approx(0.0)


@pytest.mark.slow
def test_with_noise_the_best_is_optimistic_and_the_model_much_less() -> None:
    fields, values = landscape(2.0)
    found = {
        rule: [replay(SPACE, fields, values, 30, "fresh", choose, n) for n in range(20)]
        for rule, choose in RULES.items()
    }
    value, optimism = (
        {rule: sum(row[i] for row in rows) / 20 for rule, rows in found.items()} for i in (0, 1)
    )
    assert optimism["best"] > 5 and abs(optimism["model"]) < optimism["best"] / 2
    assert value["model"] > value["best"]
