"""The service's page in a real browser, with a real service and real sweeps."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from results.ledger.ledger import Ledger
from tests.helpers.browser import WIDTHS, needs_chromium, opened
from tests.helpers.ledgers import complete, config, confirmed, driven
from tests.helpers.processes import wait_for
from tests.helpers.service import BASE, Service
from tests.tune.service.test_life import SWEEP, cleaned

pytestmark = [pytest.mark.slow, needs_chromium]
SLOW_MILLISECONDS = 120_000


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Source of axe-core."""
    if shutil.which("npm") is None:
        pytest.skip("axe-core comes by npm, which is not here")
    folder = tmp_path_factory.mktemp("axe")
    packed = subprocess.run(
        ["npm", "pack", "axe-core@4", "--silent"], cwd=folder, capture_output=True, text=True
    )
    if packed.returncode:
        pytest.skip(f"axe-core could not be fetched: {packed.stderr[-200:]}")
    subprocess.run(["tar", "xf", packed.stdout.strip()], cwd=folder, check=True)
    return (folder / "package" / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a finished sweep and a running one."""
    storage = tmp_path_factory.mktemp("page") / "runs"
    with cleaned(storage, "a"), Service(storage) as made:
        made.client.create({"name": "done", "trials": 4, "base": BASE})
        wait_for(lambda: made.client.sweep("done")["state"] == "finished")
        made.client.create(SWEEP)
        wait_for(lambda: made.client.sweep("a")["counts"]["complete"] == 2)
        yield made


@pytest.fixture(autouse=True)
def patient() -> Iterator[None]:
    """Allow the browser more time, because sweeps train beside it."""
    expect.set_options(timeout=SLOW_MILLISECONDS)
    yield
    expect.set_options(timeout=5000)


def faults(page: Page, axe: str) -> list[str]:
    """Serious and critical findings of axe."""
    page.evaluate(axe)  # through the protocol, for the page's own policy lets no script in
    found = page.evaluate("""async () => (await axe.run()).violations
        .filter(v => ['serious', 'critical'].includes(v.impact))
        .map(v => `${v.id}: ${v.nodes.map(n => n.target.join(' ')).join(', ')}`)""")
    return list(found)


def fits(page: Page) -> bool:
    """True if nothing makes the page wider than its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
def test_every_view_is_whole_fits_and_is_accessible(service: Service, axe: str, width: int) -> None:
    with opened(service.url, width) as (page, complaints):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for view, awaited in (
                ("#/", "sweep-row"),
                ("#/new", "form-start"),
                ("#/sweep/done", "best-config"),
                ("#/sweep/done/trial/1", "trial-detail"),
                ("#/compare?sweeps=done,a", None),
                ("docs", None),
            ):
                page.goto(f"{service.url}/{view}")
                if awaited is not None:
                    expect(page.get_by_test_id(awaited).first).to_be_visible()
                else:
                    expect(page.get_by_role("heading", level=1)).to_contain_text(
                        "API" if view == "docs" else "Compar"
                    )
                page.wait_for_timeout(500)
                assert faults(page, axe) == [], (view, scheme)
                assert fits(page), view
        assert complaints == []


def test_a_sweep_from_the_form_to_its_report(service: Service, tmp_path: Path) -> None:
    with opened(service.url, WIDTHS["desktop"]) as (page, complaints):
        page.set_default_timeout(SLOW_MILLISECONDS)
        page.get_by_test_id("new-sweep").click()
        page.get_by_test_id("form-name").fill("mine")
        page.get_by_test_id("form-trials").fill("3")
        page.get_by_test_id("form-check").click()
        expect(page.get_by_text("preset").first).to_be_visible()
        expect(page.get_by_test_id("form-notes")).to_contain_text("noisy draws at random")
        page.get_by_test_id("form-start").click()
        expect(page.get_by_test_id("sweep-state").first).to_contain_text("running")
        expect(page.get_by_test_id("stop-trial").first).to_be_visible()
        page.get_by_test_id("stop-trial").first.click()
        wait_for(
            lambda: any(t["reason"] == "stopped on request" for t in service.client.trials("mine"))
        )
        expect(page.get_by_text("stopped on request").first).to_be_visible()
        page.get_by_test_id("stop-sweep").click()
        page.get_by_test_id("dialog-yes").click()
        expect(page.get_by_test_id("sweep-state").first).to_contain_text("stopped")
        page.goto(f"{service.url}/#/sweep/done")
        expect(page.get_by_test_id("health")).to_contain_text(
            "Next: Extend the sweep with trials +"
        )
        best = service.client.sweep("done")["best"]
        expect(page.get_by_test_id("best-value").first).to_contain_text(f"{best['value']:.4g}"[:4])
        expect(page.get_by_test_id("best-config")).to_contain_text("lr")
        with page.context.expect_page() as opening:
            page.get_by_test_id("report-link").click()
        report = opening.value
        expect(report.get_by_role("heading", name="Sweep done")).to_be_visible()
        expect(report.locator(".main-svg").first).to_be_visible()
        assert complaints == []


def test_a_number_that_is_missing_or_too_small_is_asked_for(tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(trials=1), {})) as ledger:
        complete(ledger, 80)
    with (
        Service(tmp_path) as service,
        opened(f"{service.url}/#/sweep/s", WIDTHS["desktop"]) as (page, complaints),
    ):
        problem = page.get_by_test_id("action-error")
        for value, told in (
            ("", "Trials to add: enter a number."),
            ("0", "Trials to add: Value must be"),
        ):
            page.get_by_label("Trials to add").fill(value)
            page.get_by_test_id("extend-sweep").click()
            expect(problem).to_contain_text(told)
        page.get_by_test_id("confirm-sweep").click()
        page.get_by_label("Fresh seeds").fill("")
        page.get_by_test_id("dialog-yes").click()
        expect(problem).to_contain_text("Fresh seeds: enter a number.")
        assert complaints == [] and [f.name for f in tmp_path.iterdir() if f.is_dir()] == ["s"]


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
def test_tags_and_note_are_edited_and_the_sweep_deleted(
    width: int, axe: str, tmp_path: Path
) -> None:
    with driven(Ledger.create(tmp_path, config(), {})) as ledger:
        complete(ledger, 80)
        ledger.label({"team": "vision", "constructor": "1"}, "first\nsecond")
    with (
        Service(tmp_path) as service,
        opened(f"{service.url}/#/sweep/s", width) as (page, complaints),
    ):
        expect(page.get_by_test_id("sweep-labels")).to_have_text("Tags: constructor=1, team=vision")
        page.get_by_test_id("edit-sweep").focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Edit tags and note of s")
        expect(dialog.get_by_label("Tags")).to_be_focused()
        expect(dialog.get_by_label("Note")).to_have_value("first\nsecond")
        assert faults(page, axe) == [] and fits(page)
        dialog.get_by_label("Tags").fill("team = a=b\nlonely")
        dialog.get_by_label("Note").fill("kept")
        dialog.get_by_test_id("dialog-yes").click()
        expect(dialog.get_by_test_id("edit-error")).to_have_text(
            "lonely is not a tag; write NAME=VALUE."
        )
        expect(dialog.get_by_label("Note")).to_have_value("kept")
        dialog.get_by_label("Tags").fill("team = a=b\n")
        dialog.get_by_test_id("dialog-yes").click()
        expect(page.get_by_test_id("sweep-labels")).to_have_text("Tags: team=a=b")
        expect(page.get_by_test_id("sweep-note")).to_have_text("kept")
        expect(page.get_by_test_id("edit-sweep")).to_be_focused()
        told = service.client.sweep("s")
        assert (told["tags"], told["note"]) == ({"team": "a=b"}, "kept") and fits(page)

        page.get_by_test_id("delete-sweep").click()
        dialog = page.get_by_role("dialog", name="Delete s?")
        expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        assert faults(page, axe) == [] and fits(page)
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        assert service.client.sweep("s")["name"] == "s"
        page.get_by_test_id("delete-sweep").click()
        dialog.get_by_role("button", name="Delete s").click()
        expect(page.get_by_text("No sweeps yet")).to_be_visible()
        assert not (tmp_path / "s").exists() and complaints == []


def test_charts_show_of_what_another_sweep_ran_the_chosen_and_the_first(tmp_path: Path) -> None:
    same = {"data_hash": "d", "validation_hash": "v"}
    points = tuple({"lr": lr} for lr in (0.01, 0.02, 0.04))
    with driven(Ledger.create(tmp_path, config("old", points=points), same)) as ledger:
        for value in (50, 90, 60, 70):
            complete(ledger, value)
    with driven(Ledger.create(tmp_path, config("new", warm_start="old"), same)) as ledger:
        assert [t.value for t in ledger.trials()] == [50, 90, 70, 60]
        complete(ledger, 55)
    with (
        Service(tmp_path) as service,
        opened(f"{service.url}/#/sweep/new", WIDTHS["desktop"]) as (page, complaints),
    ):
        progress = page.get_by_role("img", name="Best so far")
        expect(progress).to_have_accessible_name(
            re.compile("90 in trial 1.* of 3 complete trials; the first had 50")
        )
        parameters = page.get_by_role("img", name="Parameters and value")
        expect(parameters).to_have_accessible_name(re.compile("3 complete trials"))
        page.goto(f"{service.url}/#/sweep/new/trial/3")  # which is drawn nowhere else
        expect(page.get_by_role("img", name="After each task")).to_have_accessible_name(
            re.compile("trial 3: 60")
        )
        assert complaints == []


def test_on_a_confirmations_page_nothing_can_be_chosen(tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    confirmed(storage, [80.0, 82.0], [83.0, 84.5])
    with (
        Service(storage) as service,
        opened(f"{service.url}/#/sweep/s-confirm-1", WIDTHS["desktop"]) as (page, complaints),
    ):
        expect(page.get_by_text("which the sweep chose, is better")).to_be_visible()
        for part in ("confirm-sweep", "extend-sweep", "report-link", "best-value", "best-config"):
            expect(page.get_by_test_id(part)).to_be_hidden()
        assert complaints == []


def test_the_page_comes_back_when_the_service_does(service: Service, tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    first = Service(storage)
    with opened(first.url, WIDTHS["desktop"]) as (page, _):
        expect(page.get_by_test_id("connection")).to_contain_text("live")
        first.send(signal.SIGKILL)
        expect(page.get_by_test_id("connection")).to_contain_text("reconnecting")
        first.over()
        with Service(storage, port=int(first.url.rpartition(":")[2])):
            expect(page.get_by_test_id("connection")).to_contain_text("live")


def test_with_a_token_the_page_asks_for_it(tmp_path: Path) -> None:
    token = os.urandom(16).hex()
    (tmp_path / "token").write_text(token)
    with (
        Service(
            tmp_path / "runs", "--token-file", str(tmp_path / "token"), "--host", "0.0.0.0"
        ) as service,
        opened(service.url.replace("0.0.0.0", "127.0.0.1"), WIDTHS["phone"]) as (page, _),
    ):
        page.get_by_test_id("token-input").fill(token)
        page.get_by_test_id("token-save").click()
        expect(page.get_by_test_id("connection")).to_contain_text("live")
        assert token not in page.content() and token not in page.url
