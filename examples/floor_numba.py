"""A training loop compiled as a whole: sampler, sampled gradient, and a floor on Q with its exact gradient, in one ``@njit`` function.

It is the experiment of ``floor_torch.py`` without Python on the way, so that seeds run in threads of their own.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numba
import numpy as np

import thermokernels as tk
from thermokernels_bridges.numba import kl_divergence, q_struct

SIZE, WINDOW, RATE, LONGEST = 5, 10, 0.1, 0.3


@numba.njit(nogil=True, error_model="numpy")
def sweep_window(W, spins, uniforms, sites, correlations) -> None:
    """A window of single-site Gibbs sweeps; ``correlations`` becomes the mean of v_i h_j after each sweep. Draws are arguments."""
    n_visible, n_hidden = W.shape
    n_spins = n_visible + n_hidden
    correlations[:] = 0.0
    for step in range(sites.size):
        site, field = sites[step], 0.0
        if site < n_visible:
            for j in range(n_hidden):
                field += W[site, j] * spins[n_visible + j]
        else:
            for i in range(n_visible):
                field += W[i, site - n_visible] * spins[i]
        spins[site] = 1.0 if uniforms[step] * (1.0 + np.exp(-2.0 * field)) < 1.0 else -1.0
        if (step + 1) % n_spins == 0:
            for i in range(n_visible):
                for j in range(n_hidden):
                    correlations[i, j] += spins[i] * spins[n_visible + j] * n_spins / sites.size


@numba.njit(nogil=True, error_model="numpy")
def train(W, p_data, visible, floor, uniforms, sites, history) -> None:
    """Updates of W in place; ``history`` receives KL and, with a floor, Q after each. A floor of zero is none."""
    spins, of_model = np.ones(W.shape[0] + W.shape[1]), np.empty_like(W)
    by_weights, trial = np.empty_like(W), np.empty_like(W)
    q = q_struct(W, p_data, WINDOW, by_weights)
    for update in range(history.shape[0]):
        sweep_window(W, spins, uniforms[update], sites[update], of_model)
        step = -RATE * of_model
        for v in range(p_data.size):
            for j in range(W.shape[1]):
                mean = np.tanh((visible[v] * W[:, j]).sum())
                for i in range(W.shape[0]):
                    step[i, j] += RATE * p_data[v] * visible[v, i] * mean
        if floor > 0.0:
            rise = by_weights / q
            missing = np.log(floor / q) - (rise * step).sum()
            if missing > 0.0:
                step += missing / (rise * rise).sum() * rise
        step *= min(1.0, LONGEST / np.sqrt((step * step).sum()))
        while floor > 0.0:
            reached = q_struct(W + step, p_data, WINDOW, trial)
            if reached >= min(floor, q):  # NaN, where the chain is extremely slow, is refused
                q = reached
                by_weights[:] = trial
                break
            step /= 2
            if (step * step).sum() < 1e-12:
                step[:] = 0.0
                break
        W += step
        history[update, 0] = kl_divergence(p_data, W, trial)
        history[update, 1] = q if floor > 0.0 else np.nan


def run(seed: int, floor: float, n_updates: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    patterns = [np.where(rng.random((2, SIZE)) < 0.5, -1.0, 1.0) for _ in range(2)]
    p_data = tk.visible_law(patterns[0].T @ patterns[1])
    rng = np.random.default_rng(100 + seed)
    W, history = 0.1 * rng.standard_normal((SIZE, SIZE)), np.empty((n_updates, 2))
    n_steps = WINDOW * 2 * SIZE
    visible = 1.0 - 2.0 * ((np.arange(2**SIZE)[:, None] >> np.arange(SIZE)) & 1)
    train(W, p_data, visible, floor, rng.random((n_updates, n_steps)), rng.integers(2 * SIZE, size=(n_updates, n_steps)), history)
    return history


def main() -> None:
    n_updates = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    late = n_updates // 2
    print(f"the last {n_updates - late} of {n_updates} updates, four seeds")
    print("floor on Q   mean KL (nats)   worst KL   least Q")
    for floor in (0.0, 0.1, 1.0):
        with ThreadPoolExecutor(2) as threads:
            kl, q = np.concatenate([history[late:] for history in threads.map(partial(run, floor=floor, n_updates=n_updates), range(4))]).T
        print(f"{floor or 'none':>10}   {kl.mean():14.3f}   {kl.max():8.3f}   {f'{q.min():.3f}' if floor else '-':>7}")


if __name__ == "__main__":
    main()
