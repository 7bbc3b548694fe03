"""Hitting times and mean first passage times.

Every hitting time carries a proven relative bound. Against the rates as they are stored, the M-matrix argument of
:mod:`thermokernels.solvers.off_target`. The stored rates are right to a relative h, which moves a hitting time by a relative (2 m - 1) h
in first order when m states are off the target, since it is a ratio of sums of products of m - 1 and of m rates (Markov chain tree theorem;
O'Cinneide, Numer. Math. 65 (1993) 109); or, by the M-matrix argument once more, by h max_x sum_y P_xy |t_x - t_y|: the lesser of the two.
The stored law of a block sums to one but for rounding, and only the second bound covers that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermokernels.common import arguments, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import NotConvergedError, NumericalError
from thermokernels.common.tolerances import EPSILON
from thermokernels.compiled import wide_exponent
from thermokernels.model.chain import GibbsChain, as_chain
from thermokernels.model.exchangeable import ExchangeableChain
from thermokernels.model.rounding import entry_error, law_error
from thermokernels.solvers.lumped import lumped_elimination
from thermokernels.solvers.off_target import RestrictedSystem
from thermokernels.solvers.state_reduction import reduced_resolvent

METHODS = ("auto", "symmetrised", "reduction")


@dataclass(frozen=True, eq=False)
class HittingTimes:
    """Hitting times with their certificate.

    Attributes
    ----------
    times : (n_states,), expected steps until the target is met, 0 on it
    residual : float
        max |(I - P) t - 1| off the target, or the bound proved in :mod:`thermokernels.solvers.state_reduction.gth_elimination`.
    relative_bound : float
        No entry of ``times`` is wrong by more than this share of itself: the residual, and what the rounding of the rates can add.
    bound : (n_states,), a proven bound on |exact - times| in steps
    iterations : int
        Conjugate-gradient iterations in all; 0 for a factorisation.
    method : "symmetrised" or "reduction"
    """

    times: Floats
    residual: float
    relative_bound: float
    iterations: int
    method: str = "symmetrised"

    @property
    def bound(self) -> Floats:
        return self.relative_bound * self.times


@default_error_state
def hitting_times(chain: GibbsChain | ExchangeableChain, target: ArrayLike, method: str = "auto") -> Floats:
    """Expected steps until the chain first meets a set of states.

    t = 0 on the target, (I - P) t = 1 off it.

    Parameters
    ----------
    chain : GibbsChain or ExchangeableChain
        With a reversible kernel; of an exchangeable chain states are numbers of -1 spins, and times come from elimination in a band.
    target : (n_states,) bool, or state numbers
        Neither empty nor everything.
    method : "auto", "symmetrised" or "reduction"
        "symmetrised" refines solutions of the symmetrised system; "reduction" is GTH elimination, right however hard the target is to
        reach, for up to 2**12 states; "auto" falls back on it where the certificate of the first does not hold.

    Returns
    -------
    (n_states,) ndarray of float64, in steps (divide by ``chain.n_spins`` for sweeps); each entry right to a relative 1e-8.

    Raises
    ------
    ValueError
        ``target`` is no proper set of states.
    NotReversibleError
        The kernel has no symmetrised form.
    NotConvergedError, UnresolvedError
        The certificate does not hold: times beyond what float64 resolves, or beyond its range.
    ModelTooLargeError
        More states than state reduction is made for.

    Notes
    -----
    Methods and certificates: :mod:`thermokernels.solvers.off_target` and :mod:`thermokernels.solvers.state_reduction.gth_elimination`.
    Kemeny and Snell, Finite Markov Chains (1960), theorem 3.2.4 and 4.4.

    Examples
    --------
    A free pair of spins, modulo x -> -x, changes between its two states in every second step.

    >>> import thermokernels as tk
    >>> hitting_times(tk.gibbs_chain([[0.0]]), [0])
    array([0., 2.])
    """
    return solve_hitting_times(chain, target, method).times


def solve_hitting_times(chain: GibbsChain | ExchangeableChain, target: ArrayLike, method: str = "auto") -> HittingTimes:
    """:func:`hitting_times` together with the residual that certifies them.

    Parameters, raises and source as there.

    Examples
    --------
    >>> import thermokernels as tk
    >>> solve_hitting_times(tk.gibbs_chain([[0.3, -0.7]]), [0]).residual < 1e-12
    True
    """
    arguments.as_choice(method, METHODS, "method")
    if isinstance(chain, ExchangeableChain):
        return _of_classes(chain, target)
    chain = as_chain(chain)
    mask = arguments.as_state_set(target, chain.n_states, "target")
    if method != "reduction":
        try:
            return _symmetrised(chain, mask)
        except NumericalError:
            if method != "auto" or not reduced_resolvent.applies_to(chain):
                raise
    times, bound = reduced_resolvent.hitting_times(chain, mask)
    if not bound <= tolerances.HITTING:
        raise NotConvergedError(
            f"hitting times of {chain.n_states} states are certified to a relative {bound:.2g} only by state reduction, not "
            f"{tolerances.HITTING:.0e}: use a smaller model, or scale the couplings down"
        )
    return HittingTimes(times, bound, bound, 0, "reduction")


def _of_classes(chain: ExchangeableChain, target: ArrayLike) -> HittingTimes:
    mask = arguments.as_state_set(target, chain.n_states, "target")
    times, bound = lumped_elimination.hitting_times(chain.lumped, mask)
    if not bound <= tolerances.HITTING:
        raise NotConvergedError(
            f"hitting times of {chain.n_states} lumped states are certified to a relative {bound:.2g} only, not "
            f"{tolerances.HITTING:.0e}: use a smaller model, or scale the couplings down"
        )
    return HittingTimes(times, bound, bound, 0, "reduction")


def _symmetrised(chain: GibbsChain, target: NDArray[np.bool_]) -> HittingTimes:
    system = RestrictedSystem(chain, target)
    times, residual = system.solve(np.ones(chain.n_states), 0.1 * tolerances.HITTING)
    residual += system.evaluation_error(times)
    bound = residual + _rate_rounding(chain, times, system.free)
    if not bound <= tolerances.HITTING:
        raise NotConvergedError(
            f"hitting times of up to {times.max():.3g} steps are certified to a relative {bound:.2g} only, not "
            f"{tolerances.HITTING:.0e}: the target is too hard to reach for float64; scale the couplings down"
        )
    if not times[system.free].min() >= 1.0 - tolerances.HITTING:
        raise NotConvergedError(f"a hitting time of {times[system.free].min():.17g} steps off the target is less than one step")
    return HittingTimes(times, residual, bound, system.iterations)


def _rate_rounding(chain: GibbsChain, times: Floats, free: NDArray[np.bool_]) -> float:
    """What rounding of the rates can add to the relative error of a hitting time: the lesser of the two bounds above.

    The differences of a block kernel (:mod:`thermokernels.model.kernels.differences`) are those of rates only where conditional laws sum
    to one, so that the first bound says nothing of them; their terms, which the second bound is about, are known.
    """
    error = entry_error(chain)
    by_flows = error * float(chain.generator_terms(times)[1][free].max())
    return min((2 * int(free.sum()) - 1) * error, by_flows) if chain.dynamics.single_flips else by_flows


@default_error_state
def mean_first_passage(chain: GibbsChain | ExchangeableChain, start: ArrayLike, target: ArrayLike, method: str = "auto") -> float:
    """Mean first passage time from one set of states to another, in steps.

    MFPT(A -> B) = sum_{x in A} pi_x t_x / pi(A), t the hitting times of B: the start is drawn from pi restricted to A.

    Parameters
    ----------
    chain : GibbsChain
        With a reversible kernel.
    start, target : (n_states,) bool, or state numbers
        Where they overlap, t = 0.
    method : as in :func:`hitting_times`

    Raises
    ------
    ValueError, NotReversibleError, NotConvergedError, UnresolvedError
        As :func:`hitting_times`.

    Examples
    --------
    >>> import thermokernels as tk
    >>> mean_first_passage(tk.gibbs_chain([[0.0]]), [1], [0])
    2.0
    """
    return solve_mean_first_passage(chain, start, target, method).value


@dataclass(frozen=True)
class FirstPassage:
    """A mean first passage time in steps, the proven bound of its relative error, and the hitting times behind it."""

    value: float
    relative_bound: float
    hitting: HittingTimes = field(repr=False)

    @property
    def bound(self) -> float:
        """A proven bound on |exact - value| in steps."""
        return self.relative_bound * self.value


def solve_mean_first_passage(
    chain: GibbsChain | ExchangeableChain, start: ArrayLike, target: ArrayLike, method: str = "auto"
) -> FirstPassage:
    """:func:`mean_first_passage` with the proven bound of its error.

    Each weight pi_x is right to a relative :func:`thermokernels.model.rounding.law_error`, once above and once below,
    of a mean of positive terms; either is summed pairwise.

    Parameters, raises and source as there.

    Examples
    --------
    >>> import thermokernels as tk
    >>> solve_mean_first_passage(tk.gibbs_chain([[0.0]]), [1], [0]).relative_bound < 1e-13
    True
    """
    hitting = solve_hitting_times(chain, target, method)
    inside = arguments.as_state_set(start, chain.n_states, "start")
    value, n_states = mean_over(chain, inside, hitting.times), int(inside.sum())
    of_law = chain.lumped.law_error if isinstance(chain, ExchangeableChain) else law_error(chain)
    bound = hitting.relative_bound + 2 * of_law + (_additions(n_states) + 3) * EPSILON
    if value > 0.0:  # weights that underflow
        bound += n_states * float(np.finfo(np.float64).tiny) * (float(hitting.times.max()) / value)
    return FirstPassage(value, bound, hitting)


def mean_over(chain: GibbsChain | ExchangeableChain, start: ArrayLike, times: Floats) -> float:
    """Mean of ``times`` (n_states,) under pi restricted to ``start``; relative weights, so that no probability underflows."""
    inside = arguments.as_state_set(start, chain.n_states, "start")
    if isinstance(chain, ExchangeableChain):
        energy = chain.free_energy[inside]
        weights = np.exp(energy.min() - energy)
    else:  # energies with their remainders, as in pi
        wide = reduced_resolvent.boltzmann_weights(chain).take(inside)
        weights = wide_exponent.quotient(wide, wide.take(int(wide.log().argmax()))).to_floats()
    return float((weights * times[inside]).sum()) / float(weights.sum())


def _additions(n_terms: int) -> int:
    """As many additions as a term of NumPy's sum goes through: in eight lanes of up to 128 terms, of lanes, and of halves above."""
    return min(n_terms, 24 + n_terms.bit_length())
