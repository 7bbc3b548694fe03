"""Machines in files of other libraries: rbms, PyTorch, scikit-learn, read without executing anything that the files hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from thermokernels.common import arguments
from thermokernels.model.conversions import from_zero_one
from thermokernels.model.importers import MACHINES_OF_RBMS, from_scikit_learn
from thermokernels.model.model import Model

# What a machine's units are: spins +1 and -1, as here, or 0 and 1, whose parameters become those of spins.
CONVENTIONS = ("pm1", "zero-one")

# Names of the parameters in a state dict of PyTorch: ours, and those of rbms, of whose machines some have units 0 and 1 and some spins.
STATE_OF_OURS, STATE_OF_RBMS = {"W", "b", "c"}, ("weight_matrix", "vbias", "hbias")

Models = dict[str, Model]
Reader = Callable[[Path, str, str | None, bool], Models]


def read_machines(path: Path, what: str, convention: str | None, last: bool) -> Models:
    """The machines of a file by the names of their checkpoints, or the last one alone; ``what`` is what an error begins with.

    ``convention`` is what the caller says of the units: it decides where the file does not say, and must not contradict it where it does.

    Raises
    ------
    ValueError, OSError
        One sentence that names the file, what is there and what is wanted.
    """
    if not path.is_file():
        raise ValueError(f"{what}: it must be a file; {'it is a folder' if path.is_dir() else 'there is none'}")
    return READERS[path.suffix.lower()](path, what, convention, last)


def in_convention(what: str, convention: str | None, W: Any, b: Any = None, c: Any = None, **labels: Any) -> Model:
    """The model of these parameters, those of spins where nothing else is said."""
    try:
        model = Model(W, b, c, **labels)
        if convention != "zero-one":
            return model
        return Model(*from_zero_one(*model), visible=model.visible, hidden=model.hidden, kernel=model.kernel, mask=model.mask)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _agreed(what: str, convention: str | None, own: str, machine: str) -> str:
    """The convention of a file that says what it holds."""
    if convention not in (None, own):
        raise ValueError(f"{what}: it holds a {machine}, whose convention is {own}; got {convention}, leave it out")
    return own


def _rbms(path: Path, what: str, convention: str | None, last: bool) -> Models:
    h5py = _library("h5py", what)
    try:
        with h5py.File(path, "r") as file:
            kind = file["model_type"][()] if "model_type" in file else b""
            name = kind.decode() if isinstance(kind, bytes) else str(kind)
            updates = sorted(int(named[1]) for key in file if (named := re.fullmatch(r"update_(\d+)", key)))
            groups = {update: file[f"update_{update}"] for update in updates[-1 if last else 0 :]}
            found = {
                str(update): [np.asarray(group.get("params", group)[part][()]) for part in STATE_OF_RBMS]
                for update, group in (groups if name in (*MACHINES_OF_RBMS, "") else {}).items()
            }
    except Exception as error:  # of damaged files: whatever the parsers of HDF5 raise
        raise ValueError(f"{what}: it cannot be read as a training of rbms ({' '.join(str(error).split())})") from None
    if not found:
        raise ValueError(
            f"{what}: it must be a training of rbms with groups update_N and a model_type among {', '.join(MACHINES_OF_RBMS)}; "
            f"it has {len(updates)} such groups and the model_type {arguments.in_brief(name)}"
        )
    if name:
        convention = _agreed(what, convention, MACHINES_OF_RBMS[name], name)
    return {update: _of_rbms(what, convention, parts) for update, parts in found.items()}


def _of_rbms(what: str, convention: str | None, parts: list[Any]) -> Model:
    if convention is None:
        raise ValueError(
            f"{what}: it does not say whether its units are 0 and 1 (a BBRBM of rbms) or +1 and -1 (an IIRBM); say so by the convention, "
            "zero-one or pm1"
        )
    return in_convention(what, convention, *parts, kernel="alternating")


def _state_dict(path: Path, what: str, convention: str | None, _last: bool) -> Models:
    torch = _library("torch", what)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of files that are no state dict: whatever the parsers of PyTorch raise
        raise ValueError(
            f"{what}: it cannot be read as a state dict of tensors ({type(error).__name__}); save model.state_dict()"
        ) from None
    names = set(state) if isinstance(state, dict) else set()
    if names >= set(STATE_OF_RBMS):
        return {"0": _of_rbms(what, convention, [state[name] for name in STATE_OF_RBMS])}
    if "W" in names and names <= STATE_OF_OURS:
        return {"0": in_convention(what, convention, *(state.get(name) for name in ("W", "b", "c")))}
    raise ValueError(
        f"{what}: a state dict must hold W (visible x hidden) and may hold b and c, or weight_matrix, vbias and hbias as rbms has them; "
        f"it holds {arguments.in_brief(sorted(map(str, names)))}"
    )


def _skops(path: Path, what: str, convention: str | None, _last: bool) -> Models:
    skops = _library("skops.io", what)
    try:
        machine = skops.load(path)
    except Exception as error:  # of damaged archives, and of types that skops does not trust: whatever its parsers raise
        raise ValueError(f"{what}: it cannot be read as a model that skops trusts ({type(error).__name__})") from None
    try:
        model = from_scikit_learn(machine)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    _agreed(what, convention, "zero-one", type(machine).__name__)
    return {"0": model}


def _library(module: str, what: str) -> Any:
    """The package that reads a format; whoever has such files has it, and nothing else here needs it."""
    package = module.partition(".")[0]
    if find_spec(package) is None:
        raise ValueError(f"{what}: {package} is needed to read it and is not installed: pip install {package}")
    return import_module(module)


READERS: dict[str, Reader] = {".h5": _rbms, ".hdf5": _rbms, ".pt": _state_dict, ".pth": _state_dict, ".skops": _skops}
