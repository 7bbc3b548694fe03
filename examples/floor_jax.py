"""Training in JAX to a floor on Q, and what a step along sampled gradients does from there: with the floor it learns, without it stalls.

Exact gradients bring the couplings as close to the data as each floor on Q allows, for a window of 20 sweeps; ``vmap`` trains all floors
side by side. Then 1000 chains in equilibrium each give one gradient, from one window of samples, and the divergence is computed exactly
after a step along each of them. Where Q is far below one the step is noise, and on average it makes the model worse.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

import thermokernels as tk
from thermokernels_bridges.jax import kl_divergence, q_struct

jax.config.update("jax_enable_x64", True)

N_VISIBLE, N_HIDDEN, WINDOW, RATE = 4, 3, 20, 0.1


def log_q(W: jax.Array, p_data: jax.Array) -> jax.Array:
    return jnp.log(q_struct(W, p_data, window=WINDOW))


def update(W: jax.Array, floor: jax.Array, p_data: jax.Array) -> jax.Array:
    """One step down the divergence; what would fall below the floor is moved onto it, to first order, along the gradient of log Q."""
    step = -RATE * jax.grad(kl_divergence, argnums=1)(p_data, W)
    height, rise = jax.value_and_grad(log_q)(W, p_data)
    missing = jnp.maximum(0.0, jnp.log(floor) - height - jnp.sum(rise * step))
    step += missing * rise / jnp.sum(rise**2)
    return W + step * jnp.minimum(1.0, 0.2 / jnp.linalg.norm(step))


def sampled_gradients(W: np.ndarray, p_data: np.ndarray, n_chains: int) -> np.ndarray:
    """dKL/dW from one window of each of many chains in equilibrium, (n_chains, n_v, n_h)."""
    spins = 1.0 - 2.0 * ((np.arange(2**N_VISIBLE)[:, None] >> np.arange(N_VISIBLE)) & 1)
    of_data = spins.T @ (p_data[:, None] * np.tanh(spins @ W))
    s = tk.sample(W, n_chains=n_chains, n_sweeps=WINDOW, burn_in=5000, kernel="single-site", seed=0)
    return np.einsum("tci,tcj->cij", s.visible.astype(float), s.hidden.astype(float)) / WINDOW - of_data


def main() -> None:
    n_updates = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    p_data = jnp.asarray(tk.visible_law(np.random.default_rng(1).standard_normal((N_VISIBLE, N_HIDDEN))))
    floors = jnp.array([1e-12, 0.1, 1.0])  # the first is none
    start = 0.3 * np.random.default_rng(2).standard_normal((N_VISIBLE, N_HIDDEN))
    models = jnp.stack([jnp.asarray(start)] * len(floors))
    train = jax.jit(jax.vmap(update, in_axes=(0, 0, None)))
    for _ in range(n_updates):
        models = train(models, floors, p_data)
    divergence_of = jax.jit(jax.vmap(kl_divergence, in_axes=(None, 0)))
    print("floor on Q   KL (nats)        Q   KL after one sampled step   change   steps that improve")
    for floor, W in zip(floors, models, strict=True):
        value, q = float(kl_divergence(p_data, W)), float(q_struct(W, p_data, window=WINDOW))
        after = np.asarray(divergence_of(p_data, W - RATE * sampled_gradients(np.asarray(W), np.asarray(p_data), 1000)))
        name = "none" if floor < 1e-9 else f"{floor:g}"
        change, better = after.mean() / value - 1, (after < value).mean()
        print(f"{name:>10}   {value:9.5f}   {q:6.3f}   {after.mean():25.5f}   {change:+6.1%}   {better:18.1%}")


if __name__ == "__main__":
    main()
