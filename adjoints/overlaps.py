"""What the gradient of sum_a z_a' S z_a is made of: overlaps z_a(x) z_a(x^i) of every flip, and the squares, summed over observables.

The products z_a(x) b_a(x) that the law's derivative is weighted with are summed in the same pass.
"""

from __future__ import annotations

import numpy as np

from thermokernels.common import threads
from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import inlined, jit
from thermokernels.compiled.register_tiles import ROWS
from thermokernels.compiled.simd_states import (
    DOUBLES,
    add,
    fill,
    load,
    multiply,
    multiply_add,
    reverse,
    store,
    swap1,
    swap2,
    swap4,
    zeros_on_a_line,
)

# Observables whose rows are gone through side by side: sums over them are loaded and stored once for all.
TOGETHER = 4

# Columns of a vector that are copied out together: 512 bytes of every row. A vector of so many states is near enough as it is.
PACKED_COLUMNS, NEAR_STATES = 64, 2**15

# Every sum below takes the observables one by one in their order, and each along its states, whichever rows or columns a task takes: the
# same bits for every number of threads, and however the observables come in.


@inlined
def _near(x, sum0, sum1, sum2):
    """The three flips within a vector."""
    return multiply_add(x, swap1(x), sum0), multiply_add(x, swap2(x), sum1), multiply_add(x, swap4(x), sum2)


@jit
def _row_overlaps(vectors, first, n_observables, size, n_vectors, n_flips, sums, at):
    """sums[i] += sum_v z_a[v] z_a[v ^ 2^i], i < n_flips, vectors of eight from ``at`` on: of one row, the ``n_vectors`` vectors from
    ``first`` on, and that of the observables after it, ``size`` further on each.

    A pair of vectors is met once and counts twice. Eight vectors lead to each other by three flips; further flips are taken of four, two at
    a time. No loop has a step that is known at run time only: it would begin with a division.
    """
    for _ in range(n_observables):
        a0, a1, a2, b0, b1, b2 = fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0)
        n_done = 3
        if n_vectors % 8 > 0:
            for k in range(first, first + n_vectors * DOUBLES, DOUBLES):
                a0, a1, a2 = _near(load(vectors, k), a0, a1, a2)
        else:
            n_done = 6
            c0, c1, c2, d0, d1, d2 = fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0)
            for k in range(first, first + n_vectors * DOUBLES, 8 * DOUBLES):
                half = k + 4 * DOUBLES
                x0, x1, x2, x3 = (
                    load(vectors, k),
                    load(vectors, k + DOUBLES),
                    load(vectors, k + 2 * DOUBLES),
                    load(vectors, k + 3 * DOUBLES),
                )
                x4, x5, x6, x7 = (
                    load(vectors, half),
                    load(vectors, half + DOUBLES),
                    load(vectors, half + 2 * DOUBLES),
                    load(vectors, half + 3 * DOUBLES),
                )
                a0, a1, a2 = _near(x0, a0, a1, a2)
                b0, b1, b2 = _near(x4, b0, b1, b2)
                a0, a1, a2 = _near(x1, a0, a1, a2)
                b0, b1, b2 = _near(x5, b0, b1, b2)
                a0, a1, a2 = _near(x2, a0, a1, a2)
                b0, b1, b2 = _near(x6, b0, b1, b2)
                a0, a1, a2 = _near(x3, a0, a1, a2)
                b0, b1, b2 = _near(x7, b0, b1, b2)
                c0, d0 = multiply_add(x2, x3, multiply_add(x0, x1, c0)), multiply_add(x6, x7, multiply_add(x4, x5, d0))
                c1, d1 = multiply_add(x1, x3, multiply_add(x0, x2, c1)), multiply_add(x5, x7, multiply_add(x4, x6, d1))
                c2, d2 = multiply_add(x1, x5, multiply_add(x0, x4, c2)), multiply_add(x3, x7, multiply_add(x2, x6, d2))
            _add_twice(add(c0, d0), sums, at + 3 * DOUBLES)
            _add_twice(add(c1, d1), sums, at + 4 * DOUBLES)
            _add_twice(add(c2, d2), sums, at + 5 * DOUBLES)
        _add(add(a0, b0), sums, at)
        _add(add(a1, b1), sums, at + DOUBLES)
        _add(add(a2, b2), sums, at + 2 * DOUBLES)
        for i in range(n_done, n_flips - 1, 2):
            k, near = first, 1 << i
            sum0, sum1, sum2, sum3 = fill(0.0), fill(0.0), fill(0.0), fill(0.0)
            for _ in range(n_vectors >> (i - 1)):
                for _ in range(near // DOUBLES):
                    x0, x1, x2, x3 = load(vectors, k), load(vectors, k + near), load(vectors, k + 2 * near), load(vectors, k + 3 * near)
                    sum0, sum1 = multiply_add(x0, x1, sum0), multiply_add(x2, x3, sum1)
                    sum2, sum3 = multiply_add(x0, x2, sum2), multiply_add(x1, x3, sum3)
                    k += DOUBLES
                k += 3 * near
            _add_twice(add(sum0, sum1), sums, at + i * DOUBLES)
            _add_twice(add(sum2, sum3), sums, at + (i + 1) * DOUBLES)
        if (n_flips - n_done) % 2:
            far, last = n_vectors // 2 * DOUBLES, fill(0.0)
            for k in range(first, first + far, DOUBLES):
                last = multiply_add(load(vectors, k), load(vectors, k + far), last)
            _add_twice(last, sums, at + (n_flips - 1) * DOUBLES)
        first += size


@inlined
def _add(vector, sums, at):
    store(sums, at, add(load(sums, at), vector))


@inlined
def _add_twice(vector, sums, at):
    store(sums, at, add(load(sums, at), add(vector, vector)))


@jit
def _pairs_of_rows(x, first, stride, n_rows, width, n_flips, ct, at, n_columns):
    """ct[j, v] += sum_h x[h, v] x[h ^ 2^j, v], j < n_flips, for the columns v from ``at`` on, ``width`` of them; a pair counts twice.

    Row h of x starts at first + h stride. Three flips at a time, of eight rows that lead to each other, and two of four.
    """
    j = 0
    while j < n_flips:
        near, now = stride << j, min(n_flips - j, 3 if n_flips - j != 4 else 2)
        to0, to1, to2 = at + j * n_columns, at + (j + 1) * n_columns, at + (j + 2) * n_columns
        for h in range(n_rows >> now):
            start = first + ((h >> j) << (j + now) | (h & ((1 << j) - 1))) * stride  # ``now`` bits from j on are zero
            if now == 3:
                half = start + 4 * near
                for v in range(0, width, DOUBLES):
                    k, c = start + v, half + v
                    x0, x1, x2, x3 = load(x, k), load(x, k + near), load(x, k + 2 * near), load(x, k + 3 * near)
                    x4, x5, x6, x7 = load(x, c), load(x, c + near), load(x, c + 2 * near), load(x, c + 3 * near)
                    sum0 = multiply_add(x6, x7, multiply_add(x4, x5, multiply_add(x2, x3, multiply(x0, x1))))
                    sum1 = multiply_add(x5, x7, multiply_add(x4, x6, multiply_add(x1, x3, multiply(x0, x2))))
                    sum2 = multiply_add(x3, x7, multiply_add(x2, x6, multiply_add(x1, x5, multiply(x0, x4))))
                    _add_twice(sum0, ct, to0 + v)
                    _add_twice(sum1, ct, to1 + v)
                    _add_twice(sum2, ct, to2 + v)
            elif now == 2:
                for v in range(0, width, DOUBLES):
                    k = start + v
                    x0, x1, x2, x3 = load(x, k), load(x, k + near), load(x, k + 2 * near), load(x, k + 3 * near)
                    _add_twice(multiply_add(x2, x3, multiply(x0, x1)), ct, to0 + v)
                    _add_twice(multiply_add(x1, x3, multiply(x0, x2)), ct, to1 + v)
            else:
                for v in range(0, width, DOUBLES):
                    _add_twice(multiply(load(x, start + v), load(x, start + near + v)), ct, to0 + v)
        j += now


@jit
def _visible_overlaps(vectors, sources, first, last, shape, rows, sums, squares, products):
    """For the rows from rows[0] to rows[1]: sums[h, i] += sum_v z_a[h, v] z_a[h, v ^ 2^i], vectors of eight that are yet to be totalled,
    squares += z_a^2 and products += z_a b_a of the observables a from ``first`` to ``last``.
    """
    n_rows, n_columns = shape
    size, n_flips = n_rows * n_columns, sums.size // (n_rows * DOUBLES)
    for h in range(rows[0], rows[1]):
        start = first * size + h * n_columns
        for k in range(h * n_columns, (h + 1) * n_columns, DOUBLES):
            x, square, product = first * size + k, load(squares, k), load(products, k)
            for _ in range(last - first):
                here = load(vectors, x)
                square, product = multiply_add(here, here, square), multiply_add(here, load(sources, x), product)
                x += size
            store(squares, k, square)
            store(products, k, product)
        _row_overlaps(vectors, start, last - first, size, n_columns // DOUBLES, n_flips, sums, h * n_flips * DOUBLES)


@jit
def _hidden_overlaps(z, shape, quotient, columns, packed, ct_hidden_rates):
    """ct[j, v] += sum_h z[h, v] z[h ^ 2^j, v] for the columns from columns[0] to columns[1].

    Columns of a long vector are copied out, eight beside each other: in z their rows lie so far apart that they fall on the same lines of
    the cache. ``packed`` is room for them.
    """
    n_rows, n_columns = shape
    n_flips = ct_hidden_rates.size // n_columns - (1 if quotient else 0)
    if z.size <= NEAR_STATES:
        _pairs_of_rows(z, columns[0], n_columns, n_rows, columns[1] - columns[0], n_flips, ct_hidden_rates, columns[0], n_columns)
    else:
        for start in range(columns[0], columns[1], PACKED_COLUMNS):
            width = min(PACKED_COLUMNS, columns[1] - start)
            for h in range(n_rows):
                for v in range(0, width, DOUBLES):
                    store(packed, h * PACKED_COLUMNS + v, load(z, h * n_columns + start + v))
            _pairs_of_rows(packed, 0, PACKED_COLUMNS, n_rows, width, n_flips, ct_hidden_rates, start, n_columns)
    if quotient:
        _overlaps_across(z, shape, columns, ct_hidden_rates[n_flips * n_columns :])


@jit
def _overlaps_across(z, shape, columns, ct_last_rate):
    """ct[v] += sum_h z[h, v] z[H - 1 - h, V - 1 - v] for the columns from columns[0] to columns[1]."""
    n_rows, n_columns = shape
    for h in range(n_rows):
        for v in range(columns[0], columns[1], DOUBLES):
            across = reverse(load(z, (n_rows - h) * n_columns - DOUBLES - v))
            store(ct_last_rate, v, multiply_add(load(z, h * n_columns + v), across, load(ct_last_rate, v)))


@jit
def _narrow_overlaps(vectors, sources, shape, quotient, visible_parts, ct_hidden_rates, squares, products):
    """The plain form of both, entry by entry: for fewer than eight columns or four rows."""
    n_rows, n_columns = shape
    n_row_flips, n_flips = ct_hidden_rates.size // n_columns - (1 if quotient else 0), visible_parts.size // (n_rows * DOUBLES)
    for first in range(0, vectors.size, squares.size):
        z, b = vectors[first : first + squares.size], sources[first : first + squares.size]
        for h in range(n_rows):
            for v in range(n_columns):
                here = z[h * n_columns + v]
                squares[h * n_columns + v] += here * here
                products[h * n_columns + v] += here * b[h * n_columns + v]
                for i in range(n_flips):
                    visible_parts[(h * n_flips + i) * DOUBLES] += here * z[h * n_columns + (v ^ (1 << i))]
                for j in range(n_row_flips):
                    ct_hidden_rates[j * n_columns + v] += here * z[(h ^ (1 << j)) * n_columns + v]
                if quotient:
                    ct_hidden_rates[n_row_flips * n_columns + v] += here * z[z.size - 1 - h * n_columns - v]


@jit
def _overlaps_of(vectors, sources, shape, quotient, rows, columns, visible_parts, ct_hidden_rates, squares, products):
    """All outputs, those of rows and of columns for some of them only."""
    n_rows, n_columns = shape
    size = n_rows * n_columns
    n_vectors, packed = vectors.size // size, zeros_on_a_line(0 if size <= NEAR_STATES else n_rows * PACKED_COLUMNS)
    for first in range(0, n_vectors, TOGETHER):
        last = min(first + TOGETHER, n_vectors)
        _visible_overlaps(vectors, sources, first, last, shape, rows, visible_parts, squares, products)
        for a in range(first, last):
            _hidden_overlaps(vectors[a * size : (a + 1) * size], shape, quotient, columns, packed, ct_hidden_rates)


@jit
def _flip_overlaps(vectors, sources, quotient, visible_parts, ct_hidden_rates, squares, products):
    """Add to the outputs the derivatives of sum_a z_a' S z_a by the tables of S, sum_a z_a^2 and sum_a z_a b_a.

    Vectors z and sources b are (k, H V), squares (H, V) and products (H V,); the derivatives by the tables of visible spins are
    ``visible_parts`` (H, n_v, 8), to be summed over the last axis.
    """
    shape, flat, flat_sources = squares.shape, vectors.ravel(), sources.ravel()
    visible, hidden, of_states = visible_parts.ravel(), ct_hidden_rates.ravel(), squares.ravel()
    if shape[0] < ROWS or shape[1] < DOUBLES:
        _narrow_overlaps(flat, flat_sources, shape, quotient, visible, hidden, of_states, products)
    else:
        rows, columns = (0, shape[0]), (0, shape[1])
        _overlaps_of(flat, flat_sources, shape, quotient, rows, columns, visible, hidden, of_states, products)


def flip_overlaps(
    vectors: Floats, sources: Floats, quotient: bool, visible_parts: Floats, ct_hidden_rates: Floats, squares: Floats, products: Floats
) -> None:
    """:func:`_flip_overlaps` on threads: the outputs are dealt out by rows and by columns."""
    shape = (n_rows, n_columns) = squares.shape
    parts = threads.worth_using(vectors.size)
    if parts == 1 or n_rows < ROWS or n_columns < DOUBLES:
        _flip_overlaps(vectors, sources, quotient, visible_parts, ct_hidden_rates, squares, products)
        return
    inputs, tables = (vectors.reshape(-1), sources.reshape(-1)), (visible_parts.reshape(-1), ct_hidden_rates.reshape(-1))
    rows = np.linspace(0, n_rows, parts + 1).astype(int)
    columns = DOUBLES * np.linspace(0, n_columns // DOUBLES, parts + 1).astype(int)

    def task(part: int) -> None:
        ours = (rows[part], rows[part + 1]), (columns[part], columns[part + 1])
        _overlaps_of(*inputs, shape, quotient, *ours, *tables, squares.reshape(-1), products)

    threads.for_each(task, parts, vectors.size)
