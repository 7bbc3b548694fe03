"""State reduction of small chains in long double: right to its bound, nearer to the truth than in float64, and left for larger ones."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.model import extended
from thermokernels.quantities import first_passage
from thermokernels.solvers.state_reduction import gth_elimination, reduced_gap
from thermokernels.solvers.state_reduction.gth_elimination import eliminate

mp = pytest.importorskip("mpmath", reason="mpmath is not installed: pip install mpmath")

pytestmark = pytest.mark.skipif(not extended.AVAILABLE, reason="long double is float64 here")

KERNELS = ["single-site", "two-block", "symmetrised-alternating", "alternating-visible", "alternating-hidden"]
WIDE = KERNELS[1:]  # whose rates are put together by kernels of their own: without compilation too


def one_target(chain):
    return np.arange(chain.n_states) == chain.energy.argmin()


@pytest.mark.parametrize("kernel", [pytest.param(name, marks=pytest.mark.small if name in WIDE else ()) for name in KERNELS])
def test_a_tenth_of_the_bound_for_the_same_times(kernel, monkeypatch):
    chain = tk.gibbs_chain(4 * np.random.default_rng(1).uniform(-1, 1, size=(3, 3)), kernel=kernel)
    found = first_passage.solve_hitting_times(chain, one_target(chain), "reduction")
    monkeypatch.setattr(gth_elimination, "MAX_EXTENDED_STATES", chain.n_states - 1)
    plain = first_passage.solve_hitting_times(chain, one_target(chain), "reduction")
    assert found.relative_bound < 0.3 * plain.relative_bound
    assert np.all(np.abs(found.times - plain.times) <= found.bound + plain.bound)
    assert not np.array_equal(found.times, plain.times)


@pytest.mark.parametrize("coupling", [1.5, 17.0, 60.0, 300.0])
def test_the_rarest_state_of_one_coupling(coupling):
    """Both resamplings leave the rare state with the same probability: 1 + e^(2 w) steps, whatever that is, and half as often."""
    chain = tk.gibbs_chain([[coupling]], kernel="two-block")
    found = first_passage.solve_hitting_times(chain, [int(chain.energy.argmax())], "reduction")
    with mp.workdps(400):
        exact = 1 + mp.exp(2 * mp.mpf(coupling))
        assert abs(mp.mpf(found.times[chain.energy.argmin()]) / exact - 1) <= found.relative_bound < 1e-14


@pytest.mark.small
@pytest.mark.parametrize("strong", [1.5, 17.0, 400.0])
@pytest.mark.parametrize("most", [1, gth_elimination.MAX_EXTENDED_STATES])
def test_two_spins_that_one_couples(strong, most, monkeypatch):
    """Of the visible layer: v' is drawn given h, so that its spins differ with one probability whatever h was."""
    monkeypatch.setattr(gth_elimination, "MAX_EXTENDED_STATES", most)
    weak = 0.75 * strong
    chain = tk.gibbs_chain([[strong], [weak]], kernel="alternating-visible")
    found = first_passage.solve_hitting_times(chain, [int(chain.energy.argmax())], "reduction")
    with mp.workdps(400):
        up = [1 / (1 + mp.exp(-2 * mp.mpf(w))) for w in (strong, weak)]
        exact = 1 / (up[0] * (1 - up[1]) + (1 - up[0]) * up[1])
        assert abs(mp.mpf(found.times[chain.energy.argmin()]) / exact - 1) <= found.relative_bound < 1e-13


def test_pivots_and_shares_are_rounded_once():
    """Against elimination in mpmath, of the rates from the definitions: factors right to a rounding, which the count of it rests on."""
    w = 3.7
    chain = tk.gibbs_chain([[w], [-0.4]], kernel="two-block")
    with mp.workdps(60):
        spins = [[1 - 2 * (x >> i & 1) for i in range(3)] for x in range(8)]
        weights = [mp.exp((mp.mpf(w) * s[0] + mp.mpf(-0.4) * s[1]) * s[2]) for s in spins]

        def rate(x, y):
            total = mp.mpf(0)
            for fixed in (0b011, 0b100):
                if not (x ^ y) & fixed:
                    total += weights[y] / mp.fsum(p for z, p in enumerate(weights) if not (x ^ z) & fixed) / 2
            return total

        elimination = eliminate(chain, one_target(chain))
        order = [*elimination.states.tolist(), *np.flatnonzero(one_target(chain)).tolist()]
        rates = [[rate(x, y) + rate(x, 7 - y) for y in order] for x in order]
        m = elimination.states.size
        for k in range(m):
            pivot = mp.fsum(rates[k][k + 1 :])
            assert abs(mp.mpf(float(elimination.pivots.mantissa[k])) / pivot - 1) <= mp.mpf(2) ** -52
            for i in range(k + 1, m + 1):
                rates[i][k] /= pivot
                for j in range(k + 1, m + 1):
                    rates[i][j] += rates[i][k] * rates[k][j]
        for i in range(m):
            for j in range(m + 1):
                if i != j:
                    assert abs(mp.mpf(float(elimination.rates.mantissa[i, j])) / rates[i][j] - 1) <= mp.mpf(2) ** -52


def test_the_gap_has_a_bound_of_its_own(monkeypatch):
    chain = tk.gibbs_chain(np.diag([14.0, 15.0]), kernel="two-block")
    value, relative = reduced_gap.reduced_gap(chain)
    monkeypatch.setattr(gth_elimination, "MAX_EXTENDED_STATES", 0)
    plain, wider = reduced_gap.reduced_gap(chain)
    assert relative < 0.7 * wider
    assert abs(value / plain - 1) <= relative + wider


def test_more_states_and_wider_ranges_take_float64(monkeypatch):
    def refuse(*_):
        raise AssertionError("this is eliminated in long double")

    monkeypatch.setattr(gth_elimination, "_eliminate_extended", refuse)
    for chain in (tk.gibbs_chain(np.full((2, 7), 0.3)), tk.gibbs_chain([[600.0]])):
        assert np.isfinite(eliminate(chain, one_target(chain)).precision)
    with pytest.raises(AssertionError, match="in long double"):
        eliminate(tk.gibbs_chain(np.full((2, 6), 0.3)), np.arange(128) == 0)
