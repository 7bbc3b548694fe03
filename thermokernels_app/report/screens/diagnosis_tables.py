"""The screen of ``thermo diagnose``: the answer in sentences, the numbers, the basins."""

from __future__ import annotations

from thermokernels import Diagnosis
from thermokernels.diagnosis import words as words
from thermokernels_app.report.screens.layout import print_table, print_wrapped


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Everything but the first line, which stands there before anything is computed."""
    print()
    for sentence in diagnosis.sentences:
        print_wrapped(sentence, "* ", "  ")
    print()
    print_wrapped(words.CONVENTION)
    print_table(words.HEADER, words.rows(diagnosis))
    if diagnosis.crossings:
        print()
        print_table(words.CROSSINGS_HEADER, words.crossing_rows(diagnosis))
    for note in words.crossing_notes(diagnosis):
        print_wrapped(note, "  ", "  ")
