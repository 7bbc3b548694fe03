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

    sigma^(K + 1) of a window of K >= 2 k - 1 steps. K times its variance lacks 2 / K times what the rule loses of it, which falls with
        every step (all derivatives are positive); runs go on until no window changes.

In z the fast modes are small beside the slow ones, by lambda^2 in their weights: where that leaves too few digits the runs begin at b.
The rule then loses no more of a window or of 1 / (1 - sigma^N) than of 1 / lambda (:mod:`thermokernels.quantities.spectral_measure`).
"""

from __future__ import annotations

import numpy as np

from thermokernels.common import threads
from thermokernels.common.arrays import Floats
from thermokernels.common.tolerances import EPSILON
from thermokernels.quantities.slow_modes import SlowModes
from thermokernels.quantities.variance_time import VarianceTime
from thermokernels.solvers.lanczos import GaussRules, LanczosRuns
from thermokernels.solvers.many_observables import _inner

STEPS = (16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 192, 384)

# Steps that are taken at a time: eight rows of 2^21 states are under way for less than a second.
PIECE = 4

# What the rules may lack of T_O and of the variance of a window, as a share of it; a tenth of it is what rounding may take of a run from z.
RESOLUTION = 1e-8

# Windows that are watched, in steps.
WINDOWS = 2.0 ** np.arange(2, 28)


class RemainingRules:
    """The runs of all observables.

    Attributes
    ----------
    power : 2 where the runs begin at solutions, 0 at right-hand sides
    value : sum_a b_a' A^+ b_a without the modes, in its variational form, in steps
    """

    def __init__(self, time: VarianceTime, modes: SlowModes) -> None:
        solution, right_hand_sides = time.solution, time.right_hand_sides
        rest = modes.remainder(solution.vectors)
        sums = np.empty((len(rest), 4))

        def add_up(rows: slice) -> None:
            for a in range(rows.start, rows.stop):
                b, r, z = right_hand_sides[a], solution.residuals[a], rest[a]
                sums[a] = _inner(b, z), _inner(r, z), _inner(z, z), _inner(b, b)

        threads.for_rows(add_up, len(rest), rest.size)
        self.value, self.mass = float(sums[:, :2].sum()), float(sums[:, 2].sum())
        self.power = 2 if EPSILON * self.mass <= 0.1 * RESOLUTION * float(sums[:, 3].sum()) else 0
        self._modes, self._steps = modes, time.chain.steps_per_sweep
        self._runs = LanczosRuns(time.chain, rest if self.power else modes.remainder(right_hand_sides))
        self._windows: Floats | None = None

    def extend(self, n_steps: int) -> GaussRules:
        """The rules after ``n_steps`` in all."""
        while self._runs.n_steps < n_steps:  # the same bits; an interrupt is heard of between pieces
            self._runs.extend(min(PIECE, n_steps - self._runs.n_steps))
        rules = self._runs.gauss_rules()
        return GaussRules(rules.gaps, rules.weights * rules.gaps**self.power, rules.residuals)

    def missing(self, rules: GaussRules) -> float:
        """A bound on what the rules lack of sum w / lambda and of sum w / (1 - sigma^N), in steps."""
        lost = abs(self.value - float((rules.weights / rules.gaps).sum()))
        return lost + (self.mass * sweep_error(rules.gaps.shape[1], self._steps) if self.power else 0.0)

    def settled(self, rules: GaussRules) -> bool:
        """Whether the rules have T_O and all windows; of runs from solutions the latter are compared with those of the last call."""
        known = self.value + float((self._modes.weights / self._modes.gaps).sum())
        complete = self.missing(rules) <= RESOLUTION * known
        if not self.power:
            return complete
        last, self._windows = self._windows, _window_sums(rules.gaps, rules.weights)
        if last is None:
            return False
        whole = self._windows + _window_sums(self._modes.gaps, self._modes.weights)
        return complete and bool((np.abs(self._windows - last) <= RESOLUTION * whole).all())


def sweep_error(n_nodes: int, steps: int) -> float:
    """The bound (sweep) for ``n_nodes`` >= 2 nodes and a sweep of so many ``steps``, as a share of nu."""
    poles = 1.0 - np.exp(2j * np.pi * np.arange(1, steps) / steps)
    centres = 2.0 * poles - 1.0
    roots = np.sqrt(centres**2 - 1.0)
    rho = np.maximum(np.abs(centres + roots), np.abs(centres - roots))
    terms = 8.0 * np.abs(poles) ** 2 / np.abs(roots) * rho ** (1.0 - 2.0 * n_nodes) / (rho - 1.0)
    return float(terms.sum()) / steps


def _window_sums(gaps: Floats, weights: Floats) -> Floats:
    """K times the variance of a window mean of K steps, for all of WINDOWS."""
    flat, mass = np.clip(gaps.ravel(), EPSILON, 1.0), weights.ravel()
    decayed = -np.expm1(WINDOWS[:, None] * np.log1p(-np.minimum(flat, 1.0 - EPSILON)))  # 1 - s^K
    factors = (2.0 - flat) / flat - 2.0 * (1.0 - flat) * decayed / (WINDOWS[:, None] * flat**2)
    sums: Floats = factors @ mass
    return sums
