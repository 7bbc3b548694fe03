"""The alternating scan on one layer alone: K(v, v') = sum_h p(h | v) p(v' | h), and its twin on the hidden layer.

A record a sweep of the visible spins of the alternating scan is a chain with this kernel. It is reversible and positive: with

    C(h, v) = sqrt(p(h | v) p(v | h)) = pi(v, h) / sqrt(pi(v) pi(h)),

K symmetrised by the root of the visible law is C'C, and its twin C C' has the same spectrum but for zeros. Without fields states are the
pairs {v, -v}, on which C has a quarter of its entries: C({h, -h}, {v, -v}) = C(h, v) + C(-h, v).
"""

from __future__ import annotations

import numpy as np

from thermokernels.common import threads
from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.wide_exponent import Wide
from thermokernels.model.kernels import differences, rounded_once, wide_rates
from thermokernels.model.kernels.differences import Reals, Terms
from thermokernels.model.kernels.kernel import Chain, Kernel, Layer


class AlternatingVisible(Kernel):
    """K = p(h | v) p(v' | h) on the visible configurations."""

    name = "alternating-visible"
    layer: Layer | None = "visible"
    state_reduction = True
    scan = "alternating"

    def steps_per_sweep(self, n_spins: int) -> int:
        return 1

    def apply(self, chain: Chain, functions: Floats) -> Floats:
        # Terms of one sign: the symmetrised form is as accurate at every state as p(h | v) itself, and takes one matrix instead of two.
        root = chain.root_law
        result: Floats = self.apply_symmetrised(chain, functions * root) / root
        return result

    def apply_symmetrised(self, chain: Chain, vectors: Floats) -> Floats:
        coupling = chain.layer_coupling
        # einsum adds up each vector by itself, in one order; a BLAS product would let the number of vectors and of threads decide
        others = np.einsum("hv,krv->krh", coupling, vectors)
        result: Floats = np.einsum("hv,krh->krv", coupling, others)
        return result

    def differences(self, chain: Chain, functions: Reals) -> Terms:
        return _differences(chain.layer_coupling, chain.root_law, functions)

    def wide_rates(self, visible: Wide, hidden: Wide, quotient: bool) -> Wide:
        return wide_rates.visible_layer(visible, hidden, quotient)


class AlternatingHidden(AlternatingVisible):
    """K = p(v | h) p(h' | v) on the hidden configurations."""

    name = "alternating-hidden"
    layer: Layer | None = "hidden"

    def apply_symmetrised(self, chain: Chain, vectors: Floats) -> Floats:
        coupling = chain.layer_coupling
        others = np.einsum("hv,krh->krv", coupling, vectors)
        result: Floats = np.einsum("hv,krv->krh", coupling, others)
        return result

    def differences(self, chain: Chain, functions: Reals) -> Terms:
        return _differences(chain.layer_coupling.T, chain.root_law, functions)

    def wide_rates(self, visible: Wide, hidden: Wide, quotient: bool) -> Wide:
        return wide_rates.hidden_layer(visible, hidden, quotient)


def _differences(coupling: Floats, root_law: Floats, functions: Reals) -> Terms:
    products, sizes = differences.one_layer(functions[:, 0, :], coupling, root_law, coupling @ root_law)
    return products[:, None, :], sizes[:, None, :]


@jit
def _couple(visible_roots, hidden_roots, mirrored, first, last, coupling):
    """coupling[h, v] += sqrt(p(h | v) p(v | h)) for first <= h < last, of -h in place of h where ``mirrored``.

    roots[bit, i, s] is the root of the probability that spin i leaves ``bit``; without fields that of -h is that of h with the bits
    exchanged. Products of roots: those of probabilities would underflow twice as early.
    """
    n_visible, n_hidden = visible_roots.shape[1], hidden_roots.shape[1]
    n_columns = coupling.shape[1]
    row = np.empty(n_columns)
    for h in range(first, last):
        row[0] = 1.0
        for i in range(n_visible):
            half = 1 << i
            up, down = visible_roots[1 - mirrored, i, h], visible_roots[mirrored, i, h]
            if half < n_columns:
                for v in range(half):
                    row[half + v] = row[v] * down
                    row[v] *= up
            else:  # pairs {v, -v} are the v whose last spin is +1
                for v in range(n_columns):
                    row[v] *= up
        for j in range(n_hidden):
            leaves = 1 - (((h >> j) & 1) ^ mirrored)
            for v in range(n_columns):
                row[v] *= hidden_roots[leaves, j, v]
        for v in range(n_columns):
            coupling[h, v] += row[v]


def layer_coupling(visible_flips: Floats, hidden_flips: Floats, pairs: bool) -> Floats:
    """C of shape (2**n_h, 2**n_v), half of either on pairs, from the single-site flip probabilities (per step of N)."""
    n_visible, n_hidden = visible_flips.shape[1], hidden_flips.shape[1]
    coupling = np.zeros((1 << (n_hidden - pairs), 1 << (n_visible - pairs)))
    visible_roots, hidden_roots = (np.sqrt((n_visible + n_hidden) * flips) for flips in (visible_flips, hidden_flips))

    def couple(rows: slice) -> None:
        for mirrored in range(1 + pairs):
            _couple(visible_roots, hidden_roots, mirrored, rows.start, rows.stop, coupling)

    threads.for_rows(couple, len(coupling), coupling.size * (n_visible + n_hidden))
    return coupling


def marginal_energies(field: Floats, other_fields: Floats, remainders: Floats) -> tuple[Floats, Floats]:
    """-log sum_h exp(-E(v, h)) = -b'v - sum_j log 2 cosh F_j(v), rounded once, and what the rounding leaves.

    For the configurations v < F.shape[1], F = other_fields + remainders (n_h, configurations), of which log 2 cosh takes tanh F times the
    remainder. The twin for the hidden layer takes c and the fields of the visible spins. Logarithms are right to 3 u each, which is all.
    """
    magnitudes, numbers = np.abs(other_fields), np.arange(other_fields.shape[1])
    value, rest = np.zeros((2, numbers.size))
    with np.errstate(over="ignore", invalid="ignore"):  # the chain asks whether they are finite
        for terms in (magnitudes, np.log1p(np.exp(-2.0 * magnitudes))):
            for term in terms:
                value, rest = rounded_once.add(value, rest, -term)
        for i, strength in enumerate(field):
            value, rest = rounded_once.add(value, rest, -strength * (1.0 - 2.0 * ((numbers >> i) & 1)))
        return rounded_once.add(value, np.zeros_like(rest), rest - (np.tanh(other_fields) * remainders).sum(axis=0))
