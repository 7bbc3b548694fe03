"""Differences of a solution by state reduction: what it dissipates, how well it solves, and how far its energy can be off.

Differences y(x) - y(x') inside a basin that is left once in 1e40 steps are the 1e-40th part of y: subtracting values of y would leave
nothing. They are solved for instead. Every state k hangs on the state p it goes to most easily when it is eliminated, and with
sum_j R_kj / s_k = 1 its offset is

    d_k = y_k - y_p = (f_k + sum_j R_kj (y_j - y_p)) / s_k,                                                                   (offset)

where y_j - y_p is the sum of offsets along the path from j to p in that tree: no level that both share is ever formed.

However the offsets came about, they define a y^, and how well it solves the system is measured, in the wide numbers and across the edges:
with c_xx' = pi_x P(x, x') and the errors of pi, of the rates and of its own evaluation added to |rho|,

    rho_a(x) = pi_x f~_a(x) - sum_i c(x, x^i) (y^_a(x) - y^_a(x^i)).

Thomson's principle on a spanning tree (:mod:`thermokernels.solvers.gap_bounds`) bounds the energy E(y, y) = sum_{edges} c (y - y')^2 of the
error by what is left,

    E(y^_a - y_a, y^_a - y_a) <= sum_{e in tree} (sum_{x above e} |rho_a(x)|)^2 / c_e,                                          (error)

which is r' A^+ r for the residual r = b - A z of the symmetrised system, as T_O is b' A^+ b: the root of their ratio is a relative residual
in the norm of A^+. In L2(pi) the rounding of a flow through a state of probability 1e-20 would count 1e10-fold.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.tolerances import UNIT
from thermokernels.compiled import wide_exponent
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.wide_exponent import Wide, add, divide, multiply
from thermokernels.model.chain import GibbsChain
from thermokernels.model.rounding import input_error, law_error
from thermokernels.solvers.spanning_tree_bound import lowest_passes
from thermokernels.solvers.state_reduction.gth_elimination import Elimination, flip_rates, neighbours

# `tolerances.UNIT` again: what a kernel uses is compiled into it, and has to stand in a file that the key of the kernels' cache covers.
COMPILED_UNIT = 2.0**-53


@dataclass(frozen=True, eq=False, repr=False)
class Differences:
    """A solution by its offsets in a tree of the states, and what follows from them.

    Attributes
    ----------
    parents : (M,) by position the later position that each one hangs on; M is the target
    offsets : (M, k) Wide, d = y - y_parent in steps
    flows : (n_states, N) Wide, c(x, x^i) sum_a (y_a(x) - y_a(x^i))^2, each edge at both ends
    residuals : (n_states, k) Wide, a bound on |rho_a(x)|
    lost : () Wide, a bound on sum_a E(e_a, e_a) for what adding up offsets to differences can lose, e = computed - exact sum
    error : () Wide, a bound on sum_a E(y^_a - y_a, y^_a - y_a)
    """

    parents: NDArray[np.int64]
    offsets: Wide = field(repr=False)
    flows: Wide = field(repr=False)
    residuals: Wide = field(repr=False)
    lost: Wide
    error: Wide

    def values(self) -> tuple[Wide, Wide]:
        """y^ (M, k) by position, zero at the target, and a bound on what adding up the offsets has lost of it."""
        shape = self.offsets.mantissa.shape
        values, drift = _zeros(*shape), _zeros(*shape)
        _add_up(self.parents, self.offsets, values, drift)
        return values, drift


def flow_error(chain: GibbsChain) -> float:
    """Relative error of charges pi f~, of pi twice, and of conductances c, of pi and of a rate, and of sums of flows over the spins."""
    return law_error(chain) + max(law_error(chain), input_error(chain)) + (chain.n_spins + 8) * UNIT


def solve_differences(elimination: Elimination, law: Wide, observables: Wide) -> Differences:
    """(I - P) y = f~ for centred f~ (n_states, k) and pi (n_states,), y = 0 at the target, by its differences.

    Of the single-site kernel: a block kernel has an edge between every two states.
    """
    chain, states = elimination.chain, elimination.states
    sources = elimination.reduce(observables.take(states))
    parents, offsets = _easiest(elimination.rates), _zeros(*sources.mantissa.shape)
    _offsets(elimination.rates, elimination.pivots, parents, sources, offsets)

    position = np.full(chain.n_states, states.size)
    position[states] = np.arange(states.size)
    column = law.take((slice(None), None))
    strengths, charges = wide_exponent.product(column, flip_rates(chain)), wide_exponent.product(column, observables)
    flows, residuals = _zeros(chain.n_states, chain.n_spins), _zeros(*charges.mantissa.shape)
    lost = _zeros(chain.n_states, 1)
    _flows(position, position[neighbours(chain)], parents, offsets, strengths, charges, flow_error(chain), flows, residuals, lost)
    # every edge was met at both ends
    half = wide_exponent.product(wide_exponent.total(lost), wide_exponent.from_floats(np.array(0.5)))
    return Differences(parents, offsets, flows, residuals, half, _dissipation(chain, residuals, law))


def _zeros(*shape: int) -> Wide:
    return Wide(np.zeros(shape), np.zeros(shape, dtype=np.int64))


def _dissipation(chain: GibbsChain, residuals: Wide, law: Wide) -> Wide:
    """sum_a sum_{e in tree} (sum_{x above e} |rho_a(x)|)^2 / c_e on the tree of lowest passes, with a thousandth for its rounding."""
    order, parents, costs = lowest_passes(chain)
    above = Wide(residuals.mantissa.copy(), residuals.exponent.copy())
    _sum_subtrees(order, parents, *above)
    below = order[1:]
    resistances = wide_exponent.product(
        wide_exponent.exponential(costs[below]), wide_exponent.from_floats(np.full(below.size, 1.001 * chain.n_spins))
    )
    sums = above.take(below)
    total = wide_exponent.total(wide_exponent.product(resistances.take((slice(None), None)), sums, sums))
    return wide_exponent.quotient(total, law.take(int(order[0])))


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
def _path_difference(parents, offsets, here, there, values, powers, sizes, size_powers):
    """values[a] = y_a(here) - y_a(there), sizes[a] the sum of the |offsets| between them; returns how many there are."""
    values[:] = 0.0
    sizes[:] = 0.0
    length = 0
    while here != there:
        sign, step = (1.0, here) if here < there else (-1.0, there)
        for a in range(values.size):
            offset, exponent = offsets.mantissa[step, a], offsets.exponent[step, a]
            values[a], powers[a] = add(values[a], powers[a], sign * offset, exponent)
            sizes[a], size_powers[a] = add(sizes[a], size_powers[a], abs(offset), exponent)
        if here < there:
            here = parents[here]
        else:
            there = parents[there]
        length += 1
    return length


@jit
def _add_up(parents, offsets, values, drift):
    """values[k] = values[parent] + offsets[k], and drift[k] = drift[parent] + u |values[k]|."""
    n_free, n_columns = offsets.mantissa.shape
    for k in range(n_free - 1, -1, -1):
        p = parents[k]
        for a in range(n_columns):
            value, power, lost, lost_power = offsets.mantissa[k, a], offsets.exponent[k, a], 0.0, 0
            if p < n_free:
                value, power = add(values.mantissa[p, a], values.exponent[p, a], value, power)
                lost, lost_power = multiply(COMPILED_UNIT, 0, abs(value), power)
                lost, lost_power = add(lost, lost_power, drift.mantissa[p, a], drift.exponent[p, a])
            values.mantissa[k, a], values.exponent[k, a] = value, power
            drift.mantissa[k, a], drift.exponent[k, a] = lost, lost_power


@jit
def _sum_subtrees(order, parents, sums, powers):
    """sums[x] <- those of the subtree of x, rows of wide numbers >= 0."""
    for n in range(order.size - 1, 0, -1):
        x, above = order[n], parents[order[n]]
        for a in range(sums.shape[1]):
            sums[above, a], powers[above, a] = add(sums[above, a], powers[above, a], sums[x, a], powers[x, a])


@jit
def _flows(position, others, parents, offsets, strengths, charges, rounding, flows, residuals, lost):
    """flows[x, i] = c sum_a (y_a(x) - y_a(x^i))^2, differences along the path between the two in the tree of offsets; |rho_a(x)| at most
    residuals[x, a]; and lost[x] = sum_i c sum_a e_a^2 for the rounding e of those sums."""
    n_columns = charges.mantissa.shape[1]
    values, powers = np.zeros(n_columns), np.zeros(n_columns, dtype=np.int64)
    sizes, size_powers = np.zeros(n_columns), np.zeros(n_columns, dtype=np.int64)
    rest, rest_powers = np.zeros(n_columns), np.zeros(n_columns, dtype=np.int64)
    for x in range(others.shape[0]):
        for a in range(n_columns):
            rest[a], rest_powers[a] = charges.mantissa[x, a], charges.exponent[x, a]
            residuals.mantissa[x, a], residuals.exponent[x, a] = multiply(rounding, 0, abs(rest[a]), rest_powers[a])
        for i in range(others.shape[1]):
            length = _path_difference(parents, offsets, position[x], others[x, i], values, powers, sizes, size_powers)
            strength, power = strengths.mantissa[x, i], strengths.exponent[x, i]
            slip = 0.0 if length == 1 else length * COMPILED_UNIT
            for a in range(n_columns):
                flow, exponent = multiply(strength, power, values[a], powers[a])
                rest[a], rest_powers[a] = add(rest[a], rest_powers[a], -flow, exponent)
                total, total_power = multiply(flow, exponent, values[a], powers[a])
                flows.mantissa[x, i], flows.exponent[x, i] = add(flows.mantissa[x, i], flows.exponent[x, i], total, total_power)
                drift, drift_power = multiply(slip, 0, sizes[a], size_powers[a])
                error, error_power = multiply(strength, power, drift, drift_power)
                total, total_power = multiply(error, error_power, drift, drift_power)
                lost.mantissa[x, 0], lost.exponent[x, 0] = add(lost.mantissa[x, 0], lost.exponent[x, 0], total, total_power)
                part, part_power = multiply(rounding, 0, abs(flow), exponent)
                part, part_power = add(part, part_power, error, error_power)
                _add_to(residuals, x, a, part, part_power)
        for a in range(n_columns):
            _add_to(residuals, x, a, abs(rest[a]), rest_powers[a])


@jit
def _add_to(numbers, x, a, term, power):
    """numbers[x, a] += term."""
    numbers.mantissa[x, a], numbers.exponent[x, a] = add(numbers.mantissa[x, a], numbers.exponent[x, a], term, power)
