"""The design of the question whether the gradient of Q steers a training: objectives, optimiser, bar and gates, all fixed beforehand.

Every seed table has teachers and a start of its own, those that the registered run of that seed has. From that start the network is trained
with the registered Adam and number of steps on

    mean_k [ KL_k + lambda (-log Q_k) ]           for every lambda, lambda = 0 among them,
    mean_k KL_k  subject to  log Q_k >= floor_k   for every floor,

k over all codes, Q_k with the registered window, by exact gradients. What is judged are means over the codes and the last steps. The
constants of the Lagrangian, of the means and of a training that ran away were set on seed tables from 1000 on, which no verdict looks at.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from thermokernels_app.experiment.design import Design, load_design
from thermokernels_app.experiment.records import store


@dataclass(frozen=True)
class Lagrangian:
    """The augmented Lagrangian of the floors. Its multipliers are in units of |g|^2: dKL/dW is g itself and d log |g|^2 about g / |g|^2, so
    that a multiplier of the order of one holds a floor however near the data a model is."""

    stiffness: float = 1.0
    """rho: the pressure on log Q_k is |g_k|^2 max(0, mu_k + rho (floor_k - log Q_k))."""
    every: int = 50
    """Steps between two updates of mu_k to max(0, mu_k + rho (floor_k - log Q_k)), from mu = 0."""
    most: float = 3.0
    """No mu_k becomes larger, so that what is far from its floor for long is not pressed beyond it later."""


@dataclass(frozen=True)
class Gates:
    """Relative errors above which a record is no basis of a verdict. A network that reproduces its data has a g of 1e-4 and less, which
    float64 knows to about ten digits: the gates leave room for that and are far below what the bar asks about."""

    value: float = 1e-6
    """Q of every final model against the dense reference."""
    gradient: float = 1e-5
    """Slopes of every final objective along the fixed directions of the gradient check, against complex steps of the dense reference."""
    baseline: float = 1e-6
    """KL of every code with lambda = 0 against the registered training, on the points of the curve in its first part: later on Adam divides
    by slopes so small that it carries the last bits of its arithmetic everywhere."""


@dataclass(frozen=True)
class SteeringDesign:
    """The whole design of ``--grid steering``.

    Examples
    --------
    >>> design = SteeringDesign()
    >>> design.n_runs, round(math.exp(design.gain), 12), design.cost
    (1600, 1.5, 1.1)
    """

    base: Design = field(default_factory=Design)
    """Networks, teachers, optimiser, number of steps and window; its seed and grid are not used."""
    seeds: tuple[int, ...] = tuple(range(100))
    """Seed tables."""
    sizes: tuple[int, ...] = (4, 5)
    """m: visible spins, and as many hidden ones."""
    split: int = 2
    """s."""
    weights: tuple[float, ...] = (0.0, 0.01, 0.1, 0.3, 1.0, 3.0)
    """lambda."""
    relative_floors: tuple[float, ...] = (1.5,)
    """Floors on Q_k as multiples of what the registered training ends with."""
    absolute_floors: tuple[float, ...] = (1.0,)
    """Floors on Q_k themselves."""
    lagrangian: Lagrangian = field(default_factory=Lagrangian)
    tail_steps: int = 200
    """Numbers of a training are means over the codes and over its last steps, so many,"""
    tail_every: int = 10
    """looked at so often: Adam's last steps are restless, and one of them is no result."""
    gain: float = math.log(1.5)
    """The bar: the mean of log Q is higher by at least this than with lambda = 0,"""
    cost: float = 1.1
    """at a mean KL that is at most this many times as large, for one lambda > 0."""
    share: float = 0.5
    """At every size at least this share of the seeds has to meet the bar."""
    run_away: float = 15.0
    """-log Q has no minimum: a model that freezes on one pair of states has no noise left. A training with a log Q_k above this is left as
    it is from then on, and judged like every other."""
    trace_every: int = 50
    """Steps between two points of a curve."""
    baseline_share: float = 0.25
    """The first part of the training, in which that with lambda = 0 has to be the registered one."""
    gates: Gates = field(default_factory=Gates)

    @property
    def n_runs(self) -> int:
        """Trainings of the whole design."""
        objectives = len(self.weights) + len(self.relative_floors) + len(self.absolute_floors)
        return len(self.seeds) * len(self.sizes) * objectives

    def as_dict(self) -> dict[str, Any]:
        """The design as plain JSON types; tuples become lists."""
        return dict(json.loads(json.dumps(asdict(self), allow_nan=False)))

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON."""
        return store.digest(self.as_dict())


def load_steering(grid: str, seeds: list[int] | None = None) -> SteeringDesign:
    """The design that ``steering`` or ``steering-smoke`` stands for, on other seed tables where some are given.

    Examples
    --------
    >>> load_steering("steering", [3, 4]).seeds, load_steering("steering-smoke").sizes
    ((3, 4), (4,))
    """
    design = SteeringDesign()
    if grid == "steering-smoke":
        base = load_design("smoke")
        short = replace(base, training=replace(base.training, steps=100))
        design = SteeringDesign(short, seeds=(0, 1), sizes=(4,), weights=(0.0, 0.1), tail_steps=20, trace_every=20)
    return design if seeds is None else replace(design, seeds=tuple(seeds))
