"""Models of other libraries: energies agree up to a constant on every state, so laws agree exactly."""

import itertools

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.model import conversions

pytestmark = pytest.mark.small


def energies(W, b, c):
    """E over all spin states, visible and hidden in lexicographic order of (-1, +1)."""
    visible, hidden = (np.array(list(itertools.product((-1, 1), repeat=size))) for size in W.shape)
    return -visible @ W @ hidden.T - (visible @ b)[:, None] - hidden @ c


def assert_equal_up_to_a_constant(left, right):
    differences = left - right
    np.testing.assert_allclose(differences - differences[0, 0], 0, atol=1e-12)
    assert np.ptp(left) > 1


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (3, 3), (1, 1)])
def test_zero_one_units_by_energy_differences(shape):
    rng = np.random.default_rng(shape)
    w, a, d = rng.normal(size=shape), rng.normal(size=shape[0]), rng.normal(size=shape[1])
    visible, hidden = (np.array(list(itertools.product((0, 1), repeat=size))) for size in shape)  # 0 is spin -1, 1 is spin +1
    expected = -visible @ w @ hidden.T - (visible @ a)[:, None] - hidden @ d
    assert_equal_up_to_a_constant(energies(*tk.from_zero_one(w, a, d)), expected)


def test_the_law_of_a_zero_one_machine_by_its_free_energy():
    rng = np.random.default_rng(5)
    components, a, d = rng.normal(size=(2, 3)), rng.normal(size=3), rng.normal(size=2)  # laid out as in scikit-learn, (n_h, n_v)
    states = (np.arange(8)[:, None] >> np.arange(3)) & 1
    units = 1 - states  # bit i of a state's number is set where spin i is -1, which is unit 0
    weights = np.exp(units @ a + np.logaddexp(0, units @ components.T + d).sum(axis=1))
    np.testing.assert_allclose(tk.visible_law(*tk.from_zero_one(components.T, a, d)), weights / weights.sum(), rtol=1e-12)


def test_scikit_learn():
    neural_network = pytest.importorskip("sklearn.neural_network")
    rng = np.random.default_rng(0)
    rbm = neural_network.BernoulliRBM(n_components=2, n_iter=5, random_state=0).fit(rng.integers(0, 2, size=(40, 3)))
    states = np.arange(8)
    units = 1.0 - ((states[:, None] >> np.arange(3)) & 1)
    weights = np.exp(-rbm._free_energy(units))
    law = tk.visible_law(*tk.from_zero_one(rbm.components_.T, rbm.intercept_visible_, rbm.intercept_hidden_))
    np.testing.assert_allclose(law, weights / weights.sum(), rtol=1e-10)


def test_zero_one_names_what_does_not_fit():
    with pytest.raises(ValueError, match=r"hidden_bias must have shape \(3,\); got shape \(2,\)"):
        tk.from_zero_one(np.ones((2, 3)), np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match=r"weights must be finite"):
        tk.from_zero_one([[np.nan]], [0.0], [0.0])


def test_ising_by_energy_differences():
    rng = np.random.default_rng(1)
    visible, hidden = ["a", "b", "c"], [0, 1]
    h = {label: rng.normal() for label in ["a", "c", 1]}
    J = {("a", 0): 1.3, (1, "a"): -0.4, ("b", 1): 0.7, (1, "b"): 0.2, (0, "c"): -2.0}
    expected = np.array(
        [
            [
                sum(h[label] * spins[label] for label in h) + sum(value * spins[one] * spins[other] for (one, other), value in J.items())
                for t in itertools.product((-1, 1), repeat=2)
                for spins in [dict(zip([*visible, *hidden], [*s, *t], strict=True))]
            ]
            for s in itertools.product((-1, 1), repeat=3)
        ]
    )
    model = tk.from_ising(h, J, visible, hidden)
    assert_equal_up_to_a_constant(energies(*model), expected)
    assert model[0][1, 1] == pytest.approx(-0.9)  # J_ij and J_ji add up


def test_ising_names_what_does_not_fit():
    with pytest.raises(ValueError, match="'a' and 'b' are on one side"):
        tk.from_ising({}, {("a", "b"): 1.0}, ["a", "b"], ["x"])
    with pytest.raises(ValueError, match="got 'y'"):
        tk.from_ising({"y": 1.0}, {}, ["a"], ["x"])
    with pytest.raises(ValueError, match="twice"):
        tk.from_ising({}, {}, ["a"], ["a"])
    with pytest.raises(ValueError, match="J must hold finite numbers of at most 1e\\+300"):
        tk.from_ising({}, {("a", "x"): np.inf}, ["a"], ["x"])


def test_law_of_samples_numbers_states_as_the_chain_does():
    chain = tk.gibbs_chain(np.zeros((3, 1)), quotient=False)
    spins = chain.spins()[:8, :3]
    counts = np.arange(1, 9)
    np.testing.assert_allclose(tk.law_of_samples(np.repeat(spins, counts, axis=0)), counts / counts.sum())


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([[0, 1]], r"samples must hold spins \+1 and -1; entry \(0, 0\) is 0"),
        ([1, -1], r"samples must have shape \(n, n_v\)"),
        (np.empty((0, 2)), r"at least one sample"),
        ([[1, -1], [1]], "rows of different lengths"),
        ([[1j]], "complex128"),
        ([[np.nan]], r"samples must hold spins \+1 and -1; entry \(0, 0\) is nan"),
        ([[1, 1 + 3e-6]], r"entry \(0, 1\) is 1$"),
        (np.array([[1, 0]], np.uint8), r"entry \(0, 1\) is 0: of units 0 and 1, 2 \* x.astype\(int\) - 1 makes spins"),
        (2 * np.array([[1, 0]], np.uint8) - 1, r"entry \(0, 1\) is 255: 2 \* x - 1 of unsigned units 0 and 1"),
        (np.ma.masked_array([[1, -1]], [[False, True]]), r"samples must have all its entries; entry \(0, 1\) is masked"),
        ([[True]], "bool"),
    ],
)
def test_law_of_samples_names_what_does_not_fit(samples, message):
    with pytest.raises(ValueError, match=message):
        tk.law_of_samples(samples)


def test_law_of_weighted_samples():
    """Aggregated samples are their repetition, and importance weights of any size are shares."""
    spins, counts = np.array([[1, 1], [-1, 1], [1, 1], [-1, -1]]), np.array([3, 0, 2, 5])
    expected = tk.law_of_samples(np.repeat(spins, counts, axis=0))
    np.testing.assert_allclose(tk.law_of_samples(spins, counts), expected, rtol=1e-15)
    np.testing.assert_allclose(tk.law_of_samples(spins, counts * 3e307), expected, rtol=1e-15)
    np.testing.assert_allclose(tk.law_of_samples(spins, counts * 1e-320), expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"weights must have shape \(2,\); got shape \(1,\)"),
        ([1, -1], "weights must be nonnegative; entry 1 is -1"),
        ([0, 0], "weights must not all be zero"),
        ([np.inf, 1], "weights must be finite"),
        ([1j, 1], "weights must be an array of real numbers"),
    ],
)
def test_weights_of_samples_are_checked(weights, message):
    with pytest.raises(ValueError, match=message):
        tk.law_of_samples([[1, -1], [1, 1]], weights)


def test_what_is_within_a_millionth_of_a_spin_is_one():
    given = np.float32([[1 - 1e-7, -1], [-1 + 9e-7, 1]])
    np.testing.assert_array_equal(tk.law_of_samples(given), tk.law_of_samples([[1, -1], [-1, 1]]))
    samples = tk.sample([[0.5], [0.1]], n_chains=1, n_sweeps=1, start=[1 - 1e-7, -1, 1], seed=0)
    assert np.isin(samples.visible, (-1, 1)).all()


def test_law_of_too_many_spins():
    with pytest.raises(tk.ModelTooLargeError, match="the law of 60 visible spins"):
        tk.law_of_samples(np.ones((1, 60)))


def test_a_law_asks_for_so_many_bytes_a_state(monkeypatch):
    asked = []
    monkeypatch.setattr(conversions.memory, "require", lambda n_bytes, *_: asked.append(n_bytes))
    tk.law_of_samples(np.ones((3, 5)))
    assert asked == [32 * 2**5]  # counts, the law, and copies of each
