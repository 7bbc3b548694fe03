"""How far landscape, passages and gap reach: merge tree, conductance, hitting times and spectral gap of one chain against N.

Usage: python benchmarks/landscape.py [--size 12 16 20 22 24]

Couplings are those of size.py. The target of the hitting times, and the cut, is the merge event whose smaller side has the largest
probability. Every size runs in a process of its own, so that its memory is its peak.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from machine import print_machine
from size import couplings

import thermokernels as tk
from thermokernels.quantities.spectral_gap import solve_spectral_gap

SIZES = (12, 16, 20, 22, 24)

Found = TypeVar("Found")


def measure(n_spins: int) -> dict[str, float | int]:
    """In a process of its own, with the kernels compiled before the clock starts."""
    import resource

    seconds: dict[str, float] = {}

    def timed(name: str, function: Callable[[], Found]) -> Found:
        start = time.perf_counter()
        found = function()
        seconds[name] = time.perf_counter() - start
        return found

    def everything(n: int) -> dict[str, float | int]:
        chain = timed("chain", lambda: tk.gibbs_chain(couplings(n)))
        tree = timed("tree", lambda: tk.merge_tree(chain))
        event = max(tree.events, key=lambda event: min(event.dying_mass, event.surviving_mass))
        timed("cut", lambda: tk.conductance(chain, event.dying))
        timed("hitting", lambda: tk.hitting_times(chain, event.surviving))
        gap = timed("gap", lambda: solve_spectral_gap(chain))
        return {"n_spins": n, "states": chain.n_states, "events": len(tree.events), "value": gap.value, "bound": gap.bound}

    everything(12)
    found = everything(n_spins)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)  # GiB
    return found | seconds | {"gibibytes": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="+", default=SIZES, metavar="N", help="even numbers of spins, at least 12")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure)))
        return
    print_machine()
    print(f"seconds, {tk.get_threads()} threads where a kernel has any\n")
    print(
        f"{'N':>3} {'states':>10} {'events':>6} {'chain':>8} {'merge tree':>10} {'cut':>8} {'hitting':>8} {'gap':>8}  memory, gap per step"
    )
    for n_spins in options.size:
        run = subprocess.run([sys.executable, __file__, "--measure", str(n_spins)], check=True, stdout=subprocess.PIPE, text=True)
        row = json.loads(run.stdout)
        times = f"{row['chain']:8.2g} {row['tree']:10.2g} {row['cut']:8.2g} {row['hitting']:8.2g} {row['gap']:8.2g}"
        gap = f"{row['value']:.3g} (error at most {row['bound']:.0e})"
        print(f"{row['n_spins']:3d} {row['states']:10d} {row['events']:6d} {times}  {row['gibibytes']:.2f} GiB, {gap}", flush=True)


if __name__ == "__main__":
    main()
