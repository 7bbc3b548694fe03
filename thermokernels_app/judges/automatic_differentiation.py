"""The third leg: Q by automatic differentiation in JAX, double precision, dense, on the full chain. Needs the extra ``jax``.

JAX is imported inside the functions, and 64-bit numbers are switched on for our computation only.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels_app.judges.reference import couplings, exact_g


def available() -> bool:
    """Whether JAX is installed."""
    return find_spec("jax") is not None


def derivatives(
    parameters: Floats, shape: tuple[int, int, int, int], codes: Floats, laws: Floats, directions: Floats, window: float = 100.0
) -> Floats:
    """Directional derivatives of the sum of Q over the codes with respect to the hypernetwork's parameters, (n_directions,).

    Parameters
    ----------
    parameters : (n_parameters,) in the order C, c0, H_A, a0, H_B, b0
    shape : (n_visible, n_hidden, rank, width)
    codes : (n, n_codes); laws : (n, 2**n_visible); directions : (k, n_parameters)

    Raises
    ------
    ModuleNotFoundError
        JAX is not installed.
    """
    if not available():
        raise ModuleNotFoundError("the automatic-differentiation leg needs JAX; install it with: pip install '.[jax]'")
    import jax

    # The context manager for this has moved between versions of JAX; the setting has not.
    config: Any = jax.config
    before = config.jax_enable_x64
    config.update("jax_enable_x64", True)
    try:
        gradient_of = _gradient(*shape)
        gradient = np.zeros_like(parameters)
        for code, law in zip(codes, laws, strict=True):
            gradient += np.asarray(gradient_of(parameters, code, law, window, exact_g(couplings(parameters, code, *shape), law)))
    finally:
        config.update("jax_enable_x64", before)
    return np.asarray(directions @ gradient, dtype=np.float64)


@cache
def _gradient(n_visible: int, n_hidden: int, rank: int, width: int) -> Any:
    import jax
    import jax.numpy as jnp

    n_spins, n_states = n_visible + n_hidden, 2 ** (n_visible + n_hidden)
    states = np.arange(n_states)
    x = 1.0 - 2.0 * ((states[:, None] >> np.arange(n_spins)) & 1)
    v, h = x[:, :n_visible], x[:, n_visible:]
    visible = x[: 2**n_visible, :n_visible]
    f = -np.einsum("xi,xj->xij", v, h).reshape(n_states, -1)

    def emitted(phi: Any, code: Any) -> Any:
        sizes = [width * code.size, width, n_visible * rank * width, n_visible * rank, n_hidden * rank * width]
        c, c0, h_a, a0, h_b, b0 = jnp.split(phi, list(np.cumsum(sizes)))
        z = jnp.tanh(c.reshape(width, -1) @ code + c0)
        return (h_a.reshape(-1, width) @ z + a0).reshape(n_visible, rank) @ (h_b.reshape(-1, width) @ z + b0).reshape(n_hidden, rank).T

    def q(phi: Any, code: Any, p_data: Any, window: float, known_g: Any) -> Any:
        w = emitted(phi, code)
        law = jax.nn.softmax(jnp.sum((v @ w) * h, axis=1))
        rates = jax.nn.sigmoid(-2.0 * x * jnp.hstack([h @ w.T, v @ w])) / n_spins
        matrix = jnp.diag(rates.sum(axis=1)) + law
        for i in range(n_spins):
            matrix = matrix.at[states, states ^ (1 << i)].add(-rates[:, i])
        centred = f - law @ f
        t_obs = jnp.sum(law[:, None] * centred * jnp.linalg.solve(matrix, centred))
        g = -jnp.einsum("s,si,sj->ij", p_data, visible, jnp.tanh(visible @ w)).ravel() - law @ f
        # The g of a trained model is a difference in which float64 keeps ten digits, and so is its value at a W that is rounded in another
        # order: its value is put right, its derivative is JAX's.
        g = g + jax.lax.stop_gradient(known_g - g)
        return 0.5 * window * n_spins * (g @ g) / t_obs

    return jax.jit(jax.grad(q))
