"""Checks of what callers hand in: one sentence that names the argument, what was given and what is wanted."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermokernels.common import tolerances
from thermokernels.common.arrays import Array, Floats
from thermokernels.common.foreign_arrays import as_array

Kind = TypeVar("Kind")


def in_brief(value: object) -> str:
    """``repr(value)`` for a message: one line of at most 80 characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an integer of 5000 digits, an object of somebody else's
        text = f"an object of type {type(value).__name__} that cannot be shown"
    return shortened(text, 80)


def shortened(text: str, length: int) -> str:
    """The text, or its beginning and three dots, ``length`` characters together."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def as_reals(value: ArrayLike, name: str) -> Array:
    """An array of real numbers of any shape, in the dtype that it has; else ValueError."""
    array = as_array(value, name)
    if array.dtype == object and array.ndim == 0:  # something else altogether, a chain where a model is asked for
        raise ValueError(f"{name} must be an array of real numbers; got {in_brief(value)}")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be an array of real numbers; got dtype {array.dtype}")
    return array


def as_finite(value: ArrayLike, name: str) -> Floats:
    """A finite, C-contiguous float64 array of any shape; else ValueError."""
    array = as_reals(value, name)
    with np.errstate(over="ignore", invalid="ignore"):  # signalling NaN and long doubles beyond float64, which are refused below
        array = np.ascontiguousarray(array, dtype=np.float64) if array.ndim else array.astype(np.float64)
    if not np.isfinite(array).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name} must be finite; entry {where} is {array[where]}")
    return array


def as_couplings(weights: ArrayLike, name: str = "W") -> Floats:
    """Couplings as a finite, C-contiguous float64 matrix of shape (n_v, n_h), both at least 1; else ValueError."""
    array = as_finite(weights, name)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have shape (n_v, n_h) with at least one visible and one hidden spin; got shape {array.shape}")
    return array


def as_field(field: ArrayLike | None, n_spins: int, name: str) -> Floats:
    """A field as a finite float64 vector of shape (n_spins,); None is the zero field; else ValueError."""
    if field is None:
        return np.zeros(n_spins)
    return as_vector(field, n_spins, name)


def as_vector(value: ArrayLike, length: int, name: str) -> Floats:
    """A finite float64 vector of the given length; else ValueError."""
    array = as_finite(value, name)
    if array.shape != (length,):
        raise ValueError(f"{name} must have shape ({length},); got shape {array.shape}")
    return array


def as_spins(value: ArrayLike, name: str) -> NDArray[np.int8]:
    """Spins +1 and -1 as int8, of any shape; what is within 1e-6 of a spin is one (a file of float32, say); else ValueError."""
    array = as_array(value, name)
    if array.dtype.kind == "b":
        raise ValueError(f"{name} must hold spins +1 and -1; got dtype bool: where True is spin +1, 2 * x.astype(int) - 1 makes spins")
    array = as_reals(array, name)
    up = array > 0  # of unsigned integers too, of which a difference would wrap around
    close = np.abs(array.astype(np.float64, copy=False) - np.where(up, 1.0, -1.0)) <= tolerances.SPIN
    if not close.all():
        where = tuple(int(k) for k in np.argwhere(~close)[0])
        entry = array[where]
        zero_one = bool(((array == 0) | (array == 1)).all())
        advice = ": of units 0 and 1, 2 * x.astype(int) - 1 makes spins" if zero_one else ""
        if entry == 255 and array.dtype == np.uint8:
            advice = ": 2 * x - 1 of unsigned units 0 and 1, for which 2 * x.astype(int) - 1 makes spins"
        raise ValueError(f"{name} must hold spins +1 and -1; entry {where} is {float(entry):g}{advice}")
    return np.where(up, np.int8(1), np.int8(-1))


def as_samples(samples: ArrayLike, name: str = "samples") -> Floats:
    """Samples of spins +1 and -1 as float64 of shape (n, n_spins), both at least 1; else ValueError."""
    array = as_array(samples, name)
    if array.ndim != 2 or 0 in array.shape:
        as_reals(array, name)  # what is no array of numbers is said first
        raise ValueError(f"{name} must have shape (n, n_v) with at least one sample of at least one spin; got shape {array.shape}")
    return as_spins(array, name).astype(np.float64)


def as_law(law: ArrayLike, n_states: int, name: str = "p_data") -> Floats:
    """A probability vector of shape (n_states,): nonnegative, sum one within 1e-9; else ValueError. It is divided by its sum."""
    array = as_undivided_law(law, n_states, name)
    divided: Floats = array / array.sum()
    return divided


def as_undivided_law(law: ArrayLike, n_states: int, name: str = "p_data") -> Floats:
    """The entries that :func:`as_law` divides by their sum, for who divides in more digits than float64 has."""
    array = as_vector(law, n_states, name)
    if array.min() < 0:
        raise ValueError(f"{name} must be nonnegative; entry {int(array.argmin())} is {array.min():g}")
    total = float(array.sum())
    if abs(total - 1) > tolerances.LAW_SUM:
        raise ValueError(f"{name} must sum to one within {tolerances.LAW_SUM:g}; it sums to {total!r}")
    return array


def as_state_functions(values: ArrayLike, n_states: int, name: str = "F") -> Floats:
    """Functions on the states as float64 of shape (n_states,) or (n_states, k); else ValueError."""
    array = as_finite(values, name)
    if array.ndim not in (1, 2) or array.shape[0] != n_states:
        raise ValueError(f"{name} must have shape ({n_states},) or ({n_states}, k); got shape {array.shape}")
    return array


def as_state_set(states: Any, n_states: int, name: str) -> NDArray[np.bool_]:
    """A set of states, given as a boolean mask (n_states,) or as state numbers, as a mask that is neither empty nor everything."""
    array = as_array(states, name, "a boolean mask or a list of state numbers")
    if array.dtype == np.bool_:
        if array.shape != (n_states,):
            raise ValueError(f"{name} must be a mask of shape ({n_states},); got shape {array.shape}")
        mask = np.ascontiguousarray(array)
    elif array.dtype.kind in "iu" and array.ndim <= 1:
        numbers = np.atleast_1d(array)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= n_states):
            raise ValueError(f"{name} must hold state numbers from 0 to {n_states - 1}; got {int(numbers.min())} to {int(numbers.max())}")
        mask = np.zeros(n_states, dtype=np.bool_)
        mask[numbers] = True
    else:
        raise ValueError(f"{name} must be a boolean mask of shape ({n_states},) or a list of state numbers; got dtype {array.dtype}")
    if not mask.any() or mask.all():
        raise ValueError(f"{name} must hold at least one state and not all of the {n_states}; it holds {int(mask.sum())}")
    return mask


def as_positive(value: Any, name: str, unit: str) -> float:
    """A finite positive float; else ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{name} must be a positive number of {unit}; got {in_brief(value)}")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond float64
        number = np.inf
    if not (np.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a positive, finite number of {unit}; got {in_brief(value)}")
    return number


def as_count(value: Any, name: str, least: int = 1) -> int:
    """An integer of at least ``least`` that fits into 63 bits; else ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}; got {in_brief(value)}")
    if value >= 2**63:
        raise ValueError(f"{name} must be less than 2**63; got {in_brief(value)}")
    return int(value)


def as_callback(value: Any, name: str) -> Any:
    """Something that can be called, or None; else ValueError."""
    if value is not None and not callable(value):
        raise ValueError(f"{name} must be a function, or None for none; got {in_brief(value)}")
    return value


def as_path(value: Any, name: str) -> Path | None:
    """The path of a file, or None; else ValueError."""
    if value is None:
        return None
    try:
        path = os.fspath(value)
    except TypeError:
        path = None
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError(f"{name} must be the path of a file, a str or a pathlib.Path, or None for none; got {in_brief(value)}")
    return Path(path)


def as_flag(value: Any, name: str) -> bool:
    """True or False; else ValueError."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False; got {in_brief(value)}")
    return bool(value)


def as_seed(value: Any, optional: bool = False) -> np.random.SeedSequence:
    """A seed as what streams of random numbers are spawned from; None is fresh entropy where the seed is optional; else ValueError."""
    if isinstance(value, np.random.SeedSequence):
        return value
    if value is None and optional:
        return np.random.SeedSequence()
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        wanted = "None, a nonnegative integer" if optional else "a nonnegative integer"
        raise ValueError(f"seed must be {wanted} or a numpy.random.SeedSequence; got {in_brief(value)}")
    return np.random.SeedSequence(int(value))


def as_instance(value: Any, kind: type[Kind], name: str, maker: str) -> Kind:
    """An object of one of our classes; else ValueError, which says what makes one."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, made by {maker}; got {in_brief(value)}")
    return value


def as_labels(labels: object, name: str) -> tuple[Hashable, ...]:
    """Names of spins: a list of hashable objects, which a single word is not; else ValueError."""
    try:
        if not isinstance(labels, str | bytes):
            found: tuple[Hashable, ...] = (*labels,)  # type: ignore[misc]
            hash(found)
            return found
    except TypeError:  # it is not iterable, or a label is not hashable
        pass
    raise ValueError(f"{name} must be a list of labels; got {in_brief(labels)}")


def as_choice(value: Any, choices: tuple[str, ...], name: str) -> str:
    """One of the given words; else ValueError."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {in_brief(value)}")
    return str(value)
