"""One hypothesis profile for every test, kernels compiled before the workers start, one thread each, and extras that are not installed."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every machine, and no deadline, since a first call compiles.
settings.register_profile("house", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("house")

ROOT = Path(__file__).parents[1]
THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
WARM_UP = """
from thermokernels.compiled.decorator import cache_folder
from thermokernels_app.tools.warmup import warm_up
folder = cache_folder()
if folder is not None and not (folder / "warm").exists():
    warm_up()
    (folder / "warm").touch()
"""


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
        subprocess.run([sys.executable, "-c", WARM_UP], cwd=ROOT, check=False)


def pytest_collection_modifyitems(items):
    if find_spec("jax") is None:
        for item in items:
            if item.get_closest_marker("jax"):
                item.add_marker(pytest.mark.skip(reason="JAX is not installed: pip install '.[jax]'"))
    items.sort(key=lambda item: item.get_closest_marker("long") is None)  # so that no worker waits for another at the end
