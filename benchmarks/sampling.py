"""Spin updates per second of tk.sample, beside a dense JAX sampler and thrml where they are installed, and beside the processor's ceiling.

Usage: python benchmarks/sampling.py [--shapes 64x64 784x256] [--rounds N] [--seconds S]

An update is one spin resampled; a sweep makes N of them on average. The alternating kernel of this package, JAX and thrml do the same work:
all visible spins given the hidden ones, then all hidden given the visible. "two-block" counts the steps of its random scan, of which
those that repeat a block are not carried out, since they change nothing in law. "single-site" counts attempts.

The floor of a block sweep is its fields: n_v n_h float32 multiply-adds for either block of every chain. The ceiling is a loop of them on
registers, on one thread, measured in the same run. A tile of four rows reads one row of spins (256 bytes for 64 chains) and four
couplings for 512 operations: half a byte an operation, from the first-level cache at 64x64.
JAX and thrml use as many threads as they like, and each is shown at the best of a few numbers of chains.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
from machine import print_machine

import thermokernels as tk
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_chains import LANES, aligned_rows, load, multiply_add, store
from thermokernels.model.kernels.registry import KERNELS

# sampler(n_sweeps) -> last (visible, hidden) spins, chains first
Sampler = Callable[[int], tuple[np.ndarray, np.ndarray]]


@jit
def _multiply_adds(rows, n_rounds, out):
    factor, addend = load(rows, 0), load(rows, 1)
    sum0, sum1, sum2, sum3 = load(rows, 2), load(rows, 3), load(rows, 4), load(rows, 5)
    for _ in range(n_rounds):
        sum0 = multiply_add(sum0, factor, addend)
        sum1 = multiply_add(sum1, factor, addend)
        sum2 = multiply_add(sum2, factor, addend)
        sum3 = multiply_add(sum3, factor, addend)
    store(out, 0, sum0 + sum1 + (sum2 + sum3))


def ceiling(n_rounds: int = 5_000_000) -> float:
    """Operations per second of one thread that does nothing but float32 multiply-adds."""
    rows, out = aligned_rows(np.float32, 6), aligned_rows(np.float32, 1)
    rows[:] = 0.5
    _multiply_adds(rows, 1, out)
    start = time.perf_counter()
    _multiply_adds(rows, n_rounds, out)
    return 8 * LANES * n_rounds / (time.perf_counter() - start)


def ours(W: np.ndarray, kernel: str, n_chains: int, threads: int, n_sweeps: int) -> tuple[np.ndarray, np.ndarray]:
    samples = tk.sample(W, n_chains=n_chains, n_sweeps=n_sweeps, thin=n_sweeps, kernel=kernel, seed=0, threads=threads)
    return samples.visible[-1], samples.hidden[-1]


def dense_jax(W: np.ndarray, n_chains: int) -> Sampler:
    """The sampler that one writes in JAX: two matrix products a sweep, all chains at once, one compiled loop."""
    import jax
    import jax.numpy as jnp

    couplings = jnp.asarray(W, dtype=jnp.float32)

    def resample(key, fields):
        return jnp.where(jax.random.uniform(key, fields.shape) < jax.nn.sigmoid(2 * fields), 1.0, -1.0).astype(jnp.float32)

    @partial(jax.jit, static_argnums=1)
    def run(key, n_sweeps):
        first, key = jax.random.split(key)
        hidden = resample(first, jnp.zeros((n_chains, W.shape[1])))

        def sweep(_, carry):
            key, _, hidden = carry
            key, for_visible, for_hidden = jax.random.split(key, 3)
            visible = resample(for_visible, hidden @ couplings.T)
            return key, visible, resample(for_hidden, visible @ couplings)

        _, visible, hidden = jax.lax.fori_loop(0, n_sweeps, sweep, (key, jnp.zeros((n_chains, W.shape[0]), jnp.float32), hidden))
        return visible, hidden

    return lambda n_sweeps: tuple(np.asarray(spins) for spins in run(jax.random.key(0), n_sweeps))


def thrml(W: np.ndarray, n_chains: int) -> Sampler:
    """thrml's IsingSamplingProgram with the two blocks; one sample after a warm-up of n_sweeps."""
    import jax
    import jax.numpy as jnp
    from thrml import Block, SamplingSchedule, SpinNode, sample_states
    from thrml.models import IsingEBM, IsingSamplingProgram, hinton_init

    n_visible, n_hidden = W.shape
    visible, hidden = [SpinNode() for _ in range(n_visible)], [SpinNode() for _ in range(n_hidden)]
    edges = [(v, h) for v in visible for h in hidden]
    weights = jnp.asarray(W.ravel(), dtype=jnp.float32)
    model = IsingEBM([*visible, *hidden], edges, jnp.zeros(n_visible + n_hidden), weights, jnp.array(1.0))
    blocks = [Block(visible), Block(hidden)]
    program = IsingSamplingProgram(model, blocks, clamped_blocks=[])
    start = hinton_init(jax.random.key(1), model, blocks, (n_chains,))
    keys = jax.random.split(jax.random.key(0), n_chains)
    compiled: dict[int, Callable] = {}

    def run(n_sweeps):
        if n_sweeps not in compiled:
            schedule = SamplingSchedule(n_warmup=n_sweeps, n_samples=1, steps_per_sample=1)
            compiled[n_sweeps] = jax.jit(jax.vmap(lambda state, key: sample_states(key, program, schedule, state, [], blocks)))
        return tuple(2.0 * np.asarray(spins)[:, 0] - 1 for spins in compiled[n_sweeps](start, keys))

    return run


def seconds(sampler: Sampler, n_sweeps: int) -> float:
    start = time.perf_counter()
    sampler(n_sweeps)
    return time.perf_counter() - start


def sweeps_for(sampler: Sampler, target: float) -> int:
    """Sweeps that take about this many seconds, warm."""
    n_sweeps = 8
    while True:
        sampler(n_sweeps)
        elapsed = seconds(sampler, n_sweeps)
        if elapsed > 0.4 * target or n_sweeps > 10**6:
            return n_sweeps
        n_sweeps *= int(np.clip(0.7 * target / max(elapsed, 1e-9), 2, 8))


def measure(n_visible: int, n_hidden: int, rounds: int, target: float) -> None:
    """One size: everything interleaved, in an order drawn anew every round."""
    n_spins = n_visible + n_hidden
    rng = np.random.default_rng(0)
    W = rng.standard_normal((n_visible, n_hidden)) * 0.5 / np.sqrt(n_spins / 2)
    samplers: dict[tuple[str, int], Sampler] = {}
    for kernel in KERNELS:
        for threads in (1, 2):
            samplers[f"{kernel}, {threads} thread{'s' * (threads > 1)}", 256] = partial(ours, W, kernel, 256, threads)
    if find_spec("jax"):
        samplers |= {("dense JAX", n_chains): dense_jax(W, n_chains) for n_chains in (64, 256, 1024, 4096)}
    if find_spec("thrml"):
        samplers |= {("thrml", n_chains): thrml(W, n_chains) for n_chains in (16, 64, 256)}

    sweeps = {case: sweeps_for(sampler, target) for case, sampler in samplers.items()}
    times: dict[tuple[str, int], list[float]] = {case: [] for case in samplers}
    peaks = []
    for _ in range(rounds):
        peaks.append(ceiling())
        for k in rng.permutation(len(samplers)):
            case = list(samplers)[k]
            times[case].append(seconds(samplers[case], sweeps[case]))
    rates = {case: [case[1] * sweeps[case] * n_spins / t for t in times[case]] for case in samplers}
    medians: dict[str, float] = {}
    for (name, _), values in rates.items():
        medians[name] = max(medians.get(name, 0.0), statistics.median(values))
    best = {
        name: next(case for case in samplers if case[0] == name and statistics.median(rates[case]) == medians[name]) for name in medians
    }

    peak = statistics.median(peaks)
    flops = 4 * n_visible * n_hidden / n_spins
    print(
        f"\n{n_visible}x{n_hidden}: {flops:.0f} operations an update; ceiling {peak / 1e9:.0f} GF/s a thread ({min(peaks) / 1e9:.0f} to "
        f"{max(peaks) / 1e9:.0f}), {peak / flops / 1e6:.0f} million updates/s; bundles of {LANES} chains"
    )
    print(f"{'':24} chains  million updates/s (range)     of ceiling  / JAX  / thrml  energy/spin")
    for name, case in best.items():
        visible, hidden = samplers[case](max(sweeps[case], 8))
        energy = -np.einsum("ci,ij,cj->c", visible.astype(float), W, hidden.astype(float), optimize=True) / n_spins
        share = f"{medians[name] * flops / peak / (2 if '2 threads' in name else 1):10.0%}" if "alternating" in name else f"{'':10}"
        ratios = [f"{medians[name] / medians[peer]:7.1f}" if peer in medians else f"{'':7}" for peer in ("dense JAX", "thrml")]
        span = f"{medians[name] / 1e6:8.1f} ({min(rates[case]) / 1e6:.1f} to {max(rates[case]) / 1e6:.1f})"
        error = energy.std() / np.sqrt(energy.size)
        print(f"{name:24} {case[1]:6}  {span:30} {share} {ratios[0]} {ratios[1]}  {energy.mean():.4f} +- {error:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["64x64", "784x256"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one run")
    options = parser.parse_args()
    print_machine()
    peers = [name for name in ("jax", "thrml") if find_spec(name)]
    print("peers: " + (", ".join(f"{name} {version(name)}" for name in peers) or "none installed"))
    for shape in options.shapes:
        n_visible, n_hidden = (int(size) for size in shape.split("x"))
        measure(n_visible, n_hidden, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
