"""The rules of the verdicts: every criterion of P1 to P4 flipped by a number just beyond its threshold, and every way to HALT taken.

The sound side of a case has the same number exactly at its threshold (for a strict inequality: just beyond it on the right side).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from thermokernels_app.judges import verdicts
from thermokernels_app.selftest.case import Case, Spoken
from thermokernels_app.selftest.sound_records import Record, Records, event

Design = Mapping[str, Any]
Change = Callable[[Records], None]


def criterion(verdict: str, name: str) -> str:
    """What a criterion is called in a report."""
    return f"{verdict}: {name}"


def filter_of(key: str) -> str:
    """What a filter of P2 is called in a report."""
    return f"P2: filter {key}"


def needed(path: str) -> str:
    """What the demand for a number in every cell is called in a report."""
    return f"every verdict: a cell without {path} is HALT"


def halt(verdict: str) -> str:
    """What a verdict that cannot be given is called in a report."""
    return f"{verdict}: HALT"


def judged(design: Design, change: Change = lambda records: None) -> Spoken:
    """Judge sound records after a change: every criterion that is not met, and every verdict that is HALT with its reason."""
    records = Records(copy.deepcopy(design))
    change(records)
    spoken: Spoken = {}
    for name, verdict in verdicts.judge(records.design, records.cells, records.checkpoints, records.stationarity).items():
        for one in verdict["criteria"]:
            if not one["met"]:
                if verdict["verdict"] == "PASS":
                    raise AssertionError(f"{name} is PASS though {one['name']} is not met")
                spoken[criterion(name, one["name"])] = f"{one['observed']!r} is not {one['operator']} {one['threshold']!r}"
        if verdict["verdict"] == "HALT":
            spoken[halt(name)] = verdict["reason"]
    return spoken


def _beyond(threshold: float, operator: str) -> float:
    """The next number on the wrong side."""
    return math.nextafter(threshold, math.inf if operator == "<=" else -math.inf)


def cases(design: Design) -> list[Case]:
    """Every criterion, filter, gate and needed number of the verdicts, for the thresholds of a design on a small part of its grid."""
    grid, anchor = design["grid"], design["anchor"]
    small = {
        "m": [anchor["m"]],
        "split": sorted({anchor["split"], max(grid["split"])}),
        "checkpoints": [anchor["checkpoint"], "final"],
        "codes": grid["codes"][:2],
    }
    design = {**design, "grid": small}
    made = [*_p1(design), *_filters(design), *_p2(design), *_gates(design), *_p4(design)]
    for path in verdicts.COMPUTED_EVERYWHERE:
        part, key = path.split(".")
        sound, broken = (partial(_halts_on, design, path, value, part, key) for value in (1.0, None))
        made.append(Case(needed(path), f"{path} is null", sound, broken))
    for name, words, change in _ways_to_halt():
        made.append(Case(halt(name), words, partial(judged, design), partial(judged, design, change)))
    return made


def _pair(design: Design, gate: str, words: str, put: Callable[[Records, Any], None], sound: Any, broken: Any) -> Case:
    def with_value(value: Any) -> Change:
        return lambda records: put(records, value)

    return Case(gate, words, partial(judged, design, with_value(sound)), partial(judged, design, with_value(broken)))


def _p1(design: Design) -> list[Case]:
    thresholds = design["thresholds"]

    def put_cell(key: str) -> Callable[[Records, Any], None]:
        return lambda records, value: records.cells[-1]["network"].update({key: value})

    def distance(records: Records, value: float) -> None:
        next(row for row in records.checkpoints if row["checkpoint"] == "final")["min_coupling_distance"] = value

    def value_error(records: Records, value: float) -> None:
        records.anchor["value_error"] = value

    def direction(index: int, key: str) -> Callable[[Records, Any], None]:
        return lambda records, value: records.anchor["directions"][index].update({key: value})

    least = thresholds["coupling_distance"]
    name = "(a) entries of the grid with J_u finite"
    made = [_pair(design, criterion("P1", name), "one Jacobian that is not finite", put_cell("jacobian_finite"), True, False)]
    name = "(a) min |J_u|_F"
    made.append(_pair(design, criterion("P1", name), "one Jacobian that is zero", put_cell("jacobian_norm"), math.ulp(0.0), 0.0))
    name = "(b) min |W(u) - W(u')|_F at the final checkpoints"
    made.append(_pair(design, criterion("P1", name), "two couplings at the threshold", distance, math.nextafter(least, 1.0), least))
    name, limit = "(c) kernel value against the dense reference at the anchor", thresholds["value"]
    made.append(_pair(design, criterion("P1", name), "just beyond", value_error, limit, _beyond(limit, "<=")))
    for index in range(design["directions"]):
        limit = thresholds["difference"]
        name = f"(c) adjoint against central differences at the anchor, direction {index + 1}"
        made.append(_pair(design, criterion("P1", name), "just beyond", direction(index, "difference_error"), limit, _beyond(limit, "<=")))
        limit, words = thresholds["complex"], f"just beyond along direction {index + 1}"
        name = "(c) adjoint against the complex step at the anchor, all directions"
        made.append(_pair(design, criterion("P1", name), words, direction(index, "complex_error"), limit, _beyond(limit, "<=")))
    return made


def _only(design: Design, *events: Record, **landscape: Any) -> Change:
    """The basis with these events in one cell and none elsewhere."""

    def change(records: Records) -> None:
        for cell in records.basis:
            cell["landscape"] |= {"events": []}
        records.basis[0]["landscape"] |= {"events": list(events), **landscape}

    return change


def _filters(design: Design) -> list[Case]:
    """An event at the limit of one filter qualifies and the next number beyond it does not, which turns P2."""
    count = criterion("P2", "cells of the basis with N_qual >= 1")
    made = []
    for key, threshold, sign in verdicts.FILTERS:
        limit = design["thresholds"][threshold]

        def check(value: float, key: str = key) -> Spoken:
            spoken = judged(design, _only(design, event(design, **{key: value})))
            return spoken | ({filter_of(key): spoken[count]} if count in spoken else {})

        operator = ">=" if sign > 0 else "<="
        words = f"the only event just beyond {threshold}"
        made.append(Case(filter_of(key), words, partial(check, limit), partial(check, _beyond(limit, operator))))
    return made


def _p2(design: Design) -> list[Case]:
    sound = event(design)
    count, overlap, multiway = (
        criterion("P2", name)
        for name in (
            "cells of the basis with N_qual >= 1",
            "overlap rider: cells of the basis whose N_qual changes",
            "multiway rider: cells of the basis whose N_qual changes",
        )
    )
    made = [Case(count, "no event at all", partial(judged, design, _only(design, sound)), partial(judged, design, _only(design)))]
    primary, riders = design["thresholds"]["overlap"], design["thresholds"]["overlap_rider"]
    for limit in riders:
        # Above the primary overlap an event has to qualify at the rider's, too; below it none may qualify at the rider's alone.
        inside = limit if limit > primary else _beyond(min(riders), ">=")
        outside = limit if limit < primary else _beyond(limit, ">=")
        sides = (partial(judged, design, _only(design, sound, event(design, relevance=value))) for value in (inside, outside))
        made.append(Case(overlap, f"an event that qualifies on one side of {limit} only", *sides))
    shallow = event(design, barrier=_beyond(design["thresholds"]["barrier"], ">="))
    orders = ([[sound], [shallow, sound]], [[sound], [shallow]])
    sides = (partial(judged, design, _only(design, sound, multiway_saddles=1, orderings=order)) for order in orders)
    return [*made, Case(multiway, "an order of a multiway saddle in which the event does not qualify", *sides)]


def _gates(design: Design) -> list[Case]:
    made = []
    for name, operator, key in verdicts.GATES:
        limit = design["thresholds"][key] * (-1.0 if operator == ">=" else 1.0)
        gate = criterion("P3", f"{'least' if operator == '>=' else 'max'} {name}")

        def put(records: Records, value: float, name: str = name) -> None:
            records.cells[-1]["battery"][name] = value

        made.append(_pair(design, gate, "just beyond in one cell", put, limit, _beyond(limit, operator)))
    return made


def _p4(design: Design) -> list[Case]:
    limit = design["thresholds"]["final_kl"]

    def rank(records: Records, value: int) -> None:
        records.cells[0]["network"]["rank"] = value

    def kl(records: Records, value: float) -> None:
        final = (cell for cell in records.cells if cell["checkpoint"] == "final" and cell["training"]["kl"] < limit)
        next(final)["training"]["kl"] = value

    name = f"codes with final KL > {limit:g} nats left unclassified"
    return [
        _pair(design, criterion("P4", "cells whose rank(J_u) is not r(2m - r)"), "one rank too low", rank, 4, 3),
        _pair(design, criterion("P4", name), "a code just above the limit that was not tested", kl, limit, _beyond(limit, "<=")),
    ]


def _halts_on(design: Design, path: str, value: float | None, part: str, key: str) -> Spoken:
    spoken = judged(design, lambda records: records.cells[-1][part].update({key: value}))
    reason = spoken.get(halt("P3"), "")
    return {needed(path): reason} if f"{path} is missing" in reason else {}


def _ways_to_halt() -> list[tuple[str, str, Change]]:
    """(verdict, what is wrong, change) of everything that makes a verdict impossible."""

    def drop(attribute: str) -> Change:
        return lambda records: getattr(records, attribute).pop()

    def double(records: Records) -> None:
        records.cells.append(records.cells[0])

    def stop(records: Records) -> None:
        records.cells[0] |= {"status": "halted", "halt": {"check": "reversibility", "detail": "it is 0.1"}}

    def nothing(records: Records) -> None:
        records.cells.clear()

    def cell(part: str, key: str, value: Any, where: str = "cells") -> Change:
        return lambda records: getattr(records, where)[0][part].update({key: value})

    def anchor(**changes: Any) -> Change:
        return lambda records: records.anchor.update(changes)

    def design(part: str, key: str, value: Any) -> Change:
        return lambda records: records.design[part].update({key: value})

    def of_event(key: str) -> Change:
        return lambda records: records.basis[0]["landscape"]["events"][0].update({key: None})

    def contradict(records: Records) -> None:
        records.stationarity[0]["stationary"] = False

    return [
        ("P3", "no cells", nothing),
        ("P3", "a cell that is not there", drop("cells")),
        ("P3", "a cell that is there twice", double),
        ("P3", "a cell that halted", stop),
        ("P1", "a checkpoint that is not there", drop("checkpoints")),
        ("P4", "a test for stationarity that is not there", drop("stationarity")),
        ("P4", "a test for stationarity whose numbers contradict its answer", contradict),
        ("P1", "no word on whether a Jacobian is finite", cell("network", "jacobian_finite", None)),
        ("P1", "an anchor outside the grid", design("anchor", "m", 99)),
        ("P1", "a grid without final checkpoints", design("grid", "checkpoints", ["half"])),
        ("P1", "an anchor checked against its own solution", anchor(value_reference="frozen")),
        ("P1", "an anchor checked along no direction", anchor(directions=[])),
        ("P2", "a grid without a cell of the basis", design("basis", "split", [99])),
        ("P2", "a cell without a list of merge events", cell("landscape", "events", None, "basis")),
        ("P2", "a multiway saddle without its other orders", cell("landscape", "multiway_saddles", 1, "basis")),
        ("P2", "an event without the passage time that decides", of_event("passage_out_sweeps")),
        ("P4", "a cell whose own battery misses a gate", cell("battery", "reversibility", 1.0)),
    ]
