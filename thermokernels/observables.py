"""The gradient observables f_ij = dE/dW_ij = -v_i h_j: signal, integrated variance time T_O, and the signal-to-noise ratio Q.

    g_ij = E_data[f_ij] - E_pi[f_ij],   T_O = sum_ij <f~_ij, (I - P)^+ f~_ij>_pi (steps),   Q = (K / 2) |g|^2 / T_O.

T_O is evaluated in the variational form sum_a (2 b_a' z_a - z_a' A z_a), whose error is of second order in the residual.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermokernels import arguments, passage, reduction, spanning, tolerances
from thermokernels.arguments import Floats
from thermokernels.chain import GibbsChain, gibbs_chain
from thermokernels.elimination import input_error
from thermokernels.errors import NumericalError, UnresolvedError
from thermokernels.resolvent import METHODS, Solution, solve

EPSILON = float(np.finfo(np.float64).eps)

# Laws below this are close to underflow: their square roots still are numbers, but products with them lose digits unnoticed.
SMALLEST_LAW = 1e-280


@dataclass(frozen=True, eq=False)
class VarianceTime:
    """T_O with the solution that gave it, which the adjoint reuses.

    Attributes
    ----------
    chain : GibbsChain
    value : T_O in steps
    right_hand_sides : (n_v n_h, n_states), the rows b_a = sqrt(pi) f~_a, observables in C order
    solution : Solution of A z_a = b_a
    reduced : ReducedTime where the method is "reduction", or None
    """

    chain: GibbsChain
    value: float
    right_hand_sides: Floats = field(repr=False)
    solution: Solution = field(repr=False)
    reduced: reduction.ReducedTime | None = field(default=None, repr=False)

    @cached_property
    def bound(self) -> float:
        """A bound on |T_O - value| in steps: :meth:`error_terms` with the gap that :func:`thermokernels.passage.gap_lower_bound` proves.

        State reduction brings a bound of its own.
        """
        if self.reduced is not None:
            return self.reduced.relative_bound * self.value
        return sum(self.error_terms(1 / passage.gap_lower_bound(self.chain)))

    def error_terms(self, relaxation: float) -> tuple[float, float]:
        """What the residual, and what rounding, can be to blame for in the value of a Cholesky or CG solve, in steps.

        Residual: T_O - value = sum_a r_a' A^+ r_a lies between 0 and sum_a |r_a|^2 / gamma, with ``relaxation`` >= 1 / gamma in steps; a
        product A z carries at most (N + 2) rounding errors per entry, which are added to |r_a|.

        Rounding is of first order. b is centred twice, which leaves errors of eps |b| and of the square of the rounding of a mean: all of
        an observable that hardly varies. The entries of A are right to a relative h, which moves T by
        z' (dA) z <= h (sum_x A_xx z_x^2 + |z|' S |z|) <= 2 h sum_x A_xx z_x^2: all of T where the gap is below h.
        """
        chain, vectors, residuals = self.chain, self.solution.vectors, self.solution.residuals
        sizes, sources = np.linalg.norm(vectors, axis=1), np.linalg.norm(self.right_hand_sides, axis=1)
        errors = np.linalg.norm(residuals, axis=1) + (chain.n_spins + 2) * EPSILON * sizes
        rounding = (sum(chain.shape) + 8) * EPSILON
        from_sources = float(((rounding + 2 * reduction.law_error(chain)) * sources + rounding**2) @ sizes)
        # A block kernel's entries are products of conditional probabilities, at most N factors each, and its diagonal is at most 1.
        factors, diagonal = (1, chain.escape) if chain.kernel == "single-site" else (chain.n_spins, np.ones(chain.n_states))
        entry_error = factors * input_error(chain) + chain.n_spins * EPSILON
        from_entries = 2 * entry_error * float(np.einsum("an,an->n", vectors, vectors) @ diagonal)
        return relaxation * float(errors @ errors), from_sources + from_entries


@dataclass(frozen=True, eq=False)
class QStruct:
    """Q_struct_perp and what it rests on.

    Attributes
    ----------
    value : Q = (K / 2) signal / t_obs, dimensionless
    signal : |g|^2
    t_obs : T_O in steps; t_obs_bound : a bound on its error, in steps
    g : (n_v, n_h), E_data[f_ij] - E_pi[f_ij]
    residual : largest relative residual of the solves, of a reduction its proven precision; iterations : largest number of CG iterations
    method : of the solve: "cholesky", "cg" or "reduction"
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
    arguments.as_choice(method, METHODS, "method")
    if method == "reduction":
        return _reduced_variance_time(chain)
    if method != "auto" or chain.kernel != "single-site":
        return _solved_variance_time(chain, method, rtol)
    failure = "its law underflows" if chain.law.min() < SMALLEST_LAW else ""
    if not failure:
        try:
            time = _solved_variance_time(chain, method, rtol)
        except NumericalError as error:
            failure = str(error)
        else:
            if _has_its_digits(time, spanning.quick_bound(chain)) or _has_its_digits(time, spanning.sharp_bound(chain)):
                return time
            failure = f"the spectral gap leaves T_O = {time.value:.3g} steps less than {-math.log10(tolerances.DIGITS):.0f} digits"
    if not reduction.applies_to(chain):
        raise UnresolvedError(
            f"T_O is not resolved in float64 ({failure}), and state reduction is limited to {reduction.MAX_STATES} states of the "
            f"single-site kernel; this chain has {chain.n_states}: use a smaller model, or scale the couplings down"
        )
    return _reduced_variance_time(chain)


def _has_its_digits(time: VarianceTime, relaxation: float) -> bool:
    """Whether T_O is right to a relative 1e-10 and, where there is a better method, z to 1e-8, given a bound of 1 / gap in steps.

    The gradient is of first order in the error e of z, whose square is the residual's part of the bound: e' A e = r' A^+ r.
    """
    from_residuals, from_rounding = time.error_terms(relaxation)
    if reduction.applies_to(time.chain) and not from_residuals <= tolerances.GRADIENT**2 * time.value:
        return False
    return from_residuals + from_rounding <= tolerances.DIGITS * time.value


def _reduced_variance_time(chain: GibbsChain) -> VarianceTime:
    """T_O by state reduction, with b and z as the other methods solve for them."""
    reduced = reduction.variance_time(chain)
    value = float(reduced.total.to_floats())
    if value == np.inf:
        raise UnresolvedError(f"T_O = 10**{float(reduced.total.log()) / math.log(10):.6g} steps exceeds float64; scale the couplings down")
    _require_variance(value)
    right_hand_sides, vectors = reduction.symmetrised(chain, reduced)
    if not np.isfinite(vectors).all():
        raise UnresolvedError("the resolvent of the observables exceeds the range of float64; scale the couplings down")
    residuals = right_hand_sides - chain.apply_symmetrised_generator(vectors)
    solution = Solution(vectors, residuals, reduced.elimination.precision, 0, "reduction")
    return VarianceTime(chain, value, right_hand_sides, solution, reduced)


def _require_variance(value: float) -> None:
    if not (np.isfinite(value) and value >= np.finfo(np.float64).tiny):
        raise UnresolvedError(f"T_O came out as {value!r}: no observable v_i h_j varies under pi in float64; scale the couplings down")


def _solved_variance_time(chain: GibbsChain, method: str, rtol: float) -> VarianceTime:
    """T_O from the symmetrised system, by Cholesky or conjugate gradients."""
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
    _require_variance(value)
    return VarianceTime(chain, value, right_hand_sides, solution)


def observable_variance_time(chain: GibbsChain, method: str = "auto", rtol: float = tolerances.SOLVE) -> float:
    """T_O = sum_ij <f~_ij, (I - P)^+ f~_ij>_pi in steps, over all gradient observables f_ij = -v_i h_j.

    Parameters
    ----------
    method : "auto", "cholesky", "cg" or "reduction"
        "reduction" is GTH elimination (:mod:`thermokernels.reduction`), right however frozen the chain is. "auto" takes Cholesky or
        conjugate gradients and, where those leave T_O fewer than ten digits, the reduction.
    rtol : largest accepted relative residual of Cholesky and conjugate gradients

    Raises
    ------
    NotReversibleError
        The kernel has no detailed balance.
    NotConvergedError, UnresolvedError
        The chain is too close to frozen for float64, and too large for state reduction or beyond it.
    ModelTooLargeError
        The right-hand sides do not fit into memory, or method="reduction" and more states than it is made for.

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
    method : "auto", "cholesky", "cg" or "reduction"; rtol : largest accepted relative residual (see :func:`observable_variance_time`)
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
