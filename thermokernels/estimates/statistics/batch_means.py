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
        times, moments = np.empty(min(LANES, 2 * N_PAIRS - number * LANES) // 2), _Moments(model, features, length)
        means, products = np.empty((2, *moments.shape)), np.empty(moments.shape)
        for pair in range(len(times)):
            check()
            squares = [moments.of(samples, 2 * pair + side, means[side]) for side in range(2)]
            variance = 0.5 * (squares[0] + squares[1]) - float(np.multiply(means[0], means[1], out=products).sum())
            difference = np.subtract(means[0], means[1], out=products)
            times[pair] = 0.5 * (0.5 * length * float(np.square(difference, out=difference).sum()) + variance)
    return times, time.perf_counter() - began


class _Moments:
    """Means over the records of a chain. Its arrays are used again for every chain: a worker whose memory goes back to the system whenever
    one is freed, as those of Dask do, would take twice as long with new ones.

    Of spins float32 holds every sum over a batch exactly: multiples of 1/4 below 2**24 / 4.
    """

    def __init__(self, model: Model, features: Features, length: int) -> None:
        self.model, self.features = model, features
        kind = np.float64 if features.expected else np.float32
        n_visible, n_hidden = self.shape = (model.n_visible + features.fields, model.n_hidden + features.fields)
        self.a, self.b, self.products = (np.ones(shape, kind) for shape in ((length, n_visible), (length, n_hidden), self.shape))

    def of(self, samples: Samples, chain: int, means: Floats) -> float:
        """Fill in the means of f over the records of a chain, with the fields in the last row and column; returns that of |f|^2."""
        a, b, model = self.a, self.b, self.model
        visible = unpack(samples.visible[:, chain], model.n_visible)
        self._take(visible, a)
        self._take(np.tanh(visible @ model.W + model.c) if self.features.expected else unpack(samples.hidden[:, chain], model.n_hidden), b)
        means[:] = np.matmul(a.T, b, out=self.products)
        means /= len(a)
        np.square(a, out=a)
        np.square(b, out=b)
        if model.mask is None:
            return float((a.sum(axis=1, dtype=np.float64) * b.sum(axis=1, dtype=np.float64)).mean())
        edges = np.pad(model.mask, (0, int(self.features.fields)), constant_values=True)
        means *= edges
        return float((a.astype(np.float64) @ edges * b).sum(axis=1).mean())

    def _take(self, layer: NDArray[Any], rows: NDArray[Any]) -> None:
        """Spins, or their means, in the units of the features, a one beside them for the fields."""
        units = rows[:, : layer.shape[1]]
        np.multiply(layer, self.features.scale, out=units, casting="same_kind")
        units += self.features.shift
        rows[:, layer.shape[1] :] = 1.0
