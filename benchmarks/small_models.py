"""One call, with and without the gradient, and batches of small models, against an older checkout of this package in interleaved rounds.

    python benchmarks/small_models.py --before PATH [--m 3 4 5] [--rounds 15]
    python benchmarks/small_models.py --before PATH --m 6 7 8 9 10 --rounds 5

Each round asks either side once, in a process of its own that stays alive, on one thread; microseconds of CPU a call, medians, and the
median over the rounds of the ratio. Without --before only this checkout is measured. Batches are of models of up to m = 5.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from machine import print_machine

ROOT = Path(__file__).parents[1]
BATCHED = 5
NAMES = {"value": "value", "accurate": "value to 1e-10", "call": "with gradient", "batch": "a model of 64"}
CODE = """
import sys, time
import numpy as np
import adjoints
import thermokernels as tk

tk.set_threads(1)
for line in sys.stdin:
    what, m, calls = line.split()
    m, calls = int(m), int(calls)
    draws = np.random.default_rng(m)
    W, law = draws.normal(size=(64, m, m)) * 2 / np.sqrt(m), tk.visible_law(draws.normal(size=(m, m)))

    def one():
        if what == "accurate":
            return tk.q_struct(W[0], law, accuracy=1e-10)
        return (tk if what == "value" else adjoints).q_struct(W[0], law)

    def many():
        return adjoints.q_struct(W, law) if what == "batch" else [adjoints.q_struct(w, law) for w in W]

    ask = many if what in ("batch", "loop") else one
    if m < 9:
        ask()
    start = time.process_time()
    for _ in range(calls):
        ask()
    print((time.process_time() - start) / calls / (64 if ask is many else 1) * 1e6, flush=True)
"""


class Side:
    """One checkout in a process that answers questions."""

    def __init__(self, root: Path) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = os.environ | threads | {"PYTHONPATH": str(root)}
        command = [sys.executable, "-c", CODE]
        self.child = subprocess.Popen(command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, what: str, m: int, calls: int) -> float:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        print(what, m, calls, file=self.child.stdin, flush=True)
        return float(self.child.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--m", type=int, nargs="+", default=[3, 4, 5])
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    print_machine()
    now = Side(ROOT)
    before = None if chosen.before is None else Side(chosen.before)
    print(f"{'':24} {'now':>10} {'before':>10} {'before / now':>14}")
    for m in chosen.m:
        calls = max(1, 20 // 4 ** max(0, m - 5))
        asked = (("value", "value", calls), ("accurate", "value", calls), ("call", "call", calls), ("batch", "loop", 1))
        for what, older, n_calls in asked[: 4 if m <= BATCHED else 3]:
            rows = []
            for _ in range(chosen.rounds):
                mine = now.ask(what, m, n_calls)
                rows.append((mine, before.ask(older, m, n_calls) if before else float("nan")))
            ratio = statistics.median(old / new for new, old in rows)
            name = f"m = {m}, {NAMES[what]}"
            print(f"{name:24} {statistics.median(r[0] for r in rows):8.1f}us {statistics.median(r[1] for r in rows):8.1f}us {ratio:13.2f}x")


if __name__ == "__main__":
    main()
