"""Q against the window, with its two asymptotes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thermokernels.common import arguments
from thermokernels.plot.style import COLOURS, DASHES, FAINT, MARKERS, axes_of, captioned
from thermokernels.quantities.windows.operational_q import OperationalCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def windows(curve: OperationalCurve, *, ax: Axes | None = None, caption: bool = True) -> Axes:
    """Q of a window of samples against its length, a line a burn-in, beside K |g|^2 / (2 T_O) and K |g|^2 / V.

    Parameters
    ----------
    curve : OperationalCurve, as :func:`thermokernels.operational_curve` makes it
    ax, caption : as in :func:`thermokernels.plot.disconnectivity`

    Raises
    ------
    ValueError
        Something else than a curve. ModuleNotFoundError: matplotlib is missing.

    Examples
    --------
    >>> import thermokernels as tk
    >>> curve = tk.operational_curve(tk.gibbs_chain([[0.4], [0.1]]), [0.5, 0.2, 0.1, 0.2], windows=[1, 10, 100])
    >>> ax = tk.plot.windows(curve)  # doctest: +SKIP
    """
    if not isinstance(curve, OperationalCurve):
        raise ValueError(f"curve must be an OperationalCurve, as operational_curve makes it; got {arguments.in_brief(curve)}")
    order = curve.windows.argsort()
    lengths = curve.windows[order]
    with axes_of(ax, 3.8) as ax:
        ax.axhline(1.0, color=FAINT, linewidth=0.8)
        for values, dash, label in ((curve.q_struct, DASHES[1], "K |g|² / (2 T_O)"), (curve.q_limit, DASHES[3], "K |g|² / V")):
            ax.plot(lengths, values[order], color=COLOURS[4], linestyle=dash, linewidth=1.4, label=label)
        for k, burn_in in enumerate(curve.burn_ins):
            label = "exact" if len(curve.burn_ins) == 1 else f"exact, after {burn_in:g} sweeps of burn-in"
            style: dict[str, Any] = {"color": COLOURS[k % 4], "marker": MARKERS[k % 5], "markersize": 4.5, "linewidth": 1.6}
            ax.plot(lengths, curve.value[order, k], label=label, **style)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("window (sweeps)")
        ax.set_ylabel("Q")
        ax.legend()
        return captioned(ax, "windows", caption)
