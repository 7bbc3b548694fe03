"""Planted teachers, and where every random number of the experiment comes from.

One stream a purpose: ``Generator(PCG64(SeedSequence([seed, stream, ...])))``. A new purpose takes a new number and so changes no
other draw; the words behind the stream are listed beside it, all of them at least 1 (zeros at the end would not count).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.model.laws import visible_law
from thermokernels_app.experiment.design import Design


class Stream(IntEnum):
    """Purposes that draw random numbers."""

    TEACHER = 1
    """[seed, 1, m, code]: xi, then eta, both (m, code) entries of 0 or 1 in C order, sign = 1 - 2 * entry; again until of full rank."""
    NETWORK = 2
    """[seed, 2, m, split]: standard normals for C, H_A, a0, H_B, b0, each in C order; c0 is zero."""
    DIRECTIONS = 3
    """[seed, 3, m, split]: standard normals (directions, n_parameters), each row divided by its norm."""


@dataclass(frozen=True)
class Teacher:
    """A planted model W_t = (beta / m) sum_mu xi^mu eta^mu', the sum over its pattern pairs.

    Attributes
    ----------
    code : int
        k = 1, 2, ...; also the number of pattern pairs.
    couplings : (m, m) ndarray of float64
    law : (2**m,) ndarray of float64
        Exact visible law, the data of code k.
    visible_patterns, hidden_patterns : (m, k) ndarray of float64
        xi and eta, entries +1 and -1, both of rank k.
    """

    code: int
    couplings: Floats
    law: Floats
    visible_patterns: Floats
    hidden_patterns: Floats


def generator(seed: int, stream: Stream, *words: int) -> np.random.Generator:
    """The generator of one purpose; ``words`` tell its draws apart, see :class:`Stream`.

    Examples
    --------
    >>> generator(0, Stream.TEACHER, 4, 2).integers(0, 2, size=6).tolist()
    [0, 0, 1, 0, 1, 1]
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, int(stream), *words])))


@lru_cache(maxsize=64)  # every cell and every check asks for its own again
def teacher(design: Design, m: int, code: int) -> Teacher:
    """Teacher ``code`` of the models with ``m`` visible and ``m`` hidden spins; its arrays are read-only.

    Examples
    --------
    >>> planted = teacher(Design(), 4, 2)
    >>> planted.couplings.shape, int(np.linalg.matrix_rank(planted.couplings)), round(float(planted.law.sum()), 12)
    ((4, 4), 2, 1.0)
    """
    if not 1 <= code <= m:
        raise ValueError(f"code must lie in 1..{m}, since {m} spins hold {m} independent patterns at most; got {code!r}")
    draws = generator(design.seed, Stream.TEACHER, m, code)
    while True:
        visible: Floats = np.where(draws.integers(0, 2, size=(m, code)) == 0, 1.0, -1.0)
        hidden: Floats = np.where(draws.integers(0, 2, size=(m, code)) == 0, 1.0, -1.0)
        if np.linalg.matrix_rank(visible) == np.linalg.matrix_rank(hidden) == code:
            break
    couplings = design.teacher.beta / m * (visible @ hidden.T)
    law = visible_law(couplings)
    for array in (couplings, law, visible, hidden):
        array.flags.writeable = False
    return Teacher(code, couplings, law, visible, hidden)


def teachers(design: Design, m: int) -> tuple[Teacher, ...]:
    """All teachers that one network is trained on, codes 1, 2, ... in order."""
    return tuple(teacher(design, m, code) for code in range(1, design.teacher.codes + 1))
