"""Bounds of gradients: every term covers an error of known size that is as large as it can be, and none is larger than that."""

from dataclasses import replace

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from adjoints import bounds, extended
from adjoints.signal_to_noise import chain_q_struct_gradient
from adjoints.variance_time import VarianceTimeAdjoint
from thermokernels.common.errors import NotConvergedError
from thermokernels.model import extended as extended_chain
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
    assert bilinear(n_spins, 10.0, residuals=0.1 * missed) == pytest.approx(planted, rel=1e-12)  # |error| <= |r| / gap


def test_what_a_residual_does_not_show():
    """The rounding of products is as good as a residual; entries of A count twice, once for either side of its diagonal."""
    for_residual = bilinear(4, 3.0, residuals=5e-6)
    assert bilinear(4, 3.0, of_products=1e-6) == pytest.approx(for_residual, rel=1e-9)
    z, b = SOLUTIONS["vectors"], SOLUTIONS["sources"]
    of_tables = 2e-6 * (2 * z * b + z * z / 4)
    assert bilinear(4, 3.0, of_entries=1e-6) == pytest.approx(bilinear(4, 3.0, residuals=1e-5) + of_tables, rel=1e-9)


def test_an_error_of_the_law_is_one_of_b_of_z_along_its_root_and_of_the_weights():
    z, b, law, relaxation = SOLUTIONS["vectors"], SOLUTIONS["sources"], 1e-6, 3.0
    of_b = 2 * law * b
    of_z = of_b * relaxation + law * z
    expected = 2 * of_z * b + (2 * z * of_z) / 4 + 2 * z * of_b + 2 * law * (2 * z * b + z * z / 4)
    assert bilinear(4, relaxation, of_law=law) == pytest.approx(expected, rel=1e-5)
    of_b = law * b
    of_z = of_b * relaxation + law * z
    expected = 2 * of_z * b + (2 * z * of_z) / 4 + 2 * z * of_b + law * (2 * z * b + z * z / 4)
    assert bilinear(4, relaxation, of_sums=law) == pytest.approx(expected, rel=1e-5)


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
        assert bounds.variance_time_gradient_bound(time, off) == pytest.approx(1e-6, rel=1e-6)
    q, by_q = chain_q_struct_gradient(tk.gibbs_chain(W), DATA, 100.0, Solve(method))
    assert bounds.q_struct_gradient_bound(q, by_q.W, DATA) <= 2e-14 * np.abs(by_q.W).max()
    assert bounds.q_struct_gradient_bound(q, by_q.W + 1e-6, DATA) == pytest.approx(1e-6, rel=1e-6)


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
