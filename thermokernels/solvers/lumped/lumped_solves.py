"""A z = b on lumped chains by conjugate gradients, and Gauss rules of Lanczos runs, one right-hand side at a time.

Without killing A has the null vector sqrt(pi), off which everything is kept; with it all eigenvalues are at least the killing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from thermokernels.common import tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NotConvergedError
from thermokernels.model.lumped import LumpedChain

MAX_ITERATIONS = 20_000

# The residual of conjugate gradients is computed anew where theirs has fallen this far below the last true one.
RESTART = 1e-7

# Up to this many states all eigenvalues are computed.
DENSE_STATES = 2**10


@dataclass(frozen=True, eq=False)
class LumpedSolution:
    """z, b - A z and b' z of one system, the iterations, and the relative residual."""

    vector: Floats
    residual: Floats
    iterations: int

    def value(self, source: Floats) -> float:
        """2 b'z - z'A z = (b + r)' z, whose error is r'A^+ r."""
        return float((source + self.residual) @ self.vector)


def solve(chain: LumpedChain, source: Floats, rtol: float = tolerances.SOLVE) -> LumpedSolution:
    """Conjugate gradients, restarted from the true residual until that is below ``rtol`` of |b|.

    Raises
    ------
    NotConvergedError
        The residual stopped falling above that, or the iterations are used up: the chain is too slow for float64.
    """
    null = None if chain.killing else chain.root_law
    norm = float(np.linalg.norm(source))
    vector, residual = np.zeros_like(source), source.copy()
    iterations, size = 0, norm
    while size > rtol * norm:
        step, used = _from_residual(chain, residual, null, max(rtol * norm * 0.5, RESTART * size), MAX_ITERATIONS - iterations)
        vector += step
        iterations += used
        residual = source - chain.apply_generator(vector)
        if null is not None:
            residual -= (null @ residual) * null
        before, size = size, float(np.linalg.norm(residual))
        if size > rtol * norm and (size > 0.5 * before or iterations >= MAX_ITERATIONS):
            raise NotConvergedError(
                f"conjugate gradients on {chain.n_states} lumped states stopped at a relative residual of {size / norm:.2g} after "
                f"{iterations} iterations, above {rtol:g}: the chain is too slow for float64; scale the couplings down"
            )
    return LumpedSolution(vector, residual, iterations)


def _from_residual(chain: LumpedChain, residual: Floats, null: Floats | None, target: float, most: int) -> tuple[Floats, int]:
    residual = residual.copy()
    vector, direction, image = np.zeros_like(residual), residual.copy(), np.empty_like(residual)
    square = float(residual @ residual)
    for used in range(1, most + 1):
        chain.apply_generator(direction, image)
        curvature = float(direction @ image)
        if not curvature > 0.0:
            return vector, used
        length = square / curvature
        _add(length, direction, vector)
        _add(-length, image, residual)
        if null is not None:
            _add(-float(null @ residual), null, residual)
        square, before = float(residual @ residual), square
        if square <= target**2:
            return vector, used
        direction *= square / before
        direction += residual
    return vector, most


def _add(factor: float, x: Floats, y: Floats) -> None:
    """y += factor x, without an array in between: fresh ones of millions of states cost more than what is done in them."""
    scipy.linalg.blas.daxpy(x, y, a=factor)


def decomposed(chain: LumpedChain) -> tuple[Floats, Floats]:
    """All eigenvalues of A, ascending, and eigenvectors as columns; first those of sqrt(pi), with the killing for an eigenvalue."""
    matrix = np.column_stack([chain.apply_generator(column) for column in np.eye(chain.n_states)])
    shifted = 0.5 * (matrix + matrix.T) + 3.0 * np.outer(chain.root_law, chain.root_law)
    gaps, vectors = scipy.linalg.eigh(shifted, overwrite_a=True, check_finite=False)
    return np.append(chain.killing, gaps[:-1]), np.column_stack([chain.root_law, vectors[:, :-1]])


class LanczosRun:
    """A Lanczos run with A from one vector, off sqrt(pi): nodes and weights of what the vector sees of the spectrum."""

    def __init__(self, chain: LumpedChain, start: Floats) -> None:
        self.chain, self.square = chain, float(start @ start)
        self.current, self.previous = start / np.sqrt(self.square), np.zeros_like(start)
        self.diagonal: list[float] = []
        self.offdiagonal: list[float] = []

    def extend(self, n_steps: int) -> None:
        """Up to ``n_steps`` in all; fewer where the space is used up."""
        root = self.chain.root_law
        while len(self.diagonal) < n_steps and not self.ended:
            image = self.chain.apply_generator(self.current)
            self.diagonal.append(float(self.current @ image))
            _add(-self.diagonal[-1], self.current, image)
            if self.offdiagonal:
                _add(-self.offdiagonal[-1], self.previous, image)
            _add(-float(root @ image), root, image)
            norm = float(np.linalg.norm(image))
            self.offdiagonal.append(norm if norm > 1e-14 else 0.0)
            if norm > 1e-14:
                image /= norm
                self.previous, self.current = self.current, image

    @property
    def ended(self) -> bool:
        return bool(self.offdiagonal) and self.offdiagonal[-1] == 0.0

    def rule(self) -> tuple[Floats, Floats, Floats]:
        """Nodes of A ascending, weights that sum to |start|^2, residual norms of the Ritz pairs."""
        values, vectors = scipy.linalg.eigh_tridiagonal(np.array(self.diagonal), np.array(self.offdiagonal[:-1]), check_finite=False)
        return values, self.square * vectors[0] ** 2, self.offdiagonal[-1] * np.abs(vectors[-1])
