"""The commands that fix a design before its run: freeze."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thermokernels_app.commands.console import Grid, Seed, errors, seconds


def freeze(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; one that holds another design is not overwritten.")],
    grid: Grid = "default",
    seed: Seed = None,
    cap: Annotated[str | None, typer.Option("--cap", help="Cap on the wall clock, such as 3h (registered: 3h).")] = None,
) -> None:
    """Write a design and its SHA-256 before a run; `thermo run --freeze FILE` then refuses any other design."""
    with errors(False):
        from thermokernels_app.experiment import design as designs

        digest = designs.freeze(designs.load_design(grid, seed=seed, cap=None if cap is None else seconds(cap)), file)
    print(f"{digest}  {file}")
