"""What a sampler really delivers: the exact squared error of a gradient from a window of records that starts anywhere, and Q from it.

n chains start from a law nu, B records are thrown away and K averaged. With moments of the window sums S_a of f~_a = f_a - E_pi f_a
(:mod:`thermokernels.quantities.windows.window_moments`),

    E|ghat - g|^2 = sum_a bias_a^2 + (1/n) sum_a (E S_a^2 / K^2 - bias_a^2) + positive phase,   bias_a = E S_a / K,
    Q_op = |g|^2 / E|ghat - g|^2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import arguments
from thermokernels.common.arrays import Floats
from thermokernels.common.digits import certified
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import ConstantError, ModelTooLargeError, UnresolvedError
from thermokernels.common.results import UNPROVEN, Line, Result, html_table
from thermokernels.model.chain import GibbsChain, as_chain
from thermokernels.model.exchangeable import ExchangeableChain
from thermokernels.quantities.asymptotic_variance import total_variance
from thermokernels.quantities.exchangeable import exchangeable_sums, exchangeable_windows
from thermokernels.quantities.signal_to_noise import data_gradient
from thermokernels.quantities.spectral_measure import SpectralMeasure, spectral_measure
from thermokernels.quantities.variance_time import variance_time
from thermokernels.quantities.windows import window_moments
from thermokernels.quantities.windows.window_moments import Moments, WindowModes
from thermokernels.quantities.windows.window_variance import window_variance

METHODS = ("auto", "modes", "recursion")
STARTS = ("stationary", "uniform", "data")
HIDDEN = ("expected", "sampled")

# Multiply-adds of a recursion that is begun without being asked for by name: some hours.
MOST_WORK = 2**45

# Longer windows are no number of records that a double tells apart.
LONGEST = 2.0**53


@dataclass(frozen=True, repr=False)
class OperationalQ(Result):
    """Q_op of one window and what it is made of, each summed over the observables.

    Attributes
    ----------
    value : signal / error
    signal : |g|^2
    bias2 : |E ghat - g|^2, from the start
    variance : of the average over the window, of all chains together
    positive : variance of the positive phase; 0 where it is exact
    window, burn_in : K and B in records, one a step of the kernel
    """

    _lines = (
        Line("q_operational", "value"),
        Line("signal", "signal"),
        Line("error", "error"),
        Line("bias2", "bias2"),
        Line("variance", "variance"),
        Line("positive", "positive"),
    )
    _facts = (
        "window",
        "burn_in",
    )

    value: float
    signal: float
    bias2: float
    variance: float
    positive: float
    window: int
    burn_in: int

    @property
    def error(self) -> float:
        """E|ghat - g|^2."""
        return self.bias2 + self.variance + self.positive


@dataclass(frozen=True, eq=False, repr=False)
class OperationalCurve(Result):
    """Q_op over windows and burn-ins, with its two asymptotes.

    Attributes
    ----------
    windows (k,), burn_ins (l,) : in sweeps
    value, bias2, variance : (k, l)
    positive, signal : as in :class:`OperationalQ`
    q_struct, q_limit : (k,), K |g|^2 / (2 T_O) and K |g|^2 / V for all chains together, without bias and positive phase
    """

    _facts = (
        "windows",
        "burn_ins",
        "value",
        "bias2",
        "variance",
        "positive",
        "signal",
        "q_struct",
        "q_limit",
    )

    windows: Floats
    burn_ins: Floats
    value: Floats
    bias2: Floats
    variance: Floats
    positive: float
    signal: float
    q_struct: Floats
    q_limit: Floats

    def _columns(self) -> tuple[dict[str, Any], list[str]]:
        shape = self.value.shape
        columns: dict[str, Any] = {
            "window": np.repeat(self.windows, shape[1]),
            "burn_in": np.tile(self.burn_ins, shape[0]),
            **{name: getattr(self, name).ravel() for name in ("value", "bias2", "variance")},
            **{name: np.repeat(getattr(self, name), shape[1]) for name in ("q_struct", "q_limit")},
        }
        return columns, ["window", "burn_in"]

    def __repr__(self) -> str:
        ends = f"{self.windows.min():g} to {self.windows.max():g} sweeps"
        return f"OperationalCurve({len(self.windows)} windows of {ends}, {len(self.burn_ins)} burn-ins)"

    def _repr_html_(self) -> str:
        rows = [
            [
                f"{window:g}",
                f"{burn_in:g}",
                *(certified(number, None, UNPROVEN) for number in (self.value[i, j], self.q_struct[i], self.q_limit[i])),
            ]
            for i, window in enumerate(self.windows)
            for j, burn_in in enumerate(self.burn_ins)
        ]
        return html_table(("window (sweeps)", "burn-in", "Q exact", "K |g|^2 / (2 T_O)", "K |g|^2 / V"), rows)


@default_error_state
def operational_q(
    chain: GibbsChain | ExchangeableChain,
    p_data: ArrayLike,
    window: float,
    burn_in: float = 0,
    start: str | ArrayLike = "stationary",
    n_chains: int = 1,
    n_data: int | None = None,
    *,
    hidden: str = "expected",
    method: str = "auto",
) -> OperationalQ:
    """Q_op = |g|^2 / E|ghat - g|^2 of the gradient from a window of samples, exactly: for any start, burn-in and number of chains.

    Parameters
    ----------
    p_data : (2**n_v,) data law on the visible states; of an exchangeable chain, data as in :func:`exchangeable_q`
    window, burn_in : in sweeps; each a whole number of records, one a step of the kernel (N a sweep for single spins, one for the
        alternating scan)
    start : "stationary" (pi), "uniform", "data" (v from the data, h given v), or a law on the states
        The first record is the state after the burn-in. A law has shape (2**N,), or (n_states,) of the chain.
    n_chains : independent chains that are averaged
    n_data : None for the exact positive phase; else it is the mean over so many independent draws from the data
    hidden : "expected" or "sampled"
        Whether the positive phase takes E[h | v] or a sample of h with each draw.
    method : "auto", "modes" or "recursion"
        In the eigenbasis of the kernel, or step by step backwards over the window; "auto" takes what is less work. An exchangeable chain
        has no "modes": its stationary windows come from the spectral measure.

    Raises
    ------
    ValueError
        Bad arguments, or window and burn-in that are no whole number of records.
    ModelTooLargeError
        Arrays that do not fit, or a recursion of many hours: the message says what it would take.
    UnresolvedError
        The law of the chain underflows. ConstantError: nothing varies, so that there is no noise.

    Examples
    --------
    One product that every step renews: from any start, the first record after a step is as good as any.

    >>> import thermokernels as tk
    >>> q = tk.operational_q(tk.gibbs_chain([[0.0]]), [0.5, 0.5], window=2, burn_in=1, start="uniform")
    >>> round(q.variance, 12), q.bias2, q.window
    (0.25, 0.0, 4)
    """
    question = _question(chain, p_data, start, n_chains, n_data, hidden, method)
    records, waited = question.records(window, "window", 1), question.records(burn_in, "burn_in", 0)
    return question.answer(records, waited, question.modes([(records, waited)]))


@default_error_state
def operational_curve(
    chain: GibbsChain | ExchangeableChain,
    p_data: ArrayLike,
    windows: Sequence[float],
    burn_ins: Sequence[float] = (0.0,),
    start: str | ArrayLike = "stationary",
    n_chains: int = 1,
    n_data: int | None = None,
    *,
    hidden: str = "expected",
    method: str = "auto",
) -> OperationalCurve:
    """:func:`operational_q` at every pair of a window and a burn-in, with one decomposition of the kernel for all, and both asymptotes.

    Parameters
    ----------
    windows, burn_ins : in sweeps; the others as in :func:`operational_q`

    Raises
    ------
    ValueError, ModelTooLargeError, UnresolvedError
        As :func:`operational_q`; an empty list of windows or burn-ins.

    Examples
    --------
    >>> import thermokernels as tk
    >>> curve = tk.operational_curve(tk.gibbs_chain([[0.4], [0.1]]), [0.5, 0.2, 0.1, 0.2], windows=[1, 10, 100])
    >>> (curve.value[:, 0] / curve.q_limit).round(6)
    array([1.392062, 1.031323, 1.003046])
    """
    question = _question(chain, p_data, start, n_chains, n_data, hidden, method)
    for name, values in (("windows", windows), ("burn_ins", burn_ins)):
        if not (isinstance(values, list | tuple) or (isinstance(values, np.ndarray) and values.ndim == 1)) or not len(values):
            raise ValueError(f"{name} must be a list of at least one number of sweeps; got {arguments.in_brief(values)}")
    records = [question.records(value, "windows", 1) for value in windows]
    waits = [question.records(value, "burn_ins", 0) for value in burn_ins]
    modes = question.modes([(window, wait) for window in records for wait in waits])
    answers = [[question.answer(window, wait, modes) for wait in waits] for window in records]
    time, variance = question.long_windows(modes)
    table = {name: np.array([[getattr(one, name) for one in row] for row in answers]) for name in ("value", "bias2", "variance")}
    steps = n_chains * np.array(records, dtype=np.float64)
    return OperationalCurve(
        windows=np.array(windows, dtype=np.float64),
        burn_ins=np.array(burn_ins, dtype=np.float64),
        positive=question.positive,
        signal=question.signal,
        q_struct=steps * question.signal / (2 * time),
        q_limit=steps * question.signal / variance,
        **table,
    )


class _Question:
    """What is asked of a chain, checked once."""

    def __init__(
        self,
        chain: GibbsChain,
        p_data: ArrayLike,
        start: str | ArrayLike,
        n_chains: int,
        n_data: int | None,
        hidden: str,
        method: str,
    ) -> None:
        self.chain = chain = as_chain(chain)
        chain.require_both_layers("Q_op of v_i h_j")
        data = arguments.as_law(p_data, 2**chain.n_visible)
        self.stationary = isinstance(start, str) and start == "stationary"
        self.start = start_law(chain, data, start)
        self.n_chains = arguments.as_count(n_chains, "n_chains")
        self.method = arguments.as_choice(method, METHODS, "method")
        g = data_gradient(chain.model, data)
        self.signal = float(np.einsum("ij,ij->", g, g))
        arguments.as_choice(hidden, HIDDEN, "hidden")
        self.positive = 0.0 if n_data is None else positive_phase(chain, data, hidden) / arguments.as_count(n_data, "n_data")

    def records(self, sweeps: float, name: str, least: int) -> int:
        return as_records(sweeps, self.chain.steps_per_sweep, self.chain.kernel, name, least)

    def modes(self, windows: Sequence[tuple[int, int]]) -> WindowModes | None:
        """The decomposition where it is asked for or less work than recursions over these (window, burn-in), else None."""
        n_memories = window_moments.n_memories(self.chain)
        fits = n_memories <= window_moments.MOST_MEMORIES
        if self.method == "modes" and not fits:
            raise ModelTooLargeError(
                f"method='modes' decomposes the kernel on up to {window_moments.MOST_MEMORIES} memories; this chain has {n_memories}: "
                "use method='recursion', or the stationary start"
            )
        work = sum(
            (window + wait) * self.chain.n_states * (self.chain.weights.size + 1) * (self.chain.n_spins + 8) for window, wait in windows
        )
        if self.method == "modes" or (self.method == "auto" and fits and 16 * n_memories**3 < work):
            return WindowModes(self.chain)
        if self.method == "auto" and work > MOST_WORK and not self._by_measure():
            raise ModelTooLargeError(
                f"a recursion over {windows[0][0]} records of {self.chain.n_states} states would take {work:.2g} multiply-adds; use "
                "method='recursion' to have it done all the same, shorter windows, or the stationary start"
            )
        return None

    def _by_measure(self) -> bool:
        """Whether the spectral measure answers: a long stationary window of a chain that is too large to decompose."""
        return self.stationary and self.chain.reversible and self.method == "auto"

    def answer(self, window: int, burn_in: int, modes: WindowModes | None) -> OperationalQ:
        if modes is None and self._by_measure():
            moments = Moments(np.zeros(1), window_variance(spectral_measure(self.chain), window) * float(window) ** 2)
        elif modes is None:
            moments = window_moments.by_recursion(self.chain, self.start, window, 0 if self.stationary else burn_in)
        else:
            moments = modes.moments(self.start, window, burn_in)
        return _assembled(self.signal, moments, self.stationary, self.n_chains, self.positive, window, burn_in)

    def long_windows(self, modes: WindowModes | None) -> tuple[float, float]:
        """T_O and V in steps."""
        if modes is not None:
            return modes.variance_time, 2 * modes.variance_time - modes.variance
        time = variance_time(self.chain).value
        return time, 2 * time - total_variance(self.chain)[0]


class _ClassQuestion:
    """The same of an exchangeable chain: stationary windows from the spectral measure, others by recursion."""

    def __init__(
        self,
        chain: ExchangeableChain,
        data: ArrayLike,
        start: str | ArrayLike,
        n_chains: int,
        n_data: int | None,
        hidden: str,
        method: str,
    ) -> None:
        self.chain = chain
        counts = exchangeable_sums.data_counts(chain, data)
        self.stationary = isinstance(start, str) and start == "stationary"
        if isinstance(start, str):
            self.start = exchangeable_windows.start_law(chain, counts, arguments.as_choice(start, STARTS, "start"))
        else:
            self.start = arguments.as_law(start, chain.n_states, "start")
        self.n_chains = arguments.as_count(n_chains, "n_chains")
        if arguments.as_choice(method, METHODS, "method") == "modes":
            raise ValueError("method='modes' needs every state of a chain: of an exchangeable one use 'auto' or 'recursion'")
        self.by_measure = self.stationary and method == "auto"
        self.signal = float((chain.pair_sizes * exchangeable_sums.data_gradient(chain, counts) ** 2).sum())
        positive = exchangeable_windows.positive_phase(chain, counts, arguments.as_choice(hidden, HIDDEN, "hidden"))
        self.positive = 0.0 if n_data is None else positive / arguments.as_count(n_data, "n_data")

    def records(self, sweeps: float, name: str, least: int) -> int:
        return as_records(sweeps, self.chain.n_spins, "single-site", name, least)

    def modes(self, windows: Sequence[tuple[int, int]]) -> None:
        """There are none; recursions of many hours are refused."""
        if not self.by_measure:
            exchangeable_windows.require_time(self.chain, sum(window + wait for window, wait in windows))

    @cached_property
    def measure(self) -> SpectralMeasure:
        return spectral_measure(self.chain)

    def answer(self, window: int, burn_in: int, modes: WindowModes | None) -> OperationalQ:
        if self.by_measure:
            moments = Moments(np.zeros(1), window_variance(self.measure, window) * float(window) ** 2)
        else:
            moments = exchangeable_windows.by_recursion(self.chain, self.start, window, 0 if self.stationary else burn_in)
        return _assembled(self.signal, moments, self.stationary, self.n_chains, self.positive, window, burn_in)

    def long_windows(self, modes: WindowModes | None) -> tuple[float, float]:
        """T_O and V in steps."""
        time = exchangeable_sums.variance_time(self.chain)
        return time.value, time.asymptotic_variance


def _question(
    chain: GibbsChain | ExchangeableChain,
    data: ArrayLike,
    start: str | ArrayLike,
    n_chains: int,
    n_data: int | None,
    hidden: str,
    method: str,
) -> _Question | _ClassQuestion:
    how = data, start, n_chains, n_data, hidden, method
    return _ClassQuestion(chain, *how) if isinstance(chain, ExchangeableChain) else _Question(chain, *how)


def as_records(sweeps: float, per_sweep: int, kernel: str, name: str, least: int) -> int:
    """Sweeps as a whole number of records."""
    zero = least == 0 and not isinstance(sweeps, bool) and isinstance(sweeps, (int, float, np.integer, np.floating)) and sweeps == 0
    exact = 0.0 if zero else arguments.as_positive(sweeps, name, "sweeps" if least else "sweeps, or 0") * per_sweep
    if not exact < LONGEST:
        raise ValueError(f"{name} must be shorter than {LONGEST:g} records; got {sweeps!r} sweeps")
    records = round(exact)
    if records < least or abs(exact - records) > 1e-9 * max(1.0, exact):
        raise ValueError(
            f"{name} must be a whole number of records, {per_sweep} a sweep of the {kernel} kernel; {sweeps!r} sweeps are {exact:g}: use "
            f"{max(records, 1) / per_sweep!r}"
        )
    return records


def _assembled(
    signal: float, moments: Moments, stationary: bool, n_chains: int, positive: float, window: int, burn_in: int
) -> OperationalQ:
    mean = np.zeros(1) if stationary else moments.first / window
    bias2 = float(mean @ mean)
    variance = max(moments.second / float(window) ** 2 - bias2, 0.0) / n_chains  # no less than nothing, but for rounding
    error = bias2 + variance + positive
    if not error > 0.0:
        raise ConstantError("no observable v_i h_j varies over this window in float64, so that there is no noise and no Q")
    value = signal / error
    if not math.isfinite(value):
        raise UnresolvedError(f"Q overflows float64 with E|ghat - g|^2 = {error:.3g}")
    return OperationalQ(value, signal, bias2, variance, positive, window, burn_in)


def start_law(chain: GibbsChain, data: Floats, start: str | ArrayLike) -> Floats:
    """The law of the first state on the states of the chain, (n_states,); on pairs those of x and -x are added up."""
    if isinstance(start, str):
        arguments.as_choice(start, STARTS, "start")
        if start == "stationary":
            return chain.law
        if start == "uniform":
            return np.full(chain.n_states, 1 / chain.n_states)
        visible = chain.law.reshape(chain.shape).sum(axis=0)
        given = data
        if chain.quotient:  # p(-h | -v) = p(h | v)
            visible, given = visible + visible[::-1], data + data[::-1]
        needed = given > 0
        if not visible[needed].min() > 0.0:
            raise UnresolvedError(
                "the law of a visible state of the data underflows, so that h given v is not resolved; scale the couplings down"
            )
        ratio = np.divide(given, visible, out=np.zeros_like(visible), where=needed)
        return np.ascontiguousarray((chain.law.reshape(chain.shape) * ratio).ravel())
    law = arguments.as_finite(start, "start")
    if chain.quotient and law.shape == (2 * chain.n_states,):
        full = arguments.as_law(law, 2 * chain.n_states, "start")
        return np.ascontiguousarray(full[: chain.n_states] + full[chain.n_states :][::-1])
    return arguments.as_law(law, chain.n_states, "start")


def positive_phase(chain: GibbsChain, data: Floats, hidden: str) -> float:
    """sum_ij of the variance over the data of E[f_ij | v] = -v_i tanh F_j(v), or of f_ij with h sampled given v."""
    edges = chain.model.edges.reshape(chain.weights.shape)
    visible = chain.block_spins[1]
    means = np.tanh(visible @ chain.weights + chain.c)
    expected = chain.model.on_edges(visible.T @ (data[:, None] * means))
    squares = float(data @ (means**2 * edges.mean(axis=0)).sum(axis=1)) * chain.n_visible if hidden == "expected" else float(edges.sum())
    return max(squares - float(np.einsum("ij,ij->", expected, expected)), 0.0)
