"""Plain dense twins: the full chain of a small model, its kernels and its observables, with no code of the package."""

import numpy as np


def spins_of(n):
    return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)


class DenseChain:
    """States are (v, h) with h running fastest."""

    def __init__(self, W, b, c, kernel):
        n_v, n_h = W.shape
        self.W, self.c = W, c
        v, h = spins_of(n_v), spins_of(n_h)
        self.v, self.h = np.repeat(v, len(h), axis=0), np.tile(h, (len(v), 1))
        weight = np.exp(np.einsum("xi,ij,xj->x", self.v, W, self.h) + self.v @ b + self.h @ c)
        self.law = weight / weight.sum()
        x = np.hstack([self.v, self.h])
        same_v = (self.v[:, None] == self.v[None]).all(axis=2)
        same_h = (self.h[:, None] == self.h[None]).all(axis=2)
        to_v, to_h = same_h * self.law, same_v * self.law
        to_v, to_h = to_v / to_v.sum(axis=1, keepdims=True), to_h / to_h.sum(axis=1, keepdims=True)
        if kernel == "alternating":
            self.P = to_v @ to_h
        elif kernel == "two-block":
            self.P = (to_v + to_h) / 2
        else:
            distance = (x[:, None] != x[None]).sum(axis=2)
            self.P = np.where(distance == 1, self.law[None] / (self.law[None] + self.law[:, None]), 0) / x.shape[1]
            self.P += np.diag(1 - self.P.sum(axis=1))

    def observables(self, observables="products", units="pm1", fields=False):
        a, b = self.v, np.tanh(self.v @ self.W + self.c) if observables == "expected" else self.h
        if units == "zero-one":
            a, b = (1 + a) / 2, (1 + b) / 2
        f = np.einsum("xi,xj->xij", a, b).reshape(len(a), -1)
        return np.hstack([f, a, b]) if fields else f

    def resolvent(self, f):
        """sum_t P^t (f - E f)."""
        centred = f - self.law @ f
        return np.linalg.solve(np.eye(len(self.law)) - self.P + self.law[None], centred)

    def variance_time(self, f):
        return float((self.law[:, None] * (f - self.law @ f) * self.resolvent(f)).sum())

    def variance(self, f):
        return float(self.law @ ((f - self.law @ f) ** 2).sum(axis=1))


def mask_of(shape):
    """Which couplings exist: about two thirds of them, and at least one of every spin."""
    rows, columns = np.indices(shape)
    return (rows + columns) % 3 != 1


def model(shape, size, fields, seed):
    draws = np.random.default_rng(seed)
    W = draws.normal(0, size, shape)
    return W, draws.normal(0, 0.3, shape[0]) * fields, draws.normal(0, 0.3, shape[1]) * fields
