"""The signal |g|^2 of the gradient and its ratio to the noise, Q.

g_ij = E_data[f_ij] - E_pi[f_ij],   Q = (K / 2) |g|^2 / T_O,   T_O in steps as in :mod:`thermokernels.quantities.variance_time`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermokernels.common import arguments, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import UnresolvedError
from thermokernels.common.results import Line, Result
from thermokernels.common.tolerances import UNIT
from thermokernels.model.chain import GibbsChain, block_spins, obstacle_to_quotient, of_tables
from thermokernels.model.kernels.registry import as_kernel
from thermokernels.model.model import Model, ModelLike, as_model
from thermokernels.quantities import asymptotic_variance, small_models
from thermokernels.quantities.alternating_scan import OBSERVABLES, UNITS, AlternatingTime, of_model
from thermokernels.quantities.data_signal import LARGEST_SUM, _data_gradient, _signal, gradient_error
from thermokernels.quantities.variance_time import VarianceTime, in_room, model_chain, variance_time
from thermokernels.solvers.checkpoint import PathLike
from thermokernels.solvers.many_observables import Accumulator
from thermokernels.solvers.solve import AUTOMATIC, Progress, Solve


@dataclass(frozen=True, eq=False, repr=False)
class QStruct(Result):
    """Q_struct_perp and what it rests on.

    Attributes
    ----------
    value : Q = (K / 2) signal / t_obs, dimensionless
    signal : |g|^2; signal_bound : a bound on its rounding error
    bound : a bound on |Q - value|, from those of signal and T_O
    t_obs : T_O in steps; t_obs_bound : a bound on its error, in steps
    asymptotic_variance : V = 2 T_O - sum_a Var_pi f_a in steps; asymptotic_variance_bound : a bound on its error
    q_limit : K signal / V, what Q tends to in a long window; q_limit_bound : a bound on its error
    g : (n_v, n_h), E_data[f_ij] - E_pi[f_ij], zero where there is no coupling
    g_visible, g_hidden : (n_v,), (n_h,) of the gradients of b and c where they count
    residual : largest relative residual of the solves, of a reduction their backward error; iterations : largest number of CG iterations
    method : of the solve: "cholesky", "cg" or "reduction"
    window_steps : K in steps
    """

    _lines = (
        Line("q", "value", bound="bound"),
        Line("q_limit", "q_limit", bound="q_limit_bound"),
        Line("signal", "signal", bound="signal_bound"),
        Line("t_obs_steps", "t_obs", "steps", bound="t_obs_bound"),
        Line("asymptotic_variance_steps", "asymptotic_variance", "steps", bound="asymptotic_variance_bound"),
    )
    _facts = (
        "window_steps",
        "method",
        "residual",
        "iterations",
        "g",
        "g_visible",
        "g_hidden",
    )

    value: float
    signal: float
    signal_bound: float
    t_obs: float
    g: Floats
    residual: float
    iterations: int
    method: str
    window_steps: float
    variance_time: VarianceTime | AlternatingTime
    g_visible: Floats | None = None
    g_hidden: Floats | None = None

    @property
    def state_time(self) -> VarianceTime:
        """``variance_time`` of a kernel that is solved on all states.

        Raises
        ------
        ValueError
            Q of the alternating scan, which is solved on one layer.
        """
        if isinstance(self.variance_time, AlternatingTime):
            raise ValueError(
                "q must come from a kernel that is solved on all states, such as 'single-site'; got Q of the alternating kernel"
            )
        return self.variance_time

    @property
    def t_obs_bound(self) -> float:
        return self.variance_time.bound

    @property
    @default_error_state
    def bound(self) -> float:
        """|Q - value| <= (K / 2) (d|g|^2 + |g|^2 dT / T) / (T - dT), with the bounds d|g|^2 and dT; four roundings of the quotient."""
        lost = self.t_obs_bound
        if not lost < self.t_obs:
            return math.inf
        largest = 0.5 * self.window_steps * (self.signal_bound + self.signal * lost / self.t_obs) / (self.t_obs - lost)
        return largest * (1 + 8 * UNIT) + 4 * UNIT * self.value

    @property
    def asymptotic_variance(self) -> float:
        return asymptotic_variance.of_variance_time(self.variance_time)

    @property
    def asymptotic_variance_bound(self) -> float:
        """A bound on the error of V, in steps."""
        return asymptotic_variance.bound_of(self.variance_time)

    @property
    @default_error_state
    def q_limit(self) -> float:
        """K |g|^2 / V; infinite where V vanishes."""
        variance = self.asymptotic_variance
        return self.window_steps * self.signal / variance if variance > 0.0 else math.inf

    @property
    @default_error_state
    def q_limit_bound(self) -> float:
        """K (d|g|^2 + |g|^2 dV / V) / (V - dV), with the bounds d|g|^2 and dV; four roundings of the quotient."""
        variance, lost = self.asymptotic_variance, asymptotic_variance.bound_of(self.variance_time)
        if not lost < variance:
            return math.inf
        largest = self.window_steps * (self.signal_bound + self.signal * lost / variance) / (variance - lost)
        return largest * (1 + 8 * UNIT) + 4 * UNIT * self.q_limit


def data_gradients(model: Model, p_data: Floats) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """E_data[f] - E_pi[f] of f_ij = -v_i h_j (n_v, n_h), -v_i and -h_j, as sum_v (pi(v) - p_data(v)) v_i tanh F_j(v), in long double.

    A trained model reproduces its data and the difference of the laws cancels to a millionth, so the visible marginal is computed in
    long double (extended precision on x86; where it is plain double, |g|^2 of a trained model keeps about ten digits).
    """
    visible = block_spins(model.n_visible, 2**model.n_visible).astype(np.longdouble)
    fields = visible @ model.W.astype(np.longdouble) + model.c.astype(np.longdouble)
    log_law = visible @ model.b.astype(np.longdouble) + np.logaddexp(fields, -fields).sum(axis=1)
    law = np.exp(log_law - log_law.max())
    data = p_data.astype(np.longdouble)
    excess = law / law.sum() - data / data.sum()
    hidden = np.tanh(fields)
    return visible.T @ (excess[:, None] * hidden), excess @ visible, excess @ hidden


def data_gradient(model: Model, p_data: Floats) -> Floats:
    """g = E_data[f] - E_pi[f], (n_v, n_h), p_data divided by its sum; zero where there is no coupling."""
    if not in_pairs(model):
        return model.on_edges(np.ascontiguousarray(data_gradients(model, p_data)[0], dtype=np.float64))
    g = np.empty(model.W.shape)
    _data_gradient(np.array(model.W.T, order="C"), model.b.copy(), model.c.copy(), np.array(p_data), g)  # compiled once
    return model.on_edges(g)


def in_pairs(model: Model) -> bool:
    """Whether g is computed in pairs of doubles, and not in long double: of couplings whose exponentials are in range."""
    return float(sum(np.abs(part).sum() for part in model)) <= LARGEST_SUM


def data_gradient_error(model: Model) -> float:
    """A bound on the error of every entry of g before it is rounded to float64, for the law as it is handed in, over its sum.

    In pairs of doubles that of :func:`thermokernels.quantities.data_signal.gradient_error`.
    """
    return gradient_error(model.n_visible, model.n_hidden) if in_pairs(model) else data_gradients_error(model)


def data_gradients_error(model: Model) -> float:
    """The same of :func:`data_gradients`.

    With u the rounding of long double, L the largest |log-weight| of a visible state and elementary functions right to 8 u (glibc manual,
    "Errors in Math Functions"): a field is wrong by dF <= (n_v + 1) u max_j (sum_i |W_ij| + |c_j|), a log-weight by
    dL <= n_h (dF + 8 u) + (N + 12) u L, pi(v) relatively by 2 dL + (4 L + 2^n_v + 16) u, p(v) by (2^n_v + 1) u, and since sum |pi - p| <= 2

        |dg_ij| <= (relative errors of pi and p) + 2 (dF + (2^n_v + 12) u).
    """
    unit = float(np.finfo(np.longdouble).eps) / 2
    columns = np.abs(model.W).sum(axis=0) + np.abs(model.c)
    fields = (model.n_visible + 1) * unit * float(columns.max())
    largest = float(np.abs(model.b).sum() + columns.sum()) + model.n_hidden * math.log(2)
    logarithms = model.n_hidden * (fields + 8 * unit) + (model.n_spins + 12) * unit * largest
    n_states = 2**model.n_visible
    return float(2 * logarithms + (4 * largest + 2 * n_states + 17) * unit + 2 * (fields + (n_states + 12) * unit))


def chain_signal(chain: GibbsChain, p_data: ArrayLike, window: float) -> tuple[Floats, float, float]:
    """g (n_v, n_h), |g|^2, and the window in steps: all of Q but T_O."""
    law = arguments.as_undivided_law(p_data, 2**chain.n_visible)
    window_steps = arguments.as_positive(window, "window", "sweeps") * chain.steps_per_sweep
    g = data_gradient(chain.model, law)
    return g, float(_signal(g, 0.0, UNIT)[0]), window_steps


def signal_error(model: Model, g: Floats) -> float:
    """A bound on the rounding error of |g|^2, from :func:`data_gradient_error` and the rounding of g to float64."""
    return float(_signal(g, data_gradient_error(model), UNIT)[1])


@default_error_state
def q_struct(
    W: ModelLike,
    p_data: ArrayLike,
    window: float = 100.0,
    method: str = "auto",
    rtol: float = tolerances.SOLVE,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
    executor: Executor | None = None,
    *,
    kernel: str = "single-site",
    observables: Literal["products", "expected"] = "products",
    units: Literal["pm1", "zero-one"] = "pm1",
    fields: bool = False,
    accuracy: float | None = None,
) -> QStruct:
    """Q_struct_perp = (K / 2) |g|^2 / T_O: the squared signal-to-noise ratio of the gradient from a window of Gibbs samples.

    Parameters
    ----------
    W : (n_v, n_h) couplings, or a Model
    p_data : (2**n_v,)
        Data law on the visible states; state number v has bit i = spin i, spin = 1 - 2 bit.
    window : float, in sweeps
        K steps in all: N a sweep of the single-site kernel, one of the alternating scan.
    method : "auto", "cholesky", "cg" or "reduction"; rtol : largest accepted relative residual (see :func:`observable_variance_time`)
    b, c : (n_v,), (n_h,) fields, None for zero
    progress, checkpoint, executor : as in :func:`observable_variance_time`
    kernel : "single-site", "two-block", "symmetrised-alternating" or "alternating"
    observables, units, fields : what is averaged, of the alternating kernel, as in :func:`alternating_variance_time`
    accuracy : largest relative error of T_O that will do, as in :func:`observable_variance_time`; ``t_obs_bound`` and ``bound`` say more

    Raises
    ------
    ValueError
        Bad arguments. NotConvergedError, UnresolvedError: the chain is too slow for float64.

    Examples
    --------
    >>> import thermokernels as tk
    >>> q = tk.q_struct([[0.0]], [0.5, 0.5])
    >>> q.signal, round(q.t_obs, 12)  # nothing to learn; one product with gap 1 per step
    (0.0, 1.0)
    """
    model, solve = as_model(W, b, c), Solve(method, rtol, progress, checkpoint, executor, accuracy)
    if as_kernel(kernel).by_layers:
        return alternating_q_struct(model, p_data, window, solve, observables=observables, units=units, fields=fields)
    words = arguments.as_choice(observables, OBSERVABLES, "observables"), arguments.as_choice(units, UNITS, "units")
    given = (("observables", words[0], "products"), ("units", words[1], "pm1"), ("fields", arguments.as_flag(fields, "fields"), False))
    for name, value, usual in given:
        if value != usual:
            raise ValueError(f"{name} must be {usual!r} for the {kernel} kernel; got {arguments.in_brief(value)}: use kernel='alternating'")
    if small_models.in_one_call(model, solve, kernel) and (found := small_q_struct(model, p_data, window, solve)) is not None:
        return found[0]
    return chain_q_struct(model_chain(model, kernel=kernel), p_data, window, solve)


def small_q_struct(
    model: Model, p_data: ArrayLike, window: float, solve: Solve, full: bool = False
) -> tuple[QStruct, small_models.Room, Floats] | None:
    """Q of a small model with all couplings, on all states where ``full``, with what the compiled call has left, and the law as it is.

    None where that call does not certify it.
    """
    law = arguments.as_undivided_law(p_data, 2**model.n_visible)
    window_steps = arguments.as_positive(window, "window", "sweeps") * model.n_spins
    obstacle = obstacle_to_quotient(model, None)
    quotient = obstacle is None and not full
    room, certified = small_models.answer(model, law, window_steps, quotient, solve)
    if not certified:
        return None
    tables, _ = room.first()
    value, signal, signal_bound, *_, logarithm, _ = room.numbers[0].tolist()
    chain = of_tables(model, "single-site", quotient, None if full else obstacle, tables, logarithm)
    time = in_room(chain, room, solve)
    q = QStruct(
        value=value,
        signal=signal,
        signal_bound=signal_bound,
        t_obs=time.value,
        g=room.g[0],
        residual=time.residual,
        iterations=time.iterations,
        method=time.method,
        window_steps=window_steps,
        variance_time=time,
    )
    return q, room, law


def alternating_q_struct(model: Model, p_data: ArrayLike, window: float, solve: Solve, **options: Any) -> QStruct:
    """Q of the alternating scan, whose time is had without a chain on all states; ``options`` say what is averaged."""
    law = arguments.as_undivided_law(p_data, 2**model.n_visible)
    window_steps = arguments.as_positive(window, "window", "sweeps")
    time = of_model(model, solve, **options)
    couplings, visible, hidden = data_gradients(model, law)
    if options.get("units", "pm1") == "zero-one":  # (1 + v)(1 + h) / 4
        couplings, visible, hidden = (couplings + visible[:, None] + hidden) / 4, visible / 2, hidden / 2
    g = [np.ascontiguousarray(part, dtype=np.float64) for part in (couplings, visible, hidden)]
    g[0] = model.on_edges(g[0])
    whole = np.concatenate([part.ravel() for part in g])[None] if options.get("fields", False) else g[0]
    error = _signal(whole, data_gradients_error(model), UNIT)[1]  # of whatever was computed in long double
    q = _q_struct(model, g[0], float(np.einsum("ij,ij->", whole, whole)), float(error), window_steps, time)
    return replace(q, g_visible=g[1], g_hidden=g[2]) if options.get("fields", False) else q


def chain_q_struct(
    chain: GibbsChain,
    p_data: ArrayLike,
    window: float = 100.0,
    solve: Solve = AUTOMATIC,
    accumulators: Sequence[Accumulator] = (),
) -> QStruct:
    """:func:`q_struct` for a chain that exists already, with its kernel."""
    if chain.dynamics.by_layers:
        return alternating_q_struct(chain.model, p_data, window, solve)
    signal = chain_signal(chain, p_data, window)  # what is wrong with the law is said before anything is solved
    return _with_signal(signal, variance_time(chain, solve, accumulators))


def q_struct_of(time: VarianceTime, p_data: ArrayLike, window: float) -> QStruct:
    """:func:`q_struct` of a chain whose T_O has been solved for."""
    return _with_signal(chain_signal(time.chain, p_data, window), time)


def _with_signal(signal: tuple[Floats, float, float], time: VarianceTime) -> QStruct:
    (g, square, window_steps), model = signal, time.chain.model
    return _q_struct(model, g, square, signal_error(model, g), window_steps, time)


def _q_struct(
    model: Model, g: Floats, signal: float, signal_bound: float, window_steps: float, time: VarianceTime | AlternatingTime
) -> QStruct:
    value = 0.5 * window_steps * signal / time.value
    if not np.isfinite(value):
        raise UnresolvedError(
            f"Q overflows float64 with T_O = {time.value:.3g} steps and a window of {window_steps:.3g} steps; use a shorter window"
        )
    return QStruct(
        value=value,
        signal=signal,
        signal_bound=signal_bound,
        t_obs=time.value,
        g=g,
        residual=time.residual,
        iterations=time.iterations,
        method=time.method,
        window_steps=window_steps,
        variance_time=time,
    )
