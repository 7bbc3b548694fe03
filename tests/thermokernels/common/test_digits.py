"""No digit is shown that is not certain."""

import numpy as np
import pytest

from thermokernels.common.digits import certified

pytestmark = pytest.mark.small


def test_the_last_digit_is_right_to_one_unit():
    draws = np.random.default_rng(0)
    for _ in range(2000):
        exact = 10.0 ** draws.uniform(-12, 12) * draws.choice([-1, 1])
        error = abs(exact) * 10.0 ** draws.uniform(-9, 0.5)
        value = exact + draws.uniform(-1, 1) * error
        shown = certified(value, error)
        if shown.startswith("at most"):
            assert abs(exact) <= float(shown.removeprefix("at most ")) <= 1.2 * (abs(value) + error)
            continue
        mantissa, _, exponent = shown.lstrip("-").partition("e")
        decimals = len(mantissa.partition(".")[2])
        digits = mantissa.replace(".", "").lstrip("0")
        assert len(digits) <= 6
        assert abs(float(shown) - exact) <= 10.0 ** (int(exponent or 0) - decimals) * 1.0001


def test_without_an_error_six_digits_or_as_many_as_asked_for():
    assert certified(0.0121188123) == "0.0121188"
    assert certified(1234.5678, most=3) == "1230"
    assert certified(2.5e-7, 0.0) == "2.5e-07"
    assert certified(0.0) == "0"
    assert certified(0.0, 1e-12) == "at most 1.1e-12"
    assert certified(float("inf"), 1.0) == "inf"
