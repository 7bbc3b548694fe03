"""A number of the diagnosis where there is one, and else the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from thermokernels.common.errors import ConstantError, ModelTooLargeError, NumericalError
from thermokernels.diagnosis.result import Number

NOT_MADE = "not made for the alternating kernel"


def number(unit: str, compute: Callable[[], tuple[float, float | None, str]]) -> Number:
    """What ``compute`` returns (value, bound, words), or why there is nothing."""
    try:
        value, error, certainty = compute()
    except (NumericalError, ModelTooLargeError, np.linalg.LinAlgError) as problem:
        return Number(None, unit, None, reason_of(problem))
    if not np.isfinite(value):
        return Number(None, unit, None, f"not resolved: it came out as {value!r}")
    if error is not None and not np.isfinite(error):
        return Number(value, unit, None, "no bound: it overflows float64")
    return Number(value, unit, error, certainty)


def reason_of(problem: Exception) -> str:
    kind = "not defined: " if isinstance(problem, ConstantError) else "not resolved: "
    return kind + str(problem).removesuffix("; scale the couplings down")


def none(unit: str, reason: str) -> Number:
    return Number(None, unit, None, reason)
