"""Claim: the squared error of a gradient that `operational_q` computes is what simulated windows show.

For three models, three kernels and two starts, 100,000 windows are simulated by plain NumPy (single spins and random blocks) or by the
compiled sampler (the alternating scan); their mean squared error has to lie within five standard errors of the exact one, and so does their
squared bias (estimated from two halves). Prints a table; the exit code is 1 where a row fails.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

import thermokernels as tk

N_WINDOWS = 100_000
FEW_ERRORS = 5.0

Floats = NDArray[np.float64]
Model = tuple[Floats, Floats, Floats]


def coins(fields: Floats, draws: np.random.Generator) -> Floats:
    """Spins with these local fields."""
    return np.where(draws.random(fields.shape) < 1 / (1 + np.exp(-2 * fields)), 1.0, -1.0)


def started(start: str, model: Model, p_data: Floats, draws: np.random.Generator) -> tuple[Floats, Floats]:
    W, _, c = model
    if start == "uniform":
        return draws.choice([-1.0, 1.0], size=(N_WINDOWS, W.shape[0])), draws.choice([-1.0, 1.0], size=(N_WINDOWS, W.shape[1]))
    states = draws.choice(p_data.size, p=p_data, size=N_WINDOWS)
    v = 1.0 - 2.0 * (states[:, None] >> np.arange(W.shape[0]) & 1)
    return v, coins(v @ W + c, draws)


def step(kernel: str, v: Floats, h: Floats, model: Model, draws: np.random.Generator) -> None:
    """One step of every chain, in place."""
    W, b, c = model
    if kernel == "two-block":
        which = draws.random(len(v)) < 0.5
        v[which] = coins(h[which] @ W.T + b, draws)
        h[~which] = coins(v[~which] @ W + c, draws)
        return
    chosen = draws.integers(sum(W.shape), size=len(v))
    for i in range(W.shape[0]):
        which = chosen == i
        v[which, i] = coins(h[which] @ W[i] + b[i], draws)
    for j in range(W.shape[1]):
        which = chosen == W.shape[0] + j
        h[which, j] = coins(v[which] @ W[:, j] + c[j], draws)


def window_means(kernel: str, start: str, model: Model, p_data: Floats, window: int, burn_in: int, seed: int) -> Floats:
    """The mean of -v_i h_j over every window, (N_WINDOWS, n_v n_h)."""
    draws = np.random.Generator(np.random.PCG64(seed))
    v, h = started(start, model, p_data, draws)
    if kernel == "alternating":  # its records begin one sweep after the burn-in
        spins = np.concatenate([v, h], axis=1)
        one = tk.sample(*model, n_chains=N_WINDOWS, n_sweeps=window, burn_in=burn_in - 1, kernel=kernel, start=spins, seed=seed)
        sums = -np.einsum("tki,tkj->kij", one.visible, one.hidden, dtype=np.float64)
        return sums.reshape(N_WINDOWS, -1) / window
    for _ in range(burn_in):
        step(kernel, v, h, model, draws)
    sums = np.zeros((N_WINDOWS, *model[0].shape))
    for record in range(window):
        if record:
            step(kernel, v, h, model, draws)
        sums -= v[:, :, None] * h[:, None, :]
    return sums.reshape(N_WINDOWS, -1) / window


def main() -> int:
    print(f"{N_WINDOWS} windows a row; z is the distance in standard errors, at most {FEW_ERRORS:g}\n")
    print(f"{'model':<14}{'kernel':<13}{'start':<9}{'K':>4}{'B':>3}", end="")
    print(f" {'exact error':>12} {'simulated':>10} {'z':>5} {'bias^2':>9} {'simulated':>10} {'z':>5}")
    failed = 0
    for number, (shape, fields, scale) in enumerate((((3, 2), True, 1.0), ((2, 3), False, 2.0), ((4, 3), True, 0.7))):
        chosen = np.random.Generator(np.random.PCG64([1, number]))
        W = scale * chosen.normal(size=shape)
        model = (W, fields * chosen.normal(size=shape[0]), fields * chosen.normal(size=shape[1]))
        p_data = chosen.dirichlet(np.ones(2 ** shape[0]))
        for kernel in ("single-site", "two-block", "alternating"):
            chain = tk.gibbs_chain(*model, kernel=kernel)
            per_sweep = {"single-site": sum(shape), "two-block": 2, "alternating": 1}[kernel]
            full = tk.gibbs_chain(*model, quotient=False)
            spins = full.spins().astype(np.float64)
            exact_mean = -np.einsum("x,xi,xj->ij", full.law, spins[:, : shape[0]], spins[:, shape[0] :]).ravel()
            for start in ("uniform", "data"):
                window, burn_in = 24, 2
                q = tk.operational_q(chain, p_data, window / per_sweep, burn_in / per_sweep, start)
                means = window_means(kernel, start, model, p_data, window, burn_in, 10 + number) - exact_mean
                squares = (means**2).sum(axis=1)
                z = (squares.mean() - q.error) / (squares.std() / np.sqrt(N_WINDOWS))
                # Unbiased for |E|^2: the product of the means of independent halves, hundred times.
                parts = means.reshape(100, 2, -1, means.shape[1]).mean(axis=2)
                products = np.einsum("ka,ka->k", parts[:, 0], parts[:, 1])
                z_bias = (products.mean() - q.bias2) / (products.std(ddof=1) / np.sqrt(len(products)))
                bad = max(abs(z), abs(z_bias)) > FEW_ERRORS
                failed += bad
                name = f"{shape[0]} x {shape[1]}" + (", fields" if fields else "")
                row = f"{name:<14}{kernel:<13}{start:<9}{window:>4}{burn_in:>3} {q.error:>12.5f} {squares.mean():>10.5f} {z:>5.1f} "
                print(row + f"{q.bias2:>9.6f} {products.mean():>10.6f} {z_bias:>5.1f}{'  FAIL' if bad else ''}")
    print(f"\n{'FAIL' if failed else 'PASS'}: {failed} of 18 rows further off than {FEW_ERRORS:g} standard errors")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
