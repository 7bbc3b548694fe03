"""Gradients of the signal |g|^2 and of Q with respect to the couplings and fields."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from adjoints import accuracy as to_accuracy
from adjoints import alternating_scan, batches, small_models
from adjoints.cotangents import AccuracyOptions, Cotangents
from adjoints.variance_time import VarianceTimeAdjoint, _log_law_cotangents, gradient_chain
from thermokernels.common import arguments, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.model.chain import GibbsChain
from thermokernels.model.kernels.registry import as_kernel
from thermokernels.model.model import Model, ModelLike, as_model
from thermokernels.quantities.alternating_scan import AlternatingTime
from thermokernels.quantities.signal_to_noise import QStruct, alternating_q_struct, chain_q_struct
from thermokernels.quantities.small_models import in_one_call
from thermokernels.quantities.variance_time import is_small
from thermokernels.solvers.checkpoint import PathLike
from thermokernels.solvers.solve import AUTOMATIC, Options, Progress, Solve


# |g|^2 = sum_a g_a^2 gives d|g|^2 = 2 sum_a g_a dg_a, g_ij = -sum_v p(v) v_i tanh F_j(v) + E_pi[v_i h_j].
# dE_pi[v_i h_j] = Cov_pi(v_i h_j, dlog pi): the law weighted with phi(x) = sum_ij g_ij v_i h_j, centred.                   (model)
# dtanh F_j = sech^2(F_j) (sum_k v_k dW_kj + dc_j): the data law weighted with sech^2(F_j) sum_i g_ij v_i.                   (data)
def signal_cotangents(chain: GibbsChain, p_data: Floats, g: Floats) -> Cotangents:
    hidden, visible = chain.block_spins
    projected = visible @ g  # (V, n_h): sum_i v_i g_ij
    phi = (hidden @ projected.T).ravel()
    model = _log_law_cotangents(chain, chain.law * (phi - chain.law @ phi))
    # sech^2 F = (2 N S)^2, free of the cancellation in 1 - tanh^2
    data = p_data[:, None] * (2 * chain.n_spins * chain.hidden_rates.T) ** 2 * projected
    return Cotangents(2 * (model.W - visible.T @ data), 2 * model.b, 2 * (model.c - data.sum(axis=0))).on_edges(chain.model)


class FieldOptions(Options, total=False):
    """Keywords for signatures that pass them on."""

    b: ArrayLike | None
    c: ArrayLike | None


class QOptions(FieldOptions, AccuracyOptions, total=False):
    """The same for Q, of any kernel that has an adjoint."""


@overload
def q_struct_and_gradient(
    W: ModelLike, p_data: ArrayLike, window: float = 100.0, *, fields: Literal[False] = False, **how: Unpack[QOptions]
) -> tuple[QStruct, Floats]: ...
@overload
def q_struct_and_gradient(
    W: ModelLike, p_data: ArrayLike, window: float = 100.0, *, fields: Literal[True], **how: Unpack[QOptions]
) -> tuple[QStruct, Cotangents]: ...
@default_error_state
def q_struct_and_gradient(
    W: ModelLike,
    p_data: ArrayLike,
    window: float = 100.0,
    method: str = "auto",
    rtol: float = tolerances.SOLVE,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    fields: bool = False,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
    executor: Executor | None = None,
    kernel: str = "single-site",
    accuracy: float | None = None,
) -> tuple[QStruct, Floats] | tuple[QStruct, Cotangents]:
    """Q and its gradient: dQ = Q (d|g|^2 / |g|^2 - dT_O / T_O), and 0 where g = 0.

    Parameters and errors are those of :func:`thermokernels.q_struct` (window in sweeps), of the kernels "single-site" and "alternating".
    With ``fields=True`` the gradients with respect to b and c come too, on the full chain. ``accuracy`` is the largest error of T_O as a
    share of it, and of dQ_dW as a share of its largest entry, as in :func:`adjoints.observable_variance_time`.

    W of shape (B, n_v, n_h) is B models, with p_data, b and c for all of them or one a model: (B, 2**n_v), (B, n_v), (B, n_h). Each
    is answered as it would be by itself, in every bit, and the batch is dealt out to threads. A model that is refused or not resolved
    is NaN, with a status and a message of its own (:class:`QBatch`).

    Returns
    -------
    (QStruct, dQ_dW) with dQ_dW of shape (n_v, n_h), or (QStruct, Cotangents(W, b, c)); of a batch (QBatch, dQ_dW) with dQ_dW of shape
    (B, n_v, n_h), or (QBatch, Cotangents(W, b, c)) with an axis of length B each.

    Examples
    --------
    >>> import adjoints
    >>> q, gradient = adjoints.q_struct([[0.0]], [0.5, 0.5])
    >>> gradient
    array([[0.]])
    >>> batch, gradients = adjoints.q_struct([[[0.5]], [[float("nan")]]], [0.9, 0.1])
    >>> batch.status.tolist(), gradients.shape, batch.messages[1]
    ([0, 1], (2, 1, 1), 'W must be finite; entry (0, 0) is nan')
    """
    fields = arguments.as_flag(fields, "fields")
    solve = Solve(method, rtol, progress, checkpoint, executor, accuracy)
    by_layers = as_kernel(kernel).by_layers
    to_accuracy.refuse(solve, fields, by_layers)

    def one(model: Model, law: ArrayLike) -> tuple[QStruct, Cotangents]:
        if by_layers:
            return _alternating_q_struct_gradient(model, law, window, solve)
        if in_one_call(model, solve, kernel, fields):
            exact = replace(solve, accuracy=None)  # so small a model is solved as well as can be
            if (found := small_models.q_struct(model, law, window, fields, exact)) is not None:
                if solve.accuracy is not None:
                    to_accuracy.require(solve, *to_accuracy.of_q(*found, arguments.as_undivided_law(law, 2**model.n_visible)))
                return found
        return chain_q_struct_gradient(gradient_chain(model, fields, kernel), law, window, solve)

    q: Any
    if not isinstance(W, Model) and batches.is_batch(W):
        q, cotangents = batches.q_struct(W, p_data, window, solve, (b, c), fields, kernel, one)
    else:
        q, cotangents = one(as_model(W, b, c), p_data)
    return (q, cotangents) if fields else (q, cotangents.W)


def chain_q_struct_gradient(
    chain: GibbsChain,
    p_data: ArrayLike,
    window: float = 100.0,
    solve: Solve = AUTOMATIC,
) -> tuple[QStruct, Cotangents]:
    """:func:`q_struct_and_gradient` for a chain that exists already.

    On the quotient the gradients with respect to the fields are zero by symmetry.
    """
    if chain.dynamics.by_layers:
        return _alternating_q_struct_gradient(chain.model, p_data, window, solve)
    return to_accuracy.certified(
        chain,
        solve,
        lambda tried: _q_struct_and_cotangents(chain, p_data, window, tried),
        lambda found: to_accuracy.of_q(*found, p_data),
    )


def _q_struct_and_cotangents(chain: GibbsChain, p_data: ArrayLike, window: float, solve: Solve) -> tuple[QStruct, Cotangents]:
    adjoint, small = VarianceTimeAdjoint(chain), is_small(chain, solve)
    q = chain_q_struct(chain, p_data, window, solve, () if small else (adjoint,))
    if q.signal == 0.0:
        return q, Cotangents(np.zeros_like(chain.weights), np.zeros(chain.n_visible), np.zeros(chain.n_hidden))
    if small and q.state_time.reduced is None:
        return q, small_models.q_cotangents(q, arguments.as_law(p_data, 2**chain.n_visible))
    ct_signal = signal_cotangents(chain, arguments.as_law(p_data, 2**chain.n_visible), q.g)
    return q, _quotient(q, ct_signal, adjoint.cotangents(q.state_time))


def _alternating_q_struct_gradient(model: Model, p_data: ArrayLike, window: float, solve: Solve) -> tuple[QStruct, Cotangents]:
    q = alternating_q_struct(model, p_data, window, solve)
    if q.signal == 0.0:
        return q, Cotangents(np.zeros_like(model.W), np.zeros(model.n_visible), np.zeros(model.n_hidden))
    assert isinstance(q.variance_time, AlternatingTime)
    law = arguments.as_law(p_data, 2**model.n_visible)
    ct_signal = alternating_scan.signal_cotangents(q.variance_time.layers, model, law, q.g)
    return q, _quotient(q, ct_signal, alternating_scan.gradient(q.variance_time))


def _quotient(q: QStruct, ct_signal: Cotangents, ct_time: Cotangents) -> Cotangents:
    """dQ = Q (d|g|^2 / |g|^2 - dT_O / T_O)."""
    return Cotangents(*(q.value * (signal / q.signal - time / q.t_obs) for signal, time in zip(ct_signal, ct_time, strict=True)))


q_struct = q_struct_and_gradient
