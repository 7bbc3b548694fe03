"""Q and its gradient of many models of one shape; a model that cannot be answered for has a status, and does not end the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adjoints.cotangents import Cotangents
from adjoints.small_models import Answer, _gradients
from thermokernels.common import arguments, threads, tolerances
from thermokernels.common.arrays import Array, Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import NumericalError
from thermokernels.model.kernels.registry import KERNELS
from thermokernels.model.model import Model
from thermokernels.quantities import small_models
from thermokernels.quantities.signal_to_noise import QStruct
from thermokernels.solvers.small.small_chains import is_small
from thermokernels.solvers.solve import Solve

OK, REFUSED, UNRESOLVED = 0, 1, 2

# Solutions of models that are solved for before any gradient is taken: more of them than a second-level cache holds are slower.
NUMBERS_TOGETHER = 2**15

# (Model, p_data) -> Q and its gradient
One = Callable[[Model, Floats], tuple[QStruct, Cotangents]]


@dataclass(frozen=True, eq=False)
class QBatch:
    """Q of B models and what it rests on, an entry a model; NaN where the status is not 0.

    Attributes
    ----------
    value, signal, signal_bound, bound, t_obs, t_obs_bound, residual : (B,), as in :class:`thermokernels.QStruct`
    iterations : (B,) int
    g : (B, n_v, n_h)
    window_steps : K in steps, of all
    status : (B,) int8: 0 for an answer, 1 for a model or a law that is refused (ValueError), 2 for one that float64 does not resolve
        (:class:`thermokernels.NumericalError`)
    messages : the sentence of each that was not answered, else None
    """

    value: Floats
    signal: Floats
    signal_bound: Floats
    t_obs: Floats
    t_obs_bound: Floats
    g: Floats = field(repr=False)
    residual: Floats = field(repr=False)
    iterations: NDArray[np.int64] = field(repr=False)
    window_steps: float
    status: NDArray[np.int8]
    messages: tuple[str | None, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.value)

    @property
    @default_error_state
    def bound(self) -> Floats:
        """A bound on |Q - value|, as :attr:`QStruct.bound`."""
        with np.errstate(invalid="ignore", divide="ignore"):
            least = self.t_obs - self.t_obs_bound
            share = self.signal_bound + self.signal * self.t_obs_bound / self.t_obs
            largest = 0.5 * self.window_steps * share / least * (1 + 8 * tolerances.UNIT) + 4 * tolerances.UNIT * self.value
            return np.where(least <= 0.0, np.inf, largest)


class _Answers:
    """The arrays of a batch, written model by model."""

    def __init__(self, n_models: int, shape: tuple[int, int]) -> None:
        sizes = (small_models.N_NUMBERS,), shape, shape, shape[:1], shape[1:]
        self.arrays = Answer(*(np.full((n_models, *size), np.nan) for size in sizes))
        self.status = np.zeros(n_models, dtype=np.int8)
        self.messages: list[str | None] = [None] * n_models

    def take(self, k: int, q: QStruct, cotangents: Cotangents) -> None:
        numbers = np.full(small_models.N_NUMBERS, np.nan)
        numbers[: len(small_models.NUMBERS)] = [getattr(q, name) for name in small_models.NUMBERS]
        for array, part in zip(self.arrays, (numbers, q.g, *cotangents), strict=True):
            array[k] = part

    def refuse(self, k: int, error: Exception) -> None:
        for array in self.arrays:
            array[k] = np.nan
        self.status[k] = UNRESOLVED if isinstance(error, NumericalError) else REFUSED
        self.messages[k] = str(error)

    def batch(self, window_steps: float) -> tuple[QBatch, Cotangents]:
        columns = dict(zip(small_models.NUMBERS, np.ascontiguousarray(self.arrays.numbers.T), strict=False))
        iterations = np.where(self.status == OK, columns.pop("iterations"), 0).astype(np.int64)
        found = QBatch(
            **columns,
            g=self.arrays.g,
            iterations=iterations,
            window_steps=window_steps,
            status=self.status,
            messages=tuple(self.messages),
        )
        return found, Cotangents(*self.arrays[2:])


def is_batch(W: Any) -> bool:
    """Whether W has three dimensions; what is no array is refused elsewhere."""
    try:
        return np.ndim(W) == 3
    except (TypeError, ValueError, RuntimeError):
        return False


def q_struct(
    couplings: ArrayLike,
    p_data: ArrayLike,
    window: float,
    solve: Solve,
    biases: tuple[ArrayLike | None, ArrayLike | None],
    fields: bool,
    kernel: str,
    one: One,
) -> tuple[QBatch, Cotangents]:
    """Q of each of the couplings (B, n_v, n_h), with p_data (2**n_v,) or (B, 2**n_v) and both biases likewise.

    ``one`` answers for a single model; the compiled call for small ones gives the same bits. A batch is dealt out to threads.
    """
    W = np.array(arguments.as_reals(couplings, "W"), dtype=np.float64, order="C")  # compiled once, for arrays that are writeable
    n_models, n_visible, n_hidden = W.shape
    if 0 in W.shape:
        raise ValueError(f"W must have shape (B, n_v, n_h) with none of them zero; got shape {W.shape}")
    if solve.checkpoint is not None:
        raise ValueError("checkpoint must be None for a batch of models: a file keeps the blocks of one")
    laws = _each(p_data, "p_data", n_models, 2**n_visible)
    if np.ndim(p_data) == 1:  # of one for all, what is wrong with it is no model's
        arguments.as_undivided_law(laws[0], 2**n_visible)
    visible, hidden = (
        np.zeros((n_models, size)) if part is None else _each(part, name, n_models, size)
        for part, name, size in zip(biases, ("b", "c"), (n_visible, n_hidden), strict=True)
    )
    window_steps = arguments.as_positive(window, "window", "sweeps") * KERNELS[kernel].steps_per_sweep(n_visible + n_hidden)
    answers = _Answers(n_models, (n_visible, n_hidden))
    quotient = not (fields or visible.any() or hidden.any())
    n_states = 1 << (n_visible + n_hidden - quotient)
    small = solve == Solve(rtol=solve.rtol) and KERNELS[kernel].single_flips and is_small(n_visible, n_hidden, quotient)
    limits = small_models.limits_of(solve)
    law_sums = laws.sum(axis=1)
    are_laws = (laws.min(axis=1) >= 0.0) & (np.abs(law_sums - 1.0) <= tolerances.LAW_SUM)
    # without fields, in a batch of which others have some, a model is one on pairs {x, -x}
    on_states = quotient or fields or visible.any(axis=1) | hidden.any(axis=1)
    compiled = small & are_laws & on_states
    found = np.zeros(n_models, dtype=np.bool_)
    with np.errstate(divide="ignore", invalid="ignore"):
        divided = laws / law_sums[:, None]  # what is no law is not looked at
    together = max(1, NUMBERS_TOGETHER // (n_states * n_visible * n_hidden))

    def answer_some(some: slice, room: small_models.Room) -> None:
        filled = room.of(slice(some.stop - some.start))
        models, how = (W[some], visible[some], hidden[some], laws[some]), (window_steps, quotient, False, limits)
        small_models._values(*models, *how, compiled[some], filled, found[some])
        answers.arrays.numbers[some], answers.arrays.g[some] = filled.numbers, filled.g
        _gradients(divided[some], quotient, found[some], filled, *(part[some] for part in answers.arrays[2:]))

    def answer(rows: slice) -> None:
        if small:
            room = small_models.room(min(together, rows.stop - rows.start), n_visible, n_hidden, quotient)
            for start in range(rows.start, rows.stop, together):
                answer_some(slice(start, min(start + together, rows.stop)), room)
        for k in np.flatnonzero(~found[rows]) + rows.start:
            try:
                law = arguments.as_undivided_law(laws[k], 2**n_visible)
                answers.take(k, *one(Model(W[k], visible[k], hidden[k]), law))
            except (NumericalError, ValueError) as error:
                answers.refuse(k, error)

    if small:
        threads.for_rows(answer, n_models, n_models * n_states * n_visible * n_hidden * (n_visible + n_hidden))
    else:  # each of them takes the threads
        answer(slice(0, n_models))
    return answers.batch(window_steps)


def _each(values: Any, name: str, n_models: int, length: int) -> Array:
    """One row a model, of what is given for each or once for all."""
    array = arguments.as_reals(values, name).astype(np.float64)
    if array.shape not in ((length,), (n_models, length)):
        raise ValueError(f"{name} must have shape ({length},), or ({n_models}, {length}) with one for each model; got shape {array.shape}")
    return np.ascontiguousarray(np.broadcast_to(array, (n_models, length)))
