"""T_O and its gradient beside JAX: dense, matrix-free in the usual ways, and with our own algorithm.

Usage: python benchmarks/peers.py [--m 5 6 7 8] [--dense-to 6] [--rounds 7]

Everything starts at W and ends with (T_O, dT_O/dW) of all m * m observables on pairs {x, -x}, in float64, solved to a relative residual of
1e-10 (dense: to rounding), jitted and warm, interleaved in one process in an order that is drawn anew every round. A turn is a call, then
as many more as last 50 ms, of which the mean counts: the first one finds the caches full of what its predecessor worked on, which takes a
millisecond to undo, a third of our calls at m = 6 and nothing of one of 100 ms. It stands beside the mean. JAX takes as many threads as
it likes. "held": T = 2 b'z - z'A(W)z is differentiated with z held (Hellmann and Feynman), which saves the second solve that
differentiating through the solver makes. The residual is the largest over the observables, taken on the full chain.

The matrix-free peers: jax.scipy's cg, plain and with the diagonal as preconditioner, held and through (by its custom_linear_solve), and
lineax's CG with the same preconditioner. "parity classes" is this package's algorithm in JAX: the odd states eliminated, CG on the Schur
complement. Its two half products stand in a scan of length 2, without which XLA fuses them and computes the inner one many times.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from machine import print_machine, settled

import adjoints
import thermokernels as tk

TOLERANCE = 1e-10
TURN = 0.05  # seconds
MAX_ITERATIONS = 2000

jax.config.update("jax_enable_x64", True)


class Model(NamedTuple):
    """The chain of W on pairs as tables; functions on the states have shape (..., hidden, visible)."""

    root_law: jax.Array
    visible_rates: jax.Array  # S(x, x^i), (m, hidden)
    hidden_rates: jax.Array  # (m, visible)
    escape: jax.Array


def spins(n: int, n_configurations: int) -> np.ndarray:
    return 1.0 - 2.0 * ((np.arange(n_configurations)[:, None] >> np.arange(n)) & 1)


def model_of(W: jax.Array) -> Model:
    m = W.shape[0]
    n_spins, v, h = 2 * m, spins(m, 2**m), spins(m, 2 ** (m - 1))
    visible_local_fields, hidden_local_fields = h @ W.T, v @ W
    law = jax.nn.softmax((h @ hidden_local_fields.T).ravel()).reshape(len(h), len(v))
    escape = sum(jax.nn.sigmoid(-2 * visible_local_fields[:, i, None] * v[None, :, i]) for i in range(m))
    escape += sum(jax.nn.sigmoid(-2 * hidden_local_fields[None, :, j] * h[:, j, None]) for j in range(m))
    rates = [0.5 / n_spins / jnp.cosh(fields.T) for fields in (visible_local_fields, hidden_local_fields)]
    return Model(jnp.sqrt(law), *rates, escape / n_spins)


def sources(model: Model) -> jax.Array:
    """b_ij = sqrt(pi) f~_ij, (m * m, hidden, visible)."""
    m = model.visible_rates.shape[0]
    v, h = spins(m, 2**m), spins(m, 2 ** (m - 1))
    f = -(v.T[:, None, None, :] * h.T[None, :, :, None]).reshape(m * m, len(h), len(v))
    means = jnp.einsum("ahv,hv->a", f, model.root_law**2)
    return model.root_law * (f - means[:, None, None])


def flipped(z: jax.Array, axis: int, bit: int) -> jax.Array:
    """z with one bit of the configurations on an axis turned over."""
    split = z.reshape(*z.shape[:axis], -1, 2, 1 << bit, *z.shape[axis + 1 :])
    return jnp.flip(split, axis + 1).reshape(z.shape)


def generator(model: Model, z: jax.Array) -> jax.Array:
    """A z for z of shape (k, hidden, visible)."""
    m = model.visible_rates.shape[0]
    product = model.escape * z - model.hidden_rates[m - 1] * z[:, ::-1, ::-1]
    for i in range(m):
        product -= model.visible_rates[i, :, None] * flipped(z, 2, i)
    for j in range(m - 1):
        product -= model.hidden_rates[j] * flipped(z, 1, j)
    return product


def deflated(model: Model, z: jax.Array) -> jax.Array:
    """(A + sqrt(pi) sqrt(pi)') z, positive definite."""
    return generator(model, z) + jnp.einsum("ahv,hv->a", z, model.root_law)[:, None, None] * model.root_law


Solver = Callable[[Model, jax.Array], jax.Array]


def dense_matrix(model: Model) -> jax.Array:
    m, shape = model.visible_rates.shape[0], model.root_law.shape
    states, n_states = np.arange(model.root_law.size), model.root_law.size
    root = model.root_law.ravel()
    matrix = jnp.outer(root, root).at[states, states].add(model.escape.ravel())
    tables = [jnp.broadcast_to(rate[:, None], shape).ravel() for rate in model.visible_rates]
    tables += [jnp.broadcast_to(rate, shape).ravel() for rate in model.hidden_rates]
    for spin, rates in enumerate(tables):
        other = states ^ (1 << spin if spin < 2 * m - 1 else n_states - 1)
        matrix = matrix.at[states, other].add(-rates)
    return matrix


def by_lu(model: Model, b: jax.Array) -> jax.Array:
    return jnp.linalg.solve(dense_matrix(model), b.reshape(len(b), -1).T).T.reshape(b.shape)


def by_cholesky(model: Model, b: jax.Array) -> jax.Array:
    factor = jax.scipy.linalg.cho_factor(dense_matrix(model))
    return jax.scipy.linalg.cho_solve(factor, b.reshape(len(b), -1).T).T.reshape(b.shape)


def by_cg(preconditioned: bool, model: Model, b: jax.Array) -> jax.Array:
    """jax.scipy's cg on all observables as one block-diagonal system."""
    inverse = (lambda z: z / model.escape) if preconditioned else None
    return jax.scipy.sparse.linalg.cg(partial(deflated, model), b, tol=TOLERANCE, maxiter=MAX_ITERATIONS, M=inverse)[0]


def by_lineax(model: Model, b: jax.Array) -> jax.Array:
    import lineax

    shape = jax.ShapeDtypeStruct(b.shape, b.dtype)
    tags = lineax.positive_semidefinite_tag
    operator = lineax.FunctionLinearOperator(partial(deflated, model), shape, tags)
    diagonal = jax.lax.stop_gradient(model.escape)  # lineax differentiates no preconditioner
    inverse = lineax.FunctionLinearOperator(lambda z: z / diagonal, shape, tags)
    # Its tolerances are by entry, and a relative one is out of reach where entries vanish: in all, |r| <= 1e-10 m / 2, about 1e-10 |b|.
    atol = TOLERANCE * model.visible_rates.shape[0] / 2
    solver = lineax.CG(rtol=0.0, atol=atol, norm=lambda z: jnp.sqrt(jnp.sum(z * z)), max_steps=MAX_ITERATIONS)
    return lineax.linear_solve(operator, b, solver, options={"preconditioner": inverse}, throw=False).value


def by_parity(model: Model, b: jax.Array) -> jax.Array:
    """Our algorithm: with A = [[D0, -C], [-C', D1]], CG on D0 - C D1^-1 C' preconditioned by D0, every observable with its own steps."""
    m = model.visible_rates.shape[0]
    n_rows, n_columns = model.root_law.shape
    # A state of class k is named by all bits but the first, which its class determines.
    parity = np.bitwise_count(np.arange(n_rows))[:, None] + np.bitwise_count(np.arange(n_columns // 2))[None]
    columns = [2 * np.arange(n_columns // 2)[None] + (parity + k) % 2 for k in (0, 1)]
    rows = np.arange(n_rows)[:, None]
    classes = [(slice(None), rows, column) for column in columns]
    b0, b1 = (b[where] for where in classes)
    diagonal0, diagonal1 = (model.escape[rows, column] for column in columns)
    hidden_rates = jnp.stack([model.hidden_rates[:, column] for column in columns])  # (2, m, hidden, visible / 2)

    def half(y: jax.Array, rates: jax.Array) -> jax.Array:
        """C y or C' y, from one class to the other."""
        product = model.visible_rates[0, :, None] * y + rates[m - 1] * y[:, ::-1, ::-1]
        for i in range(1, m):
            product += model.visible_rates[i, :, None] * flipped(y, 2, i - 1)
        for j in range(m - 1):
            product += rates[j] * flipped(y, 1, j)
        return product

    scales = jnp.stack([1 / diagonal1, jnp.ones_like(diagonal0)])

    def schur(z: jax.Array) -> jax.Array:
        there_and_back, _ = jax.lax.scan(lambda y, leg: (leg[1] * half(y, leg[0]), None), z, (hidden_rates[::-1], scales))
        return diagonal0 * z - there_and_back

    def dot(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sum(x * y, axis=(1, 2), keepdims=True)

    right = b0 + half(b1 / diagonal1, hidden_rates[0])
    target = TOLERANCE**2 * dot(b.reshape(len(b), n_rows, -1), b.reshape(len(b), n_rows, -1))

    def unfinished(carry: Any) -> jax.Array:
        _, residual, _, _, iteration = carry
        return (iteration < MAX_ITERATIONS) & (dot(residual, residual) > target).any()

    def iterate(carry: Any) -> Any:
        z, residual, step, square, iteration = carry
        image = schur(step)
        curvature = dot(step, image)
        length = jnp.where(dot(residual, residual) > target, square / jnp.where(curvature > 0, curvature, 1.0), 0.0)
        residual = residual - length * image
        updated = dot(residual, residual / diagonal0)
        return z + length * step, residual, residual / diagonal0 + updated / square * step, updated, iteration + 1

    first = right / diagonal0
    z0, *_ = jax.lax.while_loop(unfinished, iterate, (jnp.zeros_like(right), right, first, dot(right, first), 0))
    z1 = (b1 + half(z0, hidden_rates[1])) / diagonal1
    z = jnp.zeros_like(b).at[classes[0]].set(z0).at[classes[1]].set(z1)
    return z - jnp.einsum("ahv,hv->a", z, model.root_law)[:, None, None] * model.root_law


def t_obs(solver: Solver, held: bool, W: jax.Array) -> jax.Array:
    model = model_of(W)
    b = sources(model)
    if not held:
        return jnp.sum(b * solver(model, b))
    z = jax.lax.stop_gradient(solver(jax.lax.stop_gradient(model), jax.lax.stop_gradient(b)))
    return jnp.sum((2 * b - generator(model, z)) * z)


def residual_of(solver: Solver, W: jax.Array) -> float:
    def largest(weights: jax.Array) -> jax.Array:
        model = model_of(weights)
        b = sources(model)
        rest = b - generator(model, solver(model, b))
        return jnp.sqrt((rest**2).sum(axis=(1, 2)) / (b**2).sum(axis=(1, 2))).max()

    return float(jax.jit(largest)(W))


MATRIX_FREE: dict[str, tuple[Solver, bool]] = {
    "jax.scipy cg, held": (partial(by_cg, False), True),
    "jax.scipy cg, diagonal, held": (partial(by_cg, True), True),
    "jax.scipy cg, diagonal, through": (partial(by_cg, True), False),
}
if find_spec("lineax"):
    MATRIX_FREE["lineax CG, diagonal, through"] = (by_lineax, False)
    MATRIX_FREE["lineax CG, diagonal, held"] = (by_lineax, True)
DENSE: dict[str, tuple[Solver, bool]] = {"dense LU, through": (by_lu, False), "dense Cholesky, held": (by_cholesky, True)}
PARITY = "parity classes (ours) in JAX, held"


def ours(threads: int | None, W: np.ndarray) -> tuple[float, np.ndarray]:
    if threads is not None:
        tk.set_threads(threads)
    value, gradient = adjoints.observable_variance_time(W)
    return value, gradient


def seconds_of(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def seconds_of_a_turn(function: Callable[[], Any]) -> tuple[float, float]:
    """Of the first call, and on the average of those that follow it."""
    return seconds_of(function), settled(lambda: jax.block_until_ready(function()), TURN)


def measure(m: int, dense: bool, rounds: int) -> None:
    rng = np.random.default_rng(m)
    W = rng.normal(size=(m, m)) * 2.0 / np.sqrt(m)
    contestants: dict[str, Callable[[], Any]] = {}
    if hasattr(tk, "set_threads"):
        for threads in (1, 2):
            contestants[f"thermokernels, {threads} thread{'s' * (threads > 1)}"] = partial(ours, threads, W)
    else:
        contestants["thermokernels, 1 thread"] = partial(ours, None, W)
    names = list(contestants)
    peers = (DENSE if dense else {}) | MATRIX_FREE | {PARITY: (by_parity, True)}
    for name, (solver, held) in peers.items():
        contestants[name] = partial(jax.jit(jax.value_and_grad(partial(t_obs, solver, held))), jnp.asarray(W))

    compiling = {name: seconds_of(function) for name, function in contestants.items()}
    answers = {name: function() for name, function in contestants.items()}
    residuals = {name: residual_of(solver, jnp.asarray(W)) for name, (solver, _) in peers.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    firsts: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name in rng.permutation(list(contestants)):
            first, mean = seconds_of_a_turn(contestants[name])
            firsts[name].append(first)
            times[name].append(mean)
    medians, switched = ({name: statistics.median(values) for name, values in of.items()} for of in (times, firsts))

    value, gradient = answers[names[0]]
    print(f"\nm = {m}: {2 ** (2 * m - 1)} pairs {{x, -x}}, {m * m} observables, T_O = {value:.6g} steps")
    over = "  ".join(f"/ {name.removeprefix('thermokernels, '):>8}" for name in names)
    print(f"{'':36} median ms (range, {rounds} turns)       after a switch   compiling s {over}  T_O, gradient agree   residual")
    for name in contestants:
        span = f"{1e3 * medians[name]:10.3g} ({1e3 * min(times[name]):.3g} to {1e3 * max(times[name]):.3g})"
        ratios = "  ".join(f"{medians[name] / medians[one]:10.3g}" for one in names)
        other_value, other_gradient = answers[name]
        apart = abs(float(other_value) / value - 1), float(np.abs(np.asarray(other_gradient) - gradient).max() / np.abs(gradient).max())
        residual = f"{residuals[name]:.1e}" if name in residuals else ""
        others = f"{1e3 * switched[name]:10.3g} {compiling[name]:13.2f} {ratios}"
        print(f"{name:36} {span:38} {others}  {apart[0]:10.1e} {apart[1]:9.1e}  {residual:>9}")
        if not apart[0] <= 1e-9:
            print(f"  !! the value of {name} does not agree to 1e-9")
    ahead = [name for name in peers if medians[name] < min(medians[one] for one in names)]
    usual = min(MATRIX_FREE, key=lambda name: medians[name])
    fastest = min(names, key=lambda name: medians[name])
    print(f"  best of the usual matrix-free ways: {usual}, {medians[usual] / medians[fastest]:.1f} times {fastest}", end="")
    print(f", {switched[usual] / switched[fastest]:.1f} times after a switch")
    print(f"  ahead of this package: {', '.join(ahead) or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m", type=int, nargs="+", default=[5, 6, 7, 8])
    parser.add_argument("--dense-to", type=int, default=6, help="largest m of the dense peers (at 7 a call takes seconds and 2 GB)")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print_machine()
    print(", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "lineax") if find_spec(name)))
    for m in options.m:
        measure(m, m <= options.dense_to, options.rounds)


if __name__ == "__main__":
    main()
