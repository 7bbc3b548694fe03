"""Q of a model of any size on its Gibbs sampler, with an interval, from coupled chains that say when they are done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import arguments, memory, threads
from thermokernels.common.error_state import default_error_state
from thermokernels.estimates.bounds.lower_bound import variance_time_at_least
from thermokernels.estimates.coupling.lag_pairs import Schedule
from thermokernels.estimates.pilot import Pilot, most_sweeps
from thermokernels.estimates.pool import Pool
from thermokernels.estimates.problem import Problem
from thermokernels.estimates.replicates import Batch, OutOfTime, Question, grain, run_batch
from thermokernels.estimates.result import QEstimate
from thermokernels.estimates.running import FEWEST_IN_HAND, Pace, run_tasks
from thermokernels.estimates.statistics import trust
from thermokernels.estimates.statistics.batch_means import BatchMeans
from thermokernels.estimates.statistics.intervals import Interval
from thermokernels.estimates.tally import BYTES, MOST, Tally, filled
from thermokernels.model.model import Model
from thermokernels.solvers.checkpoint import PathLike, RestartFile
from thermokernels.solvers.solve import as_executor

# Replicates where neither a number nor a precision nor a budget is given, and of the first look where a precision is.
DEFAULT, FIRST_LOOK = 512, 512
# Share of a budget that shows how many replicates go into the rest, and share that these are to fill.
LOOK, FULL = 0.1, 0.95
# What was begun in a budget may take so much of it longer, and so many seconds.
OVER, GRACE = 0.25, 1.0
# Seconds between two states of a checkpoint.
KEEP_EVERY = 5.0

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
    checkpoint: PathLike | None = None,
    like: QEstimate | None = None,
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
    budget : seconds, from which a pilot makes a number of replicates; all that are started are finished. Where that takes more than a
        quarter and a second longer there is no estimate: an average over those that are finished would be one of quick ones
    n_replicates : that number itself, filled up to a multiple of 8; with the same seed it gives the same bits, whatever the number of
        threads and workers
    seed : int >= 0
    executor : a ``concurrent.futures.Executor`` for tasks of some replicates each; None for threads of this process
    observables : "products" v_i h_j, or "expected" v_i E[h_j | v]
    units : "pm1", or "zero-one": gradients with respect to couplings between units 0 and 1
    fields : whether the gradients of b and c belong to it
    progress : called as ``progress(done, total, interval of T_O so far in steps)`` between tasks
    stop : asked between tasks; where it says True no more are begun. It must not know any results
    checkpoint : file that keeps what is finished; the same call goes on from it, with the same bits in the end as without an interruption.
        A ``budget`` is then what is added
    like : estimate of a similar model, such as the last checkpoint of a training: its coupling is tried alone, which halves the pilot

    Raises
    ------
    ValueError
        Bad arguments, a budget that is used up before the first replicate, or a checkpoint of another question.
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
    >>> estimate.trusted, low < 8.350458 < high  # T_O in steps, of all states
    (True, True)
    """
    problem = Problem.of(model, data, window, kernel, observables, units, fields)
    executor, progress = as_executor(executor), arguments.as_callback(progress, "progress")
    key = as_key(seed)
    precision, budget, n_wanted = as_effort(precision, budget, n_replicates)
    if not (like is None or isinstance(like, QEstimate)):
        raise ValueError(f"like must be a QEstimate or None; got {arguments.in_brief(like)}")
    path = arguments.as_path(checkpoint, "checkpoint")
    kept = None if path is None else RestartFile(path, problem.inputs | {"key": key})
    state = {} if kept is None else kept.load()
    _warm_up(kernel, observables, problem.model.mask is not None)

    began = time.perf_counter()
    pilot = Pilot.from_arrays(state) if state else problem.pilot(key, budget, None if like is None else like.kappa)
    if pilot.schedule is None:
        is_cut = pilot.cap < most_sweeps(*problem.shape, None)
        result = problem.without_estimate(pilot.meetings, pilot, trust.unmet(pilot.unmet, pilot.cap, is_cut))
        return _with_lower_bound(result, problem, int(seed), budget)
    left = math.inf if budget is None else budget - (time.perf_counter() - began)
    if left <= 0:
        raise ValueError(f"budget must last longer than the pilot, which took {time.perf_counter() - began:.2g} s; got {budget:g} s")
    deadline = math.inf if budget is None else time.monotonic() + left + OVER * budget + GRACE
    question = problem.question(pilot.schedule, int(key))
    pool = Pool(executor, deadline)
    tally = Tally(problem, pilot, BatchMeans(question, int(seed), pool))
    if state:
        tally.load(state)
    run = _Run(question, tally, pool, progress, stop or (lambda: False), kept)
    try:
        with pool:
            if n_wanted is not None:
                run.up_to(n_wanted)
            elif budget is not None:
                run.within(left, precision)
            elif precision is not None:
                run.to(precision, MOST)
            else:
                run.up_to(DEFAULT)
            result = tally.answer()
    except OutOfTime:
        run.save()
        assert budget is not None
        return problem.without_estimate(
            pilot.meetings, pilot, trust.out_of_time(budget, run.done, run.wanted, run.seconds_for(trust.FEWEST))
        )
    if precision is not None and run.done < run.asked_for and (reached := tally.half_width(result)) > precision:
        needed = run.done * (reached / precision) ** 2
        seconds = run.seconds_for(needed) if needed <= MOST else math.inf
        result = replace(result, shortfall=trust.shortfall(precision, reached, seconds, MOST))
    if budget is not None and 0 < result.n_replicates < trust.FEWEST and math.isfinite(result.t_obs):
        result = replace(result, reason=f"{result.reason}, which take about {run.seconds_for(trust.FEWEST):.2g} s")
    return _with_lower_bound(result, problem, int(seed), budget)


def _with_lower_bound(result: QEstimate, problem: Problem, seed: int, budget: float | None) -> QEstimate:
    """What still holds where there is no estimate, or where rare events dominate it; of a quarter of the budget, whatever a clock says."""
    dominated = result.n_replicates >= trust.FEWEST and result.largest_share > trust.LARGEST_SHARE
    if math.isfinite(result.t_obs) and not dominated:
        return result
    seconds = None if budget is None else OVER * budget
    at_least = variance_time_at_least(problem.model, problem.kernel, problem.features, problem.quotient, seed, seconds)
    return replace(result, t_obs_at_least=at_least)


@cache
def _warm_up(kernel: str, observables: str, masked: bool) -> None:
    """Compile, or load, the kernels before a clock runs."""
    model = Model(np.zeros((2, 2)), mask=[[True, True], [True, False]] if masked else None)
    problem = Problem.of(model, None, 1.0, kernel, observables, "pm1", False)
    problem.pilot(np.uint64(0), None, None)
    run_batch(problem.question(Schedule(0.0, True, 1, 1, 2, 1000), 0, True), 0, 2)


def as_effort(precision: Any, budget: Any, n_replicates: Any) -> tuple[float | None, float | None, int | None]:
    """How much is to be done: the three as they are used, the number filled up; else ValueError."""
    precision = None if precision is None else arguments.as_positive(precision, "precision", "parts of the value")
    budget = None if budget is None else arguments.as_positive(budget, "budget", "seconds")
    if n_replicates is None:
        return precision, budget, None
    n_wanted = filled(arguments.as_count(n_replicates, "n_replicates"))
    if not (precision is None and budget is None):
        raise ValueError("n_replicates must be given alone, without precision and budget; they choose it")
    memory.require(BYTES * n_wanted, f"{n_wanted} replicates", "use fewer")
    return None, None, n_wanted


def as_key(seed: Any) -> np.uint64:
    """The key of all random numbers; else ValueError."""
    if isinstance(seed, np.random.SeedSequence):  # batch means and bounds have streams of their own, named by the number
        raise ValueError(f"seed must be a nonnegative integer; got {arguments.in_brief(seed)}")
    return np.uint64(arguments.as_seed(seed).generate_state(1, np.uint64)[0])


@dataclass
class _Run:
    """Replicates up to a number that grows; none is begun after ``ends_at``.

    OutOfTime where the deadline of the pool passes before all that were begun are finished.
    """

    question: Question
    tally: Tally
    pool: Pool
    progress: Progress | None
    stop: Callable[[], bool]
    kept: RestartFile | None
    pace: Pace = field(default_factory=Pace)
    saved_at: float = field(default_factory=time.monotonic)
    wanted: int = 0
    asked_for: int = FIRST_LOOK  # by the precision
    ends_at: float = math.inf

    @property
    def done(self) -> int:
        return self.tally.n_replicates

    def up_to(self, n_replicates: int) -> None:
        """Run replicates until there are so many, one was lost or somebody says stop."""

        def take(batch: Batch) -> None:
            self.tally.take(batch)
            if self.progress is not None:
                self.progress(self.done, n_replicates, self.tally.interval())
            if time.monotonic() > self.saved_at + KEEP_EVERY:
                self.save()

        def stop() -> bool:
            return self.tally.n_lost > 0 or time.monotonic() > self.ends_at or self.stop()

        self.wanted = n_replicates
        if self.done < n_replicates:
            if n_replicates >= trust.FEWEST and self.ends_at == math.inf and not stop():
                self.tally.batches.start()  # the longest tasks first
            run_tasks(self.question, self.done, n_replicates, self.pool, self.pace, take, stop)
            self.save()

    def within(self, seconds: float, precision: float | None) -> None:
        """As many as go into so many seconds, or as the precision asks for: a few show how long they take."""
        before, self.ends_at = self.done, time.monotonic() + seconds
        self.up_to(before + grain(self.question) * (threads.get_threads() if self.pool.executor is None else FEWEST_IN_HAND))
        self.up_to(before + filled(self.pace.replicates_in(LOOK * seconds)))
        if self.tally.batches.are_wanted and before + self.pace.replicates_in(FULL * seconds) >= trust.FEWEST:
            self._with_batch_means(0 if precision is not None else filled(self._in_time(seconds) // 2))
        in_time = self._in_time(seconds)
        if precision is None:
            self.up_to(in_time)
        else:
            self.to(precision, in_time)

    def _in_time(self, seconds: float) -> int:
        """How many there are when a budget of so many seconds is full."""
        return self.done + filled(self.pace.replicates_in(max(0.0, self.ends_at - time.monotonic() - (1 - FULL) * seconds)))

    def _with_batch_means(self, n_replicates: int) -> None:
        """Batch means, which have to go into the budget too, and replicates up to a number beside them."""
        began = time.monotonic()
        self.tally.batches.start()
        self.pace.seconds += time.monotonic() - began  # a single thread makes them there and then
        self.up_to(n_replicates)
        began = time.monotonic()
        if (found := self.tally.batches.result()) is not None:
            self.pace.beside = found[-1]
        self.pace.seconds += time.monotonic() - began

    def to(self, precision: float, most: int) -> None:
        """As many as the precision asks for, and no more than ``most``."""
        self.up_to(min(FIRST_LOOK, most))
        if not self.tally.n_lost and self.done:
            self.asked_for = self.tally.replicates_for(precision)
            self.up_to(min(self.asked_for, most))

    def seconds_for(self, n_replicates: float) -> float:
        """How long so many take, infinite where none is finished."""
        a_second = self.pace.replicates_in(1000.0) / 1000.0
        return n_replicates / a_second if a_second > 0 else math.inf

    def save(self) -> None:
        """Keep what is finished."""
        if self.kept is not None and self.tally.times:
            self.kept.save(self.tally.as_arrays() | self.tally.pilot.as_arrays())
            self.saved_at = time.monotonic()
