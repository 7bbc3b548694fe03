"""The visible law and the divergence against sums over every state, closed forms and symmetries."""

import itertools
import math

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.common.errors import ModelTooLargeError
from thermokernels.model.laws import divergence_error, kl_divergence, visible_law

pytestmark = pytest.mark.small


def spin_states(n):
    """All spin vectors in the order of the states: bit i is spin i, spin = 1 - 2 * bit."""
    return [tuple(1 - 2 * (state >> i & 1) for i in range(n)) for state in range(2**n)]


def naive_law(W, b, c):
    """Visible law by summing exp(-E) over every state, in plain Python."""
    n_visible, n_hidden = np.shape(W)
    weights = []
    for v in spin_states(n_visible):
        total = 0.0
        for h in spin_states(n_hidden):
            energy = -sum(v[i] * W[i][j] * h[j] for i in range(n_visible) for j in range(n_hidden))
            energy -= sum(x * y for x, y in zip(b, v, strict=True)) + sum(x * y for x, y in zip(c, h, strict=True))
            total += math.exp(-energy)
        weights.append(total)
    return np.array(weights) / math.fsum(weights)


def random_model(seed, n_visible, n_hidden):
    draws = np.random.default_rng(seed)
    return draws.normal(size=(n_visible, n_hidden)), draws.normal(size=n_visible), draws.normal(size=n_hidden)


@pytest.mark.parametrize(("n_visible", "n_hidden"), [(1, 1), (3, 2), (2, 4), (4, 3)])
def test_law_equals_the_sum_over_all_states(n_visible, n_hidden):
    W, b, c = random_model(n_visible, n_visible, n_hidden)
    np.testing.assert_allclose(visible_law(W, b, c), naive_law(W, b, c), rtol=1e-13)
    np.testing.assert_allclose(visible_law(W), naive_law(W, np.zeros(n_visible), np.zeros(n_hidden)), rtol=1e-13)


def test_law_of_uncoupled_spins_is_a_product():
    b = np.array([0.3, -1.2, 2.0])
    up = 1 / (1 + np.exp(-2 * b))
    expected = [np.prod([up[i] if v[i] == 1 else 1 - up[i] for i in range(3)]) for v in spin_states(3)]
    np.testing.assert_allclose(visible_law(np.zeros((3, 2)), b, [0.7, -0.4]), expected, rtol=1e-14)


def test_many_hidden_spins_do_not_overflow_the_product():
    np.testing.assert_array_equal(visible_law(np.zeros((2, 1300))), np.full(4, 0.25))


def test_strong_couplings_keep_their_ground_states():
    np.testing.assert_allclose(visible_law([[500.0], [500.0]]), [0.5, 0.0, 0.0, 0.5])


def test_law_without_fields_is_even():
    law = visible_law(random_model(5, 5, 3)[0])
    np.testing.assert_allclose(law, law[::-1], rtol=1e-14)


def test_permutation_and_gauge_change_relabel_the_states():
    W, b, c = random_model(2, 4, 3)
    law = visible_law(W, b, c).reshape((2,) * 4)  # axes in the order of the bits, highest first
    order, signs, hidden_signs = [2, 0, 3, 1], np.array([1, -1, -1, 1]), np.array([-1, 1, -1])
    permuted = visible_law(W[order][:, ::-1], b[order], c[::-1]).reshape((2,) * 4)
    np.testing.assert_allclose(permuted, law.transpose([3 - order[3 - axis] for axis in range(4)]), rtol=1e-13)
    gauged = visible_law(signs[:, None] * W * hidden_signs, signs * b, hidden_signs * c).reshape((2,) * 4)
    np.testing.assert_allclose(gauged, np.flip(law, [3 - i for i in range(4) if signs[i] < 0]), rtol=1e-13)


def test_divergence_equals_its_definition():
    W, b, c = random_model(7, 3, 4)
    p = np.random.default_rng(8).dirichlet(np.ones(8))
    expected = math.fsum(x * math.log(x / y) for x, y in zip(p, naive_law(W, b, c), strict=True))
    assert kl_divergence(p, W, b, c) == pytest.approx(expected, rel=1e-13)


def test_divergence_of_a_point_is_minus_its_log_probability():
    W, b, c = random_model(9, 3, 2)
    law = visible_law(W, b, c)
    for state in range(8):
        assert kl_divergence(np.eye(8)[state], W, b, c) == pytest.approx(-math.log(law[state]), rel=1e-13, abs=0)


def test_divergence_from_uniform_in_closed_form():
    # n visible spins in fields b: KL(uniform || product) = sum_i log cosh b_i.
    b = np.array([0.4, -1.1, 0.02])
    assert kl_divergence(np.full(8, 1 / 8), np.zeros((3, 1)), b) == pytest.approx(np.log(np.cosh(b)).sum(), rel=1e-13)


def test_divergence_from_its_own_law_vanishes_and_is_never_negative():
    for seed in range(20):
        W, b, c = random_model(seed, 4, 3)
        assert 0.0 <= kl_divergence(visible_law(W, b, c), W, b, c) < 1e-29


def test_small_divergences_keep_their_digits():
    # Fields b and b + t: KL = t^2 / 2 * sum sech^2 b to leading order, far below the rounding of a plain sum of p log(p / q).
    b, t = np.array([0.5, -0.3]), 1e-7
    leading = 0.5 * t**2 * (1 / np.cosh(b) ** 2).sum()
    assert kl_divergence(visible_law(np.zeros((2, 1)), b + t), np.zeros((2, 1)), b) == pytest.approx(leading, rel=1e-6)


def test_divergence_is_finite_where_the_law_underflows():
    assert visible_law([[800.0]], b=[800.0])[1] == 0.0
    assert kl_divergence([0.0, 1.0], [[800.0]], b=[800.0]) == pytest.approx(1600.0)


def test_a_sum_off_by_rounding_is_divided_out():
    W = [[0.3, -0.2], [1.0, 0.4]]
    p = np.array([0.1, 0.2, 0.3, 0.4])
    assert kl_divergence(p * (1 + 5e-10), W) == pytest.approx(kl_divergence(p, W), rel=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[np.nan, 1.0]],), r"W must be finite; entry \(0, 0\) is nan"),
        (([1.0, 2.0],), r"W must have shape \(n_v, n_h\)"),
        (([["a"]],), "W must be an array of real numbers"),
        (([[1.0]], [1.0, 2.0]), r"b must have shape \(1,\); got shape \(2,\)"),
        (([[1.0]], None, [np.inf]), "c must be finite"),
        (([[1e308, 1e308]],), "W, b and c must give finite energies and differences of them"),
    ],
)
def test_bad_models_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        visible_law(*arguments)


@pytest.mark.parametrize(
    ("p", "message"),
    [
        ([0.5, 0.4], "p_data must sum to one"),
        ([1.5, -0.5], "p_data must be nonnegative; entry 1 is -0.5"),
        ([1.0, 0.0, 0.0], r"p_data must have shape \(2,\)"),
        ([np.nan, 1.0], "p_data must be finite"),
    ],
)
def test_bad_laws_are_named(p, message):
    with pytest.raises(ValueError, match=message):
        kl_divergence(p, [[1.0]])


def test_a_law_beyond_memory_is_refused_before_it_is_allocated():
    with pytest.raises(ModelTooLargeError, match="the law of 60 visible spins would take"):
        visible_law(np.zeros((60, 1)))


def test_states_are_numbered_by_their_bits():
    # Spin i alone in a strong field points down in exactly the states whose bit i is set.
    for i, state in itertools.product(range(3), range(8)):
        law = visible_law(np.zeros((3, 1)), b=-40.0 * np.eye(3)[i])
        assert (law[state] > 0.1) == bool(state >> i & 1)


def test_the_logarithm_of_a_weight_rounds_by_its_size_without_a_coupling_too():
    """Forty free hidden spins: every weight is 2**40, and its logarithm is off by (N + 12) u of that."""
    n_hidden, data = 40, np.array([0.8, 0.2])
    of_weights = (1 + n_hidden + 12) * n_hidden * math.log(2) * 2.0**-53
    assert divergence_error(data, tk.Model(np.zeros((1, n_hidden)))) >= 2 * of_weights * np.abs(data - 0.5).sum()


def test_a_law_counts_as_it_is_over_its_sum():
    W, data = np.array([[1.1, -0.3, 0.2], [0.4, 0.9, -0.6]]), np.array([0.4, 0.3, 0.2, 0.1])
    assert tk.kl_divergence(data * (1 + 5e-10), W) == pytest.approx(tk.kl_divergence(data, W), abs=1e-14)


def test_a_law_asks_for_six_arrays_of_its_size(monkeypatch):
    asked = []
    monkeypatch.setattr("thermokernels.model.laws.memory.require", lambda n_bytes, *_: asked.append(n_bytes))
    tk.kl_divergence([0.4, 0.3, 0.2, 0.1], np.zeros((2, 3)))
    assert asked[0] == 6 * 8 * 4
