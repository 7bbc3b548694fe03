"""Gauss rules that begin at solutions, against all eigenpairs, and their bound against rules whose error is known."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.quantities import remaining_rules
from thermokernels.quantities.remaining_rules import RemainingRules, sweep_error
from thermokernels.quantities.slow_modes import slow_modes
from thermokernels.quantities.variance_time import with_solutions
from thermokernels.solvers.lanczos import radau_rules

small = pytest.mark.small


def chain_of(shape=(4, 4), seed=0, scale=0.5):
    return tk.gibbs_chain(scale * np.random.default_rng(seed).normal(size=shape))


def dense(chain):
    """Gaps and weights of all modes but the constant one."""
    root = np.sqrt(chain.law)
    generator = np.eye(chain.n_states) - root[:, None] * chain.transition_matrix() / root
    gaps, modes = np.linalg.eigh((generator + generator.T) / 2 + 2 * np.outer(root, root))
    spins = chain.spins().astype(float)
    f = (spins[:, : chain.n_visible, None] * spins[:, None, chain.n_visible :]).reshape(chain.n_states, -1)
    return gaps[:-1], ((modes[:, :-1].T @ (root[:, None] * (f - chain.law @ f))) ** 2).sum(axis=1)


def window(gaps, weights, K):
    s = 1 - gaps
    return sum(float(weights @ s**t) * (1 if t == 0 else 2) * (1 - t / K) for t in range(K)) / K


@pytest.mark.parametrize("begin", ["solutions", "right-hand sides"])
@pytest.mark.parametrize("shape", [(4, 4), (4, 5)])
def test_variance_resolvent_and_windows_are_those_of_all_eigenpairs(shape, begin, monkeypatch):
    monkeypatch.setattr(remaining_rules, "RESOLUTION", 1e-8 if begin == "solutions" else 0.0)
    chain = chain_of(shape)
    time = with_solutions(chain)
    modes = slow_modes(chain, time.right_hand_sides, 3.0)
    rest = RemainingRules(time, modes)
    assert rest.power == (2 if begin == "solutions" else 0)
    rules = rest.rules()
    gaps, weights = np.append(modes.gaps, rules.gaps), np.append(modes.weights, rules.weights)
    exact_gaps, exact = dense(chain)
    assert weights.sum() == pytest.approx(exact.sum(), rel=1e-11, abs=0)
    assert (weights / gaps).sum() == pytest.approx((exact / exact_gaps).sum(), rel=1e-10, abs=0)
    for K in (1, 7, 60, 900):
        assert window(gaps, weights, K) == pytest.approx(window(exact_gaps, exact, K), rel=1e-10, abs=0)


def by_observable(chain):
    """Gaps of all modes but the constant one, and what every observable has of each, (couplings, modes)."""
    root, spins = chain.root_law, chain.spins().astype(float)
    gaps, modes = np.linalg.eigh(chain.symmetrised_generator_matrix() + 2 * np.outer(root, root))
    f = (spins[:, : chain.n_visible, None] * spins[:, None, chain.n_visible :]).reshape(chain.n_states, -1)
    return gaps[:-1], (modes[:, :-1].T @ (root[:, None] * (f - chain.law @ f))).T ** 2


def test_every_observable_goes_on_until_rules_of_gauss_and_radau_agree(monkeypatch):
    """Between the two lies what all eigenpairs say, after any number of steps, and what settles is right to the resolution."""
    chain = chain_of((4, 5), scale=0.8)
    time = with_solutions(chain)
    modes = slow_modes(chain, time.right_hand_sides, 3.0)
    rest, (gaps, seen) = RemainingRules(time, modes), by_observable(chain)
    kept = np.abs(gaps[:, None] - modes.gaps).min(axis=1) > 1e-8
    runs = rest._begun(slice(None))
    exact = remaining_rules._decayed(np.broadcast_to(gaps[kept], seen[:, kept].shape), seen[:, kept] / gaps[kept] ** 2)
    for _ in range(5):
        runs.extend(2)
        lower = runs.gauss_rules()
        upper = radau_rules(runs.norms, runs.diagonals, runs.offdiagonals)
        low, high = (remaining_rules._decayed(rules.gaps, rules.weights) for rules in (lower, upper))
        slack = 1e-10 * exact
        assert (low <= exact + slack).all()
        assert (exact <= high + slack).all()
        assert (high - low > 1e-6 * exact).any()
    monkeypatch.setattr(remaining_rules, "STEPS", tuple(range(4, 40)))
    rules = rest.rules()
    assert (rules.n_nodes < 39).all()
    assert len(set(rules.n_nodes.tolist())) > 1  # some need fewer steps than others
    whole = remaining_rules.window_sums(np.broadcast_to(gaps, seen.shape), seen)
    found = remaining_rules.window_sums(rules.gaps, rules.weights) + remaining_rules.window_sums(
        np.broadcast_to(modes.gaps, rest._seen.shape), rest._seen
    )
    assert (np.abs(found - whole) <= remaining_rules.RESOLUTION * whole).all()
    monkeypatch.setattr(remaining_rules, "STEPS", (4,))
    too_few = rest.rules()
    assert (too_few.n_nodes == 4).all()
    assert abs(1 - window(too_few.gaps.ravel(), too_few.weights.ravel(), 32) / window(rules.gaps.ravel(), rules.weights.ravel(), 32)) > 1e-8


@pytest.mark.parametrize("threads", [1, 3])
def test_observables_in_parts_are_the_same_bits_and_are_counted(threads, monkeypatch):
    chain = chain_of((4, 5), scale=0.8)
    time = with_solutions(chain)
    modes = slow_modes(chain, time.right_hand_sides, 3.0)
    whole = RemainingRules(time, modes).rules()
    monkeypatch.setattr(remaining_rules, "TOGETHER", 3 * chain.n_states)
    monkeypatch.setattr("thermokernels.common.threads.SMALLEST_WORK", 0)
    monkeypatch.setattr("thermokernels.common.threads._chosen", threads)
    told = []
    parts = RemainingRules(time, modes).rules(told.append)
    assert told == [3, 6, 9, 12, 15, 18, 20]
    for name in ("gaps", "weights", "residuals", "n_nodes"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


@small
def test_sums_of_windows_are_those_of_autocovariances():
    gaps, weights = np.array([[1e-9, 0.3, 1.0], [0.02, 0.5, 0.9]]), np.array([[1.0, 2.0, 0.5], [0.1, 1.0, 3.0]])
    sums, decayed = remaining_rules.window_sums(gaps, weights), remaining_rules._decayed(gaps, weights)
    assert sums.shape == (2, 26)
    for j, K in enumerate((4, 8, 16, 32)):
        for a in range(2):
            assert sums[a, j] == pytest.approx(K * window(gaps[a], weights[a], K), rel=1e-12)
            assert decayed[a, j] == pytest.approx(2 / K * float(weights[a] @ (1 - gaps[a]) ** (K + 1)), rel=1e-12)
    assert sums[0, -1] == pytest.approx(2**27 + 2.0 * (2 / 0.3 - 1) + 0.5, rel=0.05)  # a mode of 1e9 steps stands still for 2^27


@small
@pytest.mark.parametrize("steps", [2, 8, 16, 24])
@pytest.mark.parametrize("n_nodes", [4, 8, 12])
def test_the_bound_of_the_sweep_covers_rules_of_gauss_and_legendre(n_nodes, steps):
    """The measure d lambda on [0, 1], whose rules are those of Gauss and Legendre: lambda^2 / (1 - sigma^N) against a fine rule."""

    def rule(n):
        nodes, weights = np.polynomial.legendre.leggauss(n)
        gaps = (nodes + 1) / 2
        return float((weights / 2) @ (gaps**2 / (1 - (1 - gaps) ** steps)))

    error, bound = abs(rule(n_nodes) - rule(200)), sweep_error(n_nodes, steps)
    assert error <= bound + 1e-15
    assert bound <= max(1e3 * error, 1e-12) or n_nodes == 12  # and is of use


@small
@pytest.mark.parametrize("n_nodes", [2, 5])
def test_the_bound_of_a_sweep_goes_with_its_poles(n_nodes):
    """8 |p|^2 / |r| rho^(1 - 2 n) / (rho - 1) at every pole p = 1 - exp(2 pi i k / N), r = sqrt((2 p - 1)^2 - 1), over N."""

    def term(pole, root):
        rho = max(abs(2 * pole - 1 + root), abs(2 * pole - 1 - root))
        return 8 * abs(pole) ** 2 / abs(root) * rho ** (1 - 2 * n_nodes) / (rho - 1)

    two = term(2, 8**0.5)
    assert sweep_error(n_nodes, 2) == pytest.approx(two / 2, rel=1e-12, abs=0)
    quarter = term(1 + 1j, (-4 + 4j) ** 0.5)
    assert sweep_error(n_nodes, 4) == pytest.approx((two + 2 * quarter) / 4, rel=1e-12, abs=0)


@small
def test_a_sweep_of_one_step_has_no_pole_but_zero():
    assert sweep_error(2, 1) == 0.0


def test_a_resolvent_that_was_solved_badly_is_missed(monkeypatch):
    """Dropping what the residual says of T_O, or the bound of the sweep, uncovers what each stands for."""
    chain = chain_of((4, 5))
    time = with_solutions(chain)
    modes = slow_modes(chain, time.right_hand_sides, 3.0)
    rest = RemainingRules(time, modes)
    monkeypatch.setattr(remaining_rules, "STEPS", (2,))
    rules = rest.rules()
    exact_gaps, exact = dense(chain)

    def by_sweep(gaps, weights):
        return float((weights / (1 - (1 - gaps) ** chain.n_spins)).sum())

    found = by_sweep(modes.gaps, modes.weights) + by_sweep(rules.gaps, rules.weights)
    lost = abs(found - by_sweep(exact_gaps, exact))
    assert 1e-8 * found < lost <= rest.missing(rules)
    assert abs(rest.value - float((rules.weights / rules.gaps).sum())) < lost
    rest.value *= 1.001
    assert rest.missing(rules) > 0.9e-3 * rest.value
