"""Claim: a run has the structure of the published one, and its numbers stand where other draws of the same law put them.

    python validation/published.py [RUN]
    python validation/published.py --recomputed     only what needs no run
    python validation/published.py --table RUN      the tables of docs/published.md: what depends on the draws,
    python validation/published.py --rounding RUN   and what depends on none, or on rounding alone

RUN is the folder of a finished run of the default grid (`thermo run`); without it the grid is run. The random tables of the publication are
not known, so counts and ranges are printed side by side and not judged: `thermo run --seeds 0:32` shows how they spread over seeds. Judged
is what does not depend on the draws: the verdict of the gradient gate, ranks, no fallback of a symmetry, no cell at split 4, no saddle of
three or more basins, and rounding errors no larger than those published by more than the gates of the design. Figures of models that
were published whole are computed again and have to agree in every digit that was printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from claims import ROOT, Row, conclude

import thermokernels as tk
from thermokernels.quantities.autocorrelation_times.autocorrelation import autocorrelation_times
from thermokernels_app.report import ensemble


def finished_run(folder: Path) -> Path:
    """The default grid, run in a process of its own."""
    command = [sys.executable, str(ROOT / "cli.py"), "run", "--grid", "default", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 10):
        raise SystemExit(f"the run ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return folder


def document_of(folder: Path) -> Mapping[str, Any]:
    command = [sys.executable, str(ROOT / "cli.py"), "show", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 10):
        raise SystemExit(f"{folder} cannot be shown: {done.stderr.strip()[-300:]}")
    return dict(json.loads(done.stdout))


def side_by_side(document: Mapping[str, Any]) -> list[Row]:
    """Counts and ranges: published and here."""
    rows = []
    for figure in ensemble.summary_of({int(document["design"]["seed"]): document})["figures"]:
        (value,) = figure["values"]
        if figure["published"] is not None:
            rows.append(Row(figure["figure"], f"published {figure['published']:.3g}, here {value:.3g}", None))
    return rows


def structure(document: Mapping[str, Any]) -> list[Row]:
    """What every draw has to share with the published run."""
    verdicts = document["verdicts"]
    rows = [Row("P1, the gradient gate", verdicts["P1"]["verdict"], verdicts["P1"]["verdict"] == "PASS")]
    rows.append(Row("P3, the battery", verdicts["P3"]["verdict"], verdicts["P3"]["verdict"] == "PASS"))
    split_four = verdicts["P2"]["reported"]["cells_by_split"].get("4")
    rows.append(
        Row("cells with N_qual >= 1 at split 4", f"published 0, here {split_four}", None if split_four is None else split_four == 0)
    )
    for verdict in ("P1", "P3", "P4"):
        for criterion in verdicts[verdict]["criteria"]:
            found = f"{criterion['observed']} {criterion['operator']} {criterion['threshold']}"
            rows.append(Row(f"{verdict}: {criterion['name']}", found, criterion["met"]))
    return rows


BETA = 3.0


def planted(visible: Sequence[Sequence[float]], hidden: Sequence[Sequence[float]]) -> tk.Model:
    """W = (beta / m) sum_mu xi_mu eta_mu', the patterns in rows."""
    xi, eta = np.array(visible), np.array(hidden)
    return tk.Model(BETA / xi.shape[1] * xi.T @ eta)


def two_patterns(m: int, n_visible: int, n_hidden: int) -> tk.Model:
    """Two patterns that differ at so many visible and hidden sites."""
    first = np.ones(m)
    visible, hidden = ([first, np.where(np.arange(m) < n, -1.0, 1.0)] for n in (n_visible, n_hidden))
    return planted(visible, hidden)


def recomputed() -> list[Row]:
    """Figures of models that were published whole: the deep cell under the symmetrised alternating scan, and the ferromagnet."""
    rows = []
    for differing in ((2, 3), (3, 2)):
        chain = tk.gibbs_chain(two_patterns(5, *differing), kernel="symmetrised-alternating")
        # the source's convention counts lag zero half: V / 2, and half of 1 + 2 sum rho
        half, slowest = 0.5 * tk.asymptotic_variance(chain), 0.5 * largest_time(chain)
        name = f"deep cell, patterns that differ at {differing[0]} visible and {differing[1]} hidden sites"
        rows.append(Row(f"{name}: T_O", f"published 1409.42, here {half:.6f}", f"{half:.2f}" == "1409.42"))
        rows.append(Row(f"{name}: largest tau", f"published 112.48, here {slowest:.6f}", f"{slowest:.2f}" == "112.48"))
    for m, published in ((4, "0.648"), (5, "0.648"), (6, "0.647")):
        gamma = tk.spectral_measure(tk.gibbs_chain(planted([np.ones(m)], [np.ones(m)]))).gamma_eff
        rows.append(Row(f"ferromagnet, m = {m}: gamma_eff", f"published {published}, here {gamma:.6f}", f"{gamma:.3f}" == published))
    return rows


def largest_time(chain: tk.GibbsChain) -> float:
    """The largest 1 + 2 sum rho of a product v_i h_j, in steps."""
    spins = chain.spins().astype(float)
    products = np.einsum("xi,xj->xij", spins[:, : chain.n_visible], spins[:, chain.n_visible :]).reshape(chain.n_states, -1)
    times, _, _ = autocorrelation_times(chain, products)
    return float(np.max(times))


WHY = {
    "min |J_u|_F": "other draws, and other constants of the network",
    "cells of the basis with N_qual >= 1": "other draws; that the counts agree is chance",
    "cells with N_qual >= 1, split 4": "none in both",
}


def print_table(document: Mapping[str, Any]) -> None:
    """The published figures beside those of a run, as Markdown."""
    print("| figure | published | here | why they differ |")
    print("|---|---|---|---|")
    for figure in ensemble.summary_of({int(document["design"]["seed"]): document})["figures"]:
        if figure["published"] is not None:
            name, (value,) = figure["figure"].replace("|", "\\|"), figure["values"]
            print(f"| {name} | {figure['published']:.3g} | {value:.3g} | {WHY.get(figure['figure'], 'other draws')} |")


def print_rounding(document: Mapping[str, Any]) -> None:
    """What depends on no draw, or on rounding alone, as Markdown."""
    gate, cells = document["verdicts"]["P1"], document["cells"]
    observed, reported = {criterion["name"]: criterion["observed"] for criterion in gate["criteria"]}, gate["reported"]
    value = observed["(c) kernel value against the dense reference at the anchor"]
    differences = [f"{error:.1e}" for name, error in observed.items() if "central differences" in name]
    saddles = sum(cell["landscape"]["multiway_saddles"] for cell in cells)
    fallbacks = sum(cell["battery"]["fallback"] is not None for cell in cells)
    ranks = sum(cell["network"]["rank"] == cell["network"]["rank_expected"] for cell in cells)
    rows = {
        "figure": ("published", "here"),
        "---": ("---", "---"),
        "value against the dense reference, anchor": ("7.06e-15", f"{value:.2e}"),
        "central differences at the best h, anchor": ("6.5e-10, 2.1e-10, 9.1e-10, 1.0e-9, 9.9e-7", ", ".join(differences)),
        f"complex step, largest of {reported['checkpoints_checked']} checkpoints": ("not reported", f"{reported['max_complex_error']:.1e}"),
        "saddles that join three or more basins": ("none", saddles or "none"),
        "symmetry fallbacks": ("none", fallbacks or "none"),
        "rank(J_u) = r(2m - r)": ("everywhere", f"{ranks} of {len(cells)} cells"),
    }
    for name, figures in rows.items():
        print(f"| {name} | {figures[0]} | {figures[1]} |")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="the folder of a finished run")
    parser.add_argument("--recomputed", action="store_true", help="only what needs no run")
    parser.add_argument("--table", action="store_true", help="the table of docs/published.md")
    parser.add_argument("--rounding", action="store_true", help="its second table")
    options = parser.parse_args(arguments)
    if options.recomputed:
        return conclude(recomputed())
    with tempfile.TemporaryDirectory() as folder:
        document = document_of(options.run or finished_run(Path(folder, "run")))
    if options.table or options.rounding:
        (print_table if options.table else print_rounding)(document)
        return 0
    return conclude(side_by_side(document) + structure(document) + recomputed())


if __name__ == "__main__":
    sys.exit(main())
