"""Training of the hypernetwork by full-batch Adam, all steps of a run in one compiled call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NumericalError
from thermokernels.model.hypernetwork import Hypernetwork, Shape
from thermokernels_app.experiment.design import CheckpointName, Design
from thermokernels_app.experiment.teachers import Stream, generator, teachers
from thermokernels_app.experiment.training_kernels import _train


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
    """The fixed unit directions in phi of the gradient check, (directions, n_parameters); draws of ``Stream.DIRECTIONS``."""
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


def _half_laws(design: Design, m: int) -> Floats:
    """Teacher laws on pairs {v, -v}, represented by last visible spin +1, (codes, 2**(m-1))."""
    half = 2 ** (m - 1)
    return np.array([teacher.law[:half] + teacher.law[: half - 1 : -1] for teacher in teachers(design, m)])
