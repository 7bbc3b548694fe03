"""Spectral measure, gaps and window variance against dense eigendecompositions, explicit sums over lags, exact arithmetic, closed forms."""

import dataclasses
from decimal import Decimal, localcontext
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg

import thermokernels as tk
from thermokernels.quantities import remaining_rules, slow_modes, spectral_measure, variance_time
from thermokernels.solvers import lanczos
from thermokernels.solvers.state_reduction import reduced_gap
from thermokernels_app.experiment.design import load_design
from thermokernels_app.experiment.training import train

small = pytest.mark.small


def products(chain):
    """Centred v_i h_j as columns, (n_states, n_v n_h)."""
    spins = chain.spins().astype(float)
    visible, hidden = spins[:, : chain.n_visible], spins[:, chain.n_visible :]
    f = (visible[:, :, None] * hidden[:, None, :]).reshape(chain.n_states, -1)
    return f - chain.law @ f


def dense_modes(chain):
    """Gaps 1 - sigma of all modes but the constant one, ascending, and what the observables weigh on each."""
    root = np.sqrt(chain.law)
    generator = np.eye(chain.n_states) - root[:, None] * chain.transition_matrix() / root
    gaps, modes = scipy.linalg.eigh((generator + generator.T) / 2 + 2 * np.outer(root, root))  # the constant mode moves to the top
    return gaps[:-1], ((modes[:, :-1].T @ (root[:, None] * products(chain))) ** 2).sum(axis=1)


def summary(gaps, weights, steps):
    """Relevant gap and gamma_eff by their definitions, from all eigenpairs."""
    relevant = weights > 1e-12 * weights.sum()
    g, w = gaps[relevant], weights[relevant]
    per_sweep = 1 - np.maximum(1 - g, 0) ** steps
    cluster = per_sweep <= 3 * per_sweep.min()
    mass = w[cluster].sum()
    return SimpleNamespace(
        relevant_gap=g.min(),
        gamma_eff=mass / (w[cluster] / per_sweep[cluster]).sum(),
        gamma_eff_step=mass / (w[cluster] / g[cluster]).sum(),
    )


def lag_variance(chain, K):
    """Variance of a window mean, (1/K) sum over |t| < K of (1 - |t|/K) C_t, from powers of the dense kernel."""
    f, matrix = products(chain), chain.transition_matrix()
    later, total = f, 0.0
    for t in range(K):
        covariance = np.einsum("x,xa,xa->", chain.law, f, later)
        total += (1 if t == 0 else 2) * (1 - t / K) * covariance
        later = matrix @ later
    return total / K


def model(name, shape, seed=0):
    draws = np.random.default_rng([seed, *shape])
    n_visible, n_hidden = shape

    def planted(k, strength, noise=0.0):
        patterns = draws.choice([-1.0, 1.0], (n_visible, k)) @ draws.choice([-1.0, 1.0], (k, n_hidden))
        return strength / max(shape) * patterns + noise * draws.normal(size=shape)

    return {
        "free": lambda: np.zeros(shape),
        "weak": lambda: 0.2 * draws.normal(size=shape),
        "random": lambda: draws.normal(size=shape),
        "strong": lambda: 1.8 * draws.normal(size=shape),
        "ferromagnet": lambda: np.full(shape, 2.0 / max(shape)),
        "planted": lambda: planted(2, 3.0),
        "trained": lambda: planted(3, 3.0, 0.1),
        "pairs": lambda: np.eye(*shape) * np.linspace(0.3, 1.6, n_visible)[:, None],
        "sparse": lambda: draws.normal(size=shape) * (draws.random(shape) < 0.4),
    }[name]()


MODELS = ("free", "weak", "random", "strong", "ferromagnet", "planted", "trained", "pairs", "sparse")
CHAINS = [((2, 3), {}), ((4, 4), {}), ((3, 3), {"quotient": False}), ((4, 5), {})]
BLOCKS = {"kernel": "two-block"}
CASES = [(name, *chain) for name in MODELS for chain in CHAINS] + [("trained", (5, 5), {}), ("trained", (4, 5), BLOCKS)]


@pytest.mark.parametrize(("name", "shape", "options"), CASES)
def test_measure_and_gap_equal_the_dense_eigendecomposition(name, shape, options):
    chain = tk.gibbs_chain(model(name, shape), **options)
    gaps, weights = dense_modes(chain)
    measure, dense = tk.spectral_measure(chain), summary(gaps, weights, chain.steps_per_sweep)
    assert measure.relevant_gap == pytest.approx(dense.relevant_gap, rel=1e-8, abs=0)
    assert measure.gamma_eff == pytest.approx(dense.gamma_eff, rel=1e-8, abs=0)
    assert measure.gamma_eff_step == pytest.approx(dense.gamma_eff_step, rel=1e-8, abs=0)
    assert 0 <= measure.gamma_eff_error <= 1e-8
    assert measure.steps_per_sweep == chain.steps_per_sweep
    assert tk.spectral_gap(chain) == pytest.approx(gaps[0], rel=1e-9, abs=0)

    for K in (1, 10, 1000):
        expected = tk.window_variance(dataclasses.replace(measure, gaps=np.abs(gaps), weights=weights), K)
        assert tk.window_variance(measure, K) == pytest.approx(expected, rel=1e-8, abs=0)

    np.testing.assert_array_equal(measure.nodes, 1 - measure.gaps)
    assert np.all(np.diff(measure.gaps) > 0)
    assert np.all(measure.weights >= 0)
    variance = np.einsum("x,xa->", chain.law, products(chain) ** 2)
    assert measure.weights.sum() == pytest.approx(variance, rel=1e-11, abs=0)
    assert (measure.weights / measure.gaps).sum() == pytest.approx(tk.observable_variance_time(chain), rel=1e-8, abs=0)


@pytest.mark.parametrize("name", ["free", "random", "pairs", "ferromagnet"])
def test_runs_that_exhaust_their_subspace_agree_with_all_eigenpairs(name, monkeypatch):
    chain = tk.gibbs_chain(model(name, (3, 4)))
    direct, gap = tk.spectral_measure(chain), tk.spectral_gap(chain)
    monkeypatch.setattr(spectral_measure, "DENSE_STATES", 0)
    monkeypatch.setattr(spectral_measure, "DENSE_CLUSTER", 0)
    monkeypatch.setattr(spectral_measure, "DENSE_FALLBACK", 0)
    runs = tk.spectral_measure(chain)
    assert runs.relevant_gap == pytest.approx(direct.relevant_gap, rel=1e-9, abs=0)
    assert runs.gamma_eff_step == pytest.approx(direct.gamma_eff_step, rel=1e-9, abs=0)
    assert runs.weights.sum() == pytest.approx(direct.weights.sum(), rel=1e-11, abs=0)
    assert tk.spectral_gap(chain) == pytest.approx(gap, rel=1e-9, abs=0)


@small
@pytest.mark.parametrize("shape", [(1, 2), (2, 2), (3, 2)])
def test_free_spins_in_closed_form(shape):
    n_spins = sum(shape)
    measure = tk.spectral_measure(tk.gibbs_chain(np.zeros(shape)))
    assert measure.relevant_gap == pytest.approx(2 / n_spins, rel=1e-13, abs=0)
    assert measure.gamma_eff_step == pytest.approx(2 / n_spins, rel=1e-13, abs=0)
    assert measure.gamma_eff == pytest.approx(1 - (1 - 2 / n_spins) ** n_spins, rel=1e-13, abs=0)
    assert measure.cluster_size == 1
    assert tk.spectral_gap(tk.gibbs_chain(np.zeros(shape))) == pytest.approx(2 / n_spins, rel=1e-13, abs=0)
    assert tk.spectral_gap(tk.gibbs_chain(np.zeros(shape), quotient=False)) == pytest.approx(1 / n_spins, rel=1e-13, abs=0)
    blocks = tk.spectral_measure(tk.gibbs_chain(np.zeros(shape), kernel="two-block"))
    assert (blocks.relevant_gap, blocks.gamma_eff) == (pytest.approx(1.0), pytest.approx(1.0))


@pytest.mark.parametrize("couplings", [(0.9, 0.2), (1.4, 0.5, -0.7), (0.3, 0.6, 0.9, 1.2, 1.5)])
def test_independent_pairs_in_closed_form(couplings):
    # odd modes v + h, v - h of one pair relax at (1 -+ tanh w)/N, their products at the sum, the product v h at 2/N
    n_spins, slow = 2 * len(couplings), np.sort(1 - np.abs(np.tanh(couplings)))
    chain = tk.gibbs_chain(np.diag(couplings))
    assert tk.spectral_gap(tk.gibbs_chain(np.diag(couplings), quotient=False)) == pytest.approx(slow[0] / n_spins, rel=1e-10, abs=0)
    assert tk.spectral_gap(chain) == pytest.approx((slow[0] + slow[1]) / n_spins, rel=1e-10, abs=0)
    assert tk.spectral_measure(chain).relevant_gap == pytest.approx((slow[0] + slow[1]) / n_spins, rel=1e-10, abs=0)


@small
@pytest.mark.parametrize("w", [-1.0, 0.4, 3.0])
def test_one_coupling_forgets_in_one_step(w):
    measure = tk.spectral_measure(tk.gibbs_chain([[w]]))
    assert measure.relevant_gap == pytest.approx(1, rel=1e-14, abs=0)
    assert measure.gamma_eff == pytest.approx(1, rel=1e-14, abs=0)
    assert tk.window_variance(measure, 25) == pytest.approx(1 / np.cosh(w) ** 2 / 25, rel=1e-12, abs=0)


@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (4, 4)])
def test_odd_modes_are_invisible(shape):
    # the slowest mode of a ferromagnet is its magnetisation, which is odd: no product v_i h_j sees it
    W = np.full(shape, 0.6)
    pairs, full = tk.gibbs_chain(W), tk.gibbs_chain(W, quotient=False)
    by_pairs, by_states = tk.spectral_measure(pairs), tk.spectral_measure(full)
    assert tk.spectral_gap(full) < 0.5 * by_pairs.relevant_gap
    assert by_states.relevant_gap == pytest.approx(by_pairs.relevant_gap, rel=1e-9, abs=0)
    assert by_states.gamma_eff == pytest.approx(by_pairs.gamma_eff, rel=1e-9, abs=0)
    slower = by_states.gaps < by_pairs.relevant_gap * (1 - 1e-6)
    assert by_states.weights[slower].sum() < 1e-25
    even = dense_modes(pairs)[0]
    gaps, weights = dense_modes(full)
    odd = np.abs(gaps[:, None] - even).min(axis=1) > 1e-9
    assert odd.sum() >= len(even) / 2
    assert weights[odd].max() < 1e-25


def test_a_trained_cell_has_exactly_degenerate_eigenvalues():
    # why no eigendecomposition lies on the path of Q: it could not be differentiated here
    training = train(load_design("default"), 4, 2)
    half = next(checkpoint for checkpoint in training.checkpoints if checkpoint.name == "half")
    network = tk.Hypernetwork.from_parameters(half.phi, training.shape)
    spacings = []
    for code in np.eye(training.shape.n_codes):
        chain = tk.gibbs_chain(tk.couplings(network, code))
        matrix = np.eye(chain.n_states) - chain.apply_symmetrised_generator(np.eye(chain.n_states))
        matrix = (matrix + matrix.T) / 2
        values, vectors = np.linalg.eigh(matrix)
        nearest = np.diff(values).argmin()
        pair = vectors[:, nearest : nearest + 2].astype(np.longdouble)  # LAPACK's values are off by a few u more than the matrix
        pair = pair @ (1.5 * np.eye(2) - 0.5 * (pair.T @ pair))  # orthonormal to twice as many digits
        (a, b), (_, c) = pair.T @ (matrix.astype(np.longdouble) @ pair)
        spacings.append(float(np.hypot(a - c, 2 * b)))
        assert tk.spectral_measure(chain).relevant_gap == pytest.approx(summary(*dense_modes(chain), 8).relevant_gap, rel=1e-8, abs=0)
    assert max(spacings) < 5e-16


@small
@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
@pytest.mark.parametrize("shape", [(1, 3), (2, 2), (3, 2)])
def test_window_variance_equals_the_sum_over_lags(shape, kernel):
    chain = tk.gibbs_chain(model("random", shape), kernel=kernel)
    measure = tk.spectral_measure(chain)
    for K in (1, 2, 3, 17, 200):
        assert tk.window_variance(measure, K) == pytest.approx(lag_variance(chain, K), rel=1e-10, abs=0)


def test_window_variance_of_a_larger_chain_equals_the_sum_over_lags():
    chain = tk.gibbs_chain(model("trained", (4, 5)))
    measure = tk.spectral_measure(chain)
    for K in (1, 9, 90):
        assert tk.window_variance(measure, K) == pytest.approx(lag_variance(chain, K), rel=1e-8, abs=0)


@small
def test_window_variance_in_its_limits():
    chain = tk.gibbs_chain(model("random", (2, 3)))
    measure = tk.spectral_measure(chain)
    variance, time = measure.weights.sum(), tk.observable_variance_time(chain)
    assert tk.window_variance(measure, 1) == pytest.approx(variance, rel=1e-12, abs=0)
    assert tk.window_variance(measure, 1e9) == pytest.approx((2 * time - variance) / 1e9, rel=1e-6)


@small
@pytest.mark.parametrize("K", [1, 2, 3, 10, 999, 10**6, 10**10])
@pytest.mark.parametrize("gap", [1e-15, 1e-12, 1e-9, 1e-7, 9.9e-5, 1.01e-4, 1e-3, 0.09, 0.3, 0.999, 1.0])
def test_window_variance_keeps_its_digits_in_every_regime(gap, K):
    measure = dataclasses.replace(tk.spectral_measure(tk.gibbs_chain([[0.0]])), gaps=np.array([gap]), weights=np.array([1.0]))
    with localcontext(prec=120):
        s, k = 1 - Decimal(gap), Decimal(K)
        power = s**k if s else Decimal(0)
        exact = ((1 + s) / (1 - s) - 2 * s * (1 - power) / (k * (1 - s) ** 2)) / k
    assert tk.window_variance(measure, K) == pytest.approx(float(exact), rel=1e-12, abs=0)


@pytest.mark.parametrize("name", ["random", "trained", "pairs", "ferromagnet"])
def test_slow_modes_with_all_copies_of_degenerate_eigenvalues(name, monkeypatch):
    monkeypatch.setattr(spectral_measure, "DENSE_CLUSTER", 0)
    monkeypatch.setattr(spectral_measure, "DENSE_FALLBACK", 0)
    chain = tk.gibbs_chain(1.5 * model(name, (5, 5)))
    measure, dense = tk.spectral_measure(chain), summary(*dense_modes(chain), chain.steps_per_sweep)
    assert measure.gamma_eff == pytest.approx(dense.gamma_eff, rel=1e-9, abs=0)
    assert measure.gamma_eff_error <= 1e-8
    starts = variance_time.variance_time(chain).right_hand_sides
    modes = slow_modes.slow_modes(chain, starts, 3.0)
    assert modes.complete
    np.testing.assert_allclose(modes.vectors @ modes.vectors.T, np.eye(modes.gaps.size), atol=1e-12)
    assert modes.residuals.max() < 1e-10
    assert np.abs(modes.remainder(starts) @ modes.vectors.T).max() < 1e-12


def test_a_cluster_that_ends_in_a_bulk_is_had_from_all_eigenvalues(monkeypatch):
    chain = tk.gibbs_chain(0.6 * np.random.default_rng(2).normal(size=(4, 5)))
    monkeypatch.setattr(spectral_measure, "DENSE_STATES", 0)
    monkeypatch.setattr(slow_modes, "MOST_BYTES", 0)  # no more modes than observables: 20 of 41
    measure = tk.spectral_measure(chain)
    assert measure.cluster_size == 41
    assert measure.gamma_eff_error < 1e-9
    monkeypatch.setattr(remaining_rules, "STEPS", (24,))
    monkeypatch.setattr(spectral_measure, "DENSE_FALLBACK", chain.n_states - 1)
    rules = spectral_measure._of_eigenvalues(variance_time.variance_time(chain))
    assert rules.cluster_size is None
    assert 1e-9 < abs(rules.gamma_eff / measure.gamma_eff - 1) < rules.gamma_eff_error


@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
def test_beside_extremely_slow_modes_the_fast_ones_keep_their_digits(kernel):
    """Gaps of 1e-40 beside those of 0.2: what a short window sees is decided by the latter."""
    chain = tk.gibbs_chain([[45.0, 0.0], [0.0, 42.0], [0.0, 0.0]], quotient=False, kernel=kernel)
    measure = tk.spectral_measure(chain)
    assert measure.relevant_gap < 1e-30
    for K in (1, 10, 100):
        assert tk.window_variance(measure, K) == pytest.approx(lag_variance(chain, K), rel=1e-11, abs=0)


@small
@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
def test_lanczos_runs_side_by_side_and_in_pieces(kernel, monkeypatch):
    """Against the recurrence as it is written, and every run the same bits whatever is run beside it, on threads."""
    monkeypatch.setattr("thermokernels.common.threads.SMALLEST_WORK", 0)
    monkeypatch.setattr("thermokernels.common.threads._chosen", 3)
    chain = tk.gibbs_chain(model("random", (4, 4)), kernel=kernel)
    starts = np.random.default_rng(0).normal(size=(11, chain.n_states))
    starts -= (starts @ chain.root_law)[:, None] * chain.root_law
    runs, basis = lanczos.LanczosRuns(chain, starts), np.zeros((6, chain.n_states))
    runs.extend(2, basis[:2])
    runs.extend(4, basis[2:])
    for a, start in enumerate(starts):
        alone = lanczos.LanczosRuns(chain, start[None])
        alone.extend(6)
        assert (alone.diagonals[0] == runs.diagonals[a]).all()
        assert (alone.offdiagonals[0] == runs.offdiagonals[a]).all()
        vector, before, beta, written = start / np.linalg.norm(start), np.zeros_like(start), 0.0, []
        for k in range(6):
            written.append(vector)
            image = chain.apply_symmetrised_generator(vector[None])[0]
            alpha = vector @ image
            image -= alpha * vector + beta * before
            beta, before = np.linalg.norm(image), vector
            vector = image / beta
            np.testing.assert_allclose([runs.diagonals[a, k], runs.offdiagonals[a, k]], [alpha, beta], rtol=1e-9)
        if a == 0:
            np.testing.assert_allclose(basis, written, atol=1e-9)
            coefficients = np.random.default_rng(1).normal(size=(6, 2))
            for n_bytes in (lanczos.KEPT_BYTES, 1):  # all Lanczos vectors together, and one at a time
                monkeypatch.setattr(lanczos, "KEPT_BYTES", n_bytes)
                np.testing.assert_allclose(runs.combinations(coefficients), coefficients.T @ np.array(written), atol=1e-9)


@small
def test_tridiagonal_eigenpairs():
    draws = np.random.default_rng(0)
    diagonals, offdiagonals = draws.normal(size=(4, 7)), np.abs(draws.normal(size=(4, 7)))
    offdiagonals[2, 3] = 0.0  # a matrix in two pieces
    offdiagonals[3] = 0.0
    rows = draws.normal(size=(4, 7, 3))
    gaps, turned = lanczos.tridiagonal_eigenvalues(diagonals, offdiagonals, rows)
    for a in range(4):
        matrix = np.diag(diagonals[a]) + np.diag(offdiagonals[a, :-1], 1) + np.diag(offdiagonals[a, :-1], -1)
        values, vectors = np.linalg.eigh(matrix)
        np.testing.assert_allclose(gaps[a], values, atol=1e-13)
        np.testing.assert_allclose(np.abs(turned[a]), np.abs(vectors.T @ rows[a]), atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 2), (4, 5)])
def test_a_slow_gap_is_refused_where_state_reduction_is_not_made_for_it(shape, monkeypatch):
    chain = tk.gibbs_chain(np.full(shape, 20.0), quotient=False)
    assert 0 < tk.spectral_gap(chain) < 1e-16
    monkeypatch.setattr(reduced_gap, "applies_to", lambda chain: False)
    with pytest.raises(tk.UnresolvedError, match=r"no digit of the spectral gap is certain in float64|is certified to a relative"):
        tk.spectral_gap(chain)


@pytest.mark.parametrize("shape", [(2, 2), (4, 4), (4, 5)])
def test_a_slow_relevant_gap_is_had_by_state_reduction_or_refused(shape, monkeypatch):
    # two planted patterns of equal weight: four deep minima, two of them distinct pairs, which the products tell apart
    left, right = np.ones(shape), np.outer((-1.0) ** np.arange(shape[0]), (-1.0) ** np.arange(shape[1]))
    chain = tk.gibbs_chain(15.0 * (left + right))
    measure, gap = tk.spectral_measure(chain), tk.solve_spectral_gap(chain)
    assert 0 < measure.relevant_gap < 1e-12
    assert abs(measure.relevant_gap - gap.value) <= measure.relevant_gap_bound + gap.bound
    assert measure.resolved
    monkeypatch.setattr(reduced_gap, "applies_to", lambda chain: False)
    with pytest.raises(tk.NumericalError, match=r"float64|too slow|may be wrong by"):
        tk.spectral_measure(chain)


def test_an_unresolved_relevant_gap_is_named():
    chain = tk.gibbs_chain(np.ones((2, 2)))
    with pytest.raises(tk.UnresolvedError, match=r"the relevant spectral gap reads 1e-13 per step, below the 1e-12"):
        spectral_measure._measure(np.array([1e-13, 0.5]), np.array([1.0, 1.0]), chain.n_spins)
    with pytest.raises(tk.UnresolvedError, match=r"no observable v_i h_j varies under pi in float64, so there is no spectral measure"):
        spectral_measure._measure(np.array([0.1, 0.5]), np.zeros(2), chain.n_spins)


def test_runs_that_do_not_converge_are_refused(monkeypatch):
    chain = tk.gibbs_chain(model("strong", (5, 5)))
    monkeypatch.setattr(slow_modes, "STEPS", (2, 3))
    monkeypatch.setattr(spectral_measure, "GAP_STEPS", 16)
    monkeypatch.setattr(spectral_measure, "DENSE_CLUSTER", 0)
    monkeypatch.setattr(spectral_measure, "DENSE_FALLBACK", 0)
    with pytest.raises(tk.NotConvergedError, match=r"the slowest mode that the observables see has not converged"):
        tk.spectral_measure(chain)
    with pytest.raises(tk.NotConvergedError, match=r"the spectral gap .* still has a residual of .* after 16 Lanczos steps"):
        spectral_measure.gap_run(chain)


def test_results_repeat_bitwise():
    chain = tk.gibbs_chain(model("trained", (5, 5)))
    first, second = tk.spectral_measure(chain), tk.spectral_measure(chain)
    np.testing.assert_array_equal(first.gaps, second.gaps)
    np.testing.assert_array_equal(first.weights, second.weights)
    assert first.gamma_eff == second.gamma_eff
    assert tk.spectral_gap(chain) == tk.spectral_gap(chain)
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.gamma_eff = 0.0


@small
@pytest.mark.parametrize(
    ("K", "message"),
    [
        (0, "K must be a positive, finite number of steps; got 0"),
        (-3, "K must be a positive, finite number of steps; got -3"),
        (np.nan, "K must be a positive, finite number of steps; got nan"),
        (np.inf, "K must be a positive, finite number of steps; got inf"),
        (True, "K must be a positive number of steps; got True"),
        ("10", "K must be a positive number of steps; got '10'"),
        (None, "K must be a positive number of steps; got None"),
        ([10.0], "K must be a positive number of steps"),
        (10j, "K must be a positive number of steps; got 10j"),
    ],
)
def test_bad_windows_are_named(K, message):
    with pytest.raises(ValueError, match=message):
        tk.window_variance(tk.spectral_measure(tk.gibbs_chain([[0.5]])), K)


@pytest.mark.parametrize("coupling", [1.0, 9.0, 13.56, 18.0, 40.0])
@pytest.mark.parametrize("quotient", [True, False])
def test_small_relevant_gaps_in_closed_form(coupling, quotient):
    # the product of two pairs, each at (1 - tanh w) / 4, is the slowest even mode
    measure = tk.spectral_measure(tk.gibbs_chain(np.diag([coupling, coupling]), quotient=quotient))
    exact = 1 / (1 + np.exp(2 * coupling))
    assert abs(measure.relevant_gap - exact) <= measure.relevant_gap_bound
    if coupling > 5:  # one mode alone
        assert abs(measure.gamma_eff_step - exact) <= measure.gamma_eff_error * exact + 1e-15 * exact
    assert measure.relevant_gap == pytest.approx(exact, rel=1e-11, abs=0)
    assert measure.relevant_gap_bound <= 1e-4 * exact
    assert measure.resolved == (max(measure.relevant_gap_bound / measure.relevant_gap, measure.gamma_eff_error) <= 1e-6)


@pytest.mark.parametrize(
    ("n_states", "cut", "complete", "decomposed"),
    [
        (8, np.inf, True, "DENSE_CLUSTER"),
        (8, 0.5, True, None),
        (8, 0.5, False, "DENSE_FALLBACK"),
        (8, np.inf, False, "DENSE_FALLBACK"),
    ],
)
def test_all_eigenvalues_are_computed_where_slow_modes_are_not_a_part_of_them(n_states, cut, complete, decomposed, monkeypatch):
    """Where all modes are in the cluster, or some of it was not found, up to as many states as that pays for."""
    chain = tk.gibbs_chain(np.diag([1.0, 1.1]))
    assert chain.n_states == n_states
    time, found = variance_time.with_solutions(chain), object()
    modes = SimpleNamespace(gaps=np.array([0.1]), weights=np.array([1.0]), complete=complete)
    monkeypatch.setattr(spectral_measure, "cluster_cut", lambda *_: cut)
    monkeypatch.setattr(spectral_measure, "_decomposed", lambda *_: found)
    monkeypatch.setattr(spectral_measure, "RemainingRules", lambda *_: (_ for _ in ()).throw(tk.NotConvergedError("rules")))
    for limit, reached in ((n_states, decomposed is not None), (n_states - 1, False)):
        for name in ("DENSE_CLUSTER", "DENSE_FALLBACK"):
            monkeypatch.setattr(spectral_measure, name, limit if name == decomposed else 0)
        if reached:
            assert spectral_measure._of_eigenvalues(time, modes) is found
        else:
            with pytest.raises(tk.NotConvergedError, match="rules"):
                spectral_measure._of_eigenvalues(time, modes)


class Scripted:
    """Lanczos runs whose least Ritz values and residuals are known."""

    def __init__(self, rules):
        self.rules, self.n_steps = iter(rules), 0

    def extend(self, n_steps):
        self.n_steps += n_steps

    def gauss_rules(self):
        gap, residual = next(self.rules)
        return SimpleNamespace(gaps=np.array([[gap, 1.0]]), residuals=np.array([[residual, 1.0]]))


@pytest.mark.parametrize(
    ("rules", "steps"),
    [
        ([(0.02, 0.9 * 0.02)], 16),
        ([(0.02, 1.1 * 0.02), (0.01, 1.1 * 0.01), (0.01, 0.9 * 0.01)], 48),
        ([(0.02, 1.1 * 0.02), (0.9e-12, 1.0)], 32),
    ],
)
def test_a_run_for_the_gap_goes_on_until_its_residual_is_a_share_of_it(rules, steps, monkeypatch):
    """In units of that share; or the gap is below what float64 resolves."""
    shares = [(gap, spectral_measure.RESOLUTION * residual) for gap, residual in rules]
    monkeypatch.setattr(spectral_measure, "LanczosRuns", lambda *_: Scripted(shares))
    chain = tk.gibbs_chain(np.full((3, 4), 0.1))
    assert spectral_measure.gap_run(chain).n_steps == steps


def test_a_run_for_the_gap_ends_with_the_states(monkeypatch):
    monkeypatch.setattr(spectral_measure, "LanczosRuns", lambda *_: Scripted(4 * [(0.02, 1.0)]))
    with pytest.raises(tk.NotConvergedError, match=r"the spectral gap 0.02 still has a residual of 1 after 64 Lanczos steps"):
        spectral_measure.gap_run(tk.gibbs_chain(np.full((3, 4), 0.1)))


@small
def test_of_all_eigenvalues_the_slow_ones_come_from_reduction_and_the_others_from_the_matrix(monkeypatch):
    """As many as there are states beside the constant, each once, and with the weight of every observable."""
    chain, taken, measure_of = tk.gibbs_chain([[30.0, 0.3], [0.2, 28.0], [0.4, -0.1]], quotient=False), [], spectral_measure._measure

    def measure(gaps, weights, *rest):
        taken.append((gaps, weights))
        return measure_of(gaps, weights, *rest)

    monkeypatch.setattr(spectral_measure, "_measure", measure)
    starts = variance_time.gradient_observables(chain).right_hand_sides(slice(None))
    spectral_measure._from_reduction(chain, starts)
    ((gaps, weights),) = taken
    expected = np.linalg.eigvalsh(np.asarray(chain.symmetrised_generator_matrix()))[1:]
    assert gaps.size == chain.n_states - 1
    assert (gaps > 0.0).all()
    np.testing.assert_allclose(np.sort(gaps), expected, rtol=0, atol=1e-13)
    assert weights.sum() == pytest.approx((starts**2).sum(), rel=1e-12, abs=0)


@small
def test_eigenvalues_that_were_made_one_lie_within_the_spread_of_their_node():
    nodes = SimpleNamespace(gaps=np.array([0.5, 1.0, 2.0]))
    gaps = np.array([0.5, 1.0 - 4e-9, 1.0 + 2e-9, 2.0 + 6e-9])
    np.testing.assert_allclose(spectral_measure._spread(nodes, gaps), [0.0, 4e-9, 3e-9], rtol=1e-6, atol=0)
