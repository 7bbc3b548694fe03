"""Intervals and the U-statistic of the signal against plain computations."""

import numpy as np
import pytest
from scipy import stats

from thermokernels.estimates.statistics.intervals import controlled, estimated, fieller, largest_share, mean_interval
from thermokernels.estimates.statistics.signal import Groups, estimate_signal

pytestmark = pytest.mark.small


def hall(t, samples):
    """Student's t with its skewness taken out, as Hall (1992) writes it: n, the skewness, and no shorthand."""
    n, skewness = len(samples), stats.skew(samples)
    return t + skewness * t**2 / (3 * n**0.5) + skewness**2 * t**3 / (27 * n) + skewness / (6 * n**0.5)


def left_out(samples):
    return np.array([np.delete(samples, k, axis=0).mean(axis=0) for k in range(len(samples))])


def test_fieller_is_the_set_of_ratios_that_are_not_refuted():
    samples = np.random.default_rng(2).exponential(size=(25, 2)) @ [[1.0, 0.2], [0.0, 0.6]] + [1.0, 4.0]
    low, high = fieller(*samples.mean(axis=0), left_out(samples))
    for end, inside in ((low, 1e-6), (high, -1e-6)):
        for q, refuted in ((end + inside, False), (end - inside, True)):
            terms = samples[:, 0] - q * samples[:, 1]
            t = terms.mean() / (terms.std(ddof=1) / 5)
            assert (abs(hall(t, terms)) > stats.t.ppf(0.975, 24)) == refuted
    noisy = samples - [0.0, samples[:, 1].mean() - 0.01]
    assert fieller(*noisy.mean(axis=0), left_out(noisy)) == (-np.inf, np.inf)
    assert fieller(2.0, 4.0, np.tile([2.0, 4.0], (5, 1))) == (0.5, 0.5)


def test_a_ratio_to_a_constant_is_a_mean():
    samples = np.random.default_rng(3).exponential(size=30)
    alone = np.stack([left_out(samples), np.ones(30)], axis=1)
    assert fieller(samples.mean(), 1.0, alone) == pytest.approx(mean_interval(samples))


@pytest.mark.parametrize(
    "samples", [np.random.default_rng(1).exponential(size=50), -(np.arange(7.0) ** 3), np.array([1.0, -1.0, 2.0, -2.0])]
)
def test_the_ends_of_an_interval_are_quantiles_of_the_transformed_t(samples):
    n, mean, most = len(samples), samples.mean(), stats.t.ppf(0.975, len(samples) - 1)
    ends = [(mean - end) / (samples.std(ddof=1) / n**0.5) for end in mean_interval(samples)]
    assert [hall(t, samples) for t in ends] == pytest.approx([most, -most])


def test_rare_events_get_the_interval_of_poissons_law():
    for k in (5, 8, 20):
        samples = np.zeros(5000)
        samples[:k] = 1
        exact = stats.chi2.ppf([0.025, 0.975], [2 * k, 2 * k + 2]) / 2
        assert 5000 * np.array(mean_interval(samples)) == pytest.approx(exact, rel=0.14, abs=0)
        assert largest_share(samples) == pytest.approx(1 / k, rel=0.01, abs=0)
    assert mean_interval(np.ones(4)) == (1.0, 1.0)
    assert largest_share(np.ones(3)) == 0
    assert largest_share(np.array([1.0, 2.0, 3.0, 10.0])) == pytest.approx(36 / 50)


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


@pytest.mark.parametrize(
    ("value", "interval", "shown"),
    [
        (6403.28, (6401.74, 6404.82), ("6403.3", "6401.7", "6404.8")),
        (17034.0, (16000.0, 18000.0), ("17000", "16000", "18000")),
        (0.00587, (0.00581, 0.005925), ("0.005870", "0.005810", "0.005925")),
        (1.2964e6, (1.28e6, 1.31e6), ("1.30e+06", "1.28e+06", "1.31e+06")),
        (999.96, (990.0, 1010.0), ("1000", "990", "1010")),
        (0.0, (-1.0, 1.0), ("0", "-1.00", "1.00")),
        (3.0, (2.0, np.inf), ("3.00", "2.00", "no end")),
        (np.nan, (np.nan, np.nan), ("nan", "nan", "nan")),
        (5.0, (5.0, 5.0), ("5.00", "5.00", "5.00")),
    ],
)
def test_an_estimate_is_shown_with_the_digits_that_it_has(value, interval, shown):
    assert estimated(value, interval) == shown
