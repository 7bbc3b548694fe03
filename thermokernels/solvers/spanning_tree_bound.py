"""Bounds of the relaxation time that cost next to nothing, from one path of flips from each state to the ground state.

The potential of a centred source is driven along paths: Thomson's principle (Doyle and Snell, Random Walks and Electric Networks, 1984,
section 1.3.5) says that no flow with divergence sqrt(pi) r dissipates less than r' A^+ r, so the flow that leads what comes in at x along a
path to one state gives, where c_xy = pi_x P(x, y) and R(x) is the sum of 1 / c along the path of x,

    r' A^+ r <= sum_e (sum_{x through e} sqrt(pi_x) r_x)^2 / c_e <= |r|^2 sum_e pi(x through e) / c_e = |r|^2 sum_x pi_x R(x)

by Cauchy and Schwarz: sum_x pi_x R(x) bounds 1 / gap from above. Any paths will do; the shortest are the best. Those along a spanning tree
are nearly as good where it is the one of lowest passes.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import scipy
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import inlined, jit
from thermokernels.compiled.simd_states import DOUBLES, fill, least, load, multiply, multiply_add, reverse, store, swap1, swap2, swap4
from thermokernels.model.chain import GibbsChain

# Paths are shortened by at most so many sweeps, and no further once one has left more than this share of the bound.
SWEEPS, WORTH_A_SWEEP = 8, 0.8

# Of chains that are still in use: a value asks for its bound when it decides how far to solve, and again when it is done.
_quick_bounds: WeakKeyDictionary[GibbsChain, float] = WeakKeyDictionary()


def quick_bound(chain: GibbsChain) -> float:
    """A bound of 1 / gap in steps from nearly the shortest paths to the ground state; single-site kernel."""
    if (known := _quick_bounds.get(chain)) is None:
        known = _quick_bounds[chain] = _quick_bound(chain)
    return known


def _quick_bound(chain: GibbsChain) -> float:
    rates = chain.visible_rates, chain.hidden_rates
    return float(_path_bound(chain.root_law, *rates, bool(chain.quotient), int(chain.energy.argmin())))


def sharp_bound(chain: GibbsChain) -> float:
    """The same from the tree of lowest passes (:func:`lowest_passes`): at most a factor of its size from the best tree."""
    order, parents, costs = lowest_passes(chain)
    masses = chain.law.copy()
    _sum_subtrees(order, parents, masses)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sum(masses[order[1:]] * np.exp(costs[order[1:]])) * chain.n_spins / chain.law[order[0]])


def lowest_passes(chain: GibbsChain) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """The spanning tree of lowest passes (minimum of -log c): its states from the ground state down, their parents, and the costs.

    ``costs[x]`` is log(pi(ground) / (N c(x, parent of x))); parents and costs are by state number, and the ground state has none.
    """
    states, ground, lowest = np.arange(chain.n_states), int(chain.energy.argmin()), chain.energy.min()
    rows, columns, costs = [], [], []
    # of two spins both flips lead from one pair {x, -x} to the other, at the same rate; a sparse matrix would add up their costs
    for mask, i in zip(*np.unique(chain.flip_masks, return_index=True), strict=True):
        row = states[states < states ^ mask]
        column = row ^ mask
        h, v = np.divmod(row, chain.shape[1])
        strength = chain.visible_local_fields[i, h] if i < chain.n_visible else chain.hidden_local_fields[i - chain.n_visible, v]
        # -log c_xy = (E(x) + E(y)) / 2 + log(2 cosh F) + log(N Z)
        rows.append(row)
        columns.append(column)
        costs.append(0.5 * (chain.energy[row] - lowest) + 0.5 * (chain.energy[column] - lowest) + np.logaddexp(strength, -strength))
    # all at least log 2: none is taken for a missing edge
    places = np.concatenate(rows).astype(np.int32), np.concatenate(columns).astype(np.int32)  # all that csgraph of SciPy 1.12 takes
    edges = scipy.sparse.coo_array((np.concatenate(costs), places), shape=2 * (chain.n_states,))
    tree = scipy.sparse.csgraph.minimum_spanning_tree(edges.tocsr())
    order, parents = scipy.sparse.csgraph.breadth_first_order(tree, ground, directed=False)
    links = tree.tocoo()
    upper = np.where(parents[links.row] == links.col, links.row, links.col)
    of_states = np.zeros(chain.n_states)
    of_states[upper] = links.data
    return order.astype(np.int64), parents.astype(np.int64), of_states


@jit
def _sum_subtrees(order, parents, masses):
    """masses[x] <- that of the subtree of x."""
    for k in range(order.size - 1, 0, -1):
        masses[parents[order[k]]] += masses[order[k]]


@inlined
def _shorten(resistances, inverse, x, y, lengths):
    """What leads from x and from y to the ground state, with the flip between them, which resists by inverse[x] inverse[y] length.

    Eight states beside each other at a time.
    """
    here, there = load(resistances, x), load(resistances, y)
    factor = multiply(load(inverse, x), load(inverse, y))
    store(resistances, x, least(here, multiply_add(factor, lengths, there)))
    store(resistances, y, least(there, multiply_add(factor, lengths, here)))


@jit
def _sweep(inverse, visible_lengths, hidden_lengths, quotient, resistances):
    """Every flip once, of eight columns and more; the lengths are tables (n_v, H) and (n_h, V)."""
    (n_visible, n_rows), (n_hidden, n_columns) = visible_lengths.shape, hidden_lengths.shape
    hidden, n_row_flips, n_states = hidden_lengths.ravel(), n_hidden - (1 if quotient else 0), n_rows * n_columns
    for h in range(n_rows):
        start = h * n_columns
        near = fill(visible_lengths[0, h]), fill(visible_lengths[1, h]), fill(visible_lengths[2, h])
        for k in range(start, start + n_columns, DOUBLES):
            here, factor = load(resistances, k), load(inverse, k)
            here = least(here, multiply_add(multiply(factor, swap1(factor)), near[0], swap1(here)))
            here = least(here, multiply_add(multiply(factor, swap2(factor)), near[1], swap2(here)))
            here = least(here, multiply_add(multiply(factor, swap4(factor)), near[2], swap4(here)))
            store(resistances, k, here)
        for i in range(3, n_visible):
            k, half, lengths = start, 1 << i, fill(visible_lengths[i, h])
            for _ in range(n_columns >> (i + 1)):
                for _ in range(half // DOUBLES):
                    _shorten(resistances, inverse, k, k + half, lengths)
                    k += DOUBLES
                k += half
    for j in range(n_row_flips):
        for h in range(n_rows):
            if not (h >> j) & 1:
                for v in range(0, n_columns, DOUBLES):
                    x = h * n_columns + v
                    _shorten(resistances, inverse, x, x + (n_columns << j), load(hidden, j * n_columns + v))
    if quotient:
        for x in range(0, n_states // 2 if n_rows > 1 else n_states, DOUBLES):
            y, lengths = n_states - DOUBLES - x, load(hidden, n_row_flips * n_columns + x % n_columns)
            here, there = load(resistances, x), reverse(load(resistances, y))
            factor = multiply(load(inverse, x), reverse(load(inverse, y)))
            store(resistances, y, reverse(least(there, multiply_add(factor, lengths, here))))
            store(resistances, x, least(here, multiply_add(factor, lengths, there)))


@jit
def _sweep_narrow(inverse, visible_lengths, hidden_lengths, quotient, resistances):
    """The plain form, of fewer columns."""
    (n_visible, n_rows), (n_hidden, n_columns) = visible_lengths.shape, hidden_lengths.shape
    for i in range(n_visible + n_hidden):
        j = i - n_visible
        for x in range(n_rows * n_columns):
            h, v = x // n_columns, x % n_columns
            y = n_rows * n_columns - 1 - x if quotient and j == n_hidden - 1 else x ^ (1 << i)
            flip = inverse[x] * inverse[y] * (visible_lengths[i, h] if j < 0 else hidden_lengths[j, v])
            resistances[x] = min(resistances[x], resistances[y] + flip)


@jit
def _path_bound(root_law, visible_rates, hidden_rates, quotient, ground):
    """sum_x pi_x R(x), R(x) the resistance of a path from x to the ground state: the shortest one, but for what further sweeps would gain.

    A sweep goes through the flips (Bellman and Ford); the conductance of one is sqrt(pi_x) sqrt(pi_y) S(x, y).
    """
    visible_lengths, hidden_lengths, resistances = 1.0 / visible_rates, 1.0 / hidden_rates, np.full(root_law.size, np.inf)
    inverse, bound, resistances[ground] = 1.0 / root_law, np.inf, 0.0
    for _ in range(SWEEPS):
        if hidden_rates.shape[1] < DOUBLES:
            _sweep_narrow(inverse, visible_lengths, hidden_lengths, quotient, resistances)
        else:
            _sweep(inverse, visible_lengths, hidden_lengths, quotient, resistances)
        last, bound = bound, 0.0
        for x in range(root_law.size):
            bound += root_law[x] * (root_law[x] * resistances[x])
        if not bound < WORTH_A_SWEEP * last:
            break
    return bound
