"""The chain against its definition: a naive twin by loops over states, the lumped full chain, closed forms and invariants."""

import dataclasses
import math
import re
from contextlib import nullcontext

import numba
import numpy as np
import pytest
from mpmath import mp
from numba import njit

import thermokernels as tk
from thermokernels.common import memory
from thermokernels.model import chain as chain_module
from thermokernels.model.kernels import registry, single_site

small = pytest.mark.small

SHAPES = [(1, 1), (1, 3), (3, 1), (2, 3), (3, 2), (4, 1), (4, 2)]
KERNELS = ("single-site", "two-block", "alternating")
NAMES = ", ".join(map(repr, registry.KERNELS))


def random_model(shape, seed=0, scale=1.0):
    draws = np.random.default_rng([seed, *shape])
    return scale * draws.normal(size=shape), draws.normal(size=shape[0]), draws.normal(size=shape[1])


def naive_chain(W, b, c, kernel):
    """Spins, energies, law and transition matrix of the full chain, state by state from the definitions."""
    n_visible, n_hidden = W.shape
    n_spins = n_visible + n_hidden
    n = 2**n_spins
    spins = [[1 - 2 * (x >> i & 1) for i in range(n_spins)] for x in range(n)]

    def energy(x):
        v, h = x[:n_visible], x[n_visible:]
        pairs = sum(v[i] * W[i, j] * h[j] for i in range(n_visible) for j in range(n_hidden))
        return -pairs - sum(b[i] * v[i] for i in range(n_visible)) - sum(c[j] * h[j] for j in range(n_hidden))

    energies = np.array([energy(x) for x in spins])
    weights = np.exp(-energies)
    law = weights / weights.sum()

    def resample(x, y, block):
        """Probability of y when the spins of ``block`` are drawn anew given the others of x."""
        if any(spins[x][i] != spins[y][i] for i in range(n_spins) if i not in block):
            return 0.0
        same = [z for z in range(n) if all(spins[x][i] == spins[z][i] for i in range(n_spins) if i not in block)]
        return weights[y] / sum(weights[z] for z in same)

    def block_kernel(block):
        return np.array([[resample(x, y, block) for y in range(n)] for x in range(n)])

    visible, hidden = range(n_visible), range(n_visible, n_spins)
    if kernel == "single-site":
        matrix = sum(block_kernel([i]) for i in range(n_spins)) / n_spins
    elif kernel == "two-block":
        matrix = (block_kernel(visible) + block_kernel(hidden)) / 2
    else:
        matrix = block_kernel(visible) @ block_kernel(hidden)
    return np.array(spins), energies, law, matrix


def lumped(matrix):
    """The chain of pairs {x, -x} of a full chain; its state is the one whose last spin is +1."""
    n = len(matrix) // 2
    return matrix[:n, :n] + matrix[:n, : n - 1 : -1]


def symmetrised(chain):
    """I - D^(1/2) P D^(-1/2) by division."""
    root = np.sqrt(chain.law)
    return np.eye(chain.n_states) - root[:, None] * chain.transition_matrix() / root


@small
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("with_fields", [False, True])
def test_full_chain_equals_its_definition(shape, kernel, with_fields):
    W, b, c = random_model(shape)
    if not with_fields:
        b, c = 0 * b, 0 * c
    spins, energies, law, matrix = naive_chain(W, b, c, kernel)
    chain = tk.gibbs_chain(W, b, c, quotient=False, kernel=kernel)
    assert (chain.n_visible, chain.n_hidden, chain.n_spins, chain.n_states) == (*shape, sum(shape), 2 ** sum(shape))
    assert not chain.quotient
    assert chain.fallback is None
    np.testing.assert_array_equal(chain.spins(), spins)
    assert chain.spins().dtype == np.int8
    np.testing.assert_allclose(chain.energy, energies, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(chain.law, law, rtol=1e-13)
    np.testing.assert_allclose(chain.root_law**2, chain.law, rtol=1e-14)
    assert chain.log_partition == pytest.approx(math.log(np.exp(-energies).sum()), rel=1e-14)
    np.testing.assert_allclose(chain.transition_matrix(), matrix, rtol=0, atol=1e-15)


@small
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_quotient_is_the_lumped_full_chain(shape, kernel):
    W, _, _ = random_model(shape)
    pairs, full = tk.gibbs_chain(W, kernel=kernel), tk.gibbs_chain(W, quotient=False, kernel=kernel)
    assert pairs.quotient
    assert pairs.fallback is None
    assert pairs.n_states == full.n_states // 2
    np.testing.assert_array_equal(pairs.spins(), full.spins()[: pairs.n_states])
    assert np.all(pairs.spins()[:, -1] == 1)
    np.testing.assert_array_equal(pairs.energy, full.energy[: pairs.n_states])
    np.testing.assert_allclose(pairs.law, 2 * full.law[: pairs.n_states], rtol=1e-14)
    assert pairs.log_partition == pytest.approx(full.log_partition, rel=1e-14)
    np.testing.assert_allclose(pairs.transition_matrix(), lumped(full.transition_matrix()), rtol=0, atol=1e-15)


@small
@pytest.mark.parametrize("quotient", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_sum_to_one_and_the_law_is_stationary(shape, kernel, quotient):
    W, b, c = random_model(shape, 1)
    chain = tk.gibbs_chain(W, None if quotient else b, None if quotient else c, quotient=quotient, kernel=kernel)
    matrix = chain.transition_matrix()
    assert chain.law.sum() == pytest.approx(1, abs=1e-14)
    assert np.all(matrix >= 0)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-14)
    np.testing.assert_allclose(chain.law @ matrix, chain.law, atol=1e-15)


@small
@pytest.mark.parametrize("quotient", [True, False])
@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
@pytest.mark.parametrize("shape", SHAPES)
def test_detailed_balance_and_the_symmetrised_generator(shape, kernel, quotient):
    chain = tk.gibbs_chain(random_model(shape, 2)[0], quotient=quotient, kernel=kernel)
    assert chain.reversible
    flow = chain.law[:, None] * chain.transition_matrix()
    np.testing.assert_allclose(flow, flow.T, atol=1e-16)
    generator = chain.apply_symmetrised_generator(np.eye(chain.n_states))
    np.testing.assert_allclose(generator, symmetrised(chain), atol=1e-14)
    np.testing.assert_allclose(chain.apply_symmetrised_generator(chain.root_law[None]), 0, atol=1e-15)
    eigenvalues = np.linalg.eigvalsh(generator)
    assert eigenvalues[0] == pytest.approx(0, abs=1e-14)  # P is an average of conditional expectations
    assert eigenvalues[-1] <= 1 + 1e-14


@small
def test_rows_that_are_a_power_of_two_apart():
    """So long that the kernel sets them apart by a few numbers more; against products of P, which another kernel makes."""
    chain = tk.gibbs_chain(random_model((7, 3), 3)[0])
    x = np.random.default_rng(4).normal(size=chain.n_states)
    flow = x / chain.root_law
    expected = chain.root_law * (flow - chain.transition_matrix() @ flow)
    np.testing.assert_allclose(chain.apply_symmetrised_generator(x[None])[0], expected, atol=1e-13)


@small
@pytest.mark.parametrize("shape", [(2, 2), (3, 2)])
def test_alternating_scan_is_not_reversible_and_is_refused(shape):
    chain = tk.gibbs_chain(random_model(shape)[0], kernel="alternating")
    flow = chain.law[:, None] * chain.transition_matrix()
    assert np.abs(flow - flow.T).max() > 1e-3
    assert not chain.reversible
    refused = (
        lambda: chain.apply_symmetrised_generator(chain.root_law[None]),
        lambda: tk.resolvent(chain, np.arange(chain.n_states)),
        lambda: tk.spectral_measure(chain),
        lambda: tk.spectral_gap(chain),
    )
    for call in refused:
        with pytest.raises(tk.NotReversibleError, match="the alternating kernel violates detailed balance"):
            call()


@small
@pytest.mark.parametrize("quotient", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_tables_are_those_of_the_kernel(shape, quotient):
    chain = tk.gibbs_chain(random_model(shape, 3)[0], quotient=quotient)
    matrix, states = chain.transition_matrix(), np.arange(chain.n_states)
    spins = chain.spins().astype(float)
    hidden, visible = states >> chain.n_visible, states & (2**chain.n_visible - 1)
    fields = np.vstack([chain.visible_local_fields[:, hidden], chain.hidden_local_fields[:, visible]])
    np.testing.assert_allclose(fields[: shape[0]], chain.weights @ spins[:, shape[0] :].T, atol=1e-14)
    np.testing.assert_allclose(fields[shape[0] :], chain.weights.T @ spins[:, : shape[0]].T, atol=1e-14)
    rates = np.vstack([chain.visible_rates[:, hidden], chain.hidden_rates[:, visible]])
    np.testing.assert_allclose(rates, 1 / (2 * chain.n_spins * np.cosh(fields)), rtol=1e-14)
    off_diagonal = np.zeros_like(matrix)
    for i, mask in enumerate(chain.flip_masks):
        table, column = (chain.visible_flips, hidden) if i < shape[0] else (chain.hidden_flips, visible)
        row = table[(spins[:, i] < 0).astype(int), i - (0 if i < shape[0] else shape[0]), column]
        np.testing.assert_allclose(row, 1 / (chain.n_spins * (1 + np.exp(2 * spins[:, i] * fields[i]))), rtol=1e-14)
        off_diagonal[states, states ^ mask] += row
    np.testing.assert_allclose(chain.escape, off_diagonal.sum(axis=1), rtol=1e-14)
    if chain.n_states > 2:  # with two states of a pair both flips lead to the same place
        np.testing.assert_allclose(off_diagonal, matrix - np.diag(np.diag(matrix)), atol=1e-15)


@small
@pytest.mark.parametrize("kernel", KERNELS)
def test_apply_is_the_matrix_product_for_one_and_for_many_functions(kernel):
    chain = tk.gibbs_chain(random_model((3, 2))[0], kernel=kernel)
    F = np.random.default_rng(1).normal(size=(chain.n_states, 3))
    np.testing.assert_allclose(chain.apply(F), chain.transition_matrix() @ F, atol=1e-14)
    np.testing.assert_allclose(chain.apply(F[:, 0]), chain.apply(F)[:, 0], atol=1e-15)
    np.testing.assert_allclose(chain.apply_generator(F), F - chain.apply(F), atol=1e-14)
    assert chain.apply(F).shape == F.shape
    assert chain.apply(F).flags["C_CONTIGUOUS"]
    assert chain.apply(F[:, :0]).shape == (chain.n_states, 0)


@small
def test_the_generator_takes_differences():
    chain = tk.gibbs_chain(random_model((3, 2))[0])
    small_part = 2.0**-40 * np.arange(chain.n_states)  # 1 + small_part is exact in float64
    np.testing.assert_array_equal(chain.apply_generator(1 + small_part), chain.apply_generator(small_part))
    np.testing.assert_array_equal(chain.apply(np.ones(chain.n_states)), 1.0)


@small
@pytest.mark.parametrize("quotient", [True, False])
@pytest.mark.parametrize("shape", [(3, 1), (3, 3), (4, 2), (5, 3)])
def test_narrow_and_wide_rows_agree(shape, quotient):
    chain = tk.gibbs_chain(random_model(shape, 4)[0], quotient=quotient)
    x = np.random.default_rng(0).normal(size=chain.n_states)
    wide, narrow = np.empty_like(x), np.empty_like(x)
    for h in range(chain.shape[0]):
        single_site._generator_row(chain.generator, x, h, wide)
        single_site._generator_row_narrow(chain.generator, x, h, narrow)
    np.testing.assert_allclose(wide, narrow, atol=1e-15)


@small
def test_free_spins_in_closed_form():
    for shape in SHAPES:
        n_spins = sum(shape)
        full, pairs = tk.gibbs_chain(np.zeros(shape), quotient=False), tk.gibbs_chain(np.zeros(shape))
        np.testing.assert_allclose(full.law, 2.0**-n_spins, rtol=1e-14)
        assert full.log_partition == pytest.approx(n_spins * math.log(2), rel=1e-14)
        # 1 - sigma = k / N with binomial multiplicity; the pairs keep the even k
        expected = np.repeat(np.arange(n_spins + 1), [math.comb(n_spins, k) for k in range(n_spins + 1)]) / n_spins
        np.testing.assert_allclose(np.linalg.eigvalsh(np.eye(full.n_states) - full.transition_matrix()), expected, atol=1e-13)
        even = np.repeat(np.arange(0, n_spins + 1, 2), [math.comb(n_spins, k) for k in range(0, n_spins + 1, 2)]) / n_spins
        np.testing.assert_allclose(np.linalg.eigvalsh(np.eye(pairs.n_states) - pairs.transition_matrix()), even, atol=1e-13)


@small
@pytest.mark.parametrize("w", [-2.0, 0.3, 5.0])
def test_one_coupling_is_a_two_state_chain(w):
    # aligned pair -> opposed pair with probability sigmoid(-2 w), whichever of the two spins is drawn
    down = 1 / (1 + math.exp(2 * w))
    chain = tk.gibbs_chain([[w]])
    np.testing.assert_allclose(chain.transition_matrix(), [[1 - down, down], [1 - down, down]], rtol=0, atol=1e-16)
    np.testing.assert_allclose(chain.law, [1 - down, down], rtol=1e-14)


@small
def test_fields_take_the_full_chain_and_say_so():
    W, b, c = random_model((2, 3))
    for fields in ({"b": b}, {"c": c}, {"b": b, "c": c}):
        chain = tk.gibbs_chain(W, **fields)
        assert not chain.quotient
        assert chain.n_states == 32
        assert "Sym-pi fails" in chain.fallback
        with pytest.raises(ValueError, match="quotient=True is not legitimate: Sym-pi fails"):
            tk.gibbs_chain(W, quotient=True, **fields)
        assert tk.gibbs_chain(W, quotient=False, **fields).fallback is None
    assert tk.gibbs_chain(W, b=np.zeros(2), c=np.zeros(3)).quotient


@small
@pytest.mark.parametrize(("given", "pairs"), [(None, True), (True, True), (np.True_, True), (False, False), (np.False_, False)])
def test_quotient_is_what_was_asked_for(given, pairs):
    assert tk.gibbs_chain([[1.0]], quotient=given).quotient is pairs


@small
def test_strong_couplings_neither_overflow_nor_lose_the_law():
    chain = tk.gibbs_chain([[400.0, 0.0], [0.0, 400.0]])
    assert chain.log_partition == pytest.approx(800 + 2 * math.log(2))
    assert np.isfinite(chain.law).all()
    assert chain.law.sum() == pytest.approx(1)
    assert np.isfinite(chain.transition_matrix()).all()
    assert np.all(chain.escape >= 0)


@small
def test_a_chain_keeps_its_model():
    W = random_model((2, 3))[0]
    chain, copy = tk.gibbs_chain(W), W.copy()
    W *= 2
    np.testing.assert_array_equal(chain.weights, copy)
    with pytest.raises(dataclasses.FrozenInstanceError):
        chain.kernel = "two-block"


@small
def test_number_types_and_memory_layouts_are_accepted():
    W = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]])
    reference = tk.gibbs_chain(W)
    layouts = (W.tolist(), W.astype(np.float32), np.asfortranarray(W), np.repeat(W, 2, axis=1)[:, ::2], W[::-1][::-1])
    for given in layouts:
        chain = tk.gibbs_chain(given)
        np.testing.assert_array_equal(chain.law, reference.law)
        assert chain.weights.dtype == np.float64
        assert chain.weights.flags["C_CONTIGUOUS"]
        for name in ("energy", "law", "root_law", "visible_local_fields", "hidden_local_fields", "visible_rates", "hidden_rates", "escape"):
            assert getattr(chain, name).dtype == np.float64
            assert getattr(chain, name).flags["C_CONTIGUOUS"]
    integers = tk.gibbs_chain([[1, -2], [0, 3]], b=np.array([1, 0], dtype=np.int16))
    np.testing.assert_array_equal(integers.law, tk.gibbs_chain([[1.0, -2.0], [0.0, 3.0]], b=[1.0, 0.0]).law)
    F = np.arange(2 * reference.n_states).reshape(reference.n_states, 2)
    expected = reference.transition_matrix() @ F
    for given in (F, F.astype(np.float32), np.asfortranarray(F), np.repeat(F, 2, axis=0)[::2], F.tolist()):
        np.testing.assert_allclose(reference.apply(given), expected, rtol=1e-13)


@small
@pytest.mark.parametrize(
    ("W", "message"),
    [
        ([[np.nan, 1.0]], r"W must be finite; entry \(0, 0\) is nan"),
        ([[1.0], [-np.inf]], r"W must be finite; entry \(1, 0\) is -inf"),
        ([[1.0, 2.0], [3.0]], "W must be an array of real numbers; got rows of different lengths"),
        ([[1.0 + 0.0j]], "W must be an array of real numbers; got dtype complex128"),
        ([["1"]], "W must be an array of real numbers; got dtype <U1"),
        ([[True]], "W must be an array of real numbers; got dtype bool"),
        (None, "W must be an array of real numbers; got None"),
        (1.0, r"W must have shape \(n_v, n_h\).*got shape \(\)"),
        ([1.0, 2.0], r"W must have shape \(n_v, n_h\).*got shape \(2,\)"),
        (np.zeros((2, 2, 2)), r"W must have shape \(n_v, n_h\).*got shape \(2, 2, 2\)"),
        ([], r"W must have shape \(n_v, n_h\).*got shape \(0,\)"),
        (np.zeros((0, 3)), r"at least one visible and one hidden spin; got shape \(0, 3\)"),
        (np.zeros((3, 0)), r"at least one visible and one hidden spin; got shape \(3, 0\)"),
    ],
)
def test_bad_couplings_are_named(W, message):
    with pytest.raises(ValueError, match=message):
        tk.gibbs_chain(W)


@small
def test_a_chain_where_a_model_is_asked_for_is_called_so():
    with pytest.raises(ValueError, match=r"^W must be an array of real numbers; got GibbsChain\(1 visible \+ 1 hidden spins"):
        tk.diagnose(tk.gibbs_chain([[1.0]]))


@pytest.mark.parametrize("W", [[[1e308, 1e308]], np.full((4, 2), -1e308)])
def test_energies_that_overflow_are_refused(W):
    with pytest.raises(ValueError, match=r"W, b and c must give finite energies and differences of them; the largest coupling is 1e[+]308"):
        tk.gibbs_chain(W)


@small
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"b": [1.0]}, r"b must have shape \(2,\); got shape \(1,\)"),
        ({"b": 1.0}, r"b must have shape \(2,\); got shape \(\)"),
        ({"b": [[1.0, 2.0]]}, r"b must have shape \(2,\); got shape \(1, 2\)"),
        ({"c": [1.0, np.nan, 0.0]}, r"c must be finite; entry \(1,\) is nan"),
        ({"c": ["a", "b", "c"]}, "c must be an array of real numbers"),
        ({"quotient": "yes"}, "quotient must be None, True or False; got 'yes'"),
        ({"quotient": 2}, "quotient must be None, True or False; got 2"),
        ({"kernel": "glauber"}, f"kernel must be one of {NAMES}; got 'glauber'"),
        ({"kernel": None}, "kernel must be one of .* got None"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        tk.gibbs_chain([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], **options)


@small
@pytest.mark.parametrize(
    ("F", "message"),
    [
        (np.zeros(7), r"F must have shape \(8,\) or \(8, k\); got shape \(7,\)"),
        (np.zeros((2, 8)), r"F must have shape \(8,\) or \(8, k\); got shape \(2, 8\)"),
        (np.zeros((8, 2, 2)), r"F must have shape \(8,\) or \(8, k\); got shape \(8, 2, 2\)"),
        (1.0, r"F must have shape \(8,\) or \(8, k\); got shape \(\)"),
        ([], r"F must have shape \(8,\) or \(8, k\); got shape \(0,\)"),
        ([np.inf] + 7 * [0.0], r"F must be finite; entry \(0,\) is inf"),
        (8 * [1j], "F must be an array of real numbers; got dtype complex128"),
    ],
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_bad_functions_are_named(F, message, kernel):
    chain = tk.gibbs_chain(np.ones((2, 2)), kernel=kernel)
    for call in (chain.apply, chain.apply_generator):
        with pytest.raises(ValueError, match=message):
            call(F)


@small
@pytest.mark.parametrize("shape", [(40, 40), (2000, 1), (1, 2000), (20_000, 1)])
def test_too_many_spins_are_refused_before_anything_is_allocated(shape):
    with pytest.raises(tk.ModelTooLargeError, match=rf"a chain of {sum(shape)} spins .* would take .* GiB of memory and .* available"):
        tk.gibbs_chain(np.zeros(shape))


def test_the_dense_matrix_is_limited():
    with pytest.raises(ValueError, match="limited to 8192 states; this chain has 16384: use apply"):
        tk.gibbs_chain(np.zeros((7, 8))).transition_matrix()


@small
def test_repr_says_what_it_is():
    assert repr(tk.gibbs_chain(np.zeros((2, 3)))) == "GibbsChain(2 visible + 3 hidden spins, 16 pairs {x, -x}, single-site)"
    assert repr(tk.gibbs_chain(np.zeros((2, 3)), b=[1, 1], kernel="two-block")) == (
        "GibbsChain(2 visible + 3 hidden spins, 32 states, two-block)"
    )


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="without compilation the vector operations are NumPy functions")
@pytest.mark.parametrize("shape", [(2, 3), (4, 3)])
def test_kernels_are_called_from_compiled_code(shape):
    apply = single_site._apply_symmetrised_generator

    @njit
    def quadratic_form(generator, x):
        image = np.empty_like(x)
        apply(generator, x, image)
        return (x * image).sum()

    chain = tk.gibbs_chain(random_model(shape)[0])
    x = np.random.default_rng(2).normal(size=(3, chain.n_states))
    assert quadratic_form(chain.generator, x) == pytest.approx(np.trace(x @ symmetrised(chain) @ x.T), rel=1e-12)


@pytest.mark.parametrize("shape", [(8,), (1, 8), (2, 7), (1, 1, 8)])
def test_the_symmetrised_generator_looks_at_shapes_before_compiled_code_does(shape):
    chain = tk.gibbs_chain(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"vectors must have shape \(k, 16\); got shape"):
        chain.apply_symmetrised_generator(np.ones(shape))
    np.testing.assert_array_equal(
        chain.apply_symmetrised_generator(np.ones((1, 16), dtype=np.float32)), chain.apply_symmetrised_generator(np.ones((1, 16)))
    )


def test_one_pair_is_no_chain():
    chain = tk.gibbs_chain([[1.0, 2.0]], kernel="alternating-visible")
    assert (chain.n_states, chain.quotient) == (2, False)
    assert chain.fallback == "the visible layer has one spin, and its one pair would be a chain of one state"
    assert tk.gibbs_chain([[1.0, 2.0]], kernel="alternating-hidden").quotient
    with pytest.raises(ValueError, match="quotient=True is not legitimate: the visible layer has one spin"):
        tk.gibbs_chain([[1.0, 2.0]], quotient=True, kernel="alternating-visible")


@small
@pytest.mark.parametrize("couplings", [[600.0, 2.0**54], [2.0**53 + 4, 1.622592768292136e32], [1e290, 1e300]])
def test_a_law_of_energies_whose_roundings_are_large(couplings):
    # v_2 and both hidden spins agree, v_1 is free: all of the law is on two pairs
    chain = tk.gibbs_chain([[0.0, 0.0], couplings])
    np.testing.assert_array_equal(np.sort(chain.law)[-3:], [0.0, 0.5, 0.5])
    np.testing.assert_allclose(np.sort(chain.root_law)[-2:], np.sqrt(0.5), rtol=1e-15)
    assert chain.log_partition == pytest.approx(sum(couplings), rel=1e-15)


def test_a_law_of_one_layer_has_a_digit_up_to_so_large_a_sum_of_couplings():
    """Energies of up to 0.1 / eps, of couplings and fields together, are right to a tenth of one."""
    sum_of_all = 0.1 / np.finfo(float).eps
    for share, refused in ((0.99, False), (1.01, True)):
        model = tk.Model(np.full((1, 2), share / 6 * sum_of_all), [-share / 3 * sum_of_all], [0.0, share / 3 * sum_of_all])
        with pytest.raises(tk.UnresolvedError, match="leave no digit of the law of one layer") if refused else nullcontext():
            chain_module._require_digits(model)


@pytest.mark.parametrize("kernel", ["single-site", "alternating-visible", "alternating-hidden"])
def test_energies_and_their_remainders_add_up_to_far_more_digits(kernel):
    W, b, c = (np.random.default_rng(3).normal(size=shape) for shape in ((2, 3), 2, 3))
    chain = tk.gibbs_chain(30 * W, 30 * b, 30 * c, kernel=kernel)
    model, (hidden, visible) = chain.model, ([[1 - 2 * (x >> i & 1) for i in range(n)] for x in range(2**n)] for n in (3, 2))
    with mp.workdps(50):

        def fields(couplings, field, spins):
            return [mp.mpf(f) + along(row, spins) for f, row in zip(field, couplings, strict=True)]

        def along(field, spins):
            return mp.fdot(map(mp.mpf, field), map(mp.mpf, spins))

        def summed_out(of_layer):
            return mp.fsum(mp.log(2 * mp.cosh(f)) for f in of_layer)

        if kernel == "alternating-visible":
            exact = [-along(model.b, v) - summed_out(fields(model.W.T, model.c, v)) for v in visible]
        elif kernel == "alternating-hidden":
            exact = [-along(model.c, h) - summed_out(fields(model.W, model.b, h)) for h in hidden]
        else:
            exact = [-along(model.b, v) - along(fields(model.W.T, model.c, v), h) for h in hidden for v in visible]
        found = [mp.mpf(e) + mp.mpf(r) for e, r in zip(chain.energy, chain.energy_remainders, strict=True)]
        off = [float(f - e - (found[0] - exact[0])) for f, e in zip(found, exact, strict=True)]
    assert len(found) == chain.n_states
    assert np.abs(off).max() <= (1e-17 if chain.dynamics.layer else 1e-27)


@pytest.mark.small
@pytest.mark.parametrize(
    ("shape", "options", "what", "numbers"),
    [
        # of each state six numbers, and four tables of each block: a row for a spin, an entry for a configuration of the other layer
        ((10, 9), {}, "a chain of 19 spins (2**18 states)", 6 * 2**18 + 4 * (10 * 2**8 + 9 * 2**10)),
        ((10, 9), {"quotient": False}, "a chain of 19 spins (2**19 states)", 6 * 2**19 + 4 * (10 * 2**9 + 9 * 2**10)),
        # the matrix that couples the layers: on pairs a quarter of it
        (
            (10, 11),
            {"kernel": "alternating-visible"},
            "the alternating scan of 21 spins on the visible ones",
            2**19 + 6 * 2**11 + 4 * (10 * 2**10 + 11 * 2**10),
        ),
    ],
)
def test_a_chain_says_what_it_would_take(shape, options, what, numbers, monkeypatch):
    monkeypatch.setattr("thermokernels.common.memory.available", lambda: 8 * numbers - 1)
    taken = re.escape(f"{what} would take {memory.readable(8 * numbers)} of memory")
    with pytest.raises(tk.ModelTooLargeError, match=rf"^{taken} and .* are available; use fewer spins: each one less halves it$"):
        tk.gibbs_chain(np.zeros(shape), **options)
    monkeypatch.setattr("thermokernels.common.memory.available", lambda: 8 * numbers)
    assert tk.gibbs_chain(np.zeros(shape), **options).n_spins == sum(shape)


@pytest.mark.small
def test_memory_is_not_looked_up_for_small_chains(monkeypatch):
    monkeypatch.setattr("thermokernels.common.memory.available", lambda: 0)
    assert tk.gibbs_chain(np.zeros((8, 8))).n_states == 2**15


@small
@pytest.mark.parametrize("coupling", [150.0, 175.0, 180.0, 300.0])
def test_roots_of_a_law_that_underflows_have_all_their_digits(coupling):
    chain = tk.gibbs_chain([[coupling, coupling]])
    lowest = chain.energy.argmax()
    assert chain.root_law[lowest] == pytest.approx(np.exp(-2 * coupling) / np.sqrt(1 + np.exp(-4 * coupling)), rel=1e-13)
