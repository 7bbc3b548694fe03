"""The run of the steering: a seed table at one size is one task, with all of its objectives side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from thermokernels_app.experiment.records.store import Record
from thermokernels_app.experiment.running.question import Place, Question
from thermokernels_app.experiment.steering_design import SteeringDesign
from thermokernels_app.judges.verdicts import p6_steering


class Steering(Question):
    """P6 over the seed tables, one after the other: a run that was interrupted has whole tables, at every size."""

    name, verdict, parts = "steering", "P6", "tables"

    def places(self, design: SteeringDesign) -> list[Place]:
        return [(seed, m) for seed in design.seeds for m in sorted(design.sizes, reverse=True)]

    def part(self, place: Place) -> str:
        return "seed{}-m{}".format(*place)

    def task(self) -> Callable[..., list[Record]]:
        from thermokernels_app.experiment import steering

        return steering.table_records

    def judge(self, design: Record, cells: Sequence[Record]) -> dict[str, dict[str, Any]]:
        return p6_steering.judge(design, cells)


QUESTION = Steering()


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a size and objective: medians over the seeds of the changes against lambda = 0, and how many seeds meet the bar with it.

    Changes are those of means over the codes: of log Q, log |g|^2 and -log T_O, whose sum the first is, and of log KL.
    """
    design, rows = document["design"], []
    for m in design["sizes"]:
        tables = [cell for cell in document["cells"] if cell["m"] == m and cell["status"] == "ok"]
        for n in range(len(tables[0]["runs"]) if tables else 0):
            pairs = [(p6_steering.free_run(cell), cell["runs"][n]) for cell in tables]
            rows.append(
                {
                    "m": m,
                    "kind": pairs[0][1]["kind"],
                    "number": pairs[0][1]["number"],
                    "seeds": len(pairs),
                    "kl": statistics.median(statistics.fmean(run["kl"]) for _, run in pairs),
                    "log_q": statistics.median(statistics.fmean(run["log_q"]) for _, run in pairs),
                    "kl_ratio": statistics.median(p6_steering.cost(*pair) for pair in pairs),
                    "gain": statistics.median(p6_steering.gain(*pair) for pair in pairs),
                    "gain_of_signal": statistics.median(_change(*pair, "log_signal") for pair in pairs),
                    "gain_of_time": statistics.median(-_change(*pair, "log_t_obs_steps") for pair in pairs),
                    "met": sum(p6_steering.meets(*pair, design) for pair in pairs),
                }
            )
    return rows


def tables_that_meet(document: Mapping[str, Any]) -> dict[int, tuple[int, int]]:
    """Of every size, how many of the seed tables that are there meet the bar with some lambda, and how many are there."""
    design, found = document["design"], {}
    for m in design["sizes"]:
        tables = [cell for cell in document["cells"] if cell["m"] == m and cell["status"] == "ok"]
        steered = [[run for run in cell["runs"] if run["kind"] == "weight" and run["number"] > 0] for cell in tables]
        free = map(p6_steering.free_run, tables)
        met = sum(any(p6_steering.meets(one, run, design) for run in runs) for one, runs in zip(free, steered, strict=True))
        found[m] = met, len(tables)
    return found


def _change(free: Mapping[str, Any], run: Mapping[str, Any], key: str) -> float:
    return statistics.fmean(run[key]) - statistics.fmean(free[key])
