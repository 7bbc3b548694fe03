"""Records and freezes altered in every way that their hashes, chains and verdicts have to notice: cases of the selftest."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from thermokernels_app.experiment import audit, freeze
from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.records import environment, store
from thermokernels_app.experiment.records.store import MismatchError, Record
from thermokernels_app.judges import verdicts
from thermokernels_app.selftest.case import Case, Spoken, patched
from thermokernels_app.selftest.sound_records import Records

# What each refusal is known by: a gate and the words of its sentence.
RECORD_GATES = {
    "record: records_sha256": "do not match records_sha256",
    "record: document_sha256": "does not match document_sha256",
    "record: design_sha256": "design does not match design_sha256",
    "record: arrays.sha256 and every array's own": "does not belong to the results beside it",
    "record: verdicts as judged again": "are not those of its records",
    "record: the design is the frozen one": "is not the run of the freeze that it carries: design",
    "record: the sources are the frozen ones": "its sources are others",
    "record: the versions are the frozen ones": "is not the run of the freeze that it carries: the versions",
    "record: freeze.sha256": "does not have the digest of its chain",
}
CHAIN_GATES = {
    "freeze: sha256": "its sha256 is not the hash of what it holds",
    "freeze: parent_sha256": "its parent_sha256 is not the digest of the link before it",
    "freeze: design_sha256": "its design_sha256 is not the hash of its design",
    "freeze: must_match": "its must_match is not",
    "freeze: reason and seen": "an amendment needs a reason and what had been seen",
}
OVERWRITTEN = "freeze: never overwritten"


def must_match(part: str) -> str:
    """What the refusal to run for a part of a freeze is called in a report."""
    return f"run --freeze: {part}"


def _which(gates: dict[str, str], message: str) -> Spoken:
    return {gate: message for gate, words in gates.items() if words in message}


# A record in a folder, altered after it was written.


def _audit(alter: Callable[[Path, Record], Record | None] = lambda folder, document: None) -> Spoken:
    """Write a sound record of a frozen and amended run, alter it, and audit it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        design = Design()
        first = freeze.freeze(replace(design, seed=1), folder / "first.json")
        frozen = freeze.amend(first, design, folder / "second.json", reason="the registered seed", seen="nothing")
        document = store.write_results(folder, _document(design, frozen), {"m4/s2/half/code1/W": np.ones((4, 4)), "m4/s2/kl": np.ones(3)})
        altered = alter(folder, copy.deepcopy(document))
        if altered is not None:
            (folder / store.RESULTS).write_text(json.dumps(altered))
        try:
            found = audit.audit(store.read_results(folder), folder)
        except MismatchError as error:
            return _which(RECORD_GATES, str(error))
    return _which(RECORD_GATES, found.altered or "")


def _document(design: Design, frozen: freeze.Freeze) -> Record:
    records = Records(design.as_dict())
    parts = {"cells": records.cells, "checkpoints": records.checkpoints, "stationarity": records.stationarity}
    versions = environment.versions()
    run = {
        "seconds": 1.0,
        "sources_sha256": environment.source_hash(),
        "program": {"version": versions["thermokernels"]},
        "environment": {"python": versions["python"], "packages": versions},
    }
    judged = verdicts.judge(records.design, *parts.values())
    head = {"design": design.as_dict(), "design_sha256": design.digest(), "status": "complete", "halt": None}
    return {**head, "verdicts": judged, **parts, "run": run, "freeze": frozen.as_dict()}


def _resealed(document: Record) -> Record:
    """All hashes computed anew, as by somebody who knows how."""
    document["records_sha256"] = store.digest({key: document[key] for key in store.HASHED})
    return document | {"document_sha256": store.digest({key: value for key, value in document.items() if key != "document_sha256"})}


def _set(path: str, value: Any, resealed: bool = False) -> Callable[[Path, Record], Record]:
    def alter(_: Path, document: Record) -> Record:
        *parents, key = (int(part) if part.isdigit() else part for part in path.split("/"))
        node: Any = document
        for parent in parents:
            node = node[parent]
        node[key] = value
        return _resealed(document) if resealed else document

    return alter


def _without_a_cell(resealed: bool) -> Callable[[Path, Record], Record]:
    def alter(_: Path, document: Record) -> Record:
        document["cells"].pop()
        return _resealed(document) if resealed else document

    return alter


def _loosened(_: Path, document: Record) -> Record:
    """A threshold changed, with the hash of the design and all others computed anew."""
    document["design"]["thresholds"]["mass"] = 0.001
    return _resealed(document | {"design_sha256": store.digest(document["design"])})


def _other_arrays(folder: Path, _: Record) -> None:
    content = store.arrays_as_bytes({"m4/s2/half/code1/W": np.full((4, 4), 1.0 + 1e-16), "m4/s2/kl": np.zeros(3)})
    (folder / store.ARRAYS).write_bytes(content)


def _records() -> list[Case]:
    new = "and all hashes computed anew"
    breaks: list[tuple[str, str, Callable[[Path, Record], Record | None]]] = [
        ("records_sha256", "one number of a cell changed", _set("cells/0/q/value", 1.25)),
        ("records_sha256", "a cell removed", _without_a_cell(False)),
        ("records_sha256", "a verdict changed", _set("verdicts/P2/verdict", "FAIL")),
        ("records_sha256", "a threshold of the design changed", _set("design/thresholds/mass", 0.001)),
        ("document_sha256", "the time of the run changed", _set("run/seconds", 2.0)),
        ("design_sha256", f"a threshold of the design changed {new} but the design's", _set("design/thresholds/mass", 0.001, True)),
        ("arrays.sha256 and every array's own", "one array changed", _other_arrays),
        ("verdicts as judged again", f"a verdict changed {new}", _set("verdicts/P2/verdict", "FAIL", True)),
        ("verdicts as judged again", f"a cell removed {new}", _without_a_cell(True)),
        ("verdicts as judged again", f"a number beyond its gate {new}", _set("cells/0/battery/reversibility", 1.0, True)),
        ("the design is the frozen one", f"a threshold of the design changed {new}", _loosened),
        ("the sources are the frozen ones", f"the hash of the run's sources changed {new}", _set("run/sources_sha256", "0" * 64, True)),
        (
            "the versions are the frozen ones",
            f"the run's version of numpy changed {new}",
            _set("run/environment/packages/numpy", "0", True),
        ),
        ("freeze.sha256", f"the amendment unmarked {new}", _set("freeze/amended", False, True)),
    ]
    return [Case(f"record: {gate}", words, _audit, partial(_audit, alter)) for gate, words, alter in breaks]


# A freeze, and what runs against it.


def _read(alter: Callable[[list[Record]], list[Record]] = lambda chain: chain) -> Spoken:
    with tempfile.TemporaryDirectory() as name:
        first = freeze.freeze(replace(Design(), seed=1), Path(name, "first.json"))
        second = freeze.amend(first, Design(), Path(name, "second.json"), reason="the registered seed", seen="nothing")
        document = {"schema": freeze.SCHEMA, "schema_version": freeze.SCHEMA_VERSION, "chain": alter(copy.deepcopy([*second.chain]))}
        Path(name, "altered.json").write_text(json.dumps(document))
        try:
            freeze.read(Path(name, "altered.json"))
        except MismatchError as error:
            return _which(CHAIN_GATES, str(error))
    return {}


def _link(number: int, resealed: bool, **changes: Any) -> Callable[[list[Record]], list[Record]]:
    def alter(chain: list[Record]) -> list[Record]:
        chain[number] |= changes
        if resealed:
            chain[number]["sha256"] = store.digest({key: value for key, value in chain[number].items() if key != "sha256"})
        return chain

    return alter


def _start(part: str, change: bool) -> Spoken:
    """Require a freeze of the registered design, with one part of what runs changed."""
    changed = {"sources": {"thermokernels/model/chain.py": "0" * 64}, "versions": {"numpy": "0"}}.get(part, {}) if change else {}
    with tempfile.TemporaryDirectory() as name:
        frozen = freeze.freeze(Design(), Path(name, "freeze.json"))
        state = {key: {**getattr(environment, key)(), **(changed if key == part else {})} for key in ("sources", "versions")}
        with patched(environment, "sources", lambda: state["sources"]), patched(environment, "versions", lambda: state["versions"]):
            try:
                frozen.require(replace(Design(), seed=1) if change and part == "design" else Design())
            except MismatchError as error:
                return {must_match(part): str(error)} if f" {part}." in str(error) else {}
    return {}


def _overwrite(design: Design) -> Spoken:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "freeze.json")
        freeze.freeze(Design(), path)
        content = path.read_bytes()
        try:
            freeze.freeze(design, path)
        except ValueError as error:
            return {OVERWRITTEN: str(error)} if path.read_bytes() == content else {}
    return {}


def cases() -> list[Case]:
    """Every hash, chain and verdict of a record, every check of a freeze, and every part that has to match before a run."""
    chains = [
        ("sha256", "the reason of an amendment changed", _link(1, False, reason="a better one")),
        ("parent_sha256", "an amendment taken out of its chain", lambda chain: chain[1:]),
        (
            "parent_sha256",
            "the first freeze changed and its own digest computed anew",
            _link(0, True, must_match=[*freeze.MUST_MATCH], seen=None, versions={}),
        ),
        ("design_sha256", "the design of a link changed and the link's digest computed anew", _link(1, True, design={"seed": 1})),
        ("must_match", "the versions no longer have to match, the digest computed anew", _link(1, True, must_match=["design", "sources"])),
        ("reason and seen", "what had been seen in words of one's own, the digest computed anew", _link(1, True, seen="hardly anything")),
    ]
    made = [*_records(), *(Case(f"freeze: {gate}", words, _read, partial(_read, alter)) for gate, words, alter in chains)]
    words = {"design": "another seed", "sources": "one kernel source changed", "versions": "another numpy"}
    made += [Case(must_match(part), words[part], partial(_start, part, False), partial(_start, part, True)) for part in freeze.MUST_MATCH]
    other = replace(Design(), seed=1)
    return [*made, Case(OVERWRITTEN, "another design frozen to the same file", partial(_overwrite, Design()), partial(_overwrite, other))]
