"""The program around the numerics, called from Python: imported when it is called, so that the numerics stand alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def selftest(progress: Callable[[int, int, str], None] | None = None) -> dict[str, Any]:
    """Break every gate of the program on purpose, one at a time, and say which check caught it: ``thermo selftest``.

    Takes about a minute. A gate that nothing trips is a FAIL, as is a sabotage that is not caught.

    Parameters
    ----------
    progress : called before every case with the number of those that are done, the number of all, and the group

    Returns
    -------
    dict
        Plain data, what ``thermo selftest --json`` prints: ``verdict`` ("PASS" or "FAIL"), ``seconds``, ``untripped`` (gates that nothing
        trips), ``skipped`` (sentences) and ``cases``, each with group, gate, breaks, caught, by, said and seconds.

    Raises
    ------
    ModuleNotFoundError
        The program's own dependencies (Typer) are missing.

    Examples
    --------
    >>> import thermokernels as tk
    >>> tk.selftest()["verdict"]  # doctest: +SKIP
    'PASS'
    """
    from thermokernels_app.selftest.run import run

    return run(progress=progress)
