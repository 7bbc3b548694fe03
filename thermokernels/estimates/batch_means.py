"""Replicated batch means of the alternating scan beside the coupled estimate, where chains meet quickly: another method, which must agree.

Pairs of independent chains run for b records each, after two lags of burn-in. With D the difference of their means of f over the batch,

    V_b = (b / 2) E |D|^2 = sum_(|t| < b) (1 - |t| / b) C(t),      T_b = (V_b + sum_a Var f_a) / 2,

needs no mean to subtract (Argon and Andradottir 2006). It is short of T_O by sum_(t < b) (t / b) C(t) and what comes after b. Excursions
say how much that is: sum_t t C(t) = (1/2) E sum_(t < tau) t S_t, which is at most E tau times the excursion's sum where S_t >= 0.
b is 20 lags: the lag is the largest meeting time of the pilot, several relaxation times.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermokernels.common import blas, threads
from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import kernel_hash
from thermokernels.compiled.simd_chains import LANES
from thermokernels.estimates.features import Features, features_of
from thermokernels.estimates.pool import Pool, Task
from thermokernels.estimates.replicates import Limit, Question, require_sources
from thermokernels.model.kernels.registry import KERNELS
from thermokernels.model.model import Model
from thermokernels.sampling.samplers import alternating_bundle
from thermokernels.sampling.samples import Samples, unpack

N_PAIRS = 64
LAGS = 20
# Beyond so many sweeps, or bytes of spins, batches are left out: they are the quick method for quick chains.
LONGEST, MOST_BYTES = 2000, 2**28


class BatchMeans:
    """T_b of 64 independent pairs of chains, as tasks of a pool: begun once, beside the replicates, and waited for by who asks."""

    def __init__(self, question: Question, seed: int, pool: Pool) -> None:
        schedule = question.schedule
        self.question, self.seed, self.pool = question, seed, pool
        self.length = LAGS * schedule.interval * schedule.n_intervals
        self.tasks: list[Task[tuple[Floats, float]]] = []

    @property
    def are_wanted(self) -> bool:
        """Whether this kernel has them, and they are short enough."""
        few = self.length <= LONGEST and 2 * N_PAIRS * self.length * self.question.model.n_spins <= MOST_BYTES
        return few and KERNELS[self.question.kernel].scan == "alternating"

    def start(self) -> None:
        """Begin, unless that has been done."""
        if self.are_wanted and not self.tasks:
            for number in range(-(-2 * N_PAIRS // LANES)):
                what = kernel_hash(), self.question, self.length, self.seed, number
                self.tasks.append(self.pool.submit(f"bundle {number} of the batch means", run_bundle, *what))

    def result(self) -> tuple[Floats, int, float] | None:
        """T_b in sweeps, b, and the seconds of a core that it took; None where b would be too long."""
        self.start()
        if not self.tasks:
            return None
        times, seconds = zip(*(task.result() for task in self.tasks), strict=True)
        return np.concatenate(times), self.length, sum(seconds)


def run_bundle(sources: str, question: Question, length: int, seed: int, number: int, limit: Limit | None = None) -> tuple[Floats, float]:
    """T_b of the pairs of one bundle of chains, and the seconds of a core that they took; OutOfTime where nobody waits any more.

    What was begun may take longer than the deadline.
    """
    require_sources(sources)
    began, check = time.perf_counter(), Limit().check if limit is None else Limit(stopped=limit.stopped).check
    model, lag = question.model, question.schedule.interval * question.schedule.n_intervals
    features = features_of(model, question.observables, question.units, question.fields)
    sequence = np.random.SeedSequence([seed, 1])
    with threads.serial(), blas.one_thread():
        samples = alternating_bundle(model, 2 * N_PAIRS, number, length, 2 * lag, sequence, check)
        times = np.empty(min(LANES, 2 * N_PAIRS - number * LANES) // 2)
        for pair in range(len(times)):
            check()
            means, squares = zip(*(_moments(model, features, samples, 2 * pair + side) for side in range(2)), strict=True)
            difference = float(((means[0] - means[1]) ** 2).sum())
            variance = 0.5 * (squares[0] + squares[1]) - float((means[0] * means[1]).sum())
            times[pair] = 0.5 * (0.5 * length * difference + variance)
    return times, time.perf_counter() - began


def _moments(model: Model, features: Features, samples: Samples, chain: int) -> tuple[Floats, float]:
    """The means of f over the records of a chain, with the fields in the last row and column, and that of |f|^2."""
    a, b = (
        _units(features, unpack(octets[:, chain], n)) for octets, n in zip((samples.visible, samples.hidden), model.W.shape, strict=True)
    )
    if features.expected:
        b = _units(features, np.tanh(unpack(samples.visible[:, chain], model.n_visible) @ model.W + model.c))
    means: Floats = (a.T @ b).astype(np.float64) / len(a)
    a, b = a.astype(np.float64) ** 2, b.astype(np.float64) ** 2
    if model.mask is None:
        return means, float((a.sum(axis=1) * b.sum(axis=1)).mean())
    edges = np.pad(model.mask, (0, int(features.fields)), constant_values=True)
    return means * edges, float((a @ edges * b).sum(axis=1).mean())


def _units(features: Features, layer: NDArray[Any]) -> NDArray[Any]:
    """Spins, or their means, in the units of the features, a one beside them for the fields.

    Of spins float32 holds every sum over a batch exactly: multiples of 1/4 below 2**24 / 4.
    """
    units: NDArray[Any] = layer.astype(np.float64 if layer.dtype == np.float64 else np.float32)
    return np.pad(features.scale * units + features.shift, [(0, 0), (0, int(features.fields))], constant_values=1.0)
