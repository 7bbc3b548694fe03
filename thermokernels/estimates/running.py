"""Tasks of replicates on threads of this process or on an executor; every one that is begun is finished, and counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from thermokernels.common import threads
from thermokernels.common.errors import ExecutorError, NumericalError, why_lost
from thermokernels.compiled.decorator import kernel_hash
from thermokernels.estimates.replicates import Batch, Question, run_task

# Seconds between two looks at the progress, and of tasks that an executor has in hand at once.
WAVE = 0.3
MOST_IN_WAVE = 64
ATTEMPTS = 3


@dataclass
class Pace:
    """How fast tasks went so far."""

    n_tasks: int = 0
    seconds: float = 0.0

    def tasks_in(self, seconds: float) -> int:
        """How many more go into so many seconds."""
        return int(seconds * self.n_tasks / self.seconds) if self.seconds > 0 else 0


def run_tasks(
    question: Question,
    first: int,
    last: int,
    executor: Executor | None,
    pace: Pace,
    take: Callable[[list[Batch]], None],
    stop: Callable[[], bool],
) -> int:
    """Tasks first, ..., last - 1 in waves, handed to ``take`` in order; the number of the first that was not begun.

    Between waves ``stop()`` is asked. It must not know any results: what a run that is cut short keeps may depend on the clock only.
    """
    while first < last and not stop():
        wave = 8 if executor else threads.get_threads()
        wave = min(last - first, max(wave, min(MOST_IN_WAVE, pace.tasks_in(WAVE))))
        began = time.perf_counter()
        numbers = range(first, first + wave)
        batches = _elsewhere(executor, question, numbers) if executor else _here(question, numbers)
        take(batches)
        pace.n_tasks += wave
        pace.seconds += time.perf_counter() - began
        first += wave
    return first


def _here(question: Question, numbers: range) -> list[Batch]:
    batches: dict[int, Batch] = {}

    def run(k: int) -> None:
        batches[k] = run_task(kernel_hash(), question, numbers[k])

    threads.for_each(run, len(numbers), threads.LARGEST_OWN_WORK + 1)
    return [batches[k] for k in range(len(numbers))]


def _elsewhere(executor: Executor, question: Question, numbers: range) -> list[Batch]:
    """A task that is lost on the way is run again: it is the same task, with the same random numbers."""
    futures = [executor.submit(run_task, kernel_hash(), question, number) for number in numbers]
    batches = []
    for number, future in zip(numbers, futures, strict=True):
        for attempt in range(ATTEMPTS):
            try:
                batches.append(future.result())
                break
            except NumericalError:
                raise
            except Exception as error:  # of a pool of any kind: a dead worker, a task that cannot be sent, a lost scheduler
                lost = f"the executor lost task {number} ({why_lost(error)}), {attempt + 1} times; an estimate without it would be biased"
                if attempt + 1 == ATTEMPTS and isinstance(error, ValueError):  # of the task, or of Dask where a result went with its worker
                    raise
                if attempt + 1 == ATTEMPTS:
                    raise ExecutorError(lost) from error
                try:
                    future = executor.submit(run_task, kernel_hash(), question, number)
                except Exception:  # a pool that is broken takes nothing any more
                    raise ExecutorError(lost) from error
    return batches
