"""Q, T_O and the KL divergence as ``fun`` and ``jac`` of a flat vector, for ``scipy.optimize``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import arguments
from thermokernels.common.arrays import Floats
from thermokernels_bridges import hosts


class Objective:
    """A function of the flat parameters of a model and its gradient; what was computed last is kept, so that both cost one evaluation.

    For :func:`scipy.optimize.minimize` (``fun=o.fun, jac=o.jac``), as a constraint (``NonlinearConstraint(o.fun, low, high, jac=o.jac)``,
    or ``{"type": "ineq", "fun": o.fun, "jac": o.jac}``), or called, with ``jac=True``.

    Parameters
    ----------
    compute : of (W,) or (W, b, c) to the value and its derivatives
    shape : (n_v, n_h)
    fields : whether the parameters are W, b and c one after the other, or W alone (C order)
    """

    def __init__(self, compute: Callable[..., tuple[float, tuple[Floats, ...]]], shape: tuple[int, int], fields: bool) -> None:
        self.shape = arguments.as_count(shape[0], "n_v"), arguments.as_count(shape[1], "n_h")
        self.fields = fields
        self.size = self.shape[0] * self.shape[1] + (sum(self.shape) if fields else 0)
        self._compute = compute
        self._point: Floats | None = None
        self._result = (0.0, np.empty(0))

    def __call__(self, parameters: ArrayLike) -> tuple[float, Floats]:
        """The value and its gradient, (size,)."""
        flat = arguments.as_vector(parameters, self.size, "parameters")
        if self._point is None or not np.array_equal(flat, self._point):
            value, gradients = self._compute(*self.unflatten(flat))
            self._point = None  # until both are stored
            self._result = value, np.concatenate([gradient.ravel() for gradient in gradients])
            self._point = flat.copy()
        value, gradient = self._result
        return value, gradient.copy()

    def fun(self, parameters: ArrayLike) -> float:
        """The value."""
        return self(parameters)[0]

    def jac(self, parameters: ArrayLike) -> Floats:
        """The gradient, (size,)."""
        return self(parameters)[1]

    def unflatten(self, parameters: ArrayLike) -> tuple[Floats, ...]:
        """(W,), or (W, b, c) with fields, of the flat parameters."""
        flat = arguments.as_vector(parameters, self.size, "parameters")
        n_visible, n_hidden = self.shape
        weights, visible, hidden = np.split(flat, [n_visible * n_hidden, n_visible * n_hidden + n_visible])
        matrix = weights.reshape(self.shape)
        return (matrix, visible, hidden) if self.fields else (matrix,)


def q_struct(
    p_data: ArrayLike, shape: tuple[int, int], window: float = 100.0, *, logarithm: bool = False, fields: bool = False
) -> Objective:
    """Q = (K / 2) |g|^2 / T_O, dimensionless, or log Q, which spans fewer decades and is what an optimiser likes.

    Parameters
    ----------
    p_data : (2**n_v,); shape : (n_v, n_h); window : float, in sweeps
    logarithm : log Q in place of Q; it has no value where the model has the correlations of the data, Q = 0
    fields : parameters are W, b and c, or W alone

    Examples
    --------
    >>> floor = q_struct([0.4, 0.1, 0.3, 0.2], (2, 1), window=10)
    >>> round(floor.fun([0.5, -0.2]), 6), floor.jac([0.5, -0.2]).shape
    (0.099124, (2,))
    """
    gradients = hosts.q_struct(arguments.as_positive(window, "window", "sweeps")).gradients
    law = arguments.as_undivided_law(p_data, 2 ** shape[0])

    def compute(*model: Floats) -> tuple[float, tuple[Floats, ...]]:
        value, parts = gradients(law, *model)
        if not logarithm:
            return value, parts
        if value == 0.0:
            raise ValueError("log Q has no value where the model has the correlations of the data; start elsewhere, or use Q itself")
        return float(np.log(value)), tuple(part / value for part in parts)

    return Objective(compute, shape, fields)


def observable_variance_time(shape: tuple[int, int], *, fields: bool = False) -> Objective:
    """T_O in steps; ``shape`` and ``fields`` as in :func:`q_struct`."""
    gradients = hosts.observable_variance_time().gradients
    return Objective(lambda *model: gradients(None, *model), shape, fields)


def kl_divergence(p_data: ArrayLike, shape: tuple[int, int], *, fields: bool = False) -> Objective:
    """KL(p_data || visible marginal) in nats; parameters as in :func:`q_struct`."""
    gradients = hosts.kl_divergence().gradients
    law = arguments.as_undivided_law(p_data, 2 ** shape[0])
    return Objective(lambda *model: gradients(law, *model), shape, fields)
