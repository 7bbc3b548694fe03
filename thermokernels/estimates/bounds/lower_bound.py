"""A lower bound of T_O where chains do not meet: sums that are cut off, from starts that need no chain to cross a valley.

The single-site kernel is positive semidefinite, so that C(t) >= 0, and every sum that is cut off,

    (1/2) E sum_(t < n) < f(X_0) - f(Y_0), f(X_t) - f(Y_t) >  =  sum_(t < n) C(t)  <=  T_O,       X_0, Y_0 ~ pi independent,

is a lower bound. Of the two-block kernel, whose coins are integrated out, T_O = C_0 + 2 sum_(m >= 1) C_m over half sweeps, and

    C_(2k + 1) + C_(2k + 2) = (1/2) |p + q|^2 >= 0,      p = ... Pi_h Pi_v f,  q = ... Pi_v Pi_h f  with k + 1 factors,

so that sums that end with an even m are. The alternating kernel has neither property: its sums can exceed T_O.
"""

from __future__ import annotations

import math

import numpy as np

from thermokernels.common import threads
from thermokernels.common.arrays import Floats
from thermokernels.estimates.bounds.annealed_starts import LAG, TEMPERATURES, _starts
from thermokernels.estimates.coupling.lag_pairs import Schedule, new_pairs
from thermokernels.estimates.coupling.lane_excursions import single_site_excursions
from thermokernels.estimates.coupling.layer_excursions import _layer_excursions, new_lanes
from thermokernels.estimates.coupling.single_site_coupling import couplings
from thermokernels.estimates.features import Features
from thermokernels.estimates.pilot import UNIT_WORK
from thermokernels.estimates.statistics import trust
from thermokernels.estimates.statistics.intervals import controlled, largest_share, mean_interval
from thermokernels.model.kernels.registry import KERNELS
from thermokernels.model.model import Model
from thermokernels.sampling.samplers import block_model

# Replicates, and of a task.
N_REPLICATES, TASK = 224, 32
# Products of a coupling and a spin that the starts may take, in all and in a second of a budget.
MOST_WORK, WORK_PER_SECOND = 4e11, 2e9
# The same of excursions, and after how many sweeps they are cut off at least and at most.
EXCURSION_WORK, EXCURSION_WORK_PER_SECOND = 2e10, 2e8
FEWEST_SWEEPS, MOST_SWEEPS = 1000, 200_000


def variance_time_at_least(model: Model, kernel: str, features: Features, quotient: bool, seed: int, budget: float | None) -> float:
    """The lower end of an interval of 95 % (one-sided 97.5 %) for a sum that is at most T_O, in steps.

    NaN where the kernel has no such sums, where a pair of starts does not meet, where rare events dominate what was seen, and where the
    starts would take longer than the ``budget`` in seconds.
    """
    if not _is_positive(kernel) or _work(model) > (MOST_WORK if budget is None else min(MOST_WORK, WORK_PER_SECOND * budget)):
        return math.nan
    totals, weights = truncated_sums(model, kernel, features, quotient, seed, N_REPLICATES, _sweeps(model, budget))
    if np.isnan(weights).any():
        return math.nan
    sums = controlled(weights * totals, weights)
    if largest_share(sums) > trust.LARGEST_SHARE:
        return math.nan
    low, _ = mean_interval(sums)
    return max(low, 0.0)


def _is_positive(kernel: str) -> bool:
    """Whether sums that are cut off are below T_O: single-site and two-block kernels."""
    return KERNELS[kernel].single_flips or KERNELS[kernel].scan == "random-blocks"


def _work(model: Model) -> float:
    """Products of a coupling and a spin behind the starts."""
    return 2.0 * N_REPLICATES * (2 * LAG + 2) * 2 * TEMPERATURES * model.W.size


def _sweeps(model: Model, budget: float | None) -> int:
    """After how many an excursion is cut off."""
    work = EXCURSION_WORK if budget is None else min(EXCURSION_WORK, EXCURSION_WORK_PER_SECOND * budget)
    in_a_sweep = 2 * N_REPLICATES * (model.W.size + UNIT_WORK * model.n_spins)
    return int(min(max(work / in_a_sweep, FEWEST_SWEEPS), MOST_SWEEPS))


def truncated_sums(
    model: Model, kernel: str, features: Features, quotient: bool, seed: int, n_replicates: int, n_sweeps: int
) -> tuple[Floats, Floats]:
    """Half the sums of excursions that are cut off after so many sweeps (n,), in steps, and the signed weights of their starts (n,)."""
    key = np.random.SeedSequence([seed, 3]).generate_state(1, np.uint64)[0]
    totals, weights = np.empty(n_replicates), np.empty(n_replicates)
    schedule = Schedule(16.0, quotient, 1, 1, 1, n_sweeps)

    def run(task: int) -> None:
        rows = slice(task * TASK, min((task + 1) * TASK, n_replicates))
        totals[rows], weights[rows] = _task(model, kernel, features, schedule, key, rows)

    threads.for_each(run, -(-n_replicates // TASK), threads.LARGEST_OWN_WORK + 1)
    return totals, weights


def _task(model: Model, kernel: str, features: Features, schedule: Schedule, key: np.uint64, rows: slice) -> tuple[Floats, Floats]:
    n, n_spins = rows.stop - rows.start, model.n_spins
    table = couplings(model)
    states, signs = np.empty((2 * n, n_spins), np.int8), np.empty(2 * n)
    _starts(table, key, 2 * rows.start, states, signs)
    if np.isnan(signs).any():
        return np.full(n, np.nan), np.full(n, np.nan)
    atoms = states[:, None]
    totals, zero_lags, lengths = np.empty((n, 1)), np.empty((n, 1)), np.empty((n, 1), np.int64)
    if KERNELS[kernel].single_flips:
        single_site_excursions(model, features, schedule, key, rows.start, atoms, (totals, zero_lags, lengths))
    else:
        shape = model.W.shape
        blocks, pairs, lanes = block_model(model), new_pairs(*shape), new_lanes(*shape)
        _layer_excursions(blocks, pairs, lanes, schedule, features, True, key, rows.start, atoms, totals, zero_lags, lengths)
    return totals[:, 0], signs[0::2] * signs[1::2]
