"""What a trainer averages, as features of the two layers: f_ij(x) = a_i(v) b_j(h) over the couplings that exist.

"products": b = h; "expected": b = E[h | v], as scikit-learn and rbms take it. Units: "pm1", the spins, or "zero-one", (1 + spin) / 2.
``fields`` appends a constant 1 to both, so that the gradients of b and c are products too; the corner is 1 x 1 and varies not at all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.model.model import Model


class Features(NamedTuple):
    """How < f(x), f(y) > is added up.

    Where all couplings exist it is <a(v), a(v')> <b(h), b(h')>, with
    <a(v), a(v')> = visible[0] v.v' + visible[1] (sum v + sum v') + visible[2]; hidden likewise, of E[h | v] where ``expected``.

    Where some do not it is a sum over those that do: a = shift + scale v, b likewise, the edges by rows of W as in a sparse matrix by rows
    (the hidden units of row i are indices[indptr[i]:indptr[i + 1]]; both arrays are empty where all couplings exist), and with ``fields``
    a.a' and b.b' beside it.
    """

    visible: tuple[float, float, float]
    hidden: tuple[float, float, float]
    expected: bool
    fields: bool
    scale: float
    shift: float
    indptr: np.ndarray
    indices: np.ndarray


def features_of(model: Model, observables: str, units: str, fields: bool) -> Features:
    """The features of a question."""
    scale, shift = (1.0, 0.0) if units == "pm1" else (0.5, 0.5)

    def products(n_spins: int) -> tuple[float, float, float]:
        return scale**2, scale * shift, shift**2 * n_spins + (1.0 if fields else 0.0)

    if model.mask is None:
        indptr, indices = np.empty(0, np.int64), np.empty(0, np.int64)
    else:
        indptr, indices = np.append(0, model.mask.sum(axis=1).cumsum()).astype(np.int64), np.nonzero(model.mask)[1].astype(np.int64)
    layers = products(model.n_visible), products(model.n_hidden)
    return Features(*layers, observables == "expected", fields, scale, shift, indptr, indices)


def from_correlations(model: Model, correlations: Floats, units: str, fields: bool) -> Floats:
    """Sums of a(v) E[b | v]' as one vector, from those of (v, 1)(E[h | v], 1)', shape (..., n_v + 1, n_h + 1), linear in them.

    Couplings that do not exist have zeros in it.
    """
    raw = correlations
    products, visible, hidden = raw[..., :-1, :-1], raw[..., :-1, -1], raw[..., -1, :-1]
    if units == "zero-one":
        total = raw[..., -1, -1]
        products = 0.25 * (products + visible[..., :, None] + hidden[..., None, :] + total[..., None, None])
        visible, hidden = 0.5 * (visible + total[..., None]), 0.5 * (hidden + total[..., None])
    parts = [model.on_edges(products).reshape(*products.shape[:-2], -1)]
    if fields:
        parts += [visible, hidden]
    return np.concatenate(parts, axis=-1)
