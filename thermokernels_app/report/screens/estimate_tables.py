"""The screen of ``thermo estimate``: the answer in sentences, then the numbers with their intervals, in 80 columns."""

from __future__ import annotations

import math

import numpy as np

from thermokernels import Model, QEstimate
from thermokernels.estimates.result import in_sweeps
from thermokernels.estimates.statistics.intervals import estimated
from thermokernels_app.report.screens.layout import print_table, print_wrapped


def print_estimate(estimate: QEstimate) -> None:
    """Sentences and table."""
    print()
    for sentence in estimate.sentences:
        print_wrapped(sentence, "* ", "  ")
    print()
    if numbers := rows(estimate):
        print_table(("quantity", "value", "95 % interval", "unit"), numbers)
        print()
    for note in notes(estimate):
        print_wrapped(note, "  ", "  ")


def first_line(model: Model, kernel: str, window: float) -> str:
    """What is asked, before anything is computed."""
    return f"{model.n_visible} visible + {model.n_hidden} hidden spins, {kernel} Gibbs, {window:g} sweeps behind a gradient"


def rows(e: QEstimate) -> list[tuple[str, str, str, str]]:
    """One row a quantity; times in sweeps."""
    named = [
        (f"Q at {e.window:g} sweeps", estimated(e.value, e.interval), ""),
        ("window for Q = 1", estimated(e.window_for_unit_q, e.window_for_unit_q_interval), "sweeps"),
        ("T_O", in_sweeps(e, e.t_obs, e.t_obs_interval), "sweeps"),
        ("asymptotic variance V", in_sweeps(e, e.asymptotic_variance, e.asymptotic_variance_interval), "sweeps"),
        ("signal |g|^2", estimated(e.signal, e.signal_interval), ""),
        ("T_O by batch means", in_sweeps(e, e.batch_means, e.batch_means_interval), "sweeps"),
    ]
    return [(name, value, f"{low} to {high}", unit) for name, (value, low, high), unit in named if value != "nan"]


def notes(e: QEstimate) -> list[str]:
    """How it was found."""
    met = e.meeting_times[e.meeting_times >= 0]
    said = []
    if math.isfinite(e.t_obs):
        said.append("Q = (K / 2) |g|^2 / T_O of K steps; T_O and V = 2 T_O - sum Var are sums over all observables.")
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
