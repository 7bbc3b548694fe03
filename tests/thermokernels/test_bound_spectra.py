"""Every term of the bounds of gaps and of the slow end of the spectrum covers an error of known size, and is no larger than one."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.model import rounding
from thermokernels.quantities import spectral_gap, spectral_measure
from thermokernels.quantities.variance_time import with_solutions

W = np.array([[1.1, -0.3, 0.2], [0.4, 0.9, -0.6]])
PLANTED = 1e-3


@pytest.mark.parametrize("angle", [1e-3, 0.1, 0.5])
def test_temple_takes_the_whole_square_of_the_residual(angle):
    """In two dimensions Temple's bound is the eigenvalue itself."""
    lowest, next_ = 0.2, 0.9
    value = lowest * math.cos(angle) ** 2 + next_ * math.sin(angle) ** 2
    residual = abs(math.cos(angle) * math.sin(angle)) * (next_ - lowest)
    bound = spectral_gap._temple(value, residual, 0.0, next_)
    assert bound == pytest.approx(lowest, rel=1e-13, abs=0)
    assert value - residual**2 / 4 / (next_ - value) > lowest * (1 + 1e-7)
    assert spectral_gap._temple(value, residual, 0.01, next_) < bound - 0.01
    assert spectral_gap._temple(value, residual, 0.0, value) == 0.0


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
        assert found[0] == pytest.approx(value, rel=1e-12, abs=0)
        assert residual - 1e-14 <= found[1] <= residual + 1e-12
        assert 0 < found[2] <= 1e-13


def test_errors_of_a_rayleigh_quotient_are_counted(monkeypatch):
    chain = tk.gibbs_chain(W)
    right = spectral_gap._rayleigh(chain, rotated(chain, 0.0)[0])[2]
    counted = 2 * rounding.entry_error(chain) + 2 * (5 + 8 + 8) * 2.0**-53 + rounding.law_error(chain) ** 2
    assert right == pytest.approx(counted, rel=1e-12, abs=0)
    monkeypatch.setattr(spectral_gap, "law_error", lambda _: PLANTED)  # of first order where x is along psi, and x is not
    _, residual, found = spectral_gap._rayleigh(chain, rotated(chain, 0.0)[0])
    assert found == pytest.approx(right + PLANTED**2, rel=1e-6, abs=0)
    assert residual == pytest.approx(found, rel=1e-6, abs=0)  # of a mode there is no other


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
        assert lowered[0] == pytest.approx(1.01 * (n + 1 + 4 * (5**2 + 4)) * 1e-6 * size, rel=1e-9, abs=0)
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
    expected = (1 + spread) * doubtful / mass + angle * residual / 0.1 + 2.0**-52
    assert spectral_measure._uncertainty(measure, modes, rules, 0.3, 0.0) == pytest.approx(expected, rel=1e-12, abs=0)
    missing = 1e-4
    everything = spectral_measure._uncertainty(measure, modes, rules, np.inf, missing)  # of a cluster of all modes
    assert everything == pytest.approx(missing * measure.gamma_eff / weights.sum() + 2.0**-52, rel=1e-12, abs=0)


def test_errors_of_computed_modes_move_the_cluster(monkeypatch):
    """Turns of eigenvectors, of the law in the sources, and of gaps, one at a time."""
    chain = tk.gibbs_chain(W)
    gaps, weights = np.array([0.1, 0.15, 0.9]), np.array([3.0, 2.0, 5.0])
    measure = spectral_measure._measure(gaps, weights, 1)
    nothing = np.zeros(3)
    right = spectral_measure._with_errors(measure, chain, 0.0, 0.0, nothing)
    assert right.relevant_gap_bound == pytest.approx(4 * 2.0**-52 * 0.1, rel=1e-12, abs=0)  # of sums over nodes that are merged
    spread, mass, total = spectral_measure.CLUSTER_SPREAD, 5.0, 10.0
    for error, relative in ((PLANTED, 0.0), (0.0, PLANTED)):
        moved = error + relative * 0.15
        found = spectral_measure._with_errors(measure, chain, error, relative, nothing)
        assert found.relevant_gap_bound - right.relevant_gap_bound == pytest.approx(error + relative * 0.1, rel=1e-9, abs=0)
        angle = moved / (0.9 - 0.15 - moved)
        lost = 2 * angle * math.sqrt(mass * 5.0) + angle**2 * total
        expected = (1 + spread) * lost / mass + 2 * (error / 0.1 + relative)
        assert found.gamma_eff_error - right.gamma_eff_error == pytest.approx(expected, rel=1e-9, abs=0)
    apart = np.array([0.0, PLANTED, 0.0])
    found = spectral_measure._with_errors(measure, chain, 0.0, 0.0, apart)
    assert found.gamma_eff_error - right.gamma_eff_error == pytest.approx(2 * PLANTED**2, rel=1e-3, abs=0)
    found = spectral_measure._with_errors(measure, chain, 0.0, 0.0, np.array([PLANTED, 0.0, 0.0]))
    assert found.relevant_gap_bound - right.relevant_gap_bound == pytest.approx(0.1 * PLANTED, rel=1e-9, abs=0)
    monkeypatch.setattr(spectral_measure, "law_error", lambda _: PLANTED)
    found = spectral_measure._with_errors(measure, chain, 0.0, 0.0, nothing)
    law = (1 + spread) * 4 * total / mass
    assert found.gamma_eff_error - right.gamma_eff_error == pytest.approx(law * PLANTED, rel=1e-6, abs=0)
    assert spectral_measure._with_errors(measure, chain, 0.8, 0.0, nothing).gamma_eff_error > 2  # no mode is told apart


def test_an_eigenvalue_is_off_by_entries_and_by_what_a_decomposition_rounds():
    chain = tk.gibbs_chain(W)
    assert spectral_measure._rounding(chain) == pytest.approx(2 * rounding.entry_error(chain) + 20 * 16 * 2.0**-53, rel=1e-12, abs=0)


def test_slow_modes_and_gauss_rules_have_small_bounds_too(monkeypatch):
    """A chain for which all eigenvalues are computed elsewhere, by the way of large ones."""
    chain = tk.gibbs_chain(np.diag([1.5, 1.7]) + 0.05)
    right = tk.spectral_measure(chain)
    for name in ("DENSE_STATES", "DENSE_CLUSTER", "DENSE_FALLBACK"):
        monkeypatch.setattr(spectral_measure, name, 2)
    found = spectral_measure._of_eigenvalues(with_solutions(chain))
    assert abs(found.relevant_gap - right.relevant_gap) <= found.relevant_gap_bound + right.relevant_gap_bound
    assert found.relevant_gap_bound <= 2e-8 * found.relevant_gap
    assert abs(found.gamma_eff / right.gamma_eff - 1) <= found.gamma_eff_error + right.gamma_eff_error <= 1e-6


@pytest.mark.parametrize(("term", "times"), [("law_error", 4), ("entry_error", 2)])
def test_a_gap_that_several_modes_share_is_off_by_entries_and_law(term, times, monkeypatch):
    """Temple's bound has nothing to say there, and the eigenvalue of a matrix of rounded entries is what is left."""
    chain = tk.gibbs_chain(np.zeros((2, 3)), quotient=False)
    right = spectral_gap.solve_spectral_gap(chain, sharp=False)
    assert right.value == pytest.approx(1 / 5, rel=1e-12, abs=0)
    assert right.bound <= 1e-12
    monkeypatch.setattr(spectral_gap, term, lambda _: 1e-6)
    found = spectral_gap.solve_spectral_gap(chain, sharp=False)
    assert found.bound - right.bound == pytest.approx(times * 1e-6, rel=1e-6, abs=0)
    monkeypatch.setattr(spectral_gap, term, lambda _: 0.0)
    monkeypatch.setattr(spectral_gap, "UNIT", 1e-6)
    found = spectral_gap.solve_spectral_gap(chain, sharp=False)
    assert found.bound >= 4 * (8 + 4 + 8) * 1e-6
    assert found.bound <= 4 * (8 + 4 + 8) * 1e-6 + 4e-6
