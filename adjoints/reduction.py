"""The gradient of T_O by state reduction, from the forward elimination alone.

Differences y(x) - y(x') inside a basin that is left once in 1e40 steps are the 1e-40th part of y: subtracting values of y would leave
nothing. They are solved for instead. Every state k hangs on the state p it goes to most easily when it is eliminated, and with
sum_j R_kj / s_k = 1 its offset is

    d_k = y_k - y_p = (f_k + sum_j R_kj (y_j - y_p)) / s_k,

where y_j - y_p is the sum of offsets along the path from j to p in that tree: no level that both share is ever formed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thermokernels import wide
from thermokernels._jit import jit
from thermokernels.arguments import Floats
from thermokernels.elimination import flip_rates, neighbours
from thermokernels.errors import UnresolvedError
from thermokernels.reduction import ReducedTime, centre
from thermokernels.wide import Wide, add, divide, multiply

# |E(y, y) / T_O - 1|, both from the same elimination on different ways: more than rounding means that one of them cancelled.
AGREEMENT = 1e-7


# T_O = sum_a (2 <f~_a, y_a>_pi - E(y_a, y_a)) is stationary in y_a, E(y, y) = sum_{edges} c_xx' (y(x) - y(x'))^2, c_xx' = pi_x P(x, x').
# Every y held still, and centred, since d<f~_a, y_a> = Cov_pi(f~_a y~_a, dlog pi) for any law:
#   dT_O = sum_x 2 pi_x sum_a f~_a(x) y~_a(x) dlog pi(x)                                                                         (law)
#          - sum_{edges} w_xx' dlog c_xx',   w_xx' = c_xx' sum_a (y_a(x) - y_a(x'))^2                                          (edges)
#   c(x, x^i) = sqrt(pi_x pi_x^i) / (2 N cosh F_i) gives dlog c = (dlog pi(x) + dlog pi(x^i)) / 2 - tanh(F_i) dF_i.   (conductance)
def weights(time: ReducedTime) -> tuple[Floats, Floats]:
    """Derivatives of log T_O by log pi(x), (n_states,), and the shares w(x, x^i) / T_O of the edges, (n_states, N), each edge at both ends.

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
    squares = Wide(np.zeros((chain.n_states, chain.n_spins)), np.zeros((chain.n_states, chain.n_spins), dtype=np.int64))
    _squared_differences(position, position[neighbours(chain)], parents, offsets, squares)
    law = time.law.take((slice(None), None))
    flows = wide.product(law, flip_rates(chain), squares)
    shares = wide.quotient(flows, time.total).to_floats()
    agreement = abs(0.5 * shares.sum() - 1.0)
    if not agreement <= AGREEMENT:
        raise UnresolvedError(
            f"the gradient of T_O is not resolved: its edges add up to T_O to a relative {agreement:.2g} only; scale the couplings down"
        )
    responses = centre(time.law, time.responses)
    terms = wide.product(law, time.observables, responses)
    by_state = sum(wide.quotient(terms.take((slice(None), a)), time.total).to_floats() for a in range(k))
    return 2.0 * by_state - 0.5 * shares.sum(axis=1), shares


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
def _squared_differences(position, others, parents, offsets, squares):
    """squares[x, i] = sum_a (y_a(x) - y_a(x^i))^2, each difference along the path between the two in the tree of offsets."""
    n_columns = offsets.mantissa.shape[1]
    values, powers = np.zeros(n_columns), np.zeros(n_columns, dtype=np.int64)
    for x in range(others.shape[0]):
        for i in range(others.shape[1]):
            here, there = position[x], others[x, i]
            values[:] = 0.0
            while here != there:
                sign, step = (1.0, here) if here < there else (-1.0, there)
                for a in range(n_columns):
                    values[a], powers[a] = add(values[a], powers[a], sign * offsets.mantissa[step, a], offsets.exponent[step, a])
                if here < there:
                    here = parents[here]
                else:
                    there = parents[there]
            total, power = 0.0, 0
            for a in range(n_columns):
                square, exponent = multiply(values[a], powers[a], values[a], powers[a])
                total, power = add(total, power, square, exponent)
            squares.mantissa[x, i], squares.exponent[x, i] = total, power
