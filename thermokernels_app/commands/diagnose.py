"""The commands for a model of your own: diagnose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from thermokernels_app.commands.console import TOLD_STATES, AsJson, errors, kept_on_interrupt, parts_done
from thermokernels_app.commands.models import Convention, ModelFile, Samples, Window, read_model

EXIT_CODES = (
    "Exit codes: 0 diagnosed; 1 unexpected error; 2 bad usage or input, or a model that is too large; "
    "130 interrupted (with --checkpoint what is done is kept)"
)


def diagnose(
    model: ModelFile,
    data: Samples = None,
    window: Window = 100.0,
    budget: Annotated[float, typer.Option("--budget", help="Sweeps within which a basin has to be crossed both ways.")] = 250.0,
    kernel: Annotated[
        str | None,
        typer.Option("--kernel", help="single-site or alternating (scikit-learn, rbms, thrml); by default the model's, or single-site."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="File that keeps finished parts; the same command goes on from it.")
    ] = None,
    convention: Convention = None,
    as_json: AsJson = False,
) -> None:
    """Can a model of your own be trained with Gibbs sampling, and if not, what stops it?

    Convention: spins +1 and -1, E = -v'W h - b'v - c'h, temperature absorbed.
    """
    with errors(as_json):
        import thermokernels as tk
        from thermokernels.common import arguments, footprint
        from thermokernels.diagnosis import diagnose, words
        from thermokernels_app.report.screens import diagnosis_tables
        from thermokernels_app.report.screens.layout import print_line
        from thermokernels_app.tools import data_files

        machine = read_model(model, convention, hints=False)
        chosen = diagnose.as_kernel(kernel, machine)
        diagnose.as_window(window, machine, "--window", chosen)
        arguments.as_positive(budget, "--budget", "sweeps")
        n_bytes = diagnose.require_memory(machine)
        law = None if data is None else data_files.read_data_law(data, machine.n_visible)
        if not as_json:
            print_line(words.model(machine.n_visible, machine.n_hidden, machine.has_fields, n_bytes, chosen))
        n_states = footprint.n_states(machine.n_visible, machine.n_hidden, machine.has_fields)
        with kept_on_interrupt(checkpoint), parts_done(n_states >= TOLD_STATES) as progress:
            result = tk.diagnose(machine, p_data=law, window=window, budget=budget, kernel=chosen, progress=progress, checkpoint=checkpoint)
        if as_json:
            print(json.dumps({"model": str(model), "data": None if data is None else str(data), **result.as_dict()}, allow_nan=False))
        else:
            diagnosis_tables.print_diagnosis(result)
