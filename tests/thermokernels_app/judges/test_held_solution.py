"""The held reference agrees with the dense one where the solution is right, and sees where it is not."""

import numpy as np
import pytest

from thermokernels.model.chain import gibbs_chain
from thermokernels.quantities.variance_time import variance_time
from thermokernels.solvers.solve import Solve
from thermokernels_app.judges import held_solution, reference


def model(shape, seed=3):
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(shape)
    return w, rng.dirichlet(np.ones(2 ** shape[0])), rng.standard_normal((3, *shape))


def responses(w, quotient=None):
    return variance_time(gibbs_chain(w, quotient=quotient), Solve(rtol=1e-12)).responses


@pytest.mark.parametrize("shape", [(1, 2), (2, 3), (4, 3), (3, 3)])
@pytest.mark.parametrize("quotient", [None, False])
def test_agrees_with_the_dense_reference(shape, quotient):
    w, law, tangents = model(shape)
    q, slopes = reference.derivatives(w, law, tangents)
    verified = held_solution.verify(w, law, tangents, responses(w, quotient))
    assert verified.residual <= 1e-12
    np.testing.assert_allclose(verified.q.t_obs, q.t_obs, rtol=1e-13)
    np.testing.assert_allclose(verified.q.value, q.value, rtol=1e-12)
    np.testing.assert_allclose(verified.derivatives.t_obs, slopes.t_obs, rtol=1e-10)
    np.testing.assert_allclose(verified.derivatives.value, slopes.value, rtol=1e-9, atol=1e-12 * abs(q.value))


def test_the_value_is_of_second_order_in_an_error_and_never_too_large():
    w, law, tangents = model((3, 3))
    exact, noise = responses(w), np.random.default_rng(0).standard_normal((2**5, 9))
    values = [held_solution.verify(w, law, tangents, exact + size * noise).q.t_obs for size in (0.0, 1e-3, 1e-2)]
    deficits = values[0] - np.array(values[1:])
    assert (deficits > 0).all()
    np.testing.assert_allclose(deficits[1] / deficits[0], 100.0, rtol=1e-6)


@pytest.mark.parametrize("spoil", [lambda y: 1.001 * y, lambda y: -y, lambda y: y[::-1], lambda y: np.roll(y, 1, axis=1)])
def test_a_wrong_solution_is_seen(spoil):
    w, law, tangents = model((3, 3))
    assert held_solution.verify(w, law, tangents, spoil(responses(w))).residual > 1e-4


def test_a_solution_of_other_couplings_is_seen():
    w, law, tangents = model((3, 3))
    assert held_solution.verify(w, law, tangents, responses(w + 1e-6)).residual > 1e-8


def test_a_right_solution_of_an_extremely_slow_chain_passes_and_a_wrong_one_does_not():
    w, law, tangents = model((3, 3))
    w = w / 2 + np.diag([9.0, 10.0, 11.0])
    time = variance_time(gibbs_chain(w))
    assert time.method == "reduction"
    assert np.abs(time.responses).max() > 1e7
    verified = held_solution.verify(w, law, tangents, time.responses)
    assert verified.residual <= 1e-12
    np.testing.assert_allclose(verified.q.t_obs, time.value, rtol=1e-11)
    full = variance_time(gibbs_chain(w, quotient=False))
    np.testing.assert_array_equal(full.responses, np.concatenate([time.responses, time.responses[::-1]]))
    assert held_solution.verify(w, law, tangents, full.responses).residual <= 1e-12
    rough = time.responses * (1 + 1e-12 * np.random.default_rng(2).standard_normal(time.responses.shape))
    assert held_solution.verify(w, law, tangents, rough).residual > 1e-8
    assert held_solution.verify(w, law, tangents, time.responses[:, ::-1]).residual > 1e-2
