"""Models in mpmath, everything from the definitions (energies, conditional laws, elimination); no code is shared with the package."""

from __future__ import annotations

import collections
from typing import Any

import mpmath as mp
import numpy as np

Rows = list[list[Any]]


class Exact:
    """The model in mpmath: states and pairs as in the package, everything else from the definitions."""

    def __init__(self, W: Any, b: Any, c: Any, kernel: str = "single-site", pairs: bool | None = None) -> None:
        n_v, n_h = len(W), len(W[0])
        self.pairs = pairs = b is None if pairs is None else pairs
        N = self.N = n_v + n_h
        self.shape, self.kernel = (n_v, n_h), kernel
        W = self.W = [[mp.mpf(w) for w in row] for row in W]
        b = [mp.mpf(x) for x in ([0] * n_v if b is None else b)]
        c = [mp.mpf(x) for x in ([0] * n_h if c is None else c)]
        everything = [[1 - 2 * (x >> i & 1) for i in range(N)] for x in range(2**N)]
        self.all_fields, weights = [], []
        for s in everything:
            F = [mp.fsum(W[i][j] * s[n_v + j] for j in range(n_h)) + b[i] for i in range(n_v)]
            self.all_fields.append(F + [mp.fsum(W[i][j] * s[i] for i in range(n_v)) + c[j] for j in range(n_h)])
            weights.append(mp.exp(mp.fsum(F[i] * s[i] for i in range(n_v)) + mp.fsum(c[j] * s[n_v + j] for j in range(n_h))))
        self.all_spins, total = everything, mp.fsum(weights)
        self.all_law = [w / total for w in weights]
        self.layer = {"alternating-visible": "visible", "alternating-hidden": "hidden"}.get(kernel)
        full = self._kernel()
        law = self._layer_law() if self.layer else self.all_law
        self.size = size = len(law) // (2 if pairs else 1)
        self.law = [law[x] + law[-1 - x] for x in range(size)] if pairs else law
        rates = [[full[x][y] + (full[x][-1 - y] if pairs else 0) for y in range(size)] for x in range(size)]
        self.generator = [[-rate for rate in row] for row in rates]
        for x in range(size):
            self.generator[x][x] = mp.fsum(rates[x][y] for y in range(size) if y != x)
        if not self.layer:
            self.spins, self.fields = everything[:size], self.all_fields[:size]
            masks = [1 << i for i in range(N)]
            if pairs:
                masks[-1] = size - 1
            self.neighbours = [[x ^ mask for mask in masks] for x in range(size)]
            self.rates = [[1 / (1 + mp.exp(2 * s * f)) / N for s, f in zip(spins, F, strict=True)]
                          for spins, F in zip(self.spins, self.fields, strict=True)]  # fmt: skip
            self.centred = self.centre([[-s[i] * s[n_v + j] for i in range(n_v) for j in range(n_h)] for s in self.spins])

    def _conditionals(self) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """p(v | h) and p(h | v) by the numbers of v and h."""
        n_visible = 1 << self.shape[0]
        of_v, of_h = collections.defaultdict(list), collections.defaultdict(list)
        for x, p in enumerate(self.all_law):
            of_v[x % n_visible].append(p)
            of_h[x // n_visible].append(p)
        visible = {(x % n_visible, x // n_visible): p / mp.fsum(of_h[x // n_visible]) for x, p in enumerate(self.all_law)}
        hidden = {(x // n_visible, x % n_visible): p / mp.fsum(of_v[x % n_visible]) for x, p in enumerate(self.all_law)}
        return visible, hidden

    def _layer_law(self) -> list[Any]:
        n_visible = 1 << self.shape[0]
        if self.layer == "visible":
            return [mp.fsum(self.all_law[v::n_visible]) for v in range(n_visible)]
        return [mp.fsum(self.all_law[h * n_visible : (h + 1) * n_visible]) for h in range(1 << self.shape[1])]

    def _kernel(self) -> Rows:
        """P on all states, or on those of the layer; what stays where it is may be left out."""
        V, H, n = 1 << self.shape[0], 1 << self.shape[1], 1 << self.N
        P = [[mp.mpf(0)] * n for _ in range(n)]
        if self.kernel == "single-site":
            for x in range(n):
                for i in range(self.N):
                    P[x][x ^ (1 << i)] = 1 / (1 + mp.exp(2 * self.all_spins[x][i] * self.all_fields[x][i])) / self.N
            return P
        pv, ph = self._conditionals()
        if self.layer == "visible":
            return [[mp.fsum(ph[h, v] * pv[w, h] for h in range(H)) for w in range(V)] for v in range(V)]
        if self.layer == "hidden":
            return [[mp.fsum(pv[v, h] * ph[g, v] for v in range(V)) for g in range(H)] for h in range(H)]
        for x in range(n):
            h, v = divmod(x, V)
            if self.kernel == "two-block":
                for w in range(V):
                    P[x][h * V + w] += pv[w, h] / 2
                for g in range(H):
                    P[x][g * V + v] += ph[g, v] / 2
                continue
            for g in range(H):
                for w in range(V):
                    first, second = pv[w, h] * ph[g, w], ph[g, v] * pv[w, g]
                    P[x][g * V + w] = first if self.kernel == "alternating" else (first + second) / 2
        return P

    def mean(self, values: Any) -> Any:
        return mp.fsum(p * v for p, v in zip(self.law, values, strict=True))

    def centre(self, columns: Rows) -> Rows:
        means = [self.mean(column) for column in zip(*columns, strict=True)]
        return [[f - m for f, m in zip(row, means, strict=True)] for row in columns]

    def resolvent(self, columns: Rows) -> Rows:
        deflated = [[entry + p for entry, p in zip(row, self.law, strict=True)] for row in self.generator]
        return solved(deflated, columns)

    def step(self, columns: Rows) -> Rows:
        """P F."""
        flows = [
            [mp.fsum(g * f for g, f in zip(row, column, strict=True)) for column in zip(*columns, strict=True)] for row in self.generator
        ]
        return [[f - flow for f, flow in zip(*rows, strict=True)] for rows in zip(columns, flows, strict=True)]

    def variance_time(self) -> Any:
        Y = self.resolvent(self.centred)
        return mp.fsum(self.law[x] * f * y for x in range(self.size) for f, y in zip(self.centred[x], Y[x], strict=True))

    def variance(self) -> Any:
        return mp.fsum(self.law[x] * f * f for x in range(self.size) for f in self.centred[x])

    def variance_time_gradient(self) -> Rows:
        """dT_O / dW of the single-site kernel, in the form with edges; checked against differences in the tests."""
        Y = self.resolvent(self.centred)
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
        return gradient

    def of_law(self, weights: list[Any]) -> Rows:
        """sum_x weights_x dlog pi_x / dW."""
        n_v, n_h = self.shape
        total = mp.fsum(weights)
        return [[mp.fsum((w - total * p) * s[i] * s[n_v + j] for w, p, s in zip(weights, self.law, self.spins, strict=True))
                 for j in range(n_h)] for i in range(n_v)]  # fmt: skip

    def signal(self, p_data: Any) -> tuple[Any, Rows]:
        """|g|^2 and its gradient."""
        n_v, n_h = self.shape
        visible = [[1 - 2 * (v >> k & 1) for k in range(n_v)] for v in range(2**n_v)]
        c = [f - mp.fsum(self.W[i][j] * self.spins[0][i] for i in range(n_v)) for j, f in enumerate(self.fields[0][n_v:])]
        tanh = [[mp.tanh(mp.fsum(self.W[i][j] * s[i] for i in range(n_v)) + c[j]) for j in range(n_h)] for s in visible]
        total = mp.fsum(mp.mpf(x) for x in p_data)
        p = [mp.mpf(x) / total for x in p_data]
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

    def hitting_times(self, target: Any) -> list[Any]:
        free = [x for x in range(self.size) if not target[x]]
        times = solved([[self.generator[x][y] for y in free] for x in free], [[mp.mpf(1)] for _ in free])
        found = dict(zip(free, (row[0] for row in times), strict=True))
        return [found.get(x, mp.mpf(0)) for x in range(self.size)]

    def modes_below(self, shift: Any) -> int:
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


def solved(matrix: Rows, columns: Rows) -> Rows:
    """Gauss elimination with row pivoting."""
    rows = [list(left) + list(right) for left, right in zip(matrix, columns, strict=True)]
    n = len(rows)
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(rows[i][k]))
        rows[k], rows[pivot] = rows[pivot], rows[k]
        for i in range(k + 1, n):
            if rows[i][k]:
                share = rows[i][k] / rows[k][k]
                rows[i] = [None] * (k + 1) + [a - share * b for a, b in zip(rows[i][k + 1 :], rows[k][k + 1 :], strict=True)]
    result: Rows = [[] for _ in range(n)]
    for k in reversed(range(n)):
        sums = list(rows[k][n:])
        for j in range(k + 1, n):
            if rows[k][j]:
                sums = [s - rows[k][j] * y for s, y in zip(sums, result[j], strict=True)]
        result[k] = [s / rows[k][k] for s in sums]
    return result


def exactly(W: Any, b: Any = None, c: Any = None, kernel: str = "single-site", pairs: bool | None = None) -> Exact:
    """The model with the digits that its energies can hide, and forty more."""
    largest = sum(float(np.abs(part).sum()) for part in (W, b, c) if part is not None)
    mp.mp.dps = int(40 + 1.8 * largest * (1 if kernel == "single-site" else 2))
    return Exact(W, b, c, kernel, pairs)
