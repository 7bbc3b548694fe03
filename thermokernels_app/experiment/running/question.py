"""Run a grid that has a design, records and a verdict of its own: finished parts are kept, and the records are judged at the end."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path
from typing import Any, ClassVar, Protocol

from thermokernels.common.atomic_file import replacing
from thermokernels_app.experiment.records import store, strict_json
from thermokernels_app.experiment.records.environment import available_cores, environment, source_hash
from thermokernels_app.experiment.records.store import MismatchError, Record
from thermokernels_app.experiment.running.pool import WorkerPool
from thermokernels_app.experiment.running.progress import Progress

Place = tuple[int, ...]

# What an unfinished run is of, beside the parts that it has finished.
DESIGN = "design.json"


class SomeDesign(Protocol):
    """What a run asks of its design."""

    def as_dict(self) -> dict[str, Any]: ...
    def digest(self) -> str: ...


class Question(ABC):
    """One question: what is computed where, and how the records are judged.

    Attributes
    ----------
    name : str
        Names the file (NAME.json) and what it holds.
    verdict : str
        The one verdict that the document ends with.
    parts : str
        What a task is, in the plural, for the progress.
    """

    name: ClassVar[str]
    verdict: ClassVar[str]
    parts: ClassVar[str]

    @abstractmethod
    def places(self, design: Any) -> list[Place]:
        """The tasks of a design, in the order in which they are begun: no long one is left for the end."""

    @abstractmethod
    def part(self, place: Place) -> str:
        """What a task is called in the name of its file."""

    @abstractmethod
    def task(self) -> Callable[..., list[Record]]:
        """A function of a module, ``task(table of the design, *place)``: its records."""

    @abstractmethod
    def judge(self, design: Record, cells: Sequence[Record]) -> dict[str, dict[str, Any]]:
        """The verdict by its name, from plain records."""

    @property
    def file(self) -> str:
        return f"{self.name}.json"

    def run(
        self,
        design: SomeDesign,
        folder: Path,
        *,
        workers: int | None = None,
        executor: Executor | None = None,
        resume: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> Record:
        """The document of a run, which is kept in ``folder``; finished parts are kept there while it runs.

        Raises
        ------
        ValueError
            The folder holds a run already, or with ``resume`` one of another design or program.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if not resume and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty; a run is never overwritten: use --resume, or another folder")
        self._require_own(design, folder)
        if resume and (folder / self.file).exists():
            document = self.read(folder)
            if document["design_sha256"] != design.digest():
                raise ValueError(f"{folder} holds a run of another design; use another folder")
            return document
        start, table = time.monotonic(), design.as_dict()
        identity = {"design_sha256": design.digest(), "sources_sha256": source_hash()}
        _write(folder / DESIGN, json.dumps({"schema": f"thermokernels-{self.name}", "design": table, **identity}, allow_nan=False))
        finished = self._compute(design, folder, identity, workers, executor, progress)
        cells = [record for place in sorted(finished) for record in finished[place]]
        document = {
            "schema": f"thermokernels-{self.name}",
            "design": table,
            "design_sha256": identity["design_sha256"],
            "verdicts": store.plain(self.judge(table, cells)),
            "cells": cells,
            "run": {"seconds": time.monotonic() - start, "sources_sha256": identity["sources_sha256"], "environment": environment()},
        }
        document = dict(store.plain(document))
        document["records_sha256"] = store.digest({key: document[key] for key in ("design", "verdicts", "cells")})
        _write(folder / self.file, json.dumps(document, indent=1, allow_nan=False) + "\n")
        for name in (DESIGN, *map(self._kept_as, finished)):
            (folder / name).unlink(missing_ok=True)
        return document

    def _require_own(self, design: SomeDesign, folder: Path) -> None:
        """ValueError where a folder holds what no run of this design leaves in it."""
        own = {self.file, DESIGN, *map(self._kept_as, self.places(design))}
        foreign = sorted(path.name for path in folder.iterdir() if path.name not in own and not path.name.startswith("."))
        if foreign:
            raise ValueError(f"{folder} holds {foreign[0]}, which is of no run of this design; use another folder")
        if (folder / DESIGN).exists() and (self._begun(folder) or {}).get("design_sha256") != design.digest():
            raise ValueError(f"{folder} holds an unfinished run of another design; use another folder")

    def _compute(
        self,
        design: SomeDesign,
        folder: Path,
        identity: Record,
        workers: int | None,
        executor: Executor | None,
        progress: Callable[[Progress], None] | None,
    ) -> dict[Place, list[Record]]:
        """The records of every place: those that are kept, and the rest from the workers."""
        start, table, places = time.monotonic(), design.as_dict(), self.places(design)
        finished = {place: records for place in places if (records := self._kept(folder / self._kept_as(place), identity)) is not None}
        pool = executor or WorkerPool(workers or available_cores())
        try:
            futures = {pool.submit(self.task(), table, *place): place for place in places if place not in finished}
            for future in as_completed(futures):
                place = futures[future]
                finished[place] = [store.plain(record) for record in future.result()]
                _write(folder / self._kept_as(place), json.dumps({**identity, "cells": finished[place]}, allow_nan=False))
                if progress:
                    words = f"{len(finished)} of {len(places)} {self.parts}"
                    progress(Progress(len(finished) / len(places), time.monotonic() - start, words))
        except BaseException:
            if isinstance(pool, WorkerPool):
                pool.kill()  # nobody waits for what an interrupted run still has under way
            raise
        if isinstance(pool, WorkerPool):
            pool.shutdown()
        return finished

    def _kept_as(self, place: Place) -> str:
        return f"{self.part(place)}.json"

    def _kept(self, file: Path, identity: Record) -> list[Record] | None:
        """The records of a part that an interrupted run of the same design and program has finished, or None."""
        try:
            kept = strict_json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            raise ValueError(f"{file} cannot be read; remove it to have that part computed again") from None
        if not isinstance(kept, dict) or any(kept.get(key) != value for key, value in identity.items()):
            raise ValueError(f"{file} is of another design or program; use another folder")
        cells: list[Record] = kept["cells"]
        return cells

    def holds(self, folder: Path) -> bool:
        """Whether a folder, or the file that is named instead, is a run of this question, finished or not."""
        return (folder / self.file).exists() or folder.name == self.file or self._begun(folder) is not None

    def read(self, folder: Path) -> Record:
        """The document of a run, judged again from its records; MismatchError where it is not what the run wrote.

        Of a run that is not finished, the parts that are: ``run`` is then None, and missing records make the verdict HALT.
        """
        if folder.is_dir() and not (folder / self.file).exists() and (begun := self._begun(folder)) is not None:
            return self._so_far(folder, begun)
        file = folder / self.file if folder.is_dir() else folder
        try:
            document = strict_json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{file} cannot be read: {error}") from None
        if not isinstance(document, dict) or document.get("schema") != f"thermokernels-{self.name}":
            raise ValueError(f"{file} holds no run of the {self.name}")
        try:
            parts = {key: document[key] for key in ("design", "verdicts", "cells")}
            if store.digest(parts) != document["records_sha256"] or store.digest(document["design"]) != document["design_sha256"]:
                raise MismatchError(f"{file} was changed after the run: its records do not match records_sha256")
        except KeyError as error:
            raise ValueError(f"{file} lacks {error}; it is not complete") from None
        if store.plain(self.judge(document["design"], document["cells"])) != document["verdicts"]:
            raise MismatchError(f"{file}: its records give other verdicts than it holds")
        result: Record = document
        return result

    def _begun(self, folder: Path) -> Record | None:
        """What an unfinished run of this question in the folder is of, or None."""
        try:
            begun = strict_json.loads((folder / DESIGN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return begun if isinstance(begun, dict) and begun.get("schema") == f"thermokernels-{self.name}" else None

    def _so_far(self, folder: Path, begun: Record) -> Record:
        identity = {key: begun.get(key) for key in ("design_sha256", "sources_sha256")}
        if store.digest(begun["design"]) != identity["design_sha256"]:
            raise MismatchError(f"{folder / DESIGN} was changed after the run was begun: its design does not match design_sha256")
        files = sorted(file.name for file in folder.glob("*.json") if file.name != DESIGN)
        cells = [record for name in files for record in self._kept(folder / name, identity) or []]
        verdicts = store.plain(self.judge(begun["design"], cells))
        return {**begun, "verdicts": verdicts, "cells": cells, "run": None}

    def headline(self, document: Record) -> str:
        """Design, parts and seconds of a run, in a line."""
        run = document["run"]
        ended = "so far, of a run that is not finished" if run is None else f"{run['seconds']:.1f} s"
        return f"design {document['design_sha256'][:16]}..., {len(document['cells'])} {self.parts}, {ended}"

    def exit_code(self, document: Record) -> int:
        """0 PASS, 10 FAIL, 11 HALT."""
        return {"PASS": 0, "FAIL": 10}.get(document["verdicts"][self.verdict]["verdict"], 11)


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())
