"""`thermo track` and `thermo sample`: screens, files and wrong inputs."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

import thermokernels as tk
from thermokernels_app import main

RNG = np.random.default_rng(0)


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("history.npz", W=np.stack([scale * np.eye(3) for scale in (0.1, 1.0, 3.0)]))
    np.save("samples.npy", RNG.choice([-1, 1], size=(30, 3)))
    np.save("W.npy", np.eye(3))
    return lambda *words: CliRunner().invoke(main.app, [str(word) for word in words])


def test_the_screen_of_a_track(invoke):
    result = invoke("track", "history.npz", "--data", "samples.npy", "--kernel", "single-site", "--csv", "track.csv")
    assert result.exit_code == 0, result.output
    assert "Q at 100 sweeps of the single-site kernel" in result.stdout
    assert len([line for line in result.stdout.splitlines() if line.rstrip().endswith("exact")]) == 3
    assert "checkpoint 3 of 3" in result.stderr
    with open("track.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    track = tk.track(tk.load_history("history.npz"), np.load("samples.npy"), kernel="single-site")
    assert [float(row["value"]) for row in rows] == [row.value for row in track.rows]
    assert {"interval_low", "interval_high"} <= set(rows[0])


def test_the_document_of_a_track(invoke):
    result = invoke("track", "history.npz", "--data", "samples.npy", "--kernel", "two-block", "--json")
    document = json.loads(result.stdout)
    assert [row["name"] for row in document["rows"]] == ["0", "1", "2"]
    assert document["kernel"] == "two-block"


def test_samples_in_files(invoke):
    result = invoke("sample", "W.npy", "--out", "s.npz", "--chains", 5, "--sweeps", 7, "--seed", 3, "--kernel", "two-block")
    assert result.exit_code == 0, result.output
    assert result.stdout == "s.npz: 7 records of 5 chains, two-block, seed 3\n"
    drawn = tk.sample(np.eye(3), n_chains=5, n_sweeps=7, seed=3, kernel="two-block")
    with np.load("s.npz") as found:
        np.testing.assert_array_equal(found["visible"], np.moveaxis(drawn.visible, 1, 0))
        assert found["hidden"].shape == (5, 7, 3)
    document = json.loads(invoke("sample", "W.npy", "--out", "s.npy", "--chains", 2, "--sweeps", 3, "--json").stdout)
    assert np.load("s.npy").shape == (6, 3)
    assert document["seed"] >= 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("track", "history.npz"), "--data"),
        (("track", "none.npz", "--data", "samples.npy"), "thermo: the history none.npz: there is no such file"),
        (("track", "history.npz", "--data", "W.npy"), "thermo: the samples file W.npy: samples must hold spins +1 and -1"),
        (
            ("track", "history.npz", "--data", "samples.npy", "--window", 0),
            "thermo: --window must be a positive, finite number of sweeps; got 0",
        ),
        (("sample", "W.npy", "--out", "s.txt"), "thermo: --out must end in .npz or .npy; got 's.txt'"),
        (("sample", "W.npy", "--out", "s.npy", "--kernel", "x"), "thermo: --kernel must be one of"),
        (("sample", "none.npy", "--out", "s.npy"), "thermo: the model file none.npy: it must be a file; there is none"),
    ],
)
def test_wrong_calls_are_one_sentence(invoke, words, message):
    result = invoke(*words)
    assert result.exit_code == 2
    assert message in result.stderr or message in result.output
