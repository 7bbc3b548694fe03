"""The pilot: how fast pairs of chains meet, and from that the coupling and the schedule of the replicates.

128 lag pairs start from coin flips. L is the largest of their meeting times, D half the mean, l = ceil(L / D), and 2 l snapshots, at most
64, are taken of each lag pair: too small an L destroys the variance, a snapshot more often than D brings little. kappa is 16, or 0 (common
random numbers alone) where that meets sooner, as it does on tiny models and on those of low rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermokernels.common import threads
from thermokernels.common.errors import ModelTooLargeError
from thermokernels.compiled.simd_chains import LANES
from thermokernels.estimates.coupling.lag_pairs import Schedule, _lag_pairs, new_pairs
from thermokernels.sampling import scans

N_PAIRS = 128
KAPPA = 16.0
# X is ahead by so many sweeps in the pilot.
LAG = 5
MOST_UNMET = 0.1
MOST_ATOMS = 64
# Of the single-site kernel an excursion costs many times a snapshot, which comes out of chains side by side, and excursions that begin with
# snapshots of the same pair are alike. Where they are long, so few that a replicate makes about so many updates, at least FEWEST_ATOMS.
MOST_UPDATES, FEWEST_ATOMS = 2**18, 4
# Products of a coupling and a spin that a pair may take in a pilot, and what resampling a unit costs beside its products, in products.
MOST_WORK, UNIT_WORK = 2e9, 60
FEWEST_SWEEPS, MOST_SWEEPS = 500, 200_000
# What a pilot may take in all, and what a core does in an hour, roughly.
MOST_PILOT_WORK, PER_HOUR = 2e12, 3e12
# The replicates' pairs are given up after the pilot's cap, or so many lags.
LAGS = 8
# Work of a pair that fits into a second of a budget, for the cap alone.
WORK_PER_SECOND = 5e7


@dataclass(frozen=True, eq=False)
class Pilot:
    """meetings : (128,) sweeps of the alternating scan, -1 for a pair that did not meet within cap; schedule : None where too few met"""

    kappa: float
    meetings: NDArray[np.int64]
    cap: int
    schedule: Schedule | None

    def as_arrays(self) -> dict[str, Any]:
        """For a checkpoint, where there is a schedule."""
        assert self.schedule is not None
        times = np.array(self.schedule[1:], dtype=np.int64)
        return {"pilot_meetings": self.meetings, "pilot_cap": self.cap, "schedule": times, "kappa": self.kappa}

    @classmethod
    def from_arrays(cls, state: Mapping[str, Any]) -> Pilot:
        """Out of a checkpoint."""
        kappa = float(state["kappa"])
        quotient, *times = (int(value) for value in state["schedule"])
        return cls(kappa, state["pilot_meetings"], int(state["pilot_cap"]), Schedule(kappa, bool(quotient), *times))

    @property
    def unmet(self) -> float:
        """The share of pairs that did not meet."""
        return float((self.meetings < 0).mean())


def run_pilot(
    model: scans.Model,
    n_visible: int,
    n_hidden: int,
    quotient: bool,
    single_flips: bool,
    key: np.uint64,
    budget: float | None,
    kappa: float | None,
) -> Pilot:
    """Meeting times under both couplings, or under ``kappa`` alone where enough pairs meet, and the schedule.

    The same for every number of threads.
    """
    cap = most_sweeps(n_visible, n_hidden, budget)
    n_flips = n_visible + n_hidden if single_flips else 0

    def meetings_of(kappa: float, cap: int) -> NDArray[np.int64]:
        return _meetings(model, n_visible, n_hidden, Schedule(kappa, quotient, LAG, 1, 0, cap), key)

    if kappa is not None:
        meetings = meetings_of(kappa, cap)
        if (schedule := _schedule(kappa, quotient, n_flips, meetings, cap)) is not None:
            return Pilot(kappa, meetings, cap, schedule)
    kappa, meetings = KAPPA, meetings_of(KAPPA, cap)
    met = meetings[meetings >= 0]
    enough = len(met) >= (1 - MOST_UNMET) * N_PAIRS
    # where kappa = 16 meets, common random numbers need not run longer than it takes to lose against it
    plain = meetings_of(0.0, min(cap, max(LAG, 2 * int(met.max()))) if enough else cap)
    if _slowness(plain) < _slowness(meetings):
        kappa, meetings = 0.0, plain
    return Pilot(kappa, meetings, cap, _schedule(kappa, quotient, n_flips, meetings, cap))


def require_work(n_visible: int, n_hidden: int) -> None:
    """Raise ModelTooLargeError where a pilot of chains that do not meet would take hours, before it begins."""
    work = 2 * N_PAIRS * FEWEST_SWEEPS * _in_a_sweep(n_visible, n_hidden)
    if work > MOST_PILOT_WORK:
        raise ModelTooLargeError(
            f"coupled chains of {n_visible + n_hidden} spins would take {work / PER_HOUR:.2g} hours of a core for the pilot alone; "
            "estimate a smaller model"
        )


def _in_a_sweep(n_visible: int, n_hidden: int) -> float:
    """Work of a pair, in products."""
    return float(n_visible * n_hidden + UNIT_WORK * (n_visible + n_hidden))


def most_sweeps(n_visible: int, n_hidden: int, budget: float | None) -> int:
    """When the pilot gives a pair up."""
    work = MOST_WORK if budget is None else min(MOST_WORK, WORK_PER_SECOND * budget)
    return int(min(max(work / _in_a_sweep(n_visible, n_hidden), FEWEST_SWEEPS), MOST_SWEEPS))


def _slowness(meetings: NDArray[np.int64]) -> tuple[int, float]:
    """Pairs that are too many to miss, then the mean of those that met; smaller is better."""
    met = meetings[meetings >= 0]
    return len(meetings) - len(met), float(met.mean()) if len(met) else math.inf


def _meetings(model: scans.Model, n_visible: int, n_hidden: int, schedule: Schedule, key: np.uint64) -> NDArray[np.int64]:
    meetings = np.empty(N_PAIRS, np.int64)
    no_atoms, no_weights = np.empty((LANES, 0, n_visible + n_hidden), np.int8), np.empty((LANES, 0))

    def run(block: int) -> None:
        first = block * LANES
        _lag_pairs(model, new_pairs(n_visible, n_hidden), schedule, key, first, no_atoms, no_weights, meetings[first : first + LANES])

    threads.for_each(run, N_PAIRS // LANES, threads.LARGEST_OWN_WORK + 1)
    return meetings


def _schedule(kappa: float, quotient: bool, n_flips: int, meetings: NDArray[np.int64], cap: int) -> Schedule | None:
    """n_flips : updates in a sweep of excursions, 0 where these resample layers"""
    met = meetings[meetings >= 0]
    if len(met) < (1 - MOST_UNMET) * len(meetings):
        return None
    mean = float(met.mean())
    interval = max(1, round(mean / 2))
    n_intervals = max(1, -(-int(met.max()) // interval))
    n_atoms = min(2 * n_intervals, MOST_ATOMS)
    if n_flips * mean * n_atoms > MOST_UPDATES:
        n_atoms = min(n_atoms, max(FEWEST_ATOMS, int(MOST_UPDATES / (n_flips * mean))))
    return Schedule(kappa, quotient, interval, n_intervals, n_atoms, max(cap, LAGS * n_intervals * interval))
