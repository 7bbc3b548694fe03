"""What an estimate from coupled chains says: numbers, their intervals, and whether they are to be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.results import Line, Result, required
from thermokernels.estimates.statistics.intervals import Interval, estimated, three_digits

NAN = float("nan")
NOWHERE: Interval = (NAN, NAN)


@dataclass(frozen=True, eq=False, repr=False)
class QEstimate(Result):
    """Q, T_O and what belongs to them, estimated by coupled chains; made by :func:`estimate_q`.

    Where ``trusted`` is False, ``reason`` says why, and the intervals do not promise their 95 %. What could not be estimated at all is NaN,
    as is everything that needs data where none were given.

    Attributes
    ----------
    value, interval : Q = (K / 2) |g|^2 / T_O
    t_obs, t_obs_interval : T_O in steps of the kernel
    signal, signal_interval : |g|^2, without bias (so that it can come out negative where it is hidden by noise)
    asymptotic_variance, asymptotic_variance_interval : V = 2 T_O - sum_a Var f_a in steps; a mean of K records has the variance V / K
    window_for_unit_q, window_for_unit_q_interval : sweeps for Q = 1; infinite where g may be zero
    trusted, reason : whether the intervals can be believed, and the reason why not, else ""
    meeting_times : sweeps of the alternating scan after which the lag pairs met, of the pilot where no replicate was run; -1 for not at all
    shortfall : of an estimate to a ``precision`` that was ended before it got there: how far it got and what it would take, else ""
    tv_bound : bound on the total variation between a chain after ``lag`` sweeps from coin flips and pi
    largest_share : of the replicate farthest from the mean in the sum of squares, for T_O
    n_replicates : independent replicates in the averages; ``estimate_q(..., n_replicates=...)`` with the same seed gives the same bits
    g : (n_v, n_h) estimated mean gradient E_data f - E_pi f of the couplings
    kernel, window, steps_per_sweep : of the question; the window in sweeps
    kappa, lag, cap : information of a coupled sequence, the lag, and when a pair is given up, in sweeps of the alternating scan
    batch_means : T_O in steps by replicated batch means where chains meet quickly, else NaN; batch_means_interval;
        batch_means_bias : bound on its relative bias
    t_obs_at_least : lower end of a one-sided interval of 97.5 % for T_O, in steps, where ``t_obs`` could not be had or rare events dominate
        it, and the kernel is "single-site" or "two-block", else NaN: excursions that are cut off, from starts by annealing
    t_obs_at_most : an analytic upper bound of T_O in steps from 2 s_1(W) < 1 (single-site kernel), else infinite
    replicates : (n_replicates,) of T_O in steps
    """

    _lines = (
        Line("value", "value", interval="interval"),
        Line("t_obs", "t_obs", "steps", interval="t_obs_interval"),
        Line("signal", "signal", interval="signal_interval"),
        Line("asymptotic_variance", "asymptotic_variance", "steps", interval="asymptotic_variance_interval"),
        Line("window_for_unit_q", "window_for_unit_q", "sweeps", interval="window_for_unit_q_interval"),
        Line("batch_means", "batch_means", "steps", interval="batch_means_interval"),
    )
    _facts = (
        "trusted",
        "reason",
        "shortfall",
        "meeting_times",
        "tv_bound",
        "largest_share",
        "n_replicates",
        "kernel",
        "window",
        "steps_per_sweep",
        "kappa",
        "lag",
        "cap",
        "batch_means_bias",
        "t_obs_at_least",
        "t_obs_at_most",
        "g",
        "replicates",
        "sentences",
    )

    value: float
    interval: Interval
    t_obs: float
    t_obs_interval: Interval
    signal: float
    signal_interval: Interval
    asymptotic_variance: float
    asymptotic_variance_interval: Interval
    window_for_unit_q: float
    window_for_unit_q_interval: Interval
    trusted: bool
    reason: str
    shortfall: str
    meeting_times: NDArray[np.int64]
    tv_bound: float
    largest_share: float
    n_replicates: int
    g: Floats
    kernel: str
    window: float
    steps_per_sweep: int
    kappa: float
    lag: int
    cap: int
    batch_means: float
    batch_means_interval: Interval
    batch_means_bias: float
    t_obs_at_least: float
    t_obs_at_most: float
    replicates: Floats

    @property
    def sentences(self) -> tuple[str, ...]:
        """Can it be trained, what stops it, and what is certain; the first sentence is the answer."""
        return tuple(_sentences(self))

    def _repr_html_(self) -> str:
        said = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.sentences)
        return f"<ul>{said}</ul>{super()._repr_html_()}"

    @default_error_state
    def to_datatree(self) -> Any:
        """The replicates as ArviZ's DataTree: ``t_obs`` (steps) in its group ``posterior``, the independent draws of one chain.

        Needs the package arviz-base; ModuleNotFoundError where it is missing.
        """
        base = required("arviz_base", "a DataTree", "arviz-base")
        return base.from_dict({"posterior": {"t_obs": self.replicates[None]}}, attrs={"/": {"kernel": self.kernel}})


def _sentences(e: QEstimate) -> list[str]:
    """Can it be trained, what stops it, and what is certain; the first sentence is the answer."""
    said = [_answer(e)]
    if math.isfinite(e.value) and e.trusted:
        said += _what_stops_it(e)
    if e.shortfall:
        said.append(f"The precision that was asked for is not reached: {e.shortfall}.")
    if math.isfinite(e.t_obs) and e.trusted and math.isnan(e.value):
        said.append("Signal, Q and the window that is needed ask for samples of the data (--data).")
    if not e.trusted:
        said.append(_what_still_holds(e))
    return said


def _answer(e: QEstimate) -> str:
    if not e.trusted:
        return f"Not to be trusted: {e.reason}."
    if math.isnan(e.value):
        _, least, most = in_sweeps(e, e.t_obs, e.t_obs_interval)
        return f"Records stay correlated for about {_correlated_for(e)}: T_O, a sum over all observables, is {least} to {most} sweeps."
    low, high = e.interval
    q = "Q = {}, {} to {}".format(*estimated(e.value, e.interval))
    if low > 1:
        return f"Yes: in {e.window:g} sweeps the gradient is louder than its noise ({q})."
    if high < 1:
        return f"No, not with this window: the noise is louder than the gradient ({q})."
    return f"Undecided: the interval of Q holds one ({q}); a larger --budget narrows it."


def _what_stops_it(e: QEstimate) -> list[str]:
    if math.isinf(e.window_for_unit_q):
        return ["The gradient cannot be told from zero: no window is known to be long enough."]
    said = ["{} sweeps are needed for Q = 1 ({} to {}).".format(*estimated(e.window_for_unit_q, e.window_for_unit_q_interval))]
    if e.interval[1] < 1:
        correlated, independent = _correlated_for(e), e.value * 2 * e.t_obs / _variance(e) / e.steps_per_sweep
        if independent >= 1:
            cause = f"the sampler: its records stay correlated for about {correlated}, and independent ones, one a sweep,"
            said.append(f"What stops it is {cause} would give K |g|^2 / V = {independent:.2g}.")
        else:
            cause = f"the signal: records stay correlated for about {correlated}, and even independent ones, one a sweep,"
            said.append(f"What stops it is {cause} would give K |g|^2 / V = {independent:.2g} only.")
    return said


def _variance(e: QEstimate) -> float:
    """sum_a Var f_a."""
    return 2 * e.t_obs - e.asymptotic_variance


def _correlated_for(e: QEstimate) -> str:
    """V / sum_a Var f_a in sweeps, 1 for independent records: 1 + 2 sum rho over all observables, weighted by their variances."""
    sweeps = f"{e.asymptotic_variance / _variance(e) / e.steps_per_sweep:.2g}"
    return f"{sweeps} sweep{'' if sweeps == '1' else 's'}"


def in_sweeps(e: QEstimate, value: float, interval: Interval) -> tuple[str, str, str]:
    """A time in steps, and the ends of its interval, in sweeps."""
    low, high = interval
    return estimated(value / e.steps_per_sweep, (low / e.steps_per_sweep, high / e.steps_per_sweep))


def _what_still_holds(e: QEstimate) -> str:
    said = []
    if math.isfinite(e.t_obs_at_least):
        said.append(f"T_O is at least {three_digits(e.t_obs_at_least / e.steps_per_sweep)} sweeps (with 97.5 % confidence)")
    if math.isfinite(e.t_obs_at_most):
        said.append(f"T_O is at most {three_digits(e.t_obs_at_most / e.steps_per_sweep)} sweeps, which is proven")
    if said:
        return f"What still holds: {', and '.join(said)}."
    if math.isnan(e.t_obs):
        return "No number is given: an average over the chains that did meet would say that all is well."
    return "The numbers below are unbiased, their intervals are not to be relied on."
