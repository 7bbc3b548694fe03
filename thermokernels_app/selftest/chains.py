"""The battery of P3 and the refusals of the kernels, each tripped by a chain, a solution or a cut that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import thermokernels as tk
from thermokernels.common import errors
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NotConvergedError, NotReversibleError, UnresolvedError
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels.model.kernels import single_site
from thermokernels.quantities import variance_time
from thermokernels.solvers.small import small_cholesky
from thermokernels.solvers.solve import Solve
from thermokernels_app.judges import battery
from thermokernels_app.selftest.case import Case, Spoken, patched, refused, under
from thermokernels_app.selftest.differentiable import data_law

WEIGHTS = np.array([[0.9, -0.5, 0.3], [0.2, 1.1, -0.7], [-0.4, 0.6, 0.8]])
TARGET = (0, 5)


def gate_of(check: str) -> str:
    """What a check of the battery is called in a report."""
    return f"battery: {check}"


def refusal(error: type[Exception]) -> str:
    """What a refusal of the kernels is called in a report."""
    return f"refusal: {error.__name__}"


REFUSALS = tuple(refusal(error) for error in errors.NumericalError.__subclasses__())
QUOTIENT = "refusal: quotient=True"


class _OtherSpins(GibbsChain):
    """A chain that names its states in the opposite order of bits."""

    def spins(self) -> NDArray[np.int8]:
        return super().spins()[:, ::-1]


def _examine(thresholds: Mapping[str, Any], change: Callable[[dict[str, Any]], None] = lambda parts: None) -> Spoken:
    """The whole battery on a chain with everything that belongs to it; ``change`` has the arguments before they are handed over."""
    chain = gibbs_chain(WEIGHTS)
    cuts = np.array([event.dying for event in tk.merge_tree(chain).events] or [chain.spins()[:, 0] > 0])
    target = np.isin(np.arange(chain.n_states), TARGET)
    parts: dict[str, Any] = {
        "chain": chain,
        "residual": variance_time.variance_time(chain).residual,
        "gap": tk.spectral_gap(chain),
        "cuts": cuts,
        "conductances": [tk.conductance(chain, cut) for cut in cuts],
        "times": tk.hitting_times(chain, target),
        "target": target,
    }
    change(parts)
    times, target = parts.pop("times"), parts.pop("target")
    certificate = battery.hitting_certificate(chain, times, target)
    found = battery.examine(
        parts.pop("chain"), solver_residual=parts.pop("residual"), hitting_residuals=[certificate], thresholds=thresholds, **parts
    )
    return {gate_of(check.name): str(check) for check in found.checks if not check.met}


# Changes of what is handed to the battery.


def _alternating(parts: dict[str, Any]) -> None:
    parts["chain"] = gibbs_chain(WEIGHTS, kernel="alternating")


def _of_chain(**changes: Callable[[GibbsChain], Any]) -> Callable[[dict[str, Any]], None]:
    def change(parts: dict[str, Any]) -> None:
        chain = parts["chain"]
        parts["chain"] = replace(chain, **{name: value(chain) for name, value in changes.items()})

    return change


def _other_spins(parts: dict[str, Any]) -> None:
    chain = parts["chain"]
    parts["chain"] = _OtherSpins(**{item.name: getattr(chain, item.name) for item in fields(chain)})


def _solved_loosely(parts: dict[str, Any]) -> None:
    parts["residual"] = variance_time.variance_time(parts["chain"], Solve("cg", 1e-4)).residual


def _factor(name: str, factor: float) -> Callable[[dict[str, Any]], None]:
    def change(parts: dict[str, Any]) -> None:
        parts[name] = factor * np.asarray(parts[name])

    return change


def _one_time_off(parts: dict[str, Any]) -> None:
    parts["times"] = parts["times"] * np.where(np.arange(len(parts["times"])) == 3, 1.0 + 1e-6, 1.0)


def _another_target(parts: dict[str, Any]) -> None:
    parts["times"] = tk.hitting_times(parts["chain"], [TARGET[0]])


def _times_of_infinity(parts: dict[str, Any]) -> None:
    parts["times"] = np.where(parts["times"] > 0.0, np.inf, 0.0)


def _gap_of_free_spins(parts: dict[str, Any]) -> None:
    parts["gap"] = tk.spectral_gap(gibbs_chain(np.zeros_like(WEIGHTS)))
    parts["conductances"], parts["cuts"] = [0.1 * min(parts["conductances"])], None


def _gap_just_above(parts: dict[str, Any]) -> None:
    parts["gap"] = 2.0 * min(parts["conductances"]) + 1e-9


def _conductance_of_another_cut(parts: dict[str, Any]) -> None:
    parts["conductances"][0] = tk.conductance(parts["chain"], ~np.isin(np.arange(parts["chain"].n_states), TARGET))


# Kernels broken where Python calls them.


@contextmanager
def _leaking_step() -> Iterator[None]:
    kernel: Any = single_site._apply_generator

    def broken(rows: Floats, *arguments: Any) -> None:
        kernel(rows, *arguments)
        arguments[-1][...] += 1e-9 * rows

    with patched(single_site, "_apply_generator", broken):
        yield


@contextmanager
def _states_that_are_no_complements() -> Iterator[None]:
    """The judge's table of states with one spin that does not change sign: products with it are odd."""
    whole = battery._observable_asymmetry

    def table(n_spins: int) -> NDArray[np.int8]:
        spins: NDArray[np.int8] = battery_spins(n_spins).copy()
        spins[:, 0] = 1
        return spins

    with patched(battery, "_spins", table) as battery_spins, patched(battery, "_observable_asymmetry", whole.__wrapped__):
        yield


@contextmanager
def _perturbed_solver() -> Iterator[None]:
    solver: Any = small_cholesky._solve

    def broken(*arguments: Any) -> None:
        solver(*arguments)
        arguments[-1][0] *= 1.0 + 1e-8

    with patched(small_cholesky, "_solve", broken):
        yield


BREAKS: list[tuple[str, str, Callable[[dict[str, Any]], None]]] = [
    ("reversibility", "the alternating kernel, which has no detailed balance", _alternating),
    ("stationarity", "flip probabilities of +1 and -1 exchanged", _of_chain(visible_flips=lambda chain: chain.visible_flips[::-1].copy())),
    ("symmetry_law", "a model with fields on the quotient", _of_chain(model=lambda chain: tk.Model(WEIGHTS, b=[0.3, 0.0, 0.0]))),
    ("symmetry_kernel", "a model with fields on the quotient", _of_chain(model=lambda chain: tk.Model(WEIGHTS, b=[0.3, 0.0, 0.0]))),
    ("agreement", "couplings off by 1e-6 between kernel and judge", _of_chain(model=lambda chain: tk.Model(WEIGHTS + 1e-6))),
    ("agreement", "the law of another order of states", _of_chain(law=lambda chain: chain.law[::-1].copy())),
    ("agreement", "a table of flip probabilities off by 1e-9", _of_chain(hidden_flips=lambda chain: chain.hidden_flips * (1 + 1e-9))),
    ("agreement", "states named in the opposite order of bits", _other_spins),
    ("agreement", "the conductance of another cut", _conductance_of_another_cut),
    ("agreement", "conductances off by 1e-6", _factor("conductances", 1.0 + 1e-6)),
    ("solver_residual", "a resolvent solved to 1e-4 only", _solved_loosely),
    ("hitting_residual", "one hitting time off by 1e-6", _one_time_off),
    ("hitting_residual", "hitting times of the wrong sign", _factor("times", -1.0)),
    ("hitting_residual", "hitting times of another target", _another_target),
    ("hitting_residual", "hitting times that are infinite", _times_of_infinity),
    ("cheeger_margin", "a gap 1e-9 above twice the least conductance", _gap_just_above),
    ("cheeger_margin", "the gap of free spins and a tenth of the least conductance", _gap_of_free_spins),
]


def cases(gates: Mapping[str, Any]) -> list[Case]:
    """Every check of the battery and every class of refusal."""
    whole = cache(partial(_examine, gates))
    made = [Case(gate_of(check), breaks, whole, partial(_examine, gates, change)) for check, breaks, change in BREAKS]
    sabotaged = (
        ("row_sum", "a step that gains 1e-9", _leaking_step),
        ("symmetry_observables", "a spin that does not change sign from x to -x", _states_that_are_no_complements),
    )
    made += [Case(gate_of(check), breaks, whole, under(sabotage, partial(_examine, gates))) for check, breaks, sabotage in sabotaged]

    solved = refused(refusal(NotConvergedError), NotConvergedError, partial(tk.q_struct, WEIGHTS, data_law(3), method="cholesky"))
    made.append(Case(refusal(NotConvergedError), "a solution of the resolvent off by 1e-8", solved, under(_perturbed_solver, solved)))
    made.append(_refusal(NotReversibleError, "the gap of the alternating kernel", _gap_of_kernel, "single-site", "alternating"))
    made.append(_refusal(UnresolvedError, "a gap of 1e-348, that of a ferromagnet with couplings 200", _gap, 0.5, 200.0))
    sound = refused(QUOTIENT, ValueError, partial(gibbs_chain, WEIGHTS, quotient=True))
    broken = refused(QUOTIENT, ValueError, partial(gibbs_chain, WEIGHTS, np.ones(3), quotient=True))
    return [*made, Case(QUOTIENT, "the quotient demanded for a model with fields", sound, broken)]


def _refusal(error: type[Exception], breaks: str, function: Callable[[Any], Any], ordinary: Any, broken: Any) -> Case:
    gate = refusal(error)
    return Case(gate, breaks, refused(gate, error, partial(function, ordinary)), refused(gate, error, partial(function, broken)))


def _gap_of_kernel(kernel: str) -> float:
    return tk.spectral_gap(gibbs_chain(WEIGHTS, kernel=kernel))


def _gap(coupling: float) -> float:
    return tk.spectral_gap(gibbs_chain(np.full((2, 2), coupling), quotient=False))
