"""All steps on real MNIST by the command line: sweep, confirm, report, compare, and the pages in a
browser."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from results import load_sweep
from tests.helpers.browser import WIDTHS, needs_chromium, opened
from tests.helpers.real_data import REAL
from tests.helpers.sweeps import run
from tests.test_pages import is_whole

SMALL = [
    "nf=4",
    "hidden_dim_ratio=4",
    "max_train_images_per_task=100",
    "warmup_steps=2",
    "n_tasks=3",
]


@pytest.mark.slow
@needs_chromium
@pytest.mark.skipif(
    not (REAL / "MNIST").is_dir(), reason=f"no MNIST in {REAL.name}; set DYNAMOS_TEST_DATA"
)
def test_sweep_confirm_report_and_compare_on_real_mnist(tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        done = run(*arguments, "--storage", "runs", cwd=tmp_path, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    baseline = tmp_path / "baseline.yaml"
    for name, more in (
        ("a", ["--trials", "3", "--seeds", "2"]),
        ("b", ["--trials", "2", "--sampler", "random"]),
    ):
        said(
            "run",
            "--name",
            name,
            "--dataset",
            "seq-mnist",
            "--data-path",
            str(REAL),
            *more,
            "--set",
            *SMALL,
        )
    sweep = load_sweep("a", tmp_path / "runs")
    assert (sweep.trials["state"] == "COMPLETE").all() and sweep.best()["val_class_il"] > 100 / 6
    assert (sweep.results.groupby(["number", "seed"])["task"].max() == 3).all()
    baseline.write_text(
        (tmp_path / "runs" / "a" / "trials" / "0000" / "attempt-1" / "config.yaml").read_text()
    )
    told = " ".join(
        said("confirm", "a", "--seeds", "2", "--top", "1", "--baseline", str(baseline)).split()
    )
    assert (
        "2 fresh seeds each" in told
        and "test_class_il" in told
        and "used in 1 confirmation" in told
    )
    report, page = Path(said("report", "a").strip()), tmp_path / "runs" / "compare-a-b.html"
    told = said("compare", "a", "b")
    assert "after 2 trials" in told and str(page) in told.replace("\n", "")
    for width in WIDTHS.values():
        with opened(f"file://{report}", width) as (opened_page, complaints):
            is_whole(opened_page, complaints, report.read_text().count("<figure"))
            expect(opened_page.get_by_text("a-confirm-1: ")).to_be_visible()
        with opened(f"file://{page}", width) as (opened_page, complaints):
            is_whole(opened_page, complaints, 2)
