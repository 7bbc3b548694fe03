"""The alternating scan Pi_v Pi_h: all visible spins given the hidden ones, then all hidden given the visible.

The sampler of persistent contrastive divergence. Not reversible on both layers together; on one layer it is
(:mod:`thermokernels.model.kernels.one_layer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from thermokernels.common.arrays import Floats
from thermokernels.model.kernels.kernel import Chain, Kernel, Layer
from thermokernels.model.kernels.two_block import resample_hidden, resample_visible


class Alternating(Kernel):
    """P = Pi_v Pi_h."""

    name = "alternating"
    reversible = False
    lowest_eigenvalue = -1.0
    by_layers = True
    has_adjoint = True
    scan = "alternating"
    coupled = True
    of_one_layer: ClassVar[Mapping[Layer, str]] = {"visible": "alternating-visible", "hidden": "alternating-hidden"}

    def steps_per_sweep(self, n_spins: int) -> int:
        return 1

    def apply(self, chain: Chain, functions: Floats) -> Floats:
        visible_law, hidden_law = chain.conditional_laws
        return resample_visible(resample_hidden(functions, hidden_law, chain.quotient), visible_law)
