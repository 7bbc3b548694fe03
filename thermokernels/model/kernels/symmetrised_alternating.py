"""The symmetrised alternating scan P = (Pi_v Pi_h + Pi_h Pi_v) / 2: both blocks in every step, in random order. Reversible.

On the two-dimensional blocks that a pair of projections at an angle with cosine c falls into, the eigenvalues are c (c + 1) / 2 and
c (c - 1) / 2 (Halmos, Trans. AMS 144 (1969) 381), the latter down to -1/8 at c = 1/2: the spectrum lies in [-1/8, 1].
"""

from __future__ import annotations

from thermokernels.common.arrays import Floats
from thermokernels.compiled.wide_exponent import Wide
from thermokernels.model.kernels import differences, wide_rates
from thermokernels.model.kernels.differences import Reals, Terms
from thermokernels.model.kernels.kernel import Chain, Kernel
from thermokernels.model.kernels.two_block import (
    resample_hidden,
    resample_visible,
    symmetrised_hidden,
    symmetrised_visible,
)


class SymmetrisedAlternating(Kernel):
    """P = (Pi_v Pi_h + Pi_h Pi_v) / 2."""

    name = "symmetrised-alternating"
    lowest_eigenvalue = -1 / 8
    state_reduction = True
    scan = "random-order"

    def steps_per_sweep(self, n_spins: int) -> int:
        return 1

    def apply(self, chain: Chain, functions: Floats) -> Floats:
        visible_law, hidden_law = chain.conditional_laws
        visible_first = resample_visible(resample_hidden(functions, hidden_law, chain.quotient), visible_law)
        hidden_first = resample_hidden(resample_visible(functions, visible_law), hidden_law, chain.quotient)
        result: Floats = 0.5 * (visible_first + hidden_first)
        return result

    def differences(self, chain: Chain, functions: Reals) -> Terms:
        return differences.symmetrised_alternating(functions, *chain.conditional_laws, chain.quotient)

    def wide_rates(self, visible: Wide, hidden: Wide, quotient: bool) -> Wide:
        return wide_rates.symmetrised_alternating(visible, hidden, quotient)

    def apply_symmetrised(self, chain: Chain, vectors: Floats) -> Floats:
        visible, hidden = chain.root_conditional_laws
        visible_first = symmetrised_visible(symmetrised_hidden(vectors, hidden, chain.quotient), visible)
        hidden_first = symmetrised_hidden(symmetrised_visible(vectors, visible), hidden, chain.quotient)
        result: Floats = 0.5 * (visible_first + hidden_first)
        return result
