"""The records of a run by their place in the grid, with what is wrong with each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from thermokernels_app.judges.records import MissingNumberError, number
from thermokernels_app.judges.verdicts.criteria import met

Record = Mapping[str, Any]
Key = tuple[Any, ...]

# Gates of the battery: record key, operator, key of the design's thresholds.
GATES = (
    ("reversibility", "<=", "reversibility"),
    ("row_sum", "<=", "row_sum"),
    ("stationarity", "<=", "stationarity"),
    ("symmetry_law", "<=", "symmetry"),
    ("symmetry_kernel", "<=", "symmetry"),
    ("symmetry_observables", "<=", "symmetry"),
    ("agreement", "<=", "agreement"),
    ("solver_residual", "<=", "solve"),
    ("hitting_residual", "<=", "hitting"),
    ("cheeger_margin", ">=", "cheeger"),
)


# Numbers that every cell must have, whether or not a criterion uses them.
COMPUTED_EVERYWHERE = ("q.value", "q.signal", "q.t_obs_steps", "gradient.dq_dw_norm", "gradient.dq_dphi_norm", "spectrum.gap")


class GridRecords:
    """The records by their place in the grid, with what is wrong with each."""

    def __init__(self, design: Record, cells: Sequence[Record], checkpoints: Sequence[Record], stationarity: Sequence[Record]):
        self.design, self.thresholds, grid = design, design["thresholds"], design["grid"]
        self.places = [(m, s, name) for m in grid["m"] for s in grid["split"] for name in grid["checkpoints"]]
        self.keys: list[Key] = [(*place, code) for place in self.places for code in grid["codes"]]
        basis = design["basis"]
        self.basis_keys = [key for key in self.keys if key[1] in basis["split"] and key[2] in basis["checkpoints"]]
        self.empty = not cells
        self._cells = self._index(cells, ("m", "split", "checkpoint", "code"))
        self._checkpoints = self._index(checkpoints, ("m", "split", "checkpoint"))
        self._stationarity = self._index(stationarity, ("m", "split", "code"))

    @staticmethod
    def _index(records: Sequence[Record], names: tuple[str, ...]) -> dict[Key, list[Record]]:
        index: dict[Key, list[Record]] = {}
        for record in records:
            index.setdefault(tuple(record.get(name) for name in names), []).append(record)
        return index

    @staticmethod
    def _single(index: dict[Key, list[Record]], key: Key, where: str) -> Record:
        found = index.get(key, [])
        if len(found) != 1:
            raise MissingNumberError(f"{where}: {'no record' if not found else f'{len(found)} records'}")
        return found[0]

    def cell(self, key: Key) -> Record:
        """The complete record of a cell that did not halt; MissingNumberError for any other."""
        record = self._single(self._cells, key, place_of(key))
        if record.get("status") != "ok":
            halt = record.get("halt") or {}
            raise MissingNumberError(
                f"{place_of(key)}: halted at {halt.get('check', 'an unnamed check')}: {halt.get('detail', 'no detail')}"
            )
        for path in COMPUTED_EVERYWHERE:
            number(record, path, place_of(key))
        return record

    def sound_cell(self, key: Key) -> Record:
        """The same, where the cell's record meets every gate of the battery, too."""
        record = self.cell(key)
        for name, operator, threshold, observed in battery_gates(record, self.thresholds, place_of(key)):
            if not met(operator, observed, threshold):
                raise MissingNumberError(f"{place_of(key)}: {name} is {observed:.3g}, which is not {operator} {threshold:.3g}")
        return record

    def checkpoint(self, place: Key) -> Record:
        return self._single(self._checkpoints, place, place_of(place))

    def stationary(self, key: Key) -> Record:
        return self._single(self._stationarity, key, f"m={key[0]}, s={key[1]}, code {key[2]}: test for stationarity")

    def finals(self) -> list[Key]:
        places = [place for place in self.places if place[2] == "final"]
        if not places:
            raise MissingNumberError("the grid has no final checkpoint")
        return places


def battery_gates(cell: Record, thresholds: Record, where: str) -> Iterator[tuple[str, str, float, float]]:
    """(name, operator, threshold, observed) of every gate that applies to a cell's battery.

    The symmetries are gates on the quotient only, hitting times and cuts where there are any.
    """
    for name, operator, key in GATES:
        threshold = -thresholds[key] if operator == ">=" else thresholds[key]
        if name.startswith("symmetry") and (cell.get("battery") or {}).get("fallback") is not None:
            continue
        if name == "hitting_residual" and number(cell, "battery.hitting_solves", where) == 0:
            continue
        if name == "cheeger_margin" and number(cell, "battery.cuts", where) == 0:
            continue
        yield name, operator, threshold, number(cell, f"battery.{name}", where)


def place_of(key: Key) -> str:
    place = f"m={key[0]}, s={key[1]}, {key[2]}"
    return f"cell {place}, code {key[3]}" if len(key) == 4 else f"checkpoint {place}"
