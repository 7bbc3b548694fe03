"""The spectral measure of the observables by Lanczos runs on A = I - S, and the spectral gap.

    mu_O = sum_j w_j delta(sigma_j),   w_j = sum_a <f~_a, phi_j>^2.

A Lanczos run from b_a (CG's coefficients in another guise) gives a Gauss rule for the measure that b_a sees: nodes are Ritz
values, weights |b_a|^2 times squared first components. Nodes are kept as gaps lambda = 1 - sigma, which A delivers without
cancellation. Nothing is reorthogonalised but sqrt(pi): copies of converged Ritz values share their weight and do no harm to a sum.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from thermokernels import arguments, tolerances
from thermokernels._jit import jit
from thermokernels.arguments import Floats
from thermokernels.chain import GibbsChain
from thermokernels.errors import NotConvergedError, UnresolvedError
from thermokernels.observables import VarianceTime, variance_time
from thermokernels.vector import add_multiple, dot

# Up to DENSE_STATES all eigenvalues cost less than a Lanczos run; up to DENSE_FALLBACK less than more than SHORT_RUN steps of it.
DENSE_STATES = 128
DENSE_FALLBACK = 2**10
SHORT_RUN = 96
STEPS = (24, 48, 96, 192, 384)
GAP_STEPS = 2_000

# Accepted relative uncertainty of gamma_eff and of the relevant gap before more Lanczos steps are run.
RESOLUTION = 1e-8

# Ritz values closer than this, relatively, are copies of one eigenvalue: runs without reorthogonalisation repeat converged ones.
COPY = 1e-7
CLUSTER_SPREAD = 3.0


@dataclass(frozen=True, eq=False)
class SpectralMeasure:
    """mu_O as a discrete measure, and what follows from its slow end.

    Attributes
    ----------
    nodes : (k,) eigenvalues sigma of P (or Gauss nodes), descending; gaps : (k,) 1 - sigma per step, without cancellation
    weights : (k,) nonnegative, summing to sum_a Var_pi(f_a)
    relevant_gap : per step, the least gap among nodes that carry more than 1e-12 of the weight
    gamma_eff, gamma_eff_step : weighted harmonic mean of the gaps over the cluster C*(O), per sweep and per step
    gamma_eff_error : bound on the relative error of both, at most 1e-8 unless the cut of the cluster falls into the bulk of a spectrum too
        large to resolve (0 where nodes are eigenvalues)
    cluster_size : number of distinct nodes in C*(O): relevant nodes with sweep gap at most 3 times the smallest
    n_spins : steps per sweep
    """

    nodes: Floats = field(repr=False)
    weights: Floats = field(repr=False)
    gaps: Floats = field(repr=False)
    relevant_gap: float
    gamma_eff: float
    gamma_eff_step: float
    gamma_eff_error: float
    cluster_size: int
    n_spins: int


@dataclass(frozen=True, eq=False)
class _GaussRules:
    """One Gauss rule a row: nodes ascending, weights, and the residual norms of the Ritz pairs; all (k, steps)."""

    gaps: Floats
    weights: Floats
    residuals: Floats


@jit
def _lanczos_step(images, previous, current, root_law, before, diagonal, after):
    """One three-term step for every row: diagonal = q'Aq, after = |r| of the next direction r, orthogonal to sqrt(pi)."""
    for a in range(current.shape[0]):
        residual = images[a]
        add_multiple(-before[a], previous[a], residual)
        diagonal[a] = dot(current[a], residual)
        if dot(current[a], current[a]) == 0.0:  # the run has ended: a node at gap 1 that carries no weight
            diagonal[a] = 1.0
        add_multiple(-diagonal[a], current[a], residual)
        add_multiple(-dot(root_law, residual), root_law, residual)
        after[a] = np.sqrt(dot(residual, residual))
        # Once a run has used up its invariant subspace the next direction is rounding noise; zero ends it.
        scale = 1.0 / after[a] if after[a] > 1e-14 else 0.0
        if scale == 0.0:
            after[a] = 0.0
        previous[a, :] = current[a]
        for k in range(residual.size):
            current[a, k] = scale * residual[k]


@jit
def _tridiagonal_eigenpairs(diagonals, offdiagonals, gaps, first, last):
    """Eigenvalues, and first and last eigenvector components, of symmetric tridiagonal matrices, one a row (implicit QL).

    Wilkinson's shift, one rotation after the other (Golub and Van Loan, Matrix Computations, 4th ed., section 8.3); only the two rows of
    the eigenvector matrix that a Gauss rule and its residuals need are rotated along. offdiagonals[a, -1] is not used.
    """
    n = diagonals.shape[1]
    for a in range(diagonals.shape[0]):
        d, e = diagonals[a].copy(), offdiagonals[a].copy()
        e[n - 1] = 0.0
        top, bottom = first[a], last[a]
        top[:] = 0.0
        bottom[:] = 0.0
        top[0] = 1.0
        bottom[n - 1] = 1.0
        for start in range(n):
            for _ in range(60):
                end = start
                while end < n - 1 and abs(e[end]) > 1.1e-16 * (abs(d[end]) + abs(d[end + 1])):
                    end += 1
                if end == start:
                    break
                g = (d[start + 1] - d[start]) / (2.0 * e[start])
                r = np.sqrt(g * g + 1.0)
                g = d[end] - d[start] + e[start] / (g + (r if g >= 0 else -r))
                s, c, p = 1.0, 1.0, 0.0
                split = False
                for k in range(end - 1, start - 1, -1):
                    f, b = s * e[k], c * e[k]
                    r = np.sqrt(f * f + g * g)
                    e[k + 1] = r
                    if r == 0.0:
                        d[k + 1] -= p
                        e[end] = 0.0
                        split = True
                        break
                    s, c = f / r, g / r
                    g = d[k + 1] - p
                    r = (d[k] - g) * s + 2.0 * c * b
                    p = s * r
                    d[k + 1] = g + p
                    g = c * r - b
                    top[k + 1], top[k] = s * top[k] + c * top[k + 1], c * top[k] - s * top[k + 1]
                    bottom[k + 1], bottom[k] = s * bottom[k] + c * bottom[k + 1], c * bottom[k] - s * bottom[k + 1]
                if not split:
                    d[start] -= p
                    e[start] = g
                    e[end] = 0.0
        order = np.argsort(d, kind="mergesort")
        for k in range(n):
            gaps[a, k] = d[order[k]]
        sorted_top, sorted_bottom = top[order], bottom[order]
        top[:] = sorted_top
        bottom[:] = sorted_bottom


class _Lanczos:
    """Lanczos runs from several start vectors, side by side, that can be extended."""

    def __init__(self, chain: GibbsChain, starts: Floats):
        self.chain = chain
        self.norms = np.linalg.norm(starts, axis=1)
        self.current = np.divide(starts, self.norms[:, None], out=np.zeros_like(starts), where=self.norms[:, None] > 0)
        self.previous = np.zeros_like(starts)
        self.diagonals: list[Floats] = []
        self.offdiagonals: list[Floats] = []

    def extend(self, n_steps: int) -> None:
        n_runs = len(self.norms)
        for _ in range(n_steps):
            diagonal, after = np.empty(n_runs), np.empty(n_runs)
            before = self.offdiagonals[-1] if self.offdiagonals else np.zeros(n_runs)
            images = self.chain.apply_symmetrised_generator(self.current)
            _lanczos_step(images, self.previous, self.current, self.chain.root_law, before, diagonal, after)
            self.diagonals.append(diagonal)
            self.offdiagonals.append(after)

    def gauss_rules(self) -> _GaussRules:
        diagonals = np.ascontiguousarray(np.array(self.diagonals).T)
        offdiagonals = np.ascontiguousarray(np.array(self.offdiagonals).T)
        gaps, first, last = np.empty_like(diagonals), np.empty_like(diagonals), np.empty_like(diagonals)
        _tridiagonal_eigenpairs(diagonals, offdiagonals, gaps, first, last)
        return _GaussRules(gaps, (self.norms[:, None] * first) ** 2, offdiagonals[:, -1:] * np.abs(last))


def _sweep_gap(gaps: Floats, n_spins: int) -> Floats:
    """1 - sigma^N for sigma = 1 - gap."""
    with np.errstate(divide="ignore"):
        return -np.expm1(n_spins * np.log1p(-np.minimum(gaps, 1.0)))


def _merge_equal(gaps: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Nodes that agree to 1e-8 as one, at their weighted mean; ascending gaps."""
    order = np.argsort(gaps, kind="stable")
    gaps, weights = gaps[order], weights[order]
    first = np.r_[True, np.diff(gaps) > 1e-8 * gaps[1:]]
    starts = np.flatnonzero(first)
    merged = np.add.reduceat(weights, starts)
    moments = np.add.reduceat(weights * gaps, starts)
    return np.divide(moments, merged, out=gaps[starts], where=merged > 0), merged


def _summarise(rules: _GaussRules, n_spins: int) -> tuple[SpectralMeasure, float]:
    """The measure, and the relative uncertainty of its relevant gap."""
    total = float(rules.weights.sum())
    if not total > 0:
        raise UnresolvedError("no observable v_i h_j varies under pi in float64, so there is no spectral measure; scale the couplings down")
    relevant = rules.weights > tolerances.WEIGHT * total
    slowest = np.unravel_index(np.argmin(np.where(relevant, rules.gaps, np.inf)), rules.gaps.shape)
    relevant_gap = float(rules.gaps[slowest])
    if relevant_gap < tolerances.GAP:
        raise UnresolvedError(
            f"the relevant spectral gap reads {relevant_gap:.2g} per step, below the {tolerances.GAP:g} that float64 resolves; "
            "scale the couplings down"
        )
    copies = relevant & (rules.gaps <= (1 + COPY) * relevant_gap)
    gap_error = float(rules.residuals[copies].min()) / relevant_gap

    limit = CLUSTER_SPREAD * float(_sweep_gap(np.array(relevant_gap), n_spins))
    cut = float(-np.expm1(np.log1p(-limit) / n_spins)) if limit < 1 else np.inf
    inside = relevant & (_sweep_gap(rules.gaps, n_spins) <= limit)
    mass = float(rules.weights[inside].sum())
    per_sweep = float((rules.weights[inside] / _sweep_gap(rules.gaps[inside], n_spins)).sum())
    per_step = float((rules.weights[inside] / rules.gaps[inside]).sum())

    gaps, weights = _merge_equal(rules.gaps.ravel(), rules.weights.ravel())
    in_cluster = (weights > tolerances.WEIGHT * total) & (_sweep_gap(gaps, n_spins) <= limit)
    measure = SpectralMeasure(
        nodes=1.0 - gaps,
        weights=weights,
        gaps=gaps,
        relevant_gap=relevant_gap,
        gamma_eff=mass / per_sweep,
        gamma_eff_step=mass / per_step,
        gamma_eff_error=_cut_uncertainty(rules, cut) * (1 / mass + 1 / (per_step * min(cut, 1.0))),
        cluster_size=int(in_cluster.sum()),
        n_spins=n_spins,
    )
    return measure, gap_error


def _cut_uncertainty(rules: _GaussRules, cut: float) -> float:
    """A bound on the weight that the Gauss rules may put on the wrong side of ``cut``.

    Chebyshev, Markov and Stieltjes: the mass of (-inf, x] lies between the sums of the Gauss weights strictly below and up to the nodes
    next to x (Szego, Orthogonal Polynomials, section 3.41), so at most the two adjacent weights are in doubt, and a Ritz value whose
    residual is far smaller than its distance from the cut is not.
    """
    if not np.isfinite(cut):
        return 0.0
    doubtful = 0.0
    for gaps, weights, residuals in zip(rules.gaps, rules.weights, rules.residuals, strict=True):
        above = int(np.searchsorted(gaps, cut))
        for k in (above - 1, above):
            if 0 <= k < gaps.size:
                copies = np.abs(gaps - gaps[k]) <= COPY * gaps[k]
                if residuals[copies].min() > RESOLUTION * abs(gaps[k] - cut):
                    doubtful += float(weights[k])
    return doubtful


def _dense_rules(chain: GibbsChain, starts: Floats) -> _GaussRules:
    """All eigenpairs of A but the null vector, as one rule for the sum over the observables."""
    matrix = chain.apply_symmetrised_generator(np.eye(chain.n_states))
    matrix += 2.0 * np.outer(chain.root_law, chain.root_law)  # moves the null vector above the spectrum, which ends at 1
    gaps, vectors = scipy.linalg.eigh(matrix, overwrite_a=True, check_finite=False)
    weights = ((starts @ vectors[:, :-1]) ** 2).sum(axis=0)
    return _GaussRules(gaps[None, :-1], weights[None], np.zeros((1, chain.n_states - 1)))


def spectral_measure(chain: GibbsChain) -> SpectralMeasure:
    """Spectral measure of the gradient observables, its relevant gap, cluster C*(O) and gamma_eff.

    Raises
    ------
    UnresolvedError
        The relevant gap is below what float64 resolves (1e-12 per step), or nothing varies.
    NotConvergedError
        The slowest relevant node did not converge.
    NotReversibleError
        The kernel has no detailed balance.

    Examples
    --------
    >>> import thermokernels as tk
    >>> measure = tk.spectral_measure(tk.gibbs_chain([[0.0, 0.0], [0.0, 0.0]]))
    >>> round(measure.relevant_gap, 12), measure.cluster_size  # products of two of N = 4 free spins: 2 / N
    (0.5, 1)
    """
    return measure_of(variance_time(chain))


def measure_of(time: VarianceTime) -> SpectralMeasure:
    """:func:`spectral_measure` from right-hand sides that a solve for T_O has built already."""
    chain, starts = time.chain, time.right_hand_sides
    if chain.n_states <= DENSE_STATES:
        return _summarise(_dense_rules(chain, starts), chain.n_spins)[0]
    runs, best, best_error = _Lanczos(chain, starts), None, np.inf
    for n_steps in STEPS:
        runs.extend(n_steps - len(runs.diagonals))
        measure, gap_error = _summarise(runs.gauss_rules(), chain.n_spins)
        error = max(gap_error, measure.gamma_eff_error)
        if error < best_error:
            best, best_error = measure, error
        if error <= RESOLUTION:
            return measure
        if n_steps >= SHORT_RUN and chain.n_states <= DENSE_FALLBACK:
            return _summarise(_dense_rules(chain, starts), chain.n_spins)[0]
    if best is None or gap_error > np.sqrt(RESOLUTION):  # the error of a Ritz value is of second order in its residual
        raise NotConvergedError(
            f"the slowest relevant Ritz value {measure.relevant_gap:.3g} still has a relative residual of {gap_error:.2g} "
            f"after {STEPS[-1]} Lanczos steps"
        )
    return best


def spectral_gap(chain: GibbsChain) -> float:
    """The gap gamma = 1 - sigma_2 of the chain, per step.

    Dense for small chains; above, the least Ritz value of a Lanczos run from a fixed start vector, converged to a relative residual of
    1e-8, so that its error is of second order in that.

    Raises
    ------
    UnresolvedError
        The gap is below 1e-12 per step, where float64 has no digits left.
    NotConvergedError
        The Lanczos run did not converge.
    NotReversibleError
        The kernel has no detailed balance.

    Examples
    --------
    >>> import thermokernels as tk
    >>> round(tk.spectral_gap(tk.gibbs_chain([[0.0, 0.0]], quotient=False)), 12)  # free spins: 1 / N
    0.333333333333
    """
    chain.require_reversible()
    if chain.n_states <= DENSE_STATES:
        rules = _dense_rules(chain, np.zeros((1, chain.n_states)))
        gap = float(rules.gaps[0, 0])
    else:
        gap = _lanczos_gap(chain)
    if gap < tolerances.GAP:
        raise UnresolvedError(
            f"the spectral gap reads {gap:.2g} per step, below the {tolerances.GAP:g} that float64 resolves; scale the couplings down"
        )
    return gap


def _lanczos_gap(chain: GibbsChain) -> float:
    # Any start vector with a component along the slowest mode will do; a fixed one makes the result repeatable.
    start: NDArray[np.float64] = np.random.Generator(np.random.PCG64(0)).standard_normal((1, chain.n_states))
    start -= (start @ chain.root_law)[:, None] * chain.root_law
    runs = _Lanczos(chain, start)
    while len(runs.diagonals) < min(GAP_STEPS, chain.n_states):
        runs.extend(16)
        rule = runs.gauss_rules()
        gap, residual = float(rule.gaps[0, 0]), float(rule.residuals[0, 0])
        if residual <= RESOLUTION * gap or gap < tolerances.GAP:
            return gap
    raise NotConvergedError(f"the spectral gap {gap:.3g} still has a residual of {residual:.2g} after {len(runs.diagonals)} Lanczos steps")


def window_variance(measure: SpectralMeasure, K: float) -> float:
    """Variance of the mean of the observables over a stationary window of K steps, summed over the observables.

    sum_j w_j (1/K) [ (1 + s) / (1 - s) - 2 s (1 - s^K) / (K (1 - s)^2) ] with s = sigma_j. Where K (1 - s) is small the brackets cancel, and
    the equal sum (2/K) sum_j (-lambda)^j binom(K + 1, j + 2) - 1 in lambda = 1 - s is taken instead.

    Parameters
    ----------
    measure : SpectralMeasure
    K : window in steps, positive

    Raises
    ------
    ValueError
        K is not a positive, finite number.

    Examples
    --------
    >>> import thermokernels as tk
    >>> measure = tk.spectral_measure(tk.gibbs_chain([[0.0]]))  # one fresh sample a step
    >>> round(tk.window_variance(measure, 10), 12)
    0.1
    """
    K = arguments.as_positive(K, "K", "steps")
    gaps = np.minimum(measure.gaps, 1.0)
    slow = K * gaps < 0.1
    factors = np.empty_like(gaps)
    with np.errstate(divide="ignore"):
        fast = gaps[~slow]
        factors[~slow] = (2 - fast) / fast + 2 * (1 - fast) * np.expm1(K * np.log1p(-fast)) / (K * fast**2)
    term = np.full(int(slow.sum()), (K + 1) / 2)
    total = term.copy()
    for j in range(1, 12):
        term = -term * gaps[slow] * (K - j) / (j + 2)
        total += term
    factors[slow] = 2 * total - 1
    return float(measure.weights @ factors) / K
