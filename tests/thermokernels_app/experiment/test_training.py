"""Training: the compiled steps against plain NumPy, checkpoints, stable draws, and the L-BFGS test of stationarity."""

from dataclasses import replace

import numba
import numpy as np
import pytest

import adjoints.hypernetwork
import adjoints.laws
from thermokernels.common.errors import NumericalError
from thermokernels.model.hypernetwork import Hypernetwork, Shape, couplings
from thermokernels.model.laws import kl_divergence
from thermokernels_app.experiment import polishing, training, training_kernels
from thermokernels_app.experiment.design import Design, Polish, load_design
from thermokernels_app.experiment.teachers import teachers

compiled = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="2000 steps take minutes without compilation")


def short(steps, **changes):
    return replace(Design(), training=replace(Design().training, steps=steps, **changes))


def naive_training(design, m, split):
    """Adam from its paper, in NumPy, with the gradients of the public adjoints on the full visible law."""
    rule, shape = design.training, training.network_shape(design, m, split)
    phi = training.initial_parameters(design, m, split)
    mean, square = np.zeros_like(phi), np.zeros_like(phi)
    laws, codes = [teacher.law for teacher in teachers(design, m)], np.eye(design.teacher.codes)
    curve, path = [], []
    for step in range(1, rule.steps + 2):
        network = Hypernetwork.from_parameters(phi, shape)
        pairs = [adjoints.laws.kl_divergence(law, couplings(network, u)) for law, u in zip(laws, codes, strict=True)]
        curve.append([value for value, _ in pairs])
        path.append(phi.copy())
        gradient = np.mean(
            [adjoints.hypernetwork.couplings_vjp(network, u, by_W) for u, (_, by_W) in zip(codes, pairs, strict=True)], axis=0
        )
        mean = rule.decay_mean * mean + (1 - rule.decay_mean) * gradient
        square = rule.decay_square * square + (1 - rule.decay_square) * gradient**2
        mean_hat, square_hat = mean / (1 - rule.decay_mean**step), square / (1 - rule.decay_square**step)
        phi = phi - rule.learning_rate * mean_hat / (np.sqrt(square_hat) + rule.epsilon)
    return np.array(curve), np.array(path)


@pytest.mark.small
@pytest.mark.parametrize(("m", "split"), [(4, 1), (5, 3), (6, 4)])
def test_compiled_steps_equal_plain_adam(m, split):
    design = short(12)
    curve, path = naive_training(design, m, split)
    result = training.train(design, m, split)
    np.testing.assert_allclose(result.curve, curve, rtol=1e-10)
    np.testing.assert_allclose(result.checkpoint("final").phi, path[-1], rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(result.checkpoint("init").phi, path[0])


@pytest.mark.small
@pytest.mark.parametrize("shape", [Shape(4, 4, 3, 8, 4), Shape(3, 5, 2, 4, 2), Shape(1, 2, 1, 1, 1)])
def test_compiled_gradient_equals_the_public_adjoints(shape):
    draws = np.random.default_rng(0)
    phi, k = draws.normal(size=shape.n_parameters), shape.n_codes - 1
    half = draws.dirichlet(np.ones(2 ** (shape.n_visible - 1)))
    law = np.concatenate([half, half[::-1]]) / 2
    network, u = Hypernetwork.from_parameters(phi, shape), np.eye(shape.n_codes)[k]
    expected, by_W = adjoints.laws.kl_divergence(law, couplings(network, u))
    ct_phi = np.full(shape.n_parameters, 2.0)  # the kernel adds to what is there
    assert training_kernels._one_code(phi, shape, k, half, ct_phi) == pytest.approx(expected, rel=1e-12, abs=1e-15)
    np.testing.assert_allclose(ct_phi - 2.0, adjoints.hypernetwork.couplings_vjp(network, u, by_W), rtol=1e-11, atol=1e-13)


@pytest.mark.small
def test_factor_and_its_adjoint_satisfy_the_inner_product_identity():
    draws = np.random.default_rng(1)
    phi, z, ct_factor = draws.normal(size=24), draws.normal(size=3), draws.normal(size=(3, 2))
    factor, t_factor, t_z = np.empty((3, 2)), np.empty((3, 2)), draws.normal(size=3)
    training_kernels._factor(phi, 0, 18, z, factor)
    training_kernels._factor(phi, 0, 18, z + t_z, t_factor)
    ct_phi, ct_z = np.zeros(24), np.zeros(3)
    training_kernels._pull_back_factor(phi, 0, 18, z, ct_factor, ct_phi, ct_z)
    assert ((t_factor - factor) * ct_factor).sum() == pytest.approx(t_z @ ct_z, rel=1e-12, abs=0)
    assert (factor * ct_factor).sum() == pytest.approx(phi @ ct_phi, rel=1e-12, abs=0)  # linear in (H, offset) too


@pytest.mark.small
def test_the_registered_draws():
    phi = training.initial_parameters(Design(), 4, 2)
    assert phi.shape == (256,)
    expected = [0.09972531088971334, -0.22827007634424326, 0.0, 0.0, 0.1028761042614543, -0.13414995488523734]
    np.testing.assert_allclose(phi[[0, 31, 32, 39, 135, 255]], expected, rtol=1e-14)
    directions = training.directions(Design(), 5, 3)
    assert directions.shape == (5, 320)
    np.testing.assert_allclose(directions[[0, 4], [0, -1]], [-0.033066370225027196, 0.07571136953666922], rtol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0, rtol=1e-14)


@pytest.mark.small
def test_initial_variances_are_those_of_the_design():
    design = load_design(seed=11)
    blocks = Hypernetwork.from_parameters(training.initial_parameters(design, 16, 4), training.network_shape(design, 16, 4))
    assert np.all(blocks.c0 == 0)
    assert blocks.C.std() == pytest.approx(0.5, rel=0.3, abs=0)
    assert blocks.H_A.std() == pytest.approx(0.5 / 4, rel=0.15, abs=0)
    assert blocks.H_B.std() == pytest.approx(0.5 / 4, rel=0.15, abs=0)
    assert np.concatenate([blocks.a0, blocks.b0]).std() == pytest.approx(0.5, rel=0.4, abs=0)


@compiled
def test_checkpoints_are_first_crossings():
    result = training.train(Design(), 4, 2)
    mean = result.curve.mean(axis=1)
    half, tenth = result.checkpoint("half"), result.checkpoint("tenth")
    assert [checkpoint.name for checkpoint in result.checkpoints] == ["init", "half", "tenth", "final"]
    assert (half.step, tenth.step) == (int(np.argmax(mean <= 0.5)), int(np.argmax(mean <= 0.1)))
    assert all(checkpoint.reached for checkpoint in result.checkpoints)
    for checkpoint in result.checkpoints:
        np.testing.assert_array_equal(checkpoint.kl, result.curve[checkpoint.step])
        assert checkpoint.mean_kl == pytest.approx(mean[checkpoint.step], rel=1e-15, abs=0)
        network = result.network(checkpoint.name)
        for code, teacher in enumerate(teachers(Design(), 4), start=1):
            value = kl_divergence(teacher.law, couplings(network, training.code_vector(Design(), code)))
            assert value == pytest.approx(checkpoint.kl[code - 1], rel=1e-9, abs=1e-13)


@pytest.mark.small
def test_levels_above_the_start_are_crossed_at_step_zero_and_ones_below_the_end_never():
    result = training.train(short(3, half=100.0, tenth=1e-9), 4, 2)
    half, tenth, final = result.checkpoint("half"), result.checkpoint("tenth"), result.checkpoint("final")
    assert (half.step, half.reached) == (0, True)
    np.testing.assert_array_equal(half.phi, result.checkpoint("init").phi)
    assert (tenth.step, tenth.reached) == (3, False)
    np.testing.assert_array_equal(tenth.phi, final.phi)


@compiled
def test_training_is_bitwise_repeatable():
    first, second = training.train(Design(), 5, 4), training.train(Design(), 5, 4)
    assert first.curve.tobytes() == second.curve.tobytes()
    for a, b in zip(first.checkpoints, second.checkpoints, strict=True):
        assert a.phi.tobytes() == b.phi.tobytes()


@compiled
def test_training_learns_what_it_can():
    # With rank 4 every teacher lies on the manifold; with rank 1 the one pattern pair still does.
    assert training.train(Design(), 5, 1).checkpoint("final").kl.max() < 1e-2
    assert training.train(Design(), 5, 4).checkpoint("final").kl[0] < 1e-2


@compiled
def test_a_stalled_code_is_stationary():
    design, result = Design(), training.train(Design(), 5, 4)
    polished = polishing.polish(design, result, 2)
    assert polished.final_kl == pytest.approx(result.curve[-1, 1], rel=1e-15, abs=0)
    assert polished.stationary
    assert 0.5 <= polished.polished_kl <= polished.final_kl
    assert polished.gradient_norm < 1e-6
    assert polished == polishing.polish(design, result, 2)


@compiled
def test_a_code_that_lbfgs_brings_down_is_undertrained():
    design = load_design(seed=4)
    result = training.train(design, 5, 2)
    polished = polishing.polish(design, result, 2)
    assert polished.final_kl > 0.5
    assert polished.polished_kl < 1e-6
    assert not polished.stationary


@compiled
def test_a_code_whose_gradient_stays_is_undertrained():
    design = replace(Design(), polish=Polish(iterations=1))
    polished = polishing.polish(design, training.train(short(1), 4, 4), 2)
    assert polished.iterations == 1
    assert polished.gradient_norm > 1e-6
    assert not polished.stationary


@pytest.mark.small
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence_of_training_raises():
    with pytest.raises(NumericalError, match=r"training of m = 4, split 2 left the finite numbers at step \d+, code \d"):
        training.train(short(3, learning_rate=1e200), 4, 2)
