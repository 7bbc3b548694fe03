"""What the usual estimators make of a trace, beside the exact autocorrelation time of the very series that was recorded.

tau = 1 + 2 sum_(t > 0) rho(t), the convention of emcee and ArviZ. A trace that records every k-th step is a series of the chain P^k: its
exact time counts records, and k times as many steps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import thermokernels as tk
from thermokernels.common import arguments
from thermokernels.common.arrays import Floats
from thermokernels.model.chain import GibbsChain, energy_error
from thermokernels.model.model import ModelLike
from thermokernels.quantities.autocorrelation import autocorrelation_times

KERNELS = ("single-site", "two-block")  # others: exact times of records of both layers are made for these two
ESTIMATORS = {"emcee": "emcee", "ArviZ": "arviz_stats"}

# Basins below this share of the probability are not asked for: a trace may well miss them.
LEAST_MASS = 0.004

# The rules by which users trust the estimators: 50 autocorrelation times (emcee's documentation), R-hat at most 1.01 (Vehtari et al. 2021).
LONG_RUN = 50
SMALL_RHAT = 1.01

# Records are summed over this many autocorrelation times (Sokal's window, emcee's default), which sets the statistical error.
SOKAL_WINDOW = 5
# Agreement is asked for within so many standard errors, of an estimate that is at least this good; else within this factor.
DEVIATIONS = 3.0
LARGEST_ERROR = 0.2
LUCK = 1.5
# Parts of the trace whose estimates show how much they scatter.
PARTS = 8
# Steps for which an exact autocorrelation function is followed.
MAX_STEPS = 100_000


@dataclass(frozen=True)
class Estimate:
    """One estimator's time of one observable.

    Attributes
    ----------
    estimator : "emcee" or "ArviZ"
    steps : its tau in steps, None where it has none
    factor : estimate / exact, or None
    verdict : the comparison in words
    """

    estimator: str
    steps: float | None
    factor: float | None
    verdict: str


@dataclass(frozen=True)
class Row:
    """One observable of the trace.

    Attributes
    ----------
    observable : its name
    exact_steps, exact_error_steps : tau of the recorded series and a bound on its error, in steps
    exact_records : the same time in records
    length : records of one chain, in exact autocorrelation times
    r_hat : ArviZ's rank-normalised split R-hat, None where it has none
    looks_healthy : whether the usual rules pass: each estimate is at most a 50th of a chain, R-hat is at most 1.01; None without estimates
    estimates : of the estimators that are installed
    """

    observable: str
    exact_steps: float
    exact_error_steps: float
    exact_records: float
    length: float
    r_hat: float | None
    looks_healthy: bool | None
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True)
class Comparison:
    """Made by :func:`compare`.

    Attributes
    ----------
    n_chains, n_records : shape of the trace
    kernel, every_steps, steps_per_sweep : how it was made
    rows : one an observable
    visited_mass : the probability of the states that the trace met, None where it does not hold all spins
    missing : packages of estimators that are not installed
    """

    n_chains: int
    n_records: int
    kernel: str
    every_steps: int
    steps_per_sweep: int
    rows: tuple[Row, ...]
    visited_mass: float | None
    missing: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON, times in steps."""
        return {"convention": "tau = 1 + 2 sum_(t > 0) rho(t)", **asdict(self)}


@dataclass(frozen=True)
class _Observable:
    name: str
    odd: bool  # under x -> -x
    needs_hidden: bool
    of: Callable[[NDArray[Any], NDArray[Any]], Floats]  # visible (..., n_v) and hidden (..., n_h) spins -> (...)


def compare(
    trace: ArrayLike,
    W: ModelLike,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    *,
    observables: Sequence[str] | None = None,
    kernel: str = "single-site",
    every: int = 1,
    every_steps: int | None = None,
) -> Comparison:
    """emcee's and ArviZ's autocorrelation times of a trace beside the exact ones.

    Parameters
    ----------
    trace : (n_chains, n_records, N) spins +1 and -1, visible ones first; (n_chains, n_records, n_v) visible spins alone; or a series
        (n_chains, n_records) or (n_records,) of the one observable that ``observables`` names
        Burn-in taken off. Of :func:`thermokernels.sample`: ``np.concatenate([s.visible, s.hidden], axis=2).swapaxes(0, 1)``.
    W : (n_v, n_h) or a Model; b : (n_v,); c : (n_h,), the model that the trace was drawn from
    observables : names
        "energy", "magnetisation", "visible-magnetisation", "slowest" (the v_i h_j with the longest exact time), or a product of spins such
        as "v0", "v0h2", "v0v1"; by default energy, magnetisation and slowest, of visible spins alone their magnetisation.
    kernel : "single-site" (random-scan, N steps a sweep) or "two-block" (random-scan, two steps a sweep)
    every : sweeps between records; every_steps : the same in steps, and then it counts

    Raises
    ------
    ValueError
        A trace that does not fit the model, unknown names, a constant observable; ModelTooLargeError: more states than memory.
    NotConvergedError, UnresolvedError
        The model is too close to frozen for an exact time in float64.

    Examples
    --------
    >>> import thermokernels as tk
    >>> W = [[0.5, -0.2], [0.1, 0.3]]
    >>> s = tk.sample(W, n_chains=4, n_sweeps=1000, burn_in=100, kernel="single-site", seed=0)
    >>> trace = np.concatenate([s.visible, s.hidden], axis=2).swapaxes(0, 1)
    >>> (row,) = compare(trace, W, observables=["v0h0"]).rows
    >>> f"{row.exact_steps:.3f} steps, {row.length:.0f} of them a chain"
    '4.617 steps, 866 of them a chain'
    """
    kernel = arguments.as_choice(kernel, KERNELS, "kernel")
    chain = tk.gibbs_chain(W, b, c, kernel=kernel)
    steps_per_sweep = chain.steps_per_sweep
    stride = arguments.as_count(every, "every") * steps_per_sweep if every_steps is None else arguments.as_count(every_steps, "every_steps")
    array, names = _as_trace(trace, chain, observables)
    chains = {False: chain, True: tk.gibbs_chain(chain.model, quotient=False, kernel=kernel) if chain.quotient else chain}

    spins = array.ndim == 3
    whole = spins and array.shape[2] == chain.n_spins
    rows = []
    for name in names:
        observable = _slowest(chain, stride) if name == "slowest" else _observable(name, chain)
        if spins and observable.needs_hidden and not whole:
            raise ValueError(f"observables must be functions of the visible spins, the trace holds no others; got {name!r}")
        of = chains[observable.odd]
        series = observable.of(*np.split(array, [chain.n_visible], axis=2)) if spins else array
        rows.append(_row(observable, of, series, stride, _stuck(of, array) if whole else False))
    visited = float(chain.law[np.unique(_states(chain, array))].sum()) if whole else None
    missing = tuple(package for package in ESTIMATORS.values() if find_spec(package) is None)
    return Comparison(array.shape[0], array.shape[1], kernel, stride, steps_per_sweep, tuple(rows), visited, missing)


def _as_trace(trace: ArrayLike, chain: GibbsChain, observables: Sequence[str] | None) -> tuple[NDArray[Any], list[str]]:
    """The trace as spins (n_chains, n_records, N or n_v) or as a series (n_chains, n_records), and the names of what to look at."""
    try:
        array = np.asarray(trace)
    except ValueError:
        raise ValueError("trace must be an array of numbers; got rows of different lengths") from None
    if array.dtype.kind not in "fiu":
        raise ValueError(f"trace must be an array of numbers (of 0/1 or bool spins, 2 * x - 1); got dtype {array.dtype}")
    names = None if observables is None else [observables] if isinstance(observables, str) else list(observables)
    if names == []:
        raise ValueError("observables must name at least one observable; got none")
    if array.ndim == 1:
        array = array[None]
    if array.ndim not in (2, 3) or array.shape[0] < 1 or array.shape[1] < 4:
        raise ValueError(
            "trace must have shape (n_chains, n_records, n_spins) or, a series, (n_chains, n_records), with at least four records; "
            f"got shape {array.shape}"
        )
    if array.ndim == 2:
        if names is None or len(names) != 1 or names == ["slowest"]:
            raise ValueError(
                f"observables (--observable) must name the one observable whose series the trace of shape {array.shape} is, "
                "such as energy, magnetisation or v0h2; a trace of spins has shape (n_chains, n_records, n_spins)"
            )
        if not np.isfinite(array).all():
            raise ValueError("trace must be finite; it holds NaN or infinite entries")
        return array.astype(np.float64), names
    if array.shape[2] not in (chain.n_spins, chain.n_visible):
        raise ValueError(
            f"trace must have {chain.n_spins} spins a record, or the {chain.n_visible} visible ones, as W says; got shape {array.shape}"
        )
    if not (np.abs(array) == 1).all():
        raise ValueError("trace must hold spins +1 and -1 (of units 0 and 1, 2 * x - 1)")
    default = ["energy", "magnetisation", "slowest"] if array.shape[2] == chain.n_spins else ["visible-magnetisation"]
    return array.astype(np.int8), default if names is None else names


def _observable(name: str, chain: GibbsChain) -> _Observable:
    if name == "energy":
        W, b, c = chain.model
        return _Observable(name, False, True, lambda v, h: -((v @ W + c) * h).sum(axis=-1) - v @ b)
    if name == "magnetisation":
        return _Observable(name, True, True, lambda v, h: v.sum(axis=-1, dtype=np.float64) + h.sum(axis=-1, dtype=np.float64))
    if name == "visible-magnetisation":
        return _Observable(name, True, False, lambda v, h: v.sum(axis=-1, dtype=np.float64))
    factors = [(block, int(index)) for block, index in re.findall(r"([vh])(\d+)", name)]
    if not factors or "".join(f"{block}{index}" for block, index in factors) != name:
        raise ValueError(
            "observables must be energy, magnetisation, visible-magnetisation, slowest, or a product of spins such as v0, v0h2 or v0v1; "
            f"got {name!r}"
        )
    for block, index in factors:
        size = chain.n_visible if block == "v" else chain.n_hidden
        if index >= size:
            raise ValueError(f"observables must name spins of the model, {block}0 to {block}{size - 1}; got {name!r}")

    def product(v: NDArray[Any], h: NDArray[Any]) -> Floats:
        values: Floats = np.prod([(v if block == "v" else h)[..., index] for block, index in factors], axis=0, dtype=np.float64)
        return values

    return _Observable(name, len(factors) % 2 == 1, any(block == "h" for block, _ in factors), product)


def _values(observable: _Observable, chain: GibbsChain) -> Floats:
    """The observable on the states of the chain, (n_states,)."""
    return observable.of(*np.split(chain.spins(), [chain.n_visible], axis=1))


def _slowest(chain: GibbsChain, stride: int) -> _Observable:
    """The v_i h_j with the longest exact time, one hidden spin after the other to keep the arrays small."""
    visible, hidden = np.split(chain.spins(), [chain.n_visible], axis=1)
    times = np.stack(
        [autocorrelation_times(chain, (visible * hidden[:, [j]]).astype(float), every=stride)[0] for j in range(chain.n_hidden)]
    )
    j, i = np.unravel_index(int(np.nanargmax(times)), times.shape)
    return _observable(f"v{i}h{j}", chain)


def _states(chain: GibbsChain, spins: NDArray[Any]) -> NDArray[np.int64]:
    """State numbers of spins (..., N); on the quotient of the pair {x, -x}, whose number has its last spin at +1."""
    states: NDArray[np.int64] = (spins < 0) @ (np.int64(1) << np.arange(chain.n_spins, dtype=np.int64))
    return np.where(states >= chain.n_states, 2**chain.n_spins - 1 - states, states) if chain.quotient else states


def _stuck(chain: GibbsChain, spins: NDArray[Any]) -> bool:
    """Whether some division of the landscape into two basins that matter was crossed by none of the chains."""
    states = _states(chain, spins)
    for event in tk.merge_tree(chain).events:
        if min(event.dying_mass, event.surviving_mass) >= LEAST_MASS:
            sides = np.stack([event.dying[states].any(axis=1), event.surviving[states].any(axis=1)])
            if not sides.all(axis=0).any():
                return True
    return False


def _row(observable: _Observable, chain: GibbsChain, series: Floats, stride: int, stuck: bool) -> Row:
    function = _values(observable, chain)
    rounding = energy_error(chain) if observable.name == "energy" else 0.0
    times, errors, _ = autocorrelation_times(chain, function[:, None], every=stride, function_error=rounding)
    exact, error = float(times[0]), float(errors[0])
    installed = [name for name, package in ESTIMATORS.items() if find_spec(package)]
    constant = int((np.ptp(series, axis=1) == 0).sum())
    moves = constant < len(series)
    r_hat = _r_hat(series) if moves and "ArviZ" in installed else None
    estimates, values = [], []
    for name in installed:
        value = _ESTIMATE[name](series) if moves else None
        if value is None:
            estimates.append(Estimate(name, None, None, _no_estimate(constant, len(series))))
            continue
        values.append(value)
        verdict = _agreement(value / exact, max(_expected_error(exact, series.size), _scatter(_ESTIMATE[name], series)))
        if "times too" in verdict:
            verdict += f": {_cause(value, exact, chain, function, series, stride, stuck, r_hat)}"
        estimates.append(Estimate(name, value * stride, value / exact, verdict))
    healthy = None if not values else max(values) * LONG_RUN <= series.shape[1] and (r_hat is None or r_hat <= SMALL_RHAT)
    return Row(observable.name, exact * stride, error * stride, exact, series.shape[1] / exact, r_hat, healthy, tuple(estimates))


def _expected_error(exact: float, n_records: int) -> float:
    """Relative standard error sqrt(2 (2 M + 1) / n) of an estimate with a window of M records (Sokal 1997, eq. 3.19, Gaussian series)."""
    return math.sqrt(2 * (2 * SOKAL_WINDOW * exact + 1) / n_records)


def _scatter(estimate: Callable[[Floats], float | None], series: Floats) -> float:
    """Relative standard error of the estimate as the scatter over parts of the trace shows it: rare events are not Gaussian."""
    pieces = -(-PARTS // len(series))
    length = series.shape[1] // pieces
    parts = series[:, : pieces * length].reshape(-1, 1, length) if length >= 4 else series[:0, None]
    values = [value for part in parts if (value := estimate(part)) is not None]
    return float(np.std(values, ddof=1) / np.mean(values) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def _by_emcee(series: Floats) -> float | None:
    from emcee.autocorr import integrated_time

    if (np.ptp(series, axis=1) == 0).any():  # it would divide by the variance of each chain
        return None
    return _finite(integrated_time(series.T, tol=0)[0])  # tol=0: whether the chain is long enough is our question


def _by_arviz(series: Floats) -> float | None:
    from arviz_stats.base import array_stats

    size = _finite(array_stats.ess(series, chain_axis=0, draw_axis=1, method="mean"))
    return None if size is None else series.size / size


_ESTIMATE: dict[str, Callable[[Floats], float | None]] = {"emcee": _by_emcee, "ArviZ": _by_arviz}


def _r_hat(series: Floats) -> float | None:
    from arviz_stats.base import array_stats

    with np.errstate(divide="ignore", invalid="ignore"):  # chains that stand still have no variance within
        return _finite(array_stats.rhat(series, chain_axis=0, draw_axis=1, method="rank"))


def _finite(number: Any) -> float | None:
    return float(number) if np.isfinite(number) and number > 0 else None


def _no_estimate(constant: int, n_chains: int) -> str:
    if constant == n_chains:
        return "no estimate: the observable never changed in the trace"
    return f"no estimate: the observable never changed in {constant} of {n_chains} chains" if constant else "no estimate: it is not finite"


def _agreement(factor: float, error: float) -> str:
    """The estimate beside the exact time, given its relative standard error."""
    if error <= LARGEST_ERROR and abs(factor - 1) <= DEVIATIONS * error:
        return f"agrees within the estimator's error ({error:.1%})"
    if error > LARGEST_ERROR and 1 / LUCK <= factor <= LUCK:
        return f"close, but by luck: from a trace of this length the estimate is uncertain by {error:.0%}"
    return f"{1 / factor:.3g} times too small" if factor < 1 else f"{factor:.3g} times too large"


def _cause(
    value: float, exact: float, chain: GibbsChain, function: Floats, series: Floats, stride: int, stuck: bool, r_hat: float | None
) -> str:
    """Why an estimate is off, from what is known exactly; the first reason that holds."""
    n_chains, n_records = series.shape
    if stuck:
        return "the trace never left the basin it started in" if n_chains == 1 else "no chain ever left the basin it started in"
    if n_records < LONG_RUN * exact:
        return f"a chain is only {n_records / exact:.3g} exact autocorrelation times long"
    windowed = _through_the_window(chain, function, stride, n_records)
    if windowed is not None and windowed < exact / 1.1 and abs(value / windowed - 1) <= DEVIATIONS * _expected_error(windowed, series.size):
        return "its window closes before the slow part of the autocorrelation begins, in a trace of any length"
    slow = n_records * stride * tk.solve_spectral_gap(chain, sharp=False).value
    if slow < LONG_RUN:
        return f"a chain is only {slow:.3g} relaxation times of the slowest mode long"
    if r_hat is not None and r_hat > SMALL_RHAT:
        return f"the chains disagree (R-hat {r_hat:.3g}), burn-in perhaps"
    return "more than chance: rare events of which the trace holds too few, or a trace of another model, kernel or spacing"


def _through_the_window(chain: GibbsChain, function: Floats, stride: int, n_records: int) -> float | None:
    """What Sokal's window makes of the exact autocorrelation: the sum up to the first record M >= 5 tau(M); None beyond MAX_STEPS."""
    centred = function - chain.law @ function
    variance, current, tau = float(chain.law @ centred**2), centred, 1.0
    for record in range(1, min(n_records, MAX_STEPS // stride)):
        for _ in range(stride):
            current = chain.apply(current)
        tau += 2 * float(chain.law @ (centred * current)) / variance
        if record >= SOKAL_WINDOW * tau:
            return tau
    return None
