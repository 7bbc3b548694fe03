"""The independent reference: the definitions of Q, written as they are read, in dense NumPy on the full chain.

It shares no code with what it judges: no quotient, no symmetrised kernel, no Krylov method, only the matrix ``I - P + 1 pi'`` on all
``2**N`` states and its solve. Every function is analytic in the couplings (no abs, conj or max of a complex number; sums are shifted
by real parts only), so that the *complex step*

    Im Q(W + i h D) / h,    h = 1e-30,

is the directional derivative of Q to machine precision: the neglected terms are of relative order ``h**2 = 1e-60``.

Conventions: spin = 1 - 2 * bit, visible spins are the low bits, rows of P sum to one, times in steps. Written anew here on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lu_factor, lu_solve

Array = NDArray[Any]  # float64, or complex128 on the complex step

STEP = 1e-30

# A real matrix on 2**13 states is 0.5 GiB, and one factorisation of it about ten seconds.
MOST_SPINS = 13


@dataclass(frozen=True)
class ReferenceQ:
    """Q with what it is made of: ``value`` = (K / 2) ``signal`` / ``t_obs``; ``t_obs`` in steps, ``signal`` = |g|^2. Complex if W is."""

    value: Any
    t_obs: Any
    signal: Any


@dataclass(frozen=True)
class Derivatives:
    """Directional derivatives of ``value``, ``t_obs`` and ``signal``, one entry a direction."""

    value: NDArray[np.float64]
    t_obs: NDArray[np.float64]
    signal: NDArray[np.float64]


@dataclass(frozen=True)
class _Model:
    """One model on the full chain: ``law`` (n,), ``rates`` (N, n) with ``rates[i, x] = P(x, x^i)``, ``centred`` (n, n_v n_h), ``g``."""

    law: Array
    rates: Array
    centred: Array
    g: Array


@lru_cache(maxsize=8)
def spins(n_spins: int) -> NDArray[np.float64]:
    """All states as rows of spins, shape (2**n_spins, n_spins); bit i of the row number is spin i."""
    states = np.arange(2**n_spins)[:, None]
    table = np.where((states >> np.arange(n_spins)) & 1, -1.0, 1.0)
    table.flags.writeable = False
    return table


def _sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), with the exponential that cannot overflow chosen by the real part."""
    small = np.exp(np.where(z.real < 0, z, -z))  # analytic on either side; the choice is constant along the complex step
    return np.where(z.real < 0, small, 1.0) / (1.0 + small)


def couplings(parameters: Array, code: Array, n_visible: int, n_hidden: int, rank: int, width: int) -> Array:
    """The hypernetwork W = A B' from its flat parameters (C, c0, H_A, a0, H_B, b0); complex parameters give complex W."""
    parameters, code = np.asarray(parameters), np.asarray(code, dtype=np.float64)
    shapes = (width, code.size), (width,), (n_visible * rank, width), (n_visible * rank,), (n_hidden * rank, width), (n_hidden * rank,)
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    if parameters.shape != (ends[-1],):
        raise ValueError(f"parameters must have shape ({ends[-1]},) for these sizes; got shape {parameters.shape}")
    c, c0, h_a, a0, h_b, b0 = (part.reshape(shape) for part, shape in zip(np.split(parameters, ends[:-1]), shapes, strict=True))
    z = np.tanh(c @ code + c0)
    return (h_a @ z + a0).reshape(n_visible, rank) @ (h_b @ z + b0).reshape(n_hidden, rank).T  # type: ignore[no-any-return]


def law_and_rates(w: Array, b: Array | None = None, c: Array | None = None) -> tuple[Array, Array]:
    """pi (2**N,) and the flip probabilities P(x, x^i) per step as (N, 2**N), of all states; analytic in W."""
    n_visible, n_hidden = w.shape
    b = np.zeros(n_visible) if b is None else b
    c = np.zeros(n_hidden) if c is None else c
    visible, hidden = spins(n_visible).T, spins(n_hidden).T
    # A field depends on the other block alone: tables of 2^n_v and 2^n_h exponentials instead of 2^N. States are seen as [h, v].
    hidden_local_fields, visible_local_fields = w.T @ visible + c[:, None], w @ hidden + b[:, None]
    energy = -(hidden.T @ hidden_local_fields) - b @ visible
    boltzmann = np.exp(-(energy - energy.real.min())).ravel()
    n_spins = n_visible + n_hidden
    rates = np.empty((n_spins, *energy.shape), dtype=energy.dtype)
    up, down = (_sigmoid(side * visible_local_fields) / n_spins for side in (-2.0, 2.0))
    rates[:n_visible] = np.where(visible[:, None, :] > 0, up[:, :, None], down[:, :, None])
    up, down = (_sigmoid(side * hidden_local_fields) / n_spins for side in (-2.0, 2.0))
    rates[n_visible:] = np.where(hidden[:, :, None] > 0, up[:, None, :], down[:, None, :])
    return boltzmann / boltzmann.sum(), rates.reshape(n_spins, -1)


def correlations(law: Array, n_visible: int, n_hidden: int) -> Array:
    """E_pi[v_i h_j], (n_v, n_h), for the law of all states."""
    return (spins(n_hidden).T @ law.reshape(2**n_hidden, 2**n_visible) @ spins(n_visible)).T


def signal_gradient(w: Array, p_data: Array, law: Array, c: Array | None = None) -> Array:
    """g_ij = E_data[f_ij] - E_pi[f_ij] as it is defined, (n_v n_h,); law is pi of all states."""
    visible = spins(len(w))
    data = (p_data[:, None] * visible).T @ np.tanh(visible @ w + (0.0 if c is None else c))
    return (correlations(law, *w.shape) - data).ravel()


def _model(w: Array, p_data: Array, b: Array | None, c: Array | None) -> _Model:
    n_visible, n_hidden = w.shape
    if n_visible + n_hidden > MOST_SPINS:
        raise ValueError(f"the dense reference takes at most {MOST_SPINS} spins; got {n_visible + n_hidden}")
    x = spins(n_visible + n_hidden)
    law, rates = law_and_rates(w, b, c)
    f = -(x[:, :n_visible, None] * x[:, None, n_visible:]).reshape(len(x), -1)
    return _Model(law, rates, f - law @ f, signal_gradient(w, p_data, law, c))


def exact_g(w: Array, p_data: Array) -> NDArray[np.float64]:
    """g of a real model without fields, correctly rounded: 50 decimal digits, (n_v n_h,); the law of the data is ``p_data`` over its sum.

    A trained model reproduces its data, so that E_data[f] and E_pi[f] agree in up to six digits and float64 keeps only ten of g. Here

        g_ij = sum_v (pi(v) - p_data(v)) v_i tanh F_j(v),    pi(v) proportional to prod_j 2 cosh F_j(v),   F = W'v,

    over v with last spin +1, whose terms are those of -v.
    """
    decimals = np.frompyfunc(lambda number: Decimal(float(number)), 1, 1)
    half = 2 ** (len(w) - 1)
    signs = spins(len(w))[:half]
    with localcontext(prec=50):
        growth = np.frompyfunc(Decimal.exp, 1, 1)(decimals(w))
        up = np.where(signs[:, :, None] > 0, growth, 1 / growth).prod(axis=1)  # exp(F_j(v)), (half, n_h)
        down = 1 / up
        sums, data = up + down, decimals(p_data)
        weights = sums.prod(axis=1)
        # -v is the complement of v; a sum that is off by one rounding would be a 1e-11 of the g of a trained model
        excess = weights / weights.sum() - (data[:half] + data[: half - 1 : -1]) / data.sum()
        terms = excess[:, None] * ((up - down) / sums)
        g = np.array([terms[row > 0].sum(axis=0) - terms[row < 0].sum(axis=0) for row in signs.T])
    return g.astype(np.float64).ravel()


def flipped(values: Array, spin: int) -> Array:
    """``values[x ^ (1 << spin)]`` for all x, as an exchange of halves."""
    pairs = values.reshape(-1, 2, 1 << spin, *values.shape[1:])
    return pairs[:, ::-1].reshape(values.shape)


def _deflated_matrix(law: Array, rates: Array) -> Array:
    """I - P + 1 pi' (Fortran order). The diagonal 1 - P(x, x) is the sum of the rates: nothing cancels."""
    n_spins, n_states = rates.shape
    matrix = np.empty((n_states, n_states), dtype=law.dtype, order="F")
    matrix[:] = law
    states = np.arange(n_states)
    for spin in range(n_spins):
        matrix[states, states ^ (1 << spin)] -= rates[spin]
    matrix[states, states] += rates.sum(axis=0)
    return matrix


def _apply_deflated(law: Array, rates: Array, values: Array) -> Array:
    """(I - P + 1 pi') values without the matrix; the twin of ``_deflated_matrix(law, rates) @ values``."""
    result = np.tile(law @ values, (len(values), 1))
    for spin in range(len(rates)):
        result += rates[spin][:, None] * (values - flipped(values, spin))
    return result


def _assemble(model: _Model, solution: Array, window: float) -> ReferenceQ:
    t_obs = model.law @ (model.centred * solution).sum(axis=1)
    signal = model.g @ model.g
    return ReferenceQ(0.5 * window * len(model.rates) * signal / t_obs, t_obs, signal)


def q_struct(w: Array, p_data: Array, window: float = 100.0, b: Array | None = None, c: Array | None = None) -> ReferenceQ:
    """Q, T_O and |g|^2 from the explicit inverse of I - P + 1 pi'; real or complex W, window in sweeps.

    T_O = sum_ij <f~_ij, (I - P + 1 pi')^(-1) f~_ij>_pi in steps (Kemeny and Snell 1960, fundamental matrix).
    """
    model = _model(np.asarray(w), np.asarray(p_data), b, c)
    return _assemble(model, np.linalg.inv(_deflated_matrix(model.law, model.rates)) @ model.centred, window)


def alternating_time(w: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """T_O and sum Var of all v_i h_j for records of the alternating scan, from the dense P = Pi_v Pi_h; analytic in W, b, c."""
    n_visible, n_hidden = w.shape
    law, _ = law_and_rates(w, b, c)
    table = law.reshape(2**n_hidden, 2**n_visible)
    numbers = np.arange(law.size).reshape(table.shape)
    resample_visible, resample_hidden = np.zeros((2, law.size, law.size), dtype=law.dtype)
    for row, states in zip(table, numbers, strict=True):
        resample_visible[np.ix_(states, states)] = row / row.sum()
    for column, states in zip(table.T, numbers.T, strict=True):
        resample_hidden[np.ix_(states, states)] = column / column.sum()
    x = spins(n_visible + n_hidden)
    f = -(x[:, :n_visible, None] * x[:, None, n_visible:]).reshape(len(x), -1)
    centred = f - law @ f
    solution = np.linalg.solve(np.eye(law.size) - resample_visible @ resample_hidden + law, centred)
    return law @ (centred * solution).sum(axis=1), law @ (centred**2).sum(axis=1)


def alternating_q_struct(w: Array, p_data: Array, window: float = 100.0, b: Array | None = None, c: Array | None = None) -> ReferenceQ:
    """Q of the alternating scan: :func:`q_struct` with one step a sweep."""
    b, c = (np.zeros(n) if field is None else field for field, n in ((b, w.shape[0]), (c, w.shape[1])))
    t_obs, _ = alternating_time(w, b, c)
    g = signal_gradient(w, p_data, law_and_rates(w, b, c)[0], c)
    return ReferenceQ(0.5 * window * (g @ g) / t_obs, t_obs, g @ g)


def derivatives(w: Array, p_data: Array, tangents: Array, window: float = 100.0) -> tuple[ReferenceQ, Derivatives]:
    """Q at W and its derivatives along ``tangents`` (k, n_v, n_h), by complex steps that share one real factorisation.

    With M = M_r + i M_i, b = b_r + i b_i and |M_i|, |b_i| = O(h), the complex system M x = b is

        M_r x_r = b_r + M_i x_i,      M_r x_i = b_i - M_i x_r,

    where M_i x_i = O(h^2) = 1e-60 lies forty orders below rounding. So one LU of M_r serves W and every direction. The real part of g
    is :func:`exact_g`.
    """
    w, p_data = np.asarray(w, dtype=np.float64), np.asarray(p_data, dtype=np.float64)
    g = exact_g(w, p_data)
    model = replace(_model(w, p_data, None, None), g=g)
    factors = lu_factor(_deflated_matrix(model.law, model.rates), overwrite_a=True, check_finite=False)
    real = lu_solve(factors, model.centred, check_finite=False)
    # One step of refinement: partial pivoting knows nothing of the 1e-10 : 1 range of pi in the columns.
    real += lu_solve(factors, model.centred - _apply_deflated(model.law, model.rates, real), check_finite=False)
    steps = []
    for tangent in np.asarray(tangents, dtype=np.float64):
        moved = _model(w + 1j * STEP * tangent, p_data, None, None)
        moved = replace(moved, g=g + 1j * moved.g.imag)
        right = moved.centred.imag - _apply_deflated(moved.law.imag, moved.rates.imag, real)
        imaginary = lu_solve(factors, right / STEP, check_finite=False)  # of order one, so that nothing is denormal
        imaginary += lu_solve(factors, right / STEP - _apply_deflated(model.law, model.rates, imaginary), check_finite=False)
        steps.append(_assemble(moved, real + 1j * STEP * imaginary, window))
    slopes = [np.array([getattr(step, name).imag / STEP for step in steps]) for name in ("value", "t_obs", "signal")]
    return _assemble(model, real, window), Derivatives(*slopes)
