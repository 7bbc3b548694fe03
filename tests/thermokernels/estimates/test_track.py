"""Q along a training: exact rows against the exact engine, estimated ones beside them, and the sentences."""

import json
import math

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.estimates import track as module

RNG = np.random.default_rng(3)
DATA = RNG.choice([-1, 1], size=(50, 3), p=[0.3, 0.7])
HISTORY = [scale * np.array([[0.8, 0.2], [-0.3, 0.9], [0.5, 0.4]]) for scale in (0.0, 0.5, 2.5)]


def test_small_models_are_answered_exactly():
    track = tk.track(np.stack(HISTORY), DATA, window=10, kernel="single-site")
    law = tk.law_of_samples(DATA)
    for row, W in zip(track.rows, HISTORY, strict=True):
        q = tk.q_struct(W, law, window=10)
        assert (row.value, row.t_obs, row.signal) == (q.value, q.t_obs, q.signal)
        assert row.interval == (q.value - q.bound, q.value + q.bound)
        assert row.t_obs_interval == (q.t_obs - q.t_obs_bound, q.t_obs + q.t_obs_bound)
        assert row.window_for_unit_q == (10 / q.value if q.value else math.inf)
        assert row.kl == tk.kl_divergence(law, W)
        assert row.pseudo_likelihood == tk.pseudo_likelihood(W, DATA)
        assert (row.method, row.trusted, row.reason) == ("exact", True, "")


def test_the_alternating_scan_is_answered_exactly_too():
    track = tk.track(HISTORY, DATA, window=10)
    law = tk.law_of_samples(DATA)
    for row, W in zip(track.rows, HISTORY, strict=True):
        q = tk.q_struct(W, law, window=10, kernel="alternating")
        assert (row.value, row.t_obs, row.signal, row.method) == (q.value, q.t_obs, q.signal, "exact")
        assert row.interval == (q.value - q.bound, q.value + q.bound)


def test_pilots_are_warm(monkeypatch):
    monkeypatch.setattr(module, "EXACT_SPINS", 2)
    models = [tk.Model(W) for W in HISTORY[:2]]
    track = tk.track(models, DATA, window=10, kernel="two-block", n_replicates=64)
    first = tk.estimate_q(models[0], DATA, 10, "two-block", n_replicates=64)
    second = tk.estimate_q(models[1], DATA, 10, "two-block", n_replicates=64, like=first)
    assert [row.t_obs for row in track.rows] == [first.t_obs, second.t_obs]


def test_larger_ones_are_estimated_with_the_same_numbers(monkeypatch):
    exact = tk.track({"last": HISTORY[1]}, DATA, window=10, kernel="single-site")
    monkeypatch.setattr(module, "EXACT_SPINS", 2)
    estimated = tk.track({"last": HISTORY[1]}, DATA, window=10, kernel="single-site", n_replicates=2048, seed=1)
    (one,), (other,) = exact.rows, estimated.rows
    assert other.method == "estimated"
    assert other.trusted
    width = other.t_obs_interval[1] - other.t_obs_interval[0]
    assert abs(other.t_obs - one.t_obs) < width  # twice the half width: far more than 95 %
    assert (one.kl, one.name) == (other.kl, other.name)
    again = tk.estimate_q(HISTORY[1], DATA, 10, "single-site", n_replicates=2048, seed=1)
    assert (other.value, other.interval) == (again.value, again.interval)


def row(name, value, trusted=True, shortfall=""):
    return module.TrackedModel(
        name, value, (value, value), 1.0, (1.0, 1.0), 1.0, 100 / value, 0.1, -1.0, "exact", trusted, "rare events", shortfall
    )


def test_the_sentences_say_when_a_window_becomes_too_short():
    rows = (
        row("1", 12.0),
        row("30", 0.13),
        row("40", 0.2),
        row("50", 3.0),
        row("60", 0.5, trusted=False),
        row("70", 9.0, shortfall="far off"),
    )
    assert module.Track(rows, 100.0, "alternating").sentences == (
        "From checkpoint 30 on 100 sweeps are too few (Q = 0.130): 769 are needed.",
        "From checkpoint 50 on 100 sweeps are enough again (Q = 3.00).",
        "Checkpoint 60 is not trusted: rare events.",
        "Checkpoint 70 has not the precision that was asked for: far off.",
    )
    assert module.Track(rows[:1], 100.0, "alternating").sentences == (
        "100 sweeps are enough at every checkpoint that can be trusted: Q is at least 12.0.",
    )


def test_a_callback_looks_at_one_call_in_so_many():
    tracker = tk.Tracker(DATA, 10, "single-site", every=2)
    seen = [tracker(tk.Model(W), name=f"epoch {k}") for k, W in enumerate(HISTORY)]
    assert [found is None for found in seen] == [False, True, False]
    assert [row.name for row in tracker.track.rows] == ["epoch 0", "epoch 2"]
    assert repr(tracker.track) == "Track(2 checkpoints, 2 trusted, window of 10 sweeps, single-site)"


def test_data_out():
    track = module.Track((row("a", math.inf),), 100.0, "alternating")
    plain = json.loads(json.dumps(track.as_dict(), allow_nan=False))
    assert plain["rows"][0]["value"] is None
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = track.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.loc["a", "interval_low"] == math.inf


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (np.zeros((2, 2)), r"history must have shape \(T, n_v, n_h\), one model a checkpoint; got shape \(2, 2\)"),
        ([], "history must hold at least one model; it holds none"),
        ("W.npz", "history must be an array"),
        (3, "history must be an array"),
        ([np.full((3, 1), np.nan)], "checkpoint 0: W must be finite"),
        ({"last": np.zeros((2, 1))}, "checkpoint last: data must have a column for each of the 2 visible spins"),
    ],
)
def test_histories_that_are_none(history, message):
    with pytest.raises(ValueError, match=message):
        tk.track(history, DATA, kernel="single-site")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window must be a positive, finite number of sweeps; got 0"),
        ({"kernel": "metropolis"}, "kernel must be one of"),
        ({"data": [[0, 1, 1]]}, r"data must hold spins \+1 and -1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        tk.track(HISTORY, **({"data": DATA} | options))


@pytest.mark.parametrize("wrong", [{"precision": -1.0}, {"budget": math.nan}, {"n_replicates": 0}, {"seed": -1}])
def test_options_of_estimates_are_looked_at_where_all_is_exact_too(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^{name} must be "):
        tk.track(np.zeros((1, 2, 2)), [[1, 1]], **wrong)
