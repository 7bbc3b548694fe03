"""The spectral gap by state reduction: relative accuracy, however slow the slowest mode is.

The elimination of every state but the ground state x0 (:mod:`thermokernels.solvers.state_reduction.gth_elimination`) is the Cholesky
factorisation L L' of A off x0, and X = L^-1 has no negative entry: with h_jk the probability that j meets the states not yet eliminated
before k first at k,

    X_kj = sqrt(pi_j / (pi_k s_k)) h_jk,     A^+ = Pi X' X Pi,     Pi = I - sqrt(pi) sqrt(pi)',     1 / gap = |X Pi|_2^2,

since A^+ b differs from the solution that vanishes at x0 by a multiple of sqrt(pi). A small gap is a large norm, which float64 gets right
relatively: eigenvalues of K = (X Pi) (X Pi)' move by no more than |dK| (Weyl; Golub and Van Loan, Matrix Computations, 4th ed.,
theorem 8.1.5), and |dX|_2 <= delta |X|_F where every entry of X is right to a relative delta. What is lost is |X|_F^2 gap, at most about
(number of slow modes) / pi(x0).
"""

from __future__ import annotations

import numpy as np
import scipy

from thermokernels.common import memory
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import ModelTooLargeError, UnresolvedError
from thermokernels.common.tolerances import UNIT
from thermokernels.compiled import wide_exponent
from thermokernels.compiled.wide_exponent import Wide
from thermokernels.model import extended
from thermokernels.model.chain import GibbsChain
from thermokernels.model.extended import LONG_UNIT, Long
from thermokernels.model.rounding import law_error
from thermokernels.solvers.state_reduction.gth_elimination import MAX_EXTENDED_STATES, eliminate
from thermokernels.solvers.state_reduction.reduced_resolvent import ground_state, law

# All eigenvalues of a dense matrix are taken.
MAX_GAP_STATES = 2**11


def applies_to(chain: GibbsChain) -> bool:
    """Whether the chain is of a kernel and size that its gap can be had for by state reduction."""
    return chain.dynamics.state_reduction and chain.n_states <= MAX_GAP_STATES


def eigenvalue_error(matrix: Floats, eigenvalues: Floats, vectors: Floats) -> float:
    """A bound on |exact - computed| for each eigenvalue of a symmetric matrix (n, n), both in ascending order.

    With U the orthogonal matrix next to Q and L = diag(eigenvalues), |Q - U| <= |Q'Q - I| and

        |M - U L U'| <= |M Q - Q L| + (|M| + |L|) |Q'Q - I|,

    which moves no eigenvalue by more (Weyl). The residuals are computed to n + 2 roundings of the sums of their absolute terms.
    """
    n = len(eigenvalues)
    rounding = (n + 2) * UNIT
    residual = np.linalg.norm(matrix @ vectors - vectors * eigenvalues)
    residual += rounding * (np.linalg.norm(np.abs(matrix) @ np.abs(vectors)) + np.linalg.norm(eigenvalues))
    sizes = np.abs(vectors)
    defect = np.linalg.norm(vectors.T @ vectors - np.eye(n)) + rounding * np.linalg.norm(sizes.T @ sizes)
    return float((residual + (np.linalg.norm(matrix) + np.abs(eigenvalues).max()) * defect) * (1 + n * UNIT))


def reduced_gap(chain: GibbsChain) -> tuple[float, float]:
    """The gap per step and a proven bound of its relative error.

    Raises
    ------
    ModelTooLargeError
        More than 2**11 states.
    UnresolvedError
        The gap is below the range of float64, or no digit of it is certain.
    """
    if chain.n_states > MAX_GAP_STATES:
        raise ModelTooLargeError(
            f"the gap by state reduction takes all eigenvalues of a dense matrix and is limited to {MAX_GAP_STATES} states; this chain has "
            f"{chain.n_states}: use a smaller model, or scale the couplings down"
        )
    memory.require(80 * chain.n_states**2, f"the gap of {chain.n_states} states", "use a smaller model")
    projected, lost, scale = _projected(chain)
    n = chain.n_states
    matrix = projected @ projected.T
    eigenvalues, vectors = scipy.linalg.eigh(matrix, check_finite=False)
    largest, length = float(eigenvalues[-1]), float(np.linalg.norm(projected))
    uncertainty = 2 * length * lost + lost**2 + n * UNIT * length**2 + eigenvalue_error(matrix, eigenvalues, vectors)
    if not uncertainty < largest:
        raise UnresolvedError("no digit of the spectral gap is certain: the energies leave none of the rates; scale the couplings down")
    gap = wide_exponent.quotient(wide_exponent.from_floats(np.array(1.0 / largest)), wide_exponent.product(scale, scale))
    value = float(gap.to_floats())
    if value < np.finfo(np.float64).tiny:
        raise UnresolvedError(
            f"the spectral gap of 10**{float(gap.log()) / np.log(10):.6g} per step is below the range of float64; scale the couplings down"
        )
    return value, uncertainty / (largest - uncertainty) + 8 * UNIT


def reduced_modes(chain: GibbsChain) -> tuple[Floats, Floats, Floats]:
    """All modes but sqrt(pi): gaps per step, ascending, their eigenvectors (n_states - 1, n_states), and the relative error of each gap.

    Singular values of X Pi are 1 / sqrt(gap), its right singular vectors the eigenvectors of A. Singular values move by no more than the
    norm of the error of X Pi (Weyl), so that slow modes are right to the share that X is.

    Raises
    ------
    ModelTooLargeError, UnresolvedError
        As :func:`reduced_gap`.
    """
    if chain.n_states > MAX_GAP_STATES:
        raise ModelTooLargeError(f"modes by state reduction are limited to {MAX_GAP_STATES} states; this chain has {chain.n_states}")
    memory.require(80 * chain.n_states**2, f"the modes of {chain.n_states} states", "use a smaller model")
    projected, lost, scale = _projected(chain)
    left, lengths, right = scipy.linalg.svd(projected, full_matrices=False, check_finite=False)
    n = chain.n_states
    lost += float(np.linalg.norm(projected - (left * lengths) @ right)) + 4 * n * UNIT * float(np.linalg.norm(projected))
    for vectors in (left.T, right):
        lost += float(lengths[0] * np.linalg.norm(vectors @ vectors.T - np.eye(len(vectors))))
    with np.errstate(over="ignore", divide="ignore"):
        squares = wide_exponent.product(wide_exponent.from_floats(lengths), scale)
        gaps = wide_exponent.quotient(wide_exponent.from_floats(np.ones(lengths.size)), wide_exponent.product(squares, squares)).to_floats()
    if not gaps[0] >= np.finfo(np.float64).tiny:
        raise UnresolvedError("the spectral gap is below the range of float64; scale the couplings down")
    shares = np.divide(lost, lengths - lost, out=np.full_like(lengths, np.inf), where=lengths > lost)
    return gaps, right, 2 * shares + shares**2 + 8 * UNIT


def _projected(chain: GibbsChain) -> tuple[Floats, float, Wide]:
    """X Pi / scale, the norm of its error, and scale."""
    inverse, error, scale = _inverse_factor(chain)
    root_law = wide_exponent.root(law(chain)).to_floats()
    projected = inverse - np.outer(inverse @ root_law, root_law)
    # sqrt(pi) is right to law_error / 2 + u; the projection rounds n + 2 times
    return projected, (error + 2 * law_error(chain) + 2 * (chain.n_states + 6) * UNIT) * float(np.linalg.norm(inverse)), scale


def _inverse_factor(chain: GibbsChain) -> tuple[Floats, float, Wide]:
    """X / scale as float64 (M, n_states), the relative error of each entry of X, and scale, the largest entry 1 / sqrt(s_k).

    Entries that underflow are below 1e-300 of the norm. X is solved for by substitution with one sign throughout, which costs at most
    M^2 + 8 M roundings (Higham, Accuracy and Stability, 2nd ed., corollary 8.10) beside the error of the elimination, its pivots and pi;
    in long double, where small chains are eliminated in it, M^2 of its own and eight of what follows.
    """
    elimination = eliminate(chain, ground_state(chain))
    states, m = elimination.states, elimination.states.size
    roots = wide_exponent.root(law(chain)).take(states)
    column, row = roots.take((slice(None), None)), roots.take((None, slice(None)))
    rates = elimination.rates.take((slice(None), slice(m)))
    if m < MAX_EXTENDED_STATES and extended.applies_to(chain):
        paths = wide_exponent.from_long_doubles(_paths(rates))
        unit = wide_exponent.quotient(wide_exponent.product(column, paths), row).to_floats()
        rounding = m * m * LONG_UNIT + 8 * UNIT
    else:
        factor = np.eye(m) - np.tril(wide_exponent.quotient(wide_exponent.product(column, rates), row).to_floats(), -1)
        unit = scipy.linalg.solve_triangular(factor, np.eye(m), lower=True, unit_diagonal=True, overwrite_b=True, check_finite=False)
        rounding = (m * m + 8 * m + 8) * UNIT
    lengths = wide_exponent.quotient(wide_exponent.from_floats(np.ones(m)), wide_exponent.root(elimination.pivots))
    scale = lengths.take(int(lengths.log().argmax()))
    inverse = np.zeros((m, chain.n_states))
    inverse[:, states] = wide_exponent.quotient(lengths, scale).to_floats()[:, None] * unit
    return inverse, elimination.of_paths + law_error(chain) + rounding, scale


def _paths(rates: Wide) -> Long:
    """(1 - L)^-1 in long double for the shares L below the diagonal of ``rates`` (M, M): their products along paths, added up."""
    shares = np.ldexp(rates.mantissa.astype(np.longdouble), (wide_exponent.DIGIT * rates.exponent).astype(np.intc))
    paths: Long = np.eye(len(shares), dtype=np.longdouble)
    for k in range(len(shares)):
        paths[k + 1 :, : k + 1] += shares[k + 1 :, k, None] * paths[k, : k + 1]
    return paths
