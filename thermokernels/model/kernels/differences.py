"""(I - P) f of the block kernels as a sum of differences: what is small stays right, and how large its terms are is known.

For a resampling Pi with the conditional law p and any state a of the block that is resampled,

    f(x) - (Pi f)(x) = (f(x) - f(a)) - sum_y p(y) (f(y) - f(a)).

With a the most probable of n states no term is larger than n times the flow sum_y p(y) |f(x) - f(y)| that cannot be done without, at the
price of two passes. Products of two projections are sums of such terms:

    I - Pi_v Pi_h = (I - Pi_v) + Pi_v (I - Pi_h).

Every function returns the differences and a bound on the sizes of the terms they are made of. Arrays are (k, H, V), of any precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats

Reals = NDArray[Any]  # float64, or long double where more digits are asked for
Terms = tuple[Reals, Reals]


def from_mean(functions: Reals, law: Floats) -> Terms:
    """f - sum_y p(y) f(y) along the last axis, p a law for each index of the axis before: (..., m, n) and (m, n)."""
    anchors = law.argmax(axis=-1)
    shifted = functions - np.take_along_axis(functions, np.broadcast_to(anchors[:, None], (*functions.shape[:-1], 1)), axis=-1)
    sizes = np.abs(shifted)
    return shifted - (law * shifted).sum(axis=-1, keepdims=True), sizes + (law * sizes).sum(axis=-1, keepdims=True)


def from_visible_mean(functions: Reals, visible_law: Floats) -> Terms:
    """f - Pi_v f."""
    return from_mean(functions, visible_law)


def from_hidden_mean(functions: Reals, hidden_law: Floats, quotient: bool) -> Terms:
    """f - Pi_h f; on pairs {x, -x} the hidden configurations over v and over its complement are one block."""
    if not quotient:
        return _swapped(from_mean(functions.swapaxes(-1, -2), hidden_law.T))
    joined, laws = (_joined(part.swapaxes(-1, -2)) for part in (functions, hidden_law))
    differences, sizes = (_parted(part) for part in from_mean(joined, laws))
    return _swapped((differences, sizes))


def _swapped(terms: Terms) -> Terms:
    return terms[0].swapaxes(-1, -2), terms[1].swapaxes(-1, -2)


def _joined(columns: Reals) -> Reals:
    """(..., V, H) to (..., V / 2, 2 H): v and its complement side by side."""
    half = columns.shape[-2] // 2
    return np.concatenate([columns[..., :half, :], columns[..., ::-1, :][..., :half, :]], axis=-1)


def _parted(joined: Reals) -> Reals:
    """The inverse of :func:`_joined`."""
    n = joined.shape[-1] // 2
    return np.concatenate([joined[..., :n], joined[..., n:][..., ::-1, :]], axis=-2)


def two_block(functions: Reals, visible_law: Floats, hidden_law: Floats, quotient: bool) -> Terms:
    """(I - P) f for P = (Pi_v + Pi_h) / 2."""
    visible, hidden = from_visible_mean(functions, visible_law), from_hidden_mean(functions, hidden_law, quotient)
    return 0.5 * (visible[0] + hidden[0]), 0.5 * (visible[1] + hidden[1])


def symmetrised_alternating(functions: Reals, visible_law: Floats, hidden_law: Floats, quotient: bool) -> Terms:
    """(I - P) f for P = (Pi_v Pi_h + Pi_h Pi_v) / 2."""
    visible, hidden = from_visible_mean(functions, visible_law), from_hidden_mean(functions, hidden_law, quotient)
    parts = []
    for of_visible, of_hidden in zip(visible, hidden, strict=True):
        along_visible = (visible_law * of_hidden).sum(axis=-1, keepdims=True)
        along_hidden = (hidden_law * of_visible).sum(axis=-2, keepdims=True)
        if quotient:
            along_hidden = along_hidden + along_hidden[..., ::-1]
        parts.append(0.5 * (of_visible + along_visible + of_hidden + along_hidden))
    return parts[0], parts[1]


def one_layer(functions: Reals, coupling: Floats, root_law: Floats, twin_root_law: Floats) -> Terms:
    """(I - K) f for K(x, y) = sum_m p(m | x) p(y | m), functions (k, n), coupling C (M, n), roots of the laws of both layers (n,), (M,).

    f(x) - (K f)(x) = sum_m p(m | x) ((f(x) - f(a_m)) - sum_y p(y | m) (f(y) - f(a_m))), a_m the most probable state at m, and
    p(m | x) = C(m, x) sqrt(pi(m) / pi(x)), p(y | m) = C(m, y) sqrt(pi(y) / pi(m)): two rows at a time, never a second matrix.
    """
    products, sizes = np.zeros_like(functions), np.zeros_like(functions)
    for row, twin_root in zip(coupling, twin_root_law, strict=True):
        law, twin_law = row * (twin_root / root_law), row * (root_law / twin_root)
        shifted = functions - functions[..., twin_law.argmax(), None]
        lengths = np.abs(shifted)
        products += law * (shifted - (twin_law * shifted).sum(axis=-1, keepdims=True))
        sizes += law * (lengths + (twin_law * lengths).sum(axis=-1, keepdims=True))
    return products, sizes
