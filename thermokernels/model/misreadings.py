"""What else a matrix may be that was handed in as the W of a restricted Boltzmann machine, by its looks; a hint and never an error."""

from __future__ import annotations

import numpy as np

from thermokernels.model.model import Model


def misreadings(model: Model, has_data: bool) -> tuple[str, ...]:
    """A sentence for each other thing that W may be, with what to do in that case.

    Models with fields, names or a kernel were made knowingly, and samples that fit show which side is the visible one.
    """
    n_visible, n_hidden = model.W.shape
    found = []
    if model.mask is None and _symmetric_without_diagonal(model):
        found.append(
            f"W is symmetric with zeros on its diagonal, as the couplings among {n_visible} spins of an Ising model are; it was read as "
            f"those between {n_visible} visible and {n_hidden} hidden spins. An Ising model whose couplings join two sides comes in by "
            "from_ising or from_dimod."
        )
    if n_visible < n_hidden and not (
        has_data or model.has_fields or model.visible or model.hidden or model.kernel or model.mask is not None
    ):
        found.append(
            f"W has fewer rows than columns; it was read as {n_visible} visible and {n_hidden} hidden spins +1 and -1. If it is "
            "components_ of scikit-learn, which is hidden x visible and of units 0 and 1, the machine comes in by from_scikit_learn."
        )
    return tuple(found)


def _symmetric_without_diagonal(model: Model) -> bool:
    """The looks of the J of an Ising model."""
    W = model.W
    return bool(model.n_visible == model.n_hidden and W.any() and not W.diagonal().any() and np.array_equal(W, W.T))
