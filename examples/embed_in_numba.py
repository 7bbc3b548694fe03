"""Exact simulated annealing: the package's kernels called from compiled code of one's own.

The law of all states is carried through a schedule of inverse temperatures, one sweep at each; nothing is sampled. What comes out is the
probability that an annealing run of a given length ends in the ground state, beside what equilibrium would give.
"""

import math

import numba
import numpy as np

import thermokernels as tk
from thermokernels.model.kernels.flip_tables import _flip_tables
from thermokernels.model.kernels.single_site import _apply_generator


@numba.njit(error_model="numpy")
def anneal(energy, visible_local_fields, hidden_local_fields, quotient, betas, law) -> np.ndarray:
    """Carry ``law`` [hidden, visible] through one sweep at every inverse temperature; returns the last Boltzmann law."""
    n_visible, n_hidden = visible_local_fields.shape[0], hidden_local_fields.shape[0]
    visible_rates, visible_flips = np.empty_like(visible_local_fields), np.empty((2, n_visible, visible_local_fields.shape[1]))
    hidden_rates, hidden_flips = np.empty_like(hidden_local_fields), np.empty((2, n_hidden, hidden_local_fields.shape[1]))
    ratio, change = np.empty((1, *energy.shape)), np.empty((1, *energy.shape))
    states, ratios, changes, boltzmann = law.ravel(), ratio.ravel(), change.ravel(), np.empty(energy.size)
    energies, lowest = energy.ravel(), energy.min()
    for beta in betas:
        total = 0.0
        for x in range(states.size):
            boltzmann[x] = math.exp(beta * (lowest - energies[x]))
            total += boltzmann[x]
        for x in range(states.size):
            boltzmann[x] /= total
        _flip_tables(beta * visible_local_fields, n_visible + n_hidden, visible_rates, visible_flips)
        _flip_tables(beta * hidden_local_fields, n_visible + n_hidden, hidden_rates, hidden_flips)
        for _ in range(n_visible + n_hidden):  # P is reversible, so the law moves by law' = pi * P (law / pi)
            for x in range(states.size):
                ratios[x] = states[x] / boltzmann[x]
            _apply_generator(ratio, visible_flips, hidden_flips, quotient, change)
            for x in range(states.size):
                states[x] -= boltzmann[x] * changes[x]
    return boltzmann


def main() -> None:
    chain = tk.gibbs_chain(np.random.default_rng(7).standard_normal((5, 5)))
    ground = chain.energy <= chain.energy.min() + 1e-9
    print("sweeps   P(ground state)   at equilibrium")
    for n_sweeps in (1, 10, 100, 1000):
        law = np.full(chain.shape, 1.0 / chain.n_states)
        betas = np.linspace(0.1, 3.0, n_sweeps)
        equilibrium = anneal(
            chain.energy.reshape(chain.shape), chain.visible_local_fields, chain.hidden_local_fields, chain.quotient, betas, law
        )
        print(f"{n_sweeps:6d}   {law.ravel()[ground].sum():15.4f}   {equilibrium[ground].sum():14.4f}")


if __name__ == "__main__":
    main()
