"""How the pictures look: one palette that colour-blind readers can tell apart, letters that can be read on a narrow screen."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from thermokernels.common.results import required
from thermokernels.plot.captions import CAPTIONS, caption_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Lines and text are drawn in colours of their own, so that a page can give them its own ink and paper, light or dark.
INK, PAPER, FAINT = "#1b1c1d", "#fdfefd", "#8a8b8c"

# Okabe and Ito's colours (and a grey) that keep a contrast of 3 on white and on a dark page; lines differ in dashes and markers too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f7f7f")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (4, 1.5, 1, 1.5)), (0, (1.2, 1.5)), (0, (8, 1, 1, 1, 1, 1)))
MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v")
SEQUENTIAL, DIVERGING = "cividis", "PuOr"

# Inches and points: on 460 pixels the letters of a whole picture are nine pixels high, of one beside another the same.
WIDTH = 7.0
LETTERS = 10.0
# Points that a letter of the caption takes on average, as a share of its height.
LETTER_WIDTH = 0.5

SETTINGS = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": LETTERS + 1,
    "font.family": "sans-serif",
    "font.size": LETTERS,
    "grid.color": FAINT,
    "grid.linewidth": 0.4,
    "hatch.color": FAINT,
    "legend.fontsize": LETTERS,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": LETTERS,
    "ytick.color": INK,
    "ytick.labelsize": LETTERS,
}


def matplotlib() -> Any:
    """The package; ModuleNotFoundError with one sentence where it is missing."""
    return required("matplotlib", "a picture", "'thermokernels[report]'")


@contextmanager
def style() -> Iterator[None]:
    """The settings of the house while figures are made and written; those of the caller come back afterwards."""
    settings: Any = matplotlib().rcParams
    before = {name: settings[name] for name in SETTINGS}
    settings.update(SETTINGS)
    try:
        yield
    finally:  # not rc_context: a backend that is loaded within, as a notebook's is, keeps what it has set
        settings.update(before)


@contextmanager
def axes_of(ax: Axes | None, height: float) -> Iterator[Axes]:
    """The axes to draw on: the caller's in the caller's style, or those of a new figure of pyplot, ``height`` inches high, in ours."""
    matplotlib()
    if ax is not None:
        yield ax
        return
    from matplotlib import pyplot

    with style():
        yield pyplot.subplots(figsize=(WIDTH, height), layout="constrained")[1]


def captioned(ax: Axes, name: str, caption: bool, above: float = 6.0, **facts: Any) -> Axes:
    """The title of a picture, so many points above the axes, and beneath them what is seen, in lines of their width."""
    if not caption:
        return ax
    ax.set_title(CAPTIONS[name][0], loc="left", pad=above)
    figure: Any = ax.get_figure(root=True)
    inches = figure.get_figwidth() * (ax.get_position().width + 0.08)
    lines = textwrap.fill(caption_of(name, **facts), max(24, int(72 * inches / (LETTER_WIDTH * LETTERS))))
    label: Any = ax.xaxis.label
    if not label.get_text():
        label.set_text(" ")
    place: Any = ("axes fraction", label)
    ax.annotate(lines, (0, 0), xycoords=place, xytext=(0, -6), textcoords="offset points", va="top", fontsize=LETTERS, gid="caption")
    return ax
