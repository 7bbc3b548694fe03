"""Jacobian and vector-Jacobian product of the hypernetwork: complex step, inner-product identity, rank."""

import numpy as np
import pytest

from adjoints.hypernetwork import couplings_jacobian, couplings_vjp
from thermokernels.model.hypernetwork import Hypernetwork, Shape

pytestmark = pytest.mark.small

SHAPES = [Shape(3, 4, 2, 5, 3), Shape(1, 1, 1, 1, 1), Shape(4, 4, 3, 8, 4), Shape(5, 2, 1, 3, 2)]


def random_point(shape, seed=0):
    draws = np.random.default_rng(seed)
    network = Hypernetwork.from_parameters(draws.normal(size=shape.n_parameters), shape)
    return network, draws.normal(size=shape.n_codes), draws.normal(size=(shape.n_visible, shape.n_hidden))


def analytic_couplings(phi, shape, u):
    """W for complex phi, written with exponentials and index sums and sharing nothing with the package."""
    n_visible, n_hidden, rank, width, n_codes = shape
    sizes = [width * n_codes, width, n_visible * rank * width, n_visible * rank, n_hidden * rank * width, n_hidden * rank]
    C, c0, H_A, a0, H_B, b0 = np.split(phi, np.cumsum(sizes)[:-1])
    layer = np.einsum("dk,k->d", C.reshape(width, n_codes), u) + c0
    z = (np.exp(layer) - np.exp(-layer)) / (np.exp(layer) + np.exp(-layer))
    A = np.einsum("ird,d->ir", H_A.reshape(n_visible, rank, width), z) + a0.reshape(n_visible, rank)
    B = np.einsum("jrd,d->jr", H_B.reshape(n_hidden, rank, width), z) + b0.reshape(n_hidden, rank)
    return np.einsum("ir,jr->ij", A, B)


@pytest.mark.parametrize("shape", SHAPES)
def test_jacobian_equals_the_complex_step(shape):
    network, u, _ = random_point(shape)
    jacobian, phi = couplings_jacobian(network, u), network.parameters()
    assert jacobian.shape == (shape.n_visible * shape.n_hidden, phi.size)
    for k in range(phi.size):
        moved = phi.astype(complex)
        moved[k] += 1e-30j
        np.testing.assert_allclose(jacobian[:, k], analytic_couplings(moved, shape, u).imag.ravel() / 1e-30, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
def test_vjp_is_the_transpose_of_the_jacobian(shape):
    network, u, ct_W = random_point(shape, 1)
    t_phi = np.random.default_rng(2).normal(size=shape.n_parameters)
    ct_phi = couplings_vjp(network, u, ct_W)
    assert (couplings_jacobian(network, u) @ t_phi) @ ct_W.ravel() == pytest.approx(t_phi @ ct_phi, rel=1e-12, abs=1e-13)
    np.testing.assert_allclose(ct_phi, couplings_jacobian(network, u).T @ ct_W.ravel(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("m", "rank", "width"), [(4, 1, 16), (4, 3, 8), (5, 4, 4), (6, 2, 12)])
def test_rank_is_the_dimension_of_the_manifold(m, rank, width):
    network, _, _ = random_point(Shape(m, m, rank, width, 4), 3)
    assert np.linalg.matrix_rank(couplings_jacobian(network, [0.0, 1.0, 0.0, 0.0])) == rank * (2 * m - rank)


def test_a_code_sees_only_its_own_column():
    network, _, ct_W = random_point(SHAPES[0], 4)
    by_C = couplings_vjp(network, [0.0, 1.0, 0.0], ct_W)[:15].reshape(5, 3)
    assert np.all(by_C[:, 1] != 0)
    assert np.all(by_C[:, [0, 2]] == 0)


def test_bad_arguments_are_named():
    network, u, ct_W = random_point(SHAPES[0])
    with pytest.raises(ValueError, match=r"ct_W must have shape \(3, 4\); got shape \(4, 3\)"):
        couplings_vjp(network, u, ct_W.T)
    with pytest.raises(ValueError, match="ct_W must be finite"):
        couplings_vjp(network, u, ct_W * np.nan)
    for function in (lambda: couplings_vjp(network, [1.0], ct_W), lambda: couplings_jacobian(network, [1.0])):
        with pytest.raises(ValueError, match=r"u must have shape \(3,\)"):
            function()
