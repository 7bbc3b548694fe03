"""Random numbers of a task: a stream of its own for each pair of chains, from the seed, the replicate and the place in it.

A stream is a key of 64 bits, a hash of those numbers (the finaliser of splitmix64: Steele, Lea and Flood 2014). Lanes draw from a
xoshiro128++ that starts there, scalar loops from splitmix64 itself. So no number depends on what else is computed, or on which thread.
"""

from __future__ import annotations

import numpy as np

from thermokernels.compiled.decorator import jit

# Streams of one replicate: lag pairs 0 and 1, the choice of atoms of each, then excursions.
PAIR, ATOM, EXCURSION = 0, 2, 4
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)
S27, S30, S31, S32, S11 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32), np.uint64(11)


@jit
def _mixed(word):
    """A hash of 64 bits."""
    word = (word ^ (word >> S30)) * FIRST
    word = (word ^ (word >> S27)) * SECOND
    return word ^ (word >> S31)


@jit
def _stream(key, replicate, number):
    """The key of stream ``number`` of a replicate."""
    return _mixed(_mixed(key + GOLDEN * np.uint64(2 * replicate + 1)) + GOLDEN * np.uint64(2 * number + 1))


@jit
def _uniform(stream, position):
    """Number ``position`` of a stream, uniform on [0, 1) in steps of 2**-53."""
    return np.float64(_mixed(stream + GOLDEN * np.uint64(position + 1)) >> S11) * 2.0**-53


@jit
def _start_lane(stream, generators, lane):
    """The words of a lane's xoshiro128++ from a stream."""
    for k in range(2):
        word = _mixed(stream + GOLDEN * np.uint64(k + 1))
        generators[2 * k, lane] = np.uint32(word >> S32)
        generators[2 * k + 1, lane] = np.uint32(word & np.uint64(0xFFFFFFFF))
    if generators[0, lane] | generators[1, lane] | generators[2, lane] | generators[3, lane] == 0:
        generators[0, lane] = 1  # the one state that xoshiro never leaves
