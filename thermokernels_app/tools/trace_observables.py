"""What is looked at in a trace: the trace as spins or as a series, and the observables, on its records and on the states of a chain."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermokernels.common import arguments
from thermokernels.common.arrays import Array, Floats
from thermokernels.common.foreign_arrays import as_array
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels.model.kernels.kernel import Layer
from thermokernels.model.kernels.registry import KERNELS
from thermokernels.model.model import Model

LAYOUTS = ("chain-draw", "draw-chain")
# A trace has so many times more records than chains, or it has to say which are which.
LONGER = 4


@dataclass(frozen=True)
class Observable:
    """A function of the spins.

    Attributes
    ----------
    name : what the command calls it
    odd : under x -> -x
    of_visible, of_hidden : the layers that it needs
    of : visible (..., n_v) and hidden (..., n_h) spins -> (...)
    """

    name: str
    odd: bool
    of_visible: bool
    of_hidden: bool
    of: Callable[[Array, Array], Floats]

    def chain(self, model: Model, kernel: str) -> GibbsChain:
        """The smallest chain on which a record of it can be told: of the alternating scan one layer, where it is a function of one."""
        by_layer = KERNELS[kernel].of_one_layer
        layer: Layer | None = None if self.of_visible and self.of_hidden else "visible" if self.of_visible else "hidden"
        name = kernel if layer is None else by_layer.get(layer, kernel)
        return gibbs_chain(model, kernel=name, quotient=False if self.odd else None)

    def values(self, chain: GibbsChain) -> Floats:
        """On the states of the chain, (n_states,)."""
        spins, layer = chain.spins(), chain.dynamics.layer
        nothing = spins[:, :0]
        if layer is not None:
            return self.of(spins, nothing) if layer == "visible" else self.of(nothing, spins)
        return self.of(*np.split(spins, [chain.n_visible], axis=1))


def observable(name: str, model: Model, argument: str = "observables", other: str = "slowest") -> Observable:
    """The observable of this name; ValueError, which names the argument and what else it may be, where there is none."""
    weights, b, c = model
    if name == "energy":
        return Observable(name, False, True, True, lambda v, h: -((v @ weights + c) * h).sum(axis=-1) - v @ b)
    if name == "magnetisation":
        return Observable(name, True, True, True, lambda v, h: v.sum(axis=-1, dtype=np.float64) + h.sum(axis=-1, dtype=np.float64))
    if name == "visible-magnetisation":
        return Observable(name, True, True, False, lambda v, h: v.sum(axis=-1, dtype=np.float64))
    factors = [(block, int(index)) for block, index in re.findall(r"([vh])(\d{1,9})", name)]
    if not factors or "".join(f"{block}{index}" for block, index in factors) != name:
        raise ValueError(
            f"{argument} must be energy, magnetisation, visible-magnetisation, {other}, or a product of spins such as v0, v0h2 or v0v1; "
            f"got {name!r}"
        )
    for block, index in factors:
        size = model.n_visible if block == "v" else model.n_hidden
        if index >= size:
            raise ValueError(f"{argument} must name spins of the model, {block}0 to {block}{size - 1}; got {name!r}")

    def product(v: Array, h: Array) -> Floats:
        values: Floats = np.prod([(v if block == "v" else h)[..., index] for block, index in factors], axis=0, dtype=np.float64)
        return values

    blocks = {block for block, _ in factors}
    return Observable(name, len(factors) % 2 == 1, "v" in blocks, "h" in blocks, product)


def as_names(observables: Sequence[str] | str | None) -> list[str] | None:
    """The names that were asked for; None for the usual ones."""
    names = None if observables is None else [observables] if isinstance(observables, str) else list(observables)
    if names == []:
        raise ValueError("observables must name at least one observable; got none")
    return names


def as_trace(trace: Any, model: Model, names: list[str] | None, layout: str | None) -> tuple[NDArray[Any], list[str]]:
    """The trace as spins (n_chains, n_records, N or n_v) or as a series (n_chains, n_records), and the names of what to look at."""
    if (dimensions := getattr(trace, "dims", None)) is not None and {"chain", "draw"} <= {*dimensions}:  # of xarray, which knows
        trace, layout = trace.transpose("chain", "draw", ...), "chain-draw"
    array = as_array(trace, "trace", "an array of numbers")
    if array.ndim == 1:
        array, layout = array[None], "chain-draw"
    if array.ndim not in (2, 3):
        raise ValueError(
            f"trace must have shape (n_chains, n_records, n_spins) or, a series, (n_chains, n_records); got shape {array.shape}"
        )
    array = _laid_out(array, layout)
    if array.shape[0] < 1 or array.shape[1] < 4:
        raise ValueError(f"trace must have at least one chain and four records; got {array.shape[0]} chains of {array.shape[1]} records")
    if array.ndim == 2:
        if names is None or len(names) != 1 or names == ["slowest"]:
            raise ValueError(
                f"observables (--observable) must name the one observable whose series the trace of shape {array.shape} is, "
                "such as energy, magnetisation or v0h2; a trace of spins has shape (n_chains, n_records, n_spins)"
            )
        return arguments.as_finite(array, "trace"), names
    if array.shape[2] not in (model.n_spins, model.n_visible):
        raise ValueError(
            f"trace must have {model.n_spins} spins a record, or the {model.n_visible} visible ones, as W says; got shape {array.shape}"
        )
    default = ["energy", "magnetisation", "slowest"] if array.shape[2] == model.n_spins else ["visible-magnetisation"]
    return arguments.as_spins(array, "trace"), default if names is None else names


def _laid_out(array: Array, layout: str | None) -> Array:
    """Chains first, then records (ArviZ's chain and draw)."""
    if layout is None:
        first, second = array.shape[:2]
        if second >= LONGER * first or max(first, second) < 4:  # the latter is refused for its length
            return array
        raise ValueError(
            f"layout (--layout) must say what the axes of a trace of shape {array.shape} are: 'chain-draw' for {first} chains of {second} "
            f"records, 'draw-chain' for {second} chains of {first} records"
        )
    return array if arguments.as_choice(layout, LAYOUTS, "layout") == "chain-draw" else array.swapaxes(0, 1)
