"""Claim: the gradient of T_O from coupled chains has no bias, and is a direction to go at 24 spins and at 200.

    python validation/estimated_gradients.py [samples of a half at 200 spins, 2048 by default] [seed, 1]

Small models, three kernels: the largest |z| of all entries against the exact gradient (of the two-block kernel, differences of exact
values) and the mean of z^2, over four seeds of 2048 samples. At 12 x 12 (Gaussian couplings of standard deviation 0.8 / 12^(1/2)) the
cosine with the exact gradient of the alternating scan. At 100 x 100 (three patterns and noise) the cosine of the gradients from two
independent runs, beside what their standard errors let expect: of halves whose cosine is c the sum of both has the cosine
(2 c / (1 + c))^(1/2) with the exact one. The single-site kernel is left out there: its pairs that differ in one spin take as long to meet
as others, half a second of a core a sample. Exit code 1 where a claim fails.
"""

from __future__ import annotations

import math
import sys
import time

import numpy as np
from claims import Row, conclude

import adjoints
import thermokernels as tk

KERNELS = ("alternating", "two-block", "single-site")
SEEDS, SAMPLES = 4, 2048
# A direction is one from here on.
LEAST = 0.9


def patterns(n: int, n_patterns: int) -> np.ndarray:
    """Couplings of planted patterns and noise."""
    draws = np.random.default_rng(3)
    left, right = np.sign(draws.normal(size=(n_patterns, n))), np.sign(draws.normal(size=(n_patterns, n)))
    return 1.1 * left.T @ right / n + draws.normal(0, 0.2 / n**0.5, (n, n))


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    """Of the angle between two arrays."""
    return float((left * right).sum() / np.linalg.norm(left) / np.linalg.norm(right))


def estimated(model: tk.Model, kernel: str, n_samples: int, seed: int) -> tuple[adjoints.EstimatedGradient, float]:
    """The gradient, and seconds of a core a thousand samples."""
    start = time.process_time()
    _, gradient = adjoints.estimate_q(model, None, kernel=kernel, n_samples=n_samples, n_replicates=224, seed=seed)
    return gradient, 1000 * (time.process_time() - start) / gradient.n_samples


def exact_gradient(model: tk.Model, kernel: str) -> np.ndarray:
    """dT_O/dW, zero where there is no coupling; of the two-block kernel, which has no exact adjoint, by differences of exact values."""
    if kernel != "two-block":
        return adjoints.observable_variance_time(model, kernel=kernel)[1]
    gradient, step = np.zeros(model.W.shape), 1e-4
    for i, j in np.argwhere(model.edges.reshape(model.W.shape)):
        for sign in (1, -1):
            moved = model.W.copy()
            moved[i, j] += sign * step
            chain = tk.gibbs_chain(tk.Model(moved, model.b, model.c, mask=model.mask), kernel=kernel)
            gradient[i, j] += sign * tk.observable_variance_time(chain) / (2 * step)
    return gradient


def small(name: str, model: tk.Model, kernel: str, first: int) -> Row:
    """z scores against the exact gradient; entries that do not exist must be zero."""
    exact = exact_gradient(model, kernel)
    edges, z = model.edges.reshape(exact.shape), []
    for seed in range(first, first + SEEDS):
        found, _ = estimated(model, kernel, SAMPLES, seed)
        assert not found.dt_dW[~edges].any()
        z.append((found.dt_dW[edges] - exact[edges]) / found.dt_dW_error[edges])
    largest, squares = float(np.abs(z).max()), float(np.mean(np.square(z)))
    return Row(f"{name}, {kernel}", f"largest |z| {largest:.2f} of {np.size(z)}, mean z^2 {squares:.2f}", largest < 4.5 and squares < 1.6)


def against_exact(n_samples: int, seed: int) -> Row:
    """The cosine at 24 spins."""
    W = np.random.default_rng(12).normal(0, 0.8 / 12**0.5, (12, 12))
    _, exact = adjoints.observable_variance_time(W, kernel="alternating")
    found, _ = estimated(tk.Model(W), "alternating", n_samples, seed)
    z2 = float((((found.dt_dW - exact) / found.dt_dW_error) ** 2).mean())
    angle = cosine(found.dt_dW, exact)
    words = f"cosine {angle:.4f} with the exact one, mean z^2 {z2:.2f}"
    return Row(f"24 spins, alternating, {n_samples} samples", words, angle > LEAST and 0.6 < z2 < 1.6)


def halves(kernel: str, n_samples: int, seed: int) -> Row:
    """The cosine of two runs at 200 spins."""
    model = tk.Model(patterns(100, 3))
    (one, _), (other, seconds) = (estimated(model, kernel, n_samples, seed + k) for k in range(2))
    # |gradient|^2 = |signal|^2 + |noise|^2 in each of them
    expected = max(1 - float((one.dt_dW_error**2).sum() / (one.dt_dW**2).sum()), 0.0)
    angle = cosine(one.dt_dW, other.dt_dW)
    both = math.sqrt(2 * max(angle, 0.0) / (1 + max(angle, 0.0)))
    words = f"cosine {angle:.3f} of two runs, {expected:.3f} expected; {both:.3f} of both with the truth; {seconds:.3g} s a thousand"
    return Row(f"200 spins, {kernel}, {n_samples} samples each", words, abs(angle - expected) < 0.05)


def main() -> int:
    """Print the table."""
    n_samples, seed = (int(value) for value in (*sys.argv[1:], *("2048", "1")[len(sys.argv) - 1 :]))
    tk.set_threads(1)
    draws = np.random.default_rng(5)
    fields = tk.Model(draws.normal(0, 0.6, (3, 3)), draws.normal(0, 0.3, 3), draws.normal(0, 0.3, 3))
    mask = draws.random((4, 4)) < 0.6
    models = {"3 x 3 with fields": fields, "4 x 4": tk.Model(draws.normal(0, 0.5, (4, 4)))}
    models["4 x 4 with a mask"] = tk.Model(mask * draws.normal(0, 0.7, (4, 4)), mask=mask)
    rows = [small(name, model, kernel, seed) for name, model in models.items() for kernel in KERNELS]
    rows.append(against_exact(2 * n_samples, seed))
    rows += [halves(kernel, n_samples, seed) for kernel in KERNELS[:2]]
    return conclude(rows)


if __name__ == "__main__":
    sys.exit(main())
