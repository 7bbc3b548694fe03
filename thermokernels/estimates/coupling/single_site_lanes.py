"""A spin at a time of many pairs of chains, side by side: the single-site kernel under the maximal-agreement coupling of sequences.

Both chains of a pair update the same sequence of sites. A sequence of updates is coupled as that of a layer
(:mod:`~thermokernels.estimates.coupling.layer_coupling`), but the laws of an update depend on the values before it, so that after a split
each chain carries a shadow, the other chain had it taken the same values: r_X is a ratio along X's own path. The tilt of a chain ends, on
its own path, with the update at which the information passes its limit or that is the N-th; or when its ratio is below rounding. Where both
have ended, or both chains agree at such an end, the next sequence begins with whatever states are there. A pair has met when x = y and no
ratio tilts it any more.

A lane is a pair. Its random numbers, the laws and what follows from them are vectors over the lanes; the sites differ from lane to lane.
A field is added up when it is needed, sixteen couplings at a time: spins are bits, which say what is added. So a flip costs a bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.compiled import simd_states
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_chains import LANES, aligned_rows, choose, fill, less, load, store
from thermokernels.compiled.simd_states import FLOATS, add_where, aligned_singles, total
from thermokernels.estimates.coupling.generators import _start_lane
from thermokernels.estimates.coupling.layer_coupling import ALL, _couple_unit, _rare_and_common, _uniform_of
from thermokernels.model.model import Model
from thermokernels.sampling.scans import _next_words, _store_states

# The information of a sequence, as a share of kappa, which is that of a layer: shadows cost as much as chains, short sequences need few.
# Sweeps until a pair met: 33 with 1/4, 30 with 1/2, 35 with 1 (64 x 64, beta 0.5); 181, 201 and 183 (digits after 30 epochs).
SHARE = 0.375
# A ratio below this changes no probability in float32.
NEGLIGIBLE = 1e-9
# Bits of a lane: both chains, their shadows, both starts.
X, Y, X_SHADOW, Y_SHADOW, X_START, Y_START = range(6)
# Rows of numbers: ratios and information of both chains, spins apart, updates of this sequence.
X_RATIO, Y_RATIO, X_INFORMATION, Y_INFORMATION, APART, UPDATES = range(6)
# What a pair needs beside the update: shadows that begin, y turned to the side of x, the end.
SPLITS, TURNS, MEETS = np.uint32(1), np.uint32(2), np.uint32(4)
# Bits of what was found at a site.
X_UP, Y_UP, X_START_UP, Y_START_UP, IS_HIDDEN = (np.uint32(1 << k) for k in range(5))


# The job of an idle lane.
NONE = -1


class Rows(NamedTuple):
    """couplings : 2 W by rows, then by columns, each row filled up to sixteen, float32; base : b - W 1 and c - W' 1, (N,) float32.

    A field is its base and 2 W of the spins that are up.
    """

    couplings: np.ndarray
    base: np.ndarray
    n_visible: int
    n_hidden: int


class Lanes(NamedTuple):
    """LANES pairs, each chain a row of words of sixteen spins, layer by layer.

    bits : (LANES, 6, words) uint16; fields : (4, LANES) float32, of the site in the chains and shadows; numbers : (6, LANES) float32
    masks : (2, LANES) uint32, pairs that agree and pairs whose shadows matter; generators : (4, LANES), drawn : (2, LANES) uint32
    found : (1, LANES) uint32, what is at the site; new : (3, LANES) uint32, whether x and y are up there now, and what has to be done
    sites : (LANES,) int64, places in a row of bits
    """

    bits: np.ndarray
    fields: np.ndarray
    numbers: np.ndarray
    masks: np.ndarray
    generators: np.ndarray
    drawn: np.ndarray
    found: np.ndarray
    new: np.ndarray
    sites: np.ndarray


def coupling_rows(model: Model) -> Rows:
    """The couplings as the lanes read them."""
    n_visible, n_hidden = model.W.shape
    by_rows, by_columns = aligned_shape(n_visible, n_hidden), aligned_shape(n_hidden, n_visible)
    couplings = aligned_singles(by_rows[0] * by_rows[1] + by_columns[0] * by_columns[1])
    couplings[: by_rows[0] * by_rows[1]].reshape(by_rows)[:, :n_hidden] = 2 * model.W
    couplings[by_rows[0] * by_rows[1] :].reshape(by_columns)[:, :n_visible] = 2 * model.W.T
    base = np.concatenate([model.b - model.W.sum(axis=1), model.c - model.W.sum(axis=0)]).astype(np.float32)
    return Rows(couplings, base, n_visible, n_hidden)


def aligned_shape(n_rows: int, n_columns: int) -> tuple[int, int]:
    """Of a table whose rows are whole vectors."""
    return n_rows, FLOATS * -(-n_columns // FLOATS)


def new_lanes(n_visible: int, n_hidden: int) -> Lanes:
    """Lanes for pairs of such a model."""
    n_words = -(-n_visible // FLOATS) - (-n_hidden // FLOATS)
    fields, numbers = aligned_rows(np.float32, 4), aligned_rows(np.float32, 6)
    masks, generators, drawn, found, new = (aligned_rows(np.uint32, n) for n in (2, 4, 2, 1, 3))
    bits = np.zeros((LANES, 6, n_words), np.uint16)
    return Lanes(bits, fields, numbers, masks, generators, drawn, found, new, np.zeros(LANES, np.int64))


@jit
def _put_lane(rows, lanes, lane, stream, kappa, x, y):
    """Put a pair of states (N,) int8 into a lane, at the begin of a sequence; both are kept as starts, too."""
    bits = lanes.bits[lane]
    bits[:] = 0
    n_apart, first_hidden = 0, FLOATS * -(-rows.n_visible // FLOATS)
    for site in range(x.size):
        n_apart += x[site] != y[site]
        place = site if site < rows.n_visible else first_hidden + site - rows.n_visible
        for chain, spin in ((X, x[site]), (Y, y[site]), (X_START, x[site]), (Y_START, y[site])):
            bits[chain, place // FLOATS] |= np.uint16(int(spin > 0) << (place % FLOATS))
    lanes.fields[:, lane] = 0.0
    lanes.numbers[:, lane] = 0.0
    lanes.numbers[X_RATIO, lane] = 1.0 if kappa > 0.0 else 0.0
    lanes.numbers[APART, lane] = n_apart
    lanes.masks[0, lane] = ALL if kappa > 0.0 else 0
    lanes.masks[1, lane] = 0
    _start_lane(stream, lanes.generators, lane)


@jit
def _draw(lanes):
    """Two random words of every lane: for the site and for its value."""
    s0, s1, s2, s3 = load(lanes.generators, 0), load(lanes.generators, 1), load(lanes.generators, 2), load(lanes.generators, 3)
    word, s0, s1, s2, s3 = _next_words(s0, s1, s2, s3)
    store(lanes.drawn, 0, word)
    word, s0, s1, s2, s3 = _next_words(s0, s1, s2, s3)
    store(lanes.drawn, 1, word)
    _store_states((s0, s1, s2, s3), lanes.generators)


@jit
def _look(rows, lanes, jobs):
    """Find the sites of the busy lanes, the spins that are there, and their fields in both chains and in the shadows that matter."""
    n_visible, bits, fields = rows.n_visible, lanes.bits, lanes.fields
    visible_words, hidden_words = (n_visible + FLOATS - 1) // FLOATS, (rows.n_hidden + FLOATS - 1) // FLOATS
    n_spins, zero = np.uint64(n_visible + rows.n_hidden), simd_states.fill(np.float32(0.0))
    for lane in range(LANES):
        if jobs[lane] == NONE:
            continue
        site = np.int64((np.uint64(lanes.drawn[0, lane]) * n_spins) >> np.uint64(32))
        if site < n_visible:
            own, others, n_words, entry, found = site, visible_words, hidden_words, site * hidden_words * FLOATS, np.uint32(0)
        else:
            own, others, n_words, found = FLOATS * visible_words + site - n_visible, 0, visible_words, IS_HIDDEN
            entry = (n_visible * hidden_words + (site - n_visible) * visible_words) * FLOATS
        lanes.sites[lane] = own
        word, place = own // FLOATS, np.uint32(own % FLOATS)
        for k, chain in enumerate((X, Y, X_START, Y_START)):
            found |= ((np.uint32(bits[lane, chain, word]) >> place) & np.uint32(1)) << np.uint32(k)
        lanes.found[0, lane] = found

        base, x_sum, y_sum = rows.base[site], zero, zero
        if lanes.masks[1, lane]:
            x_shadow, y_shadow = zero, zero
            for k in range(n_words):
                row = simd_states.load(rows.couplings, entry + FLOATS * k)
                x_sum = add_where(bits[lane, X, others + k], row, x_sum)
                y_sum = add_where(bits[lane, Y, others + k], row, y_sum)
                x_shadow = add_where(bits[lane, X_SHADOW, others + k], row, x_shadow)
                y_shadow = add_where(bits[lane, Y_SHADOW, others + k], row, y_shadow)
            fields[X_SHADOW, lane] = base + np.float32(total(x_shadow))
            fields[Y_SHADOW, lane] = base + np.float32(total(y_shadow))
        else:
            for k in range(n_words):
                row = simd_states.load(rows.couplings, entry + FLOATS * k)
                x_sum = add_where(bits[lane, X, others + k], row, x_sum)
                y_sum = add_where(bits[lane, Y, others + k], row, y_sum)
        fields[X, lane] = base + np.float32(total(x_sum))
        fields[Y, lane] = base + np.float32(total(y_sum))


@jit
def _law(field, x_down):
    """The probabilities of the value that is rare where X's field is up, the other one where it is down, and of its opposite."""
    rare, common = _rare_and_common(field)
    opposite = less(field, fill(0.0)) ^ x_down
    return choose(opposite, common, rare), choose(opposite, rare, common)


@jit
def _information(p, q):
    """What one update tells between two laws."""
    difference = q[0] - p[0]
    return difference * difference / ((p[0] + q[0]) * (p[1] + q[1])) * 4.0


@jit
def _couple(lanes, kappa, quotient, n_spins):
    """New values of the sites of all lanes, and what follows of it for their sequences."""
    numbers = lanes.numbers
    agree, zero, one = load(lanes.masks, 0), fill(0.0), fill(1.0)
    x_field, y_field = load(lanes.fields, X), load(lanes.fields, Y)
    x_down = less(x_field, zero)
    p, q = _law(x_field, x_down), _law(y_field, x_down)
    # what the other chain's law would be along a chain's own values
    beside_p = _law(choose(agree, y_field, load(lanes.fields, X_SHADOW)), x_down)
    beside_q = _law(choose(agree, x_field, load(lanes.fields, Y_SHADOW)), x_down)
    u, x_ratio, y_ratio = _uniform_of(load(lanes.drawn, 1)), load(numbers, X_RATIO), load(numbers, Y_RATIO)
    x_rare, y_rare, still, x_ratio, y_ratio = _couple_unit(u, p, q, beside_p, beside_q, agree, x_ratio, y_ratio)
    x_up, y_up = x_rare ^ x_down ^ ALL, y_rare ^ x_down ^ ALL
    store(lanes.new, 0, x_up)
    store(lanes.new, 1, y_up)

    x_information = load(numbers, X_INFORMATION) + _information(p, beside_p)
    y_information = load(numbers, Y_INFORMATION) + _information(q, beside_q)
    updates, limit = load(numbers, UPDATES) + 1.0, fill(kappa * SHARE)
    last, split = less(fill(n_spins - 0.5), updates), still ^ ALL
    x_over, y_over = less(limit, x_information) | last, less(limit, y_information) | last
    x_ratio = choose(split & (x_over | less(x_ratio, fill(NEGLIGIBLE))), zero, x_ratio)
    y_ratio = choose(split & (y_over | less(y_ratio, fill(NEGLIGIBLE))), zero, y_ratio)
    tilted = split & less(zero, x_ratio + y_ratio)
    ends = (still & x_over) | (split ^ tilted) if kappa > 0.0 else last

    found = load(lanes.found, 0)
    apart = load(numbers, APART) + choose(x_up ^ y_up, one, zero) - choose((found ^ (found >> 1)) & 1, one, zero)
    meets = less(apart, fill(0.5)) & (tilted ^ ALL)
    turns = less(fill(n_spins), apart * 2.0) & ends if quotient else meets ^ meets
    store(lanes.new, 2, (agree ^ still) & 1 | turns & 2 | meets & 4)
    if kappa > 0.0:
        still = still | ends
        x_ratio = choose(ends, one, x_ratio)
    store(lanes.masks, 0, still)
    store(lanes.masks, 1, tilted)
    for row, value in ((X_RATIO, x_ratio), (Y_RATIO, choose(ends, zero, y_ratio)), (APART, apart)):
        store(numbers, row, value)
    for row, value in ((X_INFORMATION, x_information), (Y_INFORMATION, y_information), (UPDATES, updates)):
        store(numbers, row, choose(ends, zero, value))


@jit
def _set_bits(lanes, jobs):
    """Give the sites of the busy lanes their new values in both chains, and in their shadows, which begin where the chains split."""
    bits, new, one = lanes.bits, lanes.new, np.uint32(1)
    for lane in range(LANES):
        if jobs[lane] == NONE:
            continue
        if new[2, lane] & SPLITS:
            for word in range(bits.shape[2]):
                bits[lane, X_SHADOW, word], bits[lane, Y_SHADOW, word] = bits[lane, Y, word], bits[lane, X, word]
        word, place = lanes.sites[lane] // FLOATS, np.uint32(lanes.sites[lane] % FLOATS)
        keep, x, y = ~(one << place), (new[0, lane] & one) << place, (new[1, lane] & one) << place
        bits[lane, X, word] = (bits[lane, X, word] & keep) | x
        bits[lane, Y, word] = (bits[lane, Y, word] & keep) | y
        bits[lane, X_SHADOW, word] = (bits[lane, X_SHADOW, word] & keep) | x
        bits[lane, Y_SHADOW, word] = (bits[lane, Y_SHADOW, word] & keep) | y


@jit
def _turn(lanes, lane, n_spins):
    """y to -y; the number of spins that are apart."""
    bits = lanes.bits[lane]
    for word in range(bits.shape[1]):
        bits[Y, word] = ~bits[Y, word]
    lanes.numbers[APART, lane] = n_spins - lanes.numbers[APART, lane]
    return lanes.numbers[APART, lane]
