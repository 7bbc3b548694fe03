"""One hypothesis profile for every test, and the tests that need the extra ``jax`` skipped where it is not installed."""

from importlib.util import find_spec

import pytest
from hypothesis import settings

# The same examples on every machine, and no deadline, since a first call compiles.
settings.register_profile("house", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("house")


def pytest_collection_modifyitems(items):
    if find_spec("jax") is None:
        for item in items:
            if item.get_closest_marker("jax"):
                item.add_marker(pytest.mark.skip(reason="JAX is not installed: pip install '.[jax]'"))
