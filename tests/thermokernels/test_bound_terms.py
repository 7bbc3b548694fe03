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
from thermokernels.quantities import asymptotic_variance, landscape, spectral_gap, spectral_measure
from thermokernels.quantities import conductance as conductance_module
from thermokernels.quantities import relevance as relevance_module
from thermokernels.quantities.autocorrelation_times.autocorrelation import autocorrelation_times
from thermokernels.quantities.relevance import ObservableBasis, observable_basis

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
