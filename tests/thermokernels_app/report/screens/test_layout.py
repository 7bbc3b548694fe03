"""Tables on narrow screens: every header and every cell whole, in the order of the columns, no line wider than the screen."""

import io
import re
import sys

import pytest

from thermokernels_app.report.screens import layout

HEADER = ("quantity", "value", "", "how exact", "met")
ROWS = [
    ("gap of the sampler", 0.0123456, "per step", "error at most 4e-10 (residual and proven gap, or state reduction)", "yes"),
    ("T_O", "1.2e+03", "steps", "-", "no"),
]


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch):
    def show(width, header=HEADER, rows=ROWS):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setattr(sys, "stdout", Terminal())
        layout.print_table(header, rows)
        layout.print_wrapped("a sentence of many words " * 8, "* ", "  ")
        return re.sub(r"\x1b\[[0-9;]*m", "", sys.stdout.getvalue())

    return show


@pytest.mark.parametrize("width", [40, 41, 60, 79, 80, 100, 118, 140, 200])
def test_nothing_is_cut(shown, width):
    text = shown(width)
    assert max(map(len, text.splitlines())) <= width
    flat = " ".join(text.replace("│", " ").replace("┃", " ").split())
    for cell in (*HEADER, *(str(cell) for row in ROWS for cell in row)):
        assert cell in flat
    assert (HEADER[0] in text.splitlines()[0]) == (width < 120)  # a wide table has a line above


def test_the_columns_of_a_row_stay_in_order(shown):
    lines = shown(40, ("a", "b", "c"), [("x" * 15, "y" * 15, "z" * 15)]).splitlines()
    assert lines[0].split() == ["a", "b"]
    assert lines[1].split() == ["c"]
    assert lines[2].split() == ["x" * 15, "y" * 15]
    assert lines[3].strip() == "z" * 15
    assert lines[3].startswith(" " * layout.BELOW)


def test_a_pipe_gets_whole_lines(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    layout.print_table(HEADER, ROWS)
    lines = sys.stdout.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[1].split("  ")[1] == "gap of the sampler"
