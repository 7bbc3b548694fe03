"""Nested tables and their dotted keys: flattened, compared, and laid over the fields of a frozen dataclass."""

from __future__ import annotations

import json
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Section = TypeVar("Section", bound="DataclassInstance")


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The table with one level only: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``."""
    result: dict[str, Any] = {}
    for key, value in table.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return result


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Dotted keys at which two tables differ, in alphabetical order; empty where they are the same.

    Examples
    --------
    >>> differences({"seed": 0, "anchor": {"m": 4}}, {"seed": 0.0, "anchor": {"m": 5}, "new": 1})
    ['anchor.m', 'new', 'seed']
    """
    ours, theirs = _texts(one), _texts(other)
    return sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))


def _texts(table: Mapping[str, Any]) -> dict[str, str]:
    """Every value as its JSON text: 1, 1.0 and true are equal in Python and hash differently, so they have to differ here."""
    return {key: json.dumps(value) for key, value in flat(table).items()}


def override(section: Section, table: Mapping[str, Any], prefix: str = "") -> Section:
    """The section with the keys of ``table`` replaced, each converted to the type of its field; ValueError names one that does not fit."""
    types = get_type_hints(type(section))
    names = [item.name for item in fields(section)]
    changes = {}
    for key, value in table.items():
        if key not in names:
            unknown = key if key.isidentifier() and len(key) < 80 else reprlib.repr(key)
            raise ValueError(f"{prefix}{unknown} is no key of the design; {prefix[:-1] or 'its top level'} has {', '.join(names)}")
        old = getattr(section, key)
        if is_dataclass(old) and not isinstance(old, type):
            if not isinstance(value, Mapping):
                raise ValueError(
                    f"{prefix}{key} must be a table of {', '.join(item.name for item in fields(old))}; got {reprlib.repr(value)}"
                )
            changes[key] = override(old, value, f"{prefix}{key}.")
        else:
            changes[key] = _convert(value, types[key], f"{prefix}{key}")
    return replace(section, **changes)


def _convert(value: Any, wanted: Any, key: str) -> Any:
    if get_origin(wanted) is tuple:
        item = get_args(wanted)[0]
        if not isinstance(value, list) or not value:
            raise ValueError(f"{key} must be a list of at least one {_NAMES.get(item, 'name')}; got {reprlib.repr(value)}")
        converted = tuple(_convert(entry, item, f"{key}[{position}]") for position, entry in enumerate(value))
        if len(set(converted)) < len(converted):
            raise ValueError(f"{key} must not hold an entry twice; got {reprlib.repr(value)}")
        return converted
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise ValueError(f"{key} must be one of {', '.join(map(repr, get_args(wanted)))}; got {reprlib.repr(value)}")
        return value
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return float(value)
    if wanted is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{key} must be one {_NAMES[wanted]}; got {reprlib.repr(value)}")


_NAMES: dict[Any, str] = {int: "integer", float: "finite number"}
