"""Sums over spins against a matrix of spins."""

import numpy as np
import pytest

from thermokernels.model import spin_sums


@pytest.mark.small
@pytest.mark.parametrize(("n_visible", "n_hidden", "pairs"), [(1, 1, True), (3, 2, False), (3, 4, True), (4, 1, False)])
def test_sums_of_spins_and_products(n_visible, n_hidden, pairs):
    n_states = 1 << (n_visible + n_hidden - pairs)
    weights = np.random.default_rng(2).normal(size=n_states)
    spins = 1 - 2 * ((np.arange(n_states)[:, None] >> np.arange(n_visible + n_hidden)) & 1)
    v, h = spins[:, :n_visible], spins[:, n_visible:]
    products, visible, hidden = spin_sums.correlate(weights, n_visible, n_hidden)
    np.testing.assert_allclose(products, v.T @ (weights[:, None] * h), atol=1e-13)
    np.testing.assert_allclose(visible, weights @ v, atol=1e-13)
    np.testing.assert_allclose(hidden, weights @ h, atol=1e-13)
