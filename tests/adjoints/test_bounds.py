"""Bounds of gradients: every term covers an error of known size that is as large as it can be, and none is larger than that."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from adjoints import bounds, extended, reduced_resolvent
from adjoints.signal_to_noise import chain_q_struct_gradient
from adjoints.variance_time import VarianceTimeAdjoint
from thermokernels.common.errors import NotConvergedError
from thermokernels.model import extended as extended_chain
from thermokernels.model import rounding
from thermokernels.quantities.signal_to_noise import data_gradient
from thermokernels.quantities.variance_time import variance_time
from thermokernels.solvers.solve import Solve

W = np.array([[1.1, -0.3, 0.2], [0.4, 0.9, -0.6]])
DATA = [0.7, 0.1, 0.05, 0.15]
SOLUTIONS = {"residuals": 0.0, "vectors": 5.0, "sources": 2.0, "weighted": 1.0}


def bilinear(n_spins=4, relaxation=1.0, **parts):
    """The bound of one observable, everything but ``parts`` without an error."""
    norms = SOLUTIONS | {name: value for name, value in parts.items() if name in SOLUTIONS}
    errors = dict.fromkeys(("of_products", "of_law", "of_entries", "of_sums"), 0.0) | {
        name: value for name, value in parts.items() if name not in SOLUTIONS
    }
    return extended.bilinear_error(extended.Norms(*(np.array([value]) for value in norms.values())), n_spins, relaxation, **errors)


@pytest.mark.parametrize(("n_spins", "missed"), [(4, 1e-3), (40, 1e-3), (4, 0.5)])
def test_an_error_of_the_solutions_counts_with_the_sources_and_twice_with_the_solutions(n_spins, missed):
    """z, b and the error all along one vector on which dlog pi is 2 and dS is 1 / N: nothing is larger, and the bound is just that."""

    def gradient(z, b):
        return 2 * z * b + z * z / n_spins

    z, b = SOLUTIONS["vectors"], SOLUTIONS["sources"]
    planted = gradient(z + missed, b) - gradient(z, b)
    assert bilinear(n_spins, 10.0, residuals=0.1 * missed) == pytest.approx(planted, rel=1e-12, abs=0)  # |error| <= |r| / gap


def test_what_a_residual_does_not_show():
    """The rounding of products is as good as a residual; entries of A count twice, once for either side of its diagonal."""
    for_residual = bilinear(4, 3.0, residuals=5e-6)
    assert bilinear(4, 3.0, of_products=1e-6) == pytest.approx(for_residual, rel=1e-9, abs=0)
    z, b = SOLUTIONS["vectors"], SOLUTIONS["sources"]
    of_tables = 2e-6 * (2 * z * b + z * z / 4)
    assert bilinear(4, 3.0, of_entries=1e-6) == pytest.approx(bilinear(4, 3.0, residuals=1e-5) + of_tables, rel=1e-9, abs=0)


def test_an_error_of_the_law_is_one_of_b_of_z_along_its_root_and_of_the_weights():
    z, b, law, relaxation = SOLUTIONS["vectors"], SOLUTIONS["sources"], 1e-6, 3.0
    of_b = 2 * law * b
    of_z = of_b * relaxation + law * z
    expected = 2 * of_z * b + (2 * z * of_z) / 4 + 2 * z * of_b + 2 * law * (2 * z * b + z * z / 4)
    assert bilinear(4, relaxation, of_law=law) == pytest.approx(expected, rel=1e-5, abs=0)
    of_b = law * b
    of_z = of_b * relaxation + law * z
    expected = 2 * of_z * b + (2 * z * of_z) / 4 + 2 * z * of_b + law * (2 * z * b + z * z / 4)
    assert bilinear(4, relaxation, of_sums=law) == pytest.approx(expected, rel=1e-5, abs=0)


def test_an_observable_that_hardly_varies_has_the_square_of_the_rounding_of_a_mean():
    z, square = SOLUTIONS["vectors"], 1e-6
    assert bilinear(4, 1.0, of_sums=1e-3, sources=0.0) > 2 * z * square + 2 * z * square / 4


def solved(couplings, method="auto"):
    adjoint = VarianceTimeAdjoint(tk.gibbs_chain(couplings))
    time = variance_time(adjoint.chain, Solve(method), (adjoint,))
    return time, adjoint.cotangents(time).W


@pytest.mark.skipif(not extended_chain.AVAILABLE, reason="long double is float64 here")
@pytest.mark.parametrize("method", ["cholesky", "cg", "reduction"])
def test_a_planted_error_is_the_bound(method):
    """Small chains: what is off in an entry is seen, to the digits of long double."""
    time, gradient = solved(W, method)
    right = bounds.variance_time_gradient_bound(time, gradient)
    assert right <= 1e-14 * np.abs(gradient).max()
    for entry in np.ndindex(W.shape):
        off = gradient.copy()
        off[entry] += 1e-6
        assert bounds.variance_time_gradient_bound(time, off) == pytest.approx(1e-6, rel=1e-6, abs=0)
    q, by_q = chain_q_struct_gradient(tk.gibbs_chain(W), DATA, 100.0, Solve(method))
    assert bounds.q_struct_gradient_bound(q, by_q.W, DATA) <= 2e-14 * np.abs(by_q.W).max()
    assert bounds.q_struct_gradient_bound(q, by_q.W + 1e-6, DATA) == pytest.approx(1e-6, rel=1e-6, abs=0)


def test_without_long_double_the_bound_is_counted(monkeypatch):
    time, gradient = solved(W)
    q, by_q = adjoints.q_struct(W, DATA)
    near = bounds.variance_time_gradient_bound(time, gradient), bounds.q_struct_gradient_bound(q, by_q, DATA)
    monkeypatch.setattr(extended_chain, "AVAILABLE", False)
    counted = bounds.variance_time_gradient_bound(time, gradient), bounds.q_struct_gradient_bound(q, by_q, DATA)
    assert near[0] <= counted[0] <= 1e-11 * np.abs(gradient).max()
    assert near[1] <= counted[1] <= 1e-10 * np.abs(by_q).max()


def test_what_cannot_be_refined_in_float64_is_counted(monkeypatch):
    """A gap of 1e-13: state reduction brings its own bound, whether Cholesky finds a solution beside it, which says nothing, or none."""

    def refuse(*_, **__):
        raise NotConvergedError("too slow")

    time, gradient = solved(np.diag([15.0, 15.5]))
    assert time.method == "reduction"
    assert 0 < bounds.variance_time_gradient_bound(time, gradient) < 1e-10 * np.abs(gradient).max()
    monkeypatch.setattr(extended, "Solver", refuse)
    assert extended.variance_time(time) is None
    assert 0 < bounds.variance_time_gradient_bound(time, gradient) < 1e-10 * np.abs(gradient).max()


def test_data_of_another_shape_are_refused():
    q, gradient = adjoints.q_struct(W, DATA)
    with pytest.raises(ValueError, match="p_data must have shape"):
        bounds.q_struct_gradient_bound(q, gradient, DATA[:2])


@pytest.mark.parametrize(("distance", "moved"), [(0.0, 1e-6), (0.3, 1e-2), (0.3, 1e-5)])
def test_the_bound_covers_the_gradients_of_all_data_within_the_error_of_the_signal(distance, moved, monkeypatch):
    """Of data at the law itself, of which no digit of the signal is left, and of some away from it; and it is no hundred times more."""
    model, signs = tk.Model(W), np.random.default_rng(5).choice([-1.0, 1.0], size=(20, 4))
    data = tk.visible_law(W) * (1 + distance * np.array([1.0, -1.0, 1.0, 1.0]))
    data, others = data / data.sum(), [data * (1 + moved * sign) for sign in signs]
    others = [other / other.sum() for other in others]
    g = data_gradient(model, data)
    planted = 1.1 * max(np.abs(data_gradient(model, other) - g).max() for other in others)
    monkeypatch.setattr(extended_chain, "AVAILABLE", False)
    monkeypatch.setattr("adjoints.bounds.data_gradient_error", lambda _: planted)
    q, gradient = adjoints.q_struct(W, data)
    q = replace(q, signal_bound=float((2 * np.abs(g) * planted + planted**2).sum()))
    bound = bounds.q_struct_gradient_bound(q, gradient, data)
    missed = max(np.abs(adjoints.q_struct(W, other)[1] - gradient).max() for other in others)
    assert missed <= bound <= 100 * missed


def test_a_frozen_chain_by_reduction_keeps_the_bound_of_the_reduction():
    """A law on one state, nearly, and a gap of 1e-8: in long double the bound goes with the gap, and is a hundredth of the gradient."""
    chain, data = tk.gibbs_chain([[10.0]], [1.5], [1.0]), [0.6, 0.4]
    adjoint = VarianceTimeAdjoint(chain)
    time = variance_time(chain, Solve("reduction"), (adjoint,))
    gradient = adjoint.cotangents(time).W
    assert bounds.variance_time_gradient_bound(time, gradient) < 1e-12 * np.abs(gradient).max()
    assert bounds._counted(time) > reduced_resolvent.gradient_error(time.reduced) * time.value  # whatever their product rounds to
    q, by_q = chain_q_struct_gradient(chain, data, 100.0, Solve("reduction"))
    assert bounds.q_struct_gradient_bound(q, by_q.W, data) < 1e-4 * np.abs(by_q.W).max()


@pytest.mark.skipif(not extended_chain.AVAILABLE, reason="long double is float64 here")
def test_a_signal_of_roundings_has_the_error_of_long_double():
    """Data without correlations, but for rounding: g in pairs of doubles has its digits, and g in long double does not."""
    data = 1 + 0.01 * np.arange(16)
    data = data / data.sum()
    q, gradient = adjoints.q_struct(np.diag([8.0, 8.5, 8.0, 7.9]), data)
    exact, bound = extended.q_struct_gradient(q, bounds._near(q.state_time), data)
    counted = bounds._counted_quotient(q, gradient)
    assert counted < np.abs(gradient - exact).max() <= bound + counted
    assert bounds.q_struct_gradient_bound(q, gradient, data) == counted


def counted_case(monkeypatch, signal=1.3, time=5.0, g=(0.6, 0.8), by_time=0.0, **planted):
    """The counted bound of a gradient of Q = signal / T (a window of two steps) where nothing but what is planted has an error."""
    errors = {"t": 0.0, "s": 0.0, "gradient": 0.0, "of_g": 0.0, "law": 0.0, "entries": 0.0} | planted
    chain = SimpleNamespace(shape=(4, 4), n_spins=4, model=None)
    t_bound, s_bound = errors["t"] * time, errors["s"] * signal
    q = SimpleNamespace(
        g=np.array([g]),
        signal=signal,
        signal_bound=s_bound,
        t_obs=time,
        t_obs_bound=t_bound,
        value=signal / time,
        window_steps=2.0,
        bound=(s_bound + signal * errors["t"]) / (time - t_bound) if t_bound < time else np.inf,
        state_time=SimpleNamespace(chain=chain, reduced=None),
    )
    for name, error in (("law_error", "law"), ("entry_error", "entries"), ("data_gradient_error", "of_g")):
        monkeypatch.setattr(bounds, name, lambda _, error=errors[error]: error)
    monkeypatch.setattr(bounds, "_counted", lambda _: errors["gradient"])
    monkeypatch.setattr(bounds, "_largest_slope", lambda _: by_time)
    gradient = np.array([[0.3, -0.1]])
    return bounds._counted_quotient(q, gradient), q, gradient


@pytest.mark.parametrize("planted", [{"t": 0.3}, {"s": 0.3}, {"gradient": 0.5}, {"t": 0.3, "s": 0.3, "gradient": 0.5}])
def test_errors_of_the_quotient_rule_count_at_their_worst_together(planted, monkeypatch):
    """Errors so large that products of them are seen: the slopes, relative, times all that Q can be, and the error of Q times dQ / Q."""
    bound, q, _ = counted_case(monkeypatch, **planted)
    t, s, of_time = (planted.get(name, 0.0) for name in ("t", "s", "gradient"))
    s_slope = 4 * 1.4 / q.signal
    t_slope = 0.3 / q.value + s_slope
    of_slopes = s_slope * s / (1 - s) + (of_time / q.t_obs + t_slope * t) / (1 - t)
    relative = (s + t) / (1 - t)
    expected = q.value * of_slopes * (1 + relative) + relative * 0.3
    assert bound == pytest.approx(expected, rel=1e-12, abs=0)
    # no quotient of numbers within their errors is farther off: dQ = s / T - S t / T^2, with |s| <= 4 |g|
    for slope in (5.6, -5.6, 1.0):
        by_time = (slope - 0.3 * q.t_obs) / q.value
        for signs in np.ndindex(2, 2, 2):
            i, j, k = 2 * np.array(signs) - 1
            signal, time, moved = q.signal / (1 + i * s), q.t_obs / (1 + j * t), by_time + k * of_time
            assert abs(slope / time - signal * moved / time**2 - 0.3) <= bound * (1 + 1e-12) or abs(by_time) > t_slope * q.t_obs


@pytest.mark.parametrize(("name", "times"), [("law", 4.0), ("entries", 2.0)])
def test_an_error_of_the_slope_of_g_counts_with_g(name, times, monkeypatch):
    right = counted_case(monkeypatch)[0]
    bound, q, _ = counted_case(monkeypatch, **{name: 1e-6})
    assert bound - right == pytest.approx(q.value * 2 * 1.4 * times * 1e-6 / q.signal, rel=1e-6, abs=0)


@pytest.mark.parametrize(("planted", "unit"), [(1e-6, 0.0), (0.0, 1e-6)])
def test_an_error_of_g_counts_with_the_slope_of_every_entry_of_it(planted, unit, monkeypatch):
    """|dg| <= 2 for each, so 4 |g's error|; rounding of g to float64 is one of its size."""
    monkeypatch.setattr(bounds, "UNIT", 0.0)
    assert counted_case(monkeypatch)[0] == 0.0
    monkeypatch.setattr(bounds, "UNIT", unit)
    bound, q, _ = counted_case(monkeypatch, of_g=planted)
    slopes = 8 * (2 * 4 * 1.4 / q.signal + 0.3 / q.value) * unit  # the roundings of the quotient rule
    of_sums = 2 * 1.4 * 2 * (8 + 4 + 16) * unit
    assert bound == pytest.approx(q.value * ((of_sums + 2 * 2 * (2 * planted + 1.4 * unit)) / q.signal + slopes), rel=1e-9, abs=0)


def test_without_a_digit_of_the_signal_all_that_it_can_be_counts(monkeypatch):
    bound, _, _ = counted_case(monkeypatch, s=0.7, t=0.2, gradient=0.5, by_time=3.0)
    least = 5.0 - 1.0
    expected = 0.3 + (4 * 1.4 + 1.7 * 1.3 * 3.5 / least) / least
    assert bound == pytest.approx(expected, rel=1e-9, abs=0)
    assert counted_case(monkeypatch, t=1.0)[0] == np.inf
    near = counted_case(monkeypatch, s=0.4999)[0], counted_case(monkeypatch, s=0.5, by_time=3.0)[0]
    assert near[1] == pytest.approx(0.3 + (4 * 1.4 + 1.5 * 1.3 * 3.0 / 5) / 5, rel=1e-9, abs=0)
    assert near[0] != near[1]


def test_the_count_of_a_gradient_is_that_of_its_norms(monkeypatch):
    """Each error goes where it belongs: relaxation, products, law, entries, sums of so many roundings."""
    given = {}

    def bilinear_error(norms, *arguments):
        given["norms"], given["arguments"] = norms, arguments
        return 1.0

    time, _ = solved(W)
    monkeypatch.setattr(extended, "bilinear_error", bilinear_error)
    assert bounds._counted(time) == 1.0
    chain, (_, _, residuals, vectors, sources, weighted) = time.chain, time.row_sums.arrays["sums"].T
    for found, expected in zip(
        (given["norms"].residuals, given["norms"].vectors, given["norms"].sources, given["norms"].weighted),
        (residuals, vectors, sources, weighted),
        strict=True,
    ):
        np.testing.assert_allclose(found**2, expected, rtol=1e-14)
    expected = (
        5,
        1 / tk.gap_lower_bound(chain),
        rounding.product_error(chain),
        rounding.law_error(chain),
        rounding.entry_error(chain),
        2 * (8 + 8) * 2.0**-53,
    )
    assert given["arguments"] == pytest.approx(expected, rel=1e-14, abs=0)
    assert bounds._largest_slope(time) == pytest.approx((2 * np.sqrt(vectors * sources) + vectors / 5).sum(), rel=1e-12, abs=0)


def test_the_slope_of_a_reduction_is_one_of_edges_and_of_the_law():
    time, gradient = solved(np.diag([15.0, 15.5]))
    spread = float(time.reduced.spread.to_floats() / time.reduced.total.to_floats())
    assert bounds._largest_slope(time) == pytest.approx((3 + 4 * spread) * time.value, rel=1e-12, abs=0)
    assert np.abs(gradient).max() <= bounds._largest_slope(time)


def test_the_nearest_of_two_bounds_is_taken_where_they_agree():
    gradient, exact = np.array([[1.0, 2.0]]), np.array([[1.0 + 1e-6, 2.0 - 2e-6]])
    assert bounds._nearest(gradient, exact, 1e-9, 1e-3) == pytest.approx(2e-6 + 1e-9, rel=1e-6, abs=0)
    assert bounds._nearest(gradient, exact, 1e-4, 1e-5) == 1e-5  # the count says more than the distance can
    assert bounds._nearest(gradient, exact, 1e-9, 1e-10) == pytest.approx(2e-6, rel=1e-2, abs=0)  # the count is refuted
