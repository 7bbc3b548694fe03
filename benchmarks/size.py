"""How far one Q with its gradient reaches: states, memory and time against the number of spins.

Usage: python benchmarks/size.py [--m 4 5 6 7 8 9] [--rounds N]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

from machine import print_machine


def measure(m: int, rounds: int) -> dict[str, float]:
    """In a process of its own: states, peak memory beyond that of the imports, and the median time."""
    import resource

    import numpy as np

    import adjoints
    import thermokernels as tk

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)  # MiB

    rng = np.random.default_rng(m)
    small = rng.standard_normal((4, 4))
    for method in ("cholesky", "cg"):  # compiles or loads the kernels
        adjoints.q_struct(small, tk.visible_law(small), method=method)
    W, other = (rng.standard_normal((m, m)) * 2.0 / np.sqrt(m) for _ in range(2))
    before, seconds = peak(), []
    for _ in range(rounds):
        start = time.perf_counter()
        q, _ = adjoints.q_struct(W, tk.visible_law(other))
        seconds.append(time.perf_counter() - start)
    return {"states": q.variance_time.chain.n_states, "mebibytes": peak() - before, "seconds": statistics.median(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--m", type=int, nargs="+", default=[4, 5, 6, 7, 8, 9])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.m[0], arguments.rounds)))
        return
    print_machine()
    print(f"{'N':>3} {'states (pairs)':>15} {'memory':>10} {'Q and dQ/dW':>14}")
    for m in arguments.m:
        command = [sys.executable, __file__, "--measure", "--m", str(m), "--rounds", str(arguments.rounds)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{2 * m:3d} {row['states']:15d} {row['mebibytes']:6.0f} MiB {1e3 * row['seconds']:11.3g} ms")


if __name__ == "__main__":
    main()
