"""Replays of whole searches on a surrogate (benchmarks/replays)."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest

from benchmarks import stopping
from benchmarks.replays import __main__ as replays
from benchmarks.replays.figures import against, difference, interval, ratio, rows
from benchmarks.replays.peers import Peer, Process
from benchmarks.replays.record import configurations, write
from benchmarks.replays.searches import Config, Ours, Plan, answers, best, by_model, grouped
from benchmarks.replays.surrogate import NEAR, Surrogate
from benchmarks.replays.sweeps import Swept
from dynamos.config import preset
from dynamos.errors import UserError
from search_spaces.space import SearchSpace, read_space

CORE = read_space("core")
LINE = SearchSpace.from_dict("line", {"parameters": {"keep_ratio": {"low": 0.0, "high": 1.0}}})
SETTINGS = preset("seq-digits", 200) | {"nf": 8, "average_decay": 0.0}
DECAYS = {"0": 0.0, "0.9": 10.0}  # what each decay adds to the value
FIELDS = configurations(60)
RANDOM = "random 1 fresh"  # name of a plan
NOISE = (3.0, -3.0, 5.0, -5.0, 0.0)  # of the seeds 1 to 5


def value(fields: Mapping[str, Any]) -> float:
    """A smooth landscape whose best learning rate is 0.05, at 70."""
    return 70 - 10 * math.log(fields["lr"] / 0.05) ** 2


def table(configurations: int = 40) -> list[dict[str, Any]]:
    """Runs of configurations with 5 seeds, as benchmarks/replays/record.py writes them."""
    return [
        {
            "configuration": number,
            "fields": fields,
            "seed": seed,
            "decays": {
                decay: {"after_task": [[value(SETTINGS | fields) + more + noise]]}
                for decay, more in DECAYS.items()
            },
        }
        for seed, noise in enumerate(NOISE, start=1)
        for number, fields in enumerate(FIELDS[:configurations])
    ]


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    return Surrogate(SETTINGS, table())


def test_the_surrogate_predicts_means_that_it_did_not_see(surrogate: Surrogate) -> None:
    explained, ranks = surrogate.quality(0.9)
    assert explained > 0.98 and ranks > 0.98
    for lr in (0.01, 0.04, 0.1):
        config = SETTINGS | FIELDS[1] | {"lr": lr}
        for decay, more in DECAYS.items():
            there = surrogate.mean(config | {"average_decay": float(decay)})
            assert there == pytest.approx(value(config) + more, abs=1.5)


def test_the_surrogates_best_is_the_landscapes(surrogate: Surrogate) -> None:
    for name, most in (("core", 70), ("averaged", 80)):
        space = read_space(name)
        config, mean = surrogate.best(space)
        assert mean == pytest.approx(most, abs=1) == surrogate.mean(config)
        assert 0.035 < config["lr"] < 0.07
        assert all(p.admits(config[p.name]) for p in space.parameters)


def test_a_runs_noise_is_recorded_noise_and_belongs_to_configuration_and_seed(
    surrogate: Surrogate,
) -> None:
    config = SETTINGS | FIELDS[2]
    away = [surrogate.run(config, seed) - surrogate.mean(config) for seed in range(500)]
    assert away == [surrogate.run(config, seed) - surrogate.mean(config) for seed in range(500)]
    # The deviations of five recorded runs are too small by the factor sqrt(4 / 5).
    recorded = {round(noise * math.sqrt(5 / 4), 6) for noise in NOISE}
    assert {round(x, 6) for x in away} == recorded
    assert abs(fmean(away)) < 0.6 and stdev(away) == pytest.approx(math.sqrt(17), abs=0.4)


def test_runs_with_a_shared_seed_share_what_the_seed_does(surrogate: Surrogate) -> None:
    others = [SETTINGS | fields for fields in FIELDS[:20]]
    for seed in (11, 12, 13):
        away = {round(surrogate.run(c, seed) - surrogate.mean(c), 6) for c in others}
        assert len(away) == 1, "in this table all configurations deviate alike"


@pytest.mark.slow
def test_the_table_of_ends_has_a_row_per_search(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["stopping", "--searches", "2", "--trials", "10"])
    stopping.main()
    head, first, second, means = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "search" and means.split()[0] == "mean"
    # ten trials are too few to be judged, so nothing is lost
    for number, row in enumerate((first, second), start=1):
        place, at, gain, noise, then, last = row.split()
        assert (place, at, gain, noise) == (str(number), "10", "none", "none") and then == last


def test_good_configurations_vary_as_good_ones_do() -> None:
    runs = table(60)
    for run in runs:
        for decay, more in DECAYS.items():
            mean = value(SETTINGS | run["fields"]) + more
            noise = NOISE[run["seed"] - 1] if mean > 50 else 0.0
            run["decays"][decay]["after_task"] = [[mean + noise]]
    surrogate = Surrogate(SETTINGS, runs)
    spread = {
        lr: stdev(surrogate.run(SETTINGS | {"lr": lr}, seed) for seed in range(300))
        for lr in (0.05, 0.005)
    }
    assert spread[0.05] > 3.5 and spread[0.005] < 0.1 and NEAR < len(FIELDS) / 2


class Known:
    """A landscape on a line: the value is a configuration's place, plus a seed's noise."""

    def __init__(self, slope: float, noise: float) -> None:
        self.slope, self.noise = slope, noise

    def run(self, config: Mapping[str, Any], seed: int) -> float:
        """Mean plus a uniform noise from 0 to its size."""
        draw = float(np.random.default_rng([seed, int(1e6 * config["keep_ratio"])]).random())
        return self.slope * float(config["keep_ratio"]) + self.noise * draw

    def mean(self, config: Mapping[str, Any]) -> float:
        """Expected value."""
        return self.slope * float(config["keep_ratio"]) + self.noise / 2


def random_plan(seeds: int = 1, shared: bool = False) -> Plan:
    return Plan(
        "random", lambda space, seed, runs: Ours(space, seed, runs, "random"), seeds, shared
    )


def test_the_regret_of_random_search_is_what_order_statistics_say() -> None:
    """The largest of n uniform numbers is n / (n + 1) on average."""
    found = [
        (answer.runs, *answer.choices["best"])
        for repetition in range(100)
        for answer in answers(random_plan(), Known(1.0, 0.0), LINE, [2, 5], repetition)
    ]
    for n in (2, 5):
        regrets = [1 - true for runs, true, _ in found if runs == n]
        error = stdev(regrets) / math.sqrt(len(regrets))
        assert fmean(regrets) == pytest.approx(1 / (n + 1), abs=3.5 * error)
    assert all(claimed == true for _, true, claimed in found)


def test_the_optimism_of_the_best_is_what_order_statistics_say() -> None:
    """On a flat landscape the best of n means promises the expected largest of n means."""
    claims: dict[int, list[float]] = {1: [], 2: []}
    for seeds, there in claims.items():
        for repetition in range(100):
            # 7 or 4 trials, too few for a model, which would take long
            runs = [7] if seeds == 1 else [8]
            (found,) = answers(random_plan(seeds), Known(0.0, 1.0), LINE, runs, repetition)
            there.append(found.choices["best"][1] - found.choices["best"][0])
    # The mean of two uniform numbers has the distribution function 1 - 2 (1 - x)^2 above 1/2.
    mesh = np.linspace(0, 1, 10_001)
    two = np.where(mesh < 0.5, 2 * mesh**2, 1 - 2 * (1 - mesh) ** 2)
    expected = {1: 7 / 8 - 0.5, 2: float(1 - np.trapezoid(two**4, mesh)) - 0.5}
    for seeds, there in claims.items():
        error = stdev(there) / 10
        assert fmean(there) == pytest.approx(expected[seeds], abs=3.5 * error)


class Fixed:
    """A tool that asks for given places and chooses the first one."""

    def __init__(self, seed: int | None = None) -> None:
        self.places, self.seed, self.heard = iter([0.2, 0.9, 0.9, 0.5]), seed, list[list[float]]()

    def ask(self) -> tuple[Config, int | None]:
        """Return the next place."""
        return {"keep_ratio": next(self.places)}, self.seed

    def tell(self, values: Sequence[float]) -> None:
        """Note the values."""
        self.heard.append(list(values))

    def choice(self) -> tuple[Config, float]:
        """Return the first place."""
        return {"keep_ratio": 0.2}, 7.0

    def close(self) -> None:
        """Do nothing."""


def test_a_search_has_as_many_runs_as_it_may_and_every_rule_answers() -> None:
    tool = Fixed()
    plan = Plan("fixed", lambda space, seed, runs: tool, seeds=2)
    found = list(answers(plan, Known(1.0, 0.0), LINE, [5, 8], 0))
    assert tool.heard == [[0.2, 0.2], [0.9, 0.9], [0.9, 0.9], [0.5, 0.5]]
    assert [a.runs for a in found] == [5, 8]
    assert found[0].choices == {"best": (0.9, 0.9), "model": (0.9, 0.9), "own": (0.2, 7.0)}


def test_a_tools_own_seed_is_taken_and_seeds_are_shared_or_fresh() -> None:
    def heard(shared: bool, seed: int | None) -> list[float]:
        tool = Fixed(seed)
        plan = Plan("fixed", lambda space, s, runs: tool, shared=shared)
        list(answers(plan, Known(0.0, 1.0), LINE, [4], 0))
        return [v for values in tool.heard for v in values]

    for shared, seed in ((True, None), (False, 5)):
        assert heard(shared, seed)[1] == heard(shared, seed)[2], "the same place and seed"
    assert heard(False, None)[1] != heard(False, None)[2]
    assert heard(False, None) == heard(False, None), "a repetition is reproducible"


def test_a_search_that_plans_ahead_starts_anew_for_each_number_of_runs() -> None:
    given = list[int]()

    def tool(space: SearchSpace, seed: int, runs: int) -> Fixed:
        given.append(runs)
        return Fixed()

    assert len(list(answers(Plan("f", tool, ahead=True), Known(1, 0), LINE, [2, 4], 0))) == 2
    assert given == [2, 4]


def test_replicates_of_a_configuration_count_together() -> None:
    history: list[tuple[Config, tuple[float, ...]]] = [
        ({"keep_ratio": 0.5}, (4.0, 8.0)),
        ({"keep_ratio": 0.3}, (7.0,)),
        ({"keep_ratio": 0.5}, (0.0,)),
    ]
    assert grouped(LINE, history) == [
        ({"keep_ratio": 0.5}, (4.0, 8.0, 0.0)),
        ({"keep_ratio": 0.3}, (7.0,)),
    ]
    assert best(LINE, history) == ({"keep_ratio": 0.3}, 7.0)
    assert by_model(LINE, history) == best(LINE, history), "too few for a model"


def test_the_model_chooses_among_the_configurations_tried() -> None:
    places = np.linspace(0, 1, 24)
    lucky = {5: 6.0, 17: -6.0}
    history: list[tuple[Config, tuple[float, ...]]] = [
        ({"keep_ratio": float(x)}, (10 * x + lucky.get(i, 0.1 * (-1) ** i),))
        for i, x in enumerate(places)
    ]
    config, expected = by_model(LINE, history)
    assert config["keep_ratio"] > 0.9 and 8 < expected < 11


def test_intervals_hold_the_mean_and_shrink_with_the_sample() -> None:
    sample = np.random.default_rng(1).normal(5, 2, 100).tolist()
    low, high = interval([sample])
    half = 1.96 * stdev(sample) / 10
    assert (low, high) == pytest.approx((fmean(sample) - half, fmean(sample) + half), abs=0.1)
    assert ratio([2.0, 2.0], [4.0, 4.0]) == "0.50 (0.50 to 0.50)"
    assert difference([2.0, 2.0], [4.0, 4.0]) == "-2.0 (-2.0 to -2.0)"


def test_the_tables_show_regret_optimism_and_what_is_taken_home() -> None:
    def line(space: str, plan: str, rule: str, true: float) -> dict[str, Any]:
        about = {"space": space, "plan": plan, "runs": 20, "seconds": 1.5}
        return about | {"choices": {rule: (true, true + 3)}}

    lines = [
        line("averaged", "a", "model", 84.0),
        line("core", "a", "model", 60.0),
        line("core", "b", "own", 50.0),
    ]
    top = {"averaged": 90.0, "core": 70.0}
    assert rows(lines, top)[2] == (
        "| core | 20 | b | own | 1 | 20.0 (20.0 to 20.0) | +3.0 (+3.0 to +3.0) | 1.5 |"
    )
    assert list(against(lines, top, "a", "model")) == [
        "| core | 20 | b | own | 0.50 (0.50 to 0.50) | +34.0 (+34.0 to +34.0) |"
    ]


def test_replays_continue_where_they_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "seq-digits.jsonl.xz", dict(SETTINGS), table(15))
    file = tmp_path / "deep" / "replays.jsonl"

    def run(repetitions: int, *more: str) -> None:
        arguments = [f"--repetitions={repetitions}", f"--tables={tmp_path}", f"--file={file}"]
        monkeypatch.setattr(
            "sys.argv",
            ["replays", *arguments, "--spaces=core", "--runs", "4", "6", "--only", RANDOM, *more],
        )
        replays.main()

    run(1)
    whole = list(replays.lines(file))
    assert [line["runs"] for line in whole] == [4, 6]
    assert "| core | 4 | random 1 fresh | best | 1 |" in capsys.readouterr().out
    file.write_text(file.read_text()[:-20])  # killed while it wrote
    assert list(replays.lines(file)) == whole[:1]
    run(2)
    found = list(replays.lines(file))
    there = [(line["repetition"], line["runs"]) for line in found]
    assert there == [(0, 4), (0, 6), (1, 4), (1, 6)]
    assert [line["choices"] for line in found[:2]] == [line["choices"] for line in whole]
    run(2)
    assert list(replays.lines(file)) == found
    run(3, "--seconds", "0")
    assert list(replays.lines(file)) == found
    with pytest.raises(UserError, match="unknown search 'peer ax'"):
        run(1, "peer ax")


def test_a_sweep_repeats_configurations_and_its_choice_is_the_sweeps() -> None:
    asked = list[tuple[Config, int]]()

    class Watched(Swept):
        def ask(self) -> tuple[Config, int]:
            asked.append(super().ask())
            return asked[-1]

    def tool(space: SearchSpace, seed: int, runs: int) -> Swept:
        return Watched(space, seed, runs, sampler="random", replicates=0.4)

    (found,) = answers(Plan("s", tool, ahead=True), Known(10.0, 1.0), LINE, [7], 3)
    places = [config["keep_ratio"] for config, _ in asked]
    assert len(places) == 7 and len(set(places)) < 7, "replicates"
    assert len({seed for _, seed in asked}) == 7 and asked[0][1] == 4_000_000
    assert found.choices["own"] == pytest.approx(found.choices["best"])


def test_a_peer_answers_from_a_process_of_its_own() -> None:
    process = Process(Path(sys.prefix))  # Optuna is in this environment too
    try:
        space = read_space("averaged")
        plan = replays.peer(process, "optuna-tpe")
        surrogate = Known(1.0, 0.0)
        (found,) = answers(plan, surrogate, space, [3], 0)
        assert found.choices["own"] == found.choices["best"]
        config, seed = Peer(process, "optuna-tpe", space, 0, 3).ask()
        assert seed is None and all(p.admits(config[p.name]) for p in space.parameters)
        with pytest.raises(RuntimeError, match="ended at the request 'begin'"):
            Peer(process, "optuna-none", space, 0, 3)
    finally:
        process.close()
