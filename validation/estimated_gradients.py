"""Claim: the gradient of T_O from coupled chains is a direction to go: along the exact one at 24 spins, along itself at 200.

    python validation/estimated_gradients.py [samples, 4096 by default] [seed]

Gaussian couplings of standard deviation 0.8 / (n_v n_h)^(1/4). At 12 x 12 the cosine with the exact gradient of the alternating scan and
the mean square of the errors in standard errors; at 100 x 100 the cosine of the gradients from two independent runs, for each kernel,
beside what their standard errors let expect. Exit code 1 where a claim fails.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from claims import Row, conclude

import adjoints

KERNELS = ("alternating", "two-block", "single-site")
# A direction is one from here on; halves that expect no more than this are not judged.
LEAST = 0.9


def couplings(n: int) -> np.ndarray:
    """The model of a size."""
    return np.random.default_rng(n).normal(0, 0.8 / n**0.5, (n, n))


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    """Of the angle between two arrays."""
    return float((left * right).sum() / np.linalg.norm(left) / np.linalg.norm(right))


def estimated(W: np.ndarray, kernel: str, n_samples: int, seed: int) -> adjoints.EstimatedGradient:
    """The gradient, and a line about its cost."""
    start = time.process_time()
    _, gradient = adjoints.estimate_q(W, None, kernel=kernel, n_samples=n_samples, n_replicates=224, seed=seed)
    print(f"{len(W)} x {len(W)}, {kernel}, {gradient.n_samples} samples: {time.process_time() - start:.1f} s of a core", flush=True)
    return gradient


def main() -> int:
    """Print the table."""
    n_samples, seed = (int(value) for value in (*sys.argv[1:], *("4096", "1")[len(sys.argv) - 1 :]))
    rows = []
    W = couplings(12)
    _, exact = adjoints.observable_variance_time(W, kernel="alternating")
    for kernel in KERNELS:
        found = estimated(W, kernel, n_samples, seed)
        if kernel == "alternating":
            z2 = float((((found.dt_dW - exact) / found.dt_dW_error) ** 2).mean())
            angle = cosine(found.dt_dW, exact)
            words = f"cosine {angle:.4f} with the exact one, mean z^2 {z2:.2f}"
            rows.append(Row("24 spins, alternating", words, angle > LEAST and 0.6 < z2 < 1.6))
    W = couplings(100)
    for kernel in KERNELS:
        one, other = (estimated(W, kernel, n_samples // 2, seed + k) for k in range(2))
        noise = float(np.sqrt((one.dt_dW_error**2).sum() / (one.dt_dW**2).sum()))
        # |gradient|^2 = |signal|^2 + |noise|^2 in each of them
        expected = max(1 - noise**2, 0.0)
        angle = cosine(one.dt_dW, other.dt_dW)
        rows.append(Row(f"200 spins, {kernel}", f"cosine {angle:.4f} of two runs, {expected:.4f} expected", abs(angle - expected) < 0.05))
    return conclude(rows)


if __name__ == "__main__":
    sys.exit(main())
