"""Which merge events qualify as crossable, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from thermokernels_app.judges.records import MissingNumberError, number
from thermokernels_app.judges.verdicts.criteria import Record, log_ratio
from thermokernels_app.judges.verdicts.grid_records import GridRecords, Key, place_of

# Filters of a merge event that qualifies as crossable: record key, key of the design's thresholds, and 1 for "at least", -1 for "at most".
FILTERS = (
    ("mass_dying", "mass", 1.0),
    ("mass_surviving", "mass", 1.0),
    ("barrier", "barrier", 1.0),
    ("passage_out_sweeps", "passage_sweeps", -1.0),
    ("passage_back_sweeps", "passage_sweeps", -1.0),
    ("relevance", "overlap", 1.0),
)


def n_qual(events: Iterable[Record], thresholds: Record, overlap: float | None = None) -> int:
    """How many merge events qualify as crossable; ``overlap`` replaces the primary threshold of the relevance."""
    return len(qualifying(events, thresholds, overlap))


def qualifying(events: Iterable[Record], thresholds: Record, overlap: float | None = None) -> list[Record]:
    """The events with min(mass) >= mass, barrier >= barrier, both passages <= passage_sweeps and relevance >= overlap.

    A filter that a known number fails settles an event. MissingNumberError where none does and a number is missing.
    """
    return [event for event in events if all(_passes(distance) for distance in _distances(event, thresholds, overlap))]


def u_thermo(events: Iterable[Record], thresholds: Record) -> float:
    """Sum of relevance times barrier over the qualifying events."""
    return math.fsum(event["relevance"] * event["barrier"] for event in qualifying(events, thresholds))


def event_margin(event: Record, thresholds: Record) -> float:
    """Least |ln(value / threshold)| over the filters of a qualifying event."""
    return min(abs(distance) for distance in _distances(event, thresholds, None))


def flip_margin(event: Record, thresholds: Record) -> float:
    """The least common relative change of an event's numbers, as a logarithm, that changes whether it qualifies at any rider's overlap."""
    margins = []
    for overlap in (thresholds["overlap"], *thresholds["overlap_rider"]):
        distances = list(_distances(event, thresholds, overlap))
        failed = [-distance for distance in distances if not _passes(distance)]
        margins.append(max(failed) if failed else min(distances))
    return min(margins)


def _passes(distance: float) -> bool:
    return distance >= 0.0


def _distances(event: Record, thresholds: Record, overlap: float | None) -> list[float]:
    """Signed distance ln(value / threshold) of every filter, >= 0 where it is passed; only the failed ones where a number is missing."""
    limits = thresholds if overlap is None else {**thresholds, "overlap": overlap}
    distances, missing = [], None
    for key, limit, sign in FILTERS:
        try:
            distances.append(sign * log_ratio(number(event, key, "merge event"), limits[limit]))
        except MissingNumberError as error:
            missing = missing or error
    if missing and all(map(_passes, distances)):
        raise missing
    return distances if not missing else [distance for distance in distances if not _passes(distance)]


@dataclass(frozen=True)
class Qualification:
    """What P2 needs of one cell."""

    count: int
    overlap_clean: bool
    multiway_clean: bool
    orderings: int
    gamma_eff_step: float
    gamma_eff_step_bound: float
    u_thermo: float
    margins: list[float]
    flip_margins: list[float]


def qualify(records: GridRecords, key: Key) -> Qualification:
    cell, thresholds = records.sound_cell(key), records.thresholds
    gamma, gamma_error = (number(cell, f"spectrum.gamma_eff_{name}", place_of(key)) for name in ("step", "error"))
    events, orderings = _events(cell, key), _orderings(cell, key)
    try:
        qualified = qualifying(events, thresholds)
        return Qualification(
            count=len(qualified),
            overlap_clean=all(n_qual(events, thresholds, overlap) == len(qualified) for overlap in thresholds["overlap_rider"]),
            multiway_clean=all(n_qual(ordering, thresholds) == len(qualified) for ordering in orderings),
            orderings=len(orderings),
            gamma_eff_step=gamma,
            gamma_eff_step_bound=gamma * gamma_error,
            u_thermo=u_thermo(events, thresholds),
            margins=[event_margin(event, thresholds) for event in qualified],
            flip_margins=[flip_margin(event, thresholds) for ordering in (events, *orderings) for event in ordering],
        )
    except MissingNumberError as error:
        raise MissingNumberError(f"{place_of(key)}: {error}") from None


def _events(cell: Record, key: Key) -> list[Record]:
    events = (cell.get("landscape") or {}).get("events")
    if not isinstance(events, list):
        raise MissingNumberError(f"{place_of(key)}: landscape.events is missing")
    return events


def _orderings(cell: Record, key: Key) -> list[list[Record]]:
    """The event lists under the other orders of the multiway saddles; there must be some where there is such a saddle."""
    landscape = cell["landscape"]
    orderings = landscape.get("orderings") or []
    if number(cell, "landscape.multiway_saddles", place_of(key)) and not orderings:
        raise MissingNumberError(f"{place_of(key)}: landscape.orderings is missing although a saddle is multiway")
    return list(orderings)
