"""Proven bounds on the errors of the gradients of T_O and Q, from what the forward solve left behind.

The gradient of T_O is bilinear in the solutions z_a (:mod:`adjoints.variance_time`),

    dT_O / dW_kl = sum_a (z_a o b_a)' dlog pi + sum_a z_a' (dS / dW_kl) z_a,     |dlog pi| <= 2,     |dS / dW_kl|_2 <= 1 / N,

the latter since one flip moves pairs of states only, each by the matrix sech F / (2 N) [[x sech F, -tanh F], [-tanh F, -x sech F]] of norm
sech F / (2 N), and W_kl is in the fields of two spins. So with |e_a| <= eta_a for the error e_a of z_a in L2, to every entry

    |error| <= sum_a [2 eta_a |b_a| + (2 |z_a| eta_a + eta_a^2) / N] + rho sum_a (2 |z_a| |b_a| + |z_a|^2 / N),
    eta_a = (|r_a| + |rounding of b_a, of A z_a|) / gap + |component of z_a along sqrt(pi)|,

rho the rounding of tables and sums. A reduction brings its own bound (:mod:`adjoints.reduced_resolvent`). Small chains have another one,
the distance from the gradient in long double (:mod:`adjoints.extended`) and the error of that, which is less unless the gap is tiny.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from adjoints import extended, extended_reduction, reduced_resolvent
from thermokernels.common import arguments
from thermokernels.common.arrays import Floats
from thermokernels.common.tolerances import UNIT
from thermokernels.compiled import wide_exponent
from thermokernels.model.extended import Long
from thermokernels.model.rounding import entry_error, law_error, product_error
from thermokernels.quantities.signal_to_noise import QStruct, data_gradient_error
from thermokernels.quantities.variance_time import VarianceTime
from thermokernels.solvers import gap_bounds


def variance_time_gradient_bound(time: VarianceTime, gradient: Floats) -> float:
    """A bound, in steps, on the error of every entry of ``gradient`` = dT_O / dW, that of ``time``.

    Raises
    ------
    UnresolvedError
        The gap has no lower bound.

    Examples
    --------
    >>> import thermokernels as tk
    >>> from adjoints.variance_time import VarianceTimeAdjoint
    >>> from thermokernels.quantities.variance_time import variance_time
    >>> adjoint = VarianceTimeAdjoint(tk.gibbs_chain([[0.5]]))
    >>> time = variance_time(adjoint.chain, accumulators=(adjoint,))
    >>> variance_time_gradient_bound(time, adjoint.cotangents(time).W) < 1e-13
    True
    """
    near = _near(time)
    counted = _counted(time)
    return counted if near is None else _nearest(gradient, near.gradient, near.gradient_bound, counted)


def _near(time: VarianceTime) -> extended.ExtendedTime | None:
    """T_O and its gradient in long double, by state reduction where that was the method; None where there is none."""
    if time.reduced is not None and extended_reduction.applies_to(time.reduced.chain):
        return extended_reduction.variance_time(time.reduced)
    return extended.variance_time(time) if extended.applies_to(time.chain) else None


def _nearest(gradient: Floats, exact: Long, bound: float, counted: float) -> float:
    """The largest distance of an entry and the error of what it is from; what is ``counted`` where that error hides all of it."""
    distance = float(np.abs(gradient - exact).max())
    return counted if counted < bound and distance <= counted + bound else (distance + bound) * (1 + 4 * UNIT)


def _counted(time: VarianceTime) -> float:
    """By the derivation above, for the gradient as it comes with ``time``."""
    if time.reduced is not None:
        return reduced_resolvent.gradient_error(time.reduced) * time.value * (1 + 4 * UNIT)
    chain, n_spins = time.chain, time.chain.n_spins
    assert time.row_sums is not None  # of all but a reduction
    _, _, residuals, vectors, sources, weighted = np.sqrt(np.abs(time.row_sums.arrays["sums"])).T
    return extended.bilinear_error(
        extended.Norms(residuals, vectors, sources, weighted),
        n_spins,
        1 / gap_bounds.gap_lower_bound(chain),
        product_error(chain),
        law_error(chain),
        entry_error(chain),
        2 * (sum(chain.shape) + 8) * UNIT,
    )


def _largest_slope(time: VarianceTime) -> float:
    """What no entry of dT_O / dW can exceed: the bilinear form above in norms; of a reduction, its terms of the edges and of the law."""
    if time.reduced is not None:
        spread = float(wide_exponent.quotient(time.reduced.spread, time.reduced.total).to_floats())
        return (3 + 4 * spread) * time.value
    assert time.row_sums is not None  # of all but a reduction
    _, _, _, squares, sources, _ = time.row_sums.arrays["sums"].T
    return float((2 * np.sqrt(squares * sources) + squares / time.chain.n_spins).sum())


def q_struct_gradient_bound(q: QStruct, gradient: Floats, p_data: ArrayLike) -> float:
    """A bound on the error of every entry of ``gradient`` = dQ / dW, that of ``q`` for the data law p_data (2**n_v,).

    By the quotient rule from those of T_O, |g|^2 and their gradients.

    An entry of dg is at most 2 and right to 4 d log pi + 2 h and the roundings of its sums; |d|g|^2| <= 4 sum_a |g_a|.

    Raises
    ------
    UnresolvedError
        The gap has no lower bound.

    Examples
    --------
    >>> import adjoints
    >>> q, gradient = adjoints.q_struct([[0.5]], [0.9, 0.1])
    >>> q_struct_gradient_bound(q, gradient, [0.9, 0.1]) < 1e-12
    True
    """
    law = arguments.as_undivided_law(p_data, 2**q.state_time.chain.n_visible)
    near = _near(q.state_time)
    counted = _counted_quotient(q, gradient)
    return counted if near is None else _nearest(gradient, *extended.q_struct_gradient(q, near, law), counted)


def _counted_quotient(q: QStruct, gradient: Floats) -> float:
    time = q.state_time
    chain = time.chain
    t_error, sizes = q.t_obs_bound / q.t_obs, np.abs(q.g)
    entries = 4 * law_error(chain) + 2 * entry_error(chain) + 2 * (sum(chain.shape) + chain.n_spins + 16) * UNIT
    signal_gradient = 2 * float((sizes * entries + 2 * (data_gradient_error(chain.model) + UNIT * sizes)).sum())
    if not t_error < 1.0:
        return math.inf
    largest = float(np.abs(gradient).max())
    if (
        not q.signal_bound < 0.5 * q.signal
    ):  # no digit of |g|^2: dQ is at most |d|g|^2| / T + |g|^2 |dT| / T^2 with all that rounding allows
        slope = _largest_slope(time) + _counted(time)
        least = q.t_obs - q.t_obs_bound
        signal_slope = 4 * float(sizes.sum()) + signal_gradient
        return largest + 0.5 * q.window_steps * (signal_slope + (q.signal + q.signal_bound) * slope / least) / least
    s_error = q.signal_bound / q.signal
    # relative slopes d|g|^2 / |g|^2 and dT / T: how large they can be, and how wrong
    s_slope = 4 * float(sizes.sum()) / q.signal
    t_slope = largest / q.value + s_slope
    s_slope_error = (signal_gradient / q.signal + s_slope * s_error) / (1 - s_error)
    t_slope_error = (_counted(time) / q.t_obs + t_slope * t_error) / (1 - t_error)
    relative = q.bound / q.value
    return q.value * ((s_slope_error + t_slope_error) * (1 + relative) + 8 * UNIT * (s_slope + t_slope)) + relative * largest
