"""Gradients to an accuracy: met, certified, cheaper than all digits, tried again where the first guess is too bold, and else refused."""

from itertools import pairwise

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from adjoints import accuracy as to_accuracy
from thermokernels.solvers.solve import Solve

W = np.random.default_rng(6).normal(size=(5, 8)) * 0.8
LAW = tk.visible_law(0.5 * W)
SMALL = np.array([[0.4, -0.2, 0.3], [0.1, 0.5, -0.6]])


@pytest.fixture(scope="module")
def exact():
    return {"time": adjoints.observable_variance_time(W), "q": adjoints.q_struct(W, LAW)}


@pytest.fixture
def attempts(monkeypatch):
    """Residuals at which solves were to stop."""
    tried, certified = [], to_accuracy.certified

    def watched(chain, solve, attempt, certificate):
        return certified(chain, solve, lambda how: tried.append(how.stop) or attempt(how), certificate)

    monkeypatch.setattr(to_accuracy, "certified", watched)
    return tried


@pytest.mark.parametrize("accuracy", [1e-2, 1e-5, 1e-8])
def test_value_and_gradient_are_right_to_it_and_no_more_is_solved_for_than_that_takes(accuracy, exact):
    value, gradient = adjoints.observable_variance_time(W, accuracy=accuracy)
    assert abs(value / exact["time"][0] - 1) <= accuracy
    assert 0.0 < np.abs(gradient - exact["time"][1]).max() <= accuracy * np.abs(gradient).max()
    q, slope = adjoints.q_struct(W, LAW, accuracy=accuracy)
    assert abs(q.value / exact["q"][0].value - 1) <= accuracy
    assert 0.0 < np.abs(slope - exact["q"][1]).max() <= accuracy * np.abs(slope).max()
    assert q.iterations < exact["q"][0].iterations
    assert adjoints.bounds.q_struct_gradient_bound(q, slope, LAW) <= accuracy * np.abs(slope).max()


def test_a_guess_that_was_too_bold_is_followed_by_a_solve_that_goes_further(monkeypatch, attempts, exact):
    monkeypatch.setattr(to_accuracy, "_first_residual", to_accuracy.sufficient_residual)  # for the value
    _, gradient = adjoints.observable_variance_time(W, accuracy=1e-6)
    assert len(attempts) >= 2
    assert all(later < earlier for earlier, later in pairwise(attempts))
    assert 1e-10 < attempts[-1] < 1e-3
    assert np.abs(gradient - exact["time"][1]).max() <= 1e-6 * np.abs(gradient).max()


def test_without_one_all_is_as_before(attempts, exact):
    value, gradient = adjoints.observable_variance_time(W)
    assert attempts == [None]
    assert value == exact["time"][0]
    np.testing.assert_array_equal(gradient, exact["time"][1])


@pytest.mark.parametrize("weights", [W, SMALL])
def test_what_cannot_be_certified_is_refused(weights):
    sentence = r"the gradient, of entries up to \S+, is certified to \S+ only, not to a share of 1e-15: ask for less, or leave accuracy out"
    with pytest.raises(tk.UnresolvedError, match=f"{sentence}|T_O = .* is certified"):
        adjoints.observable_variance_time(weights, accuracy=1e-15)
    with pytest.raises(tk.UnresolvedError, match=f"{sentence}|T_O = .* is certified"):
        adjoints.q_struct(weights, tk.visible_law(0.5 * weights), accuracy=1e-15)


def test_a_gradient_of_zero_has_no_share():
    with pytest.raises(tk.UnresolvedError, match=r"the gradient, of entries up to 0, is certified to"):
        adjoints.observable_variance_time(np.zeros((2, 2)), accuracy=0.1)


def test_small_models_and_batches(exact):
    law = tk.visible_law(0.5 * SMALL)
    q, gradient = adjoints.q_struct(SMALL, law, accuracy=1e-9)
    plain, expected = adjoints.q_struct(SMALL, law)
    assert q.value == plain.value
    np.testing.assert_array_equal(gradient, expected)
    batch, gradients = adjoints.q_struct(np.stack([SMALL, SMALL * np.nan]), law, accuracy=1e-9)
    assert batch.status.tolist() == [0, 1]
    np.testing.assert_array_equal(gradients[0], expected)
    refused, _ = adjoints.q_struct(np.stack([SMALL, SMALL]), law, accuracy=1e-17)
    assert refused.status.tolist() == [2, 2]


def test_a_checkpoint_is_of_the_full_residual(tmp_path, attempts):
    adjoints.observable_variance_time(W, accuracy=1e-3, checkpoint=tmp_path / "kept.npz")
    assert attempts == [1e-10]


@pytest.mark.parametrize("accuracy", [0.0, -1.0, 1.0, 2.0, np.nan, "1e-3", True])
@pytest.mark.parametrize("ask", [lambda **how: adjoints.observable_variance_time(W, **how), lambda **how: adjoints.q_struct(W, LAW, **how)])
def test_what_is_no_accuracy_is_named(ask, accuracy):
    with pytest.raises(ValueError, match=r"accuracy must be"):
        ask(accuracy=accuracy)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"fields": True}, "accuracy is for gradients with respect to W, whose errors are bounded; leave it out with fields=True"),
        ({"kernel": "alternating"}, "accuracy is for chains that are solved on all states; leave it out for the alternating scan"),
    ],
)
def test_gradients_without_a_bound_are_refused(how, message):
    with pytest.raises(ValueError, match=message):
        adjoints.observable_variance_time(W, accuracy=0.1, **how)
    with pytest.raises(ValueError, match=message):
        adjoints.q_struct(W, LAW, accuracy=0.1, **how)


def test_the_guess_is_never_below_rtol_and_falls_with_the_accuracy():
    chain = tk.gibbs_chain(W)
    found = [to_accuracy._first_residual(chain, Solve(accuracy=accuracy)) for accuracy in (1e-2, 1e-4, 1e-6, 1e-15)]
    assert all(later < earlier for earlier, later in pairwise(found))
    assert found[-1] == Solve().rtol


@pytest.mark.parametrize(
    ("errors", "stops"),
    [
        ([1e-6], []),
        ([2e-6, 1e-6], [0.1]),  # never less than ten times further
        ([1e-4, 1e-6], [0.005]),  # to half of what is missing
        ([1e-4, 1e-5, 0.0], [0.005, 0.05]),
    ],
)
def test_the_next_solve_aims_at_half_of_the_accuracy(errors, stops, monkeypatch):
    """Errors that a certificate finds of a gradient of at most 2, of which a share of 5e-7 is asked for."""
    monkeypatch.setattr(to_accuracy, "_first_residual", lambda *_: 1e-2)
    chain, solve, tried = tk.gibbs_chain(SMALL), Solve(accuracy=5e-7), []
    left = iter(errors)
    to_accuracy.certified(chain, solve, lambda how: tried.append(how.stop), lambda _: (next(left), np.array([1.0, -2.0])))
    assert len(tried) == len(errors)
    np.testing.assert_allclose(np.divide(tried[1:], tried[:-1]), stops, rtol=1e-12)


def test_a_solve_goes_no_further_than_rtol(monkeypatch):
    monkeypatch.setattr(to_accuracy, "_first_residual", lambda *_: 1e-2)
    chain, solve, tried = tk.gibbs_chain(SMALL), Solve(accuracy=0.3), []
    with pytest.raises(tk.UnresolvedError, match="is certified to 1 only"):
        to_accuracy.certified(chain, solve, lambda how: tried.append(how.stop), lambda _: (1.0, np.array([1.0, -2.0])))
    assert tried[-1] == solve.rtol < tried[-2]


@pytest.mark.parametrize(("for_value", "expected"), [(1.0, 0.5e-2 / 96 / to_accuracy.AIM), (1e-7, 1e-7), (1e-20, 1e-10)])
def test_the_guess_goes_with_the_relaxation_time(for_value, expected, monkeypatch):
    """accuracy / 2 over 4 s + 2 s sqrt(2 s) of s = 8 sweeps, and no more than what the value itself needs."""
    chain = tk.gibbs_chain(W)
    monkeypatch.setattr(to_accuracy.gap_bounds, "gap_lower_bound", lambda chain: 1 / (8 * chain.n_spins))
    monkeypatch.setattr(to_accuracy, "sufficient_residual", lambda *_: for_value)
    assert to_accuracy._first_residual(chain, Solve(accuracy=1e-2)) == pytest.approx(expected, rel=1e-12, abs=0)
