"""The visible law of a restricted Boltzmann machine and its divergence from a data law: hidden spins are summed out by hand.

One table of 2**n_v numbers at a time; nothing here knows of a sampler. Conventions: see :mod:`thermokernels`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import memory
from thermokernels.common.arguments import as_law
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.tolerances import UNIT
from thermokernels.compiled.decorator import jit
from thermokernels.model.model import Model, ModelLike, as_model, require_finite_energies

# 1 + exp(-2 |F|) <= 2: this many factors stay far from overflow, so one logarithm serves them all.
FACTORS_PER_LOGARITHM = 512


@default_error_state
def visible_law(W: ModelLike, b: ArrayLike | None = None, c: ArrayLike | None = None) -> Floats:
    """Exact law of the visible spins.

    q(v) = sum_h exp(v' W h + b' v + c' h) / Z = exp(b' v + sum_j log 2 cosh F_j(v)) / Z,    F = W' v + c.

    Parameters
    ----------
    W : (n_v, n_h) array_like of float64, or a Model
        Couplings, dimensionless (the inverse temperature is absorbed).
    b, c : (n_v,) and (n_h,) array_like of float64, optional
        Visible and hidden fields, dimensionless; zero where not given.

    Returns
    -------
    (2**n_v,) ndarray of float64
        Probabilities; the state's bit i is visible spin i, spin = 1 - 2 * bit.

    Raises
    ------
    ValueError
        Bad shapes or entries, or energies that overflow; ModelTooLargeError where the tables do not fit into memory.

    Examples
    --------
    One visible spin and one hidden spin in a field: q(+1) = 1 / (1 + exp(-2 b)) since the hidden spin is symmetric.

    >>> import numpy as np
    >>> np.round(visible_law([[0.7]], b=[0.5]), 4).tolist()
    [0.7311, 0.2689]
    """
    log_weight = _log_weights(_moderate(as_model(W, b, c)))
    law: Floats = np.exp(log_weight - log_weight.max())
    law /= law.sum()
    return law


@default_error_state
def kl_divergence(p_data: ArrayLike, W: ModelLike, b: ArrayLike | None = None, c: ArrayLike | None = None) -> float:
    """Divergence KL(p_data || q) = sum_v p_data(v) log(p_data(v) / q(v)) of the model's visible law q from the data, in nats.

    Summed as p (log(p/q) - 1) + q, which is nonnegative state by state and has the same sum: two laws that agree to 1e-8
    have a divergence of 1e-16, and it is returned with correct digits.

    Parameters
    ----------
    p_data : (2**n_v,) array_like of float64
        Law on the visible states; a sum off one by rounding is divided out. States of probability zero contribute nothing.
    W, b, c : array_like of float64, or W a Model
        Couplings (n_v, n_h) and fields (n_v,), (n_h,), as in :func:`visible_law`.

    Returns
    -------
    float
        Nats, at least 0.

    Raises
    ------
    ValueError
        Bad shapes, entries or laws, or energies that overflow; ModelTooLargeError where the tables do not fit into memory.

    Examples
    --------
    Data that sit on one of four equally likely states are log 4 away.

    >>> round(kl_divergence([1.0, 0.0, 0.0, 0.0], [[0.0], [0.0]]), 6)
    1.386294
    """
    model = _moderate(as_model(W, b, c))
    data = as_law(p_data, 2**model.n_visible)
    terms, _ = _divergence(data, _log_weights(model))
    return float(terms.sum())


def divergence_error(p_data: ArrayLike, model: Model) -> float:
    """A bound on the error of :func:`kl_divergence`, for the law as it is handed in, over its sum.

    With u the rounding of float64 and L the largest |log-weight|, a field is wrong by dF <= (n_v + 1) u max_j (sum_i |W_ij| + |c_j|), a
    log-weight by dL <= n_h (dF + 8 u) + (N + 12) u L and x = log(p/q) by dx <= 2 dL + (4 L + 2^n_v + 16) u + 2 u (|log p| + |x|). A term
    p (x + exp(-x) - 1) has the slope p - q in x and the curvature q; what it is made of is added up with four roundings.
    """
    data, n_states = as_law(p_data, 2**model.n_visible), 1 << model.n_visible
    data = data / data.sum()
    log_weights = _log_weights(model)
    shifted = log_weights - log_weights.max()
    log_law = shifted - np.log(np.exp(shifted).sum())
    law, present = np.exp(log_law), data > 0.0
    columns = np.abs(model.W).sum(axis=0) + np.abs(model.c)
    largest = float(np.abs(model.b).sum() + columns.sum()) + model.n_hidden * math.log(2)
    of_weights = model.n_hidden * ((model.n_visible + 1) * float(columns.max()) + 8) + (model.n_spins + 12) * largest
    of_laws = (2 * of_weights + 4 * largest + n_states + 16) * UNIT
    logarithms = np.log(np.where(present, data, 1.0))
    ratios = np.where(present, logarithms - log_law, 0.0)
    errors = of_laws + 2 * UNIT * (np.abs(logarithms) + np.abs(ratios))
    moved = np.abs(data - law) * errors + law * errors**2 + (4 + n_states) * UNIT * (data * np.abs(ratios) + np.abs(data - law))
    return float(moved.sum() * (1 + of_laws) + (n_states + 1) * UNIT * (data * np.abs(ratios)).sum())


def _moderate(model: Model) -> Model:
    """The model, where its visible law fits into memory and its energies into float64; else ModelTooLargeError, ValueError."""
    memory.require(6 * 8 * 2**model.n_visible, f"the law of {model.n_visible} visible spins", "use fewer visible spins")
    require_finite_energies(model)
    return model


def _kernel_arguments(model: Model) -> tuple[Floats, Floats, Floats]:
    """W' (one row a hidden spin), b and c, copies: kernels are compiled once, for arrays that are writeable."""
    return np.array(model.W.T, order="C"), model.b.copy(), model.c.copy()


def _log_weights(model: Model) -> Floats:
    """log of sum_h exp(-E(v, h)) at every visible state, (2**n_v,)."""
    n_states = 1 << model.n_visible
    log_weight, field, factor = np.empty(n_states), np.empty(n_states), np.ones(n_states)
    _sum_out_hidden(*_kernel_arguments(model), field, factor, log_weight)
    return log_weight


def _divergence(data: Floats, log_weight: Floats) -> tuple[Floats, Floats]:
    """Terms of the divergence (nonnegative, they sum to it) and the difference q - p, both (2**n_v,)."""
    shifted = log_weight - log_weight.max()
    log_law = shifted - np.log(np.exp(shifted).sum())
    terms, difference = np.empty((2, data.size))
    _compare_laws(data / data.sum(), log_law, terms, difference)
    return terms, difference


@jit
def _fill_fields(couplings: Floats, offset: float, field: Floats) -> None:
    """field[v] = offset + sum_i couplings[i] v_i at every state v, doubling the table once per spin."""
    field[0] = offset
    size = 1
    for coupling in couplings:
        for state in range(size):
            field[size + state] = field[state] - coupling
            field[state] += coupling
        size *= 2


@jit
def _sum_out_hidden(columns: Floats, b: Floats, c: Floats, field: Floats, factor: Floats, log_weight: Floats) -> None:
    """log_weight[v] = b' v + sum_j log 2 cosh F_j(v), with log 2 cosh F = |F| + log(1 + exp(-2 |F|)).

    ``columns`` is W', one row a hidden spin; ``factor`` is one everywhere on entry and on return.
    """
    n_hidden = columns.shape[0]
    _fill_fields(b, 0.0, log_weight)
    for j in range(n_hidden):
        _fill_fields(columns[j], c[j], field)
        for state in range(field.size):
            magnitude = abs(field[state])
            log_weight[state] += magnitude
            factor[state] *= 1.0 + np.exp(-2.0 * magnitude)
        if (j + 1) % FACTORS_PER_LOGARITHM == 0 or j + 1 == n_hidden:
            for state in range(field.size):
                log_weight[state] += np.log(factor[state])
                factor[state] = 1.0


@jit
def _compare_laws(data: Floats, log_law: Floats, terms: Floats, difference: Floats) -> None:
    """terms = p (log(p/q) - 1) + q and difference = q - p; near p = q through expm1, where the plain forms cancel."""
    for state in range(data.size):
        p = data[state]
        if p == 0.0:
            terms[state] = difference[state] = np.exp(log_law[state])
            continue
        log_ratio = np.log(p) - log_law[state]
        if abs(log_ratio) < 1.0:
            relative = np.expm1(-log_ratio)  # q/p - 1
            terms[state] = max(p * (log_ratio + relative), 0.0)
            difference[state] = p * relative
        else:
            difference[state] = np.exp(log_law[state]) - p
            terms[state] = max(p * log_ratio + difference[state], 0.0)
