"""Which kernels are compiled for one cell, how often, and how long each takes.

Usage: python benchmarks/compilation.py [--top N]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from typing import Any


def measure() -> dict[str, Any]:
    """In a process of its own: train one network for one step, compute one cell, and record every compilation."""
    start = time.perf_counter()
    from numba.core import event

    from thermokernels_app.experiment import cell
    from thermokernels_app.experiment.design import Training, load_design

    imported = time.perf_counter()
    design = replace(load_design("default"), training=Training(steps=1))
    with event.install_recorder("numba:compile") as recorder:
        _, _, training = cell.train(design, 6, 2)
        trained = time.perf_counter()
        cell.cell(design, training, "final", 1)
        done = time.perf_counter()

    # Compilations nest, a caller's around its callees': what a kernel costs is its time without theirs.
    own: dict[str, list[float]] = {}
    stack: list[list[float]] = []
    for stamp, entry in recorder.buffer:
        if entry.is_start:
            stack.append([stamp, 0.0])
            continue
        begun, inside = stack.pop()
        if stack:
            stack[-1][1] += stamp - begun
        function = entry.data["dispatcher"].py_func
        own.setdefault(f"{function.__module__}.{function.__qualname__}", []).append(stamp - begun - inside)
    return {"import": imported - start, "train": trained - imported, "cell": done - trained, "kernels": own}


def run(cache: str) -> dict[str, Any]:
    """:func:`measure` with the given folder of compiled kernels."""
    command = [sys.executable, __file__, "--measure"]
    output = subprocess.run(command, env=os.environ | {"NUMBA_CACHE_DIR": cache}, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(output))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--top", type=int, default=15)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure()))
        return

    from machine import print_machine

    print_machine()
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold", "warm"):
            result = run(cache)
            kernels = result["kernels"]
            signatures, seconds = sum(map(len, kernels.values())), sum(map(sum, kernels.values()))
            print(
                f"{name}: import {result['import']:.2f} s, one training step {result['train']:.2f} s, one cell {result['cell']:.2f} s;"
                f" {signatures} signatures of {len(kernels)} kernels compiled in {seconds:.2f} s"
            )
            for kernel, times in sorted(kernels.items(), key=lambda item: -sum(item[1]))[: arguments.top]:
                print(f"  {sum(times):6.2f} s  {len(times)} x  {kernel}")


if __name__ == "__main__":
    main()
