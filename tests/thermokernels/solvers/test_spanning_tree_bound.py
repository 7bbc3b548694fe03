"""The bound of 1 / gap from a spanning tree against the tree by its definition and against the gap itself."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.solvers.spanning_tree_bound import quick_bound

small = pytest.mark.small


def chain_of(shape, quotient, seed=0):
    draws = np.random.default_rng([seed, *shape])
    W, b, c = draws.normal(size=shape), draws.normal(size=shape[0]), draws.normal(size=shape[1])
    return tk.gibbs_chain(W) if quotient else tk.gibbs_chain(W, b, c)


@small
@pytest.mark.parametrize("quotient", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 2), (4, 1), (1, 4), (4, 4)])
def test_every_state_flips_the_easiest_spin_back(shape, quotient):
    chain = chain_of(shape, quotient)
    ground, n_states, n_flips = int(chain.energy.argmin()), chain.n_states, chain.n_spins - chain.quotient
    masses, total = chain.law.copy(), 0.0
    for difference in range(n_states - 1, 0, -1):
        x = difference ^ ground
        h, v = divmod(x, chain.shape[1])
        rates = {}
        for i in range(n_flips):
            if difference >> i & 1:
                j = i - shape[0]
                rates[i] = chain.visible_flips[v >> i & 1, i, h] if j < 0 else chain.hidden_flips[h >> j & 1, j, v]
        easiest = max(rates, key=rates.__getitem__)
        total += masses[x] / (chain.law[x] * rates[easiest])
        masses[x ^ 1 << easiest] += masses[x]
    assert quick_bound(chain) == pytest.approx(total, rel=1e-12, abs=0)


@pytest.mark.parametrize("shape", [(3, 3), (5, 4)])
def test_it_bounds_the_relaxation_time(shape):
    chain = chain_of(shape, True)
    assert 1.0 / tk.spectral_gap(chain) <= quick_bound(chain) * (1 + 1e-12)
