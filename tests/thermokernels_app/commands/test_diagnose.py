"""``thermo diagnose``: its screen, its JSON, and one sentence for whatever cannot be read."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import thermokernels as tk
from thermokernels_app import main
from thermokernels_app.commands import console

W = np.array([[1.2, 0.4, -0.3], [0.5, -1.1, 0.8], [-0.2, 0.9, 1.3]])
SAMPLES = np.array([[1, 1, -1], [1, -1, 1], [1, 1, -1], [-1, -1, 1]])


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """The command inside this process, in a folder with a model and samples."""
    monkeypatch.chdir(tmp_path)
    np.save("W.npy", W)
    np.save("samples.npy", SAMPLES)
    return lambda *arguments: CliRunner().invoke(main.app, ["diagnose", *map(str, arguments)])


def test_the_screen(invoke, tmp_path):
    command = [sys.executable, "-P", "-c", "from thermokernels_app.main import main; main()", "diagnose", "W.npy", "--data", "samples.npy"]
    invoke()  # the fixture has written the files
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "3 visible + 3 hidden spins: 2**5 pairs {x, -x}, about 1 MiB of memory; a sweep is 6 steps"
    assert lines[2].startswith(("* Yes", "* No"))
    for words in ("tau = 1 + 2 sum", "gap of the sampler", "relevant gap", "T_O", "window for Q = 1", "local minima"):
        assert words in result.stdout, words
    q = tk.q_struct(W, tk.law_of_samples(SAMPLES))
    (row,) = [line.split() for line in lines if line.strip().startswith("Q at 100 sweeps")]
    assert float(row[4]) == pytest.approx(q.value, rel=5e-3, abs=0)


def test_json_is_the_diagnosis(invoke):
    result = invoke("W.npy", "--data", "samples.npy", "--window", "50", "--budget", "10", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    expected = tk.diagnose(W, p_data=tk.law_of_samples(SAMPLES), window=50, budget=10).as_dict()
    assert document == {"model": "W.npy", "data": "samples.npy", **json.loads(json.dumps(expected))}


def test_formats_hold_the_same_model(invoke):
    np.savez("model.npz", W=W, b=[0.1, 0.0, -0.2], c=np.zeros(3))
    np.savetxt("W.csv", W, delimiter=",")
    np.savetxt("samples.csv", SAMPLES, delimiter=",", fmt="%d")
    plain = json.loads(invoke("W.npy", "--data", "samples.npy", "--json").stdout)
    text = json.loads(invoke("W.csv", "--data", "samples.csv", "--json").stdout)
    assert text["q"]["value"] == pytest.approx(plain["q"]["value"], rel=1e-12, abs=0)
    with_fields = json.loads(invoke("model.npz", "--json").stdout)
    assert with_fields["has_fields"]
    assert with_fields["t_obs"]["value"] == pytest.approx(tk.diagnose(W, [0.1, 0.0, -0.2]).t_obs.value)


def write_bad_files():
    np.save("complex.npy", W + 1j)
    np.save("nan.npy", np.where(W > 1, np.nan, W))
    np.save("object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save("vector.npy", W[0])
    np.save("empty_array.npy", np.empty((0, 3)))
    np.save("words.npy", np.array([["a"]]))
    np.save("large.npy", np.ones((40, 40)))
    np.savez("key.npz", weights=W)
    np.savez("typo.npz", W=W, B=np.zeros(3))
    np.savez("field.npz", W=W, b=np.zeros(2))
    np.savez("object.npz", W=np.array([None]))
    np.savez("nothing.npz")
    np.save("bits.npy", (SAMPLES + 1) // 2)
    np.save("wide.npy", np.ones((4, 5)))
    np.save("none.npy", np.empty((0, 3)))
    texts = {
        "ragged.csv": "1,2\n3\n", "words.csv": "a,b\n1,2\n", "nan.csv": "1,nan\n", "empty.csv": "\n", "empty.npy": "", "empty.npz": "",
        "text.npy": "1 2 3", "text.npz": "1 2 3", "W.txt": "1", "W": "1",
    }  # fmt: skip
    for name, text in texts.items():
        with open(name, "w") as file:
            file.write(text)
    with open("W.npy", "rb") as file:
        content = file.read()
    for name, damaged in (("cut.npy", content[:-8]), ("disguised.npz", content), ("bytes.csv", b"\xff\xfe\x00")):
        with open(name, "wb") as file:
            file.write(damaged)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.npy"], "the model file missing.npy: it must be a file; there is none"),
        (["."], "the model file .: its name must end in .npy, .npz, .csv, .h5, .hdf5, .pt, .pth or .skops"),
        (["W.txt"], "the model file W.txt: its name must end in .npy, .npz, .csv, .h5, .hdf5, .pt, .pth or .skops"),
        (["W"], "the model file W: its name must end in"),
        (["complex.npy"], "complex.npy: W must be an array of real numbers; got dtype complex128"),
        (["nan.npy"], "nan.npy: W must be finite; entry (0, 0) is nan"),
        (["object.npy"], "object.npy: it must be a NumPy file of numbers (.npy); it holds Python objects"),
        (["vector.npy"], "vector.npy: W must have shape (n_v, n_h) with at least one visible and one hidden spin; got shape (3,)"),
        (["empty_array.npy"], "empty_array.npy: W must have shape"),
        (["words.npy"], "words.npy: W must be an array of real numbers; got dtype <U1"),
        (["key.npz"], "key.npz: it must hold W and may hold b, c, mask, visible, hidden and kernel; it holds weights"),
        (["typo.npz"], "typo.npz: it must hold W and may hold b, c, mask, visible, hidden and kernel; it holds B, W"),
        (["nothing.npz"], "nothing.npz: it must hold W and may hold b, c, mask, visible, hidden and kernel; it holds nothing"),
        (["field.npz"], "field.npz: b must have shape (3,); got shape (2,)"),
        (["object.npz"], "object.npz: it must be a NumPy file of numbers (.npz); it holds Python objects"),
        (["ragged.csv"], "ragged.csv: rows must have one length; line 1 has 2 entries and line 2 has 1"),
        (["words.csv"], "words.csv: it must hold numbers; line 1, entry 1 is 'a'"),
        (["nan.csv"], "nan.csv: W must be finite; entry (0, 1) is nan"),
        (["empty.csv"], "empty.csv: it must hold rows of numbers parted by commas, semicolons, tabs or blanks; it is empty"),
        (["bytes.csv"], "bytes.csv: it must be text in UTF-8, or in UTF-16 with its mark"),
        (["empty.npy"], "empty.npy: it must be a NumPy file of numbers (.npy)"),
        (["empty.npz"], "empty.npz: it must be a NumPy file of numbers (.npz)"),
        (["text.npy"], "text.npy: it must be a NumPy file of numbers (.npy)"),
        (["text.npz"], "text.npz: it must be a NumPy file of numbers (.npz)"),
        (["cut.npy"], "cut.npy: it must be a NumPy file of numbers (.npy); it cannot be read"),
        (["disguised.npz"], "disguised.npz: it must be a NumPy file of numbers (.npz); what it holds is of the other kind"),
        (["large.npy"], "the diagnosis of 40 visible and 40 hidden spins would take"),
        (["W.npy", "--data", "missing.npy"], "the samples file missing.npy: it must be a file; there is none"),
        (["W.npy", "--data", "bits.npy"], "bits.npy: samples must hold spins +1 and -1; entry (0, 2) is 0"),
        (["W.npy", "--data", "wide.npy"], "wide.npy: samples must have one column a visible spin, 3 of them (the rows of W"),
        (["W.npy", "--data", "none.npy"], "none.npy: samples must have shape (n, n_v) with at least one sample"),
        (["W.npy", "--data", "vector.npy"], "vector.npy: samples must have shape (n, n_v)"),
        (["W.npy", "--data", "key.npz"], "the samples file key.npz: its name must end in .npy or .csv"),
        (["W.npy", "--data", "complex.npy"], "complex.npy: samples must be an array of real numbers; got dtype complex128"),
        (["W.npy", "--data", "ragged.csv"], "the samples file ragged.csv: rows must have one length"),
        (["W.npy", "--window", "0"], "--window must be a positive, finite number of sweeps; got 0.0"),
        (["W.npy", "--budget", "nan"], "--budget must be a positive, finite number of sweeps; got nan"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(invoke, arguments, words):
    write_bad_files()
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.splitlines()
    assert words in line


def test_bad_input_with_json(invoke):
    result = invoke("missing.npy", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["exit_code"] == 2


def test_a_slow_model_is_a_result(invoke):
    np.save("slow.npy", 500 * W)
    result = invoke("slow.npy", "--data", "samples.npy")
    assert result.exit_code == 0, result.output
    assert "not resolved" in result.stdout


def test_help_loads_no_numerics():
    code = (
        "import sys; from thermokernels_app.main import app; from typer.testing import CliRunner\n"
        "result = CliRunner().invoke(app, ['diagnose', '--help']); assert result.exit_code == 0, result.output\n"
        "print(*{'numba', 'numpy', 'scipy', 'thermokernels'} & {*sys.modules})"
    )
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_parts_of_a_large_model_are_told_where_there_is_no_terminal(capsys):
    with console.parts_done(True) as show:
        for part in (("the observables", 8, 16), ("the observables", 12, 16), ("the gaps", 1, 4), ("done", 4, 4)):
            show(*part)
    assert capsys.readouterr() == ("", "at work on the observables\nat work on the gaps\n")
    with console.parts_done(False) as show:
        assert show is None


@pytest.mark.parametrize(("columns", "counted"), [(80, True), (40, True), (20, False)])
def test_the_bar_stays_on_its_line(columns, counted, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with console.parts_done(True) as show:
        show("basins and the passages between them", 3, 16)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    lines = [line for line in re.split(r"[\r\n]+", drawn) if line.strip()]
    assert lines
    assert max(map(len, lines)) <= columns
    assert any("basins and" in line for line in lines) or columns < 40
    assert any("3/16" in line for line in lines) or not counted


@pytest.mark.skipif(os.name != "posix", reason="SIGINT to a child process")
def test_an_interrupt_keeps_finished_parts(tmp_path):
    np.save(tmp_path / "W.npy", 0.5 * np.random.default_rng(0).standard_normal((6, 7)))  # not solved in one call
    code = (  # the signal of Ctrl-C when the second part has been kept
        "import os, signal, sys\n"
        "from thermokernels.solvers import checkpoint\n"
        "from thermokernels_app.main import main\n"
        "word, save, calls = sys.argv[1], checkpoint.RestartFile.save, []\n"
        "def saved(self, arrays):\n"
        "    save(self, arrays)\n"
        "    calls.append(1)\n"
        "    if word == 'stop' and len(calls) == 2:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "checkpoint.RestartFile.save = saved\n"
        "sys.argv[1:] = ['diagnose', 'W.npy', '--checkpoint', 'state.npz', '--json']\n"
        "main()\n"
    )

    def run(word):
        return subprocess.run([sys.executable, "-c", code, word], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    stopped = run("stop")
    assert stopped.returncode == 130
    assert "finished parts are kept in state.npz: the same command goes on from them" in stopped.stderr
    finished = run("go on")
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["t_obs"]["value"] == tk.observable_variance_time(tk.gibbs_chain(np.load(tmp_path / "W.npy")))
