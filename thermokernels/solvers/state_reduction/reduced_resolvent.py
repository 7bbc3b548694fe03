"""State reduction: T_O, resolvent and hitting times of chains that are extremely slow, without a subtraction that could lose digits.

Method "reduction" (GTH, graph transformation): (I - P) y = f~ by :mod:`thermokernels.solvers.state_reduction.gth_elimination` with y = 0 at
the ground state, which is y = (I - P)^+ f~ up to a constant, for centred f~. What else could cancel does not:

    f~(x) = 2 f(x) Pr_pi[f != f(x)]   for f = +-1 (a sum of probabilities),      T_O = sum_a sum_x pi_x f~_a(x) y_a(x),
    pi_x = exp(E_min - E(x)) / Z      with an exponent of its own.

T_O = max_y sum_a (2 <f~_a, y_a>_pi - E(y_a, y_a)), so that with the differences y^ of
:mod:`thermokernels.solvers.state_reduction.solution_differences`

    T^ = sum_a (2 <f~_a, y^_a>_pi - E(y^_a, y^_a)),      0 <= T_O - T^ = sum_a E(y^_a - y_a, y^_a - y_a) <= eps^2,

for exact pi and c. Conductances c that are right to a relative kappa move E(y^, y^) by that share of it, and pi, once by itself and twice
by f~, enters the first term:

    |T^ - T_O| <= eps^2 + kappa E(y^, y^) + 6 (error of pi) sum_a sum_x pi_x |f~_a y^_a|                                    (bound)

and what adding up the differences and the terms rounds. No number of states is in it: every term is of the size of a few roundings.

A block kernel has an edge between every two states. There |y^ - y| <= precision G|f~| entry by entry, and with
M_a = sum_x pi_x |f~_a| (G|f~_a|)_x from the same elimination |T^ - T_O| <= (precision + 6 (error of pi)) sum_a M_a.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from thermokernels.common import tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import UnresolvedError
from thermokernels.common.tolerances import UNIT
from thermokernels.compiled import wide_exponent
from thermokernels.compiled.wide_exponent import Wide
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels.model.rounding import law_error
from thermokernels.solvers.state_reduction.gth_elimination import (
    MAX_STATES,
    Elimination,
    applies_to,
    eliminate,
    eliminate_extended,
    in_long_double,
)
from thermokernels.solvers.state_reduction.solution_differences import Differences, flow_error, solve_differences

__all__ = ["MAX_STATES", "ReducedTime", "applies_to", "hitting_times", "law", "resolvent", "variance_time"]


@dataclass(frozen=True, eq=False, repr=False)
class ReducedTime:
    """T_O by state reduction, with what its adjoint needs.

    Attributes
    ----------
    chain : GibbsChain
        The chain that was reduced: on pairs {x, -x} wherever that is legitimate. On the full chain the charges of x and -x cancel exactly,
        which no arithmetic would reproduce.
    elimination : of every state but the ground state
    law : (n_states,) Wide, pi
    observables : (n_states, n_v n_h) Wide, the centred f~_a
    responses : (n_states, n_v n_h) Wide, y_a in steps, zero at the ground state
    differences : the same across edges, with the energy of their error; None for block kernels
    total : () Wide, T_O in steps
    relative_bound : on |error of T_O| / T_O
    majorants : (M, n_v n_h) Wide, m_a = G|f~_a| off the ground state, by position
    drift : (M, n_v n_h) Wide, what adding up offsets to y has lost, likewise; None for block kernels
    spread : () Wide, sum_a (sum_x pi_x |f~_a| m_a + sum_x pi_x |f~_a| sum_x pi_x m_a) >= sum_a sum_x pi_x |f~_a y~_a|, m_a = G|f~_a|
    """

    chain: GibbsChain
    elimination: Elimination = field(repr=False)
    law: Wide = field(repr=False)
    observables: Wide = field(repr=False)
    responses: Wide = field(repr=False)
    differences: Differences | None = field(repr=False)
    total: Wide
    relative_bound: float
    majorants: Wide = field(repr=False)
    drift: Wide | None = field(repr=False)
    spread: Wide

    @property
    def residual(self) -> float:
        """A bound on sqrt(r' A^+ r / b' A^+ b) for b of all observables and r what is left of them; of block kernels on the relative
        error of solutions for sources of one sign."""
        if self.differences is None:
            return self.elimination.precision
        return math.sqrt(float(wide_exponent.quotient(self.differences.error, self.total).to_floats()))


def law(chain: GibbsChain) -> Wide:
    """pi (n_states,), each entry right to a relative :func:`law_error` however small it is."""
    weights = boltzmann_weights(chain)
    return wide_exponent.quotient(weights, wide_exponent.total(weights))


def boltzmann_weights(chain: GibbsChain) -> Wide:
    """exp(min E - E), (n_states,): pi before it is divided by its sum."""
    lowest = chain.energy.min()
    exponents = lowest - chain.energy
    back = exponents - lowest
    remainders = (lowest - (exponents - back)) - (chain.energy + back) - chain.energy_remainders
    return wide_exponent.exponential(exponents, remainders)


def variance_time(chain: GibbsChain) -> ReducedTime:
    """T_O = sum_ij <f~_ij, (I - P)^+ f~_ij>_pi by state reduction.

    Raises
    ------
    ModelTooLargeError
        More states than state reduction is made for.
    UnresolvedError
        The energies leave no certain digit of a rate, or the charges f~ cancel to fewer digits than a result needs.
    """
    if not (chain.quotient or chain.model.has_fields):
        chain = gibbs_chain(chain.model, quotient=True, kernel=chain.kernel)
    elimination = eliminate(chain, ground_state(chain))
    probability = law(chain)
    values, column = products(chain), probability.take((slice(None), None))
    below, above = (
        wide_exponent.column_totals(wide_exponent.product(column, wide_exponent.from_floats((side * values > 0).astype(np.float64))))
        for side in (-1, 1)
    )
    # f~(x) = f(x) - (Pr[f = 1] - Pr[f = -1]) is 2 Pr[f = -1] where f = 1, and -2 Pr[f = 1] where f = -1
    observables = wide_exponent.product(
        wide_exponent.from_floats(2.0 * values),
        Wide(np.where(values > 0, below.mantissa, above.mantissa), np.where(values > 0, below.exponent, above.exponent)),
    )
    free, charges = elimination.states, wide_exponent.product(column, observables)
    sizes, sources = wide_exponent.magnitude(charges), observables.take(free)
    majorants = elimination.solve(wide_exponent.magnitude(sources))
    majorant = wide_exponent.total(wide_exponent.product(sizes.take(free), majorants))
    if chain.dynamics.single_flips:
        differences = solve_differences(elimination, probability, observables)
        responses, drift = differences.values()
        total, lost = _dirichlet(chain, differences, charges.take(free), responses, drift)
    else:
        differences, drift, responses = None, None, elimination.solve(sources)
        total = wide_exponent.total(wide_exponent.product(charges.take(free), responses))
        lost = wide_exponent.product(wide_exponent.from_floats(np.array(elimination.precision + 6 * law_error(chain))), majorant)
    relative = float(wide_exponent.quotient(lost, total).to_floats()) if total.mantissa > 0 else math.inf
    if not relative <= tolerances.REDUCTION:
        raise UnresolvedError(
            f"T_O is certified to a relative {relative:.2g} only by state reduction: the observables hardly see the slow modes and "
            "rounding decides how little; scale the couplings down"
        )
    means = wide_exponent.product(
        wide_exponent.column_totals(sizes), wide_exponent.column_totals(wide_exponent.product(column.take(free), majorants))
    )
    spread = wide_exponent.total(
        wide_exponent.join(means.take((None, slice(None))), Wide(majorant.mantissa[None, None], majorant.exponent[None, None]))
    )
    found = _by_state(elimination, responses, values.shape[1])
    return ReducedTime(chain, elimination, probability, observables, found, differences, total, relative, majorants, drift, spread)


def _dirichlet(chain: GibbsChain, differences: Differences, charges: Wide, responses: Wide, drift: Wide) -> tuple[Wide, Wide]:
    """T^ and the bound of its error, in steps, for charges pi f~ and values y^ off the ground state and what their sums have lost."""

    def times(factor: float, part: Wide) -> Wide:
        return wide_exponent.product(wide_exponent.from_floats(np.array(factor)), part)

    def overlap(functions: Wide) -> Wide:
        return wide_exponent.total(wide_exponent.product(charges, functions))

    charged, energy = overlap(responses), times(0.5, wide_exponent.total(differences.flows))
    total = wide_exponent.difference(times(2.0, charged), energy)
    sizes = wide_exponent.magnitude(charges)
    moved = wide_exponent.total(wide_exponent.product(sizes, wide_exponent.magnitude(responses)))
    slipped = wide_exponent.total(wide_exponent.product(sizes, drift))
    crossed = wide_exponent.root(wide_exponent.product(energy, differences.lost))  # Cauchy and Schwarz, once for each sign
    rounding = (chain.weights.size + 16) * UNIT
    parts = (
        differences.error,
        times(flow_error(chain) + rounding, energy),
        times(6 * law_error(chain) + rounding, moved),
        times(2.0, slipped),
        times(2.0, crossed),
        differences.lost,
    )
    return total, wide_exponent.total(Wide(np.array([part.mantissa for part in parts]), np.array([part.exponent for part in parts])))


def misplaced(time: ReducedTime) -> Wide:
    """sum_a (sum_x pi_x |f~_a e_a| + sum_x pi_x |f~_a| sum_x pi_x |e_a|) >= sum_a sum_x pi_x |f~_a e~_a| for the error e of y, () Wide.

    (I - P) e = -rho / pi with e = 0 at the ground state, and pi_x G(x, y) = pi_y G(y, x), so that with m_a = G|f~_a| and t = G 1

        sum_x pi_x |f~_a e_a| <= sum_x |rho_a| m_a,       sum_x pi_x |e_a| <= sum_x |rho_a| t,

    and what adding up offsets to y has lost. Of the single-site kernel.
    """
    assert time.differences is not None
    assert time.drift is not None
    elimination, free = time.elimination, time.elimination.states
    law, residuals = time.law.take((slice(None), None)), time.differences.residuals.take(free)
    sizes = wide_exponent.magnitude(wide_exponent.product(law, time.observables))
    charges, times = wide_exponent.column_totals(sizes), elimination.times.take((slice(None), None))
    parts = (
        wide_exponent.column_totals(wide_exponent.product(residuals, time.majorants)),
        wide_exponent.product(charges, wide_exponent.column_totals(wide_exponent.product(residuals, times))),
        wide_exponent.column_totals(wide_exponent.product(sizes.take(free), time.drift)),
        wide_exponent.product(charges, wide_exponent.column_totals(wide_exponent.product(law.take(free), time.drift))),
    )
    mantissa, exponent = (np.concatenate([getattr(part, name) for part in parts]) for name in ("mantissa", "exponent"))
    # G|f~| and G 1 are right to the precision of the elimination
    precise = wide_exponent.from_floats(np.array(1 + 2 * elimination.precision))
    return wide_exponent.product(wide_exponent.total(Wide(mantissa, exponent)), precise)


def symmetrised(chain: GibbsChain, time: ReducedTime) -> tuple[Floats, Floats]:
    """sqrt(pi) f~_a and sqrt(pi) y_a, y centred, as float64 on the states of ``chain``, (n_v n_h, n_states) each."""
    weights = wide_exponent.root(time.law).take((slice(None), None))
    functions = time.observables, centre(time.law, time.responses)
    rows = [np.ascontiguousarray(wide_exponent.product(weights, part).to_floats().T) for part in functions]
    if time.chain.n_states < chain.n_states:
        states = np.arange(chain.n_states)  # of a pair {x, -x} the smaller number represents both
        rows = [math.sqrt(0.5) * row[:, np.minimum(states, chain.n_states - 1 - states)] for row in rows]
    return rows[0], rows[1]


def ground_state(chain: GibbsChain) -> NDArray[np.bool_]:
    """The mask of one state of least energy."""
    mask: NDArray[np.bool_] = np.arange(chain.n_states) == chain.energy.argmin()
    return mask


def products(chain: GibbsChain) -> Floats:
    """f_ij = -v_i h_j at every state, (n_states, n_couplings), in C order of the (i, j) that exist."""
    spins = chain.spins().astype(np.float64)
    visible, hidden = spins[:, : chain.n_visible], spins[:, chain.n_visible :]
    return -(visible[:, :, None] * hidden[:, None, :]).reshape(chain.n_states, -1)[:, chain.model.edges]


def _by_state(elimination: Elimination, solutions: Wide, k: int) -> Wide:
    """The first k columns as functions on the states, zero on the target."""
    shape = (elimination.chain.n_states, k)
    result = Wide(np.zeros(shape), np.zeros(shape, dtype=np.int64))
    result.mantissa[elimination.states], result.exponent[elimination.states] = solutions.mantissa[:, :k], solutions.exponent[:, :k]
    return result


def centre(probability: Wide, functions: Wide) -> Wide:
    """F - E_pi[F] for functions (n_states, k)."""
    return wide_exponent.difference(
        functions, wide_exponent.column_totals(wide_exponent.product(probability.take((slice(None), None)), functions))
    )


def resolvent(chain: GibbsChain, columns: Floats) -> tuple[Floats, Floats]:
    """(I - P)^+ F for F (n_states, k), and a bound of its error at every state, (n_states, k).

    F is centred against its value at the ground state first: differences of float64 are right to one rounding, and the most probable of
    n states has at least the share 1 / n of any mean. With s >= |f^ - f~| for the sources as they are,

        |y^ - y| <= precision G|f^| + G s,    off the ground state, and the mean of that, and of y^, more once it is centred.
    """
    elimination, probability = eliminate(chain, ground_state(chain)), law(chain)
    shifted = columns - columns[chain.energy.argmin()]
    functions, k = centre(probability, wide_exponent.from_floats(shifted)), columns.shape[1]
    sources = functions.take(elimination.states)
    lost = wide_exponent.from_floats(_rounding_of_sources(chain, probability, shifted)).take(elimination.states)
    solutions = elimination.solve(wide_exponent.join(wide_exponent.join(sources, wide_exponent.magnitude(sources)), lost))
    parts = [_by_state(elimination, solutions.take((slice(None), slice(start, start + k))), k) for start in (0, k, 2 * k)]
    responses = centre(probability, parts[0])
    values = responses.to_floats()
    with np.errstate(over="ignore", invalid="ignore"):
        errors = elimination.precision * parts[1].to_floats() + parts[2].to_floats() * (1 + elimination.precision)
        sizes = _means(probability, wide_exponent.magnitude(parts[0])).to_floats()
        means = elimination.precision * _means(probability, parts[1]).to_floats() + _means(probability, parts[2]).to_floats()
        bounds = (errors + means) * (1 + 4 * law_error(chain)) + (2 * law_error(chain) + 4 * UNIT) * sizes + 2 * UNIT * np.abs(values)
    if not (np.isfinite(values).all() and np.isfinite(bounds).all()):
        raise UnresolvedError("the resolvent exceeds the range of float64; scale the couplings down")
    return values, bounds


def _means(probability: Wide, functions: Wide) -> Wide:
    """E_pi of each column of functions (n_states, k)."""
    return wide_exponent.column_totals(wide_exponent.product(probability.take((slice(None), None)), functions))


def _rounding_of_sources(chain: GibbsChain, probability: Wide, shifted: Floats) -> Floats:
    """What rounding leaves of f~ = F - F(x0) - E_pi[F - F(x0)]: of differences and of the law."""
    means = _means(probability, wide_exponent.from_floats(np.abs(shifted))).to_floats()
    result: Floats = 2 * UNIT * np.abs(shifted) + (2 * law_error(chain) + 4 * UNIT) * means
    return result


def hitting_times(chain: GibbsChain, target: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Hitting times of ``target`` in steps (n_states,), and the bound on their relative error, entry by entry.

    Raises
    ------
    ModelTooLargeError
        More states than state reduction is made for.
    UnresolvedError
        A time is beyond 1e308 steps, or the energies leave no certain digit of a rate.
    """
    times = np.zeros(chain.n_states)
    if in_long_double(chain):  # rounded once
        found = eliminate_extended(chain, target)
        values, precision = found.solve(np.ones((found.states.size, 1), dtype=np.longdouble))[:, 0], found.precision + UNIT
        with np.errstate(over="ignore"):
            times[found.states] = values
        logarithms = np.log(values)
    else:
        elimination = eliminate(chain, target)
        times[elimination.states], precision = elimination.times.to_floats(), elimination.precision
        logarithms = elimination.times.log()
    if not np.isfinite(times).all():
        largest = float(logarithms.max()) / math.log(10)
        raise UnresolvedError(f"a hitting time of 10**{largest:.6g} steps exceeds the range of float64; scale the couplings down")
    return times, precision
