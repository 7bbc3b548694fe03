"""The command ``thermo``: arguments in, tables, JSON and exit codes out. Numerics are imported inside the commands.

The answer goes to stdout, everything else to stderr. Where stdout is no terminal the tables are plain lines that are never wrapped.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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


# Typer vendors its parser: the error of a wrong call is a base of the one class of it that is public.
_UsageError: Any = typer.BadParameter.__mro__[1]


def main() -> None:
    """Entry point of the installed command: a wrong call is one sentence, and a request to end is an interrupt."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        code = 130
    except _UsageError as error:
        if message := error.format_message():
            code = _report(2, message, "--json" in sys.argv)
        else:  # `thermo` alone: its help is the answer
            error.show()
            code = 2
    sys.exit(code)


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


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


@app.command(epilog="Exit codes: 0 diagnosed · 1 unexpected error · 2 bad usage or input, or a model that is too large · 130 interrupted")
def diagnose(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Couplings W (visible x hidden) in .npy or .csv, or .npz with W and optional b, c.")
    ],
    data: Annotated[
        Path | None, typer.Option("--data", help="Samples of the visible spins, one a row, +1 and -1, in .npy or .csv: Q needs them.")
    ] = None,
    window: Annotated[float, typer.Option("--window", help="Length in sweeps of the run of samples behind one gradient.")] = 100.0,
    budget: Annotated[float, typer.Option("--budget", help="Sweeps within which a basin has to be crossed both ways.")] = 250.0,
    as_json: AsJson = False,
) -> None:
    """Can a model of your own be trained with single-site Gibbs sampling, and if not, what stops it?

    Convention: spins +1 and -1, E = -v'W h - b'v - c'h, temperature absorbed.
    """
    with _errors(as_json):
        import thermokernels as tk
        from thermokernels import arguments, diagnosis, diagnosis_words
        from thermokernels_app.experiment import diagnosis_tables, model_files

        W, b, c = model_files.read_model(model)
        for name, value in (("--window", window), ("--budget", budget)):
            arguments.as_positive(value, name, "sweeps")
        n_visible, n_hidden = W.shape
        has_fields = any(field is not None and bool(field.any()) for field in (b, c))
        n_bytes = diagnosis.require_memory(n_visible, n_hidden, has_fields)
        law = None if data is None else model_files.read_data_law(data, n_visible)
        if not as_json:
            print(diagnosis_words.model(n_visible, n_hidden, has_fields, n_bytes), flush=True)
        result = tk.diagnose(W, b, c, p_data=law, window=window, budget=budget)
        if as_json:
            print(json.dumps({"model": str(model), "data": None if data is None else str(data), **result.as_dict()}, allow_nan=False))
        else:
            diagnosis_tables.print_diagnosis(result)


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
    except OSError as error:
        code, message = 2, f"{error.filename or 'a file'} cannot be read or written: {error.strerror or error}"
    except ValueError as error:
        from thermokernels_app.experiment.design import FreezeMismatchError

        code, message = 3 if isinstance(error, FreezeMismatchError) else 2, str(error)
    except Exception as error:
        from thermokernels.errors import NumericalError

        if isinstance(error, NumericalError):  # a number that could not be computed to its tolerance
            code, message = 11, f"HALT: {error}"
        else:
            code, message = 1, f"unexpected error, {type(error).__name__}: {error} (THERMO_DEBUG=1 shows the traceback)"
    else:
        return
    if os.environ.get("THERMO_DEBUG"):
        traceback.print_exc()
    raise typer.Exit(_report(code, message, as_json))


def _report(code: int, message: str, as_json: bool) -> int:
    """One sentence on stderr, and as JSON on stdout where that was asked for."""
    message = " ".join(message.split())
    print(f"thermo: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": {"exit_code": code, "message": message}}))
    return code


def _seconds(text: str) -> float:
    """``3h``, ``90m``, ``45s``, ``1h30m`` or a number of seconds."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    seconds = sum(float(part) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True) if part) if match else 0.0
    if seconds <= 0:
        raise ValueError(f"--cap must be a positive time such as 3h, 90m, 45s or 1h30m; got {text!r}")
    return seconds


def _default_folder(grid: str, design: Design, resume: bool) -> Path:
    """runs/GRID-HASH-NUMBER: the next free number, or with ``resume`` the last unfinished run, else the last run."""
    from thermokernels_app.experiment.store import JOURNAL

    name = f"{Path(grid).stem}-{design.digest()[:12]}"
    numbers = sorted(int(path.name.rpartition("-")[2]) for path in Path("runs").glob(f"{name}-*") if path.name.rpartition("-")[2].isdigit())
    unfinished = [number for number in numbers if Path("runs", f"{name}-{number}", JOURNAL).exists()]
    if resume and numbers:
        return Path("runs", f"{name}-{(unfinished or numbers)[-1]}")
    return Path("runs", f"{name}-{max(numbers, default=0) + 1}")


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
