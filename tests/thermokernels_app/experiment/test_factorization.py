"""The run of P5: its records against dense sums over pairs of records, its verdict from them, and what a folder of it is good for."""

import copy
import json

import numpy as np
import pytest

import thermokernels as tk
from thermokernels_app.experiment import factorization_cell
from thermokernels_app.experiment.factorization_design import FactorizationDesign, load_factorization
from thermokernels_app.experiment.records.environment import source_hash
from thermokernels_app.experiment.records.store import MismatchError, plain
from thermokernels_app.experiment.running import factorization
from thermokernels_app.judges.verdicts import p5_factorization
from thermokernels_app.report.screens import factorization_tables
from thermokernels_app.selftest import case, factorization_rules

pytestmark = pytest.mark.xdist_group("factorization")

DESIGN = FactorizationDesign(windows=(1, 3), burn_ins=(0.0, 1.0))


def model(seed=0, scale=1.0):
    draws = np.random.default_rng(seed)
    return scale * draws.normal(size=(3, 3)), draws.dirichlet(np.ones(8))


def test_numbers_of_a_cell():
    W, law = model()
    before = model(1)[0]
    record = factorization_cell.measure(DESIGN, W, law, before)
    chain, scan = tk.gibbs_chain(W), tk.gibbs_chain(W, kernel="alternating")
    assert record["t_obs_steps"] == pytest.approx(tk.observable_variance_time(chain), rel=1e-10, abs=0)
    assert record["asymptotic_variance_steps"] == pytest.approx(tk.asymptotic_variance(chain), rel=1e-10, abs=0)
    measure = tk.spectral_measure(chain)
    assert record["relevant_gap"] == pytest.approx(measure.relevant_gap, rel=1e-9, abs=0)
    assert record["gamma_eff_sweep"] == pytest.approx(measure.gamma_eff, rel=1e-8, abs=0)
    assert record["slowest_tau_steps"] == pytest.approx(tk.diagnose(W).tau_observable.value, rel=1e-8, abs=0)
    assert max(record["A2"], record["A9"]) < 1e-15
    assert len(record["windows"]) == 5 * 2 * 2
    starts = {"state": np.eye(32)[0], "previous": tk.gibbs_chain(before).law}
    for one in record["windows"]:
        window, wait = one["window_sweeps"], one["burn_in_sweeps"]
        start = starts.get(one["start"], one["start"])
        q, other = (tk.operational_q(of, law, window, wait, start, method="recursion") for of in (chain, scan))
        assert one["q_op"] == pytest.approx(q.value, rel=1e-9, abs=0)
        assert one["F3"] == pytest.approx(q.error / other.error, rel=1e-9, abs=0)
        assert one["F1"] == pytest.approx(one["q_limit"] / one["q_op"], rel=1e-12, abs=0)
        positive = tk.operational_q(chain, law, window, wait, start, n_data=DESIGN.n_data).positive
        assert one["F4"] == pytest.approx(positive / q.error, rel=1e-9, abs=0)
        assert wait == 0 if one["burn_in_times"] == 0 else wait >= 1 / (6 * record["relevant_gap"])
        assert one["A5"] == pytest.approx(wait * record["gamma_eff_sweep"], rel=1e-12, abs=0)


@pytest.mark.parametrize("one", factorization_rules.cases(FactorizationDesign().as_dict()), ids=lambda one: f"{one.gate}: {one.breaks}")
def test_every_gate_bites(one):
    outcome = case.run(one)
    assert outcome.caught, outcome.said


def test_designs():
    assert load_factorization("factorization").n_cells == 192
    small = load_factorization("factorization-smoke", seed=3)
    assert (small.n_cells, small.base.seed) == (8, 3)
    assert small.digest() != load_factorization("factorization-smoke").digest()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with the document of two made-up networks: what is kept of a run, without its minutes."""
    folder = tmp_path_factory.mktemp("factorization")
    design = load_factorization("factorization-smoke")
    cells = []
    for name in design.base.grid.checkpoints:
        for code in design.base.grid.codes:
            W, law = model(code, 0.3)
            place = {"m": 4, "split": 2, "checkpoint": name, "code": code, "status": "ok", "halt": None}
            cells.append(plain(place | factorization_cell.measure(design, W, law, None)))
    identity = {"design_sha256": design.digest(), "sources_sha256": source_hash()}
    (folder / "network-m4-s2.json").write_text(json.dumps({**identity, "cells": cells}))
    return folder, design, factorization.QUESTION.run(design, folder, resume=True)


def test_finished_networks_are_kept_and_a_complete_run_is_read_back(run):
    folder, design, document = run
    assert sorted(path.name for path in folder.iterdir()) == ["factorization.json"]
    assert factorization.QUESTION.read(folder) == factorization.QUESTION.run(design, folder, resume=True) == document
    assert document["verdicts"]["P5"]["verdict"] in ("PASS", "FAIL")
    assert factorization.QUESTION.exit_code(document) in (0, 10)
    with pytest.raises(ValueError, match="is not empty; a run is never overwritten"):
        factorization.QUESTION.run(design, folder)
    with pytest.raises(ValueError, match="holds a run of another design"):
        factorization.QUESTION.run(load_factorization("factorization-smoke", seed=1), folder, resume=True)


def test_an_altered_file_is_refused(run, tmp_path):
    document = copy.deepcopy(run[2])
    document["cells"][0]["windows"][0]["q_op"] *= 2
    (tmp_path / "factorization.json").write_text(json.dumps(document))
    with pytest.raises(MismatchError, match="was changed after the run"):
        factorization.QUESTION.read(tmp_path)
    (tmp_path / "factorization.json").write_text("{")
    with pytest.raises(ValueError, match=r"factorization.json cannot be read"):
        factorization.QUESTION.read(tmp_path)
    (tmp_path / "network-m4-s2.json").write_text("{}")
    (tmp_path / "factorization.json").unlink()
    with pytest.raises(ValueError, match="is of another design or program"):
        factorization.QUESTION.run(run[1], tmp_path, resume=True)


def test_the_screen_fits_into_eighty_columns(run, capsys):
    factorization_tables.print_document(run[2])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1] == f"P5 {run[2]['verdicts']['P5']['verdict']}"


def test_no_cells_is_halt():
    verdict = p5_factorization.judge(FactorizationDesign().as_dict(), [])["P5"]
    assert (verdict["verdict"], verdict["reason"]) == ("HALT", "there are no cells")
