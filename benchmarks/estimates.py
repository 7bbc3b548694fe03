"""Estimates from coupled chains at real sizes: replicates a second, and the error of T_O after the same time as batch means and long runs.

    python benchmarks/estimates.py [--seconds a model and kernel] [--model part of a name] [--kernel ...]
    python benchmarks/estimates.py --cores [--times 10] [--rounds 3] [--model ...] [--kernel ...]

Gaussian couplings have the standard deviation beta / (n_v n_h)**(1/4); digits are scikit-learn's, where it is installed. A row: sweeps to
the meeting (mean and 95 %), replicates a second of a core, T_O with its relative standard error (scaled to 60 s of all threads by the
seconds of a core that were spent, so that other load does not count), batch means of the same run, and whether it is trusted; for the
alternating kernel also emcee's and ArviZ's 1 + 2 sum rho of the slowest of 20 observables from one run of about a quarter of the time.

With --cores: the same number of replicates, pilot and all, on one and on two threads by turns, and on one and two workers of Dask: about a
second's work, or so many --times as much.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec

import numpy as np
from machine import print_machine

import thermokernels as tk
from thermokernels.comparison.estimators import by_arviz, by_emcee

KERNELS = ("alternating", "two-block", "single-site")
OBSERVABLES = 20
# For --cores: replicates of the layer kernels and of the single-site kernel, a second or some of one core.
REPLICATES = {
    "Gauss 6x6 sd 0.3": (60000, 20000),
    "Gauss 64x64 beta 0.5": (6000, 400),
    "Gauss 784x256 beta 0.3": (1000, 16),
    "10 patterns and noise 784x500": (500, 8),
}


def models() -> Iterator[tuple[str, Callable[[], tk.Model]]]:
    """The models of the table, small to large, each made when it is asked for."""

    def gauss(seed: int, shape: tuple[int, int], sd: float) -> Callable[[], tk.Model]:
        return lambda: tk.Model(np.random.default_rng(seed).normal(0, sd, shape))

    def dense(shape: tuple[int, int], beta: float) -> Callable[[], tk.Model]:
        return gauss(0, shape, beta / (shape[0] * shape[1]) ** 0.25)

    for sd in (0.3, 0.6, 1.0):
        yield f"Gauss 6x6 sd {sd}", gauss(7, (6, 6), sd)
    yield "frustrated 5x5 beta 2", lambda: tk.Model(1.6 * np.sign(np.random.default_rng(3).normal(size=(5, 5))))
    yield "planted 8x8 with fields", planted
    for beta in (0.5, 1.0):
        yield f"Gauss 64x64 beta {beta}", dense((64, 64), beta)
    for beta in (0.2, 0.3, 0.4):
        yield f"Gauss 784x256 beta {beta}", dense((784, 256), beta)
    yield "10 patterns and noise 784x500", patterns
    if find_spec("sklearn"):
        for epochs in (10, 30, 100):
            yield f"digits 64x100, {epochs} epochs", partial(digits, epochs)
    yield "Gauss 784x256 beta 0.6", dense((784, 256), 0.6)


def planted() -> tk.Model:
    """Two patterns on 8 + 8 spins, with fields."""
    draws = np.random.default_rng(1)
    W = 0.25 * np.sign(draws.normal(size=(2, 8))).T @ np.sign(draws.normal(size=(2, 8)))
    return tk.Model(W, draws.normal(0, 0.2, 8), draws.normal(0, 0.2, 8))


def patterns() -> tk.Model:
    """Ten patterns and noise on 784 + 500 spins, with fields."""
    draws = np.random.default_rng(3)
    left, right = np.sign(draws.normal(size=(10, 784))), np.sign(draws.normal(size=(10, 500)))
    W = 0.8 * left.T @ right / 392000**0.5 + draws.normal(0, 0.2 / 392000**0.25, (784, 500))
    return tk.Model(W, draws.normal(0, 0.1, 784), draws.normal(0, 0.1, 500))


def digits(epochs: int) -> tk.Model:
    """BernoulliRBM with 100 hidden units on the digits, after some epochs."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import BernoulliRBM

    data = load_digits().data > 7.5
    rbm = BernoulliRBM(n_components=100, learning_rate=0.05, n_iter=epochs, batch_size=10, random_state=0).fit(data)
    return tk.Model(*tk.from_scikit_learn(rbm))


def row(name: str, model: tk.Model, kernel: str, seconds: float) -> None:
    """One line of the table."""
    tk.estimate_q([[0.3]], None, kernel=kernel, n_replicates=32)  # compiled, and in the caches
    start, cpu = time.perf_counter(), time.process_time()
    try:
        e = tk.estimate_q(model, None, kernel=kernel, budget=seconds, seed=1)
    except ValueError as error:  # the pilot alone took longer
        print(f"{name:30} {kernel:12} {error}", flush=True)
        return
    spent, cpu = time.perf_counter() - start, time.process_time() - cpu
    met = e.meeting_times[e.meeting_times >= 0]
    meets = f"{met.mean():.3g} / {np.quantile(met, 0.95):.3g}" if len(met) else "none"
    if not np.isfinite(e.t_obs):
        bound = f"; at least {e.t_obs_at_least:.4g} steps" if np.isfinite(e.t_obs_at_least) else ""
        print(f"{name:30} {kernel:12} {meets:>16} {'':>12} {spent:6.1f} s  not trusted: {e.reason}{bound}", flush=True)
        return
    error = e.replicates.std(ddof=1) / np.sqrt(e.n_replicates) / e.t_obs
    batch = f"{e.batch_means / e.t_obs - 1:+.2%}" if np.isfinite(e.batch_means) else ""
    trusted = "yes" if e.trusted else f"no: {e.reason}"
    at_a_minute = error * np.sqrt(cpu / (60 * tk.get_threads()))
    print(
        f"{name:30} {kernel:12} {meets:>16} {e.n_replicates / cpu:10.4g}/s {spent:6.1f} s {e.t_obs:11.5g} "
        f"{at_a_minute:10.3%} {batch:>8} {long_run(model, spent) if kernel == 'alternating' else '':24} {trusted}",
        flush=True,
    )


def long_run(model: tk.Model, seconds: float) -> str:
    """1 + 2 sum rho of the slowest of some observables from one chain, by emcee and by ArviZ, in sweeps."""
    if not (find_spec("emcee") and find_spec("arviz_stats")):
        return ""
    start = time.perf_counter()
    tk.sample(model, n_chains=64, n_sweeps=20, kernel="alternating", seed=0)
    n_sweeps = int(min(100_000, max(1000, 20 * seconds / 4 / (time.perf_counter() - start))))
    run = tk.sample(model, n_chains=1, n_sweeps=n_sweeps, kernel="alternating", burn_in=n_sweeps // 10, seed=0)
    draws = np.random.default_rng(0)
    i, j = draws.integers(model.n_visible, size=OBSERVABLES), draws.integers(model.n_hidden, size=OBSERVABLES)
    traces = (run.visible[:, 0, i] * run.hidden[:, 0, j]).astype(float).T
    traces = traces[traces.std(axis=1) > 0]
    found = {name: [estimate(trace[None]) for trace in traces] for name, estimate in (("emcee", by_emcee), ("ArviZ", by_arviz))}
    return ", ".join(f"{name} {max((x for x in taus if x is not None), default=np.nan):.3g}" for name, taus in found.items())


def seconds_of(model: tk.Model, kernel: str, n_replicates: int, executor: Executor | None = None) -> float:
    """How long an estimate takes."""
    start = time.perf_counter()
    tk.estimate_q(model, None, kernel=kernel, n_replicates=n_replicates, seed=1, executor=executor)
    return time.perf_counter() - start


def in_threads(model: tk.Model, kernel: str, n_replicates: int, rounds: int) -> tuple[float, float]:
    """The best times on one thread and on two, by turns."""
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for k in range(2):
            tk.set_threads(k + 1)
            found[k].append(seconds_of(model, kernel, n_replicates))
    return min(found[0]), min(found[1])


def with_workers(model: tk.Model, kernel: str, n_replicates: int, rounds: int) -> tuple[float, float]:
    """The best times on one worker of Dask, beside one thread here, and on two beside two, by turns."""
    from distributed import Client, LocalCluster

    found: tuple[list[float], list[float]] = ([], [])
    with ExitStack() as stack:
        pools = []
        for n_workers in (1, 2):
            cluster = stack.enter_context(LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=None))
            client = stack.enter_context(Client(cluster, set_as_default=False))
            client.run(tk.estimate_q, [[0.3]], None, kernel=kernel, n_replicates=32)  # kernels are loaded
            pools.append(client.get_executor(pure=False))
        for _ in range(rounds):
            for k in range(2):
                tk.set_threads(k + 1)
                found[k].append(seconds_of(model, kernel, n_replicates, pools[k]))
    return min(found[0]), min(found[1])


def cores(name: str, model: tk.Model, kernel: str, times: float, rounds: int) -> None:
    """One line of the table of --cores."""
    n_replicates = int(times * REPLICATES[name][kernel == "single-site"])
    tk.estimate_q(model, None, kernel=kernel, n_replicates=32)
    one, two = in_threads(model, kernel, n_replicates, rounds)
    line = f"{name:30} {kernel:12} {n_replicates:10} {one:9.3g} s {two:7.3g} s {one / two:6.2f}"
    if find_spec("distributed"):
        one, two = with_workers(model, kernel, n_replicates, rounds)
        line += f" {one:9.3g} s {two:7.3g} s {one / two / 2:6.0%}"
    print(line, flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a model and kernel (10)")
    parser.add_argument("--model", default="", help="part of a model's name; all without it")
    parser.add_argument("--kernel", action="append", choices=KERNELS, help="once for each kernel; all without it")
    parser.add_argument("--cores", action="store_true", help="one and two threads, and one and two workers of Dask")
    parser.add_argument("--times", type=float, default=1.0, help="with --cores, so many times as many replicates (1)")
    parser.add_argument("--rounds", type=int, default=3, help="with --cores, of which the best time counts (3)")
    chosen = parser.parse_args()
    print_machine()
    if chosen.cores:
        print(f"{'model':30} {'kernel':12} replicates {'1 thread':>11} {'2':>9}  ratio {'1 worker':>11} {'2':>9} of two")
    else:
        heads = f"{'replicates':>12} {'time':>8} {'T_O, steps':>11} {'at 60 s':>10} {'batches':>8}"
        print(f"{'model':30} {'kernel':12} {'meet mean / 95 %':>16} {heads}")
    for name, make in models():
        if chosen.model in name and (name in REPLICATES or not chosen.cores):
            model = make()
            for kernel in chosen.kernel or KERNELS:
                if chosen.cores:
                    cores(name, model, kernel, chosen.times, chosen.rounds)
                else:
                    row(name, model, kernel, chosen.seconds)


if __name__ == "__main__":
    main()
