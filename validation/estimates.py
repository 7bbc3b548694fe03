"""Claim: estimates from coupled chains are unbiased, their intervals cover where trusted, and a stuck chain is found out.

    python validation/estimates.py [estimates a model and kernel, 54 by default] [first seed] [--kernel KERNEL]...

Thirty small models times three kernels against the exact engine. An estimate is 224 replicates with a pilot and a seed of its own, as a
user gets it. Over all of them: the error of the mean T_O in standard errors; how many are trusted; how many of the trusted ones' intervals
of T_O and of Q hold the exact values. Models of more than a thousand sweeps get fewer. Then the laws of a coupled layer by chi-square, and
a chain that is stuck. Exit code 1 where a claim fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from claims import Row, conclude
from scipy import stats

import thermokernels as tk
from thermokernels.compiled.simd_chains import LANES, aligned_rows
from thermokernels.estimates.coupling.generators import _start_lane, _stream
from thermokernels.estimates.coupling.layer_coupling import _couple_layer

KERNELS = ("alternating", "two-block", "single-site")
REPETITION = 224
# Of ninety standard normal numbers, the largest is beyond this once in two hundred times.
LARGEST_Z = 4.0
POOLED, EACH = (0.94, 0.96), 0.93
# How many times fewer estimates of models that need thousands of sweeps to meet.
SLOW = {"Gauss 6x6 sd 1.0 fields": 13, "Gauss 4x7 sd 1.0 fields": 3}


def models() -> Iterator[tuple[str, tk.Model]]:
    """Thirty models of up to sixteen spins: Gaussian, ferromagnetic, frustrated, planted, with fields and without, square and not."""
    for sd in (0.3, 0.6, 1.0):
        for shape in ((6, 6), (4, 7)):
            for fields in (0.0, 0.3):
                draws = np.random.default_rng([int(10 * sd), *shape])
                W = draws.normal(0, sd, shape)
                b, c = fields * draws.normal(size=shape[0]), fields * draws.normal(size=shape[1])
                yield f"Gauss {shape[0]}x{shape[1]} sd {sd}{' fields' if fields else ''}", tk.Model(W, b, c)
    for coupling in (0.05, 0.1, 0.15):
        yield f"ferromagnet 8x8 J {coupling}", tk.Model(np.full((8, 8), coupling))
    for beta in (0.5, 1.0, 1.5, 2.0):
        for seed in (3, 4):
            signs = np.sign(np.random.default_rng(seed).normal(size=(5, 5)))
            yield f"frustrated 5x5 beta {beta} table {seed}", tk.Model(0.8 * beta * signs)
    for strength in (0.1, 0.15, 0.2):
        draws = np.random.default_rng(1)
        W = strength * np.sign(draws.normal(size=(2, 8))).T @ np.sign(draws.normal(size=(2, 8)))
        yield f"planted 8x8 {strength}", tk.Model(W)
        yield f"planted 8x8 {strength} fields", tk.Model(W, draws.normal(0, 0.2, 8), draws.normal(0, 0.2, 8))
    yield "independent 3x3", tk.Model(np.zeros((3, 3)))


def exact_time(model: tk.Model, kernel: str) -> float:
    """T_O in steps: the exact engine; of the alternating scan densely on the visible layer, sum Var + < u, E[(I - K)^+ w | h] >."""
    if kernel != "alternating":
        return tk.observable_variance_time(tk.gibbs_chain(model, kernel=kernel))
    W, b, c = model
    v, h = (1.0 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) for n in W.shape)
    energy = v @ W @ h.T + (v @ b)[:, None] + h @ c
    law = np.exp(energy - energy.max())
    law /= law.sum()
    to_hidden, to_visible = law / law.sum(axis=1, keepdims=True), law / law.sum(axis=0)
    means = np.einsum("vh,vi,hj->ij", law, v, h).ravel()
    seen = np.einsum("vi,vj->vij", v, np.tanh(v @ W + c)).reshape(len(v), -1) - means
    left = np.einsum("hi,hj->hij", np.tanh(h @ W.T + b), h).reshape(len(h), -1) - means
    solution = np.linalg.solve(np.eye(len(v)) - to_hidden @ to_visible.T + law.sum(axis=1), seen)
    return float(W.size - means @ means + (law.sum(axis=0)[:, None] * left * (to_visible.T @ solution)).sum())


def exact_signal(model: tk.Model, data: np.ndarray) -> float:
    """|g|^2 by plain enumeration."""
    W, b, c = model
    v, h = (1.0 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) for n in W.shape)
    energy = v @ W @ h.T + (v @ b)[:, None] + h @ c
    law = np.exp(energy - energy.max())
    law /= law.sum()
    g = data.T @ np.tanh(data @ W + c) / len(data) - np.einsum("vh,vi,hj->ij", law, v, h)
    return float((g**2).sum())


class Seen:
    """What the estimates of one model and kernel gave."""

    def __init__(self, model: tk.Model, kernel: str, n_estimates: int, first_seed: int) -> None:
        data = np.sign(np.random.default_rng(5).normal(0.3, 1.0, (200, model.n_visible)))
        self.exact = exact_time(model, kernel)
        steps = {"alternating": 1, "two-block": 2, "single-site": model.n_visible + model.n_hidden}[kernel]
        q = 50 * steps * exact_signal(model, data) / self.exact
        replicates, self.n_trusted, self.n_held, self.n_held_q = [], 0, 0, 0
        for number in range(n_estimates):
            seed = first_seed + 1000 * KERNELS.index(kernel) + number  # lag pairs of the same seed are the same for all kernels
            found = tk.estimate_q(model, data, kernel=kernel, n_replicates=REPETITION, seed=seed)
            replicates.append(found.replicates if np.isfinite(found.t_obs) else np.full(REPETITION, np.nan))
            if found.trusted:
                self.n_trusted += 1
                self.n_held += _holds(found.t_obs_interval, self.exact)
                self.n_held_q += _holds(found.interval, q)
        values = np.concatenate(replicates)
        self.mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
        # not a number where an estimate had to give up: a mean over the others would be biased
        self.z = (self.mean - self.exact) / error if error != 0 else 0.0
        self.n_estimates = n_estimates


def _holds(interval: tuple[float, float], exact: float) -> bool:
    low, high = interval
    return low - 1e-12 * abs(exact) <= exact <= high + 1e-12 * abs(exact)


def estimates(n_estimates: int, first_seed: int, kernels: Sequence[str] = KERNELS) -> bool:
    """The table of models, and the verdict on bias and coverage."""
    seen: dict[tuple[str, str], Seen] = {}
    print("| model | kernel | T_O exact | mean | z | estimates | trusted | T_O covered | Q covered |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, model in models():
        for kernel in kernels:
            one = seen[name, kernel] = Seen(model, kernel, max(2, n_estimates // SLOW.get(name, 1)), first_seed)
            shares = (f"{held / one.n_trusted:.3f}" if one.n_trusted else "-" for held in (one.n_held, one.n_held_q))
            counts = f"{one.n_estimates} | {one.n_trusted / one.n_estimates:.0%}"
            print(f"| {name} | {kernel} | {one.exact:.5g} | {one.mean:.5g} | {one.z:.2f} | {counts} | {' | '.join(shares)} |", flush=True)
    trusted = sum(one.n_trusted for one in seen.values())
    if not trusted:
        print("no estimate is trusted: nothing can be said of coverage")
        return False
    largest = max(abs(one.z) for one in seen.values() if np.isfinite(one.z))
    held, held_q = (sum(getattr(one, name) for one in seen.values()) for name in ("n_held", "n_held_q"))
    pooled = held / trusted
    # compatible with 93 % unless so few would come once in a thousand times
    below = [key for key, one in seen.items() if stats.binom.cdf(one.n_held, one.n_trusted, EACH) < 0.001]
    spread = np.sqrt(0.95 * 0.05 / trusted)
    total = sum(one.n_estimates for one in seen.values())
    print(
        f"{total} estimates, {trusted} of them trusted ({trusted / total:.1%}); of these the interval of T_O held the exact value in {held}"
    )
    print(f"({pooled:.2%}), that of Q in {held_q} ({held_q / trusted:.2%}); largest |z| {largest:.2f}")
    print(f"not compatible with {EACH}: {', '.join(map(' '.join, below)) or 'none'}")
    return largest < LARGEST_Z and POOLED[0] - 2 * spread <= pooled <= POOLED[1] + 2 * spread and not below


def laws_of_a_coupled_layer(seed: int) -> bool:
    """Chi-square of both marginal laws over all values of seven units, for several kappa, ten pairs of fields each."""
    values: tuple[list[float], list[float]] = ([], [])
    for number in range(10):
        fields = np.random.default_rng([seed, number]).normal(0, 1.2, (2, 7))
        for place, kappa in enumerate((0.0, 1.0, 4.0, 16.0, 1e9)):
            for side, spins in enumerate(_coupled(fields, kappa, 10 * number + place, 200_000 // LANES)):
                counts = np.bincount(((spins < 0) << np.arange(7)).sum(axis=1), minlength=128)
                signs = 1 - 2 * ((np.arange(128)[:, None] >> np.arange(7)) & 1)
                expected = len(spins) * (1 / (1 + np.exp(-2 * signs * fields[side]))).prod(axis=1)
                keep = expected >= 5
                observed = np.append(counts[keep], counts[~keep].sum())
                wanted = np.append(expected[keep], expected[~keep].sum())
                wanted, observed = wanted[wanted > 0], observed[wanted > 0]
                values[side].append(stats.chi2.sf(((observed - wanted) ** 2 / wanted).sum(), len(wanted) - 1))
    smallest, uniform = min(map(min, values)), min(stats.kstest(side, "uniform").pvalue for side in values)
    print(f"laws of a coupled layer: 50 chi-square tests of each chain, smallest p {smallest:.3g}, uniform with p {uniform:.3g} or more")
    return smallest > 1e-5 and uniform > 1e-3


def _coupled(fields: np.ndarray, kappa: float, number: int, n_rounds: int) -> list[np.ndarray]:
    table = np.zeros((8, 2), np.float32)
    table[:7] = fields.T
    others = aligned_rows(np.float32, 2), aligned_rows(np.float32, 2)
    others[0][0], others[1][1] = 1, 1  # X feels the first column, Y the second
    spins, sums, words = (aligned_rows(np.float32, 7), aligned_rows(np.float32, 7)), aligned_rows(np.float32, 8), aligned_rows(np.uint32, 4)
    for lane in range(LANES):
        _start_lane(np.uint64(_stream(np.uint64(number), lane, 0)), words, lane)
    seen: list[list[np.ndarray]] = [[], []]
    for _ in range(n_rounds):
        _couple_layer(table, np.zeros(8, np.float32), others, kappa, words, sums, spins, spins, False)
        for side in range(2):
            seen[side].append(spins[side].T.copy())
    return [np.concatenate(side) for side in seen]


def stuck_chain() -> bool:
    """Two wells that are never left: no estimate, no matter how quickly chains meet within a well."""
    model = tk.Model(np.full((5, 5), 2.0), np.full(5, 0.01))
    found = [tk.estimate_q(model, None, kernel=kernel, budget=1.0) for kernel in KERNELS]
    for kernel, one in zip(KERNELS, found, strict=True):
        print(f"stuck, {kernel}: trusted {one.trusted}, {one.reason}")
    return not any(one.trusted or np.isfinite(one.t_obs) for one in found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("estimates", type=int, nargs="?", default=54, help="estimates a model and kernel (54)")
    parser.add_argument("seed", type=int, nargs="?", default=1, help="the first seed; kernels and estimates count on from it (1)")
    parser.add_argument("--kernel", action="append", choices=KERNELS, help="only this kernel, any number of times (all three)")
    return parser.parse_args()


def main() -> int:
    """Run all parts."""
    options = _options()
    kernels = options.kernel or KERNELS
    rows = [
        Row("a chain that is stuck", "no estimate", stuck_chain()),
        Row("a coupled layer", "both of its laws", laws_of_a_coupled_layer(options.seed)),
        Row(
            f"thirty models, {', '.join(kernels)}",
            "no bias, and coverage where trusted",
            estimates(options.estimates, options.seed, kernels),
        ),
    ]
    return conclude(rows)


if __name__ == "__main__":
    sys.exit(main())
