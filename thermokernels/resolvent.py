"""The deflated resolvent (I - P)^+ of a reversible chain, behind one function: dense Cholesky, conjugate gradients, state reduction.

Symmetrised: A z = b with A = I - S, b and z orthogonal to sqrt(pi). On that subspace A^+ is the inverse of A + sqrt(pi) sqrt(pi)', the
symmetrised fundamental matrix (Kemeny and Snell 1960, section 4.3) and the group inverse of Meyer (1975).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from thermokernels import arguments, passage, reduced, reduction, tolerances
from thermokernels.arguments import Floats
from thermokernels.chain import MAX_DENSE_STATES, GibbsChain
from thermokernels.elimination import input_error
from thermokernels.errors import NotConvergedError, NumericalError, UnresolvedError

SOLVERS = ("auto", "cholesky", "cg")
METHODS = (*SOLVERS, "reduction")

EPSILON = float(np.finfo(np.float64).eps)

# What may be left of a relative residual, divided by gaps, in a response: with the default rtol a proven relative error of 1e-6 in L2(pi).
RESPONSE = 1e4

# Below this a factorisation costs less than the first iterations.
CHOLESKY_STATES = 256


@dataclass(frozen=True, eq=False)
class Solution:
    """Solutions of A z = b, one a row, with what is known about them.

    Attributes
    ----------
    vectors : (k, n_states), orthogonal to sqrt(pi)
    residuals : (k, n_states), the true residuals b - A z
    relative_residual : float, the largest |b - A z| / |b| over the rows with b != 0; of a reduction, whose residual is all rounding, the
        proven relative error of its solutions for sources of one sign
    iterations : int, the largest number of CG iterations of a row; 0 for a factorisation
    method : "cholesky", "cg" or "reduction"
    """

    vectors: Floats
    residuals: Floats
    relative_residual: float
    iterations: int
    method: str


def solve(chain: GibbsChain, right_hand_sides: Floats, method: str = "auto", rtol: float = tolerances.SOLVE) -> Solution:
    """Solve A z = b for the rows b of ``right_hand_sides`` (k, n_states), each orthogonal to sqrt(pi).

    Raises
    ------
    NotConvergedError
        A row missed the relative residual ``rtol``: the spectral gap is too small for it in float64.
    NotReversibleError
        The kernel has no symmetrised form.
    ValueError
        Unknown method, or method="cholesky" above 2**13 states.
    """
    arguments.as_choice(method, SOLVERS, "method")
    rtol = arguments.as_positive(rtol, "rtol", "relative residual")
    chain.require_reversible()
    if method == "auto":
        method = "cholesky" if chain.n_states <= CHOLESKY_STATES else "cg"
    if method == "cholesky":
        vectors, iterations = _cholesky(chain, right_hand_sides), np.zeros(1, dtype=np.int64)
    elif reduced.applies_to(chain):
        vectors, iterations = reduced.solve(reduced.parity_classes(chain), right_hand_sides, rtol)
    else:
        vectors, iterations = _conjugate_gradients(chain, right_hand_sides, rtol)
    residuals = right_hand_sides - chain.apply_symmetrised_generator(vectors)
    sizes = np.linalg.norm(right_hand_sides, axis=1)
    errors = np.linalg.norm(residuals, axis=1)
    relative = float(np.max(np.divide(errors, sizes, out=np.zeros_like(sizes), where=sizes > 0), initial=0.0))
    if not relative <= rtol:  # also when it is NaN
        raise NotConvergedError(
            f"the resolvent was solved to a relative residual of {relative:.2g}, not {rtol:.2g} "
            f"({method}, {int(iterations.max())} iterations): the chain is too close to frozen for float64; "
            "scale the couplings down, or accept a larger rtol"
        )
    return Solution(vectors, residuals, relative, int(iterations.max()), method)


def _cholesky(chain: GibbsChain, right_hand_sides: Floats) -> Floats:
    if chain.n_states > MAX_DENSE_STATES:
        raise ValueError(
            f"method='cholesky' is dense and limited to {MAX_DENSE_STATES} states; this chain has {chain.n_states}: use method='cg'"
        )
    matrix = chain.apply_symmetrised_generator(np.eye(chain.n_states))
    matrix += np.outer(chain.root_law, chain.root_law)
    try:
        factor = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    except scipy.linalg.LinAlgError:
        raise UnresolvedError(
            "A + sqrt(pi) sqrt(pi)' is not positive definite in float64: the spectral gap is below rounding; scale the couplings down"
        ) from None
    vectors = scipy.linalg.cho_solve(factor, right_hand_sides.T, check_finite=False).T
    return np.ascontiguousarray(_orthogonal(vectors, chain.root_law))


def _orthogonal(vectors: Floats, root_law: Floats) -> Floats:
    return vectors - np.outer(vectors @ root_law, root_law)


def _conjugate_gradients(chain: GibbsChain, right_hand_sides: Floats, rtol: float) -> tuple[Floats, np.ndarray]:
    """Plain CG on A, all rows side by side with coefficients of their own: for the chains that parity does not halve."""
    root_law = chain.root_law
    vectors = np.zeros_like(right_hand_sides)
    residuals = _orthogonal(right_hand_sides, root_law)
    steps = residuals.copy()
    targets = reduced.AIM * rtol * np.linalg.norm(right_hand_sides, axis=1)
    squares = np.einsum("an,an->a", residuals, residuals)
    iterations = np.zeros(len(vectors), dtype=np.int64)
    for iteration in range(reduced.MAX_ITERATIONS):
        floors = np.maximum(targets, reduced.FLOOR * np.linalg.norm(vectors, axis=1))
        active = np.flatnonzero(np.sqrt(squares) > floors)
        if active.size == 0:
            break
        iterations[active] = iteration + 1
        images = chain.apply_symmetrised_generator(np.ascontiguousarray(steps[active]))
        lengths = squares[active] / np.einsum("an,an->a", steps[active], images)
        vectors[active] += lengths[:, None] * steps[active]
        residuals[active] = _orthogonal(residuals[active] - lengths[:, None] * images, root_law)
        updated = np.einsum("an,an->a", residuals[active], residuals[active])
        steps[active] = residuals[active] + (updated / squares[active])[:, None] * steps[active]
        squares[active] = updated
    return _orthogonal(vectors, root_law), iterations


def resolvent(chain: GibbsChain, F: ArrayLike, method: str = "auto", rtol: float = tolerances.SOLVE) -> Floats:
    """(I - P)^+ F: the sum over t >= 0 of P^t applied to the centred F.

    Solves (I - P) y = F - E_pi[F] with E_pi[y] = 0, in steps.

    Parameters
    ----------
    F : (n_states,) or (n_states, k)
        Functions on the chain's states; centred here.
    method : "auto", "cholesky", "cg" or "reduction"
        "reduction" is GTH elimination (:mod:`thermokernels.reduction`), for chains that are almost frozen; "auto" falls back on it.
    rtol : float
        Largest accepted relative residual in L2(pi), of Cholesky and conjugate gradients.

    Returns
    -------
    y : the shape of F, in steps; its relative error in L2(pi) is proven to be at most 10^4 rtol, so values at states of tiny probability
        are less certain.

    Raises
    ------
    ValueError, NotReversibleError, NotConvergedError
        Bad arguments; no detailed balance; the residual or the proven error is too large (F that hardly sees the slow modes of an almost
        frozen chain: rounding then decides how little).
    UnresolvedError
        The law underflows at some state, or state reduction does not prove the error either.

    Examples
    --------
    >>> import thermokernels as tk
    >>> chain = tk.gibbs_chain([[0.0]])
    >>> tk.resolvent(chain, [1.0, -1.0])
    array([ 1., -1.])
    """
    arguments.as_choice(method, METHODS, "method")
    values = arguments.as_state_functions(F, chain.n_states)
    if method == "reduction":
        return _reduced(chain, values, rtol)
    try:
        return _solved(chain, values, method, rtol)
    except NumericalError:
        if method != "auto" or not reduction.applies_to(chain):
            raise
    return _reduced(chain, values, rtol)


def _reduced(chain: GibbsChain, values: Floats, rtol: float) -> Floats:
    responses, error = reduction.resolvent(chain, values.reshape(chain.n_states, -1))
    if not error <= RESPONSE * rtol:
        raise UnresolvedError(
            f"the resolvent is certified to a relative {error:.2g} in L2(pi) only, not {RESPONSE * rtol:g}: F hardly sees the slow "
            "modes and rounding decides how little; scale the couplings down"
        )
    return responses.reshape(values.shape)


def _solved(chain: GibbsChain, values: Floats, method: str, rtol: float) -> Floats:
    if chain.root_law.min() == 0.0:
        raise UnresolvedError("the law underflows in float64 at some state, so the resolvent has no value there; scale the couplings down")
    columns = values.reshape(chain.n_states, -1)
    centred = columns - chain.law @ columns
    # The mean carries up to N roundings of the largest value: a function that is constant to that accuracy has no response, and of any
    # other one the rest of the mean is taken out, since no solution could reproduce it.
    centred[:, np.abs(centred).max(axis=0) <= 4 * chain.n_spins * EPSILON * np.abs(columns).max(axis=0)] = 0.0
    sources = _orthogonal((chain.root_law[:, None] * centred).T, chain.root_law)
    solution = solve(chain, np.ascontiguousarray(sources), method, rtol)
    # |error of z| <= (|r| + |rounding of b and A|) / gap: a small residual says nothing where F hardly sees the slow modes.
    sizes = np.linalg.norm(solution.vectors, axis=1)
    weighted = np.abs(chain.root_law[:, None] * columns)
    largest = np.maximum(weighted.max(axis=0), np.finfo(np.float64).tiny)  # taken out, so that no square overflows
    rounding = (chain.n_spins + 8) * EPSILON * largest * np.linalg.norm(weighted / largest, axis=0)
    rounding += 2 * (input_error(chain) + chain.n_spins * EPSILON) * sizes
    errors = (np.linalg.norm(solution.residuals, axis=1) + rounding) / passage.gap_lower_bound(chain)
    doubtful = (errors > RESPONSE * rtol * sizes) & (sizes > 0)
    if doubtful.any():
        worst = float((errors[doubtful] / sizes[doubtful]).max())
        raise NotConvergedError(
            f"the resolvent is proven to a relative {worst:.2g} in L2(pi) only, not {RESPONSE * rtol:g}: F hardly sees the slow modes and "
            "rounding decides how little; use method='reduction', scale the couplings down, or accept a larger rtol"
        )
    return np.ascontiguousarray((solution.vectors / chain.root_law).T).reshape(values.shape)
