"""The examples run as they stand, and what they print is what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?")


def output_of(name, folder):
    result = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL
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
    rows = [numbers(line) for line in output_of("q_gradient_scipy.py", tmp_path)[1:]]
    divergences = [row[1] for row in rows]
    assert len(rows) == 4
    assert divergences == sorted(divergences, reverse=True)
    assert all(row[2] == pytest.approx(1.0, abs=2e-3) for row in rows)


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
