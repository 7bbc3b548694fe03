"""Exchangeable chains against the full chain: planted models with gauges, unequal classes and fields; sixty digits; closed forms."""

import heapq
import math

import mpmath as mp
import numpy as np
import pytest

import adjoints
import thermokernels as tk
from thermokernels.model.exchangeable import exchangeable_chain
from thermokernels.model.lumped import LumpedChain
from thermokernels.quantities.asymptotic_variance import total_variance
from thermokernels.quantities.exchangeable import exchangeable_blocks, exchangeable_sums
from thermokernels.solvers.lumped import lumped_elimination, lumped_solves
from thermokernels.solvers.lumped.lumped_gap_bound import gap_lower_bound

small = pytest.mark.small

# (n_v, n_h, patterns, fields, beta); patterns are random signs, so that gauges and unequal classes are the rule
MODELS = [
    (4, 5, 1, False, 1.0),
    (5, 4, 2, False, 1.5),
    (4, 4, 2, True, 1.0),
    (6, 4, 3, False, 2.0),
    (1, 3, 1, True, 1.0),
    (2, 2, 1, True, 0.5),
]
FEW = (MODELS[1], *MODELS[4:])  # of few states: quick without compilation too


def quick(models, of=FEW):
    return [pytest.param(model, marks=small if model in of else ()) for model in models]


def planted(n_visible, n_hidden, n_patterns, fields, beta, seed=3):
    draws = np.random.default_rng([seed, n_visible, n_hidden])
    xi, eta = draws.choice([-1, 1], size=(n_patterns, n_visible)), draws.choice([-1, 1], size=(n_patterns, n_hidden))
    W = beta / math.sqrt(n_visible * n_hidden) * (xi.T @ eta)
    return (W, 0.3 * xi[0], -0.2 * eta[0]) if fields else (W, None, None)


@small
@pytest.mark.parametrize("model", MODELS)
def test_law_and_kernel_are_those_of_the_full_chain_lumped(model):
    W, b, c = planted(*model)
    chain, full = exchangeable_chain(W, b, c), tk.gibbs_chain(W, b, c, quotient=False)
    spins = full.spins() * np.concatenate([chain.visible_signs, chain.hidden_signs])
    classes = [*chain.visible_classes, *(len(W) + one for one in chain.hidden_classes)]
    counts = [(spins[:, one] < 0).sum(axis=1) for one in classes]
    lumped = np.ravel_multi_index(counts, [len(one) + 1 for one in classes], order="F")
    member = np.eye(chain.n_states)[lumped]
    np.testing.assert_allclose(member.T @ full.law, chain.law, rtol=1e-12)
    f = np.random.default_rng(0).normal(size=(chain.n_states, 2))
    np.testing.assert_allclose(full.apply(f[lumped]), chain.lumped.apply(f)[lumped], atol=1e-13)
    root = chain.lumped.root_law
    expected = root[:, None] * (f - chain.lumped.apply(f))
    np.testing.assert_allclose(np.column_stack([chain.lumped.apply_generator(x) for x in (root[:, None] * f).T]), expected, atol=1e-14)


@pytest.mark.parametrize("model", quick(MODELS))
def test_numbers_of_the_full_chain(model):
    W, b, c = planted(*model)
    chain, full = exchangeable_chain(W, b, c), tk.gibbs_chain(W, b, c)
    time = exchangeable_sums.variance_time(chain)
    exact = tk.observable_variance_time(full)
    assert time.value == pytest.approx(exact, rel=1e-10, abs=0)
    assert abs(time.value - exact) <= time.bound + 1e-12 * exact
    assert time.bound < 1e-9 * exact
    assert time.variance == pytest.approx(total_variance(full)[0], rel=1e-11, abs=0)
    assert tk.observable_variance_time(chain) == time.value
    assert tk.asymptotic_variance(chain) == pytest.approx(tk.asymptotic_variance(full), rel=1e-10, abs=0)
    every = tk.gibbs_chain(W, b, c, quotient=False)
    assert tk.spectral_gap(chain) == pytest.approx(tk.spectral_gap(every), rel=1e-9, abs=0)
    assert 0.05 * tk.spectral_gap(every) < gap_lower_bound(chain.lumped) <= tk.spectral_gap(every) * (1 + 1e-10)


@pytest.mark.parametrize("model", quick(one for one in MODELS if not one[3]))
def test_gap_bound_on_even_functions(model):
    W, _, _ = planted(*model)
    chain, pairs = exchangeable_chain(W), tk.spectral_gap(tk.gibbs_chain(W))
    assert 0.05 * pairs < gap_lower_bound(chain.lumped, even=True) <= pairs * (1 + 1e-10)


def test_a_bound_where_x_and_its_mirror_image_are_too_far_apart_for_float64():
    """120 spins at beta = 3: from one ground state to the other it takes e^70 sweeps, which no even function knows of."""
    chain = tk.exchangeable_chain(np.full((60, 60), 3.0 / 60))
    time = exchangeable_sums.variance_time(chain)
    assert time.bound < 1e-9 * time.value
    with pytest.raises(tk.UnresolvedError, match="lumped chain"):
        gap_lower_bound(chain.lumped)


@pytest.mark.parametrize("model", quick(MODELS, MODELS[4:]))
def test_spectral_measure_of_the_full_chain(model, monkeypatch):
    W, b, c = planted(*model)
    full = tk.spectral_measure(tk.gibbs_chain(W, b, c))
    chain = exchangeable_chain(W, b, c)
    for dense in (lumped_solves.DENSE_STATES, 0):
        monkeypatch.setattr(lumped_solves, "DENSE_STATES", dense)
        measure = tk.spectral_measure(chain)
        assert measure.weights.sum() == pytest.approx(full.weights.sum(), rel=1e-11, abs=0)
        assert measure.relevant_gap == pytest.approx(full.relevant_gap, rel=1e-7)
        assert measure.gamma_eff == pytest.approx(full.gamma_eff, rel=1e-6)
        for steps in (1, 17, 1000):
            assert tk.window_variance(measure, steps) == pytest.approx(tk.window_variance(full, steps), rel=1e-7)
        assert tk.spectral_gap(chain) == pytest.approx(tk.spectral_gap(tk.gibbs_chain(W, b, c, quotient=False)), rel=1e-7)


@pytest.mark.parametrize("model", quick(MODELS))
def test_signal_q_and_gradient_of_the_full_chain(model):
    W, b, c = planted(*model)
    chain, n_visible = exchangeable_chain(W, b, c), len(W)
    samples, p_data = symmetric_data(chain, n_visible)
    counts = exchangeable_sums.data_counts(chain, samples)
    full, by_W = adjoints.q_struct(W, p_data, window=50.0, b=b, c=c)
    q, by_w = adjoints.exchangeable_q(chain, samples, window=50.0)
    assert q.value == pytest.approx(full.value, rel=1e-10, abs=0)
    assert q.q_limit == pytest.approx(full.q_limit, rel=1e-10)
    assert q.signal == pytest.approx(full.signal, rel=1e-10, abs=0)
    shaped = counts.reshape([len(one) + 1 for one in chain.visible_classes], order="F")
    for law in (counts, shaped):
        assert tk.exchangeable_q(chain, law, window=50.0).value == pytest.approx(q.value, rel=1e-13, abs=0)
    gauged = chain.visible_signs[:, None] * by_W * chain.hidden_signs
    expected = [[gauged[np.ix_(row, column)].sum() for column in chain.hidden_classes] for row in chain.visible_classes]
    np.testing.assert_allclose(by_w, expected, rtol=1e-7, atol=1e-8 * np.abs(expected).max())
    gauged = chain.visible_signs[:, None] * adjoints.asymptotic_variance(W, b, c)[1] * chain.hidden_signs
    expected = [[gauged[np.ix_(row, column)].sum() for column in chain.hidden_classes] for row in chain.visible_classes]
    value, gradient = adjoints.exchangeable_asymptotic_variance(chain)
    assert value == pytest.approx(tk.asymptotic_variance(chain), rel=1e-12, abs=0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-8 * np.abs(expected).max())


def symmetric_data(chain, n_visible):
    """Samples, and the law that they have once averaged over exchanges."""
    samples = np.random.default_rng(8).choice([-1, 1], p=[0.3, 0.7], size=(9, n_visible))
    spins = 1 - 2 * (np.arange(2**n_visible)[:, None] >> np.arange(n_visible) & 1)
    shape = [len(one) + 1 for one in chain.visible_classes]

    def number(rows):
        gauged = rows * chain.visible_signs
        return np.ravel_multi_index([(gauged[:, one] < 0).sum(axis=1) for one in chain.visible_classes], shape, order="F")

    counts = np.bincount(number(samples), minlength=chain.lumped.shape[1]) / len(samples)
    return samples, (counts / np.bincount(number(spins), minlength=counts.size))[number(spins)]


@pytest.mark.parametrize("model", quick([*MODELS[1:4], MODELS[5]], MODELS[5:]))
def test_finite_windows_of_the_full_chain(model):
    W, b, c = planted(*model)
    chain, full = exchangeable_chain(W, b, c), tk.gibbs_chain(W, b, c)
    samples, p_data = symmetric_data(chain, len(W))
    for start in ("stationary", "uniform", "data"):
        for window, burn_in in ((1, 0), (7, 2)):
            one, other = (
                tk.operational_q(of, data, window, burn_in, start, n_chains=2, n_data=5, hidden="sampled")
                for of, data in ((chain, samples), (full, p_data))
            )
            assert one.value == pytest.approx(other.value, rel=1e-9, abs=0)
            assert (one.bias2, one.variance, one.positive) == pytest.approx((other.bias2, other.variance, other.positive), rel=1e-9, abs=0)
    expected, sampled = (tk.operational_q(chain, samples, 3, n_data=1, hidden=hidden).positive for hidden in ("expected", "sampled"))
    assert expected == pytest.approx(tk.operational_q(full, p_data, 3, n_data=1).positive, rel=1e-10, abs=0)
    assert expected < sampled
    with pytest.raises(ValueError, match="window must be a whole number of records"):
        tk.operational_q(chain, samples, 0.01)


@pytest.mark.parametrize("start", [pytest.param("stationary", marks=small), "uniform"])
def test_curves_of_the_full_chain(start):
    W, b, c = planted(*MODELS[5])
    chain, full = exchangeable_chain(W, b, c), tk.gibbs_chain(W, b, c)
    samples, p_data = symmetric_data(chain, len(W))
    one, other = (
        tk.operational_curve(of, data, [0.5, 3], [0, 1.25], start, n_data=4, hidden="sampled")
        for of, data in ((chain, samples), (full, p_data))
    )
    for name in ("value", "bias2", "variance", "positive", "signal", "q_struct", "q_limit"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-15, err_msg=name)
    assert tk.operational_q(chain, samples, 3, 1.25, start, method="recursion").variance == pytest.approx(
        one.variance[1, 1], rel=1e-9, abs=0
    )


@small
def test_windows_that_no_recursion_ends_are_refused():
    chain = exchangeable_chain(np.full((3, 2), 0.3))
    law = [0.5, 0.2, 0.2, 0.1]
    assert tk.operational_q(chain, law, 1e9).value > 0
    with pytest.raises(
        tk.ModelTooLargeError, match=r"a recursion over 5000000000 records of 12 lumped states would take the time of 6.6e\+14"
    ):
        tk.operational_q(chain, law, 1e9, start="uniform")
    with pytest.raises(ValueError, match="method='modes' needs every state of a chain"):
        tk.operational_q(chain, law, 1, method="modes")
    with pytest.raises(ValueError, match="burn_in must be a positive, finite number of sweeps, or 0; got -1"):
        tk.operational_q(chain, law, 1, -1)


@pytest.mark.parametrize("model", quick(MODELS))
def test_passages_and_cuts_of_the_full_chain(model):
    W, b, c = planted(*model)
    chain, full = exchangeable_chain(W, b, c), tk.gibbs_chain(W, b, c, quotient=False)
    spins = full.spins() * np.concatenate([chain.visible_signs, chain.hidden_signs])
    counts = [(spins[:, one] < 0).sum(axis=1) for one in (*chain.visible_classes, *(len(W) + one for one in chain.hidden_classes))]
    lumped = np.ravel_multi_index(counts, [int(k.max()) + 1 for k in counts], order="F")
    target = np.zeros(chain.n_states, dtype=bool)
    target[[0, chain.n_states // 2]] = True
    times = tk.hitting_times(chain, target)
    np.testing.assert_allclose(times[lumped], tk.hitting_times(full, target[lumped]), rtol=1e-8)
    start = np.zeros(chain.n_states, dtype=bool)
    start[-3:] = True
    expected = tk.mean_first_passage(full, start[lumped], target[lumped])
    assert tk.mean_first_passage(chain, start, target) == pytest.approx(expected, rel=1e-8)
    assert tk.conductance(chain, target) == pytest.approx(tk.conductance(full, target[lumped]), rel=1e-11, abs=0)


@small
def test_free_energy_landscape():
    """One pattern above its critical temperature has no barrier but those of single spins, below it two basins that x -> -x exchanges."""

    def tree(beta):
        return tk.merge_tree(tk.exchangeable_chain(np.full((12, 12), beta / 12)))

    assert max((event.barrier for event in tree(0.5).events), default=0.0) < math.log(2)
    event = max(tree(2.4).events, key=lambda event: event.barrier)
    assert event.barrier > math.log(2)
    chain = tk.exchangeable_chain(np.full((12, 12), 2.4 / 12))
    assert event.dying_mass == pytest.approx(event.surviving_mass, rel=1e-5)  # but for a basin of single spins
    assert event.saddle_energy == pytest.approx(_lowest_pass(chain.free_energy.reshape(chain.lumped.shape)), rel=1e-12)


def _lowest_pass(energy):
    """The least height at which the deepest state and its mirror image are joined by single moves, by Dijkstra."""
    start = tuple(int(k) for k in np.unravel_index(energy.argmin(), energy.shape))
    end = tuple(n - 1 - k for n, k in zip(energy.shape, start, strict=True))
    heights, queue = {start: energy[start]}, [(energy[start], start)]
    while queue[0][1] != end:
        height, (row, column) = heapq.heappop(queue)
        for other in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if 0 <= other[0] < energy.shape[0] and 0 <= other[1] < energy.shape[1]:
                through = max(height, energy[other])
                if through < heights.get(other, np.inf):
                    heights[other] = through
                    heapq.heappush(queue, (through, other))
    return queue[0][0]


@small
def test_bands_that_are_too_wide_are_refused(monkeypatch):
    monkeypatch.setattr(lumped_elimination, "MOST_WORK", 10)
    with pytest.raises(tk.ModelTooLargeError, match=r"elimination of 20 lumped states in a band of 4 would take 3.2e"):
        tk.hitting_times(tk.exchangeable_chain(np.full((3, 4), 0.1)), [0])


@small
def test_classes_are_found_after_gauge_signs():
    xi, eta = np.array([1, -1, 1, -1]), np.array([1, 1, -1])
    chain = tk.exchangeable_chain(0.3 * np.outer(xi, eta))
    assert [one.tolist() for one in chain.visible_classes] == [[0, 1, 2, 3]]
    assert chain.visible_signs.tolist() == [1, -1, 1, -1]
    # a field that is not turned with the spin tells it apart
    with_field = tk.exchangeable_chain(0.3 * np.outer(xi, eta), b=[0.1, 0.1, 0.1, -0.1])
    assert [one.tolist() for one in with_field.visible_classes] == [[0, 2, 3], [1]]
    rounded = 0.1 * np.outer(xi, eta) * 3  # rounding is no difference
    assert len(tk.exchangeable_chain(np.where(xi[:, None] > 0, rounded, 0.3 * np.outer(xi, eta))).visible_classes) == 1


def test_free_spins_of_any_size():
    """Products of free spins have the gap 2 / N, and the gap of the chain is 1 / N: at N = 300, far from any enumeration."""
    chain = tk.exchangeable_chain(np.zeros((150, 150)))
    assert tk.observable_variance_time(chain) == pytest.approx(150 * 150 * 150, rel=1e-11, abs=0)
    assert tk.spectral_gap(chain) == pytest.approx(1 / 300, rel=1e-9, abs=0)
    measure = tk.spectral_measure(chain)
    assert measure.relevant_gap == pytest.approx(2 / 300, rel=1e-8, abs=0)


def test_sixty_digits():
    """T_O of two patterns on 4 + 3 spins at beta = 3, the lumped chain and its parts put together in mpmath."""
    xi, eta = np.array([[1, 1, 1, 1], [1, 1, 1, -1]]), np.array([[1, 1, 1], [1, 1, -1]])
    W = 3.0 / 4 * (xi.T @ eta)
    chain = tk.exchangeable_chain(W)
    with mp.workdps(60):
        total = mp.mpf(0)
        partition = _mp_partition(chain.lumped)
        for sector in chain.sectors():
            total += _mp_part(sector, partition)
        assert abs(tk.observable_variance_time(chain) / float(total) - 1) < 1e-10


def _mp_partition(lumped):
    return mp.fsum(_mp_weights(lumped))


def _mp_weights(lumped):
    hidden, visible = lumped.counts
    weights = []
    for h in range(lumped.shape[0]):
        for v in range(lumped.shape[1]):
            ways, energy = 1, mp.mpf(0)
            m_v = [n - 2 * int(k) for n, k in zip(lumped.visible_sizes, visible[:, v], strict=True)]
            m_h = [n - 2 * int(k) for n, k in zip(lumped.hidden_sizes, hidden[:, h], strict=True)]
            for n, k in (*zip(lumped.visible_sizes, visible[:, v], strict=True), *zip(lumped.hidden_sizes, hidden[:, h], strict=True)):
                ways *= math.comb(n, int(k))
            for c, a in enumerate(m_v):
                for d, other in enumerate(m_h):
                    energy += mp.mpf(lumped.couplings[c, d]) * a * other
            weights.append(ways * mp.exp(energy))
    return weights


def _mp_part(sector, partition):
    """multiplicity * sum_x w g z, with (killing + I - P) z = g (centred) solved without any symmetrisation, w = 4^parts weights / Z."""
    chain = sector.chain
    weights = _mp_weights(chain)
    hidden, visible = chain.counts
    n, n_columns = chain.n_states, chain.shape[1]
    matrix = mp.zeros(n)
    for x in range(n):
        h, v = divmod(x, n_columns)
        m_v = [size - 2 * int(k) for size, k in zip(chain.visible_sizes, visible[:, v], strict=True)]
        m_h = [size - 2 * int(k) for size, k in zip(chain.hidden_sizes, hidden[:, h], strict=True)]
        moves, stride = [], 1
        for c, size in enumerate(chain.visible_sizes):
            field = mp.fsum(mp.mpf(chain.couplings[c, d]) * m for d, m in enumerate(m_h))
            moves.append((size, int(visible[c, v]), field, stride))
            stride *= size + 1
        for d, size in enumerate(chain.hidden_sizes):
            field = mp.fsum(mp.mpf(chain.couplings[c, d]) * m for c, m in enumerate(m_v))
            moves.append((size, int(hidden[d, h]), field, stride))
            stride *= size + 1
        for size, k, field, step in moves:
            for count, sign, target in ((size - k, 1, x + step), (k, -1, x - step)):
                if count:
                    rate = mp.mpf(count) / chain.n_spins / (1 + mp.exp(2 * sign * field))
                    matrix[x, x] += rate
                    matrix[x, target] -= rate
    killing = mp.mpf((sector.visible is not None) + (sector.hidden is not None)) / chain.n_spins
    scale = mp.mpf(1)
    for classes, which in ((sector.visible, "visible_sizes"), (sector.hidden, "hidden_sizes")):
        if classes is not None:
            scale *= 4  # omega_c binom(n, k) = 4 binom(n - 2, k - 1)
            assert getattr(chain, which)[classes] >= 0
    law = [scale * weight / partition for weight in weights]
    total = mp.mpf(0)
    for multiplicity, function in zip(sector.multiplicities, sector.functions, strict=True):
        g = [mp.mpf(value) for value in function]
        if killing:
            shifted = matrix + killing * mp.eye(n)
        else:
            mean = mp.fsum(a * b for a, b in zip(law, g, strict=True))
            g = [value - mean for value in g]
            shifted = matrix + mp.matrix([law for _ in range(n)])
        z = mp.lu_solve(shifted, mp.matrix(g))
        total += int(multiplicity) * mp.fsum(law[x] * g[x] * z[x] for x in range(n))
    return total


def test_slow_mixing_sets_in_at_the_critical_temperature():
    """One pattern, mean-field theory: beta = 1. Below it the even modes relax in a few sweeps, above it T_O grows with N."""

    def sweeps(size, beta):
        chain = tk.exchangeable_chain(np.full((size, size), beta / size))
        return 1 / tk.spectral_gap(chain) / chain.n_spins

    assert sweeps(24, 0.5) < 2.5
    assert sweeps(24, 0.5) == pytest.approx(sweeps(12, 0.5), rel=0.2)
    assert sweeps(24, 1.6) > 5 * sweeps(12, 1.6)  # exponential in N


@small
def test_bad_input():
    with pytest.raises(ValueError, match="W must have shape"):
        tk.exchangeable_chain([1.0])
    with pytest.raises(tk.ModelTooLargeError, match="states of 20 visible and 20 hidden classes of exchangeable sites would take"):
        tk.exchangeable_chain(np.random.default_rng(0).normal(size=(20, 20)))
    with pytest.raises(ValueError, match="W, b and c must give finite energies and differences of them; the largest coupling is 1e"):
        tk.exchangeable_chain(np.full((2, 2), 1e308))
    chain = tk.exchangeable_chain(np.full((3, 2), 0.1))
    with pytest.raises(ValueError, match=r"data must be samples of shape \(n, 3\) .* of shape \(4,\); got shape \(3,\)"):
        tk.exchangeable_q(chain, [0.5, 0.2, 0.3])
    with pytest.raises(ValueError, match="data must sum to one"):
        tk.exchangeable_q(chain, [0.5, 0.2, 0.3, 0.3])
    with pytest.raises(ValueError, match="window must be a positive"):
        tk.exchangeable_q(chain, [0.5, 0.2, 0.3, 0.0], window=0)
    for function in (tk.exchangeable_q, adjoints.exchangeable_q):
        with pytest.raises(ValueError, match="chain must be a ExchangeableChain, made by exchangeable_chain"):
            function(np.zeros((2, 2)), [0.5, 0.2, 0.3])
    with pytest.raises(tk.UnresolvedError, match=r"the spectral gap reads .* per step, below the 1e-12"):
        tk.spectral_gap(tk.exchangeable_chain(np.full((8, 8), 3.0)))


@small
def test_a_solve_that_misses_its_tolerance_raises(monkeypatch):
    monkeypatch.setattr(lumped_solves, "MAX_ITERATIONS", 2)
    with pytest.raises(tk.NotConvergedError, match=r"stopped at a relative residual of .* after 2 iterations, above 1e-10"):
        tk.observable_variance_time(tk.exchangeable_chain(np.full((6, 6), 0.2)))


@small
def test_rates_of_all_moves_are_those_of_the_generator():
    chain = LumpedChain((2, 1), (3,), np.array([[0.3], [-0.5]]), np.array([0.1, 0.0]), np.array([0.2]), 6)
    one = np.ones((chain.n_states, 1))
    np.testing.assert_allclose(chain.apply(one), one, atol=1e-15)
    np.testing.assert_allclose(chain.apply_generator(chain.root_law), 0, atol=1e-15)


@small
@pytest.mark.parametrize(
    ("second", "n_hidden", "solves", "rows"), [((1, 1, -1, -1), 4, 4, 12), ((1, 1, 1, -1), 4, 5, 8), ((1, 1, -1, -1), 3, 10, 10)]
)
def test_parts_that_a_symmetry_exchanges_are_solved_once(second, n_hidden, solves, rows, monkeypatch):
    xi = np.array([[1, 1, 1, 1], second])
    W = 1.2 / 4 * (xi.T @ xi[:, :n_hidden])
    chain, full, count = exchangeable_chain(W), tk.gibbs_chain(W), []
    solve = lumped_solves.solve
    monkeypatch.setattr(lumped_solves, "solve", lambda *given: count.append(given) or solve(*given))
    time = exchangeable_sums.variance_time(chain)
    assert len(count) == solves
    every = exchangeable_sums.variance_time(chain, visit=lambda *_: None)
    assert len(count) - solves == rows
    np.testing.assert_allclose(time.by_class, every.by_class, rtol=1e-9)
    assert time.value == pytest.approx(tk.observable_variance_time(full), rel=1e-10, abs=0)
    assert (time.variance, time.residual) == pytest.approx((every.variance, every.residual), rel=1e-3, abs=1e-10)
    monkeypatch.setattr(lumped_solves, "DENSE_STATES", 0)
    assert tk.spectral_measure(chain).gamma_eff == pytest.approx(tk.spectral_measure(full).gamma_eff, rel=1e-8, abs=0)


@small
@pytest.mark.parametrize("kernel", ["alternating", "two-block", "symmetrised-alternating"])
@pytest.mark.parametrize("model", MODELS)
def test_block_samplers_of_the_full_model(model, kernel):
    W, b, c = planted(*model)
    full = tk.gibbs_chain(W, b, c, kernel=kernel)
    blocks = tk.exchangeable_blocks(exchangeable_chain(W, b, c), kernel)
    exact = tk.observable_variance_time(full)
    assert blocks.value == pytest.approx(exact, rel=1e-10, abs=0)
    assert abs(blocks.value - exact) <= blocks.bound + 1e-13 * exact
    assert blocks.bound < 1e-7 * blocks.value
    assert blocks.asymptotic_variance == pytest.approx(tk.asymptotic_variance(full), rel=1e-10, abs=0)
    law = np.full(2 ** len(W), 0.5 ** len(W))
    for records in (1, 2, 7):
        exact = tk.operational_q(full, law, records / full.steps_per_sweep).variance
        assert blocks.window_variance(records) == pytest.approx(exact, rel=1e-9, abs=0)
    if full.reversible:
        assert blocks.gap == pytest.approx(tk.spectral_measure(full).relevant_gap, rel=1e-8, abs=0)


@small
@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (2, 7)])
def test_blocks_of_layers_of_other_sizes(shape):
    """What a layer that is kept has that the other does not see: more counts on one side than on the other."""
    W = np.full(shape, 0.4)
    full = tk.observable_variance_time(tk.gibbs_chain(W, kernel="two-block"))
    assert tk.exchangeable_blocks(exchangeable_chain(W), "two-block").value == pytest.approx(full, rel=1e-11, abs=0)


@small
@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_windows_of_modes_that_are_slow_or_change_sign(steps):
    gaps, lags = np.array([1e-12, 1e-6, 1e-4, 0.01, 0.5, 1.0, 1.4]), np.arange(1, steps)
    expected = ((1 - lags / steps) * (1 - gaps[:, None]) ** (lags - 1)).sum(axis=1)
    np.testing.assert_allclose(exchangeable_blocks._later(gaps, steps), expected, rtol=1e-13, atol=1e-15)


@small
def test_blocks_that_are_too_slow_are_refused():
    xi = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, -1, -1, -1]])
    for kernel in ("alternating", "two-block", "symmetrised-alternating"):
        with pytest.raises(tk.UnresolvedError, match=f"T_O of the {kernel} kernel is not resolved"):
            tk.exchangeable_blocks(exchangeable_chain(4.0 * (xi.T @ xi)), kernel)
    with pytest.raises(ValueError, match="chain must"):
        tk.exchangeable_blocks(np.eye(2))
    with pytest.raises(ValueError, match="kernel must be one of"):
        tk.exchangeable_blocks(exchangeable_chain(0.1 * xi), "single-site")
    with pytest.raises(ValueError, match="window must"):
        tk.exchangeable_blocks(exchangeable_chain(0.1 * xi)).window_variance(0)


def test_states_take_the_memory_that_they_ask_for(memory_of):
    asked, taken = memory_of(tk.exchangeable_chain, np.full((90, 90), 0.001))
    assert 0.3 * asked < taken <= asked
