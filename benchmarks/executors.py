"""Tasks beyond one process: overhead per task and efficiency on 2 workers, pools of processes beside Dask; from that, 1,000 workers.

Measured are the tasks themselves (empty, and with what one block of a large solve sends and returns), one large solve, T_O with its
gradient, and a grid. The scheduler and its workers are processes of this machine with one thread each. Nothing in the estimates is
measured with more than two of them: they are arithmetic with the numbers printed above them. Needs the extra `distributed`.

Usage: python benchmarks/executors.py [--size 18] [--grid NAME, or none] [--tasks N]
"""

import argparse
import math
import multiprocessing
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from machine import print_machine
from size import couplings

import adjoints
import thermokernels as tk
from thermokernels.common import footprint
from thermokernels_app.experiment.design import Design, load_design
from thermokernels_app.experiment.running import runner
from thermokernels_app.experiment.running.cluster import dask_executor
from thermokernels_app.experiment.running.pool import WorkerPool

WORKERS = 1000

# The size whose solve the paper calculation is about.
LARGE = 24


@contextmanager
def dask_cluster(workers: int) -> Iterator[str]:
    """The address of a scheduler with so many workers of one thread."""
    from distributed import Client

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = ["dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = ["dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    processes = [
        subprocess.Popen([sys.executable, "-m", f"distributed.cli.{one[0]}", *one[1:]], **quiet) for one in [scheduler, *[worker] * workers]
    ]
    try:
        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def executors(name: str, workers: int) -> Iterator[Executor]:
    """The pool of `thermo --workers`, the one of the standard library, or a Dask cluster, with so many workers."""
    if name == "dask":
        with dask_cluster(workers) as address, dask_executor(address) as executor:
            yield executor
    else:
        spawn = multiprocessing.get_context("spawn")
        with WorkerPool(workers) if name == "pool" else ProcessPoolExecutor(workers, spawn) as executor:
            yield executor


@dataclass(frozen=True)
class Solve:
    """One large solve as its executor sees it."""

    n_spins: int

    @property
    def observables(self) -> int:
        return couplings(self.n_spins).size

    @property
    def states(self) -> int:
        return 2 ** (self.n_spins - 1)

    @property
    def rows(self) -> int:
        return min(footprint.block_rows(self.states), self.observables)

    @property
    def blocks(self) -> int:
        return -(-self.observables // self.rows)

    @property
    def result(self) -> int:
        """Bytes of the sums of a block: two arrays over the states, the others are small."""
        return 16 * self.states


def carried(coefficients: np.ndarray, n_bytes: int) -> np.ndarray:
    """A task that is sent what a block is sent, returns as much, and does nothing."""
    return np.ones(n_bytes // 8)


def seconds_a_task(executor: Executor, count: int, function: Callable, *given: object) -> float:
    """Of a stream of tasks."""
    wait([executor.submit(function, *given) for _ in range(20)])
    start = time.perf_counter()
    wait([executor.submit(function, *given) for _ in range(count)])
    return (time.perf_counter() - start) / count


def overheads(solve: Solve, count: int) -> dict[str, tuple[float, float]]:
    """Seconds a task, empty and carrying what a block does, by executor."""
    block, sums = np.zeros((solve.rows, *couplings(solve.n_spins).shape)), np.zeros(solve.result // 8)
    start = time.perf_counter()
    for _ in range(10):
        sums += sums
    merge, found = (time.perf_counter() - start) / 10, {}
    kilobytes, megabytes = len(pickle.dumps(block)) / 1e3, solve.result / 1e6
    print("\nSeconds a task in a stream of tasks, 2 workers")
    print(f"executor   empty      one block of N = {solve.n_spins}: {kilobytes:.0f} kB there, {megabytes:.1f} MB back and added up")
    for name in ("pool", "processes", "dask"):
        with executors(name, 2) as executor:
            empty = seconds_a_task(executor, count, isinstance, 0, int)
            several = max(10, min(count, 2**28 // solve.result))  # results are in memory at once
            full = seconds_a_task(executor, several, carried, block, solve.result) + merge
        found[name] = empty, full
        print(f"{name:9s}  {1e3 * empty:6.2f} ms  {1e3 * full:9.2f} ms")
    return found


def solves(solve: Solve, overhead: dict[str, tuple[float, float]]) -> None:
    """One solve without an executor and with one and two workers; then what 1,000 would do."""
    W, answers, wall, busy = couplings(solve.n_spins), set(), {}, {}

    def run(name: str, workers: int, executor: Executor | None) -> None:
        if executor is not None:
            wait([executor.submit(time.sleep, 5.0) for _ in range(workers)])  # so that all of them have started
        seconds = []
        for _ in range(3):  # the first one compiles and loads
            start, before = time.perf_counter(), time.process_time()
            value, gradient = adjoints.observable_variance_time(W, executor=executor)
            seconds.append((time.perf_counter() - start, time.process_time() - before))
        wall[name, workers], busy[name, workers] = min(seconds)
        answers.add((value, gradient.tobytes()))

    tk.set_threads(1)
    run("none", 1, None)
    for name in ("processes", "dask"):
        for workers in (1, 2):
            with executors(name, workers) as executor:
                run(name, workers, executor)
    print(f"\nT_O and its gradient, N = {solve.n_spins}: {solve.observables} observables in {solve.blocks} blocks, one thread a process")
    print(f"results of all runs: {'the same bits' if len(answers) == 1 else 'DIFFER'}")
    print("executor   workers  wall       efficiency  busy here")
    for (name, workers), seconds in wall.items():
        efficiency = "" if name == "none" else f"{100 * wall[name, 1] / (workers * seconds):8.0f} %"
        print(f"{name:9s}  {workers:7d}  {seconds:7.2f} s  {efficiency:10s}  {busy[name, workers]:7.2f} s")
    for name in ("processes", "dask"):
        estimate_solve(solve, name, wall[name, 1], busy[name, 1], overhead[name])


def estimate_solve(solve: Solve, name: str, alone: float, busy: float, overhead: tuple[float, float]) -> None:
    """T(w) = s + max(ceil(B / w) t, B o): B blocks of t seconds, o to send, take in and add up each of them, and s of the caller's beside.

    To a larger size s and o grow as the states, t as rows, states and spins (with as many iterations).
    """
    large, (empty, full) = Solve(LARGE), overhead
    s = max(busy - solve.blocks * full, 0.0)
    t = (alone - s) / solve.blocks
    print(f"\n{name}, N = {solve.n_spins}: s = {s:.2f} s, B = {solve.blocks} blocks, t = {t:.3f} s, o = {1e3 * full:.1f} ms")
    growth = large.states / solve.states
    s, o = s * growth, empty + max(full - empty, 0.0) * growth
    t *= growth * (large.rows / solve.rows) * (large.n_spins / solve.n_spins)
    print(f"N = {large.n_spins}, estimated: s = {s:.0f} s, B = {large.blocks}, t = {t:.1f} s, o = {o:.2f} s ({large.result / 1e6:.0f} MB)")
    print("workers  wall = s + max(ceil(B / w) t, B o)  speed-up  efficiency")
    first = s + max(large.blocks * t, large.blocks * o)
    for workers in (1, 2, 8, 32, large.blocks, WORKERS):
        seconds = s + max(math.ceil(large.blocks / workers) * t, large.blocks * o)
        print(f"{workers:7d}  {seconds:33.0f} s  {first / seconds:8.1f}  {100 * first / seconds / workers:8.1f} %")
    useful = min(large.blocks, math.ceil(t / o))
    limit = "there are no more blocks" if useful == large.blocks else f"the caller takes in {1 / o:.1f} results a second"
    print(f"at most {useful} workers are of use to one solve ({limit}); {WORKERS} need {math.ceil(WORKERS / useful)} solves and callers")


def seconds_of(design: Design, executor: Executor) -> tuple[float, dict]:
    """Wall seconds of a run, everything compiled and loaded by a short one before, and its document."""
    few = replace(design.grid, checkpoints=design.grid.checkpoints[-1:], codes=design.grid.codes[:1])
    runner.run(replace(design, grid=few, training=replace(design.training, steps=10)), executor=executor)
    start = time.perf_counter()
    document = runner.run(design, executor=executor).document
    return time.perf_counter() - start, document


def grids(name: str, overhead: dict[str, tuple[float, float]]) -> None:
    design, wall, documents = load_design(name), {}, []
    for executor_name in ("pool", "dask"):
        for workers in (1, 2):
            with executors(executor_name, workers) as executor:
                wall[executor_name, workers], document = seconds_of(design, executor)
                documents.append(document)
    same = "the same bits" if len({document["records_sha256"] for document in documents}) == 1 else "DIFFER"
    print(f"\ngrid {name}, {len(documents[0]['cells'])} cells; records of all runs: {same}")
    print("executor  workers  grid, warm  efficiency")
    for (executor_name, workers), seconds in wall.items():
        efficiency = wall[executor_name, 1] / (workers * seconds)
        print(f"{executor_name:8s}  {workers:7d}  {seconds:8.2f} s  {100 * efficiency:8.0f} %")
    estimate(documents[0], wall["pool", 1], overhead["dask"][0])


def estimate(document: dict, alone: float, scheduling: float) -> None:
    """What ``WORKERS`` workers would do with ensembles of this grid; one scheduler hands out one task after the other."""
    grid, seconds = document["design"]["grid"], document["run"]["task_seconds"]
    count = {"train": len(grid["m"]) * len(grid["split"]), "check": len(document["checkpoints"]), "cell": len(document["cells"])}
    count["polish"] = max(1, len(document["stationarity"]))
    total, number = sum(seconds.values()), sum(count.values())
    # The largest models take about as much longer than the mean as they have more states.
    largest = 4 ** max(grid["m"]) / (sum(4**m for m in grid["m"]) / len(grid["m"]))
    last = max(seconds[name] / count[name] for name in ("check", "cell", "polish") if name in seconds)
    chain = largest * (seconds["train"] / count["train"] + last)
    print(f"\none seed: {number} tasks, {total:.2f} s of work in them ({1e3 * total / number:.1f} ms each), {alone:.2f} s with one worker")
    print(f"longest chain, training of one of the largest networks and then one task of it: about {chain:.2f} s")
    print(f"{WORKERS} workers, estimated: the longest of work / workers, tasks x overhead of the scheduler, and longest chain")
    print("seeds    work / workers  scheduler  chain     wall      efficiency  what limits")
    for seeds in (1, 10, 100, 1000):
        bounds = {"work": seeds * total / WORKERS, "scheduler": seeds * number * scheduling, "chain": chain}
        limit = max(bounds, key=bounds.__getitem__)
        efficiency = seeds * total / (WORKERS * bounds[limit])
        row = "  ".join(f"{bounds[name]:8.2f} s" for name in bounds)
        print(f"{seeds:5d}    {row}  {bounds[limit]:8.2f} s  {100 * efficiency:8.2g} %  {limit}")
    needed = WORKERS * scheduling
    print(f"to keep {WORKERS} workers busy, a task has to take {needed:.2g} s on average; here it takes {total / number:.2g} s")
    print(f"this grid keeps {total / number / scheduling:.0f} workers of one scheduler busy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=18, help="spins of the large solve")
    parser.add_argument("--grid", default="default", help="or `none`")
    parser.add_argument("--tasks", type=int, default=1000, help="empty tasks")
    arguments = parser.parse_args()
    print_machine()
    solve = Solve(arguments.size)
    overhead = overheads(solve, arguments.tasks)
    solves(solve, overhead)
    if arguments.grid != "none":
        grids(arguments.grid, overhead)


if __name__ == "__main__":
    main()
