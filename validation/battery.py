"""Claim: the battery of P3 holds on every model of the registered grid, and says so where a model is broken.

    python validation/battery.py [--grid default] [--split S]

Networks are trained as the run trains them; every cell (size, split, checkpoint, code) is then measured and examined: detailed balance, row
sums, stationarity, the three symmetries, agreement of the judge's own chain with the kernels, residuals of solves and hitting times, and
Cheeger's bound. A row is a check: the worst value over all cells and its gate. The last rows break one model at a time, and the check that
is there for it has to speak.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from itertools import product

import numpy as np
from claims import Row, conclude

import thermokernels as tk
from thermokernels_app.experiment import cell
from thermokernels_app.experiment.design import Design, load_design
from thermokernels_app.judges import battery
from thermokernels_app.judges.verdicts import GATES


def of_grid(design: Design) -> list[Row]:
    """The worst value of every check over all cells."""
    gates = dataclasses.asdict(design.thresholds)
    worst: dict[str, float] = {}
    cells = halted = 0
    with cell.one_blas_thread():
        for m, split in product(design.grid.m, design.grid.split):
            _, _, training = cell.train(design, m, split)
            for name, code in product(design.grid.checkpoints, design.grid.codes):
                record, _ = cell.cell(design, training, name, code)
                cells, halted = cells + 1, halted + (record["status"] != "ok")
                for key, operator, _ in GATES:
                    value = record["battery"].get(key)
                    if value is not None:
                        worst[key] = (min if operator == ">=" else max)(worst.get(key, value), value)
    rows = [Row("cells", f"{cells} measured, {halted} halted", halted == 0)]
    for key, operator, threshold in GATES:
        gate = -gates[threshold] if operator == ">=" else gates[threshold]
        value = worst.get(key)
        met = None if value is None else value >= gate if operator == ">=" else value <= gate
        rows.append(Row(key, "no cell needed it" if value is None else f"{value:.3g} {operator} {gate:g}", met))
    return rows


def of_broken_models() -> list[Row]:
    """Another law, other rates and a gap above Cheeger's bound: each has to be noticed."""
    W = np.random.default_rng(8).normal(size=(3, 3))
    chain, moved = tk.gibbs_chain(W), tk.Model(W * (1 + 1e-9))
    bent_law = chain.law * (1 + 1e-9 * np.arange(chain.n_states))
    broken = {
        "a law off by 1e-9": battery.examine(dataclasses.replace(chain, law=bent_law / bent_law.sum()), solver_residual=0.0),
        "couplings off by 1e-9": battery.examine(dataclasses.replace(chain, model=moved), solver_residual=0.0),
        "a residual of 1e-9": battery.examine(chain, solver_residual=1e-9),
        "a gap of three conductances": battery.examine(chain, solver_residual=0.0, gap=0.3, conductances=[0.1]),
    }
    sound = battery.examine(chain, solver_residual=0.0).first_failure
    rows = [Row("a sound model", "nothing speaks" if sound is None else str(sound), sound is None)]
    for words, examined in broken.items():
        failure = examined.first_failure
        rows.append(Row(words, "unnoticed" if failure is None else str(failure), failure is not None))
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", default="default")
    parser.add_argument("--split", type=int, action="append", help="only these splits of the grid")
    options = parser.parse_args(arguments)
    design = load_design(options.grid)
    if options.split:
        design = dataclasses.replace(design, grid=dataclasses.replace(design.grid, split=tuple(options.split)))
    return conclude(of_grid(design) + of_broken_models())


if __name__ == "__main__":
    sys.exit(main())
