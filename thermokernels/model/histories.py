"""Trainings in files: a model for each checkpoint, read without executing anything that the files hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from thermokernels.common import arguments
from thermokernels.model.importers import MACHINES_OF_RBMS, from_scikit_learn, of_rbms
from thermokernels.model.model import Model, load_model
from thermokernels.model.model_files import SUFFIXES, read_arrays

# Names of the parameters in a state dict of PyTorch: in our conventions, and in those of rbms (units 0 and 1).
STATE_OF_OURS, STATE_OF_RBMS = {"W", "b", "c"}, {"weight_matrix", "vbias", "hbias"}


def load_history(path: str | PathLike[str]) -> dict[str, Model]:
    """The models of a training by the names of their checkpoints, in their order.

    ========================  ==========================================================================================
    ``.npz``, ``.npy``        W of shape (T, n_v, n_h), optionally b (T, n_v) and c (T, n_h); checkpoints are numbered
    ``.h5``, ``.hdf5``        of the package rbms: its groups ``update_N`` (needs h5py)
    ``.pt``, ``.pth``         a state dict of PyTorch with W, b, c, or weight_matrix, vbias, hbias as rbms has them (units 0 and 1)
    ``.skops``                a ``BernoulliRBM`` of scikit-learn (needs skops)
    a folder                  a file a checkpoint, of any of these kinds or those of :func:`thermokernels.load_model`, in the order of
                              the numbers in their names
    ========================  ==========================================================================================

    Pickles are never loaded: state dicts are read with ``weights_only``, models of scikit-learn through skops.

    Raises
    ------
    ValueError, OSError
        One sentence that names the file, what is there and what is wanted.
    """
    if not isinstance(path, str | PathLike):
        raise ValueError(f"path must be the name of a file or of a folder; got {arguments.in_brief(path)}")
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise ValueError(f"the history {path}: it must be a folder, or its name must end in {', '.join(_READERS)}")
    if not path.exists():
        raise ValueError(f"the history {path}: there is no such file")
    return read(path, f"the history {path}")


def _folder(path: Path) -> dict[str, Model]:
    """A checkpoint for each file, in the order of the numbers in the names."""
    files = sorted((file for file in path.iterdir() if file.suffix.lower() in {*SUFFIXES, *_READERS}), key=_by_number)
    if not files:
        kinds = ", ".join(dict.fromkeys((*SUFFIXES, *_READERS)))
        raise ValueError(f"the history {path}: the folder must hold model files ({kinds}); it holds none")
    models: dict[str, Model] = {}
    for file in files:
        single = load_model(file) if file.suffix.lower() in SUFFIXES else None
        for name, model in ({"": single} if single is not None else load_history(file)).items():
            models[file.stem if name in ("", "0") else f"{file.stem}/{name}"] = model
    return models


def _by_number(file: Path) -> list[Any]:
    """``epoch10`` behind ``epoch9``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]


def _arrays(path: Path, what: str) -> dict[str, Model]:
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
    return {str(t): _model(what, W[t], *(arrays[name][t] if name in arrays else None for name in ("b", "c"))) for t in range(len(W))}


def _model(what: str, *parts: Any) -> Model:
    try:
        return Model(*parts)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _rbms(path: Path, what: str) -> dict[str, Model]:
    h5py = _reader("h5py", what)
    try:
        with h5py.File(path, "r") as file:
            kind = file["model_type"][()] if "model_type" in file else b""
            name = kind.decode() if isinstance(kind, bytes) else str(kind)
            updates = sorted(int(found[1]) for key in file if (found := re.fullmatch(r"update_(\d+)", key)))
            if name not in MACHINES_OF_RBMS or not updates:
                raise ValueError(
                    f"{what}: it must be a training of rbms with groups update_N and a model_type among {', '.join(MACHINES_OF_RBMS)}; "
                    f"it has {len(updates)} such groups and the model_type {name!r}"
                )
            models = {}
            for update in updates:
                group = file[f"update_{update}"]
                parameters = group.get("params", group)
                models[str(update)] = of_rbms(name, *(np.asarray(parameters[part][()]) for part in ("weight_matrix", "vbias", "hbias")))
    except (OSError, KeyError) as error:
        raise ValueError(f"{what}: it cannot be read as a training of rbms ({error})") from None
    return models


def _state_dict(path: Path, what: str) -> dict[str, Model]:
    torch = _reader("torch", what)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of files that are no state dict: whatever the parsers of PyTorch raise
        raise ValueError(
            f"{what}: it cannot be read as a state dict of tensors ({type(error).__name__}); save model.state_dict()"
        ) from None
    names = set(state) if isinstance(state, dict) else set()
    if names >= STATE_OF_RBMS:
        return {"0": of_rbms("BBRBM", *(state[name] for name in ("weight_matrix", "vbias", "hbias")))}
    if "W" in names and names <= STATE_OF_OURS:
        return {"0": _model(what, *(state.get(name) for name in ("W", "b", "c")))}
    raise ValueError(
        f"{what}: a state dict must hold W and may hold b and c (spins +1 and -1, W visible x hidden), or weight_matrix, vbias and hbias "
        f"(units 0 and 1); it holds {arguments.in_brief(sorted(map(str, names)))}"
    )


def _skops(path: Path, what: str) -> dict[str, Model]:
    skops = _reader("skops.io", what)
    try:
        machine = skops.load(path)
    except Exception as error:  # of damaged archives, and of types that skops does not trust: whatever its parsers raise
        raise ValueError(f"{what}: it cannot be read as a model that skops trusts ({type(error).__name__})") from None
    return {"0": from_scikit_learn(machine)}


def _reader(module: str, what: str) -> Any:
    """The package that reads a format; whoever has such files has it, and nothing else here needs it."""
    package = module.partition(".")[0]
    if find_spec(package) is None:
        raise ValueError(f"{what}: {package} is needed to read it and is not installed: pip install {package}")
    return import_module(module)


_READERS: dict[str, Callable[[Path, str], dict[str, Model]]] = {
    ".npz": _arrays,
    ".npy": _arrays,
    ".h5": _rbms,
    ".hdf5": _rbms,
    ".pt": _state_dict,
    ".pth": _state_dict,
    ".skops": _skops,
}
