"""The layers of an alternating scan against Bayes' rule, and the errors that variances bring along."""

from types import SimpleNamespace

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.common.tolerances import EPSILON, UNIT
from thermokernels.model.rounding import input_error, law_error
from thermokernels.quantities import alternating_scan, scan_layers
from thermokernels.quantities.scan_layers import Layers, Sources

W, B, C = np.array([[0.9, -0.3], [0.4, -0.8], [-0.2, 0.7]]), np.array([0.3, -0.5, 0.1]), np.array([0.2, -0.4])
PLANTED = 1e-6


def table(n_visible, n_hidden):
    """pi(h, v) from the definition."""
    v, h = (1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1) for n in (n_visible, n_hidden))
    couplings = W if n_visible == 3 else W.T
    fields = (B, C) if n_visible == 3 else (C, B)
    weights = np.exp(h @ couplings.T @ v.T + v @ fields[0] + (h @ fields[1])[:, None])
    return weights / weights.sum(), v, h


@pytest.mark.parametrize("transposed", [True, False])
def test_layers_are_marginals_and_conditional_expectations(transposed):
    model = tk.Model(W, B, C) if transposed else tk.Model(W.T, C, B)
    layers, (law, visible, hidden) = Layers(model), table(3, 2) if transposed else table(2, 3)
    assert layers.transposed == transposed
    near_law, far_law = (law.sum(axis=1), law.sum(axis=0)) if transposed else (law.sum(axis=0), law.sum(axis=1))
    np.testing.assert_allclose(layers.near_root**2, near_law, rtol=1e-14)
    np.testing.assert_allclose(layers.far_root**2, far_law, rtol=1e-14)
    near, far = (hidden, visible) if transposed else (visible, hidden)
    np.testing.assert_array_equal(layers.near_spins, near.T)
    np.testing.assert_array_equal(layers.far_spins, far.T)
    functions = np.random.default_rng(1).normal(size=(4, len(far)))
    given_near = (law if transposed else law.T) / near_law[:, None]
    expected = functions @ given_near.T
    expected = (expected - (expected @ near_law)[:, None]) * np.sqrt(near_law)
    np.testing.assert_allclose(layers.to_near(layers.of_far(functions.copy())), expected, atol=1e-14)


def test_what_is_rounding_of_a_constant_is_none():
    layers = Layers(tk.Model(W, B, C))
    rows = layers.of_near(np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0 + 1e-9]]))
    assert not rows[0].any()
    assert np.linalg.norm(rows[1]) > 1e-10


def test_a_square_rounds_with_the_law_the_fields_and_its_sum():
    layers = Layers(tk.Model(W, B, C))
    chain = layers.chain
    counted = 2 * (law_error(chain) + input_error(chain) + (8 + 4 + 8) * EPSILON)
    assert scan_layers.square_error(layers) == pytest.approx(counted, rel=1e-12, abs=0)
    near = Sources.of_near(layers, layers.of_near(layers.near_spins))
    far = Sources.of_far(layers, layers.of_far(layers.far_spins))
    assert near.variance_error == far.variance_error == scan_layers.square_error(layers)
    assert not near.constant.any()
    np.testing.assert_array_equal(far.constant, far.variances)
    np.testing.assert_allclose(far.variances, 1 - (table(3, 2)[0].sum(axis=0) @ table(3, 2)[1]) ** 2, rtol=1e-13)


def test_records_of_several_sweeps_have_the_law_between():
    layers = Layers(tk.Model(W, B, C), every=3)
    far = layers.of_far(layers.far_spins)
    sources = Sources.of_far(layers, far)
    K = layers.system.coupling.T @ layers.system.coupling
    np.testing.assert_allclose(sources.left, layers.to_near(far) @ K @ K, atol=1e-14)
    np.testing.assert_allclose(sources.right, layers.to_near(far), atol=1e-15)


@pytest.mark.parametrize("units", ["pm1", "zero-one"])
@pytest.mark.parametrize("fields", [(B, C), (40 * B, 30 * C)])
def test_a_variance_of_products_is_off_by_what_its_shares_are(units, fields, monkeypatch):
    """Rates that are off by a relative error planted, up for one value and down for the other: covered with the term, not without."""
    layers = Layers(tk.Model(W, *fields))
    chain = layers.chain
    right, counted = alternating_scan._product_variances(layers, units)
    of_sums = law_error(chain) + input_error(chain) + (chain.n_states + 4) * UNIT
    high, low = shares(layers, units)
    np.testing.assert_allclose(right, (4 if units == "pm1" else 1) * high * low, rtol=1e-13)
    np.testing.assert_allclose(counted, 2 * of_sums * np.abs(high - low) + 8 * UNIT, rtol=1e-9)
    flips = chain.hidden_flips * np.array([1 - PLANTED, 1 + PLANTED])[:, None, None]
    moved = SimpleNamespace(
        chain=SimpleNamespace(n_spins=chain.n_spins, n_states=chain.n_states, hidden_flips=flips, layer=chain),
        near_root=layers.near_root,
        near_spins=layers.near_spins,
    )
    for name, error in (("law_error", 0.0), ("input_error", PLANTED)):
        monkeypatch.setattr(alternating_scan, name, lambda _, error=error: error)
    off, covered = alternating_scan._product_variances(moved, units)
    missed = np.abs(off / right - 1)
    assert (missed <= covered * (1 + 10 * PLANTED) + 4 * PLANTED**2).all()
    monkeypatch.setattr(alternating_scan, "input_error", lambda _: 0.0)
    assert missed.max() > alternating_scan._product_variances(moved, units)[1].max()
    monkeypatch.setattr(alternating_scan, "law_error", lambda _: PLANTED)  # and of the law just as much
    np.testing.assert_allclose(alternating_scan._product_variances(moved, units)[1], covered, rtol=1e-12)


def shares(layers, units):
    """Pr of either value of the products, (n_near, n_far), from the law on all states."""
    law, visible, hidden = table(3, 2)
    weights = np.exp(hidden @ W.T @ visible.T + visible @ layers.chain.model.c + (hidden @ layers.chain.model.b)[:, None])
    law = weights / weights.sum()
    products = hidden.T[:, None, :, None] * visible.T[None, :, None, :]  # (near, far, h, v)
    if units == "zero-one":
        products = 2.0 * ((hidden.T[:, None, :, None] > 0) & (visible.T[None, :, None, :] > 0)) - 1
    return (law * (products > 0)).sum(axis=(2, 3)), (law * (products < 0)).sum(axis=(2, 3))
