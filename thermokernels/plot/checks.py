"""A gradient check: how far differences are from the derivative by hand, against their step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thermokernels.plot.style import COLOURS, DASHES, FAINT, LETTERS, MARKERS, axes_of, captioned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A leg that is exact to the last bit is drawn here.
LEAST_ERROR = 1e-17


def gradient_errors(
    directions: Sequence[Mapping[str, Any]],
    steps: Sequence[float],
    gates: Mapping[str, float],
    *,
    ax: Axes | None = None,
    caption: bool = True,
) -> Axes:
    """The relative error of every leg of a gradient check against the step h of the central differences.

    Parameters
    ----------
    directions : records with ``index``, ``difference_errors`` (one a step) and perhaps ``complex_error``, ``automatic_error``
    steps : the steps h; gates : by name, "difference" and "complex", the errors that are allowed
    ax, caption : as in :func:`thermokernels.plot.disconnectivity`

    Raises
    ------
    ValueError
        A direction has not one error a step. ModuleNotFoundError: matplotlib is missing.

    Examples
    --------
    >>> import thermokernels as tk
    >>> one = {"index": 0, "difference_errors": [1e-4, 1e-6, 1e-8], "complex_error": 1e-15}
    >>> ax = tk.plot.gradient_errors([one], [1e-2, 1e-3, 1e-4], {"difference": 1e-5, "complex": 1e-10})  # doctest: +SKIP
    """
    for direction in directions:
        if len(direction["difference_errors"]) != len(steps):
            raise ValueError(f"difference_errors must hold an error for each of {len(steps)} steps; one direction does not")
    smallest = min(steps) / 20
    with axes_of(ax, 4.2) as ax:
        for direction in directions:
            k = direction["index"] % len(COLOURS)
            line: dict[str, Any] = {"color": COLOURS[k], "linestyle": DASHES[k], "marker": MARKERS[k], "markersize": 4, "linewidth": 1.2}
            ax.plot(steps, direction["difference_errors"], label=f"direction {direction['index'] + 1}", **line)
            for key, marker in (("complex_error", MARKERS[k]), ("automatic_error", "x")):
                if direction.get(key) is not None:
                    ax.plot([smallest], [max(direction[key], LEAST_ERROR)], marker, color=COLOURS[k], markersize=5)
        for key, text in (("difference", "gate of the differences"), ("complex", "gate of the complex step")):
            ax.axhline(gates[key], color=FAINT, linewidth=0.8)
            place = (max(steps), gates[key])
            ax.annotate(text, place, xytext=(0, 2), textcoords="offset points", fontsize=LETTERS, ha="right")
        ax.set_xscale("log")
        ax.set_yscale("log")
        # a label a decade at most: more of them would touch
        decades = np.unique(np.round(np.log10(steps)).astype(int), return_index=True)[1]
        named = [steps[k] for k in sorted(decades)]
        ax.set_xticks([smallest, *named], ["complex\nstep", *(f"{step:.0e}".replace("e-0", "e−") for step in named)])
        ax.minorticks_off()
        ax.set_xlabel("step h of the central differences")
        ax.set_ylabel("relative error")
        ax.legend()
        return captioned(ax, "gradient-errors", caption)
