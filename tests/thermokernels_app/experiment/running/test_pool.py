"""The pool of processes: whatever a worker does, it costs its own task and no other."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import CancelledError, wait

import pytest

from thermokernels_app.experiment.running import pool as pool_module
from thermokernels_app.experiment.running.pool import WorkerError, WorkerPool

HELPER = """
import os, signal, time

def end(how):
    os.kill(os.getpid(), how) if how > 0 else os._exit(-how)

def write_to_every_pipe(text):
    for handle in range(3, 64):
        try:
            os.write(handle, text)
        except OSError:
            pass

class Unreadable(Exception):
    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")

def fail():
    raise Unreadable("this", "that")

def unpicklable():
    return lambda: None
"""


@pytest.fixture(scope="module", autouse=True)
def helper(tmp_path_factory):
    """Functions that a spawned process can import: the modules of tests have no name there."""
    folder = tmp_path_factory.mktemp("helper")
    (folder / "misdeeds.py").write_text(HELPER)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        import misdeeds

        yield misdeeds


def test_results_errors_and_nothing_left_behind(helper):
    with WorkerPool(2) as pool:
        futures = [pool.submit(divmod, number, 7) for number in range(20)]
        assert [future.result() for future in futures] == [divmod(number, 7) for number in range(20)]
        assert len({pool.submit(os.getpid).result() for _ in range(8)}) <= 2
        with pytest.raises(ZeroDivisionError, match="by zero"):
            pool.submit(divmod, 1, 0).result()
        with pytest.raises(RuntimeError, match="Unreadable: this and that"):  # an exception that does not survive its pickle
            pool.submit(helper.fail).result()
        with pytest.raises(Exception, match=r"pickle"):
            pool.submit(helper.unpicklable).result()
        with pytest.raises(Exception, match=r"pickle"):
            pool.submit(lambda: None).result()
        assert pool.submit(abs, -3).result() == 3
    with pytest.raises(RuntimeError, match="takes no more tasks"):
        pool.submit(abs, -3)
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(os.name != "posix", reason="ends processes by signals")
@pytest.mark.parametrize(
    ("how", "message"),
    [
        (signal.SIGKILL, r"was killed by SIGKILL \(too little memory\?\)"),
        (signal.SIGSEGV, "was killed by SIGSEGV"),
        (-3, "ended with exit code 3"),
    ],
)
def test_a_worker_that_dies_costs_its_own_task(helper, how, message):
    with WorkerPool(2) as pool:
        other = pool.submit(time.sleep, 1.0)
        with pytest.raises(WorkerError, match=message):
            pool.submit(helper.end, int(how)).result()
        assert other.result() is None
        assert [pool.submit(abs, -number).result() for number in range(4)] == [0, 1, 2, 3]
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(os.name != "posix", reason="stops a process by a signal")
def test_a_worker_that_hangs_is_ended_and_the_other_goes_on(helper):
    with WorkerPool(3, limit=5.0) as pool:
        asleep, stopped = pool.submit(time.sleep, 600.0), pool.submit(helper.end, int(signal.SIGSTOP))
        well = [pool.submit(abs, -number) for number in range(50)]
        assert [future.result() for future in well] == list(range(50))
        for future in (asleep, stopped):
            with pytest.raises(WorkerError, match="took more than 5 s and was ended"):
                future.result()
        assert pool.submit(abs, -3).result() == 3
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(os.name != "posix", reason="writes to pipes by their number")
def test_a_worker_that_talks_nonsense_costs_its_own_task(helper):
    with WorkerPool(2) as pool:
        length = (8).to_bytes(4, "big")
        with pytest.raises(WorkerError, match="answered with what cannot be read"):
            pool.submit(helper.write_to_every_pipe, length + b"nonsense").result()
        assert pool.submit(abs, -3).result() == 3


@pytest.mark.skipif(os.name != "posix", reason="ends a process by a signal")
def test_a_worker_that_died_idle_costs_nothing():
    with WorkerPool(1) as pool:
        number = pool.submit(os.getpid).result()
        os.kill(number, signal.SIGKILL)
        (worker,) = pool._workers
        worker.process.join()
        assert pool.submit(os.getpid).result() != number


def test_where_no_process_can_be_had_the_task_says_so(monkeypatch):
    working, left = pool_module._Worker, [OSError("no more processes")]

    def start():
        if left:
            raise left.pop()
        return working()

    monkeypatch.setattr(pool_module, "_Worker", start)
    with WorkerPool(1) as pool:
        with pytest.raises(OSError, match="no more processes"):
            pool.submit(abs, -3).result(timeout=60)
        assert pool.submit(abs, -3).result(timeout=60) == 3


def test_an_exception_ends_the_workers_at_once():
    futures = []

    def interrupted():
        with WorkerPool(1) as pool:
            futures.extend([pool.submit(time.sleep, 600.0), pool.submit(abs, -3)])
            while not futures[0].running():
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    wait(futures, timeout=60)
    begun, waiting = futures
    with pytest.raises(WorkerError):
        begun.result(timeout=0)
    with pytest.raises(CancelledError):
        waiting.result(timeout=0)
    assert multiprocessing.active_children() == []


def test_a_pool_takes_the_workers_that_were_started_ahead_and_the_others_are_ended():
    with pool_module.workers_ahead(2, "colorsys"):
        ahead = {child.pid for child in multiprocessing.active_children()}
        assert len(ahead) == 2
        with WorkerPool(1) as pool:
            assert pool.submit(os.getpid).result(60) in ahead
            assert pool.submit(eval, "'colorsys' in __import__('sys').modules").result(60)
    assert multiprocessing.active_children() == []


def test_a_module_that_cannot_be_imported_ahead_costs_nothing():
    with pool_module.workers_ahead(1, "no_such_module"), WorkerPool(1) as pool:
        assert pool.submit(divmod, 17, 5).result(60) == (3, 2)
