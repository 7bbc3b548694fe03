"""The proven gap against closed forms and dense eigenvalues: every route, and each of its lower bounds."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg

import thermokernels as tk
from thermokernels.quantities import first_passage, spectral_gap
from thermokernels.solvers import layer_bounds
from thermokernels.solvers import slow_cluster as slow_modes_of_a_cluster
from thermokernels.solvers.slow_cluster import slow_cluster
from thermokernels.solvers.state_reduction import reduced_gap

mp = pytest.importorskip("mpmath", reason="mpmath is not installed: pip install mpmath")


def planted(m, k, noise=0.05, seed=0):
    draws = np.random.default_rng([seed, m, k])
    return 3.0 / m * draws.choice([-1.0, 1.0], (m, k)) @ draws.choice([-1.0, 1.0], (k, m)) + noise * draws.normal(size=(m, m))


# What eigenvalues between 0 and 1 lose in float64: the bounds of small chains are below it.
DENSE = 1e-15


def dense_gap(chain):
    matrix = chain.apply_symmetrised_generator(np.eye(chain.n_states)) + 2 * np.outer(chain.root_law, chain.root_law)
    return scipy.linalg.eigvalsh(matrix, subset_by_index=(0, 0))[0]


@pytest.fixture
def without_layers(monkeypatch):
    """As for chains whose layers are too large."""
    monkeypatch.setattr(layer_bounds, "MAX_CONFIGURATIONS", 0)


@pytest.mark.parametrize("scale", [0.5, 5.0, 20.0, 46.0, 60.0, 300.0])
def test_independent_pairs_in_closed_form_however_slow(scale):
    # odd modes of one pair relax at (1 - tanh w) / N, their products at the sum
    couplings = [0.9 * scale, scale]
    with mp.workdps(400):
        rates = [float((1 - mp.tanh(mp.mpf(w))) / 4) for w in couplings]
    for quotient, exact in ((False, rates[1]), (True, sum(rates))):
        chain = tk.gibbs_chain(np.diag(couplings), quotient=quotient)
        found = spectral_gap.solve_spectral_gap(chain)
        assert abs(found.value - exact) <= found.bound <= 1e-8 * exact
        assert tk.spectral_gap(chain) == pytest.approx(exact, rel=1e-9, abs=0)
        lower = tk.gap_lower_bound(chain)
        assert 0.1 * exact <= lower <= exact * (1 + 1e-12)
    assert found.method == ("eigenvalues" if scale < 10 else "reduction")


@pytest.mark.parametrize("weights", [planted(5, 1), planted(5, 2), planted(5, 3), 0.2 * planted(5, 3), np.diag([1.0, 1.0, 1.0, 1.0, 1.2])])
def test_larger_chains_agree_with_all_eigenvalues(weights):
    chain = tk.gibbs_chain(weights)
    exact, found = dense_gap(chain), spectral_gap.solve_spectral_gap(chain)
    assert found.method == "lanczos"
    assert abs(found.value - exact) <= found.bound + 1e-12
    assert found.bound <= 2e-6 * exact  # sharp, also where the second mode is as slow as the first


def test_a_mode_is_the_gap_where_it_is_proven_to_be_the_slowest_and_no_other_is():
    chain = tk.gibbs_chain(planted(5, 2))
    matrix = chain.apply_symmetrised_generator(np.eye(chain.n_states)) + 2 * np.outer(chain.root_law, chain.root_law)
    exact, vectors = scipy.linalg.eigh(matrix, subset_by_index=(0, 1))
    found = spectral_gap.gap_of_mode(chain, vectors[:, 0])
    assert abs(found.value - exact[0]) <= found.bound <= 1e-6 * exact[0]
    assert spectral_gap.gap_of_mode(chain, vectors[:, 1]) is None
    assert spectral_gap.gap_of_mode(chain, vectors[:, 0] + 0.1 * vectors[:, 1]) is None


def test_a_slowest_mode_beside_others_that_are_about_as_slow_is_proven_to_be_it_by_the_layers_alone(monkeypatch):
    chain = tk.gibbs_chain(planted(5, 1))  # 0.0822, and the next 0.0987
    matrix = chain.apply_symmetrised_generator(np.eye(chain.n_states)) + 2 * np.outer(chain.root_law, chain.root_law)
    exact, vectors = scipy.linalg.eigh(matrix, subset_by_index=(0, 0))
    found = spectral_gap.gap_of_mode(chain, vectors[:, 0])
    assert abs(found.value - exact[0]) <= found.bound <= 1e-6 * exact[0]
    monkeypatch.setattr(layer_bounds, "MAX_CONFIGURATIONS", 0)
    assert spectral_gap.gap_of_mode(tk.gibbs_chain(planted(5, 1)), vectors[:, 0]) is None


def test_chains_that_parity_does_not_halve():
    chain = tk.gibbs_chain(planted(5, 2)[:, :4])  # 256 pairs of nine spins
    exact, found = dense_gap(chain), spectral_gap.solve_spectral_gap(chain)
    assert abs(found.value - exact) <= found.bound + 1e-12 <= 3e-6 * exact


def test_inertia_tells_a_shift_below_the_gap_from_one_above():
    for weights in (planted(5, 1), planted(5, 2)):
        chain = tk.gibbs_chain(weights)
        exact = dense_gap(chain)
        assert spectral_gap._inertia(chain, 0.999999 * exact) == 0.999999 * exact
        assert spectral_gap._inertia(chain, 1.000001 * exact) == 0.0
        assert spectral_gap._inertia(chain, 2.0 * exact) == 0.0


@pytest.mark.parametrize("weights", [planted(4, 1)[:, :2], planted(3, 2)[:, :2]], ids=["halved by parity", "whole"])
def test_inertia_counts_the_roundings_of_what_it_factorises(weights, monkeypatch):
    """With a rounding unit of which the plain twin of the matrix is just positive, or just not (Rump, theorem 2.3)."""
    chain = tk.gibbs_chain(weights)
    shift, psi, S = 0.6 * dense_gap(chain), chain.root_law, np.eye(chain.n_states) - chain.symmetrised_generator_matrix()
    escape = 1 - np.diag(S)
    S -= np.diag(np.diag(S))
    odd = np.array([bin(x).count("1") % 2 == 1 for x in range(chain.n_states)])
    kept = np.ones(chain.n_states, bool)
    if chain.n_spins % 2 == 0:
        kept = odd if escape[odd].min() <= escape[~odd].min() else ~odd
    across, inverse = S[np.ix_(kept, ~kept)], np.diag(1 / (escape[~kept] - shift))
    size = escape[kept].sum() + np.trace(across @ inverse @ across.T)
    matrix = np.diag(escape[kept] - shift) - S[np.ix_(kept, kept)] - across @ inverse @ across.T
    deflated = psi[kept] + across @ inverse @ psi[~kept]
    factor = 4 * shift / (deflated @ psi[kept])
    least = np.linalg.eigvalsh(matrix + factor * np.outer(deflated, deflated))[0]
    counted = 1.01 * (kept.sum() + 1 + 4 * (chain.n_spins**2 + 4)) * (size + factor * deflated @ deflated)
    for share, proven in ((0.999, shift), (1.001, 0.0)):
        monkeypatch.setattr(spectral_gap, "UNIT", share * least / counted)
        assert spectral_gap._inertia(chain, shift) == proven


@pytest.mark.usefixtures("without_layers")
def test_without_a_factorisation_the_bound_is_that_of_interlacing():
    chain = tk.gibbs_chain(planted(5, 1))
    found, sharp = spectral_gap.solve_spectral_gap(chain, sharp=False), spectral_gap.solve_spectral_gap(chain)
    assert found.value == pytest.approx(sharp.value, abs=sharp.bound)
    assert sharp.bound < spectral_gap.SHARP * sharp.value < found.bound
    assert found.value - found.bound == pytest.approx(tk.gap_lower_bound(chain), rel=1e-9, abs=0)
    assert abs(found.value - dense_gap(chain)) <= found.bound + DENSE


def test_reduction_and_lanczos_meet():
    chain = tk.gibbs_chain(1.2 * planted(4, 2))
    value, relative = reduced_gap.reduced_gap(chain)
    found = spectral_gap.solve_spectral_gap(chain)
    assert abs(value - found.value) <= found.bound + relative * value
    assert relative <= 1e-8


@pytest.mark.small
def test_two_blocks():
    chain = tk.gibbs_chain([[0.4, 0.2], [0.1, 0.3]], kernel="two-block")
    found = spectral_gap.solve_spectral_gap(chain)
    assert abs(found.value - dense_gap(chain)) <= found.bound + DENSE
    # one pair: on pairs {x, -x} the gap is one; x and -x are exchanged once in exp(2 w) + 1 steps
    for coupling in (3.0, 17.0, 40.0):
        found = spectral_gap.solve_spectral_gap(tk.gibbs_chain([[coupling]], quotient=False, kernel="two-block"))
        with mp.workdps(60):
            exact = (1 - mp.tanh(mp.mpf(coupling))) / 2
            assert abs(mp.mpf(found.value) - exact) <= found.bound <= 1e-8 * exact
    with pytest.raises(tk.NotReversibleError):
        spectral_gap.solve_spectral_gap(tk.gibbs_chain([[0.4]], kernel="alternating"))


def test_limits_are_named(monkeypatch):
    with pytest.raises(tk.UnresolvedError, match=r"the spectral gap of 10\*\*-34\d\.\d+ per step is below the range of float64"):
        tk.spectral_gap(tk.gibbs_chain(np.diag([400.0, 420.0])))
    with pytest.raises(tk.UnresolvedError, match=r"the spectral gap, of about 10\*\*-34\d\.\d+ per step, is below the range of float64"):
        tk.gap_lower_bound(tk.gibbs_chain(np.diag([400.0, 420.0])))
    monkeypatch.setattr(reduced_gap, "MAX_GAP_STATES", 4)
    with pytest.raises(tk.ModelTooLargeError, match=r"the gap by state reduction .* is limited to 4 states; this chain has 8"):
        reduced_gap.reduced_gap(tk.gibbs_chain(np.diag([40.0, 42.0])))


@pytest.mark.small
def test_every_eigenvalue_is_within_the_residual_of_the_decomposition():
    draws = np.random.default_rng(0)
    matrix = draws.normal(size=(20, 20))
    matrix += matrix.T
    eigenvalues, vectors = np.linalg.eigh(matrix)
    assert reduced_gap.eigenvalue_error(matrix, eigenvalues, vectors) <= 1e-11
    moved = eigenvalues + 1e-6 * draws.normal(size=20)
    assert reduced_gap.eigenvalue_error(matrix, moved, vectors) >= np.abs(moved - eigenvalues).max()
    bent = vectors + 1e-6 * draws.normal(size=(20, 20))
    assert 1e-6 <= reduced_gap.eigenvalue_error(matrix, eigenvalues, bent) <= 1e-2


@pytest.mark.small
def test_the_rounding_of_the_rates_is_the_lesser_of_two_bounds(monkeypatch):
    chain = tk.gibbs_chain(planted(4, 2))
    hitting = first_passage.solve_hitting_times(chain, [0])
    assert hitting.residual < hitting.relative_bound <= hitting.residual + 2 * chain.n_states * 1e-13
    monkeypatch.setattr("thermokernels.common.tolerances.HITTING", 0.0)
    free = np.arange(chain.n_states) != 0
    matrix = chain.transition_matrix()
    moved = np.abs(hitting.times[:, None] - hitting.times)[free]
    by_differences = first_passage.entry_error(chain) * (matrix[free] * moved).sum(axis=1).max()
    assert first_passage._rate_rounding(chain, hitting.times, free) == pytest.approx(
        min(by_differences, 2 * 126.5 * first_passage.entry_error(chain))
    )


@pytest.mark.parametrize("layers", [True, False])
def test_a_cluster_of_slow_modes_keeps_the_digits_of_its_gap(layers, monkeypatch):
    monkeypatch.setattr(layer_bounds, "MAX_CONFIGURATIONS", 2**11 if layers else 0)
    # two strong pairs among weak spins: an odd mode of each relaxes at r, their product at 2 r, and all others are fast
    chain = tk.gibbs_chain(np.diag([4.0, 4.0, 0.1, 0.1, 0.2]), quotient=False)
    rate = (1 - np.tanh(4.0)) / 10
    exact = np.array([rate, rate, 2 * rate])
    cluster = slow_cluster(chain, 1e-7)
    assert cluster.values.size == 3
    assert (cluster.lower <= exact).all()
    assert (exact <= cluster.values + cluster.rounding).all()
    assert (cluster.values - cluster.lower <= 1e-6 * exact).all()
    assert cluster.values[-1] < cluster.next < 0.1 * (1 - np.tanh(0.2))
    found = tk.solve_spectral_gap(chain)
    assert abs(found.value - rate) <= found.bound <= 1e-6 * rate
    assert tk.spectral_gap(chain) == found.value


def test_a_residual_that_is_left_lowers_the_bound_of_the_cluster(monkeypatch):
    monkeypatch.setattr(slow_modes_of_a_cluster, "MAX_ROUNDS", 2)
    chain = tk.gibbs_chain(np.diag([4.0, 4.0, 0.1, 0.1, 0.2]), quotient=False)
    early = slow_cluster(chain, 0.0)
    assert (early.values - early.lower > 1e-8 * early.values).all()
    assert (early.lower <= np.array([1.0, 1.0, 2.0]) * (1 - np.tanh(4.0)) / 10).all()


def test_no_cluster_among_modes_of_one_rate(monkeypatch):
    chain = tk.gibbs_chain(np.zeros((5, 5)))  # 45 modes at 2 / N: as many as no block holds
    with pytest.raises(tk.UnresolvedError, match="no mode is proven to be separated from the slowest ones"):
        slow_cluster(chain, 1e-7)
    monkeypatch.setattr(spectral_gap, "MAX_INERTIA_STATES", 0)
    monkeypatch.setattr(reduced_gap, "MAX_GAP_STATES", 0)
    with pytest.raises(
        tk.UnresolvedError, match=r"the spectral gap of about 0\.2 per step is certified to a relative \d\S* only, not 1e-06"
    ):
        tk.spectral_gap(chain)


@pytest.mark.parametrize(("missing", "asked"), [(5e-7, True), (0.5e-7, False)])
def test_a_bound_that_is_not_sharp_is_worth_an_inertia(missing, asked, monkeypatch):
    """Of a gap of 0.1 to a relative 1e-6, half of which the shift gives away."""
    chain, shifts = tk.gibbs_chain(np.diag([1.0, 1.1])), []

    def no_cluster(*_):
        raise tk.NotConvergedError("none")

    monkeypatch.setattr(spectral_gap, "_ritz_vector", lambda _: None)
    monkeypatch.setattr(spectral_gap, "_from_one_mode", lambda *_: (0.1, 0.1 - missing, 1e-12))
    monkeypatch.setattr(spectral_gap, "slow_cluster", no_cluster)
    monkeypatch.setattr(spectral_gap, "_inertia", lambda _, shift: (shifts.append(shift), shift)[1])
    found = spectral_gap._from_lanczos(chain, sharp=True)
    assert shifts == ([pytest.approx(0.1 * (1 - 5e-7), rel=1e-15, abs=0)] if asked else [])
    assert found.bound == pytest.approx(0.5e-7 + (2e-12 if asked else 1e-12), rel=1e-6, abs=0)
    assert spectral_gap._from_lanczos(chain, sharp=False).bound == pytest.approx(missing + 1e-12, rel=1e-6, abs=0)


@pytest.mark.parametrize("quotient", [True, False])
def test_a_value_that_is_too_large_is_as_far_off_as_the_least_eigenvalue_lies_below(quotient, monkeypatch):
    """Where Temple says nothing: the second eigenvalue would be no bound from below."""
    chain = tk.gibbs_chain(np.diag([1.0, 1.1]), quotient=quotient)
    right = spectral_gap._from_eigenvalues(chain).value
    for rayleigh in ("_rayleigh", "_extended_rayleigh"):
        monkeypatch.setattr(spectral_gap, rayleigh, lambda *_: (right + 1e-3, 1.0, 1e-6))
    assert spectral_gap._from_eigenvalues(chain).bound == pytest.approx(1e-3 + 1e-6, rel=1e-8, abs=0)


@pytest.mark.parametrize(
    ("found", "lower", "value", "bound"), [(0.09, 0.089, 0.09, 0.001), (0.11, 0.089, 0.1, 0.011), (0.09, 0.07, 0.09, 0.01)]
)
def test_of_two_pairs_of_bounds_the_nearer_ones_are_taken(found, lower, value, bound, monkeypatch):
    """A mode by itself says 0.08 to 0.1, a cluster something else; either bound holds."""
    chain = tk.gibbs_chain(np.diag([1.0, 1.1]))
    cluster = SimpleNamespace(values=np.array([found]), lower=np.array([lower]), rounding=1e-5)
    monkeypatch.setattr(spectral_gap, "_ritz_vector", lambda _: None)
    monkeypatch.setattr(spectral_gap, "_from_one_mode", lambda *_: (0.1, 0.08, 1e-12))
    monkeypatch.setattr(spectral_gap, "slow_cluster", lambda *_: cluster)
    monkeypatch.setattr(spectral_gap, "_inertia", lambda *_: 0.0)
    gap = spectral_gap._from_lanczos(chain, sharp=True)
    assert gap.value == value
    assert gap.bound == pytest.approx(bound + 1e-5, rel=1e-9, abs=0)


@pytest.mark.parametrize(("missing", "proven"), [(0.9e-7, True), (1.1e-7, False)])
def test_a_mode_is_the_gap_to_a_relative_millionth_or_not_at_all(missing, proven, monkeypatch):
    monkeypatch.setattr(spectral_gap, "_from_one_mode", lambda *_: (0.1, 0.1 - missing, 0.0))
    found = spectral_gap.gap_of_mode(tk.gibbs_chain(np.diag([1.0, 1.1])), np.ones(8))
    assert (found is not None) is proven
    assert not proven or found.bound == pytest.approx(missing, rel=1e-6, abs=0)


def test_a_quotient_in_long_double_loses_what_its_law_its_rates_and_its_sums_do(monkeypatch):
    """Numerator and denominator are weighted with pi, sums run over all states, and the answer is rounded to float64."""
    chain = tk.gibbs_chain(planted(3, 3), quotient=False)
    vector = np.linalg.eigh(np.asarray(chain.symmetrised_generator_matrix()))[1][:, 1]
    of_law, of_rates, unit = 3e-5, 2e-4, np.finfo(np.longdouble).eps / 2
    rates_of, sums = spectral_gap.extended.transition_rates, 4 * (64 + 4) * float(unit)

    def losses(law_error, rate_error):
        with monkeypatch.context() as patch:
            patch.setattr(spectral_gap.ExtendedChain, "law_error", law_error)
            patch.setattr(spectral_gap.extended, "transition_rates", lambda tables: (rates_of(tables)[0], rate_error))
            value, residual, rounding = spectral_gap._extended_rayleigh(chain, vector)
        return rounding / value, residual / value

    assert losses(0.0, 0.0)[0] == pytest.approx(sums + 2.0**-52, rel=1e-12, abs=0)
    assert losses(of_law, of_rates)[0] == pytest.approx(2 * of_law + of_rates + sums + 2.0**-52, rel=1e-12, abs=0)
    # the residual: of terms that add up to at least twice the value, and once more as a share of itself
    plain, lost = losses(0.0, 0.0)[1], losses(of_law, of_rates)[1]
    assert lost - plain > 2 * (2 * of_law + of_rates)
