"""Runs that are really killed, at more than fifty points, on a disk that is really full, and two at once: they resume to the same bytes."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes by signals"), pytest.mark.long]

TINY = """
training.steps = 20
polish.iterations = 5
directions = 1
steps = [1e-3, 1e-4]
[grid]
m = [4]
split = [2]
checkpoints = ["half", "final"]
codes = [1, 2]
"""

COMMAND = [sys.executable, "-P", "-c", "from thermokernels_app.main import main; main()"]

# One process that has everything loaded forks a run for every kill point: a child kills itself by SIGKILL at the n-th line of the code
# that writes, and another child resumes what it left.
KILLER = '''
import json, os, random, signal, sys, traceback
from concurrent.futures import Executor, Future
from hashlib import sha256
from pathlib import Path
from thermokernels_app.experiment.records import journal
from thermokernels_app.experiment.records import lock
from thermokernels_app.experiment.running import runner
from thermokernels_app.experiment.records import store
from thermokernels_app.experiment.design import load_design

class Here(Executor):
    def submit(self, function, /, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future

WATCHED = {module.__file__ for module in (journal, lock, store)}
DESIGN, FOLDER = load_design(sys.argv[1]), Path(sys.argv[2])

def run(folder, step):
    """A run that calls ``step``, if any, before every line of the code that writes."""
    def local(frame, event, _):
        if event == "line":
            step(frame)
        return local
    if step is not None:
        sys.settrace(lambda frame, event, _: local if frame.f_code.co_filename in WATCHED else None)
    try:
        return runner.run(DESIGN, folder, executor=Here(), resume=True)
    finally:
        sys.settrace(None)

def forked(folder, at):
    """The status of a child process that runs until the line with number ``at``; None for to the end."""
    child = os.fork()
    if child == 0:
        count = 0
        def step(frame):
            nonlocal count
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
        try:
            run(folder, None if at is None else step)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def bytes_of(folder):
    document = store.read_results(folder)
    files = sorted(path.name for path in folder.iterdir())
    return [document["records_sha256"], sha256((folder / "arrays.npz").read_bytes()).hexdigest(), files]

runner.run(DESIGN, FOLDER / "first", executor=Here())  # a process keeps some hashes from its first run on, so later ones have fewer lines
lines = []
run(FOLDER / "reference", lambda frame: lines.append((frame.f_code.co_filename, frame.f_lineno)))
whole = bytes_of(FOLDER / "reference")
places = {}
for number, line in enumerate(lines, 1):
    places.setdefault(line, []).append(number)
points = sorted({numbers[len(numbers) // 2] for numbers in places.values()} | set(range(1, len(lines), len(lines) // 10)))
outcome = {"lines": len(lines), "points": len(points), "killed": 0, "same": 0, "in_a_row": 0}
for point in points:
    folder = FOLDER / f"at{point}"
    outcome["killed"] += forked(folder, point) == -signal.SIGKILL
    outcome["same"] += forked(folder, None) == 0 and bytes_of(folder) == whole
draws, folder = random.Random(0), FOLDER / "again"
while forked(folder, draws.randrange(1, len(lines) // 3)) == -signal.SIGKILL and outcome["in_a_row"] < 200:
    outcome["in_a_row"] += 1
outcome["same_in_the_end"] = forked(folder, None) == 0 and bytes_of(folder) == whole

# The files of an unfinished and of a finished run, cut off by a crash of the machine.
outcome["cut"] = outcome["same_after_cut"] = 0
for name, folder in (("journal.jsonl", "left"), ("results.json", "reference"), ("arrays.npz", "reference")):
    if folder == "left":
        forked(FOLDER / folder, max(places[line][-1] for line in places if line[0] == journal.__file__) - 40)
    content = (FOLDER / folder / name).read_bytes()
    for length in sorted({0, 1, 100, 2000, len(content) - 1, *(draws.randrange(len(content)) for _ in range(5))}):
        target = FOLDER / f"{name}{length}"
        target.mkdir()
        for other in ("arrays.npz", "results.json"):
            if (FOLDER / folder / other).exists():
                (target / other).write_bytes((FOLDER / folder / other).read_bytes())
        (target / name).write_bytes(content[:length])
        outcome["cut"] += 1
        outcome["same_after_cut"] += forked(target, None) == 0 and bytes_of(target) == whole
print(json.dumps(outcome))
'''


def thermo(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)


def bytes_of(folder):
    document = json.loads((folder / "results.json").read_text())
    return document["records_sha256"], hashlib.sha256((folder / "arrays.npz").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    path = tmp_path_factory.mktemp("grid") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def whole(grid):
    """The bytes of an uninterrupted run."""
    result = thermo("run", "--grid", grid, "--out", grid.parent / "whole", "--workers", 1)
    assert result.returncode in (0, 10), result.stderr
    return bytes_of(grid.parent / "whole")


def test_a_run_killed_at_any_line_that_writes_resumes_to_the_same_bytes(grid, tmp_path):
    (tmp_path / "killer.py").write_text(KILLER)
    command = [sys.executable, "-P", tmp_path / "killer.py", grid, tmp_path]
    result = subprocess.run(command, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    assert outcome["points"] >= 50
    assert outcome["killed"] == outcome["same"] == outcome["points"]
    assert outcome["in_a_row"] >= 3
    assert outcome["same_in_the_end"]
    assert outcome["cut"] >= 25
    assert outcome["same_after_cut"] == outcome["cut"]


def test_a_command_killed_with_or_without_its_workers_resumes_to_the_same_bytes(grid, whole, tmp_path):
    journal = tmp_path / "kept" / "journal.jsonl"
    command = [*COMMAND, "run", "--grid", str(grid), "--out", "kept", "--resume", "--workers", "2"]
    for lines, kill in ((2, os.kill), (4, os.killpg), (6, os.kill)):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 120
        while (
            process.poll() is None and time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b"\n") >= lines)
        ):
            time.sleep(0.001)
        if process.poll() is None:
            kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
    assert thermo("run", "--grid", grid, "--out", "kept", "--resume", cwd=tmp_path).returncode in (0, 10)
    assert bytes_of(tmp_path / "kept") == whole
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["arrays.npz", "results.json"]


def test_two_runs_cannot_mix(grid, tmp_path):
    command = [*COMMAND, "run", "--grid", str(grid), "--out", "kept", "--workers", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "kept" / "journal.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)  # it keeps the folder however long the others take
    for option in ((), ("--resume",)):
        second = thermo("run", "--grid", grid, "--out", "kept", *option, cwd=tmp_path)
        assert second.returncode == 2
        (line,) = second.stderr.splitlines()
        assert line.startswith(f"thermo: process {process.pid} on ")
        assert "is writing to the folder kept; wait for its end or name another folder" in line
    process.kill()
    process.wait()
    assert thermo("run", "--grid", grid, "--out", "kept", "--resume", cwd=tmp_path).returncode in (0, 10)


def no_room(result):
    assert result.returncode == 2, result.stderr
    line = result.stderr.splitlines()[-1]
    assert line.startswith("thermo: disk/")
    assert "cannot be read or written: " in line
    assert "what was finished is kept, --resume goes on with it" in line
    assert "Traceback" not in result.stderr


def test_a_full_disk_keeps_what_is_done(grid, whole, tmp_path):
    """A small tmpfs in a mount namespace of its own; it grows until the run fits."""
    (tmp_path / "disk").mkdir()
    mount = "mount -t tmpfs -o size=4k none disk"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "sh", "-c", mount], cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    run = " ".join(f"'{word}'" for word in (*COMMAND, "run", "--grid", grid, "--out", "disk/run", "--resume", "--workers", "1"))
    sizes = ("8k", "24k", "64k", "20m")
    script = [mount] + [f"mount -o remount,size={size} none disk; {run} >/dev/null 2>err{size}; echo $?" for size in sizes]
    script.append("cp -r disk/run kept")
    result = subprocess.run(["unshare", "-m", "sh", "-c", "\n".join(script)], cwd=tmp_path, capture_output=True, text=True)
    codes = [int(code) for code in result.stdout.split()]
    for size, code in zip(sizes[:-1], codes[:-1], strict=True):
        no_room(subprocess.CompletedProcess([], code, "", (tmp_path / f"err{size}").read_text()))
        assert "No space left on device" in (tmp_path / f"err{size}").read_text()
    assert codes[-1] in (0, 10)
    assert bytes_of(tmp_path / "kept") == whole
    assert len(json.loads((tmp_path / "kept" / "results.json").read_text())["cells"]) == 4


def test_a_limit_on_the_size_of_files_keeps_what_is_done(grid, whole, tmp_path):
    pytest.importorskip("resource")
    (tmp_path / "disk").mkdir()

    # The process that writes the run is limited, the worker is not: it would find no room for compiled kernels and compile them all.
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, -1)); os.execv(sys.argv[1], sys.argv[1:])"
    raised = "import resource, sys\nif 'spawn_main' in ' '.join(sys.orig_argv): resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
    (tmp_path / "sitecustomize.py").write_text(raised)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", limited, *COMMAND, "run", "--grid", str(grid), "--out", "disk/run", "--workers", "1"]
    options = {"env": os.environ | {"PYTHONPATH": path}, "capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
    no_room(subprocess.run(command, cwd=tmp_path, **options))
    kept = (tmp_path / "disk" / "run" / "journal.jsonl").read_bytes()
    assert kept.endswith(b"\n")
    assert len(kept) < 20_000
    again = thermo("run", "--grid", grid, "--out", "disk/run", "--resume", "--workers", "1", "--json", cwd=tmp_path)
    assert again.returncode in (0, 10)
    assert json.loads(again.stdout)["run"]["tasks_resumed"] == kept.count(b"\n") - 1
    assert bytes_of(Path(tmp_path, "disk", "run")) == whole
