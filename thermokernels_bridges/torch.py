"""Q, T_O and the KL divergence as PyTorch functions with hand-derived gradients.

The numbers are computed on the CPU in double precision whatever the inputs are, and handed back in the precision and on the device of W
(float32 of half precisions, PyTorch's default of integers). ``torch.func.grad`` and ``vmap`` are understood; the members of a batch are
worked through one after the other, those of Q in one call on all threads (:func:`adjoints.q_struct`): a model of it that is not answered is
NaN and a warning. The divergence has second derivatives, Hessians times vectors by hand; another second derivative, and every third one,
raises.
"""

from __future__ import annotations

from typing import Any

import torch

from thermokernels.common import arguments
from thermokernels_bridges import hosts


def q_struct(
    W: torch.Tensor, p_data: torch.Tensor, window: float = 100.0, b: torch.Tensor | None = None, c: torch.Tensor | None = None
) -> torch.Tensor:
    """Q = (K / 2) |g|^2 / T_O, dimensionless, as :func:`thermokernels.q_struct`; differentiable in W, b and c.

    Parameters
    ----------
    W : (n_v, n_h); b : (n_v,), c : (n_h,), both or neither
    p_data : (2**n_v,), a constant
    window : float, in sweeps

    Raises
    ------
    ValueError
        Bad arguments, one field without the other, or ``p_data`` asks for a gradient.
    NotConvergedError, UnresolvedError
        As :func:`thermokernels.q_struct`.

    Examples
    --------
    >>> import torch
    >>> from thermokernels_bridges.torch import q_struct
    >>> W = torch.tensor([[0.5, -0.2]], dtype=torch.float64, requires_grad=True)
    >>> q_struct(W, torch.tensor([0.75, 0.25])).backward()
    >>> W.grad.shape
    torch.Size([1, 2])
    """
    return _call(hosts.q_struct(arguments.as_positive(window, "window", "sweeps")), p_data, W, b, c)


def observable_variance_time(W: torch.Tensor, b: torch.Tensor | None = None, c: torch.Tensor | None = None) -> torch.Tensor:
    """T_O in steps, as :func:`thermokernels.observable_variance_time`; differentiable in W, b and c.

    Parameters
    ----------
    W : (n_v, n_h); b : (n_v,), c : (n_h,), both or neither
    """
    return _call(hosts.observable_variance_time(), None, W, b, c)


def kl_divergence(p_data: torch.Tensor, W: torch.Tensor, b: torch.Tensor | None = None, c: torch.Tensor | None = None) -> torch.Tensor:
    """KL(p_data || visible marginal) in nats, as :func:`thermokernels.kl_divergence`; differentiable in W, b and c.

    Parameters
    ----------
    p_data : (2**n_v,), a constant
    W : (n_v, n_h); b : (n_v,), c : (n_h,), both or neither
    """
    return _call(hosts.kl_divergence(), p_data, W, b, c)


def estimated_q(
    W: torch.Tensor,
    samples: torch.Tensor,
    window: float = 100.0,
    b: torch.Tensor | None = None,
    c: torch.Tensor | None = None,
    *,
    kernel: str = "alternating",
    n_samples: int = 256,
    n_replicates: int = 256,
    seed: int = 0,
) -> torch.Tensor:
    """Q of a model of any size from coupled chains, as :func:`thermokernels.estimate_q`; its gradient in W, b and c is a stochastic one.

    The gradient is that of :func:`adjoints.estimate_q`: its noise belongs to ``seed``, so that a training takes another one at each step.

    Parameters
    ----------
    W : (n_v, n_h); b : (n_v,), c : (n_h,), both or neither
    samples : (n, n_v) of +1 and -1, constants
    window : float, in sweeps; kernel : "alternating", "two-block" or "single-site"
    n_samples, n_replicates, seed : as in :func:`adjoints.estimate_q`

    Raises
    ------
    ValueError
        Bad arguments.
    NotConvergedError
        Chains do not meet.
    """
    return _call(hosts.estimated_q(*hosts.estimate_settings(window, kernel, n_samples, n_replicates, seed)), samples, W, b, c)


def _call(pair: Any, p_data: Any, *model: Any) -> torch.Tensor:
    if (model[1] is None) != (model[2] is None):
        raise ValueError("b and c must be given both or neither")
    law = None if p_data is None else torch.as_tensor(p_data)
    if law is not None and law.requires_grad:
        raise ValueError("p_data is a constant here: there is no gradient with respect to it; use p_data.detach()")
    return _outputs(pair, False, law, *(torch.as_tensor(part) for part in model if part is not None))[0]


def _outputs(pair: Any, wanted: bool, law: torch.Tensor | None, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The value, then its derivatives where they are wanted: by who calls, or by a tensor."""
    wants_gradients = wanted or (torch.is_grad_enabled() and any(part.requires_grad for part in parts))
    outputs: tuple[torch.Tensor, ...] = _Function.apply(pair, wants_gradients, law, *parts)
    return outputs


def _precision(parts: Any) -> torch.dtype:
    """Of what is handed back: the model's, of integers PyTorch's default; at least float32, since times leave the range of float16."""
    precision = torch.get_default_dtype()
    if parts[0].dtype.is_floating_point:
        precision = parts[0].dtype
    for part in parts[1:]:
        precision = torch.promote_types(precision, part.dtype)
    return torch.promote_types(precision, torch.float32)


class _Function(torch.autograd.Function):
    """The value, then its derivatives where they are wanted: outputs themselves, so that transformations may keep them for the way back."""

    @staticmethod
    def forward(pair: Any, wants_gradients: bool, law: torch.Tensor | None, *model: torch.Tensor) -> tuple[torch.Tensor, ...]:
        arrays = [hosts.as_double(part, name) for part, name in zip(model, ("W", "b", "c"), strict=False)]
        p_data = None if law is None else hosts.as_law(law)
        value, gradients = pair.gradients(p_data, *arrays) if wants_gradients else (pair.value(p_data, *arrays), ())
        precision, device = _precision(model), model[0].device
        return tuple(torch.as_tensor(output, dtype=precision, device=device) for output in (value, *gradients))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.pair, ctx.n_parts = inputs[0], len(inputs) - 3
        ctx.save_for_backward(*inputs[2:], *output[1:])

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor, *_: Any) -> Any:
        derivatives = _Derivatives.apply(ctx.pair, ctx.n_parts, *ctx.saved_tensors)
        return None, None, None, *(cotangent * gradient for gradient in derivatives)

    @staticmethod
    def vmap(info: Any, in_dims: Any, pair: Any, wants_gradients: bool, *tensors: torch.Tensor | None) -> Any:
        """The members of the batch one after the other. A transformation within the batch asks by flag, one around it by its tensors."""
        if pair.many is not None:
            parts = [_in_front(part, dim, info.batch_size) for part, dim in zip(tensors, in_dims[2:], strict=True)]
            wanted = wants_gradients or (torch.is_grad_enabled() and any(part.requires_grad for part in parts[1:]))
            outputs: tuple[torch.Tensor, ...] = _Many.apply(pair, wanted, *parts)
            return outputs, (0,) * len(outputs)
        members = [_outputs(pair, wants_gradients, *_member(tensors, in_dims[2:], k)) for k in range(info.batch_size)]
        outputs = tuple(torch.stack(parts) for parts in zip(*members, strict=True))
        return outputs, (0,) * len(outputs)


class _Many(torch.autograd.Function):
    """:class:`_Function` of models that lie along the first axis of every part, in one call."""

    @staticmethod
    def forward(pair: Any, wants_gradients: bool, law: torch.Tensor, *model: torch.Tensor) -> tuple[torch.Tensor, ...]:
        arrays = [hosts.as_double(part, name) for part, name in zip(model, ("W", "b", "c"), strict=False)]
        values, gradients = pair.many(hosts.as_law(law), *arrays)
        precision, device = _precision(model), model[0].device
        outputs = (values, *gradients) if wants_gradients else (values,)
        return tuple(torch.as_tensor(output, dtype=precision, device=device) for output in outputs)

    setup_context = _Function.setup_context

    @staticmethod
    def backward(ctx: Any, cotangents: torch.Tensor, *_: Any) -> Any:
        derivatives = _Derivatives.apply(ctx.pair, ctx.n_parts, *ctx.saved_tensors)
        return None, None, None, *(cotangents.reshape(-1, *[1] * (part.ndim - 1)) * part for part in derivatives)

    @staticmethod
    def vmap(info: Any, in_dims: Any, pair: Any, wants_gradients: bool, *tensors: torch.Tensor) -> Any:
        """A batch of batches is one of all its members."""
        parts = [_in_front(part, dim, info.batch_size).flatten(0, 1) for part, dim in zip(tensors, in_dims[2:], strict=True)]
        outputs = _Many.apply(pair, wants_gradients, *parts)
        return tuple(part.unflatten(0, (info.batch_size, -1)) for part in outputs), (0,) * len(outputs)


class _Derivatives(torch.autograd.Function):
    """The derivatives as functions of the model: handed on as they are, and no further derivative is taken for zero."""

    generate_vmap_rule = True

    @staticmethod
    def forward(pair: Any, n_parts: int, law: torch.Tensor | None, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(gradient.clone() for gradient in tensors[n_parts:])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.pair, n_parts = inputs[:2]
        ctx.save_for_backward(*inputs[2 : 3 + n_parts])

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
        if ctx.pair.hessian_product is None:
            raise RuntimeError("q_struct, estimated_q and observable_variance_time have first derivatives only; a second one was asked for")
        products = _HessianProduct.apply(ctx.pair, *ctx.saved_tensors, *cotangents)
        return None, None, None, *products, *(None for _ in products)


class _HessianProduct(torch.autograd.Function):
    """The Hessian, which is symmetric, times a direction."""

    @staticmethod
    def forward(pair: Any, law: torch.Tensor | None, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        model, direction = tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :]
        doubles, tangents = (
            [hosts.as_double(part, name) for part, name in zip(some, ("W", "b", "c"), strict=False)] for some in (model, direction)
        )
        products = pair.hessian_product(tuple(tangents), None if law is None else hosts.as_law(law), *doubles)
        outputs = zip(products, direction, strict=True)
        return tuple(torch.as_tensor(product, dtype=part.dtype, device=part.device) for product, part in outputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
        raise RuntimeError("kl_divergence has first and second derivatives only; a third one was asked for")

    @staticmethod
    def vmap(info: Any, in_dims: Any, pair: Any, *tensors: torch.Tensor | None) -> Any:
        """The members of the batch one after the other."""
        members = [_HessianProduct.apply(pair, *_member(tensors, in_dims[1:], k)) for k in range(info.batch_size)]
        return tuple(torch.stack(parts) for parts in zip(*members, strict=True)), (0,) * len(members[0])


def _in_front(part: torch.Tensor, dim: int | None, size: int) -> torch.Tensor:
    """With the axis of the batch in front, along which what has none is everybody's."""
    return part.expand(size, *part.shape) if dim is None else part.movedim(dim, 0)


def _member(tensors: Any, dims: Any, k: int) -> list[torch.Tensor | None]:
    """Those of the k-th member of a batch; what has no dimension for it is everybody's."""
    return [part if part is None or dim is None else part.select(dim, k) for part, dim in zip(tensors, dims, strict=True)]
