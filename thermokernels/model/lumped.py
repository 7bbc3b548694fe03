"""The chain of how many spins of each class are -1: single-site Gibbs sampling, lumped over exchangeable sites.

Classes c of n_c visible and d of n_d hidden spins, k_c and l_d of them -1, magnetisations M_c = n_c - 2 k_c, M_d = n_d - 2 l_d:

    pi(k, l) ~ prod_c binom(n_c, k_c) prod_d binom(n_d, l_d) exp( sum_cd w_cd M_c M_d + sum_c b_c M_c + sum_d c_d M_d ),
    k_c -> k_c + 1 at rate (n_c - k_c) / N sigmoid(-2 F_c),  k_c -> k_c - 1 at rate k_c / N sigmoid(2 F_c),  F_c = sum_d w_cd M_d + b_c,

hidden classes likewise (Kemeny and Snell, Finite Markov Chains, 6.3). Symmetrised, with no division by pi,

    S(k_c, k_c + 1) = sqrt((n_c - k_c)(k_c + 1)) / (2 N cosh F_c).

N may exceed the sum of the n_c, and there may be *killing*: A = killing + I - S then is what acts on functions that change sign with the
exchange of two spins of a class, which survives until either of them is updated (:mod:`thermokernels.model.exchangeable`).
States are arrays [l, k] of mixed radix, the first class fastest. Laws are made of logarithms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from thermokernels.common import threads
from thermokernels.common.arrays import Floats
from thermokernels.common.tolerances import UNIT
from thermokernels.compiled.decorator import jit


@dataclass(frozen=True, eq=False, repr=False)
class LumpedChain:
    """Sizes, couplings and fields of the classes, and the tables that follow from them.

    Attributes
    ----------
    visible_sizes, hidden_sizes : n_c and n_d
    couplings : (C, D); b : (C,); c : (D,)
    n_spins : N, steps in a sweep
    killing : per step
    """

    visible_sizes: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    couplings: Floats
    b: Floats
    c: Floats
    n_spins: int
    killing: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(hidden, visible) configurations of counts."""
        return math.prod(n + 1 for n in self.hidden_sizes), math.prod(n + 1 for n in self.visible_sizes)

    @property
    def n_states(self) -> int:
        return self.shape[0] * self.shape[1]

    @cached_property
    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """l (D, H) and k (C, V)."""
        return _digits(self.hidden_sizes), _digits(self.visible_sizes)

    @cached_property
    def magnetisations(self) -> tuple[Floats, Floats]:
        """M_d (D, H) and M_c (C, V)."""
        hidden, visible = self.counts
        sizes = np.array(self.hidden_sizes)[:, None], np.array(self.visible_sizes)[:, None]
        return (sizes[0] - 2.0 * hidden), (sizes[1] - 2.0 * visible)

    @cached_property
    def fields(self) -> tuple[Floats, Floats]:
        """F_d (D, V) and F_c (C, H)."""
        hidden, visible = self.magnetisations
        return self.couplings.T @ visible + self.c[:, None], self.couplings @ hidden + self.b[:, None]

    @cached_property
    def log_weights(self) -> Floats:
        """log of the unnormalised pi, (H, V)."""
        hidden, visible = self.magnetisations
        ways = _log_ways(self.hidden_sizes, self.counts[0]), _log_ways(self.visible_sizes, self.counts[1])
        weights: Floats = hidden.T @ self.couplings.T @ visible
        weights += (ways[0] + self.c @ hidden)[:, None]
        weights += ways[1] + self.b @ visible
        return weights

    @cached_property
    def log_partition(self) -> float:
        largest = float(self.log_weights.max())
        return largest + math.log(float(np.exp(self.log_weights - largest).sum()))

    @cached_property
    def log_law(self) -> Floats:
        """log pi, (n_states,)."""
        return (self.log_weights - self.log_partition).ravel()

    @cached_property
    def law(self) -> Floats:
        """pi, (n_states,); underflows where it is below 1e-308."""
        law: Floats = np.exp(self.log_law)
        return law

    @cached_property
    def root_law(self) -> Floats:
        root: Floats = np.exp(0.5 * self.log_law)
        root /= np.linalg.norm(root)
        return root

    @cached_property
    def _links(self) -> tuple[tuple[NDArray[np.int64], Floats, Floats], ...]:
        """For hidden and visible classes: strides, sqrt((n - k)(k + 1)) of every configuration, 1 / (2 N cosh F)."""
        links = []
        for sizes, counts, fields in zip((self.hidden_sizes, self.visible_sizes), self.counts, self.fields, strict=True):
            n = np.array(sizes)[:, None]
            with np.errstate(over="ignore"):
                rates = 1 / (2 * self.n_spins * np.cosh(fields))
            links.append((_strides(sizes), np.sqrt((n - counts) * (counts + 1.0)), np.ascontiguousarray(rates)))
        return tuple(links)

    @cached_property
    def escape(self) -> Floats:
        """(n_states,), 1 - P(x, x) per step, a sum of positive terms."""
        total = np.zeros(self.shape)
        for axis, (sizes, counts, fields) in enumerate(zip((self.hidden_sizes, self.visible_sizes), self.counts, self.fields, strict=True)):
            for n, k, field in zip(sizes, counts, fields, strict=True):
                down, up = _sigmoid(-2 * field) / self.n_spins, _sigmoid(2 * field) / self.n_spins
                total += np.outer(n - k, down) + np.outer(k, up) if axis == 0 else np.outer(down, n - k) + np.outer(up, k)
        return total.ravel()

    def apply_generator(self, vector: Floats, out: Floats | None = None) -> Floats:
        """A x = (killing + I - S) x for one vector (n_states,), in a new array or in ``out``, which is not ``vector``."""
        (hidden_strides, hidden_raises, hidden_rates), (strides, raises, rates) = self._links
        x, product = vector.reshape(self.shape), np.empty(self.shape) if out is None else out.reshape(self.shape)
        diagonal = self.escape.reshape(self.shape)

        def rows(part: slice) -> None:
            tables = (diagonal, self.killing, hidden_strides, hidden_raises, hidden_rates, strides, raises, rates)
            _apply_generator(*tables, x, product, part.start, part.stop)

        threads.for_rows(rows, self.shape[0], x.size * 2 * (len(strides) + len(hidden_strides)))
        return product.ravel()

    def apply(self, functions: Floats) -> Floats:
        """(1 - killing) f + (P - I) f for functions (n_states, k): differences along the moves, free of any division by pi."""
        result = (1 - self.killing) * functions.reshape(*self.shape, -1)
        values = functions.reshape(*self.shape, -1)
        moves = zip((self.hidden_sizes, self.visible_sizes), self.counts, self.fields, strict=True)
        for axis, (sizes, counts, fields) in enumerate(moves):
            for n, k, field, stride in zip(sizes, counts, fields, _strides(sizes), strict=True):
                down, up = _sigmoid(-2 * field) / self.n_spins, _sigmoid(2 * field) / self.n_spins
                lower, upper = np.flatnonzero(k < n), np.flatnonzero(k > 0)
                if axis == 0:
                    result[lower] += np.outer(n - k[lower], down)[:, :, None] * (values[lower + stride] - values[lower])
                    result[upper] += np.outer(k[upper], up)[:, :, None] * (values[upper - stride] - values[upper])
                else:
                    result[:, lower] += np.outer(down, n - k[lower])[:, :, None] * (values[:, lower + stride] - values[:, lower])
                    result[:, upper] += np.outer(up, k[upper])[:, :, None] * (values[:, upper - stride] - values[:, upper])
        return np.ascontiguousarray(result.reshape(functions.shape))

    @cached_property
    def law_error(self) -> float:
        """Relative error of every pi: roundings of numbers no larger than all log-weights' terms, twice (sums and their normalisation)."""
        ways = sum(n * math.log(2) for n in (*self.visible_sizes, *self.hidden_sizes))
        energy = float(np.array(self.visible_sizes) @ np.abs(self.couplings) @ np.array(self.hidden_sizes))
        fields = float(np.array(self.visible_sizes) @ np.abs(self.b) + np.array(self.hidden_sizes) @ np.abs(self.c))
        terms = 2 * (len(self.visible_sizes) + len(self.hidden_sizes)) + 8
        return (2 * terms * (ways + energy + fields) + 16) * UNIT

    @cached_property
    def entry_error(self) -> float:
        """Relative error of every entry of A: twice the rounding of a field, and that of exp, quotient, roots and sums."""
        largest = max(float(np.abs(fields).max()) for fields in self.fields)
        terms = max(self.couplings.shape) + 1
        return float((2 * terms * largest + 2 * sum(self.couplings.shape) + 16) * UNIT)


def _digits(sizes: tuple[int, ...]) -> NDArray[np.int64]:
    total = math.prod(n + 1 for n in sizes)
    states = np.arange(total)
    return np.array([states // stride % (n + 1) for n, stride in zip(sizes, _strides(sizes), strict=True)])


def _strides(sizes: tuple[int, ...]) -> NDArray[np.int64]:
    return np.array([math.prod(n + 1 for n in sizes[:c]) for c in range(len(sizes))], dtype=np.int64)


def _log_ways(sizes: tuple[int, ...], counts: NDArray[np.int64]) -> Floats:
    """log of the product of the binomials at every configuration: logarithms of exact integers."""
    total = np.zeros(counts.shape[1])
    for n, k in zip(sizes, counts, strict=True):
        total += np.array([math.log(math.comb(n, j)) for j in range(n + 1)])[k]
    return total


def _sigmoid(x: Floats) -> Floats:
    small = np.exp(-np.abs(x))
    result: Floats = np.where(x < 0, small, 1.0) / (1.0 + small)
    return result


@jit
def _apply_generator(
    diagonal, killing, hidden_strides, hidden_raises, hidden_rates, strides, raises, rates, x, product, first, last
):  # fmt: skip
    """product = A x for the rows ``first`` to ``last``; the square roots vanish where a class has no spin left to turn."""
    n_columns = x.shape[1]
    for h in range(first, last):
        here, out = x[h], product[h]
        for v in range(n_columns):
            out[v] = (diagonal[h, v] + killing) * here[v]
        for c in range(strides.size):
            stride, rate, root = strides[c], rates[c, h], raises[c]
            for v in range(n_columns - stride):
                out[v] -= rate * root[v] * here[v + stride]
            for v in range(n_columns - stride):
                out[v + stride] -= rate * root[v] * here[v]
        for d in range(hidden_strides.size):
            stride, rate = hidden_strides[d], hidden_rates[d]
            if hidden_raises[d, h] > 0.0:
                factor, other = hidden_raises[d, h], x[h + stride]
                for v in range(n_columns):
                    out[v] -= factor * rate[v] * other[v]
            if h >= stride and hidden_raises[d, h - stride] > 0.0:
                factor, other = hidden_raises[d, h - stride], x[h - stride]
                for v in range(n_columns):
                    out[v] -= factor * rate[v] * other[v]
