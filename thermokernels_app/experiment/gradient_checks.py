"""The gradient checks of ``thermo verify-gradients``: train what is needed, run all legs, and set every error beside its gate."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import as_completed
from itertools import product
from typing import Any

from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.records import store
from thermokernels_app.experiment.records.environment import available_cores
from thermokernels_app.experiment.records.store import Record
from thermokernels_app.experiment.running import tasks
from thermokernels_app.experiment.running.pool import WorkerPool
from thermokernels_app.experiment.running.progress import Progress
from thermokernels_app.judges import automatic_differentiation


def verify(
    design: Design, *, every: bool = False, workers: int | None = None, progress: Callable[[Progress], None] | None = None
) -> Record:
    """Check the adjoints at the anchor, or at every checkpoint of the grid.

    Parameters
    ----------
    design : Design
    every : bool
        All (m, split, checkpoint) of the grid instead of the anchor alone.
    workers : int, optional
        Processes of the pool, by default one for every core.
    progress : callable, optional
        Called with a :class:`~thermokernels_app.experiment.running.progress.Progress` after every training and every check.

    Returns
    -------
    dict
        Plain JSON: ``verdict`` ("PASS" or "FAIL"), ``jax`` (whether that leg ran), ``legs`` with the verdict on each leg, and
        ``checks``, one a checkpoint, each with a verdict and ``rows`` of direction, leg, adjoint, best_step, error, gate and met.
    """
    grid, anchor = design.grid, design.anchor
    places = [*product(grid.m, grid.split, grid.checkpoints)] if every else [(anchor.m, anchor.split, anchor.checkpoint)]
    models = sorted({place[:2] for place in places}, reverse=True)
    with_automatic = automatic_differentiation.available()
    start, done, total = time.monotonic(), 0, len(models) + len(places)
    records: dict[tuple[Any, ...], Record] = {}

    def report() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(Progress(done / total, time.monotonic() - start, f"{len(records)} of {len(places)} checkpoints"))

    with WorkerPool(min(workers or available_cores(), len(places))) as pool:
        checks = {}
        for training in as_completed([tasks.submit(pool, "train", design, *model) for model in models]):
            _, _, trained = training.result()[0]
            for place in places:
                if place[:2] == (trained.m, trained.split):
                    checks[tasks.submit(pool, "gradient_check", design, trained, place[2], True, with_automatic)] = place
            report()
        for check in as_completed(checks):
            records[checks[check]] = store.plain(check.result()[0])
            report()
    judged = [_judge(design, place, records[place]) for place in places]
    return {
        "design_sha256": design.digest(),
        "verdict": "PASS" if all(check["verdict"] == "PASS" for check in judged) else "FAIL",
        "jax": with_automatic,
        "legs": _legs(judged),
        "checks": judged,
    }


def _judge(design: Design, place: tuple[Any, ...], record: Record) -> Record:
    """The record of one check as rows with gates; a number that is missing meets none."""
    gates = design.thresholds
    rows = [_row(None, "kernel value against the dense reference", None, None, record["value_error"], gates.value)]
    notes = []
    for entry in record["directions"]:
        index, adjoint = entry["index"] + 1, entry["adjoint"]
        rows.append(_row(index, "central differences", adjoint, entry["best_step"], entry["difference_error"], gates.difference))
        rows.append(_row(index, "complex step", adjoint, None, entry["complex_error"], gates.complex))
        if entry["automatic_error"] is not None:
            rows.append(_row(index, "automatic (JAX)", adjoint, None, entry["automatic_error"], gates.complex))
        if entry["difference_note"]:
            notes.append(f"direction {index}, central differences: {entry['difference_note']}")
    verdict = "PASS" if all(row["met"] for row in rows) else "FAIL"
    return {"m": place[0], "split": place[1], "checkpoint": place[2], "verdict": verdict, "rows": rows, "notes": notes}


def _legs(checks: list[Record]) -> list[Record]:
    """Every leg over all checkpoints: its largest error beside its gate."""
    rows = [row for check in checks for row in check["rows"]]
    legs = []
    for leg in dict.fromkeys(row["leg"] for row in rows):
        own = [row for row in rows if row["leg"] == leg]
        errors = [row["error"] for row in own]
        verdict = "PASS" if all(row["met"] for row in own) else "FAIL"
        largest = None if None in errors else max(errors)
        legs.append({"leg": leg, "verdict": verdict, "max_error": largest, "gate": own[0]["gate"], "rows": len(own)})
    return legs


def _row(direction: int | None, leg: str, adjoint: float | None, step: float | None, error: float | None, gate: float) -> Record:
    met = error is not None and error <= gate
    return {"direction": direction, "leg": leg, "adjoint": adjoint, "best_step": step, "error": error, "gate": gate, "met": met}
