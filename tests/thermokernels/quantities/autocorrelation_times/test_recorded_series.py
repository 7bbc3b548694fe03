"""The recorded series against powers of the dense transition matrix, for every kernel of both layers."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.common.errors import ConstantError
from thermokernels.quantities.autocorrelation_times import recorded_series as module
from thermokernels.quantities.autocorrelation_times.recorded_series import recorded_series

KERNELS = ("single-site", "two-block", "alternating", "symmetrised-alternating")


def dense(chain, function, every, n_lags):
    """Autocovariances and tau by matrix products and a linear system."""
    power = np.linalg.matrix_power(chain.transition_matrix(), every)
    centred = function - chain.law @ function
    later, covariances = centred, []
    for _ in range(n_lags):
        covariances.append(chain.law @ (centred * later))
        later = power @ later
    response = np.linalg.solve(np.eye(chain.n_states) - power + chain.law, centred)
    return np.array(covariances), 2 * (chain.law @ (centred * response)) / covariances[0] - 1


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(3, 2), (2, 4)])
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("fields", [False, True])
def test_autocovariances_and_time(monkeypatch, kernel, shape, every, fields):
    rng = np.random.default_rng(sum(shape) + every)
    chain = tk.gibbs_chain(rng.normal(size=shape), rng.normal(size=shape[0]) if fields else None, kernel=kernel)
    function = rng.normal(size=chain.n_states)
    covariances, tau = dense(chain, function, every, 8)
    for dense_states in (2**7, 1):  # diagonalised, and through Lanczos vectors
        monkeypatch.setattr(module, "DENSE_STATES", dense_states)
        series = recorded_series(chain, function, every)
        np.testing.assert_allclose(series.autocovariances(8), covariances, atol=1e-11 * covariances[0])
        assert abs(series.tau - tau) <= series.tau_error + 1e-12 * abs(tau)
        assert series.tau_error < 1e-9


def test_the_smallest_case_of_an_alternating_trace():
    """The magnetisation of the visible spins, on both layers and on its own."""
    W = [[0.9, 0.3, -0.3], [0.4, -0.8, 0.6], [-0.2, 0.7, 0.9]]
    both = tk.gibbs_chain(W, kernel="alternating", quotient=False)
    alone = tk.gibbs_chain(W, kernel="alternating-visible", quotient=False)
    for chain, columns in ((both, slice(3)), (alone, slice(None))):
        series = recorded_series(chain, chain.spins()[:, columns].sum(axis=1).astype(float))
        assert series.tau == pytest.approx(2.330035791553, rel=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_constant_function_has_no_time(kernel):
    with pytest.raises(ConstantError, match="it does not vary under pi in float64"):
        recorded_series(tk.gibbs_chain([[0.5], [0.1]], kernel=kernel), np.full(4, 3.0))


def test_lags_beyond_one_block_of_powers(monkeypatch):
    monkeypatch.setattr(module, "LAGS_AT_ONCE", 3)
    chain = tk.gibbs_chain([[1.0, 0.3], [0.2, -0.8]])
    function = np.arange(8.0)
    np.testing.assert_allclose(recorded_series(chain, function).autocovariances(20), dense(chain, function, 1, 20)[0], atol=1e-12)
