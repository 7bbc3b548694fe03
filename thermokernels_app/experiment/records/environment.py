"""Where a run takes place: machine, versions, and the hash of the program's own sources."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sources() -> dict[str, str]:
    """SHA-256 of every source file of the kernels, adjoints, judges and the experiment, by its path in the repository.

    Line endings, the order of a folder and the place of the checkout do not count. Nothing is imported.
    """
    hashes: dict[str, str] = {}
    for package in ("thermokernels", "adjoints", "thermokernels_app.judges", "thermokernels_app.experiment"):
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        for path in folder.rglob("*.py"):
            name = path.relative_to(folder).as_posix()
            if not any(part.startswith(".") for part in name.split("/")):  # an editor's copies are no part of the program
                hashes[f"{package.replace('.', '/')}/{name}"] = hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    return dict(sorted(hashes.items()))


@cache
def source_hash() -> str:
    """One SHA-256 over :func:`sources`, as they were when this process first asked."""
    from thermokernels_app.experiment.records import store  # and NumPy, which who counts cores need not wait for

    return store.digest(sources())


def versions() -> dict[str, str | None]:
    """Versions of Python, of this program and of the packages that its numbers come from; None for one that is not installed."""
    packages = ("thermokernels", "numpy", "scipy", "numba", "llvmlite")
    return {"python": platform.python_version()} | {package: _version(package) for package in packages}


def environment() -> dict[str, Any]:
    """Python, machine and versions of the packages that the numbers come from."""
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "packages": {package: _version(package) for package in ("numpy", "scipy", "numba", "llvmlite", "threadpoolctl")},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
