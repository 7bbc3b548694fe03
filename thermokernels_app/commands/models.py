"""The model that a command is about: how it is named, how it is read, and what is said where it may be another one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from thermokernels import Model

MODEL_HELP = "W (visible x hidden) in .npy, .csv, or .npz with optional b, c; or .h5 of rbms (its last update), .pt, .skops."
CONVENTION_HELP = "Units of the parameters in the file, pm1 or zero-one, where it does not say: a state dict of rbms, or plain W, b, c."

ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
SAMPLES_HELP = "Samples of the visible spins, one a row, +1 and -1, in .npy or .csv: Q needs them."
Samples = Annotated[Path | None, typer.Option("--data", help=SAMPLES_HELP)]
Window = Annotated[float, typer.Option("--window", help="Length in sweeps of the run of samples behind one gradient.")]
Convention = Annotated[str | None, typer.Option("--convention", help=CONVENTION_HELP)]


def read_model(path: Path, convention: str | None, *, has_data: bool = False, hints: bool = True) -> Model:
    """The model in a file; what else it may be is said on stderr, but for a command that says it itself."""
    from thermokernels import load_model

    model = load_model(path, convention)
    if hints:
        _hint(model, has_data)
    return model


def read_history(path: Path, convention: str | None) -> dict[str, Model]:
    """The models of a training; what else the first of them may be is said on stderr."""
    from thermokernels import load_history

    models = load_history(path, convention)
    _hint(next(iter(models.values())), has_data=True)
    return models


def _hint(model: Model, has_data: bool) -> None:
    from thermokernels.model.misreadings import misreadings

    for sentence in misreadings(model, has_data):
        print(f"note: {sentence}", file=sys.stderr)
