"""Lower bounds of all eigenvalues from the two layers, against all eigenvalues and closed forms."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.solvers import gap_bounds, layer_bounds
from thermokernels.solvers.layer_bounds import layer_rates


def random_chain(seed):
    draws = np.random.default_rng(seed)
    n_visible, n_hidden = draws.integers(1, 6, 2)
    W = draws.choice([0.2, 1.0, 2.0]) * draws.normal(size=(n_visible, n_hidden))
    if seed % 3 == 0:
        return tk.gibbs_chain(W, draws.normal(size=n_visible), draws.normal(size=n_hidden))
    return tk.gibbs_chain(W, quotient=seed % 3 == 1)


@pytest.mark.parametrize("seed", range(45))
def test_no_eigenvalue_is_below_its_bound(seed):
    chain = random_chain(seed)
    eigenvalues = np.linalg.eigvalsh(chain.symmetrised_generator_matrix())[1:]
    rates = layer_rates(chain)
    configurations = [size >> bool(chain.quotient) for size in (2**chain.n_visible, 2**chain.n_hidden)]
    assert rates.size == min(configurations)
    assert (np.diff(rates) >= 0).all()
    numbers = np.minimum(np.arange(eigenvalues.size), rates.size - 1)
    assert (eigenvalues - rates[numbers] >= -2e-15).all()
    if eigenvalues[0] > 1e-6:
        assert rates[0] >= 0.4 * eigenvalues[0]  # half of it for a pair of states
        lower = tk.gap_lower_bound(chain)
        assert lower == rates[0] if rates.size > 1 else rates[0] <= lower <= eigenvalues[0] * (1 + 1e-12)


@pytest.mark.small
def test_of_one_pair_of_spins_the_bound_is_the_eigenvalue():
    for coupling in (0.0, 0.7, 5.0):
        rates = layer_rates(tk.gibbs_chain([[coupling]], quotient=False))
        assert rates[0] == pytest.approx((1 - np.tanh(coupling)) / 2, rel=1e-7 if coupling == 0.0 else 1e-10, abs=0)
        assert rates[0] <= (1 - np.tanh(coupling)) / 2
        assert rates[1] == pytest.approx(0.5, rel=1e-7, abs=0)


@pytest.mark.parametrize(("counted", "holds"), [(1e-6, True), (0.0, False)])
def test_what_entries_of_the_coupling_are_wrong_by_is_taken_off(counted, holds, monkeypatch):
    coupling = layer_bounds.layer_coupling
    monkeypatch.setattr(layer_bounds, "layer_coupling", lambda *tables: (1 - 1e-6) * coupling(*tables))
    monkeypatch.setattr(layer_bounds, "_entry_error", lambda chain: counted)
    assert (layer_rates(tk.gibbs_chain([[2.0]], quotient=False))[0] <= (1 - np.tanh(2.0)) / 2) is np.bool_(holds)


@pytest.mark.parametrize(("counted", "holds"), [(1e-6, True), (0.0, False)])
def test_what_the_decomposition_is_wrong_by_is_taken_off(counted, holds, monkeypatch):
    decomposed = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: ((found := decomposed(matrix))[0] - 1e-6, found[1]))
    monkeypatch.setattr(layer_bounds, "eigenvalue_error", lambda *parts: counted)
    assert (layer_rates(tk.gibbs_chain([[2.0]], quotient=False))[0] <= (1 - np.tanh(2.0)) / 2) is np.bool_(holds)


def test_where_there_is_no_such_bound_it_is_that_of_interlacing(monkeypatch):
    W = np.random.default_rng(0).normal(size=(5, 4))
    for kernel in ("two-block", "alternating-visible"):
        assert layer_rates(tk.gibbs_chain(W, kernel=kernel)).size == 0
    monkeypatch.setattr(layer_bounds, "MAX_CONFIGURATIONS", 7)
    assert layer_rates(tk.gibbs_chain(W)).size == 0
    monkeypatch.setattr(layer_bounds, "MAX_CONFIGURATIONS", 8)  # of pairs, half of either layer
    assert layer_rates(tk.gibbs_chain(W)).size == 8
    assert layer_rates(tk.gibbs_chain(W, quotient=False)).size == 0
    chain = tk.gibbs_chain(W, quotient=False)
    of_interlacing = gap_bounds.killed_rate_bound(chain, np.array([chain.law.argmax()]))
    assert tk.gap_lower_bound(chain) == of_interlacing
    assert gap_bounds.rate_bound(chain, np.array([chain.law.argmax()]), 0.0) == of_interlacing
    pairs = tk.gibbs_chain(W)
    assert gap_bounds.rate_bound(pairs, np.array([0, 1, 2]), 0.0) == layer_rates(pairs)[2]
    assert gap_bounds.rate_bound(pairs, np.array([0, 1]), 1.0) == gap_bounds.killed_rate_bound(pairs, np.array([0, 1]))


def test_a_gap_beside_rounding_has_the_larger_of_two_bounds(monkeypatch):
    chain = tk.gibbs_chain([[11.0]], quotient=False)  # 2.8e-10
    exact = (1 - np.tanh(11.0)) / 2
    assert 0.0 < layer_rates(chain)[0] < gap_bounds.LEAST_OF_LAYERS
    assert max(layer_rates(chain)[0], 0.1 * exact) <= tk.gap_lower_bound(chain) <= exact * (1 + 1e-6)

    def none(*_):
        raise tk.UnresolvedError("none")

    monkeypatch.setattr(gap_bounds, "killed_rate_bound", none)
    again = tk.gibbs_chain([[11.0]], quotient=False)
    assert tk.gap_lower_bound(again) == layer_rates(again)[0]
