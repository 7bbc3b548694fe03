"""The basins of a diagnosis: minima, the saddles that join them, and what it takes to cross between them and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from thermokernels.common import threads, thresholds
from thermokernels.common.errors import ModelTooLargeError, NumericalError
from thermokernels.diagnosis.checkpointed import Parts
from thermokernels.diagnosis.resolved import NOT_MADE, none, reason_of
from thermokernels.diagnosis.resolved import number as number_of
from thermokernels.diagnosis.result import Crossing, Number
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels.quantities import first_passage
from thermokernels.quantities.landscape import MergeEvent, MergeTree, merge_tree
from thermokernels.quantities.relevance import ObservableBasis, observable_basis

# First passages are solved for this many basins, the most probable first.
MAX_CROSSINGS = 8

NO_PASSAGE = none("steps", f"first passages are {NOT_MADE}")


def basins(chain: GibbsChain, budget: float, progress: Callable[[int, int], object], parts: Parts) -> dict[str, Any]:
    """Of the energy, which both kernels share; passages are those of single spins.

    ``progress(done, total)`` counts the passages. Those that are done are kept in ``parts``.
    """
    scan, chain = chain, chain if chain.reversible else gibbs_chain(chain.model)
    progress(0, 1)
    try:
        tree: MergeTree = merge_tree(chain)
        basis = observable_basis(chain)
    except (NumericalError, ModelTooLargeError) as problem:
        nothing = {"n_minima": None, "n_multiway_saddles": None, "crossings": (), "n_crossings_left_out": 0}
        return nothing | {"landscape_reason": reason_of(problem)}
    events = tree.by_mass()
    kept = events[:MAX_CROSSINGS]
    times = _passages(chain, kept, progress, parts) if scan.reversible else [NO_PASSAGE] * (2 * len(kept))
    crossings = [
        _crossing(chain, event, tree.barrier_error, basis, budget, *both)
        for event, *both in zip(kept, times[::2], times[1::2], strict=True)
    ]
    return {
        "n_minima": tree.n_minima,
        "n_multiway_saddles": tree.n_multiway_saddles,
        "crossings": tuple(crossings),
        "n_crossings_left_out": max(0, len(events) - MAX_CROSSINGS),
        "landscape_reason": None,
    }


def _passages(chain: GibbsChain, events: Sequence[MergeEvent], progress: Callable[[int, int], object], parts: Parts) -> list[Number]:
    """Mean first passages out of every basin and back, in turn."""
    names = [f"passage {way} {number}" for number in range(len(events)) for way in ("out", "back")]
    found = {name: earlier["time"] for name in names if (earlier := parts.kept(name))}
    coming, saved = [name for name in names if name not in found], set(found)
    progress(len(saved), len(names))

    def cross(number: int) -> None:
        name = coming[number]
        event = events[names.index(name) // 2]
        ends = (event.dying, event.surviving) if " out " in name else (event.surviving, event.dying)

        def passage_time() -> tuple[float, float, str]:
            first = first_passage.solve_mean_first_passage(chain, *ends)
            return first.value, first.relative_bound * first.value, f"relative error at most {first.relative_bound:.1g}"

        with np.errstate(all="ignore"):  # which is a thread's own
            found[name] = number_of("steps", passage_time)

    def tell(done: int) -> None:
        new = [name for name in coming if name in found and name not in saved]
        parts.keep({name: {"time": found[name]} for name in new})
        saved.update(new)
        progress(len(names) - len(coming) + done, len(names))

    # side by side: a passage is hundreds of passes over the states, each too short for threads of its own
    threads.for_each(cross, len(coming), len(coming) * chain.n_states * chain.n_spins, tell)
    return [found[name] for name in names]


def _crossing(
    chain: GibbsChain, event: MergeEvent, barrier_error: float, basis: ObservableBasis, budget: float, out: Number, back: Number
) -> Crossing:
    seen = number_of("", lambda: (*basis.enclosed_relevance(event.dying), "rounding"))
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
