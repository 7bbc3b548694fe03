"""What is left of a run: its document, its arrays, and the exit code that follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.records import store
from thermokernels_app.experiment.records.environment import environment, source_hash
from thermokernels_app.experiment.records.journal import remove_leftover
from thermokernels_app.experiment.records.store import Arrays, Record
from thermokernels_app.experiment.running.campaign import Campaign
from thermokernels_app.experiment.running.tasks import Task

# How a run ended, with the exit code of the command line; a complete run takes its code from the verdicts.
STATUSES = {"complete": 0, "halted": 11, "stopped": 12, "interrupted": 130}


@dataclass(frozen=True)
class Run:
    """What a run left: the document of results.json, the arrays of arrays.npz, and the folder they are in (None: kept in memory)."""

    document: Record
    arrays: Arrays = field(repr=False)
    folder: Path | None

    @property
    def verdicts(self) -> dict[str, str]:
        """PASS, FAIL or HALT of P1 to P4."""
        return {name: verdict["verdict"] for name, verdict in self.document["verdicts"].items()}

    @property
    def exit_code(self) -> int:
        """The exit code of the command line for this run."""
        return exit_code(self.document)


def exit_code(document: Record) -> int:
    """0 where every verdict is PASS, 10 with a FAIL, 11 with a HALT, 12 stopped by the cap, 130 interrupted."""
    if document["status"] != "complete":
        return STATUSES[document["status"]]
    verdicts = {verdict["verdict"] for verdict in document["verdicts"].values()}
    if "HALT" in verdicts or not verdicts:
        return 11
    return 10 if "FAIL" in verdicts else 0


def complete_run(folder: Path | None, design: Design, freeze_sha256: str | None = None) -> Run | None:
    """The complete run of this design and freeze in a folder, or None; what is damaged there is for the journal to judge."""
    if folder is None or not (folder / store.RESULTS).exists():
        return None
    try:
        document = store.read_results(folder)
        if document["design_sha256"] != design.digest() or document["status"] != "complete":
            return None
        if (document["freeze"]["sha256"] if document["freeze"] else None) != freeze_sha256:
            return None
        arrays = store.read_arrays(folder)
    except ValueError:
        return None
    remove_leftover(folder)
    return Run(document, arrays, folder)


def document_of(campaign: Campaign) -> Record:
    """Everything of results.json that the design determines, verdicts included, in the order of the grid, and what was frozen."""
    from thermokernels_app.judges import verdicts

    def records(tasks: list[Task]) -> list[Record]:
        known = campaign.lost | {name: finished.record for name, finished in campaign.finished.items()}
        return [known[task.name] for task in tasks if task.name in known]

    cells, checkpoints = records(campaign.cell_tasks), records(campaign.checkpoint_tasks)
    order = [task.key for task in campaign.trainings]
    stationarity = records(sorted(campaign.polish_tasks, key=lambda task: (order.index(task.key[:2]), task.key[2])))
    design = campaign.design.as_dict()
    return {
        "design": design,
        "design_sha256": campaign.design.digest(),
        "status": campaign.status,
        "halt": campaign.halt,
        "verdicts": verdicts.judge(design, cells, checkpoints, stationarity),
        "stationarity": stationarity,
        "checkpoints": checkpoints,
        "cells": cells,
        "freeze": campaign.freeze.as_dict() if campaign.freeze else None,
    }


def arrays_of(campaign: Campaign) -> Arrays:
    """The arrays of every finished task, named ``m4/s2/half/code1/W`` and so on."""
    named: Arrays = {}
    for task in (*campaign.trainings, *campaign.cell_tasks):
        if task.name in campaign.finished:
            m, split, *rest = task.key
            place = "/".join([f"m{m}", f"s{split}", *(part if isinstance(part, str) else f"code{part}" for part in rest)])
            named |= {f"{place}/{name}": array for name, array in campaign.finished[task.name].arrays.items()}
    return named


def circumstances_of(campaign: Campaign, workers: int | None) -> Record:
    """What changes between two runs of one design: times, machine, versions, what had to be tried twice."""
    compile_seconds = {key: value for key, value in campaign.seconds_by_function.items() if key.startswith("compile")}
    return {
        "program": {"name": "thermokernels", "version": version("thermokernels")},
        "sources_sha256": source_hash(),
        "started": campaign.started.isoformat(timespec="seconds"),
        "seconds": campaign.seconds,
        "compile_seconds": max(compile_seconds.values(), default=0.0),
        "task_seconds": {key: value for key, value in sorted(campaign.seconds_by_function.items()) if key not in compile_seconds},
        "cap_seconds": campaign.cap_seconds,
        "tasks_resumed": campaign.resumed,
        "retries": [{"task": task, "reason": reason} for task, reason in campaign.retried.items()],
        "workers": workers,
        "executor": type(campaign.pool).__name__,
        "projection": campaign.projection,
        "environment": environment(),
    }
