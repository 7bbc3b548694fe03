"""The gradient check of a checkpoint, as P1 (c) rests on it: every leg tripped by a function under test that is a little wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.model.hypernetwork import Hypernetwork, Shape
from thermokernels_app.judges import automatic_differentiation, gradient_check
from thermokernels_app.judges.gradient_check import Functions
from thermokernels_app.selftest.case import Case, Spoken
from thermokernels_app.selftest.differentiable import data_law

NETWORK = Shape(2, 2, 1, 2, 2)

# Numbers of the record of a gradient check that have a gate, and the key of its threshold in the design.
GATES = {
    "value_error": "value",
    "difference_error": "difference",
    "complex_error": "complex",
    "automatic_error": "complex",
    "solution_residual": "solve",
}


def gate_of(number: str, dense: bool = True) -> str:
    """What a leg is called in a report."""
    return f"gradient check: {number}" + ("" if dense else ", past the verified solution")


def _check(thresholds: Mapping[str, Any], dense: bool, with_automatic: bool, change: Callable[[Functions], Functions]) -> Spoken:
    draws = np.random.Generator(np.random.PCG64(11))
    network = Hypernetwork.from_parameters(draws.normal(size=NETWORK.n_parameters), NETWORK)
    directions = draws.normal(size=(2, NETWORK.n_parameters))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    record = gradient_check.gradient_check(
        network,
        np.eye(2),
        np.array([data_law(2), data_law(2)[::-1]]),
        directions,
        change(gradient_check.kernels()),
        steps=(1e-3, 1e-4, 1e-5) if dense else (),
        dense=dense,
        with_automatic=with_automatic,
    )
    spoken: Spoken = {}
    for number, key in GATES.items():
        found = [part[number] for part in (record, *record["directions"]) if part.get(number) is not None]
        if found and not max(found) <= thresholds[key]:
            spoken[gate_of(number, dense)] = f"{max(found):.1e}, gate {thresholds[key]:g}"
    return spoken


def _value(functions: Functions) -> Functions:
    def value(w: Floats, p_data: Floats) -> Any:
        q = functions.value(w, p_data)
        return replace(q, value=q.value * (1.0 + 1e-9))

    return replace(functions, value=value)


def _gradient(factor: float) -> Callable[[Functions], Functions]:
    def change(functions: Functions) -> Functions:
        def value_and_gradient(w: Floats, p_data: Floats) -> tuple[Any, Floats]:
            q, gradient = functions.value_and_gradient(w, p_data)
            return q, factor * gradient

        return replace(functions, value_and_gradient=value_and_gradient)

    return change


def _pulled_back_at_another_code(functions: Functions) -> Functions:
    return replace(functions, vjp=lambda network, u, ct_W: functions.vjp(network, u[::-1], ct_W))


def _solution(functions: Functions) -> Functions:
    """The solution that the check is handed, off by 1e-6; the adjoint was computed from the true one."""

    def value_and_gradient(w: Floats, p_data: Floats) -> tuple[Any, Floats]:
        q, gradient = functions.value_and_gradient(w, p_data)
        time = q.variance_time
        return replace(q, variance_time=replace(time, _kept=(time.right_hand_sides, time.solutions * (1.0 + 1e-6)))), gradient

    return replace(functions, value_and_gradient=value_and_gradient)


def cases(thresholds: Mapping[str, Any]) -> list[Case]:
    """Every leg against the dense reference, and past the verified solution; the JAX leg where it is installed."""
    breaks: list[tuple[str, bool, str, Callable[[Functions], Functions]]] = [
        ("value_error", True, "the value of Q times 1 + 1e-9", _value),
        ("difference_error", True, "dQ/dW times 1.001", _gradient(1.001)),
        ("complex_error", True, "dQ/dW times 1 + 1e-9", _gradient(1.0 + 1e-9)),
        ("complex_error", True, "dQ/dW pulled back at another code", _pulled_back_at_another_code),
        ("complex_error", False, "dQ/dW times 1 + 1e-9", _gradient(1.0 + 1e-9)),
        ("complex_error", False, "a solution of the resolvent off by 1e-6", _solution),
        ("solution_residual", False, "a solution of the resolvent off by 1e-6", _solution),
    ]
    if automatic_differentiation.available():
        breaks.append(("automatic_error", True, "dQ/dW times 1 + 1e-9", _gradient(1.0 + 1e-9)))

    @cache
    def sound(dense: bool, with_automatic: bool) -> Spoken:
        return _check(thresholds, dense, with_automatic, lambda functions: functions)

    made = []
    for number, dense, words, change in breaks:
        options = dense, number == "automatic_error"
        made.append(Case(gate_of(number, dense), words, partial(sound, *options), partial(_check, thresholds, *options, change)))
    return made
