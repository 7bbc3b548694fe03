"""The options that say where the tasks of a command are done, and the executor that they stand for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from thermokernels_app.commands.console import MOST_WORKERS

if TYPE_CHECKING:
    from concurrent.futures import Executor


class Kind(StrEnum):
    """Where tasks are done."""

    processes = "processes"
    dask = "dask"


ExecutorKind = Annotated[Kind, typer.Option("--executor", help="`processes` of this machine, or `dask`: the workers of a Dask scheduler.")]
WorkersForThreads = Annotated[
    int | None,
    typer.Option("--workers", "-w", min=1, max=MOST_WORKERS, help="Work in so many processes of this machine, not in threads of this one."),
]
Scheduler = Annotated[str | None, typer.Option("--scheduler", help="Address of the Dask scheduler, such as tcp://10.0.0.1:8786.")]


def pool_of(kind: Kind, scheduler: str | None, workers: int | None) -> AbstractContextManager[Executor | None]:
    """The executor of a computation in this process: None for its threads, or a pool of so many worker processes."""
    chosen = executor_of(kind, scheduler, workers)
    if workers is None:
        return chosen
    from thermokernels_app.experiment.running.pool import WorkerPool

    return WorkerPool(workers)


def executor_of(kind: Kind, scheduler: str | None, workers: int | None) -> AbstractContextManager[Executor | None]:
    """None for processes of this machine, which are the command's own business."""
    if kind is Kind.processes:
        if scheduler is not None:
            raise ValueError("--scheduler goes with --executor dask")
        return nullcontext()
    if scheduler is None:
        raise ValueError("--executor dask needs --scheduler with the address of a Dask scheduler, such as tcp://10.0.0.1:8786")
    if workers is not None:
        raise ValueError("--workers goes with --executor processes; a Dask scheduler has workers of its own")
    from thermokernels_app.experiment.running.cluster import dask_executor

    return dask_executor(scheduler)
