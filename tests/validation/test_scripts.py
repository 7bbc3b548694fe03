"""The scripts of ``validation/`` in small: each holds, prints its table, and ends non-zero where its claim fails."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mpmath", reason="mpmath is not installed: pip install mpmath")

import accuracy
import battery
import gradients
import pages
import peers
import published
from claims import Row, conclude

FOLDER = Path(__file__).parents[2] / "validation"


def table(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if re.search(r"  (holds|FAILS|not judged)$", line)]


def test_a_table_and_its_exit_code(capsys):
    assert conclude([Row("one", "1", True), Row("another", "-", None)]) == 0
    assert capsys.readouterr().out.splitlines() == ["one      1  holds", "another  -  not judged", "1 of 1 hold, 1 not judged"]
    assert conclude([Row("one", "1", True), Row("another", "2", False)]) == 1
    assert conclude([Row("all that there is", "not installed", None)]) == 1


def test_gradients(capsys):
    assert gradients.main(["--models", "2"]) == 0
    assert len(table(capsys)) >= 3 * len(gradients.PAIRS)


def test_a_wrong_gradient_fails(monkeypatch):
    name, quantity, value, gradient = gradients.PAIRS[0]
    broken = (name, quantity, value, lambda *given: [1.001 * part for part in gradient(*given)])
    monkeypatch.setattr(gradients, "PAIRS", [broken])
    assert {row.holds for row in gradients.of_models(2, with_jax=False)} == {False, None}


def test_accuracy(capsys):
    assert accuracy.main(["--models", "12", "--scales", "2", "40"]) == 0
    assert len(table(capsys)) == len(accuracy.GATES) + 2 * 15


def test_a_bound_that_is_too_small_fails():
    assert accuracy.judged("T_O", lambda: (1.001, 1e-4), accuracy.mp.mpf(1)).holds is False
    assert accuracy.judged("T_O, numpy", lambda: (np.nan, None), accuracy.mp.mpf(1)).holds is None


def test_the_battery_of_a_small_grid(capsys, monkeypatch):
    assert battery.main(["--grid", "smoke", "--split", "2"]) == 0
    assert any(line.startswith("cheeger_margin") for line in table(capsys))
    monkeypatch.setattr(battery.battery.Battery, "first_failure", None)
    assert [row.holds for row in battery.of_broken_models()].count(False) == 4


@pytest.mark.judges
def test_peers(capsys):
    packages = ("deeptime", "gudhi", "emcee", "arviz_stats")
    # where none of them is there nothing was shown, which is no success
    assert peers.main(["--models", "6", "--sweeps", "1000"]) == (0 if any(map(find_spec, packages)) else 1)
    lines = table(capsys)
    assert len(lines) == 4
    for package, line in zip(packages, lines, strict=True):
        assert line.endswith("holds" if find_spec(package) else "not judged")


def test_published_figures_stand_beside_those_of_a_document():
    criteria = [{"name": "least cheeger_margin", "observed": 2e-3, "operator": ">=", "threshold": -1e-10, "met": True}]
    verdicts = {name: {"verdict": "PASS", "criteria": criteria, "reported": {}} for name in ("P1", "P2", "P3", "P4")}
    verdicts["P2"]["reported"] = {"cells_basis": 11, "cells_all": 22, "cells_by_split": {"4": 0}, "cells_by_m": {}}
    document = {"status": "complete", "design": {"seed": 0, "grid": {"m": [4], "split": [4]}}, "verdicts": verdicts}
    rows = {row.of: row for row in published.side_by_side(document) + published.structure(document)}
    assert rows["cells with N_qual >= 1"] == Row("cells with N_qual >= 1", "published 19, here 22", None)
    assert rows["cells with N_qual >= 1 at split 4"].holds
    verdicts["P2"]["reported"]["cells_by_split"]["4"] = 1
    assert [row.of for row in published.structure(document) if row.holds is False] == ["cells with N_qual >= 1 at split 4"]


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        ("T_O 32.1 sweeps", "T_O 32.1001 sweeps", False),
        ("T_O 32.1 sweeps", "T_O 33.1 sweeps", True),
        ("23 steps, residual 4e-13", "23 steps, residual 9e-13", False),
        ("23 steps, residual 4e-13", "24 steps, residual 4e-13", True),  # the rest of the line counts
        ("residual 4e-13", "residual 4e-3", True),
        ("error <= 1e-10  5e-16  12.2061", "error <= 1e-10  2e-16  13.1224", False),  # margins, as logarithms of ratios
        ("error <= 1e-10  5e-16  12.2061", "error <= 1e-10  2e-16  14.2061", True),  # and no other number
        ("took 3.2 s of 7 tasks", "took 9.9 s of 7 tasks", False),
    ],
)
def test_which_numbers_of_a_page_agree(shown, printed, expected):
    assert pages.skeleton(shown) == pages.skeleton(printed)
    assert pages.differs(shown, printed, 1e-3) is expected


def test_every_script_is_listed_with_its_command():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    helpers = {"claims.py", "precise.py"}
    for script in FOLDER.glob("*.py"):
        assert (f"python validation/{script.name}" in page) is (script.name not in helpers), script.name
        assert script.read_text(encoding="utf-8").startswith('"""Claim: ') is (script.name not in helpers), script.name
