"""The usual estimators of the autocorrelation time, and what each of them gives on average for chains of that length.

An estimator subtracts the mean of each chain from itself and adds up until a window closes: it is biased, the more the shorter the chains
are, however many there are. With the exact autocovariances C(t) of the series the expectation of its ingredients is exact,

    E sum_s (x_s - xbar)(x_(s+t) - xbar) = (n - t) (C(t) + E xbar^2) - (2/n) sum_(s < n - t) A_s,    A_s = sum_(j < n) C(|s - j|),

with E xbar^2 = sum_s A_s / n^2 (mean zero without loss), and the estimator made of these is its average up to what is of second order in
the scatter of its ingredients, a share of tau / n.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from thermokernels.common.arrays import Floats

# Records are summed over this many autocorrelation times (Sokal's window, emcee's default), which sets the statistical error.
SOKAL_WINDOW = 5
# Parts of the trace whose estimates show how much they scatter.
PARTS = 8


@dataclass(frozen=True)
class Estimator:
    """One estimator of tau = 1 + 2 sum rho.

    Attributes
    ----------
    package : that it is in
    of : of a series (n_chains, n_records) to tau in records, or None
    average : of the exact C(t) for t < n and the number of stationary chains to the range of what it gives on average
    """

    package: str
    of: Callable[[Floats], float | None]
    average: Callable[[Floats, int], tuple[float, float]]


def installed() -> dict[str, Estimator]:
    """The estimators whose packages are there, by name."""
    return {name: estimator for name, estimator in ESTIMATORS.items() if find_spec(estimator.package)}


def missing() -> tuple[str, ...]:
    """The packages that are not there."""
    return tuple(estimator.package for name, estimator in ESTIMATORS.items() if name not in installed())


def by_emcee(series: Floats) -> float | None:
    from emcee.autocorr import integrated_time

    if (np.ptp(series, axis=1) == 0).any():  # it would divide by the variance of each chain
        return None
    return finite(integrated_time(series.T, tol=0)[0])  # tol=0: whether the chain is long enough is our question


def by_arviz(series: Floats) -> float | None:
    from arviz_stats.base import array_stats

    size = finite(array_stats.ess(series, chain_axis=0, draw_axis=1, method="mean"))
    return None if size is None else series.size / size


def r_hat(series: Floats) -> float | None:
    """ArviZ's rank-normalised split R-hat."""
    from arviz_stats.base import array_stats

    with np.errstate(divide="ignore", invalid="ignore"):  # chains that stand still have no variance within
        return finite(array_stats.rhat(series, chain_axis=0, draw_axis=1, method="rank"))


def finite(number: Any) -> float | None:
    return float(number) if np.isfinite(number) and number > 0 else None


# Expectations.


def _expected_of_emcee(covariances: Floats, _n_chains: int) -> tuple[float, float]:
    products, _ = _expected_products(covariances)
    times = 2 * np.cumsum(products / products[0]) - 1
    closed = np.arange(times.size) >= SOKAL_WINDOW * times
    time = float(times[closed.argmax() if closed.any() else -1])
    return _widened(time, time, covariances)


def _expected_of_arviz(covariances: Floats, n_chains: int) -> tuple[float, float]:
    """Chains are split into halves; rho from the variance within and between them; Geyer's initial positive and monotone sequences.

    These end where a sum of two neighbours is negative: without scatter at the very end, or never (the most); with it somewhere after the
    sums have come down to their own scatter, by Bartlett's formula (the least).
    """
    half = covariances.size // 2
    products, mean_square = _expected_products(covariances[:half])
    _, whole_square = _expected_products(covariances)
    within = products[0] / (half - 1)
    shared = 2 * whole_square - mean_square  # E xbar xbar' of the two halves of one chain
    spread = within * (half - 1) / half + mean_square - shared / (2 * n_chains - 1)
    rho = 1 - (within - products / half) / spread
    rho[0] = 1.0
    n_pairs = max(1, (half - 3) // 2)
    pairs = (rho[0::2][:n_pairs], rho[1::2][:n_pairs])
    sums = pairs[0] + pairs[1]
    time = 1 + 2 * float(covariances[1:].sum()) / covariances[0]
    scatter = 2 * math.sqrt(max(time, 1.0) / (n_chains * covariances.size))
    least, most = (_geyer(pairs[0], sums, level) for level in (scatter, 0.0))
    floor = 1 / math.log10(n_chains * covariances.size)
    return _widened(max(min(least, most), floor), max(least, most, floor), covariances)


def _widened(least: float, most: float, covariances: Floats) -> tuple[float, float]:
    """What is of second order, tau / n of the expectation, to either side."""
    share = min(0.5, max(1.0, most) / covariances.size)
    return least * (1 - share), most * (1 + share)


def _geyer(even: Floats, sums: Floats, level: float) -> float:
    """tau from the sums of neighbours down to ``level``, made monotone."""
    ended = sums <= level
    positive = int(np.argmax(ended)) if ended.any() else sums.size
    last = max(float(even[positive]), 0.0) if positive < sums.size else 0.0
    return 2 * float(np.minimum.accumulate(sums[:positive]).sum()) - 1 + last


def _expected_products(covariances: Floats) -> tuple[Floats, float]:
    """E sum_s (x_s - xbar)(x_(s+t) - xbar) for t < n, and E xbar^2."""
    n = covariances.size
    cumulated = np.cumsum(covariances)
    sums = cumulated + cumulated[::-1] - covariances[0]
    mean_square = float(sums.sum()) / n**2
    left = np.arange(n, 0, -1)
    return left * (covariances + mean_square) - 2 / n * np.cumsum(sums)[::-1], mean_square


# Errors.


def relative_error(estimator: Estimator, time: float, series: Floats) -> float:
    """Relative standard error of an estimate that is ``time`` on average: Sokal's formula, or the scatter over parts where that is more."""
    return max(_sokal_error(time, series.size), _scatter(estimator, series))


def _sokal_error(time: float, n_records: int) -> float:
    """sqrt(2 (2 M + 1) / n) of an estimate with a window of M records (Sokal 1997, eq. 3.19, Gaussian series)."""
    return math.sqrt(2 * (2 * SOKAL_WINDOW * max(time, 1.0) + 1) / n_records)


def _scatter(estimator: Estimator, series: Floats) -> float:
    """As the parts of the trace show it: rare events are not Gaussian."""
    pieces = -(-PARTS // len(series))
    length = series.shape[1] // pieces
    parts = series[:, : pieces * length].reshape(-1, 1, length) if length >= 4 else series[:0, None]
    values = [value for part in parts if (value := estimator.of(part)) is not None]
    return float(np.std(values, ddof=1) / np.mean(values) / math.sqrt(len(values))) if len(values) > 1 else 0.0


ESTIMATORS = {
    "emcee": Estimator("emcee", by_emcee, _expected_of_emcee),
    "ArviZ": Estimator("arviz_stats", by_arviz, _expected_of_arviz),
}
