"""One hypothesis profile for every test, kernels compiled before the workers start, one thread each, and extras that are not installed."""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from importlib.util import find_spec
from pathlib import Path

import numba
import pytest
from hypothesis import settings

# The same examples on every machine, and no deadline, since a first call compiles.
settings.register_profile("house", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("house")

ROOT = Path(__file__).parents[1]
THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
WARM_UP = """
import sys
from thermokernels.compiled.decorator import cache_folder
from thermokernels_app.main import main
folder = cache_folder()
if folder is None or (folder / "warm").exists():
    sys.exit(1)
sys.argv = ["thermo", "warmup", "--json"]
main()
"""
COLD_WARM_UP = "THERMO_COLD_WARM_UP"  # a folder with what a warm-up of an empty cache printed, and with the cache that it left

# Without compilation: which kernels there are, by module and name, and whether a test has called them.
INTERPRETED = {}


def recorded(**_):
    """In place of ``numba.njit``, where nothing is compiled."""

    def decorate(function):
        name = f"{function.__module__}.{function.__name__}"
        if name.startswith("tests."):
            return function
        INTERPRETED[name] = False

        @functools.wraps(function)
        def kernel(*arguments):
            INTERPRETED[name] = True
            return function(*arguments)

        return kernel

    return decorate


if numba.config.DISABLE_JIT:
    numba.njit = recorded


@pytest.fixture
def memory_of(monkeypatch):
    """Calls a function and gives the largest number of bytes that it asked for, and the peak of what it took."""

    def measured(function, *arguments):
        asked = [0]
        function(*arguments)  # what is kept for good, such as compiled kernels, does not count
        monkeypatch.setattr("thermokernels.common.memory.require", lambda n_bytes, *_: asked.append(n_bytes))
        tracemalloc.start()
        try:
            function(*arguments)
            return max(asked), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measured


def pytest_terminal_summary(terminalreporter):
    if INTERPRETED:
        left_out = sorted(name for name, called in INTERPRETED.items() if not called)
        terminalreporter.write_line(f"of {len(INTERPRETED)} kernels these were not called: {', '.join(left_out) or 'none'}")


def whole_suite(config):
    return [Path(argument).resolve() for argument in config.args] == [ROOT / "tests"]


def pytest_xdist_auto_num_workers(config):
    """The whole suite runs on all cores; a part of it in this process, which starts sooner."""
    return None if whole_suite(config) else 0


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    """Before the workers start: one thread of BLAS for each of them, and every kernel compiled once, on all cores."""
    if hasattr(session.config, "workerinput") or not session.config.option.numprocesses or session.config.option.collectonly:
        return
    os.environ.update({name: os.environ.get(name, "1") for name in THREADS})
    if whole_suite(session.config):
        compile_once(session.config)


def compile_once(config):
    """Every kernel, by the command; where none was there before, what it did is kept for the test of the command."""
    # -P: the package that the command has, which is not that of this folder where it was installed from it
    done = subprocess.run([sys.executable, "-P", "-c", WARM_UP], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:  # it was done before, or no cache can be written and every process compiles what it needs
        return
    found = json.loads(done.stdout)
    Path(found["folder"], "warm").touch()
    if found["compiled"] == found["kernels"]:
        kept = Path(tempfile.mkdtemp(prefix="cold-warm-up-"))
        config.add_cleanup(lambda: shutil.rmtree(kept, ignore_errors=True))
        (kept / "printed.json").write_text(done.stdout)
        shutil.copytree(found["folder"], kept / "cache" / Path(found["folder"]).name)
        os.environ[COLD_WARM_UP] = str(kept)


def pytest_collection_modifyitems(items):
    if find_spec("jax") is None:
        for item in items:
            if item.get_closest_marker("jax"):
                item.add_marker(pytest.mark.skip(reason="JAX is not installed: pip install '.[jax]'"))
    items.sort(key=lambda item: item.get_closest_marker("long") is None)  # so that no worker waits for another at the end
