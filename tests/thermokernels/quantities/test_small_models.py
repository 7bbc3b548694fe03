"""Small models in one compiled call: the numbers of the general way, what is certified and what is not, and the accuracy asked for."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.quantities import small_models
from thermokernels.quantities.signal_to_noise import chain_q_struct, small_q_struct
from thermokernels.quantities.variance_time import in_room
from thermokernels.solvers import spanning_tree_bound
from thermokernels.solvers.solve import Solve

SHAPES = [pytest.param((1, 2), marks=pytest.mark.small), (3, 3), (2, 4), (4, 5), (5, 5), (6, 6)]


def model_of(shape, fields=False, scale=1.0):
    draws = np.random.default_rng(sum(shape))
    W, law = scale * draws.normal(size=shape), draws.dirichlet(np.ones(2 ** shape[0]))
    return tk.Model(W, draws.normal(size=shape[0]) if fields else None), law


@pytest.mark.parametrize("fields", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_value_alone_is_that_of_the_general_way(shape, fields):
    model, law = model_of(shape, fields)
    q = tk.q_struct(model, law, 50.0)
    assert (q.variance_time.in_one_call is not None) == (1 << (sum(shape) - 1 + fields) <= 2048)
    general = tk.q_struct(model, law, 50.0, method="cg")
    assert general.variance_time.in_one_call is None
    for name in ("value", "signal", "t_obs", "asymptotic_variance"):
        assert getattr(q, name) == pytest.approx(getattr(general, name), rel=1e-12)
    assert 0 < q.bound <= 2 * general.bound
    np.testing.assert_array_equal(q.g, general.g)
    chain, other = q.variance_time.chain, tk.gibbs_chain(model)
    assert (chain.quotient, chain.fallback, chain.log_partition) == (other.quotient, other.fallback, other.log_partition)
    np.testing.assert_array_equal(chain.law, other.law)


def test_a_chain_that_exists_gives_the_same_bits():
    model, law = model_of((3, 4))
    q, again = tk.q_struct(model, law), chain_q_struct(tk.gibbs_chain(model), law)
    assert (q.value, q.bound, q.t_obs, q.residual) == (again.value, again.bound, again.t_obs, again.residual)


@pytest.mark.parametrize("fields", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_bounds_count_every_rounding_that_those_of_the_general_way_do(shape, fields):
    model, _ = model_of(shape, fields)
    chain = tk.gibbs_chain(model)
    room, _ = small_models.answer(model, np.empty(0), 0.0, chain.quotient, Solve())
    time = in_room(chain, room, Solve())
    expected = sum(time.error_terms(spanning_tree_bound.quick_bound(chain)))
    assert room.numbers[0, small_models.NUMBERS.index("t_obs_bound")] == pytest.approx(expected, rel=1e-9, abs=0)


@pytest.mark.parametrize("accuracy", [1e-3, 1e-8])
def test_an_accuracy_that_is_asked_for_spares_iterations_and_is_kept(accuracy):
    model, law = model_of((5, 5))
    loose, tight = tk.q_struct(model, law, accuracy=accuracy), tk.q_struct(model, law)
    assert loose.variance_time.in_one_call is not None
    assert loose.iterations < tight.iterations
    assert loose.residual <= loose.variance_time.rtol > tight.variance_time.rtol
    assert loose.t_obs_bound <= accuracy * loose.t_obs
    assert abs(loose.t_obs - tight.t_obs) <= loose.t_obs_bound + tight.t_obs_bound


def test_what_is_not_certified_is_left_to_the_general_way():
    slow, law = model_of((3, 3), scale=30.0)
    assert small_q_struct(slow, law, 100.0, Solve()) is None
    assert tk.q_struct(slow, law).method == "reduction"
    model, law = model_of((3, 3))
    assert small_q_struct(model, law, 100.0, Solve(accuracy=1e-15)) is None
    with pytest.raises(tk.UnresolvedError, match="certified to a relative"):
        tk.q_struct(model, law, accuracy=1e-15)


def test_which_models_are_answered_so():
    small, large = model_of((5, 5))[0], model_of((6, 6))[0]
    assert small_models.in_one_call(small, Solve(), "single-site")
    assert small_models.in_one_call(large, Solve(), "single-site")
    assert not small_models.in_one_call(large, Solve(), "single-site", full=True)
    assert not small_models.in_one_call(small, Solve(), "two-block")
    assert not small_models.in_one_call(small, Solve(method="cg"), "single-site")
    assert not small_models.in_one_call(tk.Model(np.eye(3), mask=np.eye(3) > 0), Solve(), "single-site")


def test_progress_is_told_and_bad_arguments_are_refused():
    model, law = model_of((3, 3))
    told = []
    tk.q_struct(model, law, progress=lambda *done: told.append(done))
    assert told == [(9, 9)]
    with pytest.raises(ValueError, match="p_data must sum to one"):
        tk.q_struct(model, 2 * law)
    with pytest.raises(ValueError, match="window must be"):
        tk.q_struct(model, law, window=-1.0)
    with pytest.raises(ValueError, match="W, b and c must give finite energies"):
        tk.q_struct(np.full((3, 3), 1e308), law)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_what_is_certified_is_decided_by_each_limit(shape, monkeypatch):
    model, _ = model_of(shape)
    chain = tk.gibbs_chain(model)

    def answer(**limits):
        loose = small_models.Limits(1e-10, 0.0, np.inf, np.inf, np.inf, 0.0)
        monkeypatch.setattr(small_models, "limits_of", lambda _: loose._replace(**limits))
        return small_models.answer(model, np.empty(0), 0.0, chain.quotient, Solve())

    room, certified = answer()
    assert certified
    time = in_room(chain, room, Solve())
    from_residuals, from_rounding = time.error_terms(spanning_tree_bound.quick_bound(chain))
    relative = (from_residuals + from_rounding) / time.value
    of_gradient = np.sqrt(from_residuals / time.value)
    for name, limit in (
        ("gradient", of_gradient),
        ("share", from_residuals / from_rounding),
        ("digits", relative),
        ("accuracy", relative),
    ):
        assert answer(**{name: limit * (1 + 1e-6)})[1]
        assert not answer(**{name: limit * (1 - 1e-6)})[1]
    assert answer(law=chain.law.min())[1]
    assert not answer(law=chain.law.min() * (1 + 1e-6))[1]
