"""Intervals of 95 % from independent replicates and groups of replicates: Student's for a mean, Fieller's for a ratio."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit  # of scipy.stats, which takes half a second to import, its quantile is the same number

from thermokernels.common.arrays import Floats

LEVEL = 0.95

Interval = tuple[float, float]


def quantile(degrees: int) -> float:
    """Of Student's law, for a two-sided interval of 95 %."""
    return float(stdtrit(degrees, 0.5 + LEVEL / 2))


def mean_interval(samples: Floats) -> Interval:
    """Of the mean of independent samples (n,)."""
    half = quantile(len(samples) - 1) * float(samples.std(ddof=1)) / math.sqrt(len(samples))
    mean = float(samples.mean())
    return mean - half, mean + half


def controlled(sums: Floats, weights: Floats) -> Floats:
    """Replicates' weighted sums with their weights, of mean one, as a control: sum + mu (1 - weight), mu the mean of the other half's sums.

    The halves are the even and the odd replicates; as mu knows nothing of the replicate, its mean is not changed.
    """
    values: Floats = np.empty_like(sums)
    for half in range(2):
        values[half::2] = sums[half::2] + sums[1 - half :: 2].mean() * (1 - weights[half::2])
    return values


def largest_share(samples: Floats) -> float:
    """The largest square of a deviation from the mean, as a share of their sum; 0 where nothing deviates."""
    squares = (samples - samples.mean()) ** 2
    total = float(squares.sum())
    return float(squares.max()) / total if total > 0 else 0.0


def jackknife_covariance(left_out: Floats) -> Floats:
    """Of estimates (k,) from their values with one of n groups left out, shape (n, k)."""
    n_groups = len(left_out)
    centred = left_out - left_out.mean(axis=0)
    covariance: Floats = (n_groups - 1) / n_groups * (centred.T @ centred)
    return covariance


def fieller(numerator: float, denominator: float, covariance: Floats, degrees: int) -> Interval:
    """All ratios q with |numerator - q denominator| within t standard errors (Fieller 1954); unbounded where the denominator may be zero.

    ``covariance`` (2, 2) is that of the two estimates.
    """
    t2 = quantile(degrees) ** 2
    a = denominator**2 - t2 * covariance[1, 1]
    b = numerator * denominator - t2 * covariance[0, 1]
    c = numerator**2 - t2 * covariance[0, 0]
    if a <= 0:
        return -math.inf, math.inf
    root = math.sqrt(max(b * b - a * c, 0.0))
    return (b - root) / a, (b + root) / a
