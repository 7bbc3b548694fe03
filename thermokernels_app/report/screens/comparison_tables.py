"""The screen of ``thermo compare``: what was compared, the verdicts in words, the numbers."""

from __future__ import annotations

from thermokernels.common.digits import certified, positional
from thermokernels.comparison.compare import LONG_RUN, SMALL_RHAT
from thermokernels.comparison.estimators import ESTIMATORS
from thermokernels.comparison.result import FALSE_ALARMS, Comparison, Row
from thermokernels_app.report.screens.layout import print_line, print_table, print_wrapped

DIGITS = 4
HEALTH = {True: "yes", False: "no", None: "-"}


def print_comparison(found: Comparison) -> None:
    sweeps = found.every_steps / found.steps_per_sweep
    print_line(
        f"{found.n_chains} chain{'s' if found.n_chains > 1 else ''} of {found.n_records} records, one every "
        f"{_count(found.every_steps, 'step')} ({_count(sweeps, 'sweep')}) of the {found.kernel} kernel"
    )
    if found.visited_mass is not None:
        print_line(f"the states that the trace met hold {found.visited_mass:.4g} of the probability")
    print()
    for row in found.rows:
        if row.reason is not None:
            print_wrapped(f"{row.observable}: {row.reason}.", "* ", "  ")
        for estimate in row.estimates:
            print_wrapped(f"{row.observable}, {estimate.estimator}: {estimate.verdict}.", "* ", "  ")
        if row.misleads:
            print_wrapped(f"{row.observable}: by the usual rules this trace looks healthy, and it is not.", "* ", "  ")
    print()
    print_line(f"tau = 1 + 2 sum_(t > 0) rho(t) of the recorded series, in steps; a sweep is {_count(found.steps_per_sweep, 'step')}")
    header = ("observable", "exact", "error at most", "in sweeps", *ESTIMATORS, "taus a chain", "R-hat", "looks healthy")
    print_table(header, [_cells(row, found) for row in found.rows])
    print_wrapped(f"looks healthy: every estimate is at most 1/{LONG_RUN} of a chain, and R-hat at most {SMALL_RHAT}", "  ", "  ")
    if any(row.estimates for row in found.rows):
        print_wrapped(
            f"agrees: at most {found.chance:.2f} standard errors from what the estimator gives on average for chains of this length; one "
            f"comparison in {FALSE_ALARMS} doubts a right trace",
            "  ",
            "  ",
        )
    for package in found.missing:
        print_line(f"  {package} is not installed: pip install '.[compare]'")


def _cells(row: Row, found: Comparison) -> tuple[str, ...]:
    steps = {estimate.estimator: _number(estimate.steps) for estimate in row.estimates}
    absent = "not installed" if row.reason is None else "-"
    exact, error = row.exact_steps, row.exact_error_steps
    if exact is None or error is None:
        times = ("constant" if row.constant else "-", "-", "-")
    else:
        scale = found.steps_per_sweep
        times = (certified(exact, error, DIGITS), f"{error:.1g}", certified(exact / scale, error / scale, DIGITS))
    return (
        row.observable,
        *times,
        *(steps.get(name, absent) for name in ESTIMATORS),
        _number(row.length),
        "-" if row.r_hat is None else f"{row.r_hat:.4g}",
        HEALTH[row.looks_healthy],
    )


def _number(value: float | None) -> str:
    return "-" if value is None else positional(value, DIGITS)


def _count(number: float, unit: str) -> str:
    return f"{number:.4g} {unit}{'' if number == 1 else 's'}"
