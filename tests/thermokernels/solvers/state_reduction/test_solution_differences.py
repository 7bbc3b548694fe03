"""Differences by state reduction against a plain dense solve, and the bound on the energy of planted errors."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

import thermokernels as tk
from thermokernels.compiled.wide_exponent import Wide, from_floats
from thermokernels.solvers.state_reduction import gth_elimination, reduced_resolvent, solution_differences

small = pytest.mark.small


def case(W, *fields):
    """A chain, its elimination, pi and f~ as wide numbers, and a dense twin: P, y with zero at the ground state."""
    chain = tk.gibbs_chain(W, *fields)
    ground = reduced_resolvent.ground_state(chain)
    elimination = gth_elimination.eliminate(chain, ground)
    centred = reduced_resolvent.products(chain)
    centred = centred - chain.law @ centred
    P, free = chain.transition_matrix(), ~ground
    y = np.zeros(centred.shape)
    y[free] = np.linalg.solve((np.eye(chain.n_states) - P)[np.ix_(free, free)], centred[free])
    return chain, elimination, (from_floats(chain.law), from_floats(centred)), P, y


def energy(chain, P, y):
    """sum_a E(y_a, y_a) from the definition, over all ordered pairs of states."""
    flux = chain.law[:, None] * P
    return 0.5 * sum((flux * (column[:, None] - column) ** 2).sum() for column in y.T)


MODELS = [
    (np.array([[0.4, -0.7], [1.1, 0.2]]),),
    (np.array([[0.6, -0.2, 0.5]]), np.array([0.3]), np.array([0.1, -0.4, 0.2])),
    (np.random.default_rng(3).normal(size=(3, 3)),),
]


@small
@pytest.mark.parametrize("model", MODELS)
def test_differences_are_those_of_a_dense_solve(model):
    chain, elimination, functions, P, y = case(*model)
    found = solution_differences.solve_differences(elimination, *functions)
    values, drift = found.values()
    assert_allclose(values.to_floats(), y[elimination.states], rtol=1e-10, atol=1e-12)
    assert (drift.to_floats() <= 1e-14 * np.abs(y).max() * len(y)).all()
    assert (found.parents > np.arange(found.parents.size)).all()
    offsets = found.offsets.to_floats()
    padded = np.vstack([y[elimination.states], np.zeros(y.shape[1])])
    assert_allclose(offsets, padded[:-1] - padded[found.parents], rtol=1e-9, atol=1e-12)
    edges = np.stack(
        [chain.law * P[np.arange(len(y)), x] * ((y - y[x]) ** 2).sum(axis=1) for x in gth_elimination.neighbours(chain).T], axis=1
    )
    assert_allclose(found.flows.to_floats(), edges, rtol=1e-9, atol=1e-14)
    assert float(found.error.to_floats()) <= 1e-24 * energy(chain, P, y)


@small
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", [1e-9, 1e-5, 1e-2])
def test_a_planted_error_is_within_its_energy_bound_and_not_far_below(model, size, monkeypatch):
    chain, elimination, functions, P, y = case(*model)
    exact = solution_differences.solve_differences(elimination, *functions)
    solve = solution_differences._offsets
    noise = 1 + size * np.random.default_rng(7).standard_normal(exact.offsets.mantissa.shape)

    def planted(rates, pivots, parents, sources, offsets):
        solve(rates, pivots, parents, sources, offsets)
        offsets.mantissa[:] *= noise

    monkeypatch.setattr(solution_differences, "_offsets", planted)
    found = solution_differences.solve_differences(elimination, *functions)
    wrong = np.zeros(y.shape)
    wrong[elimination.states] = found.values()[0].to_floats()
    true = energy(chain, P, wrong - y)
    bound = float(found.error.to_floats())
    assert true <= bound <= 1e3 * true
    # T_O from wrong differences is covered by the bound, and by nothing else in it
    time = reduced_resolvent.variance_time(chain)
    correct = float((chain.law[:, None] * functions[1].to_floats() * y).sum())
    missed = abs(float(time.total.to_floats()) - correct)
    assert missed <= time.relative_bound * correct
    assert time.residual == pytest.approx(np.sqrt(bound / float(time.total.to_floats())), rel=1e-6, abs=0)
    if size >= 1e-5:
        charges = from_floats((chain.law[:, None] * functions[1].to_floats())[elimination.states])
        without = replace(found, error=Wide(np.array(0.0), np.array(0)))
        _, lost = reduced_resolvent._dirichlet(chain, without, charges, *found.values())
        assert missed > float(lost.to_floats())
