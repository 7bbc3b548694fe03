"""Replicates of the estimate: independent, and unbiased for T_O, for the lag-zero term and for the model's means.

A replicate knows the model, the schedule and its number, and nothing of others: its bits are the same in a thread, in another process, on a
second run, and whichever others share its task. A replicate is two lag pairs and an excursion from each of their snapshots:

    T = mean_i w_i w'_i T_i + mu (1 - mean_i w_i w'_i),    w_i, w'_i: signed weights of the two atoms (see lag_pairs),

T_i half the sum of the excursion between them, and mu any number that knows nothing of the replicate: E[w_i w'_i] = 1. With mu near T_O
an atom of weight 3 is no outlier; mu is the mean of the other half of the replicates.
"""

from __future__ import annotations

import math
import os
import platform
import threading
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from thermokernels.common import threads
from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import kernel_hash
from thermokernels.compiled.simd_chains import LANES
from thermokernels.estimates.correlations import _add_correlations
from thermokernels.estimates.coupling.lag_pairs import Schedule, _lag_pairs, new_pairs
from thermokernels.estimates.coupling.lane_excursions import single_site_excursions
from thermokernels.estimates.coupling.layer_excursions import _layer_excursions, new_lanes
from thermokernels.estimates.coupling.single_site_coupling import couplings
from thermokernels.estimates.features import features_of
from thermokernels.model.kernels.registry import KERNELS
from thermokernels.model.model import Model
from thermokernels.sampling.samplers import block_model

# Replicates of a group whose correlations are added up; numbers of replicates are multiples of it.
GROUP = 8
# Excursions of the single-site kernel to a lane before one looks at the clock: idle lanes at the end are few beside them.
REFILLS = 16


class OutOfTime(Exception):
    """A budget has passed before all replicates that were begun were finished."""


@dataclass(frozen=True, eq=False)
class Limit:
    """Until when tasks of this process may run: ``deadline`` of ``time.monotonic()``, and ``stopped``, (1,), set where nobody waits for
    them any more."""

    deadline: float = math.inf
    stopped: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(1, np.uint8))

    def check(self) -> None:
        """OutOfTime where that has come."""
        if self.stopped[0] or time.monotonic() > self.deadline:
            raise OutOfTime


@dataclass(frozen=True)
class Question:
    """What a task needs: a few arrays of the size of W."""

    model: Model
    kernel: str
    observables: str
    units: str
    fields: bool
    schedule: Schedule
    key: int
    with_correlations: bool


@dataclass(frozen=True, eq=False)
class Batch:
    """The n replicates of one task.

    times : (n,) mean_i w w' T_i in steps of the kernel; zero_lags : (n,) the same of the lag-zero term, for sum_a Var f_a
    weights : (n,) mean_i w w'; meetings : (2 n,) of the lag pairs, in sweeps
    excursions : (n,) mean length in sweeps; first_moments : (n,) as ``times``, each excursion's sum times its length in steps
    n_lost : pairs given up, whose replicates are no numbers; seconds : that they took; worker : name of the thread that ran them
    correlations : (n / 8, n_v + 1, n_h + 1) sums over eight replicates, that of their weights in the corner
    """

    times: Floats
    zero_lags: Floats
    weights: Floats
    meetings: NDArray[np.int64]
    excursions: Floats
    first_moments: Floats
    n_lost: int
    seconds: float
    worker: str
    correlations: Floats


def grain(question: Question) -> int:
    """The fewest replicates that are worth a task: where layers are resampled, those whose lag pairs fill the lanes."""
    return GROUP if KERNELS[question.kernel].single_flips else max(GROUP, LANES // 2)


def require_sources(sources: str) -> None:
    """ValueError where the process that asks has other kernels, whose numbers would be others."""
    if sources != kernel_hash():
        raise ValueError("a worker runs another version of thermokernels than this process; install the same one everywhere")


def run_task(sources: str, question: Question, first: int, n_replicates: int, limit: Limit | None = None) -> Batch:
    """Replicates first, ..., first + n_replicates - 1 on one thread of whichever process this is.

    OutOfTime where they are not finished at the limit, soon after it.
    """
    require_sources(sources)
    with threads.serial():
        return run_batch(question, first, n_replicates, limit)


def run_batch(question: Question, first: int, n_replicates: int, limit: Limit | None = None) -> Batch:
    """The same on any number of threads."""
    began, limit = time.perf_counter(), limit or Limit()
    n_visible, n_hidden = question.model.W.shape
    schedule, key = question.schedule, np.uint64(question.key)
    n_pairs, n_atoms = 2 * n_replicates, schedule.n_atoms
    atoms, weights = np.empty((n_pairs, n_atoms, n_visible + n_hidden), np.int8), np.empty((n_pairs, n_atoms))
    meetings = np.empty(n_pairs, np.int64)
    model, pairs = block_model(question.model), new_pairs(n_visible, n_hidden, limit.stopped)
    for head in range(0, n_pairs, LANES):
        limit.check()
        rows = slice(head, min(head + LANES, n_pairs))
        _lag_pairs(model, pairs, schedule, key, 2 * first + head, atoms[rows], weights[rows], meetings[rows])
    limit.check()  # pairs that were stopped have not met, either
    n_lost = int((meetings < 0).sum())
    if n_lost:
        nothing = np.full(n_replicates, np.nan)
        seconds = time.perf_counter() - began
        return Batch(nothing, nothing, nothing, meetings, nothing, nothing, n_lost, seconds, worker_name(), np.empty((0, 0, 0)))

    totals, zero_lags = np.empty((n_replicates, n_atoms)), np.empty((n_replicates, n_atoms))
    lengths = np.empty((n_replicates, n_atoms), np.int64)
    features = features_of(question.model, question.observables, question.units, question.fields)
    kernel = KERNELS[question.kernel]
    if kernel.single_flips:
        size = GROUP * max(1, REFILLS * LANES // (GROUP * n_atoms))
        for k in range(0, n_replicates, size):  # a few at a time, with a look at the clock
            limit.check()
            rows = slice(k, k + size)
            found = totals[rows], zero_lags[rows], lengths[rows]
            single_site_excursions(question.model, features, schedule, key, first + k, atoms[2 * k : 2 * (k + size)], found)
        in_a_sweep, in_a_step = n_visible + n_hidden, 1.0
    else:
        lanes, two_block = new_lanes(n_visible, n_hidden), kernel.scan == "random-blocks"
        _layer_excursions(model, pairs, lanes, schedule, features, two_block, key, first, atoms, totals, zero_lags, lengths)
        limit.check()
        in_a_sweep, in_a_step = 2, 1.0 if two_block else 2.0
    products = weights[0::2] * weights[1::2]
    return Batch(
        times=(products * totals).mean(axis=1),
        zero_lags=(products * zero_lags).mean(axis=1),
        weights=products.mean(axis=1),
        meetings=meetings,
        excursions=lengths.mean(axis=1) / in_a_sweep,
        first_moments=(products * totals * lengths).mean(axis=1) / in_a_step,
        n_lost=int((lengths < 0).sum()),
        correlations=_correlations(question, atoms, weights) if question.with_correlations else np.empty((0, 0, 0)),
        seconds=time.perf_counter() - began,
        worker=worker_name(),
    )


def worker_name() -> str:
    """Of this thread of this process of this machine."""
    return f"{platform.node()} {os.getpid()} {threading.get_ident()}"


def _correlations(question: Question, atoms: NDArray[np.int8], weights: Floats) -> Floats:
    """Sums over groups of eight replicates of their unbiased means of (v, 1)(E[h | v], 1)'."""
    n_visible, n_hidden = question.model.W.shape
    n_pairs, n_atoms, n_spins = atoms.shape
    n_groups = -(-n_pairs // (2 * GROUP))
    sums = np.zeros((n_groups, n_visible + 1, n_hidden + 1))
    table = couplings(question.model)
    for group in range(n_groups):
        rows = slice(2 * GROUP * group, 2 * GROUP * (group + 1))
        states, their_weights = atoms[rows].reshape(-1, n_spins), weights[rows].ravel() / (2 * n_atoms)
        _add_correlations(table, states, their_weights, sums[group])
    return sums
