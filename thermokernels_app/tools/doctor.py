"""Whether the program is well where it is installed: machine, cache of compiled kernels, and a known answer through the kernels."""

from __future__ import annotations

import math
import multiprocessing
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from thermokernels_app.experiment.records.environment import available_cores, environment

# What each extra of pyproject.toml brings, by the names of the distributions.
EXTRAS = {
    "test": ("pytest", "hypothesis", "import-linter", "mpmath", "mypy", "ruff"),
    "jax": ("jax",),
    "torch": ("torch",),
    "compare": ("emcee", "arviz-stats"),
    "bridges": ("dimod", "rbms", "scikit-learn", "thrml"),
    "report": ("matplotlib", "jinja2"),
    "judges": ("deeptime", "gudhi"),
}

# Relative error of the canary's answers that rounding explains.
TOLERANCE = 1e-12


def examine() -> dict[str, Any]:
    """All findings as plain data; ``problems`` holds a sentence each, and ``exit_code`` is 0 without any, 11 for a wrong number, else 1."""
    problems: list[str] = []
    canary = _canary(problems)
    wrong = canary["met"] is False
    cache = _cache(problems)
    found = {
        "versions": {"thermokernels": version("thermokernels"), **_environment_versions()},
        "machine": _machine(),
        "memory": _memory(),
        "blas": _blas(),
        "cache": cache,
        "start_method": multiprocessing.get_context("spawn").get_start_method(),  # of the workers of a run
        "extras": {extra: {name: _version(name) for name in names} for extra, names in EXTRAS.items()},
        "canary": canary,
        "problems": problems,
    }
    return found | {"exit_code": 11 if wrong else 1 if problems else 0}


def _environment_versions() -> dict[str, Any]:
    here = environment()
    return {
        "python": f"{here['python']} ({here['implementation']})",
        **here["packages"],
        "typer": _version("typer"),
        "rich": _version("rich"),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _machine() -> dict[str, Any]:
    from llvmlite import binding

    here = environment()
    return {"platform": here["platform"], "cpu": here["cpu"], "llvm_cpu": binding.get_host_cpu_name(), "cores": available_cores()}


def _memory() -> dict[str, int | None]:
    """Bytes that this process may still take, and what its control groups leave it where they have a limit."""
    from thermokernels.common import memory

    return {"available_bytes": memory.available(), "cgroup_headroom_bytes": memory.headroom()}


def _blas() -> list[dict[str, Any]]:
    import scipy.linalg  # loads the library that the solves use  # noqa: F401
    from threadpoolctl import threadpool_info

    return [
        {"library": pool["internal_api"], "version": pool["version"], "threads": pool["num_threads"]}
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]


def _cache(problems: list[str]) -> dict[str, Any]:
    """The folder of the compiled kernels, whether it can be written, and how many kernels it holds."""
    from thermokernels.compiled import decorator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it becomes a problem in words
        folder = decorator.cache_folder()
    if folder is None:
        problems.append("compiled kernels cannot be cached, so every process compiles anew: set NUMBA_CACHE_DIR to a writable folder")
        return {"folder": None, "writable": False, "kernels": 0, "bytes": 0}
    files = [path for path in folder.rglob("*") if path.is_file()]
    kernels = sum(path.suffix == ".nbi" for path in files)
    return {"folder": str(folder), "writable": True, "kernels": kernels, "bytes": sum(map(_size, files))}


def _size(path: Path) -> int:
    """In bytes; none where a process that compiles has given the file another name since it was found."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _canary(problems: list[str]) -> dict[str, Any]:
    """Known answers: one visible spin coupled to one hidden one, and free spins.

    The product of two coupled spins is renewed at every step, so T_O = Var(v h) = 1 - tanh(w)^2 steps, dT_O/dw = -2 tanh(w) T_O. Of free
    spins each v_i h_j has the eigenvalue 1 - 2 / N, so T_O = n_v n_h N / 2; with five on either side the vectorised kernels compute it.
    """
    try:
        import numpy as np

        import adjoints
        import thermokernels as tk

        w = 0.7
        free = tk.observable_variance_time(tk.gibbs_chain([[0.0] * 5] * 5), method="cg")
        value, gradient = adjoints.observable_variance_time([[w]])
        expected = 1 - math.tanh(w) ** 2
        got = {
            "T_O (steps)": (float(value), expected),
            "dT_O/dW (steps)": (float(np.asarray(gradient)[0, 0]), -2 * math.tanh(w) * expected),
            "T_O of free spins (steps)": (free, 125.0),
            "gap (per step)": (tk.spectral_gap(tk.gibbs_chain([[w]])), 1.0),
        }
    except Exception as error:  # whatever it is, it is what the examination has to report
        problems.append(f"the kernels do not run: {type(error).__name__}: {error}")
        return {"met": None, "answers": {}}
    answers = {name: {"value": value, "expected": known, "error": abs(value / known - 1)} for name, (value, known) in got.items()}
    met = all(answer["error"] <= TOLERANCE for answer in answers.values())
    if not met:
        problems.append("the compiled kernels give a wrong number; delete the cache of compiled kernels and reinstall numba and llvmlite")
    return {"met": met, "answers": answers}
