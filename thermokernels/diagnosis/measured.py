"""The spectral measure of a large model in parts that say how far they are, and in a file so that it goes on where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from thermokernels.diagnosis.checkpointed import Parts
from thermokernels.model.chain import GibbsChain
from thermokernels.quantities.slow_modes import SlowModes
from thermokernels.quantities.spectral_measure import SpectralMeasure, measure_of, modes_of
from thermokernels.quantities.variance_time import VarianceTime, with_solutions
from thermokernels.solvers.checkpoint import PathLike
from thermokernels.solvers.solve import Solve

# (part, done, total) -> anything
Progress = Callable[[str, int, int], object]


def counted_measure(time: VarianceTime, modes: SlowModes | None, progress: Progress) -> SpectralMeasure:
    """:func:`thermokernels.spectral_measure` from the solutions behind T_O and the slow modes, observable by observable."""
    n_rows = time.chain.model.n_couplings
    progress("the spectral measure", 0, n_rows)
    return measure_of(time, modes, lambda done: progress("the spectral measure", done, n_rows))


def kept_measure(chain: GibbsChain, progress: Progress, checkpoint: PathLike | None) -> SpectralMeasure:
    """:func:`thermokernels.spectral_measure`; the solutions behind it, and then the measure, are kept in the file ``checkpoint``.

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

    def solve() -> VarianceTime:
        return with_solutions(chain, Solve(progress=lambda done, total: progress("the observables", done, total)))

    time = parts.solutions(chain, solve)
    assert not isinstance(time, Exception)
    progress("the slow modes", 0, 1)
    found = counted_measure(time, modes_of(time), progress)
    parts.forget_solutions()
    parts.keep({"measure": {field.name: getattr(found, field.name) for field in fields(found)}})
    return found
