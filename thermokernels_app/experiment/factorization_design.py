"""The design of the question that the source left open: does Q_struct say what a window of samples delivers? Everything fixed beforehand.

The cells are those of the registered grid; every one is asked with every window, burn-in and start. The thresholds of the assumptions were
written down before any run.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from thermokernels_app.experiment.design import Design, load_design
from thermokernels_app.experiment.records import store

Start = Literal["stationary", "uniform", "data", "state", "previous"]


@dataclass(frozen=True)
class Assumptions:
    """What an assumption needs to hold; times in sweeps where nothing is said."""

    reversibility: float = 1e-10
    """A2: max |pi_x P_xy - pi_y P_yx| is at most this."""
    least_eigenvalue: float = -1e-12
    """A3: no eigenvalue below this; and the gap is above ``resolved_gap``."""
    resolved_gap: float = 1e-12
    """A3, per step."""
    burn_in: float = 5.0
    """A5: B gamma_eff is at least this, or the start is the stationary law."""
    window: float = 50.0
    """A6: K is at least this many tau of the slowest observable."""
    bulk_gap: float = 0.05
    """A7: the gap per sweep of what the observables see outside of the cluster is at least this."""
    spreads: tuple[float, ...] = (2.0, 5.0)
    """A8: the cluster is the same with these in place of 3."""
    symmetry: float = 1e-10
    """A9: law and kernel differ by at most this between x and -x."""
    window_error: tuple[float, float] = (0.9, 1.1)
    """F1: E|ghat - g|^2 over V / K lies within."""
    other_scan: tuple[float, float] = (1 / 3, 3.0)
    """F3: the same over that of the alternating scan for as many spin updates."""
    positive_phase: float = 0.1
    """F4: variance of the positive phase over the error of the negative one is at most this."""


@dataclass(frozen=True)
class FactorizationDesign:
    """The whole design of ``--grid factorization``.

    Examples
    --------
    >>> design = FactorizationDesign()
    >>> design.n_cells, len(design.windows) * len(design.burn_ins) * len(design.starts)
    (192, 75)
    """

    base: Design = field(default_factory=Design)
    """Networks, teachers, training and the grid of cells."""
    windows: tuple[int, ...] = (1, 10, 100, 1000, 10000)
    """K in sweeps."""
    burn_ins: tuple[float, ...] = (0.0, 1.0, 5.0)
    """B in relaxation times of the relevant gap, rounded up to whole sweeps."""
    starts: tuple[Start, ...] = ("stationary", "uniform", "data", "state", "previous")
    """pi; fair coins; data with h given v; all spins +1; pi of the checkpoint before (fair coins before the first)."""
    n_data: int = 10_000
    """Draws of the positive phase in F4; everywhere else it is exact."""
    assumptions: Assumptions = field(default_factory=Assumptions)
    agreement: float = 1.1
    """Q_op has to lie within this factor of Q_limit wherever A2 to A9 hold."""
    miss: float = 3.0
    """Q_op misses Q_struct where they differ by more than this factor."""
    named_share: float = 0.95
    """Of the misses at least this share has to be named by an assumption among A2 to A9 that fails."""

    @property
    def n_cells(self) -> int:
        return self.base.n_cells

    def as_dict(self) -> dict[str, Any]:
        """The design as plain JSON types; tuples become lists."""
        return dict(json.loads(json.dumps(asdict(self), allow_nan=False)))

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON."""
        return store.digest(self.as_dict())


def load_factorization(grid: str, seed: int | None = None) -> FactorizationDesign:
    """The design that ``factorization`` or ``factorization-smoke`` stands for, with another seed where one is given."""
    base = load_design("default" if grid == "factorization" else "smoke", seed=seed)
    if grid == "factorization-smoke":
        base = replace(base, grid=replace(base.grid, split=(2,), codes=(1, 2)))
    return FactorizationDesign(base=base)
