"""What a diagnosis found: numbers with what is known about them, basins, and the ways between them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from thermokernels.common.results import Result
from thermokernels.model.kernels.registry import KERNELS


@dataclass(frozen=True)
class Number:
    """A number with what is known about it.

    Attributes
    ----------
    value : float, or None where there is none
    unit : of value and error
    error : a bound on the absolute error, or None where ``certainty`` is all that is known
    certainty : how exact it is, or why there is no value
    """

    value: float | None
    unit: str
    error: float | None
    certainty: str


@dataclass(frozen=True)
class Crossing:
    """A basin, the deeper one that it joins at its lowest saddle, and the way there and back.

    Attributes
    ----------
    mass, deeper_mass : pi of the two basins below the saddle
    barrier : saddle minus lowest energy of the basin, in units of the temperature; barrier_error : its rounding bound; saddle_energy
    multiplicity : how many basins the saddle joins
    out, back : mean first passage times to the deeper basin and from it
    relevance : share of the basin's indicator that the gradient observables see, in [0, 1]
    crossable : whether both passages are within the budget; seen : whether the relevance is at least 0.03; None where not resolved
    """

    mass: float
    deeper_mass: float
    barrier: float
    barrier_error: float
    saddle_energy: float
    multiplicity: int
    out: Number
    back: Number
    relevance: Number
    crossable: bool | None
    seen: bool | None


@dataclass(frozen=True, repr=False)
class Findings(Result):
    """What :func:`thermokernels.diagnose` found; times are in steps (N of the single-site kernel are a sweep), gaps per step.

    Attributes
    ----------
    n_visible, n_hidden, n_states : of the model and its chain; quotient : whether a state is a pair {x, -x}
    n_bytes : estimated peak of the memory; has_fields, has_data : what was handed in
    misreadings : what else W may be by its looks, a sentence each
    window, budget : in sweeps; kernel : "single-site" or "alternating", of which a step is a sweep and gaps are those of one layer
    gap : of the sampler on all states; gap_of_pairs : on pairs {x, -x} (the same number where there are none)
    gap_bound : a proven lower bound of gap_of_pairs
    relevant_gap : least gap among the modes that the gradient observables see; gamma_eff : the effective gap of its cluster, per sweep
    tau_energy, tau_observable, tau_magnetisation : 1 + 2 sum rho of the energy, of the slowest v_i h_j and of the sum of all spins
    slowest_observable : (i, j) of tau_observable, or None
    tau_gradient : 1 + 2 sum rho of all v_i h_j together, weighted by their variances
    t_obs : T_O; asymptotic_variance : V = 2 T_O - sum Var, K times the variance of the mean of a long window of K steps
    signal : |g|^2; q : (K / 2) signal / T_O; q_limit : K signal / V, for windows long against the correlations
    q_operational : exact for the window
    window_for_unit_q : the window in sweeps at which Q reaches one
    n_minima : local minima of the energy; n_multiway_saddles : saddles that join three basins or more
    crossings : the most probable basins and their ways out, by falling mass; n_crossings_left_out : how many more there are
    """

    n_visible: int
    n_hidden: int
    n_states: int
    quotient: bool
    n_bytes: int
    has_fields: bool
    has_data: bool
    misreadings: tuple[str, ...]
    window: float
    budget: float
    kernel: str
    gap: Number
    gap_of_pairs: Number
    gap_bound: Number
    relevant_gap: Number
    gamma_eff: Number
    tau_energy: Number
    tau_observable: Number
    slowest_observable: tuple[int, int] | None
    tau_gradient: Number
    tau_magnetisation: Number
    t_obs: Number
    asymptotic_variance: Number
    signal: Number
    q: Number
    q_limit: Number
    q_operational: Number
    window_for_unit_q: Number
    n_minima: int | None
    n_multiway_saddles: int | None
    crossings: tuple[Crossing, ...]
    n_crossings_left_out: int
    landscape_reason: str | None

    @property
    def n_spins(self) -> int:
        """N, of both layers."""
        return self.n_visible + self.n_hidden

    @property
    def steps_per_sweep(self) -> int:
        """N of the single-site kernel, one of the alternating scan."""
        return KERNELS[self.kernel].steps_per_sweep(self.n_spins)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain JSON-able data; a number that is not resolved is null with its reason; steps are given in sweeps too."""
        return {field.name: _plain(getattr(self, field.name), self.steps_per_sweep) for field in fields(self)}


def _plain(value: Any, steps_per_sweep: int) -> Any:
    if isinstance(value, Number):
        plain: dict[str, Any] = {"value": value.value, "unit": value.unit, "error": value.error, "certainty": value.certainty}
        if value.unit == "steps":
            plain["value_sweeps"] = None if value.value is None else value.value / steps_per_sweep
        if value.value is None:
            plain["value_reason"] = value.certainty
        return plain
    if isinstance(value, Crossing):
        return {field.name: _plain(getattr(value, field.name), steps_per_sweep) for field in fields(value)}
    return [_plain(item, steps_per_sweep) for item in value] if isinstance(value, tuple) else value
