"""The command ``thermo``: arguments in, tables, JSON and exit codes out. Numerics are imported inside the commands.

The answer goes to stdout, everything else to stderr. Where stdout is no terminal the tables are plain lines that are never wrapped.
"""

from __future__ import annotations

import os
import reprlib
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
from thermokernels_app.commands.console import EXIT_CODES, INTERRUPTED, Answer, UnwritableError, know_options, report

# Columns of help at most: longer lines are harder to read.
HELP = 100

PACKAGES = ("numpy", "scipy", "numba")

# What came, in a sentence: of thousands of digits the first and the last.
BRIEF = reprlib.Repr()
BRIEF.maxstring = 60

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes would take longer to import than all the rest, and cut names on narrow screens
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
    sys.stdout = answer = Answer.of(sys.stdout)
    try:
        code = _answer()
        answer.flush()
    except UnwritableError as error:
        code = error.exit_code
    if code == INTERRUPTED and _threads_at_work():  # an end of the usual kind would wait for what nobody asks for any more
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code if answer.lost is None else answer.lost.exit_code)


def _threads_at_work() -> bool:
    """Whether compiled code, which hears of no interrupt, is under way on threads of this process."""
    threads = sys.modules.get("thermokernels.common.threads")
    return threads is not None and bool(threads.at_work())


def _answer() -> int:
    """The exit code of the command that was called."""
    try:
        code: int = app(standalone_mode=False, terminal_width=min(HELP, shutil.get_terminal_size().columns))
    except typer.Abort:
        code = INTERRUPTED
    except _UsageError as error:
        if message := _in_our_words(error):
            code = report(2, message, "--json" in sys.argv)
        else:  # `thermo` alone: its help is the answer
            error.show()
            code = 2
    return code


def _in_our_words(error: Any) -> str:
    """The sentence of a wrong call: of a value that does not convert, the option, what is wanted and what came."""
    problems = getattr(error.__cause__, "errors", None)  # of the validation below Typer, which says neither
    parameter = getattr(error, "param", None)
    if problems is None or parameter is None:
        return str(error.format_message())
    problem = problems()[0]
    name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.make_metavar(error.ctx)
    said = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    _, of_many, choices = said.partition(" is not one of ")
    if problem["type"] == "int_parsing_size":
        wanted = "an integer of fewer digits"
    else:
        wanted = f"one of {choices.rstrip('.')}" if of_many else said.partition(",")[0]
    return f"{name} must be {wanted}; got {BRIEF.repr(problem['input'])}"


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
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the versions and exit.")
    ] = False,
) -> None:
    """Exact trainability of energy-based models on Gibbs samplers: the preregistered run and its checks."""
    group: Any = context.command
    called = group.commands[context.invoked_subcommand]
    know_options({option.name: option.opts[0] for option in called.params if option.opts[0].startswith("-")})


app.command(epilog=EXIT_CODES, short_help="Run a design from training to its verdicts.")(grid.run)
app.command(epilog=EXIT_CODES, short_help="Judge the records of a run again.")(grid.show)
app.command(short_help="Fix a design before it is run.")(registration.freeze)
app.command(short_help="Change what was frozen, with a reason.")(registration.amend)
app.command(epilog=selftest.EXIT_CODES, short_help="Break every gate on purpose.")(selftest.selftest)
app.command("verify-gradients", epilog=EXIT_CODES, short_help="Hold the gradients against differences.")(grid.verify_gradients)
app.command(epilog=diagnose.EXIT_CODES, short_help="Can this model be trained, and if not, why?")(diagnose.diagnose)
app.command(epilog=estimate.EXIT_CODES, short_help="The same for a model of any size.")(estimate.estimate)
app.command(epilog=variance.EXIT_CODES, short_help="T_O and Q, with proven error bounds.")(variance.variance)
app.command(epilog=pictures.EXIT_CODES, short_help="Draw a run or a model: one file a picture.")(pictures.plot)
app.command(epilog=pictures.EXIT_CODES, short_help="Write a run as one HTML page.")(pictures.report)
app.command(epilog=track.EXIT_CODES, short_help="Q along a training.")(track.track)
app.command(epilog=sample.EXIT_CODES, short_help="Draw samples of a model of any size.")(sample.sample)
app.command(epilog=compare.EXIT_CODES, short_help="emcee and ArviZ beside the exact time.")(compare.compare)
app.command(epilog=doctor.EXIT_CODES, short_help="Look at the installation.")(doctor.doctor)
app.command(epilog=warmup.EXIT_CODES, short_help="Compile every kernel ahead.")(warmup.warmup)
