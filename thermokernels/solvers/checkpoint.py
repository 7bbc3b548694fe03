"""A file that keeps what is finished of a long computation, so that an interrupted one goes on where it stopped.

The file is one ``.npz`` with the arrays of the sums so far and a digest of everything that they depend on. It is replaced as a whole, never
written into, so that whatever moment the process ends at it holds the state after some finished part.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.atomic_file import replacing, require_folder
from thermokernels.compiled.decorator import kernel_hash

Array = NDArray[Any]
PathLike = str | os.PathLike[str]


class Kept(Protocol):
    """Where a computation keeps what is done of it, as :class:`RestartFile` does; what it loads is empty or what it was given last."""

    def load(self) -> dict[str, Array]: ...

    def save(self, arrays: Mapping[str, Array]) -> None: ...


class RestartFile:
    """The finished part of one computation in a file.

    Parameters
    ----------
    path : of the file, which need not exist yet
    inputs : what the result depends on: arrays, numbers and words, by name
        The sources of the kernels are added: sums begun with other code are not gone on with.
    """

    def __init__(self, path: PathLike, inputs: Mapping[str, Any]) -> None:
        self.path = Path(path)
        digest = hashlib.sha256(kernel_hash().encode())
        for name, value in sorted(inputs.items()):
            array = np.asarray(value)
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        self._digest = digest.hexdigest()

    def load(self) -> dict[str, Array]:
        """What an earlier call has saved, nothing where there is no file.

        Raises
        ------
        ValueError
            The file is no checkpoint, or one of another computation.
        OSError
            It cannot be read.
        """
        require_folder(self.path)  # said now, not when the first chunk is to be saved
        if not self.path.exists():
            return {}
        try:
            with self.path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            digest = str(arrays.pop("digest"))
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile, TypeError) as error:
            raise ValueError(
                f"checkpoint {self.path} is no checkpoint that can be read ({type(error).__name__}): name another file"
            ) from None
        if digest != self._digest:
            raise ValueError(
                f"checkpoint {self.path} belongs to another model, other options or another version of thermokernels: "
                "name another file, or delete this one to start anew"
            )
        return arrays

    def save(self, arrays: Mapping[str, Array]) -> None:
        """Replace the file by one with these arrays."""
        everything: dict[str, Any] = {**arrays, "digest": np.array(self._digest)}
        with replacing(self.path) as file:
            np.savez(file, **everything)
