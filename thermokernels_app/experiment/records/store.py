"""The files of a run: results.json and arrays.npz beside it (the journal of an unfinished one is in ``journal.py``).

What the design determines (cells, checkpoints, verdicts, hash of the arrays) stands apart from what changes between two runs (times,
machine), and ``records_sha256`` covers the first part only; ``document_sha256`` covers the whole file. Files are replaced whole: a reader
never sees half of one.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.atomic_file import replacing
from thermokernels_app.experiment.records import strict_json

SCHEMA = "thermokernels/results"
SCHEMA_VERSION = 2
RESULTS, ARRAYS = "results.json", "arrays.npz"

# The part of results.json that the design determines, in the order of the file; `records_sha256` is taken over these.
HASHED = ("design", "design_sha256", "status", "halt", "verdicts", "stationarity", "checkpoints", "cells", "arrays")

# What stands beside it.
BESIDE = ("schema", "schema_version", "document_sha256", "records_sha256", "freeze", "run")

Arrays = dict[str, NDArray[Any]]
Record = dict[str, Any]


class MismatchError(ValueError):
    """A file was changed after it was written, or what would run is not what was frozen."""


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: NumPy scalars become Python's, a number that is not finite becomes null with ``<key>_reason``."""
    if isinstance(value, Mapping):
        result: Record = {}
        for key, item in value.items():
            result[str(key)] = plain(item)
            if isinstance(item, float | np.floating) and not math.isfinite(item):
                result[f"{key}_reason"] = f"not finite: {float(item)}"
        return result
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of ``value``: sorted keys, no blanks, shortest floats that read back the same."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def arrays_as_bytes(arrays: Arrays) -> bytes:
    """The arrays as an uncompressed .npz, the same bytes for the same arrays (zip entries carry no time)."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})
    return buffer.getvalue()


def write_results(folder: Path, document: Record, arrays: Arrays) -> Record:
    """Write arrays.npz and then results.json; returns the document with the hashes of both filled in.

    Parameters
    ----------
    folder : Path
        An existing folder; the two files in it are replaced.
    document : dict
        Everything of results.json but ``arrays`` and the hashes; ``freeze`` where the run had one.
    arrays : dict of ndarray
        What arrays.npz holds, by name.
    """
    content = arrays_as_bytes(arrays)
    document = seal(document, content)
    with replacing(folder / ARRAYS) as file:
        file.write(content)
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    with replacing(folder / RESULTS) as file:
        file.write(text.encode())
    return document


def seal(document: Record, arrays_content: bytes) -> Record:
    """The document with the hashes of its arrays, of everything that the design determines, and of the whole."""
    sealed = plain(document)
    sealed["arrays"] = {"file": ARRAYS, "sha256": hashlib.sha256(arrays_content).hexdigest(), "members": _members(arrays_content)}
    body = {"records_sha256": digest({key: sealed[key] for key in HASHED})} | {key: sealed[key] for key in HASHED if key != "cells"}
    body |= {"run": sealed["run"], "freeze": sealed.get("freeze"), "cells": sealed["cells"]}
    head = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION}
    return head | {"document_sha256": digest(head | body)} | body


def _members(arrays_content: bytes) -> dict[str, str]:
    """SHA-256 of every array of an .npz by its name: dtype, shape and values."""
    with zipfile.ZipFile(io.BytesIO(arrays_content)) as archive:
        return {name.removesuffix(".npy"): hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def read_results(path: Path | str) -> Record:
    """The document of a run's results.json, checked against its own hash.

    Parameters
    ----------
    path : path-like
        The folder of a run, or its results.json.

    Raises
    ------
    ValueError
        When there is none, when it cannot be read, is truncated or has another schema; MismatchError when it was changed after it was
        written.
    """
    file = Path(path)
    if file.is_dir():
        file = file / RESULTS
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}") from None
    try:
        document = strict_json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file} is not complete JSON (truncated?): {error}; results.json of a run is wanted") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"{file} holds no results of this program: its schema must be {SCHEMA!r}")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"{file} has schema version {document.get('schema_version')!r}; this program reads version {SCHEMA_VERSION}")
    missing = [key for key in (*HASHED, *BESIDE) if key not in document]
    if missing:
        raise ValueError(f"{file} lacks {', '.join(missing)}; it is not a complete results.json")
    if digest({key: document[key] for key in HASHED}) != document["records_sha256"]:
        raise MismatchError(f"{file} was changed after the run: its records do not match records_sha256")
    if digest({key: value for key, value in document.items() if key != "document_sha256"}) != document["document_sha256"]:
        raise MismatchError(f"{file} was changed after the run: what stands beside its records does not match document_sha256")
    if problem := _malformed(document):
        raise MismatchError(f"{file} is not what this program wrote: {problem}")
    return document


def _malformed(document: Record) -> str | None:
    """What is wrong with the parts that a reader relies on, or None; whoever recomputes the hash can still write nonsense."""
    if not isinstance(document["design"], dict) or digest(document["design"]) != document["design_sha256"]:
        return "design does not match design_sha256"
    if document["status"] not in ("complete", "halted", "stopped", "interrupted"):
        return f"status is {document['status']!r}"
    for key in ("cells", "checkpoints", "stationarity"):
        if not isinstance(document[key], list) or not all(isinstance(record, dict) for record in document[key]):
            return f"{key} is no list of records"
    if not isinstance(document["verdicts"], dict):
        return "verdicts is no object"
    arrays = document["arrays"]
    if not isinstance(arrays, dict) or arrays.get("file") != ARRAYS or not isinstance(arrays.get("members"), dict):
        return "arrays is no object with file, sha256 and members"
    freeze = document["freeze"]
    if freeze is not None and not (isinstance(freeze, dict) and isinstance(freeze.get("sha256"), str)):
        return "freeze is no object with sha256"
    run = document["run"]
    if not isinstance(run, dict) or not isinstance(run.get("seconds"), int | float) or not isinstance(run.get("sources_sha256"), str):
        return "run lacks seconds or sources_sha256"
    return None


def read_arrays(folder: Path | str) -> Arrays:
    """The arrays of a run by name, checked against the hashes in results.json; MismatchError names those that do not match."""
    document = read_results(folder)
    file = (Path(folder) if Path(folder).is_dir() else Path(folder).parent) / document["arrays"]["file"]
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != document["arrays"].get("sha256"):
        raise MismatchError(f"{file} does not belong to the results beside it: {_difference(content, document['arrays']['members'])}")
    try:
        with warnings.catch_warnings(), np.load(io.BytesIO(content), allow_pickle=False) as archive:
            warnings.simplefilter("ignore")
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # over damaged files NumPy lets through what its parsers raise
        raise ValueError(f"{file} holds no arrays that NumPy can read ({type(error).__name__})") from None


def _difference(arrays_content: bytes, expected: dict[str, str]) -> str:
    """In what a file of arrays is not the expected one, in words."""
    try:
        found = _members(arrays_content)
    except Exception:  # a damaged archive raises whatever its bytes happen to say
        return "it is not a complete .npz file"
    names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if not names:
        return "its SHA-256 is another, though every array in it is the same"
    return f"{len(names)} of {len(expected)} arrays differ, the first is {names[0]}"
