"""Models whose sites are exchangeable, lumped exactly: planted and Hopfield models of hundreds of spins.

After gauge signs W_ij -> s_i W_ij t_j, rows that are equal (with their fields) form visible classes c of n_c spins, equal columns hidden
classes d. The numbers of -1 spins in the classes are a Markov chain by themselves (:mod:`thermokernels.model.lumped`), on prod (n_c + 1)
states. What is not a function of them is still a few such chains: with m_c the mean of a class and A_i = v_i - m_c,

    v_i h_j = m_c m_d + A_i m_d + m_c B_j + A_i B_j,

and P, which commutes with permutations within classes, keeps the four parts apart (Schur). A_i g(k, l) stays of this form,

    (I - P) A_i g = A_i ( 1/N + I - P' ) g,        E[A_i^2 | k] = (1 - 1/n_c) omega_c(k),      omega_c = 4 k (n_c - k) / (n_c (n_c - 1)),

P' the chain of two spins less in class c, at the same rates of 1/N a spin: the part survives until one of two exchanged spins is updated.
The law weighted with omega_c is E[omega_c] = 1 - E v_i v_i' times the law of P'. B_j and A_i B_j likewise, with 2/N for the last, on which
P' acts as on a constant: its resolvent is N / 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermokernels.common import memory
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.model.lumped import LumpedChain
from thermokernels.model.model import ModelLike, as_model, require_finite_energies

# Rows whose entries differ by no more than this share of the largest are equal: rounding of a product of patterns, and nothing else.
SAME = 1e-14

# Arrays of the size of the states that a solve takes.
ARRAYS = 12


@dataclass(frozen=True, eq=False)
class Sector:
    """One part of the functions v_i h_j, by the chain that it lives on.

    Attributes
    ----------
    chain : LumpedChain, with killing for the parts that change sign with an exchange
    pairs : the (c, d) whose products have a part in it
    multiplicities : (k,), n_c n_d, (n_c - 1) n_d, n_c (n_d - 1) or (n_c - 1)(n_d - 1): how many independent copies
    functions : (k, n_states), g of each
    mass : E[omega], what the law of ``chain`` is multiplied with
    visible, hidden : the class of A_i, of B_j, or None
    """

    chain: LumpedChain
    pairs: tuple[tuple[int, int], ...]
    multiplicities: Floats
    functions: Floats
    mass: float
    visible: int | None
    hidden: int | None

    @property
    def right_hand_sides(self) -> Floats:
        """b = sqrt(multiplicity mass pi) g, centred where there is no killing, (k, n_states): T_O is the sum of b' A^+ b."""
        functions = self.functions
        if self.visible is None and self.hidden is None:
            functions = functions - (functions @ self.chain.law)[:, None]
            functions -= (functions @ self.chain.law)[:, None]
        scale = np.sqrt(self.multiplicities * self.mass)[:, None]
        rows: Floats = scale * functions * self.chain.root_law
        return rows


@dataclass(frozen=True, eq=False, repr=False)
class ExchangeableChain:
    """A chain on the numbers of -1 spins in classes of exchangeable sites, made by :func:`exchangeable_chain`.

    Attributes
    ----------
    visible_classes, hidden_classes : tuples of arrays, the sites of each class
    visible_signs, hidden_signs : (n_v,), (n_h,) gauge signs s and t: s_i W_ij t_j depends on the classes only
    lumped : LumpedChain, with ``couplings`` (C, D), fields, sizes, ``law`` and ``log_law``
    """

    visible_classes: tuple[NDArray[np.int64], ...]
    hidden_classes: tuple[NDArray[np.int64], ...]
    visible_signs: Floats
    hidden_signs: Floats
    lumped: LumpedChain

    @property
    def n_visible(self) -> int:
        return self.visible_signs.size

    @property
    def n_hidden(self) -> int:
        return self.hidden_signs.size

    @property
    def n_spins(self) -> int:
        """N: a sweep is N steps."""
        return self.n_visible + self.n_hidden

    @property
    def n_states(self) -> int:
        """prod (n_c + 1) prod (n_d + 1)."""
        return self.lumped.n_states

    @property
    def law(self) -> Floats:
        """pi of the numbers of -1 spins, (n_states,); the first visible class is the fastest digit, hidden classes come last."""
        return self.lumped.law

    @property
    def free_energy(self) -> Floats:
        """-log pi of the lumped states, (n_states,)."""
        return -self.lumped.log_law

    @cached_property
    @default_error_state
    def means(self) -> Floats:
        """E_pi v_i h_j of a pair of classes, in the gauge, (C, D)."""
        hidden, visible = self.lumped.magnetisations
        sizes = np.array(self.lumped.visible_sizes)[:, None] * np.array(self.lumped.hidden_sizes)
        means: Floats = (visible @ self.lumped.law.reshape(self.lumped.shape).T @ hidden.T) / sizes
        return means

    @cached_property
    @default_error_state
    def pair_sizes(self) -> Floats:
        """n_c n_d, (C, D)."""
        sizes: Floats = np.outer(self.lumped.visible_sizes, self.lumped.hidden_sizes).astype(np.float64)
        return sizes

    @default_error_state
    def omega(self, visible: int | None, hidden: int | None) -> Floats:
        """omega_c(k) omega_d(l), (n_states,)."""
        lumped = self.lumped
        result = np.ones(lumped.shape)
        if visible is not None:
            n, k = lumped.visible_sizes[visible], lumped.counts[1][visible]
            result = result * (4 * k * (n - k) / (n * (n - 1)))
        if hidden is not None:
            n, k = lumped.hidden_sizes[hidden], lumped.counts[0][hidden]
            result = result * (4 * k * (n - k) / (n * (n - 1)))[:, None]
        return result.ravel()

    @default_error_state
    def sectors(self) -> Iterator[Sector]:
        """The parts of all v_i h_j; chains are made one at a time, and let go."""
        lumped, (n_classes, n_others) = self.lumped, self.lumped.couplings.shape
        yield self._sector(None, None, tuple((c, d) for c in range(n_classes) for d in range(n_others)))
        for c in range(n_classes):
            if lumped.visible_sizes[c] > 1:
                yield self._sector(c, None, tuple((c, d) for d in range(n_others)))
        for d in range(n_others):
            if lumped.hidden_sizes[d] > 1:
                yield self._sector(None, d, tuple((c, d) for c in range(n_classes)))
        for c in range(n_classes):
            for d in range(n_others):
                if lumped.visible_sizes[c] > 1 and lumped.hidden_sizes[d] > 1:
                    yield self._sector(c, d, ((c, d),))

    def _sector(self, visible: int | None, hidden: int | None, pairs: tuple[tuple[int, int], ...]) -> Sector:
        lumped = self.lumped
        chain = self.sector_chain(visible, hidden)
        m_hidden, m_visible = chain.magnetisations
        functions = np.empty((len(pairs), *chain.shape))
        multiplicities = np.empty(len(pairs))
        for row, (c, d) in enumerate(pairs):
            n, other = lumped.visible_sizes[c], lumped.hidden_sizes[d]
            left = np.ones(chain.shape[1]) if visible is not None else m_visible[c] / n
            right = np.ones(chain.shape[0]) if hidden is not None else m_hidden[d] / other
            functions[row] = np.outer(right, left)
            multiplicities[row] = (n - (visible is not None)) * (other - (hidden is not None))
        mass = 1.0 if visible is None and hidden is None else float(self.lumped.law @ self.omega(visible, hidden))
        return Sector(chain, pairs, multiplicities, functions.reshape(len(pairs), -1), mass, visible, hidden)

    @default_error_state
    def sector_chain(self, visible: int | None, hidden: int | None) -> LumpedChain:
        """The chain of two spins less in a visible and in a hidden class, with the killing of either."""
        lumped = self.lumped
        if visible is None and hidden is None:
            return lumped
        return LumpedChain(
            tuple(n - 2 * (c == visible) for c, n in enumerate(lumped.visible_sizes)),
            tuple(n - 2 * (d == hidden) for d, n in enumerate(lumped.hidden_sizes)),
            lumped.couplings,
            lumped.b,
            lumped.c,
            lumped.n_spins,
            ((visible is not None) + (hidden is not None)) / lumped.n_spins,
        )

    def __repr__(self) -> str:
        sizes = " and ".join(
            f"{'+'.join(map(str, sizes))} {name}"
            for sizes, name in ((self.lumped.visible_sizes, "visible"), (self.lumped.hidden_sizes, "hidden"))
        )
        return f"ExchangeableChain({sizes} spins in classes, {self.n_states} states)"


@default_error_state
def exchangeable_chain(W: ModelLike, b: ArrayLike | None = None, c: ArrayLike | None = None) -> ExchangeableChain:
    """The single-site Gibbs chain of the RBM with E(v, h) = -v'W h - b'v - c'h, lumped over exchangeable sites.

    Classes are found: rows of W that are equal up to a sign, with their fields up to the same sign, are one visible class; columns
    likewise. Everything that is computed on it is exact for the model.

    Parameters
    ----------
    W : (n_v, n_h) couplings, or a Model; b : (n_v,) and c : (n_h,) fields, None for zero

    Raises
    ------
    ValueError
        Bad arguments.
    ModelTooLargeError
        The states do not fit into memory: the model has too many classes, or too large ones; the message says what they would take.

    Examples
    --------
    One pattern: two classes, whatever the signs of the pattern.

    >>> import numpy as np
    >>> import thermokernels as tk
    >>> xi, eta = np.array([1, -1, 1, 1, -1]), np.array([-1, 1, 1, -1])
    >>> chain = tk.exchangeable_chain(0.2 * np.outer(xi, eta))
    >>> chain
    ExchangeableChain(5 visible and 4 hidden spins in classes, 30 states)
    >>> full = tk.gibbs_chain(0.2 * np.outer(xi, eta))
    >>> round(tk.observable_variance_time(chain) / tk.observable_variance_time(full), 10)
    1.0
    """
    model = as_model(W, b, c)
    model.require_all_couplings("exchangeable_chain")
    require_finite_energies(model)
    weights, b, c = model
    visible_classes, visible_signs = _classes(np.column_stack([weights, b]))
    hidden_classes, hidden_signs = _classes(np.column_stack([weights.T, c]))
    gauged = visible_signs[:, None] * weights * hidden_signs
    couplings = np.array([[gauged[np.ix_(row, column)].mean() for column in hidden_classes] for row in visible_classes])
    visible_sizes, hidden_sizes = tuple(len(one) for one in visible_classes), tuple(len(one) for one in hidden_classes)
    n_states = math.prod(n + 1 for n in (*visible_sizes, *hidden_sizes))
    memory.require(
        8 * ARRAYS * n_states,
        f"{n_states} states of {len(visible_sizes)} visible and {len(hidden_sizes)} hidden classes of exchangeable sites",
        "use fewer patterns or spins, or gibbs_chain where 2**N is less",
    )
    lumped = LumpedChain(
        visible_sizes,
        hidden_sizes,
        couplings,
        np.array([(visible_signs * b)[one].mean() for one in visible_classes]),
        np.array([(hidden_signs * c)[one].mean() for one in hidden_classes]),
        sum(weights.shape),
    )
    return ExchangeableChain(visible_classes, hidden_classes, visible_signs, hidden_signs, lumped)


def _classes(rows: Floats) -> tuple[tuple[NDArray[np.int64], ...], Floats]:
    """Rows that are equal up to a sign, in order of their first one, and the sign that makes each equal to it."""
    tolerance = SAME * float(np.abs(rows).max(initial=0.0))
    members: list[list[int]] = []
    signs = np.ones(len(rows))
    for i, row in enumerate(rows):
        for one in members:
            first = rows[one[0]]
            agrees = [float(np.abs(row - sign * first).max()) <= tolerance for sign in (1, -1)]
            if any(agrees):
                one.append(i)
                signs[i] = 1.0 if agrees[0] else -1.0
                break
        else:
            members.append([i])
    return tuple(np.array(one, dtype=np.int64) for one in members), signs
