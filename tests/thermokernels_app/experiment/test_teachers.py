"""Planted teachers and the random streams: stable draws, ranks, laws."""

import numpy as np
import pytest

from thermokernels.model.laws import visible_law
from thermokernels_app.experiment.design import Design, load_design
from thermokernels_app.experiment.teachers import Stream, generator, teacher, teachers

pytestmark = pytest.mark.small


def signs(rows):
    return 1.0 - 2.0 * np.array(rows)


@pytest.mark.parametrize(
    ("m", "code", "visible", "hidden"),
    [
        (4, 1, [[1], [0], [1], [1]], [[1], [0], [1], [0]]),
        (4, 3, [[0, 0, 0], [1, 1, 0], [1, 1, 0], [0, 1, 1]], [[0, 1, 0], [0, 1, 1], [0, 0, 0], [0, 1, 0]]),
        (
            6,
            4,
            [[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 0, 0], [0, 1, 1, 0]],
            [[1, 1, 1, 0], [1, 1, 0, 1], [1, 1, 1, 0], [1, 0, 0, 1], [0, 0, 1, 0], [0, 1, 1, 1]],
        ),
    ],
)
def test_the_registered_patterns(m, code, visible, hidden):
    planted = teacher(Design(), m, code)
    np.testing.assert_array_equal(planted.visible_patterns, signs(visible))
    np.testing.assert_array_equal(planted.hidden_patterns, signs(hidden))


@pytest.mark.parametrize("m", [4, 5, 6])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_teachers_are_planted_models_of_full_rank(m, seed):
    for code, planted in enumerate(teachers(load_design(seed=seed), m), start=1):
        assert planted.code == code
        assert np.linalg.matrix_rank(planted.couplings) == code
        expected = sum(np.outer(planted.visible_patterns[:, mu], planted.hidden_patterns[:, mu]) for mu in range(code)) * 3.0 / m
        np.testing.assert_allclose(planted.couplings, expected, rtol=1e-15)
        np.testing.assert_array_equal(planted.law, visible_law(planted.couplings))


def test_deficient_patterns_are_drawn_again():
    # Half of the sign matrices of two spins and two patterns have rank one, so three draws in four are not taken.
    for seed in range(20):
        planted = teacher(load_design(seed=seed), 2, 2)
        assert np.linalg.matrix_rank(planted.visible_patterns) == np.linalg.matrix_rank(planted.hidden_patterns) == 2


def test_one_pattern_pair_gives_the_curie_weiss_law():
    # W = (beta / m) xi eta': F_j = eta_j beta M / m with M = xi' v, so q(v) is proportional to cosh(beta M / m)^m.
    planted = teacher(Design(), 5, 1)
    spins = 1 - 2 * (np.arange(32)[:, None] >> np.arange(5) & 1)
    weights = np.cosh(3.0 / 5 * (spins @ planted.visible_patterns[:, 0])) ** 5
    np.testing.assert_allclose(planted.law, weights / weights.sum(), rtol=1e-13)


def test_streams_are_independent_of_each_other():
    first = {stream: generator(0, stream, 4, 2).standard_normal(4).tolist() for stream in Stream}
    assert len({tuple(draw) for draw in first.values()}) == len(Stream)
    assert generator(0, Stream.TEACHER, 4, 2).standard_normal(4).tolist() == first[Stream.TEACHER]
    assert generator(1, Stream.TEACHER, 4, 2).standard_normal(4).tolist() != first[Stream.TEACHER]
    assert min(Stream) == 1  # a zero at the end of a seed sequence would not count


def test_more_patterns_than_spins_are_refused():
    with pytest.raises(ValueError, match=r"code must lie in 1\.\.4, since 4 spins hold 4 independent patterns at most; got 5"):
        teacher(Design(), 4, 5)


def test_a_teacher_is_made_once_and_cannot_be_changed():
    planted = teacher(Design(), 4, 2)
    assert teacher(Design(), 4, 2) is planted
    with pytest.raises(ValueError, match="read-only"):
        planted.law[0] = 1.0
