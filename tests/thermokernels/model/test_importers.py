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
        (
            ["a", "x"],
            {("a", "x"): 1.0},
            {"visible": ["a", "zz"], "hidden": ["x"]},
            "visible must name variables of the model; it has no 'zz'",
        ),
        (["a", "x"], {("a", "x"): 1.0}, {"hidden": ["x", 0]}, "hidden must name variables of the model; it has no 0"),
        (["a", "x"], {("a", "x"): 1.0}, {"hidden": 3}, "hidden must be a list of labels; got 3"),
    ],
)
def test_dimod_names_what_does_not_fit(labels, couplings, sides, message):
    with pytest.raises(ValueError, match=message):
        tk.from_dimod(ising(labels, {}, couplings), **sides)


@pytest.mark.small
def test_what_is_no_model_is_named():
    with pytest.raises(ValueError, match=r"rbm must be a fitted BernoulliRBM of scikit-learn; got a SimpleNamespace$"):
        tk.from_scikit_learn(SimpleNamespace(components_=np.ones((2, 2)), intercept_visible_=np.ones(2), intercept_hidden_=np.ones(2)))
    with pytest.raises(
        ValueError, match=r"params must be a BBRBM or IIRBM of the package rbms, .* got 'ndarray', which is read as neither"
    ):
        tk.from_rbms(np.ones((2, 2)))
    with pytest.raises(ValueError, match="bqm must be a BinaryQuadraticModel of dimod"):
        tk.from_dimod({})
    with pytest.raises(ValueError, match="ebm must be an IsingEBM of thrml"):
        tk.from_thrml(None)
    with pytest.raises(ValueError, match=r"beta must be a positive, finite number of inverse temperature; got 0"):
        tk.from_dimod(ising("ab", {}, {("a", "b"): 1.0}), beta=0)
    for beta, message in (([1.0, 2.0], r"beta must be one number; got shape \(2,\)"), (np.nan, "beta must be finite")):
        with pytest.raises(ValueError, match=message):
            tk.from_thrml(SimpleNamespace(nodes=["a", "b"], biases=[0.0, 1.0], edges=[("a", "b")], weights=[1.0], beta=beta))
    ebm = SimpleNamespace(nodes=["a", "b"], biases=[0.0], edges=[("a", "b")], weights=[1.0], beta=1.0)
    with pytest.raises(ValueError, match=r"biases must have shape \(2,\)"):
        tk.from_thrml(ebm)


def machine(name, **attributes):
    """A stand-in for the machines of rbms, released or not: they differ by what they say of themselves."""
    return SimpleNamespace(name=name, weight_matrix=WEIGHTS, vbias=np.array([0.3, -0.1]), hbias=np.array([0.2, 0.0, -0.4]), **attributes)


WEIGHTS = np.array([[1.0, -0.5, 0.25], [0.75, 2.0, -1.0]])


@pytest.mark.small
def test_machines_of_spins_keep_their_couplings():
    for given in (machine("IIRBM"), machine("IIRBM", visible_type="ising")):
        model = tk.from_rbms(given)
        assert model == tk.Model(WEIGHTS, given.vbias, given.hbias, kernel="alternating")
    quarter = tk.from_rbms(machine("BBRBM", visible_type="bernoulli"))
    np.testing.assert_array_equal(quarter.W, WEIGHTS / 4)
    law = tk.visible_law(model)
    assert np.abs(tk.visible_law(quarter) - law).sum() / 2 > 0.1  # what taking one for the other costs


@pytest.mark.small
@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("PBRBM", {}),
        ("BGRBM", {"visible_type": "bernoulli"}),
        ("IGRBM", {"visible_type": "ising"}),
        ("BEBM", {}),
        ("SomethingNew", {}),
        ("BBRBM", {"visible_type": "ising"}),
        ("IIRBM", {"visible_type": "potts"}),
    ],
)
def test_machines_of_other_units_are_refused_by_name(name, attributes):
    typed = f" with visible units of type '{attributes['visible_type']}'" if attributes else ""
    with pytest.raises(ValueError, match=f"got '{name}'{typed}, which is read as neither"):
        tk.from_rbms(machine(name, **attributes))


@pytest.mark.bridges
def test_every_machine_of_rbms():
    """Each class of the installed package is read, or refused by its name and the version."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    machines = pytest.importorskip("rbms.map_model", reason="rbms is not installed: pip install '.[bridges]'").map_model
    assert {"BBRBM", "PBRBM"} <= {*machines}
    for name, kind in machines.items():
        if name in ("BBRBM", "IIRBM"):
            made = kind(weight_matrix=torch.ones(2, 3), vbias=torch.ones(2), hbias=torch.ones(3))
            assert tk.from_rbms(made).kernel == "alternating"
        else:
            made = kind(weight_matrix=torch.ones(2, 4, 3), vbias=torch.ones(2, 4), hbias=torch.ones(3))
            with pytest.raises(ValueError, match=rf"got '{name}'.* \(rbms \d+\.\d+.*\), which is read as neither"):
                tk.from_rbms(made)


@pytest.mark.bridges
def test_other_classes_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install '.[bridges]'")
    from sklearn.decomposition import PCA
    from sklearn.neural_network import BernoulliRBM

    class Gaussian(BernoulliRBM):
        def _free_energy(self, v):
            return (v**2).sum(axis=1)

    class Named(BernoulliRBM):
        pass

    data = np.eye(3)
    with pytest.raises(ValueError, match=rf"got a PCA \(sklearn {sklearn.__version__}\)"):
        tk.from_scikit_learn(PCA(2).fit(data))
    with pytest.raises(ValueError, match="Gaussian replaces its _free_energy, so that its energy may be another"):
        tk.from_scikit_learn(Gaussian(2, random_state=0).fit(data))
    with pytest.raises(ValueError, match=r"with components_, .*; BernoulliRBM has no components_"):
        tk.from_scikit_learn(BernoulliRBM(2))
    models = [tk.from_scikit_learn(kind(2, random_state=0).fit(data)) for kind in (Named, BernoulliRBM)]
    assert models[0] == models[1]
    assert models[0].kernel == "alternating"


@pytest.mark.bridges
def test_nodes_of_thrml_are_told_apart():
    models = pytest.importorskip("thrml.models", reason="thrml is not installed: pip install '.[bridges]'")
    thrml = pytest.importorskip("thrml")
    jnp = pytest.importorskip("jax.numpy")
    nodes = [thrml.SpinNode() for _ in range(3)]

    def ebm(edges):
        return models.IsingEBM(nodes, edges, jnp.zeros(3), jnp.ones(len(edges)), jnp.array(1.0))

    triangle = [(nodes[0], nodes[1]), (nodes[1], nodes[2]), (nodes[0], nodes[2])]
    with pytest.raises(ValueError, match=r"SpinNode\(\) number 1 and SpinNode\(\) number 2 are coupled and lie on a cycle of odd length"):
        tk.from_thrml(ebm(triangle))
    with pytest.raises(ValueError, match=r"SpinNode\(\) number 2 is in neither"):
        tk.from_thrml(ebm(triangle[:1]), visible=nodes[:1], hidden=nodes[1:2])
    with pytest.raises(ValueError, match=r"visible must name variables of the model; it has no SpinNode\(\)"):
        tk.from_thrml(ebm(triangle[:2]), visible=[nodes[0], thrml.SpinNode()])
    with pytest.raises(ValueError, match=r"SpinNode\(\) number 0 and SpinNode\(\) number 1 are on one side"):
        tk.from_thrml(ebm(triangle[:2]), visible=nodes[:2], hidden=nodes[2:])
    assert tk.from_thrml(ebm(triangle[:2])).kernel == "alternating"


class Table:
    """What pandas hands over: numbers with the labels of their rows and columns."""

    def __init__(self, values, index, columns=None):
        self.values, self.index = np.asarray(values), index
        if columns is not None:
            self.columns = columns

    def to_numpy(self):
        return self.values


@pytest.mark.small
def test_labels_of_a_table_name_the_spins():
    model = tk.Model(Table(WEIGHTS, ["a", "b"], ["x", "y", "z"]), b=Table([0.5, 1.0], ["a", "b"]))
    assert (model.visible, model.hidden, model.b.tolist()) == (("a", "b"), ("x", "y", "z"), [0.5, 1.0])
    assert tk.Model(Table(WEIGHTS, range(2), range(3))) == tk.Model(WEIGHTS)
    with pytest.raises(ValueError, match=r"b must have the labels of the spins in their order; it has \('b', 'a'\) and the spins are"):
        tk.Model(Table(WEIGHTS, ["a", "b"], ["x", "y", "z"]), b=Table([1.0, 0.5], ["b", "a"]))
    with pytest.raises(ValueError, match=r"kernel must be one of 'single-site', .*'symmetrised-alternating'; got 'gibbs'"):
        tk.Model(WEIGHTS, kernel="gibbs")


@pytest.mark.small
def test_the_kernel_of_a_model_is_kept(tmp_path):
    model = tk.from_rbms(machine("IIRBM"))
    model.save(tmp_path / "model.npz")
    assert tk.load_model(tmp_path / "model.npz") == model
    assert model.without_fields().kernel == "alternating"
    assert model != tk.Model(*model)
    with pytest.raises(ValueError, match=r"path must end in .npz for a model with b and c and kernel"):
        model.save(tmp_path / "model.csv")
