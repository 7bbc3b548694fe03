"""The gradient of an estimate: unbiased samples of dT_O and d|g|^2 from coupled chains, and dQ, with standard errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from adjoints.estimates.coupled_excursions import _gradient_samples
from adjoints.estimates.lane_sums import side_by_side
from thermokernels.common import arguments, threads
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NotConvergedError
from thermokernels.common.results import Result
from thermokernels.estimates.coupling.lag_pairs import Schedule, _lag_pairs, new_pairs
from thermokernels.estimates.coupling.single_site_coupling import couplings
from thermokernels.estimates.estimate import estimate_q
from thermokernels.estimates.problem import model_of
from thermokernels.estimates.result import QEstimate
from thermokernels.estimates.statistics.intervals import LEVEL
from thermokernels.model.model import Model
from thermokernels.sampling.samplers import block_model

# By the numbers that the samples know them by.
KERNELS = ("alternating", "two-block", "single-site")
# States of a task; each is the x of one sample.
TASK = 64
# Means of so many batches of tasks give the standard errors.
BATCHES = 32


@dataclass(frozen=True, eq=False, repr=False)
class EstimatedGradient(Result):
    """Gradients with respect to couplings and fields, and standard errors of every entry.

    Attributes
    ----------
    dt_dW, dt_dW_error : (n_v, n_h) of T_O, in steps of the kernel
    dt_db, dt_dc : (n_v,), (n_h,) of T_O by the fields, zero without fields, where T_O is even in them; dt_db_error, dt_dc_error
    dq_dW, dq_db, dq_dc : of Q, NaN without data; dq_dW_error, dq_db_error, dq_dc_error, those of T_O and |g|^2 counted in
    n_samples : states that samples began from; errors come from the spread of 32 batches of them, or of tasks of 64 where these are fewer
    """

    _facts = (
        "n_samples",
        "dt_dW",
        "dt_dW_error",
        "dt_db",
        "dt_db_error",
        "dt_dc",
        "dt_dc_error",
        "dq_dW",
        "dq_dW_error",
        "dq_db",
        "dq_db_error",
        "dq_dc",
        "dq_dc_error",
    )

    dt_dW: Floats
    dt_dW_error: Floats
    dt_db: Floats
    dt_db_error: Floats
    dt_dc: Floats
    dt_dc_error: Floats
    dq_dW: Floats
    dq_dW_error: Floats
    dq_db: Floats
    dq_db_error: Floats
    dq_dc: Floats
    dq_dc_error: Floats
    n_samples: int

    def _columns(self) -> tuple[dict[str, Any], list[str]]:
        rows, columns = np.indices(self.dt_dW.shape)
        names = ("dt_dW", "dt_dW_error", "dq_dW", "dq_dW_error")
        return {"v": rows.ravel(), "h": columns.ravel(), **{name: getattr(self, name).ravel() for name in names}}, ["v", "h"]

    def __repr__(self) -> str:
        return f"EstimatedGradient({' x '.join(map(str, self.dt_dW.shape))} couplings, {self.n_samples} samples)"


def estimate_q_and_gradient(
    model: Any,
    data: ArrayLike | None,
    window: float = 100.0,
    *,
    kernel: str = "alternating",
    n_samples: int = 4096,
    n_replicates: int = 512,
    seed: int = 0,
) -> tuple[QEstimate, EstimatedGradient]:
    """Q as :func:`thermokernels.estimate_q` gives it, and its gradient with respect to couplings and fields.

        dT/dW_kl = Cov_pi(v_k h_l, f~ y) + E_pi[ y* (dP/dW_kl y) ],      dQ = Q ( d|g|^2 / |g|^2 - dT / T )

    dT and d|g|^2 have no bias; dQ is as good as |g|^2 and T, whose errors are in its own. The cost of a sample is that of n_v + n_h
    excursions of pairs that differ in one spin, which end after a few sweeps.

    Parameters
    ----------
    model, data, window, kernel, n_replicates, seed : as in :func:`thermokernels.estimate_q`, with products v_i h_j of spins as observables
    n_samples : states that samples of the gradient begin from, filled up to a multiple of 64

    Raises
    ------
    ValueError
        Bad arguments.
    NotConvergedError
        Chains do not meet, so that nothing can be estimated.

    Examples
    --------
    >>> import adjoints
    >>> estimate, gradient = adjoints.estimate_q([[0.3]], None, n_samples=2048)
    >>> bool(abs(gradient.dt_dW[0, 0] + 0.533) < 5 * gradient.dt_dW_error[0, 0])
    True
    """
    checked = model_of(model)
    n_tasks = -(-arguments.as_count(n_samples, "n_samples", 2 * TASK) // TASK)
    estimate = estimate_q(checked, data, window, kernel, n_replicates=n_replicates, seed=seed)
    if not math.isfinite(estimate.t_obs):
        raise NotConvergedError(f"the gradient cannot be estimated: {estimate.reason}")
    samples = None if data is None else arguments.as_samples(data, "data")
    schedule = Schedule(estimate.kappa, not checked.has_fields, 1, max(1, estimate.lag), 1, estimate.cap)
    key = np.random.SeedSequence([seed, 2]).generate_state(1, np.uint64)[0]
    parts: list[_Part | None] = [None] * n_tasks

    def run(task: int) -> None:
        parts[task] = _Part.of(checked, KERNELS.index(estimate.kernel), schedule, estimate.t_obs, np.uint64(key), task * TASK)

    threads.for_each(run, n_tasks, threads.LARGEST_OWN_WORK + 1)
    done = [part for part in parts if part is not None and part.sound]
    if len(done) < n_tasks:
        raise NotConvergedError(f"the gradient cannot be estimated: a pair of chains did not meet within {estimate.cap} sweeps")
    return estimate, _gradient(checked, samples, estimate, done)


@dataclass(frozen=True, eq=False)
class _Part:
    """Means of dT (n_v + 1, n_h + 1) over the samples of a task, the fields in the last column and row, and the states (64, N) that they
    began from with their signed weights (64,)."""

    dt: Floats
    states: NDArray[np.int8]
    signs: Floats
    sound: bool

    @classmethod
    def of(cls, model: Model, kernel: int, schedule: Schedule, time: float, key: np.uint64, first: int) -> _Part:
        n_visible, n_hidden = model.n_visible, model.n_hidden
        atoms, weights = np.empty((TASK, 1, model.n_spins), np.int8), np.empty((TASK, 1))
        meetings, pairs, table = np.empty(TASK, np.int64), new_pairs(n_visible, n_hidden), block_model(model)
        lanes = pairs.generators.shape[1]
        for head in range(0, TASK, lanes):
            rows = slice(head, head + lanes)
            _lag_pairs(table, pairs, schedule, key, first + head, atoms[rows], weights[rows], meetings[rows])
        states, signs = np.ascontiguousarray(atoms[:, 0]), np.ascontiguousarray(weights[:, 0])
        dt = np.zeros((n_visible + 1, n_hidden + 1))
        sound = bool((meetings >= 0).all())
        if sound:
            tables = couplings(model), side_by_side(model), _edges(model)
            sound = bool(_gradient_samples(kernel, *tables, schedule, time, key, first, states, signs, dt))
        if not model.has_fields:  # T_O is even in the fields, and the starts stand for pairs {x, -x}
            dt[-1], dt[:, -1] = 0.0, 0.0
        dt[:-1, :-1] = model.on_edges(dt[:-1, :-1])
        return cls(dt, states, signs, sound)


def _edges(model: Model) -> Floats:
    """(n_v, n_h): 1 where a coupling exists, else 0."""
    return model.edges.reshape(model.W.shape).astype(np.float64)


def _gradient(model: Model, samples: Floats | None, estimate: QEstimate, parts: list[_Part]) -> EstimatedGradient:
    batches = [parts[k :: min(BATCHES, len(parts))] for k in range(min(BATCHES, len(parts)))]
    dt = [np.mean([part.dt for part in batch], axis=0) for batch in batches]
    nothing = np.full(dt[0].shape, math.nan)
    found = *_mean(dt), *((nothing, nothing) if samples is None else _of_q(model, samples, estimate, batches, dt))
    split: dict[str, Floats] = {}
    for name, array in zip(("dt_d{}", "dt_d{}_error", "dq_d{}", "dq_d{}_error"), found, strict=True):
        parts_of = {"W": array[:-1, :-1], "b": array[:-1, -1], "c": array[-1, :-1]}
        split |= {name.format(field): part for field, part in parts_of.items()}
    return EstimatedGradient(**split, n_samples=TASK * len(parts))


def _mean(rows: list[Floats]) -> tuple[Floats, Floats]:
    """The mean of independent arrays and its standard error."""
    stack = np.array(rows)
    return stack.mean(axis=0), stack.std(axis=0, ddof=1) / math.sqrt(len(stack))


def _of_q(model: Model, samples: Floats, estimate: QEstimate, batches: list[list[_Part]], dt: list[Floats]) -> tuple[Floats, Floats]:
    """dQ with its errors: the g of a batch comes from the next one, so that their product has no bias and its spread is seen."""
    signal, t_obs, half_window = estimate.signal, estimate.t_obs, 0.5 * estimate.window * estimate.steps_per_sweep
    means = np.tanh(samples @ model.W + model.c)
    data_means, slopes = samples.T @ means / len(samples), 1 - means**2
    states = [np.concatenate([part.states for part in batch]).astype(np.float64) for batch in batches]
    signs = [np.concatenate([part.signs for part in batch]) for batch in batches]
    ds = []
    for k in range(len(batches)):
        g = model.on_edges(_model_part(model, states[k - 1], signs[k - 1], data_means))
        data_part = np.zeros(dt[0].shape)
        data_part[:, :-1] = _with_one(samples).T @ (slopes * (samples @ g)) / len(samples)
        by_signal = 2 * (_covariance(model, states[k], signs[k], g) - data_part)
        by_signal[:-1, :-1] = model.on_edges(by_signal[:-1, :-1])
        ds.append(by_signal)
    rows = [half_window * (by_signal / t_obs - signal * by_time / t_obs**2) for by_signal, by_time in zip(ds, dt, strict=True)]
    dq, sampling = _mean(rows)
    mean_dt = np.mean(dt, axis=0)
    of_time = half_window * (2 * signal * mean_dt / t_obs**3 - np.mean(ds, axis=0) / t_obs**2)
    of_signal = half_window * mean_dt / t_obs**2
    quantile = float(scipy.special.ndtri(0.5 + LEVEL / 2))  # two-sided, to make standard errors of the intervals
    errors = [(high - low) / (2 * quantile) for low, high in (estimate.t_obs_interval, estimate.signal_interval)]
    return dq, np.sqrt(sampling**2 + (of_time * errors[0]) ** 2 + (of_signal * errors[1]) ** 2)


def _with_one(rows: Floats) -> Floats:
    """A column of ones beside them, for the field."""
    return np.hstack([rows, np.ones((len(rows), 1))])


def _model_part(model: Model, states: Floats, signs: Floats, data_means: Floats) -> Floats:
    """g = E_pi[v E[h | v]'] - E_data[...], from weighted states."""
    v = states[:, : model.n_visible]
    means: Floats = (signs[:, None] * v).T @ np.tanh(v @ model.W + model.c) / len(v) - signs.mean() * data_means
    return means


def _covariance(model: Model, states: Floats, signs: Floats, g: Floats) -> Floats:
    """Cov_pi((v, 1)(h, 1)', < g, v h' >) from differences of each state and the next one: no mean to subtract."""
    v, h = states[:, : model.n_visible], states[:, model.n_visible :]
    along = ((v @ g) * h).sum(axis=1)
    factor = 0.5 * signs * np.roll(signs, -1) * (along - np.roll(along, -1)) / len(v)
    v, h = _with_one(v), _with_one(h)
    after_v, after_h = np.roll(v, -1, axis=0), np.roll(h, -1, axis=0)
    covariance: Floats = (factor[:, None] * v).T @ h - (factor[:, None] * after_v).T @ after_h
    if not model.has_fields:  # states stand for pairs {x, -x}
        covariance[-1], covariance[:, -1] = 0.0, 0.0
    return covariance
