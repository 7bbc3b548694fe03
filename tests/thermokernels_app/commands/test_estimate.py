"""``thermo estimate``: its screen, its JSON, exit code 11 where the answer is not trusted, and one sentence for what is wrong."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import thermokernels as tk
from thermokernels.estimates.statistics.intervals import three_digits
from thermokernels_app import main
from thermokernels_app.report.screens import layout

W = np.array([[0.6, 0.4, -0.3], [0.5, -0.7, 0.4], [-0.2, 0.5, 0.6]])
SAMPLES = np.array([[1, 1, -1], [1, -1, 1], [1, 1, -1], [-1, -1, 1]])


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """The command inside this process, in a folder with models and samples."""
    monkeypatch.chdir(tmp_path)
    np.save("W.npy", W)
    np.save("samples.npy", SAMPLES)
    np.save("wide.npy", np.ones((4, 5)))
    np.save("million.npy", np.zeros((10**6, 1)))
    np.save("bits.npy", np.eye(3))
    np.save("nan.npy", np.full((3, 3), np.nan))
    np.savez("stuck.npz", W=np.full((4, 4), 2.5), b=np.full(4, 1e-3), c=np.zeros(4))
    return lambda *arguments: CliRunner().invoke(main.app, ["estimate", *map(str, arguments)])


def test_json_is_the_answer_from_python(invoke):
    result = invoke("W.npy", "--data", "samples.npy", "--window", 50, "--replicates", 256, "--seed", 3, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    estimate = tk.estimate_q(W, SAMPLES, 50, n_replicates=256, seed=3)
    assert (found["value"], found["interval"]) == (estimate.value, list(estimate.interval))
    assert (found["t_obs"], found["n_replicates"], found["trusted"], found["reason"]) == (estimate.t_obs, 256, True, "")
    assert found["meeting_times"] == estimate.meeting_times.tolist()
    assert found["t_obs_at_least"] is None


def test_screen(invoke, monkeypatch):
    monkeypatch.setattr(layout, "terminal_width", lambda: 80)
    monkeypatch.setenv("COLUMNS", "80")
    result = invoke("W.npy", "--data", "samples.npy", "--replicates", 256)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "3 visible + 3 hidden spins, alternating Gibbs, 100 sweeps behind a gradient"
    assert lines[2].startswith("* Yes: in 100 sweeps the gradient is louder than its noise (Q = ")
    assert max(map(len, lines[1:])) <= 80
    assert any("Q at 100 sweeps" in line for line in lines)
    assert any("replicates, the farthest makes" in line for line in lines)


def test_without_data_it_says_what_is_missing(invoke):
    result = invoke("W.npy", "--replicates", 256, "--kernel", "two-block")
    assert result.exit_code == 0, result.output
    assert re.search(r"Records stay correlated for about [\d.]+ sweeps: T_O, a sum over all observables", " ".join(result.stdout.split()))
    assert "(--data)" in result.stdout


def test_a_stuck_chain_is_exit_code_11(invoke):
    result = invoke("stuck.npz", "--budget", "0.1s")
    assert result.exit_code == 11
    assert "Not to be trusted:" in result.stdout
    assert "did not meet" in result.stdout
    plain = invoke("stuck.npz", "--budget", "0.1s", "--json")
    assert plain.exit_code == 11
    assert json.loads(plain.stdout)["t_obs"] is None


def test_few_replicates_are_exit_code_11(invoke):
    result = invoke("W.npy", "--replicates", 32)
    assert result.exit_code == 11
    assert "32 replicates are too few" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("W.npy", "--window", "0"), "--window must be a positive"),
        (("W.npy", "--kernel", "gibbs"), "kernel must be one of"),
        (("W.npy", "--budget", "soon"), "--budget must be a positive time"),
        (("W.npy", "--budget", "1e-9s"), "--budget must be a positive time"),
        (("W.npy", "--budget", "0.00001s"), "budget must last longer than the pilot"),
        (("W.npy", "--replicates", "64", "--budget", "1s"), "--replicates must be given alone"),
        (("W.npy", "--data", "W.npy"), r"the samples file W.npy: .*must hold spins"),
        (("nothing.npy",), "nothing.npy"),
        (("W.npy", "--scheduler", "tcp://x"), "--scheduler goes with --executor dask"),
        (("W.npy", "--data", "wide.npy"), "the samples file wide.npy"),
        (("W.npy", "--data", "bits.npy"), r"the samples file bits.npy: .*must hold spins"),
        (("nan.npy",), "must be finite"),
        (("million.npy",), "coupled chains of 1000001 spins would take .*; estimate a smaller model"),
        (("W.npy", "--kernel", "symmetrised-alternating"), "kernel must be one of 'single-site', 'two-block', 'alternating'"),
        (("W.npy", "--checkpoint", "W.npy"), "checkpoint W.npy is no checkpoint that can be read"),
    ],
)
def test_bad_input_is_one_sentence(invoke, arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("thermo: ")]
    assert re.search(message, line)


@pytest.fixture
def child(tmp_path):
    """The command in a process of its own, which gets the signal of Ctrl-C, once or twice, in the middle of task 5; every wave is kept."""
    np.save(tmp_path / "W.npy", W)
    code = (
        "import os, signal, sys, time\n"
        "from thermokernels.estimates import estimate, running\n"
        "from thermokernels_app.main import main\n"
        "n_signals, task = int(sys.argv[1]), running.run_task\n"
        "def run_task(sources, question, first, n, *rest):\n"
        "    if first <= 160 < first + n:\n"
        "        for _ in range(n_signals):\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "            time.sleep(0.5)\n"
        "    return task(sources, question, first, n, *rest)\n"
        "running.run_task, estimate.KEEP_EVERY = run_task, -1.0\n"
        "sys.argv[1:] = ['estimate', 'W.npy', '--replicates', '8000', '--checkpoint', 'kept.npz', '--json']\n"
        "main()\n"
    )
    environment = os.environ | {"THERMO_THREADS": "2"}  # a signal is heard while the threads of a pool work

    def run(n_signals):
        command = [sys.executable, "-c", code, str(n_signals)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    return run


@pytest.mark.skipif(os.name != "posix", reason="SIGINT to a child process")
def test_an_interrupt_waits_for_the_replicates_that_were_begun(child):
    stopped = child(1)
    assert stopped.returncode == 0, stopped.stderr
    assert "ending after the replicates that were begun; once more to give up" in stopped.stderr
    found = json.loads(stopped.stdout)
    assert 192 <= found["n_replicates"] < 8000
    assert found["t_obs"] == tk.estimate_q(W, None, n_replicates=found["n_replicates"]).t_obs
    whole = child(0)
    assert json.loads(whole.stdout)["t_obs"] == tk.estimate_q(W, None, n_replicates=8000).t_obs


@pytest.mark.skipif(os.name != "posix", reason="SIGINT to a child process")
def test_a_second_interrupt_gives_no_answer(child):
    stopped = child(2)
    assert stopped.returncode == 130
    assert json.loads(stopped.stdout) == {"error": {"exit_code": 130, "message": "interrupted"}}
    assert stopped.stderr.splitlines()[-1] == "thermo: interrupted"
    resumed = child(0)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["t_obs"] == tk.estimate_q(W, None, n_replicates=8000).t_obs


def test_what_still_holds_is_on_the_screen_and_in_json(invoke):
    np.save("wells.npy", 3.5 * np.kron(np.eye(2), np.ones((2, 2))))
    np.savez("wells.npz", W=np.load("wells.npy"), b=[0.05, 0, 0, 0], c=np.zeros(4))
    result = invoke("wells.npz", "--kernel", "two-block", "--budget", "1s", "--json")
    assert result.exit_code == 11
    found = json.loads(result.stdout)
    at_least = found["t_obs_at_least"]
    assert 2000 < at_least < tk.observable_variance_time(tk.gibbs_chain(np.load("wells.npy"), [0.05, 0, 0, 0], kernel="two-block"))
    assert found["sentences"][-1] == f"What still holds: T_O is at least {three_digits(at_least / 2)} sweeps (with 97.5 % confidence)."
    np.save("weak.npy", np.full((3, 3), 0.1))
    weak = json.loads(invoke("weak.npy", "--kernel", "single-site", "--replicates", 32, "--json").stdout)
    assert weak["sentences"][-1].startswith("What still holds: T_O is at most ")
    assert weak["t_obs_at_most"] == pytest.approx(9 * 6 / (1 - 0.6))


def test_diagnose_of_a_large_model_offers_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("large.npy", np.zeros((40, 30)))
    result = CliRunner().invoke(main.app, ["diagnose", "large.npy"])
    assert result.exit_code == 2
    assert "thermo estimate" in result.stderr
