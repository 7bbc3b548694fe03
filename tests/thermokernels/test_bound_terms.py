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
from thermokernels.quantities import asymptotic_variance, first_passage, landscape, spectral_gap
from thermokernels.quantities import conductance as conductance_module
from thermokernels.quantities import relevance as relevance_module
from thermokernels.quantities.autocorrelation_times.autocorrelation import autocorrelation_times
from thermokernels.quantities.relevance import ObservableBasis, observable_basis
from thermokernels.quantities.signal_to_noise import QStruct
from thermokernels.solvers.resolvent import solve_resolvent
from thermokernels.solvers.state_reduction.reduced_resolvent import products

W = np.array([[1.1, -0.3, 0.2], [0.4, 0.9, -0.6]])
PLANTED = 1e-3


def test_a_barrier_is_off_by_the_errors_of_two_energies(monkeypatch):
    chain = tk.gibbs_chain(np.array([[2.0, 0.1], [0.3, 1.5]]))
    (event, *_) = landscape.merge_tree(chain).events
    energy = chain.energy.copy()
    bottom = int(np.flatnonzero(event.dying)[chain.energy[event.dying].argmin()])
    energy[np.isclose(energy, event.saddle_energy)] += PLANTED
    energy[bottom] -= PLANTED
    (moved, *_) = landscape.merge_tree(replace(chain, energy=energy)).events
    assert moved.barrier - event.barrier == pytest.approx(2 * PLANTED, rel=1e-9, abs=0)
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
    assert tau == pytest.approx(2 * time / variance - 1, rel=1e-10, abs=0)
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
    assert missed == pytest.approx(PLANTED * found.value, rel=1e-6, abs=0)
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


def test_the_asymptotic_variance_is_off_by_twice_the_time_by_the_variances_and_by_the_rounding_of_their_difference(monkeypatch):
    def bound(lost, variance_error):
        monkeypatch.setattr(asymptotic_variance, "variance_of", lambda _: (3.0, variance_error))
        return asymptotic_variance.bound_of(SimpleNamespace(value=5.0, bound=lost))

    assert bound(PLANTED, 0.0) == pytest.approx(2 * PLANTED, rel=1e-9, abs=0)
    assert bound(0.0, PLANTED) == pytest.approx(PLANTED, rel=1e-9, abs=0)
    assert bound(0.0, 0.0) == pytest.approx(2 * 2.0**-52 * 13.0, abs=0)


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
    assert found.error == pytest.approx((found.value + 1) * (PLANTED + of_time), rel=1e-9, abs=0)


@pytest.mark.parametrize("distortion", [0.0, 0.05])
@pytest.mark.parametrize("planted", [0.0, 1e-3, 0.2])
def test_a_relevance_is_off_by_its_projections_its_variance_and_its_basis(planted, distortion, monkeypatch):
    """(2 |p| |dp| + |dp|^2 + |E| (|p| + |dp|)^2 / (1 - |E|)) / Var + |dVar| / Var, with roundings so large that their squares are seen."""
    basis = replace(observable_basis(tk.gibbs_chain(W)), distortion=distortion)
    mask = basis.chain.law.argsort()[:9]  # most states, and the smaller share of the probability
    monkeypatch.setattr(relevance_module, "_rounding", lambda _: planted)
    monkeypatch.setattr(relevance_module, "UNIT", 0.0)
    value, bound = basis.enclosed_relevance(mask)
    mass = basis.chain.law[mask].sum()
    variance = mass * (1 - mass)
    length = math.sqrt(value * variance)
    moved = 4 * min(mass, 1 - mass) * planted * np.linalg.norm(np.abs(basis.coefficients).sum(axis=0))
    lost = 2 * length * moved + moved**2 + distortion * (length + moved) ** 2 / (1 - distortion)
    assert bound == pytest.approx(min(lost / variance * (1 + 4 * planted) + 4 * planted, 1.0), rel=1e-9, abs=1e-15)
    monkeypatch.setattr(relevance_module, "UNIT", planted)  # and of the sums over the observables
    covariance = basis.chain.law[mask] @ -products(basis.chain)[mask] - mass * (basis.chain.law @ -products(basis.chain))
    assert basis.enclosed_relevance(mask)[1] >= bound
    assert replace(basis, distortion=1.0).enclosed_relevance(mask) == (value, 1.0)
    more = 6 * planted * np.linalg.norm(np.abs(covariance) @ np.abs(basis.coefficients))
    lost = 2 * length * (moved + more) + (moved + more) ** 2 + distortion * (length + moved + more) ** 2 / (1 - distortion)
    expected = min(lost / variance * (1 + 4 * planted) + 4 * planted, 1.0)
    assert basis.enclosed_relevance(mask)[1] == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_the_distortion_of_a_basis_is_that_of_its_covariances(monkeypatch):
    """3 roundings of sqrt(m_a m_b) with m_a = E[(f_a - f_a(x0))^2], and what is left of C'GC - 1 with the roundings of it."""
    chain = tk.gibbs_chain(W)
    f = -products(chain)
    from_ground = f - f[chain.law.argmax()]
    squares = chain.law @ from_ground**2
    for planted in (1e-3, 2e-3):
        monkeypatch.setattr(relevance_module, "_rounding", lambda _, planted=planted: planted)
        basis = observable_basis(chain)
        expected = 3 * planted * np.square(np.sqrt(squares) @ np.abs(basis.coefficients)).sum()
        assert basis.distortion == pytest.approx(expected, rel=1e-9, abs=0)
    monkeypatch.setattr(relevance_module, "_rounding", lambda _: 0.0)
    monkeypatch.setattr(relevance_module, "UNIT", 1e-3)
    gram = (chain.law * (f - chain.law @ f).T) @ (f - chain.law @ f)
    sizes = np.abs(basis.coefficients)
    expected = 2 * (6 + 2) * 1e-3 * np.linalg.norm(sizes.T @ np.abs(gram) @ sizes)
    assert observable_basis(chain).distortion == pytest.approx(expected, rel=1e-9, abs=0)
