"""Claim: ``thermo compare`` doubts a right trace in about one of 1000 comparisons.

    python validation/false_alarms.py [--traces 1000]

Traces of several kinds, each drawn from the very model and kernel that are named, are compared; an estimate that is further from what the
estimator gives on average than the rule allows is a false alarm. Ends with 1 where some kind has more than 5 in 1000.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

import thermokernels as tk
from thermokernels.comparison.compare import compare
from thermokernels.comparison.result import FALSE_ALARMS

W = np.array([[0.9, 0.3, -0.3], [0.4, -0.8, 0.6], [-0.2, 0.7, 0.9]])
# kernel, couplings as a multiple of W, chains, records, sweeps between them
KINDS = (
    ("single-site", 1.0, 4, 2000, 1),
    ("single-site", 2.0, 4, 500, 1),
    ("two-block", 1.0, 1, 2000, 2),
    ("alternating", 1.0, 8, 500, 1),
    ("alternating", 2.0, 2, 4000, 1),
)
MOST = 5e-3


def false_alarms(kernel: str, scale: float, n_chains: int, n_records: int, every: int, n_traces: int) -> tuple[int, float]:
    """How many traces are doubted, and the largest deviation in standard errors."""
    doubted, largest = 0, 0.0
    for seed in range(n_traces):
        samples = tk.sample(
            scale * W, n_chains=n_chains, n_sweeps=n_records * every, thin=every, kernel=kernel, burn_in=500, seed=seed, threads=1
        )
        found = compare(samples, scale * W, observables=["energy", "magnetisation", "v0h0"])
        deviations = [abs(estimate.deviation) for row in found.rows for estimate in row.estimates if estimate.deviation is not None]
        doubted += max(deviations) > found.chance
        largest = max(largest, *deviations)
    return doubted, largest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=1000)
    n_traces = parser.parse_args().traces
    print(f"the rule: one comparison in {FALSE_ALARMS}")
    print(f"{'kernel':12} couplings  chains  records  every  doubted  largest deviation")
    worst = 0.0
    for kind in KINDS:
        kernel, scale, n_chains, n_records, every = kind
        doubted, largest = false_alarms(*kind, n_traces)
        worst = max(worst, doubted / n_traces)
        print(f"{kernel:12} {scale:9g}  {n_chains:6}  {n_records:7}  {every:5}  {doubted:7}  {largest:.2f}", flush=True)
    return int(worst > MOST)


if __name__ == "__main__":
    sys.exit(main())
