"""Workers that die, hang or return nonsense, for real: one retry, then the cell's status, while the others finish; and a resumable run."""

import gc
import math
import time
from concurrent.futures import Executor, Future
from dataclasses import replace

import numpy as np
import pytest

from thermokernels_app.experiment import cell as cells
from thermokernels_app.experiment.design import Design, Grid
from thermokernels_app.experiment.records import store
from thermokernels_app.experiment.records.environment import source_hash
from thermokernels_app.experiment.running import runner, tasks
from thermokernels_app.experiment.running.pool import WorkerError, WorkerPool
from thermokernels_app.experiment.running.tasks import Task, flaw

pytestmark = pytest.mark.xdist_group("faults")

TINY = replace(
    Design(),
    grid=Grid(m=(4,), split=(2, 3), checkpoints=("half", "final"), codes=(1, 2)),
    training=replace(Design().training, steps=60),
    polish=replace(Design().polish, iterations=5),
    directions=1,
    steps=(1e-3, 1e-4),
)

HELPER = '''
import os, signal, time

def strike(how, call, *arguments):
    """Do a task as a worker that is out of order."""
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(3)
    if how == "hang":
        time.sleep(3600)
    if how == "memory":
        raise MemoryError("out of memory")
    if how == "nonsense":
        return "nonsense"
    (record, *others), seconds = call(*arguments)
    if how == "nan":
        record["q"]["value"] = float("nan")
    if how == "other":
        record["code"] += 1
    return (record, *others), seconds
'''


def task_of(arguments):
    """Which task a submission is: the arguments of ``tasks.call``."""
    function, _, _, _, *rest = arguments
    if rest and hasattr(rest[0], "split"):
        rest[:1] = [rest[0].m, rest[0].split]
    return Task(function, tuple(rest)).name


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """``faulty(often, misdeeds)`` makes the workers of a run misbehave, ``often`` times at every task that is named."""
    (tmp_path / "helper").mkdir()
    (tmp_path / "helper" / "out_of_order.py").write_text(HELPER)
    monkeypatch.syspath_prepend(tmp_path / "helper")
    import out_of_order

    def install(often, misdeeds):
        struck = dict.fromkeys(misdeeds, 0)

        class Faulty(WorkerPool):
            def submit(self, function, /, *arguments, **options):
                name = task_of(arguments)
                if struck.get(name, often) < often:
                    struck[name] += 1
                    return super().submit(out_of_order.strike, misdeeds[name], function, *arguments)
                return super().submit(function, *arguments, **options)

        monkeypatch.setattr(runner, "WorkerPool", Faulty)

    return install


@pytest.fixture(scope="module")
def reference():
    start = time.monotonic()
    return runner.run(TINY, workers=2), time.monotonic() - start


def test_one_misdeed_costs_one_retry_and_no_bit(reference, faulty, tmp_path):
    whole, seconds = reference
    misdeeds = {
        "cell/4/2/half/1": "die",
        "cell/4/2/half/2": "nonsense",
        "cell/4/2/final/1": "nan",
        "cell/4/2/final/2": "other",
        "cell/4/3/half/1": "memory",
        "cell/4/3/half/2": "hang",
        "train/4/3": "exit",
        "check/4/2/half": "die",
        "compile_solves": "exit",
    }
    faulty(1, misdeeds)
    run = runner.run(TINY, tmp_path / "run", workers=2, task_limit=max(5.0, 2 * seconds))  # the machine may be busy
    assert run.document["records_sha256"] == whole.document["records_sha256"]
    assert store.arrays_as_bytes(run.arrays) == store.arrays_as_bytes(whole.arrays)
    reasons = {retry["task"]: retry["reason"] for retry in run.document["run"]["retries"]}
    assert reasons.keys() == misdeeds.keys()
    for name, word in [("half/1", "SIGKILL"), ("half/2", "'nonsense'"), ("final/1", "not finite"), ("final/2", "not that of cell, m 4")]:
        assert word in reasons[f"cell/4/2/{name}"]
    assert reasons["cell/4/3/half/1"] == "out of memory"
    assert "took more than" in reasons["cell/4/3/half/2"]
    assert reasons["train/4/3"] == "the worker process ended with exit code 3"


def test_two_misdeeds_are_the_cells_status_while_the_others_finish(reference, faulty, tmp_path):
    whole, _ = reference
    faulty(2, {"cell/4/2/half/2": "die", "cell/4/3/final/1": "nonsense"})
    run = runner.run(TINY, tmp_path / "run", workers=2)
    document = store.read_results(tmp_path / "run")
    assert (document["status"], run.exit_code, len(document["cells"])) == ("halted", 11, 8)
    assert document["halt"]["where"] == "cell, m 4, split 2, checkpoint half, code 2"
    assert document["halt"]["check"] == "worker"
    assert document["halt"]["detail"].endswith("(too little memory?); and 1 more tasks")
    for cell, sound in zip(document["cells"], whole.document["cells"], strict=True):
        place = (cell["split"], cell["checkpoint"], cell["code"])
        if place in ((2, "half", 2), (3, "final", 1)):
            assert (cell["status"], cell["halt"]["check"]) == ("halted", "worker")
            assert cell["halt"]["detail"]
        else:
            assert cell == sound
    assert run.verdicts["P3"] == "HALT"
    assert "cell m=4, s=2, half, code 2: halted at worker: the worker process was killed" in document["verdicts"]["P3"]["reason"]

    faulty(0, {})
    again = runner.run(TINY, tmp_path / "run", workers=2, resume=True)
    assert again.document["records_sha256"] == whole.document["records_sha256"]
    assert again.document["run"]["tasks_resumed"] >= 6


def test_the_cap_does_not_wait_for_a_task_that_hangs(reference, faulty, tmp_path):
    _, seconds = reference
    faulty(1, {"cell/4/2/half/2": "hang"})
    run = runner.run(replace(TINY, cap_seconds=max(5.0, 2 * seconds), projection_share=1.0), tmp_path / "run", workers=2)
    assert (run.document["status"], run.exit_code) == ("stopped", 12)
    assert run.document["run"]["seconds"] < 600  # the limit of the task
    assert all(cell["status"] == "ok" for cell in run.document["cells"])


class Here(Executor):
    """Runs a task when it is submitted, but those that are named come to nothing."""

    def __init__(self, names, error):
        self.names, self.error = names, error

    def submit(self, function, /, *arguments, **options):
        future = Future()
        if task_of(arguments) not in self.names:
            future.set_result(function(*arguments, **options))
        elif self.error:
            future.set_exception(self.error)
        return future


def test_a_lost_training_is_the_status_of_its_cells(reference):
    run = runner.run(TINY, executor=Here(["train/4/3"], WorkerError("the worker process vanished")))
    assert (run.document["status"], run.document["halt"]["where"]) == ("halted", "train, m 4, split 3")
    for cell, sound in zip(run.document["cells"], reference[0].document["cells"], strict=True):
        assert cell == sound or (cell["split"], cell["halt"]["detail"]) == (3, "its network was not trained: the worker process vanished")
    assert sum(cell["status"] == "halted" for cell in run.document["cells"]) == 4
    assert set(run.verdicts.values()) == {"HALT"}


def test_lost_checks_halt_their_verdicts_only(reference):
    high = reference[0].document["stationarity"][0]
    names = ["check/4/3/final", f"polish/4/{high['split']}/{high['code']}"]
    run = runner.run(TINY, executor=Here(names, ConnectionResetError("the connection was reset")))
    assert (run.document["status"], run.exit_code) == ("halted", 11)
    assert run.verdicts == reference[0].verdicts | {"P1": "HALT", "P4": "HALT"}
    assert "the connection was reset" in run.document["verdicts"]["P1"]["reason"]
    assert "polished_kl" in run.document["verdicts"]["P4"]["reason"]


def test_an_executor_from_outside_that_goes_silent_is_given_up():
    run = runner.run(TINY, executor=Here(["cell/4/3/final/2"], None), task_limit=0.1)
    assert run.document["halt"]["detail"] == "no task ended within 0.1 s"
    assert [cell["status"] for cell in run.document["cells"]] == ["ok"] * 7 + ["halted"]


def test_a_worker_with_other_sources_is_refused(monkeypatch):
    class Other(Executor):
        def submit(self, function, sender, sources, /, *arguments):  # what arrives at a worker of another version
            return Here([], None).submit(function, arguments[0], sender, "0" * 64, *arguments[1:])

    with pytest.raises(ValueError, match="a worker runs another version of thermokernels"):
        runner.run(TINY, executor=Other())


def test_garbage_is_looked_for_rarely_while_kernels_are_compiled_and_as_before_afterwards(monkeypatch):
    found, before = [], gc.get_threshold()
    monkeypatch.setattr(cells, "compile_solves", lambda: found.append(gc.get_threshold()))
    monkeypatch.setattr(cells, "train", lambda: found.append(gc.get_threshold()))
    for function in ("compile_solves", "train"):
        tasks.call(function, tasks._PROCESS, source_hash())
    assert found == [(100_000, *before[1:]), before]
    assert gc.get_threshold() == before


def test_a_pool_that_cannot_compile_is_an_error():
    with pytest.raises(RuntimeError, match=r"compile_training failed twice: gone; is there too little memory.*__main__"):
        runner.run(TINY, executor=Here(["compile_training"], WorkerError("gone")))


@pytest.mark.parametrize("limit", [0, -1.0, math.nan, math.inf])
def test_the_limit_must_be_a_positive_time(limit):
    with pytest.raises(ValueError, match="task_limit must be a positive number of seconds"):
        runner.run(TINY, task_limit=limit)


CELL = Task("cell", (4, 2, "half", 1))
SOUND = {
    **CELL.place,
    "status": "ok",
    "halt": None,
    "training": {},
    "q": {"value": 1.0},
    "gradient": {},
    "network": {},
    "spectrum": {},
    "landscape": {},
    "battery": {},
}
ARRAYS = {name: np.ones(2) for name in ("W", "dq_dw", "dq_dphi", "spectrum_gaps", "spectrum_weights")}


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (None, "no result with its seconds"),
        (((SOUND, ARRAYS), math.nan), "no result with its seconds"),
        (((SOUND, ARRAYS), "1"), "no result with its seconds"),
        ((SOUND, 1.0), "no record with its arrays"),
        (((SOUND, ARRAYS, 3), 1.0), "no record with its arrays"),
        (((SOUND | {"m": 5}, ARRAYS), 1.0), "not that of cell, m 4, split 2"),
        (((SOUND, [1.0]), 1.0), "its arrays are"),
        (((SOUND, ARRAYS | {"W": np.array([None])}), 1.0), "its arrays are"),
        (((SOUND, ARRAYS | {"W": np.array([np.inf])}), 1.0), "its array W is not finite"),
        (((SOUND, {}), 1.0), "its result lacks W, dq_dphi, dq_dw"),
        ((({**SOUND} | {"q": {1.0}}, ARRAYS), 1.0), "cannot be written as JSON"),
        (((SOUND | {"status": "fine"}, ARRAYS), 1.0), "its status is 'fine'"),
        (((SOUND | {"halt": "why"}, ARRAYS), 1.0), "its halt is 'why'"),
        (((SOUND | {"q": {"value": [1.0, math.nan]}}, ARRAYS), 1.0), "not finite"),
        ((({key: value for key, value in SOUND.items() if key != "battery"}, ARRAYS), 1.0), "lacks battery"),
    ],
)
def test_what_is_returned_is_looked_at(outcome, words):
    assert flaw(CELL, ((SOUND, ARRAYS), 1.0)) is None
    assert words in flaw(CELL, outcome)
    assert flaw(Task("compile_solves"), (None, 0.5)) is None
    assert "nothing is expected" in flaw(Task("compile_solves"), (1, 0.5))
