"""P4: the response along the split of capacity between network and energy model; descriptive."""

from __future__ import annotations

from typing import Any

from thermokernels_app.judges.records import MissingNumberError, number
from thermokernels_app.judges.verdicts.criteria import Record, Verdict, log_ratio
from thermokernels_app.judges.verdicts.grid_records import GridRecords, Key, place_of


def rule(verdict: Verdict, records: GridRecords) -> None:
    thresholds, limit = records.thresholds, records.thresholds["final_kl"]
    finals = {place[:2] for place in records.finals()}
    verdict.basis = {"cells": len(records.keys), "stationarity": 0}
    mismatches = 0
    groups: dict[Key, dict[str, Any]] = {}
    final_kl: list[dict[str, Any]] = []
    classified: list[dict[str, Any]] = []
    unclassified: list[MissingNumberError] = []
    for key in records.keys:
        cell, where = records.sound_cell(key), place_of(key)
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
    distances = [log_ratio(row["final_kl"], limit) for row in final_kl]
    for row in classified:
        distances += [log_ratio(row["polished_kl"], limit), log_ratio(row["gradient_norm"], thresholds["gradient_norm"])]
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
