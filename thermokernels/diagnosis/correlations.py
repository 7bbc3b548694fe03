"""Autocorrelation times of a diagnosis: of the energy, of the magnetisation and of the slowest observable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.common.errors import ConstantError, NumericalError, UnresolvedError
from thermokernels.common.tolerances import EPSILON
from thermokernels.diagnosis.resolved import none, number, reason_of
from thermokernels.diagnosis.result import Number
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels.model.rounding import energy_error, law_error
from thermokernels.quantities.autocorrelation_times.autocorrelation import FLAT, autocorrelation_times
from thermokernels.quantities.variance_time import VarianceTime, error_terms
from thermokernels.solvers.state_reduction import reduced_resolvent

CORRELATED = "residual and proven gap, or state reduction"


def full_chain(chain: GibbsChain) -> GibbsChain:
    """The same model with x and -x apart: what a sampler walks on."""
    return gibbs_chain(chain.model, kernel=chain.kernel, quotient=False) if chain.quotient else chain


def correlations(chain: GibbsChain, time: VarianceTime | Exception | None, gap_bound: Number) -> dict[str, Any]:
    """Autocorrelation times 1 + 2 sum rho in steps, and the variance of the gradient observables for their weighted mean."""

    def one(of: GibbsChain, function: Callable[[GibbsChain], Floats], error: float = 0.0) -> tuple[float, float, str]:
        bound = gap_bound.value if of is chain else None
        times, errors, _ = autocorrelation_times(of, function(of)[:, None], bound, function_error=error)
        return float(times[0]), float(errors[0]), CORRELATED

    def all_observables() -> tuple[Floats, Floats, Floats]:
        if isinstance(time, VarianceTime) and gap_bound.value is not None and not reduced_resolvent.applies_to(chain):
            return _observable_times(time, gap_bound.value)
        hidden, visible = chain.block_spins
        # One elimination serves all hidden spins; without one, a hidden spin at a time keeps the arrays small.
        size = chain.n_hidden if reduced_resolvent.applies_to(chain) else 1
        parts = []
        for first in range(0, chain.n_hidden, size):
            functions = np.einsum("hj,vi->hvji", hidden[:, first : first + size], visible).reshape(chain.n_states, -1)
            try:
                parts.append(autocorrelation_times(chain, functions, gap_bound.value))
            except ConstantError:
                nothing = np.full(functions.shape[1], np.nan)
                parts.append((nothing, nothing, np.zeros_like(nothing)))
        times, errors, variances = (np.concatenate(part).reshape(-1, chain.n_visible).T for part in zip(*parts, strict=True))
        edges = chain.model.edges.reshape(times.shape)
        times, variances = np.where(edges, times, np.nan), np.ascontiguousarray(chain.model.on_edges(variances))
        if not variances.any():
            raise ConstantError("no v_i h_j varies under pi in float64")
        return times, errors, variances

    slowest: tuple[int, int] | None = None
    variances: Floats | None = None
    try:
        times, errors, variances = all_observables()
        if not np.isfinite(times).any():
            raise UnresolvedError("it exceeds the range of float64")
        i, j = (int(k) for k in np.unravel_index(int(np.nanargmax(times)), times.shape))
        slowest = i, j
        tau_observable = number("steps", lambda: (float(times[i, j]), float(errors[i, j]), CORRELATED))
    except NumericalError as problem:
        tau_observable = none("steps", reason_of(problem))
    constant = float(np.ptp(chain.energy)) == 0.0
    return {
        "tau_energy": none("steps", "not defined: all states have the same energy")
        if constant
        else number("steps", lambda: one(chain, lambda of: of.energy, energy_error(chain))),
        "tau_observable": tau_observable,
        "slowest_observable": slowest,
        "tau_magnetisation": number("steps", lambda: one(full_chain(chain), _magnetisation)),
        "variances": variances,
    }


def _observable_times(time: VarianceTime, gap_bound: float) -> tuple[Floats, Floats, Floats]:
    """tau = 2 T / Var - 1 of every observable, its error and its variance, (n_v, n_h) each, from the sums that T_O has been added up from.

    T is within :func:`thermokernels.quantities.variance_time.error_terms`. Var = |b|^2 is right to the error of pi and the roundings of b
    and of its sum, and the square of the rounding of the mean: to a share of itself that tau + 1 shares.
    """
    chain, row_sums = time.chain, time.row_sums
    assert row_sums is not None  # chains that are reduced are smaller
    found = np.full((3, chain.weights.size), np.nan)
    sums, variances = row_sums.values, row_sums.arrays["sums"][:, 4]
    varies = variances > FLAT * EPSILON**2  # of products of spins
    if not varies.any():
        raise ConstantError("no v_i h_j varies under pi in float64")
    share = 2 * law_error(chain) + (row_sums.additions + 6) * EPSILON + EPSILON**2 / variances
    times = 2 * sums / variances
    errors = 2 * sum(error_terms(chain, row_sums, 1 / gap_bound)) / variances + share * times
    edges = chain.model.edges
    found[:2, edges], found[2, edges] = np.where(varies, (times - 1, errors), np.nan), variances
    times, errors, variances = found.reshape(3, *chain.weights.shape)
    return times, errors, chain.model.on_edges(variances)


def _magnetisation(chain: GibbsChain) -> Floats:
    hidden, visible = chain.block_spins
    total: Floats = (hidden.sum(axis=1)[:, None] + visible.sum(axis=1)[None, :]).ravel()
    return total
