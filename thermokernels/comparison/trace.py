"""What is looked at in a trace: the trace as spins or as a series, and the names of the observables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from thermokernels.common import arguments
from thermokernels.common.arrays import Array
from thermokernels.common.foreign_arrays import as_array
from thermokernels.model.model import Model

LAYOUTS = ("chain-draw", "draw-chain")
# A trace has so many times more records than chains, or it has to say which are which.
LONGER = 4


def as_names(observables: Sequence[str] | str | None) -> list[str] | None:
    """The names that were asked for; None for the usual ones."""
    names = None if observables is None else [observables] if isinstance(observables, str) else list(observables)
    if names == []:
        raise ValueError("observables must name at least one observable; got none")
    return names


def as_trace(trace: Any, model: Model, names: list[str] | None, layout: str | None) -> tuple[NDArray[Any], list[str]]:
    """The trace as spins (n_chains, n_records, N or n_v) or as a series (n_chains, n_records), and the names of what to look at."""
    if (dimensions := getattr(trace, "dims", None)) is not None and {"chain", "draw"} <= {*dimensions}:  # of xarray, which knows
        trace, layout = trace.transpose("chain", "draw", ...), "chain-draw"
    array = as_array(trace, "trace", "an array of numbers")
    if array.ndim == 1:
        array, layout = array[None], "chain-draw"
    if array.ndim not in (2, 3):
        raise ValueError(
            f"trace must have shape (n_chains, n_records, n_spins) or, a series, (n_chains, n_records); got shape {array.shape}"
        )
    array = _laid_out(array, layout)
    if array.shape[0] < 1 or array.shape[1] < 4:
        raise ValueError(f"trace must have at least one chain and four records; got {array.shape[0]} chains of {array.shape[1]} records")
    if array.ndim == 2:
        if names is None or len(names) != 1 or names == ["slowest"]:
            raise ValueError(
                f"observables (--observable) must name the one observable whose series the trace of shape {array.shape} is, "
                "such as energy, magnetisation or v0h2; a trace of spins has shape (n_chains, n_records, n_spins)"
            )
        return arguments.as_finite(array, "trace"), names
    if array.shape[2] not in (model.n_spins, model.n_visible):
        raise ValueError(
            f"trace must have {model.n_spins} spins a record, or the {model.n_visible} visible ones, as W says; got shape {array.shape}"
        )
    default = ["energy", "magnetisation", "slowest"] if array.shape[2] == model.n_spins else ["visible-magnetisation"]
    return arguments.as_spins(array, "trace"), default if names is None else names


def _laid_out(array: Array, layout: str | None) -> Array:
    """Chains first, then records (ArviZ's chain and draw)."""
    if layout is None:
        first, second = array.shape[:2]
        if second >= LONGER * first or max(first, second) < 4:  # the latter is refused for its length
            return array
        raise ValueError(
            f"layout (--layout) must say what the axes of a trace of shape {array.shape} are: 'chain-draw' for {first} chains of {second} "
            f"records, 'draw-chain' for {second} chains of {first} records"
        )
    return array if arguments.as_choice(layout, LAYOUTS, "layout") == "chain-draw" else array.swapaxes(0, 1)
