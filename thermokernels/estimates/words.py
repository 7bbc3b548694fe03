"""An estimate in words: can it be trained, what stops it, what is certain; and its rows and notes as a screen shows them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from thermokernels.estimates.result import QEstimate


def sentences(e: QEstimate) -> list[str]:
    """Can it be trained, what stops it, and what is certain; the first sentence is the answer."""
    said = [_answer(e)]
    if math.isfinite(e.value) and e.trusted:
        said += _what_stops_it(e)
    if math.isfinite(e.t_obs) and e.trusted and math.isnan(e.value):
        said.append("Signal, Q and the window that is needed ask for samples of the data (--data).")
    if not e.trusted:
        said.append(_what_still_holds(e))
    return said


def _answer(e: QEstimate) -> str:
    if not e.trusted:
        return f"Not to be trusted: {e.reason}."
    if math.isnan(e.value):
        return f"Gradients stay correlated: T_O is {_interval(e, e.t_obs_interval)} sweeps."
    low, high = e.interval
    q = f"Q = {_short(e.value)}, {_short(low)} to {_short(high)}"
    if low > 1:
        return f"Yes: in {e.window:g} sweeps the gradient is louder than its noise ({q})."
    if high < 1:
        return f"No, not with this window: the noise is louder than the gradient ({q})."
    return f"Undecided: the interval of Q holds one ({q}); a larger --budget narrows it."


def _what_stops_it(e: QEstimate) -> list[str]:
    low, high = e.window_for_unit_q_interval
    if math.isinf(e.window_for_unit_q):
        return ["The gradient cannot be told from zero: no window is known to be long enough."]
    said = [f"{_short(e.window_for_unit_q)} sweeps are needed for Q = 1 ({_short(low)} to {_short(high)})."]
    independent = e.value * 2 * e.t_obs / _variance(e) / e.steps_per_sweep
    if e.interval[1] < 1:
        cause = "the sampler" if independent >= 1 else "the signal"
        said.append(
            f"What stops it is {cause}: independent samples in place of correlated ones, one a sweep, would give Q = {_short(independent)}."
        )
    return said


def _variance(e: QEstimate) -> float:
    """sum_a Var f_a."""
    return 2 * e.t_obs - e.asymptotic_variance


def _what_still_holds(e: QEstimate) -> str:
    said = []
    if math.isfinite(e.t_obs_at_least):
        said.append(f"T_O is at least {_short(e.t_obs_at_least / e.steps_per_sweep)} sweeps (with 97.5 % confidence)")
    if math.isfinite(e.t_obs_at_most):
        said.append(f"T_O is at most {_short(e.t_obs_at_most / e.steps_per_sweep)} sweeps, which is proven")
    if said:
        return f"What still holds: {', and '.join(said)}."
    if math.isnan(e.t_obs):
        return "No number is given: an average over the chains that did meet would say that all is well."
    return "The numbers below are unbiased, their intervals are not to be relied on."


def rows(e: QEstimate) -> list[tuple[str, str, str, str]]:
    """One row a quantity; times in sweeps."""
    named = [
        (f"Q at {e.window:g} sweeps", e.value, e.interval, 1.0, ""),
        ("window for Q = 1", e.window_for_unit_q, e.window_for_unit_q_interval, 1.0, "sweeps"),
        ("T_O", e.t_obs, e.t_obs_interval, e.steps_per_sweep, "sweeps"),
        ("asymptotic variance V", e.asymptotic_variance, e.asymptotic_variance_interval, e.steps_per_sweep, "sweeps"),
        ("signal |g|^2", e.signal, e.signal_interval, 1.0, ""),
        ("T_O by batch means", e.batch_means, e.batch_means_interval, e.steps_per_sweep, "sweeps"),
    ]
    return [
        (name, _short(value / unit), f"{_short(low / unit)} to {_short(high / unit)}", word)
        for name, value, (low, high), unit, word in named
        if not math.isnan(value)
    ]


def notes(e: QEstimate) -> list[str]:
    """How it was found."""
    met = e.meeting_times[e.meeting_times >= 0]
    said = []
    if len(met):
        quantile = float(np.quantile(met, 0.95))
        share = f", {1 - len(met) / len(e.meeting_times):.1%} not at all" if len(met) < len(e.meeting_times) else ""
        said.append(f"Pairs of chains met after {met.mean():.3g} sweeps on average, 95 % of them within {quantile:.3g}{share}.")
    if e.n_replicates:
        said.append(f"{e.n_replicates} replicates, the farthest makes {e.largest_share:.1%} of the variance.")
        said.append(f"{e.lag} sweeps from coin flips a chain is within {e.tv_bound:.2g} of equilibrium (total variation).")
    if math.isfinite(e.batch_means):
        said.append(f"Batch means may be off by {e.batch_means_bias:.1%} at most, as the excursions say.")
    return said


def _interval(e: QEstimate, interval: tuple[float, float]) -> str:
    return f"{_short(interval[0] / e.steps_per_sweep)} to {_short(interval[1] / e.steps_per_sweep)}"


def _short(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else ("no end" if value > 0 else str(value))
