"""The gradient of T_O by state reduction, from the forward elimination alone.

Differences y(x) - y(x') inside a basin that is left once in 1e40 steps are the 1e-40th part of y: subtracting values of y would leave
nothing. They are solved for instead. Every state k hangs on the state p it goes to most easily when it is eliminated, and with
sum_j R_kj / s_k = 1 its offset is

    d_k = y_k - y_p = (f_k + sum_j R_kj (y_j - y_p)) / s_k,

where y_j - y_p is the sum of offsets along the path from j to p in that tree: no level that both share is ever formed.

The gradient carries a bound. A path of l offsets is added up to d, l u times the sum of their sizes. With rho = pi f~ - div c (y^ - y^')
as computed, its rounding added, Thomson's principle on a spanning tree (:mod:`thermokernels.solvers.gap_bounds`) bounds the energy of the
error,

    E(y^ - y, y^ - y) <= sum_{e in tree} (sum_{x above e} |rho_x|)^2 / c_e =: eps^2,
    |sum_e (c (y^ - y^')^2 - c (y - y')^2) g_e| <= max|g| (2 sqrt(T_O) eps' + eps'^2),   eps' = eps + |d|_c,   (Cauchy and Schwarz)

and |dlog c / dW| <= 1 + |dlog pi / dW| <= 3. In the term of the law, |y^ - y| <= precision G|f~|
(:mod:`thermokernels.solvers.gth_elimination`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats
from thermokernels.common.errors import UnresolvedError
from thermokernels.compiled import wide_exponent
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.wide_exponent import Wide, add, divide, multiply
from thermokernels.model.chain import UNIT, GibbsChain, input_error, law_error
from thermokernels.quantities.variance_time import correlations
from thermokernels.solvers.gth_elimination import flip_rates, neighbours
from thermokernels.solvers.reduced_resolvent import ReducedTime, centre
from thermokernels.solvers.reduced_resolvent import law as law_of
from thermokernels.solvers.spanning_tree_bound import lowest_passes

# |E(y, y) / T_O - 1|, both from the same elimination on different ways: more than rounding means that one of them cancelled.
AGREEMENT = 1e-7

# `chain.UNIT` again: what a kernel uses is compiled into it, and has to stand in a file that the key of the kernels' cache covers.
COMPILED_UNIT = 2.0**-53


# T_O = sum_a (2 <f~_a, y_a>_pi - E(y_a, y_a)) is stationary in y_a, E(y, y) = sum_{edges} c_xx' (y(x) - y(x'))^2, c_xx' = pi_x P(x, x').
# Every y held still, and centred, since d<f~_a, y_a> = Cov_pi(f~_a y~_a, dlog pi) for any law:
#   dT_O = sum_x 2 pi_x sum_a f~_a(x) y~_a(x) dlog pi(x)                                                                         (law)
#          - sum_{edges} w_xx' dlog c_xx',   w_xx' = c_xx' sum_a (y_a(x) - y_a(x'))^2                                          (edges)
#   c(x, x^i) = sqrt(pi_x pi_x^i) / (2 N cosh F_i) gives dlog c = (dlog pi(x) + dlog pi(x^i)) / 2 - tanh(F_i) dF_i.   (conductance)
def weights(time: ReducedTime) -> tuple[Floats, Floats, float]:
    """Derivatives of log T_O by log pi(x), (n_states,), the shares w(x, x^i) / T_O of the edges, (n_states, N), each edge at both ends,
    and a bound on the error of every entry of (dT_O / dW) / T_O that is made of them.

    Raises
    ------
    UnresolvedError
        The edges do not add up to T_O.
    """
    chain, elimination, k = time.chain, time.elimination, time.observables.mantissa.shape[1]
    states = elimination.states
    sources = elimination.reduce(time.observables.take(states))
    parents = _easiest(elimination.rates)
    offsets = Wide(np.empty_like(sources.mantissa), np.empty_like(sources.exponent))
    _offsets(elimination.rates, elimination.pivots, parents, sources, offsets)

    position = np.full(chain.n_states, states.size)
    position[states] = np.arange(states.size)
    law = time.law.take((slice(None), None))
    strengths, charges = wide_exponent.product(law, flip_rates(chain)), wide_exponent.product(law, time.observables)
    rounding = 2 * law_error(chain) + input_error(chain) + (chain.n_spins + 8) * UNIT
    flows, residuals = _zeros(chain.n_states, chain.n_spins), _zeros(chain.n_states, k)
    noise = _zeros(chain.n_states, 1)
    _flows(position, position[neighbours(chain)], parents, offsets, strengths, charges, rounding, flows, residuals, noise)
    shares = wide_exponent.quotient(flows, time.total).to_floats()
    agreement = abs(0.5 * shares.sum() - 1.0)
    if not agreement <= AGREEMENT:
        raise UnresolvedError(
            f"the gradient of T_O is not resolved: its edges add up to T_O to a relative {agreement:.2g} only; scale the couplings down"
        )
    responses = centre(time.law, time.responses)
    terms = wide_exponent.product(charges, responses)
    by_state = sum(wide_exponent.quotient(terms.take((slice(None), a)), time.total).to_floats() for a in range(k))

    # (eps + |d|)^2 <= 2 eps^2 + 2 |d|^2, relative to T_O; `noise` has every edge at both ends
    energy = 2 * _share(_dissipation(chain, residuals), time.total) + _share(wide_exponent.total(noise), time.total)
    summation = (chain.n_states + chain.n_spins + k + 16) * UNIT
    # |dlog pi / dW_kl| = |v_k h_l - E[v_k h_l]|, and |tanh F dF| <= 1
    steepest = 1 + float(np.abs(correlations(chain, chain.law)).max())
    from_edges = (steepest + 1) * (2 * math.sqrt(energy) + energy + rounding + summation)
    # y^ against y; and what pi, once by itself, twice in f~ and once in the mean of y, and the sums add to the terms as they are
    sizes = wide_exponent.column_totals(wide_exponent.magnitude(charges))
    means = wide_exponent.column_totals(wide_exponent.product(law, wide_exponent.magnitude(time.responses)))
    moved = _share(wide_exponent.total(wide_exponent.magnitude(terms)), time.total) + _share(
        wide_exponent.total(wide_exponent.product(sizes, means)), time.total
    )
    from_law = 2 * steepest * (elimination.precision * _share(time.spread, time.total) + (4 * law_error(chain) + summation) * moved)
    return 2.0 * by_state - 0.5 * shares.sum(axis=1), shares, from_edges + from_law


def _share(part: Wide, total: Wide) -> float:
    return float(wide_exponent.quotient(part, total).to_floats())


def _zeros(*shape: int) -> Wide:
    return Wide(np.zeros(shape), np.zeros(shape, dtype=np.int64))


def _dissipation(chain: GibbsChain, residuals: Wide) -> Wide:
    """sum_a sum_{e in tree} (sum_{x above e} |rho_a(x)|)^2 / c_e on the tree of lowest passes, with a thousandth for its rounding."""
    order, parents, costs = lowest_passes(chain)
    _sum_subtrees(order, parents, *residuals)
    below = order[1:]
    resistances = wide_exponent.product(
        wide_exponent.exponential(costs[below]), wide_exponent.from_floats(np.full(below.size, 1.001 * chain.n_spins))
    )
    ground = law_of(chain).take(int(order[0]))
    sums = residuals.take(below)
    return wide_exponent.quotient(wide_exponent.total(wide_exponent.product(resistances.take((slice(None), None)), sums, sums)), ground)


def _easiest(rates: Wide) -> NDArray[np.int64]:
    """For every position the later one that it goes to at the highest rate when it is eliminated."""
    above = np.triu(np.ones(rates.mantissa.shape, dtype=bool), 1) & (rates.mantissa > 0.0)
    sizes = np.where(above, rates.log(), -np.inf)
    return np.asarray(sizes.argmax(axis=1), dtype=np.int64)


@jit
def _offsets(rates, pivots, parents, sources, offsets):
    """offsets[k] = y_k - y_parents[k] for reduced sources (M, K), from the last position to the first."""
    n_free, n_columns = sources.mantissa.shape
    values, powers = np.zeros((n_free + 1, n_columns)), np.zeros((n_free + 1, n_columns), dtype=np.int64)
    on_path = np.zeros(n_free + 1, dtype=np.bool_)
    for k in range(n_free - 1, -1, -1):
        # values[j] = y_j - y_p: first up the path from p to the target, then down to all others, parents before children
        on_path[:] = False
        p = parents[k]
        values[p], on_path[p] = 0.0, True
        while p < n_free:
            above = parents[p]
            on_path[above] = True
            for a in range(n_columns):
                values[above, a], powers[above, a] = add(values[p, a], powers[p, a], -offsets.mantissa[p, a], offsets.exponent[p, a])
            p = above
        for a in range(n_columns):
            offsets.mantissa[k, a], offsets.exponent[k, a] = sources.mantissa[k, a], sources.exponent[k, a]
        for j in range(n_free, k, -1):
            if not on_path[j]:
                above = parents[j]
                for a in range(n_columns):
                    values[j, a], powers[j, a] = add(values[above, a], powers[above, a], offsets.mantissa[j, a], offsets.exponent[j, a])
            rate, power = rates.mantissa[k, j], rates.exponent[k, j]
            if rate == 0.0:
                continue
            for a in range(n_columns):
                if values[j, a] != 0.0:
                    term, exponent = multiply(rate, power, values[j, a], powers[j, a])
                    offsets.mantissa[k, a], offsets.exponent[k, a] = add(offsets.mantissa[k, a], offsets.exponent[k, a], term, exponent)
        pivot, power = pivots.mantissa[k], pivots.exponent[k]
        for a in range(n_columns):
            offsets.mantissa[k, a], offsets.exponent[k, a] = divide(offsets.mantissa[k, a], offsets.exponent[k, a], pivot, power)


@jit
def _sum_subtrees(order, parents, sums, powers):
    """sums[x] <- those of the subtree of x, rows of wide numbers >= 0."""
    for n in range(order.size - 1, 0, -1):
        x, above = order[n], parents[order[n]]
        for a in range(sums.shape[1]):
            sums[above, a], powers[above, a] = add(sums[above, a], powers[above, a], sums[x, a], powers[x, a])


@jit
def _flows(position, others, parents, offsets, strengths, charges, rounding, flows, residuals, noise):
    """flows[x, i] = c sum_a (y_a(x) - y_a(x^i))^2, differences along the path between the two in the tree of offsets; |rho_a(x)| at most
    residuals[x, a]; and noise[x] = sum_i c sum_a d_a^2."""
    n_columns = charges.mantissa.shape[1]
    values, powers = np.zeros(n_columns), np.zeros(n_columns, dtype=np.int64)
    sizes, size_powers = np.zeros(n_columns), np.zeros(n_columns, dtype=np.int64)
    rest, rest_powers = np.zeros(n_columns), np.zeros(n_columns, dtype=np.int64)
    for x in range(others.shape[0]):
        for a in range(n_columns):
            rest[a], rest_powers[a] = charges.mantissa[x, a], charges.exponent[x, a]
            residuals.mantissa[x, a], residuals.exponent[x, a] = multiply(rounding, 0, abs(rest[a]), rest_powers[a])
        for i in range(others.shape[1]):
            here, there = position[x], others[x, i]
            values[:] = 0.0
            sizes[:] = 0.0
            length = 0
            while here != there:
                sign, step = (1.0, here) if here < there else (-1.0, there)
                for a in range(n_columns):
                    offset, exponent = offsets.mantissa[step, a], offsets.exponent[step, a]
                    values[a], powers[a] = add(values[a], powers[a], sign * offset, exponent)
                    sizes[a], size_powers[a] = add(sizes[a], size_powers[a], abs(offset), exponent)
                if here < there:
                    here = parents[here]
                else:
                    there = parents[there]
                length += 1
            strength, power = strengths.mantissa[x, i], strengths.exponent[x, i]
            lost = 0.0 if length == 1 else length * COMPILED_UNIT
            for a in range(n_columns):
                flow, exponent = multiply(strength, power, values[a], powers[a])
                rest[a], rest_powers[a] = add(rest[a], rest_powers[a], -flow, exponent)
                total, total_power = multiply(flow, exponent, values[a], powers[a])
                flows.mantissa[x, i], flows.exponent[x, i] = add(flows.mantissa[x, i], flows.exponent[x, i], total, total_power)
                drift, drift_power = multiply(lost, 0, sizes[a], size_powers[a])
                error, error_power = multiply(strength, power, drift, drift_power)
                total, total_power = multiply(error, error_power, drift, drift_power)
                noise.mantissa[x, 0], noise.exponent[x, 0] = add(noise.mantissa[x, 0], noise.exponent[x, 0], total, total_power)
                part, part_power = multiply(rounding, 0, abs(flow), exponent)
                part, part_power = add(part, part_power, error, error_power)
                _add_to(residuals, x, a, part, part_power)
        for a in range(n_columns):
            _add_to(residuals, x, a, abs(rest[a]), rest_powers[a])


@jit
def _add_to(numbers, x, a, term, power):
    """numbers[x, a] += term."""
    numbers.mantissa[x, a], numbers.exponent[x, a] = add(numbers.mantissa[x, a], numbers.exponent[x, a], term, power)
