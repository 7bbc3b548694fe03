"""Observables by name, on recorded spins and on the states of a chain: energy, magnetisation, products such as v0h2."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from thermokernels.common.arrays import Array, Floats
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels.model.kernels.kernel import Layer
from thermokernels.model.kernels.registry import KERNELS
from thermokernels.model.model import Model


@dataclass(frozen=True)
class Observable:
    """A function of the spins.

    Attributes
    ----------
    name : what it is called
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
