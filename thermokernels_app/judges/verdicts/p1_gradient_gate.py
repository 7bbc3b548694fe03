"""P1: the gate of the construction: Jacobians finite, codes told apart, hand-derived gradients right."""

from __future__ import annotations

from thermokernels_app.judges.records import MissingNumberError, number
from thermokernels_app.judges.verdicts.criteria import Record, Verdict
from thermokernels_app.judges.verdicts.grid_records import GridRecords, Key, place_of

# Beyond its gate, the adjoint's error against central differences is to stay below this wherever conditioning allows it.
DIFFERENCE_GOAL = 1e-6


def rule(verdict: Verdict, records: GridRecords) -> None:
    design, thresholds = records.design, records.thresholds
    finals, anchor = records.finals(), tuple(design["anchor"][name] for name in ("m", "split", "checkpoint"))
    verdict.basis = {"cells": len(records.keys), "checkpoints": len(finals) + 1}

    finite, norms = 0, []
    for key in records.keys:
        cell = records.sound_cell(key)
        if not isinstance(flag := (cell.get("network") or {}).get("jacobian_finite"), bool):
            raise MissingNumberError(f"{place_of(key)}: network.jacobian_finite is missing")
        finite += flag
        if flag:  # the norm of a Jacobian that is not finite says no more than that
            norms.append(number(cell, "network.jacobian_norm", place_of(key)))
    verdict.require("(a) entries of the grid with J_u finite", "==", len(records.keys), finite, "cells")
    if norms:
        verdict.require("(a) min |J_u|_F", ">", 0.0, min(norms), "couplings per unit of phi")

    distances = [number(records.checkpoint(place), "min_coupling_distance", place_of(place)) for place in finals]
    name = "(b) min |W(u) - W(u')|_F at the final checkpoints"
    verdict.require(name, ">", thresholds["coupling_distance"], min(distances), "couplings")

    if anchor not in records.places:
        raise MissingNumberError(f"the grid does not hold the anchor, {place_of(anchor)}")
    value, complexes = _gradient_errors(records.checkpoint(anchor), anchor, design["directions"])
    if (source := records.checkpoint(anchor)["gradient_check"].get("value_reference")) != "dense":
        raise MissingNumberError(f"{place_of(anchor)}: the gradient check is against {source!r} and not against the dense reference")
    rows = records.checkpoint(anchor)["gradient_check"]["directions"]
    differences = [number(row, "difference_error", f"{place_of(anchor)}: gradient check") for row in rows]
    verdict.require("(c) kernel value against the dense reference at the anchor", "<=", thresholds["value"], value, "relative")
    for index, difference in enumerate(differences):
        name = f"(c) adjoint against central differences at the anchor, direction {index + 1}"
        verdict.require(name, "<=", thresholds["difference"], difference, "relative")
    name = "(c) adjoint against the complex step at the anchor, all directions"
    verdict.require(name, "<=", thresholds["complex"], max(complexes), "relative")
    _report_checkpoints(verdict, records)


def _gradient_errors(record: Record, place: Key, n_directions: int) -> tuple[float, list[float]]:
    """Error of the value, and of every direction's adjoint against the complex step."""
    check, where = record.get("gradient_check") or {}, f"{place_of(place)}: gradient check"
    rows = check.get("directions") or []
    if len(rows) != n_directions:
        raise MissingNumberError(f"{where}: {len(rows)} of {n_directions} directions")
    return number(check, "value_error", where), [number(row, "complex_error", where) for row in rows]


def _report_checkpoints(verdict: Verdict, records: GridRecords) -> None:
    """(c) at every checkpoint that was checked; nothing here decides."""
    thresholds = records.thresholds
    values, complexes, differences, automatics = [], [], [], []
    within = explained = unexplained = 0
    for place in records.places:
        record = records.checkpoint(place)
        if record.get("gradient_check") is None:
            continue
        value, complex_errors = _gradient_errors(record, place, records.design["directions"])
        rows = record["gradient_check"]["directions"]
        measured = [row for row in rows if row.get("difference_error") is not None]
        values.append(value)
        complexes += complex_errors
        differences += [row["difference_error"] for row in measured]
        automatics += [row["automatic_error"] for row in rows if row.get("automatic_error") is not None]
        for row in measured:
            if row["difference_error"] > DIFFERENCE_GOAL:
                explained += bool(row.get("difference_note"))
                unexplained += not row.get("difference_note")
        within += (
            value <= thresholds["value"]
            and max(complex_errors) <= thresholds["complex"]
            and all(row["difference_error"] <= thresholds["difference"] for row in measured)
        )
    verdict.reported |= {
        "checkpoints": len(records.places),
        "checkpoints_checked": len(values),
        "checkpoints_within_gates": within,
        "directions_against_central_differences": len(differences),
        "differences_above_goal_explained": explained,
        "differences_above_goal_unexplained": unexplained,
    }
    for key, errors in (("value", values), ("complex", complexes), ("difference", differences), ("automatic", automatics)):
        verdict.report(f"max_{key}_error", max(errors, default=None), "nothing was checked")
