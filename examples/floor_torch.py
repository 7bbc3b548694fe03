"""Training on noisy samples in PyTorch, with and without a floor on Q: does it go on learning, or does the noise take over?

One persistent chain gives each update its gradient, from a window of 10 sweeps. As the couplings grow the chain slows, its samples stop
being those of the model, and learning is thrown back again and again. The floor keeps the couplings where the gradient can still be heard:
a step that would lead below it is moved onto it, along the gradient of log Q (projection onto the linearised constraint), and shortened
until it stays there. The floor needs Q and dQ/dW exactly, so this is for models that can be enumerated.
"""

import sys

import numpy as np
import torch

import thermokernels as tk
from thermokernels_bridges.torch import kl_divergence, q_struct

SIZE, WINDOW, RATE, LONGEST = 5, 10, 0.1, 0.3


def planted_law() -> torch.Tensor:
    """The visible law of a machine with two planted patterns, at a temperature where its basins are far apart."""
    rng = np.random.default_rng(0)
    visible, hidden = (np.where(rng.random((2, SIZE)) < 0.5, -1.0, 1.0) for _ in range(2))
    return torch.from_numpy(tk.visible_law(visible.T @ hidden))


def sampled_gradient(W: torch.Tensor, p_data: torch.Tensor, state: np.ndarray | None, seed: np.random.SeedSequence) -> tuple:
    """dKL/dW with the model's correlations taken from one window of one chain; and where that chain stands."""
    s = tk.sample(W.numpy(), n_chains=1, n_sweeps=WINDOW, kernel="single-site", start=state, seed=seed)
    spins = torch.from_numpy(1.0 - 2.0 * ((np.arange(2**SIZE)[:, None] >> np.arange(SIZE)) & 1))
    of_data = spins.T @ (p_data[:, None] * torch.tanh(spins @ W))
    of_model = np.einsum("tci,tcj->ij", s.visible.astype(float), s.hidden.astype(float)) / len(s.visible)
    return torch.from_numpy(of_model) - of_data, np.concatenate([s.visible[-1, 0], s.hidden[-1, 0]])


def q_and_gradient(W: torch.Tensor, p_data: torch.Tensor) -> tuple[float, torch.Tensor]:
    W = W.clone().requires_grad_()
    q = q_struct(W, p_data, window=WINDOW)
    q.backward()
    return float(q.detach()), W.grad


def step_above(W: torch.Tensor, step: torch.Tensor, p_data: torch.Tensor, floor: float) -> torch.Tensor:
    """The step, moved so that log Q stays above its floor to first order, then shortened until Q really does."""
    q, gradient = q_and_gradient(W, p_data)
    rise = gradient / q
    missing = float(np.log(floor / q) - (rise * step).sum())
    if missing > 0:
        step = step + missing / float((rise * rise).sum()) * rise
    step = step * min(1.0, LONGEST / float(step.norm()))
    for _ in range(20):
        if float(q_struct(W + step, p_data, window=WINDOW)) >= min(floor, q):
            return step
        step = step / 2
    return torch.zeros_like(W)


def train(p_data: torch.Tensor, seed: int, floor: float, n_updates: int) -> np.ndarray:
    """KL, Q and T_O in sweeps after each update, (n_updates, 3)."""
    W = torch.from_numpy(0.1 * np.random.default_rng(100 + seed).standard_normal((SIZE, SIZE)))
    state, history = None, []
    for update_seed in np.random.SeedSequence(seed).spawn(n_updates):
        gradient, state = sampled_gradient(W, p_data, state, update_seed)
        step = -RATE * gradient
        step = step_above(W, step, p_data, floor) if floor else step * min(1.0, LONGEST / float(step.norm()))
        W = W + step
        q = tk.q_struct(W.numpy(), p_data.numpy(), window=WINDOW)
        history.append((float(kl_divergence(p_data, W)), q.value, q.t_obs / (2 * SIZE)))
    return np.array(history)


def main() -> None:
    n_updates = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    p_data, late = planted_law(), n_updates // 2
    print(f"the last {n_updates - late} of {n_updates} updates, two seeds")
    print("floor on Q   mean KL (nats)   worst KL   updates with Q < floor or 0.1   largest T_O (sweeps)")
    for floor in (0.0, 0.1, 1.0):
        kl, q, time = np.concatenate([train(p_data, seed, floor, n_updates)[late:] for seed in (0, 1)]).T
        below = (q < 0.999 * (floor or 0.1)).mean()
        print(f"{floor or 'none':>10}   {kl.mean():14.3f}   {kl.max():8.3f}   {below:30.1%}   {time.max():20.0f}")


if __name__ == "__main__":
    main()
