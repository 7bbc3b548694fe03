"""State reduction in long double against that in pairs with exponents and against refined solves; every term covers a planted error."""

from dataclasses import replace

import numpy as np
import pytest

import thermokernels as tk
from adjoints import bounds, extended, extended_reduction
from adjoints.variance_time import VarianceTimeAdjoint
from thermokernels.model import extended as extended_chain
from thermokernels.model.extended import LONG_UNIT, ExtendedChain
from thermokernels.quantities.variance_time import variance_time
from thermokernels.solvers.solve import Solve
from thermokernels.solvers.state_reduction.reduced_resolvent import ground_state, products

pytestmark = pytest.mark.skipif(not extended_chain.AVAILABLE, reason="long double is float64 here")

PLANTED = 1e-9
GENTLE = np.array([[1.1, -0.3, 0.2], [0.4, 0.9, -0.6]])
MODELS = [
    (GENTLE,),
    (np.diag([15.0, 15.5]),),
    (np.array([[30.0, 12.0]]),),
    (np.array([[9.0]]), np.array([1.5]), np.array([1.0])),
    (GENTLE, np.array([0.2, -0.4]), np.array([0.1, 0.3, -0.2])),
]


def reduced(*model, quotient=None):
    adjoint = VarianceTimeAdjoint(tk.gibbs_chain(*model, quotient=quotient))
    time = variance_time(adjoint.chain, Solve("reduction"), (adjoint,))
    return time, adjoint.cotangents(time).W


@pytest.mark.parametrize("model", MODELS)
def test_it_is_what_the_reduction_gives_to_more_digits(model):
    time, gradient = reduced(*model)
    near = extended_reduction.variance_time(time.reduced)
    assert abs(float(near.value) / time.value - 1) <= time.bound / time.value
    assert np.abs(gradient - near.gradient).max() <= bounds._counted(time) + near.gradient_bound
    assert near.bound <= 1e-15 * time.value
    assert near.gradient_bound <= bounds._counted(time) / 100
    assert bounds.variance_time_gradient_bound(time, gradient) <= 1e-13 * np.abs(gradient).max()


@pytest.mark.parametrize("model", [MODELS[0], MODELS[4]])
def test_it_is_what_refined_solves_give(model):
    time, _ = reduced(*model)
    near, refined = extended_reduction.variance_time(time.reduced), extended.variance_time(time)
    assert abs(near.value - refined.value) <= near.bound + refined.bound
    assert np.abs(near.gradient - refined.gradient).max() <= near.gradient_bound + refined.gradient_bound


def test_pairs_and_all_states_have_the_same_gradient():
    on_pairs, on_all = (extended_reduction.variance_time(reduced(GENTLE, quotient=quotient)[0].reduced) for quotient in (True, False))
    assert np.abs(on_pairs.gradient - on_all.gradient).max() <= on_pairs.gradient_bound + on_all.gradient_bound


def off(near, right):
    """By how much value and gradient have moved."""
    return float(abs(near.value - right.value)), float(np.abs(near.gradient - right.gradient).max())


@pytest.mark.parametrize(
    ("model", "how"), [*((MODELS[number], "scaled") for number in (0, 1, 4)), (MODELS[0], "tossed"), (MODELS[4], "tossed")]
)
def test_what_is_not_solved_for_is_seen_in_what_it_leaves(model, how, monkeypatch):
    time, _ = reduced(*model)
    right = extended_reduction.variance_time(time.reduced)
    differences = extended_reduction._differences
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=time.reduced.chain.n_states)

    def planted(elimination, functions):
        found, sizes, lengths = differences(elimination, functions)
        tossed = (signs[:, None] - signs)[:, :, None] * np.abs(found[:, -1]).max(axis=0)
        return found + PLANTED * (found if how == "scaled" else tossed), sizes, lengths

    monkeypatch.setattr(extended_reduction, "_differences", planted)
    near = extended_reduction.variance_time(time.reduced)
    value, gradient = off(near, right)
    assert value <= near.bound
    assert right.gradient_bound < gradient <= near.gradient_bound
    # T_O is stationary: what is left counts in the square; the gradient is of first order
    assert near.bound < 1e4 * PLANTED**2 * time.value
    assert near.gradient_bound < 1e4 * PLANTED * time.value


@pytest.mark.parametrize("term", ["law_error", "rate_error"])
def test_errors_of_law_and_rates_are_covered(term, monkeypatch):
    time, _ = reduced(*MODELS[3])
    right = extended_reduction.variance_time(time.reduced)
    law, flips = ExtendedChain(time.chain).law, ExtendedChain(time.chain)._flips
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    if term == "law_error":
        monkeypatch.setattr(ExtendedChain, "law", law * (1 + PLANTED * signs))
    else:
        monkeypatch.setattr(ExtendedChain, "_flips", tuple(part * (1 + PLANTED * sign) for part, sign in zip(flips, (1, -1), strict=True)))
    without = extended_reduction.variance_time(time.reduced)
    moved = off(without, right)
    monkeypatch.setattr(ExtendedChain, term, PLANTED)
    near = extended_reduction.variance_time(time.reduced)
    assert moved[0] <= near.bound
    assert moved[1] <= near.gradient_bound
    assert max(moved[0] / near.bound, moved[1] / near.gradient_bound) > 1e-3


def test_sums_of_offsets_along_paths_are_covered(monkeypatch):
    """Paths of so many offsets that their rounding is of the size planted; nothing is off in the offsets themselves."""
    time, _ = reduced(*MODELS[0])
    right = extended_reduction.variance_time(time.reduced)
    differences = extended_reduction._differences
    monkeypatch.setattr(
        extended_reduction,
        "_differences",
        lambda *given: (*differences(*given)[:2], 1e6 * (differences(*given)[2] > 0) / LONG_UNIT * PLANTED),
    )
    near = extended_reduction.variance_time(time.reduced)
    assert near.bound > right.bound + 1e5 * PLANTED * time.value
    assert near.gradient_bound > right.gradient_bound + 1e5 * PLANTED * time.value


def test_where_it_applies():
    assert extended_reduction.applies_to(tk.gibbs_chain(GENTLE))
    assert not extended_reduction.applies_to(tk.gibbs_chain(GENTLE, kernel="two-block"))  # no adjoint
    assert not extended_reduction.applies_to(tk.gibbs_chain(np.full((4, 5), 0.1)))  # 256 states
    assert not extended_reduction.applies_to(tk.gibbs_chain(600 * GENTLE))  # beyond the range
    time, gradient = reduced(*MODELS[1])
    assert bounds._near(time).gradient_bound < 1e-14 * np.abs(gradient).max()
    assert bounds._near(replace(time, reduced=None)) is None or bounds._near(replace(time, reduced=None)).gradient_bound > time.value


@pytest.mark.parametrize("model", [MODELS[0], MODELS[4]])
def test_a_level_that_is_off_is_covered_where_no_edge_sees_it(model, monkeypatch):
    """States that are no neighbours of the ground state: whatever rounds on their paths to it leaves no trace in what is not solved for."""
    time, _ = reduced(*model)
    right, chain = extended_reduction.variance_time(time.reduced), time.reduced.chain
    ground = int(np.argmax(ground_state(chain)))
    near_ground = [int(others[ground]) for others, _, _ in ExtendedChain(chain).single_flips()]
    away = np.setdiff1d(np.arange(chain.n_states), [ground, *near_ground])
    differences, slip = extended_reduction._differences, np.zeros((chain.n_states, chain.model.n_couplings))

    def planted(elimination, functions):
        found, sizes, lengths = differences(elimination, functions)
        at, lengths = np.flatnonzero(np.isin(elimination.states, away)), lengths.astype(np.longdouble)
        slip[elimination.states[at]] = PLANTED * sizes[at, -1]
        found[at, -1] += PLANTED * sizes[at, -1]
        lengths[at, -1] += PLANTED / LONG_UNIT
        return found, sizes, lengths

    monkeypatch.setattr(extended_reduction, "_differences", planted)
    near = extended_reduction.variance_time(time.reduced)
    value, gradient = off(near, right)
    assert right.bound < value <= near.bound
    assert right.gradient_bound < gradient <= near.gradient_bound
    law, signs = chain.law[:, None], products(chain)
    charges = np.abs(law * (signs - (law * signs).sum(axis=0)))
    assert near.bound - right.bound == pytest.approx(2 * (charges * slip).sum(), rel=1e-6, abs=0)
    own, of_mean = (charges * slip).sum(), (charges.sum(axis=0) * (law * slip).sum(axis=0)).sum()
    assert near.gradient_bound - right.gradient_bound == pytest.approx(4 * (own + of_mean), rel=1e-6, abs=0)


@pytest.mark.parametrize("model", [MODELS[0], MODELS[4]])
def test_every_rounding_of_a_total_is_counted_once(model, monkeypatch):
    """Nothing is left of the system and no path is long: charges, the law twice, flows and sums; and then what is not solved for alone."""
    time, _ = reduced(*model)
    chain = time.reduced.chain
    responses = time.responses - time.responses[int(np.argmax(ground_state(chain)))]
    law, signs = chain.law[:, None], products(chain)
    moved = np.abs(law * (signs - (law * signs).sum(axis=0)) * responses).sum()
    differences = extended_reduction._differences

    def of_no_length(*given):
        found, sizes, lengths = differences(*given)
        return found, sizes, 0 * lengths

    def bounds_with(law, rates, unit, unsolved):
        monkeypatch.setattr(ExtendedChain, "law_error", law)
        monkeypatch.setattr(ExtendedChain, "rate_error", rates)
        monkeypatch.setattr(extended_reduction, "LONG_UNIT", unit)
        monkeypatch.setattr(extended_reduction, "_dissipation", lambda *_: np.longdouble(unsolved))
        near = extended_reduction.variance_time(time.reduced)
        return near.bound, near.gradient_bound

    monkeypatch.setattr(extended_reduction, "_differences", of_no_length)
    sums = (chain.n_states + 5 + 6 + 16) * PLANTED
    for given, expected in (
        ((0.0, 0.0, PLANTED, 0.0), 2 * sums * time.value + 4 * sums * moved),
        ((PLANTED, 0.0, 0.0, 0.0), 2 * PLANTED * time.value + 6 * PLANTED * moved),
        ((0.0, PLANTED, 0.0, 0.0), PLANTED * time.value),
        ((0.0, 0.0, 0.0, PLANTED), PLANTED),
    ):
        assert bounds_with(*given)[0] == pytest.approx(expected, rel=1e-6, abs=0)
    unsolved = bounds_with(0.0, 0.0, 0.0, PLANTED)[1] - bounds_with(0.0, 0.0, 0.0, 0.0)[1]
    assert unsolved == pytest.approx(3 * (2 * np.sqrt(time.value * PLANTED) + PLANTED), rel=1e-6, abs=0)


def test_what_is_not_solved_for_adds_to_what_paths_lose(monkeypatch):
    """Norms of both errors of the flows add up: (|a| + |b|)^2, and twice |y| times their sum."""
    time, _ = reduced(*MODELS[0])
    chain, differences, lost = ExtendedChain(time.reduced.chain), extended_reduction._differences, {}
    ground = int(np.argmax(ground_state(time.reduced.chain)))

    def watched(elimination, functions):
        found, sizes, lengths = differences(elimination, functions)
        position = np.argsort(np.append(elimination.states, ground))
        edges = [(chain.law * rates, (position, position[others])) for others, rates, _ in chain.single_flips()]
        slips = [(strengths[:, None] * (0.01 * lengths[at][:, None] * sizes[at]) ** 2).sum() for strengths, at in edges]
        lost["flows"] = float(sum(slips)) / 2
        return found, sizes, lengths

    monkeypatch.setattr(extended_reduction, "_differences", watched)
    monkeypatch.setattr(extended_reduction, "LONG_UNIT", 0.01)

    def bounds_with(unsolved):
        monkeypatch.setattr(extended_reduction, "_dissipation", lambda *_: np.longdouble(unsolved))
        return extended_reduction.variance_time(time.reduced).gradient_bound

    unsolved = time.value
    crossed = 2 * np.sqrt(time.value) * np.sqrt(unsolved) + unsolved
    more = bounds_with(unsolved) - bounds_with(0.0)
    crossed += 2 * np.sqrt(unsolved * lost["flows"])
    assert lost["flows"] > 1e-3 * unsolved
    assert more == pytest.approx(3 * crossed, rel=1e-6, abs=0)
