"""Claim: every number is right to the digits that it is given with: against 50 and more digits of mpmath.

    python validation/accuracy.py [--models 1000] [--scales 1 2 5 10 20 40 60]

First small random models (up to five spins, with fields, ties and cold ones): the largest relative error of each quantity, methods chosen
automatically. Then three pairs of spins, coupled by 0.8 to 1 times the scale and with each other by up to 0.5: what is left of T_O, its
gradient, the gap and hitting times as couplings grow, as ``true error / bound``, relative. A dash: the method refuses. NumPy's dense solve
and deeptime stand beside them and are not judged: they carry no bound.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator

import mpmath as mp
import numpy as np
from certified.exact import Exact, exactly
from claims import Row, conclude
from precise import Precise

import adjoints
import thermokernels as tk
from adjoints import bounds
from thermokernels.quantities import first_passage, spectral_gap
from thermokernels.quantities.variance_time import variance_time
from thermokernels.solvers.solve import Solve

Model = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]

# Largest relative error: T_O is computed to 1e-10 or better, gaps to 1e-9 of a gap above 1e-3, hitting times are certified to 1e-8.
GATES = {
    "T_O": 1e-10,
    "Q": 1e-9,
    "KL": 1e-10,
    "gap": 1e-9,
    "weight of the spectrum": 1e-10,
    "variance of a window of 12": 1e-9,
    "hitting times": 1e-8,
    "mean first passage": 1e-8,
    "conductance": 1e-10,
    "relevance": 1e-10,
}


def small_model(number: int) -> Model:
    """Couplings of all sizes from 0.1 to 3; every third model has fields, every fifth ties."""
    draws = np.random.default_rng([6, number])
    shape = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (2, 3), (3, 2)][int(draws.choice(7, p=[0.2, 0.2, 0.2, 0.25, 0.1, 0.025, 0.025]))]
    W = float(np.exp(draws.uniform(np.log(0.1), np.log(3)))) * draws.normal(size=shape)
    if number % 5 == 0:
        W = np.round(W)
    if number % 3:
        return W, None, None
    return W, 0.5 * draws.normal(size=shape[0]), 0.5 * draws.normal(size=shape[1])


def errors(given: Model, draws: np.random.Generator) -> Iterator[tuple[str, float]]:
    """(quantity, relative error); absolute for what is a share of one."""
    W, b, c = given
    exact = Precise(W.tolist(), *(None if part is None else part.tolist() for part in (b, c)))
    p_data = draws.dirichlet(np.ones(2 ** len(W)))
    chain = tk.gibbs_chain(W, b, c, quotient=False)

    def of(value: float, truth: mp.mpf) -> float:
        return float(abs(mp.mpf(float(value)) / truth - 1))

    if any(f != exact.f[0][0] for row in exact.f for f in row):
        yield "T_O", of(tk.observable_variance_time(tk.gibbs_chain(W, b, c)), exact.variance_time())
    q, truth = tk.q_struct(W, p_data, window=30, b=b, c=c), exact.q(p_data, 30)
    if q.signal_bound < 1e-12 * q.signal:  # else g is rounding, and says so
        yield "Q", of(q.value, truth)
    divergence = exact.divergence(p_data)
    if divergence > 1e-4:
        yield "KL", of(tk.kl_divergence(p_data, W, b, c), divergence)
    values, weights = exact.spectrum()
    if 1 - values[0] > 1e-3:
        yield "gap", of(tk.spectral_gap(chain), 1 - values[0])
    measure = tk.spectral_measure(chain)
    yield "weight of the spectrum", of(measure.weights.sum(), mp.fsum(weights))
    shares = [mp.mpf(1), *(2 * (1 - mp.mpf(t) / 12) for t in range(1, 12))]
    window = mp.fsum(w * mp.fsum(share * s**t for t, share in enumerate(shares)) for s, w in zip(values, weights, strict=True)) / 12
    yield "variance of a window of 12", of(tk.window_variance(measure, 12), window)
    target = np.zeros(chain.n_states, dtype=bool)
    target[draws.permutation(chain.n_states)[: draws.integers(1, chain.n_states)]] = True
    times = exact.hitting_times(np.flatnonzero(target).tolist())
    start = np.flatnonzero(~target)
    yield "hitting times", max(of(found, times[x]) for x, found in zip(start, tk.hitting_times(chain, target)[start], strict=True))
    mean = mp.fsum(exact.law[x] * times[x] for x in start) / mp.fsum(exact.law[x] for x in start)
    yield "mean first passage", of(tk.mean_first_passage(chain, ~target, target), mean)
    yield "conductance", of(tk.conductance(chain, target), exact.conductance(target))
    if np.linalg.cond(W) < 1e3 or min(W.shape) == 1:
        yield "relevance", float(abs(tk.relevance(chain, target) - exact.relevance(target)))


def of_small_models(models: int) -> list[Row]:
    worst: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    with mp.workdps(50):
        for number in range(models):
            for name, error in errors(small_model(number), np.random.default_rng([7, number])):
                worst[name], counts[name] = max(worst[name], error), counts[name] + 1
    return [
        Row(
            name,
            f"{counts[name]} models, largest relative error {worst[name]:.1e}, gate {gate:g}",
            counts[name] > 0 and worst[name] <= gate,
        )
        for name, gate in GATES.items()
    ]


# Couplings that grow.

Found = tuple[float, float | None]


def couplings(scale: float) -> np.ndarray:
    draws = np.random.default_rng(0)
    return np.clip(scale * np.diag([0.8, 0.9, 1.0]) + draws.uniform(-0.5, 0.5, (3, 3)), -60, 60)


def naive_variance_time(chain: tk.GibbsChain) -> Found:
    """A dense solve with I - P + 1 pi'."""
    spins = chain.spins().astype(float)
    products = (spins[:, :3, None] * spins[:, None, 3:]).reshape(chain.n_states, -1)
    centred = products - chain.law @ products
    responses = np.linalg.solve(np.eye(chain.n_states) - chain.transition_matrix() + chain.law, centred)
    return float(np.einsum("x,xa,xa->", chain.law, centred, responses)), None


def naive_times(chain: tk.GibbsChain, target: int) -> Found:
    """A dense solve with I - P off the target: the longest time."""
    free = np.arange(chain.n_states) != target
    matrix = (np.eye(chain.n_states) - chain.transition_matrix())[np.ix_(free, free)]
    return float(np.linalg.solve(matrix, np.ones(free.sum())).max()), None


def deeptime_times(chain: tk.GibbsChain, target: int) -> Found:
    from deeptime.markov.tools.analysis import mfpt

    return float(np.max(mfpt(chain.transition_matrix(), target))), None


def exact_gap(chain: tk.GibbsChain, model: Exact) -> mp.mpf:
    """By bisection on the number of eigenvalues below, from the interval of the certificate."""
    start = spectral_gap.solve_spectral_gap(chain)
    low, high = mp.mpf(start.value - start.bound), mp.mpf(start.value + start.bound)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if model.modes_below(middle) == 1 else (low, middle)
    return low


def judged(name: str, compute: Callable[[], Found], exact: mp.mpf) -> Row:
    """True relative error / relative bound."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value, bound = compute()
    except (tk.NumericalError, np.linalg.LinAlgError, ValueError):
        return Row(name, "-", None)
    except ImportError:
        return Row(name, "not installed", None)
    if not np.isfinite(value):
        return Row(name, "not finite", None if "numpy" in name or "deeptime" in name else False)
    error = abs(mp.mpf(value) / exact - 1)
    if bound is None:
        return Row(name, f"{float(error):.0e}", None)
    return Row(name, f"{float(error):.0e} / {float(mp.mpf(bound) / exact):.0e}", bool(error <= mp.mpf(bound) / exact))


def gradient_row(name: str, W: np.ndarray, method: str, exact: list[list[mp.mpf]]) -> Row:
    """The largest error of an entry of dT_O / dW and its bound, relative to the largest entry."""
    try:
        time = variance_time(tk.gibbs_chain(W), Solve(method))
        _, gradient = adjoints.observable_variance_time(W, method=method)
        bound = bounds.variance_time_gradient_bound(time, gradient)
    except tk.NumericalError:
        return Row(name, "-", None)
    size = max(abs(e) for row in exact for e in row)
    error = max(abs(mp.mpf(float(v)) - e) for row, line in zip(gradient, exact, strict=True) for v, e in zip(row, line, strict=True))
    return Row(name, f"{float(error / size):.0e} / {float(bound / size):.0e}", bool(error <= bound))


def of_scale(scale: float) -> list[Row]:
    W = couplings(scale)
    chain, model = tk.gibbs_chain(W), exactly(W)
    t_obs, gradient = model.variance_time(), model.variance_time_gradient()
    target = int(chain.energy.argmin())
    longest = max(model.hitting_times(np.arange(chain.n_states) == target))
    slowest = exact_gap(chain, model)

    def of_time(method: str) -> Found:
        time = variance_time(chain, Solve(method))
        return time.value, time.bound

    def of_passage(method: str) -> Found:
        hitting = first_passage.solve_hitting_times(chain, [target], method)
        return float(hitting.times.max()), float(hitting.bound.max())

    def of_gap() -> Found:
        found = spectral_gap.solve_spectral_gap(chain)
        return found.value, found.bound

    head = f"couplings {scale:g}, gap {float(slowest):.1e}: "
    rows = [judged(f"{head}T_O, numpy", lambda: naive_variance_time(chain), t_obs)]
    rows += [judged(f"{head}T_O, {method}", lambda m=method: of_time(m), t_obs) for method in ("cholesky", "cg", "reduction", "auto")]
    rows += [gradient_row(f"{head}dT_O, {method}", W, method, gradient) for method in ("cholesky", "cg", "reduction", "auto")]
    rows.append(judged(f"{head}passage, numpy", lambda: naive_times(chain, target), longest))
    rows.append(judged(f"{head}passage, deeptime", lambda: deeptime_times(chain, target), longest))
    rows += [judged(f"{head}passage, {method}", lambda m=method: of_passage(m), longest) for method in ("symmetrised", "reduction", "auto")]
    rows.append(judged(f"{head}gap", of_gap, slowest))
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--scales", type=float, nargs="*", default=[1, 2, 5, 10, 20, 40, 60])
    options = parser.parse_args(arguments)
    return conclude([*of_small_models(options.models), *(row for scale in options.scales for row in of_scale(scale))])


if __name__ == "__main__":
    sys.exit(main())
