"""What every result can do: show its certain digits, and become plain data for JSON, a pandas table, or a table in notebooks."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from importlib import import_module
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from thermokernels.common.digits import certified
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import NumericalError

# Digits of a number that is computed exactly but for rounding, without a proven bound of it.
UNPROVEN = 3
# Of a standard error: the digits of an estimate down to a tenth of it are shown.
CERTAIN_SHARE = 0.01


@dataclass(frozen=True)
class Line:
    """A number of a result, and where what is known of its error stands; one of the last four at most.

    Attributes
    ----------
    key : its name in plain data, with the unit at its end where it has one: "t_obs_steps"
    attribute : where it stands, dots allowed
    unit : "steps", "per sweep", ...
    bound, relative_bound, standard_error, interval : attributes of the error; the first two are proven, an interval has two ends
    """

    key: str
    attribute: str
    unit: str = ""
    bound: str = ""
    relative_bound: str = ""
    standard_error: str = ""
    interval: str = ""

    @property
    def name(self) -> str:
        """The key without its unit."""
        return self.key.removesuffix(self._suffix)

    @property
    def _suffix(self) -> str:
        return f"_{self.unit.replace(' ', '_')}" if self.unit else ""

    def error_key(self, what: str) -> str:
        """``t_obs_bound_steps`` of ``t_obs_steps``; the unit stands at the end of both or of neither."""
        return f"{self.name}_{what}{self._suffix if self.key.endswith(self._suffix) else ''}"


@dataclass(frozen=True)
class Reading:
    """A line as it stands in a result: the value, its error or None, and why there is none."""

    line: Line
    value: float
    error: float | None = None
    interval: tuple[float, float] | None = None
    reason: str = ""

    @property
    def digits(self) -> str:
        """The value with its certain digits."""
        if self.error is None or not math.isfinite(self.error):
            return certified(self.value, None, UNPROVEN)
        return certified(self.value, self.error * (CERTAIN_SHARE if self.line.standard_error else 1.0))

    @property
    def certainty(self) -> str:
        """What is known of the error, in words."""
        if self.interval is not None:
            low, high = (certified(end, None, UNPROVEN) for end in self.interval)
            return f"{low} to {high}"
        if self.error is None or not math.isfinite(self.error):
            return self.reason or "no bound"
        return f"standard error {self.error:.2g}" if self.line.standard_error else f"error at most {self.error:.1g}"

    def as_dict(self) -> dict[str, Any]:
        """The value under its key, and its error beside it."""
        line, found = self.line, {self.line.key: plain(self.value)}
        if line.bound or line.relative_bound:
            found[line.error_key("bound")] = plain(self.error)
            if self.reason:
                found[f"{line.name}_bound_reason"] = self.reason
        elif line.standard_error:
            found[line.error_key("standard_error")] = plain(self.error)
        elif line.interval:
            found["interval" if line.key == "value" else line.error_key("interval")] = plain(self.interval)
        return found


class Result:
    """A result of the library. Subclasses say which numbers they have (``_lines``) and what else belongs in plain data (``_facts``)."""

    _lines: ClassVar[tuple[Line, ...]] = ()
    _facts: ClassVar[tuple[str, ...]] = ()

    @default_error_state
    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data for JSON; a number that is not finite, or not there, is None, arrays are nested lists."""
        found: dict[str, Any] = {}
        for reading in self._readings():
            found |= reading.as_dict()
        return found | {name: plain(getattr(self, name)) for name in self._facts}

    @default_error_state
    def to_frame(self) -> Any:
        """The result as a pandas DataFrame.

        Raises
        ------
        ModuleNotFoundError
            pandas is not installed.
        """
        columns, index = self._columns()
        return required("pandas", "a table").DataFrame(columns).set_index(index)

    def _readings(self) -> list[Reading]:
        return [_read(self, line) for line in self._lines]

    def _known(self) -> list[Reading]:
        """The numbers that are there."""
        return [reading for reading in self._readings() if not math.isnan(reading.value)]

    def _columns(self) -> tuple[dict[str, Any], str | list[str]]:
        """The columns of the table, and which of them are its index: of single numbers, a row each."""
        readings = self._readings()
        ends = [(math.nan, math.nan) if reading.interval is None else reading.interval for reading in readings]
        return {
            "quantity": [reading.line.name for reading in readings],
            "value": [reading.value for reading in readings],
            "unit": [reading.line.unit for reading in readings],
            "error": [math.nan if reading.error is None else reading.error for reading in readings],
            "low": [low for low, _ in ends],
            "high": [high for _, high in ends],
        }, "quantity"

    @default_error_state
    def __repr__(self) -> str:
        parts = [f"{reading.line.name} {reading.digits} {reading.line.unit}".strip() for reading in self._known()]
        return f"{type(self).__name__}({', '.join(parts)})"

    @default_error_state
    def _repr_html_(self) -> str:
        rows = [(reading.line.name, reading.digits, reading.line.unit, reading.certainty) for reading in self._known()]
        if not rows:
            return f"<p>{escape(repr(self))}</p>"
        return f"<p>{escape(type(self).__name__)}</p>{html_table(('quantity', 'value', 'unit', 'how exact'), rows)}"


def _read(result: Any, line: Line) -> Reading:
    value = float(attrgetter(line.attribute)(result))
    try:
        if line.interval:
            low, high = attrgetter(line.interval)(result)
            return Reading(line, value, interval=(float(low), float(high)))
        if line.relative_bound:
            return Reading(line, value, abs(value) * float(attrgetter(line.relative_bound)(result)))
        if name := line.bound or line.standard_error:
            return Reading(line, value, float(attrgetter(name)(result)))
    except NumericalError as problem:  # a bound that is not to be had
        return Reading(line, value, reason=str(problem))
    return Reading(line, value)


def plain(value: Any) -> Any:
    """Numbers, arrays, tuples, mappings and results as what JSON knows; what is not finite is None."""
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Result):
        return value.as_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return json.loads(json.dumps(value))  # whatever else has no place in plain data is an error here


def required(package: str, what: str, install: str | None = None) -> Any:
    """A module that only some need, imported when it is asked for.

    Raises
    ------
    ModuleNotFoundError
        It is not installed; the sentence says what to install.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as problem:
        name = package.partition(".")[0]
        raise ModuleNotFoundError(
            f"{what} needs {name}, which is not installed: pip install {install or name}", name=problem.name
        ) from None


def html_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table for notebooks."""

    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell.strip())}</{tag}>" for cell in cells) + "</tr>"

    return f"<table><thead>{line(header, 'th')}</thead><tbody>{''.join(line(cells, 'td') for cells in rows)}</tbody></table>"
