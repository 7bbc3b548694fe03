"""Training that is steered by Q: the networks of one seed table and size, one for every objective, through all Adam steps side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import adjoints
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NumericalError, UnresolvedError
from thermokernels_app.experiment.cell import one_blas_thread
from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.keys import override
from thermokernels_app.experiment.records.store import Record
from thermokernels_app.experiment.steering_design import SteeringDesign
from thermokernels_app.experiment.steering_kernels import _divergences, _emit_all, _pull_back_all
from thermokernels_app.experiment.teachers import teachers
from thermokernels_app.experiment.training import _half_laws, directions, initial_parameters, network_shape, train
from thermokernels_app.judges import steering_check

# Of a training, for every code: KL in nats, logarithms of Q, |g|^2 and T_O in steps.
NUMBERS = ("kl", "log_q", "log_signal", "log_t_obs_steps")


@dataclass(frozen=True)
class Objective:
    """What one network is trained on: a weight lambda on -log Q, or a floor under the log Q of every code."""

    kind: str
    """``weight``, ``relative-floor`` or ``absolute-floor``."""
    number: float
    """lambda, or the floor as the design states it."""


def objectives(design: SteeringDesign) -> tuple[Objective, ...]:
    """All objectives of a design, in the order of the records."""
    kinds = {"weight": design.weights, "relative-floor": design.relative_floors, "absolute-floor": design.absolute_floors}
    return tuple(Objective(kind, number) for kind, numbers in kinds.items() for number in numbers)


@dataclass(frozen=True)
class Measured:
    """KL (nats) with its gradient by the couplings, and where it was asked for log Q with its own: arrays (networks, codes, ...)."""

    kl: Floats
    ct_kl: Floats
    log_q: Floats
    signal: Floats
    t_obs: Floats
    ct_log_q: Floats


class Models:
    """The models that networks of one size emit, and what is measured of them; ``laws`` are those of the teachers."""

    def __init__(self, base: Design, m: int, split: int) -> None:
        self.shape, self.window = network_shape(base, m, split), base.window_sweeps
        self.laws, self.half_laws = np.array([one.law for one in teachers(base, m)]), _half_laws(base, m)

    def weights(self, phi: Floats) -> Floats:
        """W of every network and code: phi (networks, n_parameters) to (networks, codes, m, m)."""
        weights = np.empty((len(phi), self.shape.n_codes, self.shape.n_visible, self.shape.n_hidden))
        _emit_all(phi, self.shape, weights)
        return weights

    def pull_back(self, phi: Floats, ct_weights: Floats) -> Floats:
        """The slopes by phi, (networks, n_parameters), from those by the couplings."""
        ct_phi = np.empty_like(phi)
        _pull_back_all(phi, self.shape, ct_weights, ct_phi)
        return ct_phi

    def measure(self, weights: Floats, wanted: NDArray[np.bool_]) -> Measured:
        """KL of all, and log Q of the networks that are ``wanted``; of the others it is NaN with slopes of zero."""
        kl, ct_kl = np.empty(weights.shape[:2]), np.empty_like(weights)
        _divergences(weights, self.half_laws, kl, ct_kl)
        numbers, ct_log_q = np.full((3, *kl.shape), np.nan), np.zeros_like(weights)
        if wanted.any():
            chosen = weights[wanted]
            laws = np.tile(self.laws, (len(chosen), 1))
            q, slope = adjoints.q_struct(chosen.reshape(-1, *chosen.shape[2:]), laws, window=self.window)
            assert isinstance(q, adjoints.QBatch)  # of couplings with three dimensions
            if q.status.any():
                raise UnresolvedError(next(message for message in q.messages if message))
            if not (q.value > 0.0).all():
                raise UnresolvedError("Q is zero where its logarithm is asked for")
            found = np.array([np.log(q.value), q.signal, q.t_obs])
            numbers[:, wanted] = found.reshape(3, *chosen.shape[:2])
            ct_log_q[wanted] = (slope / q.value[:, None, None]).reshape(chosen.shape)
        log_q, signal, t_obs = numbers
        return Measured(kl, ct_kl, log_q, signal, t_obs, ct_log_q)


class Pressures:
    """What every objective puts on -log Q_k: lambda, or what the augmented Lagrangian of a floor asks for; (networks, codes)."""

    def __init__(self, design: SteeringDesign, free_log_q: Floats) -> None:
        self.rule = design.lagrangian
        wanted = objectives(design)
        self.weights = np.array([one.number if one.kind == "weight" else 0.0 for one in wanted])
        self.floors = np.full((len(wanted), free_log_q.size), -np.inf)
        for n, one in enumerate(wanted):
            if one.kind != "weight":
                self.floors[n] = np.log(one.number) + (free_log_q if one.kind == "relative-floor" else 0.0)
        self.multipliers = np.zeros(self.floors.shape)

    @property
    def acting(self) -> NDArray[np.bool_]:
        """Whether an objective looks at Q at all."""
        acting: NDArray[np.bool_] = (self.weights > 0) | np.isfinite(self.floors[:, 0])
        return acting

    def _stressed(self, log_q: Floats) -> Floats:
        """max(0, mu + rho (floor - log Q)); 0 where there is no floor."""
        return np.maximum(0.0, self.multipliers + self.rule.stiffness * (self.floors - np.nan_to_num(log_q)))

    def of(self, now: Measured) -> Floats:
        """The pressure on every log Q, in nats of KL per nat of log Q."""
        return self.weights[:, None] + np.nan_to_num(now.signal) * self._stressed(now.log_q)

    def update(self, now: Measured) -> None:
        """The multipliers after some steps."""
        self.multipliers = np.minimum(self._stressed(now.log_q), self.rule.most)


class Adam:
    """The registered optimiser on many networks at once."""

    def __init__(self, base: Design, phi: Floats) -> None:
        self.rule, self.steps = base.training, 0
        self.mean, self.square = np.zeros_like(phi), np.zeros_like(phi)

    def step(self, phi: Floats, slopes: Floats, moving: NDArray[np.bool_]) -> None:
        """One update of phi in place, of the networks that are ``moving``."""
        rule, self.steps = self.rule, self.steps + 1
        self.mean += (1.0 - rule.decay_mean) * (slopes - self.mean)
        self.square += (1.0 - rule.decay_square) * (slopes**2 - self.square)
        scale = np.sqrt(self.square / (1.0 - rule.decay_square**self.steps)) + rule.epsilon
        change = rule.learning_rate * (self.mean / (1.0 - rule.decay_mean**self.steps)) / scale
        phi[moving] -= change[moving]


# The objective of a network is mean_k (KL_k - p_k log Q_k) with its pressures p_k held still:
#   ct_W_k = (dKL_k/dW_k - p_k dlog Q_k/dW_k) / n_codes,   ct_phi = sum_k J_k' vec(ct_W_k).
def slopes(models: Models, phi: Floats, now: Measured, pressures: Floats) -> Floats:
    """Slopes of every network's objective, (networks, n_parameters)."""
    ct_weights = (now.ct_kl - pressures[:, :, None, None] * now.ct_log_q) / now.kl.shape[1]
    return models.pull_back(phi, ct_weights)


def table_records(table: dict[str, Any], seed: int, m: int) -> list[Record]:
    """Steer the networks of one seed table and size; ``table`` is the plain dictionary of the design. One record."""
    design = override(SteeringDesign(), table)
    place: Record = {"seed": seed, "m": m, "split": design.split, "status": "ok", "halt": None}
    with one_blas_thread():
        try:
            return [place | steer(design, seed, m)]
        except NumericalError as error:
            return [place | {"status": "halted", "halt": {"check": type(error).__name__, "detail": str(error)}}]


def steer(design: SteeringDesign, seed: int, m: int) -> Record:
    """All trainings of one seed table and size: their final numbers, their curves, and what the judge's own code says of them."""
    base = replace(design.base, seed=seed)
    models, free = Models(base, m, design.split), train(base, m, design.split)
    everyone, ended = np.ones(1, dtype=bool), models.weights(free.checkpoint("final").phi[None])
    pressures = Pressures(design, models.measure(ended, everyone).log_q[0])
    phi = np.repeat(initial_parameters(base, m, design.split)[None], len(pressures.weights), axis=0)
    adam, curve, tail, stopped, last_step = Adam(base, phi), [], [], np.full(len(phi), -1), base.training.steps
    for step in range(last_step + 1):
        on_curve = step % design.trace_every == 0
        in_tail = step > last_step - design.tail_steps and (last_step - step) % design.tail_every == 0
        weights = models.weights(phi)
        now = models.measure(weights, (pressures.acting & (stopped < 0)) | on_curve | in_tail)
        stopped[(stopped < 0) & (now.log_q > design.run_away).any(axis=1)] = step
        numbers = [now.kl, now.log_q, np.log(now.signal), np.log(now.t_obs)]
        if on_curve:
            curve.append(numbers)
        if in_tail:
            tail.append(numbers)
        force = pressures.of(now)
        descent = slopes(models, phi, now, force)
        if not np.isfinite(descent).all():
            raise NumericalError(f"an objective stopped being finite at step {step}")
        if step == last_step:
            break
        adam.step(phi, descent, stopped < 0)
        if (step + 1) % design.lagrangian.every == 0:
            pressures.update(now)
    judged = steering_check.check(phi, weights, now, force, descent, models, directions(base, m, design.split))
    points, ends = np.array(curve), np.array(tail).mean(axis=0)  # (points, quantities, networks, codes), (quantities, networks, codes)
    means = points.mean(axis=3).transpose(2, 1, 0)
    early = slice(0, int(design.baseline_share * last_step) + 1, design.trace_every)
    registered = free.curve[early]
    return {
        "baseline_error": float(np.abs(points[: len(registered), 0, 0] / registered - 1).max()),
        "runs": [
            {"kind": one.kind, "number": one.number, "ran_away_at": None if stopped[n] < 0 else int(stopped[n])}
            | {name: values.tolist() for name, values in zip(NUMBERS, ends[:, n], strict=True)}
            | {"pressure": force[n].tolist()}
            | judged[n]
            | {"curve": _curve(design, means[n])}
            for n, one in enumerate(objectives(design))
        ],
    }


def _curve(design: SteeringDesign, means: Floats) -> Record:
    steps = np.arange(means.shape[1]) * design.trace_every
    return {"step": steps.tolist()} | {name: values.tolist() for name, values in zip(NUMBERS, means, strict=True)}
