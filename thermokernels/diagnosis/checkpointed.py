"""Finished parts of a diagnosis in a file, so that one that was interrupted goes on with the next.

The file is that of :mod:`thermokernels.solvers.checkpoint`. A part is kept as JSON, whose numbers come back in every bit; of the solves the
sums behind T_O are kept, and the solutions themselves until the spectral measure, which alone goes on with them, is done. The arrays of a
part that is not finished are kept along with these. As the file is written as a whole, solutions included, it is written for them only when
ten times as long has passed as the last time took: an interrupt loses no more than that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from thermokernels.diagnosis.result import Crossing, Number
from thermokernels.model.chain import GibbsChain
from thermokernels.quantities.variance_time import VarianceTime, restored
from thermokernels.solvers.checkpoint import Array, Kept, PathLike, RestartFile

Found = dict[str, Any]

SOLUTIONS = "solutions"

# Writing what is done of a part takes no more than one in so many seconds.
PATIENCE = 10.0


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
        self._due = 0.0

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

    def unfinished(self, name: str) -> Unfinished:
        """Where the part of this name keeps what is done of it."""
        return Unfinished(self, name)

    def solutions(self, chain: GibbsChain, compute: Callable[[Kept], VarianceTime | Exception]) -> VarianceTime | Exception:
        """T_O with its solutions; without them once they are forgotten. ``compute`` keeps what is done of them where it is told."""
        if "sums" in self._kept:
            return restored(chain, self._kept["sums"], self._kept["worst"], self._kept.get(SOLUTIONS))
        found = compute(self.unfinished(SOLUTIONS))
        self.forget(SOLUTIONS)
        if self._file and isinstance(found, VarianceTime) and found.row_sums is not None and found.in_one_call is None:
            self._keep({**found.row_sums.arrays, SOLUTIONS: found.solutions})
        return found

    def forget(self, *names: str) -> None:
        """Leave the solutions, or what is done of the parts of these names, out of the file from the next part on."""
        self._kept = {key: array for key, array in self._kept.items() if key.partition(".")[0] not in names}

    def _keep(self, more: Mapping[str, Array], at_once: bool = True) -> None:
        if self._file is None:
            return
        self._kept |= more
        begun = time.monotonic()
        if at_once or begun >= self._due:
            self._file.save(self._kept)
            ended = time.monotonic()
            self._due = ended + PATIENCE * (ended - begun)


class Unfinished:
    """The arrays that a part which is not finished goes on from: as :class:`thermokernels.solvers.checkpoint.Kept`."""

    def __init__(self, parts: Parts, name: str) -> None:
        self._parts, self._name = parts, name

    def load(self) -> dict[str, Array]:
        return {key.partition(".")[2]: array for key, array in self._parts._kept.items() if key.startswith(f"{self._name}.")}

    def save(self, arrays: Mapping[str, Array]) -> None:
        self._parts._keep({f"{self._name}.{key}": array for key, array in arrays.items()}, at_once=False)


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
