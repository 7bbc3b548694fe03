"""rho(t) of the gradient observables: exact, and what a run of samples makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thermokernels.common import arguments
from thermokernels.common.arrays import Floats
from thermokernels.model.chain import GibbsChain, as_chain
from thermokernels.plot.style import COLOURS, FAINT, MARKERS, axes_of, captioned
from thermokernels.quantities.autocorrelation_times.autocorrelation_function import autocorrelation_function
from thermokernels.sampling.samples import Samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def autocorrelation(
    chain: GibbsChain, sweeps: float, samples: Samples | None = None, *, ax: Axes | None = None, caption: bool = True
) -> Axes:
    """rho(t) of all v_i h_j together, exact, and estimated beside it.

    Parameters
    ----------
    chain : GibbsChain
    sweeps : the last lag
    samples : of the same kernel (:func:`thermokernels.sample`), whose estimate is drawn beside the exact one
    ax, caption : as in :func:`thermokernels.plot.disconnectivity`

    Raises
    ------
    ValueError
        Bad arguments; samples of another kernel or model. ModuleNotFoundError: matplotlib is missing.

    Examples
    --------
    >>> import thermokernels as tk
    >>> chain = tk.gibbs_chain([[0.5, -0.2], [0.1, 0.3]])
    >>> samples = tk.sample(chain.model, n_chains=4, n_sweeps=500, kernel="single-site", seed=0)
    >>> ax = tk.plot.autocorrelation(chain, 20, samples)  # doctest: +SKIP
    """
    chain, steps = as_chain(chain), as_chain(chain).steps_per_sweep
    exact = autocorrelation_function(chain, max(1, round(arguments.as_positive(sweeps, "sweeps", "sweeps") * steps)))
    with axes_of(ax, 3.6) as ax:
        ax.axhline(0.0, color=FAINT, linewidth=0.8)
        ax.plot(np.arange(exact.size) / steps, exact, color=COLOURS[0], linewidth=1.8, label="exact")
        if samples is not None:
            lags, estimated = estimated_autocorrelation(chain, sweeps, samples)
            n_records, n_chains = samples.visible.shape[:2]
            words = f"estimated, {n_chains} chains of {n_records} records"
            ax.plot(lags, estimated, MARKERS[1], color=COLOURS[1], markersize=4.5, label=words)
        ax.set_xlabel("lag t (sweeps)")
        ax.set_ylabel("ρ(t)")
        ax.legend()
        return captioned(ax, "autocorrelation", caption)


def estimated_autocorrelation(chain: GibbsChain, sweeps: float, samples: Samples) -> tuple[Floats, Floats]:
    """Lags in sweeps and sum_ij of the covariances of v_i h_j over sum_ij of the variances, every chain about its own mean."""
    if not isinstance(samples, Samples):
        raise ValueError(f"samples must be Samples, as thermokernels.sample makes them; got {arguments.in_brief(samples)}")
    if samples.kernel != chain.kernel:
        raise ValueError(f"samples must be of the {chain.kernel} kernel, whose correlations are drawn; they are of {samples.kernel}")
    if (found := (samples.n_visible, samples.n_hidden)) != chain.weights.shape:
        raise ValueError(f"samples must be of a model of shape {chain.weights.shape}; they are of {found}")
    n_records = len(samples.visible)
    if n_records < 2:
        raise ValueError(f"samples must have two records a chain at least; they have {n_records}")
    spins, spacing = samples.unpacked(), int(samples.sweeps[1] - samples.sweeps[0])
    products = np.einsum("tci,tcj->tcij", spins.visible.astype(np.float64), spins.hidden.astype(np.float64))
    products -= products.mean(axis=0)
    last = min(n_records - 1, int(sweeps // spacing))
    covariances = [np.vdot(products[: n_records - lag], products[lag:]) / n_records for lag in range(last + 1)]
    if not covariances[0] > 0.0:
        raise ValueError("samples must vary for an estimate of their correlations; no v_i h_j of them does")
    return spacing * np.arange(last + 1, dtype=np.float64), np.array(covariances) / covariances[0]
