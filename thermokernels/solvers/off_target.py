"""Solves (I - P) t = f off a target, t = 0 on it, for positive f, with an elementwise certificate.

B are the states off the target. (I - P)_BB is a nonsingular M-matrix, so its inverse is nonnegative and an elementwise residual
|f - (I - P) t| <= eps f bounds the elementwise error by eps t: no norm, no condition number (Berman and Plemmons, Nonnegative Matrices in
the Mathematical Sciences, 1994, theorem 6.2.3).

Each round of refinement solves the system symmetrised by sqrt(pi), by Cholesky or conjugate gradients, which is right on average but not
where sqrt(pi) is tiny; a few Gauss-Seidel sweeps, which divide by no probability, repair those states. A time of 1e9 steps in double
precision carries a rounding error of 1e-7 steps, which the unit steps of the residual would see: t is held as a pair of doubles.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from thermokernels.common import threads, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import UnresolvedError
from thermokernels.common.tolerances import EPSILON
from thermokernels.compiled.decorator import jit
from thermokernels.model.chain import GibbsChain
from thermokernels.model.kernels.single_site import _after_hidden_flip
from thermokernels.solvers import conjugate_gradients, parity_classes, red_black

# Below this a factorisation costs less than the first iterations.
CHOLESKY_STATES = 256
SWEEPS = 4
MAX_ROUNDS = 8

# 2^27 + 1: splits a double into two halves whose products are exact (Dekker 1971).
SPLITTER = 134217729.0

# What a product in twice the working precision takes, in multiply-adds.
OPERATIONS = 16


class RestrictedSystem:
    """(I - P)_BB for one target, factorised or split once and solved for any number of right-hand sides.

    Attributes
    ----------
    free : (n_states,) bool, the states off the target
    iterations : conjugate-gradient iterations so far
    """

    def __init__(self, chain: GibbsChain, target: NDArray[np.bool_]) -> None:
        chain.require_reversible()
        self.chain = chain
        self.free = ~target
        self.iterations = 0
        self._single_flips = chain.dynamics.single_flips
        if self._single_flips and not chain.escape[self.free].min() > 0.0:
            raise UnresolvedError("the probability of leaving some state underflows in float64; scale the couplings down")
        self._dense = chain.n_states <= CHOLESKY_STATES
        self._bipartite = not self._dense and red_black.applies_to(chain)
        if self._dense:
            matrix = chain.symmetrised_generator_matrix()[np.ix_(self.free, self.free)]
            try:
                self._factor = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
            except scipy.linalg.LinAlgError:
                raise UnresolvedError(
                    "I - P off the target is singular in float64: the target is too hard to reach; scale W down"
                ) from None
        elif self._bipartite:
            self._classes = parity_classes.parity_classes(chain, target)

    def solve(self, sources: Floats, tolerance: float) -> tuple[Floats, float]:
        """t for f = ``sources`` (n_states,) > 0, and max |f - (I - P) t| / f off the target.

        Refined until that residual is below ``tolerance`` or stops falling: the caller decides whether it is good enough. The residual is
        that of a pair of doubles whose rounded sum is returned.
        """
        high, low = self.correction(sources), np.zeros_like(sources)
        if not (high[self.free] > 0.0).all():  # a state whose probability underflows: any positive start will do for the sweeps
            high[self.free & ~(high > 0.0)] = high.max()
            self._sweep(sources, high)
        best, least = high, np.inf
        for _ in range(MAX_ROUNDS):
            residuals = self._residuals(sources, high, low)
            residual = float(np.max(np.abs(residuals[self.free]) / sources[self.free]))
            if not residual < 0.5 * least:
                break
            best, least = high + low, residual
            if residual <= tolerance:
                break
            low += self.correction(residuals)
            high, low = high + low, low - ((high + low) - high)
        if not (best[self.free] > 0.0).all() or least == np.inf:
            raise UnresolvedError("(I - P) t = f has no finite positive solution in float64: the target is too hard to reach; scale W down")
        return best, least

    def evaluation_error(self, times: Floats) -> float:
        """What rounding can add to the relative error that the residual of :meth:`solve` proves, for f of ones.

        The pair of doubles is rounded to one; the residual is that of twice the working precision, of block kernels that of long double.
        """
        if self._single_flips:
            return 0.5 * EPSILON + 8 * self.chain.n_spins * EPSILON**2 * float(times.max())
        _, sizes = self.chain.generator_terms(times)
        n_terms = 2 * self.chain.n_configurations + 8
        return 0.5 * EPSILON + n_terms * float(np.finfo(np.longdouble).eps) * float(sizes[self.free].max())

    def _residuals(self, sources: Floats, high: Floats, low: Floats) -> Floats:
        if not (np.isfinite(high).all() and np.isfinite(low).all()):
            return np.full_like(sources, np.inf)
        chain = self.chain
        if not self._single_flips:
            return np.asarray(sources - chain.generator_terms(high.astype(np.longdouble) + low)[0], dtype=np.float64)
        high, low, residuals = high.reshape(chain.shape), low.reshape(chain.shape), sources.reshape(chain.shape).copy()

        def subtract(rows: slice) -> None:
            flips = chain.visible_flips, chain.hidden_flips, chain.quotient
            _subtract_generator(high, low, *flips, rows.start, rows.stop, residuals)

        threads.for_rows(subtract, chain.shape[0], OPERATIONS * chain.n_states * chain.n_spins)
        return residuals.ravel()

    def correction(self, sources: Floats) -> Floats:
        """An approximate t for any f, of either sign: solver, then sweeps."""
        root_law = self.chain.root_law
        weighted = np.where(self.free, root_law * sources, 0.0)
        if self._dense:
            solution = np.zeros_like(weighted)
            solution[self.free] = scipy.linalg.cho_solve(self._factor, weighted[self.free], check_finite=False)
        elif self._bipartite:
            solutions, iterations = red_black.solve(self._classes, weighted[None, :], tolerances.SOLVE)
            solution = solutions[0]
            self.iterations += int(iterations[0])
        else:
            solution = self._conjugate_gradients(weighted)
        times = np.divide(solution, root_law, out=np.zeros_like(solution), where=self.free & (root_law > 0.0))
        self._sweep(sources, times)
        return times

    def _conjugate_gradients(self, residual: Floats) -> Floats:
        """CG on A_BB, preconditioned by its diagonal, for the chains that parity does not halve."""
        scale = np.where(self.free, 1.0 / self.chain.escape if self._single_flips else 1.0, 0.0)
        solution, step = np.zeros_like(residual), np.zeros_like(residual)
        target, previous = tolerances.SOLVE * float(np.linalg.norm(residual)), 1.0
        for _ in range(conjugate_gradients.MAX_ITERATIONS):
            if not float(np.linalg.norm(residual)) > max(target, conjugate_gradients.FLOOR * float(np.linalg.norm(solution))):
                break
            product = float(residual @ (scale * residual))
            step = scale * residual + (product / previous) * step
            image = np.where(self.free, self.chain.apply_symmetrised_generator(step[None, :])[0], 0.0)
            length = product / (step @ image)
            solution += length * step
            residual = residual - length * image
            previous = product
            self.iterations += 1
        return solution

    def _sweep(self, sources: Floats, times: Floats) -> None:
        """A few times t <- (f + sum_{y != x} P_xy t_y) / (1 - P_xx), in place; block kernels take t <- f + P t."""
        chain, shape = self.chain, self.chain.shape
        if self._single_flips:
            views = (sources.reshape(shape), self.free.reshape(shape), chain.escape.reshape(shape))
            for _ in range(SWEEPS):  # an interrupt is heard of in between
                _gauss_seidel(*views, chain.visible_flips, chain.hidden_flips, chain.quotient, times.reshape(shape))
            return
        for _ in range(SWEEPS):
            times[self.free] = (sources + chain.apply(times))[self.free]


@jit
def _gauss_seidel(sources, free, escape, visible_flips, hidden_flips, quotient, times):
    """times[h, v] <- (source + sum_i P(x, x^i) t(x^i)) / escape at every free state in turn; positive sources keep t positive."""
    n_rows, n_columns = times.shape
    n_visible, n_hidden = visible_flips.shape[1], hidden_flips.shape[1]
    for h in range(n_rows):
        for v in range(n_columns):
            if not free[h, v]:
                continue
            total = sources[h, v]
            for i in range(n_visible):
                total += visible_flips[(v >> i) & 1, i, h] * times[h, v ^ (1 << i)]
            for j in range(n_hidden):
                flip = hidden_flips[(h >> j) & 1, j, v]
                if quotient and j == n_hidden - 1:
                    total += flip * times[n_rows - 1 - h, n_columns - 1 - v]
                else:
                    total += flip * times[h ^ (1 << j), v]
            times[h, v] = total / escape[h, v]


@jit
def _split(number):
    """Two halves of 26 bits that add up to ``number``."""
    scaled = SPLITTER * number
    upper = scaled - (scaled - number)
    return upper, number - upper


@jit
def _subtract_product(factor, high, other_high, low_difference, total, error):
    """total + error -= factor * (high - other_high + low_difference), with every rounding error of the large terms kept.

    Knuth's two-sum and Dekker's two-product: Ogita, Rump and Oishi, SIAM J. Sci. Comput. 26 (2005) 1955.
    """
    difference = high - other_high
    part = difference - high
    low_difference += (high - (difference - part)) - (other_high + part)
    product = factor * difference
    (a, b), (c, d) = _split(factor), _split(difference)
    product_error = b * d - (((product - a * c) - b * c) - a * d)
    updated = total - product
    part = updated - total
    error += (total - (updated - part)) - (product + part)
    return updated, error - product_error - factor * low_difference


@jit
def _subtract_generator(high, low, visible_flips, hidden_flips, quotient, first, last, residuals):
    """residuals(x) -= sum_i P(x, x^i) (t(x) - t(x^i)) for t = high + low, as if in twice the working precision; rows from first to last."""
    n_columns = high.shape[1]
    n_visible, n_hidden = visible_flips.shape[1], hidden_flips.shape[1]
    for h in range(first, last):
        for v in range(n_columns):
            here, rest = high[h, v], low[h, v]
            total, error = residuals[h, v], 0.0
            for i in range(n_visible):
                u = v ^ (1 << i)
                flip = visible_flips[(v >> i) & 1, i, h]
                total, error = _subtract_product(flip, here, high[h, u], rest - low[h, u], total, error)
            for j in range(n_hidden):
                g, u = _after_hidden_flip(h, v, j, high.shape, n_hidden, quotient)
                flip = hidden_flips[(h >> j) & 1, j, v]
                total, error = _subtract_product(flip, here, high[g, u], rest - low[g, u], total, error)
            residuals[h, v] = total + error
