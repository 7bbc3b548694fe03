"""`thermo selftest`: all cases one after the other, what each gate was tripped by, and the gates as the code's own tables name them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from thermokernels_app.experiment import freeze
from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.factorization_design import FactorizationDesign
from thermokernels_app.experiment.steering_design import SteeringDesign
from thermokernels_app.judges import automatic_differentiation, verdicts
from thermokernels_app.selftest import (
    adjoint_terms,
    answers,
    bound_terms,
    case,
    chains,
    checkpoints,
    coupled_chains,
    differentiable,
    factorization_rules,
    rules,
    stale_kernels,
    steering_rules,
    tampering,
)
from thermokernels_app.selftest.case import Case
from thermokernels_app.selftest.sound_records import Records


def cases(design: Design | None = None) -> dict[str, list[Case]]:
    """All cases by group, with the thresholds of a design (the registered one by default)."""
    plain = (design or Design()).as_dict()
    thresholds = plain["thresholds"]
    return {
        "kernels": [*answers.cases(), *stale_kernels.cases(), *coupled_chains.cases()],
        "bounds": bound_terms.cases(),
        "adjoints": adjoint_terms.cases(thresholds),
        "gradient check": checkpoints.cases(thresholds),
        "battery": chains.cases(thresholds),
        "verdicts": [
            *rules.cases(plain),
            *factorization_rules.cases(FactorizationDesign().as_dict()),
            *steering_rules.cases(SteeringDesign().as_dict()),
        ],
        "records": tampering.cases(),
    }


def gates(design: Design | None = None) -> set[str]:
    """Every gate there is, enumerated from the tables of the code that has them: each needs a case that trips it."""
    plain = (design or Design()).as_dict()
    records = Records(plain)
    judged = verdicts.judge(plain, records.cells, records.checkpoints, records.stationarity)
    legs = checkpoints.GATES.keys() - (set() if automatic_differentiation.available() else {"automatic_error"})
    return {
        *map(answers.gate_of, answers.answers()),
        answers.PLAIN,
        stale_kernels.KEY,
        stale_kernels.NUMBER,
        coupled_chains.EXACT,
        *map(bound_terms.gate_of, bound_terms.TERMS),
        *differentiable.LEGS,
        differentiable.REFUSED,
        *(checkpoints.gate_of(number, number != "solution_residual") for number in legs),
        checkpoints.gate_of("complex_error", dense=False),
        *map(chains.gate_of, {name for name, _, _ in verdicts.GATES}),
        *chains.REFUSALS,
        chains.QUOTIENT,
        *(rules.criterion(name, one["name"]) for name, verdict in judged.items() for one in verdict["criteria"]),
        *(rules.filter_of(key) for key, _, _ in verdicts.FILTERS),
        *map(rules.needed, verdicts.COMPUTED_EVERYWHERE),
        *map(rules.halt, judged),
        *factorization_rules.gates(),
        *steering_rules.gates(SteeringDesign().as_dict()),
        *tampering.RECORD_GATES,
        *tampering.CHAIN_GATES,
        *map(tampering.must_match, freeze.MUST_MATCH),
        tampering.OVERWRITTEN,
    }


def run(design: Design | None = None, progress: Callable[[int, int, str], None] | None = None) -> dict[str, Any]:
    """Break every gate and return the report, as plain JSON types.

    Parameters
    ----------
    design : Design, optional
        Whose thresholds are used, by default the registered ones.
    progress : callable, optional
        Called before every case with the number of those that are done, the number of all, and the group.

    Returns
    -------
    dict
        ``verdict`` ("PASS" where every sabotage was caught and no gate was left alone, else "FAIL"), ``seconds``, ``untripped`` (gates
        without a case that trips them), ``skipped`` (sentences) and ``cases`` with group, gate, breaks, caught, by, said and seconds.
    """
    start = time.perf_counter()
    groups = cases(design)
    total = sum(map(len, groups.values()))
    rows: list[dict[str, Any]] = []
    for group, members in groups.items():
        for one in members:
            if progress:
                progress(len(rows), total, group)
            rows.append({"group": group, **asdict(case.run(one))})
    untripped = sorted(gates(design) - {row["gate"] for row in rows if row["caught"]})
    return {
        "verdict": "PASS" if not untripped and all(row["caught"] for row in rows) else "FAIL",
        "seconds": time.perf_counter() - start,
        "untripped": untripped,
        "skipped": [] if automatic_differentiation.available() else ["the JAX leg of the gradient check: pip install '.[jax]'"],
        "cases": [row | {"by": list(row["by"])} for row in rows],
    }


def as_markdown(groups: dict[str, list[Case]]) -> str:
    """The gates of every group and what each is tripped by, as tables; nothing is run."""
    lines = []
    for group, members in groups.items():
        lines += [f"### {group[:1].upper()}{group[1:]}", "", "| gate | tripped by |", "|---|---|"]
        by_gate: dict[str, list[str]] = {}
        for one in members:
            by_gate.setdefault(one.gate, []).append(one.breaks)
        lines += [f"| {_cell(gate)} | {_cell('; '.join(breaks))} |" for gate, breaks in by_gate.items()] + [""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
