"""Q, T_O and the KL divergence as JAX functions with hand-derived reverse derivatives: under ``jit``, ``grad`` and ``vmap``.

The numbers are computed on the host, in double precision whatever the inputs are, and handed back in the precision of W (float32 at least).
The batch of a ``vmap`` is worked through one after the other, that of Q in one call on all threads (:func:`adjoints.q_struct`): a model of
it that is not answered is NaN and a warning. There is no forward mode. The divergence has second derivatives in reverse mode
(``jax.jacrev(jax.grad(f))``), Hessians times vectors by hand; another second derivative raises. What the kernels refuse of a single model
(:class:`thermokernels.NumericalError`, bad arguments) reaches JAX as an error of the callback, with the same sentence.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thermokernels.common import arguments
from thermokernels_bridges import hosts


def q_struct(W: Any, p_data: Any, window: float = 100.0, b: Any = None, c: Any = None) -> jax.Array:
    """Q = (K / 2) |g|^2 / T_O, dimensionless, as :func:`thermokernels.q_struct`; differentiable in W, b and c.

    Parameters
    ----------
    W : (n_v, n_h); b : (n_v,), c : (n_h,), both or neither
    p_data : (2**n_v,), a constant: asking for its derivative raises
    window : float, in sweeps; a plain number, not traced

    Raises
    ------
    ValueError
        ``window`` is traced or no positive number, one field without the other, or a derivative by ``p_data`` is asked for.

    Examples
    --------
    >>> import jax
    >>> from thermokernels_bridges.jax import q_struct
    >>> gradient = jax.grad(q_struct)(jax.numpy.array([[0.5, -0.2]]), jax.numpy.array([0.75, 0.25]))
    >>> gradient.shape
    (1, 2)
    """
    return _call(_with_derivative("q_struct", arguments.as_positive(window, "window", "sweeps")), p_data, W, b, c)


def observable_variance_time(W: Any, b: Any = None, c: Any = None) -> jax.Array:
    """T_O in steps, as :func:`thermokernels.observable_variance_time`; differentiable in W, b and c.

    Parameters
    ----------
    W : (n_v, n_h); b : (n_v,), c : (n_h,), both or neither
    """
    return _call(_with_derivative("observable_variance_time"), None, W, b, c)


def kl_divergence(p_data: Any, W: Any, b: Any = None, c: Any = None) -> jax.Array:
    """KL(p_data || visible marginal) in nats, as :func:`thermokernels.kl_divergence`; differentiable in W, b and c.

    Parameters
    ----------
    p_data : (2**n_v,), a constant: asking for its derivative raises
    W : (n_v, n_h); b : (n_v,), c : (n_h,), both or neither
    """
    return _call(_with_derivative("kl_divergence"), p_data, W, b, c)


def estimated_q(
    W: Any,
    samples: Any,
    window: float = 100.0,
    b: Any = None,
    c: Any = None,
    *,
    kernel: str = "alternating",
    n_samples: int = 256,
    n_replicates: int = 256,
    seed: int = 0,
) -> jax.Array:
    """Q of a model of any size from coupled chains, as :func:`thermokernels.estimate_q`; its gradient in W, b and c is a stochastic one.

    The gradient is that of :func:`adjoints.estimate_q`: its noise belongs to ``seed``, so that a training takes another one at each step.

    Parameters
    ----------
    W : (n_v, n_h); b : (n_v,), c : (n_h,), both or neither
    samples : (n, n_v) of +1 and -1, constants
    window : float, in sweeps; kernel : "alternating", "two-block" or "single-site"
    n_samples, n_replicates, seed : as in :func:`adjoints.estimate_q`; plain numbers, not traced

    Raises
    ------
    ValueError
        Bad arguments.
    NotConvergedError
        Chains do not meet.
    """
    settings = hosts.estimate_settings(window, kernel, n_samples, n_replicates, seed)
    return _call(_with_derivative("estimated_q", *settings), samples, W, b, c)


def _call(function: Any, p_data: Any, W: Any, b: Any, c: Any) -> jax.Array:
    if (b is None) != (c is None):
        raise ValueError("b and c must be given both or neither")
    parts = [jnp.asarray(part) for part in ((W,) if b is None else (W, b, c))]
    for part, name in zip(parts, ("W", "b", "c"), strict=False):
        if not (jnp.issubdtype(part.dtype, jnp.floating) or jnp.issubdtype(part.dtype, jnp.integer)):
            raise ValueError(f"{name} must be an array of real numbers; got dtype {part.dtype}")
    # at least float32, since times leave the range of float16
    precision = jnp.result_type(*(part if jnp.issubdtype(part.dtype, jnp.floating) else float for part in parts), jnp.float32)
    model = tuple(part.astype(precision) for part in parts)
    result: jax.Array = function(None if p_data is None else jnp.asarray(p_data), *model)
    return result


@lru_cache(maxsize=256)  # seeds come and go
def _with_derivative(name: str, *settings: Any) -> Any:
    host = getattr(hosts, name)(*settings)
    vmap_method = "sequential" if host.many is None else "broadcast_all"

    def host_many(p_data: Any, *model: Any) -> Any:
        """With as many leading axes as there are vmaps, which all parts have."""
        leading = np.shape(model[0])[:-2]
        parts = [part.reshape(-1, *part.shape[len(leading) :]) for part in (_law(p_data), *_doubles(model))]
        values, gradients = host.many(*parts)
        dtype = np.asarray(model[0]).dtype
        return values.reshape(leading).astype(dtype), tuple(part.reshape(*leading, *part.shape[1:]).astype(dtype) for part in gradients)

    def host_value(p_data: Any, *model: Any) -> Any:
        dtype = np.asarray(model[0]).dtype
        if np.ndim(model[0]) > 2:
            return host_many(p_data, *model)[0]
        return np.asarray(host.value(_law(p_data), *_doubles(model)), dtype)

    def host_gradients(p_data: Any, *model: Any) -> Any:
        dtype = np.asarray(model[0]).dtype
        if np.ndim(model[0]) > 2:
            return host_many(p_data, *model)
        value, gradients = host.gradients(_law(p_data), *_doubles(model))
        return np.asarray(value, dtype), tuple(gradient.astype(dtype) for gradient in gradients)

    def host_products(p_data: Any, direction: Any, *model: Any) -> Any:
        products = host.hessian_product(tuple(_doubles(direction)), _law(p_data), *_doubles(model))
        return tuple(product.astype(np.asarray(model[0]).dtype) for product in products)

    def once(law: Any, *parts: Any) -> Any:
        return jax.pure_callback(host_gradients, (_scalar(parts), _shapes(parts)), law, *parts, vmap_method=vmap_method)

    def backward_again(saved: Any, cotangents: Any) -> Any:
        law, parts, gradients = saved
        cotangent, direction = cotangents
        products = jax.pure_callback(host_products, _shapes(parts), law, direction, *parts, vmap_method="sequential")
        law = None if law is None else jnp.zeros_like(law)
        return (law, *(cotangent * gradient + product for gradient, product in zip(gradients, products, strict=True)))

    derivatives: Any = once
    if host.hessian_product is not None:
        derivatives = jax.custom_vjp(once)
        derivatives.defvjp(lambda law, *parts: ((found := once(law, *parts)), (law, parts, found[1])), backward_again)

    @jax.custom_vjp
    def function(p_data: Any, *model: Any) -> Any:
        return jax.pure_callback(host_value, _scalar(model), p_data, *model, vmap_method=vmap_method)

    def forward(p_data: Any, *model: Any) -> Any:
        if p_data is not None and p_data.perturbed:
            raise ValueError("p_data is a constant here: there is no derivative with respect to it; use jax.lax.stop_gradient")
        law = None if p_data is None else p_data.value
        parts = tuple(part.value for part in model)
        value, gradients = derivatives(law, *parts)
        return value, (law, gradients)

    def backward(saved: Any, cotangent: Any) -> Any:
        law, gradients = saved
        if type(cotangent).__name__ == "SymbolicZero":
            cotangent = jnp.zeros(cotangent.shape, cotangent.dtype)
        return (None if law is None else jnp.zeros_like(law), *(cotangent * gradient for gradient in gradients))

    function.defvjp(forward, backward, symbolic_zeros=True)
    return function


def _law(p_data: Any) -> Any:
    return None if p_data is None else hosts.as_law(p_data)


def _doubles(model: Any) -> list[Any]:
    return [hosts.as_double(part, name) for part, name in zip(model, ("W", "b", "c"), strict=False)]


def _shapes(parts: Any) -> tuple[jax.ShapeDtypeStruct, ...]:
    return tuple(jax.ShapeDtypeStruct(part.shape, part.dtype) for part in parts)


def _scalar(model: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((), model[0].dtype)
