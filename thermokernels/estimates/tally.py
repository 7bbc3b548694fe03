"""Replicates as they come, added up in order, and the answer that they give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats
from thermokernels.estimates.features import from_correlations
from thermokernels.estimates.pilot import Pilot
from thermokernels.estimates.problem import Problem
from thermokernels.estimates.replicates import GROUP, Batch
from thermokernels.estimates.result import NAN, NOWHERE, QEstimate
from thermokernels.estimates.statistics import trust
from thermokernels.estimates.statistics.batch_means import BatchMeans
from thermokernels.estimates.statistics.intervals import Interval, controlled, fieller, largest_share, mean_interval
from thermokernels.estimates.statistics.signal import FEWEST_GROUPS, Groups, Signal, estimate_signal

# What comes for each replicate.
SERIES = ("times", "zero_lags", "weights", "first_moments", "meetings")
# Bytes of a replicate in them: two meetings, and its number in the answer.
BYTES = 8 * (len(SERIES) + 2)
# A precision never asks for more replicates.
MOST = 10_000_000


def filled(n_replicates: int) -> int:
    """The number, filled up to whole groups."""
    return -(-n_replicates // GROUP) * GROUP


class Tally:
    """Replicates as they come, in order."""

    def __init__(self, problem: Problem, pilot: Pilot, batches: BatchMeans) -> None:
        self.problem, self.pilot, self.batches = problem, pilot, batches
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
            sums = from_correlations(self.problem.model, correlations, self.problem.units, self.problem.fields)
            count = len(batch.times) // len(batch.correlations)
            self.groups.take(sums, float(correlations[-1, -1]), count, first + k * count)

    def as_arrays(self) -> dict[str, Any]:
        """All that has come, for a checkpoint."""
        return {name: np.concatenate(getattr(self, name)) for name in SERIES} | {"n_lost": self.n_lost} | self.groups.as_arrays()

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint has kept."""
        for name in SERIES:
            setattr(self, name, [state[name]])
        self.n_lost, self.n_replicates = int(state["n_lost"]), len(state["times"])
        self.groups.load(state)

    def interval(self) -> Interval:
        """Of T_O so far."""
        return NOWHERE if self.n_lost or self.n_replicates < 2 else mean_interval(self._controlled(self.times))

    def _controlled(self, sums: list[Floats]) -> Floats:
        return controlled(np.concatenate(sums), np.concatenate(self.weights))

    def replicates_for(self, precision: float) -> int:
        """How many replicates give an interval of this relative half width; no more than MOST."""
        wanted = self.n_replicates * (self.half_width(self.answer()) / precision) ** 2
        return filled(int(min(wanted, MOST)))

    def half_width(self, answer: QEstimate) -> float:
        """Of the interval of Q, or of T_O without data, relative to the value; infinite where either is not known."""
        value, (low, high) = (answer.t_obs, answer.t_obs_interval) if self.data is None else (answer.value, answer.interval)
        half = (high - low) / (2 * abs(value)) if value else math.inf
        return half if math.isfinite(half) else math.inf

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
        if self.data is not None and len(self.groups.counts) >= FEWEST_GROUPS:
            known |= self._ratio(times, estimate_signal(self.groups, self.data))
        return self.problem.answer(self.pilot, meetings, trusted=not reason, reason=reason, **known)

    def _batch_means(self, t_obs: float) -> dict[str, Any]:
        """Batch means beside enough replicates."""
        found = self.batches.result() if self.n_replicates >= trust.FEWEST else None
        if found is None:
            return {"batch_means": NAN, "batch_means_interval": NOWHERE, "batch_means_bias": NAN}
        times, length, _ = found
        bias = float(np.concatenate(self.first_moments).mean()) / (length * t_obs)
        return {"batch_means": float(times.mean()), "batch_means_interval": mean_interval(times), "batch_means_bias": abs(bias)}

    def _ratio(self, times: Floats, signal: Signal) -> dict[str, Any]:
        """Q and the window for Q = 1, by Fieller's intervals."""
        assert self.data is not None
        steps = self.problem.steps_per_sweep
        total, n = times.sum(), len(times)
        times_left = np.array([(total - times[members].sum()) / (n - len(members)) for members in signal.members])
        left_out = np.stack([signal.left_out, times_left], axis=1)
        half_window = 0.5 * self.problem.window * steps
        low, high = (float(half_window * end) for end in fieller(signal.value, total / n, left_out))
        value = half_window * signal.value / float(total / n)
        alone = np.stack([signal.left_out, np.ones_like(times_left)], axis=1)
        n_weights = self.problem.model.W.size
        return {
            "value": value,
            "interval": (low, high),
            "signal": signal.value,
            "signal_interval": fieller(signal.value, 1.0, alone),
            "window_for_unit_q": _over(self.problem.window, value),
            "window_for_unit_q_interval": (_over(self.problem.window, high), _over(self.problem.window, low)),
            "g": signal.g[:n_weights].reshape(self.problem.shape),
        }


def _over(window: float, q: float) -> float:
    """The window for Q = 1, infinite where Q may be zero."""
    return window / q if q > 0 else math.inf
