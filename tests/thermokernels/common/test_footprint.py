"""What a computation is said to take beside its peak in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from thermokernels.common import footprint, threads

CODE = """
import json, sys
import numpy as np
import thermokernels as tk

def kilobytes(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

n_visible, n_hidden, fields = map(int, sys.argv[1:])
tk.set_threads(2)
draws = np.random.default_rng(0)
W, b = draws.normal(size=(n_visible, n_hidden)) * 2 / np.sqrt(n_visible), 0.1 * draws.normal(size=n_visible) if fields else None
tk.diagnose(W[:7, :4], None if b is None else b[:7])  # loads the kernels
before = kilobytes("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
tk.diagnose(W, b)
print(json.dumps(1024 * (kilobytes("VmHWM") - before)))
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not say what a process has taken")
@pytest.mark.parametrize("shape", [(14, 4, True), (9, 9, False)], ids=["fields", "pairs"])
def test_a_diagnosis_takes_what_it_says_and_not_much_less(shape, monkeypatch):
    monkeypatch.setattr(threads, "_chosen", 2)
    command = [sys.executable, "-c", CODE, *(str(int(part)) for part in shape)]
    for _ in range(2):  # what the first one compiles the second one loads, without the compiler's memory
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, said = json.loads(run.stdout), footprint.diagnosis(*shape)
    assert 0.7 * said <= peak <= said + 2**26  # of code that is loaded, and buffers of BLAS


@pytest.mark.small
def test_a_diagnosis_of_many_observables_is_two_arrays_each():
    for full in (False, True):
        states = footprint.n_states(16, 8, full)
        assert footprint.diagnosis(16, 8, full) / (8 * states) == pytest.approx(2 * 128 * 9 / 8, rel=0.2)
    assert footprint.diagnosis(5000, 6, True) > 2**5000  # in integers
