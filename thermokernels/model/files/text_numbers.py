"""Numbers in text files: read where the text can mean one thing only, and else refused with the advice that helps.

Commas, semicolons, tabs or blanks part the numbers; the decimal sign is a point. Lines that begin with ``#`` are comments (``np.savetxt``
writes such headers), a first line ``sep=;`` names the separator (as Excel has it), blank lines are skipped.
"""

from __future__ import annotations

import codecs
import csv
import re
from itertools import pairwise
from pathlib import Path

import numpy as np

from thermokernels.common import arguments
from thermokernels.common.arrays import Floats

NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|inf(?:inity)?)", re.ASCII | re.IGNORECASE)
WHOLE = re.compile(r"\d{1,18}", re.ASCII)
SIGNED_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?", re.ASCII)

# UTF-32 before UTF-16, of whose mark its own begins with.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

TEXT = "it must be text in UTF-8, or in UTF-16 with its mark"
NAMES_ADVICE = "write the numbers alone, without names or numbers of rows and columns (pandas: header=False, index=False)"
POINT_ADVICE = "write decimal points (pandas: decimal='.')"

Line = tuple[int, list[str]]  # number in the file, cells


def read_numbers(path: Path, what: str) -> Floats:
    """The numbers of a text file as float64 of shape (rows, columns).

    Raises
    ------
    ValueError, OSError
        One sentence that begins with ``what``: no text, no numbers, rows of different lengths, or a text of two meanings (a first line or
        column that counts the columns or rows, decimal commas).
    """
    separator, lines = _cells(_text(path, what), what)
    if not lines:
        raise ValueError(f"{what}: it must hold rows of numbers parted by commas, semicolons, tabs or blanks; it is empty")
    first, width = lines[0][0], len(lines[0][1])
    values = np.empty((len(lines), width))
    for row, (number, cells) in enumerate(lines):
        for column, cell in enumerate(cells):
            if NUMBER.fullmatch(cell) is None:
                raise ValueError(f"{what}: it must hold numbers; line {number}, entry {column + 1} is {_complaint(cell, number == first)}")
        if len(cells) != width:
            raise ValueError(f"{what}: rows must have one length; line {first} has {width} entries and line {number} has {len(cells)}")
        values[row] = [float(cell) for cell in cells]
    _refuse_two_meanings(lines, separator, what)
    return values


def _text(path: Path, what: str) -> str:
    content = path.read_bytes()
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{what}: {TEXT}; it cannot be read ({type(error).__name__})") from None
    if "\0" in text:
        raise ValueError(f"{what}: {TEXT}; it holds NUL characters")
    return text


def _cells(text: str, what: str) -> tuple[str, list[Line]]:
    """The separator of the whole file, and the lines that hold something, split at it."""
    lines = [(number, line.strip(" ")) for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1)]
    lines = [(number, line) for number, line in lines if line.strip() and not line.lstrip().startswith("#")]
    separator = ""
    if lines and (named := re.fullmatch(r"sep=(.)", lines[0][1], re.IGNORECASE)):
        separator, lines = named[1], lines[1:]
    separator = separator or next((sign for sign in ";\t," if any(sign in line for _, line in lines)), " ")
    if separator == " ":
        return separator, [(number, line.split()) for number, line in lines]
    try:
        split = [(number, next(csv.reader([line], delimiter=separator, strict=True))) for number, line in lines]
        return separator, [(number, [cell.strip() for cell in cells]) for number, cells in split]
    except csv.Error as error:
        raise ValueError(f"{what}: it must be numbers parted by commas, semicolons, tabs or blanks; it cannot be read ({error})") from None


def _complaint(cell: str, in_first_line: bool) -> str:
    if DECIMAL_COMMA.fullmatch(cell):
        return f"{arguments.in_brief(cell)}, with a decimal comma: {POINT_ADVICE}"
    if in_first_line or not cell:
        return f"{arguments.in_brief(cell)}: {NAMES_ADVICE}"
    return arguments.in_brief(cell)


def _refuse_two_meanings(lines: list[Line], separator: str, what: str) -> None:
    rows = [cells for _, cells in lines]
    number, width = lines[0][0], len(rows[0])
    if len(rows) > 1 and _counts(rows[0], [cell for row in rows[1:] for cell in row], least=2):
        raise ValueError(
            f"{what}: its first line must be numbers of the table and not of its columns; line {number} begins "
            f"{','.join(rows[0][:3])}, which may be either: {NAMES_ADVICE}, or write 0.0 for a number 0"
        )
    if min(len(rows), width) > 1 and _counts([row[0] for row in rows], [cell for row in rows for cell in row[1:]], least=2):
        raise ValueError(
            f"{what}: its first column must be numbers of the table and not of its rows; it begins "
            f"{','.join(row[0] for row in rows[:3])}, which may be either: {NAMES_ADVICE}, or write 0.0 for a number 0"
        )
    if separator == "," and _may_be_decimals(rows):
        raise ValueError(
            f"{what}: its commas must part numbers; {','.join(rows[0][:2])} in line {number} may also be one number with a decimal comma: "
            f"{POINT_ADVICE}, or 1.0,2.0 for two numbers 1 and 2"
        )


def _counts(cells: list[str], others: list[str], least: int) -> bool:
    """Whether these may be the names 0, 1, 2, ... of columns or rows, or other whole numbers where all others have a point."""
    if not all(WHOLE.fullmatch(cell) for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    if len(numbers) >= least and numbers == list(range(len(numbers))):
        return True
    rising = all(one < other for one, other in pairwise(numbers))
    return rising and not any(SIGNED_WHOLE.fullmatch(cell) for cell in others)


def _may_be_decimals(rows: list[list[str]]) -> bool:
    """Whether each pair of whole numbers may be one number that was split at its decimal comma."""
    if len(rows[0]) % 2 or not all(SIGNED_WHOLE.fullmatch(cell) for row in rows for cell in row):
        return False
    fractions = [cell for row in rows for cell in row[1::2]]
    if not all(WHOLE.fullmatch(cell) for cell in fractions):
        return False
    if any(cell == "-0" for row in rows for cell in row[::2]) or any(len(cell) > 1 and cell.startswith("0") for cell in fractions):
        return True
    return len(rows[0]) == 2 and not set(fractions) <= {"0", "1"}
