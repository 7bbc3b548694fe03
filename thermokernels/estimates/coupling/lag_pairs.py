"""Starts of law pi from L-lag pairs of chains: X is L = l D sweeps ahead of Y, and the signed measure of the two has no bias.

Both scan alternately, coupled, and are looked at every D sweeps of Y's clock: X[u] after L + u D sweeps, Y[u] after u D. For every i

    X[i] + sum_(u = i + l, i + 2 l, ..., before the meeting) (X[u] - Y[u])

is an unbiased signed measure for pi (Jacob, O'Leary and Atchade 2020): the sum telescopes X[i] to a chain that has run for ever. One of its
1 + 2 J atoms is drawn uniformly, and weighs (1 + 2 J) times its sign. J is not known before the meeting, so atoms are drawn as they
come: two new ones replace the one that is kept with probability 2 / (1 + 2 J).

Whatever kernel is asked about, these chains are alternating: pi is the same, and no scan of so many pairs at once is faster. A lane is a
pair; number ``pair`` belongs to replicate ``pair // 2``. Without fields a pair has met where x = +-y, and y is turned to the side of x.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_chains import LANES, aligned_rows, fill, floats_of, load, multiply_add, store
from thermokernels.estimates.coupling.generators import ATOM, PAIR, _start_lane, _stream, _uniform
from thermokernels.estimates.coupling.layer_coupling import _couple_layer, _resample_layer
from thermokernels.sampling.scans import EVERY, ONE, ROWS, SIGN, Bundle, _next_words, _resample_block, _store_states


class Pairs(NamedTuple):
    """LANES pairs of chains: spins (n, LANES) float32 as (x, y), and the generators' words (4, LANES) that both draw from.

    stopped : (1,), set by another thread where nobody waits for them any more, so that they end within a sweep, unfinished
    """

    visible: tuple[np.ndarray, np.ndarray]
    hidden: tuple[np.ndarray, np.ndarray]
    generators: np.ndarray
    stopped: np.ndarray


class Schedule(NamedTuple):
    """How pairs are coupled and looked at; times are sweeps of the alternating scan.

    kappa : information of a sequence of updates; quotient : whether x and -x are one; interval : D; n_intervals : l, the lag is l D;
    n_atoms : snapshots i = 0, ..., n_atoms - 1 of each lag pair; cap : sweeps after which a pair is given up
    """

    kappa: float
    quotient: bool
    interval: int
    n_intervals: int
    n_atoms: int
    cap: int


def new_pairs(n_visible: int, n_hidden: int, stopped: NDArray[np.uint8] | None = None) -> Pairs:
    """Lanes for pairs of chains, which nobody stops without ``stopped``."""
    rows = [aligned_rows(np.float32, n) for n in (n_visible, n_visible, n_hidden, n_hidden)]
    stopped = np.zeros(1, np.uint8) if stopped is None else stopped
    return Pairs((rows[0], rows[1]), (rows[2], rows[3]), aligned_rows(np.uint32, 4), stopped)


@jit
def _toss(spins, generators):
    """Fair coins for all spins of all lanes."""
    s0, s1, s2, s3 = load(generators, 0), load(generators, 1), load(generators, 2), load(generators, 3)
    for i in range(spins.shape[0]):
        word, s0, s1, s2, s3 = _next_words(s0, s1, s2, s3)
        store(spins, i, floats_of((word & SIGN) | ONE))
    _store_states((s0, s1, s2, s3), generators)


@jit
def _couple_block(block, model, pairs, kappa, sums, means, keep_means):
    """Resample the visible (0) or hidden (1) layer of all pairs; means, of the hidden layer, as in ``_couple_layer``."""
    words = pairs.generators
    if block == 0:
        _couple_layer(model.to_visible, model.b, pairs.hidden, kappa, words, sums, pairs.visible, means, False)
    else:
        _couple_layer(model.to_hidden, model.c, pairs.visible, kappa, words, sums, pairs.hidden, means, keep_means)


@jit
def _resample_one(block, model, pairs, sums):
    """The same where all pairs have met: Y is left behind. A lane must not know when others meet, or its bits would depend on them."""
    if block == 0:
        _resample_layer(model.to_visible, model.b, pairs.hidden[0], pairs.generators, sums, pairs.visible[0])
    else:
        _resample_layer(model.to_hidden, model.c, pairs.visible[0], pairs.generators, sums, pairs.hidden[0])


@jit
def _overlap(left, right, overlaps):
    """overlaps[0] = sum_i left_i right_i in each lane."""
    total = fill(0.0)
    for i in range(left.shape[0]):
        total = multiply_add(load(left, i), load(right, i), total)
    store(overlaps, 0, total)


@jit
def _turn(spins, lane):
    """The other sign for all spins of a lane."""
    for i in range(spins.shape[0]):
        spins[i, lane] = -spins[i, lane]


@jit
def _note_meetings(pairs, quotient, sweep, visible_overlaps, hidden_overlaps, meetings):
    """Note the sweep for the pairs that have met by now; how many have not."""
    n_spins = pairs.visible[0].shape[0] + pairs.hidden[0].shape[0]
    _overlap(pairs.visible[0], pairs.visible[1], visible_overlaps)
    _overlap(pairs.hidden[0], pairs.hidden[1], hidden_overlaps)
    n_apart = 0
    for lane in range(meetings.size):
        if meetings[lane] < 0:
            overlap = visible_overlaps[0, lane] + hidden_overlaps[0, lane]
            if quotient and overlap < 0:
                _turn(pairs.visible[1], lane)
                _turn(pairs.hidden[1], lane)
                overlap = -overlap
            if overlap == n_spins:
                meetings[lane] = sweep
            else:
                n_apart += 1
    return n_apart


@jit
def _copy_spins(visible, hidden, lane, spins):
    n_visible = visible.shape[0]
    for i in range(n_visible):
        spins[i] = np.int8(visible[i, lane])
    for j in range(hidden.shape[0]):
        spins[n_visible + j] = np.int8(hidden[j, lane])


@jit
def _look(pairs, schedule, u, key, first_pair, meetings, atoms, weights):
    """The atoms that record u brings: the first of snapshot u, and corrections of i = u - l, u - 2 l, ... where a pair is apart."""
    for lane in range(meetings.size):
        pair = first_pair + lane
        if u < schedule.n_atoms:
            _copy_spins(pairs.visible[0], pairs.hidden[0], lane, atoms[lane, u])
            weights[lane, u] = 1.0
        if meetings[lane] >= 0:
            continue
        stream = _stream(key, pair // 2, ATOM + pair % 2)
        for i in range(u % schedule.n_intervals, min(u, schedule.n_atoms), schedule.n_intervals):
            n_before = abs(weights[lane, i])
            keeps = weights[lane, i] > 0
            draw = _uniform(stream, u * schedule.n_atoms + i) * (n_before + 2.0)
            if draw < 2.0:
                keeps = draw < 1.0
                side = 0 if keeps else 1
                _copy_spins(pairs.visible[side], pairs.hidden[side], lane, atoms[lane, i])
            weights[lane, i] = n_before + 2.0 if keeps else -n_before - 2.0


@jit
def _lag_pairs(model, pairs, schedule, key, first_pair, atoms, weights, meetings):
    """Run a pair in each of the first lanes: atoms (n_pairs, n_atoms, N), weights (n_pairs, n_atoms), meetings (n_pairs,), -1 where none.

    Meetings are counted in sweeps on Y's clock.
    """
    sums = np.empty((2 * ROWS, LANES), np.float32)
    visible_overlaps, hidden_overlaps = np.empty((1, LANES), np.float32), np.empty((1, LANES), np.float32)
    moving = np.empty((1, LANES), np.uint32)
    moving[:] = EVERY
    for lane in range(LANES):
        pair = first_pair + lane
        _start_lane(_stream(key, pair // 2, PAIR + pair % 2), pairs.generators, lane)
    for side in range(2):
        _toss(pairs.visible[side], pairs.generators)
        _toss(pairs.hidden[side], pairs.generators)
    ahead = Bundle(pairs.visible[0], pairs.hidden[0], pairs.generators, moving)
    for half in range(2 * schedule.n_intervals * schedule.interval):
        if pairs.stopped[0]:
            break
        _resample_block(half & 1, model, ahead, sums)
    meetings[:] = -1
    n_apart = _note_meetings(pairs, schedule.quotient, 0, visible_overlaps, hidden_overlaps, meetings)
    u = 0
    while (u < schedule.n_atoms or n_apart > 0) and u * schedule.interval <= schedule.cap:
        _look(pairs, schedule, u, key, first_pair, meetings, atoms, weights)
        for sweep in range(u * schedule.interval + 1, (u + 1) * schedule.interval + 1):
            if pairs.stopped[0]:
                return
            for block in range(2):
                if n_apart > 0:
                    _couple_block(block, model, pairs, schedule.kappa, sums, pairs.hidden, False)
                else:
                    _resample_one(block, model, pairs, sums)
            if n_apart > 0:
                n_apart = _note_meetings(pairs, schedule.quotient, sweep, visible_overlaps, hidden_overlaps, meetings)
        u += 1
