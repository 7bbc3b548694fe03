"""How far the work is, for whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far the work is: the share of it that is done, seconds since the start, and what is done in words."""

    share: float
    seconds: float
    description: str


Report = Callable[[Progress], None]


def mean_of(report: Report, count: int) -> list[Report]:
    """A report for each of several runs; what is told of them together is the mean."""
    shares = [0.0] * count

    def of(index: int) -> Report:
        def one(progress: Progress) -> None:
            shares[index] = progress.share
            report(Progress(sum(shares) / count, progress.seconds, f"{shares.count(1.0)} of {count} runs"))

        return one

    return [of(index) for index in range(count)]
