"""Conjugate gradients on 1 - B B', of a single class on 1 - B, for a pack of observables, each of which stops when it is done.

The iterates are those of :mod:`thermokernels.solvers.red_black`, where the preconditioner stands on one side and here on both.
"""

from __future__ import annotations

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_states import DOUBLES, fill, load, multiply, multiply_add, store, subtract
from thermokernels.solvers.conjugate_gradients import FLOOR, MAX_ITERATIONS
from thermokernels.solvers.small.packs import _along, _couple, _take_out

PROJECT_EVERY = 8  # as red_black.PROJECT_EVERY


@jit
def _descend(classes, lengths, step, image, residual, x, found):
    """x += length step and residual -= length image; found = |residual|^2, |D^1/2 residual|^2 and |D^-1/2 x|^2 of each observable."""
    roots, inverses = classes.roots[0], classes.inverses[0]
    length, squares, norms, sizes = load(lengths, 0), fill(0.0), fill(0.0), fill(0.0)
    for k in range(roots.size):
        current = multiply_add(length, load(step, k * DOUBLES), load(x, k * DOUBLES))
        r = subtract(load(residual, k * DOUBLES), multiply(length, load(image, k * DOUBLES)))
        store(x, k * DOUBLES, current)
        store(residual, k * DOUBLES, r)
        squares = multiply_add(r, r, squares)
        r, current = multiply(fill(roots[k]), r), multiply(fill(inverses[k]), current)
        norms, sizes = multiply_add(r, r, norms), multiply_add(current, current, sizes)
    store(found, 0, squares)
    store(found, DOUBLES, norms)
    store(found, 2 * DOUBLES, sizes)


@jit
def _project(classes, lengths, step, residual, x, found):
    """Take the null vector out of the residual, and measure again."""
    _take_out(classes.null, _along(classes.null, residual), residual)
    lengths[:] = 0.0
    _descend(classes, lengths, step, step, residual, x, found)


@jit
def _conjugate_gradients(classes, residual, tolerances, work, x):
    """(1 - B B') x = residual, of a single class (1 - B) x = residual, until |D^1/2 residual| <= tolerance of each observable.

    Returns the largest of the iterations. ``residual`` is overwritten, ``tolerances`` are infinite in the end; ``work`` has room for three
    vectors.
    """
    step, odd, image = work[0], work[1], work[2]
    lengths, ratios, found, last = np.zeros(DOUBLES), np.zeros(DOUBLES), np.zeros(3 * DOUBLES), np.ones(DOUBLES)
    x[:], step[:] = 0.0, 0.0
    _project(classes, lengths, step, residual, x, found)
    for iteration in range(MAX_ITERATIONS):
        going = False
        for a in range(DOUBLES):
            norm, size = np.sqrt(found[DOUBLES + a]), np.sqrt(found[2 * DOUBLES + a])
            if not (norm > tolerances[a] and norm > FLOOR * size):
                tolerances[a] = np.inf  # stands still from here on
            going = going or tolerances[a] < np.inf
            ratios[a] = found[a] / last[a] if tolerances[a] < np.inf and iteration > 0 else 0.0
            last[a] = found[a]
        if not going:
            return iteration
        ratio = load(ratios, 0)
        for k in range(0, step.size, DOUBLES):
            store(step, k, multiply_add(ratio, load(step, k), load(residual, k)))
        source = step
        if classes.into_odd.size > 0:
            _couple(classes.masks, classes.into_odd, step, classes.ones, step[:0], odd, lengths)
            source = odd
        _couple(classes.masks, classes.into_even, source, classes.ones, step, image, lengths)
        for a in range(DOUBLES):
            lengths[a] = last[a] / lengths[a] if tolerances[a] < np.inf else 0.0
        _descend(classes, lengths, step, image, residual, x, found)
        if (iteration + 1) % PROJECT_EVERY == 0:
            _project(classes, lengths, step, residual, x, found)
    return MAX_ITERATIONS
