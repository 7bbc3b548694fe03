"""Gradients by classes for models with exchangeable sites: of T_O, the asymptotic variance and Q by w_cd, the coupling of two classes.

d / dw_cd is the sum over the couplings of the two classes of s_i t_j d / dW_ij, s and t the gauge signs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import arguments, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.model.exchangeable import ExchangeableChain, Sector
from thermokernels.model.lumped import LumpedChain
from thermokernels.quantities.exchangeable import exchangeable_sums
from thermokernels.quantities.exchangeable.exchangeable_sums import ExchangeableQ, ExchangeableTime
from thermokernels.solvers.lumped.lumped_solves import LumpedSolution


# Every part of T_O is sum_a (2 b_a' z_a - z_a' A z_a) on a lumped chain, stationary in z_a, b_a = sqrt(mass pi') g_a:
#   dT_O = sum_a z_a' (dS) z_a + sum_a z_a b_a dlog(mass pi').
# mass pi' = omega pi, and omega is fixed: dlog / dw_cd = M_c M_d - E_pi[M_c M_d], M_c of the part's states.                (weights)
# S(k, k + 1) = sqrt((n - k)(k + 1)) / (2 N cosh F) gives dS(k, k + 1) = -tanh(F) S(k, k + 1) dF;                              (moves)
# S(k, k) = 1 - ((n - k) sigmoid(-2 F) + k sigmoid(2 F)) / N gives dS(k, k) = M sech^2(F) dF / (2 N), M = n - 2 k;            (stays)
# F_c = sum_d w_cd M_d + b_c and F_d likewise: dF_c / dw_cd = M_d, dF_d / dw_cd = M_c.                                  (class fields)
class _TimeGradient:
    """Adds up dT_O / dw over the solves."""

    def __init__(self, chain: ExchangeableChain) -> None:
        self.gradient = np.zeros(chain.lumped.couplings.shape)
        self.products = magnetisation_products(chain.lumped, chain.lumped.law)

    def visit(self, sector: Sector, row: int, source: Floats, solution: LumpedSolution | None) -> None:
        chain = sector.chain
        vector = source / chain.killing if solution is None else solution.vector
        weights = vector * source
        self.gradient += magnetisation_products(chain, weights) - weights.sum() * self.products
        if solution is not None:
            of_hidden, of_visible = field_cotangents(chain, vector)
            m_hidden, m_visible = chain.magnetisations
            self.gradient += of_visible @ m_hidden.T + m_visible @ of_hidden.T


def magnetisation_products(chain: LumpedChain, weights: Floats) -> Floats:
    """sum_x weights(x) M_c M_d, (C, D)."""
    hidden, visible = chain.magnetisations
    products: Floats = visible @ weights.reshape(chain.shape).T @ hidden.T
    return products


def field_cotangents(chain: LumpedChain, vector: Floats) -> tuple[Floats, Floats]:
    """The derivatives of z' S z by the fields of the hidden classes (D, V) and of the visible ones (C, H)."""
    z, result = vector.reshape(chain.shape), []
    for axis in (0, 1):
        rows = z if axis == 0 else z.T  # own configurations first
        result.append(_of_moves(chain, axis, rows) + _of_stays(chain, axis, rows))
    return result[0], result[1]


def _of_moves(chain: LumpedChain, axis: int, rows: Floats) -> Floats:
    strides, raises, rates = chain._links[axis]
    overlaps = [
        (root[: len(rows) - stride, None] * rows[: len(rows) - stride] * rows[stride:]).sum(axis=0)
        for root, stride in zip(raises, strides, strict=True)
    ]
    moves: Floats = -2 * np.tanh(chain.fields[axis]) * rates * np.array(overlaps)
    return moves


def _of_stays(chain: LumpedChain, axis: int, rows: Floats) -> Floats:
    stays: Floats = 2 * chain.n_spins * chain._links[axis][2] ** 2 * (chain.magnetisations[axis] @ rows**2)  # sech^2 F / (2 N)
    return stays


@default_error_state
def exchangeable_variance_time(chain: ExchangeableChain, rtol: float = tolerances.SOLVE) -> tuple[ExchangeableTime, Floats]:
    """T_O of an exchangeable chain (steps), and its gradient by the couplings of the classes, (C, D).

    Raises
    ------
    ValueError
        ``chain`` is no exchangeable chain. NotConvergedError: too slow for float64.

    Examples
    --------
    >>> import numpy as np
    >>> import thermokernels as tk
    >>> import adjoints
    >>> time, gradient = adjoints.exchangeable_variance_time(tk.exchangeable_chain(np.full((3, 2), 0.4)))
    >>> by_coupling = adjoints.observable_variance_time(np.full((3, 2), 0.4))[1]
    >>> bool(np.isclose(gradient.item(), by_coupling.sum()))
    True
    """
    chain = arguments.as_instance(chain, ExchangeableChain, "chain", "exchangeable_chain(W)")
    adjoint = _TimeGradient(chain)
    time = exchangeable_sums.variance_time(chain, rtol, adjoint.visit)
    return time, adjoint.gradient


def covariances(chain: ExchangeableChain, coefficients: Floats) -> Floats:
    """Cov_pi(sum_cd a_cd M_c M_d, M_e M_f), (C, D), for a of that shape."""
    lumped = chain.lumped
    hidden, visible = lumped.magnetisations
    phi = (hidden.T @ coefficients.T @ visible).ravel()
    weights = lumped.law * (phi - lumped.law @ phi)
    result: Floats = magnetisation_products(lumped, weights) - weights.sum() * magnetisation_products(lumped, lumped.law)
    return result


@default_error_state
def exchangeable_asymptotic_variance(chain: ExchangeableChain, rtol: float = tolerances.SOLVE) -> tuple[float, Floats]:
    """V = 2 T_O - sum Var of an exchangeable chain (steps), and its gradient by the couplings of the classes, (C, D).

    d sum Var = -2 sum_a E f_a dE f_a, and E v_i h_j = m_cd is that of two classes: 2 sum_cd m_cd Cov(M_c M_d, .), added to 2 dT_O.

    Raises
    ------
    ValueError, NotConvergedError
        As :func:`exchangeable_variance_time`.

    Examples
    --------
    >>> import thermokernels as tk
    >>> import adjoints
    >>> value, gradient = adjoints.exchangeable_asymptotic_variance(tk.exchangeable_chain([[0.5]]))  # V = 1 - tanh(w)^2
    >>> round(value, 6), round(gradient.item(), 6)
    (0.786448, -0.726862)
    """
    time, gradient = exchangeable_variance_time(chain, rtol)
    return time.asymptotic_variance, 2 * gradient + 2 * covariances(chain, chain.means)


# |g|^2 = sum_cd n_c n_d g_cd^2, g_cd = E_pi[m_c m_d] - sum_k p(k) m_c tanh F_d(k), m = M / n:
#   dE_pi[m_c m_d] = Cov_pi(m_c m_d, M_e M_f), weighted with 2 n_c n_d g_cd;                                              (class model)
#   dtanh F_d / dw_ed = sech^2(F_d) M_e: -2 sum_c n_d M_c g_cd under the data law.                                         (class data)
def signal_gradient(chain: ExchangeableChain, law: Floats, g: Floats) -> Floats:
    """d|g|^2 / dw, (C, D), for the law of the counts of the data."""
    lumped = chain.lumped
    visible = lumped.magnetisations[1]
    projected = g.T @ visible * np.array(lumped.hidden_sizes)[:, None]  # (D, V)
    slopes = (2 * lumped.n_spins * lumped._links[0][2]) ** 2  # sech^2 F_d
    gradient: Floats = 2 * covariances(chain, g) - 2 * (visible * law) @ (slopes * projected).T
    return gradient


@default_error_state
def exchangeable_q(
    chain: ExchangeableChain, data: ArrayLike, window: float = 100.0, rtol: float = tolerances.SOLVE
) -> tuple[ExchangeableQ, Floats]:
    """Q of an exchangeable chain and its gradient by the couplings of the classes, (C, D); 0 where g = 0.

    Parameters and errors are those of :func:`thermokernels.exchangeable_q`.

    Examples
    --------
    >>> import numpy as np
    >>> import thermokernels as tk
    >>> import adjoints
    >>> chain = tk.exchangeable_chain(np.full((4, 4), 0.2))
    >>> q, gradient = adjoints.exchangeable_q(chain, np.array([0.4, 0.1, 0.0, 0.1, 0.4]))
    >>> gradient.shape
    (1, 1)
    """
    time, of_time = exchangeable_variance_time(chain, rtol)
    law = exchangeable_sums.data_counts(chain, data)
    steps = arguments.as_positive(window, "window", "sweeps") * chain.n_spins
    q = exchangeable_sums.with_time(chain, law, steps, time)
    if q.signal == 0.0:
        return q, np.zeros_like(of_time)
    return q, q.value * (signal_gradient(chain, law, q.g) / q.signal - of_time / q.t_obs)
