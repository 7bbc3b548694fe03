"""Block samplers: Pi_v resamples all visible spins given the hidden ones, Pi_h the other way round. Never a matrix.

Both are projections of rank one per configuration of the other block, so a product costs two passes over the states.
Arrays over states are seen as ``[h, v]``. On the Z2 quotient a new hidden block whose last spin is -1 lands on the complement pair,
so Pi_h mixes the columns v and ~v.
"""

from __future__ import annotations

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.wide_exponent import Wide
from thermokernels.model.kernels import differences, wide_rates
from thermokernels.model.kernels.differences import Reals, Terms
from thermokernels.model.kernels.kernel import Chain, Kernel


class TwoBlock(Kernel):
    """P = (Pi_v + Pi_h) / 2: one block, chosen by a fair coin, is resampled in each step."""

    name = "two-block"
    state_reduction = True
    scan = "random-blocks"
    coupled = True

    def steps_per_sweep(self, n_spins: int) -> int:
        return 2

    def factors(self, n_visible: int, n_hidden: int) -> int:
        return max(n_visible, n_hidden)

    def apply(self, chain: Chain, functions: Floats) -> Floats:
        visible_law, hidden_law = chain.conditional_laws
        hidden = resample_hidden(functions, hidden_law, chain.quotient)
        result: Floats = 0.5 * (resample_visible(functions, visible_law) + hidden)
        return result

    def apply_symmetrised(self, chain: Chain, vectors: Floats) -> Floats:
        return apply_symmetrised(vectors, *chain.root_conditional_laws, chain.quotient)

    def differences(self, chain: Chain, functions: Reals) -> Terms:
        return differences.two_block(functions, *chain.conditional_laws, chain.quotient)

    def wide_rates(self, visible: Wide, hidden: Wide, quotient: bool) -> Wide:
        return wide_rates.two_block(visible, hidden, quotient)

    def compiled_product(self, chain: Chain) -> tuple[Floats, Floats] | None:
        return chain.root_conditional_laws


@jit
def _conditional_laws(flip_probabilities, laws):
    """laws[s, t] = prod_i Pr(spin_i(t) | s), built by doubling over t; flip_probabilities[bit, i, s] = Pr(spin i leaves bit | s)."""
    for s in range(laws.shape[0]):
        row = laws[s]
        row[0] = 1.0
        for i in range(flip_probabilities.shape[1]):
            half = 1 << i
            if half >= row.size:  # the quotient keeps the half of the hidden configurations whose last spin is +1
                for t in range(row.size):
                    row[t] *= flip_probabilities[1, i, s]
            else:
                for t in range(half):
                    row[half + t] = row[t] * flip_probabilities[0, i, s]
                    row[t] = row[t] * flip_probabilities[1, i, s]


def conditional_laws(visible_flips: Floats, hidden_flips: Floats, n_hidden_states: int) -> tuple[Floats, Floats]:
    """pi(v | h) and pi(h | v), both of shape (n_hidden_states, 2**n_v), from the single-site flip probabilities times N."""
    n_spins = visible_flips.shape[1] + hidden_flips.shape[1]
    visible = np.empty((n_hidden_states, 2 ** visible_flips.shape[1]))
    _conditional_laws(visible_flips * n_spins, visible)
    hidden = np.empty((2 ** visible_flips.shape[1], n_hidden_states))
    _conditional_laws(hidden_flips * n_spins, hidden)
    return visible, np.ascontiguousarray(hidden.T)


def resample_visible(functions: Floats, visible_law: Floats) -> Floats:
    """Pi_v f for functions of shape (k, H, V): the mean over v at fixed h."""
    means = np.einsum("hv,khv->kh", visible_law, functions)
    return np.broadcast_to(means[:, :, None], functions.shape)


def resample_hidden(functions: Floats, hidden_law: Floats, quotient: bool) -> Floats:
    """Pi_h f for functions of shape (k, H, V): the mean over h at fixed v (over both signs of v on the quotient)."""
    means = np.einsum("hv,khv->kv", hidden_law, functions)
    if quotient:
        means = means + means[:, ::-1]
    return np.broadcast_to(means[:, None, :], functions.shape)


def symmetrised_visible(vectors: Floats, root_visible_law: Floats) -> Floats:
    """D^(1/2) Pi_v D^(-1/2) x for vectors of shape (k, H, V); the root is of the conditional law pi(v | h)."""
    along = np.einsum("hv,khv->kh", root_visible_law, vectors)
    result: Floats = root_visible_law * along[:, :, None]
    return result


def symmetrised_hidden(vectors: Floats, root_hidden_law: Floats, quotient: bool) -> Floats:
    """D^(1/2) Pi_h D^(-1/2) x for vectors of shape (k, H, V); the root is of the conditional law pi(h | v)."""
    along = np.einsum("hv,khv->kv", root_hidden_law, vectors)
    if quotient:
        along = along + along[:, ::-1]
    result: Floats = root_hidden_law * along[:, None, :]
    return result


def apply_symmetrised(vectors: Floats, root_visible_law: Floats, root_hidden_law: Floats, quotient: bool) -> Floats:
    """S x = (1/2) (Pi_v + Pi_h) symmetrised by sqrt(pi), for vectors of shape (k, H, V); the roots are of the conditional laws."""
    result: Floats = 0.5 * (symmetrised_visible(vectors, root_visible_law) + symmetrised_hidden(vectors, root_hidden_law, quotient))
    return result


@jit
def _apply_symmetrised_to_vector(root_visible_law, root_hidden_law, quotient, x, product):
    """product = S x for one vector, whose entries behind the n_states first are not looked at."""
    n_rows, n_columns = root_visible_law.shape
    hidden = np.zeros(n_columns)
    for h in range(n_rows):
        for v in range(n_columns):
            hidden[v] += root_hidden_law[h, v] * x[h * n_columns + v]
    if quotient:
        for v in range(n_columns // 2):
            hidden[v] += hidden[n_columns - 1 - v]
            hidden[n_columns - 1 - v] = hidden[v]
    for h in range(n_rows):
        visible = 0.0
        for v in range(n_columns):
            visible += root_visible_law[h, v] * x[h * n_columns + v]
        for v in range(n_columns):
            product[h * n_columns + v] = 0.5 * (root_visible_law[h, v] * visible + root_hidden_law[h, v] * hidden[v])
