"""Every check of the battery passes on a sound chain and can be tripped by a broken one."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels_app.judges import battery

RNG = np.random.default_rng(11)
W = RNG.standard_normal((3, 2))


class Leaky(GibbsChain):
    """A step that loses a little of every row."""

    def apply(self, functions):
        return super().apply(functions) * (1.0 - 1e-9)


class Restless(GibbsChain):
    """Rows still sum to one, but a little law moves from state to state: a step of another chain."""

    def apply(self, functions):
        image = super().apply(functions)
        return image + 1e-9 * (image[::-1] - image)


def examine(chain, **options):
    return battery.examine(chain, **{"solver_residual": 1e-13} | options)


def failed(result):
    return {check.name for check in result.checks if not check.met}


@pytest.mark.parametrize("kernel", ["single-site", "two-block"])
@pytest.mark.parametrize("quotient", [None, False])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (2, 4)])
def test_sound_chains_pass(kernel, quotient, shape):
    chain = gibbs_chain(2.0 * np.random.default_rng(5).standard_normal(shape), kernel=kernel, quotient=quotient)
    result = examine(chain, hitting_residuals=[1e-12, 1e-11])
    assert result.first_failure is None
    assert max(result.record[key] for key in ("reversibility", "row_sum", "stationarity", "agreement")) < 1e-13
    assert result.record["hitting_residual"] == 1e-11
    assert result.record["hitting_solves"] == 2
    assert result.record["cheeger_margin"] is None
    assert result.record["cheeger_margin_reason"] == "no cuts"
    json.dumps(result.record, allow_nan=False)


def test_a_chain_with_fields_passes_on_the_full_chain_and_says_why():
    chain = gibbs_chain(W, b=[0.3, 0.0, 0.0])
    result = examine(chain)
    assert result.first_failure is None
    assert result.record["fallback"] == chain.fallback
    assert result.record["symmetry_law"] > 1e-3


def test_the_alternating_scan_violates_reversibility_and_nothing_else():
    for quotient in (None, False):
        result = examine(gibbs_chain(W, kernel="alternating", quotient=quotient))
        assert failed(result) == {"reversibility"}
        assert result.first_failure.name == "reversibility"
        assert str(result.first_failure).endswith("and must be <= 1e-10")


def test_reversibility_is_the_residual_of_the_dense_matrix():
    for kernel in ("single-site", "alternating"):
        chain = gibbs_chain(W, kernel=kernel)
        flux = chain.law[:, None] * chain.transition_matrix()
        assert examine(chain).record["reversibility"] == pytest.approx(np.abs(flux - flux.T).max(), abs=1e-16)


def test_fields_forced_on_the_quotient_violate_the_symmetries():
    forced = replace(gibbs_chain(W), model=tk.Model(W, b=[0.3, 0.0, 0.0]))
    assert failed(examine(forced)) >= {"symmetry_law", "symmetry_kernel", "agreement"}


def test_observables_that_are_not_even_are_seen(monkeypatch):
    monkeypatch.setattr(battery, "_observable_asymmetry", lambda n_visible, n_hidden: 2.0)
    assert failed(examine(gibbs_chain(W))) == {"symmetry_observables"}
    assert failed(examine(gibbs_chain(W, quotient=False))) == set()


@pytest.mark.parametrize(("spoilt", "names"), [(Leaky, {"row_sum"}), (Restless, set())])
def test_a_spoilt_step_is_seen(spoilt, names):
    sound = gibbs_chain(W)
    chain = spoilt(**{field: getattr(sound, field) for field in sound.__dataclass_fields__})
    assert failed(examine(chain)) == names | {"stationarity", "agreement"}


def test_a_kernel_of_other_couplings_is_seen():
    chain = gibbs_chain(W)
    assert failed(examine(replace(chain, model=tk.Model(W + 1e-6)))) == {"agreement"}
    assert "agreement" in failed(examine(replace(chain, law=chain.law[::-1].copy())))
    assert "agreement" in failed(examine(replace(chain, kernel="two-block", visible_flips=0.5 * chain.visible_flips)))


def test_residuals_are_gated_and_nan_meets_nothing():
    chain = gibbs_chain(W)
    assert failed(examine(chain, solver_residual=1e-9)) == {"solver_residual"}
    assert failed(examine(chain, solver_residual=math.nan)) == {"solver_residual"}
    result = examine(chain, hitting_residuals=[1e-12, math.nan])
    assert failed(result) == {"hitting_residual"}
    assert result.record["hitting_residual"] is None
    assert "nan" in result.record["hitting_residual_reason"]
    assert failed(examine(chain, solver_residual=1e-9, thresholds={"solve": 1e-8, "mass": 0.004})) == set()


def test_cheeger_and_the_conductances_themselves():
    chain = gibbs_chain(W)
    p = chain.transition_matrix()
    symmetrised = np.sqrt(chain.law)[:, None] * p / np.sqrt(chain.law)
    gap = 1.0 - np.linalg.eigvalsh(0.5 * (symmetrised + symmetrised.T))[-2]
    cuts = RNG.integers(0, 2, (6, chain.n_states)).astype(bool)
    conductances = [(chain.law[cut] @ p[cut][:, ~cut]).sum() / min(chain.law[cut].sum(), chain.law[~cut].sum()) for cut in cuts]
    good = examine(chain, gap=gap, cuts=cuts, conductances=conductances)
    assert good.first_failure is None
    assert good.record["cuts"] == 6
    assert good.record["cheeger_margin"] == pytest.approx(2 * min(conductances) - gap, rel=1e-12, abs=0)
    assert failed(examine(chain, gap=2 * min(conductances) + 1e-9, conductances=conductances)) == {"cheeger_margin"}
    assert failed(examine(chain, conductances=conductances)) == {"cheeger_margin"}  # a gap was not given
    wrong = [conductances[0] * (1 + 1e-6), *conductances[1:]]
    assert failed(examine(chain, gap=gap, cuts=cuts, conductances=wrong)) == {"agreement"}
    block = gibbs_chain(W, kernel="two-block")
    matrix = block.transition_matrix()
    assert np.allclose(
        battery._rebuild(block).flows(cuts), [(block.law[cut] @ matrix[cut][:, ~cut]).sum() for cut in cuts], rtol=0, atol=1e-15
    )


def test_hitting_certificate():
    chain = gibbs_chain(W)
    target = np.zeros(chain.n_states, dtype=bool)
    target[[0, 5]] = True
    p = chain.transition_matrix()
    times = np.zeros(chain.n_states)
    times[~target] = np.linalg.solve(np.eye(chain.n_states - 2) - p[~target][:, ~target], np.ones(chain.n_states - 2))
    assert battery.hitting_certificate(chain, times, target) < 1e-11
    wrong = times * np.where(np.arange(chain.n_states) == 3, 1 + 1e-6, 1.0)
    assert battery.hitting_certificate(chain, wrong, target) > 1e-8
    assert math.isnan(battery.hitting_certificate(chain, np.where(target, 0.0, 0.5), target))
    assert math.isnan(battery.hitting_certificate(chain, times + 1.0, target))
    assert math.isnan(battery.hitting_certificate(chain, np.where(times > 0, np.inf, 0.0), target))
