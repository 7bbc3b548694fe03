"""Freezes and amendments: what differs is named, what was changed is refused, and no checkout or line ending matters."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from thermokernels_app.experiment import freeze
from thermokernels_app.experiment.design import Design, load_design
from thermokernels_app.experiment.records import environment, store
from thermokernels_app.experiment.records.store import MismatchError

pytestmark = pytest.mark.small

ROOT = Path(__file__).parents[3]
SMOKE = load_design("smoke", seed=5)


@pytest.fixture
def chain(tmp_path):
    """A freeze and two amendments of it."""
    first = freeze.freeze(SMOKE, tmp_path / "first.json")
    second = freeze.amend(first, load_design("smoke", seed=6), tmp_path / "second.json", reason="another seed", seen="nothing")
    return first, second, freeze.amend(second, Design(), tmp_path / "third.json", reason="all of it", seen="results")


def test_a_freeze_reads_back_and_names_what_differs(tmp_path, monkeypatch):
    made = freeze.freeze(SMOKE, tmp_path / "freeze.json")
    read = freeze.read(tmp_path / "freeze.json")
    assert (read, read.amended, read.chain[0]["design_sha256"]) == (made, False, SMOKE.digest())
    assert read.differences(SMOKE) == []
    read.require(SMOKE)
    assert read.differences(Design()) == ["design.grid.m", "design.grid.split", "design.seed"]

    versions, sources = environment.versions(), environment.sources()
    monkeypatch.setattr(environment, "versions", lambda: versions | {"numpy": "0.1"})
    monkeypatch.setattr(environment, "sources", lambda: sources | {"thermokernels/model/chain.py": "0" * 64, "adjoints/new.py": "1" * 64})
    names = "sources.adjoints/new.py, sources.thermokernels/model/chain.py, versions.numpy; nothing was run"
    with pytest.raises(MismatchError, match=names):
        read.require(SMOKE)
    monkeypatch.setattr(environment, "sources", lambda: {})
    with pytest.raises(MismatchError, match=r"sources\.adjoints/__init__\.py, .* and \d+ more; nothing was run"):
        read.require(SMOKE)


def test_the_versions_and_sources_are_all_there():
    assert set(environment.versions()) == {"python", "thermokernels", "numpy", "scipy", "numba", "llvmlite"}
    assert None not in environment.versions().values()
    names = set(environment.sources())
    files = (
        "thermokernels/model/chain.py",
        "adjoints/laws.py",
        "thermokernels_app/judges/battery.py",
        "thermokernels_app/judges/__init__.py",
        "thermokernels_app/experiment/cell.py",
    )
    assert names >= set(files)
    assert not any(name.startswith(("thermokernels_app/commands", "tests")) for name in names)


def test_a_checkout_elsewhere_with_other_line_endings_has_the_same_hashes(tmp_path):
    site = tmp_path / "another machine" / "site"
    for name in sorted(environment.sources(), reverse=True):
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((ROOT / name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    (site / "thermokernels_app" / "__init__.py").touch()
    (site / "thermokernels" / ".ipynb_checkpoints").mkdir()
    shutil.copy(ROOT / "thermokernels" / "model" / "chain.py", site / "thermokernels" / ".ipynb_checkpoints")

    def elsewhere():
        code = (
            f"import sys; sys.path.insert(0, {str(site)!r})\n"
            "from thermokernels_app.experiment.records import environment as e; print(e.__file__, e.source_hash())"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        file, digest = done.stdout.strip().rsplit(" ", 1)
        assert Path(file).is_relative_to(site)
        return digest

    assert elsewhere() == environment.source_hash()
    with (site / "thermokernels" / "model" / "chain.py").open("ab") as file:
        file.write(b"\r\n# another line\r\n")
    assert elsewhere() != environment.source_hash()


def test_an_amendment_carries_its_chain(chain, tmp_path):
    first, second, third = chain
    assert freeze.read(tmp_path / "third.json") == third
    assert third.amended
    assert [link["parent_sha256"] for link in third.chain] == [None, first.sha256, second.sha256]
    assert [(link["seen"], link["reason"]) for link in third.chain[1:]] == [("nothing", "another seed"), ("results", "all of it")]
    third.require(Design())
    assert third.differences(SMOKE)
    frozen, *amended = third.sentences()
    assert frozen == f"frozen before the run as {first.sha256}"
    assert f"AMENDED as {second.sha256} in design.seed; seen: nothing (no run had been begun); reason: another seed" == amended[0]
    assert "in design.grid.m, design.grid.split, design.seed; seen: results (" in amended[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reason": " \n"}, "the reason of an amendment must be a sentence"),
        ({"seen": "some"}, "must be one of nothing, no-results, results, verdicts; got 'some'"),
        ({"design": SMOKE}, "nothing differs from the freeze .*first.json; there is nothing to amend"),
        ({"path": "second.json"}, "a freeze is never overwritten"),
        ({"path": "none/file.json"}, "cannot be written: No such file"),
    ],
)
def test_bad_amendments_are_refused(chain, tmp_path, options, message):
    before = (tmp_path / "second.json").read_bytes()
    options = {"design": Design(), "path": "new.json", "reason": "why", "seen": "nothing"} | options
    path = tmp_path / options.pop("path")
    with pytest.raises(ValueError, match=message):
        freeze.amend(chain[0], options.pop("design"), path, **options)
    assert (tmp_path / "second.json").read_bytes() == before
    assert not (tmp_path / "new.json").exists()


def test_a_freeze_is_never_overwritten(tmp_path):
    path = tmp_path / "freeze.json"
    made = freeze.freeze(Design(), path)
    content = path.read_bytes()
    assert freeze.freeze(Design(), path) == made  # the same again is no change
    with pytest.raises(ValueError, match="a freeze is never overwritten"):
        freeze.freeze(SMOKE, path)
    assert path.read_bytes() == content
    with pytest.raises(ValueError, match="cannot be written"):
        freeze.freeze(Design(), tmp_path)


def test_a_freeze_that_cannot_be_finished_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(freeze.os, "fsync", full)
    with pytest.raises(ValueError, match="cannot be written: No space left on device"):
        freeze.freeze(Design(), tmp_path / "freeze.json")
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_freeze(tmp_path):
    path = tmp_path / "freeze.json"
    with pytest.raises(ValueError, match="cannot be read"):
        freeze.read(path)
    freeze.freeze(Design(), path)
    whole = path.read_text()
    for text, message in (
        (whole[:200], "is not complete JSON"),
        (whole.replace('"seed": 0', '"seed": NaN'), "is not complete JSON"),
        ("[" * 10**5, "is not complete JSON"),
        ("[]", "is no freeze"),
        (
            json.dumps({"schema": freeze.SCHEMA, "schema_version": 1}),
            "schema version 1; this program reads version 2: freeze the design again",
        ),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message) as error:
            freeze.read(path)
        assert not isinstance(error.value, MismatchError)


def resealed(link, **changes):
    """A link with changes whose own digest was computed anew."""
    body = {key: value for key, value in link.items() if key != "sha256"} | changes
    return {"sha256": store.digest(body)} | body


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda a, b, c: [a, b, c | {"seen": "nothing"}], r"its sha256 is not the hash of what it holds \(link 3 of 3\)"),
        (lambda a, b, c: [a, b | {"reason": "better"}, c], r"its sha256 is not the hash of what it holds \(link 2 of 3\)"),
        (lambda a, b, c: [a, resealed(b, seen="nothing", reason="better"), c], r"its parent_sha256 .* \(link 3 of 3\)"),
        (lambda a, b, c: [b, c], r"its parent_sha256 is not the digest of the link before it \(link 1 of 2\)"),
        (lambda a, b, c: [a, c], r"its parent_sha256 is not the digest of the link before it \(link 2 of 2\)"),
        (lambda a, b, c: [resealed(a, must_match=["design"])], "its must_match is not design, sources, versions"),
        (lambda a, b, c: [resealed(a, sources=None)], "its must_match is not design, sources, versions"),
        (lambda a, b, c: [resealed(a, design={"seed": 1})], "its design_sha256 is not the hash of its design"),
        (lambda a, b, c: [resealed(a, reason="none")], "a first freeze has no reason"),
        (lambda a, b, c: [a, resealed(b, seen="much")], "an amendment needs a reason and what had been seen"),
        (lambda a, b, c: [a | {"more": 1}], "its chain is no list of links with sha256, parent_sha256"),
        (lambda a, b, c: [], "its chain is no list of links"),
        (lambda a, b, c: "abc", "its chain is no list of links"),
    ],
)
def test_a_changed_chain_is_refused(chain, tmp_path, alter, message):
    path = tmp_path / "third.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"chain": alter(*document["chain"])}))
    with pytest.raises(MismatchError, match=f"third.json was changed after it was written: {message}"):
        freeze.read(path)
