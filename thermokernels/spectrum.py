"""The spectral measure of the observables by Lanczos runs on A = I - S, and the spectral gap.

    mu_O = sum_j w_j delta(sigma_j),   w_j = sum_a <f~_a, phi_j>^2.

A Lanczos run from b_a gives a Gauss rule for the measure that b_a sees (:mod:`thermokernels.lanczos`). Nodes are kept as gaps
lambda = 1 - sigma, which A delivers without cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import scipy.linalg

from thermokernels import arguments, relaxation, tolerances
from thermokernels.arguments import Floats
from thermokernels.chain import GibbsChain
from thermokernels.errors import ConstantError, NotConvergedError, UnresolvedError
from thermokernels.lanczos import GaussRules, LanczosRuns
from thermokernels.observables import EPSILON, VarianceTime, variance_time

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
    gamma_eff_error : relative error of both, at most 1e-8 unless the cut of the cluster falls into the bulk of a spectrum too large to
        resolve; 0 where nodes are eigenvalues. It is the proven bound of Chebyshev, Markov and Stieltjes, or, once every Ritz value
        inside the cluster has converged, the change since half as many Lanczos steps where that is less.
    cluster_size : number of distinct eigenvalues in C*(O), the relevant ones with sweep gap at most 3 times the smallest; None where the
        cluster reaches into a bulk whose eigenvalues were not told apart (above 1024 states only)
    n_spins : steps per sweep
    """

    nodes: Floats = field(repr=False)
    weights: Floats = field(repr=False)
    gaps: Floats = field(repr=False)
    relevant_gap: float
    gamma_eff: float
    gamma_eff_step: float
    gamma_eff_error: float
    cluster_size: int | None
    n_spins: int


def _sweep_gap(gaps: Floats, n_spins: int) -> Floats:
    """1 - sigma^N for sigma = 1 - gap."""
    with np.errstate(divide="ignore"):
        result: Floats = -np.expm1(n_spins * np.log1p(-np.minimum(gaps, 1.0)))
        return result


def _merge_equal(gaps: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Nodes that agree to 1e-8 as one, at their weighted mean; ascending gaps."""
    order = np.argsort(gaps, kind="stable")
    gaps, weights = gaps[order], weights[order]
    first = np.r_[True, np.diff(gaps) > 1e-8 * gaps[1:]]
    starts = np.flatnonzero(first)
    merged = np.add.reduceat(weights, starts)
    moments = np.add.reduceat(weights * gaps, starts)
    return np.divide(moments, merged, out=gaps[starts], where=merged > 0), merged


def _summarise(rules: GaussRules, n_spins: int) -> tuple[SpectralMeasure, float, bool]:
    """The measure, the relative residual of its slowest relevant node, and whether all Ritz values in the cluster have converged."""
    mass_of_all = float(rules.weights.sum())
    if not mass_of_all > 0:
        raise ConstantError("no observable v_i h_j varies under pi in float64, so there is no spectral measure; scale the couplings down")
    # The weight of a mode is a sum over the observables: first merge what they see of it, then ask whether it is relevant.
    gaps, weights = _merge_equal(rules.gaps.ravel(), rules.weights.ravel())
    relevant = weights > tolerances.WEIGHT * mass_of_all
    relevant_gap = float(gaps[relevant].min())
    if relevant_gap < tolerances.GAP:
        raise UnresolvedError(
            f"the relevant spectral gap reads {relevant_gap:.2g} per step, below the {tolerances.GAP:g} that float64 resolves; "
            "scale the couplings down"
        )
    copies = np.abs(rules.gaps - relevant_gap) <= COPY * relevant_gap
    gap_error = float(rules.residuals[copies].min()) / relevant_gap
    # Slower nodes that are still moving may add up to a relevant mode once they agree.
    moving = (rules.gaps < (1 - COPY) * relevant_gap) & (rules.weights > tolerances.WEIGHT * mass_of_all / len(rules.gaps))
    if moving.any():
        gap_error = max(gap_error, float((rules.residuals[moving] / rules.gaps[moving]).max()))

    limit = CLUSTER_SPREAD * float(_sweep_gap(np.array(relevant_gap), n_spins))
    cut = float(-np.expm1(np.log1p(-limit) / n_spins)) if limit < 1 else np.inf
    cluster = relevant & (_sweep_gap(gaps, n_spins) <= limit)
    mass = float(weights[cluster].sum())
    per_sweep = float((weights[cluster] / _sweep_gap(gaps[cluster], n_spins)).sum())
    per_step = float((weights[cluster] / gaps[cluster]).sum())
    measure = SpectralMeasure(
        nodes=1.0 - gaps,
        weights=weights,
        gaps=gaps,
        relevant_gap=relevant_gap,
        gamma_eff=mass / per_sweep,
        gamma_eff_step=mass / per_step,
        gamma_eff_error=_cut_uncertainty(rules, cut) * (1 / mass + 1 / (per_step * min(cut, 1.0))),
        cluster_size=int(cluster.sum()),
        n_spins=n_spins,
    )
    # A Ritz value's error is of second order in its residual. Copies on their way in carry next to nothing.
    settled = (rules.residuals <= 1e-5 * rules.gaps) | (rules.weights <= RESOLUTION * mass)
    converged = bool(settled[_sweep_gap(rules.gaps, n_spins) <= limit].all())
    return measure if converged else replace(measure, cluster_size=None), gap_error, converged


def _cut_uncertainty(rules: GaussRules, cut: float) -> float:
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


def _dense_rules(chain: GibbsChain, starts: Floats) -> GaussRules:
    """All eigenpairs of A but the null vector, as one rule for the sum over the observables."""
    matrix = chain.apply_symmetrised_generator(np.eye(chain.n_states))
    matrix += 2.0 * np.outer(chain.root_law, chain.root_law)  # moves the null vector above the spectrum, which ends at 1
    gaps, vectors = scipy.linalg.eigh(matrix, overwrite_a=True, check_finite=False)
    weights = ((starts @ vectors[:, :-1]) ** 2).sum(axis=0)
    return GaussRules(gaps[None, :-1], weights[None], np.zeros((1, chain.n_states - 1)))


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
    arguments.require_memory(3 * starts.nbytes, f"the spectral measure of {len(starts)} observables", "use a smaller model")
    if chain.n_states <= DENSE_STATES:
        return _summarise(_dense_rules(chain, starts), chain.n_spins)[0]
    runs, before = LanczosRuns(chain, starts), np.inf
    for n_steps in STEPS:
        runs.extend(n_steps - runs.n_steps)
        measure, gap_error, converged = _summarise(runs.gauss_rules(), chain.n_spins)
        if converged:
            change = abs(measure.gamma_eff / before - 1) + EPSILON
            measure = replace(measure, gamma_eff_error=min(measure.gamma_eff_error, change))
        before = measure.gamma_eff
        resolved = max(gap_error, measure.gamma_eff_error) <= RESOLUTION
        if resolved and (converged or chain.n_states > DENSE_FALLBACK):
            return measure
        # A cluster that is integrated exactly before its eigenvalues are told apart is most of the spectrum: more steps would not help.
        if chain.n_states <= DENSE_FALLBACK and (resolved or n_steps >= SHORT_RUN):
            return _summarise(_dense_rules(chain, starts), chain.n_spins)[0]
    if gap_error > np.sqrt(RESOLUTION):  # the error of a Ritz value is of second order in its residual
        raise NotConvergedError(
            f"the slowest relevant Ritz value {measure.relevant_gap:.3g} still has a relative residual of {gap_error:.2g} "
            f"after {STEPS[-1]} Lanczos steps"
        )
    return measure


def spectral_gap(chain: GibbsChain) -> float:
    """The gap gamma = 1 - sigma_2 of the chain, per step.

    Dense for small chains; above, the least Ritz value of a Lanczos run from a fixed start vector, converged to a relative residual of
    1e-8, so that its error is of second order in that. Where the gap leaves either less than six digits, state reduction
    (:mod:`thermokernels.relaxation`), for up to 2**11 states of the single-site kernel. :func:`thermokernels.gap.solve_spectral_gap` gives
    the proven bound of the error too.

    Raises
    ------
    UnresolvedError
        The gap is below 1e-12 per step and the chain too large for state reduction, or below the range of float64.
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
    rules = _dense_rules(chain, np.zeros((1, chain.n_states))) if chain.n_states <= DENSE_STATES else gap_run(chain).gauss_rules()
    gap = float(rules.gaps[0, 0])
    if gap >= tolerances.REDUCED_GAP:
        return gap
    if relaxation.applies_to(chain):
        return relaxation.reduced_gap(chain)[0]
    if gap < tolerances.GAP:
        raise UnresolvedError(
            f"the spectral gap reads {gap:.2g} per step, below the {tolerances.GAP:g} that float64 resolves; scale the couplings down"
        )
    return gap


def gap_start(chain: GibbsChain) -> Floats:
    """Where the Lanczos run for the gap starts, (1, n_states): any vector with a share of the slowest mode will do, a fixed one repeats."""
    start: Floats = np.random.Generator(np.random.PCG64(0)).standard_normal((1, chain.n_states))
    start -= (start @ chain.root_law)[:, None] * chain.root_law
    return start


def gap_run(chain: GibbsChain) -> LanczosRuns:
    """A Lanczos run whose least Ritz value has converged, or is below what float64 resolves."""
    runs = LanczosRuns(chain, gap_start(chain))
    while runs.n_steps < min(GAP_STEPS, chain.n_states):
        runs.extend(16)
        rule = runs.gauss_rules()
        gap, residual = float(rule.gaps[0, 0]), float(rule.residuals[0, 0])
        if residual <= RESOLUTION * gap or gap < tolerances.GAP:
            return runs
    raise NotConvergedError(f"the spectral gap {gap:.3g} still has a residual of {residual:.2g} after {runs.n_steps} Lanczos steps")


def window_variance(measure: SpectralMeasure, K: float) -> float:
    """Variance of the mean of the observables over a stationary window of K steps, summed over the observables.

    sum_j w_j (1/K) [ (1 + s) / (1 - s) - 2 s (1 - s^K) / (K (1 - s)^2) ] with s = sigma_j. Where K (1 - s) is small the brackets
    cancel, and the equal sum (2/K) sum_j (-lambda)^j binom(K + 1, j + 2) - 1 in lambda = 1 - s is taken instead.

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
    series = term.copy()
    for j in range(1, 12):
        term = -term * gaps[slow] * (K - j) / (j + 2)
        series += term
    factors[slow] = 2 * series - 1
    return float(measure.weights @ factors) / K
