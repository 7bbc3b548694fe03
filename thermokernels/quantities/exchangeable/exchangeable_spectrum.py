"""What the products v_i h_j of an exchangeable chain see of the spectrum, and its gap.

The measure is the sum over the parts of v_i h_j (:mod:`thermokernels.model.exchangeable`), each a spectral decomposition or a Lanczos run
on its lumped chain, killing included. The gap is that of the lumped chain, or 1/N where a class has two spins: their difference is an
eigenfunction with that gap, and all others that change sign with an exchange relax no slower.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from thermokernels.common import tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NotConvergedError, UnresolvedError
from thermokernels.model.exchangeable import ExchangeableChain
from thermokernels.model.lumped import LumpedChain
from thermokernels.quantities.exchangeable import equal_parts
from thermokernels.solvers.lumped import lumped_solves

STEPS = 24
MOST_STEPS = 1_200

# Relative: how near sum w / gap of a Gauss rule has to come to b' A^+ b, and a least Ritz value to its eigenvalue.
RESOLUTION = 1e-9


def nodes(chain: ExchangeableChain) -> tuple[Floats, Floats, float]:
    """Gaps and weights of the measure of all products, and what the rules lack of T_O, relatively.

    Raises
    ------
    NotConvergedError
        Lanczos runs did not resolve the slow end.
    """
    gaps: list[Floats] = []
    weights: list[Floats] = []
    missing = total = 0.0
    known: dict[Hashable, tuple[Floats, Floats, float]] = {}
    for sector in chain.sectors():
        of_sector, sources = sector.chain, sector.right_hand_sides
        along = sources @ of_sector.root_law
        if of_sector.killing:  # the constant: two exchanged spins are all that decays
            gaps.append(np.array([of_sector.killing]))
            weights.append(np.array([float(along @ along)]))
            total += float(along @ along) / of_sector.killing
        if sector.visible is not None and sector.hidden is not None:
            continue
        rest = sources - along[:, None] * of_sector.root_law
        if of_sector.n_states <= lumped_solves.DENSE_STATES:
            values, vectors = lumped_solves.decomposed(of_sector)
            gaps.append(values[1:])
            weights.append(((rest @ vectors[:, 1:]) ** 2).sum(axis=0))
            total += float((weights[-1] / gaps[-1]).sum())
            continue
        for source, pair in zip(rest, sector.pairs, strict=True):
            if float(source @ source) > tolerances.WEIGHT * float(sources[0] @ sources[0]):
                name = equal_parts.key(sector, pair)
                if name not in known:
                    known[name] = _rule(of_sector, source)
                values, seen, time = known[name]
                gaps.append(values)
                weights.append(seen)
                missing += abs(time - float((seen / values).sum()))
                total += time
    return np.concatenate(gaps), np.concatenate(weights), missing / total


def _rule(chain: LumpedChain, source: Floats) -> tuple[Floats, Floats, float]:
    """A Gauss rule of a Lanczos run that has b' A^+ b, and that number."""
    time = lumped_solves.solve(chain, source).value(source)
    run = lumped_solves.LanczosRun(chain, source)
    for n_steps in range(STEPS, MOST_STEPS + 1, STEPS):
        run.extend(n_steps)
        values, weights, _ = run.rule()
        if run.ended or abs(float((weights / values).sum()) - time) <= RESOLUTION * time:
            return values, weights, time
    raise NotConvergedError(f"the spectral measure of {chain.n_states} lumped states did not converge in {MOST_STEPS} Lanczos steps")


def gap(chain: ExchangeableChain) -> float:
    """The gap of the sampler on all states, per step.

    Raises
    ------
    UnresolvedError
        It is below what float64 resolves. NotConvergedError: the Lanczos run did not converge.
    """
    lumped = chain.lumped
    sizes = (*lumped.visible_sizes, *lumped.hidden_sizes)
    of_exchange = 1 / chain.n_spins if max(sizes) > 1 else np.inf
    least = float(lumped_solves.decomposed(lumped)[0][1]) if lumped.n_states <= lumped_solves.DENSE_STATES else _least(lumped)
    if least < tolerances.GAP:
        raise UnresolvedError(
            f"the spectral gap reads {least:.2g} per step, below the {tolerances.GAP:g} that float64 resolves; scale the couplings down"
        )
    return float(min(least, of_exchange))


def _least(chain: LumpedChain) -> float:
    # any vector with a share of the slowest mode will do, a fixed one repeats; magnetisations have one in every ferromagnet
    start = np.random.Generator(np.random.PCG64(0)).standard_normal(chain.n_states) * chain.root_law
    hidden, visible = chain.magnetisations
    start += (np.add.outer(hidden.sum(axis=0), visible.sum(axis=0)) / chain.n_spins).ravel() * chain.root_law
    start -= (start @ chain.root_law) * chain.root_law
    run = lumped_solves.LanczosRun(chain, start)
    for n_steps in range(STEPS, MOST_STEPS + 1, STEPS):
        run.extend(n_steps)
        values, _, residuals = run.rule()
        if residuals[0] <= 10 * RESOLUTION * values[0] or values[0] < tolerances.GAP or run.ended:
            return float(values[0])
    raise NotConvergedError(f"the gap {values[0]:.3g} of {chain.n_states} lumped states still has a residual of {residuals[0]:.2g}")
