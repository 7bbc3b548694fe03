"""The model as one object: what it is made of, what it is equal to, what it is written to, and who takes it."""

import copy
import pickle
import re

import numpy as np
import pytest

import adjoints
import thermokernels as tk

pytestmark = pytest.mark.small

W = np.array([[0.5, -0.2, 0.3], [0.1, 0.3, -0.7]])
B, C = np.array([0.1, -0.4]), np.array([0.2, 0.0, -0.3])
DATA = np.array([0.4, 0.3, 0.2, 0.1])
TRACE = np.tile([[1, 1], [-1, 1], [-1, -1]], (40, 1))[None]


def test_it_unpacks_as_its_arrays():
    model = tk.Model(W, B, C)
    for part, expected in zip(model, (W, B, C), strict=True):
        np.testing.assert_array_equal(part, expected)
    assert len(model) == 3
    assert model[:3] == tuple(model)
    assert model[2] is model.c
    assert (model.n_visible, model.n_hidden, model.n_spins, model.has_fields) == (2, 3, 5, True)
    plain = tk.Model(W.tolist())
    assert not plain.has_fields
    np.testing.assert_array_equal(plain.b, np.zeros(2))
    assert model.without_fields() == plain


def test_its_arrays_are_its_own_and_stay_as_they_are():
    weights = np.asfortranarray(W.astype(np.float32))
    model = tk.Model(weights)
    weights[0, 0] = 9.0
    assert model.W[0, 0] == np.float32(0.5)
    for again in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again == model
        for part in again:
            assert part.dtype == np.float64
            assert part.flags.c_contiguous
            with pytest.raises(ValueError, match="read-only"):
                part[...] = 0.0
    with pytest.raises(AttributeError, match="cannot assign"):
        model.W = W


def test_equality_and_hash_are_by_content():
    model = tk.Model(W, B, C, visible=["a", "b"], hidden=[1, 2, 3])
    same = tk.Model(W.tolist(), tuple(B), C, visible=("a", "b"), hidden=range(1, 4))
    assert model == same
    assert hash(model) == hash(same)
    assert len({model, same, tk.Model(W, B, C)}) == 2
    for other in (
        tk.Model(W * (1 + 1e-15), B, C, visible=["a", "b"], hidden=[1, 2, 3]),
        tk.Model(W, 2 * B, C, visible=["a", "b"], hidden=[1, 2, 3]),
        tk.Model(W, B, -C, visible=["a", "b"], hidden=[1, 2, 3]),
        tk.Model(W, B, C, visible=["b", "a"], hidden=[1, 2, 3]),
        tk.Model(W, B, C, visible=["a", "b"]),
        tk.Model(W.T),
        (W, B, C),
    ):
        assert model != other
    assert tk.Model([[0.0]]) == tk.Model([[-0.0]])
    assert hash(tk.Model([[0.0]])) == hash(tk.Model([[-0.0]]))


def test_what_is_shown():
    model = tk.Model(W, B, visible=["<a>", "b"])
    assert repr(model) == "Model(2 visible + 3 hidden spins, couplings up to 0.7, fields up to 0.4)"
    assert repr(tk.Model(W)) == "Model(2 visible + 3 hidden spins, couplings up to 0.7, no fields)"
    cells = [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", model._repr_html_())]
    assert cells == [
        ["", "b", "h0", "h1", "h2"],
        ["&lt;a&gt;", "0.1", "0.5", "-0.2", "0.3"],
        ["b", "-0.4", "0.1", "0.3", "-0.7"],
        ["c", "", "0", "0", "0"],
    ]
    large = tk.Model(np.arange(600.0).reshape(20, 30))._repr_html_()
    assert len(re.findall("<td>", large)) == 13 * 13
    assert "rows 1 to 12 and columns 1 to 12" in large


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"W": [1.0]}, "W must have shape"),
        ({"W": [[np.nan]]}, "W must be finite"),
        ({"W": W, "b": [1.0]}, r"b must have shape \(2,\)"),
        ({"W": W, "c": [1.0]}, r"c must have shape \(3,\)"),
        ({"W": W, "visible": ["a"]}, "visible must name each of the 2 visible spins; got 1 names"),
        ({"W": W, "hidden": ["a", "b", "a"]}, "hidden must name every spin by a name of its own"),
        ({"W": W, "visible": "ab"}, "visible must be a list of labels"),
        ({"W": W, "visible": [[], []]}, "visible must be a list of labels"),
        ({"W": W, "visible": 3}, "visible must be a list of labels"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        tk.Model(**arguments)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_a_file_gives_it_back(tmp_path, suffix):
    model = tk.Model(np.random.default_rng(0).normal(size=(3, 2)) ** 9)  # seventeen digits
    path = tmp_path / f"model{suffix}"
    model.save(path)
    assert tk.load_model(path) == model
    assert tk.load_model(str(path)) == model
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    model.without_fields().save(path)  # replaced
    assert tk.load_model(path) == model


@pytest.mark.parametrize("names", [{}, {"visible": ["a", "ä b"]}, {"visible": [7, -1], "hidden": ["x", "y", "z"]}])
def test_npz_keeps_fields_and_names(tmp_path, names):
    model = tk.Model(W, B, C, **names)
    model.save(tmp_path / "model.npz")
    again = tk.load_model(tmp_path / "model.npz")
    assert again == model
    assert all(type(mine) is type(theirs) for mine, theirs in zip(again.visible or (), model.visible or (), strict=True))


def test_what_a_file_cannot_keep(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.npz for a model with b and c: \.npy holds W alone"):
        tk.Model(W, B, C).save(tmp_path / "model.npy")
    with pytest.raises(ValueError, match=r"path must end in \.npz for a model with visible: \.csv holds W alone"):
        tk.Model(W, visible=["a", "b"]).save(tmp_path / "model.csv")
    with pytest.raises(ValueError, match=r"path must end in \.npy, \.npz or \.csv; got 'model\.txt'"):
        tk.Model(W).save("model.txt")
    with pytest.raises(ValueError, match="path must be the name of a file; got 3"):
        tk.Model(W).save(3)
    for names in (["a", 1], [True, False], [("a",), ("b",)], ["a\0", "a"], [2**70, 1]):
        with pytest.raises(ValueError, match="visible must be all words or all whole numbers to be kept in a file"):
            tk.Model(W, visible=names).save(tmp_path / "model.npz")
    with pytest.raises(FileNotFoundError):
        tk.Model(W).save(tmp_path / "none" / "model.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"b": B}, "it must hold W and may hold b, c, mask, visible, hidden and kernel; it holds b"),
        ({"W": W, "beta": 1.0}, "it holds W, beta"),
        ({"W": W, "visible": np.array([0.5, 1.5])}, "visible must be a list of words or of whole numbers"),
        ({"W": W, "hidden": np.array("abc")}, "hidden must be a list of words or of whole numbers"),
        ({"W": W, "b": C}, r"b must have shape \(2,\)"),
        ({"W": W, "visible": np.array(["a", "a"])}, "visible must name every spin by a name of its own"),
    ],
)
def test_files_that_hold_no_model(tmp_path, arrays, words):
    np.savez(tmp_path / "model.npz", **arrays)
    with pytest.raises(ValueError, match=f"the model file .*model.npz: .*{words}"):
        tk.load_model(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="path must be the name of a file; got None"):
        tk.load_model(None)


def bits(answer):
    """An answer as comparable numbers."""
    if isinstance(answer, tuple):
        return [bits(part) for part in answer]
    if isinstance(answer, tk.GibbsChain):
        return bits((answer.energy, answer.law, answer.model.W, answer.model.b, answer.model.c))
    if isinstance(answer, tk.Samples):
        return bits((answer.visible, answer.hidden))
    if isinstance(answer, tk.QStruct | tk.ProbedQ | tk.ProbedTime):
        return answer.value
    if isinstance(answer, tk.Diagnosis):
        return answer.as_dict()
    return np.asarray(answer).tolist()


TAKERS = {
    "gibbs_chain": lambda *model: tk.gibbs_chain(*model),
    "visible_law": lambda *model: tk.visible_law(*model),
    "kl_divergence": lambda *model: tk.kl_divergence(DATA, *model),
    "q_struct": lambda W, b=None, c=None: tk.q_struct(W, DATA, b=b, c=c),
    "probe_q_struct": lambda W, b=None, c=None: tk.probe_q_struct(W, DATA, seed=0, b=b, c=c),
    "sample": lambda *model: tk.sample(*model, n_chains=3, n_sweeps=4, seed=0),
    "diagnose": lambda *model: tk.diagnose(*model),
    "compare": lambda *model: [row.exact_records for row in tk.compare(TRACE, *model, kernel="alternating").rows],
    "alternating_variance_time": lambda *model: tk.alternating_variance_time(*model).value,
    "exchangeable_chain": lambda *model: tk.observable_variance_time(tk.exchangeable_chain(*model)),
    "adjoints.q_struct": lambda W, b=None, c=None: adjoints.q_struct(W, DATA, b=b, c=c, fields=True),
    "adjoints.observable_variance_time": lambda *model: adjoints.observable_variance_time(*model, fields=True),
    "adjoints.asymptotic_variance": lambda *model: adjoints.asymptotic_variance(*model, fields=True),
    "adjoints.kl_divergence": lambda *model: adjoints.kl_divergence(DATA, *model, fields=True),
    "adjoints.probe_variance_time": lambda W, b=None, c=None: adjoints.probe_variance_time(W, seed=0, b=b, c=c, fields=True),
    "adjoints.probe_q_struct": lambda W, b=None, c=None: adjoints.probe_q_struct(W, DATA, seed=0, b=b, c=c, fields=True),
}


@pytest.mark.parametrize("name", TAKERS)
def test_every_function_of_w_takes_one(name):
    """To the same bits, and not with fields beside it."""
    function, model = TAKERS[name], tk.Model(W, B, C)
    assert bits(function(model)) == bits(function(W, B, C))
    with pytest.raises(ValueError, match="b must not be given beside a Model, which has fields of its own"):
        function(model, B)
    with pytest.raises(ValueError, match="c must not be given beside a Model, which has fields of its own"):
        function(model, None, C)


def test_no_function_of_w_is_forgotten():
    import inspect

    found = {
        f"{'adjoints.' if module is adjoints else ''}{name}"
        for module in (tk, adjoints)
        for name in module.__all__
        if inspect.isfunction(getattr(module, name))
        and not name.endswith("_and_gradient")  # the same functions
        and "W" in inspect.signature(getattr(module, name)).parameters
    }
    assert found == set(TAKERS)


def test_importers_make_them():
    model = tk.from_ising({"a": 0.5}, {("x", "a"): -1.0}, visible=["a"], hidden=["x"])
    assert model == tk.Model([[1.0]], [-0.5], visible=["a"], hidden=["x"])
    assert tk.from_zero_one([[4.0]], [0.0], [0.0]) == tk.Model([[1.0]], [1.0], [1.0])
    assert tk.LabelledModel is tk.Model


class Series:
    """As of pandas: numbers whose rows have names."""

    def __init__(self, values, index):
        self.values, self.index = np.asarray(values), index

    def to_numpy(self):
        return self.values


@pytest.mark.parametrize(("field", "names"), [("b", ("s0", "s1")), ("c", ("x", "y", "z"))])
def test_fields_with_labels_are_those_of_the_spins_in_their_order(field, names):
    model = {"W": np.ones((2, 3)), "visible": ("s0", "s1"), "hidden": ("x", "y", "z")}
    values = np.arange(len(names)) / 4
    np.testing.assert_array_equal(getattr(tk.Model(**model, **{field: Series(values, names)}), field), values)
    np.testing.assert_array_equal(getattr(tk.Model(**model, **{field: Series(values, range(len(names)))}), field), values)
    with pytest.raises(ValueError, match=rf"^{field} must have the labels of the spins in their order"):
        tk.Model(**model, **{field: Series(values, names[::-1])})
