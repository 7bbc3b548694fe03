"""The verdicts P1 to P4: a pure function of the design and the records, so that a reader can judge again from results.json alone.

PASS and FAIL need every number that the verdict rests on. A cell that is missing, that halted, or whose own record misses a gate of
the battery, and a number that is missing, null or not finite, makes every verdict that depends on it HALT: never FAIL, never PASS.
Only P3, whose subject these gates are, calls a complete record that misses one a FAIL.

Every criterion carries ``operator``, ``threshold``, ``observed``, ``unit``, ``met`` and a signed ``margin``, positive where it is met:
on ``margin_scale`` "log" it is ln(observed / threshold) or its negative, on "difference" the difference in the criterion's unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from thermokernels_app.judges.verdicts import p1_gradient_gate, p2_crossable_basins, p3_battery, p4_split_response
from thermokernels_app.judges.verdicts.criteria import Record, Verdict
from thermokernels_app.judges.verdicts.grid_records import GridRecords

RULES: dict[str, tuple[str, Callable[[Verdict, GridRecords], None]]] = {
    "P1": ("The gate G1b is constructed. This is a statement about the construction and no empirical validation.", p1_gradient_gate.rule),
    "P2": (
        "Crossable multimodality exists (R3): a cell of the basis has a qualifying merge event, and both riders are clean.",
        p2_crossable_basins.rule,
    ),
    "P3": ("The battery is verifiable (R4): every check was made and met in every cell, verify or halt.", p3_battery.rule),
    "P4": (
        "Response along the split axis. Descriptive: PASS means that everything was measured, that rank(J_u) = r(2m - r) everywhere, and "
        "that every code whose final KL stays above its limit was classified as stationary or undertrained; it asserts no more.",
        p4_split_response.rule,
    ),
}


def judge(
    design: Record, cells: Sequence[Record], checkpoints: Sequence[Record], stationarity: Sequence[Record]
) -> dict[str, dict[str, Any]]:
    """The four verdicts of a run from its plain records; ``design`` is the design's plain dictionary.

    Returns ``{"P1": V, ...}`` with V = {"verdict": "PASS" | "FAIL" | "HALT", "statement", "basis", "criteria", "reported", "reason"};
    ``reason`` is the sentence that says why a verdict is HALT, else None.
    """
    records = GridRecords(design, cells, checkpoints, stationarity)
    return {name: Verdict(statement).run(rule, records) for name, (statement, rule) in RULES.items()}
