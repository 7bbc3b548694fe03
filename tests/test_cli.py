"""The command ``thermo``: what it prints, where, and with which exit code."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thermokernels.common.errors import NotConvergedError
from thermokernels_app import main
from thermokernels_app.commands import console
from thermokernels_app.commands import grid as grid_commands
from thermokernels_app.experiment import freeze, gradient_checks
from thermokernels_app.experiment.design import load_design
from thermokernels_app.experiment.records import journal, store
from thermokernels_app.experiment.running import runner
from thermokernels_app.report.screens import grid_tables

pytestmark = pytest.mark.xdist_group("command")  # one run for all that look at it

TINY = """
training.steps = 60
polish.iterations = 5
directions = 2
[grid]
m = [4]
split = [2]
checkpoints = ["half", "final"]
codes = [1, 2]
"""


def thermo(*arguments, cwd=None, **options):
    """The installed command in a process of its own, as a pipe sees it."""
    command = [sys.executable, "-P", "-c", "from thermokernels_app.main import main; main()", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """The command inside this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    path = tmp_path_factory.mktemp("grid") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def finished(grid):
    """One run in a pipe, without --out: (its process, the folder it names, the folder it ran in)."""
    result = thermo("run", "--grid", grid, "--workers", "2", cwd=grid.parent)
    return result, grid.parent / result.stdout.splitlines()[-1].removeprefix("results: "), grid.parent


def sentence(result, code):
    """What stands on stderr of a command that ended with ``code``: one line, no traceback, and nothing on stdout."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_help_and_version_load_no_numerics():
    code = (
        "import sys; from thermokernels_app.main import app; from typer.testing import CliRunner\n"
        "for words in (['--help'], ['run', '--help'], ['--version']):\n"
        "    result = CliRunner().invoke(app, words); assert result.exit_code == 0, result.output\n"
        "print(*{'numba', 'numpy', 'scipy', 'jax', 'thermokernels'} & {*sys.modules})"
    )
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_the_package_leaves_the_parts_of_scipy_to_those_who_need_them():
    code = "import sys, adjoints, thermokernels; print(*{'scipy.linalg', 'scipy.sparse', 'scipy.special', 'scipy.stats'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_help_lists_commands_and_exit_codes():
    result = thermo("--help")
    assert result.returncode == 0
    for word in ("run", "verify-gradients", "show", "freeze", "amend", "selftest", "--version", "130 interrupted"):
        assert word in " ".join(result.stdout.split())
    assert thermo().returncode == 2


def test_version_names_the_packages():
    result = thermo("--version")
    assert (result.returncode, result.stderr) == (0, "")
    for word in ("thermo 0.", "numpy", "scipy", "numba"):
        assert word in result.stdout


def test_a_run_prints_plain_tables_and_keeps_its_results(finished):
    result, folder, _ = finished
    document = store.read_results(folder)
    assert result.returncode == runner.exit_code(document)
    assert folder.name == f"tiny-{document['design_sha256'][:12]}-1"
    assert folder.parent.name == "runs"
    for name, verdict in document["verdicts"].items():
        assert f"\n{name}: {verdict['verdict']}" in result.stdout
        for criterion in verdict["criteria"]:
            assert criterion["name"] in result.stdout
    assert document["design_sha256"] in result.stdout
    assert max(map(len, result.stdout.splitlines())) > 100  # not wrapped
    assert not any(character in result.stdout for character in "\x1b│┃─")
    assert "Traceback" not in result.stderr


def test_show_judges_again_from_the_file_alone(finished, invoke):
    process, folder, _ = finished
    result = invoke("show", folder / "results.json")
    assert result.exit_code == process.returncode
    assert result.stdout.split() == process.stdout[: process.stdout.rindex("\nresults: ")].split()
    assert result.stderr == ""

    document = json.loads(invoke("show", folder, "--json").stdout)
    assert document["exit_code"] == process.returncode
    assert {key: document[key] for key in store.HASHED} == {key: store.read_results(folder)[key] for key in store.HASHED}


def test_show_says_when_the_rules_have_changed(finished, invoke, tmp_path):
    document = store.read_results(finished[1])
    document["verdicts"]["P1"]["verdict"] = "FAIL"
    store.write_results(tmp_path, document, {})
    result = invoke("show", tmp_path)
    assert result.exit_code == 3
    assert "P1.verdict is 'FAIL', and 'PASS' when judged again; the file was altered, or judged by other rules" in result.stderr
    assert "the sources of the run are those of this program" in result.stderr
    assert f"\nP1: {store.read_results(finished[1])['verdicts']['P1']['verdict']}" in result.stdout


def test_json_is_one_document_and_a_second_run_takes_the_next_number(finished):
    _, folder, where = finished
    result = thermo("run", "--grid", where / "tiny.toml", "--workers", "1", "--json", cwd=where)
    document = json.loads(result.stdout)
    assert document["folder"] == f"runs/{folder.name[:-1]}2"
    assert document["exit_code"] == result.returncode
    assert document["records_sha256"] == store.read_results(folder)["records_sha256"]


def test_an_occupied_folder_is_refused(finished, invoke):
    _, folder, where = finished
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    grid = where / "tiny.toml"
    assert "already holds a run of this design" in sentence(invoke("run", "--grid", grid, "--out", folder), 2)
    assert "holds the run of another design" in sentence(invoke("run", "--grid", grid, "--seed", 1, "--out", folder), 2)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert invoke("run", "--grid", grid, "--out", folder, "--resume").exit_code == finished[0].returncode  # nothing left to do


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("run", "--grid", "nope"),
            "grid must be one of 'default', 'smoke', 'factorization', 'factorization-smoke', 'steering', 'steering-smoke' or a readable ",
        ),
        (("run", "--cap", "never"), "--cap must be a positive time such as 3h, 90m, 45s or 1h30m; got 'never'"),
        (("run", "--cap", "0"), "--cap must be a positive time"),
        (("run", "--task-limit", "soon"), "--task-limit must be a positive time such as 3h, 90m, 45s or 1h30m; got 'soon'"),
        (("run", "--seeds", "8:0"), "--seeds must be a range such as 0:8 or a list of different seeds such as 0,3,7; got '8:0'"),
        (("run", "--seeds", "0,0"), "--seeds must be a range such as 0:8 or a list of different seeds"),
        (("run", "--seeds", "0:2", "--seed", "1"), "--seeds goes neither with --seed nor with --freeze"),
        (("run", "--executor", "dask"), "--executor dask needs --scheduler with the address of a Dask scheduler"),
        (("run", "--scheduler", "tcp://127.0.0.1:1"), "--scheduler goes with --executor dask"),
        (("run", "--executor", "dask", "--scheduler", "x", "--workers", "2"), "--workers goes with --executor processes"),
        (("run", "--freeze", "missing"), "the freeze missing cannot be read"),
        (("run", "--out", "/proc/nowhere/folder"), "No such file or directory"),
        (("show", "missing"), "missing cannot be read: No such file or directory"),
        (("freeze", "missing/file.json"), "missing/file.json cannot be written"),
        (("verify-gradients", "--grid", "nope"), "grid must be one of"),
    ],
)
def test_bad_input_is_one_sentence(invoke, arguments, message):
    line = sentence(invoke(*arguments), 2)
    assert line.startswith("thermo: ")
    assert message in line
    assert not Path("runs").exists()


def test_bad_input_as_json(invoke):
    result = invoke("run", "--grid", "nope", "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["exit_code"]) == (2, 2)
    assert error["message"] in result.stderr


@pytest.mark.parametrize("text", ["grid.n = 3", "m = [4]", "grid.m = ['a']", "grid.m = []", "grid = 3", "= 3", "seed = 1e400"])
def test_bad_grid_files_name_the_file(invoke, tmp_path, text):
    (tmp_path / "bad.toml").write_text(text)
    assert "bad.toml" in sentence(invoke("run", "--grid", "bad.toml"), 2)


def test_truncated_results(finished, invoke, tmp_path):
    text = (finished[1] / "results.json").read_text()
    (tmp_path / "results.json").write_text(text[: len(text) // 2])
    assert "not complete JSON (truncated?)" in sentence(invoke("show", tmp_path), 2)
    (tmp_path / "results.json").write_text(text.replace('"status": "ok"', '"status": "halted"', 1))
    assert "was changed after the run" in sentence(invoke("show", tmp_path), 3)


@pytest.mark.parametrize("arguments", [("run", "--workers", "0"), ("run", "--seed", "-1"), ("run", "--what"), ("show",), ("nothing",)])
def test_bad_usage(invoke, arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("diagnose", "W.npy", "--window", "long"), "--window must be a valid number; got 'long'"),
        (("diagnose", "W.npy", "--budget", ""), "--budget must be a valid number; got ''"),
        (("run", "--executor", "foo"), "--executor must be one of 'processes', 'dask'; got 'foo'"),
        (("run", "--workers", "0"), "--workers must be greater than or equal to 1; got '0'"),
        (("run", "-w", "two"), "--workers must be a valid integer; got 'two'"),
        (("freeze", "plan.json", "--seed", "1.5"), "--seed must be a valid integer; got '1.5'"),
        (("freeze", "plan.json", "--seed", "-1"), "--seed must be greater than or equal to 0; got '-1'"),
        (("diagnose", "--what"), "No such option: --what"),
    ],
)
def test_a_wrong_option_is_named(arguments, sentence, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["thermo", *arguments])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as exit_:
        main.main()
    assert exit_.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"thermo: {sentence}")
    assert len(shown.err.splitlines()) == 1


def test_freeze_and_run_against_it(finished, invoke, grid):
    frozen = invoke("freeze", "design.json", "--grid", grid)
    assert frozen.exit_code == 0
    digest = frozen.stdout.split()[0]
    assert frozen.stdout.split() == [digest, "design.json", "design", store.read_results(finished[1])["design_sha256"]]
    before = Path("design.json").read_bytes()
    assert "never overwritten" in sentence(invoke("freeze", "design.json"), 2)
    assert Path("design.json").read_bytes() == before

    line = sentence(invoke("run", "--grid", grid, "--seed", 1, "--freeze", "design.json"), 3)
    assert "differs from the freeze design.json in design.seed; nothing was run" in line
    assert "cap_seconds" in sentence(invoke("run", "--grid", grid, "--cap", "1h30m", "--freeze", "design.json"), 3)
    assert not Path("runs").exists()
    result = invoke("run", "--grid", grid, "--freeze", "design.json", "--workers", 1, "--out", "frozen")
    assert result.exit_code == finished[0].returncode
    assert result.stdout.startswith(f"frozen before the run as {digest}\ndesign ")
    assert store.read_results("frozen")["freeze"]["sha256"] == digest
    assert invoke("show", "frozen").stdout == result.stdout.removesuffix("results: frozen\n")
    resumed = sentence(invoke("run", "--grid", grid, "--out", "frozen", "--resume"), 2)
    assert f"the run in frozen was begun under the freeze {digest[:12]}, which cannot be changed afterwards" in resumed
    late = sentence(invoke("run", "--grid", grid, "--out", finished[1], "--resume", "--freeze", "design.json"), 2)
    assert "was begun without a freeze, which cannot be changed afterwards" in late


def test_an_amendment_is_marked_wherever_the_run_is_shown(invoke, grid):
    first = invoke("freeze", "design.json").stdout.split()[0]
    options = ("--grid", grid, "--reason", "a small\ntrial", "--seen", "no-results")
    assert "there is nothing to amend" in sentence(invoke("amend", "design.json", "same.json", "--reason", "none", "--seen", "nothing"), 2)
    assert "must be one of nothing, no-results, results, verdicts; got 'all'" in sentence(
        invoke("amend", "design.json", "amended.json", *options[:-1], "all"), 2
    )
    made = json.loads(invoke("amend", "design.json", "amended.json", *options, "--json").stdout)
    assert (made["amended"], [link["seen"] for link in made["chain"]]) == (True, [None, "no-results"])
    assert "never overwritten" in sentence(invoke("amend", "amended.json", "design.json", "--reason", "back", "--seen", "nothing"), 2)
    assert "in design.directions, design.grid.checkpoints" in sentence(invoke("run", "--grid", grid, "--freeze", "design.json"), 3)

    result = invoke("run", "--grid", grid, "--freeze", "amended.json", "--workers", 1, "--out", "kept")
    shown = invoke("show", "kept")
    for output in (result.stdout, shown.stdout):
        frozen, amended, *_ = output.splitlines()
        assert frozen == f"frozen before the run as {first}"
        assert amended.startswith(f"AMENDED as {made['sha256']} in design.directions, design.grid.checkpoints, ")
        assert amended.endswith("seen: no-results (" + freeze.SEEN["no-results"] + "); reason: a small trial")
    assert json.loads(invoke("show", "kept", "--json").stdout)["freeze"]["amended"] is True


def test_dask_that_is_not_installed_is_named(invoke, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = sentence(invoke("run", "--executor", "dask", "--scheduler", "tcp://127.0.0.1:1"), 2)
    assert line == "thermo: Dask is not installed: pip install '.[distributed]'"


def test_an_ensemble_is_a_table_of_verdicts(finished, invoke, grid):
    result = invoke("run", "--grid", grid, "--seeds", "0:2", "--workers", 2, "--json")
    document = json.loads(result.stdout)
    assert [run["seed"] for run in document["runs"]] == [0, 1]
    assert document["exit_code"] == result.exit_code == max(run["exit_code"] for run in document["runs"])
    first, second = (store.read_results(run["folder"]) for run in document["runs"])
    assert first["records_sha256"] == store.read_results(finished[1])["records_sha256"] != second["records_sha256"]
    assert document["counts"]["P3"] == {"PASS": 2, "FAIL": 0, "HALT": 0}
    assert document["folder"].startswith("runs/tiny-ensemble-")
    again = invoke("run", "--grid", grid, "--seeds", "0:2", "--resume")  # nothing left to do
    assert again.exit_code == result.exit_code
    assert "P3: 2 PASS of 2 seeds" in again.stdout
    assert "over 2 complete runs" in again.stdout
    assert again.stdout.splitlines()[-1] == f"results: {document['folder']}"
    shown = invoke("show", document["folder"])
    assert (shown.exit_code, shown.stdout.splitlines()) == (result.exit_code, again.stdout.splitlines()[:-1])
    assert json.loads(invoke("show", document["folder"], "--json").stdout)["summary"] == document["summary"]
    file = Path(document["folder"], "seed1", "results.json")
    file.write_text(file.read_text().replace('"cells_basis": ', '"cells_basis": 1', 1))
    assert invoke("show", document["folder"]).exit_code == 3
    file.unlink()
    partly = invoke("show", document["folder"])
    assert (partly.exit_code, partly.stderr) == (11, "note: not done yet and left out: seed 1\n")
    assert "P3: 1 PASS of 1 seeds" in partly.stdout
    Path(document["folder"], "seed0", "results.json").unlink()
    assert "holds 2 runs, and none of them is done yet" in sentence(invoke("show", document["folder"]), 2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--grid", "steering", "--cap", "1h"), "--cap does not go with --grid steering, whose design fixes everything but the seeds"),
        (("--grid", "steering", "--seed", "1", "--seeds", "0:2"), "--seeds does not go with --seed"),
        (("--grid", "factorization", "--seeds", "0:2"), "--seeds does not go with --grid factorization"),
    ],
)
def test_grids_of_one_verdict_refuse_what_their_design_fixes(invoke, given, words):
    assert words in sentence(invoke("run", *given), 2)


def test_a_changed_freeze_is_refused(invoke, grid):
    invoke("freeze", "design.json", "--grid", grid)
    text = Path("design.json").read_text()
    Path("design.json").write_text(text.replace('"seed": 0', '"seed": 1'))
    assert "was changed after it was written" in sentence(invoke("run", "--grid", grid, "--freeze", "design.json"), 3)


def test_the_cap_stops_a_run_and_keeps_it(invoke, grid):
    result = invoke("run", "--grid", grid, "--cap", "0.01s", "--out", "stopped", "--workers", 1)
    assert result.exit_code == 12
    assert store.read_results("stopped")["status"] == "stopped"
    assert invoke("show", "stopped").exit_code == 12


def test_resume_finds_the_run_that_its_cap_stopped(invoke, grid):
    stopped = json.loads(invoke("run", "--grid", grid, "--cap", "0.01s", "--workers", 1, "--json").stdout)
    other = invoke("run", "--grid", grid, "--cap", "0.02s", "--seed", 1, "--workers", 1)
    assert other.exit_code == 12
    went_on = json.loads(invoke("run", "--grid", grid, "--cap", "0.03s", "--resume", "--workers", 1, "--json").stdout)
    assert went_on["folder"] == stopped["folder"]
    assert went_on["design_sha256"] == stopped["design_sha256"]
    assert (went_on["design"]["cap_seconds"], went_on["run"]["cap_seconds"]) == (0.01, 0.03)


def test_a_failed_check_halts(invoke, grid):
    Path("strict.toml").write_text(f"thresholds.reversibility = 1e-300\n{TINY}")
    result = invoke("run", "--grid", "strict.toml", "--workers", 1)
    assert result.exit_code == 11
    assert "HALT at cell, m 4, split 2, checkpoint half, code" in result.stdout
    assert "reversibility" in result.stdout


def test_an_unexpected_error_is_one_line_and_exit_1(invoke, monkeypatch):
    def fail(*_, **__):
        raise KeyError("surprise")

    monkeypatch.setattr(runner, "run", fail)
    assert "unexpected error, KeyError: 'surprise'" in sentence(invoke("run", "--grid", "smoke"), 1)
    monkeypatch.setenv("THERMO_DEBUG", "1")
    assert "Traceback" in invoke("run", "--grid", "smoke").stderr


def test_a_gradient_that_cannot_be_computed_is_a_halt(invoke, monkeypatch):
    def fail(*_, **__):
        raise NotConvergedError("the resolvent missed its tolerance")

    monkeypatch.setattr(gradient_checks, "verify", fail)
    assert "HALT: the resolvent missed its tolerance" in sentence(invoke("verify-gradients"), 11)


def workers_of(process):
    """The processes that are children of ``process``."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"PPid:\t{process.pid}\n" in status.read_text():
                found.append(int(status.parent.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


def alive(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("number", "returncode"), [(signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_worker_outlives_a_run_that_is_ended_from_outside(tmp_path, number, returncode):
    (tmp_path / "slow.toml").write_text("training.steps = 3000\n[grid]\nm = [6]\n")
    command = [sys.executable, "-P", "-c", "from thermokernels_app.main import main; main()", "run", "--grid", "slow.toml", "--out", "kept"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(workers := workers_of(process)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)  # a worker watches its parent once its imports are done
    process.send_signal(number)
    assert process.wait(timeout=60) == returncode
    while any(map(alive, workers)) and time.monotonic() < deadline + 60:
        time.sleep(0.05)
    assert not any(map(alive, workers))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--executor", "foo"), "--executor must be one of 'processes', 'dask'; got 'foo'"),
        (("run", "--workers", "0"), "--workers"),
        (("run", "--seed", "x"), "--seed"),
        (("show",), "Missing argument 'DIR'"),
        (("nope",), "No such command 'nope'"),
        (("run", "--bogus"), "--bogus"),
    ],
)
def test_a_wrong_call_is_one_sentence(arguments, message):
    result = thermo(*arguments)
    assert message in sentence_of(result, 2)
    result = thermo(*arguments, "--json")
    assert result.returncode == 2
    assert json.loads(result.stdout)["error"]["exit_code"] == 2


def sentence_of(result, code):
    """What stands on stderr of a process that ended with ``code``: one line and nothing on stdout."""
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("thermo: ")
    return line


def test_resume_goes_on_with_the_last_unfinished_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    design = load_design("smoke")
    name = f"smoke-{design.digest()[:12]}"
    assert grid_commands._default_folder("smoke", design, resume=True) == Path("runs", f"{name}-1")
    for number in (2, 4):
        Path("runs", f"{name}-{number}").mkdir(parents=True)
    assert grid_commands._default_folder("smoke", design, resume=True) == Path("runs", f"{name}-4")
    Path("runs", f"{name}-2", journal.JOURNAL).touch()
    assert grid_commands._default_folder("smoke", design, resume=True) == Path("runs", f"{name}-2")
    taken = [grid_commands._default_folder("smoke", design, resume=False) for _ in range(2)]
    assert taken == [Path("runs", f"{name}-{number}") for number in (5, 6)]  # each its own


def test_a_file_that_cannot_be_made_is_named(grid):
    assert "/proc/nowhere cannot be read or written" in sentence_of(thermo("run", "--grid", grid, "--out", "/proc/nowhere"), 2)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent by number")
def test_an_interrupt_keeps_what_is_done(tmp_path):
    (tmp_path / "slow.toml").write_text("polish.iterations = 5\ntraining.steps = 3000\n[grid]\nm = [6]\n")
    command = [sys.executable, "-P", "-c", "from thermokernels_app.main import main; main()", "run", "--grid", "slow.toml", "--out", "kept"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    lines = tmp_path / "kept" / "journal.jsonl"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and not (lines.exists() and '"cell/' in lines.read_text()):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: parent and workers
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    document = store.read_results(tmp_path / "kept")
    assert document["status"] == "interrupted"
    assert document["cells"]
    assert "HALT" in stdout


def test_verify_gradients_at_the_anchor(grid):
    result = thermo("verify-gradients", "--grid", grid, "--json")
    report = json.loads(result.stdout)
    assert (result.returncode, report["verdict"]) == (0, "PASS")
    (check,) = report["checks"]
    assert (check["m"], check["split"], check["checkpoint"]) == (4, 2, "half")
    legs = ["central differences", "complex step", *["automatic (JAX)"] * report["jax"]]
    assert [(row["direction"], row["leg"]) for row in check["rows"][1:]] == [(k, leg) for k in (1, 2) for leg in legs]
    for row in check["rows"]:
        assert row["met"] == (row["error"] <= row["gate"])
        assert (row["best_step"] is not None) == (row["leg"] == "central differences")
    assert {leg["leg"]: leg["max_error"] for leg in report["legs"]}["complex step"] == max(
        row["error"] for row in check["rows"] if row["leg"] == "complex step"
    )


@pytest.mark.parametrize("jax", [True, False])
def test_verify_gradients_says_what_failed_and_what_is_missing(invoke, monkeypatch, jax):
    direction = {"index": 0, "adjoint": 1.0, "best_step": 1e-4, "difference_error": 2e-4, "complex_error": 1e-14}
    direction |= {"automatic_error": 1e-13 if jax else None, "difference_note": "because of rounding"}
    record = {"value_error": None, "value_reference": "dense", "directions": [direction]}
    design = gradient_checks.Design()
    check = gradient_checks._judge(design, (4, 2, "half"), record)
    report = {"verdict": check["verdict"], "jax": jax, "legs": gradient_checks._legs([check]), "checks": [check]}
    monkeypatch.setattr(gradient_checks, "verify", lambda *_, **__: report)
    result = invoke("verify-gradients")
    assert result.exit_code == 10
    assert "verify-gradients: FAIL" in result.stdout
    assert "central differences: FAIL  largest error 0.0002, gate 0.0001, rows: 1" in result.stdout
    assert "kernel value against the dense reference: FAIL  largest error -" in result.stdout
    assert "complex step: PASS" in result.stdout
    assert "because of rounding" in result.stdout
    assert ("not installed: pip install '.[jax]'" in result.stdout) != jax


@pytest.mark.parametrize(("text", "seconds"), [("3h", 10800), ("90m", 5400), ("45s", 45), ("1h30m", 5400), ("2.5", 2.5), (" 10 ", 10)])
def test_times(text, seconds):
    assert console.seconds(text) == seconds


def test_the_tables_of_a_terminal(finished, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "150")
    document = store.read_results(finished[1])
    grid_tables.print_document(document, document["verdicts"])
    shown = re.sub("\x1b[^m]*m", "", capsys.readouterr().out)
    assert "┃" in shown
    for name, verdict in document["verdicts"].items():
        assert f"{name}: {verdict['verdict']}" in shown
