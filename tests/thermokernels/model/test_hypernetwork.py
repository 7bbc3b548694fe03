"""The hypernetwork: layout of its parameters, the map against plain loops, bad input."""

import math

import numpy as np
import pytest

from thermokernels.common.errors import NumericalError
from thermokernels.model.hypernetwork import Hypernetwork, Shape, couplings

pytestmark = pytest.mark.small

SHAPE = Shape(n_visible=3, n_hidden=4, rank=2, width=5, n_codes=3)


def random_network(seed=0, shape=SHAPE):
    return Hypernetwork.from_parameters(np.random.default_rng(seed).normal(size=shape.n_parameters), shape)


def naive_couplings(phi, shape, u):
    """W from the flat parameters with an iterator, in plain Python."""
    values = iter(phi)
    n_visible, n_hidden, rank, width, n_codes = shape
    C = [[next(values) for _ in range(n_codes)] for _ in range(width)]
    c0 = [next(values) for _ in range(width)]
    z = [math.tanh(sum(C[d][k] * u[k] for k in range(n_codes)) + c0[d]) for d in range(width)]

    def factor(n_spins):
        slopes = [[next(values) for _ in range(width)] for _ in range(n_spins * rank)]
        offsets = [next(values) for _ in range(n_spins * rank)]
        entries = [sum(x * y for x, y in zip(row, z, strict=True)) + offset for row, offset in zip(slopes, offsets, strict=True)]
        return [[entries[i * rank + r] for r in range(rank)] for i in range(n_spins)]

    A, B = factor(n_visible), factor(n_hidden)
    assert next(values, None) is None
    return [[sum(A[i][r] * B[j][r] for r in range(rank)) for j in range(n_hidden)] for i in range(n_visible)]


@pytest.mark.parametrize("shape", [SHAPE, Shape(1, 1, 1, 1, 1), Shape(4, 4, 3, 8, 4)])
def test_couplings_equal_plain_loops(shape):
    network = random_network(1, shape)
    u = np.random.default_rng(2).normal(size=shape.n_codes)
    np.testing.assert_allclose(couplings(network, u), naive_couplings(network.parameters(), shape, u), rtol=1e-12, atol=1e-14)


def test_parameters_and_network_are_one_thing():
    phi = np.arange(SHAPE.n_parameters, dtype=float)
    network = Hypernetwork.from_parameters(phi, SHAPE)
    np.testing.assert_array_equal(network.parameters(), phi)
    assert network.n_parameters == phi.size == 5 * 3 + 5 + 6 * 5 + 6 + 8 * 5 + 8
    assert (network.n_visible, network.n_hidden, network.rank, network.width, network.n_codes) == SHAPE
    phi[0] = -1.0  # the network keeps its own copy
    assert network.C[0, 0] == 0.0


def test_rank_of_the_couplings_is_that_of_the_factors():
    assert np.linalg.matrix_rank(couplings(random_network(3), [1.0, 0.0, 0.0])) == 2


def test_mixing_the_factors_leaves_the_couplings():
    # A -> A M, B -> B M^-T is the gauge freedom that makes rank(J_u) = r (2m - r) less than the number of entries of A and B.
    network, M = random_network(4), np.array([[1.0, 0.5], [-0.3, 2.0]])
    mix_A, mix_B = np.kron(np.eye(3), M.T), np.kron(np.eye(4), np.linalg.inv(M))
    mixed = Hypernetwork(SHAPE, network.C, network.c0, mix_A @ network.H_A, mix_A @ network.a0, mix_B @ network.H_B, mix_B @ network.b0)
    u = [0.2, -1.0, 0.4]
    np.testing.assert_allclose(couplings(mixed, u), couplings(network, u), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("phi", "shape", "message"),
    [
        (np.zeros(3), SHAPE, r"phi must have shape \(104,\); got shape \(3,\)"),
        (np.full(104, np.nan), SHAPE, "phi must be finite"),
        (np.zeros(104), (3, 4, 2, 5), "shape must be five positive integers"),
        (np.zeros(104), (3, 4, 0, 5, 3), "shape must be five positive integers"),
        (np.zeros(104), (3, 4, 2.0, 5, 3), "shape must be five positive integers"),
    ],
)
def test_bad_parameters_are_named(phi, shape, message):
    with pytest.raises(ValueError, match=message):
        Hypernetwork.from_parameters(phi, shape)


def test_bad_codes_are_named():
    with pytest.raises(ValueError, match=r"u must have shape \(3,\); got shape \(2,\)"):
        couplings(random_network(), [1.0, 0.0])
    with pytest.raises(ValueError, match="u must be finite"):
        couplings(random_network(), [1.0, 0.0, np.inf])


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_overflowing_couplings_raise():
    network = Hypernetwork.from_parameters(np.full(104, 1e200), SHAPE)
    with pytest.raises(NumericalError, match="couplings that the hypernetwork emits overflow"):
        couplings(network, [1.0, 0.0, 0.0])
