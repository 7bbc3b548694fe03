"""A figure as a file, or as a part of a page in the page's own ink."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from thermokernels.plot.style import FAINT, INK, PAPER, style

FORMATS = ("svg", "png")


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
