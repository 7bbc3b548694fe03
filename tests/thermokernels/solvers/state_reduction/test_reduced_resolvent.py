"""State reduction against mpmath with as many digits as the energies call for, where every float64 solve has lost its digits."""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose

import adjoints
import thermokernels as tk
from thermokernels.common.errors import ModelTooLargeError, NotConvergedError, NotReversibleError, UnresolvedError
from thermokernels.compiled import wide_exponent
from thermokernels.model.rounding import law_error
from thermokernels.quantities import first_passage, variance_time
from thermokernels.solvers import spanning_tree_bound
from thermokernels.solvers.solve import Solve
from thermokernels.solvers.state_reduction import gth_elimination, reduced_resolvent, solution_differences

mp = pytest.importorskip("mpmath", reason="mpmath is not installed: pip install mpmath")

small = pytest.mark.small


@pytest.fixture(autouse=True)
def in_float64(monkeypatch):
    """Small chains are eliminated in long double where there is one: the other way has to be right by itself (test_extended has that)."""
    monkeypatch.setattr(gth_elimination, "MAX_EXTENDED_STATES", 0)


class Exact:
    """The model in mpmath, on pairs where there are no fields: states, law and I - P from the definitions, pivoted elimination."""

    def __init__(self, W, b=None, c=None):
        n_v, n_h = len(W), len(W[0])
        pairs = b is None and c is None
        self.W = [[mp.mpf(w) for w in row] for row in W]
        b, c = [mp.mpf(x) for x in (b if b is not None else [0] * n_v)], [mp.mpf(x) for x in (c if c is not None else [0] * n_h)]
        n_spins, self.n_v = n_v + n_h, n_v
        spins = [[1 - 2 * ((x >> i) & 1) for i in range(n_spins)] for x in range(2 ** (n_spins - pairs))]
        number = {tuple(sign * s for s in x): n for n, x in enumerate(spins) for sign in ([1, -1] if pairs else [1])}
        self.size = len(spins)

        def fields(x):
            visible = [mp.fsum(self.W[i][j] * x[n_v + j] for j in range(n_h)) + b[i] for i in range(n_v)]
            return visible + [mp.fsum(self.W[i][j] * x[i] for i in range(n_v)) + c[j] for j in range(n_h)]

        energies = []
        self.generator = [[mp.mpf(0)] * self.size for _ in spins]
        for n, x in enumerate(spins):
            local = fields(x)
            energies.append(-mp.fsum(local[i] * x[i] for i in range(n_v)) - mp.fsum(c[j] * x[n_v + j] for j in range(n_h)))
            for i in range(n_spins):
                rate = 1 / (1 + mp.exp(2 * x[i] * local[i])) / n_spins
                self.generator[n][n] += rate
                self.generator[n][number[(*x[:i], -x[i], *x[i + 1 :])]] -= rate
        weights = [mp.exp(min(energies) - e) for e in energies]
        self.law = [w / mp.fsum(weights) for w in weights]
        self.spins = spins
        self.products = [[-x[i] * x[n_v + j] for i in range(n_v) for j in range(n_h)] for x in spins]

    def mean(self, values):
        return mp.fsum(p * v for p, v in zip(self.law, values, strict=True))

    def centred(self, columns):
        means = [self.mean(column) for column in zip(*columns, strict=True)]
        return [[value - mean for value, mean in zip(row, means, strict=True)] for row in columns]

    def resolvent(self, columns):
        deflated = [[entry + p for entry, p in zip(row, self.law, strict=True)] for row in self.generator]
        return solved(deflated, self.centred(columns))

    def variance_time(self):
        F, Y = self.centred(self.products), self.resolvent(self.products)
        return mp.fsum(p * f * y for p, f_x, y_x in zip(self.law, F, Y, strict=True) for f, y in zip(f_x, y_x, strict=True))

    def signal(self, p_data):
        total = 0
        for i, j in itertools.product(range(self.n_v), range(len(self.W[0]))):
            from_data = mp.mpf(0)
            for v, p in enumerate(p_data):
                bits = [1 - 2 * ((v >> k) & 1) for k in range(self.n_v)]
                from_data -= mp.mpf(p) * bits[i] * mp.tanh(mp.fsum(self.W[k][j] * bits[k] for k in range(self.n_v)))
            total += (from_data - self.mean([-x[i] * x[self.n_v + j] for x in self.spins])) ** 2
        return total

    def hitting_times(self, target):
        free = [x for x in range(self.size) if x not in target]
        times = solved([[self.generator[x][y] for y in free] for x in free], [[mp.mpf(1)] for _ in free])
        found = dict(zip(free, (row[0] for row in times), strict=True))
        return [found.get(x, mp.mpf(0)) for x in range(self.size)]


def solved(matrix, columns):
    rows = [list(left) + list(right) for left, right in zip(matrix, columns, strict=True)]
    n = len(rows)
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(rows[i][k]))
        rows[k], rows[pivot] = rows[pivot], rows[k]
        for i in range(k + 1, n):
            if rows[i][k]:
                share = rows[i][k] / rows[k][k]
                rows[i] = [0] * (k + 1) + [a - share * b for a, b in zip(rows[i][k + 1 :], rows[k][k + 1 :], strict=True)]
    result = [None] * n
    for k in reversed(range(n)):
        rest = zip(*([factor * value for value in result[j]] for j, factor in enumerate(rows[k][k + 1 : n], k + 1)), strict=True)
        sums = [mp.fsum(terms) for terms in rest] or [0] * (len(rows[k]) - n)
        result[k] = [(right - s) / rows[k][k] for right, s in zip(rows[k][n:], sums, strict=True)]
    return result


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(60):
        yield


def exactly(W, *fields):
    """The model with the digits that its energies can hide, and sixty more."""
    mp.mp.dps = int(60 + 2 * np.abs(W).sum())
    return Exact(W, *fields)


def deviation(value, exact):
    return float(abs(mp.mpf(float(value)) / exact - 1))


def two_patterns(weight, shape=(3, 3)):
    """A deep minimum for each of two patterns."""
    first, second = np.resize([1, -1, 1], shape[0]), np.resize([1, 1, -1], shape[1])
    return weight * (np.ones(shape) + 0.9 * np.outer(first, second)) / 1.9


def nearly_diagonal(weight, n=3, seed=0):
    """n pairs of spins that hardly see each other: 2**(n - 1) minima."""
    return np.clip(weight * np.diag(np.linspace(0.8, 1.0, n)) + np.random.default_rng(seed).uniform(-0.5, 0.5, (n, n)), -60, 60)


SLOW = {
    "two pairs, gap 1e-15": nearly_diagonal(18.0, 2),
    "two pairs, gap 1e-40": nearly_diagonal(50.0, 2),
    "three pairs, gap 1e-25": nearly_diagonal(30.0),
    "three pairs, gap 1e-50": nearly_diagonal(60.0),
    "ties": 60.0 * np.eye(3),
    "two patterns": two_patterns(30.0),
    "two patterns, gap 1e-100": two_patterns(60.0),
    "frustrated": 40.0 * np.array([[1, 1, 0], [1, -1, 1], [0, 1, 1]]) + 0.1,
    "one minimum": np.array([[60.0, 55.0], [-50.0, 60.0], [45.0, 30.0]]) * np.array([[1, 1], [-1, 1], [1, 1]]),
    "wide and low": np.array([[60.0, 0.1, -0.2, 0.1, 33.0]]),
    "rectangular": np.array([[25.0, 0.1, -0.3, 20.0], [0.2, -25.0, 14.0, 0.3]]),
    "warm": nearly_diagonal(1.0),
}


@pytest.mark.parametrize("case", SLOW)
def test_variance_time_has_ten_digits_however_slow(case):
    W = SLOW[case]
    exact = exactly(W).variance_time()
    time = variance_time.variance_time(tk.gibbs_chain(W), Solve("reduction"))
    assert deviation(time.value, exact) <= min(1e-12, time.reduced.relative_bound)
    assert time.bound == time.reduced.relative_bound * time.value
    assert time.bound <= 1e-10 * time.value
    full = tk.gibbs_chain(W, quotient=False)
    assert variance_time.variance_time(full, Solve("reduction")).value == time.value
    automatic = variance_time.variance_time(full)
    assert automatic.value == pytest.approx(time.value, rel=1e-10, abs=0)


@pytest.mark.parametrize("case", ["two pairs, gap 1e-40", "two pairs, gap 1e-15", "rectangular"])
def test_q_and_its_gradient_have_ten_digits_however_slow(case):
    W = SLOW[case]
    p_data = np.random.default_rng(4).dirichlet(np.ones(2 ** len(W)))
    exactly(W)
    mp.mp.dps += 60
    step = mp.mpf(10) ** -30

    def logarithms(i, j, sign):
        moved = [[mp.mpf(w) for w in row] for row in W]
        moved[i][j] += sign * step
        model = Exact(moved)
        return mp.log(model.signal(p_data)), mp.log(model.variance_time())

    model = Exact(W)
    n_spins = sum(W.shape)
    value = mp.mpf(50 * n_spins) * model.signal(p_data) / model.variance_time()
    q, gradient = adjoints.q_struct(W, p_data)
    t_obs, t_gradient = adjoints.observable_variance_time(W, method="reduction")
    assert q.method == "reduction"
    assert deviation(q.value, value) <= 1e-10
    assert deviation(t_obs, model.variance_time()) <= 1e-10
    expected = np.empty((2, *W.shape))
    for i, j in np.ndindex(W.shape):
        (s_up, t_up), (s_down, t_down) = logarithms(i, j, 1), logarithms(i, j, -1)
        expected[:, i, j] = float((s_up - s_down - t_up + t_down) / (2 * step)), float((t_up - t_down) / (2 * step))
    assert_allclose(gradient / q.value, expected[0], rtol=0, atol=1e-10 * np.abs(expected[0]).max())
    assert_allclose(t_gradient / t_obs, expected[1], rtol=0, atol=1e-10 * np.abs(expected[1]).max())


@pytest.mark.parametrize(("scale", "method"), [(1.0, "cholesky"), (14.0, "reduction")])
def test_fields_are_followed(scale, method):
    draws = np.random.default_rng(6)
    W, b, c = scale * np.eye(2) + draws.normal(size=(2, 2)), draws.normal(size=2), draws.normal(size=2)
    exact = exactly(W, b, c).variance_time()
    chain = tk.gibbs_chain(W, b, c)
    time = variance_time.variance_time(chain)
    assert time.method == method
    assert deviation(time.value, exact) <= 1e-11
    value, gradient = adjoints.observable_variance_time(W, b, c, method="reduction", fields=True)
    step = mp.mpf(10) ** -25
    mp.mp.dps += 30
    for name, vector in (("b", b), ("c", c)):
        moved = []
        for sign in (1, -1):
            other = [mp.mpf(x) for x in vector]
            other[1] += sign * step
            moved.append(Exact(W, other if name == "b" else b, other if name == "c" else c).variance_time())
        assert getattr(gradient, name)[1] / value == pytest.approx(float((moved[0] - moved[1]) / (2 * step) / exact), rel=1e-10, abs=0)


def test_eight_spins():
    W = nearly_diagonal(22.0, 4)
    mp.mp.dps = 110
    exact = Exact(W).variance_time()
    q = tk.q_struct(W, np.full(16, 1 / 16))
    assert q.method == "reduction"
    assert deviation(q.t_obs, exact) <= min(1e-12, q.t_obs_bound / q.t_obs)


def random_couplings(draws):
    """Couplings of all kinds and scales up to 60."""
    n_v = int(draws.integers(1, 4))
    shape = (n_v, int(draws.integers(1, 4 if n_v == 3 else 6 - n_v)))
    scale = float(np.exp(draws.uniform(0, np.log(60))))
    kind = draws.integers(0, 4)
    if kind == 0:
        W = scale * draws.normal(size=shape)
    elif kind == 1:
        W = 0.05 * scale * draws.uniform(-1, 1, size=shape)
        np.fill_diagonal(W, scale * draws.uniform(0.8, 1, size=min(shape)))
    elif kind == 2:
        W = round(scale) * draws.choice([-1.0, 0.0, 1.0], size=shape)
    else:
        W = scale * draws.choice([-1.0, 1.0], size=shape) * (1 + 1e-3 * draws.normal(size=shape))
    return np.clip(W, -60, 60)


def test_nothing_is_silently_wrong_in_random_hard_cases():
    draws = np.random.default_rng(11)
    looseness, methods = [], set()
    for _ in range(60):
        W = random_couplings(draws)
        chain, model = tk.gibbs_chain(W), exactly(W)
        exact = model.variance_time()
        automatic, time = variance_time.variance_time(chain), variance_time.variance_time(chain, Solve("reduction"))
        methods.add(automatic.method)
        assert deviation(automatic.value, exact) <= 1e-10
        error = deviation(time.value, exact)
        assert error <= time.reduced.relative_bound
        looseness.append(time.reduced.relative_bound / max(error, 2.0**-53))
        target = np.arange(chain.n_states) == draws.integers(chain.n_states)
        times = model.hitting_times(set(np.flatnonzero(target)))
        for method, least in (("auto", 1e-8), ("reduction", 0)):
            hitting = first_passage.solve_hitting_times(chain, target, method)
            errors = [deviation(t, e) for t, e in zip(hitting.times, times, strict=True) if e]
            assert max(errors) <= max(hitting.residual, least)
        looseness.append(hitting.residual / max(*errors, 2.0**-53))
    assert methods == {"cholesky", "reduction"}
    assert np.median(looseness) <= 1e4


@pytest.mark.parametrize("case", ["three pairs, gap 1e-50", "two patterns, gap 1e-100"])
def test_first_passages_and_law_have_ten_digits(case):
    W = SLOW[case]
    chain, model = tk.gibbs_chain(W), exactly(W)
    law = reduced_resolvent.law(chain)
    for n, p in enumerate(model.law):
        value = mp.mpf(float(law.mantissa[n])) * mp.mpf(2) ** (512 * int(law.exponent[n]))
        assert abs(value / p - 1) <= law_error(chain) <= 1e-10
    minima = np.argsort(chain.energy)[:2]
    exact = model.hitting_times({int(minima[0])})[minima[1]]
    assert deviation(tk.mean_first_passage(chain, minima[1:], minima[:1]), exact) <= 1e-11
    hitting = first_passage.solve_hitting_times(chain, minima[:1])
    assert (hitting.method, hitting.iterations) == ("reduction", 0)


@pytest.mark.parametrize("case", ["two pairs, gap 1e-40", "three pairs, gap 1e-25", "warm"])
def test_resolvent_of_any_function(case):
    W = SLOW[case]
    chain, model = tk.gibbs_chain(W), exactly(W)
    F = np.random.default_rng(5).normal(size=(chain.n_states, 2))
    exact = model.resolvent([[mp.mpf(x) for x in row] for row in F])
    expected = np.array([[float(y) for y in row] for row in exact])
    assert_allclose(tk.resolvent(chain, F, "reduction"), expected, rtol=1e-10, atol=1e-13 * np.abs(expected).max())
    assert_allclose(tk.resolvent(chain, F), expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())
    assert tk.resolvent(chain, F[:, 0], "reduction").shape == (chain.n_states,)
    assert tk.resolvent(chain, F[:, :0], "reduction").shape == (chain.n_states, 0)
    assert not tk.resolvent(chain, np.full(chain.n_states, 7.0), "reduction").any()


def test_a_function_that_hardly_sees_the_slow_mode_is_refused():
    # On the full chain x and -x are left once in 1e20 steps, and an even function must not see it to twenty digits.
    chain = tk.gibbs_chain(np.full((2, 2), 12.0), quotient=False)
    even = (
        chain.spins()[:, 0] * chain.spins()[:, 2] * np.random.default_rng(0).uniform(size=8)[np.minimum(np.arange(16), 15 - np.arange(16))]
    )
    with pytest.raises(UnresolvedError, match=r"the resolvent is certified to a relative .* at some state only"):
        tk.resolvent(chain, even, "reduction")


@pytest.mark.parametrize(("shape", "fields"), [((2, 2), False), ((3, 3), False), ((4, 4), False), ((2, 3), True), ((1, 1), False)])
def test_agrees_with_the_other_methods_where_they_work(shape, fields):
    draws = np.random.default_rng([9, *shape])
    W = draws.normal(size=shape)
    b, c = (draws.normal(size=shape[0]), draws.normal(size=shape[1])) if fields else (None, None)
    p_data = draws.dirichlet(np.ones(2 ** shape[0]))
    (usual, gradient), (reduced, other) = (adjoints.q_struct(W, p_data, method=m, b=b, c=c, fields=True) for m in ("cholesky", "reduction"))
    assert reduced.value == pytest.approx(usual.value, rel=1e-12, abs=0)
    for left, right in zip(gradient, other, strict=True):
        assert_allclose(left, right, rtol=0, atol=1e-9 * max(np.abs(part).max() for part in gradient))  # of one pair dQ/dW is 0
    chain = tk.gibbs_chain(W, b, c)
    time = reduced.variance_time
    assert_allclose(time.solutions @ tk.gibbs_chain(W, b, c, quotient=False).root_law, 0, atol=1e-10)
    assert np.abs(time.right_hand_sides - time.chain.apply_symmetrised_generator(time.solutions)).max() <= 1e-10
    assert reduced.residual == time.reduced.residual <= 1e-12
    times = tk.hitting_times(chain, [0])
    assert_allclose(tk.hitting_times(chain, [0], "reduction"), times, rtol=1e-12)


@small
@pytest.mark.parametrize("W", [[[0.5]], [[30.0, 0.3], [0.2, 28.0]]])
def test_runs_without_compilation(W):
    value, gradient = adjoints.observable_variance_time(W, method="reduction")
    exact = exactly(np.array(W)).variance_time()
    assert deviation(value, exact) <= 1e-12
    assert np.isfinite(gradient).all()


@small
def test_panels_change_no_bit():
    rates = np.random.default_rng(1).lognormal(sigma=8.0, size=(75, 76))
    plain, blocked, pivots = rates.copy(), rates.copy(), np.empty(75)
    for k in range(75):
        s = gth_elimination._row_sum(plain[k], k + 1)
        plain[k + 1 :, k] /= s
        plain[k + 1 :, k + 1 :] += plain[k + 1 :, k, None] * plain[k, k + 1 :]
        assert s == pytest.approx(plain[k, k + 1 :].sum(), rel=1e-14, abs=0)
    gth_elimination._eliminate(blocked, pivots)
    np.testing.assert_array_equal(np.triu(blocked, 1), np.triu(plain, 1))
    np.testing.assert_array_equal(np.tril(blocked, -1), np.tril(plain, -1))
    np.testing.assert_array_equal(pivots, [gth_elimination._row_sum(plain[k], k + 1) for k in range(75)])


@pytest.mark.parametrize("case", ["warm", "two pairs, gap 1e-15", "two pairs, gap 1e-40"])
def test_the_arithmetic_of_wide_exponents_agrees_with_float64(case, monkeypatch):
    chain = tk.gibbs_chain(SLOW[case])
    plain = reduced_resolvent.variance_time(chain)
    monkeypatch.setattr(gth_elimination, "LARGEST_SPAN", -1.0)
    assert float(reduced_resolvent.variance_time(chain).total.to_floats()) == pytest.approx(
        float(plain.total.to_floats()), rel=1e-14, abs=0
    )


@small
def test_wide_numbers_keep_all_digits_over_any_range():
    draws = np.random.default_rng(2)
    exponents = draws.uniform(-4000, 4000, size=40)
    values = wide_exponent.product(wide_exponent.exponential(exponents), wide_exponent.from_floats(draws.choice([-1.0, 1.0], size=40)))

    def exact(number):
        return mp.mpf(float(number.mantissa)) * mp.mpf(2) ** (512 * int(number.exponent))

    numbers = [exact(values.take(n)) for n in range(40)]
    for number, exponent in zip(numbers, exponents, strict=True):
        assert abs(abs(number) / mp.exp(mp.mpf(exponent)) - 1) <= 2.0**-53 * (abs(exponent) + 4)
    assert_allclose(values.log(), exponents, rtol=1e-13)
    near = wide_exponent.product(values, wide_exponent.from_floats(draws.uniform(0.5, 2, size=40)))
    for n in range(40):
        a, b = values.take(n), near.take(39 - n)
        left, right = exact(a), exact(b)
        for operation, expected in (
            (wide_exponent.add, left + right),
            (wide_exponent.multiply, left * right),
            (wide_exponent.divide, left / right),
        ):
            mantissa, exponent = operation(float(a.mantissa), int(a.exponent), float(b.mantissa), int(b.exponent))
            assert abs(mp.mpf(mantissa) * mp.mpf(2) ** (512 * exponent) / expected - 1) <= 4e-16
            assert 2.0**-256 <= abs(mantissa) < 2.0**256
        assert abs(exact(wide_exponent.difference(a, b)) / (left - right) - 1) <= 4e-16
    assert abs(exact(wide_exponent.total(values)) / mp.fsum(numbers) - 1) <= 4e-16
    assert_allclose(
        np.array(
            [
                float(exact(n) ** 2 / abs(x))
                for n, x in ((wide_exponent.root(wide_exponent.magnitude(values)).take(k), numbers[k]) for k in range(40))
            ]
        ),
        1,
    )
    tiny = wide_exponent.from_floats(np.array([0.0, 5e-324, 1.7e308, -3.0]))
    np.testing.assert_array_equal(tiny.to_floats(), [0.0, 5e-324, 1.7e308, -3.0])
    assert wide_exponent.exponential(np.array([5000.0])).to_floats() == np.inf
    assert wide_exponent.add(0.0, 7, 3.0, -1) == (3.0, -1)
    assert wide_exponent.add(3.0, -1, 0.0, 7) == (3.0, -1)


@small
@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("shape", "options"), [((3, 3), {}), ((3, 2), {"quotient": False}), ((4, 1), {}), ((1, 1), {})])
def test_trees_bound_the_relaxation_time(shape, options, scale):
    chain = tk.gibbs_chain(scale * np.random.default_rng([3, *shape]).normal(size=shape), **options)
    relaxation = 1 / tk.spectral_gap(chain)
    sharp = spanning_tree_bound.sharp_bound(chain)
    assert relaxation <= sharp
    assert sharp <= 20 * chain.n_states * relaxation or chain.n_states == 2  # whose two flips lead to one state: one edge of the two
    assert relaxation <= spanning_tree_bound.quick_bound(chain)


def test_a_sharper_tree_saves_a_reduction(monkeypatch):
    chain = tk.gibbs_chain(two_patterns(2.0))
    monkeypatch.setattr(spanning_tree_bound, "quick_bound", lambda chain: np.inf)
    assert variance_time.variance_time(chain).method == "cholesky"
    monkeypatch.setattr(spanning_tree_bound, "sharp_bound", lambda chain: np.inf)
    assert variance_time.variance_time(chain).method == "reduction"


def test_slow_chains_that_are_too_large_are_refused(monkeypatch):
    chain = tk.gibbs_chain(SLOW["two patterns"])
    monkeypatch.setattr(reduced_resolvent, "applies_to", lambda chain: False)
    with pytest.raises(UnresolvedError, match=r"T_O is not resolved in float64 \(.*\), and state reduction is limited to 4096 states"):
        tk.observable_variance_time(chain)
    with pytest.raises(UnresolvedError, match=r"T_O is not resolved in float64 \(its law underflows\)"):
        tk.observable_variance_time(tk.gibbs_chain([[700.0]]))
    with pytest.raises(tk.NumericalError):
        tk.hitting_times(chain, [0])
    with pytest.raises(tk.NumericalError):
        tk.resolvent(chain, np.arange(chain.n_states))


@small
def test_limits_are_named(monkeypatch):
    with pytest.raises(ModelTooLargeError, match="state reduction is dense and limited to 4096 states; this chain has 8192"):
        tk.observable_variance_time(tk.gibbs_chain(np.zeros((7, 7))), method="reduction")
    with pytest.raises(NotReversibleError, match="the alternating kernel violates detailed balance"):
        tk.hitting_times(tk.gibbs_chain([[0.5]], kernel="alternating"), [0], "reduction")
    with pytest.raises(ValueError, match="method must be one of 'auto', 'symmetrised', 'reduction'; got 'cg'"):
        tk.hitting_times(tk.gibbs_chain([[0.5]]), [0], "cg")
    with pytest.raises(UnresolvedError, match=r"energies span .*: rounding them leaves no certain digit"):
        tk.observable_variance_time(tk.gibbs_chain([[1e15]]))
    monkeypatch.setattr(gth_elimination, "MAX_WIDE_STATES", 1)
    with pytest.raises(ModelTooLargeError, match="leave the range of float64, and beyond it state reduction is limited to 1 states"):
        tk.observable_variance_time(tk.gibbs_chain([[300.0]]), method="reduction")


def test_numbers_beyond_float64_are_refused():
    chain = tk.gibbs_chain(np.diag([400.0, 420.0]) + 0.1)
    model = exactly(np.diag([40.0, 42.0]))  # the exponent alone
    time = reduced_resolvent.variance_time(chain)
    assert float(time.total.log()) == pytest.approx(800, rel=0.02, abs=0)
    assert float(mp.log(model.variance_time())) == pytest.approx(80, rel=0.1, abs=0)
    with pytest.raises(UnresolvedError, match=r"T_O = 10\*\*34\d\.\d+ steps exceeds float64"):
        tk.observable_variance_time(chain)
    with pytest.raises(UnresolvedError, match=r"a hitting time of 10\*\*34\d\.\d+ steps exceeds the range of float64"):
        tk.hitting_times(chain, [0])
    with pytest.raises(UnresolvedError, match="the resolvent exceeds the range of float64"):
        tk.resolvent(chain, np.arange(8.0), "reduction")


def test_a_missed_certificate_is_refused(monkeypatch):
    chain = tk.gibbs_chain(SLOW["two patterns"])
    monkeypatch.setattr("thermokernels.common.tolerances.REDUCTION", 1e-30)
    with pytest.raises(UnresolvedError, match=r"T_O is certified to a relative .* only by state reduction"):
        tk.observable_variance_time(chain)
    monkeypatch.setattr("thermokernels.common.tolerances.HITTING", 1e-30)
    with pytest.raises(NotConvergedError, match=r"are certified to a relative .* only by state reduction, not 1e-30"):
        tk.hitting_times(chain, [0])


def test_edges_that_do_not_add_up_are_refused(monkeypatch):
    offsets = solution_differences._offsets

    def broken(rates, pivots, parents, sources, result):
        offsets(rates, pivots, parents, sources, result)
        result.mantissa[-1] *= 1.001

    monkeypatch.setattr(solution_differences, "_offsets", broken)
    with pytest.raises(UnresolvedError, match=r"its edges add up to T_O to a relative .* only"):
        adjoints.observable_variance_time(SLOW["two patterns"], method="reduction")


def test_every_loss_of_a_total_by_flows_is_counted_once(monkeypatch):
    """2 c y - E / 2 with errors of flows E, of charges c in c y, of offsets in y, and of flows that carry what is lost."""
    chain = tk.gibbs_chain(np.array([[0.1, 0.2]]))
    draws = np.random.default_rng(1)
    charges, responses = draws.normal(size=(2, 3, 2))
    flows, drift = draws.uniform(1, 2, size=(2, 3, 2))
    scalar = {name: wide_exponent.from_floats(np.array(value)) for name, value in (("error", 0.3), ("lost", 0.02))}
    differences = SimpleNamespace(flows=wide_exponent.from_floats(flows), **scalar)
    parts = (wide_exponent.from_floats(part) for part in (charges, responses, drift))
    monkeypatch.setattr(reduced_resolvent, "law_error", lambda _: 0.01)
    monkeypatch.setattr(reduced_resolvent, "flow_error", lambda _: 0.05)
    monkeypatch.setattr(reduced_resolvent, "UNIT", 1e-3)
    total, bound = reduced_resolvent._dirichlet(chain, differences, *parts)
    energy, sums = flows.sum() / 2, 18e-3  # of two couplings, and 16 more
    assert float(total.to_floats()) == pytest.approx(2 * (charges * responses).sum() - energy, rel=1e-12, abs=0)
    moved, slipped = np.abs(charges * responses).sum(), (np.abs(charges) * drift).sum()
    expected = 0.3 + (0.05 + sums) * energy + (0.06 + sums) * moved + 2 * slipped + 2 * np.sqrt(0.02 * energy) + 0.02
    assert float(bound.to_floats()) == pytest.approx(expected, rel=1e-12, abs=0)


def test_every_error_of_a_resolvent_is_counted_once(monkeypatch):
    """precision G|f^| + (1 + precision) G s off the ground state, for errors s of sources, and the means of both as y^ is centred."""
    chain, planted = tk.gibbs_chain(np.array([[0.3, -0.2], [0.1, 0.4]])), 0.01
    columns = np.random.default_rng(1).normal(size=(chain.n_states, 2))
    eliminate = reduced_resolvent.eliminate
    lost = np.random.default_rng(2).uniform(0.1, 0.2, size=columns.shape)
    monkeypatch.setattr(reduced_resolvent, "eliminate", lambda *given: dataclasses.replace(eliminate(*given), precision=planted))
    monkeypatch.setattr(reduced_resolvent, "_rounding_of_sources", lambda *_: lost)
    monkeypatch.setattr(reduced_resolvent, "law_error", lambda _: 0.0)
    monkeypatch.setattr(reduced_resolvent, "UNIT", 0.0)
    values, bounds = reduced_resolvent.resolvent(chain, columns)
    ground = int(chain.law.argmax())
    off, P = np.delete(np.arange(chain.n_states), ground), chain.transition_matrix()
    hitting = np.linalg.inv(np.eye(len(off)) - P[np.ix_(off, off)])
    f = columns - chain.law @ columns

    def on_all(part):
        return np.insert(hitting @ part[off], ground, 0.0, axis=0)

    y = on_all(f)
    assert_allclose(values, y - chain.law @ y, rtol=1e-11)
    of_sources, of_losses = on_all(np.abs(f)), on_all(lost)
    assert_allclose(
        bounds,
        planted * of_sources + (1 + planted) * of_losses + chain.law @ (planted * of_sources + of_losses),
        rtol=1e-11,
    )
