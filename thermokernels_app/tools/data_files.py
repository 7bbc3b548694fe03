"""Samples and traces in files of one's own: .npy and .csv, read without executing anything that they hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from thermokernels import law_of_samples
from thermokernels.common.arguments import as_samples
from thermokernels.common.arrays import Floats
from thermokernels.model.files.model_files import read_array


def read_data_law(path: Path, n_visible: int) -> Floats:
    """The empirical law (2**n_v,) of a file with samples of the visible spins, (n, n_v), +1 and -1; .npy or .csv.

    Raises
    ------
    ValueError, OSError
        As :func:`thermokernels.load_model`.
    """
    return _as(path, n_visible, law_of_samples)


def read_samples(path: Path, n_visible: int) -> Floats:
    """The samples themselves, (n, n_v), +1 and -1, of a model of any size; else as :func:`read_data_law`."""
    return _as(path, n_visible, as_samples)


def _as(path: Path, n_visible: int, convert: Callable[[Any], Floats]) -> Floats:
    what = f"the samples file {path}"
    samples = read_array(path, what, ".npy or .csv")
    if np.ndim(samples) == 2 and samples.shape[0] and samples.shape[1] != n_visible:
        raise ValueError(
            f"{what}: samples must have one column a visible spin, {n_visible} of them (the rows of W; components_ of scikit-learn are "
            f"hidden x visible, and from_scikit_learn turns them); got shape {samples.shape}"
        )
    try:
        return convert(samples)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def read_trace(path: Path) -> Any:
    """The array of a trace file: .npy, or .csv with a series, one chain a row.

    Raises
    ------
    ValueError, OSError
        As :func:`thermokernels.load_model`.
    """
    return read_array(path, f"the trace file {path}", ".npy or .csv")
