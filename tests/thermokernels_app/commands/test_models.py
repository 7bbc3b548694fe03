"""The model that a command is about: every command reads the same files, and says where a file may hold another model."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import thermokernels as tk
from thermokernels_app import main

SYMMETRIC = np.array([[0.0, 0.5, -0.3], [0.5, 0.0, 0.2], [-0.3, 0.2, 0.0]])
WIDE = SYMMETRIC[:2]

COMMANDS = {
    "diagnose": ("diagnose", "W.npy"),
    "diagnose, JSON": ("diagnose", "W.npy", "--json"),
    "variance": ("variance", "W.npy"),
    "estimate": ("estimate", "W.npy", "--replicates", "32"),
    "sample": ("sample", "W.npy", "--out", "s.npz", "--sweeps", "3", "--chains", "2"),
    "compare": ("compare", "trace.npy", "--model", "W.npy"),
    "track": ("track", "W.npz", "--data", "samples.npy", "--kernel", "single-site"),
}


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main.app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_probably_an_ising_model_is_asked_about_by_every_command(invoke, command):
    np.save("W.npy", SYMMETRIC)
    np.savez("W.npz", W=SYMMETRIC[None])
    np.save("samples.npy", np.array([[1, -1, 1], [-1, 1, 1]]))
    np.save("trace.npy", tk.sample(SYMMETRIC, n_chains=2, n_sweeps=40, seed=0).trace())
    result = invoke(*COMMANDS[command])
    assert result.exit_code in (0, 11), result.output
    said = result.stdout if command == "diagnose" else json.loads(result.stdout)["misreadings"][0] if "JSON" in command else result.stderr
    assert "as the couplings among 3 spins of an Ising model are" in " ".join(said.split())


def test_a_matrix_that_may_lie_on_its_side_is_asked_about(invoke):
    np.save("W.npy", WIDE)
    np.save("samples.npy", np.array([[1, -1], [-1, 1]]))
    note = "note: W has fewer rows than columns; it was read as 2 visible and 3 hidden spins +1 and -1. If it is components_"
    assert note in invoke("variance", "W.npy").stderr
    assert "note" not in invoke("variance", "W.npy", "--data", "samples.npy").stderr
    np.save("W.npy", WIDE.T)
    assert "note" not in invoke("variance", "W.npy").stderr


def test_commands_read_what_importers_know(invoke):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File("rbm.h5", "w") as file:
        file["model_type"] = "BBRBM"
        for update, scale in ((5, 1.0), (20, 2.0)):
            group = file.create_group(f"update_{update}").create_group("params")
            group["weight_matrix"], group["vbias"], group["hbias"] = scale * WIDE, np.zeros(2), np.zeros(3)
    expected = tk.diagnose(tk.from_zero_one(2 * WIDE, np.zeros(2), np.zeros(3)), kernel="alternating").as_dict()
    found = json.loads(invoke("diagnose", "rbm.h5", "--json").stdout)
    assert found["t_obs"] == expected["t_obs"]
    assert found["kernel"] == "alternating"
    np.savez("W.npz", W=2 * WIDE, b=np.zeros(2), c=np.zeros(3))
    plain = json.loads(invoke("diagnose", "W.npz", "--convention", "zero-one", "--kernel", "alternating", "--json").stdout)
    assert plain["t_obs"] == expected["t_obs"]
    result = invoke("diagnose", "rbm.h5", "--convention", "pm1")
    assert result.exit_code == 2
    assert "rbm.h5: it holds a BBRBM, whose convention is zero-one; got pm1, leave it out" in result.stderr
    assert "convention must be one of 'pm1', 'zero-one'; got '01'" in invoke("diagnose", "W.npz", "--convention", "01").stderr
