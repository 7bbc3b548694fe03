"""What every adjoint is held against: central differences of the kernel's value, and the complex step of a dense reference.

Each is a number as a function of one flat vector at a small, unsymmetric point, with its hand-written gradient and an analytic reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import adjoints
import thermokernels as tk
from adjoints import hypernetwork as hypernet_adjoint
from adjoints import laws as rbm_adjoint
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NumericalError
from thermokernels.model.hypernetwork import Hypernetwork, Shape
from thermokernels_app.judges import reference
from thermokernels_app.judges.gradient_check import relative_errors
from thermokernels_app.selftest.case import Check, Spoken

Array = NDArray[Any]

DIFFERENCES, COMPLEX, TRANSPOSE = "gradient: central differences", "gradient: complex step", "gradient: <J v, w> = <v, J' w>"
REFUSED = "gradient: refused by the adjoint itself"
LEGS = (DIFFERENCES, COMPLEX, TRANSPOSE)
STEPS = (1e-3, 1e-4, 1e-5)
NETWORK = Shape(3, 2, 2, 2, 3)


@dataclass(frozen=True)
class Differentiable:
    """A number as a function of a flat vector: the adjoint under test, the kernel's value, and the reference on complex vectors."""

    point: Floats
    gradient: Callable[[Floats], Floats]
    value: Callable[[Floats], float]
    analytic: Callable[[Array], Any]


def legs(function: Differentiable, gates: Mapping[str, float]) -> Check:
    """Both legs along every coordinate, by the registered gates ``complex`` and ``difference``."""

    @cache
    def judges() -> tuple[float, Floats, list[Floats]]:
        """Value, slopes by complex steps, and by central differences at every h: nothing in them is the adjoint's."""
        point, unit = function.point, np.eye(function.point.size)
        slopes = np.array([function.analytic(point + 1j * reference.STEP * axis).imag / reference.STEP for axis in unit])
        by_step = [
            np.array([(function.value(point + h * axis) - function.value(point - h * axis)) / (2.0 * h) for axis in unit]) for h in STEPS
        ]
        return function.value(point), slopes, by_step

    def check() -> Spoken:
        value, slopes, by_step = judges()
        try:
            adjoint = function.gradient(function.point)
        except NumericalError as refusal:
            return {REFUSED: str(refusal)}
        complex_error = float(relative_errors(adjoint, slopes, value).max())
        difference_error = float(np.min([relative_errors(adjoint, column, value) for column in by_step], axis=0).max())
        spoken: Spoken = {}
        for gate, key, error in ((DIFFERENCES, "difference", difference_error), (COMPLEX, "complex", complex_error)):
            if not error <= gates[key]:
                spoken[gate] = f"relative error {error:.1e}, gate {gates[key]:g}"
        return spoken

    return check


def transposed(gates: Mapping[str, float]) -> Check:
    """<J v, w> = <v, J' w> of the hypernetwork's Jacobian and its vector-Jacobian product."""
    network, code, draws = _network(), _code(), _draws(9)
    v, w = draws.normal(size=network.n_parameters), draws.normal(size=(3, 2))

    def check() -> Spoken:
        forward = float(hypernet_adjoint.couplings_jacobian(network, code) @ v @ w.ravel())
        pulled = hypernet_adjoint.couplings_vjp(network, code, w)
        error = abs(forward - float(pulled @ v)) / float(np.linalg.norm(pulled) * np.linalg.norm(v))
        return {} if error <= gates["complex"] else {TRANSPOSE: f"they differ by {error:.1e}, gate {gates['complex']:g}"}

    return check


def _draws(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([2026, seed]))


def data_law(n_visible: int) -> Floats:
    """A law on the visible states that no small model reproduces."""
    return _draws(n_visible).dirichlet(np.ones(2**n_visible))


def _split(x: Array, shape: tuple[int, int]) -> tuple[Array, Array, Array]:
    W, b, c = np.split(x, np.cumsum([shape[0] * shape[1], shape[0]]))
    return W.reshape(shape), b, c


def _joined(cotangents: Any) -> Floats:
    return np.concatenate([np.asarray(part).ravel() for part in cotangents])


def q_on_pairs() -> Differentiable:
    """Q as a function of W on pairs {x, -x}."""
    shape, law = (3, 2), data_law(3)
    return Differentiable(
        0.8 * _draws(0).normal(size=6),
        lambda x: adjoints.q_struct(x.reshape(shape), law, method="cg")[1].ravel(),
        lambda x: tk.q_struct(x.reshape(shape), law).value,
        lambda x: reference.q_struct(x.reshape(shape), law).value,
    )


def q_in_one_call() -> Differentiable:
    """The same for a small model, compiled from couplings to derivatives."""
    shape, law = (3, 2), data_law(3)
    return Differentiable(
        0.8 * _draws(0).normal(size=6),
        lambda x: adjoints.q_struct(x.reshape(shape), law)[1].ravel(),
        lambda x: tk.q_struct(x.reshape(shape), law, method="cg").value,
        lambda x: reference.q_struct(x.reshape(shape), law).value,
    )


def q_with_fields() -> Differentiable:
    """Q as a function of W, b and c on all states."""
    shape, law = (2, 3), data_law(2)

    def gradient(x: Floats) -> Floats:
        W, b, c = _split(x, shape)
        return _joined(adjoints.q_struct(W, law, b=b, c=c, fields=True, method="cg")[1])

    def value(x: Floats) -> float:
        W, b, c = _split(x, shape)
        return tk.q_struct(W, law, b=b, c=c).value

    def analytic(x: Array) -> Any:
        W, b, c = _split(x, shape)
        return reference.q_struct(W, law, b=b, c=c).value

    return Differentiable(0.7 * _draws(1).normal(size=11), gradient, value, analytic)


def time_by_reduction() -> Differentiable:
    """T_O by state reduction as a function of W, b and c."""
    shape = (2, 2)

    def gradient(x: Floats) -> Floats:
        return _joined(adjoints.observable_variance_time(*_split(x, shape), method="reduction", fields=True)[1])

    def value(x: Floats) -> float:
        return tk.observable_variance_time(tk.gibbs_chain(*_split(x, shape)), method="reduction")

    def analytic(x: Array) -> Any:
        W, b, c = _split(x, shape)
        return reference.q_struct(W, data_law(2), b=b, c=c).t_obs

    return Differentiable(_draws(2).normal(size=8), gradient, value, analytic)


def asymptotic_variance() -> Differentiable:
    """V = 2 T_O - sum_a Var f_a as a function of W, b and c."""
    shape = (2, 3)

    def analytic(x: Array) -> Any:
        W, b, c = _split(x, shape)
        means = reference.correlations(reference.law_and_rates(W, b, c)[0], *shape)
        return 2 * reference.q_struct(W, data_law(2), b=b, c=c).t_obs - W.size + (means**2).sum()

    return Differentiable(
        0.8 * _draws(7).normal(size=11),
        lambda x: _joined(adjoints.asymptotic_variance(*_split(x, shape), fields=True)[1]),
        lambda x: tk.asymptotic_variance(tk.gibbs_chain(*_split(x, shape))),
        analytic,
    )


def alternating_q_on_pairs() -> Differentiable:
    """Q of the alternating scan as a function of W on pairs {x, -x}; the hidden layer is the smaller one."""
    shape, law = (3, 2), data_law(3)
    return Differentiable(
        0.8 * _draws(8).normal(size=6),
        lambda x: adjoints.q_struct(x.reshape(shape), law, kernel="alternating")[1].ravel(),
        lambda x: tk.q_struct(x.reshape(shape), law, kernel="alternating").value,
        lambda x: reference.alternating_q_struct(x.reshape(shape), law).value,
    )


def alternating_q_with_fields() -> Differentiable:
    """Q of the alternating scan as a function of W, b and c on all states."""
    shape, law = (2, 3), data_law(2)

    def gradient(x: Floats) -> Floats:
        W, b, c = _split(x, shape)
        return _joined(adjoints.q_struct(W, law, b=b, c=c, fields=True, kernel="alternating")[1])

    def value(x: Floats) -> float:
        W, b, c = _split(x, shape)
        return tk.q_struct(W, law, b=b, c=c, kernel="alternating").value

    def analytic(x: Array) -> Any:
        W, b, c = _split(x, shape)
        return reference.alternating_q_struct(W, law, b=b, c=c).value

    return Differentiable(0.7 * _draws(9).normal(size=11), gradient, value, analytic)


# Sites of the classes of an exchangeable model; fields tell classes with the same couplings apart, and signs are its gauge.
VISIBLE_CLASSES, HIDDEN_CLASSES = np.array([0, 0, 1]), np.array([0, 1, 1])


def _exchangeable(w: Array) -> tuple[Array, Floats, Floats]:
    signs, others = np.array([1.0, -1.0, 1.0]), np.array([1.0, 1.0, -1.0])  # the first site of a class is the one that is not turned
    W = signs[:, None] * w.reshape(2, 2)[np.ix_(VISIBLE_CLASSES, HIDDEN_CLASSES)] * others
    return W, signs * np.array([0.3, -0.2])[VISIBLE_CLASSES], others * np.array([0.1, 0.4])[HIDDEN_CLASSES]


def exchangeable_time() -> Differentiable:
    """T_O of a model with exchangeable sites as a function of the couplings of its classes."""

    def analytic(x: Array) -> Any:
        W, b, c = _exchangeable(x)
        return reference.q_struct(W, data_law(3), b=b, c=c).t_obs

    return Differentiable(
        0.8 * _draws(8).normal(size=4),
        lambda x: adjoints.exchangeable_variance_time(tk.exchangeable_chain(*_exchangeable(x)), 1e-13)[1].ravel(),
        lambda x: tk.observable_variance_time(tk.exchangeable_chain(*_exchangeable(x))),
        analytic,
    )


def exchangeable_q() -> Differentiable:
    """Q of that model, for a law of the data that is symmetric."""
    counts = np.array([0.1, 0.3, 0.05, 0.25, 0.2, 0.1])  # numbers of -1 spins: 0, 1, 2 in the first class, 0, 1 in the second
    states = np.arange(8)
    spins = reference.spins(3) * np.array([1.0, -1.0, 1.0])
    number = (spins[:, :2] < 0).sum(axis=1) + 3 * (spins[:, 2] < 0)
    law = (counts / np.bincount(number))[number[states]]

    def analytic(x: Array) -> Any:
        W, b, c = _exchangeable(x)
        return reference.q_struct(W, law, b=b, c=c).value

    return Differentiable(
        0.8 * _draws(8).normal(size=4),
        lambda x: adjoints.exchangeable_q(tk.exchangeable_chain(*_exchangeable(x)), counts)[1].ravel(),
        lambda x: tk.exchangeable_q(tk.exchangeable_chain(*_exchangeable(x)), counts).value,
        analytic,
    )


def divergence() -> Differentiable:
    """KL(p_data || visible law) as a function of W, b and c."""
    shape, law = (3, 2), data_law(3)

    def gradient(x: Floats) -> Floats:
        return _joined(rbm_adjoint.kl_divergence(law, *_split(x, shape), fields=True)[1])

    def analytic(x: Array) -> Any:
        W, b, c = _split(x, shape)
        visible = reference.spins(3)
        fields = visible @ W + c
        log_weight = visible @ b + np.log(np.exp(fields) + np.exp(-fields)).sum(axis=1)
        return law @ (np.log(law) - log_weight) + np.log(np.exp(log_weight).sum())

    return Differentiable(_draws(3).normal(size=11), gradient, lambda x: tk.kl_divergence(law, *_split(x, shape)), analytic)


def _network() -> Hypernetwork:
    return Hypernetwork.from_parameters(_draws(4).normal(size=NETWORK.n_parameters), NETWORK)


def _code() -> Floats:
    return _draws(5).normal(size=NETWORK.n_codes)


def _of_network(pull_back: Callable[[Hypernetwork, Floats, Floats], Floats]) -> Differentiable:
    network, code, weights = _network(), _code(), _draws(6).normal(size=NETWORK[:2])
    return Differentiable(
        network.parameters(),
        lambda phi: pull_back(Hypernetwork.from_parameters(phi, NETWORK), code, weights),
        lambda phi: float((weights * tk.couplings(Hypernetwork.from_parameters(phi, NETWORK), code)).sum()),
        lambda phi: (weights * reference.couplings(phi, code, *NETWORK[:4])).sum(),
    )


def couplings_vjp() -> Differentiable:
    """<w, W(phi)> with the vector-Jacobian product of the hypernetwork."""
    return _of_network(lambda network, code, ct: hypernet_adjoint.couplings_vjp(network, code, ct))


def couplings_jacobian() -> Differentiable:
    """<w, W(phi)> with the full Jacobian of the hypernetwork."""
    return _of_network(lambda network, code, ct: hypernet_adjoint.couplings_jacobian(network, code).T @ ct.ravel())
