"""The slowest eigenvectors of A = I - S that the observables see, taken out of the measure before anything else is asked of it.

One Lanczos run from a generic combination u = sum_a c_a b_a of the observables meets every eigenvalue that any of them sees, at the cost of
one of them. Its Ritz vectors below the cut of the cluster are put together, polished by a Rayleigh-Ritz step, and taken out of all
b_a. Of a degenerate eigenvalue a run sees one vector; so the search is repeated on what is left, until nothing below the cut is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from thermokernels.common import threads, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.model.chain import GibbsChain
from thermokernels.solvers.lanczos import COPY, LanczosRuns

STEPS = (48, 72, 96, 144, 192, 288, 384, 576, 864)

# Converged: |A y - theta y| below this, absolutely, or this share of theta. The error of theta is of second order in it.
RESIDUAL = 1e-12
RELATIVE_RESIDUAL = 1e-10

# A Ritz value that has not converged may be left aside where it carries no more than this share of the weight below the cut.
NEGLIGIBLE = 1e-10

# Modes are kept up to this many bytes, or the size of the right-hand sides.
MOST_BYTES = 2**26


@dataclass(frozen=True, eq=False)
class SlowModes:
    """Orthonormal eigenvectors of A and what the observables see of them.

    Attributes
    ----------
    gaps : (k,) per step, ascending; vectors : (k, n_states), rows
    weights : (k,), sum_a <b_a, y>^2; residuals : (k,), |A y - theta y|
    complete : whether all that the observables see up to the cut of the cluster is among them
    """

    gaps: Floats
    vectors: Floats
    weights: Floats
    residuals: Floats
    complete: bool

    def remainder(self, vectors: Floats) -> Floats:
        """The rows of ``vectors`` without their components along the modes."""
        rest = np.empty_like(vectors)

        def take_out(rows: slice) -> None:
            for a in range(rows.start, rows.stop):
                np.subtract(vectors[a], (self.vectors @ vectors[a]) @ self.vectors, out=rest[a])

        threads.for_rows(take_out, len(vectors), 2 * self.vectors.shape[0] * vectors.size)
        return rest


def slow_modes(chain: GibbsChain, starts: Floats, spread: float) -> SlowModes:
    """The eigenvectors that ``starts`` (k, n_states) see up to the cut: sweep gap at most ``spread`` times the least relevant one.

    Where the cut lies above the whole spectrum the slowest alone is sought, and so, with ``complete`` False, where there are too many.
    """
    total = float(np.einsum("an,an->", starts, starts))
    draws = np.random.Generator(np.random.PCG64(0))
    modes = _polished(chain, starts, np.empty((0, chain.n_states)))
    for _ in range(len(starts) + 1):  # no eigenvalue has more vectors than the observables could tell apart
        run = LanczosRuns(chain, modes.remainder(draws.standard_normal((1, len(starts))) @ starts))
        limit, found, settled = _settle(run, modes, total, spread, len(starts))
        if settled and not found:
            return replace(modes, complete=True)
        before = modes.gaps.size
        modes = _polished(chain, starts, np.concatenate([modes.vectors, modes.remainder(run.ritz_vectors(limit))]))
        slowest = slowest_relevant(modes.gaps, modes.weights, total)
        if not settled or slowest < tolerances.GAP or modes.gaps.size == before:
            return modes
        if cluster_cut(slowest, spread, chain.steps_per_sweep) == np.inf:
            return replace(modes, complete=True)
    return modes


def cluster_cut(slowest: float, spread: float, steps: int) -> float:
    """The gap per step whose gap per sweep of N ``steps``, 1 - (1 - gap)^N, is ``spread`` times that of ``slowest``; else infinite.

    Where a sweep is one step eigenvalues can be negative and gaps more than 1.
    """
    if steps == 1:
        return spread * slowest if spread * slowest < 2.0 else np.inf
    if not slowest < 1.0:
        return np.inf
    limit = -spread * math.expm1(steps * math.log1p(-slowest))
    return -math.expm1(math.log1p(-limit) / steps) if limit < 1.0 else np.inf


def slowest_relevant(gaps: Floats, weights: Floats, total: float) -> float:
    """The least gap that carries more than 1e-12 of the weight; infinite where none does."""
    return float(gaps[weights > tolerances.WEIGHT * total].min(initial=np.inf))


def _settle(run: LanczosRuns, modes: SlowModes, total: float, spread: float, n_starts: int) -> tuple[float, int, bool]:
    """Extend a run until its Ritz values below the cut have converged: up to where they are wanted, how many, and whether that is all."""
    chain = run.chain
    most = max(n_starts, MOST_BYTES // (8 * chain.n_states)) - modes.gaps.size
    for n_steps in STEPS:
        run.extend(n_steps - run.n_steps)
        rule = run.gauss_rules()
        gaps, weights, residuals = rule.gaps[0], rule.weights[0], rule.residuals[0]
        # What one combination sees of a mode is its weight times the square of a random number.
        slowest = min(slowest_relevant(modes.gaps, modes.weights, total), slowest_relevant(gaps, 1e3 * weights, total))
        if slowest < tolerances.GAP:
            return tolerances.GAP, 1, True
        cut = cluster_cut(slowest, spread, chain.steps_per_sweep)
        limit = (1 + COPY) * (slowest if cut == np.inf else cut)
        inside = gaps <= limit
        seen = inside & (weights > NEGLIGIBLE * (weights[inside].sum() + modes.weights.sum()))
        if seen.sum() > most:
            break
        converged = residuals <= np.maximum(RESIDUAL, RELATIVE_RESIDUAL * gaps)
        # Whatever is next to a converged one may be a copy of it on its way in. If not, the next search will find it.
        distances = np.abs(gaps[seen, None] - gaps[seen & converged]).min(axis=1, initial=np.inf)
        if (converged[seen] | (distances <= np.maximum(residuals, COPY * gaps)[seen])).all():
            if seen.any():
                run.extend(n_steps // 2)  # cheap, and the residuals fall with every step
            return limit, int(seen.sum()), True
    return (1 + COPY) * slowest, 1, False


def _polished(chain: GibbsChain, starts: Floats, vectors: Floats) -> SlowModes:
    """Rayleigh-Ritz on the span of the rows of ``vectors``; what has not converged is dropped."""
    basis = np.ascontiguousarray(np.linalg.qr(vectors.T)[0].T)
    gaps, rotation = np.linalg.eigh(basis @ chain.apply_symmetrised_generator(basis).T)
    modes = np.ascontiguousarray(rotation.T @ basis)
    residuals = np.linalg.norm(chain.apply_symmetrised_generator(modes) - gaps[:, None] * modes, axis=1)
    good = residuals <= np.maximum(100 * RESIDUAL, COPY * np.abs(gaps))
    modes = np.ascontiguousarray(modes[good])
    return SlowModes(gaps[good], modes, ((starts @ modes.T) ** 2).sum(axis=0), residuals[good], False)
