"""A rigorous lower bound of the gap of a lumped chain: interlacing and Collatz-Wielandt, as for full chains.

Off one state, lambda_2(I - P) >= lambda_1((I - P)_off) >= min_x ((I - P) t)_x / t_x for every t > 0
(:mod:`thermokernels.solvers.gap_bounds`). A good t is near the hitting times of the most probable state. Conjugate gradients give it where
pi is not tiny; of states that are all but impossible they know nothing, and Gauss-Seidel sweeps in order of falling pi, which follow the
drift outwards, fill them in. The bound holds for any t: a poor one costs sharpness, never validity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NotConvergedError, UnresolvedError
from thermokernels.common.tolerances import UNIT
from thermokernels.compiled.decorator import jit
from thermokernels.model.lumped import LumpedChain
from thermokernels.solvers.lumped import lumped_solves

# Conjugate gradients are believed where sqrt(pi) is above this share of its largest.
BELIEVED = 1e-6
ROUNDS, SWEEPS = 60, 4

# A bound within this factor of what the times promise is sharp enough.
SHARP = 0.5


def gap_lower_bound(chain: LumpedChain, even: bool = False) -> float:
    """A positive lower bound of the gap per step, of a chain without killing.

    With ``even``, of the gap on functions that x -> -x leaves alone, of a model without fields: the most probable state and its mirror
    image, one state of the chain on pairs, are taken out together. How slowly the chain goes from one to the other is then no matter.

    Raises
    ------
    UnresolvedError
        No positive bound is left above rounding.
    """
    target = np.zeros(chain.n_states, dtype=np.bool_)
    target[chain.log_law.argmax()] = True
    if even:
        target |= target[::-1]
    times = _by_conjugate_gradients(chain, target)
    order = np.argsort(-chain.log_law, kind="stable")
    up, down = move_rates(chain)
    strides = all_strides(chain)
    promised, bound = 1 / float(times.max()), 0.0
    images, leaving = np.empty(chain.n_states), up.sum(axis=0) + down.sum(axis=0)
    for _ in range(ROUNDS):
        _sweep(order, target, up, down, strides, SWEEPS, times)
        _images(up, down, strides, times, images)
        lost = (2 * up.shape[0] + 8) * UNIT + chain.entry_error
        off = ~target
        ratios = images[off] / times[off] - lost * (leaving[off] + 1 / times[off])
        bound = max(bound, float(ratios.min()))
        if bound >= SHARP * promised:
            break
    if not bound > 0.0:
        raise UnresolvedError("the gap of the lumped chain is too small for a lower bound in float64; scale the couplings down")
    return bound


def _by_conjugate_gradients(chain: LumpedChain, target: NDArray[np.bool_]) -> Floats:
    """Hitting times of one state, or of two that a symmetry exchanges: R - R(target), R the centred solution for 1 - 1_target / pi(target).

    Good where pi is not tiny.
    """
    root = chain.root_law
    source = root.copy()
    source[target] -= 1 / (root[target] * target.sum())
    source -= (source @ root) * root
    try:
        solution = lumped_solves.solve(chain, source, 1e-6).vector
    except NotConvergedError:
        raise UnresolvedError("hitting times of the lumped chain did not converge in float64; scale the couplings down") from None
    believed = root > BELIEVED * root.max()
    times = np.zeros(chain.n_states)
    times[believed] = solution[believed] / root[believed]
    times[believed] -= times[target].mean()
    largest = float(times.max())
    times[~believed] = largest + chain.n_spins
    times[(times < 1.0)] = 1.0
    times[target] = 0.0
    return times


def move_rates(chain: LumpedChain) -> tuple[Floats, Floats]:
    """Rates of one more and of one less -1 spin in every class, hidden classes first, both (classes, n_states); without killing."""
    up, down = [], []
    for axis, (sizes, counts, fields) in enumerate(zip((chain.hidden_sizes, chain.visible_sizes), chain.counts, chain.fields, strict=True)):
        for n, k, field in zip(sizes, counts, fields, strict=True):
            with np.errstate(over="ignore"):
                lower, raised = 1 / (1 + np.exp(2 * field)) / chain.n_spins, 1 / (1 + np.exp(-2 * field)) / chain.n_spins
            up.append((np.outer(n - k, lower) if axis == 0 else np.outer(lower, n - k)).ravel())
            down.append((np.outer(k, raised) if axis == 0 else np.outer(raised, k)).ravel())
    return np.array(up), np.array(down)


def all_strides(chain: LumpedChain) -> NDArray[np.int64]:
    """By how much one more -1 spin of a class raises the number of a state, hidden classes first."""
    hidden, visible = (part[0] for part in chain._links)
    return np.concatenate([hidden * chain.shape[1], visible])


@jit
def _sweep(order, target, up, down, strides, n_sweeps, times):
    """Gauss-Seidel sweeps for (I - P) t = 1 off the target, in this order of the states."""
    for _ in range(n_sweeps):
        for x in order:
            if target[x]:
                continue
            rate, inflow = 0.0, 1.0
            for c in range(strides.size):
                if up[c, x] > 0.0:
                    rate += up[c, x]
                    inflow += up[c, x] * times[x + strides[c]]
                if down[c, x] > 0.0:
                    rate += down[c, x]
                    inflow += down[c, x] * times[x - strides[c]]
            times[x] = inflow / rate


@jit
def _images(up, down, strides, times, images):
    """images = (I - P) t, as sums of differences."""
    for x in range(times.size):
        image = 0.0
        for c in range(strides.size):
            if up[c, x] > 0.0:
                image += up[c, x] * (times[x] - times[x + strides[c]])
            if down[c, x] > 0.0:
                image += down[c, x] * (times[x] - times[x - strides[c]])
        images[x] = image
