"""Along a training: Q checkpoint by checkpoint, and the divergence of every code of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import arguments
from thermokernels.estimates.track import Track
from thermokernels.plot.style import COLOURS, DASHES, FAINT, INK, MARKERS, axes_of, captioned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Divergences below rounding are drawn there.
LEAST_DIVERGENCE = 1e-16


def track(history: Track, *, ax: Axes | None = None, caption: bool = True) -> Axes:
    """Q along a training, with the interval of every checkpoint; what is not to be trusted is a hollow marker.

    Parameters
    ----------
    history : Track, as :func:`thermokernels.track` and a :class:`thermokernels.Tracker` make it
    ax, caption : as in :func:`thermokernels.plot.disconnectivity`

    Raises
    ------
    ValueError
        Something else than a track. ModuleNotFoundError: matplotlib is missing.

    Examples
    --------
    >>> import numpy as np, thermokernels as tk
    >>> data = tk.sample(0.5 * np.eye(3), n_chains=100, n_sweeps=10, seed=0).visible[-1]
    >>> ax = tk.plot.track(tk.track([0.1 * np.eye(3), 0.4 * np.eye(3)], data))  # doctest: +SKIP
    """
    if not isinstance(history, Track):
        raise ValueError(f"history must be a Track, as thermokernels.track makes it; got {arguments.in_brief(history)}")
    places = np.arange(len(history.rows))
    with axes_of(ax, 3.8) as ax:
        ax.axhline(1.0, color=FAINT, linewidth=0.8)
        for k, method in enumerate(("exact", "estimated")):
            chosen = [place for place in places if history.rows[place].method == method]
            if not chosen:
                continue
            rows = [history.rows[place] for place in chosen]
            values = np.array([row.value for row in rows])
            # an interval may be without end, or hold what no logarithm has
            low = np.array([max(row.interval[0], 1e-3 * abs(row.value)) for row in rows])
            high = np.array([row.interval[1] if np.isfinite(row.interval[1]) else 1e3 * abs(row.value) for row in rows])
            ax.vlines(chosen, low, high, color=COLOURS[k], linewidth=1.4)
            ax.plot(chosen, values, color=COLOURS[k], linestyle=DASHES[k], linewidth=1.0)
            for trusted, fill in ((True, COLOURS[k]), (False, "none")):
                at = [i for i, row in enumerate(rows) if row.trusted is trusted]
                if at:
                    label = method if trusted else f"{method}, not to be trusted"
                    where = [chosen[i] for i in at]
                    ax.plot(where, values[at], MARKERS[k], color=COLOURS[k], markerfacecolor=fill, markersize=6, label=label)
        ax.set_yscale("log")
        shown = places[:: max(1, -(-len(places) // 12))]
        ax.set_xticks(shown, [history.rows[place].name for place in shown])
        ax.set_xlabel("checkpoint")
        ax.set_ylabel(f"Q at {history.window:g} sweeps")
        ax.legend()
        return captioned(ax, "track", caption, window=history.window, kernel=history.kernel)


def divergences(
    curves: ArrayLike, checkpoints: Sequence[float] = (), limit: float | None = None, *, ax: Axes | None = None, caption: bool = True
) -> Axes:
    """The divergence of every code of a network along its training.

    Parameters
    ----------
    curves : (n_steps + 1, n_codes) KL in nats; checkpoints : steps that are marked
    limit : a divergence that is marked, or None
    ax, caption : as in :func:`thermokernels.plot.disconnectivity`

    Raises
    ------
    ValueError
        Curves of another shape. ModuleNotFoundError: matplotlib is missing.

    Examples
    --------
    >>> import thermokernels as tk
    >>> ax = tk.plot.divergences([[1.0, 0.9], [0.5, 0.8], [0.2, 0.7]], checkpoints=[2], limit=0.3)  # doctest: +SKIP
    """
    table = np.asarray(curves, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"curves must have shape (n_steps + 1, n_codes); got shape {table.shape}")
    with axes_of(ax, 3.4) as ax:
        for k, curve in enumerate(table.T):
            line: dict[str, Any] = {"color": COLOURS[k % 5], "linestyle": DASHES[k % 5], "linewidth": 1.1}
            ax.plot(np.maximum(curve, LEAST_DIVERGENCE), label=f"code {k}", **line)
        for step in checkpoints:
            ax.axvline(step, color=FAINT, linewidth=0.7, zorder=0)
        if limit is not None:
            ax.axhline(limit, color=INK, linewidth=0.6, linestyle=(0, (1, 3)))
        ax.set_yscale("log")
        ax.set_xscale("symlog", linthresh=10)
        if caption:
            ax.set_xlabel("step")
            ax.set_ylabel("KL (nats)")
            ax.legend()
        return captioned(ax, "divergences", caption)
