"""How the pictures look: one palette that colour-blind readers can tell apart, and two ways to write a figure to a file or a page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Lines and text are drawn in colours of their own, so that a page can give them its own ink and paper, light or dark.
INK, PAPER, FAINT = "#1b1c1d", "#fdfefd", "#8a8b8c"

# Okabe and Ito's colours (and a grey) that keep a contrast of 3 on white and on a dark page; lines differ in dashes and markers too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f7f7f")
DASHES = ("-", (0, (6, 2)), (0, (4, 1.5, 1, 1.5)), (0, (1.2, 1.5)), (0, (8, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")
SEQUENTIAL, DIVERGING = "cividis", "PuOr"

FORMATS = ("svg", "png")

_SETTINGS = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.4,
    "hatch.color": FAINT,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def style() -> Iterator[None]:
    """The settings of the house while figures are made and written; those of the caller come back afterwards."""
    with matplotlib.rc_context(_SETTINGS):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure (inches) that belongs to no window."""
    return Figure(figsize=(width, height), layout="constrained")


def as_file(figure: Figure, kind: str) -> bytes:
    """The figure as the content of an .svg or .png file, on white; the same bytes for the same figure."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {}
    with style(), matplotlib.rc_context({"svg.hashsalt": "thermokernels"}):
        figure.savefig(buffer, format=kind, facecolor="white", metadata=metadata)
    return buffer.getvalue()


def inline(figure: Figure, name: str) -> str:
    """The figure as an <svg> element for a page: transparent, in the page's ink, with ids that no other figure has."""
    buffer = io.BytesIO()
    with style(), matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, replacement in ((INK, "currentColor"), (PAPER, "var(--paper)"), (FAINT, "var(--faint)")):
        text = text.replace(colour, replacement)
    # The page gives the width; the height follows from the viewBox.
    opening, rest = text.split(">", 1)
    return re.sub(r' (?:height|width)="[^"]*"', "", opening) + ">" + rest
