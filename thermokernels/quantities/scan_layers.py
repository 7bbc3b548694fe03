"""The two layers of a model as its alternating scan sees them, and observables as right-hand sides on the smaller one.

The derivation is that of :mod:`thermokernels.quantities.alternating_scan`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.common.tolerances import EPSILON
from thermokernels.model.chain import block_spins, gibbs_chain
from thermokernels.model.model import Model
from thermokernels.model.rounding import input_error, law_error
from thermokernels.solvers.layer_resolvent import LayerSystem


class Layers:
    """The two layers of a model as its alternating scan sees them: the smaller one, near, is where systems are solved.

    Attributes
    ----------
    transposed : whether the near layer is the hidden one
    chain : the alternating scan on the near layer, of the model or of the transposed one, whose visible spins are the near ones
    near_spins, far_spins : (n_near, near) and (n_far, far), of the states of each layer
    near_field, far_field : local fields at the near states, of far spins (n_far, near), and at the far states, of near spins (n_near, far)
    near_root, far_root : roots of the laws of the layers
    edges : (n_near n_far,), which couplings exist, in C order of (near, far) spins
    """

    def __init__(self, model: Model, quotient: bool | None = None, every: int = 1) -> None:
        self.transposed = model.n_visible > model.n_hidden
        W, b, c = model
        edges = model.edges.reshape(W.shape)
        self.edges = (edges.T if self.transposed else edges).ravel()
        self.chain = chain = gibbs_chain(*((W.T, c, b) if self.transposed else (W, b, c)), quotient=quotient, kernel="alternating-visible")
        n_far = chain.layer_coupling.shape[0]
        self.system = LayerSystem(chain.layer_coupling, chain.root_law, every)
        self.near_spins = np.ascontiguousarray(block_spins(chain.n_visible, chain.n_states).T)
        self.far_spins = np.ascontiguousarray(block_spins(chain.n_hidden, n_far).T)
        self.near_field = chain.hidden_local_fields[:, : chain.n_states]
        self.far_field = chain.visible_local_fields
        self.near_root = chain.root_law
        self.far_root: Floats = self.system.to_far(chain.root_law[None])[0]

    def on_edges(self, functions: Floats) -> Floats:
        """Those of the functions (n_near, n_far, ...) whose coupling exists, as rows."""
        return functions.reshape(-1, functions.shape[-1])[self.edges]

    def of_near(self, functions: Floats) -> Floats:
        """Functions of the near layer (..., near) as rows sqrt(pi) (f - E f)."""
        return _centred(functions.reshape(-1, functions.shape[-1]) * self.near_root, self.near_root)

    def of_far(self, functions: Floats) -> Floats:
        """Functions of the far layer (..., far) likewise."""
        return _centred(functions.reshape(-1, functions.shape[-1]) * self.far_root, self.far_root)

    def to_near(self, far: Floats) -> Floats:
        """E[f | x] of centred functions of the far layer, as rows."""
        return _centred(self.system.to_near(far), self.near_root)


def _centred(rows: Floats, root: Floats) -> Floats:
    """Rows without their component along ``root``, in place; what is no more than the rounding of a function of size one is none."""
    for _ in range(2):  # rounding of a mean: of an observable that hardly varies it is a large share
        rows -= np.einsum("an,n->a", rows, root)[:, None] * root
    rows[np.einsum("an,an->a", rows, rows) <= (root.size * EPSILON) ** 2] = 0.0
    return rows


@dataclass(frozen=True, eq=False)
class Sources:
    """Observables as the right-hand sides of T_a = constant_a + left_a' A^+ right_a; one array where both are the same.

    Attributes
    ----------
    left, right : (k, near); constant, variances : (k,), the constant is the variance or zero
    variance_error : (k,) or one number, the relative error of variances
    """

    left: Floats
    right: Floats
    constant: Floats
    variances: Floats
    variance_error: Floats | float

    @classmethod
    def of_both(cls, layers: Layers, near: Floats, far: Floats, variances: Floats, variance_error: Floats | float) -> Sources:
        """Functions of both layers by their conditional expectations, rows of :meth:`Layers.of_near` and :meth:`Layers.of_far`."""
        left = layers.to_near(far)
        for _ in range(layers.system.every - 1):
            left = layers.to_near(layers.system.to_far(left))
        return cls(left, near, variances, variances, variance_error)

    @classmethod
    def of_near(cls, layers: Layers, near: Floats) -> Sources:
        return cls(near, near, np.zeros(len(near)), np.einsum("an,an->a", near, near), square_error(layers))

    @classmethod
    def of_far(cls, layers: Layers, far: Floats) -> Sources:
        """Of functions of the far layer: its own scan is the one on the near layer between two half-steps."""
        variances = np.einsum("an,an->a", far, far)
        if layers.system.every == 1:
            near = layers.to_near(far)
            return cls(near, near, variances, variances, square_error(layers))
        return cls.of_both(layers, layers.to_near(far), far, variances, square_error(layers))


def square_error(layers: Layers) -> float:
    """Relative error of a sum of squares over the states: of the law, of conditional laws, twice, and of sums over both layers."""
    return 2 * (law_error(layers.chain) + input_error(layers.chain) + (sum(layers.system.coupling.shape) + 8) * EPSILON)
