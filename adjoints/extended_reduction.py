"""T_O and its gradient by state reduction in long double: what those of a chain that is extremely slow are held against.

The terms are those of :mod:`adjoints.reduced_resolvent`, the differences of y across the edges those of
:mod:`thermokernels.solvers.state_reduction.solution_differences`: with the offset d_k = y_k - y_p of every state from the one that it hangs
on,

    y_k - y_j = d_k + (y_p - y_j)      for all j that were eliminated later,

so that no level that both share is formed, and a path of l offsets is added up to l w times the sum of their sizes, w = 2^-64. However
the offsets came about, they are judged by what they leave of the system,

    rho_a(x) = pi_x f~_a(x) - sum_i c(x, x^i) (y^_a(x) - y^_a(x^i)),

the errors of pi, of the rates, of paths and of sums added to |rho|: the error e of y^ solves (I - P) e = -rho / pi, and

    sum_a E(e_a, e_a) <= eps^2 = sum_a sum_{e in tree} (sum_{x above e} |rho_a(x)|)^2 / c_e                              (Thomson)
    sum_x pi_x |f~_a e_a| <= sum_x |rho_a(x)| m_a(x),      m_a = G|f~_a|,                                                (reversibility)
    sum_x pi_x |e_a| <= sum_x |rho_a(x)| t(x),             t = G 1, hitting times of the ground state,

with y, e and G zero there. Solutions for sources of one sign are right to the precision of the elimination, in long double here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adjoints.extended import ExtendedTime
from adjoints.variance_time import _log_law_cotangents
from thermokernels.model.chain import GibbsChain
from thermokernels.model.extended import LONG_UNIT, ExtendedChain, Long
from thermokernels.solvers.spanning_tree_bound import lowest_passes
from thermokernels.solvers.state_reduction.gth_elimination import ExtendedElimination, eliminate_extended, in_long_double
from thermokernels.solvers.state_reduction.reduced_resolvent import ReducedTime, ground_state, products


def applies_to(chain: GibbsChain) -> bool:
    """Whether long double has more digits and the range here, for a chain that is small enough for it."""
    return chain.dynamics.has_adjoint and in_long_double(chain)


def variance_time(reduced: ReducedTime) -> ExtendedTime:
    """T_O and dT_O / dW of the chain that was reduced, with bounds of their errors."""
    plain = reduced.chain
    chain, n_spins, k = ExtendedChain(plain), plain.n_spins, plain.model.n_couplings
    law, signs = chain.law[:, None], products(plain)
    above = (law * (signs > 0)).sum(axis=0)
    below = (law * (signs < 0)).sum(axis=0)
    functions = np.where(signs > 0, 2 * below, -2 * above)  # f - E f = 2 f Pr[the other sign]
    charges = law * functions

    elimination = eliminate_extended(plain, ground_state(plain))
    differences, sizes, lengths = _differences(elimination, functions)
    states = np.append(elimination.states, np.argmax(ground_state(plain)))
    position = np.argsort(states)
    responses = differences[position, -1]

    # what the edges carry, and what is left of the system
    of_law, of_sums = chain.law_error, (plain.n_states + n_spins + k + 16) * LONG_UNIT
    rounding = of_law + max(of_law, chain.rate_error) + of_sums  # of charges pi f~, of pi twice, and of flows
    rest, residuals = charges.copy(), rounding * np.abs(charges)
    flows, slipped = np.zeros((n_spins, plain.n_states), dtype=np.longdouble), np.longdouble(0)
    for i, (others, rates, _) in enumerate(chain.single_flips()):
        strengths, place = (chain.law * rates)[:, None], (position, position[others])
        across, slip = differences[place], LONG_UNIT * lengths[place][:, None] * sizes[place]
        rest -= strengths * across
        residuals += rounding * np.abs(strengths * across) + strengths * slip
        flows[i] = (strengths * across**2).sum(axis=1)
        slipped += (strengths * slip**2).sum() / 2  # every edge is met at both ends
    residuals += np.abs(rest)
    energy, charged = flows.sum() / 2, (charges * responses).sum()
    total = 2 * charged - energy
    unsolved = _dissipation(plain, chain, residuals)

    # the energy of the error of flows as they are: of what is not solved for, and of the paths
    missed = (np.sqrt(unsolved) + np.sqrt(slipped)) ** 2
    crossed = 2 * np.sqrt(energy * missed) + missed
    moved = np.abs(charges * responses).sum()
    slip = LONG_UNIT * lengths[position, -1][:, None] * sizes[position, -1]
    value_error = (
        unsolved + (rounding + of_sums) * energy + (6 * of_law + 4 * of_sums) * moved + 2 * (np.abs(charges) * slip).sum()
        + 2 * np.sqrt(energy * slipped) + slipped
    )  # fmt: skip

    majorants = elimination.solve(np.hstack([np.abs(functions), np.ones((plain.n_states, 1))])[elimination.states])
    majorants = (1.001 + elimination.precision) * np.vstack([majorants, np.zeros((1, k + 1))])[position]
    charge = np.abs(charges).sum(axis=0)
    off = (residuals * majorants[:, :-1]).sum() + (charge * (residuals * majorants[:, -1:]).sum(axis=0)).sum()
    off += (np.abs(charges) * slip).sum() + (charge * (law * slip).sum(axis=0)).sum()
    means = (law * np.abs(responses)).sum(axis=0)
    centred = responses - (law * responses).sum(axis=0)
    terms = charges * centred
    of_terms = (4 * of_law + 2 * of_sums) * (np.abs(terms).sum() + (charge * means).sum())

    gradient = plain.model.on_edges(_of_edges(plain, chain, flows) + _log_law_cotangents(chain.tables, _law_weights(terms, flows)).W)
    # |dlog pi| <= 2, and |dlog c| <= 3
    bound = 3 * (crossed + (rounding + of_sums) * energy) + 4 * (off + of_terms)
    return ExtendedTime(chain, total, float(value_error), gradient, float(bound))


def _differences(elimination: ExtendedElimination, functions: Long) -> tuple[Long, Long, NDArray[np.int64]]:
    """y_i - y_j by position, the ground state last, (M + 1, M + 1, k), the sums of the sizes of offsets between, and how many these are."""
    sources, (m, _) = elimination.reduce(functions[elimination.states]), elimination.rates.shape
    differences, sizes = np.zeros((2, m + 1, m + 1, sources.shape[1]), dtype=np.longdouble)
    lengths = np.zeros((m + 1, m + 1), dtype=np.int64)
    for k in range(m - 1, -1, -1):
        rates = elimination.rates[k, k + 1 :]
        p = k + 1 + int(np.argmax(rates))
        offset = (sources[k] + rates @ differences[k + 1 :, p]) / elimination.pivots[k]
        differences[k, k + 1 :] = offset + differences[p, k + 1 :]
        differences[k + 1 :, k] = -differences[k, k + 1 :]
        sizes[k, k + 1 :] = np.abs(offset) + sizes[p, k + 1 :]
        sizes[k + 1 :, k] = sizes[k, k + 1 :]
        lengths[k, k + 1 :] = 1 + lengths[p, k + 1 :]
        lengths[k + 1 :, k] = lengths[k, k + 1 :]
    return differences, sizes, lengths


def _dissipation(plain: GibbsChain, chain: ExtendedChain, residuals: Long) -> Any:
    """sum_a sum_{e in tree} (sum_{x above e} residuals_a(x))^2 / c_e on the tree of lowest passes, with a thousandth for its rounding."""
    order, parents, _ = lowest_passes(plain)
    strengths = np.zeros(plain.n_states, dtype=np.longdouble)
    for others, rates, _ in chain.single_flips():
        strengths = np.where(others == parents, np.maximum(strengths, chain.law * rates), strengths)
    sums = residuals.copy()
    for x in order[:0:-1]:
        sums[parents[x]] += sums[x]
    below = order[1:]
    return (
        1.001 * ((sums[below] ** 2).sum(axis=1) / strengths[below]).sum()
    )  # a long double: squares of errors leave the range of float64 first


# dT_O = sum_x 2 pi_x sum_a f~_a y~_a dlog pi(x) - sum_{edges} w dlog c,  dlog c = (dlog pi(x) + dlog pi(x^i)) / 2 - tanh(F_i) dF_i
def _law_weights(terms: Long, flows: Long) -> Long:
    return np.asarray(2 * terms.sum(axis=1) - flows.sum(axis=0) / 2)


def _of_edges(plain: GibbsChain, chain: ExtendedChain, flows: Long) -> Long:
    """sum_{edges} w tanh(F_i) dF_i / dW, each edge met at both ends."""
    (hidden, visible), n_visible = plain.block_spins, plain.n_visible
    edges = (flows / 2).reshape(plain.n_spins, *plain.shape)
    of_visible = np.tanh(chain.fields[0]) * edges[:n_visible].sum(axis=2)
    of_hidden = np.tanh(chain.fields[1]) * edges[n_visible:].sum(axis=1)
    return np.asarray(of_visible @ hidden + (of_hidden @ visible).T)
