"""Eight gradient observables at once: entry a of a vector belongs to observable a of a pack, and a pack is a vector for every state.

Whatever spin is flipped, its neighbour is a whole vector away, at the state x ^ mask: no entry has to change places in a register, and no
bit of what becomes of an observable depends on the others of its pack. For chains whose packs stay in the nearest caches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_states import DOUBLES, add, fill, load, multiply, multiply_add, store, subtract, total, zeros_on_a_line

# States whose terms are added up by themselves, as solvers/many_observables.SHORTEST_BLOCK.
BLOCK = 256


class Flips(NamedTuple):
    """S by states: a flip of spin i leads from x to x ^ masks[i] with the entry rates[x * N + i]; escape is the diagonal of A = I - S."""

    masks: np.ndarray  # (N,) int64
    rates: np.ndarray  # (n_states * N,)
    escape: np.ndarray  # (n_states,)


@jit
def _count(n_observables):
    """Packs of so many observables."""
    return -(-n_observables // DOUBLES)


@jit
def _flips(generator):
    """The flips of a chain of the single-site kernel."""
    n_visible, n_hidden = generator.visible_rates.shape[0], generator.hidden_rates.shape[0]
    n_rows, n_columns = generator.escape.shape
    n_spins = n_visible + n_hidden
    masks, rates = np.empty(n_spins, np.int64), np.empty(n_rows * n_columns * n_spins)
    for i in range(n_spins):
        masks[i] = 1 << i
    if generator.quotient:
        masks[n_spins - 1] = n_rows * n_columns - 1
    for h in range(n_rows):
        for v in range(n_columns):
            here = rates[(h * n_columns + v) * n_spins : (h * n_columns + v + 1) * n_spins]
            for i in range(n_visible):
                here[i] = generator.visible_rates[i, h]
            for j in range(n_hidden):
                here[n_visible + j] = generator.hidden_rates[j, v]
    return Flips(masks, rates, generator.escape.ravel())


@jit
def _couple(masks, rates, pack, diagonal, own, out, products):
    """out[x] = sum_i rates[x, i] pack[x ^ masks[i]], or diagonal[x] own[x] less that and products = own'out; an empty ``own`` is none.

    Two states x and x + 1 at a time, whose neighbours lie beside each other too.
    """
    n_spins, n_states, inner = masks.size, rates.size // masks.size, fill(0.0)
    for x in range(0, n_states - 1, 2):
        sum0, sum1, first, second = fill(0.0), fill(0.0), x * n_spins, (x + 1) * n_spins
        for i in range(n_spins):
            k = (x ^ masks[i]) * DOUBLES
            # unsigned, or a look whether the index is negative would take a fifth of the time
            sum0 = multiply_add(fill(rates[np.uint64(first + i)]), load(pack, k), sum0)
            sum1 = multiply_add(fill(rates[np.uint64(second + i)]), load(pack, k ^ DOUBLES), sum1)
        if own.size > 0:
            here, beside = load(own, x * DOUBLES), load(own, (x + 1) * DOUBLES)
            sum0 = subtract(multiply(fill(diagonal[x]), here), sum0)
            sum1 = subtract(multiply(fill(diagonal[x + 1]), beside), sum1)
            inner = multiply_add(beside, sum1, multiply_add(here, sum0, inner))
        store(out, x * DOUBLES, sum0)
        store(out, (x + 1) * DOUBLES, sum1)
    if n_states == 1:  # a class of a pair of spins
        sum0 = fill(0.0)
        for i in range(n_spins):
            sum0 = multiply_add(fill(rates[i]), load(pack, 0), sum0)
        if own.size > 0:
            here = load(own, 0)
            sum0 = subtract(multiply(fill(diagonal[0]), here), sum0)
            inner = multiply(here, sum0)
        store(out, 0, sum0)
    if own.size > 0:
        store(products, 0, inner)


@jit
def _sources(means, root_law, n_columns, first, pack):
    """pack = sqrt(pi) (E_pi[v_i h_j] - v_i h_j) of a = (i, j) from ``first`` on, without what rounding leaves along sqrt(pi)."""
    n_hidden = means.shape[1]
    n_rows = root_law.size // n_columns
    mean, visible, hidden = np.zeros(DOUBLES), np.zeros(n_columns * DOUBLES), np.zeros(n_rows * DOUBLES)
    for lane in range(min(DOUBLES, means.size - first)):
        i, j = (first + lane) // n_hidden, (first + lane) % n_hidden
        mean[lane] = means[i, j]
        for v in range(n_columns):
            visible[v * DOUBLES + lane] = 1.0 - 2.0 * ((v >> i) & 1)
        for h in range(n_rows):
            hidden[h * DOUBLES + lane] = 1.0 - 2.0 * ((h >> j) & 1)
    centre, along = load(mean, 0), fill(0.0)
    for h in range(n_rows):
        spin, of_row = load(hidden, h * DOUBLES), fill(0.0)
        for v in range(n_columns):
            x = h * n_columns + v
            root = fill(root_law[x])
            here = multiply(root, subtract(centre, multiply(spin, load(visible, v * DOUBLES))))
            store(pack, x * DOUBLES, here)
            of_row = multiply_add(root, here, of_row)
        along = add(along, of_row)
    # rounding of the mean: of an observable that hardly varies it is a large share
    _take_out(root_law, along, pack)


@jit
def _take_out(null, along, pack):
    """pack -= along * null."""
    for x in range(null.size):
        store(pack, x * DOUBLES, subtract(load(pack, x * DOUBLES), multiply(along, fill(null[x]))))


@jit
def _along(null, pack):
    """sum_x null[x] pack[x], in the order of the states, two sums."""
    sum0, sum1 = fill(0.0), fill(0.0)
    for x in range(0, null.size - 1, 2):
        sum0 = multiply_add(fill(null[x]), load(pack, x * DOUBLES), sum0)
        sum1 = multiply_add(fill(null[x + 1]), load(pack, (x + 1) * DOUBLES), sum1)
    if null.size % 2:
        sum0 = multiply_add(fill(null[null.size - 1]), load(pack, (null.size - 1) * DOUBLES), sum0)
    return add(sum0, sum1)


@jit
def _add_up(flips, source, vector, first, product, sums):
    """sums[a] = b'z, r'z, |r|^2, |z|^2, |b|^2 and sum_x A_xx z_x^2 of the observables of a pack, with the residual r = b - A z.

    ``product`` is work space. Eight sums a block of states leave as many roundings one after the other as those of
    :func:`thermokernels.solvers.row_sums._add_up`.
    """
    n_states, parts = flips.escape.size, np.zeros(6 * DOUBLES * DOUBLES)
    _couple(flips.masks, flips.rates, vector, flips.escape, vector, product, parts)
    for start in range(0, n_states, BLOCK):
        for part in range(min(DOUBLES, n_states)):
            bz, rz, rr, zz, bb, dz = fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0)
            for x in range(start + part, min(start + BLOCK, n_states), DOUBLES):
                b, z, diagonal = load(source, x * DOUBLES), load(vector, x * DOUBLES), fill(flips.escape[x])
                r = subtract(b, load(product, x * DOUBLES))
                bz, rz = multiply_add(b, z, bz), multiply_add(r, z, rz)
                rr, bb = multiply_add(r, r, rr), multiply_add(b, b, bb)
                square = multiply(z, z)
                zz, dz = add(zz, square), multiply_add(diagonal, square, dz)
            store(parts, part * DOUBLES, bz)
            store(parts, (DOUBLES + part) * DOUBLES, rz)
            store(parts, (2 * DOUBLES + part) * DOUBLES, rr)
            store(parts, (3 * DOUBLES + part) * DOUBLES, zz)
            store(parts, (4 * DOUBLES + part) * DOUBLES, bb)
            store(parts, (5 * DOUBLES + part) * DOUBLES, dz)
        for kind in range(6):
            sums_of_kind = parts[kind * DOUBLES * DOUBLES : (kind + 1) * DOUBLES * DOUBLES]
            half = DOUBLES // 2
            while half:
                for k in range(0, half * DOUBLES, DOUBLES):
                    store(sums_of_kind, k, add(load(sums_of_kind, k), load(sums_of_kind, k + half * DOUBLES)))
                half //= 2
            for lane in range(min(DOUBLES, sums.shape[0] - first)):
                sums[first + lane, kind] = sums_of_kind[lane] + (sums[first + lane, kind] if start else 0.0)


@jit
def _overlaps(packs, shape, quotient, by_visible, by_hidden):
    """Overwrite by_visible[i, h] with sum_a sum_v z_a(x) z_a(x^i), x = (h, v), and by_hidden[j, v] with sum_a sum_h z_a(x) z_a(x^j)."""
    n_rows, n_columns = shape
    for i in range(by_visible.shape[0]):
        far = DOUBLES << i
        for h in range(n_rows):
            overlap = fill(0.0)
            for p in range(packs.shape[0]):
                z = packs[p]
                for start in range(h * n_columns * DOUBLES, (h + 1) * n_columns * DOUBLES, 2 * far):
                    for k in range(start, start + far, DOUBLES):
                        overlap = multiply_add(load(z, k), load(z, k + far), overlap)
            by_visible[i, h] = 2.0 * total(overlap)  # a pair of states is met once
    length, n_row_flips = n_columns * DOUBLES, by_hidden.shape[0] - (1 if quotient else 0)
    overlaps = np.empty(length)
    for j in range(by_hidden.shape[0]):
        overlaps[:] = 0.0
        for p in range(packs.shape[0]):
            z = packs[p]
            for h in range(n_rows):
                if j == n_row_flips:
                    for k in range(0, length, DOUBLES):
                        across = load(z, z.size - DOUBLES - h * length - k)
                        store(overlaps, k, multiply_add(load(z, h * length + k), across, load(overlaps, k)))
                elif not (h >> j) & 1:
                    for k in range(0, length, DOUBLES):
                        across = load(z, (h | (1 << j)) * length + k)
                        store(overlaps, k, multiply_add(load(z, h * length + k), across, load(overlaps, k)))
        for v in range(n_columns):
            by_hidden[j, v] = (1.0 if j == n_row_flips else 2.0) * total(load(overlaps, v * DOUBLES))


@jit
def _squares_and_products(packs, sources, squares, products):
    """Overwrite squares[x] with sum_a z_a(x)^2 and products[x] with sum_a z_a(x) b_a(x)."""
    for x in range(squares.size):
        square, product = fill(0.0), fill(0.0)
        for p in range(packs.shape[0]):
            z = load(packs[p], x * DOUBLES)
            square, product = multiply_add(z, z, square), multiply_add(z, load(sources[p], x * DOUBLES), product)
        squares[x], products[x] = total(square), total(product)


@jit
def _unpack(pack, first, rows):
    """The observables of a pack as the rows from ``first`` on."""
    for lane in range(min(DOUBLES, rows.shape[0] - first)):
        row = rows[first + lane]
        for x in range(row.size):
            row[x] = pack[x * DOUBLES + lane]


@jit
def _pack(rows, first, pack):
    """The rows from ``first`` on as the entries of a pack, and zeros where there is none."""
    pack[:] = 0.0
    for lane in range(min(DOUBLES, rows.shape[0] - first)):
        row = rows[first + lane]
        for x in range(row.size):
            pack[x * DOUBLES + lane] = row[x]


@jit
def _all_rows(packs, n_observables):
    rows = np.empty((n_observables, packs.shape[1] // DOUBLES))
    for p in range(packs.shape[0]):
        _unpack(packs[p], p * DOUBLES, rows)
    return rows


def as_rows(packs: Floats, n_observables: int) -> Floats:
    """The observables of packs (n_packs, 8 n_states), one a row: (n_observables, n_states)."""
    rows: Floats = _all_rows(packs, n_observables)
    return rows


@jit
def _empty(n_observables, n_states):
    """Packs that have not been filled yet, each on a line of its own."""
    size = n_states * DOUBLES
    return zeros_on_a_line(_count(n_observables) * size).reshape((_count(n_observables), size))
