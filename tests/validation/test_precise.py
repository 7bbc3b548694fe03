"""Everything small against mpmath: the definitions with 50 digits, by code that shares nothing with the package's."""

import itertools

import numpy as np
import pytest

import adjoints
import thermokernels as tk

mp = pytest.importorskip("mpmath", reason="mpmath is not installed: pip install mpmath")

RTOL = 1e-11


class Precise:
    """A model on all its states: law, P and observables in mpmath, from the definitions."""

    def __init__(self, W, b=None, c=None):
        self.n_v, self.n_h = len(W), len(W[0])
        self.N = self.n_v + self.n_h
        self.W = [[mp.mpf(w) for w in row] for row in W]
        b = [mp.mpf(x) for x in (b if b is not None else [0] * self.n_v)]
        c = [mp.mpf(x) for x in (c if c is not None else [0] * self.n_h)]
        self.states = [[1 - 2 * (x >> i & 1) for i in range(self.N)] for x in range(2**self.N)]
        weights = [mp.exp(-self._energy(x, b, c)) for x in self.states]
        self.law = [w / mp.fsum(weights) for w in weights]
        self.P = mp.zeros(2**self.N)
        for x in range(2**self.N):
            for i in range(self.N):
                y = x ^ (1 << i)
                self.P[x, y] = self.law[y] / (self.law[x] + self.law[y]) / self.N  # heat bath: the conditional law of spin i
            self.P[x, x] = 1 - mp.fsum(self.P[x, y] for y in range(2**self.N) if y != x)
        self.f = [[-s[i] * s[self.n_v + j] for s in self.states] for i in range(self.n_v) for j in range(self.n_h)]

    def _energy(self, s, b, c):
        pairs = mp.fsum(-self.W[i][j] * s[i] * s[self.n_v + j] for i in range(self.n_v) for j in range(self.n_h))
        return pairs - mp.fsum(x * y for x, y in zip(b + c, s, strict=True))

    def mean(self, values):
        return mp.fsum(p * x for p, x in zip(self.law, values, strict=True))

    def variance_time(self):
        size = len(self.law)
        deflated = mp.eye(size) - self.P + mp.matrix([self.law] * size)
        inverse = deflated**-1
        total = mp.mpf(0)
        for f in self.f:
            centred = mp.matrix([x - self.mean(f) for x in f])
            total += self.mean([a * b for a, b in zip(centred, inverse * centred, strict=True)])
        return total

    def data_mean(self, p_data, values_of_visible):
        """E_data E_model[f | v]: the hidden spins given v from the joint law."""
        total = mp.mpf(0)
        for v, p in enumerate(p_data):
            inside = [x for x in range(len(self.law)) if x % 2**self.n_v == v]
            total += mp.mpf(p) * mp.fsum(self.law[x] * values_of_visible[x] for x in inside) / mp.fsum(self.law[x] for x in inside)
        return total

    def q(self, p_data, window):
        signal = mp.fsum((self.data_mean(p_data, f) - self.mean(f)) ** 2 for f in self.f)
        return mp.mpf(window) * self.N / 2 * signal / self.variance_time()

    def divergence(self, p_data):
        marginal = [mp.fsum(p for x, p in enumerate(self.law) if x % 2**self.n_v == v) for v in range(2**self.n_v)]
        return mp.fsum(mp.mpf(p) * mp.log(mp.mpf(p) / q) for p, q in zip(p_data, marginal, strict=True) if p)

    def spectrum(self):
        """Eigenvalues of P and the weight of the observables on each, without the constant."""
        size, root = len(self.law), [mp.sqrt(p) for p in self.law]
        S = mp.matrix(size)
        for x, y in itertools.product(range(size), repeat=2):
            S[x, y] = root[x] * self.P[x, y] / root[y]
        values, vectors = mp.eigsy((S + S.T) / 2)
        order = sorted(range(size), key=lambda k: -values[k])[1:]
        weights = [mp.fsum(mp.fsum(vectors[x, k] * root[x] * f[x] for x in range(size)) ** 2 for f in self.f) for k in order]
        return [values[k] for k in order], weights

    def hitting_times(self, target):
        free = [x for x in range(len(self.law)) if x not in target]
        matrix = mp.matrix([[(x == y) - self.P[x, y] for y in free] for x in free])
        times = dict(zip(free, mp.lu_solve(matrix, mp.matrix([1] * len(free))), strict=True))
        return [times.get(x, mp.mpf(0)) for x in range(len(self.law))]

    def relevance(self, mask):
        """By normal equations: the variance that the best linear combination of the observables explains."""
        indicator = [mp.mpf(int(m)) for m in mask]

        def covariance(f, g):
            return self.mean([a * b for a, b in zip(f, g, strict=True)]) - self.mean(f) * self.mean(g)

        gram = mp.matrix([[covariance(f, g) for g in self.f] for f in self.f])
        right = mp.matrix([covariance(f, indicator) for f in self.f])
        return (right.T * mp.lu_solve(gram, right))[0] / covariance(indicator, indicator)

    def conductance(self, mask):
        inside = [x for x in range(len(self.law)) if mask[x]]
        flow = mp.fsum(self.law[x] * self.P[x, y] for x in inside for y in range(len(self.law)) if not mask[y])
        mass = mp.fsum(self.law[x] for x in inside)
        return flow / min(mass, 1 - mass)


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
