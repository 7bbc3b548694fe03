"""How far T_O with its gradient reaches: exact up to 24 spins, by random signs beyond; seconds, memory, residual and bound against N.

Usage: python benchmarks/size.py [--exact 8 10 ... 24] [--probes 26 28] [--n-probes 8] [--seed 0] [--easy]

Every size runs in a process of its own, so that its memory is its peak. What does not fit into this machine says what it would take.
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np
from machine import print_machine

import adjoints
import thermokernels as tk
from thermokernels.common import footprint, memory
from thermokernels.quantities.variance_time import variance_time

EXACT, PROBES = tuple(range(8, 25, 2)), (26, 28)


def couplings(n_spins: int, easy: bool = False) -> np.ndarray:
    """Square couplings of standard deviation 2 / sqrt(m): a landscape with barriers, not too slow; easy ones 1 / m: almost independent."""
    m = n_spins // 2
    return np.random.default_rng(m).standard_normal((m, n_spins - m)) * (1.0 / m if easy else 2.0 / np.sqrt(m))


def measure(n_spins: int, easy: bool, n_probes: int | None, seed: int) -> dict[str, float | int | str | None]:
    """In a process of its own, with the kernels compiled before the clock starts."""
    import resource

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)  # GiB

    adjoints.probe_variance_time(couplings(10), 2, seed=0)
    adjoints.observable_variance_time(couplings(10))
    W, before, start = couplings(n_spins, easy), peak(), time.perf_counter()
    row: dict[str, float | int | str | None] = {"n_spins": n_spins, "states": 2 ** (n_spins - 1), "observables": W.size}
    try:
        if n_probes is None:
            found = adjoints.variance_time.VarianceTimeAdjoint(tk.gibbs_chain(W))
            exact = variance_time(found.chain, accumulators=(found,))
            found.cotangents(exact)
            row |= {"seconds": time.perf_counter() - start, "gibibytes": peak(), "residual": exact.residual, "iterations": exact.iterations}
            start = time.perf_counter()
            row |= {"bound": exact.bound / exact.value, "bound_seconds": time.perf_counter() - start}
        else:
            estimate, gradient, errors = adjoints.probe_variance_time(W, n_probes, seed=seed)
            row |= {
                "seconds": time.perf_counter() - start,
                "gibibytes": peak(),
                "residual": estimate.residual,
                "iterations": estimate.iterations,
            }
            row |= {"standard_error": estimate.standard_error / estimate.value, "exact_share": estimate.exact / estimate.value}
            row |= {"gradient_error": float(np.linalg.norm(errors) / np.linalg.norm(gradient))}
    except tk.ModelTooLargeError as refusal:
        row["refusal"] = str(refusal)
    return row | {"imports_gibibytes": before, "estimated_gibibytes": estimate_bytes(W, n_probes) / 2**30}


def estimate_bytes(W: np.ndarray, n_probes: int | None) -> int:
    """What the call itself expects to take."""
    rows = footprint.rows_at_once(W.size if n_probes is None else n_probes + 4, 2 ** (sum(W.shape) - 1))
    return footprint.variance_time(*W.shape, full=False, gradient=True, rows=rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exact", type=int, nargs="*", default=EXACT, metavar="N", help="even numbers of spins")
    parser.add_argument("--probes", type=int, nargs="*", default=PROBES, metavar="N")
    parser.add_argument("--n-probes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--easy", action="store_true", help="couplings of standard deviation 1 / m instead of 2 / sqrt(m)")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure, options.easy, options.n_probes if options.probe else None, options.seed)))
        return
    print_machine()
    print(f"{memory.readable(memory.available())} of memory available; T_O and dT_O/dW, {tk.get_threads()} threads\n")
    columns = f"{'seconds':>9} {'peak memory':>12} {'estimate':>9} {'residual':>9} {'iterations':>10}  error"
    print(f"{'N':>3} {'states':>10} {'observables':>12} {columns}")
    for n_spins, probe in [*((n, False) for n in options.exact), *((n, True) for n in options.probes)]:
        command = [
            sys.executable,
            __file__,
            *["--easy"] * options.easy,
            "--measure",
            str(n_spins),
            "--seed",
            str(options.seed),
            "--n-probes",
            str(options.n_probes),
        ]
        run = subprocess.run(command + ["--probe"] * probe, check=True, stdout=subprocess.PIPE, text=True)
        print(line(json.loads(run.stdout), options.n_probes), flush=True)


def line(row: dict, n_probes: int) -> str:
    if "refusal" in row:
        return f"{row['n_spins']:3d} {row['refusal']}"
    start = f"{row['n_spins']:3d} {row['states']:10d} {row['observables']:12d} {row['seconds']:9.3g}"
    start += f" {row['gibibytes']:8.2f} GiB {row['estimated_gibibytes']:5.2f} GiB {row['residual']:9.1e} {row['iterations']:10d}"
    if "bound" in row:
        return f"{start}  at most {row['bound']:.1e} (relative; proved in {row['bound_seconds']:.2g} s more)"
    return (
        f"{start}  standard error {row['standard_error']:.1e} of T_O, {row['gradient_error']:.1e} of its gradient "
        f"({n_probes} probes, {row['exact_share']:.1%} exact)"
    )


if __name__ == "__main__":
    main()
