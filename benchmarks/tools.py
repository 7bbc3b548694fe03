"""The same three small models asked of other tools: their numbers beside the exact ones, and the seconds of each, side by side in one run.

    python benchmarks/tools.py

Warm: 3 x 3 couplings that mix at once. Cold: two planted patterns, whose basins a chain hardly leaves. Grid: 3 x 3 spins with couplings
between neighbours. Tools that are not installed are named and left out; a second call is timed where a first one compiles. Traces are four
chains of 2000 sweeps, begun as coin flips, the first 100 thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from machine import print_machine

import thermokernels as tk

PACKAGES = ("deeptime", "pydtmc", "emcee", "arviz_stats", "netket", "thrml", "ferrotherm", "rbms")
SWEEPS, CHAINS, BURN_IN = 2000, 4, 100


def models() -> dict[str, tk.Model]:
    places = [(x, y) for x in range(3) for y in range(3)]
    edges = [((x, y), there, 0.6) for x, y in places for there in ((x + 1, y), (x, y + 1)) if max(there) < 3]
    patterns = np.array([[1, 1, 1, 1], [1, -1, 1, -1]])
    return {
        "warm": tk.Model(np.array([[0.9, 0.3, -0.2], [0.4, -0.8, 0.5], [-0.1, 0.6, 0.7]])),
        "cold": tk.Model(0.55 * patterns.T @ patterns),
        "grid": tk.from_graph(edges),
    }


def timed(function: Callable[[], float]) -> tuple[float, float]:
    """The answer, and the seconds of a second call."""
    function()
    start = time.perf_counter()
    value = function()
    return value, time.perf_counter() - start


def passages(model: tk.Model) -> list[tuple[str, Callable[[], float], Callable[[], float]]]:
    """Mean first passage out of the most probable basin beside the deepest, from the transition matrix."""
    chain = tk.gibbs_chain(model)
    event = tk.merge_tree(chain).by_mass()[0] if tk.merge_tree(chain).events else None
    if event is None:
        return []
    matrix, start, target = chain.transition_matrix(), event.dying, event.surviving

    def ours() -> float:
        return tk.mean_first_passage(chain, start, target)

    found = []
    if find_spec("deeptime"):
        from deeptime.markov.tools.analysis import mfpt

        law = np.where(start, chain.law, 0.0)
        found.append(("deeptime", lambda: float(mfpt(matrix, np.flatnonzero(target)) @ law / law.sum()), ours))
    if find_spec("pydtmc"):
        from pydtmc import MarkovChain

        def by_pydtmc() -> float:
            times = MarkovChain(matrix / matrix.sum(axis=1, keepdims=True)).hitting_times([int(k) for k in np.flatnonzero(target)])
            law = np.where(start, chain.law, 0.0)
            return float(np.asarray(times) @ law / law.sum())

        found.append(("PyDTMC", by_pydtmc, ours))
    return found


def exact_time(model: tk.Model, kernel: str) -> float:
    """tau of the energy recorded once a sweep, in sweeps."""
    trace = tk.sample(model, n_chains=1, n_sweeps=8, kernel=kernel, seed=0)
    row = tk.compare(trace, model, observables=["energy"]).rows[0]
    return float("nan") if row.exact_records is None else row.exact_records


def energies(model: tk.Model, visible: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    return -np.einsum("...i,ij,...j->...", visible, model.W, hidden)


def of_traces(model: tk.Model) -> list[tuple[str, Callable[[], float], Callable[[], float]]]:
    """tau of the energy of the single-site kernel, sampling included."""

    def trace() -> np.ndarray:
        samples = tk.sample(model, n_chains=CHAINS, n_sweeps=SWEEPS, burn_in=BURN_IN, kernel="single-site", seed=0)
        return energies(model, samples.visible.astype(float), samples.hidden.astype(float)).T

    found = []
    for name, package, estimate in (("emcee", "emcee", "by_emcee"), ("ArviZ", "arviz_stats", "by_arviz")):
        if find_spec(package):
            from thermokernels.comparison import estimators

            by = getattr(estimators, estimate)
            found.append((name, lambda by=by: by(trace()) or float("nan"), lambda: exact_time(model, "single-site")))
    if find_spec("netket"):
        import netket

        # its tau_corr is the sum of the correlations alone
        found.append(
            ("NetKet", lambda: 1.0 + 2.0 * float(netket.stats.statistics(trace()).tau_corr), lambda: exact_time(model, "single-site"))
        )
    return found


def of_thrml(model: tk.Model) -> list[tuple[str, Callable[[], float], Callable[[], float]]]:
    """tau of the energy of the alternating scan, from thrml's samples by emcee's estimator."""
    if not (find_spec("thrml") and find_spec("emcee")):
        return []
    import jax
    import jax.numpy as jnp
    from thrml import Block, SamplingSchedule, SpinNode, sample_states
    from thrml.models import IsingEBM, IsingSamplingProgram, hinton_init

    from thermokernels.comparison.estimators import by_emcee

    visible, hidden = [SpinNode() for _ in range(model.n_visible)], [SpinNode() for _ in range(model.n_hidden)]
    pairs = [(i, j) for i, j in np.ndindex(model.W.shape) if model.W[i, j]]
    weights = jnp.asarray([model.W[pair] for pair in pairs], dtype=jnp.float32)
    edges = [(visible[i], hidden[j]) for i, j in pairs]
    ebm = IsingEBM([*visible, *hidden], edges, jnp.zeros(model.n_spins), weights, jnp.array(1.0))
    blocks = [Block(visible), Block(hidden)]
    program = IsingSamplingProgram(ebm, blocks, clamped_blocks=[])
    start = hinton_init(jax.random.key(1), ebm, blocks, (CHAINS,))
    schedule = SamplingSchedule(n_warmup=BURN_IN, n_samples=SWEEPS, steps_per_sample=1)
    run = jax.jit(jax.vmap(lambda state, key: sample_states(key, program, schedule, state, [], blocks)))

    def theirs() -> float:
        v, h = (2.0 * np.asarray(spins) - 1 for spins in run(start, jax.random.split(jax.random.key(0), CHAINS)))
        return by_emcee(energies(model, v, h)) or float("nan")

    return [("thrml, emcee", theirs, lambda: exact_time(model, "alternating"))]


def of_ferrotherm(model: tk.Model) -> list[tuple[str, Callable[[], float], Callable[[], float]]]:
    """log Z, which its Python package has of the quantities here; the autocorrelation times of its Rust library are not bound."""
    if not find_spec("ferrotherm"):
        return []
    import ferrotherm

    def theirs() -> float:
        built = ferrotherm.Model(model.n_spins)
        for i, j in np.ndindex(model.W.shape):
            if model.W[i, j]:
                built.couple(i, model.n_visible + j, float(model.W[i, j]))
        return float(built.build(beta=1.0).exact_log_z())

    return [("ferrotherm, ln Z", theirs, lambda: tk.gibbs_chain(model).log_partition)]


def of_rbms(model: tk.Model) -> list[tuple[str, Callable[[], float], Callable[[], float]]]:
    """log Z by its sum over the hidden units, of the same machine in 0/1 units, whose energies differ by the sum of W."""
    if not find_spec("rbms"):
        return []
    import torch
    from rbms.bernoulli_bernoulli.classes import BBRBM
    from rbms.partition_function.exact import compute_partition_function

    W = torch.tensor(np.array(model.W))
    machine = BBRBM(4 * W, -2 * W.sum(dim=1), -2 * W.sum(dim=0), device=torch.device("cpu"), dtype=torch.float64)
    units = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * model.n_hidden)

    def theirs() -> float:
        return compute_partition_function(machine, units) + float(W.sum())

    return [("rbms, ln Z", theirs, lambda: tk.gibbs_chain(model).log_partition)]


def main() -> None:
    print_machine()
    missing = [
        name for name in ("deeptime", "pydtmc", "emcee", "arviz_stats", "thrml", "ferrotherm", "netket", "rbms") if not find_spec(name)
    ]
    print("not installed: " + (", ".join(missing) or "none"))
    print(f"\n{'model':6} {'what':18} {'theirs':>12} {'exact':>12} {'off by':>9} {'seconds':>9} {'ours':>9}")
    for name, model in models().items():
        for parts in (passages, of_traces, of_thrml, of_ferrotherm, of_rbms):
            for what, theirs, ours in parts(model):
                (value, seconds), (exact, own) = timed(theirs), timed(ours)
                print(f"{name:6} {what:18} {value:12.6g} {exact:12.6g} {value / exact - 1:9.1e} {seconds:9.2g} {own:9.2g}", flush=True)


if __name__ == "__main__":
    main()
