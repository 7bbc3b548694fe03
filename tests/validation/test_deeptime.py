"""Hitting times against deeptime, for targets of every size; and where deeptime's digits end, against mpmath."""

import warnings

import numpy as np
import pytest

import thermokernels as tk

pytestmark = pytest.mark.judges

markov = pytest.importorskip("deeptime.markov.tools.analysis", reason="deeptime is not installed: pip install '.[judges]'")


@pytest.mark.parametrize("seed", range(6))
def test_targets_of_every_size(seed):
    rng = np.random.default_rng(seed)
    shape = [(1, 1), (2, 2), (3, 2), (2, 3), (3, 3), (1, 4)][seed]
    chain = tk.gibbs_chain(rng.normal(size=shape), *([rng.normal(size=n) for n in shape] if seed % 2 else []), quotient=seed != 2 and None)
    P = chain.transition_matrix()
    for size in range(1, chain.n_states):
        target = rng.permutation(chain.n_states)[:size]
        np.testing.assert_allclose(tk.hitting_times(chain, target), markov.mfpt(P, target), rtol=1e-9, atol=1e-12)
        start = rng.permutation(chain.n_states)[: 1 + size // 2]
        if not set(start) & set(target):
            expected = markov.mfpt(P, target, start, mu=chain.law)
            np.testing.assert_allclose(tk.mean_first_passage(chain, start, target), expected, rtol=1e-9)


def exact_times(W, target):
    """From the definitions on all states, with as many digits as the couplings can hide."""
    mp = pytest.importorskip("mpmath", reason="mpmath is not installed: pip install mpmath")
    n_v, n_h = W.shape
    n = n_v + n_h
    with mp.workdps(int(80 + 2 * np.abs(W).sum())):
        states = [[1 - 2 * (x >> i & 1) for i in range(n)] for x in range(2**n)]
        matrix = mp.zeros(2**n)
        for x, s in enumerate(states):
            fields = [mp.fsum(mp.mpf(W[i, j]) * s[n_v + j] for j in range(n_h)) for i in range(n_v)]
            fields += [mp.fsum(mp.mpf(W[i, j]) * s[i] for i in range(n_v)) for j in range(n_h)]
            for i in range(n):
                rate = 1 / (1 + mp.exp(2 * s[i] * fields[i])) / n
                matrix[x, x] += rate
                matrix[x, x ^ (1 << i)] -= rate
        free = [x for x in range(2**n) if x not in target]
        restricted = mp.matrix([[matrix[x, y] for y in free] for x in free])
        return free, [float(t) for t in mp.lu_solve(restricted, mp.matrix([1] * len(free)))]


@pytest.mark.parametrize(("coupling", "trusted"), [(2.0, True), (5.0, True), (20.0, False), (30.0, False), (50.0, False)])
def test_where_the_digits_of_deeptime_end(coupling, trusted):
    """Two pairs of spins: from a coupling of about 18 on, escapes are rarer than rounding in a row of P."""
    W = np.array([[coupling, 0.25], [-0.125, 0.9 * coupling]])
    chain = tk.gibbs_chain(W, quotient=False)
    target = [int(chain.law.argmax())]
    free, exact = exact_times(W, target)
    np.testing.assert_allclose(tk.hitting_times(chain, target)[free], exact, rtol=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the matrix is ill-conditioned, where it is noticed
        try:
            theirs = markov.mfpt(chain.transition_matrix(), target)[free]
        except (np.linalg.LinAlgError, ValueError):
            theirs = np.full(len(free), np.nan)
    errors = np.abs(theirs / exact - 1)
    if trusted:
        assert errors.max() < 1e-6
    else:
        assert not errors.max() < 0.1  # no digit is right, or there is no number
