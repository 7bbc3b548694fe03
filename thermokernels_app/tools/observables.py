"""Observables by name: energy, magnetisations, and products of spins such as v0h2."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats
from thermokernels.model.chain import GibbsChain

NAMES = ("energy", "magnetisation", "visible-magnetisation")


@dataclass(frozen=True)
class Observable:
    """A function of the spins.

    Attributes
    ----------
    odd : whether it changes sign under x -> -x
    needs_hidden : whether it depends on hidden spins
    of : visible (..., n_v) and hidden (..., n_h) spins -> (...)
    """

    name: str
    odd: bool
    needs_hidden: bool
    of: Callable[[NDArray[Any], NDArray[Any]], Floats]


def named(name: str, chain: GibbsChain, argument: str, others: tuple[str, ...] = ()) -> Observable:
    """The observable of this name: energy, magnetisation, visible-magnetisation, or a product of spins, numbered from 0.

    Raises
    ------
    ValueError
        Another name, or spins that the model does not have; the sentence names the argument, and ``others`` that it may be.
    """
    if name == "energy":
        W, b, c = chain.model
        return Observable(name, False, True, lambda v, h: -((v @ W + c) * h).sum(axis=-1) - v @ b)
    if name == "magnetisation":
        return Observable(name, True, True, lambda v, h: v.sum(axis=-1, dtype=np.float64) + h.sum(axis=-1, dtype=np.float64))
    if name == "visible-magnetisation":
        return Observable(name, True, False, lambda v, h: v.sum(axis=-1, dtype=np.float64))
    factors = [(block, int(index)) for block, index in re.findall(r"([vh])(\d+)", name)]
    if not factors or "".join(f"{block}{index}" for block, index in factors) != name:
        raise ValueError(f"{argument} must be {', '.join((*NAMES, *others))}, or a product of spins such as v0, v0h2 or v0v1; got {name!r}")
    for block, index in factors:
        size = chain.n_visible if block == "v" else chain.n_hidden
        if index >= size:
            raise ValueError(f"{argument} must name spins of the model, {block}0 to {block}{size - 1}; got {name!r}")

    def product(v: NDArray[Any], h: NDArray[Any]) -> Floats:
        values: Floats = np.prod([(v if block == "v" else h)[..., index] for block, index in factors], axis=0, dtype=np.float64)
        return values

    return Observable(name, len(factors) % 2 == 1, any(block == "h" for block, _ in factors), product)


def values_on_states(observable: Observable, chain: GibbsChain) -> Floats:
    """The observable on the states of the chain, (n_states,)."""
    return observable.of(*np.split(chain.spins(), [chain.n_visible], axis=1))
