"""Tiles of four rows and sixteen columns, each word against NumPy; with NUMBA_DISABLE_JIT=1 the NumPy twins themselves are tested."""

import numpy as np
import pytest

from thermokernels import tile, vector
from thermokernels._jit import jit

pytestmark = pytest.mark.small

STRIDE = 21
DRAWS = np.random.default_rng(0)
X, Y, Z = DRAWS.normal(size=(3, 3 + 4 * STRIDE))


def rows_of(flat, index=3):
    return np.array([flat[index + row * STRIDE : index + row * STRIDE + 16] for row in range(4)])


@jit
def _arithmetic(x, y, z, out):
    first, second, third = tile.load_tile(x, 3, 21), tile.load_tile(y, 3, 21), tile.load_tile(z, 3, 21)
    tile.store_tile(out, 0, 16, vector.add(first, second))
    tile.store_tile(out, 64, 16, vector.subtract(first, second))
    tile.store_tile(out, 128, 16, vector.multiply(first, second))
    tile.store_tile(out, 192, 16, vector.multiply_add(first, second, third))


@jit
def _move(x, out):
    tile.store_tile(out, 3, 21, tile.load_tile(x, 3, 21))


@jit
def _exchange(x, out):
    here = tile.load_tile(x, 3, 21)
    tile.store_tile(out, 0, 16, tile.swap_columns1(here))
    tile.store_tile(out, 64, 16, tile.swap_columns2(here))
    tile.store_tile(out, 128, 16, tile.swap_columns4(here))
    tile.store_tile(out, 192, 16, tile.swap_columns8(here))
    tile.store_tile(out, 256, 16, tile.swap_rows1(here))
    tile.store_tile(out, 320, 16, tile.swap_rows2(here))
    tile.store_tile(out, 384, 16, tile.reverse_tile(here))
    tile.store_tile(out, 448, 16, tile.spread_rows(x, 5))
    tile.store_tile(out, 512, 16, tile.checkered_rows(x, 2, 40))


@jit
def _fold(x, out):
    vector.store(out, 0, tile.fold(tile.load_tile(x, 3, 21)))


def test_load_and_store_touch_four_rows_of_sixteen():
    out = np.zeros_like(X)
    _move(X, out)
    np.testing.assert_array_equal(rows_of(out), rows_of(X))
    assert np.count_nonzero(out) == 64


def test_arithmetic():
    out = np.full(256, np.nan)
    _arithmetic(X, Y, Z, out)
    x, y, z = rows_of(X), rows_of(Y), rows_of(Z)
    results = out.reshape(4, 4, 16)
    np.testing.assert_array_equal(results[:3], [x + y, x - y, x * y])
    assert np.all(np.abs(results[3] - (x * y + z)) <= 2.3e-16 * np.abs(x * y))


def test_exchanges():
    out = np.full(9 * 64, np.nan)
    _exchange(X, out)
    x, columns, rows = rows_of(X), np.arange(16), np.arange(4)
    expected = [x[:, columns ^ 1], x[:, columns ^ 2], x[:, columns ^ 4], x[:, columns ^ 8], x[rows ^ 1], x[rows ^ 2], x[::-1, ::-1]]
    expected.append(np.repeat(X[5:9, None], 16, axis=1))
    expected.append([X[start : start + 16] for start in (2, 40, 40, 2)])
    np.testing.assert_array_equal(out.reshape(9, 4, 16), expected)


def test_fold_adds_in_a_fixed_order():
    out = np.full(8, np.nan)
    _fold(X, out)
    halves = rows_of(X)[:, :8] + rows_of(X)[:, 8:]
    np.testing.assert_array_equal(out, (halves[0] + halves[2]) + (halves[1] + halves[3]))
