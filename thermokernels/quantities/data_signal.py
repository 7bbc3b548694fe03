"""g = E_data[f] - E_pi[f] of the gradient observables in twice the working precision, without an exponential a state.

    g_ij = sum_v (pi(v) - p_data(v)) v_i tanh F_j(v),   pi(v) ~ exp(b'v) prod_j (exp F_j(v) + exp(-F_j(v))),   F = W'v + c.

exp(F_j) at all v is a product of exp(c_j) and exp(+-W_ij): one exponential a coupling, the rest are products. A trained model reproduces
its data, and the difference of the two laws cancels to a millionth: hence the precision.
"""

from __future__ import annotations

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.compiled.double_double import add, divide, exponential, multiply

# Above this sum of all couplings and fields, exponentials of a whole sum come too close to the ends of the range of float64.
LARGEST_SUM = 300.0


@jit
def _fill_exponentials(couplings, values):
    """values[:, v] = exp(sum_i couplings[i] v_i), high halves first, by doubling; what belongs to -v stands as far from the other end."""
    high, low = 1.0, 0.0
    factors = np.empty((couplings.size, 2))
    for i in range(couplings.size):
        up, up_low = exponential(couplings[i], 0.0)
        down, down_low = divide(1.0, 0.0, up, up_low)
        high, low = multiply(high, low, up, up_low)
        factors[i, 0], factors[i, 1] = multiply(down, down_low, down, down_low)
    values[0, 0], values[1, 0] = high, low
    for i in range(couplings.size):
        size = 1 << i
        for v in range(size):
            values[0, size + v], values[1, size + v] = multiply(values[0, v], values[1, v], factors[i, 0], factors[i, 1])


@jit
def _excess(weight, p_data, excess):
    """excess = weight / sum weight - p_data / sum p_data, pairs of which excess keeps both halves."""
    total, total_low, mass, mass_low = 0.0, 0.0, 0.0, 0.0
    for v in range(p_data.size):
        total, total_low = add(total, total_low, weight[0, v], weight[1, v])
        mass, mass_low = add(mass, mass_low, p_data[v], 0.0)
    for v in range(p_data.size):
        q, q_low = divide(weight[0, v], weight[1, v], total, total_low)
        p, p_low = divide(p_data[v], 0.0, mass, mass_low)
        excess[0, v], excess[1, v] = add(q, q_low, -p, -p_low)


@jit
def _data_gradient(columns, visible_field, hidden_field, p_data, g):
    """Overwrite g (n_v, n_h), rounded once from twice the working precision; ``columns`` is W', one row a hidden spin."""
    n_hidden, n_visible = columns.shape
    n_states = p_data.size
    weight, work, excess = np.empty((2, n_states)), np.empty((2, n_states)), np.empty((2, n_states))
    slopes, slopes_low = np.empty((n_hidden, n_states)), np.empty((n_hidden, n_states))
    _fill_exponentials(visible_field, weight)
    for j in range(n_hidden):
        _fill_exponentials(columns[j], work)
        up, up_low = exponential(hidden_field[j], 0.0)
        down, down_low = divide(1.0, 0.0, up, up_low)
        for v in range(n_states):
            plus, plus_low = multiply(work[0, v], work[1, v], up, up_low)
            minus, minus_low = multiply(work[0, n_states - 1 - v], work[1, n_states - 1 - v], down, down_low)
            sum_, sum_low = add(plus, plus_low, minus, minus_low)
            difference, difference_low = add(plus, plus_low, -minus, -minus_low)
            weight[0, v], weight[1, v] = multiply(weight[0, v], weight[1, v], sum_, sum_low)
            slopes[j, v], slopes_low[j, v] = divide(difference, difference_low, sum_, sum_low)  # tanh F_j(v)
    _excess(weight, p_data, excess)
    for j in range(n_hidden):
        for v in range(n_states):
            work[0, v], work[1, v] = multiply(excess[0, v], excess[1, v], slopes[j, v], slopes_low[j, v])
        size = n_states
        for i in range(n_visible - 1, -1, -1):
            size //= 2
            along, along_low = 0.0, 0.0
            for v in range(size):
                high, low = add(work[0, v], work[1, v], -work[0, size + v], -work[1, size + v])
                along, along_low = add(along, along_low, high, low)
                work[0, v], work[1, v] = add(work[0, v], work[1, v], work[0, size + v], work[1, size + v])
            g[i, j] = along + along_low


@jit
def _signal(g, entry_error, unit):
    """|g|^2, and a bound of its error where every entry of g is wrong by ``entry_error`` before it is rounded to float64."""
    signal, lost = 0.0, 0.0
    for i in range(g.shape[0]):
        for j in range(g.shape[1]):
            size = abs(g[i, j])
            error = entry_error + unit * size
            signal += size * size
            lost += (2.0 * size + error) * error
    return signal, lost * (1.0 + g.size * unit) + g.size * unit * signal


@jit
def gradient_error(n_visible: int, n_hidden: int) -> float:
    """A bound on the error of every entry of g before it is rounded to float64, for the law as it is handed in, over its sum.

    An exponential is right to 1e-28, a sum, product or quotient to d = 2^-98: exp(+-F) to e = 3 (n_v + 1) 1.1e-28, a weight to (n_h + 1) e,
    pi(v) to twice that and 2^n_v d for the sum, tanh to 2 e, and sum |pi - p| <= 2.
    """
    return 1e-27 * (n_visible + 2) * (n_hidden + 3) + 2e-29 * 2.0**n_visible
