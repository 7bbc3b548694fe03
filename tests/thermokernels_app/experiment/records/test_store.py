"""The files of a run: what is written can be read back, what was damaged is refused, and nothing is overwritten."""

import json
import math

import numpy as np
import pytest

from thermokernels.common import atomic_file
from thermokernels_app.experiment.records import store

DESIGN = {"seed": 0}
IDENTITY = {"design_sha256": store.digest(DESIGN), "sources_sha256": "b" * 64}
ARRAYS = {"m4/s2/half/code1/W": np.arange(6.0).reshape(2, 3) / 7, "m4/s2/phi": np.array([np.nextafter(1, 2)])}


def resealed(text, **changes):
    """A changed file whose hash was computed anew."""
    document = json.loads(text) | changes
    document["records_sha256"] = store.digest({key: document[key] for key in store.HASHED})
    document["document_sha256"] = store.digest({key: value for key, value in document.items() if key != "document_sha256"})
    return json.dumps(document)


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


def test_results_and_arrays_read_back(tmp_path, document):
    written = store.write_results(tmp_path, document, ARRAYS)
    assert store.read_results(tmp_path) == written
    assert store.read_results(tmp_path / "results.json") == written
    for name, array in store.read_arrays(tmp_path).items():
        np.testing.assert_array_equal(array, ARRAYS[name], strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arrays.npz", "results.json"]


def test_hash_covers_the_records_and_not_the_circumstances(tmp_path, document):
    first = store.write_results(tmp_path, document, ARRAYS)
    second = store.write_results(tmp_path, document | {"run": {"seconds": 99.0}}, dict(reversed(ARRAYS.items())))
    third = store.write_results(tmp_path, document | {"cells": []}, ARRAYS)
    fourth = store.write_results(tmp_path, document, {})
    assert first["records_sha256"] == second["records_sha256"]
    assert len({each["records_sha256"] for each in (first, third, fourth)}) == 3


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "not complete JSON"),
        (lambda text: text.replace("0.1", "0.2"), "was changed after the run"),
        (lambda text: text.replace('"schema_version": 2', '"schema_version": 99'), "schema version 99; this program reads version 2"),
        (lambda text: text.replace("thermokernels/results", "else"), "holds no results of this program"),
        (lambda text: "[" * 100_000, "not complete JSON"),
        (lambda text: "[]", "holds no results of this program"),
        (lambda text: resealed(text, design={"seed": 1}), "design does not match design_sha256"),
        (lambda text: resealed(text, status="complet"), "status is 'complet'"),
        (lambda text: resealed(text, cells=["none"]), "cells is no list of records"),
        (lambda text: resealed(text, run=None), "run lacks seconds"),
        (lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "cells"}), "lacks cells"),
        (lambda text: text.replace("0.1", "NaN"), "not complete JSON"),
        (lambda text: text.replace("0.1", "1e999"), "1e999 is beyond the range of float64"),
        (lambda text: text.replace('"m": 4', '"m": 3, "m": 4'), "the key 'm' stands twice in one object"),
        (lambda text: text.replace("1.5", "1.25"), "what stands beside its records does not match document_sha256"),
        (lambda text: resealed(text, freeze=[]), "freeze is no object with sha256"),
        (lambda text: resealed(text, arrays={"file": "/etc/passwd"}), "arrays is no object with file, sha256 and members"),
    ],
)
def test_damaged_results_are_refused(tmp_path, document, damage, message):
    store.write_results(tmp_path, document, ARRAYS)
    file = tmp_path / "results.json"
    file.write_text(damage(file.read_text()))
    with pytest.raises(ValueError, match=message):
        store.read_results(tmp_path)


def test_results_that_are_not_there_or_not_text(tmp_path):
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        store.read_results(tmp_path / "nowhere")
    (tmp_path / "results.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="it is not text"):
        store.read_results(tmp_path)


def test_arrays_of_another_run_are_refused(tmp_path, document):
    store.write_results(tmp_path, document, ARRAYS)
    content = (tmp_path / "arrays.npz").read_bytes()
    changed = {name: array.copy() for name, array in ARRAYS.items()}
    changed["m4/s2/phi"][0] = 1.0
    for damaged, message in (
        (store.arrays_as_bytes({"W": np.zeros(3)}), "3 of 2 arrays differ, the first is W"),
        (store.arrays_as_bytes(changed), "1 of 2 arrays differ, the first is m4/s2/phi"),
        (content[:-30], "it is not a complete .npz file"),
        (content + b" ", "though every array in it is the same"),
    ):
        (tmp_path / "arrays.npz").write_bytes(damaged)
        with pytest.raises(store.MismatchError, match=f"does not belong to the results beside it: .*{message}"):
            store.read_arrays(tmp_path)
    (tmp_path / "arrays.npz").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        store.read_arrays(tmp_path)


def test_numbers_that_are_not_finite_become_null_with_a_reason():
    value = store.plain({"a": math.inf, "b": [np.float64(2), np.nan], "c": {"d": np.int64(3), "e": np.bool_(True)}})
    assert value == {"a": None, "a_reason": "not finite: inf", "b": [2.0, None], "c": {"d": 3, "e": True}}
    json.dumps(value, allow_nan=False)


def test_a_failed_write_leaves_the_old_file(tmp_path, document, monkeypatch):
    store.write_results(tmp_path, document, ARRAYS)
    before = (tmp_path / "results.json").read_bytes()

    def fail(*_):
        raise OSError(28, "no space left")

    monkeypatch.setattr(atomic_file.os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        store.write_results(tmp_path, document | {"cells": []}, {})
    assert (tmp_path / "results.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2
