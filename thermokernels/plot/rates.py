"""The spectral measure: how much of the gradient's variance relaxes at which rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thermokernels.common import arguments
from thermokernels.common.arrays import Floats
from thermokernels.common.digits import certified
from thermokernels.plot.style import COLOURS, DASHES, INK, MARKERS, axes_of, captioned
from thermokernels.quantities.spectral_measure import CLUSTER_SPREAD, SpectralMeasure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Modes that carry less of the variance than this are not drawn.
VISIBLE_SHARE = 1e-8
# More modes than this beside the cluster are a bulk, drawn as its density in so many bins.
BULK, BINS = 32, 24


def spectrum(measure: SpectralMeasure, *, ax: Axes | None = None, caption: bool = True) -> Axes:
    """The spectral measure of the gradient observables: single modes as stems, a bulk of more than 32 modes as its density.

    Parameters
    ----------
    measure : SpectralMeasure
    ax, caption : as in :func:`thermokernels.plot.disconnectivity`

    Raises
    ------
    ValueError
        Something else than a spectral measure. ModuleNotFoundError: matplotlib is missing.

    Examples
    --------
    >>> import thermokernels as tk
    >>> ax = tk.plot.spectrum(tk.spectral_measure(tk.gibbs_chain([[0.5, -0.2], [0.1, 0.3]])))  # doctest: +SKIP
    """
    if not isinstance(measure, SpectralMeasure):
        raise ValueError(f"measure must be a SpectralMeasure, as spectral_measure(chain) makes it; got {arguments.in_brief(measure)}")
    shares = measure.weights / measure.weights.sum()
    rates = per_sweep(measure.gaps, measure.steps_per_sweep)
    slowest = float(per_sweep(np.array([measure.relevant_gap]), measure.steps_per_sweep)[0])
    relevant = shares > 1e-12
    seen, cluster = relevant & (shares > VISIBLE_SHARE), relevant & (rates <= CLUSTER_SPREAD * slowest)
    rest, logarithmic = seen & ~cluster, slowest < 0.1
    with axes_of(ax, 3.6) as ax:
        ax.axvspan(slowest, min(CLUSTER_SPREAD * slowest, 1.0), color=COLOURS[1], alpha=0.14, linewidth=0)
        drawn = [(seen & cluster, COLOURS[1], MARKERS[3], "the cluster C*: up to 3 times the slowest")]
        if np.count_nonzero(rest) > BULK:
            edges, density = bulk_density(rates[rest], shares[rest], logarithmic)
            unit = "decade" if logarithmic else "unit of the rate"
            words = f"density of the other {np.count_nonzero(rest)} modes (share per {unit})"
            ax.stairs(density, edges, baseline=VISIBLE_SHARE, fill=True, color=COLOURS[0], alpha=0.55, label=words)
        else:
            drawn.insert(0, (rest, COLOURS[0], MARKERS[0], "other modes"))
        for mask, colour, marker, label in drawn:
            ax.vlines(rates[mask], VISIBLE_SHARE, shares[mask], color=colour, linewidth=0.8)
            ax.plot(rates[mask], shares[mask], marker, color=colour, markersize=4.5, label=label)
        words = certified(measure.gamma_eff, measure.gamma_eff * measure.gamma_eff_error, 3)
        ax.axvline(measure.gamma_eff, color=INK, linestyle=DASHES[1], linewidth=1.0, label=f"γ_eff = {words} per sweep")
        if logarithmic:
            ax.set_xscale("log")
        else:
            ax.set_xlim(0, 1.03)
        ax.set_yscale("log")
        ax.set_ylim(VISIBLE_SHARE, 2e3)  # room for the legend
        ax.set_yticks([1e-8, 1e-6, 1e-4, 1e-2, 1.0])
        ax.minorticks_off()
        ax.set_xlabel("gap 1 − σᴺ (per sweep)")
        ax.set_ylabel("share of the variance")
        ax.legend(loc="upper left")
        return captioned(ax, "spectrum", caption)


def per_sweep(gaps: Floats, steps_per_sweep: int) -> Floats:
    """1 - (1 - gap)^N of gaps per step, at most one."""
    with np.errstate(divide="ignore"):
        rates: Floats = -np.expm1(steps_per_sweep * np.log1p(-np.minimum(gaps, 1.0)))
    return rates


def bulk_density(rates: Floats, shares: Floats, logarithmic: bool) -> tuple[Floats, Floats]:
    """Edges (BINS + 1,) of equal width, in the rate or in its decimal logarithm, and the share of the variance per unit of that."""
    places = np.log10(rates) if logarithmic else rates
    low, high = float(places.min()), float(places.max())
    margin = 1e-6 + 1e-3 * (high - low)
    sums, edges = np.histogram(places, BINS, (low - margin, high + margin), weights=shares)
    return (10.0**edges if logarithmic else edges), sums / np.diff(edges)
