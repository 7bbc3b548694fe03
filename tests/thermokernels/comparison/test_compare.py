"""Estimators beside the exact time: what is exact, what is said in words, and what is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.special

import thermokernels as tk
from thermokernels.comparison import compare as compare_module
from thermokernels.comparison import estimators as estimators_module
from thermokernels.comparison.compare import _verdict, compare

W = np.array([[0.6, -0.3], [0.2, 0.5]])

_RNG = np.random.default_rng(0)
STUCK = 4.0 * (np.where(_RNG.random((5, 5)) < 0.5, -1.0, 1.0) + 0.1 * _RNG.standard_normal((5, 5)))  # frustrated, and cold


def samples_of(weights, n_sweeps=4000, n_chains=4, kernel="single-site", thin=1, **options):
    return tk.sample(weights, n_chains=n_chains, n_sweeps=n_sweeps, kernel=kernel, thin=thin, seed=0, **({"burn_in": 200} | options))


def trace_of(*arguments, **options):
    return samples_of(*arguments, **options).trace()


@pytest.fixture
def estimators():
    pytest.importorskip("emcee", reason="emcee is not installed: pip install '.[compare]'")
    pytest.importorskip("arviz_stats", reason="ArviZ is not installed: pip install '.[compare]'")


def exact(weights, function, every, kernel="single-site"):
    """tau in records by the dense full chain."""
    chain = tk.gibbs_chain(weights, quotient=False, kernel=kernel)
    spins = chain.spins().astype(float)
    f = function(spins[:, : chain.n_visible], spins[:, chain.n_visible :])
    f = f - chain.law @ f
    power = np.linalg.matrix_power(chain.transition_matrix(), every)
    response = np.linalg.solve(np.eye(chain.n_states) - power + chain.law, f)
    return 2 * (chain.law @ (f * response)) / (chain.law @ f**2) - 1


@pytest.mark.parametrize(
    ("kernel", "steps_per_sweep"), [("single-site", 4), ("two-block", 2), ("alternating", 1), ("symmetrised-alternating", 1)]
)
def test_exact_times_are_those_of_the_recorded_series(kernel, steps_per_sweep):
    trace = trace_of(W, 60, thin=3)  # whatever it holds: the exact time is that of the kernel that is named
    found = compare(trace, W, kernel=kernel, every=3, observables=["energy", "v0h1", "magnetisation", "v1", "h0h1"])
    functions = [
        lambda v, h: -np.einsum("xi,ij,xj->x", v, W, h),
        lambda v, h: v[:, 0] * h[:, 1],
        lambda v, h: v.sum(axis=1) + h.sum(axis=1),
        lambda v, h: v[:, 1],
        lambda v, h: h[:, 0] * h[:, 1],
    ]
    assert (found.every_steps, found.n_chains, found.n_records) == (3 * steps_per_sweep, 4, 20)
    for row, function in zip(found.rows, functions, strict=True):
        known = exact(W, function, found.every_steps, kernel)
        assert row.exact_records == pytest.approx(known, rel=1e-11, abs=0)
        assert row.exact_steps == pytest.approx(known * found.every_steps, rel=1e-11, abs=0)
        assert row.length == pytest.approx(20 / known, rel=1e-11, abs=0)


def test_the_slowest_observable_is_the_slowest():
    (row,) = compare(trace_of(W, 40), W, observables=["slowest"]).rows
    times = {f"v{i}h{j}": exact(W, lambda v, h, i=i, j=j: v[:, i] * h[:, j], 4) for i in range(2) for j in range(2)}
    assert row.observable == max(times, key=times.__getitem__)


@pytest.mark.bridges
def test_estimates_of_a_fast_chain_agree(estimators):
    found = compare(trace_of(W), W)
    assert [row.observable for row in found.rows][:2] == ["energy", "magnetisation"]
    for row in found.rows:
        assert row.looks_healthy
        assert [estimate.estimator for estimate in row.estimates] == ["emcee", "ArviZ"]
        for estimate in row.estimates:
            assert estimate.verdict.startswith("agrees within the estimator's error"), (row.observable, estimate)
            assert estimate.factor == pytest.approx(estimate.steps / row.exact_steps)
    assert found.visited_mass == pytest.approx(1)
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.bridges
def test_the_estimates_are_those_of_the_packages(estimators):
    import emcee
    from arviz_stats.base import array_stats

    trace = trace_of(W, 1000)
    (row,) = compare(trace, W, observables=["v0h0"]).rows
    series = (trace[:, :, 0] * trace[:, :, 2]).astype(float)
    assert row.estimates[0].steps == pytest.approx(4 * emcee.autocorr.integrated_time(series.T)[0])
    assert row.estimates[1].steps == pytest.approx(4 * series.size / array_stats.ess(series, chain_axis=0, draw_axis=1, method="mean"))
    assert row.r_hat == pytest.approx(array_stats.rhat(series, chain_axis=0, draw_axis=1, method="rank"))


@pytest.mark.bridges
def test_a_stuck_chain_that_looks_healthy_is_seen_through(estimators):
    chain = tk.gibbs_chain(STUCK)
    found = compare(trace_of(STUCK, start=chain.spins()[chain.energy.argmin()]), STUCK, observables=["energy"])
    (row,) = found.rows
    assert row.looks_healthy
    assert row.estimates[0].factor < 0.01
    assert "times too small: no chain ever left the basin it started in" in row.estimates[0].verdict
    assert found.visited_mass < 0.99


@pytest.mark.bridges
def test_another_model_is_suspected(estimators):
    (row,) = compare(trace_of(W), 3 * W, observables=["v1"]).rows
    assert all("more than chance" in estimate.verdict for estimate in row.estimates)


@pytest.mark.bridges
def test_what_never_changes_has_no_estimate(estimators):
    trace = trace_of(W, 100)
    trace[:, :, 0] = 1
    (row,) = compare(trace, W, observables=["v0"]).rows
    assert {estimate.steps for estimate in row.estimates} == {None}
    assert "the observable never changed in the trace" in row.estimates[0].verdict
    assert row.looks_healthy is None


def test_without_estimators_the_exact_time_remains(monkeypatch):
    monkeypatch.setattr(estimators_module, "find_spec", lambda _: None)
    found = compare(trace_of(W, 40), W, observables=["energy"])
    assert found.missing == ("emcee", "arviz_stats")
    assert found.rows[0].estimates == ()
    assert found.rows[0].exact_steps > 1


def test_visible_spins_and_series():
    trace = trace_of(W, 40)
    (row,) = compare(trace[:, :, :2], W).rows
    assert row.observable == "visible-magnetisation"
    series = trace[:, :, 0].astype(float)
    assert compare(series, W, observables="v0").rows[0].exact_steps == compare(trace, W, observables=["v0"]).rows[0].exact_steps
    assert compare(series[0], W, observables=["v0"]).n_chains == 1


@pytest.mark.parametrize(
    ("trace", "options", "message"),
    [
        (np.ones((2, 9, 3)), {}, r"trace must have 4 spins a record, or the 2 visible ones"),
        (np.zeros((2, 9, 4)), {}, r"trace must hold spins \+1 and -1"),
        (
            np.ones((2, 9, 4), bool),
            {},
            r"trace must hold spins \+1 and -1; got dtype bool: .* 2 \* x.astype\(int\) - 1",
        ),
        (2 * np.zeros((2, 9, 4), np.uint8) - 1, {}, "entry .* is 255: 2 .* of unsigned units 0 and 1"),
        (np.ones((2, 3, 4)), {"layout": "chain-draw"}, "at least one chain and four records; got 2 chains of 3 records"),
        (
            np.ones((400, 100)),
            {"observables": "v0"},
            r"\(--layout\) .* 'chain-draw' for 400 chains of 100 records, 'draw-chain'",
        ),
        (np.ones((9, 9, 4)), {}, "layout .* must say"),
        (np.ones((2, 9, 4)), {"layout": "draw"}, "layout must be one of 'chain-draw', 'draw-chain'; got 'draw'"),
        (np.ones((2, 9)), {}, r"observables \(--observable\) must name the one observable whose series the trace of shape \(2, 9\) is"),
        (np.full((2, 9), np.nan), {"observables": ["energy"]}, "trace must be finite"),
        (np.ones((2, 9, 4)), {"observables": ["warmth"]}, "got 'warmth'"),
        (np.ones((2, 9, 4)), {"observables": ["v0h2"]}, "h0 to h1; got 'v0h2'"),
        (np.ones((2, 9, 2)), {"observables": ["energy"]}, "functions of the visible spins"),
        (np.ones((2, 9, 4)), {"observables": []}, "at least one observable"),
        (
            np.ones((2, 9, 4)),
            {"kernel": "gibbs"},
            "kernel must be one of 'single-site', 'two-block', 'alternating', 'symm",
        ),
        (np.ones((2, 9, 4)), {"every": 0}, "every must be an integer of at least 1"),
        ([[1, 2], [1]], {}, "rows of different lengths"),
    ],
)
def test_what_does_not_fit_is_named(trace, options, message):
    with pytest.raises(ValueError, match=message):
        compare(trace, W, **options)


# Traces of alternating samplers.

THREE = np.array([[0.9, 0.3, -0.3], [0.4, -0.8, 0.6], [-0.2, 0.7, 0.9]])


@pytest.mark.bridges
def test_the_alternating_scan_has_times_of_its_own(estimators):
    """Visible spins of it are a chain by themselves; what scikit-learn, rbms and thrml sample is not slower than it says."""
    trace = trace_of(THREE, 20000, n_chains=8, kernel="alternating")
    (row,) = compare(trace[:, :, :3], tk.Model(THREE, kernel="alternating")).rows
    assert row.exact_records == pytest.approx(2.330036, abs=5e-7)
    assert all(estimate.verdict.startswith("agrees") for estimate in row.estimates)
    for row in compare(trace, THREE, kernel="alternating").rows:
        assert all(estimate.verdict.startswith("agrees") for estimate in row.estimates), row


@pytest.mark.bridges
def test_the_kernel_that_was_named_is_doubted_before_the_trace(estimators):
    trace = trace_of(THREE, 20000, n_chains=8, kernel="alternating")[:, :, :3]
    (row,) = compare(trace, THREE).rows
    for estimate in row.estimates:
        assert "the single-site kernel that you named does not fit, the alternating kernel does: its exact time is 2.33" in estimate.verdict
        assert estimate.fits == "alternating"
    assert row.looks_healthy
    assert not row.misleads


def test_samples_say_how_they_were_made():
    samples = samples_of(THREE, 60, thin=3, kernel="alternating")
    found = compare(samples, THREE, observables=["v0h0"])
    assert (found.kernel, found.every_steps, found.n_chains, found.n_records) == ("alternating", 3, 4, 20)
    assert found == compare(samples.trace(), THREE, observables=["v0h0"], kernel="alternating", every=3)


# Axes.


class Labelled(np.ndarray):
    """As xarray's, whose axes have names."""

    dims = ("draw", "chain", "spin")

    def transpose(self, *names):
        assert names == ("chain", "draw", ...)
        return np.asarray(self).transpose(1, 0, 2)


def test_axes_are_asked_for_or_known():
    trace = trace_of(W, 40)
    for given, layout in (
        (trace, None),
        (trace, "chain-draw"),
        (trace.swapaxes(0, 1), "draw-chain"),
        (trace.swapaxes(0, 1).view(Labelled), None),
    ):
        assert compare(given, W, observables=["v0h0"], layout=layout) == compare(trace, W, observables=["v0h0"])


# What is constant.


def test_a_constant_observable_does_not_stop_the_others():
    found = compare(trace_of(W, 60), W, observables=["v0v0", "v0"])
    constant, other = found.rows
    assert constant.constant
    assert (constant.exact_steps, constant.estimates) == (None, ())
    assert constant.reason == "constant in the model, so that nothing is correlated"
    assert other.exact_steps == compare(trace_of(W, 60), W, observables=["v0"]).rows[0].exact_steps
    assert [row.constant for row in compare(trace_of(0 * W, 60), 0 * W).rows] == [True, False, False]


# Estimators and their averages.


@pytest.mark.parametrize("n_records", [8, 25, 64])
def test_the_expected_products_are_those_of_a_gaussian_series(n_records):
    """E sum (x - xbar)(x' - xbar), by the covariance matrix of the whole series."""
    covariances = 2.0 * 0.9 ** np.arange(n_records) + 0.5 * (-0.4) ** np.arange(n_records)
    matrix = covariances[np.abs(np.subtract.outer(np.arange(n_records), np.arange(n_records)))]
    centring = np.eye(n_records) - 1 / n_records
    centred = centring @ matrix @ centring
    products, mean_square = estimators_module._expected_products(covariances)
    np.testing.assert_allclose(products, [np.trace(centred, t) for t in range(n_records)], rtol=1e-12, atol=1e-12)
    assert mean_square == pytest.approx(matrix.mean(), rel=1e-12, abs=0)


@pytest.mark.bridges
def test_many_short_chains_are_biased_and_it_is_said(estimators):
    """The error shrinks with the number of chains, the bias does not: without its average half of these would blame the model."""
    weights = 2 * THREE
    samples = samples_of(weights, 400, n_chains=200, burn_in=1000)
    (row,) = compare(samples, weights, observables=["magnetisation"]).rows
    estimate = row.estimates[0]
    least, most = np.array(estimate.expected_steps) / row.exact_steps
    assert 0.75 < least < most < 0.85
    assert least == pytest.approx(estimate.factor, abs=0.05)
    assert "a chain is only 40.1 exact autocorrelation times long, and its average in chains of this length is" in estimate.verdict


@pytest.mark.bridges
@pytest.mark.parametrize(("kernel", "n_chains", "n_records"), [("single-site", 4, 300), ("alternating", 1, 600)])
def test_right_traces_are_seldom_doubted(estimators, kernel, n_chains, n_records):
    """100 of them here; validation/false_alarms.py asks 1,000 of each of several kinds."""
    samples = tk.sample(THREE, n_chains=100 * n_chains, n_sweeps=n_records, kernel=kernel, burn_in=300, seed=5).trace()
    doubted = 0
    for trace in np.split(samples, 100):
        (row,) = compare(trace, THREE, kernel=kernel, observables=["magnetisation"]).rows
        doubted += any(abs(estimate.deviation) > 3.48 for estimate in row.estimates)
    assert doubted <= 2


@pytest.mark.parametrize(
    ("factor", "words"), [(0.9, "close, but by luck"), (1.2, "close, but by luck"), (0.6, "1.67 times too small"), (1.6, "too large")]
)
def test_an_estimate_from_too_short_a_trace_is_close_by_luck_or_off(factor, words):
    assert words in _verdict(factor, 1.0, 1.0, 0.9, 0.5, 2.0)


def test_rules_of_users_are_those_of_their_sources():
    """50 autocorrelation times (emcee), R-hat of 1.01 (Vehtari et al. 2021)."""
    assert (compare_module.LONG_RUN, compare_module.SMALL_RHAT, compare_module.LARGEST_ERROR) == (50, 1.01, 0.2)


def test_a_deviation_is_called_one_where_chance_would_in_one_of_so_many_looks(monkeypatch):
    limits, recorded = [], compare_module._Recorded
    monkeypatch.setattr(compare_module, "_Recorded", lambda *given: (limits.append(given[-1]), recorded(*given))[1])
    compare(trace_of(W, n_sweeps=200), W, observables=["energy"])
    looks = max(1, len(estimators_module.installed()))
    assert 2 * scipy.special.ndtr(-limits[0]) == pytest.approx(1 / compare_module.FALSE_ALARMS / looks, rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("share", "r_hat", "healthy"),
    [(50, None, True), (50, 1.01, True), (49.9, None, False), (50, 1.0101, False), (0.01, None, False), (None, None, None)],
)
def test_a_trace_looks_healthy_where_all_its_estimates_are_a_fiftieth_of_a_chain_and_chains_agree(share, r_hat, healthy, monkeypatch):
    def stays(share):
        return estimators_module.Estimator("", lambda series: share and series.shape[1] / share, lambda *_: (1.0, 2.0))

    named = {"ArviZ": stays(share), "another": stays(share and 100.0)}
    monkeypatch.setattr(estimators_module, "installed", lambda: named)
    monkeypatch.setattr(estimators_module, "r_hat", lambda _: r_hat)
    (row,) = compare(trace_of(W, n_sweeps=200), W, observables=["v0h0"]).rows
    assert row.looks_healthy is healthy


def test_a_slow_mode_that_the_observable_hardly_sees_is_named():
    """Three pairs of spins: a product of the first decays in a few steps, and the others take far longer than the trace."""
    weights, n_records, stride = np.diag([0.1, 4.0, 4.0]), 400, 2
    rbm, looked_at = tk.Model(weights), compare_module.observable("v0h0", tk.Model(weights))
    recorded = compare_module._Recorded(rbm, "single-site", stride, None, 3.0)
    chain, exact = compare_module._series(looked_at, rbm, "single-site", stride)
    slow = n_records * stride * tk.spectral_gap(chain)
    assert slow < 50 < n_records / exact.tau
    found = compare_module._Found("emcee", 2 * exact.tau, 0.1, 0.0)
    cause, fits = compare_module._cause(found, looked_at, chain, exact, np.zeros((2, n_records)), recorded, None)
    assert (cause, fits) == (f"a chain is only {slow:.3g} relaxation times of the slowest mode long", None)


@pytest.mark.parametrize(("dying", "surviving", "stuck"), [(1e-3, 0.9, False), (0.9, 1e-3, False), (0.3, 0.3, True)])
def test_only_a_division_into_basins_that_matter_counts_as_stuck(dying, surviving, stuck, monkeypatch):
    """One chain in each of the basins for ever."""
    basin = np.arange(16) < 8
    event = SimpleNamespace(dying=basin, surviving=~basin, dying_mass=dying, surviving_mass=surviving)
    monkeypatch.setattr(compare_module, "merge_tree", lambda _: SimpleNamespace(events=[event]))
    rbm = tk.Model(W, [0.1, 0.0])
    states = np.array([[0, 1, 2, 3], [8, 9, 10, 15]])
    recorded = compare_module._Recorded(rbm, "single-site", 1, states, 3.0)
    assert compare_module._stuck(compare_module.observable("v0", rbm), recorded) is stuck
    crossed = recorded._replace(states=np.array([[0, 9, 2, 3], [8, 9, 10, 15]]))
    assert not compare_module._stuck(compare_module.observable("v0", rbm), crossed)


@pytest.mark.parametrize(("least", "most", "biased"), [(0.95, 1.2, False), (1.05, 1.2, False), (1.15, 1.2, True), (0.8, 0.85, True)])
def test_an_average_that_is_off_by_more_than_the_error_is_a_bias(least, most, biased):
    assert ("its average in chains of this length is" in _verdict(1.3, least, most, 0.1, 0.5, 2.0)) is biased
