"""Laws, rates, cuts, passages and barriers: what is said of a chain state by state."""

from __future__ import annotations

import collections
from typing import Any

import mpmath as mp
import numpy as np
from certified.exact import Exact, solved
from certified.ledger import Ledger

import thermokernels as tk
from thermokernels.model.rounding import energy_error, entry_error, law_error
from thermokernels.quantities import conductance, first_passage, landscape
from thermokernels.quantities.relevance import observable_basis
from thermokernels.solvers.state_reduction import reduced_resolvent
from thermokernels.solvers.state_reduction.gth_elimination import rate_error, transitions


def examine_entries(ledger: Ledger, case: int, chain: Any, model: Exact, draws: np.random.Generator) -> None:
    """What stands behind the numbers: laws, energies and rates, entry by entry, and the conductance of a cut."""
    exact_energy = [-mp.log(p) for p in model.law]
    shift = exact_energy[0] - mp.mpf(float(chain.energy[0]))
    for x, p in enumerate(model.law):
        law = reduced_resolvent.law(chain).take(x)
        value = mp.mpf(float(law.mantissa)) * mp.mpf(2) ** (512 * int(law.exponent))
        ledger.enter_relative("law, wide", value, p, law_error(chain), case)
        if p > mp.mpf(2) ** -1000:
            ledger.enter_relative("law", mp.mpf(float(chain.law[x])), p, law_error(chain), case)
        error = abs(exact_energy[x] - shift - mp.mpf(float(chain.energy[x])))
        if not error <= 2 * energy_error(chain):
            ledger.violations.append(("energy", case, x, float(error), energy_error(chain)))
    if chain.reversible:
        others, rates = transitions(chain)
        sums: dict[tuple[int, int], Any] = collections.defaultdict(lambda: mp.mpf(0))
        for x in range(chain.n_states):
            for k, y in enumerate(others[x]):
                sums[x, int(y)] += mp.mpf(float(rates.mantissa[x, k])) * mp.mpf(2) ** (512 * int(rates.exponent[x, k]))
        for (x, y), value in sums.items():
            if x != y:
                ledger.enter_relative("rate", value, -model.generator[x][y], rate_error(chain), case)
    matrix = chain.transition_matrix()
    for x, row in enumerate(model.generator):
        for y, entry in enumerate(row):
            if x != y and -entry > mp.mpf(2) ** -1000 and chain.kernel != "alternating":
                error = abs(mp.mpf(float(matrix[x, y])) + entry)  # beside it the transition matrix is formed with roundings of one
                if not error <= entry_error(chain) * -entry + chain.n_states * mp.mpf(2) ** -53:
                    ledger.violations.append(("entry of P", case, (x, y), float(error), entry_error(chain)))
    mask = draws.random(chain.n_states) < 0.5
    mask[0], mask[-1] = True, False
    phi = ledger.attempt("conductance", lambda: tk.conductance(chain, mask))
    if phi is not None:
        flow = mp.fsum(-model.law[x] * model.generator[x][y] for x in np.flatnonzero(mask) for y in np.flatnonzero(~mask))
        mass = mp.fsum(p for p, inside in zip(model.law, mask, strict=True) if inside)
        exact = flow / min(mass, 1 - mass)
        ledger.enter("conductance", phi, exact, conductance.conductance_error(chain) * exact, case)


def examine_passages(ledger: Ledger, case: int, chain: Any, model: Exact, draws: np.random.Generator) -> None:
    target = np.zeros(chain.n_states, dtype=bool)
    target[draws.choice(chain.n_states, size=draws.integers(1, max(2, chain.n_states // 2)), replace=False)] = True
    exact_times = model.hitting_times(target)
    start = ~target
    masses = [p for p, inside in zip(model.law, start, strict=True) if inside]
    exact_mean = mp.fsum(p * t for p, t in zip(model.law, exact_times, strict=True)) / mp.fsum(masses)
    for method in ("auto", "symmetrised", "reduction"):
        first = ledger.attempt(f"MFPT, {method}", lambda m=method: first_passage.solve_mean_first_passage(chain, start, target, m))
        if first is None:
            continue
        for t, exact in zip(first.hitting.times[start], (t for t in exact_times if t), strict=True):
            ledger.enter(f"hitting time, {method}", t, exact, first.hitting.relative_bound * exact, case)
        ledger.enter(f"MFPT, {method}", first.value, exact_mean, first.relative_bound * exact_mean, case)


def examine_landscape(ledger: Ledger, case: int, chain: Any, model: Exact, draws: np.random.Generator) -> None:
    """Barriers, by trying every level, and the relevance of a set of states for the directions that its basis has."""
    tree = landscape.merge_tree(chain)
    energies = [-mp.log(p) for p in model.law]
    for event in tree.events:
        lowest = min(e for e, inside in zip(energies, event.dying, strict=True) if inside)
        exact = exact_saddle(model, energies, event.dying, event.surviving) - lowest
        ledger.enter("barrier", event.barrier, exact, tree.barrier_error, case)
    mask = draws.random(chain.n_states) < 0.5
    mask[0], mask[-1] = True, False
    basis = ledger.attempt("relevance", lambda: observable_basis(chain))
    found = None if basis is None else ledger.attempt("relevance", lambda: basis.enclosed_relevance(mask))
    if found is None or not basis.dimension:
        return
    columns = [[mp.mpf(float(c)) for c in column] for column in basis.coefficients.T]
    functions = [[mp.fsum(c * f for c, f in zip(column, row, strict=True)) for column in columns] for row in model.centred]
    mass = mp.fsum(p for p, inside in zip(model.law, mask, strict=True) if inside)
    k = range(len(columns))
    gram = [[mp.fsum(p * row[a] * row[b] for p, row in zip(model.law, functions, strict=True)) for b in k] for a in k]
    along = [mp.fsum(p * row[a] for p, row, inside in zip(model.law, functions, mask, strict=True) if inside) for a in k]
    exact = mp.fsum(c * s[0] for c, s in zip(along, solved(gram, [[c] for c in along]), strict=True)) / (mass * (1 - mass))
    ledger.enter("relevance", found[0], exact, found[1], case)


def exact_saddle(model: Exact, energies: list[Any], start: Any, target: Any) -> Any:
    """The least level at which a path leads from one set to the other."""
    for level in sorted(energies):
        reached, frontier = set(), [x for x in range(model.size) if start[x] and energies[x] <= level]
        while frontier:
            x = frontier.pop()
            if x not in reached:
                reached.add(x)
                frontier += [y for y in model.neighbours[x] if energies[y] <= level]
        if any(target[x] for x in reached):
            return level
    raise AssertionError("the graph is connected")
