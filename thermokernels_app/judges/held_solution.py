"""The reference for many checkpoints: it solves nothing, but verifies a solution that it is handed and differentiates past it.

T_O is stationary in the responses y_a = (I - P)^+ f~_a: with any y held still,

    T(y; W) = sum_a ( 2 <f_a - E_pi[f_a], y_a>_pi - E_pi(y_a, y_a) ),   E_pi(y, y) = (1/2) sum_x pi_x sum_i P(x, x^i) (y(x) - y(x^i))^2,

agrees with T_O up to the square of the residual f~ - (I - P) y, and dT/dW with dT_O/dW up to the residual itself. The residual is computed
here, on the full chain, with energies, law and rates of this folder; a wrong solution shows in it. A right one shows too, where the chain
is extremely slow and y large: rates are sums of couplings, right to a relative eta, here and where y was solved for, and y is divided by a
root of the law, whose energies are right to Sum|W| (N + 3) u. Entry by entry, what that can account for,

    sum_i P(x, x^i) ( epsilon (|y(x)| + |y(x^i)|) + 2 eta |y(x) - y(x^i)| ),
    u = 2^-53,   epsilon = ((N + 3) sum_ij |W_ij| + 8) u,   eta = (2 (N + 1) max_i sum_j |W_ij| + 8) u,                     (rounding)

is taken off the residual: a right answer passes, no share of the gate is spent on it, and an entry that is off by more still shows.

W enters through pi and P alone, which are analytic, so that the complex step costs one law and one table of rates a direction instead of a
factorisation of 2^N states.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy
from numpy.typing import NDArray

from thermokernels_app.judges.reference import (
    STEP,
    Array,
    Derivatives,
    ReferenceQ,
    correlations,
    exact_g,
    law_and_rates,
    signal_gradient,
    spins,
)

Floats = NDArray[np.float64]
UNIT = 2.0**-53


@dataclass(frozen=True)
class Verified:
    """What verifying a solution gave.

    Attributes
    ----------
    q : value, T_O (steps) and signal at W
    derivatives : along the tangents
    residual : the largest relative residual |f~_a - (I - P) y_a| / |f~_a| in L2(pi), on the full chain, the rounding taken off
    """

    q: ReferenceQ
    derivatives: Derivatives
    residual: float


def verify(w: Floats, p_data: Floats, tangents: Floats, responses: Floats, window: float = 100.0) -> Verified:
    """Verify the responses y_a and differentiate Q along ``tangents`` with them held still.

    Parameters
    ----------
    w : (n_v, n_h) couplings, no fields; p_data : (2**n_v,)
    tangents : (k, n_v, n_h)
    responses : (2**N, n_v n_h), or (2**(N-1), n_v n_h) where a state stands for {x, -x} and its last spin is +1; in steps
    window : in sweeps
    """
    n_visible, n_hidden = w.shape
    n_spins, n_states = n_visible + n_hidden, len(responses)
    x = spins(n_spins)[:n_states]
    table = law_and_rates(w)
    law, rates = _of_states(*table, n_states)
    epsilon = ((n_spins + 3) * np.abs(w).sum() + 8) * UNIT
    eta = (2 * (n_spins + 1) * max(np.abs(w).sum(axis=0).max(), np.abs(w).sum(axis=1).max()) + 8) * UNIT
    products = -(x[:, :n_visible, None] * x[:, None, n_visible:]).reshape(n_states, -1)

    # Flips as edges: y(x) - y(x^i) on each, (I - P) y for the residual as what flows off, and sum_a (y_a(x) - y_a(x^i))^2.
    # f - E f as a sum of probabilities: the difference would lose an observable that hardly varies
    centred = 2.0 * products * np.where(products > 0, law @ (products < 0), law @ (products > 0))
    edges, signs, ends = _edges(n_spins, n_states)
    differences = ends @ responses
    squares = np.einsum("ea,ea->e", differences, differences)[edges]
    residual = centred - _at_states(signs * rates, edges) @ differences
    sizes = abs(ends) @ (epsilon * np.abs(responses))
    sizes += np.multiply(2 * eta, np.abs(differences, out=differences), out=differences)  # new arrays of this size would take the time
    unexplained = np.maximum(np.abs(residual) - _at_states(rates, edges) @ sizes, 0.0)
    norms, errors = law @ centred**2, law @ unexplained**2
    overlap = np.einsum("xa,xa->x", products, responses)

    def evaluate(full_law: Array, full_rates: Array, g: Array) -> ReferenceQ:
        means = -correlations(full_law, n_visible, n_hidden).ravel()
        law, rates = _of_states(full_law, full_rates, n_states)
        centre = law.real @ responses + 1j * (law.imag @ responses) if np.iscomplexobj(law) else law @ responses
        dirichlet = 0.5 * (law @ (rates * squares).sum(axis=0))
        t_obs, signal = 2.0 * (law @ overlap - means @ centre) - dirichlet, g @ g
        return ReferenceQ(0.5 * window * n_spins * signal / t_obs, t_obs, signal)

    g = exact_g(w, p_data)
    steps = []
    for tangent in tangents:
        moved = w + 1j * STEP * tangent
        law_moved, rates_moved = law_and_rates(moved)
        steps.append(evaluate(law_moved, rates_moved, g + 1j * signal_gradient(moved, p_data, law_moved).imag))
    slopes = [np.array([getattr(step, name).imag / STEP for step in steps]) for name in ("value", "t_obs", "signal")]
    relative = np.sqrt(np.divide(errors, norms, out=np.zeros_like(norms), where=norms > 0))
    return Verified(evaluate(*table, g), Derivatives(*slopes), float(relative.max()))


def _of_states(law: Array, rates: Array, n_states: int) -> tuple[Array, Array]:
    """Law and rates of ``n_states`` states, 2^N or half of them, each of which stands for itself and its complement 2^N - 1 - x."""
    return (law, rates) if n_states == law.size else (law[:n_states] + law[: n_states - 1 : -1], rates[:, :n_states])


@lru_cache(maxsize=8)
def _edges(n_spins: int, n_states: int) -> tuple[NDArray[np.int64], Floats, scipy.sparse.csr_array]:
    """Pairs of states that one flip exchanges, the edges: that of each spin and state and the sign of the state in it, (N, n_states), and
    the matrix of signs, (edges, n_states)."""
    states, numbers = np.arange(n_states), np.arange(n_spins)[:, None]
    others = states ^ (1 << numbers)
    others = np.where(others < n_states, others, 2**n_spins - 1 - others)  # of half of the states: its complement stands for it
    first = states < others
    edges = np.cumsum(first, axis=1) - 1 + numbers * (n_states // 2)
    edges = np.where(first, edges, np.take_along_axis(edges, others, axis=1))
    signs = np.where(first, 1.0, -1.0)
    return edges, signs, _at_states(signs, edges).T.tocsr()


def _at_states(values: Floats, edges: NDArray[np.int64]) -> scipy.sparse.csr_array:
    """The matrix (n_states, edges) of these values (N, n_states), at each state and its edges."""
    n_spins, n_states = edges.shape
    starts = np.arange(0, edges.size + 1, n_spins)
    return scipy.sparse.csr_array((values.T.ravel(), edges.T.ravel(), starts), shape=(n_states, edges.size // 2))
