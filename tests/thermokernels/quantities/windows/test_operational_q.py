"""Q_op against a dense twin that adds up every pair of records on the full chain, simulated windows, closed forms and fifty digits."""

import itertools

import mpmath as mp
import numpy as np
import pytest

import thermokernels as tk
from thermokernels.quantities.windows import operational_q as module
from thermokernels.quantities.windows.window_moments import WindowModes, by_recursion, geometric_sums, second_differences

small = pytest.mark.small

KERNELS = ("single-site", "two-block", "alternating")
RECORDS = {"single-site": lambda shape: sum(shape), "two-block": lambda shape: 2, "alternating": lambda shape: 1}
MODELS = [((2, 3), False, 1.0), ((3, 2), True, 1.0), ((2, 2), False, 3.0)]


def random_model(shape, fields=False, scale=1.0, seed=0):
    draws = np.random.default_rng([seed, *shape])
    W, b, c = scale * draws.normal(size=shape), draws.normal(size=shape[0]), draws.normal(size=shape[1])
    return (W, b, c) if fields else (W, np.zeros(shape[0]), np.zeros(shape[1])), draws.dirichlet(np.ones(2 ** shape[0]))


class Twin:
    """The definitions on all 2^N states: a dense kernel from conditional laws, and sums over all pairs of records."""

    def __init__(self, W, b, c, kernel):
        self.n_v, self.n_h = W.shape
        self.n = self.n_v + self.n_h
        self.spins = 1.0 - 2.0 * (np.arange(2**self.n)[:, None] >> np.arange(self.n) & 1)
        self.v, self.h = self.spins[:, : self.n_v], self.spins[:, self.n_v :]
        weight = np.exp(np.einsum("xi,ij,xj->x", self.v, W, self.h) + self.v @ b + self.h @ c)
        self.pi = weight / weight.sum()
        self.f = -np.einsum("xi,xj->xij", self.v, self.h).reshape(2**self.n, -1)
        self.W, self.b, self.c = W, b, c
        self.P = getattr(self, kernel.replace("-", "_"))()

    def given(self, fixed):
        """P(x, y) = pi(y | the fixed spins of x)."""
        same = (self.spins[:, None, fixed] == self.spins[None, :, fixed]).all(axis=2)
        joint = same * self.pi
        return joint / joint.sum(axis=1, keepdims=True)

    def single_site(self):
        return sum(self.given([k for k in range(self.n) if k != i]) for i in range(self.n)) / self.n

    def blocks(self):
        return self.given(list(range(self.n_v, self.n))), self.given(list(range(self.n_v)))

    def two_block(self):
        return sum(self.blocks()) / 2

    def alternating(self):
        visible, hidden = self.blocks()
        return visible @ hidden

    def start(self, name, p_data):
        if name == "stationary":
            return self.pi
        if name == "uniform":
            return np.full(2**self.n, 0.5**self.n)
        visible = np.arange(2**self.n) % 2**self.n_v
        marginal = np.bincount(visible, self.pi)
        return p_data[visible] * self.pi / marginal[visible]

    def answer(self, p_data, start, window, burn_in, n_chains=1):
        """(bias^2, variance) of the mean over the window, entry by entry of the covariance of any two records."""
        f = self.f - self.pi @ self.f
        laws, powers = [start @ np.linalg.matrix_power(self.P, burn_in)], [np.eye(len(self.P))]
        for _ in range(window):
            laws.append(laws[-1] @ self.P)
            powers.append(powers[-1] @ self.P)
        means = np.array([law @ f for law in laws])
        variance = 0.0
        for s, t in itertools.product(range(window), repeat=2):
            early, late = min(s, t), max(s, t)
            joint = np.einsum("x,xa,xa->", laws[early], f, powers[late - early] @ f)
            variance += joint - means[early] @ means[late]
        bias = means[:window].mean(axis=0)
        return bias @ bias, variance / window**2 / n_chains

    def signal(self, p_data):
        visible = 1.0 - 2.0 * (np.arange(2**self.n_v)[:, None] >> np.arange(self.n_v) & 1)
        tanh = np.tanh(visible @ self.W + self.c)
        return -(visible.T @ (p_data[:, None] * tanh)).ravel() - self.pi @ self.f


@small
@pytest.mark.parametrize("method", ["modes", "recursion"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("shape", "fields", "scale"), MODELS)
def test_equals_the_sum_over_all_pairs_of_records(shape, fields, scale, kernel, method):
    model, p_data = random_model(shape, fields, scale)
    twin, chain, records = Twin(*model, kernel), tk.gibbs_chain(*model, kernel=kernel), RECORDS[kernel](shape)
    signal = twin.signal(p_data)
    for start, (window, burn_in) in itertools.product(("stationary", "uniform", "data"), ((1, 0), (2, 0), (9, 0), (1, 1), (6, 3))):
        bias2, variance = twin.answer(p_data, twin.start(start, p_data), window, burn_in)
        q = tk.operational_q(chain, p_data, window / records, burn_in / records, start, method=method)
        assert (q.window, q.burn_in) == (window, burn_in)
        assert q.bias2 == pytest.approx(bias2, rel=1e-11, abs=1e-15)
        assert q.variance == pytest.approx(variance, rel=1e-11, abs=0)
        assert q.signal == pytest.approx(signal @ signal, rel=1e-10, abs=0)
        assert q.value == pytest.approx(q.signal / (bias2 + variance), rel=1e-11, abs=0)


@small
@pytest.mark.parametrize("kernel", KERNELS)
def test_from_a_state_and_from_any_law(kernel):
    model, p_data = random_model((2, 2))
    twin, chain, records = Twin(*model, kernel), tk.gibbs_chain(*model, kernel=kernel), RECORDS[kernel]((2, 2))
    for law in (np.eye(16)[13], np.random.default_rng(3).dirichlet(np.ones(16))):
        bias2, variance = twin.answer(p_data, law, 5, 2, n_chains=7)
        q = tk.operational_q(chain, p_data, 5 / records, 2 / records, law, n_chains=7)
        assert (q.bias2, q.variance) == pytest.approx((bias2, variance), rel=1e-11, abs=0)
    folded = law[:8] + law[8:][::-1]
    assert tk.operational_q(chain, p_data, 5 / records, 2 / records, folded, n_chains=7) == q
    still = tk.operational_q(chain, p_data, 1 / records, 0, np.eye(16)[13], method="modes")
    assert still.variance < 1e-14 < still.bias2  # the first record is the start itself


@small
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [2.0, 6.0])
def test_the_two_methods_agree_where_some_states_are_all_but_impossible(kernel, scale):
    (W, _, _), p_data = random_model((3, 3), scale=scale)
    chain = tk.gibbs_chain(W, kernel=kernel)
    rarest = np.eye(chain.n_states)[chain.law.argmin()]
    for start, burn_in in itertools.product((rarest, "uniform", "data"), (0, 4)):
        modes, recursion = (tk.operational_q(chain, p_data, 30, burn_in, start, method=method) for method in ("modes", "recursion"))
        assert modes.variance == pytest.approx(recursion.variance, rel=1e-10, abs=0)
        assert modes.bias2 == pytest.approx(recursion.bias2, rel=1e-10, abs=0)


@small
def test_stationary_windows_are_those_of_the_spectral_measure():
    (W, _, _), p_data = random_model((3, 3))
    chain = tk.gibbs_chain(W)
    measure = tk.spectral_measure(chain)
    curve = tk.operational_curve(chain, p_data, [1, 10, 100, 10_000], [0, 5])
    expected = [tk.window_variance(measure, 6 * window) for window in (1, 10, 100, 10_000)]
    np.testing.assert_allclose(curve.variance, np.array([expected, expected]).T, rtol=1e-10)
    assert not curve.bias2.any()


@small
@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
def test_both_asymptotes(kernel):
    (W, _, _), p_data = random_model((3, 2))
    chain = tk.gibbs_chain(W, kernel=kernel)
    curve = tk.operational_curve(chain, p_data, [1, 1e6], start="uniform", n_chains=3, method="modes")
    records = 3 * RECORDS[kernel]((3, 2)) * curve.windows
    np.testing.assert_allclose(curve.q_limit, records * curve.signal / tk.asymptotic_variance(chain), rtol=1e-10)
    np.testing.assert_allclose(curve.q_struct, records * curve.signal / 2 / tk.observable_variance_time(chain), rtol=1e-10)
    assert curve.value[1, 0] == pytest.approx(curve.q_limit[1], rel=1e-4)
    assert abs(curve.value[0, 0] / curve.q_limit[0] - 1) > 0.1


@small
def test_the_alternating_scan_tends_to_its_sum_over_lags():
    (W, _, _), p_data = random_model((3, 2))
    chain = tk.gibbs_chain(W, kernel="alternating")
    rho = tk.autocorrelation_function(chain, 400)
    variance = WindowModes(chain).variance * (1 + 2 * rho[1:].sum())
    curve = tk.operational_curve(chain, p_data, [10**7], method="modes")
    assert curve.q_limit[0] == pytest.approx(1e7 * curve.signal / variance, rel=1e-11, abs=0)
    assert curve.value[0, 0] == pytest.approx(curve.q_limit[0], rel=1e-5)


@pytest.mark.parametrize("start", ["uniform", "data"])
def test_simulated_windows(start):
    """20 000 windows of the compiled sampler from a start and a burn-in of two sweeps; the tolerance is five standard errors."""
    (W, b, c), p_data = random_model((3, 2), fields=True)
    n_windows, draws = 20_000, np.random.default_rng(11)
    visible = draws.choice(8, p=p_data, size=n_windows) if start == "data" else draws.integers(8, size=n_windows)
    spins = np.ones((n_windows, 5))
    spins[:, :3] = 1 - 2 * (visible[:, None] >> np.arange(3) & 1)
    if start == "data":
        spins[:, 3:] = np.where(draws.random((n_windows, 2)) < 1 / (1 + np.exp(-2 * (spins[:, :3] @ W + c))), 1, -1)
    else:
        spins[:, 3:] = draws.choice([-1, 1], size=(n_windows, 2))
    # the first record is the state after the burn-in: the sampler's records begin a sweep later
    samples = tk.sample(W, b, c, n_chains=n_windows, n_sweeps=6, burn_in=1, kernel="alternating", start=spins, seed=2)
    chain = tk.gibbs_chain(W, b, c, kernel="alternating")
    ghat = -np.einsum("tki,tkj->kij", samples.visible, samples.hidden, dtype=np.float64) / 6
    errors = ((ghat - (-chain.law @ products(chain)).reshape(3, 2)) ** 2).sum(axis=(1, 2))
    q = tk.operational_q(chain, p_data, 6, 2, start)
    assert errors.mean() == pytest.approx(q.bias2 + q.variance, abs=5 * errors.std() / np.sqrt(n_windows))


def products(chain):
    spins = chain.spins().astype(float)
    return np.einsum("xi,xj->xij", spins[:, : chain.n_visible], spins[:, chain.n_visible :]).reshape(chain.n_states, -1)


@small
@pytest.mark.parametrize("fields", [False, True])
def test_positive_phase(fields):
    (W, b, c), p_data = random_model((2, 3), fields)
    chain = tk.gibbs_chain(W, b, c)
    visible = 1.0 - 2.0 * (np.arange(4)[:, None] >> np.arange(2) & 1)
    tanh = np.tanh(visible @ W + c)
    given = np.einsum("vi,vj->vij", visible, tanh).reshape(4, -1)
    expected = p_data @ given**2 - (p_data @ given) ** 2
    q = tk.operational_q(chain, p_data, 10, n_data=50)
    assert q.positive == pytest.approx(expected.sum() / 50, rel=1e-12, abs=0)
    assert q.error == q.bias2 + q.variance + q.positive
    assert q.value == pytest.approx(q.signal / q.error, rel=1e-15, abs=0)
    sampled = tk.operational_q(chain, p_data, 10, n_data=50, hidden="sampled")
    assert sampled.positive == pytest.approx((6 - ((p_data @ given) ** 2).sum()) / 50, rel=1e-12, abs=0)


@small
def test_autocorrelation_function():
    (W, _, _), _ = random_model((2, 3))
    for kernel in KERNELS:
        twin, chain = Twin(W, np.zeros(2), np.zeros(3), kernel), tk.gibbs_chain(W, kernel=kernel)
        f = twin.f - twin.pi @ twin.f
        expected = [np.einsum("x,xa,xa->", twin.pi, f, np.linalg.matrix_power(twin.P, t) @ f) for t in range(6)]
        np.testing.assert_allclose(tk.autocorrelation_function(chain, 5), np.array(expected) / expected[0], rtol=1e-12)
        np.testing.assert_allclose(WindowModes(chain).covariances(5), expected, rtol=1e-12)


@small
@pytest.mark.parametrize("window", [1, 2, 3, 50, 10**6])
def test_divided_differences_to_fifty_digits(window):
    """Of x^K at sigma_m, sigma_l and 1, gaps from 1e-12 to those of negative eigenvalues, equal and nearly equal ones among them."""
    gaps = np.array([0.0, 1e-12, 3e-9, 1e-7, 1.1e-7, 1e-4, 0.03, 0.03 * (1 + 1e-13), 0.5, 1.0, 1.3, 1.9])
    with mp.workdps(80):
        exact = [1 - mp.mpf(gap) for gap in gaps]

        def geometric(x):
            return mp.mpf(window) if x == 1 else (1 - x**window) / (1 - x)

        def pair(x, y):
            if x == y:
                return window * x ** (window - 1)
            return (x**window - y**window) / (x - y)

        def triple(x, y):
            low, high = min(x, y), max(x, y)
            if low == 1:
                return mp.mpf(window) * (window - 1) / 2
            if window == 1:
                return mp.mpf(0)
            return (geometric(high) - pair(low, high)) / (1 - low)

        np.testing.assert_allclose(geometric_sums(gaps, window), [float(geometric(x)) for x in exact], rtol=1e-13)
        expected = [[float(triple(x, y)) for y in exact] for x in exact]
    np.testing.assert_allclose(second_differences(gaps, window), expected, rtol=2e-12)


def test_long_windows_of_a_large_chain_come_from_the_spectral_measure(monkeypatch):
    (W, _, _), p_data = random_model((3, 3))
    chain = tk.gibbs_chain(W)
    expected = tk.operational_q(chain, p_data, 1000, method="modes")
    monkeypatch.setattr(module.window_moments, "MOST_MEMORIES", 8)
    assert tk.operational_q(chain, p_data, 1000).variance == pytest.approx(expected.variance, rel=1e-9, abs=0)
    with pytest.raises(tk.ModelTooLargeError, match="decomposes the kernel on up to 8 memories; this chain has 32"):
        tk.operational_q(chain, p_data, 1000, method="modes")
    monkeypatch.setattr(module, "MOST_WORK", 1000)
    with pytest.raises(tk.ModelTooLargeError, match=r"a recursion over 6000 records of 32 states would take .* multiply-adds"):
        tk.operational_q(chain, p_data, 1000, start="uniform")
    assert by_recursion(chain, chain.law, 6, 0).second > 0
    work = (60 + 12) * 32 * (9 + 1) * (6 + 8)  # records of 32 states, 9 observables and a sum, a product with A and what goes with it
    monkeypatch.setattr(module, "MOST_WORK", work)
    assert tk.operational_q(chain, p_data, 10, burn_in=2, start="uniform").variance > 0
    monkeypatch.setattr(module, "MOST_WORK", work - 1)
    with pytest.raises(tk.ModelTooLargeError, match=r"a recursion over 60 records of 32 states would take 3.2e\+05 multiply-adds"):
        tk.operational_q(chain, p_data, 10, burn_in=2, start="uniform")


@small
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chain": np.zeros((2, 2))}, "chain must be a GibbsChain"),
        ({"p_data": [0.5, 0.5]}, r"p_data must have shape \(4,\)"),
        ({"window": 0}, "window must be a positive, finite number of sweeps; got 0"),
        ({"window": 0.3}, "window must be a whole number of records, 4 a sweep of the single-site kernel; 0.3 sweeps are 1.2: use 0.25"),
        ({"window": float("nan")}, "window must be a positive, finite number of sweeps"),
        ({"burn_in": -1}, "burn_in must be a positive, finite number of sweeps, or 0; got -1"),
        ({"burn_in": 0.1}, "burn_in must be a whole number of records"),
        ({"start": "nowhere"}, "start must be one of 'stationary', 'uniform', 'data'; got 'nowhere'"),
        ({"start": [0.5, 0.5]}, r"start must have shape \(8,\); got shape \(2,\)"),
        ({"start": -np.eye(16)[0]}, "start must be nonnegative"),
        ({"n_chains": 0}, "n_chains must be an integer of at least 1"),
        ({"n_data": 0}, "n_data must be an integer of at least 1"),
        ({"hidden": "mean"}, "hidden must be one of 'expected', 'sampled'"),
        ({"method": "cg"}, "method must be one of 'auto', 'modes', 'recursion'"),
    ],
)
def test_bad_input(change, message):
    arguments = {"chain": tk.gibbs_chain(np.full((2, 2), 0.3)), "p_data": np.full(4, 0.25), "window": 10} | change
    with pytest.raises(ValueError, match=message):
        tk.operational_q(**arguments)


@small
def test_sweeps_are_whole_records_to_a_billionth():
    """Of themselves where they are many, of a record where they are few: sweeps are given as decimals."""
    for sweeps, per_sweep, records in ((0.3, 10, 3), (1e7 + 1 / 3, 3, 30000001), (1e6 / 7, 7, 1000000), ((1 + 9e-10) / 7, 7, 1)):
        assert module.as_records(sweeps, per_sweep, "k", "window", 1) == records
    for sweeps in (1.0 + 2e-9, (1 + 2e-9) / 4, 1e6 * (1 + 2e-9)):
        with pytest.raises(ValueError, match="whole number of records"):
            module.as_records(sweeps, 4, "k", "window", 1)
    assert module.as_records(0, 4, "k", "burn_in", 0) == 0
    for few in (9e-10, 1e-9 / 3):  # as good as none
        assert module.as_records(few / 4, 4, "k", "burn_in", 0) == 0
        with pytest.raises(ValueError, match=r"whole number of records.*: use 0\.25"):
            module.as_records(few / 4, 4, "k", "window", 1)


@small
def test_bad_curves():
    chain, p_data = tk.gibbs_chain(np.full((2, 2), 0.3)), np.full(4, 0.25)
    with pytest.raises(ValueError, match=r"windows must be a list of at least one number of sweeps; got \[\]"):
        tk.operational_curve(chain, p_data, [])
    with pytest.raises(ValueError, match="burn_ins must be a whole number of records"):
        tk.operational_curve(chain, p_data, [1], [0.1])
    with pytest.raises(ValueError, match="n_lags must be an integer of at least 0"):
        tk.autocorrelation_function(chain, -1)


@pytest.mark.parametrize("start", ["stationary", "uniform"])
def test_an_exchangeable_model_has_the_signal_and_the_q_of_all_its_states(start):
    W, data = np.full((2, 3), 0.3), np.array([[1, 1], [1, -1], [-1, -1], [1, 1]])
    law = np.zeros(4)
    for row in data:
        law[sum(int(spin < 0) << i for i, spin in enumerate(row))] += 1 / len(data)
    own = tk.operational_q(tk.exchangeable_chain(W), data, 4, start=start)
    full = tk.operational_q(tk.gibbs_chain(W), law, 4, start=start)
    assert own.signal == pytest.approx(full.signal, rel=1e-10, abs=0)
    assert own.value == pytest.approx(full.value, rel=1e-8, abs=0)


@pytest.mark.parametrize(
    ("method", "window", "decomposed"), [("auto", 1e6, True), ("auto", 1, False), ("recursion", 20, False), ("modes", 1, True)]
)
def test_modes_are_those_of_more_work_than_a_decomposition(method, window, decomposed, monkeypatch):
    asked, modes = [], module.WindowModes
    monkeypatch.setattr(module, "WindowModes", lambda chain: (asked.append(1), modes(chain))[1])
    chain = tk.gibbs_chain(np.full((2, 2), 0.3))
    tk.operational_q(chain, np.full(4, 0.25), window, start="uniform", method=method)
    assert bool(asked) is decomposed


@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
def test_long_windows_have_the_asymptotic_variance_with_modes_and_without(kernel):
    chain = tk.gibbs_chain(np.array([[0.5, -0.2], [0.1, 0.3]]), kernel=kernel)
    question = module._question(chain, np.full(4, 0.25), "stationary", 1, None, "expected", "auto")
    expected = tk.observable_variance_time(chain), tk.asymptotic_variance(chain)
    for modes in (None, module.WindowModes(chain)):
        assert question.long_windows(modes) == pytest.approx(expected, rel=1e-10, abs=0)
