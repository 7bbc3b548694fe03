"""Block samplers on models with exchangeable sites: T_O, V and windows from one decomposition on the counts of the layers.

Pi_v draws all visible spins given the hidden ones, Pi_h the other way round, spins of a class independently, so that what distinguishes
them is forgotten at once: of f = v_i h_j the means of the classes are seen again, through a = E[f | h] and b = E[f | v], and
A_i tanh F_j(v) and B_j tanh F_i(h) as long as their layer is kept. With M = pi(l, k) / sqrt(pi_l pi_k) on the counts,
M = sum_s sigma_s x_s y_s' without the sigma of one that belongs to sqrt(pi), and a_s = <a, x_s>, b_s = <b, y_s>, lag t >= 1 has
C(t) = sum w lambda^(t-1):

    alternating scan               lambda = sigma^2                      w = sigma a b
    (Pi_v + Pi_h) / 2              lambda = (1 +- sigma) / 2             w = (a +- b)^2 / 4
                                   lambda = 1 / 2                        w = half of what a and b have off the x and y, and of the exchanges
    (Pi_v Pi_h + Pi_h Pi_v) / 2    lambda = (sigma^2 +- sigma) / 2       w = +- sigma (a +- b)^2 / 4

since P maps span {x_s, y_s} to itself, with (x +- y) / sqrt(2 (1 +- sigma)) for an orthonormal basis of eigenvectors. M is a matrix on
the counts of a layer each: 2601 of 200 spins with two patterns. Without fields x and -x are folded into one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from thermokernels.common import arguments, memory
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import UnresolvedError
from thermokernels.common.results import Line, Result
from thermokernels.common.tolerances import UNIT
from thermokernels.model.exchangeable import ExchangeableChain

BLOCK_KERNELS = ("alternating", "two-block", "symmetrised-alternating")

# A bound above this share of the value is no answer.
SHARP = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class ExchangeableBlocks(Result):
    """What a block sampler shows of an exchangeable chain; times in records: a sweep each, of the two-block kernel half a sweep.

    Attributes
    ----------
    value : T_O = sum_(t >= 0) sum_a Cov(f_a(x_0), f_a(x_t)); bound : on its error, to first order in rounding
    variance : sum_a Var_pi f_a
    gap : the least 1 - lambda that the products can see
    gaps, weights : 1 - lambda, and the share of lag one that decays with it, summed over all products
    kernel : its name
    """

    _lines = (
        Line("t_obs_records", "value", "records", bound="bound"),
        Line("asymptotic_variance_records", "asymptotic_variance", "records"),
        Line("variance", "variance"),
        Line("gap", "gap", "per record"),
    )
    _facts = ("gaps", "weights", "kernel")

    value: float
    bound: float
    variance: float
    gap: float
    gaps: Floats
    weights: Floats
    kernel: str

    @property
    def asymptotic_variance(self) -> float:
        """V = 2 T_O - sum Var, in records."""
        return 2 * self.value - self.variance

    def window_variance(self, window: int) -> float:
        """Sum over the products of the variance of their mean over a window of records from equilibrium.

        (1/K) ( sum Var + 2 sum_(t=1)^(K-1) (1 - t/K) C(t) ),   C(t) = sum w lambda^(t-1).
        """
        steps = arguments.as_count(window, "window", 1)
        return (self.variance + 2 * float(self.weights @ _later(self.gaps, steps))) / steps


@dataclass(frozen=True, eq=False)
class _Layers:
    """Singular values of M without that of sqrt(pi), and what the products are of it, by singular vector and product.

    by_hidden, by_visible : a_s and b_s, (s, products); rest : sum |a|^2 + sum |b|^2 off the singular vectors
    sizes : |a|, |b| over all products
    """

    singular: Floats
    by_hidden: Floats
    by_visible: Floats
    rest: float
    sizes: tuple[float, float]


@default_error_state
def exchangeable_blocks(chain: ExchangeableChain, kernel: str = "alternating") -> ExchangeableBlocks:
    """T_O of a block sampler on a model with exchangeable sites, with bound, gap and windows.

    Parameters
    ----------
    chain : ExchangeableChain
    kernel : "alternating", "two-block" or "symmetrised-alternating", as in :func:`gibbs_chain`

    Raises
    ------
    ValueError
        ``chain`` is no exchangeable chain, or the kernel none of blocks. UnresolvedError: too slow for float64. ModelTooLargeError: a layer
        has too many counts.

    Examples
    --------
    >>> import numpy as np
    >>> import thermokernels as tk
    >>> W = np.full((3, 4), 0.3)
    >>> chain = tk.exchangeable_chain(W)
    >>> bool(np.isclose(tk.exchangeable_blocks(chain).value, tk.alternating_variance_time(W).value))
    True
    >>> full = tk.gibbs_chain(W, kernel="two-block")
    >>> bool(np.isclose(tk.exchangeable_blocks(chain, "two-block").value, tk.observable_variance_time(full)))
    True
    """
    chain = arguments.as_instance(chain, ExchangeableChain, "chain", "exchangeable_chain(W)")
    kernel = arguments.as_choice(kernel, BLOCK_KERNELS, "kernel")
    layers = _layers(chain)
    eigenvalues, weights = _lag_one(chain, layers, kernel)
    gaps = 1 - eigenvalues
    variance = float((chain.pair_sizes * (1 - chain.means**2)).sum())
    bound = _bound(chain, layers, kernel, variance)
    value = variance + float((weights / gaps).sum()) if np.isfinite(bound) else np.nan
    if not bound <= SHARP * value:
        raise UnresolvedError(
            f"T_O of the {kernel} kernel is not resolved: the counts of a layer have a gap of {float(gaps.min()):.2g} a record; scale the "
            "couplings down"
        )
    return ExchangeableBlocks(value, bound, variance, float(gaps.min()), gaps, weights, kernel)


def _layers(chain: ExchangeableChain) -> _Layers:
    lumped = chain.lumped
    n_hidden, n_visible = lumped.shape
    memory.require(
        8 * (3 * lumped.n_states + 3 * min(n_hidden, n_visible) ** 2),
        f"the decomposition of {n_hidden} counts of the hidden layer and {n_visible} of the visible one",
        "use fewer patterns or spins",
    )
    logarithms = lumped.log_law.reshape(lumped.shape)
    of_hidden, of_visible = np.logaddexp.reduce(logarithms, axis=1), np.logaddexp.reduce(logarithms, axis=0)
    joint = np.exp(logarithms - 0.5 * of_hidden[:, None] - 0.5 * of_visible)
    roots = np.exp(0.5 * of_hidden), np.exp(0.5 * of_visible)
    even = not (lumped.b.any() or lumped.c.any())
    folded = _folded(_folded(joint.T, even).T, even)
    folded -= np.outer(_folded(roots[0], even), _folded(roots[1], even))
    left, singular, right = scipy.linalg.svd(folded, full_matrices=False, overwrite_a=True, check_finite=False)
    means_hidden, means_visible = _class_means(chain)
    hidden_given, visible_given = (np.tanh(fields) for fields in lumped.fields)  # E[m_d | k], E[m_c | l]
    pairs = [(c, d) for c in range(len(means_visible)) for d in range(len(means_hidden))]
    scale = np.sqrt([chain.pair_sizes[pair] for pair in pairs])[:, None]
    a = _folded((scale * _centred(np.array([visible_given[c] * means_hidden[d] for c, d in pairs]), roots[0])).T, even)
    b = _folded((scale * _centred(np.array([means_visible[c] * hidden_given[d] for c, d in pairs]), roots[1])).T, even)
    by_hidden, by_visible = left.T @ a, right @ b
    rest = sum(float(((full - vectors @ part) ** 2).sum()) for full, vectors, part in ((a, left, by_hidden), (b, right.T, by_visible)))
    return _Layers(singular, by_hidden, by_visible, rest, (float(np.linalg.norm(a)), float(np.linalg.norm(b))))


def _class_means(chain: ExchangeableChain) -> tuple[Floats, Floats]:
    """m_d (D, H) and m_c (C, V)."""
    hidden, visible = chain.lumped.magnetisations
    return hidden / np.array(chain.lumped.hidden_sizes)[:, None], visible / np.array(chain.lumped.visible_sizes)[:, None]


def _lag_one(chain: ExchangeableChain, layers: _Layers, kernel: str) -> tuple[Floats, Floats]:
    """Eigenvalues, and the share of lag one that decays with each, as in the table above."""
    sigma, a, b = layers.singular, layers.by_hidden, layers.by_visible
    if kernel == "alternating":
        return sigma**2, sigma * (a * b).sum(axis=1)
    plus, minus = ((a + b) ** 2).sum(axis=1) / 4, ((a - b) ** 2).sum(axis=1) / 4
    if kernel == "symmetrised-alternating":
        return np.concatenate([sigma**2 + sigma, sigma**2 - sigma]) / 2, np.concatenate([sigma * plus, -sigma * minus])
    kept = 0.5 * (layers.rest + _exchanges(chain))
    return np.concatenate([1 + sigma, 1 - sigma, [1.0]]) / 2, np.concatenate([plus, minus, [kept]])


def _exchanges(chain: ExchangeableChain) -> float:
    """sum_ij E[(A_i tanh F_j)^2] + E[(B_j tanh F_i)^2], A_i = v_i - m_c: what a layer that is kept has beside the means of its classes."""
    lumped = chain.lumped
    law = lumped.law.reshape(lumped.shape)
    sizes, total = chain.pair_sizes, 0.0
    means, given = _class_means(chain), [np.tanh(fields) for fields in lumped.fields]
    for axis, own in ((0, law.sum(axis=1)), (1, law.sum(axis=0))):  # the hidden layer is kept, or the visible one
        squares = ((1 - means[axis] ** 2) * own) @ (given[1 - axis] ** 2).T
        total += float((sizes * (squares.T if axis == 0 else squares)).sum())
    return total


# T_O - sum Var is q' F(B) q with q = (a, b) and B = [[0, M], [M', 0]], whose entries are right to the error of the law, and so is B in
# norm; a decomposition adds its own roundings. F moves by no more than |F'| <= 1 / (1 - sigma)^2 + 4 / (1 - sigma).
def _bound(chain: ExchangeableChain, layers: _Layers, kernel: str, variance: float) -> float:
    moved = 2 * chain.lumped.law_error + 8 * (layers.singular.size + 1) * UNIT
    largest = float(layers.singular.max(initial=0.0))
    gap = (1 - largest) * (1 + largest) if kernel == "alternating" else 1 - largest
    if gap <= 2 * moved:
        return np.inf
    a, b = layers.sizes
    products = a * b if kernel == "alternating" else a**2 + b**2
    return float(products * moved * (1 / gap**2 + 4 / gap) + 8 * chain.lumped.law_error * variance)


def _later(gaps: Floats, steps: int) -> Floats:
    """sum_(t=1)^(K-1) (1 - t/K) lambda^(t-1) = (1 - (1 - lambda^K) / (K g)) / g with g = 1 - lambda, by its series where K g is small."""
    slow, positive = steps * gaps < 0.1, np.minimum(gaps, 1.0)
    with np.errstate(divide="ignore"):  # lambda = 0
        decayed = np.where(gaps <= 1.0, -np.expm1(steps * np.log1p(-positive)), 1 - (1 - np.maximum(gaps, 1.0)) ** steps)
    result: Floats = (1 - decayed / (steps * gaps)) / gaps
    term = np.full(int(slow.sum()), (steps - 1) / 2)
    result[slow] = term
    for j in range(12):
        term = -term * gaps[slow] * (steps - j - 2) / (j + 3)
        result[slow] += term
    return result


def _centred(functions: Floats, root: Floats) -> Floats:
    """sqrt(pi) times the functions without their means, (k, n)."""
    for _ in range(2):
        functions = functions - (functions @ root**2)[:, None]
    return functions * root


def _folded(rows: Floats, even: bool) -> Floats:
    """Rows of the counts of a layer, (n, ...), to those of even functions, where x and -x are one; the middle one is its own image."""
    if not even:
        return rows
    n, half = len(rows), len(rows) // 2
    folded = (rows[:half] + rows[: n - 1 - half : -1]) / np.sqrt(2)
    return np.concatenate([folded, rows[half : half + 1]]) if n % 2 else folded
