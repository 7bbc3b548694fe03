import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from thermokernels.common import tolerances
from thermokernels.common.errors import NotConvergedError, NotReversibleError, UnresolvedError
from thermokernels.model.chain import gibbs_chain
from thermokernels.quantities.first_passage import hitting_times, mean_first_passage, mean_over, solve_hitting_times
from thermokernels.quantities.landscape import merge_tree
from thermokernels.solvers.gap_bounds import gap_lower_bound
from thermokernels.solvers.off_target import CHOLESKY_STATES

KERNELS = ["single-site", "two-block"]


def naive_hitting_times(chain, mask):
    """The definition, by LU on the transition matrix."""
    matrix = np.eye(chain.n_states) - chain.transition_matrix()
    times = np.zeros(chain.n_states)
    times[~mask] = np.linalg.solve(matrix[np.ix_(~mask, ~mask)], np.ones((~mask).sum()))
    return times


def random_chain(seed, largest=4, scale=1.0):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, largest + 1, size=2)
    fields = [rng.normal(size=n) for n in shape] if seed % 2 else [None, None]
    chain = gibbs_chain(scale * rng.normal(size=shape), *fields, kernel=KERNELS[seed % 3 == 0])
    mask = rng.random(chain.n_states) < rng.random()
    mask[rng.permutation(chain.n_states)[:2]] = True, False
    return chain, mask


@given(seed=st.integers(0, 10**6))
def test_hitting_times_are_the_naive_ones(seed):
    chain, mask = random_chain(seed)
    solved = solve_hitting_times(chain, mask)
    # It is the twin that loses digits where times are long: the condition number of its matrix is about the longest.
    np.testing.assert_allclose(solved.times, naive_hitting_times(chain, mask), rtol=1e-9 + 1e-15 * solved.times.max())
    assert (solved.times[mask] == 0).all()
    assert (solved.times[~mask] >= 1 - 1e-8).all()
    assert 0 < solved.residual <= tolerances.HITTING


# Red-black conjugate gradients; plain ones (odd N on the quotient, one visible spin, the block kernel).
@pytest.mark.parametrize(("shape", "kernel"), [((5, 5), KERNELS[0]), ((5, 6), KERNELS[0]), ((1, 9), KERNELS[0]), ((5, 5), KERNELS[1])])
def test_large_chains_go_through_conjugate_gradients(shape, kernel):
    chain = gibbs_chain(np.random.default_rng(3).normal(size=shape), kernel=kernel)
    assert chain.n_states >= CHOLESKY_STATES
    mask = np.arange(chain.n_states) % 37 == 5
    solved = solve_hitting_times(chain, mask)
    np.testing.assert_allclose(solved.times, naive_hitting_times(chain, mask), rtol=1e-8)
    assert (solved.iterations > 0) == (chain.n_states > CHOLESKY_STATES)
    assert gap_lower_bound(chain) <= dense_gap(chain)


@pytest.mark.judges
def test_deeptime_agrees():
    markov = pytest.importorskip("deeptime.markov.tools.analysis")
    chain = gibbs_chain(np.random.default_rng(4).normal(size=(3, 3)), b=[0.1, 0.2, 0.3])
    target = [0, 5, 17]
    np.testing.assert_allclose(hitting_times(chain, target), markov.mfpt(chain.transition_matrix(), target), rtol=1e-9)


def test_closed_form_of_a_pair():
    """One pair modulo x -> -x: aligned or not; a step chooses either spin and turns it with probability sigmoid(-2 s W)."""
    coupling = 0.8
    chain = gibbs_chain([[coupling]])
    np.testing.assert_allclose(hitting_times(chain, [0]), [0, 1 + np.exp(-2 * coupling)], rtol=1e-13)
    np.testing.assert_allclose(hitting_times(chain, [1]), [1 + np.exp(2 * coupling), 0], rtol=1e-13)


def test_closed_form_of_a_ferromagnet_of_two_spins():
    """The full pair is a birth-death chain in disguise: from (+,+) to (-,-) the way leads over one of two mixed states."""
    coupling = 1.3
    down, up = 1 / (1 + np.exp(2 * coupling)), 1 / (1 + np.exp(-2 * coupling))
    # t(++) = 1 / down + t(mixed); t(mixed) = 1 / up + t(++) / 2
    expected = 2 * (1 / down + 1 / up)
    assert hitting_times(gibbs_chain([[coupling]], quotient=False), [3])[0] == pytest.approx(expected, rel=1e-12, abs=0)


@given(seed=st.integers(0, 10**6))
def test_kac(seed):
    """From a set started in pi restricted to it, the mean return time is 1 / pi(set): sum_{x in A} pi_x (1 + P t)_x = 1."""
    chain, mask = random_chain(seed)
    returns = 1 + chain.apply(hitting_times(chain, mask))
    assert chain.law[mask] @ returns[mask] == pytest.approx(1, rel=1e-9, abs=0)


@given(seed=st.integers(0, 10**6))
def test_random_target_identity(seed):
    """sum_y pi_y E_x[T_y] does not depend on x (Kemeny's constant) and is the sum of the inverse gaps."""
    chain, _ = random_chain(seed, largest=2)
    times = np.array([hitting_times(chain, [y]) for y in range(chain.n_states)])
    constant = chain.law @ times
    gaps = 1 - np.sort(np.linalg.eigvals(chain.transition_matrix()).real)[:-1]
    np.testing.assert_allclose(constant, np.sum(1 / gaps), rtol=1e-8)


@pytest.mark.parametrize("seed", [6, 8, 14])
def test_mean_first_passage_is_the_stationary_mean(seed):
    chain, _ = random_chain(seed)
    target = np.arange(chain.n_states) % 5 == 2
    start = ~target
    times = naive_hitting_times(chain, target)
    expected = chain.law[start] @ times[start] / chain.law[start].sum()
    assert mean_first_passage(chain, start, target) == pytest.approx(expected, rel=1e-9)
    assert mean_over(chain, start, times) == pytest.approx(expected, rel=1e-12, abs=0)
    assert mean_first_passage(chain, target, target) == 0


def test_times_of_1e9_steps_are_certified():
    """Deep wells: the rounding error of a double of 1e9 alone is more than 1e-8 steps. Independent pairs cross on their own."""
    chain = gibbs_chain(np.diag([10.5, 11.0]))
    (event,) = merge_tree(chain).events
    solved = solve_hitting_times(chain, event.surviving)
    assert solved.times.max() > 1e9
    assert solved.residual < 1e-9
    rates = 0.25 / (1 + np.exp(2 * np.array([10.5, 11.0])))  # either spin of a pair is chosen in half of the steps; half come back
    assert mean_first_passage(chain, event.dying, event.surviving) == pytest.approx(1 / rates.sum(), rel=1e-6)


def test_states_whose_probability_underflows_have_their_times():
    chain = gibbs_chain(np.full((4, 4), 60.0))
    assert chain.root_law.min() == 0
    mask = np.arange(chain.n_states) == 0
    np.testing.assert_allclose(hitting_times(chain, mask), naive_hitting_times(chain, mask), rtol=1e-9)


@pytest.mark.parametrize("symmetry", ["permutation", "gauge"])
def test_times_do_not_depend_on_names_of_spins(symmetry):
    rng = np.random.default_rng(8)
    weights = rng.normal(size=(3, 4))
    other = weights[::-1] if symmetry == "permutation" else weights * rng.choice([-1.0, 1.0], size=4)
    times = [np.sort(hitting_times(chain, [chain.law.argmax()])) for chain in map(gibbs_chain, (weights, other))]
    np.testing.assert_allclose(*times, rtol=1e-9)


def dense_gap(chain):
    return 1 - np.sort(np.linalg.eigvals(chain.transition_matrix()).real)[-2]


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 1.0, 2.5]))
def test_gap_lower_bound(seed, scale):
    chain, _ = random_chain(seed, scale=scale)
    gap = dense_gap(chain)
    assert gap / 100 <= gap_lower_bound(chain) <= gap * (1 + 1e-9) + 1e-13


def test_alternating_scan_is_refused():
    chain = gibbs_chain([[0.5]], kernel="alternating")
    for call in (lambda: hitting_times(chain, [0]), lambda: mean_first_passage(chain, [1], [0]), lambda: gap_lower_bound(chain)):
        with pytest.raises(NotReversibleError, match="alternating kernel violates detailed balance"):
            call()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([], "target must be a boolean mask|target must hold at least one"),
        ([0, 1], "target must hold at least one state and not all"),
        ([2], "from 0 to 1"),
    ],
)
def test_bad_targets(target, message):
    with pytest.raises(ValueError, match=message):
        hitting_times(gibbs_chain([[0.5]]), target)


def test_bad_start():
    with pytest.raises(ValueError, match="start must hold at least one state"):
        mean_first_passage(gibbs_chain([[0.5]]), np.zeros(2, dtype=bool), [0])


def test_slow_chains_are_refused():
    with pytest.raises(UnresolvedError, match="probability of leaving some state underflows"):
        hitting_times(gibbs_chain([[400.0]]), [1], "symmetrised")


@pytest.mark.parametrize("n_pairs", [2, 3, 6])
def test_times_beyond_float64_are_refused(n_pairs):
    chain = gibbs_chain(40 * np.eye(n_pairs) + np.random.default_rng(0).normal(size=(n_pairs, n_pairs)))
    with pytest.raises(NotConvergedError, match="too hard to reach for float64"):
        hitting_times(chain, merge_tree(chain).events[-1].surviving, "symmetrised")


def test_a_singular_factor_is_refused(monkeypatch):
    def fail(*arguments, **options):
        raise scipy.linalg.LinAlgError

    monkeypatch.setattr("scipy.linalg.cho_factor", fail)
    with pytest.raises(UnresolvedError, match="I - P off the target is singular in float64"):
        hitting_times(gibbs_chain([[0.5]]), [0], "symmetrised")


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_missed_certificate_is_refused(monkeypatch, kernel):
    chain = gibbs_chain([[0.5, 0.3]], kernel=kernel)
    monkeypatch.setattr("thermokernels.quantities.first_passage.tolerances.HITTING", 1e-30)
    with pytest.raises(NotConvergedError, match="certified to a relative"):
        hitting_times(chain, [0])


def test_a_time_below_one_step_is_refused(monkeypatch):
    monkeypatch.setattr("thermokernels.solvers.off_target.RestrictedSystem.solve", lambda self, sources, tolerance: (0.5 * sources, 0.0))
    with pytest.raises(NotConvergedError, match="less than one step"):
        hitting_times(gibbs_chain([[0.5]]), [0], "symmetrised")


def test_solutions_that_are_not_finite_are_refused(monkeypatch):
    monkeypatch.setattr("thermokernels.solvers.off_target.RestrictedSystem.correction", lambda self, sources: np.full_like(sources, np.nan))
    with pytest.raises(UnresolvedError, match="no finite positive solution"):
        hitting_times(gibbs_chain([[0.5]]), [0], "symmetrised")


def test_a_gap_below_rounding_has_a_lower_bound_by_state_reduction_only(monkeypatch):
    W = np.diag([17.0, 18.0])
    assert 1e-17 < gap_lower_bound(gibbs_chain(W)) < 1e-14
    monkeypatch.setattr("thermokernels.solvers.state_reduction.reduced_resolvent.applies_to", lambda chain: False)
    with pytest.raises(UnresolvedError, match="too small for a lower bound"):
        gap_lower_bound(gibbs_chain(W))


@pytest.mark.parametrize("coupling", [4.0, 17.0, 30.0])
@pytest.mark.parametrize("method", ["auto", "reduction"])
def test_a_pair_in_two_blocks_in_closed_form(coupling, method):
    # either of two pairs {x, -x} is left at the rate of the other's probability: 1 + exp(2 w) steps to the rarer one
    chain = gibbs_chain([[coupling]], kernel="two-block")
    found = solve_hitting_times(chain, [int(chain.law.argmin())], method)
    exact = 1 + np.exp(2 * coupling)
    assert abs(found.times.max() - exact) <= found.bound.max() + 4e-16 * exact
    np.testing.assert_array_equal(found.bound, found.relative_bound * found.times)
    assert found.relative_bound <= 1e-8


@pytest.mark.parametrize("weights", [np.diag([5.0, 6.0]), np.diag([1.5, 0.5, 0.9])])
@pytest.mark.parametrize("quotient", [True, False])
def test_two_block_passages_by_either_method_meet(weights, quotient):
    chain = gibbs_chain(weights, quotient=quotient, kernel="two-block")
    reduced = solve_hitting_times(chain, [0, 3], "reduction")
    usual = solve_hitting_times(chain, [0, 3], "symmetrised")
    assert (np.abs(reduced.times - usual.times) <= (reduced.relative_bound + usual.relative_bound) * reduced.times).all()
    matrix = chain.transition_matrix()
    free = ~np.isin(np.arange(chain.n_states), [0, 3])
    dense = np.linalg.solve(np.eye(free.sum()) - matrix[np.ix_(free, free)], np.ones(free.sum()))
    np.testing.assert_allclose(reduced.times[free], dense, rtol=1e-6)
