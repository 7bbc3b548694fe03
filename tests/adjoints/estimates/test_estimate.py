"""The estimated gradient against differences of dense chains."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from adjoints.estimates import estimate as estimate_module
from adjoints.estimates.estimate import _mean, _of_q, _Part

DATA = np.where(np.random.default_rng(3).random((40, 3)) < 0.7, 1, -1)


ALL = np.ones((), np.bool_)
STEPS = {"alternating": 1, "two-block": 2, "single-site": 5}


def dense(W, b, c, window, kernel, mask):
    """T_O in steps and Q of a kernel on all states, by plain dense algebra, over the couplings that exist."""
    v, h = (1.0 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) for n in W.shape)
    v, h = np.repeat(v, len(h), axis=0), np.tile(h, (len(v), 1))
    pi = np.exp(np.einsum("xi,ij,xj->x", v, W, h) + v @ b + h @ c)
    pi /= pi.sum()
    same_v, same_h = (v[:, None] == v[None]).all(axis=2), (h[:, None] == h[None]).all(axis=2)
    to_v, to_h = (same * pi / (same @ pi)[:, None] for same in (same_h, same_v))
    if kernel == "alternating":
        P = to_v @ to_h
    elif kernel == "two-block":
        P = (to_v + to_h) / 2
    else:
        x = np.hstack([v, h])
        P = np.where((x[:, None] != x[None]).sum(axis=2) == 1, pi / (pi + pi[:, None]), 0) / x.shape[1]
        P += np.diag(1 - P.sum(axis=1))
    f = mask.ravel() * np.einsum("xi,xj->xij", v, h).reshape(len(v), -1)
    means = pi @ f
    f = f - means
    time = float((pi[:, None] * f * np.linalg.solve(np.eye(len(pi)) - P + pi, f)).sum())
    g = means - mask.ravel() * (DATA.T @ np.tanh(DATA @ W + c) / len(DATA)).ravel()
    return time, 0.5 * window * STEPS[kernel] * (g**2).sum() / time


def central(W, b, c, which, index, window, kernel, mask=ALL):
    step, values = 1e-5, []
    for sign in (1, -1):
        moved = {"W": W.copy(), "b": b.copy(), "c": c.copy()}
        moved[which][index] += sign * step
        values.append(dense(moved["W"], moved["b"], moved["c"], window, kernel, mask))
    return (np.array(values[0]) - values[1]) / (2 * step)


@pytest.mark.parametrize("kernel", STEPS)
@pytest.mark.parametrize("fields", [0.0, 0.3], ids=["pairs", "fields"])
def test_against_differences(fields, kernel):
    draws = np.random.default_rng(2)
    W, b, c = draws.normal(0, 0.5, (3, 2)), fields * draws.normal(size=3), fields * draws.normal(size=2)
    exact = {
        "W": np.array([[central(W, b, c, "W", (i, j), 50, kernel) for j in range(2)] for i in range(3)]),
        "b": np.array([central(W, b, c, "b", i, 50, kernel) for i in range(3)]),
        "c": np.array([central(W, b, c, "c", j, 50, kernel) for j in range(2)]),
    }
    squares, cosines = [], []
    for seed in range(4):  # entries of one run are correlated, so that a limit on their mean square needs runs that are not
        estimate, gradient = adjoints.estimate_q((W, b, c), DATA, 50, kernel=kernel, n_samples=2048, n_replicates=1024, seed=seed)
        assert estimate.trusted
        if not fields:
            assert not gradient.dt_db.any()
            assert not gradient.dt_dc.any()
        z = deviations(gradient, exact)
        assert np.abs(z).max() < 4
        squares.append((z**2).mean())
        cosines.append((gradient.dq_dW * exact["W"][..., 1]).sum() / np.linalg.norm(gradient.dq_dW) / np.linalg.norm(exact["W"][..., 1]))
    assert 0.2 < np.mean(squares) < 2.5
    assert np.mean(cosines) > 0.9


@pytest.mark.parametrize("kernel", STEPS)
def test_couplings_that_do_not_exist(kernel):
    draws = np.random.default_rng(2)
    mask = np.array([[True, False], [True, True], [False, True]])
    W, b, c = mask * draws.normal(0, 0.5, (3, 2)), 0.3 * draws.normal(size=3), 0.3 * draws.normal(size=2)
    exact = {
        "W": np.array([[central(W, b, c, "W", (i, j), 50, kernel, mask) * mask[i, j] for j in range(2)] for i in range(3)]),
        "b": np.array([central(W, b, c, "b", i, 50, kernel, mask) for i in range(3)]),
        "c": np.array([central(W, b, c, "c", j, 50, kernel, mask) for j in range(2)]),
    }
    _, gradient = adjoints.estimate_q(tk.Model(W, b, c, mask=mask), DATA, 50, kernel=kernel, n_samples=16384, n_replicates=4096)
    assert np.abs(deviations(gradient, exact)).max() < 4
    assert not gradient.dq_dW[~mask].any()
    found, wanted = gradient.dq_dW, exact["W"][..., 1]
    assert (found * wanted).sum() > 0.9 * np.linalg.norm(found) * np.linalg.norm(wanted)


def deviations(gradient, exact):
    """Every entry's distance from the exact one in standard errors; entries that are known exactly must be right."""
    z = []
    for name, of in exact.items():
        for place, what in enumerate(("dt", "dq")):
            found, error = getattr(gradient, f"{what}_d{name}"), getattr(gradient, f"{what}_d{name}_error")
            known = error > 0
            z.append(((found - of[..., place]) / np.where(known, error, 1))[known])
            assert found[~known] == pytest.approx(of[..., place][~known], abs=1e-6)
    return np.concatenate(z)


@pytest.mark.small
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # words of 64 bits wrap around, without compilation too
@pytest.mark.parametrize("kernel", ["alternating", "two-block", "single-site"])
def test_few_samples_of_a_tiny_model(kernel):
    W, b, c = np.array([[0.4], [-0.3], [0.5]]), np.array([0.2, 0.0, -0.1]), np.array([0.3])
    _, gradient = adjoints.estimate_q((W, b, c), DATA, 50, kernel=kernel, n_samples=512, n_replicates=64)
    exact = np.array([[central(W, b, c, "W", (i, 0), 50, kernel)[0]] for i in range(3)])
    assert np.abs((gradient.dt_dW - exact) / gradient.dt_dW_error).max() < 4


def test_same_bits_for_every_number_of_threads():
    found, before = [], tk.get_threads()
    for threads in (1, 3):
        tk.set_threads(threads)
        found.append(adjoints.estimate_q([[0.3, 0.1]], None, n_samples=256, n_replicates=64)[1])
    tk.set_threads(before)
    assert (found[0].dt_dW == found[1].dt_dW).all()
    assert np.isnan(found[0].dq_dW).all()


def test_what_cannot_be_estimated_is_an_error():
    stuck = np.full((4, 4), 2.5), np.full(4, 1e-3), np.zeros(4)
    with pytest.raises(tk.NotConvergedError, match=r"the gradient cannot be estimated: .* did not meet"):
        adjoints.estimate_q(stuck, None)
    with pytest.raises(ValueError, match="n_samples must be an integer of at least 128"):
        adjoints.estimate_q([[0.3]], None, n_samples=1)


def test_errors_of_time_and_signal_move_the_gradient_by_its_derivatives():
    """The parts of the error that intervals of T_O and |g|^2 are to blame for, against differences of the gradient itself."""
    draws = np.random.default_rng(4)
    model = tk.Model(draws.normal(size=(3, 2)), draws.normal(size=3), draws.normal(size=2))
    batches = [
        [_Part(draws.normal(size=(4, 3)), draws.choice([-1, 1], (64, 5)).astype(np.int8), draws.choice([-1.0, 1.0], 64), True)]
        for _ in range(4)
    ]
    dt = [batch[0].dt for batch in batches]

    def found(t_obs=3.0, signal=0.7, of_time=0.0, of_signal=0.0):
        width = 2 * 1.959963984540054  # of an interval of 95 %, in standard errors
        estimate = SimpleNamespace(
            signal=signal,
            t_obs=t_obs,
            window=20.0,
            steps_per_sweep=5,
            t_obs_interval=(t_obs, t_obs + width * of_time),
            signal_interval=(signal, signal + width * of_signal),
        )
        return _of_q(model, DATA.astype(float), estimate, batches, dt)

    sampling, step = found()[1], 1e-5
    by_time = (found(t_obs=3 + step)[0] - found(t_obs=3 - step)[0]) / (2 * step)
    by_signal = (found(signal=0.7 + step)[0] - found(signal=0.7 - step)[0]) / (2 * step)
    for options, slope in (({"of_time": 10.0}, 10 * by_time), ({"of_signal": 10.0}, 10 * by_signal)):
        np.testing.assert_allclose(found(**options)[1] ** 2 - sampling**2, slope**2, rtol=1e-5, atol=1e-9 * (slope**2).max())


def test_a_mean_has_the_standard_error_of_independent_arrays():
    rows = list(np.random.default_rng(5).normal(size=(6, 2, 3)))
    mean, error = _mean(rows)
    np.testing.assert_allclose(mean, sum(rows) / 6)
    np.testing.assert_allclose(error, np.sqrt(sum((row - mean) ** 2 for row in rows) / 5 / 6))


def test_as_many_samples_as_the_page_says():
    assert inspect.signature(adjoints.estimate_q_and_gradient).parameters["n_samples"].default == 4096


def test_a_batch_meets_the_signal_of_the_one_before_it(monkeypatch):
    """Of its own the product of two estimates would have a bias."""
    draws, met = np.random.default_rng(4), []
    model = tk.Model(draws.normal(size=(3, 2)))
    states = [np.full((2, 5), k, np.int8) for k in range(3)]
    batches = [[_Part(np.zeros((4, 3)), part, np.full(2, float(k)), True)] for k, part in enumerate(states)]

    def model_part(_model, of_batch, signs, _means):
        met.append(("g", of_batch[0, 0], signs[0]))
        return np.zeros((3, 2))

    def covariance(_model, of_batch, signs, _g):
        met.append(("covariance", of_batch[0, 0], signs[0]))
        return np.zeros((4, 3))

    monkeypatch.setattr(estimate_module, "_model_part", model_part)
    monkeypatch.setattr(estimate_module, "_covariance", covariance)
    estimate = SimpleNamespace(signal=0.7, t_obs=3.0, window=20.0, steps_per_sweep=5, t_obs_interval=(3.0, 3.0), signal_interval=(0.7, 0.7))
    _of_q(model, DATA.astype(float), estimate, batches, [batch[0].dt for batch in batches])
    assert met == [(name, k, k) for k, before in ((0, 2), (1, 0), (2, 1)) for name, k in (("g", before), ("covariance", k))]
