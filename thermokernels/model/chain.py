"""The Gibbs chain of a restricted Boltzmann machine: states, law, kernel, and the Z2 quotient where it is legitimate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermokernels.common import arguments, footprint, memory
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import NotReversibleError, UnresolvedError
from thermokernels.common.tolerances import EPSILON
from thermokernels.model.chain_tables import ChainTables, _coupling_sums, _fill_tables, empty_tables
from thermokernels.model.kernels import flip_tables, one_layer, rounded_once, single_site, two_block
from thermokernels.model.kernels.kernel import Kernel
from thermokernels.model.kernels.registry import KERNELS, as_kernel
from thermokernels.model.model import Model, ModelLike, as_model, require_finite_energies

MAX_DENSE_STATES = 2**13

# Roots of a layer's law below this are too close to underflow to be divided by.
SMALLEST_ROOT = 1e-140


# The rounding of an energy that leaves a weight exp(-E) one digit.
LEAST_DIGITS = 0.1


@dataclass(frozen=True, eq=False, repr=False)
class GibbsChain:
    """A chain on the spin states of an RBM, made by :func:`gibbs_chain`; every array is float64, C-contiguous and not to be written to.

    Attributes
    ----------
    model : Model; weights, b, c : its W (n_v, n_h), b (n_v,) and c (n_h,)
    kernel : a name in :data:`thermokernels.model.kernels.registry.KERNELS`; ``dynamics`` is the object of that name
    quotient : whether states stand for pairs {x, -x}, on one layer for pairs {v, -v} or {h, -h}
    fallback : why the full chain is used although the quotient was possible in principle, or None
    energy, law, root_law : (n_states,)
        E(x); pi(x), summing to one over the represented states; sqrt(pi(x)). On one layer minus the logarithm of its marginal weight, and
        its marginal law.
    log_partition : log Z of the full model
    visible_local_fields, visible_rates : (n_v, n_hidden_states); hidden_local_fields, hidden_rates : (n_h, 2**n_v)
        Local fields F_i and the symmetrised single-site entries S(x, x^i) = 1 / (2 N cosh F_i), per step.
    visible_flips, hidden_flips : (2, ...)
        P(x, x^i) of the single-site kernel for a spin at +1 (index 0) and at -1 (index 1), per step.
    """

    model: Model
    kernel: str
    quotient: bool
    fallback: str | None
    energy: Floats
    law: Floats
    root_law: Floats
    log_partition: float
    visible_local_fields: Floats = field(repr=False)
    hidden_local_fields: Floats = field(repr=False)
    visible_rates: Floats = field(repr=False)
    hidden_rates: Floats = field(repr=False)
    visible_flips: Floats = field(repr=False)
    hidden_flips: Floats = field(repr=False)

    @property
    def weights(self) -> Floats:
        return self.model.W

    @property
    def b(self) -> Floats:
        return self.model.b

    @property
    def c(self) -> Floats:
        return self.model.c

    @property
    def n_visible(self) -> int:
        return self.model.n_visible

    @property
    def n_hidden(self) -> int:
        return self.model.n_hidden

    @property
    def n_spins(self) -> int:
        """N, the spins of both layers."""
        return self.model.n_spins

    @property
    def dynamics(self) -> Kernel:
        """The kernel itself: what it can do, and how it acts."""
        return KERNELS[self.kernel]

    @property
    def steps_per_sweep(self) -> int:
        """Steps in which every spin is resampled once, on average."""
        return self.dynamics.steps_per_sweep(self.n_spins)

    @property
    def spins_of_a_state(self) -> int:
        """How many spins a state says the values of: N, or those of the one layer that the chain lives on."""
        return {None: self.n_spins, "visible": self.n_visible, "hidden": self.n_hidden}[self.dynamics.layer]

    @property
    def n_states(self) -> int:
        return self.energy.size

    @property
    def shape(self) -> tuple[int, int]:
        """(hidden, visible) configurations: a function on the states reshapes to this; on one layer (1, n_states)."""
        return (
            (self.visible_local_fields.shape[1], self.hidden_local_fields.shape[1]) if self.dynamics.layer is None else (1, self.n_states)
        )

    @property
    def reversible(self) -> bool:
        """Whether the kernel is self-adjoint in L2(pi) (assumption A2)."""
        return self.dynamics.reversible

    @property
    def n_configurations(self) -> int:
        """Hidden and visible configurations together: as many terms as the sums over blocks in one entry of P f have at the most."""
        return int(self.visible_local_fields.shape[1] + self.hidden_local_fields.shape[1])

    @cached_property
    def block_spins(self) -> tuple[Floats, Floats]:
        """Spins of the hidden and of the visible configurations as floats, (H, n_h) and (V, n_v)."""
        return block_spins(self.n_hidden, self.shape[0]), block_spins(self.n_visible, self.shape[1])

    @cached_property
    @default_error_state
    def flip_masks(self) -> NDArray[np.int64]:
        """(N,): flipping spin i leads from state x to ``x ^ flip_masks[i]``, on the quotient too."""
        masks = np.int64(1) << np.arange(self.spins_of_a_state, dtype=np.int64)
        if self.quotient:
            masks[-1] = self.n_states - 1
        return masks

    @cached_property
    @default_error_state
    def escape(self) -> Floats:
        """(n_states,): 1 - P(x, x) per step of the single-site kernel, a sum of positive terms; of a chain on both layers."""
        self.require_both_layers("the rate of flips that leave a state")
        escape = np.empty(self.shape)
        single_site._escape(self.visible_flips, self.hidden_flips, escape)
        return escape.ravel()

    @cached_property
    def generator(self) -> single_site.Generator:
        """The tables of the single-site A = I - S, as its compiled kernels take them."""
        return single_site.Generator(self.escape.reshape(self.shape), self.visible_rates, self.hidden_rates, self.quotient)

    @property
    def tables(self) -> ChainTables:
        """The arrays of the chain as compiled kernels take them."""
        return ChainTables(*(getattr(self, name) for name in ChainTables._fields))

    @cached_property
    def coupling_sums(self) -> tuple[float, float]:
        """The sum of all |couplings| and |fields|, and the largest that bears on one spin."""
        total, largest = _coupling_sums(*(array.copy() for array in self.model))
        return float(total), float(largest)

    @cached_property
    def field_remainders(self) -> tuple[Floats, Floats]:
        """What rounding has left out of ``visible_local_fields`` and ``hidden_local_fields``."""
        weights, b, c = (array.copy() for array in self.model)
        visible = rounded_once.local_fields(weights, b, self.visible_local_fields.shape[1])
        hidden = rounded_once.local_fields(weights.T, c, self.hidden_local_fields.shape[1])
        return visible[1], hidden[1]

    @cached_property
    def energy_remainders(self) -> Floats:
        """(n_states,): what rounding has left out of ``energy``."""
        if self.dynamics.layer == "visible":
            fields, remainders = (part[:, : self.n_states] for part in (self.hidden_local_fields, self.field_remainders[1]))
            return one_layer.marginal_energies(self.b, fields, remainders)[1]
        fields, remainders = self.visible_local_fields, self.field_remainders[0]
        if self.dynamics.layer == "hidden":
            return one_layer.marginal_energies(self.c, fields, remainders)[1]
        return rounded_once.energies(fields, remainders, self.c.copy())[1].ravel()

    @cached_property
    def conditional_laws(self) -> tuple[Floats, Floats]:
        """pi(v | h) and pi(h | v), both (H, V)."""
        return two_block.conditional_laws(self.visible_flips, self.hidden_flips, self.shape[0])

    @cached_property
    @default_error_state
    def root_conditional_laws(self) -> tuple[Floats, Floats]:
        visible, hidden = self.conditional_laws
        return np.sqrt(visible), np.sqrt(hidden)

    @cached_property
    def layer_coupling(self) -> Floats:
        """C(h, v) = sqrt(p(h | v) p(v | h)), (2**n_h, 2**n_v), on pairs half of either: :mod:`thermokernels.model.kernels.one_layer`."""
        return one_layer.layer_coupling(self.visible_flips, self.hidden_flips, self.quotient)

    @default_error_state
    def spins(self) -> NDArray[np.int8]:
        """Spins of every state, (n_states, N) int8 with entries +1 and -1; visible spins first; on one layer the spins of that layer."""
        n_spins = self.spins_of_a_state
        memory.require(17 * self.n_states * n_spins, f"the spins of {self.n_states} states", "use apply(F) on functions instead")
        bits = (np.arange(self.n_states)[:, None] >> np.arange(n_spins)) & 1
        return (1 - 2 * bits).astype(np.int8)

    @default_error_state
    def apply(self, functions: ArrayLike) -> Floats:
        """P F: the conditional expectation of F after one step.

        Parameters
        ----------
        functions : (n_states,) or (n_states, k)

        Raises
        ------
        ValueError
            Wrong shape or dtype, or an entry that is not finite.
        """
        values = arguments.as_state_functions(functions, self.n_states)
        return self._from_rows(self.dynamics.apply(self, self._to_rows(values)), values.shape)

    @default_error_state
    def apply_generator(self, functions: ArrayLike) -> Floats:
        """(I - P) F for F of shape (n_states,) or (n_states, k); reversible kernels take differences, so that small ones stay exact."""
        values = arguments.as_state_functions(functions, self.n_states)
        return self._from_rows(self.dynamics.apply_generator(self, self._to_rows(values)), values.shape)

    @default_error_state
    def generator_terms(self, functions: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """(I - P) F as a sum of differences for F of shape (n_states,) or (n_states, k), and the sum of the sizes of its terms.

        Long double where F is, of block kernels, and of reversible kernels only. Entries are not looked at.
        """
        self.require_reversible()
        products, sizes = self.dynamics.differences(self, self._to_rows(functions))
        return self._from_rows(products, functions.shape), self._from_rows(sizes, functions.shape)

    @default_error_state
    def apply_symmetrised_generator(self, vectors: Floats) -> Floats:
        """A x = (I - S) x for vectors of shape (k, n_states), one vector a row.

        Raises
        ------
        ValueError
            Another shape. Entries are not looked at: this is the solvers' inner product.
        NotReversibleError
            The kernel is not reversible, so that S does not exist.
        """
        vectors = np.ascontiguousarray(vectors, dtype=np.float64)
        if vectors.ndim != 2 or vectors.shape[1] != self.n_states:  # compiled code does not check bounds
            raise ValueError(f"vectors must have shape (k, {self.n_states}); got shape {vectors.shape}")
        self.require_reversible()
        rows = vectors.reshape(-1, *self.shape)
        return self.dynamics.apply_symmetrised_generator(self, rows).reshape(vectors.shape)

    def symmetrised_generator_matrix(self) -> Floats:
        """A = I - S as a dense (n_states, n_states) matrix; raises as :meth:`apply_symmetrised_generator`."""
        return self.apply_symmetrised_generator(np.eye(self.n_states))

    @default_error_state
    def transition_matrix(self) -> Floats:
        """P as a dense (n_states, n_states) matrix, rows summing to one.

        Raises
        ------
        ValueError
            More than 2**13 states; use :meth:`apply`, which never forms the matrix.
        """
        if self.n_states > MAX_DENSE_STATES:
            raise ValueError(
                f"transition_matrix() is dense and limited to {MAX_DENSE_STATES} states; "
                f"this chain has {self.n_states}: use apply(F) instead"
            )
        memory.require(40 * self.n_states**2, f"a dense matrix on {self.n_states} states", "use apply(F) instead")
        return self.apply(np.eye(self.n_states))

    @default_error_state
    def require_reversible(self) -> None:
        """Raise NotReversibleError for a kernel without detailed balance."""
        if not self.reversible:
            raise NotReversibleError(
                f"the {self.kernel} kernel violates detailed balance (assumption A2), so the resolvent, the spectral measure and Q are "
                "not defined through its symmetrised form; use kernel='single-site' or kernel='two-block'"
            )

    @default_error_state
    def require_both_layers(self, what: str) -> None:
        """Raise ValueError where the states are those of one layer only, which ``what`` cannot do with."""
        layer = self.dynamics.layer
        if layer is not None:
            raise ValueError(
                f"{what} needs a chain on both layers; kernel={self.kernel!r} lives on the {layer} spins alone: use "
                "gibbs_chain(W, b, c, kernel='single-site') or another kernel of both layers"
            )

    def _to_rows(self, values: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(values.reshape(self.n_states, -1).T).reshape(-1, *self.shape)

    def _from_rows(self, rows: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        return np.ascontiguousarray(rows.reshape(-1, self.n_states).T).reshape(shape)

    def __repr__(self) -> str:
        states = "pairs {x, -x}" if self.quotient else "states"
        return f"GibbsChain({self.n_visible} visible + {self.n_hidden} hidden spins, {self.n_states} {states}, {self.kernel})"


def block_spins(n_spins: int, n_configurations: int) -> Floats:
    """Spins of one block's configurations as floats, (n_configurations, n_spins), lowest bit first."""
    bits: NDArray[np.int64] = (np.arange(n_configurations)[:, None] >> np.arange(n_spins)) & 1
    spins: Floats = 1.0 - 2.0 * bits.astype(np.float64)
    return spins


def as_chain(chain: object) -> GibbsChain:
    """The argument ``chain`` of a public function; ValueError where it is something else, such as the couplings."""
    return arguments.as_instance(chain, GibbsChain, "chain", "gibbs_chain(W)")


@default_error_state
def gibbs_chain(
    W: ModelLike,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    quotient: bool | None = None,
    kernel: str = "single-site",
) -> GibbsChain:
    """The Gibbs chain of the RBM with E(v, h) = -v'W h - b'v - c'h.

    One step of "single-site" resamples one spin, chosen uniformly, from its conditional law; of "two-block" all visible or all hidden
    spins with probability 1/2 each; of "alternating" all visible given hidden, then all hidden given visible (not reversible); of
    "symmetrised-alternating" the same in random order (reversible). "alternating-visible" and "alternating-hidden" are the alternating scan
    as it is seen on one layer, K(v, v') = sum_h p(h | v) p(v' | h): reversible chains on the 2**n_v or 2**n_h configurations of that layer.

    Parameters
    ----------
    W : (n_v, n_h) couplings, or a Model; b : (n_v,) and c : (n_h,) fields, None for zero
    quotient : None, True or False
        None uses the chain on pairs {x, -x} wherever law, kernel and observables are invariant under x -> -x, and records why not
        in ``fallback``; True demands it; False takes the full chain.
    kernel : "single-site", "two-block", "alternating", "symmetrised-alternating", "alternating-visible" or "alternating-hidden"

    Raises
    ------
    ValueError
        Bad arguments, or quotient=True for a model with fields.
    UnresolvedError
        The law of a layer, where that is what the chain lives on, underflows.
    ModelTooLargeError
        The chain's arrays do not fit into memory; the message says what they would take.

    Examples
    --------
    >>> import thermokernels as tk
    >>> tk.gibbs_chain([[0.5, -0.2], [0.1, 0.3]])
    GibbsChain(2 visible + 2 hidden spins, 8 pairs {x, -x}, single-site)
    >>> tk.gibbs_chain([[0.5, -0.2], [0.1, 0.3]], b=[0.1, 0.0]).fallback
    'Sym-pi fails: the fields change sign with the spins, so pi(x) != pi(-x)'
    """
    model = as_model(W, b, c)
    layer = as_kernel(kernel).layer
    if quotient is not None and not isinstance(quotient, (bool, np.bool_)):
        raise ValueError(f"quotient must be None, True or False; got {arguments.in_brief(quotient)}")
    obstacle = obstacle_to_quotient(model, layer)
    if quotient and obstacle:
        raise ValueError(f"quotient=True is not legitimate: {obstacle}; use quotient=None for the full chain")
    use_quotient = obstacle is None and (quotient is None or bool(quotient))

    n_bytes = footprint.chain(model.n_visible, model.n_hidden, not use_quotient, layer)
    if n_bytes > footprint.SMALL:
        memory.require(
            n_bytes,
            f"a chain of {model.n_spins} spins (2**{model.n_spins - use_quotient} states)"
            if layer is None
            else f"the alternating scan of {model.n_spins} spins on the {layer} ones",
            "use fewer spins: each one less halves it",
        )

    weights, b, c = (array.copy() for array in model)  # kernels are compiled once, for arrays that are writeable
    if layer is None:
        tables = empty_tables(model.n_visible, model.n_hidden, use_quotient)
        total, logarithm = _fill_tables(weights, b, c, tables)
        _require_finite(bool(np.isfinite(total)), weights)
    else:
        tables, total, logarithm = _layer_tables(model, layer, use_quotient, weights, b, c)
    return of_tables(model, kernel, use_quotient, obstacle if quotient is None else None, tables, math.log(total) + logarithm)


def of_tables(model: Model, kernel: str, quotient: bool, fallback: str | None, tables: ChainTables, log_weight: float) -> GibbsChain:
    """The chain that tables have been filled for; ``log_weight`` is log Z of the represented states."""
    return GibbsChain(model, kernel, quotient, fallback, log_partition=log_weight + (math.log(2) if quotient else 0.0), **tables._asdict())


def _layer_tables(model: Model, layer: str, quotient: bool, weights: Floats, b: Floats, c: Floats) -> tuple[ChainTables, float, float]:
    """The tables of a chain on one layer, and what its partition function is made of as :func:`_fill_tables` returns it."""
    n_hidden_states = 2 ** (model.n_hidden - quotient)
    visible, hidden = flip_tables.flip_tables(weights, b, c, n_hidden_states)
    _require_digits(model)
    if layer == "visible":
        others = rounded_once.local_fields(weights.T, c, 2 ** (model.n_visible - quotient))
    else:
        others = rounded_once.local_fields(weights, b, n_hidden_states)
    energy, remainders = one_layer.marginal_energies(b if layer == "visible" else c, *others)
    _require_finite(bool(np.isfinite(energy).all()), weights)
    law, root_law, total, ground = rounded_once.boltzmann_weights(energy, remainders)
    law /= total
    root_law /= np.sqrt(total)
    if not root_law.min() >= SMALLEST_ROOT:
        raise UnresolvedError(f"the law of the {layer} spins underflows in float64 at some of them; scale the couplings down")
    return ChainTables(energy, law, root_law, *visible, *hidden), total, -float(remainders[ground] + energy[ground])


def _require_finite(finite: bool, weights: Floats) -> None:
    if not finite:
        raise ValueError(f"W, b and c must give finite energies and differences of them; the largest coupling is {np.abs(weights).max():g}")


def _require_digits(model: Model) -> None:
    """UnresolvedError where the rounding of an energy leaves no digit of a weight exp(-E) of one layer."""
    require_finite_energies(model)
    if sum(float(np.abs(part).sum()) for part in model) * EPSILON > LEAST_DIGITS:
        raise UnresolvedError(
            f"couplings up to {np.abs(model.W).max():.3g} leave no digit of the law of one layer in float64; scale the couplings down"
        )


def obstacle_to_quotient(model: Model, layer: str | None) -> str | None:
    """Why x -> -x is no symmetry, or None.

    The three checks have exact answers here. Sym-pi: E(x) - E(-x) = -2 (b'v + c'h), zero for all x only without fields. Sym-P: the
    local fields are then exactly odd (they are summed in the same order for h and -h), so flip probabilities are equivariant.
    Sym-f: v_i h_j is a product of two odd factors. The validation battery repeats all three on every state, with code of its own.
    """
    if model.has_fields:
        return "Sym-pi fails: the fields change sign with the spins, so pi(x) != pi(-x)"
    if layer is not None and (model.n_visible if layer == "visible" else model.n_hidden) == 1:
        return f"the {layer} layer has one spin, and its one pair would be a chain of one state"
    return None
