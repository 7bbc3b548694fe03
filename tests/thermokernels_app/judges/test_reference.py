"""The reference against closed forms, its plain twin and central differences of itself."""

from __future__ import annotations

import numpy as np
import pytest

from thermokernels_app.judges import reference

SIZES = [(1, 1), (2, 3), (3, 2)]


def model(n_visible, n_hidden, seed=0, scale=1.0):
    rng = np.random.default_rng([seed, n_visible, n_hidden])
    return scale * rng.standard_normal((n_visible, n_hidden)), rng.dirichlet(np.ones(2**n_visible)), rng


def plain_transition_matrix(w, b, c):
    """P by loops over states, from the definition."""
    n_visible, n_hidden = w.shape
    n_spins = n_visible + n_hidden
    p = np.zeros((2**n_spins, 2**n_spins))
    for state in range(2**n_spins):
        x = [1 - 2 * ((state >> i) & 1) for i in range(n_spins)]
        v, h = np.array(x[:n_visible]), np.array(x[n_visible:])
        fields = [*(w @ h + b), *(w.T @ v + c)]
        for i in range(n_spins):
            p[state, state ^ (1 << i)] = 1 / (1 + np.exp(2 * x[i] * fields[i])) / n_spins
        p[state, state] = 1 - p[state].sum()
    return p


@pytest.mark.parametrize("size", SIZES)
def test_deflated_matrix_and_its_matrix_free_twin(size):
    w, p_data, rng = model(*size)
    b, c = rng.standard_normal(size[0]), rng.standard_normal(size[1])
    part = reference._model(w, p_data, b, c)
    matrix = reference._deflated_matrix(part.law, part.rates)
    p = plain_transition_matrix(w, b, c)
    assert np.allclose(matrix, np.eye(len(p)) - p + part.law, rtol=0, atol=1e-14)
    assert np.allclose(part.law @ p, part.law, rtol=0, atol=1e-15)
    values = rng.standard_normal((len(p), 3))
    assert np.allclose(reference._apply_deflated(part.law, part.rates, values), matrix @ values, rtol=0, atol=1e-13)


def test_independent_spins_in_closed_form():
    """At W = 0 each v_i h_j has gap 2/N, and g = E_data[-v_i h_j] = 0; with c alone g_ij = -E_data[v_i] tanh(c_j)."""
    q = reference.q_struct(np.zeros((2, 3)), np.full(4, 0.25))
    assert q.t_obs == pytest.approx(6 * 5 / 2, rel=1e-13, abs=0)
    assert q.signal == pytest.approx(0.0, abs=1e-30)
    p_data, c = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.3, -0.7, 0.2])
    mean = np.array([0.1 - 0.2 + 0.3 - 0.4, 0.1 + 0.2 - 0.3 - 0.4])
    assert reference.q_struct(np.zeros((2, 3)), p_data, c=c).signal == pytest.approx(
        mean @ mean * (np.tanh(c) @ np.tanh(c)), rel=1e-12, abs=0
    )


@pytest.mark.parametrize("size", SIZES)
def test_shared_factorisation_agrees_with_plain_complex_arithmetic(size):
    w, p_data, rng = model(*size)
    tangents = rng.standard_normal((4, *size))
    q, slopes = reference.derivatives(w, p_data, tangents, window=7.0)
    plain = [reference.q_struct(w + 1j * reference.STEP * tangent, p_data, window=7.0) for tangent in tangents]
    for name in ("value", "t_obs", "signal"):
        assert getattr(q, name) == pytest.approx(getattr(plain[0], name).real, rel=1e-12, abs=1e-28)  # of one pair g is rounding
        expected = [getattr(one, name).imag / reference.STEP for one in plain]
        assert np.allclose(getattr(slopes, name), expected, rtol=1e-11, atol=1e-13)


def test_complex_step_agrees_with_central_differences():
    w, p_data, rng = model(2, 3)
    tangent, h = rng.standard_normal((2, 3)), 1e-5
    _, slopes = reference.derivatives(w, p_data, tangent[None])
    ahead, behind = (reference.q_struct(w + s * h * tangent, p_data) for s in (1, -1))
    assert (ahead.value - behind.value) / (2 * h) == pytest.approx(slopes.value[0], rel=1e-7, abs=0)


def test_exact_g_where_float64_cancels():
    """A model asked for its own law, moved by 1e-9: g is the covariance times the move, which float64 knows to six digits only."""
    w, _, rng = model(3, 3)
    move = 1e-9 * rng.standard_normal((3, 3))
    visible = reference.spins(3)
    weights = np.cosh(visible @ (w + move)).prod(axis=1)
    p_data = weights / weights.sum()
    exact, rounded = reference.exact_g(w, p_data), reference._model(w, p_data, None, None).g
    assert np.allclose(exact, rounded, rtol=0, atol=1e-14)
    assert 0 < np.linalg.norm(exact) < 1e-7
    w2, p2, _ = model(2, 3)
    assert np.allclose(reference.exact_g(w2, p2), reference._model(w2, p2, None, None).g, rtol=1e-13)


@pytest.mark.parametrize("scale", [1.0, 400.0])
def test_sigmoid_neither_overflows_nor_loses_the_imaginary_part(scale):
    z = scale * np.array([-1.7, -0.1, 0.0, 0.1, 1.7])
    with np.errstate(over="raise"):
        moved = reference._sigmoid(z + 1j * reference.STEP)
    assert np.allclose(moved.real + moved.real[::-1], 1.0, rtol=0, atol=1e-15)
    assert np.allclose(moved.imag / reference.STEP, moved.real * moved.real[::-1], rtol=1e-13)


def test_couplings_are_the_product_of_the_two_factors():
    n_visible, n_hidden, rank, width, n_codes = 3, 2, 2, 4, 3
    rng = np.random.default_rng(3)
    c, c0 = rng.standard_normal((width, n_codes)), rng.standard_normal(width)
    h_a, a0 = rng.standard_normal((n_visible * rank, width)), rng.standard_normal(n_visible * rank)
    h_b, b0 = rng.standard_normal((n_hidden * rank, width)), rng.standard_normal(n_hidden * rank)
    phi, code = np.concatenate([array.ravel() for array in (c, c0, h_a, a0, h_b, b0)]), np.array([0.0, 1.0, 0.5])
    w = reference.couplings(phi, code, n_visible, n_hidden, rank, width)
    for i in range(n_visible):
        for j in range(n_hidden):
            z = [np.tanh(sum(c[k, n] * code[n] for n in range(n_codes)) + c0[k]) for k in range(width)]
            a = [sum(h_a[i * rank + r, k] * z[k] for k in range(width)) + a0[i * rank + r] for r in range(rank)]
            b = [sum(h_b[j * rank + r, k] * z[k] for k in range(width)) + b0[j * rank + r] for r in range(rank)]
            assert w[i, j] == pytest.approx(a[0] * b[0] + a[1] * b[1], rel=1e-12, abs=0)
    with pytest.raises(ValueError, match=r"parameters must have shape \(66,\)"):
        reference.couplings(phi[:-1], code, n_visible, n_hidden, rank, width)


def test_too_many_spins_are_refused():
    with pytest.raises(ValueError, match="at most 13 spins; got 14"):
        reference.q_struct(np.zeros((7, 7)), np.full(128, 1 / 128))
