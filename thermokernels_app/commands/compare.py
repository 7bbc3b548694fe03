"""The command that sets estimators beside the exact autocorrelation time: compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from thermokernels_app.commands.console import AsJson, errors, report
from thermokernels_app.commands.models import MODEL_HELP, Convention, read_model

EXIT_CODES = "Exit codes: 0 compared, whatever came out; 1 unexpected error; 2 bad usage or input; 11 HALT, no exact time in float64"


def compare(
    trace: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE", help="Spins +1 and -1, chains x records x spins (.npy), or a series, chains x records (.npy, .csv)."
        ),
    ],
    model: Annotated[Path, typer.Option("--model", "-m", help=MODEL_HELP)],
    observable: Annotated[
        list[str] | None,
        typer.Option("--observable", "-o", help="energy, magnetisation, visible-magnetisation, slowest, or spins as in v0h2; repeatable."),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel",
            help="single-site or two-block, both random-scan, alternating (scikit-learn, rbms, thrml) or symmetrised-alternating; by "
            "default that of the model, or single-site.",
        ),
    ] = None,
    every: Annotated[int, typer.Option("--every", min=1, help="Sweeps between records.")] = 1,
    every_steps: Annotated[int | None, typer.Option("--every-steps", min=1, help="Steps between records, in place of --every.")] = None,
    layout: Annotated[
        str | None, typer.Option("--layout", help="What the axes of the trace are: chain-draw (ArviZ) or draw-chain, then spins.")
    ] = None,
    convention: Convention = None,
    as_json: AsJson = False,
) -> None:
    """What emcee and ArviZ make of a trace, beside the exact autocorrelation time of the model it was drawn from.

    A trace holds visible spins first, then hidden ones (these may be missing), burn-in taken off.
    """
    with errors(as_json):
        import thermokernels as tk
        from thermokernels_app.report.screens import comparison_tables
        from thermokernels_app.tools import data_files

        machine = read_model(model, convention, has_data=True)
        found = tk.compare(
            data_files.read_trace(trace),
            machine,
            observables=observable,
            kernel=kernel,
            every=every,
            every_steps=every_steps,
            layout=layout,
        )
        if as_json:
            print(json.dumps({"trace": str(trace), "model": str(model), **found.as_dict()}, allow_nan=False))
        else:
            comparison_tables.print_comparison(found)
        if unresolved := [row.observable for row in found.rows if row.reason is not None and not row.constant]:
            raise typer.Exit(report(11, f"HALT: no exact time of {', '.join(unresolved)}", False))
