"""Integrated autocorrelation times of any functions of the state, each with a bound on its error."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from thermokernels.common import tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import ConstantError, NumericalError
from thermokernels.common.tolerances import EPSILON
from thermokernels.model.chain import GibbsChain
from thermokernels.model.rounding import entry_error, law_error
from thermokernels.quantities.autocorrelation_times.alternating_autocorrelation import alternating_autocorrelation_times
from thermokernels.solvers import gap_bounds
from thermokernels.solvers.resolvent import solved
from thermokernels.solvers.state_reduction import reduced_resolvent

# A variance is resolved from this many times its own rounding, to a relative 1e-10.
FLAT = 1e10

# Relative: a bound above it is worth a state reduction.
SHARP = 1e-6

# Of the mean over consecutive states: its eigenvalues lie in [1 / every, 1], so conjugate gradients need no more.
MEAN_ITERATIONS = 500
MEAN_RESIDUAL = 1e-14


def autocorrelation_times(
    chain: GibbsChain, functions: Floats, gap_bound: float | None = None, every: int = 1, function_error: float = 0.0
) -> tuple[Floats, Floats, Floats]:
    """tau = 1 + 2 sum_{t > 0} rho(t) of the columns of ``functions`` (n_states, k), a bound on each error, and the variances.

    tau = 2 T / Var - 1 with T = <f~, (I - P)^+ f~> in the form <f~ + r, y>, r = f~ - (I - P) y, whose error is at most |r|^2 / gap in
    L2(pi); rounding of pi, of the rates and of the sums over states is added, to first order. Steps. ``gap_bound`` is a lower bound of
    the gap where one is known. Where the gap leaves that no digits, y comes from state reduction with a bound on its own relative error,
    and |<f~, y^> - T| <= |f~| |y^ - y|.

    ``function_error`` is how far every value may be from what is meant, delta (the rounding of energies, say): sqrt(T) moves by at most
    delta / sqrt(gap), sqrt(Var) by delta.

    Of a series that records every k-th state, P^k takes the place of P, rho(t) becomes rho(k t) and tau counts records. Then
    I - P^k = (I - P) M with M = I + P + ... + P^(k-1), whose eigenvalues lie in [1, k] however slow the chain: M u = f~ costs a few
    iterations, and y = (I - P)^+ u is as before.

    The alternating kernel, which is not reversible: :mod:`thermokernels.quantities.autocorrelation_times.alternating_autocorrelation`.

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
    if chain.dynamics.by_layers:
        return alternating_autocorrelation_times(chain, functions, every, function_error)
    centred = functions - chain.law @ functions
    variances: Floats = chain.law @ centred**2
    lost_variances = (EPSILON * np.abs(functions).max(axis=0)) ** 2  # from rounding of the mean
    varies = variances > FLAT * lost_variances
    if not varies.any():
        raise ConstantError("it does not vary under pi in float64")
    lost_share = np.divide(lost_variances, variances, out=np.zeros_like(variances), where=varies)
    by_reduction = reduced_resolvent.applies_to(chain)
    try:
        sums, bounds = _from_residuals(chain, functions, centred, gap_bound, every)
    except NumericalError:
        if not by_reduction:
            raise
        sums, bounds = _from_reduction(chain, functions, centred, gap_bound, every)
    else:
        if by_reduction and not (bounds <= SHARP * sums)[varies].all():
            with suppress(NumericalError):  # what there is stays
                reduced, reduced_bounds = _from_reduction(chain, functions, centred, gap_bound, every)
                worse = ~(bounds <= reduced_bounds)
                sums, bounds = np.where(worse, reduced, sums), np.where(worse, reduced_bounds, bounds)
    bounds = bounds + sums * lost_share
    times, errors = np.full((2, variances.size), np.nan)
    np.divide(2 * sums, variances, out=times, where=varies)
    np.divide(2 * bounds, variances, out=errors, where=varies)
    if function_error > 0.0:
        gap = gap_bounds.gap_lower_bound(chain) if gap_bound is None else gap_bound
        moved = 1 + np.divide(function_error, np.sqrt(gap * sums), out=np.full_like(sums, np.inf), where=varies)
        left = 1 - np.divide(function_error, np.sqrt(variances), out=np.ones_like(sums), where=varies)
        with np.errstate(divide="ignore"):
            errors += np.where(left > 0.0, (moved / left) ** 2 - 1, np.inf) * times
    times -= 1
    return times, errors, variances


def _from_residuals(chain: GibbsChain, functions: Floats, centred: Floats, gap_bound: float | None, every: int) -> tuple[Floats, Floats]:
    """T and its bound, from the residual and the gap; not finite where they overflow. No state reduction where the caller makes one."""
    values = functions if every == 1 else _invert_sum(chain, centred, every)
    responses = solved(chain, values, "auto", tolerances.SOLVE)
    gap = _recorded_gap(chain, gap_bound, every)
    with np.errstate(over="ignore", invalid="ignore"):
        products = chain.apply_generator(responses)
        residuals = centred - (products if every == 1 else _sum_of_powers(chain, products, every))
        sums: Floats = chain.law @ ((centred + residuals) * responses)
        _, sizes = chain.generator_terms(responses)
        lost = np.sqrt(chain.law @ residuals**2) + every * (chain.n_configurations + chain.n_spins + 2) * EPSILON * (
            np.sqrt(chain.law @ responses**2) + np.sqrt(chain.law @ sizes**2)
        )
        return sums, lost**2 / gap + every * _rounding(chain, centred, responses)


def _from_reduction(chain: GibbsChain, functions: Floats, centred: Floats, gap_bound: float | None, every: int) -> tuple[Floats, Floats]:
    """T and its bound, from state reduction; a law below float64 adds up to what its smallest number can hide.

    Of every k-th state y = (I - P)^+ u, and what the iterations leave, r = f~ - M u, is accounted for as in :func:`_from_residuals`.
    """
    values, tested, missed, squared = functions, centred, np.zeros(functions.shape[1]), np.zeros(functions.shape[1])
    if every > 1:
        values = _invert_sum(chain, centred, every)
        residuals = centred - _sum_of_powers(chain, values, every)
        missed = every**2 * (chain.n_spins + 3) * EPSILON * np.sqrt(chain.law @ values**2)  # rounding of M u, whose terms are no larger
        squared = (np.sqrt(chain.law @ residuals**2) + missed) ** 2 / _recorded_gap(chain, gap_bound, every)
        tested = centred + residuals
    responses, bounds = reduced_resolvent.resolvent(chain, values)
    scale = np.abs(responses).max(axis=0)
    scale[scale == 0.0] = 1.0
    responses, bounds = responses / scale, bounds / scale
    sums = chain.law @ (tested * responses)
    errors = chain.law @ (np.abs(tested) * bounds) + every * _rounding(chain, centred, responses)
    errors += missed * np.sqrt(chain.law @ responses**2)
    errors += np.finfo(np.float64).tiny * np.abs(tested * responses).sum(axis=0)
    return sums * scale, errors * scale + squared


def _recorded_gap(chain: GibbsChain, gap_bound: float | None, every: int) -> float:
    """A lower bound of the gap of P^every."""
    gap = gap_bounds.gap_lower_bound(chain) if gap_bound is None else gap_bound
    return float(-np.expm1(every * np.log1p(-min(gap, 1 + chain.dynamics.lowest_eigenvalue - EPSILON))))


def _rounding(chain: GibbsChain, centred: Floats, responses: Floats) -> Floats:
    """What rounding of pi, of the rates and of sums over the states adds, to first order.

    T = max_y 2 <f~, y> - <y, (I - P) y>: a relative error of pi changes either term by that share of <|f~|, |y|> twice and of T, one of the
    entries of P the second by that share of <|y|, terms of (I - P) y>.
    """
    _, sizes = chain.generator_terms(responses)
    of_law = 3 * law_error(chain) + 2 * sum(chain.shape) * EPSILON
    of_entries = entry_error(chain) + 2 * (chain.n_configurations + chain.n_spins) * EPSILON
    result: Floats = chain.law @ (of_law * np.abs(centred * responses) + of_entries * np.abs(responses) * sizes)
    return result


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
