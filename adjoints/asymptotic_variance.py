"""Gradient of the asymptotic variance V = 2 T_O - sum_a Var_pi f_a with respect to the couplings and fields."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Literal, Unpack, overload

from numpy.typing import ArrayLike

from adjoints import alternating_scan
from adjoints.cotangents import Cotangents, KernelOptions
from adjoints.variance_time import VarianceTimeAdjoint, _log_law_cotangents, gradient_chain
from thermokernels.common import arguments, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.model.chain import GibbsChain
from thermokernels.model.kernels.registry import as_kernel
from thermokernels.model.model import ModelLike, as_model
from thermokernels.quantities.alternating_scan import of_model
from thermokernels.quantities.asymptotic_variance import of_variance_time
from thermokernels.quantities.variance_time import correlations, variance_time
from thermokernels.solvers.checkpoint import PathLike
from thermokernels.solvers.solve import Progress, Solve


# sum_a Var f_a = n_v n_h - sum_ij (E_pi[v_i h_j])^2 is a function of the law alone:
#   -d sum_a Var f_a = 2 sum_ij E[v_i h_j] dE[v_i h_j] = 2 Cov_pi(phi, dlog pi),  phi(x) = sum_ij E[v_i h_j] v_i h_j.        (variance)
def variance_cotangents(chain: GibbsChain) -> Cotangents:
    """The gradient of -sum_a Var_pi f_a."""
    hidden, visible = chain.block_spins
    phi = (hidden @ (visible @ chain.model.on_edges(correlations(chain, chain.law))).T).ravel()
    return _log_law_cotangents(chain, 2 * chain.law * (phi - chain.law @ phi)).on_edges(chain.model)


@overload
def asymptotic_variance_and_gradient(
    W: ModelLike, b: ArrayLike | None = None, c: ArrayLike | None = None, *, fields: Literal[False] = False, **how: Unpack[KernelOptions]
) -> tuple[float, Floats]: ...
@overload
def asymptotic_variance_and_gradient(
    W: ModelLike, b: ArrayLike | None = None, c: ArrayLike | None = None, *, fields: Literal[True], **how: Unpack[KernelOptions]
) -> tuple[float, Cotangents]: ...
# dV = 2 dT_O - d sum_a Var f_a.                                                                                            (resolvent)
@default_error_state
def asymptotic_variance_and_gradient(
    W: ModelLike,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    method: str = "auto",
    rtol: float = tolerances.SOLVE,
    fields: bool = False,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
    executor: Executor | None = None,
    kernel: str = "single-site",
) -> tuple[float, Floats] | tuple[float, Cotangents]:
    """V (steps) and its gradient: that of T_O twice, and that of the variances.

    Parameters and errors are those of :func:`adjoints.observable_variance_time`.

    Returns
    -------
    (V, dV_dW) with dV_dW of shape (n_v, n_h), or (V, Cotangents(W, b, c)) with ``fields=True``; derivatives in steps.

    Examples
    --------
    The product of two spins is renewed at every step: V = Var = 1 - tanh(w)^2.

    >>> value, gradient = asymptotic_variance([[0.5]])
    >>> round(value, 6), gradient.round(6).item()
    (0.786448, -0.726862)
    """
    fields = arguments.as_flag(fields, "fields")
    model, solve = as_model(W, b, c), Solve(method, rtol, progress, checkpoint, executor)
    if as_kernel(kernel).by_layers:
        scan = of_model(model, solve)
        value, cotangents = scan.asymptotic_variance, alternating_scan.gradient(scan, lag_zero=1.0, others=2.0)
    else:
        adjoint = VarianceTimeAdjoint(gradient_chain(model, fields, kernel))
        time = variance_time(adjoint.chain, solve, (adjoint,))
        of_time, of_variance = adjoint.cotangents(time), variance_cotangents(adjoint.chain)
        cotangents = Cotangents(*(2 * slow + lag_zero for slow, lag_zero in zip(of_time, of_variance, strict=True)))
        value = of_variance_time(time)
    if fields:
        return value, cotangents
    return value, cotangents.W


asymptotic_variance = asymptotic_variance_and_gradient
