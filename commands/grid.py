"""The commands of the preregistered grid: run, show, verify-gradients."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thermokernels_app.commands.console import AsJson, Grid, Seed, Workers, errors, progress_bar, seconds

if TYPE_CHECKING:
    from thermokernels_app.experiment.design import Design


def run(
    grid: Grid = "default",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of results.json and arrays.npz; without it, a new numbered folder below `runs`."),
    ] = None,
    workers: Workers = None,
    seed: Seed = None,
    freeze: Annotated[Path | None, typer.Option("--freeze", help="Refuse to start (exit 3) unless the design is the frozen one.")] = None,
    cap: Annotated[str | None, typer.Option("--cap", help="Cap on the wall clock, such as 3h, 90m or 1h30m (registered: 3h).")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Reuse the finished cells of an earlier, unfinished run of this design.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a design from training to the verdicts on P1 to P4.

    Results are kept in --out, or in runs/GRID-HASH-NUMBER, HASH being the first digits of the design's hash and NUMBER the next free
    one; --resume goes on with the last unfinished one. A folder that holds a run is never overwritten.
    """
    with errors(as_json):
        from thermokernels_app.experiment import runner, tables
        from thermokernels_app.experiment.design import FreezeMismatchError, differences, load_design, read_freeze

        design = load_design(grid, seed=seed, cap=None if cap is None else seconds(cap))
        if freeze is not None and (changed := differences(read_freeze(freeze), design)):
            raise FreezeMismatchError(f"the design differs from the freeze {freeze} in {', '.join(changed)}; nothing was run")
        folder = out if out is not None else _default_folder(grid, design, resume)
        with progress_bar() as show_progress:
            result = runner.run(design, folder, workers=workers, resume=resume, progress=show_progress)
        if as_json:
            print(json.dumps({"folder": str(folder), "exit_code": result.exit_code, **result.document}, allow_nan=False))
        else:
            tables.print_document(result.document, result.document["verdicts"])
            print(f"results: {folder}")
    raise typer.Exit(result.exit_code)


def show(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run, or its results.json.")],
    as_json: AsJson = False,
) -> None:
    """Judge the records of a run again, from its results.json alone, and show the verdict tables."""
    with errors(as_json):
        from thermokernels_app.experiment import runner, store, tables
        from thermokernels_app.validation import verdicts

        document = store.read_results(folder)
        judged = store.plain(verdicts.judge(document["design"], document["cells"], document["checkpoints"], document["stationarity"]))
        code = runner.exit_code({**document, "verdicts": judged})
        if judged != document["verdicts"]:
            print("note: the verdicts in the file were reached by other rules; these are recomputed from its records", file=sys.stderr)
        if as_json:
            print(json.dumps({"folder": str(folder), "exit_code": code, **document, "verdicts": judged}, allow_nan=False))
        else:
            tables.print_document(document, judged)
    raise typer.Exit(code)


def verify_gradients(
    every: Annotated[bool, typer.Option("--all", help="All checkpoints of the grid, not only the anchor of P1.")] = False,
    grid: Grid = "default",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Hold the hand-written gradients against central differences, the complex step and, where installed, JAX.

    Along every frozen direction in phi: the best step h of the differences, the relative error of each leg and its gate.
    """
    with errors(as_json):
        from thermokernels_app.experiment import gradients, tables
        from thermokernels_app.experiment.design import load_design

        with progress_bar() as show_progress:
            report = gradients.verify(load_design(grid), every=every, workers=workers, progress=show_progress)
        if as_json:
            print(json.dumps(report, allow_nan=False))
        else:
            tables.print_gradients(report)
    raise typer.Exit(0 if report["verdict"] == "PASS" else 10)


def _default_folder(grid: str, design: Design, resume: bool) -> Path:
    """runs/GRID-HASH-NUMBER: the next free number, or with ``resume`` the last unfinished run, else the last run."""
    from thermokernels_app.experiment.store import JOURNAL

    name = f"{Path(grid).stem}-{design.digest()[:12]}"
    numbers = sorted(int(path.name.rpartition("-")[2]) for path in Path("runs").glob(f"{name}-*") if path.name.rpartition("-")[2].isdigit())
    unfinished = [number for number in numbers if Path("runs", f"{name}-{number}", JOURNAL).exists()]
    if resume and numbers:
        return Path("runs", f"{name}-{(unfinished or numbers)[-1]}")
    return Path("runs", f"{name}-{max(numbers, default=0) + 1}")
