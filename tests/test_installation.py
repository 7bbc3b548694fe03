"""Where the program may be installed and started: read-only, without a home, without a cache, on a full disk, eight times at once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# A few kernels that call each other across files: two seconds, and not the minute that all of them take.
SMALL = (
    "import numpy as np, thermokernels as tk; W = np.array([[0.5, -0.2], [0.1, 0.3]]);"
    "print(repr(float(tk.kl_divergence(tk.visible_law(W), 0.5 * W))), tk.gibbs_chain(W).law.tolist())"
)


def start(code, **environment):
    command = [sys.executable, "-P", "-c", code]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.long
def test_eight_cold_starts_at_once(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    processes = [start(SMALL, **environment) for _ in range(8)]
    answers = [(*process.communicate(), process.returncode) for process in processes]
    assert {(stderr, code) for _, stderr, code in answers} == {("", 0)}
    assert len({stdout for stdout, _, _ in answers}) == 1
    warm = start(SMALL, **environment)
    assert (*warm.communicate(), warm.returncode) == answers[0]
    assert any(tmp_path.glob("**/*.nbc"))


@pytest.mark.parametrize("writable", [True, False])
def test_a_read_only_installation_without_a_home(tmp_path, writable):
    """The whole file system is read-only for the process, but for a folder to cache in or not even that."""
    read_only = "mount -o remount,ro,bind /"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "sh", "-c", read_only], capture_output=True).returncode:
        pytest.skip("a read-only file system cannot be mounted here")
    for folder in (tmp_path, Path(sys.prefix), Path.home()):
        if os.stat(folder).st_dev != os.stat("/").st_dev:
            pytest.skip(f"{folder} is on a file system of its own")
    small = tmp_path / "cache"
    small.mkdir()
    script = f"mount -t tmpfs -o size=100m none '{small}'\n" if writable else ""
    script += f'{read_only}\nexec "$@"'
    environment = {"PATH": os.environ["PATH"]} | ({"NUMBA_CACHE_DIR": str(small)} if writable else {})
    before = subprocess.run([sys.executable, "-P", "-c", SMALL], capture_output=True, text=True, check=True).stdout
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-P", "-c", SMALL]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, before), result.stderr
    assert ("compiled kernels cannot be cached" in result.stderr) is not writable
    assert "Traceback" not in result.stderr


def test_a_full_disk_for_the_cache(tmp_path):
    mount = f"mount -t tmpfs -o size=1m none '{tmp_path}'"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    command = ["unshare", "-m", "sh", "-c", f'{mount}; exec "$@"', "sh", sys.executable, "-P", "-c", SMALL]
    result = subprocess.run(command, env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "less than 64 MiB are free" in result.stderr


def test_a_user_without_a_name_or_a_home(tmp_path):
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can become a user that does not exist")
    tmp_path.chmod(0o755)
    command = [sys.executable, "-P", "-c", SMALL]
    options = {"user": 54321, "group": 54321, "cwd": "/", "env": {"PATH": os.environ["PATH"]}, "capture_output": True, "text": True}
    try:
        subprocess.run([sys.executable, "-P", "-c", "import thermokernels_app"], **options, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("other users cannot read this installation")
    result = subprocess.run(command, **options)
    assert result.returncode == 0, result.stderr
    assert "compiled kernels cannot be cached" in result.stderr
