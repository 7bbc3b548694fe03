"""Replicated batch means of the alternating scan beside the coupled estimate, where chains meet quickly: another method, which must agree.

Pairs of independent chains run for b records each, after two lags of burn-in. With D the difference of their means of f over the batch,

    V_b = (b / 2) E |D|^2 = sum_(|t| < b) (1 - |t| / b) C(t),      T_b = (V_b + sum_a Var f_a) / 2,

needs no mean to subtract (Argon and Andradottir 2006). It is short of T_O by sum_(t < b) (t / b) C(t) and what comes after b. Excursions
say how much that is: sum_t t C(t) = (1/2) E sum_(t < tau) t S_t, which is at most E tau times the excursion's sum where S_t >= 0.
b is 20 lags: the lag is the largest meeting time of the pilot, several relaxation times.
"""

from __future__ import annotations

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.estimates.coupling.lag_pairs import Schedule
from thermokernels.estimates.features import Features
from thermokernels.model.model import Model
from thermokernels.sampling.samplers import sample
from thermokernels.sampling.samples import Samples

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
    samples = sample(model, n_chains=2 * N_PAIRS, n_sweeps=length, kernel="alternating", burn_in=2 * lag, seed=sequence)
    times = np.empty(N_PAIRS)
    for pair in range(N_PAIRS):
        means, squares = zip(*(_moments(model, features, samples, 2 * pair + side) for side in range(2)), strict=True)
        difference = float(((means[0] - means[1]) ** 2).sum())
        variance = 0.5 * (squares[0] + squares[1]) - float((means[0] * means[1]).sum())
        times[pair] = 0.5 * (0.5 * length * difference + variance)
    return times, length


def _moments(model: Model, features: Features, samples: Samples, chain: int) -> tuple[Floats, float]:
    """The means of f over the records of a chain, with the fields in the last row and column, and that of |f|^2."""
    v, h = samples.visible[:, chain].astype(np.float64), samples.hidden[:, chain].astype(np.float64)
    if features.expected:
        h = np.tanh(v @ model.W + model.c)
    a, b = (np.pad(features.shift + features.scale * layer, [(0, 0), (0, int(features.fields))], constant_values=1.0) for layer in (v, h))
    means: Floats = a.T @ b / len(a)
    if model.mask is None:
        return means, float(((a * a).sum(axis=1) * (b * b).sum(axis=1)).mean())
    edges = np.pad(model.mask, (0, int(features.fields)), constant_values=True)
    return means * edges, float(((a * a) @ edges * (b * b)).sum(axis=1).mean())
