"""Subtraction-free elimination of the states of a chain (Grassmann, Taksar and Heyman, Operations Research 33 (1985) 1107).

State by state the chain is watched only on the states that are left (graph transformation: Wales, Mol. Phys. 100 (2002) 3285):

    s_k = sum_{j left} R_kj,      R_ij <- R_ij + R_ik R_kj / s_k,      f_i <- f_i + R_ik f_k / s_k       (i, j left, i != j)

with off-diagonal rates R only. 1 - P_kk is never formed, no two numbers are subtracted, and so nothing is lost however slowly a state is
left: this is Gaussian elimination of (I - P) y = f off a target, y = 0 on it, with y_k = (f_k + sum_j R_kj y_j) / s_k in return. The
target is one absorbing column. States leave in order of falling energy.

Accuracy (the entrywise perturbation argument of O'Cinneide, Numer. Math. 65 (1993) 109). Let u = 2**-53. An entry of the solution for
f >= 0 is a ratio of sums over forests, of at most 2 m - 1 rates in all when m states are left (Markov chain tree theorem),
so rates that are right to a relative h give a solution right to (2 m - 1) h in first order. One elimination is exact for rates that are
wrong by at most 5 u (two for the compensated sum s_k, one each for quotient, product and sum), and f likewise: that makes 10 m u. One row
of the return adds (m + 4) u. With M states in all and initial rates right to ``rate_error``,

    |y^ - y| <= ((5.5 M^2 + 10 M) u + 2 M rate_error) G|f|,     G = ((I - P)_off)^(-1) >= 0,                      (precision)

entry by entry, for f of any sign, since y^ is linear in f with weights of one sign.

Up to 128 states are eliminated in long double where that has more digits (:mod:`thermokernels.model.extended`), with w = 2**-64 in place of
u and m roundings in a row's sum: rates wrong by (m + 3) w a state. The factors are rounded once to float64; sources and return then take
(m + 2) u and (m + 3) u a row, and

    |y^ - y| <= ((M^2 + 6 M) u + (0.7 M^3 + 4 M^2 + 8 M) w + 2 M (error of the rates in long double)) G|f|.                (extended)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from thermokernels.common import memory
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import ModelTooLargeError, UnresolvedError
from thermokernels.common.tolerances import UNIT
from thermokernels.compiled import wide_exponent
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.wide_exponent import Wide, add, divide, multiply
from thermokernels.model import extended
from thermokernels.model.chain import GibbsChain
from thermokernels.model.extended import LONG_UNIT, ExtendedChain, Long
from thermokernels.model.kernels import wide_rates
from thermokernels.model.rounding import entry_error, input_error

MAX_STATES = 2**12
# Rates beyond the range of float64 are carried with exponents of their own, at a tenth of the speed.
MAX_WIDE_STATES = 2**11
# NumPy takes long doubles one at a time; so few states cost no more than what is solved for with their factors.
MAX_EXTENDED_STATES = 2**7
PANEL = 32
LOWEST = -(2**62)

# Float64 is used while pivots and 1 / times stay above 1e-150 and energies within 300 (exp(-300) = 1e-130). What underflows is then at
# most 1e-308 for each of at most M^2 / 2 stages and rates; by first-order perturbation it moves y by at most
# M^2 1e-308 max(t) max|y| <= 1e-308 M^2 10^150 max|y|, a relative 1e-150 where |f| >= 1e-130: nothing. Quotients stay below 1e150.
SMALLEST_PIVOT, LARGEST_TIME, LARGEST_SPAN = 1e-150, 1e150, 300.0


def applies_to(chain: GibbsChain) -> bool:
    """Whether the chain is of a kernel and size that state reduction is made for."""
    return chain.dynamics.state_reduction and chain.n_states <= MAX_STATES


@dataclass(frozen=True, eq=False, repr=False)
class Elimination:
    """The factors for one target, good for any number of right-hand sides.

    Attributes
    ----------
    chain : GibbsChain
    states : (M,) state numbers off the target, in the order of elimination; position M stands for the target
    rates : (M, M + 1) Wide; above the diagonal R_kj at the elimination of k (the last column into the target), below it R_ik / s_k
    pivots : (M,) Wide, s_k per step
    precision : float, the relative error bound of solutions for f >= 0 (derived above)
    of_paths : float, the relative error of products of ``rates`` below the diagonal along a path, added up over paths, and of 1 / sqrt(s_k)
    """

    chain: GibbsChain
    states: NDArray[np.int64]
    rates: Wide = field(repr=False)
    pivots: Wide = field(repr=False)
    precision: float
    of_paths: float

    @cached_property
    def times(self) -> Wide:
        """(M,) hitting times of the target in steps, by position."""
        return self.solve(wide_exponent.from_floats(np.ones((self.states.size, 1)))).take((slice(None), 0))

    def reduce(self, sources: Wide) -> Wide:
        """f after the elimination, for sources (M, k) by position."""
        reduced = Wide(sources.mantissa.copy(), sources.exponent.copy())
        _reduce_sources(*self.rates, *reduced)
        return reduced

    def solve(self, sources: Wide) -> Wide:
        """y = G f in steps, for sources (M, k) by position."""
        values = self.reduce(sources)
        _return(*self.rates, *self.pivots, *values)
        return values


def transitions(chain: GibbsChain) -> tuple[NDArray[np.int64], Wide]:
    """Where a step can lead, (n_states, k) state numbers, and the rates of going there, whatever their size.

    Single flips are listed one by one; a block kernel leads everywhere, and the rate of staying is left out as zero.
    """
    if chain.dynamics.single_flips:
        return neighbours(chain), flip_rates(chain)
    laws = wide_rates.conditional_laws((chain.visible_local_fields, chain.hidden_local_fields), chain.field_remainders)
    return np.broadcast_to(np.arange(chain.n_states), 2 * (chain.n_states,)), chain.dynamics.wide_rates(*laws, chain.quotient)


def rate_error(chain: GibbsChain) -> float:
    """The relative error of the rates of :func:`transitions`, the rounding of sums of those that lead to one target included."""
    if chain.dynamics.single_flips:
        return input_error(chain)
    return entry_error(chain) + chain.n_states * UNIT


def flip_rates(chain: GibbsChain) -> Wide:
    """P(x, x^i) of the single-site kernel as (n_states, N), whatever its size."""
    signs = -2.0 * chain.spins()
    against, remainders = (
        signs * _by_state(chain, *parts) for parts in ((chain.visible_local_fields, chain.hidden_local_fields), chain.field_remainders)
    )
    return wide_exponent.product(wide_rates.sigmoid(against, remainders), wide_exponent.from_floats(np.array(1.0 / chain.n_spins)))


def _by_state(chain: GibbsChain, visible: Floats, hidden: Floats) -> Floats:
    """Tables of visible spins (n_v, H) and of hidden ones (n_h, V) at every state, (n_states, N)."""
    values = np.empty((*chain.shape, chain.n_spins))
    values[:, :, : chain.n_visible] = visible.T[:, None, :]
    values[:, :, chain.n_visible :] = hidden.T[None, :, :]
    return values.reshape(chain.n_states, chain.n_spins)


def neighbours(chain: GibbsChain) -> NDArray[np.int64]:
    """The state that the flip of each spin leads to, (n_states, N)."""
    return np.arange(chain.n_states)[:, None] ^ chain.flip_masks


def eliminate(chain: GibbsChain, target: NDArray[np.bool_]) -> Elimination:
    """Eliminate every state off ``target`` (n_states,) bool.

    Raises
    ------
    ModelTooLargeError
        Too little memory, more than 2**12 states, or more than 2**11 where rates leave the range of float64.
    NotReversibleError
        The kernel has no detailed balance.
    UnresolvedError
        Energies so large that rounding them leaves no digit of a rate.
    """
    chain.require_reversible()
    if in_long_double(chain):
        return _eliminate_extended(chain, target)
    return eliminate_in_float64(chain, target)


def in_long_double(chain: GibbsChain) -> bool:
    """Whether :func:`eliminate_extended` has more digits here, for a chain that is small enough."""
    return chain.n_states <= MAX_EXTENDED_STATES and extended.applies_to(chain)


def eliminate_in_float64(chain: GibbsChain, target: NDArray[np.bool_]) -> Elimination:
    """:func:`eliminate` by compiled kernels, whatever the number of states; raises as there."""
    if chain.n_states > MAX_STATES:
        raise ModelTooLargeError(
            f"state reduction is dense and limited to {MAX_STATES} states; this chain has {chain.n_states}: use a smaller model, or scale "
            "the couplings down until method='cg' resolves it"
        )
    # rates as pairs, while they are made and in plain float64
    memory.require(40 * chain.n_states**2, f"state reduction of {chain.n_states} states", "use a smaller model")
    error = rate_error(chain)
    states = _order(chain, target)
    n_free = states.size
    precision = (5.5 * n_free**2 + 10 * n_free) * UNIT + 2 * n_free * error
    span = float(np.ptp(chain.energy))
    if precision > 1e-2 or not span < 1e8:
        raise UnresolvedError(f"energies span {span:.3g}: rounding them leaves no certain digit of the rates; scale the couplings down")
    position = np.full(chain.n_states, n_free)
    position[states] = np.arange(n_free)
    rates = Wide(np.zeros((n_free, n_free + 1)), np.zeros((n_free, n_free + 1), dtype=np.int64))
    others, all_rates = transitions(chain)
    _fill(*all_rates.take(states), position[others[states]], *rates)
    if span <= LARGEST_SPAN:
        plain, plain_pivots = rates.to_floats(), np.empty(n_free)
        _eliminate(plain, plain_pivots)
        if plain_pivots.min() >= SMALLEST_PIVOT:
            factors = wide_exponent.from_floats(plain), wide_exponent.from_floats(plain_pivots)
            result = Elimination(chain, states, *factors, precision, 1.5 * precision)
            if result.times.to_floats().max() <= LARGEST_TIME:
                return result
    if chain.n_states > MAX_WIDE_STATES:
        raise ModelTooLargeError(
            f"rates of this chain leave the range of float64, and beyond it state reduction is limited to {MAX_WIDE_STATES} states; this "
            f"chain has {chain.n_states}: use a smaller model, or scale the couplings down"
        )
    pivots = Wide(np.empty(n_free), np.zeros(n_free, dtype=np.int64))
    _eliminate_wide(*rates, *pivots)
    return Elimination(chain, states, rates, pivots, precision, 1.5 * precision)


def _order(chain: GibbsChain, target: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The states off the target, the least probable first."""
    order = np.argsort(-chain.energy, kind="stable")
    return order[~target[order]]


def _eliminate_extended(chain: GibbsChain, target: NDArray[np.bool_]) -> Elimination:
    """The factors from rates and sums in long double, rounded once."""
    found = eliminate_extended(chain, target)
    m = found.states.size
    factors = wide_exponent.from_long_doubles(found.rates), wide_exponent.from_long_doubles(found.pivots)
    return Elimination(chain, found.states, *factors, (m**2 + 6 * m) * UNIT + found.exact, (m + 1) * UNIT + 1.5 * found.exact)


@dataclass(frozen=True, eq=False, repr=False)
class ExtendedElimination:
    """The factors of :class:`Elimination` in long double, (M, M + 1) and (M,); ``exact`` is the relative error of solutions for f >= 0 that
    are made of them without rounding."""

    states: NDArray[np.int64]
    rates: Long
    pivots: Long
    exact: float

    @property
    def precision(self) -> float:
        """The same of :meth:`solve`, whose sources and return take (m + 2) w and (m + 3) w a row."""
        m = self.states.size
        return (m**2 + 6 * m) * LONG_UNIT + self.exact

    def reduce(self, sources: Long) -> Long:
        """f after the elimination, for sources (M, k) by position."""
        reduced = sources.copy()
        for k in range(len(reduced)):
            reduced[k + 1 :] += self.rates[k + 1 :, k, None] * reduced[k]
        return reduced

    def solve(self, sources: Long) -> Long:
        """y = G f in steps, for sources (M, k) by position."""
        values = self.reduce(sources)
        for k in range(len(values) - 1, -1, -1):
            values[k] = (values[k] + self.rates[k, k + 1 : -1] @ values[k + 1 :]) / self.pivots[k]
        return values


def eliminate_extended(chain: GibbsChain, target: NDArray[np.bool_]) -> ExtendedElimination:
    """:func:`eliminate` in long double, of a chain that :func:`in_long_double` applies to; raises as there."""
    chain.require_reversible()
    states = _order(chain, target)
    all_rates, error = extended.transition_rates(ExtendedChain(chain))
    rates = np.hstack([all_rates[np.ix_(states, states)], all_rates[np.ix_(states, np.flatnonzero(target))].sum(axis=1)[:, None]])
    pivots = _eliminate_long(rates)
    m = states.size
    exact = (0.7 * m**3 + 4 * m**2 + 8 * m) * LONG_UNIT + 2 * m * (error + chain.n_states * LONG_UNIT)
    return ExtendedElimination(states, rates, pivots, exact)


def _eliminate_long(rates: Long) -> Long:
    """Eliminate rows 0, 1, ... of rates (M, M + 1), in place as :func:`_eliminate`; returns the pivots (M,)."""
    pivots = np.empty(len(rates), dtype=np.longdouble)
    for k in range(len(rates)):
        pivots[k] = rates[k, k + 1 :].sum()
        rates[k + 1 :, k] /= pivots[k]
        rates[k + 1 :, k + 1 :] += rates[k + 1 :, k, None] * rates[k, k + 1 :]
    return pivots


@jit
def _fill(mantissa, exponent, columns, rates, powers):
    """rates[p, columns[p, i]] += the rates of position p: those that lead to one state (the target, a free pair of spins) add up."""
    for p in range(columns.shape[0]):
        for i in range(columns.shape[1]):
            q = columns[p, i]
            rates[p, q], powers[p, q] = add(rates[p, q], powers[p, q], mantissa[p, i], exponent[p, i])


@jit
def _row_sum(row, start):
    """The sum of row[start:] >= 0 to two roundings (Kahan; Higham, Accuracy and Stability, 2002, section 4.3)."""
    sum_, lost = 0.0, 0.0
    for j in range(start, row.size):
        term = row[j] - lost
        updated = sum_ + term
        lost = (updated - sum_) - term
        sum_ = updated
    return sum_


@jit
def _eliminate(rates, pivots):
    """Eliminate rows 0, 1, ... of rates (M, M + 1), in place; diagonal entries collect what is never read.

    In panels: a panel's rows and columns are kept up to date, the rest takes a panel's updates together while its rows are in the cache.
    Every entry takes its terms in the order of elimination, so panels change no bit.
    """
    n_free, n_columns = rates.shape
    for start in range(0, n_free, PANEL):
        stop = min(start + PANEL, n_free)
        for k in range(start, stop):
            source = rates[k]
            pivots[k] = _row_sum(source, k + 1)
            for i in range(k + 1, n_free):
                row = rates[i]
                row[k] /= pivots[k]
                share = row[k]
                if share != 0.0:
                    for j in range(k + 1, n_columns if i < stop else stop):
                        row[j] += share * source[j]
        for i in range(stop, n_free):
            row = rates[i]
            k = start
            while k + 4 <= stop:
                a, b, c, d = row[k], row[k + 1], row[k + 2], row[k + 3]
                p, q, r, s = rates[k], rates[k + 1], rates[k + 2], rates[k + 3]
                for j in range(stop, n_columns):
                    row[j] = (((row[j] + a * p[j]) + b * q[j]) + c * r[j]) + d * s[j]
                k += 4
            for m in range(k, stop):
                share, source = row[m], rates[m]
                for j in range(stop, n_columns):
                    row[j] += share * source[j]


@jit
def _eliminate_wide(rates, powers, pivots, pivot_powers):
    """The same in wide numbers, row by row."""
    n_free, n_columns = rates.shape
    for k in range(n_free):
        top = LOWEST
        for j in range(k + 1, n_columns):
            if rates[k, j] != 0.0:
                top = max(top, powers[k, j])
        scaled = np.zeros(n_columns - k - 1)
        for j in range(k + 1, n_columns):
            if powers[k, j] == top:
                scaled[j - k - 1] = rates[k, j]
            elif powers[k, j] == top - 1:
                scaled[j - k - 1] = rates[k, j] * wide_exponent.DOWN
        pivots[k], pivot_powers[k] = wide_exponent.normal(_row_sum(scaled, 0), top)
        for i in range(k + 1, n_free):
            if rates[i, k] == 0.0:
                continue
            share, power = divide(rates[i, k], powers[i, k], pivots[k], pivot_powers[k])
            rates[i, k], powers[i, k] = share, power
            for j in range(k + 1, n_columns):
                if rates[k, j] != 0.0 and j != i:
                    term, exponent = multiply(share, power, rates[k, j], powers[k, j])
                    rates[i, j], powers[i, j] = add(rates[i, j], powers[i, j], term, exponent)


@jit
def _reduce_sources(rates, powers, sources, exponents):
    """f_i += sum_{k < i} (R_ik / s_k) f_k, in place, for sources (M, K)."""
    for i in range(sources.shape[0]):
        for k in range(i):
            if rates[i, k] != 0.0:
                _add_multiple(rates[i, k], powers[i, k], sources[k], exponents[k], sources[i], exponents[i])


@jit
def _return(rates, powers, pivots, pivot_powers, values, exponents):
    """y_k = (f_k + sum_{k < j < M} R_kj y_j) / s_k from the last to the first, in place; y is zero on the target."""
    n_free = values.shape[0]
    for k in range(n_free - 1, -1, -1):
        for j in range(k + 1, n_free):
            if rates[k, j] != 0.0:
                _add_multiple(rates[k, j], powers[k, j], values[j], exponents[j], values[k], exponents[k])
        for a in range(values.shape[1]):
            values[k, a], exponents[k, a] = divide(values[k, a], exponents[k, a], pivots[k], pivot_powers[k])


@jit
def _add_multiple(factor, power, source, source_exponents, target, target_exponents):
    """target += factor * source, rows of wide numbers."""
    for a in range(target.size):
        if source[a] != 0.0:
            term, exponent = multiply(factor, power, source[a], source_exponents[a])
            target[a], target_exponents[a] = add(target[a], target_exponents[a], term, exponent)
