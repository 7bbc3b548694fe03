"""Autocorrelation times of any functions of (v, h) in records of the alternating scan, one every so many sweeps.

The chain is not reversible: the times come from one layer, as T_O does (:mod:`thermokernels.quantities.alternating_scan`). Of a function
of v alone (h alone) this is the autocorrelation time in the reversible chain with kernel "alternating-visible" ("alternating-hidden"),
which needs no table on all states.
"""

from __future__ import annotations

import numpy as np

from thermokernels.common import tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import ConstantError
from thermokernels.common.tolerances import EPSILON
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels.quantities.alternating_scan import gap_of_records, solved
from thermokernels.quantities.scan_layers import Layers, Sources, square_error

# A variance is resolved from this many times its own rounding, to a relative 1e-10.
FLAT = 1e10


def alternating_autocorrelation_times(
    chain: GibbsChain, functions: Floats, every: int = 1, function_error: float = 0.0
) -> tuple[Floats, Floats, Floats]:
    """tau = 1 + 2 sum_(t > 0) rho(t) of the columns of ``functions`` (n_states, k), a bound on each error, and the variances.

    tau = 2 T / Var - 1 in records, one every ``every`` sweeps. ``function_error`` is how far every value may be from what is meant, delta:
    V = tau Var is a squared seminorm, that of a function below delta at most delta^2 (1 + 2 / gap), so that sqrt(V) moves by no more than
    the root of that, sqrt(Var) by delta.

    Parameters
    ----------
    chain : GibbsChain
        With kernel "alternating".
    functions : (n_states, k); every : sweeps between records

    Raises
    ------
    ConstantError
        No function varies under pi (of several, tau is NaN for those that do not).
    UnresolvedError, NotConvergedError
        The chain is too slow for float64.

    Examples
    --------
    The products v_i h_j of a trace of scikit-learn or thrml that keeps both layers:

    >>> import thermokernels as tk
    >>> chain = tk.gibbs_chain([[0.9, 0.3, -0.3], [0.4, -0.8, 0.6], [-0.2, 0.7, 0.9]], kernel="alternating", quotient=False)
    >>> spins = chain.spins().astype(float)
    >>> visible, products = spins[:, :3].sum(axis=1), spins[:, 0] * spins[:, 3]
    >>> times, errors, variances = alternating_autocorrelation_times(chain, np.stack([visible, products], axis=1))
    >>> times.round(6).tolist(), bool((errors < 1e-10).all())
    ([2.330036, 0.963986], True)
    """
    if chain.quotient and min(chain.n_visible, chain.n_hidden) == 1:  # its layer has no chain on pairs
        chain, functions = gibbs_chain(chain.model, quotient=False, kernel=chain.kernel), np.concatenate([functions, functions[::-1]])
    scales = np.abs(functions).max(axis=0)
    scales[scales == 0.0] = 1.0
    centred = functions / scales
    centred = centred - chain.law @ centred
    variances: Floats = chain.law @ centred**2
    varies = variances > FLAT * EPSILON**2
    if not varies.any():
        raise ConstantError("it does not vary under pi in float64")
    layers = Layers(chain.model, chain.quotient, every)
    near, far = _conditional_expectations(chain, layers, centred)
    times = solved(layers, Sources.of_both(layers, near, far, variances, square_error(layers)), tolerances.SOLVE)
    tau, errors = np.full((2, variances.size), np.nan)
    np.divide(2 * times.values, variances, out=tau, where=varies)
    np.divide(2 * times.bounds, variances, out=errors, where=varies)
    if function_error > 0.0:
        delta, gap = function_error / scales, gap_of_records(layers)
        of_series = np.sqrt(np.maximum((tau - 1) * variances, 0.0))
        moved = 1 + np.divide(delta * np.sqrt(1 + 2 / gap), of_series, out=np.full_like(tau, np.inf), where=of_series > 0.0)
        left = 1 - np.divide(delta, np.sqrt(variances), out=np.ones_like(tau), where=varies)
        with np.errstate(divide="ignore"):
            errors += np.where(left > 0.0, (moved / left) ** 2 - 1, np.inf) * np.abs(tau)
    return tau - 1, errors, variances * scales**2


def _conditional_expectations(chain: GibbsChain, layers: Layers, functions: Floats) -> tuple[Floats, Floats]:
    """E[f | x] and E[f | y] as rows of the near and of the far layer."""
    rows = np.ascontiguousarray(functions.T).reshape(-1, *chain.shape)
    visible_law, hidden_law = chain.conditional_laws
    on_hidden = np.einsum("hv,khv->kh", visible_law, rows)
    on_visible = np.einsum("hv,khv->kv", hidden_law, rows)
    if chain.quotient:
        on_visible = (on_visible + on_visible[:, ::-1])[:, : chain.shape[1] // 2]
    near, far = (on_hidden, on_visible) if layers.transposed else (on_visible, on_hidden)
    return layers.of_near(near), layers.of_far(far)
