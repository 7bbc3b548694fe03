"""Kernels of the training: a network through all its Adam steps in one compiled call.

Without fields every visible law is even, so only the half of the visible states with last spin +1 is summed, each standing for itself and
its complement. In a few flat loops they repeat what ``thermokernels.model.laws`` and ``adjoints`` do for any size; the tests hold them to
those.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.model.hypernetwork import Shape


@jit
def _train(
    phi: Floats,
    shape: Shape,
    laws: Floats,
    adam: tuple[float, float, float, float],
    levels: Floats,
    curve: Floats,
    first: NDArray[np.int64],
    crossings: Floats,
) -> None:
    """All Adam steps; phi is the start on entry and the end on return."""
    learning_rate, decay_mean, decay_square, epsilon = adam
    n_codes, n_steps = laws.shape[0], curve.shape[0] - 1
    ct_phi, mean, square = np.zeros(phi.size), np.zeros(phi.size), np.zeros(phi.size)
    correction_mean = correction_square = 1.0
    for step in range(n_steps + 1):
        total = 0.0
        for k in range(n_codes):
            curve[step, k] = _one_code(phi, shape, k, laws[k], ct_phi)
            total += curve[step, k]
        for level in range(levels.size):
            if first[level] < 0 and total / n_codes <= levels[level]:
                first[level] = step
                for p in range(phi.size):
                    crossings[level, p] = phi[p]
        if step == n_steps:
            break
        correction_mean *= decay_mean
        correction_square *= decay_square
        for p in range(phi.size):
            slope = ct_phi[p] / n_codes
            ct_phi[p] = 0.0
            mean[p] = decay_mean * mean[p] + (1.0 - decay_mean) * slope
            square[p] = decay_square * square[p] + (1.0 - decay_square) * slope * slope
            scale = np.sqrt(square[p] / (1.0 - correction_square)) + epsilon
            phi[p] -= learning_rate * (mean[p] / (1.0 - correction_mean)) / scale


@jit
def _one_code(phi: Floats, shape: Shape, k: int, law: Floats, ct_phi: Floats) -> float:
    """KL of code k in nats; its gradient is added to ct_phi. Forward W = A B', the divergence, and back."""
    n_visible, n_hidden, rank, width, _ = shape
    z, A, B = np.empty(width), np.empty((n_visible, rank)), np.empty((n_hidden, rank))
    weights, ct_weights = np.empty((n_visible, n_hidden)), np.zeros((n_visible, n_hidden))
    _emit(phi, shape, k, z, A, B, weights)
    value = _divergence(weights, law, ct_weights)
    _pull_back(phi, shape, k, z, A, B, ct_weights, ct_phi)
    return value


@jit
def _emit(phi: Floats, shape: Shape, k: int, z: Floats, A: Floats, B: Floats, weights: Floats) -> None:
    """The couplings W = A B' of code k, with z and the factors that they are made of."""
    n_visible, n_hidden, rank, width, n_codes = shape
    layer, slope_A, slope_B, offset_A, offset_B = _offsets(shape)
    for d in range(width):
        z[d] = np.tanh(phi[d * n_codes + k] + phi[layer + d])
    _factor(phi, slope_A, offset_A, z, A)
    _factor(phi, slope_B, offset_B, z, B)
    for i in range(n_visible):
        for j in range(n_hidden):
            weights[i, j] = 0.0
            for r in range(rank):
                weights[i, j] += A[i, r] * B[j, r]


@jit
def _pull_back(phi: Floats, shape: Shape, k: int, z: Floats, A: Floats, B: Floats, ct_weights: Floats, ct_phi: Floats) -> None:
    """Adjoint of ``_emit``: what a cotangent of the couplings of code k adds to ct_phi."""
    n_visible, n_hidden, rank, width, n_codes = shape
    layer, slope_A, slope_B, offset_A, offset_B = _offsets(shape)
    ct_z, ct_A, ct_B = np.zeros(width), np.zeros((n_visible, rank)), np.zeros((n_hidden, rank))
    for i in range(n_visible):
        for j in range(n_hidden):
            for r in range(rank):
                ct_A[i, r] += ct_weights[i, j] * B[j, r]
                ct_B[j, r] += ct_weights[i, j] * A[i, r]
    _pull_back_factor(phi, slope_A, offset_A, z, ct_A, ct_phi, ct_z)
    _pull_back_factor(phi, slope_B, offset_B, z, ct_B, ct_phi, ct_z)
    for d in range(width):
        ct_layer = (1.0 - z[d]) * (1.0 + z[d]) * ct_z[d]
        ct_phi[d * n_codes + k] += ct_layer
        ct_phi[layer + d] += ct_layer


@jit
def _offsets(shape: Shape) -> tuple[int, int, int, int, int]:
    """Where c0, H_A, H_B, a0, b0 begin in phi; C begins at 0."""
    n_visible, n_hidden, rank, width, n_codes = shape
    layer = width * n_codes
    slope_A = layer + width
    offset_A = slope_A + n_visible * rank * width
    slope_B = offset_A + n_visible * rank
    return layer, slope_A, slope_B, offset_A, slope_B + n_hidden * rank * width


@jit
def _factor(phi: Floats, slope: int, offset: int, z: Floats, factor: Floats) -> None:
    """factor = reshape(H z + offset) with H at ``slope`` and the offset at ``offset`` in phi."""
    rank, width = factor.shape[1], z.size
    for i in range(factor.shape[0]):
        for r in range(rank):
            row = i * rank + r
            entry = phi[offset + row]
            for d in range(width):
                entry += phi[slope + row * width + d] * z[d]
            factor[i, r] = entry


@jit
def _pull_back_factor(phi: Floats, slope: int, offset: int, z: Floats, ct_factor: Floats, ct_phi: Floats, ct_z: Floats) -> None:
    """Adjoint of ``_factor``: adds to the cotangents of H and the offset in ct_phi, and to that of z."""
    rank, width = ct_factor.shape[1], z.size
    for i in range(ct_factor.shape[0]):
        for r in range(rank):
            row = i * rank + r
            ct_entry = ct_factor[i, r]
            ct_phi[offset + row] += ct_entry
            for d in range(width):
                ct_phi[slope + row * width + d] += ct_entry * z[d]
                ct_z[d] += phi[slope + row * width + d] * ct_entry


@jit
def _divergence(weights: Floats, law: Floats, ct_weights: Floats) -> float:
    """KL(law || visible law) on pairs {v, -v} in nats; writes dKL/dW_ij = sum_v (q - p)(v) v_i tanh F_j(v).

    One exponential e = exp(-2 |F|) gives both tanh |F| = (1 - e) / (1 + e) and log 2 cosh F = |F| + log(1 + e).
    """
    n_visible, n_hidden = weights.shape
    n_half = law.size
    tangents = np.empty((n_hidden, n_half))
    log_weight, product = np.zeros(n_half), np.ones(n_half)
    for j in range(n_hidden):
        field = tangents[j]
        field[0] = weights[n_visible - 1, j]
        size = 1
        for i in range(n_visible - 1):
            for state in range(size):
                field[size + state] = field[state] - weights[i, j]
                field[state] += weights[i, j]
            size *= 2
        for state in range(n_half):
            magnitude = abs(field[state])
            e = np.exp(-2.0 * magnitude)
            log_weight[state] += magnitude
            product[state] *= 1.0 + e
            tangent = (1.0 - e) / (1.0 + e)
            field[state] = tangent if field[state] >= 0.0 else -tangent

    largest = -np.inf
    for state in range(n_half):
        log_weight[state] += np.log(product[state])
        largest = max(largest, log_weight[state])
    partition = 0.0
    for state in range(n_half):
        partition += np.exp(log_weight[state] - largest)
    log_partition = largest + np.log(partition)
    value = 0.0
    difference = product
    for state in range(n_half):
        log_law = log_weight[state] - log_partition
        difference[state] = np.exp(log_law) - law[state]
        if law[state] > 0.0:
            value += law[state] * (np.log(law[state]) - log_law)

    for j in range(n_hidden):
        ct_field = tangents[j]
        for state in range(n_half):
            ct_field[state] *= difference[state]
        size = n_half
        for i in range(n_visible - 2, -1, -1):
            size //= 2
            for state in range(size):
                ct_weights[i, j] += ct_field[state] - ct_field[size + state]
                ct_field[state] += ct_field[size + state]
        ct_weights[n_visible - 1, j] = ct_field[0]
    return value
