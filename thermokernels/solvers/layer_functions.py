"""A second level for the solves of many observables: functions of one layer alone, and the products of two spins across the layers.

Conjugate gradients are slow where D^-1 A has small eigenvalues, whose functions are smooth: almost functions of h alone or of v alone,
since either layer follows the other, and of nearly independent spins the products v_i h_j. W holds sqrt(pi) times each of these. On their
span A is the Dirichlet form of the chain, a matrix E of sums over flips, and D another, G: no product A w is needed. The Schur complement
of the even class, half of the states, has the eigenvalues l (2 - l) where D^-1 A has l, so that with those of the pencil (E, G)

    M^-1 = D_e^-1 + W_e K W_e',     K = V ((1 - l)^2 / l) V' = E^-1 - 2 G^-1 + G^-1 E G^-1,     V' G V = 1,

takes the smooth part of a residual to where its eigenvalue is about one, l (2 - l) (1 + (1 - l)^2 / 2 l), and leaves the rest to D_e^-1.
Eigenvalues are shifted and not deflated, so that an approximate E will do (Erhel, Burrage and Pohl, J. Comput. Appl. Math. 69 (1996)
303). K is positive whatever E is, and M takes half of the iterations or fewer. E and G are made of sums over the states.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from thermokernels.common import blas, footprint
from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_states import FLOATS, aligned_singles
from thermokernels.model.chain import GibbsChain

# Right-hand sides that repay what K costs.
MANY = 32

# K has at most so many numbers a state: a step of the conjugate gradients moves some twenty.
NUMBERS_A_STATE = 3

# Spins of the visible layer lie in the lanes of one vector, and a row is no shorter than four.
LEAST_VISIBLE, MOST_VISIBLE = 7, FLOATS

# Added to the diagonals of E and G, whose functions are scaled to norm one: some depend on each other, or would but for rounding.
SHIFT = 1e-4


class LayerFunctions(NamedTuple):
    """Which functions W has, in this order, and K.

    ``hidden`` and ``visible`` say whether the functions of a layer are among them; those of v are even under v -> -v where the chain is on
    pairs {x, -x}. ``kernel`` is (rows of ``stride`` float32 each, flat), symmetric, with zeros behind the last function: rows by fours.
    """

    n_hidden: int
    hidden: bool
    visible: bool
    size: int
    stride: int
    kernel: np.ndarray


# None at all: for few right-hand sides, which would not repay what K costs.
NO_LAYERS = LayerFunctions(0, False, False, 0, 0, aligned_singles(0))


def applies_to(chain: GibbsChain) -> bool:
    """Whether the functions pay on so many states of a chain whose solves are in float32, given :data:`MANY` right-hand sides."""
    # on fewer states a step is so short that K takes as long as the product with A; on more K takes gigabytes
    least, most = footprint.LEVELLED_STATES
    return least <= chain.n_states <= most and LEAST_VISIBLE <= chain.n_visible <= MOST_VISIBLE


def layer_functions(chain: GibbsChain) -> LayerFunctions:
    """Those of the chain's layers that are not too many, and K; none where K is not to be had in float32."""
    (n_visible, n_hidden), (n_rows, n_columns) = chain.weights.shape, chain.shape
    of_layers = {"hidden": n_rows, "visible": n_columns // 2 if chain.quotient else n_columns}
    chosen, size = set(), n_visible * n_hidden
    for name in sorted(of_layers, key=lambda name: of_layers[name]):
        if (size + of_layers[name]) ** 2 <= NUMBERS_A_STATE * chain.n_states:
            chosen.add(name)
            size += of_layers[name]
    with blas.one_thread():  # no bit may depend on how many there are
        kernel = _kernel(*_forms(chain, "hidden" in chosen, "visible" in chosen))
    if not np.isfinite(kernel).all():
        return NO_LAYERS
    stride = -(-size // (4 * FLOATS)) * 4 * FLOATS
    padded = aligned_singles(-(-size // 4) * 4, stride)
    padded[:size, :size] = kernel
    return LayerFunctions(n_hidden, "hidden" in chosen, "visible" in chosen, size, stride, padded.reshape(-1))


def _kernel(dirichlet: Floats, gram: Floats) -> NDArray[np.float32]:
    """E^-1 - 2 G^-1 + G^-1 E G^-1 of E and G, which are used up; the constant has l = 1 and is left alone. A few digits will do."""
    scale = 1 / np.sqrt(gram.diagonal())
    for form in (dirichlet, gram):
        form *= scale
        form *= scale[:, None]
        form[np.diag_indices_from(form)] += SHIFT
    energy, overlap = dirichlet.astype(np.float32), gram.astype(np.float32)
    inverse = _inverse(overlap)
    last = inverse @ energy @ inverse
    kernel = _inverse(energy) - inverse - inverse + np.float32(0.5) * (last + last.T)
    return (kernel * (scale * scale[:, None]).astype(np.float32)).astype(np.float32, copy=False)


def _inverse(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of a positive definite matrix, symmetric in every bit; not a number where rounding has made it none."""
    factor, status = scipy.linalg.lapack.spotrf(matrix.T, lower=1)
    inverse, failed = scipy.linalg.lapack.spotri(factor, lower=1)
    if status or failed:
        return np.full_like(matrix, np.nan)
    lower = np.tril(inverse)
    result: NDArray[np.float32] = lower + np.tril(lower, -1).T
    return result


def _forms(chain: GibbsChain, hidden: bool, visible: bool) -> tuple[Floats, Floats]:
    """E = W' A W and G = W' D W; to E is added what gives the constant the eigenvalue one."""
    spins_h, spins_v = chain.block_spins
    (n_visible, n_hidden), (n_rows, n_columns) = chain.weights.shape, chain.shape
    weighted, roots = (values.reshape(chain.shape) for values in (chain.law * chain.escape, chain.root_law))
    of_h, of_v = _Layer(weighted, spins_h, spins_v, hidden), _Layer(weighted.T, spins_v, spins_h, visible)
    flows, of_rows, of_columns = np.empty(chain.shape), np.empty(n_rows), np.empty(n_columns)
    for j in range(n_hidden):
        across = chain.quotient and j == n_hidden - 1
        partners = np.arange(n_rows)[::-1] if across else np.arange(n_rows) ^ (1 << j)
        _hidden_flows(roots, chain.hidden_rates[j], partners, across, flows, of_rows, of_columns)
        of_h.add(flows, of_rows, of_columns, partners, hidden)
    for i in range(n_visible):
        _visible_flows(roots, chain.visible_rates[i], 1 << i, flows, of_rows, of_columns)
        of_v.add(flows.T, of_columns, of_rows, np.arange(n_columns) ^ (1 << i), visible)
    n_products = n_visible * n_hidden
    steep = np.zeros((n_visible, n_hidden, n_visible, n_hidden))
    for i in range(n_visible):
        steep[i, :, i, :] += of_v.steepness[i]
    for j in range(n_hidden):
        steep[:, j, :, j] += of_h.steepness[j]
    pairs_v, pairs_h = ((spins[:, :, None] * spins[:, None, :]).reshape(len(spins), -1) for spins in (spins_v, spins_h))
    overlaps = (pairs_h.T @ (weighted @ pairs_v)).reshape(n_hidden, n_hidden, n_visible, n_visible).transpose(2, 0, 3, 1)
    dirichlet, gram = steep.reshape(n_products, n_products), overlaps.reshape(n_products, n_products)
    mixed = weighted[:, :0]
    if visible:
        fold = _folded if chain.quotient else np.asarray
        form, products = of_v.dirichlet, of_v.with_products
        dirichlet = _bordered(fold(fold(form).T), fold(products[0].reshape(n_columns, -1)), dirichlet)
        gram = _bordered(np.diag(fold(weighted.sum(axis=0))), fold(products[1].reshape(n_columns, -1)), gram)
        mixed = fold(weighted.T).T
    if hidden:
        steep_h, gram_h = (part.transpose(0, 2, 1).reshape(n_rows, -1) for part in of_h.with_products)
        dirichlet = _bordered(of_h.dirichlet, np.hstack([np.zeros((n_rows, mixed.shape[1])), steep_h]), dirichlet)
        gram = _bordered(np.diag(weighted.sum(axis=1)), np.hstack([mixed, gram_h]), gram)
    if hidden or visible:
        constant = gram[:, : n_rows if hidden else n_columns // (2 if chain.quotient else 1)].sum(axis=1)
        dirichlet += np.outer(constant, constant / weighted.sum())
    return dirichlet, gram


class _Layer:
    """Sums over the flips of one layer's spins, the layer being the rows of ``weighted``, pi D.

    Attributes
    ----------
    dirichlet : (rows, rows), E of the functions of this layer, or nothing where they are not asked for; with_products : (2, rows, n, n of
        the other), E and G of them with the products of a spin of either layer; steepness : of each spin s, (n of the other, n of the
        other), E of s t and s u from flips of s
    """

    def __init__(self, weighted: Floats, spins: Floats, others: Floats, functions: bool) -> None:
        self.spins, self.others, n_rows = spins, others, len(weighted)
        self.dirichlet = np.zeros((n_rows, n_rows) if functions else (0, 0))  # a layer of many spins has no room for it
        self.with_products = np.empty((2, n_rows, spins.shape[1], others.shape[1]))
        self.with_products[1] = spins[:, :, None] * (weighted @ others)[:, None, :]
        self.steepness: list[Floats] = []

    def add(self, flows: Floats, of_rows: Floats, of_others: Floats, partners: NDArray[np.int64], functions: bool) -> None:
        """The next spin, whose flips carry the ``flows`` pi_x P(x, x^i), with their sums, and lead to the rows ``partners``."""
        others, spin = self.others, len(self.steepness)
        self.steepness.append(2 * others.T @ (others * of_others[:, None]))
        if functions:
            rows = np.arange(len(flows))
            self.dirichlet[rows, rows] += of_rows
            self.dirichlet[rows, partners] -= of_rows
            self.with_products[0, :, spin] = 2 * self.spins[:, spin, None] * (flows @ others)


@jit
def _visible_flows(roots, rates, mask, flows, of_rows, of_columns):
    """flows[h, v] = pi_x P(x, x') for the flip of the visible spin whose bit is ``mask``, and its sums over rows and over columns."""
    of_columns[:] = 0.0
    for h in range(roots.shape[0]):
        rate, along = rates[h], 0.0
        for v in range(roots.shape[1]):
            flow = roots[h, v] * roots[h, v ^ mask] * rate
            flows[h, v] = flow
            of_columns[v] += flow
            along += flow
        of_rows[h] = along


@jit
def _hidden_flows(roots, rates, partners, across, flows, of_rows, of_columns):
    """The same for a hidden spin, whose flip leads to the row partners[h], and to the complement of v where it goes ``across``."""
    n_columns = roots.shape[1]
    of_columns[:] = 0.0
    for h in range(roots.shape[0]):
        partner, along = partners[h], 0.0
        for v in range(n_columns):
            there = n_columns - 1 - v if across else v
            flow = roots[h, v] * roots[partner, there] * rates[v]
            flows[h, v] = flow
            of_columns[v] += flow
            along += flow
        of_rows[h] = along


def _folded(values: Floats) -> Floats:
    """Rows v and -v added up."""
    half = len(values) // 2
    folded: Floats = values[:half] + values[half:][::-1]
    return folded


def _bordered(corner: Floats, side: Floats, block: Floats) -> Floats:
    """[[corner, side], [side', block]]."""
    first, size = len(corner), len(corner) + len(block)
    whole = np.empty((size, size))
    whole[:first, :first], whole[:first, first:], whole[first:, :first], whole[first:, first:] = corner, side, side.T, block
    return whole
