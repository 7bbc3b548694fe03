"""The pseudo-likelihood of data: how well each visible spin is predicted by the others. For models of any size."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import arguments
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.model.model import Model, ModelLike, as_model, require_finite_energies

# Samples that are looked at together take so many numbers.
TERMS_AT_ONCE = 2**22


@default_error_state
@default_error_state
def pseudo_likelihood(model: ModelLike, samples: ArrayLike) -> float:
    """Mean over samples of sum_i log p(v_i | all other visible spins), in nats a sample; 0 is the best, -n_v log 2 is that of coin flips.

    With the free energy F(v) = -b'v - sum_j log 2 cosh(F_j(v)), hidden spins summed out, and v^i = v with spin i flipped,

        log p(v_i | v_-i) = -log(1 + exp(F(v) - F(v^i))).

    Parameters
    ----------
    model : Model, or couplings W (n_v, n_h)
    samples : (n, n_v) spins +1 and -1

    Raises
    ------
    ValueError
        Bad arguments.

    References
    ----------
    Besag, The Statistician 24 (1975) 179.

    Examples
    --------
    >>> import thermokernels as tk
    >>> round(tk.pseudo_likelihood([[0.0], [0.0]], [[1, -1]]), 6)  # two coins
    -1.386294
    """
    checked = as_model(model)
    require_finite_energies(checked)
    spins = arguments.as_samples(samples)
    n_visible, n_hidden = checked.W.shape
    if spins.shape[1] != n_visible:
        raise ValueError(f"samples must have a column for each of the {n_visible} visible spins; got shape {spins.shape}")
    rows = max(1, TERMS_AT_ONCE // (n_visible * n_hidden))
    total = sum(_log_conditionals(checked, spins[first : first + rows]) for first in range(0, len(spins), rows))
    return float(total / len(spins))


def _log_conditionals(model: Model, spins: Floats) -> float:
    """The sum over samples and spins of log p(v_i | v_-i)."""
    fields = spins @ model.W + model.c  # (n, n_h)
    flipped = fields[:, None, :] - 2 * spins[:, :, None] * model.W  # (n, n_v, n_h)
    gain = 2 * spins * model.b + _log_two_cosh(fields).sum(axis=1)[:, None] - _log_two_cosh(flipped).sum(axis=2)
    return float(-np.logaddexp(0.0, -gain).sum())


def _log_two_cosh(values: Floats) -> Floats:
    return np.logaddexp(values, -values)
