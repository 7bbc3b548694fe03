"""The run of the factorization: a network is one task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from thermokernels_app.experiment.factorization_design import FactorizationDesign
from thermokernels_app.experiment.records.store import Record
from thermokernels_app.experiment.running.question import Place, Question
from thermokernels_app.judges.verdicts import p5_factorization


class Factorization(Question):
    """P5 over the networks of the grid, the largest first."""

    name, verdict, parts = "factorization", "P5", "networks"

    def places(self, design: FactorizationDesign) -> list[Place]:
        return [(m, split) for m in sorted(design.base.grid.m, reverse=True) for split in design.base.grid.split]

    def part(self, place: Place) -> str:
        return "network-m{}-s{}".format(*place)

    def task(self) -> Callable[..., list[Record]]:
        from thermokernels_app.experiment import factorization_cell

        return factorization_cell.network_records

    def judge(self, design: Record, cells: Sequence[Record]) -> dict[str, dict[str, Any]]:
        return p5_factorization.judge(design, cells)


QUESTION = Factorization()


def summary(document: Record) -> list[dict[str, Any]]:
    """A row a window and burn-in: the range of Q_op / Q_limit and of Q_op / Q_struct over all cells and starts, and how often all holds."""
    limits = document["design"]["assumptions"]
    rows = []
    for window in document["design"]["windows"]:
        for times in document["design"]["burn_ins"]:
            chosen = [
                (cell, one)
                for cell in document["cells"]
                for one in cell.get("windows", ())
                if (one["window_sweeps"], one["burn_in_times"]) == (window, times)
            ]
            ratios = sorted(math.log(one["q_op"] / one["q_limit"]) for _, one in chosen)
            structural = sorted(math.log(one["q_op"] / one["q_struct"]) for _, one in chosen)
            held = sum(all(holds(cell, one, limits) for holds in p5_factorization.BEFOREHAND.values()) for cell, one in chosen)
            rows.append(
                {
                    "window_sweeps": window,
                    "burn_in_times": times,
                    "windows": len(chosen),
                    "held": held,
                    "q_op_over_q_limit": [math.exp(ratios[0]), math.exp(ratios[len(ratios) // 2]), math.exp(ratios[-1])],
                    "q_op_over_q_struct": [math.exp(structural[0]), math.exp(structural[len(structural) // 2]), math.exp(structural[-1])],
                }
            )
    return rows
