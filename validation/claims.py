"""What the scripts share: the clone is found without being installed, one table of results, and the exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


@dataclass(frozen=True)
class Row:
    """One line of a table: what is claimed of, what was found, and whether it holds; None where it could not be looked at."""

    of: str
    found: str
    holds: bool | None


def conclude(rows: Sequence[Row]) -> int:
    """Print the table; 0 where everything that could be looked at holds, and something could."""
    words = {True: "holds", False: "FAILS", None: "not judged"}
    width, wide = max(len(row.of) for row in rows), max(len(row.found) for row in rows)
    for row in rows:
        print(f"{row.of:{width}}  {row.found:{wide}}  {words[row.holds]}")
    failed, looked_at = sum(row.holds is False for row in rows), sum(row.holds is not None for row in rows)
    print(f"{looked_at - failed} of {looked_at} hold, {len(rows) - looked_at} not judged")
    return 1 if failed or not looked_at else 0
