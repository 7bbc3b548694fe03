"""Models and trainings in files: every kind that is read, in whose convention, and what is refused."""

import numpy as np
import pytest

import thermokernels as tk

STACK = np.arange(12.0).reshape(3, 2, 2) / 10


def test_stacks_of_couplings(tmp_path):
    np.save(tmp_path / "W.npy", STACK)
    np.savez(tmp_path / "W.npz", W=STACK, b=STACK[:, 0])
    plain, fields = tk.load_history(tmp_path / "W.npy"), tk.load_history(str(tmp_path / "W.npz"))
    assert list(plain) == list(fields) == ["0", "1", "2"]
    assert plain["2"] == tk.Model(STACK[2])
    assert fields["1"] == tk.Model(STACK[1], STACK[1, 0])


def test_a_folder_in_the_order_of_its_numbers(tmp_path):
    for epoch in (10, 9, 1):
        np.save(tmp_path / f"epoch{epoch}.npy", epoch * np.ones((2, 2)))
    (tmp_path / "notes.txt").write_text("none of ours")
    assert list(tk.load_history(tmp_path)) == ["epoch1", "epoch9", "epoch10"]
    assert tk.load_history(tmp_path)["epoch9"].W.max() == 9


PARAMETERS = {"weight_matrix": STACK[0], "vbias": np.zeros(2), "hbias": np.ones(2)}


def training_of_rbms(path, model_type):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(path, "w") as file:
        if model_type:
            file["model_type"] = model_type
        for update in (100, 9):
            group = file.create_group(f"update_{update}").create_group("params")
            for name, value in PARAMETERS.items():
                group[name] = value * update
    return path


def test_trainings_of_rbms(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    training_of_rbms(tmp_path / "rbm.h5", "BBRBM")
    history = tk.load_history(tmp_path / "rbm.h5")
    assert list(history) == ["9", "100"]
    expected = tk.from_zero_one(100 * STACK[0], np.zeros(2), 100 * np.ones(2))
    np.testing.assert_array_equal(history["100"].W, expected.W)
    assert history["100"].kernel == "alternating"
    assert tk.load_model(tmp_path / "rbm.h5") == history["100"]
    with h5py.File(tmp_path / "rbm.h5", "a") as file:
        del file["model_type"]
        file["model_type"] = "PBRBM"
    with pytest.raises(ValueError, match=r"it has 2 such groups and the model_type 'PBRBM'$"):
        tk.load_history(tmp_path / "rbm.h5")
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF")
    with pytest.raises(ValueError, match="it cannot be read as a training of rbms"):
        tk.load_history(tmp_path / "broken.h5")


def test_a_training_of_spins_is_not_scaled(tmp_path):
    """An IIRBM of rbms has spins +1 and -1; where the file does not say what it holds, the caller does."""
    spins = tk.Model(100 * STACK[0], np.zeros(2), 100 * np.ones(2), kernel="alternating")
    units = tk.load_model(training_of_rbms(tmp_path / "units.h5", "BBRBM"))
    assert tk.load_model(training_of_rbms(tmp_path / "spins.h5", "IIRBM")) == spins
    assert tk.load_model(tmp_path / "spins.h5", "pm1") == spins
    with pytest.raises(ValueError, match=r"spins\.h5: it holds a IIRBM, whose convention is pm1; got zero-one, leave it out$"):
        tk.load_model(tmp_path / "spins.h5", "zero-one")
    silent = training_of_rbms(tmp_path / "silent.h5", None)
    with pytest.raises(ValueError, match=r"silent\.h5: it does not say whether its units are 0 and 1 .* say so by the convention"):
        tk.load_history(silent)
    assert tk.load_history(silent, "pm1")["100"] == spins
    assert tk.load_history(silent, convention="zero-one")["100"] == units


def test_plain_parameters_are_those_of_spins_unless_it_is_said(tmp_path):
    W, b = STACK[1], np.array([0.5, -0.5])
    model = tk.Model(W, b, visible=["x", "y"], kernel="alternating")
    model.save(tmp_path / "model.npz")
    converted = tk.Model(*tk.from_zero_one(W, b, np.zeros(2)), visible=["x", "y"], kernel="alternating")
    assert tk.load_model(tmp_path / "model.npz") == tk.load_model(tmp_path / "model.npz", "pm1") == model
    assert tk.load_model(tmp_path / "model.npz", "zero-one") == converted
    np.savez(tmp_path / "stack.npz", W=STACK, b=np.stack([b, b, b]))
    assert tk.load_history(tmp_path / "stack.npz", "zero-one")["1"] == tk.Model(*converted)
    for load in (tk.load_model, tk.load_history):
        with pytest.raises(ValueError, match="convention must be one of 'pm1', 'zero-one'; got 'spins'"):
            load(tmp_path / "model.npz", "spins")


@pytest.mark.bridges
def test_state_dicts(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    W = torch.tensor(STACK[0], dtype=torch.float32)
    torch.save({"W": W, "b": torch.zeros(2)}, tmp_path / "a2.pt")
    single = tk.load_model(tmp_path / "a2.pt")
    np.testing.assert_allclose(single.W, STACK[0], rtol=1e-7)
    assert tk.load_history(tmp_path / "a2.pt") == {"0": single}
    torch.save({"weight_matrix": W, "vbias": torch.zeros(2), "hbias": torch.zeros(2)}, tmp_path / "a1.pth")
    for load in (tk.load_model, tk.load_history):  # its names are those of a BBRBM and of an IIRBM
        with pytest.raises(ValueError, match=r"a1\.pth: it does not say whether its units are 0 and 1"):
            load(tmp_path / "a1.pth")
    np.testing.assert_allclose(tk.load_model(tmp_path / "a1.pth", "pm1").W, STACK[0], rtol=1e-7)
    np.testing.assert_allclose(tk.load_model(tmp_path / "a1.pth", "zero-one").W, STACK[0] / 4, rtol=1e-7)
    history = tk.load_history(tmp_path, "pm1")
    assert list(history) == ["a1", "a2"]
    assert history["a1"].kernel == "alternating"
    torch.save({"layers.0.weight": W}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"it holds \['layers\.0\.weight'\]$"):
        tk.load_history(tmp_path / "other.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")  # a pickle of an object
    with pytest.raises(ValueError, match=r"save model\.state_dict\(\)"):
        tk.load_model(tmp_path / "module.pt")


@pytest.mark.bridges
def test_models_of_scikit_learn_through_skops(tmp_path):
    skops = pytest.importorskip("skops.io", reason="skops is not installed")
    network = pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed")
    data = np.random.default_rng(0).integers(2, size=(20, 3)).astype(float)
    machine = network.BernoulliRBM(n_components=2, n_iter=2, random_state=0).fit(data)
    skops.dump(machine, tmp_path / "rbm.skops")
    assert tk.load_history(tmp_path / "rbm.skops") == {"0": tk.from_scikit_learn(machine)}
    assert tk.load_model(tmp_path / "rbm.skops", "zero-one") == tk.from_scikit_learn(machine)
    with pytest.raises(ValueError, match="it holds a BernoulliRBM, whose convention is zero-one; got pm1, leave it out"):
        tk.load_model(tmp_path / "rbm.skops", "pm1")
    (tmp_path / "broken.skops").write_bytes(b"PK")
    with pytest.raises(ValueError, match="it cannot be read as a model that skops trusts"):
        tk.load_history(tmp_path / "broken.skops")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"W": STACK[0]}, r"W must have shape \(T, n_v, n_h\), one model a checkpoint; got shape \(2, 2\)"),
        ({"W": STACK, "b": STACK[0]}, r"b must have a row for each of the 3 checkpoints; got shape \(2, 2\)"),
        ({"V": STACK}, "it must hold W and may hold b and c; it holds V"),
        ({"W": np.full((1, 2, 2), np.nan)}, r"W must be finite; entry \(0, 0\) is nan"),
    ],
)
def test_archives_that_do_not_fit(tmp_path, content, message):
    np.savez(tmp_path / "W.npz", **content)
    with pytest.raises(ValueError, match=rf"^the history .*W\.npz: {message}"):
        tk.load_history(tmp_path / "W.npz")


def test_what_is_no_history(tmp_path):
    with pytest.raises(ValueError, match="the folder must hold model files"):
        tk.load_history(tmp_path)
    with pytest.raises(ValueError, match="there is no such file"):
        tk.load_history(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="it must be a folder, or its name must end in"):
        tk.load_history(tmp_path / "model.pickle")
    with pytest.raises(ValueError, match=r"the model file .*none\.h5: it must be a file; there is none"):
        tk.load_model(tmp_path / "none.h5")
    with pytest.raises(ValueError, match="path must be the name of a file or of a folder; got 3"):
        tk.load_history(3)
