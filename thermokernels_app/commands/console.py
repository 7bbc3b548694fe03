"""What the commands share: exit codes, errors as one sentence, progress on stderr."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from thermokernels_app.experiment.running.progress import Progress

EXIT_CODES = (
    "Exit codes: 0 every verdict PASS; 1 unexpected error; 2 bad usage, input or file; "
    "3 not what was frozen, or a file that was altered; "
    "10 a FAIL; 11 HALT; 12 stopped by the cap; 130 interrupted (what is done is kept)"
)

INTERRUPTED = 130

GRID_HELP = "`default`, `smoke` (small and quick), `factorization` (P5), `steering` (P6), or a TOML file with keys of the design."
Grid = Annotated[str, typer.Option("--grid", "-g", help=GRID_HELP)]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Replaces the seed of the design (registered: 0).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of tables.")]
# More processes than any machine has cores for would only be in each other's way until memory is full.
MOST_WORKERS = 1024
Workers = Annotated[
    int | None, typer.Option("--workers", "-w", min=1, max=MOST_WORKERS, help="Worker processes; by default one for every core.")
]

# Where the answer goes.


class UnwritableError(Exception):
    """Stdout takes no more: its disk is full, or whoever read it has gone."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"the answer could not be written to stdout: {cause.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is left of the answer, which is written when the program ends
        self.exit_code = 141 if isinstance(cause, BrokenPipeError) else 2
        if self.exit_code == 2:  # `thermo show | head` has what it wants
            report(2, str(self), False)


class Answer(io.TextIOWrapper):
    """Stdout, whose errors are told apart from those of files, and which writes ``\\xb7`` for a character that its encoding has not.

    ``lost`` is the first error: what writes for us may swallow it, as the parser does where it asks what kind of stream this is.
    """

    lost: UnwritableError | None = None

    @classmethod
    def of(cls, stdout: Any) -> Answer:
        through = stdout.write_through
        return cls(stdout.buffer, stdout.encoding, "backslashreplace", line_buffering=stdout.line_buffering, write_through=through)

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise self._lose(error) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise self._lose(error) from None

    def _lose(self, error: OSError) -> UnwritableError:
        self.lost = self.lost or UnwritableError(error)
        return self.lost


# Errors: one sentence on stderr, never a traceback (but THERMO_DEBUG=1 shows it).


@contextmanager
def errors(as_json: bool) -> Iterator[None]:
    try:
        yield
        sys.stdout.flush()
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        code, message = INTERRUPTED, "interrupted"
    except UnwritableError as error:
        raise typer.Exit(error.exit_code) from None
    except OSError as error:
        code, message = 2, f"{error.filename or 'a file'} cannot be read or written: {error.strerror or error}"
    except ValueError as error:
        from thermokernels_app.experiment.records.store import MismatchError

        code, message = 3 if isinstance(error, MismatchError) else 2, _in_options(str(error))
    except Exception as error:
        from thermokernels.common.errors import ExecutorError, NumericalError

        if isinstance(error, NumericalError):  # a number that could not be computed to its tolerance
            code, message = 11, f"HALT: {error}"
        elif isinstance(error, ExecutorError):
            code, message = 1, str(error)
        else:
            code, message = 1, f"unexpected error, {type(error).__name__}: {error} (THERMO_DEBUG=1 shows the traceback)"
    else:
        return
    if os.environ.get("THERMO_DEBUG"):
        traceback.print_exc()
    raise typer.Exit(report(code, message, as_json))


# Options of the command that was called, by the names of their parameters.
_options: dict[str, str] = {}


def know_options(options: dict[str, str]) -> None:
    """What the errors of this command may name."""
    _options.clear()
    _options.update(options)


def _in_options(message: str) -> str:
    """A sentence of the library on one of its arguments (n_replicates), as one on the option of that name (--replicates)."""
    argument, must, rest = message.partition(" must ")
    return f"{_options.get(argument.removeprefix('n_'), argument)}{must}{rest}"


def report(code: int, message: str, as_json: bool) -> int:
    """One sentence on stderr, and as JSON on stdout where that was asked for."""
    message = " ".join(message.split())
    with suppress(OSError):  # nor can that be said where stderr is full
        print(f"thermo: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": {"exit_code": code, "message": message}}))
    return code


def say(words: str) -> None:
    """A sentence on stderr, in lines of the terminal where it is one."""
    print(textwrap.fill(words, shutil.get_terminal_size().columns) if sys.stderr.isatty() else words, file=sys.stderr)


# Progress, on stderr.

# From so many states on, what takes seconds says what it is at work on where there is no terminal, too.
TOLD_STATES = 2**16

# On fewer columns there is room for words only.
BAR_COLUMNS = 60


@contextmanager
def parts_done(told: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """The part that is at work with what is done of it, on a terminal; elsewhere, where it is to be ``told``, a line when a part begins."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar
        from rich.table import Column

        console = Console(stderr=True)
        words = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
        wide = [BarColumn(bar_width=20)] if console.width >= BAR_COLUMNS else []
        with Bar(
            words, TextColumn("{task.fields[count]}"), *wide, TimeElapsedColumn(), console=console, transient=True, expand=True
        ) as bar:
            task = bar.add_task("", total=None, count="")

            def draw(part: str, done: int, total: int) -> None:
                counted = total > 1
                bar.update(
                    task, description=part, completed=done, total=total if counted else None, count=f"{done}/{total}" if counted else ""
                )

            yield draw
        return
    last = ""

    def show(part: str, done: int, total: int) -> None:
        nonlocal last
        if part != last and done < total:
            print(f"at work on {part}", file=sys.stderr)
            last = part

    yield show if told else None


@contextmanager
def kept_on_interrupt(checkpoint: Path | None) -> Iterator[None]:
    """An interrupt is raised again after a sentence on what has been kept."""
    try:
        yield
    except KeyboardInterrupt:
        if checkpoint is not None and checkpoint.exists():
            print(f"finished parts are kept in {checkpoint}: the same command goes on from them", file=sys.stderr)
        raise


@contextmanager
def progress_bar() -> Iterator[Callable[[Progress], None]]:
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


# Of a time on the command line, in seconds: a leap year.
LONGEST = 366 * 24 * 3600.0


def seconds(text: str, option: str = "--cap") -> float:
    """``3h``, ``90m``, ``45s``, ``1h30m`` or a number of seconds, of a year at most."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    seconds = sum(float(part) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True) if part) if match else 0.0
    if seconds <= 0:
        raise ValueError(f"{option} must be a positive time such as 3h, 90m, 45s or 1h30m; got {text!r}")
    if seconds > LONGEST:
        raise ValueError(f"{option} must be a time of at most a year, such as 3h, 90m, 45s or 1h30m; got {seconds:.3g} s")
    return seconds


def seed_list(text: str) -> list[int]:
    """``0:8`` (the end is not included) or ``0,3,7``."""
    if match := re.fullmatch(r"(\d+):(\d+)", text.strip()):
        seeds = list(range(int(match[1]), int(match[2])))
    else:
        seeds = [int(part) for part in text.split(",")] if re.fullmatch(r"\d+(,\d+)*", text.strip()) else []
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds must be a range such as 0:8 or a list of different seeds such as 0,3,7; got {text!r}")
    return seeds
