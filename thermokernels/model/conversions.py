"""Models and samples of other libraries in the conventions of this one: E(v, h) = -v'W h - b'v - c'h, spins +1 and -1, temperature 1.

Energies agree up to a constant, laws exactly. A state's number is another matter: there bit i set means spin i = -1.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import arguments, memory
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.model.model import Model

LARGEST = 1e300  # of a field or coupling: two of them still add up


@default_error_state
def from_zero_one(weights: ArrayLike, visible_bias: ArrayLike, hidden_bias: ArrayLike) -> Model:
    """Couplings of spins from those of 0/1 units: unit 0 becomes spin -1, unit 1 becomes spin +1.

    With v = (1 + s) / 2 and h = (1 + t) / 2, up to a constant,

        -v' w h - a'v - d'h  =  -s'W t - b's - c't,     W = w / 4,   b = a / 2 + w 1 / 4,   c = d / 2 + w' 1 / 4.

    Parameters
    ----------
    weights : (n_v, n_h)
        scikit-learn's ``BernoulliRBM`` keeps the transpose, (n_h, n_v): hand in ``rbm.components_.T``, ``rbm.intercept_visible_`` and
        ``rbm.intercept_hidden_``. A square matrix does not show which way round it is.
    visible_bias : (n_v,); hidden_bias : (n_h,)

    Returns
    -------
    Model, which unpacks as W (n_v, n_h), b (n_v,), c (n_h,)

    Raises
    ------
    ValueError
        Wrong shapes, or entries that are not finite.

    Examples
    --------
    >>> W, b, c = from_zero_one([[4.0, 8.0]], [0.0], [2.0, 0.0])
    >>> W.tolist(), b.tolist(), c.tolist()
    ([[1.0, 2.0]], [3.0], [2.0, 2.0])
    """
    matrix = arguments.as_couplings(weights, "weights")
    visible = arguments.as_vector(visible_bias, matrix.shape[0], "visible_bias")
    hidden = arguments.as_vector(hidden_bias, matrix.shape[1], "hidden_bias")
    if np.abs(matrix).max() > LARGEST:  # their sums may overflow
        raise ValueError(f"weights must not exceed {LARGEST:g}; they reach {np.abs(matrix).max():g}")
    return Model(matrix / 4, visible / 2 + matrix.sum(axis=1) / 4, hidden / 2 + matrix.sum(axis=0) / 4)


@default_error_state
def from_ising(
    h: Mapping[Hashable, float], J: Mapping[tuple[Hashable, Hashable], float], visible: Sequence[Hashable], hidden: Sequence[Hashable]
) -> Model:
    """Couplings of a bipartite Ising model in dimod's sign, E(s) = sum_i h_i s_i + sum_ij J_ij s_i s_j: W = -J, b and c = -h.

    Spins keep their values. Fields and couplings that are absent are zero; J_ij and J_ji add up.

    Parameters
    ----------
    h : label -> field; J : (label, label) -> coupling
        As of ``dimod.BinaryQuadraticModel.to_ising()``, divided by the temperature.
    visible, hidden : labels of the two sides, in the order of the spins

    Returns
    -------
    Model with these names, which unpacks as W (n_v, n_h), b (n_v,), c (n_h,)

    Raises
    ------
    ValueError
        A label on neither side or on both, a coupling within one side, or an entry that is not finite.

    Examples
    --------
    >>> W, b, c = from_ising({"a": 0.5}, {("x", "a"): -1.0}, visible=["a"], hidden=["x"])
    >>> W.tolist(), b.tolist(), c.tolist()
    ([[1.0]], [-0.5], [0.0])
    """
    for name, mapping in (("h", h), ("J", J)):
        if not isinstance(mapping, Mapping):
            raise ValueError(f"{name} must be a mapping of labels to numbers; got {arguments.in_brief(mapping)}")
    visible, hidden = arguments.as_labels(visible, "visible"), arguments.as_labels(hidden, "hidden")
    for pair in J:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError(f"J must have pairs of labels as keys; got {arguments.in_brief(pair)}")
    sides = {label: (0, k) for k, label in enumerate(visible)} | {label: (1, k) for k, label in enumerate(hidden)}
    if len(sides) != len(visible) + len(hidden):
        raise ValueError("visible and hidden must hold every label once; some label is there twice")
    couplings, fields = np.zeros((len(visible), len(hidden))), (np.zeros(len(visible)), np.zeros(len(hidden)))
    for label in [*h, *(label for pair in J for label in pair)]:
        if label not in sides:
            raise ValueError(f"h and J must name spins of visible or hidden only; got {arguments.in_brief(label)}")
    for label, field in h.items():
        side, k = sides[label]
        fields[side][k] -= _as_number(field, "h", label)
    for (one, other), coupling in J.items():
        ends = dict((sides[one], sides[other]))
        if len(ends) != 2:
            raise ValueError(
                f"J must couple visible with hidden spins only; {told_apart(one, [*visible, *hidden])} and "
                f"{told_apart(other, [*visible, *hidden])} are on one side"
            )
        couplings[ends[0], ends[1]] -= _as_number(coupling, "J", (one, other))
    return Model(
        arguments.as_couplings(couplings, "J"),
        arguments.as_vector(fields[0], len(visible), "h"),
        arguments.as_vector(fields[1], len(hidden), "h"),
        visible=visible,
        hidden=hidden,
    )


def told_apart(label: Hashable, labels: Sequence[Hashable]) -> str:
    """A label for a message; where others look the same (as the nodes of thrml do), with its number among them."""
    text = arguments.in_brief(label)
    alike = [number for number, other in enumerate(labels) if arguments.in_brief(other) == text]
    return text if len(alike) < 2 else f"{text} number {next(number for number in alike if labels[number] == label)}"


def _as_number(value: object, name: str, key: object) -> float:
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        with suppress(OverflowError):  # of an integer beyond float64
            number = float(value)
            if abs(number) <= LARGEST:
                return number
    raise ValueError(
        f"{name} must hold finite numbers of at most {LARGEST:g}; at {arguments.in_brief(key)} it has {arguments.in_brief(value)}"
    )


@default_error_state
def law_of_samples(samples: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """The empirical law (2**n_v,) of samples (n, n_v) of visible spins +1 and -1.

    Entry k is the share of samples whose spin i is -1 exactly where bit i of k is set.

    Parameters
    ----------
    samples : (n, n_v) spins; what is within 1e-6 of a spin is one
    weights : (n,), nonnegative, or None for equal ones
        How often each sample was seen (of aggregated samples, as ``num_occurrences`` of dimod), or its importance weight, of any sum.

    Raises
    ------
    ValueError
        No samples, or entries that are not +1 or -1, or weights that do not fit; ModelTooLargeError where 2**n_v numbers do not fit into
        memory.

    Examples
    --------
    >>> law_of_samples([[1, 1], [-1, 1], [-1, 1], [-1, -1]]).tolist()
    [0.25, 0.5, 0.0, 0.25]
    >>> law_of_samples([[1, 1], [-1, 1], [-1, -1]], weights=[1, 2, 1]).tolist()
    [0.25, 0.5, 0.0, 0.25]
    """
    spins = arguments.as_samples(samples)
    n_samples, n_visible = spins.shape
    shares = np.ones(n_samples) if weights is None else _as_shares(weights, n_samples)
    memory.require(4 * 8 * 2**n_visible, f"the law of {n_visible} visible spins", "use fewer visible spins")
    states = (spins < 0) @ (1 << np.arange(n_visible, dtype=np.int64))
    law: Floats = np.asarray(np.bincount(states, shares, minlength=2**n_visible), dtype=np.float64)
    law /= shares.sum()
    return law


def _as_shares(weights: ArrayLike, n_samples: int) -> Floats:
    """Weights as shares of the largest, so that no sum of them overflows."""
    array = arguments.as_vector(weights, n_samples, "weights")
    if array.min() < 0:
        raise ValueError(f"weights must be nonnegative; entry {int(array.argmin())} is {array.min():g}")
    if array.max() == 0:
        raise ValueError("weights must not all be zero")
    shares: Floats = array / array.max()
    return shares
