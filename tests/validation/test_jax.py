"""Gradients against JAX in double precision: T_O, Q and KL in W, b and c, and the hypernetwork's Jacobian, vjp and dQ/dphi."""

import numpy as np
import pytest

import adjoints
import thermokernels as tk

pytestmark = [pytest.mark.jax, pytest.mark.judges]

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install '.[jax]'")
jnp = pytest.importorskip("jax.numpy")


@pytest.fixture(autouse=True)
def double_precision():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def states(n):
    return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)


def t_obs(W, b, c):
    """The definition on all states, dense."""
    n_v, n_h = W.shape
    n, x = n_v + n_h, states(n_v + n_h)
    v, h = x[:, :n_v], x[:, n_v:]
    law = jax.nn.softmax(jnp.einsum("xi,ij,xj->x", v, W, h) + v @ b + h @ c)
    rates = jax.nn.sigmoid(-2.0 * x * jnp.hstack([h @ W.T + b, v @ W + c])) / n
    matrix = jnp.diag(rates.sum(axis=1)) + law
    for i in range(n):
        matrix = matrix.at[np.arange(2**n), np.arange(2**n) ^ (1 << i)].add(-rates[:, i])
    f = -(v[:, :, None] * h[:, None, :]).reshape(2**n, -1)
    centred = f - law @ f
    return jnp.sum(law[:, None] * centred * jnp.linalg.solve(matrix, centred))


def log_marginal(W, b, c):
    v = states(W.shape[0])
    fields = v @ W + c
    return jax.nn.log_softmax(v @ b + jnp.logaddexp(fields, -fields).sum(axis=1))


def kl(W, b, c, p):
    return jnp.sum(jnp.where(p > 0, p * (jnp.log(jnp.where(p > 0, p, 1.0)) - log_marginal(W, b, c)), 0.0))


def q(W, b, c, p, window):
    v = states(W.shape[0])
    g = jnp.einsum("s,si,sj->ij", jnp.exp(log_marginal(W, b, c)) - p, v, jnp.tanh(v @ W + c))
    return 0.5 * window * sum(W.shape) * jnp.sum(g**2) / t_obs(W, b, c)


SHAPES = [(1, 1), (2, 3), (3, 2), (4, 3)]


def model(shape):
    rng = np.random.default_rng(sum(shape))
    return (
        1.2 * rng.normal(size=shape),
        0.4 * rng.normal(size=shape[0]),
        0.4 * rng.normal(size=shape[1]),
        rng.dirichlet(np.ones(2 ** shape[0])),
    )


def compare(ours, theirs):
    size = max(float(np.abs(part).max()) for part in theirs)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-11 * size)


@pytest.mark.parametrize("shape", SHAPES)
def test_variance_time(shape):
    W, b, c, _ = model(shape)
    value, cotangents = adjoints.observable_variance_time(W, b, c, fields=True)
    expected, gradient = jax.value_and_grad(t_obs, (0, 1, 2))(W, b, c)
    assert value == pytest.approx(float(expected), rel=1e-11, abs=0)
    compare(cotangents, gradient)


@pytest.mark.parametrize("shape", SHAPES)
def test_signal_to_noise(shape):
    W, b, c, p = model(shape)
    value, cotangents = adjoints.q_struct(W, p, window=40, b=b, c=c, fields=True)
    expected, gradient = jax.value_and_grad(q, (0, 1, 2))(W, b, c, p, 40)
    assert value.value == pytest.approx(float(expected), rel=1e-10, abs=0)
    compare(cotangents, gradient)


@pytest.mark.parametrize("shape", SHAPES)
def test_divergence(shape):
    W, b, c, p = model(shape)
    p[0] = 0.0
    p /= p.sum()
    value, gradients = adjoints.kl_divergence(p, W, b, c, fields=True)
    expected, gradient = jax.value_and_grad(kl, (0, 1, 2))(W, b, c, p)
    assert value == pytest.approx(float(expected), rel=1e-11, abs=0)
    compare(gradients, gradient)


@pytest.mark.parametrize("shape", [(3, 3, 2, 4, 4), (2, 4, 1, 3, 2)])
def test_hypernetwork(shape):
    n_v, n_h, rank, width, n_codes = shape
    sizes = [width * n_codes, width, n_v * rank * width, n_v * rank, n_h * rank * width, n_h * rank]
    rng = np.random.default_rng(3)
    phi, code, p = 0.6 * rng.normal(size=sum(sizes)), rng.normal(size=n_codes), rng.dirichlet(np.ones(2**n_v))

    def emitted(parameters):
        C, c0, H_A, a0, H_B, b0 = jnp.split(parameters, np.cumsum(sizes)[:-1])
        z = jnp.tanh(C.reshape(width, n_codes) @ code + c0)
        A, B = (H_A.reshape(-1, width) @ z + a0).reshape(n_v, rank), (H_B.reshape(-1, width) @ z + b0).reshape(n_h, rank)
        return A @ B.T

    network = tk.Hypernetwork.from_parameters(phi, shape)
    W = tk.couplings(network, code)
    np.testing.assert_allclose(W, emitted(phi), rtol=1e-13, atol=1e-14)
    jacobian = jax.jacobian(emitted)(phi).reshape(n_v * n_h, -1)
    np.testing.assert_allclose(adjoints.couplings_jacobian(network, code), jacobian, rtol=1e-11, atol=1e-13)
    _, dq_dw = adjoints.q_struct(W, p)
    slope = jax.grad(lambda parameters: q(emitted(parameters), jnp.zeros(n_v), jnp.zeros(n_h), p, 100.0))(phi)
    pulled = adjoints.couplings_vjp(network, code, dq_dw)
    np.testing.assert_allclose(pulled, slope, rtol=1e-8, atol=1e-10 * np.abs(slope).max())
