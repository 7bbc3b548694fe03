"""First and second moments of the sum of functions over a window of records that starts anywhere: E S_a and sum_a E S_a^2, exactly.

    S_a = sum_(s < K) f~_a(X_(B + s)),   X_0 ~ nu,   f~_a centred under pi.

Two ways to the same numbers. Backwards over the window, for any kernel P,

    G_s = sum_a (f~_a^2 + 2 f~_a h_(a,s)) + P G_(s+1),   h_(a,s) = P (f~_a + h_(a,s+1)),   G_K = h_(a,K-1) = 0,
    sum_a E S_a^2 = nu P^B G_0,

and, without a loop over the window, in the eigenbasis of what a record remembers. All that a record x tells of later ones is its *memory*:
x itself where P is reversible, the hidden spins for the alternating scan. On memories the kernel R is reversible in L2(mu),
R phi_l = sigma_l phi_l, and P^r f = R^(r-1) P f for r >= 1. With u_al = <phi_l, P f~_a> and geometric sums as divided differences of x^K,

    D_l = x^K[sigma_l, 1] = sum_(s < K) sigma_l^s,     X_ml = x^K[sigma_m, sigma_l, 1] = sum_(s + t <= K - 2) sigma_m^s sigma_l^t,
    E S_a = sum_l nu(phi_l) sigma_l^(B-1) D_l u_al,
    sum_a E S_a^2 = sum_m nu(phi_m) sigma_m^(B-1) ( D_m <phi_m, P sum_a f~_a^2> + 2 sum_l X_ml sum_a u_al <phi_m, P (f~_a phi_l)> )

for B >= 1. Where the law of the first records is far from pi they are recursed over, from what the modes say of the rest of the window: an
eigenvector is known in L2(mu) only, and every step of the recursion makes it better where pi is small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from thermokernels.common import memory
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import UnresolvedError
from thermokernels.model.chain import GibbsChain
from thermokernels.quantities.variance_time import correlations

# Memories up to this many are decomposed: 4096 take a minute and a GiB.
MOST_MEMORIES = 2**12

# Records are taken one by one until sum_m nu(m) / sqrt(mu(m)), what the rounding of an eigenvector is multiplied with, falls below this.
SPREAD = 1e3
MOST_EXPLICIT = 2_000

# K times a gap below this: divided differences by their series.
SHORT = 0.05
SERIES = 9

# A marginal law below this is too close to underflow to be divided by.
SMALLEST_LAW = 1e-280


@dataclass(frozen=True, eq=False)
class Moments:
    """E S_a (k,), and sum_a E S_a^2."""

    first: Floats
    second: float


def centred_products(chain: GibbsChain) -> Floats:
    """f~_ij = -v_i h_j + E_pi v_i h_j as columns, (n_states, n_couplings)."""
    hidden, visible = chain.block_spins
    means = correlations(chain, chain.law)
    products = np.einsum("hj,vi->hvij", hidden, visible)
    columns: Floats = np.ascontiguousarray((means - products).reshape(chain.n_states, -1)[:, chain.model.edges])
    return columns


def by_recursion(chain: GibbsChain, start: Floats, window: int, burn_in: int, rest: Floats | None = None) -> Moments:
    """Backwards over the window, for every kernel; ``window`` and ``burn_in`` in records, ``start`` (n_states,).

    ``rest`` (n_states, k + 1) is what a window goes on with after these records: E S_a and the second moment, by the first state.
    """
    functions = centred_products(chain)
    squares = np.einsum("xa,xa->x", functions, functions)
    sums = np.zeros((chain.n_states, functions.shape[1] + 1)) if rest is None else rest
    for _ in range(window):
        later = chain.apply(sums) if sums.any() else sums
        moment = squares + 2 * np.einsum("xa,xa->x", functions, later[:, :-1]) + later[:, -1]
        sums = np.column_stack([functions + later[:, :-1], moment])
    for _ in range(burn_in):
        sums = chain.apply(sums)
    moments = start @ sums
    return Moments(moments[:-1], float(moments[-1]))


def geometric_sums(gaps: Floats, window: int) -> Floats:
    """sum_(s < K) sigma^s for sigma = 1 - gap, -1 <= sigma <= 1; K terms where the gap vanishes."""
    result = np.full(gaps.shape, float(window))
    slow = window * gaps < SHORT
    positive = ~slow & (gaps < 1.0)
    result[positive] = -np.expm1(window * np.log1p(-gaps[positive])) / gaps[positive]
    negative = gaps >= 1.0
    result[negative] = (1.0 - (1.0 - gaps[negative]) ** window) / gaps[negative]
    term = np.full(int(slow.sum()), float(window))
    for j in range(1, SERIES):
        term = -term * gaps[slow] * (window - j) / (j + 1)
        result[slow] += term
    return result


def _differences(gaps: Floats, window: int) -> Floats:
    """x^K[sigma_m, sigma_l] = sum_(s < K) sigma_m^s sigma_l^(K-1-s), (r, r).

    With the larger of two positive ones in front, b^(K-1) times the geometric sum of a / b.
    """
    sigma = 1.0 - gaps
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        sizes = np.maximum(np.where(gaps < 1.0, np.log1p(-np.minimum(gaps, 1.0)), np.log(np.abs(sigma))), -700.0)
        ratio = -np.abs(sizes[:, None] - sizes[None, :])
        largest = np.maximum(sizes[:, None], sizes[None, :])
        sums = np.where(ratio == 0.0, float(window), np.expm1(window * ratio) / np.where(ratio == 0.0, 1.0, np.expm1(ratio)))
        same: Floats = np.exp((window - 1) * largest) * sums
        if (sigma >= 0).all():
            return same
        signs = np.sign(sigma)
        powers = signs**window * np.exp(window * sizes)
        opposite = (powers[:, None] - powers[None, :]) / (sigma[:, None] - sigma[None, :])
        turned = np.where(np.minimum(signs[:, None], signs[None, :]) < 0, (-1.0) ** (window - 1), 1.0)
        differences: Floats = np.where(signs[:, None] * signs[None, :] < 0, opposite, turned * same)
        return differences


def second_differences(gaps: Floats, window: int) -> Floats:
    """x^K[sigma_m, sigma_l, 1] = sum_(s + t <= K - 2) sigma_m^s sigma_l^t, (r, r), over the widest of the three distances.

    Where K times both gaps is small, sum_j (-1)^j binom(K, j + 2) h_j(gap_m, gap_l) with the complete homogeneous polynomials h_j.
    """
    if window < 2:
        return np.zeros((gaps.size, gaps.size))
    sums = geometric_sums(gaps, window)
    widest = np.maximum(gaps[:, None], gaps[None, :])
    slower = np.where(gaps[:, None] <= gaps[None, :], sums[:, None], sums[None, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        result = (slower - _differences(gaps, window)) / widest
    short = window * widest < SHORT
    rows, columns = np.nonzero(short)
    one, other = gaps[rows], gaps[columns]
    homogeneous, power = np.ones(one.size), np.ones(one.size)
    binomial = 0.5 * window * (window - 1.0)
    series = np.full(one.size, binomial)
    for j in range(1, SERIES):
        power = power * other
        homogeneous = one * homogeneous + power
        binomial *= -(window - 1.0 - j) / (j + 2)
        series += binomial * homogeneous
    result[rows, columns] = series
    return result


def n_memories(chain: GibbsChain) -> int:
    """How many values a memory has."""
    return chain.n_states if chain.reversible else chain.shape[0]


class WindowModes:
    """The eigenbasis of the memories of a chain, and what windows need of the observables in it: for any start, window and burn-in.

    Parameters
    ----------
    chain : GibbsChain
        A reversible kernel, or the alternating scan.

    Raises
    ------
    ModelTooLargeError
        More memories than are decomposed, or than fit.
    UnresolvedError
        The law of the memories underflows.
    """

    def __init__(self, chain: GibbsChain) -> None:
        self.chain = chain
        size = n_memories(chain)
        memory.require(
            8 * (6 * size**2 + 3 * chain.n_states * size), f"the {size} modes of the kernel", "use method='recursion' or a smaller model"
        )
        self.law = chain.law if chain.reversible else chain.law.reshape(chain.shape).sum(axis=1)
        if not self.law.min() >= SMALLEST_LAW:
            raise UnresolvedError("the law of the chain underflows, so its modes are not resolved in float64; scale the couplings down")
        self.kernel = self._remembered(chain.apply(self._spread(np.eye(size))))
        self.gaps, self.modes = self._decomposed()
        self.functions = centred_products(chain)
        squares = np.einsum("xa,xa->x", self.functions, self.functions)
        weighted = self.modes * self.law[:, None]
        responses = weighted.T @ self._remembered(chain.apply(np.column_stack([self.functions, squares])))
        self.responses, self.square_responses = responses[:, :-1], responses[:, -1]  # u_al, (r, k)
        self.responses[0] = 0.0
        seen = self.functions @ self.responses.T * self._spread(self.modes)  # sum_a u_al f~_a phi_l
        self.product_responses = weighted.T @ self._remembered(chain.apply(seen))
        self._windows: dict[int, tuple[Floats, Floats]] = {}

    def _remembered(self, values: Floats) -> Floats:
        """Functions (n_states, k) that depend on the memory alone, as (memories, k)."""
        if self.chain.reversible:
            return values
        n_rows, n_columns = self.chain.shape
        return np.ascontiguousarray(values.reshape(n_rows, n_columns, -1)[:, 0])

    def _spread(self, values: Floats) -> Floats:
        """Functions of the memory (memories, k) as functions of the state."""
        return values if self.chain.reversible else np.repeat(values, self.chain.shape[1], axis=0)

    def _decomposed(self) -> tuple[Floats, Floats]:
        """Gaps (r,) and modes (memories, r), orthonormal in L2(mu); first the constant."""
        root = np.sqrt(self.law)
        matrix = -(root[:, None] * self.kernel / root[None, :])
        np.fill_diagonal(matrix, 0.0)
        escape = self.kernel.sum(axis=1) - np.diagonal(self.kernel)  # off-diagonal, as a sum of positive terms
        matrix[np.diag_indices_from(matrix)] = escape
        matrix = 0.5 * (matrix + matrix.T) + 3.0 * np.outer(root, root)  # the constant behind the spectrum, which ends at 2
        gaps, vectors = scipy.linalg.eigh(matrix, overwrite_a=True, check_finite=False)
        gaps, vectors = np.append(0.0, np.maximum(gaps[:-1], 0.0)), np.column_stack([root, vectors[:, :-1]])
        return gaps, vectors / root[:, None]

    @property
    def variance(self) -> float:
        """sum_a Var_pi f_a."""
        return float(self.square_responses[0])

    @property
    def variance_time(self) -> float:
        """T_O in steps, sum_(t >= 0) of the covariances."""
        return self.variance + float((self.product_responses[0, 1:] / self.gaps[1:]).sum())

    def covariances(self, lags: int) -> Floats:
        """sum_a Cov(f_a(X_0), f_a(X_t)) of the stationary chain for t = 0 .. lags, (lags + 1,)."""
        powers = (1.0 - self.gaps[1:]) ** np.arange(lags)[:, None]
        return np.append(self.variance, powers @ self.product_responses[0, 1:])

    def moments(self, start: Floats, window: int, burn_in: int) -> Moments:
        """Of a window of K records after B, for a start law nu (n_states,)."""
        law, waited = start if self.chain.reversible else start.reshape(self.chain.shape).sum(axis=1), 1
        root = np.sqrt(self.law)
        while waited < burn_in + window and waited <= MOST_EXPLICIT and float((law / root).sum()) > SPREAD:
            law, waited = law @ self.kernel, waited + 1
        if waited > burn_in:  # the records of whom the law is far from pi
            explicit = min(waited - burn_in, window)
            return by_recursion(self.chain, start, explicit, burn_in, self._rest(window - explicit))
        sums, seconds = self._of_window(window)
        weights = (law @ self.modes) * (1.0 - self.gaps) ** (burn_in - waited)
        return Moments((weights * sums) @ self.responses, float(weights @ seconds))

    def _of_window(self, window: int) -> tuple[Floats, Floats]:
        """By modes of the memory before the window: D_m, and D_m <phi_m, P sum f~^2> + 2 sum_l X_ml sum_a u_al <phi_m, P (f~_a phi_l)>."""
        if window not in self._windows:
            sums = geometric_sums(self.gaps, window)
            pairs = np.einsum("ml,ml->m", second_differences(self.gaps, window), self.product_responses)
            self._windows[window] = sums, sums * self.square_responses + 2 * pairs
        return self._windows[window]

    def _rest(self, window: int) -> Floats | None:
        """E S_a and the second moment of a window that begins with a given state, (n_states, k + 1)."""
        if window == 0:
            return None
        functions, modes = self.functions, self._spread(self.modes)
        result = np.column_stack([functions, np.einsum("xa,xa->x", functions, functions)])
        if window > 1:
            sums, seconds = self._of_window(window - 1)
            later = modes @ (sums[:, None] * self.responses)
            result[:, -1] += 2 * np.einsum("xa,xa->x", functions, later) + modes @ seconds
            result[:, :-1] += later
        return result
