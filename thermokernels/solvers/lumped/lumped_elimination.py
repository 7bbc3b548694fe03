"""Subtraction-free elimination (GTH) of a lumped chain, within the band that its moves leave: right however slowly a state is left.

States leave in order of their number. A move changes it by at most the last stride, so that row k of the rates never fills beyond k + that
stride. The algorithm and its error bound are those of :mod:`thermokernels.solvers.state_reduction.gth_elimination`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thermokernels.common import memory
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import ModelTooLargeError
from thermokernels.common.tolerances import UNIT
from thermokernels.compiled.decorator import jit
from thermokernels.model.lumped import LumpedChain
from thermokernels.solvers.lumped.lumped_gap_bound import all_strides, move_rates

# Multiply-adds of an elimination: some minutes.
MOST_WORK = 2**38


def hitting_times(chain: LumpedChain, target: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Expected steps to the target (n_states,), 0 on it, and a proven bound on the relative error of every one.

    The lesser of two bounds: of the elimination, (5.5 M^2 + 10 M) u + 2 M h for rates right to h, and of the residual (M-matrix).

    Raises
    ------
    ModelTooLargeError
        The band is too wide or too long; the message says what it would take.
    """
    strides = all_strides(chain)
    width, n = int(strides.max()), chain.n_states
    work = n * width**2
    if work > MOST_WORK:
        raise ModelTooLargeError(
            f"elimination of {n} lumped states in a band of {width} would take {work:.2g} multiply-adds; use fewer patterns or spins"
        )
    memory.require(8 * n * (2 * width + 6), f"elimination of {n} lumped states in a band of {width}", "use fewer spins")
    up, down = move_rates(chain)
    rates, absorbed = np.zeros((n, 2 * width + 1)), np.zeros(n)
    states = np.arange(n)
    for stride, rises, falls in zip(strides, up, down, strict=True):
        for sign, moves in ((1, rises), (-1, falls)):
            leaving = states[(moves > 0) & ~target]
            ends = leaving + sign * stride
            inside = target[ends]
            absorbed[leaving[inside]] += moves[leaving[inside]]
            rates[leaving[~inside], width + sign * stride] += moves[leaving[~inside]]
    times = np.ones(n)
    _eliminate(rates, absorbed, target, times)
    free = int((~target).sum())
    by_elimination = (5.5 * free**2 + 10 * free) * UNIT + 2 * free * chain.entry_error
    return times, min(by_elimination, _by_residual(chain, target, times, up, down, strides))


def _by_residual(
    chain: LumpedChain, target: NDArray[np.bool_], times: Floats, up: Floats, down: Floats, strides: NDArray[np.int64]
) -> float:
    """max |(I - P) t - 1| off the target, with what the rounding of rates, differences and sums can hide."""
    images, sizes = np.zeros(times.size), np.zeros(times.size)
    for stride, rises, falls in zip(strides, up, down, strict=True):
        for sign, moves in ((1, rises), (-1, falls)):
            leaving = np.flatnonzero(moves > 0)
            terms = moves[leaving] * (times[leaving] - times[leaving + sign * stride])
            images[leaving] += terms
            sizes[leaving] += np.abs(terms)
    off = ~target
    lost = (chain.entry_error + (4 * len(strides) + 8) * UNIT) * sizes[off]
    return float((np.abs(images[off] - 1.0) + lost).max())


@jit
def _eliminate(rates, absorbed, target, times):
    """Times by elimination in order and back-substitution; ``rates[x, width + y - x]`` from x to y, ``absorbed`` into the target."""
    n, width = rates.shape[0], (rates.shape[1] - 1) // 2
    pivots = np.zeros(n)
    for k in range(n):
        if target[k]:
            times[k] = 0.0
            continue
        last = min(n - 1, k + width)
        pivot = absorbed[k]
        for j in range(k + 1, last + 1):
            pivot += rates[k, width + j - k]
        pivots[k] = pivot
        for i in range(k + 1, last + 1):
            into = rates[i, width + k - i]
            if into == 0.0:
                continue
            share = into / pivot
            shift = k - i
            for j in range(k + 1, last + 1):
                rates[i, width + j + shift - k] += share * rates[k, width + j - k]
            rates[i, width] = 0.0  # from i to itself
            absorbed[i] += share * absorbed[k]
            times[i] += share * times[k]
    for k in range(n - 1, -1, -1):
        if target[k]:
            continue
        total = times[k]
        for j in range(k + 1, min(n - 1, k + width) + 1):
            if rates[k, width + j - k] > 0.0:
                total += rates[k, width + j - k] * times[j]
        times[k] = total / pivots[k]
