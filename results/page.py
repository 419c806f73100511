"""Self-contained HTML pages: they open from a file and need no network."""

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from plotly.offline import get_plotlyjs

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_STYLE = """
:root {color-scheme: light}
body {font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; color: #1b1b1b;
  background: #fff; overflow-wrap: anywhere}
h1 {line-height: 1.2} h2 {margin-top: 2.5rem; border-bottom: 1px solid #ccc} h3 {margin-bottom: 0}
table {border-collapse: collapse; font-size: 14px; overflow-wrap: normal}
th, td {padding: .2rem .6rem; text-align: right; vertical-align: top} th:first-child, td:first-child {text-align: left}
tbody tr:nth-child(even) {background: #f4f4f4} caption {text-align: left; color: #555}
.wide {overflow-x: auto; max-width: 100%; margin: 1rem 0} .chart {min-width: 36rem; height: 28rem} .tall {height: 48rem}
.lead {font-size: 1.15rem} .stamp {background: #b00020; color: #fff; padding: .5rem 1rem; font-weight: 600}
.caution {border-left: 4px solid #c77700; padding-left: .8rem}
pre {overflow-x: auto; background: #f4f4f4; padding: .8rem; font-size: 13px}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """The page of parts, which are HTML; the charting library stands in it once if any of them is a chart."""
    body = "\n".join(parts)
    library = f"<script>{get_plotlyjs()}</script>" if '<div class="chart' in body else ""
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style>{library}</head>\n<body>{body}</body></html>\n")


def heading(text: str, level: int = 2) -> str:
    """A heading."""
    return f"<h{level}>{html.escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph: plain, or of the kinds lead, stamp and caution."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def preformatted(text: str) -> str:
    """Text as it stands."""
    return f"<pre>{html.escape(text)}</pre>"


def frame(content: pd.DataFrame) -> str:
    """A DataFrame as a table that scrolls sideways where it is too wide."""
    plain = content.astype(object).where(content.notna(), float("nan"))  # to_html writes pandas' own NA as a word
    shown = plain.to_html(index=False, na_rep="", float_format="{:.4g}".format, border=0)
    return f'<div class="wide" tabindex="0">{shown}</div>'


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows under columns as a table."""
    return frame(pd.DataFrame([list(row) for row in rows], columns=list(columns), dtype=object))


def chart(figure: "Figure", name: str, tall: bool = False) -> str:
    """A figure that follows the page's width; `name` tells it from the page's others and says what it shows."""
    figure.update_layout(title_text=None, margin={"t": 30, "l": 60, "r": 30}, template="plotly_white")
    # An id of its own, not a random one, so that the same sweep gives the same page.
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name.replace(" ", "-"),
                           config={"responsive": True, "displaylogo": False}, default_height="100%")
    kind = "chart tall" if tall else "chart"
    return (f'<figure class="wide" tabindex="0" aria-label="{html.escape(name)}"><div class="{kind}">{drawn}</div>'
            "</figure>")
