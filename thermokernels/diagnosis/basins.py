"""The basins of a diagnosis: minima, the saddles that join them, and what it takes to cross between them and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from thermokernels.common import threads, thresholds
from thermokernels.common.errors import ModelTooLargeError, NumericalError
from thermokernels.diagnosis.resolved import NOT_MADE, none, number, reason_of
from thermokernels.diagnosis.result import Crossing
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels.quantities import first_passage
from thermokernels.quantities.landscape import MergeEvent, MergeTree, merge_tree
from thermokernels.quantities.relevance import ObservableBasis, observable_basis

# First passages are solved for this many basins, the most probable first.
MAX_CROSSINGS = 8


def basins(chain: GibbsChain, budget: float) -> dict[str, Any]:
    """Of the energy, which both kernels share; passages are those of single spins."""
    scan, chain = chain, chain if chain.reversible else gibbs_chain(chain.model)
    try:
        tree: MergeTree = merge_tree(chain)
        basis = observable_basis(chain)
    except (NumericalError, ModelTooLargeError) as problem:
        nothing = {"n_minima": None, "n_multiway_saddles": None, "crossings": (), "n_crossings_left_out": 0}
        return nothing | {"landscape_reason": reason_of(problem)}
    events = tree.by_mass()
    kept = events[:MAX_CROSSINGS]
    crossings: list[Crossing | None] = [None] * len(kept)

    def cross(k: int) -> None:
        with np.errstate(all="ignore"):  # which is a thread's own
            crossings[k] = _crossing(chain, kept[k], tree.barrier_error, basis, budget, scan.reversible)

    # side by side: a passage is hundreds of passes over the states, each too short for threads of its own
    threads.for_each(cross, len(kept), len(kept) * chain.n_states * chain.n_spins)
    return {
        "n_minima": tree.n_minima,
        "n_multiway_saddles": tree.n_multiway_saddles,
        "crossings": tuple(crossings),
        "n_crossings_left_out": max(0, len(events) - MAX_CROSSINGS),
        "landscape_reason": None,
    }


def _crossing(
    chain: GibbsChain, event: MergeEvent, barrier_error: float, basis: ObservableBasis, budget: float, has_passages: bool
) -> Crossing:
    dying, surviving = event.dying, event.surviving

    def passage_time(start: np.ndarray, target: np.ndarray) -> tuple[float, float, str]:
        first = first_passage.solve_mean_first_passage(chain, start, target)
        return first.value, first.relative_bound * first.value, f"relative error at most {first.relative_bound:.1g}"

    out = number("steps", lambda: passage_time(dying, surviving)) if has_passages else none("steps", f"first passages are {NOT_MADE}")
    back = number("steps", lambda: passage_time(surviving, dying)) if has_passages else none("steps", f"first passages are {NOT_MADE}")
    seen = number("", lambda: (*basis.enclosed_relevance(dying), "rounding"))
    times = [passage.value for passage in (out, back)]
    if any(time is not None and time > budget * chain.n_spins for time in times):
        crossable: bool | None = False
    else:
        crossable = None if None in times else True
    return Crossing(
        mass=event.dying_mass,
        deeper_mass=event.surviving_mass,
        barrier=event.barrier,
        barrier_error=barrier_error,
        saddle_energy=event.saddle_energy,
        multiplicity=event.multiplicity,
        out=out,
        back=back,
        relevance=seen,
        crossable=crossable,
        seen=None if seen.value is None else seen.value >= thresholds.RELEVANCE,
    )
