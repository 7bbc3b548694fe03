"""Compiled Gibbs scans of many chains side by side: the random numbers, the block scans and the single-site scan.

A spin with local field F is resampled as x = sign(F + L), where L = (1/2) log((1 - u) / u) is logistic noise:
Pr(x = +1) = Pr(L > -F) = sigmoid(2 F). L does not depend on F, so that no exponential stands between a field and its spin.

Every chain owns a xoshiro128++ generator (Blackman and Vigna 2021, ACM TOMS 47, 36): four words, given and kept by the caller. A chain
draws only when it moves, so its path does not depend on the chains beside it. Rows of arrays hold one number for each chain of a bundle.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_chains import LANES, fill, floats_of, load, multiply_add, store, to_floats, words_of
from thermokernels.compiled.simd_states import add_multiple

ROWS = 4
COINS = 32
# Which blocks a block scan resamples, and in which order.
ALTERNATING, RANDOM_BLOCKS, RANDOM_ORDER = 0, 1, 2
# Sweeps in random order that share a word of coins: as many as sweeps of two steps at random do.
ORDERS = COINS // 2
ATTEMPTS = 128
SIGN = 0x80000000
ONE = 0x3F800000
EVERY = 0xFFFFFFFF
HALF_LOG_2 = 0.34657359027997264
# atanh(s) / s in powers of s**2 for |s| <= 1/3, interpolated at Chebyshev points; the error of atanh is 6e-8, the rounding of float32.
ATANH = (0.9999998401331135, 0.3333792433467623, 0.19796592837731739, 0.17101809682879257)


class Model(NamedTuple):
    """W, padded with rows of zeros, for the block scans, float32: (n_v, n_h) and (n_h, n_v), as many rows as fields, a multiple of ROWS."""

    to_visible: np.ndarray
    to_hidden: np.ndarray
    b: np.ndarray
    c: np.ndarray


class FlipModel(NamedTuple):
    """W, padded with columns of zeros to a multiple of eight, for the single-site scan, float64.

    flips: one vector, the rows of W one after the other and then its columns: what the flip of each spin changes; fields: b, c.
    """

    flips: np.ndarray
    b: np.ndarray
    c: np.ndarray


class Bundle(NamedTuple):
    """LANES chains: rows of float32 spins, one row a spin; the generators' words (4, LANES); a mask of the chains that move (1, LANES)."""

    visible: np.ndarray
    hidden: np.ndarray
    generators: np.ndarray
    moving: np.ndarray


@jit
def _next_words(s0, s1, s2, s3):
    """One word of xoshiro128++ for each chain, and the generators' next words."""
    total = s0 + s3
    word = ((total << 7) | (total >> 25)) + s0
    shifted = s1 << 9
    s2 = s2 ^ s0
    s3 = s3 ^ s1
    s1 = s1 ^ s2
    s0 = s0 ^ s3
    s2 = s2 ^ shifted
    s3 = (s3 << 11) | (s3 >> 21)
    return word, s0, s1, s2, s3


@jit
def _store_states(states, generators):
    for k, state in enumerate(states):
        store(generators, k, state)


@jit
def _logistic(word):
    """(1/2) log((1 - u) / u): the sign from bit 31, the size from v = (other bits + 1/2) / 2**32 in (0, 1/2], resolved to 2**-32."""
    v = multiply_add(to_floats(word & 0x7FFFFFFF), fill(2.0**-32), fill(2.0**-33))
    # v = m 2**e with m in [1/2, 1), as is 1 - v: log((1 - v) / v) = 2 atanh(s) - e log 2 with s = (1 - v - m) / (1 - v + m).
    bits = words_of(v)
    m = floats_of((bits & 0x007FFFFF) | 0x3F000000)
    minus_e = fill(126.0) - to_floats(bits >> 23)
    rest = fill(1.0) - v
    s = (rest - m) / (rest + m)
    square = s * s
    series = multiply_add(fill(ATANH[3]), square, fill(ATANH[2]))
    series = multiply_add(series, square, fill(ATANH[1]))
    series = multiply_add(series, square, fill(ATANH[0]))
    size = multiply_add(s, series, minus_e * HALF_LOG_2)
    return floats_of(words_of(size) ^ (word & SIGN))


@jit
def _resample(couplings, field, others, generators, moving, sums, spins):
    """spins[i] = sign(field_i + sum_j couplings[i, j] others[j] + noise) in the moving chains, four rows at a time."""
    s0, s1, s2, s3 = load(generators, 0), load(generators, 1), load(generators, 2), load(generators, 3)
    mask = load(moving, 0)
    n_spins, n_others = spins.shape[0], others.shape[0]
    for i in range(0, n_spins, ROWS):
        sum0, sum1, sum2, sum3 = fill(field[i]), fill(field[i + 1]), fill(field[i + 2]), fill(field[i + 3])
        for j in range(n_others):
            other = load(others, j)
            sum0 = multiply_add(fill(couplings[i, j]), other, sum0)
            sum1 = multiply_add(fill(couplings[i + 1, j]), other, sum1)
            sum2 = multiply_add(fill(couplings[i + 2, j]), other, sum2)
            sum3 = multiply_add(fill(couplings[i + 3, j]), other, sum3)
        store(sums, 0, sum0)
        store(sums, 1, sum1)
        store(sums, 2, sum2)
        store(sums, 3, sum3)
        for row in range(min(ROWS, n_spins - i)):
            word, s0, s1, s2, s3 = _next_words(s0, s1, s2, s3)
            # The noise comes last: added to the field first, it would be rounded away among large couplings that cancel.
            fresh = (words_of(load(sums, row) + _logistic(word)) & SIGN) | ONE
            spin = words_of(load(spins, i + row))
            store(spins, i + row, floats_of(spin ^ ((spin ^ fresh) & mask)))
    for k, state in enumerate((s0, s1, s2, s3)):
        before = load(generators, k)
        store(generators, k, before ^ ((before ^ state) & mask))


@jit
def _resample_block(block, model, bundle, sums):
    """Resample the visible (block 0) or hidden (block 1) spins of the moving chains."""
    if block == 0:
        couplings, field, others, spins = model.to_visible, model.b, bundle.hidden, bundle.visible
    else:
        couplings, field, others, spins = model.to_hidden, model.c, bundle.visible, bundle.hidden
    _resample(couplings, field, others, bundle.generators, bundle.moving, sums, spins)


@jit
def _random_scan(model, bundle, n_steps, sums, coins, steps_done):
    """Up to COINS steps of the two-block kernel: in each, a coin says which block is resampled.

    Resampling a block again while the other one rests changes nothing in law, so each run of equal coins is one draw.
    """
    word, s0, s1, s2, s3 = _next_words(
        load(bundle.generators, 0), load(bundle.generators, 1), load(bundle.generators, 2), load(bundle.generators, 3)
    )
    _store_states((s0, s1, s2, s3), bundle.generators)
    store(coins, 0, word)
    steps_done[:] = 0
    block, unfinished = 0, LANES
    while unfinished:
        any_moves = False
        for lane in range(LANES):
            bits, first = np.int64(coins[0, lane]), steps_done[lane]
            step = first
            while step < n_steps and (bits >> step) & 1 == block:
                step += 1
            steps_done[lane] = step
            moves = step > first
            bundle.moving[0, lane] = EVERY if moves else 0
            any_moves = any_moves or moves
            if moves and step == n_steps:
                unfinished -= 1
        if any_moves:
            _resample_block(block, model, bundle, sums)
        block = 1 - block


@jit
def _random_order(model, bundle, n_sweeps, sums, coins):
    """Up to ORDERS sweeps: visible, then hidden spins where a coin says so, hidden, then visible where it does not."""
    word, s0, s1, s2, s3 = _next_words(
        load(bundle.generators, 0), load(bundle.generators, 1), load(bundle.generators, 2), load(bundle.generators, 3)
    )
    _store_states((s0, s1, s2, s3), bundle.generators)
    store(coins, 0, word)
    for sweep in range(n_sweeps):
        for turn in range(3):
            for lane in range(LANES):
                visible_first = (np.int64(coins[0, lane]) >> sweep) & 1
                moves = turn == 1 or (turn == 0) == (visible_first == 1)
                bundle.moving[0, lane] = EVERY if moves else 0
            _resample_block(turn & 1, model, bundle, sums)


@jit
def _record(spins, records):
    """Pack bits (1 for a spin of -1) of each chain: spin i is bit i % 32 of records[chain, i // 32]."""
    packed = np.empty((1, LANES), np.uint32)
    for first in range(0, spins.shape[0], 32):
        word = words_of(load(spins, first)) >> 31
        for i in range(first + 1, min(first + 32, spins.shape[0])):
            word = word | ((words_of(load(spins, i)) >> 31) << (i - first))
        store(packed, 0, word)
        for lane in range(LANES):
            records[lane, first // 32] = packed[0, lane]


@jit
def _block_scans(model, bundle, order, n_sweeps, first_chain, visible_records, hidden_records):
    """n_sweeps sweeps before each record: ALTERNATING (visible given hidden, then hidden given visible), two RANDOM_BLOCKS a sweep, or
    both blocks in RANDOM_ORDER.
    """
    sums, coins, steps_done = np.empty((ROWS, LANES), np.float32), np.empty((1, LANES), np.uint32), np.empty(LANES, np.int64)
    bundle.moving[:] = EVERY
    for record in range(visible_records.shape[0]):
        if order == RANDOM_BLOCKS:
            for step in range(0, 2 * n_sweeps, COINS):
                _random_scan(model, bundle, min(COINS, 2 * n_sweeps - step), sums, coins, steps_done)
        elif order == RANDOM_ORDER:
            for sweep in range(0, n_sweeps, ORDERS):
                _random_order(model, bundle, min(ORDERS, n_sweeps - sweep), sums, coins)
            bundle.moving[:] = EVERY
        else:
            for step in range(2 * n_sweeps):
                _resample_block(step & 1, model, bundle, sums)
        _record(bundle.visible, visible_records[record, first_chain : first_chain + LANES])
        _record(bundle.hidden, hidden_records[record, first_chain : first_chain + LANES])


@jit
def _draw_attempts(generators, n_attempts, sites, noise):
    """A word for the site and a noise for each attempt of each chain."""
    s0, s1, s2, s3 = load(generators, 0), load(generators, 1), load(generators, 2), load(generators, 3)
    for attempt in range(n_attempts):
        word, s0, s1, s2, s3 = _next_words(s0, s1, s2, s3)
        store(sites, attempt, word)
        word, s0, s1, s2, s3 = _next_words(s0, s1, s2, s3)
        store(noise, attempt, _logistic(word))
    _store_states((s0, s1, s2, s3), generators)


@jit
def _flip(site, n_visible, change, model, fields):
    """Add change times the couplings of one spin to the fields of the other block; no branch, for nobody can foresee the site."""
    of_visible, of_hidden = model.b.size, model.c.size
    hidden = np.int64(site >= n_visible)
    length = of_hidden + hidden * (of_visible - of_hidden)
    row = site * of_hidden + hidden * (site - n_visible) * (of_visible - of_hidden)
    first = of_visible - hidden * of_visible
    add_multiple(change, model.flips[row : row + length], fields[first : first + length])


@jit
def _single_site_scans(model, bundle, n_sweeps, first_chain, visible_records, hidden_records):
    """n_sweeps * N attempts before each record; local fields are kept in float64 and change only when a spin flips."""
    n_visible, of_visible = bundle.visible.shape[0], model.b.size
    n_spins = n_visible + bundle.hidden.shape[0]
    sites, noise = np.empty((ATTEMPTS, LANES), np.uint32), np.empty((ATTEMPTS, LANES), np.float32)
    # One row for each chain here: an attempt belongs to one chain alone.
    spins, fields = np.empty((LANES, n_spins)), np.empty((LANES, of_visible + model.c.size))
    for lane in range(LANES):
        for i in range(of_visible):
            fields[lane, i] = model.b[i]
        for j in range(model.c.size):
            fields[lane, of_visible + j] = model.c[j]
        for site in range(n_spins):
            spins[lane, site] = bundle.visible[site, lane] if site < n_visible else bundle.hidden[site - n_visible, lane]
            _flip(site, n_visible, spins[lane, site], model, fields[lane])
    for record in range(visible_records.shape[0]):
        for first in range(0, n_sweeps * n_spins, ATTEMPTS):
            n_attempts = min(ATTEMPTS, n_sweeps * n_spins - first)
            _draw_attempts(bundle.generators, n_attempts, sites, noise)
            for lane in range(LANES):
                for attempt in range(n_attempts):
                    # The upper half of a word times N is uniform up to N / 2**32.
                    site = np.int64(sites[attempt, lane]) * n_spins >> 32
                    spin = spins[lane, site]
                    field = fields[lane, site + np.int64(site >= n_visible) * (of_visible - n_visible)]
                    if (field + noise[attempt, lane]) * spin < 0:
                        spins[lane, site] = -spin
                        _flip(site, n_visible, -2.0 * spin, model, fields[lane])
        for site in range(n_spins):
            for lane in range(LANES):
                if site < n_visible:
                    bundle.visible[site, lane] = spins[lane, site]
                else:
                    bundle.hidden[site - n_visible, lane] = spins[lane, site]
        _record(bundle.visible, visible_records[record, first_chain : first_chain + LANES])
        _record(bundle.hidden, hidden_records[record, first_chain : first_chain + LANES])
