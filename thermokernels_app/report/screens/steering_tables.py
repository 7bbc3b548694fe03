"""The screen of ``thermo run --grid steering``: the verdict, and a row an objective; 80 columns."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from thermokernels_app.experiment.running import steering
from thermokernels_app.report.screens.layout import print_table

WIDTH = 80
KINDS = {"weight": "lambda {:g}", "relative-floor": "Q >= {:g} Q_0", "absolute-floor": "Q >= {:g}"}


def print_document(document: dict[str, Any]) -> None:
    """Everything that a reader wants to see, on stdout; the verdict once more in the last line."""
    verdict, design = document["verdicts"]["P6"], document["design"]
    print(f"{steering.QUESTION.headline(document)}\n")
    print(textwrap.fill(f"P6 {verdict['verdict']}: {verdict['statement']}", WIDTH, subsequent_indent="  "))
    if verdict["reason"]:
        print(textwrap.fill(verdict["reason"], WIDTH, initial_indent="  ", subsequent_indent="  "))
    for one in verdict["criteria"]:
        print(f"  {one['name']}")
        print(f"      {one['observed']:.6g} {one['operator']} {one['threshold']:.6g}: {'met' if one['met'] else 'not met'}")
    gain, cost = math.exp(design["gain"]), design["cost"]
    bar = f"the bar: Q at least {gain:.3g} times, KL at most {cost:.3g} times that of lambda 0, means over codes"
    print(textwrap.fill(bar, WIDTH, initial_indent="  ", subsequent_indent="      "))
    met = ", ".join(f"{met} of {there} at m = {m}" for m, (met, there) in steering.tables_that_meet(document).items())
    print(f"  seed tables that meet it with some lambda: {met}")
    print("\n  Medians over the seeds; log Q = log |g|^2 - log T_O + constant\n")
    header = ("m", "objective", "KL", "KL / KL_0", "log Q", "gain", "of |g|^2", "of T_O", "meet the bar")
    print_table(header, [_row(row) for row in steering.summary(document)])
    print(f"\nP6 {verdict['verdict']}")


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    numbers = (f"{row['kl']:.2e}", f"{row['kl_ratio']:.3g}", f"{row['log_q']:.2f}")
    gains = (f"{row[key]:+.2f}" for key in ("gain", "gain_of_signal", "gain_of_time"))
    return (f"{row['m']}", KINDS[row["kind"]].format(row["number"]), *numbers, *gains, f"{row['met']}/{row['seeds']}")
