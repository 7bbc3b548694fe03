"""Laws and rates in long double against mpmath from the definitions, and the errors that are claimed for them."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.common.tolerances import UNIT
from thermokernels.compiled import wide_exponent
from thermokernels.model import extended
from thermokernels.model.extended import ExtendedChain
from thermokernels.model.rounding import entry_error, law_error

mp = pytest.importorskip("mpmath", reason="mpmath is not installed: pip install mpmath")

pytestmark = pytest.mark.skipif(not extended.AVAILABLE, reason="long double is float64 here")

SCALES = (0.3, 5.0, 40.0)


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(400):
        yield


def exact(value):
    """A long double in mpmath: two doubles hold its 64 bits."""
    mantissa, power = np.frexp(value)
    high = float(mantissa)
    return mp.ldexp(mp.mpf(high) + mp.mpf(float(mantissa - high)), int(power))


class Model:
    """All states of a model by sums over spins, in mpmath."""

    def __init__(self, W, b, c):
        self.n_v, self.n_h = W.shape
        self.spins = [[1 - 2 * (x >> i & 1) for i in range(sum(W.shape))] for x in range(2 ** sum(W.shape))]
        weights = [
            mp.exp(
                mp.fsum(mp.mpf(W[i, j]) * x[i] * x[self.n_v + j] for i in range(self.n_v) for j in range(self.n_h))
                + mp.fsum(mp.mpf(f) * s for f, s in zip([*b, *c], x, strict=True))
            )
            for x in self.spins
        ]
        self.law = [w / mp.fsum(weights) for w in weights]

    def flip(self, x, i):
        y = x ^ (1 << i)
        return self.law[y] / (self.law[x] + self.law[y]) / (self.n_v + self.n_h)

    def block(self, x, y, fixed):
        """Pr of y when the spins outside of the mask ``fixed`` are resampled from x, which has the fixed ones."""
        if (x ^ y) & fixed:
            return mp.mpf(0)
        return self.law[y] / mp.fsum(p for z, p in enumerate(self.law) if not (x ^ z) & fixed)

    def kernel(self, name):
        states = range(len(self.law))
        visible, hidden = (1 << self.n_v) - 1, ((1 << self.n_h) - 1) << self.n_v
        if name == "single-site":
            return [[self.flip(x, (x ^ y).bit_length() - 1) if (x ^ y).bit_count() == 1 else mp.mpf(0) for y in states] for x in states]
        new_v, new_h = ([[self.block(x, y, fixed) for y in states] for x in states] for fixed in (hidden, visible))
        if name == "two-block":
            return [[(a + b) / 2 for a, b in zip(p, q, strict=True)] for p, q in zip(new_v, new_h, strict=True)]
        one, other = product(new_v, new_h), product(new_h, new_v)
        return [[(a + b) / 2 for a, b in zip(p, q, strict=True)] for p, q in zip(one, other, strict=True)]

    def layer_kernel(self, layer):
        """The alternating scan on one layer: lumped over the other one, which it starts by resampling."""
        visible, hidden = (1 << self.n_v) - 1, ((1 << self.n_h) - 1) << self.n_v
        own, other = (visible, hidden) if layer == "visible" else (hidden, visible)
        states = range(len(self.law))
        first, second = ([[self.block(x, y, fixed) for y in states] for x in states] for fixed in (own, other))
        P = product(first, second)
        numbers = [x for x in states if not x & other]
        rows = [[mp.fsum(P[x][y] for y in states if y & own == z) for z in numbers] for x in numbers]
        return rows, [mp.fsum(p for y, p in enumerate(self.law) if y & own == z) for z in numbers]


def product(left, right):
    columns = list(zip(*right, strict=True))
    return [[mp.fsum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in left]


def on_pairs(rows, law):
    half = len(law) // 2
    return [[rows[x][y] + rows[x][-1 - y] for y in range(half)] for x in range(half)], [law[x] + law[-1 - x] for x in range(half)]


def models(kernel):
    for scale in SCALES:
        draws = np.random.default_rng(int(scale * 10))
        yield scale * draws.uniform(-1, 1, size=(2, 2)), np.zeros(2), np.zeros(2), True
        yield scale * draws.uniform(-1, 1, size=(2, 1)), draws.normal(size=2), draws.normal(size=1), False


@pytest.mark.parametrize("kernel", ["single-site", "two-block", "symmetrised-alternating", "alternating-visible", "alternating-hidden"])
def test_law_and_rates_are_right_to_what_is_claimed(kernel):
    for W, b, c, pairs in models(kernel):
        chain, model = tk.gibbs_chain(W, b, c, kernel=kernel), Model(W, b, c)
        assert chain.quotient is pairs
        rows, law = model.layer_kernel(chain.dynamics.layer) if chain.dynamics.layer else (model.kernel(kernel), model.law)
        rows, law = on_pairs(rows, law) if pairs else (rows, law)
        tables = ExtendedChain(chain)
        assert tables.law_error < law_error(chain) / 2
        for value, p in zip(tables.law, law, strict=True):
            assert abs(exact(value) / p - 1) <= tables.law_error
        rates, error = extended.transition_rates(tables)
        assert error < entry_error(chain) / 20
        for x, y in np.ndindex(rates.shape):
            if x != y and rows[x][y]:
                assert abs(exact(rates[x, y]) / rows[x][y] - 1) <= error, (kernel, W, x, y)
            else:
                assert rates[x, y] == 0


def test_flips_one_by_one():
    W, b, c = 3 * np.random.default_rng(0).normal(size=(2, 2)), np.array([0.1, -2.0]), np.array([1.5, 0.3])
    tables, model = ExtendedChain(tk.gibbs_chain(W, b, c)), Model(W, b, c)
    for i, (others, flips, rates) in enumerate(tables.single_flips()):
        for x, y in enumerate(others):
            assert y == x ^ (1 << i)
            assert abs(exact(flips[x]) / model.flip(x, i) - 1) <= tables.rate_error
            symmetrised = mp.sqrt(model.flip(x, i) * model.flip(y, i))
            assert abs(exact(rates[x]) / symmetrised - 1) <= tables.rate_error


def test_long_doubles_become_wide_numbers_in_one_rounding():
    values = np.exp(np.array([-9000.0, -700.0, 0.0, 3.0, 700.0, 9000.0], dtype=np.longdouble)) / 3
    wide = wide_exponent.from_long_doubles(np.append(values, np.longdouble(0)))
    for mantissa, exponent, value in zip(*wide, values, strict=False):
        assert abs(mp.mpf(float(mantissa)) * mp.mpf(2) ** (wide_exponent.DIGIT * int(exponent)) / exact(value) - 1) <= UNIT
        assert 2.0**-256 <= mantissa < 2.0**256
    assert (wide.mantissa[-1], wide.exponent[-1]) == (0.0, 0)


def test_it_applies_where_there_are_more_digits_and_the_range_is_enough(monkeypatch):
    assert extended.applies_to(tk.gibbs_chain([[60.0]]))
    assert not extended.applies_to(tk.gibbs_chain([[501.0]]))
    monkeypatch.setattr(extended, "AVAILABLE", False)
    assert not extended.applies_to(tk.gibbs_chain([[0.5]]))
