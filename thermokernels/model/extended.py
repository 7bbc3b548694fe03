"""The law and the rates of a chain in long double: for certificates, and for eliminations whose bound counts the roundings of its input.

Where long double has the 64 bits and the range of x86, a relative error is 2^11 times below that of float64, and laws down to 1e-4900 are
numbers; elsewhere (:data:`AVAILABLE`) there is nothing to be gained. Fields and energies are those of the chain, value and remainder. With
w = 2^-64, elementary functions right to two roundings, F the largest sum of |couplings| of a spin and E that of all,

    rates     4 (w + 1e-10 u) F + 12 w,        law     8 (w + 1e-10 u) E + (n_states + 8) w,                          (errors)

relative, since pairs of doubles are wrong by a share 1e-10 of their rounding u, and a field enters a rate twice, an energy a law with the
sum that it is divided by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.tolerances import UNIT
from thermokernels.model.chain import GibbsChain
from thermokernels.model.chain_tables import SECOND_ORDER

Long = NDArray[Any]  # of long doubles, which kernels take where they take float64

# Before NumPy 2 a scalar of long double does not lift an array of float64 (NEP 50): the digits that the bounds count on would be lost.
LIFTS = np.result_type(np.ones(1), np.longdouble(1)) == np.longdouble
AVAILABLE = bool(LIFTS and np.finfo(np.longdouble).nmant >= 63 and np.finfo(np.longdouble).maxexp >= 2**14)
LONG_UNIT = float(np.finfo(np.longdouble).eps) / 2

# Products of a few weights of this size are far from the ends of the range.
LARGEST_SPAN = 1000.0


def applies_to(chain: GibbsChain) -> bool:
    """Whether long double has more digits than float64 here, and the range for this chain's weights."""
    return AVAILABLE and float(np.ptp(chain.energy)) <= LARGEST_SPAN


@dataclass(frozen=True, eq=False, repr=False)
class ExtendedChain:
    """A chain's tables in long double, of the shapes that :class:`thermokernels.model.chain.GibbsChain` gives them."""

    chain: GibbsChain

    @property
    def quotient(self) -> bool:
        return self.chain.quotient

    @property
    def n_spins(self) -> int:
        return self.chain.n_spins

    @cached_property
    def fields(self) -> tuple[Long, Long]:
        """Local fields of the visible and of the hidden spins."""
        chain = self.chain
        visible, hidden = (
            values.astype(np.longdouble) + rest
            for values, rest in zip((chain.visible_local_fields, chain.hidden_local_fields), chain.field_remainders, strict=True)
        )
        return visible, hidden

    @cached_property
    def law(self) -> Long:
        """(n_states,) pi."""
        chain, energy = self.chain, self.chain.energy
        ground = int(energy.argmin())
        if chain.dynamics.layer is None:
            rest = chain.energy_remainders
            exponents = (energy[ground].astype(np.longdouble) - energy) + (rest[ground].astype(np.longdouble) - rest)
        else:
            logarithms = self._marginal_logarithms()
            exponents = logarithms - logarithms[ground]
        weights = np.exp(exponents)
        return np.asarray(weights / weights.sum())

    def _marginal_logarithms(self) -> Long:
        """b'v + sum_j log 2 cosh F_j(v) of the visible layer, or its twin."""
        chain = self.chain
        own, others = (chain.b, self.fields[1]) if chain.dynamics.layer == "visible" else (chain.c, self.fields[0])
        magnitudes = np.abs(others[:, : chain.n_states])
        logarithms: Long = chain.spins() @ own.astype(np.longdouble) + (magnitudes + np.log1p(np.exp(-2 * magnitudes))).sum(axis=0)
        return logarithms

    @cached_property
    def root_law(self) -> Long:
        return np.sqrt(self.law)

    @cached_property
    def rates(self) -> tuple[Long, Long]:
        """S(x, x^i) = 1 / (2 N cosh F_i), per step."""
        visible, hidden = (1 / (2 * self.n_spins * np.cosh(fields)) for fields in self.fields)
        return visible, hidden

    @cached_property
    def _flips(self) -> tuple[Long, Long]:
        visible, hidden = (np.stack([_sigmoid(-2 * fields), _sigmoid(2 * fields)]) / self.n_spins for fields in self.fields)
        return visible, hidden

    @property
    def visible_flips(self) -> Long:
        return self._flips[0]

    @property
    def hidden_flips(self) -> Long:
        return self._flips[1]

    @cached_property
    def conditional_laws(self) -> tuple[Long, Long]:
        """pi(v | h) and pi(h | v), both (H, V)."""
        n_rows, n_columns = self.visible_flips.shape[2], self.hidden_flips.shape[2]
        return _block_law(self.n_spins * self.visible_flips, n_columns), _block_law(self.n_spins * self.hidden_flips, n_rows).T

    @cached_property
    def tables(self) -> GibbsChain:
        """The chain with its law, fields and rates in long double, for sums and products of arrays; compiled code takes float64 only."""
        (visible, hidden), (visible_rates, hidden_rates) = self.fields, self.rates
        return replace(
            self.chain,
            law=self.law,
            root_law=self.root_law,
            visible_local_fields=visible,
            hidden_local_fields=hidden,
            visible_rates=visible_rates,
            hidden_rates=hidden_rates,
            visible_flips=self.visible_flips,
            hidden_flips=self.hidden_flips,
        )

    @property
    def rate_error(self) -> float:
        """Relative error of flips and rates."""
        model = self.chain.model
        sums = (np.abs(model.W).sum(axis=1) + np.abs(model.b), np.abs(model.W).sum(axis=0) + np.abs(model.c))
        return 4 * _ROUNDING * float(max(part.max() for part in sums)) + 12 * LONG_UNIT

    @property
    def law_error(self) -> float:
        """Relative error of every entry of the law, and twice that of its root; on one layer sums of N logarithms are in it."""
        largest, n_spins = sum(float(np.abs(part).sum()) for part in self.chain.model), self.chain.n_spins
        if self.chain.dynamics.layer is not None:
            largest = (n_spins + 4) * (largest + n_spins)
        return 8 * _ROUNDING * largest + (self.chain.n_states + 8) * LONG_UNIT

    def single_flips(self) -> Iterator[tuple[NDArray[np.int64], Long, Long]]:
        """Of every spin: the states that its flip leads to from each, (n_states,), and P and S there."""
        chain, states = self.chain, np.arange(self.chain.n_states)
        h, v = np.divmod(states, chain.shape[1])
        for i, mask in enumerate(chain.flip_masks):
            j = i - chain.n_visible
            if j < 0:
                yield states ^ mask, self.visible_flips[v >> i & 1, i, h], self.rates[0][i, h]
            else:
                yield states ^ mask, self.hidden_flips[h >> j & 1, j, v], self.rates[1][j, v]


_ROUNDING = LONG_UNIT + SECOND_ORDER * UNIT


def _sigmoid(arguments: Long) -> Long:
    decay = np.exp(-np.abs(arguments))
    return np.asarray(np.where(arguments < 0, decay, np.longdouble(1)) / (1 + decay))


def _block_law(flips: Long, n_configurations: int) -> Long:
    """prod_i Pr(spin_i(t) | s), (configurations s of the other block, n_configurations); flips[bit, i, s] that spin i leaves bit."""
    configurations, law = np.arange(n_configurations), np.ones((flips.shape[2], n_configurations), dtype=np.longdouble)
    for i in range(flips.shape[1]):
        law *= flips[1 - (configurations >> i & 1), i].T
    return law


def transition_rates(extended: ExtendedChain) -> tuple[Long, float]:
    """P off its diagonal, (n_states, n_states), and the relative error of every entry."""
    chain = extended.chain
    states = np.arange(chain.n_states)
    rates: Long = np.zeros((chain.n_states, chain.n_states), dtype=np.longdouble)
    if chain.dynamics.single_flips:
        for others, flips, _ in extended.single_flips():
            rates[states, others] += flips
    elif chain.dynamics.layer is None:
        functions = np.eye(chain.n_states, dtype=np.longdouble).reshape(-1, *chain.shape)
        rates = chain.dynamics.apply(extended, functions).reshape(2 * (chain.n_states,)).T.copy()  # type: ignore[arg-type]  # tables of long doubles
    else:
        rates = _layer_rates(extended)
    np.fill_diagonal(rates, 0)
    terms = chain.n_configurations + 4 * chain.n_spins + 8
    return rates, chain.dynamics.factors(chain.n_visible, chain.n_hidden) * extended.rate_error + terms * LONG_UNIT


def _layer_rates(extended: ExtendedChain) -> Long:
    """sum_m p(m | x) p(y | m), and p(-y | m) with it on pairs, on one layer."""
    visible, hidden = extended.conditional_laws
    if extended.chain.dynamics.layer == "visible":
        first, second = hidden, visible
        if extended.quotient:  # p(h | v) + p(-h | v) in place of a sum over -h
            half = first.shape[1] // 2
            first, second = ((part + part[:, ::-1])[:, :half] for part in (first, second))
        return first.T @ second
    if extended.quotient:
        hidden = hidden + hidden[:, ::-1]
    return visible @ hidden.T
