"""One BLAS thread, whichever libraries were loaded when it was first asked for."""

import json
import subprocess
import sys

# SciPy has a BLAS of its own, which here is loaded last.
CODE = """
import json
from thermokernels.common import blas
with blas.one_thread():
    pass
import scipy.linalg
from threadpoolctl import threadpool_info
with blas.one_thread():
    print(json.dumps([library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]))
"""


def test_libraries_that_are_loaded_later_are_limited_too():
    found = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    counts = json.loads(found.stdout)
    assert counts
    assert set(counts) == {1}
