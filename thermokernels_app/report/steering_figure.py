"""The picture of a run of the steering: what every objective costs and gains, and how it goes there."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thermokernels.plot.style import COLOURS, DASHES, FAINT, INK, MARKERS, WIDTH, style
from thermokernels_app.judges.verdicts import p6_steering
from thermokernels_app.report.screens.steering_tables import KINDS

Document = Mapping[str, Any]


def steering(document: Document) -> Figure:
    """Above: every training beside that of its seed with lambda = 0; below: medians over the seeds along the training."""
    sizes = document["design"]["sizes"]
    with style():
        figure = Figure(figsize=(WIDTH, 6.8), layout="constrained")
        panels = figure.subplots(2, len(sizes), sharey="row", squeeze=False)
        for column, m in enumerate(sizes):
            tables = [cell for cell in document["cells"] if cell["m"] == m and cell["status"] == "ok"]
            _draw_ends(panels[0, column], tables, document["design"])
            _draw_ways(panels[1, column], tables)
            panels[0, column].set_title(f"m = {m}, {len(tables)} seed tables")
        panels[0, 0].set_ylabel("gain: mean log Q − that with λ = 0")
        panels[1, 0].set_ylabel("log$_{10}$ Q, mean over codes")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 3))
    return figure


def _draw_ends(axes: Axes, tables: list[Document], design: Document) -> None:
    axes.set_xscale("log")
    axes.axhline(0.0, color=FAINT, linewidth=0.6)
    axes.axvline(design["cost"], color=INK, linewidth=0.7, linestyle=(0, (1, 3)))
    axes.axhline(design["gain"], color=INK, linewidth=0.7, linestyle=(0, (1, 3)))
    axes.set_xlabel("mean KL over that with λ = 0\n(the bar: left of the dots, above them)")
    for n in range(1, len(tables[0]["runs"]) if tables else 0):
        pairs = [(p6_steering.free_run(cell), cell["runs"][n]) for cell in tables]
        costs, gains = ([measure(*pair) for pair in pairs] for measure in (p6_steering.cost, p6_steering.gain))
        colour, marker, _ = _look(n)
        name = KINDS[pairs[0][1]["kind"]].format(pairs[0][1]["number"])
        axes.scatter(
            costs, gains, s=14, color=colour, marker=marker, linewidths=0, alpha=0.8, label=name.replace("lambda", "λ").replace(">=", "≥")
        )


def _draw_ways(axes: Axes, tables: list[Document]) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("mean KL (nats) along the training,\nright to left")
    for n in range(len(tables[0]["runs"]) if tables else 0):
        curves = [cell["runs"][n]["curve"] for cell in tables]
        kl = [math.exp(statistics.median(np.log(values))) for values in zip(*(curve["kl"] for curve in curves), strict=True)]
        log_q = [statistics.median(values) / math.log(10) for values in zip(*(curve["log_q"] for curve in curves), strict=True)]
        colour, marker, dashes = _look(n)
        axes.plot(kl, log_q, color=colour, linestyle=dashes, linewidth=1.1)
        axes.plot(kl[-1:], log_q[-1:], color=colour, marker=marker, markersize=5)


def _look(n: int) -> tuple[str, str, Any]:
    """Colour, marker and dashes of an objective: no two have the same three."""
    return COLOURS[n % len(COLOURS)], (*MARKERS, "P", "X", "*")[n % 8], DASHES[(n + n // len(COLOURS)) % len(DASHES)]
