"""The commands for a model of your own: diagnose."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from thermokernels_app.commands.console import AsJson, errors
from thermokernels_app.commands.models import Convention, ModelFile, Samples, Window, read_model

# From so many states on, what takes seconds says what it is at work on where there is no terminal, too.
TOLD_STATES = 2**16

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
        from thermokernels_app.report import diagnosis_tables
        from thermokernels_app.report.layout import print_line
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
        try:
            with _parts_done(n_states >= TOLD_STATES) as progress:
                result = tk.diagnose(
                    machine, p_data=law, window=window, budget=budget, kernel=chosen, progress=progress, checkpoint=checkpoint
                )
        except KeyboardInterrupt:
            if checkpoint is not None and checkpoint.exists():
                print(f"finished parts are kept in {checkpoint}: the same command goes on from them", file=sys.stderr)
            raise
        if as_json:
            print(json.dumps({"model": str(model), "data": None if data is None else str(data), **result.as_dict()}, allow_nan=False))
        else:
            diagnosis_tables.print_diagnosis(result)


@contextmanager
def _parts_done(told: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """The part that is at work, on a terminal; elsewhere, where it is to be ``told``, a line when a part begins."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)
            yield lambda part, done, total: bar.update(task, description=part, completed=done, total=total)
        return
    last = ""

    def show(part: str, done: int, total: int) -> None:
        nonlocal last
        if part != last and done < total:
            print(f"at work on {part}", file=sys.stderr)
            last = part

    yield show if told else None
