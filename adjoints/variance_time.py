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

from adjoints import accuracy as to_accuracy
from adjoints import alternating_scan, reduced_resolvent, small_models
from adjoints.cotangents import AccuracyOptions, Cotangents
from adjoints.overlaps import flip_overlaps
from thermokernels.common import arguments, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.compiled.simd_states import DOUBLES, aligned_zeros
from thermokernels.model.chain import GibbsChain
from thermokernels.model.kernels.registry import as_kernel
from thermokernels.model.model import Model, ModelLike, as_model
from thermokernels.quantities.alternating_scan import of_model
from thermokernels.quantities.variance_time import VarianceTime, correlations, is_small, model_chain, variance_time
from thermokernels.solvers.checkpoint import PathLike
from thermokernels.solvers.resolvent import Solution
from thermokernels.solvers.solve import Progress, Solve
from thermokernels.solvers.state_reduction.reduced_resolvent import ReducedTime


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
    arrays : "visible_parts" (H, n_v, 8), summed over the last axis, and "hidden_rates" (n_h, V), derivatives of sum_a z_a' S z_a by the
        tables of S; "squares" (H, V), sum_a z_a^2; "law_weights" (n_states,), sum_a z_a * b_a
    """

    def __init__(self, chain: GibbsChain) -> None:
        require_adjoint(chain)
        self.chain = chain
        self.arrays: dict[str, Floats] = {
            "visible_parts": aligned_zeros(chain.shape[0], chain.n_visible, DOUBLES),
            "hidden_rates": aligned_zeros(*chain.hidden_rates.shape),
            "squares": aligned_zeros(*chain.shape),
            "law_weights": aligned_zeros(chain.n_states),
        }

    @classmethod
    def empty(cls, chain: GibbsChain, n_rows: int) -> Self:
        return cls(chain)

    def add(self, rows: slice, right_hand_sides: Floats, solution: Solution) -> None:
        inputs = np.ascontiguousarray(solution.vectors), np.ascontiguousarray(right_hand_sides)
        flip_overlaps(*inputs, self.chain.quotient, *self.arrays.values())

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
        visible_parts, *others = self.arrays.values()
        return _cotangents(self.chain, visible_parts.sum(axis=2).T, *others)


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
    law_weights, shares = reduced_resolvent.weights(time)
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
    W: ModelLike, b: ArrayLike | None = None, c: ArrayLike | None = None, *, fields: Literal[False] = False, **how: Unpack[AccuracyOptions]
) -> tuple[float, Floats]: ...
@overload
def observable_variance_time_and_gradient(
    W: ModelLike, b: ArrayLike | None = None, c: ArrayLike | None = None, *, fields: Literal[True], **how: Unpack[AccuracyOptions]
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
    accuracy: float | None = None,
) -> tuple[float, Floats] | tuple[float, Cotangents]:
    """T_O (steps) and its gradient, at the price of one more pass over the forward solution.

    Parameters
    ----------
    W : (n_v, n_h) couplings, or a Model; b : (n_v,), c : (n_h,) fields, None for zero
    method, rtol : of the solve, as in :func:`thermokernels.q_struct`
    fields : return the gradients with respect to b and c too (with the full chain, since fields break the Z2 symmetry)
    progress, checkpoint, executor : as in :func:`thermokernels.observable_variance_time`; sums of the gradient are kept with the value
    kernel : "single-site" or "alternating"
    accuracy : largest error, below 1, of T_O as a share of it and of dT_dW as a share of its largest entry; None to solve to ``rtol``
        Conjugate gradients stop as soon as the proven bounds say so (:mod:`adjoints.accuracy`); what they cannot certify is refused.

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
    model, solve = as_model(W, b, c), Solve(method, rtol, progress, checkpoint, executor, accuracy)
    by_layers = as_kernel(kernel).by_layers
    to_accuracy.refuse(solve, fields, by_layers)
    if by_layers:
        scan = of_model(model, solve)
        value, cotangents = scan.value, alternating_scan.gradient(scan)
    else:
        chain = gradient_chain(model, fields, kernel)
        time, cotangents = to_accuracy.certified(
            chain,
            solve,
            lambda tried: _time_and_cotangents(chain, tried),
            lambda found: to_accuracy.of_time(*found),
        )
        value = time.value
    if fields:
        return value, cotangents
    return value, cotangents.W


def _time_and_cotangents(chain: GibbsChain, solve: Solve) -> tuple[VarianceTime, Cotangents]:
    adjoint, small = VarianceTimeAdjoint(chain), is_small(chain, solve)
    time = variance_time(chain, solve, () if small else (adjoint,))
    return time, small_models.time_cotangents(time) if small and time.reduced is None else adjoint.cotangents(time)


observable_variance_time = observable_variance_time_and_gradient
