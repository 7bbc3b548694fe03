"""What can go wrong that is not a wrong argument (those are ``ValueError``); tracebacks show the public names."""

import sys


class NumericalError(ArithmeticError):
    """A number could not be computed to its tolerance; none is returned."""

    __module__ = "thermokernels"


class NotConvergedError(NumericalError):
    """An iterative or direct solve missed its residual tolerance."""

    __module__ = "thermokernels"


class UnresolvedError(NumericalError):
    """A gap, weight or law is too small to be resolved in float64."""

    __module__ = "thermokernels"


class ConstantError(UnresolvedError):
    """A function does not vary under the law as float64 has it: no slowness of the chain, but nothing to correlate."""


class NotReversibleError(NumericalError):
    """The kernel violates detailed balance where reversibility is required (assumption A2)."""

    __module__ = "thermokernels"


class ExecutorError(RuntimeError):
    """An executor did not do a task: a worker died, a connection broke or a result cannot be read; the message says which task."""

    __module__ = "thermokernels"


def why_lost(error: Exception) -> str:
    """Why an executor lost a task, in one line; of a pool of processes that a script starts while it is read, what the script lacks."""
    reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    if type(error).__name__ == "BrokenProcessPool" and hasattr(sys.modules.get("__main__"), "__file__"):
        reason += "; workers read the script again: what it does must stand under if __name__ == '__main__':"
    return reason


class ModelTooLargeError(ValueError):
    """The request does not fit into this machine's memory; the message says what it would take."""

    __module__ = "thermokernels"
