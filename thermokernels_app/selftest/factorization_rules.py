"""The rules of P5: every assumption at its threshold and just beyond it, both criteria, and the ways to HALT."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

from thermokernels_app.judges.verdicts import p5_factorization
from thermokernels_app.selftest.case import Case, Spoken

Record = dict[str, Any]
Change = Callable[[list[Record]], None]

AGREES, NAMED, HALT = "P5: (a) Q_op against Q_limit", "P5: (b) misses named", "P5: HALT"

# A small design with the thresholds of the registered one.
PLACES: Record = {"grid": {"m": [4], "split": [2], "checkpoints": ["final"], "codes": [1, 2]}}


def assumption(name: str) -> str:
    """What an assumption is called in a report."""
    return f"P5: assumption {name}"


def gates() -> set[str]:
    """Every gate of P5."""
    return {AGREES, NAMED, HALT, *map(assumption, (*p5_factorization.BEFOREHAND, *p5_factorization.AFTERWARDS))}


def sound_cells(design: Record) -> list[Record]:
    """Two cells in which everything holds and Q_op, Q_limit and Q_struct agree."""
    windows = [
        {"start": start, "burn_in_times": times, "window_sweeps": window, "q_op": 1.0, "q_struct": 1.0, "q_limit": 1.0}
        | {"A5": 9.0, "A6": 90.0, "F1": 1.0, "F3": 1.0, "F4": 0.0}
        for start, times, window in product(design["starts"], design["burn_ins"], design["windows"])
    ]
    numbers = {"A2": 0.0, "A3": 0.0, "A3_gap": 0.1, "A7": 0.5, "A8": 0, "A9": 0.0}
    place = {"m": 4, "split": 2, "checkpoint": "final", "status": "ok", "halt": None}
    return [{**place, "code": code, **numbers, "windows": copy.deepcopy(windows)} for code in (1, 2)]


def judged(design: Record, change: Change) -> Spoken:
    """What P5 says of the sound cells after a change: criteria that are not met, HALT, and the assumptions that fail in some window."""
    cells = sound_cells(design)
    change(cells)
    verdict = p5_factorization.judge(design, cells)["P5"]
    spoken: Spoken = {}
    if verdict["verdict"] == "HALT":
        spoken[HALT] = verdict["reason"]
    for gate, one in zip((AGREES, NAMED), verdict["criteria"], strict=False):
        if not one["met"]:
            if verdict["verdict"] == "PASS":
                raise AssertionError(f"P5 is PASS though {one['name']} is not met")
            spoken[gate] = f"{one['observed']!r} is not {one['operator']} {one['threshold']!r}"
    for name, count in verdict["reported"].get("misses_blamed_on", {}).items():
        if count:
            spoken[assumption(name)] = f"blamed for {count} misses"
    for name, count in verdict["reported"].get("windows_that_fail_afterwards", {}).items():
        if count:
            spoken[assumption(name)] = f"fails in {count} windows"
    return spoken


def cases(design: Record) -> list[Case]:
    """For the thresholds of a design of the factorization, as its plain dictionary."""
    design = {**design, "base": PLACES, "starts": ["stationary", "data"], "burn_ins": [5.0], "windows": [100]}
    limits = design["assumptions"]

    def missed(cells: list[Record]) -> Record:
        """A window from the data that misses Q_struct: whatever fails in it is to blame."""
        window: Record = next(one for one in cells[0]["windows"] if one["start"] == "data")
        window |= {"q_struct": 5.0 * design["miss"]}
        return window

    def of_cell(key: str, value: Any, cells: list[Record]) -> None:
        missed(cells)
        cells[0][key] = value

    def of_window(key: str, value: Any, cells: list[Record]) -> None:
        missed(cells)[key] = value

    def pair(name: str, put: Callable[..., None], key: str, limit: float, wrong: float) -> Case:
        sound, broken = (partial(judged, design, partial(put, key, value)) for value in (limit, wrong))
        return Case(assumption(name), f"{key} just beyond its threshold", sound, broken)

    def above(limit: float) -> float:
        return math.nextafter(limit, math.inf)

    def below(limit: float) -> float:
        return math.nextafter(limit, -math.inf)

    made = [
        pair("A2", of_cell, "A2", limits["reversibility"], above(limits["reversibility"])),
        pair("A3", of_cell, "A3", limits["least_eigenvalue"], below(limits["least_eigenvalue"])),
        pair("A3", of_cell, "A3_gap", above(limits["resolved_gap"]), limits["resolved_gap"]),
        pair("A5", of_window, "A5", limits["burn_in"], below(limits["burn_in"])),
        pair("A6", of_window, "A6", limits["window"], below(limits["window"])),
        pair("A7", of_cell, "A7", limits["bulk_gap"], below(limits["bulk_gap"])),
        pair("A8", of_cell, "A8", 0, 1),
        pair("A9", of_cell, "A9", limits["symmetry"], above(limits["symmetry"])),
        pair("F1", of_window, "F1", limits["window_error"][1], above(limits["window_error"][1])),
        pair("F1", of_window, "F1", limits["window_error"][0], below(limits["window_error"][0])),
        pair("F3", of_window, "F3", limits["other_scan"][1], above(limits["other_scan"][1])),
        pair("F3", of_window, "F3", limits["other_scan"][0], below(limits["other_scan"][0])),
        pair("F4", of_window, "F4", limits["positive_phase"], above(limits["positive_phase"])),
    ]

    def off_limit(ratio: float, cells: list[Record]) -> None:
        cells[1]["windows"][0]["q_op"] = ratio

    sound, broken = (partial(judged, design, partial(off_limit, ratio)) for ratio in (1.0999 * design["agreement"] / 1.1, 1.2))
    made.append(Case(AGREES, "Q_op a fifth above Q_limit in one window where all holds", sound, broken))

    def unnamed(name_it: bool, cells: list[Record]) -> None:
        window = missed(cells)
        if name_it:
            window["A6"] = 0.0

    sound, broken = (partial(judged, design, partial(unnamed, name_it)) for name_it in (True, False))
    made.append(Case(NAMED, "a miss of Q_struct in a window where all holds", sound, broken))

    def nothing(cells: list[Record]) -> None:
        return None

    def lost(cells: list[Record]) -> None:
        cells.pop()

    def halted(cells: list[Record]) -> None:
        cells[0] |= {"status": "halted", "halt": {"check": "UnresolvedError", "detail": "of no account"}}

    def without(cells: list[Record]) -> None:
        cells[0]["windows"].pop()

    def null(cells: list[Record]) -> None:
        cells[0]["windows"][0]["q_op"] = None

    def none_holds(cells: list[Record]) -> None:
        for cell in cells:
            cell["A8"] = 1

    ways = {
        "a cell is missing": lost,
        "a cell halted": halted,
        "a window is missing": without,
        "a Q_op is null": null,
        "no window in which all holds": none_holds,
    }
    made += [Case(HALT, words, partial(judged, design, nothing), partial(judged, design, change)) for words, change in ways.items()]
    return made
