"""Lanczos runs with A = I - S from several start vectors, and the Gauss rules that they give.

A run from b (conjugate gradients in another guise) makes A tridiagonal on the Krylov space of b. The eigenvalues of that matrix, the Ritz
values, are the nodes of a Gauss rule for the measure that b sees, |b|^2 times the squared first components of its eigenvectors the
weights, and the last components give the residuals. Nothing is reorthogonalised but sqrt(pi): copies of converged Ritz values
share their weight and do no harm to a sum. (Golub and Meurant, Matrices, Moments and Quadrature, 2010, chapters 4 and 6.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from thermokernels.common import threads
from thermokernels.common.arrays import Floats
from thermokernels.compiled import simd_states
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_states import DOUBLES, dot, fill, load, multiply, multiply_add, store, total
from thermokernels.model.chain import GibbsChain
from thermokernels.model.kernels.single_site import _apply_to_vector

# Ritz values closer than this, relatively, are copies of one eigenvalue: runs without reorthogonalisation repeat converged ones.
COPY = 1e-7

# Lanczos vectors kept at a time when Ritz vectors are put together: no more than these, in no more bytes than these.
KEPT_VECTORS, KEPT_BYTES = 32, 2**26


@dataclass(frozen=True, eq=False)
class GaussRules:
    """One Gauss rule a row: nodes ascending, weights, and the residual norms of the Ritz pairs; all (k, steps)."""

    gaps: Floats
    weights: Floats
    residuals: Floats


@jit
def _extend_runs(generator, root_law, current, previous, diagonals, offdiagonals, start, basis, work):
    """The steps from ``start`` on of Lanczos runs with A, one a row: q_(k+1) = (A q_k - alpha_k q_k - beta_(k-1) q_(k-1)) / beta_k.

    The first of the vectors q_k of the first run, as many as ``basis`` has rows, are kept in it. ``work``: three rows.
    """
    here, before, image = work[0], work[1], work[2]
    for a in range(current.shape[0]):
        _copy(current[a], here)
        _copy(previous[a], before)
        for k in range(start, diagonals.shape[1]):
            if a == 0 and k - start < basis.shape[0]:
                _copy(here, basis[k - start])
            _apply_to_vector(generator, here, image)
            _three_term(root_law, image, here, before, diagonals[a], offdiagonals[a], k)
        _copy(here, current[a])
        _copy(before, previous[a])


@jit
def _copy(x, y):
    """y = x; an assignment of numba's would compile words for arrays of different sizes."""
    for k in range(0, x.size, DOUBLES):
        store(y, k, load(x, k))


@jit
def _three_term(root_law, image, current, previous, diagonals, offdiagonals, k):
    """One three-term step from image = A q_k, kept orthogonal to sqrt(pi); writes alpha_k and beta_k."""
    alpha = dot(current, image)
    back = fill(-offdiagonals[k - 1] if k > 0 else 0.0)
    down, along, squares = fill(-alpha), fill(0.0), fill(0.0)
    for i in range(0, image.size, DOUBLES):
        residual = multiply_add(down, load(current, i), multiply_add(back, load(previous, i), load(image, i)))
        along = multiply_add(load(root_law, i), residual, along)
        squares = multiply_add(residual, residual, squares)
        store(image, i, residual)
    component = total(along)
    norm = np.sqrt(max(total(squares) - component * component, 0.0))
    # A run that has used up its invariant subspace goes on as zeros: nodes at gap 1 that carry no weight.
    ended = norm <= 1e-14
    is_zero = offdiagonals[k - 1] == 0.0 if k > 0 else dot(current, current) == 0.0
    diagonals[k] = 1.0 if is_zero else alpha
    offdiagonals[k] = 0.0 if ended else norm
    scale, remove = fill(0.0 if ended else 1.0 / norm), fill(-component)
    for i in range(0, image.size, DOUBLES):
        store(previous, i, load(current, i))
        store(current, i, multiply(scale, multiply_add(remove, load(root_law, i), load(image, i))))


@jit
def _tridiagonal_eigenvalues(diagonals, offdiagonals, values, rows):
    """Eigenvalues, in no order, of symmetric tridiagonal matrices, one a row, and Z' rows for the eigenvectors Z (implicit QL).

    Wilkinson's shift, one rotation after the other (Golub and Van Loan, Matrix Computations, 4th ed., section 8.3). Rows (k, n, c) hold
    c numbers, a multiple of eight, for every coordinate of a matrix; each rotation turns two neighbours. offdiagonals[a, -1] is not used.
    """
    n, width = rows.shape[1], rows.shape[2]
    for a in range(diagonals.shape[0]):
        d, e, turned = diagonals[a].copy(), offdiagonals[a].copy(), rows[a].ravel()
        e[n - 1] = 0.0
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
                    sine, cosine, minus = fill(s), fill(c), fill(-s)
                    for q in range(k * width, (k + 1) * width, DOUBLES):
                        here, there = load(turned, q), load(turned, q + width)
                        store(turned, q + width, multiply_add(cosine, there, multiply(sine, here)))
                        store(turned, q, multiply_add(cosine, here, multiply(minus, there)))
                if not split:
                    d[start] -= p
                    e[start] = g
                    e[end] = 0.0
        for k in range(n):
            values[a, k] = d[k]


def tridiagonal_eigenvalues(diagonals: Floats, offdiagonals: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues (k, n), ascending, and Z' rows (k, n, c), for tridiagonal matrices given by rows (k, n) and rows (k, n, c)."""
    values = np.empty_like(diagonals)
    turned = np.zeros((*rows.shape[:2], -(-rows.shape[2] // DOUBLES) * DOUBLES))
    turned[:, :, : rows.shape[2]] = rows
    _tridiagonal_eigenvalues(diagonals, offdiagonals, values, turned)
    order = np.argsort(values, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(turned[:, :, : rows.shape[2]], order[:, :, None], axis=1)


class LanczosRuns:
    """Lanczos runs from several start vectors (k, n_states), one after the other in cache, that can be extended."""

    def __init__(self, chain: GibbsChain, starts: Floats):
        self.chain = chain
        self.starts = starts
        self.norms = np.linalg.norm(starts, axis=1)
        self.current = starts / np.where(self.norms > 0, self.norms, 1.0)[:, None]
        self.previous = np.zeros_like(starts)
        self.diagonals = np.empty((len(starts), 0))
        self.offdiagonals = np.empty((len(starts), 0))

    @property
    def n_steps(self) -> int:
        return self.diagonals.shape[1]

    def extend(self, n_steps: int, basis: Floats | None = None) -> None:
        """Take more steps; the vectors of the first run, before each of them, are written to the rows of ``basis``."""
        chain, start = self.chain, self.n_steps
        more = np.zeros((len(self.norms), n_steps))
        self.diagonals, self.offdiagonals = np.hstack([self.diagonals, more]), np.hstack([self.offdiagonals, more])
        nothing = np.empty((0, chain.n_states))
        kept = nothing if basis is None else basis
        runs = (self.current, self.previous, self.diagonals, self.offdiagonals)
        if chain.dynamics.single_flips:

            def extend_rows(rows: slice) -> None:
                current, previous, diagonals, offdiagonals = (part[rows] for part in runs)
                work, first = simd_states.aligned_empty(3, chain.n_states), nothing if rows.start else kept
                _extend_runs(chain.generator, chain.root_law, current, previous, diagonals, offdiagonals, start, first, work)

            threads.for_rows(extend_rows, len(self.norms), self.current.size * n_steps * chain.n_spins)
            return
        for k in range(start, start + n_steps):
            if k - start < len(kept):
                kept[k - start] = self.current[0]
            for image, run in zip(chain.apply_symmetrised_generator(self.current), zip(*runs, strict=True), strict=True):
                _three_term(chain.root_law, image, *run, k)

    def gauss_rules(self) -> GaussRules:
        ends = np.zeros((*self.diagonals.shape, 2))
        ends[:, 0, 0] = ends[:, -1, 1] = 1.0
        gaps, components = tridiagonal_eigenvalues(self.diagonals, self.offdiagonals, ends)
        first, last = components[:, :, 0], components[:, :, 1]
        return GaussRules(gaps, (self.norms[:, None] * first) ** 2, self.offdiagonals[:, -1:] * np.abs(last))

    def ritz_vectors(self, limit: float) -> Floats:
        """Normalised Ritz vectors (j, n_states) of the first run, for Ritz values up to ``limit``.

        Copies of one eigenvalue give one vector.
        """
        values, coefficients = scipy.linalg.eigh_tridiagonal(
            self.diagonals[0], self.offdiagonals[0, :-1], select="v", select_range=(-1.0, limit), check_finite=False
        )
        # Copies of one eigenvalue mix among themselves, but not what all of them together make of the start vector.
        copies = np.flatnonzero(np.diff(values, prepend=-np.inf) > COPY * np.abs(values))
        vectors = self.combinations(np.add.reduceat(coefficients * coefficients[0], copies, axis=1))
        vectors /= np.linalg.norm(vectors, axis=1)[:, None]
        return vectors

    def combinations(self, coefficients: Floats) -> Floats:
        """Combinations (j, n_states) of the vectors of the first run, ``coefficients`` (n_steps, j): the run is done once more.

        Few Lanczos vectors are kept at a time, of large chains one.
        """
        n_kept = max(1, min(KEPT_VECTORS, KEPT_BYTES // (8 * self.chain.n_states)))
        combined = np.zeros((coefficients.shape[1], self.chain.n_states))
        again, basis = LanczosRuns(self.chain, self.starts[:1]), np.empty((n_kept, self.chain.n_states))
        for start in range(0, self.n_steps, n_kept):
            n_steps = min(n_kept, self.n_steps - start)
            again.extend(n_steps, basis)
            combined += coefficients[start : start + n_steps].T @ basis[:n_steps]
        return combined
