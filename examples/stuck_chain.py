"""Where the usual estimators look healthiest, the chain is stuck: a frustrated model, cooled; four chains, 20 000 sweeps each.

All chains start in one state, as warm starts and persistent chains do. As beta grows the exact autocorrelation time of the energy grows
without bound; what the chains see of it shrinks, since none of them leaves its basin any more, and every rule of thumb is content. Chains
that start apart are the remedy for this one: the last column is R-hat of four chains from random states.
"""

import sys

import numpy as np

import thermokernels as tk


def trace(W: np.ndarray, n_sweeps: int, start: np.ndarray | None) -> np.ndarray:
    s = tk.sample(W, n_chains=4, n_sweeps=n_sweeps, burn_in=1000, kernel="single-site", start=start, seed=0)
    return np.concatenate([s.visible, s.hidden], axis=2).swapaxes(0, 1)  # chains x records x spins


def main() -> None:
    n_sweeps = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    rng = np.random.default_rng(0)
    frustrated = np.where(rng.random((5, 5)) < 0.5, -1.0, 1.0) + 0.1 * rng.standard_normal((5, 5))
    chain = tk.gibbs_chain(frustrated)
    start = chain.spins()[chain.energy.argmin()]
    print("tau = 1 + 2 sum_(t > 0) rho(t) of the energy, in sweeps")
    print("beta       exact      emcee      ArviZ    R-hat   looks healthy   R-hat, random starts")
    for beta in (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0):
        W = beta * frustrated
        (row,) = tk.compare(trace(W, n_sweeps, start), W, observables=["energy"]).rows
        (apart,) = tk.compare(trace(W, n_sweeps, None), W, observables=["energy"]).rows
        times = "".join(f"{time / chain.n_spins:11.4g}" for time in (row.exact_steps, *(estimate.steps for estimate in row.estimates)))
        healthy = "yes" if row.looks_healthy else "no"
        print(f"{beta:4.2f} {times}   {row.r_hat:6.3f}   {healthy:>13}   {apart.r_hat:20.3f}")


if __name__ == "__main__":
    main()
