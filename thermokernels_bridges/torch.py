"""Q, T_O and the KL divergence as PyTorch functions with hand-derived gradients.

The numbers are computed on the CPU in double precision whatever the inputs are, and handed back in the precision and on the device of W
(float32 of half precisions, PyTorch's default of integers). ``torch.func.grad`` and ``vmap`` are understood; the members of a batch are
worked through one after the other. A second derivative raises, as PyTorch does for functions that are differentiable once.
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
        value_of, gradients_of = pair
        arrays = [hosts.as_double(part, name) for part, name in zip(model, ("W", "b", "c"), strict=False)]
        p_data = None if law is None else hosts.as_law(law)
        value, gradients = gradients_of(p_data, *arrays) if wants_gradients else (value_of(p_data, *arrays), ())
        precision, device = _precision(model), model[0].device
        return tuple(torch.as_tensor(output, dtype=precision, device=device) for output in (value, *gradients))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.n_parts = len(inputs) - 3
        ctx.save_for_backward(*inputs[3:], *output[1:])

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor, *_: Any) -> Any:
        model, gradients = ctx.saved_tensors[: ctx.n_parts], ctx.saved_tensors[ctx.n_parts :]
        return None, None, None, *(cotangent * gradient for gradient in _Derivatives.apply(len(model), *model, *gradients))

    @staticmethod
    def vmap(info: Any, in_dims: Any, pair: Any, wants_gradients: bool, *tensors: torch.Tensor | None) -> Any:
        """The members of the batch one after the other. A transformation within the batch asks by flag, one around it by its tensors."""

        def member(k: int) -> list[torch.Tensor | None]:
            pairs = zip(tensors, in_dims[2:], strict=True)
            return [part if part is None or dim is None else part.select(dim, k) for part, dim in pairs]

        members = [_outputs(pair, wants_gradients, *member(k)) for k in range(info.batch_size)]
        outputs = tuple(torch.stack(parts) for parts in zip(*members, strict=True))
        return outputs, (0,) * len(outputs)


class _Derivatives(torch.autograd.Function):
    """The derivatives as functions of the model: handed on as they are, and no further derivative is taken for zero."""

    generate_vmap_rule = True

    @staticmethod
    def forward(n_parts: int, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(gradient.clone() for gradient in tensors[n_parts:])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
        raise RuntimeError("q_struct, observable_variance_time and kl_divergence have first derivatives only; a second one was asked for")
