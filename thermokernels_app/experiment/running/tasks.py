"""What a worker is asked to do, and whether what it hands back can be believed.

A task is one call of a function of ``cell.py``, by name, so that nothing numerical is imported before a worker does it.
"""

from __future__ import annotations

import gc
import json
import math
import pickle
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

import numpy as np

from thermokernels.common.arguments import shortened
from thermokernels_app.experiment.records import store
from thermokernels_app.experiment.records.environment import source_hash
from thermokernels_app.experiment.records.store import Record
from thermokernels_app.experiment.running.pool import WorkerError

# What the key of a task means, and the arrays and sections that its result has at least.
KEYS = {
    "train": ("m", "split"),
    "check": ("m", "split", "checkpoint"),
    "cell": ("m", "split", "checkpoint", "code"),
    "polish": ("m", "split", "code"),
}
ARRAYS = {"train": {"kl"}, "cell": {"W", "dq_dw", "dq_dphi", "spectrum_gaps", "spectrum_weights"}}
SECTIONS = {
    "check": {"min_coupling_distance", "gradient_check"},
    "cell": {"status", "training", "q", "gradient", "network", "spectrum", "landscape", "battery"},
    "polish": {"polished_kl", "gradient_norm", "stationary"},
}

_PROCESS = uuid4().hex


class VersionError(ValueError):
    """A worker has other sources than the process that sent it a task: its numbers might be others."""


@dataclass(frozen=True)
class Task:
    """One call of a function of ``cell.py``; ``key`` is what ``KEYS`` says."""

    function: str
    key: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """What the journal calls it."""
        return "/".join(str(part) for part in (self.function, *self.key))

    @property
    def place(self) -> Record:
        """m, split and so on, the first keys of its record."""
        return dict(zip(KEYS.get(self.function, ()), self.key, strict=True))

    @property
    def where(self) -> str:
        """What a reader calls it."""
        return self.function + "".join(f", {name} {value}" for name, value in self.place.items())

    def lost_record(self, reason: str) -> Record:
        """What stands in its place when no worker could do it."""
        numbers = {"check": ("min_coupling_distance",), "polish": ("polished_kl", "gradient_norm")}.get(self.function, ())
        missing = {key: value for number in numbers for key, value in ((number, None), (f"{number}_reason", reason))}
        status = {"status": "halted"} if self.function == "cell" else {}
        return self.place | status | {"halt": {"check": "worker", "detail": reason}} | missing


def submit(executor: Executor, function: str, *arguments: Any) -> Future[Any]:
    """Have one function of ``cell.py`` called somewhere; the future's result is the function's and its seconds."""
    return executor.submit(call, function, _PROCESS, source_hash(), *arguments)


def call(function: str, sender: str, sources: str, *arguments: Any) -> tuple[Any, float]:
    """What a worker executes: one function of ``cell.py``, on one thread, its own and BLAS's."""
    if sources != source_hash():
        raise VersionError("a worker runs another version of thermokernels than this process; install the same one everywhere")
    from thermokernels.common import threads
    from thermokernels_app.experiment import cell

    if sender != _PROCESS:
        _one_blas_thread_from_now_on()
    start = time.perf_counter()
    with threads.serial(), collecting_rarely() if function.startswith("compile_") else nullcontext():
        result = getattr(cell, function)(*arguments)
    return result, time.perf_counter() - start


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """A compiler makes millions of objects that stay: to look for garbage after every few hundred takes a tenth of its time."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@cache
def _one_blas_thread_from_now_on() -> object:
    """In a worker, once and for good: tasks in several threads of it would undo each other's limit."""
    from thermokernels_app.experiment import cell

    limit = cell.one_blas_thread()
    limit.__enter__()
    return limit  # kept by the cache: one that nobody holds would be undone at once


@contextmanager
def one_blas_thread_here() -> Iterator[None]:
    """Where the tasks may run in threads of this process, whoever sends them limits BLAS for all of them and as long as they run."""
    from thermokernels_app.experiment import cell

    with cell.one_blas_thread():
        yield


def is_the_workers_fault(error: BaseException) -> bool:
    """Whether a task failed for a reason that lies in its worker or the way to it, and may succeed elsewhere."""
    if isinstance(error, BrokenExecutor):  # a pool that is not ours and takes no more tasks
        return False
    ours = (WorkerError, CancelledError, MemoryError, OSError, EOFError, pickle.PickleError)
    return isinstance(error, ours) or type(error).__module__.partition(".")[0] == "distributed"


def flaw(task: Task, outcome: Any) -> str | None:
    """What is wrong with what a worker returned for a task, in words; None where it can be believed."""
    match outcome:
        case (result, float(seconds)) if math.isfinite(seconds) and seconds >= 0:
            pass
        case _:
            return f"it returned {_shown(outcome)} and no result with its seconds"
    if not task.key:
        return None if result is None else f"it returned {_shown(result)} where nothing is expected"
    if not isinstance(result, tuple) or len(result) != (3 if task.function == "train" else 2):
        return f"it returned {_shown(result)} and no record with its arrays"
    record, arrays, *training = result
    if not isinstance(record, dict) or any(record.get(name) != value for name, value in task.place.items()):
        return f"its record is {_shown(record)} and not that of {task.where}"
    if training and (getattr(training[0], "m", None), getattr(training[0], "split", None)) != task.key:
        return f"its network is {_shown(training[0])} and not that of {task.where}"
    if not isinstance(arrays, dict) or not all(isinstance(array, np.ndarray) and array.dtype.kind in "fiub" for array in arrays.values()):
        return f"its arrays are {_shown(arrays)}"
    try:
        json.dumps(store.plain(record), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return "its record cannot be written as JSON"
    return _flaw_of_contents(task, record, arrays)


def _flaw_of_contents(task: Task, record: Record, arrays: Mapping[str, Any]) -> str | None:
    """A record that halted says why; any other is whole, a cell's with finite numbers only (elsewhere they become null with a reason)."""
    halt = record.get("halt")
    if halt is not None:
        return None if isinstance(halt, dict) and {"check", "detail"} <= halt.keys() else f"its halt is {_shown(halt)}"
    if missing := SECTIONS.get(task.function, set()) - record.keys() | ARRAYS.get(task.function, set()) - arrays.keys():
        return f"its result lacks {', '.join(sorted(missing))}"
    if bad := next((name for name, array in arrays.items() if not np.isfinite(array).all()), None):
        return f"its array {bad} is not finite"
    if task.function == "cell":
        if record["status"] != "ok":
            return f"its status is {_shown(record['status'])}"
        if any(isinstance(number, float | np.floating) and not math.isfinite(number) for number in _leaves(record)):
            return "its record holds a number that is not finite"
    return None


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _shown(value: Any) -> str:
    return shortened(repr(value), 60)
