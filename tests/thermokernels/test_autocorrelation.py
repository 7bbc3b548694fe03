"""Exact autocorrelation times of series that record every k-th step, against the matrix P^k and 60-digit arithmetic."""

import mpmath
import numpy as np
import pytest

import thermokernels as tk
from thermokernels.autocorrelation import autocorrelation_times


@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
@pytest.mark.parametrize("every", [1, 2, 5, 40])
def test_against_the_dense_power(kernel, every):
    rng = np.random.default_rng(every)
    chain = tk.gibbs_chain(rng.standard_normal((3, 2)), b=rng.standard_normal(3), kernel=kernel)
    functions = np.column_stack([chain.energy, chain.spins()[:, 0], rng.standard_normal(chain.n_states)])
    power = np.linalg.matrix_power(chain.transition_matrix(), every)
    centred = functions - chain.law @ functions
    sums = chain.law @ (centred * np.linalg.solve(np.eye(chain.n_states) - power + chain.law, centred))
    variances = chain.law @ centred**2
    times, errors, found = autocorrelation_times(chain, functions, every=every)
    np.testing.assert_allclose(times, 2 * sums / variances - 1, rtol=1e-11)
    np.testing.assert_allclose(found, variances, rtol=1e-13)
    assert (errors <= 1e-9 * times).all()


@pytest.mark.parametrize("every", [1, 4, 30])
def test_a_slow_chain_within_its_bound(every):
    """The magnetisation of a cold pair of pairs, whose gap is about 1e-6: the dense power would lose half of the digits."""
    W = [[4.0, 1.5], [1.5, 4.5]]
    chain = tk.gibbs_chain(W, quotient=False)
    magnetisation = chain.spins().sum(axis=1).astype(float)
    times, errors, _ = autocorrelation_times(chain, magnetisation[:, None], every=every)
    with mpmath.workdps(60):
        spins = [[1 - 2 * (x >> i & 1) for i in range(4)] for x in range(16)]
        weights = [mpmath.exp(sum(mpmath.mpf(W[i][j]) * s[i] * s[2 + j] for i in (0, 1) for j in (0, 1))) for s in spins]
        law = [weight / mpmath.fsum(weights) for weight in weights]
        matrix = mpmath.eye(16)
        for x in range(16):
            for i in range(4):
                y = x ^ 1 << i
                matrix[x, y] = law[y] / (law[x] + law[y]) / 4
                matrix[x, x] -= matrix[x, y]
        power = matrix**every
        system = mpmath.matrix(16, 16)
        for x in range(16):
            for y in range(16):
                system[x, y] = (x == y) - power[x, y] + law[y]
        f = [mpmath.mpf(sum(s)) for s in spins]
        response = mpmath.lu_solve(system, mpmath.matrix(f))  # f is odd, so it is centred
        variance = mpmath.fsum(p * value**2 for p, value in zip(law, f, strict=True))
        known = 2 * mpmath.fsum(law[x] * f[x] * response[x] for x in range(16)) / variance - 1
    assert abs(times[0] - known) <= errors[0] + 1e-15 * known
    assert errors[0] <= 1e-6 * known
