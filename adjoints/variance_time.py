"""Gradients of T_O, of the signal |g|^2 and of Q with respect to the couplings and fields, from the forward solutions alone.

The adjoint of a self-adjoint solve is free: the adjoint variable of z_a is z_a itself, so no second system is solved.
Cotangents are named ``ct_<variable>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Literal, Self, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from adjoints import alternating_scan, reduced_resolvent
from adjoints.cotangents import Cotangents, KernelOptions
from thermokernels.common import arguments, threads, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.register_tiles import ROWS
from thermokernels.compiled.simd_float64 import DOUBLES, add, fill, load, multiply_add, reverse, store, swap1, swap2, swap4, total
from thermokernels.model.chain import GibbsChain
from thermokernels.model.kernels.registry import as_kernel
from thermokernels.model.model import Model, ModelLike, as_model
from thermokernels.quantities.alternating_scan import of_model
from thermokernels.quantities.variance_time import VarianceTime, correlations, model_chain, variance_time
from thermokernels.solvers.checkpoint import PathLike
from thermokernels.solvers.resolvent import Solution
from thermokernels.solvers.solve import Progress, Solve
from thermokernels.solvers.state_reduction.reduced_resolvent import ReducedTime

# Columns of a vector that are copied out together: 512 bytes of every row.
PACKED_COLUMNS = 64

# Sums that stay in the first-level cache while all rows are added to them.
CACHED_SUMS = 2**10

# Every sum below is over the vectors in their order, whichever rows or columns a task takes: the same bits for every number of threads.


@jit
def _pair_overlaps(x, first, last, n_flips, sums):
    """sums[j] = sum_k x[k] x[k ^ 2^j], j < n_flips, over the vectors of eight in x[first:last]; a pair is met once and counts twice.

    Two flips at a time: four vectors that both lead to each other are four loads for four products.
    """
    for j in range(0, n_flips - 1, 2):
        near, far = DOUBLES << j, DOUBLES << (j + 1)
        sum0, sum1, sum2, sum3 = fill(0.0), fill(0.0), fill(0.0), fill(0.0)
        for start in range(first, last, 2 * far):
            for k in range(start, start + near, DOUBLES):
                x0, x1, x2, x3 = load(x, k), load(x, k + near), load(x, k + far), load(x, k + far + near)
                sum0, sum1 = multiply_add(x0, x1, sum0), multiply_add(x2, x3, sum1)
                sum2, sum3 = multiply_add(x0, x2, sum2), multiply_add(x1, x3, sum3)
        sum0, sum2 = add(sum0, sum1), add(sum2, sum3)
        store(sums, j * DOUBLES, add(sum0, sum0))
        store(sums, (j + 1) * DOUBLES, add(sum2, sum2))
    if n_flips % 2:
        far, sum0 = DOUBLES << (n_flips - 1), fill(0.0)
        for start in range(first, last, 2 * far):
            for k in range(start, start + far, DOUBLES):
                sum0 = multiply_add(load(x, k), load(x, k + far), sum0)
        store(sums, (n_flips - 1) * DOUBLES, add(sum0, sum0))


@jit
def _visible_overlaps(vectors, shape, first, last, ct_visible_rates, squares):
    """ct[i, h] += sum_a sum_v z_a[h, v] z_a[h, v ^ 2^i] and squares += sum_a z_a^2 for the rows ``first`` to ``last``."""
    n_rows, n_columns = shape
    n_far = ct_visible_rates.size // n_rows - 3  # flips that lead to another vector of eight
    sums = np.empty(max(n_far, 1) * DOUBLES)
    for a in range(vectors.shape[0]):
        z = vectors[a]
        for h in range(first, last):
            start, stop = h * n_columns, (h + 1) * n_columns
            sum0, sum1, sum2 = fill(0.0), fill(0.0), fill(0.0)
            for k in range(start, stop, DOUBLES):
                here = load(z, k)
                sum0 = multiply_add(here, swap1(here), sum0)
                sum1 = multiply_add(here, swap2(here), sum1)
                sum2 = multiply_add(here, swap4(here), sum2)
                store(squares, k, multiply_add(here, here, load(squares, k)))
            ct_visible_rates[h] += total(sum0)
            ct_visible_rates[n_rows + h] += total(sum1)
            ct_visible_rates[2 * n_rows + h] += total(sum2)
            _pair_overlaps(z, start, stop, n_far, sums)
            for i in range(n_far):
                ct_visible_rates[(i + 3) * n_rows + h] += total(load(sums, i * DOUBLES))


@jit
def _hidden_overlaps(vectors, shape, quotient, first, last, ct_hidden_rates):
    """ct[j, v] += sum_a sum_h z_a[h, v] z_a[h ^ 2^j, v] for the columns ``first`` to ``last``.

    Columns are copied out, eight beside each other: in z their rows lie so far apart that they fall on the same lines of the cache.
    """
    n_rows, n_columns = shape
    n_row_flips = ct_hidden_rates.size // n_columns - (1 if quotient else 0)
    packed, n_entries, sums = np.empty(n_rows * min(PACKED_COLUMNS, last - first)), n_rows * DOUBLES, np.empty(n_row_flips * DOUBLES)
    for a in range(vectors.shape[0]):
        z = vectors[a]
        for start in range(first, last, PACKED_COLUMNS):
            n_vectors = min(PACKED_COLUMNS, last - start) // DOUBLES
            for h in range(n_rows):
                for part in range(n_vectors):
                    store(packed, part * n_entries + h * DOUBLES, load(z, h * n_columns + start + part * DOUBLES))
            for part in range(n_vectors):
                _pair_overlaps(packed, part * n_entries, (part + 1) * n_entries, n_row_flips, sums)
                for j in range(n_row_flips):
                    k = j * n_columns + start + part * DOUBLES
                    store(ct_hidden_rates, k, add(load(ct_hidden_rates, k), load(sums, j * DOUBLES)))
        if quotient:
            _overlaps_across(z, shape, first, last, ct_hidden_rates[n_row_flips * n_columns :])


@jit
def _overlaps_across(z, shape, first, last, ct_last_rate):
    """ct[v] += sum_h z[h, v] z[H - 1 - h, V - 1 - v] for the columns ``first`` to ``last``."""
    n_rows, n_columns = shape
    for h in range(n_rows):
        for v in range(first, last, DOUBLES):
            across = reverse(load(z, (n_rows - h) * n_columns - DOUBLES - v))
            store(ct_last_rate, v, multiply_add(load(z, h * n_columns + v), across, load(ct_last_rate, v)))


@jit
def _narrow_overlaps(vectors, shape, quotient, ct_visible_rates, ct_hidden_rates, squares):
    """The plain form of both, entry by entry: for fewer than eight columns or four rows."""
    n_rows, n_columns = shape
    n_row_flips = ct_hidden_rates.size // n_columns - (1 if quotient else 0)
    for a in range(vectors.shape[0]):
        z = vectors[a]
        for h in range(n_rows):
            for v in range(n_columns):
                here = z[h * n_columns + v]
                squares[h * n_columns + v] += here * here
                for i in range(ct_visible_rates.size // n_rows):
                    ct_visible_rates[i * n_rows + h] += here * z[h * n_columns + (v ^ (1 << i))]
                for j in range(n_row_flips):
                    ct_hidden_rates[j * n_columns + v] += here * z[(h ^ (1 << j)) * n_columns + v]
                if quotient:
                    ct_hidden_rates[n_row_flips * n_columns + v] += here * z[z.size - 1 - h * n_columns - v]


@jit
def _flip_overlaps(vectors, quotient, ct_visible_rates, ct_hidden_rates, squares):
    """Add to the outputs the derivatives of sum_a z_a' S z_a by the tables of S, and sum_a z_a^2; vectors are (k, H, V)."""
    shape = squares.shape
    flat = vectors.reshape((vectors.shape[0], shape[0] * shape[1]))
    ct_visible, ct_hidden = ct_visible_rates.ravel(), ct_hidden_rates.ravel()
    if shape[0] < ROWS or shape[1] < DOUBLES:
        _narrow_overlaps(flat, shape, quotient, ct_visible, ct_hidden, squares.ravel())
    else:
        _visible_overlaps(flat, shape, 0, shape[0], ct_visible, squares.ravel())
        _hidden_overlaps(flat, shape, quotient, 0, shape[1], ct_hidden)


def flip_overlaps(vectors: Floats, quotient: bool, ct_visible_rates: Floats, ct_hidden_rates: Floats, squares: Floats) -> None:
    """:func:`_flip_overlaps` on threads: the outputs are dealt out by rows and by columns."""
    shape = (n_rows, n_columns) = squares.shape
    parts = threads.worth_using(vectors.size)
    if parts == 1 or n_rows < ROWS or n_columns < DOUBLES:
        _flip_overlaps(vectors, quotient, ct_visible_rates, ct_hidden_rates, squares)
        return
    flat = vectors.reshape(len(vectors), -1)
    ct_visible, ct_hidden, all_squares = (array.reshape(-1) for array in (ct_visible_rates, ct_hidden_rates, squares))
    rows = np.linspace(0, n_rows, parts + 1).astype(int)
    columns = DOUBLES * np.linspace(0, n_columns // DOUBLES, parts + 1).astype(int)

    def task(number: int) -> None:
        kind, part = divmod(number, parts)
        if kind == 0:
            _visible_overlaps(flat, shape, rows[part], rows[part + 1], ct_visible, all_squares)
        else:
            _hidden_overlaps(flat, shape, quotient, columns[part], columns[part + 1], ct_hidden)

    threads.for_each(task, 2 * parts, vectors.size)


@jit
def _add_products(left, right, first, last, sums):
    """sums += sum_a left_a * right_a, row by row in order, for the columns ``first`` to ``last``."""
    for start in range(first, last, CACHED_SUMS):
        ours = sums[start : min(start + CACHED_SUMS, last)]
        for a in range(left.shape[0]):
            here, there = left[a, start : start + ours.size], right[a, start : start + ours.size]
            for k in range(ours.size):
                ours[k] += here[k] * there[k]


def add_products(left: Floats, right: Floats, sums: Floats) -> None:
    """:func:`_add_products` on threads, dealt out by columns."""
    threads.for_rows(lambda columns: _add_products(left, right, columns.start, columns.stop, sums), sums.size, left.size)


# T_O = sum_a (2 b_a' z_a - z_a' A z_a) is stationary in z_a, so with S = I - A
#   dT_O = sum_a [ 2 z_a' db_a + z_a' (dS) z_a ].                                                                         (stationarity)
# b_a = sqrt(pi) f~_a gives 2 z_a' db_a = sum_x z_a b_a dlog pi - 2 (z_a' sqrt(pi)) dE_pi[f_a], and the last term vanishes:   (law)
#   dlog pi(x) / dW_kl = v_k h_l - E_pi[v_k h_l], weighted with q = sum_a z_a * b_a.
# S(x, x^i) = 1 / (2 N cosh F_i) gives  dS(x, x^i) = -tanh(F_i) S(x, x^i) dF_i;                                            (off-diagonal)
# S(x, x) = 1 - (1/N) sum_i sigmoid(-2 x_i F_i) gives  dS(x, x) = (1 / (2N)) sum_i x_i sech^2(F_i) dF_i,                   (diagonal)
#   where sech^2(F) / (2N) = 2 N S(x, x^i)^2.
# A field F_i of a visible spin depends on h only, dF_i = sum_j dW_ij h_j + db_i, and of a hidden spin on v only.          (fields)
class VarianceTimeAdjoint:
    """The sums over observables that the gradient of T_O is made of; an accumulator of :mod:`thermokernels.solvers.many_observables`.

    Attributes
    ----------
    arrays : "visible_rates" (n_v, H) and "hidden_rates" (n_h, V), derivatives of sum_a z_a' S z_a by the tables of S; "squares" (H, V),
        sum_a z_a^2; "law_weights" (n_states,), sum_a z_a * b_a
    """

    def __init__(self, chain: GibbsChain) -> None:
        require_adjoint(chain)
        self.chain = chain
        self.arrays: dict[str, Floats] = {
            "visible_rates": np.zeros(chain.visible_rates.shape),
            "hidden_rates": np.zeros(chain.hidden_rates.shape),
            "squares": np.zeros(chain.shape),
            "law_weights": np.zeros(chain.n_states),
        }

    @classmethod
    def empty(cls, chain: GibbsChain, n_rows: int) -> Self:
        return cls(chain)

    def add(self, rows: slice, right_hand_sides: Floats, solution: Solution) -> None:
        chain, arrays, vectors = self.chain, self.arrays, solution.vectors
        rates = arrays["visible_rates"], arrays["hidden_rates"]
        flip_overlaps(np.ascontiguousarray(vectors).reshape(-1, *chain.shape), chain.quotient, *rates, arrays["squares"])
        add_products(vectors, right_hand_sides, arrays["law_weights"])

    def merge(self, rows: slice, arrays: Mapping[str, Floats]) -> None:
        for name, array in arrays.items():
            self.arrays[name] += array

    def cotangents(self, time: VarianceTime) -> Cotangents:
        """The gradient of ``time.value``, whose solves this has seen."""
        if time.reduced is not None:
            return _reduced_cotangents(time.reduced, time.value)
        return self.sums()

    def sums(self) -> Cotangents:
        """The gradient of sum_a (2 b_a'z_a - z_a'A z_a) over the observables seen so far."""
        return _cotangents(self.chain, **self.arrays)


def require_adjoint(chain: GibbsChain) -> None:
    """ValueError for a kernel whose T_O has no adjoint here; NotReversibleError for one that has no T_O."""
    chain.require_reversible()
    chain.require_both_layers("the products v_i h_j")
    if not chain.dynamics.has_adjoint:
        raise ValueError(f"the adjoint of T_O is that of the single-site and the alternating kernel; got kernel={chain.kernel!r}")


def _cotangents(chain: GibbsChain, visible_rates: Floats, hidden_rates: Floats, squares: Floats, law_weights: Floats) -> Cotangents:
    n_spins, (hidden, visible) = chain.n_spins, chain.block_spins
    # (off-diagonal) + (diagonal)
    ct_visible_local_fields = chain.visible_rates * (
        -np.tanh(chain.visible_local_fields) * visible_rates + 2 * n_spins * chain.visible_rates * (visible.T @ squares.T)
    )
    ct_hidden_local_fields = chain.hidden_rates * (
        -np.tanh(chain.hidden_local_fields) * hidden_rates + 2 * n_spins * chain.hidden_rates * (hidden.T @ squares)
    )
    # (fields)
    ct_weights = ct_visible_local_fields @ hidden + (ct_hidden_local_fields @ visible).T
    ct_law = _log_law_cotangents(chain, law_weights)  # (law)
    ct_b, ct_c = ct_visible_local_fields.sum(axis=1) + ct_law.b, ct_hidden_local_fields.sum(axis=1) + ct_law.c
    return Cotangents(ct_weights + ct_law.W, ct_b, ct_c).on_edges(chain.model)


# By state reduction: the terms (law) and (conductance) of adjoints/reduction.py, with dF_i as in (fields).
def _reduced_cotangents(time: ReducedTime, value: float) -> Cotangents:
    chain = time.chain
    hidden, visible = chain.block_spins
    law_weights, shares, _ = reduced_resolvent.weights(time)
    edges = 0.5 * shares.reshape(*chain.shape, chain.n_spins)  # each edge is met at both of its ends
    ct_visible_local_fields = np.tanh(chain.visible_local_fields) * edges[:, :, : chain.n_visible].sum(axis=1).T
    ct_hidden_local_fields = np.tanh(chain.hidden_local_fields) * edges[:, :, chain.n_visible :].sum(axis=0).T
    ct_law = _log_law_cotangents(chain, law_weights)
    ct_weights = chain.model.on_edges(value * (ct_visible_local_fields @ hidden + (ct_hidden_local_fields @ visible).T + ct_law.W))
    if chain.quotient:  # T_O is even in the fields
        return Cotangents(ct_weights, np.zeros(chain.n_visible), np.zeros(chain.n_hidden))
    return Cotangents(
        ct_weights,
        value * (ct_visible_local_fields.sum(axis=1) + ct_law.b),
        value * (ct_hidden_local_fields.sum(axis=1) + ct_law.c),
    )


def _log_law_cotangents(chain: GibbsChain, weights: Floats) -> Cotangents:
    """sum_x weights(x) dlog pi(x): with dlog pi/dW_kl = v_k h_l - E[v_k h_l], dlog pi/db_k = v_k - E[v_k], dlog pi/dc_l = h_l - E[h_l]."""
    centred = weights - weights.sum() * chain.law
    by_state = centred.reshape(chain.shape)
    hidden, visible = chain.block_spins
    return Cotangents(correlations(chain, centred), by_state.sum(axis=0) @ visible, by_state.sum(axis=1) @ hidden)


def gradient_chain(model: Model, fields: bool, kernel: str = "single-site") -> GibbsChain:
    """The chain that a gradient is taken on: gradients of the fields break its symmetry and need all states."""
    return model_chain(model, quotient=False if arguments.as_flag(fields, "fields") else None, gradient=True, kernel=kernel)


@overload
def observable_variance_time_and_gradient(
    W: ModelLike, b: ArrayLike | None = None, c: ArrayLike | None = None, *, fields: Literal[False] = False, **how: Unpack[KernelOptions]
) -> tuple[float, Floats]: ...
@overload
def observable_variance_time_and_gradient(
    W: ModelLike, b: ArrayLike | None = None, c: ArrayLike | None = None, *, fields: Literal[True], **how: Unpack[KernelOptions]
) -> tuple[float, Cotangents]: ...
@default_error_state
def observable_variance_time_and_gradient(
    W: ModelLike,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    method: str = "auto",
    rtol: float = tolerances.SOLVE,
    fields: bool = False,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
    executor: Executor | None = None,
    kernel: str = "single-site",
) -> tuple[float, Floats] | tuple[float, Cotangents]:
    """T_O (steps) and its gradient, at the price of one more pass over the forward solution.

    Parameters
    ----------
    W : (n_v, n_h) couplings, or a Model; b : (n_v,), c : (n_h,) fields, None for zero
    method, rtol : of the solve, as in :func:`thermokernels.q_struct`
    fields : return the gradients with respect to b and c too (with the full chain, since fields break the Z2 symmetry)
    progress, checkpoint, executor : as in :func:`thermokernels.observable_variance_time`; sums of the gradient are kept with the value
    kernel : "single-site" or "alternating"

    Returns
    -------
    (T_O, dT_dW) with dT_dW of shape (n_v, n_h), or (T_O, Cotangents(W, b, c)) with ``fields=True``; derivatives in steps.

    Raises
    ------
    ValueError, NotConvergedError, UnresolvedError, ExecutorError
        As :func:`thermokernels.observable_variance_time`.

    Examples
    --------
    >>> import adjoints
    >>> value, gradient = adjoints.observable_variance_time([[0.5]])
    >>> gradient.shape
    (1, 1)
    """
    fields = arguments.as_flag(fields, "fields")
    model, solve = as_model(W, b, c), Solve(method, rtol, progress, checkpoint, executor)
    if as_kernel(kernel).by_layers:
        scan = of_model(model, solve)
        value, cotangents = scan.value, alternating_scan.gradient(scan)
    else:
        adjoint = VarianceTimeAdjoint(gradient_chain(model, fields, kernel))
        time = variance_time(adjoint.chain, solve, (adjoint,))
        value, cotangents = time.value, adjoint.cotangents(time)
    if fields:
        return value, cotangents
    return value, cotangents.W


observable_variance_time = observable_variance_time_and_gradient
