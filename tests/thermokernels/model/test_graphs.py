"""Graphs as models: two colours or the odd cycle that forbids them, energies edge by edge, and which couplings exist."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thermokernels as tk
from thermokernels.model.graphs import two_colours


def energy(model, spins):
    """E of the model at the spins by label."""
    v, h = (np.array([spins[label] for label in side]) for side in (model.visible, model.hidden))
    return -(v @ model.W @ h + model.b @ v + model.c @ h)


def grid(n, m):
    """Nodes and edges of a square grid."""
    nodes = list(itertools.product(range(n), range(m)))
    edges = [(a, b) for a, b in itertools.combinations(nodes, 2) if abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1]
    return nodes, edges


@pytest.mark.small
def test_a_grid_is_its_edges():
    nodes, edges = grid(3, 3)
    rng = np.random.default_rng(0)
    weights, fields = rng.normal(size=len(edges)), dict(zip(nodes, rng.normal(size=9), strict=True))
    model = tk.from_graph([(*edge, w) for edge, w in zip(edges, weights, strict=True)], fields=fields, beta=1.5)
    assert model.n_couplings == len(edges) == 12
    assert {frozenset((model.visible[i], model.hidden[j])) for i, j in np.argwhere(model.mask)} == set(map(frozenset, edges))
    assert {sum(node) % 2 for node in model.visible} == {0}  # the colours of a chess board
    energies = []
    for values in itertools.islice(itertools.product((-1, 1), repeat=9), 0, 512, 7):
        spins = dict(zip(nodes, values, strict=True))
        plain = sum(w * spins[a] * spins[b] for (a, b), w in zip(edges, weights, strict=True)) + sum(fields[x] * spins[x] for x in nodes)
        energies.append((energy(model, spins), -1.5 * plain))
    np.testing.assert_allclose(*zip(*energies, strict=True), atol=1e-13)


@pytest.mark.bridges
def test_graphs_of_networkx():
    networkx = pytest.importorskip("networkx", reason="networkx is not installed: pip install '.[bridges]'")
    graph = networkx.grid_2d_graph(2, 3)
    model = tk.from_graph(graph)  # without weights: a topology, whose couplings are zero and exist
    assert (model.n_couplings, model.W.any(), model.n_spins) == (7, False, 6)
    for k, edge in enumerate(graph.edges):
        graph.edges[edge]["J"] = 0.1 * (k + 1)
    weighted = tk.from_graph(graph, weight="J", visible=[(0, 1), (1, 0), (1, 2)])
    assert weighted.hidden == ((0, 0), (0, 2), (1, 1))
    for a, b, data in graph.edges(data=True):
        i, j = (
            (weighted.visible.index(a), weighted.hidden.index(b))
            if a in weighted.visible
            else (weighted.visible.index(b), weighted.hidden.index(a))
        )
        assert weighted.W[i, j] == data["J"]
    del graph.edges[(0, 0), (0, 1)]["J"]
    with pytest.raises(ValueError, match=r"graph must have a weight \('J'\) at every edge, or at none; \(\(0, 0\), \(0, 1\)\) has none"):
        tk.from_graph(graph, weight="J")
    with pytest.raises(ValueError, match=r"lie on a cycle of odd length \(\d, \d, \d\), so no choice"):
        tk.from_graph(networkx.complete_graph(3))


@pytest.mark.small
@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ("abc", "graph must be a graph of networkx or a list of edges; got 'abc'"),
        (3, "graph must be a graph of networkx or a list of edges; got 3"),
        ([("a",)], r"graph must hold edges \(i, j\) or \(i, j, weight\); got \('a',\)"),
        ([(["a"], "b")], r"graph must have hashable labels; got \['a'\]"),
        ([("a", "b", "1")], r"graph must have numbers as weights; \('a', 'b'\) has '1'"),
        ([("a", "b", np.nan)], "J must hold finite numbers"),
        ([("a", "b", 1.0), ("b", "c")], r"at every edge, or at none; \('b', 'c'\) has none"),
        ([("a", "a", 1.0)], r"'a' and 'a' are coupled and lie on a cycle of odd length \('a'\)"),
        ([], "hold at least one variable"),
    ],
)
def test_graphs_that_are_none(graph, words):
    with pytest.raises(ValueError, match=words):
        tk.from_graph(graph)


@pytest.mark.small
def test_an_odd_cycle_is_named():
    ring = [(k, (k + 1) % 5) for k in range(5)]
    with pytest.raises(ValueError, match=r"lie on a cycle of odd length \((\d, ){4}\d\), so no choice") as caught:
        tk.from_graph([*ring, (0, 7), (7, 8)])
    named = [int(word) for word in str(caught.value).split("(")[1].split(")")[0].split(", ")]
    assert set(named) == set(range(5))
    assert all((a - b) % 5 in (1, 4) for a, b in zip(named, [*named[1:], named[0]], strict=True))
    with pytest.raises(ValueError, match="and 3 more"):
        tk.from_graph([(k, (k + 1) % 15) for k in range(15)])


@pytest.mark.small
@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=14))
def test_two_colours_or_an_odd_cycle(n, pairs):
    """Of random graphs: every edge joins the two sides, or the cycle that is named is one, and odd."""
    edges = [(a % n, b % n) for a, b in pairs if a % n != b % n]
    try:
        visible, hidden = two_colours(range(n), edges)
    except ValueError as error:
        cycle = [int(word) for word in str(error).split("(")[1].split(")")[0].split(", ")]
        assert len(cycle) % 2 == 1
        assert len(set(cycle)) == len(cycle)
        ends = {frozenset(edge) for edge in edges}
        assert all(frozenset(pair) in ends for pair in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    else:
        assert sorted([*visible, *hidden]) == list(range(n))
        assert all((a in visible) != (b in visible) for a, b in edges)


@pytest.mark.small
def test_an_interaction_of_zero_exists_and_a_missing_one_does_not():
    bqm = SimpleNamespace(variables=list("axby"), to_ising=lambda: ({}, {("a", "x"): 0.0, ("b", "y"): 1.0, ("a", "y"): -1.0}, 0.0))
    model = tk.from_dimod(bqm)
    assert (model.visible, model.hidden) == (("a", "b"), ("x", "y"))
    assert model.mask.tolist() == [[True, True], [False, True]]
    empty = SimpleNamespace(variables=list("ax"), to_ising=lambda: ({"a": 1.0}, {}, 0.0))
    with pytest.raises(ValueError, match="the couplings must join visible and hidden variables; there are none"):
        tk.from_dimod(empty, visible=["a"])


@pytest.mark.bridges
def test_programs_of_thrml():
    models = pytest.importorskip("thrml.models", reason="thrml is not installed: pip install '.[bridges]'")
    thrml = pytest.importorskip("thrml")
    jnp = pytest.importorskip("jax.numpy")
    places, edges = grid(2, 3)
    nodes = {place: thrml.SpinNode() for place in places}
    ebm = models.IsingEBM(
        list(nodes.values()), [(nodes[a], nodes[b]) for a, b in edges], jnp.zeros(6), 0.25 * jnp.ones(len(edges)), jnp.array(2.0)
    )
    colours = [[nodes[place] for place in places if sum(place) % 2 == side] for side in (1, 0)]
    blocks = [thrml.Block(colour) for colour in colours]
    program = models.IsingSamplingProgram(ebm, blocks, [])
    one_by_one = tuple(thrml.Block([node]) for node in colours[0])
    for given_blocks in (program, blocks, program.gibbs_spec, [one_by_one, blocks[1]]):
        model = tk.from_thrml(ebm, blocks=given_blocks)
        assert (model.visible, model.hidden) == (tuple(colours[0]), tuple(colours[1]))  # resampled first is visible
        assert (model.n_couplings, model.kernel, set(model.W[model.mask])) == (7, "alternating", {0.5})
    with pytest.raises(ValueError, match="blocks must be given in place of visible and hidden"):
        tk.from_thrml(ebm, blocks=blocks, visible=colours[0])
    with pytest.raises(
        ValueError, match="blocks must be the two free blocks of a program, one for each colour of the graph; got 6 of them"
    ):
        tk.from_thrml(ebm, blocks=[thrml.Block([node]) for node in nodes.values()])
    with pytest.raises(ValueError, match=r"blocks must be the two free blocks .* got 3"):
        tk.from_thrml(ebm, blocks=3)
    clamped = models.IsingSamplingProgram(ebm, blocks[:1], blocks[1:])
    with pytest.raises(ValueError, match="blocks must be of a program without clamped blocks"):
        tk.from_thrml(ebm, blocks=clamped)
