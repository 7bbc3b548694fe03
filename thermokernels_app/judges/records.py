"""How numbers stand in the records: a finite number, or null with ``<key>_reason`` beside it; and how a judge reads them back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class MissingNumberError(LookupError):
    """A number that a verdict depends on is absent, null or not finite; the message says which and where."""


def entry(key: str, value: float | None, reason: str = "not finite") -> dict[str, Any]:
    """``{key: value}``, or ``{key: None, key_reason: reason}`` where the value is None or not finite (JSON has no NaN)."""
    if value is not None and math.isfinite(value):
        return {key: float(value)}
    return {key: None, f"{key}_reason": reason if value is None else f"not finite ({value})"}


def number(record: Mapping[str, Any], path: str, where: str) -> float:
    """The finite number at the dotted ``path`` of a record, or MissingNumberError that names it and the reason given for it."""
    *parents, key = path.split(".")
    node: Any = record
    for parent in parents:
        node = node.get(parent) if isinstance(node, Mapping) else None
    value = node.get(key) if isinstance(node, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        reason = node.get(f"{key}_reason") if isinstance(node, Mapping) else None
        what = "missing" if value is None else f"no finite number ({value!r})"
        raise MissingNumberError(f"{where}: {path} is {what}" + (f" ({reason})" if reason else ""))
    return float(value)
