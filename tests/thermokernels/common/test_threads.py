"""The switch for threads: the same bits for every number of them, what it refuses, and where there is only one."""

import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from thermokernels.common import threads
from thermokernels.quantities.variance_time import variance_time
from thermokernels.solvers.resolvent import solve
from thermokernels_app.experiment import cell
from thermokernels_app.experiment.running import tasks

small = pytest.mark.small


@pytest.fixture
def every_work_is_worth_it(monkeypatch):
    monkeypatch.setattr(threads, "SMALLEST_WORK", 0)


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    monkeypatch.setattr(threads, "_chosen", threads._chosen)


def model(shape):
    draws = np.random.default_rng(shape)
    return draws.normal(size=shape), tk.visible_law(draws.normal(size=shape))


@pytest.mark.parametrize("shape", [(6, 6), (5, 7), (7, 3), (4, 6), (5, 6), (3, 8)])
def test_value_and_gradient_are_the_same_bits_for_every_number_of_threads(shape, every_work_is_worth_it):
    W, p_data = model(shape)
    results = []
    for number in (1, 2, 3):
        tk.set_threads(number)
        q, gradient = adjoints.q_struct(W, p_data)
        assert q.method == "cg"
        results.append((q.value, q.t_obs, q.residual, q.iterations, gradient.tobytes(), q.variance_time.solutions.tobytes()))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("k", [0, 1, 2, 3, 9])
def test_any_number_of_right_hand_sides(k, every_work_is_worth_it):
    chain = tk.gibbs_chain(model((5, 5))[0])
    sources = variance_time(chain).right_hand_sides[:k]
    tk.set_threads(3)
    vectors = solve(chain, sources, "cg").vectors
    assert vectors.shape == sources.shape
    for source, vector in zip(sources, vectors, strict=True):
        np.testing.assert_array_equal(solve(chain, source[None], "cg").vectors[0], vector)


def test_samples_use_the_switch(monkeypatch):
    seen = []

    class Pool(threads.ThreadPoolExecutor):
        def __init__(self, number):
            seen.append(number)
            super().__init__(number)

    monkeypatch.setattr("thermokernels.sampling.samplers.ThreadPoolExecutor", Pool)
    tk.set_threads(3)
    for given in (None, 2):
        tk.sample([[0.1]], n_chains=1, n_sweeps=1, seed=0, threads=given)
    assert seen == [3, 2]


@small
@pytest.mark.parametrize("takes_part", [True, False])
def test_tasks_are_all_done_and_on_other_threads(takes_part, every_work_is_worth_it):
    tk.set_threads(2)
    done, inside = set(), set()
    at_once = threading.Barrier(2, timeout=60)

    def task(number):
        at_once.wait()  # passes only where two tasks run at the same time
        inside.add(tk.get_threads())
        done.add((number, threading.get_ident()))

    threads.for_each(task, 4, threads.LARGEST_OWN_WORK + (not takes_part))
    assert {number for number, _ in done} == {0, 1, 2, 3}
    assert (threading.get_ident() in {thread for _, thread in done}) == takes_part
    assert len({thread for _, thread in done}) == 2
    assert inside == {1}  # what a task calls does not wait for the pool that the task is in


@small
def test_small_work_stays_where_it_is():
    tk.set_threads(2)
    seen = []
    threads.for_each(lambda number: seen.append((number, threading.get_ident())), 3, threads.SMALLEST_WORK - 1)
    assert seen == [(number, threading.get_ident()) for number in range(3)]


@small
def test_errors_of_tasks_are_raised(every_work_is_worth_it):
    def task(number):
        if number == 1:
            raise ValueError("the second one")

    for number, work in ((1, 1), (2, 1), (2, threads.LARGEST_OWN_WORK + 1)):
        tk.set_threads(number)
        with pytest.raises(ValueError, match="the second one"):
            threads.for_each(task, 3, work)


@small
def test_one_thread_in_workers_of_the_grid(monkeypatch):
    tk.set_threads(2)
    monkeypatch.setattr(cell, "train", tk.get_threads)
    assert tasks.call("train", tasks._PROCESS, tasks.source_hash())[0] == 1
    assert tk.get_threads() == 2


@small
def test_a_forked_child_makes_a_pool_of_its_own(every_work_is_worth_it):
    tk.set_threads(2)
    threads.for_each(lambda number: None, 2, 1)
    threads._forget_pool()  # what the hook does in the child; forking a process with threads is refused by some systems
    done = []
    threads.for_each(done.append, 2, 1)
    assert sorted(done) == [0, 1]


@small
@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2", True, None])
def test_wrong_numbers_are_named(wrong):
    with pytest.raises(ValueError, match=r"threads must be an integer of at least 1; got "):
        tk.set_threads(wrong)


@small
def test_the_environment_variable(monkeypatch):
    monkeypatch.setattr(threads, "_chosen", None)
    monkeypatch.setenv("THERMO_THREADS", "5")
    assert tk.get_threads() == 5
    tk.set_threads(2)
    assert tk.get_threads() == 2
    monkeypatch.setattr(threads, "_chosen", None)
    for wrong in ("0", "many", "-3", "1.5"):
        monkeypatch.setenv("THERMO_THREADS", wrong)
        with pytest.raises(ValueError, match="THERMO_THREADS must be an integer of at least 1; got "):
            tk.get_threads()
    monkeypatch.delenv("THERMO_THREADS")
    assert tk.get_threads() >= 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity of processes")
def test_the_default_is_the_cores_that_the_process_may_use():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import thermokernels; print(thermokernels.get_threads())"
    environment = {key: value for key, value in os.environ.items() if key != "THERMO_THREADS"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize(
    ("n_tasks", "work", "submitted"),
    [
        (1, 2 * threads.LARGEST_OWN_WORK, 0),
        (2, 2 * threads.LARGEST_OWN_WORK, 2),
        (5, 2 * threads.LARGEST_OWN_WORK, 3),
        (5, threads.LARGEST_OWN_WORK, 2),
        (2, threads.SMALLEST_WORK, 1),
        (5, threads.SMALLEST_WORK - 1, 0),
    ],
)
def test_as_many_threads_as_there_are_tasks_or_cores_for(n_tasks, work, submitted, monkeypatch):
    class Pool:
        count = 0

        def submit(self, take):
            self.count += 1
            take()
            return SimpleNamespace(result=lambda: None)

    pool, done = Pool(), []
    monkeypatch.setattr(threads, "_shared_pool", lambda: pool)
    monkeypatch.setattr(threads, "get_threads", lambda: 3)
    threads.for_each(done.append, n_tasks, work)
    assert done == list(range(n_tasks))
    assert pool.count == submitted


@small
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("work", [2**18, 2**30])
def test_who_deals_out_tasks_hears_how_many_are_done(number, work):
    tk.set_threads(number)
    told, done = [], []

    def tell(n_done):
        assert threading.current_thread() is threading.main_thread()
        assert len(done) >= n_done
        told.append(n_done)

    threads.for_each(done.append, 9, work, tell)
    assert told == list(range(1, 10))
    assert sorted(done) == list(range(9))


@small
def test_tasks_of_an_interrupted_call_are_known_to_be_at_work(monkeypatch):
    monkeypatch.setattr(threads, "_pool", None)
    tk.set_threads(2)
    begun, go_on = threading.Barrier(3, timeout=60), threading.Event()

    def task(number):
        if number > 0:
            begun.wait()
            go_on.wait(60)

    def interrupt(n_done):
        begun.wait()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        threads.for_each(task, 5, 2**30, interrupt)
    assert threads.at_work()
    go_on.set()
    threads._pool[1].shutdown()
    assert not threads.at_work()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signal to a thread")
@pytest.mark.parametrize(("number", "n_tasks"), [(2, 1), (1, 3)])
def test_the_main_thread_hears_of_an_interrupt_while_long_work_goes_on(number, n_tasks, monkeypatch):
    tk.set_threads(number)
    seen, go_on, ended = [], threading.Event(), threading.Event()

    def task(_):
        seen.append((tk.get_threads(), threading.current_thread() is threading.main_thread()))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        go_on.wait(60)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        threads.for_each(task, n_tasks, threads.LONG_WORK)
    assert threads.at_work()
    assert not ended.is_set()
    go_on.set()
    assert ended.wait(60)
    assert seen == [(number, False)]  # those not yet begun are dropped


def test_what_is_raised_in_long_work_is_raised_here():
    def task(_):
        raise ZeroDivisionError("no such thing")

    tk.set_threads(1)
    with pytest.raises(ZeroDivisionError, match="no such thing"):
        threads.for_each(task, 2, threads.LONG_WORK)


def test_a_worker_does_long_work_itself():
    """It hears of no interrupt, and there may be many of them."""
    seen = []
    with threads.serial():
        threads.for_each(lambda _: seen.append(threading.current_thread()), 2, threads.LONG_WORK)
    assert seen == 2 * [threading.main_thread()]


@pytest.mark.parametrize(("number", "n_tasks"), [(2, 1), (1, 3)])
def test_one_task_has_all_threads_and_one_thread_has_all_tasks(number, n_tasks, every_work_is_worth_it):
    tk.set_threads(number)
    seen = []
    threads.for_each(lambda _: seen.append((tk.get_threads(), threading.get_ident())), n_tasks, threads.LARGEST_OWN_WORK + 1)
    assert seen == n_tasks * [(number, threading.get_ident())]
