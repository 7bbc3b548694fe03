"""P6: does the gradient of Q steer a training? More signal to noise at hardly any cost in divergence, for half of the seed tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from thermokernels_app.judges.records import MissingNumberError, number
from thermokernels_app.judges.verdicts.criteria import Verdict

Record = Mapping[str, Any]

STATEMENT = (
    "Q steers: for some lambda > 0, training on KL + lambda (-log Q) ends with a mean log Q that is higher by the gain of the design than "
    "with lambda = 0, at a mean KL that is hardly larger, for at least half of the seed tables at every size."
)
KINDS = {"weights": "weight", "relative_floors": "relative-floor", "absolute_floors": "absolute-floor"}
ERRORS = {"value_error": "value", "gradient_error": "gradient"}


def free_run(cell: Record) -> Record:
    """The training with lambda = 0."""
    free: Record = next(run for run in cell["runs"] if run["kind"] == "weight" and run["number"] == 0)
    return free


def gain(free: Record, run: Record) -> float:
    """How much higher the mean of log Q over codes and last steps is than without steering."""
    return statistics.fmean(run["log_q"]) - statistics.fmean(free["log_q"])


def cost(free: Record, run: Record) -> float:
    """The mean KL over codes and last steps, over that without steering."""
    return statistics.fmean(run["kl"]) / statistics.fmean(free["kl"])


def meets(free: Record, run: Record, design: Record) -> bool:
    """Whether a training meets the bar."""
    return gain(free, run) >= float(design["gain"]) and cost(free, run) <= float(design["cost"])


class SteeringRecords:
    """The records of a run by seed and size, every one with a training for each objective."""

    def __init__(self, design: Record, cells: Sequence[Record]) -> None:
        self.design, self.cells, self.empty = design, cells, not cells

    def tables(self, m: int) -> Iterator[Record]:
        """The records of one size; MissingNumberError for one that is missing, halted, not complete, or beyond a gate."""
        wanted = [(kind, value) for numbers, kind in KINDS.items() for value in self.design[numbers]]
        for seed in self.design["seeds"]:
            where = f"seed {seed}, m={m}"
            found = [cell for cell in self.cells if (cell.get("seed"), cell.get("m"), cell.get("split")) == (seed, m, self.design["split"])]
            if len(found) != 1:
                raise MissingNumberError(f"{where}: {'no record' if not found else f'{len(found)} records'}")
            cell = found[0]
            if cell.get("status") != "ok":
                halt = cell.get("halt") or {}
                raise MissingNumberError(f"{where}: halted at {halt.get('check', 'an unnamed check')}: {halt.get('detail', 'no detail')}")
            runs = cell.get("runs") or []
            if [(run.get("kind"), run.get("number")) for run in runs] != wanted:
                raise MissingNumberError(f"{where}: its trainings are not those of the design")
            self._gate(cell, "baseline_error", "baseline", where)
            for run in runs:
                name = f"{where}, {run['kind']} {run['number']:g}"
                for key, gate in ERRORS.items():
                    self._gate(run, key, gate, name)
                for key in ("kl", "log_q", "log_signal", "log_t_obs_steps"):
                    _finite(run, key, self.design["base"]["teacher"]["codes"], name)
            yield cell

    def _gate(self, record: Record, key: str, gate: str, where: str) -> None:
        error, limit = number(record, key, where), self.design["gates"][gate]
        if not error <= limit:
            raise MissingNumberError(f"{where}: {key} {error:.3g} is beyond its gate {limit:.3g}")


def _finite(run: Record, key: str, count: int, where: str) -> None:
    values = run.get(key)
    if not isinstance(values, list) or len(values) != count:
        raise MissingNumberError(f"{where}: {key} is not a number for each of {count} codes")
    for k, value in enumerate(values):
        number({key: value}, key, f"{where}, code {k + 1}")


def rule(verdict: Verdict, records: SteeringRecords) -> None:
    design = records.design
    seeds_met: dict[str, dict[str, int]] = {}
    both = set(design["seeds"])
    shares = {}
    for m in design["sizes"]:
        by_objective: dict[str, int] = {}
        met = set()
        for cell in records.tables(m):
            free = free_run(cell)
            for run in cell["runs"]:
                name, good = f"{run['kind']} {run['number']:g}", meets(free, run, design)
                by_objective[name] = by_objective.get(name, 0) + good
                if good and run["kind"] == "weight" and run["number"] > 0:
                    met.add(cell["seed"])
        shares[m] = len(met) / len(design["seeds"])
        seeds_met[f"m = {m}"], both = by_objective, both & met
    verdict.basis = {"seeds": len(design["seeds"]), "sizes": len(design["sizes"]), "trainings": len(records.cells) * _objectives(design)}
    for letter, m in zip("abcdefgh", design["sizes"], strict=False):
        verdict.require(f"({letter}) share of seeds that meet the bar at m = {m}", ">=", design["share"], shares[m], "share")
    verdict.reported |= {
        "seeds_that_meet_the_bar_by_objective": seeds_met,
        "seeds_that_meet_it_at_every_size": len(both),
        "gain_factor": math.exp(design["gain"]),
    }


def _objectives(design: Record) -> int:
    return sum(len(design[numbers]) for numbers in KINDS)


def judge(design: Record, cells: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """``{"P6": verdict}`` from the plain records."""
    return {"P6": Verdict(STATEMENT).run(rule, SteeringRecords(design, cells))}
