"""Where the tasks of an estimate go, threads of this process or an executor; none is left behind, however the estimate ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from thermokernels.common import threads
from thermokernels.common.errors import ExecutorError, NumericalError, why_lost
from thermokernels.estimates.replicates import Limit

ATTEMPTS = 3

Answer = TypeVar("Answer")


class Pool:
    """Threads of this process, or an executor.

    When the block is left, tasks that nobody has begun are cancelled and threads stop within a sweep; a worker ends the task that it is at.
    """

    def __init__(self, executor: Executor | None, deadline: float = math.inf) -> None:
        self.executor, self.limit = executor, Limit(deadline)
        self.futures: WeakSet[Future[Any]] = WeakSet()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.limit.stopped[0] = 1
        for future in list(self.futures):
            future.cancel()

    def submit(self, name: str, function: Callable[..., Answer], *arguments: Any) -> Task[Answer]:
        """``function(*arguments, limit)`` in a thread of this process, ``function(*arguments)`` on an executor."""
        run: Callable[[], Future[Answer]]
        if self.executor is None:
            run = partial(threads.submit, function, *arguments, self.limit)
        else:
            run = partial(self.executor.submit, function, *arguments)

        def submit() -> Future[Answer]:
            future = run()
            self.futures.add(future)
            return future

        return Task(name, submit, self.executor is None)


class Task(Generic[Answer]):
    """One task under way. Where it is lost it is run again: it is the same task, with the same random numbers."""

    def __init__(self, name: str, submit: Callable[[], Future[Answer]], is_here: bool) -> None:
        self.name, self.submit, self.is_here = name, submit, is_here
        self.future = submit()

    def result(self) -> Answer:
        """What has come, or comes."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self.future.result()
            except NumericalError:
                raise
            except Exception as error:  # of a pool of any kind: a dead worker, a task that cannot be sent, a lost scheduler
                if self.is_here:
                    raise
                lost = f"the executor lost {self.name} ({why_lost(error)}), {attempt} times; an estimate without them would be biased"
                if attempt == ATTEMPTS and isinstance(error, ValueError):  # of the task, or of Dask where a result went with its worker
                    raise
                if attempt == ATTEMPTS:
                    raise ExecutorError(lost) from error
                try:
                    self.future = self.submit()
                except Exception:  # a pool that is broken takes nothing any more
                    raise ExecutorError(lost) from error
        raise AssertionError("unreachable")
