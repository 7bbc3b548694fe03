"""The asymptotic variance V of the gradient: what K times the variance of a window mean tends to.

    V = sum_a Var f_a (1 + 2 sum_(t >= 1) rho_a(t)) = 2 T_O - sum_a Var_pi f_a,      f_ij = -v_i h_j.

T_O counts lag zero whole, so that (K / 2) |g|^2 / T_O understates Q: by about 1 / N for single-site chains, by up to one half for kernels
that renew a block at once. K |g|^2 / V is what Q tends to in a long window.
"""

from __future__ import annotations

from concurrent.futures import Executor

from thermokernels.common import tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.tolerances import EPSILON
from thermokernels.model.chain import GibbsChain, as_chain
from thermokernels.model.exchangeable import ExchangeableChain
from thermokernels.model.rounding import law_error
from thermokernels.quantities.alternating_scan import AlternatingTime, of_model
from thermokernels.quantities.exchangeable import exchangeable_sums
from thermokernels.quantities.variance_time import VarianceTime, variance_time
from thermokernels.solvers.checkpoint import PathLike
from thermokernels.solvers.solve import Progress, Solve


def observable_variances(chain: GibbsChain) -> Floats:
    """Var_pi(v_i h_j) = 4 Pr(v_i = h_j) Pr(v_i != h_j), (n_v, n_h): sums of positive terms, right however slow the chain is.

    Zero where there is no coupling.
    """
    hidden, visible = chain.block_spins
    law = chain.law.reshape(chain.shape)
    hidden_up, visible_up = 0.5 * (1 + hidden), 0.5 * (1 + visible)
    hidden_down, visible_down = 1 - hidden_up, 1 - visible_up
    equal = hidden_up.T @ (law @ visible_up) + hidden_down.T @ (law @ visible_down)
    unequal = hidden_up.T @ (law @ visible_down) + hidden_down.T @ (law @ visible_up)
    variances: Floats = 4 * (equal * unequal).T
    return chain.model.on_edges(variances)


def total_variance(chain: GibbsChain) -> tuple[float, float]:
    """sum_a Var_pi f_a, and a bound on its error: that of the law twice, and the roundings of the sums."""
    value = float(observable_variances(chain).sum())
    terms = sum(chain.shape) + chain.n_visible * chain.n_hidden + 8
    return value, 2 * (law_error(chain) + terms * EPSILON) * value


def variance_of(time: VarianceTime | AlternatingTime) -> tuple[float, float]:
    """:func:`total_variance` of the observables whose T_O is given."""
    return (time.variance, time.variance_error) if isinstance(time, AlternatingTime) else total_variance(time.chain)


def of_variance_time(time: VarianceTime | AlternatingTime) -> float:
    """V in steps, given T_O."""
    return 2 * time.value - variance_of(time)[0]


def bound_of(time: VarianceTime | AlternatingTime) -> float:
    """A bound on the error of V in steps: twice that of T_O and that of the variances, and the roundings of the difference."""
    variance, variance_error = variance_of(time)
    return (2 * time.bound + variance_error) * (1 + 4 * EPSILON) + 2 * EPSILON * (2 * time.value + variance)


@default_error_state
def asymptotic_variance(
    chain: GibbsChain | ExchangeableChain,
    method: str = "auto",
    rtol: float = tolerances.SOLVE,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
    executor: Executor | None = None,
) -> float:
    """V = 2 T_O - sum_ij Var_pi f_ij in steps: K times the variance of the mean of K records, summed over f_ij = -v_i h_j, as K grows.

    Parameters
    ----------
    method, rtol, progress, checkpoint, executor : as in :func:`thermokernels.observable_variance_time`

    Raises
    ------
    NotReversibleError, NotConvergedError, UnresolvedError, ModelTooLargeError, ExecutorError
        As :func:`thermokernels.observable_variance_time`.

    Examples
    --------
    Independent records: V is the variance, and T_O is too.

    >>> import thermokernels as tk
    >>> chain = tk.gibbs_chain([[0.0]])
    >>> round(tk.asymptotic_variance(chain), 12), round(tk.observable_variance_time(chain), 12)
    (1.0, 1.0)
    """
    if isinstance(chain, ExchangeableChain):
        return exchangeable_sums.variance_time(chain, rtol).asymptotic_variance
    chain, solve = as_chain(chain), Solve(method, rtol, progress, checkpoint, executor)
    return of_variance_time(of_model(chain.model, solve) if chain.dynamics.by_layers else variance_time(chain, solve))
