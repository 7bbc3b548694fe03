"""`thermo warmup`: after it no command compiles anything, and where nothing can be kept it says so."""

import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest


def thermo(*arguments, cache):
    command = [Path(sysconfig.get_path("scripts"), "thermo"), *map(str, arguments)]
    return subprocess.run(command, env=os.environ | {"NUMBA_CACHE_DIR": str(cache)}, capture_output=True, text=True)


@pytest.fixture
def cold_warmup(tmp_path):
    """What the command printed that found nothing compiled, and the cache that it left: the one before the tests, if it was such a one."""
    cache = tmp_path / "cache"
    if kept := os.environ.get("THERMO_COLD_WARM_UP"):
        shutil.copytree(Path(kept, "cache"), cache)
        return json.loads(Path(kept, "printed.json").read_text()), cache
    first = thermo("warmup", "--json", cache=cache)
    assert first.returncode == 0, first.stderr
    return json.loads(first.stdout), cache


@pytest.mark.long
def test_after_a_warmup_a_run_compiles_nothing(cold_warmup, tmp_path):
    found, cache = cold_warmup
    files = sorted(cache.rglob("*.nb?"))
    assert found["compiled"] == found["kernels"] == len(list((cache / Path(found["folder"]).name).rglob("*.nbc"))) > 20
    run = thermo("run", "--grid", "smoke", "--out", tmp_path / "out", cache=cache)
    assert run.returncode in (0, 10), run.stderr
    assert sorted(cache.rglob("*.nb?")) == files
    again = thermo("warmup", cache=cache)
    assert (again.returncode, again.stdout.split(" were ")[0]) == (0, f"all {found['kernels']} kernels")
    assert sorted(cache.rglob("*.nb?")) == files


def test_a_cache_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    result = thermo("warmup", cache=tmp_path / "file")
    assert (result.returncode, result.stdout) == (2, "")
    assert "thermo: compiled kernels cannot be kept: the cache folder cannot be written" in result.stderr
