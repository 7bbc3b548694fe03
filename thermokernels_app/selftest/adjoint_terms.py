"""Every labelled term of every adjoint, dropped and bent: the gradient legs have to notice both.

The terms are those that the derivations in ``adjoints/`` label at the end of a line; :func:`labelled_terms` reads them there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import adjoints.alternating_scan
import adjoints.exchangeable
import adjoints.hypernetwork
import adjoints.laws
import adjoints.overlaps
import adjoints.reduced_resolvent
import adjoints.signal_to_noise
import adjoints.small_models
import adjoints.variance_time
from adjoints.cotangents import Cotangents
from thermokernels.model.chain import block_spins
from thermokernels.solvers.state_reduction import solution_differences
from thermokernels_app.selftest import differentiable
from thermokernels_app.selftest.case import Case, Check, patched, under

Sabotage = Callable[[float], AbstractContextManager[Any]]  # of the factor that the term is multiplied with

_time_module: Any = adjoints.variance_time
_overlaps_module: Any = adjoints.overlaps
_signal_module: Any = adjoints.signal_to_noise
_small_module: Any = adjoints.small_models
_asymptotic_module: Any = import_module("adjoints.asymptotic_variance")  # the package has a function of that name
_alternating_module: Any = adjoints.alternating_scan
_exchangeable: Any = adjoints.exchangeable
_reduced: Any = adjoints.reduced_resolvent
_laws: Any = adjoints.laws
_network_module: Any = adjoints.hypernetwork


def labelled_terms() -> set[tuple[str, str]]:
    """(file, label) of every line of a derivation in ``adjoints/``: a comment that ends with its label in parentheses."""
    files = Path(_time_module.__file__).parent.rglob("*.py")
    label = re.compile(r"^ *#.* \(([a-z0-9][a-z0-9 -]*)\)$", re.MULTILINE)
    return {(file.stem, found) for file in files for found in label.findall(file.read_text(encoding="utf-8"))}


# Sabotages, one a term. Compiled kernels are broken where Python calls them.


def _scaled(cotangents: Any, factor: float) -> Cotangents:
    return Cotangents(*(factor * part for part in cotangents))


@contextmanager
def _law_inside(module: Any, outer: str, factor: float) -> Iterator[None]:
    """The derivative of the law multiplied, within one function only."""
    whole, part = getattr(module, outer), module._log_law_cotangents

    def broken(*arguments: Any, **tables: Any) -> Any:
        with patched(module, "_log_law_cotangents", lambda *given: _scaled(part(*given), factor)):
            return whole(*arguments, **tables)

    with patched(module, outer, broken):
        yield


@contextmanager
def _time(factor: float) -> Iterator[None]:
    owner = _time_module.VarianceTimeAdjoint
    whole = owner.cotangents
    with patched(owner, "cotangents", lambda adjoint, time: _scaled(whole(adjoint, time), factor)):
        yield


@contextmanager
def _overlaps(output: int, factor: float) -> Iterator[None]:
    """One output of the kernel that differentiates sum_a z_a' S z_a: 3 visible tables, 4 hidden tables, 5 the diagonal."""
    kernel = _overlaps_module._flip_overlaps

    def broken(*arguments: Any) -> None:
        kernel(*arguments)
        arguments[output][...] *= factor

    with patched(_overlaps_module, "_flip_overlaps", broken):
        yield


@contextmanager
def _rates(table: str, factor: float) -> Iterator[None]:
    """The fields of one block: every dF_i of it comes with its rate."""
    whole = _time_module._cotangents

    def broken(chain: Any, *tables: Any) -> Any:
        return whole(replace(chain, **{table: factor * getattr(chain, table)}), *tables)

    with patched(_time_module, "_cotangents", broken):
        yield


@contextmanager
def _variance(factor: float) -> Iterator[None]:
    whole = _asymptotic_module.variance_cotangents
    with patched(_asymptotic_module, "variance_cotangents", lambda chain: _scaled(whole(chain), factor)):
        yield


@contextmanager
def _alternating(function: str, factor: float) -> Iterator[None]:
    """One term of the potential of the alternating scan."""
    whole = getattr(_alternating_module, function)
    with patched(_alternating_module, function, lambda *given: _alternating_module._scaled(whole(*given), factor)):
        yield


@contextmanager
def _of_classes(function: str, factor: float) -> Iterator[None]:
    """What one function of the gradient by classes returns, an array or two of them."""
    whole = getattr(_exchangeable, function)

    def broken(*given: Any) -> Any:
        result = whole(*given)
        return tuple(factor * part for part in result) if isinstance(result, tuple) else factor * result

    with patched(_exchangeable, function, broken):
        yield


@contextmanager
def _alternating_signal(function: str, factor: float) -> Iterator[None]:
    whole = getattr(_alternating_module, function)
    with patched(_alternating_module, function, lambda *given: _scaled(whole(*given), factor)):
        yield


@contextmanager
def _data_of_classes(factor: float) -> Iterator[None]:
    whole = _exchangeable.signal_gradient
    with patched(_exchangeable, "signal_gradient", lambda chain, law, g: whole(chain, factor * law, g)):
        yield


@contextmanager
def _data(factor: float) -> Iterator[None]:
    whole = _signal_module.signal_cotangents
    with patched(_signal_module, "signal_cotangents", lambda chain, p_data, g: whole(chain, factor * p_data, g)):
        yield


@contextmanager
def _in_one_call(factor: float) -> Iterator[None]:
    """The gradient of a small model, whose terms are those of the modules it stands for."""
    whole = _small_module.q_struct

    def broken(*arguments: Any) -> Any:
        q, cotangents = whole(*arguments)
        cotangents.W[0] *= factor
        return q, cotangents

    with patched(_small_module, "q_struct", broken):
        yield


@contextmanager
def _weights_of_reduction(term: str, factor: float) -> Iterator[None]:
    whole = _reduced.weights

    def broken(time: Any) -> Any:
        law_weights, shares = whole(time)
        through_edges = -0.5 * shares.sum(axis=1)
        if term == "law":
            return factor * (law_weights - through_edges) + through_edges, shares
        if term == "edges":
            return law_weights + (factor - 1.0) * through_edges, factor * shares
        return law_weights, factor * shares

    with patched(_reduced, "weights", broken):
        yield


@contextmanager
def _wide_output(kernel: str, output: int, factor: float) -> Iterator[None]:
    """One output of a kernel of the reduction, numbers with an exponent of their own; a negative position counts from the last."""
    whole = getattr(solution_differences, kernel)

    def broken(*arguments: Any) -> None:
        whole(*arguments)
        arguments[output].mantissa[0] *= factor

    with patched(solution_differences, kernel, broken):
        yield


@contextmanager
def _difference_of_laws(factor: float) -> Iterator[None]:
    whole = _laws._divergence

    def broken(data: Any, log_weight: Any) -> Any:
        terms, difference = whole(data, log_weight)
        return terms, difference + (1.0 - factor) * data

    with patched(_laws, "_divergence", broken):
        yield


@contextmanager
def _pulled_back(output: int, factor: float) -> Iterator[None]:
    """One output of the kernel: 3 couplings, 4 visible field, 5 hidden field."""
    kernel = _laws._pull_back

    def broken(*arguments: Any) -> None:
        kernel(*arguments)
        arguments[output][...] *= factor

    with patched(_laws, "_pull_back", broken):
        yield


@contextmanager
def _log_cosh(factor: float) -> Iterator[None]:
    """tanh F_j replaced by factor * tanh F_j + 1 - factor."""
    kernel = _laws._pull_back

    def broken(columns: Any, c: Any, difference: Any, ct_columns: Any, ct_visible: Any, ct_hidden: Any) -> None:
        without = block_spins(columns.shape[1], difference.size).T @ difference, difference.sum()
        kernel(columns, c, difference, ct_columns, ct_visible, ct_hidden)
        ct_columns[...] = factor * ct_columns + (1.0 - factor) * without[0]
        ct_hidden[...] = factor * ct_hidden + (1.0 - factor) * without[1]

    with patched(_laws, "_pull_back", broken):
        yield


@contextmanager
def _factor_matrix(position: int, factor: float) -> Iterator[None]:
    """B (2) in dA B', or A (1) in A dB'."""
    forward = _network_module._forward

    def broken(*arguments: Any) -> tuple[Any, ...]:
        return tuple(factor * part if index == position else part for index, part in enumerate(forward(*arguments)))

    with patched(_network_module, "_forward", broken):
        yield


@contextmanager
def _output(function: str, change: Callable[[Any, Any, Any], None]) -> Iterator[None]:
    """The output of one of the two functions, parameters along the last axis, changed in place."""
    whole = getattr(_network_module, function)

    def broken(network: Any, u: Any, *cotangent: Any) -> Any:
        result = whole(network, u, *cotangent)
        change(network, u, result)
        return result

    with patched(_network_module, function, broken):
        yield


def _blocks(network: Any) -> dict[str, slice]:
    ends = np.cumsum([0, *(int(np.prod(shape)) for _, shape in network.shape.blocks())])
    return {name: slice(*ends[k : k + 2]) for k, (name, _) in enumerate(network.shape.blocks())}


def _block(function: str, name: str, factor: float) -> AbstractContextManager[None]:
    def change(network: Any, _: Any, result: Any) -> None:
        result[..., _blocks(network)[name]] *= factor

    return _output(function, change)


def _slope_of_tanh(function: str, factor: float) -> AbstractContextManager[None]:
    """1 - z^2 replaced by factor * (1 - z^2) + 1 - factor."""

    def change(network: Any, u: Any, result: Any) -> None:
        z = np.tanh(network.C @ u + network.c0)
        ratio = factor + (1.0 - factor) / (1.0 - z**2)
        result[..., _blocks(network)["c0"]] *= ratio
        result[..., _blocks(network)["C"]] *= np.repeat(ratio, len(u))

    return _output(function, change)


@contextmanager
def _through_the_layer(function: str, name: str, factor: float) -> Iterator[None]:
    """H_A dz or H_B dz, by a network that is handed over with another H; the forward values stay those of the true one."""
    whole, forward = getattr(_network_module, function), _network_module._forward

    def broken(network: Any, u: Any, *cotangent: Any) -> Any:
        with patched(_network_module, "_forward", lambda _, code: forward(network, code)):
            return whole(replace(network, **{name: factor * getattr(network, name)}), u, *cotangent)

    with patched(_network_module, function, broken):
        yield


# (file, label): what is multiplied, in words, the sabotage, and the functions that have to notice.
TERMS: dict[tuple[str, str], list[tuple[str, Sabotage, tuple[str, ...]]]] = {
    ("variance_time", "stationarity"): [
        ("dT_O in dQ", _time, ("q_on_pairs", "q_with_fields")),
        ("the 2 in 2 z' db", lambda factor: _law_inside(_time_module, "_cotangents", 0.5 + 0.5 * factor), ("q_on_pairs",)),
    ],
    ("variance_time", "law"): [
        ("dlog pi in dT_O", partial(_law_inside, _time_module, "_cotangents"), ("q_on_pairs", "q_with_fields")),
        ("dlog pi in dT_O by reduction", partial(_law_inside, _time_module, "_reduced_cotangents"), ("time_by_reduction",)),
    ],
    ("variance_time", "off-diagonal"): [
        ("dS(x, x^i) of visible flips", partial(_overlaps, 3), ("q_on_pairs", "q_with_fields")),
        ("dS(x, x^i) of hidden flips", partial(_overlaps, 4), ("q_on_pairs", "q_with_fields")),
    ],
    ("variance_time", "diagonal"): [("dS(x, x)", partial(_overlaps, 5), ("q_on_pairs", "q_with_fields"))],
    ("variance_time", "fields"): [
        ("dF_i of visible spins", partial(_rates, "visible_rates"), ("q_on_pairs", "q_with_fields")),
        ("dF_j of hidden spins", partial(_rates, "hidden_rates"), ("q_on_pairs", "q_with_fields")),
    ],
    ("signal_to_noise", "model"): [
        ("dE_pi[f] in dg", partial(_law_inside, _signal_module, "signal_cotangents"), ("q_on_pairs", "q_with_fields"))
    ],
    ("signal_to_noise", "data"): [("dE_data[f] in dg", _data, ("q_on_pairs", "q_with_fields"))],
    ("asymptotic_variance", "variance"): [("E_pi[f] dE_pi[f] in dV", _variance, ("asymptotic_variance",))],
    ("asymptotic_variance", "resolvent"): [("dT_O in dV", _time, ("asymptotic_variance",))],
    **{
        ("alternating_scan", label): [
            (words, partial(_alternating, "_" + label.replace(" ", "_")), ("alternating_q_on_pairs", "alternating_q_with_fields"))
        ]
        for label, words in (
            ("lag zero", "dVar f"),
            ("near", "f~ z1"),
            ("far", "f~ eta2"),
            ("forward", "U z2"),
            ("backward", "z1 eta2"),
            ("near norm", "z1 z2"),
            ("far norm", "U eta2"),
        )
    },
    ("alternating_scan", "law of the layers"): [
        ("dE_pi[f] in dg", partial(_alternating_signal, "_signal_of_model"), ("alternating_q_on_pairs", "alternating_q_with_fields"))
    ],
    ("alternating_scan", "data on the layer"): [
        ("dE_data[f] in dg", partial(_alternating_signal, "_signal_of_data"), ("alternating_q_on_pairs", "alternating_q_with_fields"))
    ],
    ("exchangeable", "weights"): [("dlog pi", partial(_of_classes, "magnetisation_products"), ("exchangeable_time",))],
    ("exchangeable", "moves"): [("dS(k, k + 1)", partial(_of_classes, "_of_moves"), ("exchangeable_time",))],
    ("exchangeable", "stays"): [("dS(k, k)", partial(_of_classes, "_of_stays"), ("exchangeable_time",))],
    ("exchangeable", "class fields"): [("dF_c and dF_d", partial(_of_classes, "field_cotangents"), ("exchangeable_time",))],
    ("exchangeable", "class model"): [("dE_pi[m_c m_d] in dg", partial(_of_classes, "covariances"), ("exchangeable_q",))],
    ("exchangeable", "class data"): [("dtanh F_d in dg", _data_of_classes, ("exchangeable_q",))],
    ("reduced_resolvent", "law"): [("dlog pi at y held still", partial(_weights_of_reduction, "law"), ("time_by_reduction",))],
    ("reduced_resolvent", "edges"): [("the Dirichlet form", partial(_weights_of_reduction, "edges"), ("time_by_reduction",))],
    ("reduced_resolvent", "conductance"): [
        ("tanh(F_i) dF_i in dlog c", partial(_weights_of_reduction, "conductance"), ("time_by_reduction",))
    ],
    ("laws", "difference of the laws"): [("p in q - p", _difference_of_laws, ("divergence",))],
    ("laws", "log 2 cosh"): [("tanh F_j", _log_cosh, ("divergence",))],
    ("laws", "hidden fields"): [
        ("dKL/dW", partial(_pulled_back, 3), ("divergence",)),
        ("dKL/dc", partial(_pulled_back, 5), ("divergence",)),
    ],
    ("laws", "visible field"): [("dKL/db", partial(_pulled_back, 4), ("divergence",))],
    ("hypernetwork", "product"): [
        ("dA B'", partial(_factor_matrix, 2), ("couplings_vjp", "couplings_jacobian")),
        ("A dB'", partial(_factor_matrix, 1), ("couplings_vjp", "couplings_jacobian")),
    ],
    ("hypernetwork", "factors"): [
        (f"{words} in {function}", partial(_block, function, name), (function,))
        for function in ("couplings_vjp", "couplings_jacobian")
        for words, name in (("dH_A z", "H_A"), ("da0", "a0"), ("dH_B z", "H_B"), ("db0", "b0"))
    ]
    + [
        (f"{name} dz in {function}", partial(_through_the_layer, function, name), (function,))
        for function in ("couplings_vjp", "couplings_jacobian")
        for name in ("H_A", "H_B")
    ],
    ("hypernetwork", "hidden layer"): [
        (f"{words} in {function}", sabotage, (function,))
        for function in ("couplings_vjp", "couplings_jacobian")
        for words, sabotage in (
            ("1 - z^2", partial(_slope_of_tanh, function)),
            ("dC u", partial(_block, function, "C")),
            ("dc0", partial(_block, function, "c0")),
        )
    ],
}


def cases(gates: Mapping[str, float]) -> list[Case]:
    """Every term dropped, which central differences have to notice, and off by a thousandth, which the complex step has to."""

    @cache
    def legs(name: str) -> Check:
        return cache(differentiable.legs(getattr(differentiable, name)(), gates))

    def made(gate: str, breaks: str, sabotage: Callable[[], AbstractContextManager[Any]], sound: Check) -> Case:
        return Case(gate, breaks, sound, under(sabotage, getattr(sound, "__wrapped__", sound)))

    result = []
    for (file, label), sabotages in TERMS.items():
        for words, sabotage, names in sabotages:
            for name in names:
                where = f"adjoints/{file}.py ({label}): {words}"
                through = f" [{name.replace('_', ' ')}]" if len(names) > 1 else ""
                result.append(made(differentiable.DIFFERENCES, f"{where} dropped{through}", partial(sabotage, 0.0), legs(name)))
                result.append(made(differentiable.COMPLEX, f"{where} times 1.001{through}", partial(sabotage, 1.001), legs(name)))
    breaks = "adjoints/small_models.py: the derivative by one row of W"
    for gate, words, factor in ((differentiable.DIFFERENCES, "dropped", 0.0), (differentiable.COMPLEX, "times 1.001", 1.001)):
        result.append(made(gate, f"{breaks} {words}", partial(_in_one_call, factor), legs("q_in_one_call")))
    sign = "the sign of dT_O in dQ"
    result.append(made(differentiable.COMPLEX, f"adjoints/variance_time.py: {sign} turned", partial(_time, -1.0), legs("q_on_pairs")))
    for kernel, output, words in (("_flows", -3, "squares of differences"), ("_offsets", -1, "offsets along the tree")):
        breaks = f"thermokernels/solvers/state_reduction/solution_differences.py: {words} of one state times 1.001"
        result.append(made(differentiable.REFUSED, breaks, partial(_wide_output, kernel, output, 1.001), legs("time_by_reduction")))
    transpose = cache(differentiable.transposed(gates))
    breaks = "adjoints/hypernetwork.py: dH_A z in couplings_vjp alone times 1.001"
    result.append(made(differentiable.TRANSPOSE, breaks, partial(_block, "couplings_vjp", "H_A", 1.001), transpose))
    return result
