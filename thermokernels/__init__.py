"""Exact trainability of restricted Boltzmann machines on Gibbs samplers: couplings in, numbers out.

Conventions, once, for every file
---------------------------------
Spins are +1 and -1; visible v, hidden h, x = (v, h), N = n_v + n_h. A state is an integer whose bit i is spin i, visible spins
first, and spin = 1 - 2 * bit. Arrays over states reshape to ``[hidden configuration, visible configuration]``.
The energy is E(x) = -v'W h - b'v - c'h and pi(x) = exp(-E(x)) / Z: the inverse temperature is absorbed in W, b and c.
Rows of P sum to one. One step is one application of P, one sweep resamples every spin once on average: N steps of the single-site kernel,
two of "two-block", one of the alternating scans; every time says which of the two it is in.
Without fields x and -x are one state of the quotient chain (the one whose last spin is +1); ``law`` then sums to one over the pairs.
Autocorrelation sums count both sides of lag zero: T_O = sum_(t >= 0) of the covariances, and 2 T_O / Var - 1 is 1 + 2 sum rho.

Bad arguments raise ``ValueError``; a number that cannot be had to its tolerance raises a ``NumericalError``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thermokernels.public import *  # noqa: F403
    from thermokernels.public import __version__ as __version__
else:

    def __getattr__(name: str) -> Any:
        """A public name, or a room: all are imported when the first is asked for. A single module, such as errors, needs no other."""
        if name.startswith("__") and name not in {"__all__", "__version__"}:
            raise AttributeError(name)
        public = import_module("thermokernels.public")
        try:
            return getattr(public, name) if hasattr(public, name) else globals()[name]
        except KeyError:
            raise AttributeError(f"module 'thermokernels' has no attribute {name!r}") from None

    def __dir__() -> list[str]:
        return sorted({*globals(), *import_module("thermokernels.public").__all__})
