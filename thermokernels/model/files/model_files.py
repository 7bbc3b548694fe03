"""Models in files of one's own: .npy, .npz and .csv, read without executing anything that they hold."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from thermokernels.common import arguments
from thermokernels.common.arrays import Array
from thermokernels.common.atomic_file import replacing
from thermokernels.model.files.text_numbers import read_numbers

FORMATS = ".npy, .npz or .csv"
# Of all files that hold a model, those of other packages too.
READABLE = ".npy, .npz, .csv, .h5, .hdf5, .pt, .pth or .skops"
SUFFIXES = (".npy", ".npz", ".csv")
NUMBERS, NAMES, KERNEL = ("W", "b", "c", "mask"), ("visible", "hidden"), "kernel"
MAGIC = (b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")  # of .npy, and of .npz with arrays and without


def read_model(path: str | PathLike[str]) -> tuple[str, dict[str, Any]]:
    """What an error about the file begins with, and its arrays by the names of :class:`thermokernels.Model`.

    .npy and .csv hold W, one row a visible spin; .npz holds W and optionally b, c, mask, visible, hidden and kernel.

    Raises
    ------
    ValueError, OSError
        One sentence that names the file, what is there and what is wanted.
    """
    path = _as_path(path)
    what = f"the model file {path}"
    arrays = read_arrays(path, what) if path.suffix == ".npz" else {"W": read_array(path, what, READABLE)}
    if "W" not in arrays or not set(arrays) <= {*NUMBERS, *NAMES, KERNEL}:
        raise ValueError(f"{what}: it must hold W and may hold b, c, mask, visible, hidden and kernel; it holds {_names(arrays)}")
    for name in NAMES:
        if name in arrays:
            if arrays[name].ndim != 1 or arrays[name].dtype.kind not in "Ui":
                raise ValueError(
                    f"{what}: {name} must be a list of words or of whole numbers; "
                    f"got shape {arrays[name].shape} and dtype {arrays[name].dtype}"
                )
            arrays[name] = arrays[name].tolist()
    if KERNEL in arrays:
        arrays[KERNEL] = arrays[KERNEL].tolist()
    return what, arrays


def write_model(path: str | PathLike[str], content: Mapping[str, Any]) -> None:
    """Write what :func:`read_model` reads, W and what else there is; raises as :meth:`thermokernels.Model.save`."""
    path = _as_path(path)
    arrays: dict[str, Any] = {name: _as_array(value, name) if name in NAMES else value for name, value in content.items()}
    if path.suffix not in SUFFIXES:
        raise ValueError(f"path must end in {FORMATS}; got {arguments.in_brief(str(path))}")
    if path.suffix != ".npz" and len(arrays) > 1:
        raise ValueError(f"path must end in .npz for a model with {' and '.join(list(arrays)[1:])}: {path.suffix} holds W alone")
    with replacing(path) as file:
        if path.suffix == ".npz":
            np.savez(file, **arrays)
        elif path.suffix == ".npy":
            np.save(file, arrays["W"])
        else:
            file.writelines(f"{','.join(map(repr, row))}\n".encode() for row in arrays["W"].tolist())


def _as_path(path: object) -> Path:
    if not isinstance(path, str | PathLike):
        raise ValueError(f"path must be the name of a file; got {arguments.in_brief(path)}")
    return Path(path)


def _as_array(names: Sequence[Hashable], argument: str) -> Array:
    """Names as NumPy keeps them without pickling; they come back as they were."""
    if all(type(name) is str for name in names) or all(type(name) is int for name in names):
        array = np.array(names)
        if array.dtype.kind in "Ui" and array.tolist() == list(names):
            return array
    raise ValueError(f"{argument} must be all words or all whole numbers to be kept in a file; got {arguments.in_brief(names)}")


def read_array(path: Path, what: str, formats: str) -> Any:
    """The one array of a .npy or .csv file."""
    if path.suffix == ".csv":
        _require_file(path, what)
        return read_numbers(path, what)
    if path.suffix == ".npy":
        return read_arrays(path, what)["array"]
    raise ValueError(f"{what}: its name must end in {formats}")


def _names(arrays: dict[str, Any]) -> str:
    names = sorted(arrays)
    shown = ", ".join(name if name.isidentifier() else arguments.in_brief(name) for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown or "nothing"


def _require_file(path: Path, what: str) -> None:
    if not path.is_file():
        raise ValueError(f"{what}: it must be a file; {'it is a folder' if path.is_dir() else 'there is none'}")


def read_arrays(path: Path, what: str) -> dict[str, Any]:
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
