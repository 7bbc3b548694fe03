"""Integrated autocorrelation times of any functions of the state, each with a bound on its error."""

from __future__ import annotations

import numpy as np

from thermokernels import passage
from thermokernels.arguments import Floats
from thermokernels.chain import GibbsChain
from thermokernels.errors import ConstantError
from thermokernels.resolvent import resolvent

EPSILON = float(np.finfo(np.float64).eps)

# A variance is resolved from this many times its own rounding, to a relative 1e-10.
FLAT = 1e10


# Of the mean over consecutive states: its eigenvalues lie in [1 / every, 1], so conjugate gradients need no more.
MEAN_ITERATIONS = 500
MEAN_RESIDUAL = 1e-14


def autocorrelation_times(
    chain: GibbsChain, functions: Floats, gap_bound: float | None = None, every: int = 1
) -> tuple[Floats, Floats, Floats]:
    """tau = 1 + 2 sum_{t > 0} rho(t) of the columns of ``functions`` (n_states, k), a bound on each error, and the variances.

    tau = 2 T / Var - 1 with T = <f~, (I - P)^+ f~> in the form <f~ + r, y>, r = f~ - (I - P) y, whose error is at most |r|^2 / gap in
    L2(pi); rounding of pi, of the rates and of the sums over states is added, to first order. Steps. ``gap_bound`` is a lower bound of
    the gap where one is known.

    Of a series that records every k-th state, P^k takes the place of P, rho(t) becomes rho(k t) and tau counts records. Then
    I - P^k = (I - P) M with M = I + P + ... + P^(k-1), whose eigenvalues lie in [1, k] however slow the chain: M u = f~ costs a few
    iterations, and y = (I - P)^+ u is as before.

    Raises
    ------
    ConstantError
        No function varies under pi (of several, tau is NaN for those that do not).
    UnresolvedError, NotConvergedError, NotReversibleError
        The gap has no lower bound; or as ``resolvent``.

    Examples
    --------
    >>> import thermokernels as tk
    >>> chain = tk.gibbs_chain([[0.0]], quotient=False)  # one of two free spins is renewed at every step: rho(t) = 2**-t
    >>> tau, error, variance = autocorrelation_times(chain, np.array([[1.0], [-1.0], [1.0], [-1.0]]))
    >>> tau.round(12), variance, bool(error < 1e-12)
    (array([3.]), array([1.]), True)
    """
    centred = functions - chain.law @ functions
    variances: Floats = chain.law @ centred**2
    lost_variances = (EPSILON * np.abs(functions).max(axis=0)) ** 2  # from rounding of the mean
    varies = variances > FLAT * lost_variances
    if not varies.any():
        raise ConstantError("it does not vary under pi in float64")
    responses = resolvent(chain, functions if every == 1 else _invert_sum(chain, centred, every))
    products = chain.apply_generator(responses)
    residuals = centred - (products if every == 1 else _sum_of_powers(chain, products, every))
    sums = chain.law @ ((centred + residuals) * responses)
    sizes = np.sqrt(chain.law @ responses**2)
    lost = np.sqrt(chain.law @ residuals**2) + every * (chain.n_spins + 2) * EPSILON * sizes
    gap = passage.gap_lower_bound(chain) if gap_bound is None else gap_bound
    gap = -np.expm1(every * np.log1p(-min(gap, 1 - EPSILON)))  # of P^every
    # Energies carry roundings of their own size, hence so do pi and the rates: in T = max_y 2 <f~, y> - <y, (I - P) y> a relative error of
    # pi P changes the second term by the same share, one of pi the first by that share of <|f~|, |y|>; the sums over states round too.
    largest = sum(float(np.abs(part).sum()) for part in (chain.weights, chain.visible_field, chain.hidden_field))
    rounding = every * (8 * (1 + largest) + sum(chain.shape)) * EPSILON * (chain.law @ np.abs(centred * responses))
    bounds = lost**2 / gap + rounding + sums * np.divide(lost_variances, variances, out=np.zeros_like(sums), where=varies)
    times, errors = np.full((2, variances.size), np.nan)
    np.divide(2 * sums, variances, out=times, where=varies)
    np.divide(2 * bounds, variances, out=errors, where=varies)
    times -= 1
    return times, errors, variances


def _sum_of_powers(chain: GibbsChain, functions: Floats, every: int) -> Floats:
    """(I + P + ... + P^(every-1)) f."""
    total, term = functions.copy(), functions
    for _ in range(every - 1):
        term = chain.apply(term)
        total += term
    return total


def _invert_sum(chain: GibbsChain, functions: Floats, every: int) -> Floats:
    """The solution u of (I + P + ... + P^(every-1)) u = f by conjugate gradients in L2(pi), all columns side by side."""
    solution, residual = np.zeros_like(functions), functions.copy()
    direction, square = residual.copy(), chain.law @ residual**2
    target = MEAN_RESIDUAL**2 * square
    for _ in range(MEAN_ITERATIONS):
        if (square <= target).all():
            break
        image = _sum_of_powers(chain, direction, every)
        curvature = chain.law @ (direction * image)
        length = np.divide(square, curvature, out=np.zeros_like(square), where=curvature > 0)
        solution += length * direction
        residual -= length * image
        updated = chain.law @ residual**2
        direction = residual + np.divide(updated, square, out=np.zeros_like(square), where=square > 0) * direction
        square = updated
    return solution  # what is left of the residual is part of the caller's bound
