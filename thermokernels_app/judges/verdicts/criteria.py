"""One verdict while its rule adds criteria and reported numbers to it; every criterion says what it is held against."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from thermokernels_app.judges.records import MissingNumberError, entry

Record = Mapping[str, Any]


def log_ratio(value: float, threshold: float) -> float:
    """ln(value / threshold), its sign exactly that of value - threshold; -inf for a value of zero or less."""
    if value == threshold:
        return 0.0
    if value <= 0.0:
        return -math.inf
    if threshold <= 0.0:
        return math.inf
    ratio = math.log(value / threshold)
    return ratio if ratio else math.copysign(math.ulp(1.0), value - threshold)


class SomeRecords(Protocol):
    """What is judged: at least, whether there is anything to judge."""

    empty: bool


Records = TypeVar("Records", bound=SomeRecords)


class Verdict:
    """A verdict while its rule adds criteria and reported numbers to it."""

    def __init__(self, statement: str):
        self.statement = statement
        self.basis: dict[str, int] = {}
        self.criteria: list[dict[str, Any]] = []
        self.reported: dict[str, Any] = {}

    def run(self, rule: Callable[[Verdict, Records], None], records: Records) -> dict[str, Any]:
        reason = None
        try:
            if records.empty:
                raise MissingNumberError("there are no cells")
            rule(self, records)
        except MissingNumberError as error:
            reason = str(error)
        met = bool(self.criteria) and all(criterion["met"] for criterion in self.criteria)
        return {
            "verdict": "HALT" if reason else "PASS" if met else "FAIL",
            "statement": self.statement,
            "basis": self.basis,
            "criteria": self.criteria,
            "reported": self.reported,
            "reason": reason,
        }

    def require(
        self, name: str, operator: str, threshold: float, observed: float, unit: str, margin: float | None = None, scale: str = "log"
    ) -> None:
        """Add a criterion; its margin is derived from the two numbers unless given, and ``scale`` then says what it is."""
        if margin is None:
            scale = "log"
            sign = -1.0 if operator == "<=" else 1.0
            if operator == "==":
                margin, scale = 0.0 - abs(observed - threshold), "difference"
            elif observed > 0.0 and threshold > 0.0:
                margin = sign * log_ratio(observed, threshold)
            else:
                margin, scale = sign * (observed - threshold), "difference"
        self.criteria.append(
            {"name": name, "operator": operator, "threshold": threshold, "observed": observed, "unit": unit}
            | entry("margin", margin)
            | {"margin_scale": scale, "met": met(operator, observed, threshold)}
        )

    def report(self, key: str, value: float | None, reason: str = "not finite") -> None:
        self.reported |= entry(key, value, reason)


def met(operator: str, observed: float, threshold: float) -> bool:
    if operator == "<=":
        return observed <= threshold
    if operator == ">=":
        return observed >= threshold
    return observed > threshold if operator == ">" else observed == threshold


def span(values: Sequence[float]) -> list[float] | None:
    return [min(values), max(values)] if values else None
