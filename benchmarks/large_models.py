"""T_O with its gradient of 20 to 24 spins against an older checkout of this package, the first blocks of observables in interleaved rounds.

    python benchmarks/large_models.py --before PATH [--size 22 24] [--observables 16] [--rounds 3] [--threads 1] [--hard]

Couplings are those of size.py, almost independent spins (standard deviation 1 / m) unless --hard. All observables are solved for in the
same way, in blocks one after the other, so that the ratio of some blocks is that of all of them but for what is done once: an observable is
what passes between the end of the first chunk and that of the last one asked for, and what comes before is the start, with the first chunk.
"whole" is the start and all other observables, on paper unless --observables asks for all of them. Each side lives in a process of its own
(2.5 GiB at 24 spins); seconds of CPU, medians, and the median over the rounds of the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from machine import print_machine

ROOT = Path(__file__).parents[1]
CODE = """
import json, sys, time
import numpy as np
import adjoints
import thermokernels as tk
from thermokernels.quantities.variance_time import variance_time
from thermokernels.solvers.solve import Solve

class Enough(Exception):
    pass

def ask(n_spins, hard, wanted):
    m = n_spins // 2
    W = np.random.default_rng(m).standard_normal((m, n_spins - m)) * (2.0 / np.sqrt(m) if hard else 1.0 / m)
    marks = [(0, time.process_time())]
    def tell(done, total):
        marks.append((done, time.process_time()))
        if done >= wanted and len(marks) > 2:
            raise Enough
    found = adjoints.variance_time.VarianceTimeAdjoint(tk.gibbs_chain(W))
    try:
        variance_time(found.chain, Solve(progress=tell), (found,))
    except Enough:
        pass
    (_, begun), (first, started), (last, ended) = marks[0], marks[1], marks[-1]
    each = (ended - started) / (last - first) if last > first else (ended - begun) / last
    return {"start": started - begun, "each": each, "whole": started - begun + (W.size - first) * each, "done": last}

tk.set_threads(int(sys.argv[1]))
ask(18, 0, 81)  # loads the kernels
for line in sys.stdin:
    print(json.dumps(ask(*map(int, line.split()))), flush=True)
"""


class Side:
    """One checkout in a process that answers questions."""

    def __init__(self, root: Path, threads: int) -> None:
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = os.environ | one | {"PYTHONPATH": str(root)}
        command = [sys.executable, "-c", CODE, str(threads)]
        self.child = subprocess.Popen(command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, n_spins: int, hard: bool, observables: int) -> dict[str, float]:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        print(n_spins, int(hard), observables, file=self.child.stdin, flush=True)
        return dict(json.loads(self.child.stdout.readline()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--size", type=int, nargs="+", default=[22, 24], metavar="N", help="even numbers of spins")
    parser.add_argument("--observables", type=int, default=16, help="how many at least, in whole chunks")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hard", action="store_true", help="couplings of standard deviation 2 / sqrt(m)")
    chosen = parser.parse_args()
    print_machine()
    sides = {"now": Side(ROOT, chosen.threads)}
    if chosen.before is not None:
        sides["before"] = Side(chosen.before, chosen.threads)
    print("seconds of CPU: the start with the first chunk, an observable more, the whole")
    for n_spins in chosen.size:
        rounds = []
        for _ in range(chosen.rounds):
            rounds.append({name: side.ask(n_spins, chosen.hard, chosen.observables) for name, side in sides.items()})
        for name in sides:
            start, each, whole = (statistics.median(answer[name][part] for answer in rounds) for part in ("start", "each", "whole"))
            done = f"(of {rounds[0][name]['done']:.0f} observables)"
            print(f"N = {n_spins}, {name:7s} {start:8.2f} {each:8.3f} {whole:8.1f}   {done}", flush=True)
        if chosen.before is not None:
            ratios = [[answer["before"][part] / answer["now"][part] for answer in rounds] for part in ("each", "whole")]
            each, whole = map(statistics.median, ratios)
            print(f"N = {n_spins}, before / now: {each:.2f} an observable, {whole:.2f} the whole", flush=True)


if __name__ == "__main__":
    main()
