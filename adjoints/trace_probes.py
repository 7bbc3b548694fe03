"""Gradients of the estimates of T_O and Q by random signs: each row of the estimate is T_O of one observable, with the same adjoint."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Literal, Self, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from adjoints.cotangents import Cotangents
from adjoints.signal_to_noise import FieldOptions, signal_cotangents
from adjoints.variance_time import VarianceTimeAdjoint, gradient_chain, require_adjoint
from thermokernels.common import arguments, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.model.chain import GibbsChain
from thermokernels.model.model import ModelLike, as_model
from thermokernels.quantities.signal_to_noise import chain_signal
from thermokernels.quantities.trace_probes import ProbedQ, ProbedTime, Seed, probed, probed_q, row_weights, standard_error
from thermokernels.solvers.checkpoint import PathLike
from thermokernels.solvers.resolvent import Solution
from thermokernels.solvers.solve import Progress, Solve


class _RowGradients:
    """The gradient of every row by itself: its spread over the probes is the standard error. An accumulator."""

    def __init__(self, chain: GibbsChain, n_rows: int) -> None:
        require_adjoint(chain)
        self.chain = chain
        self.arrays = {"gradients": np.zeros((n_rows, chain.weights.size + chain.n_spins))}

    @classmethod
    def empty(cls, chain: GibbsChain, n_rows: int) -> Self:
        return cls(chain, n_rows)

    def add(self, rows: slice, right_hand_sides: Floats, solution: Solution) -> None:
        for row, gradient in enumerate(self.arrays["gradients"][rows]):
            adjoint, one = VarianceTimeAdjoint(self.chain), slice(row, row + 1)
            adjoint.add(one, right_hand_sides[one], solution.part(one))
            gradient[:] = np.concatenate([part.ravel() for part in adjoint.sums()])

    def merge(self, rows: slice, arrays: Mapping[str, Floats]) -> None:
        self.arrays["gradients"][rows] = arrays["gradients"]

    def split(self, values: Floats) -> Cotangents:
        """(W, b, c) of a flat gradient."""
        chain = self.chain
        n_weights, n_visible = chain.weights.size, chain.n_visible
        W, b, c = np.split(values, [n_weights, n_weights + n_visible])
        return Cotangents(W.reshape(chain.weights.shape), b, c)


class ProbeOptions(FieldOptions, total=False):
    """Keywords for signatures that pass them on."""

    n_directions: int


@overload
def probe_variance_time_and_gradient(
    W: ModelLike, n_probes: int = 8, *, seed: Seed, fields: Literal[False] = False, **how: Unpack[ProbeOptions]
) -> tuple[ProbedTime, Floats, Floats]: ...
@overload
def probe_variance_time_and_gradient(
    W: ModelLike, n_probes: int = 8, *, seed: Seed, fields: Literal[True], **how: Unpack[ProbeOptions]
) -> tuple[ProbedTime, Cotangents, Cotangents]: ...
@default_error_state
def probe_variance_time_and_gradient(
    W: ModelLike,
    n_probes: int = 8,
    *,
    seed: Seed,
    n_directions: int = 4,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    method: str = "auto",
    rtol: float = tolerances.SOLVE,
    fields: bool = False,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
    executor: Executor | None = None,
) -> tuple[ProbedTime, Floats, Floats] | tuple[ProbedTime, Cotangents, Cotangents]:
    """An unbiased estimate of T_O (steps) and of its gradient, from the same solves.

    T_O = sum_k q_k' M q_k + E[(R e)' M (R e)] holds for all couplings near W with the directions q_k held fixed
    (:mod:`thermokernels.quantities.trace_probes`), so the mean of the probes' gradients is an unbiased estimate of that of the second term.

    Parameters
    ----------
    W, b, c, fields : as in :func:`adjoints.observable_variance_time`
    n_probes, seed, n_directions, method, rtol, progress, checkpoint, executor : as in :func:`thermokernels.probe_variance_time`

    Returns
    -------
    (ProbedTime, dT_dW, standard error of each entry), both (n_v, n_h); Cotangents(W, b, c) in their places with ``fields=True``.

    Raises
    ------
    ValueError, NotConvergedError, UnresolvedError, ModelTooLargeError
        As :func:`thermokernels.probe_variance_time`.

    Examples
    --------
    >>> import adjoints
    >>> estimate, gradient, error = adjoints.probe_variance_time([[0.5, 0.2], [0.1, -0.4]], seed=1, n_directions=1)
    >>> gradient.shape, error.shape
    ((2, 2), (2, 2))
    """
    chain = gradient_chain(as_model(W, b, c), fields)
    time, gradients, rows = _probed(chain, n_probes, seed, n_directions, Solve(method, rtol, progress, checkpoint, executor))
    value = gradients.split(row_weights(len(time.directions), time.samples.size) @ rows)
    error = gradients.split(standard_error(rows[len(time.directions) :]))
    return (time, value, error) if fields else (time, value.W, error.W)


@overload
def probe_q_struct_and_gradient(
    W: ModelLike,
    p_data: ArrayLike,
    window: float = 100.0,
    n_probes: int = 8,
    *,
    seed: Seed,
    fields: Literal[False] = False,
    **how: Unpack[ProbeOptions],
) -> tuple[ProbedQ, Floats, Floats]: ...
@overload
def probe_q_struct_and_gradient(
    W: ModelLike,
    p_data: ArrayLike,
    window: float = 100.0,
    n_probes: int = 8,
    *,
    seed: Seed,
    fields: Literal[True],
    **how: Unpack[ProbeOptions],
) -> tuple[ProbedQ, Cotangents, Cotangents]: ...
@default_error_state
def probe_q_struct_and_gradient(
    W: ModelLike,
    p_data: ArrayLike,
    window: float = 100.0,
    n_probes: int = 8,
    *,
    seed: Seed,
    n_directions: int = 4,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    method: str = "auto",
    rtol: float = tolerances.SOLVE,
    fields: bool = False,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
    executor: Executor | None = None,
) -> tuple[ProbedQ, Floats, Floats] | tuple[ProbedQ, Cotangents, Cotangents]:
    """Q with an estimated T_O, and its gradient; standard errors by the delta method.

    dQ = Q (d|g|^2 / |g|^2 - dT / T), and 0 where g = 0. To first order a probe whose T and dT are off by t and d moves it by
    -(Q / T) (t (d|g|^2 / |g|^2 - 2 dT / T) + d), whose spread over the probes is the standard error.

    Parameters and errors are those of :func:`thermokernels.q_struct` (window in sweeps) and :func:`probe_variance_time`.

    Returns
    -------
    (ProbedQ, dQ_dW, standard error of each entry), both (n_v, n_h); Cotangents(W, b, c) in their places with ``fields=True``.

    Examples
    --------
    >>> import adjoints
    >>> q, gradient, error = adjoints.probe_q_struct([[0.5, 0.2]], [0.9, 0.1], seed=1)  # as many directions as observables
    >>> gradient.shape, float(error.max()) < 1e-10
    ((1, 2), True)
    """
    chain = gradient_chain(as_model(W, b, c), fields)
    g, signal, window_steps = chain_signal(chain, p_data, window)
    time, gradients, rows = _probed(chain, n_probes, seed, n_directions, Solve(method, rtol, progress, checkpoint, executor))
    q = probed_q(time, g, signal, window_steps)
    if signal == 0.0:
        nothing = gradients.split(np.zeros(rows.shape[1]))
        return (q, nothing, nothing) if fields else (q, nothing.W, nothing.W)
    ct_signal = signal_cotangents(chain, arguments.as_law(p_data, 2**chain.n_visible), g)
    relative = np.concatenate([part.ravel() for part in ct_signal]) / signal
    ct_time = row_weights(len(time.directions), time.samples.size) @ rows / time.value
    deviations = time.samples[:, None] * (relative - 2 * ct_time) + rows[len(time.directions) :]
    value, error = gradients.split(q.value * (relative - ct_time)), gradients.split(q.value / time.value * standard_error(deviations))
    return (q, value, error) if fields else (q, value.W, error.W)


probe_variance_time, probe_q_struct = probe_variance_time_and_gradient, probe_q_struct_and_gradient


def _probed(
    chain: GibbsChain,
    n_probes: int,
    seed: Seed,
    n_directions: int,
    solve: Solve,
) -> tuple[ProbedTime, _RowGradients, Floats]:
    n_probes, n_directions = arguments.as_count(n_probes, "n_probes", 2), arguments.as_count(n_directions, "n_directions", 0)
    gradients = _RowGradients(chain, min(n_directions, chain.model.n_couplings) + n_probes)
    time = probed(chain, n_probes, seed, n_directions, solve, (gradients,))
    return time, gradients, gradients.arrays["gradients"]
