"""The journal of a run: every sound line is taken up again, the folder is locked, and nothing of another run is touched."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermokernels_app.experiment.records import store
from thermokernels_app.experiment.records.journal import Finished, Journal
from thermokernels_app.experiment.records.lock import FolderLock

DESIGN = {"seed": 0}
IDENTITY = {"design_sha256": store.digest(DESIGN), "sources_sha256": "b" * 64}
ARRAYS = {"m4/s2/phi": np.array([np.nextafter(1, 2)])}


@pytest.fixture
def document():
    return {
        "design": DESIGN,
        "design_sha256": IDENTITY["design_sha256"],
        "status": "complete",
        "halt": None,
        "verdicts": {"P1": {"verdict": "PASS"}},
        "stationarity": [],
        "checkpoints": [],
        "cells": [{"m": 4, "q": {"value": 0.1}}],
        "run": {"seconds": 1.5, "sources_sha256": IDENTITY["sources_sha256"]},
    }


def finished(name, value=0.1):
    return Finished(name, {"value": value}, {"W": np.array([[value, 1 / 3]]), "n": np.arange(2), "none": np.empty((0, 3))})


def reopened(folder):
    journal = Journal(folder, IDENTITY, resume=True)
    journal.close(complete=False)
    return journal.finished


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_journal_keeps_every_bit(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, IDENTITY, resume=False)
    journal.append(finished("cell/1", value))
    journal.close(complete=False)
    (kept,) = reopened(folder).values()
    assert np.float64(kept.record["value"]).tobytes() == np.float64(value).tobytes()
    for name, array in finished("cell/1", value).arrays.items():
        np.testing.assert_array_equal(kept.arrays[name], array, strict=True)


def test_journal_drops_a_line_that_a_crash_cut_off(tmp_path):
    journal = Journal(tmp_path, IDENTITY, resume=False)
    journal.append(finished("cell/1"))
    journal.append(finished("cell/2"))
    journal.close(complete=False)
    text = (tmp_path / "journal.jsonl").read_text()
    (tmp_path / "journal.jsonl").write_text(text[:-20])
    again = Journal(tmp_path, IDENTITY, resume=True)
    assert list(again.finished) == ["cell/1"]
    again.append(finished("cell/2"))
    again.close(complete=False)
    assert list(reopened(tmp_path)) == ["cell/1", "cell/2"]


@pytest.fixture
def three(tmp_path):
    """The bytes of a journal of three tasks, and its file."""
    journal = Journal(tmp_path, IDENTITY, resume=False)
    for number in (1, 2, 3):
        journal.append(finished(f"cell/{number}"))
    journal.close(complete=False)
    return (tmp_path / "journal.jsonl").read_bytes(), tmp_path / "journal.jsonl"


def test_a_journal_that_was_cut_off_anywhere_keeps_its_whole_lines(three):
    content, file = three
    ends = [index for index, byte in enumerate(content) if byte == ord("\n")]
    around = {end + offset for end in ends for offset in (-2, -1, 0, 1)}
    for length in sorted(around | {*range(0, len(content), 29), len(content)}):
        file.write_bytes(content[:length])
        whole = sum(end <= length for end in ends[1:])  # a line that lacks nothing but its end is whole
        assert list(reopened(file.parent)) == [f"cell/{number}" for number in range(1, whole + 1)], length
        assert file.read_bytes() == b"".join(content.splitlines(keepends=True)[: whole + 1]), length


def test_a_damaged_line_costs_its_own_task_only(three):
    content, file = three
    for damage in (lambda text: text.replace(b"0.1", b"0.2"), lambda text: text[:99] + b"\0" * 20 + text[119:], lambda _: b'{"line": 1}\n'):
        lines = content.splitlines(keepends=True)
        lines[2] = damage(lines[2])
        file.write_bytes(b"".join(lines))
        assert list(reopened(file.parent)) == ["cell/1", "cell/3"]


def test_what_a_killed_process_left_of_a_file_is_removed(three):
    _, file = three
    (file.parent / ".results.json.abc123").write_text("half of")
    assert len(reopened(file.parent)) == 3
    assert [path.name for path in file.parent.iterdir()] == ["journal.jsonl"]


@pytest.mark.parametrize("status", ["complete", "interrupted"])
def test_results_that_were_cut_off_are_begun_anew_on_resuming(tmp_path, document, status):
    store.write_results(tmp_path, document | {"status": status}, ARRAYS)
    text = (tmp_path / "results.json").read_bytes()
    for length in (0, 1, 20, 150, len(text) // 2, len(text) - 3):
        (tmp_path / "results.json").write_bytes(text[:length])
        with pytest.raises(ValueError, match="already holds a run of this design"):
            Journal(tmp_path, IDENTITY, resume=False)
        assert reopened(tmp_path) == {}
        (tmp_path / "journal.jsonl").unlink()
    (tmp_path / "results.json").write_bytes(text[:-3])
    with pytest.raises(ValueError, match="not complete JSON"):  # of another design
        Journal(tmp_path, IDENTITY | {"design_sha256": "c" * 64}, resume=True)
    (tmp_path / "results.json").write_text("something else")
    with pytest.raises(ValueError, match="not complete JSON"):
        Journal(tmp_path, IDENTITY, resume=True)


def test_a_folder_is_one_runs_alone(tmp_path):
    journal = Journal(tmp_path, IDENTITY, resume=False)
    before = (tmp_path / "journal.jsonl").read_bytes()
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"process \d+ on .*, since .*, is writing to the folder .*; wait for its end or name another"):
            Journal(tmp_path, IDENTITY, resume=resume)
    assert (tmp_path / "journal.jsonl").read_bytes() == before
    journal.close(complete=False)
    assert reopened(tmp_path) == {}


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import sys, time, pathlib; from thermokernels_app.experiment.records.lock import FolderLock\n"
        "lock = FolderLock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-P", "-c", code, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"process {process.pid} on"):
            FolderLock(tmp_path)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert (tmp_path / ".lock").exists()
    with FolderLock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_complete_run_needs_no_journal(tmp_path):
    journal = Journal(tmp_path / "new" / "folder", IDENTITY, resume=False)
    journal.close(complete=True)
    assert list((tmp_path / "new" / "folder").iterdir()) == []


@pytest.mark.parametrize(
    ("identity", "resume", "message"),
    [
        (
            {"design_sha256": "c" * 64},
            False,
            rf"another design .{IDENTITY['design_sha256'][:12]}, this one is c{{12}}.",
        ),
        ({"design_sha256": "c" * 64}, True, "holds the run of another design"),
        ({}, False, "already holds a run of this design"),
        ({"sources_sha256": "d" * 64}, True, "begun with another version"),
    ],
)
@pytest.mark.parametrize("held", ["journal", "results"])
def test_a_folder_with_another_run_is_left_alone(tmp_path, document, identity, resume, message, held):
    if held == "journal":
        Journal(tmp_path, IDENTITY, resume=False).close(complete=False)
    else:
        store.write_results(tmp_path, document, ARRAYS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        Journal(tmp_path, IDENTITY | identity, resume=resume)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        Journal(tmp_path / "file", IDENTITY, resume=False)
    (tmp_path / "journal.jsonl").write_text("what")
    with pytest.raises(ValueError, match="cannot be read; name another folder"):
        Journal(tmp_path, IDENTITY, resume=True)
