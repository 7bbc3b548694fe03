"""What `thermo show` holds a record against: each kind of alteration is named, and no single byte of a record can change unnoticed."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from thermokernels_app.experiment import audit, freeze
from thermokernels_app.experiment.design import Design, Grid
from thermokernels_app.experiment.records import store
from thermokernels_app.experiment.records.store import MismatchError
from thermokernels_app.experiment.running import runner

pytestmark = pytest.mark.xdist_group("audit")

TINY = replace(
    Design(),
    grid=Grid(m=(4,), split=(2,), checkpoints=("half", "final"), codes=(1, 2)),
    training=replace(Design().training, steps=40),
    polish=replace(Design().polish, iterations=5),
    directions=1,
    steps=(1e-3, 1e-4),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run against an amended freeze."""
    folder = tmp_path_factory.mktemp("run")
    first = freeze.freeze(replace(TINY, seed=1), folder / "first.json")
    second = freeze.amend(first, TINY, folder / "second.json", reason="the other seed", seen="nothing")
    with ThreadPoolExecutor(2) as threads:
        runner.run(TINY, folder / "out", executor=threads, freeze=second)
    return folder / "out"


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def checked(folder):
    return audit.audit(store.read_results(folder), folder)


def write(folder, document):
    """A document with hashes of its own computed anew, as somebody would who knows how."""
    document = json.loads(json.dumps(document))
    document["records_sha256"] = store.digest({key: document[key] for key in store.HASHED})
    document["document_sha256"] = store.digest({key: value for key, value in document.items() if key != "document_sha256"})
    (folder / "results.json").write_text(json.dumps(document))


def test_a_record_as_it_was_written(finished):
    found = checked(finished)
    assert (found.altered, found.notes) == (None, ())
    assert found.freeze is not None
    assert (found.freeze.amended, found.freeze.chain[-1]["reason"]) == (True, "the other seed")
    assert found.exit_code == runner.exit_code(store.read_results(finished))


def test_no_byte_of_a_record_can_change_unnoticed(finished, tmp_path):
    """200 positions, each byte replaced by a random other one: refused, or the content is the same."""
    original = (finished / "results.json").read_bytes()
    content = json.loads(original)
    draws = np.random.Generator(np.random.PCG64(4))
    file, same = tmp_path / "results.json", 0
    for position in draws.integers(0, len(original), 200):
        changed = bytearray(original)
        changed[position] ^= int(draws.integers(1, 256))
        file.write_bytes(changed)
        try:
            document = store.read_results(file)
        except ValueError:
            continue
        assert document == content
        same += 1
    assert same < 100  # whitespace between the values, and no more


def test_no_byte_of_the_arrays_can_change_unnoticed(folder):
    original = (folder / "arrays.npz").read_bytes()
    for position in np.random.Generator(np.random.PCG64(5)).integers(0, len(original), 20):
        changed = bytearray(original)
        changed[position] ^= 1
        (folder / "arrays.npz").write_bytes(changed)
        with pytest.raises(MismatchError, match="does not belong to the results beside it"):
            checked(folder)
    (folder / "arrays.npz").unlink()
    assert "arrays.npz is not there, so the arrays were not checked" in checked(folder).notes[0]


def of_cell(**changes):
    def change(document):
        document["cells"][0] |= changes

    return change


def remove_cell(document):
    del document["cells"][0]


def pass_p1(document):
    verdict = document["verdicts"]["P1"]
    verdict["verdict"] = "FAIL" if verdict["verdict"] == "PASS" else "PASS"


def loosen(document):
    document["design"]["thresholds"]["mass"] = 0.0001


def resealed_design(document):
    loosen(document)
    document["design_sha256"] = store.digest(document["design"])


@pytest.mark.parametrize("change", [of_cell(split=3), remove_cell, pass_p1, loosen])
def test_a_change_is_seen_by_the_hash_of_the_records(folder, change):
    document = store.read_results(folder)
    change(document)
    (folder / "results.json").write_text(json.dumps(document))
    with pytest.raises(MismatchError, match="its records do not match records_sha256"):
        checked(folder)


@pytest.mark.parametrize("change", [of_cell(split=3), remove_cell, pass_p1])
def test_a_change_that_moves_a_verdict_is_seen_when_all_hashes_were_computed_anew(folder, change):
    document = store.read_results(folder)
    change(document)
    write(folder, document)
    found = checked(folder)
    assert found.exit_code == 3
    assert "are not those of its records" in found.altered
    assert "the rules are the same" in found.altered


def test_rules_of_another_version_are_named(folder):
    document = store.read_results(folder)
    pass_p1(document)
    document["run"]["sources_sha256"] = "f" * 64
    document["freeze"] = None
    write(folder, document)
    assert "the sources of the run are ffffffffffff, those of this program" in checked(folder).altered


def run_elsewhere(document):
    document["run"]["sources_sha256"] = "0" * 64


def on_another_numpy(document):
    document["run"]["environment"]["packages"]["numpy"] = "1.0"


def nowhere(document):
    del document["run"]["environment"]


def unmarked(document):
    document["freeze"]["amended"] = False


def drop_the_first_freeze(document):
    del document["freeze"]["chain"][0]


def hide_the_amendment(document):
    del document["freeze"]["chain"][1]
    document["freeze"] |= {"sha256": document["freeze"]["chain"][0]["sha256"], "amended": False}


def other_reason(document):
    document["freeze"]["chain"][1]["reason"] = "none"


def no_cells_at_all(document):
    document["cells"] = [{"m": {}}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (loosen, "design does not match design_sha256"),
        (resealed_design, "is not the run of the freeze that it carries: design.thresholds.mass differs"),
        (run_elsewhere, "is not the run of the freeze that it carries: its sources are others"),
        (on_another_numpy, "is not the run of the freeze that it carries: the versions of numpy differ"),
        (nowhere, "does not say on which versions it ran"),
        (unmarked, "does not have the digest of its chain"),
        (drop_the_first_freeze, r"its parent_sha256 is not the digest of the link before it \(link 1 of 1\)"),
        (hide_the_amendment, "is not the run of the freeze that it carries: design.seed differs"),
        (other_reason, r"its sha256 is not the hash of what it holds \(link 2 of 2\)"),
        (no_cells_at_all, "its records cannot be judged"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused_though_all_hashes_were_computed_anew(folder, change, message):
    document = store.read_results(folder)
    change(document)
    write(folder, document)
    with pytest.raises(MismatchError, match=message):
        checked(folder)


def test_logarithms_may_differ_by_rounding_and_nothing_else_may():
    differ = audit._differences
    assert [*differ({"a": [1.0, {"b": 2.0}]}, {"a": [1.0 + 1e-15, {"b": 2.0}]})] == []
    assert [*differ({"a": [1.0, 2]}, {"a": [1.0 + 1e-9, 2.0]})] == [("a[0]", 1.0, 1.0 + 1e-9), ("a[1]", 2, 2.0)]
    assert [*differ({"a": None, "c": 1}, {"a": [], "b": True})] == [("a", None, []), ("b", None, True), ("c", 1, None)]
