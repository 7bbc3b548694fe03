"""Gauss rules for what the observables see beside the slow modes, from Lanczos runs that begin at solutions.

With b the right-hand side of an observable and z = A^+ b, both without the slow modes, a Lanczos run from z gives a Gauss rule for the
measure nu, which is that of b over lambda^2: nodes lambda_j, weights omega_j. Its k nodes are exact for polynomials in lambda up to the
degree 2 k - 1, so that the weights omega_j lambda_j^2 are a rule for the measure of b that is exact for lambda^-2, lambda^-1, 1, ..,
lambda^(2 k - 3). The variance and b'A^+ b are there from the second step on; a run that begins at b sees 1 / lambda last of all.

What is not a polynomial of these degrees:

    1 / (1 - sigma^N) of a sweep has the poles lambda_m = 1 - exp(2 pi i m / N), residues of size 1 / N. That at zero is 1 / lambda, which
        is exact. A rule is wrong by no more than 2 nu times the distance of a function from polynomials, and 1 / (c - x) is a Chebyshev
        series in rho^-j, rho = |c + sqrt(c^2 - 1)| (Trefethen, Approximation Theory and Approximation Practice, chapters 8 and 19):

            error <= (nu / N) sum_(m > 0) 8 |lambda_m|^2 / |sqrt(c^2 - 1)| rho^-(2 k - 1) / (rho - 1),   c = 2 lambda_m - 1.    (sweep)

    sigma^(K + 1) of a window of K >= 2 k - 1 steps: K times its variance lacks 2 / K times what the rule loses of it. Its derivatives in
        lambda alternate in sign, so that a rule of Gauss gives too little of it, and one of Radau with a node at lambda = 0, which takes
        no further product, too much (Golub and Meurant, Matrices, Moments and Quadrature, 2010, theorem 6.4): every observable goes on
        until the two agree for all windows.

In z the fast modes are small beside the slow ones, by lambda^2 in their weights: where that leaves too few digits the runs begin at b.
The rule then loses no more of a window or of 1 / (1 - sigma^N) than of 1 / lambda (:mod:`thermokernels.quantities.spectral_measure`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from thermokernels.common import threads
from thermokernels.common.arrays import Floats
from thermokernels.common.tolerances import EPSILON
from thermokernels.compiled.decorator import jit
from thermokernels.quantities.slow_modes import SlowModes
from thermokernels.quantities.variance_time import VarianceTime
from thermokernels.solvers.checkpoint import Kept
from thermokernels.solvers.lanczos import GaussRules, LanczosRuns, gauss_rules, radau_rules
from thermokernels.solvers.row_sums import _inner

Integers = NDArray[np.int64]

STEPS = (12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 192, 384)

# Where the cut of the cluster falls into a bulk of eigenvalues every observable takes this many steps, and fewer on larger chains: what
# their rules leave in doubt at the cut falls slowly, and the time is not to be out of proportion to that of the solves.
BULK_STEPS, LARGE, LARGE_BULK_STEPS = 384, 2**16, 64

# Observables that run side by side have so many entries in all, so that a look at whether they have settled costs little.
TOGETHER = 2**18

# What the rules may lack of T_O, of a sweep and of a window's variance, as a share of it; a tenth of it is what rounding may take of a run
# from z.
RESOLUTION = 1e-8

# Windows that are watched: 2^2, 2^3, ... steps.
FIRST_WINDOW, N_WINDOWS = 2, 26


class RemainingRules:
    """The runs of all observables.

    Attributes
    ----------
    power : 2 where the runs begin at solutions, 0 at right-hand sides
    value : sum_a b_a' A^+ b_a without the modes, in its variational form, in steps
    """

    def __init__(self, time: VarianceTime, modes: SlowModes) -> None:
        self._time, self._modes, self._steps = time, modes, time.chain.steps_per_sweep
        n_rows, n_states = time.right_hand_sides.shape
        self._seen, sums = np.empty((n_rows, modes.gaps.size)), np.empty((n_rows, 4))
        together = max(1, TOGETHER // n_states)
        self._parts = [slice(start, min(start + together, n_rows)) for start in range(0, n_rows, together)]

        def add_up(number: int) -> None:
            rows = self._parts[number]
            sources, solutions = time.right_hand_sides[rows], time.solutions[rows]
            residuals, rest = sources - time.chain.apply_symmetrised_generator(solutions), modes.remainder(solutions)
            for a, (b, r, z) in enumerate(zip(sources, residuals, rest, strict=True), rows.start):
                sums[a] = _inner(b, z), _inner(r, z), _inner(z, z), _inner(b, b)
                self._seen[a] = modes.vectors @ b

        threads.for_each(add_up, len(self._parts), n_rows * n_states)
        self._values, self._masses, self._variances = sums[:, 0] + sums[:, 1], sums[:, 2], sums[:, 3]
        self.value = float(self._values.sum())
        self._seen **= 2
        self.power = 2 if EPSILON * float(self._masses.sum()) <= 0.1 * RESOLUTION * float(self._variances.sum()) else 0

    def rules(self, tell: Callable[[int], object] | None = None, kept: Kept | None = None) -> GaussRules:
        """The rules of all observables, each of as many nodes as it needs; ``tell`` hears of how many are done, ``kept`` keeps them."""
        n_rows, chain = len(self._values), self._time.chain
        least = 0 if self._modes.complete else min(BULK_STEPS if chain.n_states <= LARGE else LARGE_BULK_STEPS, STEPS[-1])
        norms, n_nodes = np.empty(n_rows), np.empty(n_rows, dtype=np.int64)
        diagonals, offdiagonals = np.ones((n_rows, STEPS[-1])), np.zeros((n_rows, STEPS[-1]))
        found = {"norms": norms, "n_nodes": n_nodes, "diagonals": diagonals, "offdiagonals": offdiagonals}
        done, earlier = np.zeros(n_rows, dtype=np.bool_), kept.load() if kept else {}
        if earlier:
            done[earlier["rows"]] = True
            for name, array in found.items():
                array[done] = earlier[name]
        coming = [rows for rows in self._parts if not done[rows].all()]
        counts = int(done.sum()) + np.cumsum([0, *(rows.stop - rows.start for rows in coming)])

        def run(number: int) -> None:
            rows = coming[number]
            runs = self._begun(rows)
            norms[rows], n_nodes[rows] = runs.norms, 0
            for n_steps in STEPS:
                runs.extend(n_steps - runs.n_steps)
                left = np.flatnonzero(n_nodes[rows] == 0)
                if n_steps >= least:
                    settled = left[self._settled(runs, left, rows)] if n_steps < STEPS[-1] else left
                    n_nodes[rows][settled] = n_steps
                    if settled.size == left.size:
                        break
            diagonals[rows, :n_steps], offdiagonals[rows, :n_steps] = runs.diagonals, runs.offdiagonals
            done[rows] = True

        def told(n_parts: int) -> None:
            if kept:
                rows = np.flatnonzero(done)
                kept.save({"rows": rows} | {name: array[rows] for name, array in found.items()})
            if tell:
                tell(int(counts[n_parts]))

        if earlier:
            told(0)
        threads.for_each(run, len(coming), STEPS[0] * n_rows * chain.n_states * chain.n_spins, told)
        most = int(n_nodes.max())
        rules = gauss_rules(norms, diagonals[:, :most], offdiagonals[:, :most], n_nodes)
        return GaussRules(rules.gaps, rules.weights * rules.gaps**self.power, rules.residuals, n_nodes)

    def _begun(self, rows: slice) -> LanczosRuns:
        time = self._time
        return LanczosRuns(time.chain, self._modes.remainder((time.solutions if self.power else time.right_hand_sides)[rows]))

    def missing(self, rules: GaussRules) -> float:
        """A bound on what the rules lack of sum w / lambda and of sum w / (1 - sigma^N), in steps."""
        lost = abs(self.value - float((rules.weights / rules.gaps).sum()))
        return lost + (float(self._masses @ self._sweep_errors(rules.n_nodes)) if self.power else 0.0)

    def _sweep_errors(self, n_nodes: Integers) -> Floats:
        errors = {count: sweep_error(count, self._steps) for count in set(n_nodes.tolist())}
        return np.array([errors[count] for count in n_nodes.tolist()])

    def _settled(self, runs: LanczosRuns, left: Integers, rows: slice) -> NDArray[np.bool_]:
        """Which of the runs ``left``, of the observables ``rows``, have T_O, the sweep and all windows, to a share of their own."""
        coefficients, modes, seen = (
            (runs.norms[left], runs.diagonals[left], runs.offdiagonals[left]),
            self._modes.gaps,
            self._seen[rows][left],
        )
        rules = gauss_rules(*coefficients, np.full(left.size, runs.n_steps))
        weights, values = rules.weights * rules.gaps**self.power, self._values[rows][left]
        if not self.power:
            lost = np.abs(values - (weights / rules.gaps).sum(axis=1))
            return np.asarray(lost <= RESOLUTION * (values + (seen / modes).sum(axis=1)))
        of_sweep = self._masses[rows][left] * sweep_error(runs.n_steps, self._steps) <= RESOLUTION * self._variances[rows][left]
        above = radau_rules(*coefficients)
        doubtful = _decayed(above.gaps, above.weights) - _decayed(rules.gaps, rules.weights)
        whole = window_sums(rules.gaps, weights) + window_sums(np.broadcast_to(modes, seen.shape), seen)
        return np.asarray(of_sweep & (doubtful <= RESOLUTION * whole).all(axis=1))


def sweep_error(n_nodes: int, steps: int) -> float:
    """The bound (sweep) for ``n_nodes`` >= 2 nodes and a sweep of so many ``steps``, as a share of nu."""
    poles = 1.0 - np.exp(2j * np.pi * np.arange(1, steps) / steps)
    centres = 2.0 * poles - 1.0
    roots = np.sqrt(centres**2 - 1.0)
    rho = np.maximum(np.abs(centres + roots), np.abs(centres - roots))
    terms = 8.0 * np.abs(poles) ** 2 / np.abs(roots) * rho ** (1.0 - 2.0 * n_nodes) / (rho - 1.0)
    return float(terms.sum()) / steps


def window_sums(gaps: Floats, weights: Floats) -> Floats:
    """K times the variance of a window mean of K steps, for measures (k, n), one a row, and all of WINDOWS: (k, windows)."""
    sums = np.zeros((len(gaps), N_WINDOWS))
    _add_windows(np.ascontiguousarray(gaps), np.ascontiguousarray(weights), sums)
    return sums


def _decayed(gaps: Floats, weights: Floats) -> Floats:
    """2 / K sum_j weights_j sigma_j^(K + 1), likewise."""
    sums = np.zeros((len(gaps), N_WINDOWS))
    _add_decayed(gaps, weights, sums)
    return sums


@jit
def _add_windows(gaps, weights, sums):
    """Without cancellation, from windows half as long: with G_K = sum_(t < K) sigma^t, the sum over 2 K steps has twice the variance
    of that over K and twice the covariance of two such, sigma G_K^2."""
    for a in range(gaps.shape[0]):
        for k in range(gaps.shape[1]):
            sigma = 1.0 - min(max(gaps[a, k], 0.0), 1.0)
            share, reach, power, length = 1.0, 1.0, sigma, 1.0
            for j in range(FIRST_WINDOW + sums.shape[1]):
                if j >= FIRST_WINDOW:
                    sums[a, j - FIRST_WINDOW] += weights[a, k] * share
                share += sigma * reach * reach / length
                reach *= 1.0 + power
                power *= power
                length *= 2.0


@jit
def _add_decayed(gaps, weights, sums):
    for a in range(gaps.shape[0]):
        for k in range(gaps.shape[1]):
            sigma = 1.0 - min(max(gaps[a, k], 0.0), 1.0)
            power, length = sigma, 1.0
            for j in range(FIRST_WINDOW + sums.shape[1]):
                if j >= FIRST_WINDOW:
                    sums[a, j - FIRST_WINDOW] += 2.0 / length * weights[a, k] * sigma * power
                power *= power
                length *= 2.0
