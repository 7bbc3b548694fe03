"""What a type checker makes of a user's lines: values and gradients have the types that they have at run time."""

import subprocess
import sys
from pathlib import Path

import pytest

import adjoints

ROOT = Path(__file__).parents[2]

SIX_LINES = """
import numpy as np, adjoints
W = np.random.default_rng(0).normal(size=(4, 3))
p_data = np.full(2**4, 1 / 2**4)
q, dq_dw = adjoints.q_struct(W, p_data, window=100)
W = W + 0.1 * dq_dw / np.linalg.norm(dq_dw)
print(q.value, q.t_obs_bound, dq_dw.shape)
"""

EVERY_PAIR = """
from typing import assert_type
import numpy as np
from numpy.typing import NDArray
import adjoints
import thermokernels as tk
from adjoints import Cotangents

Floats = NDArray[np.float64]
model = tk.Model([[0.5, -0.2]], b=[0.1])
W, b, c = model
data = [0.75, 0.25]
assert_type(adjoints.q_struct_and_gradient(model, data), tuple[tk.QStruct, Floats])
assert_type(adjoints.q_struct(W, data, 10.0, b=b, c=c, method="cg", fields=True), tuple[tk.QStruct, Cotangents])
assert_type(adjoints.observable_variance_time(model, rtol=1e-9, progress=print), tuple[float, Floats])
assert_type(adjoints.asymptotic_variance_and_gradient(W, b, c, fields=True), tuple[float, Cotangents])
assert_type(adjoints.kl_divergence(data, model), tuple[float, Floats])
assert_type(adjoints.probe_variance_time(model, seed=0, n_directions=1), tuple[tk.ProbedTime, Floats, Floats])
assert_type(adjoints.probe_q_struct_and_gradient(model, data, seed=0, fields=True), tuple[tk.ProbedQ, Cotangents, Cotangents])
"""


def checked(tmp_path, code):
    """What mypy --strict says of a user's file."""
    (tmp_path / "user.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", ROOT / ".mypy_cache", tmp_path / "user.py"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return result.returncode, result.stdout


@pytest.mark.house
def test_six_lines_pass(tmp_path):
    assert checked(tmp_path, SIX_LINES) == (0, "")


@pytest.mark.house
def test_the_types_of_values_and_gradients(tmp_path):
    assert checked(tmp_path, EVERY_PAIR) == (0, "")


@pytest.mark.house
def test_a_checker_says_no(tmp_path):
    """Or the tests above say nothing."""
    code, said = checked(tmp_path, "import adjoints\nadjoints.q_struct([[0.5]], [0.5, 0.5], fields=True)[1].shape\n")
    assert code == 1
    assert '"Cotangents" has no attribute "shape"' in said


def test_short_names_are_the_same_functions():
    short = [name.removesuffix("_and_gradient") for name in adjoints.__all__ if name.endswith("_and_gradient")]
    assert len(short) == 7
    for name in short:
        assert getattr(adjoints, name) is getattr(adjoints, f"{name}_and_gradient")
