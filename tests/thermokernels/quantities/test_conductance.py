import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermokernels.common.errors import UnresolvedError
from thermokernels.model.chain import gibbs_chain
from thermokernels.model.exchangeable import exchangeable_chain
from thermokernels.quantities.conductance import conductance


def naive_conductance(chain, mask):
    flow = sum(
        chain.law[x] * row[y] for x, row in enumerate(chain.transition_matrix()) for y in range(chain.n_states) if mask[x] and not mask[y]
    )
    return flow / min(chain.law[mask].sum(), 1 - chain.law[mask].sum())


@given(
    seed=st.integers(0, 10**6),
    kernel=st.sampled_from(["single-site", "two-block", "alternating"]),
    fields=st.booleans(),
    full=st.booleans(),
)
def test_conductance_is_the_naive_sum_and_obeys_cheeger(seed, kernel, fields, full):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 4, size=2)
    both = [rng.normal(size=n) for n in shape] if fields else [None, None]
    chain = gibbs_chain(rng.normal(size=shape), *both, quotient=False if full else None, kernel=kernel)
    mask = rng.random(chain.n_states) < 0.5
    mask[:2] = True, False
    phi = conductance(chain, mask)
    assert phi == pytest.approx(naive_conductance(chain, mask), rel=1e-9, abs=0)
    assert phi == pytest.approx(conductance(chain, ~mask), rel=1e-9, abs=0)
    assert conductance(chain, np.flatnonzero(mask)) == phi
    if kernel != "alternating":
        gap = 1 - np.sort(np.linalg.eigvals(chain.transition_matrix()).real)[-2]
        assert gap <= 2 * phi + 1e-10


def test_classes_of_exchangeable_sites_have_the_conductance_of_their_states():
    """Two visible and two hidden spins, each of one class: lumped states are numbers of -1 spins, (hidden, visible)."""
    W = np.full((2, 2), 0.4)
    lumped, full = exchangeable_chain(W), gibbs_chain(W, quotient=False)
    down = full.spins() < 0
    numbers = 3 * down[:, 2:].sum(axis=1) + down[:, :2].sum(axis=1)
    for chosen in ([0], [0, 1, 2], [4, 8]):
        assert conductance(lumped, chosen) == pytest.approx(conductance(full, np.isin(numbers, chosen)), rel=1e-12, abs=0)


def test_a_small_side_keeps_its_relative_accuracy():
    """A slow pair in the full space: pi(A) = 1 / (1 + e^120) for the two broken states, each left in every second step or later."""
    chain = gibbs_chain([[60.0]], quotient=False)
    assert chain.law[1] < 1e-50
    assert conductance(chain, [1, 2]) == pytest.approx(1.0, rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones(8, dtype=bool), "mask must hold at least one state and not all of the 8"),
        (np.ones(4, dtype=bool), r"mask must be a mask of shape \(8,\)"),
        ([9], "mask must hold state numbers from 0 to 7"),
        ([0.5], "mask must be a boolean mask"),
    ],
)
def test_bad_masks(mask, message):
    with pytest.raises(ValueError, match=message):
        conductance(gibbs_chain([[0.5, -0.2], [0.1, 0.3]]), mask)


def test_a_side_without_probability_is_refused():
    with pytest.raises(UnresolvedError, match="smaller side has probability 0, below the range of float64"):
        conductance(gibbs_chain([[500.0]]), [1])
