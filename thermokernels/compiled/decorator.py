"""The one decorator of every compiled kernel: ``njit`` with our options and a disk cache that cannot go stale.

numba keys a cached function by its own file only, so a changed *callee* in another file would be served from before an upgrade.
Our cache folder is therefore named after a hash of all files with kernels: a changed line in any of them is another folder, and one
anywhere else is not. Constants that a kernel uses are compiled into it, so they stand in a file with kernels too.
"""

from __future__ import annotations

import hashlib
import os
import re
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


# Packages with kernels in them.
PACKAGES = ("thermokernels", "adjoints", "thermokernels_bridges", "thermokernels_app")

# More than the compiled kernels take on a disk, in bytes.
ROOM = 64 << 20


# A file that holds kernels imports the decorator, or numba itself.
KERNELS = re.compile(rb"^(?:from|import) (?:numba|thermokernels\.compiled)\b", re.MULTILINE)


def source_root() -> Path:
    """The folder that the packages lie in: a checkout, or site-packages."""
    return Path(__file__).parents[2]


def kernel_sources() -> list[Path]:
    """The source files that hold kernels, which may call each other, sub-folders included, in a fixed order."""
    root = source_root()
    files = (path for package in PACKAGES for path in (root / package).rglob("*.py"))
    return sorted((path for path in files if KERNELS.search(path.read_bytes())), key=lambda path: path.relative_to(root).as_posix())


@cache
def kernel_hash() -> str:
    """SHA-256 over the paths and contents of all files with kernels; line endings do not count."""
    digest = hashlib.sha256()
    for path in kernel_sources():
        digest.update(f"{path.relative_to(source_root()).as_posix()}\n".encode())
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
    return _decorated(function)


def inlined(function: Kernel) -> Kernel:
    """The same for a step that is compiled as a part of its callers only: it and all that it calls need not be compiled apart.

    LLVM works through every function that a kernel reaches once for each level of calls above it.
    """
    return _decorated(function, inline="always")


def _decorated(function: Kernel, **options: Any) -> Kernel:
    folder = cache_folder()
    if folder is None:
        return njit(**OPTIONS, **options)(function)  # type: ignore[no-any-return]
    # CACHE_DIR is read while the decorator runs and then restored: other packages' caches stay where they are.
    previous = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        return njit(cache=True, **OPTIONS, **options)(function)  # type: ignore[no-any-return]
    finally:
        numba.config.CACHE_DIR = previous
