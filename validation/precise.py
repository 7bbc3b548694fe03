"""Small models in mpmath, from the definitions: everything that the package says of a single-site chain, by code of its own."""

from __future__ import annotations

import itertools

import mpmath as mp


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

    def mean(self, values) -> mp.mpf:
        return mp.fsum(p * x for p, x in zip(self.law, values, strict=True))

    def variance_time(self) -> mp.mpf:
        size = len(self.law)
        deflated = mp.eye(size) - self.P + mp.matrix([self.law] * size)
        inverse = deflated**-1
        total = mp.mpf(0)
        for f in self.f:
            centred = mp.matrix([x - self.mean(f) for x in f])
            total += self.mean([a * b for a, b in zip(centred, inverse * centred, strict=True)])
        return total

    def data_mean(self, p_data, values_of_visible) -> mp.mpf:
        """E_data E_model[f | v]: the hidden spins given v from the joint law."""
        total = mp.mpf(0)
        for v, p in enumerate(p_data):
            inside = [x for x in range(len(self.law)) if x % 2**self.n_v == v]
            total += mp.mpf(p) * mp.fsum(self.law[x] * values_of_visible[x] for x in inside) / mp.fsum(self.law[x] for x in inside)
        return total

    def q(self, p_data, window) -> mp.mpf:
        signal = mp.fsum((self.data_mean(p_data, f) - self.mean(f)) ** 2 for f in self.f)
        return mp.mpf(window) * self.N / 2 * signal / self.variance_time()

    def divergence(self, p_data) -> mp.mpf:
        marginal = [mp.fsum(p for x, p in enumerate(self.law) if x % 2**self.n_v == v) for v in range(2**self.n_v)]
        return mp.fsum(mp.mpf(p) * mp.log(mp.mpf(p) / q) for p, q in zip(p_data, marginal, strict=True) if p)

    def spectrum(self) -> tuple[list[mp.mpf], list[mp.mpf]]:
        """Eigenvalues of P and the weight of the observables on each, without the constant."""
        size, root = len(self.law), [mp.sqrt(p) for p in self.law]
        S = mp.matrix(size)
        for x, y in itertools.product(range(size), repeat=2):
            S[x, y] = root[x] * self.P[x, y] / root[y]
        values, vectors = mp.eigsy((S + S.T) / 2)
        order = sorted(range(size), key=lambda k: -values[k])[1:]
        weights = [mp.fsum(mp.fsum(vectors[x, k] * root[x] * f[x] for x in range(size)) ** 2 for f in self.f) for k in order]
        return [values[k] for k in order], weights

    def hitting_times(self, target) -> list[mp.mpf]:
        free = [x for x in range(len(self.law)) if x not in target]
        matrix = mp.matrix([[(x == y) - self.P[x, y] for y in free] for x in free])
        times = dict(zip(free, mp.lu_solve(matrix, mp.matrix([1] * len(free))), strict=True))
        return [times.get(x, mp.mpf(0)) for x in range(len(self.law))]

    def relevance(self, mask) -> mp.mpf:
        """By normal equations: the variance that the best linear combination of the observables explains."""
        indicator = [mp.mpf(int(m)) for m in mask]

        def covariance(f, g):
            return self.mean([a * b for a, b in zip(f, g, strict=True)]) - self.mean(f) * self.mean(g)

        gram = mp.matrix([[covariance(f, g) for g in self.f] for f in self.f])
        right = mp.matrix([covariance(f, indicator) for f in self.f])
        return (right.T * mp.lu_solve(gram, right))[0] / covariance(indicator, indicator)

    def conductance(self, mask) -> mp.mpf:
        inside = [x for x in range(len(self.law)) if mask[x]]
        flow = mp.fsum(self.law[x] * self.P[x, y] for x in inside for y in range(len(self.law)) if not mask[y])
        mass = mp.fsum(self.law[x] for x in inside)
        return flow / min(mass, 1 - mass)
