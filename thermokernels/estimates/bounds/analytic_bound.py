"""What is proven without a single sample: T_O of the single-site kernel where the couplings are weak."""

from __future__ import annotations

import math

import numpy as np

from thermokernels.common import blas
from thermokernels.model.kernels.registry import KERNELS
from thermokernels.model.model import Model


def variance_time_bound(model: Model, kernel: str, units: str, fields: bool) -> float:
    """An upper bound of T_O in steps: sum_a Var f_a / gap, with gap >= (1 - 2 s_1) / N for the largest singular value s_1 of W below 1/2.

    The bound of the gap holds for the single-site kernel and any fields (Eldan, Koehler and Zeitouni, arXiv 2007.08200); else infinite.
    """
    if not KERNELS[kernel].single_flips:
        return math.inf
    with blas.one_thread():
        largest = float(np.linalg.norm(model.W, 2))
    if not largest < 0.5 - 1e-9:  # rounding of a singular value is far below this
        return math.inf
    n_observables = model.n_couplings + (model.n_spins if fields else 0)
    most = 1.0 if units == "pm1" else 0.25
    return n_observables * most * model.n_spins / (1 - 2 * largest)
