"""Q, T_O and the KL divergence with their gradients, to be called from ``@njit`` code of one's own: without the GIL, without Python.

Models without fields, on pairs {x, -x}, by the kernels of :mod:`adjoints.small_models`. W is (n_v, n_h), p_data (2**n_v,) sums to one
within 1e-9, ``gradient`` (n_v, n_h) is of float64. ValueError where that is not so: of another dtype or number of dimensions when the call
is compiled. A value that is not certified to a relative 1e-8 comes back as NaN with a gradient of NaN, and so does Q of couplings whose
sizes add up to more than 300: T_O as :mod:`adjoints` certifies it, and the signal, of a trained model a difference of two laws that all but
agree, in twice the working precision. :mod:`adjoints` explains itself, reaches further (state reduction) and proves its errors.
"""

from __future__ import annotations

import math

import numpy as np
from numba.core import types
from numba.extending import overload

from adjoints.laws import _pull_back
from adjoints.small_models import _answer, _time_cotangents, empty_answer
from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.double_double import add
from thermokernels.model.chain_tables import _empty_tables
from thermokernels.model.laws import _compare_laws, _sum_out_hidden
from thermokernels.quantities.small_models import N_NUMBERS, Limits, _solve_time
from thermokernels.solvers.small.small_chains import empty

PRECISION = 1e-8
# Of the residual and the smallest law as in thermokernels; T_O and its solutions to PRECISION.
LIMITS = Limits(1e-10, 1e-280, PRECISION, PRECISION, np.inf, 0.0)
# |sum p - 1| of a law, as thermokernels.common.tolerances.LAW_SUM
LAW_SUM = 1e-9


@jit
def kl_divergence(p_data: Floats, W: Floats, gradient: Floats) -> float:
    """KL(p_data || visible marginal) in nats; ``gradient`` (n_v, n_h) is overwritten with its derivative by W."""
    _require_types(W, gradient, p_data)
    _require_shapes(W, gradient)
    data, data_sum = _as_law(p_data, W.shape[0])
    n_states = 1 << W.shape[0]
    columns, visible_field, hidden_field = np.empty((W.shape[1], W.shape[0])), np.zeros(W.shape[0]), np.zeros(W.shape[1])
    columns[:] = W.T  # in float64, whatever W is
    log_weight, factor = np.empty(n_states), np.ones(n_states)
    _sum_out_hidden(columns, visible_field, hidden_field, np.empty(n_states), factor, log_weight)
    largest, total = log_weight.max(), 0.0
    for v in range(n_states):
        total += math.exp(log_weight[v] - largest)
    log_law = log_weight - (largest + math.log(total))
    terms, difference = np.empty(n_states), np.empty(n_states)
    _compare_laws(data / data_sum, log_law, terms, difference)
    by_columns = np.empty_like(columns)
    _pull_back(columns, hidden_field, difference, by_columns, np.empty_like(visible_field), np.empty_like(hidden_field))
    gradient[:] = by_columns.T
    divergence: float = terms.sum()
    return divergence


@jit
def observable_variance_time(W: Floats, gradient: Floats) -> float:
    """T_O in steps; ``gradient`` (n_v, n_h) is overwritten with its derivative by W."""
    _require_types(W, gradient, gradient[0])
    _require_shapes(W, gradient)
    weights, visible_field, hidden_field, tables, solved = _prepared(W)
    numbers = np.full(N_NUMBERS, np.nan)
    if not _solve_time(weights, visible_field, hidden_field, True, False, LIMITS, tables, solved, numbers):
        gradient[:] = np.nan
        return np.nan
    _time_cotangents(tables, True, solved.right_hand_sides, solved.vectors, gradient, visible_field, hidden_field)
    time: float = numbers[3]
    return time


@jit
def q_struct(W: Floats, p_data: Floats, window: float, gradient: Floats) -> float:
    """Q = (K / 2) |g|^2 / T_O for a window in sweeps; ``gradient`` (n_v, n_h) is overwritten with its derivative by W."""
    _require_types(W, gradient, p_data)
    _require_shapes(W, gradient)
    data, data_sum = _as_law(p_data, W.shape[0])
    weights, visible_field, hidden_field, tables, solved = _prepared(W)
    answer = empty_answer(W.shape[0], W.shape[1])
    window_steps = window * (W.shape[0] + W.shape[1])
    model = weights, visible_field, hidden_field, data, data_sum, window_steps
    certified = _answer(*model, True, LIMITS, tables, solved, answer)
    # a signal of nothing is one: its entries are right to 1e-24
    if not (certified and (answer.numbers[2] <= PRECISION * answer.numbers[1] or answer.numbers[1] == 0.0)):
        gradient[:] = np.nan
        return np.nan
    gradient[:] = answer.ct_weights
    value: float = answer.numbers[0]
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
def _prepared(W):
    """W in float64, whatever it is, fields of zeros, and room for the tables and solutions of the pairs."""
    n_visible, n_hidden = W.shape
    weights = np.empty(W.shape)
    weights[:] = W
    solved = empty(n_visible * n_hidden, 1 << (n_visible + n_hidden - 1))
    return weights, np.zeros(n_visible), np.zeros(n_hidden), _empty_tables(n_visible, n_hidden, True), solved
