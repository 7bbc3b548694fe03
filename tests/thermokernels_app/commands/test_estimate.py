"""``thermo estimate``: its screen, its JSON, exit code 11 where the answer is not trusted, and one sentence for what is wrong."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import thermokernels as tk
from thermokernels_app import main
from thermokernels_app.report import layout

W = np.array([[0.6, 0.4, -0.3], [0.5, -0.7, 0.4], [-0.2, 0.5, 0.6]])
SAMPLES = np.array([[1, 1, -1], [1, -1, 1], [1, 1, -1], [-1, -1, 1]])


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """The command inside this process, in a folder with models and samples."""
    monkeypatch.chdir(tmp_path)
    np.save("W.npy", W)
    np.save("samples.npy", SAMPLES)
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
    assert lines[0] == "3 visible + 3 hidden spins, alternating Gibbs sampling, 100 sweeps behind a gradient"
    assert lines[2].startswith("* Yes: in 100 sweeps the gradient is louder than its noise (Q = ")
    assert max(map(len, lines[1:])) <= 80
    assert any("Q at 100 sweeps" in line for line in lines)
    assert any("replicates, the farthest makes" in line for line in lines)


def test_without_data_it_says_what_is_missing(invoke):
    result = invoke("W.npy", "--replicates", 256, "--kernel", "two-block")
    assert result.exit_code == 0, result.output
    assert "Gradients stay correlated: T_O is" in result.stdout
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
        (("W.npy", "--replicates", "64", "--budget", "1s"), "n_replicates must be given alone"),
        (("W.npy", "--data", "W.npy"), r"the samples file W.npy: .*must hold spins"),
        (("nothing.npy",), "nothing.npy"),
        (("W.npy", "--scheduler", "tcp://x"), "--scheduler goes with --executor dask"),
    ],
)
def test_bad_input_is_one_sentence(invoke, arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("thermo: ")]
    assert re.search(message, line)


def test_diagnose_of_a_large_model_offers_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("large.npy", np.zeros((40, 30)))
    result = CliRunner().invoke(main.app, ["diagnose", "large.npy"])
    assert result.exit_code == 2
    assert "thermo estimate" in result.stderr
