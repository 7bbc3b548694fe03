"""One case: a check that is silent as things stand, and has to speak through one named gate when one thing is broken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

# What a check found: the gates that spoke, each with what it said; empty where everything is in order.
Spoken = dict[str, str]
Check = Callable[[], Spoken]


@dataclass(frozen=True)
class Case:
    """``gate`` has to be silent in ``sound`` and to speak in ``broken``, which differs from it by what ``breaks`` says."""

    gate: str
    breaks: str
    sound: Check
    broken: Check


@dataclass(frozen=True)
class Outcome:
    """How a case went: ``caught`` where its gate spoke because of the sabotage alone; ``by`` names every gate that did."""

    gate: str
    breaks: str
    caught: bool
    by: tuple[str, ...]
    said: str
    seconds: float


def run(case: Case) -> Outcome:
    """Run one case; an error in it is no catch."""
    start = time.perf_counter()
    by: tuple[str, ...] = ()
    try:
        sound, broken = case.sound(), case.broken()
        by = tuple(broken)
        caught = case.gate in broken and case.gate not in sound
        said = broken.get(case.gate, "nothing: the sabotage went unnoticed")
        if case.gate in sound:
            said = f"spoke without any sabotage: {sound[case.gate]}"
    except Exception as error:  # whatever a sabotage sets off, the other cases are run
        caught, said = False, f"unexpected {type(error).__name__}: {error}"
    return Outcome(case.gate, case.breaks, caught, by, said, time.perf_counter() - start)


@contextmanager
def patched(owner: Any, name: str, replacement: Any) -> Iterator[Any]:
    """``owner.name`` replaced for a while; yields what was there."""
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield original
    finally:
        setattr(owner, name, original)


def under(sabotage: Callable[[], AbstractContextManager[Any]], check: Check) -> Check:
    """The check while the sabotage lasts."""

    def sabotaged() -> Spoken:
        with sabotage():
            return check()

    return sabotaged


def refused(gate: str, error: type[Exception], function: Callable[[], Any]) -> Check:
    """A check that speaks where ``function`` raises ``error``."""

    def check() -> Spoken:
        try:
            function()
        except error as found:
            return {gate: str(found)}
        return {}

    return check
