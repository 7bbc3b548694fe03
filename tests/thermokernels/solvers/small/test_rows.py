"""Small chains whose observables are rows: right-hand sides, sums and solves in step against those of chains of any size."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.compiled import simd_states
from thermokernels.compiled.register_tiles import PANEL_COLUMNS
from thermokernels.quantities.variance_time import gradient_observables
from thermokernels.solvers import mixed_precision, parity_classes, red_black
from thermokernels.solvers.conjugate_gradients import MAX_ITERATIONS
from thermokernels.solvers.row_sums import SHORTEST_BLOCK
from thermokernels.solvers.small import mixed_side_by_side, rows, small_chains

# rows of one tile and of two, far visible flips, far row flips, classes with padded rows, all states and pairs
CASES = [((5, 3), False), ((5, 2), True), ((6, 2), True), ((7, 3), False), ((5, 6), True), ((8, 2), True)]


def chain_of(shape, fields, scale=1.0):
    draws = np.random.default_rng(sum(shape))
    return tk.gibbs_chain(scale * draws.normal(size=shape), draws.normal(size=shape[0]) if fields else None)


def require_the_same(chain, vectors, counts, width=1):
    """Every bit, where a class is one panel of columns; more of them are added up in another order."""
    (solutions, others), (iterations, as_many) = vectors, counts
    if 2 ** (chain.n_visible - 1) <= PANEL_COLUMNS * width:
        np.testing.assert_array_equal(solutions, others)
        np.testing.assert_array_equal(iterations, as_many)
    else:
        np.testing.assert_allclose(solutions, others, rtol=0.0, atol=1e-7 * np.abs(others).max())
        np.testing.assert_allclose(iterations, as_many, rtol=0.0, atol=3.0)


def both_ways(chain, right_hand_sides, rtol):
    """Solutions and iterations, in step and one after the other."""
    classes = parity_classes.parity_classes(chain)
    work = simd_states.aligned_zeros(9, classes.null.shape[1])
    solutions, iterations = simd_states.aligned_empty(*right_hand_sides.shape), np.zeros(len(right_hand_sides), np.int64)
    with np.errstate(invalid="ignore"):
        red_black._solve(classes, right_hand_sides, rtol, work, solutions, iterations)
        return mixed_side_by_side.solve(classes, right_hand_sides, rtol, in_single=False), (solutions, iterations)


@pytest.mark.small
@pytest.mark.parametrize(("shape", "fields"), CASES[:3])
def test_right_hand_sides_in_step_have_the_bits_of_one_after_the_other(shape, fields):
    chain = chain_of(shape, fields)
    right_hand_sides = gradient_observables(chain).right_hand_sides(slice(None))
    (solutions, iterations), (others, as_many) = both_ways(chain, right_hand_sides, 1e-10)
    np.testing.assert_array_equal(solutions, others)
    np.testing.assert_array_equal(iterations, as_many)


@pytest.mark.parametrize(("shape", "fields"), CASES[3:])
def test_larger_ones_too_and_each_stops_when_it_is_done(shape, fields):
    chain = chain_of(shape, fields, 0.5)
    right_hand_sides = gradient_observables(chain).right_hand_sides(slice(None))[:7]  # one of the second four is missing
    right_hand_sides[1] = 0.0
    right_hand_sides[2] += right_hand_sides[3]
    (solutions, iterations), (others, as_many) = both_ways(chain, right_hand_sides, 1e-10)
    require_the_same(chain, (solutions, others), (iterations, as_many))
    assert iterations[1] == 0 < iterations[0]
    matrix = chain.symmetrised_generator_matrix()
    assert (np.linalg.norm(solutions @ matrix - right_hand_sides, axis=1) <= 1e-10 * np.linalg.norm(right_hand_sides, axis=1)).all()


@pytest.mark.small
def test_all_observables_of_a_chain():
    chain = chain_of((5, 3), False)
    right_hand_sides = gradient_observables(chain).right_hand_sides(slice(None))
    solved = small_chains.Solved(np.empty((15, 128)), simd_states.aligned_empty(15, 128), np.empty((15, 6)))
    time, residual, iterations = small_chains._solve_products(chain.generator, chain.law, chain.root_law, 1e-10, solved)
    inverse = np.linalg.pinv(chain.symmetrised_generator_matrix(), rcond=1e-10)
    assert time == pytest.approx(np.einsum("ax,xy,ay->", right_hand_sides, inverse, right_hand_sides), rel=1e-12, abs=0)
    np.testing.assert_allclose(solved.vectors, right_hand_sides @ inverse, atol=1e-9)
    assert residual <= 1e-10
    assert 5 < iterations < 60


def in_float32(chain, right_hand_sides, rtol):
    """Solutions and iterations, in step and one after the other."""
    classes = parity_classes.parity_classes(chain)
    solutions, iterations = mixed_side_by_side.solve(classes, right_hand_sides, rtol, in_single=True)
    others = np.empty(right_hand_sides.shape)
    _, as_many = mixed_precision.solve(mixed_precision.mixed_classes(classes), right_hand_sides, rtol, SHORTEST_BLOCK, [], others)
    return (solutions, others), (iterations, as_many)


@pytest.mark.parametrize(
    ("shape", "fields", "scale"),
    [pytest.param((6, 2), True, 1.0, marks=pytest.mark.small), ((6, 4), False, 2.2), ((8, 2), True, 0.5), ((7, 5), False, 1.0)],
)
def test_iterations_in_float32_have_the_bits_of_one_after_the_other(shape, fields, scale):
    chain = chain_of(shape, fields, scale)
    right_hand_sides = gradient_observables(chain).right_hand_sides(slice(None))[:7]
    right_hand_sides[3] = 0.0
    for rtol in (1e-8, 1e-10):
        require_the_same(chain, *in_float32(chain, right_hand_sides, rtol), width=2)


def test_a_right_hand_side_that_goes_on_in_float64_leaves_the_others_their_directions():
    chain = chain_of((6, 4), False, 12.0)
    right_hand_sides = gradient_observables(chain).right_hand_sides(slice(None))[:4]
    gamma, modes = np.linalg.eigh(chain.symmetrised_generator_matrix())
    right_hand_sides[:2] = modes[:, -2:].T + modes[:, 40:42].T  # without the slow modes
    assert gamma[1] < 2.0**-24 * gamma[40]  # solutions with the slow mode are so large that float32 has no room
    require_the_same(chain, *in_float32(chain, right_hand_sides, 1e-10), width=2)


@pytest.mark.parametrize(
    ("shape", "scale", "fits"),
    [
        pytest.param((6, 3), 0.5, False, marks=pytest.mark.small),
        ((6, 6), 0.5, True),
        ((6, 5), 0.5, False),
        ((5, 7), 0.5, False),
        ((6, 6), 3.0, False),
    ],
)
def test_which_chains_are_solved_in_float32(shape, scale, fits):
    chain = chain_of(shape, False, scale)
    assert mixed_side_by_side._fits(shape[0], chain.escape, chain.root_law) == fits


def test_one_that_does_not_converge_is_no_others_affair():
    chain = chain_of((5, 4), True)
    right_hand_sides = gradient_observables(chain).right_hand_sides(slice(None))[:4]
    expected, many = both_ways(chain, right_hand_sides, 1e-10)[0]
    right_hand_sides[2, 1] = np.nan
    solutions, iterations = both_ways(chain, right_hand_sides, 1e-10)[0]
    np.testing.assert_array_equal(solutions[[0, 1, 3]], expected[[0, 1, 3]])
    np.testing.assert_array_equal(iterations[[0, 1, 3]], many[[0, 1, 3]])
    assert np.isnan(solutions[2]).any()
    assert max(iterations) < MAX_ITERATIONS


@pytest.mark.parametrize(("shape", "fields"), [pytest.param(*CASES[0], marks=pytest.mark.small), *CASES[1:]])
def test_sources_are_those_of_any_number_of_states(shape, fields):
    chain = chain_of(shape, fields)
    expected = gradient_observables(chain).right_hand_sides(slice(None))
    spins, sources = chain.spins(), np.empty(expected.shape)
    means = np.einsum("x,xi,xj->ij", chain.law, spins[:, : shape[0]], spins[:, shape[0] :])
    rows._sources(means, chain.root_law, chain.shape[1], sources)
    np.testing.assert_allclose(sources, expected, rtol=0.0, atol=1e-15)


@pytest.mark.small
@pytest.mark.parametrize(
    ("shape", "quotient", "fit"),
    [
        ((5, 3), True, True),
        ((5, 2), False, True),
        ((5, 2), True, False),  # two rows
        ((5, 4), True, False),  # an odd number of spins: the flip of the last keeps the parity
        ((5, 4), False, True),
        ((4, 6), True, False),
    ],
)
def test_which_chains_fill_a_tile(shape, quotient, fit):
    assert rows._fit(*shape, quotient) == fit
    n_states = 1 << (sum(shape) - quotient)
    in_rows = (shape[0] * shape[1], n_states)
    assert (small_chains.shape_of(*shape, quotient) == in_rows) == (fit and n_states > 256)


@pytest.mark.parametrize(
    ("shape", "quotient", "small"),
    [
        ((6, 6), True, True),
        ((6, 6), False, False),
        ((7, 5), True, True),
        ((4, 8), True, False),
        ((6, 5), False, True),
        ((5, 7), False, False),
    ],
)
def test_which_chains_are_small(shape, quotient, small):
    assert small_chains.is_small(*shape, quotient) == small
