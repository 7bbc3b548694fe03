"""The command that looks at the installation: doctor."""

from __future__ import annotations

import json

import typer

from thermokernels_app.commands.console import AsJson, errors

EXIT_CODES = "Exit codes: 0 healthy; 1 something is broken, or an unexpected error; 11 HALT, the compiled kernels give a wrong number"


def doctor(as_json: AsJson = False) -> None:
    """Versions, machine, cache of compiled kernels, optional packages, and a known answer through the compiled kernels."""
    with errors(as_json):
        from thermokernels_app.report.screens import doctor_lines
        from thermokernels_app.tools import doctor as examination

        found = examination.examine()
        if as_json:
            print(json.dumps(found, allow_nan=False))
        else:
            doctor_lines.print_findings(found)
        raise typer.Exit(found["exit_code"])
