"""The examples run as they stand, and what they print is what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?")


def output_of(name, folder, *arguments):
    result = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *arguments], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if result.returncode:
        pytest.fail(f"{name} exited with {result.returncode}\n{result.stdout}\n{result.stderr}", pytrace=False)
    assert not list(folder.iterdir())
    return result.stdout.splitlines()


def numbers(line):
    return [float(number) for number in NUMBER.findall(line)]


def test_annealing_finds_the_ground_state_the_slower_it_is(tmp_path):
    rows = [numbers(line) for line in output_of("embed_in_numba.py", tmp_path)[1:]]
    found = [row[1] for row in rows]
    assert found == sorted(found)
    assert found[-1] > 0.8
    assert all(probability <= equilibrium for _, probability, equilibrium in rows)


def test_a_longer_window_trains_closer_to_the_data(tmp_path):
    rows = [line.split() for line in output_of("floor_scipy.py", tmp_path)[1:]]
    with_floor, without = [row for row in rows if row[1] == "1"], [row for row in rows if row[1] == "none"]
    assert [row[0] for row in with_floor] == ["10", "100", "1000"]
    divergences = [float(row[2]) for row in with_floor]
    assert divergences == sorted(divergences, reverse=True)
    assert all(float(row[3]) == pytest.approx(1.0, abs=2e-3) for row in with_floor)
    assert all(float(row[5].rstrip("%")) > 80 for row in with_floor)  # sampled gradients point downhill
    assert all(float(row[3]) < 1e-3 and float(row[5].rstrip("%")) < 60 for row in without)  # and there they point anywhere


@pytest.mark.bridges
def test_a_sampled_step_learns_above_the_floor_and_stalls_without(tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed: pip install '.[jax]'")
    rows = [line.split() for line in output_of("floor_jax.py", tmp_path)[1:]]
    assert [row[0] for row in rows] == ["none", "0.1", "1"]
    assert [float(row[2]) for row in rows] == [pytest.approx(0.0, abs=0.01), pytest.approx(0.1, rel=0.05), pytest.approx(1.0, rel=0.05)]
    changes = [float(row[4].rstrip("%")) for row in rows]
    assert changes[0] > 0 > changes[1] > changes[2]


@pytest.mark.bridges
def test_a_grid_of_hardware_has_the_q_that_its_own_schedule_shows(tmp_path):
    """The exact noise of a window against that of 2,000 windows of thrml, within four standard errors."""
    pytest.importorskip("thrml", reason="thrml is not installed: pip install '.[bridges]'")
    head, _, window, simulated = output_of("hardware_grid.py", tmp_path)
    assert head.startswith("Model(8 visible + 8 hidden spins, 24 of 64 couplings")
    exact, (found, error) = numbers(window)[0], numbers(simulated)[:2]
    assert abs(found - exact) < 4 * error < 0.1 * exact


@pytest.mark.bridges
def test_training_on_samples_keeps_its_floor_in_torch(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    rows = [line.split() for line in output_of("floor_torch.py", tmp_path, "200")[2:]]
    assert [row[0] for row in rows] == ["none", "0.1", "1.0"]
    assert [row[3] for row in rows][1:] == ["0.0%", "0.0%"]
    times = [float(row[4]) for row in rows]
    assert times == sorted(times, reverse=True)
    assert float(rows[1][1]) < float(rows[0][1])


@pytest.mark.long
@pytest.mark.bridges
def test_a_training_is_caught_losing_its_gradient_and_mended(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install '.[bridges]'")
    lines = output_of("digits_training.py", tmp_path, "12")
    rows = [numbers(line) for line in lines[2:-2]]
    assert [row[0] for row in rows] == [10, 11, 12]
    assert rows[0][1] > 10 > 1 > rows[1][1]  # Q as it comes
    assert all(low <= q <= high for _, q, low, high, *_ in rows)
    assert min(row[6] for row in rows) >= 1  # with the floor
    assert sum(row[7] for row in rows) >= 1
    trusted, of = numbers(lines[-2])
    assert of == 3 + 3 + sum(row[7] for row in rows)  # as it comes, with the floor, and after each push
    assert trusted == of


@pytest.mark.long
def test_training_on_samples_keeps_its_floor_in_compiled_code(tmp_path):
    rows = [line.split() for line in output_of("floor_numba.py", tmp_path, "100")[2:]]
    assert [row[0] for row in rows] == ["none", "0.1", "1.0"]
    assert rows[0][3] == "-"
    assert all(float(row[3]) >= float(row[0]) for row in rows[1:])
    assert float(rows[1][1]) < float(rows[0][1])


@pytest.mark.bridges
def test_a_stuck_chain_looks_healthy(tmp_path):
    pytest.importorskip("emcee", reason="emcee is not installed: pip install '.[compare]'")
    pytest.importorskip("arviz_stats", reason="ArviZ is not installed: pip install '.[compare]'")
    rows = [line.split() for line in output_of("stuck_chain.py", tmp_path, "5000")[2:]]
    exact = [float(row[1]) for row in rows]
    assert exact == sorted(exact)
    coldest = rows[-1]
    assert coldest[5] == "yes"
    assert all(float(estimate) < 1e-5 * exact[-1] for estimate in coldest[2:4])
    assert float(coldest[6]) > 1.01
    assert all(float(estimate) == pytest.approx(exact[0], rel=0.2) for estimate in rows[0][2:4])


def test_a_model_of_ones_own_is_diagnosed(tmp_path):
    lines = output_of("own_model.py", tmp_path)
    gaps = [numbers(line)[-1] for line in lines if line.startswith("gap")]
    assert gaps == sorted(gaps)
    assert gaps[0] < 0.1 * gaps[1]  # the mode that turns x into -x is the slowest, and no observable sees it
    basins = [numbers(line) for line in lines[lines.index("") + 2 :]]
    assert len(basins) == 2
    for _, barrier, mass, relevance, out, back, cut in basins:
        assert barrier > 0
        assert 0 < mass < 0.5
        assert 0 <= relevance <= 1
        assert out < back
        assert gaps[1] <= cut


def test_the_grid_runs_in_an_executor_of_ones_own(tmp_path):
    lines = output_of("own_executor.py", tmp_path)
    assert lines[0].startswith("16 cells")
    assert [line.split()[0] for line in lines[1:5]] == ["P1", "P2", "P3", "P4"]
    assert all(line.split()[1] in ("PASS", "FAIL") for line in lines[1:5])
    assert len(lines) == 6 + 8
