"""The L-BFGS run that tells a stationary code from an undertrained one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from thermokernels.common.arrays import Floats
from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.training import Training, _half_laws
from thermokernels_app.experiment.training_kernels import _one_code


@dataclass(frozen=True)
class Polished:
    """What L-BFGS makes of one code from the final parameters.

    Attributes
    ----------
    code : int
    final_kl, polished_kl : float
        KL of the code after training and after L-BFGS, in nats.
    gradient_norm : float
        Euclidean norm of the KL's gradient in phi where L-BFGS ended.
    iterations : int
    stationary : bool
        The gradient norm fell below its threshold and the KL did not fall below its own; otherwise the code is undertrained.
    """

    code: int
    final_kl: float
    polished_kl: float
    gradient_norm: float
    iterations: int
    stationary: bool


def polish(design: Design, training: Training, code: int) -> Polished:
    """Whether a code that ended with a large KL sits at a stationary point: minimise that code's KL alone by L-BFGS (P4).

    Starts from the final parameters and ends where the Euclidean norm of the gradient is below ``thresholds.gradient_norm``
    or the iterations of the design are used up; the decrease of the value never ends it.
    """
    shape, limits = training.shape, design.polish
    law = _half_laws(design, training.m)[code - 1]
    gradient = np.empty(training.shape.n_parameters)

    def value_and_gradient(phi: Floats) -> tuple[float, Floats]:
        gradient[:] = 0.0
        return _one_code(phi, shape, code - 1, law, gradient), gradient.copy()

    def stop_when_small(intermediate_result: Any) -> None:
        # scipy's own rule is on the largest entry; the threshold of the design is on the norm.
        if np.linalg.norm(value_and_gradient(intermediate_result.x)[1]) < design.thresholds.gradient_norm:
            raise StopIteration

    start = training.checkpoint("final").phi
    from scipy.optimize import minimize  # a fifth of a second that most workers never need

    with threadpool_limits(limits=1, user_api="blas"):  # scipy's products of 300 numbers lose to the cost of waking threads
        result = minimize(
            value_and_gradient,
            start,
            jac=True,
            method="L-BFGS-B",
            callback=stop_when_small,
            options={"maxiter": limits.iterations, "maxfun": 2 * limits.iterations, "maxcor": limits.history, "ftol": 0.0, "gtol": 0.0},
        )
    polished_kl, slope = value_and_gradient(result.x)
    gradient_norm = float(np.linalg.norm(slope))
    stationary = gradient_norm < design.thresholds.gradient_norm and polished_kl >= design.thresholds.final_kl
    return Polished(code, value_and_gradient(start)[0], polished_kl, gradient_norm, int(result.nit), bool(stationary))
