"""A comparison of sweeps as one self-contained HTML page."""

from collections.abc import Iterator

from dynamos.files import AnyPath, write_whole
from results.analysis.comparison import BUDGETS, Compared, comparison_rows, comparison_sentences
from results.definition.protocols import NOT_PUBLISHABLE
from results.pages import charts
from results.pages.html import chart, heading, page, paragraph
from results.pages.html import table as html_table

_SPENT = {"trials": "trials ended", "cpu_seconds": "CPU seconds", "gpu_seconds": "GPU seconds"}


def write_comparison(sweeps: list[Compared], path: AnyPath) -> AnyPath:
    """Write the page: the best of each sweep, its course over cost, the fields that differ."""
    names = [sweep.name for sweep in sweeps]
    settings, found, shifted = comparison_rows(sweeps)
    parts = [
        heading(f"Sweeps {', '.join(names)}", 1),
        *(
            paragraph(f"{sweep.name}: {NOT_PUBLISHABLE}", "stamp")
            for sweep in sweeps
            if not sweep.config.publishable
        ),
        *(paragraph(text, "caution") for text in comparison_sentences(sweeps)),
        heading("Best trial of each sweep"),
        html_table(
            ["mean ± standard deviation over seeds", *names], [(what, *of) for what, of in found]
        ),
        heading("Best so far"),
        *_curves(sweeps),
    ]
    if shifted:
        parts += [
            heading("Parameters that differ between the best trials"),
            html_table(["", *names], [(what, *of) for what, of in shifted]),
        ]
    parts += [
        heading("Settings and cost"),
        html_table(["", *names], [(what, *of) for what, of in settings]),
    ]
    return write_whole(path, page(f"Sweeps {', '.join(names)}", parts))


def _curves(sweeps: list[Compared]) -> Iterator[str]:
    """A chart per kind of budget that was used."""
    metric = sweeps[0].config.objectives[0].metric
    drawn = False
    for kind in BUDGETS:
        curves = {
            sweep.name: [
                (step.spent(kind), step.best.value, step.best.number)
                for step in sweep.steps
                if step.best is not None and step.best.value is not None
            ]
            for sweep in sweeps
        }
        if any(point[0] for points in curves.values() for point in points):
            drawn = True
            yield chart(charts.anytime(curves, _SPENT[kind], metric), f"best by {_SPENT[kind]}")
    if not drawn:
        yield paragraph("No trial has completed yet.")
