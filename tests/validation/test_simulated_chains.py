"""Autocorrelation times against long simulated chains, read by emcee and by ArviZ.

Where the chain mixes they agree within the error bar of the estimate. Where it is stuck the estimates look healthy and are wrong by
orders of magnitude, which is what the exact numbers are for.
"""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.quantities.autocorrelation_times.autocorrelation import autocorrelation_times

pytestmark = pytest.mark.judges

WARM = np.array([[0.9, 0.3, -0.2], [0.4, -0.8, 0.5], [-0.1, 0.6, 0.7]])
FERROMAGNET = np.full((6, 6), 0.5)  # far below its critical temperature, with spins that turn over now and then


def by_emcee(traces):
    """tau = 1 + 2 sum rho in records, (n_functions,), of traces (n_records, n_chains, n_functions)."""
    autocorr = pytest.importorskip("emcee.autocorr", reason="emcee is not installed: pip install '.[judges]'")
    return autocorr.integrated_time(traces, c=7, tol=50)


def by_arviz(traces):
    """The same from ArviZ's effective sample size of the mean."""
    stats = pytest.importorskip("arviz_stats.base", reason="arviz-stats is not installed: pip install '.[judges]'").array_stats
    n_records, n_chains, _ = traces.shape
    return (
        n_records
        * n_chains
        / np.array([stats.ess(trace.T, chain_axis=0, draw_axis=1, method="mean") for trace in traces.transpose(2, 0, 1)])
    )


READERS = pytest.mark.parametrize("read", [by_emcee, by_arviz])


def products(samples):
    visible, hidden = samples.visible.astype(float), samples.hidden.astype(float)
    return (visible[..., :, None] * hidden[..., None, :]).reshape(*visible.shape[:2], -1)


def exact_sweep_times(W, functions):
    """1 + 2 sum_t rho(t) over sweeps of N steps, (n_functions,): the exact times of the chain P^N, by all eigenvectors of P."""
    chain = tk.gibbs_chain(W, quotient=False)
    root = np.sqrt(chain.law)
    values, vectors = np.linalg.eigh(root[:, None] * chain.transition_matrix() / root)
    weights = (vectors.T @ (root[:, None] * functions(chain)))[:-1] ** 2
    sweep = values[:-1, None] ** chain.n_spins
    return (weights * (1 + sweep) / (1 - sweep)).sum(axis=0) / weights.sum(axis=0)


def product_functions(chain):
    spins = chain.spins().astype(float)
    return (spins[:, : chain.n_visible, None] * spins[:, None, chain.n_visible :]).reshape(chain.n_states, -1)


@pytest.fixture(scope="module")
def warm():
    return products(tk.sample(WARM, n_chains=64, n_sweeps=4000, burn_in=200, kernel="single-site", seed=1))


@READERS
def test_they_agree_where_the_chain_mixes(warm, read):
    exact = exact_sweep_times(WARM, product_functions)
    estimates = read(warm)
    # Sokal (1997), equation 3.19: the relative variance of the estimate is about 2 (2 M + 1) / n with a window M, of 7 tau in emcee. The
    # part of the sum behind the window adds a bias of at most exp(-7) of it.
    error_bars = np.sqrt(2 * (14 * exact + 1) / (warm.shape[0] * warm.shape[1]))
    deviations = (estimates / exact - 1) / error_bars
    assert np.abs(deviations).max() < 4
    assert error_bars.max() < 0.05  # within this no factor of two between the conventions could hide


@READERS
def test_the_exact_times_per_step_are_those_of_single_steps(read):
    """A trace of every single step: two-block steps are half sweeps, so its sweeps are thinned by the eigenvalues again."""
    chain = tk.gibbs_chain(WARM, kernel="two-block")
    measure = tk.spectral_measure(chain)
    per_sweep = measure.nodes**2  # two steps
    exact = float(measure.weights @ ((1 + per_sweep) / (1 - per_sweep)) / measure.weights.sum())
    traces = products(tk.sample(WARM, n_chains=64, n_sweeps=4000, burn_in=200, seed=2))
    variances = traces.var(axis=(0, 1))
    estimate = float(variances @ read(traces) / variances.sum())
    assert estimate == pytest.approx(exact, rel=4 * np.sqrt(2 * (14 * exact + 1) / traces[..., 0].size), abs=0)


def test_the_two_exact_routes_agree():
    """By eigenvectors per sweep above; by the resolvent per step in the package: the same at P = P^1."""
    chain = tk.gibbs_chain(WARM)
    times, errors, _ = autocorrelation_times(chain, product_functions(chain))
    root = np.sqrt(chain.law)
    values, vectors = np.linalg.eigh(root[:, None] * chain.transition_matrix() / root)
    weights = (vectors.T @ (root[:, None] * product_functions(chain)))[:-1] ** 2
    expected = (weights * ((1 + values[:-1]) / (1 - values[:-1]))[:, None]).sum(axis=0) / weights.sum(axis=0)
    np.testing.assert_allclose(times, expected, rtol=1e-10)
    assert (errors < 1e-8).all()


@READERS
def test_an_estimate_looks_healthy_where_the_magnetisation_is_stuck(read):
    n_sweeps = 2000
    samples = tk.sample(FERROMAGNET, n_chains=16, n_sweeps=n_sweeps, burn_in=100, kernel="single-site", seed=4, start=np.ones(12))
    trace = (samples.visible.sum(axis=-1) + samples.hidden.sum(axis=-1)).astype(float)[..., None]
    (estimate,) = read(trace)
    assert 1 <= estimate < 5  # and 400 times that in every one of 16 chains: nothing to worry about
    chain = tk.gibbs_chain(FERROMAGNET, quotient=False)
    (time,), (error,), _ = autocorrelation_times(chain, chain.spins().sum(axis=1, dtype=float)[:, None])
    assert error < 1e-9 * time
    assert time / chain.n_spins > 1e4 * estimate
    assert time / chain.n_spins > 50 * n_sweeps
