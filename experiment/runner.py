"""Run a design: train the networks, compute every cell in a pool of processes, judge, and keep what is done whatever happens.

Nothing numerical is imported here, so that the first worker starts at once; the tasks are the functions of ``cell.py``, by name.
The records are assembled in the order of the grid: they are the same bits whatever the number of workers.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from thermokernels_app.experiment import store
from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.environment import available_cores, environment, source_hash
from thermokernels_app.experiment.store import Arrays, Finished, Journal, Record

# How a run ended, with the exit code of the command line; a complete run takes its code from the verdicts.
STATUSES = {"complete": 0, "halted": 11, "stopped": 12, "interrupted": 130}


@dataclass(frozen=True)
class Progress:
    """How far the work is: the share of it that is done, seconds since the start, and what is done in words."""

    share: float
    seconds: float
    description: str


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


def run(
    design: Design,
    out: Path | str | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Run a design from training to verdicts.

    Parameters
    ----------
    design : Design
    out : path-like, optional
        The folder for results.json and arrays.npz, made where it does not exist; None keeps everything in memory.
    workers : int, optional
        Processes of the pool, by default one for every core. They are spawned: a script that calls this needs the usual
        ``if __name__ == "__main__":``.
    executor : concurrent.futures.Executor, optional
        Runs the tasks instead of a pool of our own; it is not shut down.
    resume : bool
        Take the finished cells of an earlier run of the same design in ``out``; a complete run is returned as it is.
    progress : callable, optional
        Called with a :class:`Progress` after every finished task.

    Returns
    -------
    Run
        Also when the run was halted by a failed check, stopped by the cap or interrupted: ``document["status"]`` says which.

    Raises
    ------
    ValueError
        ``workers`` is not positive, or ``out`` holds something else; nothing is overwritten.
    RuntimeError
        A task failed for a reason that is no numerical one, or a worker process was killed.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from thermokernels_app.experiment.design import load_design
    >>> with ThreadPoolExecutor(2) as threads:  # doctest: +SKIP
    ...     run(load_design("smoke"), executor=threads).verdicts
    """
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers must be a positive integer; got {workers!r}")
    folder = None if out is None else Path(out)
    journal = None
    if folder is not None:
        if resume and (finished := _complete_run(folder, design)):
            return finished
        journal = Journal(folder, {"design_sha256": design.digest(), "sources_sha256": source_hash()}, resume=resume)
    count = workers or available_cores()
    campaign = _Campaign(design, journal, progress)
    try:
        with pool_of_processes(count) if executor is None else _one_blas_thread_for(executor) as pool:
            campaign.work(pool)
    except (_Halt, _CapReached, KeyboardInterrupt) as end:
        campaign.end(end)
    except BaseException:
        if journal:
            journal.close(complete=False)
        raise
    with _uninterrupted():
        document = campaign.document() | {"run": campaign.circumstances(None if executor else count)}
        arrays = campaign.arrays()
        if folder is None or journal is None:
            return Run(store.seal(document, store.arrays_as_bytes(arrays)), arrays, None)
        document = store.write_results(folder, document, arrays)
        journal.close(complete=document["status"] == "complete")
    return Run(document, arrays, folder)


def call(function: str, *arguments: Any) -> tuple[Any, float]:
    """Run one function of ``cell.py`` on one BLAS thread and return its result and its seconds: what a worker executes."""
    from thermokernels_app.experiment import cell

    start = time.perf_counter()
    with cell.one_blas_thread():
        result = getattr(cell, function)(*arguments)
    return result, time.perf_counter() - start


@contextmanager
def pool_of_processes(workers: int) -> Iterator[Executor]:
    """Spawned worker processes; what is not begun is dropped at the end, and an exception ends the workers at once."""
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_serve_the_parent)
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        # One that died inside a write leaves half a message; without our own end of the pipe its reader sees the end and stops waiting.
        with suppress(AttributeError, OSError):
            pool._result_queue._writer.close()  # type: ignore[attr-defined]
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_blas_thread_for(executor: Executor) -> Iterator[Executor]:
    """Where the tasks run in threads of this process, only the thread that entered first can limit BLAS, and only for all of them."""
    from thermokernels_app.experiment import cell

    with cell.one_blas_thread():
        yield executor


def _serve_the_parent() -> None:
    """Ctrl-C and SIGTERM reach the whole process group and only the parent answers; a worker whose parent is gone ends itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep what is done in peace: further signals to end are ignored (they can be set in the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _complete_run(folder: Path, design: Design) -> Run | None:
    if not (folder / store.RESULTS).exists():
        return None
    document = store.read_results(folder)
    if document["design_sha256"] != design.digest() or document["status"] != "complete":
        return None
    return Run(document, store.read_arrays(folder), folder)


@dataclass(frozen=True)
class _Task:
    """One call of a function of ``cell.py``; ``key`` is (m, split[, checkpoint[, code]])."""

    function: str
    key: tuple[Any, ...]

    @property
    def name(self) -> str:
        return "/".join(str(part) for part in (self.function, *self.key))

    @property
    def where(self) -> str:
        names = ("m", "split", "checkpoint", "code")
        return self.function + "".join(f", {name} {value}" for name, value in zip(names, self.key, strict=False))


def _states(tasks: list[_Task]) -> int:
    """All states of the models of some tasks: the cost of a cell is roughly in proportion, and the largest come first."""
    return sum(4 ** task.key[0] for task in tasks)


class _Halt(Exception):
    """A failed check or a number that could not be computed: the run stops here."""

    def __init__(self, where: str, check: str, detail: str) -> None:
        super().__init__(where, check, detail)
        self.record = {"where": where, "check": check, "detail": detail}


class _CapReached(Exception):
    """The wall clock's cap, or a projection beyond it."""


class _Campaign:
    """One run in progress: which tasks are under way, which are finished, and what follows from each."""

    def __init__(self, design: Design, journal: Journal | None, progress: Callable[[Progress], None] | None) -> None:
        self.design, self.journal, self.progress = design, journal, progress
        grid = design.grid
        self.trainings = [_Task("train", key) for key in product(grid.m, grid.split)]
        self.checkpoint_tasks = [_Task("check", (*task.key, name)) for task in self.trainings for name in grid.checkpoints]
        self.cell_tasks = [_Task("cell", (*task.key, code)) for task in self.checkpoint_tasks for code in grid.codes]
        self.polish_tasks: list[_Task] = []
        self.finished: dict[str, Finished] = dict(journal.finished) if journal else {}
        self.resumed = len(self.finished)
        self.status = "complete"
        self.halt: Record | None = None
        self.projection: Record | None = None
        self.pending: dict[Future[Any], _Task] = {}
        self.waiting: list[tuple[_Task, tuple[Any, ...]]] = []
        self.seconds_by_function: dict[str, float] = {}
        self.cells_compiled = False
        self.cells_to_do = [task for task in self.cell_tasks if task.name not in self.finished]
        self.cells_done: list[_Task] = []
        self.started, self.start = datetime.now(UTC), time.monotonic()

    # What happens, in order of time.

    def work(self, pool: Executor) -> None:
        """Run every task; raises where the run is to end before that."""
        self.pool = pool
        try:
            # The two groups of kernels are compiled side by side, each by one worker: no task that needs a group starts before it.
            for function in ("compile_training", "compile_cells"):
                self._submit(_Task(function, ()))
            while self.pending:
                left = self.design.cap_seconds - self._seconds()
                if left <= 0:
                    raise _CapReached
                done = wait(self.pending, timeout=min(left, 3600.0), return_when=FIRST_COMPLETED).done
                for future in [future for future in self.pending if future in done]:  # in the order of submission
                    self._take(future)
        finally:
            for future in self.pending:
                future.cancel()

    def end(self, reason: BaseException) -> None:
        """Record why the run ended before its last task."""
        if isinstance(reason, _Halt):
            self.status, self.halt = "halted", reason.record
        else:
            self.status = "stopped" if isinstance(reason, _CapReached) else "interrupted"

    def _submit(self, task: _Task, *arguments: Any) -> None:
        self.pending[self.pool.submit(call, task.function, self.design, *arguments)] = task

    def _take(self, future: Future[Any]) -> None:
        task = self.pending.pop(future)
        try:
            result, seconds = future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                'a worker process ended abruptly: too little memory, or run() was called from a script without `if __name__ == "__main__":`'
            ) from error
        except Exception as error:
            from thermokernels.errors import ModelTooLargeError, NumericalError

            if isinstance(error, NumericalError):  # a missed tolerance
                raise _Halt(task.where, type(error).__name__, str(error)) from error
            if isinstance(error, ModelTooLargeError):
                raise
            raise RuntimeError(f"{task.where} failed: {type(error).__name__}: {error}") from error
        self.seconds_by_function[task.function] = self.seconds_by_function.get(task.function, 0.0) + seconds
        if task.function == "compile_training":
            # The largest models first: no long task is left for the end.
            for training in sorted(self.trainings, key=lambda training: training.key[0], reverse=True):
                self._submit(training, *training.key)
            return
        if task.function == "compile_cells":
            self.cells_compiled = True
            for waiting, arguments in self.waiting:
                self._submit(waiting, *arguments)
            self.waiting.clear()
            return
        record, arrays, *training = result
        finished = Finished(task.name, store.plain(record), arrays)
        self.finished[task.name] = finished
        if task.function == "train":
            self._after_training(task, training[0])
        else:
            self._keep(task, finished)
        self._report()

    def _after_training(self, task: _Task, training: Any) -> None:
        """Submit what a trained network makes possible, but for what an earlier run already did."""
        kl = training.checkpoint("final").kl
        high = [code for code in self.design.grid.codes if kl[code - 1] > self.design.thresholds.final_kl]
        polish = [_Task("polish", (*task.key, code)) for code in high]
        self.polish_tasks += polish
        small = replace(training, curve=training.curve[:0])
        follow: list[tuple[_Task, tuple[Any, ...]]] = []
        for name in self.design.grid.checkpoints:
            follow.append((_Task("check", (*task.key, name)), (small, name)))
            follow += [(_Task("cell", (*task.key, name, code)), (small, name, code)) for code in self.design.grid.codes]
        follow += [(one, (small, one.key[-1])) for one in polish]
        for one, arguments in follow:
            if one.name in self.finished:
                continue
            if self.cells_compiled:
                self._submit(one, *arguments)
            else:
                self.waiting.append((one, arguments))

    def _keep(self, task: _Task, finished: Finished) -> None:
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
        projected = self._seconds() * _states(self.cells_to_do) / _states(self.cells_done)
        proceed = projected <= self.design.cap_seconds
        self.projection = {
            "cells_done": done,
            "cells": len(self.cells_to_do),
            "seconds": self._seconds(),
            "projected_seconds": projected,
            "cap_seconds": self.design.cap_seconds,
            "decision": "PROCEED" if proceed else "STOP",
        }
        if not proceed:
            raise _CapReached

    def _report(self) -> None:
        if self.progress:
            share = _states(self.cells_done) / max(1, _states(self.cells_to_do))
            cells = len(self.cell_tasks) - len(self.cells_to_do) + len(self.cells_done)
            self.progress(Progress(share, self._seconds(), f"{cells} of {len(self.cell_tasks)} cells"))

    def _seconds(self) -> float:
        return time.monotonic() - self.start

    # What is left of it, in the order of the grid.

    def document(self) -> Record:
        """Everything of results.json that the design determines, verdicts included."""
        from thermokernels_app.validation import verdicts

        cells, checkpoints = self._records(self.cell_tasks), self._records(self.checkpoint_tasks)
        order = [task.key for task in self.trainings]
        stationarity = self._records(sorted(self.polish_tasks, key=lambda task: (order.index(task.key[:2]), task.key[2])))
        design = self.design.as_dict()
        return {
            "design": design,
            "design_sha256": self.design.digest(),
            "status": self.status,
            "halt": self.halt,
            "verdicts": verdicts.judge(design, cells, checkpoints, stationarity),
            "stationarity": stationarity,
            "checkpoints": checkpoints,
            "cells": cells,
        }

    def arrays(self) -> Arrays:
        """The arrays of every finished task, named ``m4/s2/half/code1/W`` and so on."""
        named: Arrays = {}
        for task in (*self.trainings, *self.cell_tasks):
            if task.name in self.finished:
                m, split, *rest = task.key
                place = "/".join([f"m{m}", f"s{split}", *(part if isinstance(part, str) else f"code{part}" for part in rest)])
                named |= {f"{place}/{name}": array for name, array in self.finished[task.name].arrays.items()}
        return named

    def circumstances(self, workers: int | None) -> Record:
        """What changes between two runs of one design: times, machine, versions."""
        compile_seconds = {key: value for key, value in self.seconds_by_function.items() if key.startswith("compile")}
        return {
            "program": {"name": "thermokernels", "version": version("thermokernels")},
            "sources_sha256": source_hash(),
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": self._seconds(),
            "compile_seconds": max(compile_seconds.values(), default=0.0),
            "task_seconds": {key: value for key, value in sorted(self.seconds_by_function.items()) if key not in compile_seconds},
            "tasks_resumed": self.resumed,
            "workers": workers,
            "projection": self.projection,
            "environment": environment(),
        }

    def _records(self, tasks: list[_Task]) -> list[Record]:
        return [self.finished[task.name].record for task in tasks if task.name in self.finished]
