"""A diagnosis part by part, against an older checkout of this package in interleaved rounds.

    python benchmarks/diagnosis.py [--before PATH] [--shape 12 4] [--rounds 3] [--threads 1]

Couplings of standard deviation 2 / sqrt(max(n_v, n_h)) with visible fields of a tenth, so that the chain is that of all states. Either side
lives in a process of its own; seconds of CPU, medians, and the median over the rounds of the ratio. Only a checkout that tells of its parts
has them listed; those of the observables are T_O's solves.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import print_machine

ROOT = Path(__file__).parents[1]
CODE = """
import inspect, json, resource, sys, time
import numpy as np
import thermokernels as tk

n_visible, n_hidden, threads = map(int, sys.argv[1:])
tk.set_threads(threads)
told = "progress" in inspect.signature(tk.diagnose).parameters

def ask(shape):
    draws = np.random.default_rng(0)
    W, b = draws.normal(size=shape) * 2 / np.sqrt(max(shape)), 0.1 * draws.normal(size=shape[0])
    marks = [("the observables", time.process_time())]
    def tell(part, done, total):
        if part != marks[-1][0]:
            marks.append((part, time.process_time()))
    tk.diagnose(W, b, **({"progress": tell} if told else {}))
    ends = [at for _, at in marks[1:]] + [time.process_time()]
    return [(part, end - at) for (part, at), end in zip(marks, ends)]

ask((9, 4))  # loads the kernels
for line in sys.stdin:
    parts = ask((n_visible, n_hidden))
    print(json.dumps({"parts": parts if told else [], "all": sum(seconds for _, seconds in parts),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}), flush=True)
"""


class Side:
    """One checkout in a process that diagnoses when it is asked."""

    def __init__(self, root: Path, shape: list[int], threads: int) -> None:
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        command = [sys.executable, "-c", CODE, *map(str, (*shape, threads))]
        environment = os.environ | one | {"PYTHONPATH": str(root)}
        self.child = subprocess.Popen(command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self) -> dict[str, Any]:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        print(file=self.child.stdin, flush=True)
        return dict(json.loads(self.child.stdout.readline()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--shape", type=int, nargs=2, default=[12, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    print_machine()
    now = Side(ROOT, chosen.shape, chosen.threads)
    before = None if chosen.before is None else Side(chosen.before, chosen.shape, chosen.threads)
    mine, theirs = [], []
    for _ in range(chosen.rounds):
        mine.append(now.ask())
        if before:
            theirs.append(before.ask())
    n_visible, n_hidden = chosen.shape
    print(f"{n_visible} + {n_hidden} spins with fields, 2**{n_visible + n_hidden} states, peak memory {mine[-1]['peak']:.2f} GiB")
    for k, (part, _) in enumerate(mine[0]["parts"][:-1]):  # the last tells that it is done
        print(f"  {part:40} {statistics.median(answer['parts'][k][1] for answer in mine):7.2f} s")
    print(f"  {'all':40} {statistics.median(answer['all'] for answer in mine):7.2f} s")
    if before:
        ratio = statistics.median(old["all"] / new["all"] for new, old in zip(mine, theirs, strict=True))
        print(f"  {'before':40} {statistics.median(answer['all'] for answer in theirs):7.2f} s, {ratio:.2f} times as long")


if __name__ == "__main__":
    main()
