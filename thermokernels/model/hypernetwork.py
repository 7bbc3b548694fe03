"""The hypernetwork: one tanh layer that reads a code and emits the couplings of an energy model as a product of two thin factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common.arguments import as_instance, as_vector, in_brief
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import NumericalError


class Shape(NamedTuple):
    """Sizes of a hypernetwork; they fix the layout of its parameter vector."""

    n_visible: int
    n_hidden: int
    rank: int
    width: int
    n_codes: int

    @property
    def n_parameters(self) -> int:
        """Length of the parameter vector phi."""
        return self.width * (self.n_codes + 1) + (self.n_visible + self.n_hidden) * self.rank * (self.width + 1)

    def blocks(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes of the six blocks of phi, in their order; each is flattened in C order."""
        factor_A, factor_B = self.n_visible * self.rank, self.n_hidden * self.rank
        return (
            ("C", (self.width, self.n_codes)),
            ("c0", (self.width,)),
            ("H_A", (factor_A, self.width)),
            ("a0", (factor_A,)),
            ("H_B", (factor_B, self.width)),
            ("b0", (factor_B,)),
        )


@dataclass(frozen=True)
class Hypernetwork:
    """Parameters phi of the map from a code u to couplings W; build one with :meth:`from_parameters`.

    z = tanh(C u + c0) in R^d,   A = reshape(H_A z + a0, n_v x r),   B = reshape(H_B z + b0, n_h x r),   W = A B'.

    Attributes
    ----------
    shape : Shape
        (n_visible, n_hidden, rank r, width d, n_codes).
    C, c0 : (d, n_codes) and (d,) ndarray of float64
    H_A, a0 : (n_v * r, d) and (n_v * r,) ndarray of float64
    H_B, b0 : (n_h * r, d) and (n_h * r,) ndarray of float64

    Examples
    --------
    >>> import numpy as np
    >>> network = Hypernetwork.from_parameters(np.full(21, 0.5), (2, 2, 1, 2, 2))
    Traceback (most recent call last):
    ...
    ValueError: phi must have shape (18,); got shape (21,)
    >>> network = Hypernetwork.from_parameters(np.full(18, 0.5), (2, 2, 1, 2, 2))
    >>> network.n_parameters, couplings(network, [1.0, 0.0]).round(3).tolist()
    (18, [[1.592, 1.592], [1.592, 1.592]])
    """

    shape: Shape
    C: Floats
    c0: Floats
    H_A: Floats
    a0: Floats
    H_B: Floats
    b0: Floats

    @classmethod
    @default_error_state
    def from_parameters(cls, phi: ArrayLike, shape: Shape | tuple[int, int, int, int, int]) -> Hypernetwork:
        """The network whose flat parameter vector (n_parameters,) is ``phi``; a wrong length or entry is a ValueError."""
        shape = _as_shape(shape)
        flat = as_vector(phi, shape.n_parameters, "phi").copy()
        blocks, start = [], 0
        for _, block_shape in shape.blocks():
            size = int(np.prod(block_shape))
            blocks.append(flat[start : start + size].reshape(block_shape))
            start += size
        return cls(shape, *blocks)

    @default_error_state
    def parameters(self) -> Floats:
        """The flat parameter vector phi = (C, c0, H_A, a0, H_B, b0), each block in C order, (n_parameters,)."""
        return np.concatenate([getattr(self, name).ravel() for name, _ in self.shape.blocks()])

    @property
    def n_parameters(self) -> int:
        """Length of phi."""
        return self.shape.n_parameters

    @property
    def n_visible(self) -> int:
        """Visible spins of the emitted model."""
        return self.shape.n_visible

    @property
    def n_hidden(self) -> int:
        """Hidden spins of the emitted model."""
        return self.shape.n_hidden

    @property
    def rank(self) -> int:
        """Columns r of the factors A and B; the rank of W is at most r."""
        return self.shape.rank

    @property
    def width(self) -> int:
        """Size d of the hidden layer z."""
        return self.shape.width

    @property
    def n_codes(self) -> int:
        """Length of a code u."""
        return self.shape.n_codes


@default_error_state
def couplings(network: Hypernetwork, u: ArrayLike) -> Floats:
    """Couplings W = g_phi(u) that the network emits for a code.

    Parameters
    ----------
    network : Hypernetwork
    u : (n_codes,) array_like of float64
        The code.

    Returns
    -------
    (n_v, n_h) ndarray of float64
        Couplings, dimensionless.

    Raises
    ------
    ValueError
        A code of wrong shape or with entries that are not finite.
    NumericalError
        The couplings overflow.

    Examples
    --------
    Without slopes the code does not matter: W = a0 b0'.

    >>> import numpy as np
    >>> phi = np.concatenate([np.zeros(4), np.zeros(2), [1.0, 2.0], np.zeros(2), [3.0, 5.0]])
    >>> couplings(Hypernetwork.from_parameters(phi, (2, 2, 1, 1, 3)), [0.0, 1.0, 0.0]).tolist()
    [[3.0, 5.0], [6.0, 10.0]]
    """
    network = as_instance(network, Hypernetwork, "network", "Hypernetwork.from_parameters")
    code = as_vector(u, network.n_codes, "u")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
        _, A, B = _forward(network, code)
        return finite(A @ B.T)


def _forward(network: Hypernetwork, u: Floats) -> tuple[Floats, Floats, Floats]:
    """The hidden layer z (d,) and the factors A (n_v, r), B (n_h, r)."""
    z = np.tanh(network.C @ u + network.c0)
    A = (network.H_A @ z + network.a0).reshape(network.n_visible, network.rank)
    B = (network.H_B @ z + network.b0).reshape(network.n_hidden, network.rank)
    return z, A, B


def finite(weights: Floats, what: str = "the couplings that the hypernetwork emits") -> Floats:
    """The array; NumericalError where the network's parameters are too large for it."""
    if not np.isfinite(weights).all():
        raise NumericalError(f"{what} overflow float64; scale its parameters down")
    return weights


def _as_shape(shape: Shape | tuple[int, int, int, int, int]) -> Shape:
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else ()
    if len(sizes) != 5 or any(isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1 for size in sizes):
        raise ValueError(f"shape must be five positive integers (n_visible, n_hidden, rank, width, n_codes); got {in_brief(shape)}")
    return Shape(*(int(size) for size in sizes))
