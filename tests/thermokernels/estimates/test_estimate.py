"""Estimates from coupled chains against dense chains, and what an answer says about itself."""

import math
import re
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
from dense_chain import DenseChain, mask_of, model

import thermokernels as tk
from thermokernels.estimates import estimate as estimate_module
from thermokernels.estimates import pilot, replicates
from thermokernels.estimates.coupling.lag_pairs import Schedule
from thermokernels.estimates.problem import Problem
from thermokernels.estimates.statistics import trust

DATA = np.where(np.random.default_rng(3).random((40, 3)) < 0.6, 1, -1)
# Two-sided, over some fifty comparisons.
LARGEST_Z = 4.0


def errors(interval, value, estimate):
    """Deviation in standard errors."""
    return abs(estimate - value) / ((interval[1] - interval[0]) / (2 * 1.96))


@pytest.mark.parametrize("kernel", ["alternating", "two-block", "single-site"])
@pytest.mark.parametrize(("fields", "masked"), [(False, False), (True, False), (True, True)], ids=["pairs", "fields", "mask"])
def test_against_a_dense_chain(kernel, fields, masked):
    W, b, c = model((3, 4), 0.6, fields, 1)
    mask = mask_of(W.shape) if masked else np.ones(W.shape, np.bool_)
    W = W * mask
    chain = DenseChain(W, b, c, kernel)
    f = chain.observables() * mask.ravel()
    estimate = tk.estimate_q(tk.Model(W, b, c, mask=mask), DATA, 50, kernel, n_replicates=2048, seed=7)
    t_obs = chain.variance_time(f)
    v = 2 * t_obs - chain.variance(f)
    g = mask * (DATA.T @ np.tanh(DATA @ W + c) / len(DATA)) - (chain.law @ f).reshape(W.shape)
    q = 0.5 * 50 * {"alternating": 1, "two-block": 2, "single-site": 7}[kernel] * (g**2).sum() / t_obs
    assert estimate.trusted
    assert errors(estimate.t_obs_interval, t_obs, estimate.t_obs) < LARGEST_Z
    assert errors(estimate.asymptotic_variance_interval, v, estimate.asymptotic_variance) < LARGEST_Z
    assert errors(estimate.signal_interval, (g**2).sum(), estimate.signal) < LARGEST_Z
    assert errors(estimate.interval, q, estimate.value) < LARGEST_Z
    assert estimate.window_for_unit_q == pytest.approx(50 / estimate.value)
    assert np.abs(estimate.g + g).max() < 0.1
    assert not estimate.g[~mask].any()
    if kernel == "alternating":
        assert errors(estimate.batch_means_interval, t_obs, estimate.batch_means) < LARGEST_Z
    assert estimate.t_obs_interval[1] - estimate.t_obs_interval[0] < 0.2 * t_obs


@pytest.mark.small
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # words of 64 bits wrap around, without compilation too
@pytest.mark.parametrize("kernel", ["alternating", "two-block", "single-site"])
@pytest.mark.parametrize(("observables", "fields"), [("products", False), ("products", True), ("expected", True)])
def test_few_replicates_of_a_tiny_model(kernel, observables, fields):
    W, b, c = model((2, 2), 0.5, fields, 1)
    chain = DenseChain(W, b, c, kernel)
    estimate = tk.estimate_q((W, b, c), DATA[:, :2], 50, kernel, n_replicates=64, seed=7, observables=observables)
    assert errors(estimate.t_obs_interval, chain.variance_time(chain.observables(observables)), estimate.t_obs) < LARGEST_Z


@pytest.mark.small
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("kernel", ["alternating", "single-site"])
@pytest.mark.parametrize("observables", ["products", "expected"])
def test_few_replicates_over_the_couplings_that_exist(kernel, observables):
    W, b, c = model((2, 3), 0.5, True, 1)
    mask = mask_of(W.shape)
    chain = DenseChain(W * mask, b, c, kernel)
    f = chain.observables(observables, "zero-one", True)
    f[:, : W.size] *= mask.ravel()
    rbm = tk.Model(W * mask, b, c, mask=mask)
    estimate = tk.estimate_q(rbm, None, kernel=kernel, n_replicates=32, observables=observables, units="zero-one", fields=True)
    assert errors(estimate.t_obs_interval, chain.variance_time(f), estimate.t_obs) < LARGEST_Z


@pytest.mark.parametrize("kernel", ["alternating", "two-block", "single-site"])
@pytest.mark.parametrize("observables", ["products", "expected"])
@pytest.mark.parametrize("units", ["pm1", "zero-one"])
@pytest.mark.parametrize("of_fields", [False, True])
def test_what_trainers_average(kernel, observables, units, of_fields):
    W, b, c = model((3, 2), 0.5, True, 2)
    chain = DenseChain(W, b, c, kernel)
    f = chain.observables(observables, units, of_fields)
    estimate = tk.estimate_q((W, b, c), DATA, 50, kernel, n_replicates=1024, observables=observables, units=units, fields=of_fields)
    a, m = (DATA, np.tanh(DATA @ W + c)) if units == "pm1" else ((1 + DATA) / 2, (1 + np.tanh(DATA @ W + c)) / 2)
    g = a.T @ m / len(a)
    means = chain.law @ chain.observables("expected", units, of_fields)
    flat = np.concatenate([g.ravel(), a.mean(axis=0), m.mean(axis=0)]) if of_fields else g.ravel()
    assert errors(estimate.t_obs_interval, chain.variance_time(f), estimate.t_obs) < LARGEST_Z
    assert errors(estimate.signal_interval, ((flat - means) ** 2).sum(), estimate.signal) < LARGEST_Z


def test_same_bits_whoever_computes_them():
    W, b, c = model((3, 4), 0.5, True, 4)
    estimates = [tk.estimate_q((W, b, c), DATA, n_replicates=160, seed=3)]
    before = tk.get_threads()
    tk.set_threads(1)
    try:
        estimates.append(tk.estimate_q(tk.Model(W, b, c), DATA, n_replicates=160, seed=3))
    finally:
        tk.set_threads(before)
    with ThreadPoolExecutor(3) as executor:
        estimates.append(tk.estimate_q((W, b, c), DATA, n_replicates=160, seed=3, executor=executor))
    estimates.append(tk.estimate_q((W, b, c), DATA, n_replicates=160, seed=3, executor=Forgetful()))
    for estimate in estimates[1:]:
        assert (estimate.replicates == estimates[0].replicates).all()
        assert (estimate.value, estimate.interval, estimate.signal) == (estimates[0].value, estimates[0].interval, estimates[0].signal)
    longer = tk.estimate_q((W, b, c), DATA, n_replicates=192, seed=3)
    # the same replicates, but for the control, which is a mean over all
    assert np.corrcoef(longer.replicates[:160], estimates[0].replicates)[0, 1] > 0.999
    other = tk.estimate_q((W, b, c), DATA, n_replicates=160, seed=4)
    assert (other.replicates == estimates[0].replicates).mean() < 0.1


class Forgetful(Executor):
    """Loses the first run of every task."""

    def __init__(self):
        self.seen = set()

    def submit(self, function, *arguments):
        future = Future()
        if arguments[-2:] in self.seen:
            future.set_result(function(*arguments))
        else:
            self.seen.add(arguments[-2:])
            future.set_exception(OSError("the worker is gone"))
        return future


class Broken(Executor):
    def submit(self, function, *arguments):
        future = Future()
        future.set_exception(OSError("the worker is gone"))
        return future


def test_a_task_that_is_lost_for_good_is_an_error():
    with pytest.raises(tk.ExecutorError, match=r"lost replicates 0 to 31 .*3 times; an estimate without them would be biased"):
        tk.estimate_q([[0.3]], None, n_replicates=32, executor=Broken())


def test_a_chain_that_is_stuck_is_not_trusted():
    # without the symmetry the two wells exchange once in exp(40) sweeps
    estimate = tk.estimate_q((np.full((4, 4), 2.5), np.full(4, 1e-3), np.zeros(4)), None, budget=0.05)
    assert not estimate.trusted
    assert "of the pairs of chains did not meet" in estimate.reason
    assert np.isnan(estimate.t_obs)
    assert estimate.n_replicates == 0
    assert (estimate.meeting_times < 0).mean() > 0.1


def test_few_replicates_are_not_trusted():
    estimate = tk.estimate_q([[0.3, 0.1]], None, n_replicates=160)
    assert not estimate.trusted
    assert "160 replicates are too few" in estimate.reason
    assert np.isfinite(estimate.t_obs)
    assert np.isnan(estimate.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("n_replicates", "is_known"), [(8, False), (16, False), (24, True)])
def test_a_signal_takes_three_groups(n_replicates, is_known):
    W, b, c = model((3, 4), 0.5, True, 4)
    estimate = tk.estimate_q((W, b, c), DATA, n_replicates=n_replicates)
    assert np.isfinite(estimate.t_obs_interval).all()
    names = ("value", "interval", "signal", "signal_interval", "window_for_unit_q")
    assert [np.isfinite(getattr(estimate, name)).all() for name in names] == [is_known] * len(names)


def test_a_budget_that_gives_chains_few_sweeps_says_so(monkeypatch):
    wells = np.full((4, 4), 2.5), np.full(4, 1e-3), np.zeros(4)
    assert "the budget is too short for more" in tk.estimate_q(wells, None, budget=0.05).reason
    monkeypatch.setattr(estimate_module, "most_sweeps", lambda *_: 1)
    assert "budget" not in tk.estimate_q(wells, None, budget=0.05).reason


def test_precision_is_reached():
    W, b, c = model((3, 4), 0.5, False, 4)
    estimate = tk.estimate_q((W, b, c), None, precision=0.01)
    low, high = estimate.t_obs_interval
    assert (high - low) / 2 < 0.012 * estimate.t_obs
    assert estimate.n_replicates > 512
    assert estimate.shortfall == ""


@pytest.mark.parametrize("data", [DATA, None])
@pytest.mark.parametrize(("precision", "needed"), [(1e-3, r"about [\d.e+]+ s"), (1e-9, "more than 10000000 replicates")])
def test_a_precision_that_does_not_go_into_the_budget_says_what_it_takes(data, precision, needed):
    estimate = tk.estimate_q(model((3, 4), 0.5, False, 4), data, precision=precision, budget=1.0)
    said = re.fullmatch(rf"the half width of its interval is ([\d.]+) of the value, and {precision:.2g} takes {needed}", estimate.shortfall)
    value, (low, high) = (estimate.t_obs, estimate.t_obs_interval) if data is None else (estimate.value, estimate.interval)
    assert float(said[1]) == pytest.approx((high - low) / 2 / value, rel=0.06, abs=0)
    assert f"The precision that was asked for is not reached: {estimate.shortfall}." in estimate.sentences
    assert tk.estimate_q(model((3, 4), 0.5, False, 4), data, precision=0.5, budget=1.0).shortfall == ""


def test_a_precision_that_was_stopped_before_says_what_it_takes():
    seen = []
    estimate = tk.estimate_q([[0.3, 0.1]], None, precision=1e-3, progress=lambda *told: seen.append(told), stop=lambda: len(seen) > 1)
    assert estimate.n_replicates > 0
    assert re.search(r"and 0.001 takes about [\d.e+]+ s", estimate.shortfall)


def test_a_shortfall_of_an_interval_without_end():
    assert trust.shortfall(0.1, np.inf, np.inf, 10) == "its interval has no end, and 0.1 takes more than 10 replicates"


def test_budget_becomes_replicates():
    seen = []
    estimate = tk.estimate_q([[0.3, 0.1]], None, budget=0.5, progress=lambda *told: seen.append(told))
    assert estimate.n_replicates >= 32
    assert seen[-1][0] == estimate.n_replicates
    stopped = tk.estimate_q([[0.3, 0.1]], None, n_replicates=10**6, stop=lambda: len(seen) > 0)
    assert stopped.n_replicates == 0
    assert not stopped.trusted


def test_a_budget_that_is_over_gives_no_average_of_quick_replicates(monkeypatch):
    sound, over = replicates.single_site_excursions, Event()

    def slow_later(model, features, schedule, key, first, *rest):
        if first >= 64:
            over.wait(10)
        sound(model, features, schedule, key, first, *rest)

    monkeypatch.setattr(replicates, "single_site_excursions", slow_later)
    tk.estimate_q([[0.3, 0.1]], None, kernel="single-site", n_replicates=8)
    start = time.monotonic()
    estimate = tk.estimate_q([[0.3, 0.1]], None, kernel="single-site", budget=0.4)
    over.set()
    assert time.monotonic() - start < 4.0
    assert not estimate.trusted
    assert re.match(r"the budget of 0.4 s was over when \d+ of \d+ replicates were finished, the quick ones, .*", estimate.reason)
    assert np.isnan(estimate.t_obs)
    assert estimate.n_replicates == 0


def test_a_budget_that_is_over_before_the_first_replicate(monkeypatch):
    over = Event()
    monkeypatch.setattr(replicates, "single_site_excursions", lambda *_: over.wait(10))
    tk.estimate_q([[0.3, 0.1]], None, n_replicates=8)
    monkeypatch.setattr(estimate_module, "_warm_up", lambda *_: None)
    estimate = tk.estimate_q([[0.3, 0.1]], None, kernel="single-site", budget=0.1)
    over.set()
    assert re.fullmatch(r"the budget of 0.1 s was over before any of the \d+ replicates that were begun was finished", estimate.reason)


def test_a_budget_for_few_replicates_says_what_would_do(monkeypatch):
    sound = replicates.single_site_excursions

    def slow(*arguments):
        time.sleep(0.1)
        sound(*arguments)

    monkeypatch.setattr(replicates, "single_site_excursions", slow)
    estimate = tk.estimate_q([[0.3, 0.1]], None, kernel="single-site", budget=0.5)
    assert re.fullmatch(r"\d+ replicates are too few to show their own spread, 200 are wanted, which take about [\d.]+ s", estimate.reason)


@pytest.mark.parametrize("kernel", ["alternating", "two-block", "single-site"])
def test_how_replicates_are_dealt_out_changes_no_bit(kernel):
    W, b, c = model((3, 4), 0.5, True, 4)
    problem = Problem.of((W, b, c), DATA, 50.0, kernel, "products", "pm1", False)
    question = problem.question(Schedule(16.0, False, 2, 3, 6, 1000), 5)
    whole, parts = replicates.run_batch(question, 0, 96), [replicates.run_batch(question, *part) for part in ((0, 8), (8, 40), (48, 48))]
    for name in ("times", "zero_lags", "weights", "meetings", "excursions", "first_moments", "correlations"):
        assert (np.concatenate([getattr(part, name) for part in parts]) == getattr(whole, name)).all()


def test_few_snapshots_where_a_flip_at_a_time_takes_long():
    meetings = np.full(128, 400)
    assert pilot._schedule(16.0, False, 0, meetings, 1000).n_atoms == 4
    slow = np.append(meetings[:-1], 40000)
    assert pilot._schedule(16.0, False, 0, slow, 1000).n_atoms == pilot.MOST_ATOMS
    assert pilot._schedule(16.0, False, 16, slow, 1000).n_atoms == 23  # 16 x 709 updates an excursion
    assert pilot._schedule(16.0, False, 1000, slow, 1000).n_atoms == pilot.FEWEST_ATOMS


@pytest.mark.parametrize("data", [DATA, None])
def test_an_interrupted_estimate_goes_on_with_the_same_bits(data, tmp_path):
    W, b, c = model((3, 4), 0.5, True, 4)
    whole = tk.estimate_q((W, b, c), data, n_replicates=320, seed=3)
    kept = tmp_path / "kept.npz"
    part = tk.estimate_q((W, b, c), data, n_replicates=96, seed=3, checkpoint=kept)
    assert part.n_replicates == 96
    asked = []
    resumed = tk.estimate_q((W, b, c), data, n_replicates=320, seed=3, checkpoint=kept, progress=lambda done, *_: asked.append(done))
    assert asked[0] > 96
    for name in ("value", "interval", "t_obs", "t_obs_interval", "signal", "signal_interval", "tv_bound", "batch_means_interval"):
        assert np.array_equal(getattr(resumed, name), getattr(whole, name), equal_nan=True)
    assert (resumed.replicates == whole.replicates).all()
    assert (resumed.meeting_times == whole.meeting_times).all()
    assert tk.estimate_q((W, b, c), data, budget=0.05, seed=3, checkpoint=kept).n_replicates > 320  # a budget is added
    with pytest.raises(ValueError, match="belongs to another model, other options or another version"):
        tk.estimate_q((W, b, c), data, n_replicates=320, seed=4, checkpoint=kept)
    with pytest.raises(ValueError, match="belongs to another model"):
        tk.estimate_q((W + 0.1, b, c), data, n_replicates=320, seed=3, checkpoint=kept)


def test_a_similar_model_lends_its_coupling():
    W, b, c = model((4, 5), 0.5, True, 4)
    first = tk.estimate_q((W, b, c), None, n_replicates=64)
    again = tk.estimate_q((W, b, c), None, n_replicates=64, like=first)
    assert (again.replicates == first.replicates).all()
    other = tk.estimate_q((1.1 * W, b, c), None, n_replicates=64, like=first)
    assert other.kappa == first.kappa
    # a coupling that does not meet is not stayed with
    dense = np.random.default_rng(0).normal(0, 0.5 / 60**0.5, (60, 60))
    found = tk.estimate_q(dense, None, n_replicates=32, like=replace(first, kappa=0.0), budget=None)
    assert found.n_replicates == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": np.zeros((10**6, 1))}, r"coupled chains of 1000001 spins would take .* (of memory|hours of a core for the pilot alone)"),
        ({"like": 3}, "like must be a QEstimate"),
        ({"data": np.ones((4, 3))}, "data must have a column for each of the 2 visible spins"),
        ({"data": np.zeros((4, 2))}, r"data must hold spins \+1 and -1"),
        ({"window": 0}, "window must be a positive, finite number of sweeps"),
        ({"kernel": "symmetrised-alternating"}, "kernel must be one of 'single-site', 'two-block', 'alternating'"),
        ({"model": [[np.nan, 1.0]]}, "W must be finite"),
        ({"model": np.full((2, 2), 1e300)}, "local fields of at most"),
        ({"observables": "means"}, "observables must be one of"),
        ({"units": "spins"}, "units must be one of"),
        ({"fields": 1}, "fields must be True or False"),
        ({"seed": -1}, "seed must be a nonnegative integer"),
        ({"seed": np.random.SeedSequence(1)}, r"seed must be a nonnegative integer; got SeedSequence"),
        ({"precision": 0.0}, "precision must be a positive"),
        ({"budget": -1.0}, "budget must be a positive"),
        ({"n_replicates": 0}, "n_replicates must be an integer of at least 1"),
        ({"n_replicates": 32, "budget": 1.0}, "n_replicates must be given alone"),
        ({"executor": 3}, "executor must be"),
        ({"checkpoint": 3.5}, "checkpoint must be the path of a file, .* got 3.5"),
        ({"checkpoint": b"kept.npz"}, "checkpoint must be the path of a file, .* got b'kept.npz'"),
        ({"budget": 1e-9}, "budget must last longer than the pilot"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"model": [[0.1, 0.2], [0.3, 0.1]], "data": None, "window": 10, "kernel": "alternating"} | change
    with pytest.raises(ValueError, match=message):
        tk.estimate_q(arguments.pop("model"), arguments.pop("data"), **arguments)


def test_a_checkpoint_is_written_every_few_seconds_and_at_the_end(tmp_path, monkeypatch):
    saved = []
    save = estimate_module.RestartFile.save
    monkeypatch.setattr(estimate_module.RestartFile, "save", lambda kept, arrays: (saved.append(1), save(kept, arrays)))
    data = np.array([[1, 1], [1, -1], [-1, -1]])
    for every, least, most in ((1e6, 1, 1), (-1.0, 3, 100)):
        saved.clear()
        monkeypatch.setattr(estimate_module, "KEEP_EVERY", every)
        tk.estimate_q(0.2 * np.ones((2, 2)), data, n_replicates=20 * 64, seed=int(every > 0), checkpoint=tmp_path / str(every))
        assert least <= len(saved) <= most
    clock = iter(range(1000, 100000, 3))  # seconds since the machine was started, one look after another
    monkeypatch.setattr(estimate_module, "KEEP_EVERY", 500.0)
    monkeypatch.setattr(estimate_module, "time", SimpleNamespace(monotonic=lambda: next(clock), perf_counter=time.perf_counter))
    saved.clear()
    tk.estimate_q(0.2 * np.ones((2, 2)), data, n_replicates=20 * 64, seed=2, checkpoint=tmp_path / "clock")
    assert len(saved) == 1


class Clock:
    """A clock that goes on only where something takes a while."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    perf_counter = monotonic


class Planned(estimate_module._Run):
    """Replicates that take a known time each, and are only counted."""

    def up_to(self, n_replicates):
        self.asked.append(n_replicates)
        more = max(0, n_replicates - self.done)
        self.tally.n_replicates += more
        self.clock.now += more * self.each
        self.pace.n_replicates += more
        self.pace.seconds += more * self.each
        self.pace.core_seconds += more * self.each


@pytest.mark.parametrize(
    ("before", "each", "wanted", "beside", "asked", "batches"),
    [
        # 10 a second: 64 to begin with, 10 s of 100 to look, half of what goes into 95 beside batch means of 5 s, and what is left
        (0, 0.1, True, None, [64, 104, 480, 480 + 384], 5.0),
        (0, 0.1, True, 24.0, [64, 104, 480, 480 + 576], 5.0),  # half as fast again without the batch means that took 24 s of a core
        (0, 0.1, False, None, [64, 104, 104 + 848], 0.0),
        (0, 1.0, True, None, [64, 16, 64 + 32], 0.0),  # 95 in all: no batch means for less than 200
        (112, 1.0, True, None, [112 + 64, 112 + 16, 104, 112 + 64 + 24], 5.0),  # with those before
    ],
)
def test_a_budget_is_filled_by_the_pace_that_the_first_replicates_show(before, each, wanted, beside, asked, batches, monkeypatch):
    clock, ran = Clock(), []
    monkeypatch.setattr(estimate_module, "time", clock)
    monkeypatch.setattr(estimate_module, "grain", lambda _: 8)

    def start():
        ran.append(5.0)
        clock.now += 5.0

    found = None if beside is None else ((0.0, 1.0), beside)
    tally = SimpleNamespace(n_replicates=before, batches=SimpleNamespace(are_wanted=wanted, start=start, result=lambda: found))
    run = Planned(None, tally, SimpleNamespace(executor=Broken()), None, lambda: False, None)
    run.asked, run.clock, run.each = [], clock, each
    run.within(100.0, None)
    assert run.asked == asked
    assert sum(ran) == batches
    assert run.ends_at == 1100.0


def test_what_was_begun_may_take_a_quarter_and_a_second_longer_than_the_budget(monkeypatch):
    deadlines, pool, clock = [], estimate_module.Pool, Clock()
    clock.now = time.monotonic()
    monkeypatch.setattr(estimate_module, "Pool", lambda *given: (deadlines.append(given[-1]), pool(*given))[1])
    monkeypatch.setattr(estimate_module, "time", clock)
    tk.estimate_q([[0.3, 0.1]], None, kernel="single-site", budget=0.2)
    tk.estimate_q([[0.3, 0.1]], None, kernel="single-site", n_replicates=8)
    assert deadlines == [pytest.approx(clock.now + 1.25 * 0.2 + 1, abs=1e-6), math.inf]


@pytest.mark.parametrize(("budget", "seconds"), [(None, None), (20.0, 5.0)])
def test_a_lower_bound_has_a_quarter_of_the_budget_whatever_was_taken(budget, seconds, monkeypatch):
    asked = []
    monkeypatch.setattr(estimate_module, "variance_time_at_least", lambda *given: (asked.append(given[-2:]), 3.0)[1])
    problem = Problem.of([[0.3]], None, 50.0, "single-site", "products", "pm1", False)
    trusted = tk.estimate_q([[0.3]], None, kernel="single-site", n_replicates=256)
    assert estimate_module._with_lower_bound(trusted, problem, 5, budget) is trusted
    for doubtful in (replace(trusted, t_obs=math.nan), replace(trusted, largest_share=0.21)):
        assert estimate_module._with_lower_bound(doubtful, problem, 5, budget).t_obs_at_least == 3.0
    assert estimate_module._with_lower_bound(replace(trusted, largest_share=0.2), problem, 5, budget) is not None
    assert asked == 2 * [(5, seconds)]


def test_as_many_replicates_as_the_page_says_where_nothing_is_asked_for():
    assert tk.estimate_q([[0.3]], None, kernel="single-site").n_replicates == 512
    tally = SimpleNamespace(n_replicates=0, n_lost=0, replicates_for=lambda precision: round(1000 / precision))
    run = Planned(None, tally, SimpleNamespace(executor=None), None, lambda: False, None)
    run.asked, run.clock, run.each = [], Clock(), 0.1
    run.to(0.5, 1500)
    run.to(0.9, 100)
    assert run.asked == [512, 1500, 100, 100]
