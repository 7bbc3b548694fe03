"""Tiles of four rows, each word against NumPy; with NUMBA_DISABLE_JIT=1 the NumPy twins themselves are tested."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.compiled import register_tiles, simd_float64
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.register_tiles import COLUMN_FLIPS, COLUMNS
from thermokernels.solvers.resolvent import solve

small = pytest.mark.small

STRIDE, SIZE = 21, 4 * COLUMNS
DRAWS = np.random.default_rng(0)
X, Y, Z = DRAWS.normal(size=(3, 3 + 4 * STRIDE))


def rows_of(flat, index=3):
    return np.array([flat[index + row * STRIDE : index + row * STRIDE + COLUMNS] for row in range(4)])


@jit
def _arithmetic(x, y, z, out):
    first, second, third = register_tiles.load_tile(x, 3, 21), register_tiles.load_tile(y, 3, 21), register_tiles.load_tile(z, 3, 21)
    register_tiles.store_tile(out, 0, COLUMNS, simd_float64.add(first, second))
    register_tiles.store_tile(out, SIZE, COLUMNS, simd_float64.subtract(first, second))
    register_tiles.store_tile(out, 2 * SIZE, COLUMNS, simd_float64.multiply(first, second))
    register_tiles.store_tile(out, 3 * SIZE, COLUMNS, simd_float64.multiply_add(first, second, third))


@jit
def _move(x, out):
    register_tiles.store_tile(out, 3, 21, register_tiles.load_tile(x, 3, 21))


@jit
def _exchange(x, out):
    here = register_tiles.load_tile(x, 3, 21)
    register_tiles.store_tile(out, 0, COLUMNS, register_tiles.swap_columns1(here))
    register_tiles.store_tile(out, SIZE, COLUMNS, register_tiles.swap_columns2(here))
    register_tiles.store_tile(out, 2 * SIZE, COLUMNS, register_tiles.swap_columns4(here))
    register_tiles.store_tile(out, 3 * SIZE, COLUMNS, register_tiles.swap_columns8(here) if COLUMN_FLIPS > 3 else here)
    register_tiles.store_tile(out, 4 * SIZE, COLUMNS, register_tiles.swap_rows1(here))
    register_tiles.store_tile(out, 5 * SIZE, COLUMNS, register_tiles.swap_rows2(here))
    register_tiles.store_tile(out, 6 * SIZE, COLUMNS, register_tiles.reverse_tile(here))
    register_tiles.store_tile(out, 7 * SIZE, COLUMNS, register_tiles.spread_rows(x, 5))
    register_tiles.store_tile(out, 8 * SIZE, COLUMNS, register_tiles.checkered_rows(x, 2, 40))


@jit
def _fold(x, out):
    simd_float64.store(out, 0, register_tiles.fold(register_tiles.load_tile(x, 3, 21)))


@small
def test_load_and_store_touch_one_tile():
    out = np.zeros_like(X)
    _move(X, out)
    np.testing.assert_array_equal(rows_of(out), rows_of(X))
    assert np.count_nonzero(out) == SIZE


@small
def test_arithmetic():
    out = np.full(4 * SIZE, np.nan)
    _arithmetic(X, Y, Z, out)
    x, y, z = rows_of(X), rows_of(Y), rows_of(Z)
    results = out.reshape(4, 4, COLUMNS)
    np.testing.assert_array_equal(results[:3], [x + y, x - y, x * y])
    assert np.all(np.abs(results[3] - (x * y + z)) <= 2.3e-16 * np.abs(x * y))


@small
def test_exchanges():
    out = np.full(9 * SIZE, np.nan)
    _exchange(X, out)
    x, columns, rows = rows_of(X), np.arange(COLUMNS), np.arange(4)
    expected = [
        x[:, columns ^ 1],
        x[:, columns ^ 2],
        x[:, columns ^ 4],
        x[:, columns ^ 8] if COLUMN_FLIPS > 3 else x,
        x[rows ^ 1],
        x[rows ^ 2],
        x[::-1, ::-1],
    ]
    expected.append(np.repeat(X[5:9, None], COLUMNS, axis=1))
    expected.append([X[start : start + COLUMNS] for start in (2, 40, 40, 2)])
    np.testing.assert_array_equal(out.reshape(9, 4, COLUMNS), expected)


@small
def test_fold_adds_in_a_fixed_order():
    out = np.full(8, np.nan)
    _fold(X, out)
    rows = rows_of(X)[:, :8] if COLUMNS == 8 else rows_of(X)[:, :8] + rows_of(X)[:, 8:]
    np.testing.assert_array_equal(out, (rows[0] + rows[2]) + (rows[1] + rows[3]))


@jit
def _expect(x, out):
    register_tiles.expect_tile(x, 10**6, 21)
    register_tiles.expect_tile(x, -(10**6), 21)
    register_tiles.store_tile(out, 3, 21, register_tiles.load_tile(x, 3, 21))


@small
def test_what_is_expected_need_not_exist():
    out = np.zeros_like(X)
    _expect(X, out)
    np.testing.assert_array_equal(rows_of(out), rows_of(X))


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
