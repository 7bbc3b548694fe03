"""The diagnosis of one model on one sampler: can it be trained, and if not, what stops it. Numbers here, words in ``words``.

Every quantity is a :class:`Number` that carries what is known about its error. One that cannot be had to its tolerance says so in place of
a value, and the rest of the diagnosis goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import arguments, footprint, memory, thresholds
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import ConstantError, ModelTooLargeError, NumericalError
from thermokernels.common.tolerances import EPSILON
from thermokernels.diagnosis import words
from thermokernels.diagnosis.basins import basins
from thermokernels.diagnosis.checkpointed import SOLUTIONS, Found, Parts
from thermokernels.diagnosis.correlations import correlations, full_chain
from thermokernels.diagnosis.measured import MEASURE, MODES, Progress, counted_measure
from thermokernels.diagnosis.resolved import NOT_MADE, none, number, reason_of
from thermokernels.diagnosis.result import Findings, Number
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels.model.kernels import registry
from thermokernels.model.kernels.kernel import Kernel
from thermokernels.model.kernels.registry import KERNELS
from thermokernels.model.laws import visible_law
from thermokernels.model.misreadings import misreadings
from thermokernels.model.model import Model, ModelLike, as_model
from thermokernels.quantities import asymptotic_variance
from thermokernels.quantities.signal_to_noise import chain_q_struct, q_struct_of
from thermokernels.quantities.slow_modes import SlowModes
from thermokernels.quantities.spectral_gap import gap_of_mode, solve_spectral_gap
from thermokernels.quantities.spectral_measure import DENSE_STATES, SpectralMeasure
from thermokernels.quantities.variance_time import VarianceTime, with_solutions
from thermokernels.quantities.windows.operational_q import operational_q
from thermokernels.quantities.windows.window_variance import window_variance
from thermokernels.solvers import gap_bounds
from thermokernels.solvers.checkpoint import Kept, PathLike
from thermokernels.solvers.solve import Solve

CERTIFIED = "residual and proven gap"
# What a number cannot be had for.
UNHAD = (NumericalError, ModelTooLargeError, np.linalg.LinAlgError)
# Relative distance at which two eigenvalues are one: Lanczos runs converge to it.
NEAR = 1e-8


NO_DATA = "needs a data law"


@dataclass(frozen=True, repr=False)
class Diagnosis(Findings):
    """The findings with their words."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """What matters, in plain words; the first answers whether the model can be trained."""
        return words.sentences(self)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain JSON-able data; a number that is not resolved is null with its reason; steps are given in sweeps too."""
        return super().as_dict() | {"autocorrelation_convention": words.CONVENTION, "sentences": list(self.sentences)}

    def _columns(self) -> tuple[dict[str, Any], str]:
        numbers = {field.name: getattr(self, field.name) for field in fields(self)}
        named = {name: number for name, number in numbers.items() if isinstance(number, Number)}
        parts = ("value", "unit", "error", "certainty")
        return {"quantity": [*named], **{part: [getattr(number, part) for number in named.values()] for part in parts}}, "quantity"

    def __repr__(self) -> str:
        return words.one_line(self)

    def _repr_html_(self) -> str:
        return words.html(self)


def as_window(window: float, model: Model, name: str = "window", kernel: str = "single-site") -> float:
    """A window in sweeps of at least one step; else ValueError."""
    sweeps, steps = arguments.as_positive(window, name, "sweeps"), KERNELS[kernel].steps_per_sweep(model.n_spins)
    if sweeps * steps < 1:
        raise ValueError(f"{name} must be at least one step, {1 / steps:.3g} sweeps of this model's {model.n_spins} spins; got {window!r}")
    return sweeps


def _diagnosed(kernel: Kernel) -> bool:
    """Whether a diagnosis is made for it: of single flips, or by solves on one layer."""
    return kernel.single_flips or kernel.by_layers


def as_kernel(kernel: str | None, model: Model) -> str:
    """The kernel that was asked for, or that of the model where a diagnosis is made for it."""
    if kernel is None:
        return model.kernel if model.kernel is not None and _diagnosed(KERNELS[model.kernel]) else "single-site"
    return registry.as_kernel(kernel, _diagnosed).name


@default_error_state
def diagnose(
    W: ModelLike,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    p_data: ArrayLike | None = None,
    window: float = 100.0,
    budget: float = thresholds.PASSAGE_SWEEPS,
    kernel: str | None = None,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
) -> Diagnosis:
    """Can this model be trained with this Gibbs sampler, and if not, what stops it?

    Parameters
    ----------
    W : (n_v, n_h) couplings, or a Model; b : (n_v,) and c : (n_h,) fields, None for zero
    p_data : (2**n_v,), optional
        Data law on the visible states (:func:`thermokernels.law_of_samples` makes one of samples). Signal and Q need it.
    window : float, in sweeps
        Length of the run of samples behind one gradient.
    budget : float, in sweeps
        A basin is called crossable when the first passages out of it and back take no longer than this on average.
    kernel : "single-site" or "alternating" (v given h, then h given v, a record a sweep: scikit-learn, rbms and thrml)
        None for that of the model, where it says one of these, else "single-site".
    progress : called as progress(part, done, total): when a part begins, and with what is done of its observables or passages
    checkpoint : path of a file
        Finished parts and passages are kept in it, solutions of the observables as long as they are needed, and what is done of solves and
        spectral measure. A call that was interrupted goes on from it when it is repeated, to the same result in every bit; lost is no
        more than ten times as long as the file takes to be written. A file of another computation is a ValueError. It stays where it is.

    Returns
    -------
    Diagnosis
        Numbers with their error bounds, ``sentences``, ``as_dict()``; a table in notebooks.

    Raises
    ------
    ValueError
        Bad arguments.
    ModelTooLargeError
        The states do not fit into memory; the message says what they would take and what smaller question can be asked.

    Notes
    -----
    The gradient observables are those of W, v_i h_j. With fields the gradients of b and c see v_i and h_j too, which T_O and Q leave out.
    A number that float64 does not resolve (in a model that is extremely slow) is no error: its ``value`` is None and it says why.

    Examples
    --------
    >>> import thermokernels as tk
    >>> tk.diagnose([[0.5, -0.2], [0.1, 0.3]])
    Diagnosis(2 + 2 spins, 8 pairs {x, -x}: relevant gap 0.314 per step, T_O 2.12 sweeps, Q needs a data law, 1 of 1 basins crossable)
    """
    model = as_model(W, b, c)
    kernel = as_kernel(kernel, model)
    window = as_window(window, model, kernel=kernel)
    budget = arguments.as_positive(budget, "budget", "sweeps")
    n_bytes = require_memory(model)
    law = None if p_data is None else arguments.as_law(p_data, 2**model.n_visible)
    arguments.as_callback(progress, "progress")
    arguments.as_path(checkpoint, "checkpoint")
    chain = gibbs_chain(model, kernel=kernel)
    inputs = {"W": model.W, "b": model.b, "c": model.c, "kernel": kernel, "window": window, "budget": budget}
    inputs |= {} if model.mask is None else {"mask": model.mask}
    parts = Parts(checkpoint, inputs if law is None else inputs | {"p_data": law})
    with np.errstate(all="ignore"):  # what overflows in a slow model is no finite number, and is reported as such
        found = _found(chain, law, window, budget, progress or (lambda part, done, total: None), parts)
    return Diagnosis(
        n_visible=model.n_visible,
        n_hidden=model.n_hidden,
        n_states=chain.n_states,
        quotient=chain.quotient,
        n_bytes=n_bytes,
        has_fields=not chain.quotient,
        has_data=law is not None,
        misreadings=misreadings(model, law is not None),
        window=window,
        budget=budget,
        kernel=kernel,
        **found,
    )


def _found(chain: GibbsChain, law: Floats | None, window: float, budget: float, progress: Progress, parts: Parts) -> Found:
    """All findings, part by part; the observables are solved for once, for T_O, Q, the spectral measure and their autocorrelation times."""
    time: VarianceTime | Exception | None = None
    if not chain.reversible:
        progress("the gaps", 0, 1)
        found = parts.part("spectrum", lambda: _layer_spectrum(chain, law, window))
    else:
        time = solved = parts.solutions(chain, lambda kept: _solved(chain, progress, kept))
        found = parts.part("spectrum", lambda: _spectrum(chain, solved, window, progress, parts))
        parts.forget(SOLUTIONS, MODES, MEASURE)
    progress("autocorrelation times", 0, 1)
    found |= parts.part("correlations", lambda: correlations(chain, time, found["gap_bound"]))
    found |= parts.part("basins", lambda: basins(chain, budget, partial(progress, "basins and the passages between them"), parts))
    found |= _trainability(chain, time, law, window, found.pop("variances"), found.pop("window_variance"))
    progress("done", 1, 1)
    return found


def _solved(chain: GibbsChain, progress: Progress, kept: Kept) -> VarianceTime | Exception:
    """T_O with all solutions, or why it cannot be had."""
    try:
        return with_solutions(chain, Solve(progress=lambda done, total: progress("the observables", done, total), kept=kept))
    except UNHAD as problem:
        return problem


def require_memory(model: Model) -> int:
    """The peak of the memory in bytes; where it does not fit, ModelTooLargeError with smaller questions to ask."""
    n_visible, n_hidden, has_fields = model.n_visible, model.n_hidden, model.has_fields
    n_bytes, available = footprint.diagnosis(n_visible, n_hidden, has_fields), memory.available()
    rows, columns = n_visible, n_hidden
    while footprint.diagnosis(rows, columns, has_fields) > available and rows + columns > 2:
        rows, columns = (rows - 1, columns) if rows >= columns else (rows, columns - 1)
    instead = f"ask about a part of it, such as W[:{rows}, :{columns}]"
    if footprint.landscape(n_visible, n_hidden, has_fields) <= available:
        instead += ", or for its gap and basins alone with spectral_gap and merge_tree of its gibbs_chain"
    if footprint.variance_time(n_visible, n_hidden, has_fields) <= available:
        instead += ", or for T_O and Q alone with thermo variance or q_struct"
    instead += ", or, at any size, for T_O and Q with an interval by thermo estimate or estimate_q, or draw samples with sample"
    memory.require(n_bytes, f"the diagnosis of {n_visible} visible and {n_hidden} hidden spins", instead)
    return n_bytes


def _spectrum(chain: GibbsChain, time: VarianceTime | Exception, window: float, progress: Progress, parts: Parts) -> Found:
    """The gaps, and the variance of a window mean for the exact Q; the slow modes of the measure are tried for the gap."""
    measure: SpectralMeasure | Exception = time if isinstance(time, Exception) else ConstantError("no observable")
    modes: SlowModes | None = None
    if not isinstance(time, Exception):
        try:
            measure, modes = counted_measure(time, progress, parts)
        except UNHAD as problem:
            measure = problem
    progress("the gaps", 0, 1)

    def gap_of(of: GibbsChain) -> tuple[float, float, str]:
        gap = gap_of_mode(of, modes.vectors[0]) if of is chain and modes is not None and modes.gaps.size else None
        gap = gap or solve_spectral_gap(of)
        return gap.value, gap.bound, "state reduction, proven" if gap.method == "reduction" else "residual and proven next eigenvalue"

    gap_of_pairs = number("per step", lambda: gap_of(chain))
    found = {
        "gap": number("per step", lambda: gap_of(full_chain(chain))) if chain.quotient else gap_of_pairs,
        "gap_of_pairs": gap_of_pairs,
        "gap_bound": number("per step", lambda: (gap_bounds.gap_lower_bound(chain), None, "proven lower bound")),
    }
    if isinstance(measure, Exception):
        reason = reason_of(measure)
        nothing = {"relevant_gap": none("per step", reason), "gamma_eff": none("per sweep", reason), "window_variance": none("", reason)}
        return found | nothing
    return found | _measured(chain, measure, gap_of_pairs, window)


def _measured(chain: GibbsChain, measure: SpectralMeasure, gap_of_pairs: Number, window: float) -> Found:
    """What follows from the spectral measure."""
    slowest, error = gap_of_pairs.value, measure.relevant_gap_bound
    certainty = "eigenvalue, its error proven" if chain.n_states <= DENSE_STATES else "no slower mode was seen by the Gauss rules"
    if slowest is not None and gap_of_pairs.error is not None and abs(measure.relevant_gap - slowest) <= NEAR * slowest + error:
        error = min(error, abs(measure.relevant_gap - slowest) + gap_of_pairs.error)
        certainty = "it is the gap, proven"
    uncertainty = f"relative uncertainty {max(measure.gamma_eff_error, NEAR):.1g}{'' if measure.resolved else ', not resolved'}"
    variance = window_variance(measure, window * chain.n_spins)
    return {
        "relevant_gap": Number(measure.relevant_gap, "per step", error, certainty),
        "gamma_eff": Number(measure.gamma_eff, "per sweep", None, uncertainty),
        "window_variance": number("", lambda: (variance, None, "for this very window, from the spectral measure; not proven")),
    }


def _layer_spectrum(chain: GibbsChain, law: Floats | None, window: float) -> Found:
    """As :func:`_spectrum` of the alternating scan: its gaps are those of its smaller layer, on which it is reversible."""
    layer = "alternating-visible" if chain.n_visible <= chain.n_hidden else "alternating-hidden"

    def gap_of(quotient: bool) -> Number:
        def compute() -> tuple[float, float, str]:
            gap = solve_spectral_gap(gibbs_chain(chain.model, kernel=layer, quotient=quotient))
            return gap.value, gap.bound, "state reduction, proven" if gap.method == "reduction" else "residual and proven next eigenvalue"

        return number("per step", compute)

    def lower_bound() -> tuple[float, None, str]:
        return gap_bounds.gap_lower_bound(gibbs_chain(chain.model, kernel=layer, quotient=chain.quotient)), None, "proven lower bound"

    def variance() -> tuple[float, None, str]:
        data = visible_law(chain.model) if law is None else law
        return operational_q(chain, data, window).error, None, "for this very window, not proven"

    whole = window == round(window)
    return {
        "gap": gap_of(False),
        "gap_of_pairs": gap_of(chain.quotient),
        "gap_bound": number("per step", lower_bound),
        "relevant_gap": none("per step", NOT_MADE),
        "gamma_eff": none("per sweep", NOT_MADE),
        "window_variance": number("", variance) if whole and law is not None else none("", "needs a window of whole sweeps"),
    }


def _trainability(
    chain: GibbsChain,
    time: VarianceTime | Exception | None,
    law: Floats | None,
    window: float,
    variances: Floats | None,
    window_variance: Number,
) -> Found:
    """T_O, signal and Q; without data the model's own law stands in, and only T_O and its bound are kept."""
    units = {"t_obs": "steps", "asymptotic_variance": "steps", "tau_gradient": "steps"}
    of_data = {"signal": "", "q": "", "q_limit": "", "q_operational": "", "window_for_unit_q": "sweeps"}
    try:
        data = visible_law(chain.model) if law is None else law
        if isinstance(time, Exception):
            raise time
        q = chain_q_struct(chain, data, window) if time is None else q_struct_of(time, data, window)
    except UNHAD as problem:
        return {name: none(unit, reason_of(problem)) for name, unit in (units | of_data).items()}
    share: float | None = None
    certainty = "state reduction, proven" if q.method == "reduction" else CERTIFIED
    try:
        share = q.t_obs_bound / q.t_obs  # relative to the value, of first order: the bound is tiny
    except NumericalError as problem:
        certainty = f"no error bound: {problem}"

    def certified(unit: str, value: float, relative: float | None) -> Number:
        return number(unit, lambda: (value, None if relative is None else relative * value, certainty))

    found = {"t_obs": certified("steps", q.t_obs, share)}
    of_variance = None if share is None else asymptotic_variance.bound_of(q.variance_time)
    found["asymptotic_variance"] = number("steps", lambda: (q.asymptotic_variance, of_variance, certainty))
    if variances is None:
        found["tau_gradient"] = none("steps", "not resolved: the variances of the observables are not")
    else:
        factor = 2 / float(variances.sum())
        of_variances, total = asymptotic_variance.variance_of(q.variance_time)[::-1]
        error = None if share is None else factor * q.t_obs * (share + of_variances / total)
        found["tau_gradient"] = number("steps", lambda: (factor * q.t_obs - 1, error, certainty))
    if law is None:
        return found | {name: none(unit, NO_DATA) for name, unit in of_data.items()}

    found["signal"] = Number(q.signal, "", q.signal_bound, "rounding")
    # The law of the data is rounded to float64: a model that reproduces it is left with this much.
    rounding = q.g.size * (64 * EPSILON) ** 2
    found["window_for_unit_q"] = none("sweeps", "no window: the model has the correlations of the data, up to rounding")
    if q.signal > rounding:
        relative = None if share is None else share + q.signal_bound / q.signal
        found["window_for_unit_q"] = certified("sweeps", window / q.value, relative)
    found["q"] = number("", lambda: (q.value, None if share is None else q.bound, certainty))
    found["q_limit"] = number("", lambda: (q.q_limit, None if share is None else q.q_limit_bound, certainty))
    variance = window_variance.value
    if variance is None:
        found["q_operational"] = none("", window_variance.certainty)
    else:
        found["q_operational"] = number("", lambda: (q.signal / variance, None, window_variance.certainty))
    return found
