"""Claim: other people's libraries give the same numbers: deeptime, gudhi, emcee and ArviZ; each is skipped where it is not installed.

    python validation/peers.py [--models 50] [--sweeps 4000]

Hitting times and mean first passages of random targets against deeptime (`mfpt`), merge trees against the zero-dimensional persistence of
gudhi, ties and plateaus included, and exact autocorrelation times of a chain that mixes against those that emcee and ArviZ estimate from
long simulated chains, in units of the error bar of the estimate (Sokal 1997, equation 3.19).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from claims import Row, conclude

import thermokernels as tk

WARM = np.array([[0.9, 0.3, -0.2], [0.4, -0.8, 0.5], [-0.1, 0.6, 0.7]])


def of_deeptime(models: int) -> Row:
    from deeptime.markov.tools.analysis import mfpt

    worst, solves = 0.0, 0
    for number in range(models):
        draws = np.random.default_rng([9, number])
        shape = draws.integers(1, 4, size=2)
        fields = [draws.normal(size=n) for n in shape] if number % 2 else []
        chain = tk.gibbs_chain(draws.normal(size=shape), *fields)
        P, target = chain.transition_matrix(), np.zeros(chain.n_states, dtype=bool)
        target[draws.permutation(chain.n_states)[: draws.integers(1, chain.n_states)]] = True
        states = np.flatnonzero(target)
        theirs = mfpt(P, states)
        worst = max(worst, float(np.abs(tk.hitting_times(chain, target) - theirs).max() / theirs.max()))
        mean = float(mfpt(P, states, np.flatnonzero(~target), mu=chain.law))
        worst, solves = max(worst, abs(tk.mean_first_passage(chain, ~target, target) / mean - 1)), solves + 1
    return Row("deeptime: hitting times", f"{solves} targets, largest relative difference {worst:.1e}, gate 1e-9", worst <= 1e-9)


def of_gudhi(models: int) -> Row:
    import gudhi

    worst, events, strays = 0.0, 0, 0
    for number in range(models):
        draws = np.random.default_rng([10, number])
        shape = draws.integers(2, 5, size=2)
        W = draws.integers(-2, 3, size=shape).astype(float) if number % 2 else 2 * draws.normal(size=shape)
        chain = tk.gibbs_chain(W, quotient=bool(draws.integers(2)))
        complex_ = gudhi.SimplexTree()
        for state in range(chain.n_states):
            complex_.insert([state], chain.energy[state])
        for state in range(chain.n_states):
            for other in (state ^ int(mask) for mask in chain.flip_masks):
                complex_.insert([state, other], max(chain.energy[state], chain.energy[other]))
        complex_.compute_persistence(persistence_dim_max=True, min_persistence=1e-9)
        pairs = complex_.persistence_intervals_in_dimension(0)
        theirs = np.array(sorted((death, death - birth) for birth, death in pairs if np.isfinite(death))).reshape(-1, 2)
        ours = np.array(sorted((event.saddle_energy, event.barrier) for event in tk.merge_tree(chain).events)).reshape(-1, 2)
        events += len(theirs)
        if ours.shape != theirs.shape:
            strays += 1
        elif len(ours):
            worst = max(worst, float(np.abs(ours - theirs).max()))
    found = f"{events} events of {models} models, largest difference {worst:.1e}, gate 1e-10; other counts in {strays}"
    return Row("gudhi: merge events", found, worst <= 1e-10 and not strays)


def exact_times(W: np.ndarray) -> np.ndarray:
    """1 + 2 sum_t rho(t) over sweeps of N steps of every product v_i h_j, by all eigenvectors of P."""
    chain = tk.gibbs_chain(W, quotient=False)
    spins, root = chain.spins().astype(float), np.sqrt(chain.law)
    products = (spins[:, : chain.n_visible, None] * spins[:, None, chain.n_visible :]).reshape(chain.n_states, -1)
    values, vectors = np.linalg.eigh(root[:, None] * chain.transition_matrix() / root)
    weights = (vectors.T @ (root[:, None] * products))[:-1] ** 2
    sweep = values[:-1, None] ** chain.n_spins
    return np.asarray((weights * (1 + sweep) / (1 - sweep)).sum(axis=0) / weights.sum(axis=0))


def of_traces(sweeps: int, reader: str, read: Callable[[np.ndarray], np.ndarray]) -> Row:
    samples = tk.sample(WARM, n_chains=64, n_sweeps=sweeps, burn_in=200, kernel="single-site", seed=1)
    visible, hidden = samples.visible.astype(float), samples.hidden.astype(float)
    traces = (visible[..., :, None] * hidden[..., None, :]).reshape(*visible.shape[:2], -1)
    exact = exact_times(WARM)
    # The relative variance is about 2 (2 M + 1) / n with a window M, of 7 tau in emcee.
    bars = np.sqrt(2 * (14 * exact + 1) / (traces.shape[0] * traces.shape[1]))
    worst = float(np.abs((read(traces) / exact - 1) / bars).max())
    return Row(f"{reader}: autocorrelation times", f"{exact.size} products, largest deviation {worst:.1f} error bars, gate 4", worst < 4)


def by_emcee(traces: np.ndarray) -> np.ndarray:
    from emcee.autocorr import integrated_time

    return np.asarray(integrated_time(traces, c=7, tol=50))


def by_arviz(traces: np.ndarray) -> np.ndarray:
    from arviz_stats.base import array_stats

    sizes = [array_stats.ess(trace.T, chain_axis=0, draw_axis=1, method="mean") for trace in traces.transpose(2, 0, 1)]
    return traces.shape[0] * traces.shape[1] / np.array(sizes)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--sweeps", type=int, default=4000)
    options = parser.parse_args(arguments)
    looks: dict[str, Callable[[], Row]] = {
        "deeptime": lambda: of_deeptime(options.models),
        "gudhi": lambda: of_gudhi(options.models),
        "emcee": lambda: of_traces(options.sweeps, "emcee", by_emcee),
        "arviz_stats": lambda: of_traces(options.sweeps, "ArviZ", by_arviz),
    }
    missing = "not installed: pip install '.[judges]'"
    return conclude([look() if find_spec(package) else Row(package, missing, None) for package, look in looks.items()])


if __name__ == "__main__":
    sys.exit(main())
