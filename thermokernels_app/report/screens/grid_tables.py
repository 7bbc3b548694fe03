"""Verdicts and gradient checks as tables: drawn with rich on a terminal, plain lines that are never wrapped elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from thermokernels_app.report import ensemble
from thermokernels_app.report.screens.layout import COLOURS, print_table, print_wrapped

if TYPE_CHECKING:
    from thermokernels_app.experiment.running.outcome import Run

# What the reported numbers are called on the screen; the keys are those of results.json.
LABELS = {
    "checkpoints": "checkpoints of the grid",
    "checkpoints_checked": "(c) repeated at checkpoints",
    "checkpoints_within_gates": "of these within all gates",
    "directions_against_central_differences": "directions held against central differences",
    "differences_above_goal_explained": "central differences above 1e-6, conditioning forbids better",
    "differences_above_goal_unexplained": "central differences above 1e-6, unexplained",
    "max_value_error": "largest error of the value (relative)",
    "max_complex_error": "largest error against the complex step (relative)",
    "max_difference_error": "largest error against central differences (relative)",
    "max_automatic_error": "largest error against JAX (relative)",
    "cells_basis": "cells of the basis with N_qual >= 1",
    "cells_basis_clean": "of these with both riders clean",
    "cells_all": "cells of the whole grid with N_qual >= 1",
    "cells_judged": "cells judged",
    "cells_by_split": "cells with N_qual >= 1 by split",
    "cells_by_m": "cells with N_qual >= 1 by m",
    "events_basis": "qualifying events in the basis",
    "orderings_basis": "orders tried at multiway saddles of the basis",
    "gamma_eff_step": "gamma_eff per step where N_qual >= 1",
    "gamma_eff_step_basis": "gamma_eff per step where N_qual >= 1, in the basis",
    "u_thermo": "U_thermo where N_qual >= 1 (nats)",
    "u_thermo_basis": "U_thermo where N_qual >= 1, in the basis (nats)",
    "margin": "least margin (logarithmic)",
    "flip_margin": "least margin of any event, qualifying or not",
    "fallbacks": "cells that fell back to the full chain",
    "hitting_solves": "hitting-time solves",
    "cuts": "cuts held against Cheeger's bound",
    "max_gamma_eff_error": "largest relative error of gamma_eff",
    "cells_with_gamma_eff_above_1e-8": "cells where gamma_eff keeps an error above 1e-8",
    "max_final_kl_by_split": "largest final KL by split (nats)",
    "stationary": "stationary codes",
    "undertrained": "undertrained codes",
}


# What the statements of the verdicts call things, in plain words. The statements themselves are part of published records.
EXPLAINED = {
    "P1": "G1b: from the parameters phi of the network to Q all is differentiable, and the gradient is right; J_u = d vec W / d phi.",
    "P2": "R3: basins that hold probability, have a barrier of log 2 between them, are crossed both ways within the budget and are seen by "
    "the gradient. N_qual counts their merge events, U_thermo adds up relevance times barrier; a rider: does N_qual hang on a choice?",
    "P3": "R4: a record is believed when its own checks, the battery, hold; margins are ln(threshold / observed), or differences.",
    "P4": "rank(J_u): in how many directions a step of the network moves W; r(2m - r) is the most that rank r allows.",
}


def print_document(document: dict[str, Any], verdicts: dict[str, Any]) -> None:
    """Everything of a run that a reader wants to see, on stdout; the verdicts once more in the last lines."""
    seconds = document["run"]["seconds"]
    print(f"design {document['design_sha256']}, {len(document['cells'])} cells, {document['status']}, {seconds:.1f} s")
    if halt := document["halt"]:
        print(f"HALT at {halt['where']}: {halt['check']}: {halt['detail']}")
    for name, verdict in verdicts.items():
        print()
        _print_title(name, verdict["verdict"], verdict["statement"])
        if name in EXPLAINED:
            print_wrapped(EXPLAINED[name], "  ", "  ")
        if verdict["reason"]:
            print(f"  {verdict['reason']}")
        rows = [
            (c["name"], c["operator"], _text(c["threshold"]), _text(c["observed"]), _text(c["margin"]), c["unit"] or "", _yes(c["met"]))
            for c in verdict["criteria"]
        ]
        print_table(("criterion", "", "threshold", "observed", "margin", "unit", "met"), rows)
        print(f"  rests on: {_text(verdict['basis'])}")
        _print_reported(verdict["reported"])
    print()
    for name, verdict in verdicts.items():
        _print_title(name, verdict["verdict"])


def ensemble_summary(runs: Mapping[int, Run]) -> dict[str, Any]:
    """The verdicts of an ensemble: a row a seed, and how many seeds have which verdict."""
    rows = [
        {
            "seed": seed,
            "status": run.document["status"],
            "exit_code": run.exit_code,
            "verdicts": run.verdicts,
            "records_sha256": run.document["records_sha256"],
            "folder": None if run.folder is None else str(run.folder),
        }
        for seed, run in runs.items()
    ]
    names = next(iter(runs.values())).verdicts
    verdicts = ("PASS", "FAIL", "HALT")
    counts = {name: {verdict: sum(run.verdicts[name] == verdict for run in runs.values()) for verdict in verdicts} for name in names}
    return {"counts": counts, "runs": rows, "summary": ensemble.summary_of({seed: run.document for seed, run in runs.items()})}


def print_ensemble(summary: dict[str, Any]) -> None:
    """A row a seed, then the counts."""
    names = list(summary["counts"])
    rows = [(run["seed"], run["status"], *(run["verdicts"][name] for name in names), run["folder"]) for run in summary["runs"]]
    print_table(("seed", "status", *names, "folder"), rows)
    print()
    for name, counts in summary["counts"].items():
        print(f"{name}: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) + f" of {len(rows)} seeds")
    print_ensemble_figures(summary["summary"])


def print_ensemble_figures(summary: Mapping[str, Any]) -> None:
    """How every figure is distributed over the complete runs, and where the published one falls."""
    if summary["figures"]:
        print(f"\nover {summary['complete']} complete runs; a published figure stands at the percentile of the runs that lie below it")
        print_table(ensemble.HEADER, ensemble.rows_of(summary))


def print_gradients(report: dict[str, Any]) -> None:
    """The gradient checks: a row a direction and leg, then the verdict of every leg."""
    keys = ("direction", "leg", "adjoint", "best_step", "error", "gate", "met")
    for check in report["checks"]:
        _print_title(f"m {check['m']}, split {check['split']}, checkpoint {check['checkpoint']}", check["verdict"])
        print_table(
            ("direction", "leg", "adjoint", "best h", "error", "gate", "met"),
            [tuple(_text(row[key]) for key in keys) for row in check["rows"]],
        )
        for note in check["notes"]:
            print(f"  {note}")
        print()
    for leg in report["legs"]:
        _print_title(leg["leg"], leg["verdict"], f"largest error {_text(leg['max_error'])}, gate {_text(leg['gate'])}, rows: {leg['rows']}")
    if not report["jax"]:
        print("automatic (JAX): not installed: pip install '.[jax]'")
    _print_title("verify-gradients", report["verdict"])


def _print_reported(reported: dict[str, Any]) -> None:
    reported = dict(reported)
    if "by_m_and_split" in reported and "final_kl" in reported:
        _print_split_axis(reported.pop("by_m_and_split"), reported.pop("final_kl"))
    for key, value in reported.items():
        if value is None or key.endswith(("_reason", "_bound")):
            continue  # not measured here, results.json says why; or the error of another number, which has no more digits than that
        label = LABELS.get(key, key.replace("_", " "))
        if isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"  {label}:")
            print_table(tuple(name.replace("_", " ") for name in value[0]), [tuple(map(_text, row.values())) for row in value])
        elif key == "worst_cells":
            for name, where in value.items():
                print(f"  worst {name.replace('_', ' ')}: {where}")
        else:
            print(f"  {label}: {_text(value, reported.get(key + '_bound'))}")


def _print_split_axis(ranks: list[dict[str, Any]], divergences: list[dict[str, Any]]) -> None:
    """One row a network: its ranks, and the final KL of every code in a column of its own."""
    codes = sorted({row["code"] for row in divergences})
    final = {(row["m"], row["split"], row["code"]): row["final_kl"] for row in divergences}
    rows = []
    for row in ranks:
        place = (row["m"], row["split"])
        measured = (_text(_single(row[key])) for key in ("rank_expected", "rank", "observable_span"))
        rows.append((*map(str, place), *measured, *(_text(final.get((*place, code))) for code in codes)))
    print_table(("m", "split", "r(2m - r)", "rank(J_u)", "observable span", *(f"final KL, code {code}" for code in codes)), rows)


def _single(values: Any) -> Any:
    """The only member of a list of one."""
    return values[0] if isinstance(values, list) and len(values) == 1 else values


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def _text(value: Any, error: float | None = None) -> str:
    """A value in one short line: floats with six digits or as many as are certain, null as a dash, lists and tables in brackets.

    In a table the error of ``x`` is ``x_bound``, and is not shown itself.
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return _yes(value)
    if isinstance(value, float):
        if error is None:
            return f"{value:.6g}"
        from thermokernels.common.digits import certified  # not before it is needed: it brings the numerics, which take a second to import

        return certified(value, error)
    if isinstance(value, dict):
        shown = [(key, item) for key, item in value.items() if not key.endswith("_bound")]
        return ", ".join(f"{key} {_text(item, value.get(key + '_bound'))}" for key, item in shown)
    if isinstance(value, list):
        return "[" + ", ".join(_text(item, error) for item in value) + "]"
    return str(value)


def _print_title(title: str, verdict: str, statement: str = "") -> None:
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        text = Text(f"{title}: ", style="bold").append(verdict, style=f"bold {COLOURS[verdict]}")
        Console(highlight=False).print(text.append(f"  {statement}", style="not bold"))
    else:
        print(f"{title}: {verdict}  {statement}".rstrip())
