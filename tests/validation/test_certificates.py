"""Every bound that is given holds, and says something: a sample of the models of validation/certificates.py, and its oracle by itself."""

import numpy as np
import pytest

from thermokernels.model import extended

mp = pytest.importorskip("mpmath", reason="mpmath is not installed: pip install mpmath")

import certificates  # noqa: E402
from certified import ledger as ledgers  # noqa: E402
from certified.exact import Exact  # noqa: E402


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(60):
        yield


@pytest.mark.long
@pytest.mark.parametrize(("kernel", "models"), [(kernel, 24 if kernel == "single-site" else 4) for kernel in certificates.KERNELS])
def test_every_bound_holds_and_next_to_nothing_is_refused(kernel, models):
    ledger = ledgers.Ledger()
    for case in range(models):
        certificates.examine(ledger, case, kernel)
    assert not ledger.violations, ledger.violations[:10]
    assert ledger.ratios
    for name in ("Q, auto", "MFPT, auto", "gap", "gradient, auto", "T_O bound, auto"):
        assert ledger.refused[name] <= max(1, 0.02 * models), ledger.refused
    if kernel == "single-site" and extended.AVAILABLE:
        medians = ledger.medians(True)
        # ten digits are claimed of a window, which has many more, and all that is known of a signal without a digit is that it is small
        loose = {name for name, median in medians.items() if median > 1e4}
        assert loose <= {"operational Q", "Q without a digit", "dQ without a digit", "signal without a digit"}
        for name in ("T_O, auto", "Q, auto", "MFPT, auto", "gap, eigenvalues", "dT_O, auto", "dQ, auto", "dT_O, reduction"):
            assert medians[name] <= 100, medians


def test_a_bound_that_is_broken_is_seen(capsys):
    ledger = ledgers.Ledger()
    ledger.enter("T_O, auto", 1.0, mp.mpf("1.001"), 1e-4, 0)
    ledgers.report("single-site", ledger, 1)
    assert "1 bounds violated" in capsys.readouterr().out


def test_the_exact_gradient_is_that_of_the_exact_value():
    W, p_data = np.array([[2.0, -0.7], [0.4, 3.1]]), [0.1, 0.2, 0.3, 0.4]
    mp.mp.dps = 80
    step = mp.mpf(10) ** -30
    gradients = [Exact(W, None, None).variance_time_gradient(), Exact(W, None, None).signal(p_data)[1]]
    for i, j in np.ndindex(W.shape):
        ends = []
        for sign in (1, -1):
            moved = [[mp.mpf(w) for w in row] for row in W]
            moved[i][j] += sign * step
            ends.append((Exact(moved, None, None).variance_time(), Exact(moved, None, None).signal(p_data)[0]))
        for k in range(2):
            assert abs((ends[0][k] - ends[1][k]) / (2 * step) / gradients[k][i][j] - 1) < mp.mpf(10) ** -40
