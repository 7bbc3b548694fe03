"""The gap, by counting eigenvalues, and the slow end of the spectral measure, by all of them."""

from __future__ import annotations

import math
from typing import Any

import mpmath as mp
from certified.exact import Exact
from certified.ledger import Ledger

import thermokernels as tk
from thermokernels.quantities import spectral_gap

# Models with a gap above count as fast.
FAST = 1e-6

# All eigenvalues in mpmath, of one model of so many.
LARGEST_SPECTRUM, EVERY_SPECTRUM = 16, 2


def examine_gap(ledger: Ledger, case: int, chain: Any, model: Exact) -> None:
    """By counting eigenvalues: one below the gap, two above. The true error is found to a tenth."""
    found = ledger.attempt("gap", lambda: spectral_gap.solve_spectral_gap(chain))
    lower = ledger.attempt("gap, lower bound", lambda: tk.gap_lower_bound(chain))
    if lower is not None and model.modes_below(mp.mpf(lower) * (1 - mp.mpf(10) ** -30)) != 1:
        ledger.violations.append(("gap, lower bound", case, lower))
    ledger.fast = found is not None and found.value > FAST
    if found is None:
        return
    value = mp.mpf(found.value)

    def holds(share: float) -> bool:
        reach = share * mp.mpf(found.bound)
        return model.modes_below(value - reach) == 1 and model.modes_below(value + reach) >= 2

    if not holds(1.0):
        ledger.violations.append(("gap", case, found))
    low, high = 0.0, math.log(max(float(found.bound / value), 2.0**-53) * 2.0**53)  # of the ratio, a rounding of the gap being the least
    while high - low > 0.1:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(math.exp(-middle)) else (low, middle)
    ledger.ratios[f"gap, {found.method}", ledger.fast].append(math.exp(low))


def examine_spectrum(ledger: Ledger, case: int, chain: Any, model: Exact) -> None:
    """Relevant gap and gamma_eff from all eigenvalues and their weights, where no weight is near the threshold."""
    if model.size > LARGEST_SPECTRUM or case % EVERY_SPECTRUM:
        return
    measure = ledger.attempt("spectrum", lambda: tk.spectral_measure(chain))
    if measure is None:
        return
    roots = [mp.sqrt(p) for p in model.law]
    matrix = mp.matrix([[roots[x] * model.generator[x][y] / roots[y] for y in range(model.size)] for x in range(model.size)])
    gaps, modes = mp.eigsy((matrix + matrix.T) / 2)
    sources = [[root * f for f in row] for root, row in zip(roots, model.centred, strict=True)]
    weights = [mp.fsum(mp.fsum(sources[x][a] * modes[x, k] for x in range(model.size)) ** 2 for a in range(len(sources[0])))
               for k in range(model.size)]  # fmt: skip
    nodes: list[list[int]] = []  # of modes that are about as slow, and count as one where it is asked how much they carry; ascending
    for k in range(model.size):
        if nodes and gaps[k] - gaps[nodes[-1][-1]] <= 1e-8 * abs(gaps[k]):
            nodes[-1].append(k)
        else:
            nodes.append([k])
    steps, carried = chain.steps_per_sweep, [mp.fsum(weights[k] for k in node) / mp.fsum(weights) for node in nodes]
    if any(1e-15 < share < 1e-9 for share in carried):
        return
    seen = [(gaps[k], 1 - (1 - gaps[k]) ** steps, weights[k])
            for node, share in zip(nodes, carried, strict=True) if share > 1e-12 for k in node]  # fmt: skip
    ledger.enter("relevant gap", measure.relevant_gap, seen[0][0], measure.relevant_gap_bound, case)
    if any(abs(sweep / seen[0][1] - 3) < 1e-6 for _, sweep, _ in seen):
        return
    cluster = [(sweep, weight) for _, sweep, weight in seen if sweep <= 3 * seen[0][1]]
    exact = mp.fsum(weight for _, weight in cluster) / mp.fsum(weight / sweep for sweep, weight in cluster)
    ledger.enter("gamma_eff", measure.gamma_eff, exact, measure.gamma_eff_error * exact, case)
