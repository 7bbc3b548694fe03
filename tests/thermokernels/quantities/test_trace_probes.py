"""Estimates of T_O, Q and their gradients by random signs: unbiased whatever is taken out, with standard errors that are right."""

import numpy as np
import pytest
import scipy.stats

import adjoints
import thermokernels as tk
from thermokernels.quantities import trace_probes

SEEDS = range(400)
W = np.random.default_rng(0).standard_normal((4, 3))


def z_score(samples, expected):
    samples = np.asarray(samples)
    return (samples.mean(axis=0) - expected) / (samples.std(axis=0, ddof=1) / np.sqrt(len(samples)))


@pytest.mark.parametrize(
    ("kernel", "n_directions", "n_probes", "fields"),
    [
        ("single-site", 0, 32, None),
        ("single-site", 3, 16, None),
        ("single-site", 2, 16, [0.2, -0.1, 0.3, 0.1]),
        ("two-block", 2, 16, None),
    ],
)
def test_values_are_unbiased_and_their_standard_errors_right(kernel, n_directions, n_probes, fields):
    chain = tk.gibbs_chain(W, b=fields, kernel=kernel)
    exact = tk.observable_variance_time(chain)
    found = [tk.probe_variance_time(chain, n_probes, seed=seed, n_directions=n_directions) for seed in SEEDS]
    values, errors = np.array([time.value for time in found]), np.array([time.standard_error for time in found])
    assert abs(z_score(values, exact)) < 4
    # the square of the standard error is an unbiased estimate of the variance of the value
    assert np.mean(errors**2) / np.mean((values - exact) ** 2) == pytest.approx(1, abs=0.25)
    quantile = scipy.stats.t.ppf(0.95, n_probes - 1)
    assert np.mean(np.abs(values - exact) <= quantile * errors) == pytest.approx(0.9, abs=0.06)


def test_a_useless_basis_costs_variance_and_nothing_else(monkeypatch):
    """Directions that have nothing to do with the chain: the split is an identity, not an approximation."""
    chain = tk.gibbs_chain(W)
    exact = tk.observable_variance_time(chain)
    fixed = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 3)))[0].T
    monkeypatch.setattr(trace_probes._Basis, "find", lambda self, *_: self.arrays["directions"].__setitem__(..., fixed))
    found = [tk.probe_variance_time(chain, 8, seed=seed, n_directions=3) for seed in SEEDS]
    assert abs(z_score([time.value for time in found], exact)) < 4
    deviations = [(time.value - exact) ** 2 for time in found]
    assert np.mean([time.standard_error**2 for time in found]) / np.mean(deviations) == pytest.approx(1, abs=0.25)
    # the exact part by dense algebra
    M = response_matrix(chain)
    assert found[0].exact == pytest.approx(np.einsum("ka,ab,kb->", fixed, M, fixed), rel=1e-11)


def response_matrix(chain):
    """M_ab = <f~_a, (I - P)^+ f~_b>_pi, densely."""
    spins = chain.spins().astype(float)
    n_visible = chain.n_visible
    f = -(spins[:, :n_visible, None] * spins[:, None, n_visible:]).reshape(chain.n_states, -1)
    f -= chain.law @ f
    P = chain.transition_matrix()
    return f.T @ (chain.law[:, None] * np.linalg.solve(np.eye(chain.n_states) - P + chain.law, f))


def test_one_estimate_by_dense_algebra():
    chain = tk.gibbs_chain(W)
    time = tk.probe_variance_time(chain, 5, seed=7, n_directions=2)
    M, Q = response_matrix(chain), time.directions.reshape(2, -1)
    np.testing.assert_allclose(Q @ Q.T, np.eye(2), atol=1e-14)
    signs = trace_probes._signs(np.random.SeedSequence(7), 1, 5, 12)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    rest = signs - signs @ Q.T @ Q
    np.testing.assert_allclose(time.samples, np.einsum("ka,ab,kb->k", rest, M, rest), rtol=1e-10)
    assert time.exact == pytest.approx(np.trace(Q @ M @ Q.T), rel=1e-11, abs=0)
    assert time.value == pytest.approx(time.exact + time.samples.mean(), rel=1e-15, abs=0)
    assert time.standard_error == pytest.approx(time.samples.std(ddof=1) / np.sqrt(5), rel=1e-14, abs=0)


def test_slow_modes_are_taken_out():
    """Two patterns, each with a barrier: two slow modes carry nearly all of T_O, and the probes see neither."""
    patterns = np.outer([1, 1, 1, 1, 1], [1, 1, 1, 1, 1]) + np.outer([1, -1, 1, -1, 1], [1, 1, -1, -1, 1])
    chain = tk.gibbs_chain(0.8 * patterns + 0.05 * np.random.default_rng(2).standard_normal((5, 5)))
    exact = tk.observable_variance_time(chain)
    plain, split = (tk.probe_variance_time(chain, 8, seed=0, n_directions=n) for n in (0, 4))
    assert plain.standard_error > 0.05 * exact
    assert split.standard_error < 1e-3 * exact
    assert abs(split.value - exact) < 5 * split.standard_error
    assert split.exact > 0.99 * exact


@pytest.mark.parametrize("n_directions", [0, 2])
def test_gradients_are_unbiased_and_their_standard_errors_right(n_directions):
    exact_value, exact = adjoints.observable_variance_time(W)
    found = [adjoints.probe_variance_time(W, 8, seed=seed, n_directions=n_directions) for seed in SEEDS]
    gradients, errors = np.array([part[1] for part in found]), np.array([part[2] for part in found])
    assert found[0][0].value == tk.probe_variance_time(tk.gibbs_chain(W), 8, seed=0, n_directions=n_directions).value
    assert np.abs(z_score(gradients, exact)).max() < 4.5
    np.testing.assert_allclose((errors**2).mean(axis=0) / ((gradients - exact) ** 2).mean(axis=0), 1, atol=0.35)
    assert abs(z_score([part[0].value for part in found], exact_value)) < 4


def test_gradients_with_fields():
    draws = np.random.default_rng(3)
    b, c = 0.3 * draws.standard_normal(4), 0.3 * draws.standard_normal(3)
    _, exact = adjoints.observable_variance_time(W, b, c, fields=True)
    found = [adjoints.probe_variance_time(W, 8, seed=seed, b=b, c=c, fields=True) for seed in range(200)]
    for k in range(3):
        assert np.abs(z_score([part[1][k] for part in found], exact[k])).max() < 4.5


def test_q_by_probes_has_the_standard_errors_of_the_delta_method():
    p_data = tk.visible_law(0.4 * W)
    q, gradient = adjoints.q_struct(W, p_data)
    found = [adjoints.probe_q_struct(W, p_data, n_probes=64, seed=seed, n_directions=4) for seed in range(200)]
    values, errors = np.array([part[0].value for part in found]), np.array([part[0].standard_error for part in found])
    assert values.mean() == pytest.approx(q.value, rel=5e-3)  # a ratio: biased in second order of its relative error
    assert np.mean(errors**2) / values.var() == pytest.approx(1, abs=0.3)
    gradients, spreads = np.array([part[1] for part in found]), np.array([part[2] for part in found])
    np.testing.assert_allclose(gradients.mean(axis=0), gradient, rtol=0, atol=0.02 * np.abs(gradient).max())
    np.testing.assert_allclose((spreads**2).mean(axis=0) / gradients.var(axis=0), 1, atol=0.4)
    assert tk.probe_q_struct(W, p_data, n_probes=64, seed=0).value == found[0][0].value
    assert found[0][0].signal == q.signal


def test_nothing_to_learn_has_no_gradient():
    q, gradient, error = adjoints.probe_q_struct([[0.0]], [0.5, 0.5], seed=0)
    assert (q.value, gradient.tolist(), error.tolist()) == (0.0, [[0.0]], [[0.0]])


def test_seeds_are_explicit_and_repeatable():
    chain = tk.gibbs_chain(W)
    first, again, other = (tk.probe_variance_time(chain, 4, seed=seed) for seed in (5, 5, 6))
    assert first.value == again.value != other.value
    sequence = np.random.SeedSequence(5)
    for _ in range(2):  # handed in twice it gives the same signs, and is left as it was
        assert tk.probe_variance_time(chain, 4, seed=sequence).value == first.value
    assert sequence.n_children_spawned == 0
    assert tk.probe_variance_time(chain, 4, seed=sequence.spawn(1)[0]).value != first.value


def test_as_many_directions_as_observables_leave_nothing_to_chance():
    chain = tk.gibbs_chain(W)
    time = tk.probe_variance_time(chain, 2, seed=0, n_directions=1000)
    assert time.directions.shape == (12, 4, 3)
    assert time.value == pytest.approx(tk.observable_variance_time(chain), rel=1e-12, abs=0)
    assert time.standard_error < 1e-12


def test_the_bound_of_the_solves_holds():
    chain = tk.gibbs_chain(np.random.default_rng(5).standard_normal((5, 5)))
    loose, tight = (tk.probe_variance_time(chain, 4, seed=0, n_directions=0, rtol=rtol) for rtol in (1e-5, 1e-12))
    assert 0 < tight.value - loose.value <= loose.bound
    assert tight.bound < 1e-9 * tight.value


@pytest.mark.small
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed must be a nonnegative integer or a numpy.random.SeedSequence; got -1"),
        ({"seed": "7"}, "seed must be a nonnegative integer"),
        ({"seed": True}, "seed must be a nonnegative integer"),
        ({"seed": 0, "n_probes": 1}, "n_probes must be an integer of at least 2"),
        ({"seed": 0, "n_directions": -1}, "n_directions must be an integer of at least 0"),
        ({"seed": 0, "method": "reduction"}, "method must be one of 'auto', 'cholesky', 'cg'"),
        ({"seed": 0, "rtol": 0}, "rtol must be a positive"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        tk.probe_variance_time(tk.gibbs_chain([[0.5]]), **options)


def test_slow_and_irreversible_chains_are_refused():
    with pytest.raises(tk.UnresolvedError, match="the law underflows in float64 at some state; scale the couplings down"):
        tk.probe_variance_time(tk.gibbs_chain([[800.0]]), seed=0)
    with pytest.raises(tk.NotReversibleError):
        tk.probe_variance_time(tk.gibbs_chain([[0.5]], kernel="alternating"), seed=0)
    with pytest.raises(ValueError, match="the adjoint of T_O is that of the single-site and the alternating kernel"):
        adjoints.trace_probes._RowGradients(tk.gibbs_chain([[0.5]], kernel="two-block"), 3)


def test_fewer_digits_than_promised_are_refused():
    with pytest.raises(tk.UnresolvedError, match=r"the spectral gap leaves T_O = .* steps less than 10 digits beside what chance leaves"):
        tk.probe_variance_time(tk.gibbs_chain(W), seed=0, method="cg", rtol=1e-2)
