"""Relevance of an event: how much of a basin's indicator the gradient observables see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from thermokernels.common import arguments, blas, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import UnresolvedError
from thermokernels.common.tolerances import UNIT
from thermokernels.model.chain import GibbsChain, as_chain
from thermokernels.model.rounding import law_error


@dataclass(frozen=True, eq=False, repr=False)
class ObservableBasis:
    """Coefficients of an orthonormal basis, in L2(pi), of the span of some observables; made by :func:`observable_basis`.

    Attributes
    ----------
    chain : GibbsChain
    coefficients : (n_v n_h, dimension)
        Column k is the k-th basis function as a combination of the centred f_ij (C order).
    mean : (n_v n_h,), E_pi[f] - f(x0) with x0 the most probable state
    distortion : a bound on |C' G C - 1| in norm, C the coefficients and G the exact Gram matrix
    """

    chain: GibbsChain
    coefficients: Floats
    mean: Floats = field(repr=False)
    distortion: float

    @property
    def dimension(self) -> int:
        """Dimension of the span in L2(pi), modulo constants."""
        return int(self.coefficients.shape[1])

    def relevance(self, mask: ArrayLike) -> float:
        """r_e of one set of states; see :func:`relevance`."""
        return self.enclosed_relevance(mask)[0]

    def enclosed_relevance(self, mask: ArrayLike) -> tuple[float, float]:
        """r_e of one set of states, and a bound on its rounding error for the directions that the basis has.

        With p = C'c, c the covariances of the indicator, and C'GC = 1 + E, the exact square is p'(1 + E)^-1 p, hence

            |r - |p|^2 / Var| <= (2 |p| |dp| + |dp|^2 + |E| (|p| + |dp|)^2 / (1 - |E|)) / Var + |dVar| / Var,   |dp| <= | |C|' |dc| |,

        where dc is a relative rounding of sums whose terms add up to at most 2 pi(smaller side) (2 for |f - f(x0)|).
        """
        inside = arguments.as_state_set(mask, self.chain.n_states, "mask")
        law = self.chain.law
        masses = float(law[inside].sum()), float(law[~inside].sum())
        # The indicators of A and of its complement have the same covariances up to sign: the smaller one is summed.
        smaller = inside if masses[0] <= masses[1] else ~inside
        variance = masses[0] * masses[1]
        if variance < np.finfo(np.float64).tiny:
            raise UnresolvedError(f"relevance of a set whose smaller side has probability {min(masses):g}, below the range of float64")
        covariance = _Differences(self.chain).sums(np.where(smaller, law, 0.0)) - min(masses) * self.mean
        projections = covariance @ self.coefficients
        # A projection is no longer than its argument; only rounding can say otherwise.
        value = min(float(projections @ projections) / variance, 1.0)
        rounding = _rounding(self.chain)
        length = float(np.linalg.norm(projections))
        moved = 4 * min(masses) * rounding * float(np.linalg.norm(np.abs(self.coefficients).sum(axis=0)))
        moved += len(self.mean) * UNIT * float(np.linalg.norm(np.abs(covariance) @ np.abs(self.coefficients)))
        if not self.distortion < 1.0:
            return value, 1.0
        lost = 2 * length * moved + moved**2 + self.distortion * (length + moved) ** 2 / (1 - self.distortion)
        return value, min(lost / variance * (1 + 4 * rounding) + 4 * rounding, 1.0)


def observable_basis(chain: GibbsChain, span: ArrayLike | None = None) -> ObservableBasis:
    """An orthonormal basis of the observable span, to be used for many events of one chain.

    The Gram matrix G = Cov_pi(f_a, f_b) of f_ij = -v_i h_j is taken once, restricted to an orthonormal basis U of the columns of
    ``span``, and diagonalised: U'GU = V diag(g) V', basis functions (f - E f)' U V_k / sqrt(g_k) where g_k > 1e-10 max g.

    Parameters
    ----------
    chain : GibbsChain
    span : (n_v n_h, k) array_like of float64, optional
        Columns are coefficient vectors (J_u: one tangent observable a parameter of a hypernetwork); None is the span of all f_ij.

    Raises
    ------
    ValueError
        ``span`` has the wrong shape or an entry that is not finite.

    Examples
    --------
    On pairs {x, -x} of two free pairs of spins, the four products v_i h_j are independent of each other.

    >>> import thermokernels as tk
    >>> basis = observable_basis(tk.gibbs_chain([[0.0, 0.0], [0.0, 0.0]]))
    >>> basis.dimension, round(basis.relevance([0]), 6)
    (4, 0.571429)
    """
    chain = as_chain(chain)
    chain.require_both_layers("the span of the products v_i h_j")
    n_observables = chain.n_visible * chain.n_hidden
    # Centring at the most probable state first: in an extremely slow chain the covariances are sums of small positive numbers, and
    # E[f f'] - E[f] E[f]' would leave nothing but rounding.
    differences = _Differences(chain)
    mean, gram = differences.sums(chain.law), differences.products(chain.law)
    squares = gram.diagonal().copy()
    gram -= np.outer(mean, mean)

    edges = chain.model.edges
    directions = np.eye(n_observables)[:, edges]
    if span is not None:
        columns = arguments.as_state_functions(span, n_observables, "span").reshape(n_observables, -1)
        if columns[~edges].any():
            raise ValueError("span must be zero in the rows of couplings that do not exist, by the model's mask")
        vectors, sizes, _ = scipy.linalg.svd(columns, full_matrices=False)
        directions = vectors[:, sizes > tolerances.RANK * sizes.max(initial=0.0)]
    eigenvalues, vectors = np.linalg.eigh(directions.T @ gram @ directions)
    seen = eigenvalues > tolerances.RANK * eigenvalues.max(initial=0.0)
    coefficients = directions @ (vectors[:, seen] / np.sqrt(eigenvalues[seen]))
    # |dG_ab| <= rounding sqrt(m_a m_b) with m_a = E[(f_a - f_a(x0))^2] (Cauchy and Schwarz), for G and for the mean squared that it lost
    sizes = np.abs(coefficients)
    moved = 3 * _rounding(chain) * float(np.square(np.sqrt(squares) @ sizes).sum())
    residual = np.linalg.norm(coefficients.T @ gram @ coefficients - np.eye(coefficients.shape[1]))
    residual += 2 * (n_observables + 2) * UNIT * float(np.linalg.norm(sizes.T @ np.abs(gram) @ sizes))
    return ObservableBasis(chain, coefficients, mean, float(residual) + moved)


def _rounding(chain: GibbsChain) -> float:
    """Relative rounding of a mean of positive terms under pi, summed over the visible states and then over the hidden ones."""
    return law_error(chain) + (sum(chain.shape) + 8) * UNIT


@default_error_state
def observable_span(chain: GibbsChain, span: ArrayLike | None = None) -> int:
    """Dimension in L2(pi), modulo constants, of the observables that the columns of ``span`` combine (all f_ij for None).

    Raises
    ------
    ValueError
        As :func:`observable_basis`.

    Examples
    --------
    >>> import thermokernels as tk
    >>> observable_span(tk.gibbs_chain([[0.5, 0.1], [-0.2, 0.3]]), span=[[1, 2], [0, 0], [0, 0], [1, 2]])
    1
    """
    return observable_basis(chain, span).dimension


@default_error_state
def relevance(chain: GibbsChain, mask: ArrayLike | Sequence[NDArray[np.bool_]], span: ArrayLike | None = None) -> float | Floats:
    """Relevance r_e of a set of states: the share of its centred indicator that lies in the observable span.

    r_e = |Pi_O (1_A - pi(A))|^2 / (pi(A) (1 - pi(A))) in L2(pi), Pi_O the orthogonal projection onto the span of the centred tangent
    observables sum_ij span_ij,k f_ij.

    Parameters
    ----------
    chain : GibbsChain
    mask : (n_states,) bool or state numbers, or a (k, n_states) bool array or list of k such masks
        Neither empty nor everything.
    span : (n_v n_h, k) array_like of float64, optional
        See :func:`observable_basis`.

    Returns
    -------
    float in [0, 1], or (k,) ndarray of them for k masks

    Raises
    ------
    ValueError
        ``mask`` is no proper set of states, or ``span`` has the wrong shape or an entry that is not finite.
    UnresolvedError
        pi(A) (1 - pi(A)) is below the range of float64.

    Examples
    --------
    Modulo x -> -x a free pair of spins has two states, and v h tells them apart.

    >>> import thermokernels as tk
    >>> relevance(tk.gibbs_chain([[0.0]]), [0])
    1.0
    """
    basis = observable_basis(chain, span)
    try:
        masks = np.asarray(mask)
    except ValueError:
        raise ValueError("mask must be a boolean mask, a list of state numbers or k masks; got rows of different lengths") from None
    if masks.dtype == np.bool_ and masks.ndim == 2:
        return np.array([basis.relevance(each) for each in masks])
    return basis.relevance(masks)


class _Differences:
    """Sums over the states of d_ij(x) = f_ij(x) - f_ij(x0), x0 the most probable state, in two passes over the states at most.

    With s = x0 and a_i, b_j = 0 where a spin agrees with it and 1 where not, d_ij = 2 s_i s_j [a_i != b_j]: at given h the sum over v is
    one of visible spins alone, and no observable is ever written out.
    """

    def __init__(self, chain: GibbsChain) -> None:
        reference = int(chain.law.argmax())
        bits = (reference >> np.arange(chain.n_spins)) & 1
        signs = 1.0 - 2.0 * bits
        self._shape, self._n_visible = chain.shape, chain.n_visible
        self._scale = 2 * np.outer(signs[: chain.n_visible], signs[chain.n_visible :]).ravel()
        self._differs = _bits(chain.shape[0], chain.n_hidden) ^ bits[chain.n_visible :]  # (H, n_h)
        visible = _bits(chain.shape[1], chain.n_visible) ^ bits[: chain.n_visible]
        # column i: a_i is not 0; column n_v + i: a_i is not 1
        self._unequal = np.concatenate([visible, 1 - visible], axis=1).astype(np.float64)

    def sums(self, weights: Floats) -> Floats:
        """sum_x weights(x) d(x), (n_v n_h,)."""
        with blas.one_thread():  # narrow products, for which several wait longer than they work
            by_row = weights.reshape(self._shape) @ self._unequal  # (H, 2 n_v)
        differs = self._differs.astype(np.float64)
        totals = by_row[:, : self._n_visible].T @ (1.0 - differs) + by_row[:, self._n_visible :].T @ differs
        result: Floats = self._scale * totals.ravel()
        return result

    def products(self, weights: Floats) -> Floats:
        """sum_x weights(x) d(x) d(x)', (n_v n_h, n_v n_h)."""
        total = np.zeros((self._scale.size, self._scale.size))
        with blas.one_thread():
            for row, differs in zip(weights.reshape(self._shape), self._differs, strict=True):
                both = (self._unequal * row[:, None]).T @ self._unequal
                columns = (np.arange(self._n_visible)[:, None] + self._n_visible * differs).ravel()
                total += both[np.ix_(columns, columns)]
        result: Floats = total * np.outer(self._scale, self._scale)
        return result


def _bits(n_configurations: int, n_spins: int) -> NDArray[np.int64]:
    bits: NDArray[np.int64] = (np.arange(n_configurations)[:, None] >> np.arange(n_spins)) & 1
    return bits
