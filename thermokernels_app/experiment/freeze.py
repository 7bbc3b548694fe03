"""A design fixed before its run together with the program that is to run it: freezes, amendments, and what differs from them.

A freeze is a chain of links. The first is the freeze itself; every further one is an amendment, which carries its parent's digest, a
reason, and what had been seen when it was made. A link holds the whole design, the hash of every source file that records and
verdicts come from, and the versions of the packages under it; what runs has to agree with the last link in all of them.
A digest covers everything else in its link, and through the parent's digest the chain back to the first freeze.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.keys import differences
from thermokernels_app.experiment.records import environment, store, strict_json
from thermokernels_app.experiment.records.store import MismatchError, Record

SCHEMA = "thermokernels/freeze"
SCHEMA_VERSION = 2

# What of a link has to agree with what runs; every link lists these itself.
MUST_MATCH = ("design", "sources", "versions")

# What may have been seen of runs under the parent, or under one before it, when an amendment was made.
SEEN = {
    "nothing": "no run had been begun",
    "no-results": "runs had been begun, but no number and no verdict of theirs had been looked at",
    "results": "numbers of a run had been looked at, but no verdict",
    "verdicts": "a verdict of a run had been looked at",
}

LINK = ("sha256", "parent_sha256", "reason", "seen", "must_match", "design_sha256", *MUST_MATCH)
MOST_NAMES = 8


@dataclass(frozen=True)
class Freeze:
    """A verified chain of links, the first freeze first; ``name`` says where it was read."""

    name: str
    chain: tuple[Record, ...]

    @property
    def sha256(self) -> str:
        """The digest of the last link, and so of the whole chain."""
        return str(self.chain[-1]["sha256"])

    @property
    def amended(self) -> bool:
        """Whether anything was changed after the first freeze."""
        return len(self.chain) > 1

    def differences(self, design: Design) -> list[str]:
        """Dotted keys at which what would run now differs from the last link; empty where nothing does."""
        return differences({key: self.chain[-1][key] for key in MUST_MATCH}, _state(design))

    def require(self, design: Design) -> None:
        """MismatchError that names the keys, unless ``design`` and this program are the frozen ones."""
        if changed := self.differences(design):
            raise MismatchError(f"what would run differs from the freeze {self.name} in {_names(changed)}; nothing was run")

    def as_dict(self) -> Record:
        """The chain as results.json carries it."""
        return {"sha256": self.sha256, "amended": self.amended, "chain": list(self.chain)}

    def sentences(self) -> list[str]:
        """What a reader of a run has to know of its freeze, a line a link."""
        lines = [f"frozen before the run as {self.chain[0]['sha256']}"]
        for parent, link in zip(self.chain, self.chain[1:], strict=False):
            changed = _names(differences({key: parent[key] for key in MUST_MATCH}, {key: link[key] for key in MUST_MATCH}))
            lines.append(f"AMENDED as {link['sha256']} in {changed}; seen: {link['seen']} ({SEEN[link['seen']]}); reason: {link['reason']}")
        return lines


def freeze(design: Design, path: str | Path) -> Freeze:
    """Write a design, the program's sources and versions to a new file.

    Raises
    ------
    ValueError
        The file exists with another content, or cannot be written.
    """
    return _write(Freeze(str(path), (_link(design, None, None, None),)), Path(path))


def amend(parent: Freeze, design: Design, path: str | Path, *, reason: str, seen: str) -> Freeze:
    """Write a new file with the parent's chain and one more link: ``design`` and today's program in place of what was frozen.

    Parameters
    ----------
    parent : Freeze
    design : Design
    path : path-like
        A new file; the parent's stays as it is.
    reason : str
        Why, in a sentence.
    seen : str
        One of ``SEEN``: what had been seen of runs.

    Raises
    ------
    ValueError
        No reason, an unknown ``seen``, nothing that differs from the parent, or a file that exists or cannot be written.
    """
    reason = " ".join(reason.encode(errors="replace").decode().split())
    if not reason:
        raise ValueError("the reason of an amendment must be a sentence; got none")
    if seen not in SEEN:
        raise ValueError(f"what had been seen must be one of {', '.join(SEEN)}; got {seen!r}")
    if not parent.differences(design):
        raise ValueError(f"nothing differs from the freeze {parent.name}; there is nothing to amend")
    return _write(Freeze(str(path), (*parent.chain, _link(design, parent.sha256, reason, seen))), Path(path))


def read(path: str | Path) -> Freeze:
    """The freeze in a file, with its chain verified back to the first link.

    Raises
    ------
    ValueError
        The file cannot be read or is no freeze; MismatchError where it was changed after it was written.
    """
    try:
        document = strict_json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"the freeze {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"the freeze {path} is not complete JSON; a file written by `thermo freeze` is wanted") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no freeze; a file written by `thermo freeze` is wanted")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(
            f"the freeze {path} has schema version {document.get('schema_version')!r}; this program reads version {SCHEMA_VERSION}: "
            "freeze the design again"
        )
    if document.keys() != {"schema", "schema_version", "chain"}:
        raise MismatchError(f"the freeze {path} was changed after it was written: it must hold schema, schema_version and chain alone")
    return verified(document["chain"], str(path))


def verified(chain: Any, name: str) -> Freeze:
    """The freeze of a chain from a file; MismatchError says which link is not what was written."""
    if not isinstance(chain, list) or not chain or not all(isinstance(link, dict) and link.keys() == {*LINK} for link in chain):
        raise MismatchError(f"the freeze {name} was changed after it was written: its chain is no list of links with {', '.join(LINK)}")
    parent = None
    for number, link in enumerate(chain, 1):
        if problem := _problem(link, parent):
            raise MismatchError(f"the freeze {name} was changed after it was written: {problem} (link {number} of {len(chain)})")
        parent = link
    return Freeze(name, tuple(chain))


def _problem(link: Record, parent: Record | None) -> str | None:
    """What is wrong with a link, or None."""
    if _digest(link) != link["sha256"]:
        return "its sha256 is not the hash of what it holds"
    if link["parent_sha256"] != (parent["sha256"] if parent else None):
        return "its parent_sha256 is not the digest of the link before it"
    if link["must_match"] != [*MUST_MATCH] or not all(isinstance(link[key], dict) for key in MUST_MATCH):
        return f"its must_match is not {', '.join(MUST_MATCH)}"
    if link["design_sha256"] != store.digest(link["design"]):
        return "its design_sha256 is not the hash of its design"
    if parent is None:
        return None if link["reason"] is None and link["seen"] is None else "a first freeze has no reason and nothing seen"
    return None if isinstance(link["reason"], str) and link["seen"] in SEEN else "an amendment needs a reason and what had been seen"


def _state(design: Design) -> Record:
    """What runs now, in the parts that have to match."""
    return {"design": design.as_dict(), "sources": environment.sources(), "versions": environment.versions()}


def _link(design: Design, parent: str | None, reason: str | None, seen: str | None) -> Record:
    link: Record = {"parent_sha256": parent, "reason": reason, "seen": seen, "must_match": [*MUST_MATCH]}
    link |= {"design_sha256": design.digest()} | _state(design)
    return {"sha256": _digest(link)} | link


def _digest(link: Mapping[str, Any]) -> str:
    return store.digest({key: value for key, value in link.items() if key != "sha256"})


def _write(made: Freeze, path: Path) -> Freeze:
    document = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "chain": list(made.chain)}
    content = (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()
    try:
        try:
            file = path.open("xb")  # exclusively: nothing that is there is ever replaced, not even in a race
        except FileExistsError:
            if path.read_bytes() == content:
                return made
            raise ValueError(f"{path} exists and holds something else; a freeze is never overwritten, name another file") from None
        try:
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ValueError(f"the freeze {path} cannot be written: {error.strerror}") from None
    return made


def _names(keys: Sequence[str]) -> str:
    more = len(keys) - MOST_NAMES
    return ", ".join(keys[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
