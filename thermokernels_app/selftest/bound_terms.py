"""Every term of a bound, dropped: an error of known size is planted in what the term stands for, and the bound no longer covers it.

Rounding lies far below its bounds, so that a bound without one of its terms would still hold in every run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import thermokernels as tk
from adjoints import extended
from adjoints.variance_time import VarianceTimeAdjoint
from thermokernels.compiled import wide_exponent
from thermokernels.diagnosis import diagnose
from thermokernels.model import rounding
from thermokernels.quantities import conductance, landscape, signal_to_noise, spectral_gap
from thermokernels.quantities.autocorrelation_times import autocorrelation
from thermokernels.quantities.relevance import observable_basis
from thermokernels.quantities.variance_time import variance_time
from thermokernels.solvers.gap_bounds import gap_lower_bound
from thermokernels.solvers.resolvent import Solution
from thermokernels.solvers.row_sums import N_SUMS
from thermokernels.solvers.state_reduction import reduced_resolvent, solution_differences
from thermokernels_app.selftest.case import Case, Spoken, patched

W = np.array([[1.1, -0.3, 0.2], [0.4, 0.9, -0.6]])
PLANTED = 1e-3
# What is of second order in the planted error, and rounding.
SLACK = 1 + 3 * PLANTED

# Each returns the error that was planted and the bound, its term multiplied by ``share``.
Planted = Callable[[float], tuple[float, float]]


def _temple(share: float) -> tuple[float, float]:
    """In two dimensions Temple's bound is the eigenvalue itself."""
    lowest, next_, angle = 0.2, 0.9, 0.1
    value = lowest * math.cos(angle) ** 2 + next_ * math.sin(angle) ** 2
    residual = math.cos(angle) * math.sin(angle) * (next_ - lowest)
    return value - lowest, value - spectral_gap._temple(value, math.sqrt(share) * residual, 0.0, next_)


def _law(share: float) -> tuple[float, float]:
    # Of both layers, energies carry their remainders. A rare state: a probable one takes most of its error out again by the sum.
    chain = tk.gibbs_chain(2 * W.T, kernel="alternating-visible")
    rare, energy = int(chain.law.argmin()), chain.energy - PLANTED
    energy[rare] += 2 * PLANTED
    weights = np.exp(energy.min() - energy)
    with patched(rounding, "marginal_error", lambda _: share * PLANTED):
        return float(1 - (weights / weights.sum())[rare] / chain.law[rare]), rounding.law_error(chain)


def _barrier(share: float) -> tuple[float, float]:
    chain = tk.gibbs_chain(np.array([[2.0, 0.1], [0.3, 1.5]]))
    (event, *_), energy = landscape.merge_tree(chain).events, chain.energy.copy()
    energy[np.isclose(energy, event.saddle_energy)] += PLANTED
    energy[np.flatnonzero(event.dying)[chain.energy[event.dying].argmin()]] -= PLANTED
    (moved, *_) = landscape.merge_tree(replace(chain, energy=energy)).events
    with patched(landscape, "energy_error", lambda _: share * PLANTED):
        return moved.barrier - event.barrier, landscape.merge_tree(chain).barrier_error


def _conductance(share: float, of_entries: bool) -> tuple[float, float]:
    chain = tk.gibbs_chain(W)
    mask = np.arange(chain.n_states) < 5
    if of_entries:
        off = replace(chain, visible_rates=(1 + PLANTED) * chain.visible_rates, hidden_rates=(1 + PLANTED) * chain.hidden_rates)
    else:  # the flow goes with the roots of two probabilities, and is divided by the mass of the smaller side
        law = chain.law.copy()
        law[mask if law[mask].sum() < 0.5 else ~mask] *= 1 - PLANTED
        off = replace(chain, law=law, root_law=chain.root_law * (1 + PLANTED / 2))
    missed = abs(tk.conductance(off, mask) / tk.conductance(chain, mask) - 1)
    with ExitStack() as stack:
        for name, own in (("entry_error", of_entries), ("law_error", not of_entries)):
            stack.enter_context(patched(conductance, name, lambda _, own=own: share * PLANTED if own else 0.0))
        return missed, conductance.conductance_error(chain)


def _relevance(share: float) -> tuple[float, float]:
    basis = observable_basis(tk.gibbs_chain(W))
    mask = basis.chain.law.argsort()[:6]
    distortion = (1 + PLANTED) ** 2 - 1 + basis.distortion
    value, bound = replace(basis, coefficients=(1 + PLANTED) * basis.coefficients, distortion=share * distortion).enclosed_relevance(mask)
    return abs(value - basis.relevance(mask)), bound


def _autocorrelation(share: float) -> tuple[float, float]:
    chain = tk.gibbs_chain(W)
    function = chain.energy - chain.law @ chain.energy
    transitions = chain.transition_matrix()
    time = (chain.law * function) @ np.linalg.inv(np.eye(chain.n_states) - transitions + chain.law) @ function
    gap = 1 - float(np.sort(np.linalg.eigvals(transitions).real)[-2])
    slower = (math.sqrt(time) + PLANTED / math.sqrt(gap)) ** 2
    narrower = (math.sqrt(chain.law @ function**2) - PLANTED) ** 2
    (tau,), (error,), _ = autocorrelation.autocorrelation_times(chain, function[:, None], gap_bound=gap, function_error=share * PLANTED)
    return 2 * slower / narrower - 1 - float(tau), float(error)


def _window(share: float) -> tuple[float, float]:
    data = [0.4, 0.3, 0.2, 0.1]
    right, solve = tk.diagnose(W, p_data=data).window_for_unit_q, signal_to_noise.q_struct_of

    def off(*arguments: Any) -> Any:
        q = solve(*arguments)
        return replace(q, signal=(1 + PLANTED) * q.signal, value=(1 + PLANTED) * q.value, signal_bound=share * PLANTED * q.signal)

    with patched(diagnose, "q_struct_of", off):
        found = tk.diagnose(W, p_data=data).window_for_unit_q
    assert right.value is not None
    assert found.value is not None
    assert found.error is not None
    return abs(found.value - right.value), found.error


def _reduction(share: float) -> tuple[float, float]:
    chain = tk.gibbs_chain(W)
    solve: Any = solution_differences._offsets
    right = float(reduced_resolvent.variance_time(chain).total.to_floats())

    def off(rates: Any, pivots: Any, parents: Any, sources: Any, offsets: Any) -> None:
        solve(rates, pivots, parents, sources, offsets)
        offsets.mantissa[:] *= 1 + PLANTED

    dissipation = solution_differences._dissipation
    factor = wide_exponent.from_floats(np.array(share))
    with (
        patched(solution_differences, "_offsets", off),
        patched(solution_differences, "_dissipation", lambda *arguments: wide_exponent.product(factor, dissipation(*arguments))),
    ):
        time = reduced_resolvent.variance_time(chain)
    value = float(time.total.to_floats())
    return abs(value - right), time.relative_bound * value


def _gradient(share: float) -> tuple[float, float]:
    """The solution longer by the planted share: of two states with one coupling z is b, and dlog pi nearly 2 where b is."""
    chain = tk.gibbs_chain([[2.0]])
    system = variance_time(chain)
    sources, solutions = system.right_hand_sides, system.solutions

    def gradient(factor: float) -> float:
        adjoint = VarianceTimeAdjoint(chain)
        adjoint.add(slice(0, 1), sources, Solution(factor * solutions, np.empty((1, N_SUMS)), 0.0, 0, "cg"))
        return float(adjoint.sums().W[0, 0])

    vectors = (1 + PLANTED) * solutions
    residuals = sources - chain.apply_symmetrised_generator(vectors)
    norms = [np.linalg.norm(rows, axis=1) for rows in (residuals, vectors, share * sources, vectors)]
    bound = extended.bilinear_error(extended.Norms(*norms), chain.n_spins, 1 / gap_lower_bound(chain), 0.0, 0.0, 0.0, 0.0)
    return abs(gradient(1 + PLANTED) - gradient(1.0)), bound


# By gate: the sabotage in words, what is planted, and the share of the term that is left.
TERMS: dict[str, tuple[str, Planted, float]] = {
    "a gap: the square of a residual": ("a quarter of Temple's residual^2 left", _temple, 0.25),
    "a law: the errors of two energies": ("half of law_error left", _law, 0.5),
    "a barrier: the errors of a pass and a minimum": ("half of barrier_error left", _barrier, 0.5),
    "a conductance: the error of the entries": ("conductance_error without the entries", partial(_conductance, of_entries=True), 0.0),
    "a conductance: the error of the law": ("conductance_error without the law", partial(_conductance, of_entries=False), 0.0),
    "a relevance: the distortion of the basis": ("relevance without its distortion", _relevance, 0.0),
    "an autocorrelation time: the error of the function": ("half of the error of the function left", _autocorrelation, 0.5),
    "a window for Q = 1: the error of the signal": ("the window without the error of the signal", _window, 0.0),
    "a gradient: errors of solutions beside sources": ("the gradient bound without 2 errors sources", _gradient, 0.0),
    "T_O by reduction: the residual of the differences": ("the bound without the energy of the error", _reduction, 0.0),
}


def gate_of(term: str) -> str:
    return f"bound of {term}"


def _check(term: str, share: float) -> Spoken:
    missed, bound = TERMS[term][1](share)
    return {} if missed <= bound * SLACK else {gate_of(term): f"an error of {missed:.3g} was planted, the bound says {bound:.3g}"}


def cases() -> list[Case]:
    """Every term, whole and dropped."""
    return [
        Case(gate_of(term), words, partial(_check, term, 1.0), partial(_check, term, share)) for term, (words, _, share) in TERMS.items()
    ]
