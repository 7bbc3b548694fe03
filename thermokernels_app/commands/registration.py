"""The commands that fix a design before its run: freeze and amend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thermokernels_app.commands.console import AsJson, Grid, Seed, errors, seconds

if TYPE_CHECKING:
    from thermokernels_app.experiment.freeze import Freeze

Cap = Annotated[str | None, typer.Option("--cap", help="Cap on the wall clock, such as 3h (registered: 3h).")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; one that holds something else is never overwritten.")]


def freeze(file: File, grid: Grid = "default", seed: Seed = None, cap: Cap = None, as_json: AsJson = False) -> None:
    """Write a design, the hashes of the program's sources and the versions of its packages before a run.

    `thermo run --freeze FILE` then refuses (exit 3) whatever differs, and names it.
    """
    with errors(as_json):
        from thermokernels_app.experiment import freeze as freezes
        from thermokernels_app.experiment.design import load_design

        _print(freezes.freeze(load_design(grid, seed=seed, cap=None if cap is None else seconds(cap)), file), as_json)


def amend(
    parent: Annotated[Path, typer.Argument(metavar="PARENT", help="The freeze or amendment that is amended; it stays as it is.")],
    file: File,
    reason: Annotated[str, typer.Option("--reason", help="Why, in a sentence; it is kept with the amendment.")],
    seen: Annotated[
        str,
        typer.Option(
            "--seen",
            metavar="WHAT",
            help="What had been seen of runs: `nothing`, `no-results` (begun only), `results` or `verdicts`.",
        ),
    ],
    grid: Grid = "default",
    seed: Seed = None,
    cap: Cap = None,
    as_json: AsJson = False,
) -> None:
    """Change what was frozen, in a new file that carries its parent's digest, the reason, and what had been seen.

    The new file fixes the given design and today's program. A run against it carries the whole chain and is marked as amended.
    """
    with errors(as_json):
        from thermokernels_app.experiment import freeze as freezes
        from thermokernels_app.experiment.design import load_design

        design = load_design(grid, seed=seed, cap=None if cap is None else seconds(cap))
        _print(freezes.amend(freezes.read(parent), design, file, reason=reason, seen=seen), as_json)


def _print(made: Freeze, as_json: bool) -> None:
    if as_json:
        links = [{key: link[key] for key in ("sha256", "design_sha256", "reason", "seen")} for link in made.chain]
        print(json.dumps({"file": made.name, "sha256": made.sha256, "amended": made.amended, "chain": links}))
        return
    print(f"{made.sha256}  {made.name}")
    print(f"design {made.chain[-1]['design_sha256']}")
    for line in made.sentences()[1:]:
        print(line)
