"""Eight numbers at a time, each operation against NumPy; with NUMBA_DISABLE_JIT=1 the NumPy twins themselves are tested."""

import numpy as np
import pytest

from thermokernels import vector
from thermokernels._jit import jit

pytestmark = pytest.mark.small

DRAWS = np.random.default_rng(0)
X, Y, Z = DRAWS.normal(size=(3, 8))


@jit
def _add(x, y, out):
    vector.store(out, 0, vector.add(vector.load(x, 0), vector.load(y, 0)))


@jit
def _multiply(x, y, out):
    vector.store(out, 0, vector.multiply(vector.load(x, 0), vector.load(y, 0)))


@jit
def _multiply_add(x, y, z, out):
    vector.store(out, 0, vector.multiply_add(vector.load(x, 0), vector.load(y, 0), vector.load(z, 0)))


@jit
def _fill(scalar, out):
    vector.store(out, 0, vector.fill(scalar))


@jit
def _move(x, start, end, out):
    vector.store(out, end, vector.load(x, start))


@jit
def _total(x):
    return vector.total(vector.load(x, 0))


@jit
def _permute(x, out):
    here = vector.load(x, 0)
    vector.store(out, 0, vector.swap1(here))
    vector.store(out, 8, vector.swap2(here))
    vector.store(out, 16, vector.swap4(here))
    vector.store(out, 24, vector.reverse(here))


def filled(kernel, *arguments):
    out = np.full(8, np.nan)
    kernel(*arguments, out)
    return out


@jit
def _subtract(x, y, out):
    vector.store(out, 0, vector.subtract(vector.load(x, 0), vector.load(y, 0)))


@jit
def _pick_and_weave(x, picked, woven):
    low, high = vector.load(x, 0), vector.load(x, 8)
    even, odd = vector.pick_even(low, high), vector.pick_odd(low, high)
    vector.store(picked, 0, even)
    vector.store(picked, 8, odd)
    vector.store(woven, 0, vector.weave_low(even, odd))
    vector.store(woven, 8, vector.weave_high(even, odd))


def test_pairs_are_picked_by_parity_and_woven_again():
    x, picked, woven = DRAWS.normal(size=16), np.empty(16), np.empty(16)
    _pick_and_weave(x, picked, woven)
    odd = np.array([bin(k).count("1") % 2 == 1 for k in range(16)])
    np.testing.assert_array_equal(picked, np.concatenate([x[~odd], x[odd]]))
    np.testing.assert_array_equal(woven, x)


def test_arithmetic():
    np.testing.assert_array_equal(filled(_add, X, Y), X + Y)
    np.testing.assert_array_equal(filled(_subtract, X, Y), X - Y)
    np.testing.assert_array_equal(filled(_multiply, X, Y), X * Y)
    np.testing.assert_array_equal(filled(_fill, 2.5), np.full(8, 2.5))
    fused = filled(_multiply_add, X, Y, Z)  # rounded once or twice, as the processor does it
    assert np.all(np.abs(fused - (X * Y + Z)) <= 2.3e-16 * np.abs(X * Y))


def test_permutations():
    out = np.full(32, np.nan)
    _permute(X, out)
    lanes = np.arange(8)
    np.testing.assert_array_equal(out.reshape(4, 8), X[np.array([lanes ^ 1, lanes ^ 2, lanes ^ 4, 7 - lanes])])


@pytest.mark.parametrize(("start", "end"), [(0, 0), (5, 3), (16, 1), (3, 16)])
def test_load_and_store_need_no_alignment_and_touch_eight_entries(start, end):
    x, out = DRAWS.normal(size=24), np.zeros(24)
    _move(x, start, end, out)
    expected = np.zeros(24)
    expected[end : end + 8] = x[start : start + 8]
    np.testing.assert_array_equal(out, expected)


def test_total_adds_in_its_documented_order():
    x = np.array([1e16, 1.0, 3.0, -1e16, -1e16, 2.0, 1e16, 5.0])
    assert _total(x) == ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]))
    assert _total(X) == pytest.approx(X.sum(), rel=1e-14)


@pytest.mark.parametrize("size", [8, 16, 24, 32, 40, 128])
def test_dot_and_add_multiple(size):
    x, y = DRAWS.normal(size=(2, size))
    assert vector.dot(x, y) == pytest.approx(x @ y, rel=1e-13, abs=1e-14)
    assert vector.dot(np.ones(size), np.ones(size)) == size
    expected = y + 0.7 * x
    vector.add_multiple(0.7, x, y)
    np.testing.assert_allclose(y, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("shape", [(8,), (3, 16), (2, 3, 8), (1,)])
def test_aligned_arrays_start_a_cache_line(shape):
    array = vector.aligned_empty(*shape)
    assert array.shape == shape
    assert array.dtype == np.float64
    assert array.flags["C_CONTIGUOUS"]
    assert array.ctypes.data % vector.ALIGNMENT == 0
    array[...] = 1.0
    assert array.sum() == array.size
    assert not vector.aligned_zeros(*shape).any()
