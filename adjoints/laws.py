"""Gradient of the divergence between a data law and the visible law; the value's file is :mod:`thermokernels.model.laws`."""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import memory
from thermokernels.common.arguments import as_flag, as_law
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.compiled.decorator import jit
from thermokernels.model.laws import _divergence, _fill_fields, _kernel_arguments, _log_weights, _moderate
from thermokernels.model.model import Model, ModelLike, as_model
from thermokernels.model.spin_sums import _fold


@overload
def kl_divergence_and_gradient(
    p_data: ArrayLike, W: ModelLike, b: ArrayLike | None = None, c: ArrayLike | None = None, *, fields: Literal[False] = False
) -> tuple[float, Floats]: ...
@overload
def kl_divergence_and_gradient(
    p_data: ArrayLike, W: ModelLike, b: ArrayLike | None = None, c: ArrayLike | None = None, *, fields: Literal[True]
) -> tuple[float, tuple[Floats, Floats, Floats]]: ...
@default_error_state
def kl_divergence_and_gradient(
    p_data: ArrayLike, W: ModelLike, b: ArrayLike | None = None, c: ArrayLike | None = None, *, fields: bool = False
) -> tuple[float, Floats] | tuple[float, tuple[Floats, Floats, Floats]]:
    """Divergence KL(p_data || q) in nats and its gradient with respect to the couplings, and to the fields on request.

    dKL/dW_ij = E_q[v_i tanh F_j(v)] - E_data[v_i tanh F_j(v)] = E_pi[v_i h_j] - E_data[v_i h_j],    F = W' v + c.

    Parameters
    ----------
    p_data : (2**n_v,) array_like of float64
        Law on the visible states.
    W, b, c : array_like of float64, or W a Model
        Couplings (n_v, n_h) and optional fields (n_v,), (n_h,), as in :func:`thermokernels.visible_law`.
    fields : bool
        Whether the gradients with respect to b and c come along.

    Returns
    -------
    value : float
        KL(p_data || q) in nats, the same number as :func:`thermokernels.kl_divergence`.
    dKL_dW : (n_v, n_h) ndarray of float64, or the triple (dKL_dW, dKL_db, dKL_dc) with ``fields=True``
        Nats per unit of coupling; shapes (n_v, n_h), (n_v,), (n_h,).

    Raises
    ------
    ValueError
        Bad shapes, entries or laws, or energies that overflow; ModelTooLargeError where the tables do not fit into memory.

    Examples
    --------
    Two visible spins that always agree: both couplings have to grow.

    >>> value, gradient = kl_divergence([0.5, 0.0, 0.0, 0.5], [[0.3], [0.3]])
    >>> round(value, 4), gradient.round(4).tolist()
    (0.6117, [[-0.2457], [-0.2457]])
    """
    with_fields = as_flag(fields, "fields")
    model = _moderate(as_model(W, b, c))
    data = as_law(p_data, 2**model.n_visible)
    terms, difference = _divergence(data, _log_weights(model))

    # KL = const - sum_v p(v) log q(v),  log q(v) = l(v) - log sum_u exp l(u),  l(v) = b' v + sum_j log 2 cosh F_j(v):
    #   dKL/dl(v) = q(v) - p(v)                                                 (difference of the laws)
    #   dKL/dF_j(v) = (q(v) - p(v)) tanh F_j(v)                                 (log 2 cosh)
    #   dKL/dW_ij = sum_v v_i dKL/dF_j(v),   dKL/dc_j = sum_v dKL/dF_j(v)       (hidden fields)
    #   dKL/db_i = sum_v v_i (q(v) - p(v))                                      (visible field)
    columns, b, c = _kernel_arguments(model)
    ct_columns, ct_b, ct_c = np.empty_like(columns), np.empty_like(b), np.empty_like(c)
    _pull_back(columns, c, difference, ct_columns, ct_b, ct_c)
    ct_weights = model.on_edges(np.ascontiguousarray(ct_columns.T))
    value = float(terms.sum())
    return (value, (ct_weights, ct_b, ct_c)) if with_fields else (value, ct_weights)


kl_divergence = kl_divergence_and_gradient


# The gradient sum_v (q(v) - p(v)) dl(v) once more, along a direction (t_W, t_b, t_c):
#   log weight      t_F_j = sum_i v_i t_W_ij + t_c_j,   t_l = t_b' v + sum_j tanh(F_j) t_F_j
#   law             t_q = q (t_l - E_q t_l)
#   hidden fields   t(dKL/dF_j) = t_q tanh F_j + (q - p) sech^2(F_j) t_F_j
def kl_hessian_product(p_data: ArrayLike, model: Model, direction: tuple[Floats, Floats, Floats]) -> tuple[Floats, Floats, Floats]:
    """The Hessian of KL(p_data || q) by (W, b, c) times a direction of these shapes: the same shapes, in nats per unit of the direction.

    Raises
    ------
    ValueError, ModelTooLargeError
        As :func:`kl_divergence_and_gradient`; the tables here hold every spin of every visible state.
    """
    model, (t_W, t_b, t_c) = _moderate(model), direction
    n_columns = model.n_visible + max(model.n_visible, 7 * model.n_hidden) + 7
    memory.require(8 * n_columns * 2**model.n_visible, "a Hessian of the divergence", "use fewer visible spins")
    log_weights = _log_weights(model)
    _, difference = _divergence(as_law(p_data, 2**model.n_visible), log_weights)
    q = np.exp(log_weights - log_weights.max())
    q /= q.sum()
    v = 1.0 - 2.0 * ((np.arange(q.size)[:, None] >> np.arange(model.n_visible)) & 1)
    F, t_F = v @ model.W + model.c, v @ t_W + t_c
    slope = np.tanh(F)
    t_l = v @ t_b + (slope * t_F).sum(axis=1)
    t_q = q * (t_l - q @ t_l)
    # sech^2 without the cancellation of 1 - tanh^2
    hidden = t_q[:, None] * slope + difference[:, None] * (2 / (np.exp(np.abs(F)) + np.exp(-np.abs(F)))) ** 2 * t_F
    return v.T @ hidden, v.T @ t_q, hidden.sum(axis=0)


@jit
def _pull_back(columns: Floats, c: Floats, difference: Floats, ct_columns: Floats, ct_b: Floats, ct_c: Floats) -> None:
    """Cotangents of W' (one row a hidden spin), b and c from the cotangent ``difference`` of the log weights, which is used up."""
    field = np.empty(difference.size)
    for j in range(c.size):
        _fill_fields(columns[j], c[j], field)
        for state in range(field.size):
            field[state] = difference[state] * np.tanh(field[state])
        ct_c[j] = _fold(field, ct_columns[j])
    _fold(difference, ct_b)
