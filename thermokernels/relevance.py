"""Relevance of an event: how much of a basin's indicator the gradient observables see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from thermokernels import arguments, tolerances
from thermokernels.arguments import Floats
from thermokernels.chain import GibbsChain
from thermokernels.errors import UnresolvedError

CHUNK = 2**14


@dataclass(frozen=True, eq=False, repr=False)
class ObservableBasis:
    """Coefficients of an orthonormal basis, in L2(pi), of the span of some observables; made by :func:`observable_basis`.

    Attributes
    ----------
    chain : GibbsChain
    coefficients : (n_v n_h, dimension)
        Column k is the k-th basis function as a combination of the centred f_ij (C order).
    mean : (n_v n_h,), E_pi[f] - f(x0) with x0 the most probable state
    """

    chain: GibbsChain
    coefficients: Floats
    mean: Floats = field(repr=False)

    @property
    def dimension(self) -> int:
        """Dimension of the span in L2(pi), modulo constants."""
        return int(self.coefficients.shape[1])

    def relevance(self, mask: ArrayLike) -> float:
        """r_e of one set of states; see :func:`relevance`."""
        inside = arguments.as_state_set(mask, self.chain.n_states, "mask")
        law = self.chain.law
        masses = float(law[inside].sum()), float(law[~inside].sum())
        # The indicators of A and of its complement have the same covariances up to sign: the smaller one is summed.
        smaller = inside if masses[0] <= masses[1] else ~inside
        variance = masses[0] * masses[1]
        if variance < np.finfo(np.float64).tiny:
            raise UnresolvedError(f"relevance of a set whose smaller side has probability {min(masses):g}, below the range of float64")
        covariance = -min(masses) * self.mean
        for states in _chunks(np.flatnonzero(smaller)):
            covariance += law[states] @ _differences(self.chain, states)
        projections = covariance @ self.coefficients
        # A projection is no longer than its argument; only rounding can say otherwise.
        return min(float(projections @ projections) / variance, 1.0)


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
    n_observables = chain.n_visible * chain.n_hidden
    # Centring at the most probable state first: in a nearly frozen chain the covariances are sums of small positive numbers, and
    # E[f f'] - E[f] E[f]' would leave nothing but rounding.
    mean, gram = np.zeros(n_observables), np.zeros((n_observables, n_observables))
    for states in _chunks(np.arange(chain.n_states)):
        differences = _differences(chain, states)
        weighted = chain.law[states, None] * differences
        mean += weighted.sum(axis=0)
        gram += differences.T @ weighted
    gram -= np.outer(mean, mean)

    directions = np.eye(n_observables)
    if span is not None:
        columns = arguments.as_state_functions(span, n_observables, "span").reshape(n_observables, -1)
        vectors, sizes, _ = scipy.linalg.svd(columns, full_matrices=False)
        directions = vectors[:, sizes > tolerances.RANK * sizes.max(initial=0.0)]
    eigenvalues, vectors = np.linalg.eigh(directions.T @ gram @ directions)
    seen = eigenvalues > tolerances.RANK * eigenvalues.max(initial=0.0)
    return ObservableBasis(chain, directions @ (vectors[:, seen] / np.sqrt(eigenvalues[seen])), mean)


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
    masks = np.asarray(mask)
    if masks.dtype == np.bool_ and masks.ndim == 2:
        return np.array([basis.relevance(each) for each in masks])
    return basis.relevance(masks)


def _chunks(states: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, states.size, CHUNK):
        yield states[start : start + CHUNK]


def _differences(chain: GibbsChain, states: NDArray[np.int64]) -> Floats:
    """f_ij(x) - f_ij(x0) for the given states, (states.size, n_v n_h) with entries 0, 2 and -2; x0 is the most probable state."""
    bits = np.append(states, chain.law.argmax())[:, None] >> np.arange(chain.n_spins) & 1
    spins = 1.0 - 2.0 * bits
    values = -(spins[:, : chain.n_visible, None] * spins[:, None, chain.n_visible :]).reshape(states.size + 1, -1)
    differences: Floats = values[:-1] - values[-1]
    return differences
