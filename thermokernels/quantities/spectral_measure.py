"""The spectral measure of the observables and its slow end, and the spectral gap.

    mu_O = sum_j w_j delta(sigma_j),   w_j = sum_a <f~_a, phi_j>^2.

Small chains are decomposed. Of larger ones the slow modes are taken out one by one (:mod:`thermokernels.quantities.slow_modes`), and what
is left of b_a = sqrt(pi) f~_a is known by the Gauss rule of a Lanczos run on A = I - S (:mod:`thermokernels.quantities.remaining_rules`).
Nodes are kept as gaps lambda = 1 - sigma, which A delivers without cancellation.

The error of a rule from b_a is known. 1 / (1 - sigma^N) as a function of lambda has N simple poles, all with residues of size 1 / N and
none nearer than lambda = 0 to a point of (0, 1]; so its derivatives of even order, positive like those of 1 / lambda, are no larger, and as
the Peano kernel of a Gauss rule is positive, the rule loses no more of it than of 1 / lambda: sum_a b_a' A^+ b_a, which is T_O, less
sum w / lambda. Rules from A^+ b_a have T_O in full, and a bound of their own for the sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy

from thermokernels.common import memory, threads, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import ConstantError, NotConvergedError, NumericalError, UnresolvedError
from thermokernels.common.results import Line, Result
from thermokernels.common.tolerances import EPSILON, UNIT
from thermokernels.model.chain import GibbsChain, as_chain
from thermokernels.model.exchangeable import ExchangeableChain
from thermokernels.model.rounding import entry_error, law_error
from thermokernels.quantities.exchangeable import exchangeable_spectrum
from thermokernels.quantities.remaining_rules import RemainingRules
from thermokernels.quantities.slow_modes import SlowModes, cluster_cut, slow_modes, slowest_relevant
from thermokernels.quantities.variance_time import VarianceTime, with_solutions
from thermokernels.solvers.checkpoint import Kept
from thermokernels.solvers.lanczos import COPY, GaussRules, LanczosRuns, tridiagonal_eigenvalues
from thermokernels.solvers.state_reduction import reduced_gap

# Up to DENSE_STATES all eigenvalues cost less than a Lanczos run; up to DENSE_CLUSTER they are had where the cluster is everything, up to
# DENSE_FALLBACK (a second) where it ends in a bulk: what Gauss rules may put on the wrong side of its cut is percents there.
DENSE_STATES = 128
DENSE_CLUSTER = 2**10
DENSE_FALLBACK = 2**11
GAP_STEPS = 2_000

# (observables done) -> anything
Tell = Callable[[int], object]

# Accepted relative uncertainty of gamma_eff and of the relevant gap before more Lanczos steps are run.
RESOLUTION = 1e-8

# Nodes that agree to this share of themselves are one.
MERGED = 1e-8

# Relative: a measure whose slow end is known worse is not resolved, and worth a state reduction.
RESOLVED = 1e-6
CLUSTER_SPREAD = 3.0


@dataclass(frozen=True, eq=False, repr=False)
class SpectralMeasure(Result):
    """mu_O as a discrete measure, and what follows from its slow end.

    Attributes
    ----------
    nodes : (k,) eigenvalues sigma of P (or Gauss nodes), descending; gaps : (k,) 1 - sigma per step, without cancellation
    weights : (k,) nonnegative, summing to sum_a Var_pi(f_a)
    relevant_gap : per step, the least gap among nodes that carry more than 1e-12 of the weight
    gamma_eff, gamma_eff_step : weighted harmonic mean of the gaps over the cluster C*(O), per sweep and per step
    gamma_eff_error : relative error of both, at most 1e-6 where ``resolved``. From rounding, from the residuals of the modes in the cluster
        and their distance from the others; from what T_O says is missing where the cluster is everything; else the bound of Chebyshev,
        Markov and Stieltjes.
    relevant_gap_bound : a bound on |exact - relevant_gap| per step, for the modes that were told apart; that no slower one carries more
        than 1e-12 of the weight rests on the Gauss rules where the chain has more than 1024 states
    resolved : whether both are known to a relative 1e-6
    cluster_size : number of distinct eigenvalues in C*(O), the relevant ones with sweep gap at most 3 times the smallest; None where the
        cluster is everything (above 1024 states) or reaches into a bulk (above 2048) whose eigenvalues were not told apart
    steps_per_sweep : as the kernel has it
    """

    _lines = (
        Line("relevant_gap_per_step", "relevant_gap", "per step", bound="relevant_gap_bound"),
        Line("gamma_eff_per_sweep", "gamma_eff", "per sweep", relative_bound="gamma_eff_error"),
        Line("gamma_eff_per_step", "gamma_eff_step", "per step", relative_bound="gamma_eff_error"),
    )
    _facts = (
        "resolved",
        "cluster_size",
        "steps_per_sweep",
        "nodes",
        "gaps",
        "weights",
    )

    nodes: Floats
    weights: Floats
    gaps: Floats
    relevant_gap: float
    gamma_eff: float
    gamma_eff_step: float
    gamma_eff_error: float
    cluster_size: int | None
    steps_per_sweep: int
    relevant_gap_bound: float = np.inf

    @property
    def resolved(self) -> bool:
        """Whether relevant gap and gamma_eff are known to a relative 1e-6."""
        return self.relevant_gap_bound <= RESOLVED * self.relevant_gap and self.gamma_eff_error <= RESOLVED

    def _columns(self) -> tuple[dict[str, Any], str]:
        return {"node": self.nodes, "gap": self.gaps, "weight": self.weights}, "node"


def _sweep_gap(gaps: Floats, steps: int) -> Floats:
    """1 - sigma^N for sigma = 1 - gap and a sweep of N ``steps``; where that is one, eigenvalues can be negative."""
    if steps == 1:
        return gaps
    with np.errstate(divide="ignore"):
        result: Floats = -np.expm1(steps * np.log1p(-np.minimum(gaps, 1.0)))
        return result


def _merge_equal(gaps: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Nodes that agree to MERGED as one, at their weighted mean; ascending gaps."""
    order = np.argsort(gaps, kind="stable")
    gaps, weights = gaps[order], weights[order]
    first = np.r_[True, np.diff(gaps) > MERGED * gaps[1:]]
    starts = np.flatnonzero(first)
    merged = np.add.reduceat(weights, starts)
    moments = np.add.reduceat(weights * gaps, starts)
    return np.divide(moments, merged, out=gaps[starts], where=merged > 0), merged


def _measure(gaps: Floats, weights: Floats, steps: int, least: float = tolerances.GAP) -> SpectralMeasure:
    """The measure with these nodes and weights, and what follows from its slow end, as if all nodes were eigenvalues.

    A relevant gap below ``least`` is refused.
    """
    total = float(weights.sum())
    if not total > 0:
        raise ConstantError("no observable v_i h_j varies under pi in float64, so there is no spectral measure; scale the couplings down")
    # The weight of a mode is a sum over the observables: first merge what they see of it, then ask whether it is relevant.
    gaps, weights = _merge_equal(gaps, weights)
    relevant = weights > tolerances.WEIGHT * total
    relevant_gap = float(gaps[relevant].min())
    if relevant_gap < least:
        raise UnresolvedError(
            f"the relevant spectral gap reads {relevant_gap:.2g} per step, below the {least:g} that float64 resolves; "
            "scale the couplings down"
        )
    sweep_gaps = _sweep_gap(gaps, steps)
    cluster = relevant & (sweep_gaps <= CLUSTER_SPREAD * _sweep_gap(np.array(relevant_gap), steps))
    mass = float(weights[cluster].sum())
    return SpectralMeasure(
        nodes=1.0 - gaps,
        weights=weights,
        gaps=gaps,
        relevant_gap=relevant_gap,
        gamma_eff=mass / float((weights[cluster] / sweep_gaps[cluster]).sum()),
        gamma_eff_step=mass / float((weights[cluster] / gaps[cluster]).sum()),
        gamma_eff_error=0.0,
        cluster_size=int(cluster.sum()),
        steps_per_sweep=steps,
    )


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


def _matrix(chain: GibbsChain) -> Floats:
    """A + 2 psi psi', which moves the null vector above the spectrum, which ends at 1, or at 9/8 where eigenvalues are negative."""
    matrix = 2.0 * np.outer(chain.root_law, chain.root_law)
    if not chain.dynamics.single_flips:
        return matrix + chain.symmetrised_generator_matrix()
    states, (n_rows, n_columns) = np.arange(chain.n_states), chain.shape
    rates = np.concatenate([np.repeat(chain.visible_rates, n_columns, axis=1), np.tile(chain.hidden_rates, (1, n_rows))])
    matrix[states, states] += chain.escape
    for mask, rate in zip(chain.flip_masks, rates, strict=True):
        matrix[states, states ^ mask] -= rate
    return matrix


def _eigenvalues(matrix: Floats, starts: Floats) -> tuple[Floats, Floats]:
    """All eigenvalues, ascending, and the weight of each: the matrix made tridiagonal, T = H'A H, and only H'b_a turned along with T."""
    n = len(matrix)
    # LAPACK reads columns: of the symmetric matrix, the same numbers. H leaves the first coordinate where it is.
    reflectors, diagonal, offdiagonal, factors, _ = scipy.linalg.lapack.dsytrd(
        matrix.T, lower=1, lwork=int(scipy.linalg.lapack.dsytrd_lwork(n, lower=1)[0]), overwrite_a=1
    )
    turned = np.array(starts, order="F")
    turned[:, 1:], _, _ = scipy.linalg.lapack.dormqr("R", "N", reflectors[1:, :-1], factors, turned[:, 1:], lwork=64 * len(starts))
    gaps, seen = tridiagonal_eigenvalues(diagonal[None], np.append(offdiagonal, 0.0)[None], turned.T[None])
    return gaps[0], (seen[0] ** 2).sum(axis=1)


def _decomposed(chain: GibbsChain, starts: Floats) -> SpectralMeasure:
    """The measure from all eigenvalues."""
    gaps, weights = (part[:-1] for part in _eigenvalues(_matrix(chain), starts))
    measure = _measure(gaps, weights, chain.steps_per_sweep)
    return _with_errors(measure, chain, _rounding(chain), 0.0, _spread(measure, gaps))


def _spread(measure: SpectralMeasure, gaps: Floats) -> Floats:
    """How far from each node the eigenvalues lie that were made one there, as a share of it."""
    after = np.searchsorted(measure.gaps, gaps).clip(max=measure.gaps.size - 1)
    before = (after - 1).clip(min=0)
    nearest = np.where(gaps - measure.gaps[before] <= measure.gaps[after] - gaps, before, after)
    spread = np.zeros_like(measure.gaps)
    np.maximum.at(spread, nearest, np.abs(gaps - measure.gaps[nearest]) / np.abs(measure.gaps[nearest]))
    return spread


def _rounding(chain: GibbsChain) -> float:
    """What can have moved an eigenvalue of A: rounding of its entries, and of a backward stable reduction of a matrix of norm one."""
    return 2 * entry_error(chain) + 20 * min(chain.n_states, DENSE_FALLBACK) * UNIT


def _with_errors(measure: SpectralMeasure, chain: GibbsChain, error: float, relative: float, spread: Floats) -> SpectralMeasure:
    """The measure of computed modes, whose gaps are wrong by no more than ``error`` and a share ``relative`` of themselves.

    Eigenvectors turn by the error over the distance of their eigenvalues (Davis and Kahan, SIAM J. Numer. Anal. 7 (1970) 1). By an angle t
    the weight w of the cluster, of a total of W, moves by 2 t sqrt(w (W - w)) + t^2 W. Nodes on either side of the cut may change sides.

    Eigenvalues made one lie within a share ``spread`` of their node, at its weighted mean. The mean of f(lambda), 1 over
    the gap per sweep, has f >= 1 / (N lambda) and f'' <= 2 / lambda^3: this costs N spread^2.
    """
    gaps, weights, total = measure.gaps, measure.weights, float(measure.weights.sum())
    relevant = weights > tolerances.WEIGHT * total
    cut = cluster_cut(measure.relevant_gap, CLUSTER_SPREAD, measure.steps_per_sweep)
    inside = relevant & (gaps <= cut * (1 + EPSILON))
    mass, largest = float(weights[inside].sum()), float(gaps[inside].max())
    distance = float((gaps * (1 - spread))[relevant & ~inside].min(initial=np.inf)) - float((gaps * (1 + spread))[inside].max())
    moved = error + relative * largest
    angle = min(moved / (distance - moved), 1.0) if distance > moved else 1.0
    near = relevant & np.isfinite(cut) & (np.abs(gaps - cut) <= 4 * (error + (relative + spread) * gaps) + 8 * EPSILON * cut)
    lost = 2 * angle * np.sqrt(mass * float(weights[~inside].sum())) + angle**2 * total + float(weights[near].sum())
    lost += (4 * law_error(chain) + 4 * (chain.n_configurations + 16) * UNIT) * total
    merged = float(spread[inside].max())
    of_gap = error + (relative + float(spread[gaps == measure.relevant_gap].max()) + 4 * EPSILON) * measure.relevant_gap
    of_mean = float((1 + CLUSTER_SPREAD) * lost / mass + 2 * (error / measure.relevant_gap + relative) + 8 * EPSILON)
    of_mean += 2 * measure.steps_per_sweep * merged**2
    return replace(measure, relevant_gap_bound=of_gap, gamma_eff_error=measure.gamma_eff_error + of_mean)


def _from_reduction(chain: GibbsChain, starts: Floats) -> SpectralMeasure:
    """The measure from singular vectors of the inverse Cholesky factor, whose slow end is right to a share of itself.

    Fast modes are noise there: 1 / gap is lost beside that of the slowest. They come from A, with the slow ones moved above its spectrum.
    """
    gaps, vectors, errors = reduced_gap.reduced_modes(chain)
    slow = errors * gaps <= _rounding(chain)
    gaps, vectors, errors = gaps[slow], vectors[slow], errors[slow]
    along = starts @ vectors.T
    others, their_weights = _eigenvalues(_matrix(chain) + 2.0 * (vectors.T @ vectors), starts - along @ vectors)
    n_others = chain.n_states - 1 - gaps.size
    gaps, weights = np.append(gaps, others[:n_others]), np.append((along**2).sum(axis=0), their_weights[:n_others])
    measure = _measure(gaps, weights, chain.steps_per_sweep, float(np.finfo(np.float64).tiny))
    cut = cluster_cut(measure.relevant_gap, CLUSTER_SPREAD, measure.steps_per_sweep)
    in_cluster = (gaps >= measure.relevant_gap * (1 - MERGED)) & (gaps <= cut * (1 + MERGED))
    lost = _rounding(chain) if in_cluster[errors.size :].any() else 0.0
    return _with_errors(measure, chain, lost, float(errors[in_cluster[: errors.size]].max(initial=0.0)), _spread(measure, gaps))


@default_error_state
def spectral_measure(chain: GibbsChain | ExchangeableChain) -> SpectralMeasure:
    """Spectral measure of the gradient observables, its relevant gap, cluster C*(O) and gamma_eff.

    Raises
    ------
    UnresolvedError
        The relevant gap is below what float64 resolves (1e-12 per step), or nothing varies.
    NotConvergedError
        The slowest relevant mode did not converge.
    NotReversibleError
        The kernel has no detailed balance.

    Examples
    --------
    >>> import thermokernels as tk
    >>> measure = tk.spectral_measure(tk.gibbs_chain([[0.0, 0.0], [0.0, 0.0]]))
    >>> round(measure.relevant_gap, 12), measure.cluster_size  # products of two of N = 4 free spins: 2 / N
    (0.5, 1)
    """
    if isinstance(chain, ExchangeableChain):
        gaps, weights, missing = exchangeable_spectrum.nodes(chain)
        return replace(_measure(gaps, weights, chain.n_spins), gamma_eff_error=missing)
    return measure_of(with_solutions(as_chain(chain)))


def modes_of(time: VarianceTime) -> SlowModes | None:
    """The slow modes that :func:`measure_of` takes out; None of chains that are decomposed instead."""
    return None if time.chain.n_states <= DENSE_STATES else slow_modes(time.chain, time.right_hand_sides, CLUSTER_SPREAD)


def measure_of(time: VarianceTime, modes: SlowModes | None = None, tell: Tell | None = None, kept: Kept | None = None) -> SpectralMeasure:
    """:func:`spectral_measure` from right-hand sides and solutions that T_O has needed already, and ``modes`` where they are known.

    ``tell`` hears of how many observables are done, and ``kept`` keeps their rules. Where float64 does not resolve the slow end, state
    reduction does, of up to 2**11 states.
    """
    chain, found, failure = time.chain, None, None
    try:
        found = _of_eigenvalues(time, modes, tell, kept)
    except UnresolvedError as error:
        failure = error
    by_reduction = reduced_gap.applies_to(chain) and not isinstance(failure, ConstantError)
    if by_reduction and not (found is not None and found.resolved):
        with suppress(NumericalError):
            reduced = _from_reduction(chain, time.right_hand_sides)
            if found is None or reduced.relevant_gap_bound / reduced.relevant_gap < found.relevant_gap_bound / found.relevant_gap:
                found = reduced
    if found is None:
        assert failure is not None
        raise failure
    if not found.relevant_gap_bound < found.relevant_gap:
        raise UnresolvedError(
            f"the relevant spectral gap reads {found.relevant_gap:.2g} per step, and may be wrong by {found.relevant_gap_bound:.2g}; scale "
            "the couplings down"
        )
    return found


def _of_eigenvalues(
    time: VarianceTime, modes: SlowModes | None = None, tell: Tell | None = None, kept: Kept | None = None
) -> SpectralMeasure:
    """The measure from eigenvalues of A in float64: all of them, or slow modes and Gauss rules."""
    chain, starts = time.chain, time.right_hand_sides
    # of every thread, two vectors of a run, its start, sqrt(pi) and what it takes to put these together
    n_bytes = 8 * threads.get_threads() * starts[:1].nbytes
    memory.require(n_bytes, f"the spectral measure of {len(starts)} observables", "use a smaller model")
    modes = modes or modes_of(time)
    if modes is None:
        return _decomposed(chain, starts)
    slowest = slowest_relevant(modes.gaps, modes.weights, float(np.einsum("an,an->", starts, starts)))
    cut = cluster_cut(slowest, CLUSTER_SPREAD, chain.steps_per_sweep)
    if chain.n_states <= (DENSE_FALLBACK if not modes.complete else DENSE_CLUSTER if cut == np.inf else 0):
        return _decomposed(chain, starts)
    if slowest == np.inf:
        raise NotConvergedError("the slowest mode that the observables see has not converged in Lanczos runs; scale the couplings down")
    remaining = RemainingRules(time, modes)
    rules = remaining.rules(tell, kept)
    gaps, weights = np.append(modes.gaps, rules.gaps), np.append(modes.weights, rules.weights)
    measure = _measure(gaps, weights, chain.steps_per_sweep)
    error = _uncertainty(measure, modes, rules, cut, remaining.missing(rules))
    told_apart = modes.complete and cut < np.inf
    measure = replace(measure, gamma_eff_error=error, cluster_size=measure.cluster_size if told_apart else None)
    slow = np.abs(modes.gaps - measure.relevant_gap) <= MERGED * measure.relevant_gap
    residual = float(modes.residuals[slow].max(initial=0.0)) if slow.any() else RESOLUTION * measure.relevant_gap
    of_gap, share = residual + _rounding(chain), _rounding(chain) / measure.relevant_gap
    return replace(measure, relevant_gap_bound=of_gap + MERGED * measure.relevant_gap, gamma_eff_error=measure.gamma_eff_error + 4 * share)


def _uncertainty(measure: SpectralMeasure, modes: SlowModes, rules: GaussRules, cut: float, missing: float) -> float:
    """A bound on the relative error of gamma_eff."""
    in_cluster = measure.gaps <= cut
    mass = float(measure.weights[in_cluster].sum())
    per_step = float((measure.weights[in_cluster] / measure.gaps[in_cluster]).sum())
    if cut == np.inf:
        per_sweep = mass / measure.gamma_eff
        return missing / per_sweep + EPSILON
    if not modes.complete:
        return _cut_uncertainty(rules, cut) * (1 / mass + 1 / (per_step * min(cut, 1.0))) + missing / per_step
    # Eigenvectors turn by at most |residuals| / distance (Davis and Kahan 1970), and so do the roots of the weights on either side.
    inside = modes.gaps <= cut
    total = float(measure.weights.sum())
    outside = float(measure.gaps[~in_cluster & (measure.weights > tolerances.WEIGHT * total)].min(initial=1.0))
    residual = float(np.linalg.norm(modes.residuals[inside]))
    angle = residual / (outside - float(modes.gaps[inside].max()))
    doubtful = 2 * angle * np.sqrt(mass * total) + angle**2 * total + float(rules.weights[rules.gaps <= cut].sum())
    return float((1 + CLUSTER_SPREAD) * doubtful / mass + angle * residual / measure.relevant_gap + EPSILON)


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
