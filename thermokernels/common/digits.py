"""Numbers as they are shown: no digit that is not certain."""

from __future__ import annotations

import math

import numpy as np


def certified(value: float, error: float | None = None, most: int = 6) -> str:
    """``value`` with its certain digits, at most ``most`` significant ones: the last is right to one unit, given a bound on its error.

    A number without a certain digit is shown as the most that it can be in size. Without an error all ``most`` digits are shown: what is
    exact (counts, thresholds, energies' ties) or an error bound itself.

    Parameters
    ----------
    value, error : float
        In one unit; ``error`` a bound on |exact - value|, or None.

    Examples
    --------
    >>> certified(0.0123456789, 1e-9), certified(0.0123456789, 2e-5), certified(3.2e-34, 1e-30), certified(1234567.0, 0.0)
    ('0.0123457', '0.0123', 'at most 1.1e-30', '1.23457e+06')
    """
    if not math.isfinite(value):
        return str(value)
    if error is None or error == 0.0:
        return positional(value, most)
    # half a unit for rounding to it, half for the error
    digits = most if value == 0.0 else math.floor(math.log10(abs(value))) - math.ceil(math.log10(2 * error)) + 1
    if digits < 1 or value == 0.0:
        return f"at most {1.06 * (abs(value) + error):.2g}"
    if digits < most and abs(value) >= 10.0**digits:  # 2.8e+04: the zeros of 28000 would not be certain
        return f"{value:.{digits - 1}e}"
    return positional(value, min(digits, most))


def positional(value: float, digits: int) -> str:
    """So many significant digits, without an exponent from 0.0001 to a million."""
    if value == 0.0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    return str(np.format_float_positional(value, precision=digits, unique=False, fractional=False, trim="-"))
