"""A diagnosis that is interrupted at any of its parts goes on from its file: same bits, and no finished part is done again."""

import dataclasses

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.common import footprint
from thermokernels.diagnosis import checkpointed, measured
from thermokernels.diagnosis import diagnose as rooms
from thermokernels.diagnosis.result import Crossing, Number
from thermokernels.quantities import first_passage, remaining_rules

draws = np.random.default_rng(4)
W, B = 0.8 * draws.normal(size=(8, 4)), 0.1 * draws.normal(size=8)  # 4096 states: beyond those that one call answers
LAW = np.full(2**8, 2.0**-8)
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
        assert kept[checkpointed.SOLUTIONS].shape == (32, 4096)

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


def test_passages_that_are_done_are_not_done_again(whole, tmp_path, monkeypatch):
    """Stopped after the third of them, and gone on with: the others alone are solved for."""
    monkeypatch.setattr("thermokernels.common.threads._chosen", 1)  # on more of them others may be done meanwhile
    path, told, solved = tmp_path / "kept.npz", [], []

    def stop(part, done, total):
        if part == "basins and the passages between them":
            told.append((done, total))
            if done == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tk.diagnose(W, B, p_data=LAW, progress=stop, checkpoint=path)
    n_passages = 2 * len(whole["crossings"])
    assert n_passages > 4
    assert told == [(0, 1), *((done, n_passages) for done in range(4))]
    solve = first_passage.solve_mean_first_passage
    monkeypatch.setattr(first_passage, "solve_mean_first_passage", lambda *ends: solved.append(1) or solve(*ends))
    found = tk.diagnose(W, B, p_data=LAW, checkpoint=path).as_dict()
    assert found | {"n_bytes": None} == whole | {"n_bytes": None}  # of one thread here
    assert len(solved) == n_passages - 3


@pytest.fixture
def in_blocks_of_eight(monkeypatch):
    """Observables are solved for and measured eight at a time, one after the other, and what is done is kept every time."""
    monkeypatch.setattr("thermokernels.common.threads._chosen", 1)
    monkeypatch.setattr(footprint, "BLOCK_NUMBERS", 8 * 4096)
    monkeypatch.setattr(footprint, "CHUNK_BYTES", 8 * 8 * footprint.ARRAYS_OF_A_ROW * 4096)
    monkeypatch.setattr(remaining_rules, "TOGETHER", 8 * 4096)
    monkeypatch.setattr(checkpointed, "PATIENCE", 0.0)


@pytest.mark.parametrize("part", ["the observables", "the spectral measure"])
def test_observables_that_are_done_are_not_done_again(part, tmp_path, in_blocks_of_eight, monkeypatch):
    path, told, run = tmp_path / "kept.npz", [], []
    expected = tk.diagnose(W, B, p_data=LAW).as_dict()

    def stop(at, done, total):
        if (at, done) == (part, 16):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tk.diagnose(W, B, p_data=LAW, progress=stop, checkpoint=path)
    begun = remaining_rules.RemainingRules._begun
    monkeypatch.setattr(remaining_rules.RemainingRules, "_begun", lambda self, rows: run.append(rows) or begun(self, rows))
    if part == "the spectral measure":
        monkeypatch.setattr(measured, "modes_of", lambda *args: pytest.fail("the slow modes were sought again"))
    found = tk.diagnose(W, B, p_data=LAW, progress=lambda *more: told.append(more), checkpoint=path).as_dict()
    assert found == expected
    counts = [done for at, done, _ in told if at == part]
    if part == "the observables":
        assert counts == [16, 24, 32]
    else:
        assert counts == [0, 16, 24, 32]
        assert run == [slice(16, 24), slice(24, 32)]
    with np.load(path) as kept:
        assert not [name for name in kept.files if "." in name]  # nothing of parts that are finished


def test_what_is_done_of_a_part_is_written_now_and_then(tmp_path, in_blocks_of_eight, monkeypatch):
    """Each time the file is written as a whole, solutions included: not at every observable where that takes long."""
    save, written = checkpointed.RestartFile.save, []
    monkeypatch.setattr(checkpointed.RestartFile, "save", lambda self, arrays: written.append([*arrays]) or save(self, arrays))
    tk.diagnose(W, B, checkpoint=tmp_path / "often.npz")
    often = len(written)
    monkeypatch.setattr(checkpointed, "PATIENCE", np.inf)
    tk.diagnose(W, B, checkpoint=tmp_path / "seldom.npz")
    seldom = written[often:]
    assert often - len(seldom) == 8  # blocks of solves, but for the first; slow modes; blocks of the measure
    assert sum("solutions.vectors" in names for names in seldom) == 1


def test_observables_of_the_measure_are_counted():
    told = []
    tk.diagnose(W, B, progress=lambda part, done, total: told.append((part, done, total)))
    counts = [(done, total) for part, done, total in told if part == "the spectral measure"]
    assert counts[0] == (0, 32)
    assert counts[-1] == (32, 32)
    assert told[-1] == ("done", 1, 1)


def test_a_measure_that_is_interrupted_goes_on_from_its_file(tmp_path, monkeypatch):
    chain, path = tk.gibbs_chain(W, B), tmp_path / "kept.npz"
    whole = tk.spectral_measure(chain)

    def stop(part, done, total):
        if part == "the spectral measure":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured.kept_measure(chain, stop, path)
    monkeypatch.setattr(measured, "with_solutions", lambda *args: pytest.fail("solved for once more"))
    for _ in range(2):  # from the solutions, then from the measure
        found = measured.kept_measure(chain, lambda part, done, total: None, path)
        for field in dataclasses.fields(whole):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(whole, field.name))
        monkeypatch.setattr(measured, "measure_of", lambda *args: pytest.fail("measured once more"))
    with pytest.raises(ValueError, match="belongs to another model, other options or another version"):
        tk.diagnose(W, B, checkpoint=path)
    with pytest.raises(ValueError, match="belongs to another model, other options or another version"):
        measured.kept_measure(tk.gibbs_chain(2 * W, B), stop, path)


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
