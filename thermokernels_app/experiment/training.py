"""Training of the hypernetwork by full-batch Adam, and the L-BFGS run that tells a stationary code from an undertrained one.

All steps of a training run in one compiled call. Without fields every visible law is even, so only the half of the visible states
with last spin +1 is summed, each standing for itself and its complement. The kernels share one file, see
:mod:`thermokernels.compiled.decorator`,
and repeat in a few flat loops what ``thermokernels.model.laws`` and ``adjoints`` do for any size; the tests hold them to those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NumericalError
from thermokernels.compiled.decorator import jit
from thermokernels.model.hypernetwork import Hypernetwork, Shape
from thermokernels_app.experiment.design import CheckpointName, Design
from thermokernels_app.experiment.teachers import Stream, generator, teachers


@dataclass(frozen=True)
class Checkpoint:
    """A network on its way through training.

    Attributes
    ----------
    name : str
        ``init``, ``half``, ``tenth`` or ``final``.
    step : int
        Adam updates done so far.
    reached : bool
        False where the level was never crossed; the checkpoint is the last step then.
    phi : (n_parameters,) ndarray of float64
    mean_kl : float
        Mean of ``kl``, in nats.
    kl : (codes,) ndarray of float64
        KL(teacher || model) of every code, in nats.
    """

    name: CheckpointName
    step: int
    reached: bool
    phi: Floats
    mean_kl: float
    kl: Floats


@dataclass(frozen=True)
class Training:
    """One trained network: its four checkpoints and the divergence of every code at every step.

    Attributes
    ----------
    m, split : int
    shape : Shape
        Layout of phi.
    checkpoints : tuple of Checkpoint
        In the order init, half, tenth, final.
    curve : (steps + 1, codes) ndarray of float64
        KL(teacher || model) in nats; row t is after t updates.
    """

    m: int
    split: int
    shape: Shape
    checkpoints: tuple[Checkpoint, ...]
    curve: Floats

    def checkpoint(self, name: str) -> Checkpoint:
        """The checkpoint of that name."""
        return next(checkpoint for checkpoint in self.checkpoints if checkpoint.name == name)

    def network(self, name: str) -> Hypernetwork:
        """The network at the checkpoint of that name."""
        return Hypernetwork.from_parameters(self.checkpoint(name).phi, self.shape)


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


def network_shape(design: Design, m: int, split: int) -> Shape:
    """Layout of the parameters at split s: rank 5 - s and width 4 s in the registered design.

    Examples
    --------
    >>> network_shape(Design(), 4, 2)
    Shape(n_visible=4, n_hidden=4, rank=3, width=8, n_codes=4)
    """
    return Shape(m, m, design.rank(split), design.width(split), design.teacher.codes)


def code_vector(design: Design, code: int) -> Floats:
    """The input u_k = e_k of the network for code k = 1, 2, ...: shape (codes,)."""
    unit: Floats = np.eye(design.teacher.codes)[code - 1]
    return unit


def initial_parameters(design: Design, m: int, split: int) -> Floats:
    """phi before training, (n_parameters,); the draws are those of ``Stream.NETWORK``."""
    shape, draws, network = network_shape(design, m, split), generator(design.seed, Stream.NETWORK, m, split), design.network
    variance = {
        "C": network.variance_layer,
        "H_A": network.variance_slope / shape.width,
        "a0": network.variance_offset,
        "H_B": network.variance_slope / shape.width,
        "b0": network.variance_offset,
    }
    blocks = [
        np.sqrt(variance[name]) * draws.standard_normal(block_shape).ravel() if name in variance else np.zeros(block_shape)
        for name, block_shape in shape.blocks()
    ]
    return np.concatenate(blocks)


def directions(design: Design, m: int, split: int) -> Floats:
    """The frozen unit directions in phi of the gradient check, (directions, n_parameters); draws of ``Stream.DIRECTIONS``."""
    shape = network_shape(design, m, split)
    rows: Floats = generator(design.seed, Stream.DIRECTIONS, m, split).standard_normal((design.directions, shape.n_parameters))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def train(design: Design, m: int, split: int) -> Training:
    """Train the network of one (m, s) on all of its teachers and keep the four checkpoints.

    Minimises mean_k KL(teacher k || model W(u_k)) over phi by full-batch Adam with exact gradients. ``half`` and ``tenth`` are
    the first steps at which that mean is at or below its level, step 0 included; one that is never crossed falls on the last step.

    Parameters
    ----------
    design : Design
    m : int
        Visible spins, and as many hidden ones.
    split : int
        s.

    Returns
    -------
    Training
        Bitwise the same every time on one machine.

    Raises
    ------
    NumericalError
        A divergence stopped being finite.

    Examples
    --------
    >>> from dataclasses import replace
    >>> short = replace(Design(), training=replace(Design().training, steps=10))
    >>> training = train(short, 4, 2)
    >>> [(checkpoint.name, checkpoint.step, checkpoint.reached) for checkpoint in training.checkpoints]
    [('init', 0, True), ('half', 10, False), ('tenth', 10, False), ('final', 10, True)]
    """
    rule, shape = design.training, network_shape(design, m, split)
    phi = initial_parameters(design, m, split)
    adam = (rule.learning_rate, rule.decay_mean, rule.decay_square, rule.epsilon)
    levels = np.array([rule.half, rule.tenth])
    curve = np.empty((rule.steps + 1, shape.n_codes))
    first, crossings = np.full(2, -1), np.empty((2, phi.size))
    final = phi.copy()
    _train(final, shape, _half_laws(design, m), adam, levels, curve, first, crossings)
    if not np.isfinite(curve).all():
        step, code = (int(k) for k in np.argwhere(~np.isfinite(curve))[0])
        raise NumericalError(f"training of m = {m}, split {split} left the finite numbers at step {step}, code {code + 1}")

    crossings[first < 0] = final
    reached, crossed = (first >= 0).tolist(), np.where(first < 0, rule.steps, first).tolist()
    rows: tuple[tuple[CheckpointName, int, bool, Floats], ...] = (
        ("init", 0, True, phi),
        ("half", crossed[0], reached[0], crossings[0]),
        ("tenth", crossed[1], reached[1], crossings[1]),
        ("final", rule.steps, True, final),
    )
    checkpoints = tuple(Checkpoint(*row, float(curve[row[1]].mean()), curve[row[1]].copy()) for row in rows)
    return Training(m, split, shape, checkpoints, curve)


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


def _half_laws(design: Design, m: int) -> Floats:
    """Teacher laws on pairs {v, -v}, represented by last visible spin +1, (codes, 2**(m-1))."""
    half = 2 ** (m - 1)
    return np.array([teacher.law[:half] + teacher.law[: half - 1 : -1] for teacher in teachers(design, m)])


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
    n_visible, n_hidden, rank, width, n_codes = shape
    layer, slope_A, slope_B, offset_A, offset_B = _offsets(shape)
    z, ct_z = np.empty(width), np.zeros(width)
    A, B = np.empty((n_visible, rank)), np.empty((n_hidden, rank))
    ct_A, ct_B = np.zeros((n_visible, rank)), np.zeros((n_hidden, rank))
    for d in range(width):
        z[d] = np.tanh(phi[d * n_codes + k] + phi[layer + d])
    _factor(phi, slope_A, offset_A, z, A)
    _factor(phi, slope_B, offset_B, z, B)
    weights, ct_weights = np.zeros((n_visible, n_hidden)), np.zeros((n_visible, n_hidden))
    for i in range(n_visible):
        for j in range(n_hidden):
            for r in range(rank):
                weights[i, j] += A[i, r] * B[j, r]

    value = _divergence(weights, law, ct_weights)

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
    return value


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
