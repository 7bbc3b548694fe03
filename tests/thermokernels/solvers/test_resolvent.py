"""The deflated resolvent against the dense fundamental matrix, its defining series, closed forms, and its methods against each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thermokernels as tk
from thermokernels.solvers import entrywise, parity_classes, parity_coupling, red_black
from thermokernels.solvers.resolvent import Solution, solve, solve_resolvent
from thermokernels.solvers.row_sums import RESIDUALS, SOURCES, VECTORS, row_sums

small = pytest.mark.small

SHAPES = [(1, 1), (1, 3), (3, 1), (2, 3), (3, 2), (4, 1), (4, 2), (5, 2)]


def random_chain(shape, seed=0, scale=1.0, fields=False, **options):
    draws = np.random.default_rng([seed, *shape])
    W = scale * draws.normal(size=shape)
    return tk.gibbs_chain(W, draws.normal(size=shape[0]) if fields else None, draws.normal(size=shape[1]) if fields else None, **options)


def functions(chain, k=3):
    return np.random.default_rng(1).normal(size=(chain.n_states, k))


def centred_sources(chain, k=3):
    """Rows orthogonal to sqrt(pi), as the solvers take them."""
    rows = functions(chain, k).T.copy()
    return rows - np.outer(rows @ chain.root_law, chain.root_law)


def dense_resolvent(chain, F):
    """(I - P + 1 pi')^(-1) (F - E[F]) with NumPy."""
    return np.linalg.solve(np.eye(chain.n_states) - chain.transition_matrix() + chain.law, F - chain.law @ F)


def plain_solve(monkeypatch, chain, sources, rtol=1e-10):
    """Conjugate gradients on all of A."""
    with monkeypatch.context() as patch:
        patch.setattr(red_black, "applies_to", lambda chain: False)
        return solve(chain, sources, "cg", rtol)


@pytest.mark.parametrize("method", ["cholesky", "cg"])
@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_dense_fundamental_matrix(shape, kernel, method):
    for options in ({}, {"quotient": False}, {"fields": True}):
        chain = random_chain(shape, kernel=kernel, **options)
        F = functions(chain)
        y = tk.resolvent(chain, F, method=method)
        np.testing.assert_allclose(y, dense_resolvent(chain, F), rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(chain.apply_generator(y), F - chain.law @ F, atol=1e-8)
        np.testing.assert_allclose(chain.law @ y, 0, atol=1e-12)


@small
def test_is_the_sum_over_all_times_of_the_centred_function():
    chain = random_chain((2, 2), scale=0.5)
    F = functions(chain)
    term = F - chain.law @ F
    total = np.zeros_like(term)
    for _ in range(600):
        total += term
        term = chain.apply(term)
    np.testing.assert_allclose(tk.resolvent(chain, F), total, rtol=1e-9, atol=1e-9)


@small
@pytest.mark.parametrize("method", ["cholesky", "cg"])
@pytest.mark.parametrize("shape", [(1, 2), (3, 2), (4, 2)])
def test_a_product_of_k_free_spins_lives_n_over_k_steps(shape, method):
    chain = tk.gibbs_chain(np.zeros(shape), quotient=False)
    spins = chain.spins().astype(float)
    for k in range(1, chain.n_spins + 1):
        product = spins[:, :k].prod(axis=1)
        np.testing.assert_allclose(tk.resolvent(chain, product + 3.0, method=method), chain.n_spins / k * product, atol=1e-9)


@small
def test_two_states_in_closed_form():
    # P = [[1-a, a], [1-a, a]] forgets its state in one step
    chain = tk.gibbs_chain([[0.7]])
    F = np.array([2.0, -1.0])
    np.testing.assert_allclose(tk.resolvent(chain, F), F - chain.law @ F, rtol=1e-14)


@small
def test_constants_have_no_response():
    chain = random_chain((2, 3))
    for method in ("cholesky", "cg"):
        np.testing.assert_array_equal(tk.resolvent(chain, np.zeros(chain.n_states), method=method), 0.0)
        for constant in (7.0, -0.1, 1e200):
            np.testing.assert_array_equal(tk.resolvent(chain, np.full(chain.n_states, constant), method=method), 0.0)


@small
@pytest.mark.parametrize("offset", [1e3, -1e8, 1e12])
def test_an_offset_costs_only_the_digits_that_it_hides(offset):
    chain = random_chain((2, 3))
    F = functions(chain)
    np.testing.assert_allclose(tk.resolvent(chain, F + offset), tk.resolvent(chain, F), atol=1e-14 * abs(offset) + 1e-10)


@small
def test_shape_and_layout_follow_the_argument():
    chain = random_chain((2, 2))
    F = np.arange(3 * chain.n_states).reshape(chain.n_states, 3) ** 2
    y = tk.resolvent(chain, F)
    assert y.shape == F.shape
    assert y.dtype == np.float64
    assert y.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(tk.resolvent(chain, F[:, 1]), y[:, 1], rtol=1e-12, atol=1e-12)
    assert tk.resolvent(chain, F[:, :0]).shape == (chain.n_states, 0)
    for layout in (F.astype(np.float32), np.asfortranarray(F), np.repeat(F, 2, axis=0)[::2], F.tolist()):
        np.testing.assert_array_equal(tk.resolvent(chain, layout), y)


METHOD_CASES = {
    "reduced, quotient": ((4, 4), {}),
    "reduced, more visible": ((5, 3), {}),
    "reduced, rows of eight": ((4, 2), {"quotient": False}),
    "reduced, one hidden spin": ((5, 1), {}),
    "reduced, odd N on the full chain": ((4, 3), {"quotient": False}),
    "reduced, fields": ((4, 3), {"fields": True}),
    "plain, odd N on the quotient": ((4, 5), {}),
    "plain, three visible spins": ((3, 5), {}),
    "plain, one visible spin": ((1, 7), {}),
    "plain, two-block": ((4, 4), {"kernel": "two-block"}),
    "plain, two-block on the full chain": ((4, 3), {"kernel": "two-block", "quotient": False}),
}


@pytest.mark.parametrize("scale", [0.3, 1.5])
@pytest.mark.parametrize("case", METHOD_CASES)
def test_methods_agree(case, scale, monkeypatch):
    shape, options = METHOD_CASES[case]
    chain = random_chain(shape, scale=scale, **options)
    assert red_black.applies_to(chain) == case.startswith("reduced")
    sources = centred_sources(chain)
    direct, iterative = solve(chain, sources, "cholesky"), solve(chain, sources, "cg")
    plain = plain_solve(monkeypatch, chain, sources)
    generator = chain.apply_symmetrised_generator(np.eye(chain.n_states))
    gap = np.linalg.eigvalsh(generator)[1]
    for solution in (direct, iterative, plain):
        assert isinstance(solution, Solution)
        residuals, sizes = np.linalg.norm(sources - solution.vectors @ generator, axis=1), np.linalg.norm(sources, axis=1)
        np.testing.assert_allclose(np.sqrt(solution.sums[:, RESIDUALS]), residuals, atol=1e-13)
        np.testing.assert_allclose(
            np.sqrt(solution.sums[:, [VECTORS, SOURCES]].T), [np.linalg.norm(solution.vectors, axis=1), sizes], rtol=1e-13
        )
        assert solution.relative_residual == pytest.approx(np.max(np.sqrt(solution.sums[:, RESIDUALS]) / sizes), rel=1e-12, abs=0)
        assert solution.relative_residual <= 1e-10
        np.testing.assert_allclose(solution.vectors @ chain.root_law, 0, atol=1e-11)
        errors = np.linalg.norm(solution.vectors - direct.vectors, axis=1)
        assert np.all(errors <= 2e-10 * sizes / gap)  # |A^+| |r|
    assert (direct.method, direct.iterations) == ("cholesky", 0)
    assert iterative.method == "cg"
    assert iterative.iterations > 0
    if case.startswith("reduced"):
        assert iterative.iterations <= plain.iterations


def test_small_chains_are_factorised_and_large_ones_iterated():
    assert solve(*(lambda chain: (chain, centred_sources(chain)))(random_chain((4, 5)))).method == "cholesky"
    assert solve(*(lambda chain: (chain, centred_sources(chain)))(random_chain((5, 5)))).method == "cg"


@pytest.mark.parametrize("shape", [(5, 5), (5, 1), (4, 5)])
def test_right_hand_sides_may_have_any_layout(shape):
    chain = random_chain(shape)
    sources = centred_sources(chain, 4)
    expected = solve(chain, sources, "cg").vectors
    for layout in (np.asfortranarray(sources), np.repeat(sources, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(solve(chain, layout, "cg").vectors, expected)


def test_a_looser_tolerance_takes_fewer_iterations_and_holds():
    chain = random_chain((5, 5))
    sources = centred_sources(chain)
    counts = []
    for rtol in (1e-3, 1e-6, 1e-10):
        solution = solve(chain, sources, "cg", rtol)
        assert solution.relative_residual <= rtol
        counts.append(solution.iterations)
    assert counts[0] < counts[1] < counts[2]


def plain_generator(chain, x):
    """A x, flip by flip, from the rates of the model's definition."""
    states = np.arange(chain.n_states)
    h, v = np.divmod(states, chain.shape[1])
    image = chain.escape * x
    for i, mask in enumerate(chain.flip_masks):
        rates = chain.visible_rates[i, h] if i < chain.n_visible else chain.hidden_rates[i - chain.n_visible, v]
        image -= rates * x[states ^ mask]
    return image


# Classes in tiles, padded and not, and those that are too narrow for tiles: few columns, one row, two rows.
CLASS_CASES = [
    *[((m, m), quotient) for m in (4, 5, 6, 7) for quotient in (True, False)],
    *[((5, 3), True), ((8, 4), True), ((9, 2), False), ((6, 4), True), ((7, 3), False), ((5, 7), True)],
    *[((4, 2), True), ((4, 2), False), ((5, 1), True), ((5, 1), False), ((4, 6), True), ((6, 2), True)],
]


@small
@pytest.mark.parametrize(("shape", "quotient"), CLASS_CASES)
def test_parity_classes_reorder_the_generator(shape, quotient):
    chain = random_chain(shape, quotient=quotient)
    classes = parity_classes.parity_classes(chain)
    x = np.random.default_rng(3).normal(size=chain.n_states)
    halves, merged = np.zeros_like(classes.null), np.empty(chain.n_states)
    parity_classes._split(x, classes.shape, halves)
    parity_classes._merge(halves, classes.shape, merged)
    np.testing.assert_array_equal(merged, x)

    number_down = sum(((np.arange(chain.n_states) >> bit) & 1) for bit in range(chain.n_spins))
    expected = np.sort(x[number_down % 2 == 0])
    np.testing.assert_array_equal(np.sort(halves[0][halves[0] != 0.0]), expected)  # the rest is padding

    coupled, one = np.zeros_like(halves), np.empty(0)
    for parity in (0, 1):
        parity_coupling._from_other(classes, parity, halves[1 - parity], one, coupled[parity])
    image = np.empty(chain.n_states)
    parity_classes._merge(classes.diagonal * halves - coupled, classes.shape, image)
    np.testing.assert_allclose(image, plain_generator(chain, x), atol=2e-15)


@small
@pytest.mark.parametrize(("shape", "quotient"), CLASS_CASES)
def test_the_schur_complement_is_the_generator_where_the_odd_equations_hold(shape, quotient):
    chain = random_chain(shape, quotient=quotient)
    classes = parity_classes.parity_classes(chain)
    both, product = np.zeros_like(classes.null), np.zeros_like(classes.null[0])
    parity_classes._split(np.random.default_rng(4).normal(size=chain.n_states), classes.shape, both)
    curvature = parity_coupling._schur_product(classes, both[0], both[1], product)  # leaves D_o^-1 C' x in the odd class
    x, expected = np.empty(chain.n_states), np.zeros_like(both)
    parity_classes._merge(both, classes.shape, x)
    parity_classes._split(plain_generator(chain, x), classes.shape, expected)
    np.testing.assert_allclose(product, expected[0], atol=5e-15)
    np.testing.assert_allclose(expected[1], 0.0, atol=5e-15)
    assert curvature == pytest.approx(both[0] @ expected[0], rel=1e-12, abs=0)


# Of several blocks of rows and of columns; from 2^19 entries on what lies outside of a block is asked for ahead.
@pytest.mark.parametrize(("shape", "quotient"), [((10, 8), False), ((8, 10), True), ((11, 9), False), ((11, 11), True)])
def test_large_matrices_are_gone_through_in_blocks(shape, quotient):
    test_parity_classes_reorder_the_generator(shape, quotient)
    test_the_schur_complement_is_the_generator_where_the_odd_equations_hold(shape, quotient)
    chain = random_chain(shape, quotient=quotient)
    x = np.random.default_rng(5).normal(size=chain.n_states)
    np.testing.assert_allclose(chain.apply_symmetrised_generator(x[None])[0], plain_generator(chain, x), atol=2e-15)


@settings(max_examples=15)
@given(scale=st.floats(0, 40), seed=st.integers(0, 10_000), method=st.sampled_from(["cholesky", "cg"]), quotient=st.booleans())
def test_answers_are_finite_and_within_tolerance_or_refused(scale, seed, method, quotient):
    for shape, kernel in (((4, 2), "single-site"), ((2, 3), "single-site"), ((3, 2), "two-block")):
        chain = random_chain(shape, seed, scale, quotient=quotient, kernel=kernel)
        sources = centred_sources(chain)
        try:
            solution = solve(chain, sources, method)
        except tk.NumericalError:
            continue
        assert np.isfinite(solution.vectors).all()
        residuals = sources - chain.apply_symmetrised_generator(solution.vectors)
        assert np.all(np.linalg.norm(residuals, axis=1) <= 1e-10 * np.linalg.norm(sources, axis=1))


@pytest.mark.parametrize(("shape", "kernel"), [((4, 4), "single-site"), ((2, 3), "single-site"), ((3, 3), "two-block")])
def test_an_extremely_slow_chain_is_refused_by_conjugate_gradients(shape, kernel):
    # a ferromagnet turns over once in exp(2 n w) steps; the magnetisation sees that mode
    chain = tk.gibbs_chain(np.full(shape, 7.0), quotient=False, kernel=kernel)
    magnetisation = chain.spins().sum(axis=1)
    with pytest.raises(tk.NotConvergedError, match=r"relative residual of .* not 1e-10 \(cg, \d+ iterations\): the chain is too slow"):
        tk.resolvent(chain, magnetisation, method="cg")


def test_an_extremely_slow_chain_is_refused_by_the_factorisation():
    nearly = tk.gibbs_chain([[17.0]], quotient=False)
    with pytest.raises(tk.NotConvergedError, match=r"proven to a relative \S+ in L2\(pi\) only, not 1e-06: .*use method='reduction'"):
        tk.resolvent(nearly, nearly.spins()[:, 0], method="cholesky")
    told = []
    for scale in (1.0, 2.0**-40):  # relative to the solution, in whatever units it is
        with pytest.raises(tk.NotConvergedError) as refused:
            tk.resolvent(nearly, scale * nearly.spins()[:, 0], method="cholesky")
        told.append(str(refused.value))
    assert told[0] == told[1]
    slow = tk.gibbs_chain(np.full((3, 3), 12.0), quotient=False)
    with pytest.raises(tk.UnresolvedError, match="not positive definite in float64: the spectral gap is below rounding"):
        tk.resolvent(slow, np.arange(slow.n_states), method="cholesky")


@small
def test_a_law_that_underflows_is_refused():
    chain = tk.gibbs_chain([[800.0]])
    with pytest.raises(tk.UnresolvedError, match="the law underflows in float64 at some state"):
        tk.resolvent(chain, [1.0, 2.0], method="cg")


@small
@pytest.mark.parametrize(
    ("F", "options", "message"),
    [
        (np.zeros(7), {}, r"F must have shape \(8,\) or \(8, k\); got shape \(7,\)"),
        (np.zeros((8, 1, 1)), {}, r"F must have shape \(8,\) or \(8, k\)"),
        ([np.nan, *7 * [0.0]], {}, r"F must be finite; entry \(0,\) is nan"),
        (None, {}, "F must be an array of real numbers; got None"),
        ("12345678", {}, "F must be an array of real numbers"),
        (np.zeros(8), {"method": "lu"}, "method must be one of 'auto', 'cholesky', 'cg', 'reduction'; got 'lu'"),
        (np.zeros(8), {"method": None}, "method must be one of .* got None"),
        (np.zeros(8), {"rtol": 0.0}, "rtol must be a positive"),
        (np.zeros(8), {"rtol": -1e-3}, "rtol must be a positive"),
        (np.zeros(8), {"rtol": np.nan}, "rtol must be a positive"),
        (np.zeros(8), {"rtol": "tight"}, "rtol must be a positive .* got 'tight'"),
        (np.zeros(8), {"rtol": True}, "rtol must be a positive .* got True"),
    ],
)
def test_bad_arguments_are_named(F, options, message):
    with pytest.raises(ValueError, match=message):
        tk.resolvent(tk.gibbs_chain(np.ones((2, 2))), F, **options)


def test_the_dense_method_is_limited():
    chain = tk.gibbs_chain(np.zeros((7, 8)))
    with pytest.raises(ValueError, match="method='cholesky' is dense and limited to 8192 states; this chain has 16384: use method='cg'"):
        tk.resolvent(chain, np.zeros(chain.n_states), method="cholesky")


def test_a_function_that_hardly_sees_the_slow_modes_of_a_slow_chain_is_refused_and_not_answered_with_rounding():
    W = [[-13.948, 9.666, -10.451], [13.797, -3.928, 8.261], [13.58, 0.561, -13.282]]
    chain = tk.gibbs_chain(W, quotient=False)  # the energy is even, the slowest modes are odd
    for method in ("auto", "cholesky"):
        with pytest.raises(tk.NumericalError, match=r"F hardly sees the slow modes|lower bound in float64|is not positive definite"):
            tk.resolvent(chain, chain.energy, method=method)


def deep(n_visible=6, n_hidden=5):
    """Couplings of 4 on the diagonal and in the last row: states of probability 1e-40 beside a gap of 0.027."""
    W = np.zeros((n_visible, n_hidden))
    np.fill_diagonal(W, 4.0)
    W[-1] = 4.0
    return W


@pytest.mark.parametrize("method", ["auto", "reduction"])
def test_rare_states_are_as_right_as_others(method):
    chain = tk.gibbs_chain(deep())  # odd N on pairs: conjugate gradients without parity, right in L2(pi) only
    found = solve_resolvent(chain, chain.energy, method)
    assert found.method == ("cg" if method == "auto" else "reduction")
    assert found.values[189] == pytest.approx(1050.1, abs=0.05)
    centred = chain.energy - chain.law @ chain.energy
    np.testing.assert_allclose(chain.apply_generator(found.values), centred, atol=1e-9 * np.abs(centred).max())
    assert (found.bound <= 1e-6 * np.maximum(np.abs(found.values), 1.0)).all()
    np.testing.assert_array_equal(tk.resolvent(chain, chain.energy, method), found.values)


def test_entrywise_bounds_cover_a_planted_error():
    chain = tk.gibbs_chain(deep(3, 3))
    exact = solve_resolvent(chain, chain.energy, "reduction")
    planted = exact.values + 1e-3 * np.random.default_rng(0).normal(size=chain.n_states)
    first, bound = (part[:, 0] for part in entrywise.refined(chain, chain.energy[:, None], planted[:, None], np.inf))
    error = np.abs(first - exact.values)
    assert error.max() > 1e-4  # not refined: any bound was good enough
    assert (error <= bound + exact.bound).all()
    again, sharper = (part[:, 0] for part in entrywise.refined(chain, chain.energy[:, None], planted[:, None], 1e-8))
    assert (np.abs(again - exact.values) <= sharper + exact.bound).all()
    assert entrywise.excess(chain, again, sharper) <= 1e-8


@small
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (4, 4)])
def test_sums_with_residuals_are_the_plain_ones(shape):
    """Of chains with fewer states than a vector has doubles, too."""
    chain = tk.gibbs_chain(0.4 * np.random.default_rng(1).normal(size=shape))
    b, z = np.random.default_rng(2).normal(size=(2, 3, chain.n_states))
    r = b - np.stack([plain_generator(chain, row) for row in z])
    expected = np.stack([b * z, r * z, r * r, z * z, b * b, chain.escape * z * z]).sum(axis=2).T
    np.testing.assert_allclose(row_sums(chain, b, z), expected, rtol=1e-12, atol=1e-14)
