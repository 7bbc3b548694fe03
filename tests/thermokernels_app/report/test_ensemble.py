"""The figures of many seeds: their distribution, and where a published one falls."""

import numpy as np
import pytest

from thermokernels_app.report import ensemble
from thermokernels_app.report.screens import grid_tables

pytestmark = pytest.mark.small


def document(cells_basis, margin, status="complete", verdict="PASS"):
    """The parts of a run's document that a summary reads."""
    reported = {
        "cells_basis": cells_basis,
        "cells_all": 2 * cells_basis,
        "cells_by_split": {"1": 3, "4": 0},
        "cells_by_m": {"4": cells_basis % 2},
        "margin": margin,
        "gamma_eff_step": [1e-3, 1e-1],
        "u_thermo": None,
    }
    criteria = [{"name": "(a) min |J_u|_F", "observed": 2.0}]
    return {
        "status": status,
        "design": {"grid": {"split": [1, 4], "m": [4]}},
        "verdicts": {
            "P1": {"verdict": verdict, "criteria": criteria, "reported": {}},
            "P2": {"verdict": verdict, "criteria": [], "reported": reported},
            "P3": {"verdict": verdict, "criteria": [], "reported": {}},
            "P4": {"verdict": verdict, "criteria": [], "reported": {"final_kl": [{"final_kl": 0.3}, {"final_kl": 2.0}], "stationary": 1}},
        },
    }


def figures(summary):
    return {row["figure"]: row for row in summary["figures"]}


def test_quantiles_and_percentiles_by_hand():
    counts = [9, 11, 11, 14, 30]
    summary = ensemble.summary_of({seed: document(count, 0.01 * seed) for seed, count in enumerate(counts)})
    row = figures(summary)["cells of the basis with N_qual >= 1"]
    assert row["values"] == sorted(map(float, counts))
    assert row["quantiles"]["0.5"] == 11
    assert row["quantiles"]["0.25"] == np.quantile(counts, 0.25)
    assert (row["published"], row["percentile"]) == (11.0, 100 * (1 + 0.5 * 2) / 5)
    assert figures(summary)["min |J_u|_F"]["percentile"] == 0.0  # the published 1.58 lies below all of them
    assert figures(summary)["cells with N_qual >= 1, split 4"]["percentile"] == 50.0  # none, in all
    assert figures(summary)["largest final KL (nats)"]["quantiles"]["1.0"] == 2.0
    assert "least U_thermo (nats)" not in figures(summary)  # no run has one


def test_runs_that_are_not_complete_count_among_the_shares_only():
    runs = {0: document(3, 0.1), 1: document(5, 0.2, status="halted", verdict="HALT"), 2: document(4, 0.3, verdict="FAIL")}
    summary = ensemble.summary_of(runs)
    assert (summary["seeds"], summary["complete"]) == (3, 2)
    assert summary["shares"]["P2"] == {"PASS": 1 / 3, "FAIL": 1 / 3, "HALT": 1 / 3}
    assert figures(summary)["cells of the basis with N_qual >= 1"]["runs"] == 2


def test_the_table_has_a_column_for_every_entry(capsys):
    summary = ensemble.summary_of({0: document(3, 0.1), 1: document(5, None)})
    rows = ensemble.rows_of(summary)
    assert {len(row) for row in rows} == {len(ensemble.HEADER)}
    grid_tables.print_ensemble_figures(summary)
    shown = capsys.readouterr().out
    assert "over 2 complete runs" in shown
    assert "margin of P2 (logarithm)" in shown
    assert ensemble.summary_of({0: document(3, 0.1, status="stopped")})["figures"] == []


def test_folders_of_an_ensemble(tmp_path):
    for name in ("seed10", "seed2", "seedling", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "seed3").touch()
    assert list(ensemble.folders_of(tmp_path)) == [2, 10]
    assert ensemble.folders_of(tmp_path / "nowhere") == {}


@pytest.mark.report
def test_the_picture_has_a_panel_for_every_published_figure(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra `report`")
    from thermokernels_app.report import pictures

    summary = ensemble.summary_of({seed: document(3 + seed, 0.01 * (seed + 1)) for seed in range(6)})
    shown = [one for one in summary["figures"] if one["published"] is not None]
    figure = pictures.of_ensemble(summary).draw(True)
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == len(shown) > 3
    for axes, one in zip(panels, shown, strict=True):
        assert sum(bar.get_height() for bar in axes.patches) == len(one["values"])  # every table is in a bar
        assert axes.lines[0].get_xdata()[0] == one["published"]
