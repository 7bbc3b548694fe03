"""Bounds against true errors: what was violated, what was refused, and how far above the errors the bounds lie."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np

import thermokernels as tk

Rows = list[list[Any]]


class Ledger:
    """Bounds against true errors, by quantity, of fast and of slow models."""

    def __init__(self) -> None:
        self.ratios: dict[tuple[str, bool], list[float]] = collections.defaultdict(list)
        self.violations: list[tuple[Any, ...]] = []
        self.refused: collections.Counter[str] = collections.Counter()
        self.fast = True

    def enter(self, name: str, value: Any, exact: Any, bound: Any, case: int) -> None:
        """One number."""
        error = abs(mp.mpf(float(value)) - exact)
        if not error <= bound:
            self.violations.append((name, case, float(value), float(error), float(bound)))
        self.judge(name, bound, error, abs(exact))

    def judge(self, name: str, bound: Any, error: Any, size: Any) -> None:
        """An error below the rounding of the value itself is luck."""
        self.ratios[name, self.fast].append(float(bound / max(error, size * mp.mpf(2) ** -53, mp.mpf(2) ** -1074)))

    def medians(self, fast: bool) -> dict[str, float]:
        """Median ratio by quantity."""
        return {name: float(np.median(ratios)) for (name, kind), ratios in self.ratios.items() if kind == fast}

    def attempt(self, name: str, compute: Callable[[], Any]) -> Any:
        try:
            return compute()
        except tk.NumericalError:
            self.refused[name] += 1
            return None

    def enter_relative(self, name: str, value: Any, exact: Any, relative: float, case: int) -> None:
        """One number with a bound on its relative error."""
        error = abs(value - exact)
        if not error <= relative * exact:
            self.violations.append((name, case, float(value), float(error / exact), relative))
        self.judge(name, relative * exact, error, exact)

    def enter_matrix(self, name: str, values: Any, exact: Rows, bound: float, case: int) -> None:
        """The largest error of an entry."""
        size = max(abs(e) for row in exact for e in row)
        error = max(abs(mp.mpf(float(v)) - e) for row, line in zip(values, exact, strict=True) for v, e in zip(row, line, strict=True))
        if not error <= bound:
            self.violations.append((name, case, float(error), bound))
        if bound > 0:
            self.judge(name, bound, error, size)


def report(kernel: str, ledger: Ledger, n_models: int) -> None:
    print(f"\n{kernel}: {n_models} models, {len(ledger.violations)} bounds violated")
    for violation in ledger.violations[:20]:
        print("   violated:", *violation)
    fast, slow = ledger.medians(True), ledger.medians(False)
    print(f"   {'median of bound / true error':32s} {'gap > 1e-6':>12s} {'below':>12s} {'refused':>9s}")
    for name in sorted({*fast, *slow, *ledger.refused}):
        cells = [f"{medians[name]:12.3g}" if name in medians else f"{'':12s}" for medians in (fast, slow)]
        print(f"   {name:32s} {cells[0]} {cells[1]} {ledger.refused[name]:9d}", flush=True)
