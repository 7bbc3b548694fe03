from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from thermokernels.model.chain import gibbs_chain
from thermokernels.quantities.landscape import MergeTree, merge_tree


def naive_saddles(chain):
    """Threshold by threshold: the components of {E < u} inside every component of {E <= u}, as frozensets of states."""
    levels = [np.unique(chain.energy)[0]]
    for energy in np.unique(chain.energy):
        if energy - levels[-1] > 1e-12 * np.ptp(chain.energy):
            levels.append(energy)
    rows = np.repeat(np.arange(chain.n_states), chain.n_spins)
    columns = (np.arange(chain.n_states)[:, None] ^ chain.flip_masks).ravel()

    def components(flooded):
        keep = flooded[rows] & flooded[columns]
        graph = scipy.sparse.coo_matrix((np.ones(keep.sum()), (rows[keep], columns[keep])), shape=(chain.n_states,) * 2)
        labels = connected_components(graph, directed=False)[1]
        return [frozenset(np.flatnonzero((labels == label) & flooded)) for label in np.unique(labels[flooded])]

    saddles = []
    for level in levels:
        slack = 0.5e-12 * np.ptp(chain.energy)
        below = components(chain.energy < level - slack)
        for component in components(chain.energy <= level + slack):
            joined = [part for part in below if part <= component]
            if len(joined) > 1:
                saddles.append((level, joined))
    return saddles


def naive_events(chain):
    """(saddle energy, barrier, multiplicity) of every event, sorted."""
    events = []
    for level, joined in naive_saddles(chain):
        minima = sorted(min(chain.energy[list(part)]) for part in joined)
        events += [(level, level - minimum, len(joined)) for minimum in minima[1:]]
    return np.array(sorted(events)).reshape(-1, 3)


def numbers(tree):
    return np.array(sorted((event.saddle_energy, event.barrier, event.multiplicity) for event in tree.events)).reshape(-1, 3)


def as_set(mask):
    return frozenset(np.flatnonzero(mask))


def random_model(seed, ties, largest=4):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, largest + 1, size=2)
    weights = rng.integers(-1, 2, size=shape) if ties else 1.5 * rng.normal(size=shape)
    fields = [rng.integers(-1, 2, size=n) if ties else rng.normal(size=n) for n in shape] if seed % 3 == 0 else [None, None]
    return weights.astype(float), *fields


@given(seed=st.integers(0, 10**6), ties=st.booleans(), full=st.booleans())
def test_tree_is_the_naive_one(seed, ties, full):
    chain = gibbs_chain(*random_model(seed, ties, largest=3 if full else 4), quotient=False if full else None)
    tree = merge_tree(chain)
    saddles = naive_saddles(chain)
    np.testing.assert_allclose(numbers(tree), naive_events(chain), atol=1e-12)
    assert tree.n_minima == len(tree.events) + 1
    assert tree.n_multiway_saddles == sum(len(joined) > 2 for _, joined in saddles)
    basins = {part for _, joined in saddles for part in joined}
    for event in tree.events:
        assert as_set(event.dying) in basins
        assert not (event.dying & event.surviving).any()
        assert event.dying_minimum == pytest.approx(chain.energy[event.dying].min(), abs=1e-12)
        assert event.surviving_minimum == pytest.approx(chain.energy[event.surviving].min(), abs=1e-12)
        assert event.surviving_minimum <= event.dying_minimum
        assert event.dying_mass == pytest.approx(chain.law[event.dying].sum(), rel=1e-12, abs=0)
        assert event.surviving_mass == pytest.approx(chain.law[event.surviving].sum(), rel=1e-12, abs=0)


@pytest.mark.judges
@pytest.mark.parametrize("ties", [False, True])
def test_barriers_are_persistences(ties):
    gudhi = pytest.importorskip("gudhi")
    rng = np.random.default_rng(5)
    noise = rng.integers(-1, 2, size=(5, 5)) if ties else rng.normal(size=(5, 5))
    chain = gibbs_chain(3 * np.eye(5) + noise)
    complex_ = gudhi.SimplexTree()
    for state in range(chain.n_states):
        complex_.insert([state], chain.energy[state])
    for state in range(chain.n_states):
        for mask in chain.flip_masks:
            complex_.insert([state, state ^ int(mask)], max(chain.energy[state], chain.energy[state ^ mask]))
    complex_.compute_persistence(persistence_dim_max=True, min_persistence=1e-9)
    pairs = complex_.persistence_intervals_in_dimension(0)
    finite = sorted((death, death - birth) for birth, death in pairs if np.isfinite(death))
    np.testing.assert_allclose(numbers(merge_tree(chain))[:, :2], np.array(finite).reshape(-1, 2), atol=1e-12)
    assert len(finite) > 3


@pytest.mark.parametrize("weights", [np.zeros((2, 3)), np.ones((3, 3)), [[0.0]], [[2.0]]])
def test_a_plateau_and_a_ferromagnet_have_one_minimum(weights):
    tree = merge_tree(gibbs_chain(weights))
    assert (tree.n_minima, tree.events) == (1, ())
    assert list(tree.orderings()) == []
    assert repr(tree) == "MergeTree(1 minima, 0 multiway saddles)"


def test_independent_pairs():
    """Pair i is a two-well system with barrier 2 W_ii; pairs cross one at a time, the weakest first."""
    couplings = np.array([0.5, 0.8, 1.7])
    tree = merge_tree(gibbs_chain(np.diag(couplings), quotient=False))
    assert tree.n_minima == 8
    assert sorted(round(event.barrier, 9) for event in tree.events) == [1.0] * 4 + [1.6] * 2 + [3.4]


def test_ferromagnet_on_the_full_space():
    chain = gibbs_chain(np.ones((2, 2)), quotient=False)
    (event,) = merge_tree(chain).events
    # One visible spin down costs 4, after which the hidden fields vanish: a plateau, flooded at once.
    assert (event.saddle_energy, event.barrier, event.multiplicity) == (0.0, 4.0, 2)
    assert {as_set(event.dying), as_set(event.surviving)} == {frozenset([0]), frozenset([15])}
    assert as_set(event.surviving) == frozenset([0])  # a perfect tie: the least state number


def test_of_equally_deep_basins_the_more_probable_survives():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(40):
        for event in merge_tree(gibbs_chain(rng.integers(-2, 3, size=(3, 4)), b=rng.integers(-1, 2, size=3))).events:
            if event.multiplicity == 2 and event.dying_minimum == event.surviving_minimum:
                assert event.surviving_mass >= event.dying_mass * (1 - 1e-9)
                found += event.surviving_mass > event.dying_mass * (1 + 1e-9) and np.argmax(event.dying) < np.argmax(event.surviving)
    assert found  # somewhere mass decided against the state number


@given(seed=st.integers(0, 10**6), ties=st.booleans())
def test_symmetries(seed, ties):
    weights = random_model(seed, ties)[0]
    rng = np.random.default_rng(seed)
    n_visible, n_hidden = weights.shape
    reference = numbers(merge_tree(gibbs_chain(weights)))
    permuted = weights[rng.permutation(n_visible)][:, rng.permutation(n_hidden)]
    gauged = rng.choice([-1.0, 1.0], size=(n_visible, 1)) * weights * rng.choice([-1.0, 1.0], size=n_hidden)
    for other in (permuted, gauged, weights.T):
        np.testing.assert_allclose(numbers(merge_tree(gibbs_chain(other))), reference, atol=1e-12)


def test_energies_that_differ_by_rounding_are_one_level():
    rng = np.random.default_rng(2)
    weights = np.eye(3)
    noisy = weights * (1 + 1e-15 * rng.normal(size=(3, 3)))
    np.testing.assert_allclose(numbers(merge_tree(gibbs_chain(noisy))), numbers(merge_tree(gibbs_chain(weights))), atol=1e-12)


def three_wells() -> MergeTree:
    """Pairs of one strength: on pairs {x, -x} the four wells of three pairs meet at one saddle."""
    return merge_tree(gibbs_chain(np.eye(3)))


def test_multiway_saddle_in_the_default_order():
    tree = three_wells()
    assert tree.n_multiway_saddles == 1
    assert [event.multiplicity for event in tree.events] == [4, 4, 4]
    for earlier, later in pairwise(tree.events):
        np.testing.assert_array_equal(later.surviving, earlier.surviving | earlier.dying)


def test_orderings_of_a_multiway_saddle():
    tree = three_wells()
    orders = list(tree.orderings())
    assert len(orders) == 24 // 2 - 1  # the first two basins commute; the default is left out
    assert len({tuple((as_set(event.dying), as_set(event.surviving)) for event in events) for events in (tree.events, *orders)}) == 12
    for events in orders:
        np.testing.assert_allclose([event.barrier for event in events], 2.0)
        assert as_set(events[-1].dying | events[-1].surviving) == as_set(tree.events[-1].dying | tree.events[-1].surviving)
        for event in events:
            assert not (event.dying & event.surviving).any()
            assert event.surviving_minimum <= event.dying_minimum


def test_orderings_keep_barriers_and_share_equal_events():
    chain = gibbs_chain([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], b=[0.3, 0.0, 0.0], c=[0.0, 0.1, 0.0])
    tree = merge_tree(chain)
    orders = list(tree.orderings())
    assert [event.multiplicity for event in tree.events] == [6] * 5 + [3] * 2
    assert len(orders) == (720 // 2 - 1) + (6 // 2 - 1)
    for events in orders:
        assert sorted(event.barrier for event in events) == pytest.approx(sorted(event.barrier for event in tree.events))
    objects = {event for events in (tree.events, *orders) for event in events}
    assert len(objects) == len({(event._dying, event._surviving) for event in objects})


def test_many_basins_take_seeded_random_orders():
    tree = merge_tree(gibbs_chain(np.eye(4)))
    assert [event.multiplicity for event in tree.events] == [8] * 7
    first, again = list(tree.orderings(seed=3)), list(tree.orderings(seed=3))
    assert 700 < len(first) <= 720
    keys = [[event._dying for event in events] for events in first]
    assert keys == [[event._dying for event in events] for events in again]
    assert keys != [[event._dying for event in events] for events in tree.orderings(seed=4)]


@pytest.mark.parametrize("kernel", ["single-site", "two-block", "alternating"])
def test_the_landscape_does_not_depend_on_the_kernel(kernel):
    weights = np.random.default_rng(1).normal(size=(3, 4))
    np.testing.assert_array_equal(numbers(merge_tree(gibbs_chain(weights, kernel=kernel))), numbers(merge_tree(gibbs_chain(weights))))


def test_an_energy_range_beyond_float64_is_refused():
    with pytest.raises(ValueError, match="finite energies and differences of them; the largest coupling is 8e"):
        merge_tree(gibbs_chain([[8e307], [8e307]]))


def test_a_tree_beyond_memory_is_refused(monkeypatch):
    chain = gibbs_chain([[1.0]])
    monkeypatch.setattr("thermokernels.common.memory.available", lambda: 10)
    with pytest.raises(ValueError, match="the merge tree of 2 states would take"):
        merge_tree(chain)
