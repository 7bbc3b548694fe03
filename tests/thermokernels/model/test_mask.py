"""Couplings that do not exist: what the mask is, and every sum over couplings against plain dense algebra on the edges that do.

The oracle forms P on all states, its fundamental matrix, and adds up edge by edge in Python; its derivatives are complex steps.
"""

import copy
import pickle

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from thermokernels.quantities.asymptotic_variance import observable_variances

W = np.array([[0.5, 0.0, 0.3], [0.0, 0.9, -0.7]])
B, C = np.array([0.1, -0.4]), np.array([0.2, 0.0, -0.3])
MASK = np.array([[True, False, True], [False, True, True]])
EDGES = [(0, 0), (0, 2), (1, 1), (1, 2)]
DATA = np.array([0.4, 0.3, 0.2, 0.1])
SAMPLES = [[1, 1], [1, -1], [-1, 1]]
MODEL = tk.Model(W, B, C, mask=MASK)


class Dense:
    """A chain of all states and the observables -v_i h_j of the edges, from couplings that may be complex."""

    def __init__(self, weights, b, c, edges, kernel="single-site"):
        n, m = weights.shape
        self.x = 1.0 - 2.0 * ((np.arange(2 ** (n + m))[:, None] >> np.arange(n + m)) & 1)
        v, h = self.x[:, :n], self.x[:, n:]
        fields = np.hstack([h @ weights.T + b, v @ weights + c])
        weight = np.exp(np.einsum("xi,ij,xj->x", v, weights, h) + v @ b + h @ c)
        self.pi = weight / weight.sum()
        self.P = {"single-site": self._single_site, "alternating": self._alternating, "two-block": self._two_block}[kernel](n, fields)
        self.f = [-v[:, i] * h[:, j] for i, j in edges]
        self.steps = {"single-site": n + m, "alternating": 1, "two-block": 2}[kernel]
        self.visible = ((self.x[:, :n] < 0) @ (1 << np.arange(n))).astype(int)

    def _single_site(self, n, fields):
        size, n_spins = self.x.shape
        P = np.zeros((size, size), dtype=fields.dtype)
        for x in range(size):
            for i in range(n_spins):
                flip = 1 / (1 + np.exp(2 * self.x[x, i] * fields[x, i])) / n_spins
                P[x, x ^ (1 << i)] += flip
                P[x, x] += 1 / n_spins - flip
        return P

    def _resampled(self, spins, fields):
        size = len(self.x)
        P = np.zeros((size, size), dtype=fields.dtype)
        others = [i for i in range(self.x.shape[1]) if i not in spins]
        for x in range(size):
            for y in range(size):
                if (self.x[x, others] == self.x[y, others]).all():
                    P[x, y] = np.prod([1 / (1 + np.exp(-2 * self.x[y, i] * fields[x, i])) for i in spins])
        return P

    def _alternating(self, n, fields):
        return self._resampled(range(n), fields) @ self._resampled(range(n, self.x.shape[1]), fields)

    def _two_block(self, n, fields):
        return (self._resampled(range(n), fields) + self._resampled(range(n, self.x.shape[1]), fields)) / 2

    def times(self):
        """T_a of every edge, in steps."""
        Z = np.linalg.inv(np.eye(len(self.pi)) - self.P + self.pi[None, :])
        return [self.pi @ ((f - self.pi @ f) * (Z @ (f - self.pi @ f))) for f in self.f]

    def time(self):
        return sum(self.times())

    def variance(self):
        return sum(self.pi @ (f - self.pi @ f) ** 2 for f in self.f)

    def asymptotic_variance(self):
        return 2 * self.time() - self.variance()

    def g(self, data):
        marginal = np.array([self.pi[self.visible == state].sum() for state in range(len(data))])
        joint = self.pi * (np.array(data) / marginal)[self.visible]
        return [joint @ f - self.pi @ f for f in self.f]

    def q(self, data, window=100.0):
        return window * self.steps / 2 * sum(g**2 for g in self.g(data)) / self.time()


def slopes(number, parts=3):
    """Derivatives of a number of (W, b, c) by complex steps: by couplings that exist, the others 0, and by the fields."""
    arrays, found = [W, B, C], [np.zeros_like(W), np.zeros_like(B), np.zeros_like(C)]
    for part in range(parts):
        for place in EDGES if part == 0 else np.ndindex(arrays[part].shape):
            moved = [array.astype(complex) for array in arrays]
            moved[part][place] += 1e-30j
            found[part][place] = number(*moved).imag / 1e-30
    return found


def test_a_mask_is_checked_and_its_own():
    given = MASK.copy()
    model = tk.Model(W, mask=given)
    given[:] = False
    for again in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model)), tk.Model(W, mask=MASK.tolist())):
        np.testing.assert_array_equal(again.mask, MASK)
        assert again == model
        assert hash(again) == hash(model)
        with pytest.raises(ValueError, match="read-only"):
            again.mask[...] = True
    assert (model.n_couplings, model.edges.tolist()) == (4, MASK.ravel().tolist())
    assert model != tk.Model(W)
    assert MODEL.without_fields() == model
    assert tk.Model(W, mask=np.ones_like(MASK)).mask is None
    assert tk.Model(W, mask=np.ones_like(MASK)) == tk.Model(W) == tk.Model(*model)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (MASK.astype(int), "mask must hold booleans, True where a coupling exists; got dtype int64"),
        (MASK.T, r"mask must have the shape of W, \(2, 3\); got shape \(3, 2\)"),
        (np.zeros_like(MASK), "mask must leave at least one coupling; it is False everywhere"),
        (~MASK, r"W must be zero where mask is False; entry \(0, 0\) is 0.5"),
        ([[True], [True, False]], "mask must be an array of booleans; got rows of different lengths"),
    ],
)
def test_masks_that_are_none(mask, words):
    with pytest.raises(ValueError, match=words):
        tk.Model(W, mask=mask)
    with pytest.raises(ValueError, match="W must be finite"):
        tk.Model(np.where(MASK, W, np.nan), mask=MASK)


def test_what_is_shown_and_kept(tmp_path):
    assert repr(MODEL) == "Model(2 visible + 3 hidden spins, 4 of 6 couplings up to 0.9, fields up to 0.4)"
    table = tk.Model(W, mask=MASK)._repr_html_()
    assert "<td>v0</td><td>0.5</td><td>\N{MIDDLE DOT}</td><td>0.3</td>" in table
    MODEL.save(tmp_path / "model.npz")
    assert tk.load_model(tmp_path / "model.npz") == MODEL
    assert tk.load_model(tmp_path / "model.npz", "zero-one").mask.tolist() == MASK.tolist()
    with pytest.raises(ValueError, match=r"path must end in \.npz for a model with mask: \.npy holds W alone"):
        tk.Model(W, mask=MASK).save(tmp_path / "model.npy")


@pytest.mark.parametrize("fields", [True, False])
@pytest.mark.parametrize("kernel", ["single-site", "alternating", "two-block"])
def test_sums_run_over_the_edges_that_exist(kernel, fields):
    b, c = (B, C) if fields else (0 * B, 0 * C)
    model, dense = tk.Model(W, b, c, mask=MASK), Dense(W, b, c, EDGES, kernel)
    chain = tk.gibbs_chain(model, kernel=kernel)
    q = tk.q_struct(model, DATA, kernel=kernel)
    expected = np.zeros_like(W)
    for edge, g in zip(EDGES, dense.g(DATA), strict=True):
        expected[edge] = g
    np.testing.assert_allclose(q.g, expected, atol=1e-15)
    assert q.t_obs == pytest.approx(dense.time(), rel=1e-10, abs=0)
    assert tk.observable_variance_time(chain) == q.t_obs
    assert q.value == pytest.approx(dense.q(DATA), rel=1e-10, abs=0)
    assert abs(q.value - dense.q(DATA)) <= q.bound + 1e-12 * q.value
    assert q.asymptotic_variance == pytest.approx(dense.asymptotic_variance(), rel=1e-9, abs=0)
    assert tk.asymptotic_variance(chain) == q.asymptotic_variance
    covariances, later = [], dense.f
    for _ in range(4):
        covariances.append(sum(dense.pi @ (f * of) - (dense.pi @ f) ** 2 for f, of in zip(dense.f, later, strict=True)))
        later = [dense.P @ f for f in later]
    np.testing.assert_allclose(tk.autocorrelation_function(chain, 3), np.array(covariances) / covariances[0], atol=1e-13)


@pytest.mark.parametrize("method", ["cholesky", "cg", "reduction"])
def test_every_solver_has_the_same_edges(method):
    dense = Dense(W, B, C, EDGES)
    chain = tk.gibbs_chain(MODEL)
    assert tk.observable_variance_time(chain, method=method) == pytest.approx(dense.time(), rel=1e-10, abs=0)
    np.testing.assert_allclose(observable_variances(chain).sum(), dense.variance(), rtol=1e-13)
    value, gradient = adjoints.observable_variance_time(MODEL, method=method)
    np.testing.assert_allclose(gradient, slopes(lambda w, b, c: Dense(w, b, c, EDGES).time(), 1)[0], atol=1e-8 * value)


def test_times_by_powers_of_the_kernel():
    """No inverse and no solve: the sum of the covariances itself."""
    dense, total = Dense(W, B, C, EDGES), 0.0
    later = [f - dense.pi @ f for f in dense.f]
    for _ in range(2000):
        total += sum(dense.pi @ (f * of) for f, of in zip(dense.f, later, strict=True))
        later = [dense.P @ of for of in later]
    assert tk.q_struct(MODEL, DATA).t_obs == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("units", ["pm1", "zero-one"])
@pytest.mark.parametrize("transposed", [False, True])
def test_times_of_single_edges_of_the_alternating_scan(transposed, units):
    """Of either layer as the smaller one, and in units 0 and 1, where the observables are (1 + v)(1 + h) / 4."""
    model = tk.Model(W.T, C, B, mask=MASK.T) if transposed else MODEL
    dense = Dense(*model, [edge[::-1] for edge in EDGES] if transposed else EDGES, "alternating")
    if units == "zero-one":
        n = model.n_visible
        edges = np.argwhere(model.mask)
        dense.f = [-(1 + dense.x[:, i]) * (1 + dense.x[:, n + j]) / 4 for i, j in edges]
    found = tk.alternating_variance_time(model, units=units)
    expected = np.zeros(model.W.shape)
    expected[model.mask] = (
        Dense.times(dense)
        if transposed is False
        else [time for _, time in sorted(zip(map(tuple, np.argwhere(model.mask)), _in_order(dense, model, units), strict=True))]
    )
    np.testing.assert_allclose(found.times, expected, rtol=1e-9)
    assert not found.variances[~model.mask].any()


def _in_order(dense, model, units):
    """Times in C order of the couplings of a transposed model, whose edges were listed in the order of the other one."""
    times = dense.times()
    if units == "zero-one":
        return times
    places = [edge[::-1] for edge in EDGES]
    return [times[places.index(tuple(edge))] for edge in np.argwhere(model.mask).tolist()]


@pytest.mark.parametrize("kernel", ["single-site", "alternating"])
def test_gradients_are_those_of_the_edges_and_zero_elsewhere(kernel):
    def agree(gradient, number):
        for part, expected in zip(gradient, slopes(number), strict=True):
            np.testing.assert_allclose(part, expected, rtol=1e-8, atol=1e-9)
        assert not gradient.W[~MASK].any()

    _, gradient = adjoints.q_struct(MODEL, DATA, kernel=kernel, fields=True)
    agree(gradient, lambda w, b, c: Dense(w, b, c, EDGES, kernel).q(DATA))
    _, gradient = adjoints.observable_variance_time(MODEL, kernel=kernel, fields=True)
    agree(gradient, lambda w, b, c: Dense(w, b, c, EDGES, kernel).time())
    _, gradient = adjoints.asymptotic_variance(MODEL, kernel=kernel, fields=True)
    agree(gradient, lambda w, b, c: Dense(w, b, c, EDGES, kernel).asymptotic_variance())


def test_gradients_by_differences_of_the_value_itself():
    step, (_, gradient) = 1e-5, adjoints.q_struct(MODEL, DATA)
    for edge in EDGES:
        moved = [W.copy(), W.copy()]
        moved[0][edge] += step
        moved[1][edge] -= step
        up, down = (tk.q_struct(tk.Model(weights, B, C, mask=MASK), DATA).value for weights in moved)
        assert gradient[edge] == pytest.approx((up - down) / (2 * step), rel=1e-6)


def test_random_signs_run_over_the_edges():
    """With as many directions as there are couplings nothing is left to chance; with none the mean of many is T_O."""
    exact = tk.q_struct(MODEL, DATA)
    q, gradient, error = adjoints.probe_q_struct(MODEL, DATA, seed=1, n_directions=9)
    assert len(q.time.directions) == 4
    assert q.value == pytest.approx(exact.value, rel=1e-10, abs=0)
    np.testing.assert_allclose(gradient, adjoints.q_struct(MODEL, DATA)[1], atol=1e-8)
    assert not error[~MASK].any()
    loose = tk.probe_variance_time(tk.gibbs_chain(MODEL), n_probes=400, seed=2, n_directions=0)
    assert abs(loose.value - exact.t_obs) < 4 * loose.standard_error
    assert not loose.directions.any()


@pytest.mark.parametrize("hidden", ["sampled", "expected"])
def test_the_noise_of_finite_windows(hidden):
    """Backwards sums written out: sum_a E(S_a / K - E f_a)^2, and the variance of the positive phase over the data."""
    dense, K = Dense(W, B, C, EDGES), 10
    found = tk.operational_q(tk.gibbs_chain(MODEL), DATA, K / 5, n_data=7, hidden=hidden)
    noise = 0.0
    for f in dense.f:
        centred = f - dense.pi @ f
        powers = [dense.pi @ (centred * (np.linalg.matrix_power(dense.P, lag) @ centred)) for lag in range(K)]
        noise += (powers[0] + 2 * sum((1 - lag / K) * powers[lag] for lag in range(1, K))) / K
    assert found.variance == pytest.approx(noise, rel=1e-10, abs=0)
    v = 1.0 - 2.0 * ((np.arange(4)[:, None] >> np.arange(2)) & 1)
    means = np.tanh(v @ W + C)
    positive = sum((DATA @ means[:, j] ** 2 if hidden == "expected" else 1.0) - (DATA @ (v[:, i] * means[:, j])) ** 2 for i, j in EDGES)
    assert found.positive == pytest.approx(positive / 7, rel=1e-12, abs=0)
    measure = tk.spectral_measure(tk.gibbs_chain(MODEL))
    assert tk.window_variance(measure, K) == pytest.approx(noise, rel=1e-9, abs=0)


def test_what_the_gradient_sees():
    """The span of the edges' products: the projection of an indicator by dense least squares."""
    chain, dense = tk.gibbs_chain(MODEL), Dense(W, B, C, EDGES)
    assert tk.observable_span(chain) == 4
    root, inside = np.sqrt(dense.pi), np.arange(32) < 11
    columns = np.stack([root * (f - dense.pi @ f) for f in dense.f], axis=1)
    target = root * (inside - dense.pi @ inside)
    rest = target - columns @ np.linalg.lstsq(columns, target, rcond=None)[0]
    assert tk.relevance(chain, inside) == pytest.approx(1 - rest @ rest / (target @ target), rel=1e-9, abs=0)
    assert tk.observable_span(chain, np.eye(6)[:, [0, 2]]) == 2
    with pytest.raises(ValueError, match="span must be zero in the rows of couplings that do not exist, by the model's mask"):
        tk.relevance(chain, inside, np.eye(6))


def test_a_diagnosis_of_the_edges():
    d = tk.diagnose(MODEL, p_data=DATA)
    dense = Dense(W, B, C, EDGES)
    assert d.t_obs.value == pytest.approx(dense.time(), rel=1e-9, abs=0)
    assert d.q.value == pytest.approx(dense.q(DATA), rel=1e-9, abs=0)
    assert d.tau_gradient.value == pytest.approx(2 * dense.time() / dense.variance() - 1, rel=1e-9, abs=0)
    single = [2 * time / (dense.pi @ (f - dense.pi @ f) ** 2) - 1 for time, f in zip(dense.times(), dense.f, strict=True)]
    assert d.slowest_observable == EDGES[int(np.argmax(single))]
    assert d.tau_observable.value == pytest.approx(max(single), rel=1e-9, abs=0)


def test_a_checkpoint_of_other_edges_is_another_computation(tmp_path):
    path = tmp_path / "sums"
    tk.observable_variance_time(tk.gibbs_chain(MODEL), method="cg", checkpoint=path)
    with pytest.raises(ValueError, match="belongs to another model, other options"):
        tk.observable_variance_time(tk.gibbs_chain(tk.Model(*MODEL)), method="cg", checkpoint=path)


def chain_of(model):
    return tk.gibbs_chain(model)


EDGEWISE, ALIKE, REFUSED = "over the edges that exist", "the same with and without", "refused"
NETWORK = tk.Hypernetwork.from_parameters(np.linspace(-1, 1, 18), (2, 2, 1, 2, 2))
FUNCTIONS = {
    "gibbs_chain": (ALIKE, lambda m: tk.gibbs_chain(m).law),
    "visible_law": (ALIKE, tk.visible_law),
    "kl_divergence": (ALIKE, lambda m: tk.kl_divergence(DATA, m)),
    "pseudo_likelihood": (ALIKE, lambda m: tk.pseudo_likelihood(m, SAMPLES)),
    "sample": (ALIKE, lambda m: tk.sample(m, n_chains=3, n_sweeps=4, seed=0).visible),
    "q_struct": (EDGEWISE, lambda m: tk.q_struct(m, DATA).value),
    "probe_q_struct": (EDGEWISE, lambda m: tk.probe_q_struct(m, DATA, seed=0).value),
    "diagnose": (EDGEWISE, lambda m: tk.diagnose(m).t_obs.value),
    "alternating_variance_time": (EDGEWISE, lambda m: tk.alternating_variance_time(m).value),
    "exchangeable_chain": (REFUSED, tk.exchangeable_chain),
    "estimate_q": (EDGEWISE, lambda m: tk.estimate_q(m, SAMPLES, n_replicates=32).value),
    "track": (EDGEWISE, lambda m: tk.track([m], SAMPLES).rows[0].value),
    "observable_variance_time": (EDGEWISE, lambda m: tk.observable_variance_time(chain_of(m))),
    "probe_variance_time": (EDGEWISE, lambda m: tk.probe_variance_time(chain_of(m), seed=0).value),
    "asymptotic_variance": (EDGEWISE, lambda m: tk.asymptotic_variance(chain_of(m))),
    "autocorrelation_function": (EDGEWISE, lambda m: tk.autocorrelation_function(chain_of(m), 3)),
    "operational_q": (EDGEWISE, lambda m: tk.operational_q(chain_of(m), DATA, 2.0).value),
    "operational_curve": (EDGEWISE, lambda m: tk.operational_curve(chain_of(m), DATA, [1.0, 2.0]).value),
    "spectral_measure": (EDGEWISE, lambda m: tk.spectral_measure(chain_of(m)).weights.sum()),
    "relevance": (EDGEWISE, lambda m: tk.relevance(chain_of(m), [0, 1, 5, 7])),
    "observable_span": (EDGEWISE, lambda m: tk.observable_span(chain_of(m))),
    "spectral_gap": (ALIKE, lambda m: tk.spectral_gap(chain_of(m))),
    "solve_spectral_gap": (ALIKE, lambda m: tk.solve_spectral_gap(chain_of(m)).value),
    "gap_lower_bound": (ALIKE, lambda m: tk.gap_lower_bound(chain_of(m))),
    "merge_tree": (ALIKE, lambda m: tk.merge_tree(chain_of(m)).n_minima),
    "hitting_times": (ALIKE, lambda m: tk.hitting_times(chain_of(m), [0])),
    "mean_first_passage": (ALIKE, lambda m: tk.mean_first_passage(chain_of(m), [0], [5])),
    "conductance": (ALIKE, lambda m: tk.conductance(chain_of(m), [0, 1])),
    "resolvent": (ALIKE, lambda m: tk.resolvent(chain_of(m), np.arange(32.0))),
    "solve_resolvent": (ALIKE, lambda m: tk.solve_resolvent(chain_of(m), np.arange(32.0)).values),
    "compare": (ALIKE, lambda m: tk.compare(np.tile([[1, 1], [-1, 1], [-1, -1]], (40, 1))[None], m, kernel="alternating").n_records),
    "adjoints.q_struct": (EDGEWISE, lambda m: adjoints.q_struct(m, DATA)[1]),
    "adjoints.observable_variance_time": (EDGEWISE, lambda m: adjoints.observable_variance_time(m)[1]),
    "adjoints.asymptotic_variance": (EDGEWISE, lambda m: adjoints.asymptotic_variance(m)[1]),
    "adjoints.kl_divergence": (EDGEWISE, lambda m: adjoints.kl_divergence(DATA, m)[1]),
    "adjoints.probe_variance_time": (EDGEWISE, lambda m: adjoints.probe_variance_time(m, seed=0)[1]),
    "adjoints.probe_q_struct": (EDGEWISE, lambda m: adjoints.probe_q_struct(m, DATA, seed=0)[1]),
    "adjoints.estimate_q": (EDGEWISE, lambda m: adjoints.estimate_q(m, SAMPLES, n_replicates=32, n_samples=128)[1].dq_dW),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_ignores_a_mask(name):
    kind, function = FUNCTIONS[name]
    if kind == REFUSED:
        with pytest.raises(ValueError, match="all 6 couplings to exist; by its mask this model has 4 of them: use Model"):
            function(MODEL)
        return
    found, whole = function(MODEL), function(tk.Model(*MODEL))
    assert np.array_equal(found, whole) == (kind == ALIKE)
    if name.startswith("adjoints."):
        assert not found[~MASK].any()


def test_no_function_of_a_model_is_forgotten():
    import inspect

    takers = {"W", "model", "chain", "history", "trace"}
    found = {
        f"{'adjoints.' if module is adjoints else ''}{name}"
        for module in (tk, adjoints)
        for name in module.__all__
        if inspect.isfunction(getattr(module, name))
        and not name.endswith("_and_gradient")  # the same functions
        and takers & set(inspect.signature(getattr(module, name)).parameters)
    }
    lumped = {name for name in found if "exchangeable_" in name} - {"exchangeable_chain"}  # of chains that are made without a mask
    assert found - lumped == set(FUNCTIONS)
