"""Finished parts of a diagnosis in a file, so that one that was interrupted goes on with the next.

The file is that of :mod:`thermokernels.solvers.checkpoint`. A part is kept as JSON, whose numbers come back in every bit; of the solves the
sums behind T_O are kept, and the solutions themselves until the spectral measure, which alone goes on with them, is done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from thermokernels.diagnosis.result import Crossing, Number
from thermokernels.model.chain import GibbsChain
from thermokernels.quantities.variance_time import VarianceTime, restored
from thermokernels.solvers.checkpoint import Array, PathLike, RestartFile

Found = dict[str, Any]

SOLUTIONS = "solutions"


class Parts:
    """The parts of one diagnosis; nothing is kept where ``path`` is None.

    Parameters
    ----------
    path : of the file, which need not exist yet
    inputs : what the result depends on, by name
    """

    def __init__(self, path: PathLike | None, inputs: Mapping[str, Any]) -> None:
        self._file = None if path is None else RestartFile(path, inputs)
        self._kept: dict[str, Array] = self._file.load() if self._file else {}

    def part(self, name: str, compute: Callable[[], Found]) -> Found:
        """What ``compute`` finds, now or in an earlier call."""
        found = self.kept(name)
        if found is None:
            found = compute()
            self.keep({name: found})
        return found

    def kept(self, name: str) -> Found | None:
        """What an earlier call has kept under this name."""
        return _read(json.loads(str(self._kept[name]))) if name in self._kept else None

    def keep(self, found: Mapping[str, Found]) -> None:
        """Keep findings by their names."""
        self._keep({name: np.array(json.dumps(_written(each))) for name, each in found.items()})

    def solutions(self, chain: GibbsChain, compute: Callable[[], VarianceTime | Exception]) -> VarianceTime | Exception:
        """T_O with its solutions; without them once they are forgotten."""
        if "sums" in self._kept:
            return restored(chain, self._kept["sums"], self._kept["worst"], self._kept.get(SOLUTIONS))
        time = compute()
        if self._file and isinstance(time, VarianceTime) and time.row_sums is not None and time.in_one_call is None:
            self._keep({**time.row_sums.arrays, SOLUTIONS: time.solutions})
        return time

    def forget_solutions(self) -> None:
        """Leave them out of the file from the next part on."""
        self._kept.pop(SOLUTIONS, None)

    def _keep(self, more: Mapping[str, Array]) -> None:
        if self._file:
            self._kept |= more
            self._file.save(self._kept)


def _written(value: Any) -> Any:
    """As JSON; what that does not know, as an object of one member that names the kind."""
    if isinstance(value, (Number, Crossing)):
        return {type(value).__name__: {field.name: _written(getattr(value, field.name)) for field in fields(value)}}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist()}
    if isinstance(value, tuple):
        return {"tuple": [_written(item) for item in value]}
    return {name: _written(item) for name, item in value.items()} if isinstance(value, dict) else value


def _read(written: Any) -> Any:
    if not isinstance(written, dict):
        return written
    kind, content = next(iter(written.items()))
    if kind in ("Number", "Crossing"):
        return {"Number": Number, "Crossing": Crossing}[kind](**{name: _read(item) for name, item in content.items()})
    if kind == "array":
        return np.array(content)
    if kind == "tuple":
        return tuple(_read(item) for item in content)
    return {name: _read(item) for name, item in written.items()}
