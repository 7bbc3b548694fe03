"""The stored constants of the selftest, computed again with mpmath: dense matrices, 50 digits, definitions as they are read."""

from itertools import product

import mpmath as mp
import numpy as np
import pytest

from thermokernels_app.selftest import answers

mp.mp.dps = 50


class Model:
    """Law, kernel and observables of an RBM on all of its states, by the definitions; bit i of a state is spin i, spin = 1 - 2 bit."""

    def __init__(self, W, b=None, c=None):
        self.W = mp.matrix(W)
        self.n_v, self.n_h = self.W.rows, self.W.cols
        self.N = self.n_v + self.n_h
        self.b, self.c = b or [mp.mpf(0)] * self.n_v, c or [mp.mpf(0)] * self.n_h
        self.states = [[1 - 2 * ((s >> i) & 1) for i in range(self.N)] for s in range(2**self.N)]
        weights = [mp.exp(-self.energy(x)) for x in self.states]
        self.Z = mp.fsum(weights)
        self.law = [w / self.Z for w in weights]
        n = len(self.states)
        self.P = mp.matrix(n, n)
        for s, x in enumerate(self.states):
            for i in range(self.N):
                rate = 1 / (1 + mp.exp(2 * x[i] * self.field(x, i))) / self.N
                self.P[s, s ^ (1 << i)] += rate
                self.P[s, s] -= rate
            self.P[s, s] += 1
        self.pairs = list(product(range(self.n_v), range(self.n_h)))
        self.f = [[-mp.mpf(x[i] * x[self.n_v + j]) for x in self.states] for i, j in self.pairs]

    def energy(self, x):
        v, h = x[: self.n_v], x[self.n_v :]
        return -mp.fsum(
            [v[i] * self.W[i, j] * h[j] for i in range(self.n_v) for j in range(self.n_h)]
            + [self.b[i] * v[i] for i in range(self.n_v)]
            + [self.c[j] * h[j] for j in range(self.n_h)]
        )

    def field(self, x, i):
        if i < self.n_v:
            return self.b[i] + mp.fsum(self.W[i, j] * x[self.n_v + j] for j in range(self.n_h))
        return self.c[i - self.n_v] + mp.fsum(self.W[k, i - self.n_v] * x[k] for k in range(self.n_v))

    def mean(self, f):
        return mp.fsum(p * value for p, value in zip(self.law, f, strict=True))

    def t_obs(self):
        n = len(self.law)
        A = mp.eye(n) - self.P
        for s in range(n):
            for t in range(n):
                A[s, t] += self.law[t]
        inverse = A**-1
        total = mp.mpf(0)
        for f in self.f:
            centred = mp.matrix([value - self.mean(f) for value in f])
            y = inverse * centred
            total += mp.fsum(self.law[s] * centred[s] * y[s] for s in range(n))
        return total

    def visible_law(self):
        law = [mp.mpf(0)] * 2**self.n_v
        for s, p in enumerate(self.law):
            law[s % 2**self.n_v] += p
        return law

    def g(self, p_data):
        result = []
        for (i, j), f in zip(self.pairs, self.f, strict=True):
            data = -mp.fsum(p * x[i] * mp.tanh(self.field(x, self.n_v + j)) for p, x in zip(p_data, self.states, strict=False))
            result.append(data - self.mean(f))
        return result

    def gap(self, even=True):
        """1 - the second eigenvalue; with ``even`` among functions with f(-x) = f(x)."""
        n = len(self.law)
        rows = mp.matrix([[mp.sqrt(self.law[s] / self.law[t]) * self.P[s, t] for t in range(n)] for s in range(n)])
        if even:
            half = n // 2
            rows = mp.matrix([[rows[s, t] + rows[s, n - 1 - t] for t in range(half)] for s in range(half)])
        rows = (rows + rows.T) / 2
        return 1 - sorted(mp.eigsy(rows, eigvals_only=True))[-2]

    def hitting_times(self, target):
        free = [s for s in range(len(self.law)) if s not in target]
        A = mp.matrix([[(s == t) - self.P[s, t] for t in free] for s in free])
        times = mp.lu_solve(A, mp.matrix([1] * len(free)))
        return {s: times[k] for k, s in enumerate(free)}

    def conductance(self, cut):
        flow = mp.fsum(self.law[s] * self.P[s, t] for s in cut for t in range(len(self.law)) if t not in cut)
        mass = mp.fsum(self.law[s] for s in cut)
        return flow / min(mass, 1 - mass)


def whole(name):
    W, b, c = (None if part is None else part.tolist() for part in answers.MODELS[name])
    return Model(W, b, c)


def q(W, p_data, window=100):
    model = Model(W)
    return mp.mpf(window * model.N) / 2 * mp.fsum(g**2 for g in model.g(p_data)) / model.t_obs()


def compute():
    """Every stored constant by its name."""
    general, fields, cold = whole("general"), whole("fields"), whole("cold")
    p_data = [mp.mpf(k) / 36 for k in range(1, 9)]
    pairs = 2 ** (general.N - 1)

    def pair(*states):
        return [t for s in states for t in (s, 2 * pairs - 1 - s)]

    hitting = general.hitting_times(pair(0, 5))
    W = answers.MODELS["general"][0]
    h = mp.mpf(10) ** -16

    def moved(i, j, step):
        changed = mp.matrix(W.tolist())
        changed[i, j] += step
        return changed.tolist()

    slopes = [(q(moved(i, j, h), p_data) - q(moved(i, j, -h), p_data)) / (2 * h) for i, j in general.pairs]
    law = general.visible_law()
    times = fields.hitting_times([0])
    return {
        "t_obs": general.t_obs(),
        "signal": mp.fsum(g**2 for g in general.g(p_data)),
        "q": q(W.tolist(), p_data),
        "dq_dw": slopes,
        "gap": general.gap(),
        "log_partition": mp.log(general.Z),
        "divergence": mp.fsum(p * mp.log(p / r) for p, r in zip(p_data, law, strict=True)),
        "hitting_times": [hitting.get(s, mp.mpf(0)) for s in range(pairs)],
        "conductance": general.conductance(pair(0, 1, 2, 3)),
        "fields t_obs": fields.t_obs(),
        "fields gap": fields.gap(even=False),
        "fields largest hitting time": max(times.values()),
        "fields conductance": fields.conductance([s for s in range(16) if s % 2 == 0]),
        "cold t_obs": cold.t_obs(),
    }


@pytest.fixture(scope="module")
def constants():
    return compute()


def test_every_constant_is_that_of_mpmath(constants):
    assert constants.keys() == answers.CONSTANTS.keys()
    for name, stored in answers.CONSTANTS.items():
        computed = constants[name] if isinstance(constants[name], list) else [constants[name]]
        again = [float(value) for value in computed]
        np.testing.assert_allclose(np.atleast_1d(stored), again, rtol=1e-15, atol=0, err_msg=name)


if __name__ == "__main__":
    for name, value in compute().items():
        print(f'    "{name}": {[float(part) for part in value] if isinstance(value, list) else float(value)!r},')
