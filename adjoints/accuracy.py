"""Gradients to the accuracy that a caller asks for, certified: solves stop as soon as the proven bound of the gradient allows it.

By the bound of :mod:`adjoints.bounds`, with eta_a = |r_a| / gamma and residuals |r_a| = rho |b_a|, an entry of dT_O / dW is wrong by no
more than

    sum_a [2 eta_a |b_a| + 2 |z_a| eta_a / N]  <=  rho T_O [4 / (N gamma) + (2 / (N gamma))^(3/2)],                              (guess)

for b'A^+ b >= (N / 2) |b|^2 (:func:`thermokernels.quantities.variance_time.sufficient_residual`), |z|^2 <= b'A^+ b / gamma. How large the
gradient is nobody knows before; the first solve supposes that its largest entry is T_O. Then the bound is at hand, and where it is
too large it says by how much: the residual of the next solve. The last one is to ``rtol``, as it is without an accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from adjoints.cotangents import Cotangents
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NumericalError, UnresolvedError
from thermokernels.model.chain import GibbsChain
from thermokernels.quantities.signal_to_noise import QStruct
from thermokernels.quantities.variance_time import VarianceTime, is_iterative, is_small, sufficient_residual
from thermokernels.solvers import gap_bounds
from thermokernels.solvers.red_black import AIM
from thermokernels.solvers.solve import Solve

Answer = TypeVar("Answer")


def refuse(solve: Solve, fields: bool, by_layers: bool) -> None:
    """ValueError where a gradient has no bound that an accuracy could be held against."""
    if solve.accuracy is None:
        return
    if fields:
        raise ValueError("accuracy is for gradients with respect to W, whose errors are bounded; leave it out with fields=True")
    if by_layers:
        raise ValueError("accuracy is for chains that are solved on all states; leave it out for the alternating scan")


def certified(
    chain: GibbsChain, solve: Solve, attempt: Callable[[Solve], Answer], certificate: Callable[[Answer], tuple[float, Floats]]
) -> Answer:
    """``attempt(solve)``, whose gradient has the accuracy asked for; ``certificate`` gives a bound on the error of its entries, and itself.

    Raises
    ------
    UnresolvedError
        It cannot be certified.
    """
    if solve.accuracy is None:
        return attempt(solve)
    stop = _first_residual(chain, solve)
    while True:
        answer = attempt(replace(solve, stop=stop))
        bound, gradient = certificate(answer)
        if bound <= solve.accuracy * float(np.abs(gradient).max()) or stop <= solve.rtol:
            require(solve, bound, gradient)
            return answer
        share = solve.accuracy * float(np.abs(gradient).max()) / bound
        stop = max(solve.rtol, stop * min(0.5 * share, 0.1))


def require(solve: Solve, bound: float, gradient: Floats) -> None:
    """UnresolvedError for a gradient whose ``bound`` is larger than the accuracy that was asked for, a share of its largest entry."""
    largest = float(np.abs(gradient).max())
    if solve.accuracy is not None and not bound <= solve.accuracy * largest:
        raise UnresolvedError(
            f"the gradient, of entries up to {largest:.3g}, is certified to {bound:.2g} only, not to a share of {solve.accuracy:g}: ask "
            "for less, or leave accuracy out to have what float64 gives"
        )


# The bounds stand above what they bound, and are asked for from here alone.


def of_time(time: VarianceTime, gradient: Cotangents) -> tuple[float, Floats]:
    """The certificate of dT_O / dW."""
    from adjoints.bounds import variance_time_gradient_bound

    return variance_time_gradient_bound(time, gradient.W), gradient.W


def of_q(q: QStruct, gradient: Cotangents, p_data: ArrayLike) -> tuple[float, Floats]:
    """The certificate of dQ / dW."""
    from adjoints.bounds import q_struct_gradient_bound

    return q_struct_gradient_bound(q, gradient.W, p_data), gradient.W


def _first_residual(chain: GibbsChain, solve: Solve) -> float:
    """The residual at which to stop by (guess), and for the value; at least ``solve.rtol``."""
    assert solve.accuracy is not None
    # a file belongs to one residual, and what is factorised or small is solved as well as can be
    if solve.checkpoint is not None or is_small(chain, solve) or not is_iterative(chain, solve):
        return solve.rtol
    try:
        steps = 1 / (chain.n_spins * gap_bounds.gap_lower_bound(chain))
    except NumericalError:
        return solve.rtol
    guess = 0.5 * solve.accuracy / (4 * steps + 2 * steps * math.sqrt(2 * steps))
    return max(solve.rtol, min(guess / AIM, sufficient_residual(chain, solve)))
