"""Draw the pictures of the documentation: the terminal, the page and the report of a sweep.

python -m docs.draw_pictures --storage runs --sweep first
"""

import argparse
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.text import Text

FOLDER = Path(__file__).parent / "pictures"
COLUMNS, LINES = 168, 14  # of the terminal
DESKTOP, PHONE = (1280, 860), (390, 844)  # CSS pixels
START_SECONDS = 120


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description="Draw the pictures of the documentation.")
    parser.add_argument("--storage", type=Path, default=Path("runs"))
    parser.add_argument("--sweep", default="first")
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("there is no chromium here (Debian: apt install chromium)")
    where = ["--storage", str(given.storage)]
    draw_terminal(_command("show", given.sweep, *where))
    subprocess.run(_command("report", given.sweep, *where), check=True, stdout=subprocess.DEVNULL)
    report = (given.storage / given.sweep / "report.html").resolve()
    with sync_playwright() as playwright, served(given.storage) as url:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, size, scheme in (
            ("page-light", DESKTOP, "light"),
            ("page-dark", DESKTOP, "dark"),
            ("page-phone", PHONE, "light"),
        ):
            photograph(browser, f"{url}/#/sweep/{given.sweep}", name, size, scheme)
        photograph(browser, f"file://{report}", "report", DESKTOP, "light")
        browser.close()


def draw_terminal(command: list[str]) -> None:
    """Draw the output of a command as an SVG of a terminal."""
    environment = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ " + " ".join(["dynamos-sweep", *command[3:5]]), style="bold"))
    console.print(Text.from_ansi("\n".join([*done.stdout.splitlines()[:LINES], "..."])))
    drawn = console.export_svg(title="dynamos-sweep")
    # Rich's fonts lie on another server.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    (FOLDER / "terminal.svg").write_text(drawn)


def photograph(browser: Browser, url: str, name: str, size: tuple[int, int], scheme: str) -> None:
    """Save the first screen of the service's page, or of a report's charts, as NAME.png."""
    width, height = size
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page.set_default_timeout(START_SECONDS * 1000)
    page.goto(url, wait_until="load")
    if url.startswith("http"):
        page.get_by_text("finished").first.wait_for()
    else:
        page.get_by_role("heading", name="The search").evaluate(
            "heading => heading.scrollIntoView()"
        )
    page.wait_for_timeout(3000)  # charts are drawn
    page.screenshot(path=FOLDER / f"{name}.png")
    page.close()


@contextmanager
def served(storage: Path) -> Iterator[str]:
    """Yield the address of a service over a storage folder."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    service = subprocess.Popen(_command("serve", "--storage", str(storage), "--port", str(port)))
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{url}/readyz", timeout=5)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        yield url
    finally:
        service.terminate()
        service.wait()


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tune.cli", *words]


if __name__ == "__main__":
    main()
