"""The preregistered design: every constant, threshold, seed and stop rule of the run in one frozen object with a hash.

The default values below are the registered ones. A grid is a whole design: ``default``, ``smoke``, or a TOML file that overrides
named keys of the default. :mod:`.freeze` fixes a design in a file before its run.
"""

from __future__ import annotations

import json
import math
import reprlib
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from thermokernels.common import thresholds
from thermokernels_app.experiment.keys import flat, override
from thermokernels_app.experiment.records import store

CheckpointName = Literal["init", "half", "tenth", "final"]
CHECKPOINTS: tuple[CheckpointName, ...] = get_args(CheckpointName)


@dataclass(frozen=True)
class Grid:
    """The cells that are computed: every combination of the four."""

    m: tuple[int, ...] = (4, 5, 6)
    """Visible spins, and as many hidden ones."""
    split: tuple[int, ...] = (1, 2, 3, 4)
    """s: where the budget is split between the network and the energy model."""
    checkpoints: tuple[CheckpointName, ...] = CHECKPOINTS
    codes: tuple[int, ...] = (1, 2, 3, 4)
    """Teachers; training always sees all of ``teacher.codes``."""


@dataclass(frozen=True)
class Basis:
    """The cells of the grid that the verdict on P2 rests on."""

    split: tuple[int, ...] = (2, 3)
    checkpoints: tuple[CheckpointName, ...] = ("half", "tenth", "final")


@dataclass(frozen=True)
class Anchor:
    """Where the gradient gate P1(c) is judged."""

    m: int = 4
    split: int = 2
    checkpoint: CheckpointName = "half"


@dataclass(frozen=True)
class Teacher:
    """Planted models: code k has k pattern pairs at inverse temperature beta."""

    codes: int = 4
    beta: float = 3.0


@dataclass(frozen=True)
class Network:
    """The hypernetwork: rank r = budget - s, width d = width_per_split * s, and the variances of its initial values."""

    budget: int = 5
    width_per_split: int = 4
    variance_layer: float = 0.25
    """Of C; c0 starts at zero."""
    variance_slope: float = 0.25
    """Of H_A and H_B, divided by d."""
    variance_offset: float = 0.25
    """Of a0 and b0."""


@dataclass(frozen=True)
class Training:
    """Full-batch Adam on the mean divergence over the codes, and the levels (nats) that define two of the checkpoints."""

    steps: int = 2000
    learning_rate: float = 0.003
    decay_mean: float = 0.9
    decay_square: float = 0.999
    epsilon: float = 1e-8
    half: float = 0.5
    tenth: float = 0.1


@dataclass(frozen=True)
class Polish:
    """Limits of the L-BFGS run of P4; its gradient tolerance is ``thresholds.gradient_norm``."""

    iterations: int = 20000
    history: int = 20
    """Pairs of steps and gradient changes that L-BFGS remembers."""


@dataclass(frozen=True)
class Thresholds:
    """Gates of the verdicts and of the battery; the comment names the unit where there is one."""

    coupling_distance: float = 1e-6
    value: float = 1e-10
    difference: float = 1e-4
    complex: float = 1e-10
    mass: float = thresholds.MASS
    barrier: float = math.log(2.0)
    passage_sweeps: float = thresholds.PASSAGE_SWEEPS
    overlap: float = thresholds.RELEVANCE
    overlap_rider: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    reversibility: float = 1e-10
    row_sum: float = 1e-12
    stationarity: float = 1e-12
    symmetry: float = 1e-10
    agreement: float = 1e-12
    """Judge against kernel: law, spins, P F and conductances."""
    cheeger: float = 1e-10
    solve: float = 1e-10
    hitting: float = 1e-8
    rank: float = 1e-10
    """Singular values of J_u below this share of the largest count as zero."""
    final_kl: float = 0.5
    """Nats; a code above it after training is tested for stationarity."""
    gradient_norm: float = 1e-6
    """Nats per unit of phi; the L-BFGS run has to get below it."""


@dataclass(frozen=True)
class Multiway:
    """The multiway rider: every order up to this multiplicity of a saddle, above it so many seeded random orders."""

    exhaustive: int = 6
    orders: int = 720


@dataclass(frozen=True)
class Design:
    """The whole preregistered design; the default object is the registered one.

    Examples
    --------
    >>> design = Design()
    >>> design.n_cells, design.digest() == load_design("default").digest(), design.digest() == load_design("default", seed=1).digest()
    (192, True, False)
    """

    seed: int = 0
    grid: Grid = field(default_factory=Grid)
    basis: Basis = field(default_factory=Basis)
    anchor: Anchor = field(default_factory=Anchor)
    teacher: Teacher = field(default_factory=Teacher)
    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)
    polish: Polish = field(default_factory=Polish)
    thresholds: Thresholds = field(default_factory=Thresholds)
    multiway: Multiway = field(default_factory=Multiway)
    window_sweeps: float = 100.0
    """K of Q; a sweep is N steps."""
    directions: int = 5
    """Fixed unit directions in phi of the gradient check."""
    steps: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
    """h of the central differences."""
    cap_seconds: float = 10800.0
    projection_share: float = 0.5
    """Share of the cells after which the total time is projected and PROCEED or STOP decided."""

    def __post_init__(self) -> None:
        _check_ranges(self)

    @property
    def n_cells(self) -> int:
        """Cells of the grid."""
        return len(self.grid.m) * len(self.grid.split) * len(self.grid.checkpoints) * len(self.grid.codes)

    def rank(self, split: int) -> int:
        """r, columns of the two factors of W."""
        return self.network.budget - split

    def width(self, split: int) -> int:
        """d, size of the network's hidden layer."""
        return self.network.width_per_split * split

    def as_dict(self) -> dict[str, Any]:
        """The design as plain JSON types; tuples become lists."""
        return dict(json.loads(json.dumps(asdict(self), allow_nan=False)))

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON: sorted keys, no blanks, floats as the shortest text that reads back the same."""
        return store.digest(self.as_dict())


def load_design(grid: str | Path = "default", seed: int | None = None, cap: float | None = None, beside: tuple[str, ...] = ()) -> Design:
    """The design that a grid's name or file stands for.

    Parameters
    ----------
    grid : str or Path
        ``default``, ``smoke``, or the path of a TOML file with keys of the design; what it does not name is as registered.
    seed : int, optional
        Replaces the design's seed.
    cap : float, optional
        Replaces the design's cap on the wall clock, in seconds.
    beside : tuple of str
        Names that the caller knows itself, for the sentence about one that nobody knows.

    Raises
    ------
    ValueError
        Neither a known name nor a readable file; unknown keys, wrong types or values.

    Examples
    --------
    >>> load_design("smoke", seed=3).grid.m
    (4,)
    """
    design = GRIDS.get(str(grid)) or _read_toml(Path(grid), beside)
    table: dict[str, Any] = {}
    if seed is not None:
        table["seed"] = seed
    if cap is not None:
        table["cap_seconds"] = cap
    return override(design, table)


def _read_toml(path: Path, beside: tuple[str, ...]) -> Design:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(map(repr, (*GRIDS, *beside)))
        raise ValueError(f"grid must be one of {known} or a readable TOML file; {str(path)!r} is not: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # ValueError: of tomllib, of the decoder, and of integers of 5000 digits
        raise ValueError(f"the grid file {path} is not TOML: {error}") from None
    try:
        return override(Design(), table)
    except ValueError as error:
        raise ValueError(f"the grid file {path}: {error}") from None


def _check_ranges(design: Design) -> None:
    """ValueError for a value that the experiment cannot mean; every number is positive unless the table says more."""
    # A teacher of k patterns needs m >= k for their rank; so does a factor of r = budget - s columns for that of W.
    least_m = max(design.teacher.codes, design.network.budget - max(1, min(design.grid.split)))
    allowed: dict[str, tuple[float, float]] = {
        "seed": (0, 2**32 - 1),  # one word of the seed sequence
        "grid.m": (least_m, 8),  # the checks look at all 2^(2m) states
        "anchor.m": (least_m, 6),  # the dense reference factorises a matrix of that size
        "directions": (1, 1000),
        "training.steps": (1, 10**6),
        "polish.iterations": (1, 10**6),
        "multiway.exhaustive": (2, 8),
        "multiway.orders": (1, 10**5),
        "cap_seconds": (math.ulp(0.0), 366 * 86400.0),
        "grid.split": (1, design.network.budget - 1),
        "grid.codes": (1, design.teacher.codes),
        "basis.split": (1, design.network.budget - 1),
        "anchor.split": (1, design.network.budget - 1),
        "training.decay_mean": (0, math.nextafter(1, 0)),
        "training.decay_square": (0, math.nextafter(1, 0)),
        "projection_share": (0, 1),
        "thresholds.mass": (0, 0.5),
        "thresholds.overlap": (0, 1),
        "thresholds.overlap_rider": (0, 1),
    }
    for key, value in flat(asdict(design)).items():
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, str):
                continue
            if key not in allowed and number <= 0:
                raise ValueError(f"{key} must be positive; got {reprlib.repr(number)}")
            if key in allowed and not allowed[key][0] <= number <= allowed[key][1]:
                low, high = allowed[key]
                raise ValueError(f"{key} must lie in {low}..{high}; got {reprlib.repr(number)}")


# The smoke grid keeps every rule of the registered design on its smallest part that has basis cells and the anchor: 32 cells.
GRIDS: dict[str, Design] = {"default": Design(), "smoke": Design(grid=Grid(m=(4,), split=(2, 3)))}
