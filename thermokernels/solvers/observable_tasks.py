"""Sums over observables block by block, here or as tasks of any ``concurrent.futures.Executor``, to the same bits.

Rounding makes a sum depend on its order. Here the order is that of the model: the observables of a block are added up one after the other
and the sums of the blocks likewise, whoever made them and whichever was finished first. A task is a block. It carries couplings and
coefficients, and no array over the states: the worker makes the chain, and keeps it for the next task.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from thermokernels.common import footprint, memory, threads
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import ExecutorError, NumericalError, why_lost
from thermokernels.compiled.decorator import kernel_hash
from thermokernels.model.chain import gibbs_chain
from thermokernels.model.kernels.registry import KERNELS
from thermokernels.model.model import Model
from thermokernels.solvers.checkpoint import Array, Kept
from thermokernels.solvers.many_observables import Accumulator, Observables, RowSums, Sums, solve_in_chunks
from thermokernels.solvers.resolvent import Solver
from thermokernels.solvers.solve import Solve

Kinds = tuple[type[Accumulator], ...]


def accumulate(
    solver: Solver,
    observables: Observables,
    solve: Solve,
    accumulators: Sequence[Accumulator] = (),
    saved: Kept | None = None,
    state: Mapping[str, Array] | None = None,
) -> RowSums:
    """Solve for all observables and add them up.

    ``solve.progress(done, total)`` is called after every chunk, or block of an executor. ``saved`` is read first and written whenever a
    block is complete, along with the arrays ``state`` of the caller. Systems that are factorised are solved here: they are small, and
    their solutions depend on their neighbours.
    """
    n_rows = observables.n_rows
    row_sums = RowSums(solver.chain, n_rows)
    everything = (row_sums, *accumulators)
    done = np.zeros(1, dtype=np.int64)
    kept_state = {**(state or {}), "done": done}
    for accumulator in everything:
        kept_state |= accumulator.arrays
    for name, array in (saved.load() if saved else {}).items():
        if name in kept_state:
            kept_state[name][...] = array
    if done[0] and solve.progress:
        solve.progress(int(done[0]), n_rows)

    def take(rows: slice, sums: Sums) -> None:
        for accumulator, arrays in zip(everything, sums, strict=True):
            accumulator.merge(rows, arrays)
        done[0] = rows.stop

    def tell(solved: int) -> None:
        if saved and done[0] == solved:  # what is solved for of a block that is not complete is in none of the sums
            saved.save(kept_state)
        if solve.progress:
            solve.progress(solved, n_rows)

    kinds = tuple(type(accumulator) for accumulator in everything)
    if solve.executor is None or solver.method == "cholesky":
        solve_in_chunks(solver, observables, int(done[0]), kinds, take, tell)
        return row_sums
    size = sum(array.nbytes for accumulator in everything for array in accumulator.arrays.values())
    _solve_elsewhere(solve.executor, solver, observables, int(done[0]), kinds, size, take, tell)
    return row_sums


def _solve_elsewhere(
    executor: Executor,
    solver: Solver,
    observables: Observables,
    first: int,
    kinds: Kinds,
    size: int,
    take: Callable[[slice, Sums], None],
    tell: Callable[[int], None],
) -> None:
    """:func:`~thermokernels.solvers.many_observables.solve_in_chunks`, a task for every block, whose sums take at most ``size`` bytes."""
    n_rows, block = observables.n_rows, footprint.block_rows(solver.chain.n_states)
    question = _Question.of(solver)
    # results wait here for their turn, so that there must be room for those of all tasks that are under way
    window = max(2, memory.available() // (2 * size))
    coming = iter([slice(head, min(head + block, n_rows)) for head in range(first, n_rows, block)])
    waiting: deque[tuple[slice, Future[Sums]]] = deque()

    def submit(rows: slice) -> Future[Sums]:
        with _lost(rows):
            what = question, observables.coefficients[rows], observables.means[rows], kinds
            return executor.submit(_solve_block, kernel_hash(), *what)

    def submit_next() -> None:
        if (rows := next(coming, None)) is not None:
            waiting.append((rows, submit(rows)))

    def answer(rows: slice, future: Future[Sums]) -> Sums:
        """The sums of a block, which is asked for once more where they went with the worker that had them.

        Dask then calls the task cancelled, or stumbles (a ValueError) over saying so.
        """
        with _lost(rows):
            try:
                return future.result()
            except (CancelledError, ValueError):
                return submit(rows).result()

    try:
        for _ in range(min(window, n_rows)):
            submit_next()
        while waiting:
            rows, future = waiting[0]
            sums = answer(rows, future)
            waiting.popleft()
            submit_next()
            take(rows, sums)
            del sums, future
            tell(rows.stop)
    finally:
        for _, future in waiting:  # none is left unless something went wrong
            future.cancel()
        _prepared.cache_clear()  # threads of this process have made it


@contextmanager
def _lost(rows: slice) -> Iterator[None]:
    """Whatever is no answer to the question is the executor's failure."""
    try:
        yield
    except (NumericalError, ValueError):
        raise
    except Exception as error:  # of a pool of any kind: a worker that died, a task that cannot be sent, a scheduler that is gone
        raise ExecutorError(
            f"the executor lost observables {rows.start + 1} to {rows.stop} ({why_lost(error)}); "
            "a call with a checkpoint goes on before them"
        ) from error


@dataclass(frozen=True)
class _Question:
    """What a chain and its solver are made of: a few bytes, to be sent and to be compared."""

    model: Model
    kernel: str
    quotient: bool
    method: str
    rtol: float
    many: bool

    @classmethod
    def of(cls, solver: Solver) -> _Question:
        chain = solver.chain
        return cls(chain.model, chain.kernel, chain.quotient, solver.method, solver.rtol, solver.many)

    def solver(self, gradient: bool) -> Solver:
        shape = self.model.n_visible, self.model.n_hidden
        footprint.require_variance_time(*shape, not self.quotient, KERNELS[self.kernel].single_flips, gradient)
        return Solver(gibbs_chain(self.model, quotient=self.quotient, kernel=self.kernel), self.method, self.rtol, self.many)


# The last model of this process: tasks in its threads share it, the first one makes it.
_prepared = lru_cache(maxsize=1)(_Question.solver)
_lock = threading.Lock()


def _solve_block(sources: str, question: _Question, coefficients: Floats, means: Floats, kinds: Kinds) -> Sums:
    """What a worker does: solve for one block of observables, on one thread, and return its sums."""
    if sources != kernel_hash():
        raise ValueError("a worker runs another version of thermokernels than this process; install the same one everywhere")
    found: list[Sums] = []
    with threads.serial():
        with _lock:
            solver = _prepared(question, len(kinds) > 1).relaxed(question.rtol)  # with its tables, made once for all threads
        observables = Observables(solver.chain, coefficients, means)
        solve_in_chunks(solver, observables, 0, kinds, lambda rows, sums: found.append(sums), lambda done: None)
    (sums,) = found
    return sums
