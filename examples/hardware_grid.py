"""A grid of spins as hardware has it: which Q does its own block schedule give, exactly, and what does a simulation of that schedule see?

The two colours of a square grid are the two layers of a machine, and an edge is a coupling; what has no edge has none. thrml resamples one
colour after the other. Its model and its blocks are read as they are; Q over the edges is then exact, for T_O and for the very window, and
beside it stands the ratio |g|^2 / (error of the mean of a window)^2 over many runs of thrml, with its standard error.

    python examples/hardware_grid.py        # 4 x 4, some ten seconds
    python examples/hardware_grid.py 5      # 5 x 5, 2^25 states and half a minute

Needs thrml: pip install ".[bridges]"
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import thrml
from thrml import models

import thermokernels as tk

WARMUP, WINDOW, RUNS = 100, 30, 2000
# Side of the grids whose window is followed state by state.
LARGEST_RECURSION = 4


def grid(side: int, scale: float, seed: int) -> tuple[models.IsingEBM, models.IsingSamplingProgram]:
    """A model of thrml on a square grid with random couplings, and its program: the white squares first, then the black ones."""
    rng = np.random.default_rng(seed)
    places = [(i, j) for i in range(side) for j in range(side)]
    nodes = {place: thrml.SpinNode() for place in places}
    edges = [(nodes[i, j], nodes[k]) for i, j in places for k in ((i + 1, j), (i, j + 1)) if k in nodes]
    weights = jnp.asarray(rng.normal(scale=scale, size=len(edges)))
    ebm = models.IsingEBM(list(nodes.values()), edges, jnp.zeros(len(places)), weights, jnp.array(1.0))
    colours = [thrml.Block([nodes[place] for place in places if sum(place) % 2 == colour]) for colour in (0, 1)]
    return ebm, models.IsingSamplingProgram(ebm, colours, [])


def simulated(program: models.IsingSamplingProgram, schedule: thrml.SamplingSchedule, n_runs: int) -> tuple[np.ndarray, np.ndarray]:
    """Spins +1 and -1 of both colours from independent runs of thrml, (n_runs, n_samples, spins) each."""
    blocks = program.gibbs_spec.free_blocks

    def run(key: jax.Array) -> list[jax.Array]:
        start, key = jax.random.split(key)
        starts = [
            jax.random.bernoulli(one, 0.5, (len(block.nodes),)) for one, block in zip(jax.random.split(start, 2), blocks, strict=True)
        ]
        return thrml.sample_states(key, program, schedule, starts, [], blocks)

    v, h = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), n_runs))
    return 2 * np.asarray(v, dtype=np.int8) - 1, 2 * np.asarray(h, dtype=np.int8) - 1


def main(side: int) -> None:
    ebm, program = grid(side, 0.5, seed=1)
    teacher, of_teacher = grid(side, 0.7, seed=2)
    model, p_data = tk.from_thrml(ebm, blocks=program), tk.visible_law(tk.from_thrml(teacher, blocks=of_teacher))
    print(model)
    q = tk.q_struct(model, p_data, window=WINDOW, kernel=model.kernel)
    print(
        f"exact      Q = {q.value:.6g} of T_O = {q.t_obs:.6g} sweeps, {q.q_limit:.6g} in a long window, over {model.n_couplings} couplings"
    )
    if side <= LARGEST_RECURSION:
        exact = tk.operational_q(tk.gibbs_chain(model, kernel=model.kernel), p_data, WINDOW)
        print(f"           Q = {exact.value:.6g} in this very window of {WINDOW} sweeps")

    v, h = simulated(program, thrml.SamplingSchedule(WARMUP, WINDOW, 1), RUNS)
    means = -np.einsum("rki,rkj->rij", v, h, dtype=np.float64, optimize=True)[:, model.mask] / WINDOW
    errors = ((means - means.mean(axis=0)) ** 2).sum(axis=1) * RUNS / (RUNS - 1)
    value = q.signal / errors.mean()
    print(f"simulated  Q = {value:.6g} +- {value * errors.std() / errors.mean() / RUNS**0.5:.2g} in {RUNS} such windows of thrml")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
