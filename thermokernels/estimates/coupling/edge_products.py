"""< f(x), f(y) > where some couplings do not exist: sums over those that do, which are no product of two products of a layer.

    S_t = < f(X_0) - f(Y_0), f(X_t) - f(Y_t) > = sum_(i,j) D_ij (a_i b_j(X_t) - a_i b_j(Y_t)),      D_ij = a_i b_j(X_0) - a_i b_j(Y_0),

of the edges (i, j), and with fields sum_i (a_i(X_0) - a_i(Y_0)) (a_i(X_t) - a_i(Y_t)) beside it, b likewise.
"""

from __future__ import annotations

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_chains import fill, load, multiply_add, store


@jit
def _unit(features, rows, i):
    """a_i or b_i of all lanes."""
    return multiply_add(load(rows, i), fill(features.scale), fill(features.shift))


@jit
def _fields_product(features, now, start):
    """sum_i (a_i(X_0) - a_i(Y_0)) (a_i(X_t) - a_i(Y_t)) over a layer, in all lanes."""
    total = fill(0.0)
    for i in range(now[0].shape[0]):
        total = multiply_add(load(start[0], i) - load(start[1], i), load(now[0], i) - load(now[1], i), total)
    return total * np.float32(features.scale**2)


@jit
def _edge_lag_products(features, visible, visible_start, hidden, hidden_start, lag_products):
    """lag_products[0] = S_t in all lanes; the layers are (x, y) of rows."""
    total = fill(0.0)
    if features.fields:
        total = _fields_product(features, visible, visible_start) + _fields_product(features, hidden, hidden_start)
    for i in range(visible[0].shape[0]):
        x, y, x_start, y_start = (
            _unit(features, visible[0], i),
            _unit(features, visible[1], i),
            _unit(features, visible_start[0], i),
            _unit(features, visible_start[1], i),
        )
        row = fill(0.0)
        for k in range(features.indptr[i], features.indptr[i + 1]):
            j = features.indices[k]
            start = x_start * _unit(features, hidden_start[0], j) - y_start * _unit(features, hidden_start[1], j)
            now = x * _unit(features, hidden[0], j) - y * _unit(features, hidden[1], j)
            row = multiply_add(start, now, row)
        total = total + row
    store(lag_products, 0, total)
