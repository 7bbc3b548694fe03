"""Every kernel by its name."""

from __future__ import annotations

from types import MappingProxyType

from thermokernels.model.kernels.alternating import Alternating
from thermokernels.model.kernels.kernel import Kernel
from thermokernels.model.kernels.one_layer import AlternatingHidden, AlternatingVisible
from thermokernels.model.kernels.single_site import SingleSite
from thermokernels.model.kernels.symmetrised_alternating import SymmetrisedAlternating
from thermokernels.model.kernels.two_block import TwoBlock

_ALL: tuple[Kernel, ...] = (
    SingleSite(),
    TwoBlock(),
    Alternating(),
    SymmetrisedAlternating(),
    AlternatingVisible(),
    AlternatingHidden(),
)

KERNELS = MappingProxyType({kernel.name: kernel for kernel in _ALL})
