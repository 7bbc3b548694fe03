"""What the gradient of sum_a z_a' S z_a is made of: overlaps z_a(x) z_a(x^i) of every flip, and the squares, summed over observables."""

from __future__ import annotations

import numpy as np

from thermokernels.common import threads
from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.register_tiles import ROWS
from thermokernels.compiled.simd_states import DOUBLES, add, fill, load, multiply_add, reverse, store, swap1, swap2, swap4, total

# Columns of a vector that are copied out together: 512 bytes of every row.
PACKED_COLUMNS = 64

# Sums that stay in the first-level cache while all rows are added to them.
CACHED_SUMS = 2**10

# Every sum below is over the vectors in their order, whichever rows or columns a task takes: the same bits for every number of threads.


@jit
def _pair_overlaps(x, first, last, n_flips, sums):
    """sums[j] = sum_k x[k] x[k ^ 2^j], j < n_flips, over the vectors of eight in x[first:last]; a pair is met once and counts twice.

    Two flips at a time: four vectors that both lead to each other are four loads for four products.
    """
    for j in range(0, n_flips - 1, 2):
        near, far = DOUBLES << j, DOUBLES << (j + 1)
        sum0, sum1, sum2, sum3 = fill(0.0), fill(0.0), fill(0.0), fill(0.0)
        for start in range(first, last, 2 * far):
            for k in range(start, start + near, DOUBLES):
                x0, x1, x2, x3 = load(x, k), load(x, k + near), load(x, k + far), load(x, k + far + near)
                sum0, sum1 = multiply_add(x0, x1, sum0), multiply_add(x2, x3, sum1)
                sum2, sum3 = multiply_add(x0, x2, sum2), multiply_add(x1, x3, sum3)
        sum0, sum2 = add(sum0, sum1), add(sum2, sum3)
        store(sums, j * DOUBLES, add(sum0, sum0))
        store(sums, (j + 1) * DOUBLES, add(sum2, sum2))
    if n_flips % 2:
        far, sum0 = DOUBLES << (n_flips - 1), fill(0.0)
        for start in range(first, last, 2 * far):
            for k in range(start, start + far, DOUBLES):
                sum0 = multiply_add(load(x, k), load(x, k + far), sum0)
        store(sums, (n_flips - 1) * DOUBLES, add(sum0, sum0))


@jit
def _visible_overlaps(vectors, shape, first, last, ct_visible_rates, squares):
    """ct[i, h] += sum_a sum_v z_a[h, v] z_a[h, v ^ 2^i] and squares += sum_a z_a^2 for the rows ``first`` to ``last``."""
    n_rows, n_columns = shape
    n_far = ct_visible_rates.size // n_rows - 3  # flips that lead to another vector of eight
    sums = np.empty(max(n_far, 1) * DOUBLES)
    for a in range(vectors.shape[0]):
        z = vectors[a]
        for h in range(first, last):
            start, stop = h * n_columns, (h + 1) * n_columns
            sum0, sum1, sum2 = fill(0.0), fill(0.0), fill(0.0)
            for k in range(start, stop, DOUBLES):
                here = load(z, k)
                sum0 = multiply_add(here, swap1(here), sum0)
                sum1 = multiply_add(here, swap2(here), sum1)
                sum2 = multiply_add(here, swap4(here), sum2)
                store(squares, k, multiply_add(here, here, load(squares, k)))
            ct_visible_rates[h] += total(sum0)
            ct_visible_rates[n_rows + h] += total(sum1)
            ct_visible_rates[2 * n_rows + h] += total(sum2)
            _pair_overlaps(z, start, stop, n_far, sums)
            for i in range(n_far):
                ct_visible_rates[(i + 3) * n_rows + h] += total(load(sums, i * DOUBLES))


@jit
def _hidden_overlaps(vectors, shape, quotient, first, last, ct_hidden_rates):
    """ct[j, v] += sum_a sum_h z_a[h, v] z_a[h ^ 2^j, v] for the columns ``first`` to ``last``.

    Columns are copied out, eight beside each other: in z their rows lie so far apart that they fall on the same lines of the cache.
    """
    n_rows, n_columns = shape
    n_row_flips = ct_hidden_rates.size // n_columns - (1 if quotient else 0)
    packed, n_entries, sums = np.empty(n_rows * min(PACKED_COLUMNS, last - first)), n_rows * DOUBLES, np.empty(n_row_flips * DOUBLES)
    for a in range(vectors.shape[0]):
        z = vectors[a]
        for start in range(first, last, PACKED_COLUMNS):
            n_vectors = min(PACKED_COLUMNS, last - start) // DOUBLES
            for h in range(n_rows):
                for part in range(n_vectors):
                    store(packed, part * n_entries + h * DOUBLES, load(z, h * n_columns + start + part * DOUBLES))
            for part in range(n_vectors):
                _pair_overlaps(packed, part * n_entries, (part + 1) * n_entries, n_row_flips, sums)
                for j in range(n_row_flips):
                    k = j * n_columns + start + part * DOUBLES
                    store(ct_hidden_rates, k, add(load(ct_hidden_rates, k), load(sums, j * DOUBLES)))
        if quotient:
            _overlaps_across(z, shape, first, last, ct_hidden_rates[n_row_flips * n_columns :])


@jit
def _overlaps_across(z, shape, first, last, ct_last_rate):
    """ct[v] += sum_h z[h, v] z[H - 1 - h, V - 1 - v] for the columns ``first`` to ``last``."""
    n_rows, n_columns = shape
    for h in range(n_rows):
        for v in range(first, last, DOUBLES):
            across = reverse(load(z, (n_rows - h) * n_columns - DOUBLES - v))
            store(ct_last_rate, v, multiply_add(load(z, h * n_columns + v), across, load(ct_last_rate, v)))


@jit
def _narrow_overlaps(vectors, shape, quotient, ct_visible_rates, ct_hidden_rates, squares):
    """The plain form of both, entry by entry: for fewer than eight columns or four rows."""
    n_rows, n_columns = shape
    n_row_flips = ct_hidden_rates.size // n_columns - (1 if quotient else 0)
    for a in range(vectors.shape[0]):
        z = vectors[a]
        for h in range(n_rows):
            for v in range(n_columns):
                here = z[h * n_columns + v]
                squares[h * n_columns + v] += here * here
                for i in range(ct_visible_rates.size // n_rows):
                    ct_visible_rates[i * n_rows + h] += here * z[h * n_columns + (v ^ (1 << i))]
                for j in range(n_row_flips):
                    ct_hidden_rates[j * n_columns + v] += here * z[(h ^ (1 << j)) * n_columns + v]
                if quotient:
                    ct_hidden_rates[n_row_flips * n_columns + v] += here * z[z.size - 1 - h * n_columns - v]


@jit
def _flip_overlaps(vectors, quotient, ct_visible_rates, ct_hidden_rates, squares):
    """Add to the outputs the derivatives of sum_a z_a' S z_a by the tables of S, and sum_a z_a^2; vectors are (k, H, V)."""
    shape = squares.shape
    flat = vectors.reshape((vectors.shape[0], shape[0] * shape[1]))
    ct_visible, ct_hidden = ct_visible_rates.ravel(), ct_hidden_rates.ravel()
    if shape[0] < ROWS or shape[1] < DOUBLES:
        _narrow_overlaps(flat, shape, quotient, ct_visible, ct_hidden, squares.ravel())
    else:
        _visible_overlaps(flat, shape, 0, shape[0], ct_visible, squares.ravel())
        _hidden_overlaps(flat, shape, quotient, 0, shape[1], ct_hidden)


def flip_overlaps(vectors: Floats, quotient: bool, ct_visible_rates: Floats, ct_hidden_rates: Floats, squares: Floats) -> None:
    """:func:`_flip_overlaps` on threads: the outputs are dealt out by rows and by columns."""
    shape = (n_rows, n_columns) = squares.shape
    parts = threads.worth_using(vectors.size)
    if parts == 1 or n_rows < ROWS or n_columns < DOUBLES:
        _flip_overlaps(vectors, quotient, ct_visible_rates, ct_hidden_rates, squares)
        return
    flat = vectors.reshape(len(vectors), -1)
    ct_visible, ct_hidden, all_squares = (array.reshape(-1) for array in (ct_visible_rates, ct_hidden_rates, squares))
    rows = np.linspace(0, n_rows, parts + 1).astype(int)
    columns = DOUBLES * np.linspace(0, n_columns // DOUBLES, parts + 1).astype(int)

    def task(number: int) -> None:
        kind, part = divmod(number, parts)
        if kind == 0:
            _visible_overlaps(flat, shape, rows[part], rows[part + 1], ct_visible, all_squares)
        else:
            _hidden_overlaps(flat, shape, quotient, columns[part], columns[part + 1], ct_hidden)

    threads.for_each(task, 2 * parts, vectors.size)


@jit
def _add_products(left, right, first, last, sums):
    """sums += sum_a left_a * right_a, row by row in order, for the columns ``first`` to ``last``."""
    for start in range(first, last, CACHED_SUMS):
        ours = sums[start : min(start + CACHED_SUMS, last)]
        for a in range(left.shape[0]):
            here, there = left[a, start : start + ours.size], right[a, start : start + ours.size]
            for k in range(ours.size):
                ours[k] += here[k] * there[k]


def add_products(left: Floats, right: Floats, sums: Floats) -> None:
    """:func:`_add_products` on threads, dealt out by columns."""
    threads.for_rows(lambda columns: _add_products(left, right, columns.start, columns.stop, sums), sums.size, left.size)
