"""What a trainer averages, as features of the two layers: f(x) = a(v) b(x)' with products <f(x), f(y)> = <a(v_x), a(v_y)> <b(x), b(y)>.

"products": b = h; "expected": b = E[h | v], as scikit-learn and rbms take it. Units: "pm1", the spins, or "zero-one", (1 + spin) / 2.
``fields`` appends a constant 1 to both, so that the gradients of b and c are products too; the corner is 1 x 1 and varies not at all.
"""

from __future__ import annotations

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.estimates.coupling.layer_excursions import Features


def features_of(n_visible: int, n_hidden: int, observables: str, units: str, fields: bool) -> Features:
    """The coefficients of the products of both layers."""

    def products(n_spins: int) -> tuple[float, float, float]:
        constant = 1.0 if fields else 0.0
        return (1.0, 0.0, constant) if units == "pm1" else (0.25, 0.25, 0.25 * n_spins + constant)

    return Features(products(n_visible), products(n_hidden), observables == "expected")


def from_correlations(correlations: Floats, units: str, fields: bool) -> Floats:
    """Sums of a(v) E[b | v]' as one vector, from those of (v, 1)(E[h | v], 1)', shape (..., n_v + 1, n_h + 1), linear in them."""
    raw = correlations
    products, visible, hidden = raw[..., :-1, :-1], raw[..., :-1, -1], raw[..., -1, :-1]
    if units == "zero-one":
        total = raw[..., -1, -1]
        products = 0.25 * (products + visible[..., :, None] + hidden[..., None, :] + total[..., None, None])
        visible, hidden = 0.5 * (visible + total[..., None]), 0.5 * (hidden + total[..., None])
    parts = [products.reshape(*products.shape[:-2], -1)]
    if fields:
        parts += [visible, hidden]
    return np.concatenate(parts, axis=-1)
