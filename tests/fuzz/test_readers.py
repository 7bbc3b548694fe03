"""Every file reader on a few thousand damaged files, the same on every machine; ``readers.py`` goes further, guided by coverage."""

import ast
import importlib.util
import io
import json
import os
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import thermokernels as tk
from thermokernels_app.experiment import design
from thermokernels_app.experiment.records import journal

ROOT = Path(__file__).parents[2]


def _load_readers():
    spec = importlib.util.spec_from_file_location("readers", Path(__file__).with_name("readers.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["readers"] = module  # where dataclasses look for its annotations
    spec.loader.exec_module(module)
    return module


readers = _load_readers()


@pytest.mark.parametrize("name", readers.READERS)
def test_damaged_files_are_read_or_refused_in_one_sentence(name, tmp_path):
    reader, rng = readers.READERS[name], np.random.default_rng(0)
    seeds = reader.seeds()
    assert readers.check(reader, tmp_path, seeds[0]) is None, "a valid file is read"
    others = [content for other in readers.READERS.values() for content in other.seeds()]
    refused = 0
    for number in range(250):
        content = readers.mutated(seeds[number % len(seeds)], others, rng)
        refused += readers.check(reader, tmp_path, content) is not None
    assert refused > (0 if name == "journal.jsonl" else 60)  # the mutations bite; a journal drops what it cannot read


def test_a_broken_reader_is_seen(tmp_path):
    """The judge itself: another exception, a warning, or a sentence that does not name the file."""

    def bad(error):
        def read(folder, content):
            raise error

        return readers.Reader(read, lambda: [b""])

    for error, seen in ((KeyError("x"), KeyError), (UserWarning("x"), UserWarning), (ValueError("no name"), AssertionError)):
        with pytest.raises(seen):
            readers.check(bad(error), tmp_path, b"")
    with pytest.raises(AssertionError):
        readers.check(bad(ValueError(f"{tmp_path}: two\nlines")), tmp_path, b"")


# What the fuzz found.


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"window_sweeps = 1" + b"0" * 400, "window_sweeps must be one finite number; got 1000"),
        (b"seed = " + b"9" * 5000, "is not TOML: Exceeds the limit"),
        (b"a = " + b"[" * 3000, "is not TOML"),
        (b'"two\\nlines" = 1', r"'two\nlines' is no key of the design"),
        (b"grid.m = '" + b"x" * 5000 + b"'", "grid.m must be a list of at least one integer; got 'xxx"),
    ],
)
def test_grids_that_broke_the_reader(tmp_path, content, words):
    (tmp_path / "grid.toml").write_bytes(content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are compared below, with backslashes
        design.load_design(tmp_path / "grid.toml")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["../../etc/passwd", None, 3])
def test_results_name_no_other_file(tmp_path, name):
    document = json.loads(readers._results_seeds()[0])
    document["arrays"]["file"] = name
    assert "arrays is no object" in readers.check(
        readers.READERS["results.json, hashes made to fit"], tmp_path, json.dumps(document).encode()
    )


@pytest.mark.parametrize("number", [np.array([[0x7F800001]], np.uint32).view(np.float32), np.array([["1e4000"]]).astype(np.longdouble)])
def test_numbers_that_no_float64_holds_are_refused_without_a_warning(tmp_path, number):
    """A signalling NaN, and a long double beyond the range."""
    content = io.BytesIO()
    np.save(content, number)
    assert "must be finite; entry (0, 0) is" in readers.check(readers.READERS["model.npy"], tmp_path, content.getvalue())


@pytest.mark.parametrize(
    "arrays", [1, {"W": {}}, {"W": {"dtype": "|O", "shape": [1], "values": [1]}}, {"W": {"dtype": "<f8", "shape": [9], "values": []}}]
)
def test_a_line_of_a_journal_that_is_no_task_is_computed_again(tmp_path, arrays):
    """Though its checksum fits."""
    (seed,) = readers.READERS["journal.jsonl"].seeds()
    (tmp_path / "journal.jsonl").write_bytes(seed + journal._line({"task": "more", "record": {}, "arrays": arrays}))
    again = journal.Journal(tmp_path, readers.IDENTITY, resume=True)
    again.close(complete=False)
    assert list(again.finished) == ["network m4/s2", "cells m4/s2"]
    assert again.path.read_bytes() == seed


def test_a_damaged_model_file_is_called_damaged(tmp_path):
    """Not "Python objects", which is what NumPy takes it for."""
    np.savez(tmp_path / "model.npz", W=np.ones((2, 2)))
    content = (tmp_path / "model.npz").read_bytes()
    for damaged, words in (
        (b"QQ" + content[2:], "its first bytes are not those of a file that NumPy wrote"),
        (content[:-30], "it is damaged"),
    ):
        (tmp_path / "model.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=words):
            tk.load_model(tmp_path / "model.npz")


# No pickle is ever loaded.


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["model.npy", "samples.npy", "model.npz", "arrays.npz"])
def test_pickles_are_not_loaded(tmp_path, name):
    """Bare, in an .npy of objects, and in an .npz of objects: what they would make does not come into being."""
    made = str(tmp_path / "made")
    objects = np.array([Payload(made)], dtype=object)
    inner = io.BytesIO()
    np.save(inner, objects, allow_pickle=True)
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("W.npy", inner.getvalue())
        archive.writestr("b", pickle.dumps(Payload(made)))
    for content in (pickle.dumps(Payload(made)), inner.getvalue(), outer.getvalue()):
        assert readers.check(readers.READERS[name], tmp_path, content) is not None
        assert not os.path.exists(made)
    np.load(io.BytesIO(inner.getvalue()), allow_pickle=True)  # it is a live one
    assert os.path.isdir(made)


def test_no_source_can_load_a_pickle():
    """Every np.load says allow_pickle=False, and nothing imports pickle or its kind."""
    folders = ("thermokernels", "adjoints", "thermokernels_bridges", "thermokernels_app")
    loads = 0
    for path in [ROOT / "cli.py", *(path for folder in folders for path in (ROOT / folder).glob("**/*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.split(".")[0] for alias in node.names} if isinstance(node, ast.Import) else {str(node.module)}
                own_pipe = path.name in ("pool.py", "tasks.py")  # between our own processes, never from a file
                assert own_pipe or not names & {"pickle", "shelve", "dill", "joblib", "marshal", "cloudpickle"}, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and ast.unparse(node.func) in ("np.load", "numpy.load"):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("allow_pickle") == "False", f"{path}:{node.lineno}"
                loads += 1
    assert loads >= 2
