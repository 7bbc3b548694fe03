"""Pairs of doubles against mpmath."""

import numpy as np
import pytest

from thermokernels.compiled import double_double as dd

mp = pytest.importorskip("mpmath", reason="mpmath is not installed: pip install mpmath")

small = pytest.mark.small


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(60):
        yield


def exact(pair):
    return mp.mpf(float(pair[0])) + mp.mpf(float(pair[1]))


def pairs(seed, count=60):
    draws = np.random.default_rng(seed)
    high = draws.normal(size=count) * 10.0 ** draws.integers(-20, 20, count)
    return [dd.two_sum(float(h), float(h * 2.0**-54 * u)) for h, u in zip(high, draws.uniform(-1, 1, count), strict=True)]


@small
def test_sums_products_and_quotients():
    for x, y in zip(pairs(1), pairs(2), strict=True):
        assert exact(dd.two_sum(x[0], y[0])) == mp.mpf(x[0]) + mp.mpf(y[0])
        assert exact(dd.two_product(x[0], y[0])) == mp.mpf(x[0]) * mp.mpf(y[0])
        for operation, right in (
            (dd.add, exact(x) + exact(y)),
            (dd.multiply, exact(x) * exact(y)),
            (dd.divide, exact(x) / exact(y)),
            (dd.add, exact(x) + exact(y)),
        ):
            assert abs(exact(operation(*x, *y)) / right - 1) <= mp.mpf(2) ** -98


@small
def test_a_difference_that_cancels_keeps_its_digits():
    x, y = dd.divide(1.0, 0.0, 3.0, 0.0), dd.divide(1.0 + 2.0**-40, 0.0, 3.0, 0.0)
    right = mp.mpf(2) ** -40 / 3
    assert abs(exact(dd.add(*y, -x[0], -x[1])) / right - 1) <= mp.mpf(2) ** -60


@small
@pytest.mark.parametrize("scale", [1e-12, 1e-3, 0.3, 1.0, 30.0, 600.0])
def test_exponentials(scale):
    draws = np.random.default_rng(3)
    for high in [*(scale * draws.uniform(-1, 1, 20)), scale, -scale, 0.0]:
        low = float(high) * 2.0**-54
        value = dd.exponential(float(high), low)
        right = mp.exp(mp.mpf(float(high)) + mp.mpf(low))
        assert abs(exact(value) / right - 1) <= 1e-28  # that of ln 2 times at most 1010, and of nine squarings
    assert dd.exponential(-701.0, 0.0) == (0.0, 0.0)
