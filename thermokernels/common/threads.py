"""The one switch for threads: how many a call may use, and a pool that they share.

Whoever deals out work here sees to it that no sum depends on how it is cut: results are the same bits for every number of threads.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from queue import SimpleQueue
from typing import Any, TypeVar

from thermokernels.common import arguments

VARIABLE = "THERMO_THREADS"

Answer = TypeVar("Answer")

# Multiply-adds below which waking a thread costs more than it brings.
SMALLEST_WORK = 2**18

# Multiply-adds up to which the calling thread takes part: waking one thread less is worth it. It would not hear of an interrupt before it
# is done, so that it only waits where that takes long.
LARGEST_OWN_WORK = 2**24

# Multiply-adds from which one task alone, or all of them on one thread, are worth a thread for which the main thread only waits.
LONG_WORK = 2**26

# Rows are dealt out in so many blocks, or two a thread: few enough for work space each, enough that a slow one keeps nobody waiting.
BLOCKS = 8


class _State(threading.local):
    serial = False


_state = _State()
_lock = threading.Lock()
_chosen: int | None = None
_pool: tuple[int, ThreadPoolExecutor] | None = None
_under_way = 0


def set_threads(threads: int) -> None:
    """Set how many threads a call of this package may use, in this process and from now on.

    Results are the same bits for every number. Workers of the grid and tasks of an ``executor=`` use one thread each, whatever is set here.

    Parameters
    ----------
    threads : int, at least 1

    Raises
    ------
    ValueError
        Anything else.

    Examples
    --------
    >>> import thermokernels as tk
    >>> before = tk.get_threads()
    >>> tk.set_threads(1)
    >>> tk.get_threads()
    1
    >>> tk.set_threads(before)
    """
    global _chosen
    _chosen = arguments.as_count(threads, "threads")


def get_threads() -> int:
    """How many threads a call from here may use.

    The number of the last :func:`set_threads`, else the environment variable THERMO_THREADS, else the cores that this process may use.

    Raises
    ------
    ValueError
        THERMO_THREADS is no integer of at least 1.
    """
    if _state.serial:
        return 1
    return _chosen if _chosen is not None else _default()


def _default() -> int:
    if text := os.environ.get(VARIABLE):
        return arguments.as_count(int(text) if text.strip().isdecimal() else text, VARIABLE)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has it
        return os.cpu_count() or 1


@contextmanager
def serial() -> Iterator[None]:
    """One thread for every call inside, from this thread: for workers that are many already."""
    before, _state.serial = _state.serial, True
    try:
        yield
    finally:
        _state.serial = before


def worth_using(work: int) -> int:
    """How many threads pay for themselves in ``work`` multiply-adds."""
    return get_threads() if work >= SMALLEST_WORK else 1


def for_each(task: Callable[[int], None], n_tasks: int, work: int, tell: Callable[[int], object] | None = None) -> None:
    """task(0), ..., task(n_tasks - 1), on threads where ``work``, in multiply-adds over all tasks, is worth it.

    Tasks must not depend on each other. What one raises is raised here, and those not yet begun are dropped. ``tell`` is called, here, with
    the number of tasks that are done. The main thread hears of an interrupt at once where the work is long: it only waits.
    """
    tell = tell or (lambda done: None)
    used = min(n_tasks, worth_using(work))
    apart = used == 1 and work >= LONG_WORK and _hears_interrupts()
    if used == 1 and not apart:
        for number in range(n_tasks):
            task(number)
            tell(number + 1)
        return

    coming, ends = deque(range(n_tasks)), SimpleQueue[BaseException | None]()

    def take() -> None:
        with nullcontext() if apart else serial(), _counted():
            while True:
                try:
                    number = coming.popleft()
                except IndexError:
                    return
                try:
                    task(number)
                except BaseException as error:
                    coming.clear()
                    ends.put(error)
                    return
                ends.put(None)

    takes_part = work <= LARGEST_OWN_WORK
    try:
        if apart:  # one of its own: what it does has all of the pool
            threading.Thread(target=take, name="thermokernels").start()
        for _ in range(0 if apart else used - takes_part):
            _shared_pool().submit(take)
        if takes_part:
            take()
        for done in range(1, n_tasks + 1):
            if (error := ends.get()) is not None:
                raise error
            tell(done)
    except BaseException:
        coming.clear()
        raise


def _hears_interrupts() -> bool:
    """Whether this is the main thread, which alone hears of them, and not one of many workers."""
    return threading.current_thread() is threading.main_thread() and not _state.serial


def at_work() -> bool:
    """Whether tasks of :func:`for_each` are under way: those of a call that was interrupted go on until they are done."""
    return _under_way > 0


@contextmanager
def _counted() -> Iterator[None]:
    global _under_way
    with _lock:
        _under_way += 1
    try:
        yield
    finally:
        with _lock:
            _under_way -= 1


def submit(task: Callable[..., Answer], *arguments: Any) -> Future[Answer]:
    """task(*arguments) on a thread of the pool, or here and now where only one may be used."""
    if get_threads() > 1:
        return _shared_pool().submit(task, *arguments)
    done: Future[Answer] = Future()
    try:
        done.set_result(task(*arguments))
    except Exception as error:
        done.set_exception(error)
    return done


def for_rows(task: Callable[[slice], None], n_rows: int, work: int) -> None:
    """task(rows) for slices that make up range(n_rows); all of them at once where ``work``, in multiply-adds, is too little for threads.

    What becomes of a row must not depend on the rows beside it.
    """
    used = worth_using(work)
    n_blocks = 1 if used == 1 else min(n_rows, max(BLOCKS, 2 * used))
    for_each(lambda block: task(slice(n_rows * block // n_blocks, n_rows * (block + 1) // n_blocks)), n_blocks, work)


def _shared_pool() -> ThreadPoolExecutor:
    """The pool, made anew when the number of threads has changed; those of the last one end once nobody uses it."""
    global _pool
    threads = get_threads()
    with _lock:
        if _pool is None or _pool[0] != threads:
            _pool = (threads, ThreadPoolExecutor(threads, thread_name_prefix="thermokernels"))
        return _pool[1]


def _forget_pool() -> None:
    """A forked child has the pool but none of its threads."""
    global _pool, _lock, _under_way
    _pool, _lock, _under_way = None, threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
