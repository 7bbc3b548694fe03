"""Hard random models, and a model in as many digits as it needs: what the scripts hold the package's numbers and bounds against.

Everything is computed from the definitions (energies, rates, pivoted elimination) and shares no code with the package.
"""

from __future__ import annotations

import mpmath as mp
import numpy as np

SHAPES = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 2), (1, 3), (3, 1), (2, 3), (3, 2), (1, 4)]


def couplings(draws) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """W, b, c: fields in one model of six."""
    shape = (3, 3) if draws.random() < 0.02 else SHAPES[draws.integers(len(SHAPES))]
    scale = float(np.exp(draws.uniform(np.log(0.1), np.log(60))))
    kind = draws.integers(7)
    if kind == 0:
        W = scale * draws.normal(size=shape)
    elif kind == 1:  # pairs of spins that hardly see each other
        W = 10.0 ** draws.uniform(-12, -1) * scale * draws.uniform(-1, 1, size=shape)
        np.fill_diagonal(W, scale * draws.uniform(0.5, 1, size=min(shape)))
    elif kind == 2:  # the same number over and over, and none
        W = scale * draws.choice([-1.0, 0.0, 1.0], size=shape)
    elif kind == 3:  # nearly the same: nearly degenerate modes
        W = scale * draws.choice([-1.0, 1.0], size=shape) * (1 + 10.0 ** draws.uniform(-14, -2) * draws.normal(size=shape))
    elif kind == 4:  # tiny
        W = 10.0 ** draws.uniform(-15, -1) * draws.normal(size=shape)
    elif kind == 5:  # of very different sizes
        W = np.exp(draws.uniform(np.log(1e-3), np.log(60), size=shape)) * draws.choice([-1.0, 1.0], size=shape)
    else:  # two patterns
        left, right = draws.choice([-1.0, 1.0], size=(2, shape[0])), draws.choice([-1.0, 1.0], size=(2, shape[1]))
        W = scale * (0.5 * np.outer(left[0], right[0]) + 0.45 * np.outer(left[1], right[1]))
    W = np.clip(W, -60, 60)
    if draws.random() > 1 / 6 or sum(shape) > 4:
        return W, None, None
    return W, scale * 0.3 * draws.normal(size=shape[0]), scale * 0.3 * draws.normal(size=shape[1])


class Exact:
    """The model in mpmath: states and pairs as in the package, everything else from the definitions."""

    def __init__(self, W, b, c):
        n_v, n_h = len(W), len(W[0])
        pairs = b is None
        N = self.N = n_v + n_h
        self.shape = n_v, n_h
        W = self.W = [[mp.mpf(w) for w in row] for row in W]
        b, c = [mp.mpf(x) for x in ([0] * n_v if pairs else b)], [mp.mpf(x) for x in ([0] * n_h if pairs else c)]
        self.size = size = 2 ** (N - pairs)
        self.spins = [[1 - 2 * (x >> i & 1) for i in range(N)] for x in range(size)]
        masks = [1 << i for i in range(N)]
        if pairs:
            masks[-1] = size - 1
        self.neighbours = [[x ^ mask for mask in masks] for x in range(size)]
        self.fields, weights = [], []
        for s in self.spins:
            F = [mp.fsum(W[i][j] * s[n_v + j] for j in range(n_h)) + b[i] for i in range(n_v)]
            self.fields.append(F + [mp.fsum(W[i][j] * s[i] for i in range(n_v)) + c[j] for j in range(n_h)])
            weights.append(mp.exp(mp.fsum(F[i] * s[i] for i in range(n_v)) + mp.fsum(c[j] * s[n_v + j] for j in range(n_h))))
        total = mp.fsum(weights)
        self.law = [w / total for w in weights]
        self.rates = [[1 / (1 + mp.exp(2 * s * f)) / N for s, f in zip(spins, F, strict=True)]
                      for spins, F in zip(self.spins, self.fields, strict=True)]  # fmt: skip
        self.generator = [[mp.mpf(0)] * size for _ in range(size)]
        for x in range(size):
            for y, rate in zip(self.neighbours[x], self.rates[x], strict=True):
                self.generator[x][x] += rate
                self.generator[x][y] -= rate
        products = [[-s[i] * s[n_v + j] for i in range(n_v) for j in range(n_h)] for s in self.spins]
        means = [self.mean(column) for column in zip(*products, strict=True)]
        self.centred = [[f - m for f, m in zip(row, means, strict=True)] for row in products]

    def mean(self, values) -> mp.mpf:
        return mp.fsum(p * v for p, v in zip(self.law, values, strict=True))

    def variance_time(self) -> tuple[mp.mpf, list[list[mp.mpf]]]:
        """T_O and its gradient, in the form with edges; checked against differences below."""
        deflated = [[entry + p for entry, p in zip(row, self.law, strict=True)] for row in self.generator]
        Y = solved(deflated, self.centred)
        value = mp.fsum(self.law[x] * f * y for x in range(self.size) for f, y in zip(self.centred[x], Y[x], strict=True))
        by_law = [2 * self.law[x] * mp.fsum(f * y for f, y in zip(self.centred[x], Y[x], strict=True)) for x in range(self.size)]
        n_v, n_h = self.shape
        by_field = [[mp.mpf(0)] * self.N for _ in range(self.size)]
        for x in range(self.size):
            for i, y in enumerate(self.neighbours[x]):
                flow = self.law[x] * self.rates[x][i] * mp.fsum((p - q) ** 2 for p, q in zip(Y[x], Y[y], strict=True)) / 2
                by_law[x] -= flow / 2
                by_law[y] -= flow / 2
                by_field[x][i] += flow * mp.tanh(self.fields[x][i])
        gradient = self.of_law(by_law)
        for x, s in enumerate(self.spins):
            for i in range(n_v):
                for j in range(n_h):
                    gradient[i][j] += by_field[x][i] * s[n_v + j] + by_field[x][n_v + j] * s[i]
        return value, gradient

    def of_law(self, weights) -> list[list[mp.mpf]]:
        """sum_x weights_x dlog pi_x / dW."""
        n_v, n_h = self.shape
        total = mp.fsum(weights)
        return [[mp.fsum((w - total * p) * s[i] * s[n_v + j] for w, p, s in zip(weights, self.law, self.spins, strict=True))
                 for j in range(n_h)] for i in range(n_v)]  # fmt: skip

    def signal(self, p_data) -> tuple[mp.mpf, list[list[mp.mpf]]]:
        """|g|^2 and its gradient."""
        n_v, n_h = self.shape
        visible = [[1 - 2 * (v >> k & 1) for k in range(n_v)] for v in range(2**n_v)]
        c = [f - mp.fsum(self.W[i][j] * self.spins[0][i] for i in range(n_v)) for j, f in enumerate(self.fields[0][n_v:])]
        tanh = [[mp.tanh(mp.fsum(self.W[i][j] * s[i] for i in range(n_v)) + c[j]) for j in range(n_h)] for s in visible]
        p = [mp.mpf(x) for x in p_data]
        g = [[self.mean([s[i] * s[n_v + j] for s in self.spins]) - mp.fsum(p[v] * s[i] * tanh[v][j] for v, s in enumerate(visible))
              for j in range(n_h)] for i in range(n_v)]  # fmt: skip
        phi = [mp.fsum(g[i][j] * s[i] * s[n_v + j] for i in range(n_v) for j in range(n_h)) for s in self.spins]
        gradient = self.of_law([2 * q * f for q, f in zip(self.law, phi, strict=True)])
        for k in range(n_v):
            for j in range(n_h):
                gradient[k][j] -= 2 * mp.fsum(
                    p[v] * s[k] * (1 - tanh[v][j] ** 2) * mp.fsum(g[i][j] * s[i] for i in range(n_v)) for v, s in enumerate(visible)
                )
        return mp.fsum(x * x for row in g for x in row), gradient

    def hitting_times(self, target) -> list[mp.mpf]:
        free = [x for x in range(self.size) if not target[x]]
        times = solved([[self.generator[x][y] for y in free] for x in free], [[mp.mpf(1)] for _ in free])
        found = dict(zip(free, (row[0] for row in times), strict=True))
        return [found.get(x, mp.mpf(0)) for x in range(self.size)]

    def modes_below(self, shift) -> int:
        """How many eigenvalues of I - P are below: the negative pivots of diag(pi) (I - P - shift), which is symmetric (Sylvester)."""
        rows = [[p * (entry - (shift if x == y else 0)) for y, entry in enumerate(self.generator[x])] for x, p in enumerate(self.law)]
        negative = 0
        for k in range(self.size):
            pivot = rows[k][k]
            negative += pivot < 0
            for i in range(k + 1, self.size):
                if rows[i][k]:
                    share = rows[i][k] / pivot
                    row, other = rows[i], rows[k]
                    for j in range(i, self.size):
                        row[j] -= share * other[j]
                        rows[j][i] = row[j]
        return negative


def solved(matrix, columns) -> list[list[mp.mpf]]:
    rows = [list(left) + list(right) for left, right in zip(matrix, columns, strict=True)]
    n = len(rows)
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(rows[i][k]))
        rows[k], rows[pivot] = rows[pivot], rows[k]
        for i in range(k + 1, n):
            if rows[i][k]:
                share = rows[i][k] / rows[k][k]
                rows[i] = [None] * (k + 1) + [a - share * b for a, b in zip(rows[i][k + 1 :], rows[k][k + 1 :], strict=True)]
    result = [None] * n
    for k in reversed(range(n)):
        sums = list(rows[k][n:])
        for j in range(k + 1, n):
            if rows[k][j]:
                sums = [s - rows[k][j] * y for s, y in zip(sums, result[j], strict=True)]
        result[k] = [s / rows[k][k] for s in sums]
    return result


def exactly(W, b=None, c=None) -> Exact:
    """The model with the digits that its energies can hide, and forty more."""
    largest = sum(float(np.abs(part).sum()) for part in (W, b, c) if part is not None)
    mp.mp.dps = int(40 + 1.8 * largest)
    return Exact(W, b, c)
