"""Stdout that is full, closed or gone: one sentence and exit code 2 from every command, no traceback and no half answer on stderr."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

COMMAND = [sys.executable, "-P", "-c", "from thermokernels_app.main import main; main()"]
FULL = "thermo: the answer could not be written to stdout: No space left on device"


def thermo(*arguments, cwd, **options):
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, text=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("arguments", "before"),
    [
        (("--help",), []),
        (("--version",), []),
        (("run", "--help"), []),
        (("doctor", "--json"), []),
        (("diagnose", "W.npy"), []),
        (("show", "nothing", "--json"), ["thermo: nothing cannot be read: No such file or directory"]),
        (("freeze", "design.json"), []),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk(arguments, before, unbuffered, tmp_path):
    np.save(tmp_path / "W.npy", [[0.5, -0.2]])
    with open("/dev/full", "w") as full:
        ended = thermo(*arguments, cwd=tmp_path, stdout=full, env=os.environ | {"PYTHONUNBUFFERED": unbuffered})
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [*before, FULL]


@pytest.mark.parametrize("arguments", ["--help", "diagnose W.npy", "doctor --json", "run --grid smoke"])
def test_closed_stdout(arguments, tmp_path):
    np.save(tmp_path / "W.npy", [[0.5, -0.2]])
    shell = f'exec "$@" {arguments} >&-'
    ended = subprocess.run(["sh", "-c", shell, "sh", *COMMAND], cwd=tmp_path, text=True, stderr=subprocess.PIPE)
    assert ended.returncode == 2
    assert ended.stderr == "thermo: stdout is closed and the answer has nowhere to go: send it to a file or to /dev/null\n"
    assert [path.name for path in tmp_path.iterdir()] == ["W.npy"]


def test_closed_stderr_leaves_stdout_to_the_answer(tmp_path):
    np.save(tmp_path / "W.npy", [[0.5, -0.2]])
    shell = 'exec "$@" diagnose W.npy --window 0.05 --json 2>&-'
    ended = subprocess.run(["sh", "-c", shell, "sh", *COMMAND], cwd=tmp_path, text=True, stdout=subprocess.PIPE)
    message = "--window must be at least one step, 0.333 sweeps of this model's 3 spins; got 0.05"
    assert json.loads(ended.stdout) == {"error": {"exit_code": 2, "message": message}}


def test_a_reader_that_has_enough(tmp_path):
    np.save(tmp_path / "W.npy", [[0.5, -0.2]])
    shell = '("$@" diagnose W.npy; echo $? > code) | true'
    ended = subprocess.run(["sh", "-c", shell, "sh", *COMMAND], cwd=tmp_path, text=True, stderr=subprocess.PIPE)
    assert (tmp_path / "code").read_text() == "141\n"
    assert ended.stderr == ""
