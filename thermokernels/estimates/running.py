"""Tasks of replicates in a pool; every one that is begun is finished, and counted.

A task is as many replicates as take a while: so many that handing it out costs nothing beside it, and so few that the last ones do not keep
the others waiting. Which replicates share a task changes no bit.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field

from thermokernels.common import threads
from thermokernels.compiled.decorator import kernel_hash
from thermokernels.estimates.pool import Pool, Task
from thermokernels.estimates.replicates import Batch, OutOfTime, Question, grain, run_task

# Seconds of a core that a task should take in a thread, and on an executor, where it is sent; and that the last tasks there take at least.
HERE, ELSEWHERE, LAST = 0.03, 0.2, 0.04
# Tasks that an executor has in hand at first, and then for each worker that has been seen.
FEWEST_IN_HAND, FOR_A_WORKER = 8, 3


@dataclass
class Pace:
    """How fast replicates went so far: their number, seconds of a core inside tasks, and seconds that passed; ``beside``: seconds of a core
    that went into other tasks meanwhile. ``workers``: the threads, here or elsewhere, that ran them."""

    n_replicates: int = 0
    core_seconds: float = 0.0
    seconds: float = 0.0
    beside: float = 0.0
    workers: set[str] = field(default_factory=set)

    def replicates_in(self, seconds: float) -> int:
        """How many more go into so many seconds, nothing beside them."""
        if self.seconds <= 0 or self.core_seconds <= 0:
            return 0
        return int(seconds * self.n_replicates / self.seconds * (1 + self.beside / self.core_seconds))

    def in_task(self, seconds: float) -> float:
        """How many make a task of so many seconds of a core."""
        return seconds * self.n_replicates / self.core_seconds if self.core_seconds > 0 else 0.0

    def take(self, batch: Batch) -> None:
        """One more task."""
        self.n_replicates += len(batch.times)
        self.core_seconds += batch.seconds
        self.workers.add(batch.worker)


def run_tasks(
    question: Question, first: int, last: int, pool: Pool, pace: Pace, take: Callable[[Batch], None], stop: Callable[[], bool]
) -> None:
    """Replicates first, ..., last - 1, handed to ``take`` in order; fewer where ``stop()``, which is asked before a task is begun, says so.

    It must not know any results: what a run that is cut short keeps may depend on the clock only. Where the deadline of the pool passes
    before all that were begun are finished, OutOfTime is raised: those that are would be the quick ones.
    """
    began, tasks, stopping = time.monotonic(), deque[Task[Batch]](), False
    try:
        while tasks or (first < last and not stopping):
            n_waiting = sum(not task.future.done() for task in tasks)
            while first < last and n_waiting < _most_in_hand(pool, pace) and not (stopping := stop()):
                size = _size(question, last - first, pool, pace)
                tasks.append(pool.submit(f"replicates {first} to {first + size - 1}", run_task, kernel_hash(), question, first, size))
                first += size
                n_waiting += 1
            if tasks:
                _wait(tasks, pool.limit.deadline)
            while tasks and tasks[0].future.done():
                batch = tasks.popleft().result()
                pace.take(batch)
                take(batch)
    finally:
        pace.seconds += time.monotonic() - began


def _most_in_hand(pool: Pool, pace: Pace) -> int:
    """Tasks that wait or run: one ahead for each thread of this process, and more on an executor, on the way."""
    if pool.executor is None:
        return 2 * threads.get_threads() if threads.get_threads() > 1 else 1
    return max(FEWEST_IN_HAND, FOR_A_WORKER * len(pace.workers))


def _size(question: Question, n_left: int, pool: Pool, pace: Pace) -> int:
    """Replicates of the next task: half of a worker's share of what is left at most, and on an executor no fewer than are worth sending."""
    if pool.executor is None:
        wanted = min(pace.in_task(HERE), n_left / (2 * threads.get_threads()))
    else:
        wanted = max(pace.in_task(LAST), min(pace.in_task(ELSEWHERE), n_left / (2 * max(1, len(pace.workers)))))
    return min(n_left, grain(question) * max(1, int(wanted / grain(question))))


def _wait(tasks: deque[Task[Batch]], deadline: float) -> None:
    """Until one of the tasks that run is done; OutOfTime where the deadline passes before."""
    running = [task.future for task in tasks if not task.future.done()]
    left = deadline - time.monotonic()
    if running and not wait(running, None if math.isinf(left) else max(left, 0.0), FIRST_COMPLETED).done:
        raise OutOfTime
