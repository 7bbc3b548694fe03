"""Tasks beyond one process: overhead per task and efficiency on 2 workers, a pool of processes beside Dask; from that, 1,000 workers.

The scheduler and its workers are processes of this machine. Nothing in the estimate is measured with more than two of them: it is
arithmetic with the numbers printed above it. Needs the extra `distributed`.

Usage: python benchmarks/executors.py [--grid NAME] [--tasks N]
"""

import argparse
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, wait
from contextlib import contextmanager
from dataclasses import replace

from machine import print_machine

from thermokernels_app.experiment import runner, tasks
from thermokernels_app.experiment.cluster import dask_executor
from thermokernels_app.experiment.design import Design, load_design
from thermokernels_app.experiment.pool import WorkerPool

WORKERS = 1000


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


def overhead(executor: Executor, design: Design, count: int) -> float:
    """Seconds a task of a stream of tasks that do nothing but carry what a cell is sent: a design and a trained network."""
    (_, _, training), _ = tasks.submit(executor, "train", design, min(design.grid.m), design.grid.split[0]).result()
    wait([executor.submit(isinstance, training, int) for _ in range(20)])
    start = time.perf_counter()
    wait([executor.submit(isinstance, (design, training, number), int) for number in range(count)])
    return (time.perf_counter() - start) / count


def seconds_of(design: Design, executor: Executor) -> tuple[float, dict]:
    """Wall seconds of a run, everything compiled and loaded by a short one before, and its document."""
    few = replace(design.grid, checkpoints=design.grid.checkpoints[-1:], codes=design.grid.codes[:1])
    runner.run(replace(design, grid=few, training=replace(design.training, steps=10)), executor=executor)
    start = time.perf_counter()
    document = runner.run(design, executor=executor).document
    return time.perf_counter() - start, document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", default="default")
    parser.add_argument("--tasks", type=int, default=1000, help="empty tasks")
    arguments = parser.parse_args()
    print_machine()
    design = load_design(arguments.grid)
    each, wall, documents = {}, {}, []
    for workers in (1, 2):
        with WorkerPool(workers) as pool:
            each["pool", workers] = overhead(pool, design, arguments.tasks)
            wall["pool", workers], document = seconds_of(design, pool)
            documents.append(document)
        with dask_cluster(workers) as address, dask_executor(address) as executor:
            each["dask", workers] = overhead(executor, design, arguments.tasks)
            wall["dask", workers], document = seconds_of(design, executor)
            documents.append(document)
    same = "the same bits" if len({document["records_sha256"] for document in documents}) == 1 else "DIFFER"
    cells = len(documents[0]["cells"])
    print(f"grid {arguments.grid}, {cells} cells; records of all runs: {same}")
    print("executor  workers  overhead a task  grid, warm  efficiency")
    for (name, workers), seconds in wall.items():
        efficiency = wall[name, 1] / (workers * seconds)
        print(f"{name:8s}  {workers:7d}  {1e3 * each[name, workers]:12.2f} ms  {seconds:8.2f} s  {100 * efficiency:8.0f} %")
    estimate(documents[0], wall["pool", 1], each["dask", 2])


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


if __name__ == "__main__":
    main()
