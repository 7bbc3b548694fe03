"""The parity classes of a chain."""

import numpy as np
import pytest

from thermokernels.solvers.parity_classes import _parity


@pytest.mark.small
def test_parity_of_bits():
    numbers = [0, 1, 2, 3, 7, 2**16, 2**16 + 1, 2**31, 2**32 - 1, *np.random.default_rng(0).integers(0, 2**32, 200).tolist()]
    assert [_parity(number) for number in numbers] == [number.bit_count() % 2 for number in numbers]
