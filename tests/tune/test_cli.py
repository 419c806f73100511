"""Bad input: one line that says what is wrong, exit status 2, nothing left behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from dynamos.config import TrainConfig, preset
from tune.cli import _parser, _sweep_config, main


def refused(capsys: pytest.CaptureFixture[str], storage: Path, *arguments: str) -> str:
    """The one line that the command printed."""
    try:
        status = main([*arguments, "--storage", str(storage)])
    except SystemExit as end:
        assert isinstance(end.code, int)
        status = end.code
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert status == 2 and captured.out == "" and len(lines) == 1 and lines[0].startswith("dynamos-sweep")
    assert not storage.exists() or not any(storage.iterdir())
    return lines[0]


SPACES = {
    "unknown_field": ("parameters: {keep_ration: {low: 0.1, high: 0.9}}", "Did you mean 'keep_ratio'?"),
    "upside_down": ("parameters: {lr: {low: 0.2, high: 0.1}}", "lr goes from 0.2 to 0.1; low must be less than high"),
    "unreadable": ("parameters: {lr: [", "is not readable YAML"),
    "no_mapping": ("- lr", "does not hold a mapping"),
    "outside": ("parameters: {lr: {low: 0.001, high: 0.01}}", "lies outside the space outside"),
}


@pytest.mark.parametrize("name", SPACES)
def test_a_bad_space_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, message = SPACES[name]
    (tmp_path / f"{name}.yaml").write_text(content)
    assert message in refused(capsys, tmp_path / "runs", "run", "--space", str(tmp_path / f"{name}.yaml"))


@pytest.mark.parametrize("arguments, message", [
    (["--dataset", "seq-digit"], "unknown dataset 'seq-digit'. Did you mean 'seq-digits'?"),
    (["--dataset", "seq-mnist"], "MNIST needs data_path (--data-path DIR)"),
    (["--dataset", "seq-mnist", "--data-path", "/nowhere"], "no MNIST under data_path /nowhere: expected "
     "train-images-idx3-ubyte and train-labels-idx1-ubyte"),
    (["--space", "cor"], "unknown space 'cor'. Did you mean 'core'?"),
    (["--trials", "0"], "--trials 0 is out of range; it must be at least 1"),
    (["--trials", "many"], "argument --trials: invalid int value: 'many'"),
    (["--time-budget", "soon"], "'soon' is no length of time"),
    (["--time-budget", "0s"], "--time-budget 0s is out of range"),
    (["--max-concurrent", "0"], "--max-concurrent 0 is out of range"),
    (["--cpus-per-trial", "-1"], "--cpus-per-trial -1 is out of range"),
    (["--set", "keep_ratio=1.5"], "keep_ratio 1.5 is out of range; it must be from 0 to 1"),
    (["--set", "policy_penalty=5"], "policy_penalty 5.0 is out of range; it must be at most 0"),
    (["--set", "keep_ration=0.5"], "unknown field 'keep_ration'. Did you mean 'keep_ratio'?"),
    (["--set", "keep_ratio"], "--set 'keep_ratio' is not of the form field=value"),
    (["--set", "evaluate_on=test"], "a sweep always uses validation images"),
    (["--set", "dataset=seq-mnist"], "use --dataset"),
    (["--cpus-per-trial", "nan"], "'nan' is no number"),
    (["--cpus-per-trial", "999"], "--cpus-per-trial 999 is more than there is"),
    (["--gpus-per-trial", "1.5"], "above 1 it must be a whole number"),
    (["--set", "device=cuda:9"], "no device 'cuda:9' here"),
    (["--set", "max_train_images_per_task=20"], "warmup_steps 10 would swallow the whole first task"),
    (["--set", "n_tasks=6"], "n_tasks 6 of 2 classes are more than seq-digits has; at most 5"),
    (["--name", "../elsewhere"], "--name '../elsewhere': letters, digits"),
    (["--trails", "3"], "Did you mean --trials?"),
])
def test_a_bad_argument(arguments: list[str], message: str, tmp_path: Path,
                        capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(capsys, tmp_path / "runs", "run", *arguments)


@pytest.mark.parametrize("command", [["resume"], ["extend", "--trials", "+2"], ["report"]])
def test_a_sweep_that_is_not_there(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown sweep 'mine'" in refused(capsys, tmp_path / "runs", command[0], "mine", *command[1:])


def test_a_bad_extension(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'-3' is not of the form +20" in refused(capsys, tmp_path / "runs", "extend", "s", "--trials=-3")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["extend", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (f"import sys; from tune.cli import main\ntry: main({arguments!r})\nexcept SystemExit: pass\n"
            "print({'ray', 'torch', 'optuna', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: dynamos-sweep") and done.stdout.strip().endswith("set()")


def test_the_defaults_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for words in ("(default: seq-digits)", "(default: core)", "(default: 20)", "(default: runs)"):
        assert words in said


def test_flags_reach_the_sweeps_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = _sweep_config(_parser().parse([
        "run", "--name", "n", "--dataset", "seq-mnist", "--data-path", "images", "--trials", "7",
        "--time-budget", "30m", "--seed", "3", "--cpus-per-trial", "2", "--gpus-per-trial", "0.5",
        "--max-concurrent", "4", "--set", "buffer_size=1000", "nf=8", "--set", "max-train-images-per-task=50"]))
    assert (config.name, config.trials, config.time_budget_seconds, config.seed) == ("n", 7, 1800, 3)
    assert (config.cpus_per_trial, config.gpus_per_trial, config.max_concurrent) == (2, 0.5, 4)
    expected = {**preset("seq-mnist", 1000), "nf": 8, "max_train_images_per_task": 50, "evaluate_on": "validation",
                "threads": 2, "data_path": str(tmp_path / "images"), "device": "cuda"}
    assert config.base == TrainConfig(**expected)


def test_names_are_numbered_where_none_is_given(tmp_path: Path) -> None:
    arguments = ["run", "--storage", str(tmp_path)]
    assert _sweep_config(_parser().parse(arguments)).name == "seq-digits-core-1"
    (tmp_path / "seq-digits-core-1").mkdir()
    assert _sweep_config(_parser().parse(arguments)).name == "seq-digits-core-2"
