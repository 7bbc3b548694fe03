"""Cases whose answer is known, through the compiled kernels of the cache and through their plain Python bodies.

Closed forms (two states, free spins, independent spins in fields, the ferromagnet's barrier) are written as formulas. The other
constants were computed once with mpmath at 50 digits from dense matrices on all states, by the definitions; the tests compute
them again.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

import adjoints
import thermokernels as tk
from thermokernels.common import arguments
from thermokernels.common.arrays import Floats
from thermokernels.model import extended
from thermokernels.model.chain import GibbsChain
from thermokernels_app.selftest.case import Case, Spoken, patched, under

Fields = NDArray[np.float64] | None

chain_module: Any = import_module("thermokernels.model.chain")

MODELS: dict[str, tuple[Floats, Fields, Fields]] = {
    "general": (np.array([[0.75, -0.5], [0.25, 1.0], [-0.625, 0.375]]), None, None),
    "fields": (np.array([[0.5, -0.25], [1.0, 0.75]]), np.array([0.25, -0.5]), np.array([0.125, 0.375])),
    "cold": (np.array([[9.0, 8.0], [7.0, -9.0]]), None, None),
}
LAW = np.arange(1, 9) / 36.0
WEIGHT = 0.75

CONSTANTS: dict[str, float | list[float]] = {
    "t_obs": 22.090205270514968,
    "signal": 0.24892227966831784,
    "q": 2.817111437173564,
    "dq_dw": [2.772689165817828, -6.849489963227534, -8.226935371460089, 1.7307059853088176, -3.0523782371939245, 6.720206324671415],
    "gap": 0.11653307966697718,
    "log_partition": 4.527273401762972,
    "divergence": 0.2878070431437816,
    "hitting_times": [
        0.0,
        16.7957667903525,
        17.70634058871224,
        22.208394712721713,
        15.405443487700262,
        0.0,
        24.55315833525475,
        17.42568162460802,
        21.830855717279963,
        33.816542983433344,
        18.53951153520219,
        28.418903609886154,
        21.85750113636227,
        23.15950330486631,
        21.187789587533594,
        19.057899531985637,
    ],
    "conductance": 0.2657509119585814,
    "fields t_obs": 11.389502628981088,
    "fields gap": 0.04936757625059587,
    "fields largest hitting time": 65.36679655283166,
    "fields conductance": 0.122305612513495,
    "cold t_obs": 25.261493529996706,
}

# Compiled and plain kernels add up in the same order, but the compiler may fuse a product and a sum.
SAME = 1e-12


@dataclass(frozen=True)
class Answer:
    """A number, or several, that a public function has to give to a relative ``rtol``; ``sabotage`` is what it is tried with."""

    name: str
    compute: Callable[[], Any]
    expected: Any
    sabotage: Callable[[], AbstractContextManager[Any]]
    rtol: float = 1e-12


@contextmanager
def _couplings() -> Iterator[None]:
    """All couplings off by a millionth, as from numbers of an older model."""
    whole = arguments.as_couplings
    with patched(arguments, "as_couplings", lambda W, *name: whole(W, *name) * (1.0 + 1e-6)):
        yield


@contextmanager
def _rates() -> Iterator[None]:
    """All rates off by a millionth, as from an older compiled kernel, and from an older table in long double."""
    kernel = chain_module._fill_tables
    sigmoid = extended._sigmoid

    def broken(*arguments: Any) -> Any:
        found, tables = kernel(*arguments), arguments[-1]
        for table in (tables.visible_rates, tables.visible_flips, tables.hidden_rates, tables.hidden_flips):
            table *= 1.0 - 1e-6
        return found

    with (
        patched(chain_module, "_fill_tables", broken),
        patched(extended, "_sigmoid", lambda fields: sigmoid(fields) * (1.0 - 1e-6)),
    ):
        yield


def _chain(name: str, quotient: bool | None = None) -> GibbsChain:
    return tk.gibbs_chain(*MODELS[name], quotient=quotient)


def _two_states() -> GibbsChain:
    return tk.gibbs_chain([[WEIGHT]])


def _independent() -> float:
    """T_O of free spins in fields: v_i h_j - E = v~ h~ + E[v] h~ + E[h] v~, which relax at 2/N, 1/N and 1/N per step."""
    b, c = (np.tanh(part) for part in MODELS["fields"][1:] if part is not None)
    v, h = (1.0 - b**2)[:, None], (1.0 - c**2)[None, :]
    return float(len([*b, *c]) * (0.5 * v * h + b[:, None] ** 2 * h + c[None, :] ** 2 * v).sum())


def _ferromagnet() -> float:
    """Energy -J M_v M_h on 3 + 3 spins: from -9 J over M_v M_h = -1 at the saddle, J."""
    (event,) = tk.merge_tree(tk.gibbs_chain(np.full((3, 3), 0.5), quotient=False)).events
    return event.barrier


def answers() -> list[Answer]:
    """All cases: a closed form each where there is one, else the constant of that name."""
    logistic = 1.0 / (1.0 + math.exp(-2.0 * WEIGHT))
    variance = 1.0 / math.cosh(WEIGHT) ** 2
    field = MODELS["fields"]
    closed: list[tuple[str, Callable[[], Any], Any, Callable[[], AbstractContextManager[Any]]]] = [
        ("two states: T_O = sech^2 w", lambda: tk.observable_variance_time(_two_states()), variance, _couplings),
        ("two states: gap 1", lambda: tk.spectral_gap(_two_states()), 1.0, _rates),
        ("two states: hitting times", lambda: tk.hitting_times(_two_states(), [1]), [1.0 + math.exp(2.0 * WEIGHT), 0.0], _couplings),
        ("two states: conductance", lambda: tk.conductance(_two_states(), [1]), logistic, _couplings),
        (
            "two states: dT_O/dw",
            lambda: adjoints.observable_variance_time([[WEIGHT]])[1],
            -2.0 * variance * math.tanh(WEIGHT),
            _couplings,
        ),
        ("free spins: T_O = n_v n_h N / 2", lambda: tk.observable_variance_time(tk.gibbs_chain(np.zeros((3, 4)))), 42.0, _rates),
        ("free spins: gap 2 / N", lambda: tk.spectral_gap(tk.gibbs_chain(np.zeros((3, 4)))), 2.0 / 7.0, _rates),
        (
            "independent spins in fields: T_O",
            lambda: tk.observable_variance_time(tk.gibbs_chain(np.zeros((2, 2)), *field[1:])),
            _independent(),
            _rates,
        ),
        ("ferromagnet: barrier 10 J", _ferromagnet, 5.0, _couplings),
    ]
    computed: dict[str, Callable[[], Any]] = {
        "t_obs": lambda: [tk.observable_variance_time(_chain("general"), method) for method in ("cholesky", "cg", "reduction")],
        "signal": lambda: tk.q_struct(MODELS["general"][0], LAW).signal,
        "q": lambda: tk.q_struct(MODELS["general"][0], LAW).value,
        "dq_dw": lambda: np.ravel(adjoints.q_struct(MODELS["general"][0], LAW)[1]),
        "gap": lambda: tk.spectral_gap(_chain("general")),
        "log_partition": lambda: [_chain("general", quotient).log_partition for quotient in (True, False)],
        "divergence": lambda: tk.kl_divergence(LAW, MODELS["general"][0]),
        "hitting_times": lambda: tk.hitting_times(_chain("general"), [0, 5]),
        "conductance": lambda: tk.conductance(_chain("general"), [0, 1, 2, 3]),
        "fields t_obs": lambda: tk.observable_variance_time(_chain("fields")),
        "fields gap": lambda: tk.spectral_gap(_chain("fields")),
        "fields largest hitting time": lambda: tk.hitting_times(_chain("fields"), [0]).max(),
        "fields conductance": lambda: tk.conductance(_chain("fields"), np.arange(0, 16, 2)),
        "cold t_obs": lambda: tk.observable_variance_time(_chain("cold"), "reduction"),
    }
    made = [Answer(name, compute, expected, sabotage) for name, compute, expected, sabotage in closed]
    return made + [Answer(f"mpmath: {name}", compute, CONSTANTS[name], _couplings) for name, compute in computed.items()]


def evaluate() -> dict[str, list[float]]:
    """Every answer as the kernels of this process give it."""
    return {answer.name: [float(part) for part in np.ravel(answer.compute())] for answer in answers()}


@cache
def plain() -> dict[str, list[float]]:
    """Every answer by the plain Python bodies of the kernels, in a process that does not compile."""
    code = f"from {__name__} import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the plain kernels could not be run: {done.stderr.strip().splitlines()[-1:]}")
    return {name: [float.fromhex(text) for text in texts] for name, texts in json.loads(done.stdout).items()}


def main() -> None:
    """What :func:`plain` runs."""
    print(json.dumps({name: [value.hex() for value in values] for name, values in evaluate().items()}))


def gate_of(answer: Answer) -> str:
    """What a known answer is called in a report."""
    return f"known answer: {answer.name}"


PLAIN = "compiled kernels = their plain Python bodies"


def _error(found: Any, expected: Any) -> float:
    found, expected = (np.asarray(values, dtype=np.float64).ravel() for values in (found, expected))
    scale = np.where(expected == 0.0, 1.0, np.abs(expected))
    return float((np.abs(found - expected) / scale).max())


def _check(answer: Answer) -> Spoken:
    error = _error(answer.compute(), answer.expected)
    return {} if error <= answer.rtol else {gate_of(answer): f"relative error {error:.1e}, gate {answer.rtol:g}"}


def _compiled_is_plain() -> Spoken:
    bodies = plain()
    errors = {name: _error(values, bodies[name]) for name, values in evaluate().items()}
    worst = max(errors, key=errors.__getitem__)
    return {} if errors[worst] <= SAME else {PLAIN: f"{worst} differs by {errors[worst]:.1e}, gate {SAME:g}"}


def cases() -> list[Case]:
    """Every known answer with numbers of an older model or kernel, and the plain bodies against a compiled kernel that is another."""
    made = []
    for answer in answers():
        check = partial(_check, answer)
        words = "all couplings off by 1e-6" if answer.sabotage is _couplings else "all rates off by 1e-6"
        made.append(Case(gate_of(answer), words, check, under(answer.sabotage, check)))
    return [*made, Case(PLAIN, "all rates off by 1e-6", _compiled_is_plain, under(_rates, _compiled_is_plain))]
