"""Every leg of the gradient check accepts the hand-written adjoints and rejects every broken one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import adjoints
from adjoints.variance_time import _log_law_cotangents
from thermokernels.model.chain import gibbs_chain
from thermokernels.model.hypernetwork import Hypernetwork
from thermokernels.quantities.variance_time import variance_time
from thermokernels_app.judges import automatic_differentiation, gradient_check

SHAPE = (3, 3, 2, 4, 4)
CODES = np.eye(4)


@pytest.fixture(scope="module")
def checkpoint():
    rng = np.random.default_rng(7)
    n_parameters = 4 * 5 + 6 * 2 * 5
    network = Hypernetwork.from_parameters(0.5 * rng.standard_normal(n_parameters), SHAPE)
    directions = rng.standard_normal((5, n_parameters))
    return network, CODES, rng.dirichlet(np.ones(8), 4), directions / np.linalg.norm(directions, axis=1, keepdims=True)


def parts(w, p_data):
    """Q, d|g|^2 / |g|^2 and dT_O / T_O."""
    q, gradient = adjoints.q_struct(w, p_data)
    t_obs, dt_dw = adjoints.observable_variance_time(w)
    return q, gradient / q.value + dt_dw / t_obs, dt_dw / t_obs


def without_the_resolvent(w, p_data):
    q, signal, _ = parts(w, p_data)
    return q, q.value * signal


def without_the_change_of_law(w, p_data):
    q, signal, time = parts(w, p_data)
    solved = variance_time(gibbs_chain(w))
    law = _log_law_cotangents(solved.chain, np.einsum("an,an->n", solved.solutions, solved.right_hand_sides)).W
    return q, q.value * (signal - time + law / solved.value)


def with_a_flipped_sign(w, p_data):
    q, signal, time = parts(w, p_data)
    return q, q.value * (signal + time)


def with_a_missing_factor(w, p_data):
    q, signal, time = parts(w, p_data)
    return q, q.value * (0.5 * signal - time)


def without_the_first_layer(network, code, ct_w):
    """The cotangent of C is dropped."""
    ct_phi = adjoints.couplings_vjp(network, code, ct_w)
    ct_phi[: network.C.size] = 0.0
    return ct_phi


GOOD = gradient_check.kernels()
BROKEN = {
    "dropped term T_O": replace(GOOD, value_and_gradient=without_the_resolvent),
    "dropped term dlog pi": replace(GOOD, value_and_gradient=without_the_change_of_law),
    "flipped sign": replace(GOOD, value_and_gradient=with_a_flipped_sign),
    "missing factor": replace(GOOD, value_and_gradient=with_a_missing_factor),
    "dropped layer": replace(GOOD, vjp=without_the_first_layer),
    "transposed": replace(GOOD, vjp=lambda network, code, ct_w: adjoints.couplings_vjp(network, code, np.ascontiguousarray(ct_w.T))),
}


def worst(record, key):
    return max(row[key] for row in record["directions"])


def test_the_hand_written_adjoints_pass_every_leg(checkpoint):
    record = gradient_check.gradient_check(*checkpoint, GOOD)
    assert record["value_error"] <= 1e-12
    assert worst(record, "complex_error") <= 1e-11
    assert worst(record, "difference_error") <= 1e-6
    for row in record["directions"]:
        assert row["difference_note"] is None
        assert len(row["difference_errors"]) == len(gradient_check.STEPS)
        assert row["difference_error"] == min(row["difference_errors"])
        assert row["automatic_error"] is None
        assert row["automatic_error_reason"] == "the JAX leg was not run"


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_adjoint_fails_differences_and_the_complex_step(checkpoint, name):
    record = gradient_check.gradient_check(*checkpoint, BROKEN[name])
    assert record["value_error"] <= 1e-12  # only the gradient is broken
    assert worst(record, "complex_error") > 1e-3
    assert worst(record, "difference_error") > 1e-3


def test_the_held_reference_agrees_with_the_dense_one(checkpoint):
    dense = gradient_check.gradient_check(*checkpoint, GOOD)
    held = gradient_check.gradient_check(*checkpoint, GOOD, dense=False, steps=())
    assert held["value_reference"] == "frozen"
    assert held["value_error"] <= 1e-12
    assert held["solution_residual"] <= 1e-10
    assert worst(held, "complex_error") <= 1e-11
    assert [row["adjoint"] for row in held["directions"]] == [row["adjoint"] for row in dense["directions"]]
    for row in held["directions"]:
        assert row["difference_error"] is None
        assert row["difference_error_reason"] == "central differences were not asked for here"


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_adjoint_fails_against_the_held_reference(checkpoint, name):
    record = gradient_check.gradient_check(*checkpoint, BROKEN[name], dense=False, steps=())
    assert record["value_error"] <= 1e-12
    assert worst(record, "complex_error") > 1e-3


@pytest.mark.jax
def test_automatic_differentiation_accepts_the_good_and_rejects_every_broken_one(checkpoint):
    network, codes, laws, directions = checkpoint
    slopes = automatic_differentiation.derivatives(network.parameters(), (3, 3, 2, 4), codes, laws, directions)
    for name, functions in {"good": GOOD, **BROKEN}.items():
        gradients = [functions.value_and_gradient(functions.couplings(network, u), law)[1] for u, law in zip(codes, laws, strict=True)]
        pulled_back = sum(functions.vjp(network, u, dq_dw) for u, dq_dw in zip(codes, gradients, strict=True))
        derivatives = directions @ pulled_back
        error = gradient_check.relative_errors(derivatives, slopes, 1.0).max()
        assert (error <= 1e-10) == (name == "good"), (name, error)


@pytest.mark.jax
def test_automatic_differentiation_leaves_the_precision_of_jax_alone(checkpoint):
    import jax

    network, codes, laws, directions = checkpoint
    automatic_differentiation.derivatives(network.parameters(), (3, 3, 2, 4), codes, laws, directions)
    assert jax.numpy.ones(1).dtype == np.float32


def test_automatic_differentiation_without_jax(checkpoint, monkeypatch):
    monkeypatch.setattr(automatic_differentiation, "find_spec", lambda name: None)
    assert not automatic_differentiation.available()
    with pytest.raises(ModuleNotFoundError, match="needs JAX; install it with"):
        gradient_check.gradient_check(*checkpoint, GOOD, with_automatic=True)


def test_a_wrong_value_is_seen(checkpoint):
    wrong = replace(GOOD, value=lambda w, p_data: replace(GOOD.value(w, p_data), value=1.001 * GOOD.value(w, p_data).value))
    record = gradient_check.gradient_check(*checkpoint, wrong, steps=(1e-4, 1e-5, 1e-6))
    assert record["value_error"] == pytest.approx(1e-3, rel=1e-6, abs=0)
    assert worst(record, "difference_error") > 1e-4


def test_relative_errors_are_relative_to_the_leg():
    errors = gradient_check.relative_errors(np.array([1.1, 2e-9, 0.0]), np.array([1.0, 1e-9, 0.0]), 1.0)
    assert np.allclose(errors, [0.1, 1e-3, 0.0])  # the second against a millionth of the largest
    assert gradient_check.relative_errors(np.array([0.0]), np.array([0.0]), 0.0) == [0.0]
    assert gradient_check.relative_errors(np.array([1.0]), np.array([0.0]), 0.0) == [np.inf]


def test_the_note_names_rounding_and_stays_away_from_real_errors():
    steps = np.array(gradient_check.STEPS)
    wiggle = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    slopes = 1.0 + 3.0 * steps**2 + 1e-9 * wiggle / steps  # Q known to 1e-9
    best = float(np.abs(slopes - 1.0).min())
    assert best > 1e-6
    note = gradient_check.difference_note(steps, slopes, best, 1.0)
    assert note is not None
    assert "rounding of Q" in note
    assert gradient_check.difference_note(steps, slopes, 0.3, 1.0) is None
    assert gradient_check.difference_note(steps, slopes, 1e-7, 1.0) is None
