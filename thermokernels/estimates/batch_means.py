"""Replicated batch means of the alternating scan beside the coupled estimate, where chains meet quickly: another method, which must agree.

Pairs of independent chains run for b records each, after two lags of burn-in. With D the difference of their means of f over the batch,

    V_b = (b / 2) E |D|^2 = sum_(|t| < b) (1 - |t| / b) C(t),      T_b = (V_b + sum_a Var f_a) / 2,

needs no mean to subtract (Argon and Andradottir 2006). It is short of T_O by sum_(t < b) (t / b) C(t) and what comes after b. Excursions
say how much that is: sum_t t C(t) = (1/2) E sum_(t < tau) t S_t, which is at most E tau times the excursion's sum where S_t >= 0.
b is 20 lags: the lag is the largest meeting time of the pilot, several relaxation times.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermokernels.common import blas, threads
from thermokernels.common.arrays import Floats
from thermokernels.estimates.coupling.lag_pairs import Schedule
from thermokernels.estimates.features import Features
from thermokernels.model.model import Model
from thermokernels.sampling.samplers import sample
from thermokernels.sampling.samples import Samples, unpack

N_PAIRS = 64
LAGS = 20
# Beyond so many sweeps, or bytes of spins, batches are left out: they are the quick method for quick chains.
LONGEST, MOST_BYTES = 2000, 2**28


def batch_times(model: Model, features: Features, schedule: Schedule, seed: int) -> tuple[Floats, int] | None:
    """T_b of 64 independent pairs of chains, in sweeps, and b; None where b would be too long."""
    lag = schedule.interval * schedule.n_intervals
    length = LAGS * lag
    if length > LONGEST or 2 * N_PAIRS * length * model.n_spins > MOST_BYTES:
        return None
    sequence = np.random.SeedSequence([seed, 1])
    samples = sample(model, n_chains=2 * N_PAIRS, n_sweeps=length, kernel="alternating", burn_in=2 * lag, seed=sequence, packed=True)
    times = np.empty(N_PAIRS)

    def run(pair: int) -> None:
        means, squares = zip(*(_moments(model, features, samples, 2 * pair + side) for side in range(2)), strict=True)
        difference = float(((means[0] - means[1]) ** 2).sum())
        variance = 0.5 * (squares[0] + squares[1]) - float((means[0] * means[1]).sum())
        times[pair] = 0.5 * (0.5 * length * difference + variance)

    with blas.one_thread():
        threads.for_each(run, N_PAIRS, N_PAIRS * length * model.W.size)
    return times, length


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
