"""The screen of ``thermo estimate``: the answer in sentences, then the numbers with their intervals, in 80 columns."""

from __future__ import annotations

from thermokernels import Model, QEstimate
from thermokernels.estimates import words
from thermokernels_app.report.layout import print_table, print_wrapped


def print_estimate(estimate: QEstimate) -> None:
    """Sentences and table."""
    print()
    for sentence in estimate.sentences:
        print_wrapped(sentence, "* ", "  ")
    print()
    if numbers := words.rows(estimate):
        print_table(("quantity", "value", "95 % interval", "unit"), numbers)
        print()
    for note in words.notes(estimate):
        print_wrapped(note, "  ", "  ")


def first_line(model: Model, kernel: str, window: float) -> str:
    """What is asked, before anything is computed."""
    return f"{model.n_visible} visible + {model.n_hidden} hidden spins, {kernel} Gibbs sampling, {window:g} sweeps behind a gradient"
