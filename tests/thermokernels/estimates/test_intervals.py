"""Intervals and the U-statistic of the signal against plain computations."""

import numpy as np
import pytest

from thermokernels.estimates.intervals import controlled, fieller, jackknife_covariance, largest_share, mean_interval, quantile
from thermokernels.estimates.signal import Groups, estimate_signal

pytestmark = pytest.mark.small


def test_fieller_is_the_set_of_ratios_that_are_not_refuted():
    covariance = np.array([[0.3, 0.1], [0.1, 0.2]])
    low, high = fieller(2.0, 5.0, covariance, 20)
    t = quantile(20)
    for end, inside in ((low, 1e-6), (high, -1e-6)):
        for q, refuted in ((end + inside, False), (end - inside, True)):
            error = np.sqrt(covariance[0, 0] - 2 * q * covariance[0, 1] + q * q * covariance[1, 1])
            assert (abs(2.0 - q * 5.0) > t * error) == refuted
    assert fieller(2.0, 0.1, covariance, 20) == (-np.inf, np.inf)


def test_mean_interval_and_largest_share():
    samples = np.array([1.0, 2.0, 3.0, 10.0])
    low, high = mean_interval(samples)
    assert (low + high) / 2 == pytest.approx(4)
    assert (high - low) / 2 == pytest.approx(3.182446 * samples.std(ddof=1) / 2, rel=1e-6)
    assert largest_share(samples) == pytest.approx(36 / 50)
    assert largest_share(np.ones(3)) == 0


def test_signal_is_the_mean_over_pairs_of_different_groups():
    draws = np.random.default_rng(0)
    data, groups = draws.normal(size=6), Groups(6)
    rows, weights = draws.normal(size=(11, 6)) + 0.3, draws.uniform(0.5, 1.5, 11)
    parts = [rows[0:3], rows[3:5], rows[5:9], rows[9:11]]
    first = 0
    for part in parts:
        groups.take(
            (weights[first : first + len(part), None] * part).sum(axis=0), weights[first : first + len(part)].sum(), len(part), first
        )
        first += len(part)

    parts = [weights[first : first + len(part), None] * (part - data) for part, first in zip(parts, (0, 3, 5, 9), strict=True)]

    def plain(parts):
        products = [x @ y for k, p in enumerate(parts) for x in p for m, q in enumerate(parts) if m != k for y in q]
        return np.mean(products)

    signal = estimate_signal(groups, data)
    assert signal.value == pytest.approx(plain(parts))
    assert signal.left_out == pytest.approx([plain(parts[:k] + parts[k + 1 :]) for k in range(4)])
    assert signal.g == pytest.approx(np.concatenate(parts).mean(axis=0))
    assert [members.tolist() for members in signal.members] == [[0, 1, 2], [3, 4], [5, 6, 7, 8], [9, 10]]


def test_weights_of_mean_one_are_a_control():
    sums, weights = np.array([3.0, 4.0, 9.0, 4.0]), np.array([1.0, 1.0, 3.0, 1.0])
    assert controlled(sums, weights).tolist() == [3.0, 4.0, 1.0, 4.0]
    assert controlled(sums, np.array([1.0, 0.0, 1.0, 1.0])).tolist() == [3.0, 10.0, 9.0, 4.0]


def test_jackknife_of_a_mean_is_its_squared_standard_error():
    samples = np.random.default_rng(1).normal(size=30)
    left_out = (samples.sum() - samples) / 29
    assert jackknife_covariance(left_out[:, None])[0, 0] == pytest.approx(samples.var(ddof=1) / 30)
