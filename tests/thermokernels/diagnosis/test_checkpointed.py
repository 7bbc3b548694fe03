"""A diagnosis that is interrupted at any of its parts goes on from its file: same bits, and no finished part is done again."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.diagnosis import checkpointed
from thermokernels.diagnosis import diagnose as rooms
from thermokernels.diagnosis.result import Crossing, Number

draws = np.random.default_rng(4)
W, B = 0.8 * draws.normal(size=(7, 4)), 0.1 * draws.normal(size=7)  # 2048 states: beyond those that one call answers
LAW = np.full(2**7, 2.0**-7)
PARTS = ["the slow modes", "the spectral measure", "the gaps", "autocorrelation times", "basins and the passages between them"]
WORK = {"solves": "with_solutions", "spectrum": "solve_spectral_gap", "correlations": "correlations", "basins": "basins"}


@pytest.fixture(scope="module")
def whole():
    return tk.diagnose(W, B, p_data=LAW).as_dict()


def interrupted_at(part, path):
    def stop(at, done, total):
        if at == part:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tk.diagnose(W, B, p_data=LAW, progress=stop, checkpoint=path)


@pytest.mark.parametrize("part", PARTS)
def test_it_goes_on_to_the_same_bits(part, whole, tmp_path):
    path = tmp_path / "kept.npz"
    interrupted_at(part, path)
    assert tk.diagnose(W, B, p_data=LAW, checkpoint=path).as_dict() == whole
    assert tk.diagnose(W, B, p_data=LAW, checkpoint=path).as_dict() == whole  # all of it from the file


def test_no_finished_part_is_done_again(whole, tmp_path, monkeypatch):
    path = tmp_path / "kept.npz"
    interrupted_at("the slow modes", path)
    with np.load(path) as kept:
        assert kept[checkpointed.SOLUTIONS].shape == (28, 2048)

    def forbid(*names):
        for name in names:
            monkeypatch.setattr(rooms, WORK[name], lambda *args: pytest.fail("a finished part was done again"))

    forbid("solves")
    interrupted_at("basins and the passages between them", path)
    with np.load(path) as kept:
        assert checkpointed.SOLUTIONS not in kept.files  # large, and of no use any more
    forbid("spectrum", "correlations")
    assert tk.diagnose(W, B, p_data=LAW, checkpoint=path).as_dict() == whole
    forbid("basins")
    assert tk.diagnose(W, B, p_data=LAW, checkpoint=path).as_dict() == whole


def test_the_alternating_scan_keeps_its_parts_too(tmp_path):
    path = tmp_path / "kept.npz"
    whole = tk.diagnose(W, B, p_data=LAW, kernel="alternating", checkpoint=path).as_dict()
    assert tk.diagnose(W, B, p_data=LAW, kernel="alternating", checkpoint=path).as_dict() == whole


@pytest.mark.parametrize("other", [{"window": 50.0}, {"budget": 10.0}, {"kernel": "alternating"}, {"p_data": None}, {"c": np.ones(4)}])
def test_a_file_of_another_diagnosis_is_refused(other, tmp_path):
    path = tmp_path / "kept.npz"
    interrupted_at("autocorrelation times", path)
    with pytest.raises(ValueError, match="belongs to another model, other options or another version"):
        tk.diagnose(W, B, **({"p_data": LAW, "checkpoint": path} | other))


def test_what_is_no_path_or_no_function_is_named():
    with pytest.raises(ValueError, match="checkpoint must be the path of a file"):
        tk.diagnose(W, B, checkpoint=3)
    with pytest.raises(ValueError, match="progress must be a function"):
        tk.diagnose(W, B, progress=3)


def test_findings_come_back_as_they_were():
    number = Number(0.1 + 0.2, "steps", None, "proven")
    crossing = Crossing(0.3, 0.7, 1 / 3, 1e-16, -2.0, 2, number, number, number, None, True)
    found = {"a": number, "b": (crossing, crossing), "c": None, "d": np.array([[0.1, 1 / 3], [np.nan, np.inf]]), "e": (3, 1), "f": 7}
    back = checkpointed._read(checkpointed._written(found))
    np.testing.assert_array_equal(back.pop("d"), found.pop("d"))
    assert back == found
