"""``thermo compare`` and ``thermo doctor``: their screens, their JSON, and one sentence for what cannot be read."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import thermokernels as tk
from thermokernels.comparison.compare import compare
from thermokernels_app import main

W = np.array([[0.6, -0.3], [0.2, 0.5]])


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """A command inside this process, in a folder with a model and a trace."""
    monkeypatch.chdir(tmp_path)
    s = tk.sample(W, n_chains=4, n_sweeps=500, burn_in=50, kernel="single-site", seed=0)
    np.save("trace.npy", np.concatenate([s.visible, s.hidden], axis=2).swapaxes(0, 1))
    np.save("W.npy", W)
    return lambda *arguments: CliRunner().invoke(main.app, [*map(str, arguments)])


def test_compare_screen(invoke):
    result = invoke("compare", "trace.npy", "--model", "W.npy", "-o", "energy", "-o", "v0")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "4 chains of 500 records, one every 4 steps (1 sweep) of the single-site kernel"
    assert "tau = 1 + 2 sum_(t > 0) rho(t) of the recorded series, in steps; a sweep is 4 steps" in lines
    rows = {line.split()[0]: line.split() for line in lines if line.startswith(("  energy ", "  v0 "))}
    for row in compare(np.load("trace.npy"), W, observables=["energy", "v0"]).rows:
        assert float(rows[row.observable][1]) == pytest.approx(row.exact_steps, rel=1e-3, abs=0)


def test_a_trace_with_its_axes_exchanged_is_asked_about(invoke):
    np.save("exchanged.npy", np.load("trace.npy").swapaxes(0, 1))
    result = invoke("compare", "exchanged.npy", "--model", "W.npy", "-o", "energy")
    assert result.exit_code == 2
    assert "layout (--layout) must say what the axes of a trace of shape (500, 4, 4) are" in result.stderr
    answered = invoke("compare", "exchanged.npy", "--model", "W.npy", "-o", "energy", "--layout", "draw-chain")
    assert answered.stdout == invoke("compare", "trace.npy", "--model", "W.npy", "-o", "energy").stdout


def test_a_constant_observable_is_a_row_of_its_own(invoke):
    result = invoke("compare", "trace.npy", "--model", "W.npy", "-o", "v0v0", "-o", "v0")
    assert result.exit_code == 0, result.output
    assert "* v0v0: constant in the model, so that nothing is correlated." in result.stdout
    assert any(line.split()[:2] == ["v0v0", "constant"] for line in result.stdout.splitlines())


def test_the_model_says_how_it_is_sampled(invoke):
    tk.Model(W, kernel="alternating").save("model.npz")
    screen = invoke("compare", "trace.npy", "--model", "model.npz", "-o", "v0").stdout
    assert screen.startswith("4 chains of 500 records, one every 1 step (1 sweep) of the alternating kernel")


def test_compare_json(invoke):
    result = invoke("compare", "trace.npy", "--model", "W.npy", "--observable", "v0h0", "--every-steps", 4, "--json")
    assert result.exit_code == 0, result.output
    expected = compare(np.load("trace.npy"), W, observables=["v0h0"]).as_dict()
    assert json.loads(result.stdout) == {"trace": "trace.npy", "model": "W.npy", **json.loads(json.dumps(expected))}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.npy", "--model", "W.npy"), "the trace file none.npy: it must be a file; there is none"),
        (("trace.npy", "--model", "none.npy"), "the model file none.npy"),
        (("trace.txt", "--model", "W.npy"), "its name must end in .npy or .csv"),
        (("W.npy", "--model", "W.npy"), "trace must have at least one chain and four records; got 2 chains of 2 records"),
        (("trace.npy", "--model", "W.npy", "-o", "warmth"), "got 'warmth'"),
    ],
)
def test_compare_names_what_does_not_fit(invoke, arguments, message):
    result = invoke("compare", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_doctor_finds_this_installation_healthy(invoke):
    result = invoke("doctor", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["problems"]) == (0, [])
    assert found["canary"]["met"]
    assert len(found["canary"]["answers"]) == 4
    assert found["cache"]["writable"]
    assert found["cache"]["kernels"] > 0
    assert found["machine"]["cores"] >= 1
    assert found["memory"]["available_bytes"] > 0
    assert found["start_method"] == "spawn"
    screen = invoke("doctor")
    assert screen.exit_code == 0
    assert screen.stdout.splitlines()[-1] == "healthy"
    for name, number in found["versions"].items():
        assert f"{name} {number}" in screen.stdout


def test_doctor_halts_at_a_wrong_number(invoke, monkeypatch):
    import adjoints

    right = adjoints.observable_variance_time
    monkeypatch.setattr(adjoints, "observable_variance_time", lambda weights: (right(weights)[0] * (1 + 1e-9), right(weights)[1]))
    result = invoke("doctor")
    assert result.exit_code == 11
    assert "problem    the compiled kernels give a wrong number" in result.stdout
    assert result.stdout.splitlines()[-1] == "not healthy"


def test_doctor_reports_kernels_that_do_not_run(invoke, monkeypatch):
    def fail(*_, **__):
        raise OSError("no such library")

    monkeypatch.setattr(tk, "gibbs_chain", fail)
    result = invoke("doctor", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["canary"]["met"]) == (1, None)
    assert found["problems"] == ["the kernels do not run: OSError: no such library"]


def test_doctor_reports_a_cache_that_cannot_be_written(invoke, monkeypatch):
    from thermokernels.compiled import decorator

    monkeypatch.setattr(decorator, "cache_folder", lambda: None)
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "set NUMBA_CACHE_DIR to a writable folder" in result.stdout


def test_doctor_looks_at_a_cache_that_another_process_writes_to(invoke, monkeypatch, tmp_path):
    from thermokernels.compiled import decorator

    class Renamed(type(tmp_path)):
        """A file that is there when it is found and has another name when its size is asked for."""

        def rglob(self, pattern):
            return [Renamed(self, "kernel.nbi")]

        def is_file(self):
            return True

    monkeypatch.setattr(decorator, "cache_folder", lambda: Renamed(tmp_path))
    found = json.loads(invoke("doctor", "--json").stdout)
    assert (found["cache"]["kernels"], found["cache"]["bytes"], found["exit_code"]) == (1, 0, 0)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash to complete for")
def test_shell_completion_needs_no_numerics(tmp_path):
    """The script, as bash asks for it, and what it then offers."""
    show = (
        "import sys; from thermokernels_app.main import main\n"
        "sys.argv = ['thermo', *sys.argv[1:]]\n"
        "try:\n    main()\n"
        "finally:\n    print({'numba', 'numpy'} & {*sys.modules}, file=sys.stderr)"
    )
    program = tmp_path / "thermo"
    program.write_text(f"#!{sys.executable}\n{show}\n")
    program.chmod(0o755)
    result = subprocess.run(
        ["bash", "-c", f"{program} --show-completion bash; true"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert "complete -o default -F _thermo_completion thermo" in result.stdout, result.stderr
    assert result.stderr.strip() == "set()"
    environment = os.environ | {"_THERMO_COMPLETE": "complete_bash", "COMP_WORDS": "thermo di", "COMP_CWORD": "1"}
    offered = subprocess.run([program], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert offered.stdout.split() == ["diagnose"]
    assert offered.stderr.strip() == "set()"
