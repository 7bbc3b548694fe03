"""Gradient of the divergence: against the complex step through a sum over every state, closed forms and symmetries."""

import numpy as np
import pytest

import thermokernels as tk
import thermokernels.model.laws as rbm
from adjoints.laws import kl_divergence, kl_hessian_product
from thermokernels.model.spin_sums import _fold

pytestmark = pytest.mark.small


def analytic_divergence(p, W, b, c):
    """KL from the sum over all (v, h), analytic in the couplings so that they may be complex."""
    n_visible, n_hidden = W.shape
    v = 1 - 2 * (np.arange(2**n_visible)[:, None] >> np.arange(n_visible) & 1)
    h = 1 - 2 * (np.arange(2**n_hidden)[:, None] >> np.arange(n_hidden) & 1)
    weights = np.exp(v @ W @ h.T + (v @ b)[:, None] + h @ c).sum(axis=1)
    return np.sum(p[p > 0] * (np.log(p[p > 0]) - np.log((weights / weights.sum())[p > 0])))


def random_point(seed, n_visible, n_hidden):
    draws = np.random.default_rng(seed)
    p = draws.dirichlet(np.ones(2**n_visible))
    p[0] = 0.0
    return p / p.sum(), draws.normal(size=(n_visible, n_hidden)), draws.normal(size=n_visible), draws.normal(size=n_hidden)


@pytest.mark.parametrize(("n_visible", "n_hidden"), [(1, 1), (2, 3), (4, 2), (5, 3)])
def test_gradient_equals_the_complex_step(n_visible, n_hidden):
    p, W, b, c = random_point(n_visible, n_visible, n_hidden)
    value, gradients = kl_divergence(p, W, b, c, fields=True)
    assert value == rbm.kl_divergence(p, W, b, c)
    assert value == pytest.approx(analytic_divergence(p, W, b, c), rel=1e-13)
    step = 1e-30
    for position, (argument, gradient) in enumerate(zip((W, b, c), gradients, strict=True)):
        assert gradient.shape == argument.shape
        assert gradient.flags["C_CONTIGUOUS"]
        for index in np.ndindex(argument.shape):
            moved = [W.astype(complex), b.astype(complex), c.astype(complex)]
            moved[position][index] += 1j * step
            assert gradient[index] == pytest.approx(analytic_divergence(p, *moved).imag / step, rel=1e-11, abs=1e-14)


def test_without_fields_the_gradient_is_that_of_zero_fields():
    p, W, _, _ = random_point(3, 4, 3)
    value, gradient = kl_divergence(p, W)
    full_value, (full_gradient, _, _) = kl_divergence(p, W, np.zeros(4), np.zeros(3), fields=True)
    assert value == full_value
    np.testing.assert_array_equal(gradient, full_gradient)


def test_folding_is_the_adjoint_of_filling():
    draws = np.random.default_rng(4)
    couplings, ct_field = draws.normal(size=5), draws.normal(size=32)
    field, ct_couplings = np.empty(32), np.empty(5)
    rbm._fill_fields(couplings, 0.7, field)
    forward = field @ ct_field
    ct_offset = _fold(ct_field.copy(), ct_couplings)
    assert couplings @ ct_couplings + 0.7 * ct_offset == pytest.approx(forward, rel=1e-13)


def test_gradient_in_closed_form_without_couplings():
    # q is the product law of the fields: dKL/db_i = tanh b_i - E_data[v_i], dKL/dc = 0 and dKL/dW_ij = dKL/db_i tanh c_j.
    p, _, b, c = random_point(6, 3, 2)
    _, (by_W, by_b, by_c) = kl_divergence(p, np.zeros((3, 2)), b, c, fields=True)
    spins = 1 - 2 * (np.arange(8)[:, None] >> np.arange(3) & 1)
    expected = np.tanh(b) - p @ spins
    np.testing.assert_allclose(by_b, expected, rtol=1e-12)
    np.testing.assert_allclose(by_W, np.outer(expected, np.tanh(c)), rtol=1e-12)
    np.testing.assert_allclose(by_c, 0.0, atol=1e-15)


def test_gradient_vanishes_at_the_data_law():
    _, W, b, c = random_point(7, 4, 4)
    _, gradients = kl_divergence(rbm.visible_law(W, b, c), W, b, c, fields=True)
    assert max(np.abs(gradient).max() for gradient in gradients) < 1e-15


def test_gradient_follows_a_permutation_of_spins():
    p, W, b, c = random_point(8, 3, 4)
    _, gradient = kl_divergence(p, W, b, c)
    order, hidden_order = [2, 0, 1], [3, 1, 0, 2]
    moved = np.array([p[sum((state >> k & 1) << order[k] for k in range(3))] for state in range(8)])
    _, permuted = kl_divergence(moved, W[order][:, hidden_order], b[order], c[hidden_order])
    np.testing.assert_allclose(permuted, gradient[order][:, hidden_order], rtol=1e-12, atol=1e-15)


def test_arguments_are_left_alone():
    p, W, b, c = random_point(9, 3, 3)
    copies = [array.copy() for array in (p, W, b, c)]
    kl_divergence(p, W, b, c, fields=True)
    for array, copy in zip((p, W, b, c), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 0.6], [[1.0]]), "p_data must sum to one"),
        (([0.5, 0.5], [[np.inf]]), "W must be finite"),
        (([0.5, 0.5], [[1.0]], [0.0, 0.0]), r"b must have shape \(1,\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        kl_divergence(*arguments)


@pytest.mark.parametrize("shape", [(12, 2), (14, 1), (9, 30)])
def test_a_hessian_takes_the_memory_that_it_asks_for(shape, memory_of):
    model = tk.Model(np.random.default_rng(0).normal(size=shape) / 20)
    asked, taken = memory_of(kl_hessian_product, np.full(2 ** shape[0], 2.0 ** -shape[0]), model, model[:3])
    assert 0.9 * asked < taken <= asked
