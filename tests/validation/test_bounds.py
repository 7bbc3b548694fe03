"""Every bound that is given holds, and says something: a sample of the models of validation/bounds.py, and the oracle against itself."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.quantities import landscape

mp = pytest.importorskip("mpmath", reason="mpmath is not installed: pip install mpmath")

import bounds  # noqa: E402
from exact_models import Exact, couplings, exactly  # noqa: E402

MODELS = 60

pytestmark = pytest.mark.xdist_group("bounds")


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(60):
        yield


@pytest.fixture(scope="module")
def ledger():
    return bounds.examined(0, MODELS)


def test_every_bound_holds(ledger):
    assert not ledger.violations, ledger.violations[:10]


def test_no_bound_is_vacuous_and_next_to_nothing_is_refused(ledger):
    rows = bounds.rows_of(ledger, MODELS)
    assert [row for row in rows if row.holds is not True] == []
    named = {row.of for row in rows}
    assert named >= {"T_O, auto", "Q, auto", "dT_O, auto", "dQ, auto", "MFPT, auto", "signal", "gap, reduction", "gap, eigenvalues"}


def test_a_bound_that_is_broken_or_says_nothing_fails(ledger):
    broken = bounds.Ledger()
    broken.enter("T_O, auto", 1.0, mp.mpf("1.001"), 1e-4, 0)
    broken.enter("Q, auto", 1.0, mp.mpf(1) + mp.mpf(10) ** -12, 1.0, 0)
    assert [(row.of, row.holds) for row in bounds.rows_of(broken, 1)] == [("Q, auto", False), ("T_O, auto", False)]


def test_the_exact_gradient_is_that_of_the_exact_value():
    W, p_data = np.array([[2.0, -0.7], [0.4, 3.1]]), [0.1, 0.2, 0.3, 0.4]
    mp.mp.dps = 80
    step = mp.mpf(10) ** -30
    gradients = [Exact(W, None, None).variance_time()[1], Exact(W, None, None).signal(p_data)[1]]
    for i, j in np.ndindex(W.shape):
        ends = []
        for sign in (1, -1):
            moved = [[mp.mpf(w) for w in row] for row in W]
            moved[i][j] += sign * step
            ends.append((Exact(moved, None, None).variance_time()[0], Exact(moved, None, None).signal(p_data)[0]))
        for k in range(2):
            assert abs((ends[0][k] - ends[1][k]) / (2 * step) / gradients[k][i][j] - 1) < mp.mpf(10) ** -40


def test_barriers_move_no_more_than_energies():
    for case in range(50):
        W, b, c = couplings(np.random.default_rng([3, case]))
        chain, model = tk.gibbs_chain(W, b, c), exactly(W, b, c)
        logs = [-mp.log(p) for p in model.law]
        tree = landscape.merge_tree(chain)
        for event in tree.events:
            lowest = min(e for e, inside in zip(logs, event.dying, strict=True) if inside)
            saddle = exact_saddle(model, logs, event.dying, event.surviving)
            assert abs(event.barrier - (saddle - lowest)) <= tree.barrier_error


def exact_saddle(model, energies, start, target):
    """The least level at which a path leads from one set to the other."""
    for level in sorted(energies):
        reached, frontier = set(), [x for x in range(model.size) if start[x] and energies[x] <= level]
        while frontier:
            x = frontier.pop()
            if x not in reached:
                reached.add(x)
                frontier += [y for y in model.neighbours[x] if energies[y] <= level]
        if any(target[x] for x in reached):
            return level
    raise AssertionError("the graph is connected")
