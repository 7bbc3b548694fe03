"""g in pairs of doubles against mpmath."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.quantities.data_signal import LARGEST_SUM, _signal
from thermokernels.quantities.signal_to_noise import data_gradient, data_gradient_error, data_gradients, in_pairs

mp = pytest.importorskip("mpmath", reason="mpmath is not installed: pip install mpmath")


def exact_gradient(model, p_data):
    W, b, c = model
    with mp.workdps(80):
        V = 1 - 2 * ((np.arange(p_data.size)[:, None] >> np.arange(len(b))) & 1)
        F = [
            [mp.fsum([mp.mpf(float(c[j])), *(mp.mpf(float(W[i, j])) * int(v[i]) for i in range(len(b)))]) for j in range(len(c))] for v in V
        ]
        along = [mp.fsum(mp.mpf(float(b[i])) * int(v[i]) for i in range(len(b))) for v in V]
        weights = [mp.exp(a) * mp.fprod(mp.cosh(f) for f in fields) for a, fields in zip(along, F, strict=True)]
        total, mass = mp.fsum(weights), mp.fsum(map(mp.mpf, map(float, p_data)))
        excess = [q / total - mp.mpf(float(p)) / mass for q, p in zip(weights, p_data, strict=True)]
        return [
            [mp.fsum(e * int(v[i]) * mp.tanh(f[j]) for e, v, f in zip(excess, V, F, strict=True)) for j in range(len(c))]
            for i in range(len(b))
        ]


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0, 15.0])
@pytest.mark.parametrize("distance", [1.0, 1e-7])
def test_g_is_right_to_its_bound(scale, distance):
    draws = np.random.default_rng(4)
    model = tk.Model(scale * draws.normal(size=(3, 3)), scale * draws.normal(size=3), draws.normal(size=3))
    p_data = tk.visible_law(model.W + distance * draws.normal(size=(3, 3)), model.b, model.c)
    assert in_pairs(model)
    g, exact, bound = data_gradient(model, p_data), exact_gradient(model, p_data), data_gradient_error(model)
    assert bound < 1e-25
    for i, j in np.ndindex(3, 3):
        assert abs(mp.mpf(g[i, j]) - exact[i][j]) <= bound + 2.0**-53 * abs(g[i, j])
    if np.finfo(np.longdouble).eps < 1e-18:
        np.testing.assert_allclose(g, data_gradients(model, p_data)[0].astype(float), rtol=1e-9, atol=1e-17)


def test_large_couplings_go_to_long_double():
    W = np.full((2, 2), 0.3 * LARGEST_SUM)
    model, p_data = tk.Model(W), np.array([0.4, 0.3, 0.2, 0.1])
    assert not in_pairs(model)
    np.testing.assert_allclose(data_gradient(model, p_data), [[float(x) for x in row] for row in exact_gradient(model, p_data)], rtol=1e-15)


@pytest.mark.small
def test_the_size_of_g_rounds_with_every_entry():
    """Squares that are lost one by one, beside a one: their sum is off by a share of the number of entries."""
    g = np.full((10, 10), 0.99 * 2.0**-27)
    g[0, 0] = 1.0
    signal, bound = _signal(g, 0.0, 2.0**-53)
    with mp.workdps(50):
        missed = float(mp.fsum(mp.mpf(float(x)) ** 2 for x in g.flat) - signal)
    assert 10 * 2.0**-53 < missed <= bound <= 110 * 2.0**-53


@pytest.mark.small
def test_the_size_of_g_is_off_by_the_errors_of_its_entries():
    g, off = np.array([[0.5, -0.25], [0.1, 3.0]]), 1e-3
    signal, bound = _signal(g, off, 0.0)
    assert bound == pytest.approx(((np.abs(g) + off) ** 2).sum() - signal, rel=1e-12, abs=0)
