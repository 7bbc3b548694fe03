"""The journal of a run: every finished task, kept from the moment it is finished until the run is complete.

It is a file of lines, each with the SHA-256 of what stands in it: whatever ends the program, every line that was written whole is
taken up again, and a damaged one is dropped and its task computed anew. The lines outlive the death of the process at any moment (they
are given to the system at once) and, but for the last seconds, a loss of power.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thermokernels.common.atomic_file import replacing
from thermokernels_app.experiment.records.lock import LOCK, FolderLock
from thermokernels_app.experiment.records.store import ARRAYS, RESULTS, SCHEMA, SCHEMA_VERSION, Arrays, Record, read_results

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Finished:
    """One finished task as the journal keeps it: its name, its record and its arrays."""

    task: str
    record: Record
    arrays: Arrays


class Journal:
    """The folder of a run while it is written: locked, with the finished tasks of an earlier, unfinished run of the same design.

    Parameters
    ----------
    folder : Path
        Made where it does not exist.
    identity : dict
        ``design_sha256``, ``cap_seconds`` and ``sources_sha256`` of the run, and ``freeze_sha256`` where it was frozen.
    resume : bool
        Go on with what the folder holds.

    Raises
    ------
    ValueError
        When another run is writing to the folder, or it holds another design's run, or this design's without ``resume``; nothing in
        it is touched.
    OSError
        When it cannot be written.
    """

    def __init__(self, folder: Path, identity: Record, *, resume: bool) -> None:
        self.folder, self.path = folder, folder / JOURNAL
        self._head = _line({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **identity})
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"the output folder {folder} is a file")
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(folder)
        try:
            self._check(identity, resume)
            # What a killed process left of a file that it was replacing.
            for leftover in (path for name in (JOURNAL, RESULTS, ARRAYS) for path in folder.glob(f".{name}.*")):
                leftover.unlink()
            self.finished, sound = {}, []
            for line in _lines(self.path):
                with suppress(KeyError, TypeError, ValueError, OverflowError, MemoryError):  # it is the head, or no task that we wrote
                    finished = _finished(line)
                    self.finished[finished.task] = finished
                    sound.append(line)
            with replacing(self.path) as file:
                file.write(self._head + b"".join(map(_line, sound)))
            self._file = self.path.open("ab", buffering=0)
            self._size = self.path.stat().st_size
        except BaseException:
            self._lock.release()
            raise

    def append(self, finished: Finished) -> None:
        """Keep one finished task.

        Raises
        ------
        OSError
            When it cannot be written, on a full disk say; what was kept before stays as it is.
        """
        arrays = {
            name: {"dtype": array.dtype.str, "shape": list(array.shape), "values": array.ravel().tolist()}
            for name, array in finished.arrays.items()
        }
        line = _line({"task": finished.task, "record": finished.record, "arrays": arrays})
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._size)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._size += len(line)

    def close(self, *, complete: bool) -> None:
        """Give the folder free, once; a complete run needs no journal, it is removed."""
        if self._file.closed:
            return
        self._file.close()
        if complete:
            self.path.unlink(missing_ok=True)
        self._lock.release()

    def _check(self, identity: Record, resume: bool) -> None:
        held = self._held(identity)
        if held is None:
            return
        if held["design_sha256"] != identity["design_sha256"]:
            raise ValueError(
                f"the output folder {self.folder} holds the run of another design ({held['design_sha256'][:12]}, "
                f"this one is {identity['design_sha256'][:12]}); name another folder"
            )
        if not resume:
            raise ValueError(f"the output folder {self.folder} already holds a run of this design; resume it or name another folder")
        if held["sources_sha256"] != identity["sources_sha256"]:
            raise ValueError(f"the run in {self.folder} was begun with another version of the program; name another folder")
        if held.get("freeze_sha256") != identity.get("freeze_sha256"):
            begun = f"under the freeze {held['freeze_sha256'][:12]}" if held.get("freeze_sha256") else "without a freeze"
            raise ValueError(f"the run in {self.folder} was begun {begun}, which cannot be changed afterwards; name another folder")

    def _held(self, identity: Record) -> Record | None:
        """Which design and sources the run in the folder has; None where there is no run."""
        head: Record = {}
        if self.path.exists():
            with self.path.open("rb") as file:
                first = file.readline()
            if self._head.startswith(first):  # cut off within its first line, or whole: it was ours
                return identity
            head = _read(first) or {}
        elif (self.folder / RESULTS).exists():
            try:
                document = read_results(self.folder)
            except ValueError:
                if not _cut_off(self.folder / RESULTS, identity):
                    raise
                return identity
            head = {"design_sha256": document["design_sha256"], "sources_sha256": document["run"]["sources_sha256"]}
            head["freeze_sha256"] = document["freeze"]["sha256"] if document["freeze"] else None
        elif not (self.folder / ARRAYS).exists():
            return None
        if not isinstance(head.get("design_sha256"), str) or "sources_sha256" not in head:
            raise ValueError(f"the output folder {self.folder} holds files of a run that cannot be read; name another folder")
        return head


def held_cap(folder: Path) -> float | None:
    """The cap on the wall clock in the design of the run that a folder holds; None where it holds none that can be read."""
    head: Record = {}
    with suppress(OSError, ValueError, KeyError, TypeError):
        if (folder / JOURNAL).exists():
            with (folder / JOURNAL).open("rb") as file:
                head = _read(file.readline()) or {}
        else:
            head = dict(read_results(folder)["design"])
    cap = head.get("cap_seconds")
    return cap if isinstance(cap, float) else None


def remove_leftover(folder: Path) -> None:
    """Remove what a run left that was killed after its results were complete; another's folder is left to it."""
    if (folder / JOURNAL).exists() or (folder / LOCK).exists():
        with suppress(ValueError, OSError), FolderLock(folder):
            (folder / JOURNAL).unlink(missing_ok=True)


def _cut_off(results: Path, identity: Record) -> bool:
    """Whether results.json is the mere beginning of one, of no other design: then it holds nothing that the run does not give again."""
    text = results.read_bytes().rstrip(b"\0")
    try:
        json.loads(text)
    except ValueError:
        start = f'{{\n "schema": "{SCHEMA}"'.encode()
        ours = text.startswith(start) or start.startswith(text)
        return ours and (b'"design_sha256": "' not in text or identity["design_sha256"].encode() in text)
    return False


def _line(line: Record) -> bytes:
    text = json.dumps(line, allow_nan=False)
    return f'{{"sha256": "{_sha256(text)}", "line": {text}}}\n'.encode()


def _lines(path: Path) -> Iterator[Record]:
    """Every sound line, in order."""
    if path.exists():
        with path.open("rb") as file:
            yield from filter(None, map(_read, file))


def _read(text: bytes) -> Record | None:
    """What stands in a line, or None where it is not what was written."""
    try:
        sealed = json.loads(text)
        line = sealed["line"]
        # Writing what was read gives the same text: floats are the shortest that read back the same, keys keep their order.
        return dict(line) if _sha256(json.dumps(line)) == sealed["sha256"] else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _finished(line: Record) -> Finished:
    """The task of a line; KeyError, TypeError, ValueError, OverflowError or MemoryError where it holds none."""
    arrays = {}
    for name, held in dict(line["arrays"]).items():
        if not re.fullmatch(r"[<>|][biuf]\d{1,2}", held["dtype"]):
            raise ValueError(f"an array of dtype {held['dtype']!r}")
        arrays[name] = np.array(held["values"], dtype=held["dtype"]).reshape(held["shape"])
    return Finished(str(line["task"]), dict(line["record"]), arrays)
