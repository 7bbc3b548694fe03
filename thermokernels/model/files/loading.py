"""A model or a training in a file: our own formats, and those of other libraries."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path
from typing import Any

from thermokernels.common import arguments
from thermokernels.common.error_state import default_error_state
from thermokernels.model.files import machine_files
from thermokernels.model.files.machine_files import CONVENTIONS, in_convention
from thermokernels.model.files.model_files import SUFFIXES, read_arrays, read_model
from thermokernels.model.model import Model

STACKS = (".npz", ".npy")


@default_error_state
def load_model(path: str | PathLike[str], convention: str | None = None) -> Model:
    """The model in a file; nothing that it holds is executed.

    ========================  ==========================================================================================
    ``.npy``, ``.csv``        W, one row a visible spin
    ``.npz``                  W, and optionally b, c, the kernel, and the names of the spins: arrays ``visible`` and ``hidden`` of words
                              or whole numbers. :meth:`Model.save` writes these
    ``.h5``, ``.hdf5``        a training of the package rbms: the last of its groups ``update_N`` (needs h5py)
    ``.pt``, ``.pth``         a state dict of PyTorch with W, b, c, or weight_matrix, vbias, hbias as rbms has them
    ``.skops``                a ``BernoulliRBM`` of scikit-learn (needs skops)
    ========================  ==========================================================================================

    Pickles are never loaded: state dicts are read with ``weights_only``, models of scikit-learn through skops.

    Parameters
    ----------
    path : of a file whose name ends in one of these
    convention : "pm1" or "zero-one", optional
        Whether the parameters in the file are those of spins +1 and -1 or of units 0 and 1, E = -v'W h - b'v - c'h in both
        (:func:`from_zero_one` converts the latter). Of files that say it themselves (rbms, scikit-learn) it is not needed; a state dict
        with the names of rbms does not say it, and is refused without; W, b and c are those of spins where nothing is said.

    Raises
    ------
    ValueError, OSError
        One sentence that names the file, what is there and what is wanted.

    Examples
    --------
    >>> import tempfile
    >>> import thermokernels as tk
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tk.Model([[0.5, -0.2]], c=[0.1, 0.0]).save(f"{folder}/model.npz")
    ...     tk.load_model(f"{folder}/model.npz")
    Model(1 visible + 2 hidden spins, couplings up to 0.5, fields up to 0.1)
    """
    convention = None if convention is None else arguments.as_choice(convention, CONVENTIONS, "convention")
    if isinstance(path, str | PathLike) and Path(path).suffix.lower() in machine_files.READERS:
        (model,) = machine_files.read_machines(Path(path), f"the model file {path}", convention, last=True).values()
        return model
    what, content = read_model(path)
    return in_convention(what, convention, **content)


@default_error_state
def load_history(path: str | PathLike[str], convention: str | None = None) -> dict[str, Model]:
    """The models of a training by the names of their checkpoints, in their order.

    ========================  ==========================================================================================
    ``.npz``, ``.npy``        W of shape (T, n_v, n_h), optionally b (T, n_v) and c (T, n_h); checkpoints are numbered
    ``.h5``, ``.hdf5``        of the package rbms: all of its groups ``update_N`` (needs h5py)
    ``.pt``, ``.skops``       one model, as :func:`load_model` reads it
    a folder                  a file a checkpoint, of any of these kinds or those of :func:`load_model`, in the order of the numbers in
                              their names
    ========================  ==========================================================================================

    Parameters
    ----------
    path : of a file or of a folder
    convention : "pm1" or "zero-one", optional
        As in :func:`load_model`, for all models of the training.

    Raises
    ------
    ValueError, OSError
        One sentence that names the file, what is there and what is wanted.
    """
    convention = None if convention is None else arguments.as_choice(convention, CONVENTIONS, "convention")
    if not isinstance(path, str | PathLike):
        raise ValueError(f"path must be the name of a file or of a folder; got {arguments.in_brief(path)}")
    path = Path(path)
    return _folder(path, convention) if path.is_dir() else _file(path, convention)


def _file(path: Path, convention: str | None) -> dict[str, Model]:
    what, suffix = f"the history {path}", path.suffix.lower()
    if suffix not in {*STACKS, *machine_files.READERS}:
        kinds = ", ".join((*STACKS, *machine_files.READERS))
        raise ValueError(f"{what}: it must be a folder, or its name must end in {kinds}")
    if not path.exists():
        raise ValueError(f"{what}: there is no such file")
    if suffix in machine_files.READERS:
        return machine_files.read_machines(path, what, convention, last=False)
    return _stack(path, what, convention)


def _folder(path: Path, convention: str | None) -> dict[str, Model]:
    """A checkpoint for each file, in the order of the numbers in the names."""
    kinds = dict.fromkeys((*SUFFIXES, *machine_files.READERS))
    files = sorted((file for file in path.iterdir() if file.suffix.lower() in kinds), key=_by_number)
    if not files:
        raise ValueError(f"the history {path}: the folder must hold model files ({', '.join(kinds)}); it holds none")
    models: dict[str, Model] = {}
    for file in files:
        single = file.suffix.lower() in SUFFIXES
        for name, model in ({"0": load_model(file, convention)} if single else _file(file, convention)).items():
            models[file.stem if name == "0" else f"{file.stem}/{name}"] = model
    return models


def _by_number(file: Path) -> list[Any]:
    """``epoch10`` behind ``epoch9``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]


def _stack(path: Path, what: str, convention: str | None) -> dict[str, Model]:
    arrays = read_arrays(path, what)
    if path.suffix == ".npy":
        arrays = {"W": arrays["array"]}
    if "W" not in arrays or not set(arrays) <= {"W", "b", "c"}:
        raise ValueError(f"{what}: it must hold W and may hold b and c; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    W = arrays["W"]
    if W.ndim != 3 or not len(W):
        raise ValueError(f"{what}: W must have shape (T, n_v, n_h), one model a checkpoint; got shape {W.shape}")
    for name in ("b", "c"):
        if name in arrays and (arrays[name].ndim != 2 or len(arrays[name]) != len(W)):
            raise ValueError(f"{what}: {name} must have a row for each of the {len(W)} checkpoints; got shape {arrays[name].shape}")
    parts = [[arrays[name][t] if name in arrays else None for name in ("W", "b", "c")] for t in range(len(W))]
    return {str(t): in_convention(what, convention, *parts[t]) for t in range(len(W))}
