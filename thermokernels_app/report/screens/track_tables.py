"""The screen of ``thermo track``: the sentences, then a row a checkpoint."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from thermokernels.estimates.statistics.intervals import three_digits
from thermokernels_app.report.screens.layout import print_line, print_table, print_wrapped

if TYPE_CHECKING:
    from thermokernels import Track, TrackedModel

HEADER = ("checkpoint", "Q", "from", "to", "T_O (steps)", "window for Q = 1", "|g|^2", "KL", "pseudo-lik.", "how")


def print_track(track: Track) -> None:
    """What matters in sentences, then the numbers; Q lies between its two ends (proven, or with 95 %)."""
    print_line(f"Q at {track.window:g} sweeps of the {track.kernel} kernel, checkpoint by checkpoint")
    print()
    for sentence in track.sentences:
        print_wrapped(sentence, "* ", "  ")
    print()
    rows = [_row(row) for row in track.rows]
    known = [column for column in range(len(HEADER)) if any(row[column] != "-" for row in rows)]
    print_table([HEADER[column] for column in known], [[row[column] for column in known] for row in rows])
    print_line("Windows are in sweeps, KL and pseudo-likelihood in nats a sample; '?' marks what cannot be trusted.")


def _row(row: TrackedModel) -> tuple[str, ...]:
    numbers = (row.value, *row.interval, row.t_obs, row.window_for_unit_q, row.signal, row.kl, row.pseudo_likelihood)
    return (row.name, *map(_short, numbers), row.method if row.trusted else f"{row.method} ?")


def _short(value: float) -> str:
    return "-" if math.isnan(value) else three_digits(value)
