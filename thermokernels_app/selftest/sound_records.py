"""Plain records of a run on which all four verdicts are PASS, for any design: what the rules of the verdicts are tried on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

Record = dict[str, Any]


class Records:
    """The four arguments of the judge; a rule is tried by changing one number of them."""

    def __init__(self, design: Mapping[str, Any]) -> None:
        grid, self.design = design["grid"], dict(design)
        places = [*product(grid["m"], grid["split"], grid["checkpoints"])]
        self.cells = [_cell(design, *place, code) for place in places for code in grid["codes"]]
        self.checkpoints = [_checkpoint(design, *place) for place in places]
        self.stationarity = [
            {"m": cell["m"], "split": cell["split"], "code": cell["code"], "polished_kl": 1.0, "gradient_norm": 1e-9, "stationary": True}
            for cell in self.cells
            if cell["checkpoint"] == "final" and cell["training"]["kl"] > design["thresholds"]["final_kl"]
        ]

    @property
    def basis(self) -> list[Record]:
        """The cells that P2 rests on."""
        basis = self.design["basis"]
        return [cell for cell in self.cells if cell["split"] in basis["split"] and cell["checkpoint"] in basis["checkpoints"]]

    @property
    def anchor(self) -> Record:
        """The gradient check that P1 (c) rests on."""
        anchor = self.design["anchor"]
        places = ({key: record[key] for key in ("m", "split", "checkpoint")} for record in self.checkpoints)
        check: Record = self.checkpoints[list(places).index(anchor)]["gradient_check"]
        return check


def event(design: Mapping[str, Any], **changes: Any) -> Record:
    """A merge event that qualifies, well inside every filter."""
    thresholds = design["thresholds"]
    sound = {
        "saddle_energy": -1.0,
        "barrier": 2.0 * thresholds["barrier"],
        "multiplicity": 2,
        "mass_dying": 10.0 * thresholds["mass"],
        "mass_surviving": 100.0 * thresholds["mass"],
        "passage_out_sweeps": 0.2 * thresholds["passage_sweeps"],
        "passage_back_sweeps": 0.3 * thresholds["passage_sweeps"],
        "relevance": 2.0 * max(thresholds["overlap_rider"]),
        "conductance": 0.01,
    }
    return sound | changes


def _cell(design: Mapping[str, Any], m: int, split: int, checkpoint: str, code: int) -> Record:
    thresholds, hard = design["thresholds"], split == max(design["grid"]["split"]) and code == max(design["grid"]["codes"])
    residuals = {name: 1e-3 * thresholds[key] for name, key in (("solver_residual", "solve"), ("hitting_residual", "hitting"))}
    return {
        "m": m,
        "split": split,
        "checkpoint": checkpoint,
        "code": code,
        "status": "ok",
        "halt": None,
        "training": {"step": 100, "kl": (2.0 if hard else 0.5) * thresholds["final_kl"], "mean_kl": 0.3, "reached": True},
        "q": {"value": 1.5, "signal": 0.1, "t_obs_steps": 30.0},
        "gradient": {"dq_dw_norm": 2.0, "dq_dphi_norm": 3.0},
        "network": {"jacobian_norm": 2.0, "jacobian_finite": True, "rank": 4, "rank_expected": 4, "observable_span": 4},
        "spectrum": {"gap": 0.01, "relevant_gap": 0.01, "gamma_eff_sweep": 0.1, "gamma_eff_step": 0.01, "gamma_eff_error": 1e-12},
        "landscape": {"minima": 2, "multiway_saddles": 0, "events": [event(design)], "orderings": []},
        "battery": {
            **dict.fromkeys(("reversibility", "row_sum", "stationarity", "agreement"), 1e-16),
            **dict.fromkeys(("symmetry_law", "symmetry_kernel", "symmetry_observables"), 0.0),
            **residuals,
            "fallback": None,
            "hitting_solves": 2,
            "cheeger_margin": 1e-3,
            "cuts": 1,
        },
    }


def _checkpoint(design: Mapping[str, Any], m: int, split: int, checkpoint: str) -> Record:
    rows = [
        {"index": k, "adjoint": 1.0, "difference_error": 1e-9, "complex_error": 1e-13, "automatic_error": None, "difference_note": None}
        for k in range(design["directions"])
    ]
    check = {"value_error": 1e-14, "value_reference": "dense", "directions": rows}
    return {"m": m, "split": split, "checkpoint": checkpoint, "min_coupling_distance": 2.5, "gradient_check": check}
