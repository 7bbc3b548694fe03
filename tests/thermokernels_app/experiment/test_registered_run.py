"""The registered design itself, end to end: what the README says of it holds in every cell and at every checkpoint."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from thermokernels_app.experiment.design import load_design
from thermokernels_app.experiment.running import runner
from thermokernels_app.experiment.teachers import teacher
from thermokernels_app.judges import reference

DESIGN = load_design("default")

pytestmark = [pytest.mark.xdist_group("registered run"), pytest.mark.long]


@pytest.fixture(scope="module")
def result():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        return runner.run(DESIGN, executor=pool)


def test_every_cell_is_there_and_sound(result):
    cells = result.document["cells"]
    assert (result.document["status"], len(cells), len(result.document["checkpoints"])) == ("complete", 192, 48)
    assert {cell["status"] for cell in cells} == {"ok"}
    assert set(result.verdicts.values()) <= {"PASS", "FAIL"}
    assert sum("dq_dphi" in name for name in result.arrays) == 192


def test_value_and_adjoint_at_all_checkpoints(result):
    for record in result.document["checkpoints"]:
        check = record["gradient_check"]
        assert check["value_error"] <= 1e-10
        assert max(row["complex_error"] for row in check["directions"]) <= 1e-10
        if check["value_reference"] == "frozen":
            assert check["solution_residual"] <= 1e-10


@pytest.mark.parametrize("m", [4, 5])
def test_the_value_agrees_with_the_dense_reference_in_all_cells_with_ten_spins_or_fewer(result, m):
    for cell in result.document["cells"]:
        if cell["m"] == m:
            check_value(result, cell)


def test_the_value_agrees_with_the_dense_reference_at_twelve_spins_in_the_row_of_the_anchor(result):
    row = (6, DESIGN.anchor.split, DESIGN.anchor.checkpoint)
    for cell in result.document["cells"]:
        if (cell["m"], cell["split"], cell["checkpoint"]) == row:
            check_value(result, cell)


def check_value(result, cell):
    weights = result.arrays[f"m{cell['m']}/s{cell['split']}/{cell['checkpoint']}/code{cell['code']}/W"]
    law = teacher(DESIGN, cell["m"], cell["code"]).law
    dense, _ = reference.derivatives(weights, law, np.empty((0, *weights.shape)))
    assert cell["q"]["value"] == pytest.approx(dense.value, rel=1e-10, abs=0)
    assert cell["q"]["t_obs_steps"] == pytest.approx(dense.t_obs, rel=1e-10, abs=0)
    assert abs(cell["q"]["t_obs_steps"] - dense.t_obs) <= cell["q"]["t_obs_bound_steps"] + 1e-12 * dense.t_obs


def test_gamma_eff_says_how_far_it_is_resolved(result):
    for cell in result.document["cells"]:
        spectrum = cell["spectrum"]
        assert spectrum["gamma_eff_error"] <= (1e-8 if cell["m"] <= 5 else 1e-6)
        assert (spectrum["cluster_size"] or 1) < 2 ** (2 * cell["m"] - 1)
        assert spectrum["cluster_size"] is not None or cell["m"] == 6
