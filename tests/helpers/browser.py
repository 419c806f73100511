"""Pages in a real browser: Debian's chromium, headless."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SLOW_MILLISECONDS = 120_000  # for a browser beside other work
WIDTHS = {"desktop": 1280, "phone": 390}  # CSS pixels

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium here (Debian: apt install chromium)"
)


@contextmanager
def opened(
    url: str, width: int, scheme: Literal["light", "dark"] = "light"
) -> Iterator[tuple[Page, list[str]]]:
    """Yields (page, its errors and warnings so far) for a window width and a colour scheme."""
    expect.set_options(timeout=SLOW_MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(SLOW_MILLISECONDS)
        complaints: list[str] = []
        page.on(
            "console",
            lambda said: (
                complaints.append(said.text) if said.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        yield page, complaints
        browser.close()
