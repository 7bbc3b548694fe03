"""The second level of the solves against dense matrices: its forms, its preconditioner as it is applied, and the solves."""

import tracemalloc

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.common import threads
from thermokernels.compiled.simd_states import aligned_singles, aligned_zeros
from thermokernels.solvers import corrected_steps, layer_functions, mixed_precision, parity_classes, red_black
from thermokernels.solvers.resolvent import Solver
from thermokernels.solvers.row_sums import SHORTEST_BLOCK

RTOL = 1e-10
SMALL = [((7, 1), {}), ((8, 4), {}), ((7, 3), {}), ((7, 2), {"fields": True}), ((7, 2), {"quotient": False})]
CHAINS = [*(pytest.param(*chain, marks=pytest.mark.small) for chain in SMALL), ((9, 3), {})]


def random_chain(shape, scale=1.0, fields=False, **options):
    draws = np.random.default_rng(shape)
    W = scale * draws.normal(size=shape) / np.sqrt(max(shape))
    return tk.gibbs_chain(W, *((draws.normal(size=n) for n in shape) if fields else ()), **options)


def functions(chain, hidden, visible):
    """W, a column a function."""
    (n_rows, n_columns), (n_visible, n_hidden) = chain.shape, chain.weights.shape
    spins = chain.spins().astype(float)
    h, v = np.divmod(np.arange(chain.n_states), n_columns)
    if chain.quotient:
        v = np.minimum(v, n_columns - 1 - v)
    columns = [h == k for k in range(n_rows)] * hidden
    columns += [v == k for k in range(n_columns // (2 if chain.quotient else 1))] * visible
    columns += [spins[:, i] * spins[:, n_visible + j] for i in range(n_visible) for j in range(n_hidden)]
    return chain.root_law[:, None] * np.array(columns).T


def sources(chain, k=3):
    rows = chain.root_law * np.random.default_rng(1).normal(size=(k, chain.n_states))
    return rows - np.outer(rows @ chain.root_law, chain.root_law)


@pytest.mark.parametrize("chosen", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize(("shape", "options"), CHAINS)
def test_forms_are_products_with_the_operator(shape, options, chosen):
    chain = random_chain(shape, **options)
    W, escape = functions(chain, *chosen), chain.escape
    dirichlet, gram = layer_functions._forms(chain, *chosen)
    expected = W.T @ chain.symmetrised_generator_matrix() @ W
    if any(chosen):
        constant = (escape * chain.root_law) @ W
        expected += np.outer(constant, constant) / (chain.law @ escape)
    np.testing.assert_allclose(dirichlet, expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(gram, W.T @ (escape[:, None] * W), rtol=0, atol=1e-14)


def test_the_kernel_shifts_eigenvalues_and_leaves_the_constant_alone():
    chain = random_chain((6, 4), 2.0)
    dirichlet, gram = layer_functions._forms(chain, True, True)
    kernel = layer_functions._kernel(dirichlet.copy(), gram.copy())
    np.testing.assert_array_equal(kernel, kernel.T)
    shift = layer_functions.SHIFT * np.diag(gram.diagonal())
    E, G = dirichlet + shift, gram + shift
    expected = np.linalg.inv(E) - 2 * np.linalg.inv(G) + np.linalg.inv(G) @ E @ np.linalg.inv(G)
    W = functions(chain, True, True)
    there, here = W @ expected @ W.T, W @ kernel.astype(float) @ W.T
    np.testing.assert_allclose(here, there, rtol=0, atol=1e-2 * np.abs(there).max())
    constant = chain.escape * chain.root_law
    assert np.linalg.norm(there @ constant) < 1e-3 * np.linalg.norm(there, 2) * np.linalg.norm(constant)


@pytest.mark.parametrize(("shape", "options"), CHAINS)
def test_the_preconditioner_is_what_it_says(shape, options):
    chain = random_chain(shape, **options)
    double = parity_classes.parity_classes(chain)
    layers = layer_functions.layer_functions(chain)
    single = mixed_precision.mixed_classes(double, layers).single
    room = corrected_steps.room(single.shape, layers)
    work, halves = aligned_singles(5, single.null.shape[1]), aligned_zeros(2, double.null.shape[1])
    image, residual, x, step, _ = work
    even = np.array([bin(state).count("1") % 2 == 0 for state in range(chain.n_states)])
    source = np.where(even, sources(chain, 1)[0], 0.0)
    parity_classes._split(source, double.shape, halves)
    mixed_precision._narrow(halves[0], double.shape, 1.0, single.shape.stride, residual)
    norm, product = corrected_steps._descend(single.shape, layers.visible, 0.0, image, single.inverse[0], single.null[0], residual, room)
    product += corrected_steps._precondition(single, layers, room)
    corrected_steps._turn(layers, single.shape, 0.0, 0.0, single.inverse[0], single.null[0], residual, x, step, room)
    W = functions(chain, layers.hidden, layers.visible)
    kernel = layers.kernel.reshape(-1, layers.stride)[: layers.size, : layers.size].astype(float)
    expected = source / chain.escape + np.where(even, W @ (kernel @ (W.T @ source)), 0.0)
    halves[:] = 0.0
    mixed_precision._add_widened(step, single.shape.stride, 1.0, double.shape, halves[0])
    found = np.empty(chain.n_states)
    parity_classes._merge(halves, double.shape, found)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert norm == pytest.approx(np.linalg.norm(source), rel=1e-5, abs=0)
    assert product == pytest.approx(source @ expected, rel=1e-4, abs=0)


@pytest.mark.parametrize(("shape", "options"), CHAINS)
def test_solves_are_those_of_float64(shape, options):
    chain = random_chain(shape, 3.0, **options)
    b, double = sources(chain), parity_classes.parity_classes(chain)
    expected, steps = red_black.solve(double, b, RTOL)
    solutions, mixed = np.empty(b.shape), mixed_precision.mixed_classes(double, layer_functions.layer_functions(chain))
    _, iterations = mixed_precision.solve(mixed, b, RTOL, SHORTEST_BLOCK, [], solutions)
    rest = np.linalg.norm(b - chain.apply_symmetrised_generator(solutions), axis=1) / np.linalg.norm(b, axis=1)
    assert rest.max() <= red_black.AIM * RTOL * (1 + 1e-6)
    np.testing.assert_allclose(solutions, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    assert (iterations <= steps + 5).all()


def test_observables_take_half_of_the_steps_and_no_bit_depends_on_threads():
    W = np.random.default_rng(9).normal(size=(9, 9)) * 2 / 3
    chain = tk.gibbs_chain(W)
    b = (chain.root_law * (chain.spins()[:, :3] * chain.spins()[:, 9:12]).T)[:2]
    b = b - np.outer(b @ chain.root_law, chain.root_law)
    plain, levelled = (Solver(chain, many=many).solve(b) for many in (False, True))
    assert levelled.iterations <= 0.6 * plain.iterations
    np.testing.assert_allclose(levelled.vectors, plain.vectors, rtol=0, atol=1e-8 * np.abs(plain.vectors).max())
    before = threads.get_threads()
    try:
        threads.set_threads(3)
        np.testing.assert_array_equal(Solver(chain, many=True).solve(b).vectors, levelled.vectors)
    finally:
        threads.set_threads(before)
    np.testing.assert_array_equal(Solver(chain, many=True).solve(b[1:]).vectors[0], levelled.vectors[1])


def test_what_has_no_second_level():
    chain = random_chain((9, 9), 0.5)
    assert Solver(chain, many=True)._mixed.layers.size > 0
    assert Solver(chain)._mixed.layers is layer_functions.NO_LAYERS
    assert not layer_functions.applies_to(random_chain((8, 8), 0.5))  # few states
    assert not layer_functions.applies_to(random_chain((17, 1), 0.5))  # more visible spins than lanes
    assert not layer_functions.applies_to(random_chain((6, 12), 0.1))  # a row shorter than four vectors


def test_layers_that_are_too_many_are_left_out():
    layers = layer_functions.layer_functions(random_chain((10, 2), fields=True))
    assert (layers.hidden, layers.visible, layers.size) == (True, False, 4 + 20)


def test_a_kernel_that_float32_does_not_hold_is_none(monkeypatch):
    monkeypatch.setattr(layer_functions, "_kernel", lambda dirichlet, gram: np.full(gram.shape, np.nan, dtype=np.float32))
    assert layer_functions.layer_functions(random_chain((6, 2))) is layer_functions.NO_LAYERS
    assert np.isnan(layer_functions._inverse(-np.eye(3, dtype=np.float32))).all()


def test_a_layer_of_many_spins_takes_no_matrix_of_its_functions():
    """Of 2^14 visible configurations, which are too many to be taken, the matrix alone would be 2 GiB."""
    draws = np.random.default_rng(0)
    chain = tk.gibbs_chain(0.3 * draws.normal(size=(14, 3)), 0.1 * draws.normal(size=14))
    tracemalloc.start()
    try:
        found = layer_functions.layer_functions(chain)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not found.visible
    assert peak < 2**28
