"""The command for models beyond enumeration: estimate Q and T_O by coupled chains."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from thermokernels_app.commands.console import AsJson, errors, seconds
from thermokernels_app.commands.executors import ExecutorKind, Kind, Scheduler, WorkersForThreads, pool_of
from thermokernels_app.commands.models import Convention, ModelFile, Samples, Window, read_model

NOT_TRUSTED = 11
# Of the result, as large as the model or as the budget: left out of the document.
ARRAYS = ("g", "replicates")

EXIT_CODES = (
    "Exit codes: 0 estimated; 1 unexpected error; 2 bad usage or input, or a budget that is too short; "
    "11 not to be trusted, for the reason that is given; 130 interrupted twice"
)


def estimate(
    model: ModelFile,
    data: Samples = None,
    window: Window = 100.0,
    kernel: Annotated[str, typer.Option("--kernel", help="The sampler: `alternating`, `two-block` or `single-site`.")] = "alternating",
    precision: Annotated[
        float | None, typer.Option("--precision", help="Wanted half width of the interval, relative to Q (or to T_O without --data).")
    ] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Time such as 60s or 5m, which becomes a number of replicates.")] = None,
    replicates: Annotated[
        int | None,
        typer.Option("--replicates", min=1, help="That number itself: with the same seed it gives the same digits."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of all random numbers.")] = 0,
    observables: Annotated[str, typer.Option("--observables", help="`products` v_i h_j, or `expected` v_i E[h_j | v].")] = "products",
    units: Annotated[str, typer.Option("--units", help="`pm1`, or `zero-one`: gradients of couplings between units 0 and 1.")] = "pm1",
    fields: Annotated[bool, typer.Option("--fields", help="The gradients of b and c too.")] = False,
    workers: WorkersForThreads = None,
    executor: ExecutorKind = Kind.processes,
    scheduler: Scheduler = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", "--resume", help="File that keeps finished replicates; the same command goes on from it."),
    ] = None,
    convention: Convention = None,
    as_json: AsJson = False,
) -> None:
    """Can a model of real size be trained with its Gibbs sampler? Q with an interval, from coupled chains that prove when they are done.

    Unbiased where pairs of chains meet; where they do not, the answer is that it cannot be trusted, and what still holds. An interrupt ends
    it early: what was begun is finished and counted; a second one gives no answer, and leaves what --checkpoint has kept.
    """
    with errors(as_json):
        from thermokernels import estimate_q
        from thermokernels.common import arguments
        from thermokernels_app.report.screens import estimate_tables
        from thermokernels_app.report.screens.layout import print_line
        from thermokernels_app.tools import data_files

        pool = pool_of(executor, scheduler, workers)
        machine = read_model(model, convention, has_data=data is not None)
        arguments.as_positive(window, "--window", "sweeps")
        samples = None if data is None else data_files.read_samples(data, machine.n_visible)
        time = None if budget is None else seconds(budget, "--budget")
        if not as_json:
            print_line(estimate_tables.first_line(machine, kernel, window))
        with pool as elsewhere, _interrupts() as stop, _progress() as progress:
            result = estimate_q(
                machine,
                samples,
                window,
                kernel,
                precision=precision,
                budget=time,
                n_replicates=replicates,
                seed=seed,
                executor=elsewhere,
                observables=observables,
                units=units,
                fields=fields,
                progress=progress,
                stop=stop,
                checkpoint=checkpoint,
            )
        if as_json:
            names = {"model": str(model), "data": None if data is None else str(data), "seed": seed}
            found = result.as_dict()
            print(json.dumps(names | {name: found[name] for name in found if name not in ARRAYS}, allow_nan=False))
        else:
            estimate_tables.print_estimate(result)
        if not result.trusted:
            raise typer.Exit(NOT_TRUSTED)


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """The first interrupt asks for an end after the replicates that are under way; the second one is an interrupt."""
    asked = False

    def ask(_signal: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("ending after the replicates that were begun; once more to give up", file=sys.stderr)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress() -> Iterator[Callable[[int, int, tuple[float, float]], None]]:
    """The interval of T_O as it shrinks, on stderr: a bar on a terminal, else a line at every quarter."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns: Any = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("pilot", total=None)

        def show(done: int, total: int, interval: tuple[float, float]) -> None:
            bar.update(task, description=_shrinking(interval), completed=done, total=total)

        yield show


def _lines() -> Callable[[int, int, tuple[float, float]], None]:
    shown = 0

    def show(done: int, total: int, interval: tuple[float, float]) -> None:
        nonlocal shown
        if shown < 4 * done // total < 4:
            shown = 4 * done // total
            print(f"{done} of {total} replicates, {_shrinking(interval)}", file=sys.stderr)

    return show


def _shrinking(interval: tuple[float, float]) -> str:
    low, high = interval
    if math.isnan(low):
        return "T_O not known yet"
    return f"T_O {(low + high) / 2:.4g} +- {(high - low) / 2:.2g} steps"
