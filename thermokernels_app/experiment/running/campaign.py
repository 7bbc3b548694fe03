"""One run in progress: which tasks are under way, which are finished or lost, and what follows from each."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.freeze import Freeze
from thermokernels_app.experiment.records import store
from thermokernels_app.experiment.records.journal import Finished, Journal
from thermokernels_app.experiment.records.store import Record
from thermokernels_app.experiment.running import tasks
from thermokernels_app.experiment.running.pool import LimitError
from thermokernels_app.experiment.running.progress import Progress, Report
from thermokernels_app.experiment.running.tasks import Task

# The long ones first, which begin with different kernels: one that both need is compiled by the first and read by the second.
COMPILE = ("compile_measures", "compile_solves", "compile_training")


class _Halt(Exception):
    """A failed check or a number that could not be computed: the run stops here."""

    def __init__(self, where: str, check: str, detail: str) -> None:
        super().__init__(where, check, detail)
        self.record = {"where": where, "check": check, "detail": detail}


class _CapReached(Exception):
    """The wall clock's cap, or a projection beyond it."""


def _states(some: list[Task]) -> int:
    """All states of the models of some tasks: the cost of a cell is roughly in proportion, and the largest come first."""
    return sum(4 ** task.key[0] for task in some)


class Campaign:
    """One run: :meth:`begin` submits its first tasks, :meth:`take` draws the consequences of a finished one, until ``pending`` is empty.

    Parameters
    ----------
    design : Design
    journal : Journal or None
        Where finished tasks are kept and those of an earlier run are found.
    freeze : Freeze or None
        What was fixed before the run.
    cap : float or None
        Seconds on the wall clock where a run is gone on with under another cap than its design's.

    Attributes
    ----------
    progress : callable or None
        Told after every finished task.
    """

    def __init__(self, design: Design, journal: Journal | None, freeze: Freeze | None = None, cap: float | None = None) -> None:
        self.design, self.journal, self.freeze = design, journal, freeze
        self.cap_seconds = design.cap_seconds if cap is None else cap
        self.progress: Report | None = None
        grid = design.grid
        self.trainings = [Task("train", key) for key in product(grid.m, grid.split)]
        self.checkpoint_tasks = [Task("check", (*task.key, name)) for task in self.trainings for name in grid.checkpoints]
        self.cell_tasks = [Task("cell", (*task.key, code)) for task in self.checkpoint_tasks for code in grid.codes]
        self.polish_tasks: list[Task] = []
        self.finished: dict[str, Finished] = dict(journal.finished) if journal else {}
        self.resumed = len(self.finished)
        self.lost: dict[str, Record] = {}
        self.retried: dict[str, str] = {}
        self.status = "complete"
        self.halt: Record | None = None
        self.projection: Record | None = None
        self.pending: dict[Future[Any], tuple[Task, tuple[Any, ...]]] = {}
        self.waiting: list[tuple[Task, tuple[Any, ...]]] = []
        self.seconds_by_function: dict[str, float] = {}
        self.compiling = set(COMPILE)
        self.cells_to_do = [task for task in self.cell_tasks if task.name not in self.finished]
        self.cells_done: list[Task] = []
        self.started, self.start = datetime.now(UTC), time.monotonic()

    # What happens, in order of time.

    def begin(self, pool: Executor, done: Callable[[Future[Any]], None]) -> None:
        """Submit the first tasks; ``done`` is called with every future of this run when it is done, in whichever thread."""
        self.pool, self.done = pool, done
        # Groups of kernels are compiled side by side, each by one worker: no task that needs a group starts before it.
        for function in COMPILE:
            self._submit(Task(function))

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.start

    @property
    def seconds_left(self) -> float:
        """Until the cap."""
        return self.cap_seconds - self.seconds

    def take(self, future: Future[Any]) -> None:
        """Draw the consequences of a future that is done."""
        if future not in self.pending:  # cancelled when the run ended
            return
        task, arguments = self.pending.pop(future)
        try:
            self._take(task, arguments, future)
        except _Halt as halt:
            self.end("halted", halt.record)
        except _CapReached:
            self.end("stopped")

    def give_up_waiting(self, seconds: float) -> None:
        """Nothing has ended for so long: every task under way counts as lost with its worker."""
        hanging, self.pending = self.pending, {}
        for future, (task, arguments) in hanging.items():
            future.cancel()
            self._failed(task, arguments, f"no task ended within {seconds:g} s")

    def end(self, status: str, halt: Record | None = None) -> None:
        """Begin nothing more; ``status`` says why."""
        self.status, self.halt = status, halt
        pending, self.pending = self.pending, {}
        for future in pending:
            future.cancel()

    def conclude(self) -> None:
        """All that could be done is done: a run with lost tasks is halted, so that it can be resumed."""
        if self.status == "complete" and self.lost:
            first, *others = [task for task in self._tasks if task.name in self.lost]
            detail = self.lost[first.name]["halt"]["detail"] + (f"; and {len(others)} more tasks" if others else "")
            self.end("halted", {"where": first.where, "check": "worker", "detail": detail})

    @property
    def is_over(self) -> bool:
        """Whether it ended by itself."""
        return self.status != "complete" or all(task.name in self.finished or task.name in self.lost for task in self._tasks)

    @property
    def _tasks(self) -> list[Task]:
        return [*self.trainings, *self.checkpoint_tasks, *self.cell_tasks, *self.polish_tasks]

    def _submit(self, task: Task, *arguments: Any) -> None:
        future = tasks.submit(self.pool, task.function, self.design, *arguments)
        self.pending[future] = task, arguments
        future.add_done_callback(self.done)

    def _take(self, task: Task, arguments: tuple[Any, ...], future: Future[Any]) -> None:
        try:
            outcome = future.result()
        except BrokenExecutor as error:
            raise RuntimeError(f"the executor broke at {task.where} and takes no more tasks: {error}") from error
        except Exception as error:
            self._took_an_error(task, arguments, error)
            return
        if flaw := tasks.flaw(task, outcome):
            self._failed(task, arguments, flaw)
            return
        result, seconds = outcome
        self.seconds_by_function[task.function] = self.seconds_by_function.get(task.function, 0.0) + seconds
        if task.function in COMPILE:
            self._after_compiling(task.function)
            return
        record, arrays, *training = result
        finished = Finished(task.name, store.plain(record), arrays)
        self.finished[task.name] = finished
        if training:
            self._after_training(task, training[0])
        else:
            self._keep(task, finished)
        self._report()

    def _took_an_error(self, task: Task, arguments: tuple[Any, ...], error: Exception) -> None:
        from thermokernels.common.errors import ModelTooLargeError, NumericalError

        if isinstance(error, NumericalError):  # a missed tolerance
            raise _Halt(task.where, type(error).__name__, str(error)) from error
        if isinstance(error, ModelTooLargeError | tasks.VersionError):
            raise error
        if not tasks.is_the_workers_fault(error):
            raise RuntimeError(f"{task.where} failed: {type(error).__name__}: {error}") from error
        self._failed(task, arguments, str(error) or type(error).__name__, error)

    def _failed(self, task: Task, arguments: tuple[Any, ...], reason: str, error: Exception | None = None) -> None:
        """A worker died, hung or returned nonsense: try once more, then report the task as lost and let the others finish."""
        if task.name not in self.retried:
            self.retried[task.name] = reason
            self._submit(task, *arguments)
        elif task.function in COMPILE:
            if isinstance(error, LimitError):
                raise ValueError(
                    f"the task limit (--task-limit) of {error.limit:g} s is too short: compiling the kernels takes longer; give more, or "
                    "run `thermo warmup` first"
                )
            raise RuntimeError(
                f"{task.where} failed twice: {reason}; is there too little memory, or was run() called from a script without "
                '`if __name__ == "__main__":`?'
            )
        else:
            self._lose(task, reason)
            self._report()

    def _lose(self, task: Task, reason: str) -> None:
        if task.function == "train":
            for one in (*self.checkpoint_tasks, *self.cell_tasks):
                if one.key[:2] == task.key and one.name not in self.finished:
                    self._lose(one, f"its network was not trained: {reason}")
        self.lost[task.name] = task.lost_record(reason)
        if task.function == "cell":
            self.cells_done.append(task)

    def _after_compiling(self, function: str) -> None:
        self.compiling.discard(function)
        if function == "compile_training":
            # The largest models first: no long task is left for the end.
            for training in sorted(self.trainings, key=lambda training: training.key[0], reverse=True):
                self._submit(training, *training.key)
        if not self.compiling:
            for waiting, arguments in self.waiting:
                self._submit(waiting, *arguments)
            self.waiting.clear()

    def _after_training(self, task: Task, training: Any) -> None:
        """Submit what a trained network makes possible, but for what an earlier run already did."""
        kl = training.checkpoint("final").kl
        high = [code for code in self.design.grid.codes if kl[code - 1] > self.design.thresholds.final_kl]
        polish = [Task("polish", (*task.key, code)) for code in high]
        self.polish_tasks += polish
        small = replace(training, curve=training.curve[:0])
        follow: list[tuple[Task, tuple[Any, ...]]] = []
        for name in self.design.grid.checkpoints:
            follow.append((Task("check", (*task.key, name)), (small, name)))
            follow += [(Task("cell", (*task.key, name, code)), (small, name, code)) for code in self.design.grid.codes]
        follow += [(one, (small, one.key[-1])) for one in polish]
        for one, arguments in follow:
            if one.name in self.finished:
                continue
            if self.compiling:
                self.waiting.append((one, arguments))
            else:
                self._submit(one, *arguments)

    def _keep(self, task: Task, finished: Finished) -> None:
        if halt := finished.record.get("halt"):
            raise _Halt(task.where, halt["check"], halt["detail"])
        if self.journal:
            self.journal.append(finished)
        if task.function == "cell":
            self.cells_done.append(task)
            self._project()

    def _project(self) -> None:
        """Once, at the registered share of the cells: project the total time and decide."""
        done = len(self.cells_done)
        if self.projection is not None or done < self.design.projection_share * len(self.cells_to_do):
            return
        projected = self.seconds * _states(self.cells_to_do) / _states(self.cells_done)
        proceed = projected <= self.cap_seconds
        self.projection = {
            "cells_done": done,
            "cells": len(self.cells_to_do),
            "seconds": self.seconds,
            "projected_seconds": projected,
            "cap_seconds": self.cap_seconds,
            "decision": "PROCEED" if proceed else "STOP",
        }
        if not proceed:
            raise _CapReached

    def _report(self) -> None:
        if self.progress:
            share = _states(self.cells_done) / max(1, _states(self.cells_to_do))
            cells = len(self.cell_tasks) - len(self.cells_to_do) + len(self.cells_done)
            self.progress(Progress(share, self.seconds, f"{cells} of {len(self.cell_tasks)} cells"))
