"""Claim: every bound that the package gives holds, for every kernel, and its median lies near the true error.

    python validation/certificates.py                      1,500 random models for each kernel, about an hour
    python validation/certificates.py --models 60          fewer
    python validation/certificates.py --kernel two-block   one kernel

Models are small and hard: couplings from 0.1 to 60 of seven kinds, with and without fields, on pairs {x, -x} and on all states. Exact
values come from the definitions (energies, conditional laws, pivoted elimination) in mpmath with as many digits as the energies can hide,
and share no code with the package. Every public number is taken with its bound, and what stands behind them entry by entry: laws, energies,
rates. A refusal is no violation, but counted.

Two tables a kernel: violations, and the median of bound / true error of each quantity, of models with a gap above 1e-6 and below. A true
error below the rounding of the value itself counts as that rounding. Exit code 1 where a bound is violated.
"""

from __future__ import annotations

import argparse
import collections
import math
import sys
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
from claims import ROOT  # noqa: F401 - the clone is found

import adjoints
import thermokernels as tk
from adjoints import bounds
from thermokernels.model.laws import divergence_error
from thermokernels.model.rounding import energy_error, entry_error, law_error
from thermokernels.quantities import asymptotic_variance, conductance, first_passage, landscape, spectral_gap
from thermokernels.quantities.autocorrelation_times import autocorrelation
from thermokernels.quantities.relevance import observable_basis
from thermokernels.quantities.signal_to_noise import chain_q_struct, data_gradient, signal_error
from thermokernels.solvers.resolvent import solve_resolvent
from thermokernels.solvers.solve import Solve
from thermokernels.solvers.state_reduction import reduced_resolvent
from thermokernels.solvers.state_reduction.gth_elimination import rate_error, transitions

MODELS = 1500
KERNELS = ("single-site", "two-block", "symmetrised-alternating", "alternating-visible", "alternating-hidden", "alternating")
SHAPES = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 2), (1, 3), (3, 1), (2, 3), (3, 2), (1, 4)]
FAST = 1e-6

# Of the value of a finite window.
WINDOW = 1e-10

# All eigenvalues in mpmath, of one model of so many.
LARGEST_SPECTRUM, EVERY_SPECTRUM = 16, 2

Rows = list[list[Any]]


def couplings(draws: np.random.Generator) -> tuple[Any, Any, Any]:
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


class Ledger:
    """Bounds against true errors, by quantity, of fast and of slow models."""

    def __init__(self) -> None:
        self.ratios: dict[tuple[str, bool], list[float]] = collections.defaultdict(list)
        self.violations: list[tuple[Any, ...]] = []
        self.refused: collections.Counter[str] = collections.Counter()
        self.fast = True

    def enter(self, name: str, value: Any, exact: Any, bound: Any, case: int) -> None:
        """One number."""
        error = abs(mp.mpf(float(value)) - exact)
        if not error <= bound:
            self.violations.append((name, case, float(value), float(error), float(bound)))
        self.judge(name, bound, error, abs(exact))

    def judge(self, name: str, bound: Any, error: Any, size: Any) -> None:
        """An error below the rounding of the value itself is luck."""
        self.ratios[name, self.fast].append(float(bound / max(error, size * mp.mpf(2) ** -53, mp.mpf(2) ** -1074)))

    def medians(self, fast: bool) -> dict[str, float]:
        """Median ratio by quantity."""
        return {name: float(np.median(ratios)) for (name, kind), ratios in self.ratios.items() if kind == fast}

    def attempt(self, name: str, compute: Callable[[], Any]) -> Any:
        try:
            return compute()
        except tk.NumericalError:
            self.refused[name] += 1
            return None


def examine(ledger: Ledger, case: int, kernel: str) -> None:
    """All of one model."""
    draws = np.random.default_rng([2, case])
    W, b, c = couplings(draws)
    pairs = b is None and draws.random() < 0.7
    p_data = draws.dirichlet(np.ones(2 ** len(W)))
    if (kernel, 1) in (("alternating-visible", W.shape[0]), ("alternating-hidden", W.shape[1])):
        pairs = False  # one pair would be a chain of one state
    model = exactly(W, b, c, kernel, pairs)
    chain = ledger.attempt("chain", lambda: tk.gibbs_chain(W, b, c, quotient=pairs if b is None else None, kernel=kernel))
    if chain is None:
        return
    if chain.reversible:
        examine_gap(ledger, case, chain, model)
    examine_entries(ledger, case, chain, model, draws)
    if model.layer is None:
        examine_windows(ledger, case, chain, model, p_data)
        examine_landscape(ledger, case, chain, model, draws)
        examine_divergence(ledger, case, chain, model, p_data)
    if not chain.reversible:
        examine_alternating(ledger, case, chain, model, p_data)
        return
    if model.layer is None:
        examine_variance_time(ledger, case, chain, model, p_data)
        examine_spectrum(ledger, case, chain, model)
    if kernel == "single-site" and pairs == (b is None):
        examine_gradients(ledger, case, (W, b, c), chain, model, p_data)
    examine_passages(ledger, case, chain, model, draws)
    examine_functions(ledger, case, chain, model, draws)


def examine_variance_time(ledger: Ledger, case: int, chain: Any, model: Exact, p_data: Any) -> None:
    t_obs, signal, half_window = model.variance_time(), model.signal(p_data)[0], mp.mpf(50 * chain.steps_per_sweep)
    for method in ("auto", "cholesky", "reduction"):
        q = ledger.attempt(f"Q, {method}", lambda method=method: chain_q_struct(chain, p_data, solve=Solve(method)))
        bound = None if q is None else ledger.attempt(f"T_O bound, {method}", lambda q=q: q.t_obs_bound)
        if bound is None:
            continue
        ledger.enter(f"T_O, {method}", q.t_obs, t_obs, bound, case)
        seen = q.signal_bound < 0.5 * q.signal  # else there is nothing to learn, and the bound is all that is known
        ledger.enter(f"Q, {method}" if seen else "Q without a digit", q.value, half_window * signal / t_obs, q.bound, case)
        if method == "auto":
            ledger.enter("signal" if seen else "signal without a digit", q.signal, signal, q.signal_bound, case)
            limit, exact = asymptotic_variance.bound_of(q.variance_time), 2 * t_obs - model.variance()
            ledger.enter("V", asymptotic_variance.of_variance_time(q.variance_time), exact, limit, case)


def examine_alternating(ledger: Ledger, case: int, chain: Any, model: Exact, p_data: Any) -> None:
    """T_O and Q of the scan that is not reversible, by solves on one layer."""
    q = ledger.attempt("Q, auto", lambda: chain_q_struct(chain, p_data))
    if q is None:
        return
    t_obs, signal = model.variance_time(), model.signal(p_data)[0]
    ledger.enter("T_O, auto", q.t_obs, t_obs, q.t_obs_bound, case)
    seen = q.signal_bound < 0.5 * q.signal
    ledger.enter("Q, auto" if seen else "Q without a digit", q.value, mp.mpf(50) * signal / t_obs, q.bound, case)
    ledger.enter("V", q.asymptotic_variance, 2 * t_obs - model.variance(), asymptotic_variance.bound_of(q.variance_time), case)


def examine_spectrum(ledger: Ledger, case: int, chain: Any, model: Exact) -> None:
    """Relevant gap and gamma_eff from all eigenvalues and their weights, where no weight is near the threshold."""
    if model.size > LARGEST_SPECTRUM or case % EVERY_SPECTRUM:
        return
    measure = ledger.attempt("spectrum", lambda: tk.spectral_measure(chain))
    if measure is None:
        return
    roots = [mp.sqrt(p) for p in model.law]
    matrix = mp.matrix([[roots[x] * model.generator[x][y] / roots[y] for y in range(model.size)] for x in range(model.size)])
    gaps, modes = mp.eigsy((matrix + matrix.T) / 2)
    sources = [[root * f for f in row] for root, row in zip(roots, model.centred, strict=True)]
    weights = [mp.fsum(mp.fsum(sources[x][a] * modes[x, k] for x in range(model.size)) ** 2 for a in range(len(sources[0])))
               for k in range(model.size)]  # fmt: skip
    nodes: list[list[int]] = []  # of modes that are about as slow, and count as one where it is asked how much they carry; ascending
    for k in range(model.size):
        if nodes and gaps[k] - gaps[nodes[-1][-1]] <= 1e-8 * abs(gaps[k]):
            nodes[-1].append(k)
        else:
            nodes.append([k])
    steps, carried = chain.steps_per_sweep, [mp.fsum(weights[k] for k in node) / mp.fsum(weights) for node in nodes]
    if any(1e-15 < share < 1e-9 for share in carried):
        return
    seen = [(gaps[k], 1 - (1 - gaps[k]) ** steps, weights[k])
            for node, share in zip(nodes, carried, strict=True) if share > 1e-12 for k in node]  # fmt: skip
    ledger.enter("relevant gap", measure.relevant_gap, seen[0][0], measure.relevant_gap_bound, case)
    if any(abs(sweep / seen[0][1] - 3) < 1e-6 for _, sweep, _ in seen):
        return
    cluster = [(sweep, weight) for _, sweep, weight in seen if sweep <= 3 * seen[0][1]]
    exact = mp.fsum(weight for _, weight in cluster) / mp.fsum(weight / sweep for sweep, weight in cluster)
    ledger.enter("gamma_eff", measure.gamma_eff, exact, measure.gamma_eff_error * exact, case)


def examine_landscape(ledger: Ledger, case: int, chain: Any, model: Exact, draws: np.random.Generator) -> None:
    """Barriers, by trying every level, and the relevance of a set of states for the directions that its basis has."""
    tree = landscape.merge_tree(chain)
    energies = [-mp.log(p) for p in model.law]
    for event in tree.events:
        lowest = min(e for e, inside in zip(energies, event.dying, strict=True) if inside)
        exact = exact_saddle(model, energies, event.dying, event.surviving) - lowest
        ledger.enter("barrier", event.barrier, exact, tree.barrier_error, case)
    mask = draws.random(chain.n_states) < 0.5
    mask[0], mask[-1] = True, False
    basis = ledger.attempt("relevance", lambda: observable_basis(chain))
    found = None if basis is None else ledger.attempt("relevance", lambda: basis.enclosed_relevance(mask))
    if found is None or not basis.dimension:
        return
    columns = [[mp.mpf(float(c)) for c in column] for column in basis.coefficients.T]
    functions = [[mp.fsum(c * f for c, f in zip(column, row, strict=True)) for column in columns] for row in model.centred]
    mass = mp.fsum(p for p, inside in zip(model.law, mask, strict=True) if inside)
    k = range(len(columns))
    gram = [[mp.fsum(p * row[a] * row[b] for p, row in zip(model.law, functions, strict=True)) for b in k] for a in k]
    along = [mp.fsum(p * row[a] for p, row, inside in zip(model.law, functions, mask, strict=True) if inside) for a in k]
    exact = mp.fsum(c * s[0] for c, s in zip(along, solved(gram, [[c] for c in along]), strict=True)) / (mass * (1 - mass))
    ledger.enter("relevance", found[0], exact, found[1], case)


def exact_saddle(model: Exact, energies: list[Any], start: Any, target: Any) -> Any:
    """The least level at which a path leads from one set to the other."""
    for level in sorted(energies):
        reached, frontier = set(), [x for x in range(model.size) if start[x] and energies[x] <= level]
        while frontier:
            x = frontier.pop()
            if x not in reached:
                reached.add(x)
                frontier += [y for y in model.neighbours[x] if energies[y] <= level]
        if any(target[x] for x in reached):
            return level
    raise AssertionError("the graph is connected")


def examine_divergence(ledger: Ledger, case: int, chain: Any, model: Exact, p_data: Any) -> None:
    n_visible = 1 << model.shape[0]
    law, total = [mp.fsum(model.all_law[v::n_visible]) for v in range(n_visible)], mp.fsum(mp.mpf(float(p)) for p in p_data)
    data = [mp.mpf(float(p)) / total for p in p_data]
    exact = mp.fsum(p * mp.log(p / q) for p, q in zip(data, law, strict=True) if p)
    W, b, c = chain.model
    ledger.enter("KL", tk.kl_divergence(p_data, W, b, c), exact, divergence_error(p_data, chain.model), case)


def examine_windows(ledger: Ledger, case: int, chain: Any, model: Exact, p_data: Any) -> None:
    """Q of a window of two sweeps from pi, step by step: no proven bound, but ten digits beside those of the signal."""
    found = ledger.attempt("operational Q", lambda: tk.operational_q(chain, p_data, 2))
    if found is None:
        return
    K, sums, moved = found.window, found.window * model.variance(), model.centred
    for t in range(1, K):
        moved = model.step(moved)
        sums += (
            2
            * (K - t)
            * mp.fsum(p * f * g for p, *rows in zip(model.law, model.centred, moved, strict=True) for f, g in zip(*rows, strict=True))
        )
    g = data_gradient(chain.model, p_data)
    lost = signal_error(chain.model, g)
    if lost < 0.5 * found.signal:
        ledger.enter(
            "operational Q", found.value, model.signal(p_data)[0] * K**2 / sums, (lost / found.signal + WINDOW) * found.value, case
        )


def examine_gradients(ledger: Ledger, case: int, weights: Any, chain: Any, model: Exact, p_data: Any) -> None:
    (W, b, c), half_window = weights, mp.mpf(50 * chain.steps_per_sweep)
    t_obs, t_gradient, (signal, signal_gradient) = model.variance_time(), model.variance_time_gradient(), model.signal(p_data)
    for method in ("auto", "cholesky", "reduction"):
        found = ledger.attempt(f"gradient, {method}", lambda method=method: adjoints.q_struct(W, p_data, method=method, b=b, c=c))
        if found is None:
            continue
        q, gradient = found
        of_time = ledger.attempt(f"gradient, {method}", lambda method=method: adjoints.observable_variance_time(W, b, c, method))
        limits = ledger.attempt(
            f"gradient bound, {method}",
            lambda q=q, gradient=gradient, of_time=of_time: (
                None if of_time is None else bounds.variance_time_gradient_bound(q.variance_time, of_time[1]),
                bounds.q_struct_gradient_bound(q, gradient, p_data),
            ),
        )
        if limits is None or limits[0] is None:
            continue
        enter_matrix(ledger, f"dT_O, {method}", of_time[1], t_gradient, limits[0], case)
        exact = [[half_window * (s / t_obs - signal * t / t_obs**2) for s, t in zip(*rows, strict=True)]
                 for rows in zip(signal_gradient, t_gradient, strict=True)]  # fmt: skip
        seen = q.signal_bound < 0.5 * q.signal
        enter_matrix(ledger, f"dQ, {method}" if seen else "dQ without a digit", gradient, exact, limits[1], case)


def enter_matrix(ledger: Ledger, name: str, values: Any, exact: Rows, bound: float, case: int) -> None:
    """The largest error of an entry."""
    size = max(abs(e) for row in exact for e in row)
    error = max(abs(mp.mpf(float(v)) - e) for row, line in zip(values, exact, strict=True) for v, e in zip(row, line, strict=True))
    if not error <= bound:
        ledger.violations.append((name, case, float(error), bound))
    if bound > 0:
        ledger.judge(name, bound, error, size)


def examine_passages(ledger: Ledger, case: int, chain: Any, model: Exact, draws: np.random.Generator) -> None:
    target = np.zeros(chain.n_states, dtype=bool)
    target[draws.choice(chain.n_states, size=draws.integers(1, max(2, chain.n_states // 2)), replace=False)] = True
    exact_times = model.hitting_times(target)
    start = ~target
    masses = [p for p, inside in zip(model.law, start, strict=True) if inside]
    exact_mean = mp.fsum(p * t for p, t in zip(model.law, exact_times, strict=True)) / mp.fsum(masses)
    for method in ("auto", "symmetrised", "reduction"):
        first = ledger.attempt(f"MFPT, {method}", lambda m=method: first_passage.solve_mean_first_passage(chain, start, target, m))
        if first is None:
            continue
        for t, exact in zip(first.hitting.times[start], (t for t in exact_times if t), strict=True):
            ledger.enter(f"hitting time, {method}", t, exact, first.hitting.relative_bound * exact, case)
        ledger.enter(f"MFPT, {method}", first.value, exact_mean, first.relative_bound * exact_mean, case)


def examine_gap(ledger: Ledger, case: int, chain: Any, model: Exact) -> None:
    """By counting eigenvalues: one below the gap, two above. The true error is found to a tenth."""
    found = ledger.attempt("gap", lambda: spectral_gap.solve_spectral_gap(chain))
    lower = ledger.attempt("gap, lower bound", lambda: tk.gap_lower_bound(chain))
    if lower is not None and model.modes_below(mp.mpf(lower) * (1 - mp.mpf(10) ** -30)) != 1:
        ledger.violations.append(("gap, lower bound", case, lower))
    ledger.fast = found is not None and found.value > FAST
    if found is None:
        return
    value = mp.mpf(found.value)

    def holds(share: float) -> bool:
        reach = share * mp.mpf(found.bound)
        return model.modes_below(value - reach) == 1 and model.modes_below(value + reach) >= 2

    if not holds(1.0):
        ledger.violations.append(("gap", case, found))
    low, high = 0.0, math.log(max(float(found.bound / value), 2.0**-53) * 2.0**53)  # of the ratio, a rounding of the gap being the least
    while high - low > 0.1:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(math.exp(-middle)) else (low, middle)
    ledger.ratios[f"gap, {found.method}", ledger.fast].append(math.exp(low))


def examine_entries(ledger: Ledger, case: int, chain: Any, model: Exact, draws: np.random.Generator) -> None:
    """What stands behind the numbers: laws, energies and rates, entry by entry, and the conductance of a cut."""
    exact_energy = [-mp.log(p) for p in model.law]
    shift = exact_energy[0] - mp.mpf(float(chain.energy[0]))
    for x, p in enumerate(model.law):
        law = reduced_resolvent.law(chain).take(x)
        value = mp.mpf(float(law.mantissa)) * mp.mpf(2) ** (512 * int(law.exponent))
        enter_relative(ledger, "law, wide", value, p, law_error(chain), case)
        if p > mp.mpf(2) ** -1000:
            enter_relative(ledger, "law", mp.mpf(float(chain.law[x])), p, law_error(chain), case)
        error = abs(exact_energy[x] - shift - mp.mpf(float(chain.energy[x])))
        if not error <= 2 * energy_error(chain):
            ledger.violations.append(("energy", case, x, float(error), energy_error(chain)))
    if chain.reversible:
        others, rates = transitions(chain)
        sums: dict[tuple[int, int], Any] = collections.defaultdict(lambda: mp.mpf(0))
        for x in range(chain.n_states):
            for k, y in enumerate(others[x]):
                sums[x, int(y)] += mp.mpf(float(rates.mantissa[x, k])) * mp.mpf(2) ** (512 * int(rates.exponent[x, k]))
        for (x, y), value in sums.items():
            if x != y:
                enter_relative(ledger, "rate", value, -model.generator[x][y], rate_error(chain), case)
    matrix = chain.transition_matrix()
    for x, row in enumerate(model.generator):
        for y, entry in enumerate(row):
            if x != y and -entry > mp.mpf(2) ** -1000 and chain.kernel != "alternating":
                error = abs(mp.mpf(float(matrix[x, y])) + entry)  # beside it the transition matrix is formed with roundings of one
                if not error <= entry_error(chain) * -entry + chain.n_states * mp.mpf(2) ** -53:
                    ledger.violations.append(("entry of P", case, (x, y), float(error), entry_error(chain)))
    mask = draws.random(chain.n_states) < 0.5
    mask[0], mask[-1] = True, False
    phi = ledger.attempt("conductance", lambda: tk.conductance(chain, mask))
    if phi is not None:
        flow = mp.fsum(-model.law[x] * model.generator[x][y] for x in np.flatnonzero(mask) for y in np.flatnonzero(~mask))
        mass = mp.fsum(p for p, inside in zip(model.law, mask, strict=True) if inside)
        exact = flow / min(mass, 1 - mass)
        ledger.enter("conductance", phi, exact, conductance.conductance_error(chain) * exact, case)


def enter_relative(ledger: Ledger, name: str, value: Any, exact: Any, relative: float, case: int) -> None:
    error = abs(value - exact)
    if not error <= relative * exact:
        ledger.violations.append((name, case, float(value), float(error / exact), relative))
    ledger.judge(name, relative * exact, error, exact)


def examine_functions(ledger: Ledger, case: int, chain: Any, model: Exact, draws: np.random.Generator) -> None:
    """Autocorrelation times of random functions, and their resolvent state by state."""
    F = draws.normal(size=(chain.n_states, 2))
    centred = model.centre([[mp.mpf(float(f)) for f in row] for row in F])
    Y = model.resolvent(centred)
    for method in ("auto", "cholesky", "reduction"):
        response = ledger.attempt(f"resolvent, {method}", lambda method=method: solve_resolvent(chain, F, method))
        if response is not None:
            for x, a in np.ndindex(F.shape):
                ledger.enter(f"resolvent, {method}", response.values[x, a], Y[x][a], response.bound[x, a], case)
    found = ledger.attempt("tau", lambda: autocorrelation.autocorrelation_times(chain, F))
    if found is not None:
        for a in range(2):
            T = mp.fsum(p * f[a] * y[a] for p, f, y in zip(model.law, centred, Y, strict=True))
            variance = mp.fsum(p * f[a] ** 2 for p, f in zip(model.law, centred, strict=True))
            if np.isfinite(found[0][a]):
                ledger.enter("tau", found[0][a], 2 * T / variance - 1, float(found[1][a]), case)


def report(kernel: str, ledger: Ledger, n_models: int) -> None:
    print(f"\n{kernel}: {n_models} models, {len(ledger.violations)} bounds violated")
    for violation in ledger.violations[:20]:
        print("   violated:", *violation)
    fast, slow = ledger.medians(True), ledger.medians(False)
    print(f"   {'median of bound / true error':32s} {'gap > 1e-6':>12s} {'below':>12s} {'refused':>9s}")
    for name in sorted({*fast, *slow, *ledger.refused}):
        cells = [f"{medians[name]:12.3g}" if name in medians else f"{'':12s}" for medians in (fast, slow)]
        print(f"   {name:32s} {cells[0]} {cells[1]} {ledger.refused[name]:9d}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], epilog="Exit code 1 where a bound is violated.")
    parser.add_argument("--models", type=int, default=MODELS, help="random models for each kernel")
    parser.add_argument("--first", type=int, default=0, help="number of the first model")
    parser.add_argument("--kernel", choices=KERNELS, action="append", help="one of them only; may be given again")
    options = parser.parse_args(arguments)
    violated = 0
    for kernel in options.kernel or KERNELS:
        ledger = Ledger()
        for case in range(options.first, options.first + options.models):
            examine(ledger, case, kernel)
        report(kernel, ledger, options.models)
        violated += len(ledger.violations)
    print(f"\n{'no bound is violated' if not violated else f'{violated} bounds are violated'}")
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
