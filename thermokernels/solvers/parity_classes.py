"""A chain in its two parity classes: the states with an even and with an odd number of -1 spins, which every flip exchanges.

A class is stored as ``[h, u]`` with u = v >> 1: the lowest visible bit follows from the parity of the rest. A flip of visible
spin 0 then keeps the index, visible spin i moves u by 2^(i-1), a hidden flip exchanges rows at the same u. Rows are ``stride`` entries
apart: long ones are padded by zeros, or rows that meet in a flip would fall on the same lines of the cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.compiled.register_tiles import PADDED_COLUMNS
from thermokernels.compiled.simd_states import DOUBLES, load, pick_even, pick_odd, store, weave_high, weave_low, zeros_on_a_line
from thermokernels.model.chain import GibbsChain

# Numbers of the classes; as plain integers numba would compile every kernel once for each of them.
EVEN, ODD = np.int64(0), np.int64(1)

# Classes are padded by three cache lines: a load waits for a store at the same place of another page.
STAGGER = 3 * DOUBLES


class Shape(NamedTuple):
    """Sizes of a class: H rows of U columns that start ``stride`` entries apart; flips of hidden spins but for the quotient's last."""

    n_rows: int
    n_half: int
    stride: int
    n_visible: int
    n_row_flips: int
    quotient: bool


class Classes(NamedTuple):
    """The chain in parity classes (index 0 even, 1 odd); class arrays are flat, zero between rows and behind the last."""

    visible_rates: np.ndarray  # (n_v * H,): entry [i, h]
    hidden_rates: np.ndarray  # (2 * n_h * U,): entry [d, j, u] is the rate of rows whose parity differs from the class's by d
    diagonal: np.ndarray  # (2, length)
    inverse: np.ndarray  # (2, length): 1 / diagonal, 0 on the target
    free: np.ndarray  # (2, length): 1, 0 on the target; (2, 0) without one
    null: np.ndarray  # (2, length): sqrt(pi), or 0 where a target makes A regular
    shape: Shape


@jit
def _parity(number):
    """Of the bits of a number below 2^32; without a loop, whose end would be guessed wrong."""
    number ^= number >> 16
    number ^= number >> 8
    number ^= number >> 4
    return 0x6996 >> (number & 15) & 1


@jit
def _split(values, shape, classes):
    """classes[p, h stride + u] = values[h, v] for the v of class p over u."""
    even, odd = classes[0], classes[1]
    for h in range(shape.n_rows):
        for u in range(0, shape.n_half, DOUBLES):
            v, k = 2 * (h * shape.n_half + u), h * shape.stride + u
            low, high = load(values, v), load(values, v + DOUBLES)
            if _parity(h ^ u):
                store(even, k, pick_odd(low, high))
                store(odd, k, pick_even(low, high))
            else:
                store(even, k, pick_even(low, high))
                store(odd, k, pick_odd(low, high))


@jit
def _merge(classes, shape, values):
    """The inverse of _split."""
    even, odd = classes[0], classes[1]
    for h in range(shape.n_rows):
        for u in range(0, shape.n_half, DOUBLES):
            v, k = 2 * (h * shape.n_half + u), h * shape.stride + u
            first, second = load(even, k), load(odd, k)
            if _parity(h ^ u):
                first, second = second, first
            store(values, v, weave_low(first, second))
            store(values, v + DOUBLES, weave_high(first, second))


@jit
def _class_rates(hidden_rates, n_half, rates):
    """rates[d, j, u], flat: the rate of hidden spin j at the visible configuration over u whose lowest bit is parity(u) ^ d."""
    n_hidden = hidden_rates.shape[0]
    for difference in range(2):
        for u in range(n_half):
            v = 2 * u + (_parity(u) ^ difference)
            for j in range(n_hidden):
                rates[(difference * n_hidden + j) * n_half + u] = hidden_rates[j, v]


@jit
def _parity_classes(escape, free, root_law, visible_rates, hidden_rates, quotient):
    """:func:`parity_classes` from the tables of the chain; ``free`` is empty without a target, else 0 on it."""
    (n_visible, n_rows), (n_hidden, n_columns) = visible_rates.shape, hidden_rates.shape
    n_half = n_columns // 2
    stride = n_half + (DOUBLES if n_half >= PADDED_COLUMNS else 0)
    length = n_rows * stride + STAGGER
    shape = Shape(n_rows, n_half, stride, n_visible, n_hidden - (1 if quotient else 0), quotient)
    rates = zeros_on_a_line(2 * n_hidden * n_half)
    _class_rates(hidden_rates, n_half, rates)
    diagonal, inverse = zeros_on_a_line(2 * length).reshape((2, length)), zeros_on_a_line(2 * length).reshape((2, length))
    null = zeros_on_a_line(2 * length).reshape((2, length))
    _split(escape, shape, diagonal)
    if free.size == 0:
        _split(1.0 / escape, shape, inverse)  # one that underflows gives infinity, which the residual check reports
        _split(root_law, shape, null)
        return Classes(visible_rates.ravel(), rates, diagonal, inverse, np.empty((2, 0)), null, shape)
    _split(free / escape, shape, inverse)
    kept = zeros_on_a_line(2 * length).reshape((2, length))
    _split(free, shape, kept)
    return Classes(visible_rates.ravel(), rates, diagonal, inverse, kept, null, shape)


def parity_classes(chain: GibbsChain, target: np.ndarray | None = None) -> Classes:
    """The chain in parity classes; states of ``target`` (a mask) are taken out, which leaves a regular system."""
    nothing = np.empty(0)
    target_or_none = nothing if target is None else 1.0 - target
    classes: Classes = _parity_classes(
        chain.escape, target_or_none, chain.root_law, chain.visible_rates, chain.hidden_rates, bool(chain.quotient)
    )
    return classes
