"""The command ``thermo``: arguments in, tables, JSON and exit codes out. Numerics are imported inside the commands.

The answer goes to stdout, everything else to stderr. Where stdout is no terminal the tables are plain lines that are never wrapped.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from thermokernels_app.experiment.design import Design
    from thermokernels_app.experiment.runner import Progress

EXIT_CODES = (
    "Exit codes: 0 every verdict PASS · 1 unexpected error · 2 bad usage or input · 3 freeze mismatch · "
    "10 a FAIL · 11 HALT · 12 stopped by the cap · 130 interrupted (what is done is kept)"
)
PACKAGES = ("numpy", "scipy", "numba")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None if "TERM" in os.environ and os.environ["TERM"] == "dumb" else "rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Grid = Annotated[str, typer.Option("--grid", "-g", help="`default`, `smoke` (small and quick), or a TOML file with keys of the design.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Replaces the seed of the design (registered: 0).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of tables.")]


def main() -> None:
    """Entry point of the installed command."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"thermo {version('thermokernels')} ({', '.join(f'{name} {version(name)}' for name in PACKAGES)})")
        raise typer.Exit(0)


@app.callback(epilog=EXIT_CODES)
def _thermo(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the versions and exit.")
    ] = False,
) -> None:
    """Exact trainability of energy-based models on Gibbs samplers: the preregistered run and its checks."""


@app.command(epilog=EXIT_CODES)
def run(
    grid: Grid = "default",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of results.json and arrays.npz; without it, a new numbered folder below `runs`."),
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", "-w", min=1, help="Worker processes; by default one for every core.")] = None,
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
    with _errors(as_json):
        from thermokernels_app.experiment import runner, tables
        from thermokernels_app.experiment.design import FreezeMismatchError, differences, load_design, read_freeze

        design = load_design(grid, seed=seed, cap=None if cap is None else _seconds(cap))
        if freeze is not None and (changed := differences(read_freeze(freeze), design)):
            raise FreezeMismatchError(f"the design differs from the freeze {freeze} in {', '.join(changed)}; nothing was run")
        folder = out if out is not None else _default_folder(grid, design, resume)
        with _progress_bar() as show_progress:
            result = runner.run(design, folder, workers=workers, resume=resume, progress=show_progress)
        if as_json:
            print(json.dumps({"folder": str(folder), "exit_code": result.exit_code, **result.document}, allow_nan=False))
        else:
            tables.print_document(result.document, result.document["verdicts"])
            print(f"results: {folder}")
    raise typer.Exit(result.exit_code)


@app.command(epilog=EXIT_CODES)
def show(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run, or its results.json.")],
    as_json: AsJson = False,
) -> None:
    """Judge the records of a run again, from its results.json alone, and show the verdict tables."""
    with _errors(as_json):
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


@app.command()
def freeze(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; one that holds another design is not overwritten.")],
    grid: Grid = "default",
    seed: Seed = None,
    cap: Annotated[str | None, typer.Option("--cap", help="Cap on the wall clock, such as 3h (registered: 3h).")] = None,
) -> None:
    """Write a design and its SHA-256 before a run; `thermo run --freeze FILE` then refuses any other design."""
    with _errors(False):
        from thermokernels_app.experiment import design as designs

        digest = designs.freeze(designs.load_design(grid, seed=seed, cap=None if cap is None else _seconds(cap)), file)
    print(f"{digest}  {file}")


@app.command("verify-gradients", epilog=EXIT_CODES)
def verify_gradients(
    every: Annotated[bool, typer.Option("--all", help="All checkpoints of the grid, not only the anchor of P1.")] = False,
    grid: Grid = "default",
    workers: Annotated[int | None, typer.Option("--workers", "-w", min=1, help="Worker processes; by default one for every core.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hold the hand-written gradients against central differences, the complex step and, where installed, JAX.

    Along every frozen direction in phi: the best step h of the differences, the relative error of each leg and its gate.
    """
    with _errors(as_json):
        from thermokernels_app.experiment import gradients, tables
        from thermokernels_app.experiment.design import load_design

        with _progress_bar() as show_progress:
            report = gradients.verify(load_design(grid), every=every, workers=workers, progress=show_progress)
        if as_json:
            print(json.dumps(report, allow_nan=False))
        else:
            tables.print_gradients(report)
    raise typer.Exit(0 if report["verdict"] == "PASS" else 10)


# Errors: one sentence on stderr, never a traceback (but THERMO_DEBUG=1 shows it).


@contextmanager
def _errors(as_json: bool) -> Iterator[None]:
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        code, message = 130, "interrupted"
    except BrokenPipeError:  # `thermo show | head` has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(141) from None
    except (ValueError, OSError) as error:
        from thermokernels_app.experiment.design import FreezeMismatchError

        code, message = 3 if isinstance(error, FreezeMismatchError) else 2, str(error)
    except ArithmeticError as error:  # a number that could not be computed to its tolerance
        code, message = 11, f"HALT: {error}"
    except Exception as error:
        code, message = 1, f"unexpected error, {type(error).__name__}: {error} (THERMO_DEBUG=1 shows the traceback)"
    else:
        return
    if os.environ.get("THERMO_DEBUG"):
        traceback.print_exc()
    print(f"thermo: {' '.join(message.split())}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": {"exit_code": code, "message": message}}))
    raise typer.Exit(code)


def _seconds(text: str) -> float:
    """``3h``, ``90m``, ``45s``, ``1h30m`` or a number of seconds."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    seconds = sum(float(part) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True) if part) if match else 0.0
    if seconds <= 0:
        raise ValueError(f"--cap must be a positive time such as 3h, 90m, 45s or 1h30m; got {text!r}")
    return seconds


def _default_folder(grid: str, design: Design, resume: bool) -> Path:
    """runs/GRID-HASH-NUMBER: the next free number, or with ``resume`` the last one that is there."""
    name = f"{Path(grid).stem}-{design.digest()[:12]}"
    number = 1
    while Path("runs", f"{name}-{number}").exists():
        number += 1
    return Path("runs", f"{name}-{max(1, number - 1) if resume else number}")


# Progress, on stderr.


@contextmanager
def _progress_bar() -> Iterator[Callable[[Progress], None]]:
    if not sys.stderr.isatty():
        yield _plain_progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(progress: Progress) -> None:
            bar.update(task, description=progress.description, completed=progress.share, total=1.0)

        yield show


def _plain_progress() -> Callable[[Progress], None]:
    """A line at every quarter of the work."""
    shown = 0

    def show(progress: Progress) -> None:
        nonlocal shown
        if shown < int(4 * progress.share) < 4:
            shown = int(4 * progress.share)
            left = progress.seconds * (1 - progress.share) / progress.share
            print(f"{progress.description}, about {left:.0f} s left", file=sys.stderr)

    return show
