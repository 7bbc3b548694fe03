"""Merge trees against the zero-dimensional persistence of gudhi: generic energies, ties and plateaus, fields, pairs and all states."""

import numpy as np
import pytest

import thermokernels as tk

pytestmark = pytest.mark.judges

gudhi = pytest.importorskip("gudhi", reason="gudhi is not installed: pip install '.[judges]'")

RNG = np.random.default_rng(21)
MODELS = {
    "generic": (2 * RNG.normal(size=(4, 4)), None, None, None),
    "all states": (2 * RNG.normal(size=(4, 3)), None, None, False),
    "fields": (2 * RNG.normal(size=(3, 5)), RNG.normal(size=3), RNG.normal(size=5), None),
    "integers": (RNG.integers(-2, 3, size=(5, 5)), None, None, None),
    "integers, all states": (RNG.integers(-1, 2, size=(4, 4)), None, None, False),
    "integers, fields": (RNG.integers(-2, 3, size=(4, 4)), RNG.integers(-1, 2, size=4), RNG.integers(-1, 2, size=4), None),
    "independent pairs": (np.diag([1.0, 1.0, 2.0, 3.0]), None, None, False),
    "plateau": (np.zeros((3, 3)), None, None, None),
}


def persistence(chain):
    """(saddle, persistence) of every component that dies, the least minimum, and the number that never die."""
    tree = gudhi.SimplexTree()
    for state in range(chain.n_states):
        tree.insert([state], chain.energy[state])
    for state in range(chain.n_states):
        for mask in chain.flip_masks:
            other = state ^ int(mask)
            tree.insert([state, other], max(chain.energy[state], chain.energy[other]))
    tree.compute_persistence(persistence_dim_max=True, min_persistence=1e-9)
    pairs = tree.persistence_intervals_in_dimension(0)
    dying = sorted((death, death - birth) for birth, death in pairs if np.isfinite(death))
    return np.array(dying).reshape(-1, 2), pairs[~np.isfinite(pairs[:, 1])]


@pytest.mark.parametrize("name", MODELS)
def test_events_are_the_pairs_of_persistence(name):
    W, b, c, quotient = MODELS[name]
    chain = tk.gibbs_chain(W, b, c, quotient=quotient)
    tree = tk.merge_tree(chain)
    dying, (survivor,) = persistence(chain)
    ours = np.array(sorted((event.saddle_energy, event.barrier) for event in tree.events)).reshape(-1, 2)
    np.testing.assert_allclose(ours, dying, atol=1e-10)
    assert survivor[0] == chain.energy.min()
    assert tree.n_minima == len(dying) + 1


def test_many_small_models_with_ties():
    rng = np.random.default_rng(22)
    events = 0
    for _ in range(60):
        shape = rng.integers(2, 5, size=2)
        chain = tk.gibbs_chain(rng.integers(-2, 3, size=shape), quotient=bool(rng.integers(2)))
        dying, _ = persistence(chain)
        ours = np.array(sorted((event.saddle_energy, event.barrier) for event in tk.merge_tree(chain).events)).reshape(-1, 2)
        np.testing.assert_allclose(ours, dying, atol=1e-10)
        events += len(dying)
    assert events > 30
