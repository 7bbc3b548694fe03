"""How the systems behind a quantity are to be solved: what public functions take as keywords, as one object below them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypedDict

from thermokernels.common import arguments, tolerances
from thermokernels.solvers.checkpoint import Kept, PathLike

SOLVERS = ("auto", "cholesky", "cg")
METHODS = (*SOLVERS, "reduction")

# of solves done and solves in all
Progress = Callable[[int, int], object]


def as_executor(value: object) -> Executor | None:
    """An executor, or None for this process; else ValueError."""
    if value is not None and not isinstance(value, Executor):
        raise ValueError(f"executor must be a concurrent.futures.Executor or None; got {arguments.in_brief(value)}")
    return value


@dataclass(frozen=True)
class Solve:
    """One computation's choices, checked once.

    Attributes
    ----------
    method : "auto", "cholesky", "cg" or "reduction"
    rtol : largest accepted relative residual of Cholesky and conjugate gradients
    progress : called as ``progress(done, total)``, or None
    checkpoint : of a file that keeps finished blocks, or None
    executor : whose tasks the blocks are, or None for this process
    accuracy : largest relative error of the value, proven, for which a solve may stop before ``rtol``; None to solve to ``rtol``
    stop : relative residual, at least ``rtol``, at which a solve with an accuracy stops; None for what is enough for the value
    kept : what holds finished blocks in place of a file, or None

    Raises
    ------
    ValueError
        One sentence that names the keyword.
    """

    method: str = "auto"
    rtol: float = tolerances.SOLVE
    progress: Progress | None = None
    checkpoint: PathLike | None = None
    executor: Executor | None = None
    accuracy: float | None = None
    stop: float | None = None
    kept: Kept | None = None

    def __post_init__(self) -> None:
        arguments.as_choice(self.method, METHODS, "method")
        object.__setattr__(self, "rtol", arguments.as_positive(self.rtol, "rtol", "relative residual"))
        if self.rtol >= 1.0:  # z = 0 would do
            raise ValueError(f"rtol must be below 1, a relative residual; got {self.rtol:g}")
        arguments.as_callback(self.progress, "progress")
        arguments.as_path(self.checkpoint, "checkpoint")
        as_executor(self.executor)
        if self.accuracy is not None:
            object.__setattr__(self, "accuracy", arguments.as_positive(self.accuracy, "accuracy", "relative error"))
            if self.accuracy >= 1.0:
                raise ValueError(f"accuracy must be below 1, a relative error of the value; got {self.accuracy:g}")


AUTOMATIC = Solve()


class Options(TypedDict, total=False):
    """The keywords of :class:`Solve`, for signatures that pass them on."""

    method: str
    rtol: float
    progress: Progress | None
    checkpoint: PathLike | None
    executor: Executor | None
