"""Solves in float32 that float64 keeps right: against solves in float64 alone, on chains that leave room and on those that leave none."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.common import threads
from thermokernels.solvers import mixed_precision, parity_classes, parity_coupling, red_black
from thermokernels.solvers.mixed_precision import mixed_classes
from thermokernels.solvers.resolvent import Solver
from thermokernels.solvers.row_sums import SHORTEST_BLOCK, row_sums

RTOL = 1e-10
ROWS_OF_ANY_KIND = [((6, 2), {}), ((6, 3), {"fields": True}), ((7, 3), {}), ((6, 2), {"quotient": False}), ((9, 3), {})]


def random_chain(shape, scale=1.0, fields=False, **options):
    draws = np.random.default_rng(shape)
    W = scale * draws.normal(size=shape)
    return tk.gibbs_chain(W, *((draws.normal(size=n) for n in shape) if fields else ()), **options)


def sources(chain, k=2):
    rows = chain.root_law * np.random.default_rng(1).normal(size=(k, chain.n_states))
    return rows - np.outer(rows @ chain.root_law, chain.root_law)


def solved(mixed, right_hand_sides, rtol=RTOL):
    """Solutions and iterations."""
    solutions = np.empty(right_hand_sides.shape)
    _, iterations = mixed_precision.solve(mixed, right_hand_sides, rtol, SHORTEST_BLOCK, [], solutions)
    return solutions, iterations


def residuals(chain, right_hand_sides, solutions):
    rest = right_hand_sides - chain.apply_symmetrised_generator(solutions)
    return np.linalg.norm(rest, axis=1) / np.linalg.norm(right_hand_sides, axis=1)


@pytest.mark.small
@pytest.mark.parametrize(("shape", "options"), ROWS_OF_ANY_KIND)
def test_float32_gives_what_float64_gives(shape, options):
    chain = random_chain(shape, **options)
    b, double = sources(chain), parity_classes.parity_classes(chain)
    expected, steps = red_black.solve(double, b, RTOL)
    solutions, iterations = solved(mixed_classes(double), b)
    assert residuals(chain, b, solutions).max() <= red_black.AIM * RTOL * (1 + 1e-6)
    np.testing.assert_allclose(solutions, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    assert (iterations <= 2 * steps + 3).all()  # of sources in which every mode is
    np.testing.assert_allclose(solutions @ chain.root_law, 0.0, atol=1e-15 * np.abs(solutions).max() * chain.n_states)


@pytest.mark.small
@pytest.mark.parametrize(("shape", "options"), ROWS_OF_ANY_KIND)
def test_sums_of_a_solution_are_those_of_its_row(shape, options):
    """Made in parity classes, in blocks of as many entries: the same numbers up to the order of additions."""
    chain = random_chain(shape, **options)
    b, solutions, block = sources(chain), np.empty((2, chain.n_states)), max(chain.shape[1], SHORTEST_BLOCK)
    sums, _ = mixed_precision.solve(mixed_classes(parity_classes.parity_classes(chain)), b, 1e-4, block, [], solutions)
    expected = row_sums(chain, b, solutions)
    np.testing.assert_allclose(sums[:, [0, 3, 4, 5]], expected[:, [0, 3, 4, 5]], rtol=1e-12)
    norms = np.sqrt(expected[:, [2, 3]])  # of residuals and of solutions, whose rounding the residuals have
    np.testing.assert_allclose(np.sqrt(sums[:, 2]), norms[:, 0], rtol=0, atol=1e-15 * norms[:, 1].max())
    np.testing.assert_allclose(sums[:, 1], expected[:, 1], rtol=0, atol=1e-15 * (norms[:, 1] ** 2).max())


@pytest.mark.small
def test_a_target_is_left_out():
    chain = random_chain((6, 4))
    target = np.arange(chain.n_states) % 37 == 5
    double, b = parity_classes.parity_classes(chain, target), np.random.default_rng(2).normal(size=(2, chain.n_states))
    solutions, _ = solved(mixed_classes(double), b)
    rest = np.where(target, 0.0, b - chain.apply_symmetrised_generator(solutions))
    np.testing.assert_array_equal(solutions[:, target], 0.0)
    assert (np.linalg.norm(rest, axis=1) <= RTOL * np.linalg.norm(b, axis=1)).all()


@pytest.mark.small
def test_zero_takes_no_iteration():
    chain = random_chain((6, 2))
    solutions, iterations = solved(mixed_classes(parity_classes.parity_classes(chain)), np.zeros((1, chain.n_states)))
    assert iterations.tolist() == [0]
    np.testing.assert_array_equal(solutions, 0.0)


@pytest.mark.parametrize("scale", [2.2, 2.6])
def test_a_slow_chain_goes_on_in_float64(scale):
    """Sources of every kind leave solutions so large that float32 has no digit of the residual."""
    chain = random_chain((8, 4), scale)
    b, double = sources(chain), parity_classes.parity_classes(chain)
    solutions, iterations = solved(mixed_classes(double), b)
    expected, steps = red_black.solve(double, b, RTOL)
    assert residuals(chain, b, solutions).max() <= max(RTOL, 2 * residuals(chain, b, expected).max())
    assert iterations.sum() <= 2 * steps.sum() + 3 * mixed_precision.STEPS
    assert (iterations > steps).all()


@pytest.mark.small
def test_what_is_left_is_solved_in_float64_in_the_room_of_float32():
    chain = random_chain((6, 2))
    classes = parity_classes.parity_classes(chain)
    length = classes.null.shape[1]
    halves, odd, x, image, residual = np.zeros((2, length)), *np.zeros((4, length))
    parity_classes._split(sources(chain, 1)[0], classes.shape, halves)
    residual[:] = halves[0]
    red_black._project(classes.null[0], residual)
    expected, singles = residual.copy(), np.ones((5, length + 24), dtype=np.float32)
    assert mixed_precision._go_on_in_double(classes, halves, residual, odd, 1e-12, singles, x) > 1
    parity_coupling._schur_product(classes, x, odd, image)
    np.testing.assert_allclose(image, expected, rtol=0, atol=2e-12)
    assert not singles.any()


def test_what_float32_cannot_hold_is_solved_in_float64():
    assert mixed_precision.applies_to(random_chain((7, 7), 0.5))
    assert not mixed_precision.applies_to(random_chain((7, 7), 6.0))  # its law is below 1e-24 somewhere
    assert not mixed_precision.applies_to(random_chain((7, 6), 0.5))  # an odd number of spins
    assert not mixed_precision.applies_to(random_chain((6, 6), 0.5))  # few states


def test_no_bit_depends_on_threads_or_neighbours():
    chain = random_chain((7, 7), 0.5)
    solver, b = Solver(chain, "cg"), sources(chain, 5)
    whole, room = solver.solve(b), np.full((5, chain.n_states), np.nan)
    assert solver.solve(b, room).vectors is room
    np.testing.assert_array_equal(room, whole.vectors)
    before = threads.get_threads()
    try:
        threads.set_threads(3)
        on_threads = solver.solve(b)
        np.testing.assert_array_equal(on_threads.vectors, whole.vectors)
        np.testing.assert_array_equal(on_threads.sums, whole.sums)
    finally:
        threads.set_threads(before)
    for row in range(5):
        np.testing.assert_array_equal(solver.solve(b[row : row + 1]).vectors[0], whole.vectors[row])
    assert whole.relative_residual <= red_black.AIM * RTOL * 1.01


def test_a_relaxed_solver_has_the_same_tables():
    solver = Solver(random_chain((7, 7), 0.5), "cg")
    loose = solver.relaxed(1e-4)
    assert loose._mixed is solver._mixed
    assert loose.solve(sources(solver.chain)).iterations < solver.solve(sources(solver.chain)).iterations
