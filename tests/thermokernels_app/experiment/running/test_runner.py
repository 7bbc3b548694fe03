"""A run from training to verdicts: the same bits however it is computed, and nothing lost however it ends."""

import importlib
import multiprocessing
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from thermokernels.common.errors import NotConvergedError
from thermokernels_app.experiment.design import Design, Grid, load_design
from thermokernels_app.experiment.records import store
from thermokernels_app.experiment.running import campaign, runner
from thermokernels_app.judges import verdicts

pytestmark = pytest.mark.xdist_group("runner")

TINY = replace(
    Design(),
    grid=Grid(m=(4,), split=(2, 3), checkpoints=("half", "final"), codes=(1, 2)),
    training=replace(Design().training, steps=60),
    polish=replace(Design().polish, iterations=5),
    directions=1,
    steps=(1e-3, 1e-4),
)


class Inline(Executor):
    """Runs a task when it is submitted: no threads, no chance."""

    def submit(self, function, /, *arguments, **options):
        future = Future()
        try:
            future.set_result(function(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


class Broken(Executor):
    """Every task ends with this error."""

    def __init__(self, error):
        self.error = error

    def submit(self, function, /, *arguments, **options):
        future = Future()
        future.set_exception(self.error)
        return future


def interrupt_after(cells):
    def progress(state):
        if state.description.startswith(f"{cells} of"):
            raise KeyboardInterrupt

    return progress


@pytest.fixture(scope="module")
def reference():
    return runner.run(TINY, executor=Inline())


def test_the_document_holds_every_cell_of_the_grid_in_order(reference):
    document = reference.document
    assert document["status"] == "complete"
    assert [(c["m"], c["split"], c["checkpoint"], c["code"]) for c in document["cells"]] == [
        (4, s, name, k) for s in (2, 3) for name in ("half", "final") for k in (1, 2)
    ]
    assert all(cell["status"] == "ok" and cell["q"]["value"] > 0 and cell["gradient"]["dq_dphi_norm"] > 0 for cell in document["cells"])
    assert [(c["split"], c["checkpoint"]) for c in document["checkpoints"]] == [(s, name) for s in (2, 3) for name in ("half", "final")]
    assert document["design_sha256"] == TINY.digest() == store.digest(document["design"])
    judged = verdicts.judge(document["design"], document["cells"], document["checkpoints"], document["stationarity"])
    assert store.plain(judged) == document["verdicts"]
    assert reference.folder is None


def test_every_code_with_a_high_divergence_is_tested_for_stationarity(reference):
    cells = [cell for cell in reference.document["cells"] if cell["checkpoint"] == "final"]
    high = [(cell["split"], cell["code"]) for cell in cells if cell["training"]["kl"] > TINY.thresholds.final_kl]
    assert high
    assert [(row["split"], row["code"]) for row in reference.document["stationarity"]] == high


def test_the_arrays_are_those_of_the_records(reference):
    for cell in reference.document["cells"]:
        place = f"m4/s{cell['split']}/{cell['checkpoint']}/code{cell['code']}"
        assert reference.arrays[f"{place}/W"].shape == (4, 4)
        assert np.linalg.norm(reference.arrays[f"{place}/dq_dw"]) == cell["gradient"]["dq_dw_norm"]
        assert np.linalg.norm(reference.arrays[f"{place}/dq_dphi"]) == cell["gradient"]["dq_dphi_norm"]
        assert reference.arrays[f"{place}/spectrum_gaps"].shape == reference.arrays[f"{place}/spectrum_weights"].shape
    assert reference.arrays["m4/s2/kl"].shape == (61, 4)


def test_the_same_bits_whatever_the_number_of_workers(reference, tmp_path):
    with ThreadPoolExecutor(3) as threads:
        other = runner.run(TINY, executor=threads)
    processes = runner.run(TINY, tmp_path, workers=2)
    for run in (other, processes):
        assert run.document["records_sha256"] == reference.document["records_sha256"]
        assert run.arrays.keys() == reference.arrays.keys()
        assert all(np.array_equal(run.arrays[name], array) for name, array in reference.arrays.items())
    assert store.read_results(tmp_path) == processes.document
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arrays.npz", "results.json"]
    assert multiprocessing.active_children() == []


def test_an_interrupted_run_is_kept_and_resumed_to_the_same_bits(reference, tmp_path):
    run = runner.run(TINY, tmp_path, executor=Inline(), progress=interrupt_after(3))
    assert (run.document["status"], run.exit_code, len(run.document["cells"])) == ("interrupted", 130, 3)
    assert set(run.verdicts.values()) == {"HALT"}
    assert store.read_results(tmp_path) == run.document
    with pytest.raises(ValueError, match="already holds a run of this design"):
        runner.run(TINY, tmp_path, executor=Inline())

    again = runner.run(TINY, tmp_path, executor=Inline(), resume=True)
    assert again.document["records_sha256"] == reference.document["records_sha256"]
    assert again.document["run"]["tasks_resumed"] >= 3
    assert not (tmp_path / "journal.jsonl").exists()

    class Nothing(Executor):
        """A complete run is returned as it is."""

    assert runner.run(TINY, tmp_path, executor=Nothing(), resume=True).document == again.document


def test_an_interrupt_ends_the_worker_processes(tmp_path):
    run = runner.run(TINY, tmp_path, workers=2, progress=interrupt_after(1))
    assert run.document["status"] == "interrupted"
    for child in multiprocessing.active_children():
        child.join(10)
    assert multiprocessing.active_children() == []


def test_a_failed_check_halts_the_run_and_names_cell_and_check(tmp_path):
    strict = replace(TINY, thresholds=replace(TINY.thresholds, reversibility=1e-300))
    run = runner.run(strict, tmp_path, executor=Inline())
    document = store.read_results(tmp_path)
    assert (document["status"], run.exit_code) == ("halted", 11)
    assert document["halt"]["check"] == "reversibility"
    assert document["halt"]["where"] == "cell, m 4, split 2, checkpoint half, code 1"
    (cell,) = document["cells"]
    assert (cell["status"], cell["halt"]["check"]) == ("halted", "reversibility")
    assert cell["battery"]["reversibility"] > 0
    assert set(run.verdicts.values()) == {"HALT"}
    assert (tmp_path / "journal.jsonl").exists()


def test_a_numerical_error_halts_the_run():
    run = runner.run(TINY, executor=Broken(NotConvergedError("the tolerance was missed")))
    assert (run.document["status"], run.exit_code) == ("halted", 11)
    assert run.document["halt"]["check"] == "NotConvergedError"
    assert run.document["halt"]["detail"] == "the tolerance was missed"


def test_any_other_error_names_the_task():
    with pytest.raises(RuntimeError, match="compile_measures failed: ZeroDivisionError"):  # a mistake of ours, and no HALT
        runner.run(TINY, executor=Broken(ZeroDivisionError("division by zero")))
    with pytest.raises(RuntimeError, match="compile_measures failed: KeyError: 'what'"):
        runner.run(TINY, executor=Broken(KeyError("what")))


@pytest.fixture
def ticking(monkeypatch):
    """A clock that moves on by one second whenever it is read."""
    seconds = iter(range(10**9))
    monkeypatch.setattr(campaign.time, "monotonic", lambda: float(next(seconds)))


@pytest.mark.usefixtures("ticking")
def test_the_projection_at_half_time_decides(tmp_path):
    run = runner.run(TINY, executor=Inline())
    projection = run.document["run"]["projection"]
    assert (projection["decision"], projection["cells_done"], projection["cells"]) == ("PROCEED", 4, 8)
    assert projection["projected_seconds"] > 1.5 * projection["seconds"]

    # A cap that has not been reached at half time, but will be.
    stopped = runner.run(replace(TINY, cap_seconds=1.5 * projection["seconds"]), tmp_path, executor=Inline())
    assert (stopped.document["status"], stopped.exit_code) == ("stopped", 12)
    assert stopped.document["run"]["projection"]["decision"] == "STOP"
    assert len(stopped.document["cells"]) == 4
    assert set(stopped.verdicts.values()) == {"HALT"}
    assert len(store.read_results(tmp_path)["cells"]) == 4


@pytest.mark.usefixtures("ticking")
@pytest.mark.parametrize("killed", [False, True])
def test_a_run_that_was_stopped_goes_on_under_another_cap(tmp_path, killed):
    short = replace(TINY, cap_seconds=2.0)
    stopped = runner.run(short, tmp_path, executor=Inline())
    assert (stopped.document["status"], stopped.document["run"]["cap_seconds"]) == ("stopped", 2.0)
    if killed:  # before it wrote its results: the journal alone says what it was
        (tmp_path / store.RESULTS).unlink()
    went_on = runner.run(replace(TINY, cap_seconds=1e6), tmp_path, resume=True, executor=Inline())
    assert went_on.document["status"] == "complete"
    assert went_on.document["design_sha256"] == stopped.document["design_sha256"] == short.digest()
    assert (went_on.document["design"]["cap_seconds"], went_on.document["run"]["cap_seconds"]) == (2.0, 1e6)
    assert runner.run(TINY, tmp_path, resume=True, executor=Inline()).document == store.read_results(tmp_path)
    with pytest.raises(ValueError, match="holds the run of another design"):
        runner.run(replace(TINY, cap_seconds=1e6), tmp_path, executor=Inline())
    with pytest.raises(ValueError, match="holds the run of another design"):
        runner.run(replace(TINY, seed=1), tmp_path, resume=True, executor=Inline())


def test_a_task_limit_that_compiling_exceeds_is_named():
    with pytest.raises(ValueError, match=r"the task limit \(--task-limit\) of 0.01 s is too short: compiling the kernels takes longer"):
        runner.run(TINY, workers=1, task_limit=0.01)


@pytest.mark.usefixtures("ticking")
def test_the_cap_stops_a_run_before_half_time(tmp_path):
    run = runner.run(replace(TINY, cap_seconds=2.0), tmp_path, executor=Inline())
    assert (run.document["status"], run.exit_code, run.document["run"]["projection"]) == ("stopped", 12, None)
    assert run.document["cells"] == []


def test_the_cap_stops_a_run_that_hangs():
    class Hanging(Executor):
        def submit(self, function, /, *arguments, **options):
            return Future()

    start = time.monotonic()
    assert runner.run(replace(TINY, cap_seconds=0.2), executor=Hanging()).exit_code == 12
    assert time.monotonic() > start


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_workers_must_be_a_positive_integer(workers):
    with pytest.raises(ValueError, match="workers must be a positive integer"):
        runner.run(TINY, workers=workers)


def test_a_folder_of_another_design_is_left_alone(tmp_path):
    (tmp_path / "arrays.npz").write_text("something")
    with pytest.raises(ValueError, match="cannot be read; name another folder"):
        runner.run(TINY, tmp_path, executor=Inline())
    assert [path.name for path in tmp_path.iterdir()] == ["arrays.npz"]


def test_a_model_too_large_for_memory_is_bad_input(monkeypatch):
    monkeypatch.setattr("thermokernels.common.memory.available", lambda: 1000)
    with pytest.raises(ValueError, match="of memory"):
        runner.run(load_design("smoke"), executor=Inline())


@pytest.mark.parametrize(
    ("status", "verdict", "code"),
    [
        ("complete", ["PASS", "PASS"], 0),
        ("complete", ["PASS", "FAIL"], 10),
        ("complete", ["HALT", "FAIL"], 11),
        ("complete", [], 11),
        ("halted", ["PASS"], 11),
        ("stopped", ["PASS"], 12),
        ("interrupted", ["PASS"], 130),
    ],
)
def test_exit_codes(status, verdict, code):
    assert runner.exit_code({"status": status, "verdicts": {str(k): {"verdict": v} for k, v in enumerate(verdict)}}) == code


def test_a_gradient_check_that_gives_no_number_halts_the_run(monkeypatch):
    cell = importlib.import_module("thermokernels_app.experiment.cell")
    sound = cell.gradient_check

    def broken(*arguments, **options):
        record = sound(*arguments, **options)
        record["directions"][0]["complex_error"] = None
        return record

    monkeypatch.setattr(cell, "gradient_check", broken)
    run = runner.run(TINY, executor=Inline())
    assert (run.document["status"], run.exit_code) == ("halted", 11)
    assert run.document["halt"]["check"] == "gradient complex_error"


def test_models_beyond_the_dense_reference_run_with_the_anchor_elsewhere():
    grid = replace(TINY.grid, m=(4, 7), split=(2,), checkpoints=("half",), codes=(1,))
    run = runner.run(replace(TINY, grid=grid, anchor=replace(TINY.anchor, m=4, split=2, checkpoint="half")), executor=Inline())
    assert run.document["status"] == "complete"
    assert [cell["m"] for cell in run.document["cells"]] == [4, 7]
    assert run.document["checkpoints"][1]["gradient_check"]["value_error"] <= 1e-10
