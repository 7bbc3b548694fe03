"""Steering: its networks against the registered training, its objectives against differences, its records, its rule and its screen."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from thermokernels.model.hypernetwork import Hypernetwork, couplings
from thermokernels_app.experiment import steering as trainer
from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.records.environment import source_hash
from thermokernels_app.experiment.records.store import MismatchError, plain
from thermokernels_app.experiment.running import steering
from thermokernels_app.experiment.steering_design import Lagrangian, SteeringDesign, load_steering
from thermokernels_app.experiment.teachers import teachers
from thermokernels_app.experiment.training import initial_parameters, train
from thermokernels_app.judges import steering_check
from thermokernels_app.report.screens import steering_tables
from thermokernels_app.selftest import case, steering_rules

SHORT = replace(Design(), training=replace(Design().training, steps=6))
DESIGN = SteeringDesign(
    SHORT, seeds=(0,), sizes=(4,), weights=(0.0, 0.1), lagrangian=Lagrangian(every=2), tail_steps=4, tail_every=2, trace_every=3
)


@pytest.fixture(scope="module")
def record():
    (found,) = trainer.table_records(DESIGN.as_dict(), 7, 4)
    return found


def test_designs():
    assert len(load_steering("steering").seeds) == 100
    assert load_steering("steering", [5, 6]).digest() != load_steering("steering").digest()
    assert load_steering("steering-smoke").base.training.steps == 100


@pytest.mark.small
def test_networks_side_by_side_are_those_of_one_network():
    models = trainer.Models(SHORT, 4, 2)
    phi = np.array([initial_parameters(replace(SHORT, seed=seed), 4, 2) for seed in (0, 1)])
    weights = models.weights(phi)
    cotangents = np.random.default_rng(0).normal(size=weights.shape)
    pulled, now = models.pull_back(phi, cotangents), models.measure(weights, np.array([True, False]))
    for n, parameters in enumerate(phi):
        network, expected = Hypernetwork.from_parameters(parameters, models.shape), 0.0
        for k, unit in enumerate(np.eye(4)):
            np.testing.assert_allclose(weights[n, k], couplings(network, unit), rtol=1e-13, atol=1e-14)
            expected = expected + adjoints.couplings_vjp(network, unit, cotangents[n, k])
            kl, slope = adjoints.kl_divergence(teachers(SHORT, 4)[k].law, weights[n, k])
            assert now.kl[n, k] == pytest.approx(kl, rel=1e-11, abs=0)
            np.testing.assert_allclose(now.ct_kl[n, k], slope, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(pulled[n], expected, rtol=1e-11, atol=1e-12)
    q = tk.q_struct(weights[0, 1], teachers(SHORT, 4)[1].law)
    assert (now.log_q[0, 1], now.signal[0, 1], now.t_obs[0, 1]) == pytest.approx((np.log(q.value), q.signal, q.t_obs), rel=1e-9, abs=0)
    assert np.isnan(now.log_q[1]).all()
    assert not now.ct_log_q[1].any()


def test_slopes_of_the_objective_are_its_differences():
    models, h = trainer.Models(SHORT, 4, 2), 1e-5
    phi = initial_parameters(replace(SHORT, seed=3), 4, 2)[None]
    force = np.array([[0.3, 0.0, 1.0, 2.0]])

    def objective(phi):
        now = models.measure(models.weights(phi), np.ones(1, dtype=bool))
        return float((now.kl - force * now.log_q).mean())

    slope = trainer.slopes(models, phi, models.measure(models.weights(phi), np.ones(1, dtype=bool)), force)
    for direction in np.random.default_rng(1).normal(size=(3, 1, phi.size)):
        difference = (objective(phi + h * direction) - objective(phi - h * direction)) / (2 * h)
        assert float((slope * direction).sum()) == pytest.approx(difference, rel=1e-6, abs=0)


def test_without_steering_it_is_the_registered_training(record):
    free = train(replace(SHORT, seed=7), 4, 2)
    assert record["status"] == "ok"
    assert record["baseline_error"] < 1e-12
    assert record["runs"][0]["kl"] == pytest.approx(free.curve[[4, 6]].mean(axis=0).tolist(), rel=1e-11, abs=0)
    assert [run["kind"] for run in record["runs"]] == ["weight", "weight", "relative-floor", "absolute-floor"]
    for run in record["runs"]:
        assert run["curve"]["step"] == [0, 3, 6]
        assert min(run["curve"]["log_q"]) - 0.1 < np.mean(run["log_q"]) < max(run["curve"]["log_q"]) + 0.1
        assert run["curve"]["kl"][0] == record["runs"][0]["curve"]["kl"][0]
        assert max(run["value_error"], run["gradient_error"]) < 1e-9
        assert np.subtract(run["log_signal"], run["log_t_obs_steps"]) + np.log(400) == pytest.approx(
            np.array(run["log_q"]), rel=1e-10, abs=0
        )
    assert np.mean(record["runs"][1]["log_q"]) > np.mean(record["runs"][0]["log_q"])


def test_a_floor_presses_where_it_is_missed_and_its_multiplier_grows():
    pressures = trainer.Pressures(DESIGN, np.log([2.0, 2.0, 2.0, 2.0]))
    np.testing.assert_allclose(np.exp(pressures.floors[2:]), [[3.0] * 4, [1.0] * 4], rtol=1e-12)
    assert pressures.acting.tolist() == [False, True, True, True]
    log_q = np.log([[1.0] * 4, [1.0] * 4, [3.0, 3.0, 6.0, 1.5], [1.0] * 4])
    now = trainer.Measured(np.ones((4, 4)), np.zeros((4, 4)), log_q, np.full((4, 4), 0.5), np.ones((4, 4)), np.zeros((4, 4)))
    np.testing.assert_allclose(pressures.of(now)[2], [0, 0, 0, 0.5 * np.log(2)], atol=1e-15)
    pressures.update(now)
    np.testing.assert_allclose(pressures.of(now)[2], [0, 0, 0, 2 * 0.5 * np.log(2)], atol=1e-15)
    for _ in range(9):
        pressures.update(now)
    np.testing.assert_allclose(pressures.of(now)[2], [0, 0, 0, 0.5 * (3.0 + np.log(2))], atol=1e-15)
    np.testing.assert_allclose(pressures.of(now)[:2], [[0.0] * 4, [0.1] * 4])


def test_a_training_that_runs_away_is_left_as_it_is():
    design = replace(DESIGN, run_away=0.0)
    (found,) = trainer.table_records(design.as_dict(), 7, 4)
    run = found["runs"][1]
    assert run["ran_away_at"] == 0
    assert run["curve"]["log_q"][0] == run["curve"]["log_q"][-1]


def test_the_judge_sees_a_wrong_slope_and_a_wrong_value():
    models = trainer.Models(SHORT, 4, 2)
    phi = initial_parameters(replace(SHORT, seed=2), 4, 2)[None]
    weights, force = models.weights(phi), np.full((1, 4), 0.1)
    now = models.measure(weights, np.ones(1, dtype=bool))
    slopes, directions = trainer.slopes(models, phi, now, force), np.random.default_rng(0).normal(size=(2, phi.size))
    for scale, off, gradient, value in ((1.0, 0.0, 0.0, 0.0), (1.001, 0.0, 1e-3, 0.0), (1.0, 1e-3, 0.0, 1e-3)):
        wrong = replace(now, log_q=now.log_q + off)
        (found,) = steering_check.check(phi, weights, wrong, force, scale * slopes, models, directions)
        assert found["gradient_error"] == pytest.approx(gradient, rel=1e-3, abs=1e-10)
        assert found["value_error"] == pytest.approx(value, rel=1e-3, abs=1e-10)


@pytest.mark.parametrize("one", steering_rules.cases(SteeringDesign().as_dict()), ids=lambda one: f"{one.gate}: {one.breaks}")
def test_every_gate_bites(one):
    outcome = case.run(one)
    assert outcome.caught, outcome.said


@pytest.fixture(scope="module")
def run(tmp_path_factory, record):
    """A folder with the document of one table that was kept: what is read back, without a pool of workers."""
    folder, design = tmp_path_factory.mktemp("steering"), replace(DESIGN, seeds=(7,))
    identity = {"design_sha256": design.digest(), "sources_sha256": source_hash()}
    (folder / "seed7-m4.json").write_text(json.dumps({**identity, "cells": [plain(record)]}))
    return folder, design, steering.QUESTION.run(design, folder, resume=True)


def test_a_complete_run_is_read_back_and_an_altered_one_refused(run, tmp_path):
    folder, design, document = run
    assert sorted(path.name for path in folder.iterdir()) == ["steering.json"]
    assert steering.QUESTION.read(folder) == steering.QUESTION.run(design, folder, resume=True) == document
    assert document["verdicts"]["P6"]["verdict"] in ("PASS", "FAIL")
    altered = copy.deepcopy(document)
    altered["cells"][0]["runs"][1]["log_q"][0] += 1.0
    (tmp_path / "steering.json").write_text(json.dumps(altered))
    with pytest.raises(MismatchError, match="was changed after the run"):
        steering.QUESTION.read(tmp_path)


def test_an_unfinished_run_shows_what_it_has(record, tmp_path, monkeypatch, capsys):
    """One table of two is kept, and then the run is interrupted."""
    folder, design = tmp_path / "run", replace(DESIGN, seeds=(7, 8))
    identity = {"design_sha256": design.digest(), "sources_sha256": source_hash()}
    folder.mkdir()
    (folder / "seed7-m4.json").write_text(json.dumps({**identity, "cells": [plain(record)]}))

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(steering.QUESTION, "_compute", interrupted)
        with pytest.raises(KeyboardInterrupt):
            steering.QUESTION.run(design, folder, resume=True)
    assert steering.QUESTION.holds(folder)
    document = steering.QUESTION.read(folder)
    assert (document["design_sha256"], len(document["cells"])) == (design.digest(), 1)
    assert steering.QUESTION.exit_code(document) == 11
    steering_tables.print_document(document)
    printed = capsys.readouterr().out
    assert "1 tables, so far, of a run that is not finished" in printed
    assert "seed 8, m=4: no record" in printed
    assert "seed tables that meet it with some lambda: 0 of 1 at m = 4" in printed
    assert printed.splitlines()[-1] == "P6 HALT"
    begun = json.loads((folder / "design.json").read_text())
    begun["design"]["gain"] = 0.1
    (folder / "design.json").write_text(json.dumps(begun))
    with pytest.raises(MismatchError, match="its design does not match design_sha256"):
        steering.QUESTION.read(folder)


def test_a_folder_of_something_else_is_no_place_to_go_on(run, tmp_path):
    folder, design, _ = run
    (tmp_path / "factorization.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds factorization.json, which is of no run of this design; use another folder"):
        steering.QUESTION.run(design, tmp_path, resume=True)
    (tmp_path / "factorization.json").rename(tmp_path / "design.json")
    with pytest.raises(ValueError, match="holds an unfinished run of another design; use another folder"):
        steering.QUESTION.run(design, tmp_path, resume=True)
    with pytest.raises(ValueError, match="is not empty; a run is never overwritten"):
        steering.QUESTION.run(design, folder)


def test_the_screen_fits_into_eighty_columns(run, capsys):
    steering_tables.print_document(run[2])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 90
    assert lines[-1] == f"P6 {run[2]['verdicts']['P6']['verdict']}"


def test_tables_that_meet_the_bar_are_those_of_the_verdict(run):
    document = copy.deepcopy(run[2])
    for gain in (0.0, 1.0):
        for cell in document["cells"]:  # with lambda = 0.1 alone, at the same KL
            free, steered = cell["runs"][:2]
            steered["kl"], steered["log_q"] = free["kl"], [value + gain for value in free["log_q"]]
        verdict = steering.QUESTION.judge(document["design"], document["cells"])["P6"]
        assert steering.tables_that_meet(document) == {4: (verdict["criteria"][0]["observed"], 1)}
        assert verdict["criteria"][0]["observed"] == (gain > 0)


def test_the_summary_adds_up(run):
    rows = steering.summary(run[2])
    assert [row["number"] for row in rows] == [0.0, 0.1, 1.5, 1.0]
    assert (rows[0]["gain"], rows[0]["kl_ratio"], rows[0]["met"]) == (0.0, 1.0, 0)
    for row in rows:
        assert row["gain"] == pytest.approx(row["gain_of_signal"] + row["gain_of_time"], abs=1e-9)


@pytest.mark.report
def test_the_picture_shows_every_objective(run):
    pytest.importorskip("matplotlib", reason="needs the extra `report`")
    from thermokernels_app.report import pictures

    figure = pictures.of_steering(run[2]).draw(True)
    assert len(figure.axes) == 2
    assert len(figure.axes[0].collections) == 3
    assert len(figure.legends[0].get_texts()) == 3
