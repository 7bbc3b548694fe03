"""What the judge says of steered networks at their last step: Q by the dense reference, the slopes of the objective by complex steps.

Along a direction d in phi, with W and its tangent t from the judge's own hypernetwork and g from 50 decimal digits,

    d KL(teacher || model) = <g, t>,      d log Q = Im Q(W + i h t) / (h Q),

since dKL/dW_ij = E_pi[v_i h_j] - E_data[v_i h_j] is g_ij itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels_app.judges import reference
from thermokernels_app.judges.gradient_check import relative_errors


def check(
    phi: Floats, weights: Floats, now: Any, pressures: Floats, slopes: Floats, models: Any, directions: Floats
) -> list[dict[str, float]]:
    """``value_error`` and ``gradient_error`` of every network.

    Parameters
    ----------
    phi : (networks, n_parameters) ndarray; weights : (networks, codes, m, m) ndarray
    now : numbers of the final models, with ``log_q`` (networks, codes)
    pressures : (networks, codes) ndarray; slopes : (networks, n_parameters) ndarray
        The objective mean_k (KL_k - p_k log Q_k), and its slopes under test.
    models : with ``shape``, ``laws`` (codes, 2**m) and ``window`` in sweeps
    directions : (k, n_parameters) ndarray
    """
    codes, found = np.eye(models.shape.n_codes), []
    n_visible, n_hidden, rank, width, _ = models.shape
    for n, parameters in enumerate(phi):
        slope, value_error = np.zeros(len(directions)), 0.0
        for k, (code, law) in enumerate(zip(codes, models.laws, strict=True)):
            moved = [parameters + 1j * reference.STEP * direction for direction in directions]
            emitted = np.array([reference.couplings(one, code, n_visible, n_hidden, rank, width) for one in moved])
            w, tangents = emitted[0].real, emitted.imag / reference.STEP
            q, steps = reference.derivatives(w, law, tangents, models.window)
            divergence = tangents.reshape(len(directions), -1) @ reference.exact_g(w, law)
            slope += (divergence - pressures[n, k] * steps.value / q.value) / len(codes)
            off = max(abs(np.expm1(now.log_q[n, k] - np.log(q.value))), float(np.abs(weights[n, k] - w).max()))
            value_error = max(value_error, float(off))
        errors = relative_errors(directions @ slopes[n], slope, float(np.abs(now.kl[n]).max()))
        found.append({"value_error": value_error, "gradient_error": float(errors.max())})
    return found
