"""The command that compiles ahead: warmup."""

from __future__ import annotations

import json

import typer

from thermokernels_app.commands.console import AsJson, errors

EXIT_CODES = "Exit codes: 0 every kernel is compiled and kept; 1 unexpected error; 2 the folder for compiled kernels cannot be written"


def warmup(as_json: AsJson = False) -> None:
    """Compile every kernel that the commands need, once for this version, machine and user; a second call finds all of them there."""
    with errors(as_json):
        from thermokernels_app.tools import warmup as compilation

        if not as_json:
            typer.echo("compiling, or loading, the kernels of run, verify-gradients and diagnose: up to a minute the first time", err=True)
        found = compilation.warm_up()
        if as_json:
            print(json.dumps(found, allow_nan=False))
        elif found["compiled"]:
            print(f"compiled {found['compiled']} of {found['kernels']} kernels in {found['seconds']:.1f} s; kept in {found['folder']}")
        else:
            print(f"all {found['kernels']} kernels were there already ({found['seconds']:.1f} s to load); kept in {found['folder']}")
