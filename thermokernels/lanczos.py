"""Lanczos runs with A = I - S from several start vectors, and the Gauss rules that they give.

A run from b (conjugate gradients in another guise) makes A tridiagonal on the Krylov space of b. The eigenvalues of that matrix, the Ritz
values, are the nodes of a Gauss rule for the measure that b sees, |b|^2 times the squared first components of its eigenvectors the
weights, and the last components give the residuals. Nothing is reorthogonalised but sqrt(pi): copies of converged Ritz values
share their weight and do no harm to a sum. (Golub and Meurant, Matrices, Moments and Quadrature, 2010, chapters 4 and 6.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thermokernels._jit import jit
from thermokernels.arguments import Floats
from thermokernels.chain import GibbsChain
from thermokernels.single_site import _apply_to_vector
from thermokernels.vector import LANES, dot, fill, load, multiply, multiply_add, store, total


@dataclass(frozen=True, eq=False)
class GaussRules:
    """One Gauss rule a row: nodes ascending, weights, and the residual norms of the Ritz pairs; all (k, steps)."""

    gaps: Floats
    weights: Floats
    residuals: Floats


@jit
def _extend_run(generator, root_law, current, previous, diagonals, offdiagonals, start, stop):
    """Steps ``start`` to ``stop`` of one Lanczos run with A: q_(k+1) = (A q_k - alpha_k q_k - beta_(k-1) q_(k-1)) / beta_k."""
    image = np.empty_like(current)
    for k in range(start, stop):
        _apply_to_vector(generator, current, image)
        _three_term(root_law, image, current, previous, diagonals, offdiagonals, k)


@jit
def _three_term(root_law, image, current, previous, diagonals, offdiagonals, k):
    """One three-term step from image = A q_k, kept orthogonal to sqrt(pi); writes alpha_k and beta_k."""
    alpha = dot(current, image)
    back = fill(-offdiagonals[k - 1] if k > 0 else 0.0)
    down, along, squares = fill(-alpha), fill(0.0), fill(0.0)
    for i in range(0, image.size, LANES):
        residual = multiply_add(down, load(current, i), multiply_add(back, load(previous, i), load(image, i)))
        along = multiply_add(load(root_law, i), residual, along)
        squares = multiply_add(residual, residual, squares)
        store(image, i, residual)
    component = total(along)
    norm = np.sqrt(max(total(squares) - component * component, 0.0))
    # A run that has used up its invariant subspace goes on as zeros: nodes at gap 1 that carry no weight.
    ended = norm <= 1e-14
    diagonals[k] = 1.0 if dot(current, current) == 0.0 else alpha
    offdiagonals[k] = 0.0 if ended else norm
    scale, remove = fill(0.0 if ended else 1.0 / norm), fill(-component)
    for i in range(0, image.size, LANES):
        store(previous, i, load(current, i))
        store(current, i, multiply(scale, multiply_add(remove, load(root_law, i), load(image, i))))


@jit
def _tridiagonal_eigenpairs(diagonals, offdiagonals, gaps, first, last):
    """Eigenvalues, in no order, and first and last eigenvector components of symmetric tridiagonal matrices, one a row (implicit QL).

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
        gaps[a, :] = d


class LanczosRuns:
    """Lanczos runs from several start vectors (k, n_states), one after the other in cache, that can be extended."""

    def __init__(self, chain: GibbsChain, starts: Floats):
        self.chain = chain
        self.norms = np.linalg.norm(starts, axis=1)
        self.current = np.divide(starts, self.norms[:, None], out=np.zeros_like(starts), where=self.norms[:, None] > 0)
        self.previous = np.zeros_like(starts)
        self.diagonals = np.empty((len(starts), 0))
        self.offdiagonals = np.empty((len(starts), 0))

    @property
    def n_steps(self) -> int:
        return self.diagonals.shape[1]

    def extend(self, n_steps: int) -> None:
        chain, start = self.chain, self.n_steps
        more = np.zeros((len(self.norms), n_steps))
        self.diagonals, self.offdiagonals = np.hstack([self.diagonals, more]), np.hstack([self.offdiagonals, more])
        runs = list(zip(self.current, self.previous, self.diagonals, self.offdiagonals, strict=True))
        if chain.kernel == "single-site":
            for run in runs:
                _extend_run(chain.generator, chain.root_law, *run, start, start + n_steps)
            return
        for k in range(start, start + n_steps):
            for image, run in zip(chain.apply_symmetrised_generator(self.current), runs, strict=True):
                _three_term(chain.root_law, image, *run, k)

    def gauss_rules(self) -> GaussRules:
        gaps, first, last = np.empty_like(self.diagonals), np.empty_like(self.diagonals), np.empty_like(self.diagonals)
        _tridiagonal_eigenpairs(self.diagonals, self.offdiagonals, gaps, first, last)
        order = np.argsort(gaps, axis=1, kind="stable")
        gaps, first, last = (np.take_along_axis(array, order, axis=1) for array in (gaps, first, last))
        return GaussRules(gaps, (self.norms[:, None] * first) ** 2, self.offdiagonals[:, -1:] * np.abs(last))
