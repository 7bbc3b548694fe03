"""The functions on NumPy arrays, as every bridge calls them: a value, and its derivatives by W, b and c where they are asked for."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import adjoints
import thermokernels as tk
from adjoints.laws import kl_hessian_product
from thermokernels.common import arguments
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NotConvergedError
from thermokernels.model.kernels.registry import as_kernel

# (p_data or None, W, b or None, c or None) -> value, or with its derivatives by W and, where fields are given, b and c
Value = Callable[..., float]
Gradients = Callable[..., tuple[float, tuple[Floats, ...]]]


class Host(NamedTuple):
    """One function: its value, the same with its derivatives, and where there are some the Hessian times a direction and a way to do many.

    The third is called as hessian_product(parts of the direction, p_data, *parts of the model) and returns parts of those shapes; the last
    as many(p_data, *parts of the models), all with one axis more, and returns what ``gradients`` does with that axis.
    """

    value: Value
    gradients: Gradients
    hessian_product: Callable[..., tuple[Floats, ...]] | None = None
    many: Callable[..., tuple[Floats, tuple[Floats, ...]]] | None = None


# A law kept in single precision sums to one within this only.
SINGLE_SUM = 1e-4


def as_law(p_data: Any) -> NDArray[np.float64]:
    """The data law, or one a row, in double precision; one that was rounded to single precision is divided by its sum again."""
    law = arguments.as_reals(p_data, "p_data")
    if law.dtype.itemsize < 8 and law.dtype.kind == "f":
        law = law.astype(np.float64)
        total = law.sum(axis=-1, keepdims=True)
        return np.where(np.abs(total - 1) <= SINGLE_SUM, law / total, law)  # what is far off one is refused where it is used
    return law.astype(np.float64)


def as_double(values: Any, name: str) -> NDArray[np.float64]:
    """Real numbers in double precision, however they are kept; else ValueError, never a part of a complex number."""
    return arguments.as_reals(values, name).astype(np.float64)


def q_struct(window: float) -> Host:
    """Q of (p_data, W, b, c) for a window in sweeps."""

    def value(p_data: Any, W: Any, b: Any = None, c: Any = None) -> float:
        return tk.q_struct(W, p_data, window=window, b=b, c=c).value

    def gradients(p_data: Any, W: Any, b: Any = None, c: Any = None) -> tuple[float, tuple[Floats, ...]]:
        if b is None:
            q, by_weights = adjoints.q_struct(W, p_data, window=window)
            return q.value, (by_weights,)
        q, cotangents = adjoints.q_struct(W, p_data, window=window, b=b, c=c, fields=True)
        return q.value, tuple(cotangents)

    def many(p_data: Any, W: Any, b: Any = None, c: Any = None) -> tuple[Floats, tuple[Floats, ...]]:
        fields = {} if b is None else {"b": b, "c": c, "fields": True}
        batch, found = adjoints.q_struct(W, p_data, window=window, **fields)
        if bad := [number for number, message in enumerate(batch.messages) if message is not None]:
            first = f"the first of them number {bad[0]}: {batch.messages[bad[0]]}"
            warnings.warn(f"{len(bad)} of {len(batch.messages)} models of a batch are NaN, {first}", RuntimeWarning, stacklevel=2)
        return np.asarray(batch.value), (found,) if b is None else tuple(found)

    return Host(value, gradients, many=many)


def observable_variance_time() -> Host:
    """T_O in steps of (None, W, b, c)."""

    def value(_: None, W: Any, b: Any = None, c: Any = None) -> float:
        return tk.observable_variance_time(tk.gibbs_chain(W, b, c))

    def gradients(_: None, W: Any, b: Any = None, c: Any = None) -> tuple[float, tuple[Floats, ...]]:
        if b is None:
            time, by_weights = adjoints.observable_variance_time(W)
            return time, (by_weights,)
        time, cotangents = adjoints.observable_variance_time(W, b, c, fields=True)
        return time, tuple(cotangents)

    return Host(value, gradients)


def kl_divergence() -> Host:
    """KL(p_data || model) in nats of (p_data, W, b, c)."""

    def value(p_data: Any, W: Any, b: Any = None, c: Any = None) -> float:
        return tk.kl_divergence(p_data, W, b, c)

    def gradients(p_data: Any, W: Any, b: Any = None, c: Any = None) -> tuple[float, tuple[Floats, ...]]:
        if b is None:
            divergence, by_weights = adjoints.kl_divergence(p_data, W)
            return divergence, (by_weights,)
        return adjoints.kl_divergence(p_data, W, b, c, fields=True)

    def hessian_product(direction: tuple[Floats, ...], p_data: Any, W: Any, b: Any = None, c: Any = None) -> tuple[Floats, ...]:
        model = tk.Model(W, b, c)
        t_W, *t_fields = direction
        t_b, t_c = t_fields or (np.zeros(model.n_visible), np.zeros(model.n_hidden))
        return kl_hessian_product(p_data, model, (t_W, t_b, t_c))[: len(direction)]

    return Host(value, gradients, hessian_product)


def estimated_q(window: float, kernel: str, n_samples: int, n_replicates: int, seed: int) -> Host:
    """Q of (samples, W, b, c) by coupled chains, for a window in sweeps."""

    def value(samples: Any, W: Any, b: Any = None, c: Any = None) -> float:
        estimate = tk.estimate_q(tk.Model(W, b, c), samples, window, kernel, n_replicates=n_replicates, seed=seed)
        if not math.isfinite(estimate.value):
            raise NotConvergedError(f"Q cannot be estimated: {estimate.reason}")
        return estimate.value

    def gradients(samples: Any, W: Any, b: Any = None, c: Any = None) -> tuple[float, tuple[Floats, ...]]:
        estimate, gradient = adjoints.estimate_q(
            tk.Model(W, b, c), samples, window, kernel=kernel, n_samples=n_samples, n_replicates=n_replicates, seed=seed
        )
        return estimate.value, (gradient.dq_dW,) if b is None else (gradient.dq_dW, gradient.dq_db, gradient.dq_dc)

    return Host(value, gradients)


def estimate_settings(window: Any, kernel: Any, n_samples: Any, n_replicates: Any, seed: Any) -> tuple[float, str, int, int, int]:
    """The checked arguments of :func:`estimated_q`."""
    arguments.as_seed(seed)
    return (
        arguments.as_positive(window, "window", "sweeps"),
        as_kernel(kernel, lambda one: one.coupled).name,
        arguments.as_count(n_samples, "n_samples", 128),
        arguments.as_count(n_replicates, "n_replicates"),
        int(seed),
    )
