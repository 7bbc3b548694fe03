"""Which pictures there are of a run and of a model, under which names, with their captions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

import thermokernels as tk
from thermokernels.common.arrays import Floats
from thermokernels.model import named_observables
from thermokernels_app.judges import verdicts
from thermokernels_app.report import figures, steering_figure

Key = tuple[int, int, str, int]
Measure = tuple[Floats, Floats, float, float]


@dataclass(frozen=True)
class Picture:
    """A figure with its name (of the file and on the page), title and caption; it is drawn when asked for."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]


def of_model(
    chain: tk.GibbsChain, colour: str = "mass", suffix: str = "", of: str = "the model", measure: Measure | None = None
) -> list[Picture]:
    """The pictures of one model: its disconnectivity graph and its spectral measure.

    Parameters
    ----------
    chain : GibbsChain
    colour : "mass", or an observable: "magnetisation", "v0", "h1", "v0h2" (spins numbered from 0)
    suffix, of : added to the names and titles
    measure : (gaps, weights, relevant_gap, gamma_eff) where they are known; otherwise they are computed when drawn

    Raises
    ------
    ValueError
        Unknown observable, or one that is odd under x -> -x on pairs {x, -x}.
    """
    values = None if colour == "mass" else observable(chain, colour)
    label = "π of the basin" if values is None else f"mean of {colour} over the basin"

    def draw_spectrum() -> Figure:
        found = measure
        if found is None:
            computed = tk.spectral_measure(chain)
            found = (computed.gaps, computed.weights, computed.relevant_gap, computed.gamma_eff)
        return figures.spectrum(*found, n_spins=chain.n_spins)

    states = "pairs {x, −x}" if chain.quotient else "states"
    return [
        Picture(
            f"disconnectivity{suffix}",
            f"Disconnectivity graph of {of}",
            f"Every line is a basin of single-spin flips on {states}: from its lowest energy up to the saddle where it joins a deeper one. "
            f"The larger the dot, the more probable the basin below its saddle; the colour is the {label.replace('π', 'probability')}.",
            lambda: figures.disconnectivity(chain, values, label),
        ),
        Picture(
            f"spectrum{suffix}",
            f"Spectral measure of the gradient in {of}",
            "How much of the variance of the gradient observables relaxes at which rate; the slowest modes stand left, and "
            "those that carry less than 1e-8 are left out. Shaded, in diamonds: the modes up to three times as fast as the slowest, whose "
            "weighted harmonic mean is γ_eff.",
            draw_spectrum,
        ),
    ]


def of_steering(document: Mapping[str, Any]) -> Picture:
    """The picture of a run of ``--grid steering``."""
    return Picture(
        "steering",
        "What steering by Q costs and gains",
        "Above: every training beside that of its seed table with λ = 0; the bar is met left of the dotted upright, above the level. "
        "Below: medians over the seed tables of KL and Q along the training, the mark at its end.",
        lambda: steering_figure.steering(document),
    )


def observable(chain: tk.GibbsChain, name: str) -> Floats:
    """The values (n_states,) of an observable, such as "magnetisation", "v0", "h1" or "v0h2", on the states of a chain."""
    found = named_observables.observable(name, chain.model, "the colour", "mass")
    if found.odd and chain.quotient:
        raise ValueError(f"without fields x and -x are one state, on which {name} has no value; take a product such as v0h0")
    return found.values(chain)


def of_run(
    document: Mapping[str, Any], arrays: Mapping[str, Any], cells: Iterable[Key] | None = None, colour: str = "mass"
) -> list[Picture]:
    """The pictures of a run: the grid as maps, training, ranks, gradient checks, and landscape and spectrum of some of its cells.

    Parameters
    ----------
    document, arrays : of the run, as ``experiment.store`` reads them
    cells : (m, split, checkpoint, code) whose models are drawn; None for two telling ones:
        that of the basis with the largest U_thermo, and the one with the most minima
    colour : of the disconnectivity graphs, as in :func:`of_model`

    Raises
    ------
    ValueError
        The run has no such cell.
    """
    pictures = [
        Picture(
            "qualifying-events",
            "Crossable multimodality over the grid",
            "N_qual, the merge events of a cell that qualify: both basins probable, a barrier, a crossing that takes not too long, and "
            "seen by the gradient. P2 asks for one in the basis. Hatched: cells without a result.",
            lambda: figures.grid_map(document, "n_qual"),
        ),
        Picture(
            "q",
            "Q over the grid",
            "The squared signal-to-noise ratio of the gradient from one window of samples, as its decimal logarithm. Below 0 the noise is "
            "louder than the gradient: where training has converged there is little left to learn. Hatched: cells without a result.",
            lambda: figures.grid_map(document, "q"),
        ),
        Picture(
            "training",
            "Training",
            "The divergence of every code from its teacher; vertical lines are the checkpoints, the dotted line is the limit above which "
            "P4 asks whether a code sits at a stationary point. Steps are linear up to 10, then logarithmic.",
            lambda: figures.training(document, arrays),
        ),
        Picture(
            "ranks",
            "Response along the split",
            "Rank of the network's Jacobian and dimension of the span of its observables, over all checkpoints and codes of a network, on "
            "the number r(2m − r) that W of rank r allows.",
            lambda: figures.ranks(document),
        ),
    ]
    pictures += [_gradient_errors(record, document["design"]) for record in document["checkpoints"] if _has_differences(record)][:1]
    for m, split, checkpoint, code in cells if cells is not None else _telling_cells(document):
        name = f"m{m}/s{split}/{checkpoint}/code{code}"
        if f"{name}/W" not in arrays:
            raise ValueError(f"the run has no finished cell {name}")
        spectrum, measure = _record(document, (m, split, checkpoint, code)).get("spectrum"), None
        if f"{name}/spectrum_gaps" in arrays and spectrum and spectrum.get("gamma_eff_sweep") is not None:
            gaps, weights = arrays[f"{name}/spectrum_gaps"], arrays[f"{name}/spectrum_weights"]
            measure = (gaps, weights, spectrum["relevant_gap"], spectrum["gamma_eff_sweep"])
        chain = tk.gibbs_chain(arrays[f"{name}/W"])
        pictures += of_model(chain, colour, f"-{name.replace('/', '-')}", f"cell {name}", measure)
    return pictures


def _has_differences(record: Mapping[str, Any]) -> bool:
    check = record.get("gradient_check")
    return check is not None and bool(check["directions"][0].get("difference_errors"))


def _gradient_errors(record: Mapping[str, Any], design: Mapping[str, Any]) -> Picture:
    return Picture(
        "gradient-errors",
        f"The gradient check at m {record['m']}, split {record['split']}, checkpoint {record['checkpoint']}",
        "Central differences err with h² at large steps and by rounding at small ones; the complex step, left, has no step to choose. "
        "Each line is a direction in the network's parameters.",
        lambda: figures.gradient_errors(record, design["steps"], design["thresholds"]),
    )


def _record(document: Mapping[str, Any], key: Key) -> Mapping[str, Any]:
    """The record of one cell."""
    return next(cell for cell in document["cells"] if (cell["m"], cell["split"], cell["checkpoint"], cell["code"]) == key)


def parse_cell(text: str) -> Key:
    """``m6/s2/half/code1`` as (6, 2, "half", 1)."""
    match = re.fullmatch(r"m(\d+)/s(\d+)/([a-z]+)/code(\d+)", text)
    if match is None:
        raise ValueError(f"--cell must look like m6/s2/half/code1; got {text!r}")
    return int(match[1]), int(match[2]), match[3], int(match[4])


def _telling_cells(document: Mapping[str, Any]) -> list[Key]:
    """The cell of the basis with the largest U_thermo, where one qualifies, and the cell with the most minima."""
    design = document["design"]
    finished = {(c["m"], c["split"], c["checkpoint"], c["code"]): c["landscape"] for c in document["cells"] if c["status"] == "ok"}
    basis = [key for key in finished if key[1] in design["basis"]["split"] and key[2] in design["basis"]["checkpoints"]]
    depth = {key: verdicts.u_thermo(finished[key]["events"], design["thresholds"]) for key in basis}
    deepest = max(depth, key=lambda key: depth[key], default=None)
    richest = max(finished, key=lambda key: finished[key]["minima"], default=None)
    chosen = [deepest] if deepest is not None and depth[deepest] > 0 else []
    return chosen if richest is None or richest in chosen else [*chosen, richest]
