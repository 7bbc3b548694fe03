"""NumPy's floating-point error state inside of this package is NumPy's default, whatever the caller has set.

``np.seterr(all="raise")`` in a caller's program would make an exception of every probability that underflows to the zero that it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def default_error_state(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """The function in NumPy's default state: underflow is ignored, the rest warns.

    ``np.errstate`` does not serve as a decorator: before NumPy 2 it is not re-entrant.
    """

    @wraps(function)
    def within(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
            return function(*args, **kwargs)

    return within
