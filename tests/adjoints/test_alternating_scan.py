"""Gradients of the alternating scan against the complex step of a dense reference and central differences of their own values."""

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from adjoints import alternating_scan
from thermokernels_app.judges import reference

STEP = 1e-30


def model(shape, fields, seed=0):
    rng = np.random.default_rng([seed, *shape])
    W, b, c = rng.standard_normal(shape), rng.standard_normal(shape[0]), rng.standard_normal(shape[1])
    return [W, b, c] if fields else [W, 0 * b, 0 * c]


def complex_step(function, parameters):
    """The gradient of an analytic function of (W, b, c), entry by entry."""
    gradients = []
    for number, parameter in enumerate(parameters):
        gradient = np.empty(parameter.shape)
        for entry in np.ndindex(parameter.shape):
            moved = [part.astype(complex) for part in parameters]
            moved[number][entry] += 1j * STEP
            gradient[entry] = function(*moved).imag / STEP
        gradients.append(gradient)
    return gradients


@pytest.mark.parametrize("shape", [(3, 3), (3, 2), (2, 4), (1, 3), (3, 1), (1, 1)])
@pytest.mark.parametrize("with_fields", [False, True])
def test_time_and_asymptotic_variance(shape, with_fields):
    W, b, c = model(shape, with_fields)
    value, gradient = adjoints.observable_variance_time(W, b, c, fields=True, kernel="alternating")
    expected = complex_step(lambda *at: reference.alternating_time(*at)[0], [W, b, c])
    assert value == pytest.approx(reference.alternating_time(W, b, c)[0], rel=1e-12, abs=0)
    for found, slope in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(found, slope, atol=1e-11 * value)
    alone = adjoints.observable_variance_time(W, b, c, kernel="alternating")
    np.testing.assert_array_equal(alone[1], gradient.W)

    def asymptotic(*at):
        time, variance = reference.alternating_time(*at)
        return 2 * time - variance

    value, gradient = adjoints.asymptotic_variance(W, b, c, fields=True, kernel="alternating")
    assert value == pytest.approx(asymptotic(W, b, c), rel=1e-12)
    for found, slope in zip(gradient, complex_step(asymptotic, [W, b, c]), strict=True):
        np.testing.assert_allclose(found, slope, atol=1e-11 * value)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3)])
@pytest.mark.parametrize("with_fields", [False, True])
def test_q(shape, with_fields):
    W, b, c = model(shape, with_fields, 1)
    p_data = np.random.default_rng(2).dirichlet(np.ones(2 ** shape[0]))
    q, gradient = adjoints.q_struct(W, p_data, 30.0, b=b, c=c, fields=with_fields, kernel="alternating")
    expected = complex_step(lambda W, b, c: reference.alternating_q_struct(W, p_data, 30.0, b, c).value, [W, b, c])
    assert q.value == pytest.approx(reference.alternating_q_struct(W, p_data, 30.0, b, c).value, rel=1e-11, abs=0)
    assert q.value == tk.q_struct(W, p_data, 30.0, b=b, c=c, kernel="alternating").value
    for found, slope in zip(gradient if with_fields else [gradient], expected, strict=False):
        np.testing.assert_allclose(found, slope, atol=1e-11 * np.abs(expected[0]).max())
    of_chain = adjoints.signal_to_noise.chain_q_struct_gradient(tk.gibbs_chain(W, b, c, kernel="alternating"), p_data, 30.0)
    np.testing.assert_array_equal(of_chain[1].W, gradient.W if with_fields else gradient)


def test_central_differences_where_blocks_are_many():
    rng = np.random.default_rng(3)
    W, direction = 0.4 * rng.standard_normal((8, 7)), rng.standard_normal((8, 7))
    time = tk.alternating_variance_time(W)
    slope = float((alternating_scan.gradient(time).W * direction).sum())
    values = [tk.alternating_variance_time(W + h * direction).value for h in (1e-5, -1e-5)]
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-7)


def test_pairs_and_all_states_agree():
    W, _, _ = model((4, 3), False, 4)
    pairs = alternating_scan.gradient(tk.alternating_variance_time(W))
    tiny = np.full(4, 1e-9)  # with fields states and their complements are apart
    full = alternating_scan.gradient(tk.alternating_variance_time(W, b=tiny))
    np.testing.assert_allclose(pairs.W, full.W, atol=1e-7 * np.abs(pairs.W).max())
    assert not np.abs(full.b).max() > 1e-6
    assert not pairs.b.any()


def test_the_same_bits_for_every_number_of_threads():
    W = 0.2 * np.random.default_rng(5).standard_normal((10, 11))
    before, results = tk.get_threads(), []
    try:
        for number in (1, 2):
            tk.set_threads(number)
            results.append(adjoints.observable_variance_time(W, kernel="alternating")[1].tobytes())
    finally:
        tk.set_threads(before)
    assert results[0] == results[1]


def test_no_signal_no_gradient():
    q, gradient = adjoints.q_struct([[0.0]], [0.5, 0.5], kernel="alternating")
    assert (q.value, gradient.tolist()) == (0.0, [[0.0]])


def test_kernels_without_an_adjoint_say_so():
    message = "the adjoint of T_O is that of the single-site and the alternating kernel; got kernel='two-block'"
    for function, arguments in (
        (adjoints.observable_variance_time, ()),
        (adjoints.asymptotic_variance, ()),
        (adjoints.q_struct, (np.full(4, 0.25),)),
    ):
        with pytest.raises(ValueError, match=message):
            function(np.ones((2, 2)), *arguments, kernel="two-block")
