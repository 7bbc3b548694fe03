"""The deflated resolvent (I - P)^+ of a reversible chain, behind one function: dense Cholesky, conjugate gradients, state reduction.

Symmetrised: A z = b with A = I - S, b and z orthogonal to sqrt(pi). On that subspace A^+ is the inverse of A + sqrt(pi) sqrt(pi)', the
symmetrised fundamental matrix (Kemeny and Snell 1960, section 4.3) and the group inverse of Meyer (1975).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from thermokernels.common import arguments, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import NotConvergedError, NumericalError, UnresolvedError
from thermokernels.common.results import Result
from thermokernels.common.tolerances import EPSILON
from thermokernels.compiled import simd_states
from thermokernels.model.chain import MAX_DENSE_STATES, GibbsChain, as_chain
from thermokernels.model.rounding import entry_error, product_error
from thermokernels.solvers import conjugate_gradients, entrywise, gap_bounds, layer_functions, mixed_precision, parity_classes, red_black
from thermokernels.solvers.row_sums import RESIDUALS, SOURCES, VECTORS, entries_together, row_sums
from thermokernels.solvers.small import small_cholesky
from thermokernels.solvers.solve import METHODS, SOLVERS
from thermokernels.solvers.state_reduction import reduced_resolvent

# What may be left of a relative residual, divided by gaps, in a response: with the default rtol a proven relative error of 1e-6 in L2(pi).
RESPONSE = 1e4


@dataclass(frozen=True, eq=False)
class Solution:
    """Solutions of A z = b, one a row, with what is known about them.

    Attributes
    ----------
    vectors : (k, n_states), orthogonal to sqrt(pi)
    sums : (k, 6), with the true residuals b - A z, see :mod:`thermokernels.solvers.row_sums`
    relative_residual : float, the largest |b - A z| / |b| over the rows with b != 0; of a reduction the proven
        sqrt(r' A^+ r / b' A^+ b) of all rows together (:mod:`thermokernels.solvers.state_reduction.solution_differences`)
    iterations : int, the largest number of CG iterations of a row; 0 for a factorisation
    method : "cholesky", "cg" or "reduction"
    """

    vectors: Floats
    sums: Floats
    relative_residual: float
    iterations: int
    method: str

    def part(self, rows: slice) -> Solution:
        """Some of the rows, with what is known about all of them."""
        return replace(self, vectors=self.vectors[rows], sums=self.sums[rows])


def solve(chain: GibbsChain, right_hand_sides: Floats, method: str = "auto", rtol: float = tolerances.SOLVE) -> Solution:
    """Solve A z = b for the rows b of ``right_hand_sides`` (k, n_states), each orthogonal to sqrt(pi); raises as :class:`Solver`."""
    return Solver(chain, method, rtol).solve(right_hand_sides)


class Solver:
    """A z = b on one chain, prepared once for any number of right-hand sides.

    Cholesky apart, a row's solution does not depend on the rows beside it, in any bit.

    Attributes
    ----------
    chain : GibbsChain
    method : "cholesky" or "cg"
    rtol : largest accepted relative residual
    many : whether so many rows are to be solved for, one after the other or at once, that they repay a second level of the solver

    Raises
    ------
    NotConvergedError
        A row missed the relative residual ``rtol``: the spectral gap is too small for it in float64.
    NotReversibleError
        The kernel has no symmetrised form.
    ValueError
        Unknown method, or method="cholesky" above 2**13 states.
    """

    def __init__(self, chain: GibbsChain, method: str = "auto", rtol: float = tolerances.SOLVE, many: bool = False) -> None:
        arguments.as_choice(method, SOLVERS, "method")
        self.rtol = arguments.as_positive(rtol, "rtol", "relative residual")
        chain.require_reversible()
        self.chain = chain
        self.many = many
        self._rooms: list[mixed_precision.Room] = []
        self.method = resolved(chain.n_states, method)
        if self.method == "cholesky" and chain.n_states > MAX_DENSE_STATES:
            raise ValueError(
                f"method='cholesky' is dense and limited to {MAX_DENSE_STATES} states; this chain has {chain.n_states}: use method='cg'"
            )

    def relaxed(self, rtol: float) -> Solver:
        """The same solver, with the same tables, for another tolerance."""
        other = copy.copy(self)
        if self.method == "cg" and red_black.applies_to(self.chain):
            other._classes = self._classes
        if self.method == "cg" and mixed_precision.applies_to(self.chain):
            other._mixed = self._mixed
        other.rtol = rtol
        return other

    @property
    def inputs(self) -> dict[str, Any]:
        """All that solutions depend on beside their right-hand sides, by name."""
        chain = self.chain
        masked = {} if chain.model.mask is None else {"mask": chain.model.mask}  # which right-hand sides there are
        levels = {"layers": True} if self._has_layers else {}
        return (
            masked
            | levels
            | {
                "W": chain.weights,
                "b": chain.b,
                "c": chain.c,
                "kernel": chain.kernel,
                "quotient": chain.quotient,
                "method": self.method,
                "rtol": self.rtol,
            }
        )

    @cached_property
    def _classes(self) -> parity_classes.Classes:
        return parity_classes.parity_classes(self.chain)

    @cached_property
    def _mixed(self) -> mixed_precision.Mixed:
        layers = layer_functions.layer_functions(self.chain) if self._has_layers else layer_functions.NO_LAYERS
        return mixed_precision.mixed_classes(self._classes, layers)

    @property
    def _has_layers(self) -> bool:
        iterative = self.many and self.method == "cg" and layer_functions.applies_to(self.chain)
        return iterative and mixed_precision.applies_to(self.chain)

    @cached_property
    def _small_factor(self) -> small_cholesky.Factor:
        return small_cholesky.factor(self.chain)

    @cached_property
    def _factor(self) -> tuple[Floats, bool]:
        chain = self.chain
        matrix = chain.symmetrised_generator_matrix()
        matrix += np.outer(chain.root_law, chain.root_law)
        try:
            factor: tuple[Floats, bool] = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        except scipy.linalg.LinAlgError:
            raise UnresolvedError(
                "A + sqrt(pi) sqrt(pi)' is not positive definite in float64: the spectral gap is below rounding; scale the couplings down"
            ) from None
        return factor

    def solve(self, right_hand_sides: Floats, room: Floats | None = None) -> Solution:
        """Solutions of A z = b for the rows b, with what their true residuals are.

        Where ``room``, contiguous and of the shape of ``right_hand_sides``, is given, solutions may be left there.
        """
        sums = None
        if self.method == "cholesky" and self.chain.dynamics.single_flips and self.chain.n_states <= small_cholesky.DENSE_STATES:
            vectors, iterations = small_cholesky.solve(self._small_factor, self.chain, right_hand_sides), np.zeros(1, dtype=np.int64)
        elif self.method == "cholesky":
            vectors = scipy.linalg.cho_solve(self._factor, right_hand_sides.T, check_finite=False).T
            vectors, iterations = np.ascontiguousarray(_orthogonal(vectors, self.chain.root_law)), np.zeros(1, dtype=np.int64)
        elif mixed_precision.applies_to(self.chain):
            right_hand_sides = np.ascontiguousarray(right_hand_sides)
            vectors = simd_states.aligned_empty(*right_hand_sides.shape) if room is None else room
            block = entries_together(self.chain)
            sums, iterations = mixed_precision.solve(self._mixed, right_hand_sides, self.rtol, block, self._rooms, vectors)
        elif red_black.applies_to(self.chain):
            vectors, iterations = red_black.solve(self._classes, right_hand_sides, self.rtol)
        else:
            vectors, iterations = conjugate_gradients.solve(self.chain, right_hand_sides, red_black.AIM * self.rtol)
        if sums is None:
            sums = row_sums(self.chain, right_hand_sides, vectors)
        sizes, errors = np.sqrt(sums[:, SOURCES]), np.sqrt(sums[:, RESIDUALS])
        relative = float(np.max(np.divide(errors, sizes, out=np.zeros_like(sizes), where=sizes > 0), initial=0.0))
        require_residual(relative, self.rtol, self.method, int(iterations.max(initial=0)))
        return Solution(vectors, sums, relative, int(iterations.max(initial=0)), self.method)


def require_residual(relative: float, rtol: float, method: str, iterations: int) -> None:
    """NotConvergedError for a relative residual that is not at most ``rtol``."""
    if not relative <= rtol:  # also when it is NaN
        raise NotConvergedError(
            f"the resolvent was solved to a relative residual of {relative:.2g}, not {rtol:.2g} ({method}, {iterations} iterations): the "
            "chain is too slow for float64; scale the couplings down, or accept a larger rtol"
        )


def resolved(n_states: int, method: str) -> str:
    """The solver that "auto" stands for on so many states."""
    return method if method != "auto" else "cholesky" if n_states <= small_cholesky.DENSE_STATES else "cg"


def _orthogonal(vectors: Floats, root_law: Floats) -> Floats:
    # einsum sums each row by itself, in one order; a BLAS product would let the number of rows and of threads decide
    along = np.einsum("an,n->a", vectors, root_law)
    rest: Floats = vectors - along[:, None] * root_law
    return rest


@dataclass(frozen=True, eq=False, repr=False)
class Resolvent(Result):
    """(I - P)^+ F with its certificate.

    Attributes
    ----------
    values : the shape of F, in steps
    bound : the same shape: a proven bound on |exact - value| at every state, in steps
    method : "cholesky", "cg" or "reduction"
    """

    _facts = (
        "values",
        "bound",
        "method",
    )

    values: Floats
    bound: Floats
    method: str

    def _columns(self) -> tuple[dict[str, Any], str | list[str]]:
        values = self.values.reshape(len(self.values), -1)
        states, columns = np.indices(values.shape)
        found = {"state": states.ravel(), "column": columns.ravel(), "value": self.values.ravel(), "bound": self.bound.ravel()}
        return found, ["state", "column"]

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.values.shape))
        largest = np.abs(self.values).max(initial=0.0)
        return f"Resolvent({shape} values up to {largest:.3g} steps, bounds up to {self.bound.max(initial=0.0):.1g})"


@default_error_state
def resolvent(chain: GibbsChain, F: ArrayLike, method: str = "auto", rtol: float = tolerances.SOLVE) -> Floats:
    """(I - P)^+ F: the sum over t >= 0 of P^t applied to the centred F.

    Solves (I - P) y = F - E_pi[F] with E_pi[y] = 0, in steps.

    Parameters
    ----------
    F : (n_states,) or (n_states, k)
        Functions on the chain's states; centred here.
    method : "auto", "cholesky", "cg" or "reduction"
        "reduction" is GTH elimination (:mod:`thermokernels.solvers.state_reduction.reduced_resolvent`), for chains that are extremely slow;
        "auto" falls back on it.
    rtol : float
        Largest accepted relative residual in L2(pi), of Cholesky and conjugate gradients.

    Returns
    -------
    y : the shape of F, in steps; the error at every state, however rare, is proven to be at most 10^4 rtol times the larger of |y| there
        and the norm of y in L2(pi). :func:`solve_resolvent` gives the bounds themselves.

    Raises
    ------
    ValueError, NotReversibleError, NotConvergedError
        Bad arguments; no detailed balance; the residual or the proven error is too large (F that hardly sees the slow modes of an almost
        slow chain: rounding then decides how little).
    UnresolvedError
        The law underflows at some state, or state reduction does not prove the error either.

    Examples
    --------
    >>> import thermokernels as tk
    >>> chain = tk.gibbs_chain([[0.0]])
    >>> tk.resolvent(chain, [1.0, -1.0])
    array([ 1., -1.])
    """
    return solve_resolvent(chain, F, method, rtol).values


@default_error_state
def solve_resolvent(chain: GibbsChain, F: ArrayLike, method: str = "auto", rtol: float = tolerances.SOLVE) -> Resolvent:
    """:func:`resolvent` with a proven bound of its error at every state.

    Parameters, raises and source as there; bounds: :mod:`thermokernels.solvers.entrywise`.

    Examples
    --------
    >>> import thermokernels as tk
    >>> found = solve_resolvent(tk.gibbs_chain([[0.0]]), [1.0, -1.0])
    >>> bool(found.bound.max() < 1e-13)
    True
    """
    chain = as_chain(chain)
    arguments.as_choice(method, METHODS, "method")
    rtol = arguments.as_positive(rtol, "rtol", "relative residual")
    values = arguments.as_state_functions(F, chain.n_states)
    columns = values.reshape(chain.n_states, -1)

    def shaped(responses: Floats, bounds: Floats, used: str) -> Resolvent:
        share = entrywise.excess(chain, responses, bounds)
        if not share <= RESPONSE * rtol:
            raise UnresolvedError(
                f"the resolvent is certified to a relative {share:.2g} at some state only, not {RESPONSE * rtol:g}: F hardly sees the slow "
                "modes, or the state is too rare, and rounding decides; scale the couplings down, or accept a larger rtol"
            )
        return Resolvent(responses.reshape(values.shape), bounds.reshape(values.shape), used)

    if method != "reduction":
        try:
            found = entrywise.refined(chain, columns, solved(chain, columns, method, rtol), RESPONSE * rtol)
            return shaped(*found, resolved(chain.n_states, method))
        except NumericalError:
            if method != "auto" or not reduced_resolvent.applies_to(chain):
                raise
    return shaped(*reduced_resolvent.resolvent(chain, columns), "reduction")


def solved(chain: GibbsChain, values: Floats, method: str, rtol: float) -> Floats:
    """The resolvent of functions in L2(pi), without state reduction: refused where float64 leaves too little of it."""
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
    sizes = np.sqrt(solution.sums[:, VECTORS])
    weighted = np.abs(chain.root_law[:, None] * columns)
    largest = np.maximum(weighted.max(axis=0), np.finfo(np.float64).tiny)  # taken out, so that no square overflows
    rounding = (chain.n_spins + 8) * EPSILON * largest * np.linalg.norm(weighted / largest, axis=0)
    rounding += (2 * entry_error(chain) + product_error(chain)) * sizes
    errors = (np.sqrt(solution.sums[:, RESIDUALS]) + rounding) / gap_bounds.gap_lower_bound(chain)
    doubtful = (errors > RESPONSE * rtol * sizes) & (sizes > 0)
    if doubtful.any():
        worst = float((errors[doubtful] / sizes[doubtful]).max())
        raise NotConvergedError(
            f"the resolvent is proven to a relative {worst:.2g} in L2(pi) only, not {RESPONSE * rtol:g}: F hardly sees the slow modes and "
            "rounding decides how little; use method='reduction', scale the couplings down, or accept a larger rtol"
        )
    return np.ascontiguousarray((solution.vectors / chain.root_law).T).reshape(values.shape)
