"""Claim: every hand-written gradient is that of its value: by central differences, the complex step and JAX.

    python validation/gradients.py [--models 20]

Random models with fields and a data law. The value under central differences is the package's own; the complex step and JAX go through
the definition below, dense on all states and written for either. JAX is skipped where it is not installed. The error of a gradient is its
largest deviation over its largest entry; of central differences the best of four steps counts. The last rows are dQ/dphi of random
hypernetworks by the judge of the experiment, with its own definition of the error.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from claims import Row, conclude

import adjoints
import thermokernels as tk
from thermokernels_app.experiment.design import Design
from thermokernels_app.judges import automatic_differentiation, gradient_check

SHAPES = [(1, 1), (2, 2), (3, 2), (2, 3), (3, 3)]
STEPS = (1e-3, 1e-4, 1e-5, 1e-6)
COMPLEX_STEP = 1e-30
GATES = {"central differences": 1e-6, "complex step": 1e-9, "JAX": 1e-9}
WINDOW = 40.0


def spins(n: int) -> np.ndarray:
    return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)


def definition(xp: Any, quantity: str, W: Any, b: Any, c: Any, p_data: Any) -> Any:
    """T_O, V, Q or KL of the single-site chain from all its states; analytic in W, b and c; ``xp`` is numpy or jax.numpy."""
    n_v, n_h = W.shape
    N, x = n_v + n_h, spins(n_v + n_h)
    v, h = x[:, :n_v], x[:, n_v:]
    log_weight = xp.sum((v @ W) * h, axis=1) + v @ b + h @ c
    weight = xp.exp(log_weight - xp.max(log_weight.real))
    law = weight / xp.sum(weight)
    if quantity == "KL":
        marginal = xp.sum(law.reshape(2**n_h, 2**n_v), axis=0)
        return xp.sum(p_data * (xp.log(p_data) - xp.log(marginal)))
    f = -(v[:, :, None] * h[:, None, :]).reshape(len(x), -1)
    mean = law @ f
    centred = f - mean
    rates = 1.0 / (1.0 + xp.exp(2.0 * x * xp.concatenate([h @ W.T + b, v @ W + c], axis=1))) / N
    generator = sum((np.eye(len(x)) - np.eye(len(x))[np.arange(len(x)) ^ (1 << i)]) * rates[:, i, None] for i in range(N))
    time = xp.sum(law[:, None] * centred * xp.linalg.solve(generator + law, centred))
    if quantity == "T_O":
        return time
    if quantity == "V":
        return 2.0 * time - xp.sum(law[:, None] * centred**2)
    visible = spins(n_v)
    of_data = -(visible[:, :, None] * xp.tanh(visible @ W + c)[:, None, :]).reshape(2**n_v, -1)
    g = p_data @ of_data - mean
    return 0.5 * WINDOW * N * xp.sum(g**2) / time


Model = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def model(number: int) -> Model:
    """W, b, c and a data law."""
    draws = np.random.default_rng([4, number])
    n_v, n_h = SHAPES[number % len(SHAPES)]
    scale = draws.choice([0.3, 1.0, 2.0])
    return (
        scale * draws.normal(size=(n_v, n_h)),
        0.5 * draws.normal(size=n_v),
        0.5 * draws.normal(size=n_h),
        draws.dirichlet(np.ones(2**n_v)),
    )


def flat(parts: Any) -> np.ndarray:
    return np.concatenate([np.asarray(part).ravel() for part in parts])


def unflat(x: np.ndarray, shape: tuple[int, int]) -> list[np.ndarray]:
    W, b, c = np.split(x, np.cumsum([shape[0] * shape[1], shape[0]]))
    return [W.reshape(shape), b, c]


# (name, quantity of the definition, value, gradient): of W, b, c and the data law.
PAIRS: list[tuple[str, str, Callable[..., float], Callable[..., Any]]] = [
    *(
        (
            f"T_O, {method}",
            "T_O",
            lambda W, b, c, p, method=method: tk.observable_variance_time(tk.gibbs_chain(W, b, c), method),
            lambda W, b, c, p, method=method: adjoints.observable_variance_time(W, b, c, method, fields=True)[1],
        )
        for method in ("cholesky", "cg", "reduction")
    ),
    (
        "V",
        "V",
        lambda W, b, c, p: float(tk.asymptotic_variance(tk.gibbs_chain(W, b, c))),
        lambda W, b, c, p: adjoints.asymptotic_variance(W, b, c, fields=True)[1],
    ),
    (
        "Q",
        "Q",
        lambda W, b, c, p: tk.q_struct(W, p, WINDOW, b=b, c=c).value,
        lambda W, b, c, p: adjoints.q_struct(W, p, WINDOW, b=b, c=c, fields=True)[1],
    ),
    ("KL", "KL", lambda W, b, c, p: tk.kl_divergence(p, W, b, c), lambda W, b, c, p: adjoints.kl_divergence(p, W, b, c, fields=True)[1]),
]


def by_differences(value: Callable[..., float], given: Model) -> list[np.ndarray]:
    """The slopes of the package's own value, one array a step."""
    *parts, p_data = given
    x, shape = flat(parts), parts[0].shape
    return [
        np.array([(value(*unflat(x + h * e, shape), p_data) - value(*unflat(x - h * e, shape), p_data)) / (2 * h) for e in np.eye(x.size)])
        for h in STEPS
    ]


def by_complex_step(quantity: str, given: Model) -> np.ndarray:
    *parts, p_data = given
    x, shape = flat(parts), parts[0].shape
    moved = (definition(np, quantity, *unflat(x + 1j * COMPLEX_STEP * e, shape), p_data) for e in np.eye(x.size))
    return np.array([value.imag / COMPLEX_STEP for value in moved])


def by_jax(quantity: str, given: Model) -> np.ndarray:
    import jax
    import jax.numpy as jnp

    *parts, p_data = given
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        return flat(jax.grad(lambda *moved: definition(jnp, quantity, *moved, p_data), (0, 1, 2))(*map(jnp.asarray, parts)))
    finally:
        jax.config.update("jax_enable_x64", before)


def error(gradient: np.ndarray, slopes: np.ndarray) -> float:
    return float(np.abs(gradient - slopes).max() / np.abs(slopes).max())


def of_models(models: int, with_jax: bool) -> list[Row]:
    """The worst error of every gradient by every leg."""
    worst: dict[tuple[str, str], float] = defaultdict(float)
    for given in map(model, range(models)):
        for name, quantity, value, gradient in PAIRS:
            if quantity == "Q" and given[0].shape[0] == 1:
                continue  # of one visible spin every law has the same data term up to the sign: g is next to nothing, and so is Q
            found = flat(gradient(*given))
            legs = {
                "central differences": min(error(found, slopes) for slopes in by_differences(value, given)),
                "complex step": error(found, by_complex_step(quantity, given)),
            }
            if with_jax:
                legs["JAX"] = error(found, by_jax(quantity, given))
            for leg, size in legs.items():
                worst[name, leg] = max(worst[name, leg], size)
    rows = []
    for name, _, _, _ in PAIRS:
        for leg, gate in GATES.items():
            size = worst.get((name, leg))
            rows.append(
                Row(
                    f"{name}: {leg}",
                    "not installed" if size is None else f"{size:.1e}, gate {gate:g}",
                    None if size is None else size <= gate,
                )
            )
    return rows


def of_networks(networks: int, with_jax: bool) -> list[Row]:
    """dQ/dphi through random hypernetworks, by every leg of the judge, against the gates of the registered design."""
    gates, shape = Design().thresholds, (3, 3, 2, 4, 3)
    worst: dict[str, float] = defaultdict(float)
    for number in range(networks):
        draws = np.random.default_rng([5, number])
        network = tk.Hypernetwork.from_parameters(0.6 * draws.normal(size=n_parameters(shape)), shape)
        directions = draws.normal(size=(3, network.n_parameters))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        record = gradient_check.gradient_check(
            network,
            draws.normal(size=(2, shape[-1])),
            draws.dirichlet(np.ones(8), size=2),
            directions,
            gradient_check.kernels(),
            with_automatic=with_jax,
        )
        worst["value"] = max(worst["value"], record["value_error"])
        for row in record["directions"]:
            for leg in ("difference", "complex", *(["automatic"] if with_jax else [])):
                worst[leg] = max(worst[leg], row[f"{leg}_error"])
    names = {"value": gates.value, "difference": gates.difference, "complex": gates.complex, "automatic": gates.complex}
    return [
        Row(
            f"dQ/dphi: {leg}",
            f"{worst[leg]:.1e}, gate {gate:g}" if leg in worst else "not installed",
            worst[leg] <= gate if leg in worst else None,
        )
        for leg, gate in names.items()
    ]


def n_parameters(shape: tuple[int, ...]) -> int:
    n_v, n_h, rank, width, n_codes = shape
    return width * n_codes + width + (n_v + n_h) * rank * (width + 1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=20)
    options = parser.parse_args(arguments)
    with_jax = automatic_differentiation.available()
    return conclude(of_models(options.models, with_jax) + of_networks(max(1, options.models // 4), with_jax))


if __name__ == "__main__":
    sys.exit(main())
