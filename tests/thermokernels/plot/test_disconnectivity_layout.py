"""The disconnectivity graph against the merge tree that it draws."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.plot.disconnectivity_layout import Branch, layout


def branches(root):
    return [root] + [below for child in root.children for below in branches(child)]


@pytest.fixture(scope="module")
def rugged():
    generator = np.random.default_rng(6)
    return tk.gibbs_chain(np.sign(generator.normal(size=(6, 6))) + 0.2 * generator.normal(size=(6, 6)))


def test_a_graph_of_two_basins():
    chain = tk.gibbs_chain([[1.0, 0.0], [0.0, 2.0]])
    root, left_out = layout(chain)
    assert left_out == 0
    assert [(leaf.bottom, leaf.top, leaf.state) for leaf in root.leaves()] == [(-3.0, -1.0, 0), (-3.0, -1.0, 5)]
    assert root.bottom == -1.0
    assert root.mass == pytest.approx(1.0)


def test_the_graph_has_the_minima_and_saddles_of_the_tree(rugged):
    tree = tk.merge_tree(rugged)
    root, left_out = layout(rugged, max_basins=tree.n_minima)
    assert left_out == 0
    leaves = root.leaves()
    assert len(leaves) == tree.n_minima > 5
    assert [leaf.position for leaf in leaves] == list(range(tree.n_minima))
    np.testing.assert_allclose(
        sorted(leaf.bottom for leaf in leaves), sorted([float(rugged.energy.min()), *(event.dying_minimum for event in tree.events)])
    )
    saddles = [branch.bottom for branch in branches(root) for _ in branch.children[1:]]
    np.testing.assert_allclose(sorted(saddles), [event.saddle_energy for event in tree.events])
    assert all(branch.bottom < branch.top for branch in branches(root))


def test_masses_are_those_of_the_events(rugged):
    tree = tk.merge_tree(rugged)
    root, _ = layout(rugged, max_basins=tree.n_minima)
    drawn = sorted(branch.mass for branch in branches(root) if branch is not root)
    events = sorted(mass for event in tree.events for mass in (event.dying_mass, event.surviving_mass))
    np.testing.assert_allclose(drawn, events, rtol=1e-12)


def test_the_least_persistent_basins_are_left_out_first(rugged):
    events = tk.merge_tree(rugged).events
    root, left_out = layout(rugged, max_basins=4)
    assert len(root.leaves()) == 4
    assert left_out == len(events) - 3
    kept = sorted(event.dying_minimum for event in sorted(events, key=lambda event: -event.barrier)[:3])
    deepest = float(rugged.energy.min())
    np.testing.assert_allclose(sorted(leaf.bottom for leaf in root.leaves()), sorted([deepest, *kept]))


def test_a_saddle_of_several_basins_is_one_junction():
    # Three decoupled equal pairs: minima that differ in one pair meet at saddles of the same energy.
    root, _ = layout(tk.gibbs_chain(np.eye(3)))
    assert max(len(branch.children) for branch in branches(root)) > 2


def test_values_are_means_over_the_basins(rugged):
    spins = rugged.spins().astype(float)
    product = spins[:, 0] * spins[:, 5]
    root, _ = layout(rugged, product)
    assert root.value == pytest.approx(float(rugged.law @ product))
    assert all(-1 <= leaf.value <= 1 for leaf in root.leaves())


def test_a_funnel_is_a_single_line():
    root, left_out = layout(tk.gibbs_chain([[0.3]]))
    assert isinstance(root, Branch)
    assert root.leaves() == [root]
    assert left_out == 0
    assert root.top > root.bottom
