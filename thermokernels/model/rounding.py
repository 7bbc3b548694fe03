"""What rounding can have moved in a chain: its energies, its law, its rates and the entries of P, each with a proven bound."""

from __future__ import annotations

from thermokernels.common.tolerances import UNIT
from thermokernels.model.chain import GibbsChain
from thermokernels.model.chain_tables import SECOND_ORDER, _law_error, _rate_error


def energy_error(chain: GibbsChain) -> float:
    """A bound on the rounding error of every energy, which none exceeds the sum of all couplings and fields: one rounding of that.

    On one layer, of sums of log 2 cosh, it can be log 2 larger for every spin, and :func:`marginal_error` is added.
    """
    largest = chain.coupling_sums[0]
    if chain.dynamics.layer is not None:
        return float(largest + chain.n_spins) * UNIT * (1 + SECOND_ORDER) + marginal_error(chain)
    return float(largest) * UNIT * (1 + SECOND_ORDER)


def marginal_error(chain: GibbsChain) -> float:
    """A bound on the error of an energy of one layer and its remainder together: 3 roundings of each logarithm, and the second order."""
    largest = chain.coupling_sums[0]
    n_logarithms = chain.n_hidden if chain.dynamics.layer == "visible" else chain.n_visible
    return 3 * n_logarithms * UNIT + SECOND_ORDER * (largest + chain.n_spins) * UNIT + (largest * UNIT) ** 2


def law_error(chain: GibbsChain) -> float:
    """Relative error of every pi_x above underflow, and twice that of its root: of exp, sum and quotient, and the remainder's second order.

    On one layer twice the error of an energy and its remainder, too.
    """
    if chain.dynamics.layer is None:
        return float(_law_error(chain.coupling_sums[0]))
    remainder = energy_error(chain)
    return 2 * marginal_error(chain) + 16 * UNIT + 4 * remainder * remainder  # infinite, not an OverflowError


def input_error(chain: GibbsChain) -> float:
    """Relative error of the rates sigmoid(-2 x_i F_i) / N: of exp, sum, quotient and products, and the remainder's second order."""
    return float(_rate_error(chain.coupling_sums[1]))


def entry_error(chain: GibbsChain) -> float:
    """Relative error of every entry of P and S, the diagonal of I - P included, a sum of N rates or what a sum of one leaves.

    Block kernels multiply conditional probabilities of spins, which are right to ten roundings and the remainder (exp two, its square four
    of the result and one, sum, factor N, quotient, product and remainder one each), with one for N and one for the product, and roots of
    two to four laws, with ten in all. On one layer a spin takes three more, in a sum over the other layer of terms of one sign, and P is S
    between roots of the law.
    """
    if chain.dynamics.single_flips:
        return input_error(chain) + chain.n_spins * UNIT
    return coupling_error(chain) + law_error(chain) if chain.dynamics.layer is not None else coupling_error(chain)


def coupling_error(chain: GibbsChain) -> float:
    """The same of S alone, of block kernels: without the law that P is between the roots of."""
    layer = chain.dynamics.layer is not None
    of_spin = input_error(chain) + (3 if layer else 0) * UNIT
    error = chain.dynamics.factors(chain.n_visible, chain.n_hidden) * of_spin + 10 * UNIT
    return error + chain.n_configurations * UNIT if layer else error


def product_error(chain: GibbsChain) -> float:
    """What rounding adds to a product A z, in L2 and as a share of z: N + 2 terms of two roundings, of block kernels a sum over a block."""
    return (2 * (chain.n_spins + 2) if chain.dynamics.single_flips else chain.n_configurations + 16) * UNIT
