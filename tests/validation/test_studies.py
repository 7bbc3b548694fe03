"""The studies of ``validation/`` in small: what they compute, against definitions and closed forms."""

import math
import re
from dataclasses import replace

import numpy as np
import penalty
import pytest
import scaling
import sensitivity

import adjoints
import thermokernels as tk
from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.training import train


@pytest.mark.report
def test_scaling(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the extra `report`")
    monkeypatch.setattr(scaling, "ONE_PATTERN", {1.2: (8,)})
    monkeypatch.setattr(scaling, "SIZES", {1.0: (8, 12), 3.0: (12, 16)})
    monkeypatch.setattr("sys.argv", ["scaling.py", "--pictures", str(tmp_path), "--keep", str(tmp_path / "rows")])
    assert scaling.main() == 0
    printed = capsys.readouterr().out
    monkeypatch.setattr(scaling, "measure", None)  # every row is kept
    assert scaling.main() == 0
    assert capsys.readouterr().out == printed
    assert len(re.findall(r"^ +[12] .* s$", printed, re.MULTILINE)) == 5
    assert "beta 3, N = 16: passage over twice 1/gap" in printed
    assert (tmp_path / "scaling.svg").stat().st_size > 1000


def test_rows_of_scaling_are_those_of_the_full_chain():
    row = scaling.measure(8, 1.5, 2)
    chain, warmer = (tk.gibbs_chain(scaling.couplings(8, beta, 2)) for beta in (1.5, 1.65))
    law = tk.visible_law(warmer.weights)
    q = tk.q_struct(chain.weights, law)
    assert (row.t_obs * 8, row.signal, row.q_struct) == pytest.approx((q.t_obs, q.signal, q.value), rel=1e-8, abs=0)
    assert row.q_op == pytest.approx(tk.operational_q(chain, law, 100).value, rel=1e-7, abs=0)
    steps = round(row.window_of_one * 8)
    assert q.signal / tk.window_variance(tk.spectral_measure(chain), steps) == pytest.approx(1.0, rel=1e-3, abs=0)
    assert row.relaxation == pytest.approx(1 / (8 * tk.spectral_measure(chain).relevant_gap), rel=1e-8, abs=0)
    assert row.a6 == pytest.approx(100 * 8 / tk.diagnose(chain.weights).tau_observable.value, rel=1e-7, abs=0)


def test_the_barrier_of_mean_field_theory():
    assert scaling.barrier(0.9) == scaling.barrier(1.0) == 0.0
    assert scaling.barrier(40.0) == pytest.approx((40 - 2 * math.log(2)) / 4, rel=1e-12, abs=0)
    assert 0 < scaling.barrier(1.01) < 1e-4


def test_the_rule_of_the_penalty():
    threshold = penalty.THRESHOLD
    assert penalty.adapted(1.0, 0.0, 0.0) == 0.6
    assert penalty.adapted(1.0, 0.5 * threshold, 0.0) == pytest.approx(0.7)
    assert penalty.adapted(1.0, 1.2 * threshold, threshold) == 1.2
    assert penalty.adapted(1.0, 1.8 * threshold, threshold) == 1.5
    assert penalty.adapted(1.0, 1.2 * threshold, 1.3 * threshold) == 0.95
    assert penalty.adapted(1e-4, 0.0, 0.0) == penalty.LEAST


def test_what_the_penalty_looks_at():
    W = np.random.default_rng(0).normal(size=(3, 2))
    chain = tk.gibbs_chain(W, quotient=False)
    spins = chain.spins().astype(float)
    np.testing.assert_allclose(penalty.correlations(W), np.einsum("x,xi,xj->ij", chain.law, spins[:, :3], spins[:, 3:]), atol=1e-14)
    law = np.random.default_rng(1).dirichlet(np.ones(8))
    data = np.einsum("v,vi,vj->ij", law, tk.gibbs_chain(W).block_spins[1], np.tanh(tk.gibbs_chain(W).block_spins[1] @ W))
    np.testing.assert_allclose(adjoints.kl_divergence(law, W)[1], penalty.correlations(W) - data, atol=1e-13)
    matrix, x = np.linalg.matrix_power(chain.transition_matrix(), 3 * chain.n_spins), spins
    products = (x[:, :3, None] * x[:, None, 3:]).reshape(len(x), -1)
    centred = products - chain.law @ products
    of_spins, of_products = penalty.autocorrelations(W, 3)
    assert of_spins == pytest.approx(float((chain.law @ (x * (matrix @ x))).mean()), rel=1e-10, abs=0)
    assert of_products == pytest.approx(
        float((chain.law @ (centred * (matrix @ centred))).sum() / (chain.law @ centred**2).sum()), rel=1e-9, abs=0
    )
    slope = penalty.slow_time(W)[1]
    h, direction = 1e-5, np.random.default_rng(2).normal(size=W.shape)
    difference = (penalty.slow_time(W + h * direction)[0] - penalty.slow_time(W - h * direction)[0]) / (2 * h)
    assert float((slope * direction).sum()) == pytest.approx(difference, rel=1e-6, abs=0)


def test_trainings_of_the_penalty(capsys, monkeypatch):
    monkeypatch.setattr(penalty, "WEIGHTS", (0.1,))
    monkeypatch.setattr(penalty, "PENALTIES", (0.1,))
    monkeypatch.setattr("sys.argv", ["penalty.py", "--seeds", "1", "--steps", "40"])
    assert penalty.main() == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("seed 2000")]
    assert len(lines) == 5
    assert float(lines[1].split()[-1]) > float(lines[0].split()[-1])  # lambda 0.1 above free


def test_costs_are_interpolated_and_not_extrapolated():
    curve = [penalty.Trained(0.1, math.log(2.0)), penalty.Trained(0.001, math.log(0.5))]
    assert penalty.cost_at(curve, 1.0) == pytest.approx(0.01)
    assert penalty.cost_at(curve, 3.0) is None


def test_sensitivity_of_the_figures_to_one_constant():
    small = replace(Design(), grid=replace(Design().grid, m=(4,), split=(2,)), training=replace(Design().training, steps=30))
    found = sensitivity.figures(small)
    assert sensitivity.figures(sensitivity.changed(small, {"network": {}})) == found
    training = train(small, 4, 2)
    network = training.network("init")
    z = np.tanh(network.C[:, 0] + network.c0)
    jacobian = adjoints.couplings_jacobian(network, np.eye(4)[0])
    assert found.least_jacobian <= np.linalg.norm(jacobian)
    assert found.largest_kl == pytest.approx(training.curve[-1].max(), rel=1e-12, abs=0)
    assert 0 <= found.small_cells <= 16
    half = sensitivity.changed(small, {"network": {"variance_layer": 0.0625}})
    halved = np.arctanh(np.tanh(train(half, 4, 2).network("init").C[:, 0]))
    np.testing.assert_allclose(halved, 0.5 * np.arctanh(z), rtol=1e-9)


def test_what_lies_within_reach():
    found = [sensitivity.Figures(1.0, 3.0, 2.0, 0.0), sensitivity.Figures(2.0, 5.0, 3.0, 4.0)]
    assert [row[3] for row in sensitivity.reach(found)] == [True, False, True, True]
    assert sensitivity.reach(found)[1][:3] == (3.0, 4.0, 5.0)
