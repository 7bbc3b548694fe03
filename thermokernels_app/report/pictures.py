"""Which pictures there are of a run and of a model, under which names, with their captions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

import thermokernels as tk
from thermokernels import plot
from thermokernels.plot.basins import values_of, words_of
from thermokernels.plot.captions import CAPTIONS, caption_of
from thermokernels_app.judges import verdicts
from thermokernels_app.report import ensemble_figure, figures, steering_figure

Key = tuple[int, int, str, int]


@dataclass(frozen=True)
class Picture:
    """A figure with its name (of the file and on the page), title and caption; it is drawn when asked for.

    ``draw(caption)`` says whether the figure bears its title and caption itself, as a file does and a page does not.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[bool], Figure]


def of_model(
    chain: tk.GibbsChain,
    colour: str = "mass",
    suffix: str = "",
    of: str = "the model",
    measure: tk.SpectralMeasure | Callable[[], tk.SpectralMeasure] | None = None,
) -> list[Picture]:
    """The pictures of one model: its disconnectivity graph, its spectral measure, and its barriers where there are any.

    Parameters
    ----------
    chain : GibbsChain
    colour : "mass", or an observable: "magnetisation", "v0", "h1", "v0h2" (spins numbered from 0)
    suffix, of : added to the names and titles
    measure : where it is known, or what finds it when it is drawn

    Raises
    ------
    ValueError
        Unknown observable, or one that is odd under x -> -x on pairs {x, -x}.
    """
    if colour != "mass":
        values_of(chain, colour)  # a wrong name is an error before anything is drawn
    tree = tk.merge_tree(chain)

    def graph(caption: bool) -> Figure:
        return figures.figure_of(lambda ax: plot.disconnectivity(chain, colour, ax=ax, caption=caption), 4.8 if caption else 4.0)

    def modes(caption: bool) -> Figure:
        found = measure() if callable(measure) else measure or tk.spectral_measure(chain)
        return figures.figure_of(lambda ax: plot.spectrum(found, ax=ax, caption=caption), 4.4 if caption else 3.4)

    def heights(caption: bool) -> Figure:
        return figures.figure_of(lambda ax: plot.barriers(tree, ax=ax, caption=caption), 4.2 if caption else 3.2)

    named = {"disconnectivity": graph, "spectrum": modes} | ({"barriers": heights} if tree.events else {})
    pictures = []
    for name, draw in named.items():
        facts = words_of(chain, colour) if name == "disconnectivity" else {}
        pictures.append(Picture(f"{name}{suffix}", f"{CAPTIONS[name][0]}: {of}", caption_of(name, **facts), draw))
    return pictures


def of_steering(document: Mapping[str, Any]) -> Picture:
    """The picture of a run of ``--grid steering``."""
    return Picture(
        "steering",
        "What steering by Q costs and gains",
        "Above: every training beside that of its seed table with λ = 0; the bar is met left of the dotted upright, above the level. "
        "Below: medians over the seed tables of KL and Q along the training, the mark at its end.",
        lambda _: steering_figure.steering(document),
    )


def of_ensemble(summary: Mapping[str, Any]) -> Picture:
    """The picture of the runs of ``--seeds``, from their summary."""
    return Picture(
        "ensemble",
        "One table among many",
        f"How many of {summary['complete']} seed tables have which value of a figure of the run; dashed, with its percentile: that of the "
        "first publication.",
        lambda _: ensemble_figure.ensemble(summary),
    )


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
    named: dict[str, Callable[[bool], Figure]] = {
        "qualifying-events": lambda caption: figures.grid_map(document, "n_qual", caption),
        "q": lambda caption: figures.grid_map(document, "q", caption),
        "training": lambda _: figures.training(document, arrays),
        "ranks": lambda _: figures.ranks(document),
    }
    of = {"training": "divergences"}
    pictures = [Picture(name, *CAPTIONS[of.get(name, name)], draw) for name, draw in named.items()]
    pictures += [_gradient_errors(record, document["design"]) for record in document["checkpoints"] if _has_differences(record)][:1]
    for m, split, checkpoint, code in cells if cells is not None else _telling_cells(document):
        name = f"m{m}/s{split}/{checkpoint}/code{code}"
        if f"{name}/W" not in arrays:
            raise ValueError(f"the run has no finished cell {name}")
        chain = tk.gibbs_chain(arrays[f"{name}/W"])
        spectrum = _record(document, (m, split, checkpoint, code)).get("spectrum")
        pictures += of_model(chain, colour, f"-{name.replace('/', '-')}", f"cell {name}", _measure(spectrum, arrays, name, chain))
    return pictures


def _measure(spectrum: Mapping[str, Any] | None, arrays: Mapping[str, Any], name: str, chain: tk.GibbsChain) -> tk.SpectralMeasure | None:
    """The spectral measure that a cell recorded, or None."""
    if f"{name}/spectrum_gaps" not in arrays or not spectrum or spectrum.get("gamma_eff_sweep") is None:
        return None
    gaps = arrays[f"{name}/spectrum_gaps"]
    return tk.SpectralMeasure(
        nodes=1.0 - gaps,
        weights=arrays[f"{name}/spectrum_weights"],
        gaps=gaps,
        relevant_gap=spectrum["relevant_gap"],
        gamma_eff=spectrum["gamma_eff_sweep"],
        gamma_eff_step=spectrum["gamma_eff_step"],
        gamma_eff_error=spectrum["gamma_eff_error"],
        cluster_size=spectrum["cluster_size"],
        steps_per_sweep=chain.steps_per_sweep,
    )


def _has_differences(record: Mapping[str, Any]) -> bool:
    check = record.get("gradient_check")
    return check is not None and bool(check["directions"][0].get("difference_errors"))


def _gradient_errors(record: Mapping[str, Any], design: Mapping[str, Any]) -> Picture:
    return Picture(
        "gradient-errors",
        f"The gradient check at m {record['m']}, split {record['split']}, checkpoint {record['checkpoint']}",
        caption_of("gradient-errors"),
        lambda caption: figures.gradient_errors(record, design["steps"], design["thresholds"], caption),
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
