"""Q, T_O and the KL divergence as PyTorch functions with hand-derived gradients.

The numbers are computed on the CPU in double precision whatever the inputs are, and handed back in the precision and on the device of W.
A second derivative raises, as PyTorch does for functions that are differentiable once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

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


def _call(pair: Any, p_data: torch.Tensor | None, *model: torch.Tensor | None) -> torch.Tensor:
    if (model[1] is None) != (model[2] is None):
        raise ValueError("b and c must be given both or neither")
    if p_data is not None and p_data.requires_grad:
        raise ValueError("p_data is a constant here: there is no gradient with respect to it; use p_data.detach()")
    law = None if p_data is None else hosts.as_law(p_data.cpu().numpy())
    result: torch.Tensor = _Function.apply(pair, law, *(part for part in model if part is not None))
    return result


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pair: Any, law: Any, *model: torch.Tensor) -> torch.Tensor:
        value_of, gradients_of = pair
        arrays = [hosts.as_double(part.detach().cpu().numpy()) for part in model]
        if any(ctx.needs_input_grad):
            value, gradients = gradients_of(law, *arrays)
            ctx.save_for_backward(*(torch.from_numpy(gradient).to(model[0]) for gradient in gradients))
        else:
            value = value_of(law, *arrays)
        return model[0].new_tensor(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: torch.Tensor) -> Any:
        return None, None, *(cotangent * gradient for gradient in ctx.saved_tensors)
