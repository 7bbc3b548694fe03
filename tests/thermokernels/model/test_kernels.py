"""Every kernel of the registry against a dense twin on all states, capability by capability. A new kernel is one line of TWINS."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.stats

import thermokernels as tk
from adjoints.signal_to_noise import chain_q_struct_gradient
from thermokernels.model.kernels.registry import KERNELS
from thermokernels.model.rounding import energy_error, entry_error
from thermokernels.quantities.spectral_gap import solve_spectral_gap
from thermokernels.solvers import resolvent

SHAPES = [(3, 2), (2, 3), (1, 1), (4, 4)]


@dataclass(frozen=True)
class Blocks:
    """The two resamplings of a model as dense matrices on all of its states, and the marginal conditional laws."""

    visible: np.ndarray  # Pi_v, (n, n)
    hidden: np.ndarray  # Pi_h
    flips: np.ndarray  # the mean of the resamplings of single spins
    v_given_h: np.ndarray  # (H, V)
    h_given_v: np.ndarray  # (V, H)


@dataclass(frozen=True)
class Twin:
    matrix: Callable[[Blocks], np.ndarray]
    reversible: bool = True
    positive: bool = True
    layer: str | None = None


TWINS = {
    "single-site": Twin(lambda of: of.flips),
    "two-block": Twin(lambda of: (of.visible + of.hidden) / 2),
    "alternating": Twin(lambda of: of.visible @ of.hidden, reversible=False, positive=False),
    "symmetrised-alternating": Twin(lambda of: (of.visible @ of.hidden + of.hidden @ of.visible) / 2, positive=False),
    "alternating-visible": Twin(lambda of: of.h_given_v @ of.v_given_h, layer="visible"),
    "alternating-hidden": Twin(lambda of: of.v_given_h @ of.h_given_v, layer="hidden"),
}
REVERSIBLE = [name for name, twin in TWINS.items() if twin.reversible]
LAYERS = [name for name, twin in TWINS.items() if twin.layer]


def model(shape, seed=0, scale=1.0):
    rng = np.random.default_rng([seed, *shape])
    return scale * rng.standard_normal(shape), rng.standard_normal(shape[0]), rng.standard_normal(shape[1])


def full_law(W, b, c):
    """States as rows of spins, and their law."""
    n_visible, n_spins = len(b), len(b) + len(c)
    x = 1.0 - 2.0 * ((np.arange(2**n_spins)[:, None] >> np.arange(n_spins)) & 1)
    v, h = x[:, :n_visible], x[:, n_visible:]
    weights = np.exp(np.einsum("xi,ij,xj->x", v, W, h) + v @ b + h @ c)
    return x, weights / weights.sum()


def blocks(W, b, c):
    x, law = full_law(W, b, c)
    n_visible = len(b)

    def resampling(spins):
        """The conditional expectation given all other spins, by Bayes' rule."""
        others = [i for i in range(x.shape[1]) if i not in spins]
        same = (x[:, None, others] == x[None, :, others]).all(axis=2)
        joint = np.where(same, law[None, :], 0.0)
        return joint / joint.sum(axis=1, keepdims=True)

    table = law.reshape(2 ** len(c), 2**n_visible)
    return Blocks(
        visible=resampling(range(n_visible)),
        hidden=resampling(range(n_visible, x.shape[1])),
        flips=np.mean([resampling([i]) for i in range(x.shape[1])], axis=0),
        v_given_h=table / table.sum(axis=1, keepdims=True),
        h_given_v=(table / table.sum(axis=0)).T,
    )


def twin_of(name, W, b, c):
    """P and its stationary law on all states of the kernel."""
    twin, (_, law) = TWINS[name], full_law(W, b, c)
    table = law.reshape(2 ** len(c), 2 ** len(b))
    return twin.matrix(blocks(W, b, c)), {None: law, "visible": table.sum(axis=0), "hidden": table.sum(axis=1)}[twin.layer]


def on_pairs(matrix, law):
    """The same on pairs {x, -x}, whose last spin is +1."""
    half = len(law) // 2
    return matrix[:half, :half] + matrix[:half, : half - 1 : -1], 2 * law[:half]


def cases(names=TWINS):
    return [
        pytest.param(name, shape, fields, id=f"{name}-{shape}-{fields}", marks=pytest.mark.small if shape == (3, 2) else ())
        for name in names
        for shape in SHAPES
        for fields in (False, True)
    ]


def build(name, shape, fields):
    W, b, c = model(shape)
    if not fields:
        b, c = np.zeros_like(b), np.zeros_like(c)
    P, law = twin_of(name, W, b, c)
    chain = tk.gibbs_chain(W, b, c, kernel=name)
    one_pair = (KERNELS[name].layer, 1) in (("visible", shape[0]), ("hidden", shape[1]))  # would be a chain of one state
    assert chain.quotient is not (fields or one_pair)
    return chain, *(on_pairs(P, law) if chain.quotient else (P, law))


def test_the_table_holds_every_kernel_and_no_other():
    assert set(TWINS) == set(KERNELS)
    assert all(KERNELS[name].name == name for name in KERNELS)


@pytest.mark.parametrize(("name", "shape", "fields"), cases())
def test_law_and_products(name, shape, fields):
    chain, P, law = build(name, shape, fields)
    np.testing.assert_allclose(chain.law, law, rtol=1e-12)
    np.testing.assert_allclose(chain.transition_matrix(), P, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(chain.law @ chain.transition_matrix(), law, rtol=1e-12)  # stationary
    F = np.random.default_rng(1).standard_normal((chain.n_states, 3))
    np.testing.assert_allclose(chain.apply(F), P @ F, atol=1e-13)
    np.testing.assert_allclose(chain.apply(F[:, 0]), P @ F[:, 0], atol=1e-13)
    np.testing.assert_allclose(chain.apply_generator(F), F - P @ F, atol=1e-13)
    assert np.abs(chain.transition_matrix() - P).max() <= entry_error(chain) + 1e-14


@pytest.mark.parametrize(("name", "shape", "fields"), cases())
def test_reversible_where_it_is_claimed_and_nowhere_else(name, shape, fields):
    chain, P, law = build(name, shape, fields)
    flux = chain.law[:, None] * chain.transition_matrix()
    assert chain.reversible is TWINS[name].reversible
    assert chain.reversible == (np.abs(flux - flux.T).max() < 1e-14) or chain.n_states <= 2  # two states are always reversible
    if not chain.reversible:
        with pytest.raises(tk.NotReversibleError, match="violates detailed balance"):
            chain.apply_symmetrised_generator(np.ones((1, chain.n_states)))
        return
    root = np.sqrt(law)
    symmetrised = np.eye(len(law)) - root[:, None] * P / root
    x = np.random.default_rng(2).standard_normal((3, chain.n_states))
    np.testing.assert_allclose(chain.apply_symmetrised_generator(x), x @ symmetrised, atol=1e-13)
    assert chain.apply_symmetrised_generator(np.empty((0, chain.n_states))).shape == (0, chain.n_states)


@pytest.mark.parametrize("name", TWINS)
def test_positive_where_it_is_claimed_and_nowhere_else(name):
    lowest = np.inf
    for seed in range(8):
        b, c = np.zeros(3), np.zeros(2)
        P, _ = twin_of(name, model((3, 2), seed, 2.0)[0], b, c)
        lowest = min(lowest, np.linalg.eigvals(P).real.min())
    assert KERNELS[name].positive is TWINS[name].positive
    if KERNELS[name].positive:
        assert lowest > -1e-12
    elif KERNELS[name].reversible:
        assert -1 / 8 - 1e-12 < lowest < -0.05


def test_eigenvalues_of_the_symmetrised_alternating_scan_end_at_minus_one_eighth():
    # two spins with correlation 1/2 on each mode: tanh W = c = 1/2, eigenvalue c (c - 1) / 2
    P = tk.gibbs_chain([[np.arctanh(0.5)]], quotient=False, kernel="symmetrised-alternating").transition_matrix()
    assert np.linalg.eigvals(P).real.min() == pytest.approx(-1 / 8, abs=1e-15)


@pytest.mark.parametrize(("name", "shape", "fields"), cases(REVERSIBLE))
def test_what_is_solved_with_it(name, shape, fields):
    chain, P, law = build(name, shape, fields)
    n = chain.n_states
    F = np.random.default_rng(3).standard_normal((n, 2))
    centred = F - law @ F
    fundamental = np.linalg.inv(np.eye(n) - P + law)
    np.testing.assert_allclose(tk.resolvent(chain, F), fundamental @ centred, rtol=1e-9, atol=1e-9)
    if not chain.dynamics.state_reduction:
        np.testing.assert_allclose(tk.resolvent(chain, F, "cg"), fundamental @ centred, rtol=1e-9, atol=1e-9)
    root = np.sqrt(law)
    gaps = 1 - np.linalg.eigvalsh(root[:, None] * P / root)
    gap = np.sort(gaps)[1]
    assert tk.spectral_gap(chain) == pytest.approx(gap, rel=1e-9, abs=0)
    found = solve_spectral_gap(chain)
    assert abs(found.value - gap) <= found.bound + 1e-14
    assert 0 < tk.gap_lower_bound(chain) <= gap * (1 + 1e-12)
    target = np.arange(n) == 0
    times = np.zeros(n)
    times[1:] = np.linalg.solve((np.eye(n) - P)[1:, 1:], np.ones(n - 1))
    np.testing.assert_allclose(tk.hitting_times(chain, target), times, rtol=1e-8)
    assert tk.conductance(chain, target) == pytest.approx(law[0] * P[0, 1:].sum() / min(law[0], 1 - law[0]), rel=1e-11, abs=0)


@pytest.mark.parametrize("name", REVERSIBLE)
def test_larger_chains_by_lanczos_and_conjugate_gradients(name):
    W, _, _ = model((9, 9), 4, 0.4)
    chain = tk.gibbs_chain(W if TWINS[name].layer else W[:5, :5], quotient=False if TWINS[name].layer else None, kernel=name)
    assert chain.n_states == 512
    P, law = chain.transition_matrix(), chain.law
    root = np.sqrt(law)
    gap = np.sort(1 - np.linalg.eigvalsh(root[:, None] * P / root))[1]
    assert tk.spectral_gap(chain) == pytest.approx(gap, rel=1e-9, abs=0)
    found = solve_spectral_gap(chain)
    assert abs(found.value - gap) <= found.bound + 1e-13
    F = np.random.default_rng(5).standard_normal((512, 3))
    expected = np.linalg.solve(np.eye(512) - P + law, F - law @ F)
    np.testing.assert_allclose(tk.resolvent(chain, F, "cg"), expected, rtol=1e-8, atol=1e-9)
    rows = (root[:, None] * (F - law @ F)).T
    together, alone = (resolvent.solve(chain, part, "cg").vectors for part in (rows, rows[1:2]))
    np.testing.assert_array_equal(together[1], alone[0])  # no bit depends on the rows beside it
    times = np.zeros(512)
    times[1:] = np.linalg.solve((np.eye(512) - P)[1:, 1:], np.ones(511))
    np.testing.assert_allclose(tk.hitting_times(chain, [0]), times, rtol=1e-8)


@pytest.mark.parametrize("name", [name for name in TWINS if TWINS[name].reversible and not TWINS[name].layer])
@pytest.mark.parametrize("shape", [pytest.param((2, 2), marks=pytest.mark.small), (4, 4)])
def test_times_and_spectral_measure_of_the_products(name, shape):
    W, b, c = model(shape)
    for chain, fields in ((tk.gibbs_chain(W, kernel=name), False), (tk.gibbs_chain(W, b, c, kernel=name), True)):
        P, law = twin_of(name, W, b if fields else 0 * b, c if fields else 0 * c)
        x, _ = full_law(W, b, c)
        f = np.einsum("xi,xj->xij", x[:, : shape[0]], x[:, shape[0] :]).reshape(len(x), -1)
        f -= law @ f
        T = np.einsum("x,xa,xa->", law, f, np.linalg.solve(np.eye(len(x)) - P + law, f))
        for method in ("auto", "cg", "reduction"):
            assert tk.observable_variance_time(chain, method) == pytest.approx(T, rel=1e-10, abs=0)
        measure = tk.spectral_measure(chain)
        assert (measure.weights / measure.gaps).sum() == pytest.approx(T, rel=1e-8, abs=0)
        assert measure.steps_per_sweep == chain.steps_per_sweep
        if not KERNELS[name].positive:
            assert measure.nodes.min() < 0
            assert measure.gamma_eff == measure.gamma_eff_step  # a sweep is one step
        K = 7
        lags = [np.einsum("x,xa,xa->", law, f, np.linalg.matrix_power(P, t) @ f) for t in range(K)]
        window = (lags[0] + 2 * sum((1 - t / K) * lags[t] for t in range(1, K))) / K
        assert tk.window_variance(measure, K) == pytest.approx(window, rel=1e-9, abs=0)
        if not KERNELS[name].positive:
            with pytest.raises(ValueError, match=r"K must be a whole number of steps where a chain has negative eigenvalues; got 2\.5"):
                tk.window_variance(measure, 2.5)


@pytest.mark.small
@pytest.mark.parametrize("name", TWINS)
def test_a_sweep_resamples_every_spin_once(name):
    for shape in ((3, 2), (2, 4)):
        chain = tk.gibbs_chain(np.zeros(shape), quotient=False, kernel=name)
        spins = chain.spins().astype(float)
        kept = chain.law @ (spins * chain.apply(spins))  # of free spins: the probability that a step leaves it alone
        assert chain.steps_per_sweep * (1 - kept).mean() == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("name", TWINS)
def test_the_law_of_samples(name):
    """Records a sweep apart: the state after a sweep given the state before has the law of the rows of P^steps."""
    W, b, c = model((2, 1) if TWINS[name].layer is None else (2, 2), 6)
    n_chains = 200_000
    s = tk.sample(W, b, c, n_chains=n_chains, n_sweeps=2, seed=3, kernel=name)
    spins = {None: np.concatenate([s.visible, s.hidden], axis=2), "visible": s.visible, "hidden": s.hidden}[TWINS[name].layer]
    before, after = (spins < 0) @ (1 << np.arange(spins.shape[2]))
    P, _ = twin_of(name, W, b, c)
    sweep = np.linalg.matrix_power(P, KERNELS[name].steps_per_sweep(len(b) + len(c)))
    counts = np.zeros_like(P)
    np.add.at(counts, (before, after), 1)
    expected = counts.sum(axis=1)[:, None] * sweep
    possible = expected > 0
    assert not counts[~possible].any()
    chi2 = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    freedom = possible.sum() - len(P)
    assert 1e-4 < scipy.stats.chi2.sf(chi2, freedom) < 1 - 1e-4


def test_samples_do_not_depend_on_threads_or_on_the_cut_of_the_burn_in():
    W, b, c = model((3, 4))
    arguments = {"n_chains": 100, "n_sweeps": 3, "seed": 1, "kernel": "symmetrised-alternating"}
    one, two = (tk.sample(W, b, c, threads=threads, burn_in=33, **arguments) for threads in (1, 2))
    np.testing.assert_array_equal(one.visible, two.visible)
    np.testing.assert_array_equal(one.hidden, two.hidden)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_has_its_own_law_energy_and_spins(name):
    W, b, c = model((4, 3))
    visible = TWINS[name].layer == "visible"
    chain = tk.gibbs_chain(W, b, c, kernel=name)
    assert (chain.n_states, chain.spins().shape) == ((16, (16, 4)) if visible else (8, (8, 3)))
    assert repr(chain).endswith(f"{chain.n_states} states, {name})")
    weights = np.exp(-chain.energy)
    assert np.log(weights.sum()) == pytest.approx(tk.gibbs_chain(W, b, c).log_partition, rel=1e-13, abs=0)
    np.testing.assert_allclose(chain.law, tk.visible_law(W, b, c) if visible else tk.visible_law(W.T, c, b), rtol=1e-12)
    pairs = tk.gibbs_chain(W, kernel=name)
    assert pairs.quotient
    assert pairs.n_states == chain.n_states // 2
    assert pairs.log_partition == pytest.approx(tk.gibbs_chain(W).log_partition, rel=1e-13)
    assert (pairs.spins()[:, -1] == 1).all()
    assert energy_error(chain) > 0


def test_both_layers_have_the_same_spectrum():
    W, b, c = model((5, 3), scale=0.7)
    gaps = [tk.spectral_gap(tk.gibbs_chain(W, b, c, kernel=name)) for name in LAYERS]
    assert gaps[0] == pytest.approx(gaps[1], rel=1e-10, abs=0)


@pytest.mark.parametrize("name", LAYERS)
def test_what_needs_both_layers_says_so(name):
    chain = tk.gibbs_chain(np.ones((2, 2)), kernel=name)
    for what, function in {
        "merge_tree, whose steps are flips of single spins,": tk.merge_tree,
        "the products v_i h_j": tk.observable_variance_time,
        "the products v_i h_j ": tk.spectral_measure,
        "the span of the products v_i h_j": tk.observable_span,
        " the products v_i h_j": lambda chain: chain_q_struct_gradient(chain, np.full(4, 0.25)),
        "the rate of flips that leave a state": lambda chain: chain.escape,
    }.items():
        message = f"^{what.strip()} needs a chain on both layers; kernel='{name}' lives on the {TWINS[name].layer} spins alone: use "
        with pytest.raises(ValueError, match=message):
            function(chain)


@pytest.mark.parametrize("name", LAYERS)
def test_a_law_that_underflows_is_refused(name):
    with pytest.raises(tk.UnresolvedError, match=f"the law of the {TWINS[name].layer} spins underflows"):
        tk.gibbs_chain(np.full((2, 2), 700.0), b=[300.0, 0.0], c=[300.0, 0.0], kernel=name)


@pytest.mark.parametrize("name", LAYERS)
def test_a_law_without_a_digit_is_refused(name):
    with pytest.raises(tk.UnresolvedError, match=r"couplings up to 1e\+150 leave no digit of the law of one layer in float64"):
        tk.gibbs_chain([[1e150, 1.0], [1.0, 1.0]], kernel=name)


def test_a_layer_too_large_for_memory_is_refused_with_its_size():
    with pytest.raises(tk.ModelTooLargeError, match="the alternating scan of 60 spins on the visible ones"):
        tk.gibbs_chain(np.zeros((30, 30)), kernel="alternating-visible")
