"""A grid of models as a map of numbers, and dimensions against a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common.arrays import Floats
from thermokernels.plot.style import COLOURS, DIVERGING, FAINT, LETTERS, MARKERS, axes_of, captioned, matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Points above a map that the heads of its columns take.
HEADS = 20.0
# Heads of groups of columns, and the names of the columns in each.
Columns = Mapping[str, Sequence[str]]


def counts(values: ArrayLike, rows: Sequence[str], columns: Columns, *, ax: Axes | None = None, caption: bool = True) -> Axes:
    """A map of counts, such as the qualifying merge events of every cell of a grid; numbers stand out where they are not zero.

    Parameters
    ----------
    values : (n_rows, n_columns) counts, NaN for a cell without one, which is hatched
    rows : their names; columns : names of columns by the head of their group
    ax, caption : as in :func:`thermokernels.plot.disconnectivity`

    Raises
    ------
    ValueError
        Names that do not fit the values. ModuleNotFoundError: matplotlib is missing.

    Examples
    --------
    >>> import thermokernels as tk
    >>> ax = tk.plot.counts([[0, 2], [1, float("nan")]], ["m 4", "m 6"], {"half": ["0", "1"]})  # doctest: +SKIP
    """
    table = _table(values, rows, columns)
    with axes_of(ax, _height(rows)) as ax:
        highest = max(float(np.nanmax(table, initial=0.0)), 1.0)
        ax.set(xlim=(-0.5, table.shape[1] - 0.5), ylim=(table.shape[0] - 0.5, -0.5))
        for (i, j), value in np.ndenumerate(table):
            if not np.isfinite(value):
                continue
            if value > 0:
                shade = {"color": COLOURS[0], "alpha": 0.45 + 0.55 * value / highest, "linewidth": 0}
                ax.add_patch(_rectangle((j - 0.46, i - 0.46), 0.92, 0.92, **shade))
            look: dict[str, Any] = {"color": "white", "weight": "bold"} if value else {"color": FAINT}
            ax.text(j, i, f"{int(value)}", ha="center", va="center", fontsize=LETTERS, **look)
        _frame(ax, table, rows, columns)
        return captioned(ax, "qualifying-events", caption, above=HEADS)


def logarithms(values: ArrayLike, rows: Sequence[str], columns: Columns, *, ax: Axes | None = None, caption: bool = True) -> Axes:
    """A map of Q over a grid: the decimal logarithm of every value, written and coloured on either side of zero.

    Parameters, errors as of :func:`counts`; values that are not positive are hatched.

    Examples
    --------
    >>> import thermokernels as tk
    >>> ax = tk.plot.logarithms([[0.1, 2.0], [30.0, float("nan")]], ["m 4", "m 6"], {"half": ["0", "1"]})  # doctest: +SKIP
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        table = np.log10(_table(values, rows, columns))
    with axes_of(ax, _height(rows)) as ax:
        finite = table[np.isfinite(table)]
        low, high = min(float(finite.min(initial=0.0)), -1.0), max(float(finite.max(initial=0.0)), 1.0)
        from matplotlib.colors import TwoSlopeNorm

        scale, colours = TwoSlopeNorm(0.0, low, high), matplotlib().colormaps[DIVERGING]
        image = ax.imshow(np.ma.masked_invalid(table), cmap=colours, norm=scale, aspect="auto")
        for (i, j), value in np.ndenumerate(table):
            if np.isfinite(value):
                red, green, blue, _ = colours(scale(value))
                dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.5
                text = f"{value:.1f}".replace("-", "−")
                ax.text(j, i, text, ha="center", va="center", fontsize=LETTERS, color="white" if dark else "black")
        _frame(ax, table, rows, columns)
        bar = ax.figure.colorbar(image, ax=ax, label="log₁₀ Q", shrink=0.9, ticks=decades(low, high))
        bar.ax.minorticks_off()
        return captioned(ax, "q", caption, above=HEADS)


def decades(low: float, high: float) -> list[float]:
    """Ticks on both sides of zero: at least two on the longer side."""
    step = 2.0 ** np.floor(np.log2(max(high, -low) / 2))
    return [float(step * k) for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def dimensions(
    splits: Sequence[int],
    expected: Sequence[int],
    found: Mapping[str, Sequence[Sequence[int]]],
    *,
    ax: Axes | None = None,
    caption: bool = True,
) -> Axes:
    """Ranks and dimensions found at every split of a grid, least and greatest, on what is expected of them.

    Parameters
    ----------
    splits : (n,); expected : (n,) dimensions
    found : by the name of a dimension, what was found at each of the splits, in any number of places
    ax, caption : as in :func:`thermokernels.plot.disconnectivity`

    Raises
    ------
    ValueError
        Other than n lists of a dimension. ModuleNotFoundError: matplotlib is missing.

    Examples
    --------
    >>> import thermokernels as tk
    >>> ax = tk.plot.dimensions([1, 2], [7, 12], {"rank of J_u": [[7, 7], [12, 11]]})  # doctest: +SKIP
    """
    for name, lists in found.items():
        if not len(splits) == len(expected) == len(lists):
            raise ValueError(f"{name} must have what was found at each of {len(splits)} splits; it has {len(lists)} lists")
    with axes_of(ax, 3.4) as ax:
        ax.plot(splits, expected, color=FAINT, linewidth=4, label="r(2m − r)")
        for k, (name, lists) in enumerate(found.items()):
            low, high = ([pick(some) if len(some) else np.nan for some in lists] for pick in (min, max))
            ax.plot(splits, high, MARKERS[k], color=COLOURS[k], markersize=6 - 2 * k, label=name)
            ax.vlines(splits, low, high, color=COLOURS[k], linewidth=1.5)
        ax.set_xticks(list(splits))
        ax.set_xlabel("split s")
        ax.set_ylim(bottom=0)
        if caption:
            ax.set_ylabel("dimension")
            ax.legend()
        return captioned(ax, "ranks", caption)


def _table(values: ArrayLike, rows: Sequence[str], columns: Columns) -> Floats:
    table = np.asarray(values, dtype=np.float64)
    names = (len(rows), sum(map(len, columns.values())))
    if table.shape != names:
        raise ValueError(f"values must have shape {names}, as the names of rows and columns say; got shape {table.shape}")
    return table


def _height(rows: Sequence[str]) -> float:
    return 1.9 + 0.27 * len(rows)


def _rectangle(*place: Any, **look: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(*place, **look)


def _frame(ax: Axes, table: Floats, rows: Sequence[str], columns: Columns) -> None:
    """Names of rows and columns, lines between the groups, hatches where there is no number."""
    for i, j in np.argwhere(~np.isfinite(table)):
        ax.add_patch(_rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="////", linewidth=0))
    start = 0
    for head, names in columns.items():
        if start:
            ax.axvline(start - 0.5, color=FAINT, linewidth=0.8)
        ax.annotate(head, (start + (len(names) - 1) / 2, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3),
                    textcoords="offset points", ha="center", va="bottom", fontsize=LETTERS)  # fmt: skip
        start += len(names)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xticks(range(table.shape[1]), [name for names in columns.values() for name in names])
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(length=0)
