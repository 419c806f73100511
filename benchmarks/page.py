"""Speed of the service's page with a sweep of many trials, in a real browser.

    python -m benchmarks.page [--trials 5000] [--seconds 30]

The sweep grows by a trial each second while its page is open. Times are from the browser's
clock.
"""

import argparse

from benchmarks.service import NAME, running
from tests.helpers.browser import opened

ROW = "[data-testid=trial-row]"
# Tasks of more than 50 ms delay the reader's input (W3C, Long Tasks API).
WATCH = """window.long = [];
const observer = new PerformanceObserver((list) =>
  long.push(...list.getEntries().map((entry) => entry.duration)));
observer.observe({type: 'longtask'})"""


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    with (
        running(given.trials) as (url, _),
        opened(f"{url}/#/sweep/{NAME}", 1280) as (page, complaints),
    ):
        page.locator(ROW).first.wait_for(timeout=120_000)
        shown = page.evaluate("performance.now()")
        page.evaluate(WATCH)
        page.wait_for_timeout(1000 * given.seconds)
        tasks = page.evaluate("long")
        before = page.evaluate("performance.now()")
        first = page.locator(ROW).first.inner_text()
        page.get_by_role("button", name="val_class_il", exact=True).first.click()
        page.wait_for_function(
            "([row, first]) => document.querySelector(row).innerText !== first", arg=[ROW, first]
        )
        sorted_in = page.evaluate("performance.now()") - before
        heap = page.evaluate("performance.memory.usedJSHeapSize")
        assert not complaints, complaints
    print(
        f"{given.trials} trials: the table is there {shown / 1e3:.1f} s after the address was "
        f"opened, and sorted {sorted_in:.0f} ms after a click"
    )
    print(
        f"in {given.seconds:g} s of a running sweep: {len(tasks)} tasks of more than 50 ms, "
        f"{sum(tasks):.0f} ms in all, the longest {max(tasks, default=0):.0f} ms; {heap / 1e6:.0f} "
        "MB"
    )


if __name__ == "__main__":
    main()
