"""The grid end to end, as a whole process: without compiled kernels, then with them.

Usage: python benchmarks/grid.py [--grid NAME] [--repeats N] [--workers N]
"""

import argparse
import os
import statistics
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path

from machine import print_machine, spread

from thermokernels_app.experiment.records import store

COLD_TARGET, WARM_TARGET = 45.0, 5.0  # seconds, default grid, 2 cores


def run(grid: str, out: Path, cache: Path, options: list[str]) -> tuple[float, dict]:
    """Wall seconds of one `thermo run`, start of the interpreter included, and its results.json."""
    thermo = Path(sysconfig.get_path("scripts"), "thermo")
    # without this variable, which has every process compile the package's Python anew: what pip installs is compiled once
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    result = subprocess.run(
        [thermo, "run", "--grid", grid, "--out", out, *options],
        env=environment | {"NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    if result.returncode not in (0, 10):
        raise SystemExit(f"thermo run ended with {result.returncode}: {result.stderr}")
    return seconds, store.read_results(out)


def describe(document: dict) -> str:
    """Verdicts and the times that the run itself noted."""
    circumstances = document["run"]
    verdicts = " ".join(f"{name} {verdict['verdict']}" for name, verdict in document["verdicts"].items())
    tasks = ", ".join(f"{name} {seconds:.2f}" for name, seconds in circumstances["task_seconds"].items())
    loading = circumstances["compile_seconds"]
    return f"{verdicts}; compiling or loading kernels {loading:.2f} s; seconds of all workers together: {tasks}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", default="default")
    parser.add_argument("--repeats", type=int, default=5, help="warm runs")
    parser.add_argument("--workers", type=int)
    arguments = parser.parse_args()
    options = ["--workers", str(arguments.workers)] if arguments.workers else []
    print_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cold, first = run(arguments.grid, folder / "cold", folder / "kernels", options)
        print(f"grid {arguments.grid}, {len(first['cells'])} cells, {first['run']['workers']} workers")
        print(f"cold (nothing compiled)  {cold:.3g} s, target {COLD_TARGET:g} s\n  {describe(first)}")
        warm, documents = [], []
        for repeat in range(arguments.repeats):
            seconds, document = run(arguments.grid, folder / f"warm{repeat}", folder / "kernels", options)
            warm.append(seconds)
            documents.append(document)
        print(f"warm (kernels cached)    {spread(warm)}, target {WARM_TARGET:g} s\n  {describe(documents[-1])}")
        hashes = {document["records_sha256"] for document in (first, *documents)}
        same = "the same bits" if len(hashes) == 1 else "DIFFER"
        print(f"cold / warm {cold / statistics.median(warm):.3g}; records of all runs: {same}")


if __name__ == "__main__":
    main()
