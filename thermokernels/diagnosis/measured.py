"""The spectral measure of a large model in parts that say how far they are, and in a file so that it goes on where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np

from thermokernels.diagnosis.checkpointed import SOLUTIONS, Parts
from thermokernels.model.chain import GibbsChain
from thermokernels.quantities.slow_modes import SlowModes
from thermokernels.quantities.spectral_measure import SpectralMeasure, measure_of, modes_of
from thermokernels.quantities.variance_time import VarianceTime, with_solutions
from thermokernels.solvers.checkpoint import Kept, PathLike
from thermokernels.solvers.solve import Solve

# (part, done, total) -> anything
Progress = Callable[[str, int, int], object]

MODES, MEASURE = "the slow modes", "the spectral measure"


def counted_measure(time: VarianceTime, progress: Progress, parts: Parts) -> tuple[SpectralMeasure, SlowModes | None]:
    """:func:`thermokernels.spectral_measure` from the solutions behind T_O, and the slow modes, where there are any.

    What is done of it is kept in ``parts``, and itself once it is done, when the solutions are of no use any more.
    """
    modes, earlier = _modes(time, progress, parts.unfinished(MODES)), parts.kept("measure")
    if earlier:
        return SpectralMeasure(**earlier), modes
    n_rows = time.chain.model.n_couplings
    progress(MEASURE, 0, n_rows)
    found = measure_of(time, modes, lambda done: progress(MEASURE, done, n_rows), parts.unfinished(MEASURE))
    parts.forget(SOLUTIONS, MEASURE)
    parts.keep({"measure": {field.name: getattr(found, field.name) for field in fields(found)}})
    return found, modes


def _modes(time: VarianceTime, progress: Progress, kept: Kept) -> SlowModes | None:
    """The slow modes of the measure, found now or in an earlier call."""
    progress(MODES, 0, 1)
    if earlier := kept.load():
        complete = bool(earlier["complete"])
        return SlowModes(earlier["gaps"], earlier["vectors"], earlier["weights"], earlier["residuals"], complete)
    if (modes := modes_of(time)) is not None:
        kept.save({field.name: np.asarray(getattr(modes, field.name)) for field in fields(modes)})
    return modes


def kept_measure(chain: GibbsChain, progress: Progress, checkpoint: PathLike | None) -> SpectralMeasure:
    """:func:`thermokernels.spectral_measure`; what is done of the solves behind it and of itself is kept in the file ``checkpoint``.

    Raises
    ------
    ValueError
        The file belongs to another model or to a diagnosis. And as :func:`thermokernels.spectral_measure`.
    """
    model = chain.model
    inputs = {"W": model.W, "b": model.b, "c": model.c, "kernel": chain.kernel, "quotient": chain.quotient, "what": "spectral measure"}
    parts = Parts(checkpoint, inputs if model.mask is None else inputs | {"mask": model.mask})
    if earlier := parts.kept("measure"):
        return SpectralMeasure(**earlier)

    def solve(kept: Kept) -> VarianceTime:
        return with_solutions(chain, Solve(progress=lambda done, total: progress("the observables", done, total), kept=kept))

    time = parts.solutions(chain, solve)
    assert not isinstance(time, Exception)
    return counted_measure(time, progress, parts)[0]
