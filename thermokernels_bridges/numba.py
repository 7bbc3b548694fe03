"""Q, T_O and the KL divergence with their gradients, to be called from ``@njit`` code of one's own: without the GIL, without Python.

Models without fields, on pairs {x, -x}, by conjugate gradients. W is (n_v, n_h), p_data (2**n_v,) sums to one within 1e-9, ``gradient``
(n_v, n_h) is of float64. ValueError where that is not so: of another dtype or number of dimensions when the call is compiled. A value that
is not certified to a relative 1e-8 comes back as NaN with a gradient of NaN: T_O as :mod:`adjoints` certifies it, and the signal of a
trained model, a difference of two laws that all but agree, by the law of the model in twice the working precision. :mod:`adjoints` explains
itself, reaches further (state reduction) and proves its errors.
"""

from __future__ import annotations

import math

import numpy as np
from numba.core import types
from numba.extending import overload

from adjoints.laws import _pull_back
from adjoints.variance_time import _flip_overlaps
from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.double_double import add, divide, exponential, multiply
from thermokernels.model.kernels.flip_tables import _energies, _flip_tables, _local_fields
from thermokernels.model.kernels.single_site import Generator, _apply_to_vector, _escape
from thermokernels.model.laws import _compare_laws, _sum_out_hidden
from thermokernels.solvers.spanning_tree_bound import _flip_tree

EPSILON = 2.0**-52
RESIDUAL = 5e-12
PRECISION = 1e-8
MAX_ITERATIONS = 10_000
# |sum p - 1| of a law, as thermokernels.common.tolerances.LAW_SUM
LAW_SUM = 1e-9
# sum_v |error of q(v)|, relative 1e-28 for each of fewer than a hundred exponentials and products
LAW_ERROR = 1e-26


@jit
def kl_divergence(p_data: Floats, W: Floats, gradient: Floats) -> float:
    """KL(p_data || visible marginal) in nats; ``gradient`` (n_v, n_h) is overwritten with its derivative by W."""
    _require_types(W, gradient, p_data)
    _require_shapes(W, gradient)
    data, data_sum = _as_law(p_data, W.shape[0])
    n_states = 1 << W.shape[0]
    columns, b, c = np.empty((W.shape[1], W.shape[0])), np.zeros(W.shape[0]), np.zeros(W.shape[1])
    columns[:] = W.T  # in float64, whatever W is
    log_weight, factor = np.empty(n_states), np.ones(n_states)
    _sum_out_hidden(columns, b, c, np.empty(n_states), factor, log_weight)
    largest, total = log_weight.max(), 0.0
    for v in range(n_states):
        total += math.exp(log_weight[v] - largest)
    log_law = log_weight - (largest + math.log(total))
    terms, difference = np.empty(n_states), np.empty(n_states)
    _compare_laws(data / data_sum, log_law, terms, difference)
    by_columns = np.empty_like(columns)
    _pull_back(columns, c, difference, by_columns, np.empty_like(b), np.empty_like(c))
    gradient[:] = by_columns.T
    divergence: float = terms.sum()
    return divergence


@jit
def observable_variance_time(W: Floats, gradient: Floats) -> float:
    """T_O in steps; ``gradient`` (n_v, n_h) is overwritten with its derivative by W."""
    _require_types(W, gradient, gradient[0])
    _require_shapes(W, gradient)
    weights, visible_local_fields, hidden_local_fields, energy = _tables(W)
    time: float = _variance_time(weights, visible_local_fields, hidden_local_fields, _boltzmann(energy), gradient)
    return time


@jit
def q_struct(W: Floats, p_data: Floats, window: float, gradient: Floats) -> float:
    """Q = (K / 2) |g|^2 / T_O for a window in sweeps; ``gradient`` (n_v, n_h) is overwritten with its derivative by W."""
    _require_types(W, gradient, p_data)
    _require_shapes(W, gradient)
    data, data_sum = _as_law(p_data, W.shape[0])
    weights, visible_local_fields, hidden_local_fields, energy = _tables(W)
    law = _boltzmann(energy)
    time = _variance_time(weights, visible_local_fields, hidden_local_fields, law, gradient)
    g, by_signal = np.zeros_like(weights), np.zeros_like(weights)
    error = _signal(data, data_sum, weights, hidden_local_fields, law, g, by_signal)
    signal = (g * g).sum()
    if not (2.0 * np.abs(g).sum() + g.size * error) * error <= PRECISION * signal:
        gradient[:] = np.nan
        return np.nan
    value: float = 0.5 * window * (W.shape[0] + W.shape[1]) * signal / time
    for i in range(W.shape[0]):
        for j in range(W.shape[1]):
            gradient[i, j] = value * (by_signal[i, j] / signal - gradient[i, j] / time) if signal > 0.0 else 0.0 * value
    return value


def _require_types(W, gradient, p_data):
    """What compiled code cannot work on is refused when it is compiled, in one sentence."""


@overload(_require_types)
def _typed(W, gradient, p_data):
    for name, given, n_dimensions in (("W", W, 2), ("gradient", gradient, 2), ("p_data", p_data, 1)):
        if not isinstance(given, types.Array) or given.ndim != n_dimensions or not isinstance(given.dtype, types.Float | types.Integer):
            raise ValueError(f"{name} must be an array of real numbers with {n_dimensions} dimensions; got {given}")
    if gradient.dtype != types.float64:
        raise ValueError(f"gradient must be an array of float64, which it is overwritten with; got one of {gradient.dtype}")
    return lambda W, gradient, p_data: None


@jit
def _require_shapes(W, gradient):
    if W.shape[0] == 0 or W.shape[1] == 0:
        raise ValueError("W must have at least one visible and one hidden spin")
    if gradient.shape[0] != W.shape[0] or gradient.shape[1] != W.shape[1]:
        raise ValueError("gradient must have the shape of W")


@jit
def _as_law(p_data, n_visible):
    """p_data in float64, as it is, and its sum."""
    if p_data.size != 1 << n_visible:
        raise ValueError("p_data must have 2**n_v entries, one a visible state")
    data = np.empty(p_data.size)
    data[:] = p_data
    high, low = 0.0, 0.0
    for p in data:
        if not p >= 0.0:
            raise ValueError("p_data must be nonnegative")
        high, low = add(high, low, p, 0.0)
    if not abs(high - 1.0) <= LAW_SUM:
        raise ValueError("p_data must sum to one within 1e-9")
    return data, high


@jit
def _tables(W):
    """W in float64, whatever it is; local fields of both blocks and the energies [h, v] of the pairs."""
    n_visible, n_hidden = W.shape
    weights = np.empty(W.shape)
    weights[:] = W
    visible_local_fields, hidden_local_fields = np.empty((n_visible, 1 << (n_hidden - 1))), np.empty((n_hidden, 1 << n_visible))
    _local_fields(weights, np.zeros(n_visible), visible_local_fields)
    _local_fields(np.ascontiguousarray(weights.T), np.zeros(n_hidden), hidden_local_fields)
    energy = np.empty((visible_local_fields.shape[1], hidden_local_fields.shape[1]))
    _energies(visible_local_fields, np.zeros(n_hidden), energy)
    return weights, visible_local_fields, hidden_local_fields, energy


@jit
def _boltzmann(energy):
    law = np.exp(energy.min() - energy)
    return law / law.sum()


@jit
def _spin(configuration, k):
    return 1.0 - 2.0 * ((configuration >> k) & 1)


@jit
def _correlations(weights, out):
    """out[i, j] += sum_x weights(x) v_i h_j."""
    for h in range(weights.shape[0]):
        for i in range(out.shape[0]):
            along = 0.0
            for v in range(weights.shape[1]):
                along += weights[h, v] * _spin(v, i)
            for j in range(out.shape[1]):
                out[i, j] += along * _spin(h, j)


@jit
def _solve(generator, root_law, source, work, solution):
    """A z = b by conjugate gradients off sqrt(pi), as far as they come."""
    residual, step, image = work[0], work[1], work[2]
    residual[:] = source - (source * root_law).sum() * root_law
    step[:] = residual
    solution[:] = 0.0
    square = (residual * residual).sum()
    target = RESIDUAL**2 * square
    for _ in range(MAX_ITERATIONS):
        if square <= target:
            break
        _apply_to_vector(generator, step, image)
        length = square / (step * image).sum()
        solution += length * step
        residual -= length * image
        residual -= (residual * root_law).sum() * root_law
        updated = (residual * residual).sum()
        step[:] = residual + (updated / square) * step
        square = updated
    solution -= (solution * root_law).sum() * root_law


@jit
def _variance_time(W, visible_local_fields, hidden_local_fields, law, gradient):
    """T_O and, term by term as in adjoints/observables.py, its derivative by W; NaN where float64 does not give 1e-8."""
    n_visible, n_hidden = W.shape
    n_spins, n_rows, n_columns = n_visible + n_hidden, law.shape[0], law.shape[1]
    visible_rates, visible_flips = np.empty_like(visible_local_fields), np.empty((2, n_visible, n_rows))
    hidden_rates, hidden_flips = np.empty_like(hidden_local_fields), np.empty((2, n_hidden, n_columns))
    _flip_tables(visible_local_fields, n_spins, visible_rates, visible_flips)
    _flip_tables(hidden_local_fields, n_spins, hidden_rates, hidden_flips)
    escape = np.empty_like(law)
    _escape(visible_flips, hidden_flips, escape)
    generator = Generator(escape, visible_rates, hidden_rates, n_spins > 0)

    means = np.zeros_like(W)
    _correlations(law, means)
    root_law = np.sqrt(law)
    flat_root, sources = root_law.ravel(), np.empty(law.shape)
    vectors, work = np.empty((n_visible * n_hidden, n_rows * n_columns)), np.empty((3, n_rows * n_columns))
    overlap, image = np.zeros(law.shape), np.empty(n_rows * n_columns)
    value, sizes, errors = 0.0, 0.0, 0.0
    for a in range(n_visible * n_hidden):
        i, j = a // n_hidden, a % n_hidden
        for h in range(n_rows):
            for v in range(n_columns):
                sources[h, v] = root_law[h, v] * (means[i, j] - _spin(v, i) * _spin(h, j))
        b, z = sources.ravel(), vectors[a]
        _solve(generator, flat_root, b, work, z)
        _apply_to_vector(generator, z, image)
        missed = b - image
        errors += (math.sqrt((missed * missed).sum()) + (n_spins + 2) * EPSILON * math.sqrt((z * z).sum())) ** 2
        value += ((2.0 * b - image) * z).sum()  # 2 b' z - z' A z, whose error is of second order in the residual
        sizes += (escape.ravel() * z * z).sum()
        overlap += (z * b).reshape(law.shape)

    # As in VarianceTime.error_terms: what is left of the residuals is at most |r|^2 / gap, of second order for T_O and of first for the
    # gradient, with 1 / gap bounded by a spanning tree; rounding of the entries of A moves T_O by up to h z' |A| z.
    errors *= _flip_tree(law.ravel(), visible_flips, hidden_flips, n_spins > 0, law.argmax())
    rounding = 2.0 * (8.0 * (1.0 + np.abs(W).sum()) + n_spins) * EPSILON * sizes
    if not (errors <= PRECISION**2 * value and errors + rounding <= PRECISION * value):
        gradient[:] = np.nan
        return np.nan

    by_visible_rates, by_hidden_rates, squares = np.zeros_like(visible_rates), np.zeros_like(hidden_rates), np.zeros(law.shape)
    _flip_overlaps(vectors.reshape((n_visible * n_hidden, n_rows, n_columns)), n_spins > 0, by_visible_rates, by_hidden_rates, squares)
    gradient[:] = 0.0
    _correlations(overlap - overlap.sum() * law, gradient)  # (law)
    for i in range(n_visible):
        for h in range(n_rows):
            along = 0.0
            for v in range(n_columns):
                along += _spin(v, i) * squares[h, v]
            rate = visible_rates[i, h]
            by_field = rate * (2.0 * n_spins * rate * along - math.tanh(visible_local_fields[i, h]) * by_visible_rates[i, h])
            for j in range(n_hidden):
                gradient[i, j] += by_field * _spin(h, j)
    for j in range(n_hidden):
        for v in range(n_columns):
            along = 0.0
            for h in range(n_rows):
                along += _spin(h, j) * squares[h, v]
            rate = hidden_rates[j, v]
            by_field = rate * (2.0 * n_spins * rate * along - math.tanh(hidden_local_fields[j, v]) * by_hidden_rates[j, v])
            for i in range(n_visible):
                gradient[i, j] += by_field * _spin(v, i)
    return value


@jit
def _excess(data, weights):
    """q - p at every visible state, q the model's law and p the data's, right to a relative 1e-26 of q before it is rounded.

    q(v) ~ exp(sum_j |F_j|) prod_j (1 + exp(-2 |F_j|)) in twice the working precision, F = W' v.
    """
    n_visible, n_hidden = weights.shape
    high, low = np.empty(data.size), np.empty(data.size)
    total, total_low, sum_, sum_low = 0.0, 0.0, 0.0, 0.0
    largest = 0.0
    for v in range(data.size):  # the largest exponent, roughly: it only keeps weights in range
        exponent = 0.0
        for j in range(n_hidden):
            field = 0.0
            for i in range(n_visible):
                field += _spin(v, i) * weights[i, j]
            exponent += abs(field)
        largest = max(largest, exponent)
    for v in range(data.size):
        exponent, rest, weight, weight_low = -largest, 0.0, 1.0, 0.0
        for j in range(n_hidden):
            field, field_low = 0.0, 0.0
            for i in range(n_visible):
                field, field_low = add(field, field_low, _spin(v, i) * weights[i, j], 0.0)
            if field < 0.0:
                field, field_low = -field, -field_low
            exponent, rest = add(exponent, rest, field, field_low)
            factor, factor_low = exponential(-2.0 * field, -2.0 * field_low)
            factor, factor_low = add(1.0, 0.0, factor, factor_low)
            weight, weight_low = multiply(weight, weight_low, factor, factor_low)
        factor, factor_low = exponential(exponent, rest)
        high[v], low[v] = multiply(weight, weight_low, factor, factor_low)
        total, total_low = add(total, total_low, high[v], low[v])
        sum_, sum_low = add(sum_, sum_low, data[v], 0.0)
    excess = np.empty(data.size)
    for v in range(data.size):
        q, q_low = divide(high[v], low[v], total, total_low)
        p, p_low = divide(data[v], 0.0, sum_, sum_low)
        q, q_low = add(q, q_low, -p, -p_low)
        excess[v] = q + q_low
    return excess


@jit
def _signal(p_data, data_sum, weights, hidden_local_fields, law, g, by_signal):
    """g = E_data[f] - E_pi[f] and the derivative of |g|^2, term by term as in adjoints/signal_to_noise.py; outputs start at zero.

    Returns a bound of the error of every entry of g: fields are sums of n_v couplings, a sum of 2**n_v products is rounded as often.
    """
    n_visible, n_hidden = g.shape
    excess = _excess(p_data, weights)
    for v in range(p_data.size):
        for j in range(n_hidden):
            along = excess[v] * math.tanh(hidden_local_fields[j, v])
            for i in range(n_visible):
                g[i, j] += _spin(v, i) * along
    largest = 0.0
    for j in range(n_hidden):
        largest = max(largest, np.abs(weights[:, j]).sum())
    error = np.abs(excess).sum() * ((n_visible + 1) * largest + p_data.size + 8.0) * EPSILON
    if error > 0.0:
        error += LAW_ERROR
    phi, mean = np.empty_like(law), 0.0
    projected = np.zeros((p_data.size, n_hidden))
    for v in range(p_data.size):
        for j in range(n_hidden):
            for i in range(n_visible):
                projected[v, j] += _spin(v, i) * g[i, j]
    for h in range(law.shape[0]):
        for v in range(law.shape[1]):
            total = 0.0
            for j in range(n_hidden):
                total += _spin(h, j) * projected[v, j]
            phi[h, v] = total
            mean += law[h, v] * total
    _correlations(2.0 * law * (phi - mean), by_signal)  # (model); the weights sum to zero
    for v in range(p_data.size):
        for j in range(n_hidden):
            data = 2.0 * (p_data[v] / data_sum) * projected[v, j] / math.cosh(hidden_local_fields[j, v]) ** 2  # (data)
            for i in range(n_visible):
                by_signal[i, j] -= data * _spin(v, i)
    return error
