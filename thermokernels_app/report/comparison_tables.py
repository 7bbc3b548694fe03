"""The screen of ``thermo compare``: what was compared, the verdicts in words, the numbers."""

from __future__ import annotations

import textwrap

from thermokernels_app.report import tables
from thermokernels_app.tools.comparison import ESTIMATORS, LONG_RUN, SMALL_RHAT, Comparison, Row

WIDTH = 118
HEALTH = {True: "yes", False: "no", None: "-"}


def print_comparison(found: Comparison) -> None:
    sweeps = found.every_steps / found.steps_per_sweep
    print(
        f"{found.n_chains} chain{'s' if found.n_chains > 1 else ''} of {found.n_records} records, one every {found.every_steps} "
        f"steps ({sweeps:.4g} sweeps) of the {found.kernel} kernel"
    )
    if found.visited_mass is not None:
        print(f"the states that the trace met hold {found.visited_mass:.4g} of the probability")
    print()
    for row in found.rows:
        for estimate in row.estimates:
            _print_wrapped(f"{row.observable}, {estimate.estimator}: {estimate.verdict}.")
        if row.looks_healthy and any("times too" in estimate.verdict for estimate in row.estimates):
            _print_wrapped(f"{row.observable}: by the usual rules this trace looks healthy, and it is not.")
    print()
    print(f"tau = 1 + 2 sum_(t > 0) rho(t) of the recorded series, in steps; a sweep is {found.steps_per_sweep} steps")
    header = ("observable", "exact", "error at most", "in sweeps", *ESTIMATORS, "taus a chain", "R-hat", "looks healthy")
    tables.print_table(header, [_cells(row, found) for row in found.rows])
    print(f"  looks healthy: every estimate is at most 1/{LONG_RUN} of a chain, and R-hat at most {SMALL_RHAT}")
    for package in found.missing:
        print(f"  {package} is not installed: pip install 'thermokernels[compare]'")


def _cells(row: Row, found: Comparison) -> tuple[str, ...]:
    steps = {estimate.estimator: _number(estimate.steps) for estimate in row.estimates}
    return (
        row.observable,
        _number(row.exact_steps),
        f"{row.exact_error_steps:.1g}",
        _number(row.exact_steps / found.steps_per_sweep),
        *(steps.get(name, "not installed") for name in ESTIMATORS),
        _number(row.length),
        "-" if row.r_hat is None else f"{row.r_hat:.4g}",
        HEALTH[row.looks_healthy],
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _print_wrapped(sentence: str) -> None:
    print(textwrap.fill(sentence, WIDTH, initial_indent="* ", subsequent_indent="  "))
