"""The screen of ``thermo run --grid factorization``: the verdict, who is to blame, and a row a window; 80 columns."""

from __future__ import annotations

import textwrap
from typing import Any

from thermokernels_app.experiment.running import factorization
from thermokernels_app.report.screens.layout import print_table

WIDTH = 80
ASSUMPTIONS = (
    "A2 detailed balance; A3 irreducible, and no negative eigenvalue; A5 burnt in; A6 a window that is long against the slowest v_i h_j; "
    "A7 a gap behind the cluster of slow modes; A8 a cluster that does not hang on its width; A9 symmetry under x -> -x."
)


def print_document(document: dict[str, Any]) -> None:
    """Everything that a reader wants to see, on stdout; the verdict once more in the last line."""
    verdict = document["verdicts"]["P5"]
    print(f"{factorization.QUESTION.headline(document)}\n")
    print(textwrap.fill(f"P5 {verdict['verdict']}: {verdict['statement']}", WIDTH, subsequent_indent="  "))
    print(textwrap.fill(ASSUMPTIONS, WIDTH, initial_indent="  ", subsequent_indent="  "))
    if verdict["reason"]:
        print(textwrap.fill(verdict["reason"], WIDTH, initial_indent="  ", subsequent_indent="  "))
    for one in verdict["criteria"]:
        print(textwrap.fill(one["name"], WIDTH, initial_indent="  ", subsequent_indent="      "))
        print(f"      {one['observed']:.6g} {one['operator']} {one['threshold']:.6g}: {'met' if one['met'] else 'not met'}")
    basis = verdict["basis"]
    print(f"  windows {basis.get('windows', 0)}, all assumptions hold in {basis.get('windows_with_all_assumptions', 0)}")
    _print_reported(verdict["reported"])
    if all(cell["status"] == "ok" for cell in document["cells"]):
        print("\n  K (sweeps), B (relaxation times); least, median and largest ratio\n")
        rows = [
            (
                f"{row['window_sweeps']}",
                f"{row['burn_in_times']:g}",
                f"{row['held']}/{row['windows']}",
                " ".join(f"{value:.3g}" for value in row["q_op_over_q_limit"]),
                " ".join(f"{value:.3g}" for value in row["q_op_over_q_struct"]),
            )
            for row in factorization.summary(document)
        ]
        print_table(("K", "B", "all hold", "Q_op / Q_limit", "Q_op / Q_struct"), rows)
    print(f"\nP5 {verdict['verdict']}")


def _print_reported(reported: dict[str, Any]) -> None:
    if not reported:
        return
    misses = reported["misses_of_q_struct"]
    print(f"  misses of Q_struct: {misses}, unnamed {reported['misses_unnamed']}; an assumption fails there:")
    print("      " + ", ".join(f"{name} {count}" for name, count in reported["misses_blamed_on"].items()))
    print(f"  near Q_struct though an assumption fails: {reported['near_q_struct_though_one_fails']}")
    print(f"  ... though none of A5 to A8 holds: {reported['near_q_struct_though_none_of_A5_to_A8_holds']}")
    print("  fails afterwards: " + ", ".join(f"{name} {count}" for name, count in reported["windows_that_fail_afterwards"].items()))
