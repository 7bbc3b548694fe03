"""T_O, the signal and Q against dense algebra on the full chain, fifty-digit arithmetic, closed forms and symmetries."""

import dataclasses
import math
from decimal import Decimal, localcontext
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thermokernels as tk
from thermokernels.common import tolerances
from thermokernels.model import spin_sums
from thermokernels.quantities import variance_time as variance_time_module
from thermokernels.quantities.signal_to_noise import chain_q_struct
from thermokernels.quantities.variance_time import correlations, gradient_observables, variance_time, with_solutions
from thermokernels.solvers.solve import Solve

small = pytest.mark.small

SHAPES = [(1, 1), (1, 3), (3, 1), (2, 3), (3, 2), (4, 1), (4, 2)]


def random_model(shape, seed=0, scale=1.0):
    draws = np.random.default_rng([seed, *shape])
    W, b, c = scale * draws.normal(size=shape), draws.normal(size=shape[0]), draws.normal(size=shape[1])
    return W, draws.dirichlet(np.ones(2 ** shape[0])), b, c


def products(chain):
    """f_ij = -v_i h_j as columns, (n_states, n_v n_h)."""
    spins = chain.spins().astype(float)
    visible, hidden = spins[:, : chain.n_visible], spins[:, chain.n_visible :]
    return -(visible[:, :, None] * hidden[:, None, :]).reshape(chain.n_states, -1)


def dense_variance_time(chain):
    """sum_a <f~_a, (I - P + 1 pi')^(-1) f~_a>, with NumPy."""
    f = products(chain)
    f -= chain.law @ f
    z = np.linalg.solve(np.eye(chain.n_states) - chain.transition_matrix() + chain.law, f)
    return np.einsum("x,xa,xa->", chain.law, f, z)


def naive_signal(W, p_data, b, c):
    """g_ij = E_data[f_ij] - E_pi[f_ij] by loops over the states."""
    n_visible, n_hidden = W.shape
    g, Z = np.zeros_like(W), 0.0
    for x in range(2 ** (n_visible + n_hidden)):
        spins = [1 - 2 * (x >> i & 1) for i in range(n_visible + n_hidden)]
        v, h = np.array(spins[:n_visible]), np.array(spins[n_visible:])
        weight = math.exp(v @ W @ h + b @ v + c @ h)
        Z += weight
        g += weight * np.outer(v, h)
    g /= Z
    for x in range(2**n_visible):
        v = np.array([1 - 2 * (x >> i & 1) for i in range(n_visible)])
        g -= p_data[x] * np.outer(v, np.tanh(W.T @ v + c))
    return g


def exact_variance_time(W):
    """T_O of the single-site chain of pairs {x, -x} in fifty decimal digits, by Gaussian elimination."""
    n_visible, n_hidden = W.shape
    n_spins = n_visible + n_hidden
    n = 2 ** (n_spins - 1)
    spins = np.array([[1 - 2 * (x >> i & 1) for i in range(n_spins)] for x in range(n)]).astype(object)
    exponential = np.frompyfunc(Decimal.exp, 1, 1)
    with localcontext(prec=50):
        couplings = np.vectorize(Decimal, otypes=[object])(W)
        v, h = spins[:, :n_visible], spins[:, n_visible:]
        on_visible, on_hidden = h @ couplings.T, v @ couplings
        weights = exponential((v * on_visible).sum(axis=1))
        law = weights / weights.sum()
        rates = 1 / (1 + exponential(2 * spins * np.hstack([on_visible, on_hidden]))) / n_spins
        f = -(v[:, :, None] * h[:, None, :]).reshape(n, -1)
        f = f - law @ f
        matrix = np.tile(law, (n, 1))
        states = np.arange(n)
        for i in range(n_spins):
            targets = states ^ (1 << i) if i < n_spins - 1 else n - 1 - states
            np.add.at(matrix, (states, states), rates[:, i])
            np.add.at(matrix, (states, targets), -rates[:, i])
        system = np.hstack([matrix, f])
        for k in range(n):
            system[k] = system[k] / system[k, k]
            others = states != k
            system[others] = system[others] - np.outer(system[others, k], system[k])
        return (law[:, None] * f * system[:, n:]).sum()


@pytest.mark.parametrize("method", ["auto", "cholesky", "cg"])
@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
@pytest.mark.parametrize("shape", SHAPES)
def test_variance_time_equals_dense_algebra_on_the_full_chain(shape, kernel, method):
    W, _, b, c = random_model(shape)
    expected = dense_variance_time(tk.gibbs_chain(W, quotient=False, kernel=kernel))
    for quotient in (None, False):
        assert tk.observable_variance_time(tk.gibbs_chain(W, quotient=quotient, kernel=kernel), method) == pytest.approx(
            expected, rel=1e-12
        )
    with_fields = tk.gibbs_chain(W, b, c, kernel=kernel)
    assert tk.observable_variance_time(with_fields, method) == pytest.approx(dense_variance_time(with_fields), rel=1e-12, abs=0)


@small
def test_variance_time_is_the_sum_of_the_covariances_over_all_lags():
    chain = tk.gibbs_chain(random_model((2, 2), scale=0.5)[0])
    f = products(chain)
    f -= chain.law @ f
    later, total = f.copy(), 0.0
    for _ in range(800):
        total += np.einsum("x,xa,xa->", chain.law, f, later)
        later = chain.apply(later)
    assert tk.observable_variance_time(chain) == pytest.approx(total, rel=1e-11, abs=0)


@small
@pytest.mark.parametrize("shape", SHAPES)
def test_free_spins_in_closed_form(shape):
    # each product of two of N free spins lives N / 2 steps
    expected = shape[0] * shape[1] * sum(shape) / 2
    assert tk.observable_variance_time(tk.gibbs_chain(np.zeros(shape))) == pytest.approx(expected, rel=1e-13, abs=0)
    blocks = tk.observable_variance_time(tk.gibbs_chain(np.zeros(shape), kernel="two-block"))
    assert blocks == pytest.approx(shape[0] * shape[1], rel=1e-13)  # either block renews the product


@small
@pytest.mark.parametrize("w", [0.0, -0.8, 1.7, 4.0])
def test_one_coupling_in_closed_form(w):
    # the product v h is renewed in every step: T_O is its variance, sech^2 w
    assert tk.observable_variance_time(tk.gibbs_chain([[w]])) == pytest.approx(1 / math.cosh(w) ** 2, rel=1e-11, abs=0)


@pytest.mark.parametrize("method", ["cholesky", "cg"])
@pytest.mark.parametrize("couplings", [(0.4, -1.1), (0.7, 0.2, 1.5), (2.5, -0.3, 0.0, 1.0)])
def test_independent_pairs_in_closed_form(couplings, method):
    # v_i h_i: variance 1 - t_i^2, gap 2/N. For i != j split v = (s + d) / 2, h = (s - d) / 2 with s = v + h (gap (1 - t)/N, norm 2 + 2t)
    # and d = v - h (gap (1 + t)/N, norm 2 - 2t): the gaps of independent pairs add.
    n_spins, t = 2 * len(couplings), np.tanh(couplings)
    expected = float(((1 - t**2) * n_spins / 2).sum())
    for i, j in np.argwhere(~np.eye(len(t), dtype=bool)):
        for left, right in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            norm = (2 + 2 * left * t[i]) * (2 + 2 * right * t[j]) / 16
            expected += n_spins * norm / ((1 - left * t[i]) + (1 - right * t[j]))
    assert tk.observable_variance_time(tk.gibbs_chain(np.diag(couplings)), method) == pytest.approx(expected, rel=1e-11, abs=0)


@small
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_fields", [False, True])
def test_signal_and_q_equal_their_definitions(shape, with_fields):
    W, p_data, b, c = random_model(shape, 3)
    q = tk.q_struct(W, p_data, window=30, b=b if with_fields else None, c=c if with_fields else None)
    g = naive_signal(W, p_data, *((b, c) if with_fields else (0 * b, 0 * c)))
    np.testing.assert_allclose(q.g, g, rtol=1e-11, atol=1e-14)
    assert q.g.shape == shape
    assert q.signal == pytest.approx((g**2).sum(), rel=1e-11, abs=1e-25)
    assert q.window_steps == 30 * sum(shape)
    assert q.value == pytest.approx(0.5 * q.window_steps * q.signal / q.t_obs, rel=1e-14, abs=0)
    assert q.t_obs == tk.observable_variance_time(tk.gibbs_chain(W, *((b, c) if with_fields else ())))
    assert 0 <= q.residual <= tolerances.SOLVE
    assert q.method == "cholesky"
    with pytest.raises(dataclasses.FrozenInstanceError):
        q.value = 0.0


def test_q_of_every_method_and_kernel():
    W, p_data, _, _ = random_model((4, 4))
    direct, iterative = tk.q_struct(W, p_data, method="cholesky"), tk.q_struct(W, p_data, method="cg")
    assert (direct.method, direct.iterations, iterative.method) == ("cholesky", 0, "cg")
    assert iterative.iterations > 0
    assert iterative.value == pytest.approx(direct.value, rel=1e-12, abs=0)
    blocks = chain_q_struct(tk.gibbs_chain(W, kernel="two-block"), p_data)
    assert blocks.t_obs == pytest.approx(dense_variance_time(tk.gibbs_chain(W, kernel="two-block")), rel=1e-11, abs=0)
    np.testing.assert_array_equal(blocks.g, direct.g)


@small
def test_window_counts_in_sweeps_and_q_is_linear_in_it():
    W, p_data, _, _ = random_model((2, 3))
    q = tk.q_struct(W, p_data)
    assert q.window_steps == 500
    assert tk.q_struct(W, p_data, window=7).value == pytest.approx(0.07 * q.value, rel=1e-14, abs=0)


@small
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 2)])
def test_nothing_to_learn_is_exactly_zero(shape):
    q = tk.q_struct(np.zeros(shape), np.full(2 ** shape[0], 2.0 ** -shape[0]))
    assert (q.value, q.signal) == (0.0, 0.0)
    np.testing.assert_array_equal(q.g, 0.0)


@small
def test_a_model_at_its_data_has_almost_no_signal():
    W, _, _, _ = random_model((3, 4))
    assert tk.q_struct(W, tk.visible_law(W)).signal < 1e-30


@small
def test_the_signal_keeps_its_digits_near_the_data():
    # p_data differs from the model by 1e-5: the two correlations agree in five digits
    W, _, _, _ = random_model((3, 2))
    law = tk.visible_law(W)
    wiggle = np.array([1.0, -2.0, 3.0, 0.5, -0.5, -1.0, 2.0, -3.0]) * law.min()
    p_data = law + 1e-5 * wiggle
    p_data /= p_data.sum()
    v = 1.0 - 2.0 * (np.arange(8)[:, None] >> np.arange(3) & 1)
    expected = -(v * (p_data - law)[:, None]).T @ np.tanh(v @ W)
    np.testing.assert_allclose(tk.q_struct(W, p_data).g, expected, rtol=1e-8)


@settings(max_examples=15)
@given(data=st.data(), seed=st.integers(0, 10_000), shape=st.sampled_from([(2, 2), (2, 3), (3, 2), (3, 1), (4, 2)]))
def test_relabelling_spins_changes_nothing(data, seed, shape):
    W, p_data, _, _ = random_model(shape, seed, 0.8)
    rows, columns = (data.draw(st.permutations(range(n))) for n in shape)
    s, t = (np.array(data.draw(st.lists(st.sampled_from([-1, 1]), min_size=n, max_size=n))) for n in shape)
    q, gap = tk.q_struct(W, p_data), tk.spectral_gap(tk.gibbs_chain(W))

    states = range(2 ** shape[0])
    permuted = np.array([p_data[sum((x >> k & 1) << rows[k] for k in range(shape[0]))] for x in states])
    moved = W[rows][:, columns]
    flips = sum(1 << i for i in range(shape[0]) if s[i] < 0)
    gauged = np.array([p_data[x ^ flips] for x in states])
    for couplings, law in ((moved, permuted), (s[:, None] * W * t, gauged)):
        other = tk.q_struct(couplings, law)
        assert other.t_obs == pytest.approx(q.t_obs, rel=1e-10)
        assert other.value == pytest.approx(q.value, rel=1e-9, abs=0)
        assert tk.spectral_gap(tk.gibbs_chain(couplings)) == pytest.approx(gap, rel=1e-9, abs=0)
    transposed = tk.gibbs_chain(W.T)
    assert tk.observable_variance_time(transposed) == pytest.approx(q.t_obs, rel=1e-10, abs=0)
    assert tk.spectral_gap(transposed) == pytest.approx(gap, rel=1e-9, abs=0)


@pytest.mark.parametrize("rtol", [1e-2, 1e-3, 1e-4, 1e-6, 1e-10])
@pytest.mark.parametrize("scale", [0.5, 2.0])
@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (4, 2)])
def test_the_bound_holds_the_error_and_is_not_vacuous(shape, scale, rtol):
    W, p_data, _, _ = random_model(shape, 5, scale)
    q, exact = tk.q_struct(W, p_data, method="cg", rtol=rtol), exact_variance_time(W)
    error = float(exact - Decimal(q.t_obs))
    assert abs(error) <= q.t_obs_bound
    assert error >= -1e-13 * q.t_obs  # the variational form approaches T_O from below
    if rtol == 1e-2:
        assert error > 1e-13 * q.t_obs  # an error that can be seen
    gap = tk.spectral_gap(tk.gibbs_chain(W))
    assert q.t_obs_bound <= 20 * rtol**2 * q.variance_time.right_hand_sides.size / gap + 1e-10 * q.t_obs
    if rtol == 1e-10:
        assert q.t_obs_bound <= 1e-11 * q.t_obs


@pytest.mark.parametrize("rtol", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
def test_the_bound_holds_for_larger_chains_and_the_other_kernel(kernel, rtol):
    chain = tk.gibbs_chain(random_model((4, 4), 6)[0], kernel=kernel)
    time = variance_time(chain, Solve("cg", rtol))
    error = dense_variance_time(chain) - time.value
    assert -1e-12 * time.value <= error <= time.bound
    assert error > 1e-3 * time.bound  # within three orders of magnitude of what is certified


@pytest.mark.parametrize("accuracy", [0.5, 1e-4, 1e-8, 1e-12])
@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
@pytest.mark.parametrize("shape", [(3, 3), (5, 4), (5, 5), (6, 5)])
def test_an_accuracy_is_met_and_costs_less_than_all_digits(shape, kernel, accuracy):
    chain = tk.gibbs_chain(random_model(shape, 6, 0.7)[0], kernel=kernel)
    time, exact = variance_time(chain, Solve("cg", accuracy=accuracy)), variance_time(chain, Solve("cg"))
    assert abs(time.value - exact.value) <= time.bound + exact.bound
    assert time.bound <= accuracy * time.value
    assert time.value <= exact.value + exact.bound  # the variational form approaches T_O from below
    assert time.iterations < exact.iterations or accuracy == 1e-12
    assert tk.observable_variance_time(chain, "cg", accuracy=accuracy) == time.value


def test_an_accuracy_is_met_in_float32():
    chain = tk.gibbs_chain(random_model((7, 7), 6, 0.5)[0])
    time, exact = variance_time(chain, Solve(accuracy=1e-9)), variance_time(chain)
    assert abs(time.value - exact.value) <= time.bound <= 1e-9 * time.value
    assert time.iterations < 0.75 * exact.iterations


@small
@pytest.mark.parametrize("shape", [(2, 3), (4, 3), (5, 5)])
def test_the_reciprocal_of_the_energy_is_at_least_half_the_spins(shape):
    """b'A b <= (2 / N) |b|^2, which the residual that suffices rests on."""
    for options in ({}, {"quotient": False}):
        chain = tk.gibbs_chain(random_model(shape, 1)[0], **options)
        b = gradient_observables(chain).right_hand_sides(slice(None))
        energies = np.einsum("an,an->a", b, chain.apply_symmetrised_generator(b))
        assert (energies <= (2 / chain.n_spins + 1e-12) * np.einsum("an,an->a", b, b)).all()


@small
def test_an_accuracy_falls_back_on_state_reduction_and_on_words():
    slow = tk.gibbs_chain([[12.0, 12.0, 0.0], [12.0, 12.0, 0.0], [0.0, 0.0, 12.0]])
    assert variance_time(slow, Solve(accuracy=1e-9)).method == "reduction"
    W, p_data = random_model((3, 2))[:2]
    loose, tight = tk.q_struct(W, p_data, accuracy=1e-3), tk.q_struct(W, p_data)
    assert abs(loose.value - tight.value) <= loose.bound + tight.bound
    for method in ("auto", "cg", "cholesky", "reduction"):
        with pytest.raises(tk.UnresolvedError, match=r"certified to a relative \S+ only, not 1e-30: ask for less, or leave accuracy out"):
            tk.q_struct(W, p_data, method=method, accuracy=1e-30)
    with pytest.raises(ValueError, match="accuracy is for kernels that are solved on all states"):
        tk.q_struct(W, p_data, kernel="alternating", accuracy=1e-6)
    with pytest.raises(ValueError, match="accuracy is for chains that are solved on all states"):
        tk.observable_variance_time(tk.exchangeable_chain([[0.5, 0.5]]), accuracy=1e-6)


@small
def test_correlations_are_the_weighted_products():
    chain = tk.gibbs_chain(random_model((3, 2))[0])
    weights = np.random.default_rng(0).normal(size=chain.n_states)
    np.testing.assert_allclose(correlations(chain, weights), -(weights @ products(chain)).reshape(3, 2), rtol=1e-13, atol=1e-14)


@small
def test_number_types_and_memory_layouts_are_accepted():
    W, p_data = np.array([[1.0, -2.0, 0.5], [0.25, 1.0, -1.0]]), np.array([0.5, 0.25, 0.125, 0.125])
    value = tk.q_struct(W, p_data).value
    assert isinstance(value, float)
    for couplings in (W.tolist(), W.astype(np.float32), np.asfortranarray(W), np.repeat(W, 2, axis=0)[::2]):
        for law in (p_data.tolist(), p_data.astype(np.float32), np.repeat(p_data, 3)[::3]):
            for window in (100, np.float32(100), np.int64(100)):
                assert tk.q_struct(couplings, law, window).value == value
    point = np.array([0, 1, 0, 0])
    assert tk.q_struct(W, point).value == tk.q_struct(W, point.astype(float)).value


@small
def test_arguments_are_left_alone():
    W, p_data, b, c = random_model((2, 3))
    copies = [array.copy() for array in (W, p_data, b, c)]
    tk.q_struct(W, p_data, b=b, c=c)
    for array, copy in zip((W, p_data, b, c), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


GOOD = {"W": np.ones((2, 2)), "p_data": np.full(4, 0.25)}


@small
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W": [[np.nan]]}, r"W must be finite; entry \(0, 0\) is nan"),
        ({"W": [[1.0, 2.0], [3.0]]}, "W must be an array of real numbers; got rows of different lengths"),
        ({"W": np.ones(4)}, r"W must have shape \(n_v, n_h\)"),
        ({"p_data": [0.5, 0.5]}, r"p_data must have shape \(4,\); got shape \(2,\)"),
        ({"p_data": np.full((4, 1), 0.25)}, r"p_data must have shape \(4,\); got shape \(4, 1\)"),
        ({"p_data": []}, r"p_data must have shape \(4,\); got shape \(0,\)"),
        ({"p_data": [0.5, 0.6, -0.1, 0.0]}, "p_data must be nonnegative; entry 2 is -0.1"),
        ({"p_data": [0.5, 0.5, 0.5, 0.0]}, "p_data must sum to one within 1e-09; it sums to 1.5"),
        ({"p_data": 4 * [np.nan]}, r"p_data must be finite; entry \(0,\) is nan"),
        ({"p_data": [np.inf, 0.0, 0.0, 0.0]}, r"p_data must be finite; entry \(0,\) is inf"),
        ({"p_data": 4 * [0.25j]}, "p_data must be an array of real numbers; got dtype complex128"),
        ({"p_data": None}, "p_data must be an array of real numbers; got None"),
        ({"p_data": "abcd"}, "p_data must be an array of real numbers"),
        ({"window": 0}, "window must be a positive, finite number of sweeps; got 0"),
        ({"window": -5.0}, "window must be a positive, finite number of sweeps; got -5.0"),
        ({"window": np.nan}, "window must be a positive, finite number of sweeps; got nan"),
        ({"window": np.inf}, "window must be a positive, finite number of sweeps; got inf"),
        ({"window": True}, "window must be a positive number of sweeps; got True"),
        ({"window": "100"}, "window must be a positive number of sweeps; got '100'"),
        ({"window": [100.0]}, "window must be a positive number of sweeps"),
        ({"window": None}, "window must be a positive number of sweeps; got None"),
        ({"method": "qr"}, "method must be one of 'auto', 'cholesky', 'cg', 'reduction'; got 'qr'"),
        ({"rtol": 0}, "rtol must be a positive"),
        ({"rtol": np.nan}, "rtol must be a positive"),
        ({"rtol": 1.0}, "rtol must be below 1, a relative residual; got 1"),
        ({"rtol": "1e-10"}, "rtol must be a positive"),
        ({"accuracy": 0.0}, "accuracy must be a positive"),
        ({"accuracy": 1.0}, "accuracy must be below 1, a relative error of the value; got 1"),
        ({"accuracy": "all"}, "accuracy must be a positive"),
        ({"b": [1.0]}, r"b must have shape \(2,\); got shape \(1,\)"),
        ({"c": [1.0, np.inf]}, "c must be finite"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        tk.q_struct(**(GOOD | change))


@small
@pytest.mark.parametrize("rtol", [0, -1.0, np.nan, "tight", True, None])
def test_bad_tolerances_of_the_variance_time_are_named(rtol):
    with pytest.raises(ValueError, match="rtol must be a positive"):
        tk.observable_variance_time(tk.gibbs_chain([[1.0]]), rtol=rtol)


@small
@pytest.mark.parametrize("shape", [(40, 40), (2000, 1)])
def test_too_many_spins_are_refused(shape):
    with pytest.raises(tk.ModelTooLargeError, match=r"would take .* GiB of memory and .* are available"):
        tk.q_struct(np.zeros(shape), [1.0])


@small
def test_a_law_without_variance_is_refused():
    with pytest.raises(tk.UnresolvedError, match=r"T_O came out as 0.0: no observable v_i h_j varies under pi in float64"):
        tk.observable_variance_time(tk.gibbs_chain([[800.0]]))


@small
@pytest.mark.parametrize("w", [0.3, 20.0, 300.0])
def test_one_pair_of_spins_by_reduction(w):
    # both flips lead from one pair {x, -x} to the other, with rates that add up to one: T_O = Var(v h) = 1 / cosh^2 w
    time = variance_time(tk.gibbs_chain([[w]]), Solve("reduction"))
    assert time.value == pytest.approx(np.cosh(w) ** -2.0, rel=1e-12, abs=0)
    assert time.bound <= 1e-11 * time.value


@pytest.mark.parametrize("method", ["cholesky", "cg"])
@pytest.mark.parametrize("w", [2.0, 4.0, 7.0, 11.0])
def test_observables_that_hardly_vary_are_no_slow_chain(w, method):
    # the pairs of a ferromagnet have one minimum and an open gap, however small the variance of v_i h_j
    W = np.array([[w, w], [w, 0.9 * w], [0.8 * w, w]])
    q = tk.q_struct(W, np.full(8, 0.125), method=method)
    exact = exact_variance_time(W)
    assert q.t_obs == pytest.approx(float(exact), rel=1e-9)
    assert abs(float(exact - Decimal(q.t_obs))) <= q.t_obs_bound


@small
def test_a_q_that_overflows_is_refused():
    with pytest.raises(tk.UnresolvedError, match="Q overflows float64"):
        tk.q_struct(np.ones((2, 2)), [0.0, 1.0, 0.0, 0.0], window=1.7e308)


def test_a_slow_chain_is_refused_or_right():
    # two patterns of unequal weight: deep minima whose exchange no float64 solve can follow
    patterns = np.outer([1, 1, 1], [1, 1, 1]) + 0.9 * np.outer([1, -1, 1], [1, 1, -1])
    refused = 0
    for beta in (1.0, 3.0, 6.0, 9.0, 14.0, 30.0):
        for method in ("cholesky", "cg"):
            try:
                value = tk.q_struct(beta * patterns, np.full(8, 0.125), method=method).t_obs
            except tk.NumericalError:
                refused += 1
            else:
                assert value == pytest.approx(float(exact_variance_time(beta * patterns)), rel=1e-7)
    assert refused >= 4


def test_the_automatic_choice_checks_ten_digits_of_block_kernels():
    # T_O of diag(13, 13) by Cholesky is off by 1e-5
    time = variance_time(tk.gibbs_chain(np.diag([13.0, 13.0]), quotient=False, kernel="two-block"))
    assert time.method == "reduction"
    reference = variance_time(tk.gibbs_chain(np.diag([13.0, 13.0]), kernel="two-block"), Solve("reduction"))
    assert abs(time.value - reference.value) <= time.bound <= 1e-10 * time.value


@pytest.mark.small
@pytest.mark.parametrize("excess", [[5e-15, 4e-15], [2e-10, 3e-10], [-1e-16, 0.0]])
def test_a_law_is_divided_by_its_sum(excess):
    p_data = 0.5 + np.array(excess)
    q = tk.q_struct([[1.0]], p_data)
    exact = (Fraction(p_data[0]) - Fraction(p_data[1])) / (Fraction(p_data[0]) + Fraction(p_data[1]))
    # either visible state has probability one half, so that g = tanh(W) sum_v (1/2 - p(v)) v^2 = 0 for whatever p
    assert q.signal <= q.signal_bound
    assert q.signal_bound <= 1e-33
    field = tk.q_struct([[1.0]], p_data, c=[0.5])  # g = sum_v (pi(v) - p(v)) v tanh(v + 1/2)
    law = tk.visible_law([[1.0]], c=[0.5])
    sides = math.tanh(1.5), math.tanh(0.5)
    known = (law[0] - (1 + float(exact)) / 2) * sides[0] + (law[1] - (1 - float(exact)) / 2) * sides[1]
    assert field.g[0, 0] == pytest.approx(known, rel=1e-14)


@pytest.mark.parametrize(("shape", "method"), [((4, 4), "auto"), ((4, 4), "cg"), ((5, 7), "auto")])
def test_solutions_that_are_kept_are_those_that_t_obs_was_added_up_from(shape, method):
    chain = tk.gibbs_chain(np.random.default_rng(6).normal(size=shape))
    kept, alone = (function(chain, Solve(method)) for function in (with_solutions, variance_time))
    assert (kept.value, kept.bound) == (alone.value, alone.bound)
    np.testing.assert_array_equal(kept.right_hand_sides, alone.right_hand_sides)
    np.testing.assert_array_equal(kept.solutions, alone.solutions)


def test_a_residual_costs_its_square_over_the_gap_and_a_product_rounds_like_one(monkeypatch):
    """A solution that is off along the slowest mode: T_O is off by just what the bound says of its residual."""
    chain = tk.gibbs_chain([[0.7, -0.2]])
    gaps, modes = np.linalg.eigh(chain.symmetrised_generator_matrix())
    gap, mode, missed = gaps[1], modes[:, 1], 1e-3
    z = np.linspace(1.0, 2.0, chain.n_states)
    z -= (z @ chain.root_law) * chain.root_law
    b = chain.symmetrised_generator_matrix() @ z
    off = z + missed * mode
    r = b - chain.symmetrised_generator_matrix() @ off
    planted = b @ z - (b @ off + r @ off)
    sums = [[b @ off, r @ off, r @ r, off @ off, b @ b, chain.escape @ off**2]]
    row_sums = SimpleNamespace(arrays={"sums": np.array(sums)})
    nothing = variance_time_module.Rounding(0.0, 0.0, 0.0, 0.0)
    monkeypatch.setattr(variance_time_module, "rounding", lambda *_: nothing)
    of_residual, of_rounding = variance_time_module.error_terms(chain, row_sums, 1 / gap)
    assert of_residual[0] == pytest.approx(planted, rel=1e-9, abs=0)
    assert of_rounding[0] == 0.0
    sums[0][2], product = 0.0, np.linalg.norm(r) / np.linalg.norm(off)
    monkeypatch.setattr(variance_time_module, "rounding", lambda *_: nothing._replace(product=product))
    of_product = variance_time_module.error_terms(chain, SimpleNamespace(arrays={"sums": np.array(sums)}), 1 / gap)[0]
    assert of_product[0] == pytest.approx(planted, rel=1e-9)


def test_correlations_of_long_doubles_keep_their_digits():
    """All by sums over the states; those of float64 by the compiled halving of tables."""
    chain = tk.gibbs_chain(np.array([[0.3, -0.2], [0.1, 0.4], [0.2, 0.0]]))
    weights = np.random.default_rng(0).normal(size=chain.n_states)
    expected = np.einsum("x,xi,xj->ij", weights, chain.spins()[:, :3].astype(float), chain.spins()[:, 3:].astype(float))
    found = variance_time_module.correlations(chain, weights)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(found, spin_sums.correlate(weights, 3, 2)[0])
    rest = weights.astype(np.longdouble) * (1 + np.longdouble(2) ** -60)
    longer = variance_time_module.correlations(chain, rest)
    assert longer.dtype == np.longdouble
    if np.finfo(np.longdouble).nmant >= 63:
        plain = variance_time_module.correlations(chain, weights.astype(np.longdouble))
        np.testing.assert_allclose((longer - plain).astype(float), expected * 2.0**-60, atol=1e-18)
        assert (longer != longer.astype(float)).any()


@pytest.mark.parametrize("quotient", [True, False])
def test_responses_of_a_reduction_are_those_of_solves(quotient):
    chain = tk.gibbs_chain(np.array([[1.1, -0.3, 0.2], [0.4, 0.9, -0.6]]), quotient=quotient)
    reduced, solved = (variance_time(chain, Solve(method)).responses for method in ("reduction", "cholesky"))
    assert reduced.shape == solved.shape == (chain.n_states, 6)
    np.testing.assert_allclose(reduced, solved, atol=1e-11 * np.abs(solved).max())


@pytest.mark.parametrize(
    ("residuals", "rounding", "applies", "has"),
    [
        (0.99e-16, 0.9e-10, True, True),
        (1.01e-16, 0.0, True, False),  # z to 1e-8, where there is a better method
        (0.5e-10, 0.49e-10, False, True),
        (0.5e-10, 0.51e-10, False, False),
    ],
)
def test_ten_digits_are_those_left_by_residuals_and_rounding(residuals, rounding, applies, has, monkeypatch):
    time = SimpleNamespace(chain=None, value=3.0, error_terms=lambda _: (3 * residuals, 3 * rounding))
    monkeypatch.setattr(variance_time_module.reduced_resolvent, "applies_to", lambda _: applies)
    assert variance_time_module._has_its_digits(time, 1.0) is has


@pytest.mark.small
def test_solutions_that_are_asked_for_once_more_say_what_they_would_take(monkeypatch):
    """Of each of 12 observables a right-hand side and a solution, and eight numbers of each of 64 states beside."""
    time = dataclasses.replace(variance_time(tk.gibbs_chain(0.1 * np.ones((3, 4))), Solve("cg")), _kept=None, in_one_call=None)
    numbers = (2 * 12 + 8) * 64
    monkeypatch.setattr("thermokernels.common.memory.available", lambda: 8 * numbers - 1)
    with pytest.raises(
        tk.ModelTooLargeError, match=r"^the solutions for 12 observables on 64 states would take 1 MiB of .*; use fewer spins$"
    ):
        _ = time.responses
    monkeypatch.setattr("thermokernels.common.memory.available", lambda: 8 * numbers)
    assert time.responses.shape == (64, 12)
