"""Lines and tables on a screen of any width: nothing is cut; what does not fit beside goes below. A pipe gets whole lines."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

# Sentences are easier to read in lines that are not longer.
LINE = 118
# Between columns; and before a line that goes on with the columns of the one above.
GAP, MARGIN, BELOW = 2, 2, 6
# Columns of the names of facts.
NAME = 11

COLOURS = {"PASS": "green", "FAIL": "red", "HALT": "yellow", "yes": "green", "no": "red"}


def terminal_width() -> int | None:
    """Columns of the terminal that the answer goes to, None where it goes elsewhere."""
    if not sys.stdout.isatty():
        return None
    from rich.console import Console

    return Console().width


def print_wrapped(sentence: str, first: str = "", below: str = "") -> None:
    """A sentence in lines; ``first`` before the first of them, ``below`` before the others."""
    print(textwrap.fill(sentence, min(LINE, terminal_width() or LINE), initial_indent=first, subsequent_indent=below))


def print_fact(name: str, words: str) -> None:
    """A line ``name   words``; on a terminal it goes on below, between words."""
    line, width = name.ljust(NAME) + words, terminal_width()
    print(line if width is None else textwrap.fill(line, width, subsequent_indent=" " * min(NAME, width // 4)))


def print_line(text: str) -> None:
    """A line, in several on a terminal that is narrower; elsewhere it stays one."""
    width = terminal_width()
    print(text if width is None else textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False), flush=True)


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """With lines and colours on a terminal that is wide enough; on a narrow one a row takes several lines, as the header does."""
    lines = [tuple(str(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    screen = terminal_width()
    if screen is None:
        for line in (tuple(header), *lines):
            print(" " * MARGIN + (" " * GAP).join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if sum(widths) + 3 * len(widths) + 1 <= screen:
        table = Table(*header)
        for line in lines:
            table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in line))
        console.print(table)
        return
    groups = _groups(widths, screen)
    for line in (tuple(header), *lines):
        for number, group in enumerate(groups):
            text = Text(" " * (BELOW if number else MARGIN), style="bold" if line is header else "")
            for column in group:
                text.append(line[column], style=COLOURS.get(line[column], ""))
                text.append(" " * (GAP + widths[column] - len(line[column])))
            text.rstrip()
            _print_folded(console, text, screen)


def _groups(widths: list[int], screen: int) -> list[list[int]]:
    """Columns that fit side by side, in their order."""
    groups: list[list[int]] = [[]]
    used = MARGIN
    for column, width in enumerate(widths):
        if groups[-1] and used + width > screen:
            groups.append([])
            used = BELOW
        groups[-1].append(column)
        used += width + GAP
    return groups


def _print_folded(console: Any, text: Any, screen: int) -> None:
    """A line, which a single cell may make wider than the screen: it goes on below, between words."""
    if len(text.plain) <= screen:
        console.print(text, soft_wrap=True)
        return
    indent = " " * (len(text.plain) - len(text.plain.lstrip()))
    folded = textwrap.fill(text.plain.strip(), screen, initial_indent=indent, subsequent_indent=indent)
    console.print(folded, soft_wrap=True, markup=False)
