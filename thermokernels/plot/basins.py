"""The landscape: basins and the saddles where they join, and how high the barriers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thermokernels.common import arguments
from thermokernels.common.arrays import Floats
from thermokernels.diagnosis.basins import MAX_CROSSINGS
from thermokernels.model.chain import GibbsChain, as_chain
from thermokernels.model.named_observables import observable
from thermokernels.plot.disconnectivity_layout import Branch, layout
from thermokernels.plot.style import COLOURS, DIVERGING, INK, LETTERS, MARKERS, SEQUENTIAL, axes_of, captioned, matplotlib
from thermokernels.quantities.landscape import MergeTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def disconnectivity(chain: GibbsChain, colour: str = "mass", *, ax: Axes | None = None, caption: bool = True) -> Axes:
    """The disconnectivity graph: a line for every basin from its lowest energy to the saddle at which it joins a deeper one.

    Basins bear the numbers that :func:`thermokernels.diagnose` gives them in its table; dots grow with the probability below the saddle.

    Parameters
    ----------
    chain : GibbsChain
    colour : "mass", or an observable whose mean over a basin colours it: "magnetisation", "v0", "h1", "v0h2" (spins numbered from 0)
    ax : axes to draw on; None for new ones
    caption : whether the picture bears its title and caption

    Raises
    ------
    ValueError
        Unknown observable, or one that is odd under x -> -x on pairs {x, -x}. ModuleNotFoundError: matplotlib is missing.

    Examples
    --------
    >>> import thermokernels as tk
    >>> ax = tk.plot.disconnectivity(tk.gibbs_chain([[1.0, 0.0], [0.0, 2.0]]))  # doctest: +SKIP
    """
    chain = as_chain(chain)
    values = None if colour == "mass" else values_of(chain, colour)
    root, left_out = layout(chain, values)
    leaves = root.leaves()
    label = "π of the basin" if values is None else f"mean of {colour} over the basin"
    with axes_of(ax, 4.6) as ax:
        scale, colours = _colour_scale([leaf.mass if values is None else leaf.value for leaf in leaves], logarithmic=values is None)

        def draw(branch: Branch) -> None:
            for child in branch.children:
                draw(child)
            ends = [branch.position] * 2, [branch.bottom, branch.top]
            if branch.children:
                positions = [child.position for child in branch.children]
                ax.plot([min(positions), max(positions)], [branch.bottom] * 2, color=INK, linewidth=0.9, solid_capstyle="round")
                ax.plot(*ends, color=INK, linewidth=0.9)
                return
            shade = colours(scale(branch.mass if values is None else branch.value))
            # An outline keeps the palest colour visible on white and the darkest on black.
            ax.plot(*ends, color=INK, linewidth=3.6, solid_capstyle="butt")
            ax.plot(*ends, color=shade, linewidth=2.2, solid_capstyle="butt")
            size = 14 + 200 * branch.mass
            ax.scatter([branch.position], [branch.bottom], s=size, color=[shade], edgecolors=INK, linewidths=0.8, zorder=3)
            if 0 < branch.number <= MAX_CROSSINGS:
                offset = (0, -3 - float(np.sqrt(size)) / 2)
                ax.annotate(
                    str(branch.number), (branch.position, branch.bottom), xytext=offset, textcoords="offset points", ha="center", va="top",
                    fontsize=LETTERS,
                )  # fmt: skip

        draw(root)
        ax.set_xlim(-0.8, len(leaves) - 0.2)
        low, high = ax.get_ylim()
        ax.set_ylim(low - 0.06 * (high - low), max(high, low + 1.0))  # a lone basin is a point, not the whole range
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)
        ax.set_ylabel("energy E (units of the temperature)")
        if left_out:
            ax.set_xlabel(f"{left_out} basins with lower barriers are left out", color=INK)
        ax.figure.colorbar(matplotlib().cm.ScalarMappable(scale, colours), ax=ax, label=label, shrink=0.8)
        return captioned(ax, "disconnectivity", caption, **words_of(chain, colour))


def words_of(chain: GibbsChain, colour: str) -> dict[str, Any]:
    """What the caption of a disconnectivity graph leaves open."""
    of_basin = "probability of the basin" if colour == "mass" else f"mean of {colour} over the basin"
    return {"states": "pairs {x, -x}" if chain.quotient else "states", "colour": of_basin}


def values_of(chain: GibbsChain, name: str) -> Floats:
    """The values (n_states,) of an observable, such as "magnetisation", "v0", "h1" or "v0h2", on the states of a chain."""
    found = observable(name, chain.model, "the colour", "mass")
    if found.odd and chain.quotient:
        raise ValueError(f"without fields x and -x are one state, on which {name} has no value; take a product such as v0h0")
    return found.values(chain)


def _colour_scale(values: Sequence[float], logarithmic: bool) -> tuple[Any, Any]:
    from matplotlib.colors import LogNorm, Normalize, TwoSlopeNorm

    finite = [value for value in values if np.isfinite(value) and (value > 0 or not logarithmic)]
    low, high = (min(finite), max(finite)) if finite else (0.1, 1.0)
    if logarithmic:
        scale = LogNorm(low, high) if low < high / 50 else Normalize(0.0, high)
        return scale, matplotlib().colormaps[SEQUENTIAL]
    reach = max(abs(low), abs(high), 1e-12)
    return TwoSlopeNorm(0.0, -reach, reach), matplotlib().colormaps[DIVERGING]


def barriers(tree: MergeTree, *, ax: Axes | None = None, caption: bool = True) -> Axes:
    """Every basin's barrier against its probability: what a run can lose, and what keeps it there.

    Parameters
    ----------
    tree : MergeTree
    ax, caption : as in :func:`disconnectivity`

    Raises
    ------
    ValueError
        The landscape has one basin only. ModuleNotFoundError: matplotlib is missing.

    Examples
    --------
    >>> import thermokernels as tk
    >>> ax = tk.plot.barriers(tk.merge_tree(tk.gibbs_chain([[1.0, 0.0], [0.0, 2.0]])))  # doctest: +SKIP
    """
    if not isinstance(tree, MergeTree):
        raise ValueError(f"tree must be a MergeTree, as merge_tree(chain) makes it; got {arguments.in_brief(tree)}")
    events = tree.by_mass()
    if not events:
        raise ValueError("tree must have two basins or more for a barrier between them; it has one")
    with axes_of(ax, 3.8) as ax:
        for multiway, label in ((False, "two basins meet at the saddle"), (True, "three or more")):
            some = [event for event in events if (event.multiplicity > 2) is multiway]
            if some:
                heights, masses = [event.barrier for event in some], [event.dying_mass for event in some]
                ax.plot(heights, masses, MARKERS[multiway], color=COLOURS[multiway], markersize=6, label=label)
        for number, event in enumerate(events[:MAX_CROSSINGS], start=1):
            place = (event.barrier, event.dying_mass)
            ax.annotate(str(number), place, xytext=(5, 3), textcoords="offset points", fontsize=LETTERS)
        ax.set_yscale("log")
        ax.set_xlim(0.0, 1.08 * max(event.barrier for event in events))
        ax.set_xlabel("barrier (units of the temperature)")
        ax.set_ylabel("π of the basin")
        ax.legend()
        return captioned(ax, "barriers", caption)
