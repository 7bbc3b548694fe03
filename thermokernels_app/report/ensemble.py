"""What runs with many seeds say together: how counts, margins and ranges are distributed, and where the published ones fall."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Document = Mapping[str, Any]

VERDICTS = ("PASS", "FAIL", "HALT")
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

# Figures of the first publication of the experiment, whose tables of random numbers are not known.
PUBLISHED = {
    "cells of the basis with N_qual >= 1": 11.0,
    "cells with N_qual >= 1": 19.0,
    "cells with N_qual >= 1, split 1": 8.0,
    "cells with N_qual >= 1, split 2": 5.0,
    "cells with N_qual >= 1, split 3": 6.0,
    "cells with N_qual >= 1, split 4": 0.0,
    "cells with N_qual >= 1, m = 4": 0.0,
    "margin of P2 (logarithm)": 0.0529,
    "min |J_u|_F": 1.58,
    "min |W(u) - W(u')|_F, final": 2.66,
    "least gamma_eff per step": 9.0e-4,
    "largest gamma_eff per step": 8.1e-2,
    "least U_thermo (nats)": 0.51,
    "largest U_thermo (nats)": 7.08,
    "least Cheeger margin (per step)": 3.93e-4,
    "largest final KL (nats)": 2.63,
}


def _criterion(document: Document, verdict: str, name: str, key: str = "observed") -> float | None:
    return next((c[key] for c in document["verdicts"][verdict]["criteria"] if c["name"].startswith(name)), None)


def _reported(verdict: str, key: str, *path: Any) -> Callable[[Document], float | None]:
    def read(document: Document) -> float | None:
        value = document["verdicts"][verdict]["reported"].get(key)
        for step in path:
            value = None if value is None else value[step] if isinstance(value, list) else value.get(step)
        return None if value is None else float(value)

    return read


def _largest_divergence(document: Document) -> float | None:
    return max((row["final_kl"] for row in document["verdicts"]["P4"]["reported"].get("final_kl", ())), default=None)


def _figures(grid: Mapping[str, Any]) -> dict[str, Callable[[Document], float | None]]:
    """What is read off every run, by the name that it bears in the tables."""
    counts = {f"cells with N_qual >= 1, split {s}": _reported("P2", "cells_by_split", str(s)) for s in grid["split"]}
    counts |= {f"cells with N_qual >= 1, m = {m}": _reported("P2", "cells_by_m", str(m)) for m in grid["m"]}
    return {
        "cells of the basis with N_qual >= 1": _reported("P2", "cells_basis"),
        "cells with N_qual >= 1": _reported("P2", "cells_all"),
        **counts,
        "margin of P2 (logarithm)": _reported("P2", "margin"),
        "least margin of any event (logarithm)": _reported("P2", "flip_margin"),
        "least gamma_eff per step": _reported("P2", "gamma_eff_step", 0),
        "largest gamma_eff per step": _reported("P2", "gamma_eff_step", 1),
        "least U_thermo (nats)": _reported("P2", "u_thermo", 0),
        "largest U_thermo (nats)": _reported("P2", "u_thermo", 1),
        "min |J_u|_F": lambda document: _criterion(document, "P1", "(a) min |J_u|_F"),
        "min |W(u) - W(u')|_F, final": lambda document: _criterion(document, "P1", "(b) min |W(u)"),
        "least Cheeger margin (per step)": lambda document: _criterion(document, "P3", "least cheeger_margin"),
        "largest final KL (nats)": _largest_divergence,
        "codes that stay above their KL": _reported("P4", "stationary"),
        "undertrained codes": _reported("P4", "undertrained"),
    }


def summary_of(documents: Mapping[int, Document]) -> dict[str, Any]:
    """The distribution of every figure over the complete runs of an ensemble, and the share of seeds with each verdict.

    Returns
    -------
    dict
        ``seeds``, ``complete``: how many; ``shares``: of each verdict, of all seeds; ``figures``: a row a figure with its quantiles over
        the complete runs, how many of them have it, the published value and the percentile at which that falls (half of the ties below).
    """
    complete = {seed: document for seed, document in documents.items() if document["status"] == "complete"}
    names = next(iter(documents.values()))["verdicts"]
    shares = {
        name: {verdict: sum(d["verdicts"][name]["verdict"] == verdict for d in documents.values()) / len(documents) for verdict in VERDICTS}
        for name in names
    }
    figures = []
    if complete and {"P1", "P2", "P3", "P4"} <= names.keys():
        for name, read in _figures(next(iter(complete.values()))["design"]["grid"]).items():
            values = sorted(value for value in map(read, complete.values()) if value is not None)
            if values:
                figures.append({"figure": name, "runs": len(values)} | _distribution(values) | _place(name, values))
    return {"seeds": len(documents), "complete": len(complete), "shares": shares, "figures": figures}


def _distribution(values: list[float]) -> dict[str, Any]:
    import numpy as np

    return {"quantiles": dict(zip(map(str, QUANTILES), map(float, np.quantile(values, QUANTILES)), strict=True)), "values": values}


def _place(name: str, values: list[float]) -> dict[str, float | None]:
    published = PUBLISHED.get(name)
    if published is None:
        return {"published": None, "percentile": None}
    below, equal = (sum(test(value) for value in values) for test in (published.__gt__, published.__eq__))
    return {"published": published, "percentile": 100 * (below + 0.5 * equal) / len(values)}


def folders_of(folder: Path) -> dict[int, Path]:
    """The folders of the runs of an ensemble by their seed, empty where this is none."""
    found = {path: re.fullmatch(r"seed(\d+)", path.name) for path in folder.iterdir()} if folder.is_dir() else {}
    return dict(sorted((int(match[1]), path) for path, match in found.items() if match and path.is_dir()))


def rows_of(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The rows of the table of figures: least, 5 %, quarters, 95 %, largest, the published value and its percentile."""
    rows = []
    for figure in summary["figures"]:
        quantiles = [f"{value:.3g}" for value in figure["quantiles"].values()]
        published = "-" if figure["published"] is None else f"{figure['published']:.3g}"
        percentile = "-" if figure["percentile"] is None else f"{figure['percentile']:.0f}"
        rows.append((figure["figure"], *quantiles, published, percentile))
    return rows


HEADER = ("figure", "least", "5 %", "25 %", "median", "75 %", "95 %", "largest", "published", "at percentile")
