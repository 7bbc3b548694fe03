"""What a gradient costs beside its value, and both beside dense linear algebra.

Usage: python benchmarks/gradient_cost.py [--m 4 5 6 7 8] [--rounds N] [--threads N]

The unit is one pass: A applied once to the vectors of all observables. It makes N + 1 multiply-adds for every entry and cannot do with less
than reading every entry once and writing it once. The gradient's floor is the reading half of a pass: it has to see every entry of
the solution, and the sums over flips that it takes are as many multiply-adds as those of a pass.
"""

import argparse
from collections.abc import Callable

import numpy as np
import scipy.linalg
from machine import print_machine, settled, spread
from threadpoolctl import threadpool_limits

import adjoints
import thermokernels as tk

DENSE_M = 6
TURN = 0.02  # seconds


def dense_t_obs(W: np.ndarray) -> float:
    """T_O as one would write it without this package: the chain on pairs {x, -x} as a matrix, and its Cholesky factor."""
    n_visible, n_hidden = W.shape
    N = n_visible + n_hidden
    states = np.arange(2 ** (N - 1))
    x = 1.0 - 2.0 * ((states[:, None] >> np.arange(N)) & 1)
    v, h = x[:, :n_visible], x[:, n_visible:]
    energy = -np.einsum("xi,ij,xj->x", v, W, h)
    law = np.exp(energy.min() - energy)
    law /= law.sum()
    fields = np.hstack([h @ W.T, v @ W])
    A = np.outer(np.sqrt(law), np.sqrt(law))  # the deflation
    A[states, states] += (1.0 / (1.0 + np.exp(2.0 * x * fields))).sum(axis=1) / N
    for spin in range(N):
        flipped = states ^ (1 << spin) if spin < N - 1 else states ^ (2 ** (N - 1) - 1)
        A[states, flipped] -= 1.0 / (2 * N * np.cosh(fields[:, spin]))
    f = -(v[:, :, None] * h[:, None, :]).reshape(states.size, -1)
    b = np.sqrt(law)[:, None] * (f - law @ f)
    return float(
        (b * scipy.linalg.cho_solve(scipy.linalg.cho_factor(A, overwrite_a=True, check_finite=False), b, check_finite=False)).sum()
    )


def measure(m: int, rounds: int) -> None:
    """One size: everything interleaved, in an order drawn anew every round, so that what disturbs the machine disturbs all alike.

    A turn is a call that brings its own into the caches, and as many more as last :data:`TURN`, of which the mean counts.
    """
    rng = np.random.default_rng(m)
    W, other = (rng.standard_normal((m, m)) * 2.0 / np.sqrt(m) for _ in range(2))
    p_data = tk.visible_law(other)
    chain = tk.gibbs_chain(W)
    vectors = rng.standard_normal((m * m, chain.n_states))
    contestants: dict[str, Callable[[], object]] = {
        "value": lambda: tk.q_struct(W, p_data),
        "value + gradient": lambda: adjoints.q_struct(W, p_data),
        "one pass": lambda: chain.apply_symmetrised_generator(vectors),
    }
    if m <= DENSE_M:
        contestants["dense Cholesky, value"] = lambda: dense_t_obs(W)
    for function in contestants.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name in rng.permutation(list(contestants)):
            contestants[name]()
            times[name].append(settled(contestants[name], TURN))
    medians = {name: float(np.median(samples)) for name, samples in times.items()}
    value, one = medians["value"], medians["one pass"]
    ratios = np.array(times["value + gradient"]) / np.array(times["value"])
    ratio, low, high = np.quantile(ratios, (0.5, 0.25, 0.75))
    q = tk.q_struct(W, p_data)
    entries = vectors.size
    print(f"\nm = {m}: N = {2 * m}, {chain.n_states} states (pairs), {m * m} observables, {q.method}, {q.iterations} iterations")
    for name, samples in times.items():
        print(f"  {name:22s} {spread(samples)}")
    print(
        f"  (value + gradient) / value  {ratio:.2f} (quartiles {low:.2f} to {high:.2f});"
        f"  value = {value / one:.1f} passes, gradient = {(ratio - 1) * value / one:.1f} passes"
    )
    operations, n_bytes = 2 * (2 * m + 1) * entries, 16 * entries
    print(
        f"  floor of a pass: {operations / 1e6:.3g} Mflop, {n_bytes / 1e6:.3g} MB;"
        f" measured {operations / one / 1e9:.2f} Gflop/s, {n_bytes / one / 1e9:.2f} GB/s"
    )
    if m <= DENSE_M:
        error = abs(dense_t_obs(W) / q.t_obs - 1.0)
        print(f"  dense value / value         {medians['dense Cholesky, value'] / value:.1f};  T_O agrees to {error:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m", type=int, nargs="+", default=[4, 5, 6, 7, 8])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print_machine()
    tk.set_threads(arguments.threads)
    print(f"{arguments.threads} thread{'s' * (arguments.threads > 1)}")
    with threadpool_limits(arguments.threads):
        for m in arguments.m:
            measure(m, arguments.rounds)


if __name__ == "__main__":
    main()
