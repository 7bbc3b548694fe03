"""The check of one checkpoint: a solution that the judge cannot verify stops the run; and what is compiled before the first cell."""

import re
import subprocess
import sys
from dataclasses import replace

from thermokernels.quantities.variance_time import VarianceTime
from thermokernels_app.experiment import cell
from thermokernels_app.experiment.design import Anchor, Design


def test_a_solution_that_the_judge_finds_wrong_is_a_halt(monkeypatch):
    sound = Design(training=replace(Design().training, steps=1), anchor=Anchor(split=3), directions=1)
    training = cell.train(sound, 4, 2)[2]
    record, _ = cell.check(sound, training, "init")
    assert record["gradient_check"]["value_reference"] == "frozen"
    assert "halt" not in record
    right = VarianceTime.responses.fget
    monkeypatch.setattr(VarianceTime, "responses", property(lambda time: right(time) * (1 + 1e-9)))
    record, _ = cell.check(sound, training, "init")
    assert record["halt"]["check"] == "gradient solution_residual"
    assert re.fullmatch(
        r"the judge finds a relative residual of \S+e-\d+ in the .* solution; at most 1e-10 is wanted", record["halt"]["detail"]
    )


# Signatures of the kernels after the groups that a run compiles first, and those that a check and a cell add.
LATER = """
import gc
from dataclasses import replace
from numba.core.dispatcher import Dispatcher
from thermokernels_app.experiment import cell
from thermokernels_app.experiment.design import Design

def signatures():
    kernels = [one for one in gc.get_objects() if isinstance(one, Dispatcher) and "thermo" in one.py_func.__module__]
    return {f"{one.py_func.__name__}{signature}" for one in kernels for signature in one.signatures}

design = Design(training=replace(Design().training, steps=1), directions=1)
for group in (cell.compile_training, cell.compile_solves, cell.compile_measures):
    group(design)
before = signatures()
for m in (4, 6):
    training = cell.train(design, m, 3)[2]
    cell.check(design, training, "init")
    for code in design.grid.codes:
        cell.cell(design, training, "init", code)
assert len(before) > 20, len(before)
print(sorted(signatures() - before))
"""


def test_no_cell_compiles_what_no_group_did():
    # two workers would compile it at the same time
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
