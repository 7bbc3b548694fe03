"""Kernels of the steering: many networks side by side, from their parameters to the couplings of every code and back."""

from __future__ import annotations

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.model.hypernetwork import Shape
from thermokernels_app.experiment.training_kernels import _divergence, _emit, _pull_back


@jit
def _emit_all(phi: Floats, shape: Shape, weights: Floats) -> None:
    """weights[n, k] = W of network n and code k; phi (networks, n_parameters), weights (networks, codes, n_v, n_h)."""
    n_visible, n_hidden, rank, width, n_codes = shape
    z, A, B = np.empty(width), np.empty((n_visible, rank)), np.empty((n_hidden, rank))
    for n in range(phi.shape[0]):
        for k in range(n_codes):
            _emit(phi[n], shape, k, z, A, B, weights[n, k])


@jit
def _pull_back_all(phi: Floats, shape: Shape, ct_weights: Floats, ct_phi: Floats) -> None:
    """ct_phi[n] = sum_k J_k' vec(ct_weights[n, k])."""
    n_visible, n_hidden, rank, width, n_codes = shape
    z, A, B = np.empty(width), np.empty((n_visible, rank)), np.empty((n_hidden, rank))
    weights = np.empty((n_visible, n_hidden))
    for n in range(phi.shape[0]):
        for p in range(phi.shape[1]):
            ct_phi[n, p] = 0.0
        for k in range(n_codes):
            _emit(phi[n], shape, k, z, A, B, weights)
            _pull_back(phi[n], shape, k, z, A, B, ct_weights[n, k], ct_phi[n])


@jit
def _divergences(weights: Floats, half_laws: Floats, values: Floats, ct_weights: Floats) -> None:
    """values[n, k] = KL(law k || visible law) in nats, and its gradient by the couplings; laws on pairs {v, -v}."""
    ct_weights[:] = 0.0
    for n in range(weights.shape[0]):
        for k in range(weights.shape[1]):
            values[n, k] = _divergence(weights[n, k], half_laws[k], ct_weights[n, k])
