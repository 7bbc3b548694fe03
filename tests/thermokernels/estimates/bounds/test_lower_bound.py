"""Lower bounds of T_O where chains do not meet: unbiased starts, sums that are cut off, and what an answer says."""

import numpy as np
import pytest
from dense_chain import DenseChain, mask_of, model

import thermokernels as tk
from thermokernels.estimates.bounds import lower_bound
from thermokernels.estimates.bounds.annealed_starts import _proposal, _starts
from thermokernels.estimates.coupling.single_site_coupling import couplings
from thermokernels.estimates.features import features_of

# Without compilation too, where words of 64 bits wrap around with a warning.
small = [pytest.mark.small, pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")]

# Two blocks of four spins, each with two wells that are exchanged once in millions of sweeps; products across the blocks change sign.
STUCK = 3.5 * np.kron(np.eye(2), np.ones((2, 2))), np.array([0.05, 0.0, 0.0, 0.0]), np.zeros(4)


@pytest.mark.parametrize("n", [pytest.param(100, marks=small), 4000])
def test_annealing_weighs_its_proposals_right(n):
    """E w = Z / 2**n_v and E w f = that times E_pi f, on a model that is far from the coin flips that annealing starts from."""
    W, b, c = model((3, 2), 1.5, True, 4)
    chain, table = DenseChain(W, b, c, "single-site"), couplings(tk.Model(W, b, c))
    states, logs = np.empty((n, 5)), np.empty(n)
    for k in range(n):
        logs[k] = _proposal(table, np.uint64(7919 * k + 1), states[k])
    v = chain.v[:: 2**2]
    z = np.exp(v @ b) @ (2 * np.cosh(v @ W + c)).prod(axis=1)
    f = np.hstack([np.ones((n, 1)), states, states[:, :3, None].repeat(2, 2).reshape(n, -1) * np.tile(states[:, 3:], 3)])
    exact = np.concatenate([[1.0], chain.law @ np.hstack([chain.v, chain.h, chain.observables()])])
    # log cosh without its log 2, so that the ratio to the coin flips' sum 2**(n_v + n_h) is what is estimated
    each = np.exp(logs)[:, None] * f / (z / 2**5)
    errors = each.std(axis=0) / np.sqrt(n)
    assert np.abs((each.mean(axis=0) - exact) / errors).max() < 4


@pytest.mark.small
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_few_starts():
    """Of free spins all proposals weigh the same, and so do the starts."""
    atoms, weights = np.empty((4, 2), np.int8), np.empty(4)
    _starts(couplings(tk.Model([[0.0]])), np.uint64(5), 0, atoms, weights)
    assert (np.abs(atoms) == 1).all()
    assert weights == pytest.approx(np.ones(4))


def test_starts_have_no_bias():
    W, b, c = STUCK
    chain = DenseChain(W, b, c, "single-site")
    atoms, weights = np.empty((6000, 8), np.int8), np.empty(6000)
    _starts(couplings(tk.Model(W, b, c)), np.uint64(5), 0, atoms, weights)
    assert np.isfinite(weights).all()
    f = np.hstack([np.ones((6000, 1)), atoms, (atoms[:, :4, None] * atoms[:, None, 4:]).reshape(6000, -1)])
    exact = np.concatenate([[1.0], chain.law @ np.hstack([chain.v, chain.h, chain.observables()])])
    each = weights[:, None] * f
    errors = each.std(axis=0) / np.sqrt(6000)
    known = errors > 0
    assert np.abs((each.mean(axis=0) - exact)[known] / errors[known]).max() < 4
    assert each.mean(axis=0)[~known] == pytest.approx(exact[~known])


@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
@pytest.mark.parametrize("masked", [False, True])
def test_sums_that_are_cut_off_have_the_mean_of_the_dense_chain(kernel, masked):
    W, b, c = model((2, 3), 1.2, True, 3)
    mask = mask_of(W.shape) if masked else np.ones(W.shape, np.bool_)
    W = W * mask
    chain = DenseChain(W, b, c, kernel)
    edges = chain.observables()[:, mask.ravel()]
    f, n_sweeps, rbm = edges - chain.law @ edges, 2, tk.Model(W, b, c, mask=mask)
    rule = features_of(rbm, "products", "pm1", False)
    if kernel == "single-site":
        powers, g = [], f
        for _ in range(n_sweeps * 5):
            powers.append((chain.law[:, None] * f * g).sum())
            g = chain.P @ g
        exact = sum(powers)
    else:  # C_0 + 2 sum over half sweeps, the first of them v or h
        to_v, to_h = projections(chain)
        exact = (chain.law[:, None] * f * f).sum()
        for first, second in ((to_v, to_h), (to_h, to_v)):
            g = f
            for m in range(2 * n_sweeps):
                g = (second if m % 2 else first).T @ (chain.law[:, None] * g) / chain.law[:, None]
                exact += (chain.law[:, None] * f * g).sum()
    totals, weights = lower_bound.truncated_sums(rbm, kernel, rule, False, 1, 8000, n_sweeps)
    each = totals * weights
    # an even replicate begins with v, an odd one with h
    error = np.sqrt((each[0::2].var() + each[1::2].var()) / 2 / 8000)
    assert abs(each.mean() - exact) < 4 * error
    assert exact <= chain.variance_time(edges)


def projections(chain):
    """Pi_v and Pi_h: resample one layer given the other."""
    same_v = (chain.v[:, None] == chain.v[None]).all(axis=2)
    same_h = (chain.h[:, None] == chain.h[None]).all(axis=2)
    found = [same * chain.law for same in (same_h, same_v)]
    return [P / P.sum(axis=1, keepdims=True) for P in found]


@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
def test_a_stuck_chain_has_a_lower_bound(kernel):
    exact = tk.observable_variance_time(tk.gibbs_chain(STUCK[0], *STUCK[1:], kernel=kernel))
    estimate = tk.estimate_q(STUCK, None, kernel=kernel, budget=2.0)
    assert not estimate.trusted
    assert np.isnan(estimate.t_obs)
    assert estimate.steps_per_sweep * 10 < estimate.t_obs_at_least < exact
    again = tk.estimate_q(STUCK, None, kernel=kernel, budget=2.0)
    assert again.t_obs_at_least == estimate.t_obs_at_least


def test_what_has_no_lower_bound():
    assert np.isnan(tk.estimate_q(STUCK, None, kernel="alternating", budget=1.0).t_obs_at_least)
    assert np.isnan(tk.estimate_q([[0.3]], None, kernel="single-site").t_obs_at_least)
    large = tk.Model(np.zeros((784, 500)))
    rule = features_of(large, "products", "pm1", False)
    assert np.isnan(lower_bound.variance_time_at_least(large, "two-block", rule, True, 0, 1.0))


def test_starts_take_so_many_products():
    """Two starts a replicate, each of LAG + 1 proposals and as many again until the pair meets, with two products a temperature."""
    proposals = 2 * (lower_bound.LAG + 1)
    expected = lower_bound.N_REPLICATES * 2 * proposals * lower_bound.TEMPERATURES * 2 * 15
    assert lower_bound._work(tk.Model(np.zeros((3, 5)))) == expected


@pytest.mark.parametrize(("budget", "most"), [(None, "MOST_WORK"), (3.0, "WORK_PER_SECOND"), (1e9, "MOST_WORK")])
def test_starts_that_take_too_long_are_not_begun(budget, most, monkeypatch):
    rbm = tk.Model(np.zeros((3, 5)))
    rule, begun = features_of(rbm, "products", "pm1", False), []
    monkeypatch.setattr(lower_bound, "truncated_sums", lambda *given: (begun.append(given), (np.ones(224), np.ones(224)))[1])
    for factor, n_begun in ((0.99, 0), (1.01, 1)):
        limit = factor * lower_bound._work(rbm) / (budget if most == "WORK_PER_SECOND" else 1)
        monkeypatch.setattr(lower_bound, most, limit)
        lower_bound.variance_time_at_least(rbm, "single-site", rule, True, 0, budget)
        assert len(begun) == n_begun


def test_an_excursion_is_cut_off_where_its_share_of_the_work_ends():
    rbm = tk.Model(np.zeros((30, 50)))
    of_a_sweep = 2 * lower_bound.N_REPLICATES * (30 * 50 + lower_bound.UNIT_WORK * 80)
    assert lower_bound._sweeps(rbm, None) == int(lower_bound.EXCURSION_WORK / of_a_sweep)
    assert lower_bound._sweeps(rbm, 50.0) == int(lower_bound.EXCURSION_WORK_PER_SECOND * 50 / of_a_sweep)
    assert lower_bound._sweeps(rbm, 1e9) == lower_bound._sweeps(rbm, None)
    assert lower_bound._sweeps(rbm, 1e-3) == lower_bound.FEWEST_SWEEPS
    assert lower_bound._sweeps(tk.Model([[0.0]]), None) == lower_bound.MOST_SWEEPS
