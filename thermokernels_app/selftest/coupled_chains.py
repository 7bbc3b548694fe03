"""The estimates from coupled chains, held against the exact engine and broken where each of their promises rests.

A coupling need not be good, but each chain has to have its own law; every replicate that was begun has to be counted; a lag may be short,
but not without the corrections that it owes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from typing import Any

import numpy as np

import thermokernels as tk
from thermokernels.estimates import replicates, running
from thermokernels.estimates.coupling.lag_pairs import _lag_pairs
from thermokernels.estimates.replicates import Batch, run_task
from thermokernels.sampling.samplers import block_model
from thermokernels_app.selftest.case import Case, Spoken, patched, under

WEIGHTS = 1.6 * np.array([[0.9, -0.5, 0.3], [0.2, 1.1, -0.7], [-0.4, 0.6, 0.8]])
VISIBLE_FIELD = np.array([0.3, -0.2, 0.1])
EXACT = "estimate: T_O of the exact engine"
N_REPLICATES = 16384
# Standard errors; the seed is fixed, so that a sound estimate is always within.
MOST = 4.0


def _held_against_the_exact_engine() -> Spoken:
    model = tk.Model(WEIGHTS, VISIBLE_FIELD)
    exact = tk.observable_variance_time(tk.gibbs_chain(model, kernel="two-block"))
    found = tk.estimate_q(model, None, kernel="two-block", n_replicates=N_REPLICATES, seed=1)
    low, high = found.t_obs_interval
    errors = abs(found.t_obs - exact) / ((high - low) / 4)
    if errors <= MOST:
        return {}
    return {EXACT: f"coupled chains give {found.t_obs:.4g} steps, {errors:.1f} standard errors from the exact {exact:.4g}"}


def _wrong_marginal() -> AbstractContextManager[Any]:
    """The visible layer is resampled with couplings that are a fifth too strong."""
    sound = block_model

    def stronger(model: tk.Model) -> Any:
        table = sound(model)
        return table._replace(to_visible=np.float32(1.2) * table.to_visible)

    return patched(replicates, "block_model", stronger)


def _dropped_replicates() -> AbstractContextManager[Any]:
    """Of every task the replicates that take longer than most are left out."""
    sound = run_task

    def impatient(*arguments: Any) -> Batch:
        batch = sound(*arguments)
        kept = batch.excursions <= np.median(batch.excursions)
        names = [one.name for one in fields(Batch) if np.shape(getattr(batch, one.name)) == batch.times.shape]
        return replace(batch, **{name: getattr(batch, name)[kept] for name in names})

    return patched(running, "run_task", impatient)


def _short_lag() -> AbstractContextManager[Any]:
    """Chains are taken for stationary after one sweep, and the corrections of the signed measure are left out."""
    sound: Any = _lag_pairs

    def hasty(model: Any, pairs: Any, schedule: Any, *rest: Any) -> None:
        key, first_pair, atoms, weights, meetings = rest
        first, weight = np.empty_like(atoms[:, :1]), np.empty_like(weights[:, :1])
        one_look = schedule._replace(interval=1, n_intervals=1, n_atoms=1, cap=0)
        sound(model, pairs, one_look, key, first_pair, first, weight, meetings)
        atoms[...], weights[...], meetings[...] = first, weight, 0

    return patched(replicates, "_lag_pairs", hasty)


SABOTAGES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "a coupling with a wrong marginal law": _wrong_marginal,
    "slow replicates dropped": _dropped_replicates,
    "a lag too short, without its corrections": _short_lag,
}


def cases() -> list[Case]:
    """One case a sabotage."""
    return [
        Case(EXACT, breaks, _held_against_the_exact_engine, under(sabotage, _held_against_the_exact_engine))
        for breaks, sabotage in SABOTAGES.items()
    ]
