"""A pool of worker processes in which one task is all that a worker can lose.

``concurrent.futures.ProcessPoolExecutor`` shares its pipes: when one worker dies, every task of the pool fails and nobody knows whose
fault it was; one that hangs cannot be ended; one killed inside a write leaves the others waiting. Here every worker has a pipe and a
thread of its own, so that the task it died, hung or talked nonsense with is known, and the other workers notice nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

# Workers that wait for a pool.
_AHEAD: SimpleQueue[_Worker] = SimpleQueue()


class WorkerError(RuntimeError):
    """A worker process died, hung or returned something that cannot be read; the message says which."""


class LimitError(WorkerError):
    """A task took longer than it may, ``limit`` in seconds."""

    def __init__(self, limit: float) -> None:
        super().__init__(f"the worker process took more than {limit:g} s and was ended")
        self.limit = limit


@contextmanager
def workers_ahead(count: int, module: str) -> Iterator[None]:
    """Start so many workers for a pool to come: they import ``module`` while this process imports what it needs itself."""
    for _ in range(count):
        _AHEAD.put(_Worker(module))
    try:
        yield
    finally:
        while worker := _ahead():
            worker.spent = True
            worker.end()


def _ahead() -> _Worker | None:
    with suppress(Empty):
        return _AHEAD.get_nowait()
    return None


class WorkerPool(Executor):
    """Spawned worker processes; leaving the ``with`` block by an exception ends them at once.

    Parameters
    ----------
    workers : int
        How many tasks run side by side; a process is started with the first task it gets, and anew after a failure.
    limit : float, optional
        Seconds that a task may take before its worker counts as hanging and is killed; None for no limit.

    Examples
    --------
    >>> with WorkerPool(2, limit=60.0) as pool:  # doctest: +SKIP
    ...     pool.submit(divmod, 17, 5).result()
    (3, 2)
    """

    def __init__(self, workers: int, limit: float | None = None) -> None:
        self._limit = limit
        self._calls: SimpleQueue[tuple[Future[Any], Call] | None] = SimpleQueue()
        self._workers: set[_Worker] = set()
        self._closed = self._killed = False
        self._most, self._threads = workers, list[threading.Thread]()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Run ``function(*arguments, **options)`` in a worker; all three have to be picklable."""
        if self._closed:
            raise RuntimeError("the pool is shut down and takes no more tasks")
        future: Future[Any] = Future()
        self._calls.put((future, (function, arguments, options)))
        if len(self._threads) < self._most:
            self._threads.append(threading.Thread(target=self._serve, daemon=True))
            self._threads[-1].start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, finish those submitted (or, with ``cancel_futures``, those begun) and end the workers."""
        self._closed = True
        if cancel_futures:
            self._cancel()
        for _ in self._threads:
            self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def kill(self) -> None:
        """End every worker at once; a task under way fails with WorkerError, one not begun is cancelled."""
        self._closed = self._killed = True
        self._cancel()
        for worker in list(self._workers):
            worker.process.kill()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.kill()
        self.shutdown(cancel_futures=kind is not None)

    def _cancel(self) -> None:
        while True:
            try:
                item = self._calls.get_nowait()
            except Empty:
                return
            if item is not None and item[0].cancel():
                item[0].set_running_or_notify_cancel()  # tells who waits for it

    def _serve(self) -> None:
        """One thread, one worker: take a task, wait for its result, start the worker anew where it failed."""
        worker = None
        while (item := self._calls.get()) is not None:
            future, call = item
            if future.set_running_or_notify_cancel():
                try:
                    if worker is None or not worker.process.is_alive():  # one that died idle is nobody's fault
                        dead, worker = worker, None
                        worker = self._replace(dead)  # where no process can be had, that is this task's answer
                    future.set_result(worker.run(call, self._limit))
                except BaseException as error:
                    future.set_exception(error)
                if worker and worker.spent:
                    worker = self._replace(worker, start=False)
        self._replace(worker, start=False)

    def _replace(self, worker: _Worker | None, start: bool = True) -> Any:
        if worker:
            self._workers.discard(worker)
            worker.end()
        if not start:
            return None
        fresh = _ahead() or _Worker()
        self._workers.add(fresh)
        if self._killed:  # the pool was killed while this one started
            fresh.process.kill()
        return fresh


class _Worker:
    """One process, which begins with importing ``module``, and our end of its pipe."""

    def __init__(self, module: str | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, module))
        self.process.start()
        theirs.close()  # now it is the worker's alone, and we see its end when the worker is gone
        self.spent = False

    def run(self, call: Call, limit: float | None) -> Any:
        """The result of a call, or its exception; WorkerError, and ``spent``, where the process does not answer for it."""
        message = pickle.dumps(call)
        hanging = threading.Event()

        def end_it() -> None:
            hanging.set()
            self.process.kill()

        alarm = threading.Timer(limit or 0.0, end_it)
        alarm.daemon = True
        if limit is not None:
            alarm.start()
        try:
            self.connection.send_bytes(message)
            answer = self.connection.recv_bytes()
        except (OSError, EOFError):
            self.spent = True
            self.process.join(10.0)  # its end of the pipe is closed before it is gone
            if limit is not None and hanging.is_set():
                raise LimitError(limit) from None
            raise WorkerError(f"the worker process {_how_it_ended(self.process.exitcode)}") from None
        finally:
            alarm.cancel()
        self.spent = hanging.is_set()  # killed in the moment it answered
        try:
            succeeded, value = pickle.loads(answer)
        except Exception as error:
            self.spent = True
            raise WorkerError(f"the worker process answered with what cannot be read ({type(error).__name__}: {error})") from None
        if not succeeded:
            raise value
        return value

    def end(self) -> None:
        """End the process: one that waits for a task sees the end of its pipe, any other is killed."""
        self.connection.close()
        if self.spent:
            self.process.kill()
        self.process.join()


def _how_it_ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}" + (" (too little memory?)" if name == "SIGKILL" else "")


def _work(connection: Connection, module: str | None) -> None:
    """The worker: Ctrl-C and SIGTERM reach the whole process group and only the parent answers them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    if module:
        with suppress(Exception):  # the task that needs it says what is wrong
            import_module(module)
    while True:
        try:
            call = connection.recv_bytes()
        except (EOFError, OSError):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)  # taking numba down piece by piece would keep everyone waiting for a third of a second
        try:
            function, arguments, options = pickle.loads(call)
            answer = pickle.dumps((True, function(*arguments, **options)))
        except BaseException as error:
            answer = _pickled_error(error)
        connection.send_bytes(answer)


def _pickled_error(error: BaseException) -> bytes:
    try:
        answer = pickle.dumps((False, error))
        pickle.loads(answer)  # some can be pickled and not read again
    except Exception:
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
    return answer


def _end_with_the_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
