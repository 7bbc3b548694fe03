"""The workers of a Dask scheduler: a real scheduler and two workers in processes of their own, one of which is killed in the middle."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from thermokernels.common import footprint
from thermokernels_app.experiment.design import load_design
from thermokernels_app.experiment.records import store
from thermokernels_app.experiment.running import runner
from thermokernels_app.experiment.running.cluster import dask_executor

pytestmark = pytest.mark.distributed

TINY = """
training.steps = 60
polish.iterations = 5
directions = 1
steps = [1e-3, 1e-4]
[grid]
m = [4]
split = [2, 3]
checkpoints = ["half", "final"]
codes = [1, 2]
"""

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}


def dask(module, *options):
    """One process of Dask, the head of a group of its own."""
    command = [sys.executable, "-P", "-m", f"distributed.cli.{module}", "--no-dashboard", *map(str, options)]
    return subprocess.Popen(command, start_new_session=True, **QUIET)


def worker(address):
    return dask("dask_worker", address, "--host", "127.0.0.1", "--nthreads", 1, "--no-nanny")


def wait_for_workers(address, count):
    from distributed import Client

    with Client(address, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)


@pytest.fixture(scope="module")
def cluster():
    """The address of a scheduler with two workers, and the list of their processes."""
    pytest.importorskip("distributed", reason="Dask is not installed: pip install '.[distributed]'")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    scheduler = dask("dask_scheduler", "--host", "127.0.0.1", "--port", port)
    workers = [worker(address), worker(address)]
    try:
        wait_for_workers(address, 2)
        yield address, workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def design(tmp_path_factory):
    path = tmp_path_factory.mktemp("grid") / "tiny.toml"
    path.write_text(TINY)
    return load_design(path)


@pytest.fixture(scope="module")
def local(design):
    with ThreadPoolExecutor(1) as threads:
        return runner.run(design, executor=threads)


def test_the_same_bits_from_the_command_line(cluster, design, local, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    command = [sys.executable, "-P", "-c", "from thermokernels_app.main import main; main()", "run", "--grid", "tiny.toml", "--out", "kept"]
    command += ["--executor", "dask", "--scheduler", cluster[0]]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == local.exit_code, result.stderr
    document = store.read_results(tmp_path / "kept")
    assert document["records_sha256"] == local.document["records_sha256"]
    assert document["run"]["executor"] == "ClientExecutor"


@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
def test_a_worker_killed_in_the_middle_changes_no_bit(cluster, design, local, tmp_path):
    address, workers = cluster
    killed = []

    def kill_one(progress):
        if not killed and progress.description.startswith("2 of"):
            killed.append(time.monotonic())
            workers[0].send_signal(signal.SIGKILL)

    with dask_executor(address) as executor:
        run = runner.run(design, tmp_path, executor=executor, progress=kill_one)
    assert killed
    assert workers[0].wait(10) == -signal.SIGKILL
    assert run.document["status"] == "complete"
    assert run.document["records_sha256"] == local.document["records_sha256"]
    assert store.arrays_as_bytes(run.arrays) == store.arrays_as_bytes(local.arrays)
    workers[0] = worker(address)
    wait_for_workers(address, 2)


def test_an_ensemble_is_its_runs(cluster, design, local):
    with dask_executor(cluster[0]) as executor:
        runs = runner.ensemble(design, [0, 1], executor=executor)
    assert runs[0].document["records_sha256"] == local.document["records_sha256"]
    assert runs[1].document["records_sha256"] != local.document["records_sha256"]


# One solve: 2**16 states, 64 observables.
COUPLINGS, FIELD = np.random.default_rng(8).normal(size=(8, 8)) / 4, np.full(8, 0.1)

# One that takes the workers seconds, so that they are at work when one of them is killed: 2**18 states, 81 observables.
LONGER = np.random.default_rng(9).normal(size=(9, 9)) / 4, np.full(9, 0.1)


def gradient(model=(COUPLINGS, FIELD), **options):
    value, parts = adjoints.observable_variance_time(*model, fields=True, **options)
    return [value.hex(), *(part.tobytes() for part in parts)]


def test_one_solve_has_the_same_bits(cluster):
    law = np.full(256, 1 / 256)
    with dask_executor(cluster[0]) as executor:
        assert gradient(executor=executor) == gradient()
        found = tk.probe_q_struct(COUPLINGS, law, n_probes=30, seed=1, b=FIELD, executor=executor)
    expected = tk.probe_q_struct(COUPLINGS, law, n_probes=30, seed=1, b=FIELD)
    assert (found.value, found.standard_error) == (expected.value, expected.standard_error)


def test_an_error_of_a_solve_arrives_as_itself(cluster):
    with dask_executor(cluster[0]) as executor, pytest.raises(tk.NotConvergedError, match="solved to a relative residual of"):
        tk.observable_variance_time(tk.gibbs_chain(np.diag([60.0, 60.0])), "cg", executor=executor)


def test_one_solve_from_the_command_line(cluster, tmp_path):
    np.savez(tmp_path / "model.npz", W=COUPLINGS, b=FIELD)
    command = [sys.executable, "-P", "-c", "from thermokernels_app.main import main; main()", "variance", "model.npz", "--json"]
    answers = []
    for options in ([], ["--executor", "dask", "--scheduler", cluster[0]], ["--workers", "2"]):
        result = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        answers.append(json.loads(result.stdout))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["t_obs_steps"] == tk.observable_variance_time(tk.gibbs_chain(COUPLINGS, FIELD))


@pytest.fixture
def killing(cluster, monkeypatch):
    """A progress function that kills one of the workers after the first of 41 blocks, what it was told, and another worker afterwards."""
    address, workers = cluster
    monkeypatch.setattr(footprint, "block_rows", lambda states: 2)
    told = []

    def kill_one(done, total):
        told.append(done)
        if len(told) == 1:
            workers[0].send_signal(signal.SIGKILL)
            assert workers[0].wait(10) == -signal.SIGKILL

    yield kill_one, told
    workers[0] = worker(address)
    wait_for_workers(address, 2)


@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
def test_an_estimate_outlives_two_workers(cluster):
    address, workers = cluster
    told = []

    def kill(*progress):
        told.append(progress)
        if len(told) in (1, 3):
            old = workers[len(told) % 2]
            workers[len(told) % 2] = worker(address)
            wait_for_workers(address, 3)
            old.send_signal(signal.SIGKILL)
            assert old.wait(10) == -signal.SIGKILL

    here = tk.estimate_q(COUPLINGS, None, n_replicates=6400, seed=2)
    with dask_executor(address) as executor:
        there = tk.estimate_q(COUPLINGS, None, n_replicates=6400, seed=2, executor=executor, progress=kill)
    assert len(told) > 3
    assert (there.replicates == here.replicates).all()
    assert there.t_obs_interval == here.t_obs_interval


@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
def test_one_solve_outlives_a_worker(cluster, killing):
    kill_one, told = killing
    with dask_executor(cluster[0]) as executor:
        assert gradient(LONGER, executor=executor, progress=kill_one) == gradient(LONGER)
    assert told == [*range(2, 81, 2), 81]


@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
def test_a_task_that_dask_gives_up_is_said_and_the_solve_goes_on_from_its_checkpoint(cluster, killing, tmp_path):
    from distributed import Client

    kill_one, told = killing
    path = tmp_path / "state.npz"
    with Client(cluster[0], set_as_default=False) as client:
        allowed = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.allowed_failures)
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
        try:
            with (
                dask_executor(cluster[0]) as executor,
                pytest.raises(tk.ExecutorError, match=r"lost observables \d+ to \d+ \(KilledWorker: "),
            ):
                gradient(LONGER, executor=executor, progress=kill_one, checkpoint=path)
        finally:
            client.run_on_scheduler(lambda dask_scheduler, number: setattr(dask_scheduler, "allowed_failures", number), number=allowed)
    before, again = told[-1], []
    assert 2 <= before < 81
    assert gradient(LONGER, progress=lambda done, total: again.append(done), checkpoint=path) == gradient(LONGER)
    assert again[0] == before


def test_no_scheduler_is_one_sentence(cluster):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"no Dask scheduler answers at '{address}'"), dask_executor(address, timeout=1.0):
            pass
    with (
        pytest.raises(ValueError, match="no Dask scheduler answers at 'what://ever': unknown address scheme"),
        dask_executor("what://ever"),
    ):
        pass
