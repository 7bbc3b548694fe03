"""P3: every check of every cell made and met, verify or halt."""

from __future__ import annotations

from contextlib import suppress

from thermokernels_app.judges.records import MissingNumberError, number
from thermokernels_app.judges.verdicts.criteria import Verdict, met
from thermokernels_app.judges.verdicts.grid_records import GridRecords, battery_gates, place_of


def rule(verdict: Verdict, records: GridRecords) -> None:
    verdict.basis = {"cells": len(records.keys)}
    worst: dict[str, tuple[str, float, float]] = {}
    where: dict[str, str] = {}
    fallbacks = solves = cuts = 0
    cluster_errors: list[float] = []
    for key in records.keys:
        cell = records.cell(key)
        for name, operator, threshold, observed in battery_gates(cell, records.thresholds, place_of(key)):
            better = worst.get(name)
            if better is None or (observed < better[2] if operator == ">=" else observed > better[2]):
                worst[name], where[name] = (operator, threshold, observed), place_of(key)
        fallbacks += cell["battery"].get("fallback") is not None
        solves += int(number(cell, "battery.hitting_solves", place_of(key)))
        cuts += int(number(cell, "battery.cuts", place_of(key)))
        with suppress(MissingNumberError):
            cluster_errors.append(number(cell, "spectrum.gamma_eff_error", place_of(key)))
    units = {"hitting_residual": "relative", "solver_residual": "relative", "cheeger_margin": "per step"}
    for name, (operator, threshold, observed) in worst.items():
        extreme = "least" if operator == ">=" else "max"
        verdict.require(f"{extreme} {name}", operator, threshold, observed, units.get(name, "absolute"))
    verdict.reported |= {"fallbacks": fallbacks, "hitting_solves": solves, "cuts": cuts, "worst_cells": where}
    verdict.report("max_gamma_eff_error", max(cluster_errors, default=None), "not recorded")
    verdict.reported["cells_with_gamma_eff_above_1e-8"] = sum(error > 1e-8 for error in cluster_errors)
    for name, (operator, threshold, observed) in worst.items():
        if not met(operator, observed, threshold):  # a failed check is no answer: verify or halt
            raise MissingNumberError(f"{where[name]}: {name} is {observed:.3g}, which is not {operator} {threshold:.3g}")
