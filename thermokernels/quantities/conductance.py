"""Conductance of a cut: the probability flow across it against the mass of its smaller side."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import arguments
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import UnresolvedError
from thermokernels.common.tolerances import UNIT
from thermokernels.compiled.decorator import jit
from thermokernels.model.chain import GibbsChain, as_chain
from thermokernels.model.exchangeable import ExchangeableChain
from thermokernels.model.kernels.single_site import _after_hidden_flip
from thermokernels.model.rounding import entry_error, law_error


@jit
def _flow(inside, root_law, visible_rates, hidden_rates, quotient):
    """sum of pi_x P(x, x^i) = psi(x) S(x, x^i) psi(x^i) over x inside and x^i outside, row by row."""
    n_rows, n_columns = root_law.shape
    n_visible, n_hidden = visible_rates.shape[0], hidden_rates.shape[0]
    flow = 0.0
    for h in range(n_rows):
        row = 0.0
        for v in range(n_columns):
            if not inside[h, v]:
                continue
            outflow = 0.0
            for i in range(n_visible):
                other = v ^ (1 << i)
                if not inside[h, other]:
                    outflow += visible_rates[i, h] * root_law[h, other]
            for j in range(n_hidden):
                other_row, other = _after_hidden_flip(h, v, j, inside.shape, n_hidden, quotient)
                if not inside[other_row, other]:
                    outflow += hidden_rates[j, v] * root_law[other_row, other]
            row += root_law[h, v] * outflow
        flow += row
    return flow


@default_error_state
def conductance(chain: GibbsChain | ExchangeableChain, mask: ArrayLike) -> float:
    """Conductance of a cut, per step.

    Phi(A) = sum_{x in A, y not in A} pi_x P_xy / min(pi(A), 1 - pi(A)), a sum of positive terms, with pi(A) and 1 - pi(A) summed apart.
    Cheeger's inequality: the spectral gap is at most 2 Phi(A), for every cut (Lawler and Sokal, Trans. AMS 309 (1988) 557).

    Parameters
    ----------
    chain : GibbsChain
        Of any kernel.
    mask : (n_states,) bool, or state numbers
        The set A, neither empty nor everything.

    Returns
    -------
    float
        In (0, 1], per step.

    Raises
    ------
    ValueError
        ``mask`` is no proper set of states.
    UnresolvedError
        One side of the cut has a probability below float64's range.

    Examples
    --------
    One pair of independent spins, cut by the first spin: half of the steps choose it, and half of those flip it.

    >>> import thermokernels as tk
    >>> chain = tk.gibbs_chain([[0.0]], quotient=False)
    >>> conductance(chain, chain.spins()[:, 0] > 0)
    0.25
    """
    if isinstance(chain, ExchangeableChain):
        inside = arguments.as_state_set(mask, chain.n_states, "mask")
        mass = min(float(chain.law[inside].sum()), float(chain.law[~inside].sum()))
        _require_mass(mass)
        across = chain.lumped.apply((~inside).astype(np.float64)[:, None])[:, 0]
        return float(chain.law[inside] @ across[inside]) / mass
    chain = as_chain(chain)
    inside = arguments.as_state_set(mask, chain.n_states, "mask")
    mass = min(float(chain.law[inside].sum()), float(chain.law[~inside].sum()))
    _require_mass(mass)
    if chain.dynamics.single_flips:
        rows = (inside.reshape(chain.shape), chain.root_law.reshape(chain.shape))
        return float(_flow(*rows, chain.visible_rates, chain.hidden_rates, chain.quotient)) / mass
    return float(chain.law[inside] @ chain.apply((~inside).astype(np.float64))[inside]) / mass


def _require_mass(mass: float) -> None:
    if mass < np.finfo(np.float64).tiny:
        raise UnresolvedError(f"conductance of a cut whose smaller side has probability {mass:g}, below the range of float64")


def conductance_error(chain: GibbsChain) -> float:
    """A bound on the relative error of every conductance: of positive terms the relative error of each, and of their sums.

    A term is right to half that of pi twice and to that of an entry of S, a mass to that of pi; sums over rows and columns round as often
    as they are long, and the smaller side of a cut is right either way.
    """
    return 2 * law_error(chain) + entry_error(chain) + 2 * (sum(chain.shape) + chain.n_spins + 8) * UNIT
