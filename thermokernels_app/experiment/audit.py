"""Whether a record is what a run wrote: what `thermo show` holds results.json against before it shows a verdict.

Its own hashes (:func:`.store.read_results`), the arrays beside it, the chain of its freeze, and the verdicts that its records give.
Whoever changes the records and computes all hashes anew is caught where a verdict moves, and else only by the same run made again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thermokernels_app.experiment.freeze import Freeze, verified
from thermokernels_app.experiment.keys import differences
from thermokernels_app.experiment.records import environment, store
from thermokernels_app.experiment.records.store import MismatchError, Record
from thermokernels_app.experiment.running import runner
from thermokernels_app.judges import verdicts

# Margins hold logarithms, whose last digit may differ between two machines.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Audit:
    """What an audit found in a record whose hashes are right.

    Attributes
    ----------
    verdicts : as judged again from the records
    freeze : the verified chain, or None for a run without one
    altered : how the verdicts in the file differ from these, in a sentence, or None
    notes : what could not be checked
    exit_code : 3 where the record was altered, else that of the verdicts
    """

    verdicts: Record
    freeze: Freeze | None
    altered: str | None
    notes: tuple[str, ...]
    exit_code: int


def audit(document: Record, path: Path | str) -> Audit:
    """Audit the document that :func:`.store.read_results` gave for ``path``; MismatchError for arrays or a freeze of another run."""
    freeze = _freeze(document, str(path))
    notes = _arrays(path)
    try:
        parts = (document[key] for key in ("design", "cells", "checkpoints", "stationarity"))
        judged = store.plain(verdicts.judge(*parts))
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise MismatchError(f"{path} was altered: its records cannot be judged ({type(error).__name__}: {error})") from None
    altered = None
    if found := [*_differences(document["verdicts"], judged)]:
        where, recorded, again = found[0]
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        altered = (
            f"the verdicts in {path} are not those of its records: {where} is {recorded!r}, and {again!r} when judged again{more}; the "
            f"file was altered, or judged by other rules ({_rules(document)})"
        )
    return Audit(judged, freeze, altered, notes, 3 if altered else runner.exit_code({**document, "verdicts": judged}))


def _freeze(document: Record, name: str) -> Freeze | None:
    """The chain that the run carries, which has to be that of its own design, sources and versions."""
    if document["freeze"] is None:
        return None
    freeze = verified(document["freeze"].get("chain"), f"in {name}")
    if document["freeze"] != freeze.as_dict():
        raise MismatchError(f"the freeze in {name} does not have the digest of its chain")
    last, run = freeze.chain[-1], document["run"]
    if changed := differences({"design": last["design"]}, {"design": document["design"]}):
        raise MismatchError(f"{name} is not the run of the freeze that it carries: {', '.join(changed)} differs")
    if store.digest(last["sources"]) != run["sources_sha256"]:
        raise MismatchError(f"{name} is not the run of the freeze that it carries: its sources are others")
    try:
        used = {"python": run["environment"]["python"], "thermokernels": run["program"]["version"], **run["environment"]["packages"]}
    except (KeyError, TypeError):
        raise MismatchError(f"{name} does not say on which versions it ran") from None
    if changed := [key for key, value in last["versions"].items() if used.get(key) != value]:
        raise MismatchError(f"{name} is not the run of the freeze that it carries: the versions of {', '.join(changed)} differ")
    return freeze


def _arrays(path: Path | str) -> tuple[str, ...]:
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    if not (folder / store.ARRAYS).exists():
        return (f"{folder / store.ARRAYS} is not there, so the arrays were not checked",)
    store.read_arrays(path)
    return ()


def _differences(recorded: Any, again: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted path, recorded, judged again) wherever two trees of plain values differ by more than rounding."""
    if isinstance(recorded, dict) and isinstance(again, dict):
        for key in [*again, *(key for key in recorded if key not in again)]:
            yield from _differences(recorded.get(key), again.get(key), f"{where}.{key}" if where else key)
    elif isinstance(recorded, list) and isinstance(again, list) and len(recorded) == len(again):
        for index, pair in enumerate(zip(recorded, again, strict=True)):
            yield from _differences(*pair, f"{where}[{index}]")
    elif type(recorded) is float and type(again) is float:
        if not math.isclose(recorded, again, rel_tol=ROUNDING, abs_tol=ROUNDING):
            yield where, recorded, again
    elif type(recorded) is not type(again) or recorded != again:
        yield where, recorded, again


def _rules(document: Record) -> str:
    if document["run"]["sources_sha256"] == environment.source_hash():
        return "the sources of the run are those of this program, so the rules are the same"
    return f"the sources of the run are {document['run']['sources_sha256'][:12]}, those of this program {environment.source_hash()[:12]}"
