"""P5: does Q_struct say what a sampler delivers? Where its assumptions hold, and are its misses named by one that fails?

An assumption is judged from its number in the record and the thresholds of the design alone. A2 to A9 are known before a window is run; F1,
F3 and F4 look at what it delivered: they are reported, and no window is excused by them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from thermokernels_app.judges.records import MissingNumberError, number
from thermokernels_app.judges.verdicts.criteria import Verdict, span

Record = Mapping[str, Any]
Test = Callable[[Record, Record, Record], bool]

STATEMENT = (
    "The factorisation (G2): Q_op is Q_limit wherever the assumptions A2 to A9 hold, and where Q_op misses Q_struct, one of them that "
    "fails had said so."
)


def _within(value: float, limits: Sequence[float]) -> bool:
    return limits[0] <= value <= limits[1]


def _bulk(cell: Record, limits: Record) -> bool:
    """Nothing outside of the cluster is no slow bulk."""
    if cell.get("A7") is None and cell.get("A7_reason"):
        return True
    return bool(number(cell, "A7", "cell") >= limits["bulk_gap"])


# Name, and whether it holds for (cell, window, thresholds).
BEFOREHAND: dict[str, Test] = {
    "A2": lambda cell, window, limits: number(cell, "A2", "cell") <= limits["reversibility"],
    "A3": lambda cell, window, limits: (
        number(cell, "A3", "cell") >= limits["least_eigenvalue"] and number(cell, "A3_gap", "cell") > limits["resolved_gap"]
    ),
    "A5": lambda cell, window, limits: window.get("start") == "stationary" or number(window, "A5", "window") >= limits["burn_in"],
    "A6": lambda cell, window, limits: number(window, "A6", "window") >= limits["window"],
    "A7": lambda cell, window, limits: _bulk(cell, limits),
    "A8": lambda cell, window, limits: number(cell, "A8", "cell") == 0,
    "A9": lambda cell, window, limits: number(cell, "A9", "cell") <= limits["symmetry"],
}
AFTERWARDS: dict[str, Test] = {
    "F1": lambda cell, window, limits: _within(number(window, "F1", "window"), limits["window_error"]),
    "F3": lambda cell, window, limits: _within(number(window, "F3", "window"), limits["other_scan"]),
    "F4": lambda cell, window, limits: number(window, "F4", "window") <= limits["positive_phase"],
}


class FactorizationRecords:
    """The cells of a run by their place, every one with all of its windows."""

    def __init__(self, design: Record, cells: Sequence[Record]) -> None:
        self.design, self.cells, self.empty = design, cells, not cells

    def windows(self) -> Iterator[tuple[Record, Record]]:
        """(cell, window) of the whole grid; MissingNumberError for a cell that is missing, halted or not complete."""
        grid = self.design["base"]["grid"]
        expected = [(m, s, name, code) for m in grid["m"] for s in grid["split"] for name in grid["checkpoints"] for code in grid["codes"]]
        known: dict[tuple[Any, ...], list[Record]] = {}
        for cell in self.cells:
            known.setdefault(tuple(cell.get(key) for key in ("m", "split", "checkpoint", "code")), []).append(cell)
        wanted = sorted(product(*(self.design[name] for name in ("starts", "burn_ins", "windows"))))
        for place in expected:
            where = "cell m={}, s={}, {}, code {}".format(*place)
            found = known.get(place, [])
            if len(found) != 1:
                raise MissingNumberError(f"{where}: {'no record' if not found else f'{len(found)} records'}")
            if found[0].get("status") != "ok":
                halt = found[0].get("halt") or {}
                raise MissingNumberError(f"{where}: halted at {halt.get('check', 'an unnamed check')}: {halt.get('detail', 'no detail')}")
            windows = found[0].get("windows") or []
            if sorted((one["start"], one["burn_in_times"], one["window_sweeps"]) for one in windows) != wanted:
                raise MissingNumberError(f"{where}: its windows are not those of the design")
            for one in windows:
                yield found[0], one


def rule(verdict: Verdict, records: FactorizationRecords) -> None:
    design, limits = records.design, records.design["assumptions"]
    ratios, misses, unnamed, n_windows, n_cells = [], 0, 0, 0, 0
    blamed, lucky, without, afterwards = dict.fromkeys(BEFOREHAND, 0), 0, 0, dict.fromkeys(AFTERWARDS, 0)
    last: Record | None = None
    for cell, window in records.windows():
        n_windows, n_cells, last = n_windows + 1, n_cells + (cell is not last), cell
        failing = [name for name, holds in BEFOREHAND.items() if not holds(cell, window, limits)]
        q_op, q_struct, q_limit = (number(window, name, "window") for name in ("q_op", "q_struct", "q_limit"))
        missed = abs(math.log(q_op / q_struct)) > math.log(design["miss"])
        if not failing:
            ratios.append(q_op / q_limit)
        if missed:
            misses += 1
            unnamed += not failing
            for name in failing:
                blamed[name] += 1
        elif failing:
            lucky += 1
            without += {"A5", "A6", "A7", "A8"} <= set(failing)
        for name, holds in AFTERWARDS.items():
            afterwards[name] += not holds(cell, window, limits)
    verdict.basis = {"cells": n_cells, "windows": n_windows, "windows_with_all_assumptions": len(ratios), "misses": misses}
    if not ratios:
        raise MissingNumberError("the assumptions A2 to A9 hold in no window, so that nothing is claimed that could be judged")
    worst = max(math.exp(abs(math.log(ratio))) for ratio in ratios)
    verdict.require("(a) largest factor between Q_op and Q_limit where A2 to A9 hold", "<=", design["agreement"], worst, "factor")
    named = 1.0 - unnamed / misses if misses else 1.0
    verdict.require("(b) share of the misses of Q_struct that a failing assumption names", ">=", design["named_share"], named, "share")
    verdict.reported |= {
        "q_op_over_q_limit_where_all_hold": span(ratios),
        "misses_of_q_struct": misses,
        "misses_unnamed": unnamed,
        "misses_blamed_on": blamed,
        "near_q_struct_though_one_fails": lucky,
        "near_q_struct_though_none_of_A5_to_A8_holds": without,
        "windows_that_fail_afterwards": afterwards,
    }


def judge(design: Record, cells: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """``{"P5": verdict}`` from the plain records, as :func:`thermokernels_app.judges.verdicts.judge` gives the others."""
    return {"P5": Verdict(STATEMENT).run(rule, FactorizationRecords(design, cells))}
