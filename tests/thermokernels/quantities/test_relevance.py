import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermokernels.common.errors import UnresolvedError
from thermokernels.model.chain import gibbs_chain
from thermokernels.quantities.relevance import observable_basis, observable_span, relevance


def naive_relevance(chain, mask, span=None):
    """Weighted least squares of the centred indicator on the centred observables, and the rank."""
    spins = chain.spins().astype(float)
    observables = np.einsum("xi,xj->xij", spins[:, : chain.n_visible], -spins[:, chain.n_visible :]).reshape(chain.n_states, -1)
    columns = observables if span is None else observables @ span
    columns = chain.root_law[:, None] * (columns - chain.law @ columns)
    indicator = chain.root_law * (mask - chain.law @ mask)
    solution, _, rank, _ = np.linalg.lstsq(columns, indicator, rcond=1e-7)
    return np.linalg.norm(columns @ solution) ** 2 / np.linalg.norm(indicator) ** 2, rank


@given(seed=st.integers(0, 10**6), full=st.booleans(), spanned=st.booleans())
def test_relevance_is_a_least_squares_fit(seed, full, spanned):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 5, size=2)
    fields = [rng.normal(size=n) for n in shape] if seed % 3 == 0 else [None, None]
    chain = gibbs_chain(0.7 * rng.normal(size=shape), *fields, quotient=False if full else None)
    mask = rng.random(chain.n_states) < 0.3
    mask[:2] = True, False
    n_observables = chain.n_visible * chain.n_hidden
    factors = rng.normal(size=(n_observables, 2)), rng.normal(size=(2, 5))
    span = factors[0] @ factors[1] if spanned else None
    expected, rank = naive_relevance(chain, mask, span)
    assert relevance(chain, mask, span) == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert relevance(chain, ~mask, span) == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert observable_span(chain, span) == rank


def test_a_basis_serves_many_events():
    rng = np.random.default_rng(3)
    chain = gibbs_chain(rng.normal(size=(3, 3)))
    masks = rng.random((4, chain.n_states)) < 0.5
    basis = observable_basis(chain)
    expected = [basis.relevance(mask) for mask in masks]
    np.testing.assert_array_equal(relevance(chain, masks), expected)
    np.testing.assert_array_equal(relevance(chain, list(masks)), expected)
    assert relevance(chain, np.flatnonzero(masks[0])) == expected[0]


def test_basis_is_orthonormal():
    chain = gibbs_chain(np.random.default_rng(5).normal(size=(4, 4)))
    basis = observable_basis(chain)
    spins = chain.spins().astype(float)
    observables = np.einsum("xi,xj->xij", spins[:, :4], -spins[:, 4:]).reshape(chain.n_states, -1)
    functions = (observables - chain.law @ observables) @ basis.coefficients
    np.testing.assert_allclose(functions.T @ (chain.law[:, None] * functions), np.eye(16), atol=1e-10)


def test_a_larger_span_sees_no_less():
    rng = np.random.default_rng(7)
    chain, span = gibbs_chain(rng.normal(size=(3, 4))), rng.normal(size=(12, 12))
    mask = rng.random(chain.n_states) < 0.2
    shares = [relevance(chain, mask, span[:, :k]) for k in range(1, 13)]
    assert (np.diff(shares) >= -1e-12).all()
    assert 0 <= shares[0] < shares[-1] == pytest.approx(relevance(chain, mask), rel=1e-9, abs=0)
    assert shares[-1] <= 1


def test_a_vanishing_span_sees_nothing():
    chain = gibbs_chain([[0.5, 0.1]])
    assert observable_span(chain, np.zeros((2, 3))) == 0
    assert relevance(chain, [0], np.zeros((2, 3))) == 0


def test_odd_sets_are_invisible_to_even_observables():
    chain = gibbs_chain(np.random.default_rng(2).normal(size=(2, 2)), quotient=False)
    assert relevance(chain, chain.spins()[:, 0] > 0) == pytest.approx(0, abs=1e-15)


def test_rare_sets_keep_their_relative_accuracy():
    """One pair, extremely slow: v h is the indicator of the broken state, of probability 1e-22, up to an affine map."""
    chain = gibbs_chain([[25.0]])
    assert relevance(chain, [1]) == pytest.approx(1, rel=1e-12, abs=0)


@pytest.mark.parametrize("shape", [(3, 4), (5, 2), (1, 6)])
def test_sums_without_observables_agree_with_those_over_all_of_them(shape):
    rng = np.random.default_rng(9)
    chain = gibbs_chain(rng.normal(size=shape), b=rng.normal(size=shape[0]))
    spins = chain.spins().astype(float)
    values = -(spins[:, : shape[0], None] * spins[:, None, shape[0] :]).reshape(chain.n_states, -1)
    centred = values - chain.law @ values
    mask = np.arange(chain.n_states) % 3 == 0
    covariance = (chain.law * mask) @ centred
    gram = centred.T @ (chain.law[:, None] * centred)
    mass = chain.law[mask].sum()
    expected = covariance @ np.linalg.pinv(gram, rcond=1e-12) @ covariance / (mass * (1 - mass))
    assert relevance(chain, mask) == pytest.approx(expected, rel=1e-10, abs=0)


@pytest.mark.parametrize(
    ("mask", "span", "message"),
    [
        ([2], None, "mask must hold state numbers from 0 to 1"),
        ([0, 1], None, "mask must hold at least one state and not all"),
        ([0], np.ones((2, 2)), r"span must have shape \(1,\) or \(1, k\); got shape \(2, 2\)"),
        ([0], [np.nan], "span must be finite"),
    ],
)
def test_bad_arguments(mask, span, message):
    with pytest.raises(ValueError, match=message):
        relevance(gibbs_chain([[0.5]]), mask, span)


def test_a_set_without_probability_is_refused():
    with pytest.raises(UnresolvedError, match="smaller side has probability 0, below the range of float64"):
        relevance(gibbs_chain([[400.0]]), [1])
