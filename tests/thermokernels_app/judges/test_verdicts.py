"""The verdict rules on synthetic records: PASS, FAIL and HALT of each, and what noise may do."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermokernels_app.judges import verdicts

DESIGN = {
    "grid": {"m": [4, 5], "split": [2, 4], "checkpoints": ["init", "half", "final"], "codes": [1, 2]},
    "basis": {"split": [2, 3], "checkpoints": ["half", "tenth", "final"]},
    "anchor": {"m": 4, "split": 2, "checkpoint": "half"},
    "directions": 2,
    "thresholds": {
        "coupling_distance": 1e-6,
        "value": 1e-10,
        "difference": 1e-4,
        "complex": 1e-10,
        "mass": 0.004,
        "barrier": math.log(2.0),
        "passage_sweeps": 250.0,
        "overlap": 0.03,
        "overlap_rider": [0.003, 0.01, 0.03, 0.1],
        "reversibility": 1e-10,
        "row_sum": 1e-12,
        "stationarity": 1e-12,
        "symmetry": 1e-10,
        "agreement": 1e-12,
        "cheeger": 1e-10,
        "solve": 1e-10,
        "hitting": 1e-8,
        "final_kl": 0.5,
        "gradient_norm": 1e-6,
    },
}
THRESHOLDS = DESIGN["thresholds"]


def event(**changes):
    sound = {
        "saddle_energy": -1.0,
        "barrier": 1.0,
        "multiplicity": 2,
        "mass_dying": 0.1,
        "mass_surviving": 0.6,
        "passage_out_sweeps": 40.0,
        "passage_back_sweeps": 125.0,
        "relevance": 0.5,
        "conductance": 0.01,
    }
    return sound | changes


def cell(m, split, checkpoint, code):
    return {
        "m": m,
        "split": split,
        "checkpoint": checkpoint,
        "code": code,
        "status": "ok",
        "halt": None,
        "training": {"step": 100, "kl": 0.9 if split == 4 and code == 2 else 0.2, "mean_kl": 0.3, "reached": True},
        "q": {"value": 1.5, "signal": 0.1, "t_obs_steps": 30.0},
        "gradient": {"dq_dw_norm": 2.0, "dq_dphi_norm": 3.0},
        "network": {"jacobian_norm": 2.0 + code, "jacobian_finite": True, "rank": 4, "rank_expected": 4, "observable_span": 4},
        "spectrum": {"gap": 0.01, "relevant_gap": 0.01, "gamma_eff_sweep": 0.1, "gamma_eff_step": 0.01 * m, "gamma_eff_error": 1e-12},
        "landscape": {"minima": 2, "multiway_saddles": 0, "events": [event(), event(mass_dying=1e-4, **NOT_NEEDED)], "orderings": []},
        "battery": {
            "reversibility": 1e-17,
            "row_sum": 1e-16,
            "stationarity": 1e-16,
            "symmetry_law": 0.0,
            "symmetry_kernel": 0.0,
            "symmetry_observables": 0.0,
            "agreement": 1e-15,
            "fallback": None,
            "solver_residual": 1e-12,
            "hitting_residual": 1e-11,
            "hitting_solves": 2,
            "cheeger_margin": 1e-3,
            "cuts": 1,
        },
    }


NOT_NEEDED = {"passage_out_sweeps": None, "passage_back_sweeps": None, "passages": "not needed"}


def records():
    grid = DESIGN["grid"]
    places = [(m, s, name) for m in grid["m"] for s in grid["split"] for name in grid["checkpoints"]]
    rows = [{"index": k, "adjoint": 1.0, "best_step": 1e-5, "difference_error": 1e-9, "complex_error": 1e-13} for k in range(2)]
    check = {"value_error": 1e-14, "value_reference": "dense", "directions": [row | {"automatic_error": None} for row in rows]}
    checkpoints = [
        {"m": m, "split": s, "checkpoint": name, "min_coupling_distance": 2.5, "gradient_check": copy.deepcopy(check)}
        for m, s, name in places
    ]
    classified = [
        {"m": m, "split": 4, "code": 2, "final_kl": 0.9, "polished_kl": 0.8, "gradient_norm": 1e-8, "iterations": 9, "stationary": True}
        for m in grid["m"]
    ]
    return [cell(*place, code) for place in places for code in grid["codes"]], checkpoints, classified


def judge(change=lambda cells, checkpoints, stationarity: None, design=DESIGN):
    made = records()
    change(*made)
    judged = verdicts.judge(design, *made)
    json.dumps(judged, allow_nan=False)
    return judged


def outcomes(judged):
    return {name: verdict["verdict"] for name, verdict in judged.items()}


def find(rows, **key):
    return next(row for row in rows if all(row[name] == value for name, value in key.items()))


def in_cell(**places):
    """A change of values at dotted paths in the anchor's first cell."""

    def change(cells, checkpoints, stationarity):
        node = find(cells, m=4, split=2, checkpoint="half", code=1)
        for path, value in places.items():
            *parents, key = path.split("__")
            target = node
            for parent in parents:
                target = target[parent]
            target[key] = value

    return change


def changes(**expected):
    return {"P1": "PASS", "P2": "PASS", "P3": "PASS", "P4": "PASS"} | expected


def test_a_sound_run_passes_all_four():
    judged = judge()
    assert outcomes(judged) == changes()
    for verdict in judged.values():
        assert verdict["reason"] is None
        assert verdict["basis"]
        for criterion in verdict["criteria"]:
            assert set(criterion) >= {"name", "operator", "threshold", "observed", "unit", "margin", "met"}
            assert criterion["met"]
            assert criterion["margin"] >= 0
    p2 = judged["P2"]["reported"]
    assert (p2["cells_basis"], p2["cells_all"], p2["cells_by_split"], p2["cells_by_m"]) == (8, 24, {"2": 12, "4": 12}, {"4": 12, "5": 12})
    assert p2["gamma_eff_step"] == [0.04, 0.05]
    assert p2["u_thermo"] == [0.5, 0.5]
    assert p2["margin"] == pytest.approx(math.log(1.0 / math.log(2.0)))
    assert judged["P3"]["reported"]["hitting_solves"] == 48
    p4 = judged["P4"]["reported"]
    assert (p4["stationary"], p4["undertrained"], p4["max_final_kl_by_split"]) == (2, 0, {"2": 0.2, "4": 0.9})
    assert judged["P1"]["reported"]["checkpoints_checked"] == 12


def test_no_cells_is_halt():
    judged = verdicts.judge(DESIGN, [], [], [])
    assert set(outcomes(judged).values()) == {"HALT"}
    assert {verdict["reason"] for verdict in judged.values()} == {"there are no cells"}


def test_a_halted_cell_halts_every_verdict_that_rests_on_it():
    halt = {"check": "reversibility", "detail": "reversibility is 0.1"}
    judged = judge(in_cell(status="halted", halt=halt))
    assert outcomes(judged) == {"P1": "HALT", "P2": "HALT", "P3": "HALT", "P4": "HALT"}
    assert judged["P3"]["reason"] == "cell m=4, s=2, half, code 1: halted at reversibility: reversibility is 0.1"

    def beyond_the_basis(cells, checkpoints, stationarity):
        find(cells, m=4, split=4, checkpoint="init", code=1)["status"] = "halted"

    judged = judge(beyond_the_basis)
    assert outcomes(judged) == {"P1": "HALT", "P2": "PASS", "P3": "HALT", "P4": "HALT"}
    assert judged["P2"]["reported"]["cells_judged"] == 23


@pytest.mark.parametrize("copies", [0, 2])
def test_a_missing_or_doubled_cell_halts(copies):
    def change(cells, checkpoints, stationarity):
        cells[:] = cells[1:] + cells[:1] * copies

    assert set(outcomes(judge(change)).values()) == {"HALT", "PASS"}  # the first cell is at init: not in the basis of P2


def test_a_record_that_misses_a_gate_halts_every_verdict_that_rests_on_it():
    misses = dict.fromkeys(("reversibility", "row_sum", "stationarity", "symmetry_law", "symmetry_kernel", "symmetry_observables"), 1e-9)
    misses |= {"agreement": 1e-11, "solver_residual": 1e-9, "hitting_residual": 1e-7, "cheeger_margin": -1e-9}
    for name, value in misses.items():
        judged = judge(in_cell(**{f"battery__{name}": value}))
        assert outcomes(judged) == {"P1": "HALT", "P2": "HALT", "P3": "HALT", "P4": "HALT"}
        assert judged["P3"]["reported"]["worst_cells"][name] == "cell m=4, s=2, half, code 1"
        assert judged["P3"]["reason"].startswith(f"cell m=4, s=2, half, code 1: {name} is ")
        assert not all(criterion["met"] for criterion in judged["P3"]["criteria"])


@pytest.mark.parametrize("path", ["q__value", "q__t_obs_steps", "gradient__dq_dw_norm", "gradient__dq_dphi_norm"])
def test_a_number_that_every_cell_must_have_halts_where_it_is_missing(path):
    judged = judge(in_cell(**{path: None}))
    assert set(outcomes(judged).values()) == {"HALT"}
    assert path.replace("__", ".") in judged["P3"]["reason"]


def test_the_error_of_gamma_eff_is_reported():
    reported = judge(in_cell(spectrum__gamma_eff_error=1e-5))["P3"]["reported"]
    assert (reported["max_gamma_eff_error"], reported["cells_with_gamma_eff_above_1e-8"]) == (1e-5, 1)


@pytest.mark.parametrize(
    "name", ["reversibility", "row_sum", "stationarity", "symmetry_law", "solver_residual", "hitting_residual", "cuts"]
)
def test_a_null_in_the_battery_halts_p3(name):
    judged = judge(in_cell(**{f"battery__{name}": None, f"battery__{name}_reason": "not finite (nan)"}))
    assert outcomes(judged)["P3"] == "HALT"
    assert f"battery.{name} is missing (not finite (nan))" in judged["P3"]["reason"]


def test_symmetries_are_no_gate_after_a_fallback_and_residuals_none_where_nothing_was_solved():
    judged = judge(in_cell(battery__fallback="Sym-pi fails", battery__symmetry_law=0.3))
    assert outcomes(judged) == changes()
    assert judged["P3"]["reported"]["fallbacks"] == 1
    nothing = {"battery__hitting_solves": 0, "battery__hitting_residual": None, "battery__cuts": 0, "battery__cheeger_margin": None}
    assert outcomes(judge(in_cell(**nothing)))["P3"] == "PASS"


# P1


def anchor_row(key, value):
    def change(cells, checkpoints, stationarity):
        find(checkpoints, m=4, split=2, checkpoint="half")["gradient_check"]["directions"][1][key] = value

    return change


def test_p1_fails_on_each_of_its_parts():
    assert outcomes(judge(in_cell(network__jacobian_finite=False, network__jacobian_norm=None))) == changes(P1="FAIL")
    assert outcomes(judge(in_cell(network__jacobian_norm=0.0))) == changes(P1="FAIL")
    assert outcomes(judge(anchor_row("difference_error", 2e-4))) == changes(P1="FAIL")
    assert outcomes(judge(anchor_row("complex_error", 2e-10))) == changes(P1="FAIL")

    def close(cells, checkpoints, stationarity):
        find(checkpoints, m=5, split=4, checkpoint="final")["min_coupling_distance"] = 1e-6

    def value(cells, checkpoints, stationarity):
        find(checkpoints, m=4, split=2, checkpoint="half")["gradient_check"]["value_error"] = 1.1e-10

    assert outcomes(judge(close)) == changes(P1="FAIL")
    judged = judge(value)
    assert outcomes(judged) == changes(P1="FAIL")
    assert next(criterion for criterion in judged["P1"]["criteria"] if not criterion["met"])["margin"] == pytest.approx(-math.log(1.1))


def test_p1_halts_where_a_number_is_missing():
    assert outcomes(judge(anchor_row("difference_error", None))) == changes(P1="HALT")
    assert outcomes(judge(in_cell(network__jacobian_norm=None))) == changes(P1="HALT")
    assert outcomes(judge(in_cell(network__jacobian_finite=None))) == changes(P1="HALT")

    def no_check(cells, checkpoints, stationarity):
        find(checkpoints, m=4, split=2, checkpoint="half")["gradient_check"] = None

    def no_checkpoint(cells, checkpoints, stationarity):
        checkpoints.pop()

    def held(cells, checkpoints, stationarity):
        find(checkpoints, m=4, split=2, checkpoint="half")["gradient_check"]["value_reference"] = "frozen"

    def elsewhere(cells, checkpoints, stationarity):
        find(checkpoints, m=5, split=4, checkpoint="half")["gradient_check"]["directions"][0]["complex_error"] = None

    assert "0 of 2 directions" in judge(no_check)["P1"]["reason"]
    assert "not against the dense reference" in judge(held)["P1"]["reason"]
    assert judge(elsewhere)["P1"]["reason"].startswith("checkpoint m=5, s=4, half: gradient check: complex_error is missing")
    assert judge(no_checkpoint)["P1"]["reason"] == "checkpoint m=5, s=4, final: no record"
    judged = judge(design=DESIGN | {"anchor": {"m": 6, "split": 2, "checkpoint": "half"}})
    assert outcomes(judged) == changes(P1="HALT")
    assert "does not hold the anchor" in judged["P1"]["reason"]


def test_p1_reports_other_checkpoints_without_judging_them():
    def elsewhere(cells, checkpoints, stationarity):
        find(checkpoints, m=5, split=2, checkpoint="half")["gradient_check"]["directions"][0]["difference_error"] = 1e-3
        find(checkpoints, m=5, split=4, checkpoint="half")["gradient_check"] = None

    judged = judge(elsewhere)
    assert outcomes(judged) == changes()
    reported = judged["P1"]["reported"]
    assert (reported["checkpoints_checked"], reported["checkpoints_within_gates"], reported["max_difference_error"]) == (11, 10, 1e-3)
    assert reported["differences_above_goal_unexplained"] == 1
    assert reported["max_automatic_error"] is None


# P2


def in_basis(*events, **landscape):
    def change(cells, checkpoints, stationarity):
        for row in cells:
            if row["split"] == 2:
                row["landscape"] |= {"events": [], "orderings": []}
        find(cells, m=4, split=2, checkpoint="half", code=1)["landscape"] |= {"events": list(events)} | landscape

    return change


def test_p2_needs_one_qualifying_event_in_the_basis():
    assert outcomes(judge(in_basis(event()))) == changes()
    judged = judge(in_basis())
    assert outcomes(judged) == changes(P2="FAIL")
    assert judged["P2"]["reported"]["margin_reason"] == "no event of the basis qualifies"
    assert judged["P2"]["reported"]["cells_all"] == 12  # those of s = 4, which do not count
    everywhere_but = {"mass_dying": 0.0039, "mass_surviving": 0.0039, "barrier": 0.69, "relevance": 0.002}
    for key, value in (everywhere_but | {"passage_out_sweeps": 250.1, "passage_back_sweeps": 251.0}).items():
        assert outcomes(judge(in_basis(event(**{key: value})))) == changes(P2="FAIL")
    at_threshold = event(mass_dying=0.004, barrier=math.log(2.0), passage_out_sweeps=250.0, relevance=0.5)
    assert outcomes(judge(in_basis(at_threshold))) == changes()


def test_p2_fails_where_a_rider_is_not_clean():
    for relevance in (0.005, 0.02, 0.05):  # qualifies at some of the overlaps only
        judged = judge(in_basis(event(), event(relevance=relevance)))
        assert outcomes(judged) == changes(P2="FAIL")
        assert judged["P2"]["reported"]["cells_basis_clean"] == 0
    shallow = event(barrier=0.5)
    assert outcomes(judge(in_basis(event(), multiway_saddles=1, orderings=[[event()], [shallow]]))) == changes(P2="FAIL")
    assert outcomes(judge(in_basis(event(), multiway_saddles=1, orderings=[[event()], [shallow, event()]]))) == changes()


def test_p2_halts_where_a_number_it_needs_is_missing():
    null = {"passage_out_sweeps": None}
    judged = judge(in_basis(event(**null)))
    assert outcomes(judged) == changes(P2="HALT")
    assert judged["P2"]["reason"] == "cell m=4, s=2, half, code 1: merge event: passage_out_sweeps is missing"
    assert outcomes(judge(in_basis(event(), event(relevance=math.nan)))) == changes(P2="HALT")
    assert outcomes(judge(in_basis(event(), event(barrier=0.1, **null)))) == changes()  # settled without it
    assert outcomes(judge(in_basis(event(), multiway_saddles=1))) == changes(P2="HALT")
    assert outcomes(judge(in_cell(landscape__events=None))) == changes(P2="HALT")
    assert outcomes(judge(in_cell(spectrum__gamma_eff_step=None))) == changes(P2="HALT")


def test_p2_halts_without_a_basis():
    judged = judge(design=DESIGN | {"basis": {"split": [3], "checkpoints": ["half"]}})
    assert judged["P2"]["reason"] == "the grid holds no cell of the verdict basis"
    assert outcomes(judged) == changes(P2="HALT")


def test_counts_and_utility_of_events():
    events = [event(), event(relevance=0.05), event(barrier=0.6), event(relevance=0.02, barrier=2.0)]
    assert verdicts.n_qual(events, THRESHOLDS) == 2
    assert [verdicts.n_qual(events, THRESHOLDS, overlap) for overlap in THRESHOLDS["overlap_rider"]] == [3, 3, 2, 1]
    assert verdicts.u_thermo(events, THRESHOLDS) == pytest.approx(0.55)
    assert verdicts.event_margin(event(passage_back_sweeps=240.0), THRESHOLDS) == pytest.approx(math.log(250 / 240))
    assert verdicts.flip_margin(event(mass_dying=0.001, barrier=0.6), THRESHOLDS) == pytest.approx(math.log(4))


# P4


def test_p4_fails_on_a_wrong_rank_only():
    assert outcomes(judge(in_cell(network__rank=3))) == changes(P4="FAIL")


def test_p4_halts_without_a_classification_and_passes_with_either():
    def unclassified(cells, checkpoints, stationarity):
        stationarity.pop()

    def contradiction(cells, checkpoints, stationarity):
        stationarity[0]["gradient_norm"] = 1e-3

    def undertrained(cells, checkpoints, stationarity):
        stationarity[0] |= {"polished_kl": 0.3, "stationary": False}

    judged = judge(unclassified)
    assert outcomes(judged) == changes(P4="HALT")
    assert judged["P4"]["reason"] == "m=5, s=4, code 2: test for stationarity: no record"
    assert "contradict" in judge(contradiction)["P4"]["reason"]
    judged = judge(undertrained)
    assert outcomes(judged) == changes()
    assert (judged["P4"]["reported"]["stationary"], judged["P4"]["reported"]["undertrained"]) == (1, 1)
    assert outcomes(judge(in_cell(network__observable_span=None))) == changes(P4="HALT")


def test_p4_and_p1_halt_without_a_final_checkpoint():
    design = copy.deepcopy(DESIGN)
    design["grid"]["checkpoints"] = ["half"]
    judged = judge(design=design)
    assert outcomes(judged) == changes(P1="HALT", P4="HALT")
    assert judged["P4"]["reason"] == "the grid has no final checkpoint"


# Noise


def noisy(node, rng):
    """The same record with every float moved by at most 1e-9 relative."""
    if isinstance(node, dict):
        return {key: noisy(value, rng) for key, value in node.items()}
    if isinstance(node, list):
        return [noisy(value, rng) for value in node]
    return node * (1.0 + 1e-9 * rng.uniform(-1, 1)) if isinstance(node, float) else node


def least_margin(judged):
    """How far, as a logarithm, the nearest number that decides anything is from deciding otherwise."""
    counts = ("cells", "codes")
    margins = [abs(c["margin"]) for v in judged.values() for c in v["criteria"] if c["margin_scale"] == "log" and c["unit"] not in counts]
    margins += [judged["P2"]["reported"]["flip_margin"], judged["P4"]["reported"]["margin"]]
    return min(margin for margin in margins if margin is not None)


near = st.sampled_from([1e-12, 1e-10, 1e-8, 1e-3, 0.5]).flatmap(lambda size: st.sampled_from([-size, 0.0, size]))


@given(seed=st.integers(0, 2**32 - 1), offsets=st.lists(near, min_size=6, max_size=6), kl=near, polished=near)
def test_noise_of_1e9_changes_no_verdict_beyond_its_margins(seed, offsets, kl, polished):
    limits = ("mass", "mass", "barrier", "passage_sweeps", "passage_sweeps", "overlap")
    keys = ("mass_dying", "mass_surviving", "barrier", "passage_out_sweeps", "passage_back_sweeps", "relevance")
    close = event(**{key: THRESHOLDS[limit] * (1 + offset) for key, limit, offset in zip(keys, limits, offsets, strict=True)})
    cells, checkpoints, stationarity = records()
    find(cells, m=4, split=2, checkpoint="half", code=1)["landscape"]["events"].append(close)
    find(cells, m=4, split=4, checkpoint="final", code=2)["training"]["kl"] = 0.5 * (1 + kl)
    stationarity[0] |= {"polished_kl": 0.5 * (1 + polished), "stationary": 0.5 * (1 + polished) >= 0.5}
    judged = verdicts.judge(DESIGN, cells, checkpoints, stationarity)
    rng = np.random.default_rng(seed)
    moved = verdicts.judge(DESIGN, *noisy([cells, checkpoints, stationarity], rng))
    if outcomes(moved) != outcomes(judged):
        assert least_margin(judged) <= 2e-9


@given(seed=st.integers(0, 2**32 - 1))
def test_noise_of_1e9_changes_nothing_where_the_margins_are_wide(seed):
    cells, checkpoints, stationarity = records()
    judged = verdicts.judge(DESIGN, cells, checkpoints, stationarity)
    assert least_margin(judged) > 1e-3
    moved = verdicts.judge(DESIGN, *noisy([cells, checkpoints, stationarity], np.random.default_rng(seed)))
    assert outcomes(moved) == outcomes(judged)
    assert moved["P2"]["reported"]["cells_basis"] == judged["P2"]["reported"]["cells_basis"]
