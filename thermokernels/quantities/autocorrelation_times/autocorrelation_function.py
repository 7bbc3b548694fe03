"""The exact autocorrelation function of the gradient observables, lag by lag: what an estimate from a trace should look like."""

from __future__ import annotations

import numpy as np

from thermokernels.common import arguments, memory
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import ConstantError
from thermokernels.model.chain import GibbsChain, as_chain
from thermokernels.quantities.windows.window_moments import centred_products


@default_error_state
def autocorrelation_function(chain: GibbsChain, n_lags: int) -> Floats:
    """rho(t) = sum_ij Cov(f_ij(X_0), f_ij(X_t)) / sum_ij Var f_ij of the stationary chain, f_ij = -v_i h_j, for every kernel.

    Parameters
    ----------
    n_lags : the last lag, in records: one a step of the kernel

    Returns
    -------
    (n_lags + 1,), rho(0) = 1 first. 1 + 2 sum_(t >= 1) rho(t) is V / sum Var, the ``tau`` of emcee and ArviZ.

    Raises
    ------
    ValueError
        Bad arguments. ConstantError: nothing varies. ModelTooLargeError: the observables do not fit into memory.

    Examples
    --------
    A product of two of four free spins is met by half of the steps, each of which makes it forget.

    >>> import thermokernels as tk
    >>> tk.autocorrelation_function(tk.gibbs_chain([[0.0, 0.0], [0.0, 0.0]]), 3)
    array([1.   , 0.5  , 0.25 , 0.125])
    """
    chain, n_lags = as_chain(chain), arguments.as_count(n_lags, "n_lags", least=0)
    memory.require(8 * n_lags, f"n_lags = {n_lags} correlations", "ask for fewer lags")
    memory.require(32 * chain.n_states * chain.weights.size, f"{chain.weights.size} observables", "use a smaller model")
    functions = centred_products(chain)
    later = functions
    covariances: Floats = np.empty(n_lags + 1)
    for lag in range(n_lags + 1):
        if lag:
            later = chain.apply(later)
        covariances[lag] = chain.law @ np.einsum("xa,xa->x", functions, later)
    if not covariances[0] > 0.0:
        raise ConstantError("no observable v_i h_j varies under pi in float64, so that nothing is correlated; scale the couplings down")
    covariances /= covariances[0]
    return covariances
