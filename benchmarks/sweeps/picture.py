"""Draw a sweep's trials and its confirmation as an SVG, from the CSV files in this folder.

python -m benchmarks.sweeps.picture mnist-360 --choice 21 --to docs/pictures/mnist-360.svg
"""

import argparse
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent
WIDTH, HEIGHT, LEFT, TOP = 720, 300, 46, 34
PANEL, GAP, DEPTH = 400, 60, 210  # width of the left panel, pixels between both, their height
STYLE = (
    "text { font: 12px sans-serif; fill: #444 } .title { font-weight: bold } "
    ".axis { stroke: #bbb } .trial { fill: #4c78a8 } .preset { fill: #e45756 } "
    ".choice { fill: #2a9d54 } .mean { stroke: #444; stroke-width: 2 }"
)


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stream")
    parser.add_argument("--choice", type=int, required=True, help="number of the chosen trial")
    parser.add_argument("--to", type=Path, required=True, help="file to write")
    given = parser.parse_args()
    trials = pd.read_csv(FOLDER / f"{given.stream}-trials.csv")
    runs = pd.read_csv(FOLDER / f"{given.stream}-confirm.csv")
    given.to.write_text(picture(trials, runs, given.choice))


def picture(trials: pd.DataFrame, runs: pd.DataFrame, choice: int) -> str:
    """Return the SVG.

    Args:
        trials: columns number and val_class_il, one run each on validation images.
        runs: columns configuration ("preset" or "choice"), seed and test_class_il.
        choice: number of the chosen trial.
    """
    found = [float(v) for v in (*trials["val_class_il"], *runs["test_class_il"])]
    low, high = 10 * (min(found) // 10), 100.0

    def y(value: float) -> float:
        return TOP + DEPTH * (high - value) / (high - low)

    parts = [_text(LEFT, 16, f"{len(trials)} trials, validation images, one seed each", "title")]
    right = LEFT + PANEL + GAP
    parts.append(_text(right, 16, "confirmation, test images", "title"))
    for tick in range(int(low), 101, 10):
        parts.append(_line(LEFT, y(tick), WIDTH - 10, y(tick), "axis"))
        parts.append(_text(14, y(tick) + 4, f"{tick}"))
    step = PANEL / (len(trials) + 1)
    for number, value in zip(trials["number"], trials["val_class_il"], strict=True):
        kind = "preset" if number == 0 else "choice" if number == choice else "trial"
        parts.append(_dot(LEFT + step * (number + 1), y(value), kind, f"trial {number}"))
    parts.append(_text(LEFT + step, y(low) + 20, "trial 0: the preset"))
    parts.append(_text(LEFT + PANEL - 110, y(low) + 20, f"trial {choice}: the choice"))
    for place, kind in enumerate(("preset", "choice")):
        own = runs[runs["configuration"] == kind]
        x = right + 60 + 110 * place
        for nth, (seed, value) in enumerate(zip(own["seed"], own["test_class_il"], strict=True)):
            parts.append(_dot(x + 6 * (nth - 3.5), y(value), kind, f"seed {seed}"))
        mean = float(own["test_class_il"].mean())
        parts.append(_line(x - 30, y(mean), x + 30, y(mean), "mean"))
        parts.append(_text(x - 40, y(low) + 20, f"{kind} {mean:.1f}"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, kind: str = "label") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{text}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _dot(x: float, y: float, kind: str, title: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="{kind}"><title>{title}</title></circle>'


if __name__ == "__main__":
    main()
