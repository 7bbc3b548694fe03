"""What the usual estimators make of a trace, beside the exact autocorrelation time of the very series that was recorded.

tau = 1 + 2 sum_(t > 0) rho(t), the convention of emcee and ArviZ. A trace that records every k-th step is a series of the chain P^k: its
exact time counts records, and k times as many steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from thermokernels.common import arguments, thresholds
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import ConstantError, NumericalError
from thermokernels.comparison import estimators
from thermokernels.comparison.result import FALSE_ALARMS, LUCK, Comparison, Estimate, Row
from thermokernels.comparison.trace import as_names, as_trace
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels.model.kernels.registry import KERNELS as ALL_KERNELS
from thermokernels.model.model import Model, ModelLike, as_model
from thermokernels.model.named_observables import Observable, observable
from thermokernels.model.rounding import energy_error
from thermokernels.quantities.autocorrelation_times.recorded_series import RecordedSeries, recorded_series
from thermokernels.quantities.landscape import merge_tree
from thermokernels.quantities.spectral_gap import solve_spectral_gap
from thermokernels.sampling.samples import Samples

KERNELS = tuple(name for name, kernel in ALL_KERNELS.items() if kernel.layer is None)

# Basins below this share of the probability are not asked for: a trace may well miss them.
LEAST_MASS = thresholds.MASS

# The rules by which users trust the estimators: 50 autocorrelation times (emcee's documentation), R-hat at most 1.01 (Vehtari et al. 2021).
LONG_RUN = 50
SMALL_RHAT = 1.01

# An estimate that is more uncertain than this tells nothing.
LARGEST_ERROR = 0.2


class _Recorded(NamedTuple):
    """What was said of the trace, and the states that it met."""

    model: Model
    kernel: str
    stride: int
    states: NDArray[np.int64] | None
    chance: float


@default_error_state
def compare(
    trace: ArrayLike | Samples,
    W: ModelLike,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    *,
    observables: Sequence[str] | None = None,
    kernel: str | None = None,
    every: int | None = None,
    every_steps: int | None = None,
    layout: str | None = None,
) -> Comparison:
    """emcee's and ArviZ's autocorrelation times of a trace beside the exact ones.

    Parameters
    ----------
    trace : (n_chains, n_records, N) spins +1 and -1, visible ones first; (n_chains, n_records, n_v) visible spins alone; or a series
        (n_chains, n_records) or (n_records,) of the one observable that ``observables`` names; or what :func:`thermokernels.sample` gives
        Burn-in taken off.
    W : (n_v, n_h); b : (n_v,); c : (n_h,), or a Model: what the trace was drawn from
    observables : names
        "energy", "magnetisation", "visible-magnetisation", "slowest" (the v_i h_j with the longest exact time), or a product of spins such
        as "v0", "v0h2", "v0v1"; by default energy, magnetisation and slowest, of visible spins alone their magnetisation.
    kernel : "single-site" (random-scan, N steps a sweep), "two-block" (random-scan, two steps a sweep), "alternating" (one step a sweep) or
        "symmetrised-alternating"; None for that of the samples or of the model, else "single-site"
    every : sweeps between records, 1 where nothing is said; every_steps : the same in steps, and then it counts
    layout : "chain-draw" (ArviZ's) or "draw-chain"; None asks where there are not four times more records than chains

    Raises
    ------
    ValueError
        A trace that does not fit the model, unknown names; ModelTooLargeError: more states than memory.

    Notes
    -----
    What cannot be had of one observable is said in its row, and the others go on.

    Examples
    --------
    >>> import thermokernels as tk
    >>> W = [[0.5, -0.2], [0.1, 0.3]]
    >>> s = tk.sample(W, n_chains=4, n_sweeps=1000, burn_in=100, kernel="single-site", seed=0)
    >>> (row,) = tk.compare(s, W, observables=["v0h0"]).rows
    >>> f"{row.exact_steps:.3f} steps, {row.length:.0f} of them a chain"
    '4.617 steps, 866 of them a chain'
    """
    model = as_model(W, b, c)
    if isinstance(trace, Samples):
        kernel = trace.kernel if kernel is None else kernel
        every = int(trace.sweeps[1] - trace.sweeps[0]) if every is None and trace.sweeps.size > 1 else every
        trace, layout = trace.trace(), "chain-draw"
    kernel = arguments.as_choice(kernel or model.kernel or "single-site", KERNELS, "kernel")
    steps_per_sweep = ALL_KERNELS[kernel].steps_per_sweep(model.n_spins)
    sweeps = 1 if every is None else arguments.as_count(every, "every")
    stride = sweeps * steps_per_sweep if every_steps is None else arguments.as_count(every_steps, "every_steps")
    array, names = as_trace(trace, model, as_names(observables), layout)

    spins = array.ndim == 3
    states = _states(array) if spins and array.shape[2] == model.n_spins else None
    looks = max(1, len(names) * len(estimators.installed()))
    recorded = _Recorded(model, kernel, stride, states, float(-scipy.special.ndtri(0.5 / FALSE_ALARMS / looks)))
    rows = []
    for name in names:
        try:
            looked_at = _slowest(recorded) if name == "slowest" else observable(name, model)
        except NumericalError as problem:
            rows.append(_without(name, problem))
            continue
        if spins and looked_at.of_hidden and states is None:
            raise ValueError(f"observables must be functions of the visible spins, the trace holds no others; got {name!r}")
        series = looked_at.of(*np.split(array, [model.n_visible], axis=2)) if spins else array
        rows.append(_row(looked_at, series, recorded))
    visited = None if states is None else float(gibbs_chain(model, quotient=False).law[np.unique(states)].sum())
    lengths, missing = (array.shape[0], array.shape[1]), estimators.missing()
    return Comparison(*lengths, kernel, stride, steps_per_sweep, tuple(rows), visited, missing, recorded.chance)


def _states(spins: NDArray[Any]) -> NDArray[np.int64]:
    """State numbers of spins (..., N) on the full chain."""
    states: NDArray[np.int64] = (spins < 0) @ (np.int64(1) << np.arange(spins.shape[-1], dtype=np.int64))
    return states


def _series(looked_at: Observable, model: Model, kernel: str, stride: int) -> tuple[GibbsChain, RecordedSeries]:
    chain = looked_at.chain(model, kernel)
    rounding = energy_error(chain) if looked_at.name == "energy" else 0.0
    return chain, recorded_series(chain, looked_at.values(chain), stride, rounding)


def _slowest(recorded: _Recorded) -> Observable:
    """The v_i h_j with the longest exact time."""
    times: dict[str, float] = {}
    for i, j in np.ndindex(recorded.model.W.shape):
        looked_at = observable(f"v{i}h{j}", recorded.model)
        try:
            times[looked_at.name] = _series(looked_at, recorded.model, recorded.kernel, recorded.stride)[1].tau
        except ConstantError:
            continue
    if not times:
        raise ConstantError("no v_i h_j varies under pi in float64")
    return observable(max(times, key=times.__getitem__), recorded.model)


def _stuck(looked_at: Observable, recorded: _Recorded) -> bool:
    """Whether some division of the landscape into two basins that matter was crossed by none of the chains."""
    if recorded.states is None:
        return False
    chain, states = gibbs_chain(recorded.model, quotient=False if looked_at.odd else None), recorded.states
    if chain.quotient:  # a pair has the number of the state whose last spin is +1
        states = np.where(states >= chain.n_states, 2 * chain.n_states - 1 - states, states)
    for event in merge_tree(chain).events:
        if min(event.dying_mass, event.surviving_mass) >= LEAST_MASS:
            sides = np.stack([event.dying[states].any(axis=1), event.surviving[states].any(axis=1)])
            if not sides.all(axis=0).any():
                return True
    return False


def _without(name: str, problem: Exception) -> Row:
    constant = isinstance(problem, ConstantError)
    reason = "constant in the model, so that nothing is correlated" if constant else f"no exact time: {problem}"
    return Row(name, None, None, None, None, reason, constant, None, None, ())


def _row(looked_at: Observable, series: Floats, recorded: _Recorded) -> Row:
    try:
        chain, exact = _series(looked_at, recorded.model, recorded.kernel, recorded.stride)
    except NumericalError as problem:
        return _without(looked_at.name, problem)
    there = estimators.installed()
    constant = int((np.ptp(series, axis=1) == 0).sum())
    moves = constant < len(series)
    r_hat = estimators.r_hat(series) if moves and "ArviZ" in there else None
    covariances = exact.autocovariances(series.shape[1])
    estimates, values = [], []
    for name, estimator in there.items():
        value = estimator.of(series) if moves else None
        if value is None:
            estimates.append(Estimate(name, None, None, None, None, None, None, _no_estimate(constant, len(series))))
            continue
        values.append(value)
        expected = estimator.average(covariances, len(series))
        error = estimators.relative_error(estimator, expected[1], series)
        deviation = _outside(value, expected) / error
        verdict = _verdict(value / exact.tau, expected[0] / exact.tau, expected[1] / exact.tau, error, deviation, recorded.chance)
        fits = None
        if "{cause}" in verdict:
            cause, fits = _cause(_Found(name, value, error, deviation), looked_at, chain, exact, series, recorded, r_hat)
            verdict = verdict.format(cause=cause)
        in_steps = expected[0] * recorded.stride, expected[1] * recorded.stride
        estimates.append(Estimate(name, value * recorded.stride, value / exact.tau, in_steps, error, deviation, fits, verdict))
    healthy = None if not values else max(values) * LONG_RUN <= series.shape[1] and (r_hat is None or r_hat <= SMALL_RHAT)
    in_steps = exact.tau * recorded.stride, exact.tau_error * recorded.stride
    return Row(looked_at.name, *in_steps, exact.tau, series.shape[1] / exact.tau, None, False, r_hat, healthy, tuple(estimates))


def _no_estimate(constant: int, n_chains: int) -> str:
    if constant == n_chains:
        return "no estimate: the observable never changed in the trace"
    return f"no estimate: the observable never changed in {constant} of {n_chains} chains" if constant else "no estimate: it is not finite"


def _outside(value: float, expected: tuple[float, float]) -> float:
    """log(value / expected), 0 within what is expected."""
    return max(0.0, math.log(value / expected[1])) + min(0.0, math.log(value / expected[0]))


def _verdict(factor: float, least: float, most: float, error: float, deviation: float, chance: float) -> str:
    """The estimate, given what it is on average and its standard error, all as shares of the exact time; with room for a cause."""
    off = f"{1 / factor:.3g} times too small" if factor < 1 else f"{factor:.3g} times too large"
    if abs(deviation) > chance:
        return f"{off}: {{cause}}"
    if error > LARGEST_ERROR:
        uncertain = f"from a trace of this length the estimate is uncertain by {error:.0%}"
        return f"close, but by luck: {uncertain}" if 1 / LUCK <= factor <= LUCK else f"{off}: {{cause}}"
    standing = f"{abs(deviation):.1f} standard errors of {error:.1%} from its average (by chance up to {chance:.1f})"
    bias = max(0.0, least - 1) + min(0.0, most - 1)
    if abs(bias) <= error:
        return f"agrees within the estimator's error: {factor - 1:+.1%}, {standing}"
    return f"{off}: {{cause}}, and its average in chains of this length is {least:.3g} to {most:.3g} of the exact time; it is {standing}"


class _Found(NamedTuple):
    """An estimate in records, its relative standard error, and how many of these it is outside of what is expected."""

    estimator: str
    value: float
    error: float
    deviation: float


def _cause(
    found: _Found, looked_at: Observable, chain: GibbsChain, exact: RecordedSeries, series: Floats, recorded: _Recorded, r_hat: float | None
) -> tuple[str, str | None]:
    """Why an estimate is off, from what is known exactly, the first reason that holds; and the kernel that would fit, if it is that."""
    n_chains, n_records = series.shape
    if _stuck(looked_at, recorded):
        return f"{'the trace never' if n_chains == 1 else 'no chain ever'} left the basin it started in", None
    surprising = abs(found.deviation) > recorded.chance
    if surprising and (fitting := _fitting_kernel(found, looked_at, series, recorded)):
        other, tau = fitting
        return (
            f"the {recorded.kernel} kernel that you named does not fit, the {other} kernel does: its exact time is {tau:.4g} records "
            f"(--kernel {other})"
        ), other
    if n_records < LONG_RUN * exact.tau:
        return f"a chain is only {n_records / exact.tau:.3g} exact autocorrelation times long", None
    if not surprising and found.value < exact.tau:
        return "its window closes before the slow part of the autocorrelation begins, in a trace of any length", None
    slow = n_records * recorded.stride * solve_spectral_gap(_reversible(chain), sharp=False).value
    if slow < LONG_RUN:
        return f"a chain is only {slow:.3g} relaxation times of the slowest mode long", None
    if r_hat is not None and r_hat > SMALL_RHAT:
        return f"the chains disagree (R-hat {r_hat:.3g}), burn-in perhaps", None
    return (
        f"more than chance: the {recorded.kernel} kernel that you named, the model or the spacing is not that of the trace, or it holds "
        "too few rare events"
    ), None


def _reversible(chain: GibbsChain) -> GibbsChain:
    """The chain whose gap is that of the records: of the alternating scan that of one layer."""
    layers = chain.dynamics.of_one_layer
    return gibbs_chain(chain.model, kernel=layers["visible"], quotient=chain.quotient) if layers else chain


def _fitting_kernel(found: _Found, looked_at: Observable, series: Floats, recorded: _Recorded) -> tuple[str, float] | None:
    """Another kernel with which the estimate would agree, at the same number of sweeps a record, and its exact time in records."""
    n_spins = recorded.model.n_spins
    sweeps, rest = divmod(recorded.stride, ALL_KERNELS[recorded.kernel].steps_per_sweep(n_spins))
    for other in KERNELS if not rest else ():
        if other == recorded.kernel:
            continue
        try:
            _, exact = _series(looked_at, recorded.model, other, sweeps * ALL_KERNELS[other].steps_per_sweep(n_spins))
        except (NumericalError, ValueError):
            continue
        expected = estimators.ESTIMATORS[found.estimator].average(exact.autocovariances(series.shape[1]), len(series))
        if abs(_outside(found.value, expected)) <= recorded.chance * found.error:
            return other, exact.tau
    return None
