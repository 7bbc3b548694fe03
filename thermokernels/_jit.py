"""The one decorator of every compiled kernel: ``njit`` with our options and a disk cache that cannot go stale.

numba keys a cached function by its own file only, so a changed *callee* in another file would be served from before an upgrade.
Our cache folder is therefore named after a hash of all kernel sources: a changed line anywhere is another folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

# `fastmath` stays off: reassociation would make results depend on the vector width, and `nnan` removes the guards against NaN.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


# More than the compiled kernels take on a disk, in bytes.
ROOM = 64 << 20


def kernel_sources() -> list[Path]:
    """The source files whose compiled code may call each other, in a fixed order."""
    here = Path(__file__).parent
    folders = (here, *(here.parent / name for name in ("adjoints", "thermokernels_bridges")))
    return sorted((path for folder in folders for path in folder.glob("*.py")), key=lambda path: (path.parent.name, path.name))


@cache
def kernel_hash() -> str:
    """SHA-256 over the names and contents of all kernel sources; line endings do not count."""
    digest = hashlib.sha256()
    for path in kernel_sources():
        digest.update(f"{path.parent.name}/{path.name}\n".encode())
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def _cache_root() -> Path:
    for variable, suffix in (("NUMBA_CACHE_DIR", ""), ("XDG_CACHE_HOME", "thermokernels"), ("LOCALAPPDATA", "thermokernels")):
        if value := os.environ.get(variable):
            return Path(value, suffix)
    return Path.home() / ".cache" / "thermokernels"


@cache
def cache_folder() -> Path | None:
    """The folder of this version's compiled kernels, or None (with one warning) where none can be written."""
    try:
        folder = _cache_root() / kernel_hash()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < ROOM:  # numba fails where it cannot write what it compiled
            raise OSError(f"less than {ROOM >> 20} MiB are free in {folder}")
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 20))  # a quota says nothing before it is reached
            return folder
    except (OSError, RuntimeError) as error:  # Path.home() raises RuntimeError where there is no home
        warnings.warn(
            f"compiled kernels cannot be cached ({error}); every new process compiles again. Set NUMBA_CACHE_DIR to a writable folder.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def jit(function: Kernel) -> Kernel:
    """Compile ``function`` on its first call (nopython, without the GIL), cached on disk where a folder can be written."""
    folder = cache_folder()
    if folder is None:
        return njit(**OPTIONS)(function)  # type: ignore[no-any-return]
    # CACHE_DIR is read while the decorator runs and then restored: other packages' caches stay where they are.
    previous = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        return njit(cache=True, **OPTIONS)(function)  # type: ignore[no-any-return]
    finally:
        numba.config.CACHE_DIR = previous
