"""Exact autocorrelation times of series that record every k-th step, against the matrix P^k and 60-digit arithmetic."""

import mpmath
import numpy as np
import pytest

import thermokernels as tk
from thermokernels.model.rounding import energy_error
from thermokernels.quantities.autocorrelation_times import autocorrelation
from thermokernels.quantities.autocorrelation_times.autocorrelation import autocorrelation_times


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


@pytest.mark.parametrize("scale", [1.0, 1.6, 2.4])
@pytest.mark.parametrize("every", [1, 4, 30])
def test_a_slow_chain_within_its_bound(every, scale):
    """The magnetisation of a cold pair of pairs, with gaps from 1e-6 to 1e-13: the dense power would lose half of the digits or all."""
    W = scale * np.array([[4.0, 1.5], [1.5, 4.5]])
    chain = tk.gibbs_chain(W, quotient=False)
    magnetisation = chain.spins().sum(axis=1).astype(float)
    times, errors, _ = autocorrelation_times(chain, magnetisation[:, None], every=every)
    known = exact_time(W, magnetisation, every)
    assert abs(times[0] - known) <= errors[0] + 1e-15 * known
    assert errors[0] <= 1e-6 * known


@pytest.mark.parametrize("scale", [1.0, 1.6, 2.4])
def test_a_recorded_series_that_hardly_sees_the_slow_mode(scale):
    """What solves for (I - P)^+ leaves too little of it; state reduction keeps its digits, as it does of every single step."""
    W = scale * np.array([[4.0, 1.5], [1.5, 4.5]])
    chain = tk.gibbs_chain(W, quotient=False)
    function = chain.energy + 1e-3 * chain.spins()[:, 0]
    for every in (1, 4, 30):
        times, errors, _ = autocorrelation_times(chain, function[:, None], every=every)
        known = exact_time(W, function, every)
        assert abs(times[0] - known) <= errors[0] + 1e-15 * known
        assert errors[0] <= 1e-6 * known


def exact_time(W, function, every):
    """1 + 2 sum rho(every t) of a model of two by two spins, with 120 digits."""
    with mpmath.workdps(120):
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
        f = [mpmath.mpf(float(value)) for value in function]
        mean = mpmath.fsum(p * value for p, value in zip(law, f, strict=True))
        f = [value - mean for value in f]
        response = mpmath.lu_solve(system, mpmath.matrix(f))
        variance = mpmath.fsum(p * value**2 for p, value in zip(law, f, strict=True))
        return 2 * mpmath.fsum(law[x] * f[x] * response[x] for x in range(16)) / variance - 1


@pytest.mark.parametrize("coupling", [2.0, 5.0, 12.0, 25.0, 60.0])
def test_a_slow_chain_keeps_its_digits(coupling):
    """The magnetisation and a product of spins of a ferromagnet with gaps down to 1e-105, a little off its symmetry."""
    W = [[coupling, 0.9 * coupling], [0.8 * coupling, coupling]]
    chain = tk.gibbs_chain(W, quotient=False)
    spins = chain.spins().astype(float)
    functions = np.column_stack([spins.sum(axis=1), spins[:, 0] + 0.25 * spins[:, 0] * spins[:, 3]])
    times, errors, _ = autocorrelation_times(chain, functions)
    with mpmath.workdps(300):
        signs = [[1 - 2 * (x >> i & 1) for i in range(4)] for x in range(16)]
        weights = [mpmath.exp(sum(mpmath.mpf(W[i][j]) * s[i] * s[2 + j] for i in (0, 1) for j in (0, 1))) for s in signs]
        law = [weight / mpmath.fsum(weights) for weight in weights]
        system = mpmath.matrix(16, 16)
        for x in range(16):
            for i in range(4):
                y = x ^ 1 << i
                rate = law[y] / (law[x] + law[y]) / 4
                system[x, y] -= rate
                system[x, x] += rate
        for x in range(16):
            for y in range(16):
                system[x, y] += law[y]
        for k, column in enumerate(functions.T):
            f = [mpmath.mpf(value) for value in column]
            mean = mpmath.fsum(p * value for p, value in zip(law, f, strict=True))
            f = [value - mean for value in f]
            response = mpmath.lu_solve(system, mpmath.matrix(f))
            variance = mpmath.fsum(p * value**2 for p, value in zip(law, f, strict=True))
            known = 2 * mpmath.fsum(law[x] * f[x] * response[x] for x in range(16)) / variance - 1
            assert abs(times[k] - known) <= errors[k]
            assert errors[k] <= 1e-6 * known


def test_the_rounding_of_the_energies_is_in_the_bound_of_their_time():
    """Two wells a few 1e-6 apart, of energies of 30: what their difference loses to rounding is a relative 5e-10."""
    W = [[16.679533188, -4.3049641768e-06], [5.6514694e-06, 13.9624498]]
    chain = tk.gibbs_chain(W)
    times, errors, _ = autocorrelation_times(chain, chain.energy[:, None], function_error=energy_error(chain))
    with mpmath.workdps(120):
        signs = [[1 - 2 * (x >> i & 1) for i in range(4)] for x in range(8)]
        f = [-sum(mpmath.mpf(W[i][j]) * s[i] * s[2 + j] for i in (0, 1) for j in (0, 1)) for s in signs]
        weights = [mpmath.exp(-value) for value in f]
        law = [weight / mpmath.fsum(weights) for weight in weights]
        system = mpmath.matrix(8, 8)
        for x in range(8):
            for mask in (1, 2, 4, 7):
                rate = law[x ^ mask] / (law[x] + law[x ^ mask]) / 4
                system[x, x ^ mask] -= rate
                system[x, x] += rate
        for x in range(8):
            for y in range(8):
                system[x, y] += law[y]
        mean = mpmath.fsum(p * value for p, value in zip(law, f, strict=True))
        f = [value - mean for value in f]
        response = mpmath.lu_solve(system, mpmath.matrix(f))
        variance = mpmath.fsum(p * value**2 for p, value in zip(law, f, strict=True))
        known = 2 * mpmath.fsum(law[x] * f[x] * response[x] for x in range(8)) / variance - 1
        error = abs(times[0] - known)
    assert autocorrelation_times(chain, chain.energy[:, None])[1][0] < error <= errors[0] <= 1e-6 * known


@pytest.mark.parametrize("coupling", [3.0, 8.0, 17.0, 25.0])
@pytest.mark.parametrize("every", [1, 2])
def test_two_blocks_of_one_spin_in_closed_form(coupling, every):
    """v + h is an eigenfunction, (1 + tanh w) / 2 its eigenvalue."""
    chain = tk.gibbs_chain([[coupling]], quotient=False, kernel="two-block")
    spins = chain.spins().astype(float)
    with mpmath.workdps(60):
        sigma = ((1 + mpmath.tanh(mpmath.mpf(coupling))) / 2) ** every
        known = (1 + sigma) / (1 - sigma)
        times, errors, _ = autocorrelation_times(chain, spins.sum(axis=1)[:, None], every=every)
        assert abs(times[0] - known) <= errors[0] <= 1e-6 * known


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_units_of_a_function_change_nothing(scale):
    """Nor does how near a bound has to be before state reduction is asked."""
    chain = tk.gibbs_chain(np.diag([7.0, 8.0]), quotient=False)
    times, errors = autocorrelation_times(chain, chain.energy[:, None])[:2]
    same, same_errors = autocorrelation_times(chain, scale * chain.energy[:, None])[:2]
    assert errors[0] < 1e-9 * times[0]
    assert same == pytest.approx(times, rel=1e-10, abs=0)
    assert same_errors[0] < 2 * errors[0]


def test_sums_over_the_states_round_as_often_as_they_have_terms(monkeypatch):
    """The twin of what rounding adds, term by term: law, sums of its logarithms, entries, sums of the terms of a row."""
    chain = tk.gibbs_chain([[0.4, -0.8]])
    centred, responses = np.random.default_rng(0).normal(size=(2, chain.n_states, 1))
    for law, entries in ((0.0, 0.0), (1e-3, 0.0), (0.0, 1e-3)):
        monkeypatch.setattr(autocorrelation, "law_error", lambda _, law=law: law)
        monkeypatch.setattr(autocorrelation, "entry_error", lambda _, entries=entries: entries)
        u = np.finfo(np.float64).eps
        sizes = np.abs(chain.generator_terms(responses)[1])
        per_state = (3 * law + 2 * (2 + 2) * u) * np.abs(centred * responses)
        per_state += (entries + 2 * (chain.n_configurations + 3) * u) * np.abs(responses) * sizes
        assert autocorrelation._rounding(chain, centred, responses) == pytest.approx(chain.law @ per_state, rel=1e-12, abs=0)
