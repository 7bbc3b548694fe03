"""The picture of an ensemble: how every figure with a published value is distributed over the seed tables, and where that value falls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thermokernels.plot.style import COLOURS, INK, WIDTH, style

COLUMNS = 3

# Positive values that span more than this factor are shown on a logarithmic axis.
DECADES = 20.0


def ensemble(summary: Mapping[str, Any]) -> Figure:
    """A histogram a figure; the published value is the dashed line, with its percentile in the title."""
    shown = [figure for figure in summary["figures"] if figure["published"] is not None]
    n_rows = max(1, math.ceil(len(shown) / COLUMNS))
    with style():
        figure = Figure(figsize=(WIDTH, 1.75 * n_rows + 0.3), layout="constrained")
        panels = figure.subplots(n_rows, COLUMNS, squeeze=False).ravel()
        for axes, one in zip(panels, shown, strict=False):
            _draw(axes, one)
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
    return figure


def _draw(axes: Axes, one: Mapping[str, Any]) -> None:
    values, published = np.array(one["values"]), one["published"]
    low, high = min(values.min(), published), max(values.max(), published)
    if low > 0 and high > DECADES * low:
        axes.set_xscale("log")
        edges = np.geomspace(low, high * (1 + 1e-9), 21)
    elif (values == np.rint(values)).all():
        width = max(1, math.ceil((high - low + 1) / 20))
        edges = np.arange(math.floor(low), high + 1 + width, width) - 0.5
    else:
        edges = np.linspace(low, high, 21)
    axes.hist(values, bins=edges.tolist(), color=COLOURS[0])
    axes.axvline(published, color=INK, linestyle=(0, (4, 2)), linewidth=1.1)
    axes.set_title(f"{one['figure']}\npublished {published:.3g}: {one['percentile']:.0f} %", fontsize=7.5)
    axes.tick_params(labelsize=7)
