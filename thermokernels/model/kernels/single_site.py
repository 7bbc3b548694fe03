"""The single-site random-scan sampler: the products P F and A X, by tables of rates.

Arrays over states are seen as ``[h, v]`` (hidden configuration, visible configuration). A visible flip moves inside a row and its
rate depends on ``h`` only; a hidden flip exchanges rows and its rate depends on ``v`` only; on the Z2 quotient the flip of the last
hidden spin leads to the complement ``[H - 1 - h, V - 1 - v]``. No kernel looks up a state number.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from thermokernels.common import threads
from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.register_tiles import (
    AHEAD,
    BLOCK_ROWS,
    COLUMN_FLIPS,
    COLUMNS,
    EXPECTING,
    FAR_COLUMN_FLIP,
    FAR_ROW_FLIP,
    PADDED_COLUMNS,
    PANEL_COLUMNS,
    ROW_FLIPS,
    ROWS,
    checkered_rows,
    expect_tile,
    fold,
    load_tile,
    reverse_tile,
    spread_rows,
    store_tile,
    swap_columns1,
    swap_columns2,
    swap_columns4,
    swap_columns8,
    swap_rows1,
    swap_rows2,
)
from thermokernels.compiled.simd_states import (
    DOUBLES,
    add,
    fill,
    load,
    multiply,
    multiply_add,
    reverse,
    store,
    subtract,
    swap1,
    swap2,
    swap4,
    total,
)
from thermokernels.model.kernels.differences import Reals, Terms
from thermokernels.model.kernels.kernel import Chain, Kernel


class SingleSite(Kernel):
    """P(x, x^i) = sigmoid(-2 x_i F_i(x)) / N: one spin, chosen uniformly, is resampled in each step."""

    name = "single-site"
    single_flips = True
    parity_halves = True
    state_reduction = True
    has_adjoint = True
    scan = "random-spins"
    coupled = True

    def steps_per_sweep(self, n_spins: int) -> int:
        return n_spins

    def factors(self, n_visible: int, n_hidden: int) -> int:
        return 1

    def apply(self, chain: Chain, functions: Floats) -> Floats:
        result: Floats = functions - self.apply_generator(chain, functions)
        return result

    def apply_generator(self, chain: Chain, functions: Floats) -> Floats:
        """Takes differences, so that small ones stay exact."""
        products = np.empty_like(functions)
        _apply_generator(functions, chain.visible_flips, chain.hidden_flips, chain.quotient, products)
        return products

    def apply_symmetrised(self, chain: Chain, vectors: Floats) -> Floats:
        result: Floats = vectors - self.apply_symmetrised_generator(chain, vectors)
        return result

    def apply_symmetrised_generator(self, chain: Chain, vectors: Floats) -> Floats:
        states = vectors.reshape(len(vectors), math.prod(vectors.shape[1:]))
        products, generator = np.empty_like(states), chain.generator

        def apply_to_rows(rows: slice) -> None:
            _apply_symmetrised_generator(generator, states[rows], products[rows])

        threads.for_rows(apply_to_rows, len(states), states.size * chain.n_spins)
        return products.reshape(vectors.shape)

    def differences(self, chain: Chain, functions: Reals) -> Terms:
        sizes = np.empty_like(functions)
        _term_sizes(functions, chain.visible_flips, chain.hidden_flips, chain.quotient, sizes)
        return self.apply_generator(chain, functions), sizes

    def compiled_product(self, chain: Chain) -> tuple[Floats, Floats] | None:
        return np.empty((0, 0)), np.empty((0, 0))


class Generator(NamedTuple):
    """The tables of A = I - S: escape (H, V), rates (n_v, H) and (n_h, V) per step, and whether states are pairs {x, -x}."""

    escape: np.ndarray
    visible_rates: np.ndarray
    hidden_rates: np.ndarray
    quotient: bool


@jit
def _escape(visible_flips, hidden_flips, escape):
    """escape[h, v] = 1 - P(x, x) = sum_i P(x, x^i), as a sum of positive terms: nothing cancels however small it is."""
    n_visible, n_hidden = visible_flips.shape[1], hidden_flips.shape[1]
    for h in range(escape.shape[0]):
        row = escape[h]
        row[0] = 0.0
        for i in range(n_visible):
            half = 1 << i
            up, down = visible_flips[0, i, h], visible_flips[1, i, h]
            for v in range(half):
                row[half + v] = row[v] + down
                row[v] = row[v] + up
        for j in range(n_hidden):
            flips = hidden_flips[(h >> j) & 1, j]
            for v in range(row.size):
                row[v] += flips[v]


@jit
def _apply_symmetrised_generator(generator, vectors, products):
    """products[a] = A vectors[a] with A = I - S, for vectors of shape (k, n_states)."""
    for a in range(vectors.shape[0]):
        _apply_to_vector(generator, vectors[a], products[a])


@jit
def _apply_to_vector(generator, x, product):
    """product = A x for one vector of length n_states."""
    n_rows, n_columns = generator.escape.shape
    if n_rows >= ROWS and n_columns >= COLUMNS:
        tables = (generator.escape.ravel(), generator.visible_rates.ravel(), generator.hidden_rates.ravel())
        nothing = x[:0]
        if n_columns < PADDED_COLUMNS:
            _apply_in_tiles(tables, generator, x, n_columns, nothing, nothing, product, n_columns)
        else:
            _apply_in_tiles(tables, generator, _padded(x, n_rows, n_columns), n_columns + DOUBLES, nothing, nothing, product, n_columns)
        return
    for h in range(n_rows):
        if n_columns < DOUBLES:
            _generator_row_narrow(generator, x, h, product)
        else:
            _generator_row(generator, x, h, product)


@jit
def _padded(x, n_rows, n_columns):
    """x with a cache line behind every row: rows that meet in a flip would fall on the same lines of the cache."""
    stride = n_columns + DOUBLES
    memory = np.empty(n_rows * stride + DOUBLES)
    padded = memory[-(memory.ctypes.data // 8) % DOUBLES :]
    for h in range(n_rows):
        for v in range(0, n_columns, DOUBLES):
            store(padded, h * stride + v, load(x, h * n_columns + v))
    return padded


@jit
def _apply_in_tiles(tables, generator, x, stride, back, before, product, spacing):
    """A x in tiles, whose own flips are exchanges of registers; where ``before`` is not empty A x - back[0] before, and x'that.

    Rows of x are ``stride`` entries apart, those of ``before`` and of the product, which may be one array, ``spacing``. ``back`` holds its
    number once for every row of a tile.
    """
    escape, visible_rates, hidden_rates = tables
    n_rows, n_columns = generator.escape.shape
    n_visible, quotient = generator.visible_rates.shape[0], generator.quotient
    n_row_flips = generator.hidden_rates.shape[0] - (1 if quotient else 0)
    block_rows, panel_columns = min(BLOCK_ROWS, n_rows), min(2 * PANEL_COLUMNS, n_columns)  # rows are twice those of a class
    expecting, whole = n_rows * n_columns >= EXPECTING, 0.0
    for number in range(n_rows // block_rows * (n_columns // panel_columns)):
        first_row = number // (n_columns // panel_columns) * block_rows
        first_column = number % (n_columns // panel_columns) * panel_columns
        products = fill(0.0)
        for h in range(first_row, first_row + block_rows, ROWS):
            for v in range(first_column, first_column + panel_columns, COLUMNS):
                if expecting:
                    g, w = (h, v + AHEAD) if v + AHEAD < first_column + panel_columns else (h + ROWS, v + AHEAD - panel_columns)
                    expect_tile(product, g * spacing + w, spacing)
                    expect_tile(escape, g * n_columns + w, n_columns)
                    for i in range(FAR_COLUMN_FLIP + 1, n_visible):
                        expect_tile(x, g * stride + (w ^ (1 << i)), stride)
                    for j in range(FAR_ROW_FLIP, n_row_flips):
                        expect_tile(x, (g ^ (1 << j)) * stride + w, stride)
                    if quotient:
                        expect_tile(x, (n_rows - ROWS - g) * stride + n_columns - COLUMNS - w, stride)
                here = load_tile(x, h * stride + v, stride)
                incoming = multiply(spread_rows(visible_rates, h), swap_columns1(here))
                incoming = multiply_add(spread_rows(visible_rates, n_rows + h), swap_columns2(here), incoming)
                incoming = multiply_add(spread_rows(visible_rates, 2 * n_rows + h), swap_columns4(here), incoming)
                if COLUMN_FLIPS > 3:
                    incoming = multiply_add(spread_rows(visible_rates, 3 * n_rows + h), swap_columns8(here), incoming)
                incoming = multiply_add(checkered_rows(hidden_rates, v, v), swap_rows1(here), incoming)
                incoming = multiply_add(checkered_rows(hidden_rates, n_columns + v, n_columns + v), swap_rows2(here), incoming)
                for i in range(COLUMN_FLIPS, n_visible):
                    there = load_tile(x, h * stride + (v ^ (1 << i)), stride)
                    incoming = multiply_add(spread_rows(visible_rates, i * n_rows + h), there, incoming)
                for j in range(ROW_FLIPS, n_row_flips):
                    there, rates = load_tile(x, (h ^ (1 << j)) * stride + v, stride), j * n_columns + v
                    incoming = multiply_add(checkered_rows(hidden_rates, rates, rates), there, incoming)
                if quotient:
                    across = reverse_tile(load_tile(x, (n_rows - ROWS - h) * stride + n_columns - COLUMNS - v, stride))
                    rates = n_row_flips * n_columns + v
                    incoming = multiply_add(checkered_rows(hidden_rates, rates, rates), across, incoming)
                if before.size > 0:
                    incoming = multiply_add(spread_rows(back, 0), load_tile(before, h * spacing + v, spacing), incoming)
                incoming = subtract(multiply(load_tile(escape, h * n_columns + v, n_columns), here), incoming)
                if before.size > 0:
                    products = add(products, fold(multiply(here, incoming)))
                store_tile(product, h * spacing + v, spacing, incoming)
        whole += total(products)
    return whole


@jit
def _after_hidden_flip(h, v, j, shape, n_hidden, quotient):
    """(h, v) after a flip of hidden spin j; on pairs {x, -x} the last one is +1, and its flip leads to the complement of the others.

    The hottest loops spell the branch out: the compiler takes it out of them then, which makes them up to twice as fast.
    """
    if quotient and j == n_hidden - 1:
        return shape[0] - 1 - h, shape[1] - 1 - v
    return h ^ (1 << j), v


@jit
def _generator_row_narrow(generator, x, h, product):
    """Row h of A x, entry by entry: the plain form of _generator_row, for rows of fewer than eight states."""
    escape, visible_rates, hidden_rates = generator.escape, generator.visible_rates, generator.hidden_rates
    n_columns, n_hidden = escape.shape[1], hidden_rates.shape[0]
    start = h * n_columns
    for v in range(n_columns):
        incoming = 0.0
        for i in range(visible_rates.shape[0]):
            incoming += visible_rates[i, h] * x[start + (v ^ (1 << i))]
        for j in range(n_hidden):
            row, column = _after_hidden_flip(h, v, j, escape.shape, n_hidden, generator.quotient)
            incoming += hidden_rates[j, v] * x[row * n_columns + column]
        product[start + v] = escape[h, v] * x[start + v] - incoming


@jit
def _generator_row(generator, x, h, product):
    """Row h of A x, eight states at a time: the three lowest visible flips are exchanges inside a register."""
    visible_rates, hidden_rates = generator.visible_rates, generator.hidden_rates.ravel()
    n_rows, n_columns = generator.escape.shape
    n_visible, n_hidden = visible_rates.shape[0], generator.hidden_rates.shape[0]
    n_row_flips = n_hidden - 1 if generator.quotient else n_hidden
    escape = generator.escape[h]
    rate0, rate1, rate2 = fill(visible_rates[0, h]), fill(visible_rates[1, h]), fill(visible_rates[2, h])
    start = h * n_columns
    for v in range(0, n_columns, DOUBLES):
        here = load(x, start + v)
        sum0 = multiply(rate0, swap1(here))
        sum1 = multiply(rate1, swap2(here))
        sum0 = multiply_add(rate2, swap4(here), sum0)
        for i in range(3, n_visible):
            sum1 = multiply_add(fill(visible_rates[i, h]), load(x, start + (v ^ (1 << i))), sum1)
        for j in range(n_row_flips):
            sum0 = multiply_add(load(hidden_rates, j * n_columns + v), load(x, (h ^ (1 << j)) * n_columns + v), sum0)
        if generator.quotient:
            across = reverse(load(x, (n_rows - h) * n_columns - DOUBLES - v))
            sum1 = multiply_add(load(hidden_rates, n_row_flips * n_columns + v), across, sum1)
        store(product, start + v, multiply_add(load(escape, v), here, multiply(fill(-1.0), add(sum0, sum1))))


@jit
def _apply_generator(functions, visible_flips, hidden_flips, quotient, products):
    """products[a](x) = sum_i P(x, x^i) (f(x) - f(x^i)): (I - P) f in differences, which keeps small ones exact."""
    n_rows, n_columns = functions.shape[1:]
    n_visible, n_hidden = visible_flips.shape[1], hidden_flips.shape[1]
    for a in range(functions.shape[0]):
        for h in range(n_rows):
            row = functions[a, h]
            for v in range(n_columns):
                total = 0.0
                for i in range(n_visible):
                    total += visible_flips[(v >> i) & 1, i, h] * (row[v] - row[v ^ (1 << i)])
                for j in range(n_hidden):
                    bit = (h >> j) & 1
                    if quotient and j == n_hidden - 1:
                        other = functions[a, n_rows - 1 - h, n_columns - 1 - v]
                    else:
                        other = functions[a, h ^ (1 << j), v]
                    total += hidden_flips[bit, j, v] * (row[v] - other)
                products[a, h, v] = total


@jit
def _term_sizes(functions, visible_flips, hidden_flips, quotient, sizes):
    """sizes[a](x) = sum_i P(x, x^i) |f(x) - f(x^i)|."""
    n_rows, n_columns = functions.shape[1:]
    for a in range(functions.shape[0]):
        for h in range(n_rows):
            row = functions[a, h]
            for v in range(n_columns):
                total = 0.0
                for i in range(visible_flips.shape[1]):
                    total += visible_flips[(v >> i) & 1, i, h] * abs(row[v] - row[v ^ (1 << i)])
                for j in range(hidden_flips.shape[1]):
                    g, u = _after_hidden_flip(h, v, j, (n_rows, n_columns), hidden_flips.shape[1], quotient)
                    total += hidden_flips[(h >> j) & 1, j, v] * abs(row[v] - functions[a, g, u])
                sizes[a, h, v] = total
