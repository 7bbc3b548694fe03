"""``thermo variance``: exact and by probes, its JSON, checkpoints over an interrupt, and one sentence for what is wrong."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from typer.testing import CliRunner

import thermokernels as tk
from thermokernels.quantities.variance_time import VarianceTime
from thermokernels_app import main

W = np.array([[1.2, 0.4, -0.3], [0.5, -1.1, 0.8], [-0.2, 0.9, 1.3]])
SAMPLES = np.array([[1, 1, -1], [1, -1, 1], [1, 1, -1], [-1, -1, 1]])


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """The command inside this process, in a folder with a model and samples."""
    monkeypatch.chdir(tmp_path)
    np.save("W.npy", W)
    np.save("samples.npy", SAMPLES)
    return lambda *arguments: CliRunner().invoke(main.app, ["variance", *map(str, arguments)])


def test_exact(invoke):
    result = invoke("W.npy", "--data", "samples.npy", "--window", 50, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    q = tk.q_struct(W, tk.law_of_samples(SAMPLES), window=50)
    assert (found["t_obs_steps"], found["t_obs_bound_steps"], found["q"]) == (q.t_obs, q.t_obs_bound, q.value)
    assert (found["residual"], found["method"], found["n_spins"]) == (q.residual, "cholesky", 6)
    assert "3 visible + 3 hidden spins, 2**5 pairs {x, -x}, 9 observables: from" in result.stderr
    plain = invoke("W.npy")
    assert f"{q.t_obs:.10g} steps = {q.t_obs / 6:.10g} sweeps" in plain.stdout
    assert "error at most" in plain.stdout
    assert "Q " not in plain.stdout
    assert (found["q_bound"], found["signal_bound"]) == (q.bound, q.signal_bound)
    assert (
        f"Q          {q.value:.6g} at 50 sweeps; error at most {q.bound:.2g}; |g|^2 = {q.signal:.6g}\n"
        in invoke("W.npy", "--data", "samples.npy", "--window", 50).stdout
    )


def test_digits_that_are_not_certain_are_not_shown(invoke, monkeypatch):
    np.save("cold.npy", np.array([[14.0, 1e-3], [1e-3, 14.5]]))
    value = json.loads(invoke("cold.npy", "--json").stdout)["t_obs_steps"]
    shown = invoke("cold.npy").stdout
    assert "(state reduction, proven)\nV " in shown
    assert "\nresidual   " in shown
    assert "(reduction, in the norm of the resolvent, proven)\n" in shown
    monkeypatch.setattr(VarianceTime, "bound", 2e-4 * value)
    assert f"T_O        {value:.2e} steps" in invoke("cold.npy").stdout


def test_a_model_without_a_bound_says_so(invoke, monkeypatch):
    def refuse(_):
        raise tk.UnresolvedError("no gap")

    monkeypatch.setattr(VarianceTime, "bound", property(refuse))
    result = invoke("W.npy", "--data", "samples.npy")
    assert result.exit_code == 0, result.output
    assert "no error bound: no gap\n" in result.stdout
    assert "sweeps; no error bound; |g|^2" in result.stdout
    assert json.loads(invoke("W.npy", "--data", "samples.npy", "--json").stdout)["q_bound"] is None


def test_probes(invoke):
    result = invoke("W.npy", "--data", "samples.npy", "--probes", 5, "--seed", 3, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    q = tk.probe_q_struct(W, tk.law_of_samples(SAMPLES), n_probes=5, seed=3)
    assert (found["t_obs_steps"], found["t_obs_standard_error_steps"]) == (q.time.value, q.time.standard_error)
    assert (found["q"], found["q_standard_error"]) == (q.value, q.standard_error)
    plain = invoke("W.npy", "--probes", 5, "--seed", 3).stdout
    assert "standard error" in plain
    assert "5 probes, seed 3" in plain
    assert "uncertain itself with 5 probes: 16 and more give a fair error" in plain
    assert "uncertain itself" not in invoke("W.npy", "--probes", 16, "--seed", 3).stdout


def test_fields_are_of_the_full_chain(invoke):
    np.savez("model.npz", W=W, b=[0.1, 0.0, -0.2])
    result = invoke("model.npz", "--json")
    chain = tk.gibbs_chain(W, [0.1, 0.0, -0.2])
    assert json.loads(result.stdout)["t_obs_steps"] == tk.observable_variance_time(chain)
    assert "2**6 states" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--probes", "4"], "--probes and --seed belong together"),
        (["--seed", "4"], "--probes and --seed belong together"),
        (["--window", "-1"], "--window must be a positive, finite number of sweeps"),
        (["--checkpoint", "nowhere/state.npz"], "nowhere cannot be read or written"),
        (["--checkpoint", "samples.npy"], "checkpoint samples.npy is no checkpoint that can be read"),
        (["--executor", "dask"], "--executor dask needs --scheduler with the address of a Dask scheduler"),
        (["--scheduler", "tcp://127.0.0.1:1"], "--scheduler goes with --executor dask"),
        (["--executor", "dask", "--scheduler", "x", "--workers", "2"], "--workers goes with --executor processes"),
        (["--workers", "100000000000"], "less than or equal to 1024"),
    ],
)
def test_wrong_calls_are_one_sentence(invoke, options, message):
    result = invoke("W.npy", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_a_task_that_is_lost_is_one_sentence(invoke, monkeypatch):
    np.save("model.npy", np.random.default_rng(0).standard_normal((6, 7)))  # not solved in one call

    class Failing(ThreadPoolExecutor):
        def submit(self, *_):
            return super().submit(divmod, 1, 0)

    monkeypatch.setattr("thermokernels_app.experiment.running.pool.WorkerPool", Failing)
    result = invoke("model.npy", "--workers", 2, "--json")
    assert result.exit_code == 1
    sentence = "the executor lost observables 1 to 42 (ZeroDivisionError: "
    assert f"thermo: {sentence}" in result.stderr
    assert json.loads(result.stdout)["error"]["message"].startswith(sentence)


def test_a_model_that_is_too_large_says_what_it_would_take(invoke):
    np.save("large.npy", np.zeros((30, 30)))
    result = invoke("large.npy")
    assert result.exit_code == 2
    assert "T_O of 900 observables of 60 spins (2**59 states) would take" in result.stderr
    np.save("samples.npy", np.zeros((5000, 6)))  # samples in place of couplings: 2**5005 is no float
    result = invoke("samples.npy")
    assert result.exit_code == 2
    assert "T_O of 30000 observables of 5006 spins (2**5005 states) would take" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="SIGINT to a child process")
def test_an_interrupt_keeps_finished_chunks(tmp_path):
    np.save(tmp_path / "W.npy", np.random.default_rng(0).standard_normal((6, 7)))  # not solved in one call
    code = (  # chunks of two, and the signal of Ctrl-C after the second of them
        "import os, signal, sys\n"
        "from thermokernels.common import footprint\n"
        "from thermokernels.solvers import checkpoint\n"
        "from thermokernels_app.main import main\n"
        "word, save, calls = sys.argv[1], checkpoint.RestartFile.save, []\n"
        "def saved(self, arrays):\n"
        "    save(self, arrays)\n"
        "    calls.append(1)\n"
        "    if word == 'stop' and len(calls) == 2:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "checkpoint.RestartFile.save = saved\n"
        "footprint.rows_at_once = footprint.block_rows = lambda *sizes: 2\n"
        "sys.argv[1:] = ['variance', 'W.npy', '--checkpoint', 'state.npz', '--json']\n"
        "main()\n"
    )

    def run(word):
        return subprocess.run([sys.executable, "-c", code, word], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    stopped = run("stop")
    assert stopped.returncode == 130
    assert "finished solves are kept in state.npz: the same command goes on from them" in stopped.stderr
    with np.load(tmp_path / "state.npz") as state:
        assert state["done"][0] == 4
    finished = run("go on")
    assert finished.returncode == 0, finished.stderr
    expected = tk.observable_variance_time(tk.gibbs_chain(np.load(tmp_path / "W.npy")))
    assert json.loads(finished.stdout)["t_obs_steps"] == expected


def test_progress_is_told_on_stderr(invoke, monkeypatch):
    monkeypatch.setattr("thermokernels.common.footprint.rows_at_once", lambda n_rows, states: 4)
    np.savez("fields.npz", W=np.random.default_rng(0).standard_normal((4, 7)) / 2, b=[0.1, 0, 0, 0])  # not solved in one call
    result = invoke("fields.npz")
    assert result.exit_code == 0, result.output
    assert [line for line in result.stderr.splitlines() if "solves" in line] == [
        "8 of 28 solves done",
        "16 of 28 solves done",
        "24 of 28 solves done",
    ]
