"""One cell of the factorization: what windows of samples deliver, exactly, and the assumptions behind Q_struct as numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NumericalError
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels.model.hypernetwork import couplings
from thermokernels.quantities.signal_to_noise import data_gradient
from thermokernels.quantities.windows.operational_q import positive_phase, start_law
from thermokernels.quantities.windows.window_moments import WindowModes
from thermokernels_app.experiment import cell
from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.factorization_design import Assumptions, FactorizationDesign
from thermokernels_app.experiment.keys import override
from thermokernels_app.experiment.records.store import Record
from thermokernels_app.experiment.teachers import teacher
from thermokernels_app.experiment.training import code_vector
from thermokernels_app.judges import reference

# Weight of a mode that the observables are said to see, relative to all of it, as in the spectral measure.
SEEN = 1e-12
CLUSTER = 3.0

# Eigenvalues that differ by less than this, relatively, are one.
SAME = 1e-8


def network_records(table: dict[str, Any], m: int, split: int) -> list[Record]:
    """Train one network and measure all of its cells; ``table`` is the plain dictionary of the design."""
    design = override(FactorizationDesign(), table)
    base: Design = design.base
    with cell.one_blas_thread():
        _, _, training = cell.train(base, m, split)
        records = []
        for code in base.grid.codes:
            before: Floats | None = None
            for name in base.grid.checkpoints:
                weights = couplings(training.network(name), code_vector(base, code))
                place: Record = {"m": m, "split": split, "checkpoint": name, "code": code, "status": "ok", "halt": None}
                try:
                    place |= measure(design, weights, teacher(base, m, code).law, before)
                except NumericalError as error:
                    place |= {"status": "halted", "halt": {"check": type(error).__name__, "detail": str(error)}}
                records.append(place)
                before = weights
    return records


def measure(design: FactorizationDesign, weights: Floats, law: Floats, before: Floats | None) -> Record:
    """The numbers of one model: of the cell, and of every window."""
    chain, scan = gibbs_chain(weights), gibbs_chain(weights, kernel="alternating")
    modes, of_scan = WindowModes(chain), WindowModes(scan)
    g = data_gradient(chain.model, law)
    signal, n_spins = float(np.einsum("ij,ij->", g, g)), chain.n_spins
    variance_time, variance = modes.variance_time, 2 * modes.variance_time - modes.variance
    spectrum = _Spectrum(modes, n_spins, design.assumptions)
    positive = positive_phase(chain, law, "expected") / design.n_data
    windows = []
    for start in design.starts:
        first, of_other = (_start(of, law, start, before) for of in (chain, scan))
        for times in design.burn_ins:
            wait = math.ceil(times / (spectrum.relevant_gap * n_spins))
            for window in design.windows:
                bias2, spread = _error(modes, first, window * n_spins, wait * n_spins)
                other = sum(_error(of_scan, of_other, window, wait))
                error, limit = bias2 + spread, variance / (window * n_spins)
                windows.append(
                    {
                        "start": start,
                        "burn_in_sweeps": wait,
                        "burn_in_times": times,
                        "window_sweeps": window,
                        "bias2": bias2,
                        "variance": spread,
                        "q_op": signal / error,
                        "q_struct": 0.5 * window * n_spins * signal / variance_time,
                        "q_limit": signal / limit,
                        "A5": wait * spectrum.gamma_eff,
                        "A6": window * n_spins / spectrum.slowest_time,
                        "F1": error / limit,
                        "F3": error / other,
                        "F4": positive / error,
                    }
                )
    return {
        "signal": signal,
        "t_obs_steps": variance_time,
        "asymptotic_variance_steps": variance,
        "relevant_gap": spectrum.relevant_gap,
        "gamma_eff_sweep": spectrum.gamma_eff,
        "slowest_tau_steps": spectrum.slowest_time,
        "A2": _irreversibility(weights),
        "A3": 1.0 - float(modes.gaps.max()),
        "A3_gap": float(modes.gaps[1]),
        **spectrum.bulk(),
        "A8": spectrum.changes(),
        "A9": _asymmetry(weights),
        "windows": windows,
    }


def _error(modes: WindowModes, start: Floats, window: int, burn_in: int) -> tuple[float, float]:
    """Squared bias and variance of the mean over a window, in records."""
    moments = modes.moments(start, window, burn_in)
    bias2 = float(moments.first @ moments.first) / window**2
    return bias2, max(moments.second / window**2 - bias2, 0.0)


def _start(chain: GibbsChain, law: Floats, start: str, before: Floats | None) -> Floats:
    if start == "state":  # all spins +1: the first state
        first = np.zeros(chain.n_states)
        first[0] = 1.0
        return first
    if start == "previous":
        return start_law(chain, law, "uniform") if before is None else gibbs_chain(before).law
    return start_law(chain, law, start)


class _Spectrum:
    """What the observables see of the spectrum, from all eigenvalues."""

    def __init__(self, modes: WindowModes, n_spins: int, assumptions: Assumptions) -> None:
        seen = (modes.modes * modes.law[:, None]).T @ modes.functions  # <phi_l, f~_a>
        seen[0] = 0.0
        times, variances = (seen[1:] ** 2 / modes.gaps[1:, None]).sum(axis=0), (seen**2).sum(axis=0)
        self.slowest_time = float((2 * times / variances - 1).max())
        starts = np.flatnonzero(np.diff(modes.gaps[1:], prepend=-1.0) > SAME * modes.gaps[1:])
        gaps, weights = modes.gaps[1:][starts], np.add.reduceat((seen[1:] ** 2).sum(axis=1), starts)
        relevant = weights > SEEN * weights.sum()
        self.gaps, self.weights, self.assumptions = gaps[relevant], weights[relevant], assumptions
        with np.errstate(divide="ignore"):
            self.sweep_gaps = -np.expm1(n_spins * np.log1p(-np.minimum(self.gaps, 1.0)))
        self.relevant_gap = float(self.gaps[0])
        inside = self._cluster(CLUSTER)
        self.gamma_eff = float(self.weights[inside].sum() / (self.weights[inside] / self.sweep_gaps[inside]).sum())

    def _cluster(self, spread: float) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = self.sweep_gaps <= spread * self.sweep_gaps[0]
        return inside

    def bulk(self) -> Record:
        """A7: the least sweep gap outside of the cluster, or why there is none."""
        outside = ~self._cluster(CLUSTER)
        if not outside.any():
            return {"A7": None, "A7_reason": "the observables see nothing outside of the cluster"}
        return {"A7": float(self.sweep_gaps[outside].min())}

    def changes(self) -> int:
        """A8: how many eigenvalues enter or leave the cluster with the other spreads."""
        sizes = {int(self._cluster(spread).sum()) for spread in (CLUSTER, *self.assumptions.spreads)}
        return max(sizes) - min(sizes)


def _irreversibility(weights: Floats) -> float:
    """A2, by the judge's own code on all states."""
    law, rates = reference.law_and_rates(weights)
    states = np.arange(law.size)
    return max(float(np.abs(law * rate - (law * rate)[states ^ (1 << i)]).max()) for i, rate in enumerate(rates))


def _asymmetry(weights: Floats) -> float:
    """A9, by the judge's own code on all states: law and kernel at x and -x."""
    law, rates = reference.law_and_rates(weights)
    return max(float(np.abs(law - law[::-1]).max()), float(np.abs(rates - rates[:, ::-1]).max()))
