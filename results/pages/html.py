"""Parts of self-contained HTML pages, which need no network and follow the reader's colour scheme."""

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

PALETTE = resources.files("results.pages").joinpath("palette.css").read_text()
_STYLE = PALETTE + """
* {box-sizing: border-box}
body {font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 62rem; color: var(--ink);
  background: var(--paper); overflow-wrap: anywhere}
h1 {line-height: 1.2; margin-top: 0} h2 {margin-top: 2.5rem; border-bottom: 1px solid var(--line)}
h3 {margin: 1.5rem 0 .25rem} a {color: var(--accent)} :focus-visible {outline: 3px solid var(--accent)}
nav {font-size: .9rem; margin-bottom: 1.5rem} nav ol {list-style: none; margin: 0; padding: 0}
nav > ol {display: flex; flex-wrap: wrap; gap: .1rem 1rem} nav ol ol {display: none}
table {border-collapse: collapse; font-size: 14px; overflow-wrap: normal}
th, td {padding: .25rem .7rem; text-align: left; vertical-align: top; font-weight: 400;
  border-bottom: 1px solid var(--line)}
thead th {font-weight: 700; background: var(--panel); position: sticky; top: 0; white-space: nowrap}
.num {text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums} .text {min-width: 16rem}
tbody th {position: sticky; left: 0; background: var(--paper)}
tbody tr:hover {background: var(--panel)} tr.marked > * {font-weight: 700; background: var(--panel)}
.wide {overflow: auto; max-width: 100%; max-height: 36rem; margin: 1rem 0}
figure {margin: .5rem 0 1rem; overflow-x: auto} .chart {height: 27rem} .tall {height: 50rem}
.grid {display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: 0 1rem}
.grid .chart {height: 19rem}
.lead {font-size: 1.15rem} .hint {color: var(--muted); font-size: .9rem}
.stamp {background: var(--bad); color: var(--paper); padding: .5rem 1rem; font-weight: 600}
.caution {border-left: 4px solid var(--second); padding-left: .8rem}
pre {overflow-x: auto; background: var(--panel); padding: .8rem; font-size: 13px; margin: .5rem 0}
summary {cursor: pointer; font-weight: 700}
@media (min-width: 75rem) {
  body {max-width: 82rem; display: grid; grid-template-columns: 14rem minmax(0, 1fr); gap: 2rem}
  nav {position: sticky; top: 1rem; align-self: start; max-height: calc(100vh - 2rem); overflow: auto}
  nav > ol {display: block} nav ol ol {display: block; padding-left: 1rem} nav li {padding: .1rem 0}
}
@media print {nav {display: none} .wide {max-height: none}}
"""
# Sets the colours of every figure from the scheme, also when it changes; a figure names them as a style sheet would.
# Draws one figure at a time, so that the page can be read meanwhile.
_DRAW = """
const dark = matchMedia('(prefers-color-scheme: dark)');
async function draw() {
  const css = getComputedStyle(document.documentElement);
  for (const box of document.querySelectorAll('.chart')) {
    await new Promise((resolve) => setTimeout(resolve));
    const text = box.previousElementSibling.textContent;
    const figure = JSON.parse(text.replace(/var\\((--[a-z]+)\\)/g, (_, name) => css.getPropertyValue(name).trim()));
    Plotly.react(box, figure.data, figure.layout, {responsive: true, displaylogo: false,
      modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d'],
      toImageButtonOptions: {format: 'svg', filename: box.dataset.name}});
  }
}
dark.addEventListener('change', draw);
draw();
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return the page of HTML parts, with links to its headings and, if a part is a chart, the charting library."""
    body = "\n".join(parts)
    drawn = '<div class="chart' in body
    library, draw = (f"<script>{get_plotlyjs()}</script>", f"<script>{_DRAW}</script>") if drawn else ("", "")
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style>{library}</head>\n"
            f"<body>{_contents(body)}<main>{body}</main>{draw}</body></html>\n")


def _contents(body: str) -> str:
    """Links to the headings of a page, level 2 and under each of them level 3."""
    sections: list[tuple[str, list[str]]] = []
    for level, place, text in re.findall(r'<h([23]) id="([^"]*)">(.*?)</h\1>', body):
        link = f'<a href="#{place}">{text}</a>'
        if level == "2":
            sections.append((link, []))
        else:
            sections[-1][1].append(f"<li>{link}</li>")
    items = [f"<li>{link}{f'<ol>{chr(10).join(inner)}</ol>' if inner else ''}</li>" for link, inner in sections]
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


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], marked: Collection[int] = ()) -> str:
    """Rows under columns as a table, which scrolls if it is too large; `marked` are indices of rows to highlight."""
    content = [list(row) for row in rows]
    kinds = ["num" if all(map(_figure, cells)) else "text" if any(len(str(cell)) > 24 for cell in cells) else ""
             for cells in ([row[i] for row in content] for i in range(len(columns)))]
    head = "".join(f"<th scope='col'{_kind(kind)}>{html.escape(name)}</th>"
                   for name, kind in zip(columns, kinds, strict=True))
    body = []
    for index, row in enumerate(content):
        first, *cells = (f"{_kind(kind)}>{html.escape(_shown(cell))}" for cell, kind in zip(row, kinds, strict=True))
        body.append(f"<tr{_kind('marked' if index in marked else '')}><th scope='row'{first}</th>"
                    + "".join(f"<td{cell}</td>" for cell in cells) + "</tr>")
    return (f'<div class="wide" tabindex="0" role="region" aria-label="{html.escape(", ".join(columns[:3]))}">'
            f"<table><thead><tr>{head}</tr></thead>\n<tbody>{chr(10).join(body)}</tbody></table></div>")


def chart(figure: "Figure", name: str, tall: bool = False, least: int = 0) -> str:
    """A figure as wide as the page; `name` describes it and is unique on the page.

    It scrolls sideways in a window narrower than `least` rem.
    """
    top = 40 if figure.layout.showlegend else 12
    figure.update_layout(margin={"t": top, "l": 10, "r": 10, "b": 10}, template=TEMPLATE, autosize=True)
    content = str(figure.to_json()).replace("<", "\\u003c")
    kind, style = "chart tall" if tall else "chart", f' style="min-width: {least}rem"' if least else ""
    label = html.escape(name)
    return (f'<figure tabindex="0" aria-label="{label}"><script type="application/json">{content}</script>'
            f'<div class="{kind}" data-name="{_place(name)}"{style}></div></figure>')


def grid(charts: Iterable[str]) -> str:
    """Charts side by side, as many as fit into the window."""
    return f'<div class="grid">{"".join(charts)}</div>'


def _place(text: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")


def _kind(name: str) -> str:
    return f' class="{name}"' if name else ""


def _figure(value: Any) -> bool:
    """Whether a cell holds a number or is empty."""
    return value is None or value == "" or (isinstance(value, int | float) and not isinstance(value, bool)) or (
        isinstance(value, str) and re.match(r"[-+−±]?\d", value) is not None and len(value) < 24)


def _shown(value: Any) -> str:
    """A cell as text, "" for None."""
    return "" if value is None else number(value)
