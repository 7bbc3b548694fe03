"""Packs of eight observables against matrices and sums in NumPy, and small chains in one compiled call."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.compiled.simd_states import DOUBLES
from thermokernels.quantities.variance_time import gradient_observables, variance_time
from thermokernels.solvers.small import packed_classes, packed_gradients, packs, small_chains
from thermokernels.solvers.small.small_cholesky import is_bipartite
from thermokernels.solvers.solve import Solve

CASES = [((1, 1), False), ((1, 1), True), ((2, 1), False), ((3, 3), False), ((2, 3), True), ((4, 3), False)]


def chain_of(shape, fields):
    draws = np.random.default_rng(2)
    return tk.gibbs_chain(draws.normal(size=shape), draws.normal(size=shape[0]) if fields else None)


def solved_by_inversion(chain):
    """Packs whose right-hand sides are those of the observables, with solutions that are off by a thousandth."""
    inverse = np.linalg.pinv(chain.symmetrised_generator_matrix(), rcond=1e-10)
    rows = gradient_observables(chain).right_hand_sides(slice(None))
    solved = small_chains.empty(len(rows), chain.n_states)
    vectors = 1.001 * rows @ inverse
    for p in range(len(solved.vectors)):
        packs._pack(rows, p * DOUBLES, solved.right_hand_sides[p])
        packs._pack(vectors, p * DOUBLES, solved.vectors[p])
    return solved, rows, vectors


@pytest.mark.small
@pytest.mark.parametrize(("shape", "fields"), CASES)
def test_sources_products_and_sums(shape, fields):
    chain = chain_of(shape, fields)
    solved, rows, vectors = solved_by_inversion(chain)
    matrix, flips, n_states = chain.symmetrised_generator_matrix(), packs._flips(chain.generator), chain.n_states
    np.testing.assert_array_equal(packs.as_rows(solved.vectors, len(rows)), vectors)
    means, inner, source, product = np.empty(shape), np.empty(DOUBLES), *np.empty((2, n_states * DOUBLES))
    means[:] = np.einsum("x,xi,xj->ij", chain.law, chain.spins()[:, : shape[0]], chain.spins()[:, shape[0] :])
    for p in range(len(solved.vectors)):
        packs._sources(means, chain.root_law, chain.shape[1], p * DOUBLES, source)
        np.testing.assert_allclose(source, solved.right_hand_sides[p], atol=1e-14)
        packs._couple(flips.masks, flips.rates, solved.vectors[p], flips.escape, solved.vectors[p], product, inner)
        np.testing.assert_allclose(product.reshape(n_states, -1), matrix @ solved.vectors[p].reshape(n_states, -1), atol=1e-13)
        packs._add_up(flips, solved.right_hand_sides[p], solved.vectors[p], p * DOUBLES, product, solved.sums)
    residuals = rows - vectors @ matrix
    pairs = (
        (rows, vectors),
        (residuals, vectors),
        (residuals, residuals),
        (vectors, vectors),
        (rows, rows),
        (vectors, vectors * chain.escape),
    )
    np.testing.assert_allclose(solved.sums.T, [np.einsum("ax,ax->a", *pair) for pair in pairs], rtol=1e-9, atol=1e-14)


@pytest.mark.small
@pytest.mark.parametrize(("shape", "fields"), CASES)
def test_overlaps_of_flips(shape, fields):
    chain = chain_of(shape, fields)
    solved, rows, vectors = solved_by_inversion(chain)
    by_visible, by_hidden = np.empty(chain.visible_rates.shape), np.empty(chain.hidden_rates.shape)
    packs._overlaps(solved.vectors, chain.shape, chain.quotient, by_visible, by_hidden)
    states = np.arange(chain.n_states)
    for i, mask in enumerate(chain.flip_masks):
        overlaps = np.einsum("ax,ax->x", vectors, vectors[:, states ^ mask]).reshape(chain.shape)
        expected = overlaps.sum(axis=1) if i < chain.n_visible else overlaps.sum(axis=0)
        np.testing.assert_allclose(by_visible[i] if i < chain.n_visible else by_hidden[i - chain.n_visible], expected, atol=1e-12)
    squares, products = np.empty((2, chain.n_states))
    packs._squares_and_products(solved.vectors, solved.right_hand_sides, squares, products)
    np.testing.assert_allclose(squares, (vectors**2).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(products, (vectors * rows).sum(axis=0), rtol=1e-10, atol=1e-14)


@pytest.mark.small
@pytest.mark.parametrize(("shape", "fields"), CASES)
def test_conjugate_gradients_stop_one_by_one(shape, fields):
    chain = chain_of(shape, fields)
    solved, rows, vectors = solved_by_inversion(chain)
    flips = packs._flips(chain.generator)
    classes = packed_classes._classes(flips, chain.root_law, is_bipartite(chain))
    size = classes.null.size * DOUBLES
    even, odd, x = np.empty((3, size))
    work, solution, aims = np.empty((3, size)), np.empty(chain.n_states * DOUBLES), np.empty(DOUBLES)
    packed_classes._eliminate(classes, solved.right_hand_sides[0], even, odd, work[0], aims)
    np.testing.assert_allclose(aims, (solved.right_hand_sides[0].reshape(-1, DOUBLES) ** 2).sum(axis=0))
    aims[:] = 1e-12 * np.sqrt(aims)
    aims[0] = 1e-2 * np.linalg.norm(rows[0])
    packed_gradients._conjugate_gradients(classes, even, aims, work, x)
    packed_classes._substitute_back(classes, chain.root_law, x, odd, work[0], solution)
    found = solution.reshape(-1, DOUBLES).T[: len(rows)]
    np.testing.assert_allclose(found[1:], vectors[1:DOUBLES] / 1.001, atol=1e-9)
    assert np.linalg.norm(rows[0] - chain.symmetrised_generator_matrix() @ found[0]) <= 1.01e-2 * np.linalg.norm(rows[0])


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (4, 6), (5, 5), (5, 6), (6, 6)])
def test_one_call_is_the_general_way(shape):
    chain = chain_of(shape, False)
    time = variance_time(chain, Solve(rtol=1e-10))
    assert time.in_one_call is not None
    assert time.value == pytest.approx(tk.observable_variance_time(chain, method="cg"), rel=1e-13, abs=0)
    assert time.residual <= 1e-10
    assert (time.iterations > 0) == (chain.n_states > 256)
    rows, vectors = (small_chains.as_rows(part, chain.weights.size, chain.n_states) for part in time.in_one_call[:2])
    residuals = np.linalg.norm(rows - chain.apply_symmetrised_generator(vectors), axis=1)
    assert time.residual == pytest.approx((residuals / np.linalg.norm(rows, axis=1)).max(), rel=0.1, abs=0)
