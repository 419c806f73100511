"""Parts of self-contained HTML pages, which need no network and have a dark scheme."""

import html
import re
from collections.abc import Collection, Iterable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import pandas as pd
from plotly.offline import get_plotlyjs

from results.pages.charts import TEMPLATE
from results.wording import number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_FILES = resources.files("results.pages")
PALETTE = _FILES.joinpath("palette.css").read_text()
_STYLE = PALETTE + _FILES.joinpath("page.css").read_text()
_DRAW = _FILES.joinpath("draw.js").read_text()


def page(title: str, parts: Iterable[str]) -> str:
    """Return the page of HTML parts, with a contents list and, for charts, their library."""
    body = "\n".join(parts)
    drawn = '<div class="chart' in body
    library, draw = (
        (f"<script>{get_plotlyjs()}</script>", f"<script>{_DRAW}</script>") if drawn else ("", "")
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>{library}</head>\n"
        f"<body>{_contents(body)}<main>{body}</main>{draw}</body></html>\n"
    )


def _contents(body: str) -> str:
    """Links to the headings of a page, level 2 and under each of them level 3."""
    sections: list[tuple[str, list[str]]] = []
    for level, place, text in re.findall(r'<h([23]) id="([^"]*)">(.*?)</h\1>', body):
        link = f'<a href="#{place}">{text}</a>'
        if level == "2":
            sections.append((link, []))
        else:
            sections[-1][1].append(f"<li>{link}</li>")
    items = [
        f"<li>{link}{f'<ol>{chr(10).join(inner)}</ol>' if inner else ''}</li>"
        for link, inner in sections
    ]
    return f'<nav aria-label="Contents"><ol>{"".join(items)}</ol></nav>' if items else ""


def heading(text: str, level: int = 2) -> str:
    """A heading, from level 2 on with an anchor for links."""
    place = f' id="{_place(text)}"' if level > 1 else ""
    return f"<h{level}{place}>{html.escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph: plain, or of the kinds lead, hint, stamp and caution."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def preformatted(text: str) -> str:
    """Preformatted text."""
    return f'<pre tabindex="0">{html.escape(text)}</pre>'


def folded(title: str, *parts: str) -> str:
    """Parts that a click unfolds."""
    return f"<details><summary>{html.escape(title)}</summary>{''.join(parts)}</details>"


def frame(content: pd.DataFrame) -> str:
    """A DataFrame as a table."""
    plain = content.astype(object).where(content.notna(), None)
    return table([str(name) for name in plain.columns], plain.to_numpy().tolist())


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], marked: Collection[int] = ()
) -> str:
    """Rows under columns as a table, which scrolls if it is too large.

    `marked` are indices of rows to highlight.
    """
    content = [list(row) for row in rows]
    kinds = [
        "num"
        if all(map(_figure, cells))
        else "text"
        if any(len(str(cell)) > 24 for cell in cells)
        else ""
        for cells in ([row[i] for row in content] for i in range(len(columns)))
    ]
    head = "".join(
        f"<th scope='col'{_kind(kind)}>{html.escape(name)}</th>"
        for name, kind in zip(columns, kinds, strict=True)
    )
    body = []
    for index, row in enumerate(content):
        first, *cells = (
            f"{_kind(kind)}>{html.escape(_shown(cell))}"
            for cell, kind in zip(row, kinds, strict=True)
        )
        body.append(
            f"<tr{_kind('marked' if index in marked else '')}><th scope='row'{first}</th>"
            + "".join(f"<td{cell}</td>" for cell in cells)
            + "</tr>"
        )
    label = html.escape(", ".join(columns[:3]))
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{label}">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{chr(10).join(body)}</tbody></table></div>"
    )


def chart(figure: "Figure", name: str, tall: bool = False, least: int = 0) -> str:
    """A figure as wide as the page; `name` describes it and is unique on the page.

    It scrolls sideways in a window narrower than `least` rem.
    """
    top = 40 if figure.layout.showlegend else 12
    figure.update_layout(
        margin={"t": top, "l": 10, "r": 10, "b": 10}, template=TEMPLATE, autosize=True
    )
    content = str(figure.to_json()).replace("<", "\\u003c")
    kind, style = (
        "chart tall" if tall else "chart",
        f' style="min-width: {least}rem"' if least else "",
    )
    label = html.escape(name)
    return (
        f'<figure tabindex="0" aria-label="{label}"><script '
        f'type="application/json">{content}</script><div class="{kind}" '
        f'data-name="{_place(name)}"{style}></div></figure>'
    )


def grid(charts: Iterable[str]) -> str:
    """Charts side by side, as many as fit into the window."""
    return f'<div class="grid">{"".join(charts)}</div>'


def _place(text: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")


def _kind(name: str) -> str:
    return f' class="{name}"' if name else ""


def _figure(value: Any) -> bool:
    """True if a cell holds a number or is empty."""
    return (
        value is None
        or value == ""
        or (isinstance(value, int | float) and not isinstance(value, bool))
        or (
            isinstance(value, str) and re.match(r"[-+−±]?\d", value) is not None and len(value) < 24
        )
    )


def _shown(value: Any) -> str:
    """A cell as text, "" for None."""
    return "" if value is None else number(value)
