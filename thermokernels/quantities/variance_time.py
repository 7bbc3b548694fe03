"""The gradient observables f_ij = dE/dW_ij = -v_i h_j: signal, integrated variance time T_O, and the signal-to-noise ratio Q.

    g_ij = E_data[f_ij] - E_pi[f_ij],   T_O = sum_ij <f~_ij, (I - P)^+ f~_ij>_pi (steps),   Q = (K / 2) |g|^2 / T_O.

T_O is evaluated in the variational form sum_a (2 b_a' z_a - z_a' A z_a), whose error is of second order in the residual.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np

from thermokernels.common import footprint, memory, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import ConstantError, NumericalError, UnresolvedError
from thermokernels.common.tolerances import EPSILON, UNIT
from thermokernels.model import spin_sums
from thermokernels.model.chain import GibbsChain, as_chain, gibbs_chain
from thermokernels.model.exchangeable import ExchangeableChain
from thermokernels.model.kernels.registry import KERNELS
from thermokernels.model.model import Model
from thermokernels.model.rounding import entry_error, law_error, product_error
from thermokernels.quantities import small_models
from thermokernels.quantities.alternating_scan import of_model
from thermokernels.quantities.exchangeable import exchangeable_sums
from thermokernels.quantities.small_models import LOOSEST, SMALLEST_LAW
from thermokernels.solvers import gap_bounds, red_black, spanning_tree_bound
from thermokernels.solvers.checkpoint import Array, Kept, PathLike, RestartFile
from thermokernels.solvers.layer_functions import MANY
from thermokernels.solvers.many_observables import Accumulator, Observables, RowSums
from thermokernels.solvers.observable_tasks import accumulate
from thermokernels.solvers.resolvent import Solution, Solver, require_residual, resolved
from thermokernels.solvers.small import small_chains
from thermokernels.solvers.small.small_chains import Rounding, _error_terms
from thermokernels.solvers.solve import AUTOMATIC, Progress, Solve
from thermokernels.solvers.state_reduction import reduced_resolvent

# On so few states the gap's better bound costs more than the iterations that it saves.
QUICK_STATES = 2**16

# A minimum spanning tree of all flips takes 50 bytes a flip.
SPANNING_STATES = 2**18


@dataclass(frozen=True, eq=False)
class VarianceTime:
    """T_O and what is known of the solves behind it.

    Attributes
    ----------
    chain : GibbsChain
    value : T_O in steps
    residual : largest relative residual of the solves, of a reduction in the norm of A^+; iterations : largest number of CG iterations
    method : of the solves: "cholesky", "cg" or "reduction"; rtol : largest accepted relative residual
    row_sums : what the error bounds need of every observable, or None for a reduction
    reduced : ReducedTime where the method is "reduction", or None
    in_one_call : of a small chain, right-hand sides and solutions as one compiled call leaves them, or None
    """

    chain: GibbsChain
    value: float
    residual: float
    iterations: int
    method: str
    rtol: float
    row_sums: RowSums | None = field(default=None, repr=False)
    reduced: reduced_resolvent.ReducedTime | None = field(default=None, repr=False)
    in_one_call: small_chains.Solved | None = field(default=None, repr=False)
    _kept: tuple[Floats, Floats] | None = field(default=None, repr=False)

    @property
    def right_hand_sides(self) -> Floats:
        """(n_couplings, n_states), the rows b_a = sqrt(pi) f~_a, observables in C order."""
        return self._systems[0]

    @property
    def solutions(self) -> Floats:
        """(n_couplings, n_states), the z_a of A z_a = b_a, orthogonal to sqrt(pi)."""
        return self._systems[1]

    @property
    def responses(self) -> Floats:
        """(n_states, n_couplings), y_a = (I - P)^+ f~_a in steps, in observables' C order."""
        if self.reduced is None:
            return np.ascontiguousarray((self.solutions / self.chain.root_law).T)
        # as pairs with exponents of their own y is right to one rounding; sqrt(pi) in float64 and back again would cost the error of pi
        values = reduced_resolvent.centre(self.reduced.law, self.reduced.responses).to_floats()
        return values if len(values) == self.chain.n_states else np.ascontiguousarray(np.concatenate([values, values[::-1]]))

    @cached_property
    def _systems(self) -> tuple[Floats, Floats]:
        """As they were kept, or else solved for once more, where memory is enough for them."""
        if self._kept is not None:
            return self._kept
        if self.in_one_call is not None:
            sources, vectors, _ = self.in_one_call
            n_rows, n_states = self.chain.weights.size, self.chain.n_states
            return small_chains.as_rows(sources, n_rows, n_states), small_chains.as_rows(vectors, n_rows, n_states)
        chain, observables = self.chain, gradient_observables(self.chain)
        n_bytes = 8 * (footprint.ARRAYS_OF_A_ROW * observables.n_rows + 8) * chain.n_states
        memory.require(n_bytes, f"the solutions for {observables.n_rows} observables on {chain.n_states} states", "use fewer spins")
        right_hand_sides = observables.right_hand_sides(slice(None))
        return right_hand_sides, Solver(chain, self.method, self.rtol, observables.n_rows >= MANY).solve(right_hand_sides).vectors

    @cached_property
    def bound(self) -> float:
        """A bound on |T_O - value| in steps: :meth:`error_terms` with a bound of 1 / gap.

        That of paths to the ground state, which costs next to nothing, where it leaves no more to the residual than to rounding, or else
        that of :func:`thermokernels.solvers.gap_bounds.gap_lower_bound`. State reduction brings a bound of its own.
        """
        if self.reduced is not None:
            return self.reduced.relative_bound * self.value
        if self.chain.dynamics.single_flips:
            from_residuals, from_rounding = self.error_terms(spanning_tree_bound.quick_bound(self.chain))
            if from_residuals <= from_rounding:
                return from_residuals + from_rounding
        return sum(self.error_terms(1 / gap_bounds.gap_lower_bound(self.chain)))

    def error_terms(self, relaxation: float) -> tuple[float, float]:
        """:func:`error_terms` of all observables together, in steps."""
        assert self.row_sums is not None  # state reduction has a bound of its own
        squares, moved = _error_terms(self.row_sums.arrays["sums"], rounding(self.chain, self.row_sums))
        return relaxation * float(squares), float(moved)


def rounding(chain: GibbsChain, row_sums: RowSums) -> Rounding:
    """What rounding can have done to each observable, see :func:`error_terms`."""
    n_rows = len(row_sums.arrays["sums"])
    # three of b, which counts twice; those of a sum over the states, and of the sum over the observables
    of_source = (6 + row_sums.additions + min(n_rows, 8 + n_rows // 8)) * UNIT + law_error(chain)
    of_entries = (2.0 if chain.dynamics.single_flips else 1.0) * entry_error(chain)
    return Rounding(product_error(chain), of_source, (sum(chain.shape) + 8) * EPSILON, of_entries)


def error_terms(chain: GibbsChain, row_sums: RowSums, relaxation: float) -> tuple[Floats, Floats]:
    """What the residual, and what rounding, can be to blame for in the value of each observable, (k,) and (k,) in steps.

    Residual: b'A^+ b - value = r'A^+ r lies between 0 and |r|^2 / gamma, with ``relaxation`` >= 1 / gamma in steps; what rounding adds to
    a product A z is added to |r|.

    Rounding is of first order. b is centred twice, which leaves the error of sqrt(pi), half of pi's, a few roundings of b, and the square
    of the rounding of a mean: all of an observable that hardly varies. The entries of A are right to a relative h, which moves T by
    z' (dA) z <= h (sum_x A_xx z_x^2 + |z|' S |z|) <= 2 h sum_x A_xx z_x^2: all of T where the gap is below h. Block kernels take S from
    one, and z' (dS) z <= h |z|' S |z| <= h |z|^2.
    """
    _, _, residuals, squares, sources, weighted = row_sums.arrays["sums"].T
    sizes = np.sqrt(squares)
    lost = rounding(chain, row_sums)
    errors = np.sqrt(residuals) + lost.product * sizes
    return relaxation * errors**2, (lost.source * np.sqrt(sources) + lost.mean**2) * sizes + lost.entries * weighted


def correlations(chain: GibbsChain, weights: Floats) -> Floats:
    """sum_x weights(x) v_i h_j, shape (n_v, n_h), for weights of shape (n_states,), in float64 or long double."""
    chain.require_both_layers("the mean of v_i h_j")
    if weights.dtype != np.float64:  # long double, which is not compiled
        hidden, visible = chain.block_spins
        return np.ascontiguousarray((hidden.T @ (weights.reshape(chain.shape) @ visible)).T)
    return spin_sums.correlate(weights, chain.n_visible, chain.n_hidden)[0]


def gradient_observables(chain: GibbsChain) -> Observables:
    """All f_ij one by one, in C order, of the couplings that exist."""
    chain.require_both_layers("the products v_i h_j")
    coefficients = np.eye(chain.weights.size)[chain.model.edges].reshape(-1, *chain.weights.shape)
    return Observables.combined(chain, correlations(chain, chain.law), coefficients)


def variance_time(chain: GibbsChain, solve: Solve = AUTOMATIC, accumulators: Sequence[Accumulator] = ()) -> VarianceTime:
    """T_O of a chain with what is known of its error; see :func:`observable_variance_time`.

    ``accumulators`` take in what others of their class have seen of every block of observables, here or in a worker; what they hold is
    of no use where the result is a reduction.
    """
    chain = as_chain(chain)
    chain.require_both_layers("the products v_i h_j")
    if solve.accuracy is None:
        return _variance_time(chain, solve, accumulators)
    time = _variance_time(chain, replace(solve, rtol=solve.stop or sufficient_residual(chain, solve)), accumulators)
    if not _is_certified(time, solve.accuracy):
        raise UnresolvedError(
            f"T_O = {time.value:.3g} steps is certified to a relative {time.bound / time.value:.2g} only, not {solve.accuracy:g}: ask for "
            "less, or leave accuracy out to have what float64 gives"
        )
    return time


def sufficient_residual(chain: GibbsChain, solve: Solve) -> float:
    """The relative residual, at least ``solve.rtol``, that leaves half of ``solve.accuracy`` to what residuals can be to blame for.

    With A = (1 / N) sum_i (1 - Pi_i), Pi_i the projection that resamples spin i, b'A b <= (2 / N) |b|^2 for b of a product of two spins,
    and by Cauchy and Schwarz b'A^+ b >= |b|^4 / b'A b >= (N / 2) |b|^2; of block kernels A <= 2 gives |b|^2 / 2. Hence the error
    |r|^2 / gamma is at most half the accuracy times b'A^+ b where |r|^2 <= (accuracy N / 4) gamma |b|^2.
    """
    assert solve.accuracy is not None
    if not is_iterative(chain, solve):
        return solve.rtol
    single = chain.dynamics.single_flips
    try:
        quick = single and chain.n_states <= QUICK_STATES
        gap = 1 / spanning_tree_bound.quick_bound(chain) if quick else gap_bounds.gap_lower_bound(chain)
    except NumericalError:  # a chain that slow is solved as well as can be
        return solve.rtol
    sufficient = math.sqrt(0.25 * solve.accuracy * gap * (chain.n_spins if single else 1.0))
    # solvers aim below what they accept; to accept all of b would be to solve nothing
    return max(solve.rtol, min(sufficient / red_black.AIM, LOOSEST))


def is_iterative(chain: GibbsChain, solve: Solve) -> bool:
    """Whether the method is conjugate gradients, which may stop early."""
    return solve.method != "reduction" and resolved(chain.n_states, solve.method) == "cg"


def _variance_time(chain: GibbsChain, solve: Solve, accumulators: Sequence[Accumulator]) -> VarianceTime:
    """:func:`variance_time` to a residual of ``solve.rtol``; where an accuracy is asked for, other methods follow until it is met."""
    if solve.method == "reduction":
        return _reduced_variance_time(chain, solve.rtol)
    if solve.method != "auto":
        return _solved_variance_time(chain, solve, accumulators)
    chain.require_reversible()
    failure = "its law underflows" if chain.law.min() < SMALLEST_LAW else ""
    if not failure:
        try:
            in_one_call = is_small(chain, solve) and not accumulators
            time = _small_variance_time(chain, solve) if in_one_call else _solved_variance_time(chain, solve, accumulators)
        except NumericalError as error:
            failure = str(error)
        else:
            if solve.accuracy is not None and (_is_certified(time, solve.accuracy) or not reduced_resolvent.applies_to(chain)):
                return time
            if solve.accuracy is None and any(_has_its_digits(time, relaxation) for relaxation in relaxation_bounds(chain)):
                return time
            failure = f"the spectral gap leaves T_O = {time.value:.3g} steps less than {-math.log10(tolerances.DIGITS):.0f} digits"
    if not reduced_resolvent.applies_to(chain):
        raise UnresolvedError(
            f"T_O is not resolved in float64 ({failure}), and state reduction is limited to {reduced_resolvent.MAX_STATES} states; "
            f"this chain has {chain.n_states}: use a smaller model, or scale the couplings down"
        )
    return _reduced_variance_time(chain, solve.rtol)


class _Rows:
    """Right-hand sides and solutions themselves, one observable a row, as what is added up over observables."""

    def __init__(self, n_rows: int, n_states: int) -> None:
        self.arrays: dict[str, Floats] = {name: np.empty((n_rows, n_states)) for name in ("right_hand_sides", "vectors")}

    @classmethod
    def empty(cls, chain: GibbsChain, n_rows: int) -> Self:
        return cls(n_rows, chain.n_states)

    def add(self, rows: slice, right_hand_sides: Floats, solution: Solution) -> None:
        for name, part in zip(self.arrays, (right_hand_sides, solution.vectors), strict=True):
            self.arrays[name][rows] = part

    def merge(self, rows: slice, arrays: Mapping[str, Floats]) -> None:
        for name, array in arrays.items():
            self.arrays[name][rows] = array


class _KeptRows:
    """What is kept of solves whose rows are wanted: solutions, but nothing that follows from them."""

    def __init__(self, chain: GibbsChain, rows: _Rows, kept: Kept) -> None:
        self._chain, self._rows, self._kept = chain, rows, kept

    def load(self) -> dict[str, Array]:
        arrays = self._kept.load()
        vectors = arrays.pop("vectors", np.empty((0, 0)))
        for start in range(0, len(vectors), footprint.CHUNK_ROWS):  # no more memory than they take anyway
            rows = slice(start, min(start + footprint.CHUNK_ROWS, len(vectors)))
            right_hand_sides = gradient_observables(self._chain).right_hand_sides(rows)
            self._rows.merge(rows, {"right_hand_sides": right_hand_sides, "vectors": vectors[rows]})
        return arrays

    def save(self, arrays: Mapping[str, Array]) -> None:
        sums = {name: array for name, array in arrays.items() if name not in self._rows.arrays}
        self._kept.save(sums | {"vectors": arrays["vectors"][: int(arrays["done"][0])]})


def with_solutions(chain: GibbsChain, solve: Solve = AUTOMATIC) -> VarianceTime:
    """:func:`variance_time` for who goes on with all right-hand sides and solutions: kept in memory, and not solved for once more.

    ``solve.kept`` gets solutions along with the sums.
    """
    chain.require_both_layers("the products v_i h_j")
    if is_small(chain, solve):
        return variance_time(chain, solve)
    n_rows = chain.model.n_couplings
    what = f"right-hand sides and solutions of {n_rows} observables on {chain.n_states} states"
    memory.require(8 * footprint.ARRAYS_OF_A_ROW * n_rows * chain.n_states, what, "use a smaller model")
    rows = _Rows(n_rows, chain.n_states)
    kept = None if solve.kept is None else _KeptRows(chain, rows, solve.kept)
    time = variance_time(chain, replace(solve, kept=kept), (rows,))
    if time.reduced is not None:
        return time
    right_hand_sides, vectors = rows.arrays.values()
    return replace(time, _kept=(right_hand_sides, vectors))


def restored(chain: GibbsChain, sums: Floats, worst: Floats, vectors: Floats | None) -> VarianceTime:
    """T_O of an earlier :func:`with_solutions`, from the arrays of its row sums and, where there are any, its solutions."""
    row_sums = RowSums.of(chain, sums, float(worst[0]), int(worst[1]))
    method = resolved(chain.n_states, AUTOMATIC.method)
    kept = None
    if vectors is not None:
        kept = gradient_observables(chain).right_hand_sides(slice(None)), vectors
    value = float(row_sums.values.sum())
    return VarianceTime(chain, value, row_sums.residual, row_sums.iterations, method, AUTOMATIC.rtol, row_sums, _kept=kept)


def relaxation_bounds(chain: GibbsChain) -> Iterator[float]:
    """Bounds of 1 / gap in steps: one that costs next to nothing, then one that is worth its price.

    That is the spanning tree of lowest passes, which sorts all N n / 2 flips; of block kernels and on large chains two restricted solves.
    """
    if not chain.dynamics.single_flips:
        yield 1 / gap_bounds.gap_lower_bound(chain)
        return
    yield spanning_tree_bound.quick_bound(chain)
    yield spanning_tree_bound.sharp_bound(chain) if chain.n_states <= SPANNING_STATES else 1 / gap_bounds.gap_lower_bound(chain)


def _is_certified(time: VarianceTime, accuracy: float) -> bool:
    """Whether T_O is right to a relative ``accuracy``: by the paths that cost next to nothing, or else by the bound of the value."""
    quick = time.reduced is None and time.chain.dynamics.single_flips
    if quick and sum(time.error_terms(spanning_tree_bound.quick_bound(time.chain))) <= accuracy * time.value:
        return True
    return time.bound <= accuracy * time.value


def _has_its_digits(time: VarianceTime, relaxation: float) -> bool:
    """Whether T_O is right to a relative 1e-10 and, where there is a better method, z to 1e-8, given a bound of 1 / gap in steps.

    The gradient is of first order in the error e of z, whose square is the residual's part of the bound: e' A e = r' A^+ r.
    """
    from_residuals, from_rounding = time.error_terms(relaxation)
    if reduced_resolvent.applies_to(time.chain) and not from_residuals <= tolerances.GRADIENT**2 * time.value:
        return False
    return from_residuals + from_rounding <= tolerances.DIGITS * time.value


def _reduced_variance_time(chain: GibbsChain, rtol: float) -> VarianceTime:
    """T_O by state reduction, with b and z as the other methods solve for them."""
    reduced = reduced_resolvent.variance_time(chain)
    value = float(reduced.total.to_floats())
    if value == np.inf:
        raise UnresolvedError(f"T_O = 10**{float(reduced.total.log()) / math.log(10):.6g} steps exceeds float64; scale the couplings down")
    _require_variance(value)
    right_hand_sides, vectors = reduced_resolvent.symmetrised(chain, reduced)
    if not np.isfinite(vectors).all():
        raise UnresolvedError("the resolvent of the observables exceeds the range of float64; scale the couplings down")
    kept = right_hand_sides, vectors
    return VarianceTime(chain, value, reduced.residual, 0, "reduction", rtol, reduced=reduced, _kept=kept)


def _require_variance(value: float) -> None:
    if not (np.isfinite(value) and value >= np.finfo(np.float64).tiny):
        kind = ConstantError if abs(value) < np.finfo(np.float64).tiny else UnresolvedError
        raise kind(f"T_O came out as {value!r}: no observable v_i h_j varies under pi in float64; scale the couplings down")


def is_small(chain: GibbsChain, solve: Solve) -> bool:
    """Whether one compiled call solves for all observables where there are no accumulators; all solutions are kept then."""
    here = solve.method == "auto" and solve.checkpoint is None  # an executor is not asked for so little
    single = chain.dynamics.single_flips and chain.model.mask is None
    return here and single and small_chains.is_small(chain.n_visible, chain.n_hidden, bool(chain.quotient))


def _small_variance_time(chain: GibbsChain, solve: Solve) -> VarianceTime:
    """T_O of a small chain, with its solutions."""
    # an accuracy that is asked for has become a residual by now
    room, _ = small_models.answer(chain.model, np.empty(0), 0.0, chain.quotient, replace(solve, accuracy=None), chain.tables)
    time = in_room(chain, room, solve)
    require_residual(time.residual, solve.rtol, time.method, time.iterations)
    _require_variance(time.value)
    return time


def in_room(chain: GibbsChain, room: small_models.Room, solve: Solve) -> VarianceTime:
    """T_O of a small chain as the compiled call has left it in ``room``."""
    _, solved = room.first()
    if solve.progress:
        solve.progress(len(solved.sums), len(solved.sums))
    numbers = room.numbers[0].tolist()
    residual, iterations = numbers[5], int(numbers[6])
    row_sums = RowSums.of(chain, solved.sums, residual, iterations)
    method = resolved(chain.n_states, "auto")
    return VarianceTime(chain, numbers[3], residual, iterations, method, numbers[small_models.ACCEPTED], row_sums, in_one_call=solved)


def _solved_variance_time(chain: GibbsChain, solve: Solve, accumulators: Sequence[Accumulator]) -> VarianceTime:
    """T_O from the symmetrised system, by Cholesky or conjugate gradients."""
    observables = gradient_observables(chain)
    solver = Solver(chain, solve.method, solve.rtol, observables.n_rows >= MANY)
    footprint.require_solves(chain.n_visible, chain.n_hidden, not chain.quotient, chain.dynamics.single_flips, bool(accumulators))
    sums = sorted(name for accumulator in accumulators for name in accumulator.arrays)
    saved = solve.kept
    if solve.checkpoint is not None:
        saved = RestartFile(solve.checkpoint, solver.inputs | {"sums": " ".join(sums)})
    row_sums = accumulate(solver, observables, solve, accumulators, saved)
    value = float(row_sums.values.sum())
    _require_variance(value)
    return VarianceTime(chain, value, row_sums.residual, row_sums.iterations, solver.method, solver.rtol, row_sums)


@default_error_state
def observable_variance_time(
    chain: GibbsChain | ExchangeableChain,
    method: str = "auto",
    rtol: float = tolerances.SOLVE,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
    executor: Executor | None = None,
    *,
    accuracy: float | None = None,
) -> float:
    """T_O = sum_ij <f~_ij, (I - P)^+ f~_ij>_pi in steps, over all gradient observables f_ij = -v_i h_j.

    Of the alternating kernel, which is not reversible, by solves on one layer (:func:`thermokernels.alternating_variance_time`, which needs
    no chain on all states); method "auto" or "cg", no checkpoint and no executor.

    Parameters
    ----------
    method : "auto", "cholesky", "cg" or "reduction"
        "reduction" is GTH elimination (:mod:`thermokernels.solvers.state_reduction.reduced_resolvent`), right however slow the chain is.
        "auto" takes Cholesky or conjugate gradients and, where those leave T_O fewer than ten digits, the reduction.
    rtol : largest accepted relative residual of Cholesky and conjugate gradients
    progress : called as progress(done, total) after each chunk of observables that has been solved for, or block of an executor
    checkpoint : path of a file
        Finished blocks are kept in it. A call that was interrupted goes on from it when it is repeated, to the same result in every bit.
        A file of another computation is a ValueError. It stays where it is.
    executor : concurrent.futures.Executor
        Conjugate gradients are then tasks of it, for a few observables each: threads, processes, or the workers of a Dask cluster
        (``client.get_executor()``). A task uses one thread. The result is the same in every bit. Small systems and state reduction
        (method "cholesky" and "reduction") stay in this process.
    accuracy : largest relative error of T_O, below 1, or None
        Conjugate gradients then stop as soon as a proven bound of the error says so, however large the residual still is: the error is of
        second order in it. None solves to ``rtol``, which is as right as float64 makes it.

    Raises
    ------
    NotReversibleError
        The kernel has no detailed balance.
    NotConvergedError, UnresolvedError
        The chain is too slow for float64, and too large for state reduction or beyond it; the accuracy is beyond what can be certified.
    ModelTooLargeError
        One observable at a time does not fit into memory, or method="reduction" and more states than it is made for.
    ExecutorError
        The executor lost a task. What was finished before is in the checkpoint.

    Examples
    --------
    >>> import thermokernels as tk
    >>> round(tk.observable_variance_time(tk.gibbs_chain([[0.0, 0.0]])), 12)  # two products, each with gap 2/3 per step
    3.0
    """
    if isinstance(chain, ExchangeableChain):
        if accuracy is not None:
            raise ValueError("accuracy is for chains that are solved on all states; leave it out for an exchangeable chain")
        return exchangeable_sums.variance_time(chain, rtol).value
    chain, solve = as_chain(chain), Solve(method, rtol, progress, checkpoint, executor, accuracy)
    return of_model(chain.model, solve).value if chain.dynamics.by_layers else variance_time(chain, solve).value


def model_chain(model: Model, quotient: bool | None = None, gradient: bool = False, kernel: str = "single-site") -> GibbsChain:
    """The chain of a model whose T_O is wanted: refused before anything is allocated where that would not fit into memory."""
    full = quotient is False or model.has_fields
    footprint.require_variance_time(model.n_visible, model.n_hidden, full, KERNELS[kernel].single_flips, gradient)
    return gibbs_chain(model, quotient=quotient, kernel=kernel)
