"""Pictures of results: each a function that draws on axes, new ones or yours (``ax=``), and returns them; they need matplotlib.

A picture stands alone: it has a title, and beneath it a caption that says what is seen (``caption=False`` leaves both out).
"""

from thermokernels.plot.basins import barriers, disconnectivity
from thermokernels.plot.checks import gradient_errors
from thermokernels.plot.correlations import autocorrelation
from thermokernels.plot.histories import divergences, track
from thermokernels.plot.maps import counts, dimensions, logarithms
from thermokernels.plot.rates import spectrum
from thermokernels.plot.window_lengths import windows

__all__ = [
    "autocorrelation",
    "barriers",
    "counts",
    "dimensions",
    "disconnectivity",
    "divergences",
    "gradient_errors",
    "logarithms",
    "spectrum",
    "track",
    "windows",
]
