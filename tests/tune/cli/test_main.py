"""Flags and their effects. Bad input gives one line, exit status 2 and no files."""

import dataclasses
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import tune.cli.main
from dynamos.config import TrainConfig, preset
from dynamos.errors import UserError
from dynamos.fields import settings
from results.definition.objectives import Constraint, Objective
from results.definition.sweep_config import SweepConfig
from results.ledger import ledger as ledgers
from results.ledger.ledger import Ledger
from results.ledger.study import make_study
from results.names import check_name
from tests.helpers.data_files import write_mnist
from tests.helpers.ledgers import ONE, begun, complete, driven
from tests.helpers.ledgers import config as plain
from tune.cli.flags.parser import parser_of
from tune.cli.flags.run import sweep_config
from tune.cli.flags.sweep_file import flags_of
from tune.cli.main import main
from tune.machines.probe import data_record


@pytest.fixture(autouse=True)
def images_are_looked_at_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check images in this process, because starting another one takes seconds."""
    monkeypatch.setattr(
        "tune.engine.creation.apart", lambda function, *arguments: function(*arguments)
    )


def refused(capsys: pytest.CaptureFixture[str], storage: Path, *arguments: str) -> str:
    """Return the one line of error that the command printed."""
    try:
        status = main([*arguments, "--storage", str(storage)])
    except SystemExit as end:
        assert isinstance(end.code, int)
        status = end.code
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert (
        status == 2
        and captured.out == ""
        and len(lines) == 1
        and lines[0].startswith("dynamos-sweep")
    )
    assert not storage.exists() or not any(storage.iterdir())
    return lines[0]


SPACES = {
    "unknown_field": (
        "parameters: {keep_ration: {low: 0.1, high: 0.9}}",
        "Did you mean 'keep_ratio'?",
    ),
    "upside_down": (
        "parameters: {lr: {low: 0.2, high: 0.1}}",
        "lr goes from 0.2 to 0.1; low must be less than high",
    ),
    "unreadable": ("parameters: {lr: [", "is not readable YAML"),
    "no_mapping": ("- lr", "does not hold a mapping"),
    "outside": ("parameters: {lr: {low: 0.001, high: 0.01}}", "lies outside the space outside"),
}


@pytest.mark.parametrize("name", SPACES)
def test_a_bad_space_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, message = SPACES[name]
    (tmp_path / f"{name}.yaml").write_text(content)
    assert message in refused(
        capsys, tmp_path / "runs", "run", "--space", str(tmp_path / f"{name}.yaml")
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--dataset", "seq-digit"], "unknown dataset 'seq-digit'. Did you mean 'seq-digits'?"),
        (["--dataset", "seq-mnist"], "MNIST needs data_path (--data-path DIR)"),
        (
            ["--dataset", "seq-mnist", "--data-path", "/nowhere"],
            "no MNIST under data_path /nowhere, which is not a "
            "folder: expected train-images-idx3-ubyte and train-labels-idx1-ubyte",
        ),
        (["--space", "cor"], "unknown space 'cor'. Did you mean 'core'?"),
        (["--trials", "0"], "--trials 0 is out of range; it must be from 1 to 100000"),
        (["--trials", "many"], "argument --trials: 'many' is not a whole number."),
        (["--trials", "8.5"], "argument --trials: '8.5' is not a whole number."),
        (["--trials", "inf"], "argument --trials: 'inf' is not a whole number."),
        (["--first-k", "1.5"], "argument --first-k: '1.5' is not a whole number."),
        (["--time-budget", "soon"], "'soon' is not a duration"),
        (["--time-budget", "0s"], "--time-budget 0s is out of range"),
        (["--max-concurrent", "0"], "--max-concurrent 0 is out of range"),
        (["--cpus-per-trial", "-1"], "--cpus-per-trial -1 is out of range"),
        (["--set", "keep_ratio=1.5"], "keep_ratio 1.5 is out of range; it must be from 0 to 1"),
        (["--set", "policy_penalty=5"], "policy_penalty 5.0 is out of range; it must be at most 0"),
        (["--set", "keep_ration=0.5"], "unknown field 'keep_ration'. Did you mean 'keep_ratio'?"),
        (["--set", "keep_ratio"], "--set 'keep_ratio' is not of the form field=value"),
        (["--set", "evaluate_on=test"], "use --protocol"),
        (["--protocol", "first-k"], "--protocol first-k and --first-k K go together"),
        (["--first-k", "2"], "--protocol first-k and --first-k K go together"),
        (
            ["--protocol", "first-k", "--first-k", "5"],
            "set --first-k from 1 to 4",
        ),
        (
            ["--protocol", "two-stream", "--report-on", "lr=0.1"],
            "--report-on lr: the space averaged varies it",
        ),
        (["--protocol", "tests"], "unknown protocol 'tests'. Did you mean 'test'?"),
        (["--set", "dataset=seq-mnist"], "use --dataset"),
        (["--cpus-per-trial", "nan"], "'nan' is not a number"),
        (["--cpus-per-trial", "999"], "--cpus-per-trial 999 is too many"),
        (["--gpus-per-trial", "1.5"], "above 1 it must be a whole number"),
        (["--set", "device=cuda"], "device cuda: a trial with 0 GPUs trains on cpu"),
        (
            ["--set", "device=cuda:1", "--gpus-per-trial", "1"],
            "device cuda:1: a trial with 1 GPUs trains on cuda",
        ),
        (
            ["--set", "model=multi_scale"],
            "the space averaged varies policy_penalty, keep_ratio, which multi_scale does not "
            "use; use the --space plain or replay, or a --space file with only lr, alpha, beta, "
            "average_decay.",
        ),
        (
            ["--tracking-uri", "./mlruns"],
            "--tracking-uri ./mlruns: MLflow needs a server, for instance http://HOST:5000",
        ),
        (
            ["--tracking-uri", "databricks"],
            "--tracking-uri databricks: MLflow needs a server",
        ),
        (
            ["--set", "max_train_images_per_task=20"],
            "warmup_steps 10 would cover the whole first task",
        ),
        (["--set", "n_tasks=6"], "n_tasks 6 of 2 classes are more than seq-digits has; at most 5"),
        (["--name", "../elsewhere"], "--name '../elsewhere': a sweep's name has 1 to 120 letters"),
        (["--trails", "3"], "Did you mean --trials?"),
        (["mine"], "unexpected argument 'mine'. Did you mean --name mine?"),
        (
            ["--objective", "val_clas_il"],
            "unknown metric 'val_clas_il'. Did you mean 'val_class_il'?",
        ),
        (["--objective", "compute:most"], "unknown direction 'most'"),
        (
            ["--objective", "compute", "--objective", "compute:max"],
            "--objective: compute compute names a metric twice",
        ),
        (["--constraint", "keep_fraction<0.6"], "write FIELD<=NUMBER or FIELD>=NUMBER"),
        (["--sampler", "tpee"], "unknown sampler 'tpee'. Did you mean 'tpe'?"),
        (
            ["--sampler", "cmaes", "--objective", "compute", "--objective", "val_class_il"],
            "takes one objective",
        ),
        (
            ["--pruner", "median", "--dataset", "mnist-360"],
            "mnist-360 has no tasks after which trials can be compared",
        ),
        (
            ["--objective", "forgetting", "--dataset", "mnist-360"],
            "forgetting does not exist on mnist-360",
        ),
        (["--pruner", "wilcoxon"], "--pruner wilcoxon compares seeds"),
        (["--seeds", "0"], "--seeds 0 is out of range; it must be from 1 to 1000"),
        (["--target", "high"], "argument --target: 'high' is not a number"),
        (["--gpu-budget", "1h"], "--gpu-budget: these trials use no GPU"),
        (["--cpu-budget", "0s"], "--cpu-budget 0s is out of range"),
        (["--points", "/nowhere.yaml"], "no file /nowhere.yaml"),
        (["--points", "~nosuch/x"], "'~nosuch/x' is not a path"),
        (["--data-path", "~nosuch/x"], "'~nosuch/x' is not a path"),
        (
            ["--protocol", "two-stream", "--report-on", "data_path=~nosuch/x"],
            "'~nosuch/x' is not a path",
        ),
        (["--space", "~nosuch/x"], "'~nosuch/x' is not a path"),
        (
            ["--ledger-url", "postgresql://me:pw@host/db"],
            "a sweep's files must not contain a password",
        ),
    ],
)
def test_a_bad_argument(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, tmp_path / "runs", "run", *arguments)


@pytest.mark.parametrize(
    "command",
    [
        ["resume"],
        ["extend", "--trials", "+2"],
        ["report"],
        ["show"],
        ["sync"],
        ["stop"],
        ["stop", "--trial", "0"],
    ],
)
def test_a_missing_sweep(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "unknown sweep 'mine'" in refused(
        capsys, tmp_path / "runs", command[0], "mine", *command[1:]
    )


def test_a_field_that_a_space_fixes_has_its_value_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "mine.yaml"
    space.write_text("parameters: {beta: {low: 1, high: 3}}\nfixed: {buffer_size: 500, nf: 8}\n")
    asked = ["--space", str(space), "--dry-run", "--storage", str(tmp_path / "runs")]
    assert main(["run", *asked, "--set", "nf=8"]) == 0
    config = yaml.safe_load(capsys.readouterr().out.partition("The settings")[0])
    assert (config["base"]["buffer_size"], config["base"]["nf"]) == (500, 8)
    assert config["space"]["fixed"] == {"buffer_size": 500, "nf": 8}
    assert main(["run", *asked, "--set", "nf=16"]) == 2
    assert capsys.readouterr().err == (
        "dynamos-sweep: error: --set: nf 16: the space mine fixes nf at 8; leave one of them out.\n"
    )


@pytest.mark.parametrize("there", [[], ["--address", "http://127.0.0.1:9"]])
def test_a_baseline_that_is_no_path(
    there: list[str], stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["confirm", "s", "--storage", str(stored), "--baseline", "~nosuch/x", *there]) == 2
    said = capsys.readouterr().err
    assert "'~nosuch/x' is not a path" in said and len(said.splitlines()) == 1


def test_a_bad_extension(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'-3' is not of the form +20" in refused(
        capsys, tmp_path / "runs", "extend", "s", "--trials=-3"
    )


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--help"], "usage: dynamos-sweep"),
        (["resume", "--help"], "usage: dynamos-sweep"),
        (["show", "--help"], "usage: dynamos-sweep"),
        (["--version"], f"dynamos {version('dynamos')}"),
    ],
)
def test_help_loads_nothing_heavy(arguments: list[str], said: str) -> None:
    code = (
        f"import sys; from tune.cli.main import main\ntry: main({arguments!r})\nexcept SystemExit: "
        "pass\nprint({'ray', 'torch', 'mlflow', 'pandas', 'sklearn', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(said) and done.stdout.strip().endswith("set()")


def test_the_defaults_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        "(default: seq-digits)",
        "(default: averaged)",
        "(default: 20)",
        "(default: runs)",
    ):
        assert words in said


def meant(*arguments: str) -> SweepConfig:
    return sweep_config(parser_of("run").parse(["run", *arguments]))


def test_flags_reach_the_sweeps_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "points.yaml").write_text("points: [{lr: 1e-2}, {lr: 0.1, keep_ratio: 0.5}]")
    config = meant(
        "--name",
        "n",
        "--dataset",
        "seq-mnist",
        "--data-path",
        "images",
        "--trials",
        "7",
        "--time-budget",
        "30m",
        "--seed",
        "3",
        "--cpus-per-trial",
        "2",
        "--gpus-per-trial",
        "0.5",
        "--cohort",
        "3",
        "--max-concurrent",
        "4",
        "--set",
        "buffer_size=1000",
        "nf=8",
        "--set",
        "max-train-images-per-task=50",
        "--seeds",
        "4",
        "--objective",
        "val_task_il",
        "--objective",
        "compute:max",
        "--constraint",
        "keep_fraction<=0.6",
        "--constraint",
        "val_class_il >= 50",
        "--sampler",
        "nsga2",
        "--pruner",
        "wilcoxon",
        "--grace-tasks",
        "3",
        "--points",
        "points.yaml",
        "--warm-start",
        "earlier",
        "--deterministic-order",
        "--cpu-budget",
        "2h",
        "--gpu-budget",
        "1d",
        "--target",
        "95.5",
        "--ledger-url",
        "sqlite:////l.db",
        "--tracking-uri",
        "http://m:5000",
    )
    base = {
        **preset("seq-mnist", 1000),
        "nf": 8,
        "max_train_images_per_task": 50,
        "evaluate_on": "validation",
        "threads": 2,
        "data_path": str(tmp_path / "images"),
        "device": "cuda",
    }
    assert config == SweepConfig(
        name="n",
        space=config.space,
        base=TrainConfig(**base),
        trials=7,
        time_budget_seconds=1800,
        seed=3,
        cpus_per_trial=2,
        gpus_per_trial=0.5,
        cohort=3,
        max_concurrent=4,
        seeds=4,
        objectives=(Objective("val_task_il", "max"), Objective("compute", "max")),
        constraints=(Constraint("keep_fraction", "<=", 0.6), Constraint("val_class_il", ">=", 50)),
        sampler="nsga2",
        pruner="wilcoxon",
        grace_tasks=3,
        points=({"lr": 0.01}, {"lr": 0.1, "keep_ratio": 0.5}),
        warm_start="earlier",
        deterministic_order=True,
        cpu_budget_seconds=7200,
        gpu_budget_seconds=86400,
        target=95.5,
        ledger_url="sqlite:////l.db",
        tracking_uri="http://m:5000",
    )
    assert config.space.name == "averaged"


def test_without_flags_a_sweep_is_what_its_config_defaults_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = meant()
    expected = SweepConfig(name="seq-digits-averaged-1", space=config.space, base=config.base)
    assert config == expected and config.base_is_preset and config.base.device == "cpu"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://m:5000")
    assert meant().tracking_uri == "http://m:5000"


def from_file(content: str, folder: Path, *flags: str) -> SweepConfig:
    """Return the SweepConfig of `run --config` with these flags."""
    (folder / "sweep.yaml").write_text(content)
    file = flags_of(folder / "sweep.yaml")
    return sweep_config(parser_of("run", file).parse(["run", "--config", "sweep.yaml", *flags]))


def test_a_sweeps_own_file_starts_the_same_sweep_again_under_another_name(tmp_path: Path) -> None:
    flags = [
        "--storage",
        str(tmp_path),
        "--dataset",
        "mnist-360",
        "--data-path",
        str(tmp_path),
        "--trials",
        "7",
        "--seeds",
        "2",
        "--set",
        "nf=8",
        "buffer_size=500",
        "--objective",
        "val_class_il",
        "--objective",
        "compute",
        "--constraint",
        "keep_fraction<=0.6",
        "--gpus-per-trial",
        "auto",
        "--time-budget",
        "30m",
        "--sampler",
        "nsga2",
        "--ledger-url",
        "sqlite:////l.db",
        "--tracking-uri",
        "http://m:5000",
        "--cpus-per-trial",
        "2",
    ]
    config = meant("--name", "first", *flags)
    file = yaml.safe_dump(config.to_dict() | {"record": {"id": "7"}}, sort_keys=False)
    again = from_file(file, tmp_path, "--storage", str(tmp_path))
    assert again == dataclasses.replace(config, name="mnist-360-averaged-1")
    first_k = meant(
        "--name", "k", "--protocol", "first-k", "--first-k", "2", "--points", str(points(tmp_path))
    )
    assert from_file(yaml.safe_dump(first_k.to_dict(), sort_keys=False), tmp_path) == first_k


def points(folder: Path) -> Path:
    (folder / "points.yaml").write_text("points: [{lr: 1e-2}]")
    return folder / "points.yaml"


def test_flags_win_over_a_file(tmp_path: Path) -> None:
    file = yaml.safe_dump(
        {
            "name": "mine",
            "base": {"nf": 8, "n_epochs": 3},
            "trials": 7,
            "objectives": ["compute"],
            "points": [{"lr": 0.1}],
            "space": {"parameters": {"lr": {"low": 1e-3, "high": 1}}},
        }
    )
    plainly = from_file(file, tmp_path)
    assert (plainly.name, plainly.trials, plainly.base.nf, plainly.base.n_epochs) == (
        "mine",
        7,
        8,
        3,
    )
    assert plainly.space.name == "sweep" and plainly.points == ({"lr": 0.1},)
    assert [str(o) for o in plainly.objectives] == ["compute:min"]
    changed = from_file(
        file,
        tmp_path,
        "--name",
        "other",
        "--trials",
        "9",
        "--set",
        "nf=16",
        "--space",
        "core",
        "--objective",
        "val_task_il",
        "--points",
        str(points(tmp_path)),
        "--gpus-per-trial",
        "1",
        "--cpus-per-trial",
        "2",
    )
    assert (changed.name, changed.trials, changed.base.nf, changed.base.n_epochs) == (
        "other",
        9,
        16,
        3,
    )
    assert changed.space.name == "core" and changed.points == ({"lr": 0.01},)
    assert [str(o) for o in changed.objectives] == ["val_task_il:max"]
    assert (changed.base.device, changed.base.threads) == ("cuda", 2)


@pytest.mark.parametrize(
    "content, message",
    [
        ("samplr: gp", "sweep.yaml: unknown field 'samplr'. Did you mean 'sampler'?"),
        ("trials: many", "sweep.yaml: trials 'many' is not a whole number."),
        ("trials: true", "sweep.yaml: trials True is not a whole number."),
        ("trials: 8.5", "sweep.yaml: trials 8.5 is not a whole number."),
        (
            "time_budget_seconds: 8h",
            "sweep.yaml: time_budget_seconds '8h' is not a number or null.",
        ),
        ("objectives: compute", "sweep.yaml: objectives 'compute' is not a list."),
        ("objectives: [1]", "sweep.yaml: objectives: 1 is not a text."),
        ("base: {nff: 8}", "unknown field 'nff'"),
        (
            "space: {parameters: {nff: {low: 1, high: 2}}}",
            "sweep.yaml: space sweep: unknown field 'nff'",
        ),
        ("confirms: s", "sweep.yaml belongs to a confirmation"),
        ("base: {dataset: seq-digit}", "unknown dataset 'seq-digit'. Did you mean 'seq-digits'?"),
        ("- a", "does not hold a mapping"),
    ],
)
def test_a_bad_file_of_a_sweep(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweep.yaml").write_text(content)
    assert message in refused(
        capsys, tmp_path / "runs", "run", "--config", str(tmp_path / "sweep.yaml")
    )


def test_whole_numbers_may_be_written_as_floats(tmp_path: Path) -> None:
    for content in ("trials: 8.0", "trials: 8e0", "trials: 8"):
        trials = from_file(content, tmp_path).trials
        assert trials == 8 and type(trials) is int, content
    assert [meant("--trials", text).trials for text in ("8", "8.0", "8e0")] == [8] * 3
    assert meant("--protocol", "first-k", "--first-k", "2.0").base.n_tasks == 2
    for text in ("+2", "2", "+2.0", "2e0"):
        assert parser_of("extend").parse(["extend", "s", "--trials", text]).trials == 2
    for text in ("0", "+1.5", "-2", "+-2", "many"):
        with pytest.raises(UserError, match="is not of the form"):
            parser_of("extend").parse(["extend", "s", f"--trials={text}"])


def test_a_dry_run_shows_what_would_be_tried_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = tmp_path / "runs"
    with driven(
        Ledger.create(storage, plain("earlier", trials=1, base=plain().base.replace(lr=0.05)), {})
    ) as ledger:
        complete(ledger, 80.0, 90.0)
    before = sorted(tmp_path.rglob("*"))
    asked = ["run", "--dry-run", "--storage", str(storage), "--trials", "3", "--sampler", "random"]
    assert main([*asked, "--name", "s", "--warm-start", "earlier"]) == 0
    said = capsys.readouterr().out
    written, _, shown = said.partition("\n\n")
    (tmp_path / "sweep.yaml").write_text(written)
    assert from_file(written, tmp_path).to_dict() == yaml.safe_load(written), (
        "it is a file of --config"
    )
    (tmp_path / "sweep.yaml").unlink()
    assert "s would run 3 trials, these first" in shown and "warm-start:earlier/0" in shown
    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["0", "1", "2"]
    assert main([*asked[:-1], "tpe", "--name", "s"]) == 0
    assert "note: --sampler tpe draws at random" in capsys.readouterr().out
    assert (
        main([*asked, "--name", "earlier"]) == 2
        and "a sweep 'earlier' exists" in capsys.readouterr().err
    )
    assert main([*asked, "--dataset", "seq-mnist", "--data-path", "/nowhere"]) == 2
    assert "no MNIST under data_path /nowhere" in capsys.readouterr().err
    assert (
        main([*asked, "--warm-start", "none"]) == 2
        and "unknown sweep 'none'" in capsys.readouterr().err
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_names_are_numbered_where_none_is_given(tmp_path: Path) -> None:
    assert meant("--storage", str(tmp_path)).name == "seq-digits-averaged-1"
    (tmp_path / "seq-digits-averaged-1").mkdir()
    assert meant("--storage", str(tmp_path)).name == "seq-digits-averaged-2"


def test_a_run_that_is_overtaken_takes_the_next_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven_ones: list[str] = []

    def overtaken(folder: Path, begins: Any, *more: Any) -> None:
        monkeypatch.setattr(ledgers, "make_study", make_study)
        Ledger.create(tmp_path, plain("seq-digits-averaged-1"), {}).close()
        make_study(folder, begins, *more)

    monkeypatch.setattr(ledgers, "make_study", overtaken)

    def drive(ledger: Ledger, _: Any) -> int:
        driven_ones.append(ledger.config.name)
        return 0

    monkeypatch.setattr(tune.cli.main, "_drive", drive)
    assert main(["run", "--storage", str(tmp_path), "--trials", "2"]) == 0 and driven_ones == [
        "seq-digits-averaged-2"
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "seq-digits-averaged-1",
        "seq-digits-averaged-2",
    ]


@pytest.mark.parametrize("name", ["space (1)", "what? now", "train", "\u00fcn\u00ef"])
def test_any_space_file_gives_an_allowed_name(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.yaml").write_text("parameters:\n  lr: {low: 0.01, high: 0.2}\n")
    assert check_name(meant("--space", str(tmp_path / f"{name}.yaml")).name).startswith(
        "seq-digits-"
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder with a sweep `s` that has not begun."""
    folder = tmp_path_factory.mktemp("stored")
    Ledger.create(folder, plain(trials=3, time_budget_seconds=60.0), {})
    return folder


def drive(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[Any]:
    """Collects (sweep, trials added, numbers of the trials run again) for every sweep that the
    command would run."""
    ran: list[Any] = []
    monkeypatch.setattr(
        "tune.engine.sweep.run_sweep",
        lambda ledger, more, address, again, listener: ran.append((ledger.config, more, *again)),
    )
    monkeypatch.setattr("tune.cli.summary.ending", lambda ledger, over: True)
    assert main(arguments) == 0
    return ran


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_a_sweep_is_driven_ends_the_command_in_one_line(
    kind: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # which a process in the background may lack
    at_first = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        before = signal.getsignal(kind)
        monkeypatch.setattr(
            "tune.engine.creation.create_sweep", lambda *_, **__: signal.raise_signal(kind)
        )
        assert main(["run", "--storage", str(tmp_path)]) == 130
        assert capsys.readouterr().err == "dynamos-sweep: interrupted\n"
        assert signal.getsignal(kind) == before
    finally:
        signal.signal(signal.SIGINT, at_first)


@pytest.mark.parametrize(
    "flags, changes",
    [
        ([], {}),
        (["--cpus-per-trial", "2"], {"cpus_per_trial": 2.0}),
        (["--max-concurrent", "1"], {"max_concurrent": 1}),
        (
            ["--time-budget", "2h", "--cpu-budget", "1d", "--target", "99"],
            {"time_budget_seconds": 7200.0, "cpu_budget_seconds": 86400.0, "target": 99.0},
        ),
    ],
)
@pytest.mark.parametrize(
    "command, more", [(["resume", "s"], 0), (["extend", "s", "--trials", "+20"], 20)]
)
def test_a_later_session_may_have_other_resources_and_changes_nothing_else(
    command: list[str],
    more: int,
    flags: list[str],
    changes: dict[str, Any],
    stored: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = Ledger.open(stored, "s").config
    ran = drive(monkeypatch, *command, "--storage", str(stored), *flags)
    assert ran == [(dataclasses.replace(before, **changes), more)]
    assert Ledger.open(stored, "s").config == before, "for this session only"


def test_failed_trials_are_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with driven(Ledger.create(tmp_path, plain(trials=3), {})) as ledger:
        complete(ledger, 70.0, 90.0)
        for _ in range(2):
            ledger.finish(ledger.ask().number, "FAIL", "no room")
    where = ["--storage", str(tmp_path)]
    assert drive(monkeypatch, "rerun", "s", "--trial", "2", "--trial", "1", *where) == [
        (plain(trials=3), 0, 2, 1)
    ]
    assert main(["rerun", "s", "--trial", "0", *where]) == 2
    assert "--trial 0 is complete; only a trial that failed" in capsys.readouterr().err


def test_auto_stands_for_a_number_that_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    automatic = meant("--gpus-per-trial=auto", "--cohort=auto")
    assert (automatic.gpus_per_trial, automatic.pack_gpus) == (1.0, True)
    assert (automatic.cohort, automatic.pack_cohorts) == (1, True)
    given = meant("--cohort=4")
    assert (given.cohort, given.pack_cohorts, given.pack_gpus) == (4, False, False)
    assert main(["run", "--cohort=some"]) == 2
    assert "argument --cohort: 'some' is not a whole number, nor auto" in capsys.readouterr().err


def test_a_session_may_change_limits_and_resources() -> None:
    assert {name for name, about in settings(SweepConfig).items() if about.session} == {
        f.name
        for f in dataclasses.fields(SweepConfig)
        if "budget" in f.name
        or f.name in ("target", "cpus_per_trial", "gpus_per_trial", "pack_gpus", "max_concurrent")
        or f.name in ("retries", "keep_checkpoints", "cohort", "pack_cohorts")
    }


def test_a_sweep_goes_on_in_another_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Ledger.create(tmp_path / "runs", plain(trials=3, space=ONE), {})
    new, where = tmp_path / "new.yaml", ["--storage", str(tmp_path / "runs")]
    new.write_text("parameters: {keep_ratio: {low: 0.6, high: 0.8, step: 0.1}}")
    asked = ["extend", "s", *where, "--space", str(new)]
    ((config, more),) = drive(monkeypatch, *asked, "--trials", "+2")
    assert more == 2 and config.space.since == 1
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "the space is new from trial 1 on: keep_ratio 0.6 to 0.8 in steps of 0.1. Before, it was "
        "one: keep_ratio 0.1 to 0.9."
    ) in said
    assert Ledger.open(tmp_path / "runs", "s").config.space == config.space
    assert len(drive(monkeypatch, *asked)) == 1, "without trials, too"
    assert "the space stays as it is." in capsys.readouterr().out
    new.write_text("parameters: {keep_ratio: {low: 0.8, high: 0.9}}")
    for command, message in (
        (asked, "trial 0, the baseline, must stay in the space: keep_ratio 0.7 lies outside the"),
        (["extend", "s", *where], "extend needs --trials +N, --space, or both."),
        (["extend", "s", *where, "--space", "cor"], "unknown space 'cor'. Did you mean 'core'?"),
    ):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("command", [["resume", "s"], ["extend", "s", "--trials", "+2"]])
@pytest.mark.parametrize(
    "limit, flag, beyond, why",
    [
        ({"target": 80.0}, "--target", "95", "trial 0 reached the target with val_class_il 90"),
        ({"cpu_budget_seconds": 1e-9}, "--cpu-budget", "8h", "the CPU budget is spent"),
        (
            {"gpu_budget_seconds": 1e-9, "gpus_per_trial": 1.0},
            "--gpu-budget",
            "8h",
            "the GPU budget is spent",
        ),
    ],
)
def test_a_session_that_a_limit_leaves_nothing_to_do_is_refused(
    limit: dict[str, Any],
    flag: str,
    beyond: str,
    why: str,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = plain().base.replace(device="cuda" if "gpus_per_trial" in limit else "cpu")
    with driven(Ledger.create(tmp_path, plain(trials=2, base=base, **limit), {})) as ledger:
        complete(ledger, 70.0, 90.0)
    where = ["--storage", str(tmp_path)]
    assert main([*command, *where]) == 2
    assert capsys.readouterr().err == (
        f"dynamos-sweep: error: {why}, so later sessions of s would end at once; to continue set "
        f"another {flag}.\n"
    )
    assert (ledger.folder / "trials.csv").is_file(), "there may have been no room for it"
    assert len(drive(monkeypatch, *command, *where, flag, beyond)) == 1
    with driven(ledger):  # as after a kill: its files are repaired
        assert len(drive(monkeypatch, *command, *where)) == 1
        complete(ledger, 70.0, 80.0)
    if command[0] == "resume":  # no trial is left to start
        assert drive(monkeypatch, *command, *where) == []


def test_a_sweep_whose_driver_could_not_put_its_last_trial_back_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with driven(Ledger.create(tmp_path, plain(trials=1), {})) as ledger:
        begun(ledger)
    assert (
        ledger.driver is None and ledger.remaining() == 0 and str(ledger.state) == "stopped, 1 left"
    )
    assert len(drive(monkeypatch, "resume", "s", "--storage", str(tmp_path))) == 1


def test_a_finished_sweep_is_said_to_be_so_and_its_files_are_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with driven(Ledger.create(tmp_path, plain(trials=1), {})) as ledger:
        complete(ledger, 70.0, 90.0)
    where = ["--storage", str(tmp_path)]
    assert drive(monkeypatch, "resume", "s", *where) == []
    said = capsys.readouterr().out
    assert said.startswith("s is finished (1 trial). To continue: dynamos-sweep extend s ")
    assert "--trials +10" in said and str(tmp_path) in said and said.count("\n") == 1
    assert main(["stop", "s", *where]) == 0
    assert capsys.readouterr().out == "s is finished; there is nothing to stop\n"
    files = {name: ledger.folder / name for name in ("trials.csv", "best_config.yaml")}
    assert files["best_config.yaml"].is_file()
    files["best_config.yaml"].write_text("as `export --choose` left it")
    drive(monkeypatch, "resume", "s", *where)
    assert "left it" in files["best_config.yaml"].read_text(), (
        "what is as it should be is left alone"
    )
    files["trials.csv"].write_text("half a")
    drive(monkeypatch, "resume", "s", *where)
    assert (
        "COMPLETE" in files["trials.csv"].read_text()
        and "left it" not in files["best_config.yaml"].read_text()
    )


@pytest.mark.parametrize(
    "command", [["resume", "s"], ["extend", "s", "--trials", "+2"], ["rerun", "s", "--trial", "0"]]
)
def test_images_that_have_gone_are_missed_before_anything_is_spent_and_may_have_moved(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    draws = np.random.default_rng(0)
    for folder in ("images", "others"):
        write_mnist(tmp_path / folder / "MNIST" / "raw", draws)
    base = TrainConfig(**preset("seq-mnist", 500)).replace(
        evaluate_on="validation", warmup=False, data_path=str(tmp_path / "images")
    )
    with driven(
        Ledger.create(tmp_path / "runs", plain(base=base), data_record(base, True))
    ) as ledger:
        ledger.finish(ledger.ask().number, "FAIL", "no image")
    (tmp_path / "images").rename(tmp_path / "moved")
    where = [*command, "--storage", str(tmp_path / "runs")]
    for flags, message in (
        ([], "no MNIST under data_path"),
        (
            ["--data-path", str(tmp_path / "others")],
            f"the images of seq-mnist under data_path {tmp_path / 'others'} differ from those "
            "that the sweep started with",
        ),
    ):
        assert main([*where, *flags]) == 2
        said = capsys.readouterr().err
        assert message in said and "--data-path" in said and said.count("\n") == 1
    ran = drive(monkeypatch, *where, "--data-path", str(tmp_path / "moved"))
    assert ran[0][0].base == base.replace(data_path=str(tmp_path / "moved"))
    assert Ledger.open(tmp_path / "runs", "s").config.base == base, "for this session only"


def test_images_that_no_folder_holds_are_not_moved(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("resume", "confirm"):
        assert main([command, "s", "--storage", str(stored), "--data-path", "there"]) == 2
        assert (
            "--data-path there: the images of seq-digits are in a package"
            in capsys.readouterr().err
        )


@pytest.mark.parametrize(
    "variable, value, message",
    [
        (
            "RAY_ADDRESS",
            "nowhere",
            "RAY_ADDRESS 'nowhere' is neither auto nor HOST:PORT. Unset the variable to run",
        ),
        ("RAY_ADDRESS", "ray://head:10001", "RAY_ADDRESS ray://head:10001: a driver connects to"),
        (
            "MLFLOW_TRACKING_URI",
            "sqlite:///here.db",
            "MLFLOW_TRACKING_URI sqlite:///here.db: give the absolute path of the file",
        ),
        (
            "MLFLOW_TRACKING_URI",
            "http://me:word@m:5000",
            "MLFLOW_TRACKING_URI: a sweep's files must not contain a password",
        ),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    variable: str,
    value: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, value)
    assert message in refused(capsys, tmp_path / "runs", "run")


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            ["--gpus-per-trial", "1"],
            "--gpus-per-trial 1: the trials of 's' train on the CPU in all sessions. For "
            "another device start a new sweep with --warm-start s.",
        ),
        (
            ["--cpus-per-trial", "0"],
            "--cpus-per-trial 0 is out of range; it must be from 0.01 to 1024.",
        ),
        (
            ["--sampler", "random"],
            "unknown flag --sampler. `dynamos-sweep resume --help` lists them all.",
        ),
        (
            ["--trials", "3"],
            "unknown flag --trials. Did you mean --retries? `dynamos-sweep resume --help` lists "
            "them all.",
        ),
    ],
)
def test_a_later_session_cannot_change_what_the_sweep_is(
    flags: list[str], message: str, stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["resume", "s", "--storage", str(stored), *flags]) == 2
    assert capsys.readouterr().err == f"dynamos-sweep: error: {message}\n"


def test_gpus_may_be_shared_otherwise_but_not_be_left(
    stored: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = plain().base.replace(device="cuda")
    Ledger.create(stored, plain("g", base=base, gpus_per_trial=1.0), {})
    ran = drive(monkeypatch, "resume", "g", "--storage", str(stored), "--gpus-per-trial", "0.25")
    assert ran[0][0].gpus_per_trial == 0.25
    assert main(["resume", "g", "--storage", str(stored), "--gpus-per-trial", "0"]) == 2
    assert (
        "--gpus-per-trial 0: the trials of 'g' train on GPUs in all sessions"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["serve", "--storage", "FILE/x"], "FILE/x: Not a directory"),
        (["show", "s" * 300], "File name too long"),
        (["compare", "s", "t", "--page", "FILE/x.html"], "FILE: File exists"),
    ],
)
def test_a_file_that_cannot_be_read_or_written_is_told_in_one_line(
    arguments: list[str],
    message: str,
    stored: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    if not (stored / "t").exists():
        Ledger.create(stored, plain("t"), {})
    storage = [] if "--storage" in arguments else ["--storage", str(stored)]
    assert main([text.replace("FILE", str(file)) for text in arguments] + storage) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and message.replace("FILE", str(file)) in said


def test_a_reader_that_has_enough_is_no_error(stored: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tune.cli", "list", "--storage", str(stored)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()  # as `head` does
    assert process.stderr.read() == "" and process.wait(60) == 0
