"""The screen of ``thermo diagnose``: the answer in sentences, the numbers, the basins."""

from __future__ import annotations

import textwrap

from thermokernels import Diagnosis
from thermokernels.diagnosis import words as words
from thermokernels_app.report import tables

WIDTH = 118


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Everything but the first line, which stands there before anything is computed."""
    print()
    for sentence in diagnosis.sentences:
        print(textwrap.fill(sentence, WIDTH, initial_indent="* ", subsequent_indent="  "))
    print()
    print(words.CONVENTION)
    tables.print_table(words.HEADER, words.rows(diagnosis))
    if diagnosis.crossings:
        print()
        tables.print_table(words.CROSSINGS_HEADER, words.crossing_rows(diagnosis))
    for note in words.crossing_notes(diagnosis):
        print(textwrap.fill(note, WIDTH, initial_indent="  ", subsequent_indent="  "))
