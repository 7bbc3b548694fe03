"""Lanczos runs against the recurrence written out, for rows of fewer numbers than a vector of the processor has and for padded ones."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.compiled.register_tiles import PADDED_COLUMNS
from thermokernels.solvers.lanczos import LanczosRuns, tridiagonal_eigenvalues

SMALL = pytest.mark.small
SHAPES = [pytest.param((1, 4), marks=SMALL), pytest.param((2, 3), marks=SMALL), (2, 6), (3, 3), (4, 4), (5, 3)]
# Two blocks of so few spins have fewer eigenvalues than a run has steps.
CHAINS = [*((shape, "single-site") for shape in ((2, 6), (3, 3), (4, 4), (5, 3))), ((3, 3), "two-block"), ((4, 4), "two-block")]
CHAINS += [pytest.param((1, 4), "single-site", marks=SMALL), pytest.param((2, 3), "single-site", marks=SMALL)]


def chain_of(shape, kernel="single-site"):
    return tk.gibbs_chain(np.random.default_rng(sum(shape)).normal(size=shape), kernel=kernel)


def starts_of(chain, k=2):
    starts = np.random.default_rng(k).normal(size=(k, chain.n_states))
    return starts - (starts @ chain.root_law)[:, None] * chain.root_law


def plain_run(chain, start, n_steps):
    """Vectors, diagonal and offdiagonal of the recurrence, made orthogonal to all before and to sqrt(pi)."""
    A, vectors, alphas, betas = chain.symmetrised_generator_matrix(), [start / np.linalg.norm(start)], [], []
    for _ in range(n_steps):
        image = A @ vectors[-1]
        alphas.append(vectors[-1] @ image)
        for other in [chain.root_law, *vectors, *vectors]:
            image = image - (other @ image) * other
        betas.append(np.linalg.norm(image))
        vectors.append(image / betas[-1])
    return np.array(vectors[:n_steps]), np.array(alphas), np.array(betas)


@pytest.mark.parametrize(("shape", "kernel"), CHAINS)
@pytest.mark.parametrize("pieces", [(5,), (2, 3), (1, 1, 1, 1, 1)])
def test_vectors_and_matrices_are_those_of_the_recurrence(shape, pieces, kernel):
    chain = chain_of(shape, kernel)
    starts = starts_of(chain)
    runs, kept, done = LanczosRuns(chain, starts), np.full((6, chain.n_states), 7.0), 0
    for n_steps in pieces:
        runs.extend(n_steps, kept[done : done + n_steps])
        done += n_steps
    expected = [plain_run(chain, start, 5) for start in starts]
    np.testing.assert_allclose(kept[:5], expected[0][0], atol=1e-11)
    assert (kept[5] == 7.0).all()  # nothing is written behind the last
    for a, (_, alphas, betas) in enumerate(expected):
        np.testing.assert_allclose(runs.diagonals[a], alphas, rtol=1e-10)
        np.testing.assert_allclose(runs.offdiagonals[a], betas, rtol=1e-9)


def test_rows_that_are_padded_are_kept_without_their_padding():
    chain = chain_of((int(np.log2(PADDED_COLUMNS)), 4))
    assert chain.shape[1] == PADDED_COLUMNS
    start, kept = starts_of(chain, 1), np.full((4, chain.n_states), 7.0)
    runs = LanczosRuns(chain, start)
    runs.extend(3, kept[:3])
    applied = chain.apply_symmetrised_generator(kept[:3])
    np.testing.assert_allclose(kept[0], start[0] / np.linalg.norm(start), rtol=1e-13)
    np.testing.assert_allclose(applied @ kept[:3].T, runs_matrix(runs), atol=1e-13)
    np.testing.assert_allclose(kept[:3] @ kept[:3].T, np.eye(3), atol=1e-12)
    assert (kept[3] == 7.0).all()


def runs_matrix(runs):
    alphas, betas = runs.diagonals[0], runs.offdiagonals[0, :-1]
    return np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_ends_where_its_space_is_used_up(shape):
    """A mode by itself: one node with all of the weight, and zeros from there on."""
    chain = chain_of(shape)
    gaps, modes = np.linalg.eigh(chain.symmetrised_generator_matrix() + 2 * np.outer(chain.root_law, chain.root_law))
    runs = LanczosRuns(chain, 3 * modes[None, :, 1])
    runs.extend(4)
    assert runs.diagonals[0, 0] == pytest.approx(gaps[1], rel=1e-12, abs=0)
    assert runs.offdiagonals[0, 0] <= 1e-14 or runs.offdiagonals[0, 1] <= 1e-14 or runs.offdiagonals[0, 2] <= 1e-14
    rules = runs.gauss_rules()
    own = np.abs(rules.gaps[0] - gaps[1]) < 1e-10
    assert rules.weights[0, own].sum() == pytest.approx(9, rel=1e-12, abs=0)
    assert rules.weights[0, ~own].sum() < 1e-20


@pytest.mark.parametrize("shape", SHAPES)
def test_gauss_rules_have_the_moments_of_the_start(shape):
    """n nodes are right to degree 2 n - 1."""
    chain = chain_of(shape)
    starts = starts_of(chain)
    runs = LanczosRuns(chain, starts)
    runs.extend(3)
    rules = runs.gauss_rules()
    assert (np.diff(rules.gaps, axis=1) > 0).all()
    moments = starts.copy()
    for power in range(6):
        np.testing.assert_allclose((rules.weights * rules.gaps**power).sum(axis=1), (starts * moments).sum(axis=1), rtol=1e-11)
        moments = chain.apply_symmetrised_generator(moments)


@pytest.mark.parametrize("shape", [(2, 6), (4, 4)])
def test_ritz_vectors_leave_what_the_rules_say(shape):
    chain = chain_of(shape)
    starts = starts_of(chain, 1)
    runs = LanczosRuns(chain, starts)
    runs.extend(6)
    rules = runs.gauss_rules()
    vectors = runs.ritz_vectors(0.5 * (rules.gaps[0, 2] + rules.gaps[0, 3]))
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-10)
    left = chain.apply_symmetrised_generator(vectors) - rules.gaps[0, :3, None] * vectors
    np.testing.assert_allclose(np.linalg.norm(left, axis=1), rules.residuals[0, :3], rtol=1e-6)
    np.testing.assert_allclose((vectors @ starts[0]) ** 2, rules.weights[0, :3], rtol=1e-8)


@pytest.mark.small
@pytest.mark.parametrize("n", [1, 2, 7])
def test_eigenvalues_and_turned_rows_of_tridiagonal_matrices(n):
    draws = np.random.default_rng(n)
    diagonals, offdiagonals, rows = draws.normal(size=(2, n)), draws.normal(size=(2, n)), draws.normal(size=(2, n, 3))
    values, turned = tridiagonal_eigenvalues(diagonals, offdiagonals, rows)
    for a in range(2):
        matrix = np.diag(diagonals[a]) + np.diag(offdiagonals[a, :-1], 1) + np.diag(offdiagonals[a, :-1], -1)
        exact, vectors = np.linalg.eigh(matrix)
        np.testing.assert_allclose(values[a], exact, atol=1e-13)
        np.testing.assert_allclose(np.abs(turned[a]), np.abs(vectors.T @ rows[a]), atol=1e-12)
