"""Intervals of 95 % from independent replicates and groups of replicates, for a mean and for a ratio, corrected for skewness.

Replicates are sums over excursions, most of them short and a few long: their law has a long tail to one side. Where the long ones are
missing in a sample, its mean and its spread are both too small, and a symmetric interval falls short of the truth at that end. Hall's
transformation takes the skewness out of Student's t to the order of its expansion: with e = (third moment) / (n**(1/2) sd**3),

    g(t) = t + (e / 3) t**2 + (e**2 / 27) t**3 + e / 6,      t = 3 / e * ( (1 + e (g - e / 6))**(1/3) - 1 )

is closer to Student's law than t is (Hall 1992, J. R. Stat. Soc. B 54, 221). It is monotone, and where a sample holds k rare events of one
size, e = k**(-1/2), its ends are those of the exact interval of Poisson's law to 14 % down to k = 5.
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from thermokernels.common.arrays import Floats

LEVEL = 0.95
# A ratio whose interval is longer than 2**60 standard errors has none.
DOUBLINGS = 60

Interval = tuple[float, float]


def quantile(degrees: int) -> float:
    """Of Student's law, for a two-sided interval of 95 %."""
    return float(scipy.special.stdtrit(degrees, 0.5 + LEVEL / 2))


def mean_interval(samples: Floats) -> Interval:
    """Of the mean of independent samples (n,)."""
    centred = samples - samples.mean()
    error = float(samples.std(ddof=1)) / math.sqrt(len(samples))
    mean, most, skewness = float(samples.mean()), quantile(len(samples) - 1), expansion(centred)
    return mean - error * untransformed(most, skewness), mean - error * untransformed(-most, skewness)


def expansion(centred: Floats) -> float:
    """e: the skewness of samples about their mean, divided by the square root of their number."""
    squares = float((centred**2).sum())
    return float((centred**3).sum()) / squares**1.5 if squares > 0 else 0.0


def transformed(t: float, e: float) -> float:
    """g(t), whose skewness is gone."""
    return t + e / 3 * t**2 + e**2 / 27 * t**3 + e / 6


def untransformed(g: float, e: float) -> float:
    """The t whose transform is g."""
    if abs(e) < 1e-6:  # the cube root would leave no digits, and there is nothing to correct
        return g
    return 3 / e * (math.cbrt(1 + e * (g - e / 6)) - 1)


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


def fieller(numerator: float, denominator: float, left_out: Floats) -> Interval:
    """All ratios q for which numerator - q denominator may be zero (Fieller 1954); unbounded where the denominator may be.

    ``left_out`` (n, 2) are both with one of n groups left out: spread and skewness of the difference come from their jackknife.
    """
    centred = (len(left_out) - 1) * (left_out.mean(axis=0) - left_out)
    n_pairs, most = len(left_out) * (len(left_out) - 1), quantile(len(left_out) - 1)
    ratio = numerator / denominator

    def error(q: float) -> float:
        return math.sqrt(float(((centred[:, 0] - q * centred[:, 1]) ** 2).sum()) / n_pairs)

    def excess(q: float) -> float:
        """How far the difference at q is beyond its bound, in standard errors."""
        skewness = expansion(centred[:, 0] - q * centred[:, 1])
        return abs(transformed((numerator - q * denominator) / error(q), skewness)) - most

    def end(step: float) -> float:
        """The first q that is refuted from the ratio on: steps that double, then halve."""
        inside = ratio
        for _ in range(DOUBLINGS):
            if excess(inside + step) > 0:
                break
            inside, step = inside + step, 2 * step
        else:
            return math.inf
        for _ in range(DOUBLINGS):
            step /= 2
            if not excess(inside + step) > 0:
                inside += step
        return inside

    if not error(ratio) > 0:
        return ratio, ratio
    low, high = (end(sign * error(ratio) / abs(denominator)) for sign in (-1, 1))
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (-math.inf, math.inf)


def three_digits(value: float) -> str:
    """A number as sentences and tables show it."""
    return _digits(value, 3)


def estimated(value: float, interval: Interval) -> tuple[str, str, str]:
    """An estimate and the ends of its interval as sentences and tables show them: two digits of its half width, three in all at least."""
    half = 0.5 * (interval[1] - interval[0])
    known = math.floor(math.log10(abs(value) / half)) + 2 if half > 0 and math.isfinite(half) and value != 0 else 3
    number, low, high = (_digits(one, min(max(known, 3), 8)) for one in (value, *interval))
    return number, low, high


def _digits(value: float, n_digits: int) -> str:
    """So many significant digits, without an exponent for numbers of everyday size."""
    if not math.isfinite(value):
        return "no end" if value > 0 else str(value)
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{n_digits - 1}e}".split("e")
    if not -4 <= int(exponent) < 6:
        return f"{mantissa}e{exponent}"
    return f"{float(f'{mantissa}e{exponent}'):.{max(0, n_digits - 1 - int(exponent))}f}"
