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
from thermokernels.compiled.register_tiles import COLUMNS, PADDED_COLUMNS, ROWS
from thermokernels.compiled.simd_states import DOUBLES, fill, load, multiply, multiply_add, store, total
from thermokernels.model.chain import GibbsChain
from thermokernels.model.kernels.single_site import _apply_in_tiles, _apply_to_vector

# Ritz values closer than this, relatively, are copies of one eigenvalue: runs without reorthogonalisation repeat converged ones.
COPY = 1e-7

# A step this short, beside A, has used up the space of its run.
ENDED = 1e-14

# Lanczos vectors kept at a time when Ritz vectors are put together: no more than these, in no more bytes than these.
KEPT_VECTORS, KEPT_BYTES = 32, 2**26


@dataclass(frozen=True, eq=False)
class GaussRules:
    """One Gauss rule a row: nodes ascending, weights, and the residual norms of the Ritz pairs; all (k, steps).

    A row has ``n_nodes`` (k,) nodes of its run; the others are at gap 1 and carry no weight.
    """

    gaps: Floats
    weights: Floats
    residuals: Floats
    n_nodes: np.ndarray


@jit
def _extend_runs(generator, null, stride, start, basis, norms, current, previous, strays, diagonals, offdiagonals):
    """The steps from ``start`` on of Lanczos runs with A, one a row: beta_k q_(k+1) = A q_k - alpha_k q_k - beta_(k-1) q_(k-1).

    Two passes over the states a step. Vectors are not q_k but multiples u_k of them, since a norm is known only when its vector has been
    written: a step is divided by the length of the one before (:func:`_length`). Their rows are ``stride`` entries apart. After an odd
    number of steps ``current`` and ``previous`` have changed places. The first of the q_k of the first run, as many as ``basis`` has rows,
    are kept.
    """
    n_rows, n_columns = generator.escape.shape
    in_tiles = n_rows >= ROWS and n_columns >= COLUMNS
    tables = (generator.escape.ravel(), generator.visible_rates.ravel(), generator.hidden_rates.ravel())
    image, back = np.empty(0 if in_tiles else n_rows * n_columns), np.empty(ROWS)
    for a in range(current.shape[0]):
        here, before = current[a], previous[a]
        for k in range(start, diagonals.shape[1]):
            size = _length(norms[a], offdiagonals[a], k)
            if a == 0 and k - start < basis.shape[0]:
                _write_unit(here, stride, n_columns if in_tiles else n_rows * n_columns, size, basis[k - start])
            back[:] = _share_of_last(norms[a], offdiagonals[a], k)
            if in_tiles:
                along = _apply_in_tiles(tables, generator, here, stride, back, before, before, stride)
            else:
                _apply_to_vector(generator, here, image)
                along = _take_back(image, back[0], here, before)
            _three_term(null, along, here, before, norms[a], strays[a], diagonals[a], offdiagonals[a], k)
            here, before = before, here


@jit
def _length(norm, offdiagonals, k):
    """|u_k|: beta_(k-1) over the beta before it, which the step was divided by (the first by ``norm``); 0 of a run that has ended."""
    if k == 0:
        return norm
    last = offdiagonals[k - 2] if k > 1 else 1.0
    return offdiagonals[k - 1] / last if last > 0.0 else 0.0


@jit
def _share_of_last(norm, offdiagonals, k):
    """beta_(k-1) |u_k| / |u_(k-1)|: the multiple of u_(k-1) in the recurrence for u_k."""
    last = _length(norm, offdiagonals, k - 1) if k > 0 else 0.0
    return offdiagonals[k - 1] * _length(norm, offdiagonals, k) / last if last > 0.0 else 0.0


@jit
def _write_unit(x, stride, n_columns, size, out):
    """out = x / size without the gaps between rows, of whole vectors of eight; zeros where size is 0."""
    inverse = fill(1.0 / size if size > 0.0 else 0.0)
    for h in range(out.size // n_columns):
        for v in range(0, n_columns, DOUBLES):
            store(out, h * n_columns + v, multiply(inverse, load(x, h * stride + v)))


@jit
def _take_back(image, back, current, previous):
    """previous = image - back * previous; returns current'that."""
    down, sums = fill(-back), fill(0.0)
    for i in range(0, image.size, DOUBLES):
        rest = multiply_add(down, load(previous, i), load(image, i))
        sums = multiply_add(load(current, i), rest, sums)
        store(previous, i, rest)
    return total(sums)


@jit
def _three_term(null, along, current, image, norm, strays, diagonals, offdiagonals, k):
    """image = u_(k+1) from image = A u_k without its u_(k-1), and u_k'image = ``along``; writes alpha_k and beta_k.

    Vectors stay orthogonal to sqrt(pi), which A takes to nothing: what u_k and u_(k-1) have along it, ``strays``, says what u_(k+1) would
    have, which is taken out.
    """
    size, back = _length(norm, offdiagonals, k), _share_of_last(norm, offdiagonals, k)
    # A run that has used up its invariant subspace goes on as zeros: nodes at gap 1 that carry no weight.
    if size == 0.0:
        diagonals[k], offdiagonals[k] = 1.0, 0.0
        image[:] = 0.0
        return
    alpha, scale = along / (size * size), 1.0 / size
    if k > 0:
        scale /= offdiagonals[k - 1]
    scales, down = fill(scale), fill(-scale * alpha)
    astray, squares, left = fill(scale * (alpha * strays[0] + back * strays[1])), fill(0.0), fill(0.0)
    for i in range(0, image.size, DOUBLES):
        across = load(null, i)
        residual = multiply_add(astray, across, multiply_add(down, load(current, i), multiply(scales, load(image, i))))
        squares = multiply_add(residual, residual, squares)
        left = multiply_add(across, residual, left)
        store(image, i, residual)
    strays[0], strays[1] = total(left), strays[0]
    beta = np.sqrt(total(squares)) / (scale * size)
    ended = not beta > ENDED
    if ended:
        image[:] = 0.0
    diagonals[k], offdiagonals[k] = alpha, 0.0 if ended else beta


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


def gauss_rules(norms: Floats, diagonals: Floats, offdiagonals: Floats, n_nodes: np.ndarray) -> GaussRules:
    """The rules of runs (k, n) from vectors of so many ``norms`` (k,), each of the first ``n_nodes`` (k,) of its steps."""
    rows, last_steps = np.arange(len(norms)), n_nodes - 1
    inside = np.arange(diagonals.shape[1]) < n_nodes[:, None]
    ends = np.zeros((*diagonals.shape, 2))
    ends[:, 0, 0] = ends[rows, last_steps, 1] = 1.0
    beyond = offdiagonals[rows, last_steps]
    kept = np.where(np.arange(diagonals.shape[1]) < last_steps[:, None], offdiagonals, 0.0)
    gaps, components = tridiagonal_eigenvalues(np.where(inside, diagonals, 1.0), kept, ends)
    first, last = components[:, :, 0], components[:, :, 1]
    return GaussRules(gaps, (norms[:, None] * first) ** 2, beyond[:, None] * np.abs(last), n_nodes)


def radau_rules(norms: Floats, diagonals: Floats, offdiagonals: Floats) -> GaussRules:
    """The rules of Radau of the same runs: one node more, at gap 0 (Golub and Meurant 2010, section 6.2)."""
    n_rows, n_steps = diagonals.shape
    pivot = diagonals[:, 0]
    for k in range(1, n_steps):
        pivot = diagonals[:, k] - offdiagonals[:, k - 1] ** 2 / pivot
    last = offdiagonals[:, -1:] ** 2 / pivot[:, None]
    more = np.hstack([offdiagonals, np.zeros((n_rows, 1))])
    return gauss_rules(norms, np.hstack([diagonals, last]), more, np.full(n_rows, n_steps + 1))


class LanczosRuns:
    """Lanczos runs from several start vectors (k, n_states), one after the other in cache, that can be extended."""

    def __init__(self, chain: GibbsChain, starts: Floats):
        self.chain = chain
        self.norms = np.linalg.norm(starts, axis=1)
        self.diagonals = np.empty((len(starts), 0))
        self.offdiagonals = np.empty((len(starts), 0))
        n_rows, n_columns = chain.shape
        self._stride = n_columns + (DOUBLES if chain.dynamics.single_flips and n_columns >= PADDED_COLUMNS else 0)
        self._first = starts[:1].copy()
        self._null, self._current = self._spaced(chain.root_law[None])[0], self._spaced(starts)
        self._previous = simd_states.aligned_zeros(len(starts), n_rows * self._stride)
        self._strays = np.zeros((len(starts), 2))

    def _spaced(self, rows: Floats) -> Floats:
        """Vectors (k, n_states) with zeros between the rows of their matrices."""
        n_rows, n_columns = self.chain.shape
        spaced = simd_states.aligned_zeros(len(rows), n_rows * self._stride)
        spaced.reshape(len(rows), n_rows, self._stride)[:, :, :n_columns] = rows.reshape(len(rows), n_rows, n_columns)
        return spaced

    @property
    def n_steps(self) -> int:
        return self.diagonals.shape[1]

    def extend(self, n_steps: int, basis: Floats | None = None) -> None:
        """Take more steps; the vectors of the first run, before each of them, are written to the rows of ``basis``."""
        chain, start, stride = self.chain, self.n_steps, self._stride
        more = np.zeros((len(self.norms), n_steps))
        self.diagonals, self.offdiagonals = np.hstack([self.diagonals, more]), np.hstack([self.offdiagonals, more])
        nothing = np.empty((0, chain.n_states))
        kept = nothing if basis is None else basis
        runs = (self.norms, self._current, self._previous, self._strays, self.diagonals, self.offdiagonals)
        if chain.dynamics.single_flips:

            def extend_rows(rows: slice) -> None:
                first = nothing if rows.start else kept
                _extend_runs(chain.generator, self._null, stride, start, first, *(part[rows] for part in runs))

            threads.for_rows(extend_rows, len(self.norms), chain.n_states * len(self.norms) * n_steps * chain.n_spins)
            if n_steps % 2:
                self._current, self._previous = self._previous, self._current
            return
        for k in range(start, start + n_steps):
            current, previous = self._current, self._previous
            if k - start < len(kept):
                _write_unit(current[0], stride, stride, _length(self.norms[0], self.offdiagonals[0], k), kept[k - start])
            for a, image in enumerate(chain.apply_symmetrised_generator(current)):
                run = self.norms[a], self._strays[a], self.diagonals[a], self.offdiagonals[a], k
                along = _take_back(image, _share_of_last(run[0], run[3], k), current[a], previous[a])
                _three_term(self._null, along, current[a], previous[a], *run)
            self._current, self._previous = previous, current

    def gauss_rules(self) -> GaussRules:
        return gauss_rules(self.norms, self.diagonals, self.offdiagonals, np.full(len(self.norms), self.n_steps))

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
        again, basis = LanczosRuns(self.chain, self._first), np.empty((n_kept, self.chain.n_states))
        for start in range(0, self.n_steps, n_kept):
            n_steps = min(n_kept, self.n_steps - start)
            again.extend(n_steps, basis)
            combined += coefficients[start : start + n_steps].T @ basis[:n_steps]
        return combined
