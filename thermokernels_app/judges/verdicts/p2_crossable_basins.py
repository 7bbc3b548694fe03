"""P2: multimodality that the sampler can still cross, with its two riders."""

from __future__ import annotations

from contextlib import suppress

from thermokernels_app.judges.records import MissingNumberError
from thermokernels_app.judges.verdicts.criteria import Verdict, span
from thermokernels_app.judges.verdicts.grid_records import GridRecords, Key
from thermokernels_app.judges.verdicts.qualification import Qualification, qualify


def rule(verdict: Verdict, records: GridRecords) -> None:
    verdict.basis = {"cells": len(records.basis_keys)}
    if not records.basis_keys:
        raise MissingNumberError("the grid holds no cell of the verdict basis")

    judged: dict[Key, Qualification] = {key: qualify(records, key) for key in records.basis_keys}
    for key in records.keys:
        with suppress(MissingNumberError):  # beyond the basis, a cell that is not there is not counted, and nothing halts
            judged[key] = judged.get(key) or qualify(records, key)
    basis = [judged[key] for key in records.basis_keys]
    crossable = [cell for cell in basis if cell.count]
    everywhere = {key: judged[key] for key in records.keys if key in judged and judged[key].count}
    margin = min((value for cell in basis for value in cell.margins), default=None)
    flip = min((value for cell in basis for value in cell.flip_margins), default=None)
    overlap_changes, multiway_changes = sum(not cell.overlap_clean for cell in basis), sum(not cell.multiway_clean for cell in basis)
    verdict.require("cells of the basis with N_qual >= 1", ">=", 1, len(crossable), "cells", margin, "qualification")
    verdict.require("overlap rider: cells of the basis whose N_qual changes", "==", 0, overlap_changes, "cells")
    verdict.require("multiway rider: cells of the basis whose N_qual changes", "==", 0, multiway_changes, "cells")
    verdict.reported |= {
        "cells_basis": len(crossable),
        "cells_basis_clean": sum(cell.overlap_clean and cell.multiway_clean for cell in crossable),
        "cells_all": len(everywhere),
        "cells_judged": len(judged),
        "cells_by_split": {str(s): sum(key[1] == s for key in everywhere) for s in records.design["grid"]["split"]},
        "cells_by_m": {str(m): sum(key[0] == m for key in everywhere) for m in records.design["grid"]["m"]},
        "events_basis": sum(cell.count for cell in basis),
        "orderings_basis": sum(cell.orderings for cell in basis),
    }
    for suffix, cells in (("", list(everywhere.values())), ("_basis", crossable)):
        verdict.reported[f"gamma_eff_step{suffix}"] = span([cell.gamma_eff_step for cell in cells])
        verdict.reported[f"gamma_eff_step{suffix}_bound"] = max((cell.gamma_eff_step_bound for cell in cells), default=None)
        verdict.reported[f"u_thermo{suffix}"] = span([cell.u_thermo for cell in cells])
    verdict.report("margin", margin, "no event of the basis qualifies")
    verdict.report("flip_margin", flip, "the basis has no merge event")
