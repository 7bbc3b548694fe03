"""V = 2 T_O - sum Var f against a sum of covariances over lags, closed forms, and the limit of exact window variances."""

import math

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from thermokernels.quantities.asymptotic_variance import bound_of, observable_variances, total_variance
from thermokernels.quantities.variance_time import variance_time

pytestmark = pytest.mark.small


def random_model(shape, seed=0, scale=1.0):
    draws = np.random.default_rng([seed, *shape])
    return scale * draws.normal(size=shape), draws.normal(size=shape[0]), draws.normal(size=shape[1])


def products(chain):
    spins = chain.spins().astype(float)
    visible, hidden = spins[:, : chain.n_visible], spins[:, chain.n_visible :]
    return -(visible[:, :, None] * hidden[:, None, :]).reshape(chain.n_states, -1)


def sum_over_lags(chain, tail=1e-15):
    """sum_a [ C_a(0) + 2 sum_(t >= 1) C_a(t) ], lag after lag until nothing is left."""
    f = products(chain)
    f -= chain.law @ f
    total, later = (chain.law[:, None] * f * f).sum(), f
    while np.abs(later).max() > tail:
        later = chain.apply(later)
        total += 2 * (chain.law[:, None] * f * later).sum()
    return total


@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 2)])
@pytest.mark.parametrize("fields", [False, True])
def test_equals_the_sum_over_lags(shape, kernel, fields):
    W, b, c = random_model(shape)
    chain = tk.gibbs_chain(W, *((b, c) if fields else ()), kernel=kernel)
    expected = sum_over_lags(chain)
    time = variance_time(chain)
    assert tk.asymptotic_variance(chain) == pytest.approx(expected, rel=1e-11, abs=0)
    assert abs(tk.asymptotic_variance(chain) - expected) <= bound_of(time) + 1e-12 * expected


def test_variances_of_slow_spins_keep_their_digits():
    W = np.array([[12.0]])
    unequal = 1 / (1 + math.exp(24.0))
    assert observable_variances(tk.gibbs_chain(W)).item() == pytest.approx(4 * unequal * (1 - unequal), rel=1e-13, abs=0)


def test_total_variance_is_the_number_of_observables_less_the_square_of_the_means():
    chain = tk.gibbs_chain(*random_model((3, 2)))
    means = chain.law @ products(chain)
    value, error = total_variance(chain)
    assert value == pytest.approx(6 - means @ means, rel=1e-14)
    assert 0 < error < 1e-12


def test_q_limit_is_what_the_exact_variance_of_long_windows_tends_to():
    W, _, _ = random_model((3, 3))
    p_data = np.random.default_rng(5).dirichlet(np.ones(8))
    measure, q = tk.spectral_measure(tk.gibbs_chain(W)), tk.q_struct(W, p_data, window=100.0)
    ratios = []
    for window in (1e2, 1e4, 1e6):
        steps = window * 6
        ratios.append(q.signal / tk.window_variance(measure, steps) / (q.q_limit * window / 100.0))
    assert abs(ratios[-1] - 1) < 1e-5 < abs(ratios[0] - 1)
    assert q.value == pytest.approx(q.q_limit * (1 - total_variance(tk.gibbs_chain(W))[0] / (2 * q.t_obs)), rel=1e-13, abs=0)
    assert q.asymptotic_variance == pytest.approx(tk.asymptotic_variance(tk.gibbs_chain(W)), rel=1e-13, abs=0)
    assert 0 < q.q_limit_bound < 1e-10 * q.q_limit


def test_block_kernel_of_free_spins():
    """Every record of the two-block kernel renews one factor of v_i h_j: T_O = Var, V = Var, and Q_struct is half of Q_limit."""
    W = np.zeros((2, 2))
    chain = tk.gibbs_chain(W, kernel="two-block")
    assert tk.observable_variance_time(chain) == pytest.approx(4.0, rel=1e-13, abs=0)
    assert tk.asymptotic_variance(chain) == pytest.approx(4.0, rel=1e-13, abs=0)


def test_by_state_reduction():
    W, _, _ = random_model((2, 2), scale=3.0)
    chain = tk.gibbs_chain(W)
    assert tk.asymptotic_variance(chain, method="reduction") == pytest.approx(
        tk.asymptotic_variance(chain, method="cholesky"), rel=1e-9, abs=0
    )


def test_gradient_is_even_in_the_fields_without_fields():
    value, gradient = adjoints.asymptotic_variance(random_model((2, 3))[0], fields=True)
    assert value > 0
    np.testing.assert_allclose(gradient.b, 0.0, atol=1e-12)
    np.testing.assert_allclose(gradient.c, 0.0, atol=1e-12)


def test_bad_input():
    with pytest.raises(ValueError, match="chain must be a GibbsChain, made by gibbs_chain"):
        tk.asymptotic_variance(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="needs a chain on both layers"):
        tk.asymptotic_variance(tk.gibbs_chain(np.zeros((2, 2)), kernel="alternating-visible"))
    with pytest.raises(ValueError, match="fields must be True or False"):
        adjoints.asymptotic_variance([[0.5]], fields=1)
