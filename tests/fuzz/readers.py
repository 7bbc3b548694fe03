"""Fuzz of every file reader: whatever a file holds, its reader returns or refuses it in one line that names the file.

Usage: python tests/fuzz/readers.py [--executions 200000] [--readers NAME ...] [--seed N]

Guided by coverage (atheris: pip install atheris), from a corpus that is made here; the executions are shared out evenly. An input that
breaks a reader is written to the current folder as crash-..., and the exit code is 1. ``test_readers.py`` runs the same readers on
mutations of the same corpus that need no atheris.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# What coverage is taken of: our readers and, where they are Python, the parsers below them.
INSTRUMENTED = [
    "thermokernels_app.experiment.design",
    "thermokernels_app.experiment.freeze",
    "thermokernels_app.experiment.records.journal",
    "thermokernels_app.experiment.keys",
    "thermokernels_app.experiment.records.store",
    "thermokernels_app.experiment.records.strict_json",
    "thermokernels_app.tools.data_files",
    "thermokernels.model.files.model_files",
    "thermokernels.common.arguments",
    "thermokernels.model.conversions",
    "numpy.lib._format_impl",
    "numpy.lib._npyio_impl",
    "tomllib",
    "zipfile",
]

# Pieces that parsers trip over.
TOKENS = [
    b"NaN", b"-Infinity", b"1e400", b"-0.0", b"5e-324", b"9" * 400, b"9" * 5000, b"-1", b"true", b"null", b'"\\ud800"',
    b"{}",
    b"[]", b'""',
    b"[" * 3000, b'{"a":' * 3000, b"a." * 3000 + b"b = 1", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n\n",
    b"'", b'"', b"=", b",", b"#",
    b"\x93NUMPY", b"PK\x03\x04", b"(9999999999,)", b"'|O'", b"'<U9'", b"1970-01-01", b"0x7f", b"inf", b"1_0", b"[grid]", b"\\",
]  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A reader with valid files: ``read(folder, content)`` writes the content into the folder and has it read."""

    read: Callable[[Path, bytes], object]
    seeds: Callable[[], list[bytes]]


def check(reader: Reader, folder: Path, content: bytes) -> str | None:
    """None where the content was read, or the sentence that refused it; whatever else comes out is a defect and raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            reader.read(folder, content)
        except ValueError as error:
            sentence = str(error)
    if "sentence" not in locals():
        return None
    if str(folder) not in sentence or "\n" in sentence or len(sentence) > 1000:
        raise AssertionError(f"no sentence that names the file: {sentence[:2000]!r}")
    return sentence


def mutated(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """A few random edits: bytes flipped, stretches cut, doubled, moved or taken from another file, tokens put in, the end lost."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        start = int(rng.integers(len(data) + 1))
        stop = min(len(data), start + int(rng.geometric(0.1)))
        kind = rng.integers(7)
        if kind == 0 and start < len(data):
            data[start] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del data[start:stop]
        elif kind == 2:
            data[start:start] = data[start:stop]
        elif kind == 3:
            data[start:stop] = TOKENS[int(rng.integers(len(TOKENS)))]
        elif kind == 4:
            other = others[int(rng.integers(len(others)))]
            where = int(rng.integers(len(other) + 1))
            data[start:stop] = other[where : where + int(rng.integers(1, 200))]
        elif kind == 5:
            del data[start:]
        else:  # a number or a word becomes a token, so that what surrounds it still parses
            words = [*re.finditer(rb"-?\d+(?:\.\d+)?(?:e-?\d+)?|\"\w*\"", bytes(data))]
            if words:
                word = words[int(rng.integers(len(words)))]
                data[word.start() : word.end()] = TOKENS[int(rng.integers(len(TOKENS)))]
    return bytes(data)


# The readers.


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _grid(folder: Path, content: bytes) -> None:
    from thermokernels_app.experiment import design

    design.load_design(_written(folder / "grid.toml", content))


def _results(folder: Path, content: bytes) -> None:
    from thermokernels_app.experiment.records import store

    store.read_results(_written(folder / "results.json", content))


def _sealed(document: dict[str, Any]) -> bytes:
    """As somebody would alter a file who also knows to recompute its hashes."""
    from thermokernels_app.experiment.records import store

    document["design_sha256"] = store.digest(document["design"])
    document["records_sha256"] = store.digest({key: document[key] for key in store.HASHED})
    document["document_sha256"] = store.digest({key: value for key, value in document.items() if key != "document_sha256"})
    return json.dumps(document).encode()


def _sealed_results(folder: Path, content: bytes) -> None:
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        content = _sealed(json.loads(content))
    _results(folder, content)


def _arrays(folder: Path, content: bytes) -> None:
    """arrays.npz beside a results.json that vouches for it."""
    from thermokernels_app.experiment.records import store

    document = json.loads(_results_seeds()[0])
    document["arrays"]["sha256"] = hashlib.sha256(content).hexdigest()
    _written(folder / store.ARRAYS, content)
    _written(folder / store.RESULTS, _sealed(document))
    store.read_arrays(folder)


def _journal(folder: Path, content: bytes) -> None:
    from thermokernels_app.experiment.records import journal

    _written(folder / journal.JOURNAL, content)
    journal.Journal(folder, IDENTITY, resume=True).close(complete=True)


def _freeze(folder: Path, content: bytes) -> None:
    from thermokernels_app.experiment import freeze

    freeze.read(_written(folder / "freeze.json", content))


def _model(suffix: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, content: bytes) -> object:
        from thermokernels import load_model

        return load_model(_written(folder / f"model{suffix}", content))

    return read


def _samples(suffix: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, content: bytes) -> object:
        from thermokernels_app.tools import data_files

        return data_files.read_data_law(_written(folder / f"samples{suffix}", content), 3)

    return read


# Their seeds.

IDENTITY = {"design_sha256": "0" * 64, "sources_sha256": "1" * 64}
COUPLINGS = np.array([[0.5, -0.25, 1.0], [1.5, 0.0, -2.0]])
SPINS = np.array([[1, -1, 1], [-1, -1, 1], [1, 1, 1]])


def _document() -> dict[str, Any]:
    from thermokernels_app.experiment import design
    from thermokernels_app.experiment.records import store

    plan = design.load_design("smoke")
    cell = {"m": 4, "split": 2, "checkpoint": "half", "code": 1, "status": "ok", "q": 0.5, "checks": {"reversibility": 1e-17}}
    records = {
        "halt": None,
        "verdicts": {"P1": {"verdict": "PASS", "criteria": []}},
        "stationarity": [],
        "checkpoints": [],
        "cells": [cell],
    }
    run = {"seconds": 1.5, "sources_sha256": "1" * 64, "environment": {"cores": 2}}
    return {"design": plan.as_dict(), "design_sha256": store.digest(plan.as_dict()), "status": "complete", **records, "run": run}


def _grid_seeds() -> list[bytes]:
    return [
        b"seed = 1\n\n[grid]\nm = [4]\nsplit = [2, 3]\ncheckpoints = ['init', \"final\"]\n\n[teacher]\nbeta = 4.0\n",
        b"window_sweeps = 50\nsteps = [1e-3, 1e-4]\nthresholds.mass = 0.01\nthresholds.overlap_rider = [0.1]\n[training]\nsteps = 5_00\n",
    ]


def _results_seeds() -> list[bytes]:
    from thermokernels_app.experiment.records import store

    return [json.dumps(store.seal(_document(), _npz(W=COUPLINGS)), indent=1).encode()]


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _npy(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def _compressed(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, W=array)
    return buffer.getvalue()


def _csv(array: np.ndarray) -> bytes:
    return "\r\n".join(",".join(map(str, row)) for row in array).encode()


def _journal_seeds() -> list[bytes]:
    from thermokernels_app.experiment.records import journal

    with tempfile.TemporaryDirectory() as name:
        written = journal.Journal(Path(name, "run"), IDENTITY, resume=False)
        for task in ("network m4/s2", "cells m4/s2"):
            written.append(journal.Finished(task, {"seconds": 0.25, "m": 4}, {"W": COUPLINGS, "k": np.arange(3)}))
        written.close(complete=False)
        return [written.path.read_bytes()]


def _freeze_seeds() -> list[bytes]:
    from thermokernels_app.experiment import design, freeze

    with tempfile.TemporaryDirectory() as name:
        freeze.freeze(design.load_design("smoke"), Path(name, "freeze.json"))
        return [Path(name, "freeze.json").read_bytes()]


_OBJECTS = np.array([{"a": 1}], dtype=object)

READERS = {
    "grid.toml": Reader(_grid, _grid_seeds),
    "results.json": Reader(_results, _results_seeds),
    "results.json, hashes made to fit": Reader(_sealed_results, _results_seeds),
    "arrays.npz": Reader(_arrays, lambda: [_npz(**{"m4/s2/W": COUPLINGS, "k": np.arange(3)}), _compressed(COUPLINGS)]),
    "journal.jsonl": Reader(_journal, _journal_seeds),
    "freeze": Reader(_freeze, _freeze_seeds),
    "model.npy": Reader(_model(".npy"), lambda: [_npy(COUPLINGS), _npy(COUPLINGS.T.astype(">f4")), _npy(_OBJECTS, allow_pickle=True)]),
    "model.npz": Reader(_model(".npz"), lambda: [_npz(W=COUPLINGS, b=np.ones(2), c=np.zeros(3)), _compressed(COUPLINGS)]),
    "model.csv": Reader(_model(".csv"), lambda: [_csv(COUPLINGS), b'\xef\xbb\xbf"1.5", 2e-3\n\n-3,inf\n']),
    "samples.npy": Reader(_samples(".npy"), lambda: [_npy(SPINS), _npy(SPINS.astype(np.float32)), _npy(SPINS > 0)]),
    "samples.csv": Reader(_samples(".csv"), lambda: [_csv(SPINS), b"+1, -1.0, 1\n"]),
}


# The fuzz that coverage guides: a process for each reader, since libFuzzer ends the one that it runs in.


def _fuzz_one(name: str, executions: int, seed: int) -> None:
    import atheris
    import numba  # noqa: F401 - what is imported before is not instrumented, which would take long

    with atheris.instrument_imports(include=INSTRUMENTED):
        import thermokernels_app.experiment.freeze
        import thermokernels_app.experiment.records.journal
        import thermokernels_app.experiment.records.store
        import thermokernels_app.tools.data_files  # noqa: F401

    reader = READERS[name]
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        corpus, folder, dictionary = Path(scratch, "corpus"), Path(scratch, "files"), Path(scratch, "dictionary")
        corpus.mkdir()
        folder.mkdir()
        for number, content in enumerate(reader.seeds()):
            check(reader, folder, content)
            (corpus / str(number)).write_bytes(content)
        quoted = ("".join(f"\\x{byte:02x}" for byte in token) for token in TOKENS if len(token) < 64)
        dictionary.write_text("".join(f'"{token}"\n' for token in quoted))
        options = [f"-runs={executions}", f"-seed={seed}", f"-dict={dictionary}", "-rss_limit_mb=0", "-timeout=60", "-max_len=65536"]
        atheris.Setup(["readers", *options, "-print_final_stats=1", str(corpus)], lambda content: check(reader, folder, content))
        atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=200_000, help="of all readers together")
    parser.add_argument("--readers", nargs="+", choices=READERS, default=[*READERS], metavar="NAME")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    share = -(-options.executions // len(options.readers))
    if options.alone:
        _fuzz_one(options.readers[0], share, options.seed)
        return
    total, broken = 0, []
    print(f"{'reader':34} executions  seconds  a second")
    for name in options.readers:
        command = [sys.executable, __file__, "--alone", "--readers", name, "--executions", str(share), "--seed", str(options.seed)]
        start = time.perf_counter()
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", env=os.environ | {"PYTHONWARNINGS": "default"})
        seconds = time.perf_counter() - start
        counted = re.search(r"number_of_executed_units: (\d+)", result.stderr)
        executed = int(counted[1]) if counted else 0
        total += executed
        print(f"{name:34} {executed:10}  {seconds:7.1f}  {executed / seconds:8.0f}", flush=True)
        if result.returncode or executed < share:
            broken.append(name)
            print(result.stdout[-4000:], result.stderr[-2000:], file=sys.stderr)
    print(f"{'all':34} {total:10}  " + (f"broken: {', '.join(broken)}" if broken else "none broken"))
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
