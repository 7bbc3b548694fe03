"""Q of a model of any size on its Gibbs sampler, with an interval, from coupled chains that say when they are done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermokernels.common import arguments, memory, threads
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.estimates import trust
from thermokernels.estimates.analytic_bound import variance_time_bound
from thermokernels.estimates.batch_means import batch_times
from thermokernels.estimates.correlations import data_correlations
from thermokernels.estimates.coupling.lag_pairs import Schedule
from thermokernels.estimates.coupling.layer_excursions import Features
from thermokernels.estimates.features import features_of, from_correlations
from thermokernels.estimates.intervals import Interval, controlled, fieller, jackknife_covariance, largest_share, mean_interval, quantile
from thermokernels.estimates.pilot import Pilot, run_pilot
from thermokernels.estimates.replicates import TASK, Batch, Question, couplings, run_batch
from thermokernels.estimates.result import NAN, NOWHERE, QEstimate
from thermokernels.estimates.running import Pace, run_tasks
from thermokernels.estimates.signal import Groups, Signal, estimate_signal
from thermokernels.model.kernels.registry import KERNELS, as_kernel
from thermokernels.model.model import Model, as_model
from thermokernels.quantities.alternating_scan import OBSERVABLES, UNITS
from thermokernels.sampling.samplers import block_model, require_moderate
from thermokernels.solvers.solve import as_executor

# Replicates where neither a number nor a precision nor a budget is given, and of the first look where a precision is.
DEFAULT, FIRST_LOOK = 512, 512
# Share of a budget that shows how many replicates go into the rest.
LOOK = 0.1
# A precision never asks for more.
MOST = 10_000_000

Progress = Callable[[int, int, Interval], object]


@default_error_state
def estimate_q(
    model: Any,
    data: ArrayLike | None,
    window: float = 100.0,
    kernel: str = "alternating",
    *,
    precision: float | None = None,
    budget: float | None = None,
    n_replicates: int | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    observables: str = "products",
    units: str = "pm1",
    fields: bool = False,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> QEstimate:
    """Q = (K / 2) |g|^2 / T_O of a model of any size, with intervals of 95 %, from coupled Gibbs chains.

    For X_0, Y_0 ~ pi independent and two chains coupled so that they meet, at time tau, and stay together,

        T_O = (1/2) E sum_(t < tau) < f(X_0) - f(Y_0), f(X_t) - f(Y_t) >

    without bias, a mean to subtract or a burn-in to guess: starts of law pi come from pairs of chains with a lag, which meet too. Where
    they do not meet there is no estimate: the answer is not trusted, says why, and keeps what still holds.

    Parameters
    ----------
    model : Model, couplings W (n_v, n_h), or a tuple (W, b, c)
    data : (n, n_v) samples of spins +1 and -1, whose law is the data law; None for T_O and the asymptotic variance alone
    window : K in sweeps: N steps of "single-site", two of "two-block", one of "alternating"
    kernel : "alternating" (all visible spins given the hidden ones, then all hidden ones; one record a sweep), "two-block" or "single-site"
    precision : wanted half width of the interval, relative to the value (of Q, or of T_O without data)
    budget : seconds, from which a pilot makes a number of replicates; all that are started are finished
    n_replicates : that number itself, filled up to a multiple of 32; with the same seed it gives the same bits, whatever the number of
        threads and workers
    seed : int >= 0
    executor : a ``concurrent.futures.Executor`` for tasks of 32 replicates; None for threads of this process
    observables : "products" v_i h_j, or "expected" v_i E[h_j | v]
    units : "pm1", or "zero-one": gradients with respect to couplings between units 0 and 1
    fields : whether the gradients of b and c belong to it
    progress : called as ``progress(done, total, interval of T_O so far in steps)`` between tasks
    stop : asked between tasks; where it says True no more are begun. It must not know any results

    Raises
    ------
    ValueError
        Bad arguments, or a budget that is used up before the first replicate.
    ModelTooLargeError
        The chains do not fit into memory; the message says what they would take.
    ExecutorError
        The executor lost a task three times.

    References
    ----------
    Jacob, O'Leary and Atchade (2020); Biswas, Jacob and Vanetti (2019); Douc, Jacob, Lee and Vats, arXiv 2206.05691.

    Examples
    --------
    >>> import thermokernels as tk
    >>> estimate = tk.estimate_q([[0.4, 0.1], [-0.2, 0.3]], [[1, 1], [1, -1], [1, 1]], kernel="single-site", n_replicates=1024)
    >>> low, high = estimate.t_obs_interval
    >>> estimate.trusted, low < 8.5 < high  # T_O is 8.52 steps
    (True, True)
    """
    problem = _Problem.of(model, data, window, kernel, observables, units, fields)
    executor, progress = as_executor(executor), arguments.as_callback(progress, "progress")
    key = _key(seed)
    precision = None if precision is None else arguments.as_positive(precision, "precision", "parts of the value")
    budget = None if budget is None else arguments.as_positive(budget, "budget", "seconds")
    n_tasks = None if n_replicates is None else -(-arguments.as_count(n_replicates, "n_replicates") // TASK)
    if n_tasks is not None and not (precision is None and budget is None):
        raise ValueError("n_replicates must be given alone, without precision and budget; they choose it")
    _warm_up(kernel, observables)

    began = time.perf_counter()
    pilot = run_pilot(problem.block_model, *problem.shape, problem.quotient, key, budget)
    if pilot.schedule is None:
        return problem.without_estimate(pilot.meetings, pilot, trust.unmet(pilot.unmet, pilot.cap))
    left = math.inf if budget is None else budget - (time.perf_counter() - began)
    if left <= 0:
        raise ValueError(f"budget must last longer than the pilot, which took {time.perf_counter() - began:.1f} s; got {budget:g} s")
    tally = _Tally(problem, pilot, int(seed))
    question = problem.question(pilot.schedule, int(key))
    run = _Run(question, tally, executor, progress, stop or (lambda: False))
    if n_tasks is not None:
        run.up_to(n_tasks)
    elif budget is not None:
        run.up_to(threads.get_threads())
        run.up_to(run.pace.tasks_in(LOOK * left))
        run.up_to(max(1, run.pace.tasks_in(left)) if precision is None else min(FIRST_LOOK // TASK, max(1, run.pace.tasks_in(left))))
    if precision is not None:
        run.up_to(FIRST_LOOK // TASK if budget is None else run.done)
        if not tally.n_lost:
            wanted = tally.tasks_for(precision)
            run.up_to(wanted if budget is None else min(wanted, max(1, run.pace.tasks_in(left))))
    elif n_tasks is None and budget is None:
        run.up_to(DEFAULT // TASK)
    return tally.answer()


@cache
def _warm_up(kernel: str, observables: str) -> None:
    """Compile, or load, the kernels before a clock runs."""
    problem = _Problem.of(np.zeros((1, 1)), None, 1.0, kernel, observables, "pm1", False)
    run_pilot(problem.block_model, 1, 1, True, np.uint64(0), None)
    run_batch(problem.question(Schedule(0.0, True, 1, 1, 2, 1000), 0, True), 0, 2)


def _key(seed: Any) -> np.uint64:
    return np.uint64(arguments.as_seed(seed).generate_state(1, np.uint64)[0])


def model_of(model: Any) -> Model:
    """A model from couplings, a tuple (W, b, c) or a Model; its fields must be moderate enough for float32."""
    checked = as_model(*model) if isinstance(model, tuple) and len(model) == 3 and np.ndim(model[0]) == 2 else as_model(model)
    checked.require_all_couplings("an estimate by coupled chains")
    require_moderate(checked)
    return checked


@dataclass(frozen=True, eq=False)
class _Problem:
    """The checked question."""

    model: Model
    samples: Floats | None
    window: float
    kernel: str
    observables: str
    units: str
    fields: bool

    @classmethod
    def of(cls, model: Any, data: ArrayLike | None, window: float, kernel: str, observables: str, units: str, fields: bool) -> _Problem:
        model = model_of(model)
        n_visible, n_hidden = model.W.shape
        samples = None if data is None else arguments.as_samples(data, "data")
        if samples is not None and samples.shape[1] != n_visible:
            raise ValueError(f"data must have a column for each of the {n_visible} visible spins; got shape {samples.shape}")
        problem = cls(
            model,
            samples,
            arguments.as_positive(window, "window", "sweeps"),
            as_kernel(kernel, lambda one: one.coupled).name,
            arguments.as_choice(observables, OBSERVABLES, "observables"),
            arguments.as_choice(units, UNITS, "units"),
            arguments.as_flag(fields, "fields"),
        )
        n_spins, n_weights = n_visible + n_hidden, n_visible * n_hidden
        n_bytes = 64 * 64 * n_spins * 3 + 8 * n_weights * (4 if data is None else 52)
        memory.require(n_bytes, f"coupled chains of {n_spins} spins", "estimate a smaller model")
        return problem

    @property
    def shape(self) -> tuple[int, int]:
        return self.model.n_visible, self.model.n_hidden

    @property
    def quotient(self) -> bool:
        """Whether x and -x are one: energy and observables have to be even."""
        even = self.units == "pm1" and not self.fields
        return even and not self.model.has_fields

    @property
    def steps_per_sweep(self) -> int:
        return KERNELS[self.kernel].steps_per_sweep(self.model.n_spins)

    @property
    def block_model(self) -> Any:
        return block_model(self.model)

    @property
    def features(self) -> Features:
        return features_of(*self.shape, self.observables, self.units, self.fields)

    def question(self, schedule: Schedule, key: int, with_correlations: bool | None = None) -> Question:
        """What a task is asked."""
        with_correlations = self.samples is not None if with_correlations is None else with_correlations
        return Question(self.model, self.kernel, self.features, schedule, key, with_correlations)

    def data_means(self) -> Floats:
        """E_data a(v) E[b | v]' as one vector."""
        assert self.samples is not None
        return from_correlations(data_correlations(couplings(self.model), self.samples), self.units, self.fields)

    def without_estimate(self, meetings: NDArray[np.int64], pilot: Pilot, reason: str) -> QEstimate:
        """An answer where chains do not meet."""
        return self.answer(pilot, meetings, trusted=False, reason=reason)

    def answer(self, pilot: Pilot, meetings: NDArray[np.int64], **known: Any) -> QEstimate:
        """A result with what is known; the rest is NaN."""
        schedule = pilot.schedule
        lag = schedule.interval * schedule.n_intervals if schedule else 0
        estimated = ("", "t_obs", "signal", "asymptotic_variance", "window_for_unit_q", "batch_means")
        nothing: dict[str, Any] = {
            name or "value": NAN for name in (*estimated, "tv_bound", "largest_share", "batch_means_bias", "t_obs_at_least")
        }
        nothing |= {f"{name}_interval".lstrip("_"): NOWHERE for name in estimated}
        rest: dict[str, Any] = {
            "n_replicates": 0,
            "g": np.full(self.shape, NAN),
            "t_obs_at_most": variance_time_bound(self.model, self.kernel, self.units, self.fields),
            "replicates": np.empty(0),
            "kernel": self.kernel,
            "window": self.window,
            "steps_per_sweep": self.steps_per_sweep,
            "kappa": pilot.kappa,
            "lag": lag,
            "cap": schedule.cap if schedule else pilot.cap,
            "meeting_times": meetings,
        }
        return QEstimate(**(nothing | rest | known))


class _Tally:
    """Replicates as they come, in order."""

    def __init__(self, problem: _Problem, pilot: Pilot, seed: int) -> None:
        self.problem, self.pilot, self.seed = problem, pilot, seed
        self.batches: tuple[tuple[Floats, int] | None] | None = None
        self.times: list[Floats] = []
        self.zero_lags: list[Floats] = []
        self.weights: list[Floats] = []
        self.first_moments: list[Floats] = []
        self.meetings: list[NDArray[np.int64]] = []
        self.n_lost = self.n_replicates = 0
        self.data = problem.data_means() if problem.samples is not None else None
        self.groups = Groups(0 if self.data is None else self.data.size)

    def take(self, batch: Batch) -> None:
        """One more task."""
        first = self.n_replicates
        self.n_replicates += len(batch.times)
        self.times.append(batch.times)
        self.zero_lags.append(batch.zero_lags)
        self.weights.append(batch.weights)
        self.first_moments.append(batch.first_moments)
        self.meetings.append(batch.meetings)
        self.n_lost += batch.n_lost
        for k, correlations in enumerate(batch.correlations):
            sums = from_correlations(correlations, self.problem.units, self.problem.fields)
            count = len(batch.times) // len(batch.correlations)
            self.groups.take(sums, float(correlations[-1, -1]), count, first + k * count)

    def interval(self) -> Interval:
        """Of T_O so far."""
        return NOWHERE if self.n_lost or self.n_replicates < 2 else mean_interval(self._controlled(self.times))

    def _controlled(self, sums: list[Floats]) -> Floats:
        return controlled(np.concatenate(sums), np.concatenate(self.weights))

    def tasks_for(self, precision: float) -> int:
        """How many tasks give an interval of this relative half width."""
        answer = self.answer()
        value, interval = (answer.t_obs, answer.t_obs_interval) if self.data is None else (answer.value, answer.interval)
        half = (interval[1] - interval[0]) / (2 * abs(value))
        wanted = self.n_replicates * (half / precision) ** 2
        return -(-int(min(wanted, MOST) if math.isfinite(wanted) else MOST) // TASK)

    def answer(self) -> QEstimate:
        """The result of what has come."""
        if not self.times:
            return self.problem.without_estimate(self.pilot.meetings, self.pilot, "it was stopped before the first replicate was begun")
        meetings = np.concatenate(self.meetings)
        if self.n_lost:
            assert self.pilot.schedule is not None
            return self.problem.without_estimate(meetings, self.pilot, trust.given_up(self.n_lost, self.pilot.schedule.cap))
        times, variances = self._controlled(self.times), self._controlled(self.zero_lags)
        asymptotic = 2 * times - variances
        t_obs_interval, share = mean_interval(times), largest_share(times)
        batches = self._batch_means(float(times.mean()))
        reason = trust.doubt(len(times), share, t_obs_interval, batches["batch_means_interval"], batches["batch_means_bias"])
        known: dict[str, Any] = {
            "t_obs": float(times.mean()),
            "t_obs_interval": t_obs_interval,
            "asymptotic_variance": float(asymptotic.mean()),
            "asymptotic_variance_interval": mean_interval(asymptotic),
            "largest_share": share,
            "n_replicates": len(times),
            "replicates": times,
        } | batches
        assert self.pilot.schedule is not None
        lag = self.pilot.schedule.interval * self.pilot.schedule.n_intervals
        known["tv_bound"] = float(np.maximum(0, -(-(meetings - lag) // lag)).mean())
        if self.data is not None:
            known |= self._ratio(times, estimate_signal(self.groups, self.data))
        return self.problem.answer(self.pilot, meetings, trusted=not reason, reason=reason, **known)

    def _batch_means(self, t_obs: float) -> dict[str, Any]:
        """Batch means of the alternating scan where they are quick, once a run."""
        nothing = {"batch_means": NAN, "batch_means_interval": NOWHERE, "batch_means_bias": NAN}
        if KERNELS[self.problem.kernel].scan != "alternating" or self.n_replicates < trust.FEWEST:
            return nothing
        if self.batches is None:
            assert self.pilot.schedule is not None
            self.batches = (batch_times(self.problem.model, self.problem.features, self.pilot.schedule, self.seed),)
        (found,) = self.batches
        if found is None:
            return nothing
        times, length = found
        bias = float(np.concatenate(self.first_moments).mean()) / (length * t_obs)
        return {"batch_means": float(times.mean()), "batch_means_interval": mean_interval(times), "batch_means_bias": abs(bias)}

    def _ratio(self, times: Floats, signal: Signal) -> dict[str, Any]:
        """Q and the window for Q = 1, by Fieller's intervals."""
        assert self.data is not None
        steps = self.problem.steps_per_sweep
        total, n = times.sum(), len(times)
        times_left = np.array([(total - times[members].sum()) / (n - len(members)) for members in signal.members])
        covariance = jackknife_covariance(np.stack([signal.left_out, times_left], axis=1))
        degrees = len(signal.members) - 1
        half_window = 0.5 * self.problem.window * steps
        low, high = (float(half_window * end) for end in fieller(signal.value, total / n, covariance, degrees))
        value = half_window * signal.value / float(total / n)
        half = math.sqrt(covariance[0, 0]) * quantile(degrees)
        n_weights = self.problem.model.W.size
        return {
            "value": value,
            "interval": (low, high),
            "signal": signal.value,
            "signal_interval": (signal.value - half, signal.value + half),
            "window_for_unit_q": _over(self.problem.window, value),
            "window_for_unit_q_interval": (_over(self.problem.window, high), _over(self.problem.window, low)),
            "g": signal.g[:n_weights].reshape(self.problem.shape),
        }


def _over(window: float, q: float) -> float:
    """The window for Q = 1, infinite where Q may be zero."""
    return window / q if q > 0 else math.inf


@dataclass
class _Run:
    """Tasks up to a number that grows."""

    question: Question
    tally: _Tally
    executor: Executor | None
    progress: Progress | None
    stop: Callable[[], bool]
    done: int = 0

    def __post_init__(self) -> None:
        self.pace = Pace()

    def up_to(self, n_tasks: int) -> None:
        """Run tasks until there are so many, none was lost and nobody says stop."""

        def take(batches: list[Batch]) -> None:
            for batch in batches:
                self.tally.take(batch)
            if self.progress is not None:
                self.progress(self.tally.n_replicates, n_tasks * TASK, self.tally.interval())

        def stop() -> bool:
            return self.tally.n_lost > 0 or self.stop()

        self.done = max(self.done, run_tasks(self.question, self.done, n_tasks, self.executor, self.pace, take, stop))
