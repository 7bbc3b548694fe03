"""A chain of two parity classes for packs of observables: the odd class is eliminated, 1 - B B' on the even one is what is left to solve.

With the diagonal D of A taken to both sides, D^-1/2 A D^-1/2 = [[1, -B], [-B', 1]] (red-black elimination, see
:mod:`thermokernels.solvers.red_black`). A class keeps state x = 2 k + bit at k: a flip leads from k to k ^ mask out of either class.
A chain without parity is one class of all its states, and 1 - B with B from that class to itself is solved.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_states import DOUBLES, add, fill, load, multiply, multiply_add, store
from thermokernels.solvers.small.packs import _along, _couple, _take_out


class Classes(NamedTuple):
    """Class 0 is even, class 1 odd: the masks of positions (N,), B by its rows and by its columns (n_half * N,), the states (2, n_half),
    D^1/2 and D^-1/2 there, D^1/2 sqrt(pi) of the even states, of norm one: the null vector of 1 - B B'; and ones.

    Of a single class the columns are not kept, and all states are in it, (1, n_states)."""

    masks: np.ndarray
    into_even: np.ndarray
    into_odd: np.ndarray
    states: np.ndarray
    roots: np.ndarray
    inverses: np.ndarray
    null: np.ndarray
    ones: np.ndarray


@jit
def _two_classes(flips, root_law):
    """The chain in its parity classes."""
    n_half, n_spins = root_law.size // 2, flips.masks.size
    states, roots, null = np.empty((2, n_half), np.int64), np.empty((2, n_half)), np.empty(n_half)
    for k in range(n_half):
        parity, rest = 0, k
        while rest:
            rest &= rest - 1
            parity ^= 1
        states[0, k], states[1, k] = 2 * k + parity, 2 * k + 1 - parity
    mass = 0.0
    for k in range(n_half):
        for c in range(2):
            roots[c, k] = np.sqrt(flips.escape[states[c, k]])
        null[k] = root_law[states[0, k]] * roots[0, k]
        mass += null[k] * null[k]
    inverses = 1.0 / roots  # infinite where an escape underflows, which the residual reports
    null /= np.sqrt(mass)
    masks, into_even, into_odd = flips.masks >> 1, np.empty(n_half * n_spins), np.empty(n_half * n_spins)
    for k in range(n_half):
        for i in range(n_spins):
            other = k ^ masks[i]
            rate = flips.rates[states[0, k] * n_spins + i] * inverses[0, k] * inverses[1, other]
            into_even[k * n_spins + i], into_odd[other * n_spins + i] = rate, rate
    return Classes(masks, into_even, into_odd, states, roots, inverses, null, np.ones(n_half))


@jit
def _one_class(flips, root_law):
    """The chain in one class."""
    n_states, n_spins = root_law.size, flips.masks.size
    states, roots, inverses, null = np.empty((1, n_states), np.int64), np.empty((1, n_states)), np.empty((1, n_states)), np.empty(n_states)
    mass = 0.0
    for x in range(n_states):
        states[0, x], roots[0, x] = x, np.sqrt(flips.escape[x])
        inverses[0, x], null[x] = 1.0 / roots[0, x], root_law[x] * roots[0, x]
        mass += null[x] * null[x]
    norm, rates = np.sqrt(mass), np.empty(n_states * n_spins)
    for x in range(n_states):
        null[x] /= norm
        for i in range(n_spins):
            rates[x * n_spins + i] = flips.rates[x * n_spins + i] * inverses[0, x] * inverses[0, x ^ flips.masks[i]]
    return Classes(flips.masks, rates, rates[:0], states, roots, inverses, null, np.ones(n_states))


@jit
def _classes(flips, root_law, bipartite):
    """The chain in two classes, or where it is not bipartite in one."""
    return _two_classes(flips, root_law) if bipartite else _one_class(flips, root_law)


@jit
def _eliminate(classes, source, even, odd, work, squares):
    """even = D^-1/2 b + B odd and odd = D^-1/2 b of the classes, squares = |b|^2 of each observable; ``work`` is as long as ``odd``.

    Of a single class even = D^-1/2 b.
    """
    states, inverses, norms, two = classes.states, classes.inverses, fill(0.0), classes.into_odd.size > 0
    for k in range(classes.null.size):
        b_even = load(source, states[0, k] * DOUBLES)
        norms = multiply_add(b_even, b_even, norms)
        store(even, k * DOUBLES, multiply(fill(inverses[0, k]), b_even))
        if two:
            b_odd = load(source, states[1, k] * DOUBLES)
            norms = multiply_add(b_odd, b_odd, norms)
            store(odd, k * DOUBLES, multiply(fill(inverses[1, k]), b_odd))
    store(squares, 0, norms)
    if two:
        _couple(classes.masks, classes.into_even, odd, classes.ones, odd[:0], work, squares)
        for k in range(0, work.size, DOUBLES):
            store(even, k, add(load(even, k), load(work, k)))


@jit
def _substitute_back(classes, root_law, even, odd, work, solution):
    """z of all states, orthogonal to sqrt(pi), from that of the even class and what :func:`_eliminate` has made of the odd one."""
    states, inverses, two = classes.states, classes.inverses, classes.into_odd.size > 0
    if two:
        _couple(classes.masks, classes.into_odd, even, classes.ones, odd[:0], work, work)
    for k in range(classes.null.size):
        store(solution, states[0, k] * DOUBLES, multiply(fill(inverses[0, k]), load(even, k * DOUBLES)))
        if two:
            z_odd = add(load(odd, k * DOUBLES), load(work, k * DOUBLES))
            store(solution, states[1, k] * DOUBLES, multiply(fill(inverses[1, k]), z_odd))
    _take_out(root_law, _along(root_law, solution), solution)
