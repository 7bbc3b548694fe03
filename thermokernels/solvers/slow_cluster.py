"""The slowest modes of a chain, each between two proven bounds, where several are about as slow.

Block inverse iteration: solutions of A z = x for a block of vectors, rotated by Rayleigh and Ritz, turn into the slowest modes by the ratio
of their eigenvalues to the first one outside of the block in every round, degenerate ones included (Parlett, The Symmetric Eigenvalue
Problem, 1998, sections 11.4 and 14.4). Let the first m of them, values theta_1 <= ... <= theta_m and residuals R = A X - X diag(theta), be
separated from the next mode of the chain: lambda_(m+1) >= nu > theta_m. Then

    theta_k - |R|^2 / (nu - theta_m) <= lambda_k <= theta_k,        k = 1 .. m.                                                  (Lehmann)

Above: Rayleigh and Ritz. Below: Lehmann's bounds (Z. angew. Math. Mech. 30 (1950) 1) are nu plus the eigenvalues of
(Theta - nu) - (nu - Theta)^(-1/2) R'R (nu - Theta)^(-1/2), which lie no more than the norm of the last term below those of Theta - nu. For
m = 1 this is Temple's bound. nu comes from the layers (:mod:`thermokernels.solvers.layer_bounds`), or else from interlacing: m + 1 states
are taken out, one in each of the slow wells, and Collatz and Wielandt bound the least eigenvalue of what is left
(:func:`thermokernels.solvers.gap_bounds.killed_rate_bound`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy

from thermokernels.common import memory
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import UnresolvedError
from thermokernels.common.tolerances import UNIT
from thermokernels.model.chain import GibbsChain
from thermokernels.model.rounding import entry_error
from thermokernels.solvers.gap_bounds import killed_rate_bound
from thermokernels.solvers.layer_bounds import layer_rates
from thermokernels.solvers.resolvent import Solver

# Vectors of the block; clusters of fewer modes can be told from the rest.
BLOCK = 12
MAX_ROUNDS = 10

# The cluster ends where the next Ritz value is larger by this factor, or what is proven of the next eigenvalue by this one.
SEPARATION, PROVEN_SEPARATION = 1.5, 1.02

# Solves are inexact: the residual of a mode gains no more than this in a round.
INEXACT = 1e-4


@dataclass(frozen=True, eq=False)
class SlowCluster:
    """The m slowest modes.

    Attributes
    ----------
    values : (m,) Ritz values per step, ascending; no eigenvalue is larger but for ``rounding``
    lower : (m,) proven lower bounds of the eigenvalues per step
    next : proven lower bound of the next eigenvalue per step
    rounding : what rounding of A and of sums can have moved a value by
    vectors : (m, n_states) orthonormal Ritz vectors
    """

    values: Floats
    lower: Floats
    next: float
    rounding: float
    vectors: Floats = field(repr=False)


def slow_cluster(chain: GibbsChain, accuracy: float) -> SlowCluster:
    """The slowest modes up to the widest separation, the first enclosed to a relative ``accuracy`` where rounding allows it.

    Raises
    ------
    UnresolvedError
        No next mode is proven to be separated from the slowest ones.
    NotConvergedError, NotReversibleError
        As :class:`thermokernels.solvers.resolvent.Solver`.
    ModelTooLargeError
        The block does not fit into memory.
    """
    size = min(BLOCK, chain.n_states - 1)
    memory.require(8 * 6 * size * chain.n_states, f"{size} slow modes of {chain.n_states} states", "use a smaller model")
    solver = Solver(chain, "auto", INEXACT)
    draws = np.random.Generator(np.random.PCG64(0))
    vectors = _orthonormal(chain, draws.standard_normal((size, chain.n_states)))
    # of A and its products with the vectors; of the scalar products
    rounding = 2 * entry_error(chain) + 2 * (chain.n_spins + sum(chain.shape) + size + 8) * UNIT
    known: tuple[int, float] | None = None
    for _ in range(MAX_ROUNDS):
        values, vectors, residuals = _rotated(chain, _orthonormal(chain, solver.solve(vectors).vectors))
        known = known or _separated(chain, values, vectors, residuals)
        if known is None:
            continue
        m, next_ = known
        distance = next_ - float(values[m - 1]) - rounding
        if not distance > 0.0:
            break
        lost = (float(np.linalg.norm(residuals[:m])) + rounding) ** 2 / distance
        if lost <= accuracy * values[0] or lost <= rounding:
            break
    if known is None or not distance > 0.0:
        raise UnresolvedError("no mode is proven to be separated from the slowest ones of the chain")
    return SlowCluster(values[:m], values[:m] - lost - rounding, next_, rounding, vectors[:m])


def _separated(chain: GibbsChain, values: Floats, vectors: Floats, residuals: Floats) -> tuple[int, float] | None:
    """How many modes the next one is separated from, and a proven lower bound of its eigenvalue; None before they have converged."""
    rates = layer_rates(chain)
    if rates.size:
        next_ = rates[np.minimum(np.arange(1, len(values)), rates.size - 1)]
        m = int((next_ / np.maximum(values[:-1], np.finfo(np.float64).tiny)).argmax()) + 1
        bound = float(next_[m - 1])
        if bound >= PROVEN_SEPARATION * values[m - 1] and _settled(residuals[:m], bound - values[m - 1]):
            return m, bound
    m = _cluster_size(values, residuals)
    return (m, killed_rate_bound(chain, _representatives(chain, vectors[:m]))) if m else None


def _settled(residuals: Floats, distance: float) -> bool:
    return bool(np.linalg.norm(residuals, axis=1).max() <= 0.1 * distance)


def _cluster_size(values: Floats, residuals: Floats) -> int:
    """Where the ratio of a Ritz value to the one before is largest, once the values before it have converged; 0 before that."""
    ratios = values[1:] / np.maximum(values[:-1], np.finfo(np.float64).tiny)
    m = int(ratios.argmax()) + 1
    return m if ratios[m - 1] >= SEPARATION and _settled(residuals[:m], values[m] - values[m - 1]) else 0


def _representatives(chain: GibbsChain, vectors: Floats) -> np.ndarray:
    """m + 1 states that tell the slow modes apart: the pivots of a QR decomposition of sqrt(pi) and the m modes."""
    rows = np.vstack([chain.root_law, vectors])
    pivots = scipy.linalg.qr(rows, mode="r", pivoting=True, check_finite=False)[1]
    return np.asarray(pivots[: len(rows)], dtype=np.int64)


def _orthonormal(chain: GibbsChain, vectors: Floats) -> Floats:
    """An orthonormal basis of the rows without their components along sqrt(pi)."""
    for _ in range(2):  # the second time takes out what rounding has left
        vectors = vectors - np.outer(vectors @ chain.root_law, chain.root_law)
        vectors = np.ascontiguousarray(np.linalg.qr(vectors.T)[0].T)
    return vectors


def _rotated(chain: GibbsChain, vectors: Floats) -> tuple[Floats, Floats, Floats]:
    """Ritz values, ascending, Ritz vectors and A x - theta x of an orthonormal block."""
    images = chain.apply_symmetrised_generator(vectors)
    values, rotation = np.linalg.eigh(vectors @ images.T)
    vectors, images = np.ascontiguousarray(rotation.T @ vectors), rotation.T @ images
    return values, vectors, images - values[:, None] * vectors
