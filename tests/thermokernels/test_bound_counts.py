"""How often bounds let every number round: each count against one that is derived here, from the operations that stand in the code.

True errors lie below a count that is too short by a few, so that no planted error of a test tells two counts apart: the counts themselves
are compared, of a model so gentle that second orders vanish beside them. u = 2^-53, w = 2^-64.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.common.errors import ConstantError
from thermokernels.model import extended, laws, rounding
from thermokernels.model.extended import ExtendedChain
from thermokernels.model.laws import divergence_error
from thermokernels.quantities import alternating_scan, asymptotic_variance, conductance, first_passage, relevance, variance_time
from thermokernels.quantities.autocorrelation_times import autocorrelation
from thermokernels.quantities.scan_layers import Layers, Sources
from thermokernels.solvers import entrywise, gap_bounds, layer_bounds, slow_cluster
from thermokernels.solvers.small import small_chains
from thermokernels.solvers.state_reduction import gth_elimination, reduced_gap, reduced_resolvent, solution_differences

U, LONG = 2.0**-53, 2.0**-64
PLANTED = 1e-3
W = np.array([[0.11, -0.03, 0.02], [0.04, 0.09, -0.06]])  # two visible spins, three hidden ones
SINGLE, BLOCK, SYMMETRIC = (tk.gibbs_chain(W, kernel=kernel) for kernel in ("single-site", "two-block", "symmetrised-alternating"))
VISIBLE, HIDDEN = (tk.gibbs_chain(W, kernel=f"alternating-{layer}", quotient=False) for layer in ("visible", "hidden"))
LAYERS = Layers(tk.Model(W))

# N = 5 spins, pairs of 4 hidden and 4 visible configurations: 16 states
LAW, RATE = 16, 12
FACTORS = {"two-block": 3, "symmetrised-alternating": 5, "visible": 5}

COUNTS = {
    "law: exp, sum and quotient": (lambda: rounding.law_error(SINGLE), LAW),
    "law of a layer, two errors of each of three logarithms": (lambda: rounding.law_error(VISIBLE), LAW + 2 * 3 * 3),
    "law of the other layer": (lambda: rounding.law_error(HIDDEN), LAW + 2 * 3 * 2),
    "rates": (lambda: rounding.input_error(SINGLE), RATE),
    "entries of single flips, a sum of N of them": (lambda: rounding.entry_error(SINGLE), RATE + 5),
    "entries of two blocks": (lambda: rounding.entry_error(BLOCK), FACTORS["two-block"] * RATE + 10),
    "entries of two blocks after each other": (lambda: rounding.entry_error(SYMMETRIC), FACTORS["symmetrised-alternating"] * RATE + 10),
    "S on one layer, spins of sums over the other": (
        lambda: rounding.coupling_error(VISIBLE),
        FACTORS["visible"] * (RATE + 3) + 10 + VISIBLE.n_configurations,
    ),
    "P on one layer": (
        lambda: rounding.entry_error(VISIBLE),
        FACTORS["visible"] * (RATE + 3) + 10 + VISIBLE.n_configurations + LAW + 2 * 3 * 3,
    ),
    "the coupling of two layers: roots of probabilities, each with a root and two products": (
        lambda: layer_bounds._entry_error(SINGLE),
        5 * (RATE / 2 + 3) + 2,
    ),
    "products A z of single flips": (lambda: rounding.product_error(SINGLE), 2 * (5 + 2)),
    "products A z of blocks": (lambda: rounding.product_error(BLOCK), BLOCK.n_configurations + 16),
    "energy of both layers": (lambda: rounding.energy_error(SINGLE), np.abs(W).sum()),
    "energy of one layer": (lambda: rounding.energy_error(VISIBLE), np.abs(W).sum() + 5 + 3 * 3),
    "conductance: pi twice, a rate, sums on the way to one number": (
        lambda: conductance.conductance_error(SINGLE),
        2 * LAW + RATE + 5 + 2 * (8 + 5 + 8),
    ),
    "variance: the law twice, sums": (
        lambda: asymptotic_variance.total_variance(SINGLE)[1] / asymptotic_variance.total_variance(SINGLE)[0],
        2 * (LAW + 2 * (8 + 6 + 8)),
    ),
    "means of a basis": (lambda: relevance._rounding(SINGLE), LAW + 8 + 8),
    "rates of a reduction, single flips": (lambda: gth_elimination.rate_error(SINGLE), RATE),
    "rates of a reduction, blocks": (lambda: gth_elimination.rate_error(BLOCK), FACTORS["two-block"] * RATE + 10 + 16),
    "flows: pi twice, sums over the spins": (lambda: solution_differences.flow_error(SINGLE), 2 * LAW + 5 + 8),
    "elimination in float64": (
        lambda: gth_elimination.eliminate_in_float64(SINGLE, reduced_resolvent.ground_state(SINGLE)).precision,
        5.5 * 15**2 + 10 * 15 + 2 * 15 * RATE,
    ),
    "law of an exchangeable model": (
        lambda: tk.exchangeable_chain(np.full((2, 3), 0.01)).lumped.law_error,
        2 * (2 * 2 + 8) * (5 * math.log(2) + 0.06) + 16,
    ),
    "entries of an exchangeable model": (
        lambda: tk.exchangeable_chain(np.full((2, 3), 0.0)).lumped.entry_error,
        2 * 2 + 16,
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_every_rounding_is_counted_once(name):
    found, count = COUNTS[name]
    assert found() / U == pytest.approx(count, rel=1e-6, abs=0)


@pytest.mark.skipif(not extended.AVAILABLE, reason="long double is float64 here")
def test_every_rounding_of_long_double_is_counted_once():
    tables = ExtendedChain(SINGLE)
    largest, total = float(np.abs(W).sum(axis=1).max()), float(np.abs(W).sum())
    of_rates, of_law = 4 * largest + 12, 8 * total + 16 + 8  # fields to 1e-10 u are as good as w
    assert tables.rate_error / LONG == pytest.approx(of_rates + 4 * largest * 1e-10 * U / LONG, rel=1e-9, abs=0)
    assert tables.law_error / LONG == pytest.approx(of_law + 8 * total * 1e-10 * U / LONG, rel=1e-9, abs=0)
    _, error = extended.transition_rates(tables)
    assert error / LONG == pytest.approx(tables.rate_error / LONG + SINGLE.n_configurations + 4 * 5 + 8, rel=1e-9, abs=0)
    for chain, factors in ((BLOCK, FACTORS["two-block"]), (SYMMETRIC, FACTORS["symmetrised-alternating"]), (VISIBLE, 5), (HIDDEN, 5)):
        tables = ExtendedChain(chain)
        _, of_blocks = extended.transition_rates(tables)
        assert of_blocks / LONG == pytest.approx(factors * tables.rate_error / LONG + chain.n_configurations + 28, rel=1e-9, abs=0)
    m, found = 15, gth_elimination.eliminate_extended(SINGLE, reduced_resolvent.ground_state(SINGLE))
    exact = (0.7 * m**3 + 4 * m**2 + 8 * m) + 2 * m * (error / LONG + 16)
    assert found.exact / LONG == pytest.approx(exact, rel=1e-9, abs=0)
    assert found.precision / LONG == pytest.approx(exact + m**2 + 6 * m, rel=1e-9, abs=0)
    rounded = gth_elimination.eliminate(SINGLE, reduced_resolvent.ground_state(SINGLE))
    assert rounded.precision == pytest.approx((m**2 + 6 * m) * U + found.exact, rel=1e-9, abs=0)
    assert rounded.of_paths == pytest.approx((m + 1) * U + 1.5 * found.exact, rel=1e-9, abs=0)


@pytest.mark.parametrize(("chain", "times"), [(SINGLE, 2), (BLOCK, 1)])
def test_what_rounds_in_an_observable(chain, times):
    row_sums = SimpleNamespace(arrays={"sums": np.zeros((6, 6))}, additions=11)
    found = variance_time.rounding(chain, row_sums)
    assert found.product == rounding.product_error(chain)
    assert found.source / U == pytest.approx(6 + 11 + 6 + LAW, rel=1e-6, abs=0)
    assert found.mean / U == 2 * (8 + 8)
    assert found.entries == times * rounding.entry_error(chain)
    many = SimpleNamespace(arrays={"sums": np.zeros((40, 6))}, additions=11)
    assert variance_time.rounding(chain, many).source / U == pytest.approx(6 + 11 + 8 + 5 + LAW, rel=1e-6, abs=0)


def test_error_terms_are_those_of_residuals_and_of_rounding(monkeypatch):
    sums = np.array([[0.0, 0.0, 4e-12, 9.0, 16.0, 2.0]])
    row_sums = SimpleNamespace(arrays={"sums": sums}, additions=3)
    lost = variance_time.rounding(SINGLE, row_sums)
    squares, moved = variance_time.error_terms(SINGLE, row_sums, 7.0)
    assert squares[0] == pytest.approx(7 * (2e-6 + 3 * lost.product) ** 2, rel=1e-12, abs=0)
    assert moved[0] == pytest.approx((4 * lost.source + lost.mean**2) * 3 + 2 * lost.entries, rel=1e-12, abs=0)
    large = small_chains.Rounding(0.1, 0.02, 0.3, 0.05)  # so large that the square of that of the mean is seen
    monkeypatch.setattr(variance_time, "rounding", lambda *_: large)
    squares, moved = variance_time.error_terms(SINGLE, row_sums, 7.0)
    assert squares[0] == pytest.approx(7 * (2e-6 + 0.3) ** 2, rel=1e-12, abs=0)
    assert moved[0] == pytest.approx((4 * 0.02 + 0.09) * 3 + 0.05 * 2, rel=1e-12, abs=0)
    together = small_chains._error_terms(np.vstack([sums, 4 * sums]), large)
    of_others = (8 * 0.02 + 0.09) * 6 + 0.05 * 8
    assert together == pytest.approx((5 * (2e-6 + 0.3) ** 2, moved[0] + of_others), rel=1e-12, abs=0)


def test_what_rounds_in_an_autocorrelation_time():
    chain, centred = SINGLE, SINGLE.energy[:, None] - SINGLE.law @ SINGLE.energy
    responses = np.linspace(-1, 2, 16)[:, None]
    _, sizes = chain.generator_terms(responses)
    of_law, of_entries = 3 * LAW + 4 * 8, RATE + 5 + 4 * (chain.n_configurations + 5)
    expected = chain.law @ (of_law * np.abs(centred * responses) + of_entries * np.abs(responses) * sizes)
    np.testing.assert_allclose(autocorrelation._rounding(chain, centred, responses) / U, expected, rtol=1e-6)


@pytest.mark.parametrize("chain", [SINGLE, BLOCK])
def test_what_rounds_in_rates_out_of_a_set(chain):
    times = np.linspace(1, 2, 16)
    _, sizes = chain.generator_terms(times)
    if chain is SINGLE:
        expected = (4 * (5 + 4) + 2 * (RATE + 5)) * times
    else:
        expected = (2 * (2 * chain.n_configurations + 8) + FACTORS["two-block"] * RATE + 10) * sizes
    lost = chain.apply_generator(times) - gap_bounds._net_rates(chain, times)
    np.testing.assert_allclose(lost / U, expected, rtol=1e-2)


def test_what_rounds_in_sources_at_a_state():
    shifted = np.linspace(-1, 2, 16)[:, None]
    of_mean = LAW + SINGLE.n_configurations + 16
    expected = of_mean * (SINGLE.law @ np.abs(shifted)) + 2 * (np.abs(shifted) + np.abs(SINGLE.law @ shifted))
    np.testing.assert_allclose(entrywise._rounding_of_sources(SINGLE, shifted) / U, expected, rtol=1e-6)
    means = SINGLE.law @ np.abs(shifted)
    found = reduced_resolvent._rounding_of_sources(SINGLE, reduced_resolvent.law(SINGLE), shifted)
    np.testing.assert_allclose(found / U, 2 * np.abs(shifted) + (2 * LAW + 4) * means, rtol=1e-6)


def test_what_rounds_in_the_scan(monkeypatch):
    """|r1| |r2| / gamma from residuals, e (|z1| + |z2| + e / gamma) from sources, h |z1| |z2| from C, variances, and what adds them up."""
    near, far = LAYERS.of_near(np.eye(LAYERS.chain.n_states)[:2]), LAYERS.of_far(np.eye(LAYERS.far_root.size)[:2])
    sources = Sources.of_both(LAYERS, near, far, np.array([0.5, 0.7]), 1e-3)
    times = alternating_scan.solved(LAYERS, sources, 1e-3)
    z1, z2, r1, r2 = (
        np.linalg.norm(part, axis=1) for part in (times.left.vectors, times.right.vectors, times.left.residuals, times.right.residuals)
    )
    chain, gap = LAYERS.chain, alternating_scan.gap_of_records(LAYERS)
    sums = 2 * (sum(LAYERS.system.coupling.shape) + 8)
    of_inputs = (0.5 * (rounding.law_error(chain) + rounding.coupling_error(chain)) / U + 0.5 * sums + 8) * U
    expected = (
        (r1 + sums * U * z1) * (r2 + sums * U * z2) / gap
        + of_inputs * (z1 + z2 + of_inputs / gap)
        + rounding.coupling_error(chain) * z1 * z2
        + 8 * U * np.abs(times.values)
    )
    np.testing.assert_allclose(times.bounds - 1e-3 * np.array([0.5, 0.7]), expected, rtol=1e-9, atol=1e-18)
    exact = alternating_scan.solved(LAYERS, sources, 1e-12)
    left = exact.bounds - 1e-3 * np.array([0.5, 0.7])
    assert (left < 1e-12).all()
    for name, share in (("law_error", 0.5), ("coupling_error", 0.5)):
        monkeypatch.setattr(alternating_scan, name, lambda _: 1e-6)
        moved = alternating_scan.solved(LAYERS, sources, 1e-12).bounds - exact.bounds
        assert (moved >= share * 0.99e-6 * (z1 + z2)).all()
        monkeypatch.undo()


@pytest.mark.parametrize("rows", [6, 100])
def test_sums_over_observables_round_with_their_number(rows):
    part = SimpleNamespace(
        values=np.full(rows, 2.0),
        bounds=np.zeros(rows),
        sources=SimpleNamespace(variances=np.full(rows, 1.0), variance_error=0.0),
    )
    time = alternating_scan.AlternatingTime(LAYERS, {"couplings": part})
    additions = {6: 6, 100: 8 + 12}[rows] + 3
    assert time.bound == pytest.approx(additions * U * 2 * rows, rel=1e-12, abs=0)
    assert time.variance_error == pytest.approx(additions * U * rows, rel=1e-12, abs=0)
    expected = 2 * time.bound + time.variance_error + 4 * U * (4 * rows + rows)
    assert time.asymptotic_variance_bound == pytest.approx(expected, rel=1e-9, abs=0)


@pytest.mark.parametrize(("terms", "additions"), [(1, 1), (30, 29), (200, 24 + 8), (5000, 24 + 13)])
def test_a_sum_of_numpy_has_so_many_additions(terms, additions):
    assert first_passage._additions(terms) == additions


def test_a_mean_of_hitting_times_rounds_twice_in_sum():
    start, target = np.isin(np.arange(16), [1, 2, 5]), np.arange(16) == 0
    found = first_passage.solve_mean_first_passage(SINGLE, start, target)
    assert (found.relative_bound - found.hitting.relative_bound) / U == pytest.approx(2 * LAW + 2 * (3 + 3), rel=1e-3, abs=0)


def test_a_divergence_rounds_in_fields_weights_logarithms_and_sums(monkeypatch):
    data, model = np.array([0.4, 0.3, 0.2, 0.1]), tk.Model(W)
    columns, law = np.abs(W).sum(axis=0), tk.visible_law(W)
    largest = columns.sum() + 3 * math.log(2)
    of_weights = 3 * ((2 + 1) * columns.max() + 8) + (5 + 12) * largest
    of_laws = 2 * of_weights + 4 * largest + 4 + 16
    ratios = np.log(data / law)
    errors = of_laws + 2 * (np.abs(np.log(data)) + np.abs(ratios))
    expected = np.abs(data - law) * errors + (4 + 4) * (data * np.abs(ratios) + np.abs(data - law))
    expected = expected.sum() + (4 + 1) * (data * np.abs(ratios)).sum()
    assert divergence_error(data, model) / U == pytest.approx(expected, rel=1e-6, abs=0)
    monkeypatch.setattr(laws, "UNIT", 1e-3)  # so large that second orders are seen: of the curvature, and of the law that it is under
    errors = 1e-3 * errors
    moved = np.abs(data - law) * errors + law * errors**2 + (4 + 4) * 1e-3 * (data * np.abs(ratios) + np.abs(data - law))
    expected = moved.sum() * (1 + 1e-3 * of_laws) + (4 + 1) * 1e-3 * (data * np.abs(ratios)).sum()
    assert divergence_error(data, model) == pytest.approx(expected, rel=1e-9, abs=0)
    assert divergence_error(data * (1 + 1e-10), model) == pytest.approx(expected, rel=1e-12, abs=0)
    certain = np.array([1.0, 0.0, 0.0, 0.0])  # states that the data do not have count with their law only
    assert np.isfinite(divergence_error(certain, model))


def test_a_slow_cluster_rounds_in_products_and_sums_over_states():
    chain = tk.gibbs_chain(np.diag([1.0, 1.0, 1.0]))
    found = slow_cluster.slow_cluster(chain, 1e-6)
    size = len(found.values)
    counted = 2 * rounding.entry_error(chain) / U + 2 * (6 + sum(chain.shape) + size + 8)
    assert counted <= found.rounding / U <= counted + 2 * 64  # the size is that of the block that was iterated


def test_an_eigendecomposition_is_as_good_as_what_it_leaves():
    """For A = V L V' + E with V off an orthogonal matrix: |E| and |V'V - 1| with their own roundings."""
    draws = np.random.default_rng(1)
    matrix = draws.normal(size=(6, 6))
    matrix = matrix + matrix.T
    eigenvalues, vectors = np.linalg.eigh(matrix)
    right = reduced_gap.eigenvalue_error(matrix, eigenvalues, vectors)
    assert right <= 1e-12
    moved = eigenvalues + np.array([1e-6, 0, 0, 0, 0, 0])
    assert 1e-6 - 1e-12 <= reduced_gap.eigenvalue_error(matrix, moved, vectors) <= 1e-6 + 1e-11
    stretched = (1 + 1e-6) * vectors
    assert reduced_gap.eigenvalue_error(matrix, eigenvalues, stretched) >= 2e-6 * np.abs(eigenvalues).max()


def test_records_of_every_kth_step_have_the_gap_of_so_many():
    assert autocorrelation._recorded_gap(SINGLE, 0.2, 1) == pytest.approx(0.2, rel=1e-12, abs=0)
    assert autocorrelation._recorded_gap(SINGLE, 0.2, 3) == pytest.approx(1 - 0.8**3, rel=1e-12, abs=0)
    assert autocorrelation._recorded_gap(SINGLE, None, 2) == pytest.approx(1 - (1 - tk.gap_lower_bound(SINGLE)) ** 2, rel=1e-12, abs=0)


@pytest.mark.parametrize("every", [1, 3])
def test_what_a_solve_of_an_autocorrelation_leaves_counts_in_the_square(every, monkeypatch):
    """Off along the slowest mode, on which nothing is left over: the time is short by just |r|^2 / gap."""
    chain = tk.gibbs_chain(10 * W)
    gaps, modes = np.linalg.eigh(chain.symmetrised_generator_matrix() + 2 * np.outer(chain.root_law, chain.root_law))
    function = chain.energy[:, None] - chain.law @ chain.energy
    arguments = chain, function, function, gaps[0], every
    (right,), (certain,) = autocorrelation._from_residuals(*arguments)
    solve = autocorrelation.solved
    off = (modes[:, 0] / chain.root_law)[:, None]
    monkeypatch.setattr(autocorrelation, "solved", lambda *given: solve(*given) + 1e-3 * off)
    (found,), (bound,) = autocorrelation._from_residuals(*arguments)
    recorded = 1 - (1 - gaps[0]) ** every
    assert abs(found - right) == pytest.approx(1e-6 * recorded, rel=1e-3, abs=0)
    assert abs(found - right) <= bound + certain
    assert certain < 1e-3 * abs(found - right)
    assert bound - certain == pytest.approx(1e-6 * recorded, rel=1e-3, abs=0)


def test_a_function_that_varies_by_no_more_than_a_few_roundings_is_constant():
    signs = np.where(np.arange(16) % 2, 1.0, -1.0)[:, None]
    with pytest.raises(ConstantError, match="does not vary"):
        autocorrelation.autocorrelation_times(SINGLE, 1 + 4 * U * signs)
    assert np.isfinite(autocorrelation.autocorrelation_times(SINGLE, 1 + 1e-9 * signs)[0]).all()


def test_rates_move_a_hitting_time_by_the_lesser_of_two_bounds():
    """By the tree formula 2 m - 1 errors of a rate, or one for all that flows while the target is not hit."""
    free, error = np.arange(16) >= 3, rounding.entry_error(SINGLE)
    slow, even = np.linspace(1, 1e6, 16), np.full(16, 1e-3)
    assert first_passage._rate_rounding(SINGLE, slow, free) == pytest.approx((2 * 13 - 1) * error, rel=1e-12, abs=0)
    flows = SINGLE.generator_terms(even)[1][free].max()
    assert first_passage._rate_rounding(SINGLE, even, free) == pytest.approx(error * flows, rel=1e-12, abs=0)
    flows = BLOCK.generator_terms(slow)[1][free].max()
    assert first_passage._rate_rounding(BLOCK, slow, free) == pytest.approx(rounding.entry_error(BLOCK) * flows, rel=1e-12, abs=0)


def test_a_variance_of_products_is_off_by_both_of_its_factors_together():
    """4 p (1 - p) of p = Pr(v h = 1): where p is off by e of itself and 1 - p too, by 2 e |2 p - 1|."""
    variances, errors = alternating_scan._product_variances(LAYERS, "pm1")
    means = variance_time.correlations(SINGLE, SINGLE.law)
    means = means if means.shape == variances.shape else means.T
    np.testing.assert_allclose(variances, 1 - means**2, rtol=1e-13)
    of_sums = rounding.law_error(LAYERS.chain) + rounding.input_error(LAYERS.chain) + (LAYERS.chain.n_states + 4) * U
    np.testing.assert_allclose(errors, 2 * of_sums * np.abs(means) + 8 * U, rtol=1e-9)


def test_a_mean_may_lack_what_underflows(monkeypatch):
    """A weight below the smallest double may be lost of each state, with the largest time at most."""
    times = np.ones(16)
    times[0], times[9] = 0.0, 1e300
    monkeypatch.setattr(first_passage, "solve_hitting_times", lambda *_: SimpleNamespace(times=times, relative_bound=0.0))
    for scale in (1.0, 8.0):
        monkeypatch.setattr(first_passage, "mean_over", lambda *_, scale=scale: scale)
        found = first_passage.solve_mean_first_passage(SINGLE, np.isin(np.arange(16), [1, 2, 5]), np.arange(16) == 0)
        assert found.relative_bound == pytest.approx(3 * np.finfo(float).tiny * 1e300 / scale, rel=1e-5, abs=0)


@pytest.mark.parametrize("every", [1, 3])
def test_what_sums_of_powers_round_is_missed_twice(every, monkeypatch):
    """Of every k-th state M u is right to k^2 (N + 3) u |u|: in what the system leaves, squared, and in its product with y."""
    chain, function = SINGLE, SINGLE.energy[:, None] - SINGLE.law @ SINGLE.energy
    responses = np.linspace(-1, 2, 16)[:, None]
    monkeypatch.setattr(autocorrelation.reduced_resolvent, "resolvent", lambda *_: (responses, 0 * responses))
    monkeypatch.setattr(autocorrelation, "_rounding", lambda *_: np.zeros(1))
    values = autocorrelation._invert_sum(chain, function, every)
    monkeypatch.setattr(autocorrelation, "EPSILON", PLANTED)
    (total,), (error,) = autocorrelation._from_reduction(chain, function, function, 0.2, every)
    missed = 0.0 if every == 1 else every**2 * (5 + 3) * PLANTED * math.sqrt(float(chain.law @ values[:, 0] ** 2))
    assert total == pytest.approx(float(chain.law @ (function * responses)[:, 0]), rel=1e-9, abs=0)
    size = math.sqrt(float(chain.law @ responses[:, 0] ** 2))
    expected = missed * size + missed**2 / autocorrelation._recorded_gap(chain, 0.2, every)
    assert error == pytest.approx(expected, rel=1e-6, abs=1e-300)
