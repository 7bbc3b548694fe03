"""The alternating scan by size: T_O, V, Q, gap bound and gradient with all observables, in one process a size.

    python benchmarks/alternating.py 20 24 26 28

Random couplings of standard deviation 2 / sqrt(m) times --strength, m spins a layer, no fields. A line a size: wall time and CPU time of
the parts, peak memory of the process, GFlop/s of the solves a second of CPU and as a share of what one thread of the machine's gemm reaches
in the same process, before and after. CPU time is what an otherwise idle machine would take on one core; wall time is what this one took.
"""

import argparse
import multiprocessing
import resource
import time

import numpy as np
from machine import print_machine

import adjoints
import thermokernels as tk
from adjoints import alternating_scan as gradient_of
from thermokernels.common import blas
from thermokernels.quantities import alternating_scan
from thermokernels.solvers import gap_bounds


def gemm(size: int = 1536) -> float:
    """GFlop/s a second of CPU of a square product on one BLAS thread: the best of five."""
    factor = np.random.default_rng(0).standard_normal((size, size))
    best = np.inf
    with blas.one_thread():
        for _ in range(5):
            start = time.process_time()
            factor @ factor
            best = min(best, time.process_time() - start)
    return 2 * size**3 / best / 1e9


class Clock:
    """Wall and CPU seconds of each part."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def __call__(self, name, function):
        wall, cpu = time.perf_counter(), time.process_time()
        result = function()
        self.wall[name], self.cpu[name] = time.perf_counter() - wall, time.process_time() - cpu
        return result


def measure(n_spins: int, strength: float, answers) -> None:
    """One size, part by part, then Q and its gradient in one call where that is quick."""
    n_hidden = n_spins // 2
    n_visible = n_spins - n_hidden
    rng, clock = np.random.default_rng(0), Clock()
    W = strength * 2 / np.sqrt(n_spins / 2) * rng.standard_normal((n_visible, n_hidden))
    tk.alternating_variance_time(W[:3, :3])  # compiles
    ceiling = gemm()
    layers = clock("coupling", lambda: alternating_scan.Layers(tk.Model(W)))
    bound = clock("gap bound", lambda: gap_bounds.gap_lower_bound(layers.chain))
    sources = clock("sources", lambda: alternating_scan._sources(layers, "products", "pm1", False)["couplings"])
    times = clock("solves", lambda: alternating_scan.solved(layers, sources, 1e-10))
    scan = alternating_scan.AlternatingTime(layers, {"couplings": times})
    slope = clock("gradient", lambda: gradient_of.gradient(scan))
    flops = 4 * layers.system.coupling.size * 2 * W.size * (scan.iterations + 1)
    answers.put(
        {
            "n_spins": n_spins,
            "t_obs": scan.value,
            "error": scan.bound / scan.value,
            "v": scan.asymptotic_variance,
            "gap": bound,
            "slope": float(np.abs(slope.W).max()),
            "iterations": scan.iterations,
            "wall": clock.wall,
            "cpu": clock.cpu,
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "speed": flops / clock.cpu["solves"] / 1e9,
            "ceiling": max(ceiling, gemm()),
        }
    )


def check(n_spins: int = 12) -> None:
    """The same numbers through the public functions, for a law of data."""
    m = n_spins // 2
    W = np.random.default_rng(0).standard_normal((m, m)) / np.sqrt(m)
    law = np.random.default_rng(1).dirichlet(np.ones(2**m))
    q, gradient = adjoints.q_struct(W, law, kernel="alternating")
    print(f"Q of {n_spins} spins through adjoints.q_struct: {q.value:.6g} with |dQ| up to {np.abs(gradient).max():.3g}\n")


def main() -> None:
    """Every size in a process of its own, whose memory is its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sizes", nargs="*", type=int, default=[20, 24])
    parser.add_argument("--strength", type=float, default=0.5)
    arguments = parser.parse_args()
    print_machine()
    check()
    parts = ("coupling", "gap bound", "sources", "solves", "gradient")
    print(f"{'N':>3} {'T_O':>9} {'error':>8} {'V':>9} {'iter':>4} {'GiB':>6} {'GFlop/s':>8} {'of gemm':>8}", end="   ")
    print(f"CPU s / wall s of {', '.join(parts)}; all")
    for n_spins in arguments.sizes:
        context = multiprocessing.get_context("spawn")
        answers = context.Queue()
        process = context.Process(target=measure, args=(n_spins, arguments.strength, answers))
        process.start()
        found = answers.get()
        process.join()
        pairs = [(found["cpu"][part], found["wall"][part]) for part in parts]
        pairs.append(tuple(map(sum, zip(*pairs, strict=True))))
        numbers = f"{n_spins:3} {found['t_obs']:9.4f} {found['error']:8.1e} {found['v']:9.4f} {found['iterations']:4}"
        speeds = f"{found['memory']:6.2f} {found['speed']:8.1f} {found['speed'] / found['ceiling']:8.0%}"
        print(f"{numbers} {speeds}   " + "  ".join(f"{cpu:.2f}/{wall:.2f}" for cpu, wall in pairs), flush=True)


if __name__ == "__main__":
    main()
