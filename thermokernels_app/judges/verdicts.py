"""The verdicts P1 to P4: a pure function of the design and the records, so that a reader can judge again from results.json alone.

PASS and FAIL need every number that the verdict rests on. A cell that is missing, that halted, or whose own record misses a gate of
the battery, and a number that is missing, null or not finite, makes every verdict that depends on it HALT: never FAIL, never PASS.
Only P3, whose subject these gates are, calls a complete record that misses one a FAIL.

Every criterion carries ``operator``, ``threshold``, ``observed``, ``unit``, ``met`` and a signed ``margin``, positive where it is met:
on ``margin_scale`` "log" it is ln(observed / threshold) or its negative, on "difference" the difference in the criterion's unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from thermokernels_app.judges.records import MissingNumberError, entry, number

Record = Mapping[str, Any]
Key = tuple[Any, ...]

# Beyond its gate, the adjoint's error against central differences is to stay below this wherever conditioning allows it.
DIFFERENCE_GOAL = 1e-6

# Gates of the battery: record key, operator, key of the design's thresholds.
GATES = (
    ("reversibility", "<=", "reversibility"),
    ("row_sum", "<=", "row_sum"),
    ("stationarity", "<=", "stationarity"),
    ("symmetry_law", "<=", "symmetry"),
    ("symmetry_kernel", "<=", "symmetry"),
    ("symmetry_observables", "<=", "symmetry"),
    ("agreement", "<=", "agreement"),
    ("solver_residual", "<=", "solve"),
    ("hitting_residual", "<=", "hitting"),
    ("cheeger_margin", ">=", "cheeger"),
)

# Filters of a merge event that qualifies as crossable: record key, key of the design's thresholds, and 1 for "at least", -1 for "at most".
FILTERS = (
    ("mass_dying", "mass", 1.0),
    ("mass_surviving", "mass", 1.0),
    ("barrier", "barrier", 1.0),
    ("passage_out_sweeps", "passage_sweeps", -1.0),
    ("passage_back_sweeps", "passage_sweeps", -1.0),
    ("relevance", "overlap", 1.0),
)

# Numbers that every cell must have, whether or not a criterion uses them.
COMPUTED_EVERYWHERE = ("q.value", "q.signal", "q.t_obs_steps", "gradient.dq_dw_norm", "gradient.dq_dphi_norm", "spectrum.gap")


def judge(
    design: Record, cells: Sequence[Record], checkpoints: Sequence[Record], stationarity: Sequence[Record]
) -> dict[str, dict[str, Any]]:
    """The four verdicts of a run from its plain records; ``design`` is the design's plain dictionary.

    Returns ``{"P1": V, ...}`` with V = {"verdict": "PASS" | "FAIL" | "HALT", "statement", "basis", "criteria", "reported", "reason"};
    ``reason`` is the sentence that says why a verdict is HALT, else None.
    """
    records = _Records(design, cells, checkpoints, stationarity)
    return {name: _Verdict(statement).run(rule, records) for name, (statement, rule) in _RULES.items()}


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


def _log_ratio(value: float, threshold: float) -> float:
    """ln(value / threshold), its sign exactly that of value - threshold; -inf for a value of zero or less."""
    if value == threshold:
        return 0.0
    if value <= 0.0:
        return -math.inf
    if threshold <= 0.0:
        return math.inf
    ratio = math.log(value / threshold)
    return ratio if ratio else math.copysign(math.ulp(1.0), value - threshold)


def _distances(event: Record, thresholds: Record, overlap: float | None) -> list[float]:
    """Signed distance ln(value / threshold) of every filter, >= 0 where it is passed; only the failed ones where a number is missing."""
    limits = thresholds if overlap is None else {**thresholds, "overlap": overlap}
    distances, missing = [], None
    for key, limit, sign in FILTERS:
        try:
            distances.append(sign * _log_ratio(number(event, key, "merge event"), limits[limit]))
        except MissingNumberError as error:
            missing = missing or error
    if missing and all(map(_passes, distances)):
        raise missing
    return distances if not missing else [distance for distance in distances if not _passes(distance)]


class _Records:
    """The records by their place in the grid, with what is wrong with each."""

    def __init__(self, design: Record, cells: Sequence[Record], checkpoints: Sequence[Record], stationarity: Sequence[Record]):
        self.design, self.thresholds, grid = design, design["thresholds"], design["grid"]
        self.places = [(m, s, name) for m in grid["m"] for s in grid["split"] for name in grid["checkpoints"]]
        self.keys: list[Key] = [(*place, code) for place in self.places for code in grid["codes"]]
        basis = design["basis"]
        self.basis_keys = [key for key in self.keys if key[1] in basis["split"] and key[2] in basis["checkpoints"]]
        self.empty = not cells
        self._cells = self._index(cells, ("m", "split", "checkpoint", "code"))
        self._checkpoints = self._index(checkpoints, ("m", "split", "checkpoint"))
        self._stationarity = self._index(stationarity, ("m", "split", "code"))

    @staticmethod
    def _index(records: Sequence[Record], names: tuple[str, ...]) -> dict[Key, list[Record]]:
        index: dict[Key, list[Record]] = {}
        for record in records:
            index.setdefault(tuple(record.get(name) for name in names), []).append(record)
        return index

    @staticmethod
    def _single(index: dict[Key, list[Record]], key: Key, where: str) -> Record:
        found = index.get(key, [])
        if len(found) != 1:
            raise MissingNumberError(f"{where}: {'no record' if not found else f'{len(found)} records'}")
        return found[0]

    def cell(self, key: Key) -> Record:
        """The complete record of a cell that did not halt; MissingNumberError for any other."""
        record = self._single(self._cells, key, _where(key))
        if record.get("status") != "ok":
            halt = record.get("halt") or {}
            raise MissingNumberError(f"{_where(key)}: halted at {halt.get('check', 'an unnamed check')}: {halt.get('detail', 'no detail')}")
        for path in COMPUTED_EVERYWHERE:
            number(record, path, _where(key))
        return record

    def sound_cell(self, key: Key) -> Record:
        """The same, where the cell's record meets every gate of the battery, too."""
        record = self.cell(key)
        for name, operator, threshold, observed in battery_gates(record, self.thresholds, _where(key)):
            if not _met(operator, observed, threshold):
                raise MissingNumberError(f"{_where(key)}: {name} is {observed:.3g}, which is not {operator} {threshold:.3g}")
        return record

    def checkpoint(self, place: Key) -> Record:
        return self._single(self._checkpoints, place, _where(place))

    def stationary(self, key: Key) -> Record:
        return self._single(self._stationarity, key, f"m={key[0]}, s={key[1]}, code {key[2]}: test for stationarity")

    def finals(self) -> list[Key]:
        places = [place for place in self.places if place[2] == "final"]
        if not places:
            raise MissingNumberError("the grid has no final checkpoint")
        return places


def battery_gates(cell: Record, thresholds: Record, where: str) -> Iterator[tuple[str, str, float, float]]:
    """(name, operator, threshold, observed) of every gate that applies to a cell's battery.

    The symmetries are gates on the quotient only, hitting times and cuts where there are any.
    """
    for name, operator, key in GATES:
        threshold = -thresholds[key] if operator == ">=" else thresholds[key]
        if name.startswith("symmetry") and (cell.get("battery") or {}).get("fallback") is not None:
            continue
        if name == "hitting_residual" and number(cell, "battery.hitting_solves", where) == 0:
            continue
        if name == "cheeger_margin" and number(cell, "battery.cuts", where) == 0:
            continue
        yield name, operator, threshold, number(cell, f"battery.{name}", where)


class _Verdict:
    """A verdict while its rule adds criteria and reported numbers to it."""

    def __init__(self, statement: str):
        self.statement = statement
        self.basis: dict[str, int] = {}
        self.criteria: list[dict[str, Any]] = []
        self.reported: dict[str, Any] = {}

    def run(self, rule: Callable[[_Verdict, _Records], None], records: _Records) -> dict[str, Any]:
        reason = None
        try:
            if records.empty:
                raise MissingNumberError("there are no cells")
            rule(self, records)
        except MissingNumberError as error:
            reason = str(error)
        met = bool(self.criteria) and all(criterion["met"] for criterion in self.criteria)
        return {
            "verdict": "HALT" if reason else "PASS" if met else "FAIL",
            "statement": self.statement,
            "basis": self.basis,
            "criteria": self.criteria,
            "reported": self.reported,
            "reason": reason,
        }

    def require(
        self, name: str, operator: str, threshold: float, observed: float, unit: str, margin: float | None = None, scale: str = "log"
    ) -> None:
        """Add a criterion; its margin is derived from the two numbers unless given, and ``scale`` then says what it is."""
        if margin is None:
            scale = "log"
            sign = -1.0 if operator == "<=" else 1.0
            if operator == "==":
                margin, scale = 0.0 - abs(observed - threshold), "difference"
            elif observed > 0.0 and threshold > 0.0:
                margin = sign * _log_ratio(observed, threshold)
            else:
                margin, scale = sign * (observed - threshold), "difference"
        self.criteria.append(
            {"name": name, "operator": operator, "threshold": threshold, "observed": observed, "unit": unit}
            | entry("margin", margin)
            | {"margin_scale": scale, "met": _met(operator, observed, threshold)}
        )

    def report(self, key: str, value: float | None, reason: str = "not finite") -> None:
        self.reported |= entry(key, value, reason)


def _met(operator: str, observed: float, threshold: float) -> bool:
    if operator == "<=":
        return observed <= threshold
    if operator == ">=":
        return observed >= threshold
    return observed > threshold if operator == ">" else observed == threshold


def _where(key: Key) -> str:
    place = f"m={key[0]}, s={key[1]}, {key[2]}"
    return f"cell {place}, code {key[3]}" if len(key) == 4 else f"checkpoint {place}"


def _span(values: Sequence[float]) -> list[float] | None:
    return [min(values), max(values)] if values else None


def _p1(verdict: _Verdict, records: _Records) -> None:
    design, thresholds = records.design, records.thresholds
    finals, anchor = records.finals(), tuple(design["anchor"][name] for name in ("m", "split", "checkpoint"))
    verdict.basis = {"cells": len(records.keys), "checkpoints": len(finals) + 1}

    finite, norms = 0, []
    for key in records.keys:
        cell = records.sound_cell(key)
        if not isinstance(flag := (cell.get("network") or {}).get("jacobian_finite"), bool):
            raise MissingNumberError(f"{_where(key)}: network.jacobian_finite is missing")
        finite += flag
        if flag:  # the norm of a Jacobian that is not finite says no more than that
            norms.append(number(cell, "network.jacobian_norm", _where(key)))
    verdict.require("(a) entries of the grid with J_u finite", "==", len(records.keys), finite, "cells")
    if norms:
        verdict.require("(a) min |J_u|_F", ">", 0.0, min(norms), "couplings per unit of phi")

    distances = [number(records.checkpoint(place), "min_coupling_distance", _where(place)) for place in finals]
    name = "(b) min |W(u) - W(u')|_F at the final checkpoints"
    verdict.require(name, ">", thresholds["coupling_distance"], min(distances), "couplings")

    if anchor not in records.places:
        raise MissingNumberError(f"the grid does not hold the anchor, {_where(anchor)}")
    value, complexes = _gradient_errors(records.checkpoint(anchor), anchor, design["directions"])
    if (source := records.checkpoint(anchor)["gradient_check"].get("value_reference")) != "dense":
        raise MissingNumberError(f"{_where(anchor)}: the gradient check is against {source!r} and not against the dense reference")
    rows = records.checkpoint(anchor)["gradient_check"]["directions"]
    differences = [number(row, "difference_error", f"{_where(anchor)}: gradient check") for row in rows]
    verdict.require("(c) kernel value against the dense reference at the anchor", "<=", thresholds["value"], value, "relative")
    for index, difference in enumerate(differences):
        name = f"(c) adjoint against central differences at the anchor, direction {index + 1}"
        verdict.require(name, "<=", thresholds["difference"], difference, "relative")
    name = "(c) adjoint against the complex step at the anchor, all directions"
    verdict.require(name, "<=", thresholds["complex"], max(complexes), "relative")
    _report_checkpoints(verdict, records)


def _gradient_errors(record: Record, place: Key, n_directions: int) -> tuple[float, list[float]]:
    """Error of the value, and of every direction's adjoint against the complex step."""
    check, where = record.get("gradient_check") or {}, f"{_where(place)}: gradient check"
    rows = check.get("directions") or []
    if len(rows) != n_directions:
        raise MissingNumberError(f"{where}: {len(rows)} of {n_directions} directions")
    return number(check, "value_error", where), [number(row, "complex_error", where) for row in rows]


def _report_checkpoints(verdict: _Verdict, records: _Records) -> None:
    """(c) at every checkpoint that was checked; nothing here decides."""
    thresholds = records.thresholds
    values, complexes, differences, automatics = [], [], [], []
    within = explained = unexplained = 0
    for place in records.places:
        record = records.checkpoint(place)
        if record.get("gradient_check") is None:
            continue
        value, complex_errors = _gradient_errors(record, place, records.design["directions"])
        rows = record["gradient_check"]["directions"]
        measured = [row for row in rows if row.get("difference_error") is not None]
        values.append(value)
        complexes += complex_errors
        differences += [row["difference_error"] for row in measured]
        automatics += [row["automatic_error"] for row in rows if row.get("automatic_error") is not None]
        for row in measured:
            if row["difference_error"] > DIFFERENCE_GOAL:
                explained += bool(row.get("difference_note"))
                unexplained += not row.get("difference_note")
        within += (
            value <= thresholds["value"]
            and max(complex_errors) <= thresholds["complex"]
            and all(row["difference_error"] <= thresholds["difference"] for row in measured)
        )
    verdict.reported |= {
        "checkpoints": len(records.places),
        "checkpoints_checked": len(values),
        "checkpoints_within_gates": within,
        "directions_against_central_differences": len(differences),
        "differences_above_goal_explained": explained,
        "differences_above_goal_unexplained": unexplained,
    }
    for key, errors in (("value", values), ("complex", complexes), ("difference", differences), ("automatic", automatics)):
        verdict.report(f"max_{key}_error", max(errors, default=None), "nothing was checked")


def _p2(verdict: _Verdict, records: _Records) -> None:
    verdict.basis = {"cells": len(records.basis_keys)}
    if not records.basis_keys:
        raise MissingNumberError("the grid holds no cell of the verdict basis")

    judged: dict[Key, _Qualification] = {key: _qualify(records, key) for key in records.basis_keys}
    for key in records.keys:
        with suppress(MissingNumberError):  # beyond the basis, a cell that is not there is not counted, and nothing halts
            judged[key] = judged.get(key) or _qualify(records, key)
    basis = [judged[key] for key in records.basis_keys]
    crossable = [cell for cell in basis if cell.count]
    everywhere = {key: judged[key] for key in records.keys if key in judged and judged[key].count}
    margin = min((value for cell in basis for value in cell.margins), default=None)
    flip = min((value for cell in basis for value in cell.flip_margins), default=None)
    overlap_changes, multiway_changes = sum(not cell.overlap_clean for cell in basis), sum(not cell.multiway_clean for cell in basis)
    verdict.require("cells of the basis with N_qual >= 1", ">=", 1, len(crossable), "cells", margin, "qualification")
    verdict.require("overlap rider: cells of the basis whose N_qual changes", "==", 0, overlap_changes, "cells")
    verdict.require("multiway rider: cells of the basis whose N_qual changes", "==", 0, multiway_changes, "cells")
    verdict.reported |= {
        "cells_basis": len(crossable),
        "cells_basis_clean": sum(cell.overlap_clean and cell.multiway_clean for cell in crossable),
        "cells_all": len(everywhere),
        "cells_judged": len(judged),
        "cells_by_split": {str(s): sum(key[1] == s for key in everywhere) for s in records.design["grid"]["split"]},
        "cells_by_m": {str(m): sum(key[0] == m for key in everywhere) for m in records.design["grid"]["m"]},
        "events_basis": sum(cell.count for cell in basis),
        "orderings_basis": sum(cell.orderings for cell in basis),
    }
    for suffix, cells in (("", list(everywhere.values())), ("_basis", crossable)):
        verdict.reported[f"gamma_eff_step{suffix}"] = _span([cell.gamma_eff_step for cell in cells])
        verdict.reported[f"gamma_eff_step{suffix}_bound"] = max((cell.gamma_eff_step_bound for cell in cells), default=None)
        verdict.reported[f"u_thermo{suffix}"] = _span([cell.u_thermo for cell in cells])
    verdict.report("margin", margin, "no event of the basis qualifies")
    verdict.report("flip_margin", flip, "the basis has no merge event")


@dataclass(frozen=True)
class _Qualification:
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


def _qualify(records: _Records, key: Key) -> _Qualification:
    cell, thresholds = records.sound_cell(key), records.thresholds
    gamma, gamma_error = (number(cell, f"spectrum.gamma_eff_{name}", _where(key)) for name in ("step", "error"))
    events, orderings = _events(cell, key), _orderings(cell, key)
    try:
        qualified = qualifying(events, thresholds)
        return _Qualification(
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
        raise MissingNumberError(f"{_where(key)}: {error}") from None


def _events(cell: Record, key: Key) -> list[Record]:
    events = (cell.get("landscape") or {}).get("events")
    if not isinstance(events, list):
        raise MissingNumberError(f"{_where(key)}: landscape.events is missing")
    return events


def _orderings(cell: Record, key: Key) -> list[list[Record]]:
    """The event lists under the other orders of the multiway saddles; there must be some where there is such a saddle."""
    landscape = cell["landscape"]
    orderings = landscape.get("orderings") or []
    if number(cell, "landscape.multiway_saddles", _where(key)) and not orderings:
        raise MissingNumberError(f"{_where(key)}: landscape.orderings is missing although a saddle is multiway")
    return list(orderings)


def _p3(verdict: _Verdict, records: _Records) -> None:
    verdict.basis = {"cells": len(records.keys)}
    worst: dict[str, tuple[str, float, float]] = {}
    where: dict[str, str] = {}
    fallbacks = solves = cuts = 0
    cluster_errors: list[float] = []
    for key in records.keys:
        cell = records.cell(key)
        for name, operator, threshold, observed in battery_gates(cell, records.thresholds, _where(key)):
            better = worst.get(name)
            if better is None or (observed < better[2] if operator == ">=" else observed > better[2]):
                worst[name], where[name] = (operator, threshold, observed), _where(key)
        fallbacks += cell["battery"].get("fallback") is not None
        solves += int(number(cell, "battery.hitting_solves", _where(key)))
        cuts += int(number(cell, "battery.cuts", _where(key)))
        with suppress(MissingNumberError):
            cluster_errors.append(number(cell, "spectrum.gamma_eff_error", _where(key)))
    units = {"hitting_residual": "relative", "solver_residual": "relative", "cheeger_margin": "per step"}
    for name, (operator, threshold, observed) in worst.items():
        extreme = "least" if operator == ">=" else "max"
        verdict.require(f"{extreme} {name}", operator, threshold, observed, units.get(name, "absolute"))
    verdict.reported |= {"fallbacks": fallbacks, "hitting_solves": solves, "cuts": cuts, "worst_cells": where}
    verdict.report("max_gamma_eff_error", max(cluster_errors, default=None), "not recorded")
    verdict.reported["cells_with_gamma_eff_above_1e-8"] = sum(error > 1e-8 for error in cluster_errors)
    for name, (operator, threshold, observed) in worst.items():
        if not _met(operator, observed, threshold):  # a failed check is no answer: verify or halt
            raise MissingNumberError(f"{where[name]}: {name} is {observed:.3g}, which is not {operator} {threshold:.3g}")


def _p4(verdict: _Verdict, records: _Records) -> None:
    thresholds, limit = records.thresholds, records.thresholds["final_kl"]
    finals = {place[:2] for place in records.finals()}
    verdict.basis = {"cells": len(records.keys), "stationarity": 0}
    mismatches = 0
    groups: dict[Key, dict[str, Any]] = {}
    final_kl: list[dict[str, Any]] = []
    classified: list[dict[str, Any]] = []
    unclassified: list[MissingNumberError] = []
    for key in records.keys:
        cell, where = records.sound_cell(key), _where(key)
        rank, expected, span = (number(cell, f"network.{name}", where) for name in ("rank", "rank_expected", "observable_span"))
        mismatches += rank != expected
        group = groups.setdefault(key[:2], {"rank_expected": set(), "rank": set(), "observable_span": set()})
        for name, size in zip(group, (expected, rank, span), strict=True):
            group[name].add(int(size))
        if key[2] != "final":
            continue
        kl = number(cell, "training.kl", where)
        final_kl.append({"m": key[0], "split": key[1], "code": key[3], "final_kl": kl})
        if kl > limit:
            try:
                classified.append(_classify(records.stationary((key[0], key[1], key[3])), key, kl, thresholds))
            except MissingNumberError as error:
                unclassified.append(error)
    verdict.basis["stationarity"] = len(classified)
    verdict.require("cells whose rank(J_u) is not r(2m - r)", "==", 0, mismatches, "cells")
    verdict.require(f"codes with final KL > {limit:g} nats left unclassified", "==", 0, len(unclassified), "codes")
    verdict.reported |= {
        "by_m_and_split": [
            {"m": m, "split": s} | {name: sorted(values) for name, values in group.items()} for (m, s), group in groups.items()
        ],
        "final_kl": final_kl,
        "max_final_kl_by_split": {
            str(s): max(row["final_kl"] for row in final_kl if row["split"] == s) for s in sorted({split for _, split in finals})
        },
        "stationarity": classified,
        "stationary": sum(row["stationary"] for row in classified),
        "undertrained": sum(not row["stationary"] for row in classified),
    }
    distances = [_log_ratio(row["final_kl"], limit) for row in final_kl]
    for row in classified:
        distances += [_log_ratio(row["polished_kl"], limit), _log_ratio(row["gradient_norm"], thresholds["gradient_norm"])]
    verdict.report("margin", min(map(abs, distances), default=None), "nothing was classified")
    if unclassified:  # what was to be measured is not there
        raise unclassified[0]


def _classify(record: Record, key: Key, kl: float, thresholds: Record) -> dict[str, Any]:
    """Stationary: L-BFGS from the final parameters left the KL at or above the limit with the gradient below its own; else undertrained."""
    where = f"m={key[0]}, s={key[1]}, code {key[3]}: test for stationarity"
    polished, gradient = number(record, "polished_kl", where), number(record, "gradient_norm", where)
    stationary = polished >= thresholds["final_kl"] and gradient < thresholds["gradient_norm"]
    if record.get("stationary") is not stationary:
        raise MissingNumberError(f"{where}: recorded as stationary={record.get('stationary')!r}, which its own numbers contradict")
    row = {"m": key[0], "split": key[1], "code": key[3], "final_kl": kl, "polished_kl": polished, "gradient_norm": gradient}
    return row | {"stationary": stationary, "class": "stationary" if stationary else "undertrained"}


_RULES: dict[str, tuple[str, Callable[[_Verdict, _Records], None]]] = {
    "P1": ("The gate G1b is constructed. This is a statement about the construction and no empirical validation.", _p1),
    "P2": ("Crossable multimodality exists (R3): a cell of the basis has a qualifying merge event, and both riders are clean.", _p2),
    "P3": ("The battery is verifiable (R4): every check was made and met in every cell, verify or halt.", _p3),
    "P4": (
        "Response along the split axis. Descriptive: PASS means that everything was measured, that rank(J_u) = r(2m - r) everywhere, and "
        "that every code whose final KL stays above its limit was classified as stationary or undertrained; it asserts no more.",
        _p4,
    ),
}
