"""Claim: a run has the structure of the published one, and its numbers stand where other draws of the same law put them.

    python validation/published.py [RUN]

RUN is the folder of a finished run of the default grid (`thermo run`); without it the grid is run. The random tables of the publication are
not known, so counts and ranges are printed side by side and not judged: `thermo run --seeds 0:32` shows how they spread over seeds. Judged
is what does not depend on the draws: the verdict of the gradient gate, ranks, no fallback of a symmetry, no cell at split 4, no saddle of
three or more basins, and rounding errors no larger than those published by more than the gates of the design.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claims import ROOT, Row, conclude

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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="the folder of a finished run")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        document = document_of(options.run or finished_run(Path(folder, "run")))
    return conclude(side_by_side(document) + structure(document))


if __name__ == "__main__":
    sys.exit(main())
