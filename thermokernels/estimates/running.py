"""Tasks of replicates on threads of this process or on an executor; every one that is begun is finished, and counted.

A task is as many replicates as take a while: so many that handing it out costs nothing beside it, and so few that the last ones do not keep
the others waiting. Which replicates share a task changes no bit.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from functools import partial

from thermokernels.common import threads
from thermokernels.common.errors import ExecutorError, NumericalError, why_lost
from thermokernels.compiled.decorator import kernel_hash
from thermokernels.estimates.replicates import Batch, OutOfTime, Question, grain, run_task

# Seconds of a core that a task should take in a thread, and on an executor, where it is sent.
HERE, ELSEWHERE = 0.03, 0.1
# Tasks that an executor has in hand, whose workers are not known; fewer where a task takes longer than LONG seconds.
FEWEST_IN_HAND, MOST_IN_HAND, LONG = 8, 64, 0.3
ATTEMPTS = 3


@dataclass
class Pace:
    """How fast replicates went so far: their number, seconds of a core inside tasks, and seconds that passed."""

    n_replicates: int = 0
    core_seconds: float = 0.0
    seconds: float = 0.0

    def replicates_in(self, seconds: float) -> int:
        """How many more go into so many seconds."""
        return int(seconds * self.n_replicates / self.seconds) if self.seconds > 0 else 0

    def in_task(self, seconds: float) -> float:
        """How many make a task of so many seconds of a core."""
        return seconds * self.n_replicates / self.core_seconds if self.core_seconds > 0 else 0.0


def run_tasks(
    question: Question,
    first: int,
    last: int,
    executor: Executor | None,
    pace: Pace,
    take: Callable[[Batch], None],
    stop: Callable[[], bool],
    deadline: float = math.inf,
) -> None:
    """Replicates first, ..., last - 1, handed to ``take`` in order; fewer where ``stop()``, which is asked before a task is begun, says so.

    It must not know any results: what a run that is cut short keeps may depend on the clock only. Where the ``deadline`` of
    ``time.monotonic()`` passes before all that were begun are finished, OutOfTime is raised: those that are would be the quick ones.
    """
    began, tasks, stopping = time.monotonic(), deque[_Task](), False
    try:
        while tasks or (first < last and not stopping):
            n_waiting = sum(not task.future.done() for task in tasks)
            while first < last and n_waiting < _most_in_hand(question, executor, pace) and not (stopping := stop()):
                size = _size(question, last - first, executor, pace)
                tasks.append(_Task(question, first, size, executor, deadline))
                first += size
                n_waiting += 1
            if tasks:
                _wait(tasks, deadline)
            while tasks and tasks[0].future.done():
                batch = tasks.popleft().result()
                pace.n_replicates += len(batch.times)
                pace.core_seconds += batch.seconds
                take(batch)
    finally:
        pace.seconds += time.monotonic() - began
        for task in tasks:
            task.future.cancel()


def _most_in_hand(question: Question, executor: Executor | None, pace: Pace) -> int:
    """Tasks that wait or run: one ahead for each thread of this process, and for an executor as many workers as it may have."""
    if executor is None:
        return 2 * threads.get_threads() if threads.get_threads() > 1 else 1
    return MOST_IN_HAND if pace.in_task(LONG) > grain(question) else FEWEST_IN_HAND


def _size(question: Question, n_left: int, executor: Executor | None, pace: Pace) -> int:
    """Replicates of the next task: half of a worker's share of what is left at most."""
    workers = threads.get_threads() if executor is None else FEWEST_IN_HAND
    wanted = min(pace.in_task(HERE if executor is None else ELSEWHERE), n_left / (2 * workers))
    return min(n_left, grain(question) * max(1, int(wanted / grain(question))))


def _wait(tasks: deque[_Task], deadline: float) -> None:
    """Until one of the tasks that run is done; OutOfTime where the deadline passes before."""
    running = [task.future for task in tasks if not task.future.done()]
    left = deadline - time.monotonic()
    if running and not wait(running, None if math.isinf(left) else max(left, 0.0), FIRST_COMPLETED).done:
        raise OutOfTime


class _Task:
    """Some replicates under way. Where they are lost they are run again: it is the same task, with the same random numbers."""

    def __init__(self, question: Question, first: int, size: int, executor: Executor | None, deadline: float) -> None:
        self.name, self.is_here = f"replicates {first} to {first + size - 1}", executor is None
        what = (kernel_hash(), question, first, size)
        self.submit: Callable[[], Future[Batch]] = (
            partial(threads.submit, run_task, *what, deadline) if executor is None else partial(executor.submit, run_task, *what)
        )
        self.future = self.submit()

    def result(self) -> Batch:
        """What has come; the future is done."""
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
