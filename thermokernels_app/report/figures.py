"""The pictures, one function each: data in, a matplotlib figure out. What a picture shows is said in its caption, in ``pages.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LogNorm, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import thermokernels as tk
from thermokernels.common.arrays import Floats
from thermokernels_app.judges import verdicts
from thermokernels_app.report import disconnectivity as graphs
from thermokernels_app.report.style import COLOURS, DASHES, DIVERGING, FAINT, INK, MARKERS, SEQUENTIAL, new_figure, style

Record = Mapping[str, Any]


# Modes that carry less of the variance than this are not drawn.
VISIBLE_SHARE = 1e-8


def disconnectivity(chain: tk.GibbsChain, observable: Floats | None = None, label: str = "π of the basin") -> Figure:
    """The disconnectivity graph: a line for every basin from its lowest energy to the saddle at which it joins another.

    Parameters
    ----------
    chain : GibbsChain
    observable : (n_states,) whose mean over a basin colours its line; None for the basin's probability
    label : what the colours are
    """
    root, left_out = graphs.layout(chain, observable)
    leaves = root.leaves()
    with style():
        figure = new_figure(min(7.2, 4.4 + 0.14 * len(leaves)), 4.0)
        axes = figure.add_subplot()
        scale, colours = _colour_scale([leaf.mass if observable is None else leaf.value for leaf in leaves], logarithmic=observable is None)

        def draw(branch: graphs.Branch, parent: graphs.Branch | None) -> None:
            for child in branch.children:
                draw(child, branch)
            if branch.children:
                ends = [child.position for child in branch.children]
                axes.plot([min(ends), max(ends)], [branch.bottom] * 2, color=INK, linewidth=0.9, solid_capstyle="round")
                axes.plot([branch.position] * 2, [branch.bottom, branch.top], color=INK, linewidth=0.9)
                return
            value = branch.mass if observable is None else branch.value
            colour = colours(scale(value))
            # An outline keeps the palest colour visible on white and the darkest on black.
            axes.plot([branch.position] * 2, [branch.bottom, branch.top], color=INK, linewidth=3.6, solid_capstyle="butt")
            axes.plot([branch.position] * 2, [branch.bottom, branch.top], color=colour, linewidth=2.2, solid_capstyle="butt")
            axes.scatter(
                [branch.position], [branch.bottom], s=14 + 200 * branch.mass, color=[colour], edgecolors=INK, linewidths=0.8, zorder=3
            )

        draw(root, None)
        axes.set_xlim(-0.8, len(leaves) - 0.2)
        low, high = axes.get_ylim()
        axes.set_ylim(low, max(high, low + 1.0))  # a lone basin is a point, not the whole range
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.set_ylabel("energy E (units of the temperature)")
        if left_out:
            axes.set_xlabel(f"{left_out} basins with lower barriers are left out", color=INK)
        figure.colorbar(matplotlib.cm.ScalarMappable(scale, colours), ax=axes, label=label, shrink=0.8)
    return figure


def _colour_scale(values: Sequence[float], logarithmic: bool) -> tuple[Normalize, Colormap]:
    finite = [value for value in values if np.isfinite(value) and (value > 0 or not logarithmic)]
    low, high = (min(finite), max(finite)) if finite else (0.1, 1.0)
    if logarithmic:
        scale = LogNorm(low, high) if low < high / 50 else Normalize(0.0, high)
        return scale, matplotlib.colormaps[SEQUENTIAL]
    reach = max(abs(low), abs(high), 1e-12)
    return TwoSlopeNorm(0.0, -reach, reach), matplotlib.colormaps[DIVERGING]


def spectrum(gaps: Floats, weights: Floats, relevant_gap: float, gamma_eff: float, n_spins: int) -> Figure:
    """The spectral measure of the gradient observables: how much of their variance relaxes at which rate.

    Parameters
    ----------
    gaps : (k,) 1 - sigma per step; weights : (k,) of the measure, in units of the variance
    relevant_gap : per step; gamma_eff : per sweep; n_spins : steps a sweep
    """
    shares = weights / weights.sum()
    with np.errstate(divide="ignore"):
        rates = -np.expm1(n_spins * np.log1p(-np.minimum(gaps, 1.0)))
    slowest = float(-np.expm1(n_spins * np.log1p(-min(relevant_gap, 1.0))))
    relevant = shares > 1e-12
    seen, cluster = relevant & (shares > VISIBLE_SHARE), relevant & (rates <= 3 * slowest)
    with style():
        figure = new_figure(7.0, 3.0)
        axes = figure.add_subplot()
        axes.axvspan(slowest, min(3 * slowest, 1.0), color=COLOURS[1], alpha=0.14, linewidth=0)
        for mask, colour, marker, label in (
            (seen & ~cluster, COLOURS[0], "o", "other modes"),
            (seen & cluster, COLOURS[1], "D", "the cluster C*: up to 3 times the slowest"),
        ):
            axes.vlines(rates[mask], VISIBLE_SHARE, shares[mask], color=colour, linewidth=0.8)
            axes.plot(rates[mask], shares[mask], marker, color=colour, markersize=4.5, label=label)
        axes.axvline(gamma_eff, color=INK, linestyle=DASHES[1], linewidth=1.0, label=f"γ_eff = {gamma_eff:.3g} per sweep")
        if slowest < 0.1:
            axes.set_xscale("log")
        else:
            axes.set_xlim(0, 1.03)
        axes.set_yscale("log")
        axes.set_ylim(VISIBLE_SHARE, 2.0)
        axes.set_xlabel("gap 1 − σᴺ (per sweep)")
        axes.set_ylabel("share of the variance")
        figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    return figure


def gradient_errors(record: Record, steps: Sequence[float], gates: Record) -> Figure:
    """The relative error of every leg of the gradient check against the step h, at a checkpoint that was held against differences.

    Parameters
    ----------
    record : the checkpoint's record with ``gradient_check``
    steps : the steps h in phi; gates : the design's thresholds ``difference`` and ``complex``
    """
    with style():
        figure = new_figure(7.0, 3.6)
        axes = figure.add_subplot()
        for direction in record["gradient_check"]["directions"]:
            k = direction["index"] % len(COLOURS)
            axes.plot(
                steps, direction["difference_errors"], color=COLOURS[k], linestyle=DASHES[k], marker=MARKERS[k], markersize=4,
                linewidth=1.2, label=f"direction {direction['index'] + 1}",
            )  # fmt: skip
            for key in ("complex_error", "automatic_error"):
                if direction.get(key) is not None:
                    marker = MARKERS[k] if key == "complex_error" else "x"
                    axes.plot([min(steps) / 20], [max(direction[key], 1e-17)], marker, color=COLOURS[k], markersize=5)
        for key, text in (("difference", "gate of the differences"), ("complex", "gate of the complex step")):
            axes.axhline(gates[key], color=FAINT, linewidth=0.8)
            axes.annotate(text, (max(steps), gates[key]), xytext=(0, 2), textcoords="offset points", fontsize=7.5, ha="right")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([min(steps) / 20, *steps], ["complex\nstep", *(f"{step:.0e}".replace("e-0", "e−") for step in steps)])
        axes.minorticks_off()
        axes.set_xlabel("step h of the central differences")
        axes.set_ylabel("relative error of the directional derivative")
        figure.legend(loc="outside upper center", ncols=5, fontsize=8)
    return figure


def grid_map(document: Record, quantity: str) -> Figure:
    """The whole grid as a map: networks in rows, checkpoints and codes in columns.

    Parameters
    ----------
    document : of results.json
    quantity : "n_qual", the number of qualifying merge events, or "q"
    """
    grid, thresholds = document["design"]["grid"], document["design"]["thresholds"]
    cells = {(cell["m"], cell["split"], cell["checkpoint"], cell["code"]): cell for cell in document["cells"]}
    rows = [(m, s) for m in grid["m"] for s in grid["split"]]
    columns = [(checkpoint, code) for checkpoint in grid["checkpoints"] for code in grid["codes"]]
    values = np.full((len(rows), len(columns)), np.nan)
    for i, network in enumerate(rows):
        for j, place in enumerate(columns):
            cell = cells.get((*network, *place))
            if cell is not None and cell["status"] == "ok":
                value = verdicts.n_qual(cell["landscape"]["events"], thresholds) if quantity == "n_qual" else cell["q"]["value"]
                values[i, j] = np.nan if value is None else value
    with style():
        figure = new_figure(7.4, 0.9 + 0.27 * len(rows))
        axes = figure.add_subplot()
        if quantity == "n_qual":
            _draw_counts(axes, values)
        else:
            figure.colorbar(_draw_logarithms(axes, values), ax=axes, label="log₁₀ Q", shrink=0.9)
        for i, j in np.argwhere(~np.isfinite(values)):
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="////", linewidth=0))
        n_codes, n_splits = len(grid["codes"]), len(grid["split"])
        for j in range(n_codes, len(columns), n_codes):
            axes.axvline(j - 0.5, color=FAINT, linewidth=0.8)
        for i in range(n_splits, len(rows), n_splits):
            axes.axhline(i - 0.5, color=FAINT, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [f"m {m}, split {s}" for m, s in rows])
        axes.set_xticks(range(len(columns)), [str(code) for _, code in columns])
        axes.set_xlabel("code, at each of the checkpoints named above")
        for j, checkpoint in enumerate(grid["checkpoints"]):
            axes.text(j * n_codes + (n_codes - 1) / 2, -0.75, checkpoint, ha="center", va="bottom")
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
    return figure


def _draw_counts(axes: Axes, values: Floats) -> None:
    """Numbers that stand out only where they are not zero."""
    highest = max(float(np.nanmax(values, initial=0.0)), 1.0)
    axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(values.shape[0] - 0.5, -0.5))
    for (i, j), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        if value > 0:
            axes.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, color=COLOURS[0], alpha=0.45 + 0.55 * value / highest, linewidth=0))
        axes.text(
            j, i, f"{int(value)}", ha="center", va="center", fontsize=8, color="white" if value else FAINT, weight="bold" if value else None
        )  # fmt: skip


def _draw_logarithms(axes: Axes, values: Floats) -> Any:
    """log10 of every value, written and coloured on either side of 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log10(values)
    finite = logarithms[np.isfinite(logarithms)]
    scale = TwoSlopeNorm(0.0, min(finite.min(initial=0.0), -1.0), max(finite.max(initial=0.0), 1.0))
    colours = matplotlib.colormaps[DIVERGING]
    image = axes.imshow(np.ma.masked_invalid(logarithms), cmap=colours, norm=scale, aspect="auto")
    for (i, j), value in np.ndenumerate(logarithms):
        if np.isfinite(value):
            red, green, blue, _ = colours(scale(value))
            dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.5
            axes.text(j, i, f"{value:.1f}".replace("-", "−"), ha="center", va="center", fontsize=6.5, color="white" if dark else "black")
    return image


def training(document: Record, arrays: Mapping[str, np.ndarray]) -> Figure:
    """The divergence of every code along the training of every network, with the checkpoints marked."""
    grid = document["design"]["grid"]
    marks = {(c["m"], c["split"], c["checkpoint"]): c["training"]["step"] for c in document["cells"] if c["status"] == "ok"}
    with style():
        figure = new_figure(7.4, 1.75 * len(grid["m"]) + 0.5)
        panels = figure.subplots(len(grid["m"]), len(grid["split"]), sharex=True, sharey=True, squeeze=False)
        for (i, j), axes in np.ndenumerate(panels):
            m, split = grid["m"][i], grid["split"][j]
            curves = arrays.get(f"m{m}/s{split}/kl")
            axes.set_yscale("log")
            axes.set_xscale("symlog", linthresh=10)
            axes.set_title(f"m {m}, split {split}")
            if curves is None:
                continue
            for k, code in enumerate(grid["codes"]):
                axes.plot(
                    np.maximum(curves[:, k], 1e-16), color=COLOURS[k % 5], linestyle=DASHES[k % 5], linewidth=1.1, label=f"code {code}"
                )
            for checkpoint in grid["checkpoints"]:
                step = marks.get((m, split, checkpoint))
                if step is not None:
                    axes.axvline(step, color=FAINT, linewidth=0.7, zorder=0)
            axes.axhline(document["design"]["thresholds"]["final_kl"], color=INK, linewidth=0.6, linestyle=(0, (1, 3)))
        for axes in panels[-1]:
            axes.set_xlabel("step")
        for axes in panels[:, 0]:
            axes.set_ylabel("KL (nats)")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8)
    return figure


def ranks(document: Record) -> Figure:
    """Rank of the network's Jacobian and dimension of the observables' span against the split, least and greatest over the cells."""
    grid = document["design"]["grid"]
    kinds = (("rank", "rank of J_u", 0), ("observable_span", "observable span", 1))
    with style():
        figure = new_figure(7.2, 2.5)
        panels: Sequence[Axes] = figure.subplots(1, len(grid["m"]), sharey=True, squeeze=False)[0]
        for m, axes in zip(grid["m"], panels, strict=True):
            cells = [cell for cell in document["cells"] if cell["m"] == m and cell["status"] == "ok"]
            by_split = {s: [cell["network"] for cell in cells if cell["split"] == s] for s in grid["split"]}
            splits = [s for s in grid["split"] if by_split[s]]
            axes.plot(splits, [by_split[s][0]["rank_expected"] for s in splits], color=FAINT, linewidth=4, label="r(2m − r)")
            for key, label, k in kinds:
                found = [[network[key] for network in by_split[s] if network[key] is not None] for s in splits]
                low, high = ([pick(row) if row else np.nan for row in found] for pick in (min, max))
                axes.plot(splits, high, MARKERS[k], color=COLOURS[k], markersize=6 - 2 * k, label=label)
                axes.vlines(splits, low, high, color=COLOURS[k], linewidth=1.5)
            axes.set_title(f"m {m}: {m * m} couplings")
            axes.set_xticks(list(grid["split"]))
            axes.set_xlabel("split s")
        panels[0].set_ylabel("dimension")
        panels[0].set_ylim(0, 1.08 * max(grid["m"]) ** 2)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    return figure
