"""What rounding can have moved in a chain: its energies, its law, its rates and the entries of P, each with a proven bound."""

from __future__ import annotations

import numpy as np

from thermokernels.common.tolerances import UNIT
from thermokernels.model.chain import GibbsChain

# Sums in pairs of doubles are wrong by this share of a rounding.
SECOND_ORDER = 1e-10


def energy_error(chain: GibbsChain) -> float:
    """A bound on the rounding error of every energy, which none exceeds the sum of all couplings and fields: one rounding of that.

    On one layer, sums of log cosh, it is 2 (N + 1) roundings.
    """
    largest = np.abs(chain.weights).sum() + np.abs(chain.b).sum() + np.abs(chain.c).sum()
    if chain.dynamics.layer is not None:
        return float(2 * (chain.n_spins + 1) * (largest + chain.n_spins)) * UNIT
    return float(largest) * UNIT * (1 + SECOND_ORDER)


def law_error(chain: GibbsChain) -> float:
    """Relative error of every pi_x above underflow, and twice that of its root: of exp, sum and quotient, and the remainder's second order.

    On one layer twice the error of an energy, too.
    """
    if chain.dynamics.layer is not None:
        return 2 * energy_error(chain) + 16 * UNIT
    remainder = energy_error(chain)
    return 16 * UNIT + 4 * remainder * remainder  # infinite, not an OverflowError


def input_error(chain: GibbsChain) -> float:
    """Relative error of the rates sigmoid(-2 x_i F_i) / N: of exp, sum, quotient and products, and the remainder's second order."""
    visible = np.abs(chain.weights).sum(axis=1) + np.abs(chain.b)
    hidden = np.abs(chain.weights).sum(axis=0) + np.abs(chain.c)
    remainder = float(max(visible.max(), hidden.max())) * UNIT
    return 12 * UNIT + 4 * remainder * remainder  # infinite, not an OverflowError


def entry_error(chain: GibbsChain) -> float:
    """Relative error of every entry of P and S, the diagonal of I - P included, a sum of N rates or what a sum of one leaves.

    Block kernels multiply up to N conditional laws. On one layer an entry is a sum over the other layer, of terms of one sign,
    and P is S between roots of the law.
    """
    single = chain.dynamics.single_flips
    error = chain.dynamics.factors(chain.n_spins) * input_error(chain) + (1 if single else 2) * chain.n_spins * UNIT
    if chain.dynamics.layer is not None:
        error += chain.n_configurations * UNIT + law_error(chain)
    return error
