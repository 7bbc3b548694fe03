"""Models and samples in files of one's own: .npy, .npz and .csv, read without executing anything that they hold."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from thermokernels import law_of_samples
from thermokernels.common import arguments
from thermokernels.common.arrays import Floats

FORMATS = ".npy, .npz or .csv"
KEYS = ("W", "b", "c")
MAGIC = (b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")  # of .npy, and of .npz with arrays and without


def read_model(path: Path) -> tuple[Floats, Floats | None, Floats | None]:
    """(W, b, c) of a model file, fields None where it has none.

    .npy and .csv hold W, one row a visible spin; .npz holds W and optionally b and c.

    Raises
    ------
    ValueError, OSError
        One sentence that names the file, what is there and what is wanted.
    """
    what = f"the model file {path}"
    arrays = _read(path, what) if path.suffix == ".npz" else {"W": _single(path, what, FORMATS)}
    if "W" not in arrays or not set(arrays) <= set(KEYS):
        raise ValueError(f"{what}: it must hold W and may hold b and c; it holds {_names(arrays)}")
    try:
        weights = arguments.as_couplings(arrays["W"])
        sizes = dict(zip("bc", weights.shape, strict=True))
        b, c = (arguments.as_field(arrays[name], sizes[name], name) if name in arrays else None for name in "bc")
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    return weights, b, c


def read_data_law(path: Path, n_visible: int) -> Floats:
    """The empirical law (2**n_v,) of a file with samples of the visible spins, (n, n_v), +1 and -1; .npy or .csv.

    Raises
    ------
    ValueError, OSError
        As :func:`read_model`.
    """
    what = f"the samples file {path}"
    samples = _single(path, what, ".npy or .csv")
    if np.ndim(samples) == 2 and samples.shape[0] and samples.shape[1] != n_visible:
        raise ValueError(f"{what}: samples must have one column a visible spin, {n_visible} of them; got shape {samples.shape}")
    try:
        return law_of_samples(samples)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def read_trace(path: Path) -> Any:
    """The array of a trace file: .npy, or .csv with a series, one chain a row.

    Raises
    ------
    ValueError, OSError
        As :func:`read_model`.
    """
    return _single(path, f"the trace file {path}", ".npy or .csv")


def _single(path: Path, what: str, formats: str) -> Any:
    """The one array of a .npy or .csv file."""
    if path.suffix == ".csv":
        return _read_csv(path, what)
    if path.suffix == ".npy":
        return _read(path, what)["array"]
    raise ValueError(f"{what}: its name must end in {formats}")


def _names(arrays: dict[str, Any]) -> str:
    names = sorted(arrays)
    shown = ", ".join(name if name.isidentifier() else arguments.in_brief(name) for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown or "nothing"


def _require_file(path: Path, what: str) -> None:
    if not path.is_file():
        raise ValueError(f"{what}: it must be a file; {'it is a folder' if path.is_dir() else 'there is none'}")


def _read(path: Path, what: str) -> dict[str, Any]:
    """The arrays of an .npz file, or of an .npy file under the name ``array``. Pickled objects are refused."""
    _require_file(path, what)
    wanted = f"{what}: it must be a NumPy file of numbers ({path.suffix})"
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what NumPy has to say about files of its early versions
        magic = file.read(6)
        file.seek(0)
        try:
            loaded = np.load(file, allow_pickle=False)
            found = {"array": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
        except Exception as error:  # over damaged files NumPy lets through what its parsers raise: of zip, of zlib, of Python's own syntax
            if not magic.startswith(MAGIC):
                raise ValueError(f"{wanted}; its first bytes are not those of a file that NumPy wrote") from None
            if "allow_pickle" in str(error):
                raise ValueError(f"{wanted}; it holds Python objects, which are not loaded") from None
            raise ValueError(f"{wanted}; it cannot be read: it is damaged ({type(error).__name__})") from None
    if isinstance(loaded, np.ndarray) != (path.suffix == ".npy"):
        raise ValueError(f"{wanted}; what it holds is of the other kind, .npy or .npz")
    return found


def _read_csv(path: Path, what: str) -> Floats:
    """Rows of comma-separated numbers, all of one length; blank lines are skipped."""
    _require_file(path, what)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(number, line) for number, line in enumerate(csv.reader(file), start=1) if any(cell.strip() for cell in line)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{what}: it must be comma-separated numbers; it cannot be read ({type(error).__name__})") from None
    if not lines:
        raise ValueError(f"{what}: it must hold rows of comma-separated numbers; it is empty")
    width = len(lines[0][1])
    values = np.empty((len(lines), width))
    for row, (number, line) in enumerate(lines):
        if len(line) != width:
            raise ValueError(f"{what}: rows must have one length; line {lines[0][0]} has {width} entries and line {number} has {len(line)}")
        for column, cell in enumerate(line):
            try:
                values[row, column] = float(cell)
            except ValueError:
                raise ValueError(
                    f"{what}: it must hold numbers; line {number}, entry {column + 1} is {arguments.in_brief(cell.strip())}"
                ) from None
    return values
