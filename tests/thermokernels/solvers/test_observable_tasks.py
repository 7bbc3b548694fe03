"""The observables of one solve as tasks of an executor: the same bits as without one, bounded memory, and what becomes of failures."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from thermokernels.common import errors, footprint, memory, threads
from thermokernels.quantities.variance_time import variance_time
from thermokernels.solvers import observable_tasks
from thermokernels.solvers.resolvent import Solver
from thermokernels.solvers.solve import Solve

W = np.random.default_rng(7).normal(size=(4, 4))
b = np.array([0.3, -0.2, 0.1, 0.4])
law = tk.visible_law(0.5 * W)

COMPUTATIONS = {
    "value": lambda **options: tk.observable_variance_time(tk.gibbs_chain(W), "cg", **options),
    "two-block": lambda **options: tk.observable_variance_time(tk.gibbs_chain(W, kernel="two-block"), "cg", **options),
    "not on pairs": lambda **options: tk.observable_variance_time(tk.gibbs_chain(W, quotient=False), "cg", **options),
    "q": lambda **options: tk.q_struct(W, law, method="cg", b=b, **options),
    "gradient": lambda **options: adjoints.observable_variance_time(W, method="cg", **options),
    "fields": lambda **options: adjoints.observable_variance_time(W, b, method="cg", fields=True, **options),
    "gradient of q": lambda **options: adjoints.q_struct(W, law, method="cg", **options),
    "probes": lambda **options: tk.probe_variance_time(tk.gibbs_chain(W), 9, seed=3, method="cg", **options),
    "q by probes": lambda **options: tk.probe_q_struct(W, law, n_probes=9, seed=3, method="cg", **options),
    "gradient by probes": lambda **options: adjoints.probe_variance_time(W, 9, seed=3, method="cg", **options),
    "gradient of q by probes": lambda **options: adjoints.probe_q_struct(W, law, n_probes=9, seed=3, method="cg", b=b, **options),
}


def numbers(result):
    """The bytes of every number of a result."""
    if isinstance(result, tuple):
        return [number for part in result for number in numbers(part)]
    return [np.asarray(getattr(result, "value", result)).tobytes()]


@pytest.fixture(autouse=True)
def blocks_of_three(monkeypatch):
    """Blocks as small as those of a large model; workers in other processes are sent them."""
    monkeypatch.setattr(footprint, "block_rows", lambda states: 3)


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool


class Here(Executor):
    """Does the first ``count`` tasks at once and leaves the others waiting; ``calls`` and ``futures`` are what it was handed and gave."""

    def __init__(self, count=1000, answer=None):
        self.count, self.answer, self.calls, self.futures = count, answer, [], []

    def submit(self, function, /, *given):
        future = Future()
        self.calls.append((function, given))
        self.futures.append(future)
        if len(self.calls) <= self.count:
            future.set_result(function(*given))
        elif self.answer is not None:
            future.set_exception(self.answer)
        return future


class Backwards(ThreadPoolExecutor):
    """Threads in which the tasks that come first take longest."""

    def __init__(self):
        super().__init__(6)
        self.begun, self.ended = 0, []

    def submit(self, function, /, *given):
        def late(number):
            time.sleep(0.1 * (6 - number))
            result = function(*given)
            self.ended.append(number)
            return result

        self.begun += 1
        return super().submit(late, self.begun)


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_the_same_bits_in_any_executor(name, processes):
    compute = COMPUTATIONS[name]
    expected = numbers(compute())
    here = Here()
    assert numbers(compute(executor=here)) == expected
    assert len(here.calls) in (5, 6)  # 16 observables, or 4 directions and 9 probes
    assert numbers(compute(executor=processes)) == expected
    with ThreadPoolExecutor(3) as pool:
        assert numbers(compute(executor=pool)) == expected


def test_the_same_bits_whichever_task_ends_first():
    with Backwards() as pool:
        result = adjoints.observable_variance_time(W, method="cg", executor=pool)
    assert pool.ended[-1] == 1
    assert sorted(pool.ended) == [1, 2, 3, 4, 5, 6]
    assert numbers(result) == numbers(COMPUTATIONS["gradient"]())


def test_the_same_bits_with_the_blocks_of_a_larger_model(monkeypatch, processes):
    monkeypatch.undo()
    couplings = np.random.default_rng(8).normal(size=(8, 8)) / 4
    expected = adjoints.observable_variance_time(couplings, fields := np.full(8, 0.1))
    here, calls = Here(), []
    for executor in (here, processes):
        found = adjoints.observable_variance_time(couplings, fields, executor=executor, progress=lambda *call: calls.append(call))
        assert numbers(found) == numbers(expected)
    assert calls == 2 * [(16, 64), (32, 64), (48, 64), (64, 64)]
    # couplings and coefficients go to a worker, and no array over the 2**16 states
    assert max(len(pickle.dumps(call)) for call in here.calls) < 2**14


def test_the_numbers_that_come_with_the_value_are_the_same():
    chain = tk.gibbs_chain(W)
    expected, found = variance_time(chain, Solve("cg")), variance_time(chain, Solve("cg", executor=Here()))
    for name in ("value", "residual", "iterations", "method", "bound"):
        assert getattr(found, name) == getattr(expected, name)
    np.testing.assert_array_equal(found.solutions, expected.solutions)  # solved for once more, here


def test_what_is_small_or_slow_is_done_here():
    nobody = Here(0, AssertionError("asked"))
    for method in ("auto", "cholesky", "reduction"):
        assert tk.observable_variance_time(tk.gibbs_chain(W), method, executor=nobody) == tk.observable_variance_time(
            tk.gibbs_chain(W), method
        )
    assert not nobody.calls


def test_a_slow_model_falls_back_on_the_reduction():
    mask = np.arange(25).reshape(5, 5) < 24  # one compiled call takes models whose couplings all exist
    cold, here = tk.Model(np.where(mask, 15 * np.random.default_rng(2).normal(size=(5, 5)), 0.0), mask=mask), Here()
    (value, gradient), expected = adjoints.observable_variance_time(cold, executor=here), adjoints.observable_variance_time(cold)
    assert here.calls
    assert variance_time(tk.gibbs_chain(cold)).method == "reduction"
    assert numbers((value, gradient)) == numbers(expected)


def test_a_task_uses_one_thread(monkeypatch):
    seen, solve = [], Solver.solve
    monkeypatch.setattr(threads, "get_threads", lambda: 1 if threads._state.serial else 8)
    monkeypatch.setattr(Solver, "solve", lambda self, *rows: seen.append(threads.get_threads()) or solve(self, *rows))
    with ThreadPoolExecutor(2) as pool:
        COMPUTATIONS["gradient"](executor=pool)
    assert seen == 6 * [1]


def test_tasks_of_one_process_share_the_chain(monkeypatch):
    made, make = [], observable_tasks.gibbs_chain
    monkeypatch.setattr(observable_tasks, "gibbs_chain", lambda *given, **how: made.append(1) or make(*given, **how))
    with ThreadPoolExecutor(3) as pool:
        COMPUTATIONS["gradient"](executor=pool)
        assert len(made) == 1
    assert observable_tasks._prepared.cache_info().currsize == 0


def test_no_more_tasks_are_under_way_than_memory_has_room_for_their_results(monkeypatch):
    adjoint = adjoints.variance_time.VarianceTimeAdjoint(tk.gibbs_chain(W))
    size = sum(array.nbytes for array in adjoint.arrays.values()) + 8 * (16 * 6 + 2)
    monkeypatch.setattr(memory, "available", lambda: 3 * 2 * size)
    here, ahead = Here(), []
    COMPUTATIONS["gradient"](executor=here, progress=lambda done, total: ahead.append(len(here.calls) - -(-done // 3)))
    assert ahead == [3, 3, 3, 2, 1, 0]


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_errors_survive_the_way_back(kind):
    error = pickle.loads(pickle.dumps(kind("what happened")))
    assert (type(error), str(error)) == (kind, "what happened")


def test_a_numerical_error_arrives_as_itself(processes):
    chain = tk.gibbs_chain(np.diag([60.0, 60.0]))
    with pytest.raises(tk.NotConvergedError, match="the resolvent was solved to a relative residual of"):
        tk.observable_variance_time(chain, "cg", executor=processes)


def test_a_worker_without_room_says_so(monkeypatch):
    chain, here = tk.gibbs_chain(np.zeros((9, 9))), Here()
    enough = memory.available
    monkeypatch.setattr(memory, "available", lambda: 2**20 if threads._state.serial else enough())
    with pytest.raises(tk.ModelTooLargeError, match=r"T_O of 81 observables of 18 spins \(2\*\*17 states\) would take"):
        tk.observable_variance_time(chain, executor=here)


@pytest.mark.parametrize("error", [CancelledError(), ValueError("not enough values to unpack (expected 3, got 2)")])
def test_a_block_whose_sums_went_with_their_worker_is_asked_for_once_more(error):
    class Forgetful(Here):
        def submit(self, function, /, *given):
            future = super().submit(function, *given)
            if len(self.calls) == 1:
                self.futures[0] = future = Future()
                future.set_exception(error)
            return future

    here = Forgetful()
    assert numbers(COMPUTATIONS["gradient"](executor=here)) == numbers(COMPUTATIONS["gradient"]())
    assert len(here.calls) == 7


def test_other_sources_are_refused():
    here = Here(0, RuntimeError("unused"))
    with pytest.raises(tk.ExecutorError):
        COMPUTATIONS["value"](executor=here)
    function, (_, *given) = here.calls[0]
    with pytest.raises(ValueError, match="a worker runs another version of thermokernels than this process"):
        function("another hash", *given)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("the connection was reset"), "OSError: the connection was reset"),
        (CancelledError(), "CancelledError"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_task_that_is_lost_is_named_and_loses_nothing_before_it(error, words, tmp_path):
    compute, path, calls = COMPUTATIONS["gradient"], tmp_path / "state.npz", []
    with pytest.raises(tk.ExecutorError, match=rf"^the executor lost observables 7 to 9 \({words}\); a call with a checkpoint goes on"):
        compute(executor=Here(2, error), checkpoint=path)
    found = compute(executor=Here(), checkpoint=path, progress=lambda *call: calls.append(call))
    assert calls == [(6, 16), (9, 16), (12, 16), (15, 16), (16, 16)]
    assert numbers(found) == numbers(compute())


@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
def test_a_pool_that_breaks_is_said_and_the_rest_is_done_elsewhere(tmp_path, monkeypatch):
    compute, path = COMPUTATIONS["gradient"], tmp_path / "state.npz"
    # room for two results: the tasks after that are submitted to a pool whose worker is gone
    monkeypatch.setattr(memory, "available", lambda: 2**15)

    def kill(done, total):
        for process in pool._processes.values():
            if process.is_alive():  # not so when a second result had arrived before
                os.kill(process.pid, signal.SIGKILL)
                process.join(10)

    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
        pytest.raises(tk.ExecutorError, match=r"the executor lost observables \d+ to \d+ \(BrokenProcessPool: .*"),
    ):
        compute(executor=pool, checkpoint=path, progress=kill)
    assert path.exists()
    assert numbers(compute(checkpoint=path)) == numbers(compute())


class Stop(BaseException):
    """Like KeyboardInterrupt no Exception."""


def stop(done, total):
    if done == 9:
        raise Stop


def test_an_interrupt_cancels_what_has_not_begun():
    here = Here(3)
    with pytest.raises(Stop):
        COMPUTATIONS["gradient"](executor=here, progress=stop)
    assert [future.cancelled() for future in here.futures] == 3 * [False] + 3 * [True]


@pytest.mark.parametrize(("first", "second"), [(Here(), None), (None, Here()), (Here(), Here())])
def test_a_checkpoint_is_gone_on_from_with_and_without_an_executor(first, second, tmp_path, monkeypatch):
    compute, path, calls = COMPUTATIONS["gradient"], tmp_path / "state.npz", []
    monkeypatch.setattr(footprint, "rows_at_once", lambda n_rows, states: min(n_rows, 3))
    with pytest.raises(Stop):
        compute(executor=first, checkpoint=path, progress=stop)
    found = compute(executor=second, checkpoint=path, progress=lambda done, total: calls.append(done))
    assert calls == [9, 12, 15, 16]
    assert numbers(found) == numbers(compute())


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_what_is_no_executor_is_refused(name):
    with pytest.raises(ValueError, match=r"^executor must be a concurrent.futures.Executor or None; got 2$"):
        COMPUTATIONS[name](executor=2)


@pytest.mark.parametrize(
    ("keyword", "given", "sentence"),
    [
        ("progress", 3, r"^progress must be a function, or None for none; got 3$"),
        ("progress", "loud", r"^progress must be a function, or None for none; got 'loud'$"),
        ("checkpoint", 3, r"^checkpoint must be the path of a file, a str or a pathlib.Path, or None for none; got 3$"),
        ("checkpoint", "", r"^checkpoint must be the path of a file, .* got ''$"),
        ("checkpoint", b"sums.npz", r"^checkpoint must be the path of a file, .* got b'sums.npz'$"),
        ("checkpoint", "sums\0.npz", r"^checkpoint must be the path of a file"),
    ],
)
def test_callbacks_and_paths_that_are_none(keyword, given, sentence):
    W, p_data = [[0.5, -0.2]], [0.75, 0.25]
    chain = tk.gibbs_chain(W)
    for call in (
        lambda **options: tk.observable_variance_time(chain, **options),
        lambda **options: tk.asymptotic_variance(chain, **options),
        lambda **options: tk.q_struct(W, p_data, **options),
        lambda **options: tk.probe_variance_time(chain, seed=0, **options),
        lambda **options: adjoints.q_struct(W, p_data, **options),
        lambda **options: adjoints.observable_variance_time(W, **options),
    ):
        with pytest.raises(ValueError, match=sentence):
            call(**{keyword: given})


def test_a_script_that_starts_workers_while_it_is_read_is_told_what_it_lacks(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "import thermokernels as tk\n"
        "with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:\n"
        "    tk.observable_variance_time(tk.gibbs_chain([[0.5, -0.2], [0.1, 0.3]]), method='cg', executor=pool)\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("thermokernels.ExecutorError: the executor lost observables 1 to ")
    assert "workers read the script again: what it does must stand under if __name__ == '__main__':" in last
