"""The gradient check of a checkpoint: hand-written adjoints against central differences, the complex step and JAX.

What is differentiated is the sum of Q over the codes as a function of the hypernetwork's parameters phi. The functions under test are
handed in (``Functions``), so that a broken one can be, too. The judge's own side is :mod:`.reference`, phi -> W -> Q written anew.

*Relative error* of an adjoint's directional derivative ``a`` against a leg's ``l``, the one definition used everywhere:

    |a - l| / max(|l|, 1e-6 * max over the directions of |l|, eps * |Q|)

so that a direction that happens to be orthogonal to the gradient is measured against a millionth of what the others see, and a
gradient that vanishes altogether against the rounding of Q itself. The scale never depends on the adjoint under test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import adjoints
from thermokernels.common.arrays import Floats
from thermokernels.model import hypernetwork
from thermokernels.model.hypernetwork import Hypernetwork
from thermokernels.quantities import signal_to_noise
from thermokernels_app.judges import automatic_differentiation, held_solution, reference
from thermokernels_app.judges.records import entry

STEPS = tuple(10.0**-k for k in range(2, 9))
EPS = float(np.finfo(np.float64).eps)

# Above this error at the best step, central differences owe an explanation (their gate is 1e-4).
EXPLAIN_ABOVE = 1e-6


@dataclass(frozen=True)
class Functions:
    """The functions under test, as ``thermokernels`` and ``adjoints`` offer them."""

    couplings: Callable[[Any, Floats], Floats]  # (network, u) -> W
    value: Callable[[Floats, Floats], Any]  # (W, p_data) -> something with .value = Q
    value_and_gradient: Callable[[Floats, Floats], tuple[Any, Floats]]  # (W, p_data) -> (something with .value, dQ/dW)
    vjp: Callable[[Any, Floats, Floats], Floats]  # (network, u, ct_W) -> ct_phi


def kernels(window: float = 100.0, **options: Any) -> Functions:
    """The project's own kernels and adjoints; ``options`` (method, rtol) go to both ``q_struct``."""

    def value_and_gradient(w: Floats, p_data: Floats) -> tuple[Any, Floats]:
        q, gradient = adjoints.q_struct(w, p_data, window=window, **options)
        return q, np.asarray(gradient)

    return Functions(
        couplings=hypernetwork.couplings,
        value=lambda w, p_data: signal_to_noise.q_struct(w, p_data, window=window, **options),
        value_and_gradient=value_and_gradient,
        vjp=adjoints.couplings_vjp,
    )


def relative_errors(adjoint: Floats, leg: Floats, q: float) -> Floats:
    """Relative error of each directional derivative, by the definition at the top; 0 where both are exactly zero."""
    size = np.abs(leg)
    scale = np.maximum(size, max(1e-6 * float(size.max()), EPS * abs(q)))
    difference = np.abs(adjoint - leg)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0.0, 0.0, difference / scale)


def _values_and_gradients(network: Hypernetwork, codes: Floats, laws: Floats, functions: Functions) -> list[tuple[Any, Floats]]:
    return [functions.value_and_gradient(functions.couplings(network, code), law) for code, law in zip(codes, laws, strict=True)]


def _pull_back(network: Hypernetwork, codes: Floats, directions: Floats, functions: Functions, gradients: Sequence[Floats]) -> Floats:
    total = np.zeros(directions.shape[1])
    for code, dq_dw in zip(codes, gradients, strict=True):
        total += functions.vjp(network, code, dq_dw)
    return directions @ total


def central_differences(
    network: Hypernetwork, codes: Floats, laws: Floats, directions: Floats, functions: Functions, steps: Sequence[float] = STEPS
) -> Floats:
    """(Q(phi + h d) - Q(phi - h d)) / 2h of the *kernel's* value, summed over the codes: (n_directions, n_steps)."""
    phi, slopes = network.parameters(), np.zeros((len(directions), len(steps)))
    for code, law in zip(codes, laws, strict=True):
        for k, direction in enumerate(directions):
            for n, h in enumerate(steps):
                ahead, behind = (functions.value(_couplings(network, phi + s * h * direction, code), law).value for s in (1.0, -1.0))
                slopes[k, n] += (ahead - behind) / (2.0 * h)
    return slopes


def complex_steps(network: Hypernetwork, codes: Floats, laws: Floats, directions: Floats, window: float = 100.0) -> tuple[Floats, Floats]:
    """Values of Q per code and directional derivatives of their sum, by the complex-step reference all the way from phi to Q."""
    values, slopes = np.empty(len(codes)), np.zeros(len(directions))
    for n, (code, law) in enumerate(zip(codes, laws, strict=True)):
        w, tangents = _couplings_and_tangents(network, directions, code)
        q, slope = reference.derivatives(w, law, tangents, window)
        values[n] = q.value
        slopes += slope.value
    return values, slopes


def held_steps(
    network: Hypernetwork, codes: Floats, laws: Floats, directions: Floats, solved: Sequence[Any], window: float = 100.0
) -> tuple[Floats, Floats, float]:
    """The same with the kernels' own solutions held still and verified (:mod:`.held_solution`), and the largest residual found in them."""
    values, slopes, residual = np.empty(len(codes)), np.zeros(len(directions)), 0.0
    for n, (code, law, q) in enumerate(zip(codes, laws, solved, strict=True)):
        w, tangents = _couplings_and_tangents(network, directions, code)
        verified = held_solution.verify(w, law, tangents, q.variance_time.responses, window)
        values[n] = verified.q.value
        slopes += verified.derivatives.value
        residual = max(residual, verified.residual)
    return values, slopes, residual


def gradient_check(
    network: Hypernetwork,
    codes: Floats,
    laws: Floats,
    directions: Floats,
    functions: Functions,
    *,
    window: float = 100.0,
    steps: Sequence[float] = STEPS,
    dense: bool = True,
    with_automatic: bool = False,
) -> dict[str, Any]:
    """Hold value and adjoint of one checkpoint against all legs; returns the plain JSON record ``gradient_check``.

    Parameters
    ----------
    network : Hypernetwork
    codes : (n, n_codes) codes; laws : (n, 2**n_v) data laws, one a code
    directions : (k, n_parameters) unit vectors
    functions : Functions
        What is tested; :func:`kernels` gives the project's own. Their window must be ``window``.
    steps : the h of the central differences; none leaves that leg out
    dense : hold everything against the dense reference on all 2^N states; else against :mod:`.held_solution`, in a hundredth of the time
    with_automatic : also run the JAX leg; an error where JAX is not installed
    """
    codes, laws, directions = (np.asarray(array, dtype=np.float64) for array in (codes, laws, directions))
    automatic_slopes = None
    if with_automatic:
        shape = (network.n_visible, network.n_hidden, network.rank, network.width)
        automatic_slopes = automatic_differentiation.derivatives(network.parameters(), shape, codes, laws, directions, window)
    found = _values_and_gradients(network, codes, laws, functions)
    residual = None
    if dense:
        values, complex_slopes = complex_steps(network, codes, laws, directions, window)
        tested = np.array([functions.value(functions.couplings(network, code), law).value for code, law in zip(codes, laws, strict=True)])
    else:
        values, complex_slopes, residual = held_steps(network, codes, laws, directions, [q for q, _ in found], window)
        tested = np.array([q.value for q, _ in found])
    value_error = float(np.max(np.abs(tested - values) / np.where(values == 0.0, 1.0, np.abs(values))))
    total = float(np.abs(values).sum())

    derivatives = _pull_back(network, codes, directions, functions, [dq_dw for _, dq_dw in found])
    complex_errors = relative_errors(derivatives, complex_slopes, total)
    automatic_errors = None if automatic_slopes is None else relative_errors(derivatives, automatic_slopes, total)
    slopes = central_differences(network, codes, laws, directions, functions, steps)

    rows = []
    for k, derivative in enumerate(derivatives):
        row: dict[str, Any] = {"index": k, **entry("adjoint", float(derivative))}
        errors = np.array([relative_errors(derivatives, column, total)[k] for column in slopes.T])
        row |= _difference_entries(errors, slopes[k], steps, total)
        row |= entry("complex_error", float(complex_errors[k]))
        row |= entry("automatic_error", None if automatic_errors is None else float(automatic_errors[k]), "the JAX leg was not run")
        rows.append(row)
    return {
        **entry("value_error", value_error),
        "value_reference": "dense" if dense else "frozen",  # the held solution, by the name in published records
        **entry("solution_residual", residual, "the dense reference solves for itself"),
        "directions": rows,
    }


def _difference_entries(errors: Floats, slopes: Floats, steps: Sequence[float], q: float) -> dict[str, Any]:
    """What a record says of one direction's central differences: the best h, its error, all errors, and a note where they are large."""
    if not len(steps):
        reason = "central differences were not asked for here"
        return {"best_step": None, **entry("difference_error", None, reason), "difference_errors": [], "difference_note": None}
    best = int(np.argmin(np.where(np.isfinite(errors), errors, np.inf)))
    return {
        "best_step": float(steps[best]),
        **entry("difference_error", float(errors[best])),
        "difference_errors": [float(error) if np.isfinite(error) else None for error in errors],
        "difference_note": difference_note(np.asarray(steps), slopes, float(errors[best]), q),
    }


def difference_note(steps: Floats, slopes: Floats, error: float, q: float) -> str | None:
    """Why central differences cannot reach 1e-6 here, or None: they do, or conditioning is not the reason.

    Two numbers limit them, both read off the differences alone: truncation c h^2, with c from the two largest steps, and rounding
    delta / h, where delta is the noise of Q as the smallest step shows it (at least eps |Q|). Their sum at its best h is what can be
    attained; an error of more than ten times that is not explained by it.
    """
    if error <= EXPLAIN_ABOVE or len(steps) < 3:
        return None
    order = np.argsort(-steps)
    h, d = steps[order], slopes[order]
    curvature = abs(d[0] - d[1]) / (h[0] ** 2 - h[1] ** 2)
    noise = max(EPS * q, h[-1] * abs(d[-1] - d[-2]))
    bound = curvature * h**2 + noise / h
    best = int(np.argmin(bound))
    size = float(np.abs(d[best]))
    attainable = bound[best] / size if size else np.inf
    if not error <= 10.0 * attainable:
        return None
    return (
        f"at the best balance, h = {h[best]:.0e}, truncation leaves {curvature * h[best] ** 2:.1e} and rounding of Q "
        f"({noise:.1e}, {noise / (EPS * q) if q else np.inf:.0f} eps |Q|) leaves {noise / h[best]:.1e} of a derivative of {size:.1e}: "
        f"no better than {attainable:.0e} relative can be expected"
    )


def _couplings_and_tangents(network: Hypernetwork, directions: Floats, code: Floats) -> tuple[Floats, Floats]:
    """W and its derivatives along directions in phi, by complex steps through the judge's own hypernetwork."""
    phi = network.parameters()
    moved = [_couplings(network, phi + 1j * reference.STEP * direction, code) for direction in directions]
    return _couplings(network, phi, code), np.array([w.imag / reference.STEP for w in moved])


def _couplings(network: Hypernetwork, phi: reference.Array, code: Floats) -> reference.Array:
    return reference.couplings(phi, code, network.n_visible, network.n_hidden, network.rank, network.width)
