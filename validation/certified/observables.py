"""T_O, V, Q, windows, the divergence, and the gradients of them: what is said of the observables of a model."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np
from certified.exact import Exact
from certified.ledger import Ledger

import adjoints
import thermokernels as tk
from adjoints import bounds
from thermokernels.model.laws import divergence_error
from thermokernels.quantities import asymptotic_variance
from thermokernels.quantities.autocorrelation_times import autocorrelation
from thermokernels.quantities.signal_to_noise import chain_q_struct, data_gradient, signal_error
from thermokernels.solvers.resolvent import solve_resolvent
from thermokernels.solvers.solve import Solve

# Of the value of a finite window.
WINDOW = 1e-10


def examine_variance_time(ledger: Ledger, case: int, chain: Any, model: Exact, p_data: Any) -> None:
    t_obs, signal, half_window = model.variance_time(), model.signal(p_data)[0], mp.mpf(50 * chain.steps_per_sweep)
    for method in ("auto", "cholesky", "reduction"):
        q = ledger.attempt(f"Q, {method}", lambda method=method: chain_q_struct(chain, p_data, solve=Solve(method)))
        bound = None if q is None else ledger.attempt(f"T_O bound, {method}", lambda q=q: q.t_obs_bound)
        if bound is None:
            continue
        ledger.enter(f"T_O, {method}", q.t_obs, t_obs, bound, case)
        seen = q.signal_bound < 0.5 * q.signal  # else there is nothing to learn, and the bound is all that is known
        ledger.enter(f"Q, {method}" if seen else "Q without a digit", q.value, half_window * signal / t_obs, q.bound, case)
        if method == "auto":
            ledger.enter("signal" if seen else "signal without a digit", q.signal, signal, q.signal_bound, case)
            limit, exact = asymptotic_variance.bound_of(q.variance_time), 2 * t_obs - model.variance()
            ledger.enter("V", asymptotic_variance.of_variance_time(q.variance_time), exact, limit, case)


def examine_alternating(ledger: Ledger, case: int, chain: Any, model: Exact, p_data: Any) -> None:
    """T_O and Q of the scan that is not reversible, by solves on one layer."""
    q = ledger.attempt("Q, auto", lambda: chain_q_struct(chain, p_data))
    if q is None:
        return
    t_obs, signal = model.variance_time(), model.signal(p_data)[0]
    ledger.enter("T_O, auto", q.t_obs, t_obs, q.t_obs_bound, case)
    seen = q.signal_bound < 0.5 * q.signal
    ledger.enter("Q, auto" if seen else "Q without a digit", q.value, mp.mpf(50) * signal / t_obs, q.bound, case)
    ledger.enter("V", q.asymptotic_variance, 2 * t_obs - model.variance(), asymptotic_variance.bound_of(q.variance_time), case)


def examine_windows(ledger: Ledger, case: int, chain: Any, model: Exact, p_data: Any) -> None:
    """Q of a window of two sweeps from pi, step by step: no proven bound, but ten digits beside those of the signal."""
    found = ledger.attempt("operational Q", lambda: tk.operational_q(chain, p_data, 2))
    if found is None:
        return
    K, sums, moved = found.window, found.window * model.variance(), model.centred
    for t in range(1, K):
        moved = model.step(moved)
        sums += (
            2
            * (K - t)
            * mp.fsum(p * f * g for p, *rows in zip(model.law, model.centred, moved, strict=True) for f, g in zip(*rows, strict=True))
        )
    g = data_gradient(chain.model, p_data)
    lost = signal_error(chain.model, g)
    if lost < 0.5 * found.signal:
        ledger.enter(
            "operational Q", found.value, model.signal(p_data)[0] * K**2 / sums, (lost / found.signal + WINDOW) * found.value, case
        )


def examine_divergence(ledger: Ledger, case: int, chain: Any, model: Exact, p_data: Any) -> None:
    n_visible = 1 << model.shape[0]
    law, total = [mp.fsum(model.all_law[v::n_visible]) for v in range(n_visible)], mp.fsum(mp.mpf(float(p)) for p in p_data)
    data = [mp.mpf(float(p)) / total for p in p_data]
    exact = mp.fsum(p * mp.log(p / q) for p, q in zip(data, law, strict=True) if p)
    W, b, c = chain.model
    ledger.enter("KL", tk.kl_divergence(p_data, W, b, c), exact, divergence_error(p_data, chain.model), case)


def examine_gradients(ledger: Ledger, case: int, weights: Any, chain: Any, model: Exact, p_data: Any) -> None:
    (W, b, c), half_window = weights, mp.mpf(50 * chain.steps_per_sweep)
    t_obs, t_gradient, (signal, signal_gradient) = model.variance_time(), model.variance_time_gradient(), model.signal(p_data)
    for method in ("auto", "cholesky", "reduction"):
        found = ledger.attempt(f"gradient, {method}", lambda method=method: adjoints.q_struct(W, p_data, method=method, b=b, c=c))
        if found is None:
            continue
        q, gradient = found
        of_time = ledger.attempt(f"gradient, {method}", lambda method=method: adjoints.observable_variance_time(W, b, c, method))
        limits = ledger.attempt(
            f"gradient bound, {method}",
            lambda q=q, gradient=gradient, of_time=of_time: (
                None if of_time is None else bounds.variance_time_gradient_bound(q.variance_time, of_time[1]),
                bounds.q_struct_gradient_bound(q, gradient, p_data),
            ),
        )
        if limits is None or limits[0] is None:
            continue
        ledger.enter_matrix(f"dT_O, {method}", of_time[1], t_gradient, limits[0], case)
        exact = [[half_window * (s / t_obs - signal * t / t_obs**2) for s, t in zip(*rows, strict=True)]
                 for rows in zip(signal_gradient, t_gradient, strict=True)]  # fmt: skip
        seen = q.signal_bound < 0.5 * q.signal
        ledger.enter_matrix(f"dQ, {method}" if seen else "dQ without a digit", gradient, exact, limits[1], case)


def examine_functions(ledger: Ledger, case: int, chain: Any, model: Exact, draws: np.random.Generator) -> None:
    """Autocorrelation times of random functions, and their resolvent state by state."""
    F = draws.normal(size=(chain.n_states, 2))
    centred = model.centre([[mp.mpf(float(f)) for f in row] for row in F])
    Y = model.resolvent(centred)
    for method in ("auto", "cholesky", "reduction"):
        response = ledger.attempt(f"resolvent, {method}", lambda method=method: solve_resolvent(chain, F, method))
        if response is not None:
            for x, a in np.ndindex(F.shape):
                ledger.enter(f"resolvent, {method}", response.values[x, a], Y[x][a], response.bound[x, a], case)
    found = ledger.attempt("tau", lambda: autocorrelation.autocorrelation_times(chain, F))
    if found is not None:
        for a in range(2):
            T = mp.fsum(p * f[a] * y[a] for p, f, y in zip(model.law, centred, Y, strict=True))
            variance = mp.fsum(p * f[a] ** 2 for p, f in zip(model.law, centred, strict=True))
            if np.isfinite(found[0][a]):
                ledger.enter("tau", found[0][a], 2 * T / variance - 1, float(found[1][a]), case)
