"""Lower bounds of all eigenvalues of I - P of the single-site chain from its two layers, without its states.

Pi_i takes the mean over the spin i given all others, so that N (I - P) = sum_i (1 - Pi_i) in L2(pi). The spins of one layer are independent
given the other layer, and a variance of independent spins is at most the sum of theirs (Efron and Stein, Ann. Stat. 9 (1981) 586):

    N (I - P) >= (1 - Pi_V) + (1 - Pi_H),     Pi_V, Pi_H the means over all spins of a layer given the other.

These are two projections. On the pairs of their principal vectors the right side has the eigenvalues 1 -+ sigma_k, elsewhere 1 or more
(Halmos, Trans. Am. Math. Soc. 144 (1969) 381), sigma_k being the singular values of

    C(h, v) = pi(v, h) / sqrt(pi(v) pi(h)),     sigma_1 = 1 for sqrt(pi),

whose squares are the eigenvalues of the alternating scan on one layer (:mod:`thermokernels.model.kernels.one_layer`). Eigenvalues follow
the order of the forms (Courant and Fischer):

    lambda_k >= (1 - sigma_(k+1)) / N = (1 - sigma_(k+1)^2) / ((1 + sigma_(k+1)) N),     and 1 / N where there are no more sigma.   (layers)

On pairs {x, -x} all of this is restricted to even functions, and so is C. What is lost is what a change of several spins of a layer at once
has beyond that of one. The smaller layer's matrix, G = C C' or C'C, has terms of one sign: a relative rounding of its entries is one of its
norm, which is 1 (Perron and Frobenius).
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from thermokernels.common import blas, threads
from thermokernels.common.arrays import Floats
from thermokernels.common.tolerances import UNIT
from thermokernels.model.chain import GibbsChain
from thermokernels.model.kernels.one_layer import layer_coupling
from thermokernels.model.rounding import input_error
from thermokernels.solvers.state_reduction.reduced_gap import eigenvalue_error

# Configurations of the smaller layer up to which all eigenvalues of its matrix are worth their time, seconds at the most.
MAX_CONFIGURATIONS = 2**11

# What these and the bound on their error take, in products of such matrices.
PRODUCTS = 12


def layer_rates(chain: GibbsChain) -> Floats:
    """Proven lower bounds per step of the positive eigenvalues of I - P, ascending, the k-th of the k-th, as in (layers).

    As many as the smaller layer has configurations, the last of them a bound of all that follow; none where a layer is too large. What
    rounding can have moved is taken off: no bound need be positive.
    """
    if chain not in _rates:
        _rates[chain] = _layer_rates(chain)
    return _rates[chain]


# A chain never changes, and several bounds ask for the same numbers.
_rates: WeakKeyDictionary[GibbsChain, Floats] = WeakKeyDictionary()


def applies_to(chain: GibbsChain) -> bool:
    """Whether flips are of single spins and the smaller layer has few configurations."""
    return chain.dynamics.single_flips and min(chain.shape[0], chain.shape[1] // (2 if chain.quotient else 1)) <= MAX_CONFIGURATIONS


def _layer_rates(chain: GibbsChain) -> Floats:
    if not applies_to(chain):
        return np.empty(0)
    coupling = layer_coupling(chain.visible_flips, chain.hidden_flips, bool(chain.quotient))
    found: list[Floats] = []
    with blas.one_thread():  # no bit may depend on how many there are
        threads.for_each(lambda _: found.append(_squares_above(coupling, _entry_error(chain))), 1, PRODUCTS * min(coupling.shape) ** 3)
    if not np.isfinite(found[0]).all():
        return np.empty(0)
    above = np.append(found[0][::-1][1:], 0.0)
    rates: Floats = (1 - above) / (1 + np.sqrt(above)) * ((1 - 8 * UNIT) / chain.n_spins)
    return rates


def _squares_above(coupling: Floats, entry: float) -> Floats:
    """Upper bounds of the eigenvalues of the smaller layer's matrix, ascending, entries of C being right to ``entry``."""
    narrow = coupling if coupling.shape[0] <= coupling.shape[1] else coupling.T
    matrix = narrow @ narrow.T
    if not np.isfinite(matrix).all():
        return np.full(len(matrix), np.nan)
    squares, vectors = np.linalg.eigh(matrix)
    # of the entries of C, twice, and of sums over the other layer
    rounding = (2 * entry + (narrow.shape[1] + 2) * UNIT) * 1.01
    error = eigenvalue_error(matrix, squares, vectors) + rounding * (1 + rounding)
    above: Floats = np.maximum(squares + error, 0.0)
    return above


def _entry_error(chain: GibbsChain) -> float:
    """Relative error of an entry of C: N roots of probabilities, a product of them and, on pairs, a sum of two."""
    return chain.n_spins * (input_error(chain) / 2 + 3 * UNIT) + 2 * UNIT
