"""The bounds of 1 / gap from paths to the ground state against shortest paths, against each other and against the gap itself."""

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

import thermokernels as tk
from thermokernels.solvers.spanning_tree_bound import quick_bound, sharp_bound

small = pytest.mark.small
SHAPES = [(1, 1), (1, 3), (2, 3), (3, 2), (4, 1), (1, 4), (4, 4), (5, 3)]


def chain_of(shape, quotient, scale=1.0):
    draws = np.random.default_rng([3, *shape])
    W, b, c = scale * draws.normal(size=shape), draws.normal(size=shape[0]), draws.normal(size=shape[1])
    return tk.gibbs_chain(W) if quotient else tk.gibbs_chain(W, b, c)


def shortest(chain):
    """sum_x pi_x R(x) with the shortest paths of all; of two flips between the same pairs {x, -x} one is taken."""
    flow, states = chain.law[:, None] * chain.transition_matrix(), np.arange(chain.n_states)
    rows = np.repeat(states, chain.n_spins)
    columns = (states[:, None] ^ np.asarray(chain.flip_masks)).ravel()
    shared = np.array([np.sum(np.asarray(chain.flip_masks) == x ^ y) for x, y in zip(rows, columns, strict=True)])
    _, first = np.unique(rows * chain.n_states + columns, return_index=True)
    lengths = (shared / flow[rows, columns])[first]
    edges = coo_array((lengths, (rows[first], columns[first])), shape=flow.shape)
    return chain.law @ dijkstra(edges.tocsr(), indices=int(chain.energy.argmin()))


@small
@pytest.mark.parametrize("quotient", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_paths_of_the_quick_bound_are_nearly_the_shortest(shape, quotient):
    chain = chain_of(shape, quotient)
    assert shortest(chain) * (1 - 1e-12) <= quick_bound(chain) <= 1.3 * shortest(chain)


@pytest.mark.parametrize("scale", [1.0, 3.0, 6.0])
@pytest.mark.parametrize("shape", [(3, 3), (5, 4)])
def test_they_bound_the_relaxation_time(shape, scale):
    chain = chain_of(shape, True, scale)
    assert 1.0 / tk.spectral_gap(chain) <= quick_bound(chain) <= 2.0 * sharp_bound(chain)


def test_a_law_that_underflows_bounds_nothing():
    assert not quick_bound(tk.gibbs_chain([[1000.0, 1000.0]])) < np.inf
