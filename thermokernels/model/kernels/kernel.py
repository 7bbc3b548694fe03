"""What a kernel is: its abilities in the field's words, and how it acts on functions of the chain's states.

To add a kernel: one file here, one line in :mod:`thermokernels.model.kernels.registry`, one line in the table of its tests. Who needs to
know something of a kernel asks the object; names are compared nowhere else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

from numpy.typing import NDArray

from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NotReversibleError
from thermokernels.compiled.wide_exponent import Wide
from thermokernels.model.kernels.differences import Reals, Terms

# How samples are drawn, sweep by sweep: single spins at random; blocks at random, two a sweep; visible given hidden, then hidden given
# visible; the two blocks of a sweep in random order.
Scan = Literal["random-spins", "random-blocks", "alternating", "random-order"]

Layer = Literal["visible", "hidden"]


class Chain(Protocol):
    """What a kernel may ask of its chain; all arrays as :class:`thermokernels.model.chain.GibbsChain` says."""

    @property
    def quotient(self) -> bool: ...
    @property
    def n_spins(self) -> int: ...
    @property
    def flip_masks(self) -> NDArray[Any]: ...
    @property
    def root_law(self) -> Floats: ...
    @property
    def visible_flips(self) -> Floats: ...
    @property
    def hidden_flips(self) -> Floats: ...
    @property
    def generator(self) -> Any: ...
    @property
    def conditional_laws(self) -> tuple[Floats, Floats]: ...
    @property
    def root_conditional_laws(self) -> tuple[Floats, Floats]: ...
    @property
    def layer_coupling(self) -> Floats: ...


class Kernel(ABC):
    """A transition kernel P and what can be done with it.

    Attributes
    ----------
    name : what the public argument ``kernel`` says
    reversible : detailed balance holds, so that S = D^(1/2) P D^(-1/2) is symmetric (assumption A2)
    lowest_eigenvalue : no eigenvalue of P is below it; those of a ``positive`` kernel lie in [0, 1]
    layer : the layer whose configurations are the states, None for both
    single_flips : a step changes one spin at most, at the rates of the chain's tables of flips
    parity_halves : A = I - S couples states of unlike parity only (red-black), so that half of the unknowns can be eliminated
    state_reduction : state reduction (GTH elimination) is made for it, by single flips or by :meth:`wide_rates`
    by_layers : T_O of the products v_i h_j is had by solves on one layer (:mod:`thermokernels.quantities.alternating_scan`)
    has_adjoint : the gradient of T_O with respect to the couplings is derived
    scan : how samples are drawn
    coupled : pairs of its chains that meet are made, for estimates beyond enumeration (:mod:`thermokernels.estimates`)
    of_one_layer : the kernel that the records of one layer alone follow where that is a chain by itself, by layer
    """

    name: ClassVar[str]
    reversible: ClassVar[bool] = True
    lowest_eigenvalue: ClassVar[float] = 0.0
    layer: Layer | None = None
    single_flips: ClassVar[bool] = False
    parity_halves: ClassVar[bool] = False
    state_reduction: ClassVar[bool] = False
    by_layers: ClassVar[bool] = False
    has_adjoint: ClassVar[bool] = False
    scan: ClassVar[Scan]
    coupled: ClassVar[bool] = False
    of_one_layer: ClassVar[Mapping[Layer, str]] = {}

    @property
    def positive(self) -> bool:
        return self.lowest_eigenvalue >= 0.0

    @abstractmethod
    def steps_per_sweep(self, n_spins: int) -> int:
        """Steps in which every spin is resampled once, on average."""

    def factors(self, n_visible: int, n_hidden: int) -> int:
        """How many conditional probabilities of a spin are multiplied in one entry of P: what their rounding errors add up to."""
        return n_visible + n_hidden

    @abstractmethod
    def apply(self, chain: Chain, functions: Floats) -> Floats:
        """P f for functions (k, H, V); of a kernel on one layer (k, 1, n_states)."""

    def apply_generator(self, chain: Chain, functions: Floats) -> Floats:
        """(I - P) f for functions as in :meth:`apply`; of reversible kernels by differences, so that small ones stay exact."""
        return self.differences(chain, functions)[0] if self.reversible else functions - self.apply(chain, functions)

    def differences(self, chain: Chain, functions: Reals) -> Terms:
        """(I - P) f as a sum of differences, and the sum of the sizes of its terms. Reversible kernels only."""
        raise NotReversibleError(f"the {self.name} kernel has no detailed balance, and so no symmetrised form")

    def wide_rates(self, visible: Wide, hidden: Wide, quotient: bool) -> Wide:
        """P off its diagonal, (n_states, n_states), from p(v | h) and p(h | v), both (H, V): what state reduction of blocks starts from.

        Raises
        ------
        ValueError
            No ``state_reduction`` is made for it.
        """
        raise ValueError(f"state reduction is not made for the {self.name} kernel; use method='auto'")

    def apply_symmetrised(self, chain: Chain, vectors: Floats) -> Floats:
        """S x for vectors as in :meth:`apply`; what becomes of one does not depend on those beside it. Reversible kernels only."""
        raise NotReversibleError(f"the {self.name} kernel has no detailed balance, and so no symmetrised form")

    def apply_symmetrised_generator(self, chain: Chain, vectors: Floats) -> Floats:
        """(I - S) x for vectors as in :meth:`apply`."""
        generated: Floats = vectors - self.apply_symmetrised(chain, vectors)
        return generated

    def compiled_product(self, chain: Chain) -> tuple[Floats, Floats] | None:
        """For compiled conjugate gradients: the roots of pi(v | h) and pi(h | v) where S is the mean of the two resamplings, two empty
        tables where it is that of single flips; None where there is no compiled product of S."""
        return None
