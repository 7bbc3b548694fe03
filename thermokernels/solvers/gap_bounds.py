"""A rigorous lower bound of the spectral gap, without the chain's eigenvectors: from its layers, or from hitting times.

The layers' bound (:mod:`thermokernels.solvers.layer_bounds`) is within tens of percents of the gap, and is there for single flips where one
layer is not too large and the gap is far above rounding. Elsewhere interlacing and Collatz-Wielandt, from hitting times.
"""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import NumericalError, UnresolvedError
from thermokernels.common.tolerances import EPSILON
from thermokernels.compiled import wide_exponent
from thermokernels.model.chain import GibbsChain, as_chain
from thermokernels.model.rounding import entry_error
from thermokernels.solvers import layer_bounds
from thermokernels.solvers.off_target import RestrictedSystem
from thermokernels.solvers.state_reduction import reduced_resolvent
from thermokernels.solvers.state_reduction.gth_elimination import eliminate

# Below it rounding may take more than a percent of what the layers say.
LEAST_OF_LAYERS = 1e-8


@default_error_state
def gap_lower_bound(chain: GibbsChain) -> float:
    """A rigorous lower bound of the spectral gap per step, without the chain's eigenvectors.

    Of single flips, where the smaller layer has up to 2**11 configurations, that of a draw of one layer after the other, sigma_2 the second
    singular value of pi(v, h) / sqrt(pi(v) pi(h)):

        gap >= (1 - sigma_2) / N                                  (Efron and Stein 1981; two projections)

    Elsewhere, or where rounding leaves too little of it, take out the most probable state x0. Then, with A = I - S and B all other states,

        gap = lambda_2(A) >= lambda_1(A_BB)                       (Cauchy interlacing: one row and column removed)
        lambda_1(A_BB) >= min_x ((I - P)_BB t)_x / t_x            for every t > 0 (Collatz 1942, Wielandt 1950)

    since A_BB is similar to (I - P)_BB, whose inverse is nonnegative. For the hitting times t of x0 this reads gap >= 1 / max t (cf.
    Aldous and Fill, Reversible Markov Chains, chapter 4: relaxation time <= maximal hitting time); one step of inverse
    iteration, (I - P)_BB t' = t, sharpens it. The bound holds for any t, so a solver's error costs sharpness, never validity.
    Rounding is taken off. Where it leaves nothing, state reduction gives t and t' to a relative accuracy, for up to 2**12 states.

    Parameters
    ----------
    chain : GibbsChain
        With a reversible kernel.

    Returns
    -------
    float
        Per step, positive, at most the gap.

    Raises
    ------
    NotReversibleError
        The kernel has no symmetrised form.
    UnresolvedError
        No positive bound is left above rounding.

    Examples
    --------
    >>> import thermokernels as tk
    >>> round(gap_lower_bound(tk.gibbs_chain([[0.0]], quotient=False)), 6)  # free spins: the gap is 1/2
    0.5
    """
    chain = as_chain(chain)
    if chain not in _lower_bounds:
        _lower_bounds[chain] = _gap_lower_bound(chain)
    return _lower_bounds[chain]


# A chain never changes, and the bounds of T_O, Q, the gradients and the gap all ask for the same number.
_lower_bounds: WeakKeyDictionary[GibbsChain, float] = WeakKeyDictionary()


def _gap_lower_bound(chain: GibbsChain) -> float:
    rates = layer_bounds.layer_rates(chain)
    of_layers = float(rates[:1].max(initial=0.0))
    if of_layers >= LEAST_OF_LAYERS and rates.size > 1:  # one configuration has no sigma_2: 1 / N may be far below the gap
        return of_layers
    try:
        return max(of_layers, killed_rate_bound(chain, np.array([chain.law.argmax()])))
    except NumericalError:
        if of_layers > 0.0:
            return of_layers
        if not reduced_resolvent.applies_to(chain):
            raise
    elimination = eliminate(chain, reduced_resolvent.ground_state(chain))
    times = elimination.times
    ratios = wide_exponent.quotient(times, elimination.solve(times.take((slice(None), None))).take((slice(None), 0)))
    ratio = ratios.take(int(ratios.log().argmin()))
    bound = float(ratio.to_floats()) * (1 - 2 * elimination.precision - 4 * EPSILON)
    if not bound >= np.finfo(np.float64).tiny:
        raise UnresolvedError(
            f"the spectral gap, of about 10**{float(ratio.log()) / math.log(10):.6g} per step, is below the range of float64; scale the "
            "couplings down"
        )
    return bound


def rate_bound(chain: GibbsChain, taken_out: NDArray[np.int64], above: float) -> float:
    """A lower bound per step of the k-th positive eigenvalue of I - P, for k states ``taken_out``.

    From the layers where that is ``above`` what it is wanted for, and else as :func:`killed_rate_bound`.
    """
    of_layers = float(layer_bounds.layer_rates(chain)[: taken_out.size].max(initial=0.0))
    return of_layers if of_layers > above else killed_rate_bound(chain, taken_out)


def killed_rate_bound(chain: GibbsChain, taken_out: NDArray[np.int64]) -> float:
    """A lower bound per step of the least eigenvalue of I - P off some states, as in :func:`gap_lower_bound`.

    By interlacing the k-th positive eigenvalue of I - P is at least this large where k states are taken out.

    Raises
    ------
    UnresolvedError
        No positive bound is left above rounding.
    """
    target = np.zeros(chain.n_states, dtype=np.bool_)
    target[taken_out] = True
    system = RestrictedSystem(chain, target)
    times = np.ones(chain.n_states)
    bound = 0.0
    for _ in range(2):
        times, _ = system.solve(times, 0.01)
        bound = max(bound, float((_net_rates(chain, times)[system.free] / times[system.free]).min()))
        times /= times.max()
    if not bound > 0.0:
        raise UnresolvedError("the spectral gap is too small for a lower bound in float64; scale the couplings down")
    return bound


def _net_rates(chain: GibbsChain, times: Floats) -> Floats:
    """(I - P) t less what its own rounding, and that of P, can have added to it.

    Of single flips the terms are those of a sum of n differences, at most 2 t(x) in all where (I - P) t is positive.
    """
    if chain.dynamics.single_flips:
        lost = 2 * (chain.n_spins + 4) * EPSILON + 2 * entry_error(chain)
        return chain.apply_generator(times) - lost * times
    products, sizes = chain.generator_terms(times)
    return products - ((2 * chain.n_configurations + 8) * EPSILON + entry_error(chain)) * sizes
