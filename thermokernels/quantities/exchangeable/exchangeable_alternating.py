"""The alternating scan on models with exchangeable sites: T_O, V and windows from one decomposition on the counts of one layer.

One record is (v, h), v drawn given h and h given v. Within a class the spins of a layer are drawn independently given the other layer, so
that what distinguishes them is forgotten at once: of v_i h_j only the means of the classes are seen again,

    C_cd(t) = < E[m_c | l] m_d , P (K_v)^(t-1) (m_c E[m_d | k]) >,    t >= 1,      C_cd(0) = Var v_i h_j,

E[m_c | l] = tanh F_c(l), P the step from l to k, and K_v the chain of the counts k of one layer, reversible and with eigenvalues in [0, 1].
With M = pi(l, k) / sqrt(pi_l pi_k) it is M'M, a matrix on prod (n_c + 1) states and not on the product of both layers: 2601 of 200 spins
with two patterns. Without fields x and -x are folded into one.
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

# A bound above this share of the value is no answer.
SHARP = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class ExchangeableScan(Result):
    """What the alternating scan shows of an exchangeable chain; times in records, one a sweep.

    Attributes
    ----------
    value : T_O = sum_(t >= 0) sum_a Cov(f_a(x_0), f_a(x_t)); bound : on its error, to first order in rounding
    variance : sum_a Var_pi f_a
    gap : the least 1 - sigma of K_v that the products can see
    gaps, weights : 1 - sigma, and the share of lag one that decays with it, summed over all products
    """

    _lines = (
        Line("t_obs_records", "value", "records", bound="bound"),
        Line("asymptotic_variance_records", "asymptotic_variance", "records"),
        Line("variance", "variance"),
        Line("gap", "gap", "per record"),
    )
    _facts = ("gaps", "weights")

    value: float
    bound: float
    variance: float
    gap: float
    gaps: Floats
    weights: Floats

    @property
    def asymptotic_variance(self) -> float:
        """V = 2 T_O - sum Var, in records."""
        return 2 * self.value - self.variance

    def window_variance(self, window: int) -> float:
        """Sum over the products of the variance of their mean over a window of records from equilibrium.

        (1/K) ( sum Var + 2 sum_(t=1)^(K-1) (1 - t/K) C(t) ),   C(t) = sum w sigma^(t-1).
        """
        steps = arguments.as_count(window, "window", 1)
        sigma = 1 - self.gaps
        later = (1 - (1 - sigma**steps) / (steps * self.gaps)) / self.gaps
        return (self.variance + 2 * float(self.weights @ later)) / steps


@default_error_state
def exchangeable_alternating(chain: ExchangeableChain) -> ExchangeableScan:
    """T_O of the alternating scan v ~ p(v | h), h ~ p(h | v) on a model with exchangeable sites, with bound, gap and windows.

    Raises
    ------
    ValueError
        ``chain`` is no exchangeable chain. UnresolvedError: too slow for float64. ModelTooLargeError: a layer has too many counts.

    Examples
    --------
    >>> import numpy as np
    >>> import thermokernels as tk
    >>> W = np.full((3, 4), 0.3)
    >>> scan = tk.exchangeable_alternating(tk.exchangeable_chain(W))
    >>> bool(np.isclose(scan.value, tk.alternating_variance_time(W).value))
    True
    """
    chain = arguments.as_instance(chain, ExchangeableChain, "chain", "exchangeable_chain(W)")
    lumped = chain.lumped
    memory.require(3 * 8 * (lumped.n_states + lumped.shape[1] ** 2), "the decomposition of a layer's counts", "use fewer patterns or spins")
    logarithms = lumped.log_law.reshape(lumped.shape)
    of_hidden, of_visible = np.logaddexp.reduce(logarithms, axis=1), np.logaddexp.reduce(logarithms, axis=0)
    joint = np.exp(logarithms - 0.5 * of_hidden[:, None] - 0.5 * of_visible)
    roots = np.exp(0.5 * of_hidden), np.exp(0.5 * of_visible)
    even = not (lumped.b.any() or lumped.c.any())
    M = _folded(_folded(joint.T, even).T, even)
    sizes = lumped.hidden_sizes, lumped.visible_sizes
    of_class = [m / np.array(n)[:, None] for m, n in zip(lumped.magnetisations, sizes, strict=True)]
    hidden_given, visible_given = (np.tanh(fields) for fields in lumped.fields)  # E[m_d | k], E[m_c | l]
    pairs = [(c, d) for c in range(len(of_class[1])) for d in range(len(of_class[0]))]
    scale = np.sqrt([chain.pair_sizes[pair] for pair in pairs])[:, None]
    seen_by_hidden = scale * _centred(np.array([visible_given[c] * of_class[0][d] for c, d in pairs]), roots[0])
    seen_by_visible = scale * _centred(np.array([of_class[1][c] * hidden_given[d] for c, d in pairs]), roots[1])
    from_hidden, from_visible = _folded(seen_by_hidden.T, even), _folded(seen_by_visible.T, even)
    null = M.shape[1] - 1  # sqrt(pi) itself is moved to the end of the spectrum
    root = _folded(roots[1], even)
    gaps, modes = scipy.linalg.eigh(np.eye(null + 1) - M.T @ M + 2 * np.outer(root, root), overwrite_a=True, check_finite=False)
    gaps, modes = gaps[:null], modes[:, :null]
    left, right = (M.T @ from_hidden).T @ modes, from_visible.T @ modes
    weights = (left * right).sum(axis=0)
    variance = float((chain.pair_sizes * (1 - chain.means**2)).sum())
    value = variance + float((weights / gaps).sum())
    gap = float(gaps[0])
    # an entry of M is right to the error of the law, and so is M'M in norm, twice; a decomposition adds its own roundings
    moved = 2 * lumped.law_error + 8 * (null + 1) * UNIT
    products = float(np.linalg.norm(from_hidden) * np.linalg.norm(from_visible))
    bound = products * moved * (1 / gap**2 + 4 / gap) + 8 * lumped.law_error * variance if gap > 2 * moved else np.inf
    if not bound <= SHARP * value:
        raise UnresolvedError(
            f"T_O of the alternating scan is not resolved: the counts of a layer have a gap of {gap:.2g} a sweep; scale the couplings down"
        )
    return ExchangeableScan(value, bound, variance, gap, gaps, weights)


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
