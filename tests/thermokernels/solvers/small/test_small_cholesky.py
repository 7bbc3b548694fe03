"""Small dense solves against the pseudo-inverse of the matrix."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.solvers.small import small_cholesky


@pytest.mark.small
@pytest.mark.parametrize(
    ("shape", "fields"),
    [((1, 1), False), ((1, 1), True), ((2, 1), False), ((2, 2), True), ((3, 3), False), ((4, 3), False), ((4, 4), False)],
)
def test_solutions_are_those_of_the_pseudo_inverse(shape, fields):
    draws = np.random.default_rng(1)
    chain = tk.gibbs_chain(draws.normal(size=shape), draws.normal(size=shape[0]) if fields else None)
    rows = draws.normal(size=(11, chain.n_states))
    rows -= np.outer(rows @ chain.root_law, chain.root_law)
    solutions = small_cholesky.solve(small_cholesky.factor(chain), chain, rows)
    np.testing.assert_allclose(solutions, rows @ np.linalg.pinv(chain.symmetrised_generator_matrix(), rcond=1e-10), atol=1e-9)
    assert np.abs(solutions @ chain.root_law).max() < 1e-12
    alone = small_cholesky.solve(small_cholesky.factor(chain), chain, rows[3:4])
    np.testing.assert_array_equal(alone[0], solutions[3])


def test_a_gap_below_rounding_is_refused():
    with pytest.raises(tk.UnresolvedError, match="is not positive definite in float64: the spectral gap is below rounding"):
        tk.observable_variance_time(tk.gibbs_chain(20.0 * np.ones((3, 3)), quotient=False), method="cholesky")
    # states that are left once in 1e52 steps are scaled away, the factor exists, and the residual refuses its solutions
    with pytest.raises(tk.NumericalError, match="the chain is too slow for float64"):
        tk.observable_variance_time(tk.gibbs_chain(60.0 * np.eye(3)), method="cholesky")
