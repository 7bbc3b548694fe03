"""The resolvent state by state: refinement that repairs rare states, and a bound of its error at each of them.

A solution of the symmetrised system is right in L2(pi), which says nothing of states of small probability. Let y be any approximation with
r = f~ - (I - P) y, and t the hitting times of the most probable state x0. Off x0 the error e = y^ - y obeys (I - P) (e - e(x0)) = -r,
whose solution operator G is nonnegative with G 1 = t, so that

    |e(x) - e(x0)| <= max|r| t(x),        |e(x)| <= max|r| (t(x) + E_pi t) + |E_pi y^|.                                (entrywise)

r is evaluated in differences (:meth:`thermokernels.model.chain.GibbsChain.generator_terms`), and what rounding of these, of the rates and
of the mean of f can add to it is added. y is refined by solving for r off x0: the solver, then sweeps that divide by no probability
(:mod:`thermokernels.solvers.off_target`).
"""

from __future__ import annotations

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.common.tolerances import UNIT
from thermokernels.model.chain import GibbsChain
from thermokernels.model.rounding import entry_error, law_error
from thermokernels.solvers.off_target import RestrictedSystem

MAX_ROUNDS = 3


def refined(chain: GibbsChain, functions: Floats, responses: Floats, share: float) -> tuple[Floats, Floats]:
    """(I - P)^+ F (n_states, k) from approximations of it, and a bound of its error at every state.

    Refined until the bound is at most ``share`` of max(|y(x)|, its norm in L2(pi)) everywhere, or stops falling.

    Raises
    ------
    UnresolvedError, NotConvergedError
        As :class:`thermokernels.solvers.off_target.RestrictedSystem`.
    """
    if not functions.size:
        return responses, np.zeros_like(responses)
    ground = int(chain.law.argmax())
    target = np.arange(chain.n_states) == ground
    system = RestrictedSystem(chain, target)
    times, slack = system.solve(np.ones(chain.n_states), 0.01)
    # G 1 <= t / (1 - slack), and the rates that t was found for are right to a relative error, too
    slack += float((entry_error(chain) * chain.generator_terms(times)[1][system.free]).max()) + system.evaluation_error(times)
    reach = (times + chain.law @ times) / max(1.0 - slack, UNIT)
    shifted = functions - functions[ground]
    centred = shifted - chain.law @ shifted
    lost = _rounding_of_sources(chain, shifted)
    best, bounds = responses, np.full_like(responses, np.inf)
    current = responses
    for _ in range(MAX_ROUNDS):
        current = current - chain.law @ current
        products, sizes = chain.generator_terms(current)
        residuals = centred - products
        of_terms = 2 * (chain.n_configurations + chain.n_spins + 8) * UNIT + entry_error(chain)
        largest = (np.abs(residuals) + of_terms * sizes + lost)[system.free].max(axis=0)
        of_mean = (law_error(chain) + (chain.n_configurations + 16) * UNIT) * (chain.law @ np.abs(current))
        found = reach[:, None] * largest * (1 + 8 * UNIT) + of_mean + 2 * UNIT * np.abs(current)
        better = found.max(axis=0) < bounds.max(axis=0)
        if not better.any():
            break
        best, bounds = np.where(better, current, best), np.where(better, found, bounds)
        if not excess(chain, best, bounds) > share:
            break
        corrections = [system.correction(np.where(system.free, column, 0.0)) for column in np.ascontiguousarray(residuals.T)]
        current = best + np.column_stack(corrections)
    return best, bounds


def excess(chain: GibbsChain, responses: Floats, bounds: Floats) -> float:
    """The largest bound as a share of max(|y(x)|, |y|) in L2(pi); 0 where a response and its bound vanish."""
    sizes = np.maximum(np.abs(responses), np.sqrt(chain.law @ responses**2))
    return float(np.divide(bounds, sizes, out=np.where(bounds > 0.0, np.inf, 0.0), where=sizes > 0.0).max(initial=0.0))


def _rounding_of_sources(chain: GibbsChain, shifted: Floats) -> Floats:
    """What rounding leaves of f~ = F - F(x0) - E_pi[F - F(x0)]: of differences, of the law, and of the sum over the states."""
    mean = (law_error(chain) + (chain.n_configurations + 16) * UNIT) * (chain.law @ np.abs(shifted))
    result: Floats = mean + 2 * UNIT * (np.abs(shifted) + np.abs(chain.law @ shifted))
    return result
