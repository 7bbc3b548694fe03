"""Batches of models: each as by itself in every bit, on any number of threads, and a bad one is its own status."""

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from adjoints import batches
from thermokernels.quantities import small_models
from thermokernels.solvers.small import small_chains

NAMES = ("value", "signal", "signal_bound", "bound", "t_obs", "t_obs_bound", "residual", "iterations")


@pytest.fixture
def threads():
    before = tk.get_threads()
    yield
    tk.set_threads(before)


def models(shape, count, fields, seed=0):
    draws = np.random.default_rng(seed)
    W = draws.normal(size=(count, *shape)) * draws.uniform(0.1, 2.0, size=(count, 1, 1))
    b, c = (draws.normal(size=(count, shape[0])), draws.normal(size=shape[1])) if fields else (None, None)
    return W, b, c, draws.dirichlet(np.ones(2 ** shape[0]), size=count)


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        ((4, 4), False),
        ((3, 2), True),
        pytest.param((1, 2), False, marks=pytest.mark.small),
        ((5, 5), False),
        ((4, 5), False),
        ((3, 7), True),
        ((6, 5), True),
    ],
)
@pytest.mark.parametrize("wanted", [False, True])
def test_each_model_is_answered_as_by_itself(shape, given, wanted, threads):
    W, b, c, laws = models(shape, 4, given)
    for n_threads in (1, 2):
        tk.set_threads(n_threads)
        batch, gradients = adjoints.q_struct(W, laws, 50.0, b=b, c=c, fields=wanted)
        for k, (couplings, law) in enumerate(zip(W, laws, strict=True)):
            alone, gradient = adjoints.q_struct(couplings, law, 50.0, b=None if b is None else b[k], c=c, fields=wanted)
            assert {name: getattr(batch, name)[k] for name in NAMES} == {name: getattr(alone, name) for name in NAMES}
            np.testing.assert_array_equal(batch.g[k], alone.g)
            for part, own in zip(gradients if wanted else (gradients,), gradient if wanted else (gradient,), strict=True):
                np.testing.assert_array_equal(part[k], own)
    assert len(batch) == 4
    assert batch.window_steps == alone.window_steps
    assert batch.messages == (None,) * 4


def test_other_kernels_and_sizes_and_methods_come_in_batches_too():
    W, _, _, laws = models((2, 3), 3, False)
    for how in ({"kernel": "alternating"}, {"method": "cholesky"}, {"method": "reduction"}):
        batch, gradients = adjoints.q_struct(W, laws, **how)
        for k in range(3):
            alone, gradient = adjoints.q_struct(W[k], laws[k], **how)
            assert (batch.value[k], batch.t_obs_bound[k]) == (alone.value, alone.t_obs_bound)
            np.testing.assert_array_equal(gradients[k], gradient)


def test_a_bad_model_is_a_status_and_not_the_end():
    W, _, _, laws = models((3, 3), 5, False)
    W[1, 0, 2], W[3] = np.nan, 1e200
    laws[4, 0] = -0.5
    batch, gradients = adjoints.q_struct(W, laws)
    assert batch.status.tolist() == [0, 1, 0, 2, 1]
    assert batch.messages[0] is batch.messages[2] is None
    assert batch.messages[1] == "W must be finite; entry (0, 2) is nan"
    assert "p_data must be nonnegative; entry 0 is -0.5" in batch.messages[4]
    for k in (0, 2):
        assert batch.value[k] == adjoints.q_struct(W[k], laws[k])[0].value
    for k in (1, 3, 4):
        assert np.isnan([getattr(batch, name)[k] for name in NAMES if name != "iterations"]).all()
        assert np.isnan(gradients[k]).all()
        error = ValueError if batch.status[k] == 1 else tk.NumericalError
        with pytest.raises(error) as raised:
            adjoints.q_struct(W[k], laws[k])
        assert str(raised.value) == batch.messages[k]


def test_models_with_and_without_fields_in_one_batch():
    W, _, _, laws = models((3, 3), 2, False)
    b = np.array([[0.0, 0.0, 0.0], [0.3, -0.2, 0.1]])
    batch, _ = adjoints.q_struct(W, laws, b=b)
    for k in range(2):
        assert batch.value[k] == adjoints.q_struct(W[k], laws[k], b=b[k])[0].value


def test_a_frozen_model_is_reduced_as_by_itself():
    W = np.array([[[0.5, 0.1], [0.2, -0.4]], [[14.0, 0.5], [0.2, 13.0]]])
    batch, gradients = adjoints.q_struct(W, [0.4, 0.3, 0.2, 0.1])
    alone, gradient = adjoints.q_struct(W[1], [0.4, 0.3, 0.2, 0.1])
    assert alone.method == "reduction"
    assert (batch.value[1], batch.t_obs_bound[1]) == (alone.value, alone.t_obs_bound)
    np.testing.assert_array_equal(gradients[1], gradient)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"W": np.zeros((0, 2, 2))}, r"^W must have shape \(B, n_v, n_h\) with none of them zero; got shape \(0, 2, 2\)$"),
        ({"W": np.zeros((2, 2, 2), dtype=complex)}, "^W must be an array of real numbers; got dtype complex128$"),
        ({"p_data": [0.5, 0.5]}, r"^p_data must have shape \(4,\), or \(2, 4\) with one for each model; got shape \(2,\)$"),
        ({"p_data": [0.5, 0.5, 0.5, 0.5]}, "^p_data must sum to one"),
        ({"b": np.zeros((3, 2))}, r"^b must have shape \(2,\), or \(2, 2\) with one for each model; got shape \(3, 2\)$"),
        ({"window": 0.0}, "^window must be a positive, finite number of sweeps"),
        ({"checkpoint": "file"}, "^checkpoint must be None for a batch of models"),
        ({"kernel": "none"}, "^kernel must be one of"),
    ],
)
def test_what_no_model_is_to_blame_for_ends_the_batch(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        adjoints.q_struct(**{"W": np.zeros((2, 2, 2)), "p_data": [0.25] * 4} | given)


@pytest.mark.parametrize(
    ("shape", "fields"),
    [((4, 4), False), ((5, 5), False), ((6, 6), False), ((3, 3), False), ((4, 5), False), ((3, 2), True), ((2, 8), True), ((5, 4), True)],
)
def test_small_models_agree_with_the_general_way(shape, fields):
    """One compiled call against the accumulators of many observables."""
    W, b, c, laws = models(shape, 1, fields, seed=3)
    field = {} if b is None else {"b": b[0], "c": c}
    q, gradient = adjoints.q_struct(W[0], laws[0], fields=fields, **field)
    other, right = adjoints.q_struct(W[0], laws[0], fields=fields, method="cg", **field)
    assert q.value == pytest.approx(other.value, rel=1e-13, abs=0)
    assert q.signal == other.signal
    parts = zip(gradient, right, strict=True) if fields else ((gradient, right),)
    for part, own in parts:
        np.testing.assert_allclose(part, own, rtol=1e-9, atol=1e-11 * np.abs(own).max())
    time, by_time = adjoints.observable_variance_time(W[0], fields=fields, **field)
    other_time, right = adjoints.observable_variance_time(W[0], fields=fields, method="cg", **field)
    assert time == pytest.approx(other_time, rel=1e-13, abs=0)
    np.testing.assert_allclose(by_time.W if fields else by_time, right.W if fields else right, rtol=1e-9, atol=1e-11 * time)


@pytest.mark.parametrize(("fields", "shape"), [(False, (6, 6)), (True, (5, 6))])
def test_models_of_the_largest_small_size_are_one_compiled_call(fields, shape, monkeypatch):
    called = []

    def compiled(*arguments):
        called.append(len(arguments[0]))
        return answers(*arguments)

    answers = small_models._values
    monkeypatch.setattr(small_models, "_values", compiled)
    monkeypatch.setattr(batches, "Model", None)  # of which one would be made for what is answered by itself
    W, b, c, laws = models(shape, 2, fields)
    assert 1 << (sum(shape) - (not fields)) == small_chains.SMALL_STATES_OF_ROWS
    batch, _ = adjoints.q_struct(0.3 * W, laws, b=b, c=c)
    assert batch.status.tolist() == [0, 0]
    assert sum(called) == 2


def test_models_of_few_states_are_answered_some_at_a_time_in_compiled_calls(threads, monkeypatch):
    """As many at a time as a cache holds the solutions of: three of 16 pairs and 6 couplings; of 32 states each by itself."""
    values, calls = small_models._values, []
    monkeypatch.setattr(small_models, "_values", lambda weights, *rest: (calls.append(len(weights)), values(weights, *rest)))
    monkeypatch.setattr(batches, "is_small", lambda n_visible, n_hidden, quotient: 1 << (n_visible + n_hidden - quotient) <= 16)
    monkeypatch.setattr(batches, "NUMBERS_TOGETHER", 4 * 16 * 6 - 1)
    tk.set_threads(1)
    for shape, fields, expected in (((2, 3), False, [3, 3, 1]), ((2, 3), True, 7 * [1]), ((2, 4), False, 7 * [1])):
        W, _, _, laws = models(shape, 7, False)
        adjoints.q_struct(W, laws, fields=fields)
        assert calls == expected
        calls.clear()
