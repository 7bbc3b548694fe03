"""Every kernel by its name."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from thermokernels.common import arguments
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


def as_kernel(kernel: str, able: Callable[[Kernel], object] = lambda kernel: True) -> Kernel:
    """The kernel of this name, for the argument ``kernel`` of a public function; ValueError where none that is able bears it."""
    return KERNELS[arguments.as_choice(kernel, tuple(name for name, of in KERNELS.items() if able(of)), "kernel")]
