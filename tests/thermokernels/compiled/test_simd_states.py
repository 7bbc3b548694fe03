"""A cache line of numbers at a time, each operation against NumPy; with NUMBA_DISABLE_JIT=1 the NumPy twins themselves are tested."""

import numpy as np
import pytest

from thermokernels.compiled import simd_states
from thermokernels.compiled.decorator import jit

pytestmark = pytest.mark.small

DRAWS = np.random.default_rng(0)
X, Y, Z = DRAWS.normal(size=(3, 8))


@jit
def _add(x, y, out):
    simd_states.store(out, 0, simd_states.add(simd_states.load(x, 0), simd_states.load(y, 0)))


@jit
def _multiply(x, y, out):
    simd_states.store(out, 0, simd_states.multiply(simd_states.load(x, 0), simd_states.load(y, 0)))


@jit
def _multiply_add(x, y, z, out):
    simd_states.store(out, 0, simd_states.multiply_add(simd_states.load(x, 0), simd_states.load(y, 0), simd_states.load(z, 0)))


@jit
def _fill(scalar, out):
    simd_states.store(out, 0, simd_states.fill(scalar))


@jit
def _move(x, start, end, out):
    simd_states.store(out, end, simd_states.load(x, start))


@jit
def _total(x):
    return simd_states.total(simd_states.load(x, 0))


@jit
def _permute(x, out):
    here = simd_states.load(x, 0)
    step = simd_states.lanes(x)
    simd_states.store(out, 0, simd_states.swap1(here))
    simd_states.store(out, step, simd_states.swap2(here))
    simd_states.store(out, 2 * step, simd_states.swap4(here))
    simd_states.store(out, 3 * step, simd_states.swap8(here) if step > 8 else here)
    simd_states.store(out, 4 * step, simd_states.reverse(here))


TYPES = pytest.mark.parametrize("real", [np.float64, np.float32])


def filled(kernel, *arguments, real=np.float64):
    out = np.full(64 // real().itemsize, np.nan, dtype=real)
    kernel(*arguments, out)
    return out


@jit
def _subtract(x, y, out):
    simd_states.store(out, 0, simd_states.subtract(simd_states.load(x, 0), simd_states.load(y, 0)))


@jit
def _least(x, y, out):
    simd_states.store(out, 0, simd_states.least(simd_states.load(x, 0), simd_states.load(y, 0)))


@jit
def _pick_and_weave(x, picked, woven):
    low, high = simd_states.load(x, 0), simd_states.load(x, 8)
    even, odd = simd_states.pick_even(low, high), simd_states.pick_odd(low, high)
    simd_states.store(picked, 0, even)
    simd_states.store(picked, 8, odd)
    simd_states.store(woven, 0, simd_states.weave_low(even, odd))
    simd_states.store(woven, 8, simd_states.weave_high(even, odd))


def test_pairs_are_picked_by_parity_and_woven_again():
    x, picked, woven = DRAWS.normal(size=16), np.empty(16), np.empty(16)
    _pick_and_weave(x, picked, woven)
    odd = np.array([bin(k).count("1") % 2 == 1 for k in range(16)])
    np.testing.assert_array_equal(picked, np.concatenate([x[~odd], x[odd]]))
    np.testing.assert_array_equal(woven, x)


@TYPES
def test_arithmetic(real):
    x, y, z = DRAWS.normal(size=(3, 64 // real().itemsize)).astype(real)
    np.testing.assert_array_equal(filled(_add, x, y, real=real), x + y)
    np.testing.assert_array_equal(filled(_subtract, x, y, real=real), x - y)
    np.testing.assert_array_equal(filled(_multiply, x, y, real=real), x * y)
    x[0], y[1] = np.inf, np.inf
    np.testing.assert_array_equal(filled(_least, x, y, real=real), np.minimum(x, y))
    x[0], y[1] = 1.0, 1.0
    np.testing.assert_array_equal(filled(_fill, real(2.5), real=real), np.full(x.size, 2.5))
    fused = filled(_multiply_add, x, y, z, real=real)  # rounded once or twice, as the processor does it
    assert np.all(np.abs(fused - (x * y + z)) <= 1.04 * np.finfo(real).eps * (np.abs(x * y) + np.abs(fused)))


@TYPES
def test_permutations(real):
    lanes = np.arange(64 // real().itemsize)
    x, out = DRAWS.normal(size=lanes.size).astype(real), np.full(5 * lanes.size, np.nan, dtype=real)
    _permute(x, out)
    farthest = lanes ^ 8 if lanes.size > 8 else lanes
    np.testing.assert_array_equal(out.reshape(5, -1), x[np.array([lanes ^ 1, lanes ^ 2, lanes ^ 4, farthest, lanes[::-1]])])


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
    assert _total(X) == pytest.approx(X.sum(), rel=1e-14, abs=0)


def test_total_of_float32_is_rounded_in_float32_and_handed_on_as_float64():
    x = DRAWS.normal(size=16).astype(np.float32)
    halves = x
    while halves.size > 1:
        halves = halves[: halves.size // 2] + halves[halves.size // 2 :]
    assert _total(x) == float(halves[0])


@pytest.mark.parametrize("size", [8, 16, 24, 32, 40, 128])
def test_dot_and_add_multiple(size):
    x, y = DRAWS.normal(size=(2, size))
    assert simd_states.dot(x, y) == pytest.approx(x @ y, rel=1e-13, abs=1e-14)
    assert simd_states.dot(np.ones(size), np.ones(size)) == size
    expected = y + 0.7 * x
    simd_states.add_multiple(0.7, x, y)
    np.testing.assert_allclose(y, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("size", [16, 32, 48])
def test_dot_and_add_multiple_of_float32(size):
    x, y = DRAWS.normal(size=(2, size)).astype(np.float32)
    assert simd_states.dot(x, y) == pytest.approx(float(x.astype(float) @ y), abs=1e-5)
    expected = y + np.float32(0.7) * x
    simd_states.add_multiple(0.7, x, y)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(8,), (3, 16), (2, 3, 8), (1,)])
def test_aligned_arrays_start_a_cache_line(shape):
    array = simd_states.aligned_empty(*shape)
    assert array.shape == shape
    assert array.dtype == np.float64
    assert array.flags["C_CONTIGUOUS"]
    assert array.ctypes.data % simd_states.ALIGNMENT == 0
    array[...] = 1.0
    assert array.sum() == array.size
    assert not simd_states.aligned_zeros(*shape).any()
    singles = simd_states.aligned_singles(*shape)
    assert (singles.shape, singles.dtype, singles.any()) == (shape, np.float32, False)
    assert singles.ctypes.data % simd_states.ALIGNMENT == 0


@jit
def _add_where(mask, x, y, out):
    simd_states.store(out, 0, simd_states.add_where(mask, simd_states.load(x, 0), simd_states.load(y, 0)))


def test_add_where_a_bit_is_set():
    x, y = DRAWS.normal(size=(2, 16)).astype(np.float32)
    mask = np.uint16(0b1010_0000_0110_0001)
    chosen = int(mask) >> np.arange(16) & 1 == 1
    out = np.empty(16, np.float32)
    _add_where(mask, x, y, out)
    assert (out == np.where(chosen, x + y, y)).all()
