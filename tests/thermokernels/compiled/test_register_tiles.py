"""Tiles of four rows, each word against NumPy; with NUMBA_DISABLE_JIT=1 the NumPy twins themselves are tested."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.compiled import register_tiles, simd_states
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.register_tiles import COLUMNS
from thermokernels.solvers.resolvent import solve

small = pytest.mark.small

STRIDE = 37
DRAWS = np.random.default_rng(0)
TYPES = pytest.mark.parametrize("real", [np.float64, np.float32])


def columns_of(real):
    return COLUMNS * 8 // real().itemsize


def draws_of(real):
    return DRAWS.normal(size=(3, 3 + 4 * STRIDE)).astype(real)


def rows_of(flat, index=3):
    return np.array([flat[index + row * STRIDE : index + row * STRIDE + columns_of(flat.dtype.type)] for row in range(4)])


@jit
def _arithmetic(x, y, z, out):
    first, second, third = register_tiles.load_tile(x, 3, 37), register_tiles.load_tile(y, 3, 37), register_tiles.load_tile(z, 3, 37)
    columns = register_tiles.columns(x)
    register_tiles.store_tile(out, 0, columns, simd_states.add(first, second))
    register_tiles.store_tile(out, 4 * columns, columns, simd_states.subtract(first, second))
    register_tiles.store_tile(out, 8 * columns, columns, simd_states.multiply(first, second))
    register_tiles.store_tile(out, 12 * columns, columns, simd_states.multiply_add(first, second, third))


@jit
def _move(x, out):
    register_tiles.store_tile(out, 3, 37, register_tiles.load_tile(x, 3, 37))


@jit
def _exchange(x, out):
    here, columns = register_tiles.load_tile(x, 3, 37), register_tiles.columns(x)
    size = 4 * columns
    register_tiles.store_tile(out, 0, columns, register_tiles.swap_columns1(here))
    register_tiles.store_tile(out, size, columns, register_tiles.swap_columns2(here))
    register_tiles.store_tile(out, 2 * size, columns, register_tiles.swap_columns4(here))
    register_tiles.store_tile(out, 3 * size, columns, register_tiles.swap_columns8(here) if columns > 8 else here)
    register_tiles.store_tile(out, 4 * size, columns, register_tiles.swap_columns16(here) if columns > 16 else here)
    register_tiles.store_tile(out, 5 * size, columns, register_tiles.swap_rows1(here))
    register_tiles.store_tile(out, 6 * size, columns, register_tiles.swap_rows2(here))
    register_tiles.store_tile(out, 7 * size, columns, register_tiles.reverse_tile(here))
    register_tiles.store_tile(out, 8 * size, columns, register_tiles.spread_rows(x, 5))
    register_tiles.store_tile(out, 9 * size, columns, register_tiles.checkered_rows(x, 2, 40))


@jit
def _fold(x, out):
    simd_states.store(out, 0, register_tiles.fold(register_tiles.load_tile(x, 3, 37)))


@small
@TYPES
def test_load_and_store_touch_one_tile(real):
    x = draws_of(real)[0]
    out = np.zeros_like(x)
    _move(x, out)
    np.testing.assert_array_equal(rows_of(out), rows_of(x))
    assert np.count_nonzero(out) == 4 * columns_of(real)


@small
@TYPES
def test_arithmetic(real):
    flat, columns = draws_of(real), columns_of(real)
    out = np.full(16 * columns, np.nan, dtype=real)
    _arithmetic(*flat, out)
    x, y, z = (rows_of(one) for one in flat)
    results = out.reshape(4, 4, columns)
    np.testing.assert_array_equal(results[:3], [x + y, x - y, x * y])
    assert np.all(np.abs(results[3] - (x * y + z)) <= 1.04 * np.finfo(real).eps * (np.abs(x * y) + np.abs(results[3])))


@small
@TYPES
def test_exchanges(real):
    flat, n_columns = draws_of(real)[0], columns_of(real)
    out = np.full(40 * n_columns, np.nan, dtype=real)
    _exchange(flat, out)
    x, columns, rows = rows_of(flat), np.arange(n_columns), np.arange(4)
    expected = [x[:, columns ^ flip] if flip < n_columns else x for flip in (1, 2, 4, 8, 16)]
    expected += [x[rows ^ 1], x[rows ^ 2], x[::-1, ::-1], np.repeat(flat[5:9, None], n_columns, axis=1)]
    expected.append([flat[start : start + n_columns] for start in (2, 40, 40, 2)])
    np.testing.assert_array_equal(out.reshape(10, 4, n_columns), expected)


@small
@TYPES
def test_fold_adds_in_a_fixed_order(real):
    x, lanes = draws_of(real)[0], 64 // real().itemsize
    out = np.full(lanes, np.nan, dtype=real)
    _fold(x, out)
    rows = rows_of(x)
    rows = rows if rows.shape[1] == lanes else rows[:, :lanes] + rows[:, lanes:]
    np.testing.assert_array_equal(out, (rows[0] + rows[2]) + (rows[1] + rows[3]))


@jit
def _expect(x, out):
    register_tiles.expect_tile(x, 10**6, 37)
    register_tiles.expect_tile(x, -(10**6), 37)
    register_tiles.store_tile(out, 3, 37, register_tiles.load_tile(x, 3, 37))


@small
@TYPES
def test_what_is_expected_need_not_exist(real):
    x = draws_of(real)[0]
    out = np.zeros_like(x)
    _expect(x, out)
    np.testing.assert_array_equal(rows_of(out), rows_of(x))


OTHER_WIDTH = """
import json, sys
import llvmlite.binding
features = llvmlite.binding.get_host_cpu_features
llvmlite.binding.get_host_cpu_features = lambda: {"avx512f": not features().get("avx512f")}
import numpy as np, thermokernels as tk
from thermokernels.compiled import register_tiles
from thermokernels.solvers.resolvent import solve
W, source = (np.array(numbers) for numbers in json.load(sys.stdin))
chain = tk.gibbs_chain(W)
image, solution = chain.apply_symmetrised_generator(source), solve(chain, source).vectors
print(json.dumps([register_tiles.COLUMNS, image.tolist(), solution.tolist()]))
"""


@pytest.mark.parametrize("shape", [(5, 5), (6, 4)])
def test_tiles_of_the_other_width_give_the_same(shape):
    chain = tk.gibbs_chain(np.random.default_rng(shape).normal(size=shape))
    source = chain.root_law[None] * np.random.default_rng(1).normal(size=chain.n_states)
    source -= (source @ chain.root_law) * chain.root_law
    # in NumPy: compiled code of another width must not get into the cache of this one
    model, environment = json.dumps([chain.weights.tolist(), source.tolist()]), os.environ | {"NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", OTHER_WIDTH]
    answer = subprocess.run(command, input=model, env=environment, capture_output=True, text=True, check=True)
    other_columns, image, solution = json.loads(answer.stdout)
    assert {COLUMNS, other_columns} == {8, 16}
    np.testing.assert_allclose(image, chain.apply_symmetrised_generator(source), rtol=0, atol=1e-15)
    expected = solve(chain, source).vectors
    np.testing.assert_allclose(solution, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
