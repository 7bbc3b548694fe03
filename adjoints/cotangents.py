"""What every gradient with respect to a model is returned as."""

from __future__ import annotations

from typing import NamedTuple

from thermokernels.common.arrays import Floats
from thermokernels.model.model import Model
from thermokernels.solvers.solve import Options


class Cotangents(NamedTuple):
    """Derivatives of a number with respect to the model: W (n_v, n_h), b (n_v,), c (n_h,).

    Zero for couplings that do not exist.
    """

    W: Floats
    b: Floats
    c: Floats

    def on_edges(self, model: Model) -> Cotangents:
        """The same, zero for couplings that the model has not."""
        return self._replace(W=model.on_edges(self.W))


class KernelOptions(Options, total=False):
    """Keywords for signatures that pass them on, of the functions that take a kernel."""

    kernel: str


class AccuracyOptions(KernelOptions, total=False):
    """The same of the functions that take an accuracy too."""

    accuracy: float | None
