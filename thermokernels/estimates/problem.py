"""The question that is asked of coupled chains, checked, and the answer where nothing is known yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermokernels.common import arguments, memory
from thermokernels.common.arrays import Floats
from thermokernels.estimates.bounds.analytic_bound import variance_time_bound
from thermokernels.estimates.correlations import data_correlations
from thermokernels.estimates.coupling.lag_pairs import Schedule
from thermokernels.estimates.coupling.single_site_coupling import couplings
from thermokernels.estimates.features import Features, features_of, from_correlations
from thermokernels.estimates.pilot import Pilot, require_work, run_pilot
from thermokernels.estimates.replicates import Question
from thermokernels.estimates.result import NAN, NOWHERE, QEstimate
from thermokernels.model.kernels.registry import KERNELS, as_kernel
from thermokernels.model.model import Model, as_model
from thermokernels.quantities.alternating_scan import OBSERVABLES, UNITS
from thermokernels.sampling.samplers import block_model, require_moderate


def model_of(model: Any) -> Model:
    """A model from couplings, a tuple (W, b, c) or a Model; its fields must be moderate enough for float32."""
    checked = as_model(*model) if isinstance(model, tuple) and len(model) == 3 and np.ndim(model[0]) == 2 else as_model(model)
    require_moderate(checked)
    return checked


@dataclass(frozen=True, eq=False)
class Problem:
    """The checked question."""

    model: Model
    samples: Floats | None
    window: float
    kernel: str
    observables: str
    units: str
    fields: bool

    @classmethod
    def of(cls, model: Any, data: ArrayLike | None, window: float, kernel: str, observables: str, units: str, fields: bool) -> Problem:
        model = model_of(model)
        n_visible, n_hidden = model.W.shape
        samples = None if data is None else arguments.as_samples(data, "data")
        if samples is not None and samples.shape[1] != n_visible:
            raise ValueError(f"data must have a column for each of the {n_visible} visible spins; got shape {samples.shape}")
        problem = cls(
            model,
            samples,
            arguments.as_positive(window, "window", "sweeps"),
            as_kernel(kernel, lambda one: one.coupled).name,
            arguments.as_choice(observables, OBSERVABLES, "observables"),
            arguments.as_choice(units, UNITS, "units"),
            arguments.as_flag(fields, "fields"),
        )
        n_spins, n_weights = n_visible + n_hidden, n_visible * n_hidden
        n_bytes = 64 * 64 * n_spins * 3 + 8 * n_weights * (4 if data is None else 52)
        memory.require(n_bytes, f"coupled chains of {n_spins} spins", "estimate a smaller model")
        require_work(n_visible, n_hidden)
        return problem

    @property
    def shape(self) -> tuple[int, int]:
        return self.model.n_visible, self.model.n_hidden

    @property
    def inputs(self) -> dict[str, Any]:
        """What replicates depend on, beside the seed."""
        words = {"kernel": self.kernel, "observables": self.observables, "units": self.units, "fields": self.fields}
        return {
            "W": self.model.W,
            "b": self.model.b,
            "c": self.model.c,
            "edges": self.model.edges,
            "data": np.empty(0) if self.samples is None else self.samples,
        } | words

    @property
    def quotient(self) -> bool:
        """Whether x and -x are one: energy and observables have to be even."""
        even = self.units == "pm1" and not self.fields
        return even and not self.model.has_fields

    @property
    def single_flips(self) -> bool:
        """Whether the kernel updates a spin at a time."""
        return KERNELS[self.kernel].single_flips

    @property
    def steps_per_sweep(self) -> int:
        return KERNELS[self.kernel].steps_per_sweep(self.model.n_spins)

    @property
    def block_model(self) -> Any:
        return block_model(self.model)

    @property
    def features(self) -> Features:
        return features_of(self.model, self.observables, self.units, self.fields)

    def pilot(self, key: np.uint64, budget: float | None, kappa: float | None) -> Pilot:
        """The pilot of its chains."""
        return run_pilot(self.block_model, *self.shape, self.quotient, self.single_flips, key, budget, kappa)

    def question(self, schedule: Schedule, key: int, with_correlations: bool | None = None) -> Question:
        """What a task is asked."""
        with_correlations = self.samples is not None if with_correlations is None else with_correlations
        words = self.kernel, self.observables, self.units, self.fields
        return Question(self.model, *words, schedule, key, with_correlations)

    def data_means(self) -> Floats:
        """E_data a(v) E[b | v]' as one vector."""
        assert self.samples is not None
        return from_correlations(self.model, data_correlations(couplings(self.model), self.samples), self.units, self.fields)

    def without_estimate(self, meetings: NDArray[np.int64], pilot: Pilot, reason: str) -> QEstimate:
        """An answer where chains do not meet."""
        return self.answer(pilot, meetings, trusted=False, reason=reason)

    def answer(self, pilot: Pilot, meetings: NDArray[np.int64], **known: Any) -> QEstimate:
        """A result with what is known; the rest is NaN."""
        schedule = pilot.schedule
        lag = schedule.interval * schedule.n_intervals if schedule else 0
        estimated = ("", "t_obs", "signal", "asymptotic_variance", "window_for_unit_q", "batch_means")
        nothing: dict[str, Any] = {
            name or "value": NAN for name in (*estimated, "tv_bound", "largest_share", "batch_means_bias", "t_obs_at_least")
        }
        nothing |= {f"{name}_interval".lstrip("_"): NOWHERE for name in estimated}
        rest: dict[str, Any] = {
            "shortfall": "",
            "n_replicates": 0,
            "g": np.full(self.shape, NAN),
            "t_obs_at_most": variance_time_bound(self.model, self.kernel, self.units, self.fields),
            "replicates": np.empty(0),
            "kernel": self.kernel,
            "window": self.window,
            "steps_per_sweep": self.steps_per_sweep,
            "kappa": pilot.kappa,
            "lag": lag,
            "cap": schedule.cap if schedule else pilot.cap,
            "meeting_times": meetings,
        }
        return QEstimate(**(nothing | rest | known))
