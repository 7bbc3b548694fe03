"""The pictures of a run: its records in, a figure out, drawn by :mod:`thermokernels.plot`. Captions stand in ``pictures.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thermokernels import plot
from thermokernels.plot.style import WIDTH, style
from thermokernels_app.judges import verdicts

Record = Mapping[str, Any]


def figure_of(draw: Callable[[Axes], object], height: float) -> Figure:
    """A figure, which belongs to no window, of one picture on its axes."""
    with style():
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure.add_subplot())
    return figure


def gradient_errors(record: Record, steps: list[float], gates: Record, caption: bool) -> Figure:
    """The gradient check of a checkpoint that was held against differences."""
    directions = record["gradient_check"]["directions"]
    return figure_of(lambda ax: plot.gradient_errors(directions, steps, gates, ax=ax, caption=caption), 4.6 if caption else 3.6)


def grid_map(document: Record, quantity: str, caption: bool) -> Figure:
    """The whole grid as a map: networks in rows, checkpoints and codes in columns.

    Parameters
    ----------
    document : of results.json
    quantity : "n_qual", the number of qualifying merge events, or "q"
    """
    grid, thresholds = document["design"]["grid"], document["design"]["thresholds"]
    cells = {(cell["m"], cell["split"], cell["checkpoint"], cell["code"]): cell for cell in document["cells"]}
    networks = [(m, s) for m in grid["m"] for s in grid["split"]]
    places = [(checkpoint, code) for checkpoint in grid["checkpoints"] for code in grid["codes"]]
    values = np.full((len(networks), len(places)), np.nan)
    for i, j in np.ndindex(values.shape):
        cell = cells.get((*networks[i], *places[j]))
        if cell is not None and cell["status"] == "ok":
            value = verdicts.n_qual(cell["landscape"]["events"], thresholds) if quantity == "n_qual" else cell["q"]["value"]
            values[i, j] = np.nan if value is None else value
    rows, columns = (
        [f"m {m}, split {s}" for m, s in networks],
        {name: [str(code) for code in grid["codes"]] for name in grid["checkpoints"]},
    )
    draw = plot.counts if quantity == "n_qual" else plot.logarithms

    def on(ax: Axes) -> None:
        ax.set_xlabel("code, at each of the checkpoints named above")
        draw(values, rows, columns, ax=ax, caption=caption)

    return figure_of(on, 0.27 * len(rows) + (1.9 if caption else 0.9))


def training(document: Record, arrays: Mapping[str, np.ndarray]) -> Figure:
    """The divergence of every code along the training of every network, a panel a network."""
    grid = document["design"]["grid"]
    marks = {(c["m"], c["split"], c["checkpoint"]): c["training"]["step"] for c in document["cells"] if c["status"] == "ok"}
    with style():
        figure = Figure(figsize=(WIDTH, 1.75 * len(grid["m"]) + 0.5), layout="constrained")
        panels = figure.subplots(len(grid["m"]), len(grid["split"]), sharex=True, sharey=True, squeeze=False)
        for (i, j), ax in np.ndenumerate(panels):
            m, split = grid["m"][i], grid["split"][j]
            ax.set_title(f"m {m}, split {split}")
            curves = arrays.get(f"m{m}/s{split}/kl")
            if curves is None:
                ax.set_yscale("log")
                continue
            steps = [marks[m, split, checkpoint] for checkpoint in grid["checkpoints"] if (m, split, checkpoint) in marks]
            plot.divergences(curves, steps, document["design"]["thresholds"]["final_kl"], ax=ax, caption=False)
        for ax in panels[-1]:
            ax.set_xlabel("step")
        for ax in panels[:, 0]:
            ax.set_ylabel("KL (nats)")
        _legend(figure, panels[0, 0])
    return figure


def ranks(document: Record) -> Figure:
    """Rank of the network's Jacobian and dimension of the observables' span against the split, a panel a size."""
    grid = document["design"]["grid"]
    with style():
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        panels = figure.subplots(1, len(grid["m"]), sharey=True, squeeze=False)[0]
        for m, ax in zip(grid["m"], panels, strict=True):
            cells = [cell for cell in document["cells"] if cell["m"] == m and cell["status"] == "ok"]
            by_split = {s: [cell["network"] for cell in cells if cell["split"] == s] for s in grid["split"]}
            splits = [s for s in grid["split"] if by_split[s]]
            found = {
                label: [[network[key] for network in by_split[s] if network[key] is not None] for s in splits]
                for key, label in (("rank", "rank of J_u"), ("observable_span", "observable span"))
            }
            plot.dimensions(splits, [by_split[s][0]["rank_expected"] for s in splits], found, ax=ax, caption=False)
            ax.set_title(f"m {m}: {m * m} couplings")
            ax.set_xticks(list(grid["split"]))
        panels[0].set_ylabel("dimension")
        panels[0].set_ylim(0, 1.08 * max(grid["m"]) ** 2)
        _legend(figure, panels[0])
    return figure


def _legend(figure: Figure, panel: Axes) -> None:
    """One for all panels, above them."""
    handles, labels = panel.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
