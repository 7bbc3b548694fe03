"""Jacobian and vector-Jacobian product of the hypernetwork; the map itself is in :mod:`thermokernels.model.hypernetwork`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common.arguments import as_couplings, as_instance, as_vector
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.model.hypernetwork import Hypernetwork, _forward, finite

# Both functions below differentiate W = A B', A = H_A z + a0, B = H_B z + b0 (reshaped), z = tanh(C u + c0):
#   dW = dA B' + A dB'                                                    (product)
#   dA = dH_A z + H_A dz + da0,      dB = dH_B z + H_B dz + db0           (factors)
#   dz = (1 - z^2) * (dC u + dc0)                                         (hidden layer)


@default_error_state
def couplings_vjp(network: Hypernetwork, u: ArrayLike, ct_W: ArrayLike) -> Floats:
    """Pull a cotangent of the couplings back to the parameters, ct_phi = J_u' vec(ct_W), without forming J_u.

    With ct_W = dQ/dW this is dQ/dphi.

    Parameters
    ----------
    network : Hypernetwork
    u : (n_codes,) array_like of float64
        The code.
    ct_W : (n_v, n_h) array_like of float64
        Cotangent of W: the derivative of a scalar with respect to the couplings, in units of that scalar.

    Returns
    -------
    (n_parameters,) ndarray of float64
        Cotangent of phi in the order of :meth:`Hypernetwork.parameters`.

    Raises
    ------
    ValueError
        Wrong shapes or entries that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> network = Hypernetwork.from_parameters(np.full(18, 0.5), (2, 2, 1, 2, 2))
    >>> ct_phi = couplings_vjp(network, [1.0, 0.0], np.ones((2, 2)))
    >>> bool(np.allclose(ct_phi, couplings_jacobian(network, [1.0, 0.0]).sum(axis=0)))
    True
    """
    network = as_instance(network, Hypernetwork, "network", "Hypernetwork.from_parameters")
    code = as_vector(u, network.n_codes, "u")
    ct_weights = as_couplings(ct_W, "ct_W")
    if ct_weights.shape != (network.n_visible, network.n_hidden):
        raise ValueError(f"ct_W must have shape {(network.n_visible, network.n_hidden)}; got shape {ct_weights.shape}")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
        return finite(_pulled_back(network, code, ct_weights), "the cotangents of the parameters")


def _pulled_back(network: Hypernetwork, code: Floats, ct_weights: Floats) -> Floats:
    z, A, B = _forward(network, code)
    ct_A = (ct_weights @ B).ravel()  # product
    ct_B = (ct_weights.T @ A).ravel()
    ct_z = network.H_A.T @ ct_A + network.H_B.T @ ct_B  # factors
    ct_layer = (1.0 - z) * (1.0 + z) * ct_z  # hidden layer
    blocks = (np.outer(ct_layer, code), ct_layer, np.outer(ct_A, z), ct_A, np.outer(ct_B, z), ct_B)
    return np.concatenate([block.ravel() for block in blocks])


@default_error_state
def couplings_jacobian(network: Hypernetwork, u: ArrayLike) -> Floats:
    """Jacobian J_u = d vec W / d phi of the emitted couplings.

    Its rank is r (2m - r) at a generic point of a square model with r <= m: the dimension of the manifold of rank-r matrices.

    Parameters
    ----------
    network : Hypernetwork
    u : (n_codes,) array_like of float64
        The code.

    Returns
    -------
    (n_v * n_h, n_parameters) ndarray of float64
        Row i * n_h + j holds the gradient of W_ij; columns in the order of :meth:`Hypernetwork.parameters`.

    Raises
    ------
    ValueError
        Wrong shapes or entries that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> phi = np.random.default_rng(0).standard_normal(33)
    >>> jacobian = couplings_jacobian(Hypernetwork.from_parameters(phi, (3, 3, 1, 3, 2)), [1.0, 0.0])
    >>> jacobian.shape, int(np.linalg.matrix_rank(jacobian))
    ((9, 33), 5)
    """
    network = as_instance(network, Hypernetwork, "network", "Hypernetwork.from_parameters")
    code = as_vector(u, network.n_codes, "u")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
        return finite(_jacobian(network, code), "the derivatives of the couplings")


def _jacobian(network: Hypernetwork, code: Floats) -> Floats:
    z, A, B = _forward(network, code)
    n_visible, n_hidden, rank, _, _ = network.shape
    n_couplings = n_visible * n_hidden
    by_A = np.einsum("ip,jk->ijpk", np.eye(n_visible), B).reshape(n_couplings, n_visible * rank)  # product: dW_ij/dA_pk
    by_B = np.einsum("jp,ik->ijpk", np.eye(n_hidden), A).reshape(n_couplings, n_hidden * rank)
    by_z = by_A @ network.H_A + by_B @ network.H_B  # factors
    by_layer = by_z * ((1.0 - z) * (1.0 + z))  # hidden layer
    blocks = (
        np.einsum("wd,k->wdk", by_layer, code),
        by_layer,
        np.einsum("wp,d->wpd", by_A, z),
        by_A,
        np.einsum("wp,d->wpd", by_B, z),
        by_B,
    )
    return np.concatenate([block.reshape(n_couplings, -1) for block in blocks], axis=1)
