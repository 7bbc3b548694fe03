"""Models of other libraries: the energies that those libraries compute themselves, up to a constant, on every state."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

import thermokernels as tk


def states(size, values=(-1, 1)):
    return np.array(list(itertools.product(values, repeat=size)))


def energies(W, b, c):
    """E over all spin states, visible and hidden in lexicographic order of (-1, +1)."""
    visible, hidden = states(W.shape[0]), states(W.shape[1])
    return -visible @ W @ hidden.T - (visible @ b)[:, None] - hidden @ c


def assert_equal_up_to_a_constant(left, right, tolerance=1e-12):
    differences = np.asarray(left, dtype=np.float64) - np.asarray(right, dtype=np.float64)
    np.testing.assert_allclose(differences - differences[0, 0], 0, atol=tolerance)
    assert np.ptp(left) > 1


@pytest.mark.bridges
def test_scikit_learn_by_its_free_energy():
    neural_network = pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed: pip install '.[bridges]'")
    data = np.random.default_rng(0).integers(0, 2, size=(40, 4))
    rbm = neural_network.BernoulliRBM(n_components=3, n_iter=20, learning_rate=0.5, random_state=0).fit(data)
    free = -np.log(np.exp(-energies(*tk.from_scikit_learn(rbm))).sum(axis=1, keepdims=True))
    assert_equal_up_to_a_constant(free, rbm._free_energy(states(4, (0, 1)).astype(float))[:, None])


@pytest.mark.bridges
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rbms_by_its_energy(dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    classes = pytest.importorskip("rbms.bernoulli_bernoulli.classes", reason="rbms is not installed: pip install '.[bridges]'")
    rng = np.random.default_rng(1)
    draw = lambda *shape: torch.tensor(rng.normal(size=shape), dtype=getattr(torch, dtype))  # noqa: E731
    params = classes.BBRBM(weight_matrix=draw(3, 4), vbias=draw(3), hbias=draw(4))
    pairs = [(v, h) for v in states(3, (0, 1)) for h in states(4, (0, 1))]
    visible, hidden = (torch.tensor(np.array(part), dtype=getattr(torch, dtype)) for part in zip(*pairs, strict=True))
    expected = params.compute_energy(visible, hidden).numpy().reshape(8, 16)
    assert_equal_up_to_a_constant(energies(*tk.from_rbms(params)), expected, 1e-12 if dtype == "float64" else 1e-5)


@pytest.mark.bridges
@pytest.mark.parametrize("vartype", ["SPIN", "BINARY"])
@pytest.mark.parametrize("given", ["both", "visible", "hidden", "none"])
def test_dimod_by_its_energy(vartype, given):
    dimod = pytest.importorskip("dimod", reason="dimod is not installed: pip install '.[bridges]'")
    rng = np.random.default_rng(2)
    visible, hidden = ["x", 0, "z"], ["a", ("b", 1)]
    linear = {label: rng.normal() for label in [*visible, *hidden]}
    quadratic = {pair: rng.normal() for pair in itertools.product(visible, hidden)}
    bqm = dimod.BinaryQuadraticModel(linear, quadratic, 0.7, vartype)
    sides = {"both": {"visible": visible, "hidden": hidden}, "visible": {"visible": visible}, "hidden": {"hidden": hidden}, "none": {}}
    model = tk.from_dimod(bqm, **sides[given], beta=1.5)
    assert (set(model.visible), set(model.hidden)) == (set(visible), set(hidden))
    values = (-1, 1) if vartype == "SPIN" else (0, 1)
    expected = np.array(
        [
            [1.5 * bqm.energy(dict(zip([*model.visible, *model.hidden], [*v, *h], strict=True))) for h in states(2, values)]
            for v in states(3, values)
        ]
    )
    assert_equal_up_to_a_constant(energies(*model[:3]), expected)


@pytest.mark.bridges
@pytest.mark.parametrize("given", [True, False])
def test_thrml_by_its_energy(given):
    models = pytest.importorskip("thrml.models", reason="thrml is not installed: pip install '.[bridges]'")
    thrml = pytest.importorskip("thrml")
    jnp = pytest.importorskip("jax.numpy")
    rng = np.random.default_rng(3)
    nodes = [thrml.SpinNode() for _ in range(5)]
    edges = [(nodes[3], nodes[0]), *itertools.product(nodes[:3], nodes[4:]), (nodes[1], nodes[3]), (nodes[2], nodes[3])]
    ebm = models.IsingEBM(
        nodes, edges, jnp.asarray(rng.normal(size=5), jnp.float32), jnp.asarray(rng.normal(size=len(edges)), jnp.float32), jnp.array(0.7)
    )
    blocks = thrml.Block(nodes[:3]), thrml.Block(nodes[3:])
    model = tk.from_thrml(ebm, *blocks) if given else tk.from_thrml(ebm)
    assert (model.visible, model.hidden) == (tuple(nodes[:3]), tuple(nodes[3:]))
    expected = [
        [float(ebm.energy([jnp.array(v > 0), jnp.array(h > 0)], [*blocks])) for h in states(2)] for v in states(3)
    ]  # True is spin +1
    assert_equal_up_to_a_constant(energies(*model[:3]), expected, 1e-5)


def ising(labels, fields, couplings):
    """What :func:`thermokernels.from_dimod` asks a model for."""
    return SimpleNamespace(variables=labels, to_ising=lambda: (fields, couplings, 0.0))


@pytest.mark.small
def test_sides_are_found_part_by_part():
    chain = {("a", "b"): 1.0, ("b", "c"): -2.0, ("e", "d"): 0.5}
    model = tk.from_dimod(ising("abcdef", {}, {**chain, ("a", "c"): 0.0}))  # a coupling of zero couples nothing
    assert (model.visible, model.hidden) == (("a", "c", "d", "f"), ("b", "e"))
    assert model.W.tolist() == [[-1.0, 0.0], [2.0, 0.0], [0.0, -0.5], [0.0, 0.0]]


@pytest.mark.small
@pytest.mark.parametrize(
    ("labels", "couplings", "sides", "message"),
    [
        ("abc", {("a", "b"): 1.0, ("b", "c"): 1.0, ("a", "c"): 1.0}, {}, "lie on a cycle of odd length"),
        ("ab", {("a", "b"): 1.0}, {"visible": "ab"}, "hidden must hold at least one variable"),
        ("ab", {}, {}, "hidden must hold at least one variable"),
        ("abc", {("a", "b"): 1.0}, {"visible": "a", "hidden": "b"}, "'c' is in neither"),
        ("ab", {("a", "b"): 1.0}, {"visible": "a", "hidden": "ab"}, "twice"),
        ("abc", {("a", "b"): 1.0}, {"visible": "ab"}, "'a' and 'b' are on one side"),
        ("ab", {("a", "b"): np.nan}, {}, "J must hold finite numbers"),
    ],
)
def test_dimod_names_what_does_not_fit(labels, couplings, sides, message):
    with pytest.raises(ValueError, match=message):
        tk.from_dimod(ising(labels, {}, couplings), **sides)


@pytest.mark.small
def test_what_is_no_model_is_named():
    with pytest.raises(ValueError, match=r"rbm must be a fitted BernoulliRBM of scikit-learn, with .*; SimpleNamespace has no components_"):
        tk.from_scikit_learn(SimpleNamespace())
    with pytest.raises(ValueError, match="params must be a BBRBM of the package rbms"):
        tk.from_rbms(np.ones((2, 2)))
    with pytest.raises(ValueError, match="weights must have shape"):  # Potts units have a weight for each colour
        tk.from_rbms(SimpleNamespace(weight_matrix=np.ones((2, 3, 4)), vbias=np.ones((2, 3)), hbias=np.ones(4)))
    with pytest.raises(ValueError, match="bqm must be a BinaryQuadraticModel of dimod"):
        tk.from_dimod({})
    with pytest.raises(ValueError, match="ebm must be an IsingEBM of thrml"):
        tk.from_thrml(None)
    with pytest.raises(ValueError, match=r"beta must be a positive, finite number of inverse temperature; got 0"):
        tk.from_dimod(ising("ab", {}, {("a", "b"): 1.0}), beta=0)
    ebm = SimpleNamespace(nodes=["a", "b"], biases=[0.0], edges=[("a", "b")], weights=[1.0], beta=1.0)
    with pytest.raises(ValueError, match=r"biases must have shape \(2,\)"):
        tk.from_thrml(ebm)
