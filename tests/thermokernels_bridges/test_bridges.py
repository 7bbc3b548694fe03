"""The bridges give the numbers and gradients of ``adjoints``, by the rules of each framework; what has no derivative says so."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.optimize import NonlinearConstraint, approx_fprime, minimize

import adjoints
import thermokernels as tk

WINDOW = 50.0


def model(shape=(3, 2), seed=0):
    rng = np.random.default_rng(seed)
    W, b, c = rng.standard_normal(shape), rng.standard_normal(shape[0]), rng.standard_normal(shape[1])
    return W, b, c, rng.dirichlet(np.ones(2 ** shape[0]))


def expected(name, W, p_data, b=None, c=None):
    """The value and the gradients by W and, with fields, b and c."""
    fields = {} if b is None else {"b": b, "c": c, "fields": True}
    if name == "q_struct":
        q, gradients = adjoints.q_struct(W, p_data, WINDOW, **fields)
        value = q.value
    elif name == "observable_variance_time":
        value, gradients = adjoints.observable_variance_time(W, **fields)
    else:
        value, gradients = adjoints.kl_divergence(p_data, W, **fields)
    return value, (gradients,) if b is None else tuple(gradients)


NAMES = ("q_struct", "observable_variance_time", "kl_divergence")


def bound(bridge, name, p_data):
    """The function of (W,) or (W, b, c) alone."""
    if name == "q_struct":
        return lambda W, *fields: bridge.q_struct(W, p_data, WINDOW, *fields)
    if name == "observable_variance_time":
        return bridge.observable_variance_time
    return lambda W, *fields: bridge.kl_divergence(p_data, W, *fields)


@pytest.fixture
def jax_bridge():
    """The module, with 64-bit numbers for the test."""
    jax = pytest.importorskip("jax", reason="JAX is not installed: pip install '.[jax]'")
    from thermokernels_bridges import jax as bridge

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield bridge
    jax.config.update("jax_enable_x64", before)


@pytest.mark.bridges
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fields", [False, True])
def test_jax_under_jit_grad_and_vmap(jax_bridge, name, fields):
    import jax

    W, b, c, p_data = model()
    parts = (W, b, c) if fields else (W,)
    function = bound(jax_bridge, name, p_data)
    value, gradients = jax.jit(jax.value_and_grad(function, argnums=tuple(range(len(parts)))))(*parts)
    known, known_gradients = expected(name, W, p_data, *parts[1:])
    assert float(value) == pytest.approx(known, rel=1e-14, abs=0)
    for gradient, right in zip(gradients, known_gradients, strict=True):
        np.testing.assert_allclose(gradient, right, rtol=1e-12, atol=1e-14)
    batch = [np.stack([part, 0.5 * part]) for part in parts]
    rows = jax.vmap(jax.grad(function))(*batch)
    for k in range(2):
        np.testing.assert_allclose(
            rows[k],
            expected(name, *(np.asarray(part[k]) for part in batch[:1]), p_data, *(part[k] for part in batch[1:]))[1][0],
            rtol=1e-10,
        )
    np.testing.assert_allclose(jax.vmap(function)(*batch)[0], known, rtol=1e-14)


SAMPLES = np.where(np.random.default_rng(4).random((60, 3)) < 0.7, 1.0, -1.0)


def estimated(W, b=None, c=None, seed=5):
    options = {"kernel": "two-block", "n_samples": 128, "n_replicates": 64, "seed": seed}
    estimate, gradient = adjoints.estimate_q(tk.Model(W, b, c), SAMPLES, WINDOW, **options)
    return options, estimate.value, (gradient.dq_dW, gradient.dq_db, gradient.dq_dc)


@pytest.mark.bridges
@pytest.mark.parametrize("fields", [False, True])
def test_jax_has_the_stochastic_gradient_of_an_estimate(jax_bridge, fields):
    import jax

    W, b, c, _ = model()
    parts = (0.5 * W, b, c) if fields else (0.5 * W,)
    options, known, right = estimated(*parts)
    function = jax.jit(
        jax.value_and_grad(lambda W, *rest: jax_bridge.estimated_q(W, SAMPLES, WINDOW, *rest, **options), argnums=tuple(range(len(parts))))
    )
    value, gradients = function(*parts)
    assert float(value) == pytest.approx(known, rel=1e-12, abs=0)
    for gradient, one in zip(gradients, right, strict=False):
        np.testing.assert_allclose(gradient, one, rtol=1e-12)
    with pytest.raises(ValueError, match="n_samples must be an integer of at least 128"):
        jax_bridge.estimated_q(W, SAMPLES, n_samples=1)


@pytest.mark.bridges
@pytest.mark.parametrize("fields", [False, True])
def test_torch_has_the_stochastic_gradient_of_an_estimate(fields):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    from thermokernels_bridges import torch as bridge

    W, b, c, _ = model()
    parts = (0.5 * W, b, c) if fields else (0.5 * W,)
    options, known, right = estimated(*parts)
    tensors = [torch.tensor(part, requires_grad=True) for part in parts]
    value = bridge.estimated_q(tensors[0], torch.tensor(SAMPLES, dtype=torch.float32), WINDOW, *tensors[1:], **options)
    assert value.item() == known
    (2 * value).backward()
    for tensor, one in zip(tensors, right, strict=False):
        np.testing.assert_allclose(tensor.grad, 2 * one, rtol=1e-12)
    assert bridge.estimated_q(torch.tensor(parts[0]), SAMPLES, WINDOW, *parts[1:], **options).item() == known  # nothing asks for a gradient
    with pytest.raises(ValueError, match="kernel must be one of"):
        bridge.estimated_q(tensors[0], SAMPLES, kernel="symmetrised-alternating")
    stuck = torch.tensor(np.full((4, 4), 2.5)), np.ones((4, 4)), 10.0, torch.full((4,), 1e-3), torch.zeros(4)
    with pytest.raises(tk.NotConvergedError, match=r"Q cannot be estimated: .* did not meet"):
        bridge.estimated_q(*stuck)


@pytest.mark.bridges
def test_jax_carries_the_chain_rule(jax_bridge):
    import jax

    W, *_, p_data = model()
    gradient = jax.grad(lambda scale: jax.numpy.log(jax_bridge.q_struct(scale * W, p_data, WINDOW)))(1.3)
    q, by_weights = adjoints.q_struct(1.3 * W, p_data, WINDOW)
    assert float(gradient) == pytest.approx((by_weights * W).sum() / q.value, rel=1e-12, abs=0)


@pytest.mark.bridges
def test_jax_in_single_precision(jax_bridge):
    import jax

    W, *_, p_data = model()
    law = p_data.astype(np.float32)
    value, gradient = jax.value_and_grad(jax_bridge.q_struct)(jax.numpy.asarray(W, np.float32), jax.numpy.asarray(law), WINDOW)
    known, (right,) = expected("q_struct", W, p_data)
    assert value.dtype == gradient.dtype == np.float32
    assert float(value) == pytest.approx(known, rel=1e-5, abs=0)
    np.testing.assert_allclose(gradient, right, rtol=1e-4, atol=1e-5)


@pytest.mark.bridges
def test_jax_names_what_it_cannot_do(jax_bridge, caplog):
    import jax

    W, b, _, p_data = model()
    with pytest.raises(ValueError, match="no derivative with respect to it"):
        jax.grad(jax_bridge.q_struct, argnums=1)(W, p_data)
    with pytest.raises(ValueError, match="window must be a positive number of sweeps"):
        jax.grad(lambda window: jax_bridge.q_struct(W, p_data, window))(WINDOW)
    with pytest.raises(ValueError, match="both or neither"):
        jax_bridge.kl_divergence(p_data, W, b)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(jax_bridge.observable_variance_time, (W,), (W,))
    with pytest.raises(ValueError, match="do not support JVP"):
        jax.hessian(jax_bridge.observable_variance_time)(W)
    with pytest.raises(Exception, match="W must be finite"):
        jax_bridge.observable_variance_time(np.nan * W).block_until_ready()


@pytest.fixture
def torch_bridge():
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    from thermokernels_bridges import torch as bridge

    return bridge


@pytest.mark.bridges
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fields", [False, True])
def test_torch_passes_gradcheck(torch_bridge, name, fields):
    import torch

    W, b, c, p_data = model()
    parts = [torch.tensor(part, requires_grad=True) for part in ((W, b, c) if fields else (W,))]
    function = bound(torch_bridge, name, torch.tensor(p_data))
    assert torch.autograd.gradcheck(function, parts)
    value = function(*parts)
    value.backward()
    known, gradients = expected(name, W, p_data, *((b, c) if fields else ()))
    assert float(value.detach()) == known
    for part, right in zip(parts, gradients, strict=True):
        np.testing.assert_array_equal(part.grad, right)


@pytest.mark.bridges
def test_torch_in_single_precision(torch_bridge):
    import torch

    W, *_, p_data = model()
    couplings = torch.tensor(W, dtype=torch.float32, requires_grad=True)
    value = torch_bridge.q_struct(couplings, torch.tensor(p_data, dtype=torch.float32), WINDOW)
    value.backward()
    known, (right,) = expected("q_struct", W, p_data)
    assert value.dtype == couplings.grad.dtype == torch.float32
    assert float(value.detach()) == pytest.approx(known, rel=1e-5, abs=0)
    np.testing.assert_allclose(couplings.grad, right, rtol=1e-4, atol=1e-5)


@pytest.mark.bridges
def test_torch_names_what_it_cannot_do(torch_bridge):
    import torch

    W, b, _, p_data = model()
    couplings, law = torch.tensor(W, requires_grad=True), torch.tensor(p_data)
    with pytest.raises(ValueError, match="no gradient with respect to it"):
        torch_bridge.q_struct(couplings, law.clone().requires_grad_())
    with pytest.raises(ValueError, match="both or neither"):
        torch_bridge.kl_divergence(law, couplings, torch.tensor(b))
    with pytest.raises(ValueError, match="p_data must sum to one"):
        torch_bridge.kl_divergence(2 * law, couplings)
    with pytest.raises(ValueError, match="p_data must sum to one"):  # rounding of single precision does not explain it
        torch_bridge.kl_divergence(2 * law.float(), couplings)
    (gradient,) = torch.autograd.grad(torch_bridge.observable_variance_time(couplings), couplings, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        gradient.sum().backward()
    with pytest.raises(RuntimeError, match="first derivatives only"):  # and not a Hessian of zeros
        torch.func.grad(lambda W: torch.func.grad(torch_bridge.observable_variance_time)(W).sum())(couplings.detach())
    for wrong, dtype in ((couplings.detach() * 1j, "complex128"), (couplings > 0, "bool")):
        with pytest.raises(ValueError, match=f"W must be an array of real numbers; got dtype {dtype}"):
            torch_bridge.observable_variance_time(wrong)


@pytest.mark.bridges
@pytest.mark.parametrize("name", NAMES)
def test_torch_transformations(torch_bridge, name):
    """grad, vmap, and either inside of the other."""
    import torch
    from torch.func import grad, vmap

    W, b, c, p_data = model()
    function = bound(torch_bridge, name, torch.tensor(p_data))
    single = torch.tensor(W)
    batch = torch.stack([single, 0.5 * single, -2 * single])
    values, gradients = zip(*(expected(name, part.numpy(), p_data) for part in batch), strict=True)
    gradients = np.stack([part for (part,) in gradients])
    np.testing.assert_array_equal(grad(function)(single), gradients[0])
    np.testing.assert_allclose(vmap(function)(batch), values, rtol=1e-13)
    np.testing.assert_allclose(vmap(function, in_dims=1)(batch.movedim(0, 1)), values, rtol=1e-13)
    np.testing.assert_array_equal(vmap(grad(function))(batch), gradients)
    np.testing.assert_allclose(grad(lambda W: vmap(function)(W).log().sum())(batch), gradients / np.reshape(values, (-1, 1, 1)), rtol=1e-12)
    fields = torch.stack([torch.tensor(b), torch.tensor(-b)])
    by_field = vmap(lambda b: function(single, b, torch.tensor(c)))(fields)
    np.testing.assert_allclose(by_field, [expected(name, W, p_data, sign * b, c)[0] for sign in (1, -1)], rtol=1e-13)


@pytest.mark.bridges
def test_a_model_of_a_batch_that_is_refused_is_nan_and_a_warning(torch_bridge, jax_bridge):
    import jax
    import torch

    W, _, _, p_data = model()
    batch = np.stack([W, np.full_like(W, np.inf), 0.5 * W])
    right = [expected("q_struct", W, p_data)[0], np.nan, expected("q_struct", 0.5 * W, p_data)[0]]
    sentence = r"1 of 3 models of a batch are NaN, the first of them number 1: W must be finite; entry \(0, 0\) is inf"
    with pytest.warns(RuntimeWarning, match=sentence):
        np.testing.assert_array_equal(jax.vmap(lambda W: jax_bridge.q_struct(W, p_data, WINDOW))(batch), right)
    with pytest.warns(RuntimeWarning, match=sentence):
        found = torch.func.vmap(lambda W: torch_bridge.q_struct(W, torch.tensor(p_data), WINDOW))(torch.tensor(batch))
    np.testing.assert_array_equal(found, right)


@pytest.mark.bridges
def test_batches_of_batches_and_of_laws(torch_bridge, jax_bridge):
    import jax
    import torch

    W, _, _, p_data = model()
    batch, laws = np.stack([[W, 0.5 * W], [-W, 0.3 * W]]), np.stack([p_data, p_data[::-1]])
    right = np.array([[expected("q_struct", inner, law)[1][0] for inner in outer] for outer, law in zip(batch, laws, strict=True)])
    jax_gradient = jax.grad(lambda W, law: jax_bridge.q_struct(W, law, WINDOW))
    np.testing.assert_array_equal(jax.vmap(jax.vmap(jax_gradient, in_axes=(0, None)))(batch, laws), right)
    torch_gradient = torch.func.grad(lambda W, law: torch_bridge.q_struct(W, law, WINDOW))
    nested = torch.func.vmap(torch.func.vmap(torch_gradient, in_dims=(0, None)))
    np.testing.assert_array_equal(nested(torch.tensor(batch), torch.tensor(laws.copy())), right)


@pytest.mark.bridges
@pytest.mark.parametrize("name", NAMES)
def test_integers_and_half_precision_keep_their_digits(torch_bridge, jax_bridge, name):
    """What is computed does not inherit the dtype of the couplings."""
    import jax.numpy as jnp
    import torch

    from thermokernels_bridges import numba as numba_bridge

    whole, p_data = np.array([[1, -1], [2, 0], [1, 1]]), model((3, 2))[-1]
    known, (right,) = expected(name, whole, p_data)
    for dtype in (torch.int64, torch.uint8, torch.float16, torch.bfloat16):
        given = torch.tensor(whole).abs().to(dtype) if dtype is torch.uint8 else torch.tensor(whole).to(dtype)
        value = bound(torch_bridge, name, torch.tensor(p_data))(given)
        assert value.dtype == torch.float32
        assert float(value) == pytest.approx(expected(name, given.double().numpy(), p_data)[0], rel=1e-6, abs=0)
    for dtype in (jnp.int32, jnp.float16, jnp.bfloat16):
        value = bound(jax_bridge, name, jnp.asarray(p_data))(jnp.asarray(whole, dtype))
        assert float(value) == pytest.approx(known, rel=1e-6, abs=0)
    with pytest.raises(ValueError, match="W must be an array of real numbers; got dtype complex"):
        bound(jax_bridge, name, jnp.asarray(p_data))(jnp.asarray(whole * 1j))
    gradient = np.full(whole.shape, np.nan)
    calls = {
        "q_struct": lambda out: numba_bridge.q_struct(whole, p_data, WINDOW, out),
        "observable_variance_time": lambda out: numba_bridge.observable_variance_time(whole, out),
        "kl_divergence": lambda out: numba_bridge.kl_divergence(p_data, whole, out),
    }
    assert calls[name](gradient) == pytest.approx(known, rel=1e-12, abs=0)
    np.testing.assert_allclose(gradient, right, rtol=1e-9, atol=1e-10)
    with pytest.raises(ValueError, match="gradient must be an array of float64, which it is overwritten with; got one of int64"):
        calls[name](np.zeros(whole.shape, dtype=np.int64))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fields", [False, True])
def test_scipy_objectives(name, fields):
    from thermokernels_bridges import scipy as bridge

    W, b, c, p_data = model()
    options = {"window": WINDOW} if name == "q_struct" else {}
    leading = () if name == "observable_variance_time" else (p_data,)
    objective = getattr(bridge, name)(*leading, W.shape, fields=fields, **options)
    flat = np.concatenate([W.ravel(), b, c]) if fields else W.ravel()
    known, gradients = expected(name, W, p_data, *((b, c) if fields else ()))
    value, gradient = objective(flat)
    assert (value, objective.fun(flat)) == (known, known)
    np.testing.assert_array_equal(gradient, np.concatenate([part.ravel() for part in gradients]))
    np.testing.assert_array_equal(objective.jac(flat), gradient)
    np.testing.assert_allclose(approx_fprime(flat, objective.fun), gradient, rtol=1e-4, atol=1e-4)
    assert objective.fun(0.9 * flat) != value  # what is kept belongs to its point
    assert objective.fun(flat) == value


def test_scipy_computes_once_and_hands_out_copies():
    from thermokernels_bridges.scipy import Objective

    calls = []

    def compute(W):
        calls.append(W)
        return float(W.sum()), (np.ones_like(W),)

    objective = Objective(compute, (2, 2), False)
    point = np.arange(4.0)
    objective.jac(point)[:] = 7.0
    assert objective.jac(point).tolist() == [1.0] * 4
    assert objective.fun(point) == 6.0
    assert len(calls) == 1
    point += 1  # an optimiser may write into its vector
    assert objective.fun(point) == 10.0


def test_scipy_names_what_does_not_fit():
    from thermokernels_bridges import scipy as bridge

    objective = bridge.kl_divergence([0.5, 0.5], (1, 2))
    with pytest.raises(ValueError, match=r"parameters must have shape \(2,\); got shape \(3,\)"):
        objective.fun(np.ones(3))
    with pytest.raises(ValueError, match="p_data must have shape"):
        bridge.q_struct([0.5, 0.5], (2, 2))
    with pytest.raises(ValueError, match="log Q has no value"):
        bridge.q_struct([0.5, 0.5], (1, 1), logarithm=True).fun([0.0])


def test_scipy_keeps_q_above_its_floor():
    from thermokernels_bridges.scipy import kl_divergence, q_struct

    p_data = tk.visible_law(np.random.default_rng(1).standard_normal((3, 2)))
    divergence, log_q = kl_divergence(p_data, (3, 2)), q_struct(p_data, (3, 2), WINDOW, logarithm=True)
    start = 0.3 * np.random.default_rng(2).standard_normal(6)
    found = minimize(
        divergence,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(-3, 3)] * 6,
        constraints=[NonlinearConstraint(log_q.fun, 0, np.inf, jac=log_q.jac)],
    )
    assert found.success
    assert found.fun < divergence.fun(start)
    assert tk.q_struct(found.x.reshape(3, 2), p_data, WINDOW).value == pytest.approx(1, rel=1e-4, abs=0)


@pytest.mark.parametrize("shape", [pytest.param((2, 1), marks=pytest.mark.small), (3, 3), (2, 4), (4, 4), (5, 2)])
def test_compiled_functions(shape):
    from thermokernels_bridges import numba as bridge

    W, _, _, p_data = model(shape, seed=7)
    gradient = np.full(shape, np.nan)
    for name, compute in (
        ("q_struct", lambda: bridge.q_struct(W, p_data, WINDOW, gradient)),
        ("observable_variance_time", lambda: bridge.observable_variance_time(W, gradient)),
        ("kl_divergence", lambda: bridge.kl_divergence(p_data, W, gradient)),
    ):
        value = compute()
        known, (right,) = expected(name, W, p_data)
        assert value == pytest.approx(known, rel=1e-12, abs=0)
        np.testing.assert_allclose(gradient, right, rtol=1e-9, atol=1e-10 * np.abs(right).max())


def test_compiled_functions_say_nothing_rather_than_something_wrong():
    from thermokernels_bridges import numba as bridge

    gradient, answered = np.zeros((3, 3)), []
    for scale in (0.5, 2.0, 4.0, 8.0, 16.0, 60.0, 400.0):
        W = scale * np.array([[1.0, 0.2, -0.1], [0.1, 0.9, 0.3], [-0.2, 0.1, 0.8]])
        value = bridge.observable_variance_time(W, gradient)
        answered.append(not np.isnan(value))
        if answered[-1]:
            known, right = adjoints.observable_variance_time(W)
            assert value == pytest.approx(known, rel=1e-8, abs=0)
            np.testing.assert_allclose(gradient, right, atol=1e-6 * np.abs(right).max())
        else:
            assert np.isnan(gradient).all()
            assert np.isnan(bridge.q_struct(W, np.full(8, 0.125), WINDOW, gradient))
            assert np.isnan(gradient).all()
    assert answered == sorted(answered, reverse=True)
    assert answered[1]
    assert not answered[-1]


def exact_signal(W, p_data):
    """|g|^2 in mpmath, of the law as it is handed in divided by its sum."""
    import mpmath as mp

    V = 1 - 2 * ((np.arange(p_data.size)[:, None] >> np.arange(len(W))) & 1)
    with mp.workdps(60):
        F = [[mp.fsum(mp.mpf(float(w)) * int(s) for w, s in zip(column, v, strict=True)) for column in W.T] for v in V]
        weights = [mp.fprod(mp.cosh(f) for f in fields) for fields in F]
        excess = [q / mp.fsum(weights) - mp.mpf(float(p)) / mp.fsum(map(mp.mpf, p_data)) for q, p in zip(weights, p_data, strict=True)]
        terms = (
            mp.fsum(e * int(v[i]) * mp.tanh(fields[j]) for e, v, fields in zip(excess, V, F, strict=True)) ** 2
            for i, j in np.ndindex(W.shape)
        )
        return mp.fsum(terms)


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9, 1e-12, 0.0])
def test_the_compiled_signal_of_a_trained_model(distance):
    pytest.importorskip("mpmath", reason="mpmath is not installed: pip install mpmath")
    from thermokernels_bridges import numba as bridge

    W, other = model((3, 3), seed=7)[0], np.random.default_rng(5).normal(size=(3, 3))
    p_data, gradient = tk.visible_law(W + distance * other), np.zeros((3, 3))
    value = bridge.q_struct(W, p_data, WINDOW, gradient)
    signal, t_obs = float(exact_signal(W, p_data)), tk.observable_variance_time(tk.gibbs_chain(W))
    assert value == pytest.approx(0.5 * WINDOW * 6 * signal / t_obs, rel=1e-8, abs=0)
    step = 1e-3 * max(distance, 1e-12)
    if distance >= 1e-9:  # along the way to the data, where the signal is quadratic
        ahead, behind = (float(exact_signal(W + sign * step * other, p_data)) for sign in (1, -1))
        times = [tk.observable_variance_time(tk.gibbs_chain(W + sign * step * other)) for sign in (1, -1)]
        slope = 0.5 * WINDOW * 6 * (ahead / times[0] - behind / times[1]) / (2 * step)
        assert (gradient * other).sum() == pytest.approx(slope, rel=1e-5, abs=0)


def test_the_compiled_signal_that_is_nothing_or_not_certified():
    from thermokernels_bridges import numba as bridge

    data, weights, gradient = np.full(4, 0.25), np.zeros((2, 2)), np.ones((2, 2))
    assert bridge.q_struct(weights, data, WINDOW, gradient) == 0.0
    assert not gradient.any()
    # a law that differs in ways that no observable sees: what is left of g is the rounding of the law as it is handed in
    equal = np.full((2, 2), 0.3)
    p_data = tk.visible_law(equal) + 1e-3 * np.array([0.0, 1.0, -1.0, 0.0])
    value, signal = bridge.q_struct(equal, p_data, WINDOW, gradient), float(exact_signal(equal, p_data))
    assert signal < 1e-30
    assert np.isnan(value) or value == pytest.approx(
        0.5 * WINDOW * 4 * signal / tk.observable_variance_time(tk.gibbs_chain(equal)), rel=1e-8, abs=0
    )
    # of couplings whose exponentials leave the range of float64 nothing is said
    assert np.isnan(bridge.q_struct(np.diag([200.0, 200.0]), data, WINDOW, gradient))
    assert np.isnan(gradient).all()


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("W", np.zeros(2), r"^W must be an array of real numbers with 2 dimensions; got array\(float64, 1d, C\)$"),
        ("W", np.zeros((2, 2), dtype=complex), r"^W must be an array of real numbers with 2 dimensions; got array\(complex128, 2d, C\)$"),
        ("W", 0.5, r"^W must be an array of real numbers with 2 dimensions; got float64$"),
        ("W", np.zeros((2, 0)), r"^W must have at least one visible and one hidden spin$"),
        ("gradient", np.zeros((2, 2), dtype=np.float32), r"^gradient must be an array of float64, .*; got one of float32$"),
        ("gradient", np.zeros((2, 2), dtype=int), r"^gradient must be an array of float64, .*; got one of int64$"),
        ("gradient", np.zeros(4), r"^gradient must be an array of real numbers with 2 dimensions"),
        ("gradient", np.zeros((2, 3)), r"^gradient must have the shape of W$"),
        ("gradient", np.zeros((1, 2)), r"^gradient must have the shape of W$"),
        ("p_data", np.full(8, 0.125), r"^p_data must have 2\*\*n_v entries, one a visible state$"),
        ("p_data", np.full((2, 2), 0.25), r"^p_data must be an array of real numbers with 1 dimensions"),
        ("p_data", np.array([0.5, 0.5, 0.5, -0.5]), r"^p_data must be nonnegative$"),
        ("p_data", np.array([0.5, 0.5, np.nan, 0.0]), r"^p_data must be nonnegative$"),
        ("p_data", np.full(4, 0.3), r"^p_data must sum to one within 1e-9$"),
    ],
)
def test_compiled_functions_refuse_what_they_would_write_past(name, given, sentence):
    from thermokernels_bridges import numba as bridge

    arguments = {"W": np.zeros((2, 2)), "p_data": np.full(4, 0.25), "gradient": np.zeros((2, 2))} | {name: given}
    W, p_data, gradient = arguments.values()
    calls = [lambda: bridge.q_struct(W, p_data, WINDOW, gradient), lambda: bridge.kl_divergence(p_data, W, gradient)]
    if name != "p_data":
        calls.append(lambda: bridge.observable_variance_time(W, gradient))
    for call in calls:
        with pytest.raises(ValueError, match=sentence):
            call()


def test_the_package_itself_imports_no_framework():
    code = (
        "import sys, thermokernels_bridges.scipy, thermokernels_bridges.numba\n"
        "print({'jax', 'torch', 'thermokernels_app'} & {*sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def differences_of_gradients(W, b, c, p_data, step=1e-5):
    """The Hessian of the divergence by (W, b, c), flat, from central differences of its gradient."""
    point = np.concatenate([np.ravel(part) for part in (W, b, c)])

    def gradient(flat):
        parts = np.split(flat, [W.size, W.size + b.size])
        _, found = adjoints.kl_divergence(p_data, parts[0].reshape(W.shape), parts[1], parts[2], fields=True)
        return np.concatenate([np.ravel(part) for part in found])

    return np.array([(gradient(point + step * unit) - gradient(point - step * unit)) / (2 * step) for unit in np.eye(point.size)])


@pytest.mark.bridges
def test_torch_has_the_hessian_of_the_divergence(torch_bridge):
    import torch

    W, b, c, p_data = model()
    law = torch.tensor(p_data)
    known = differences_of_gradients(W, b, c, p_data)
    n = W.size
    blocks = torch.autograd.functional.hessian(lambda *parts: torch_bridge.kl_divergence(law, *parts), tuple(map(torch.tensor, (W, b, c))))
    sizes = [part.size for part in (W, b, c)]
    rows = [
        [block.reshape(rows, columns) for block, columns in zip(row, sizes, strict=True)] for row, rows in zip(blocks, sizes, strict=True)
    ]
    full = np.block([[block.numpy() for block in row] for row in rows])
    np.testing.assert_allclose(full, known, atol=1e-9)
    np.testing.assert_allclose(full, full.T, atol=1e-14)
    bare = differences_of_gradients(W, np.zeros_like(b), np.zeros_like(c), p_data)[:n, :n]
    function = bound(torch_bridge, "kl_divergence", law)
    for hessian in (
        torch.autograd.functional.hessian(function, torch.tensor(W)),
        torch.func.jacrev(torch.func.jacrev(function))(torch.tensor(W)),
    ):
        np.testing.assert_allclose(hessian.reshape(n, n), bare, atol=1e-9)


@pytest.mark.bridges
def test_torch_penalises_the_gradient_of_the_divergence(torch_bridge):
    import torch

    W, b, c, p_data = model()
    parts = [torch.tensor(part, requires_grad=True) for part in (W, b, c)]
    function = bound(torch_bridge, "kl_divergence", torch.tensor(p_data))
    assert torch.autograd.gradgradcheck(function, parts)
    gradients = torch.autograd.grad(function(*parts), parts, create_graph=True)
    sum(gradient.square().sum() for gradient in gradients).backward()
    flat = np.concatenate([gradient.detach().numpy().ravel() for gradient in gradients])
    penalty = np.concatenate([part.grad.numpy().ravel() for part in parts])
    np.testing.assert_allclose(penalty, 2 * differences_of_gradients(W, b, c, p_data) @ flat, atol=1e-9)
    once = torch.func.grad(lambda W: function(W))
    twice = torch.func.grad(lambda W: once(W).sum())
    with pytest.raises(RuntimeError, match="first and second derivatives only"):
        torch.func.grad(lambda W: twice(W).sum())(parts[0].detach())


@pytest.mark.bridges
def test_jax_has_the_hessian_of_the_divergence(jax_bridge):
    import jax

    W, b, c, p_data = model()
    known = differences_of_gradients(W, b, c, p_data)
    n = W.size
    function = bound(jax_bridge, "kl_divergence", p_data)
    with_fields = jax.jacrev(jax.grad(function))(W, b, c)
    np.testing.assert_allclose(np.reshape(with_fields, (n, n)), known[:n, :n], atol=1e-9)
    bare = differences_of_gradients(W, np.zeros_like(b), np.zeros_like(c), p_data)[:n, :n]
    np.testing.assert_allclose(np.reshape(jax.jit(jax.jacrev(jax.grad(function)))(W), (n, n)), bare, atol=1e-9)
    penalty = jax.grad(lambda W: (jax.grad(function)(W) ** 2).sum())(W)
    np.testing.assert_allclose(np.ravel(penalty), 2 * bare @ np.ravel(jax.grad(function)(W)), atol=1e-9)
    with pytest.raises(ValueError, match="do not support JVP"):
        jax.jacrev(jax.grad(jax_bridge.observable_variance_time))(W)
