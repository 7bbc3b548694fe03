"""Nothing is left behind where an estimate ends early, and tasks are as many and as large as their workers want."""

import threading
import time
from concurrent.futures import Executor, Future

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.estimates import estimate, replicates, running
from thermokernels.estimates.coupling.lag_pairs import Schedule
from thermokernels.estimates.pool import Task
from thermokernels.estimates.problem import Problem
from thermokernels.estimates.statistics import batch_means

WELLS = np.full((4, 4), 3.0), np.full(4, 1e-3), np.zeros(4)


@pytest.fixture
def two_threads():
    before = tk.get_threads()
    tk.set_threads(2)
    yield
    tk.set_threads(before)


def question(couplings, kernel, **schedule):
    times = {"kappa": 0.0, "quotient": False, "interval": 1, "n_intervals": 1, "n_atoms": 4, "cap": 2**60} | schedule
    return Problem.of(couplings, None, 1.0, kernel, "products", "pm1", False).question(Schedule(**times), 0)


def ends(task, limit):
    """Whether a task that would take for ever ends when it is told, and the thread that it ran in."""
    error = []

    def run():
        try:
            task()
        except replicates.OutOfTime as found:
            error.append(found)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    time.sleep(0.2)
    assert thread.is_alive()
    limit.stopped[0] = 1
    thread.join(60)
    return bool(error)


@pytest.mark.parametrize("kernel", ["alternating", "two-block"])
def test_chains_that_never_meet_end_when_nobody_waits(kernel):
    limit = replicates.Limit()
    replicates.run_batch(question([[0.3]], kernel), 0, 8)  # compiled
    assert ends(lambda: replicates.run_batch(question(WELLS, kernel), 0, 64, limit), limit)


def test_excursions_that_never_meet_end_when_nobody_waits(monkeypatch):
    def apart(model, pairs, schedule, key, first, atoms, weights, meetings):
        atoms[0::2], atoms[1::2], weights[:], meetings[:] = 1, -1, 1.0, 1

    limit = replicates.Limit()
    replicates.run_batch(question([[0.3]], "alternating"), 0, 8)
    monkeypatch.setattr(replicates, "_lag_pairs", apart)
    assert ends(lambda: replicates.run_batch(question(WELLS, "alternating"), 0, 64, limit), limit)


def test_batch_means_end_when_nobody_waits():
    limit = replicates.Limit()
    what = running.kernel_hash(), question([[0.3]], "alternating"), 2000, 1, 0
    batch_means.run_bundle(*what)
    limit.stopped[0] = 1
    with pytest.raises(replicates.OutOfTime):
        batch_means.run_bundle(*what, limit)


def test_no_task_is_begun_once_an_estimate_has_been_given_up(two_threads, monkeypatch):
    given_up, begun, finished = threading.Event(), [], []

    def run_task(sources, question, first, size, limit):
        begun.append(first)
        if len(begun) > 1:
            given_up.wait(60)
        limit.check()
        finished.append(first)
        return replicates.run_task(sources, question, first, size, limit)

    def progress(*_):
        while len(begun) < 3:  # the first task is done, and both threads are at another one
            time.sleep(0.001)
        raise KeyboardInterrupt

    tk.estimate_q([[0.3]], None, kernel="two-block", n_replicates=8)
    monkeypatch.setattr(running, "run_task", run_task)
    with pytest.raises(KeyboardInterrupt):
        tk.estimate_q([[0.3]], None, kernel="two-block", n_replicates=10_000, progress=progress)
    given_up.set()
    begun.append("the next estimate")
    assert tk.estimate_q([[0.3]], None, kernel="two-block", n_replicates=8).n_replicates == 8  # in the same threads, after what was left
    assert [begun[0], *begun[3:]] == [0, "the next estimate", 0]
    assert finished == [0, 0]


class Slow(Executor):
    """Runs what is asked for only when somebody looks, so that all of it waits."""

    def __init__(self):
        self.futures = []

    def submit(self, function, *arguments):
        future = Future()
        self.futures.append((future, function, arguments))
        return future


def test_futures_of_an_executor_are_cancelled_when_the_budget_is_over(monkeypatch):
    executor = Slow()
    monkeypatch.setattr(estimate, "GRACE", 0.0)
    tk.estimate_q([[0.3]], None, n_replicates=8)
    found = tk.estimate_q([[0.3]], None, budget=0.2, executor=executor)
    assert "was over before any of the" in found.reason
    assert executor.futures
    assert all(future.cancelled() for future, *_ in executor.futures)


@pytest.mark.parametrize("losses", [0, 2, 3])
def test_a_task_is_run_three_times_at_most(losses):
    runs = []

    def submit():
        runs.append(Future())
        if len(runs) <= losses:
            runs[-1].set_exception(OSError("the worker is gone"))
        else:
            runs[-1].set_result(5)
        return runs[-1]

    task = Task("replicates 0 to 7", submit, is_here=False)
    if losses < 3:
        assert task.result() == 5
    else:
        with pytest.raises(tk.ExecutorError, match=r"lost replicates 0 to 7 \(.*\), 3 times"):
            task.result()
    assert len(runs) == min(losses + 1, 3)
