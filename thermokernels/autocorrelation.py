"""Integrated autocorrelation times of any functions of the state, each with a bound on its error."""

from __future__ import annotations

import numpy as np

from thermokernels import passage
from thermokernels.arguments import Floats
from thermokernels.chain import GibbsChain
from thermokernels.errors import UnresolvedError
from thermokernels.resolvent import resolvent

EPSILON = float(np.finfo(np.float64).eps)

# A variance is resolved from this many times its own rounding, to a relative 1e-10.
FLAT = 1e10


def autocorrelation_times(chain: GibbsChain, functions: Floats, gap_bound: float | None = None) -> tuple[Floats, Floats, Floats]:
    """tau = 1 + 2 sum_{t > 0} rho(t) of the columns of ``functions`` (n_states, k), a bound on each error, and the variances.

    tau = 2 T / Var - 1 with T = <f~, (I - P)^+ f~> in the form <f~ + r, y>, r = f~ - (I - P) y, whose error is at most |r|^2 / gap in
    L2(pi); rounding of pi, of the rates and of the sums over states is added, to first order. Steps. ``gap_bound`` is a lower bound of
    the gap where one is known.

    Raises
    ------
    UnresolvedError
        No function varies under pi (of several, tau is NaN for those that do not), or the gap has no lower bound.
    NotConvergedError, NotReversibleError: as ``resolvent``.

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
        raise UnresolvedError("nothing varies under pi in float64")
    responses = resolvent(chain, functions)
    residuals = centred - chain.apply_generator(responses)
    sums = chain.law @ ((centred + residuals) * responses)
    sizes = np.sqrt(chain.law @ responses**2)
    lost = np.sqrt(chain.law @ residuals**2) + (chain.n_spins + 2) * EPSILON * sizes
    gap = passage.gap_lower_bound(chain) if gap_bound is None else gap_bound
    # Energies carry roundings of their own size, hence so do pi and the rates: in T = max_y 2 <f~, y> - <y, (I - P) y> a relative error of
    # pi P changes the second term by the same share, one of pi the first by that share of <|f~|, |y|>; the sums over states round too.
    largest = sum(float(np.abs(part).sum()) for part in (chain.weights, chain.visible_field, chain.hidden_field))
    rounding = (8 * (1 + largest) + sum(chain.shape)) * EPSILON * (chain.law @ np.abs(centred * responses))
    bounds = lost**2 / gap + rounding + sums * np.divide(lost_variances, variances, out=np.zeros_like(sums), where=varies)
    times, errors = np.full((2, variances.size), np.nan)
    np.divide(2 * sums, variances, out=times, where=varies)
    np.divide(2 * bounds, variances, out=errors, where=varies)
    times -= 1
    return times, errors, variances
