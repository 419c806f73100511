"""The pages in a real browser, at the widths of a desktop and of a phone."""

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from results.analysis.comparison import compared
from results.ledger.ledger import Ledger
from results.names import CHANNEL_USE
from results.pages.compare_page import write_comparison
from results.pages.report import write_report
from results.sweep import Sweep
from tests.helpers.browser import WIDTHS, needs_chromium, opened
from tests.helpers.ledgers import config, driven, swept

pytestmark = [pytest.mark.slow, needs_chromium]


def is_whole(page: Page, complaints: list[str], charts: int) -> None:
    """Assert that every chart is drawn, no error was logged and the page fits its window."""
    drawn = page.locator("figure").filter(has=page.locator(".main-svg"))
    expect(drawn).to_have_count(charts)
    for figure in drawn.all():
        box = figure.locator(".main-svg").first.bounding_box()
        assert box is not None and box["width"] > 300 and box["height"] > 200
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
        "wide things scroll by themselves"
    )


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
def test_a_report_draws_every_chart_without_a_network(tmp_path: Path, width: int) -> None:
    points = [
        {"lr": lr, "policy_penalty": -p}
        for lr, p in ((0.02, 20.0), (0.1, 90.0), (0.3, 500.0), (0.6, 40.0))
    ]
    made = swept(tmp_path, *points, values=(40, 60, 50, 70, 45))
    use = made.trial_folder(3) / "attempt-1" / "seed-42" / CHANNEL_USE
    use.parent.mkdir(parents=True)
    np.save(str(use), np.random.default_rng(0).random((10, 4, 8)))
    with opened(f"file://{write_report(made)}", width) as (page, complaints):
        # The search: history, by task, parallel coordinates, a slice for each of four fields,
        # compute; the best: four.
        is_whole(page, complaints, 12)
        links = page.get_by_role("navigation", name="Contents").locator("a")
        places = links.evaluate_all("links => links.map(link => link.hash.slice(1))")
        assert len(places) > 10 and page.evaluate(
            "ids => ids.every(id => document.getElementById(id))", places
        )
        paper = "document.querySelector('.chart').querySelector('.main-svg').style.background"
        light = page.evaluate(paper)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"{paper} !== {light!r}")
        assert page.evaluate(paper) == page.evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        expect(page.get_by_role("heading", name="Channels used by each class")).to_be_visible()
        expect(page.locator("text=Trial 3 is best with val_class_il 70.50")).to_be_visible()
        requests = page.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
        assert [name for name in requests if not name.startswith(("data:", "blob:"))] == []


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
def test_a_comparison_draws_its_curves(tmp_path: Path, width: int) -> None:
    sweeps = [
        Sweep.of(swept(tmp_path / name, {"lr": 0.1}, {"lr": 0.2}, values=values))
        for name, values in (("a", (40, 60, 50)), ("b", (45, 44, 58)))
    ]
    path = write_comparison(compared(sweeps), tmp_path / "compare.html")
    with opened(f"file://{path}", width) as (page, complaints):
        is_whole(page, complaints, 2)
        expect(page.get_by_role("cell", name="60.50 ± 0.71 (trial 1)").first).to_be_visible()


def test_an_empty_sweep_and_one_that_only_failed_have_a_page(tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(), {})) as made:
        with opened(f"file://{write_report(made)}", WIDTHS["phone"]) as (page, complaints):
            is_whole(page, complaints, 0)
            expect(
                page.locator("text=Charts of the search need two completed trials.")
            ).to_be_visible()
        made.finish(made.ask().number, "FAIL", "no data")
        with opened(f"file://{write_report(made)}", WIDTHS["phone"]) as (page, complaints):
            is_whole(page, complaints, 0)
            expect(page.get_by_role("cell", name="no data").first).to_be_visible()
