"""The pseudo-likelihood against the conditionals of the visible law."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.quantities import pseudo_likelihood as module

pytestmark = pytest.mark.small


def by_the_law(W, b, c, samples):
    """log p(v_i | v_-i) from the visible law itself."""
    law = tk.visible_law(W, b, c)
    total = 0.0
    for v in samples:
        state = int(((v < 0) * 2 ** np.arange(len(v))).sum())
        for i in range(len(v)):
            total += np.log(law[state] / (law[state] + law[state ^ (1 << i)]))
    return total / len(samples)


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (4, 5)])
def test_it_is_the_conditional_of_the_law(shape, monkeypatch):
    rng = np.random.default_rng(sum(shape))
    W, b, c = rng.normal(size=shape), rng.normal(size=shape[0]), rng.normal(size=shape[1])
    samples = rng.choice([-1, 1], size=(7, shape[0]))
    expected = by_the_law(W, b, c, samples)
    assert tk.pseudo_likelihood(tk.Model(W, b, c), samples) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(module, "TERMS_AT_ONCE", 2 * W.size)  # two samples at a time
    assert tk.pseudo_likelihood(tk.Model(W, b, c), samples) == pytest.approx(expected, rel=1e-12)


def test_large_couplings_do_not_overflow():
    assert tk.pseudo_likelihood([[800.0], [800.0]], [[1, 1]]) == 0.0
    assert tk.pseudo_likelihood([[800.0], [800.0]], [[1, -1]]) == pytest.approx(2 * np.log(2) - 3200, rel=1e-14)


def test_samples_of_another_width():
    with pytest.raises(ValueError, match=r"samples must have a column for each of the 2 visible spins; got shape \(1, 3\)"):
        tk.pseudo_likelihood([[0.0], [0.0]], [[1, 1, 1]])
