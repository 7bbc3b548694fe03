"""The variance of a mean over a stationary window, from the spectral measure."""

from __future__ import annotations

import numpy as np

from thermokernels.common import arguments
from thermokernels.common.error_state import default_error_state
from thermokernels.quantities.spectral_measure import SpectralMeasure

# Of an eigenvalue: below this it is no rounding of zero.
NEGATIVE = 1e-9


@default_error_state
def window_variance(measure: SpectralMeasure, K: float) -> float:
    """Variance of the mean of the observables over a stationary window of K steps, summed over the observables.

    sum_j w_j (1/K) [ (1 + s) / (1 - s) - 2 s (1 - s^K) / (K (1 - s)^2) ] with s = sigma_j. Where K (1 - s) is small the brackets
    cancel, and the equal sum (2/K) sum_j (-lambda)^j binom(K + 1, j + 2) - 1 in lambda = 1 - s is taken instead.

    Parameters
    ----------
    measure : SpectralMeasure
    K : window in steps, at least 1

    Raises
    ------
    ValueError
        K is not a finite number of at least 1, or no whole number of steps of a chain with negative eigenvalues.

    Examples
    --------
    >>> import thermokernels as tk
    >>> measure = tk.spectral_measure(tk.gibbs_chain([[0.0]]))  # one fresh sample a step
    >>> round(tk.window_variance(measure, 10), 12)
    0.1
    """
    measure = arguments.as_instance(measure, SpectralMeasure, "measure", "spectral_measure(chain)")
    K = arguments.as_positive(K, "K", "steps")
    if K < 1:
        raise ValueError(f"K must be a window of at least one step; got {K!r}")
    negative = measure.gaps > 1.0 + NEGATIVE
    if negative.any() and K % 1:
        raise ValueError(f"K must be a whole number of steps where a chain has negative eigenvalues; got {K!r}")
    gaps = np.where(negative, measure.gaps, np.minimum(measure.gaps, 1.0))
    slow = K * gaps < 0.1
    factors = np.empty_like(gaps)
    with np.errstate(divide="ignore", over="ignore"):  # a gap of one; a window beyond float64, whose term vanishes
        fast = gaps[~slow]
        decayed = np.expm1(K * np.log1p(-np.minimum(fast, 1.0)))  # s^K - 1
        decayed[negative[~slow]] = (1 - gaps[negative]) ** K - 1
        factors[~slow] = (2 - fast) / fast + 2 * (1 - fast) * decayed / (K * fast**2)
    term = np.full(int(slow.sum()), (K + 1) / 2)
    series = term.copy()
    for j in range(1, 12):
        term = -term * gaps[slow] * (K - j) / (j + 2)
        series += term
    factors[slow] = 2 * series - 1
    return float(measure.weights @ factors) / K
