"""The gradient observables f_ij = dE/dW_ij = -v_i h_j: signal, integrated variance time T_O, and the signal-to-noise ratio Q.

    g_ij = E_data[f_ij] - E_pi[f_ij],   T_O = sum_ij <f~_ij, (I - P)^+ f~_ij>_pi (steps),   Q = (K / 2) |g|^2 / T_O.

T_O is evaluated in the variational form sum_a (2 b_a' z_a - z_a' A z_a), whose error is of second order in the residual.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermokernels import arguments, passage, tolerances
from thermokernels.arguments import Floats
from thermokernels.chain import GibbsChain, gibbs_chain
from thermokernels.errors import UnresolvedError
from thermokernels.resolvent import Solution, solve

EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class VarianceTime:
    """T_O with the solution that gave it, which the adjoint reuses.

    Attributes
    ----------
    chain : GibbsChain
    value : T_O in steps
    right_hand_sides : (n_v n_h, n_states), the rows b_a = sqrt(pi) f~_a, observables in C order
    solution : Solution of A z_a = b_a
    """

    chain: GibbsChain
    value: float
    right_hand_sides: Floats = field(repr=False)
    solution: Solution = field(repr=False)

    @cached_property
    def bound(self) -> float:
        """A bound on |T_O - value| in steps.

        T_O - value = sum_a r_a' A^+ r_a lies between 0 and sum_a |r_a|^2 / gamma; gamma is bounded from below by
        :func:`thermokernels.passage.gap_lower_bound`. A product A z carries at most (N + 2) rounding errors per entry, which are added to
        |r_a|, and so are those of the sums over states that make up the value.
        """
        chain, vectors, residuals = self.chain, self.solution.vectors, self.solution.residuals
        sizes = np.linalg.norm(vectors, axis=1)
        errors = np.linalg.norm(residuals, axis=1) + (chain.n_spins + 2) * EPSILON * sizes
        sources = np.linalg.norm(self.right_hand_sides, axis=1)
        rounding = sum(chain.shape) * EPSILON * float(sources @ sizes)
        return float(errors @ errors) / passage.gap_lower_bound(chain) + rounding


@dataclass(frozen=True, eq=False)
class QStruct:
    """Q_struct_perp and what it rests on.

    Attributes
    ----------
    value : Q = (K / 2) signal / t_obs, dimensionless
    signal : |g|^2
    t_obs : T_O in steps; t_obs_bound : a bound on its error, in steps
    g : (n_v, n_h), E_data[f_ij] - E_pi[f_ij]
    residual : largest relative residual of the solves; iterations : largest number of CG iterations; method : of the solve
    window_steps : K in steps
    """

    value: float
    signal: float
    t_obs: float
    g: Floats = field(repr=False)
    residual: float
    iterations: int
    method: str
    window_steps: float
    variance_time: VarianceTime = field(repr=False)

    @property
    def t_obs_bound(self) -> float:
        return self.variance_time.bound


def block_spins(n_spins: int, n_configurations: int) -> Floats:
    """Spins of one block's configurations as floats, (n_configurations, n_spins), lowest bit first."""
    bits: NDArray[np.int64] = (np.arange(n_configurations)[:, None] >> np.arange(n_spins)) & 1
    spins: Floats = 1.0 - 2.0 * bits.astype(np.float64)
    return spins


def correlations(chain: GibbsChain, weights: Floats) -> Floats:
    """sum_x weights(x) v_i h_j, shape (n_v, n_h), for weights of shape (n_states,)."""
    hidden, visible = block_spins(chain.n_hidden, chain.shape[0]), block_spins(chain.n_visible, chain.shape[1])
    return np.ascontiguousarray((hidden.T @ (weights.reshape(chain.shape) @ visible)).T)


def variance_time(chain: GibbsChain, method: str = "auto", rtol: float = tolerances.SOLVE) -> VarianceTime:
    """T_O of a chain together with the solution behind it; see :func:`observable_variance_time`."""
    n_observables = chain.n_visible * chain.n_hidden
    arguments.require_memory(
        4 * 8 * n_observables * chain.n_states,
        f"T_O of {n_observables} observables on {chain.n_states} states",
        "use a smaller model",
    )
    hidden, visible = block_spins(chain.n_hidden, chain.shape[0]), block_spins(chain.n_visible, chain.shape[1])
    means = correlations(chain, chain.law)
    centred = means[:, :, None, None] - visible.T[:, None, None, :] * hidden.T[None, :, :, None]
    right_hand_sides = (chain.root_law.reshape(chain.shape) * centred).reshape(n_observables, chain.n_states)
    for row in right_hand_sides:  # what rounding of the mean leaves along sqrt(pi): of an observable that hardly varies it is a large share
        row -= (row @ chain.root_law) * chain.root_law
    solution = solve(chain, right_hand_sides, method, rtol)
    # b' z + r' z = 2 b' z - z' A z
    value = float(np.einsum("an,an->", right_hand_sides + solution.residuals, solution.vectors))
    if not (np.isfinite(value) and value > 0):
        raise UnresolvedError(f"T_O came out as {value!r}: no observable v_i h_j varies under pi in float64; scale the couplings down")
    return VarianceTime(chain, value, right_hand_sides, solution)


def observable_variance_time(chain: GibbsChain, method: str = "auto", rtol: float = tolerances.SOLVE) -> float:
    """T_O = sum_ij <f~_ij, (I - P)^+ f~_ij>_pi in steps, over all gradient observables f_ij = -v_i h_j.

    Raises
    ------
    NotReversibleError
        The kernel has no detailed balance.
    NotConvergedError, UnresolvedError
        The chain is too close to frozen for float64.
    ModelTooLargeError
        The right-hand sides do not fit into memory.

    Examples
    --------
    >>> import thermokernels as tk
    >>> round(tk.observable_variance_time(tk.gibbs_chain([[0.0, 0.0]])), 12)  # two products, each with gap 2/3 per step
    3.0
    """
    return variance_time(chain, method, rtol).value


def data_gradient(chain: GibbsChain, p_data: Floats) -> Floats:
    """g = E_data[f] - E_pi[f], (n_v, n_h), as sum_v (pi(v) - p_data(v)) v_i tanh F_j(v).

    A trained model reproduces its data and the difference of the laws cancels to a millionth, so the visible marginal is computed in
    long double (extended precision on x86; where it is plain double, |g|^2 of a trained model keeps about ten digits).
    """
    visible = block_spins(chain.n_visible, chain.shape[1]).astype(np.longdouble)
    fields = visible @ chain.weights.astype(np.longdouble) + chain.hidden_field.astype(np.longdouble)
    log_law = visible @ chain.visible_field.astype(np.longdouble) + np.logaddexp(fields, -fields).sum(axis=1)
    law = np.exp(log_law - log_law.max())
    excess = law / law.sum() - p_data.astype(np.longdouble)
    return np.ascontiguousarray(visible.T @ (excess[:, None] * np.tanh(fields)), dtype=np.float64)


def q_struct(
    W: ArrayLike,
    p_data: ArrayLike,
    window: float = 100.0,
    method: str = "auto",
    rtol: float = tolerances.SOLVE,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
) -> QStruct:
    """Q_struct_perp = (K / 2) |g|^2 / T_O: the squared signal-to-noise ratio of the gradient from a window of Gibbs samples.

    Parameters
    ----------
    W : (n_v, n_h) couplings
    p_data : (2**n_v,)
        Data law on the visible states; state number v has bit i = spin i, spin = 1 - 2 bit.
    window : float, in sweeps
        K = window * N steps.
    method : "auto", "cholesky" or "cg"; rtol : largest accepted relative residual
    b, c : (n_v,), (n_h,) fields, None for zero

    Raises
    ------
    ValueError
        Bad arguments. NotConvergedError, UnresolvedError: the chain is too close to frozen for float64.

    Examples
    --------
    >>> import thermokernels as tk
    >>> q = tk.q_struct([[0.0]], [0.5, 0.5])
    >>> q.signal, round(q.t_obs, 12)  # nothing to learn; one product with gap 1 per step
    (0.0, 1.0)
    """
    chain = gibbs_chain(W, b, c)
    return chain_q_struct(chain, p_data, window, method, rtol)


def chain_q_struct(
    chain: GibbsChain, p_data: ArrayLike, window: float = 100.0, method: str = "auto", rtol: float = tolerances.SOLVE
) -> QStruct:
    """:func:`q_struct` for a chain that exists already, with its kernel."""
    law = arguments.as_law(p_data, 2**chain.n_visible)
    window_steps = arguments.as_positive(window, "window", "sweeps") * chain.n_spins
    time = variance_time(chain, method, rtol)
    g = data_gradient(chain, law)
    signal = float(np.einsum("ij,ij->", g, g))
    value = 0.5 * window_steps * signal / time.value
    if not np.isfinite(value):
        raise UnresolvedError(
            f"Q overflows float64 with T_O = {time.value:.3g} steps and a window of {window:.3g} sweeps; use a shorter window"
        )
    return QStruct(
        value=value,
        signal=signal,
        t_obs=time.value,
        g=g,
        residual=time.solution.relative_residual,
        iterations=time.solution.iterations,
        method=time.solution.method,
        window_steps=window_steps,
        variance_time=time,
    )
