"""T_O, V, Q and autocorrelation times of the alternating scan against the dense non-reversible chain on all states."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.common import threads
from thermokernels.common.errors import ConstantError
from thermokernels.quantities import alternating_scan
from thermokernels.quantities.alternating_scan import solved
from thermokernels.quantities.autocorrelation_times.alternating_autocorrelation import alternating_autocorrelation_times
from thermokernels.quantities.autocorrelation_times.autocorrelation import autocorrelation_times
from thermokernels.quantities.scan_layers import Layers, Sources
from thermokernels.quantities.signal_to_noise import chain_q_struct

PUBLISHED = np.array([[0.9, 0.3, -0.3], [0.4, -0.8, 0.6], [-0.2, 0.7, 0.9]])
SHAPES = [(3, 3), (3, 2), (2, 4), (1, 3), (3, 1), (1, 1)]


def model(shape, fields, seed=0, scale=1.0):
    rng = np.random.default_rng([seed, *shape])
    W, b, c = scale * rng.standard_normal(shape), rng.standard_normal(shape[0]), rng.standard_normal(shape[1])
    return W, *((b, c) if fields else (np.zeros(shape[0]), np.zeros(shape[1])))


def dense(W, b, c):
    """States as spins, their law and P = Pi_v Pi_h, by Bayes' rule."""
    (n_visible, n_hidden), n_spins = W.shape, sum(W.shape)
    x = 1.0 - 2.0 * ((np.arange(2**n_spins)[:, None] >> np.arange(n_spins)) & 1)
    v, h = x[:, :n_visible], x[:, n_visible:]
    weights = np.exp(np.einsum("xi,ij,xj->x", v, W, h) + v @ b + h @ c)
    table = (weights / weights.sum()).reshape(2**n_hidden, 2**n_visible)
    given_hidden, given_visible = table / table.sum(axis=1, keepdims=True), table / table.sum(axis=0)
    # from (h, v) to (g, w): w given h, then g given w
    P = np.einsum("hw,gw->hgw", given_hidden, given_visible)
    P = np.broadcast_to(P[:, None], (2**n_hidden, 2**n_visible, 2**n_hidden, 2**n_visible)).reshape(2**n_spins, -1)
    return x, table.ravel(), P


def observables(W, c, x, what="products", units="pm1", fields=False):
    """f without its sign, the couplings' in C order, then those of b and c."""
    v, h = x[:, : W.shape[0]], x[:, W.shape[0] :]
    if what == "expected":
        h = np.tanh(v @ W + c)
    if units == "zero-one":
        v, h = (1 + v) / 2, (1 + h) / 2
    f = np.einsum("xi,xj->xij", v, h).reshape(len(x), -1)
    return np.hstack([f, v, h]) if fields else f


def dense_times(law, P, f):
    """sum_(t >= 0) Cov(f(x_0), f(x_t)) and Var of the columns."""
    f = f - law @ f
    return np.einsum("x,xa,xa->a", law, f, np.linalg.solve(np.eye(len(law)) - P + law, f)), law @ f**2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_fields", [False, True])
@pytest.mark.parametrize("what", ["products", "expected"])
@pytest.mark.parametrize("units", ["pm1", "zero-one"])
@pytest.mark.parametrize("fields", [False, True])
def test_times_are_those_of_the_dense_chain(shape, with_fields, what, units, fields):
    W, b, c = model(shape, with_fields)
    x, law, P = dense(W, b, c)
    values, variances = dense_times(law, P, observables(W, c, x, what, units, fields))
    if variances.sum() < 1e-20:  # v tanh(w v) of one visible spin
        with pytest.raises(ConstantError, match="no observable varies under pi"):
            tk.alternating_variance_time(W, b, c, observables=what, units=units, fields=fields)
        return
    time = tk.alternating_variance_time(W, b, c, observables=what, units=units, fields=fields)
    assert time.value == pytest.approx(values.sum(), rel=1e-12, abs=0)
    assert time.variance == pytest.approx(variances.sum(), rel=1e-12, abs=0)
    assert abs(time.variance - variances.sum()) <= time.variance_error
    assert abs(time.value - values.sum()) <= time.bound + 1e-13 * time.value < 1e-10 * time.value
    assert time.asymptotic_variance == pytest.approx(2 * values.sum() - variances.sum(), rel=1e-12, abs=0)
    np.testing.assert_allclose(time.times, values[: W.size].reshape(shape), atol=1e-12)
    np.testing.assert_allclose(time.variances, variances[: W.size].reshape(shape), rtol=1e-12, atol=1e-15)
    if fields:
        np.testing.assert_allclose(time.visible_times, values[W.size : W.size + shape[0]], atol=1e-12)
        np.testing.assert_allclose(time.hidden_times, values[W.size + shape[0] :], atol=1e-12)
    else:
        assert time.visible_times is None
        assert time.hidden_times is None


def test_published_numbers():
    chain = tk.gibbs_chain(PUBLISHED, kernel="alternating-visible", quotient=False)
    magnetisation = chain.spins().sum(axis=1)[:, None].astype(float)
    assert autocorrelation_times(chain, magnetisation)[0][0] == pytest.approx(2.330036, abs=5e-7)
    assert tk.alternating_variance_time(PUBLISHED).asymptotic_variance == pytest.approx(10.41, abs=5e-3)
    assert tk.alternating_variance_time(PUBLISHED, observables="expected").asymptotic_variance == pytest.approx(4.36, abs=5e-3)


def test_the_same_through_the_functions_of_a_chain():
    W, b, c = model((3, 2), True)
    chain, time = tk.gibbs_chain(W, b, c, kernel="alternating"), tk.alternating_variance_time(W, b, c)
    assert tk.observable_variance_time(chain) == time.value
    assert tk.observable_variance_time(chain, "cg") == time.value
    assert tk.asymptotic_variance(chain) == time.asymptotic_variance
    p_data = np.random.default_rng(1).dirichlet(np.ones(8))
    q, of_chain = tk.q_struct(W, p_data, 7.0, b=b, c=c, kernel="alternating"), chain_q_struct(chain, p_data, 7.0)
    assert (q.value, q.q_limit, q.t_obs, q.method) == (of_chain.value, of_chain.q_limit, time.value, "cg")
    single = tk.q_struct(W, p_data, 7.0, b=b, c=c)
    assert q.signal == pytest.approx(single.signal, rel=1e-14, abs=0)
    assert q.window_steps == 7.0
    assert q.value == pytest.approx(3.5 * q.signal / time.value, rel=1e-14, abs=0)
    assert q.q_limit == pytest.approx(7.0 * q.signal / time.asymptotic_variance, rel=1e-14, abs=0)
    assert 0 < q.bound < 1e-9 * q.value
    assert 0 < q.q_limit_bound < 1e-9 * q.q_limit


@pytest.mark.parametrize("kernel", ["two-block", "symmetrised-alternating"])
def test_q_of_the_other_kernels(kernel):
    W, _, _ = model((3, 2), False)
    p_data = np.random.default_rng(2).dirichlet(np.ones(8))
    chain = tk.gibbs_chain(W, kernel=kernel)
    q = tk.q_struct(W, p_data, 5.0, kernel=kernel)
    assert q.window_steps == 5 * chain.steps_per_sweep
    assert q.value == pytest.approx(q.window_steps * q.signal / (2 * tk.observable_variance_time(chain)), rel=1e-13, abs=0)


@pytest.mark.parametrize("units", ["pm1", "zero-one"])
@pytest.mark.parametrize("what", ["products", "expected"])
def test_signal_in_other_units_and_with_fields(units, what):
    W, b, c = model((3, 2), True)
    x, law, _ = dense(W, b, c)
    p_data = np.random.default_rng(3).dirichlet(np.ones(8))
    q = tk.q_struct(W, p_data, b=b, c=c, kernel="alternating", units=units, observables=what, fields=True)
    data = p_data[np.arange(32) % 8] * np.prod((1 + x[:, 3:] * np.tanh(x[:, :3] @ W + c)) / 2, axis=1)  # h given v
    f = -observables(W, c, x, "products", units, True)
    g = data @ f - law @ f
    np.testing.assert_allclose(np.concatenate([q.g.ravel(), q.g_visible, q.g_hidden]), g, atol=1e-14)
    assert q.signal == pytest.approx(g @ g, rel=1e-12, abs=0)
    assert q.value == pytest.approx(50 * (g @ g) / tk.alternating_variance_time(W, b, c, units=units, observables=what, fields=True).value)


@pytest.mark.parametrize("shape", [(3, 3), (3, 2), (2, 4), (4, 1)])
@pytest.mark.parametrize("with_fields", [False, True])
@pytest.mark.parametrize("every", [1, 2, 5])
def test_autocorrelation_times_of_any_function(shape, with_fields, every):
    W, b, c = model(shape, with_fields)
    x, law, P = dense(W, b, c)
    rng = np.random.default_rng(4)
    v, h = x[:, : shape[0]], x[:, shape[0] :]
    energy = -np.einsum("xi,ij,xj->x", v, W, h) - v @ b - h @ c
    f = np.stack([energy, v[:, 0] * h[:, -1], 1e3 * v[:, 0] * v[:, -1] + h[:, 0] * h[:, -1] + 0.1 * energy], axis=1)
    if with_fields:
        f = np.hstack([f, rng.standard_normal((len(x), 2))])
    sums, variances = dense_times(law, np.linalg.matrix_power(P, every), f)
    chain = tk.gibbs_chain(W, b, c, kernel="alternating")
    found, errors, found_variances = alternating_autocorrelation_times(chain, f[: chain.n_states], every)
    varies = variances > 1e-9
    np.testing.assert_allclose(found_variances[varies], variances[varies], rtol=1e-12)
    np.testing.assert_allclose(found[varies], (2 * sums / variances - 1)[varies], rtol=1e-10)
    assert (errors[varies] < 1e-9).all()
    through = autocorrelation_times(chain, f[: chain.n_states], every=every)
    np.testing.assert_array_equal(through[0], found)


def test_functions_of_one_layer_need_no_table_on_all_states():
    W, b, c = model((3, 2), True)
    both = tk.gibbs_chain(W, b, c, kernel="alternating")
    for kernel, columns in (("alternating-visible", slice(0, 3)), ("alternating-hidden", slice(3, 5))):
        layer = tk.gibbs_chain(W, b, c, kernel=kernel)
        alone = autocorrelation_times(layer, layer.spins().astype(float), every=3)[0]
        np.testing.assert_allclose(autocorrelation_times(both, both.spins()[:, columns].astype(float), every=3)[0], alone, rtol=1e-10)


def test_a_function_that_is_known_to_an_error():
    W, b, c = model((3, 2), True)
    chain = tk.gibbs_chain(W, b, c, kernel="alternating")
    f, delta = chain.energy[:, None], 1e-3
    times, errors, _ = alternating_autocorrelation_times(chain, f, function_error=delta)
    for seed in range(20):
        moved = f + delta * np.random.default_rng(seed).uniform(-1, 1, f.shape)
        assert abs(alternating_autocorrelation_times(chain, moved)[0] - times) <= errors
    with pytest.raises(ConstantError, match="does not vary"):
        alternating_autocorrelation_times(chain, np.ones_like(f))


def test_the_bound_covers_loose_solves():
    W, b, c = model((4, 5), True, scale=0.7)
    x, law, P = dense(W, b, c)
    values, _ = dense_times(law, P, observables(W, c, x))
    layers = Layers(tk.Model(W, b, c))
    v, h = layers.near_spins, layers.far_spins
    near = layers.of_near(v[:, None] * np.tanh(layers.near_field))
    far = layers.of_far(np.tanh(layers.far_field)[:, None] * h)
    for rtol in (1e-1, 1e-2, 1e-4):
        times = solved(layers, Sources.of_both(layers, near, far, 1 - (law @ observables(W, c, x)) ** 2, 1e-14), rtol)
        assert (np.abs(times.values - values) <= times.bounds).all()
    assert np.abs(times.values - values).max() < 1e-7  # of second order in a residual of 1e-4


def test_the_same_bits_for_every_number_of_threads():
    W, _, _ = model((10, 11), False, scale=0.2)
    before = tk.get_threads()
    try:
        results = []
        for number in (1, 2):
            tk.set_threads(number)
            time = tk.alternating_variance_time(W)
            results.append((time.value, time.bound, time.times.tobytes()))
    finally:
        tk.set_threads(before)
    assert threads.get_threads() == before
    assert results[0] == results[1]


def test_free_spins_are_drawn_anew():
    time = tk.alternating_variance_time(np.zeros((3, 4)))
    assert (time.value, time.variance, time.asymptotic_variance) == (12.0, 12.0, 12.0)
    diagonal = tk.alternating_variance_time(np.diag([0.7, 0.0, -1.1]))
    # a pair alone: its product is renewed in each sweep but for nothing, and of unlike pairs products of odd functions decay by tanh^2
    tanh = np.tanh([0.7, 0.0, -1.1])
    a, b = np.meshgrid(tanh, tanh, indexing="ij")
    expected = 1 + a * b / (1 - (a * b) ** 2) * a * b
    expected[np.diag_indices(3)] = 1 - tanh**2
    assert diagonal.times == pytest.approx(expected, rel=1e-10, abs=0)


def test_progress_is_told():
    seen = []
    W, _, _ = model((3, 2), False)
    tk.alternating_variance_time(W, fields=True, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(6, 11), (9, 11), (11, 11)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observables": "sampled"}, "observables must be one of 'products', 'expected'; got 'sampled'"),
        ({"units": "bits"}, "units must be one of 'pm1', 'zero-one'; got 'bits'"),
        ({"fields": 1}, "fields must be True or False; got 1"),
        ({"rtol": 0.0}, "rtol must be a positive"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        tk.alternating_variance_time(PUBLISHED, **options)


def test_what_is_made_for_all_states_is_refused(tmp_path):
    chain = tk.gibbs_chain(PUBLISHED, kernel="alternating")
    message = "method must be 'auto' or 'cg' for the alternating kernel, which is solved on one layer; got 'cholesky'"
    with pytest.raises(ValueError, match=message):
        tk.observable_variance_time(chain, "cholesky")
    with pytest.raises(ValueError, match="checkpoint is for kernels that are solved on all states"):
        tk.asymptotic_variance(chain, checkpoint=tmp_path / "file")
    for name, value, usual in (("observables", "expected", "products"), ("units", "zero-one", "pm1"), ("fields", True, False)):
        message = f"{name} must be {usual!r} for the single-site kernel; got {value!r}: use kernel='alternating'"
        with pytest.raises(ValueError, match=message):
            tk.q_struct(PUBLISHED, np.full(8, 1 / 8), **{name: value})
    with pytest.raises(ValueError, match="needs a chain on both layers; kernel='alternating-visible'"):
        tk.q_struct(PUBLISHED, np.full(8, 1 / 8), kernel="alternating-visible")
    q = tk.q_struct(PUBLISHED, np.full(8, 1 / 8), kernel="alternating")
    with pytest.raises(ValueError, match="q must come from a kernel that is solved on all states, such as 'single-site'"):
        _ = q.state_time


def test_slow_scans_are_refused():
    with pytest.raises((tk.UnresolvedError, tk.NotConvergedError), match="scale the couplings down"):
        tk.alternating_variance_time(np.full((4, 4), 6.0))
    with pytest.raises(tk.UnresolvedError, match="is certain to"):  # products that hardly vary
        tk.alternating_variance_time([[400.0, -400.0], [400.0, 200.0]])
    with pytest.raises(tk.UnresolvedError, match="underflows"):
        tk.alternating_variance_time(np.full((4, 4), 400.0), b=[200.0, 0, 0, 0])
    with pytest.raises(tk.NotConvergedError, match="the resolvent on one layer was solved to a relative residual of"):
        tk.alternating_variance_time(PUBLISHED, rtol=1e-30)


@pytest.mark.parametrize(("shape", "full"), [((4, 6), False), ((4, 6), True), ((7, 2), False)])
def test_memory_is_asked_for_as_much_as_arrays_take(shape, full, monkeypatch):
    """The matrix, and seven arrays of rows of both kinds on the near layer, three halves of that on the far one."""
    asked = []
    monkeypatch.setattr(alternating_scan.memory, "require", lambda n_bytes, *_: asked.append(n_bytes))
    alternating_scan._require_memory(tk.Model(np.zeros(shape)), full)
    near, far = (2 ** (size - (not full)) for size in sorted(shape))
    rows = shape[0] * shape[1] + sum(shape)
    assert asked == [8 * (near * far + 14 * rows * near + 3 * rows * far)]
