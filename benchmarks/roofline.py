"""How near the kernels of a solve come to what this machine can do, and what the other numbers of a cell cost beside it.

Usage: python benchmarks/roofline.py [--m 6 7 8 9 10] [--large] [--solve 6 7 8] [--cell 6 7] [--threads 2]

The ceilings are measured in the same run: multiply-adds in registers, and for each level of memory the rates of reading and of a triad
a = b + s c. For every kernel stand the operations it needs and the bytes it cannot avoid to move, per state of what it works on; a kernel
is bound by the slower of the two, and by the loads from the first-level cache: a multiply-add of a product S x takes one operand from there
at best. The level is the smallest one that holds what a call touches. `share` is the measured rate over that of the binding ceiling.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import get_ident

import numpy as np
from machine import print_machine
from numba import njit

import adjoints
import thermokernels as tk
from adjoints.overlaps import TOGETHER, _flip_overlaps
from thermokernels.compiled.register_tiles import COLUMNS
from thermokernels.compiled.simd_states import DOUBLES, add, aligned_singles, aligned_zeros, dot, fill, load, multiply_add, store, total
from thermokernels.model.kernels import single_site
from thermokernels.quantities.variance_time import variance_time
from thermokernels.solvers import mixed_precision, parity_classes, parity_coupling, red_black

LEVELS = {"L1": 2**14, "L2": 2**18, "L3": 2**23, "DRAM": 2**28}  # bytes of each array of a triad
LARGE = (11, 12)
SECONDS = 0.05


@njit(nogil=True)
def _fused(n):
    a, b, c, d, e = fill(0.1), fill(0.2), fill(0.3), fill(0.4), fill(0.5)
    f = fill(0.6)
    factor, term = fill(0.999999), fill(1e-7)
    for _ in range(n):
        a, b, c = multiply_add(a, factor, term), multiply_add(b, factor, term), multiply_add(c, factor, term)
        d, e, f = multiply_add(d, factor, term), multiply_add(e, factor, term), multiply_add(f, factor, term)
    return total(add(add(add(a, b), add(c, d)), add(e, f)))


@njit(nogil=True)
def _fused_wide(n):
    """With as many accumulators as two units of AVX-512 with a latency of four need; elsewhere they would not fit into the registers."""
    a, b, c, d, e = fill(0.1), fill(0.2), fill(0.3), fill(0.4), fill(0.5)
    f, g, h, i, j = fill(0.6), fill(0.7), fill(0.8), fill(0.9), fill(1.0)
    factor, term = fill(0.999999), fill(1e-7)
    for _ in range(n):
        a, b, c = multiply_add(a, factor, term), multiply_add(b, factor, term), multiply_add(c, factor, term)
        d, e, f = multiply_add(d, factor, term), multiply_add(e, factor, term), multiply_add(f, factor, term)
        g, h, i = multiply_add(g, factor, term), multiply_add(h, factor, term), multiply_add(i, factor, term)
        j = multiply_add(j, factor, term)
    return total(add(add(add(a, b), add(c, d)), add(add(add(e, f), add(g, h)), add(i, j))))


@njit(nogil=True)
def _read(n, x):
    sum0, sum1, sum2, sum3 = fill(0.0), fill(0.0), fill(0.0), fill(0.0)
    for _ in range(n):
        for k in range(0, x.size, 4 * DOUBLES):
            sum0, sum1 = add(load(x, k), sum0), add(load(x, k + DOUBLES), sum1)
            sum2, sum3 = add(load(x, k + 2 * DOUBLES), sum2), add(load(x, k + 3 * DOUBLES), sum3)
    return total(add(add(sum0, sum1), add(sum2, sum3)))


@njit(nogil=True)
def _triad(n, a, b, c):
    factor = fill(0.5)
    for _ in range(n):
        for k in range(0, a.size, 2 * DOUBLES):
            store(a, k, multiply_add(factor, load(c, k), load(b, k)))
            store(a, k + DOUBLES, multiply_add(factor, load(c, k + DOUBLES), load(b, k + DOUBLES)))


_apply, _from_other, _schur = single_site._apply_to_vector, parity_coupling._from_other, parity_coupling._schur_product
_turn, _descend, _split, _merge = red_black._turn, red_black._descend, parity_classes._split, parity_classes._merge


@njit(nogil=True)
def _apply_again(n, generator, x, product):
    for _ in range(n):
        _apply(generator, x, product)


@njit(nogil=True)
def _couple_again(n, classes, work):
    for _ in range(n):
        _from_other(classes, parity_classes.ODD, work[0], classes.inverse[1], work[1])


@njit(nogil=True)
def _step_again(n, classes, work):
    """The parts of one iteration of red_black._conjugate_gradients; steps of length zero keep the numbers as they are."""
    x, residual, step, image, odd, inverse = work[0], work[1], work[2], work[3], work[4], classes.inverse[0]
    for _ in range(n):
        _turn(0.0, 0.0, inverse, residual, x, step)
        _schur(classes, step, odd, image)
        _descend(0.0, image, inverse, residual)


@njit(nogil=True)
def _sources_again(n, classes, values, work):
    for _ in range(n):
        _split(values, classes.shape, work)
        dot(work[0], work[0])
        _merge(work, classes.shape, values)


@dataclass
class Kernel:
    """Operations and bytes of a call; ``footprint``: bytes of all that it touches; ``products``: whether it is made of products S x."""

    name: str
    operations: float
    n_bytes: float
    footprint: float
    products: bool
    again: Callable[[int], object]
    in_a_double: int = 1  # numbers that take its room: 2 of float32


def rate(again: Callable[[int], object], amount: float, threads: int = 1) -> float:
    """``amount`` per call of ``again(n) / n``, in billions a second: the best of five, all threads together."""
    again(1)
    start = time.perf_counter()
    again(1)
    n = max(1, int(SECONDS / (time.perf_counter() - start + 1e-7)))
    best = np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            start = time.perf_counter()
            list(pool.map(again, [n] * threads))
            best = min(best, (time.perf_counter() - start) / n)
    return threads * amount / best / 1e9


def ceilings(threads: int) -> dict[str, dict[str, float]]:
    """Billions of operations ("flop") or bytes ("read", "triad") a second."""
    fused, chains = (_fused_wide, 10) if COLUMNS > DOUBLES else (_fused, 6)
    result: dict[str, dict[str, float]] = {
        "flop": {"": rate(lambda n: fused(1000 * n), chains * 16 * 1000, threads)},
        "read": {},
        "triad": {},
    }
    for level, n_bytes in LEVELS.items():
        size = n_bytes // 8 // (threads if level in ("L3", "DRAM") else 1)

        def of_one_thread(kernel, n_arrays, size=size):
            own: dict[int, tuple[np.ndarray, ...]] = {}

            def again(n):
                key = get_ident()
                if key not in own:
                    own[key] = tuple(aligned_zeros(size + 3 * DOUBLES)[:size] for _ in range(n_arrays))
                kernel(n, *own[key])

            return again

        result["read"][level] = rate(of_one_thread(_read, 1), 8 * size, threads)
        result["triad"][level] = rate(of_one_thread(_triad, 3), 24 * size, threads)
    return result


def kernels_of(m: int) -> list[Kernel]:
    rng = np.random.default_rng(m)
    chain = tk.gibbs_chain(rng.standard_normal((m, m)) * 2.0 / np.sqrt(m))
    classes = parity_classes.parity_classes(chain)
    N, n, shape = 2 * m, chain.n_states, chain.shape
    work = aligned_zeros(5, classes.null.shape[1])
    x, product = (rng.standard_normal(n) for _ in range(2))
    _split(x, classes.shape, work[:2])
    vectors, sources = aligned_zeros(2, TOGETHER, n)
    sums = aligned_zeros(shape[0], m, DOUBLES), aligned_zeros(m, shape[1]), aligned_zeros(*shape), aligned_zeros(n)
    generator = chain.generator

    def overlaps(k: int) -> None:
        for _ in range(k):
            _flip_overlaps(vectors, sources, chain.quotient, *sums)

    mixed = mixed_precision.mixed_classes(classes)
    singles = aligned_singles(5, mixed.single.null.shape[1])
    singles[:2, : n // 4] = x[: n // 4]
    single = mixed.single

    met = 3 + (m - 3) / 2 + (m - 1) / 2 + 1 + 2  # pairs that exchange rows or registers are met once, the others twice
    return [
        Kernel("operator A x", (2 * N + 1) * n, 24 * n, 24 * n, True, lambda k: _apply_again(k, generator, x, product)),
        Kernel("reduced operator", (2 * N + 1) * n / 2, 24 * n / 2, 24 * n / 2, True, lambda k: _couple_again(k, classes, work)),
        Kernel("CG step", (4 * N + 17) * n / 2, 136 * n / 2, 64 * n / 2, True, lambda k: _step_again(k, classes, work)),
        Kernel("reduced, float32", (2 * N + 1) * n / 2, 12 * n / 2, 12 * n / 2, True, lambda k: _couple_again(k, single, singles), 2),
        Kernel("CG step, float32", (4 * N + 17) * n / 2, 68 * n / 2, 32 * n / 2, True, lambda k: _step_again(k, single, singles), 2),
        Kernel("right-hand sides", n, 40 * n, 16 * n, False, lambda k: _sources_again(k, classes, x, work)),
        Kernel("adjoint pass", 2 * met * n * TOGETHER, (16 * TOGETHER + 32) * n, (16 * TOGETHER + 16) * n, False, overlaps),
    ]


def print_kernels(m: int, roofs: dict[str, dict[str, float]]) -> None:
    print(f"\nm = {m}: {2 ** (2 * m - 1)} states; one thread", flush=True)
    print(f"  {'kernel':18s} {'flop/B':>7s} {'level':>5s} {'Gflop/s':>8s} {'GB/s':>7s} {'ceiling':>8s}  {'bound by':26s} {'share':>5s}")
    for kernel in kernels_of(m):
        level = next((name for name, size in LEVELS.items() if kernel.footprint <= 2 * size), "DRAM")
        bounds = {
            "multiply-adds": kernel.in_a_double * roofs["flop"][""],
            f"{level} triad": kernel.operations / kernel.n_bytes * roofs["triad"][level],
        }
        if kernel.products:
            bounds["loads, one a multiply-add"] = kernel.in_a_double * roofs["read"]["L1"] / 4  # 64 bytes for 16 operations, or 32
        bound = min(bounds, key=lambda name: bounds[name])
        reached = rate(kernel.again, kernel.operations)
        intensity, moved = kernel.operations / kernel.n_bytes, reached * kernel.n_bytes / kernel.operations
        print(
            f"  {kernel.name:18s} {intensity:7.2f} {level:>5s} {reached:8.1f} {moved:7.1f} {bounds[bound]:8.1f}"
            f"  {bound:26s} {reached / bounds[bound]:5.0%}",
            flush=True,
        )


def print_cell(m: int) -> None:
    """Everything that a cell of the grid computes of its chain, on one thread."""
    rng = np.random.default_rng(m)
    W, other = (rng.standard_normal((m, m)) * 2.0 / np.sqrt(m) for _ in range(2))
    p_data, chain = tk.visible_law(other), tk.gibbs_chain(W)
    tree = tk.merge_tree(chain)
    event = max(tree.events, key=lambda event: min(chain.law[event.dying].sum(), chain.law[event.surviving].sum()), default=None)
    parts: dict[str, Callable[[], object]] = {
        "Q": lambda: tk.q_struct(W, p_data),
        "Q and its gradient": lambda: adjoints.q_struct(W, p_data),
        "spectral gap": lambda: tk.spectral_gap(chain),
        "spectral measure": lambda: tk.spectral_measure(chain),
        "merge tree": lambda: tk.merge_tree(chain),
    }
    if event is not None:
        parts["hitting times, one target"] = lambda: tk.hitting_times(chain, event.surviving)
        parts["relevance, one event"] = lambda: tk.relevance(chain, event.dying)
        parts["conductance, one cut"] = lambda: tk.conductance(chain, event.dying)
    print(f"\nm = {m}: one chain with {len(tree.events)} merge events, milliseconds, best of five")
    for name, part in parts.items():
        part()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            part()
            times.append(time.perf_counter() - start)
        print(f"  {name:26s} {1e3 * min(times):9.2f}", flush=True)


def print_solves(m: int, threads: int) -> None:
    """Value and gradient on one and on several threads."""
    rng = np.random.default_rng(m)
    W, other = (rng.standard_normal((m, m)) * 2.0 / np.sqrt(m) for _ in range(2))
    p_data = tk.visible_law(other)
    solved = variance_time(tk.gibbs_chain(W))
    for number in (1, threads):
        tk.set_threads(number)
        times: dict[str, list[float]] = {"value": [], "value and gradient": []}
        for _ in range(max(3, 4 ** (9 - m))):
            for name, function in (("value", tk.q_struct), ("value and gradient", adjoints.q_struct)):
                start = time.perf_counter()
                function(W, p_data)
                times[name].append(time.perf_counter() - start)
        medians = {name: 1e3 * float(np.median(values)) for name, values in times.items()}
        ratio = float(np.median(np.array(times["value and gradient"]) / np.array(times["value"])))
        print(
            f"  m = {m}, {number} thread{'s' * (number > 1)}: value {medians['value']:.4g} ms, value and gradient"
            f" {medians['value and gradient']:.4g} ms, ratio {ratio:.2f}; {solved.iterations} iterations,"
            f" residual {solved.residual:.1e}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m", type=int, nargs="*", default=[6, 7, 8, 9, 10])
    parser.add_argument("--large", action="store_true", help="m = 11 and 12 too: about 2 GiB")
    parser.add_argument("--solve", type=int, nargs="*", default=[6, 7, 8], help="sizes m of whole solves")
    parser.add_argument("--cell", type=int, nargs="*", default=[6, 7], help="sizes m of whole cells")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    print_machine()
    tk.set_threads(1)
    roofs = ceilings(1)
    for number, roof in ((1, roofs), (arguments.threads, ceilings(arguments.threads))):
        print(f"ceilings, {number} thread{'s' * (number > 1)}: multiply-adds {roof['flop']['']:.0f} Gflop/s")
        for kind in ("read", "triad"):
            print(f"  {kind:5s} " + ", ".join(f"{level} {value:.0f} GB/s" for level, value in roof[kind].items()), flush=True)
    for m in [*arguments.m, *(LARGE if arguments.large else ())]:
        print_kernels(m, roofs)
    print("\nwhole solves, medians")
    for m in arguments.solve:
        print_solves(m, arguments.threads)
    tk.set_threads(1)
    for m in arguments.cell:
        print_cell(m)


if __name__ == "__main__":
    main()
