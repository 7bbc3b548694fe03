"""Every term of a bound stands for an error: one of known size, planted in what the term is about, has to be covered with the term and
not without it. True rounding lies 10 to 1,000 times below the bounds: their validity alone would let a term be dropped."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.diagnosis import diagnose
from thermokernels.model import rounding
from thermokernels.quantities import asymptotic_variance, first_passage, landscape, spectral_gap, spectral_measure
from thermokernels.quantities import conductance as conductance_module
from thermokernels.quantities import relevance as relevance_module
from thermokernels.quantities.autocorrelation_times.autocorrelation import autocorrelation_times
from thermokernels.quantities.relevance import ObservableBasis, observable_basis
from thermokernels.quantities.signal_to_noise import QStruct
from thermokernels.solvers.resolvent import solve_resolvent

W = np.array([[1.1, -0.3, 0.2], [0.4, 0.9, -0.6]])
PLANTED = 1e-3


@pytest.mark.parametrize("angle", [1e-3, 0.1, 0.5])
def test_temple_takes_the_whole_square_of_the_residual(angle):
    """In two dimensions Temple's bound is the eigenvalue itself."""
    lowest, next_ = 0.2, 0.9
    value = lowest * math.cos(angle) ** 2 + next_ * math.sin(angle) ** 2
    residual = abs(math.cos(angle) * math.sin(angle)) * (next_ - lowest)
    bound = spectral_gap._temple(value, residual, 0.0, next_)
    assert bound == pytest.approx(lowest, rel=1e-13)
    assert value - residual**2 / 4 / (next_ - value) > lowest * (1 + 1e-7)
    assert spectral_gap._temple(value, residual, 0.01, next_) < bound - 0.01
    assert spectral_gap._temple(value, residual, 0.0, value) == 0.0


def test_a_barrier_is_off_by_the_errors_of_two_energies(monkeypatch):
    chain = tk.gibbs_chain(np.array([[2.0, 0.1], [0.3, 1.5]]))
    (event, *_) = landscape.merge_tree(chain).events
    energy = chain.energy.copy()
    bottom = int(np.flatnonzero(event.dying)[chain.energy[event.dying].argmin()])
    energy[np.isclose(energy, event.saddle_energy)] += PLANTED
    energy[bottom] -= PLANTED
    (moved, *_) = landscape.merge_tree(replace(chain, energy=energy)).events
    assert moved.barrier - event.barrier == pytest.approx(2 * PLANTED, rel=1e-9)
    monkeypatch.setattr(landscape, "energy_error", lambda _: PLANTED)
    bound = landscape.merge_tree(chain).barrier_error
    assert bound / 2 < moved.barrier - event.barrier <= bound * (1 + 1e-12)


def test_a_law_is_off_by_the_errors_of_two_energies(monkeypatch):
    chain = tk.gibbs_chain(3 * W, kernel="alternating-visible")  # of both layers, energies carry their remainders
    rare = int(chain.law.argmin())
    energy = chain.energy - PLANTED
    energy[rare] += 2 * PLANTED
    weights = np.exp(energy.min() - energy)
    moved = 1 - (weights / weights.sum())[rare] / chain.law[rare]
    monkeypatch.setattr(rounding, "marginal_error", lambda _: PLANTED)
    bound = rounding.law_error(chain)
    assert bound / 2 < moved <= bound


@pytest.mark.parametrize("term", ["entry_error", "law_error"])
def test_a_conductance_is_off_by_the_errors_of_entries_and_law(term, monkeypatch):
    chain = tk.gibbs_chain(W)
    mask = np.arange(chain.n_states) < 5
    right = tk.conductance(chain, mask)
    if term == "entry_error":
        off = replace(chain, visible_rates=(1 + PLANTED) * chain.visible_rates, hidden_rates=(1 + PLANTED) * chain.hidden_rates)
    else:  # the flow goes with sqrt(pi_x pi_y), and is divided by the mass of the smaller side
        law = chain.law.copy()
        smaller = mask if law[mask].sum() < 0.5 else ~mask
        law[smaller] *= 1 - PLANTED
        off = replace(chain, law=law, root_law=chain.root_law * (1 + PLANTED / 2))
    moved = abs(tk.conductance(off, mask) / right - 1)
    for name in ("entry_error", "law_error"):
        monkeypatch.setattr(conductance_module, name, lambda _, own=name: PLANTED if own == term else 0.0)
    bound = conductance_module.conductance_error(chain)
    assert moved <= bound * (1 + 2 * PLANTED)
    monkeypatch.setattr(conductance_module, term, lambda _: 0.0)
    assert moved > conductance_module.conductance_error(chain)


def test_a_relevance_is_off_by_the_distortion_of_its_basis():
    basis = observable_basis(tk.gibbs_chain(W))
    mask = basis.chain.law.argsort()[:6]
    right = basis.relevance(mask)
    stretched = (1 + PLANTED) * basis.coefficients
    off = ObservableBasis(basis.chain, stretched, basis.mean, (1 + PLANTED) ** 2 - 1 + basis.distortion)
    value, bound = off.enclosed_relevance(mask)
    assert 0 < abs(value - right) <= bound
    assert abs(value - right) > replace(off, distortion=0.0).enclosed_relevance(mask)[1]


def test_an_autocorrelation_time_is_off_by_what_a_function_error_does_to_both_of_its_parts():
    """tau = 2 T / Var - 1: sqrt(T) moves by up to delta / sqrt(gap), sqrt(Var) by delta, by themselves from a dense solve."""
    chain = tk.gibbs_chain(W)
    function = chain.energy - chain.law @ chain.energy
    resolvent = np.linalg.inv(np.eye(chain.n_states) - chain.transition_matrix() + chain.law)
    time, variance = (chain.law * function) @ resolvent @ function, chain.law @ function**2
    gap = 1 - np.sort(np.linalg.eigvals(chain.transition_matrix()).real)[-2]
    (tau,), (with_error,), _ = autocorrelation_times(chain, function[:, None], gap_bound=gap, function_error=PLANTED)
    slower = (math.sqrt(time) + PLANTED / math.sqrt(gap)) ** 2
    narrower = (math.sqrt(variance) - PLANTED) ** 2
    assert tau == pytest.approx(2 * time / variance - 1, rel=1e-10)
    assert with_error >= (2 * slower / narrower - 1 - tau) * (1 - 1e-9)
    for partial in (2 * slower / variance - 1 - tau, 2 * time / narrower - 1 - tau):  # either part alone is too little
        assert with_error > 1.2 * partial


def test_a_window_is_off_by_the_error_of_the_signal(monkeypatch):
    data = [0.4, 0.3, 0.2, 0.1]
    right = tk.diagnose(W, p_data=data).window_for_unit_q
    solve = diagnose.q_struct_of

    def off(*arguments):
        q = solve(*arguments)
        return replace(q, signal=(1 + PLANTED) * q.signal, value=(1 + PLANTED) * q.value, signal_bound=PLANTED * q.signal)

    monkeypatch.setattr(diagnose, "q_struct_of", off)
    found = tk.diagnose(W, p_data=data).window_for_unit_q
    missed = abs(found.value - right.value)
    assert missed == pytest.approx(PLANTED * found.value, rel=1e-6)
    assert missed <= found.error * (1 + 2 * PLANTED)
    assert missed > 100 * right.error  # T_O's share


def test_an_edge_that_is_listed_twice_counts_twice():
    def model(edges, weights):
        ebm = SimpleNamespace(nodes=["x", "a"], biases=[0.0, 0.0], edges=edges, weights=weights, beta=2.0)
        return tk.from_thrml(ebm, visible=["x"], hidden=["a"])

    for other in (("x", "a"), ("a", "x")):
        np.testing.assert_array_equal(model([("x", "a"), other], [1.0, 0.5]).W, model([("x", "a")], [1.5]).W)


def test_a_relevance_is_off_by_the_error_of_the_law(monkeypatch):
    """Its means, and with them the basis, go with the law."""
    chain = tk.gibbs_chain(W)
    mask = chain.law.argsort()[:6]
    right = observable_basis(chain).relevance(mask)
    signs = np.where(np.isin(np.arange(chain.n_states), mask), 1.0, -1.0)
    off = replace(chain, law=chain.law * (1 + PLANTED * signs))
    missed = abs(observable_basis(off).relevance(mask) - right)
    assert missed > 1e-5
    assert missed > observable_basis(off).enclosed_relevance(mask)[1]  # rounding does not explain it
    monkeypatch.setattr(relevance_module, "law_error", lambda _: PLANTED)
    assert missed <= observable_basis(off).enclosed_relevance(mask)[1]


def test_a_weight_of_a_cluster_is_off_by_the_turn_of_its_modes():
    """Of three modes the first and the last are turned by a small angle: the weights of the cluster move, and gamma_eff with them."""
    angle, gaps, along = 1e-3, np.array([0.1, 0.15, 0.9]), np.array([6.0, 6.0, 8.0])

    def gamma_eff(weights):
        return weights[:2].sum() / (weights[:2] / gaps[:2]).sum()

    turned = along.copy()
    turned[0], turned[2] = math.cos(angle) * along[0] + math.sin(angle) * along[2], math.cos(angle) * along[2] - math.sin(angle) * along[0]
    weights = turned**2
    measure = SimpleNamespace(gaps=gaps, weights=weights, gamma_eff=gamma_eff(weights), relevant_gap=gaps[0])
    residual = (gaps[2] - gaps[0]) * math.sin(angle) * math.cos(angle)
    modes = SimpleNamespace(complete=True, gaps=gaps[:2], residuals=np.array([[residual], [0.0]]))
    nothing = SimpleNamespace(gaps=np.array([[2.0]]), weights=np.array([[1.0]]))
    moved = abs(gamma_eff(along**2) / gamma_eff(weights) - 1)
    bound = spectral_measure._uncertainty(measure, modes, nothing, 0.3, 0.0)
    assert moved <= bound
    second_order = 4 * (angle**2 * weights.sum() / weights[:2].sum() + angle)
    assert bound - second_order < moved + 100 * angle
    assert moved > second_order / 20


def test_a_weight_that_the_rules_may_have_misplaced_counts_at_the_slow_end_of_a_cluster():
    """All of a cluster decays three times as fast as its slowest mode, and of that there may be more than was seen."""
    gaps, weights, more = np.array([0.1, 0.299]), np.array([1e-3, 1.0]), 1e-4
    gamma_eff, moved = ((weights + off).sum() / ((weights + off) / gaps).sum() for off in (np.zeros(2), np.array([more, 0.0])))
    measure = SimpleNamespace(gaps=gaps, weights=weights, gamma_eff=gamma_eff, relevant_gap=gaps[0])
    modes = SimpleNamespace(complete=True, gaps=gaps, residuals=np.zeros((2, 1)))
    rules = SimpleNamespace(gaps=np.array([[0.1]]), weights=np.array([[more]]))
    bound, missed = spectral_measure._uncertainty(measure, modes, rules, 0.3, 0.0), abs(moved / gamma_eff - 1)
    assert bound / 4 < missed <= bound
    # what carries less than a share of 1e-12 is no eigenvalue that the modes may turn to
    for total in (1.0, 1e4):
        dust = SimpleNamespace(**vars(measure) | {"gaps": np.append(gaps, 0.301), "weights": total * np.append(weights, 1e-14)})
        turned = SimpleNamespace(**vars(modes) | {"residuals": np.full((2, 1), 1e-9)})
        nothing = SimpleNamespace(gaps=np.array([[2.0]]), weights=np.array([[1.0]]))
        assert spectral_measure._uncertainty(dust, turned, nothing, 0.3, 0.0) < 1e-7


def test_the_asymptotic_variance_is_off_by_twice_the_time_by_the_variances_and_by_the_rounding_of_their_difference(monkeypatch):
    def bound(lost, variance_error):
        monkeypatch.setattr(asymptotic_variance, "variance_of", lambda _: (3.0, variance_error))
        return asymptotic_variance.bound_of(SimpleNamespace(value=5.0, bound=lost))

    assert bound(PLANTED, 0.0) == pytest.approx(2 * PLANTED, rel=1e-9)
    assert bound(0.0, PLANTED) == pytest.approx(PLANTED, rel=1e-9)
    assert bound(0.0, 0.0) == pytest.approx(2 * 2.0**-52 * 13.0)


def test_the_error_of_an_entry_is_that_of_its_factors():
    """Relative errors of factors add up; the law that P of one layer lies between comes on top."""
    for kernel, factors in (("single-site", 1), ("two-block", 3), ("symmetrised-alternating", 5), ("alternating-visible", 5)):
        chain = tk.gibbs_chain(W, kernel=kernel)
        of_inputs = rounding.input_error(chain)
        error = rounding.coupling_error(chain) if kernel != "single-site" else rounding.entry_error(chain)
        assert factors * of_inputs < error <= (factors + 3) * of_inputs + chain.n_configurations * 2.0**-53
        assert rounding.entry_error(chain) == error + (rounding.law_error(chain) if chain.dynamics.layer else 0.0)


def test_a_product_rounds_as_often_as_it_has_terms():
    single, block = (tk.gibbs_chain(np.full((4, 6), 0.1), kernel=kernel) for kernel in ("single-site", "two-block"))
    assert rounding.product_error(single) == 2 * 12 * 2.0**-53
    assert rounding.product_error(block) == (2**4 + 2**5 + 16) * 2.0**-53


# Relative bounds of a gentle model, all below: a term that were no small number would be larger.
GENTLE = 0.4 * W
SMALL = 3e-12


@pytest.mark.parametrize("kernel", ["single-site", "two-block", "symmetrised-alternating"])
def test_no_bound_of_a_gentle_model_is_more_than_roundings(kernel):
    chain = tk.gibbs_chain(GENTLE, kernel=kernel)
    q = tk.q_struct(GENTLE, [0.4, 0.3, 0.2, 0.1], kernel=kernel)
    for value, bound in (
        (q.value, q.bound),
        (q.signal, q.signal_bound),
        (q.t_obs, q.t_obs_bound),
        (q.asymptotic_variance, q.asymptotic_variance_bound),
        (q.q_limit, q.q_limit_bound),
    ):
        assert 0 < bound <= SMALL * value
    gap = spectral_gap.solve_spectral_gap(chain)
    assert 0 < gap.bound <= SMALL * gap.value
    start, target = (np.isin(np.arange(chain.n_states), states) for states in ([1, 2, 5], [0, 9]))
    for method in ("auto", "symmetrised", "reduction"):
        first = first_passage.solve_mean_first_passage(chain, start, target, method)
        assert 0 < first.hitting.relative_bound <= first.relative_bound <= SMALL
    for method in ("auto", "cholesky", "reduction"):
        response = solve_resolvent(chain, chain.energy[:, None], method)
        assert (response.bound <= SMALL * np.abs(response.values).max()).all()
        assert (response.bound > 0).all()
    assert 0 < conductance_module.conductance_error(chain) <= SMALL
    assert 0 < landscape.merge_tree(chain).barrier_error <= SMALL
    value, bound = observable_basis(chain).enclosed_relevance(start)
    assert 0 < bound <= 10 * SMALL * value
    (tau,), (error,), _ = autocorrelation_times(chain, chain.energy[:, None])
    assert 0 < error <= SMALL * tau
    measure = tk.spectral_measure(chain)
    assert 0 < measure.relevant_gap_bound <= SMALL * measure.relevant_gap
    assert 0 < measure.gamma_eff_error <= 10 * SMALL


def test_no_bound_of_the_scan_or_of_an_exchangeable_model_is_more_than_roundings():
    q = tk.q_struct(GENTLE, [0.4, 0.3, 0.2, 0.1], kernel="alternating")
    for value, bound in ((q.value, q.bound), (q.t_obs, q.t_obs_bound), (q.asymptotic_variance, q.asymptotic_variance_bound)):
        assert 0 < bound <= SMALL * value
    for observables in ("products", "expected"):
        time = tk.alternating_variance_time(GENTLE, observables=observables, fields=True)
        assert 0 < time.bound <= SMALL * time.value
        assert 0 < time.variance_error <= SMALL * time.variance
    chain = tk.exchangeable_chain(np.full((3, 4), 0.1))
    first = first_passage.solve_mean_first_passage(chain, [1], [0])
    assert 0 < first.relative_bound <= SMALL


def test_a_mean_of_hitting_times_is_off_by_the_law_above_and_below(monkeypatch):
    chain = tk.gibbs_chain(W)
    start, target = np.isin(np.arange(chain.n_states), [1, 2, 5]), np.arange(chain.n_states) == 0
    right = first_passage.solve_mean_first_passage(chain, start, target)
    times, law = right.hitting.times[start], chain.law[start]
    slower = law * np.where(times > right.value, 1 + PLANTED, 1 - PLANTED)
    moved = slower @ times / slower.sum() / right.value - 1
    monkeypatch.setattr(first_passage, "law_error", lambda _: PLANTED)
    found = first_passage.solve_mean_first_passage(chain, start, target)
    assert moved <= found.relative_bound <= 2 * PLANTED + right.relative_bound
    assert found.relative_bound - right.hitting.relative_bound >= 2 * PLANTED


def rotated(chain, angle):
    """The slowest mode turned towards the next, rho and the residual of it."""
    gaps, modes = np.linalg.eigh(chain.symmetrised_generator_matrix() + 2 * np.outer(chain.root_law, chain.root_law))
    vector = math.cos(angle) * modes[:, 0] + math.sin(angle) * modes[:, 1]
    return vector, gaps[0] * math.cos(angle) ** 2 + gaps[1] * math.sin(angle) ** 2, math.sin(angle) * math.cos(angle) * (gaps[1] - gaps[0])


@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
@pytest.mark.parametrize("rayleigh", [spectral_gap._rayleigh, spectral_gap._extended_rayleigh])
def test_a_vector_that_is_no_mode_has_the_residual_of_its_turn(kernel, rayleigh):
    chain = tk.gibbs_chain(W, kernel=kernel)
    for angle in (0.0, 1e-3, 0.3):
        vector, value, residual = rotated(chain, angle)
        found = rayleigh(chain, 3 * vector + 0.2 * chain.root_law)  # of any length, and whatever it has along the law
        assert found[0] == pytest.approx(value, rel=1e-12)
        assert residual - 1e-14 <= found[1] <= residual + 1e-12
        assert 0 < found[2] <= 1e-13


def test_errors_of_a_rayleigh_quotient_are_counted(monkeypatch):
    chain = tk.gibbs_chain(W)
    right = spectral_gap._rayleigh(chain, rotated(chain, 0.0)[0])[2]
    counted = 2 * rounding.entry_error(chain) + 2 * (5 + 12 + 8) * 2.0**-53 + rounding.law_error(chain) ** 2
    assert right == pytest.approx(counted, rel=1e-12)
    monkeypatch.setattr(spectral_gap, "law_error", lambda _: PLANTED)  # of first order where x is along psi, and x is not
    assert spectral_gap._rayleigh(chain, rotated(chain, 0.0)[0])[2] == pytest.approx(right + PLANTED**2, rel=1e-6)


@pytest.mark.parametrize("reduced", [True, False])
def test_an_inertia_leaves_what_a_cholesky_decomposition_rounds(reduced, monkeypatch):
    """The diagonal is lowered by (n + 1 + 4 (N^2 + 4)) u of the trace of all that was added up."""
    factored = []

    def factor(matrix, **_):
        factored.append(matrix.copy())
        return matrix

    chain = tk.gibbs_chain(W)
    monkeypatch.setattr(spectral_gap.scipy.linalg, "cholesky", factor)
    monkeypatch.setattr(spectral_gap.red_black, "applies_to", lambda _: reduced)
    shift = 0.3 * float(chain.escape.min())
    for unit in (0.0, 1e-6):
        monkeypatch.setattr(spectral_gap, "UNIT", unit)
        assert spectral_gap._inertia(chain, shift) == shift
    n = len(factored[0])
    assert n == chain.n_states // (2 if reduced else 1)
    lowered = np.diag(factored[0] - factored[1])
    np.testing.assert_allclose(lowered, lowered[0], rtol=1e-9)
    if not reduced:
        factor = 4 * shift
        size = chain.escape.sum() + factor
        assert lowered[0] == pytest.approx(1.01 * (n + 1 + 4 * (5**2 + 4)) * 1e-6 * size, rel=1e-9)
    else:
        assert lowered[0] > 1.01 * (n + 1 + 4 * (5**2 + 4)) * 1e-6 * np.trace(factored[0])
        assert lowered[0] < 3 * 1.01 * (n + 1 + 4 * (5**2 + 4)) * 1e-6 * np.trace(factored[0] + shift * np.eye(n))


@pytest.mark.parametrize("total", [1e-2, 1.0, 1e2])
def test_the_doubt_of_a_cluster_is_its_turn_in_first_and_second_order(total):
    """All that can have moved, by the formula of the turn: 2 t sqrt(w W) + t^2 W, and one over the gap of it."""
    gaps, weights = np.array([0.1, 0.15, 0.9]), total * np.array([0.3, 0.2, 0.5])
    mass, rest, residual, planted = weights[:2].sum(), weights.sum(), 0.2, 1e-3 * total
    gamma_eff = mass / (weights[:2] / gaps[:2]).sum()
    measure = SimpleNamespace(gaps=gaps, weights=weights, gamma_eff=gamma_eff, relevant_gap=0.1)
    modes = SimpleNamespace(complete=True, gaps=gaps[:2], residuals=np.array([[residual], [0.0]]))
    rules = SimpleNamespace(gaps=np.array([[0.25, 0.5]]), weights=np.array([[planted, 7.0]]))
    angle = residual / (0.9 - 0.15)
    doubtful = 2 * angle * math.sqrt(mass * rest) + angle**2 * rest + planted
    spread = spectral_measure.CLUSTER_SPREAD
    expected = (1 + spread) * doubtful / mass + angle * residual / 0.1
    assert spectral_measure._uncertainty(measure, modes, rules, 0.3, 0.0) == pytest.approx(expected, rel=1e-12)
    missing = 1e-4
    everything = spectral_measure._uncertainty(measure, modes, rules, np.inf, missing)  # of a cluster of all modes
    assert everything == pytest.approx(missing * measure.gamma_eff / weights.sum(), rel=1e-9)


def test_errors_of_computed_modes_move_the_cluster(monkeypatch):
    """Turns of eigenvectors, of the law in the sources, and of gaps, one at a time."""
    chain = tk.gibbs_chain(W)
    gaps, weights = np.array([0.1, 0.15, 0.9]), np.array([3.0, 2.0, 5.0])
    measure = spectral_measure._measure(gaps, weights, 1)
    nothing = np.zeros(3)
    right = spectral_measure._with_errors(measure, chain, 0.0, 0.0, nothing)
    spread, mass, total = spectral_measure.CLUSTER_SPREAD, 5.0, 10.0
    for error, relative in ((PLANTED, 0.0), (0.0, PLANTED)):
        moved = error + relative * 0.15
        found = spectral_measure._with_errors(measure, chain, error, relative, nothing)
        assert found.relevant_gap_bound - right.relevant_gap_bound == pytest.approx(error + relative * 0.1, rel=1e-9)
        angle = moved / (0.9 - 0.15 - moved)
        lost = 2 * angle * math.sqrt(mass * 5.0) + angle**2 * total
        expected = (1 + spread) * lost / mass + 2 * (error / 0.1 + relative)
        assert found.gamma_eff_error - right.gamma_eff_error == pytest.approx(expected, rel=1e-9)
    apart = np.array([0.0, PLANTED, 0.0])
    found = spectral_measure._with_errors(measure, chain, 0.0, 0.0, apart)
    assert found.gamma_eff_error - right.gamma_eff_error == pytest.approx(2 * PLANTED**2, rel=1e-3)
    found = spectral_measure._with_errors(measure, chain, 0.0, 0.0, np.array([PLANTED, 0.0, 0.0]))
    assert found.relevant_gap_bound - right.relevant_gap_bound == pytest.approx(0.1 * PLANTED, rel=1e-9)
    monkeypatch.setattr(spectral_measure, "law_error", lambda _: PLANTED)
    found = spectral_measure._with_errors(measure, chain, 0.0, 0.0, nothing)
    law = (1 + spread) * 4 * total / mass
    assert found.gamma_eff_error - right.gamma_eff_error == pytest.approx(law * PLANTED, rel=1e-6)
    assert spectral_measure._with_errors(measure, chain, 0.8, 0.0, nothing).gamma_eff_error > 2  # no mode is told apart


def test_an_eigenvalue_is_off_by_entries_and_by_what_a_decomposition_rounds():
    chain = tk.gibbs_chain(W)
    assert spectral_measure._rounding(chain) == pytest.approx(2 * rounding.entry_error(chain) + 20 * 16 * 2.0**-53, rel=1e-12)


def test_slow_modes_and_gauss_rules_have_small_bounds_too(monkeypatch):
    """A chain for which all eigenvalues are computed elsewhere, by the way of large ones."""
    chain = tk.gibbs_chain(np.diag([1.5, 1.7]) + 0.05)
    right = tk.spectral_measure(chain)
    for name in ("DENSE_STATES", "DENSE_CLUSTER", "DENSE_FALLBACK"):
        monkeypatch.setattr(spectral_measure, name, 2)
    found = tk.spectral_measure(chain)
    assert abs(found.relevant_gap - right.relevant_gap) <= found.relevant_gap_bound + right.relevant_gap_bound
    assert found.relevant_gap_bound <= 2e-8 * found.relevant_gap
    assert abs(found.gamma_eff / right.gamma_eff - 1) <= found.gamma_eff_error + right.gamma_eff_error <= 1e-6


def test_a_diagnosis_takes_the_gap_that_is_proven_for_the_slowest_mode():
    chain_of = tk.gibbs_chain(W)
    found = tk.diagnose(W, p_data=[0.4, 0.3, 0.2, 0.1])
    gap, seen = spectral_gap.solve_spectral_gap(chain_of), tk.spectral_measure(chain_of)
    assert found.relevant_gap.certainty == "it is the gap, proven"
    assert found.relevant_gap.error == min(seen.relevant_gap_bound, abs(seen.relevant_gap - gap.value) + gap.bound)


@pytest.mark.parametrize("kernel", ["single-site", "alternating"])
def test_no_error_of_a_gentle_diagnosis_is_more_than_roundings(kernel):
    found = tk.diagnose(GENTLE, p_data=[0.4, 0.3, 0.2, 0.1], kernel=kernel)
    numbers = {name: value for name, value in vars(found).items() if getattr(value, "error", None) is not None}
    assert {"gap", "t_obs", "asymptotic_variance", "tau_gradient", "signal", "q"} <= set(numbers)
    for name, number in numbers.items():
        assert 0 < number.error <= 10 * SMALL * abs(number.value), name


@pytest.mark.parametrize("of_time", [0.0, PLANTED])
def test_a_mean_autocorrelation_time_is_off_by_time_and_variances(of_time, monkeypatch):
    """tau = 2 T / Var - 1."""
    right = tk.diagnose(GENTLE)
    monkeypatch.setattr(diagnose.asymptotic_variance, "variance_of", lambda _: (2.0, 2 * PLANTED))
    monkeypatch.setattr(QStruct, "t_obs_bound", property(lambda q: of_time * q.t_obs))
    found = tk.diagnose(GENTLE).tau_gradient
    assert found.value == right.tau_gradient.value
    assert found.error == pytest.approx((found.value + 1) * (PLANTED + of_time), rel=1e-9)
