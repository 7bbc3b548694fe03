"""The rules of P6: the bar at its thresholds and just beyond them, every gate, and the ways to HALT."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from thermokernels_app.judges.verdicts import p6_steering
from thermokernels_app.selftest.case import Case, Spoken

Record = dict[str, Any]
Change = Callable[[list[Record]], None]

HALT = "P6: HALT"
GATES = {"baseline_error": "baseline", "value_error": "value", "gradient_error": "gradient"}


def bar(m: int) -> str:
    """What the criterion of a size is called in a report."""
    return f"P6: share of seeds at m = {m}"


def gate_of(key: str) -> str:
    """What a gate of the records is called."""
    return f"P6: {key}"


def gates(design: Record) -> set[str]:
    """Every gate of P6."""
    return {HALT, *map(bar, design["sizes"]), *map(gate_of, GATES)}


def sound_cells(design: Record) -> list[Record]:
    """Half of the seeds, one of two, meet the bar exactly with the largest lambda; the others just miss it."""
    cells = []
    for seed in design["seeds"]:
        for m in design["sizes"]:
            runs = [
                {"kind": kind, "number": value, "kl": [1.0] * 4, "log_q": [0.0] * 4, "log_signal": [0.0] * 4, "log_t_obs_steps": [0.0] * 4}
                | {"value_error": 0.0, "gradient_error": 0.0}
                for numbers, kind in p6_steering.KINDS.items()
                for value in design[numbers]
            ]
            if seed % 2 == 0:
                runs[len(design["weights"]) - 1] |= {"log_q": [design["gain"]] * 4, "kl": [design["cost"]] * 4}
            cells.append(
                {"seed": seed, "m": m, "split": design["split"], "status": "ok", "halt": None, "baseline_error": 0.0, "runs": runs}
            )
    return cells


def judged(design: Record, change: Change) -> Spoken:
    """What P6 says of the sound cells after a change: criteria that are not met, HALT, and the gate that it names."""
    cells = sound_cells(design)
    change(cells)
    verdict = p6_steering.judge(design, cells)["P6"]
    spoken: Spoken = {}
    if verdict["verdict"] == "HALT":
        reason = str(verdict["reason"])
        spoken[HALT] = reason
        spoken |= {gate_of(key): reason for key in GATES if f"{key} " in reason and "is beyond its gate" in reason}
    for m, one in zip(design["sizes"], verdict["criteria"], strict=False):
        if not one["met"]:
            if verdict["verdict"] == "PASS":
                raise AssertionError(f"P6 is PASS though {one['name']} is not met")
            spoken[bar(m)] = f"{one['observed']!r} is not {one['operator']} {one['threshold']!r}"
    return spoken


def cases(design: Record) -> list[Case]:
    """For the thresholds of a design of the steering, as its plain dictionary."""
    design = {**design, "seeds": [0, 1, 2, 3]}
    best = len(design["weights"]) - 1

    def nothing(cells: list[Record]) -> None:
        return None

    def put(m: int, key: str, value: Any, cells: list[Record]) -> None:
        """The training that meets the bar at seed 0, with one number changed in all of its codes."""
        next(cell for cell in cells if (cell["seed"], cell["m"]) == (0, m))["runs"][best][key] = [value] * 4

    def only_floors(m: int, cells: list[Record]) -> None:
        """At seed 0 the floors meet the bar and no lambda does."""
        runs = next(cell for cell in cells if (cell["seed"], cell["m"]) == (0, m))["runs"]
        runs[-1] |= {"log_q": runs[best]["log_q"], "kl": runs[best]["kl"]}
        runs[best]["log_q"] = [0.0] * 4

    def free_alone(m: int, cells: list[Record]) -> None:
        """Without steering everything is as good: nothing was gained."""
        for cell in cells:
            if cell["m"] == m:
                p6_steering.free_run(cell)["log_q"][:] = [design["gain"]] * 4

    made = []
    for m in design["sizes"]:
        below, above = math.nextafter(design["gain"], -math.inf), math.nextafter(design["cost"], math.inf)
        changes = {
            "one seed of the half gains just less than the bar": partial(put, m, "log_q", below),
            "one seed of the half pays just more than the bar": partial(put, m, "kl", above),
            "one seed of the half meets the bar with a floor only": partial(only_floors, m),
            "lambda = 0 ends as high": partial(free_alone, m),
        }
        made += [
            Case(bar(m), f"m = {m}: {words}", partial(judged, design, nothing), partial(judged, design, c)) for words, c in changes.items()
        ]

    def error(key: str, value: float, cells: list[Record]) -> None:
        record = cells[-1] if key == "baseline_error" else cells[-1]["runs"][-1]
        record[key] = value

    for key, gate in GATES.items():
        limit = design["gates"][gate]
        sound, broken = (partial(judged, design, partial(error, key, value)) for value in (limit, math.nextafter(limit, math.inf)))
        made.append(Case(gate_of(key), f"{key} just beyond its gate", sound, broken))

    def lost(cells: list[Record]) -> None:
        cells.pop()

    def twice(cells: list[Record]) -> None:
        cells.append(copy.deepcopy(cells[0]))

    def halted(cells: list[Record]) -> None:
        cells[0] |= {"status": "halted", "halt": {"check": "UnresolvedError", "detail": "of no account"}}

    def without(cells: list[Record]) -> None:
        cells[0]["runs"].pop()

    def exchanged(cells: list[Record]) -> None:
        cells[0]["runs"][1]["number"] = 2.0

    def null(cells: list[Record]) -> None:
        cells[0]["runs"][1]["log_q"][2] = None

    def short(cells: list[Record]) -> None:
        cells[0]["runs"][1]["kl"].pop()

    ways = {
        "a record is missing": lost,
        "a record is there twice": twice,
        "a record halted": halted,
        "a training is missing": without,
        "a training of another lambda": exchanged,
        "a log Q is null": null,
        "the KL of a code is missing": short,
    }
    made += [Case(HALT, words, partial(judged, design, nothing), partial(judged, design, change)) for words, change in ways.items()]
    return made
