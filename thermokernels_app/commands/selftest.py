"""The command that shows that the gates bite: selftest."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from thermokernels_app.commands.console import AsJson, errors

EXIT_CODES = (
    "Exit codes: 0 every sabotage was caught; 1 unexpected error; 10 one was not, or a gate was tripped by nothing; 130 interrupted"
)


def selftest(
    list_gates: Annotated[
        bool, typer.Option("--gates", help="Break nothing: list every gate and what trips it, as Markdown tables.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Break every gate on purpose, one at a time, and report which check caught it.

    Every term of every adjoint, the chain, its solutions and cuts, the rules of the verdicts, a stale compiled kernel, records and freezes;
    and known answers through the compiled kernels and through their plain Python bodies. A gate that nothing trips is a FAIL.
    """
    with errors(as_json):
        from thermokernels.common.arguments import shortened
        from thermokernels_app.report.screens import layout
        from thermokernels_app.selftest import run as tests

        if list_gates:
            print(tests.as_markdown(tests.cases()), end="")
            raise typer.Exit(0)
        report = tests.run(progress=_progress())
        if as_json:
            print(json.dumps(report, allow_nan=False))
        else:
            rows = [(row["gate"], row["breaks"], "yes" if row["caught"] else "no", row["said"]) for row in report["cases"]]
            layout.print_table(("gate", "broken", "caught", "what the gate said"), [(*row[:3], shortened(row[3], 90)) for row in rows])
            _print_summary(report)
    raise typer.Exit(0 if report["verdict"] == "PASS" else 10)


def _print_summary(report: dict[str, Any]) -> None:
    print()
    for gate in report["untripped"]:
        print(f"tripped by nothing: {gate}")
    for sentence in report["skipped"]:
        print(f"left out: {sentence}")
    caught, tripped = sum(row["caught"] for row in report["cases"]), len({row["gate"] for row in report["cases"] if row["caught"]})
    print(f"selftest: {report['verdict']}  {caught} of {len(report['cases'])} caught, {tripped} gates, {report['seconds']:.1f} s")


def _progress() -> Any:
    """A line on stderr where a new group begins."""
    shown = ""

    def show(done: int, total: int, group: str) -> None:
        nonlocal shown
        if group != shown:
            shown = group
            print(f"{group} ({done} of {total} done)", file=sys.stderr, flush=True)

    return show
