"""Run the factorization: a network is one task, finished networks are kept, and the records are judged at the end."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor, as_completed
from pathlib import Path
from typing import Any

from thermokernels.common.atomic_file import replacing
from thermokernels_app.experiment.factorization_design import FactorizationDesign
from thermokernels_app.experiment.records import store, strict_json
from thermokernels_app.experiment.records.environment import available_cores, environment, source_hash
from thermokernels_app.experiment.records.store import MismatchError, Record
from thermokernels_app.experiment.running.pool import WorkerPool
from thermokernels_app.experiment.running.progress import Progress
from thermokernels_app.judges.verdicts import p5_factorization

SCHEMA = "thermokernels-factorization"
FILE = "factorization.json"


def run(
    design: FactorizationDesign,
    folder: Path,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Record:
    """The document of a run, which is kept in ``folder`` as factorization.json; finished networks are kept there while it runs.

    Raises
    ------
    ValueError
        The folder holds a run already, or with ``resume`` one of another design or program.
    """
    from thermokernels_app.experiment import factorization_cell

    folder.mkdir(parents=True, exist_ok=True)
    if not resume and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; a run is never overwritten: use --resume, or another folder")
    if resume and (folder / FILE).exists():
        document = read(folder)
        if document["design_sha256"] != design.digest():
            raise ValueError(f"{folder} holds a run of another design; use another folder")
        return document
    start, table, identity = time.monotonic(), design.as_dict(), {"design_sha256": design.digest(), "sources_sha256": source_hash()}
    places = [(m, split) for m in sorted(design.base.grid.m, reverse=True) for split in design.base.grid.split]
    finished = {place: records for place in places if (records := _kept(folder, place, identity)) is not None}
    waiting = [place for place in places if place not in finished]
    pool = executor or WorkerPool(workers or available_cores())
    try:
        futures = {pool.submit(factorization_cell.network_records, table, *place): place for place in waiting}
        for future in as_completed(futures):
            place = futures[future]
            finished[place] = [store.plain(record) for record in future.result()]
            text = json.dumps({**identity, "cells": finished[place]}, allow_nan=False)
            _write(folder / _name(place), text)
            if progress:
                words = f"{len(finished)} of {len(places)} networks"
                progress(Progress(len(finished) / len(places), time.monotonic() - start, words))
    except BaseException:
        if isinstance(pool, WorkerPool):
            pool.kill()  # nobody waits for what an interrupted run still has under way
        raise
    if isinstance(pool, WorkerPool):
        pool.shutdown()
    cells = [record for place in sorted(finished) for record in finished[place]]
    document = {
        "schema": SCHEMA,
        "design": table,
        "design_sha256": identity["design_sha256"],
        "verdicts": store.plain(p5_factorization.judge(table, cells)),
        "cells": cells,
        "run": {"seconds": time.monotonic() - start, "sources_sha256": identity["sources_sha256"], "environment": environment()},
    }
    document = dict(store.plain(document))
    document["records_sha256"] = store.digest({key: document[key] for key in ("design", "verdicts", "cells")})
    _write(folder / FILE, json.dumps(document, indent=1, allow_nan=False) + "\n")
    for place in places:
        (folder / _name(place)).unlink(missing_ok=True)
    return document


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def _name(place: tuple[int, int]) -> str:
    return "network-m{}-s{}.json".format(*place)


def _kept(folder: Path, place: tuple[int, int], identity: Record) -> list[Record] | None:
    """The records of a network that an interrupted run of the same design and program has finished, or None."""
    try:
        kept = strict_json.loads((folder / _name(place)).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise ValueError(f"{folder / _name(place)} cannot be read; remove it to have that network computed again") from None
    if not isinstance(kept, dict) or any(kept.get(key) != value for key, value in identity.items()):
        raise ValueError(f"{folder / _name(place)} is of another design or program; use another folder")
    cells: list[Record] = kept["cells"]
    return cells


def read(folder: Path) -> Record:
    """The document of a run, judged again from its records; MismatchError where it is not what the run wrote."""
    file = folder / FILE if folder.is_dir() else folder
    try:
        document = strict_json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"{file} holds no run of the factorization")
    try:
        parts = {key: document[key] for key in ("design", "verdicts", "cells")}
        if store.digest(parts) != document["records_sha256"] or store.digest(document["design"]) != document["design_sha256"]:
            raise MismatchError(f"{file} was changed after the run: its records do not match records_sha256")
    except KeyError as error:
        raise ValueError(f"{file} lacks {error}; it is not complete") from None
    if store.plain(p5_factorization.judge(document["design"], document["cells"])) != document["verdicts"]:
        raise MismatchError(f"{file}: its records give other verdicts than it holds")
    result: Record = document
    return result


def exit_code(document: Record) -> int:
    """0 PASS, 10 FAIL, 11 HALT."""
    return {"PASS": 0, "FAIL": 10}.get(document["verdicts"]["P5"]["verdict"], 11)


def summary(document: Record) -> list[dict[str, Any]]:
    """A row a window and burn-in: the range of Q_op / Q_limit and of Q_op / Q_struct over all cells and starts, and how often all holds."""
    limits = document["design"]["assumptions"]
    rows = []
    for window in document["design"]["windows"]:
        for times in document["design"]["burn_ins"]:
            chosen = [
                (cell, one)
                for cell in document["cells"]
                for one in cell.get("windows", ())
                if (one["window_sweeps"], one["burn_in_times"]) == (window, times)
            ]
            ratios = sorted(math.log(one["q_op"] / one["q_limit"]) for _, one in chosen)
            structural = sorted(math.log(one["q_op"] / one["q_struct"]) for _, one in chosen)
            held = sum(all(holds(cell, one, limits) for holds in p5_factorization.BEFOREHAND.values()) for cell, one in chosen)
            rows.append(
                {
                    "window_sweeps": window,
                    "burn_in_times": times,
                    "windows": len(chosen),
                    "held": held,
                    "q_op_over_q_limit": [math.exp(ratios[0]), math.exp(ratios[len(ratios) // 2]), math.exp(ratios[-1])],
                    "q_op_over_q_struct": [math.exp(structural[0]), math.exp(structural[len(structural) // 2]), math.exp(structural[-1])],
                }
            )
    return rows
