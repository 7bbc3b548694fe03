"""Every file reader on a few thousand damaged files, the same on every machine; ``readers.py`` goes further, guided by coverage."""

import ast
import importlib.util
import io
import os
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from thermokernels_app.experiment import design, model_files, store

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


@pytest.mark.parametrize("damage", ["not a zip", "cut", "object"])
def test_arrays_that_their_results_vouch_for_are_still_read_with_care(tmp_path, damage):
    buffer = io.BytesIO()
    np.savez(buffer, W=np.array([None]) if damage == "object" else np.ones(3))
    content = {"not a zip": b"W = 1", "cut": buffer.getvalue()[:-30], "object": buffer.getvalue()}[damage]
    with pytest.raises(ValueError, match=r"arrays.npz holds no arrays that NumPy can read \(\w+\)$"):
        readers.READERS["arrays.npz"].read(tmp_path, content)


@pytest.mark.parametrize("name", ["../../etc/passwd", None, 3])
def test_results_name_no_other_file(tmp_path, name):
    document = store.seal(readers._document(), b"")
    document["arrays"]["file"] = name
    with pytest.raises(ValueError, match=r"arrays must name arrays\.npz"):
        readers.READERS["results.json, hashes made to fit"].read(tmp_path, store.json.dumps(document).encode())


@pytest.mark.parametrize("content", [b"1e400", b"-1e999"])
def test_results_with_a_number_beyond_float64_are_refused(tmp_path, content):
    (seed,) = readers.READERS["results.json"].seeds()
    (tmp_path / "results.json").write_bytes(seed.replace(b"1e-17", content))
    with pytest.raises(ValueError, match=r"results\.json was changed after the run"):
        store.read_results(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        b"[]", b"1", b"{}", b"null", b'{"task": "a"}', b'{"task": "a", "record": {}, "arrays": 1}', b"[" * 3000, b"1e400", b"NaN",
        b'{"task": "a", "record": {}, "arrays": {"W": {"dtype": "|O", "shape": [1], "values": [1]}}}',
        b'{"task": "a", "record": {}, "arrays": {"W": {"dtype": "<f8", "shape": [2], "values": [1]}}}',
        b'{"task": "a", "record": {}, "arrays": {"W": {"dtype": "<f8", "shape": [1], "values": ["x"]}}}',
    ],
)  # fmt: skip
def test_a_damaged_line_of_a_journal_is_computed_again(tmp_path, line):
    (seed,) = readers.READERS["journal.jsonl"].seeds()
    head, first, second = seed.splitlines(keepends=True)
    (tmp_path / store.JOURNAL).write_bytes(head + first + line + b"\n" + second)
    journal = store.Journal(tmp_path, readers.IDENTITY, resume=True)
    journal.close(complete=False)
    assert list(journal.finished) == ["network m4/s2"]
    assert journal.path.read_bytes() == head + first


@pytest.mark.parametrize("head", [b"[]", b"3", b'{"design_sha256": 1, "sources_sha256": 2}'])
def test_a_journal_without_its_head_is_refused(tmp_path, head):
    (tmp_path / store.JOURNAL).write_bytes(head + b"\n")
    with pytest.raises(ValueError, match="holds files of a run that cannot be read"):
        store.Journal(tmp_path, readers.IDENTITY, resume=True)


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
            model_files.read_model(tmp_path / "model.npz")


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
    folders = ("thermokernels", "adjoints", "validation", "experiment", "commands")
    loads = 0
    for path in [ROOT / "cli.py", *(path for folder in folders for path in (ROOT / folder).glob("**/*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.split(".")[0] for alias in node.names} if isinstance(node, ast.Import) else {str(node.module)}
                assert not names & {"pickle", "shelve", "dill", "joblib", "marshal", "cloudpickle"}, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and ast.unparse(node.func) in ("np.load", "numpy.load"):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("allow_pickle") == "False", f"{path}:{node.lineno}"
                loads += 1
    assert loads >= 2
