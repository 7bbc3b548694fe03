"""A bound of the relaxation time that costs next to nothing, from one spanning tree of the states.

The potential of a centred source is driven along a tree: Thomson's principle (Doyle and Snell, Random Walks and Electric Networks, 1984,
section 1.3.5) says that no flow with divergence sqrt(pi) r dissipates less than r' A^+ r, so the flow along a spanning tree T gives

    r' A^+ r <= sum_{e in T} (sum_{x above e} sqrt(pi_x) r_x)^2 / c_e <= |r|^2 sum_{e in T} pi(above e) / c_e,      c_xy = pi_x P(x, y),

by Cauchy and Schwarz: the sum over the tree bounds 1 / gap from above. Any tree will do.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import scipy
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.model.chain import GibbsChain

# Of chains that are still in use: a value asks for its bound when it decides how far to solve, and again when it is done.
_quick_bounds: WeakKeyDictionary[GibbsChain, float] = WeakKeyDictionary()


def quick_bound(chain: GibbsChain) -> float:
    """A bound of 1 / gap in steps from the tree that flips spins back to the ground state, the easiest flip first; single-site kernel."""
    if (known := _quick_bounds.get(chain)) is None:
        known = _quick_bounds[chain] = _quick_bound(chain)
    return known


def _quick_bound(chain: GibbsChain) -> float:
    return float(_flip_tree(chain.law, chain.visible_flips, chain.hidden_flips, int(chain.energy.argmin())))


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


@jit
def _easiest_flips(visible_flips, hidden_flips, ground, h, easiest, towards):
    """For the states (h, v): the rate of the easiest flip of a spin that is not as in the ground state, and the bit it changes."""
    n_visible, n_columns, other_row = visible_flips.shape[1], easiest.size, h ^ (ground // easiest.size)
    easiest[0], towards[0] = -1.0, 0
    for i in range(n_visible):  # by doubling: half of the states differ in spin i
        half, in_ground = 1 << i, (ground >> i) & 1
        rate = visible_flips[1 - in_ground, i, h]
        own, others = half * in_ground, half * (1 - in_ground)
        for v in range(half):
            best, flip = easiest[v], towards[v]
            easiest[own + v], towards[own + v] = best, flip
            easiest[others + v], towards[others + v] = max(rate, best), half if rate > best else flip
    for j in range(hidden_flips.shape[1]):
        if (other_row >> j) & 1:
            rates, flip = hidden_flips[(h >> j) & 1, j], n_columns << j
            for v in range(n_columns):
                if rates[v] > easiest[v]:
                    easiest[v], towards[v] = rates[v], flip


@jit
def _flip_tree(law, visible_flips, hidden_flips, ground):
    """sum over the states x != ground of pi(subtree of x) / c(x, parent of x); parents have a smaller x ^ ground."""
    n_columns, masses, bound = hidden_flips.shape[2], law.copy(), 0.0
    easiest, towards = np.empty(n_columns), np.empty(n_columns, np.int64)
    for other_row in range(law.size // n_columns - 1, -1, -1):
        h = other_row ^ (ground // n_columns)
        _easiest_flips(visible_flips, hidden_flips, ground, h, easiest, towards)
        for difference in range(n_columns - 1, -1 if other_row else 0, -1):
            v = difference ^ (ground % n_columns)
            state = h * n_columns + v
            bound += masses[state] / (law[state] * easiest[v])
            masses[state ^ towards[v]] += masses[state]
    return bound
