"""Everything small against mpmath: the definitions with 50 digits, by code that shares nothing with the package's."""

import numpy as np
import pytest

import adjoints
import thermokernels as tk

mp = pytest.importorskip("mpmath", reason="mpmath is not installed: pip install mpmath")

from precise import Precise  # noqa: E402

RTOL = 1e-11


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(50):
        yield


RNG = np.random.default_rng(12)
MODELS = {
    "1 + 1": (RNG.normal(size=(1, 1)), None, None),
    "2 + 2": (1.5 * RNG.normal(size=(2, 2)), None, None),
    "3 + 2": (RNG.normal(size=(3, 2)), None, None),
    "2 + 3, fields": (RNG.normal(size=(2, 3)), 0.5 * RNG.normal(size=2), 0.5 * RNG.normal(size=3)),
    "1 + 2, fields": (RNG.normal(size=(1, 2)), np.array([0.5]), np.array([0.25, -0.75])),
    "1 + 4, ties": (np.array([[1.0, 1.0, -1.0, 0.5]]), None, None),
    "2 + 2, cold": (np.array([[4.0, 0.5], [0.25, 3.0]]), None, None),
}
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def precise():
    with mp.workdps(50):
        return {name: Precise(*model) for name, model in MODELS.items()}


def close(value, exact, rtol=RTOL):
    assert abs(mp.mpf(float(value)) / exact - 1) <= rtol, (value, mp.nstr(exact, 20))


def law_of_data(n_v):
    weights = np.arange(1.0, 2**n_v + 1) ** 2
    return weights / weights.sum()


@every_model
def test_variance_time_signal_to_noise_and_divergence(name, precise):
    W, b, c = MODELS[name]
    exact, p_data = precise[name], law_of_data(len(W))
    close(tk.observable_variance_time(tk.gibbs_chain(W, b, c)), exact.variance_time())
    q = tk.q_struct(W, p_data, window=30, b=b, c=c)
    if len(W) == 1 and b is None:  # of one spin every law has the same v tanh F(v): g = 0, up to the rounding of p_data
        assert q.value < 1e-25
    else:
        close(q.value, exact.q(p_data, 30))
    close(tk.kl_divergence(p_data, W, b, c), exact.divergence(p_data))


@pytest.mark.parametrize("name", ["2 + 2", "2 + 2, cold", "1 + 2, fields"])
def test_gradients(name):
    """Central differences with a step of 1e-15 and 50 digits: their error is 1e-30 of the third derivative."""
    W, b, c = MODELS[name]
    p_data, h = law_of_data(len(W)), mp.mpf(10) ** -15
    _, by_q = adjoints.q_struct(W, p_data, window=30, b=b, c=c)
    _, by_time = adjoints.observable_variance_time(W, b, c)
    _, by_divergence = adjoints.kl_divergence(p_data, W, b, c)
    for i, j in np.ndindex(W.shape):
        ends = []
        for sign in (1, -1):
            moved = [[mp.mpf(w) for w in row] for row in W]
            moved[i][j] += sign * h
            model = Precise(moved, b, c)
            ends.append((model.q(p_data, 30), model.variance_time(), model.divergence(p_data)))
        for gradient, up, down in zip((by_q, by_time, by_divergence), *ends, strict=True):
            slope = (up - down) / (2 * h)
            assert abs(mp.mpf(float(gradient[i, j])) - slope) <= 1e-10 * np.abs(gradient).max()


@every_model
def test_gap_spectral_measure_and_window(name, precise):
    chain = tk.gibbs_chain(*MODELS[name], quotient=False)
    values, weights = precise[name].spectrum()
    close(tk.spectral_gap(chain), 1 - values[0], 1e-9)
    measure = tk.spectral_measure(chain)
    total = mp.fsum(weights)
    close(measure.weights.sum(), total)
    relevant = [s for s, w in zip(values, weights, strict=True) if w > 1e-12 * total]
    close(measure.relevant_gap, 1 - max(relevant), 1e-9)
    for power in (1, 7):
        exact = mp.fsum(w * s**power for s, w in zip(values, weights, strict=True))
        assert abs(mp.mpf(float(measure.weights @ measure.nodes**power)) - exact) <= 1e-11 * total
    for K in (1, 12, 1000):
        lags = [1, *(2 * (1 - mp.mpf(t) / K) for t in range(1, K))]  # Var(mean) = (1/K) sum_|t| (1 - |t| / K) C(t)
        seen = [(s, w) for s, w in zip(values, weights, strict=True) if w > 1e-40]
        window = mp.fsum(w * mp.fsum(share * s**t for t, share in enumerate(lags)) for s, w in seen) / K
        close(tk.window_variance(measure, K), window, 1e-9)


@every_model
def test_passages_conductance_and_relevance(name, precise):
    chain, exact = tk.gibbs_chain(*MODELS[name], quotient=False), precise[name]
    rng = np.random.default_rng(5)
    for size in (1, chain.n_states // 2, chain.n_states - 1):
        target = sorted(rng.permutation(chain.n_states)[:size].tolist())
        times = exact.hitting_times(target)
        ours = tk.hitting_times(chain, target)
        for x in range(chain.n_states):
            assert abs(mp.mpf(ours[x]) - times[x]) <= 1e-8 * times[x]
        start = [x for x in range(chain.n_states) if x not in target]
        mean = mp.fsum(exact.law[x] * times[x] for x in start) / mp.fsum(exact.law[x] for x in start)
        close(tk.mean_first_passage(chain, start, target), mean, 1e-8)
        mask = np.isin(np.arange(chain.n_states), target)
        close(tk.conductance(chain, mask), exact.conductance(mask))
        reference = exact.relevance(mask)
        assert abs(tk.relevance(chain, mask) - reference) <= 1e-11
