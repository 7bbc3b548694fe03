"""Claim: which constant of the network would have to differ for the published figures to be those of a common seed table.

The first publication of the experiment gives ranges and counts, but not the random tables and constants of its network behind them. Each
setting here changes one constant of ours, and the figures that follow from training alone, and the qualifying events of the smallest
models, are computed over seed tables from FIRST_SEED on, which no verdict looks at. A figure is *within reach* of a setting where the
published one lies between the least and the largest over the seeds. Judged: that everything is finite, and that a setting which changes
nothing gives the same figures; what is within reach of what is reported.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from claims import Row, conclude

import adjoints
import thermokernels as tk
from thermokernels.model.hypernetwork import couplings
from thermokernels_app.experiment import cell
from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.training import code_vector, train
from thermokernels_app.judges.verdicts.qualification import n_qual

FIRST_SEED = 3000
REGISTERED = "registered"

# Where each constant goes: a quarter and four times a variance is half and twice a standard deviation.
SETTINGS: dict[str, dict[str, dict[str, float]]] = {
    REGISTERED: {},
    "variance of C / 4": {"network": {"variance_layer": 0.0625}},
    "variance of C x 4": {"network": {"variance_layer": 1.0}},
    "variance of H / 4": {"network": {"variance_slope": 0.0625}},
    "variance of H x 4": {"network": {"variance_slope": 1.0}},
    "variance of a0, b0 / 4": {"network": {"variance_offset": 0.0625}},
    "variance of a0, b0 x 4": {"network": {"variance_offset": 1.0}},
    "learning rate / 3": {"training": {"learning_rate": 0.001}},
    "learning rate x 3": {"training": {"learning_rate": 0.009}},
}

PUBLISHED = {"min |J_u|_F": 1.58, "min |W(u) - W(u')|_F": 2.66, "largest final KL": 2.63, "cells at m = 4 with N_qual >= 1": 0.0}


@dataclass(frozen=True)
class Figures:
    """What one seed table gives; in the order of PUBLISHED."""

    least_jacobian: float
    least_distance: float
    largest_kl: float
    small_cells: float

    def values(self) -> tuple[float, ...]:
        return self.least_jacobian, self.least_distance, self.largest_kl, self.small_cells


def changed(design: Design, setting: dict[str, dict[str, float]]) -> Design:
    """The design with the constants of a setting."""
    return replace(design, **{section: replace(getattr(design, section), **constants) for section, constants in setting.items()})


def figures(design: Design, with_events: bool = True) -> Figures:
    """The figures of the whole grid of one design."""
    jacobians, distances, divergences, qualifying = [], [], [], 0
    for m in design.grid.m:
        for split in design.grid.split:
            training = train(design, m, split)
            codes = [code_vector(design, code) for code in design.grid.codes]
            for name in design.grid.checkpoints:
                network = training.network(name)
                jacobians += [float(np.linalg.norm(adjoints.couplings_jacobian(network, code))) for code in codes]
                if name == "final":
                    emitted = [couplings(network, code) for code in codes]
                    distances += [float(np.linalg.norm(one - other)) for k, one in enumerate(emitted) for other in emitted[:k]]
                if with_events and m == 4:
                    qualifying += sum(qualifies(design, training, name, code) for code in design.grid.codes)
            divergences += training.checkpoint("final").kl.tolist()
    return Figures(min(jacobians), min(distances), max(divergences), float(qualifying))


def qualifies(design: Design, training: object, name: str, code: int) -> bool:
    """Whether a cell has a qualifying merge event."""
    record, _ = cell.cell(design, training, name, code)  # type: ignore[arg-type]
    return record["status"] == "ok" and n_qual(record["landscape"]["events"], design.as_dict()["thresholds"]) > 0


def reach(found: Sequence[Figures]) -> list[tuple[float, float, float, bool]]:
    """Least, median and largest of every figure, and whether the published one lies between."""
    rows = []
    for values, published in zip(zip(*(one.values() for one in found), strict=True), PUBLISHED.values(), strict=True):
        rows.append((min(values), statistics.median(values), max(values), min(values) <= published <= max(values)))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8, help="seed tables of every setting")
    parser.add_argument("--no-events", action="store_true", help="leave the events of the small models out")
    options = parser.parse_args()
    tk.set_threads(1)
    print(f"{options.seeds} seed tables a setting: least, median, largest; * the published figure lies between\n")
    print(f"{'':24}" + "".join(f"{name:>34}" for name in PUBLISHED))
    print(f"{'published':24}" + "".join(f"{value:>32g}  " for value in PUBLISHED.values()))
    ranges = {}
    for name, setting in SETTINGS.items():
        designs = [changed(replace(Design(), seed=FIRST_SEED + k), setting) for k in range(options.seeds)]
        ranges[name] = reach([figures(design, not options.no_events) for design in designs])
        cells = (f"{low:.3g}  {middle:.3g}  {high:.3g} {'*' if inside else ' '}" for low, middle, high, inside in ranges[name])
        print(f"{name:24}" + "".join(f"{text:>34}" for text in cells), flush=True)
    print()
    numbers = np.array([row[:3] for rows in ranges.values() for row in rows])
    missed = [figure for figure, row in zip(PUBLISHED, ranges[REGISTERED], strict=True) if not row[3]]
    same = figures(replace(Design(), seed=FIRST_SEED), False) == figures(
        changed(replace(Design(), seed=FIRST_SEED), {"network": {}}), False
    )
    rows = [
        Row("every figure is finite", f"{np.isfinite(numbers).sum()} of {numbers.size}", bool(np.isfinite(numbers).all())),
        Row("a setting that changes nothing gives the same figures", f"{same}", same),
        Row("out of reach of the registered constants", ", ".join(missed) or "none", None),
    ]
    for figure, one in zip(PUBLISHED, range(len(PUBLISHED)), strict=True):
        helped = [name for name, row in ranges.items() if row[one][3] and name != REGISTERED]
        rows.append(Row(f"{figure}: within reach with", ", ".join(helped) or "none", None))
    return conclude(rows)


if __name__ == "__main__":
    sys.exit(main())
