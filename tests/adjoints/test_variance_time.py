"""Gradients of T_O, |g|^2 and Q against the complex step through dense algebra on the full chain, closed forms and symmetries."""

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from adjoints.overlaps import _flip_overlaps, flip_overlaps
from adjoints.signal_to_noise import chain_q_struct_gradient
from adjoints.variance_time import VarianceTimeAdjoint
from thermokernels.quantities.variance_time import variance_time

small = pytest.mark.small

SHAPES = [(1, 1), (1, 3), (3, 1), (2, 3), (3, 2), (4, 2)]
NAMES = ("W", "b", "c")


def random_point(shape, seed=0, scale=1.0):
    draws = np.random.default_rng([seed, *shape])
    W, b, c = scale * draws.normal(size=shape), draws.normal(size=shape[0]), draws.normal(size=shape[1])
    return W, b, c, draws.dirichlet(np.ones(2 ** shape[0]))


def analytic_q(W, b, c, p_data, window=100.0):
    """(Q, T_O) by dense algebra on the full chain, analytic in W, b and c so that they may be complex."""
    n_visible, n_hidden = W.shape
    n_spins, n = n_visible + n_hidden, 2 ** (n_visible + n_hidden)
    spins = 1.0 - 2.0 * (np.arange(n)[:, None] >> np.arange(n_spins) & 1)
    v, h = spins[:, :n_visible], spins[:, n_visible:]
    energy = -((v @ W) * h).sum(axis=1) - v @ b - h @ c
    law = np.exp(energy.real.min() - energy)
    law = law / law.sum()
    fields = np.hstack([h @ W.T + b, v @ W + c])
    matrix = np.zeros((n, n), dtype=W.dtype)
    states = np.arange(n)
    for i in range(n_spins):
        matrix[states, states ^ (1 << i)] = 1 / (1 + np.exp(2 * spins[:, i] * fields[:, i])) / n_spins
    matrix[states, states] = 1 - matrix.sum(axis=1)
    f = -(v[:, :, None] * h[:, None, :]).reshape(n, -1)
    mean = law @ f
    f = f - mean
    time = (law[:, None] * f * np.linalg.solve(np.eye(n) - matrix + law, f)).sum()
    visible = 1.0 - 2.0 * (np.arange(2**n_visible)[:, None] >> np.arange(n_visible) & 1)
    g = -(visible.T * p_data) @ np.tanh(visible @ W + c) - mean.reshape(W.shape)
    return window * n_spins / 2 * (g * g).sum() / time, time


def complex_step(W, b, c, p_data):
    """dQ and dT_O by W, b and c, entry by entry."""
    gradients = {}
    for position, name in enumerate(NAMES):
        shape = (W, b, c)[position].shape
        gradients[name] = np.empty(shape), np.empty(shape)
        for index in np.ndindex(shape):
            moved = [np.array(array, dtype=complex) for array in (W, b, c)]
            moved[position][index] += 1e-30j
            for gradient, value in zip(gradients[name], analytic_q(*moved, p_data), strict=True):
                gradient[index] = value.imag / 1e-30
    return gradients


def assert_close(gradient, expected, scale):
    """Entries right to 1e-10 of the largest, or of ``scale`` where the whole gradient vanishes by symmetry."""
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-10 * np.abs(expected).max() + 1e-12 * scale)


@pytest.mark.parametrize("method", ["cholesky", "cg"])
@pytest.mark.parametrize("with_fields", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_equal_the_complex_step(shape, with_fields, method):
    W, b, c, p_data = random_point(shape)
    if not with_fields:
        b, c = 0 * b, 0 * c
    expected = complex_step(W, b, c, p_data)
    q, by_q = adjoints.q_struct(W, p_data, b=b, c=c, method=method, fields=True)
    time, by_time = adjoints.observable_variance_time(W, b, c, method=method, fields=True)
    value, exact_time = analytic_q(W, b, c, p_data)
    assert q.value == pytest.approx(value, rel=1e-10, abs=1e-25)
    assert time == pytest.approx(exact_time, rel=1e-11, abs=0)
    for name, array in zip(NAMES, (W, b, c), strict=True):
        assert getattr(by_q, name).shape == array.shape
        assert_close(getattr(by_q, name), expected[name][0], q.window_steps / exact_time)  # Q of a signal of order one
        assert_close(getattr(by_time, name), expected[name][1], exact_time)


@pytest.mark.parametrize("method", ["cholesky", "cg"])
@pytest.mark.parametrize("shape", [*SHAPES, (4, 3), (4, 4)])
def test_gradients_on_the_quotient_equal_those_on_the_full_chain(shape, method):
    W, _, _, p_data = random_point(shape, 1)
    q, by_W = adjoints.q_struct(W, p_data, method=method)
    _, full = adjoints.q_struct(W, p_data, method=method, fields=True)
    assert_close(by_W, full.W, q.window_steps / q.t_obs)
    time, time_by_W = adjoints.observable_variance_time(W, method=method)
    _, full_time = adjoints.observable_variance_time(W, method=method, fields=True)
    assert_close(time_by_W, full_time.W, time)
    # T_O is even in the fields
    np.testing.assert_allclose(full_time.b, 0, atol=1e-10 * time)
    np.testing.assert_allclose(full_time.c, 0, atol=1e-10 * time)
    for gradient in (by_W, time_by_W):
        assert gradient.shape == shape
        assert gradient.flags["C_CONTIGUOUS"]
        assert gradient.dtype == np.float64


@small
def test_values_are_those_of_thermokernels():
    W, b, c, p_data = random_point((2, 3))
    q, reference = adjoints.q_struct(W, p_data, window=20)[0], tk.q_struct(W, p_data, window=20)
    assert (q.value, q.t_obs, q.signal, q.t_obs_bound) == (reference.value, reference.t_obs, reference.signal, reference.t_obs_bound)
    assert adjoints.q_struct(W, p_data, b=b, c=c)[0].value == tk.q_struct(W, p_data, b=b, c=c).value
    assert adjoints.observable_variance_time(W)[0] == reference.t_obs


@small
@pytest.mark.parametrize("w", [-1.3, 0.0, 0.5, 3.0])
def test_one_coupling_in_closed_form(w):
    # T_O = sech^2 w
    value, gradient = adjoints.observable_variance_time([[w]])
    assert value == pytest.approx(1 / np.cosh(w) ** 2, rel=1e-11)
    assert gradient[0, 0] == pytest.approx(-2 * np.tanh(w) / np.cosh(w) ** 2, rel=1e-11, abs=1e-15)


@small
@pytest.mark.parametrize("shape", [(2, 2), (3, 2)])
def test_free_spins_are_stationary(shape):
    # a change of the sign of one spin turns W_ij into -W_ij and leaves T_O
    np.testing.assert_allclose(adjoints.observable_variance_time(np.zeros(shape))[1], 0, atol=1e-13)


@small
def test_the_data_term_in_closed_form():
    # W = 0: g_ij = E_pi[v_i h_j] = 0 and dg_ij = -E_data[v_i v_k] + [i = k], so Q is flat to first order; with c it is not:
    # g_i = -(E_data[v_i] - 0) tanh c,  d|g|^2/dc = 2 |E_data[v]|^2 tanh c sech^2 c  for one hidden spin
    p_data, c = np.array([0.4, 0.3, 0.2, 0.1]), 0.7
    mean = np.array([0.4 - 0.3 + 0.2 - 0.1, 0.4 + 0.3 - 0.2 - 0.1])
    q, gradient = adjoints.q_struct(np.zeros((2, 1)), p_data, c=[c], fields=True)
    _, by_time = adjoints.observable_variance_time(np.zeros((2, 1)), c=[c], fields=True)
    assert q.signal == pytest.approx(mean @ mean * np.tanh(c) ** 2, rel=1e-13, abs=0)
    by_signal = 2 * mean @ mean * np.tanh(c) / np.cosh(c) ** 2
    assert gradient.c[0] == pytest.approx(q.value * (by_signal / q.signal - by_time.c[0] / q.t_obs), rel=1e-12, abs=0)


@small
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 1)])
def test_nothing_to_learn_has_gradient_exactly_zero(shape):
    uniform = np.full(2 ** shape[0], 2.0 ** -shape[0])
    q, gradient = adjoints.q_struct(np.zeros(shape), uniform)
    assert q.value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)
    assert gradient.shape == shape
    for cotangent, size in zip(adjoints.q_struct(np.zeros(shape), uniform, fields=True)[1], (shape, shape[:1], shape[1:]), strict=True):
        np.testing.assert_array_equal(cotangent, np.zeros(size))


@pytest.mark.parametrize("shape", [(2, 3), (4, 3)])
def test_gradients_follow_permutation_gauge_and_transposition(shape):
    W, _, _, p_data = random_point(shape, 2)
    draws = np.random.default_rng(0)
    rows, columns = draws.permutation(shape[0]), draws.permutation(shape[1])
    s, t = draws.choice([-1, 1], shape[0]), draws.choice([-1, 1], shape[1])
    states = range(2 ** shape[0])
    permuted = np.array([p_data[sum((x >> k & 1) << rows[k] for k in range(shape[0]))] for x in states])
    flips = sum(1 << i for i in range(shape[0]) if s[i] < 0)
    gauged = np.array([p_data[x ^ flips] for x in states])
    gradient = adjoints.q_struct(W, p_data)[1]
    tolerance = {"rtol": 0, "atol": 1e-9 * np.abs(gradient).max()}
    np.testing.assert_allclose(adjoints.q_struct(W[rows][:, columns], permuted)[1], gradient[rows][:, columns], **tolerance)
    np.testing.assert_allclose(adjoints.q_struct(s[:, None] * W * t, gauged)[1], s[:, None] * gradient * t, **tolerance)
    by_time = adjoints.observable_variance_time(W)[1]
    np.testing.assert_allclose(adjoints.observable_variance_time(W.T)[1], by_time.T, rtol=0, atol=1e-9 * np.abs(by_time).max())


@pytest.mark.parametrize("quotient", [True, False])
@pytest.mark.parametrize(
    "shape", [*(pytest.param(shape, marks=small) for shape in [(2, 3), (3, 2), (4, 2), (5, 1), (3, 3)]), (5, 4), (7, 3), (8, 2)]
)
def test_overlaps_of_flipped_states_against_indexing(shape, quotient):
    time = variance_time(tk.gibbs_chain(random_point(shape, 3)[0], quotient=quotient))
    chain, vectors = time.chain, time.solutions
    sources, states = np.random.default_rng(4).normal(size=vectors.shape), np.arange(chain.n_states)
    parts, by_hidden = np.zeros((chain.shape[0], chain.n_visible, 8)), np.zeros_like(chain.hidden_rates)
    squares, products = np.zeros(chain.shape), np.zeros(chain.n_states)
    _flip_overlaps(vectors, sources, chain.quotient, parts, by_hidden, squares, products)
    by_visible = parts.sum(axis=2).T
    for i, mask in enumerate(chain.flip_masks):
        overlaps = (vectors * vectors[:, states ^ mask]).sum(axis=0).reshape(chain.shape)
        if i < shape[0]:
            np.testing.assert_allclose(by_visible[i], overlaps.sum(axis=1), rtol=1e-12, atol=1e-12)
        else:
            np.testing.assert_allclose(by_hidden[i - shape[0]], overlaps.sum(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(squares, (vectors**2).sum(axis=0).reshape(chain.shape), rtol=1e-13)
    np.testing.assert_allclose(products, (vectors * sources).sum(axis=0), rtol=1e-12, atol=1e-12)


@small
@pytest.mark.parametrize(("shape", "n_vectors"), [((3, 3), 7), ((4, 5), 6), ((6, 4), 5), ((7, 6), 3), ((8, 9), 2), ((5, 12), 2)])
def test_overlaps_are_the_same_bits_however_observables_come_and_are_dealt_out(shape, n_vectors, monkeypatch):
    chain, draws = tk.gibbs_chain(random_point(shape, 1)[0]), np.random.default_rng(5)
    vectors, sources = draws.normal(size=(2, n_vectors, chain.n_states))

    def found(parts):
        adjoint = VarianceTimeAdjoint(chain)
        for part in parts:
            flip_overlaps(vectors[part], sources[part], chain.quotient, *adjoint.arrays.values())
        return np.concatenate([array.ravel() for array in adjoint.arrays.values()])

    whole = found([slice(None)])
    np.testing.assert_array_equal(found([slice(0, 1), slice(1, n_vectors)]), whole)
    monkeypatch.setattr("thermokernels.common.threads.SMALLEST_WORK", 1)
    monkeypatch.setattr("thermokernels.common.threads.get_threads", lambda: 3)
    np.testing.assert_array_equal(found([slice(None)]), whole)


@small
def test_a_kernel_without_an_adjoint_says_so():
    chain = tk.gibbs_chain(np.ones((2, 2)), kernel="two-block")
    with pytest.raises(
        ValueError, match="the adjoint of T_O is that of the single-site and the alternating kernel; got kernel='two-block'"
    ):
        chain_q_struct_gradient(chain, [0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("method", ["cholesky", "cg"])
def test_observables_that_hardly_vary_keep_their_gradient(method):
    W, b, c = np.full((3, 2), 5.0), np.zeros(3), np.zeros(2)
    W[0, 0] = 4.0
    value, gradient = adjoints.observable_variance_time(W, method=method)
    step = 1e-4
    for index in np.ndindex(W.shape):
        moved = np.zeros_like(W)
        moved[index] = step
        slope = tk.observable_variance_time(tk.gibbs_chain(W + moved)) - tk.observable_variance_time(tk.gibbs_chain(W - moved))
        assert gradient[index] == pytest.approx(slope / (2 * step), rel=1e-5)
    assert value < 1e-6
    assert value == pytest.approx(analytic_q(W, b, c, np.full(8, 0.125))[1], rel=1e-3)


@small
def test_arguments_are_left_alone_and_number_types_are_accepted():
    W, b, c, p_data = random_point((2, 3))
    copies = [array.copy() for array in (W, b, c, p_data)]
    gradient = adjoints.q_struct(W, p_data, b=b, c=c)[1]
    for array, copy in zip((W, b, c, p_data), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    np.testing.assert_array_equal(adjoints.q_struct(np.asfortranarray(W), p_data.tolist(), b=b, c=c)[1], gradient)
    single = W.astype(np.float32)
    np.testing.assert_array_equal(adjoints.q_struct(single, p_data)[1], adjoints.q_struct(single.astype(float), p_data)[1])
    integers = adjoints.observable_variance_time([[1, 0], [-1, 2]])[1]
    np.testing.assert_array_equal(integers, adjoints.observable_variance_time([[1.0, 0.0], [-1.0, 2.0]])[1])


UNIFORM = [0.25, 0.25, 0.25, 0.25]


@small
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([[np.nan]], [0.5, 0.5]), {}, "W must be finite"),
        (([[1.0], [2.0, 3.0]], UNIFORM), {}, "W must be an array of real numbers; got rows of different lengths"),
        ((np.ones(2), UNIFORM), {}, r"W must have shape \(n_v, n_h\)"),
        ((np.ones((2, 2)), [0.5, 0.5]), {}, r"p_data must have shape \(4,\)"),
        ((np.ones((2, 2)), [0.5, 0.6, 0.0, 0.0]), {}, "p_data must sum to one"),
        ((np.ones((2, 2)), [1.5, -0.5, 0.0, 0.0]), {}, "p_data must be nonnegative"),
        ((np.ones((2, 2)), UNIFORM), {"window": 0}, "window must be a positive"),
        ((np.ones((2, 2)), UNIFORM), {"window": True}, "window must be a positive"),
        ((np.ones((2, 2)), UNIFORM), {"method": "lu"}, "method must be one of"),
        ((np.ones((2, 2)), UNIFORM), {"rtol": np.nan}, "rtol must be a positive"),
        ((np.ones((2, 2)), UNIFORM), {"b": [1.0]}, r"b must have shape \(2,\)"),
        ((np.ones((2, 2)), UNIFORM), {"c": [np.inf, 0.0]}, "c must be finite"),
        ((np.ones((2000, 1)), UNIFORM), {}, "T_O and its gradient of 2000 observables of 2001 spins .* would take"),
    ],
)
def test_bad_arguments_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        adjoints.q_struct(*arguments, **options)
    if "p_data" not in message and "window" not in options:
        with pytest.raises(ValueError, match=message):
            adjoints.observable_variance_time(arguments[0], **options)


def test_a_slow_chain_is_refused():
    patterns = np.ones((3, 3)) + np.outer([1, -1, 1], [1, 1, -1])
    for method in ("cholesky", "cg"):
        with pytest.raises(tk.NumericalError, match="scale the couplings down"):
            adjoints.q_struct(12.0 * patterns, np.full(8, 0.125), method=method)


@pytest.mark.parametrize("with_fields", [False, True])
@pytest.mark.parametrize("shape", [(2, 3), (3, 2)])
def test_gradients_by_state_reduction_are_those_of_solves(shape, with_fields):
    W, b, c, p_data = random_point(shape)
    if not with_fields:
        b, c = 0 * b, 0 * c
    for ask in (
        lambda method: adjoints.observable_variance_time(W, b, c, method=method, fields=True),
        lambda method: adjoints.q_struct(W, p_data, b=b, c=c, method=method, fields=True),
    ):
        (_, reduced), (_, solved) = ask("reduction"), ask("cholesky")
        for name in NAMES:
            assert_close(getattr(reduced, name), getattr(solved, name), np.abs(solved.W).max())
