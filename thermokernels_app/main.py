"""The command ``thermo``: arguments in, tables, JSON and exit codes out. Numerics are imported inside the commands.

The answer goes to stdout, everything else to stderr. Where stdout is no terminal the tables are plain lines that are never wrapped.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import Annotated, Any

import typer

from thermokernels_app.commands import (
    compare,
    diagnose,
    doctor,
    estimate,
    grid,
    pictures,
    registration,
    sample,
    selftest,
    track,
    variance,
    warmup,
)
from thermokernels_app.commands.console import EXIT_CODES, Answer, UnwritableError, report

# Columns of a screen on which the boxes of help cut nothing.
BOXES = 80

PACKAGES = ("numpy", "scipy", "numba")

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Typer vendors its parser: the error of a wrong call is a base of the one class of it that is public.
_UsageError: Any = typer.BadParameter.__mro__[1]


def main() -> None:
    """Entry point of the installed command: a wrong call is one sentence, and a request to end is an interrupt."""
    signal.signal(signal.SIGTERM, _interrupt)
    if sys.stderr is None:  # closed: what is said there goes nowhere, and not to stdout
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        sys.exit(report(2, "stdout is closed and the answer has nowhere to go: send it to a file or to /dev/null", False))
    sys.stdout = Answer.of(sys.stdout)
    try:
        code = _answer()
        sys.stdout.flush()
    except UnwritableError as error:
        code = error.exit_code
    sys.exit(code)


def _answer() -> int:
    """The exit code of the command that was called."""
    app.rich_markup_mode = "rich" if _draws_boxes() else None
    try:
        code: int = app(standalone_mode=False)
    except typer.Abort:
        code = 130
    except _UsageError as error:
        if message := _in_our_words(error):
            code = report(2, message, "--json" in sys.argv)
        else:  # `thermo` alone: its help is the answer
            error.show()
            code = 2
    return code


def _draws_boxes() -> bool:
    """Whether help is set in boxes: on narrow screens these cut the names of options, and not every encoding has their lines."""
    wide = shutil.get_terminal_size().columns >= BOXES
    return wide and os.environ.get("TERM") != "dumb" and sys.stdout.encoding.lower().startswith("utf")


def _in_our_words(error: Any) -> str:
    """The sentence of a wrong call: of a value that does not convert, the option, what is wanted and what came."""
    problems = getattr(error.__cause__, "errors", None)  # of the validation below Typer, which says neither
    parameter = getattr(error, "param", None)
    if problems is None or parameter is None:
        return str(error.format_message())
    problem = problems()[0]
    name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.make_metavar(error.ctx)
    wanted = problem["msg"].partition(",")[0].removeprefix("Input should be ")
    return f"{name} must be {wanted}; got {problem['input']!r}"


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            ours = version("thermokernels")
        except PackageNotFoundError:
            ours = "of a checkout that is not installed"
        print(f"thermo {ours} ({', '.join(f'{name} {version(name)}' for name in PACKAGES)})")
        raise typer.Exit(0)


@app.callback(epilog=EXIT_CODES)
def _thermo(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the versions and exit.")
    ] = False,
) -> None:
    """Exact trainability of energy-based models on Gibbs samplers: the preregistered run and its checks."""


app.command(epilog=EXIT_CODES)(grid.run)
app.command(epilog=EXIT_CODES)(grid.show)
app.command()(registration.freeze)
app.command()(registration.amend)
app.command(epilog=selftest.EXIT_CODES)(selftest.selftest)
app.command("verify-gradients", epilog=EXIT_CODES)(grid.verify_gradients)
app.command(epilog=diagnose.EXIT_CODES)(diagnose.diagnose)
app.command(epilog=estimate.EXIT_CODES)(estimate.estimate)
app.command(epilog=variance.EXIT_CODES)(variance.variance)
app.command(epilog=pictures.EXIT_CODES)(pictures.plot)
app.command(epilog=pictures.EXIT_CODES)(pictures.report)
app.command(epilog=track.EXIT_CODES)(track.track)
app.command(epilog=sample.EXIT_CODES)(sample.sample)
app.command(epilog=compare.EXIT_CODES)(compare.compare)
app.command(epilog=doctor.EXIT_CODES)(doctor.doctor)
app.command(epilog=warmup.EXIT_CODES)(warmup.warmup)
